"""Errors about bad data name the dataset, the episode and the remedy, and leave no partial output."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import polars as pl
import pytest
from conftest import (
    RECIPES,
    as_dataset,
    episode_buffers,
    published_look_alike,
    space_of,
    write_minari,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from offline_gcrl.collect.published import fetch_published
from offline_gcrl.config import Environment, Part, Recipe, Source, Success, load_recipe
from offline_gcrl.episodes import blocks
from offline_gcrl.episodes.ingest import ingest
from offline_gcrl.episodes.published import check_published
from offline_gcrl.support.errors import DataError
from offline_gcrl.support.files import atomic_directory

NAME = "my/data-v0"
SIZES = {"observation": 4, "achieved_goal": 2, "desired_goal": 2}
RECIPE = Recipe.model_validate_json(
    json.dumps(
        {
            "title": "mine",
            "sources": [{"dataset": NAME, "kind": "exploration"}],
            "goal": {"success": {"kind": "distance", "tolerance": 0.1}},
            "task": "mine",
            "instruction": "Reach it.",
        }
    )
)


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Minari root with a valid dataset of three episodes."""
    root = tmp_path_factory.mktemp("sound")
    write_minari(NAME, root, episode_buffers(SIZES), space_of(SIZES))
    return root


@pytest.fixture
def root(sound: Path, tmp_path: Path) -> Path:
    """A copy of the Minari root that tests may break."""
    return shutil.copytree(sound, tmp_path / "root")


def data_file(root: Path) -> Path:
    return root / NAME / "data/main_data.hdf5"


def ingested(root: Path, output: Path, recipe: Recipe = RECIPE) -> None:
    """Ingest as the stage does."""
    with atomic_directory(output) as folder:
        ingest(as_dataset(recipe), root, folder)


def replaced(group: Any, key: str, values: Any) -> None:
    del group[key]
    if values is not None:
        group[key] = values


def edited(root: Path, **changes: Any) -> None:
    """Change metadata.json."""
    path = root / NAME / "data/metadata.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


EPISODE_BROKEN: dict[str, tuple[str, Any, str]] = {
    "actions missing": ("actions", None, "cannot be read .*actions"),
    "observations missing": ("observations", None, "cannot be read"),
    "rewards missing": ("rewards", None, "cannot be read .*rewards"),
    "a key missing": ("observations/achieved_goal", None, "no observation key 'achieved_goal'"),
    "no transitions": ("actions", np.zeros((0, 2)), "no transitions"),
    "too few states": ("observations/observation", np.zeros((5, 4)), "'observation' has 5 rows, expected 6"),
    "too many rewards": ("rewards", np.zeros(6), "'rewards' has 6 rows, expected 5"),
    "NaN": ("observations/observation", np.full((6, 4), np.nan), "'observation' is not finite at step 0"),
    "too large": ("observations/observation", np.full((6, 4), 1e300), "'observation' is not finite"),
    "an action outside": ("actions", np.full((5, 2), 1.5), "step 0: action .* is outside Box"),
    "actions too narrow": ("actions", np.zeros((5, 1)), "its actions have 1 numbers"),
    "actions too wide": ("actions", np.zeros((5, 3)), "its actions have 3 numbers"),
    "states too wide": ("observations/observation", np.zeros((6, 9)), "its sizes .* differ from those of earlier episodes"),
    "goals too wide": ("observations/desired_goal", np.zeros((6, 3)), "achieved goals have 2 numbers and desired ones 3"),
    "a single number": ("actions", 1.0, "'actions' is a single float64, expected rows of numbers"),
    "text": ("rewards", [b"a"] * 5, "'rewards' is rows of type .*, expected rows of numbers"),
    "text in states": ("observations/observation", [b"a"] * 6, "'observation' has values of type"),
    "rewards too wide": ("rewards", np.zeros((5, 2)), "'rewards' has 2 numbers per step, expected one"),
    "an end inside": ("terminations", np.arange(5) == 2, "step 2 is marked as the end of an episode, and 2 steps follow"),
    "a time limit inside": ("truncations", np.arange(5) == 0, "step 0 is marked as the end .* one EpisodeBuffer each"),
    "no numbers": ("observations/observation", np.zeros((6, 0)), "has no numbers"),
}  # fmt: skip


@pytest.mark.parametrize("case", EPISODE_BROKEN)
def test_a_broken_episode_is_named(case: str, root: Path, tmp_path: Path) -> None:
    key, values, message = EPISODE_BROKEN[case]
    with h5py.File(data_file(root), "a") as file:
        *above, leaf = f"episode_1/{key}".split("/")
        group = file["/".join(above)]
        if leaf in group:
            replaced(group, leaf, values)
        else:
            group[leaf] = values
    with pytest.raises(DataError, match=f"dataset '{NAME}', episode 1: .*{message}"):
        ingested(root, tmp_path / "output")
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize("limit", [np.finfo(np.float32).max, 1e30, 1e6, 300.0])
def test_bounds_that_the_data_hardly_uses_are_refused_and_the_data_may_give_them(
    limit: float, root: Path, tmp_path: Path
) -> None:
    """Scaled to such bounds all actions would be the same, and policies would act far outside of the data."""
    metadata = root / NAME / "data/metadata.json"
    stored = metadata.read_text()
    space = json.loads(json.loads(stored)["action_space"])
    space |= {"low": [-float(limit)] * 2, "high": [float(limit)] * 2}
    edited(root, action_space=json.dumps(space))
    with pytest.raises(DataError, match="action 0 has the bounds .* write `action_bounds: data`"):
        ingested(root, tmp_path / "output")
    recipe = RECIPE.model_copy(update={"action_bounds": "data"})
    ingested(root, tmp_path / "output", recipe)
    bounds = json.loads((tmp_path / "output/schema.json").read_text())["action_space"]
    actions = pl.read_parquet(tmp_path / "output/steps.parquet")["action"].to_numpy()
    assert bounds["low"] == np.nanmin(actions, 0).tolist()
    assert bounds["high"] == np.nanmax(actions, 0).tolist()


def test_numbers_whose_differences_float32_loses_are_refused(root: Path, tmp_path: Path) -> None:
    """Far from zero, as UTM coordinates or encoder counts: in float32 they would be constant."""
    with h5py.File(data_file(root), "a") as file:
        for episode in file.values():
            place = 4.2e6 + 0.05 * np.random.default_rng(0).normal(size=(6, 2))
            replaced(episode["observations"], "achieved_goal", place)
    with pytest.raises(
        DataError, match="'goal.achieved' loses digits in float32: .* subtract an offset"
    ):
        ingested(root, tmp_path / "output")


@pytest.mark.parametrize("key", ["achieved_goal", "desired_goal"])
def test_goals_whose_tolerance_is_below_the_digits_of_float32_are_refused(
    key: str, root: Path, tmp_path: Path
) -> None:
    """Data that was stored as float32 has lost its digits earlier: goals are equal, or out of reach."""
    with h5py.File(data_file(root), "a") as file:
        for episode in file.values():
            place = 4.2e6 + 50.0 * np.random.default_rng(0).normal(size=(6, 2))
            replaced(episode["observations"], key, place.astype(np.float32))
    role = key.removesuffix("_goal")
    with pytest.raises(
        DataError, match=f"'goal.{role}' has too few digits in float32 for the tolerance of 0.1: "
    ):
        ingested(root, tmp_path / "output")
    exact = with_goal(success=Success(kind="distance", tolerance=10.0))
    ingested(root, tmp_path / "output", exact)


def test_large_numbers_whose_differences_float32_keeps_are_read(root: Path, tmp_path: Path) -> None:
    with h5py.File(data_file(root), "a") as file:
        for episode in file.values():
            replaced(
                episode["observations"],
                "observation",
                1e6 + 1e4 * np.random.default_rng(0).normal(size=(6, 4)),
            )
    ingested(root, tmp_path / "output")


@pytest.mark.parametrize(
    ("seed", "message"),
    [
        (2**63, "its seed 9223372036854775808 is not an integer from 0"),
        (b"x", "cannot be read"),
        (-1, "its seed -1 is not an integer from 0"),
    ],
)
def test_an_invalid_seed_is_named(seed: Any, message: str, root: Path, tmp_path: Path) -> None:
    with h5py.File(data_file(root), "a") as file:
        file["episode_2"].attrs["seed"] = seed
    with pytest.raises(DataError, match=f"dataset '{NAME}', episode 2: {message}"):
        ingested(root, tmp_path / "output")


def cut_off(root: Path) -> None:
    path = data_file(root)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def foreign(root: Path) -> None:
    with h5py.File(data_file(root), "w") as file:
        file["observations"], file["actions"] = np.zeros((9, 4)), np.zeros((9, 2))


def never_begun(root: Path) -> None:
    data_file(root).write_bytes(b"")
    edited(root, total_episodes=0)


def without_last_episode(root: Path) -> None:
    with h5py.File(data_file(root), "a") as file:
        del file["episode_2"]


def actions_of(root: Path, space: dict[str, Any]) -> None:
    edited(root, action_space=json.dumps(space))


BOX = {"type": "Box", "dtype": "float32", "shape": [2], "low": [-1.0, -1.0], "high": [1.0, 1.0]}
SOURCE_BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no folder": (lambda root: shutil.rmtree(root / NAME), "there is no such folder"),
    "no metadata": (lambda root: (root / NAME / "data/metadata.json").unlink(), "metadata.json"),
    "no data": (lambda root: data_file(root).unlink(), "main_data.hdf5"),
    "empty": (lambda root: data_file(root).write_bytes(b""), "cannot be read as Minari data"),
    "cut off": (cut_off, "cannot be read as Minari data: .*truncated file.*; if the files are broken, copy or download them again"),
    "not HDF5": (lambda root: data_file(root).write_bytes(b"x" * 999), "file signature not found"),
    "D4RL's": (foreign, "no group episode_0 but actions, observations; convert it with `python -m offline_gcrl.convert d4rl`"),
    "an episode short": (without_last_episode, "counts 3 episodes, but main_data.hdf5 contains 2"),
    "killed while written": (lambda root: edited(root, total_episodes=1), "counts 1 episodes, but .* contains 3"),
    "never begun": (never_begun, "has no episodes; was it written to the end"),
    "no episodes": (lambda root: edited(root, total_episodes=0), "counts 0 episodes, but .* contains 3"),
    "a count that is none": (lambda root: edited(root, total_episodes="three"), "total_episodes: expected a whole number, not 'three'"),
    "steps that are none": (lambda root: edited(root, total_steps=None), "total_steps: expected a whole number"),
    "metadata that is no JSON": (lambda root: (root / NAME / "data/metadata.json").write_text("{"), "cannot be read as Minari data"),
    "metadata that is a list": (lambda root: (root / NAME / "data/metadata.json").write_text("[]"), "is not a JSON object"),
    "another format": (lambda root: edited(root, data_format="tape"), "tape"),
    "an old Minari": (lambda root: edited(root, minari_version="0.1.0"), "0.1.0"),
    "no space": (lambda root: edited(root, observation_space="?"), "cannot be read as Minari data"),
    "numbered actions": (lambda root: actions_of(root, {"type": "Discrete", "dtype": "int64", "start": 0, "n": 3}), "its actions are Discrete.* agents need a Box"),
    "unbounded actions": (lambda root: actions_of(root, {**BOX, "high": [1.0, float("inf")]}), "agents need a Box with finite bounds"),
    "whole numbers as actions": (lambda root: actions_of(root, {**BOX, "dtype": "int64", "low": [0, 0], "high": [3, 3]}), "agents need a Box .* of floating-point numbers"),
    "an action without room": (lambda root: actions_of(root, {**BOX, "high": [1.0, -1.0]}), "every lower bound must be below its upper bound"),
}  # fmt: skip


@pytest.mark.parametrize("case", SOURCE_BROKEN)
def test_a_broken_dataset_is_named_and_the_old_output_stays_unchanged(
    case: str, root: Path, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    ingested(root, output)
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    broken, message = SOURCE_BROKEN[case]
    broken(root)
    with pytest.raises(DataError, match=f"dataset '{NAME}'.*{message}"):
        ingested(root, output)
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["output", "root"]


def with_goal(**changes: Any) -> Recipe:
    return RECIPE.model_copy(update={"goal": RECIPE.goal.model_copy(update=changes)})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"achieved": (Part(key="achieved"),)}, r"no observation key 'achieved'; did you mean 'achieved_goal'\?.*\(goal.achieved of the recipe\)"),
        ({"desired": (Part(key="infos.goal"),)}, r"no observation key 'infos.goal'.*\(goal.desired of the recipe\)"),
        ({"achieved": (Part(key="observation", columns=(0, 4)),)}, "no column 4 in 'observation', which has 4 columns"),
        ({"achieved": (Part(key="observation", columns=(0, 1, 2)),)}, "achieved goals have 3 numbers and desired ones 2"),
        ({"success": Success(kind="per_dimension", tolerances=(0.1,))}, "goal.success of the recipe: .*; the goals have 2 numbers"),
    ],
)  # fmt: skip
def test_a_recipe_that_does_not_fit_the_data_is_named_with_its_key(
    changed: dict[str, Any], message: str, sound: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=f"dataset '{NAME}', episode 0: {message}"):
        ingested(sound, tmp_path / "output", with_goal(**changed))


def test_more_episodes_than_there_are_cannot_be_taken(sound: Path, tmp_path: Path) -> None:
    source = RECIPE.sources[0].model_copy(update={"episodes": 4})
    with pytest.raises(DataError, match="has 3 episodes, but its recipe asks for 4"):
        ingested(sound, tmp_path / "output", RECIPE.model_copy(update={"sources": (source,)}))


def test_sources_whose_spaces_disagree_are_both_named(root: Path, tmp_path: Path) -> None:
    other = {**SIZES, "observation": 5}
    write_minari("my/other-v0", root, episode_buffers(other), space_of(other))
    sources = (*RECIPE.sources, Source(dataset="my/other-v0", kind="demonstration"))
    with pytest.raises(
        DataError, match=f"'my/other-v0': its observation_space .* is not that of '{NAME}'"
    ):
        ingested(root, tmp_path / "output", RECIPE.model_copy(update={"sources": sources}))


def test_the_error_for_a_misspelt_dataset_id_suggests_the_nearest(
    sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(sound))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        DataError, match=f"(?s)'my/dat-v0' is not in the local .* did you mean '{NAME}'"
    ):
        fetch_published("my/dat-v0", tmp_path / "here")


def test_a_download_is_kept_in_the_local_root_for_the_next_recipe(
    sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloads = []

    def download(dataset: str) -> None:
        downloads.append(dataset)
        root = Path(os.environ["MINARI_DATASETS_PATH"])
        write_minari(dataset, root, episode_buffers(SIZES), space_of(SIZES))

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "local"))
    monkeypatch.setattr("offline_gcrl.collect.published._require_network", lambda *_: None)
    monkeypatch.setattr("minari.download_dataset", download)
    for stage in ("one", "two"):
        fetch_published(NAME, tmp_path / stage)
        ingested(tmp_path / stage, tmp_path / f"{stage}-output")
    assert downloads == [NAME]
    assert (tmp_path / "local" / NAME / "data/main_data.hdf5").exists()
    assert not list((tmp_path / "local").rglob(".*"))


# Published data is checked against its recipe. The look-alikes are recorded in the real environments.

FAMILIES = {
    "antmaze-umaze": "AntMaze_UMaze-v4",
    "kitchen-complete": "FrankaKitchen-v1",
    "adroit-door-human": "AdroitHandDoor-v1",
    "pointmaze-umaze-d4rl": "PointMaze_UMaze-v3",
}


@pytest.fixture(scope="session")
def look_alikes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("published")
    for name in FAMILIES:
        published_look_alike(load_recipe(name, RECIPES), root, episodes=1, steps=3)
    return root


@pytest.mark.parametrize("name", FAMILIES)
def test_published_data_that_fits_its_recipe_passes_without_remark(
    name: str, look_alikes: Path
) -> None:
    recipe = load_recipe(name, RECIPES)
    assert check_published(recipe, recipe.sources[0], look_alikes) == []


@pytest.mark.parametrize("name", FAMILIES)
def test_another_version_of_the_environment_gives_a_remark(name: str, look_alikes: Path) -> None:
    recipe = load_recipe(name, RECIPES)
    other = Environment(id=f"{FAMILIES[name].rpartition('-v')[0]}-v99")
    renamed = recipe.model_copy(update={"environment": other})
    (remark,) = check_published(renamed, recipe.sources[0], look_alikes)
    assert f"was collected in {FAMILIES[name]}, but its recipe has {other.id}" in remark


def test_another_environment_is_an_error(look_alikes: Path) -> None:
    recipe = load_recipe("antmaze-umaze", RECIPES)
    other = recipe.model_copy(update={"environment": Environment(id="AntMaze_Large-v4")})
    with pytest.raises(
        DataError,
        match="was collected in 'AntMaze_UMaze-v4', but its recipe has 'AntMaze_Large-v4'",
    ):
        check_published(other, recipe.sources[0], look_alikes)


@pytest.mark.parametrize(
    ("data", "expected", "message"),
    [
        ("adroit-door-human", "antmaze-umaze", "no observation key 'achieved_goal'"),
        ("pointmaze-umaze-d4rl", "antmaze-umaze", "its observation has 6 numbers, and AntMaze_UMaze-v4, .* has 29"),
        ("pointmaze-umaze-d4rl", "kitchen-complete", "goal.success of the recipe"),
        ("antmaze-umaze", "adroit-door-human", "no column 28|its observation has 27 numbers"),
    ],
)  # fmt: skip
def test_data_of_another_environment_is_refused_with_the_reason(
    data: str, expected: str, message: str, look_alikes: Path
) -> None:
    recipe = load_recipe(expected, RECIPES)
    source = load_recipe(data, RECIPES).sources[0]
    mixed = recipe.model_copy(update={"sources": (source,), "environment": None})
    with pytest.raises(DataError, match=f"dataset '{source.dataset}'.*({message})"):
        check_published(mixed, source, look_alikes)


# After any change to a file, ingesting it gives valid episodes or one sentence.

EPISODE_KEYS = ("actions", "rewards", "terminations", "truncations", "observations",
                "observations/observation", "observations/achieved_goal", "observations/desired_goal")  # fmt: skip
SHAPES = st.lists(st.integers(0, 7), min_size=0, max_size=3).map(tuple)
DTYPES = st.sampled_from(["f4", "f8", "f2", "i8", "u1", "?", "S3", "c8", "O"])
GARBAGE = st.one_of(st.none(), st.integers(-3, 10**30), st.text(max_size=8), st.lists(st.integers(), max_size=2),
                    st.just({}), st.booleans(), st.floats(allow_nan=False))  # fmt: skip
METADATA_KEYS = ("total_episodes", "total_steps", "data_format", "observation_space", "action_space",
                 "env_spec", "dataset_id", "minari_version", "jpeg_encoding")  # fmt: skip


def array_of(shape: tuple[int, ...], dtype: str, fill: float) -> Any:
    if dtype in ("S3", "O"):
        return np.full(shape, b"abc", "S3" if dtype == "S3" else h5py.string_dtype())
    with np.errstate(all="ignore"):
        return np.full(shape, np.nan_to_num(fill) if dtype in ("i8", "u1", "?") else fill).astype(
            dtype
        )


@st.composite
def mutations(draw: st.DrawFn) -> tuple[str, Any]:
    kind = draw(st.sampled_from(["drop", "put", "cut", "metadata", "attribute", "garble", "none"]))
    episode, key = draw(st.integers(0, 2)), draw(st.sampled_from(EPISODE_KEYS))
    place = f"episode_{episode}/{key}"
    if kind == "drop":
        return kind, draw(st.sampled_from([place, f"episode_{episode}"]))
    if kind == "put":
        fill = draw(st.sampled_from([0.0, 1.0, -1.0, 2.0, 1e300, np.nan, np.inf]))
        return kind, (place, draw(SHAPES), draw(DTYPES), fill)
    if kind == "cut":
        return kind, draw(st.floats(0.0, 1.0))
    if kind == "metadata":
        return kind, (draw(st.sampled_from(METADATA_KEYS)), draw(GARBAGE))
    if kind == "attribute":
        return kind, (f"episode_{episode}", draw(st.sampled_from([b"x", -1, 2**64 - 1, 1.5, 7])))
    return kind, draw(st.binary(max_size=40))


def mutate(root: Path, kind: str, what: Any) -> None:
    path = data_file(root)
    if kind == "cut":
        path.write_bytes(path.read_bytes()[: int(what * path.stat().st_size)])
    elif kind == "metadata":
        edited(root, **{what[0]: what[1]})
    elif kind == "garble":
        (path.parent / "metadata.json").write_bytes(what)
    elif kind != "none":
        with h5py.File(path, "a") as file:
            if kind == "attribute":
                file[what[0]].attrs["seed"] = what[1]
            elif kind == "drop":
                del file[what]
            else:
                above, _, leaf = what[0].rpartition("/")
                replaced(file[above], leaf, array_of(*what[1:]))


def refused(root: Path, output: Path) -> str | None:
    """The error message of ingest, or None; any other exception is a bug."""
    try:
        ingested(root, output)
    except DataError as error:
        return str(error)
    return None


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(mutation=mutations(), earlier=st.booleans())
def test_ingest_of_a_broken_dataset_gives_one_sentence_or_valid_episodes(
    mutation: tuple[str, Any], earlier: bool, sound: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("case")
    root, output = shutil.copytree(sound, folder / "root"), folder / "output"
    if earlier:
        ingested(root, output)
    before = {path.name: path.read_bytes() for path in output.glob("*")}
    mutate(root, *mutation)
    refusal = refused(root, output)
    if refusal is None:
        assert json.loads((output / "schema.json").read_text())["counts"]["episodes"] == 3
    else:
        assert f"dataset '{NAME}'" in refusal
        assert mutation[0] != "none"
        assert {path.name: path.read_bytes() for path in output.glob("*")} == before
        assert output.exists() == earlier
    assert {path.name for path in folder.iterdir()} <= {"root", "output"}
    shutil.rmtree(folder)


TYPES = ("?", "i1", "u1", "i8", "f2", "f4", ">f8")


@pytest.mark.parametrize("first", TYPES)
@pytest.mark.parametrize("later", TYPES)
def test_episodes_of_different_types_are_read_in_blocks_as_one_by_one(
    first: str, later: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    with h5py.File(data_file(root), "a") as file:
        for number, dtype in enumerate((first, later, later)):
            group = file[f"episode_{number}"]
            for above, key in ((group, "rewards"), (group["observations"], "observation")):
                values = random.uniform(-100, 100, above[key].shape)
                whole = np.abs(values) if dtype == "u1" else values
                replaced(above, key, values > 0 if dtype == "?" else whole.astype(dtype))
    with monkeypatch.context() as patch:
        patch.setattr(blocks, "read_episodes", None)  # Raises if it is asked.
        ingested(root, tmp_path / "together")
    monkeypatch.setattr(blocks, "raw_arrays", None)
    ingested(root, tmp_path / "one by one")
    together, one_by_one = (
        pl.read_parquet(tmp_path / name / "steps.parquet") for name in ("together", "one by one")
    )
    assert together.equals(one_by_one)
