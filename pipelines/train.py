"""Train all seeds of an agent on a dataset in parallel, and specialists if ``train.specialists`` asks for them."""

from pathlib import Path

import this_project  # noqa: F401 - first: it decides which copy of the package is imported

from offline_gcrl.config import agent_settings, load_dataset, load_params
from offline_gcrl.support.cluster import use_cluster
from offline_gcrl.support.digests import sealed_directory
from offline_gcrl.support.processes import preload
from offline_gcrl.support.terminal import Bars, close, note, stage, stage_arguments


def main() -> None:
    """Fill ``models/<dataset>/<agent>``."""
    dataset, agent = stage_arguments(__doc__, "dataset", "agent")
    from offline_gcrl.agents import settings_type
    from offline_gcrl.tracking.runs import mark_failed_on_error
    from offline_gcrl.tracking.store import Subject, open_tracker
    from offline_gcrl.tracking.training import TrainingRuns
    from offline_gcrl.training.events import Event
    from offline_gcrl.training.jobs import TRAINING, Work, train_seeds, training_jobs
    from offline_gcrl.training.placement import memory_notes
    from offline_gcrl.training.speed import plan_for
    from offline_gcrl.training.stale import discard_stale

    with stage("train", f"{agent} on {dataset}"):
        params, resolved = load_params(), load_dataset(dataset)
        use_cluster(params.cluster.address, params.cluster.retries)
        preload(TRAINING)
        train = params.train_for(dataset, agent)
        algorithm = params.agents[agent]["algorithm"]
        settings = agent_settings(params, agent, dataset, settings_type(algorithm))
        output = Path("models") / dataset / agent
        with sealed_directory(output) as folder:
            seeds, tasks = params.experiment.seeds, resolved.tasks
            jobs = training_jobs(dataset, agent, seeds, train, settings, folder, tasks)
            choices = (*plan_for(train, settings).notes, *memory_notes(jobs))
            for line in (*choices, *discard_stale(jobs)):
                note(line)
            relabel = params.relabel_for(dataset)
            settings_of = {"train": train, "agent": settings, "relabel": relabel}
            runs = TrainingRuns(
                open_tracker(params.experiment),
                Subject(dataset, agent, algorithm),
                jobs,
                {name: section.model_dump() for name, section in settings_of.items()},
                {
                    "task": ", ".join(recipe.task for recipe in resolved.recipes),
                    "instruction": " ".join(recipe.instruction for recipe in resolved.recipes),
                },
            )
            work = Work(jobs)
            with (
                mark_failed_on_error(runs.all_runs),
                Bars(list(work.totals), work.totals, "updates") as bars,
            ):

                def on_event(event: Event) -> None:
                    bars.update(*work.count(event))
                    runs.log_event(event)

                train_seeds(jobs, on_event)
            runs.finish()
        close(f"{work.summary}, in {output}")


if __name__ == "__main__":
    main()
