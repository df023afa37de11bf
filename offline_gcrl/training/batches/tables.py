"""The columns of the hindsight table that one mixture of strategies draws its goals from."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from offline_gcrl.config import Mixture
from offline_gcrl.config.outputs import TABLE
from offline_gcrl.goals.held_out import without_held_out
from offline_gcrl.hindsight.relabel import goal_column, reward_column
from offline_gcrl.support.digests import intact
from offline_gcrl.support.errors import DataError
from offline_gcrl.training.batches.data import DeviceData


@dataclass(frozen=True)
class GoalTable:
    """Goals and labels of N transitions, a column per draw of each strategy of the mixture."""

    goals: Tensor
    """(N, columns) int32: rows of all goals, achieved goals first, then desired goals."""
    rewards: Tensor
    """(N, columns): the labels."""
    cumulative: Tensor
    """(columns - 1,): cumulative probabilities of the columns, without the last, which is 1."""


def read_table(
    hindsight: Path, data: DeviceData, rows: NDArray[np.int64], mixture: Mixture
) -> GoalTable:
    """Read a mixture's columns for the transitions at ``rows``, (N,).

    Raises:
        DataError: the table belongs to another dataset, or lacks a strategy of the mixture.
    """
    columns = _columns(hindsight, mixture)
    names = sorted({name for pair in columns for name in pair[:2] if name is not None})
    table = pl.read_parquet(intact(hindsight / TABLE), columns=names)
    every = data.episodes.transition_rows()
    if len(table) != len(every):
        raise DataError(f"{hindsight} is not the table of this dataset; run `dvc repro`")
    table = table.filter(pl.Series(np.isin(every, rows, assume_unique=True)))
    goals, rewards = [], []
    for goal, reward, _ in columns:
        pursued = rows + len(data) if reward == reward_column("original") else rows
        goals.append(pursued if goal is None else table[goal].to_numpy())
        rewards.append(table[reward].to_numpy())
    shares = np.array([share for _, _, share in columns])
    return GoalTable(
        torch.from_numpy(np.stack(goals, 1).astype(np.int32)).to(data.device),
        torch.from_numpy(np.stack(rewards, 1)).to(data.device),
        torch.tensor(
            np.cumsum(shares / shares.sum())[:-1], dtype=torch.float32, device=data.device
        ),
    )


def without_held_out_goals(
    tables: dict[str, GoalTable], held_out: Tensor
) -> tuple[dict[str, GoalTable], Tensor]:
    """Take held-out goals from all tables.

    Args:
        tables: by purpose, all of the same N transitions.
        held_out: (goals,), which of all goals are held out.

    Returns:
        The tables of the transitions that are left, and which are left, (N,).

    Raises:
        DataError: none is left.
    """
    chosen = {purpose: without_held_out(table.goals, held_out) for purpose, table in tables.items()}
    left = torch.stack([usable for _, usable in chosen.values()]).all(0)
    kept = {
        purpose: GoalTable(
            tables[purpose].goals.gather(1, columns)[left],
            tables[purpose].rewards.gather(1, columns)[left],
            tables[purpose].cumulative,
        )
        for purpose, (columns, _) in chosen.items()
    }
    return kept, left


def _columns(hindsight: Path, mixture: Mixture) -> list[tuple[str | None, str, float]]:
    """(goal column, reward column, share) of each draw of each strategy in a mixture."""
    known = pl.read_parquet_schema(intact(hindsight / TABLE))
    columns: list[tuple[str | None, str, float]] = []
    for strategy, share in mixture.items():
        count = sum(name.startswith(f"{strategy}_reward_") for name in known)
        if count == 0:
            raise DataError(
                f"{hindsight / TABLE} has no goals of strategy '{strategy}'; "
                "add it to relabel.strategies in params.yaml and run `dvc repro`"
            )
        for draw in range(count):
            goal = goal_column(strategy, draw)
            reward = reward_column(strategy, draw)
            columns.append((goal if goal in known else None, reward, share / count))
    return columns
