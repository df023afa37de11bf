"""Presets of agents: the settings that are published for each family of a benchmark's datasets, in one table.

A section of ``agents`` with ``preset: ogbench`` takes its values from here; every key that the section names itself,
also under ``per_dataset``, goes first.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

COMMON: Mapping[str, Any] = {
    "learning_rate": 3.0e-4,
    "hidden": [512, 512, 512],
    "activation": "gelu",
    "normalise": False,
}
"""OGBench's networks; its agents read observations as they are."""
FIXED: Mapping[str, Mapping[str, Any]] = {"bc": {"actor_goals": {"future": 1.0}}}
"""What an algorithm needs to be OGBench's agent: GCBC is behaviour cloning on uniform future goals."""


@dataclass(frozen=True)
class Family:
    """The published settings of one family of datasets (OGBench's hyperparameters.sh)."""

    patterns: tuple[str, ...]
    """Patterns of names of recipes."""
    gcivl: float
    """Alpha of each algorithm."""
    gciql: float
    qrl: float
    crl: float
    hiql: float
    """Both alphas, of the low and of the high level."""
    subgoal_steps: int = 25
    discount: float = 0.99


OGBENCH = (
    Family(("ogbench-pointmaze-giant-*",), 10.0, 0.003, 0.0003, 0.03, 3.0, discount=0.995),
    Family(("ogbench-pointmaze-*",), 10.0, 0.003, 0.0003, 0.03, 3.0),
    Family(("ogbench-antmaze-giant-*",), 10.0, 0.3, 0.003, 0.1, 3.0, discount=0.995),
    Family(("ogbench-antmaze-*-explore",), 10.0, 0.01, 0.001, 0.003, 10.0),
    Family(("ogbench-antmaze-*",), 10.0, 0.3, 0.003, 0.1, 3.0),
    Family(("ogbench-humanoidmaze-*",), 10.0, 0.1, 0.001, 0.1, 3.0, 100, 0.995),
    Family(("ogbench-antsoccer-*",), 10.0, 0.1, 0.003, 0.3, 3.0),
    Family(
        ("ogbench-cube-*-noisy", "ogbench-scene-noisy", "ogbench-puzzle-*-noisy"),
        10.0, 0.03, 0.03, 0.1, 3.0, 10,
    ),
    Family(
        ("ogbench-cube-*", "ogbench-scene-*", "ogbench-puzzle-*"), 10.0, 1.0, 0.3, 3.0, 3.0, 10
    ),
)  # fmt: skip
"""The first family with a matching pattern counts."""
ACTOR_GOALS: Mapping[str, Mapping[str, float]] = {
    "*-stitch": {"future": 0.5, "random": 0.5},
    "*-explore": {"random": 1.0},
}
"""Mixtures of the actors' goals by kind of dataset, for all algorithms with values."""
SAW: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("ogbench-cube-single-*", {"beta": 0.3, "expectile": 0.9}),
    ("ogbench-cube-*", {"beta": 1.0}),
    ("ogbench-scene-*", {"beta": 1.0}),
)
"""What differs from the defaults of SAW in its release; the first matching pattern counts."""
DUAL: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("ogbench-pointmaze-giant-*", {"expectile": 0.9, "size": 64, "discount": 0.995}),
    ("ogbench-pointmaze-*", {"expectile": 0.9, "size": 64}),
    ("ogbench-antmaze-giant-*", {"expectile": 0.9, "discount": 0.995}),
    ("ogbench-humanoidmaze-*", {"expectile": 0.9, "discount": 0.995}),
    ("ogbench-ant*", {"expectile": 0.9}),
    ("ogbench-*", {"expectile": 0.7}),
)
"""Settings of dual goal representations (hyperparameters.sh of their release); the first matching pattern counts."""
VISUAL = "ogbench-visual-"
"""How names of datasets of images begin. The rest of the name is that of the dataset with the same states, whose settings
count."""
ARMS = ("ogbench-cube-*", "ogbench-scene-*", "ogbench-puzzle-*")
"""Datasets of arms, whose images are cropped at random."""
WITH_VALUES = ("gcivl", "gciql", "qrl", "crl", "hiql", "saw")
"""Algorithms with settings for each family; behaviour cloning has the same settings for all families."""
PRESETS = ("ogbench",)


def preset_settings(preset: str, algorithm: str, dataset: str) -> dict[str, Any]:
    """The settings of an algorithm that a preset has for a dataset.

    Args:
        preset: a name in ``PRESETS``.
        algorithm: name of the algorithm.
        dataset: name of the dataset; one without a family gets the settings that all families share.

    Returns:
        Plain values by key of the agent's section.
    """
    assert preset in PRESETS, preset
    settings = {**COMMON, **FIXED.get(algorithm, {}), **_of_images(algorithm, dataset)}
    dataset = _with_states(dataset)
    family = next((family for family in OGBENCH if _matches(dataset, family.patterns)), None)
    if family is None or algorithm not in WITH_VALUES:
        return settings
    if algorithm == "saw":
        settings |= _first(SAW, dataset)
    else:
        alpha = getattr(family, algorithm)
        names = ("low_alpha", "high_alpha") if algorithm == "hiql" else ("alpha",)
        settings |= dict.fromkeys(names, alpha)
    if algorithm in {"hiql", "saw"}:
        settings["subgoal_steps"] = family.subgoal_steps
    if algorithm in {"gcivl", "gciql", "hiql", "saw"}:
        settings["discount"] = family.discount
    for pattern, goals in ACTOR_GOALS.items():
        if fnmatchcase(dataset, pattern):
            settings["actor_goals"] = dict(goals)
    return settings


def dual_settings(dataset: str) -> dict[str, Any]:
    """The settings of ``goal_encoder: dual`` that are published for a dataset."""
    return _first(DUAL, _with_states(dataset))


def _with_states(dataset: str) -> str:
    """The name of the dataset with the same states."""
    return dataset.replace(VISUAL, "ogbench-", 1) if dataset.startswith(VISUAL) else dataset


def _of_images(algorithm: str, dataset: str) -> dict[str, Any]:
    """What differs in a dataset of images: the encoder, random crops for arms, and the gradient of HIQL's representation."""
    if not dataset.startswith(VISUAL):
        return {}
    crop = 0.5 if _matches(_with_states(dataset), ARMS) else 0.0
    settings: dict[str, Any] = {"images": {"encoder": "impala_small", "random_crop": crop}}
    return settings | ({"low_actor_rep_grad": True} if algorithm == "hiql" else {})


def _first(table: tuple[tuple[str, Mapping[str, Any]], ...], dataset: str) -> dict[str, Any]:
    """The settings of the first pattern of a table that matches a dataset; none if there is no such pattern."""
    return next((dict(own) for pattern, own in table if fnmatchcase(dataset, pattern)), {})


def _matches(dataset: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(dataset, pattern) for pattern in patterns)
