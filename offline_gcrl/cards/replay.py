"""Replay check: whether the installed simulator reproduces the recorded data.

An episode is started from the seed of its recorded reset, or else from its recorded simulator state (``qpos``, ``qvel``).
Its actions must then lead to its observations. If they do not, the physics have changed since the data was recorded, and
policies are trained on one simulator and evaluated in another. The result names the versions of MuJoCo.
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
from offline_gcrl.environments.selection import INFOS, as_tree, select, select_live
from offline_gcrl.episodes.sources import open_source, taken_episodes
from offline_gcrl.support.errors import OfflineGCRLError

EPISODES, STEPS = 3, 500
"""Number of episodes of a source that are replayed, and maximal number of steps of each."""
TOLERANCE = 1e-5
"""Largest difference that counts as equal: absolute for values up to 1, and relative above."""

Raw = Mapping[str, Any]
Facts = Mapping[str, Any]
"""Minari's metadata of an episode, with the ``seed`` and ``options`` of its reset."""
Start = Literal["seed", "state"]


@dataclass(frozen=True)
class Replay:
    """The result of replaying a source."""

    outcome: Literal["same", "drifts", "not replayable"]
    start: str | None = None
    """How episodes were started: from the ``seed`` of the recorded reset, from the recorded ``state`` of the simulator,
    or both. If an episode was cut into several ones, only the first of them has a seed."""
    episodes: int = 0
    steps: int = 0
    largest_difference: float = 0.0
    """Absolute for values up to 1, and relative above."""
    drift: str | None = None
    """The position of the first difference above the tolerance."""
    reason: str | None = None
    """Why the source cannot be replayed."""
    recorded: str | None = None
    """Version of MuJoCo that the data was recorded with; None if it is unknown."""
    installed: str = ""

    @property
    def sentence(self) -> str:
        """The result as text."""
        versions = _versions(self.recorded, self.installed)
        if self.outcome == "not replayable":
            other = self.recorded not in (None, self.installed)
            return f"not replayable: {self.reason}" + (f"; {versions}" if other else "")
        count = "1 episode" if self.episodes == 1 else f"{self.episodes} episodes"
        what = f"{count}, {self.steps:,} steps replayed from the recorded {self.start}"
        if self.outcome == "drifts":
            return f"{what}: drifts at {self.drift}; {versions}"
        limit = f" up to {self.largest_difference:.0e}" if self.largest_difference else ""
        return f"{what}: equal to the recording{limit}; {versions}"

    def as_dict(self) -> dict[str, Any]:
        """All fields and the sentence, for JSON."""
        return {**asdict(self), "sentence": self.sentence}


class _NotReplayableError(Exception):
    """An episode or a source cannot be replayed; the message is the reason."""


def replay_dataset(dataset: Dataset, root: Path) -> dict[str, Replay]:
    """Replay the first episodes of each source of a dataset; ``root`` is the Minari root."""
    return {
        source.dataset: replay_source(recipe, source, root)
        for recipe in dataset.recipes
        for source in recipe.sources
    }


def replay_source(recipe: Recipe, source: Source, root: Path) -> Replay:
    """Replay the first episodes of a source. If that is impossible, the result has the reason, and no error is raised."""
    data = open_source(source, root)
    versions: dict[str, Any] = {"recorded": recorded_mujoco(data), "installed": version("mujoco")}
    try:
        with _environment(recipe) as environment:
            return _replay_episodes(recipe, source, data, environment, versions)
    except _NotReplayableError as reason:
        return Replay("not replayable", reason=str(reason), **versions)


def recorded_mujoco(data: minari.MinariDataset) -> str | None:
    """The version of MuJoCo in the requirements of a Minari dataset; None if it is unknown."""
    for requirement in data.storage.metadata.get("requirements") or []:
        name, _, number = str(requirement).partition("==")
        if name.strip().lower() == "mujoco" and number:
            return number.strip()
    return None


@contextmanager
def _environment(recipe: Recipe) -> Iterator[gymnasium.Env[Any, Any]]:
    """A new instance of the collecting environment, because state of earlier episodes could hide a drift."""
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
        except _NotReplayableError as error:  # Other episodes may be replayable.
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
    """How an episode can be started again: by its seed if that gives its first observation, else by its state.

    Raises:
        _NotReplayableError: the episode can be started neither by seed nor by state.
    """
    seed = facts.get("seed")
    if seed is not None:
        # For data that is collected here, another first observation is a drift.
        known = source.collect is not None
        if known or _differences(recipe, raw, facts, environment, 0)[0] <= TOLERANCE:
            return "seed"
    reason = _state_start_problem(raw, environment)
    if reason is None:
        return "state"
    if seed is None:
        raise _NotReplayableError(f"no seed is recorded, and {reason}")
    raise _NotReplayableError(f"a reset by its seed starts elsewhere, and {reason}")


def _state_start_problem(raw: Raw, environment: gymnasium.Env[Any, Any]) -> str | None:
    """Why the recorded infos are not the complete state of the simulator; None if they are."""
    environment.reset(seed=0)  # OGBench's arms have no model before a reset.
    model = getattr(environment.unwrapped, "model", None)
    infos = raw["infos"] or {}
    if model is None:
        return "the environment has no MuJoCo state that could be set"
    if not {"qpos", "qvel"} <= set(infos):
        return "no state (qpos, qvel) is recorded"
    if (infos["qpos"].shape[1], infos["qvel"].shape[1]) != (model.nq, model.nv):
        return (
            f"the recorded state has {infos['qpos'].shape[1]} positions and {infos['qvel'].shape[1]} "
            f"velocities, the environment {model.nq} and {model.nv}"
        )
    if model.nmocap or model.na:
        return "qpos and qvel are not the complete state: the model has mocap bodies or activations"
    return None


def _differences(
    recipe: Recipe,
    raw: Raw,
    reset: Facts | None,
    environment: gymnasium.Env[Any, Any],
    steps: int = STEPS,
) -> NDArray[np.float64]:
    """The largest difference between recorded and replayed values at each step, (steps + 1,).

    If an episode is started by its recorded ``reset``, complete observations are compared. If it is started by its state
    (``reset`` is None), the environment chooses another goal, so only the recipe's observation and achieved goal are
    compared. The first state is not observed in that case, and its difference is 0.
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
            select_live(as_tree(*shown), selection)
            for shown in _replayed_steps(environment, actions, reset, raw["infos"])
        ]
    except OfflineGCRLError as error:
        raise _NotReplayableError(str(error)) from None
    if seen and seen[0].size != recorded.shape[1]:
        raise _NotReplayableError(
            f"the recorded observation has {recorded.shape[1]} numbers, and that of the environment {seen[0].size}"
        )
    first = recorded[:1] if reset is None else np.empty((0, recorded.shape[1]))
    replayed = np.concatenate([first, np.stack(seen)]) if seen else first
    scale = np.maximum(1.0, np.abs(recorded))
    differences: NDArray[np.float64] = (np.abs(recorded - replayed) / scale).max(1)
    return np.nan_to_num(differences, nan=np.inf)


def _all_keys(tree: Mapping[str, Any]) -> Selection:
    """A selection of all keys of an observation."""
    return tuple(Part(key=key) for key in sorted(tree) if key != INFOS)


def _replayed_steps(
    environment: gymnasium.Env[Any, Any], actions: Any, reset: Facts | None, infos: Any
) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Observation and info of each step; also those of the reset, if it is the recorded one."""
    seed = 0 if reset is None else int(reset["seed"])
    with seeded_episode(environment, seed):
        first = environment.reset(seed=seed, options=reset.get("options") if reset else None)
        if reset is None:
            _set_state(environment, infos["qpos"][0], infos["qvel"][0])
        else:
            yield first
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
        return f"recorded with an unknown version of MuJoCo, {installed} is installed"
    if recorded == installed:
        return f"recorded with MuJoCo {recorded}, which is installed"
    return f"recorded with MuJoCo {recorded}, but {installed} is installed"
