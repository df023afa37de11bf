"""Errors in settings name the file, the key, the expected value and the nearest valid name."""

import json
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import RECIPES, ROOT
from gymnasium.spaces import Box
from ruamel.yaml import YAML

from offline_gcrl.agents import settings_type
from offline_gcrl.collect.policies import check_policy
from offline_gcrl.config import (
    Collect,
    Environment,
    FixedTasks,
    Relabel,
    TaskSequence,
    Train,
    agent_settings,
    algorithm_names,
    check_agent,
    check_evaluation,
    check_fit,
    hidden_settings,
    load_dataset,
    load_params,
    load_recipe,
    recipe_names,
    resolve,
)
from offline_gcrl.config.reading import as_yaml, nearest, read_value, read_yaml
from offline_gcrl.environments.making import check_environments, make_environment
from offline_gcrl.support.errors import SettingsError


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copytree(RECIPES, tmp_path / "datasets/recipes")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    return tmp_path / "params.yaml"


def change(path: Path, key: str, value: object) -> None:
    """Set a dotted key in a YAML file."""
    content = yaml.safe_load(path.read_text())
    place = content
    *parents, last = key.split(".")
    for parent in parents:
        place = place[int(parent)] if parent.isdigit() else place.setdefault(parent, {})
    place[last] = value
    path.write_text(yaml.safe_dump(content))


def test_the_default_settings_are_valid() -> None:
    params = load_params(ROOT / "params.yaml")
    for dataset in recipe_names(RECIPES):
        resolve(dataset, folder=RECIPES)
        for agent, section in params.agents.items():
            agent_settings(params, agent, dataset, settings_type(section["algorithm"]))


@pytest.mark.parametrize(
    "path", sorted((ROOT / "docs/experiments").glob("*.yaml")), ids=lambda path: path.stem
)
def test_experiments_of_the_documentation_are_valid(path: Path, project: Path) -> None:
    if "text_encoder: wordllama" in path.read_text():
        pytest.importorskip("wordllama")
    shutil.copy(path, project)
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values()
    named = {key.split(".")[0] for stage in stages for key in stage.get("params", ())}
    assert named <= set(read_yaml(path)), "DVC asks for all sections that dvc.yaml names"
    params = load_params(project)
    for agent, section in params.agents.items():
        check_agent(params, agent, settings_type(section["algorithm"]))
    for name in params.experiment.datasets:
        check_evaluation(params, resolve(name, folder=project.parent / RECIPES.relative_to(ROOT)))


def test_settings_of_training_can_differ_per_agent(project: Path) -> None:
    change(project, "train.per_agent.gciql", {"updates": 800, "specialists": ["gciql"]})
    change(project, "train.per_dataset.fetch-reach", {"updates": 80})
    params = load_params(project)
    assert params.train_for("pointmaze-umaze", "gciql").updates == 800
    assert params.train_for("pointmaze-umaze", "bc").updates == 2400
    assert params.train_for("fetch-reach", "gciql").updates == 80  # What is said of a dataset wins.
    assert params.train_for("fetch-reach", "gciql").has_specialists("gciql")
    assert not params.train_for("fetch-reach", "bc").has_specialists("bc")


def test_settings_of_specialists_do_not_apply_to_the_multi_task_policy() -> None:
    train = Train(updates=100, snapshots=2, specialists=True, specialist_updates=40)
    assert train.without_specialists == Train(updates=100, snapshots=2)
    assert train.for_specialist == Train(updates=40, snapshots=2)
    sequence = Train.model_validate({"updates": 100, "snapshots": 2, "sequence": {}})
    assert sequence.for_specialist == Train(updates=100, snapshots=2)


def test_a_list_with_a_wrong_item_is_not_also_called_too_short(project: Path) -> None:
    change(project, "experiment.seeds", [-1])
    with pytest.raises(SettingsError) as raised:
        load_params(project)
    assert str(raised.value).splitlines() == [
        f"{project}: experiment.seeds.0: Input should be greater than or equal to 0, not -1"
    ]


def test_listed_snapshots_end_with_the_last_update() -> None:
    train = Train(updates=100, snapshots=(5, 20, 50), specialists=True, specialist_updates=30)
    assert train.snapshot_updates == (5, 20, 50, 100)
    assert train.for_specialist.snapshot_updates == (5, 20, 30)
    assert Train(updates=100, snapshots=(50, 100)).snapshot_updates == (50, 100)
    assert Train(updates=100, snapshots=4).snapshot_updates == (25, 50, 75, 100)


def test_actions_have_the_same_order_in_evaluation_as_in_the_data(project: Path) -> None:
    recipe = project.parent / "datasets/recipes/pointmaze-opposed-mirrored-x.yaml"
    recipe.write_text(recipe.read_text().replace("    action_order: [-1, 2]\n", ""))
    with pytest.raises(SettingsError, match=r"order' is \[-1, 2\] and 'evaluation.* is left out"):
        load_recipe("pointmaze-opposed-mirrored-x", recipe.parent)


@pytest.mark.parametrize(
    ("order", "is_valid"),
    [([1, -2], True), ([2, 1], True), ([1, 1], False), ([0, 1], False), ([1, 3], False)],
)
def test_an_order_of_actions_names_every_dimension_once(order: list[int], is_valid: bool) -> None:
    content = json.dumps({"id": "Any-v0", "action_order": order})
    if is_valid:
        assert Environment.model_validate_json(content).action_order == tuple(order)
    else:
        with pytest.raises(ValueError, match="must have each number from 1 to 2 once"):
            Environment.model_validate_json(content)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train.specialists", ["gciqll"], "train.specialists: no section agents.gciqll; did you mean 'gciql'?"),
        ("train.specialist_updates", 7, "'specialist_updates' .* must be a multiple of 'snapshots'"),
        ("train.per_agent", {"gciqll": {}}, "train.per_agent: no section agents.gciqll; did you mean"),
        ("train.per_agent", {"gciql": {"updatez": 3}}, "train.per_agent.gciql.updatez: unknown key; did you mean"),
        ("train.per_agent", [1], "train.per_agent: expected names of agents"),
        ("train.per_agent", {"gciql": {"per_dataset": {}}}, "train.per_agent.gciql: 'per_dataset' is a key of train alone"),
        ("experiment.datasets", ["pointmaze-umaz"], "no recipe 'pointmaze-umaz'; did you mean 'pointmaze-umaze'?"),
        ("experiment.agents", ["gciqll"], "no section agents.gciqll; did you mean 'gciql'?"),
        ("experiment.seeds", [], "experiment.seeds: needs at least 1 item"),
        ("experiment.seeds", [2**32], "experiment.seeds.0: Input should be less than 4294967296"),
        ("experiment.name", "../x", "experiment.name: String should match pattern"),
        ("experiment.seeds", [1, 1], "experiment.seeds: '1' occurs twice"),
        ("experimnt", {}, "experimnt: unknown key; did you mean 'experiment'?"),
        ("relabel.strategies", ["futur"], "relabel.strategies.0: .*did you mean 'future'?"),
        ("relabel.k", 0, "relabel.k: .* greater than or equal to 1, not 0"),
        ("train.updates", "many", "train.updates: .* integer, not 'many'"),
        ("train.batchsize", 3, "train.batchsize: unknown key; did you mean 'batch_size'?"),
        ("train.snapshots", 7, "train: 'updates' .* must be a multiple of 'snapshots'"),
        ("train.snapshots", [10, 30, 20], "train: 'snapshots' must be increasing .*, and 20 is not above"),
        ("train.snapshots", [10, 9999], "train: 'snapshots' has 9999, after the last of 2400 updates"),
        ("train.snapshots", [], "train.snapshots: needs at least 1 item$"),
        ("train.snapshots", "x", "train.snapshots: Input should be a valid integer or .*, not 'x'$"),
        ("train.snapshots", [0, 10], "train.snapshots.0: .* greater than 0, not 0$"),
        ("collect.episodes", "Full", "collect.episodes: Input should be a valid integer or 'full', not 'Full'; did you mean 'full'"),
        ("train", {"updates": 600, "snapshots": [300], "sequence": {}}, "train: 'sequence' divides training into equal parts .*; set 'snapshots' to a number"),
        ("train.per_dataset", {"fetch-rech": {}}, "no recipe 'fetch-rech'; did you mean 'fetch-reach'?"),
        ("train.per_dataset", {"fetch-reach": {"updates": -1}}, r"train.per_dataset.fetch-reach.updates"),
        ("evaluate.video.sizes", 3, "evaluate.video.sizes: unknown key; did you mean 'size'?"),
        ("agents.gciql.algorithm", "iql", "agents.gciql.algorithm: no algorithm 'iql'"),
    ],
)  # fmt: skip
def test_a_wrong_parameter_is_named(project: Path, key: str, value: object, message: str) -> None:
    change(project, key, value)
    with pytest.raises(SettingsError, match=message) as error:
        load_params(project)
    assert str(error.value).startswith(str(project))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("expectil", 0.9, "agents.gciql.expectil: unknown key; did you mean 'expectile'?"),
        ("expectile", 1.5, "agents.gciql.expectile: .* less than 1"),
        ("actor_loss", "awrr", "agents.gciql.actor_loss: .*did you mean 'awr'?"),
        ("hidden", [], "agents.gciql.hidden: needs at least 1 item"),
        ("value_goals", {"final": 0.0}, "agents.gciql.value_goals.final: .* greater than 0"),
        ("per_dataset", {"pointmaze-umaze": {"alpha": -1.0}}, r"per_dataset.pointmaze-umaze.alpha"),
        ("conditioning", "onehot", "agents.gciql.conditioning: .*did you mean 'one_hot'?"),
        (
            "task_network",
            "heads",
            "task_network: 'heads' needs .*, and 'pointmaze-umaze' has one; set",
        ),
    ],
)
def test_a_wrong_setting_of_an_agent_is_named(
    project: Path, key: str, value: object, message: str
) -> None:
    change(project, f"agents.gciql.{key}", value)
    params = load_params(project)
    with pytest.raises(SettingsError, match=message):
        agent_settings(params, "gciql", "pointmaze-umaze", settings_type("gciql"))


@pytest.mark.parametrize(
    ("agent", "train", "message"),
    [
        ("bc", {"tasks": {"weights": {"fetch-reech": 1.0}}}, "train.tasks.weights: 'fetch-suite' has no task 'fetch-reech'; did you mean 'fetch-reach'?"),
        ("bc", {"tasks": {"weights": {"fetch-reach": 1.0}}}, "train.tasks.weights: every task of 'fetch-suite' needs a weight; missing: fetch-push, fetch-pick-and-place"),
        ("bc", {"tasks": {"sampling": "uncertainty"}}, "train.tasks.sampling: 'uncertainty' is .*, and agents.bc does not have two; use 'performance' or 'gradient', or one of the algorithms crl, .*gciql, gcivl"),
        ("gofar", {"tasks": {"gradients": "gradnorm"}}, "train.tasks.gradients: 'gradnorm' divides .* the loss of agents.gofar can be negative; .* algorithms .*bc, crl, gciql"),
        ("bc", {"sequence": {"tasks": ["fetch-reach", "fetch-pusch"]}}, "train.sequence.tasks: .* no task 'fetch-pusch'; did you mean 'fetch-push'?"),
        ("gofar", {}, "agents.gofar.initial_states: 'any' draws initial states of all tasks, .*; set 'episode' in agents.gofar.per_dataset.fetch-suite.initial_states"),
        ("bc", {"sequence": {}}, "train.snapshots: 8 must be a multiple of the number of tasks in sequence, 3, .*; set 6"),
        ("bc", {"snapshots": 6, "sequence": {"method": "heads"}}, "train.sequence.method: 'heads' freezes output layers per task, and agents.bc has none; set agents.bc.task_network: heads"),
    ],
)  # fmt: skip
def test_settings_of_tasks_that_do_not_fit_the_dataset_or_the_agent_are_named(
    project: Path, agent: str, train: dict[str, Any], message: str
) -> None:
    change(project, "train", {"updates": 2400, "snapshots": 8, **train})
    if "initial_states" in message:
        change(project, "agents.gofar.initial_states", "any")
    params = load_params(project)
    with pytest.raises(SettingsError, match=message) as error:
        agent_settings(params, agent, "fetch-suite", settings_type(agent))
    assert str(error.value).startswith(str(project))


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"tasks": {"samplng": "uniform"}}, "train.tasks.samplng: unknown key; did you mean 'sampling'?"),
        ({"tasks": {"gradients": "pc_grad"}}, "train.tasks.gradients: .*did you mean 'pcgrad'?"),
        ({"tasks": {}, "sequence": {}}, "train: 'tasks' is for training on all tasks at once"),
        ({"tasks": {"gradients": "pcgrad"}, "compile": True}, "train: 'compile' does not apply to gradients per task; .*'tasks.gradients: pcgrad'"),
        ({"tasks": {"gradients": "pcgrad"}, "precision": "bf16"}, "train: 'precision' does not apply to gradients per task; .*'tasks.gradients: pcgrad'"),
        ({"tasks": {"gradients": "gradnorm", "weights": "uniform"}}, "train.tasks: 'gradients: gradnorm' learns the weights"),
    ],
)  # fmt: skip
def test_settings_of_tasks_that_contradict_each_other_are_named(
    project: Path, train: dict[str, Any], message: str
) -> None:
    change(project, "train", {"updates": 2400, "snapshots": 8, **train})
    with pytest.raises(SettingsError, match=message):
        load_params(project)


def test_a_task_occurs_once_in_a_sequence() -> None:
    with pytest.raises(ValueError, match="'a' occurs twice"):
        TaskSequence(tasks=("a", "b", "a"))


def test_agents_with_subgoals_are_refused_where_goals_are_held_out(project: Path) -> None:
    change(project, "agents.hiql", {"algorithm": "hiql"})
    change(project, "experiment.agents", ["hiql"])
    check_agent(load_params(project), "hiql", settings_type("hiql"))
    change(project, "experiment.datasets", ["pointmaze-medium-held-out"])
    with pytest.raises(SettingsError, match="agents.hiql: trains on low_goals and subgoals of"):
        check_agent(load_params(project), "hiql", settings_type("hiql"))


def test_a_sequence_needs_several_tasks(project: Path) -> None:
    change(project, "train.sequence", {})
    with pytest.raises(SettingsError, match="train.sequence: 'pointmaze-umaze' has one task; name"):
        agent_settings(load_params(project), "bc", "pointmaze-umaze", settings_type("bc"))


def test_settings_of_a_dataset_override_general_settings(project: Path) -> None:
    change(project, "train.per_dataset", {"fetch-reach": {"updates": 80}})
    params = load_params(project)
    assert params.train_for("fetch-reach").updates == 80
    assert params.train_for("pointmaze-umaze").updates != 80


def test_settings_of_a_dataset_override_those_of_a_pattern(project: Path) -> None:
    special = {
        "pointmaze-umaze": {"updates": 80},
        "pointmaze-*": {"updates": 40, "snapshots": 4},
    }
    change(project, "train.per_dataset", special)
    params = load_params(project)
    assert params.train_for("pointmaze-large").updates == 40
    assert params.train_for("pointmaze-umaze").updates == 80
    assert params.train_for("pointmaze-umaze").snapshots == 4
    assert params.train_for("fetch-reach").updates not in (40, 80)


def test_a_pattern_that_matches_no_recipe_is_named(project: Path) -> None:
    change(project, "train.per_dataset", {"antmze-*": {"updates": 40}})
    with pytest.raises(SettingsError, match=r"train.per_dataset: no recipe 'antmze-\*'"):
        load_params(project)


def test_original_goals_that_a_dataset_lacks_are_named_with_the_remedy(project: Path) -> None:
    name = "ogbench-pointmaze-medium-stitch"
    change(project, "experiment.datasets", [name])
    change(project, "agents.bc.per_dataset", {})
    remedy = rf"'{name}' does not have; .* in agents.bc.per_dataset.{name}.actor_goals, or leave"
    with pytest.raises(SettingsError, match=remedy):
        check_agent(load_params(project), "bc", settings_type("bc"))
    change(project, "agents.bc.per_dataset", {"ogbench-*": {"actor_goals": {"geometric": 1.0}}})
    check_agent(load_params(project), "bc", settings_type("bc"))


def test_resident_sets_of_images_are_refused_with_the_remedy(project: Path) -> None:
    change(project, "train.data", "resident")
    check_agent(load_params(project), "gciql", settings_type("gciql"))
    with pytest.raises(SettingsError, match="train.data: 'resident' does not apply to images"):
        agent_settings(
            load_params(project), "gciql", "pointmaze-umaze-pixels", settings_type("gciql")
        )


def test_an_agent_that_does_not_run_is_not_checked_against_the_datasets_of_the_run(
    project: Path,
) -> None:
    change(project, "experiment.datasets", ["ogbench-pointmaze-medium-stitch"])
    change(project, "experiment.agents", ["gciql"])
    change(project, "agents.bc.per_dataset", {})
    check_agent(load_params(project), "bc", settings_type("bc"))
    change(project, "agents.bc.actor_gols", {})
    with pytest.raises(SettingsError, match="agents.bc.actor_gols: unknown key"):
        check_agent(load_params(project), "bc", settings_type("bc"))


def test_a_mixture_cannot_contain_a_strategy_that_is_not_relabelled(project: Path) -> None:
    change(project, "relabel.strategies", ["future"])
    with pytest.raises(
        SettingsError, match=r"value_goals: 'geometric' is not in relabel\.strategies"
    ):
        agent_settings(load_params(project), "gciql", "pointmaze-umaze", settings_type("gciql"))


@pytest.mark.parametrize(
    ("algorithm", "settings", "message"),
    [
        ("wgcsl", {}, "the rewards of 'wgcsl' are 0 and 1, which needs 'sparse', not 'dense'"),
        ("actionable_models", {}, "the rewards of 'actionable_models' are 0 and 1"),
        ("gofar", {"reward": "sparse"}, "the rewards of 'gofar' are 0 and 1"),
        ("gciql", {"goal_encoder": "dual"}, "'dual' learns numbers of steps"),
        ("gofar", {}, None),
        ("wgcsl", {"reward": "negative"}, None),
        ("gciql", {}, None),
    ],
)
def test_rewards_that_are_distances_are_refused_by_agents_of_success(
    algorithm: str, settings: dict[str, Any], message: str | None
) -> None:
    agent = settings_type(algorithm).model_validate({"algorithm": algorithm, **settings})
    maze, dense = resolve("pointmaze-umaze", folder=RECIPES), Relabel(reward="dense")
    refused = pytest.raises(SettingsError, match=message) if message else nullcontext()
    with refused:
        check_fit(agent, Train(updates=10), dense, maze, Path("params.yaml"))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("goal.success.tolerance", None, "kind 'distance' needs 'tolerance'"),
        ("goal.success.dimensions", [0], "'dimensions' does not belong to kind 'distance'"),
        ("goal.achieved", {"columns": [0]}, "goal.achieved: set 'key'"),
        ("goal.achieved", {"key": "x", "column": [0]}, "did you mean 'columns'"),
        ("sources.0.episodes", 5, "a source has either 'episodes' or a 'share'"),
        ("goal.success.kind", "nearby", "goal.success.kind: .* 'distance'"),
        ("sources", [], "sources: needs at least 1 item"),
        (
            "sources.0.dataset",
            "my/arm",
            "sources.0.dataset: .* ends in a version, such as my/arm-v0, not 'my/arm'$",
        ),
        ("titel", "x", "titel: unknown key; did you mean 'title'?"),
        ("environment.kwarg", {}, "environment.kwarg: unknown key; did you mean 'kwargs'?"),
        ("validation_share", 2, "validation_share: .* less than 1"),
    ],
)
def test_a_wrong_key_of_a_recipe_is_named(
    project: Path, key: str, value: object, message: str
) -> None:
    recipe = project.parent / "datasets/recipes/fetch-reach.yaml"
    change(recipe, key, value)
    with pytest.raises(SettingsError, match=message) as error:
        load_recipe("fetch-reach", recipe.parent)
    assert str(error.value).startswith(str(recipe))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("size", ["umaze", "medium", "large"])
def test_generated_variants_of_published_recipes_differ_in_their_source_only(size: str) -> None:
    made, published = (
        load_recipe(f"pointmaze-{size}-{kind}", RECIPES) for kind in ("waypoint", "d4rl")
    )
    for key in ("goal", "evaluation", "task", "instruction", "validation_share"):
        assert getattr(made, key) == getattr(published, key)
    ours, theirs = made.environment, published.environment
    assert ours is not None
    assert theirs is not None
    own_length = {"max_episode_steps": theirs.kwargs["max_episode_steps"]}
    assert (ours.id, {**ours.kwargs, **own_length}) == (theirs.id, theirs.kwargs)


def test_numbers_of_episodes_follow_from_shares_and_the_requested_size() -> None:
    def counts(name: str, episodes: Any = None) -> list[int | None]:
        return [source.episodes for source in resolve(name, episodes, RECIPES).recipes[0].sources]

    assert counts("pointmaze-umaze") == [90, 10]
    assert counts("pointmaze-umaze", 25) == [23, 2]
    assert counts("pointmaze-umaze", 2) == [1, 1]
    assert counts("pointmaze-umaze", "full") == [900, 100]
    with pytest.raises(
        SettingsError, match=r"pointmaze-umaze-d4rl.yaml: 'full_episodes' is missing"
    ):
        counts("pointmaze-umaze-d4rl", "full")
    assert counts("pointmaze-umaze-d4rl") == [None]
    assert counts("pointmaze-umaze-d4rl", 25) == [25]


def test_one_number_of_episodes_is_not_divided_among_sources_without_numbers(project: Path) -> None:
    path = project.parent / "datasets/recipes/pointmaze-umaze-d4rl.yaml"
    recipe = yaml.safe_load(path.read_text())
    recipe["sources"].append({"dataset": "D4RL/pointmaze/open-v2", "kind": "exploration"})
    path.write_text(yaml.safe_dump(recipe))
    assert resolve(path.stem, folder=path.parent).recipes[0].sources[1].episodes is None
    with pytest.raises(
        SettingsError, match=r"d4rl.yaml: sources.0: 'episodes' is missing, by which"
    ):
        resolve(path.stem, 25, path.parent)


def test_a_dataset_is_read_as_it_was_resolved(tmp_path: Path) -> None:
    for name in recipe_names(RECIPES):
        dataset = resolve(name, folder=RECIPES)
        (tmp_path / f"{name}.json").write_text(dataset.model_dump_json(exclude_defaults=True))
        assert load_dataset(name, tmp_path) == dataset
    with pytest.raises(SettingsError, match="whose first stage writes it"):
        load_dataset("nowhere", tmp_path)


def test_an_error_in_yaml_names_the_line(project: Path) -> None:
    project.write_text("experiment:\n  name: a\n  name: b\n")
    with pytest.raises(SettingsError, match=r"line 2: key 'name' occurs twice"):
        load_params(project)


MERGED = """
small: &small {hidden: [8], tau: 0.1}
slow: &slow {<<: *small, learning_rate: 0.001}
agents: {fast: {<<: [{alpha: 2}, *slow], tau: 0.5}, slow: *slow}
"""


def test_sections_are_merged_into_others_and_own_keys_come_first(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(MERGED)
    fast = {"hidden": [8], "learning_rate": 0.001, "alpha": 2, "tau": 0.5}
    assert read_yaml(path)["agents"]["fast"] == fast
    assert read_yaml(path)["agents"]["slow"] == {"hidden": [8], "tau": 0.1, "learning_rate": 0.001}
    path.write_text(MERGED.replace("tau: 0.5", "tau: 0.5, tau: 0.6"))
    with pytest.raises(SettingsError, match="line 4: key 'tau' occurs twice"):
        read_yaml(path)


@pytest.mark.parametrize(
    "value", ["!!int abc", "!!float abc", "!!timestamp 2026-13-45", "9" * 5000]
)
def test_a_value_that_is_not_of_its_tag_is_an_error_of_the_file(value: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(f"a: {value}")
    with pytest.raises(SettingsError, match=r"params.yaml: not a YAML file"):
        read_yaml(path)
    with pytest.raises(SettingsError, match=r"is not a value in YAML"):
        read_value(value)


def test_an_option_of_numbered_tasks_that_has_no_effect_is_named() -> None:
    recipe = load_recipe("pointmaze-umaze", RECIPES)
    assert recipe.evaluation is not None
    tasks = FixedTasks(option="task_idd", values=(1, 2))
    evaluation = recipe.evaluation.model_copy(update={"fixed_tasks": tasks})
    with pytest.raises(
        SettingsError, match=r"x: evaluation.fixed_tasks: .* with 'task_idd' 1 and 2"
    ):
        check_environments(recipe.model_copy(update={"evaluation": evaluation}), "x")


def test_unknown_policies_and_their_settings_are_named() -> None:
    environment = make_environment(Environment(id="PointMaze_UMaze-v3"))
    for collect, message in (
        (Collect(policy="uniforn"), "here.policy: no policy 'uniforn'; did you mean 'uniform'"),
        (
            Collect(policy="held_direction", settings={"longst": 3}),
            "here.settings: .* no setting 'longst'; did you mean 'longest'",
        ),
        (
            Collect(policy="held_direction", settings={"longest": 3}),
            "here: policy 'held_direction' cannot act: .* shortest <= longest, not 10 and 3",
        ),
    ):
        with pytest.raises(SettingsError, match=message):
            check_policy(collect, environment, "here")


def test_a_policy_that_collects_needs_bounded_actions() -> None:
    environment = make_environment(Environment(id="PointMaze_UMaze-v3"))
    environment.action_space = Box(-np.inf, np.inf, (2,))
    with pytest.raises(SettingsError, match="here: the action space is Box.* finite bounds"):
        check_policy(Collect(policy="uniform"), environment, "here")


def test_settings_are_frozen() -> None:
    settings = Relabel()
    with pytest.raises(ValueError, match="frozen"):
        settings.k = 3  # type: ignore[misc]


def test_every_file_in_agents_is_an_algorithm() -> None:
    files = {path.stem for path in (ROOT / "offline_gcrl/agents").glob("*.py")}
    assert set(algorithm_names()) == files - {"__init__"}
    assert {"bc", "gciql", "gofar"} <= files


def test_an_error_lists_only_similar_names_if_there_are_many() -> None:
    names = [f"maze-{number}" for number in range(50)] + ["fetch-reach", "fetch-push"]
    said = nearest("fetch-rech", names)
    assert said.startswith("did you mean 'fetch-reach'? known: fetch-push, fetch-reach, maze-")
    assert said.endswith(" and 42 more")
    assert nearest("b", ["a", "c"]) == "known: a, c"


@pytest.mark.parametrize("text", ["3e-05", "1e-5", "0.00003", "3.0e-4", "2E-3", ".5e-3"])
def test_numbers_with_an_exponent_are_numbers(tmp_path: Path, text: str) -> None:
    """`dvc exp run -S` writes numbers below 1e-4 without a decimal point."""
    path = tmp_path / "numbers.yaml"
    path.write_text(f"learning_rate: {text}\n")
    assert read_yaml(path) == {"learning_rate": float(text)}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"), ("on", "on"), ("010", 10), ("12:30", "12:30"), ("2026-01-01", "2026-01-01"),
        ("1_000", "1_000"), ("true", True), ("null", None), ("", None), ("~", None), ("0x1f", 31), (".5", 0.5),
        ("1.", 1.0), ("-3", -3), ("'3'", "3"),
    ],
)  # fmt: skip
def test_plain_words_and_numbers_are_read_as_dvc_reads_them(
    text: str, value: object, tmp_path: Path
) -> None:
    (tmp_path / "params.yaml").write_text(f"key: {text}\n")
    read = read_yaml(tmp_path / "params.yaml")["key"]
    assert (read, type(read)) == (value, type(value))
    if text not in ("1_000", "2026-01-01"):  # Its reader takes these for a number and a date.
        assert read == YAML().load(tmp_path / "params.yaml")["key"]


@pytest.mark.parametrize("text", ["3e-4", "no", "010", "12:30", "2026-01-01", "1_000", "~", ".5"])
def test_text_that_looks_like_a_number_is_written_so_that_it_remains_text(
    text: str, tmp_path: Path
) -> None:
    (tmp_path / "x.yaml").write_text(as_yaml({"key": text}))
    assert read_yaml(tmp_path / "x.yaml") == {"key": text}


def test_a_resolved_dataset_that_was_changed_is_named(tmp_path: Path) -> None:
    for content in ("", "[]", '{"name": "x"}', '{"name": '):
        (tmp_path / "x.json").write_text(content)
        with pytest.raises(SettingsError, match=r"x\.json: is damaged, or of another version"):
            load_dataset("x", tmp_path)


def test_names_that_begin_like_numbers_remain_text(tmp_path: Path) -> None:
    path = tmp_path / "names.yaml"
    path.write_text("[e5, 1e, 3e-4x, 2-e5]")
    assert read_yaml(path) == ["e5", "1e", "3e-4x", "2-e5"]


def test_settings_that_an_override_hides_are_listed(project: Path) -> None:
    assert hidden_settings(load_params(project)) == []  # No dataset of the run has overrides.
    change(project, "experiment.datasets", ["fetch-reach", "pointmaze-umaze"])
    assert hidden_settings(load_params(project)) == [
        "evaluate.seed (0) has no effect for fetch-reach: evaluate.per_dataset.fetch-reach.seed is 1",
        "train.updates (2400) has no effect for fetch-reach: train.per_dataset.fetch-reach.updates is 1600",
        "agents.gciql.actor_goals ({'random': 1.0}) has no effect for fetch-reach: "
        "agents.gciql.per_dataset.fetch-reach.actor_goals is {'geometric': 1.0}",
    ]


def test_of_several_overrides_each_hides_the_one_before(project: Path) -> None:
    change(project, "experiment.datasets", ["pointmaze-umaze", "fetch-reach"])
    change(project, "experiment.agents", ["bc", "gofar"])
    change(project, "train.per_agent", {"bc": {"updates": 800, "batch_size": 256}})
    change(project, "train.per_dataset", {"fetch-*": {"updates": 1600}})
    change(project, "evaluate.per_dataset", {"fetch-reach": {"video": {"episodes": 0}}})
    assert hidden_settings(load_params(project)) == [
        "train.updates (2400) has no effect for bc on pointmaze-umaze and bc on fetch-reach: "
        "train.per_agent.bc.updates is 800",
        "evaluate.video.episodes (4) has no effect for fetch-reach: "
        "evaluate.per_dataset.fetch-reach.video.episodes is 0",
        "train.per_agent.bc.updates (800) has no effect for bc on fetch-reach: "
        "train.per_dataset.fetch-*.updates is 1600",
        "train.updates (2400) has no effect for fetch-reach: train.per_dataset.fetch-*.updates is 1600",
    ]
