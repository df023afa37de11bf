"""The visual environments of OGBench: images of states and goals are those that the environments render themselves."""

import json
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from conftest import RECIPES
from pydantic import ValidationError

from offline_gcrl.config import Environment, GoalImage, Images, load_recipe
from offline_gcrl.environments.cameras import simulated
from offline_gcrl.environments.frames import shared_renderer
from offline_gcrl.environments.making import (
    can_render,
    check_environments,
    make_environment,
    seeded_episode,
)
from offline_gcrl.environments.twins import RENDERERS, TwinRenderer
from offline_gcrl.support.errors import DataError, SettingsError

pytestmark = [
    pytest.mark.skipif(find_spec("ogbench") is None, reason="the extra 'ogbench' is not installed"),
    pytest.mark.skipif(not can_render(), reason="no GL library to render images with"),
]
CUBE, SCENE, PUZZLE = (
    f"ogbench-visual-{name}-play" for name in ("cube-single", "scene", "puzzle-3x3")
)
ONE_STEP = 0.5
"""Mean difference of pixels, of 255, between a state and the state one step of the simulator, 2 ms, before."""


def started(identity: str) -> tuple[Any, Any, dict[str, Any]]:
    """An environment with its first observation and infos, from the same seed and task."""
    made = make_environment(Environment(id=identity))
    with seeded_episode(made, 3):
        return made, *made.reset(seed=3, options={"task_id": 2})


def close(visual: Any) -> None:
    for name in RENDERERS:
        if getattr(visual.unwrapped, name, None) is not None:
            getattr(visual.unwrapped, name).close()


def difference(one: Any, other: Any) -> float:
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


@pytest.fixture
def small_shadows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shadows of all arms are computed on smaller maps, which takes half of the time."""
    from ogbench.manipspace.envs.env import CustomMuJoCoEnv

    compiled = CustomMuJoCoEnv.compile_model_and_data

    def smaller(arm: Any) -> None:
        compiled(arm)
        arm.model.vis.quality.shadowsize = 256

    monkeypatch.setattr(CustomMuJoCoEnv, "compile_model_and_data", smaller)
    shared_renderer.cache_clear()


@pytest.mark.parametrize("name", [PUZZLE, *(pytest.param(each, marks=pytest.mark.slow) for each in (CUBE, SCENE))])  # fmt: skip
def test_images_of_states_and_goals_are_those_of_the_visual_environment(
    name: str, small_shadows: None
) -> None:
    recipe = load_recipe(name, RECIPES)
    assert recipe.evaluation is not None
    assert recipe.images is not None
    settings = recipe.evaluation.environment
    environment, _, info = started(settings.id)
    visual, image, visual_info = started(settings.id.replace(":", ":visual-"))
    renderer = shared_renderer(settings.model_dump_json(), recipe.images.model_dump_json())
    assert isinstance(renderer, TwinRenderer)
    positions = simulated(environment).data.qpos.copy()  # type: ignore[union-attr]

    assert image.shape == recipe.images.shape
    assert np.array_equal(renderer.current(environment), image)
    goal = renderer.goal(environment, info["goal"])
    # OGBench shows a cube as it was one step of the simulator earlier.
    largest = ONE_STEP if name == CUBE else 0.0
    assert difference(goal, visual_info["goal"]) <= largest
    assert difference(goal, image) > 2 * ONE_STEP
    assert np.array_equal(simulated(environment).data.qpos, positions)  # type: ignore[union-attr]

    for number in range(2):
        action = np.random.default_rng(number).uniform(-1, 1, 5)
        environment.step(action)
        image = visual.step(action)[0]
    assert difference(renderer.current(environment), image) <= largest
    with pytest.raises(DataError, match="a state has 3 numbers, and ogbench:visual-"):
        renderer.frame(positions[:3])
    close(visual)


def test_images_of_an_ant_and_of_its_goal_are_those_of_the_visual_maze() -> None:
    identity = "ogbench:visual-antmaze-medium-v0"
    environment, _, info = started("ogbench:antmaze-medium-v0")
    visual, image, visual_info = started(identity)
    goal = GoalImage(qpos=tuple(range(15)))
    renderer = TwinRenderer(Images(environment=Environment(id=identity), goal=goal))
    assert np.array_equal(renderer.current(environment), image)
    assert np.array_equal(renderer.goal(environment, info["goal"]), visual_info["goal"])
    assert not np.array_equal(image, visual_info["goal"])
    renderer.close()
    close(visual)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ({"environment": {"id": "ogbench:visual-puzzle-3x3-v0"}}, r"images.state: 'set_state' of .* takes button_states .* write \[button_states\]"),
        ({"environment": {"id": "ogbench:visual-puzle-v0"}, "state": ["button_states"]}, "images.environment.id: no environment .* did you mean"),
        ({"environment": {"id": "CartPole-v1"}}, "images.environment.id: CartPole-v1 has no 'set_state'"),
    ],
)  # fmt: skip
def test_an_environment_that_cannot_be_set_to_the_states_is_refused(
    images: dict[str, Any], message: str
) -> None:
    recipe = load_recipe(PUZZLE, RECIPES)
    wrong = Images.model_validate_json(json.dumps({**images, "goal": {"reset": True}}))
    with pytest.raises(SettingsError, match=message):
        check_environments(recipe.model_copy(update={"images": wrong}), "recipe")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"camera": {"distance": 1.0}}, "renders with its own camera"),
        ({"goal": None}, "set 'goal'"),
        ({"environment": None}, "for states that another environment renders"),
    ],
)
def test_settings_of_an_environment_that_renders_fit_together(
    changed: dict[str, Any], words: str
) -> None:
    given = {"environment": {"id": "ogbench:visual-cube-single-v0"}, "goal": {"reset": True}}
    assert Images.model_validate(given).environment
    with pytest.raises(ValidationError, match=words):
        Images.model_validate({**given, **changed})
