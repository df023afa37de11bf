"""Success of policies with sentences: a row per agent and kind of episode, and in suites a row per agent and task."""

from collections.abc import Iterable, Mapping
from typing import Protocol

import numpy as np
import polars as pl

from offline_gcrl.report.exports import Cell, Table
from offline_gcrl.statistics.contrasts import Tables
from offline_gcrl.statistics.intervals import Estimate, rate_across_seeds

SENTENCES_NOTE = (
    "An episode succeeds if its sentence, which is false at its start, becomes true. Unseen phrasings have seen words, "
    "unseen synonyms are in seen phrasings, and unseen combinations are of values that other sentences have. Floors are "
    "wrong sentences about other values, and no sentence; the ceiling of a policy that takes goals too is a goal of which "
    "the sentence is true."
)
SUITE_NOTE = (
    "Sentences name tasks, and an episode succeeds if its task does. Policies that take goals too are given the goal of the "
    "episode in every row. Unseen phrasings are of the same tasks. Floors are sentences of other tasks, and no sentence."
)
TASKS_NOTE = "The columns are what the policy is given. Episodes of a task are few, so its intervals are wide."
KINDS = {
    "seen sentence": "seen sentences",
    "phrasing sentence": "unseen phrasings",
    "synonym sentence": "unseen synonyms",
    "combination sentence": "unseen combinations",
    "seen wrong": "wrong sentences",
    "seen none": "no sentence",
    "seen goal": "the goal itself",
}


class Instructed(Protocol):
    """Results of an agent that may take sentences."""

    @property
    def instructed(self) -> Tables:
        """Episodes with sentences, one table per seed; empty for an agent without."""

    @property
    def column(self) -> str:
        """The column of episodes with the success that the dataset is measured by."""


def sentences_table(dataset: str, findings: Mapping[str, Instructed]) -> Table:
    """Success at any step and at the last step, by agent and kind of episode."""
    heading = ["agent", "given", "any step", "last step"]
    rows: list[list[Cell]] = []
    for agent, found in findings.items():
        for kind, parts in _by_kind(found.instructed).items():
            rates = [_rate(parts, column) for column in ("success_any", "success")]
            rows.append([agent, KINDS[kind], *rates])
    several = any(_tasks(found.instructed) for found in findings.values())
    note = SUITE_NOTE if several else SENTENCES_NOTE
    caption = f"Success of policies with sentences on {dataset}. {note}"
    return Table(f"sentences-{dataset}", caption, heading, rows)


def sentences_by_task_table(dataset: str, findings: Mapping[str, Instructed]) -> Table:
    """The main success in each task of a suite, by agent, task and kind of episode; no rows for a single task."""
    kinds = {
        kind: None
        for found in findings.values()
        if _tasks(found.instructed)
        for kind in _by_kind(found.instructed)
    }
    rows: list[list[Cell]] = [
        [agent, task, *_rates_of_task(found, task, kinds)]
        for agent, found in findings.items()
        for task in _tasks(found.instructed)
    ]
    heading = ["agent", "task", *(KINDS[kind] for kind in kinds)]
    caption = f"Success of policies with sentences in each task of {dataset}. {TASKS_NOTE}"
    return Table(f"sentences-tasks-{dataset}", caption, heading, rows)


def _rates_of_task(found: Instructed, task: str, kinds: Iterable[str]) -> list[Cell]:
    """The main success rate in a task by kind of episode; empty for kinds without episodes."""
    own = [table.filter(pl.col("task") == task) for table in found.instructed]
    known = _by_kind(own)
    return [_rate(known[kind], found.column) if kind in known else "" for kind in kinds]


def _tasks(tables: Tables) -> list[str]:
    """The tasks of a suite; none for a single task."""
    names = pl.concat(tables)["task"].unique(maintain_order=True).to_list() if tables else []
    return names if len(names) > 1 else []


def _by_kind(tables: Tables) -> dict[str, list[pl.DataFrame]]:
    """The episodes of each kind that every seed has, one table per seed."""
    found = {kind: [_of_kind(table, kind) for table in tables] for kind in KINDS}
    return {kind: parts for kind, parts in found.items() if parts and all(map(len, parts))}


def _of_kind(table: pl.DataFrame, kind: str) -> pl.DataFrame:
    own, given = kind.split()
    return table.filter(pl.col("set") == own, pl.col("given") == given)


def _rate(parts: list[pl.DataFrame], column: str) -> Estimate:
    groups = [part[column].to_numpy().astype(np.float64) for part in parts]
    return rate_across_seeds(groups)
