"""Fast paths compute the same: the choice of them, GELU, compiled, bfloat16, recorded, and stacked seeds."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from test_agents import (
    MAPPED,
    NETWORKS,
    make_agent,
    make_batch,
    make_settings,
    own_losses,
    slow_unless,
    snapshot,
)
from test_training import Jobs, listen, make_job, run_killed_at, weights  # noqa: F401
from torch import Tensor
from torch.func import stack_module_state

from offline_gcrl.config import Train, algorithm_names
from offline_gcrl.config.outputs import CHECKPOINT
from offline_gcrl.networks.mlp import GELU, GradientFromOutput, sigmoid_gelu
from offline_gcrl.networks.values import Ensemble
from offline_gcrl.policies.policy import load_policy
from offline_gcrl.support.errors import OfflineGCRLError
from offline_gcrl.training import speed
from offline_gcrl.training.accuracy import probe, relative_error
from offline_gcrl.training.adam import FusedAdam
from offline_gcrl.training.captured import CapturedUpdater, Work, recorded_by_cuda
from offline_gcrl.training.compiled import CompiledLoss, has_compiler, learned
from offline_gcrl.training.jobs import TrainingJob, fingerprint, train_seeds
from offline_gcrl.training.module import train_seed, train_together
from offline_gcrl.training.speed import Plan, onednn_is_accurate, plan_for
from offline_gcrl.training.stacked import StackedLoss, StackedUpdater
from offline_gcrl.training.updates import PlainUpdater, period

pytestmark = pytest.mark.long(seconds=40)

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

FAST = slow_unless([*own_losses(), *NETWORKS], MAPPED)
"""One variant of each loss and of each task network; the others run in the slow suite."""


def shallow(algorithm: str, changed: dict[str, Any], seed: int = 0) -> Any:
    """An agent with one hidden layer: how updates are run does not depend on the depth of its networks."""
    return make_agent(algorithm, {"hidden": [8], **changed}, seed)


def make_train(**changed: Any) -> Train:
    return Train.model_validate({"updates": 1000, "snapshots": 10, **changed})


def adam(agent: Any, **options: Any) -> torch.optim.Adam:
    if options:
        return torch.optim.Adam(agent.parameter_groups(), fused=True, **options)
    return FusedAdam(agent.parameter_groups())


def doubled(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: v.double() if v.is_floating_point() else v for name, v in batch.items()}


def chunk(count: int, seed: int = 0) -> dict[str, torch.Tensor]:
    parts = [make_batch(100 * seed + number) for number in range(count)]
    return {name: torch.stack([part[name] for part in parts]) for name in parts[0]}


# ------------------------------------------------------------------------------------- activations


def test_relu_in_a_compiled_loss_has_the_gradients_of_torchs() -> None:
    inputs = torch.linspace(-2.0, 2.0, 9, dtype=torch.float64, requires_grad=True)  # with 0

    def gradients(relu: Callable[[Tensor], Tensor]) -> list[Tensor]:
        outputs = relu(inputs).square().sum()
        (first,) = torch.autograd.grad(outputs, inputs, create_graph=True)
        return [first, *torch.autograd.grad(first.square().sum(), inputs)]

    def grad_of_grad(relu: Callable[[Tensor], Tensor]) -> Tensor:
        loss = torch.func.grad(lambda x: relu(x).pow(3).sum())
        result: Tensor = torch.func.vmap(torch.func.grad(lambda x: loss(x).sum()))(inputs[:, None])
        return result

    own: Callable[[Tensor], Tensor] = GradientFromOutput.apply
    for found, expected in zip(gradients(own), gradients(torch.relu), strict=True):
        assert torch.equal(found, expected)
    assert torch.equal(grad_of_grad(own), grad_of_grad(torch.relu))


def test_both_forms_of_gelu_are_the_tanh_approximation_with_finite_gradients_everywhere() -> None:
    sides = torch.logspace(-6, 15, 400, dtype=torch.float64)
    inputs = torch.cat([-sides, torch.zeros(1), sides]).requires_grad_()
    expected = torch.nn.functional.gelu(inputs, approximate="tanh")
    (slope,) = torch.autograd.grad(expected.sum(), inputs)
    for form in (GELU(), sigmoid_gelu):
        outputs = form(inputs)
        (own,) = torch.autograd.grad(outputs.sum(), inputs)
        torch.testing.assert_close(outputs, expected, rtol=1e-12, atol=1e-12)
        near = (
            inputs.abs() < 1e5
        )  # The reference itself has no gradient beyond: infinity times zero.
        torch.testing.assert_close(own[near], slope[near], rtol=1e-10, atol=1e-12)
        if form is sigmoid_gelu:
            single = inputs.detach().float().requires_grad_()
            (far,) = torch.autograd.grad(form(single).sum(), single)
            assert torch.isfinite(far).all()


# ---------------------------------------------------------------------------- the choice of a plan


def test_small_networks_and_short_runs_take_no_fast_path() -> None:
    settings = make_settings("gciql", {"hidden": [128, 128]})
    plan = plan_for(make_train(accelerator="cpu"), settings)
    assert plan == Plan("cpu", "default", False, "fp32", False)


def test_long_runs_of_large_networks_are_compiled_and_routed_where_that_is_accurate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(speed, "multiplies_tiles", lambda: False)  # See test_products.py.
    settings = make_settings("gciql", {"hidden": [512, 512, 512]})
    long = make_train(updates=100_000, batch_size=1024, accelerator="cpu", precision="fp32")
    plan = plan_for(long, settings)
    assert plan.compile == has_compiler("cpu")
    assert plan.matmul == ("onednn" if onednn_is_accurate() else "default")
    assert (speed.COMPILED in plan.notes) == plan.compile
    for changed in ({"compile": False}, {"updates": 1000}):
        other = plan_for(long.model_copy(update=changed), settings)
        assert not other.compile
        assert speed.COMPILED not in other.notes


def test_on_a_gpu_the_longest_runs_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    settings = make_settings("gciql", {"hidden": [512, 512, 512]})
    long, short = (plan_for(make_train(updates=n), settings) for n in (1_000_000, 100_000))
    assert (long.device, long.compile, long.stacked) == ("cuda", True, True)
    assert not short.compile


@pytest.mark.parametrize("has_it", [True, False])
def test_the_automatic_precision_is_bfloat16_where_a_processor_multiplies_it_and_networks_are_wide(
    has_it: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": has_it})
    train = make_train(precision="auto", accelerator="cpu")
    for width, wide in ((128, False), (256, True)):
        plan = plan_for(train, make_settings("bc", {"hidden": [width, width]}))
        assert plan.precision == ("bf16" if wide and has_it else "fp32")
        assert ("train.precision: auto is bf16 here" in plan.notes) == (plan.precision == "bf16")
    by_task = make_train(precision="auto", accelerator="cpu", tasks={"gradients": "pcgrad"})
    assert plan_for(by_task, make_settings("bc", {"hidden": [256]})).precision == "fp32"


@pytest.mark.parametrize(
    ("algorithm", "settings", "precision"),
    [
        ("gciql", {"actor_loss": "ddpg+bc"}, "bf16"),
        ("gciql", {"actor_loss": "awr"}, "fp32"),
        ("gofar", {}, "bf16"),
        ("gcivl", {}, "fp32"),
        ("hiql", {}, "fp32"),
        ("qrl", {"actor_loss": "ddpg+bc"}, "fp32"),
    ],
)
def test_the_automatic_precision_is_float32_if_differences_of_values_are_weights(
    algorithm: str, settings: dict[str, Any], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    wide = make_settings(algorithm, {"hidden": [256, 256], **settings})
    train = make_train(precision="auto", accelerator="cpu")
    assert plan_for(train, wide).precision == precision
    assert plan_for(make_train(precision="bf16", accelerator="cpu"), wide).precision == "bf16"


def test_a_precision_of_gpus_is_refused_on_a_cpu() -> None:
    train = make_train(precision="tf32", accelerator="cpu")
    with pytest.raises(OfflineGCRLError, match="asks for tf32, which only GPUs have"):
        plan_for(train, make_settings("bc", {"hidden": [8]}))


def test_a_processor_on_which_onednn_rounds_is_found_out_and_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = make_settings("bc", {"hidden": [512, 512]})
    monkeypatch.setattr(speed, "ACCURATE", 1e-9)  # As if products had the error of bfloat16.
    assert not onednn_is_accurate()
    plan = plan_for(make_train(accelerator="cpu", precision="fp32"), settings)
    assert plan.matmul == "default"
    assert plan.notes == (speed.NOT_ACCURATE,)


def test_the_probe_tells_bfloat16_from_float32() -> None:
    left, right = probe(256, 512), probe(512, 256)
    exact = left.double() @ right.double()
    assert relative_error(left @ right, exact) < speed.ACCURATE
    rounded = (left.bfloat16() @ right.bfloat16()).float()
    assert relative_error(rounded, exact) > 100 * speed.ACCURATE


def test_without_a_compiler_the_loss_is_not_compiled_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    plan = plan_for(
        make_train(compile=True, accelerator="cpu"), make_settings("bc", {"hidden": [8]})
    )
    assert not plan.compile
    assert plan.notes == (speed.NO_COMPILER,)


def test_a_loss_that_cannot_be_compiled_runs_as_it_is(
    capsys: pytest.CaptureFixture[str], quick_compiler: None
) -> None:
    agent, batch = make_agent("bc", {}), make_batch()
    loss = CompiledLoss(agent.loss)

    def broken(batch: Any) -> Any:
        raise RuntimeError("no headers\nand much more")

    loss.current = broken
    assert torch.equal(loss(batch)[0], agent.loss(batch)[0])
    assert torch.equal(loss(batch)[0], agent.loss(batch)[0])
    said = capsys.readouterr().out
    assert said == "  the compiled loss is not used, it runs as it is: no headers\n"


def test_a_compiled_loss_that_is_another_is_not_used(
    capsys: pytest.CaptureFixture[str], quick_compiler: None
) -> None:
    agent, batch = make_agent("gciql", {}), make_batch()
    for wrong, used in ((1.0 + 1e-6, True), (1.01, False), (float("nan"), False)):
        loss = CompiledLoss(agent.loss)
        loss.current = lambda batch, by=wrong: (agent.loss(batch)[0] * by, {})
        loss(batch)
        assert (loss.current == loss.plain) != used
        said = capsys.readouterr().out
        assert ("runs as it is: it is" in said) != used


def test_a_compiled_loss_with_another_gradient_is_not_used(
    capsys: pytest.CaptureFixture[str], quick_compiler: None
) -> None:
    agent, batch = make_agent("gciql", {}), make_batch()
    for wrong, used in ((1.0 + 1e-6, True), (0.9, False), (float("nan"), False)):
        loss = CompiledLoss(agent.loss)
        loss.current = lambda batch, by=wrong: (_with_gradient(agent.loss(batch)[0], by), {})
        loss(batch)
        assert (loss.current == loss.plain) != used
        assert ("its gradient has an error of" in capsys.readouterr().out) != used


@pytest.mark.parametrize(("rounding", "used"), [(0.02, False), (0.1, True)])
def test_an_error_of_the_compiled_gradient_may_be_some_times_that_of_the_precision(
    rounding: float, used: bool, quick_compiler: None
) -> None:
    agent, batch = make_agent("gciql", {}), make_batch()

    def rounded(batch: Any) -> Any:
        return _with_gradient(agent.loss(batch)[0], 1.0 + rounding), {}

    loss = CompiledLoss(rounded, exact=agent.loss)
    loss.current = lambda batch: (_with_gradient(agent.loss(batch)[0], 0.8), {})
    loss(batch)
    assert (loss.current == loss.plain) != used


def _with_gradient(loss: torch.Tensor, by: float) -> torch.Tensor:
    """The same value with a gradient of another size."""
    same = loss.clone()
    same.register_hook(lambda gradient: gradient * by)
    return same


@pytest.mark.parametrize("algorithm", algorithm_names())
def test_the_weights_that_a_loss_has_a_gradient_of_are_found(algorithm: str) -> None:
    agent, batch = make_agent(algorithm, {}), make_batch()
    loss, _ = agent.loss(batch)
    weights = [weight for weight in agent.parameters() if weight.requires_grad]
    expected = torch.autograd.grad(loss, weights, allow_unused=True, retain_graph=True)
    used = {id(weight) for weight, of in zip(weights, expected, strict=True) if of is not None}
    assert {id(weight) for weight in learned(loss)} == used


def test_matrices_are_multiplied_as_before_once_a_plan_ends() -> None:
    before = torch.backends.mkldnn.matmul.fp32_precision
    with Plan("cpu", "onednn", False, "fp32", False).in_force():
        assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"
    assert torch.backends.mkldnn.matmul.fp32_precision == before


def test_a_fast_path_changes_the_name_of_a_checkpoint(
    make_job: Jobs,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = make_job("job", compile=True)
    name = fingerprint(job, "content")
    assert fingerprint(make_job("job", compile="auto"), "content") != name
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert fingerprint(job, "content") != name


# ------------------------------------------------------------------------------ each path, in training


@pytest.fixture
def quick_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trace and differentiate as in earnest, but write no C++: that takes a minute."""
    compiler: Callable[..., Any] = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda loss, **_: compiler(loss, backend="aot_eager", dynamic=False)
    )
    torch.compiler.reset()


@pytest.mark.parametrize(
    "path",
    [{"algorithm": "bc", "compile": True}, {"precision": "bf16"}, {"accelerator": "gpu"}],
    ids=["compiled", "bf16", "gpu"],
)
def test_a_killed_run_resumes_to_the_same_bytes_by_every_path(
    make_job: Jobs,  # noqa: F811
    path: dict[str, Any],
    quick_compiler: None,
) -> None:
    if path.get("accelerator") == "gpu" and not torch.cuda.is_available():
        pytest.skip("no GPU")
    whole, killed = make_job("whole", **path), make_job("killed", **path)
    train_seed(whole, listen)
    run_killed_at(killed, 33)
    train_seed(killed, listen)
    assert weights(killed) == weights(whole)


def test_bf16_leaves_float32_weights_and_trains_near_those_of_fp32(make_job: Jobs) -> None:  # noqa: F811
    jobs = [make_job(precision, updates=30, precision=precision) for precision in ("fp32", "bf16")]
    for job in jobs:
        train_seed(job, listen)
        saved = torch.load(job.checkpoints / CHECKPOINT, weights_only=True)
        kept = [*saved["agent"].values(), *saved["optimizer"]["state"][0].values()]
        assert {value.dtype for value in kept} == {torch.float32}
    plain, rounded = (load_policy(job.output).actor.state_dict() for job in jobs)
    assert any(not torch.equal(plain[name], rounded[name]) for name in plain)
    torch.testing.assert_close(rounded, plain, rtol=0.1, atol=0.02)


# ------------------------------------------------------------------------------------ recorded updates


def not_recorded(work: Work) -> Work:
    """What stands for a recording on a CPU: the work itself, its results in the same place each time."""
    results: dict[str, torch.Tensor] = {}

    def replay() -> dict[str, torch.Tensor]:
        for name, value in work().items():
            results.setdefault(name, torch.empty_like(value)).copy_(value)
        return results

    return replay


@pytest.mark.parametrize("variant", FAST, ids=str)
def test_recorded_updates_are_the_updates(variant: Any) -> None:
    plain, recorded = shallow(*variant), shallow(*variant)
    one_by_one = PlainUpdater(plain, plain.loss, adam(plain))
    captured = CapturedUpdater(PlainUpdater(recorded, recorded.loss, adam(recorded)), not_recorded)
    told, first = [], 0
    for number, count in enumerate((3, 3, 2)):  # The last chunk of a round may be shorter.
        batches = chunk(count, number)
        told.append(tuple(each.run(batches, first, count) for each in (one_by_one, captured)))
        first += count
    assert all(torch.equal(own[name], other[name]) for own, other in told for name in own)
    assert {count for count, _ in captured.recordings} == {2, 3}
    for name, value in snapshot(plain).items():
        assert torch.equal(value, recorded.state_dict()[name]), name


def test_where_recording_fails_updates_run_one_by_one(capsys: pytest.CaptureFixture[str]) -> None:
    plain, recorded = make_agent("gciql", {}), make_agent("gciql", {})

    def refused(work: Work) -> Work:
        raise RuntimeError("operation not permitted when stream is capturing")

    one_by_one = PlainUpdater(plain, plain.loss, adam(plain))
    captured = CapturedUpdater(PlainUpdater(recorded, recorded.loss, adam(recorded)), refused)
    for number in range(2):
        one_by_one.run(chunk(3, number), 3 * number, 3)
        captured.run(chunk(3, number), 3 * number, 3)
    assert torch.equal(plain.actor.network.trunk[0].weight, recorded.actor.network.trunk[0].weight)
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert "could not be recorded and run one by one: operation not permitted" in said


@pytest.mark.parametrize("variant", FAST, ids=str)
def test_nothing_of_an_update_waits_for_the_host(variant: Any) -> None:
    """A recording and an empty queue both forbid it. A tensor without values stands for one on a GPU.

    Whatever asks for a value of it raises, and so does what mixes it with a tensor of the host.
    """
    agents = [shallow(*variant, seed=seed).to("meta") for seed in range(2)]
    descent: Any = torch.optim.SGD(agents[0].parameter_groups())  # Adam asks for a real device.
    count = max(2, period(descent))  # Each group of parameters steps.
    batches = {name: values.to("meta") for name, values in chunk(count).items()}
    updates = {name: values[: period(descent)] for name, values in batches.items()}
    PlainUpdater(agents[0], agents[0].loss, descent).run(updates, 0, period(descent))
    stack, _ = stack_module_state(agents)
    loss, _ = StackedLoss(agents[0], stack)({name: values[:2] for name, values in batches.items()})
    loss.backward()
    with pytest.raises(RuntimeError, match="item"):
        loss.item()


@GPU
@pytest.mark.parametrize("variant", MAPPED, ids=str)
def test_a_cuda_graph_replays_the_updates(variant: Any) -> None:
    agents = [make_agent(*variant).cuda() for _ in range(2)]
    plain, inner = (PlainUpdater(a, a.loss, adam(a, capturable=True)) for a in agents)
    captured = CapturedUpdater(inner, recorded_by_cuda)
    for number in range(4):
        batches = {name: value.cuda() for name, value in chunk(3, number).items()}
        plain.run(batches, 3 * number, 3)
        captured.run(batches, 3 * number, 3)
    assert not captured.failed
    torch.testing.assert_close(agents[1].state_dict(), agents[0].state_dict())


@GPU
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # within torch's own compiler
@pytest.mark.parametrize("algorithm", ["gciql", "ddpg", "crl"])
def test_on_a_gpu_a_compiled_step_is_the_step(algorithm: str) -> None:
    agents = [make_agent(algorithm, {}).cuda() for _ in range(2)]
    plans = [Plan("cuda", "default", compiled, "fp32", False) for compiled in (False, True)]
    updaters = [
        PlainUpdater(agent, agent.loss, plan.adam(agent.parameter_groups()), plan.prepared_step)
        for agent, plan in zip(agents, plans, strict=True)
    ]
    for number in range(4):
        batches = {name: value.cuda() for name, value in chunk(3, number).items()}
        for updater in updaters:
            updater.run(batches, 3 * number, 3)
    torch.testing.assert_close(agents[1].state_dict(), agents[0].state_dict(), rtol=1e-2, atol=1e-3)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # within torch's own compiler
def test_a_compiled_step_is_the_step(quick_compiler: None) -> None:
    agents = [make_agent("gciql", {}) for _ in range(2)]
    compiled = Plan("cuda", "default", True, "fp32", False).prepared_step
    slow = torch.optim.Adam(agents[1].parameter_groups(), foreach=True)
    updaters = [
        PlainUpdater(agents[0], agents[0].loss, adam(agents[0])),
        PlainUpdater(agents[1], agents[1].loss, slow, compiled),
    ]
    for updater in updaters:
        updater.run(chunk(3), 0, 3)
    torch.testing.assert_close(agents[1].state_dict(), agents[0].state_dict(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("variant", FAST, ids=str)
def test_members_of_an_ensemble_compute_the_same_in_batched_products(
    variant: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, batch = make_agent(*variant), make_batch()
    apart = agent.loss(batch)[0]
    gradients_apart = gradients(agent, apart)
    monkeypatch.setattr(Ensemble, "forward", Ensemble.batched)
    together = agent.loss(batch)[0]
    torch.testing.assert_close(together, apart)
    torch.testing.assert_close(gradients(agent, together), gradients_apart, rtol=1e-4, atol=1e-5)


# -------------------------------------------------------------------------------------- stacked seeds


@pytest.mark.parametrize("variant", FAST, ids=str)
def test_stacked_seeds_learn_what_each_learns_alone(variant: Any) -> None:
    """In float64: Adam divides by the gradient, and makes steps of rounding where a gradient is zero."""
    alone = [shallow(*variant, seed=seed).double() for seed in range(2)]
    stacked = [shallow(*variant, seed=seed).double() for seed in range(2)]
    together = StackedUpdater(stacked, [adam(agent) for agent in stacked])
    apart = [PlainUpdater(agent, agent.loss, adam(agent)) for agent in alone]
    for start in (0, 3):
        batches = [doubled(chunk(3, 10 * seed + start)) for seed in range(2)]
        info = together.run(
            {name: torch.stack([part[name] for part in batches], 1) for name in batches[0]},
            start,
            3,
        )
        for seed, updater in enumerate(apart):
            own = updater.run(batches[seed], start, 3)
            torch.testing.assert_close(
                {name: value[seed] for name, value in info.items()}, own, rtol=1e-9, atol=1e-9
            )
    together.finish_round()
    for own, agent in zip(alone, stacked, strict=True):
        torch.testing.assert_close(agent.state_dict(), own.state_dict(), rtol=1e-9, atol=1e-9)


def test_stacked_training_keeps_each_seed_as_training_it_alone_would(make_job: Jobs) -> None:  # noqa: F811
    seeds, stacked = (0, 1, 2), {"seeds_together": "stacked"}
    alone = [make_job(f"alone-{seed}/x", seed=seed) for seed in seeds]
    together = [make_job(f"together-{seed}/x", seed=seed, **stacked) for seed in seeds]
    for job in alone:
        train_seed(job, listen)
    heard: list[Any] = []
    train_seeds(together[:2], heard.append)
    assert {event.seed for event in heard} == {0, 1}
    assert len({event.process for event in heard}) == 1
    together = [replace(job, output=job.output.with_name("again")) for job in together]
    train_together(together, hear_of_training_in_seed_two_only)  # Added later; the others are done.
    for own, other in zip(alone, together, strict=True):
        expected, got = (load_policy(job.output).actor.state_dict() for job in (own, other))
        torch.testing.assert_close(got, expected, rtol=1e-2, atol=1e-4)
        names = ["policy.pt", "training.csv", "snapshots/update-00000020.pt"]
        assert all((other.output / name).exists() for name in names)


def hear_of_training_in_seed_two_only(event: Any) -> None:
    assert event.seed == 2 or event.updates == 60


def test_stacked_seeds_resume_from_where_each_stands(
    make_job: Jobs,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def jobs(name: str) -> list[TrainingJob]:
        return [
            make_job(f"{name}-{seed}/x", seed=seed, seeds_together="stacked") for seed in (0, 1)
        ]

    whole, killed = jobs("whole"), jobs("killed")
    train_together(whole, listen)

    def killer(event: Any) -> None:
        if event.points:  # After seed 0 has saved its round, and before seed 1 has.
            raise KeyboardInterrupt

    with pytest.raises(BaseException):  # noqa: B017
        train_together(killed, killer)
    assert (killed[0].checkpoints / CHECKPOINT).exists()
    assert not (killed[1].checkpoints / CHECKPOINT).exists()
    train_together(killed, listen)
    for own, other in zip(whole, killed, strict=True):
        expected, got = (load_policy(job.output).actor.state_dict() for job in (own, other))
        torch.testing.assert_close(got, expected, rtol=1e-2, atol=1e-4)


@pytest.mark.skipif(not has_compiler("cpu"), reason="no C++ compiler")
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # within torch's own compiler
@pytest.mark.parametrize("algorithm", slow_unless(["gciql"], algorithm_names()))
def test_compiled_in_earnest_is_as_near_to_float64_as_eager(algorithm: str) -> None:
    agent, batch = make_agent(algorithm, {"activation": "gelu"}), make_batch()
    exact = copy.deepcopy(agent).double()
    torch.compiler.reset()
    compiled = CompiledLoss(agent.loss)
    wide = {name: v.double() if v.is_floating_point() else v for name, v in batch.items()}
    expected = gradients(exact, exact.loss(wide)[0])
    eager = error(gradients(agent, agent.loss(batch)[0]), expected)
    assert error(gradients(agent, compiled(batch)[0]), expected) < 2 * eager + 1e-6
    assert compiled.current is not compiled.plain


def gradients(agent: Any, loss: torch.Tensor) -> torch.Tensor:
    weights = [weight for weight in agent.parameters() if weight.requires_grad]
    found = torch.autograd.grad(loss, weights, allow_unused=True)
    return torch.cat([part.flatten().double() for part in found if part is not None])


def error(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float((found - exact).norm() / exact.norm())
