"""Results of the probes of each agent: transfer, cost of sharing, wrong identifiers, unseen goals, forgetting."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl

from offline_gcrl.config import Dataset, Params, Train
from offline_gcrl.config.outputs import (
    EPISODES,
    HELD_OUT_EPISODES,
    INSTRUCTED_EPISODES,
    LEARNING_CURVE,
    NOISY_EPISODES,
    PLANNED_EPISODES,
    ROUTING,
    SPECIALISTS,
    TASK_CURVES,
    WRONG_IDENTIFIER,
)
from offline_gcrl.evaluation.results import (
    Metrics,
    curve_across_seeds,
    summarise,
    task_curves_across_seeds,
)
from offline_gcrl.report.results import DatasetResults, Results
from offline_gcrl.statistics.contrasts import (
    Contrast,
    Tables,
    paired_contrast,
    wrong_identifiers,
    zero_shot,
)
from offline_gcrl.statistics.forgetting import SequentialResult, sequence_metrics
from offline_gcrl.statistics.transfer import (
    Curve,
    SharingCost,
    SharingModel,
    TaskCost,
    average_transfer,
    curve_of,
    fit_sharing,
    sharing_cost,
    task_costs,
    transfers,
)
from offline_gcrl.support.digests import intact


@dataclass(frozen=True)
class Phases:
    """The tasks of sequential training in their order, and the update at which each phase ends."""

    tasks: tuple[str, ...]
    boundaries: tuple[int, ...]


@dataclass(frozen=True)
class AgentFindings:
    """Results of the probes of one agent on one dataset; fields of probes that did not run are empty."""

    episodes: Tables
    column: str
    """The column of episodes with the success that the dataset is measured by."""
    batch_size: int
    task_curves: Tables
    specialists: dict[str, Tables]
    """Evaluation episodes of the specialists, by task."""
    specialist_curves: dict[str, Tables]
    wrong: Tables
    held_out: Tables
    phases: Phases | None = None
    routing: pl.DataFrame | None = None
    """Routing weights of a modular policy, with ``seed``."""
    planned: Tables = ()
    """The final episodes with a planner."""
    instructed: Tables = ()
    """Episodes with sentences, with ``set`` and ``given``."""

    noisy: Tables = ()
    """The final episodes with noise on the actions, with ``noise``."""

    @cached_property
    def by_noise(self) -> dict[float, Metrics]:
        """Metrics at each level of noise on the actions, without noise first; empty if there was none."""
        if not self.noisy:
            return {}
        levels = sorted(self.noisy[0]["noise"].unique())
        return {0.0: summarise(list(self.episodes))} | {
            level: summarise([table.filter(pl.col("noise") == level) for table in self.noisy])
            for level in levels
        }

    @cached_property
    def transfers(self) -> list[Contrast]:
        """Success of the multi-task policy compared with the specialist, for each task."""
        if not self.specialists:
            return []
        return transfers(self.episodes, self.specialists, self.column)

    @cached_property
    def average(self) -> Contrast | None:
        """Success of the multi-task policy compared with the specialists, over all tasks."""
        if not self.specialists:
            return None
        return average_transfer(self.episodes, self.specialists, self.column)

    @cached_property
    def task_costs(self) -> tuple[TaskCost, ...]:
        """The updates after which each task was learned, by the multi-task policy and by its specialist."""
        if not self.specialists or not self.task_curves:
            return ()
        finals = {found.name: found.second.mean for found in self.transfers}
        return task_costs(self._curves, self._specialist_curves, finals)

    @cached_property
    def cost(self) -> SharingCost | None:
        """The cost of learning all tasks together; None if it is unknown for every task."""
        if not self.task_costs:
            return None
        costs = self.task_costs
        return sharing_cost(self._curves, self._specialist_curves, costs, self.batch_size)

    @property
    def _specialist_curves(self) -> dict[str, Curve]:
        return {task: curve_of(tables) for task, tables in self.specialist_curves.items()}

    @property
    def _curves(self) -> dict[str, Curve]:
        return {
            task: curve_of([table.filter(pl.col("task") == task) for table in self.task_curves])
            for task in self.task_curves[0]["task"].unique(maintain_order=True)
        }

    @cached_property
    def sequence(self) -> SequentialResult | None:
        """Success on all tasks after each phase of sequential training; None for joint training."""
        if self.phases is None or not self.task_curves:
            return None
        return sequence_metrics(self.task_curves, self.phases.tasks, self.phases.boundaries)

    @cached_property
    def wrong_identifiers(self) -> list[Contrast]:
        """Success with right and with wrong identifiers, one contrast per kind of identifier."""
        return wrong_identifiers(self.episodes, self.wrong, self.column) if self.wrong else []

    @cached_property
    def zero_shot(self) -> dict[str, Contrast | None]:
        """Success on goals seen in training and on held-out goals, by task; None if there are no episodes of seen goals."""
        return zero_shot(self.episodes, self.held_out, self.column) if self.held_out else {}

    @cached_property
    def planning(self) -> Contrast | None:
        """Success with a planner and without one, in the same episodes; None if there is no planner."""
        if not self.planned:
            return None
        return paired_contrast("planner", self.planned, self.episodes, self.column)

    @cached_property
    def curves_by_task(self) -> dict[str, pl.DataFrame]:
        """Learning curve of each task across seeds; empty if there is only one task."""
        if not self.task_curves:
            return {}
        every = task_curves_across_seeds(list(self.task_curves))
        return {str(task): table for (task,), table in every.group_by("task", maintain_order=True)}

    @cached_property
    def specialist_curves_by_task(self) -> dict[str, pl.DataFrame]:
        """Learning curve of each task's specialist across seeds."""
        return {
            task: curve_across_seeds(list(tables))
            for task, tables in self.specialist_curves.items()
        }


Findings = dict[str, AgentFindings]
"""Results of the probes by agent."""


def load_findings(
    params: Params, dataset: Dataset, results: DatasetResults, folder: Path
) -> Findings:
    """Read the results of the probes of all agents on a dataset.

    Args:
        params: seeds and training settings.
        dataset: the dataset, with its tasks.
        results: results of the main evaluation.
        folder: folder with all results of the dataset.
    """
    seeds = params.experiment.seeds
    return {
        agent: _load(
            folder / agent, seeds, dataset, results, agent, params.train_for(dataset.name, agent)
        )
        for agent in results.agents
    }


def _load(
    folder: Path,
    seeds: tuple[int, ...],
    dataset: Dataset,
    results: DatasetResults,
    agent: str,
    train: Train,
) -> AgentFindings:
    def some_tables(place: Path, name: str) -> list[pl.DataFrame | None]:
        paths = [place / f"seed-{seed}" / name for seed in seeds]
        return [pl.read_parquet(intact(path)) if path.exists() else None for path in paths]

    def tables(place: Path, name: str) -> Tables:
        found = [table for table in some_tables(place, name) if table is not None]
        return found if len(found) == len(seeds) else []

    places = {task: folder / SPECIALISTS / task for task in dataset.tasks}
    alone = {task: tables(place, EPISODES) for task, place in places.items()}
    trained = {task: episodes for task, episodes in alone.items() if episodes}
    return AgentFindings(
        results.agents[agent].episodes,
        results.column,
        train.batch_size,
        tables(folder, TASK_CURVES),
        trained,
        {task: tables(places[task], LEARNING_CURVE) for task in trained},
        _with_empty_tables(some_tables(folder, WRONG_IDENTIFIER)),
        tables(folder, HELD_OUT_EPISODES),
        _phases(train, dataset),
        pl.read_parquet(intact(folder / ROUTING)) if (folder / ROUTING).exists() else None,
        tables(folder, PLANNED_EPISODES),
        tables(folder, INSTRUCTED_EPISODES),
        tables(folder, NOISY_EPISODES),
    )


def _with_empty_tables(found: Sequence[pl.DataFrame | None]) -> Tables:
    """Tables of all seeds, empty ones for seeds without; none if no seed has one.

    A seed has no wrong goals if its episodes share one goal.
    """
    first = next((table for table in found if table is not None), None)
    return [] if first is None else [first.clear() if table is None else table for table in found]


def _phases(train: Train, dataset: Dataset) -> Phases | None:
    if train.sequence is None:
        return None
    tasks = train.sequence.tasks or dataset.tasks
    length = train.updates // len(tasks)
    return Phases(tuple(tasks), tuple(length * (number + 1) for number in range(len(tasks))))


def all_findings(
    params: Params, datasets: Mapping[str, Dataset], results: Results, folder: Path
) -> dict[str, Findings]:
    """The results of the probes of every dataset, by its name."""
    return {
        name: load_findings(params, datasets[name], found, folder / name)
        for name, found in results.items()
    }


def sharing_models(findings: Mapping[str, Findings]) -> dict[str, SharingModel]:
    """The fitted model of sharing of each agent that has specialists on suites of several sizes."""
    costs: dict[str, list[SharingCost]] = {}
    for agents in findings.values():
        for agent, found in agents.items():
            if found.cost is not None:
                costs.setdefault(agent, []).append(found.cost)
    models = {agent: fit_sharing(own) for agent, own in costs.items()}
    return {agent: model for agent, model in models.items() if model is not None}
