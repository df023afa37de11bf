"""Episodes with instructions: the sentence of an episode, what the policy is conditioned on, and when the sentence is true."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offline_gcrl.evaluation.jobs import SENTENCES, EpisodeJob, Instructed
from offline_gcrl.goals.instructions import SETS, Captions, Instruction, Sentences
from offline_gcrl.policies.policy import Policy
from offline_gcrl.support.errors import SettingsError


@dataclass(frozen=True)
class Saying:
    """The sentence of one episode."""

    instruction: Instruction
    captions: Captions | None
    """The rules that say when the sentence is true; None for a sentence that names the task."""
    given: str | None
    """What the policy is conditioned on: the sentence, a wrong one, or an empty one; None if it is the goal."""

    def is_true(self, achieved: NDArray[Any]) -> bool:
        """Whether the sentence is true of an achieved goal, (goal,)."""
        assert self.captions is not None
        return bool(self.captions.true_of(achieved, self.instruction.statement))


def instructed_by(job: EpisodeJob, policy: Policy) -> Instructed | None:
    """How an episode is run with a sentence; None for episodes that are run with a goal alone.

    A policy that takes nothing but instructions about goals gets training sentences in all episodes. In a suite,
    episodes without a set have the instruction of their task.
    """
    vocabulary = policy.vocabulary
    if vocabulary is None:
        return None
    if not vocabulary.has_captions:
        return job.instructed
    only_sentences = policy.settings.conditioning == "language"
    return job.instructed or (Instructed() if only_sentences else None)


def saying_of(
    job: EpisodeJob,
    how: Instructed,
    policy: Policy,
    start: NDArray[Any],
    desired: NDArray[Any] | None,
) -> Saying | None:
    """The sentence of an episode, drawn by its seed: not true at the start, and true of its goal.

    Args:
        job: the episode.
        how: the set of sentences, and what the policy is given.
        policy: has the sentences.
        start: the goal achieved at the start, (goal,).
        desired: the goal of the episode, (goal,); None for a sentence that is true of any other goal.

    Returns:
        None if there is no such sentence.
    """
    assert policy.vocabulary is not None
    sentences = policy.vocabulary.sentences
    captions = sentences.captions
    if how.text is not None:
        item = next(item for item in sentences.instructions if item.text == how.text)
        return Saying(item, captions, item.text)
    if captions:
        choices = _possible(sentences, captions, how, start, desired)
    else:
        choices = [sentences.instructions[n] for n in sentences.numbers(how.set, job.task)]
    if not choices:
        return None
    random = np.random.default_rng([job.seed, SENTENCES, SETS.index(how.set) + 1])
    chosen = choices[int(random.integers(len(choices)))]
    return Saying(chosen, captions, _given(chosen, sentences, how, random))


def different_sentences(policy: Policy, count: int) -> list[str]:
    """At most ``count`` training sentences with different statements of the most detailed kind, for films from one start."""
    if policy.vocabulary is None or not policy.vocabulary.has_captions:
        return []
    sentences = policy.vocabulary.sentences
    seen = [sentences.instructions[number] for number in sentences.numbers("seen")]
    most = max(len(item.statement) for item in seen)
    texts = list({item.statement: item.text for item in reversed(seen) if len(item.statement) == most}.values())  # fmt: skip
    texts.reverse()
    places = np.linspace(0, len(texts) - 1, min(count, len(texts))).round().astype(int)
    return [texts[place] for place in places]


def without_sentence(job: EpisodeJob, how: Instructed) -> SettingsError:
    """The error for an episode without a sentence that could become true."""
    return SettingsError(
        f"language: no sentence of the set '{how.set}' is false at the start and true of the goal of evaluation episode "
        f"{job.number} of {job.task}; check the bounds in 'language' of the recipe"
    )


def _possible(
    sentences: Sentences,
    captions: Captions,
    how: Instructed,
    start: NDArray[Any],
    desired: NDArray[Any] | None,
) -> list[Instruction]:
    """Sentences of a set that are false at the start, and true of a goal if it is given."""
    of_set = [sentences.instructions[number] for number in sentences.numbers(how.set)]
    truths = {
        statement: not captions.true_of(start, statement)
        and (desired is None or bool(captions.true_of(desired, statement)))
        for statement in {item.statement for item in of_set}
    }
    return [item for item in of_set if truths[item.statement]]


def _given(
    chosen: Instruction,
    sentences: Sentences,
    how: Instructed,
    random: np.random.Generator,
) -> str | None:
    """What the policy is conditioned on: the sentence, a wrong one, or an empty one; None if it is the goal."""
    if how.given == "goal":
        return None
    if how.given == "none":
        return ""
    if how.given == "sentence":
        return chosen.text
    names = [name for name, _ in chosen.statement]
    others = [
        item
        for item in (sentences.instructions[number] for number in sentences.numbers("seen"))
        if [name for name, _ in item.statement] == names
        and (item.statement, item.task) != (chosen.statement, chosen.task)
    ]
    return others[int(random.integers(len(others)))].text if others else ""
