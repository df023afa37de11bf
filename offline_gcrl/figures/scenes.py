"""The surroundings of the goals of a task, to scale: walls of a maze, a table, a held-out region."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offline_gcrl.config import Dataset, Region
from offline_gcrl.environments.making import shared_environment

Walls = Sequence[tuple[float, float, float]]
"""Wall cells of a maze: x and y of the lower left corner, and the side."""
Table = tuple[float, float, float, float]
"""A table seen from above: x and y of a corner, width and depth."""


@dataclass(frozen=True)
class Scene:
    """The surroundings of the goals, in units of the goals."""

    walls: Walls = ()
    table_top: Table | None = None
    held_out: Region | None = None
    """The region of goals that are held out from training."""


def dataset_scene(dataset: Dataset) -> Scene:
    """The scene of the evaluation environment; empty without one, or for suites of several tasks."""
    evaluation = dataset.recipes[0].evaluation
    if evaluation is None or len(dataset.recipes) > 1:
        return Scene()
    scene = environment_scene(shared_environment(evaluation.environment))
    return replace(scene, held_out=dataset.recipes[0].held_out)


def task_walls(dataset: Dataset) -> dict[str, Walls]:
    """Wall cells of the evaluation environment of each task that is a maze."""
    walls = {
        recipe.task: maze_walls(shared_environment(recipe.evaluation.environment))
        for recipe in dataset.recipes
        if recipe.evaluation
    }
    return {task: cells for task, cells in walls.items() if cells}


def environment_scene(environment: Any) -> Scene:
    """Walls or table of an environment. Resets the environment, because OGBench's arms have no model before."""
    environment.reset(seed=0)
    return Scene(maze_walls(environment), table_top(environment))


def maze_walls(environment: Any) -> Walls:
    """Wall cells of a maze of Gymnasium-Robotics or OGBench; empty for other environments."""
    maze = environment.unwrapped
    if hasattr(maze, "ij_to_xy"):
        cells, centre_of, size = maze.maze_map, maze.ij_to_xy, float(maze._maze_unit)
    elif hasattr(getattr(maze, "maze", None), "maze_map"):
        maze = maze.maze
        cells, centre_of, size = (
            maze.maze_map,
            maze.cell_rowcol_to_xy,
            float(maze.maze_size_scaling),
        )
    else:
        return []
    centres = [
        centre_of(np.array([row, column]))
        for row, line in enumerate(cells)
        for column, cell in enumerate(line)
        if cell == 1
    ]
    return [(float(x) - size / 2, float(y) - size / 2, size) for x, y in centres]


def free_positions(walls: Walls, per_cell: int) -> NDArray[np.float64]:
    """A grid of positions within a maze that are not in a wall, (n, 2); ``per_cell`` positions per side of a cell."""
    corners, size = np.array(walls)[:, :2], walls[0][2]
    low, cells = corners.min(0), np.round((corners.max(0) - corners.min(0)) / size).astype(int) + 1
    axes = [
        low[axis] + (np.arange(cells[axis] * per_cell) + 0.5) * size / per_cell for axis in (0, 1)
    ]
    grid = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
    is_wall = np.zeros(cells, dtype=bool)
    is_wall[tuple(np.round((corners - low) / size).astype(int).T)] = True
    places = ((grid - low) / size).astype(int)
    free: NDArray[np.float64] = grid[~is_wall[tuple(places.T)]]
    return free


def table_top(environment: Any) -> Table | None:
    """The table of an environment, from its MuJoCo model (Fetch); None for environments without one."""
    model: Any = getattr(environment.unwrapped, "model", None)
    if model is None:
        return None
    names = [model.body(number).name for number in range(model.nbody)]
    table = next((number for number, name in enumerate(names) if name.startswith("table")), None)
    if table is None:
        return None
    shape = model.body_geomadr[table]
    (x, y), (half_x, half_y) = model.body_pos[table][:2], model.geom_size[shape][:2]
    return float(x - half_x), float(y - half_y), float(2 * half_x), float(2 * half_y)
