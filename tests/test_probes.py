"""Probes: specialists, held-out goals and wrong identifiers."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import polars as pl
import pytest
import torch
from conftest import RECIPES, SmallDataset, as_dataset, small_recipe

from offline_gcrl.agents import settings_type
from offline_gcrl.collect.collector import collect_source
from offline_gcrl.config import (
    Dataset,
    Evaluate,
    Recipe,
    Region,
    Relabel,
    Sampling,
    Train,
    load_recipe,
)
from offline_gcrl.config.outputs import POLICY
from offline_gcrl.environments.held_out_goals import check_region, held_out_seeds
from offline_gcrl.episodes.dataset import Episodes, open_episodes
from offline_gcrl.episodes.ingest import ingest
from offline_gcrl.evaluation.jobs import CURVE, FINAL, EpisodeJob
from offline_gcrl.evaluation.plan import EvaluationPlan, evaluate, plan_evaluation
from offline_gcrl.evaluation.probes import (
    Probe,
    ProbeResults,
    conditioned_identifiers,
    plan_probes,
    run_probes,
    with_wrong_identifier,
)
from offline_gcrl.evaluation.results import SeedResult, combine_seeds
from offline_gcrl.evaluation.rollouts import run_episode
from offline_gcrl.goals.held_out import held_out_goals, in_region, usable_columns
from offline_gcrl.hindsight.relabel import relabel
from offline_gcrl.policies.policy import load_policy
from offline_gcrl.support.errors import DataError, SettingsError
from offline_gcrl.tracking.evaluation import log_results
from offline_gcrl.tracking.store import Subject, Tracker
from offline_gcrl.training.batches.data import DeviceData
from offline_gcrl.training.batches.sampler import BatchSampler
from offline_gcrl.training.events import Event
from offline_gcrl.training.jobs import TrainingJob, Work, training_jobs
from offline_gcrl.training.module import train_seed

UMAZE, MEDIUM = "pointmaze-umaze", "pointmaze-medium"
REGION = Region(low=(0.5, 0.5), high=(1.5, 1.5))
"""The upper right corner of the U."""
EVALUATION = Evaluate(episodes=8, curve_episodes=4, held_out_episodes=6)


def short(name: str, **changed: Any) -> Recipe:
    """A maze with few episodes, and short ones for the evaluation."""
    recipe = small_recipe(name)
    assert recipe.evaluation is not None
    environment = recipe.evaluation.environment
    kwargs = {**environment.kwargs, "max_episode_steps": 20}
    evaluated = environment.model_copy(update={"kwargs": kwargs})
    evaluation = recipe.evaluation.model_copy(update={"environment": evaluated})
    return recipe.model_copy(update={"evaluation": evaluation, **changed})


@dataclass(frozen=True)
class Suite:
    """Two mazes, one with held-out goals, a multi-task policy and its specialists."""

    root: Path
    dataset: Dataset
    jobs: list[TrainingJob]

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def episodes(self) -> Episodes:
        return open_episodes(self.root / "parquet")


def settings(**changed: Any) -> Any:
    content = {"algorithm": "bc", "hidden": [16], "learning_rate": 0.01, **changed}
    return settings_type("bc").model_validate_json(json.dumps(content))


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    root = tmp_path_factory.mktemp("probes")
    dataset = as_dataset(short(UMAZE, held_out=REGION), short(MEDIUM))
    for name in ("minari", "parquet", "hindsight"):
        (root / name).mkdir()
    for recipe in dataset.recipes:
        for source in recipe.sources:
            collect_source(recipe, source, root / "minari", workers=1)
    ingest(dataset, root / "minari", root / "parquet")
    relabel(root / "parquet", root / "hindsight", Relabel(k=2), dataset.recipes[0].goal)
    train = Train(updates=20, batch_size=32, snapshots=2, specialists=True, specialist_updates=10)
    agent = settings(conditioning="goal+one_hot")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        link("parquet", root)
        link("hindsight", root)
        jobs = training_jobs("small", "bc", [0], train, agent, root / "models", dataset.tasks)
        for job in jobs:
            train_seed(job, lambda event: None)
    return Suite(root, dataset, jobs)


def link(name: str, root: Path) -> None:
    """Link the models to where the pipeline expects them."""
    place = root / "datasets" / name / "small"
    place.parent.mkdir(parents=True)
    place.symlink_to(root / name)


@dataclass(frozen=True)
class Evaluated:
    """The suite, evaluated as by the stage `evaluate`."""

    evaluation_plan: EvaluationPlan
    results: dict[int, SeedResult]
    plan: dict[Probe, list[EpisodeJob]]
    probes: ProbeResults


@pytest.fixture(scope="module")
def evaluated(suite: Suite) -> Evaluated:
    policies = {0: suite.models / "seed-0"}
    evaluation_plan = plan_evaluation(policies, suite.dataset, EVALUATION)
    results = evaluate(evaluation_plan, workers=1)
    plan = plan_probes(suite.models, suite.dataset, EVALUATION, evaluation_plan, results)
    return Evaluated(evaluation_plan, results, plan, run_probes(plan, workers=1))


def test_specialists_are_additional_jobs(suite: Suite) -> None:
    assert [job.task for job in suite.jobs] == [None, UMAZE, MEDIUM]
    assert len({job.checkpoints.name for job in suite.jobs}) == 3
    assert suite.jobs[1].output == suite.models / "specialists" / UMAZE / "seed-0"
    assert [job.train.updates for job in suite.jobs] == [20, 10, 10]
    policy = load_policy(suite.jobs[2].output)
    assert policy.training["task"] == MEDIUM
    assert policy.training["updates"] == 10


def test_specialists_do_not_change_the_multitask_policy(
    suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(suite.root)
    train = Train(updates=20, batch_size=32, snapshots=2)
    agent = settings(conditioning="goal+one_hot")
    (alone,) = training_jobs("small", "bc", [0], train, agent, suite.models, suite.dataset.tasks)
    assert alone.checkpoints == suite.jobs[0].checkpoints
    named = train.model_copy(update={"specialists": ("other",)})
    assert len(training_jobs("small", "bc", [0], named, agent, suite.models, ("a", "b"))) == 1
    single = train.model_copy(update={"specialists": True})
    assert len(training_jobs("small", "bc", [0], single, agent, suite.models, ("a",))) == 1


def test_a_specialist_sees_its_own_task_only(suite: Suite) -> None:
    sampling = Sampling(fields=("observations", "tasks"), actor_goals={"geometric": 1.0})
    sampler = BatchSampler(
        DeviceData(suite.episodes), suite.root / "hindsight", sampling,
        split="train", batch_size=64, seed=0, task=MEDIUM,
    )  # fmt: skip
    assert (sampler.batches(0, 20)["tasks"] == 1).all()
    tasks = suite.episodes.per_row("task")
    assert set(tasks[sampler.transitions.rows.numpy()]) == {MEDIUM}


def test_work_counts_specialists_together(suite: Suite) -> None:
    work = Work(suite.jobs)
    assert work.totals == {"seed 0": 20, "specialists": 20}
    assert work.count(Event(0, 7)) == ("seed 0", 7)
    assert work.count(Event(0, 4, task=UMAZE)) == ("specialists", 4)
    assert work.count(Event(0, 10, task=MEDIUM)) == ("specialists", 14)


def test_specialists_are_evaluated_in_the_episodes_of_the_multitask_policy(
    evaluated: Evaluated,
) -> None:
    every = evaluated.results[0].episodes
    for task in (UMAZE, MEDIUM):
        result = evaluated.probes.specialists[task][0]
        own = every.filter(pl.col("task") == task)
        for column in ("episode", "seed", "task", "start", "goal"):
            assert result.episodes[column].to_list() == own[column].to_list()
        assert result.episodes["update"].unique().to_list() == [10]
        assert result.curve["update"].to_list() == [5, 10]
    asked = {job.seed for job in evaluated.evaluation_plan[0, CURVE]}
    of_curves = evaluated.plan[Probe("specialist", UMAZE, 0, CURVE)]
    assert {job.seed for job in of_curves} < asked


@pytest.fixture(scope="module")
def sampler(suite: Suite) -> BatchSampler:
    sampling = Sampling(
        fields=("tasks", "actor_goals", "value_goals"),
        actor_goals={"original": 0.3, "geometric": 0.4, "random": 0.3},
        value_goals={"current": 0.2, "future": 0.4, "original": 0.4},
    )
    return BatchSampler(
        DeviceData(suite.episodes), suite.root / "hindsight", sampling,
        split="train", batch_size=64, seed=0,
    )  # fmt: skip


def raw_goals(sampler: BatchSampler, batch: dict[str, torch.Tensor], name: str) -> Any:
    """Goals in the environment's own units, shape (goals, goal)."""
    scaling = sampler.data.scaling
    zero, one = (scaling.goals(torch.full((1, 2), value)) for value in (0.0, 1.0))
    return ((batch[name] - zero) / (one - zero)).flatten(0, -2).numpy()


def test_held_out_goals_never_occur_in_a_thousand_batches(sampler: BatchSampler) -> None:
    held_out = sampler.data.held_out
    assert 0.02 < held_out.float().mean() < 0.5  # There are many to leave out.
    for first in range(0, 1000, 100):
        draw = sampler.draw(first, 100)
        for goals in (draw.actor_goal, draw.value_goal):
            assert not held_out[goals.row].any()
    batch = sampler.batches(0, 50)
    for name in ("actor_goals", "value_goals"):
        goals = raw_goals(sampler, batch, name)
        inner = Region(low=(0.51, 0.51), high=(1.49, 1.49))  # Scaling back rounds.
        in_umaze = (batch["tasks"] == 0).flatten().numpy()
        assert not in_region(goals[in_umaze], inner).any()


def test_a_region_holds_out_goals_of_one_task_only() -> None:
    goals, tasks = np.ones((4, 3), dtype=np.float32), np.array([UMAZE, MEDIUM] * 2)
    found = held_out_goals(goals, tasks, {UMAZE: REGION})  # The third number is padding.
    assert found.tolist() == [True, False, True, False]


def test_training_continues_without_validation_where_its_goals_are_held_out(
    dataset: SmallDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = dataset.episodes.table
    last = (index["first_row"] + index["length"]).to_numpy().astype(int)
    ends = dataset.episodes.achieved_goal[last][(index["split"] == "validation").to_numpy()]
    region = Region(low=tuple(map(float, ends.min(0))), high=tuple(map(float, ends.max(0))))
    recipe = dataset.recipe.model_copy(update={"held_out": region})
    for name in ("parquet", "hindsight"):
        (tmp_path / name).mkdir()
    ingest(as_dataset(recipe), dataset.minari, tmp_path / "parquet")
    finals = Relabel(k=1, strategies=("final",))
    relabel(tmp_path / "parquet", tmp_path / "hindsight", finals, recipe.goal)
    settings = settings_type("bc")(algorithm="bc", hidden=(8,), actor_goals={"final": 1.0})
    job = TrainingJob(
        "small", "bc", 0, tmp_path / "parquet", tmp_path / "hindsight",
        Train(updates=4, batch_size=8, snapshots=2), settings,
        tmp_path / "checkpoints/x", tmp_path / "out", arrays=tmp_path / "arrays",
    )  # fmt: skip
    train_seed(job, lambda event: None)
    assert (
        "no validation losses: in the validation episodes, no transition" in capsys.readouterr().out
    )
    assert (tmp_path / "out" / POLICY).exists()


def test_validation_has_no_held_out_goals(suite: Suite) -> None:
    sampling = Sampling(fields=("tasks",), actor_goals={"original": 0.5, "random": 0.5})
    source = BatchSampler(
        DeviceData(suite.episodes), suite.root / "hindsight", sampling,
        split="validation", batch_size=64, seed=0,
    )  # fmt: skip
    assert not source.data.held_out[source.transitions.tables["actor_goal"].goals.long()].any()


def test_a_held_out_goal_is_replaced_together_with_its_label(
    suite: Suite, sampler: BatchSampler
) -> None:
    """Each column is one of the transition's own goals, with the reward of that goal."""
    table = pl.read_parquet(suite.root / "hindsight/table.parquet")
    rows = {int(row): number for number, row in enumerate(table["row"])}
    shift, kept = len(sampler.data.observations), sampler.transitions.tables["value_goal"]
    for number in range(0, len(sampler), 7):
        row = int(sampler.transitions.rows[number])
        line = table.row(rows[row], named=True)
        pairs = {(row, line["current_reward_0"]), (row + shift, line["original_reward_0"])}
        pairs |= {(line[f"future_goal_{i}"], line[f"future_reward_{i}"]) for i in range(2)}
        got = zip(kept.goals[number].tolist(), kept.rewards[number].tolist(), strict=True)
        assert set(got) <= pairs


def test_a_held_out_goal_is_replaced_by_the_next_one_that_is_not() -> None:
    columns = torch.tensor([[0, 1, 2], [1, 1, 3], [1, 4, 1]])
    held_out = torch.tensor([False, True, False, False, True])
    chosen, usable = usable_columns(~held_out[columns])
    assert chosen[:2].tolist() == [[0, 2, 2], [2, 2, 2]]
    assert usable.tolist() == [True, True, False]
    assert not usable_columns(torch.zeros(3, 3, dtype=torch.bool))[1].any()


def test_a_region_that_contains_all_goals_is_refused(suite: Suite) -> None:
    everywhere = {"low": [-50.0, -50.0], "high": [50.0, 50.0]}
    schema = {**suite.episodes.schema, "held_out": {UMAZE: everywhere, MEDIUM: everywhere}}
    data = DeviceData(replace(suite.episodes, schema=schema))
    sampling = Sampling(fields=("tasks",), actor_goals={"original": 1.0})
    with pytest.raises(DataError, match="no transition has a goal outside the held-out region"):
        BatchSampler(data, suite.root / "hindsight", sampling, split="train", batch_size=8, seed=0)


def test_without_a_region_nothing_changes(dataset: SmallDataset) -> None:
    assert dataset.episodes.held_out == {}
    assert "held_out" not in dataset.episodes.schema


def test_held_out_episodes_have_goals_in_the_region(evaluated: Evaluated) -> None:
    table = evaluated.probes.held_out[0]
    assert len(table) == 3  # Half of the six, for one task of two.
    assert table["held_out"].all()
    assert in_region(np.array(table["goal"].to_list()), REGION).all()
    assert not set(table["seed"]) & set(evaluated.results[0].episodes["seed"])
    every = evaluated.results[0].episodes
    within = in_region(np.array(every["goal"].to_list()), REGION)
    expected = within & (every["task"] == UMAZE).to_numpy()
    assert every["held_out"].to_list() == expected.tolist()


def test_a_region_without_goals_is_an_error() -> None:
    nowhere = short(UMAZE, held_out=Region(low=(50.0, 50.0), high=(60.0, 60.0)))
    with pytest.raises(SettingsError, match=r"held_out: none of 5 resets of PointMaze_UMaze-v3"):
        held_out_seeds(nowhere, np.arange(5), 1)
    wide = short(UMAZE, held_out=Region(low=(0.0,), high=(1.0,)))
    with pytest.raises(SettingsError, match="a goal has 2 dimensions, and 'low' has 1"):
        check_region(wide, "maze.yaml")


def test_a_region_of_all_goals_is_an_error() -> None:
    everywhere = short(UMAZE, held_out=Region(low=(-50.0, -50.0), high=(50.0, 50.0)))
    with pytest.raises(SettingsError, match="the goals of all 200 resets of .* set a smaller"):
        check_region(everywhere, "maze.yaml")


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [((1.0, 0.0), (0.0, 1.0), "'low' must not be above 'high'"), ((1.0,), (2.0, 3.0), "as many")],
)
def test_an_invalid_region_is_refused(
    low: tuple[float, ...], high: tuple[float, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Region(low=low, high=high)


@pytest.mark.parametrize("name", ["pointmaze-medium-held-out", "fetch-reach-held-out"])
def test_shipped_regions_contain_goals_of_the_environment(name: str) -> None:
    recipe = load_recipe(name, RECIPES)
    assert recipe.held_out is not None
    check_region(recipe, name)


def test_wrong_identifiers_differ_from_the_right_ones(evaluated: Evaluated) -> None:
    final = evaluated.evaluation_plan[0, FINAL]
    goals = dict(
        zip((job.seed for job in final), evaluated.results[0].episodes["goal"], strict=True)
    )
    conditioned_task = evaluated.plan[Probe("wrong", "task", 0)]
    conditioned_goal = evaluated.plan[Probe("wrong", "goal", 0)]
    assert len(conditioned_task) == EVALUATION.curve_episodes
    for job in conditioned_task:
        assert job.conditioned_task in {UMAZE, MEDIUM} - {job.task}
        assert job.conditioned_goal is None
    for job in conditioned_goal:
        assert job.conditioned_task is None
        assert job.conditioned_goal is not None
        own, other = np.array(goals[job.seed]), np.array(job.conditioned_goal)
        assert np.linalg.norm(own - other) > 0.45  # Not reached together.
        assert other.tolist() in [
            goals[other.seed].to_list() for other in final if other.task == job.task
        ]


def test_with_a_wrong_goal_success_is_measured_on_the_right_one(evaluated: Evaluated) -> None:
    job = evaluated.plan[Probe("wrong", "goal", 0)][0]
    row, right = run_episode(job), run_episode(replace(job, conditioned_goal=None))
    assert row["goal"] == right["goal"]
    assert row["final_distance"] != pytest.approx(right["final_distance"], abs=1e-6)


def test_episodes_that_share_one_goal_have_no_wrong_goal(evaluated: Evaluated) -> None:
    final = evaluated.evaluation_plan[0, FINAL]
    table = evaluated.results[0].episodes
    same = table.with_columns(pl.lit(table["goal"][0].to_list()).alias("goal"))
    assert with_wrong_identifier("goal", final, same, as_dataset(short(UMAZE), short(MEDIUM))) == []


@pytest.mark.parametrize(
    ("conditioning", "kinds"),
    [({"conditioning": "goal"}, ["goal"]), ({"conditioning": "one_hot"}, ["task"]),
     ({"conditioning": "goal+embedding"}, ["task", "goal"]), ({"conditioning": "none"}, []),
     ({"conditioning": "none", "task_network": "heads"}, ["task"])],
)  # fmt: skip
def test_only_identifiers_that_a_policy_is_conditioned_on_can_be_wrong(
    suite: Suite, evaluated: Evaluated, conditioning: dict[str, str], kinds: list[str]
) -> None:
    policy = replace(load_policy(suite.models / "seed-0"), settings=settings(**conditioning))
    assert conditioned_identifiers(policy, suite.dataset) == kinds


def test_single_tasks_have_no_wrong_identifiers_by_default() -> None:
    assert Evaluate().wrong_identifier_count(1) == 0
    assert Evaluate().wrong_identifier_count(3) == 20
    assert Evaluate(wrong_identifier_episodes=7).wrong_identifier_count(1) == 7


def test_results_have_metrics_of_every_task(evaluated: Evaluated, tmp_path: Path) -> None:
    result = evaluated.results[0]
    result.write(tmp_path / "seed-0")
    evaluated.probes.write(tmp_path)
    metrics = json.loads((tmp_path / "seed-0/metrics.json").read_text())
    assert set(metrics["tasks"]) == {UMAZE, MEDIUM}
    assert metrics["tasks"][UMAZE]["success_rate"]["episodes"] == 4
    curves = pl.read_parquet(tmp_path / "seed-0/task_curves.parquet")
    assert curves.group_by("task").len()["len"].to_list() == [2, 2]
    whole = result.curve["mean"].to_list()
    assert curves.group_by("update").agg(pl.col("mean").mean()).sort("update")[
        "mean"
    ].to_list() == pytest.approx(whole)
    specialist = tmp_path / "specialists" / UMAZE / "seed-0"
    assert len(pl.read_parquet(specialist / "episodes.parquet")) == 4
    wrong = pl.read_parquet(tmp_path / "seed-0/wrong_identifier.parquet")
    assert set(wrong["wrong"]) == {"task", "goal"}


@pytest.fixture
def tracker(
    empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Tracker]:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    yield Tracker("probes")
    mlflow.set_tracking_uri(None)


def test_mlflow_has_every_task_and_every_probe(
    suite: Suite, evaluated: Evaluated, tracker: Tracker, tmp_path: Path
) -> None:
    folder = tmp_path / "results"
    (folder / "seed-0").mkdir(parents=True)
    results = evaluated.results
    log_results(
        tracker, Subject("small", "bc", "bc"), {0: suite.models / "seed-0"}, results,
        combine_seeds(list(results.values())), "success_rate", folder, {"episodes": 8}, evaluated.probes,
    )  # fmt: skip
    for run in tracker.client.search_runs([tracker.experiment]):
        logged = run.data.metrics
        for task in (UMAZE, MEDIUM):
            assert {
                f"success_rate/{task}", f"success_rate_low/{task}", f"final_distance/{task}",
                f"evaluation/success_rate/{task}", f"specialist/{task}", f"transfer/{task}_low",
            } <= set(logged)  # fmt: skip
            own = results[0].by_task[task]["success_rate"]["mean"]
            assert logged[f"success_rate/{task}"] == own
            assert logged[f"transfer/{task}"] == pytest.approx(own - logged[f"specialist/{task}"])
        assert {
            "transfer",
            "wrong_identifier/task",
            "wrong_identifier/goal",
            "held_out",
            "seen",
        } <= set(logged)


def test_an_episode_may_stop_at_success_if_any_step_counts(suite: Suite) -> None:
    recipe = short(UMAZE)
    assert recipe.evaluation is not None
    any_step = recipe.model_copy(
        update={"evaluation": recipe.evaluation.model_copy(update={"criterion": "any_step"})}
    )
    generous = any_step.goal.model_copy(
        update={"success": any_step.goal.success.model_copy(update={"tolerance": 50.0})}
    )
    policies = {0: suite.models / "seed-0"}
    stops = Evaluate(episodes=1, curve_episodes=1, stop_at_success=True)
    for recipe, length in ((any_step.model_copy(update={"goal": generous}), 1), (short(UMAZE), 20)):
        job = plan_evaluation(policies, as_dataset(recipe), stops)[0, FINAL][0]
        assert run_episode(job)["length"] == length
    assert job.policy == policies[0] / POLICY
