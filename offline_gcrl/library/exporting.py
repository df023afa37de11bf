"""Export of policies as one file that acts without this package: PyTorch's ``.pt2``, or ``.onnx``.

The file contains everything between an observation and an action: normalisation, clipping, the networks, and the scaling
to the bounds of the action space.
"""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from offline_gcrl.library.onnx_files import check_packages, write_onnx
from offline_gcrl.networks.conditioning import UNSEEN
from offline_gcrl.policies.policy import Policy
from offline_gcrl.support.errors import PolicyError
from offline_gcrl.support.files import write_bytes

TOLERANCE = 1e-5
"""Largest difference between the exported policy and ``act``, relative to the range of each action."""
CHECKED = 64
"""Number of states that the exported policy is compared in."""
Runner = Callable[[dict[str, NDArray[Any]]], NDArray[Any]]
"""Runs an exported policy: from inputs by name to actions."""


class CompletePolicy(nn.Module):
    """A policy in the units of the environment, (batch, observation) and (batch, goal) to (batch, action)."""

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.actor, self.scaling = policy.actor, policy.scaling
        self.default_task = UNSEEN if policy.settings.task_network == "distral" else 0

    def forward(self, observation: Tensor, goal: Tensor, task: Tensor | None = None) -> Tensor:
        """Actions; ``task`` are the numbers of the tasks, (batch,), for a policy that depends on the task."""
        if task is None:
            task = torch.full_like(observation[:, 0], self.default_task, dtype=torch.int64)
        states, goals = self.scaling.observations(observation), self.scaling.goals(goal)
        actions: Tensor = self.scaling.environment_actions(self.actor(states, goals, task))
        return actions


def export_policy(policy: Policy, path: str | Path) -> Path:
    """Write a policy to a file, after a comparison with ``act``.

    ``torch.export.load`` reads a ``.pt2`` file; ONNX Runtime and other engines read an ``.onnx`` file, which needs the extra
    ``export``. Inputs are ``observation``, (batch, observation), and ``goal``, (batch, goal), float32 in the units of the environment,
    and, for a policy that needs the task, ``task``, (batch,), int64, the number of the task in ``policy.tasks``. The output
    is ``action``, (batch, action).

    Args:
        policy: the policy.
        path: the file to write; its suffix is the format.

    Returns:
        The path.

    Raises:
        PolicyError: the suffix is another one, a package is missing, the policy takes instructions or images, or the
            exported policy differs from ``act``.
    """
    path = Path(path)
    if policy.vocabulary is not None:
        raise PolicyError(
            f"{path}: a policy that takes instructions cannot be exported, because its text encoder is no network; use "
            "save and load_policy"
        )
    if policy.dimensions.image is not None:
        raise PolicyError(
            f"{path}: a policy that sees images cannot be exported yet; use save and load_policy"
        )
    if path.suffix not in WRITERS:
        raise PolicyError(
            f"{path}: export writes {' and '.join(WRITERS)} files; choose such a name"
        )
    if path.suffix == ".onnx":
        check_packages(path)
    with torch.no_grad(), TemporaryDirectory(prefix="offline-gcrl-") as folder:
        made = Path(folder) / path.name
        run = WRITERS[path.suffix](_exported(policy), made)
        _check(policy, run, path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, made.read_bytes())
    return path


def _exported(policy: Policy) -> torch.export.ExportedProgram:
    """The policy as a graph, for any size of the batch."""
    example = {name: torch.from_numpy(values) for name, values in _inputs(policy, 3).items()}
    batch = torch.export.Dim("batch")
    shapes = {name: {0: batch} for name in example}
    return torch.export.export(
        CompletePolicy(policy).eval(), (), kwargs=example, dynamic_shapes=shapes
    )


def _inputs(policy: Policy, count: int) -> dict[str, NDArray[Any]]:
    """Random states and goals around the data, a few of which are beyond the bounds of normalised inputs."""
    random, scaling, sizes = np.random.default_rng(0), policy.scaling, policy.dimensions
    drawn: dict[str, NDArray[Any]] = {}
    for name, size in (("observation", sizes.observation), ("goal", sizes.goal)):
        mean, std = getattr(scaling, f"{name}_mean"), getattr(scaling, f"{name}_std")
        values = np.array(mean) + 3.0 * np.array(std) * random.normal(size=(count, size))
        drawn[name] = values.astype(np.float32)
    if policy.needs_task:
        drawn["task"] = np.arange(count, dtype=np.int64) % len(policy.tasks)
    return drawn


def _write_pt2(program: torch.export.ExportedProgram, path: Path) -> Runner:
    torch.export.save(program, path)
    module = torch.export.load(path).module()

    def run(inputs: dict[str, NDArray[Any]]) -> NDArray[Any]:
        tensors = {name: torch.from_numpy(values) for name, values in inputs.items()}
        actions: NDArray[Any] = module(**tensors).numpy()
        return actions

    return run


WRITERS: dict[str, Callable[[torch.export.ExportedProgram, Path], Runner]] = {
    ".pt2": _write_pt2,
    ".onnx": write_onnx,
}
"""Writes a graph to a file of each format, and returns a function that runs the file."""


def _check(policy: Policy, run: Runner, path: Path) -> None:
    """Compare the exported policy with ``act``, for a batch and for one state.

    Raises:
        PolicyError: the actions differ.
    """
    low, high = np.array(policy.scaling.action_low), np.array(policy.scaling.action_high)
    for count in (CHECKED, 1):
        inputs = _inputs(policy, count)
        difference = np.abs(run(inputs) - _acted(policy, inputs)) / (high - low)
        if not difference.max() <= TOLERANCE:
            raise PolicyError(
                f"{path}: the exported policy differs from the policy by {difference.max():.1e} of the range of actions, "
                "so it was not written; report this with the version of torch"
            )


def _acted(policy: Policy, inputs: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
    """What ``act`` gives, state by state."""
    numbers = inputs.get("task")
    count = len(inputs["goal"])
    tasks = [None] * count if numbers is None else [policy.tasks[number] for number in numbers]
    rows = zip(inputs["observation"], inputs["goal"], tasks, strict=True)
    return np.stack([Policy.act(policy, *row) for row in rows])
