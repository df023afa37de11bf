"""The recipe of a converted dataset, complete and for the user to edit."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from offline_gcrl.config import Environment, Recipe
from offline_gcrl.config.reading import as_yaml, validated
from offline_gcrl.convert.layouts import InspectedFile
from offline_gcrl.convert.visual import FURTHER, shown_goals, state_of, with_images
from offline_gcrl.environments.making import (
    check_environments,
    first_options,
    shared_environment,
    shown_sizes,
)
from offline_gcrl.environments.selection import as_tree, evaluated_goal
from offline_gcrl.support.errors import SettingsError


@dataclass(frozen=True)
class RecipeOptions:
    """Properties of the data that the user specifies."""

    kind: str = "demonstration"
    environment: Environment | None = None
    """Environment of the data, in which actions are replayed and policies are evaluated."""
    goal_columns: tuple[int, ...] = ()
    """Columns of the observation that are the goal; empty for all columns."""
    tolerance: float | None = None
    """Largest distance at which a goal counts as reached, in units of the goal."""
    desired_constant: tuple[float, ...] = ()
    """The goal that the behaviour pursued in all episodes; empty if the file has goals or there were none."""


def draft_recipe(
    dataset: str, file: InspectedFile, options: RecipeOptions
) -> tuple[str, list[str]]:
    """A recipe as YAML, and remarks for the user.

    Raises:
        SettingsError: ``dataset`` is not a Minari id, or the environment does not fit the file.
    """
    goal, remarks = _goal(file, options)
    where = f"recipe of '{dataset}'"
    evaluation, environment, images = None, None, _images(file)
    shown = _shown(file, options)
    if shown is not None and goal["achieved"] == "observation":
        goal |= dict.fromkeys(("observation", "achieved"), shown["observation"])
    if options.environment is not None:
        environment = options.environment.model_dump(exclude_defaults=True)
        evaluation = _evaluation(file, goal, options.environment, shown)
        if evaluation is None:
            remarks.append(
                f"{options.environment.id} has no goal of {_goal_size(file, goal)} dimensions, so the recipe has "
                "no evaluation (--goal-columns sets the columns of goals)"
            )
    if shown is not None and evaluation:
        images |= shown["images"]
    elif images and evaluation:
        evaluation = None
        remarks.append(
            "the recipe has no evaluation, because the camera of the recorded images is unknown; --image none leaves images out"
        )
    content = {
        "title": f"{dataset}, made from {file.path.name}",
        "environment": environment,
        "sources": [{"dataset": dataset, "kind": options.kind}],
        **({"images": images} if images else {}),
        "goal": goal,
        "evaluation": evaluation,
        "task": dataset.split("/")[-1].lstrip("_-"),
        "instruction": "Reach the goal.",
    }
    recipe = validated(Recipe, content, Path(where))
    check_environments(recipe, where)
    _check_sizes(recipe, file, where)
    return as_yaml(content), remarks


def _images(file: InspectedFile) -> dict[str, Any]:
    """The section of the recorded images, if there are any."""
    if file.layout.image is None or file.image_size is None:
        return {}
    height, width = file.image_size
    name = file.infos[file.layout.image].replace("/", ".")
    return {"height": height, "width": width, "recorded": f"infos.{name}"}


def _shown(file: InspectedFile, options: RecipeOptions) -> dict[str, Any] | None:
    """How states and goals of a visual file are selected and rendered in evaluation; None if they cannot be."""
    if not file.layout.is_visual or options.environment is None or options.goal_columns:
        return None
    visual, names = with_images(options.environment), state_of(file.sizes)
    if visual is None:
        return None
    shown = shown_goals(options.environment, file.sizes["observations"], names)
    if shown is None:
        return None
    further = [name for name in names if name in FURTHER]
    images = {
        "environment": visual.model_dump(exclude_defaults=True),
        **({"state": further} if further else {}),
        "goal": shown["goal"],
    }
    return {**shown, "images": images}


def _goal(file: InspectedFile, options: RecipeOptions) -> tuple[dict[str, Any], list[str]]:
    """The goal spec, and remarks; the goal is the given columns of the observation, or the full state."""
    size = file.sizes[file.goal] if file.goal else 0
    _check_constant(options)
    if "achieved_goal" in file.goal_keys and options.tolerance and not options.goal_columns:
        desired = "infos.desired_goal" if "desired_goal" in file.goal_keys else None
        success = {"kind": "distance", "tolerance": options.tolerance}
        return {"achieved": "infos.achieved_goal", "desired": desired, "success": success}, []
    if not options.goal_columns:
        remark = f"the file has goals of {size} dimensions; --goal-columns sets their columns"
        if file.goal_keys:
            size, remark = (
                1,
                "the file has achieved goals; --tolerance says when one counts as reached",
            )
        full_state = {"achieved": "observation", "desired": None, "success": {"kind": "same_step"}}
        return full_state, [remark] if size else []
    if options.tolerance is None:
        raise SettingsError(
            "--goal-columns needs --tolerance, the largest distance at which a goal counts as reached"
        )
    columns = list(options.goal_columns)
    if max(columns) >= file.sizes["observations"]:
        raise SettingsError(
            f"--goal-columns: no column {max(columns)}; the observations have "
            f"{file.sizes['observations']} columns, counted from 0"
        )
    uses_file = size == len(columns) and not options.desired_constant
    constant = {"constant": list(options.desired_constant)} if options.desired_constant else None
    goal: dict[str, Any] = {
        "achieved": {"key": "observation", "columns": columns},
        "desired": f"infos.{file.infos[file.goal]}" if file.goal and uses_file else constant,
        "success": {"kind": "distance", "tolerance": options.tolerance},
    }
    unused = [] if uses_file or not size else [f"the goals in the file, of {size} dimensions,"]
    if "achieved_goal" in file.goal_keys:
        unused.append("the achieved goals in the file")
    return goal, [f"{what} are not used" for what in unused]


def _check_constant(options: RecipeOptions) -> None:
    """Check that a constant goal has one number per column of the goal.

    Raises:
        SettingsError: it has another number of them.
    """
    given, columns = len(options.desired_constant), len(options.goal_columns)
    if given and not columns:
        raise SettingsError(
            "--desired-constant needs --goal-columns, the columns of the observation that are the goal"
        )
    if given and given != columns:
        raise SettingsError(
            f"--desired-constant: {given} numbers for {columns} columns of the goal; give one number per column"
        )


def _goal_size(file: InspectedFile, goal: dict[str, Any]) -> int:
    achieved = goal["achieved"]
    if achieved == "infos.achieved_goal":
        return file.goal_keys["achieved_goal"]
    return len(achieved["columns"]) if isinstance(achieved, dict) else file.sizes["observations"]


def _evaluation(
    file: InspectedFile,
    goal: dict[str, Any],
    settings: Environment,
    selected: dict[str, Any] | None,
) -> dict[str, Any] | None:
    """Section ``evaluation`` of the recipe; None if the environment has no goals of this size.

    Args:
        file: the file.
        goal: the goal spec.
        settings: the environment.
        selected: ``desired``, where it is known, as for visual files.
    """
    environment = shared_environment(settings)
    tasks = getattr(
        environment.unwrapped, "num_tasks", None
    )  # OGBench numbers its starts and goals.
    options = {"task_id": 1} if tasks else None
    tree = as_tree(*environment.reset(seed=0, options=options))
    shown = {"desired_goal": tree.get("desired_goal"), "infos.goal": tree["infos"].get("goal")}
    size = _goal_size(file, goal)
    fitting = [key for key, value in shown.items() if getattr(value, "size", None) == size]
    if not fitting and selected is None:
        return None
    evaluation: dict[str, Any] = {
        "environment": settings.model_dump(exclude_defaults=True),
        "desired": selected["desired"] if selected else fitting[0],
    }
    if tasks:
        numbers = list(range(1, tasks + 1))
        evaluation["fixed_tasks"] = {"option": "task_id", "values": numbers}
    if goal["success"]["kind"] == "same_step":
        evaluation["success"] = "environment"
    return evaluation


def _check_sizes(recipe: Recipe, file: InspectedFile, where: str) -> None:
    """Check that policies that are trained on the file can act in the evaluation environment."""
    if recipe.evaluation is None:
        return
    settings = recipe.evaluation.environment
    environment = shared_environment(settings)
    shown = shown_sizes(environment, evaluated_goal(recipe), f"{where}: ", first_options(recipe))
    if shown["observation"] != file.sizes["observations"]:
        raise SettingsError(
            f"{where}: observations of {settings.id} have {shown['observation']} dimensions, and those of "
            f"{file.path} {file.sizes['observations']}; leave --environment out, or name that of this data"
        )
