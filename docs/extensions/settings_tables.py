"""Tables of settings, read from the code while building, so that they agree with it.

A page contains ``{settings} offline_gcrl.config.Train``. Name, default and values come from pydantic. The meaning
is the docstring of the field, or a comment on its lines or directly above it. A field without either needs a
line ``name: meaning`` in the body of the directive. A missing or superfluous line ends the build.
"""

import ast
import inspect
import io
import textwrap
import tokenize
from importlib import import_module
from typing import Any

import yaml
from docutils import nodes
from docutils.statemachine import StringList
from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from sphinx.util.docutils import SphinxDirective

BOUNDS = {
    "minimum": "at least {:g}",
    "exclusiveMinimum": "above {:g}",
    "maximum": "at most {:g}",
    "exclusiveMaximum": "below {:g}",
    "multipleOf": "a multiple of {:g}",
}
WORDS = {"number": "number", "integer": "integer", "string": "text", "boolean": "true or false"}
PLURALS = {"number": "numbers", "integer": "integers", "string": "names"}


class SettingsTable(SphinxDirective):
    """A table of the fields of one section of settings."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        """Write the table as Markdown and parse it with the parser of the page."""
        module, name = self.arguments[0].rsplit(".", 1)
        section = getattr(import_module(module), name)
        self.env.note_dependency(inspect.getsourcefile(section))
        given = dict(line.split(": ", 1) for line in self.content if line.strip())
        try:
            lines = table_of(section, given)
        except LookupError as error:
            raise self.error(f"{self.arguments[0]}: {error.args[0]}") from None
        container = nodes.container(classes=["settings"])
        self.state.nested_parse(StringList(lines, self.arguments[0]), 0, container)
        return [container]


def setup(app: Any) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("settings", SettingsTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def table_of(section: type[BaseModel], given: dict[str, str]) -> list[str]:
    """The lines of a Markdown table.

    Raises:
        LookupError: a field has no meaning, or ``given`` names a field that has one or does not exist.
    """
    schema = section.model_json_schema()
    documented = meanings(section)
    fields = section.model_fields
    for name in given:
        if name not in fields:
            raise LookupError(f"'{name}' is not a field")
        if name in documented:
            raise LookupError(f"'{name}' has a meaning in the code")
    lines = ["| setting | default | values | meaning |", "|---|---|---|---|"]
    for name, field in fields.items():
        meaning = documented.get(name) or given.get(name)
        if meaning is None:
            raise LookupError(f"'{name}' has no meaning in the code or on the page")
        allowed = values(schema["properties"][name])
        lines.append(f"| `{name}` | {default(field.default)} | {allowed} | {meaning} |")
    return lines


def meanings(section: type[BaseModel]) -> dict[str, str]:
    """The meaning of each field in the code; a class overrides the classes that it extends."""
    found: dict[str, str] = {}
    for origin in section.__mro__[: section.__mro__.index(BaseModel)]:
        for name, meaning in comments(origin).items():
            found.setdefault(name, meaning)
    for name, field in section.model_fields.items():
        if field.description:
            found.setdefault(name, field.description)
    return {name: " ".join(meaning.split()).replace("``", "`") for name, meaning in found.items()}


def comments(origin: type) -> dict[str, str]:
    """Docstrings and comments of the fields that a class defines."""
    source = textwrap.dedent(inspect.getsource(origin))
    notes = comments_by_line(source)
    body = ast.parse(source).body[0].body  # type: ignore[attr-defined]
    found = {}
    for place, statement in enumerate(body):
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        after = body[place + 1] if place + 1 < len(body) else None
        lines = range(statement.lineno, (statement.end_lineno or statement.lineno) + 1)
        text = docstring(after) or " ".join(notes[line][0] for line in lines if line in notes)
        line = statement.lineno - 1
        while not text and notes.get(line, ("", False))[1]:
            text, line = f"{notes[line][0]} {text}".strip(), line - 1
        if text:
            found[statement.target.id] = text[0].upper() + text[1:].rstrip(".") + "."
    return found


def comments_by_line(source: str) -> dict[int, tuple[str, bool]]:
    """Comments by line, each with whether the line has nothing else."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {
        token.start[0]: (token.string.lstrip("# "), token.line.strip().startswith("#"))
        for token in tokens
        if token.type == tokenize.COMMENT and "type: ignore" not in token.string
    }


def docstring(statement: ast.stmt | None) -> str | None:
    """The text of a statement that consists of a string."""
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return str(statement.value.value)
    return None


def default(value: Any) -> str:
    """A default in YAML, or ``required``."""
    if value is PydanticUndefined:
        return "*required*"
    if value is None:
        return "*none*"
    written = yaml.safe_dump(plain(value), default_flow_style=True, width=1000)
    return f"`{written.splitlines()[0]}`"  # YAML ends a lone scalar with a line of dots.


def plain(value: Any) -> Any:
    """A value of the types of YAML; for a section, the settings that differ from their defaults."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_defaults=True)
    return [plain(item) for item in value] if isinstance(value, tuple) else value


def values(schema: dict[str, Any], words: dict[str, str] = WORDS) -> str:
    """The values that a JSON schema allows, in words."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1].lower()
        return f"[{'sections' if words is PLURALS else 'a section'}](#section-{name})"
    if "anyOf" in schema:
        return " or ".join(values(part) for part in schema["anyOf"] if part.get("type") != "null")
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"a list of {values(schema['items'], PLURALS)}"
    if schema.get("type") == "object":
        return mapping(schema)
    bounds = [text.format(schema[key]) for key, text in BOUNDS.items() if key in schema]
    return ", ".join([words[schema["type"]], *bounds])


def mapping(schema: dict[str, Any]) -> str:
    """A mapping in words: a mixture of goals, or any keys and values."""
    is_mixture = "pattern" not in schema.get("propertyNames", {"pattern": ""})
    return "[shares of strategies](#mixtures)" if is_mixture else "keys and values"
