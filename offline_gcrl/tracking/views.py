"""Saved views of MLflow's runs table: columns, filter and order.

MLflow stores a view in a tag of the experiment. The page lists it under `Views`, and an address that ends in
``viewStateShareKey=<key>`` opens it.
"""

import json
from typing import Any

AGENTS, SEEDS, DATASETS, TRIALS = "agents", "seeds", "datasets", "trials"
ALWAYS_SHOWN = ("attributes.`Run Name`", "runDateAndNestInfo", "attributes.`Duration`")
WIDTHS = {
    "attributes.`Run Name`": 260,
    "tags.`success_interval`": 150,
    "metrics.`discounted_return`": 140,
    "metrics.`steps_to_goal`": 120,
}
INTERVAL = "tags.`success_interval`"
"""The success rate with its interval, as text; tables are sorted by the metric ``success``, which has no column."""
CREATED_AT = 1767225600000
"""Creation time of the views in milliseconds, which MLflow requires; it is fixed so that views stay the same."""


def agent_views() -> dict[str, str]:
    """The saved views of an experiment that compares agents, as tags of the experiment."""
    results = ["tags.`dataset`", INTERVAL, *_metrics("discounted_return", "steps_to_goal")]
    origin = ["params.`train.updates`", "tags.`dvc.experiment`", "attributes.`Version`"]
    described = {
        AGENTS: ("Agents (parent runs)", "tags.seed = 'all'", [*results, *origin]),
        SEEDS: ("Seeds (child runs)", "tags.seed != 'all'", [*results, *origin]),
    }
    return {
        f"mlflow.sharedViewState.{key}": _envelope(name, where, columns)
        for key, (name, where, columns) in described.items()
    }


def dataset_views() -> dict[str, str]:
    """The saved view of the experiment that compares datasets, as a tag of the experiment."""
    shares = ("success_mean", "idle_share", "moving_share", "still_moving_share")
    columns = [
        *_metrics("episodes", "transitions", *shares),
        *(f"params.`{name}`" for name in ("replay", "environment", "licence")),
    ]
    envelope = _envelope("Datasets", "", columns, order="metrics.`transitions`")
    return {f"mlflow.sharedViewState.{DATASETS}": envelope}


def search_views(settings: list[str]) -> dict[str, str]:
    """The saved view of the experiment of searches, as a tag of the experiment.

    Args:
        settings: names of the settings of the latest search, which have a column each.
    """
    results = ["tags.`dataset`", "tags.`state`", INTERVAL, *_metrics("discounted_return")]
    columns = [*results, *(f"params.`{name}`" for name in settings)]
    return {f"mlflow.sharedViewState.{TRIALS}": _envelope("Trials", "tags.trial != 'all'", columns)}


def address(experiment: str, view: str = AGENTS) -> str:
    """The part of the address after host and port that opens an experiment in a view."""
    return f"#/experiments/{experiment}/runs?workflowType=machine_learning&viewStateShareKey={view}"


def _metrics(*names: str) -> list[str]:
    return [f"metrics.`{name}`" for name in names]


def _envelope(name: str, where: str, columns: list[str], order: str = "metrics.`success`") -> str:
    state: dict[str, Any] = {
        "searchFilter": where,
        "orderByKey": order,
        "orderByAsc": False,
        "selectedColumns": columns,
        "columnOrder": [*ALWAYS_SHOWN, *columns],
        "columnWidths": WIDTHS,
    }
    return json.dumps(
        {"name": name, "createdAt": CREATED_AT, "updatedAt": CREATED_AT, "state": json.dumps(state)}
    )
