"""Rollout videos: episodes of a policy in a grid, with their goals and whether they were reached.

In mazes, a circle shows where the goal counts as reached. The video of episodes with a planner shows the plan too: the
subgoals of the path, and the current one.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from offline_gcrl.config import Success, Video
from offline_gcrl.config.outputs import (
    GOAL_IMAGE_ROLLOUTS,
    INSTRUCTED_ROLLOUTS,
    PLANNED_ROLLOUTS,
    ROLLOUTS,
)
from offline_gcrl.environments.cameras import as_pixels, prepare, shows_goal
from offline_gcrl.environments.making import (
    can_render,
    make_environment,
    seeded_episode,
    without_collection,
)
from offline_gcrl.evaluation.goal_images import goal_image, put_in_corner, with_goals
from offline_gcrl.evaluation.instructed import different_sentences
from offline_gcrl.evaluation.jobs import FINAL, EpisodeJob, Instructed
from offline_gcrl.evaluation.plan import EvaluationPlan
from offline_gcrl.evaluation.planner import Plan
from offline_gcrl.evaluation.probes import ProbePlan
from offline_gcrl.evaluation.rollouts import RolloutStep, rollout
from offline_gcrl.figures.scenes import maze_walls
from offline_gcrl.policies.policy import Policy, load_policy
from offline_gcrl.support.processes import balanced_workers, ordered_map

FRAMES_PER_SECOND = 25
MAX_FRAMES = 100  # Longer episodes are subsampled to this number of frames.
BORDER = 5  # Pixels.
RUNNING, REACHED, FAILED = (120, 120, 120), (0, 158, 115), (213, 94, 0)  # Okabe and Ito's colours.
PAPER, INK = (255, 255, 255), (34, 34, 34)
PATH, CURRENT = (86, 180, 233), (240, 228, 66)  # A path of subgoals, and the current one.
SMOOTHING = 4
CIRCLE_POINTS = 72
EVEN = 2  # Frames of H.264 have even sizes; other sizes are scaled.
STRIP, LETTERS = 24, 15  # Height of a line of text and of its letters, in pixels.
GOAL_NUMBERS_SHOWN = 4
LAST_FRAME_REPEATS = 20  # How often the last frame is repeated before the video ends.
Frame = NDArray[np.uint8]
Colour = tuple[int, int, int]


class PlannedVideo(NamedTuple):
    """A video to make."""

    path: Path
    jobs: list[EpisodeJob]
    settings: Video


def plan_videos(
    plan: EvaluationPlan, probes: ProbePlan, settings: Video, output: Path
) -> list[PlannedVideo]:
    """The videos of every seed.

    ``rollouts.mp4`` has its first episodes, ``planned.mp4`` the same with a planner, and ``instructed.mp4`` several
    sentences from one start, for policies of sentences. ``goal_images.mp4`` has several goals from one start, for policies
    that see.

    Args:
        plan: episodes of the main evaluation.
        probes: episodes of the probes, among them those with a planner.
        settings: number of episodes and size; no video is planned for 0 episodes.
        output: folder with ``seed-<n>`` for each seed.
    """
    final = [(seed, ROLLOUTS, jobs) for (seed, purpose), jobs in plan.items() if purpose == FINAL]
    planned = [
        (probe.seed, PLANNED_ROLLOUTS, jobs)
        for probe, jobs in probes.items()
        if probe.kind == "planned"
    ]
    spoken = [
        (probe.seed, INSTRUCTED_ROLLOUTS, with_sentences(jobs[0], settings.episodes))
        for probe, jobs in probes.items()
        if probe.kind == "instructed" and jobs[0].instructed == Instructed()
    ]
    seen = [
        (seed, GOAL_IMAGE_ROLLOUTS, with_goals(jobs[: settings.episodes]))
        for seed, _, jobs in final
    ]
    return [
        PlannedVideo(output / f"seed-{seed}" / name, jobs[: settings.episodes], settings)
        for seed, name, jobs in [*final, *planned, *spoken, *seen]
        if settings.episodes and jobs
    ]


def with_sentences(job: EpisodeJob, count: int) -> list[EpisodeJob]:
    """One episode with different sentences, from the same start; none for policies that take no such sentences."""
    texts = different_sentences(load_policy(job.policy), count)
    return [replace(job, instructed=Instructed(text=text)) for text in texts]


def write_videos(
    videos: Sequence[PlannedVideo], on_video: Callable[[], None] = lambda: None
) -> str | None:
    """Render the episodes of each video.

    Returns:
        The reason why videos are missing; None if all were made.
    """
    if not videos:
        return "evaluate.video.episodes is 0"
    if not can_render():
        return "no GL library found; install libegl1 or libosmesa6 for videos"
    errors = []
    for error in ordered_map(_try_write, videos, balanced_workers(len(videos))):
        errors.append(error)
        on_video()
    return next(filter(None, errors), None)


def _try_write(video: PlannedVideo) -> str | None:
    """Write a video, or return why that failed: an installed GL library may not work, which must not fail the stage."""
    try:
        write_rollouts(*video)
    except Exception as error:
        video.path.unlink(missing_ok=True)
        return f"rendering failed ({type(error).__name__}: {error})"
    return None


def write_rollouts(path: Path, jobs: list[EpisodeJob], settings: Video) -> None:
    """Run the episodes again with a camera, and write them as MP4: in a grid below a heading, which fits a phone."""
    policy = load_policy(jobs[0].policy)
    episodes = [_rendered_episode(job, policy, settings) for job in jobs]
    title = _title(policy) + (", with planner" if jobs[0].planning else "")
    columns = math.ceil(math.sqrt(len(jobs)))
    heading = _strip(settings.size * columns, title, PAPER, INK)
    height, width = _grid([frames[0] for frames in episodes], columns).shape[:2]
    options = {"fps": FRAMES_PER_SECOND, "quality": 6, "macro_block_size": EVEN}
    with closing(imageio_ffmpeg.write_frames(path, (width, height + STRIP), **options)) as video:
        video.send(None)
        for number in range(max(map(len, episodes)) + LAST_FRAME_REPEATS):
            # An episode that has ended stays on its last frame.
            frames = [frames[min(number, len(frames) - 1)] for frames in episodes]
            picture = np.concatenate([heading, _grid(frames, columns)])
            video.send(np.ascontiguousarray(picture))


def _grid(frames: Sequence[Frame], columns: int) -> Frame:
    """Frames of equal size in rows of ``columns``; empty places are blank."""
    blank = [np.full_like(frames[0], PAPER[0])] * (-len(frames) % columns)
    every = [*frames, *blank]
    rows = [
        np.concatenate(every[start : start + columns], axis=1)
        for start in range(0, len(every), columns)
    ]
    return np.concatenate(rows)


def _title(policy: Policy) -> str:
    of = policy.training
    seed = f", seed {of['seed']}" if "seed" in of else ""
    return f"{of.get('agent', policy.algorithm)}{seed}"


def _rendered_episode(job: EpisodeJob, policy: Policy, settings: Video) -> list[Frame]:
    environment = make_environment(
        job.evaluation.environment,
        render_mode="rgb_array",
        width=settings.size,
        height=settings.size,
    )
    with without_collection(), closing(environment), seeded_episode(environment, job.seed):
        return _resampled(list(_frames(environment, policy, job)))


def _frames(
    environment: gymnasium.Env[Any, Any], policy: Policy, job: EpisodeJob
) -> Iterator[Frame]:
    """Frames of one episode. The border turns green at the goal, and orange if the episode ends without success."""
    limit = environment.spec.max_episode_steps if environment.spec else None
    stride = max(1, (limit or MAX_FRAMES) // MAX_FRAMES)
    is_marked = False
    for step, state in enumerate(rollout(environment, policy, job)):
        if step == 0:  # Only after the reset: OGBench's arms have no model before it.
            prepare(environment)
            is_marked = shows_goal(environment)
            shown = goal_image(environment, policy, job) if job.chosen_goal else None
        if state.ended or step % stride == 0:
            picture = np.array(environment.render(), dtype=np.uint8)
            if state.saying is not None:
                _write_on_top(picture, state.saying.instruction.text)
            elif not is_marked:
                _write_goal(picture, state.desired)
            if shown is not None:
                put_in_corner(picture, shown)
            if maze_walls(environment):
                picture = _with_marks(picture, state, job.goal.success, environment)
            yield _captioned(picture, step, state)


def _with_marks(
    picture: Frame, state: RolloutStep, success: Success, environment: gymnasium.Env[Any, Any]
) -> Frame:
    """A picture of a maze with the circle around the goal, unless a sentence is the goal, and with the plan if any."""
    if state.saying is None:
        picture = with_circle(picture, success, state.desired, environment)
    return picture if state.plan is None else _with_plan(picture, state.plan, environment)


def with_circle(
    picture: Frame, success: Success, goal: NDArray[Any], environment: gymnasium.Env[Any, Any]
) -> Frame:
    """A picture of a maze with a circle around the goal, inside which it counts as reached, if a distance decides that."""
    if not success.has_distance or success.tolerance is None:
        return picture
    angles = np.linspace(0.0, 2.0 * np.pi, CIRCLE_POINTS)
    around = np.stack([np.cos(angles), np.sin(angles)], axis=1) * success.tolerance
    places = as_pixels(environment, goal[:2] + around, len(picture))
    if places is None:
        return picture
    points = tuple(tuple(place) for place in (places * SMOOTHING).tolist())
    return _over(picture, _circle(picture.shape[:2], points))


@lru_cache(maxsize=4)  # Goal and camera are usually the same in all pictures of an episode.
def _circle(shape: tuple[int, ...], points: tuple[tuple[float, ...], ...]) -> Image.Image:
    """The layer with a circle, given by its points on the canvas, for a picture of a shape."""

    def draw(canvas: ImageDraw.ImageDraw, unit: float) -> None:
        canvas.line(points, fill=(*INK, 255), width=round(2.5 * unit), joint="curve")
        canvas.line(points, fill=(*PAPER, 255), width=round(1.2 * unit), joint="curve")

    return _layer(shape, draw)


def _with_plan(picture: Frame, plan: Plan, environment: gymnasium.Env[Any, Any]) -> Frame:
    """A picture of a maze with the path of subgoals, and a ring around the current one.

    The first two numbers of a goal are its position.
    """
    places = as_pixels(environment, plan.subgoals[:, :2], len(picture))
    if places is None:
        return picture

    def draw(canvas: ImageDraw.ImageDraw, unit: float) -> None:
        points = [tuple(place) for place in (places * SMOOTHING).tolist()]
        if len(points) > 1:
            canvas.line(points, fill=(*PATH, 255), width=round(1.5 * unit), joint="curve")
        for point in points[:-1]:
            canvas.circle(
                point, 3.0 * unit, fill=(*PAPER, 255), outline=(*PATH, 255), width=round(unit)
            )
        current = points[plan.current]
        canvas.circle(current, 7.0 * unit, outline=(*INK, 255), width=round(3.5 * unit))
        canvas.circle(current, 6.5 * unit, outline=(*CURRENT, 255), width=round(2.5 * unit))

    return _over(picture, _layer(picture.shape[:2], draw))


def _layer(
    shape: tuple[int, ...], draw: Callable[[ImageDraw.ImageDraw, float], None]
) -> Image.Image:
    """A transparent layer with smooth lines.

    Args:
        shape: height and width of the picture that it is put over.
        draw: draws on a canvas of ``SMOOTHING`` times the size, because Pillow does not smooth edges. Its second
            argument is the length on the canvas of a pixel of a picture of 240 pixels.
    """
    height, width = shape
    layer = Image.new("RGBA", (width * SMOOTHING, height * SMOOTHING), (*PATH, 0))
    draw(ImageDraw.Draw(layer), SMOOTHING * height / 240)
    return layer.resize((width, height), Image.Resampling.LANCZOS)


def _over(picture: Frame, layer: Image.Image) -> Frame:
    """A picture with a layer over it."""
    drawn = Image.alpha_composite(Image.fromarray(picture).convert("RGBA"), layer)
    return np.array(drawn.convert("RGB"))


def _captioned(picture: Frame, step: int, state: RolloutStep) -> Frame:
    """A picture with a coloured border, above a line of text with the same information."""
    if state.reached:
        colour, text = REACHED, f"reached, step {step}"
    elif state.ended:
        colour, text = FAILED, f"missed, step {step}"
    else:
        colour, text = RUNNING, f"step {step}"
    for edge in (slice(None, BORDER), slice(-BORDER, None)):
        picture[edge] = colour
        picture[:, edge] = colour
    return np.concatenate([picture, _strip(picture.shape[1], text, colour, PAPER)])


def _strip(width: int, text: str, background: Colour, foreground: Colour) -> Frame:
    """A line of text, (STRIP, width, 3)."""
    strip: Frame = np.full((STRIP, width, 3), background, dtype=np.uint8)
    return _write(strip, text, (BORDER + 3, 3), foreground)


def _write(picture: Frame, text: str, place: tuple[int, int], colour: Colour) -> Frame:
    """Write text on a picture, smaller if the picture is narrow; text that does not fit is cut."""
    # A letter is about half as wide as it is high.
    fitting = min(picture.shape[1] // 12, int(1.9 * picture.shape[1] / max(1, len(text))))
    size = min(LETTERS, max(8, fitting))
    image = Image.fromarray(picture)
    ImageDraw.Draw(image).text(place, text, fill=colour, font=_font(size))
    picture[:] = np.asarray(image)
    return picture


@lru_cache
def _font(size: int) -> Any:
    return ImageFont.load_default(size)


def _write_goal(picture: Frame, goal: NDArray[Any]) -> None:
    """Write the first numbers of a goal at the top of a picture, on a lighter background."""
    first = ", ".join(f"{value:.2f}" for value in goal[:GOAL_NUMBERS_SHOWN])
    rest = ", ..." if len(goal) > GOAL_NUMBERS_SHOWN else ""
    _write_on_top(picture, f"goal {first}{rest}")


def _write_on_top(picture: Frame, text: str) -> None:
    """Write text at the top of a picture, on a lighter background."""
    top = picture[: BORDER + STRIP]
    top[:] = (top * 0.25 + np.array(PAPER) * 0.75).astype(np.uint8)
    _write(picture, text, (BORDER + 3, BORDER + 3), INK)


def _resampled(frames: list[Frame]) -> list[Frame]:
    """At most ``MAX_FRAMES`` frames at equal distances, including the last one."""
    if len(frames) <= MAX_FRAMES:
        return frames
    chosen = np.linspace(0, len(frames) - 1, MAX_FRAMES).round().astype(int)
    return [frames[number] for number in chosen]
