"""Export an ingested dataset to LeRobot's dataset format v3.0.

The folder can be opened by LeRobot with LeRobotDataset(repo_id, root=FOLDER). To read a LeRobot dataset, use
python -m offline_gcrl.convert lerobot.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from offline_gcrl.convert.lerobot import INFO
from offline_gcrl.library.lerobot import export_lerobot
from offline_gcrl.support.errors import SettingsError
from offline_gcrl.support.terminal import close, note, stage

DROPPED = (
    "the last state of each episode is left out, because it has no action; --last-states keeps it as a frame whose "
    "feature is_last is true"
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Export one dataset."""
    parser = argparse.ArgumentParser(
        prog="python -m offline_gcrl.commands.lerobot",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("dataset", type=Path, help="folder of the ingested dataset, datasets/parquet/<name>")
    add("output", type=Path, help="folder to write")
    add("--fps", type=int, default=10, help="frames per second (default: 10)")
    add("--robot", help="type of the robot, for meta/info.json")
    add("--last-states", action="store_true", help="keep the last state of each episode as a frame")
    add("--replace", action="store_true", help="overwrite the folder")
    given = parser.parse_args(arguments)
    with stage("export", f"{given.dataset} to {given.output}"):
        if given.output.exists() and not given.replace:
            raise SettingsError(f"{given.output} exists already; --replace overwrites it")
        _check_output(given.dataset, given.output)
        info = export_lerobot(
            given.dataset,
            given.output,
            fps=given.fps,
            robot=given.robot,
            last_states=given.last_states,
        )
        if not given.last_states:
            note(DROPPED)
        close(
            f"{info['total_episodes']:,} episodes, {info['total_frames']:,} frames at {given.fps} per second in {given.output}"
        )


def _check_output(dataset: Path, output: Path) -> None:
    """Check that the folder that is replaced has an earlier export, or nothing.

    Raises:
        SettingsError: it has something else, such as the dataset itself.
    """
    own, target = dataset.resolve(), output.resolve()
    if target == own or target in own.parents:
        raise SettingsError(f"{output} contains the dataset {dataset}; name another folder")
    if target.exists() and any(target.iterdir()) and not (target / INFO).is_file():
        raise SettingsError(f"{output} is no export: it has no {INFO}; name another folder")


if __name__ == "__main__":
    main()
