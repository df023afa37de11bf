"""Training jobs: what the weights of a seed depend on, and seeds side by side.

This part is light; Lightning, which takes seconds to import, is loaded in the worker processes only.
"""

import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

import torch

from offline_gcrl.agents import agent_files
from offline_gcrl.config import AgentSettings, Train, algorithm_names
from offline_gcrl.config.outputs import EPISODES, SCHEMA, SPECIALISTS, STEPS, TABLE
from offline_gcrl.support.errors import OfflineGCRLError
from offline_gcrl.support.files import digest
from offline_gcrl.support.processes import balanced_workers, process_pool
from offline_gcrl.training.events import Event, EventReader, EventWriter, Listener
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
"""Folders of the package that can change a weight, as dvc.yaml has them. Of the agents, only the job's own counts."""
EVENTS = "events.jsonl"
"""File among its checkpoints through which a worker reports."""
POLL_SECONDS = 0.2


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
    groups = _groups(jobs)
    files = [group[0].checkpoints / EVENTS for group in groups]
    with (
        closing(EventReader(files)) as reader,
        process_pool(balanced_workers(len(groups))) as pool,
    ):
        futures = [pool.submit(_train_in_worker, *work) for work in zip(groups, files, strict=True)]
        left: set[Future[None]] = set(futures)
        while left:
            left = wait(left, timeout=POLL_SECONDS).not_done
            for event in reader.read():
                on_event(event)
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
    """Digest of the data and the code that a job reads; the same for all seeds and specialists."""
    data = [job.episodes / name for name in (STEPS, EPISODES, SCHEMA)]
    return digest([*code_files(job.settings.algorithm), *data, job.hindsight / TABLE])


def code_files(algorithm: str) -> list[Path]:
    """Files of the package that can change the weights of an algorithm, without the other algorithms."""
    package = Path(__file__).parents[1]
    others = {f"{name}.py" for name in algorithm_names()} - agent_files(algorithm)
    return [
        path
        for folder in CODE
        for path in sorted((package / folder).rglob("*.py"))
        if folder != "agents" or path.name not in others
    ]


def fingerprint(job: TrainingJob, content: str) -> str:
    """Name all that the weights depend on: data and code (``content``), settings, seed, fast paths, torch.

    A checkpoint is taken up again only under the same name, so nothing stale is ever resumed.
    """
    plan = plan_for(job.train, job.settings)
    words = (content, job.seed, job.task, job.train, job.settings, plan, torch.__version__)
    return hashlib.sha256(repr(words).encode()).hexdigest()[:16]


def _train_in_worker(jobs: list[TrainingJob], events: Path) -> None:
    with closing(EventWriter(events)) as writer:
        import_module(TRAINING).train_together(jobs, writer)
