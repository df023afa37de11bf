"""Videos that are embedded in the page, each with a poster: the picture that is shown before the video plays."""

import base64
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import imageio_ffmpeg

from offline_gcrl.report.results import Results

MAX_VIDEO_BYTES = 6_000_000
"""Limit for all embedded videos together; the page names the files of further videos."""
BEFORE_END, QUALITY = 0.3, "4"  # Seconds, and the quality of a poster from 2 (best) to 31.


class Film(NamedTuple):
    """A video and its poster as data URIs."""

    uri: str
    poster: str | None
    """The last frame, with the outcome of every episode; None if the file cannot be decoded."""


def embedded_films(results: Results) -> dict[Path, Film]:
    """Videos by path, as many as fit into ``MAX_VIDEO_BYTES``: in the order of seeds, then those with planner."""
    agents = [agent for found in results.values() for agent in found.agents.values()]
    by_seed = zip(*(agent.videos for agent in agents), strict=False)
    planned = (path for agent in agents for path in agent.planned_videos[:1])
    left, films = MAX_VIDEO_BYTES, {}
    for path in (*(path for paths in by_seed for path in paths if path is not None), *planned):
        content = path.read_bytes()
        if len(content) <= left:
            left -= len(content)
            films[path] = Film(_data_uri("video/mp4", content), poster(path))
    return films


def poster(path: Path) -> str | None:
    """The last frame of a video as JPEG, as a data URI; videos stay on it for longer than ``BEFORE_END``."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-sseof", f"-{BEFORE_END}"]
    command += ["-i", str(path), "-frames:v", "1", "-f", "mjpeg", "-q:v", QUALITY, "pipe:1"]
    answer = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    if answer.returncode or not answer.stdout:
        return None
    return _data_uri("image/jpeg", answer.stdout)


def shown_film(agent: str, text: str, path: Path, films: Mapping[Path, Film]) -> dict[str, Any]:
    """What the page shows of a video: ``text`` follows the agent's name."""
    film = films.get(path)
    return {
        "agent": agent,
        "text": text,
        "path": path.as_posix(),
        "link": path.as_posix() if path.is_absolute() else f"../{path.as_posix()}",
        "uri": film.uri if film else None,
        "poster": film.poster if film else None,
    }


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
