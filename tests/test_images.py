"""Images: states and goals are rendered without the marker of the desired goal, and stored without loss."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from conftest import RECIPES, as_dataset, made_once, small_recipe
from pydantic import ValidationError

from offline_gcrl.agents import make_agent, settings_type
from offline_gcrl.collect.collector import collect_source
from offline_gcrl.config import (
    Evaluate,
    GoalImage,
    Images,
    Language,
    Recipe,
    Relabel,
    Train,
    Video,
    algorithm_names,
    load_recipe,
)
from offline_gcrl.config.outputs import EMBEDDING, FRAMES, POLICY, STEPS, TABLE
from offline_gcrl.environments import frames
from offline_gcrl.environments.frames import FrameRenderer, shared_renderer
from offline_gcrl.environments.making import can_render, make_environment
from offline_gcrl.episodes.dataset import open_episodes, open_stored
from offline_gcrl.episodes.ingest import ingest
from offline_gcrl.episodes.stored_frames import iterate_frames
from offline_gcrl.evaluation.goal_images import put_in_corner, with_goals
from offline_gcrl.evaluation.jobs import FINAL, episode_jobs
from offline_gcrl.evaluation.rollouts import run_episode
from offline_gcrl.evaluation.videos import write_rollouts
from offline_gcrl.goals.instructions import Sentences
from offline_gcrl.hindsight.embedding import Embedding
from offline_gcrl.hindsight.relabel import relabel
from offline_gcrl.networks.encoders import ImageEncoding
from offline_gcrl.policies.instructions import Vocabulary
from offline_gcrl.policies.policy import Policy, load_policy, save_policy
from offline_gcrl.policies.seeing import Inputs
from offline_gcrl.support.digests import read_json
from offline_gcrl.support.errors import DataError, PolicyError, RenderingError, SettingsError
from offline_gcrl.training.batches.data import DeviceData
from offline_gcrl.training.batches.sampler import BatchSampler
from offline_gcrl.training.batches.seen import Seen, shifted
from offline_gcrl.training.batches.storage import Mapped
from offline_gcrl.training.jobs import TrainingJob
from offline_gcrl.training.module import train_seed
from offline_gcrl.training.placement import placement
from offline_gcrl.training.updates import PlainUpdater

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
    """The Minari root, the ingested data and the hindsight goals of a few episodes with images."""

    def make(folder: Path) -> None:
        recipe = few_episodes()
        for source in recipe.sources:
            collect_source(recipe, source, folder / "minari", workers=1)
        for name in ("parquet", "hindsight"):
            (folder / name).mkdir()
        ingest(as_dataset(recipe), folder / "minari", folder / "parquet")
        relabel(folder / "parquet", folder / "hindsight", Relabel(k=2), recipe.goal)

    return made_once(tmp_path_factory, "pixels", make)


def test_a_program_without_a_main_guard_loads_images(tmp_path: Path) -> None:
    """States are rendered in processes, which must not run the program again."""
    content = few_episodes().model_dump(mode="json", exclude_defaults=True)
    (tmp_path / "small.yaml").write_text(json.dumps(content))
    lines = ["import offline_gcrl as og", "print(og.load_dataset('small.yaml', episodes=2).counts)"]
    (tmp_path / "program.py").write_text("\n".join(lines))
    answer = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stderr
    assert "'transitions': 60" in answer.stdout


@pytest.mark.parametrize(
    ("picture", "image", "shown"),
    [
        ((240, 240), (64, 64), (64, 64)),
        ((240, 240), (240, 240), (80, 80)),
        ((240, 240), (64, 300), (16, 75)),
        ((240, 240), (32, 128), (16, 64)),
        ((90, 90), (10, 10), (30, 30)),
    ],
)
def test_a_goal_image_fits_into_the_corner(
    picture: tuple[int, int], image: tuple[int, int], shown: tuple[int, int]
) -> None:
    whole = np.zeros((*picture, 3), np.uint8)
    put_in_corner(whole, np.full((*image, 3), 200, np.uint8))
    rows, columns = (whole[..., 0] == 200).any(1).sum(), (whole[..., 0] == 200).any(0).sum()
    assert (rows, columns) == shown


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


def test_positions_and_goals_of_other_sizes_are_errors() -> None:
    environment, renderer = renderer_of(PIXELS)
    with pytest.raises(DataError, match=r"positions of shape \(1,\), and the environment has 2"):
        renderer.frame([0.0])
    with pytest.raises(SettingsError, match=r"images.goal.qpos: .* goals have 3 numbers"):
        renderer.goal(environment, np.zeros(3))


def is_red(image: Any) -> Any:
    """Pixels of the colour of the marker."""
    return (image[..., 0] > 150) & (image[..., 1] < 60)


def test_with_its_marker_the_goal_would_be_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "hide_markers", lambda model: None)
    environment, renderer = renderer_of(PIXELS)
    assert is_red(renderer.current(environment)).any()


def test_the_image_of_a_goal_is_that_of_the_state_that_achieves_it() -> None:
    environment, renderer = renderer_of(PIXELS)
    observation, _ = environment.reset(seed=1)
    start, goal = observation["achieved_goal"], observation["desired_goal"]
    image = renderer.goal(environment, goal)
    assert np.array_equal(image, renderer.frame(goal))
    assert not np.array_equal(image, renderer.frame(start))
    assert np.array_equal(environment.unwrapped.data.qpos, start)


def test_an_arm_is_pulled_to_its_goal_for_the_image_of_the_goal() -> None:
    environment, renderer = renderer_of("fetch-reach-pixels")
    for seed in range(3):
        observation, _ = environment.reset(seed=seed)
        renderer.goal(environment, observation["desired_goal"])
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


SMALL = {"hidden": [16], "learning_rate": 1.0e-3}
HINDSIGHT = {
    "bc": {"actor_goals": {"geometric": 1.0}},
    "gofar": {"goals": {"geometric": 1.0}},
    "wgcsl": {"value_goals": {"future": 1.0}},
    "ddpg": {"goals": {"geometric": 1.0}},
}
"""Mixtures of agents whose default mixture has original goals, of which there are no images."""


def settings_of(algorithm: str, **own: Any) -> Any:
    content = {"algorithm": algorithm, **SMALL, **HINDSIGHT.get(algorithm, {}), **own}
    return settings_type(algorithm).model_validate_json(json.dumps(content))


def sampler_of(
    pixels: Path, settings: Any, batch_size: int = 4, storage: Any = None
) -> BatchSampler:
    data = DeviceData(open_stored(pixels / "parquet"), vision=settings.images, storage=storage)
    return BatchSampler(
        data, pixels / "hindsight", settings.batch_sampling, split="train", batch_size=batch_size, seed=0
    )  # fmt: skip


SEEING: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in algorithm_names()),
    ("bc", {"images": {"observation": "image+state", "fusion": "separate"}}),
    ("bc", {"images": {"observation": "state", "encoder": "impala_small"}}),
    ("bc", {"images": {"goal": "vector"}}),
    ("bc", {"conditioning": "none"}),
    ("bc", {"task_network": "film", "images": {"fusion": "shared"}}),
    ("gciql", {"images": {"fusion": "separate"}, "goal_encoder": "separate", "actor_loss": "ddpg+bc"}),
    ("gcivl", {"goal_encoder": "dual", "dual": {"size": 8}}),
    ("gcivl", {"images": {"encoder": "impala_small", "fusion": "shared", "random_crop": 1.0}}),
]  # fmt: skip


@pytest.mark.parametrize(("algorithm", "own"), SEEING)
def test_every_agent_learns_from_images_and_acts_on_them(
    pixels: Path, tmp_path: Path, algorithm: str, own: dict[str, Any]
) -> None:
    settings = settings_of(algorithm, **own)
    sampler = sampler_of(pixels, settings)
    dimensions = sampler.data.dimensions
    torch.manual_seed(0)
    agent = make_agent(settings, dimensions)
    before = [weight.clone() for weight in agent.actor.parameters()]
    optimizer = torch.optim.Adam(agent.parameter_groups())
    PlainUpdater(agent, agent.loss, optimizer).run(sampler.batches(0, 2), 0, 2)
    assert all(weight.isfinite().all() for weight in agent.parameters())
    changed = [
        not torch.equal(*pair) for pair in zip(before, agent.actor.parameters(), strict=True)
    ]
    assert any(changed)

    of_training = {"dataset": "small", "agent": algorithm, "seed": 0, "updates": 2}
    scaling, path = sampler.data.scaling, tmp_path / "policy.pt"
    save_policy(path, agent, algorithm, settings, scaling, dimensions, ("maze",), of_training, with_value=True)  # fmt: skip
    policy = load_policy(path)
    observation, goal = given_of(policy)
    action = policy.act(observation, goal)
    assert action.shape == (2,)
    assert np.isfinite(action).all()
    if policy.agent is not None:
        assert np.isfinite(policy.value(observation, goal, achieved_goal=goal))


def given_of(policy: Policy) -> tuple[Any, Any]:
    """An observation and a goal for a policy, of images where it sees."""
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    vision = policy.inputs.vision
    observation: Any = {"image": image, "state": np.zeros(4), "image+state": None}.get(vision.observation)  # fmt: skip
    if observation is None:
        observation = {"image": image, "state": np.zeros(4)}
    return observation, np.zeros(2) if vision.goal == "vector" else image


@pytest.mark.parametrize("conditioning", ["language", "goal+language"])
def test_a_policy_takes_an_image_a_state_and_a_sentence(
    pixels: Path, tmp_path: Path, conditioning: str
) -> None:
    sides = {
        "left": {"high": -0.2, "words": ["left"]},
        "right": {"low": 0.2, "words": ["right"]},
    }
    content = {"attributes": {"side": {"dimension": 0, "values": sides}}, "phrasings": ["go to the {side}"]}  # fmt: skip
    language = Language.model_validate_json(json.dumps(content))
    recipe = few_episodes().model_copy(update={"language": language})
    sentences = Sentences.of(as_dataset(recipe))
    relabel(pixels / "parquet", tmp_path, Relabel(k=2), recipe.goal, sentences=sentences)
    settings = settings_of(
        "bc", conditioning=conditioning, images={"observation": "image+state", "fusion": "separate"}
    )
    data = DeviceData(open_stored(pixels / "parquet"), vision=settings.images)
    sampler = BatchSampler(
        data, tmp_path, settings.batch_sampling, split="train", batch_size=4, seed=0
    )
    spoken = sampler.transitions.spoken
    assert spoken is not None
    dimensions = replace(data.dimensions, language=spoken.embeddings.shape[1])
    agent = make_agent(settings, dimensions)
    optimizer = torch.optim.Adam(agent.parameter_groups())
    PlainUpdater(agent, agent.loss, optimizer).run(sampler.batches(0, 1), 0, 1)
    vocabulary = Vocabulary(spoken.sentences, spoken.embeddings[:-1].numpy(), "words")
    path, of_training = tmp_path / "policy.pt", {"dataset": "small", "agent": "bc", "seed": 0, "updates": 1}  # fmt: skip
    save_policy(path, agent, "bc", settings, data.scaling, dimensions, ("maze",), of_training, vocabulary=vocabulary)  # fmt: skip
    policy = load_policy(path)
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    observation = {"image": image, "state": np.zeros(4)}
    to_the_left = policy.act(observation, instruction="go to the left")
    assert not np.array_equal(to_the_left, policy.act(observation, instruction="go to the right"))
    darker = {"image": image // 2, "state": np.zeros(4)}
    assert not np.array_equal(to_the_left, policy.act(darker, instruction="go to the left"))
    if conditioning == "goal+language":
        assert policy.act(observation, image).shape == (2,)


def test_hindsight_goals_are_the_images_of_the_rows_of_the_table(pixels: Path) -> None:
    settings = settings_of("gcivl")
    sampler = sampler_of(pixels, settings, batch_size=16)
    draw, batch = sampler.draw(3, 1), sampler.batches(3, 1)
    frames = sampler.data.observations
    assert isinstance(frames, Seen)
    for field, rows in (
        ("observations", draw.row),
        ("value_goals", draw.value_goal.row),
        ("actor_goals", draw.actor_goal.row),
    ):
        expected = frames.frames[rows[0]].float() / 255
        assert torch.equal(batch[field][0], expected), field


def test_labels_do_not_depend_on_whether_the_agent_sees(pixels: Path) -> None:
    seeing = sampler_of(pixels, settings_of("gcivl")).batches(0, 2)
    states = {"observation": "state", "goal": "vector"}
    reading = sampler_of(pixels, settings_of("gcivl", images=states)).batches(0, 2)
    assert seeing["observations"].shape == (2, 4, 32 * 32 * 3)
    assert reading["observations"].shape == (2, 4, 4)
    for field in ("rewards", "masks", "actions", "discounts"):
        assert torch.equal(seeing[field], reading[field])


def test_images_that_are_mapped_from_files_give_the_same_batches(
    pixels: Path, tmp_path: Path
) -> None:
    settings = settings_of("bc", images={"random_crop": 0.5, "observation": "image+state"})
    in_memory = sampler_of(pixels, settings).batches(0, 4)
    mapped = sampler_of(pixels, settings, storage=Mapped(tmp_path)).batches(0, 4)
    for field, values in in_memory.items():
        assert torch.equal(values, mapped[field])
    assert (tmp_path / "frames/frames").stat().st_size % (32 * 32 * 3) == 0


def test_a_crop_shifts_all_images_of_a_transition_alike_and_repeats_the_edges() -> None:
    image = torch.arange(4 * 5 * 3, dtype=torch.uint8)
    both = torch.stack([image, image])
    moved = shifted(both, (4, 5, 3), torch.tensor([[1, -2], [0, 0]])).view(2, 4, 5, 3)
    padded = np.pad(image.view(4, 5, 3).numpy(), ((0, 1), (2, 0), (0, 0)), mode="edge")
    assert np.array_equal(moved[0].numpy(), padded[1:, :5])
    assert torch.equal(moved[1].flatten(), image)


def test_whole_batches_are_cropped_with_the_given_probability(pixels: Path) -> None:
    sampler = sampler_of(pixels, settings_of("bc", images={"random_crop": 0.5}), batch_size=8)
    shifts = sampler.draw(0, 200).shifts
    assert shifts is not None
    is_cropped = (shifts != 0).flatten(1).any(1)
    assert 0.4 < is_cropped.float().mean() < 0.6
    assert shifts.abs().max() == 3
    assert sampler_of(pixels, settings_of("bc")).draw(0, 1).shifts is None


def test_the_control_sees_a_black_goal(pixels: Path) -> None:
    settings = settings_of("bc", images={"goal": "black"})
    sampler = sampler_of(pixels, settings)
    batch = sampler.batches(0, 1)
    assert not batch["actor_goals"].any()
    assert batch["observations"].any()
    torch.manual_seed(0)
    inputs = Inputs(sampler.data.scaling, sampler.data.dimensions, settings.images)
    assert not inputs.goal(np.full((32, 32, 3), 200, np.uint8)).any()


def test_impala_small_has_the_size_of_ogbench_s_encoder() -> None:
    encoder = ImageEncoding((64, 64, 3), "impala_small").network(images=2)
    # Flax's encoder of 6 channels: convolutions of 16, 32 and 32 channels with two more each, and 8 x 8 x 32 to 512.
    convolutions = [(6, 16), (16, 16), (16, 16), (16, 32), (32, 32), (32, 32), (32, 32)]
    convolutions += [(32, 32), (32, 32)]
    expected = sum(9 * inputs * outputs + outputs for inputs, outputs in convolutions)
    assert sum(map(torch.numel, encoder.parameters())) == expected + 8 * 8 * 32 * 512 + 512
    assert encoder(torch.rand(5, 64, 64, 6)).shape == (5, 512)


@pytest.mark.parametrize("kind", ["small", "impala_small"])
def test_images_stay_channels_last_in_memory_through_the_convolutions(kind: str) -> None:
    encoder = ImageEncoding((32, 32, 3), kind).network()
    outputs: list[torch.Tensor] = []
    for layer in encoder.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(lambda module, given, output: outputs.append(output))
    encoder(torch.rand(4, 32, 32, 3))
    assert all(output.is_contiguous(memory_format=torch.channels_last) for output in outputs)


def test_early_fusion_is_refused_where_the_goal_must_be_an_input_of_its_own() -> None:
    with pytest.raises(ValidationError, match="fusion: separate"):
        settings_of("bc", task_network="film", images={})
    assert settings_of("bc", task_network="film", images={"fusion": "shared"})


def test_a_seed_trains_from_images_and_is_evaluated_with_images_of_its_goals(
    pixels: Path, tmp_path: Path
) -> None:
    recipe, settings = few_episodes(), settings_of("bc")
    job = TrainingJob(
        dataset="small",
        agent="bc",
        seed=0,
        episodes=pixels / "parquet",
        hindsight=pixels / "hindsight",
        train=Train(updates=2, batch_size=4, snapshots=1),
        settings=settings,
        checkpoints=tmp_path / "checkpoints/one",
        output=tmp_path / "models",
        arrays=tmp_path / "arrays",
    )
    place = placement(job, processes=2)
    assert place.is_mapped
    assert not place.may_be_resident
    train_seed(job, lambda event: None)
    assert recipe.evaluation is not None
    environment = recipe.evaluation.environment
    short = environment.model_copy(
        update={"kwargs": {**environment.kwargs, "max_episode_steps": 3}}
    )
    evaluation = recipe.evaluation.model_copy(update={"environment": short})
    jobs = episode_jobs(
        job.output / POLICY,
        as_dataset(recipe.model_copy(update={"evaluation": evaluation})),
        Evaluate(episodes=2, curve_episodes=1),
        0,
        FINAL,
    )
    several = with_goals(jobs)
    assert {each.seed for each in several} == {jobs[0].seed}
    assert several[0].chosen_goal != several[1].chosen_goal
    write_rollouts(tmp_path / "film.mp4", several, Video(episodes=2, size=96))
    assert (tmp_path / "film.mp4").stat().st_size > 1000
    assert run_episode(several[1])["goal"] == list(several[1].chosen_goal or ())
    rows = [run_episode(each) for each in jobs]
    assert [row["length"] for row in rows] == [3, 3]
    assert rows == [run_episode(each) for each in jobs]  # A function of the seed alone.
    without = replace(jobs[0], images=None)
    with pytest.raises(PolicyError, match="recipe of this dataset has no 'images'"):
        run_episode(without)


def test_wrong_inputs_of_a_policy_that_sees_are_refused(pixels: Path) -> None:
    sampler = sampler_of(pixels, settings_of("bc", images={"observation": "image+state"}))
    vision = sampler.sampling.vision
    assert vision is not None
    inputs = Inputs(sampler.data.scaling, sampler.data.dimensions, vision)
    image = np.zeros((32, 32, 3), np.uint8)
    assert inputs.observation({"image": image, "state": np.zeros(4)}).shape == (32 * 32 * 3 + 4,)
    for given, words in (
        (image, r"pass \{'image'"),
        ({"image": image[:16], "state": np.zeros(4)}, r"image of shape \(32, 32, 3\)"),
        ({"image": image / 2, "state": np.zeros(4)}, "whole numbers from 0 to 255"),
        ({"image": image, "state": np.zeros(3)}, r"observations of shape \(4,\)"),
    ):
        with pytest.raises(PolicyError, match=words):
            inputs.observation(given)
    with pytest.raises(PolicyError, match="dict with the keys desired_goal"):
        inputs.goal({"desired_goal": np.zeros(2)})


def test_the_reward_of_images_is_minus_the_distance_of_their_embeddings(
    pixels: Path, tmp_path: Path
) -> None:
    recipe = few_episodes()
    relabel(pixels / "parquet", tmp_path, Relabel(k=1, reward="embedding"), recipe.goal)
    saved = np.load(tmp_path / EMBEDDING)
    assert recipe.images is not None
    images = np.concatenate(list(iterate_frames(pixels / "parquet" / FRAMES, recipe.images)))
    embedded = (images / 255.0 - saved["mean"]) @ saved["components"]
    assert embedded.shape == (len(images), 16)
    table = pl.read_parquet(tmp_path / TABLE)
    row, goal = (table[name].to_numpy().astype(int) for name in ("row", "geometric_goal_0"))
    expected = -np.linalg.norm(embedded[row + 1] - embedded[goal], axis=1)
    assert np.allclose(table["geometric_reward_0"].to_numpy(), expected, atol=1e-4)


def test_with_the_reward_of_images_success_still_ends_the_bootstrap(
    pixels: Path, tmp_path: Path
) -> None:
    relabel(pixels / "parquet", tmp_path, Relabel(k=1, reward="embedding"), few_episodes().goal)
    settings = settings_of("gcivl")
    data = DeviceData(open_stored(pixels / "parquet"), vision=settings.images)
    sampler = BatchSampler(
        data, tmp_path, settings.batch_sampling, split="train", batch_size=64, seed=0
    )
    batch, draw = sampler.batches(0, 1), sampler.draw(0, 1)
    following, goals = data.raw_goals[draw.row + 1], data.raw_goals[draw.value_goal.row]
    reached = (following - goals).norm(dim=-1) <= 0.45
    assert torch.equal(batch["masks"], 1.0 - reached.float())
    assert reached.any()
    assert not reached.all()
    assert (batch["rewards"] <= 0).all()


def test_the_embedding_orders_states_of_the_maze_by_distance(pixels: Path) -> None:
    recipe = few_episodes()
    assert recipe.images is not None
    images = np.concatenate(list(iterate_frames(pixels / "parquet" / FRAMES, recipe.images)))
    embedded = Embedding.learned(images)(images)
    positions = open_episodes(pixels / "parquet").achieved_goal
    pairs = np.random.default_rng(0).integers(len(images), size=(2, 500))
    apart = np.linalg.norm(positions[pairs[0]] - positions[pairs[1]], axis=1)
    different = np.linalg.norm(embedded[pairs[0]] - embedded[pairs[1]], axis=1)
    # Images say which states are near, and not how far others are: a ball elsewhere is just elsewhere.
    near, far = apart < 0.1, apart > 0.8
    assert different[near].mean() < 0.5 * different[far].mean()
    assert (embedded**2).sum(1).mean() == pytest.approx(1.0, rel=0.3)


def test_rewards_of_images_are_refused_without_images(dataset: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no images"):
        relabel(dataset.parquet, tmp_path, Relabel(reward="embedding"), dataset.recipe.goal)
