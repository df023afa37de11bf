"""Images: states and goals are rendered without the marker of the desired goal, and stored without loss."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from conftest import RECIPES, as_dataset, made_once, small_recipe
from pydantic import ValidationError

from offline_gcrl.collect.collector import collect_source
from offline_gcrl.config import GoalImage, Images, Recipe, load_recipe
from offline_gcrl.config.outputs import FRAMES, STEPS
from offline_gcrl.environments import frames
from offline_gcrl.environments.frames import FrameRenderer, shared_renderer
from offline_gcrl.environments.making import can_render, make_environment
from offline_gcrl.episodes.dataset import open_episodes
from offline_gcrl.episodes.frames import iterate_frames
from offline_gcrl.episodes.ingest import ingest
from offline_gcrl.support.digests import read_json
from offline_gcrl.support.errors import DataError, RenderingError

pytestmark = pytest.mark.skipif(
    not can_render(), reason="no GL library (libegl1 or libosmesa6) to render images with"
)
PIXELS = "pointmaze-umaze-pixels"


def few_episodes() -> Recipe:
    """The recipe with a few short episodes and small images."""
    recipe = small_recipe(PIXELS, steps=30)
    assert recipe.images is not None
    return recipe.model_copy(
        update={"images": recipe.images.model_copy(update={"height": 32, "width": 32})}
    )


@pytest.fixture(scope="session")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Minari root and the ingested episodes of a few episodes with images."""

    def make(folder: Path) -> None:
        recipe = few_episodes()
        for source in recipe.sources:
            collect_source(recipe, source, folder / "minari", workers=1)
        (folder / "parquet").mkdir()
        ingest(as_dataset(recipe), folder / "minari", folder / "parquet")

    return made_once(tmp_path_factory, "pixels", make)


def renderer_of(name: str) -> tuple[Any, FrameRenderer]:
    """The evaluation environment of a recipe and its renderer."""
    recipe = load_recipe(name, RECIPES)
    assert recipe.evaluation is not None
    assert recipe.images is not None
    environment = make_environment(recipe.evaluation.environment)
    environment.reset(seed=0)
    return environment, FrameRenderer(environment, recipe.images)


def test_the_desired_goal_does_not_change_the_image_of_a_state() -> None:
    environment, renderer = renderer_of(PIXELS)
    environment.reset(seed=1)
    positions = environment.unwrapped.data.qpos.copy()
    seen = renderer.frame(positions)
    environment.reset(seed=2)  # Another desired goal.
    assert np.array_equal(renderer.frame(positions), seen)
    assert seen.shape == (64, 64, 3)
    assert not is_red(seen).any()


def is_red(image: Any) -> Any:
    """Pixels of the colour of the marker."""
    return (image[..., 0] > 150) & (image[..., 1] < 60)


def test_with_its_marker_the_goal_would_be_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "hide_markers", lambda model: None)
    _, renderer = renderer_of(PIXELS)
    assert is_red(renderer.current()).any()


def test_the_image_of_a_goal_is_that_of_the_state_that_achieves_it() -> None:
    environment, renderer = renderer_of(PIXELS)
    observation, _ = environment.reset(seed=1)
    start, goal = observation["achieved_goal"], observation["desired_goal"]
    image = renderer.goal(goal)
    assert np.array_equal(image, renderer.frame(goal))
    assert not np.array_equal(image, renderer.frame(start))
    assert np.array_equal(environment.unwrapped.data.qpos, start)


def test_an_arm_is_pulled_to_its_goal_for_the_image_of_the_goal() -> None:
    environment, renderer = renderer_of("fetch-reach-pixels")
    for seed in range(3):
        observation, _ = environment.reset(seed=seed)
        renderer.goal(observation["desired_goal"])
        reached = renderer.data.site("robot0:grip").xpos
        assert np.linalg.norm(reached - observation["desired_goal"]) < 0.01
        assert np.allclose(environment.unwrapped.data.site("robot0:grip").xpos, observation["achieved_goal"])  # fmt: skip


def test_images_are_stored_without_loss_in_the_order_of_the_steps(pixels: Path) -> None:
    recipe, folder = few_episodes(), pixels / "parquet"
    assert recipe.environment is not None
    assert recipe.images is not None
    stored = np.concatenate(list(iterate_frames(folder / FRAMES, recipe.images)))
    episodes = open_episodes(folder)
    assert len(stored) == episodes.rows == pl.scan_parquet(folder / STEPS).collect().height
    renderer = shared_renderer(
        recipe.environment.model_dump_json(), recipe.images.model_dump_json()
    )
    for row in (0, 30, 31, len(stored) - 1):  # Positions are the achieved goals of this maze.
        image = renderer.frame(episodes.achieved_goal[row]).reshape(-1).astype(int)
        # Positions are stored with fewer digits, so that a few pixels differ by rounding.
        assert np.abs(image - stored[row]).max() <= 3
    assert (folder / FRAMES).stat().st_size < stored.nbytes / 10


def test_the_schema_names_the_images_and_only_where_there_are_any(
    pixels: Path, dataset: Any
) -> None:
    recipe = few_episodes()
    assert recipe.images is not None
    assert read_json(pixels / "parquet/schema.json")["images"]["height"] == recipe.images.height
    assert "images" not in read_json(dataset.parquet / "schema.json")
    assert not (dataset.parquet / FRAMES).exists()


def test_data_without_positions_of_the_simulator_has_no_images(
    pixels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("offline_gcrl.episodes.frames.POSITIONS", "joints")
    with pytest.raises(DataError, match=r"has no info 'joints'.*leave 'images' out"):
        ingest(as_dataset(few_episodes()), pixels / "minari", tmp_path)


def test_without_a_gl_library_the_error_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "disabled")
    with pytest.raises(RenderingError, match="install libegl1"):
        renderer_of(PIXELS)


def test_a_goal_image_is_made_in_one_way() -> None:
    for given in ({}, {"qpos": (0, 1), "site": "grip"}):
        with pytest.raises(ValidationError, match="either 'qpos' or 'site'"):
            GoalImage(**given)
    assert Images(goal=GoalImage(qpos=(0, 1))).shape == (64, 64, 3)
