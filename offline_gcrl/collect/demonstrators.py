"""Success rates of demonstrators: run episodes as in collecting, and record only their outcomes.

python -m offline_gcrl.collect.demonstrators fetch-push fetch-slide --episodes 500
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rich.table import Table

from offline_gcrl.collect.collector import (
    EpisodeJob,
    check_sources,
    collect_episode,
    max_steps_per_episode,
)
from offline_gcrl.config import Recipe, Source, load_recipe
from offline_gcrl.statistics.intervals import Estimate, wilson
from offline_gcrl.support.processes import cores, ordered_map, preload
from offline_gcrl.support.terminal import Bars, console, stage


@dataclass(frozen=True)
class EpisodeOutcome:
    """The outcome of one episode."""

    last_step: bool
    any_step: bool
    steps: int
    cpu_seconds: float
    """CPU time of all attempts."""


@dataclass(frozen=True)
class DemonstratorSuccess:
    """Success rates of a demonstrator over several episodes, and the cost of collecting them."""

    last_step: Estimate
    any_step: Estimate
    steps: int
    seconds: float
    cpu_seconds: float


def measure_demonstrator(
    recipe: Recipe,
    source: Source,
    episodes: int,
    workers: int | None = None,
    on_steps: Callable[[int], None] = lambda steps: None,
) -> DemonstratorSuccess:
    """Success rates of the policy of a source over its first episodes, with 95% Wilson intervals.

    Args:
        recipe: a recipe with an environment.
        source: a source with ``collect``; noise, seed and attempts apply as in collecting.
        episodes: number of episodes.
        workers: number of processes; if left out, one per core. The success rates do not depend on it.
        on_steps: called with the number of steps of each finished episode.
    """
    assert recipe.environment is not None
    assert source.collect is not None
    environment, collect = recipe.environment, source.collect
    jobs = (
        EpisodeJob(environment, collect, recipe.goal.desired, index) for index in range(episodes)
    )
    began, outcomes = time.perf_counter(), []
    for outcome in ordered_map(episode_outcome, jobs, workers or cores()):
        on_steps(outcome.steps)
        outcomes.append(outcome)
    return DemonstratorSuccess(
        last_step=wilson(sum(outcome.last_step for outcome in outcomes), episodes),
        any_step=wilson(sum(outcome.any_step for outcome in outcomes), episodes),
        steps=sum(outcome.steps for outcome in outcomes),
        seconds=time.perf_counter() - began,
        cpu_seconds=sum(outcome.cpu_seconds for outcome in outcomes),
    )


def episode_outcome(job: EpisodeJob) -> EpisodeOutcome:
    """Collect one episode, and return its outcome only."""
    began = time.process_time()
    episode = collect_episode(job)
    return EpisodeOutcome(
        last_step=bool(episode.infos["success"][-1]),
        any_step=bool(episode.infos["success"].any()),
        steps=len(episode.rewards),
        cpu_seconds=time.process_time() - began,
    )


def main() -> None:
    """Print a table with one row per demonstrator of the given recipes."""
    parser = argparse.ArgumentParser(description="Success rates of demonstrators.")
    parser.add_argument("recipe", nargs="+")
    parser.add_argument("--episodes", type=int, default=500)
    parser.add_argument("--noise", type=float, help="instead of the value in the recipe")
    parser.add_argument("--attempts", type=int, help="instead of the value in the recipe")
    arguments = parser.parse_args()
    overrides = {
        key: value
        for key in ("noise", "attempts")
        if (value := getattr(arguments, key)) is not None
    }
    with stage("evaluate demonstrators", f"{arguments.episodes} episodes each"):
        preload("offline_gcrl.collect.collector")
        sources = list(demonstrations(arguments.recipe, overrides))
        console.print(table(measurements(sources, arguments.episodes)))


def demonstrations(
    names: list[str], overrides: dict[str, float]
) -> Iterator[tuple[str, Recipe, Source]]:
    """The generated demonstrations of recipes, with some settings of collecting overridden."""
    for name in names:
        recipe = load_recipe(name)
        check_sources(recipe, name)
        for source in recipe.sources:
            if source.kind == "demonstration" and source.collect is not None:
                collect = source.collect.model_copy(update=overrides)
                yield name, recipe, source.model_copy(update={"collect": collect})


def measurements(
    sources: list[tuple[str, Recipe, Source]], episodes: int
) -> Iterator[tuple[str, Source, DemonstratorSuccess]]:
    """Measure each source, with a progress bar."""
    for name, recipe, source in sources:
        with Bars([name], episodes * max_steps_per_episode(recipe), "steps") as bars:

            def on_steps(count: int, bars: Bars = bars, name: str = name) -> None:
                bars.advance(name, count)

            yield name, source, measure_demonstrator(recipe, source, episodes, on_steps=on_steps)


def table(rows: Iterator[tuple[str, Source, DemonstratorSuccess]]) -> Table:
    """The measurements as a table for the terminal."""
    shown = Table(
        caption="success rates with 95% Wilson intervals; an episode counts once, whatever its attempts"
    )
    for heading in ("recipe", "policy"):
        shown.add_column(heading, no_wrap=True)
    for heading in ("noise", "attempts", "last step", "any step", "transitions/s", "/CPU-second"):
        shown.add_column(heading, justify="right")
    for name, source, measured in rows:
        assert source.collect is not None
        shown.add_row(
            name,
            source.collect.policy,
            f"{source.collect.noise:g}",
            str(source.collect.attempts),
            _with_interval(measured.last_step),
            _with_interval(measured.any_step),
            f"{measured.steps / measured.seconds:,.0f}",
            f"{measured.steps / measured.cpu_seconds:,.0f}",
        )
    return shown


def _with_interval(rate: Estimate) -> str:
    return f"{rate.mean:.3f} [{rate.low:.3f}, {rate.high:.3f}]"


if __name__ == "__main__":
    main()
