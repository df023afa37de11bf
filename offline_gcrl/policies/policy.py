"""A trained policy, which is saved in one file and used by one call."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from offline_gcrl.agents import Agent, make_agent, settings_type
from offline_gcrl.config import AgentSettings, Vision, algorithm_names
from offline_gcrl.config.agents import PER_TASK
from offline_gcrl.config.outputs import POLICY
from offline_gcrl.networks.conditioning import (
    UNSEEN,
    Dimensions,
    loaded_dimensions,
    saved_dimensions,
)
from offline_gcrl.policies.acting import Layer, forward, plain_layers
from offline_gcrl.policies.distances import WITHOUT_STEPS, as_steps
from offline_gcrl.policies.inputs import common_batch
from offline_gcrl.policies.instructions import Vocabulary
from offline_gcrl.policies.saved import read_content, write_content
from offline_gcrl.policies.scaling import Scaling
from offline_gcrl.policies.seeing import Inputs
from offline_gcrl.support.errors import PolicyError

FORMAT = 2


class Acting(Protocol):
    """Chooses the actions of one episode; it may keep state between steps, as a planner does."""

    def act(
        self, observation: ArrayLike, goal: ArrayLike, task: str | None = None
    ) -> NDArray[np.float32]:
        """The action, (action,), at an observation and for a goal."""


@dataclass(frozen=True)
class Policy:
    """A trained policy pi(a | s, g), in the units of the environment."""

    actor: nn.Module
    """Maps normalised observations and goals, and task numbers, to scaled actions."""
    scaling: Scaling
    dimensions: Dimensions
    tasks: tuple[str, ...]
    algorithm: str
    settings: AgentSettings
    training: dict[str, Any]
    """Dataset, agent, seed, number of updates, batch size and number of transitions."""
    agent: nn.Module | None = None
    """The complete agent, for its value; None for a snapshot, and for agents without a value."""
    vocabulary: Vocabulary | None = None
    """The sentences of a policy that takes instructions; None for any other."""

    def act(
        self,
        observation: ArrayLike,
        goal: ArrayLike | None = None,
        task: str | None = None,
        instruction: str | Sequence[str] | None = None,
    ) -> NDArray[np.float32]:
        """The policy's action, within the bounds of the action space.

        Args:
            observation: (observation,) or (batch, observation), numbers of any type in the units of the environment.
                Networks read them within 5 standard deviations of the mean of the dataset. For policies that see, an
                image, (height, width, 3), or a batch of them, or a mapping with ``image`` and ``state``.
            goal: (goal,) or (batch, goal), or images; one is broadcast over many observations, and the reverse.
            task: name of the task, for policies of several tasks that depend on it. With ``task_network: distral`` the
                shared policy acts without a task, and for a name that is not one of the tasks.
            instruction: a sentence, or one for each observation, for policies with ``conditioning: language`` or
                ``goal+language``. A policy of several tasks uses the instruction of the task if it is left out.

        Returns:
            (action,) or (batch, action).

        Raises:
            PolicyError: a shape or a task does not fit the policy, a number is not finite, or the task, the goal or the
                instruction is missing.
        """
        state = self.inputs.observation(observation)
        number = self._task_number(task, instruction)
        goals = self._conditions(goal, number, instruction)
        if state.ndim == goals.ndim == 1 and self._layers is not None:
            scaled = forward(self._layers, np.concatenate([state, goals]))
        else:
            scaled = self._forward(self.actor, state, goals, number)
        return self.scaling.environment_actions(scaled)

    def value(
        self,
        observation: ArrayLike,
        goal: ArrayLike | None = None,
        task: str | None = None,
        achieved_goal: ArrayLike | None = None,
        instruction: str | Sequence[str] | None = None,
    ) -> NDArray[np.float32]:
        """The agent's value of being in a state with a goal, in the agent's own units.

        Args:
            observation: (observation,) or (batch, observation).
            goal: (goal,) or (batch, goal), broadcast like those of ``act``.
            task: name of the task, as in ``act``.
            achieved_goal: the goals that the states achieve, for values between goals (QRL). If goals are states, it
                may be left out. Other agents do not read it.
            instruction: a sentence, or one for each observation, as in ``act``.

        Returns:
            A number, or (batch,). Its meaning is that of ``state_value`` of the algorithm.

        Raises:
            PolicyError: the policy has no value, or a shape or a task does not fit it, or its value needs the achieved goal.
        """
        if self.agent is None:
            raise PolicyError(
                f"this policy of {self.algorithm} has no value: it is a snapshot, or its algorithm learns none"
            )
        start = self.inputs.observation(observation)
        number = self._task_number(task, instruction)
        goals = self._conditions(goal, number, instruction)
        if getattr(self.agent, "values_achieved_goals", False):
            start = self._achieved(observation, achieved_goal)
        value: Any = self.agent.state_value
        return self._forward(value, start, goals, number)

    @property
    def needs_task(self) -> bool:
        """Whether the policy acts differently for each of several tasks, so that none is the default."""
        has_default = self.settings.task_network == "distral"
        return len(self.tasks) > 1 and self.settings.depends_on_task and not has_default

    def steps(
        self,
        observation: ArrayLike,
        goal: ArrayLike,
        task: str | None = None,
        achieved_goal: ArrayLike | None = None,
    ) -> NDArray[np.float32]:
        """The number of steps from a state to a goal by the agent's value; arguments and shapes are those of ``value``.

        Raises:
            PolicyError: as ``value``; also if the value is no number of steps.
        """
        if reason := self.why_no_steps():
            raise PolicyError(f"this policy of {self.algorithm} estimates no steps: {reason}")
        values = self.value(observation, goal, task, achieved_goal)
        return as_steps(values, self.settings.value_meaning, self.settings.sampling.discount)

    def why_no_steps(self) -> str | None:
        """Why the policy cannot estimate steps; None if it can."""
        if self.agent is None:
            return "it has no value"
        if self.settings.conditioning == "language":
            return "its value is of instructions and not of goals"
        return WITHOUT_STEPS.get(self.settings.value_meaning)

    def episode(self) -> "Acting":
        """What acts in one episode: the policy itself, since it keeps no state between steps."""
        return self

    @functools.cached_property
    def inputs(self) -> Inputs:
        """Reads observations and goals."""
        return Inputs(self.scaling, self.dimensions, self.settings.images or Vision())

    def _conditions(
        self, goal: ArrayLike | None, task: int, instruction: str | Sequence[str] | None
    ) -> NDArray[np.float32]:
        """The vectors that networks read, (goal,) or (batch, goal): goals, embeddings, or both."""
        goals = None if goal is None else self.inputs.goal(goal)
        if self.vocabulary is not None:
            said = self.vocabulary.said(instruction, self.tasks[task])
            if self.settings.conditioning == "language":
                return self.vocabulary.alone(said)
            return self.vocabulary.with_goals(goals, said, self.dimensions.goal)
        if instruction is not None:
            raise PolicyError(
                "the policy takes no instructions; train one with conditioning: language or goal+language"
            )
        if goals is None:
            raise PolicyError("the goal is missing; pass observation and goal")
        return goals

    def _achieved(
        self, observation: ArrayLike, achieved_goal: ArrayLike | None
    ) -> NDArray[np.float32]:
        """The achieved goals as networks read them; they are the states themselves if goals are states."""
        given = observation if achieved_goal is None else achieved_goal
        if achieved_goal is None and self.dimensions.goal != self.dimensions.observation:
            raise PolicyError(
                f"the value of {self.algorithm} is between goals, and goals are not states here; pass "
                "'achieved_goal', the goal that the state achieves"
            )
        return self.inputs.goal(given)

    def _forward(
        self,
        network: Callable[..., Tensor],
        state: NDArray[np.float32],
        goals: NDArray[np.float32],
        task: int,
    ) -> NDArray[np.float32]:
        """The output of a network through torch, for any number of normalised states and goals."""
        batch = common_batch(state, goals, "observations", "goals")
        state = np.broadcast_to(state, (*batch, state.shape[-1]))
        goals = np.broadcast_to(goals, (*batch, goals.shape[-1]))
        with torch.inference_mode():
            outputs: NDArray[np.float32] = network(
                torch.tensor(state),  # A copy, for broadcast arrays are read-only.
                torch.tensor(goals),
                torch.full(batch, task),
            ).numpy()
        return outputs

    @functools.cached_property
    def _layers(self) -> list[Layer] | None:
        return plain_layers(self.actor)

    def _task_number(self, task: str | None, instruction: object = None) -> int:
        if self.settings.task_network == "distral" and task not in self.tasks:
            return UNSEEN
        if task is None:
            names_task = instruction is not None and self.settings.task_network not in PER_TASK
            if self.needs_task and not names_task:
                raise PolicyError(
                    f"the policy is conditioned on the task; pass one of {', '.join(self.tasks)}"
                )
            return 0
        if task not in self.tasks:
            raise PolicyError(f"the policy knows no task '{task}', only {', '.join(self.tasks)}")
        return self.tasks.index(task)


def save_policy(
    path: Path,
    agent: Agent,
    algorithm: str,
    settings: AgentSettings,
    scaling: Scaling,
    dimensions: Dimensions,
    tasks: tuple[str, ...],
    training: dict[str, Any],
    *,
    with_value: bool = False,
    vocabulary: Vocabulary | None = None,
) -> None:
    """Write a policy to a file; the same weights give the same bytes.

    ``with_value`` adds the networks of the value, where the agent has one (``state_value``). ``vocabulary`` has the
    sentences of a policy that takes instructions.
    """
    content = {
        "format": FORMAT,
        "algorithm": algorithm,
        "settings": settings.model_dump_json(),
        "scaling": asdict(scaling),
        "dimensions": saved_dimensions(dimensions),
        "tasks": list(tasks),
        "training": training,
        "actor": {name: value.cpu() for name, value in agent.actor.state_dict().items()},
    }
    if vocabulary is not None:
        content["vocabulary"] = vocabulary.saved()
    if with_value and hasattr(agent, "state_value"):
        content["value"] = _value_networks(agent)
    write_content(path, content)


def _value_networks(agent: Agent) -> dict[str, Tensor]:
    """Weights of an agent other than those of its actor and its targets."""
    assert isinstance(agent, nn.Module)
    elsewhere = {id(target) for pair in agent.target_pairs() for target in pair[0]}
    elsewhere |= {id(weight) for weight in agent.actor.parameters()}
    return {
        name: weight.detach().cpu()
        for name, weight in agent.named_parameters()
        if id(weight) not in elsewhere
    }


def policy_file(path: Path) -> Path:
    """The file of a policy, given itself or the folder of its training seed.

    Raises:
        PolicyError: the folder contains seeds instead, which the message lists.
    """
    if not path.is_dir():
        return path
    seeds = sorted(folder.name for folder in path.glob("seed-*"))
    if seeds and not (path / POLICY).exists():
        raise PolicyError(
            f"{path}: contains the seeds {', '.join(seeds)}; name one of these folders"
        )
    return path / POLICY


def load_policy(path: str | Path, data: bytes | None = None) -> Policy:
    """Load a policy from its file, or from the folder of a trained seed; from ``data`` if the file was read before.

    Raises:
        PolicyError: the file does not exist, or is not a policy of this version.
    """
    path = policy_file(Path(path))
    try:
        content = read_content(path, data=data)
    except FileNotFoundError:
        raise PolicyError(
            f"{path}: no such policy; `dvc repro` trains those in params.yaml"
        ) from None
    if content.get("format") != FORMAT:
        raise PolicyError(f"{path}: not a policy file of format {FORMAT}; train the policy again")
    if content["algorithm"] not in algorithm_names():
        raise PolicyError(f"{path}: of algorithm '{content['algorithm']}', which is not known here")
    try:
        settings = settings_type(content["algorithm"]).model_validate_json(content["settings"])
    except ValueError as error:
        raise PolicyError(f"{path}: its settings are not those of this version: {error}") from None
    dimensions = loaded_dimensions(content["dimensions"])
    agent = make_agent(settings, dimensions)
    try:
        agent.actor.load_state_dict(content["actor"])
    except RuntimeError:
        raise PolicyError(
            f"{path}: its weights are not those of this version; train it again"
        ) from None
    agent.actor.eval()
    if "value" in content:
        agent.load_state_dict(content["value"], strict=False)
    return Policy(
        actor=agent.actor,
        scaling=Scaling.from_saved(content["scaling"]),
        dimensions=dimensions,
        tasks=tuple(content["tasks"]),
        algorithm=content["algorithm"],
        settings=settings,
        training=content["training"],
        agent=agent if "value" in content else None,
        vocabulary=Vocabulary.from_saved(content.get("vocabulary")),
    )
