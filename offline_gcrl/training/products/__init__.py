"""Products of matrices that replace torch's in compiled losses, on processors with tiles of bfloat16 (Intel's AMX).

Small products of bfloat16 are MKL's. torch gives them to oneDNN, each call of which takes about 30 microseconds, however
small the matrices are, and MKL takes 5. Products of float32 are made of products of bfloat16, and are as accurate as
those of float32. Both are operators in C++, which are compiled once per machine.
"""

import os
import subprocess
import tempfile
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor
from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files
from torch._inductor.runtime.cache_dir_utils import cache_dir
from torch.fx import Graph, Node

from offline_gcrl.training.compiled import compiler

SOURCES = [Path(__file__).with_name(name) for name in ("bfloat16.cpp", "float32.cpp")]
HEADER = Path(__file__).with_name("matrix.h")
LARGEST_RESULT, MOST_WORK = 2**16, 2**24
"""Numbers of the result, and multiplications, up to which MKL multiplies bfloat16 faster than oneDNN."""
SMALLEST_SIDE, LEAST_WORK = 64, 2**22
"""Rows, columns or depth, and multiplications, from which tiles multiply float32 faster than MKL."""
aten, prims = torch.ops.aten, torch.ops.prims


def are_built() -> bool:
    """Compile the operators, and load them; whether that worked, and the system lets processes use tiles."""
    try:
        _load()
        torch.ops.offline_gcrl.product_of_float32(torch.ones(1, 1), torch.ones(1, 1))
    except (OSError, subprocess.CalledProcessError, RuntimeError):
        return False
    return True


class Products(CustomGraphPass):
    """Replaces products in a graph of torch's compiler where that saves time.

    Results of bfloat16 are rounded as before, where the compiler merges this with the operations that read them.
    """

    def __init__(self) -> None:
        _load()

    def __call__(self, graph: Graph) -> None:
        """Change the graph."""
        for node in graph.nodes:
            if node.target not in (aten.mm.default, aten.addmm.default) or node.kwargs:
                continue
            *bias, left, right = node.args
            if _saves_time(left.meta["val"], right.meta["val"]):
                _replace(graph, node, bias, left, right)

    def uuid(self) -> bytes:
        """What the compiler's cache distinguishes."""
        return get_hash_for_files((__file__, str(HEADER), *map(str, SOURCES)))


def _saves_time(left: Tensor, right: Tensor) -> bool:
    (rows, depth), columns = left.shape, right.shape[1]
    work = rows * depth * columns
    if left.dtype == torch.bfloat16:
        return rows * columns <= LARGEST_RESULT and work <= MOST_WORK
    is_large = min(rows, depth, columns) >= SMALLEST_SIDE and work >= LEAST_WORK
    return is_large and left.dtype == torch.float32


def _replace(graph: Graph, node: Node, bias: list[Node], left: Node, right: Node) -> None:
    """A product, plus the bias of an ``addmm``, in float32, then rounded to the type of the factors."""
    value = node.meta["val"]
    operators = torch.ops.offline_gcrl
    is_float32 = value.dtype == torch.float32
    operator = operators.product_of_float32 if is_float32 else operators.product_of_bfloat16
    with graph.inserting_before(node):
        result = graph.call_function(operator.default, (left, right))
        result.meta["val"] = value.float()
        if bias:
            result = graph.call_function(aten.add.Tensor, (result, *bias))
            result.meta["val"] = value.float()
        if not is_float32:
            convert = prims.convert_element_type.default
            result = graph.call_function(convert, (result, value.dtype))
        result.meta["val"] = value
    node.replace_all_uses_with(result)
    graph.erase_node(node)


def _shape(left: Tensor, right: Tensor) -> Tensor:
    """The result for torch's compiler, which needs its shape and type only."""
    return left.new_empty(left.shape[0], right.shape[1], dtype=torch.float32)


@lru_cache
def _load() -> None:
    torch.ops.load_library(_library())  # type: ignore[no-untyped-call]
    for name in ("product_of_bfloat16", "product_of_float32"):
        torch.library.register_fake(f"offline_gcrl::{name}", _shape)


def _library() -> Path:
    """The compiled operators in the folder of torch's compiler, named by all that they depend on."""
    text = "".join(source.read_text() for source in (HEADER, *SOURCES))
    name = sha256(f"{text} {torch.__version__} {compiler()}".encode()).hexdigest()[:16]
    target = Path(cache_dir()) / f"offline_gcrl_products_{name}.so"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        # Processes that start together each make the file, and the last one to finish replaces it.
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            _compile(Path(folder) / target.name)
            os.replace(Path(folder) / target.name, target)
    return target


def _compile(target: Path) -> None:
    torch_folder = Path(torch.__file__).parent
    instructions = ["-mavx512f", "-mavx512bw", "-mavx512bf16", "-mamx-tile", "-mamx-bf16"]
    options = ["-O3", *instructions, "-std=c++20", "-fPIC", "-shared"]
    folders = [f"-I{torch_folder / 'include'}", f"-L{torch_folder / 'lib'}"]
    command = [str(compiler()), *options, *folders, *map(str, SOURCES), "-o", str(target)]
    subprocess.run([*command, "-ltorch_cpu", "-lc10"], check=True, capture_output=True)
