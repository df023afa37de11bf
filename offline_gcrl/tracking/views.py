"""Views of the runs table: the columns, filter and order with which MLflow's page shows something useful.

MLflow keeps a saved view in a tag of the experiment: it stands under `Views` on the page, and an address
that ends in ``viewStateShareKey=<key>`` opens it.
"""

import json
from typing import Any

AGENTS, SEEDS = "agents", "seeds"
ALWAYS_SHOWN = ("attributes.`Run Name`", "runDateAndNestInfo", "attributes.`Duration`")
WIDTHS = {
    "attributes.`Run Name`": 260,
    "tags.`success`": 150,
    "metrics.`discounted_return`": 140,
    "metrics.`steps_to_goal`": 120,
}
MADE = 1767225600000  # Milliseconds; a view has to say when it was made, and always says the same.


def views() -> dict[str, str]:
    """The saved views, as tags of an experiment."""
    judged = ["tags.`success`", *_metrics("success", "discounted_return", "steps_to_goal")]
    origin = ["params.`train.updates`", "tags.`dvc.experiment`", "attributes.`Version`"]
    described = {
        AGENTS: ("Agents, over their seeds", "tags.seed = 'all'", [*judged, *origin]),
        SEEDS: ("Every seed", "tags.seed != 'all'", [*judged, *origin]),
    }
    return {
        f"mlflow.sharedViewState.{key}": _envelope(name, where, columns)
        for key, (name, where, columns) in described.items()
    }


def address(experiment: str, view: str = AGENTS) -> str:
    """Where the page of MLflow's server shows an experiment in a view; follows the host and port."""
    return f"#/experiments/{experiment}/runs?workflowType=machine_learning&viewStateShareKey={view}"


def _metrics(*names: str) -> list[str]:
    return [f"metrics.`{name}`" for name in names]


def _envelope(name: str, where: str, columns: list[str]) -> str:
    state: dict[str, Any] = {
        "searchFilter": where,
        "orderByKey": "metrics.`success`",
        "orderByAsc": False,
        "selectedColumns": columns,
        "columnOrder": [*ALWAYS_SHOWN, *columns],
        "columnWidths": WIDTHS,
    }
    return json.dumps(
        {"name": name, "createdAt": MADE, "updatedAt": MADE, "state": json.dumps(state)}
    )
