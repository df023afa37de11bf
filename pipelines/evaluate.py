"""Evaluate the policies of all training seeds in MuJoCo: metrics, learning curves, probes, figures and videos."""

from functools import partial
from pathlib import Path

import this_project  # noqa: F401 - first: it decides which copy of the package is imported

from offline_gcrl.config import load_dataset, load_params
from offline_gcrl.support.cluster import use_cluster
from offline_gcrl.support.digests import sealed_directory
from offline_gcrl.support.files import write_json
from offline_gcrl.support.processes import preload
from offline_gcrl.support.terminal import Bars, close, note, stage, stage_arguments


def main() -> None:
    """Fill ``results/<dataset>/<agent>``."""
    name, agent = stage_arguments(__doc__, "dataset", "agent")
    from offline_gcrl.config.outputs import SKIPPED
    from offline_gcrl.evaluation.figures import draw_policies, draw_results
    from offline_gcrl.evaluation.plan import evaluate, plan_evaluation
    from offline_gcrl.evaluation.probes import plan_probes, run_probes
    from offline_gcrl.evaluation.results import HEADLINES, combine_seeds
    from offline_gcrl.evaluation.videos import plan_videos, write_videos
    from offline_gcrl.tracking.evaluation import log_results
    from offline_gcrl.tracking.store import Subject, open_tracker

    output, models = Path("results") / name / agent, Path("models") / name / agent
    with stage("evaluate", f"{agent} on {name}"):
        dataset = load_dataset(name)
        if not dataset.has_evaluation:
            reason = "its recipe names no evaluation environment"
            with sealed_directory(output) as folder:
                write_json(folder / SKIPPED, {"reason": reason})
            close(f"not evaluated: {reason}; the policies are in {models}")
            return
        params, headline = load_params(), HEADLINES[dataset.criterion]
        use_cluster(params.cluster.address, params.cluster.retries)
        preload("offline_gcrl.evaluation.videos")
        settings, tracker = params.evaluate_for(name), open_tracker(params.experiment)
        policies = {seed: models / f"seed-{seed}" for seed in params.experiment.seeds}
        plan = plan_evaluation(policies, dataset, settings)
        with sealed_directory(output) as folder:
            with Bars(["evaluating"], sum(map(len, plan.values())), "episodes") as bars:
                results = evaluate(plan, settings.workers, partial(bars.advance, "evaluating", 1))
            for seed, result in results.items():
                result.write(folder / f"seed-{seed}")
            summary = combine_seeds(list(results.values()))
            draw_results(results, summary, dataset, agent, folder)
            draw_policies(policies, plan, agent, folder)
            data = Path("datasets/parquet") / name
            more = plan_probes(models, dataset, settings, plan, results, data)
            with Bars(["probes"], sum(map(len, more.values())), "episodes") as bars:
                probes = run_probes(more, settings.workers, partial(bars.advance, "probes", 1))
            probes.write(folder)
            if settings.planner and not probes.planned:
                note("no planner: this agent sees images, or its value is no number of steps")
            videos = plan_videos(plan, more, settings.video, folder)
            with Bars(["videos"], len(videos), "videos") as bars:
                reason = write_videos(videos, partial(bars.advance, "videos", 1))
            if reason:
                note(f"no videos: {reason}")
            subject = Subject(name, agent, params.agents[agent]["algorithm"])
            of = (tracker, subject, policies, results, summary, headline, folder)
            log_results(*of, settings.identity, probes)
        close(f"{summary.sentence(headline)}, in {output}")


if __name__ == "__main__":
    main()
