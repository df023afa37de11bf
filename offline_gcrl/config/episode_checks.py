"""Checks of the numbers of evaluation episodes."""

from pathlib import Path

from offline_gcrl.config.evaluating import Evaluate
from offline_gcrl.config.params import Params
from offline_gcrl.config.reading import dotted
from offline_gcrl.config.recipes import Dataset
from offline_gcrl.support.errors import SettingsError


def check_evaluation(params: Params, dataset: Dataset) -> None:
    """Check that every part of the evaluation has at least one episode per task.

    Raises:
        SettingsError: naming file, key, expectation and remedy.
    """
    check_episode_counts(params.evaluate_for(dataset.name), dataset, params.path, key=("evaluate",))


def check_episode_counts(
    settings: Evaluate, dataset: Dataset, path: Path, key: tuple[str, ...] = ()
) -> None:
    """Check that every part of the evaluation has at least one episode per task.

    Args:
        settings: of the evaluation.
        dataset: the dataset.
        path: file of the settings, for errors.
        key: key of the settings in the file.

    Raises:
        SettingsError: naming file, key, expectation and remedy.
    """
    tasks, needed = _evaluated_tasks(dataset)
    wrong = settings.wrong_identifier_count(len(dataset.recipes))
    for name, episodes, least in (
        ("episodes", settings.episodes, needed),
        ("curve_episodes", settings.curve_episodes, tasks),
        ("wrong_identifier_episodes", wrong or tasks, tasks),
        ("held_out_episodes", settings.held_out_count or tasks, tasks),
    ):
        if episodes < least:
            raise SettingsError(
                f"{path}: {dotted((*key, name))}: {episodes} are too few to evaluate all tasks of "
                f"'{dataset.name}'; set at least {least}"
            )


def remark_on_episodes(settings: Evaluate, dataset: Dataset) -> str:
    """A sentence if some tasks have an episode more than others, which changes what a success rate is; else empty."""
    _, tasks = _evaluated_tasks(dataset)
    if not tasks or settings.episodes % tasks == 0:
        return ""
    fewer = settings.episodes // tasks * tasks
    return (
        f"evaluate.episodes ({settings.episodes}) is no multiple of the {tasks} tasks of {dataset.name}: success rates are means "
        f"over episodes, and ranks are by means over tasks, so they can differ; set {fewer} or {fewer + tasks}"
    )


def _evaluated_tasks(dataset: Dataset) -> tuple[int, int]:
    """Tasks that have an environment, and episodes that it takes to evaluate each of them and each fixed task once."""
    numbered = [recipe.evaluation.fixed_tasks for recipe in dataset.recipes if recipe.evaluation]
    tasks = len(numbered)
    return tasks, tasks * max([len(fixed.values) for fixed in numbered if fixed], default=1)
