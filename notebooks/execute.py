"""Execute notebooks in place, against what a run of the pipeline left: ``make notebooks``.

Each runs in the project's root, or in another folder that holds a run (the tests use a small one).
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

SECONDS_A_CELL = SECONDS_TO_START = 180


def execute(path: Path, project: Path) -> nbformat.NotebookNode:
    """A notebook with its outputs from the run in ``project``; nothing is written.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed; its traceback is the text.
    """
    notebook = nbformat.read(path, as_version=4)
    with TemporaryDirectory() as folder:
        # Sockets in a folder of our own: nobody else can listen, and no port is taken twice.
        sockets = {"transport": "ipc", "ip": str(Path(folder) / "kernel")}
        client = NotebookClient(
            notebook,
            timeout=SECONDS_A_CELL,
            startup_timeout=SECONDS_TO_START,
            resources={"metadata": {"path": str(project)}},
            record_timing=False,
            kernel_name="python3",
            config=Config({"KernelManager": sockets}),
        )
        client.execute()
    # What differs between machines is no part of the outcome.
    kept = {"kernelspec": notebook.metadata["kernelspec"], "language_info": {"name": "python"}}
    notebook.metadata = nbformat.from_dict(kept)
    return notebook


def main() -> None:
    """Execute the notebooks that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebooks", nargs="+", type=Path)
    for path in parser.parse_args().notebooks:
        print(path)
        nbformat.write(execute(path, Path.cwd()), path)


if __name__ == "__main__":
    main()
