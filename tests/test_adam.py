"""The package's Adam takes the steps of torch's, bit for bit."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from offline_gcrl.training.adam import FusedAdam

STEPS = 6


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 4), nn.Linear(4, 2))


def groups(layers: nn.Sequential) -> list[dict[str, Any]]:
    return [
        {"params": list(layers[0].parameters()), "lr": 1e-2},
        {"params": [*layers[1].parameters(), *layers[2].parameters()], "lr": 3e-3},
    ]


def torchs(layers: nn.Sequential) -> torch.optim.Adam:
    return torch.optim.Adam(groups(layers), fused=True)


def set_gradients(layers: nn.Sequential, number: int, missing: tuple[int, ...]) -> None:
    torch.manual_seed(100 + number)
    for place, parameter in enumerate(layers.parameters()):
        gradient = torch.randn_like(parameter)
        parameter.grad = None if place in missing else gradient


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def own_steps(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """A list that grows with each step that torch's own method takes for the package's Adam."""
    taken: list[None] = []
    original = torch.optim.Adam.step

    def step(self: torch.optim.Adam, closure: Any = None) -> Any:
        if isinstance(self, FusedAdam):
            taken.append(None)
        return original(self, closure)

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    return taken


@pytest.mark.parametrize(
    ("missing", "of_torch"),
    [
        ({}, [0]),
        ({2: (0, 1), 4: (0, 1)}, [0]),  # A group waits.
        ({0: (0, 1), 1: (0, 1)}, [0, 1, 2]),  # It waits before its first step, too.
        ({3: (0, 3)}, [0, 3]),  # A part of a group has no gradient.
        (dict.fromkeys(range(STEPS), (5,)), list(range(STEPS))),  # A parameter never has one.
    ],
)
def test_steps_are_those_of_torch(
    missing: dict[int, tuple[int, ...]], of_torch: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch's own step is taken only at ``of_torch``: the first, and where groups have gradients in part."""
    taken = own_steps(monkeypatch)
    expected, found = network(), network()
    plain, fused = torchs(expected), FusedAdam(groups(found))
    by_torch = []
    for number in range(STEPS):
        for layers in (expected, found):
            set_gradients(layers, number, missing.get(number, ()))
        plain.step()
        before = len(taken)
        fused.step()
        by_torch += [number] * (len(taken) - before)
        assert same(expected, found), number
    assert by_torch == of_torch
    fused.zero_grad()
    assert all(parameter.grad is None for parameter in found.parameters())


def test_a_step_after_loading_uses_the_loaded_state() -> None:
    expected, found = network(), network()
    plain, fused = torchs(expected), FusedAdam(groups(found))
    saved: dict[str, Any] = {}
    for number in range(STEPS):
        if number == 2:
            saved = copy.deepcopy({"weights": found.state_dict(), "optimizer": fused.state_dict()})
        for layers, optimizer in ((expected, plain), (found, fused)):
            set_gradients(layers, number, ())
            optimizer.step()
    found.load_state_dict(saved["weights"])
    fused.load_state_dict(saved["optimizer"])
    for number in range(2, STEPS):
        set_gradients(found, number, ())
        fused.step()
    assert same(expected, found)


def test_a_step_uses_the_learning_rates_and_groups_that_it_was_given_later() -> None:
    expected, found = network(), network()
    plain, fused = torchs(expected), FusedAdam(groups(found))
    for layers, optimizer in ((expected, plain), (found, fused)):
        added = nn.Parameter(torch.zeros(2))
        layers[0].register_parameter("added", added)
        for number in range(STEPS):
            set_gradients(layers, number, ())
            if number == 2:
                optimizer.param_groups[0]["lr"] = 0.1
            if number == 3:
                state = optimizer.state_dict()  # It shares the tensors of the state.
                state["param_groups"][1]["lr"] = 0.2
                optimizer.load_state_dict(state)
            if number == 4:
                optimizer.add_param_group({"params": [added]})
            optimizer.step()
    assert same(expected, found)
    assert added.any()


def test_a_step_uses_a_state_that_was_replaced() -> None:
    """Seeds that trained stacked get their states as new tensors."""
    layers = network()
    fused = FusedAdam(groups(layers))
    for number in range(2):
        set_gradients(layers, number, ())
        fused.step()
    for parameter, state in fused.state.items():
        fused.state[parameter] = {name: value.clone() for name, value in state.items()}
    expected = copy.deepcopy(layers)
    other = torchs(expected)
    other.load_state_dict(copy.deepcopy(fused.state_dict()))
    states: list[Tensor] = [state["exp_avg"] for state in fused.state.values()]
    before = [state.clone() for state in states]
    for model, optimizer in ((layers, fused), (expected, other)):
        set_gradients(model, 2, ())
        optimizer.step()
    assert same(layers, expected)
    assert all(not torch.equal(a, b) for a, b in zip(states, before, strict=True))
