"""Checks of sections of ``params.yaml`` against each other: every agent on its datasets, and a planner."""

from collections.abc import Callable, Collection
from fnmatch import fnmatchcase

from offline_gcrl.config.agents import VALUES_IN_STEPS, AgentSettings
from offline_gcrl.config.fit import check_fit
from offline_gcrl.config.overrides import check_per_dataset, for_dataset
from offline_gcrl.config.params import Params
from offline_gcrl.config.reading import Settings
from offline_gcrl.config.resolving import RECIPES, recipe_names, resolve
from offline_gcrl.config.unseen import check_held_out
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
