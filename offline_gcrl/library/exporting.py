"""Export of policies as one file that acts without this package: PyTorch's ``.pt2``, or ``.onnx``.

The file contains everything between an observation and an action: normalisation and clipping, or the scaling of pixels,
the networks, and the scaling to the bounds of the action space.
"""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from offline_gcrl.config.images import BRIGHTEST
from offline_gcrl.library.onnx_files import check_packages, write_onnx
from offline_gcrl.networks.conditioning import UNSEEN
from offline_gcrl.policies.policy import Policy
from offline_gcrl.policies.seeing import IMAGE, STATE
from offline_gcrl.support.errors import PolicyError, message_of
from offline_gcrl.support.files import write_bytes

TOLERANCE = 1e-5
"""Largest difference between the exported policy and ``act``, relative to the range of each action."""
CHECKED = 64
"""Number of states that the exported policy is compared in."""
Runner = Callable[[dict[str, NDArray[Any]]], NDArray[Any]]
"""Runs an exported policy: from inputs by name to actions."""


class CompletePolicy(nn.Module):
    """A policy of batches, in the units of the environment; it computes what ``policies.seeing`` and ``Policy.act`` do."""

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.actor, self.scaling, self.inputs = policy.actor, policy.scaling, policy.inputs
        self.default_task = UNSEEN if policy.settings.task_network == "distral" else 0

    def forward(
        self,
        observation: Tensor,
        goal: Tensor,
        task: Tensor | None = None,
        state: Tensor | None = None,
    ) -> Tensor:
        """Actions, (batch, action).

        Args:
            observation: (batch, observation), or images of bytes, (batch, height, width, channels).
            goal: (batch, goal), or images.
            task: the numbers of the tasks, (batch,), for a policy that depends on the task.
            state: (batch, state), for a policy that reads an image and a state.
        """
        if task is None:
            first = observation.flatten(1)[:, 0]
            task = torch.full_like(first, self.default_task, dtype=torch.int64)
        scaled = self.actor(self._states(observation, state), self._goals(goal), task)
        actions: Tensor = self.scaling.environment_actions(scaled)
        return actions

    def _states(self, observation: Tensor, state: Tensor | None) -> Tensor:
        if not self.inputs.sees_states:
            return self.scaling.observations(observation)
        image = _pixels(observation)
        return image if state is None else torch.cat([image, self.scaling.observations(state)], -1)

    def _goals(self, goal: Tensor) -> Tensor:
        if not self.inputs.sees_goals:
            return self.scaling.goals(goal)
        image = _pixels(goal)
        return torch.zeros_like(image) if self.inputs.vision.goal == "black" else image


def _pixels(images: Tensor) -> Tensor:
    """Images of bytes, (batch, height, width, channels), as numbers from 0 to 1, (batch, pixels)."""
    return images.flatten(1).to(torch.float32) / BRIGHTEST


def export_policy(policy: Policy, path: str | Path) -> Path:
    """Write a policy to a file, after a comparison with ``act``.

    ``torch.export.load`` reads a ``.pt2`` file; ONNX Runtime and other engines read an ``.onnx`` file, which needs the extra
    ``export``. Inputs are ``observation``, (batch, observation), and ``goal``, (batch, goal), float32 in the units of the environment,
    and, for a policy that needs the task, ``task``, (batch,), int64, the number of the task in ``policy.tasks``. Where the
    policy reads images, ``observation`` and ``goal`` are (batch, height, width, channels), uint8, and a policy that also reads
    a state has the input ``state``, (batch, state), float32. The output is ``action``, (batch, action).

    Args:
        policy: the policy.
        path: the file to write; its suffix is the format.

    Returns:
        The path.

    Raises:
        PolicyError: the suffix is another one, a package is missing, the policy takes instructions, or the exported
            policy differs from ``act``.
    """
    path = Path(path)
    if policy.vocabulary is not None:
        raise PolicyError(
            f"{path}: a policy that takes instructions cannot be exported, because its text encoder is no network; use "
            "save and load_policy"
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
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, made.read_bytes())
        except OSError as error:
            raise PolicyError(message_of(error) or f"{path}: {error}") from error
    return path


def _exported(policy: Policy) -> torch.export.ExportedProgram:
    """The policy as a graph, for any size of the batch."""
    example = {name: torch.from_numpy(values) for name, values in _inputs(policy, 3).items()}
    batch = torch.export.Dim("batch")
    shapes = {name: {0: batch} for name in example}
    # A copy, because the actions of a file that is loaded need no gradients, and the policy may be trained further.
    complete = deepcopy(CompletePolicy(policy)).eval().requires_grad_(False)
    return torch.export.export(complete, (), kwargs=example, dynamic_shapes=shapes)


def _inputs(policy: Policy, count: int) -> dict[str, NDArray[Any]]:
    """Random images, and states and goals around the data, a few of which are beyond the bounds of normalised inputs."""
    random, sizes, reads = np.random.default_rng(0), policy.dimensions, policy.inputs

    def vectors(name: str, size: int) -> NDArray[np.float32]:
        mean, std = (
            np.array(getattr(policy.scaling, f"{name}_{part}")) for part in ("mean", "std")
        )
        return (mean + 3.0 * std * random.normal(size=(count, size))).astype(np.float32)

    def images() -> NDArray[np.uint8]:
        assert sizes.image is not None
        return random.integers(0, BRIGHTEST, (count, *sizes.image), np.uint8, endpoint=True)

    drawn: dict[str, NDArray[Any]] = {
        "observation": images() if reads.sees_states else vectors("observation", sizes.observation),
        "goal": images() if reads.sees_goals else vectors("goal", sizes.goal),
    }
    if policy.needs_task:
        drawn["task"] = np.arange(count, dtype=np.int64) % len(policy.tasks)
    if reads.sees_states and reads.state_size > 0:
        drawn[STATE] = vectors("observation", reads.state_size)
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
    observations: list[Any] = list(inputs["observation"])
    if STATE in inputs:
        pairs = zip(observations, inputs[STATE], strict=True)
        observations = [{IMAGE: image, STATE: state} for image, state in pairs]
    count = len(inputs["goal"])
    numbers = inputs.get("task")
    tasks = [None] * count if numbers is None else [policy.tasks[number] for number in numbers]
    rows = zip(observations, inputs["goal"], tasks, strict=True)
    return np.stack([Policy.act(policy, *row) for row in rows])
