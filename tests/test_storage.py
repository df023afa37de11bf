"""A DVC remote in an object store: outputs are pushed, and come back on a machine without them."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from conftest import SmallDataset

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


def test_polars_reads_steps_from_the_store(store: str, dataset: SmallDataset) -> None:
    import boto3

    client = boto3.client("s3", endpoint_url=store)
    client.upload_file(str(dataset.parquet / "steps.parquet"), "bucket", "parquet/steps.parquet")
    options = {"aws_endpoint_url": store, "aws_allow_http": "true", "aws_region": "us-east-1"}
    steps = pl.scan_parquet("s3://bucket/parquet/steps.parquet", storage_options=options)
    assert steps.collect().equals(pl.read_parquet(dataset.parquet / "steps.parquet"))
