"""Parameter groups may step at every n-th update only, exactly: neither weights nor Adam's state move between."""

import json
from typing import Any

import torch
from test_agents import DIMENSIONS, make_batch, make_settings, snapshot
from test_speed import adam, chunk, not_recorded

from offline_gcrl.agents import EVERY, bc
from offline_gcrl.training.captured import CapturedUpdater
from offline_gcrl.training.multitask.gradients import plain_sum
from offline_gcrl.training.multitask.updates import TaskGradientUpdater
from offline_gcrl.training.stacked import StackedUpdater
from offline_gcrl.training.updates import PlainUpdater


class Delayed(bc.Agent):
    """BC whose last layer steps at every second update, and its first layer at every third."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        parts = [self.actor.network.trunk[number] for number in (0, 2, 4)]
        return [
            {"params": list(part.parameters()), "lr": 1e-2, **every}
            for part, every in zip(parts, ({EVERY: 3}, {}, {EVERY: 2}), strict=True)
        ]


def make(seed: int = 0) -> Delayed:
    torch.manual_seed(seed)
    return Delayed(make_settings("bc", {}), DIMENSIONS)  # type: ignore[arg-type]


def plain(agent: Any) -> PlainUpdater:
    return PlainUpdater(agent, agent.loss, adam(agent))


def test_each_group_steps_when_its_turn_comes_and_stays_as_it_is_at_other_updates() -> None:
    agent = make()
    updater = plain(agent)
    layers = {0: 3, 2: 1, 4: 2}
    for number in range(7):
        before = snapshot(agent)
        updater.update(make_batch(number), number)
        for layer, every in layers.items():
            name = f"actor.network.trunk.{layer}.weight"
            moved = not torch.equal(before[name], agent.state_dict()[name])
            assert moved == ((number + 1) % every == 0), (number, layer)


def test_a_delayed_group_steps_as_an_adam_of_its_own_that_is_called_less_often() -> None:
    agent, by_hand = make(), make()
    updater = plain(agent)
    groups = by_hand.parameter_groups()
    own = [(torch.optim.Adam([group], fused=True), group.get(EVERY, 1)) for group in groups]
    for number in range(7):
        updater.update(make_batch(number), number)
        by_hand.zero_grad()
        by_hand.loss(make_batch(number))[0].backward()
        for optimizer, every in own:
            if (number + 1) % every == 0:
                optimizer.step()
    for name, value in snapshot(by_hand).items():
        assert torch.equal(value, agent.state_dict()[name]), name


def test_recorded_updates_keep_the_turns_of_groups_in_chunks_of_any_length() -> None:
    one_by_one, inner = plain(make()), plain(make())
    captured = CapturedUpdater(inner, not_recorded)
    first = 0
    for seed, count in enumerate((4, 4, 1, 4, 3, 4, 4)):
        for updater in (one_by_one, captured):
            updater.run(chunk(count, seed), first, count)
        first += count
    for name, value in one_by_one.agent.state_dict().items():  # type: ignore[attr-defined]
        assert torch.equal(value, inner.agent.state_dict()[name]), name  # type: ignore[attr-defined]


def test_stacked_seeds_keep_the_turns_of_groups_over_rounds() -> None:
    alone, agents = [make(seed) for seed in range(2)], [make(seed) for seed in range(2)]
    optimizers = [adam(agent) for agent in agents]
    apart = [plain(agent) for agent in alone]
    for first, count in ((0, 1), (1, 4)):  # After the first round one group has not stepped yet.
        together = StackedUpdater(agents, optimizers)
        batches = [chunk(count, 10 * seed + first) for seed in range(2)]
        together.run(
            {name: torch.stack([part[name] for part in batches], 1) for name in batches[0]},
            first,
            count,
        )
        together.finish_round()
        for updater, own in zip(apart, batches, strict=True):
            updater.run(own, first, count)
    for expected, agent in zip(alone, agents, strict=True):
        torch.testing.assert_close(agent.state_dict(), expected.state_dict(), rtol=1e-3, atol=2e-5)


def test_with_gradients_per_task_groups_keep_their_turns() -> None:
    agent = make()
    updater = TaskGradientUpdater(agent, adam(agent), plain_sum, tasks=4)
    before = snapshot(agent)
    updater.update(make_batch(), 0)
    changed = {
        name.split(".")[3]
        for name, value in agent.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert changed == {"2"}


def test_the_turns_are_part_of_a_saved_optimizer() -> None:
    optimizer = adam(make())
    saved = json.loads(json.dumps(optimizer.state_dict()["param_groups"]))
    assert [group.get(EVERY) for group in saved] == [3, None, 2]
