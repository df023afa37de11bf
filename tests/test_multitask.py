"""Several tasks: losses apart, gradients made one, shares of a batch, and what is held on to."""

import json
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from conftest import SmallDataset
from test_agents import VARIANTS, make_agent, make_batch, name_of
from test_training import KilledError, listen

from offline_gcrl.agents import settings_type
from offline_gcrl.config import Sampling, Tasks, TaskSequence, Train
from offline_gcrl.config.multitask import SOLVERS
from offline_gcrl.episodes.dataset import Episodes, open_episodes
from offline_gcrl.figures.gradients import draw_gradients
from offline_gcrl.figures.routing import write_routing
from offline_gcrl.networks.goal_conditioned import GoalConditioned
from offline_gcrl.policies.policy import load_policy
from offline_gcrl.training.batches.data import DeviceData
from offline_gcrl.training.batches.sampler import BatchSampler
from offline_gcrl.training.jobs import TrainingJob
from offline_gcrl.training.module import train_seed
from offline_gcrl.training.multitask.forgetting import ElasticPenalty, diagonal_fisher, freeze_heads
from offline_gcrl.training.multitask.gradients import (
    GradNorm,
    combination,
    cosines,
    networks,
    set_gradients,
    task_gradients,
)
from offline_gcrl.training.multitask.losses import (
    losses_by_task,
    means_by_task,
    stacked,
    transition_weights,
)
from offline_gcrl.training.multitask.sampling import adapted_shares, order_of, phase_shares
from offline_gcrl.training.multitask.updates import TaskGradientUpdater, WeightedUpdater
from offline_gcrl.training.updates import PlainUpdater

TASKS = 4  # Of the batches of test_agents.
NAMES = ("near", "far", "left", "right")


def train_settings(**changed: Any) -> Train:
    return Train.model_validate_json(json.dumps({"updates": 24, "snapshots": 4, "batch_size": 32, "updates_per_step": 5, **changed}))  # fmt: skip


# --------------------------------------------------------------------------------- losses apart


@pytest.fixture(params=VARIANTS, ids=name_of)
def variant(request: pytest.FixtureRequest) -> Any:
    return request.param


SUMS: dict[str, dict[str, Any]] = {
    "gciql": {"actor_loss": "awr"},
    "gofar": {"divergence": "chi2"},
    "wgcsl": {"best_advantage_weight": False},
    "ddpg": {"bc_alpha": None},
    "qrl": {"actor_loss": "awr"},
}
"""Settings with which a loss is a sum over transitions. Other losses have a quantity of the complete batch: a logarithm
of a mean, a scale of mean |Q|, a percentile; or, in CRL, pairs of transitions."""


def test_gradients_of_tasks_by_their_share_add_up_to_that_of_the_batch(variant: Any) -> None:
    algorithm, changed = variant
    if algorithm == "crl":
        pytest.skip("its loss is over pairs of transitions, not a sum over transitions")
    agent, batch = make_agent(algorithm, {**changed, **SUMS.get(algorithm, {})}), make_batch()
    matrices = task_gradients(losses_by_task(agent.loss, batch, TASKS), agent)
    shares = torch.bincount(batch["tasks"], minlength=TASKS) / len(batch["tasks"])
    set_gradients(agent, {name: shares @ matrix for name, matrix in matrices.items()})
    together = {name: p.grad.clone() for name, p in agent.named_parameters() if p.grad is not None}
    agent.zero_grad()
    agent.loss(batch)[0].backward()
    whole = {name: p.grad for name, p in agent.named_parameters() if p.grad is not None}
    assert set(whole) <= set(together)
    for name, gradient in together.items():
        expected = whole.get(name, torch.zeros_like(gradient))
        torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-5, msg=name)


def test_a_batch_that_weighs_one_task_alone_has_the_loss_of_that_task(variant: Any) -> None:
    agent, batch = make_agent(*variant), make_batch()
    by_batch = agent.settings.model_dump()
    scaled = (
        variant[0] == "crl"
        or by_batch.get("actor_loss") == "ddpg+bc"
        or by_batch.get("best_advantage_weight")
        or by_batch.get("bc_alpha")
    )
    losses, info, present = stacked(losses_by_task(agent.loss, batch, TASKS))
    assert present.all()
    for task in range(TASKS):
        weights = transition_weights(batch["tasks"], torch.eye(TASKS)[task])
        loss, alone = agent.loss({**batch, "weights": weights})
        if not scaled:
            torch.testing.assert_close(losses[task], loss.detach(), rtol=1e-4, atol=1e-5)
        names = {"actor/mse"} if variant[0] == "crl" else {"actor/mse", "value/loss", "critic/loss"}
        for name in names & set(info):
            torch.testing.assert_close(info[name][task], alone[name], rtol=1e-4, atol=1e-5)


def test_weights_make_a_sum_of_the_means_of_tasks() -> None:
    tasks = torch.tensor([[0, 0, 0, 1], [2, 2, 0, 0]])
    weights = transition_weights(tasks, torch.tensor([0.5, 0.3, 0.2]))
    expected = torch.tensor([[0.5 / 3] * 3 + [0.3], [0.1, 0.1, 0.25, 0.25]])
    torch.testing.assert_close(weights, expected)


def test_a_weighted_update_descends_on_the_weighted_sum_of_losses() -> None:
    weights = torch.tensor([0.1, 0.2, 0.3, 0.4])
    agents = [make_agent("gciql", {"actor_loss": "awr"}) for _ in range(2)]
    batch = make_batch()
    optimizers = [torch.optim.SGD(agent.parameter_groups(), lr=0.1) for agent in agents]
    stacked = {name: values[None] for name, values in batch.items()}
    WeightedUpdater(agents[0], agents[0].loss, optimizers[0], weights).run(stacked, 0, 1)
    losses = [one[0] for one in losses_by_task(agents[1].loss, batch, TASKS) if one]
    (torch.stack(losses) @ weights).backward()
    optimizers[1].step()
    for first, second in zip(
        agents[0].actor.parameters(), agents[1].actor.parameters(), strict=True
    ):
        torch.testing.assert_close(first, second)


def test_a_task_that_a_batch_lacks_is_told() -> None:
    agent, batch = make_agent("gofar", {"divergence": "kl"}), make_batch()
    batch["tasks"] = batch["tasks"].clamp(max=2)
    found = losses_by_task(agent.loss, batch, TASKS)
    losses, info, present = stacked(found)
    assert present.tolist() == [True, True, True, False]
    assert losses[3] == info["actor/mse"][3] == 0.0
    assert not any(matrix[3].any() for matrix in task_gradients(found, agent).values())
    means, known = means_by_task(torch.arange(3.0), torch.tensor([2, 0, 2]), 4)
    assert means.tolist() == [1.0, 0.0, 1.0, 0.0]
    assert known.tolist() == [True, False, True, False]


# ------------------------------------------------------------------------------- gradients made one


def test_pcgrad_of_two_tasks_is_the_projection_by_hand() -> None:
    """g1 = (1, 0), g2 = (-1, 1): g1.g2 = -1, so g1' = (1/2, 1/2), g2' = (0, 1), and (1/2, 3/2) in all."""
    combine = combination("pcgrad", seed=0)
    result = combine(torch.tensor([[1.0, 0.0], [-1.0, 1.0]]), 0)
    torch.testing.assert_close(result, torch.tensor([0.5, 1.5]))
    agreeing = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    torch.testing.assert_close(combine(agreeing, 0), agreeing.sum(0))


def projected(matrix: np.ndarray, orders: list[list[int]]) -> np.ndarray:
    """Algorithm 1 of the paper, by the letter."""
    total = np.zeros(matrix.shape[1])
    for task, order in enumerate(orders):
        gradient = matrix[task].copy()
        for other in order:
            product = gradient @ matrix[other]
            if other != task and product < 0:
                gradient -= product / (matrix[other] @ matrix[other]) * matrix[other]
        total += gradient
    return total


def test_pcgrad_of_three_tasks_is_the_algorithm_of_the_paper_in_some_order_that_varies() -> None:
    matrix = torch.tensor([[2.0, -1.0, 0.0], [-1.0, 0.5, 1.0], [-1.0, 2.0, -3.0]])
    combine = combination("pcgrad", seed=0)
    others = [[1, 2], [2, 1]], [[0, 2], [2, 0]], [[0, 1], [1, 0]]
    possible = [
        projected(matrix.numpy().astype(np.float64), [a, b, c])
        for a in others[0]
        for b in others[1]
        for c in others[2]
    ]
    found = set()
    for update in range(40):
        result = combine(matrix, update)
        matches = [k for k, one in enumerate(possible) if np.allclose(result, one, atol=1e-5)]
        assert matches
        found.add(matches[0])
        assert torch.equal(
            result, combine(matrix, update)
        )  # The order depends on the update alone.
    assert len(found) > 1


def test_the_random_order_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    combination("pcgrad", seed=0)(torch.eye(3), 5)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("name", ["aligned_mtl", "imtl_g", "mgda", "cagrad", "upgrad", "dualproj"])
def test_an_aggregator_of_equal_gradients_is_their_sum(name: str) -> None:
    if not all(find_spec(package) for package in SOLVERS.get(name, ())):
        with pytest.raises(ValueError, match=r"needs .* pip install 'offline-gcrl\[multitask\]'"):
            Tasks.model_validate({"gradients": name})
        pytest.skip("its solver is not installed")
    combine = combination(name, seed=0)
    same = torch.tensor([[1.0, 2.0], [1.0, 2.0]])
    factor = 1.4 if name == "cagrad" else 1.0  # It steps by up to c beyond the mean.
    torch.testing.assert_close(combine(same, 0), factor * same.sum(0), rtol=1e-2, atol=1e-2)
    conflicting = torch.tensor([[1.0, 0.0], [-0.5, 1.0]])
    result = combine(conflicting, 0)
    assert (conflicting @ result >= -1e-4).all()  # No task is made worse.


def test_gradnorm_takes_one_step_of_its_rule() -> None:
    """Norms 1 and 3, losses 4 and 2 of 4 and 4 at the start, alpha 1: rates 4/3 and 2/3, mean norm 2,

    targets 8/3 and 4/3; |1 - 8/3| falls by raising w1 at slope 1, |3 - 4/3| by lowering w2 at slope 3.
    """
    gradnorm = GradNorm(2, alpha=1.0, learning_rate=0.1)
    gradnorm.initial = torch.tensor([4.0, 4.0])
    gradnorm.learn(torch.tensor([4.0, 2.0]), torch.tensor([1.0, 3.0]), torch.tensor([True, True]))
    expected = torch.tensor([1.0 + 0.1 * 1.0, 1.0 - 0.1 * 3.0])
    torch.testing.assert_close(gradnorm.weights, expected * 2 / expected.sum())


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_gradnorm_settles_where_norms_follow_the_rates(alpha: float) -> None:
    """Constant norms 1 and 4, losses at 0.8 and 0.4 of the start: w_i G_i is in the ratio of rates^alpha."""
    gradnorm = GradNorm(2, alpha, learning_rate=1e-3)
    norms, present = torch.tensor([1.0, 4.0]), torch.tensor([True, True])
    gradnorm.learn(torch.tensor([1.0, 1.0]), norms, present)
    for _ in range(2000):
        gradnorm.learn(torch.tensor([0.8, 0.4]), norms, present)
    ratio = (gradnorm.weights[0] * norms[0]) / (gradnorm.weights[1] * norms[1])
    assert ratio.item() == pytest.approx(2.0**alpha, rel=0.05)
    assert gradnorm.weights.sum().item() == pytest.approx(2.0)


def test_cosines_are_of_the_angles() -> None:
    matrix = torch.tensor([[1.0, 0.0], [1.0, 1.0], [-2.0, 0.0], [0.0, 0.0]])
    half = 0.5**0.5
    expected = [[1, half, -1, 0], [half, 1, -half, 0], [-1, -half, 1, 0], [0, 0, 0, 0]]
    torch.testing.assert_close(cosines(matrix), torch.tensor(expected, dtype=torch.float32))


@pytest.mark.parametrize("algorithm", ["bc", "gciql", "gofar"])
@pytest.mark.parametrize("network", ["concatenate", "heads"])
def test_a_plain_sum_of_gradients_of_tasks_is_a_plain_update(algorithm: str, network: str) -> None:
    changed = {"conditioning": "goal+embedding", "task_network": network}
    if algorithm == "gciql":
        changed["actor_loss"] = "awr"  # The other has a scale, mean |Q|: of the task, or the batch.
    agents = [make_agent(algorithm, changed) for _ in range(2)]
    optimizers = [torch.optim.SGD(agent.parameter_groups(), lr=0.01) for agent in agents]
    plain = PlainUpdater(agents[0], agents[0].loss, optimizers[0])
    apart = TaskGradientUpdater(agents[1], optimizers[1], combination("sum", 0), tasks=TASKS)
    for number in range(3):
        infos = [updater.update(make_batch(number), number) for updater in (plain, apart)]
    for (name, first), second in zip(
        agents[0].named_parameters(), agents[1].parameters(), strict=True
    ):
        torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-5, msg=name)
    assert infos[0].keys() == infos[1].keys()
    for name, value in infos[0].items():
        torch.testing.assert_close(value, infos[1][name], rtol=1e-3, atol=1e-4, msg=name)


def test_networks_are_reconciled_each_by_itself() -> None:
    assert set(networks(make_agent("gciql", {}))) == {"value", "critic", "actor"}
    assert set(networks(make_agent("gofar", {}))) == {"value", "actor", "discriminator"}
    assert set(networks(make_agent("gofar", {"reward": "sparse"}))) == {"value", "actor"}


# --------------------------------------------------------------------------------- shares of a batch


def with_tasks(episodes: Episodes, names: tuple[str, ...] = NAMES) -> Episodes:
    """The same episodes, said to be of several tasks in turn."""
    number = np.arange(len(episodes.table)) % len(names)
    table = episodes.table.with_columns(pl.Series("task", [names[k] for k in number]))
    return replace(episodes, schema={**episodes.schema, "tasks": list(names)}, table=table)


@pytest.fixture(scope="module")
def sampler(dataset: SmallDataset) -> BatchSampler:
    data = DeviceData(with_tasks(dataset.episodes))
    fields = ("observations", "tasks", "actor_goals", "value_goals", "rewards")
    sampling = Sampling(fields=fields, actor_goals={"future": 1.0}, value_goals={"geometric": 1.0})
    return BatchSampler(data, dataset.hindsight, sampling, split="train", batch_size=64, seed=0)


def test_tasks_come_up_as_often_as_stated(sampler: BatchSampler) -> None:
    for shares in ([0.25] * 4, [0.7, 0.1, 0.2, 0.0], [0.0, 0.0, 0.0, 1.0]):
        tasks = sampler.batches(0, 400, torch.tensor(shares))["tasks"].flatten()
        frequency = torch.bincount(tasks, minlength=4) / len(tasks)
        torch.testing.assert_close(frequency, torch.tensor(shares), atol=0.012, rtol=0.0)
        assert not frequency[torch.tensor(shares) == 0.0].any()


def test_within_a_task_every_transition_comes_up_as_often(sampler: BatchSampler) -> None:
    counter = torch.arange(120_000)
    pick = sampler._pick(counter, torch.tensor([0.0, 1.0, 0.0, 0.0]))
    own = (sampler.transitions.task == 1).nonzero()[:, 0]
    counts = torch.bincount(pick, minlength=len(sampler))[own]
    assert counts.sum() == len(counter)
    expected = len(counter) / len(own)
    assert (counts - expected).abs().max() < 6 * expected**0.5


def test_a_task_without_transitions_is_never_drawn(dataset: SmallDataset) -> None:
    episodes = with_tasks(dataset.episodes, (*NAMES[:3], "nowhere"))
    table = episodes.table.with_columns(pl.col("task").replace("nowhere", "near"))
    data = DeviceData(replace(episodes, table=table))
    sampling = Sampling(fields=("tasks",), actor_goals={"future": 1.0})
    found = BatchSampler(data, dataset.hindsight, sampling, split="train", batch_size=64, seed=0)
    tasks = found.batches(0, 50, torch.tensor([0.2, 0.2, 0.2, 0.4]))["tasks"]
    assert sorted(tasks.unique().tolist()) == [0, 1, 2]


def test_a_batch_depends_on_seed_step_and_shares_alone(sampler: BatchSampler) -> None:
    shares = torch.tensor([0.4, 0.3, 0.2, 0.1])
    together = sampler.batches(3, 4, shares)
    for number in range(4):
        alone = sampler.batches(3 + number, 1, shares)
        assert all(torch.equal(values[number], alone[name][0]) for name, values in together.items())


def test_shares_follow_scores_but_for_an_even_part() -> None:
    scores, known = torch.tensor([1.0, 3.0, 0.0, 9.0]), torch.tensor([True, True, True, False])
    # The last has no score of its own: the mean of the others, 4/3.
    filled = torch.tensor([1.0, 3.0, 0.0, 4 / 3])
    expected = 0.2 / 4 + 0.8 * filled / filled.sum()
    torch.testing.assert_close(adapted_shares(scores, known, 0.2), expected)
    even = adapted_shares(torch.zeros(4), known, 0.2)
    assert even.tolist() == [0.25] * 4


def test_a_sequence_has_one_task_at_a_time_and_replay_earlier_ones() -> None:
    tasks = ("c", "a", "b")
    order = order_of(TaskSequence(tasks=tasks), ("a", "b", "c"))
    assert order == [2, 0, 1]
    finetune, replay = TaskSequence(tasks=tasks), TaskSequence(method="replay", replay_share=0.4)
    assert [phase_shares(finetune, order, k, 3).tolist() for k in range(3)] == [[0, 0, 1], [1, 0, 0], [0, 1, 0]]  # fmt: skip
    assert phase_shares(replay, order, 0, 3).tolist() == [0, 0, 1]
    torch.testing.assert_close(phase_shares(replay, order, 2, 3), torch.tensor([0.2, 0.6, 0.2]))


# ----------------------------------------------------------------------------------- holding on


class Linear(torch.nn.Module):
    """mu(s, g) = W s, of a policy N(mu, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(2, 3))

    def forward(self, state: torch.Tensor, goal: torch.Tensor, task: torch.Tensor) -> torch.Tensor:
        return state @ self.weight.T


def test_the_fisher_information_of_a_linear_gaussian_policy_is_the_mean_square_of_its_inputs() -> (
    None
):
    """d log N(a; W s, 1) / d W_ij = (a_i - mu_i) s_j, whose mean square over a is s_j^2."""
    torch.manual_seed(0)
    states = torch.randn(37, 3) * torch.tensor([1.0, 2.0, 0.5])
    fisher = diagonal_fisher(
        Linear(), states, torch.zeros(37, 1), torch.zeros(37, dtype=torch.long)
    )
    expected = states.square().mean(0).expand(2, 3)
    torch.testing.assert_close(fisher["weight"], expected)


def test_the_fisher_information_is_that_of_actions_drawn_from_the_policy() -> None:
    agent, batch = make_agent("bc", {"conditioning": "goal+embedding"}), make_batch()
    inputs = [batch[name] for name in ("observations", "actor_goals", "tasks")]
    parameters = {name: p.detach() for name, p in agent.actor.named_parameters()}

    def likelihood(parameters: Any, action: torch.Tensor, *inputs: torch.Tensor) -> torch.Tensor:
        mean = torch.func.functional_call(agent.actor, parameters, inputs)
        return -0.5 * (action - mean).square().sum()

    draws, generator = 2000, torch.Generator().manual_seed(0)
    mean = agent.actor(*inputs).detach().repeat(draws, 1)
    actions = mean + torch.randn(mean.shape, generator=generator)
    repeated = [values.repeat(draws, *[1] * (values.ndim - 1)) for values in inputs]
    slopes = torch.vmap(torch.func.grad(likelihood), in_dims=(None, 0, 0, 0, 0))
    sampled = slopes(parameters, actions, *repeated)
    for name, information in diagonal_fisher(agent.actor, *inputs).items():
        drawn = sampled[name].square().mean(0)
        torch.testing.assert_close(drawn, information, rtol=0.2, atol=0.02, msg=name)


def test_the_penalty_is_the_sum_of_those_of_all_finished_tasks() -> None:
    actor = Linear()
    penalty = ElasticPenalty(actor, weight=3.0)  # type: ignore[arg-type]
    assert penalty().item() == 0.0
    finished = []
    for seed in range(3):
        torch.manual_seed(seed)
        with torch.no_grad():
            actor.weight.copy_(torch.randn(2, 3))
        fisher = torch.rand(2, 3) * torch.tensor([1.0, 0.0, 2.0])
        penalty.consolidate({"weight": fisher})
        finished.append((fisher, actor.weight.detach().clone()))
    with torch.no_grad():
        actor.weight.copy_(torch.randn(2, 3))
    penalty().backward()
    by_hand = sum(3.0 * fisher * (actor.weight.detach() - anchor) for fisher, anchor in finished)
    torch.testing.assert_close(actor.weight.grad, by_hand)


def test_frozen_heads_learn_no_more_and_the_others_do() -> None:
    agent = make_agent("gciql", {"task_network": "heads"})
    optimizer = torch.optim.Adam(agent.parameter_groups(), fused=True)
    updater = PlainUpdater(agent, agent.loss, optimizer)
    updater.update(make_batch())
    freeze_heads(agent, [0, 2])
    heads = [m for m in agent.modules() if isinstance(m, GoalConditioned) and hasattr(m, "heads")]
    before = [[head[0].weight.clone() for head in network.heads.heads] for network in heads]
    updater.update(make_batch(1))
    for network, old in zip(heads, before, strict=True):
        if not network.trunk[0].weight.requires_grad:
            continue  # A target.
        changed = [
            not torch.equal(head[0].weight, weight)
            for head, weight in zip(network.heads.heads, old, strict=True)
        ]
        assert changed == [False, True, False, True]


# ---------------------------------------------------------------------------------- whole trainings


@pytest.fixture(scope="module")
def four_tasks(dataset: SmallDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small dataset on disk, its episodes said to be of four tasks."""
    folder = tmp_path_factory.mktemp("four")
    episodes = with_tasks(dataset.episodes)
    (folder / "steps.parquet").symlink_to(dataset.parquet / "steps.parquet")
    episodes.table.write_parquet(folder / "episodes.parquet")
    (folder / "schema.json").write_text(json.dumps(episodes.schema))
    assert open_episodes(folder).schema["tasks"] == list(NAMES)
    return folder


Jobs = Callable[..., TrainingJob]


@pytest.fixture
def make_job(four_tasks: Path, dataset: SmallDataset, tmp_path: Path) -> Jobs:
    def make(name: str, agent: dict[str, Any], **train: Any) -> TrainingJob:
        content = {"hidden": [8, 8], "learning_rate": 1e-2, **agent}
        return job_on_four_tasks(four_tasks, dataset, tmp_path, name, content, train)

    return make


def job_on_four_tasks(
    episodes: Path,
    dataset: SmallDataset,
    folder: Path,
    name: str,
    agent: dict[str, Any],
    train: dict[str, Any],
) -> TrainingJob:
    content = {"conditioning": "goal+one_hot", **agent}
    return TrainingJob(
        dataset="four",
        agent="agent",
        seed=0,
        episodes=episodes,
        hindsight=dataset.hindsight,
        train=train_settings(**train),
        settings=settings_type(agent["algorithm"]).model_validate_json(json.dumps(content)),
        checkpoints=folder / "checkpoints" / name,
        output=folder / "models" / name,
    )


STATEFUL: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"algorithm": "bc"}, {"tasks": {"weights": "uniform", "sampling": "performance"}}),
    ({"algorithm": "gofar"}, {"tasks": {"sampling": "gradient", "gradients": "pcgrad"}}),
    ({"algorithm": "gciql"}, {"tasks": {"sampling": "uncertainty"}}),
    ({"algorithm": "bc"}, {"tasks": {"gradients": "gradnorm", "sampling": "uniform"}}),
    ({"algorithm": "bc"}, {"tasks": {"gradients": "aligned_mtl"}}),
    ({"algorithm": "gciql"}, {"sequence": {"method": "ewc", "fisher_samples": 40}}),
    ({"algorithm": "gofar"}, {"sequence": {"method": "replay", "tasks": ["right", "near"]}}),
    ({"algorithm": "gciql", "task_network": "heads"}, {"sequence": {"method": "heads"}}),
]


@pytest.mark.parametrize(("agent", "train"), STATEFUL, ids=lambda part: "-".join(str(v) for v in part.values()))  # fmt: skip
def test_a_killed_run_on_several_tasks_resumes_to_the_same_bytes(
    make_job: Jobs, agent: dict[str, Any], train: dict[str, Any]
) -> None:
    whole, killed = (make_job(name, agent, **train) for name in ("whole", "killed"))
    train_seed(whole, listen)

    def killer(event: Any) -> None:
        if event.updates >= 16:
            raise KilledError

    with pytest.raises(KilledError):
        train_seed(killed, killer)
    heard: list[int] = []
    train_seed(killed, lambda event: heard.append(event.updates))
    assert min(heard) > 12
    for name in ("policy.pt", "training.csv", "gradients.parquet", "snapshots/update-00000024.pt"):
        assert (killed.output / name).read_bytes() == (whole.output / name).read_bytes()


def test_without_settings_of_tasks_nothing_changes(make_job: Jobs) -> None:
    """``tasks: {}`` measures the tasks and leaves the weights alone, bit for bit."""
    plain, measured = make_job("plain", {"algorithm": "gciql"}), make_job("measured", {"algorithm": "gciql"}, tasks={})  # fmt: skip
    for job in (plain, measured):
        train_seed(job, listen)
    assert (plain.output / "policy.pt").read_bytes() == (measured.output / "policy.pt").read_bytes()
    assert not (plain.output / "gradients.parquet").exists()
    columns = set(pl.read_csv(measured.output / "training.csv").columns)
    assert columns > set(pl.read_csv(plain.output / "training.csv").columns)
    assert {f"validation/tasks/mse/{name}" for name in NAMES} & columns


def test_gradients_are_logged_for_each_network_and_pair_of_tasks(make_job: Jobs) -> None:
    job = make_job("logged", {"algorithm": "gciql"}, tasks={"weights": "uniform"})
    train_seed(job, listen)
    table = pl.read_parquet(job.output / "gradients.parquet")
    assert table["update"].unique().sort().to_list() == [6, 12, 18, 24]
    assert set(table["network"]) == {"value", "critic", "actor"}
    assert len(table) == 4 * 3 * 16
    same = table.filter(pl.col("task_a") == pl.col("task_b"))["cosine"]
    np.testing.assert_allclose(same, 1.0, atol=1e-5)
    assert table["cosine"].is_between(-1.0, 1.0).all()
    draw_gradients([job.output, job.output / "none"], job.output)
    drawn = (job.output / "gradients.svg").read_text()
    assert all(word in drawn for word in ("value", "critic", "actor", *NAMES))


def test_the_routing_weights_of_each_task_are_those_of_the_trained_policy(make_job: Jobs) -> None:
    changed = {"task_network": "modular", "modular": {"layers": 3, "modules": 2}}
    job = make_job("routed", {"algorithm": "hiql", **changed})
    train_seed(job, listen)
    table = pl.read_parquet(job.output / "routing.parquet")
    assert set(table["network"]) == {"high", "low"}
    assert table["task"].unique(maintain_order=True).to_list() == list(NAMES)
    assert len(table) == 2 * len(NAMES) * (4 + 4 + 2)
    sums = table.group_by("network", "task", "layer", "destination").agg(pl.col("weight").sum())
    np.testing.assert_allclose(sums["weight"], 1.0, atol=1e-6)
    write_routing({3: job.output, 4: job.output / "none"}, job.output)
    seeds = pl.read_parquet(job.output / "routing.parquet")
    assert seeds.drop("seed").equals(table)
    assert set(seeds["seed"]) == {3}
    drawn = (job.output / "routing-low.svg").read_text()
    assert all(word in drawn for word in ("layer 1", "output", *NAMES))


def test_other_networks_have_no_routing_weights(make_job: Jobs) -> None:
    job = make_job("plain", {"algorithm": "bc"})
    train_seed(job, listen)
    write_routing({0: job.output}, job.output)
    assert not list(job.output.glob("routing*"))


def test_adapted_shares_are_those_of_the_error_on_validation_episodes(make_job: Jobs) -> None:
    job = make_job("shares", {"algorithm": "bc"}, tasks={"sampling": "performance"})
    train_seed(job, listen)
    curve = pl.read_csv(job.output / "training.csv").filter(
        pl.col("validation/actor/loss").is_not_null()
    )
    names = [name for name in NAMES if f"validation/tasks/mse/{name}" in curve.columns]
    shares = curve.select(f"tasks/share/{name}" for name in NAMES).to_numpy()
    np.testing.assert_allclose(shares[0], 0.25)
    np.testing.assert_allclose(shares.sum(1), 1.0, atol=1e-6)
    errors = curve.select(f"validation/tasks/mse/{name}" for name in names).to_numpy()
    known = [NAMES.index(name) for name in names]
    filled = np.full((len(errors), 4), errors.mean(1, keepdims=True))
    filled[:, known] = errors
    expected = 0.2 / 4 + 0.8 * filled / filled.sum(1, keepdims=True)
    np.testing.assert_allclose(shares[1:], expected[:-1], rtol=1e-4)


def test_elastic_weights_hold_the_policy_nearer_to_what_it_was(make_job: Jobs) -> None:
    moved = {}
    for weight in (1e-6, 1e6):
        job = make_job(f"ewc-{weight}", {"algorithm": "bc"}, sequence={"method": "ewc", "ewc_weight": weight})  # fmt: skip
        train_seed(job, listen)
        states = [
            load_policy(job.output / "snapshots" / f"update-{done:08d}.pt").actor.state_dict()
            for done in (6, 24)
        ]
        moved[weight] = sum(
            (states[0][name] - states[1][name]).square().sum() for name in states[0]
        )
    assert moved[1e6] < 0.5 * moved[1e-6]


def test_a_policy_of_every_conditioning_acts_by_the_name_of_its_task(make_job: Jobs) -> None:
    job = make_job("film", {"algorithm": "bc", "conditioning": "goal+embedding", "task_network": "film"})  # fmt: skip
    train_seed(job, listen)
    policy = load_policy(job.output)
    observation, goal = np.zeros(policy.dimensions.observation), np.zeros(policy.dimensions.goal)
    actions = [policy.act(observation, goal, name) for name in NAMES]
    assert len({action.tobytes() for action in actions}) == len(NAMES)
