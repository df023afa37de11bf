"""One draw of transitions and their goals: everything that fields of a batch are read from.

All of it is a hash of (seed, purpose, counter), where the counter numbers the transitions of all batches in
order. So any number of batches can be drawn at once, on any device, with one result, and a quantity that no
field of an agent asks for is neither drawn nor does its absence change another one.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from offline_gcrl.config import Sampling, Success
from offline_gcrl.goals.success import reaches
from offline_gcrl.hindsight.draws import stream_key, uniform_tensor
from offline_gcrl.support.errors import SettingsError
from offline_gcrl.training.batches.data import Arrays
from offline_gcrl.training.batches.seen import read_rows
from offline_gcrl.training.batches.spoken import Spoken
from offline_gcrl.training.batches.tables import GoalTable

PURPOSES = (
    "transition",
    "value_goal",
    "actor_goal",
    "mixing",
    "initial_state",
    "task",
    "midpoint",
    "permutation",
    "uniform_actions",
    "noise",
    "representation_goal",
    "sub_trajectory",
    "goal_dropout",
    "phrasing",
    "crop",
    "cropped_batch",
    "resident_set",
    "resident_block",
)
"""What draws are for. Their keys follow from the place in this tuple: new ones go to the end."""
UNIT_BITS = 2**24
"""Uniform numbers in [0, 1) are multiples of 1 / UNIT_BITS: float32 represents each exactly."""


class DrawnGoals(NamedTuple):
    """A goal for each transition, of shape (count, batch) like all that follows."""

    row: Tensor
    """Rows of all goals."""
    label: Tensor
    """The label of the hindsight table: 0 where the next state reaches the goal and -1 elsewhere, or minus the
    distance. Where a sentence replaces the goal, it is the label of the sentence."""
    instruction: Tensor | None = None
    """Numbers of sentences, -1 for none; None for agents without instructions."""


class Target(NamedTuple):
    """What a value is fitted to, up to the state that it bootstraps from."""

    rewards: Tensor
    """Sum of discounted rewards until then."""
    masks: Tensor
    """0 where the goal is reached before, and 1 elsewhere."""
    ahead: Tensor
    """Steps to the state that is bootstrapped from."""


@dataclass(frozen=True)
class Transitions:
    """The N transitions of a sampler and the goals of its mixtures."""

    data: Arrays
    rows: Tensor
    """(N,): row of the state; the next state's is one more."""
    last_row: Tensor
    """(N,): row of the last state of the episode."""
    first_row: Tensor
    """(N,): row of its first state."""
    task: Tensor
    """(N,): number of the task."""
    tables: dict[str, GoalTable]
    """By purpose, ``value_goal`` and ``actor_goal``."""
    success: Success
    spoken: Spoken | None = None
    """The sentences, for agents that take instructions."""
    embedded: bool = False
    """Whether rewards are distances of embedded images."""
    name: str = ""
    """The name under which they are stored."""


def inner_units(integers: Tensor) -> Tensor:
    """Numbers in (0, 1) from integers in [0, ``UNIT_BITS``).

    float32 rounds the largest one to 1, of which the inverse of the normal distribution is infinite.
    """
    return ((integers + 0.5) / UNIT_BITS).clamp(max=1.0 - 1.0 / UNIT_BITS)


class Draw:
    """One draw of (count, batch) transitions.

    Args:
        transitions: what is drawn from.
        sampling: the settings of the agent.
        keys: of the random streams, by purpose.
        counter: (count, batch) numbers of the transitions among those of all batches.
        step: (count, 1) numbers of the updates.
        pick: (count, batch) which transitions were drawn.
    """

    def __init__(
        self,
        transitions: Transitions,
        sampling: Sampling,
        keys: dict[str, Tensor],
        counter: Tensor,
        step: Tensor,
        pick: Tensor,
    ) -> None:
        self.transitions, self.sampling, self.data = transitions, sampling, transitions.data
        self.keys, self.counter, self.step, self.pick = keys, counter, step, pick

    @cached_property
    def row(self) -> Tensor:
        """Row of the state."""
        return self.transitions.rows[self.pick]

    @cached_property
    def last_row(self) -> Tensor:
        """Row of the last state of the episode."""
        return self.transitions.last_row[self.pick]

    @cached_property
    def value_goal(self) -> DrawnGoals:
        """The goal for values and critics."""
        return self._goal("value_goal")

    @cached_property
    def actor_goal(self) -> DrawnGoals:
        """The goal for the actor."""
        return self._goal("actor_goal")

    @cached_property
    def value_target(self) -> Target:
        """The target of values at ``value_goal``, over as many steps as the agent's ``n_step``."""
        sampling = self.sampling
        return self.target(self.value_goal, sampling.n_step, sampling.discount, sampling.reward)

    @cached_property
    def actor_target(self) -> Target:
        """The target of values at ``actor_goal``, over one step."""
        return self.target(self.actor_goal, 1, self.sampling.discount, self.sampling.reward)

    @cached_property
    def representation_goal(self) -> DrawnGoals:
        """The goal for the own loss of a goal encoder."""
        return self._goal("representation_goal")

    @cached_property
    def representation_target(self) -> Target:
        """The target of values at ``representation_goal``, with reward -1 until it is reached."""
        sampling = self.sampling
        n_step, discount = sampling.representation_n_step, sampling.representation_discount
        return self.target(self.representation_goal, n_step, discount, "negative")

    @cached_property
    def midpoint_row(self) -> Tensor:
        """A row between the state and its value goal, the goal excluded; the state's own where there is none."""
        steps = self.steps_to(self.value_goal)
        return self.row + self.integers("midpoint", steps.clamp(min=1))

    @cached_property
    def subgoal_row(self) -> Tensor:
        """Row ``subgoal_steps`` ahead, not past the actor goal where that is ahead in the episode."""
        goal = torch.where(self.steps_to(self.actor_goal) >= 0, self.actor_goal.row, self.last_row)
        return torch.minimum(self.row + self.sampling.subgoal_steps, goal)

    @property
    def low_row(self) -> Tensor:
        """Row ``subgoal_steps`` ahead, or the last one of the episode."""
        return torch.minimum(self.row + self.sampling.subgoal_steps, self.last_row)

    def steps_to(self, goal: DrawnGoals) -> Tensor:
        """Steps from the state to a goal that is a state of its episode, now or later; -1 for other goals."""
        steps = goal.row - self.row
        return torch.where((steps >= 0) & (goal.row <= self.last_row), steps, -1)

    def target(self, goal: DrawnGoals, n_step: int, discount: float, reward: str) -> Target:
        """Sum of discounted rewards up to the bootstrap, mask of it, and how many steps it is ahead.

        The sum ends where the goal is first reached (which is not bootstrapped on), where the episode
        ends, or after n steps. The first step is labelled by the table.
        """
        row, label = self.row, goal.label
        if label.is_floating_point():  # dense: minus the distance, one step
            if self.transitions.embedded:  # Distances of images say nothing about success.
                masks = (~self._reaches(row, goal)).float()
                return Target(label, masks, torch.ones_like(row))
            tolerance = self.transitions.success.tolerance or 0.0
            return Target(label, (label < -tolerance).float(), torch.ones_like(row))
        reached, ahead = label == 0, torch.ones_like(row)
        for step in range(2, n_step + 1):
            goes_on = ~reached & (row + step <= self.last_row)
            ahead = torch.where(goes_on, step, ahead)
            reached = reached | (goes_on & self._reaches(row + step - 1, goal))
        if reward == "binary":
            rewards = discount ** (ahead - 1) * reached
        else:
            paid = ahead - reached.long()  # Every step costs 1 but the one that reaches.
            rewards = -(1.0 - discount**paid) / (1.0 - discount)
        return Target(rewards, (~reached).float(), ahead)

    def observations(self, row: Tensor) -> Tensor:
        """What networks read of the states at rows."""
        return read_rows(self.data.observations, row, self.shifts)

    def goals(self, row: Tensor) -> Tensor:
        """What networks read of goals, given rows of all goals."""
        return read_rows(self.data.goals, row, self.shifts)

    @cached_property
    def shifts(self) -> Tensor | None:
        """By how many pixels images are shifted, (count, batch, 2), the same for all images of a transition.

        The images of a batch are all shifted or none is, as in OGBench. None for agents without random crops.
        """
        vision = self.sampling.vision
        if vision is None or vision.random_crop == 0.0:
            return None
        width = 2 * vision.crop_padding + 1
        place = self.integers("crop", width * width)
        shifts = torch.stack([place // width, place % width], -1) - vision.crop_padding
        unit = uniform_tensor(self.keys["cropped_batch"], self.step, UNIT_BITS).float() / UNIT_BITS
        return torch.where((unit < vision.random_crop)[..., None], shifts, 0)

    def integers(self, purpose: str, bound: int | Tensor) -> Tensor:
        """Uniform integers in [0, bound), one per transition."""
        return uniform_tensor(self.keys[purpose], self.counter, bound)

    def units(self, purpose: str) -> Tensor:
        """Uniform numbers in [0, 1), one per transition."""
        return self.integers(purpose, UNIT_BITS).float() / UNIT_BITS

    def unit_vectors(self, purpose: str, size: int) -> Tensor:
        """Uniform numbers in (0, 1), (count, batch, size)."""
        counter = self.counter[..., None] * size + torch.arange(size, device=self.data.device)
        return inner_units(uniform_tensor(self.keys[purpose], counter, UNIT_BITS))

    def normals(self, purpose: str, size: int) -> Tensor:
        """Standard normal numbers, (count, batch, size), by the inverse of the distribution function."""
        return torch.erfinv(2.0 * self.unit_vectors(purpose, size) - 1.0) * math.sqrt(2.0)

    def _goal(self, purpose: str) -> DrawnGoals:
        """Of a column drawn by the mixture's probabilities."""
        table = self.transitions.tables.get(purpose)
        if table is None:
            raise SettingsError(
                f"a field of the batch needs {purpose}s, and the agent's Sampling has no {purpose}s"
            )
        column = torch.searchsorted(table.cumulative, self.units(purpose), right=True)
        row, label = table.goals[self.pick, column].long(), table.rewards[self.pick, column]
        spoken = self.transitions.spoken
        if spoken is None:
            return DrawnGoals(row, label)
        if table.instructions is None or table.instruction_rewards is None:
            first, count = (part[self.transitions.task[self.pick]] for part in spoken.of_task)
            return DrawnGoals(row, label, first + self.integers("phrasing", count))
        instruction = table.instructions[self.pick, column].long()
        instruction = torch.where(self.drops_goal, instruction, -1)
        said = table.instruction_rewards[self.pick, column]
        return DrawnGoals(row, torch.where(instruction >= 0, said, label), instruction)

    @cached_property
    def drops_goal(self) -> Tensor:
        """Whether a transition has a sentence without a goal, if it has a sentence."""
        assert self.transitions.spoken is not None
        return self.units("goal_dropout") < self.transitions.spoken.dropout

    def vectors(self, goal: DrawnGoals) -> Tensor:
        """What networks read of goals: normalised goals, embeddings of sentences, or both."""
        spoken = self.transitions.spoken
        if spoken is None or goal.instruction is None:
            return self.goals(goal.row)
        if not spoken.speech.with_goal:
            return spoken.embeddings[goal.instruction]
        goals = self.goals(goal.row)
        return spoken.vectors(goals, goal.instruction, self.drops_goal & (goal.instruction >= 0))

    def _reaches(self, row: Tensor, goal: DrawnGoals) -> Tensor:
        """Whether the transitions at ``row`` reach the goals; rows past the end ask of the last."""
        reached, spoken = self._reaches_goals(row, goal.row), self.transitions.spoken
        if spoken is None or goal.instruction is None or not spoken.has_captions:
            return reached
        said = spoken.are_true(goal.instruction, (row + 1).clamp(max=len(self.data) - 1))
        return torch.where(goal.instruction >= 0, said, reached)

    def _reaches_goals(self, row: Tensor, goal: Tensor) -> Tensor:
        success = self.transitions.success
        if success.kind == "same_step":
            return goal == row
        next_row = (row + 1).clamp(max=len(self.data) - 1)
        return reaches(self.data.raw_goals[next_row], self.data.raw_goals[goal], success)


def stream_keys(seed: int, device: torch.device) -> dict[str, Tensor]:
    """The key of each purpose, on the device: moving one there at each draw would wait for it."""
    keys = [stream_key(seed, number) for number in range(len(PURPOSES))]
    signed = torch.tensor([key - 2**64 if key >= 2**63 else key for key in keys])
    return dict(zip(PURPOSES, signed.to(device), strict=True))
