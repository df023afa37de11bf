"""Section ``evaluate`` of ``params.yaml``: how policies are evaluated."""

from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveInt

from offline_gcrl.config.reading import Section, Seed
from offline_gcrl.config.relabelling import Discount


class Video(Section):
    """The rollout video of each policy."""

    episodes: NonNegativeInt = 4
    size: Annotated[int, Field(ge=32, multiple_of=16)] = 240
    """Height and width of the picture of one episode, in pixels."""


class Evaluate(Section):
    """How policies are evaluated."""

    episodes: PositiveInt = 100
    """Episodes of the final evaluation per training seed."""
    curve_episodes: PositiveInt = 20
    """Episodes per snapshot of the learning curve; their seeds differ from those of the final evaluation."""
    seed: Seed = 0
    """Seed of starts and goals; they are the same for every agent, so that comparisons are paired."""
    discount: Discount = 0.99
    """Discount of the discounted return (reward 1 where the goal is reached, else 0)."""
    wrong_identifier_episodes: NonNegativeInt | None = None
    """Episodes in which each policy is conditioned on a wrong task or a wrong goal; a policy that uses its
    conditioning succeeds less often. 0 for none. If left out, ``curve_episodes`` for suites and 0 for single
    tasks."""
    held_out_episodes: NonNegativeInt | None = None
    """Episodes with unseen goals, for recipes with ``held_out``. If left out, the value of ``episodes``."""
    stop_at_success: bool = False
    """End an episode when its goal is reached, in tasks where success at any step counts. This saves time, and makes
    success at the last step equal to success at any step."""
    workers: PositiveInt | None = None
    """Worker processes; if left out, one per core. The results do not depend on it."""
    video: Video = Video()

    def wrong_identifier_count(self, tasks: int) -> int:
        """Number of final episodes that are repeated with a wrong identifier, for a dataset of ``tasks`` tasks."""
        if self.wrong_identifier_episodes is not None:
            return min(self.wrong_identifier_episodes, self.episodes)
        return min(self.curve_episodes, self.episodes) if tasks > 1 else 0

    @property
    def held_out_count(self) -> int:
        """Number of episodes with unseen goals."""
        return self.episodes if self.held_out_episodes is None else self.held_out_episodes
