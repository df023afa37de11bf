"""Transfer, cost of sharing and forgetting, computed from curves and episodes with known results."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from conftest import SmallDataset
from test_report import Project

from offline_gcrl.config.outputs import ROUTING_COLUMNS
from offline_gcrl.evaluation.results import EPISODE_COLUMNS, SeedResult, learning_curve, task_curves
from offline_gcrl.figures.routing import routing_overlap
from offline_gcrl.figures.style import STYLE
from offline_gcrl.report.findings import load_findings, sharing_models
from offline_gcrl.report.multitask_figures import sharing_figure, success_matrix_figure
from offline_gcrl.report.sharing import cost_sentences, cost_table, model_sentence
from offline_gcrl.report.writing import write_report
from offline_gcrl.statistics.contrasts import (
    paired_contrast,
    unpaired_contrast,
    wrong_identifiers,
    zero_shot,
)
from offline_gcrl.statistics.forgetting import (
    SequentialResult,
    average_success,
    backward_transfer,
    forgetting,
    sequence_metrics,
)
from offline_gcrl.statistics.transfer import (
    Curve,
    SharingCost,
    ThresholdCrossing,
    average_transfer,
    fit_sharing,
    sharing_cost,
    task_costs,
    transfers,
)
from offline_gcrl.support.errors import DataError

TASKS = ("left", "middle", "right")


def episodes(
    rates: dict[str, float], seed: int = 0, count: int = 60, update: int = 40
) -> pl.DataFrame:
    """Episodes of alternating tasks; the given share of the episodes of each task succeeds."""
    rows = []
    for number in range(count * len(rates)):
        task = list(rates)[number % len(rates)]
        success = number // len(rates) < round(rates[task] * count)
        rows.append(
            {"update": update, "episode": number, "seed": 1000 * seed + number, "task": task, "task_id": None,
             "start": [0.0, 0.0], "goal": [1.0, float(number % 7)], "held_out": False, "success": success,
             "success_any": success, "final_distance": 0.1, "return": 1.0, "discounted_return": 0.5,
             "steps_to_goal": 3 if success else None, "length": 5}
        )  # fmt: skip
    return pl.DataFrame(rows, schema=EPISODE_COLUMNS)


def alone(rates: dict[str, float], seeds: Sequence[int] = (0, 1)) -> dict[str, list[pl.DataFrame]]:
    """The same episodes with specialists of these success rates."""
    return {
        task: [episodes(rates, seed).filter(pl.col("task") == task) for seed in seeds]
        for task in rates
    }


def test_transfer_is_classified_by_its_sign() -> None:
    together = dict(zip(TASKS, (0.9, 0.5, 0.5), strict=True))
    multitask = [episodes(together, seed) for seed in (0, 1)]
    specialists = alone(dict(zip(TASKS, (0.4, 0.5, 1.0), strict=True)))
    found = transfers(multitask, specialists)
    assert [contrast.name for contrast in found] == list(TASKS)
    assert [contrast.kind for contrast in found] == ["positive", "unclear", "negative"]
    assert [contrast.difference.mean for contrast in found] == pytest.approx([0.5, 0.0, -0.5])
    for contrast in found:
        assert contrast.difference.low < contrast.difference.mean < contrast.difference.high
        assert contrast.first.low <= contrast.first.mean <= contrast.first.high
    average = average_transfer(multitask, specialists)
    assert average.difference.mean == pytest.approx(0.0)
    assert average.episodes == 360


def test_transfer_between_different_episodes_is_refused() -> None:
    multitask = [episodes({"left": 0.5, "right": 0.5})]
    other = episodes({"left": 0.5, "right": 0.5}, seed=1).filter(pl.col("task") == "left")
    with pytest.raises(DataError, match="on other episodes"):
        transfers(multitask, {"left": [other]})


def test_pairing_narrows_the_interval_of_a_difference() -> None:
    """Two conditions differ in a few episodes only: with pairing the difference is clear, without it is not."""
    one, two = episodes({"left": 0.6}, count=100), episodes({"left": 0.5}, count=100)
    paired, unpaired = paired_contrast("x", [one], [two]), unpaired_contrast("x", [one], [two])
    assert paired.difference.mean == unpaired.difference.mean == pytest.approx(0.1)
    assert paired.kind == "positive"
    assert unpaired.kind == "unclear"


def test_a_difference_is_that_of_the_rates_if_tasks_have_unequal_numbers_of_episodes() -> None:
    """30 episodes of a task, of which the condition changes 15, and 10 of one that it does not change: 0.375, not 0.25."""
    right = episodes({"left": 0.5, "right": 1.0}, count=30)
    few = right.filter((pl.col("task") == "left") | (pl.col("episode") < 20))
    wrong = few.with_columns(success=pl.col("success") & (pl.col("task") == "right"))
    contrast = paired_contrast("x", [few, few], [wrong, wrong])
    assert contrast.first.mean == pytest.approx(25 / 40)
    assert contrast.second.mean == pytest.approx(10 / 40)
    assert contrast.difference.mean == pytest.approx(15 / 40)
    assert contrast.difference.low < 15 / 40 < contrast.difference.high


def test_the_effect_of_a_wrong_identifier_uses_the_same_episodes() -> None:
    right = [episodes({"left": 1.0, "right": 0.5}, seed, count=20) for seed in (0, 1)]
    wrong = [table.head(10).with_columns(success=False, wrong=pl.lit("goal")) for table in right]
    (contrast,) = wrong_identifiers(right, wrong)
    assert contrast.first.mean == 1.0  # Of the first ten alone, where both succeed.
    assert contrast.second.mean == 0.0
    assert contrast.difference.mean == 1.0
    assert contrast.kind == "positive"
    assert contrast.episodes == 20


def test_seeds_can_lack_tasks_or_all_episodes_of_a_wrong_identifier() -> None:
    right = [episodes({"left": 1.0, "right": 0.5}, seed, count=4) for seed in (0, 1, 2)]
    wrong = [table.with_columns(success=False, wrong=pl.lit("goal")) for table in right]
    wrong[1] = wrong[1].filter(pl.col("task") == "left")
    wrong[2] = wrong[2].clear()
    (contrast,) = wrong_identifiers(right, wrong)
    assert contrast.first.mean == pytest.approx((0.75 + 1.0) / 2)
    assert contrast.difference.mean == pytest.approx(contrast.first.mean)
    assert contrast.episodes == 12


def test_tasks_are_not_pooled_where_their_goals_are_held_out_unequally() -> None:
    """Without an effect of held-out goals, pooled tasks would have 0.1 of the seen and 0.5 of the unseen goals."""
    rates = {"easy": 1.0, "hard": 0.0}
    every = episodes(rates, count=50)
    easy = (pl.col("task") == "easy") & (pl.col("episode") >= 10)
    held_out = episodes(rates, seed=9, count=50).with_columns(held_out=True)
    found = zero_shot([every.with_columns(held_out=easy)], [held_out])
    assert list(found) == ["easy", "hard"]
    assert [contrast.difference.mean for contrast in found.values() if contrast] == [0.0, 0.0]


def test_a_threshold_that_is_met_exactly_is_reached() -> None:
    curve = Curve(np.array([10.0, 20.0, 30.0]), np.array([[0.2, 0.6, 0.6]]))
    crossing = curve.reaches(0.8 * 0.75)  # 0.6000000000000001
    assert crossing is not None
    assert crossing.updates == pytest.approx(20.0)


def test_seen_goals_are_those_of_the_final_evaluation_outside_the_region() -> None:
    every = [episodes({"left": 0.5}).with_columns(held_out=~pl.col("success"))]
    held_out = [episodes({"left": 0.25}, seed=9).with_columns(held_out=True)]
    (contrast,) = zero_shot(every, held_out).values()
    assert contrast is not None
    assert contrast.first.mean == 1.0
    assert contrast.second.mean == 0.25
    assert contrast.difference.low > 0.5


def test_seeds_without_episodes_of_seen_goals_are_left_out_of_the_comparison() -> None:
    seen = episodes({"left": 0.5}, seed=0).with_columns(held_out=False)
    unseen = [episodes({"left": 0.25}, seed).with_columns(held_out=True) for seed in (0, 1)]
    (contrast,) = zero_shot([seen, unseen[1]], unseen).values()
    assert contrast is not None
    assert (contrast.first.mean, contrast.episodes) == (0.5, len(unseen[0]))
    assert zero_shot(unseen, unseen) == {"left": None}


def rising(needed: float, final: float = 1.0, seeds: int = 3) -> Curve:
    """Success that rises linearly and reaches 0.8 of its final value after the needed updates."""
    updates = np.linspace(100, 20_000, 200)
    success = final * np.minimum(1.0, 0.8 * updates / needed)
    return Curve(updates, np.tile(success, (seeds, 1)))


def cost_of(
    multitask: dict[str, Curve], specialists: dict[str, Curve], finals: dict[str, float]
) -> SharingCost | None:
    costs = task_costs(multitask, specialists, finals)
    return sharing_cost(multitask, specialists, costs, batch_size=256)


@pytest.mark.parametrize(
    ("shared", "interference"), [(0.7, 1.5), (0.3, 1.0), (1.0, 2.0), (0.5, 3.0)]
)
def test_the_cost_model_recovers_known_f_and_c(shared: float, interference: float) -> None:
    """Curves generated by the model for suites of 2, 5 and 10 tasks."""
    needed, costs = 400.0, []
    for count in (2, 5, 10):
        together = interference * needed * shared + count * (1 - shared) * needed
        names = [f"task-{number}" for number in range(count)]
        cost = cost_of(
            {name: rising(together) for name in names},
            {name: rising(needed) for name in names},
            dict.fromkeys(names, 1.0),
        )
        assert cost is not None
        assert (cost.specialist, cost.multitask) == pytest.approx((needed, together), rel=1e-6)
        assert cost.ratio.low == pytest.approx(cost.ratio.high)  # All seeds are the same.
        assert cost.least_shared <= shared + 1e-9
        assert cost.most_interference >= interference * shared - 1e-9
        costs.append(cost)
    model = fit_sharing(costs)
    assert model is not None
    assert model.interference is not None
    for found, expected in ((model.shared, shared), (model.interference, interference)):
        assert (found.low, found.mean, found.high) == pytest.approx([expected] * 3, rel=1e-6)


def suite_cost(tasks: int, factors: Sequence[float], needed: float = 400.0) -> SharingCost:
    """The cost of a suite whose multi-task policy needs this multiple of a specialist's updates in each seed."""
    names = [f"task-{number}" for number in range(tasks)]
    curves = [rising(factor * needed, seeds=1) for factor in factors]
    together = Curve(curves[0].updates, np.concatenate([curve.success for curve in curves]))
    alone = rising(needed, seeds=len(factors))
    cost = cost_of(
        dict.fromkeys(names, together), dict.fromkeys(names, alone), dict.fromkeys(names, 1.0)
    )
    assert cost is not None
    return cost


def test_one_suite_does_not_determine_f_and_c() -> None:
    assert fit_sharing([suite_cost(10, [4.0])]) is None
    assert fit_sharing([suite_cost(10, [4.0]), suite_cost(10, [5.0])]) is None


def test_seeds_that_differ_widen_the_intervals_of_f_and_c() -> None:
    narrow = fit_sharing([suite_cost(2, [1.9, 2.0, 2.1]), suite_cost(8, [3.4, 3.5, 3.6])])
    wide = fit_sharing([suite_cost(2, [1.5, 2.0, 2.5]), suite_cost(8, [2.5, 3.5, 4.5])])
    assert narrow is not None
    assert wide is not None
    assert narrow.shared.mean == pytest.approx(0.75, abs=0.01)
    for model in (narrow, wide):
        assert model.shared.low < model.shared.mean < model.shared.high
    assert wide.shared.high - wide.shared.low > 2 * (narrow.shared.high - narrow.shared.low)
    assert narrow.interference is not None
    assert narrow.interference.low < 2.0 < narrow.interference.high


def test_interference_is_not_determined_if_nothing_may_be_shared() -> None:
    model = fit_sharing([suite_cost(4, [4.0, 4.2, 4.4]), suite_cost(2, [2.0, 2.1, 2.2])])
    assert model is not None
    assert model.shared.low < 0.0
    assert model.interference is None
    assert [cost.tasks for cost in model.costs] == [2, 4]
    assert "c is not determined, because f may be zero" in model_sentence("bc", model)
    drawn = sharing_figure({"bc": model})
    (label,) = [label for label in drawn.legends[0].get_texts() if "bc" in label.get_text()]
    assert label.get_text() == "bc: $f$ = -0.05"


def test_a_task_that_is_never_learned_is_left_out_and_reported() -> None:
    names = ("left", "right")
    together = {"left": rising(900.0), "right": rising(900.0, final=0.5)}
    specialists = {name: rising(300.0) for name in names}
    cost = cost_of(together, specialists, dict.fromkeys(names, 1.0))
    assert cost is not None
    assert (cost.compared, cost.tasks) == (1, 2)
    assert cost.costs[1].multitask is None
    assert cost.ratio.mean == pytest.approx(3.0)
    said = " ".join(cost_sentences(cost))
    assert "known for 1 of 2 tasks" in said
    assert "If all tasks needed as many, 2 specialists would need 600 updates" in said
    assert "nothing was shared" in said
    known = cost_of(dict.fromkeys(names, rising(450.0)), specialists, dict.fromkeys(names, 1.0))
    (_, total, _) = cost_sentences(known)
    assert total.startswith(
        "2 specialists need 600 updates together. The multi-task policy needs 75% of that, which is 1.50 ["
    )
    nothing = {name: rising(300.0, final=0.0) for name in names}
    assert cost_of(together, nothing, dict.fromkeys(names, 0.0)) is None


def test_learning_before_the_first_snapshot_gives_only_a_bound() -> None:
    """Two curves that start at their maximum differ only in the positions of their snapshots."""
    multitask = {"left": Curve(np.array([4000.0, 8000.0]), np.ones((2, 2)))}
    specialists = {"left": Curve(np.array([1000.0, 2000.0]), np.ones((2, 2)))}
    (cost,) = task_costs(multitask, specialists, {"left": 1.0})
    assert cost.ratio is None
    assert cost.specialist == ThresholdCrossing(1000.0, at_first_snapshot=True)
    assert cost_table("mazes", "bc", [cost]).rows[0][2:] == [
        "at most 1,000",
        "at most 4,000",
        "unknown",
    ]
    assert cost_of(multitask, specialists, {"left": 1.0}) is None
    assert "More snapshots would help" in cost_sentences(None)[0]


def test_a_threshold_is_interpolated_between_snapshots() -> None:
    curve = Curve(np.array([100.0, 200.0]), np.array([[0.0, 0.5], [0.4, 0.7]]))
    assert curve.reaches(0.4) == ThresholdCrossing(pytest.approx(150.0), at_first_snapshot=False)
    assert curve.reaches(0.1) == ThresholdCrossing(100.0, at_first_snapshot=True)
    assert curve.reaches(0.61) is None
    other = curve.reaches(0.65, np.array([1, 1]))
    assert other is not None
    assert other.updates == pytest.approx(100 + 100 * 0.25 / 0.3)


MATRIX = np.array([[0.8, 0.0, 0.1], [0.5, 0.9, 0.1], [0.2, 0.6, 1.0]])


def test_metrics_of_forgetting_are_those_of_their_papers() -> None:
    assert average_success(MATRIX) == pytest.approx((0.2 + 0.6 + 1.0) / 3)
    assert backward_transfer(MATRIX) == pytest.approx(((0.2 - 0.8) + (0.6 - 0.9)) / 2)
    assert forgetting(MATRIX) == pytest.approx(((0.8 - 0.2) + (0.9 - 0.6)) / 2)
    regained = np.array([[0.5, 0.0, 0.0], [0.9, 0.5, 0.0], [0.7, 0.5, 1.0]])
    assert backward_transfer(regained) == pytest.approx(0.1)  # Above what it was when learned,
    assert forgetting(regained) == pytest.approx(0.1)  # and below its best.


def test_the_success_matrix_is_taken_at_the_ends_of_phases() -> None:
    boundaries = (20, 40, 60)
    snapshots = [
        episodes(dict(zip(TASKS, row, strict=True)), count=10, update=update)
        for row, update in zip(MATRIX, boundaries, strict=True)
    ]
    between = episodes(dict.fromkeys(TASKS, 0.3), count=10, update=30)
    curves = task_curves(pl.concat([*snapshots, between]))
    found = sequence_metrics([curves, curves], TASKS, boundaries)
    np.testing.assert_allclose(found.matrix, [MATRIX, MATRIX])
    for name, value in (
        ("average_success", 0.6),
        ("backward_transfer", -0.45),
        ("forgetting", 0.45),
    ):
        figure = found.metrics[name]
        assert figure.mean == pytest.approx(value)
        assert figure.low < value < figure.high
    certain = task_curves(
        pl.concat([episodes(dict.fromkeys(TASKS, 1.0), count=10, update=u) for u in boundaries])
    )
    kept = sequence_metrics([certain, certain], TASKS, boundaries).metrics
    assert kept["average_success"].mean == 1.0
    assert 0.8 < kept["average_success"].low < 1.0  # Twenty episodes of each are no certainty.
    assert kept["forgetting"].low <= 0.0 < kept["forgetting"].high
    with pytest.raises(DataError, match="no snapshot after update 50"):
        sequence_metrics([curves], TASKS, (20, 40, 50))


def test_the_figure_of_forgetting_has_the_order_of_tasks_of_each_agent() -> None:
    def trained_in(order: tuple[str, ...]) -> SequentialResult:
        ends = tuple(range(10, 10 * len(order) + 1, 10))
        return SequentialResult(order, ends, np.eye(len(order))[None], {})

    agents = {"a": trained_in(("left", "middle")), "b": trained_in(("right", "left", "middle"))}
    panels = success_matrix_figure(agents).axes
    labels = [[label.get_text() for label in axes.get_xticklabels()] for axes in panels]
    assert labels == [["left", "middle"], ["right", "left", "middle"]]


def test_noise_alone_is_no_forgetting() -> None:
    """The best of several noisy rates is above the last one, in 10 tasks and 10 episodes by 0.07 or more."""
    tasks, random = [f"task {number}" for number in range(10)], np.random.default_rng(0)
    curves = [
        pl.DataFrame(
            {"task": task, "update": update, "mean": random.binomial(10, 0.5) / 10, "episodes": 10}
            for task in tasks
            for update in range(10)
        )
        for _ in range(3)
    ]
    found = sequence_metrics(curves, tasks, range(10)).metrics["forgetting"]
    assert found.low < 0.0 < 0.05 < found.mean < found.high


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory, dataset: SmallDataset) -> Path:
    """A report on a suite of three tasks, with synthetic probes."""
    project = Project(tmp_path_factory.mktemp("suite"), dataset)
    name = "pointmaze-suite"
    tasks = ("pointmaze-umaze", "pointmaze-medium", "pointmaze-large")
    project.add_data(name)
    for seed in (0, 1):
        add_results(project.folders.results / name / "bc", seed, tasks)
    shares = dict(zip(tasks, (0.2, 0.5, 0.9), strict=True))
    tables = [routing(tasks, shares, seed) for seed in (0, 1)]
    pl.concat(tables).write_parquet(project.folders.results / name / "bc/routing.parquet")
    params = project.params([name], ["bc"])
    datasets, results = project.datasets(params), project.results(params)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(STYLE, "figure.constrained_layout.use", False)  # The texts are tested here.
        write_report(params, datasets, results, project.folders, project.root / "reports")
    findings = load_findings(params, datasets[name], results[name], project.folders.results / name)
    assert sharing_models({name: findings}) == {}  # One suite is not enough.
    return project.root / "reports"


def add_results(folder: Path, seed: int, tasks: Sequence[str]) -> None:
    """Results of a multi-task policy, of specialists that are better on the last task, and of the other probes."""

    def evaluated(level: float, **how: int) -> pl.DataFrame:
        rates = dict(zip(tasks, (0.9 * level, 0.7 * level, 0.5 * level), strict=True))
        return episodes(rates, seed, **how)

    snapshots = pl.concat([evaluated(0.5, update=20), evaluated(1.0, update=40)])
    final = evaluated(1.0)
    result = SeedResult(final, learning_curve(snapshots), task_curves(snapshots))
    result.write(folder / f"seed-{seed}")
    better = episodes(dict(zip(tasks, (0.9, 0.7, 1.0), strict=True)), seed)
    for task in tasks:
        own = better.filter(pl.col("task") == task)
        SeedResult(own, learning_curve(own)).write(folder / "specialists" / task / f"seed-{seed}")
    wrong = final.head(30).with_columns(success=False, wrong=pl.lit("task"))
    wrong.write_parquet(folder / f"seed-{seed}/wrong_identifier.parquet")
    final.head(30).with_columns(held_out=True).write_parquet(
        folder / f"seed-{seed}/held_out.parquet"
    )
    told = [
        final.with_columns(set=pl.lit("phrasing"), given=pl.lit("sentence")),
        final.with_columns(success=False, set=pl.lit("seen"), given=pl.lit("none")),
    ]
    pl.concat(told).write_parquet(folder / f"seed-{seed}/instructed.parquet")


def test_the_report_shows_the_routing_weights_of_modular_policies(reported: Path) -> None:
    table = pl.read_csv(reported / "routing.csv")
    assert set(table["agent"]) == {"bc"}
    assert len(table) == 2 * 3 * (4 + 2)
    assert (reported / "figures/routing-pointmaze-suite-bc-actor.svg").exists()
    page = (reported / "index.html").read_text()
    assert "Modules of bc" in page
    assert "Routing weight of bc that tasks have in common" in page


def test_tasks_have_the_smaller_routing_weights_in_common_whatever_the_order_of_modules() -> None:
    first = routing(["a", "b"], {"a": 0.9, "b": 0.4})
    swapped = first.with_columns(source=3 - pl.col("source"), seed=pl.lit(1, pl.Int64))
    expected = [[1.0, 0.5], [0.5, 1.0]]  # min(.9, .4) + min(.1, .6)
    np.testing.assert_allclose(routing_overlap(first), expected)
    np.testing.assert_allclose(routing_overlap(pl.concat([first, swapped])), expected)


def routing(tasks: Sequence[str], weights: dict[str, float], seed: int = 0) -> pl.DataFrame:
    """Routing weights of two layers of two modules, with this weight of the first source everywhere."""
    rows = [
        ("actor", task, layer, destination, source, weights[task] if source == 1 else 1 - weights[task], seed)
        for task in tasks
        for layer, destination in ((1, 1), (1, 2), (2, 1))
        for source in (1, 2)
    ]  # fmt: skip
    return pl.DataFrame(rows, {**ROUTING_COLUMNS, "seed": int}, orient="row")


def test_the_report_shows_every_task_separately(reported: Path) -> None:
    metrics = json.loads((reported / "metrics.json").read_text())["pointmaze-suite"]["bc"]
    assert set(metrics["tasks"]) == {"pointmaze-umaze", "pointmaze-medium", "pointmaze-large"}
    rate = metrics["tasks"]["pointmaze-large"]["success_rate"]
    assert (rate["mean"], rate["episodes"], rate["seeds"]) == (0.5, 120, 2)
    table = pl.read_csv(reported / "tasks.csv")
    own = table.filter(pl.col("task") == "pointmaze-umaze", pl.col("metric") == "success_rate")
    assert own["mean"].to_list() == [0.9]


def test_the_report_shows_the_success_with_sentences_in_each_task(reported: Path) -> None:
    table = pl.read_csv(reported / "tables/sentences-tasks-pointmaze-suite.csv")
    assert table["task"].to_list() == ["pointmaze-umaze", "pointmaze-medium", "pointmaze-large"]
    umaze = "| bc | pointmaze-umaze | 0.90 ["
    _, _, text = (reported / "multitask.md").read_text().partition("### Sentences in each task")
    (line,) = [line for line in text.splitlines() if line.startswith(umaze)]
    assert "| 0.00 [" in line
    assert (
        "Success of policies with sentences in each task" in (reported / "index.html").read_text()
    )


def test_the_report_shows_transfer_costs_and_controls(reported: Path) -> None:
    text = (reported / "multitask.md").read_text()
    large = next(line for line in text.splitlines() if line.startswith("| pointmaze-large"))
    assert large.startswith("| pointmaze-large | 0.50 [")
    assert large.endswith("| negative |")
    assert "| bc | another task | " in text
    assert "A task counts as learned at 80% of its specialist's final success." in text
    page = (reported / "index.html").read_text()
    for heading in ("bc compared with its specialists", "Wrong identifiers", "Unseen goals"):
        assert heading in page
    for name in ("tasks-pointmaze-suite", "transfer-pointmaze-suite-bc"):
        assert (reported / f"figures/{name}.svg").read_text().count("<path") > 10
