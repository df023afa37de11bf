"""How an environment is looked at for a video: the camera, cheap rendering, and whether its goal shows."""

import math
from typing import Any

import mujoco
import numpy as np

OUTER_WALL = 0.5  # How much of the outer walls is seen, in cells.
NESTED = ("point_env", "ant_env")
"""Where maze environments keep the environment that they draw."""
MARKERS = ("target", "goal")
"""Words in the names of what environments draw at a goal."""


def prepare(environment: Any) -> None:
    """Before the first picture: mazes from straight above and whole; no shadows and reflections.

    Software renderers spend most of their time on those (AntMaze is drawn six times as fast without).
    """
    drawn = _drawn(environment)
    if drawn is None:
        return
    drawn.model.light_castshadow[:] = 0
    drawn.model.mat_reflectance[:] = 0.0
    maze = getattr(environment.unwrapped, "maze", None)
    if maze is not None:
        drawn.mujoco_renderer.default_cam_config = _from_above(maze, drawn.model)


def shows_goal(environment: Any) -> bool:
    """Whether something in the environment's model is named as the mark of a goal."""
    drawn = _drawn(environment)
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
    return any(word in name.lower() for name in names for word in MARKERS)


def _drawn(environment: Any) -> Any | None:
    """The environment that has the MuJoCo model; none where it is hidden."""
    base = environment.unwrapped
    for candidate in (*(getattr(base, name, None) for name in NESTED), base):
        if isinstance(getattr(candidate, "model", None), mujoco.MjModel):
            return candidate
    return None


def _from_above(maze: Any, model: Any) -> dict[str, Any]:
    """A camera so high over the middle that the maze fills the picture along its longer side."""
    cells = max(maze.map_length, maze.map_width) - 2 * (1 - OUTER_WALL)
    half = cells * maze.maze_size_scaling / 2
    height = maze.maze_height * maze.maze_size_scaling
    distance = half / math.tan(math.radians(model.vis.global_.fovy / 2)) + height
    return {"distance": distance, "elevation": -90.0, "azimuth": 90.0, "lookat": np.zeros(3)}
