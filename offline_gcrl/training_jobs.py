"""Training jobs: what the weights of a seed depend on, and seeds side by side.

This part is light; Lightning, which takes seconds to import, is loaded in the worker processes only.
"""

import hashlib
import os
import queue
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from offline_gcrl.config import AgentSettings, Train
from offline_gcrl.episodes.schema import EPISODES, SCHEMA, STEPS
from offline_gcrl.errors import OfflineGCRLError
from offline_gcrl.files import digest
from offline_gcrl.hindsight.relabel import TABLE
from offline_gcrl.parallel import balanced_workers, context, process_pool
from offline_gcrl.policy import SPECIALISTS
from offline_gcrl.speed import plan_for

TRAINING = "offline_gcrl.training"
CODE = (
    "agents/__init__.py",
    "batches.py",
    "captured.py",
    "config/multitask.py",
    "config/params.py",
    "config/recipes.py",
    "draws.py",
    "episodes/dataset.py",
    "goals.py",
    "held_out.py",
    "learners.py",
    "multitask/__init__.py",
    "multitask/forgetting.py",
    "multitask/gradients.py",
    "multitask/losses.py",
    "multitask/sampling.py",
    "multitask/training.py",
    "multitask/updates.py",
    "networks.py",
    "policy.py",
    "scaling.py",
    "speed.py",
    "stacked.py",
    "training.py",
    "updates.py",
)
"""Files of the package, beside the agent's own, that can change a weight."""
CURVE = "training.csv"
Point = dict[str, float]
"""One row of the training curve: ``update`` and the diagnostics then."""


@dataclass(frozen=True)
class TrainingJob:
    """All that the weights of one seed depend on, and where they go."""

    dataset: str
    agent: str
    seed: int
    episodes: Path
    hindsight: Path
    train: Train
    settings: AgentSettings
    checkpoints: Path
    """A folder that ends in the job's fingerprint; others beside it are stale."""
    output: Path
    task: str | None = None
    """The one task that a specialist learns; all of them when left out."""


@dataclass(frozen=True)
class Event:
    """News of a seed in training: updates done so far, and points of its curve.

    The last event of a training has the whole curve: what a killed process did not say is said then.
    """

    seed: int
    updates: int
    points: tuple[Point, ...] = ()
    process: int = field(default_factory=os.getpid)
    """The process that trains the seed."""
    task: str | None = None
    """Of a specialist."""


Listener = Callable[[Event], None]


class Work:
    """How far the jobs of a stage are: each seed by itself, all specialists together."""

    def __init__(self, jobs: Sequence[TrainingJob]) -> None:
        self.seeds = {f"seed {job.seed}": job.train.updates for job in jobs if job.task is None}
        self.alone = {(job.task, job.seed): job.train.updates for job in jobs if job.task}
        self.done = dict.fromkeys(self.alone, 0)

    @property
    def totals(self) -> dict[str, int]:
        """Updates to be done, by the names that news go by."""
        return self.seeds | ({SPECIALISTS: sum(self.alone.values())} if self.alone else {})

    def hear(self, event: Event) -> tuple[str, int]:
        """The name that news go by, and the updates done so far under it."""
        if event.task is None:
            return f"seed {event.seed}", event.updates
        self.done[event.task, event.seed] = event.updates
        return SPECIALISTS, sum(self.done.values())

    @property
    def said(self) -> str:
        """What the stage says at its end."""
        said = f"{len(self.seeds)} seed(s), {max(self.seeds.values()):,} updates each"
        if self.alone:
            said += f"; {len(self.alone)} specialists, {max(self.alone.values()):,} each"
        return said


def train_seeds(jobs: list[TrainingJob], on_event: Listener) -> None:
    """Train seeds of one dataset and agent: a process each side by side, or all stacked in one, as planned.

    ``on_event`` hears of all of them in this process.

    Raises:
        OfflineGCRLError: a process died; its last checkpoint is kept.
    """
    news: Any = context.Queue()
    groups = _groups(jobs)
    with process_pool(balanced_workers(len(groups)), _set_queue, (news,)) as pool:
        futures = [pool.submit(_train_in_worker, group) for group in groups]
        while not all(future.done() for future in futures):
            _deliver(news, on_event, timeout=0.2)
    while _deliver(news, on_event, timeout=0.2):  # Workers have sent all they had when they end.
        pass
    try:
        for future in futures:
            future.result()
    except BrokenProcessPool as error:
        raise OfflineGCRLError(
            "a training process died (killed, or out of memory); run the stage again, "
            "it resumes from the last checkpoint"
        ) from error


def _groups(jobs: list[TrainingJob]) -> list[list[TrainingJob]]:
    """Jobs that share a process: seeds of one task where they are stacked; else each has its own."""
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
    """The jobs of all seeds of one dataset and agent, by the folders of the pipeline.

    Args:
        dataset: name.
        agent: name.
        seeds: one job each, and one more for each specialist.
        train: settings of training.
        settings: of the agent.
        output: folder of ``seed-<n>`` and of ``specialists/<task>/seed-<n>``.
        tasks: of which specialists are trained, where ``train`` asks for them and there are several.
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
            train=train.of_generalist if task is None else train.of_specialist,
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
    """Digest of the data and the code that a job reads; the same for all seeds and specialists."""
    package = Path(__file__).parent
    code = [package / name for name in (*CODE, f"agents/{job.settings.algorithm}.py")]
    data = [job.episodes / name for name in (STEPS, EPISODES, SCHEMA)]
    return digest([*code, *data, job.hindsight / TABLE])


def fingerprint(job: TrainingJob, content: str) -> str:
    """Name all that the weights depend on: data and code (``content``), settings, seed, fast paths, torch.

    A checkpoint is taken up again only under the same name, so nothing stale is ever resumed.
    """
    plan = plan_for(job.train, job.settings)
    words = (content, job.seed, job.task, job.train, job.settings, plan, torch.__version__)
    return hashlib.sha256(repr(words).encode()).hexdigest()[:16]


_news: Any = None  # The queue to the parent, in a worker process.


def _set_queue(news: Any) -> None:
    global _news
    _news = news


def _train_in_worker(jobs: list[TrainingJob]) -> None:
    import_module(TRAINING).train_together(jobs, _news.put)


def _deliver(news: Any, on_event: Listener, timeout: float) -> bool:
    try:
        on_event(news.get(timeout=timeout))
    except queue.Empty:
        return False
    return True
