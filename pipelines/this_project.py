"""Decides how the script of a stage runs: from which project, until when, and in which process.

An installed package may be another copy of the code: that of the workspace while a queued experiment runs in a copy
of it, or that of another clone which shares the environment. DVC records the code next to this script, so this code
must run. So the project of this script is the first on the import path, also on that of worker processes. Modules in
the project's folder, and in its folder ``environments``, are importable for the same reason.
"""

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def _end_with_dvc(parent: int) -> None:
    """End this process when DVC ends, even if it is killed; an orphan would write to the outputs of the next run."""
    while os.getppid() == parent and not (parent == 1 and _is_orphan()):
        time.sleep(0.5)
    os._exit(1)


def _is_orphan() -> bool:
    """Whether the first process of the system, which is our parent, is another program than DVC."""
    command = Path("/proc/1/cmdline")
    return command.exists() and b"dvc" not in command.read_bytes()


def _one_line_if_interrupted(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """Ctrl-C during the imports of a stage prints one line, as it does later."""
    if issubclass(kind, KeyboardInterrupt):
        print("  stopped; `dvc repro` continues from here")
    else:
        sys.__excepthook__(kind, error, trace)


if "DVC_STAGE" in os.environ:  # Before anything slow is imported, during which DVC can end.
    threading.Thread(target=_end_with_dvc, args=(os.getppid(),), daemon=True).start()
if not (ROOT / "offline_gcrl").is_dir():
    sys.exit(
        f"error: {ROOT}: no folder offline_gcrl; run this script in a complete copy of the project"
    )
sys.path[:0] = [str(ROOT), str(ROOT / "environments")]
sys.excepthook = _one_line_if_interrupted

from offline_gcrl.support.warm import hand_over  # noqa: E402 - from the project that the line above chose

hand_over(ROOT, dvc=os.getppid())
