"""Colours and style of all figures, and saving them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

COLUMN, PAGE = 3.3, 6.8
"""Widths of figures for papers, in inches: one column, and both columns of a page."""
LEAST_HEIGHT = 0.8
"""Narrow figures keep this share of their height, because their text does not shrink."""
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1)))
"""Lines of the agents that have the colours of the palette the first, second and third time."""
REACHED, MISSED, WALL = "#009E73", "#D55E00", "#c9ccd1"
HELD_OUT = "#0072B2"
PRINTED: Any = {
    "color": "#000000",
    "linewidth": 1,
    "marker": "D",
    "markersize": 4,
    "markerfacecolor": "white",
}
"""Numbers that papers print, which are of no agent's colour."""
STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "offline-gcrl",
}


def save(figure: Figure, path: Path) -> None:
    """Save a figure in the format of the file name's suffix, and close it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"Date": None} if path.suffix == ".svg" else None
    with mpl.rc_context(STYLE):
        figure.savefig(path, metadata=metadata, dpi=160, bbox_inches="tight", pad_inches=0.06)
    plt.close(figure)


def save_for_paper(figure: Figure, path: Path) -> None:
    """Save a figure as PDF at the width of a column, or of a page if panels are next to each other; it stays open.

    Fonts are embedded as Type 42 (TrueType), because many publishers refuse the Type 3 of Matplotlib's default.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    own_width, own_height = map(float, figure.get_size_inches())
    place = figure.axes[0].get_subplotspec()
    width = PAGE if place is not None and place.get_gridspec().ncols > 1 else COLUMN
    with mpl.rc_context({**STYLE, "pdf.fonttype": 42}), _without_tables_of_layout():
        figure.set_size_inches(width, own_height * max(width / own_width, LEAST_HEIGHT))
        figure.draw_without_rendering()  # Titles of a new size get their place when they are drawn the second time.
        figure.savefig(path, metadata={"CreationDate": None}, transparent=True)
        figure.set_size_inches(own_width, own_height)


@contextmanager
def _without_tables_of_layout() -> Iterator[None]:
    """Embed fonts without the tables that no PDF reader uses, because a PDF has the place of each glyph.

    Reading them takes 40% of the time in which a figure is saved. Matplotlib has no option for it, and fontTools has the
    default of its option ``drop_tables`` here.
    """
    from fontTools.subset import Options  # Slow to import, and only PDFs need it.

    before = Options._drop_tables_default
    Options._drop_tables_default = [*before, "GDEF", "GPOS", "GSUB", "MATH", "kern"]
    try:
        yield
    finally:
        Options._drop_tables_default = before


def grid(panels: int, most: int) -> tuple[int, int]:
    """Numbers of rows and columns for panels, with at most ``most`` per row and as many in each row as possible."""
    rows = -(-panels // most)
    return rows, -(-panels // rows)


def updates_axis(axes: Axes, label: str = "updates") -> None:
    """Set up a horizontal axis of the updates drawn: whole numbers from 0, ``2,000`` or, of long trainings, ``20k``."""
    axes.set_xlabel(label)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True))
    is_long = axes.get_xlim()[1] >= 10_000  # Labels of six characters touch in small panels.
    axes.xaxis.set_major_formatter(EngFormatter(sep="") if is_long else "{x:,.0f}")


def colours(agents: Sequence[str]) -> dict[str, str]:
    """A colour for each agent, by its position in the experiment."""
    return {agent: PALETTE[number % len(PALETTE)] for number, agent in enumerate(agents)}


def dashes(agents: Sequence[str]) -> dict[str, Any]:
    """A line style for each agent, which differs between agents of the same colour."""
    return {
        agent: DASHES[number // len(PALETTE) % len(DASHES)] for number, agent in enumerate(agents)
    }


def band_opacity(agents: int) -> float:
    """Opacity of the band of each interval: lower with more agents, whose bands are drawn over each other."""
    return max(0.04, min(0.15, 0.45 / agents))


def without_common_start(names: Sequence[str]) -> list[str]:
    """Names of tasks without the words that all of them start with."""
    words = [name.split("-") for name in names]
    shared = 0
    while len(names) > 1 and all(len(parts) > shared + 1 for parts in words):
        if len({parts[shared] for parts in words}) > 1:
            break
        shared += 1
    return ["-".join(parts[shared:]) for parts in words]
