"""The behaviours that generated the OGBench data, with the oracles of its package.

The procedure and its constants are those of the benchmark's data generation (Park et al. 2025, ``data_gen_scripts``:
``generate_locomaze.py``, ``generate_manipspace.py`` and ``commands.sh``). The package is an optional extra and is
imported only for its environments.
"""

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from offline_gcrl.support.errors import SettingsError

Cell = tuple[int, int]

BEHAVIOURS = ("navigate", "stitch")
STITCH_CELLS = 4
"""``stitch``: distance from start to goal in cells, so short that far goals need several episodes combined."""

STACKING = {
    "single": (0.0, 0.0),
    "double": (0.0, 0.25),
    "triple": (0.05, 0.35),
    "quadruple": (0.1, 0.5),
    "octuple": (0.0, 0.35),
}
"""Bounds of the probability that an episode puts a cube onto another one, by the number of cubes."""

CUBE_OF_SCENE = slice(14, 17)
"""Position of the cube in qpos of the scene."""


class OGBenchMaze:
    """Moves at full speed from the centre of a cell to the next on a shortest path to a goal.

    ``navigate`` draws a new goal when the goal is reached; ``stitch`` moves to a nearby goal and stays there. The
    collector adds the action noise.
    """

    def __init__(
        self,
        environment: gymnasium.Env[Any, Any],
        random: np.random.Generator,
        behaviour: str = "navigate",
    ) -> None:
        self.maze: Any = _maze(environment, behaviour)
        self.random, self.behaviour = random, behaviour
        self.next_centres: dict[tuple[Cell, Cell], NDArray[Any]] = {}

    @staticmethod
    def reset_options(
        environment: gymnasium.Env[Any, Any],
        random: np.random.Generator,
        behaviour: str = "navigate",
    ) -> dict[str, Any]:
        """Options of ``reset`` with the cells of the start and of the first goal."""
        maze = _maze(environment, behaviour)
        cells = free_cells(maze.maze_map)
        start = _any(cells, random)
        goals = junctions(maze.maze_map) if behaviour == "navigate" else _nearby(maze, start)
        goal = _any(goals, random) if goals else start
        return {"task_info": {"init_ij": start, "goal_ij": goal}}

    def act(self, observation: Any, info: dict[str, Any]) -> NDArray[Any]:
        """A direction of length 1, shape (2,)."""
        if self.behaviour == "navigate" and info.get("success"):
            cell = _any(junctions(self.maze.maze_map), self.random)
            self.maze.set_goal(goal_xy=self.maze.add_noise(self.maze.ij_to_xy(cell)))
        way = self._next_centre() - self.maze.get_xy()
        direction: NDArray[Any] = way / (np.linalg.norm(way) + 1e-6)
        return direction

    def _next_centre(self) -> NDArray[Any]:
        """Next subgoal of the oracle, cached per pair of cells, as it depends on nothing else."""
        place, goal = self.maze.get_xy(), self.maze.cur_goal_xy
        cells = (self.maze.xy_to_ij(place), self.maze.xy_to_ij(goal))
        if cells not in self.next_centres:
            self.next_centres[cells], _ = self.maze.get_oracle_subgoal(place, goal)
        return self.next_centres[cells]


class OGBenchPlay:
    """Moves objects to targets, both drawn by the environment, as in the ``play`` data of the arms.

    Each move follows a plan that is computed at its start, with noise that is correlated in time. Recipes therefore
    add no noise in the collector.
    """

    def __init__(
        self,
        environment: gymnasium.Env[Any, Any],
        random: np.random.Generator,
        noise: float = 0.1,
        noise_smoothing: float = 0.5,
    ) -> None:
        self.arm = _arm(environment)
        self.oracles = _plan_oracles(environment, noise=noise, noise_smoothing=noise_smoothing)
        self.stacking = random.uniform(*STACKING.get(self.arm._env_type, (0.5, 0.5)))
        self.oracle: Any = None

    @staticmethod
    def accepts(environment: gymnasium.Env[Any, Any], infos: dict[str, NDArray[Any]]) -> bool:
        """Whether an episode is recorded; episodes of the scene are rejected if the cube is out of sight."""
        has_drawer = getattr(environment.unwrapped, "_env_type", None) == "scene"
        return not has_drawer or cube_in_sight(infos["qpos"][:, CUBE_OF_SCENE])

    def act(self, observation: Any, info: dict[str, Any]) -> NDArray[Any]:
        """A normalised action, shape (5,): displacement, rotation and opening of the gripper."""
        if self.oracle is None:
            self._begin(observation, info)
        elif self.oracle.done:
            self._begin(*self.arm.set_new_target(p_stack=self.stacking))
        action: NDArray[Any] = self.oracle.select_action(observation, info)
        return action

    def _begin(self, observation: Any, info: dict[str, Any]) -> None:
        """Plan the move to the target that the environment has drawn."""
        self.oracle = self.oracles[info["privileged/target_task"]]
        self.oracle.reset(observation, info)


def free_cells(walls: NDArray[Any]) -> list[Cell]:
    """Cells without a wall, in row order; ``walls`` is 1 at walls and 0 elsewhere."""
    return [(int(row), int(column)) for row, column in np.argwhere(walls == 0)]


def junctions(walls: NDArray[Any]) -> list[Cell]:
    """Free cells that are not in the middle of a straight corridor; ``navigate`` draws its goals from them."""
    return [cell for cell in free_cells(walls) if not _in_corridor(walls, cell)]


def cube_in_sight(places: NDArray[Any]) -> bool:
    """Whether the cube of a scene was always on the table or in the drawer; otherwise goals would be ambiguous.

    Args:
        places: positions of the cube, (steps, 3), in metres.
    """
    _, aside, height = places.T
    in_drawer = (height >= 0.06) & (height <= 0.08)
    return not ((aside >= 0.29) | ((aside <= -0.3) & ~in_drawer)).any()


def _maze(environment: gymnasium.Env[Any, Any], behaviour: str) -> Any:
    maze = environment.unwrapped
    if not hasattr(maze, "get_oracle_subgoal"):
        name = environment.spec.id if environment.spec else "this environment"
        raise SettingsError(f"'ogbench_maze' needs a maze of OGBench, and {name} is not one")
    if behaviour not in BEHAVIOURS:
        raise SettingsError(f"'ogbench_maze' has behaviours {BEHAVIOURS}, not '{behaviour}'")
    return maze


def _arm(environment: gymnasium.Env[Any, Any]) -> Any:
    arm = environment.unwrapped
    if getattr(arm, "_mode", None) != "data_collection":
        raise SettingsError(
            "'ogbench_play' needs a cube, scene or puzzle environment of OGBench with "
            "'mode: data_collection' in environment.kwargs"
        )
    return arm


def _any(cells: list[Cell], random: np.random.Generator) -> Cell:
    return cells[random.integers(len(cells))]


def _in_corridor(walls: NDArray[Any], cell: Cell) -> bool:
    row, column = cell
    beside = [walls[row - 1, column], walls[row + 1, column]]
    before = [walls[row, column - 1], walls[row, column + 1]]
    return [beside, before] in ([[0, 0], [1, 1]], [[1, 1], [0, 0]])


def _nearby(maze: Any, start: Cell) -> list[Cell]:
    """Cells at a distance of ``STITCH_CELLS`` from the start along a shortest path."""
    place = np.array(maze.ij_to_xy(start))
    _, distances = maze.get_oracle_subgoal(place, place)
    return [cell for cell in free_cells(maze.maze_map) if distances[cell] == STITCH_CELLS]


def _plan_oracles(environment: gymnasium.Env[Any, Any], **settings: float) -> dict[str, Any]:
    """Planning oracles of the package by the kind of object that they move."""
    from ogbench.manipspace.envs.puzzle_env import PuzzleEnv
    from ogbench.manipspace.oracles.plan.button_plan import ButtonPlanOracle
    from ogbench.manipspace.oracles.plan.cube_plan import CubePlanOracle
    from ogbench.manipspace.oracles.plan.drawer_plan import DrawerPlanOracle
    from ogbench.manipspace.oracles.plan.window_plan import WindowPlanOracle

    only_buttons = isinstance(environment.unwrapped, PuzzleEnv)
    return {
        "cube": CubePlanOracle(env=environment, **settings),
        "button": ButtonPlanOracle(env=environment, gripper_always_closed=only_buttons, **settings),
        "drawer": DrawerPlanOracle(env=environment, **settings),
        "window": WindowPlanOracle(env=environment, **settings),
    }
