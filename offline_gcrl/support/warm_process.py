"""The warm process of a ``dvc repro``: it imports what the stages import, and runs each stage in a fork of itself.

It has a single thread, so that forks start in a defined state. The workers of a stage are forks, too: its fork server
is a fork that has imported everything, instead of a new interpreter.
"""

import ast
import atexit
import os
import runpy
import select
import signal
import socket
import sys
import threading
import time
import traceback
from contextlib import suppress
from importlib import import_module
from multiprocessing import connection as names
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any, NamedTuple

from offline_gcrl.support import warm
from offline_gcrl.support.files import code_in
from offline_gcrl.support.imports import pause_collection, resume_collection

IMPORTED_BY_WORKERS = {"offline_gcrl.training.jobs": "offline_gcrl.training.module"}
"""What the workers of a module import, in addition to what scripts import."""
IMPORTED_DURING_STAGES = (
    "matplotlib.backends.backend_pdf",
    "matplotlib.backends.backend_svg",
    "mlflow.pyfunc.loaders",
    "mlflow.store.tracking.sqlalchemy_store",
)
"""What MLflow and Matplotlib import at their first use, which takes more than a second in each stage that uses them."""
FRESH = "offline_gcrl.support.terminal"
"""The module that every fork imports again, because it looks at the terminal when it is imported."""
INTERRUPTED = 130
"""Exit status after Ctrl-C, as a shell reports it."""
SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_BETWEEN_LOOKS_AT_STAGES = 0.02


class Stage(NamedTuple):
    """A stage to run in this process: what its script sent, and the connection to it."""

    request: dict[str, Any]
    files: list[int]
    script: socket.socket


class Imported(NamedTuple):
    """What the imports of this process depend on."""

    environment: dict[str, str]
    code: dict[str, tuple[int, int]]


def serve(root: str, listener: int, owner: int) -> None:
    """Import everything, then run stages in forks until the owner ends.

    Args:
        root: folder of the project.
        listener: a socket that listens for scripts.
        owner: number of the process whose end is also the end of this one: DVC, or the process of a session.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # A terminal sends it to the stages, too.
    imported = Imported(warm.comparable(os.environ), code_state(Path(root)))
    with socket.socket(fileno=listener) as scripts:
        try:
            _import_all(Path(root), owner)
            stage = _next_stage(scripts, Path(root), owner, imported)
        finally:
            if not warm.in_fork and scripts.fileno() >= 0:
                warm.address(Path(root), owner).unlink(missing_ok=True)
    if stage is not None:
        _run(stage)


def code_state(root: Path) -> dict[str, tuple[int, int]]:
    """Time and size of every file of the package and of the scripts."""
    files = [*code_in(root / "offline_gcrl"), *code_in(root / "pipelines")]
    return {str(file): (file.stat().st_mtime_ns, file.stat().st_size) for file in files}


def _import_all(root: Path, owner: int) -> None:
    """Import what the scripts in ``pipelines/`` import from the package, at any place, and what workers import."""
    trees = [ast.parse(path.read_text()) for path in sorted((root / "pipelines").glob("*.py"))]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    modules = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    modules |= {IMPORTED_BY_WORKERS.get(module, module) for module in modules}
    pause_collection()
    for module in sorted(modules):
        if module.startswith("offline_gcrl.") and _is_running(owner):
            import_module(module)
    for module in IMPORTED_DURING_STAGES:
        if module.partition(".")[0] in sys.modules and _is_running(owner):
            import_module(module)
    resume_collection()


def _next_stage(
    listener: socket.socket, root: Path, owner: int, imported: Imported
) -> Stage | None:
    """The stage of this process, in a fork; nothing in the warm process itself, once it must end.

    It ends with its owner, or once a stage needs other code or environment variables: the next run starts another one.
    """
    scripts: dict[int, socket.socket] = {}
    while _is_running(owner) and (scripts or listener.fileno() >= 0):
        stage = _request(
            listener, SECONDS_BETWEEN_LOOKS_AT_STAGES if scripts else SECONDS_BETWEEN_LOOKS
        )
        if stage is not None and _fits(stage, root, imported):
            if _forks(stage, scripts):
                return stage
        elif stage is not None:
            warm.address(root, owner).unlink(missing_ok=True)
            listener.close()
            _answer(stage, warm.REFUSED)
            stage.script.close()
        _report_ends(scripts)
    return None


def _request(listener: socket.socket, seconds: float) -> Stage | None:
    """What a script asks for; nothing if none asks in this time, or if it does not wait, and has gone."""
    if listener.fileno() < 0:
        time.sleep(seconds)
        return None
    if not select.select([listener], [], [], seconds)[0]:
        return None
    script, _ = listener.accept()
    script.settimeout(5.0)
    try:
        script.sendall(warm.GREETING)
        request, files = warm.receive_request(script)
    except (OSError, ValueError):
        script.close()
        return None
    return Stage(request, files, script)


def _fits(stage: Stage, root: Path, imported: Imported) -> bool:
    """Whether a stage needs what this process has imported."""
    return Imported(warm.comparable(stage.request["environment"]), code_state(root)) == imported


def _forks(stage: Stage, scripts: dict[int, socket.socket]) -> bool:
    """Fork a process for a stage; true in the fork.

    Args:
        stage: what a script asks for.
        scripts: gets the connection to the script by the number of the fork.
    """
    fork = os.fork()
    if not fork:
        warm.in_fork = True
        return True
    scripts[fork] = stage.script
    _answer(stage, warm.ACCEPTED + warm.NUMBER.pack(fork))
    return False


def _answer(stage: Stage, answer: bytes) -> None:
    """Send an answer to the script, and close its files here."""
    for file in stage.files:
        os.close(file)
    with suppress(OSError):  # The script may have been killed; its stage, if any, ends with it.
        stage.script.sendall(answer)


def _is_running(process: int) -> bool:
    """Whether a process runs; one that has ended, and whose parent has not noticed, does not."""
    try:
        handle = os.pidfd_open(process)
    except AttributeError:  # Only Linux has it.
        return _can_be_signalled(process)
    except ProcessLookupError:
        return False
    has_ended = select.select([handle], [], [], 0)[0]
    os.close(handle)
    return not has_ended


def _can_be_signalled(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def _report_ends(scripts: dict[int, socket.socket]) -> None:
    """Send their scripts the exit statuses of the stages that have ended."""
    while scripts:
        child, status = os.waitpid(-1, os.WNOHANG)
        if not child:
            return
        with scripts.pop(child) as script, suppress(OSError):  # The script may have been killed.
            script.sendall(warm.NUMBER.pack(os.waitstatus_to_exitcode(status)))


def _run(stage: Stage) -> None:
    """Become the process of a stage."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for standard, file in enumerate(stage.files):
        os.dup2(file, standard)
        os.close(file)
    sys.stdout.reconfigure(line_buffering=os.isatty(1))  # type: ignore[union-attr]
    os.chdir(stage.request["folder"])
    os.environ.clear()
    os.environ.update(stage.request["environment"])
    sys.argv = stage.request["arguments"]
    sys.modules.pop(FRESH, None)
    _fork_the_fork_server()
    threading.Thread(target=_end_with_script, args=(stage.script,), daemon=True).start()
    script = Path(sys.argv[0]).resolve()
    sys.path[0] = str(script.parent)
    _exit(_status_of(script))


def _status_of(script: Path) -> int:
    """Run a script, and return the exit status that an interpreter would end with."""
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return error.code or 0
        print(error.code, file=sys.stderr)
        return 1
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        return INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1
    return 0


def _exit(status: int) -> None:
    """End this process as an interpreter ends, but without freeing each of the objects of the heavy packages.

    Freeing them takes half a second. ``multiprocessing`` ends its forks in the same way, with the same functions.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def _end_with_script(script: socket.socket) -> None:
    """End this process if its script ends, even if it is killed."""
    script.settimeout(None)
    with suppress(OSError):
        script.recv(1)
    os._exit(1)


def _fork_the_fork_server() -> None:
    """Start the fork server of this stage's workers as a fork of this process.

    This is ``multiprocessing.forkserver.ensure_running`` with a fork instead of a new interpreter; the module has no
    function for it.
    """
    resource_tracker.ensure_running()
    server: Any = forkserver._forkserver
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(names.arbitrary_address("AF_UNIX"))  # type: ignore[attr-defined]
        listener.listen()
        alive_r, alive_w = os.pipe()
        child = os.fork()
        if not child:
            os.close(alive_w)
            _serve_workers(listener.detach(), alive_r)
        os.close(alive_r)
        server._forkserver_address = listener.getsockname()
        server._forkserver_alive_fd = alive_w
        server._forkserver_pid = child


def _serve_workers(listener: int, alive: int) -> None:
    try:
        forkserver.main(listener, alive, [])
    except SystemExit:
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
