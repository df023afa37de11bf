"""Replaying recorded actions: whether the simulator that is installed still makes what the data holds.

An episode starts from the seed of its recorded reset, or else from the simulator's state that it recorded
(``qpos``, ``qvel``); its actions must then lead to its observations. Where the physics have changed since, policies
are trained on one simulator and judged in another: that is said, with the versions of MuJoCo.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import gymnasium
import minari
import mujoco
import numpy as np
from numpy.typing import NDArray

from offline_gcrl.config import Dataset, Part, Recipe, Selection, Source
from offline_gcrl.environments.making import make_environment, seeded_episode
from offline_gcrl.environments.selection import INFOS, as_tree, select
from offline_gcrl.episodes.sources import open_source, taken_episodes
from offline_gcrl.support.errors import OfflineGCRLError

EPISODES, STEPS = 3, 500
"""How many episodes of a source are replayed, and how many steps of each at most."""
TOLERANCE = 1e-5
"""Largest difference that counts as the same: of numbers beyond 1, as a share of them."""

Raw = Mapping[str, Any]
Facts = Mapping[str, Any]
"""What a Minari dataset notes of an episode: of its reset the ``seed`` and the ``options``."""
Start = Literal["seed", "state"]


@dataclass(frozen=True)
class Replay:
    """What came of replaying a source."""

    outcome: Literal["same", "drifts", "not replayable"]
    start: str | None = None
    """From the ``seed`` of the recorded reset, or from the recorded ``state`` of the simulator; or both,
    for what was cut into several episodes has the seed of its first alone."""
    episodes: int = 0
    steps: int = 0
    largest_difference: float = 0.0
    """Of numbers beyond 1, as a share of them."""
    drift: str | None = None
    """Where the first difference beyond the tolerance is."""
    reason: str | None = None
    """Why it cannot be replayed."""
    recorded: str | None = None
    """Version of MuJoCo that the data was recorded with, where it is known."""
    installed: str = ""

    @property
    def sentence(self) -> str:
        """What a person reads of it."""
        versions = _versions(self.recorded, self.installed)
        if self.outcome == "not replayable":
            other = self.recorded not in (None, self.installed)
            return f"not replayable: {self.reason}" + (f"; {versions}" if other else "")
        count = "1 episode" if self.episodes == 1 else f"{self.episodes} episodes"
        what = f"{count}, {self.steps:,} steps replayed from the recorded {self.start}"
        if self.outcome == "drifts":
            return f"{what}: drifts at {self.drift}; {versions}"
        how = f"to {self.largest_difference:.0e}" if self.largest_difference else "exactly"
        return f"{what}: as recorded, {how}; {versions}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "sentence": self.sentence}


class _NotReplayableError(Exception):
    """The reason why a source cannot be replayed."""


def replay_dataset(dataset: Dataset, root: Path) -> dict[str, Replay]:
    """Replay the first episodes of each source of a dataset, found below the Minari root."""
    return {
        source.dataset: replay_source(recipe, source, root)
        for recipe in dataset.recipes
        for source in recipe.sources
    }


def replay_source(recipe: Recipe, source: Source, root: Path) -> Replay:
    """Replay the first episodes of a source; whatever prevents it is the reason, not an error."""
    data = open_source(source, root)
    versions: dict[str, Any] = {"recorded": recorded_mujoco(data), "installed": version("mujoco")}
    try:
        with _environment(recipe) as environment:
            return _replay_episodes(recipe, source, data, environment, versions)
    except _NotReplayableError as reason:
        return Replay("not replayable", reason=str(reason), **versions)


def recorded_mujoco(data: minari.MinariDataset) -> str | None:
    """The version of MuJoCo among the requirements that a Minari dataset names; None if it is not."""
    for requirement in data.storage.metadata.get("requirements") or []:
        name, _, number = str(requirement).partition("==")
        if name.strip().lower() == "mujoco" and number:
            return number.strip()
    return None


@contextmanager
def _environment(recipe: Recipe) -> Iterator[gymnasium.Env[Any, Any]]:
    """The collecting environment, freshly made: what an earlier episode left in it would hide a drift."""
    if recipe.environment is None:
        raise _NotReplayableError("its recipe names no environment")
    try:
        environment = make_environment(recipe.environment)
    except OfflineGCRLError as error:
        raise _NotReplayableError(str(error)) from None
    try:
        yield environment
    finally:
        environment.close()


def _replay_episodes(
    recipe: Recipe,
    source: Source,
    data: minari.MinariDataset,
    environment: gymnasium.Env[Any, Any],
    versions: dict[str, Any],
) -> Replay:
    numbers = range(min(EPISODES, taken_episodes(source, data)))
    facts = data.storage.get_episode_metadata(numbers)
    starts: list[Start] = []
    steps, largest, reason = 0, 0.0, ""
    for number, raw, fact in zip(numbers, data.storage.get_episodes(numbers), facts, strict=True):
        try:
            start = _start_method(recipe, source, raw, fact, environment)
        except _NotReplayableError as error:  # Of an episode that was cut, say: others may be.
            reason = reason or str(error)
            continue
        starts.append(start)
        differences = _differences(recipe, raw, fact if start == "seed" else None, environment)
        steps += len(differences) - 1
        largest = max(largest, float(differences.max()))
        if largest > TOLERANCE:
            first = int((differences > TOLERANCE).argmax())
            drift = f"episode {number}, step {first} (largest difference {largest:.2g})"
            return Replay("drifts", _joined(starts), len(starts), steps, largest, drift, **versions)
    if not starts:
        raise _NotReplayableError(reason)
    return Replay("same", _joined(starts), len(starts), steps, largest, **versions)


def _joined(starts: list[Start]) -> str:
    return " and ".join(sorted(set(starts)))


def _start_method(
    recipe: Recipe,
    source: Source,
    raw: Raw,
    facts: Facts,
    environment: gymnasium.Env[Any, Any],
) -> Start:
    """How an episode can be started again: by its seed if that gives its first observation.

    Raises:
        _NotReplayableError: neither by seed nor by state.
    """
    seed = facts.get("seed")
    if seed is not None:
        known = source.collect is not None  # Made here: if it starts elsewhere, that is the drift.
        if known or _differences(recipe, raw, facts, environment, 0)[0] <= TOLERANCE:
            return "seed"
    reason = _state_start_problem(raw, environment)
    if reason is None:
        return "state"
    if seed is None:
        raise _NotReplayableError(f"no seed is recorded, and {reason}")
    raise _NotReplayableError(f"a reset by its seed starts elsewhere, and {reason}")


def _state_start_problem(raw: Raw, environment: gymnasium.Env[Any, Any]) -> str | None:
    """Why the recorded infos are not the whole state of the simulator; None if they are."""
    environment.reset(seed=0)  # OGBench's arms have no model before.
    model = getattr(environment.unwrapped, "model", None)
    infos = raw["infos"] or {}
    if model is None:
        return "the environment shows no MuJoCo state to set"
    if not {"qpos", "qvel"} <= set(infos):
        return "no state (qpos, qvel) is recorded"
    if (infos["qpos"].shape[1], infos["qvel"].shape[1]) != (model.nq, model.nv):
        return (
            f"the recorded state has {infos['qpos'].shape[1]} positions and {infos['qvel'].shape[1]} "
            f"velocities, the environment {model.nq} and {model.nv}"
        )
    if model.nmocap or model.na:
        return "qpos and qvel are not the whole state: the model has mocap bodies or activations"
    return None


def _differences(
    recipe: Recipe,
    raw: Raw,
    reset: Facts | None,
    environment: gymnasium.Env[Any, Any],
    steps: int = STEPS,
) -> NDArray[np.float64]:
    """Largest difference between what is recorded and what is replayed, at each step, (steps + 1,).

    Started by a recorded ``reset``, all that is observed is compared. Started by a state (None), the environment's choice of
    goals is another, and only what the recipe calls observation and achieved goal is; of the first
    state nothing is seen, so its difference is 0.
    """
    actions = raw["actions"][:steps]
    rows = len(raw["actions"]) + 1
    tree = as_tree(raw["observations"], raw["infos"])
    selection = (
        _all_keys(tree) if reset is not None else recipe.goal.observation + recipe.goal.achieved
    )
    try:
        recorded = select(tree, selection, rows=rows)[: len(actions) + 1]
        seen = [
            select(as_tree(*shown), selection)
            for shown in _replayed_steps(environment, actions, reset, raw["infos"])
        ]
    except OfflineGCRLError as error:
        raise _NotReplayableError(str(error)) from None
    first = recorded[:1] if reset is None else np.empty((0, recorded.shape[1]))
    replayed = np.concatenate([first, np.stack(seen)]) if seen else first
    scale = np.maximum(1.0, np.abs(recorded))
    differences: NDArray[np.float64] = (np.abs(recorded - replayed) / scale).max(1)
    return np.nan_to_num(differences, nan=np.inf)


def _all_keys(tree: Mapping[str, Any]) -> Selection:
    """All keys of an observation."""
    return tuple(Part(key=key) for key in sorted(tree) if key != INFOS)


def _replayed_steps(
    environment: gymnasium.Env[Any, Any], actions: Any, reset: Facts | None, infos: Any
) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Observation and info of the reset, if it is the recorded one, and of each step."""
    seed = 0 if reset is None else int(reset["seed"])
    with seeded_episode(environment, seed):
        shown = environment.reset(seed=seed, options=reset.get("options") if reset else None)
        if reset is None:
            _set_state(environment, infos["qpos"][0], infos["qvel"][0])
        else:
            yield shown
        for action in actions:
            observation, _, _, _, info = environment.step(action)
            yield observation, info


def _set_state(
    environment: gymnasium.Env[Any, Any], qpos: NDArray[Any], qvel: NDArray[Any]
) -> None:
    simulator: Any = environment.unwrapped
    mujoco.mj_resetData(simulator.model, simulator.data)
    simulator.data.qpos[:], simulator.data.qvel[:] = qpos, qvel
    mujoco.mj_forward(simulator.model, simulator.data)


def _versions(recorded: str | None, installed: str) -> str:
    if recorded is None:
        return f"recorded with an unknown MuJoCo, {installed} is installed"
    if recorded == installed:
        return f"MuJoCo {installed}, then as now"
    return f"recorded with MuJoCo {recorded}, {installed} is installed"
