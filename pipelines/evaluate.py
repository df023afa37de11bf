"""Policy to results: every seed judged in MuJoCo, with its learning curve, a video, and what else is asked."""

from pathlib import Path

from offline_gcrl.config import load_dataset, load_params
from offline_gcrl.files import atomic_directory, write_json
from offline_gcrl.parallel import preload
from offline_gcrl.terminal import Bars, close, note, stage, stage_arguments


def main() -> None:
    """Fill ``results/<dataset>/<agent>``."""
    name, agent = stage_arguments(__doc__, "dataset", "agent")
    from offline_gcrl.evaluation import HEADLINES, SKIPPED, judge, over_seeds, plan_judgement
    from offline_gcrl.figures import draw_gradients, draw_results
    from offline_gcrl.probes import plan_probes, run_probes
    from offline_gcrl.tracking.judging import log_results
    from offline_gcrl.tracking.store import Subject, Tracker
    from offline_gcrl.videos import write_all_rollouts

    output = Path("results") / name / agent
    with stage("evaluate", f"{agent} on {name}"):
        dataset = load_dataset(name)
        if not dataset.is_judged:
            reason = "its recipe names no environment to judge policies in"
            with atomic_directory(output) as folder:
                write_json(folder / SKIPPED, {"reason": reason})
            close(f"not judged: {reason}; the trained policies are in models/{name}/{agent}")
            return
        preload("offline_gcrl.videos", "offline_gcrl.figures", "offline_gcrl.tracking.judging")
        params = load_params()
        settings = params.evaluate_for(name)
        models = Path("models") / name / agent
        policies = {seed: models / f"seed-{seed}" for seed in params.experiment.seeds}
        plan = plan_judgement(policies, dataset, settings)
        with atomic_directory(output) as folder:
            with Bars(["judging"], sum(map(len, plan.values())), "episodes") as bars:
                results = judge(plan, settings.workers, lambda: bars.advance("judging", 1))
            for seed, result in results.items():
                result.write(folder / f"seed-{seed}")
            over = over_seeds(list(results.values()))
            draw_results(results, over, dataset, agent, folder)
            draw_gradients(policies.values(), folder)
            more = plan_probes(models, dataset, settings, plan, results)
            with Bars(["probing"], sum(map(len, more.values())), "episodes") as bars:
                probes = run_probes(more, settings.workers, lambda: bars.advance("probing", 1))
            probes.write(folder)
            with Bars(["filming"], len(policies), "videos") as bars:
                reason = write_all_rollouts(
                    policies, dataset, settings, folder, lambda: bars.advance("filming", 1)
                )
            if reason:
                note(f"no videos: {reason}")
            log_results(
                Tracker(params.experiment.name),
                Subject(name, agent, params.agents[agent]["algorithm"]),
                policies,
                results,
                over,
                HEADLINES[dataset.criterion],
                folder,
                settings.model_dump(exclude={"workers", "video"}),
                probes,
            )
        close(f"{over.said(HEADLINES[dataset.criterion])}, in {output}")


if __name__ == "__main__":
    main()
