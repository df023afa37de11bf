"""The package's products of matrices: the operators, the graphs in which they replace torch's, and the plans that use them."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from test_agents import make_agent, make_batch, make_settings
from test_speed import error, gradients
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from offline_gcrl.config import Train
from offline_gcrl.training import compiled, products, speed
from offline_gcrl.training.compiled import TOLERANCES, CompiledLoss, Precision, has_compiler
from offline_gcrl.training.products import (
    LARGEST_RESULT,
    LEAST_WORK,
    MOST_WORK,
    SMALLEST_SIDE,
    Products,
)
from offline_gcrl.training.speed import Plan, multiplies_tiles, plan_for

needs_tiles = pytest.mark.skipif(
    not (has_compiler("cpu") and multiplies_tiles()), reason="no C++ compiler, or no AMX"
)
SHAPES = [(5, 7, 3), (1, 4, 6), (6, 1, 4), (4, 6, 1), (1, 1, 1), (64, 57, 32), (33, 300, 65)]


def matrix(
    rows: int,
    columns: int,
    *,
    transposed: bool = False,
    wide: bool = False,
    dtype: torch.dtype = torch.bfloat16,
) -> Tensor:
    """Normally distributed numbers; ``wide``: part of a matrix with more columns."""
    generator = torch.Generator().manual_seed(rows + columns)
    shape = (columns, rows) if transposed else (rows, columns)
    numbers = torch.randn(shape[0], shape[1] + 3 * wide, generator=generator).to(dtype)
    part = numbers[:, : shape[1]]
    return part.mT if transposed else part


def pairs(shape: tuple[int, int, int], dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    """Factors that lie in memory in all ways that the operators allow."""
    rows, depth, columns = shape
    ways = [{"transposed": t, "wide": w, "dtype": dtype} for t in (False, True) for w in (False, True)]  # fmt: skip
    return [
        (matrix(rows, depth, **one), matrix(depth, columns, **other))
        for one in ways
        for other in ways
    ]


@needs_tiles
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_products_of_bfloat16_are_added_up_in_float32(shape: tuple[int, int, int]) -> None:
    Products()
    for left, right in pairs(shape, torch.bfloat16):
        found = torch.ops.offline_gcrl.product_of_bfloat16(left, right)
        torch.testing.assert_close(found, left.float() @ right.float(), rtol=1e-5, atol=1e-5)


@needs_tiles
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_products_of_float32_are_as_near_to_float64_as_torchs(shape: tuple[int, int, int]) -> None:
    Products()
    for left, right in pairs(shape, torch.float32):
        found = torch.ops.offline_gcrl.product_of_float32(left, right)
        exact = left.double() @ right.double()
        own, torchs = (float((each - exact).norm()) for each in (found, left @ right))
        assert own < 1.1 * torchs + 1e-7 * float(exact.norm())


@needs_tiles
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=["bf16", "fp32"])
def test_factors_are_expanded_or_have_gaps_as_gradients_may(dtype: torch.dtype) -> None:
    Products()
    operator = products._operator(dtype)
    right = matrix(9, 5, dtype=dtype)
    for left in (
        torch.ones(1, 1, dtype=dtype).expand(7, 9),
        matrix(7, 1, dtype=dtype).expand(7, 9),
        matrix(1, 9, dtype=dtype).expand(7, 9),
        matrix(14, 18, dtype=dtype)[::2, ::2],
        matrix(9, 14, dtype=dtype)[:, ::2].mT,
    ):
        for one, other in ((left, right), (right.mT, left.mT)):
            expected = one.float() @ other.float()
            torch.testing.assert_close(operator(one, other), expected, rtol=1e-5, atol=1e-5)


def changed_graph(function: Any, *inputs: Tensor) -> tuple[torch.fx.GraphModule, int]:
    """The graph of a function after the pass, and the number of products that it replaced."""
    traced = make_fx(function, tracing_mode="fake")(*inputs)
    Products()(traced.graph)
    traced.recompile()
    namespace = torch.ops.offline_gcrl
    own = [namespace.product_of_bfloat16.default, namespace.product_of_float32.default]
    return traced, sum(node.target in own for node in traced.graph.nodes)


@needs_tiles
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize(
    ("dtype", "side"), [(torch.bfloat16, 4), (torch.float32, 256)], ids=["bf16", "fp32"]
)
def test_a_replaced_layer_has_the_outputs_and_gradients_of_torchs_within_a_rounding(
    has_bias: bool, dtype: torch.dtype, side: int
) -> None:
    inputs, weight, bias = (
        matrix(side, side, dtype=dtype),
        matrix(side, side, dtype=dtype),
        matrix(1, side, dtype=dtype)[0],
    )

    def layer(inputs: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
        inputs, weight = inputs.detach().requires_grad_(), weight.detach().requires_grad_()
        outputs = nn.functional.linear(inputs, weight, bias if has_bias else None)
        return outputs, *torch.autograd.grad(outputs.square().sum(), (inputs, weight))

    graph, replaced = changed_graph(layer, inputs, weight, bias)
    assert replaced == 3
    by = 2e-2 if dtype == torch.bfloat16 else 1e-4
    expected = layer(inputs, weight, bias)
    for own, torchs in zip(graph(inputs, weight, bias), expected, strict=True):
        assert own.dtype == dtype
        torch.testing.assert_close(
            own, torchs, rtol=by, atol=by * float(torchs.detach().abs().max())
        )


@needs_tiles
def test_products_that_torch_computes_as_fast_stay_as_they_are() -> None:
    below, side = SMALLEST_SIDE - 1, SMALLEST_SIDE
    deep = LEAST_WORK // side**2
    for dtype, shape, replaced in (
        (torch.bfloat16, (4, 4, 4), 1),
        (torch.bfloat16, (LARGEST_RESULT // 4 + 1, 4, 4), 0),
        (torch.bfloat16, (4, MOST_WORK // 16, 4), 1),
        (torch.bfloat16, (4, MOST_WORK // 16 + 1, 4), 0),
        (torch.float32, (side, deep, side), 1),
        (torch.float32, (side, deep - 1, side), 0),
        (torch.float32, (side, LEAST_WORK, below), 0),
        (torch.float64, (side, deep, side), 0),
    ):
        left, right = (torch.empty(size, dtype=dtype) for size in (shape[:2], shape[1:]))
        _, count = changed_graph(lambda a, b: a @ b, left, right)
        assert count == replaced, (dtype, shape)
    small = matrix(4, 4)
    _, count = changed_graph(lambda a, b: torch.addmm(a, b, b, beta=2), small, small)
    assert count == 0


@needs_tiles
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # within torch's own compiler
@pytest.mark.filterwarnings("ignore:<class 'torch.autograd:DeprecationWarning")  # the same
@pytest.mark.parametrize("algorithm", ["gofar", "gciql"])
def test_agents_have_the_gradients_of_bfloat16(algorithm: str) -> None:
    """GoFAR's penalty has expanded gradients."""
    agent, batch = make_agent(algorithm, {"hidden": [64, 64]}), make_batch()
    torch.compiler.reset()
    loss = Plan("cpu", "own", True, "bf16", False).prepared(agent.loss)
    plain = Plan("cpu", "default", False, "bf16", False).prepared(agent.loss)
    own, torchs, exact = (gradients(agent, of(batch)[0]) for of in (loss, plain, agent.loss))
    assert loss.current is not loss.plain  # type: ignore[attr-defined]
    assert error(own, exact) < 2 * error(torchs, exact)


@needs_tiles
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # within torch's own compiler
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_compiled_in_earnest_the_gradients_are_as_near_to_float64_as_torchs(
    precision: Precision,
) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(128, 128), nn.GELU(), nn.LayerNorm(128), nn.Linear(128, 1))
    inputs = torch.randn(1024, 128)

    def loss(batch: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            return network(batch["inputs"]).float().square().mean(), {}

    torch.compiler.reset()
    compiled = CompiledLoss(loss, TOLERANCES[precision], own_products=True)
    batch = {"inputs": inputs}
    own, torchs = (gradients(network, each(batch)[0]) for each in (compiled, loss))
    network.double()
    exact = gradients(network, network(inputs.double()).square().mean())
    assert compiled.current is not compiled.plain
    assert error(own, exact) < 1.5 * error(torchs, exact)


def test_compiled_losses_of_wide_networks_use_them_where_the_processor_has_tiles(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def plan(tiles: bool, width: int = 256, **changed: Any) -> Any:
        monkeypatch.setattr(speed, "multiplies_tiles", lambda: tiles)
        whole = {"updates": 1000, "snapshots": 10, "accelerator": "cpu", **changed}
        return plan_for(Train.model_validate(whole), make_settings("bc", {"hidden": [width]}))

    monkeypatch.setattr(speed, "has_compiler", lambda device: True)
    for precision in ("fp32", "bf16"):
        assert plan(True, compile=True, precision=precision).matmul == "own"
        assert plan(False, compile=True, precision=precision).matmul != "own"
        assert plan(True, compile=False, precision=precision).matmul != "own"
        assert plan(True, 128, compile=True, precision=precision).matmul == "default"


@needs_tiles
def test_a_plan_gives_its_products_to_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def compile(loss: Any, *, options: dict[str, Any], **_: Any) -> Any:
        given.update(options)
        return loss

    monkeypatch.setattr(torch, "compile", compile)
    Plan("cpu", "default", True, "fp32", False).prepared(lambda batch: (batch["x"], {}))
    assert given == {"cpp_wrapper": True}
    Plan("cpu", "own", True, "fp32", False).prepared(lambda batch: (batch["x"], {}))
    assert isinstance(given["post_grad_custom_pre_pass"], Products)


def test_a_compiler_that_fails_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "cache_dir", lambda: str(tmp_path))
    monkeypatch.setenv("CXX", "false")
    with pytest.raises(subprocess.CalledProcessError):
        products._library()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            subprocess.CalledProcessError(1, "g++", stderr=b"g++: no such flag\nmore"),
            "g++: no such flag",
        ),
        (OSError("no space"), "no space"),
        (RuntimeError("no permission\nat line 3"), "no permission"),
    ],
    ids=str,
)
def test_without_the_operators_torchs_products_are_used_and_the_reason_is_said(
    error: Exception,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(products, "_load", fail)
    assert compiled._options("cpu", True) == {"cpp_wrapper": True}
    said = capsys.readouterr().out
    assert said == f"  torch's products of matrices are used, which are slower: {reason}\n"


@needs_tiles
def test_an_operator_that_computes_something_else_is_found_out() -> None:
    def rounded(left: Tensor, right: Tensor) -> Tensor:
        return (left.bfloat16() @ right.bfloat16()).float()

    with pytest.raises(RuntimeError, match="a product has a relative error of 0.00"):
        products._check(rounded, torch.float32)
    products._check(torch.matmul, torch.float32)


@needs_tiles
def test_the_operators_refuse_other_types_and_factors_that_do_not_fit() -> None:
    Products()
    namespace = torch.ops.offline_gcrl
    one, other = matrix(4, 5), matrix(4, 5, dtype=torch.float32)
    for operator, left, right in (
        (namespace.product_of_bfloat16, other, other.mT),
        (namespace.product_of_bfloat16, one, one),
        (namespace.product_of_float32, one, one.mT),
        (namespace.product_of_float32, other, other),
    ):
        with pytest.raises(RuntimeError):
            operator(left, right)
