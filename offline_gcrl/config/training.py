"""Section ``train`` of ``params.yaml``: how agents are trained."""

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from pydantic_core import PydanticCustomError

from offline_gcrl.config.multitask import Tasks, TaskSequence
from offline_gcrl.config.reading import Name, Section
from offline_gcrl.support.memory import GIB


class Resident(Section):
    """Sets of data that are read into memory in turn, and that batches are drawn from."""

    memory_gib: PositiveFloat = 4.0
    """Memory of each seed for the set in use and the next one, in GiB. Data that takes less is read into memory."""
    updates: PositiveInt = 5000
    """Updates with batches of the same set."""

    @property
    def memory(self) -> int:
        """Bytes of memory for the set in use and the next one."""
        return int(self.memory_gib * GIB)


class Train(Section):
    """How agents are trained."""

    updates: PositiveInt
    batch_size: PositiveInt = 256
    snapshots: PositiveInt | Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = 10
    """Snapshots of the policy, for the learning curve; training can resume from each of them. A number: that many, at
    equal distances. A list such as ``[100, 200, 500]``: after these numbers of updates, and at the end; specialists with
    fewer updates leave out the later ones."""
    updates_per_step: PositiveInt = 25
    """Updates per Lightning ``training_step``; affects the speed only."""
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: PositiveInt = 1
    """Number of devices that train one seed together, each on its part of the batch; on a CPU, number of processes.
    Seeds then train one after another."""
    strategy: Literal["auto", "ddp"] = "auto"
    """``ddp``: the devices have copies of the weights and average their gradients (Lightning's DDP). ``auto``: ``ddp``
    with several devices."""
    compile: Literal["auto"] | bool = "auto"
    """Whether the loss is compiled, which takes up to three minutes; ``auto``: if the run is long enough to save that
    time."""
    data: Literal["auto", "memory", "mapped", "resident"] = "auto"
    """``memory``: the data is read into memory. ``mapped``: it is written to files in ``datasets/arrays``, which are
    mapped into memory. ``auto``: mapped if it takes more than ``memory_share``. Batches are the same. ``resident``: parts
    of the files are read into memory in turn, and batches are drawn from these; see ``train.resident``."""
    memory_share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    """Largest share of free memory, or of the memory of the GPU, for the data of all training processes."""
    resident: Resident = Resident()
    """Sets of data that are in memory in turn, with ``data: resident``."""
    precision: Literal["auto", "fp32", "tf32", "bf16"] = "auto"
    """Precision of matrix products in the loss; weights, gradients and checkpoints are always float32. ``tf32`` needs a
    GPU. ``auto``: ``tf32`` on a GPU that has it; ``bf16`` on a processor that multiplies it, if a layer has 256 units
    and the loss of the agent has no small differences of values."""
    seeds_together: Literal["auto", "processes", "stacked"] = "auto"
    """``processes``: one process per seed. ``stacked``: all seeds in one batched update. ``auto``: stacked on a GPU,
    processes otherwise."""
    specialists: bool | tuple[Name, ...] = False
    """For a suite: also train one policy per task, to compare the multi-task policy with; true, or the names of the
    agents that get specialists."""
    specialist_updates: PositiveInt | None = None
    """Updates of each specialist; if left out, as many as those of the multi-task policy."""
    tasks: Tasks | None = None
    """Weights, sampling and gradients of several tasks; if left out, training does not distinguish tasks."""
    sequence: TaskSequence | None = None
    """Training on tasks in sequence instead of at the same time."""

    @model_validator(mode="after")
    def _one_plan_for_tasks(self) -> Self:
        if self.tasks is not None and self.sequence is not None:
            raise PydanticCustomError(
                "plan",
                "'tasks' is for training on all tasks at once, 'sequence' for tasks in sequence; leave one of "
                "them out",
            )
        chosen = {
            "compile": self.compile is True,
            "precision": self.precision not in ("auto", "fp32"),
        }
        for key in [key for key, is_chosen in chosen.items() if is_chosen]:
            if self.has_task_gradients:
                raise PydanticCustomError(
                    "fast_path",
                    "'{key}' does not apply to gradients per task; leave it out with 'tasks.gradients: {name}'",
                    {"key": key, "name": self.tasks.gradients if self.tasks else ""},
                )
        if self.data == "resident" and self.sequence is not None:
            raise PydanticCustomError(
                "resident",
                "'data: resident' does not apply to tasks in sequence, because a set may lack the task of a phase; set "
                "'data: mapped'",
            )
        if self.seeds_together == "stacked" and (self.tasks or self.sequence):
            raise PydanticCustomError(
                "stacked",
                "seeds cannot be stacked with 'tasks' or 'sequence', because their updates differ; set "
                "'seeds_together: processes'",
            )
        return self

    @model_validator(mode="after")
    def _batch_divides_into_devices(self) -> Self:
        if self.batch_size % self.devices:
            raise PydanticCustomError(
                "devices",
                "'batch_size' ({batch_size}) must be a multiple of 'devices' ({devices})",
                {"batch_size": self.batch_size, "devices": self.devices},
            )
        if self.devices > 1 and self.seeds_together == "stacked":
            raise PydanticCustomError(
                "devices",
                "stacked seeds train on one device; leave out 'devices' or 'seeds_together: stacked'",
            )
        return self

    @model_validator(mode="after")
    def _listed_snapshots_are_in_order(self) -> Self:
        if isinstance(self.snapshots, int):
            return self
        wrong = [second for first, second in pairwise(self.snapshots) if second <= first]
        if wrong:
            raise PydanticCustomError(
                "snapshots",
                "'snapshots' must be increasing numbers of updates, and {wrong} is not above the one before it",
                {"wrong": wrong[0]},
            )
        if self.snapshots[-1] > self.updates:
            raise PydanticCustomError(
                "snapshots",
                "'snapshots' has {last}, after the last of {updates} updates; leave it out, or set more 'updates'",
                {"last": self.snapshots[-1], "updates": self.updates},
            )
        if self.sequence is not None:
            raise PydanticCustomError(
                "snapshots",
                "'sequence' divides training into equal parts that end with a snapshot; set 'snapshots' to a number",
            )
        return self

    @model_validator(mode="after")
    def _updates_divide_into_snapshots(self) -> Self:
        if not isinstance(self.snapshots, int):
            return self
        for key in ("updates", "specialist_updates"):
            updates = getattr(self, key)
            if updates is not None and updates % self.snapshots:
                raise PydanticCustomError(
                    "snapshots",
                    "'{key}' ({updates}) must be a multiple of 'snapshots' ({snapshots})",
                    {"key": key, "updates": updates, "snapshots": self.snapshots},
                )
        return self

    @property
    def snapshot_updates(self) -> tuple[int, ...]:
        """The numbers of updates after which there is a snapshot, in increasing order; the last is the end."""
        if isinstance(self.snapshots, int):
            size = self.updates // self.snapshots
            return tuple(size * (number + 1) for number in range(self.snapshots))
        return (*(number for number in self.snapshots if number < self.updates), self.updates)

    @property
    def has_task_gradients(self) -> bool:
        """Whether gradients are computed per task and then combined."""
        return self.tasks is not None and self.tasks.gradients != "sum"

    def has_specialists(self, agent: str) -> bool:
        """Whether specialists of this agent are trained."""
        return self.specialists if isinstance(self.specialists, bool) else agent in self.specialists

    @property
    def without_specialists(self) -> Self:
        """The settings of the multi-task policy: settings of specialists cannot change its weights."""
        return self.model_copy(update={"specialists": False, "specialist_updates": None})

    @property
    def for_specialist(self) -> Self:
        """The settings of a specialist, without settings about several tasks."""
        single = {"tasks": None, "sequence": None}
        updates = self.specialist_updates or self.updates
        return self.without_specialists.model_copy(update={"updates": updates, **single})
