"""Rendering of environments: the camera, cheap settings, and whether the goal is visible."""

import math
from collections.abc import Iterable
from typing import Any

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

OUTER_WALL = 0.5
"""Width of the outer walls that is visible, in cells."""
NESTED = ("point_env", "ant_env")
"""Attributes in which maze environments store the environment that they draw."""
MARKERS = ("target", "goal")
"""Words in the names of objects that mark a goal."""


def prepare(environment: Any) -> None:
    """Set up rendering: no shadows and reflections, and a camera above the complete maze.

    Software renderers spend most of their time on shadows and reflections; AntMaze is drawn six times as fast without
    them. Call this before the first picture.
    """
    drawn = simulated(environment)
    if drawn is None:
        return
    simplify(drawn.model)
    maze = getattr(environment.unwrapped, "maze", None)
    if maze is not None:
        drawn.mujoco_renderer.default_cam_config = from_above(maze, drawn.model)


def simplify(model: Any) -> None:
    """Switch shadows and reflections off."""
    model.light_castshadow[:] = 0
    model.mat_reflectance[:] = 0.0


def shows_goal(environment: Any) -> bool:
    """Whether the model of the environment has an object with the name of a goal marker."""
    drawn = simulated(environment)
    if drawn is None:
        return False
    kinds = (
        (mujoco.mjtObj.mjOBJ_SITE, drawn.model.nsite),
        (mujoco.mjtObj.mjOBJ_BODY, drawn.model.nbody),
        (mujoco.mjtObj.mjOBJ_GEOM, drawn.model.ngeom),
    )
    names = [
        mujoco.mj_id2name(drawn.model, kind, number) or ""
        for kind, count in kinds
        for number in range(count)
    ]
    return names_marker(names)


def names_marker(names: Iterable[str]) -> bool:
    """Whether a name is that of an object that marks a goal."""
    return any(word in name.lower() for name in names for word in MARKERS)


def as_pixels(environment: Any, positions: ArrayLike, size: int) -> NDArray[np.float64] | None:
    """Where positions on the floor are in the last picture; call this after a picture was rendered.

    Args:
        environment: the environment that rendered it.
        positions: (n, 2), x and y.
        size: height and width of the picture in pixels.

    Returns:
        (n, 2), pixels from the left and from the top; None if the camera is unknown.
    """
    renderer = getattr(simulated(environment), "mujoco_renderer", None)
    scene = getattr(getattr(renderer, "viewer", None), "scn", None)
    if scene is None:
        return None
    left, right = scene.camera  # The eyes of a stereo camera, between which the picture is taken.
    eye, forward, up = (
        (np.array(getattr(left, name)) + np.array(getattr(right, name))) / 2
        for name in ("pos", "forward", "up")
    )
    half = left.frustum_top / left.frustum_near
    ways = np.pad(np.asarray(positions, dtype=np.float64), ((0, 0), (0, 1))) - eye
    depths = ways @ forward * half
    across, above = ways @ np.cross(forward, up) / depths, ways @ up / depths
    return np.stack([(1.0 + across) / 2, (1.0 - above) / 2], axis=1) * size


def simulated(environment: Any) -> Any | None:
    """The environment that has the MuJoCo model; None if it is not accessible."""
    base = environment.unwrapped
    for candidate in (*(getattr(base, name, None) for name in NESTED), base):
        if isinstance(getattr(candidate, "model", None), mujoco.MjModel):
            return candidate
    return None


def from_above(maze: Any, model: Any) -> dict[str, Any]:
    """A camera above the centre, at the height at which the longer side of the maze fills the picture."""
    cells = max(maze.map_length, maze.map_width) - 2 * (1 - OUTER_WALL)
    half = cells * maze.maze_size_scaling / 2
    height = maze.maze_height * maze.maze_size_scaling
    distance = half / math.tan(math.radians(model.vis.global_.fovy / 2)) + height
    return {"distance": distance, "elevation": -90.0, "azimuth": 90.0, "lookat": np.zeros(3)}
