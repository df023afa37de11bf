"""The files of a search: its trials, the settings to paste, and the final evaluation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from offline_gcrl.config import Params
from offline_gcrl.config.overrides import overridden
from offline_gcrl.config.reading import as_yaml
from offline_gcrl.support.files import write_json, write_text
from offline_gcrl.support.numbers import with_interval
from offline_gcrl.tuning.search import SearchPlan, Values, nested
from offline_gcrl.tuning.study import Trial
from offline_gcrl.tuning.trials import FinalResult

TRIALS, BEST, FINAL = "trials.csv", "best.yaml", "final.json"
"""The table of trials, the settings to paste, and the metrics of the final evaluation."""


def settings_to_paste(plan: SearchPlan, params: Params, values: Values) -> str:
    """The chosen values as a part of ``params.yaml``: an override for the dataset, which no other setting hides."""
    section = params.agents[plan.search.agent]
    former = (section.get("per_dataset") or {}).get(plan.dataset.name) or {}
    special = {plan.dataset.name: overridden(former, nested(values))}
    return as_yaml({"agents": {plan.search.agent: {"per_dataset": special}}})


def trial_rows(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """The table of trials: a row per trial, with a column per setting that is searched."""
    return [
        {"trial": trial.number, "state": trial.state}
        | {name: shown(value) for name, value in trial.values.items()}
        | {
            name: getattr(trial.outcome, name) if trial.outcome else None
            for name in ("success", "success_low", "success_high", "discounted_return")
        }
        | {"seconds": round(trial.seconds, 1), "reason": trial.reason}
        for trial in trials
    ]


def shown(value: Any) -> Any:
    """The value of a setting for a table: lists and dictionaries as text."""
    return as_yaml(value).strip() if isinstance(value, list | dict) else value


def write_trials(trials: Sequence[Trial], folder: Path) -> None:
    """Write the table of trials."""
    table = pl.DataFrame(trial_rows(trials), infer_schema_length=None)
    write_text(folder / TRIALS, table.write_csv())


def write_final(result: FinalResult, paste: str, folder: Path) -> None:
    """Write the settings to paste, and the metrics of the final evaluation."""
    write_text(folder / BEST, paste)
    write_json(folder / FINAL, dict(result.metrics))


def difference_sentence(result: FinalResult) -> str | None:
    """How far the chosen settings are from those of ``params.yaml``; None if both are the same."""
    if result.comparison is None:
        return None
    best = result.comparison.best
    ((other, against),) = result.comparison.against_best.items()
    gap = against.difference
    chosen_minus_other = {"mean": -gap.mean, "low": -gap.high, "high": -gap.low}
    words = with_interval(chosen_minus_other).replace("-0.00", "0.00")
    sentence = f"success of {best} minus {other}: {words}"
    return sentence if against.is_clearly_lower else f"{sentence}, which is not a clear difference"
