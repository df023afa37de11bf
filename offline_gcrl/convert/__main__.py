"""Convert a file to a Minari dataset that a recipe can name.

d4rl: an HDF5 file with observations, actions, rewards, terminals, timeouts, infos/...
ogbench: an .npz file with observations, actions, terminals, and others such as qpos; observations can be images
robomimic: an HDF5 file with data/demo_0/obs/..., data/demo_0/actions, ...
lerobot: a folder with a LeRobot dataset of version 3.0
log: a CSV or Parquet file with a row per step and the columns episode, observation_0, ..., action_0, ...

The dataset is written to the local Minari root (MINARI_DATASETS_PATH, or ~/.minari/datasets).
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from offline_gcrl.config import RECIPES, Environment, recipe_names
from offline_gcrl.config.images import SMALLEST
from offline_gcrl.config.reading import NAME, NAME_IN_WORDS, read_value
from offline_gcrl.convert.arrays import LAYOUTS, Layout
from offline_gcrl.convert.kinds import check_kind
from offline_gcrl.convert.layouts import InspectedFile, continued_episodes, inspect_file
from offline_gcrl.convert.lerobot import left_out, lerobot_columns, own_name, read_info
from offline_gcrl.convert.lerobot_images import NONE, chosen_image
from offline_gcrl.convert.logs import log_remarks
from offline_gcrl.convert.recipe import RecipeOptions, draft_recipe
from offline_gcrl.convert.robomimic import robomimic_remarks
from offline_gcrl.convert.visual import IMAGE, is_visual, visual_columns, with_states
from offline_gcrl.convert.writing import bounded_actions, write_dataset
from offline_gcrl.support.errors import SettingsError
from offline_gcrl.support.files import write_text
from offline_gcrl.support.terminal import Bars, close, console, note, stage

BOUNDS = "{} action, one number for all dimensions or one per dimension, without --environment (default: from the data)"


def main(arguments: Sequence[str] | None = None) -> None:
    """Convert one file, and print or write a recipe for the dataset."""
    given = _parser().parse_args(arguments)
    sys.path.insert(0, str(Path("environments").resolve()))  # As in the stages.
    with stage("convert", f"{given.file} to {given.dataset}"):
        recipe = _recipe_file(given.recipe, given.replace)
        environment, layout = _environment(given), _layout(given)
        if environment is not None and layout.is_visual:
            environment = with_states(environment)
        file = inspect_file(given.file, layout, given.ends)
        actions, source = bounded_actions(file, environment, given.action_low, given.action_high)
        options = RecipeOptions(
            given.kind,
            environment,
            tuple(given.goal_columns),
            given.tolerance,
            tuple(given.desired_constant),
        )
        text, remarks = draft_recipe(given.dataset, file, options)
        with Bars([given.dataset], file.transitions, "transitions") as bars:
            home = write_dataset(
                given.dataset,
                file,
                actions,
                environment,
                given.replace,
                lambda count: bars.advance(given.dataset, count),
            )
        for line in [*_remarks(file), f"bounds of the actions: {source}", *remarks]:
            note(line)
        if recipe is not None:
            write_text(recipe, text)
            note(
                f"recipe in {recipe}; name it in params.yaml, experiment.datasets: [{given.recipe}]"
            )
        close(f"{len(file.spans):,} episodes, {file.transitions:,} transitions in {home}")
    if recipe is None:
        console.print(f"\nA first recipe, for {RECIPES}/<name>.yaml:\n")
        console.print(text, markup=False, end="")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m offline_gcrl.convert",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("layout", choices=LAYOUTS, help="layout of the file")
    add("file", type=Path, help="the file")
    add("dataset", help="Minari id of the new dataset, such as my/arm-v0")
    add(
        "--environment",
        metavar="ID",
        help="environment of the data, in which the recipe evaluates policies",
    )
    add(
        "--option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an argument of the environment; can be repeated",
    )
    _add_properties(parser)
    add("--recipe", metavar="NAME", help="write the recipe under this name, instead of printing it")
    add("--replace", action="store_true", help="overwrite an existing dataset or recipe")
    return parser


def _add_properties(parser: argparse.ArgumentParser) -> None:
    """Add the options about the data: goals, bounds of actions, ends of episodes, images, kind."""
    add = parser.add_argument
    several: dict[str, Any] = {"nargs": "+", "default": []}
    add(
        "--goal-columns",
        type=int,
        metavar="N",
        help="columns of the observation that are the goal (default: all)",
        **several,
    )
    add(
        "--tolerance",
        type=float,
        metavar="X",
        help="largest distance at which a goal counts as reached, with --goal-columns",
    )
    add(
        "--desired-constant",
        type=float,
        metavar="X",
        help="the goal that the behaviour pursued in all episodes, one number per goal column (default: the goals of the "
        "file; without any, the behaviour pursued none)",
        **several,
    )
    for name, bound in (("--action-low", "smallest"), ("--action-high", "largest")):
        add(name, type=float, metavar="X", help=BOUNDS.format(bound), **several)
    add(
        "--ends",
        choices=("either", "terminals", "timeouts"),
        default="either",
        help="array that is 1 in the last row of an episode (default: either)",
    )
    add(
        "--image",
        metavar="NAME",
        help=f"image feature of a LeRobot dataset that policies see, or '{NONE}' (default: the only one)",
    )
    add(
        "--image-size",
        type=int,
        nargs=2,
        metavar=("HEIGHT", "WIDTH"),
        help="scale images to this size, in pixels (default: that of the data)",
    )
    kinds = ("exploration", "demonstration")
    add(
        "--kind",
        choices=kinds,
        default=kinds[1],
        help="kind of the source in the recipe (default: demonstration)",
    )


def _recipe_file(name: str | None, replace: bool) -> Path | None:
    """The file of the recipe; None if it is printed instead.

    Raises:
        SettingsError: ``experiment.datasets`` would not take the name, the folder does not exist, or the file does.
    """
    if name is None:
        return None
    if not NAME.fullmatch(name):
        raise SettingsError(
            f"--recipe {name}: the name must be made of {NAME_IN_WORDS}; it becomes that of a file in {RECIPES}"
        )
    same = [known for known in recipe_names() if known.casefold() == name.casefold()]
    if same and same != [name]:
        raise SettingsError(
            f"--recipe {name}: differs from the recipe '{same[0]}' in case only; choose another name"
        )
    recipe = RECIPES / f"{name}.yaml"
    if recipe.exists() and not replace:
        raise SettingsError(f"{recipe} exists already; --replace overwrites it")
    return recipe


def _environment(given: argparse.Namespace) -> Environment | None:
    if given.environment is None:
        if given.option:
            raise SettingsError("--option needs an environment; set --environment")
        return None
    if given.action_low or given.action_high:
        raise SettingsError(
            "--action-low and --action-high: an environment has its own bounds; leave them out"
        )
    return Environment(id=given.environment, kwargs=dict(map(_option, given.option)))


def _option(text: str) -> tuple[str, Any]:
    key, separator, value = text.partition("=")
    if not separator:
        raise SettingsError(f"--option {text}: expected key=value")
    return key, read_value(value)


def _layout(given: argparse.Namespace) -> Layout:
    """The layout of the file, with its images if it has any.

    Raises:
        SettingsError: the options of images do not fit the file.
        DataError: the LeRobot dataset has no valid ``meta/info.json``, or the .npz file has other images than OGBench's.
    """
    layout = LAYOUTS[given.layout]
    if layout.name != "lerobot":
        if given.image is not None or given.image_size is not None:
            raise SettingsError(
                "--image and --image-size apply to LeRobot datasets; leave them out"
            )
        if layout.name != "ogbench":
            return layout
        check_kind(given.file, layout.name)
        if not is_visual(given.file):
            return layout
        return replace(layout, columns=visual_columns, image=IMAGE)
    check_kind(given.file, layout.name)
    image, size = chosen_image(given.file, read_info(given.file), given.image), given.image_size
    if size is not None and (image is None or min(size) < SMALLEST):
        raise SettingsError(
            f"--image-size: needs images, and at least {SMALLEST} pixels in height and width"
        )
    if image is None:
        return layout
    columns = partial(lerobot_columns, image=image, size=size and tuple(size))
    return replace(layout, columns=columns, image=own_name(image))


def _not_read(file: InspectedFile) -> list[str]:
    """Remarks on arrays that are not read, and on columns that are."""
    if file.layout.name == "lerobot":
        return left_out(file.path, file.layout.image)
    if file.layout.name == "log":
        return log_remarks(file.path)
    return robomimic_remarks(file.path) if file.layout.name == "robomimic" else []


def _remarks(file: InspectedFile) -> list[str]:
    """Which data was left out or added, and why."""
    remarks = []
    if not file.marked:
        remarks.append("the file marks no ends of episodes: all rows are one episode")
    if not file.has_next and not file.has_last_states:
        remarks.append(
            "the last action of each episode is left out: the file has no state after it"
        )
    continued = continued_episodes(file) if file.has_next else 0
    if continued:
        remarks.append(
            f"the last state of {continued:,} episodes is the first of the next one: if the environment was reset between them, "
            "the last rows of 'next_observations' are wrong; delete the array, or correct these rows"
        )
    if file.has_whole_actions:
        remarks.append(
            "the actions are whole numbers, which agents learn as continuous: labels of discrete actions need a column each"
        )
    remarks += _not_read(file)
    if file.too_short:
        remarks.append(f"{file.too_short:,} episodes of a single state are left out")
    if "rewards" not in file.sizes:
        remarks.append("the file has no rewards: stored as 0; training computes rewards from goals")
    return remarks


if __name__ == "__main__":
    main()
