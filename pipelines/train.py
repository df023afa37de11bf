"""Hindsight to policy: all seeds of one dataset and agent, side by side."""

from pathlib import Path

from offline_gcrl.agents import settings_type
from offline_gcrl.config import agent_settings, load_dataset, load_params
from offline_gcrl.files import atomic_directory, digest
from offline_gcrl.parallel import preload
from offline_gcrl.policy import POLICY
from offline_gcrl.terminal import Bars, close, stage, stage_arguments
from offline_gcrl.tracking import Tracker, marked_failed
from offline_gcrl.training_jobs import CURVE, TRAINING, Event, train_seeds, training_jobs


def main() -> None:
    """Fill ``models/<dataset>/<agent>``."""
    dataset, agent = stage_arguments(__doc__, "dataset", "agent")
    with stage("train", f"{agent} on {dataset}"):
        preload(TRAINING, "offline_gcrl.tracking")
        params, tasks = load_params(), load_dataset(dataset).recipes
        train = params.train_for(dataset)
        algorithm = params.agents[agent]["algorithm"]
        settings = agent_settings(params, agent, dataset, settings_type(algorithm))
        output = Path("models") / dataset / agent
        tracker = Tracker(params.experiment.name)
        with atomic_directory(output) as folder:
            jobs = training_jobs(dataset, agent, params.experiment.seeds, train, settings, folder)
            runs = {}
            for job in jobs:
                run = tracker.training_run(dataset, agent, job.seed, job.checkpoints.name)
                run.log_params({"train": train.model_dump(), "agent": settings.model_dump()})
                run.log_params({"relabel": params.relabel_for(dataset).model_dump()})
                run.log_dataset(dataset, job.episodes)
                run.set_tags(
                    {
                        "task": ", ".join(recipe.task for recipe in tasks),
                        "instruction": " ".join(recipe.instruction for recipe in tasks),
                    }
                )
                runs[job.seed] = run
            with (
                marked_failed(runs.values()),
                Bars([f"seed {seed}" for seed in runs], train.updates, "updates") as bars,
            ):

                def on_event(event: Event) -> None:
                    bars.update(f"seed {event.seed}", event.updates)
                    runs[event.seed].log_points(event.points)

                train_seeds(jobs, on_event)
            for job in jobs:
                policy = job.output / POLICY
                run = tracker.trained(runs[job.seed], job.checkpoints.name, digest([policy]))
                run.log_artifact(policy)
                run.log_artifact(job.output / CURVE)
                run.finish()
        close(f"{len(jobs)} seed(s), {train.updates:,} updates each, in {output}")


if __name__ == "__main__":
    main()
