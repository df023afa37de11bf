"""How much memory the data of a training takes, and whether it is read into memory or mapped from files.

The placement does not change a batch, so it may depend on how much memory is free.
"""

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from offline_gcrl.config import Vision
from offline_gcrl.config.images import CHANNELS
from offline_gcrl.config.outputs import EPISODES, FRAMES, INSTRUCTIONS, SCHEMA, STEPS, TABLE
from offline_gcrl.goals.instructions import Sentences
from offline_gcrl.hindsight.table import reward_column
from offline_gcrl.support.digests import digest_of, read_json
from offline_gcrl.support.files import code_in, digest
from offline_gcrl.support.memory import free_memory, in_gib, require_memory
from offline_gcrl.support.tables import columns_of, parts_of
from offline_gcrl.training.batches.in_tasks import ORDER_BYTES
from offline_gcrl.training.batches.storage import InMemory, Mapped, Storage
from offline_gcrl.training.jobs import TrainingJob, training_processes
from offline_gcrl.training.speed import plan_for

POSITIONS = 4 * 8
"""Bytes per transition of row, first row, last row and task."""
SENTENCE = 5
"""Bytes of the number of a sentence and of its label."""
READERS = ("config", "episodes", "goals", "hindsight", "policies", "support", "training/batches")
"""Folders of the package whose code can change the arrays."""


@dataclass(frozen=True)
class Placement:
    """Where the data of a training is placed."""

    is_mapped: bool
    needed: int
    """Bytes of the data in all processes, if each reads it into memory."""
    free: int
    """Bytes of memory that are free, of the GPU if it trains."""
    processes: int
    resident: int | None = None
    """Bytes of the resident sets in all processes; None if batches are drawn from all of the data."""
    may_be_resident: bool = True
    """Whether resident sets can have the data."""

    @property
    def remark(self) -> str:
        """A sentence for the user, empty if the data is read into memory and leaves much of it free."""
        data = f"the data takes {in_gib(self.needed)} of memory in {self.processes} process(es)"
        if self.resident is not None:
            return self._remark_on_sets
        if self.is_mapped:
            mapped = f"{data}, and {in_gib(self.free)} are free: it is mapped from files in datasets/arrays"
            too_large = self.needed // self.processes > self.free and self.may_be_resident
            return mapped + (
                "; if batches wait for the disk, set train.data: resident" if too_large else ""
            )
        if self.needed > self.free:
            return f"{data}, and only {in_gib(self.free)} are free; set train.data: mapped in params.yaml"  # fmt: skip
        return ""

    @property
    def _remark_on_sets(self) -> str:
        assert self.resident is not None
        sets = f"resident sets take up to {in_gib(self.resident)} of memory in {self.processes} process(es)"
        if self.resident > self.free:
            return f"{sets}, and only {in_gib(self.free)} are free; set a smaller train.resident.memory_gib in params.yaml"
        return f"{sets}; they are read from files in datasets/arrays"


def placement(job: TrainingJob, processes: int) -> Placement:
    """Choose where the data of a job is placed.

    Args:
        job: with the settings ``train.data`` and ``train.memory_share``.
        processes: number of processes that read the data at the same time.
    """
    on_gpu = plan_for(job.train, job.settings).device == "cuda"
    free = torch.cuda.mem_get_info()[0] if on_gpu else free_memory()
    needed = data_bytes(job) * processes
    too_large = job.train.data == "auto" and needed > job.train.memory_share * free
    if job.train.data == "auto" and not on_gpu and frame_bytes(job):
        too_large = True  # Processes share decoded images, of which a batch reads a few.
    if is_resident(job):
        resident = job.train.resident.memory * processes
        return Placement(True, needed, free_memory(), processes, resident)
    is_mapped = too_large or job.train.data == "mapped"
    may_be_resident = job.train.sequence is None and frame_bytes(job) == 0
    return Placement(is_mapped, needed, free, processes, may_be_resident=may_be_resident)


def is_resident(job: TrainingJob) -> bool:
    """Whether batches are drawn from resident sets; data that takes no more than these is read into memory."""
    return job.train.data == "resident" and data_bytes(job) > job.train.resident.memory


def memory_notes(jobs: list[TrainingJob]) -> list[str]:
    """Sentences about the memory of a stage on a CPU; those of a GPU are known in the process that uses it."""
    if plan_for(jobs[0].train, jobs[0].settings).device == "cuda":
        return []
    place = placement(jobs[0], training_processes(jobs))
    remarks = (place.remark, _remark_on_periods(jobs[0]) if place.resident is not None else "")
    return [remark for remark in remarks if remark]


def _remark_on_periods(job: TrainingJob) -> str:
    """A sentence if the sets of a seed are too few to contain all of the data; else empty."""
    resident = job.train.resident
    sets = -(-job.train.updates // resident.updates)
    share = sets * resident.memory / 2 / data_bytes(job)
    if share >= 1.0:
        return ""
    return (
        f"the {sets} resident set(s) of a seed contain at most {share:.0%} of the data; a smaller train.resident.updates or a "
        "larger train.resident.memory_gib gives more of it"
    )


def storage_for(job: TrainingJob, processes: int) -> Storage:
    """The storage for the tensors of a job."""
    plan = plan_for(job.train, job.settings)
    place = placement(job, processes)
    if not place.is_mapped:
        if plan.device == "cpu":
            require_memory(place.needed // processes, "the data that training reads into memory")
        return InMemory(plan.device)
    folder = job.arrays / job.dataset / _content(job)
    for other in folder.parent.glob("*"):  # Of other data or code.
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)
    return Mapped(folder)


def data_bytes(job: TrainingJob) -> int:
    """Bytes of all tensors that batches of a job are read from."""
    schema = read_json(job.episodes / SCHEMA)
    sizes, counts = schema["sizes"], schema["counts"]
    goal = sizes["observation" if schema["goals_are_states"] else "achieved_goal"]
    copies = 2 if job.settings.normalise else 1
    goals = goal * (1 + ("desired_goal" in sizes)) * copies
    row = 4 * (sizes["observation"] + sizes["action"] + goals)
    sampling = job.settings.batch_sampling
    mixtures = (sampling.actor_goals, sampling.value_goals, sampling.representation_goals)
    said, values = sentence_bytes(job)
    order = ORDER_BYTES if job.train.tasks or job.train.sequence else 0
    transition = (
        POSITIONS + order + sum(_goal_bytes(job, list(mixture), said) for mixture in mixtures)
    )
    steps = counts["steps"] * (row + values + frame_bytes(job))
    return int(steps + counts["transitions"] * transition)


def frame_bytes(job: TrainingJob) -> int:
    """Bytes of a decoded image; 0 for an agent or a dataset without images."""
    images = read_json(job.episodes / SCHEMA).get("images")
    sees = images is not None and (job.settings.images or Vision()).sees
    return images["height"] * images["width"] * CHANNELS if sees else 0


def sentence_bytes(job: TrainingJob) -> tuple[int, int]:
    """Bytes of a sentence and its label for each goal, and of the values of attributes for each step.

    Both are 0 for an agent that takes no sentences, or whose sentences name tasks.
    """
    path = job.hindsight / INSTRUCTIONS
    if job.settings.batch_sampling.speech is None or not path.exists():
        return 0, 0
    captions = Sentences.from_json(read_json(path)).captions
    return (SENTENCE, len(captions.names)) if captions else (0, 0)


def _goal_bytes(job: TrainingJob, strategies: Sequence[str], sentence: int) -> int:
    """Bytes per transition of the goals and labels of one mixture, with ``sentence`` more for each goal."""
    stored = columns_of(job.hindsight / TABLE)
    prefixes = tuple(reward_column(strategy).removesuffix("0") for strategy in strategies)
    labels: list[int] = [
        field.type.bit_width // 8 for field in stored if field.name.startswith(prefixes)
    ]
    return sum(label + 4 + sentence for label in labels) if prefixes else 0


def _content(job: TrainingJob) -> str:
    """Digest of the data and the code that the arrays depend on."""
    tables = [*(job.episodes / name for name in (STEPS, EPISODES, SCHEMA)), job.hindsight / TABLE]
    files = [part for table in tables for part in parts_of(table)]
    files += [path for path in (job.episodes / FRAMES,) if path.exists()]
    package = Path(__file__).parents[1]
    code = [path for folder in READERS for path in code_in(package / folder)]
    words = [*map(digest_of, files), digest(code)]
    return hashlib.sha256(" ".join(words).encode()).hexdigest()[:16]
