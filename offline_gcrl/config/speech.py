"""Settings of agents that take instructions: the encoder of sentences, and the shares of goals and sentences."""

from collections.abc import Collection
from importlib.util import find_spec
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic_core import PydanticCustomError

from offline_gcrl.config.reading import Section

TextEncoder = Literal["words", "wordllama", "attributes"]
OF_INSTRUCTIONS = ("text_encoder", "goal_dropout")
"""Settings of agents that have an effect with ``language`` only."""


class Speech(Section):
    """How batches contain instructions: their embeddings are part of the vectors of goals."""

    encoder: TextEncoder
    with_goal: bool
    """Whether the goal is a part of the vector, too."""
    goal_dropout: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    """Share of transitions with an instruction and without a goal; see ``AgentSettings.goal_dropout``."""


GOALS_OF_STATES = frozenset({
    "achieved_goals", "next_achieved_goals", "value_goal_steps", "actor_goal_steps", "subgoals", "subgoal_observations",
    "low_goals", "midpoint_observations", "midpoint_actions", "midpoint_goals", "midpoint_steps",
    "permuted_value_goals",
})  # fmt: skip
"""Fields of a batch that need goals to be states, which instructions are not."""


def check_instructions(settings: Any, given: Collection[str], fields: Collection[str]) -> None:
    """Raise an error, within a validator, if an agent's settings of instructions do not fit together.

    Args:
        settings: an ``AgentSettings``.
        given: the settings among ``OF_INSTRUCTIONS`` that are set explicitly.
        fields: fields of the agent's batches.
    """
    words = {"conditioning": settings.conditioning, "algorithm": settings.algorithm}
    if not settings.takes_instructions:
        for name in sorted(given):
            if getattr(settings, name) != type(settings).model_fields[name].default:
                raise PydanticCustomError(
                    "language",
                    "'{name}' has no effect with 'conditioning: {conditioning}'; set 'conditioning: language' or "
                    "'goal+language', or leave it out",
                    {**words, "name": name},
                )
        return
    if settings.conditioning == "language" and settings.goal_dropout is not None:
        raise PydanticCustomError(
            "language",
            "'goal_dropout' has no effect with 'conditioning: language', which has no goal; leave it out",
        )
    if settings.text_encoder == "wordllama" and find_spec("wordllama") is None:
        raise PydanticCustomError(
            "language",
            "'text_encoder: wordllama' needs a package; install it with pip install 'offline-gcrl[language]', or use "
            "'words'",
        )
    if settings.goal_encoder == "dual" or settings.task_network == "distral":
        raise PydanticCustomError(
            "language",
            "'conditioning: {conditioning}' does not go with 'goal_encoder: dual' or 'task_network: distral'; leave "
            "them out",
            words,
        )
    wrong = ", ".join(name for name in fields if name in GOALS_OF_STATES)
    if wrong:
        raise PydanticCustomError(
            "language",
            "'{algorithm}' learns from goals that are states ({fields}), and an instruction is none; use bc, gcivl, "
            "gciql or ddpg",
            {**words, "fields": wrong},
        )
