"""Tables of the report as objects that the page, Markdown, CSV and LaTeX show alike, and the files that belong to them."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from offline_gcrl.figures.style import save, save_for_paper
from offline_gcrl.report.numbers import interval
from offline_gcrl.statistics.intervals import Estimate
from offline_gcrl.support.files import write_text

TABLES, FIGURES, PDFS = "tables", "figures", "pdf"
"""Folders of the report: tables as CSV and LaTeX, figures as SVG, and figures as PDF."""
Cell = str | int | Estimate | None
Save = Callable[[Figure, str], None]
"""Saves a figure under a name without suffix as SVG and PDF, and closes it."""
LATEX_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\N{MINUS SIGN}": "$-$",
    **{letter: rf"\{letter}" for letter in "&%$#_{}"},
}


class File(NamedTuple):
    """A file that a caption links to."""

    label: str
    path: str
    """Relative to the folder of the page."""


@dataclass(frozen=True)
class Table:
    """A table with its caption; its file names begin with ``name``, which is unique in a report."""

    name: str
    caption: str
    heading: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    has_best: bool = False
    """Whether the first row is that of the best agent, which is emphasised."""

    @property
    def files(self) -> tuple[File, ...]:
        """The table's files, for its caption."""
        return (
            File("CSV", f"{TABLES}/{self.name}.csv"),
            File("LaTeX", f"{TABLES}/{self.name}.tex"),
        )


def figure_files(name: str, *data: File) -> tuple[File, ...]:
    """The files of a figure, with those of its data."""
    return (File("PDF", f"{PDFS}/{name}.pdf"), File("SVG", f"{FIGURES}/{name}.svg"), *data)


def saving(output: Path) -> Save:
    """What saves figures in the folders of a report."""

    def save_both(figure: Figure, name: str) -> None:
        save_for_paper(figure, output / PDFS / f"{name}.pdf")
        save(figure, output / FIGURES / f"{name}.svg")

    return save_both


def cell_text(cell: Cell) -> str:
    """A cell as text; numbers of one thousand and more have separators, and missing values are a dash."""
    if cell is None:
        return "–"  # noqa: RUF001 - a dash, as in the tables of papers
    if isinstance(cell, Estimate):
        return interval(cell)
    return f"{cell:,}" if isinstance(cell, int) else cell


def markdown(table: Table) -> list[str]:
    """The lines of a table in Markdown, without its caption."""
    cells = [table.heading, ["---"] * len(table.heading)]
    cells += [list(map(cell_text, row)) for row in table.rows]
    return [f"| {' | '.join(row)} |" for row in cells]


def as_csv(table: Table) -> str:
    """A table as CSV; an estimate has three columns, for its value and the bounds of its interval."""
    estimated = [
        any(isinstance(row[column], Estimate) for row in table.rows)
        for column in range(len(table.heading))
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = (
        (name, f"{name} low", f"{name} high") if wide else (name,)
        for name, wide in zip(table.heading, estimated, strict=True)
    )
    writer.writerow([part for parts in names for part in parts])
    for row in table.rows:
        parts = (_csv_parts(cell, wide) for cell, wide in zip(row, estimated, strict=True))
        writer.writerow([part for own in parts for part in own])
    return text.getvalue()


def _csv_parts(cell: Cell, wide: bool) -> tuple[Any, ...]:
    if isinstance(cell, Estimate):
        return (cell.mean, cell.low, cell.high)
    return (cell, None, None) if wide else (cell,)


def as_latex(table: Table) -> str:
    """A table as a LaTeX float for documents with the package ``booktabs``."""
    lines = [_latex_row(map(_latex, table.heading))]
    for number, row in enumerate(table.rows):
        bold = _emphasised(row) if table.has_best and number == 0 else set()
        lines.append(_latex_row(_latex_cell(cell, place in bold) for place, cell in enumerate(row)))
    heading, *rows = lines
    parts = [
        r"% Needs \usepackage{booktabs}.",
        r"\begin{table}[t]",
        r"  \centering\small\setlength{\tabcolsep}{4pt}",
        rf"  \caption{{{_latex(table.caption)}}}",
        rf"  \label{{tab:{table.name}}}",
        rf"  \begin{{tabular}}{{l{'r' * (len(table.heading) - 1)}}}",
        r"    \toprule",
        heading,
        r"    \midrule",
        *rows,
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(parts) + "\n"


def _emphasised(row: Sequence[Cell]) -> set[int]:
    """Columns of the best agent's name and of its first estimate, which made it the best; in others it may not be."""
    return {0, next((place for place, cell in enumerate(row) if isinstance(cell, Estimate)), 0)}


def _latex_cell(cell: Cell, is_bold: bool) -> str:
    """A cell with its interval in small type, and its number in bold if it is emphasised."""
    number, bracket, rest = cell_text(cell).partition(" [")
    text = rf"\textbf{{{_latex(number)}}}" if is_bold else _latex(number)
    return rf"{text} {{\scriptsize[{_latex(rest)}}}" if bracket else text


def _latex(text: str) -> str:
    """Text with the special characters of LaTeX escaped."""
    return "".join(LATEX_SPECIAL.get(letter, letter) for letter in text)


def _latex_row(cells: Iterable[str]) -> str:
    return f"    {' & '.join(cells)} \\\\"


def tables_in(content: Any) -> Iterator[Table]:
    """All tables in the content of the page, at any depth of dictionaries and lists, in their order."""
    if isinstance(content, Table):
        yield content
    elif isinstance(content, Mapping):
        for part in content.values():
            yield from tables_in(part)
    elif isinstance(content, list | tuple):
        for part in content:
            yield from tables_in(part)


def write_tables(content: Any, folder: Path) -> None:
    """Write every table of the page as CSV and LaTeX."""
    folder.mkdir()
    for table in tables_in(content):
        write_text(folder / f"{table.name}.csv", as_csv(table))
        write_text(folder / f"{table.name}.tex", as_latex(table))
