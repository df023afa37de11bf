"""Execute notebooks in place, against what a run of the pipeline left: ``make notebooks``.

Each runs in the project's root; the tests run them in a folder with the outputs of a small run.
"""

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from jupyter_client import KernelManager
from nbclient import NotebookClient

SECONDS_PER_CELL = SECONDS_TO_START = 180
FIRST_CELL = "import gc\ngc.disable()\n%reset -f"
"""No garbage is collected, which takes a third of the time of importing Torch and MLflow; no variables remain."""


@contextmanager
def kernel_in(project: Path) -> Iterator[KernelManager]:
    """A kernel that works in a folder."""
    with TemporaryDirectory() as folder:
        # Sockets in a folder of our own: nobody else can listen, and no port is taken twice.
        kernel = KernelManager(transport="ipc", ip=str(Path(folder) / "kernel"))
        # Figures without the time of their drawing do not differ between executions.
        kernel.start_kernel(cwd=str(project), env={**os.environ, "SOURCE_DATE_EPOCH": "0"})
        try:
            yield kernel
        finally:
            kernel.shutdown_kernel(now=True)


def execute(path: Path, kernel: KernelManager) -> nbformat.NotebookNode:
    """A notebook with its outputs; nothing is written.

    Args:
        path: the notebook.
        kernel: executes it, without the variables of notebooks that it has executed before.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed; its traceback is the text.
    """
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(FIRST_CELL))
    client = NotebookClient(
        notebook, km=kernel, timeout=SECONDS_PER_CELL, startup_timeout=SECONDS_TO_START, record_timing=False
    )  # fmt: skip
    client.execute()
    client.kc.stop_channels()
    del notebook.cells[0]
    # What differs between machines is no part of the outcome.
    kept = {"kernelspec": notebook.metadata["kernelspec"], "language_info": {"name": "python"}}
    notebook.metadata = nbformat.from_dict(kept)
    return notebook


def main() -> None:
    """Execute the notebooks that are named, each in a new kernel, and write them in place."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebooks", nargs="+", type=Path)
    for path in parser.parse_args().notebooks:
        print(path)
        with kernel_in(Path.cwd()) as kernel:
            executed = execute(path, kernel)
        _number(executed)
        nbformat.write(executed, path)


def _number(notebook: nbformat.NotebookNode) -> None:
    """Number the cells from 1; the kernel has counted the cell that cleared its variables."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.execution_count -= 1
            for output in cell.outputs:
                if "execution_count" in output:
                    output["execution_count"] -= 1


if __name__ == "__main__":
    main()
