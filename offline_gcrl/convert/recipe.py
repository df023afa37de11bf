"""The recipe of a converted dataset: complete, for the user to edit."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from offline_gcrl.config import Environment, Recipe
from offline_gcrl.config.reading import validated
from offline_gcrl.convert.layouts import InspectedFile
from offline_gcrl.environments.making import (
    check_environments,
    first_options,
    make_environment,
    shown_sizes,
)
from offline_gcrl.environments.selection import as_tree, evaluated_goal
from offline_gcrl.support.errors import SettingsError


@dataclass(frozen=True)
class RecipeOptions:
    """What the user says of the data."""

    kind: str = "demonstration"
    environment: Environment | None = None
    """Where it comes from, where its actions are replayed and policies are judged."""
    goal_columns: tuple[int, ...] = ()
    """Columns of the observation that a goal is about; none means all."""
    tolerance: float | None = None
    """How near a goal counts as reached, in units of the goal."""


def draft_recipe(
    dataset: str, file: InspectedFile, options: RecipeOptions
) -> tuple[str, list[str]]:
    """A recipe as YAML, and remarks for the user.

    Raises:
        SettingsError: ``dataset`` is no Minari id, or the environment shows something else than the file.
    """
    goal, remarks = _goal(file, options)
    where = f"recipe of '{dataset}'"
    evaluation, environment = None, None
    if options.environment is not None:
        environment = options.environment.model_dump(exclude_defaults=True)
        evaluation = _evaluation(file, goal, options.environment)
        if evaluation is None:
            remarks.append(
                f"{options.environment.id} shows no goal of {_goal_size(file, goal)} numbers; the recipe "
                "judges no policies there (--goal-columns says what a goal is about)"
            )
    content = {
        "title": f"{dataset}, made from {file.path.name}",
        "environment": environment,
        "sources": [{"dataset": dataset, "kind": options.kind}],
        "goal": goal,
        "evaluation": evaluation,
        "task": dataset.split("/")[-1],
        "instruction": "Reach the goal.",
    }
    recipe = validated(Recipe, content, Path(where))
    check_environments(recipe, where)
    _check_sizes(recipe, file, where)
    text = yaml.dump(content, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=100)
    return text, remarks


class _Dumper(yaml.SafeDumper):
    """Indents the items of lists, as the recipes here do."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _goal(file: InspectedFile, options: RecipeOptions) -> tuple[dict[str, Any], list[str]]:
    """The goal spec, some columns of the observation if they are named, else the full state; and remarks."""
    held = file.sizes[file.goal] if file.goal else 0
    if not options.goal_columns:
        remark = f"the file holds goals of {held} numbers; --goal-columns says what they are about"
        whole = {"achieved": "observation", "desired": None, "success": {"kind": "same_step"}}
        return whole, [remark] if held else []
    if options.tolerance is None:
        raise SettingsError("--goal-columns needs --tolerance: how near a goal counts as reached")
    columns = list(options.goal_columns)
    if max(columns) >= file.sizes["observations"]:
        raise SettingsError(
            f"--goal-columns: no column {max(columns)}; the observations have "
            f"{file.sizes['observations']} numbers, counted from 0"
        )
    fits = held == len(columns)
    goal: dict[str, Any] = {
        "achieved": {"key": "observation", "columns": columns},
        "desired": "infos.goal" if fits else None,
        "success": {"kind": "distance", "tolerance": options.tolerance},
    }
    remark = f"the file's goals of {held} numbers are not used"
    return goal, [remark] if held and not fits else []


def _goal_size(file: InspectedFile, goal: dict[str, Any]) -> int:
    achieved = goal["achieved"]
    return len(achieved["columns"]) if isinstance(achieved, dict) else file.sizes["observations"]


def _evaluation(
    file: InspectedFile, goal: dict[str, Any], settings: Environment
) -> dict[str, Any] | None:
    """How policies are judged in the environment; None if it shows no goals of this size."""
    environment = make_environment(settings)
    tasks = getattr(
        environment.unwrapped, "num_tasks", None
    )  # OGBench numbers its starts and goals.
    options = {"task_id": 1} if tasks else None
    tree = as_tree(*environment.reset(seed=0, options=options))
    environment.close()
    shown = {"desired_goal": tree.get("desired_goal"), "infos.goal": tree["infos"].get("goal")}
    size = _goal_size(file, goal)
    fitting = [key for key, value in shown.items() if getattr(value, "size", None) == size]
    if not fitting:
        return None
    evaluation: dict[str, Any] = {
        "environment": settings.model_dump(exclude_defaults=True),
        "desired": fitting[0],
    }
    if tasks:
        numbers = list(range(1, tasks + 1))
        evaluation["fixed_tasks"] = {"option": "task_id", "values": numbers}
    if goal["success"]["kind"] == "same_step":
        evaluation["success"] = "environment"
    return evaluation


def _check_sizes(recipe: Recipe, file: InspectedFile, where: str) -> None:
    """That policies trained on the file could act in the environment that judges them."""
    if recipe.evaluation is None:
        return
    settings = recipe.evaluation.environment
    environment = make_environment(settings)
    shown = shown_sizes(environment, evaluated_goal(recipe), f"{where}: ", first_options(recipe))
    if shown["observation"] != file.sizes["observations"]:
        raise SettingsError(
            f"{where}: {settings.id} shows observations of {shown['observation']} numbers and {file.path} "
            f"holds {file.sizes['observations']}; leave --environment out, or name the one of this data"
        )
    environment.close()
