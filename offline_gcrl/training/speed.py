"""The fast paths of the updates of a job, chosen once before training starts.

The choice is a function of the settings and of the capabilities of the machine, never of its load, so that a
resumed run computes as before. It changes the last bits of weights, so it is part of the fingerprint of a checkpoint.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from offline_gcrl.agents import Batch, Losses
from offline_gcrl.config import AgentSettings, Train
from offline_gcrl.support.errors import OfflineGCRLError
from offline_gcrl.training.accuracy import probe, relative_error, tensor_cores
from offline_gcrl.training.adam import FusedAdam
from offline_gcrl.training.compiled import (
    TOLERANCES,
    CompiledLoss,
    Device,
    Precision,
    has_compiler,
)
from offline_gcrl.training.updates import LossFunction

WORTH_ROUTING = 256
"""Units of the widest layer from which oneDNN is faster by more than a tenth."""
SECONDS_OF_COMPILING = 40.0
"""CPU time to compile the loss of GC-IQL on a CPU for the first time. Other losses take it in proportion to what they save."""
SAVED_PER_UPDATE, SAVED_PER_UNIT = 3.0e-3, 18.0e-9
"""CPU time in seconds that compiling saves: in each update, and for each hidden unit and transition of an update."""
WORTH_COMPILING_ON_A_GPU = 200_000
"""Updates from which compiling on a GPU, up to 45 s on an H100, takes less than half of the time that it saves."""
ACCURATE = 2.0e-6
"""Relative error up to which a product of matrices counts as float32's; bfloat16 gives 3e-3."""
MatrixProducts = Literal["default", "onednn", "own"]
FIRST_WITH_TF32 = 8
"""Compute capability of the first GPUs with TF32 (NVIDIA's Ampere)."""


@dataclass(frozen=True)
class Plan:
    """The fast paths of a job."""

    device: Device
    matmul: MatrixProducts
    """What multiplies matrices on a CPU. ``onednn``: oneDNN, in float32. ``own``: ``training.products``, in a compiled loss.
    ``default``: torch's choice, which is MKL for float32 and oneDNN for bfloat16."""
    compile: bool
    precision: Precision
    stacked: bool
    """Whether the seeds train in one batched update instead of one process per seed."""
    notes: tuple[str, ...] = field(default=(), compare=False, repr=False)
    """One line per fast path that was wanted and is not available, and per choice that was made here."""

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Multiply matrices as planned within the block."""
        with (
            _routed("bf16" if self.matmul == "onednn" else "none"),
            tensor_cores(self.precision == "tf32"),
        ):
            yield

    def prepared(self, loss: LossFunction) -> LossFunction:
        """The loss in the planned precision, compiled where planned."""
        rounded = _in_bfloat16(loss, self.device) if self.precision == "bf16" else loss
        if not self.compile:
            return rounded
        return CompiledLoss(
            rounded,
            TOLERANCES[self.precision],
            self.device,
            exact=None if self.precision == "fp32" else loss,
            own_products=self.matmul == "own",
        )

    def adam(self, groups: Iterable[dict[str, Any]]) -> torch.optim.Adam:
        """Adam over parameter groups, with its step counts on the device where updates are recorded.

        torch's fused kernel gives each 65,536 weights to one multiprocessor, so it uses few of a GPU's. The compiled
        step uses all.
        """
        if self.device == "cpu":
            return FusedAdam(groups)
        fused = not self._compiles_steps
        return torch.optim.Adam(groups, fused=fused, foreach=not fused, capturable=True)

    def prepared_step(self, step: Callable[[], Any]) -> Callable[[], Any]:
        """A step of the optimizer or of the targets, compiled on a GPU where planned."""
        return torch.compile(step, dynamic=False) if self._compiles_steps else step

    @property
    def _compiles_steps(self) -> bool:
        return self.compile and self.device == "cuda"


NO_FAST_PATHS = Plan("cpu", "default", False, "fp32", False)


def plan_for(train: Train, settings: AgentSettings) -> Plan:
    """Choose the fast paths of a job.

    Raises:
        OfflineGCRLError: a GPU, or a precision that only GPUs have, is asked for, and there is none, or more GPUs than
            there are.
    """
    device: Device = "cuda" if accelerator(train.accelerator) == "gpu" else "cpu"
    notes: list[str] = []
    precision = _precision(train, settings, device, notes)
    compile = _compiles(train, settings, device, notes)
    together = train.seeds_together
    apart = bool(train.tasks or train.sequence) or train.devices > 1
    if device == "cuda" and train.devices > max(1, torch.cuda.device_count()):
        raise OfflineGCRLError(
            f"train.devices in params.yaml asks for {train.devices} GPUs, and torch sees {torch.cuda.device_count()}"
        )
    return Plan(
        device=device,
        matmul=_matmul(settings, device, precision, compile, notes),
        compile=compile,
        precision=precision,
        stacked=together == "stacked" or (together == "auto" and device == "cuda" and not apart),
        notes=tuple(notes),
    )


def _precision(
    train: Train, settings: AgentSettings, device: Device, notes: list[str]
) -> Precision:
    if train.precision == "tf32" and device == "cpu":
        raise OfflineGCRLError(
            "train.precision in params.yaml asks for tf32, which only GPUs have, and training runs on a CPU; "
            "say 'fp32', 'bf16' or 'auto'"
        )
    if train.precision != "auto":
        return train.precision
    chosen: Precision = "fp32"
    if not train.has_task_gradients:
        if device == "cuda" and torch.cuda.get_device_capability()[0] >= FIRST_WITH_TF32:
            chosen = "tf32"
        elif device == "cpu" and _gains_by_bfloat16(settings) and settings.suits_bfloat16:
            chosen = "bf16"
    if chosen != "fp32":
        notes.append(f"train.precision: auto is {chosen} here")
    return chosen


def _matmul(
    settings: AgentSettings, device: Device, precision: Precision, compile: bool, notes: list[str]
) -> MatrixProducts:
    if device == "cuda" or max(settings.hidden) < WORTH_ROUTING:
        return "default"
    if compile and multiplies_tiles():
        return "own"
    if precision == "fp32" and _or_note(onednn_is_accurate(), NOT_ACCURATE, notes):
        return "onednn"
    return "default"


def _compiles(train: Train, settings: AgentSettings, device: Device, notes: list[str]) -> bool:
    wanted = _pays_back(train, settings, device) if train.compile == "auto" else train.compile
    if not wanted or train.has_task_gradients:
        return False
    possible = _or_note(has_compiler(device), NO_COMPILER, notes)
    if possible and train.compile == "auto":
        notes.append(COMPILED)
    return possible


def _gains_by_bfloat16(settings: AgentSettings) -> bool:
    return max(settings.hidden) >= WORTH_ROUTING and multiplies_bfloat16()


def multiplies_bfloat16() -> bool:
    """Whether the processor has instructions that multiply bfloat16: AMX, or AVX-512 with BF16."""
    has = torch.cpu.get_capabilities()
    return bool(has.get("amx_bf16") or has.get("avx512_bf16"))


def multiplies_tiles() -> bool:
    """Whether the processor has tiles of bfloat16 (Intel's AMX), and torch contains MKL."""
    has_tiles = torch.cpu.get_capabilities().get("amx_bf16")
    return bool(has_tiles and torch.backends.mkl.is_available())  # type: ignore[no-untyped-call]


NOT_ACCURATE = "oneDNN rounds float32 on this processor: matrices are multiplied the slower way"
COMPILED = (
    "train.compile: auto compiles the loss here, so the first update takes up to three minutes"
)
NO_COMPILER = "no C++ compiler (g++, or the one that CXX names): the loss is not compiled"


def accelerator(wanted: str) -> str:
    """Lightning's name of where to train: ``cpu`` or ``gpu``.

    Raises:
        OfflineGCRLError: a GPU is asked for, and there is none.
    """
    if wanted == "auto":
        return "gpu" if torch.cuda.is_available() else "cpu"
    if wanted == "gpu" and not torch.cuda.is_available():
        raise OfflineGCRLError(
            "train.accelerator in params.yaml asks for a GPU, but torch sees none; "
            "say 'auto' or 'cpu'"
        )
    return wanted


def onednn_is_accurate() -> bool:
    """Whether oneDNN, allowed to round float32 to bfloat16, still multiplies as exactly as float32 does.

    The permission is what makes torch hand it float32 matrices. It rounds where the processor gains by it
    (Intel's AMX), and elsewhere multiplies in float32, about twice as fast as MKL on AMD's processors.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    left, right = probe(256, 512), probe(512, 256)
    exact = left.double() @ right.double()
    with _routed("bf16"):
        products = (left @ right, (right.mT @ left.mT).mT)  # Backward passes multiply transposes.
    return all(relative_error(product, exact) < ACCURATE for product in products)


def _pays_back(train: Train, settings: AgentSettings, device: str) -> bool:
    """Whether compiling saves more time than it takes."""
    if device != "cpu":
        return train.updates >= WORTH_COMPILING_ON_A_GPU
    units = train.batch_size * sum(settings.hidden)
    saved = train.updates * (SAVED_PER_UPDATE + SAVED_PER_UNIT * units)
    return saved >= 3 * SECONDS_OF_COMPILING


def _or_note(possible: bool, note: str, notes: list[str]) -> bool:
    if not possible:
        notes.append(note)
    return possible


def _in_bfloat16(loss: LossFunction, device: str) -> LossFunction:
    """Matrices are multiplied in bfloat16; weights, gradients and the optimizer stay float32."""

    def rounded(batch: Batch) -> Losses:
        with torch.autocast(device, torch.bfloat16):
            return loss(batch)

    return rounded


@contextmanager
def _routed(precision: str) -> Iterator[None]:
    """Set the type that oneDNN may round float32 to; with ``none`` it is not used."""
    backend = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = backend.fp32_precision
    backend.fp32_precision = precision
    try:
        yield
    finally:
        backend.fp32_precision = before
