"""``evaluate``: episodes of policies in their environment, as in the stage ``evaluate``."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import torch

from offline_gcrl.config import Dataset, Evaluate, check_episode_counts
from offline_gcrl.config.outputs import POLICY
from offline_gcrl.config.reading import validated
from offline_gcrl.evaluation.jobs import FINAL, EpisodeJob, episode_jobs
from offline_gcrl.evaluation.results import Metrics, episode_table, summarise, summarise_by_task
from offline_gcrl.evaluation.rollouts import run_episode, run_episodes
from offline_gcrl.library.datasets import with_environment
from offline_gcrl.library.plain import plain
from offline_gcrl.library.policies import TrainedPolicy, load_policy
from offline_gcrl.library.processes import without_main_module
from offline_gcrl.library.sources import EnvironmentLike, environment_settings
from offline_gcrl.support.errors import PolicyError, SettingsError
from offline_gcrl.support.processes import with_callback
from offline_gcrl.support.terminal import Bars

EVALUATE = Path("evaluate()")
"""The name of the function in errors about its arguments."""
PolicyLike = TrainedPolicy | str | Path
COLUMNS: dict[str, Any] = {
    "task": pl.String,
    "metric": pl.String,
    "mean": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "episodes": pl.Int64,
    "seeds": pl.Int64,
}


def evaluate(
    policy: PolicyLike | Sequence[PolicyLike],
    episodes: int = 100,
    *,
    environment: EnvironmentLike | None = None,
    seed: int = 0,
    workers: int = 1,
    **settings: Any,
) -> pl.DataFrame:
    """Evaluate a policy, or the policies of several training seeds together.

    Args:
        policy: what ``train`` or ``load_policy`` returned, the path of a policy, or a list of them.
        episodes: number of episodes of each policy.
        environment: where to evaluate; if left out, the environment of the data.
        seed: seed of starts and goals, which is the same for all policies of one training seed.
        workers: number of worker processes; with 1, the episodes run in this process. The results do not depend on it.
        settings: ``discount`` and ``stop_at_success``, as in the section ``evaluate`` of ``params.yaml``.

    Returns:
        A row per metric with its mean and its 95% interval: columns metric, mean, low, high, episodes, seeds. For
        several tasks there is also the column task, in which null means all tasks.

    Raises:
        OfflineGCRLError: there is no environment, a setting does not fit it, or the policies are not those of several
            training seeds of one agent.
    """
    loaded = _loaded(policy)
    _check_one_agent(loaded)
    tables = evaluation_episodes(
        loaded, episodes, environment=environment, seed=seed, workers=workers, **settings
    ).partition_by("policy", maintain_order=True)
    rows = _rows(summarise(tables), None)
    for task, metrics in summarise_by_task(tables).items():
        rows += _rows(metrics, task)
    table = pl.DataFrame(rows, schema=COLUMNS)
    return table if table["task"].drop_nulls().len() else table.drop("task")


def evaluation_episodes(
    policy: PolicyLike | Sequence[PolicyLike],
    episodes: int = 100,
    *,
    environment: EnvironmentLike | None = None,
    seed: int = 0,
    workers: int = 1,
    **settings: Any,
) -> pl.DataFrame:
    """The episodes behind ``evaluate``, with the same arguments, also of several agents.

    Returns:
        A row per episode, as in ``episodes.parquet`` of the stage ``evaluate``, and a column with the number of the
        policy.

    Raises:
        OfflineGCRLError: there is no environment, or a setting does not fit it.
    """
    loaded = _loaded(policy)
    chosen = _settings(episodes, seed, workers, settings)
    with TemporaryDirectory(prefix="offline-gcrl-") as folder:
        plan = [
            _jobs(one, Path(folder) / f"{number}-{POLICY}", environment, chosen)
            for number, one in enumerate(loaded)
        ]
        jobs = [job for jobs in plan for job in jobs]
        with Bars(["evaluating"], len(jobs), "episodes") as bars:
            rows = with_callback(
                _run(jobs, plain(workers)), lambda row: bars.advance("evaluating", 1)
            )
            table = episode_table(rows)
    numbers = [number for number, jobs in enumerate(plan) for _ in jobs]
    return table.with_columns(pl.Series("policy", numbers, dtype=pl.Int32))


def _loaded(policy: PolicyLike | Sequence[PolicyLike]) -> list[TrainedPolicy]:
    several = [policy] if isinstance(policy, PolicyLike) else policy
    if not isinstance(several, Sequence) or not all(isinstance(x, PolicyLike) for x in several):
        raise PolicyError(
            f"{EVALUATE}: policy: expected a policy, the path of one, or a list of them, not {policy!r:.60}"
        )
    if not several:
        raise PolicyError(f"{EVALUATE}: policy: needs at least one policy")
    return [item if isinstance(item, TrainedPolicy) else load_policy(item) for item in several]


def _check_one_agent(policies: Sequence[TrainedPolicy]) -> None:
    """Check that policies differ in their training seed only: an interval is over training seeds of one agent.

    Raises:
        SettingsError: two have the same seed, or another agent, dataset or settings.
    """
    first = _identity(policies[0])
    seen: dict[int, int] = {}
    for number, policy in enumerate(policies):
        if policy.dataset != policies[0].dataset:
            raise SettingsError(
                f"{EVALUATE}: policy: the recipes of the data of the policies 0 and {number} differ (environment, goals or "
                "sources); evaluate each on its own"
            )
        other = _identity(policy)
        for name in first | other:
            if first.get(name) != other.get(name):
                raise SettingsError(
                    f"{EVALUATE}: policy: the policies 0 and {number} differ in {name} ({first.get(name)}, "
                    f"{other.get(name)}); evaluate each agent on its own"
                )
        seed = _training_seed(policy)
        if seed in seen:
            raise SettingsError(
                f"{EVALUATE}: policy: the policies {seen[seed]} and {number} have the same training seed, {seed}, which "
                "would count twice; name one of them"
            )
        seen[seed] = number


def _identity(policy: TrainedPolicy) -> dict[str, Any]:
    """What is the same for all training seeds of an agent, by name, and what says most first."""
    settings = policy.settings.model_dump(exclude={"algorithm"})
    facts = {"algorithm": policy.algorithm, **policy.training, **settings}
    return {name: value for name, value in facts.items() if name != "seed"}


def _training_seed(policy: TrainedPolicy) -> int:
    return int(policy.training.get("seed", 0))


def _settings(episodes: int, seed: int, workers: int, settings: Mapping[str, Any]) -> Evaluate:
    """The settings of the section ``evaluate``, of which only the final episodes are run here."""
    unknown = settings.keys() - {"discount", "stop_at_success"}
    if unknown:
        raise SettingsError(
            f"{EVALUATE}: unknown setting '{min(unknown)}'; known: discount, stop_at_success"
        )
    data = {"episodes": episodes, "seed": seed, "workers": workers, **settings}
    others = {"held_out_episodes": 0, "wrong_identifier_episodes": 0}
    checked = validated(Evaluate, plain(data | others), EVALUATE)
    return checked.model_copy(update={"curve_episodes": checked.episodes})


def _jobs(
    policy: TrainedPolicy,
    copy: Path,
    environment: EnvironmentLike | None,
    settings: Evaluate,
) -> list[EpisodeJob]:
    """The episodes of a policy, which read a file of their own: workers keep policies by the path of their file."""
    dataset = _evaluated(policy, environment)
    check_episode_counts(settings, dataset, EVALUATE)
    copy.write_bytes(policy.content)
    return episode_jobs(copy, dataset, settings, _training_seed(policy), FINAL)


def _evaluated(policy: TrainedPolicy, environment: EnvironmentLike | None) -> Dataset:
    """The dataset with the environments to evaluate in."""
    policy.recipe_of(None)
    assert policy.dataset is not None
    if environment is not None:
        return with_environment(policy.dataset, environment_settings(environment, EVALUATE))
    for task in policy.dataset.tasks:
        policy._environment(task)
    return policy.dataset


def _run(jobs: Iterable[EpisodeJob], workers: int) -> Iterator[dict[str, Any]]:
    """Rows of the table of episodes, in order."""
    if workers == 1:
        with _torch_threads():
            yield from map(run_episode, jobs)
    else:
        with without_main_module():
            yield from run_episodes(jobs, workers)


@contextmanager
def _torch_threads() -> Iterator[None]:
    """Restore the number of threads of torch, which an episode sets to one."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _rows(metrics: Metrics, task: str | None) -> list[dict[str, Any]]:
    return [{"task": task, "metric": name, **values} for name, values in metrics.items()]
