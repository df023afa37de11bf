"""A policy that MLflow serves takes what Gymnasium gives, and refuses what it cannot act on with a sentence."""

import json
import warnings
from typing import Any

import numpy as np
import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from test_agents import DIMENSIONS, SCALING, make_agent, make_settings

from offline_gcrl.policies.policy import Policy, load_policy, save_policy
from offline_gcrl.support.files import sqlite_uri
from offline_gcrl.tracking.database import prepare_store
from offline_gcrl.tracking.policies import find_or_log_policy

STATE, GOAL = [0.5, -1.0, 0.0, 2.0, 1.0], [1.0, -1.0]
TASKS = ("a", "b", "c", "d")


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Policy, Any]:
    """A policy, and the same policy as a model that is loaded from a store."""
    folder = tmp_path_factory.mktemp("store")
    agent = (make_agent("bc", {}), "bc", make_settings("bc", {}), SCALING, DIMENSIONS, TASKS)
    save_policy(
        folder / "policy.pt", *agent, {"dataset": "d", "agent": "bc", "seed": 0, "updates": 1}
    )
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow warns about its own type hints.
        uri = sqlite_uri(folder / "mlflow.db")
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        prepare_store(uri)
        client = MlflowClient(uri)
        experiment = client.create_experiment("e", (folder / "artifacts").as_uri())
        run = client.create_run(experiment).info.run_id
        model = find_or_log_policy(client, run, folder / "policy.pt", "digest")
        from mlflow import pyfunc

        return load_policy(folder / "policy.pt"), pyfunc.load_model(f"models:/{model}")


@pytest.mark.parametrize(
    "kind",
    [np.float64, np.float32, np.int64, np.uint8, list],
    ids=["float64", "float32", "int64", "uint8", "list"],
)
@pytest.mark.parametrize("batch", [0, 1, 3], ids=["one state", "a batch of one", "a batch"])
def test_states_of_any_type_and_number_are_taken(
    policy: tuple[Policy, Any], kind: Any, batch: int
) -> None:
    loaded, served = policy
    state, goal = np.arange(5.0), np.array([3.0, 1.0])
    if batch:
        state, goal = np.tile(state, (batch, 1)), np.tile(goal, (batch, 1))
    given = {"observation": state, "goal": goal}
    typed = {k: v.tolist() if kind is list else v.astype(kind) for k, v in given.items()}
    actions = served.predict(typed)
    assert actions.shape == (max(batch, 1), 3)
    np.testing.assert_array_equal(actions, np.atleast_2d(loaded.act(state, goal)))


def test_one_goal_goes_with_a_batch_and_an_empty_batch_gives_no_actions(
    policy: tuple[Policy, Any],
) -> None:
    loaded, served = policy
    states = np.random.default_rng(0).normal(size=(3, 5))
    np.testing.assert_array_equal(
        served.predict({"observation": states, "goal": np.ones(2)}), loaded.act(states, np.ones(2))
    )
    assert served.predict({"observation": np.ones((0, 5)), "goal": np.ones((0, 2))}).shape == (0, 3)


@pytest.mark.parametrize(
    ("observation", "message"),
    [
        ([0.0, np.nan, 0.0, 0.0, 0.0], r"the observation is not finite at \[1\]: nan"),
        (np.full((2, 5), -np.inf), r"the observation is not finite at \[0, 0\]: -inf"),
        ([1e300] * 5, r"not finite at \[0\]: 1e\+300"),
        ([0.0] * 4, r"takes observations of shape \(5,\) or \(batch, 5\), not \(4,\)"),
        (["a"] * 5, "the observation has values of type <U1, expected numbers"),
        ([None] * 5, "the observation has values of type object"),
        ([[0.0] * 5, [0.0] * 4], "the observation is not an array of numbers"),
    ],
)
def test_input_that_a_policy_cannot_act_on_is_refused_with_a_sentence(
    policy: tuple[Policy, Any], observation: Any, message: str
) -> None:
    with pytest.raises(MlflowException, match=message):
        policy[1].predict({"observation": observation, "goal": GOAL})


def answer(served: Any, body: dict[str, Any]) -> tuple[int, Any]:
    """The answer of MLflow's scoring server to a request."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # The server's imports warn about deprecated names.
        from mlflow.pyfunc.scoring_server import init
        from starlette.testclient import TestClient

        response = TestClient(init(served)).post(
            "/invocations", content=json.dumps(body), headers={"content-type": "application/json"}
        )
    return response.status_code, response.json()


@pytest.mark.parametrize(
    "body",
    [
        {"inputs": {"observation": STATE, "goal": GOAL}},
        {"inputs": {"observation": [STATE] * 2, "goal": [GOAL] * 2}},
        {"instances": [{"observation": STATE, "goal": GOAL}]},
        {"dataframe_split": {"columns": ["observation", "goal"], "data": [[STATE, GOAL]] * 2}},
        {"dataframe_records": [{"observation": STATE, "goal": GOAL}]},
        {"inputs": {"observation": STATE, "goal": GOAL}, "params": {"task": "c"}},
    ],
)
def test_the_server_answers_every_format_of_mlflow(
    policy: tuple[Policy, Any], body: dict[str, Any]
) -> None:
    status, content = answer(policy[1], body)
    assert status == 200
    for action in content["predictions"]:
        np.testing.assert_allclose(
            action, policy[0].act(STATE, GOAL, body.get("params", {}).get("task")), atol=1e-6
        )


def test_the_server_refuses_numbers_that_are_not_finite(policy: tuple[Policy, Any]) -> None:
    status, content = answer(policy[1], {"inputs": {"observation": [np.nan] * 5, "goal": GOAL}})
    assert status == 400
    assert "the observation is not finite at [0]: nan" in content["message"]
