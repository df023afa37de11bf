"""Reading of settings: YAML without repeated keys, strict frozen models, and errors that name the remedy.

Every error names the file, the key, the expected value, and the nearest valid name.
"""

import difflib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from offline_gcrl.support.errors import SettingsError

NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]*$")
"""Names of datasets, agents and tasks, which become names of folders."""
NAME_IN_WORDS = "letters, digits, '-' and '_', with a letter or a digit first"
Title = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$")]
"""The name of an experiment, which becomes the name of a folder and can have blanks and dots."""
Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""A seed of all random generators, some of which take 32 bits."""
Name = Annotated[str, Field(pattern=NAME.pattern)]
MINARI_ID = r"^[A-Za-z0-9_-]{2,}(/[A-Za-z0-9_-]+)*-v\d+$"
IN_WORDS = {
    NAME.pattern: f"made of {NAME_IN_WORDS}",
    MINARI_ID: "a Minari id, which ends in a version, such as my/arm-v0",
}
"""Patterns of texts, in the words of errors."""
EXPECTED = "Input should be "
"""How messages of pydantic begin."""

SHOWN = 20
"""The largest number of names that an error lists in full; otherwise it lists similar names."""


def nearest(name: object, known: Iterable[str]) -> str:
    """A hint for an unknown name: the nearest known name, and the list of known names, shortened if it is long."""
    known = sorted(known)
    close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    guess = f"did you mean '{close[0]}'? " if close else ""
    if len(known) <= SHOWN:
        return f"{guess}known: {', '.join(known)}"
    alike = sorted(difflib.get_close_matches(str(name), known, n=SHOWN // 2, cutoff=0.0))
    return f"{guess}known: {', '.join(alike)}, and {len(known) - len(alike)} more"


class Section(BaseModel):
    """A group of settings: frozen and strictly typed; unknown keys, NaN and infinity are errors.

    Arguments of other packages' functions, whose types are unknown, may be infinite, and JSON preserves them.
    """

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        allow_inf_nan=False,
        ser_json_inf_nan="constants",
        use_attribute_docstrings=True,
    )


Settings = TypeVar("Settings", bound=Section)


if TYPE_CHECKING:
    from yaml import SafeLoader as _SafeLoader
else:  # libyaml reads a recipe ten times as fast.
    _SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_SafeLoader):
    """A YAML loader that reads plain words and numbers as YAML 1.2, and for which a repeated key is an error.

    PyYAML reads YAML 1.1, in which 3e-4 is text, no and off are false, 010 is 8, 12:30 is 750 and 2026-01-01 a date.
    DVC reads and writes YAML 1.2. Of a repeated key, YAML would use the last value silently.
    """

    yaml_implicit_resolvers = {}  # Those of YAML 1.1 are not inherited.

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._checked: set[yaml.Node] = set()
        """Nodes whose own keys differ: a node that others merge is flattened several times."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Add the keys that ``<<`` merges, once the node's own keys are known to be different."""
        if node not in self._checked:
            keys = [_key(self, key) for key, _ in node.value]
            for key in keys:
                if keys.count(key) > 1:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"key '{key}' occurs twice", node.start_mark
                    )
            self._checked.add(node)
        super().flatten_mapping(node)


def _key(loader: _Loader, node: yaml.Node) -> Any:
    is_merge = node.tag == "tag:yaml.org,2002:merge"
    return "<<" if is_merge else loader.construct_object(node, deep=True)


_PLAIN = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?\d+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    "float": (
        r"[-+]?(\.\d+|\d+\.\d*|\d+(?=[eE]))([eE][-+]?\d+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    "merge": (r"<<", ["<"]),
}
"""Patterns of the core schema of YAML 1.2 (section 10.3.2) with their first characters, and the merge key."""
for _kind, (_pattern, _first) in _PLAIN.items():
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_kind}", re.compile(f"^({_pattern})$"), _first
    )


class _Dumper(yaml.SafeDumper):
    """Indents the items of lists, and quotes text that YAML 1.1 or 1.2 would read as something else."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(f"^({_PLAIN['float'][0]})$"), _PLAIN["float"][1]
)


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


_Loader.add_constructor("tag:yaml.org,2002:int", _integer)


def read_value(text: str) -> Any:
    """One value in YAML, as in the options of a command.

    Raises:
        SettingsError: the text is not valid YAML.
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader that is stricter
    except (yaml.YAMLError, ValueError):  # A ValueError is of a tag such as !!int.
        raise SettingsError(f"'{text}' is not a value in YAML; put it in quotes") from None


def as_yaml(content: Any) -> str:
    """Settings as YAML that ``read_yaml`` reads as the same values, with indented items of lists."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=100)


def read_yaml(path: Path) -> Any:
    """The content of a YAML file.

    Raises:
        SettingsError: naming the file, and the line if it is known.
    """
    try:
        return yaml.load(path.read_text("utf-8"), _Loader)  # noqa: S506 - a SafeLoader that is stricter
    except FileNotFoundError:
        raise SettingsError(f"{path}: no such file; run from the root of the project") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise SettingsError(f"{path}: line {line}: {error.problem}") from None
    except (yaml.YAMLError, ValueError) as error:
        # A ValueError is of bytes that are no text, or of a tag such as !!int.
        raise SettingsError(f"{path}: not a YAML file: {error}") from None


def validated(
    section: type[Settings], data: Any, path: Path, key: tuple[str, ...] = ()
) -> Settings:
    """Validate plain data as a section of settings.

    Args:
        section: type of the section.
        data: content, as YAML gives it.
        path: file of the data, for errors.
        key: key of the section in the file, for errors.

    Raises:
        SettingsError: naming file, key, expectation and remedy.
    """
    if not isinstance(data, dict):
        raise SettingsError(f"{path}: {dotted(key) or 'the file'}: expected keys and values")
    # Through JSON, because its strict mode reads lists as tuples and converts no other types.
    content = json.dumps(data, default=str)
    try:
        return section.model_validate_json(content)
    except ValidationError as error:
        found = _by_place(error.errors(), json.loads(content))
        lines = [f"{path}: {_explain(*item, key, section)}" for item in found.items()]
        raise SettingsError("\n".join(lines)) from None


Place = tuple[int | str, ...]


def _by_place(errors: list[ErrorDetails], data: Any) -> dict[Place, list[ErrorDetails]]:
    """Errors by their place in the data, without those of places above others, which follow from these.

    A list without its invalid items is too short, for example. A value that can have several types has an error for each.
    """
    found: dict[Place, list[ErrorDetails]] = {}
    for details in errors:
        found.setdefault(_place(details, data), []).append(details)
    return {
        place: items
        for place, items in found.items()
        if not any(other != place and other[: len(place)] == place for other in found)
    }


def _place(details: ErrorDetails, data: Any) -> Place:
    """The place of an error without the names of types, which pydantic adds where there are several."""
    place: list[int | str] = []
    for part in details["loc"]:
        if isinstance(data, dict) and part in data:
            data = data[part]
        elif isinstance(data, list) and isinstance(part, int):
            data = data[part] if part < len(data) else None
        elif part != "[key]" and (details["type"] != "missing" or part != details["loc"][-1]):
            continue
        place.append(part)
    return tuple(place)


def _explain(
    place: Place, errors: list[ErrorDetails], key: tuple[str, ...], section: type[Section]
) -> str:
    """One sentence about all errors of a place."""
    errors = [item for item in errors if item["type"] == "too_short"] or errors
    where, details = dotted((*key, *map(str, place))), errors[0]
    value, location = details["input"], details["loc"]
    if details["type"] == "extra_forbidden":
        return f"{where}: unknown key; {nearest(location[-1], _keys_at(section, location))}"
    message = " or ".join(dict.fromkeys(map(_message, errors))).replace(f" or {EXPECTED}", " or ")
    if details["type"] in {"missing", "repeated", "too_short"} or isinstance(value, dict):
        return f"{where}: {message}" if where else message
    choices = [choice for item in errors for choice in _choices(item)]
    hint = f"; {nearest(value, choices)}" if choices else ""
    return f"{where}: {message}, not {value!r}{hint}"


def _message(details: ErrorDetails) -> str:
    """The message of pydantic, or a plainer one."""
    if details["type"] == "too_short":
        least = details["ctx"]["min_length"]
        return f"needs at least {least} item{'s' * (least > 1)}"
    if details["type"] == "string_pattern_mismatch":
        pattern = details["ctx"]["pattern"]
        return f"{EXPECTED}{IN_WORDS[pattern]}" if pattern in IN_WORDS else details["msg"]
    return details["msg"]


def _choices(details: ErrorDetails) -> list[str]:
    if details["type"] != "literal_error":
        return []
    return re.findall("'([^']+)'", details["ctx"]["expected"])


def _keys_at(section: type[Section], location: tuple[int | str, ...]) -> list[str]:
    """The valid keys at the place of the last key of ``location``."""
    for part in location[:-1]:
        if isinstance(part, str) and part in section.model_fields:
            section = _section_within(section.model_fields[part].annotation) or section
    return list(section.model_fields)


def _section_within(annotation: Any) -> type[Section] | None:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    found = [_section_within(argument) for argument in get_args(annotation)]
    return next((section for section in found if section), None)


def dotted(key: tuple[str, ...]) -> str:
    """A key as text, with dots: ``train.per_dataset.fetch-reach``."""
    return ".".join(key)


def reject_repeats(names: Iterable[Any]) -> None:
    """Raise an error, within a validator, if a name occurs twice, also if in another case.

    Folders whose names differ in case only are one folder on some file systems.
    """
    seen: dict[str, Any] = {}
    for name in names:
        folded = str(name).casefold()
        words = {"name": name, "other": seen.get(folded)}
        if words["other"] == name:
            raise PydanticCustomError("repeated", "'{name}' occurs twice", words)
        if folded in seen:
            message = "'{other}' and '{name}' differ in case only; rename one of them"
            raise PydanticCustomError("repeated", message, words)
        seen[folded] = name
