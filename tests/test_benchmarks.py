"""The arithmetic of benchmarks: medians, verdicts, CPU time of workers. No test asserts a time."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import SmallDataset

from benchmarks import agents, claims, gpu, harness, run
from benchmarks.harness import Measurement, compare, cpu_seconds
from benchmarks.training import Size, lightning_share, plan
from offline_gcrl.support.processes import ordered_map


def spend(seconds: float) -> int:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return 1


def test_a_row_has_the_median_the_spread_and_the_verdict() -> None:
    figure = Measurement("relabel", [3.5, 2.0, 4.0], at_least=3.0)
    assert figure.median == 3.5
    assert "| **3.5** times (2 to 4) | at least 3 | met |" in figure.row()
    assert Measurement("share", [11.0], "us", at_most=10.0).verdict == "**missed**"
    assert Measurement("cost", [11.0], "us").verdict == ""


def test_a_skipped_measurement_has_a_reason_and_no_verdict() -> None:
    row = Measurement("torchrl", [], at_least=1.0, skipped="not installed").row()
    assert "skipped: not installed" in row
    assert "met" not in row


def test_a_skipped_measurement_never_replaces_earlier_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "part.json"
    monkeypatch.setattr(sys, "argv", ["part", "--json", str(target)])
    measured, skipped = Measurement("a", [1.0]), Measurement("b", [], skipped="not installed")
    for rows, kept in (
        ([skipped], ["b"]),
        ([measured, skipped], ["a", "b"]),
        ([skipped], ["a", "b"]),
    ):
        harness.main("Title.", lambda rows=rows: iter(rows))
        assert [row["name"] for row in json.loads(target.read_text())["measurements"]] == kept


def test_a_comparison_uses_work_per_cpu_second(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 0.0

    def takes(seconds: float) -> float:
        nonlocal clock
        clock += seconds
        return 10.0

    monkeypatch.setattr(harness, "_worker_seconds", lambda: 0.0)
    monkeypatch.setattr("time.process_time", lambda: clock)
    figure = compare("x", lambda: takes(4.0), lambda: takes(1.0), unit="rows", rounds=3)
    assert figure.values == [4.0, 4.0, 4.0]
    assert figure.detail == "plain 2.5 rows/CPU-s, ours 10 rows/CPU-s"


def test_the_time_of_workers_counts_while_they_run_and_after_they_end() -> None:
    before = cpu_seconds()
    results = ordered_map(spend, [0.2, 0.2], workers=2)
    assert next(results) + next(results) == 2
    assert cpu_seconds() - before >= 0.3  # The clock of processes has ticks of 0.01 s.
    assert list(results) == []
    assert cpu_seconds() - before >= 0.3


def test_measurements_are_collected_in_one_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measurements() -> Iterator[Measurement]:
        yield Measurement("ingest", [4.5], at_least=4.0, detail="a, b")
        yield Measurement("open", [70.0], at_least=80.0)

    path = tmp_path / "ingest.json"
    monkeypatch.setattr(sys, "argv", ["ingest", "--json", str(path)])
    harness.main("Ingest: Minari to Parquet.", measurements)
    page = run.markdown([json.loads(path.read_text())])
    assert "## Ingest: Minari to Parquet." in page
    assert "| ingest | **4.5** times | at least 4 | met | a, b |" in page
    assert "| open | **70** times | at least 80 | **missed** |" in page
    assert "polars" in page


def test_the_gpu_benchmark_trains_alone_and_stacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "HIDDEN", [8])
    gpu.make_data(tmp_path, episodes=3, length=20)
    asked: dict[str, object] = {"accelerator": "cpu", "seeds_together": "stacked"}
    for seeds in (1, 2):
        content = asked | {"updates": 20, "batch_size": 8}
        assert gpu.seconds(tmp_path, "bc", seeds, content) > 0.0


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("walk")
    gpu.make_data(folder, episodes=3, length=20)
    return folder


@pytest.mark.parametrize("algorithm", ["bc", "gofar", "svl"])
def test_the_cost_of_an_agent_is_compared_with_that_of_its_passes(
    algorithm: str, walk: Path
) -> None:
    size = Size("batch 8, 1x8", 8, [8], 1)
    figure = agents.cost(algorithm, size, walk, plan(), rounds=1)
    assert figure.median > 0.0
    assert figure.name.startswith(f"{algorithm}, batch 8, 1x8: ")


def test_passes_are_counted_in_forward_and_backward_products(walk: Path) -> None:
    """Behaviour cloning has one forward pass, and gradients of all weights but none of the network's input."""
    size = Size("batch 8, 2x16", 8, [16, 16], 1)
    settings = agents.of_size("bc", size)
    inputs, layer, output = 56 * 16, 16 * 16, 16 * 5
    products = 2 * inputs + 3 * layer + 3 * output
    passes = agents.count(settings, agents.make_batch(walk, settings, 8), size)
    assert passes == pytest.approx(products / (inputs + layer + 16))


def test_the_share_of_random_positions_at_a_goal_is_the_volume_of_its_sphere() -> None:
    found = claims.share_in_cube(True, 0.2, 400_000).mean
    assert found == pytest.approx(claims.sphere(0.2), rel=0.03)
    # Parts of spheres around goals near the border are outside of the cube.
    assert claims.share_in_cube(False, 0.2, 400_000).mean < found


def test_labels_are_compared_with_the_share_of_relabelled_transitions(
    dataset: SmallDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "KS", (4,))
    monkeypatch.setattr(claims, "load_dataset", lambda name: dataset.resolved)
    (tmp_path / "small").symlink_to(dataset.parquet)
    *_, row = claims.labels(tmp_path, ["small"])
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[2:4] == ["4", "80.0%"]
    positive, future, original, exact = (float(cell.rstrip("%")) for cell in cells[4:])
    assert positive == pytest.approx((4 * future + original) / 5, abs=0.1)
    assert 0.0 < exact < positive < 80.0


def test_the_behaviour_of_a_dataset_has_a_success_rate_per_source(dataset: SmallDataset) -> None:
    found = claims.behaviour(dataset.resolved, dataset.minari)
    assert [kind for kind, *_ in found] == [
        "exploration, at any step",
        "demonstration, at any step",
    ]


def test_the_share_of_the_loop_is_measured_with_the_loop_of_training() -> None:
    (share,) = lightning_share(rounds=1, updates=200).values
    assert share > 0.0
