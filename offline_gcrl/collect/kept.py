"""Finished episodes of a source, which are kept while it is collected, so that a killed collection continues.

An episode is a function of its number (`collector`), so kept episodes and new ones together are the same data.
"""

import hashlib
import pickle
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from minari.data_collector.episode_buffer import EpisodeBuffer

from offline_gcrl.support.digests import digest_of
from offline_gcrl.support.files import write_bytes
from offline_gcrl.support.terminal import note
from offline_gcrl.support.versions import installed_version

SECONDS = 30.0
"""Interval at which finished episodes are written; a shorter collection writes none."""
CODE = ("collect", "config", "environments", "goals", "support")
"""Folders of the package that episodes depend on."""
PACKAGES = ("gymnasium", "gymnasium-robotics", "metaworld", "mujoco", "numpy", "ogbench")
"""Packages that episodes depend on, as far as they are installed."""
SUFFIX = ".episodes"
DIGEST_SIZE = 32


def inputs(resolved: Path) -> list[object]:
    """Everything that the episodes of a dataset depend on besides the code of this package.

    Args:
        resolved: the file of the resolved recipe, which contains the digests of the user's own environments.
    """
    return [digest_of(resolved), *map(installed_version, PACKAGES)]


def continued(
    folder: Path, collect: Callable[[int], Iterator[EpisodeBuffer]]
) -> Iterator[EpisodeBuffer]:
    """All episodes of a source: those that a killed run has kept, and then new ones, which are kept in turn.

    Args:
        folder: where groups of episodes are kept. It belongs to this source alone.
        collect: the episodes from a number on.
    """
    done = 0
    while group := _read(folder, done):
        yield from group
        done += len(group)
    if done:
        note(f"{done:,} episodes are kept from a run that was stopped; collecting the others")
    yield from _keeping(folder, done, collect(done))


def _keeping(folder: Path, done: int, episodes: Iterable[EpisodeBuffer]) -> Iterator[EpisodeBuffer]:
    group: list[EpisodeBuffer] = []
    since = time.monotonic()
    for episode in episodes:
        group.append(episode)
        if time.monotonic() - since >= SECONDS:
            _write(folder, done, group)
            done += len(group)
            group, since = [], time.monotonic()
        yield episode


def _write(folder: Path, first: int, group: list[EpisodeBuffer]) -> None:
    """Write a group of episodes, whose name is the number of the first one, with the digest of its content."""
    content = pickle.dumps(group)
    write_bytes(_path(folder, first), hashlib.sha256(content).digest() + content)


def _read(folder: Path, first: int) -> list[EpisodeBuffer]:
    """The group that starts with an episode; empty if there is none, or if its content has changed."""
    path = _path(folder, first)
    if not path.is_file():
        return []
    content = path.read_bytes()
    expected, content = content[:DIGEST_SIZE], content[DIGEST_SIZE:]
    if hashlib.sha256(content).digest() != expected:
        return []
    group: list[EpisodeBuffer] = pickle.loads(content)  # noqa: S301 - this program wrote it
    return group


def _path(folder: Path, first: int) -> Path:
    return folder / f"{first:08d}{SUFFIX}"
