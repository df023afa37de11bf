"""What the sections ``agents.<name>`` of ``params.yaml`` have in common.

An agent's own settings are declared in its file in ``agents/``, as a subclass of ``AgentSettings``.
"""

import pkgutil
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from pydantic_core import PydanticCustomError

from offline_gcrl.config.reading import Name, Section
from offline_gcrl.config.relabelling import Discount, Mixture, Strategy

Units = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
Activation = Literal["relu", "gelu", "tanh"]
ConditionedOn = Literal["goal", "one_hot", "embedding", "goal+one_hot", "goal+embedding", "none"]


class Sampling(Section):
    """What an agent asks of a batch; the rest is left out of it."""

    fields: tuple[str, ...]
    """Names of the batch's fields, functions of ``offline_gcrl/training/batches/fields.py``."""
    actor_goals: Mixture
    """Shares of the strategies that the actor's goals come from."""
    value_goals: dict[Strategy, PositiveFloat] = {}
    """The same for values and critics; empty for agents without any."""
    discount: Discount = 0.99
    n_step: PositiveInt = 1
    """Steps until the target bootstraps."""
    reward: Literal["negative", "binary"] = "negative"
    """-1 until the goal is reached and 0 then, or 0 until then and 1."""
    initial_states: Literal["episode", "any"] | None = None
    """Initial states for the value: the first of the same episode, or any state of the data."""
    subgoal_steps: PositiveInt = 25
    """Steps from a state to its subgoal."""
    uniform_actions: PositiveInt = 10
    """Uniform actions per transition."""


class AgentSettings(Section):
    """What every agent's settings have; each file in ``agents/`` adds its own."""

    algorithm: Name
    """Name of a file in ``offline_gcrl/agents``."""
    learning_rate: PositiveFloat
    hidden: Units
    """Units of each hidden layer of every network."""
    goal_encoder: Literal["concatenate", "separate"] = "concatenate"
    """UVFA: one network on [s, g], or an encoder for each of them before the trunk."""
    activation: Activation = "relu"
    conditioning: ConditionedOn = "goal"
    """What every network is told of its task: the goal, a task identifier (one-hot, or an embedding that is
    learned), both, or nothing."""
    task_network: Literal["concatenate", "film", "heads"] = "concatenate"
    """How that comes in: beside the state; as scale and shift of hidden layers; or beside the state, with an
    output layer for each task."""
    embedding_size: PositiveInt = 16
    """Numbers of a learned embedding."""

    @model_validator(mode="after")
    def _something_to_take_in(self) -> Self:
        for name in ("task_network", "goal_encoder"):
            if self.conditioning == "none" and getattr(self, name) in {"film", "separate"}:
                raise PydanticCustomError(
                    "conditioning",
                    "'{name}: {value}' has nothing to take in with 'conditioning: none'; leave one of them out",
                    {"name": name, "value": getattr(self, name)},
                )
        return self

    @property
    def sampling(self) -> Sampling:
        """What the agent asks of a batch."""
        raise NotImplementedError

    @property
    def has_ensemble(self) -> bool:
        """Whether the agent has critics whose disagreement says how uncertain it is."""
        return False

    @property
    def has_positive_loss(self) -> bool:
        """Whether the loss is never negative, so that the ratio of two of them means progress."""
        return False


def algorithm_names() -> list[str]:
    """Names of the files in ``agents/``, read without importing them: torch is heavy."""
    folder = Path(__file__).parent.parent / "agents"
    return sorted(module.name for module in pkgutil.iter_modules([str(folder)]))
