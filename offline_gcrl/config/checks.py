"""Checks across sections: an agent against its dataset, relabelling and training, and a planner against its agents."""

from collections.abc import Callable, Collection
from fnmatch import fnmatchcase
from pathlib import Path

from offline_gcrl.config.agents import (
    PER_TASK,
    VALUES_IN_STEPS,
    AgentSettings,
    algorithms_with,
    shown_agent,
)
from offline_gcrl.config.goals import has_original_goals
from offline_gcrl.config.multitask import check_tasks_of
from offline_gcrl.config.overrides import check_per_dataset, for_dataset
from offline_gcrl.config.params import Params
from offline_gcrl.config.reading import Settings, dotted
from offline_gcrl.config.recipes import Dataset
from offline_gcrl.config.relabelling import Relabel
from offline_gcrl.config.resolving import RECIPES, recipe_names, resolve
from offline_gcrl.config.training import Train
from offline_gcrl.config.unseen import check_held_out
from offline_gcrl.config.vision import Vision
from offline_gcrl.support.errors import SettingsError


def agent_settings(
    params: Params, agent: str, dataset: str, settings_type: type[Settings]
) -> Settings:
    """The section ``agents.<agent>`` for one dataset, as the settings of its algorithm.

    Raises:
        SettingsError: naming file, key, expectation and remedy.
    """
    key, path = ("agents", agent), params.path
    recipes = path.parent / RECIPES
    check_per_dataset(params.agents[agent], key, recipe_names(recipes), path)
    # First without overrides, so that an invalid general value is reported at its own key.
    for_dataset(settings_type, params.agents[agent], key, "", path)
    settings = for_dataset(settings_type, params.agents[agent], key, dataset, path)
    if isinstance(settings, AgentSettings):
        resolved, relabel = resolve(dataset, folder=recipes), params.relabel_for(dataset)
        check_fit(settings, params.train_for(dataset, agent), relabel, resolved, path, key)
    return settings


def check_fit(
    settings: AgentSettings,
    train: Train,
    relabel: Relabel,
    dataset: Dataset,
    path: Path,
    key: tuple[str, ...] = (),
) -> None:
    """Check that the settings of an agent fit the dataset, relabelling and training.

    Args:
        settings: of the agent.
        train: settings of training.
        relabel: settings of relabelling.
        dataset: the dataset.
        path: file of the settings, for errors.
        key: key of the agent in the file; empty if the settings are no part of a file.

    Raises:
        SettingsError: naming file, key, expectation and remedy.
    """
    _check_mixtures(settings, relabel, dataset, key, path)
    _check_rewards(settings, relabel, dataset, key, path)
    _check_several_tasks(settings, train, dataset, key, path)
    _check_devices(settings, train, key, path)
    _check_language(settings, relabel, dataset, key, path)
    _check_images(settings, relabel, dataset, key, path)
    if train.data == "resident" and dataset.images and (settings.images or Vision()).sees:
        raise SettingsError(
            f"{path}: train.data: 'resident' does not apply to images, because a goal in another episode would be a copy of an "
            "image; set 'mapped', which reads the few images of a batch"
        )
    if settings.task_network in PER_TASK and len(dataset.recipes) == 1:
        raise SettingsError(
            f"{path}: {dotted((*key, 'task_network'))}: '{settings.task_network}' needs several tasks, and "
            f"'{dataset.name}' has one; set 'concatenate'{_for_dataset(key, dataset.name)}, or name a suite"
        )


def _check_devices(settings: AgentSettings, train: Train, key: tuple[str, ...], path: Path) -> None:
    """Gradients of parts of a batch must add up to that of the batch."""
    if train.devices > 1 and settings.has_batch_statistics:
        where = shown_agent(settings, key)
        raise SettingsError(
            f"{path}: train.devices: the loss of {where} has quantities of the complete batch (pairs of transitions, a "
            "mean of |Q|, a percentile or a log mean), which several devices do not have; set train.devices: 1, or "
            "other settings of the agent (gciql and qrl with actor_loss: awr, gofar with divergence: chi2, ddpg with "
            "bc_alpha: null, wgcsl with best_advantage_weight: false)"
        )


def _check_language(
    settings: AgentSettings,
    relabel: Relabel,
    dataset: Dataset,
    key: tuple[str, ...],
    path: Path,
) -> None:
    """Instructions need sentences in the recipe, and labels that are true or false."""
    if not settings.takes_instructions:
        return
    where, names = dotted((*key, "conditioning")), [recipe.task for recipe in dataset.recipes]
    language = dataset.recipes[0].language
    if len(names) == 1 and not (language and language.attributes):
        raise SettingsError(
            f"{path}: {where}: '{settings.conditioning}' needs sentences, and the recipe '{dataset.name}' has no "
            "'language' with attributes; add it, or use 'goal'"
        )
    if len(names) == 1 and relabel.reward != "sparse":
        raise SettingsError(
            f"{path}: relabel.reward: a sentence is true or false, so '{settings.conditioning}' in {where} needs "
            f"'sparse', not '{relabel.reward}'"
        )


def _check_images(
    settings: AgentSettings,
    relabel: Relabel,
    dataset: Dataset,
    key: tuple[str, ...],
    path: Path,
) -> None:
    """Agents that see and rewards of images need images, and goals of which there are images."""
    where = dotted((*key, "images"))
    if dataset.images is None:
        if relabel.reward == "embedding":
            raise SettingsError(
                f"{path}: relabel.reward: 'embedding' compares images, and the recipe '{dataset.name}' has no 'images'; use "
                "'sparse' or 'dense'"
            )
        if settings.images is not None:
            raise SettingsError(
                f"{path}: {where}: the recipe '{dataset.name}' has no 'images'; add the section to the recipe, or leave "
                "this one out"
            )
        return
    mixtures = settings.goal_mixtures.items()
    pursued = [name for name, mixture in mixtures if "original" in mixture]
    if pursued and (settings.images or Vision()).sees_goals:
        raise SettingsError(
            f"{path}: {dotted((*key, pursued[0]))}: there are no images of 'original' goals, which the behaviour pursued; "
            f"set hindsight goals{_for_dataset(key, dataset.name, pursued[0])}, or {where}: {{goal: vector}}"
        )


def _for_dataset(key: tuple[str, ...], dataset: str, *names: str) -> str:
    """Where a setting of an agent for one dataset belongs; empty if the settings are no part of a file."""
    return f" in {dotted((*key, 'per_dataset', dataset, *names))}" if key else ""


def check_agent(
    params: Params, agent: str, settings_type: type[Settings], unusable: Collection[str] = ()
) -> None:
    """Check a section of ``agents`` without overrides, and for each dataset that it names or runs on.

    Args:
        params: the content of ``params.yaml``.
        agent: name of the section.
        settings_type: settings of its algorithm.
        unusable: recipes that cannot be read, for which only a run that uses them fails.

    Raises:
        SettingsError: naming file, key, expectation and remedy.
    """
    section, known = params.agents[agent], recipe_names(params.path.parent / RECIPES)
    check_per_dataset(section, ("agents", agent), known, params.path)
    for_dataset(settings_type, section, ("agents", agent), "", params.path)
    runs = params.experiment.datasets if agent in params.experiment.agents else ()
    patterns = section.get("per_dataset") or {}
    readable = [name for name in known if name not in unusable]
    named = [name for name in readable if any(fnmatchcase(name, pattern) for pattern in patterns)]
    for dataset in dict.fromkeys([*runs, *named]):
        settings = agent_settings(params, agent, dataset, settings_type)
        if dataset in runs and isinstance(settings, AgentSettings):
            resolved = resolve(dataset, folder=params.path.parent / RECIPES)
            check_held_out(settings, resolved, params.path, ("agents", agent))


def check_planner(params: Params, settings_type: Callable[[str], type[AgentSettings]]) -> None:
    """A planner needs an agent whose value is a number of steps, which it is with sparse rewards only.

    Args:
        params: all settings.
        settings_type: gives the settings type of an algorithm.

    Raises:
        SettingsError: naming file, key, expectation and remedy.
    """
    for dataset in params.experiment.datasets:
        if params.evaluate_for(dataset).planner is None:
            continue
        reward = params.relabel_for(dataset).reward
        if reward != "sparse":
            raise SettingsError(
                f"{params.path}: evaluate.planner: plans by numbers of steps, and with relabel.reward '{reward}' values "
                f"are sums of distances; set relabel.reward: sparse for '{dataset}', or leave the planner out"
            )
        agents = params.experiment.agents
        kinds = {agent: settings_type(params.agents[agent]["algorithm"]) for agent in agents}
        settings = [agent_settings(params, agent, dataset, kind) for agent, kind in kinds.items()]
        if not any(own.value_meaning in VALUES_IN_STEPS for own in settings):
            raise SettingsError(
                f"{params.path}: evaluate.planner: needs an agent whose value is a number of steps, and "
                f"{', '.join(kinds)} have none; add gciql to experiment.agents, or leave the planner out"
            )


def _check_mixtures(
    settings: AgentSettings,
    relabel: Relabel,
    dataset: Dataset,
    key: tuple[str, ...],
    path: Path,
) -> None:
    """Every strategy in an agent's mixtures must be in the hindsight table, and in the data."""
    goal = dataset.recipes[0].goal
    for name, mixture in settings.goal_mixtures.items():
        for strategy in mixture:
            if strategy == "original" and not has_original_goals(goal):
                raise SettingsError(
                    f"{path}: {dotted((*key, name))}: 'original' needs original goals in the data and a success test "
                    f"other than 'same_step', which '{dataset.name}' does not have; set hindsight goals"
                    f"{_for_dataset(key, dataset.name, name)}, or leave the agent out"
                )
            if strategy not in {*relabel.strategies, "current", "original"}:
                raise SettingsError(
                    f"{path}: {dotted((*key, name))}: '{strategy}' is not in relabel.strategies; add it there"
                )


def _check_rewards(
    settings: AgentSettings,
    relabel: Relabel,
    dataset: Dataset,
    key: tuple[str, ...],
    path: Path,
) -> None:
    """Rewards that are distances need goals with a distance, and an agent that can learn from them."""
    goal, sampling = dataset.recipes[0].goal, settings.batch_sampling
    if relabel.reward == "sparse":
        return
    if relabel.reward == "dense" and not goal.success.has_distance:
        raise SettingsError(
            f"{path}: relabel.reward: 'dense' needs a success test by one distance, not '{goal.success.kind}'"
        )
    reads_rewards = any("rewards" in field for field in sampling.fields)
    if sampling.reward == "binary" and reads_rewards:
        raise SettingsError(
            f"{path}: relabel.reward: the rewards of {shown_agent(settings, key)} are 0 and 1, which needs "
            f"'sparse', not '{relabel.reward}'"
        )
    if sampling.representation_goals:
        raise SettingsError(
            f"{path}: relabel.reward: {dotted((*key, 'goal_encoder'))}: 'dual' learns numbers of steps, which needs "
            f"'sparse', not '{relabel.reward}'"
        )
    for name, n_step in (
        ("n_step", sampling.n_step),
        ("dual.n_step", sampling.representation_n_step),
    ):
        if n_step > 1:
            raise SettingsError(
                f"{path}: {dotted((*key, name))}: must be 1 with relabel.reward '{relabel.reward}', not {n_step}"
            )


def _check_several_tasks(
    settings: AgentSettings,
    train: Train,
    dataset: Dataset,
    key: tuple[str, ...],
    path: Path,
) -> None:
    """Settings of multi-task training must fit the tasks of the dataset, and the agent."""
    where = shown_agent(settings, key)
    names = [recipe.task for recipe in dataset.recipes]
    snapshots = len(train.snapshot_updates)
    check_tasks_of(train.tasks, train.sequence, names, snapshots, dataset.name, path)
    if train.tasks and train.tasks.sampling == "uncertainty" and not settings.has_ensemble:
        raise SettingsError(
            f"{path}: train.tasks.sampling: 'uncertainty' is measured by the disagreement of two values or critics, "
            f"and {where} does not have two; use 'performance' or 'gradient', or one of the algorithms "
            f"{', '.join(algorithms_with('has_ensemble'))} (ddpg with critics: 2)"
        )
    if train.tasks and train.tasks.gradients == "gradnorm" and not settings.has_positive_loss:
        raise SettingsError(
            f"{path}: train.tasks.gradients: 'gradnorm' divides losses by initial losses, and the loss of {where} "
            "can be negative; use another value of 'gradients', or one of the algorithms "
            f"{', '.join(algorithms_with('has_positive_loss'))} (crl and gciql with actor_loss 'awr')"
        )
    if train.sequence and train.sequence.method == "heads" and settings.task_network != "heads":
        raise SettingsError(
            f"{path}: train.sequence.method: 'heads' freezes output layers per task, and {where} has none; "
            f"set {dotted((*key, 'task_network'))}: heads"
        )
