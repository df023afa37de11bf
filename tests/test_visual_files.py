"""OGBench's visual files: images become recorded images, and the state of the simulator becomes the state of agents."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import as_dataset

from offline_gcrl.config import Environment, load_recipe
from offline_gcrl.config.outputs import FRAMES
from offline_gcrl.convert.__main__ import main
from offline_gcrl.environments.making import can_render, make_environment
from offline_gcrl.episodes.dataset import open_episodes
from offline_gcrl.episodes.ingest import ingest
from offline_gcrl.episodes.stored_frames import iterate_frames

ROWS, EPISODES = 4, 2
SIZES = {"cube-single": (21, 20, 0), "puzzle-3x3": (23, 23, 9), "antmaze-medium": (15, 14, 0)}
"""Numbers of positions, velocities and buttons."""
with_ogbench = [
    pytest.mark.skipif(find_spec("ogbench") is None, reason="the extra 'ogbench' is not installed"),
    pytest.mark.skipif(not can_render(), reason="no GL library to render images with"),
]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    for name in ("minari", "datasets/recipes", "parquet"):
        Path(name).mkdir(parents=True)
    return tmp_path


def arrays(name: str, **changed: Any) -> dict[str, Any]:
    """The arrays of a published visual file, of two episodes of three transitions."""
    random, count = np.random.default_rng(0), ROWS * EPISODES
    qpos, qvel, buttons = SIZES[name]
    found = {
        "observations": random.integers(0, 256, (count, 64, 64, 3), dtype=np.uint8),
        "actions": random.uniform(-1, 1, (count, 8 if "ant" in name else 5)).astype(np.float32),
        "terminals": np.arange(count) % ROWS == ROWS - 1,
        "qpos": random.normal(size=(count, qpos)).astype(np.float32),
        "qvel": random.normal(size=(count, qvel)).astype(np.float32),
    }
    if buttons:
        found["button_states"] = random.integers(0, 2, (count, buttons))
    return {key: value for key, value in {**found, **changed}.items() if value is not None}


def test_a_visual_file_becomes_recorded_images_and_states(project: Path) -> None:
    given = arrays("puzzle-3x3")
    np.savez_compressed("visual.npz", **given)
    main(["ogbench", "visual.npz", "my/visual-v0", "--recipe", "my-visual"])
    recipe = load_recipe("my-visual", Path("datasets/recipes"))
    assert recipe.evaluation is None
    assert recipe.images is not None
    ingest(as_dataset(recipe), Path("minari"), Path("parquet"))
    frames = np.concatenate(list(iterate_frames(Path("parquet") / FRAMES, recipe.images)))
    assert np.array_equal(frames.reshape(given["observations"].shape), given["observations"])
    episodes = open_episodes(Path("parquet"))
    state = np.concatenate([given[name] for name in ("qpos", "qvel", "button_states")], 1)
    np.testing.assert_allclose(episodes.observation, state, rtol=1e-6)
    assert episodes.rows == ROWS * EPISODES


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"qvel": None}, "the file has no qvel, the state of the simulator"),
        ({"observations": np.zeros((8, 32, 32, 6), np.uint8)}, "files of Powderworld cannot be converted"),
        ({"observations": np.zeros((8, 64, 64, 3))}, "are float64 of shape"),
        ({"terminals": np.zeros(8)}, "the last row does not end an episode"),
    ],
)  # fmt: skip
def test_a_file_with_other_images_or_without_states_is_refused(
    changed: dict[str, Any], message: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez_compressed("visual.npz", **arrays("cube-single", **changed))
    with pytest.raises(SystemExit):
        main(["ogbench", "visual.npz", "my/visual-v0"])
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (project / "minari/my/visual-v0").exists()


@pytest.mark.parametrize(
    ("name", "goal"),
    [
        pytest.param("cube-single", {"reset": True}, marks=[*with_ogbench, pytest.mark.slow]),
        pytest.param("antmaze-medium", {"qpos": (*range(15),)}, marks=with_ogbench),
    ],
)
def test_with_the_visual_environment_policies_are_evaluated_on_its_images(
    name: str, goal: dict[str, Any], project: Path
) -> None:
    np.savez_compressed("visual.npz", **arrays(name))
    identity = f"ogbench:visual-{name}-v0"
    main(["ogbench", "visual.npz", "my/visual-v0", "--recipe", "my-visual", "--environment", identity])  # fmt: skip
    recipe = load_recipe("my-visual", Path("datasets/recipes"))
    assert recipe.images is not None
    assert recipe.images.environment == Environment(id=identity)
    assert recipe.images.recorded == "infos.image"
    assert recipe.images.goal is not None
    assert recipe.images.goal.model_dump(exclude_defaults=True) == goal
    assert recipe.evaluation is not None
    assert recipe.evaluation.environment.id == f"ogbench:{name}-v0"
    assert recipe.evaluation.success == "environment"
    ingest(as_dataset(recipe), Path("minari"), Path("parquet"))
    size = sum(SIZES[name])
    assert open_episodes(Path("parquet")).observation.shape == (ROWS * EPISODES, size)
    made = make_environment(recipe.evaluation.environment)
    assert made.action_space.shape == (arrays(name)["actions"].shape[1],)
