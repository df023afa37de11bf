"""Policies as ONNX files, which ONNX Runtime and other engines run without PyTorch."""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from offline_gcrl.support.errors import PolicyError

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
"""The packages of the extra ``export``: the format, the translation by torch, and the engine that the file is checked with."""
LOGGER = "torch.onnx._internal.exporter._registration"
"""Logs a warning for every operation of torchvision, which is not a dependency."""


def check_packages(path: Path) -> None:
    """Check that the packages of the extra are installed.

    Raises:
        PolicyError: one is missing.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise PolicyError(
            f"{path}: an .onnx file needs the packages {', '.join(missing)}; install the extra: "
            "pip install '.[export]' in a clone"
        )


def write_onnx(
    program: torch.export.ExportedProgram, path: Path
) -> Callable[[dict[str, NDArray[Any]]], NDArray[Any]]:
    """Write a graph of torch as an ONNX file with the output ``action``, and return a function that runs the file.

    It needs the packages that ``check_packages`` checks.
    """
    import onnxruntime

    with _quiet():
        exported = torch.onnx.export(program, dynamo=True, verbose=False, output_names=["action"])
    assert exported is not None
    model = exported.model_proto
    _clean(model.graph)
    path.write_bytes(model.SerializeToString())
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(inputs: dict[str, NDArray[Any]]) -> NDArray[Any]:
        actions: NDArray[Any] = session.run(["action"], inputs)[0]
        return actions

    return run


def _clean(graph: Any) -> None:
    """Remove what torch adds for its developers, such as stack traces with paths, and name the size of the batch.

    The shapes of intermediate results are removed, too: engines derive them, and complain about those of torch where a
    product broadcasts.
    """
    del graph.value_info[:]
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"


@contextmanager
def _quiet() -> Iterator[None]:
    """Without messages of torch's exporter that a user can do nothing about."""
    logger = logging.getLogger(LOGGER)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
            yield
    finally:
        logger.setLevel(level)
