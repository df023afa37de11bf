"""Section ``train`` of ``params.yaml``: how agents are trained."""

from typing import Literal, Self

from pydantic import PositiveInt, model_validator
from pydantic_core import PydanticCustomError

from offline_gcrl.config.multitask import Tasks, TaskSequence
from offline_gcrl.config.reading import Name, Section


class Train(Section):
    """How agents are trained."""

    updates: PositiveInt
    batch_size: PositiveInt = 256
    snapshots: PositiveInt = 10
    """Snapshots of the policy for the learning curve; each is also a checkpoint to resume from."""
    updates_per_step: PositiveInt = 25
    """Updates within one Lightning ``training_step``; changes the speed, never the result."""
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    compile: Literal["auto"] | bool = "auto"
    """Compile the loss, which takes a minute or two once; ``auto``: where a long run earns it back."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of products of matrices in the loss; weights, gradients and checkpoints are float32 either way."""
    seeds_together: Literal["auto", "processes", "stacked"] = "auto"
    """A process for each seed, or all in one batched update; ``auto``: the latter on a GPU alone."""
    specialists: bool | tuple[Name, ...] = False
    """Of a suite: also train the same agent on each task alone; true, or names of the agents that get them."""
    specialist_updates: PositiveInt | None = None
    """Updates of each specialist; as many as the generalist has, when left out."""
    tasks: Tasks | None = None
    """How several tasks are weighed, sampled and reconciled; left out, they are one set of transitions."""
    sequence: TaskSequence | None = None
    """Tasks one after another, in place of all at once."""

    @model_validator(mode="after")
    def _one_plan_for_tasks(self) -> Self:
        if self.tasks is not None and self.sequence is not None:
            raise PydanticCustomError(
                "plan",
                "'tasks' is for learning all at once, 'sequence' for one after another; leave one of them out",
            )
        chosen = {"compile": self.compile is True, "precision": self.precision != "fp32"}
        for key in [key for key, is_chosen in chosen.items() if is_chosen]:
            if self.has_task_gradients:
                raise PydanticCustomError(
                    "fast_path",
                    "'{key}' is for the loss of all tasks; leave it out with 'tasks.gradients: {name}'",
                    {"key": key, "name": self.tasks.gradients if self.tasks else ""},
                )
        if self.seeds_together == "stacked" and (self.tasks or self.sequence):
            raise PydanticCustomError(
                "stacked",
                "seeds are not stacked with 'tasks' or 'sequence', where each goes a way of its own; "
                "say 'seeds_together: processes'",
            )
        return self

    @model_validator(mode="after")
    def _whole_rounds(self) -> Self:
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
    def has_task_gradients(self) -> bool:
        """Whether each task has a gradient of its own, to be reconciled with those of the others."""
        return self.tasks is not None and self.tasks.gradients != "sum"

    def has_specialists(self, agent: str) -> bool:
        """Whether this agent's specialists are trained."""
        return self.specialists if isinstance(self.specialists, bool) else agent in self.specialists

    @property
    def without_specialists(self) -> Self:
        """Without what is about specialists: nothing of it can change a generalist's weights."""
        return self.model_copy(update={"specialists": False, "specialist_updates": None})

    @property
    def for_specialist(self) -> Self:
        """The same settings for one task alone, without what is about several."""
        alone = {"tasks": None, "sequence": None}
        updates = self.specialist_updates or self.updates
        return self.without_specialists.model_copy(update={"updates": updates, **alone})
