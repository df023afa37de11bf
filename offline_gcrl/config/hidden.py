"""Settings without effect: general values that an override for a dataset or an agent replaces."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from offline_gcrl.config.overrides import matching_overrides
from offline_gcrl.config.params import SECTIONS, Params
from offline_gcrl.config.reading import dotted

Key = tuple[str, ...]
Layer = tuple[Key, Mapping[str, Any]]
"""The key of a group of settings in ``params.yaml``, and the settings."""
OVERRIDES = ("per_dataset", "per_agent")


def hidden_settings(params: Params) -> list[str]:
    """Which settings have no effect for a dataset or an agent of the experiment, and what hides them.

    Returns:
        A sentence per setting and override; a value that an override repeats is not listed.
    """
    found: dict[str, list[str]] = {}
    for dataset in params.experiment.datasets:
        for subject, layers in _all_layers(params, dataset):
            for line in _hidden(layers):
                found.setdefault(line, []).append(subject)
    return [line.format(" and ".join(dict.fromkeys(subjects))) for line, subjects in found.items()]


def _all_layers(params: Params, dataset: str) -> Iterator[tuple[str, list[Layer]]]:
    """The layers of settings of each section that are used for a dataset, with what they are used for."""
    for section in SECTIONS:
        data = getattr(params, section)
        if section != "train":
            yield dataset, _layers((section,), data, dataset)
    for agent in params.experiment.agents:
        own = (params.train.get("per_agent") or {}).get(agent) or {}
        general, *special = _layers(("train",), params.train, dataset)
        both = [general, (("train", "per_agent", agent), own), *special]
        subject = f"{agent} on {dataset}" if own else dataset
        yield subject, both
        yield dataset, _layers(("agents", agent), params.agents[agent], dataset)


def _layers(key: Key, data: Mapping[str, Any], dataset: str) -> list[Layer]:
    """The general settings of a section and those for a dataset, in the order in which they apply."""
    special = data.get("per_dataset") or {}
    names = matching_overrides(special, dataset)
    return [(key, data), *(((*key, "per_dataset", name), special[name]) for name in names)]


def _hidden(layers: Sequence[Layer]) -> Iterator[str]:
    """A sentence, with a gap for its subject, for each value that the next layer replaces."""
    used: dict[Key, tuple[Key, Any]] = {}
    for key, settings in layers:
        for name, value in _leaves(settings):
            if name in used and used[name][1] != value:
                where, former = used[name]
                yield (
                    f"{dotted((*where, *name))} ({_shown(former)}) has no effect for {{}}: "
                    f"{dotted((*key, *name))} is {_shown(value)}"
                )
            used[name] = (key, value)


def _leaves(settings: Mapping[str, Any]) -> Iterator[tuple[Key, Any]]:
    """Names and values of settings; those of nested sections with both names, and mixtures of goals as a unit."""
    for name, value in settings.items():
        if name in OVERRIDES:
            continue
        if isinstance(value, Mapping) and "goals" not in name:
            yield from (((name, inner), content) for inner, content in value.items())
        else:
            yield (name,), value


def _shown(value: Any) -> str:
    """A value as text in which no brace is a gap."""
    return str(value).replace("{", "{{").replace("}", "}}")
