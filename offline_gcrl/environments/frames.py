"""Images of states and of goals, rendered from positions of the simulator with goal markers hidden.

Data and evaluation use the same renderer, which has a model and a state of its own: an environment is only read.
"""

import atexit
import copy
from functools import lru_cache
from typing import Any

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from offline_gcrl.config import Camera, Environment, Images
from offline_gcrl.environments.cameras import from_above, names_marker, simplify, simulated
from offline_gcrl.environments.making import (
    GL_REMEDY,
    make_environment,
    prepare_rendering,
    seeded_episode,
)
from offline_gcrl.environments.twins import TwinRenderer
from offline_gcrl.support.errors import DataError, RenderingError, SettingsError

Frame = NDArray[np.uint8]
PULLS, STEPS_PER_PULL = 40, 20
"""How often the motion-capture body is moved towards a goal, and steps of the simulator after each move."""
LARGEST_PULL = 0.03
"""Largest distance of one move in metres: further jumps make the arm swing."""


class FrameRenderer:
    """Renders the states of an environment.

    Raises:
        RenderingError: there is no GL library, or it does not work.
        SettingsError: the environment has no MuJoCo model, or no such site.
    """

    def __init__(self, environment: Any, images: Images) -> None:
        original = simulated(environment)
        if original is None:
            raise SettingsError("images: the environment has no MuJoCo model to render")
        self.images = images
        self.model = copy.deepcopy(original.model)
        self.data = mujoco.MjData(self.model)
        hide_markers(self.model)
        simplify(self.model)
        self.camera = _camera(environment, original, images.camera)
        self.renderer = _renderer(self.model, images)
        atexit.register(self.close)  # Before the GL library ends itself.

    def frame(self, positions: ArrayLike) -> Frame:
        """The image of a state, (height, width, 3), given the positions of the simulator, (qpos,).

        Raises:
            DataError: the positions are of another model.
        """
        if np.shape(positions) != self.data.qpos.shape:
            raise DataError(
                f"images: a state has positions of shape {np.shape(positions)}, and the environment has {self.model.nq}"
            )
        self.data.qpos[:] = positions
        mujoco.mj_forward(self.model, self.data)
        self.renderer.update_scene(self.data, self.camera)
        frame: Frame = self.renderer.render()
        return frame

    def current(self, environment: Any) -> Frame:
        """The image of the current state of an environment with this model, (height, width, 3)."""
        return self.frame(_positions(environment))

    def goal(self, environment: Any, goal: NDArray[Any]) -> Frame:
        """The image of a state in which a goal, (goal,), is achieved; the rest is as in the current state."""
        how, positions = self.images.goal, _positions(environment).copy()
        assert how is not None  # Recorded images are not rendered.
        if how.site is not None:
            return self.frame(self._pulled(how.site, positions, goal))
        places = list(how.qpos or ())
        if len(places) != len(goal) or max(places) >= len(positions):
            raise SettingsError(
                f"images.goal.qpos: {places} are the places of {len(places)} of {len(positions)} positions, and goals have "
                f"{len(goal)} numbers"
            )
        positions[places] = goal
        return self.frame(positions)

    def _pulled(
        self, site: str, start: NDArray[np.float64], goal: NDArray[Any]
    ) -> NDArray[np.float64]:
        """Positions in which a site is at the goal: the motion-capture body pulls it there."""
        number = mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_SITE, site)
        if number < 0 or self.model.nmocap == 0:
            raise SettingsError(
                f"images.goal.site: the model has no site '{site}' that a motion-capture body moves"
            )
        self.data.qpos[:], self.data.qvel[:] = start, 0.0
        mujoco.mj_forward(self.model, self.data)
        _attach_motion_capture(self.model, self.data)
        for _ in range(PULLS):
            left = goal - self.data.site_xpos[number]
            shorter = LARGEST_PULL / max(LARGEST_PULL, float(np.linalg.norm(left)))
            self.data.mocap_pos[0] += left * shorter
            mujoco.mj_step(self.model, self.data, STEPS_PER_PULL)
        positions: NDArray[np.float64] = self.data.qpos.copy()
        return positions

    def close(self) -> None:
        """Free the GL context."""
        self.renderer.close()


def _positions(environment: Any) -> NDArray[np.float64]:
    """The positions of the simulator of an environment, (qpos,)."""
    simulator = simulated(environment)
    assert simulator is not None
    positions: NDArray[np.float64] = simulator.data.qpos
    return positions


def hide_markers(model: Any) -> None:
    """Make the objects that mark goals, and motion-capture bodies, invisible."""
    kinds = (
        (mujoco.mjtObj.mjOBJ_SITE, model.site_rgba, model.site_bodyid),
        (mujoco.mjtObj.mjOBJ_GEOM, model.geom_rgba, model.geom_bodyid),
    )
    for kind, colours, bodies in kinds:
        for number, body in enumerate(bodies):
            names = (
                mujoco.mj_id2name(model, kind, number) or "",
                mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_BODY, body) or "",
            )
            if names_marker(names) or model.body_mocapid[body] >= 0:
                colours[number, 3] = 0.0


def _attach_motion_capture(model: Any, data: Any) -> None:
    """Move motion-capture bodies to the bodies that they pull, as an action of the arm does first."""
    for first, second in zip(model.eq_obj1id, model.eq_obj2id, strict=True):
        for puller, pulled in ((first, second), (second, first)):
            number = model.body_mocapid[puller]
            if number >= 0:
                data.mocap_pos[number] = data.xpos[pulled]
                data.mocap_quat[number] = data.xquat[pulled]


Renderer = FrameRenderer | TwinRenderer


@lru_cache(maxsize=8)
def shared_renderer(environment: str, images: str) -> Renderer:
    """The renderer that this process shares, given the settings as JSON; GL contexts do not survive a fork."""
    settings = Images.model_validate_json(images)
    if settings.environment is not None:
        return TwinRenderer(settings)
    made = make_environment(Environment.model_validate_json(environment))
    with seeded_episode(made, 0):  # An episode that runs must not notice.
        made.reset(seed=0)  # Some environments have no model before it.
    return FrameRenderer(made, settings)


def _renderer(model: Any, images: Images) -> mujoco.Renderer:
    prepare_rendering()
    try:
        return mujoco.Renderer(model, images.height, images.width)
    except Exception as error:  # MuJoCo passes on any exception of the GL library.
        raise RenderingError(f"the GL library does not work ({error}); {GL_REMEDY}") from error


def _camera(environment: Any, original: Any, settings: Camera) -> mujoco.MjvCamera:
    """The environment's own camera, or one above a maze, with what the recipe sets."""
    camera = mujoco.MjvCamera()
    mujoco.mjv_defaultFreeCamera(original.model, camera)
    maze = getattr(environment.unwrapped, "maze", None)
    own = getattr(getattr(original, "mujoco_renderer", None), "default_cam_config", None) or {}
    chosen = own if maze is None else from_above(maze, original.model)
    for name, value in {**chosen, **settings.model_dump(exclude_none=True)}.items():
        if name == "lookat":
            camera.lookat[:] = value
        else:
            setattr(camera, name, value)
    return camera
