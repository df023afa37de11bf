"""Updates recorded once as a CUDA graph and replayed: a chunk of updates is one launch, not thousands.

Recording asks that batches lie in the same place each time, that Adam counts its steps on the device, and that
nothing waits for the host; diagnostics stay on the device. The work is that of the updater inside, which is
also what runs where recording fails.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from offline_gcrl.training.updates import Updater

WARM_UP = 3
"""Runs before recording: libraries make their workspaces, the optimizer its state."""
Work = Callable[[], dict[str, Tensor]]
Recorder = Callable[[Work], Work]
"""Takes work that has run before; returns what repeats it, with its results in the same place each time."""


class Recordable(Updater, Protocol):
    """An updater whose work can be recorded."""

    optimizer: torch.optim.Optimizer

    def tensors(self) -> list[Tensor]:
        """All weights that an update may change."""


@dataclass(frozen=True)
class Recording:
    """The updates of a chunk, ready to be repeated."""

    batches: dict[str, Tensor]
    """Where they read from."""
    replay: Work


class CapturedUpdater:
    """Replays chunks of updates; each length of chunk is recorded at its first use.

    Args:
        inner: does the work.
        record: how it is recorded.
    """

    def __init__(self, inner: Recordable, record: Recorder) -> None:
        self.inner, self.record = inner, record
        self.recordings: dict[int, Recording] = {}
        self.failed = False

    def run(self, batches: dict[str, Tensor], count: int) -> dict[str, Tensor]:
        """Run ``count`` updates on batches (count, ...) and return their mean diagnostics."""
        if count not in self.recordings and not self.failed:
            self._prepare(batches, count)
        if self.failed:
            return self.inner.run(batches, count)
        recording = self.recordings[count]
        for name, buffer in recording.batches.items():
            buffer.copy_(batches[name])
        return {name: value.clone() for name, value in recording.replay().items()}

    def finish_round(self) -> None:
        """As the updater inside."""
        self.inner.finish_round()

    def state_dict(self) -> dict[str, Any]:
        """As the updater inside."""
        return self.inner.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As the updater inside, before anything is recorded: a recording knows its tensors by their place."""
        assert not self.recordings, "a recording is not told of new tensors"
        self.inner.load_state_dict(state)

    def _prepare(self, batches: dict[str, Tensor], count: int) -> None:
        buffers = {name: values.clone() for name, values in batches.items()}
        before = Snapshot(self.inner)
        try:
            _warm_up(lambda: self.inner.run(buffers, count))
            before.restore()
            replay = self.record(lambda: self.inner.run(buffers, count))
        except RuntimeError as error:
            before.restore()
            self.failed = True
            reason = next(iter(str(error).splitlines()), "")
            print(f"  updates could not be recorded and run one by one: {reason}", flush=True)
        else:
            self.recordings[count] = Recording(buffers, replay)


def recorded_by_cuda(work: Work) -> Work:
    """Record work as a CUDA graph; recording does not do it.

    Raises:
        RuntimeError: something in it cannot be recorded.
    """
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = work()

    def replay() -> dict[str, Tensor]:
        graph.replay()
        return results

    return replay


class Snapshot:
    """The weights and the optimizer's state, to be put back in place after warming up."""

    def __init__(self, updater: Recordable) -> None:
        self.updater = updater
        self.weights = [weight.detach().clone() for weight in updater.tensors()]
        self.optimizer = [
            {name: value.clone() for name, value in updater.optimizer.state.get(weight, {}).items()}
            for weight in self._learned()
        ]

    def restore(self) -> None:
        """Put all back without moving any tensor; state that is new since then starts at zero."""
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
    """Run the work a few times, on a GPU on a stream of its own, as recording asks."""
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
