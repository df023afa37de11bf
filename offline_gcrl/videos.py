"""Rollout videos: episodes of a policy side by side, success and failure marked on their borders."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium
import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

from offline_gcrl.config import Dataset, Evaluate, Video
from offline_gcrl.environments import can_render, make_environment, seeded_episode
from offline_gcrl.evaluation import FINAL, EpisodeJob, episode_jobs, rollout
from offline_gcrl.parallel import balanced_workers, ordered_map
from offline_gcrl.policy import POLICY, load_policy

FRAMES_A_SECOND = 25
LONGEST_VIDEO = 100  # Frames; steps between are passed over.
BORDER = 5
RUNNING, REACHED, FAILED = (120, 120, 120), (0, 158, 115), (213, 94, 0)  # Okabe and Ito's colours.
Frame = NDArray[np.uint8]


ROLLOUTS = "rollouts.mp4"


def write_all_rollouts(
    policies: Mapping[int, Path],
    dataset: Dataset,
    settings: Evaluate,
    output: Path,
    on_video: Callable[[], None] = lambda: None,
) -> str | None:
    """Film the first episodes of every seed, side by side, as ``seed-<n>/rollouts.mp4``.

    Returns:
        Why there are no videos, if so; None when all were made.
    """
    if settings.video.episodes == 0:
        return "evaluate.video.episodes is 0"
    if not can_render():
        return "no GL library found; install libegl1 or libosmesa6 for videos"
    films = []
    for seed, folder in policies.items():
        jobs = episode_jobs(folder / POLICY, dataset, settings, seed, FINAL)
        path = output / f"seed-{seed}" / ROLLOUTS
        films.append((path, jobs[: settings.video.episodes], settings.video))
    errors = []
    for error in ordered_map(_try_rollouts, films, balanced_workers(len(films))):
        errors.append(error)
        on_video()
    return next(filter(None, errors), None)


def _try_rollouts(film: tuple[Path, list[EpisodeJob], Video]) -> str | None:
    """A GL library may be there and not work; a video is not worth failing a stage for."""
    try:
        write_rollouts(*film)
    except Exception as error:
        film[0].unlink(missing_ok=True)
        return f"rendering failed ({type(error).__name__}: {error})"
    return None


def write_rollouts(path: Path, jobs: list[EpisodeJob], settings: Video) -> None:
    """Run the episodes again with a camera, and write them side by side as MP4."""
    episodes = [_filmed(job, settings) for job in jobs]
    size = (settings.size * len(episodes), settings.size)
    with closing(imageio_ffmpeg.write_frames(path, size, fps=FRAMES_A_SECOND, quality=6)) as video:
        video.send(None)
        for number in range(max(map(len, episodes))):
            # An episode that has ended stays on its last frame.
            row = [frames[min(number, len(frames) - 1)] for frames in episodes]
            video.send(np.ascontiguousarray(np.concatenate(row, axis=1)))


def _filmed(job: EpisodeJob, settings: Video) -> list[Frame]:
    environment = make_environment(
        job.evaluation.environment,
        render_mode="rgb_array",
        width=settings.size,
        height=settings.size,
    )
    with closing(environment), seeded_episode(environment, job.seed):
        return _resampled(list(_frames(environment, job)))


def _frames(environment: gymnasium.Env[Any, Any], job: EpisodeJob) -> Iterator[Frame]:
    """Pictures of one episode, in steps; the border turns green at the goal, red at a failed end."""
    limit = environment.spec.max_episode_steps if environment.spec else None
    stride = max(1, (limit or LONGEST_VIDEO) // LONGEST_VIDEO)
    for step, moment in enumerate(rollout(environment, load_policy(job.policy), job)):
        if moment.ended or step % stride == 0:
            running = FAILED if moment.ended else RUNNING
            yield _framed(environment, REACHED if moment.reached else running)


def _framed(environment: gymnasium.Env[Any, Any], colour: tuple[int, int, int]) -> Frame:
    picture = np.array(environment.render(), dtype=np.uint8)
    for edge in (slice(None, BORDER), slice(-BORDER, None)):
        picture[edge] = colour
        picture[:, edge] = colour
    return picture


def _resampled(frames: list[Frame]) -> list[Frame]:
    """At most ``LONGEST_VIDEO`` frames, the last one kept."""
    if len(frames) <= LONGEST_VIDEO:
        return frames
    chosen = np.linspace(0, len(frames) - 1, LONGEST_VIDEO).round().astype(int)
    return [frames[number] for number in chosen]
