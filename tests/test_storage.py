"""An object store as a DVC remote, from which outputs come back, and as a place from which datasets are read."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
import yaml
from conftest import RECIPES, ROOT, SmallDataset

from offline_gcrl import load_dataset
from offline_gcrl.collect.published import fetch_published
from offline_gcrl.config import load_recipe, resolve
from offline_gcrl.episodes.dataset import open_episodes
from offline_gcrl.episodes.ingest import ingest
from offline_gcrl.episodes.sources import open_source
from offline_gcrl.support.digests import sealed_directory
from offline_gcrl.support.errors import DataError
from offline_gcrl.support.files import write_json
from offline_gcrl.support.stores import copy_from_store
from offline_gcrl.support.unfinished import Unfinished

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
KEYS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an empty S3 server with one bucket."""
    pytest.importorskip("dvc_s3", reason="the extra 's3' is not installed")
    server_module = pytest.importorskip("moto.server", reason="moto is not installed")
    import boto3

    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    boto3.client("s3", endpoint_url=address).create_bucket(Bucket="bucket")
    yield address
    server.stop()


def run(folder: Path, *command: str) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("DVC_")} | {"PATH": path}
    answer = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def contents(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*.parquet")
    }


def test_outputs_that_were_pushed_come_back(
    store: str, dataset: SmallDataset, tmp_path: Path
) -> None:
    data = shutil.copytree(dataset.parquet, tmp_path / "data")
    expected = contents(data)
    assert len(expected) == 2
    for command in (
        "git init -q",
        "dvc init -q",
        "dvc add -q data",
        "dvc remote add -q --default store s3://bucket/prefix",
        f"dvc remote modify -q store endpointurl {store}",
        "dvc push -q",
    ):
        run(tmp_path, *command.split())
    shutil.rmtree(data)
    shutil.rmtree(tmp_path / ".dvc/cache")
    run(tmp_path, "dvc", "pull", "-q")
    assert contents(data) == expected


def upload(store: str, folder: Path, prefix: str) -> None:
    import boto3

    client = boto3.client("s3", endpoint_url=store)
    for path in folder.rglob("*"):
        if path.is_file():
            client.upload_file(str(path), "bucket", f"{prefix}/{path.relative_to(folder)}")


@pytest.fixture
def sharded(dataset: SmallDataset, tmp_path: Path) -> Path:
    """The small dataset in three shards, as a stage writes it."""
    unfinished = Unfinished(tmp_path / "unfinished")
    with sealed_directory(tmp_path / "sharded") as folder:
        ingest(
            dataset.resolved,
            dataset.minari,
            folder,
            transitions_per_shard=200,
            unfinished=unfinished,
        )
    return tmp_path / "sharded"


def test_polars_reads_steps_in_one_file_or_in_shards_from_the_store(
    store: str, dataset: SmallDataset, sharded: Path
) -> None:
    options = {"aws_endpoint_url": store, "aws_allow_http": "true", "aws_region": "us-east-1"}
    for folder, prefix, name in (
        (dataset.parquet, "one", "steps.parquet"),
        (sharded, "many", "steps.parquet/"),
    ):
        upload(store, folder, prefix)
        steps = pl.scan_parquet(f"s3://bucket/{prefix}/{name}", storage_options=options)
        assert steps.collect().equals(pl.read_parquet(dataset.parquet / "steps.parquet"))


def test_the_library_loads_a_dataset_from_the_store(
    store: str, dataset: SmallDataset, sharded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", store)
    upload(store, sharded, "parquet/small")
    data = load_dataset("s3://bucket/parquet/small/")
    assert data.counts == dataset.episodes.schema["counts"]
    assert (open_episodes(data.episodes).observation == dataset.episodes.observation).all()
    table = data.hindsight(dataset.relabel) / "table.parquet"
    assert pl.read_parquet(table).equals(pl.read_parquet(dataset.hindsight / "table.parquet"))


def test_a_recipe_names_a_minari_dataset_in_the_store(
    store: str, dataset: SmallDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", store)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "empty"))
    upload(store, dataset.minari, "minari")
    recipe = yaml.safe_load((RECIPES / "pointmaze-umaze.yaml").read_text())
    name = dataset.recipe.sources[0].dataset
    recipe["sources"] = [
        {"dataset": name, "kind": "exploration", "address": f"s3://bucket/minari/{name}"}
    ]
    file = shutil.copytree(RECIPES, tmp_path / "datasets/recipes") / "stored.yaml"
    file.write_text(yaml.safe_dump(recipe))
    resolved = tmp_path / "datasets/resolved/stored.json"
    write_json(resolved, resolve("stored", folder=file.parent).model_dump(mode="json"))
    shutil.copy(ROOT / "params.yaml", tmp_path)
    run(tmp_path, sys.executable, str(ROOT / "pipelines/collect.py"), "stored")
    source = load_recipe("stored", file.parent).sources[0]
    assert open_source(source, tmp_path / "datasets/minari/stored").total_episodes == 6
    assert load_dataset(file).counts["episodes"] == 6


@pytest.mark.parametrize("name", ["my#data", "my%20data", "my data"])
def test_an_address_that_would_be_read_as_another_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="which addresses cannot have; rename the folder"):
        copy_from_store(f"s3://bucket/{name}", tmp_path / "copy", "schema.json", "copy it")


def test_what_is_wrong_with_an_address_is_said(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", store)
    with pytest.raises(DataError, match=r"^s3://bucket/nothing: has no schema.json; copy a folder"):
        load_dataset("s3://bucket/nothing")
    with pytest.raises(DataError, match=r"^s3://bucket/nothing: has no data/metadata.json; copy"):
        fetch_published("my/arm-v0", tmp_path / "root", "s3://bucket/nothing")
    assert not (tmp_path / "root").exists()
    with pytest.raises(DataError, match=r"^s3://other/small: (has no schema.json|cannot be read)"):
        load_dataset("s3://other/small")
