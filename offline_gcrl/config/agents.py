"""Sections ``agents.<name>`` of ``params.yaml``: the settings that all agents have.

An agent's own settings are declared in its file in ``agents/``, as a subclass of ``AgentSettings``.
"""

import pkgutil
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from pydantic_core import PydanticCustomError

from offline_gcrl.config.reading import Name, Section, dotted
from offline_gcrl.config.relabelling import Discount, Mixture, Strategy
from offline_gcrl.config.speech import OF_INSTRUCTIONS, Speech, TextEncoder, check_instructions
from offline_gcrl.config.vision import Vision, check_vision

AGENTS = Path(__file__).parent.parent / "agents"
Units = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
Activation = Literal["relu", "gelu", "tanh"]
ConditionedOn = Literal[
    "goal", "one_hot", "embedding", "goal+one_hot", "goal+embedding", "language", "goal+language", "none"
]  # fmt: skip
TaskNetwork = Literal["concatenate", "film", "heads", "modular", "distral"]
PER_TASK: tuple[TaskNetwork, ...] = ("heads", "modular", "distral")
"""Networks that depend on the task, whatever they are conditioned on."""


ValueMeaning = Literal[
    "steps", "discounted_cost", "discounted_success", "discounted_probability", "log_ratio", "other"
]  # fmt: skip
"""Meaning of the value of a state and a goal, ``state_value`` of an agent.

``steps``: minus the number of steps to the goal. ``discounted_cost``: the discounted sum of rewards of -1 until the goal
is reached. ``discounted_success``: the discounted sum of rewards of 1 from the time the goal is reached, and forever.
``discounted_probability``: the discount to the power of the number of steps to the goal, 0 if it is never reached.
``log_ratio``: the logarithm of how much more likely the goal is after the state than after an average one. ``other``: a
number that only the agent itself gives a meaning to.
"""
VALUES_IN_STEPS = ("steps", "discounted_cost", "discounted_success", "discounted_probability")
"""Meanings that determine the number of steps to the goal."""


class Sampling(Section):
    """What an agent needs in a batch; a batch contains nothing else."""

    fields: tuple[str, ...]
    """Names of the fields of a batch, which are functions in ``offline_gcrl/training/batches/fields.py``."""
    actor_goals: Mixture
    """Shares of the strategies that the actor's goals come from."""
    value_goals: dict[Strategy, PositiveFloat] = {}
    """Shares of the strategies that the goals of values and critics come from; empty for agents without them."""
    discount: Discount = 0.99
    n_step: PositiveInt = 1
    """Number of rewards in a target before it bootstraps."""
    reward: Literal["negative", "binary"] = "negative"
    """``negative``: -1, and 0 when the goal is reached. ``binary``: 0, and 1 when the goal is reached."""
    initial_states: Literal["episode", "any"] | None = None
    """Initial states for the value: the first state of the same episode, or any state of the dataset."""
    subgoal_steps: PositiveInt = 25
    """Steps from a state to its subgoal."""
    uniform_actions: PositiveInt = 10
    """Uniform actions per transition."""
    representation_goals: dict[Strategy, PositiveFloat] = {}
    """Shares of the strategies that the goals of a goal encoder's own loss come from; empty without one."""
    representation_discount: Discount = 0.99
    representation_n_step: PositiveInt = 1
    """Number of rewards in a target of the goal encoder's own loss before it bootstraps."""
    speech: Speech | None = None
    """How goals are given in words; null for goals that are vectors alone."""
    vision: Vision | None = None
    """How the agent sees, in a dataset with images; null for the default."""


class DualGoals(Section):
    """Settings of ``goal_encoder: dual``; the defaults are those of the released code."""

    size: PositiveInt = 256
    """Numbers that represent a goal."""
    layer_norm: bool = True
    """LayerNorm in the encoders of states and goals and in the critics."""
    discount: Discount = 0.99
    """Discount of future rewards."""
    expectile: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.7
    """Expectile of the critics that the value estimates."""
    tau: Annotated[float, Field(gt=0.0, le=1.0)] = 0.005
    """Rate at which the target critics follow."""
    n_step: PositiveInt = 1
    """Steps until the target of the critics bootstraps."""
    goals: Mixture = {"current": 0.2, "geometric": 0.5, "random": 0.3}
    """Mixture of goals for the value and the critics."""

    def added_to(self, sampling: Sampling) -> Sampling:
        """The batch of an agent with what the encoder learns from."""
        return sampling.model_copy(
            update={
                "fields": tuple(dict.fromkeys((*sampling.fields, *DUAL_FIELDS))),
                "representation_goals": self.goals,
                "representation_discount": self.discount,
                "representation_n_step": self.n_step,
            }
        )


DUAL_FIELDS = (
    "observations", "actions", "tasks", "representation_goals", "representation_observations",
    "representation_rewards", "representation_masks", "representation_discounts",
)  # fmt: skip
"""Fields of a batch that ``goal_encoder: dual`` learns from."""


class Modular(Section):
    """Size of networks with ``task_network: modular``; the defaults are the shallow network of the paper."""

    layers: Annotated[int, Field(ge=2)] = 2
    """Layers of modules."""
    modules: Annotated[int, Field(ge=2)] = 2
    """Modules per layer."""
    width: PositiveInt | None = None
    """Units of each module; if left out, those of the last hidden layer."""
    router_width: PositiveInt | None = None
    """Units of each layer of the routing network; if left out, those of the last hidden layer."""


class AgentSettings(Section):
    """Settings of every agent; each file in ``agents/`` adds its own in a subclass."""

    algorithm: Name
    """Name of a file in ``offline_gcrl/agents``."""
    preset: Literal["ogbench"] | None = None
    """``ogbench``: take the values that OGBench published for the family of the dataset; keys of this section, also
    those of ``per_dataset``, go first."""
    learning_rate: PositiveFloat
    hidden: Units
    """Units of each hidden layer of every network."""
    goal_encoder: Literal["concatenate", "separate", "dual"] = "concatenate"
    """``concatenate``: one network on [s, g]. ``separate``: one encoder for s and one for g before the trunk (UVFA,
    Schaul et al. 2015). ``dual``: all networks read a dual representation of the goal (Park et al., ICLR 2026)."""
    dual: DualGoals = DualGoals()
    """Settings of ``goal_encoder: dual``."""
    activation: Activation = "relu"
    conditioning: ConditionedOn = "goal"
    """What every network is conditioned on: the goal, a task identifier (one-hot, or a learned embedding), both, or
    nothing; or an instruction in words (``language``), alone or with the goal."""
    text_encoder: TextEncoder = "words"
    """With ``language``: the encoder of sentences. ``words``: a hashed bag of words. ``wordllama``: pretrained embeddings
    (extra ``language``). ``attributes``: what the sentence says, as one-hot values, an upper bound for encoders."""
    goal_dropout: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    """With ``conditioning: goal+language``: share of transitions with an instruction and without a goal. If left out, half
    in a dataset with captions, so that the policy takes either, and none in a suite."""
    task_network: TaskNetwork = "concatenate"
    """How a network is conditioned: by concatenation with the state; by scale and shift of the hidden layers
    (FiLM); by concatenation, with one output layer per task; by modules that are weighted per task; or by a shared
    output layer and one per task, with task policies near the shared policy (Distral)."""
    modular: Modular | None = None
    """With ``task_network: modular``: numbers and sizes of the modules."""
    distral_weight: NonNegativeFloat = 0.5
    """With ``task_network: distral``: weight of the divergence between the policy of a task and the shared policy."""
    normalise: bool = True
    """Whether observations and goals are normalised by the statistics of the dataset; not so in OGBench's agents."""
    embedding_size: PositiveInt = 16
    """Size of a learned embedding."""
    # Left out of what is saved where it is not set, so that policies of vectors keep their bytes.
    images: Vision | None = Field(default=None, exclude_if=lambda value: value is None)
    """How the agent sees, in a dataset with images; null for the default, images of states and goals."""
    distils: ClassVar[bool] = False
    """Whether the loss of the agent has the terms of Distral."""

    @model_validator(mode="after")
    def _can_encode_its_images(self) -> Self:
        check_vision(self)
        return self

    @model_validator(mode="after")
    def _has_an_input_for_its_network(self) -> Self:
        for name in ("task_network", "goal_encoder"):
            if self.conditioning == "none" and getattr(self, name) in {"film", "separate"}:
                raise PydanticCustomError(
                    "conditioning",
                    "'{name}: {value}' has no input with 'conditioning: none'; leave one of them out",
                    {"name": name, "value": getattr(self, name)},
                )
        if self.goal_encoder == "dual":
            require_goal(self, "'goal_encoder: dual' represents the goal")
        elif self.dual != DualGoals():
            raise PydanticCustomError(
                "dual",
                "'dual' has no effect without 'goal_encoder: dual'; set it, or leave 'dual' out",
            )
        return self

    @model_validator(mode="after")
    def _can_read_its_instructions(self) -> Self:
        given = {name for name in OF_INSTRUCTIONS if name in self.model_fields_set}
        check_instructions(self, given, self.sampling.fields if self.takes_instructions else ())
        return self

    @model_validator(mode="after")
    def _fits_its_task_network(self) -> Self:
        goal, network = "goal" in self.conditioning.split("+"), self.task_network
        if network == "modular" and self.goal_encoder == "separate" and not goal:
            raise PydanticCustomError(
                "goal_encoder",
                "'goal_encoder: separate' has no input with 'conditioning: {value}' and 'task_network: modular', whose "
                "modules do not read the task identifier; leave it out",
                {"value": self.conditioning},
            )
        if network == "distral" and not self.distils:
            raise PydanticCustomError(
                "distral",
                "'task_network: distral' needs an agent with one policy that learns near a shared one, and "
                "'{algorithm}' is none; use 'heads' or 'modular'",
                {"algorithm": self.algorithm},
            )
        if network == "distral" and self.goal_encoder == "dual":
            raise PydanticCustomError(
                "distral",
                "the shared policy of 'task_network: distral' must not depend on the task, and representations of "
                "'goal_encoder: dual' do; leave one of them out",
            )
        if network != "modular" and self.modular is not None:
            raise PydanticCustomError(
                "modular",
                "'modular' has no effect without 'task_network: modular'; set it, or leave 'modular' out",
            )
        if network == "distral" and self.conditioning not in {"goal", "none"}:
            raise PydanticCustomError(
                "distral",
                "the shared policy of 'task_network: distral' must not depend on the task, which 'conditioning: "
                "{value}' contains; use 'conditioning: goal'",
                {"value": self.conditioning},
            )
        return self

    @property
    def depends_on_task(self) -> bool:
        """Whether networks depend on the task: by an identifier in their input, or by weights per task."""
        identifiers = {"one_hot", "embedding", "language"} & set(self.conditioning.split("+"))
        return bool(identifiers) or self.task_network in PER_TASK

    @property
    def takes_instructions(self) -> bool:
        """Whether networks read sentences."""
        return "language" in self.conditioning.split("+")

    @property
    def sampling(self) -> Sampling:
        """What the agent needs in a batch."""
        raise NotImplementedError

    @property
    def batch_sampling(self) -> Sampling:
        """What a batch contains: what the agent needs, and what its goal encoder learns from."""
        sampling = self.sampling.model_copy(update={"vision": self.images})
        if self.takes_instructions:
            return sampling.model_copy(update={"speech": self._speech})
        is_dual = self.goal_encoder == "dual"
        return self.dual.added_to(sampling) if is_dual else sampling

    @property
    def _speech(self) -> Speech:
        """How batches contain instructions."""
        return Speech(
            encoder=self.text_encoder,
            with_goal=self.conditioning != "language",
            goal_dropout=self.goal_dropout,
        )

    @property
    def goal_mixtures(self) -> dict[str, Mixture]:
        """All mixtures of goals that are used, by their keys."""
        own = {name: mixture for name, mixture in self if name.endswith("goals")}
        return own | ({"dual.goals": self.dual.goals} if self.goal_encoder == "dual" else {})

    @property
    def has_ensemble(self) -> bool:
        """Whether the agent has several critics, whose disagreement measures its uncertainty."""
        return False

    @property
    def has_positive_loss(self) -> bool:
        """Whether the loss is never negative, so that the ratio of two losses measures progress."""
        return False

    @property
    def has_batch_statistics(self) -> bool:
        """Whether the loss depends on a quantity of the complete batch, so that parts of it cannot be averaged."""
        return False

    @property
    def suits_bfloat16(self) -> bool:
        """Whether ``train.precision: auto`` may be bf16, which has 8 significant bits.

        It may not if differences of values are weights of actions or are compared with one step: near -100, the values of
        neighbouring states are then often equal.
        """
        return False

    @property
    def value_meaning(self) -> ValueMeaning:
        """The meaning of the agent's ``state_value``, if it has one."""
        return "other"


def shown_agent(settings: AgentSettings, key: tuple[str, ...]) -> str:
    """An agent in errors: its key in the file, or its algorithm if it is no part of a file."""
    return dotted(key) or f"'{settings.algorithm}'"


def require_goal(settings: AgentSettings, reason: str) -> None:
    """Raise an error, within a validator, if the networks are not conditioned on the goal.

    Args:
        settings: of the agent.
        reason: why the agent needs goals.
    """
    if "goal" not in settings.conditioning.split("+"):
        raise PydanticCustomError(
            "conditioning",
            "{reason}, which 'conditioning: {value}' leaves out; use 'goal', 'goal+one_hot' or 'goal+embedding'",
            {"reason": reason, "value": settings.conditioning},
        )


def algorithm_names() -> list[str]:
    """Names of the files in ``agents/``, listed without importing them, because importing torch takes seconds.

    Files whose names Python cannot import, as editors and archives leave them, are none.
    """
    modules = (module for module in pkgutil.iter_modules([str(AGENTS)]) if not module.ispkg)
    return sorted(module.name for module in modules if module.name.isidentifier())


def algorithms_with(name: str) -> list[str]:
    """Names of the algorithms that define a property of ``AgentSettings`` themselves, found without importing them."""
    return [
        algorithm
        for algorithm in algorithm_names()
        if f"def {name}(" in (AGENTS / f"{algorithm}.py").read_text()
    ]
