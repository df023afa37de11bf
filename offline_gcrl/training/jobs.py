"""Training jobs: everything that the weights of a seed depend on, and seeds trained in parallel.

This module imports neither Lightning nor the agents' networks, which take seconds: only worker processes do.
"""

import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from offline_gcrl.agents import agent_files
from offline_gcrl.config import AgentSettings, Resident, Train, algorithm_names
from offline_gcrl.config.outputs import (
    EPISODES,
    FRAMES,
    INSTRUCTIONS,
    SCHEMA,
    SNAPSHOTS,
    SPECIALISTS,
    STEPS,
    TABLE,
)
from offline_gcrl.support.errors import OfflineGCRLError
from offline_gcrl.support.files import digest
from offline_gcrl.support.processes import Pool, balanced_workers, process_pool, worker_pool
from offline_gcrl.support.tables import parts_of
from offline_gcrl.training.events import Event, EventReader, EventWriter, Listener
from offline_gcrl.training.ranks import Ranks, joined
from offline_gcrl.training.speed import plan_for

TRAINING = "offline_gcrl.training.module"
CODE = (
    "agents",
    "config",
    "episodes",
    "goals",
    "hindsight",
    "networks",
    "policies",
    "support",
    "training",
)
"""Folders of the package whose code can change a weight, the same as in dvc.yaml. In ``agents``, only the files of the
job's own algorithm count."""
ARRAYS = Path("datasets/arrays")
MEETING = "ranks"
"""File in the folder of checkpoints through which processes that train one seed together find each other."""
EVENTS = "events.jsonl"
"""File in the folder of checkpoints through which a worker process reports its events."""
POLL_SECONDS = 0.2
SNAPSHOT = "update-{:08d}.pt"
"""Name of the file of a policy after a number of updates."""


@dataclass(frozen=True)
class TrainingJob:
    """Everything that the weights of one seed depend on, and the folders of its outputs."""

    dataset: str
    agent: str
    seed: int
    episodes: Path
    hindsight: Path
    train: Train
    settings: AgentSettings
    checkpoints: Path
    """A folder whose name is the job's fingerprint."""
    output: Path
    task: str | None = None
    """The only task of a specialist; None for a policy of all tasks."""
    arrays: Path = ARRAYS
    """Folder of memory-mapped data, with one folder for each dataset."""

    def snapshot(self, updates: int) -> Path:
        """File of the policy after a number of updates."""
        return self.checkpoints / SNAPSHOTS / SNAPSHOT.format(updates)


def last_snapshot(checkpoints: Path) -> int:
    """Updates of the last snapshot in the folder of checkpoints of a job; 0 if there is none."""
    names = [path.stem for path in (checkpoints / SNAPSHOTS).glob("*.pt")]
    return max((int(name.rpartition("-")[2]) for name in names), default=0)


class Work:
    """Progress of the jobs of a stage: one count per seed, and one for all specialists together."""

    def __init__(self, jobs: Sequence[TrainingJob]) -> None:
        self.seeds = {f"seed {job.seed}": job.train.updates for job in jobs if job.task is None}
        self.alone = {(job.task, job.seed): job.train.updates for job in jobs if job.task}
        self.done = dict.fromkeys(self.alone, 0)

    @property
    def totals(self) -> dict[str, int]:
        """Updates to be done, by the label of the progress bar."""
        return self.seeds | ({SPECIALISTS: sum(self.alone.values())} if self.alone else {})

    def count(self, event: Event) -> tuple[str, int]:
        """The label of the progress bar that an event belongs to, and the updates done so far under it."""
        if event.task is None:
            return f"seed {event.seed}", event.updates
        self.done[event.task, event.seed] = event.updates
        return SPECIALISTS, sum(self.done.values())

    @property
    def summary(self) -> str:
        """Summary for the last line of the stage."""
        summary = f"{len(self.seeds)} seed(s), {max(self.seeds.values()):,} updates each"
        if self.alone:
            summary += f"; {len(self.alone)} specialists, {max(self.alone.values()):,} each"
        return summary


def train_seeds(jobs: list[TrainingJob], on_event: Listener) -> None:
    """Train seeds of one dataset and agent, in one process per seed or all stacked in one process, as planned.

    ``on_event`` is called in this process with the events of all of them.

    Raises:
        OfflineGCRLError: a process died; its last checkpoint is kept.
    """
    groups = _groups(jobs)
    files = [group[0].checkpoints / EVENTS for group in groups]
    workers = training_processes(jobs)
    with (
        closing(EventReader(files)) as reader,
        _pool(jobs[0], workers) as pool,
    ):
        futures = [
            pool.submit(_train_in_worker, group, file, workers, ranks)
            for group, file in zip(groups, files, strict=True)
            for ranks in _ranks(group)
        ]
        left: set[Future[None]] = set(futures)
        while left:
            done, left = wait(left, timeout=POLL_SECONDS)
            for event in reader.read():
                on_event(event)
            if jobs[0].train.devices > 1:  # Other ranks would wait for one that has failed.
                _check(done)
        _check(futures)


def _pool(job: TrainingJob, workers: int) -> AbstractContextManager[Pool]:
    """Processes of this machine, or the cluster; ranks of one seed find each other on one machine only."""
    if job.train.devices > 1:
        return process_pool(workers)
    return worker_pool(workers, gpus=int(plan_for(job.train, job.settings).device == "cuda"))


def _ranks(group: list[TrainingJob]) -> list[Ranks]:
    """The processes that train a group, before any of them starts."""
    world = group[0].train.devices
    (group[0].checkpoints / MEETING).unlink(missing_ok=True)
    return [Ranks(rank, world) for rank in range(world)]


def _check(futures: Iterable[Future[None]]) -> None:
    """Raise the first error of processes that have ended.

    Raises:
        OfflineGCRLError: a process died.
    """
    try:
        for future in futures:
            future.result()
    except BrokenProcessPool as error:
        raise OfflineGCRLError(
            "a training process died (killed, or out of memory); run the stage again, "
            "it resumes from the last checkpoint"
        ) from error


def training_processes(jobs: list[TrainingJob]) -> int:
    """Number of processes that train at the same time: all seeds that there are cores for, or the ranks of one."""
    devices = jobs[0].train.devices
    return devices if devices > 1 else balanced_workers(len(_groups(jobs)))


def _groups(jobs: list[TrainingJob]) -> list[list[TrainingJob]]:
    """Jobs grouped by process: stacked seeds of one task share one, every other job has its own."""
    groups: dict[tuple[str | None, int | None], list[TrainingJob]] = {}
    for job in jobs:
        stacked = plan_for(job.train, job.settings).stacked
        groups.setdefault((job.task, None if stacked else job.seed), []).append(job)
    return list(groups.values())


def training_jobs(
    dataset: str,
    agent: str,
    seeds: Iterable[int],
    train: Train,
    settings: AgentSettings,
    output: Path,
    tasks: Sequence[str] = (),
) -> list[TrainingJob]:
    """The jobs of all seeds of one dataset and agent, with the folders of the pipeline.

    Args:
        dataset: name.
        agent: name.
        seeds: training seeds; each has one job, and one more per specialist.
        train: settings of training.
        settings: of the agent.
        output: folder of ``seed-<n>`` and of ``specialists/<task>/seed-<n>``.
        tasks: names of the tasks; each has specialists if ``train`` asks for them and there are several tasks.
    """
    alone = tasks if train.has_specialists(agent) and len(tasks) > 1 else ()
    places = [(None, Path())] + [(task, Path(SPECIALISTS) / task) for task in alone]
    jobs = [
        TrainingJob(
            dataset=dataset,
            agent=agent,
            seed=seed,
            episodes=Path("datasets/parquet") / dataset,
            hindsight=Path("datasets/hindsight") / dataset,
            train=train.without_specialists if task is None else train.for_specialist,
            settings=settings,
            checkpoints=Path("checkpoints") / dataset / agent / place / f"seed-{seed}",
            output=output / place / f"seed-{seed}",
            task=task,
        )
        for task, place in places
        for seed in seeds
    ]
    content = content_digest(jobs[0])
    return [replace(job, checkpoints=job.checkpoints / fingerprint(job, content)) for job in jobs]


def content_digest(job: TrainingJob) -> str:
    """Digest of the data and the code that a job reads, the same for all seeds and specialists."""
    tables = [*(job.episodes / name for name in (STEPS, EPISODES, SCHEMA)), job.hindsight / TABLE]
    data = [part for table in tables for part in parts_of(table)]
    data += [path for path in (job.episodes / FRAMES,) if path.exists()]
    sentences = [path for path in (job.hindsight / INSTRUCTIONS,) if path.exists()]
    return digest([*code_files(job.settings.algorithm), *data, *sentences])


def code_files(algorithm: str) -> list[Path]:
    """Files of the package that can change the weights of an algorithm: not those of other algorithms."""
    package = Path(__file__).parents[1]
    others = {f"{name}.py" for name in algorithm_names()} - agent_files(algorithm)
    return [
        path
        for folder in CODE
        for path in sorted((package / folder).rglob("*"))
        if path.suffix in {".py", ".cpp", ".h"}
        if path.stem.isidentifier()  # Not so in files that editors and archives leave behind.
        if folder != "agents" or path.name not in others
    ]


def fingerprint(job: TrainingJob, content: str) -> str:
    """Digest of everything that the weights depend on: data and code (``content``), settings, seed, fast paths, torch.

    Training resumes from a checkpoint only if its fingerprint is the same, so never from a stale one.
    """
    plan = plan_for(job.train, job.settings)
    equal: dict[str, Any] = {"memory_share": 0.5}  # Batches are equal, unless sets are resident.
    if job.train.data != "resident":
        equal |= {"data": "auto", "resident": Resident()}
    train = job.train.model_copy(update=equal)
    words = (content, job.seed, job.task, train, job.settings, plan, torch.__version__)
    return hashlib.sha256(repr(words).encode()).hexdigest()[:16]


def _train_in_worker(jobs: list[TrainingJob], events: Path, processes: int, ranks: Ranks) -> None:
    train_together = import_module(TRAINING).train_together
    with ExitStack() as stack:
        if ranks.world > 1:
            device = plan_for(jobs[0].train, jobs[0].settings).device
            stack.enter_context(joined(ranks, events.with_name(MEETING), device))
        if ranks.is_first:
            writer = stack.enter_context(closing(EventWriter(events)))
            train_together(jobs, writer, processes, ranks)
        else:
            train_together(jobs, lambda event: None, processes, ranks)
