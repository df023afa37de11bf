"""Check all settings before any work, and write the resolved recipe of each dataset."""

import this_project  # First: it decides which copy of the package is imported.

from offline_gcrl.config import RECIPES, RESOLVED, Dataset, Params, load_params, resolve
from offline_gcrl.config.checks import check_agent, check_planner
from offline_gcrl.config.episode_checks import check_evaluation, remark_on_episodes
from offline_gcrl.config.hidden import hidden_settings
from offline_gcrl.config.published import load_published
from offline_gcrl.config.resolving import unusable_recipes
from offline_gcrl.support.digests import sealed_directory
from offline_gcrl.support.files import write_text
from offline_gcrl.support.terminal import close, note, stage, stage_arguments, warn


def main() -> None:
    """Fill ``datasets/resolved`` with one file per dataset of the experiment."""
    stage_arguments(__doc__)
    from offline_gcrl.agents import settings_type

    with stage("check", "params.yaml and recipes"):
        params = load_params()
        unusable = unusable_recipes()
        for name in unusable.keys() - set(params.experiment.datasets):
            warn(f"not used: {unusable[name]}")
        datasets = [checked_dataset(params, name) for name in params.experiment.datasets]
        for agent, section in params.agents.items():
            check_agent(params, agent, settings_type(section["algorithm"]), unusable)
        check_planner(params, settings_type)
        if params.experiment.published:
            load_published(params.experiment.published)
        for line in hidden_settings(params):
            note(line)
        with sealed_directory(RESOLVED) as folder:
            for dataset in datasets:
                write_text(folder / f"{dataset.name}.json", dataset.as_json())
        runs = params.experiment
        counts = (len(runs.datasets), len(runs.agents), len(runs.seeds))
        close("{} dataset(s) x {} agent(s) x {} seed(s) to run".format(*counts))


def checked_dataset(params: Params, name: str) -> Dataset:
    """Resolve a dataset, and check its environments, sources, tasks and evaluation."""
    from offline_gcrl.collect.collector import check_sources
    from offline_gcrl.environments.held_out_goals import check_region
    from offline_gcrl.environments.making import check_environments
    from offline_gcrl.environments.own_code import own_code, unwatched_code
    from offline_gcrl.environments.tasks import check_tasks

    dataset = resolve(name, params.collect_for(name).episodes)
    file = f"{RECIPES / name}.yaml"
    for recipe in dataset.recipes:
        where = file + (f", {recipe.task}" if len(dataset.recipes) > 1 else "")
        check_environments(recipe, where)
        check_sources(recipe, where)
        check_region(recipe, where)
    check_tasks(dataset, file)
    check_evaluation(params, dataset)
    if remark := remark_on_episodes(params.evaluate_for(name), dataset):
        note(remark)
    for path in unwatched_code(dataset, this_project.ROOT):
        warn(
            f"DVC does not see changes of {path}: move it into environments/, or repeat stages with `dvc repro -f`"
        )
    return dataset.model_copy(update={"code": own_code(dataset, this_project.ROOT)})


if __name__ == "__main__":
    main()
