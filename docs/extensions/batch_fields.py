"""The table of the fields of a batch, read from ``offline_gcrl.training.batches.fields`` while building.

A page contains the directive ``{batch-fields}``. The docstring of each field begins with its shape. The settings
that a field uses follow from the quantities of the draw that its function reads.
"""

import inspect
import re
from collections.abc import Callable
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

SETTINGS = {
    "value_goal": ("value_goals",),
    "value_target": ("value_goals", "n_step"),
    "midpoint_row": ("value_goals",),
    "actor_goal": ("actor_goals",),
    "actor_target": ("actor_goals",),
    "subgoal_row": ("actor_goals", "subgoal_steps"),
    "low_row": ("subgoal_steps",),
    "representation_goal": ("representation_goals",),
    "representation_target": ("representation_goals", "representation_n_step"),
    "value_target.rewards": ("discount", "reward"),
    "actor_target.rewards": ("discount", "reward"),
    "representation_target.rewards": ("representation_discount",),
}
"""Settings of ``Sampling`` behind each quantity of the draw."""


class BatchFieldsTable(SphinxDirective):
    """A table of all fields of a batch."""

    def run(self) -> list[nodes.Node]:
        """Write the table as Markdown and parse it with the parser of the page."""
        from offline_gcrl.training.batches import fields

        self.env.note_dependency(inspect.getsourcefile(fields))
        container = nodes.container(classes=["settings"])
        self.state.nested_parse(StringList(table_of(fields.FIELDS), fields.__name__), 0, container)
        return [container]


def setup(app: Any) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("batch-fields", BatchFieldsTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def table_of(fields: dict[str, Callable[..., Any]]) -> list[str]:
    """The lines of a Markdown table with one row per field.

    Raises:
        LookupError: the docstring of a field does not begin with a shape.
    """
    lines = ["| field | shape | settings | meaning |", "|---|---|---|---|"]
    for name, function in fields.items():
        found = re.fullmatch(r"(\([^)]*\))\. (.+)", " ".join((function.__doc__ or "").split()))
        if found is None:
            raise LookupError(f"the docstring of '{name}' does not begin with a shape")
        shape, meaning = found.groups()
        settings = ", ".join(f"`{setting}`" for setting in settings_of(function))
        lines.append(f"| `{name}` | {shape} | {settings} | {meaning.replace('``', '`')} |")
    return lines


def settings_of(function: Callable[..., Any]) -> list[str]:
    """Settings of ``Sampling`` that a field uses, in the order in which its function reads them."""
    used: dict[str, None] = {}
    source = inspect.getsource(function)
    for direct, name, part in re.findall(r"draw\.(sampling\.)?(\w+)(?:\.(\w+))?", source):
        names = (
            (name,) if direct else (*SETTINGS.get(name, ()), *SETTINGS.get(f"{name}.{part}", ()))
        )
        used |= dict.fromkeys(names)
    return list(used)
