"""Hands a stage's script over to the warm process of its run: a process that has imported the heavy packages.

Torch, Lightning, MLflow and Matplotlib take seconds to import, in every stage and again in its fork server. A light
stage, such as ``check`` at the beginning of a ``dvc repro``, starts a warm process in the background. The script of a
later stage connects to it, passes its arguments, environment and open files, and waits: the stage runs in a fork of
the warm process (`warm_process`).

A stage runs in the script's own process if there is no warm process, if the code has changed since its imports, or if
the environment variables differ. Outside DVC there is none. A script that ends takes its stage with it, and the warm
process ends with DVC.

Several runs of DVC share a warm process if the environment variable `SESSION` has the number of a process that is alive
during all of them: ``export OFFLINE_GCRL_SESSION=$$`` in a shell. The warm process then ends with that process, or at
the first stage whose code or environment variables differ from its own.
"""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

HEAVY = frozenset({"describe", "train", "evaluate", "report"})
"""Stages that import the heavy packages: they wait for the warm process while it imports, and start none themselves.

``check`` is the first stage of a run if any setting has changed, so a run of more than one stage rarely goes without.
"""
SECONDS_OF_WAITING = 120.0
SECONDS_OF_READY = 0.1
"""How long other stages wait for the greeting, which a warm process that is ready sends at once."""
GREETING, ACCEPTED, REFUSED = b"G", b"A", b"R"
NUMBER = struct.Struct("!i")
"""A length, a process number or an exit status, as it is sent."""

STAGE = "OFFLINE_GCRL_STAGE"
"""Environment variable that is set within a stage: in forks of the warm process, and in workers, which import the script."""
SESSION = "OFFLINE_GCRL_SESSION"
"""Environment variable with the number of the process whose runs of DVC share a warm process."""
in_fork = False
"""Whether this process is a fork of the warm process."""


def hand_over(root: Path, dvc: int) -> None:
    """Exit with the status of the stage if it ran in a fork of the warm process; return if it must run here.

    Args:
        root: folder of the project whose code must run.
        dvc: number of the process that started this script.
    """
    if STAGE in os.environ or "DVC_STAGE" not in os.environ or not hasattr(socket, "send_fds"):
        return
    session = _session()
    os.environ[STAGE] = str(os.getpid())
    path, is_heavy = address(root, session or dvc), Path(sys.argv[0]).stem in HEAVY
    with socket.socket(socket.AF_UNIX) as connection:
        if not _connects(connection, path):
            if session or not is_heavy:
                _start_warm_process(root, path, session or dvc, own_group=session is not None)
            if not (session and is_heavy and _connects(connection, path)):
                return
        connection.settimeout(SECONDS_OF_WAITING if is_heavy else SECONDS_OF_READY)
        status = _run_in_fork(connection)
    if status is not None:
        sys.exit(status)


def _session() -> int | None:
    """The process that shares a warm process among its runs of DVC, or nothing."""
    text = os.environ.get(SESSION)
    if text and not text.isdecimal():
        sys.exit(f"error: {SESSION}: '{text}' is not the number of a process; export {SESSION}=$$")
    return int(text) if text else None


def _connects(connection: socket.socket, path: Path) -> bool:
    """Connect to the warm process; false if there is none, or none could be started."""
    try:
        connection.connect(str(path))
    except OSError:
        return False
    return True


def address(root: Path, owner: int) -> Path:
    """The socket of the warm process of one project and one owner: a run of DVC, or the process of a session."""
    project = zlib.crc32(str(root).encode())
    return Path(tempfile.gettempdir()) / f"offline-gcrl-{os.getuid()}-{project:08x}-{owner}.socket"


def comparable(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment variables that a stage and the warm process must have in common."""
    own = {"_", STAGE}
    return {k: v for k, v in environment.items() if not k.startswith("DVC_") and k not in own}


def _start_warm_process(root: Path, path: Path, owner: int, own_group: bool) -> None:
    """Start it with a socket that listens already, so that the next script finds it.

    Args:
        root: folder of the project.
        path: address of the socket.
        owner: number of the process that ends it by its own end.
        own_group: whether it survives a kill of all processes of DVC's group.
    """
    with socket.socket(socket.AF_UNIX) as listener, suppress(OSError):
        path.unlink(missing_ok=True)  # Of a process that was killed.
        previous = os.umask(0o177)
        try:
            listener.bind(str(path))  # It fails where the path is too long for a socket.
        finally:
            os.umask(previous)
        listener.listen()
        program = (
            f"import sys; sys.path.insert(0, {str(root)!r})\n"
            "from offline_gcrl.support.warm_process import serve\n"
            f"serve({str(root)!r}, {listener.fileno()}, {owner})"
        )
        nothing = subprocess.DEVNULL
        subprocess.Popen(
            [sys.executable, "-c", program], stdin=nothing, stdout=nothing, stderr=nothing,
            pass_fds=[listener.fileno()], start_new_session=own_group,
        )  # fmt: skip


def _run_in_fork(connection: socket.socket) -> int | None:
    """The exit status of the stage, or nothing if the warm process does not run it."""
    try:
        if connection.recv(1) != GREETING:
            return None
        connection.settimeout(SECONDS_OF_WAITING)
        _send_request(connection)
        if connection.recv(1) != ACCEPTED:
            return None
        stage = receive_number(connection)
    except OSError:
        return None
    signal.signal(signal.SIGTERM, lambda *_: os.kill(stage, signal.SIGTERM))
    if _is_in_session(stage):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # A terminal sends it to the stage, too.
    else:
        signal.signal(signal.SIGINT, lambda *_: os.kill(stage, signal.SIGINT))
    connection.settimeout(None)
    try:
        return receive_number(connection)
    except OSError:
        return 1  # The warm process was killed, and the stage ends with it.


def _is_in_session(stage: int) -> bool:
    """Whether a process is in the session of this one, or has ended."""
    try:
        return os.getsid(stage) == os.getsid(0)
    except ProcessLookupError:
        return True


def _send_request(connection: socket.socket) -> None:
    request = {"arguments": sys.argv, "folder": os.getcwd(), "environment": dict(os.environ)}
    content = json.dumps(request).encode()
    socket.send_fds(connection, [NUMBER.pack(len(content))], [0, 1, 2])
    connection.sendall(content)


def receive_request(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """A script's arguments, folder and environment, and its standard input, output and error.

    Raises:
        ConnectionError: the script has ended.
    """
    head, files, _, _ = socket.recv_fds(connection, NUMBER.size, 3)
    if len(head) < NUMBER.size:
        raise ConnectionError("the other side has ended")
    return json.loads(receive(connection, NUMBER.unpack(head)[0])), list(files)


def receive_number(connection: socket.socket) -> int:
    """A number that the other side sent."""
    number: int = NUMBER.unpack(receive(connection, NUMBER.size))[0]
    return number


def receive(connection: socket.socket, length: int) -> bytes:
    """Exactly ``length`` bytes.

    Raises:
        ConnectionError: the other side has ended.
    """
    content = b""
    while len(content) < length:
        part = connection.recv(length - len(content))
        if not part:
            raise ConnectionError("the other side has ended")
        content += part
    return content
