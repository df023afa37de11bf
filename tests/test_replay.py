"""Recorded actions reproduce the recorded observations; drifts are reported with the versions of MuJoCo."""

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import minari
import mujoco
import numpy as np
import pytest
from conftest import RECIPES, SmallDataset, small_recipe
from minari.data_collector.episode_buffer import EpisodeBuffer

from offline_gcrl.cards.replay import TOLERANCE, Replay, replay_dataset, replay_source
from offline_gcrl.collect.collector import collect_source, minari_root
from offline_gcrl.config import Environment, Recipe, Source, load_recipe
from offline_gcrl.environments.making import make_environment

Edit = Callable[[h5py.File], None]


@pytest.fixture
def copied(dataset: SmallDataset, tmp_path: Path) -> Path:
    """A copy of the Minari root that tests may change."""
    shutil.copytree(dataset.minari, tmp_path / "minari")
    return tmp_path / "minari"


def tamper(root: Path, source: Source, edit: Edit) -> None:
    with h5py.File(root / source.dataset / "data/main_data.hdf5", "r+") as file:
        edit(file)


def note_version(root: Path, source: Source, requirements: list[str]) -> None:
    path = root / source.dataset / "data/metadata.json"
    metadata = json.loads(path.read_text())
    path.write_text(json.dumps({**metadata, "requirements": requirements}))


def forget_seeds(file: h5py.File) -> None:
    for name in file:
        file[name].attrs.pop("seed", None)


def published(recipe: Recipe, number: int = 0) -> Source:
    """The same source as a published one."""
    return recipe.sources[number].model_copy(update={"collect": None, "episodes": None})


def test_observations_of_another_size_than_the_environments_are_not_replayable(
    dataset: SmallDataset, copied: Path
) -> None:
    def widen(file: h5py.File) -> None:
        for name in file:
            states = file[f"{name}/observations/observation"][:]
            del file[f"{name}/observations/observation"]
            file[f"{name}/observations/observation"] = np.hstack([states, states[:, :1]])

    source = published(dataset.recipe)
    tamper(copied, source, widen)
    replay = replay_source(dataset.recipe, source, copied)
    assert replay.sentence.startswith(
        "not replayable: the recorded observation has 9 numbers, and that of the environment 8"
    )


def test_a_maze_replays_exactly_from_its_seeds(dataset: SmallDataset) -> None:
    replays = replay_dataset(dataset.resolved, dataset.minari)
    assert list(replays) == [source.dataset for source in dataset.recipe.sources]
    for replay in replays.values():
        assert (replay.outcome, replay.start) == ("same", "seed")
        assert (replay.episodes, replay.steps) == (3, 180)
        assert replay.largest_difference == 0.0


def test_fetch_replays_exactly_from_its_seeds(tmp_path: Path) -> None:
    recipe = small_recipe("fetch-reach", steps=10)
    source = recipe.sources[1].model_copy(update={"episodes": 2})
    collect_source(recipe, source, tmp_path, workers=1)
    replay = replay_source(recipe, source, tmp_path)
    assert (replay.outcome, replay.start, replay.steps) == ("same", "seed", 20)
    assert replay.largest_difference == 0.0


def test_a_changed_action_is_found(dataset: SmallDataset, copied: Path) -> None:
    source = dataset.recipe.sources[0]

    def turn(file: h5py.File) -> None:
        file["episode_1/actions"][17] = -file["episode_1/actions"][17]

    tamper(copied, source, turn)
    replay = replay_source(dataset.recipe, source, copied)
    assert replay.outcome == "drifts"
    assert replay.drift is not None
    assert replay.drift.startswith("episode 1, step 18 ")  # What action 17 leads to.
    assert replay.largest_difference > TOLERANCE


def test_a_drift_names_both_versions_of_mujoco(dataset: SmallDataset, copied: Path) -> None:
    source = dataset.recipe.sources[0]
    note_version(copied, source, ["numpy==2.0.0", "mujoco==2.3.7"])
    tamper(copied, source, lambda file: file["episode_0/actions"].__setitem__(0, 0.0))
    sentence = replay_source(dataset.recipe, source, copied).sentence
    assert f"recorded with MuJoCo 2.3.7, but {mujoco.__version__} is installed" in sentence
    note_version(copied, source, [])
    unknown = replay_source(dataset.recipe, source, copied)
    assert "recorded with an unknown version of MuJoCo" in unknown.sentence


def test_without_seeds_replay_starts_from_the_recorded_state(
    dataset: SmallDataset, copied: Path
) -> None:
    source = published(dataset.recipe)
    tamper(copied, source, forget_seeds)
    replay = replay_source(dataset.recipe, source, copied)
    assert (replay.outcome, replay.start, replay.steps) == ("same", "state", 180)

    def turn(file: h5py.File) -> None:
        file["episode_0/actions"][5] = -file["episode_0/actions"][5]

    tamper(copied, source, turn)
    drifted = replay_source(dataset.recipe, source, copied)
    assert drifted.drift is not None
    assert drifted.drift.startswith("episode 0, step 6 ")


def test_episodes_that_were_cut_start_from_their_states(tmp_path: Path) -> None:
    recipe = load_recipe("pointmaze-umaze-waypoint", RECIPES)
    source = recipe.sources[0].model_copy(update={"episodes": 1, "share": None})
    collect_source(recipe, source, tmp_path, workers=1)
    replay = replay_source(recipe, source, tmp_path)
    assert (replay.outcome, replay.start, replay.episodes) == ("same", "seed and state", 3)

    def forget_states(file: h5py.File) -> None:
        for name in file:
            del file[name]["infos/qpos"]

    tamper(tmp_path, source, forget_states)
    first = replay_source(recipe, source, tmp_path)
    assert (first.outcome, first.start, first.episodes) == ("same", "seed", 1)


def test_the_options_of_the_recorded_reset_are_part_of_the_start(
    dataset: SmallDataset, tmp_path: Path
) -> None:
    source = dataset.recipe.sources[0].model_copy(update={"episodes": 1})
    environment = make_environment(dataset.recipe.environment)
    options = {"goal_cell": np.array([1, 1]), "reset_cell": np.array([3, 1])}
    observation, _ = environment.reset(seed=3, options=options)
    observations, actions = [observation], np.full((5, 2), 0.5, dtype=np.float32)
    observations += [environment.step(action)[0] for action in actions]
    episode = EpisodeBuffer(
        seed=3,
        options=options,
        observations={key: np.stack([seen[key] for seen in observations]) for key in observation},
        actions=actions,
        rewards=[0.0] * 5,
        terminations=[False] * 5,
        truncations=[False] * 4 + [True],
        infos={},
    )
    with minari_root(tmp_path), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        minari.create_dataset_from_buffers(
            source.dataset, [episode], env=environment.spec, data_format="hdf5"
        )
    assert replay_source(dataset.recipe, source, tmp_path).outcome == "same"
    tamper(tmp_path, source, lambda file: file["episode_0"].attrs.__setitem__("seed", 4))
    assert replay_source(dataset.recipe, source, tmp_path).outcome == "drifts"


def test_replay_does_not_change_global_random_state(dataset: SmallDataset) -> None:
    before = np.random.get_state()[1].tolist()
    replay_dataset(dataset.resolved, dataset.minari)
    assert np.random.get_state()[1].tolist() == before


def test_a_published_seed_with_another_first_observation_is_ignored(
    dataset: SmallDataset, copied: Path
) -> None:
    source = published(dataset.recipe)

    def change_seeds(file: h5py.File) -> None:
        for name in file:
            file[name].attrs["seed"] = 5

    tamper(copied, source, change_seeds)
    assert replay_source(dataset.recipe, source, copied).start == "state"


def test_collected_data_that_its_seed_does_not_reproduce_drifts(
    dataset: SmallDataset, copied: Path
) -> None:
    source = dataset.recipe.sources[0]
    tamper(copied, source, lambda file: file["episode_0"].attrs.__setitem__("seed", 5))
    replay = replay_source(dataset.recipe, source, copied)
    assert replay.drift is not None
    assert replay.drift.startswith("episode 0, step 0 ")


def forget_state(file: h5py.File) -> None:
    forget_seeds(file)
    for name in file:
        del file[name]["infos/qpos"]


def shorten_state(file: h5py.File) -> None:
    forget_seeds(file)
    for name in file:
        del file[name]["infos/qpos"]
        file[name]["infos/qpos"] = np.zeros((61, 1))


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (forget_state, "no seed is recorded, and no state"),
        (shorten_state, "the recorded state has 1 positions and 2 velocities, the environment 2"),
    ],
)
def test_missing_seeds_and_states_are_a_reason_and_no_error(
    dataset: SmallDataset, copied: Path, edit: Edit, reason: str
) -> None:
    source = published(dataset.recipe)
    tamper(copied, source, edit)
    replay = replay_source(dataset.recipe, source, copied)
    assert replay.outcome == "not replayable"
    assert reason in replay.sentence


def test_an_incomplete_state_cannot_start_a_replay(tmp_path: Path) -> None:
    recipe = small_recipe("fetch-reach", steps=3)
    source = recipe.sources[0].model_copy(update={"episodes": 1})
    collect_source(recipe, source, tmp_path, workers=1)
    tamper(tmp_path, source, forget_seeds)
    replay = replay_source(recipe, published(recipe), tmp_path)
    assert "mocap" in replay.sentence


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        (None, "names no environment"),
        (Environment(id="Elsewhere-v0"), "no environment 'Elsewhere-v0'"),
    ],
)
def test_an_unavailable_environment_is_a_reason(
    dataset: SmallDataset, environment: Environment | None, reason: str
) -> None:
    recipe = dataset.recipe.model_copy(update={"environment": environment})
    replay = replay_source(recipe, published(recipe), dataset.minari)
    assert (replay.outcome, replay.start) == ("not replayable", None)
    assert reason in replay.sentence


def test_an_environment_without_a_simulator_is_a_reason(
    dataset: SmallDataset, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Plain(gymnasium.Env[Any, Any]):
        """No MuJoCo in it."""

    monkeypatch.setattr("offline_gcrl.cards.replay.make_environment", lambda settings: Plain())
    source = published(dataset.recipe)
    tamper(copied, source, forget_seeds)
    assert "no MuJoCo state" in replay_source(dataset.recipe, source, copied).sentence


def test_the_result_as_a_dictionary_has_the_sentence_and_the_numbers() -> None:
    written = Replay("same", "state", 3, 60, 2.0e-7, recorded="3.1.0", installed="3.3.0").as_dict()
    assert written["sentence"] == (
        "3 episodes, 60 steps replayed from the recorded state: equal to the recording up to 2e-07; recorded with "
        "MuJoCo 3.1.0, but 3.3.0 is installed"
    )
    assert written["largest_difference"] == 2.0e-7
