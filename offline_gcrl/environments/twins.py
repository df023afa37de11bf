"""Images that a second environment with the same states renders, with its own camera, colours and shadows.

OGBench has a visual environment for each arm and each maze of an ant: the same simulator with other colours and a camera.
"""

import atexit
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from offline_gcrl.config import Images
from offline_gcrl.environments.cameras import simulated
from offline_gcrl.environments.making import make_environment, prepare_rendering, seeded_episode
from offline_gcrl.support.errors import DataError, RenderingError, SettingsError

Frame = NDArray[np.uint8]
POSITIONS = "qpos"
"""The info that contains the positions of the simulator."""
RENDERERS = ("_renderer", "custom_renderer")
"""Attributes in which environments of OGBench store the renderer that must be closed before the GL library ends."""


class TwinRenderer:
    """Renders states with another environment, which is set to them; ``check_environments`` checks that it can be.

    Raises:
        RenderingError: there is no GL library, or it does not work.
        SettingsError: the environment cannot be created.
    """

    def __init__(self, images: Images) -> None:
        prepare_rendering()
        assert images.environment is not None
        self.images, self.name = images, images.environment.id
        size = {"height": images.height, "width": images.width}
        made = make_environment(images.environment, **size)
        self.twin: Any = made.unwrapped
        with seeded_episode(made, 0):  # An episode that runs must not notice.
            made.reset(seed=0)
        infos = _infos(self.twin) if images.state else {}
        self.further = {name: np.asarray(infos[name]) for name in images.state}
        atexit.register(self.close)

    def frame(self, state: ArrayLike) -> Frame:
        """The image of a state, (height, width, 3), given the positions and the infos of ``images.state`` as one vector.

        Raises:
            DataError: it has another number of numbers.
            RenderingError: the environment does not render images of this size.
        """
        values, model = np.asarray(state, dtype=np.float64), simulated(self.twin).model  # type: ignore[union-attr]
        sizes = [model.nq, *(each.size for each in self.further.values())]
        if values.shape != (sum(sizes),):
            raise DataError(
                f"a state has {values.size} numbers, and {self.name} takes {sum(sizes)} (images.environment, images.state)"
            )
        positions, *others = np.split(values, np.cumsum(sizes)[:-1])
        further = {
            name: each.astype(kind.dtype)
            for each, (name, kind) in zip(others, self.further.items(), strict=True)
        }
        self.twin.set_state(positions, np.zeros(model.nv), **further)
        frame: Frame = self.twin.render()
        if frame.shape != self.images.shape:
            raise RenderingError(
                f"{self.name} renders images of shape {frame.shape}, expected {self.images.shape}; set images.height and "
                "images.width"
            )
        return frame

    def current(self, environment: Any) -> Frame:
        """The image of the current state of an environment with these states, (height, width, 3)."""
        return self.frame(self._state(simulated(environment).data.qpos, environment))  # type: ignore[union-attr]

    def goal(self, environment: Any, goal: NDArray[Any]) -> Frame:
        """The image of a state in which a goal, (goal,), is achieved.

        Raises:
            SettingsError: the environment has no state of its goal, or the goal has too few numbers.
        """
        how = self.images.goal
        assert how is not None  # Images of an environment have a way to show goals.
        if how.reset:
            infos = getattr(environment.unwrapped, "goal_state", None)
            if infos is None:
                raise SettingsError(
                    "images.goal.reset: the environment has no state of its goal, which the arms of OGBench have after "
                    "'reset'; set images.goal.qpos"
                )
            return self.frame(_joined(infos, (POSITIONS, *self.images.state)))
        if how.qpos is None or len(goal) < len(how.qpos):
            raise SettingsError(
                f"images.goal: {self.name} shows goals with 'reset: true', or with 'qpos', of at most {len(goal)} positions"
            )
        positions = simulated(environment).data.qpos.copy()  # type: ignore[union-attr]
        positions[list(how.qpos)] = goal[: len(how.qpos)]
        return self.frame(self._state(positions, environment))

    def _state(self, positions: NDArray[np.float64], environment: Any) -> NDArray[np.float64]:
        """Positions with the further infos of the current state of an environment."""
        if not self.images.state:
            return positions
        return np.concatenate(
            [positions, _joined(_infos(environment.unwrapped), self.images.state)]
        )

    def close(self) -> None:
        """Free the GL context."""
        for name in RENDERERS:
            renderer = getattr(self.twin, name, None)
            if renderer is not None:
                renderer.close()


def _infos(environment: Any) -> dict[str, Any]:
    """The infos of the current state of an arm of OGBench."""
    infos: dict[str, Any] = environment.compute_ob_info()
    return infos


def _joined(infos: dict[str, Any], names: tuple[str, ...]) -> NDArray[np.float64]:
    """Infos as one vector."""
    return np.concatenate([np.asarray(infos[name], dtype=np.float64).reshape(-1) for name in names])
