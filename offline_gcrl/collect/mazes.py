"""Scripted demonstrator for mazes."""

from collections import deque
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from offline_gcrl.support.errors import SettingsError

Cell = tuple[int, int]


class MazeWaypointDemonstrator:
    """Plans waypoints by breadth-first search over the cells of a maze, and follows them with a PD controller.

    The controller is that of the published ``D4RL/pointmaze`` data (p = 10, d = -1, waypoint radius 0.1).
    """

    def __init__(
        self,
        environment: gymnasium.Env[Any, Any],
        random: np.random.Generator,
        p_gain: float = 10.0,
        d_gain: float = -1.0,
        radius: float = 0.1,
    ) -> None:
        self.maze: Any = getattr(environment.unwrapped, "maze", None)
        if self.maze is None:
            raise SettingsError(
                "'maze_waypoint' needs a maze, and "
                f"{environment.spec.id if environment.spec else 'this environment'} has none"
            )
        self.space = environment.action_space
        self.p_gain, self.d_gain, self.radius = p_gain, d_gain, radius
        self.goal: NDArray[Any] | None = None
        self.waypoints: deque[NDArray[Any]] = deque()

    def act(self, observation: Any, info: dict[str, Any]) -> NDArray[Any]:
        """An action within bounds, shape (2,): the force on the point mass."""
        position, velocity = observation["observation"][:2], observation["observation"][2:4]
        if self.goal is None or not np.array_equal(self.goal, observation["desired_goal"]):
            self.goal = observation["desired_goal"].copy()
            self.waypoints = deque(self._route(position, self.goal))
        if len(self.waypoints) > 1 and np.linalg.norm(position - self.waypoints[0]) < self.radius:
            self.waypoints.popleft()
        action = self.p_gain * (self.waypoints[0] - position) + self.d_gain * velocity
        assert isinstance(self.space, gymnasium.spaces.Box)
        clipped: NDArray[Any] = np.clip(action, self.space.low, self.space.high)
        return clipped

    def _route(self, start: NDArray[Any], goal: NDArray[Any]) -> list[NDArray[Any]]:
        """Centres of the cells on a shortest path, and then the goal itself."""
        first, last = self._cell(start), self._cell(goal)
        centres = [self.maze.cell_rowcol_to_xy(cell) for cell in self._cells_between(first, last)]
        return [*centres[:-1], goal]

    def _cell(self, position: NDArray[Any]) -> Cell:
        row, column = self.maze.cell_xy_to_rowcol(position)
        return int(row), int(column)

    def _cells_between(self, first: Cell, last: Cell) -> list[Cell]:
        came_from: dict[Cell, Cell | None] = {last: None}
        frontier = deque([last])
        while frontier and first not in came_from:
            row, column = frontier.popleft()
            for cell in (
                (row + 1, column),
                (row - 1, column),
                (row, column + 1),
                (row, column - 1),
            ):
                if cell not in came_from and self.maze.maze_map[cell[0]][cell[1]] != 1:
                    came_from[cell] = (row, column)
                    frontier.append(cell)
        way, cell_or_none = [], came_from[first]
        while cell_or_none is not None:
            way.append(cell_or_none)
            cell_or_none = came_from[cell_or_none]
        return way or [last]
