"""Batches are a pure function of (seed, step), and their targets are those of a slow reading."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from conftest import SmallDataset

from offline_gcrl.config import Sampling
from offline_gcrl.policies.scaling import Scaling
from offline_gcrl.support.errors import DataError, SettingsError
from offline_gcrl.training.batches.data import DeviceData
from offline_gcrl.training.batches.draw import Draw, Target
from offline_gcrl.training.batches.fields import FIELDS
from offline_gcrl.training.batches.sampler import BatchSampler

VALUE_FIELDS = (
    "observations", "actions", "tasks", "actor_goals", "next_observations", "initial_observations", "achieved_goals",
    "value_goals", "rewards", "masks", "discounts", "mixing",
)  # fmt: skip
MIXTURE = {"current": 0.2, "geometric": 0.3, "random": 0.3, "original": 0.2}


def sampler(
    dataset: SmallDataset,
    split: str = "train",
    seed: int = 0,
    device: str = "cpu",
    **asked: object,
) -> BatchSampler:
    sampling = Sampling.model_validate(
        {
            "fields": VALUE_FIELDS,
            "actor_goals": {"future": 1.0},
            "value_goals": MIXTURE,
            "representation_goals": MIXTURE,
            "discount": 0.9,
            **asked,
        }
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
    draw = source.draw(0, 3000)
    assert len(draw.pick.unique()) == len(source)
    first = draw.actor_goal.row[draw.pick == 0]
    table = pl.read_parquet(dataset.hindsight / "table.parquet")
    row = table.filter(pl.col("row") == int(source.transitions.rows[0]))
    assert set(first.tolist()) == {row[f"future_goal_{draw}"][0] for draw in range(3)}


def test_a_mixture_has_its_shares(dataset: SmallDataset) -> None:
    draw = sampler(dataset).draw(0, 600)
    goal = draw.value_goal.row
    assert (goal == draw.row).float().mean() == pytest.approx(0.2, abs=0.02)
    assert (goal == draw.row + len(draw.data)).float().mean() == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize("n_step", [1, 2, 5])
@pytest.mark.parametrize("reward", ["negative", "binary"])
def test_targets_are_those_of_a_walk_along_the_episode(
    dataset: SmallDataset, n_step: int, reward: str
) -> None:
    draw = sampler(dataset, n_step=n_step, reward=reward).draw(0, 7)
    targets = walk_along(dataset, draw, draw.value_goal.row, n_step, 0.9, reward)
    assert_targets(draw.value_target, targets)


def test_the_targets_of_a_goal_encoder_have_its_own_goals_steps_and_discount(
    dataset: SmallDataset,
) -> None:
    own = {"representation_n_step": 3, "representation_discount": 0.8}
    draw = sampler(dataset, n_step=2, reward="binary", **own).draw(0, 7)
    goal = draw.representation_goal.row
    assert not torch.equal(goal, draw.value_goal.row)
    assert_targets(draw.representation_target, walk_along(dataset, draw, goal, 3, 0.8, "negative"))


Walk = list[tuple[float, float, int]]
"""Rewards, masks and steps of transitions."""


def walk_along(
    dataset: SmallDataset, draw: Draw, goal: torch.Tensor, n_step: int, discount: float, reward: str
) -> Walk:
    """The targets of the first 400 transitions of a draw, state by state."""
    episodes, found = dataset.episodes, []
    goals = np.concatenate([episodes.achieved_goal, episodes.desired_goal])
    rows = torch.stack([draw.row, draw.last_row, goal], -1).flatten(0, 1)[:400]
    for row, last, pursued in rows.tolist():
        total, steps, reached = 0.0, 0, False
        while steps < n_step and row + steps < last and not reached:
            state = episodes.achieved_goal[row + steps + 1]
            reached = bool(np.linalg.norm(state - goals[pursued]) <= 0.45)
            paid = float(reached) if reward == "binary" else float(reached) - 1.0
            total += discount**steps * paid
            steps += 1
        found.append((total, float(not reached), steps))
    return found


def assert_targets(target: Target, expected: Walk) -> None:
    got = torch.stack([part.flatten()[: len(expected)].double() for part in target], -1)
    torch.testing.assert_close(got, torch.tensor(expected).double(), rtol=0.0, atol=1e-6)


@pytest.mark.parametrize("initial", ["episode", "any"])
def test_making_batches_never_waits_for_the_host(dataset: SmallDataset, initial: str) -> None:
    source = sampler(dataset, n_step=4, initial_states=initial, device="meta")  # Has no values.
    shapes = {name: values.shape for name, values in source.batches(3, 2).items()}
    expected = sampler(dataset, n_step=4, initial_states=initial).batches(3, 2)
    assert shapes == {name: values.shape for name, values in expected.items()}


def test_batches_hold_the_values_of_their_rows(dataset: SmallDataset) -> None:
    source = sampler(dataset, n_step=4, initial_states="episode")
    batch, draw, data = source.batches(3, 1), source.draw(3, 1), source.data
    expected = {
        "observations": data.observations[draw.row],
        "next_observations": data.observations[draw.row + draw.value_target.ahead],
        "initial_observations": data.observations[source.transitions.first_row[draw.pick]],
        "achieved_goals": data.goals[draw.row],
        "value_goals": data.goals[draw.value_goal.row],
        "actions": data.actions[draw.row],
        "discounts": 0.9**draw.value_target.ahead,
    }
    for name, values in expected.items():
        assert torch.equal(batch[name], values), name


def test_an_agent_gets_the_fields_that_it_asks_for_and_no_others(dataset: SmallDataset) -> None:
    asked = ("observations", "actor_goals")
    batch = sampler(dataset, value_goals={}, fields=asked).batches(0, 1)
    assert tuple(batch) == asked


def test_an_unknown_field_is_named_with_the_nearest_one(dataset: SmallDataset) -> None:
    with pytest.raises(
        SettingsError, match="'reward', which does not exist.*did you mean 'rewards'"
    ):
        sampler(dataset, fields=("reward",))


def test_a_field_of_value_goals_needs_a_mixture_of_them(dataset: SmallDataset) -> None:
    with pytest.raises(SettingsError, match="needs value_goals"):
        sampler(dataset, value_goals={}, fields=("rewards",)).batches(0, 1)


@pytest.fixture(scope="module")
def every_field(dataset: SmallDataset) -> tuple[Draw, dict[str, torch.Tensor]]:
    """Each field there is, of 40 batches of goals within and outside of the episode."""
    source = sampler(dataset, fields=tuple(FIELDS), subgoal_steps=7, initial_states="any")
    return source.draw(2, 40), source.batches(2, 40)


def test_every_field_has_the_shape_that_its_docstring_says(
    every_field: tuple[Draw, dict[str, torch.Tensor]], dataset: SmallDataset
) -> None:
    draw, batch = every_field
    sizes = {"batch": 64, "n": 10, **draw.data.dimensions.__dict__}
    for name, function in FIELDS.items():
        said = (function.__doc__ or "").partition(". ")[0].strip("()").split(",")
        shape = [sizes[word.strip()] for word in said if word.strip()]
        assert list(batch[name].shape) == [40, *shape], name


def test_every_field_is_made_on_the_device_without_waiting_for_the_host(
    dataset: SmallDataset, every_field: tuple[Draw, dict[str, torch.Tensor]]
) -> None:
    source = sampler(dataset, fields=tuple(FIELDS), device="meta", initial_states="any")
    assert {name: values.shape for name, values in source.batches(2, 40).items()} == {
        name: values.shape for name, values in every_field[1].items()
    }


def test_steps_to_a_goal_are_rows_within_the_episode_and_minus_one_elsewhere(
    every_field: tuple[Draw, dict[str, torch.Tensor]],
) -> None:
    draw, batch = every_field
    columns = (
        draw.row,
        draw.last_row,
        draw.value_goal.row,
        *map(batch.get, ("value_goal_steps", "steps_left")),
    )
    for row, last, goal, steps, left in torch.stack(columns, -1).flatten(0, 1).tolist():
        assert steps == (goal - row if row <= goal <= last else -1)
        assert left == last - row
    assert {-1, 0} < set(batch["value_goal_steps"].flatten().tolist())


def test_any_later_state_is_equally_likely_to_end_a_sub_trajectory(
    every_field: tuple[Draw, dict[str, torch.Tensor]],
) -> None:
    _, batch = every_field
    ends, left = batch["sub_trajectory_ends"], batch["steps_left"]
    assert ends[left == 1].all()
    assert set(ends.unique().tolist()) == {0.0, 1.0}
    assert ends.mean().item() == pytest.approx((1.0 / left).mean().item(), abs=0.02)


def test_subgoals_are_k_steps_ahead_but_not_past_the_goal_or_the_end(
    every_field: tuple[Draw, dict[str, torch.Tensor]],
) -> None:
    draw, batch = every_field
    goal, last = draw.actor_goal.row, draw.last_row  # Future goals: all are ahead in the episode.
    subgoal = torch.minimum(draw.row + 7, goal)
    assert torch.equal(batch["subgoal_observations"], draw.data.observations[subgoal])
    assert torch.equal(batch["subgoals"], draw.data.goals[subgoal])
    assert torch.equal(batch["low_goals"], draw.data.goals[torch.minimum(draw.row + 7, last)])
    assert (subgoal < draw.row + 7).any()


def test_subgoals_of_goals_elsewhere_end_with_the_episode(dataset: SmallDataset) -> None:
    source = sampler(dataset, fields=("subgoals",), actor_goals={"random": 1.0}, subgoal_steps=7)
    draw = source.draw(0, 20)
    elsewhere = draw.steps_to(draw.actor_goal) < 0
    assert elsewhere.float().mean() > 0.5
    expected = torch.minimum(draw.row + 7, draw.last_row)
    assert torch.equal(draw.subgoal_row[elsewhere], expected[elsewhere])


def test_midpoints_are_uniform_between_the_state_and_its_goal(dataset: SmallDataset) -> None:
    draw = sampler(dataset, value_goals={"future": 1.0}, fields=("midpoint_steps",)).draw(0, 300)
    between, whole = draw.midpoint_row - draw.row, draw.steps_to(draw.value_goal)
    assert (between >= 0).all()
    assert (between < whole).all()
    assert (between.float() / whole)[whole > 9].mean() == pytest.approx(0.5 - 1 / 40, abs=0.03)


def test_the_next_action_is_that_of_the_next_row_of_the_episode(
    every_field: tuple[Draw, dict[str, torch.Tensor]],
) -> None:
    draw, batch = every_field
    has = batch["has_next_actions"].bool()
    assert torch.equal(has, draw.row + 1 < draw.last_row)
    assert torch.equal(batch["next_actions"][has], draw.data.actions[draw.row[has] + 1])
    assert torch.equal(batch["next_actions"][~has], batch["actions"][~has])


def test_permuted_goals_are_the_goals_of_the_same_batch_in_another_order(
    every_field: tuple[Draw, dict[str, torch.Tensor]],
) -> None:
    _, batch = every_field
    for goals, permuted in zip(batch["value_goals"], batch["permuted_value_goals"], strict=True):
        assert not torch.equal(goals, permuted)
        assert sorted(map(tuple, goals.tolist())) == sorted(map(tuple, permuted.tolist()))


def test_random_numbers_have_their_distributions(
    every_field: tuple[Draw, dict[str, torch.Tensor]],
) -> None:
    _, batch = every_field
    uniform, normal = batch["uniform_actions"], batch["noise"]
    assert uniform.abs().max() < 1.0
    assert uniform.mean() == pytest.approx(0.0, abs=0.01)
    assert uniform.std() == pytest.approx(3**-0.5, abs=0.01)
    assert normal.mean() == pytest.approx(0.0, abs=0.05)
    assert normal.std() == pytest.approx(1.0, abs=0.05)
    assert batch["update"][:, 0].tolist() == list(range(2, 42))


def test_rewards_of_actor_goals_are_those_of_one_step(dataset: SmallDataset) -> None:
    source = sampler(dataset, n_step=4, fields=("actor_rewards", "actor_masks"))
    batch, label = source.batches(0, 50), source.draw(0, 50).actor_goal.label
    torch.testing.assert_close(batch["actor_rewards"], label.float())
    assert torch.equal(batch["actor_masks"], (label != 0).float())
    assert (label == 0).any()


def sample_from(table: pl.DataFrame, dataset: SmallDataset, folder: Path) -> BatchSampler:
    table.write_parquet(folder / "table.parquet")
    sampling = Sampling(fields=("actor_goals",), actor_goals={"future": 1.0})
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


def test_an_agent_may_read_observations_and_goals_as_they_are(dataset: SmallDataset) -> None:
    episodes = dataset.episodes
    data = DeviceData(episodes, normalise=False)
    assert torch.equal(data.observations, torch.from_numpy(episodes.observation))
    assert torch.equal(data.goals[: len(data)], torch.from_numpy(episodes.achieved_goal))
    assert not torch.equal(data.observations, DeviceData(episodes).observations)
