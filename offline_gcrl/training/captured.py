"""Updates recorded once as a CUDA graph and replayed: a chunk of updates is one launch, not thousands.

Recording requires that batches are at the same address each time, that Adam counts its steps on the device, and
that nothing waits for the host. Diagnostics stay on the device. The recorded work is that of the inner updater;
where recording fails, the inner updater runs without it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from offline_gcrl.training.updates import Updater, period

WARM_UP = 3
"""Runs before recording, in which libraries allocate their workspaces and the optimizer its state."""
Work = Callable[[], dict[str, Tensor]]
Recorder = Callable[[Work], Work]
"""Takes work that has run before, and returns a function that repeats it with its results at the same addresses."""


class Recordable(Updater, Protocol):
    """An updater whose work can be recorded as a graph."""

    optimizer: torch.optim.Optimizer

    def tensors(self) -> list[Tensor]:
        """All tensors that an update may change."""


@dataclass(frozen=True)
class Recording:
    """The recorded updates of one length of chunk."""

    batches: dict[str, Tensor]
    """The buffers that the recorded updates read their batches from."""
    replay: Work


class CapturedUpdater:
    """Replays chunks of updates; each length of chunk, and each phase, is recorded at its first use.

    Args:
        inner: the updater whose work is recorded.
        record: records work; ``recorded_by_cuda`` on a GPU.
    """

    def __init__(self, inner: Recordable, record: Recorder) -> None:
        self.inner, self.record = inner, record
        self.recordings: dict[tuple[int, int], Recording] = {}
        self.failed = False

    def run(self, batches: dict[str, Tensor], first: int, count: int) -> dict[str, Tensor]:
        """Run updates ``first`` to ``first + count - 1`` on batches (count, ...); return their mean diagnostics."""
        key = self._key(first, count)
        if key not in self.recordings and not self.failed:
            self._prepare(batches, first, count)
        if self.failed:
            return self.inner.run(batches, first, count)
        recording = self.recordings[key]
        for name, buffer in recording.batches.items():
            buffer.copy_(batches[name])
        return {name: value.clone() for name, value in recording.replay().items()}

    def finish_round(self) -> None:
        """The same as the inner updater's."""
        self.inner.finish_round()

    def state_dict(self) -> dict[str, Any]:
        """The same as the inner updater's."""
        return self.inner.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the state of the inner updater, before anything is recorded: a recording knows tensors by address."""
        assert not self.recordings, "a recording does not see new tensors"
        self.inner.load_state_dict(state)

    def _prepare(self, batches: dict[str, Tensor], first: int, count: int) -> None:
        buffers = {name: values.clone() for name, values in batches.items()}
        before = Snapshot(self.inner)
        try:
            _warm_up(lambda: self.inner.run(buffers, first, count))
            before.restore()
            replay = self.record(lambda: self.inner.run(buffers, first, count))
        except RuntimeError as error:
            before.restore()
            self.failed = True
            reason = next(iter(str(error).splitlines()), "")
            print(f"  updates could not be recorded and run one by one: {reason}", flush=True)
        else:
            self.recordings[self._key(first, count)] = Recording(buffers, replay)

    def _key(self, first: int, count: int) -> tuple[int, int]:
        """Updates of one length and phase have the same work: in each, the same parameter groups step."""
        return count, first % period(self.inner.optimizer)


def recorded_by_cuda(work: Work) -> Work:
    """Record work as a CUDA graph; recording does not execute it.

    Raises:
        RuntimeError: an operation cannot be recorded.
    """
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = work()

    def replay() -> dict[str, Tensor]:
        graph.replay()
        return results

    return replay


class Snapshot:
    """Copies of the weights and of the optimizer's state, to be restored in the same tensors after warming up."""

    def __init__(self, updater: Recordable) -> None:
        self.updater = updater
        self.weights = [weight.detach().clone() for weight in updater.tensors()]
        self.optimizer = [
            {name: value.clone() for name, value in updater.optimizer.state.get(weight, {}).items()}
            for weight in self._learned()
        ]

    def restore(self) -> None:
        """Restore all values without replacing any tensor; state that is new since then is set to zero."""
        with torch.no_grad():
            for weight, saved in zip(self.updater.tensors(), self.weights, strict=True):
                weight.copy_(saved)
        for weight, known in zip(self._learned(), self.optimizer, strict=True):
            for name, value in self.updater.optimizer.state.get(weight, {}).items():
                if name in known:
                    value.copy_(known[name])
                else:
                    value.zero_()

    def _learned(self) -> list[Tensor]:
        return [p for group in self.updater.optimizer.param_groups for p in group["params"]]


def _warm_up(work: Work) -> None:
    """Run the work a few times; on a GPU on a separate stream, as recording requires."""
    if not torch.cuda.is_available():
        for _ in range(WARM_UP):
            work()
        return
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    current = torch.cuda.current_stream()
    stream.wait_stream(current)
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            work()
    current.wait_stream(stream)
