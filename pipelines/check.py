"""Check all settings before any work: ``params.yaml``, the recipes it names, and every agent's section."""

from pathlib import Path

from offline_gcrl.agents import settings_type
from offline_gcrl.collect.collector import check_sources
from offline_gcrl.config import RECIPES, agent_settings, load_params, load_recipe, recipe_names
from offline_gcrl.environments import check_environments
from offline_gcrl.files import write_text
from offline_gcrl.terminal import close, stage

MARK = Path(
    "datasets/.checked"
)  # Always the same text: a stage after it never reruns for its sake.


def main() -> None:
    """Read everything that the stages will read."""
    with stage("check", "params.yaml and recipes"):
        params = load_params()
        for name in recipe_names():
            recipe = load_recipe(name)
            if name in params.experiment.datasets:
                check_environments(recipe, f"{RECIPES / name}.yaml")
                check_sources(recipe, f"{RECIPES / name}.yaml")
        for agent, section in params.agents.items():
            for dataset in recipe_names():
                agent_settings(params, agent, dataset, settings_type(section["algorithm"]))
        write_text(MARK, "params.yaml and the recipes are valid\n")
        runs = params.experiment
        close(
            f"{len(runs.datasets)} dataset(s) x {len(runs.agents)} agent(s) x "
            f"{len(runs.seeds)} seed(s) to run"
        )


if __name__ == "__main__":
    main()
