"""Recorded images: arrays of bytes in Minari data, and PNG files in LeRobot's format, become frames as they are."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import minari
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import as_dataset, episode_buffers, space_of, write_minari
from gymnasium import spaces
from PIL import Image
from pydantic import ValidationError

from offline_gcrl.agents import settings_type
from offline_gcrl.commands.lerobot import main as export
from offline_gcrl.config import Recipe, Relabel, Train, load_recipe
from offline_gcrl.config.outputs import FRAMES, POLICY, STEPS
from offline_gcrl.convert.__main__ import main as convert
from offline_gcrl.convert.lerobot import DATA_PATH, EPISODES_PATH, INFO, STATS, check_format
from offline_gcrl.convert.lerobot_images import CELL
from offline_gcrl.episodes.ingest import ingest
from offline_gcrl.episodes.stored_frames import iterate_frames
from offline_gcrl.hindsight.relabel import relabel
from offline_gcrl.library.lerobot import QUANTILES
from offline_gcrl.library.lerobot_images import as_png
from offline_gcrl.policies.policy import load_policy
from offline_gcrl.support.errors import DataError, PolicyError
from offline_gcrl.training.jobs import TrainingJob
from offline_gcrl.training.module import train_seed

HEIGHT, WIDTH = 32, 40
ROOT = Path("minari")
DATA = DATA_PATH.format(chunk_index=0, file_index=0)


def recipe_of(key: str, dataset: str = "my/camera-v0", **changed: Any) -> Recipe:
    content: dict[str, Any] = {
        "title": "A camera",
        "sources": [{"dataset": dataset, "kind": "exploration"}],
        "images": {"recorded": key, "height": HEIGHT, "width": WIDTH},
        "goal": {
            "achieved": {"key": "observation", "columns": [0, 1]},
            "desired": None,
            "success": {"kind": "distance", "tolerance": 0.1},
        },
        "task": "camera",
        "instruction": "Reach the picture.",
    }
    return Recipe.model_validate_json(json.dumps({**content, **changed}))


def pictures(episode: int, height: int = HEIGHT) -> np.ndarray:
    """Random images of the states of an episode of five transitions."""
    random = np.random.default_rng(episode)
    return random.integers(0, 256, (6, height, WIDTH, 3), dtype=np.uint8)


def write_infos(dataset: str, images: list[Any]) -> None:
    """Three episodes with vectors as observations, and with images among the infos."""
    pairs = zip(episode_buffers(4), images, strict=True)
    episodes = [replace(episode, infos={"camera": {"top": each}}) for episode, each in pairs]
    write_minari(dataset, ROOT, episodes, space_of(4))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder with a dataset of recorded images."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    for name in ("minari", "datasets/recipes", "parquet", "again"):
        Path(name).mkdir(parents=True)
    write_infos("my/camera-v0", [pictures(episode) for episode in range(3)])
    return tmp_path


def frames_of(folder: str, recipe: Recipe) -> np.ndarray:
    assert recipe.images is not None
    parts = iterate_frames(Path(folder) / FRAMES, recipe.images)
    return np.concatenate(list(parts)).reshape(-1, *recipe.images.shape)


def test_recorded_images_are_stored_as_they_are_without_an_environment(project: Path) -> None:
    recipe = recipe_of("infos.camera.top")
    steps: list[int] = []
    ingest(as_dataset(recipe), ROOT, Path("parquet"), on_frames=steps.append)
    assert np.array_equal(frames_of("parquet", recipe), np.concatenate([*map(pictures, range(3))]))
    assert pl.read_parquet("parquet/" + STEPS).height == 18
    assert steps == [5, 5, 5]
    assert recipe.environment is None


def test_images_among_the_observations_are_read_as_minari_decodes_them(project: Path) -> None:
    episodes = episode_buffers({"hand": 4})
    for number, episode in enumerate(episodes):
        episode.observations["pixels"] = pictures(number)
    image = spaces.Box(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    space = spaces.Dict({"hand": space_of(4), "pixels": image})
    write_minari("my/pixels-v0", ROOT, episodes, space)
    goal = {"observation": "hand", "desired": None, "achieved": {"key": "hand", "columns": [0, 1]}}
    goal |= {"success": {"kind": "distance", "tolerance": 0.1}}
    recipe = recipe_of("pixels", "my/pixels-v0", goal=goal)
    ingest(as_dataset(recipe), ROOT, Path("parquet"))
    data = minari.MinariDataset(ROOT / "my/pixels-v0/data")
    expected = [episode.observations["pixels"] for episode in data.iterate_episodes()]
    assert np.array_equal(frames_of("parquet", recipe), np.concatenate(expected))


def test_the_tasks_of_a_suite_have_their_images_one_after_the_other(project: Path) -> None:
    write_infos("my/other-v0", [pictures(episode) for episode in (7, 8, 9)])
    other = recipe_of("infos.camera.top", "my/other-v0", task="other")
    ingest(as_dataset(recipe_of("infos.camera.top"), other), ROOT, Path("parquet"))
    expected = np.concatenate([pictures(episode) for episode in (0, 1, 2, 7, 8, 9)])
    assert np.array_equal(frames_of("parquet", other), expected)


WRONG: dict[str, tuple[str, Callable[[int], Any], str]] = {
    "no such key": (
        "infos.camera.tip",
        pictures,
        r"episode 0: no observation key 'infos.camera.tip'.*infos.camera.top.*images.recorded of the recipe",
    ),
    "a group": ("infos.camera", pictures, "'infos.camera' is a group of arrays, expected images"),
    "a vector": ("observation", pictures, r"'observation' is float32 of shape \(6, 4\)"),
    "numbers with a point": (
        "infos.camera.top",
        lambda episode: pictures(episode) / 255,
        r"float64 of shape \(6, 32, 40, 3\), expected images of bytes, uint8 of shape \(6, 32, 40, 3\)",
    ),
    "another size": (
        "infos.camera.top",
        lambda episode: pictures(episode, height=48),
        "48 x 40 pixels with 3 channels, and the recipe expects 32 x 40 with 3; set images.height",
    ),
    "no image of the last state": (
        "infos.camera.top",
        lambda episode: pictures(episode)[:5],
        "has 5 images, expected 6, one for each state",
    ),
    "another size in a later episode": (
        "infos.camera.top",
        lambda episode: pictures(episode, height=HEIGHT + episode // 2),
        "'my/wrong-v0', episode 2: the images of 'infos.camera.top' have 33 x 40 pixels",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_images_that_do_not_fit_end_in_an_error_that_names_episode_key_and_remedy(
    name: str, project: Path
) -> None:
    key, images, message = WRONG[name]
    write_infos("my/wrong-v0", [images(episode) for episode in range(3)])
    with pytest.raises(DataError, match=message):
        ingest(as_dataset(recipe_of(key, "my/wrong-v0")), ROOT, Path("parquet"))
    if "later" not in name:
        assert not list(Path("parquet").iterdir())


def test_images_are_recorded_or_rendered_and_recorded_ones_are_not_evaluated() -> None:
    recorded = {"recorded": "pixels"}
    environment = {"id": "FetchReach-v4"}
    evaluation = {"environment": environment, "desired": "desired_goal"}
    for changed, words in (
        ({"images": {}}, "set 'goal'.*or 'recorded'"),
        ({"images": {**recorded, "goal": {"qpos": [0]}}}, "are not rendered"),
        ({"images": {**recorded, "camera": {"distance": 1.0}}}, "are not rendered"),
        ({"images": {"goal": {"qpos": [0]}}}, "set 'images.recorded' to their key"),
        ({"images": recorded, "evaluation": evaluation}, "set 'evaluation: null'"),
    ):
        with pytest.raises(ValidationError, match=words):
            recipe_of("pixels", **changed)


def test_an_agent_learns_from_recorded_images_and_is_not_evaluated(project: Path) -> None:
    dataset = as_dataset(recipe_of("infos.camera.top"))
    ingest(dataset, ROOT, Path("parquet"))
    Path("hindsight").mkdir()
    relabel(Path("parquet"), Path("hindsight"), Relabel(k=2), dataset.recipes[0].goal)
    content = {"algorithm": "bc", "hidden": [16], "actor_goals": {"geometric": 1.0}}
    job = TrainingJob(
        dataset="small",
        agent="bc",
        seed=0,
        episodes=Path("parquet"),
        hindsight=Path("hindsight"),
        train=Train(updates=2, batch_size=4, snapshots=1),
        settings=settings_type("bc").model_validate_json(json.dumps(content)),
        checkpoints=Path("checkpoints/one"),
        output=Path("models"),
        arrays=Path("arrays"),
    )
    train_seed(job, lambda event: None)
    policy = load_policy(job.output / POLICY)
    state, goal = pictures(0)[0], pictures(1)[3]
    assert policy.act(state, goal).shape == (2,)
    assert not np.array_equal(policy.act(state, goal), policy.act(state, pictures(2)[3]))
    with pytest.raises(PolicyError, match=r"image of shape \(32, 40, 3\)"):
        policy.act(state[:20], goal)
    assert not dataset.has_evaluation


@pytest.fixture
def robot(project: Path) -> Path:
    """An export of the dataset to LeRobot's format."""
    ingest(as_dataset(recipe_of("infos.camera.top")), ROOT, Path("parquet"))
    export(["parquet", "robot", "--last-states"])
    return Path("robot")


def test_an_export_has_png_images_that_follow_the_rules_of_the_format(robot: Path) -> None:
    info = check_format(robot)
    names = ["height", "width", "channels"]
    expected = {"dtype": "image", "shape": [HEIGHT, WIDTH, 3], "names": names}
    assert info["features"]["observation.image"] == expected
    cells = pq.read_table(robot / DATA)["observation.image"]
    assert cells.type == CELL
    assert cells[7].as_py()["path"] == "frame-000001.png"
    decoded = [np.asarray(Image.open(io.BytesIO(each["bytes"]))) for each in cells.to_pylist()]
    assert np.array_equal(decoded, np.concatenate([*map(pictures, range(3))]))


def test_statistics_of_images_are_those_of_all_pixels_of_each_channel(robot: Path) -> None:
    everything = np.concatenate([*map(pictures, range(3))])
    found = json.loads((robot / STATS).read_text())["observation.image"]
    listed = pq.read_table(robot / EPISODES_PATH.format(chunk_index=0, file_index=0))
    of_second = {
        name.split("/")[-1]: listed[name][1].as_py()
        for name in listed.column_names
        if name.startswith("stats/observation.image/")
    }
    for statistics, images in ((found, everything), (of_second, pictures(1))):
        pixels = images.reshape(-1, 3) / 255.0
        expected = {"mean": pixels.mean(0), "std": pixels.std(0), "max": pixels.max(0)}
        expected |= {f"q{q:02d}": np.quantile(pixels, q / 100, axis=0) for q in QUANTILES}
        for name, values in expected.items():
            assert np.allclose(statistics[name], values.reshape(3, 1, 1)), name
        assert statistics["count"] == [len(images)]


def test_without_last_states_their_images_are_left_out_too(project: Path) -> None:
    ingest(as_dataset(recipe_of("infos.camera.top")), ROOT, Path("parquet"))
    export(["parquet", "robot"])
    cells = pq.read_table(Path("robot") / DATA)["observation.image"].to_pylist()
    decoded = [np.asarray(Image.open(io.BytesIO(each["bytes"]))) for each in cells]
    assert np.array_equal(decoded, np.concatenate([pictures(n)[:5] for n in range(3)]))


def test_export_and_import_give_equal_images(robot: Path) -> None:
    goal = ["--goal-columns", "0", "1", "--tolerance", "0.1"]
    convert(["lerobot", "robot", "my/back-v0", "--recipe", "my-back", *goal])
    recipe = load_recipe("my-back", Path("datasets/recipes"))
    assert recipe.images is not None
    assert recipe.images.recorded == "infos.observation.image"
    ingest(as_dataset(recipe), ROOT, Path("again"))
    assert (Path("again") / FRAMES).read_bytes() == (Path("parquet") / FRAMES).read_bytes()
    names = ["observation", "action", "achieved_goal"]
    ours, theirs = (pl.read_parquet(f"{folder}/{STEPS}") for folder in ("parquet", "again"))
    assert ours.select(names).equals(theirs.select(names))


def add_feature(folder: Path, name: str, kind: str, cells: list[Any] | None = None) -> None:
    """Add a feature of images to a LeRobot dataset, or set it to other ones."""
    info = json.loads((folder / INFO).read_text())
    info["features"][name] = {"dtype": kind, "shape": [HEIGHT, WIDTH, 3], "names": None}
    (folder / INFO).write_text(json.dumps(info))
    table = pq.read_table(folder / DATA)
    if cells is not None:
        kept = table.drop_columns([name] if name in table.column_names else [])
        pq.write_table(kept.append_column(pa.field(name, CELL), pa.array(cells, CELL)), folder / DATA)  # fmt: skip


def cells_of(images: np.ndarray) -> list[dict[str, Any]]:
    return [{"bytes": as_png(image), "path": None} for image in images]


def shown_by(
    capsys: pytest.CaptureFixture[str], *options: str, fails: bool = True, layout: str = "lerobot"
) -> str:
    capsys.readouterr()
    arguments = [layout, "robot", "my/back-v0", "--recipe", "my-back", "--replace", *options]
    if fails:
        with pytest.raises(SystemExit):
            convert(arguments)
        assert not (ROOT / "my/back-v0").exists()
    else:
        convert(arguments)
    shown = capsys.readouterr()
    return " ".join((shown.out + shown.err).split())


def test_one_of_several_images_is_chosen_by_name(
    robot: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrist = np.concatenate([pictures(episode)[:, ::-1] for episode in range(3)])
    add_feature(robot, "observation.images.wrist", "image", cells_of(wrist))
    add_feature(robot, "observation.images.film", "video")
    both = "its images are observation.image, observation.images.wrist"
    assert f"{both}, and a policy sees one of them" in shown_by(capsys)
    assert f"no such feature in robot; {both}" in shown_by(capsys, "--image", "top")
    film = shown_by(capsys, "--image", "observation.images.film")
    assert "is a video of robot; videos are not decoded" in film
    assert "use_videos=False" in film
    assert "apply to LeRobot datasets" in shown_by(capsys, "--image", "top", layout="d4rl")
    shown = shown_by(capsys, "--image", "observation.images.wrist", fails=False)
    assert "'observation.image' is left out: --image observation.image reads it" in shown
    assert "'observation.images.film' is left out: videos are not decoded" in shown
    recipe = load_recipe("my-back", Path("datasets/recipes"))
    ingest(as_dataset(recipe), ROOT, Path("again"))
    assert np.array_equal(frames_of("again", recipe), wrist)


def test_without_images_a_dataset_has_vectors_alone(
    robot: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = shown_by(capsys, "--image", "none", fails=False)
    assert "'observation.image' is left out" in shown
    assert load_recipe("my-back", Path("datasets/recipes")).images is None


def test_with_recorded_images_the_recipe_has_an_environment_and_no_evaluation(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    states = {"achieved": "observation", "desired": None, "success": {"kind": "same_step"}}
    recipe = recipe_of("infos.camera.top", goal=states)
    ingest(as_dataset(recipe), ROOT, Path("parquet"))
    export(["parquet", "robot", "--last-states"])
    maze = ("--environment", "PointMaze_UMaze-v3", "--goal-columns", "0", "1", "--tolerance", "0.4")
    shown = shown_by(capsys, *maze, fails=False)
    assert "the recipe has no evaluation, because the camera of the recorded images" in shown
    recipe = load_recipe("my-back", Path("datasets/recipes"))
    assert recipe.environment is not None
    assert recipe.evaluation is None


def grey() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pictures(0)[0][..., 0]).save(buffer, format="PNG")
    return buffer.getvalue()


BROKEN: dict[str, tuple[Callable[[bytes], bytes | None], str]] = {
    "cut off": (lambda content: content[: len(content) // 2], "is not a complete PNG image"),
    "another format": (lambda content: b"GIF89a" + content, "is not a complete PNG image"),
    "no bytes": (lambda content: None, "has no bytes of an image"),
    "grey": (lambda content: grey(), "has the mode L"),
    "another size": (
        lambda content: as_png(pictures(0, height=48)[0]),
        "has 48 x 40 pixels, and frame 0 has 32 x 40; --image-size",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_an_image_that_cannot_be_read_is_named_and_nothing_is_written(
    name: str, robot: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage, message = BROKEN[name]
    cells = pq.read_table(robot / DATA)["observation.image"].to_pylist()
    cells[9]["bytes"] = damage(cells[9]["bytes"])
    add_feature(robot, "observation.image", "image", cells)
    shown = shown_by(capsys)
    assert "the image 'observation.image' of frame 9" in shown
    assert message in shown


def test_images_are_scaled_to_a_size(robot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    even = np.full((18, 64, 96, 3), 7, np.uint8)
    even[:, :32] = 201
    add_feature(robot, "observation.image", "image", cells_of(even))
    assert "at least 32 pixels" in shown_by(capsys, "--image-size", "16", "64")
    shown_by(capsys, "--image-size", "32", "48", fails=False)
    recipe = load_recipe("my-back", Path("datasets/recipes"))
    ingest(as_dataset(recipe), ROOT, Path("again"))
    assert np.array_equal(frames_of("again", recipe), even[:, ::2, ::2])


def test_a_column_of_another_type_breaks_the_rule_of_images(robot: Path) -> None:
    info = json.loads((robot / INFO).read_text())
    info["features"]["action"] = {"dtype": "image", "shape": [HEIGHT, WIDTH, 3], "names": None}
    (robot / INFO).write_text(json.dumps(info))
    with pytest.raises(DataError, match="the image 'action' must be a column of structs"):
        check_format(robot)
