"""Section ``evaluate`` of ``params.yaml``: how policies are evaluated."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveFloat, PositiveInt

from offline_gcrl.config.reading import Section, Seed, reject_repeats
from offline_gcrl.config.relabelling import Discount


def _distinct(levels: tuple[float, ...]) -> tuple[float, ...]:
    reject_repeats(levels)
    return levels


class Video(Section):
    """The rollout video of each policy."""

    episodes: NonNegativeInt = 4
    size: Annotated[int, Field(ge=32, multiple_of=16)] = 240
    """Height and width of the picture of one episode, in pixels."""


class Planner(Section):
    """Test-time graph search: paths over states of the dataset, measured by the agent's own value (arXiv 2510.07257)."""

    nodes: Annotated[int, Field(ge=2)] = 1000
    """States of the dataset that paths consist of. The number of evaluations of the value is its square."""
    choice: Literal["random", "farthest"] = "random"
    """How the states are chosen: at random, or by their goals so that each is far from those chosen before it."""
    edge_limit: PositiveFloat = 24.0
    """Steps up to which the agent's distance is trusted."""
    long_edges: Literal["penalised", "removed"] = "penalised"
    """Edges beyond the limit: ``penalised``, their cost grows exponentially with their length, so that there is always a
    path; ``removed``, the policy acts for the goal itself where there is no path."""
    subgoal_limit: PositiveFloat | None = None
    """Steps up to which a subgoal may be away; the last such node of the path is the subgoal. If left out, twice
    ``edge_limit``."""
    replan: PositiveInt | None = None
    """Steps between two plans; if left out, one plan at the start of each episode."""
    seed: NonNegativeInt = 0
    """Seed of the choice of states."""

    @property
    def reach(self) -> float:
        """Steps up to which a subgoal may be away."""
        return 2.0 * self.edge_limit if self.subgoal_limit is None else self.subgoal_limit


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
    """Episodes with unseen goals, for recipes with ``held_out``; a task of a suite has its share, also if others hold none
    out. If left out, the value of ``episodes``."""
    instructed_episodes: PositiveInt | None = None
    """Episodes with each set of sentences, with wrong sentences and with none, for policies that take instructions about
    goals. If left out, the value of ``curve_episodes``."""
    action_noise: Annotated[tuple[PositiveFloat, ...], AfterValidator(_distinct)] = ()
    """Levels of noise on the actions, at each of which the final episodes are repeated: the standard deviation of normal
    noise, in units of the largest action, which is added before actions are clipped."""
    stop_at_success: bool = False
    """End an episode when its goal is reached, in tasks where success at any step counts. This saves time, and makes
    success at the last step equal to success at any step."""
    workers: PositiveInt | None = None
    """Worker processes; if left out, one per core. The results do not depend on it."""
    planner: Planner | None = None
    """If given, the final episodes are repeated with a planner in front of each policy whose value is a number of
    steps. Results with and without the planner are separate."""
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

    @property
    def instructed_count(self) -> int:
        """Number of episodes with each set of sentences."""
        return min(self.instructed_episodes or self.curve_episodes, self.episodes)

    @property
    def identity(self) -> dict[str, Any]:
        """The settings that results depend on, by name; a planner and noise only if there are any."""
        unused = {"planner"} if self.planner is None else set()
        unused |= set() if self.action_noise else {"action_noise"}
        unused |= {"instructed_episodes"} if self.instructed_episodes is None else set()
        return self.model_dump(exclude={"workers", "video"} | unused)
