"""Section ``evaluate`` of ``params.yaml``: how policies are evaluated."""

from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveInt

from offline_gcrl.config.reading import Section
from offline_gcrl.config.relabelling import Discount


class Video(Section):
    """The rollout video of each policy."""

    episodes: NonNegativeInt = 4
    size: Annotated[int, Field(ge=32, multiple_of=16)] = 240
    """Height and width of one episode's picture, in pixels."""


class Evaluate(Section):
    """How policies are judged."""

    episodes: PositiveInt = 100
    """Episodes of the final judgement, for each training seed."""
    curve_episodes: PositiveInt = 20
    """Episodes at each snapshot of the learning curve, on seeds of their own."""
    seed: NonNegativeInt = 0
    """Chooses starts and goals; the same for every agent, so that comparisons are paired."""
    discount: Discount = 0.99
    """Of the discounted return (reward 1 where the goal is reached, else 0)."""
    wrong_identifier_episodes: NonNegativeInt | None = None
    """Episodes in which each policy is told another task, or another goal, than it is judged by: success must
    fall. 0 for none; when left out, as many as ``curve_episodes`` for suites, and none for single tasks."""
    held_out_episodes: NonNegativeInt | None = None
    """Episodes to goals that were held out from training, where a recipe names some; when left out, as many
    as ``episodes``."""
    stop_at_success: bool = False
    """End an episode once its goal is reached, in tasks where success at any step counts. Saves time, and makes
    success at the last step the same as at any."""
    workers: PositiveInt | None = None
    """Worker processes (all cores when left out); never changes the result."""
    video: Video = Video()

    def wrong_identifier_count(self, tasks: int) -> int:
        """How many of the final episodes are run again with a wrong identifier."""
        if self.wrong_identifier_episodes is not None:
            return min(self.wrong_identifier_episodes, self.episodes)
        return min(self.curve_episodes, self.episodes) if tasks > 1 else 0

    @property
    def held_out_count(self) -> int:
        """How many episodes go to goals that were held out."""
        return self.episodes if self.held_out_episodes is None else self.held_out_episodes
