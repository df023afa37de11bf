"""How often a demonstrator ends on its goal: run it as it would be collected, keep only the outcome.

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
    steps_an_episode,
)
from offline_gcrl.config import Recipe, Source, load_recipe
from offline_gcrl.statistics.intervals import Estimate, wilson
from offline_gcrl.support.processes import cores, ordered_map, preload
from offline_gcrl.support.terminal import Bars, console, stage


@dataclass(frozen=True)
class Outcome:
    """What is kept of one episode."""

    last_step: bool
    any_step: bool
    steps: int
    cpu_seconds: float
    """Of all its attempts."""


@dataclass(frozen=True)
class DemonstratorSuccess:
    """A demonstrator's success over many episodes, and what collecting them cost."""

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
    """Success of one source's policy over its first ``episodes`` episodes, with 95% Wilson intervals.

    Args:
        recipe: where it acts.
        source: one that is made here; its noise, seed and attempts count as they do in collecting.
        episodes: how many to run.
        workers: processes; all cores when left out. Changes the speed alone.
        on_steps: hears of progress.
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


def episode_outcome(job: EpisodeJob) -> Outcome:
    """Collect one episode, and throw it away."""
    began = time.process_time()
    episode = collect_episode(job)
    return Outcome(
        last_step=bool(episode.infos["success"][-1]),
        any_step=bool(episode.infos["success"].any()),
        steps=len(episode.rewards),
        cpu_seconds=time.process_time() - began,
    )


def main() -> None:
    """Print a table with a row for each demonstrating source of the recipes named."""
    parser = argparse.ArgumentParser(description="How often demonstrators end on their goals.")
    parser.add_argument("recipe", nargs="+")
    parser.add_argument("--episodes", type=int, default=500)
    parser.add_argument("--noise", type=float, help="in place of what the recipe says")
    parser.add_argument("--attempts", type=int, help="in place of what the recipe says")
    arguments = parser.parse_args()
    instead = {
        key: value
        for key in ("noise", "attempts")
        if (value := getattr(arguments, key)) is not None
    }
    with stage("judge demonstrators", f"{arguments.episodes} episodes each"):
        preload("offline_gcrl.collect.collector")
        sources = list(demonstrations(arguments.recipe, instead))
        console.print(table(measurements(sources, arguments.episodes)))


def demonstrations(
    names: list[str], instead: dict[str, float]
) -> Iterator[tuple[str, Recipe, Source]]:
    """The demonstrating sources that are made here, with some settings of collecting replaced."""
    for name in names:
        recipe = load_recipe(name)
        check_sources(recipe, name)
        for source in recipe.sources:
            if source.kind == "demonstration" and source.collect is not None:
                collect = source.collect.model_copy(update=instead)
                yield name, recipe, source.model_copy(update={"collect": collect})


def measurements(
    sources: list[tuple[str, Recipe, Source]], episodes: int
) -> Iterator[tuple[str, Source, DemonstratorSuccess]]:
    """Each source with its success and cost, and a progress bar while it runs."""
    for name, recipe, source in sources:
        with Bars([name], episodes * steps_an_episode(recipe), "steps") as bars:

            def on_steps(count: int, bars: Bars = bars, name: str = name) -> None:
                bars.advance(name, count)

            yield name, source, measure_demonstrator(recipe, source, episodes, on_steps=on_steps)


def table(rows: Iterator[tuple[str, Source, DemonstratorSuccess]]) -> Table:
    """The judgements as a table for the terminal."""
    shown = Table(caption="success with 95% Wilson intervals; rates with all attempts counted once")
    for heading in ("recipe", "policy"):
        shown.add_column(heading, no_wrap=True)
    for heading in ("noise", "attempts", "last step", "any step", "transitions/s", "a CPU-second"):
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
