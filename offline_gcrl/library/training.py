"""``train``: one seed of an agent, by the same jobs as the stage ``train``."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from offline_gcrl.agents import settings_type
from offline_gcrl.config import (
    AgentSettings,
    Experiment,
    Relabel,
    Train,
    algorithm_names,
    check_fit,
    check_held_out,
    nearest,
)
from offline_gcrl.config.outputs import POLICY
from offline_gcrl.config.overrides import with_preset
from offline_gcrl.config.reading import validated
from offline_gcrl.library.datasets import LearningData
from offline_gcrl.library.explained import explained
from offline_gcrl.library.folders import TemporaryFolder
from offline_gcrl.library.plain import plain
from offline_gcrl.library.policies import TrainedPolicy, with_dataset
from offline_gcrl.library.processes import without_main_module
from offline_gcrl.support.errors import SettingsError
from offline_gcrl.support.terminal import Bars
from offline_gcrl.training.events import Event
from offline_gcrl.training.jobs import (
    TrainingJob,
    Work,
    content_digest,
    fingerprint,
    train_seeds,
)

TRAIN = Path("train()")
"""The name of the function in errors about its arguments."""
SNAPSHOTS = 10
"""Snapshots if they are not given, where the number of updates is a multiple of them."""
WITHOUT_EFFECT = ("seeds_together", "specialists", "specialist_updates")
"""Settings of the stage ``train`` that one policy does not have."""


def train(
    data: LearningData,
    agent: str = "gciql",
    *,
    updates: int,
    seed: int = 0,
    relabel: Mapping[str, Any] | None = None,
    checkpoints: str | Path | None = None,
    **settings: Any,
) -> TrainedPolicy:
    """Train a policy in a process of its own.

    Args:
        data: what ``load_dataset`` returned.
        agent: name of an algorithm.
        updates: number of gradient steps.
        seed: seed of the initial weights and of the batches.
        relabel: settings of the hindsight goals, as in the section ``relabel`` of ``params.yaml``.
        checkpoints: folder of checkpoints. A call with the same data, settings and code continues from the last of them.
            If left out, a training that is interrupted starts again.
        settings: settings of the agent, as in a section of ``agents``, and of the section ``train``.

    Returns:
        The policy. The weights are those of the stage ``train`` with the same settings and seed.

    Raises:
        OfflineGCRLError: a setting is invalid or does not fit the data, memory ran out, or training diverged.
    """
    if not isinstance(data, LearningData):
        raise SettingsError(
            f"{TRAIN}: data: expected what load_dataset returns, not {type(data).__name__}"
        )
    seed = plain(seed)
    train_settings, agent_settings = _checked(data, agent, plain(updates), plain(settings))
    table = validated(Relabel, {} if relabel is None else plain(relabel), TRAIN, ("relabel",))
    check_fit(agent_settings, train_settings, table, data.dataset, TRAIN)
    check_held_out(agent_settings, data.dataset, TRAIN)
    runs = {"datasets": [data.dataset.name], "agents": [agent], "seeds": [seed]}
    validated(Experiment, runs, TRAIN)  # The seed is one that all random generators take.
    folder = TemporaryFolder()
    job = TrainingJob(
        dataset=data.dataset.name,
        agent=agent,
        seed=seed,
        episodes=data.episodes,
        hindsight=data.hindsight(table),
        train=train_settings,
        settings=agent_settings,
        checkpoints=_place(checkpoints or folder.path / "checkpoints", data, agent, seed),
        output=folder.path / "policy",
        arrays=data.folder.path / "arrays",
    )
    job = replace(job, checkpoints=job.checkpoints / fingerprint(job, content_digest(job)))
    _run(job)
    return with_dataset(job.output / POLICY, data.dataset, folder)


def _run(job: TrainingJob) -> None:
    """Train in a process of its own, and show the progress."""
    work = Work([job])
    with (
        explained(TRAIN),
        without_main_module(),
        Bars(list(work.totals), work.totals, "updates") as bars,
    ):

        def on_event(event: Event) -> None:
            bars.update(*work.count(event))

        train_seeds([job], on_event)


def _place(checkpoints: str | Path, data: LearningData, agent: str, seed: int) -> Path:
    """The folder of the checkpoints of one seed, as in a project."""
    return Path(checkpoints).absolute() / data.dataset.name / agent / f"seed-{seed}"


def _checked(
    data: LearningData, agent: str, updates: int, settings: Mapping[str, Any]
) -> tuple[Train, AgentSettings]:
    """The settings of training and of the agent, from keywords.

    Raises:
        SettingsError: an algorithm or a keyword is unknown, or a value is invalid.
    """
    if agent not in algorithm_names():
        raise SettingsError(
            f"{TRAIN}: agent: no algorithm '{agent}'; {nearest(agent, algorithm_names())}"
        )
    kind = settings_type(agent)
    known = {*Train.model_fields, *kind.model_fields} - {*WITHOUT_EFFECT, "algorithm"}
    for name in settings:
        if name not in known:
            raise SettingsError(f"{TRAIN}: {name}: unknown setting; {nearest(name, known)}")
    default = SNAPSHOTS if isinstance(updates, int) and updates % SNAPSHOTS == 0 else 1
    general = {name: settings[name] for name in settings if name in Train.model_fields}
    own = {name: settings[name] for name in settings if name not in general}
    train_settings = validated(Train, {"updates": updates, "snapshots": default} | general, TRAIN)
    section = with_preset({"algorithm": agent} | own, data.dataset.name)
    return train_settings, validated(kind, section, TRAIN)
