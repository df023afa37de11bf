"""Policies as MLflow logged models, which are listed with their metrics and loaded by ``mlflow.pyfunc.load_model``."""

import tempfile
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
from mlflow.entities import LoggedModel, LoggedModelOutput
from mlflow.models import ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.types.schema import AnyType, Array

from offline_gcrl.policies.policy import Policy, load_policy

SERVING = "offline_gcrl.tracking.serving"
REQUIREMENTS = ("offline-gcrl", "torch", "numpy")
"""Packages that loading needs. Without this list, MLflow would load the model in a new process to find them."""


def signature(policy: Policy) -> ModelSignature:
    """The signature of a policy: observations and goals to actions, with the task and the instruction as parameters.

    MLflow would refuse float64 arrays, lists or single states for tensors of a fixed type and shape, so it passes
    everything on, and the policy checks and converts it.
    """
    numbers = Array(AnyType())  # type: ignore[no-untyped-call]
    task = "" if policy.needs_task else policy.tasks[0]  # A default is required.
    columns: list[ColSpec | TensorSpec] = [ColSpec(numbers, "observation")]
    params = [ParamSpec("task", DataType.string, task)]
    if policy.settings.conditioning != "language":
        columns.append(ColSpec(numbers, "goal", required=policy.vocabulary is None))
    if policy.vocabulary is not None:
        params.append(ParamSpec("instruction", DataType.string, ""))
    return ModelSignature(
        inputs=Schema(columns),
        outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, policy.dimensions.action))]),
        params=ParamSchema(params),
    )


def find_or_log_policy(client: MlflowClient, run_id: str, path: Path, digest: str) -> str:
    """The id of the logged model of a policy; the model is created if there is none.

    Args:
        client: client of the MLflow store.
        run_id: the run that trained the policy.
        path: the policy's file.
        digest: digest of that file, which identifies the model.
    """
    experiment = client.get_run(run_id).info.experiment_id
    for model in _found(client, experiment, digest):
        if model.status == "READY":
            return str(model.model_id)
        client.delete_logged_model(model.model_id)  # Its creation was interrupted.
    policy = load_policy(path)
    of = {name: str(policy.training[name]) for name in ("dataset", "agent", "seed")}
    model = client.create_logged_model(
        experiment,
        name="{agent}-seed-{seed}-on-{dataset}".format(**of),
        source_run_id=run_id,
        tags={**of, "policy": digest},
        params={"algorithm": policy.algorithm, "updates": str(policy.training["updates"])},
        model_type="policy",
    )
    with tempfile.TemporaryDirectory() as folder:
        save(policy, path, Path(folder) / "model")
        client.log_model_artifacts(model.model_id, f"{folder}/model")
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, policy.training["updates"])])
    client.finalize_logged_model(model.model_id, "READY")
    return str(model.model_id)


def save(policy: Policy, path: Path, folder: Path) -> None:
    """Write a policy as an MLflow model into a new folder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # This import warns about MLflow's own type hints.
        from mlflow import pyfunc

        pyfunc.save_model(
            folder,
            loader_module=SERVING,
            data_path=str(path),
            signature=signature(policy),
            pip_requirements=[f"{name}=={version(name).split('+')[0]}" for name in REQUIREMENTS],
        )


def _found(client: MlflowClient, experiment: str, digest: str) -> Iterator[LoggedModel]:
    yield from client.search_logged_models([experiment], f"tags.policy = '{digest}'")
