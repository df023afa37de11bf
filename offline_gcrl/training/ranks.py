"""Several processes, one per device, that train one seed together: data parallelism.

Every rank makes the same global batch, which is a function of (seed, step), and takes its slice. Gradients are
averaged over ranks explicitly, after each backward pass. Lightning's own hooks would miss gradients that
``torch.autograd.grad`` computes, and would average gradients of tasks after they are combined instead of before.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
from torch import Tensor, distributed

from offline_gcrl.support.errors import OfflineGCRLError

TIMEOUT = timedelta(minutes=30)
"""How long a rank waits for another; the first update, which may be compiled, is the longest wait."""


@dataclass(frozen=True)
class Ranks:
    """The place of this process among those that train the same seed."""

    rank: int = 0
    world: int = 1
    """Number of processes."""

    @property
    def is_first(self) -> bool:
        """Whether this process writes checkpoints, policies and events."""
        return self.rank == 0

    def part(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The slice of a global batch, (batch, ...), that this rank computes: (batch / world, ...)."""
        if self.world == 1:  # The usual case, in every update.
            return dict(batch)
        return {name: values.chunk(self.world)[self.rank] for name, values in batch.items()}

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their sums over ranks, in one message.

        The tensors of all ranks have the same shapes: the graph of a loss does not depend on the values of a batch.
        """
        if self.world == 1 or not tensors:
            return
        flat = torch.cat([tensor.detach().flatten() for tensor in tensors])
        distributed.all_reduce(flat)
        sizes = [tensor.numel() for tensor in tensors]
        for tensor, total in zip(tensors, torch.split(flat, sizes), strict=True):
            tensor.detach().copy_(total.view_as(tensor))

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their means over ranks."""
        if self.world == 1:
            return
        self.add(tensors)
        for tensor in tensors:
            tensor.detach().div_(self.world)

    def average_gradients(self, optimizer: torch.optim.Optimizer) -> None:
        """Replace the gradients of the parameters by their means over ranks."""
        if self.world == 1:
            return
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.average([p.grad for p in parameters if p.grad is not None])

    def check_equal(self, tensors: Iterable[Tensor], device: torch.device | str) -> None:
        """Check that all ranks have the same weights, bit for bit.

        Raises:
            OfflineGCRLError: they do not.
        """
        if self.world == 1:
            return
        total = hashlib.sha256()
        for tensor in tensors:
            total.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        own = torch.tensor(int.from_bytes(total.digest()[:7]), device=device)
        every = [torch.zeros_like(own) for _ in range(self.world)]
        distributed.all_gather(every, own)
        digests = [f"{int(one):014x}" for one in every]
        if len(set(digests)) > 1:
            raise OfflineGCRLError(
                f"the weights of the {self.world} devices differ ({', '.join(digests)}): their processors round differently, "
                "or one has an error of memory; train on equal devices, or set train.devices: 1"
            )


ALONE = Ranks()


@contextmanager
def joined(ranks: Ranks, meeting: Path, device: str) -> Iterator[None]:
    """Join the other ranks within the block.

    Args:
        ranks: the place of this process.
        meeting: a file through which the ranks find each other; it does not exist before.
        device: ``cpu`` or ``cuda``; on GPUs each rank has the one of its number.
    """
    meeting.parent.mkdir(parents=True, exist_ok=True)
    if device == "cuda":
        torch.cuda.set_device(ranks.rank)
    distributed.init_process_group(
        "nccl" if device == "cuda" else "gloo",
        store=distributed.FileStore(str(meeting), ranks.world),  # type: ignore[attr-defined]
        rank=ranks.rank,
        world_size=ranks.world,
        timeout=TIMEOUT,
    )
    try:
        yield
    finally:
        distributed.destroy_process_group()
