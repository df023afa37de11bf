"""Videos of a policy that sees, with several goal images from one start."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from offline_gcrl.environments.cameras import simulated
from offline_gcrl.environments.frames import hide_markers
from offline_gcrl.evaluation.jobs import EpisodeJob
from offline_gcrl.evaluation.rollouts import given_in, goal_of
from offline_gcrl.policies.policy import Policy, load_policy

Frame = NDArray[np.uint8]


def with_goals(jobs: Sequence[EpisodeJob]) -> list[EpisodeJob]:
    """The first episode with the goals of several, from the same start, until the goal is reached.

    There are none for policies that see no goals, and none where a goal has an image only in its own episode.
    """
    if not jobs or not load_policy(jobs[0].policy).inputs.sees_goals:
        return []
    how = jobs[0].images.goal if jobs[0].images else None
    if how is not None and how.reset:
        return []
    return [replace(jobs[0], chosen_goal=goal_of(job), stop_at_success=True) for job in jobs]


def goal_image(environment: gymnasium.Env[Any, Any], policy: Policy, job: EpisodeJob) -> Frame:
    """The image of the chosen goal; the marker of the environment's own goal is hidden, because it is another one."""
    hide_markers(simulated(environment).model)  # type: ignore[union-attr]
    return given_in(job, environment, policy).goal(np.array(job.chosen_goal))


def put_in_corner(picture: NDArray[np.uint8], image: NDArray[np.uint8]) -> None:
    """Put a goal image into the upper right corner of a picture, at most at a third of its size, with a white frame."""
    (height, width), (own_height, own_width) = picture.shape[:2], image.shape[:2]
    times = max(1, min(height // (3 * own_height), width // (3 * own_width)))
    every = max(1, -(-3 * own_height // height), -(-3 * own_width // width))
    larger = image[::every, ::every].repeat(times, axis=0).repeat(times, axis=1)
    framed = np.pad(larger, ((0, 2), (2, 0), (0, 0)), constant_values=255)
    picture[: len(framed), -framed.shape[1] :] = framed
