"""Agents that cannot be trained where a recipe holds out goals."""

from pathlib import Path

from offline_gcrl.config.agents import AgentSettings, shown_agent
from offline_gcrl.config.recipes import Dataset
from offline_gcrl.support.errors import SettingsError

ON_THE_WAY = frozenset({"low_goals", "midpoint_goals", "subgoals"})
"""Fields of a batch with goals that are achieved between a state and its goal."""


def check_held_out(
    settings: AgentSettings, dataset: Dataset, path: Path, key: tuple[str, ...] = ()
) -> None:
    """Check that no goal of an agent can be held out: those on the way to a drawn goal can be, even if that is not.

    Args:
        settings: of the agent.
        dataset: the dataset.
        path: file of the settings, for errors.
        key: key of the agent in the file; empty if the settings are no part of a file.

    Raises:
        SettingsError: naming file, key, fields and remedy.
    """
    used = ON_THE_WAY.intersection(settings.batch_sampling.fields)
    if used and any(recipe.held_out for recipe in dataset.recipes):
        where = shown_agent(settings, key)
        raise SettingsError(
            f"{path}: {where}: trains on {' and '.join(sorted(used))} of the data, some of which are in the region that held_out "
            f"of the recipe '{dataset.name}' holds out; use an agent without subgoals, or a recipe without held_out"
        )
