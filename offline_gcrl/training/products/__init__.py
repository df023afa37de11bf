"""Products of matrices that replace torch's in compiled losses, on processors with tiles of bfloat16 (Intel's AMX).

Small products of bfloat16 are MKL's. torch gives them to oneDNN, each call of which takes about 30 microseconds, however
small the matrices are, and MKL takes 5. Products of float32 are made of products of bfloat16, and are as accurate as
those of float32. Both are operators in C++, which are compiled once per machine.
"""

import os
import subprocess
import tempfile
from collections.abc import Callable
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files
from torch._inductor.runtime.cache_dir_utils import cache_dir
from torch.fx import Graph, Node

from offline_gcrl.training.accuracy import probe, relative_error
from offline_gcrl.training.compiled import compiler

SOURCES = [Path(__file__).with_name(name) for name in ("bfloat16.cpp", "float32.cpp")]
HEADER = Path(__file__).with_name("matrix.h")
LARGEST_RESULT, MOST_WORK = 2**16, 2**24
"""Numbers of the result, and multiplications, up to which MKL multiplies bfloat16 faster than oneDNN."""
SMALLEST_SIDE, LEAST_WORK = 128, 2**22
"""Rows, columns or depth, and multiplications, from which tiles multiply float32 faster than MKL."""
ACCURATE = 1.0e-6
"""Relative error up to which a product counts as added up in float32."""
aten, prims = torch.ops.aten, torch.ops.prims


class ProductsError(Exception):
    """The operators cannot be compiled, or do not work here; the reason."""


class Products(CustomGraphPass):
    """Replaces products in a graph of torch's compiler where that saves time.

    Results of bfloat16 are rounded after the product, as torch's are.
    """

    def __init__(self) -> None:
        """Compile the operators, and load them.

        Raises:
            ProductsError: they cannot be compiled, or do not work here.
        """
        try:
            _load()
        except subprocess.CalledProcessError as error:
            raise ProductsError(
                next(iter(error.stderr.decode().splitlines()), str(error))
            ) from error
        except (OSError, RuntimeError) as error:
            raise ProductsError(
                next(iter(str(error).splitlines()), type(error).__name__)
            ) from error

    def __call__(self, graph: Graph) -> None:
        """Change the graph."""
        for node in graph.nodes:
            if node.target not in (aten.mm.default, aten.addmm.default) or node.kwargs:
                continue
            *bias, left, right = node.args
            if _saves_time(left.meta["val"], right.meta["val"]):
                _replace(graph, node, bias, left, right)

    def uuid(self) -> bytes:
        """A part of the key in the compiler's cache: graphs with and without this pass, and of its versions, differ."""
        return get_hash_for_files((__file__, str(HEADER), *map(str, SOURCES)))


def _saves_time(left: Tensor, right: Tensor) -> bool:
    (rows, depth), columns = left.shape, right.shape[1]
    work = rows * depth * columns
    if left.dtype == torch.bfloat16:
        return rows * columns <= LARGEST_RESULT and 0 < work <= MOST_WORK
    is_large = min(rows, depth, columns) >= SMALLEST_SIDE and work >= LEAST_WORK
    return is_large and left.dtype == torch.float32


def _replace(graph: Graph, node: Node, bias: list[Node], left: Node, right: Node) -> None:
    """A product, plus the bias of an ``addmm``, in float32, then rounded to the type of the factors."""
    value: Tensor = node.meta["val"]

    def call(target: Any, *inputs: Any, value: Tensor) -> Node:
        made = graph.call_function(target, inputs)
        made.meta["val"] = value
        return made

    with graph.inserting_before(node):
        result = call(_operator(value.dtype), left, right, value=value.float())
        if bias:
            result = call(aten.add.Tensor, result, *bias, value=value.float())
        if value.dtype != torch.float32:
            convert = prims.convert_element_type.default
            result = call(convert, result, value.dtype, value=value)
    node.replace_all_uses_with(result)
    graph.erase_node(node)


def _name(dtype: torch.dtype) -> str:
    return f"product_of_{str(dtype).removeprefix('torch.')}"


def _operator(dtype: torch.dtype) -> Callable[[Tensor, Tensor], Tensor]:
    """The operator for factors of a type."""
    operator: Callable[[Tensor, Tensor], Tensor] = getattr(
        torch.ops.offline_gcrl, _name(dtype)
    ).default
    return operator


def _empty_result(left: Tensor, right: Tensor) -> Tensor:
    """The result for torch's compiler, which needs its shape and type only."""
    return left.new_empty(left.shape[0], right.shape[1], dtype=torch.float32)


@lru_cache
def _load() -> None:
    torch.ops.load_library(_library())  # type: ignore[no-untyped-call]
    for dtype in (torch.bfloat16, torch.float32):
        _check(_operator(dtype), dtype)
        torch.library.register_fake(f"offline_gcrl::{_name(dtype)}", _empty_result)


def _check(operator: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype) -> None:
    """Compare a product with float64, which also asks the operating system for permission to use tiles."""
    numbers = probe(80, 80).to(dtype)
    error = relative_error(operator(numbers, numbers), numbers.double() @ numbers.double())
    if not error < ACCURATE:
        raise RuntimeError(f"a product has a relative error of {error:.2g}")


def _library() -> Path:
    """The compiled operators in the folder of torch's compiler, named by all that they depend on."""
    text = "".join(source.read_text() for source in (HEADER, *SOURCES))
    parts = (text, torch.__version__, *_command(Path("operators.so")))
    name = sha256(" ".join(parts).encode()).hexdigest()[:16]
    target = Path(cache_dir()) / f"offline_gcrl_products_{name}.so"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        # Processes that start together each make the file, and the last one to finish replaces it.
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            built = Path(folder) / target.name
            subprocess.run(_command(built), check=True, capture_output=True)
            os.replace(built, target)
    return target


def _command(target: Path) -> list[str]:
    """The call of the compiler."""
    torch_folder = Path(torch.__file__).parent
    instructions = ["-mavx512f", "-mavx512bw", "-mavx512bf16", "-mamx-tile", "-mamx-bf16"]
    options = ["-O3", *instructions, "-std=c++20", "-fPIC", "-shared"]
    folders = [f"-I{torch_folder / 'include'}", f"-L{torch_folder / 'lib'}"]
    files = [*map(str, SOURCES), "-o", str(target)]
    return [str(compiler()), *options, *folders, *files, "-ltorch_cpu", "-lc10"]
