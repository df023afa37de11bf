"""Running out of memory ends in a sentence that says how much was needed and how much is free."""

import errno
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pytest
import torch
from conftest import SmallDataset

from offline_gcrl.episodes.dataset import open_episodes
from offline_gcrl.policies.saved import read_content, write_content
from offline_gcrl.support import memory
from offline_gcrl.support.errors import OfflineGCRLError
from offline_gcrl.support.memory import (
    _left_in_container,
    free_memory,
    in_gib,
    is_out_of_memory,
    memory_sentence,
    require_memory,
    stage_remark,
    workers_remark,
)
from offline_gcrl.support.processes import ordered_map
from offline_gcrl.support.terminal import stage

MUCH = 2**52
REQUESTS: dict[str, Callable[[], object]] = {
    "NumPy": lambda: np.empty(MUCH, np.uint8),
    "Arrow": lambda: pa.allocate_buffer(MUCH),
    "torch": lambda: torch.empty(MUCH, dtype=torch.uint8),
}


def error_of(request: Callable[[], object]) -> BaseException:
    with pytest.raises((MemoryError, RuntimeError)) as caught:
        request()
    return caught.value


@pytest.mark.parametrize("library", REQUESTS)
def test_the_sentence_says_how_much_was_needed_and_is_free(library: str) -> None:
    error = error_of(REQUESTS[library])
    assert is_out_of_memory(error)
    sentence = memory_sentence(error)
    assert sentence.startswith("there is not enough memory: 4,194,304.0 GiB more were needed, ")
    assert " iB are free; use fewer episodes" in sentence.replace("G", " ").replace("M", " ")


def test_the_memory_of_a_gpu_is_named() -> None:
    error = RuntimeError(
        "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79 GiB of which 5.50 MiB is free."
    )
    error = type("OutOfMemoryError", (RuntimeError,), {})(str(error))
    assert is_out_of_memory(error)
    assert memory_sentence(error).startswith(
        "there is not enough memory of the GPU: 20.0 MiB more were needed, 5.50 MiB are free;"
    )


def test_an_error_without_a_size_and_the_error_of_the_system_are_known() -> None:
    assert memory_sentence(MemoryError()).startswith("there is not enough memory, ")
    assert is_out_of_memory(OSError(errno.ENOMEM, "Cannot allocate memory"))


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), ValueError("size 3"), OfflineGCRLError("allocate memory")])  # fmt: skip
def test_other_errors_are_not_about_memory(error: Exception) -> None:
    assert not is_out_of_memory(error)


def test_a_stage_ends_with_the_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), stage("train", "all"):
        REQUESTS["NumPy"]()
    assert "error: there is not enough memory: " in capsys.readouterr().err


@pytest.fixture
def limited() -> Iterator[int]:
    """This process may use 200 MiB more."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    left = 200 * 2**20
    used = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (used + left, before[1]))
    yield left
    resource.setrlimit(resource.RLIMIT_AS, before)


def test_the_limit_of_the_process_counts(limited: int) -> None:
    assert abs(free_memory() - limited) < 2**24
    with pytest.raises(
        OfflineGCRLError, match="^this needs 1.0 GiB of memory, and 0.2 GiB are free"
    ):
        require_memory(2**30, "this")
    require_memory(2**20, "this")


def test_the_limit_of_a_container_counts_without_its_cache(tmp_path: Path) -> None:
    assert _left_in_container(tmp_path) == []
    for name, text in {"max": "1000", "current": "900", "stat": "file 500\ninactive_file 300\n"}.items():  # fmt: skip
        (tmp_path / f"memory.{name}").write_text(text)
    assert _left_in_container(tmp_path) == [400]
    (tmp_path / "memory.max").write_text("max\n")
    assert _left_in_container(tmp_path) == []


def test_a_dataset_that_does_not_fit_is_refused_before_it_is_read(
    dataset: SmallDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda: 2**10)
    with pytest.raises(OfflineGCRLError, match="steps.parquet: opening it needs .* MiB of memory"):
        open_episodes(dataset.parquet)


def test_more_workers_than_memory_allows_get_a_remark_before_they_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert workers_remark(1) == ""
    monkeypatch.setattr(memory, "free_memory", lambda: 200 * 2**20)
    assert list(ordered_map(abs, [-1], workers=1)) == [1]
    assert capsys.readouterr().out == ""
    assert list(ordered_map(abs, [-1], workers=2)) == [1]
    said = " ".join(capsys.readouterr().out.split())
    assert "2 worker processes take about 0.3 GiB of memory, and 0.2 GiB are free" in said


def test_a_stage_says_before_it_starts_that_memory_may_run_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(title: str) -> str:
        with stage(title, "all"):
            return " ".join(capsys.readouterr().out.split())

    assert "of memory" not in said("evaluate")
    monkeypatch.setattr(memory, "free_memory", lambda: 300 * 2**20)
    assert (
        "the stage takes about 0.4 GiB of memory, and 0.3 GiB are free; if it is killed, use fewer"
        in said("evaluate")
    )
    assert "of memory" not in said("train")  # It predicts the size of its data.


def test_the_memory_of_a_stage_grows_with_episodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda: 2**30)
    assert stage_remark("relabel", 10**6) == ""
    assert stage_remark("relabel", 10**7).startswith(
        "the stage takes about 2.1 GiB of memory, and 1.0"
    )
    assert stage_remark("ingest", 10**6).startswith("the stage takes about 1.3 GiB of memory")


def test_a_checkpoint_is_not_called_damaged_for_want_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_content(tmp_path / "last.ckpt", {"round": 1})
    error = error_of(REQUESTS["torch"])

    def load(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(RuntimeError, match="allocate memory"):
        read_content(tmp_path / "last.ckpt")


def test_sizes_are_readable() -> None:
    assert [in_gib(size) for size in (2**20, 2**30, 3 * 2**39)] == ["1.0 MiB", "1.0 GiB", "1,536.0 GiB"]  # fmt: skip
