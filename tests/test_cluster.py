"""Tasks on a cluster give the results of local processes, also if a node dies; an error is a sentence."""

import errno
import hashlib
import os
import pickle
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, SmallDataset
from test_training import Jobs, make_job  # noqa: F401 - a fixture

from offline_gcrl.collect.collector import EpisodeJob, collect_episode
from offline_gcrl.config import Evaluate
from offline_gcrl.evaluation.jobs import FINAL, episode_jobs
from offline_gcrl.evaluation.rollouts import run_episode
from offline_gcrl.support import cluster as chosen
from offline_gcrl.support.errors import DataError, OfflineGCRLError
from offline_gcrl.support.processes import ordered_map
from offline_gcrl.training.jobs import train_seeds

EPISODES = 200


class TwoNodes:
    """A cluster of two nodes of one core each, on this machine."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        options = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False}
        self.cluster = Cluster(initialize_head=True, head_node_args=options)
        options.pop("include_dashboard")
        self.second = self.cluster.add_node(**options)

    def kill_second(self) -> None:
        self.cluster.remove_node(self.second, allow_graceful=False)

    def shutdown(self) -> None:
        import ray

        ray.shutdown()
        self.cluster.shutdown()


@pytest.fixture(scope="module")
def nodes() -> Iterator[TwoNodes]:
    pytest.importorskip("ray", reason="the extra 'cluster' is not installed")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RAY_USAGE_STATS_ENABLED", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"):
            patch.setenv(name, "0")
        patch.setenv("RAY_AUTH_MODE", "disabled")
        started = TwoNodes()
        patch.setenv(chosen.ADDRESS, started.cluster.address)
        yield started
        started.shutdown()


def digest(results: Iterable[Any], after: int = -1, then: Any = None) -> str:
    total, count = hashlib.sha256(), 0
    for result in results:
        total.update(pickle.dumps(result))
        count += 1
        if count == after:
            then()
    assert count == EPISODES
    return total.hexdigest()


def locally(function: Any, jobs: list[Any]) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(chosen.ADDRESS, raising=False)
        return digest(ordered_map(function, jobs, 2))


def refuse(number: int) -> int:
    if number == 3:
        raise DataError("episode 3: is broken; delete it")
    return number


def die(number: int) -> int:
    os._exit(1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")
class TestOnTwoNodes:
    def test_an_error_of_the_package_ends_the_work_with_its_own_sentence(
        self, nodes: TwoNodes
    ) -> None:
        with pytest.raises(DataError) as caught:
            list(ordered_map(refuse, range(9), 2))
        assert str(caught.value) == "episode 3: is broken; delete it"

    def test_a_task_that_dies_each_time_ends_the_work_with_a_sentence(
        self, nodes: TwoNodes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(chosen.RETRIES, "1")
        with pytest.raises(OfflineGCRLError, match="died 2 times at the same task"):
            list(ordered_map(die, [0], 1))

    def test_seeds_have_the_same_weights_as_in_local_processes(
        self,
        nodes: TwoNodes,
        make_job: Jobs,  # noqa: F811
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        remote, local = make_job("remote/x", "bc"), make_job("local/x", "bc")
        heard: list[int] = []
        train_seeds([remote], lambda event: heard.append(event.updates))
        monkeypatch.delenv(chosen.ADDRESS)
        train_seeds([local], lambda event: None)
        for name in ("policy.pt", "training.csv"):
            assert (remote.output / name).read_bytes() == (local.output / name).read_bytes()
        assert heard[-1] == remote.train.updates

    def test_a_node_that_is_killed_changes_no_episode(
        self,
        nodes: TwoNodes,
        dataset: SmallDataset,
        make_job: Jobs,  # noqa: F811
    ) -> None:
        recipe = dataset.recipe
        assert recipe.environment is not None
        collect = recipe.sources[0].collect
        collected = [
            EpisodeJob(recipe.environment, collect, recipe.goal.desired, n) for n in range(EPISODES)
        ]
        policy = make_job("policy/x", "bc")
        train_seeds([policy], lambda event: None)
        settings = Evaluate(episodes=EPISODES)
        evaluated = episode_jobs(policy.output, dataset.resolved, settings, 0, FINAL)
        expected = locally(collect_episode, collected), locally(run_episode, evaluated)
        found = (
            digest(ordered_map(collect_episode, collected, 2), EPISODES // 2, nodes.kill_second),
            digest(ordered_map(run_episode, evaluated, 2)),
        )
        assert found == expected


def test_a_cluster_without_ray_is_refused_with_the_extra_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(chosen.ADDRESS, "auto")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(OfflineGCRLError, match=r"RAY_ADDRESS is 'auto', and Ray is not installed"):
        list(ordered_map(refuse, [0], 1))


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A port of this machine at which something answers; no cluster is chosen."""
    for name in (chosen.ADDRESS, chosen.RETRIES, chosen.ORIGIN):
        monkeypatch.setenv(name, "")  # So that it is as before in the end.
        monkeypatch.delenv(name)
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_the_variable_goes_before_the_setting(
    port: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen.use_cluster(None, 3)
    assert not chosen.is_chosen()
    address = "{}:{}".format(*port.getsockname())
    monkeypatch.setenv(chosen.ADDRESS, address)
    chosen.use_cluster("auto", 3)
    assert os.environ[chosen.ADDRESS] == address


@pytest.mark.parametrize("prefix", ["", "ray://"])
@pytest.mark.parametrize("of_variable", [False, True])
def test_an_address_at_which_nothing_answers_is_refused_at_once(
    port: socket.socket, monkeypatch: pytest.MonkeyPatch, prefix: str, of_variable: bool
) -> None:
    address = prefix + "{}:{}".format(*port.getsockname())
    port.close()
    if of_variable:
        monkeypatch.setenv(chosen.ADDRESS, address)
    began = time.monotonic()
    with pytest.raises(OfflineGCRLError) as caught:
        chosen.use_cluster(None if of_variable else address, 3)
    assert time.monotonic() - began < chosen.SECONDS_TO_CONNECT + 1
    said = (
        ("the environment variable RAY_ADDRESS", "unset RAY_ADDRESS")
        if of_variable
        else ("cluster.address in params.yaml", "leave it out")
    )
    assert str(caught.value) == (
        f"{said[0]}: there is no Ray cluster at '{address}' ([Errno {errno.ECONNREFUSED}] Connection refused); correct the address, start a "
        f"cluster with `make cluster`, or {said[1]} for local processes"
    )


def test_a_cluster_of_this_machine_that_died_is_refused_at_once(
    port: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="the extra 'cluster' is not installed")
    address = "{}:{}".format(*port.getsockname())
    port.close()
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setattr("ray._private.services.find_gcs_addresses", set)  # Of other tests.
    monkeypatch.setenv(chosen.ADDRESS, "auto")
    with pytest.raises(
        OfflineGCRLError, match="RAY_ADDRESS: there is no Ray cluster at 'auto' .Could not find"
    ):
        chosen.connected()
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray/ray_current_cluster").write_text(address)
    with pytest.raises(OfflineGCRLError, match=f"no Ray cluster at '{address}' .*refused"):
        chosen.connected()


def test_ray_is_imported_only_where_a_cluster_was_chosen() -> None:
    program = (
        "import sys; import offline_gcrl.support.processes, offline_gcrl.config, offline_gcrl.training.jobs; "
        "assert 'ray' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)
