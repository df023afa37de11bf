"""Turn a file of your own into a Minari dataset that a recipe can name.

d4rl: an HDF5 file with observations, actions, rewards, terminals, timeouts, infos/...
ogbench: an .npz file with observations, actions, terminals, and others such as qpos

The dataset goes into the local Minari root (MINARI_DATASETS_PATH, or ~/.minari/datasets), whole or not at all.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from offline_gcrl.config import RECIPES, Environment
from offline_gcrl.convert.layouts import LAYOUTS, InspectedFile, inspect_file
from offline_gcrl.convert.recipe import RecipeOptions, draft_recipe
from offline_gcrl.convert.writing import bounded_actions, write_dataset
from offline_gcrl.support.errors import SettingsError
from offline_gcrl.support.files import write_text
from offline_gcrl.support.terminal import Bars, close, console, note, stage

BOUNDS = "{} action, one for all or one each, without --environment (else the data's)"


def main(arguments: Sequence[str] | None = None) -> None:
    """Convert one file, and print or write a recipe for it."""
    given = _parser().parse_args(arguments)
    with stage("convert", f"{given.file} to {given.dataset}"):
        recipe = RECIPES / f"{given.recipe}.yaml" if given.recipe else None
        if recipe is not None and recipe.exists() and not given.replace:
            raise SettingsError(f"{recipe} is there already; --replace writes it anew")
        environment = _environment(given)
        file = inspect_file(given.file, LAYOUTS[given.layout], given.ends)
        actions, source = bounded_actions(file, environment, given.action_low, given.action_high)
        options = RecipeOptions(given.kind, environment, tuple(given.goal_columns), given.tolerance)
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
        console.print(f"\nA recipe to start from, for {RECIPES}/<name>.yaml:\n")
        console.print(text, markup=False, end="")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m offline_gcrl.convert",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("layout", choices=LAYOUTS, help="how the file is laid out")
    add("file", type=Path, help="the file")
    add("dataset", help="the Minari id to give it, such as my/arm-v0")
    add(
        "--environment",
        metavar="ID",
        help="where the data comes from; the recipe judges policies there",
    )
    add(
        "--option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an argument of the environment; may be given several times",
    )
    add(
        "--goal-columns",
        type=int,
        nargs="+",
        default=[],
        metavar="N",
        help="columns of the observation that goals are about (else all)",
    )
    add(
        "--tolerance",
        type=float,
        metavar="X",
        help="how near a goal counts as reached, with --goal-columns",
    )
    add("--action-low", type=float, nargs="+", default=[], metavar="X", help=BOUNDS.format("least"))
    add(
        "--action-high",
        type=float,
        nargs="+",
        default=[],
        metavar="X",
        help=BOUNDS.format("largest"),
    )
    add(
        "--ends",
        choices=("either", "terminals", "timeouts"),
        default="either",
        help="what is 1 where an episode ends (either)",
    )
    kinds = ("exploration", "demonstration")
    add("--kind", choices=kinds, default=kinds[1], help="what the recipe calls it (demonstration)")
    add(
        "--recipe", metavar="NAME", help="write the recipe under this name, in place of printing it"
    )
    add("--replace", action="store_true", help="write over a dataset or recipe that is there")
    return parser


def _environment(given: argparse.Namespace) -> Environment | None:
    if given.environment is None:
        if given.option:
            raise SettingsError("--option is for an environment; name it with --environment")
        return None
    if given.action_low or given.action_high:
        raise SettingsError("--action-low and --action-high: an environment brings its own bounds")
    return Environment(id=given.environment, kwargs=dict(map(_option, given.option)))


def _option(text: str) -> tuple[str, Any]:
    key, separator, value = text.partition("=")
    if not separator:
        raise SettingsError(f"--option {text}: expected key=value")
    return key, yaml.safe_load(value)


def _remarks(file: InspectedFile) -> list[str]:
    """What was left out or made up, and why."""
    said = []
    if not file.marked:
        said.append("nothing marks ends of episodes: all rows are one episode")
    if not file.has_next and not file.layout.must_end:
        said.append("each episode's last action is left out: the file has no state after it")
    if file.too_short:
        said.append(f"{file.too_short:,} episodes of a single state are left out")
    if "rewards" not in file.sizes:
        said.append("no rewards in the file: stored as 0; training takes its own from the goals")
    return said


if __name__ == "__main__":
    main()
