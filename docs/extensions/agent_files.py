"""The table of the lengths of the agents' files, counted while building.

A page contains the directive ``{agent-files}``.
"""

from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective


class AgentFilesTable(SphinxDirective):
    """A table of the files of all algorithms with their numbers of lines."""

    def run(self) -> list[nodes.Node]:
        """Write the table as Markdown and parse it with the parser of the page."""
        from offline_gcrl.config import algorithm_names
        from offline_gcrl.config.agents import AGENTS

        files = [AGENTS / f"{name}.py" for name in algorithm_names()]
        for path in files:
            self.env.note_dependency(str(path))
        container = nodes.container(classes=["settings"])
        self.state.nested_parse(StringList(table_of(files), "agents"), 0, container)
        return [container]


def setup(app: Any) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("agent-files", AgentFilesTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def table_of(files: list[Path]) -> list[str]:
    """The lines of a Markdown table with one row per file."""
    rows = [f"| `agents/{path.name}` | {len(path.read_text().splitlines())} |" for path in files]
    return ["| file | lines |", "|---|---|", *rows]
