"""Policy to results: every seed judged in MuJoCo, with its learning curve and a video."""

from pathlib import Path

from offline_gcrl.config import load_dataset, load_params
from offline_gcrl.evaluation import HEADLINES, SKIPPED, judge, plan_judgement, summarise
from offline_gcrl.figures import curves_figure, dataset_scene, goals_figure, has_places, save
from offline_gcrl.files import atomic_directory, digest, write_json
from offline_gcrl.parallel import preload
from offline_gcrl.policy import POLICY
from offline_gcrl.terminal import Bars, close, note, stage, stage_arguments
from offline_gcrl.tracking import Tracker
from offline_gcrl.videos import write_all_rollouts


def main() -> None:
    """Fill ``results/<dataset>/<agent>``."""
    name, agent = stage_arguments(__doc__, "dataset", "agent")
    output = Path("results") / name / agent
    with stage("evaluate", f"{agent} on {name}"):
        dataset = load_dataset(name)
        if not dataset.is_judged:
            reason = "its recipe names no environment to judge policies in"
            with atomic_directory(output) as folder:
                write_json(folder / SKIPPED, {"reason": reason})
            close(f"not judged: {reason}; the trained policies are in models/{name}/{agent}")
            return
        preload("offline_gcrl.videos", "offline_gcrl.figures", "offline_gcrl.tracking")
        params = load_params()
        settings = params.evaluate_for(name)
        models = Path("models") / name / agent
        policies = {seed: models / f"seed-{seed}" for seed in params.experiment.seeds}
        plan = plan_judgement(policies, dataset, settings)
        with atomic_directory(output) as folder:
            with Bars(["judging"], sum(map(len, plan.values())), "episodes") as bars:
                results = judge(plan, settings.workers, lambda: bars.advance("judging", 1))
            for seed, result in results.items():
                home = folder / f"seed-{seed}"
                result.write(home)
                if has_places(result.episodes):
                    goals = goals_figure({agent: result.episodes}, dataset_scene(dataset))
                    save(goals, home / "goals.svg")
                save(curves_figure({name: {agent: result.curve}}), home / "learning_curve.svg")
            with Bars(["filming"], len(policies), "videos") as bars:
                reason = write_all_rollouts(
                    policies, dataset, settings, folder, lambda: bars.advance("filming", 1)
                )
            if reason:
                note(f"no videos: {reason}")
            tracker = Tracker(params.experiment.name)
            for seed, result in results.items():
                policy = digest([policies[seed] / POLICY])
                run = tracker.evaluation_run(
                    name, agent, seed, policy, settings.model_dump(exclude={"workers"})
                )
                run.log_curve("evaluation/success_rate", result.curve)
                run.log_metrics(result.flat_metrics(), result.episodes["update"][0])
                for path in sorted((folder / f"seed-{seed}").iterdir()):
                    run.log_artifact(path, "evaluation")
                run.finish()
        metrics = summarise([result.episodes for result in results.values()])
        rate = metrics[HEADLINES[dataset.criterion]]
        close(
            f"success {rate['mean']:.2f} [{rate['low']:.2f}, {rate['high']:.2f}], "
            f"{rate['seeds']} seed(s), {rate['episodes']} episodes, in {output}"
        )


if __name__ == "__main__":
    main()
