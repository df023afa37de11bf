"""Policy to results: every seed judged in MuJoCo, with its learning curve and a video."""

from pathlib import Path

from offline_gcrl.config import load_params, load_recipe
from offline_gcrl.environments import make_environment
from offline_gcrl.evaluation import judge, plan_judgement, summarise
from offline_gcrl.figures import curves_figure, goals_figure, maze_walls, save
from offline_gcrl.files import atomic_directory, digest
from offline_gcrl.parallel import preload
from offline_gcrl.policy import POLICY
from offline_gcrl.terminal import Bars, close, note, stage, stage_arguments
from offline_gcrl.tracking import Tracker
from offline_gcrl.videos import write_all_rollouts


def main() -> None:
    """Fill ``results/<dataset>/<agent>``."""
    dataset, agent = stage_arguments(__doc__, "dataset", "agent")
    with stage("evaluate", f"{agent} on {dataset}"):
        preload("offline_gcrl.videos", "offline_gcrl.figures", "offline_gcrl.tracking")
        params, recipe = load_params(), load_recipe(dataset)
        settings = params.evaluate_for(dataset)
        models, output = Path("models") / dataset / agent, Path("results") / dataset / agent
        policies = {seed: models / f"seed-{seed}" for seed in params.experiment.seeds}
        plan = plan_judgement(policies, recipe, settings)
        with atomic_directory(output) as folder:
            with Bars(["judging"], sum(map(len, plan.values())), "episodes") as bars:
                results = judge(plan, settings.workers, lambda: bars.advance("judging", 1))
            walls = maze_walls(make_environment(recipe.evaluation.environment))
            for seed, result in results.items():
                home = folder / f"seed-{seed}"
                result.write(home)
                save(goals_figure({agent: result.episodes}, walls), home / "goals.svg")
                save(curves_figure({dataset: {agent: result.curve}}), home / "learning_curve.svg")
            with Bars(["filming"], len(policies), "videos") as bars:
                reason = write_all_rollouts(
                    policies, recipe, settings, folder, lambda: bars.advance("filming", 1)
                )
            if reason:
                note(f"no videos: {reason}")
            tracker = Tracker(params.experiment.name)
            for seed, result in results.items():
                policy = digest([policies[seed] / POLICY])
                run = tracker.evaluation_run(
                    dataset, agent, seed, policy, settings.model_dump(exclude={"workers"})
                )
                run.log_curve("evaluation/success_rate", result.curve)
                run.log_metrics(result.flat_metrics(), result.episodes["update"][0])
                for path in sorted((folder / f"seed-{seed}").iterdir()):
                    run.log_artifact(path, "evaluation")
                run.finish()
        rate = summarise([result.episodes for result in results.values()])["success_rate"]
        close(
            f"success {rate['mean']:.2f} [{rate['low']:.2f}, {rate['high']:.2f}], "
            f"{rate['seeds']} seed(s), {rate['episodes']} episodes, in {output}"
        )


if __name__ == "__main__":
    main()
