"""``make study``: an experiment of ``docs/experiments`` from its settings to its report, or the rest of it.

``python -m offline_gcrl.commands.study NAME [SIZE]`` writes the settings to ``params.yaml`` and runs ``dvc repro``. A size
is a folder of ``docs/experiments`` whose file of the same name has the settings that differ. A study that was stopped or
killed continues with the same command: stages that are done are not repeated, and training resumes from its checkpoints.
"""

import shutil
import subprocess
import sys
from itertools import count
from pathlib import Path

from offline_gcrl.config import PARAMS, nearest
from offline_gcrl.config.overrides import overridden
from offline_gcrl.config.reading import as_yaml, read_yaml
from offline_gcrl.support.errors import SettingsError
from offline_gcrl.support.files import write_text
from offline_gcrl.support.numbers import duration
from offline_gcrl.support.stages import stages_of
from offline_gcrl.support.terminal import close, note, stage, stage_arguments
from offline_gcrl.support.times import by_kind, kind_of, read_times

STUDIES = Path("docs/experiments")
CHECK = "check"
"""The stage that checks all settings before any other one."""
SECONDS_TO_END = 15.0
"""Time in which DVC ends by itself after an interruption."""


def main() -> None:
    """Run or continue a study."""
    name, size = (*stage_arguments(__doc__, "name", "size"),)
    again = f"make study NAME={name}" + (f" SIZE={size}" if size else "")
    with stage("study", name + (f", {size}" if size else ""), again=again):
        settings = study_settings(name, size or None)
        use_settings(settings, again)
        status = run_stages()
        for line in times_lines():
            note(line)
        if status:
            raise SettingsError(
                f"at least one stage did not succeed; the others are kept, and `{again}` continues"
            )
        restored = f"; git checkout {PARAMS} restores the settings" if has_git() else ""
        close(f"the report is reports/index.html{restored}")


def study_settings(name: str, size: str | None = None, folder: Path = STUDIES) -> str:
    """The content of ``params.yaml`` for a study.

    Args:
        name: name of a file in the folder.
        size: name of a folder in the folder, with the settings that differ; None for the committed size.
        folder: folder of the studies.

    Raises:
        SettingsError: there is no such study or size.
    """
    path = folder / f"{name}.yaml"
    known = sorted(found.stem for found in folder.glob("*.yaml"))
    if name not in known:
        hint = nearest(name, known) if name else f"known: {', '.join(known)}"
        raise SettingsError(f"no study '{name}'; {hint}")
    if size is None:
        return path.read_text("utf-8")
    sizes = sorted(found.parent.name for found in folder.glob(f"*/{name}.yaml"))
    if size not in sizes:
        hint = nearest(size, sizes) if sizes else "it has the committed size only; leave SIZE out"
        raise SettingsError(f"no size '{size}' of the study '{name}'; {hint}")
    special = folder / size / f"{name}.yaml"
    merged = merge(read_yaml(path), read_yaml(special))
    return f"# {path} with the changes of {special}.\n{as_yaml(merged)}"


def merge(general: dict[str, object], special: dict[str, object]) -> dict[str, object]:
    """Settings with the values of others, at any depth; lists and mixtures of goals are replaced."""
    merged = overridden(general, special)
    for name, value in special.items():
        own = general.get(name)
        if isinstance(own, dict) and isinstance(value, dict) and "goals" not in name:
            merged[name] = merge(own, value)
    return merged


def use_settings(settings: str, again: str) -> None:
    """Write the settings to ``params.yaml``, unless they are there from an earlier run of the study.

    Git has the settings of before; without Git they are copied to a file next to it.

    Raises:
        SettingsError: ``params.yaml`` has changes that are not in Git, which would be lost.
    """
    if PARAMS.exists() and PARAMS.read_text("utf-8") == settings:
        note(f"{PARAMS} has the settings of this study; stages that are done are not repeated")
        return
    if not has_git():
        note(f"the settings of before are in {_copied(PARAMS)}")
    elif PARAMS.exists() and not _is_committed(PARAMS):
        raise SettingsError(
            f"{PARAMS} has changes that would be overwritten; commit them, save them (git stash) or discard them "
            f"(git checkout {PARAMS}), then `{again}`"
        )
    write_text(PARAMS, settings)


def has_git() -> bool:
    """Whether the project is in a Git repository; DVC can do without (``core.no_scm``)."""
    command = ["git", "rev-parse", "--git-dir"]
    return shutil.which("git") is not None and not subprocess.run(command, capture_output=True).returncode  # fmt: skip


def _is_committed(path: Path) -> bool:
    """Whether the last commit has this content; ``git diff`` says nothing of files that are not tracked."""
    commands = ["git", "hash-object", str(path)], ["git", "rev-parse", f"HEAD:./{path}"]
    own, committed = (subprocess.run(each, capture_output=True).stdout for each in commands)
    return own == committed


def _copied(path: Path) -> Path:
    """A copy of a file next to it, with the first number that is free; none of a file that does not exist."""
    numbered = (path.with_name(f"{path.stem}.{number}{path.suffix}") for number in count(1))
    copy = next(name for name in numbered if not name.exists())
    if path.exists():
        write_text(copy, path.read_text("utf-8"))
    return copy


def run_stages() -> int:
    """Run ``dvc repro``; stages that do not depend on one that fails run all the same. Returns its exit status.

    If the first stage, which checks all settings, does not succeed, no other one runs.
    """
    found = stages_of()
    status = dvc("repro", CHECK) if found and CHECK in found[1] else 0
    return status or dvc("repro", "--keep-going")


def dvc(*arguments: str) -> int:
    """Run DVC until it ends, also after an interruption, and return its exit status."""
    with subprocess.Popen([sys.executable, "-m", "dvc", *arguments]) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            try:
                # Ctrl-C reaches the stage and DVC, too, which then end themselves.
                process.wait(SECONDS_TO_END)
            except (KeyboardInterrupt, subprocess.TimeoutExpired):
                process.terminate()
            raise


def times_lines() -> list[str]:
    """The time of each kind of stage so far, in all runs of the experiment in ``params.yaml``, and its sum."""
    found = stages_of()
    if found is None:
        return []
    times = [entry for entry in read_times(found[0]) if entry.stage in found[1]]
    if not times:
        return []
    done = {entry.stage for entry in times if entry.state == "done"}
    lines = [
        f"{kind}: {duration(seconds)}, {sum(kind_of(name) == kind for name in done)} stage(s) done"
        for kind, seconds in by_kind(times).items()
    ]
    total = duration(sum(entry.seconds for entry in times))
    return [*lines, f"together: {total} of stages, {len(done)} of {len(found[1])} done"]


if __name__ == "__main__":
    main()
