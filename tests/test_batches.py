"""Batches are a pure function of (seed, step), and their targets are those of a slow reading."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from conftest import SmallDataset

from offline_gcrl.config import Sampling
from offline_gcrl.policies.scaling import Scaling
from offline_gcrl.support.errors import DataError
from offline_gcrl.training.batches import BatchSampler, DeviceData

MIXTURE = {"current": 0.2, "geometric": 0.3, "random": 0.3, "original": 0.2}


def sampler(
    dataset: SmallDataset,
    split: str = "train",
    seed: int = 0,
    device: str = "cpu",
    **asked: object,
) -> BatchSampler:
    sampling = Sampling.model_validate(
        {"actor_goals": {"future": 1.0}, "value_goals": MIXTURE, "discount": 0.9, **asked}
    )
    data = DeviceData(dataset.episodes, device)
    return BatchSampler(data, dataset.hindsight, sampling, split=split, batch_size=64, seed=seed)


def test_batches_do_not_depend_on_how_many_are_made_at_once(dataset: SmallDataset) -> None:
    source = sampler(dataset, n_step=3, initial_states="any")
    together = source.batches(5, 4)
    for number in range(4):
        alone = source.batches(5 + number, 1)
        for name, values in together.items():
            assert torch.equal(values[number], alone[name][0]), name


def test_batches_differ_between_steps_and_between_seeds(dataset: SmallDataset) -> None:
    first, second = sampler(dataset).batches(0, 2)["observations"]
    other = sampler(dataset, seed=1).batches(0, 1)["observations"][0]
    assert not torch.equal(first, second)
    assert not torch.equal(first, other)


def test_a_split_draws_from_its_own_episodes_only(dataset: SmallDataset) -> None:
    for split in ("train", "validation"):
        source = sampler(dataset, split)
        rows = set(dataset.episodes.transition_rows(split).tolist())
        own = {tuple(row.tolist()) for row in source.data.observations[sorted(rows)]}
        seen = {tuple(row.tolist()) for row in source.batches(0, 4)["observations"].flatten(0, 1)}
        assert seen <= own


def test_all_transitions_and_all_draws_come_up(dataset: SmallDataset) -> None:
    source = sampler(dataset)
    counter = torch.arange(200_000)
    picks = source._draw("transition", counter, len(source))
    assert len(picks.unique()) == len(source)
    goals = source._goals("actor_goal", torch.zeros_like(counter), counter)[0]
    table = pl.read_parquet(dataset.hindsight / "table.parquet")
    first = table.filter(pl.col("row") == int(source.rows[0]))
    assert set(goals.unique().tolist()) == {first[f"future_goal_{draw}"][0] for draw in range(3)}


def test_a_mixture_has_its_shares(dataset: SmallDataset) -> None:
    source = sampler(dataset)
    pick = source._draw("transition", torch.arange(40_000), len(source))
    goal, _ = source._goals("value_goal", pick, torch.arange(40_000))
    row, rows = source.rows[pick], len(source.data.observations)
    assert (goal == row).float().mean() == pytest.approx(0.2, abs=0.02)
    assert (goal == row + rows).float().mean() == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize("n_step", [1, 2, 5])
@pytest.mark.parametrize("reward", ["negative", "binary"])
def test_targets_are_those_of_a_walk_along_the_episode(
    dataset: SmallDataset, n_step: int, reward: str
) -> None:
    episodes = dataset.episodes
    source = sampler(dataset, n_step=n_step, reward=reward)
    counter = torch.arange(400)
    pick = source._draw("transition", counter, len(source))
    row, last = source.rows[pick], source.last_row[pick]
    goal, label = source._goals("value_goal", pick, counter)
    rewards, masks, ahead = source._n_step(row, last, goal, label)
    goals = np.concatenate([episodes.achieved_goal, episodes.desired_goal])
    for place in range(400):
        total, steps, reached = 0.0, 0, False
        while steps < n_step and row[place] + steps < last[place] and not reached:
            state = episodes.achieved_goal[row[place] + steps + 1]
            reached = bool(np.linalg.norm(state - goals[goal[place]]) <= 0.45)
            total += 0.9**steps * (float(reached) if reward == "binary" else float(reached) - 1.0)
            steps += 1
        assert ahead[place] == steps
        assert masks[place] == float(not reached)
        assert rewards[place] == pytest.approx(total, abs=1e-6)


@pytest.mark.parametrize("initial", ["episode", "any"])
def test_making_batches_never_waits_for_the_host(dataset: SmallDataset, initial: str) -> None:
    source = sampler(dataset, n_step=4, initial_states=initial, device="meta")  # Has no values.
    shapes = {name: values.shape for name, values in source.batches(3, 2).items()}
    expected = sampler(dataset, n_step=4, initial_states=initial).batches(3, 2)
    assert shapes == {name: values.shape for name, values in expected.items()}


def test_batches_hold_the_values_of_their_rows(dataset: SmallDataset) -> None:
    source = sampler(dataset, n_step=4, initial_states="episode")
    batch = source.batches(3, 1)
    counter = 3 * 64 + torch.arange(64)
    pick = source._draw("transition", counter, len(source))
    goal, label = source._goals("value_goal", pick, counter)
    _, _, ahead = source._n_step(source.rows[pick], source.last_row[pick], goal, label)
    expected = {
        "observations": source.data.observations[source.rows[pick]],
        "next_observations": source.data.observations[source.rows[pick] + ahead],
        "initial_observations": source.data.observations[source.first_row[pick]],
        "achieved_goals": source.data.goals[source.rows[pick]],
        "value_goals": source.data.goals[goal],
        "actions": source.data.actions[source.rows[pick]],
        "discounts": 0.9**ahead,
    }
    for name, values in expected.items():
        assert torch.equal(batch[name][0], values), name


def test_an_agent_without_values_gets_no_more_than_it_asks_for(dataset: SmallDataset) -> None:
    batch = sampler(dataset, value_goals={}).batches(0, 1)
    assert set(batch) == {"observations", "actions", "tasks", "actor_goals"}


def sample_from(table: pl.DataFrame, dataset: SmallDataset, folder: Path) -> BatchSampler:
    table.write_parquet(folder / "table.parquet")
    sampling = Sampling(actor_goals={"future": 1.0})
    return BatchSampler(
        DeviceData(dataset.episodes), folder, sampling, split="train", batch_size=8, seed=0
    )


def test_a_table_of_another_dataset_is_refused(dataset: SmallDataset, tmp_path: Path) -> None:
    table = pl.read_parquet(dataset.hindsight / "table.parquet")
    with pytest.raises(DataError, match="not the table of this dataset"):
        sample_from(table.head(7), dataset, tmp_path)


def test_a_strategy_that_was_not_relabelled_is_named(dataset: SmallDataset, tmp_path: Path) -> None:
    table = pl.read_parquet(dataset.hindsight / "table.parquet")
    with pytest.raises(DataError, match="no goals of strategy 'future'"):
        sample_from(table.select("row", "current_reward_0"), dataset, tmp_path)


def test_scaling_goes_there_and_back() -> None:
    scaling = Scaling((0.0,), (1.0,), (0.0,), (1.0,), (-2.0, 0.0), (2.0, 10.0))
    actions = torch.tensor([[-2.0, 0.0], [2.0, 10.0], [0.0, 5.0]])
    scaled = scaling.scaled_actions(actions)
    assert scaled.tolist() == [[-1.0, -1.0], [1.0, 1.0], [0.0, 0.0]]
    assert torch.equal(scaling.environment_actions(scaled), actions)
    assert scaling.environment_actions(torch.tensor([9.0, -9.0])).tolist() == [2.0, 0.0]
