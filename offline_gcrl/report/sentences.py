"""Success of policies with sentences: a row per agent and kind of episode."""

from collections.abc import Mapping
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


def sentences_table(dataset: str, findings: Mapping[str, Instructed]) -> Table:
    """Success at any step and at the last step, by agent and kind of episode."""
    heading = ["agent", "given", "any step", "last step"]
    rows: list[list[Cell]] = []
    for agent, found in findings.items():
        for kind, name in KINDS.items():
            parts = [_of_kind(table, kind) for table in found.instructed]
            if parts and all(len(part) for part in parts):
                rates = [_rate(parts, column) for column in ("success_any", "success")]
                rows.append([agent, name, *rates])
    caption = f"Success of policies with sentences on {dataset}. {SENTENCES_NOTE}"
    return Table(f"sentences-{dataset}", caption, heading, rows)


def _of_kind(table: pl.DataFrame, kind: str) -> pl.DataFrame:
    own, given = kind.split()
    return table.filter(pl.col("set") == own, pl.col("given") == given)


def _rate(parts: list[pl.DataFrame], column: str) -> Estimate:
    groups = [part[column].to_numpy().astype(np.float64) for part in parts]
    return rate_across_seeds(groups)
