"""Presets: published settings for each family of datasets, from one table, which a section overrides key by key."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import RECIPES, ROOT

from offline_gcrl.agents import settings_type
from offline_gcrl.config import AgentSettings, agent_settings, load_params
from offline_gcrl.config.presets import COMMON, WITH_VALUES, preset_settings
from offline_gcrl.support.errors import SettingsError


def settings_of(folder: Path, dataset: str, **section: Any) -> Any:
    """The settings of an agent with this section, on a dataset."""
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    content["agents"]["mine"] = section
    (folder / "params.yaml").write_text(yaml.safe_dump(content))
    if not (folder / "datasets").exists():
        shutil.copytree(RECIPES, folder / "datasets/recipes")
    params = load_params(folder / "params.yaml")
    kind: type[AgentSettings] = settings_type(section["algorithm"])
    return agent_settings(params, "mine", dataset, kind)


@pytest.mark.parametrize(
    ("dataset", "alpha", "actor_goals"),
    [
        ("ogbench-pointmaze-medium-navigate", 0.003, {"future": 1.0}),
        ("ogbench-pointmaze-medium-stitch", 0.003, {"future": 0.5, "random": 0.5}),
        ("ogbench-cube-single-play", 1.0, {"future": 1.0}),
    ],
)
def test_a_preset_gives_the_published_settings_of_the_family(
    tmp_path: Path, dataset: str, alpha: float, actor_goals: dict[str, float]
) -> None:
    settings = settings_of(tmp_path, dataset, algorithm="gciql", preset="ogbench")
    assert settings.alpha == alpha
    assert settings.actor_goals == actor_goals
    assert (settings.hidden, settings.learning_rate) == ((512, 512, 512), 3e-4)
    assert not settings.normalise


@pytest.mark.parametrize(
    ("dataset", "same", "crop"),
    [
        ("ogbench-visual-puzzle-3x3-play", "ogbench-puzzle-3x3-play", 0.5),
        ("ogbench-visual-antmaze-medium-stitch", "ogbench-antmaze-medium-stitch", 0.0),
    ],
)
def test_a_dataset_of_images_has_the_settings_of_its_states_and_an_encoder(
    dataset: str, same: str, crop: float
) -> None:
    for algorithm in ("bc", *WITH_VALUES):
        settings = preset_settings("ogbench", algorithm, dataset)
        assert settings.pop("images") == {"encoder": "impala_small", "random_crop": crop}
        assert settings.pop("low_actor_rep_grad", False) == (algorithm == "hiql")
        assert settings == preset_settings("ogbench", algorithm, same)


def test_the_images_of_a_preset_are_settings_of_every_agent(tmp_path: Path) -> None:
    for algorithm in ("bc", *WITH_VALUES):
        settings = settings_of(
            tmp_path, "ogbench-visual-cube-single-play", algorithm=algorithm, preset="ogbench"
        )
        assert (settings.images.encoder, settings.images.random_crop) == ("impala_small", 0.5)


def test_keys_of_the_section_go_before_those_of_the_preset(tmp_path: Path) -> None:
    name = "ogbench-cube-single-play"
    section = {"algorithm": "gciql", "preset": "ogbench", "hidden": [64, 64]}
    settings = settings_of(
        tmp_path, name, **section, per_dataset={"ogbench-cube-*": {"alpha": 0.5}}
    )
    assert (settings.hidden, settings.alpha) == ((64, 64), 0.5)
    assert settings.activation == "gelu"


@pytest.mark.parametrize(
    ("dataset", "size", "expectile"),
    [("ogbench-pointmaze-medium-navigate", 64, 0.9), ("ogbench-cube-single-play", 256, 0.7)],
)
def test_the_preset_of_a_goal_encoder_is_overridden_key_by_key_too(
    tmp_path: Path, dataset: str, size: int, expectile: float
) -> None:
    section = {"algorithm": "gcivl", "preset": "ogbench", "goal_encoder": "dual"}
    own = settings_of(tmp_path, dataset, **section, dual={"n_step": 5}).dual
    assert (own.size, own.expectile, own.n_step) == (size, expectile, 5)
    assert settings_of(tmp_path, dataset, **section, dual={"expectile": 0.8}).dual.expectile == 0.8


def test_a_dataset_without_a_family_gets_what_all_families_share(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "fetch-reach", algorithm="gciql", preset="ogbench")
    assert not settings.normalise
    assert settings.alpha == settings_type("gciql").model_fields["alpha"].default


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        ("ogbench-pointmaze-large-navigate", {"beta": 3.0, "expectile": 0.7, "subgoal_steps": 25}),
        ("ogbench-cube-single-play", {"beta": 0.3, "expectile": 0.9, "subgoal_steps": 10}),
        ("ogbench-cube-double-play", {"beta": 1.0, "expectile": 0.7, "subgoal_steps": 10}),
        ("ogbench-scene-play", {"beta": 1.0, "low_alpha": 3.0, "alpha": 3.0}),
    ],
)
def test_saw_has_the_settings_of_its_release(
    tmp_path: Path, dataset: str, expected: dict[str, Any]
) -> None:
    settings = settings_of(tmp_path, dataset, algorithm="saw", preset="ogbench").model_dump()
    assert {name: settings[name] for name in expected} == expected


def test_every_algorithm_with_values_has_settings_for_every_family() -> None:
    """The table covers all datasets of OGBench, also those without a recipe."""
    families = [
        "pointmaze-giant-navigate", "antmaze-giant-stitch", "antmaze-large-explore", "antmaze-teleport-navigate",
        "humanoidmaze-large-navigate", "antsoccer-arena-navigate", "cube-triple-play", "cube-quadruple-noisy",
        "scene-noisy", "puzzle-4x6-play",
    ]  # fmt: skip
    for name in families:
        for algorithm in WITH_VALUES:
            found = preset_settings("ogbench", algorithm, f"ogbench-{name}")
            assert not found["normalise"]
            assert set(found) - set(COMMON), (name, algorithm)
            settings_type(algorithm).model_validate_json(
                json.dumps({"algorithm": algorithm, **found})
            )


def test_gcbc_is_a_preset_of_behaviour_cloning(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "fetch-reach", algorithm="bc", preset="ogbench")
    assert settings.actor_goals == {"future": 1.0}


def test_an_unknown_preset_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        SettingsError, match=r"agents\.mine\.preset: .*not 'ogbensh'; did you mean 'ogbench'"
    ):
        settings_of(tmp_path, "fetch-reach", algorithm="bc", preset="ogbensh")
