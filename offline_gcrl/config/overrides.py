"""Overrides of a section for one dataset (``per_dataset``) or one agent (``per_agent``)."""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from offline_gcrl.config.presets import PRESETS, dual_settings, preset_settings
from offline_gcrl.config.reading import Settings, dotted, nearest, validated
from offline_gcrl.support.errors import SettingsError


def for_dataset(
    section: type[Settings],
    data: Mapping[str, Any],
    key: tuple[str, ...],
    dataset: str,
    path: Path,
) -> Settings:
    """A section with the overrides of its ``per_dataset`` that match a dataset.

    Patterns apply in the order of the file, the exact name last. With an empty name there are no overrides.

    Raises:
        SettingsError: naming file, key, expectation and remedy.
    """
    settings, last = with_overrides(data, dataset)
    where = key if last is None else (*key, "per_dataset", last)
    return validated(section, with_preset(settings, dataset), path, where)


def with_overrides(data: Mapping[str, Any], dataset: str) -> tuple[dict[str, Any], str | None]:
    """The values of a section with the overrides for a dataset, and the key of ``per_dataset`` that applied last."""
    settings = {name: value for name, value in data.items() if name != "per_dataset"}
    special, last = data.get("per_dataset") or {}, None
    for name in matching_overrides(special, dataset):
        if special[name]:
            settings, last = overridden(settings, special[name]), name
    return settings, last


def matching_overrides(special: Mapping[str, Any], dataset: str) -> list[str]:
    """The keys of ``per_dataset`` that match a dataset, in the order in which they apply; none for an empty name."""
    patterns = [name for name in special if name != dataset and fnmatchcase(dataset, name)]
    return [*patterns, *([dataset] if dataset in special else [])] if dataset else []


def with_preset(settings: Mapping[str, Any], dataset: str) -> dict[str, Any]:
    """The settings of an agent with the values of its preset for a dataset, where the settings have none themselves."""
    preset = settings.get("preset")
    if preset not in PRESETS:  # None, or a name that validation refuses.
        return dict(settings)
    published = preset_settings(preset, str(settings.get("algorithm")), dataset)
    if settings.get("goal_encoder") == "dual":
        published["dual"] = dual_settings(dataset)
    return overridden(published, settings)


def overridden(general: Mapping[str, Any], special: Mapping[str, Any]) -> dict[str, Any]:
    """``general`` with the values of ``special``; nested sections are merged, mixtures of goals are replaced."""
    merged = dict(general)
    for name, value in special.items():
        nested = isinstance(value, dict) and isinstance(merged.get(name), dict)
        merged[name] = {**merged[name], **value} if nested and "goals" not in name else value
    return merged


def for_all_agents(data: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a section without those of ``per_agent``."""
    return {name: value for name, value in data.items() if name != "per_agent"}


def check_per_dataset(
    data: Mapping[str, Any], key: tuple[str, ...], known: Iterable[str], path: Path
) -> None:
    """Check that each key of ``per_dataset`` matches a recipe and contains settings.

    Raises:
        SettingsError: naming file, key, expectation and remedy.
    """
    special = data.get("per_dataset") or {}
    where = dotted((*key, "per_dataset"))
    if not isinstance(special, dict):
        raise SettingsError(f"{path}: {where}: expected names of recipes, each with settings")
    for name, settings in special.items():
        if not any(fnmatchcase(recipe, name) for recipe in known):
            raise SettingsError(f"{path}: {where}: no recipe '{name}'; {nearest(name, known)}")
        if not isinstance(settings, dict):
            raise SettingsError(f"{path}: {where}.{name}: expected keys and values")
