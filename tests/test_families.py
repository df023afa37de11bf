"""Every family of datasets goes through all stages: collect, ingest, relabel, train, evaluate.

The fast tests run a small recipe per family in this process, if its extra is installed. The slow tests run ``dvc repro``
with small data for every recipe, one family at a time.
"""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from conftest import RECIPES, as_dataset, published_look_alike
from project import Project

from offline_gcrl.agents import settings_type
from offline_gcrl.collect.collector import collect_source
from offline_gcrl.config import (
    Evaluate,
    Recipe,
    Relabel,
    Train,
    Video,
    load_recipe,
    recipe_names,
    resolve,
)
from offline_gcrl.config.outputs import POLICY
from offline_gcrl.environments.making import EXTRAS, can_render, check_environments
from offline_gcrl.episodes.ingest import ingest
from offline_gcrl.evaluation.jobs import FINAL, episode_jobs
from offline_gcrl.evaluation.plan import evaluate, plan_evaluation
from offline_gcrl.evaluation.videos import write_rollouts
from offline_gcrl.hindsight.relabel import relabel
from offline_gcrl.training.jobs import TrainingJob
from offline_gcrl.training.module import train_seed

PUBLISHED = [name for name in recipe_names(RECIPES) if "collect:" not in (RECIPES / f"{name}.yaml").read_text()
             and "members:" not in (RECIPES / f"{name}.yaml").read_text()]  # fmt: skip
TINY = {
    "pointmaze-medium": 30,
    "pointmaze-large-waypoint": 60,
    "pointmaze-large-d4rl": 60,
    "fetch-slide": 12,
    "hand-reach": 12,
    "antmaze-medium-diverse": 12,
    "kitchen-mixed": 12,
    "adroit-pen-human": 12,
    "adroit-door-cloned": 12,
    "adroit-hammer-expert": 12,
    "adroit-relocate-human": 12,
    "ogbench-pointmaze-medium-stitch": 60,
    "ogbench-scene-play": 12,
}
"""One recipe per family, and the number of steps of its episodes in these tests."""


def shortened(recipe: Recipe, steps: int) -> Recipe:
    """The recipe with two short episodes per source and short evaluation episodes."""
    assert recipe.environment is not None
    assert recipe.evaluation is not None
    length = {"max_episode_steps": steps}
    evaluated = recipe.evaluation.environment
    in_evaluation = evaluated.model_copy(update={"kwargs": {**evaluated.kwargs, **length}})
    made = {
        "sources": tuple(
            source.model_copy(update={"episodes": None if source.collect is None else 2, "share": None})
            for source in recipe.sources
        ),
        "evaluation": recipe.evaluation.model_copy(update={"environment": in_evaluation}),
    }  # fmt: skip
    if any(source.collect for source in recipe.sources):
        kwargs = {**recipe.environment.kwargs, **length}
        made["environment"] = recipe.environment.model_copy(update={"kwargs": kwargs})
    return recipe.model_copy(update=made)


def trained(folder: Path, name: str) -> TrainingJob:
    """GC-IQL after a few updates on hindsight goals."""
    content = {"algorithm": "gciql", "hidden": [16], "actor_goals": {"geometric": 1.0}}
    job = TrainingJob(
        dataset=name,
        agent="gciql",
        seed=0,
        episodes=folder / "parquet",
        hindsight=folder / "hindsight",
        train=Train(updates=20, batch_size=32, snapshots=1),
        settings=settings_type("gciql").model_validate_json(json.dumps(content)),
        checkpoints=folder / "checkpoints" / "one",
        output=folder / "models",
    )
    train_seed(job, lambda event: None)
    return job


@pytest.mark.parametrize("name", TINY)
def test_a_small_recipe_goes_through_all_stages(name: str, tmp_path: Path) -> None:
    if extra := missing_extra(name):
        pytest.skip(f"the extra '{extra}' is not installed")
    recipe = shortened(load_recipe(name, RECIPES), TINY[name])
    dataset = as_dataset(recipe)
    for stage in ("minari", "parquet", "hindsight"):
        (tmp_path / stage).mkdir()
    for source in recipe.sources:
        if source.collect is not None:
            collect_source(recipe, source, tmp_path / "minari", workers=1)
    if name in PUBLISHED:
        published_look_alike(recipe, tmp_path / "minari", episodes=2, steps=TINY[name])
    schema = ingest(dataset, tmp_path / "minari", tmp_path / "parquet")
    relabel(tmp_path / "parquet", tmp_path / "hindsight", Relabel(k=2), recipe.goal)
    job = trained(tmp_path, name)
    settings = Evaluate(episodes=1, curve_episodes=1)
    result = evaluate(plan_evaluation({0: job.output}, dataset, settings), 1)[0]
    assert schema["counts"]["transitions"] >= 2 * TINY[name]
    assert (
        len(pl.read_parquet(tmp_path / "hindsight/table.parquet"))
        == schema["counts"]["transitions"]
    )
    assert result.episodes["task"].to_list() == [recipe.task]
    assert result.episodes["length"][0] <= TINY[name]
    assert result.episodes["final_distance"].is_finite().all()
    if can_render():
        jobs = episode_jobs(job.output / POLICY, dataset, settings, 0, FINAL)
        write_rollouts(tmp_path / "film.mp4", jobs, Video(episodes=1, size=64))


@pytest.mark.parametrize("name", PUBLISHED)
def test_goals_of_published_recipes_exist_in_their_environments(name: str) -> None:
    recipe = load_recipe(name, RECIPES)
    check_environments(recipe, name)
    assert [source.dataset.split("/")[0] for source in recipe.sources] == ["D4RL"]
    assert "CC BY" in recipe.licence


FAMILIES = sorted({name.split("-")[0] for name in recipe_names(RECIPES)})
SMALL: dict[str, Any] = {
    "experiment": {"name": "families", "agents": ["gciql"], "seeds": [0]},
    "collect": {"episodes": 8},  # of each task; published data is stood in for by three short ones
    "train": {"updates": 200, "batch_size": 64, "snapshots": 1},
    "evaluate": {"video": {"episodes": 1, "size": 64}},
}


def missing_extra(name: str) -> str | None:
    """The extra that a recipe needs and that is missing."""
    extras = [extra for extra in EXTRAS if extra in (RECIPES / f"{name}.yaml").read_text()]
    return next((extra for extra in extras if find_spec(extra) is None), None)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("family", FAMILIES)
def test_dvc_runs_every_recipe_of_a_family(family: str, tmp_path: Path) -> None:
    """One command per family; published data is replaced by small synthetic data with the same schema.

    Suites are evaluated in all their tasks at least once.
    """
    names = [name for name in recipe_names(RECIPES) if name.split("-")[0] == family]
    if extra := missing_extra(names[0]):
        pytest.skip(f"the extra '{extra}' is not installed")
    tasks = {name: len(resolve(name, folder=RECIPES).tasks) for name in names}
    evaluate = {
        **SMALL["evaluate"],
        "per_dataset": {
            name: {"episodes": max(5, count), "curve_episodes": count}
            for name, count in tasks.items()
        },
    }
    experiment = {**SMALL["experiment"], "datasets": names}
    project = Project.cloned(
        tmp_path / "repo", {**SMALL, "experiment": experiment, "evaluate": evaluate}
    )
    for name in set(names) & set(PUBLISHED):
        published_look_alike(load_recipe(name, RECIPES), tmp_path / "minari", episodes=3, steps=60)
    project.dvc("repro", "--keep-going")
    metrics = json.loads((project.folder / "reports/metrics.json").read_text())
    episodes = {name: metrics[name]["gciql"]["success_rate"]["episodes"] for name in names}
    assert episodes == {name: max(5, count) for name, count in tasks.items()}
    for name in names:
        results = project.folder / f"results/{name}/gciql/seed-0"
        table = pl.read_parquet(results / "episodes.parquet")
        assert set(table["task"]) == set(resolve(name, folder=RECIPES).tasks)
        assert table["final_distance"].is_finite().all()
        assert (results / "rollouts.mp4").is_file() == can_render()
        assert (project.folder / f"datasets/cards/{name}/card.md").is_file()
