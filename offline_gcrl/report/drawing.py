"""Figures embedded in the report page, as SVG whose colours follow the page's light or dark theme.

Each picture has one panel. Panels are therefore next to each other on a wide screen and below each other on a
phone, and their text stays readable.
"""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from offline_gcrl.figures.goals import can_map_goals, distances_figure, goals_figure
from offline_gcrl.figures.hindsight import draw_distances, draw_shares
from offline_gcrl.figures.scenes import Scene
from offline_gcrl.figures.style import PALETTE, STYLE, WALL
from offline_gcrl.figures.success import curves_figure, success_figure
from offline_gcrl.report.results import DatasetResults
from offline_gcrl.support.digests import intact

WIDTH = 4.6  # Inches. Text of 9 points is then readable on a phone.
INKS = {
    "#000000": "currentColor",
    "#ffffff": "var(--paper, #ffffff)",
    "#e6e6e6": "var(--rule, #e6e6e6)",
    "#888888": "var(--quiet, #888888)",
    WALL: f"var(--wall, {WALL})",
    **{
        colour.lower(): f"var(--colour-{number}, {colour.lower()})"
        for number, colour in enumerate(PALETTE)
        if colour != "#000000"
    },
}
"""Colours of the figures, and the variables of the page's style sheet that replace them."""


@dataclass(frozen=True)
class Picture:
    """A figure that is embedded in the page."""

    svg: str
    caption: str


def success_picture(dataset: str, results: DatasetResults) -> Picture:
    """Success rate of each agent with its interval."""
    figure = success_figure({dataset: results.metrics}, {dataset: results.metric})
    figure.axes[0].set_title("", loc="left")
    figure.set_figwidth(WIDTH)
    label = _alt_text("Success rate", results)
    return Picture(inline_svg(figure, f"success-{dataset}", label), "")


def curve_pictures(dataset: str, results: DatasetResults, tolerance: float | None) -> list[Picture]:
    """Learning curves, and the distribution of the final distance to the goal."""
    curves = curves_figure({dataset: {name: found.curve for name, found in results.agents.items()}})
    curves.axes[0].set_title("", loc="left")
    curves.set_size_inches(WIDTH, 3.0)
    distances = distances_figure(results.episodes, tolerance, results.unit)
    distances.set_size_inches(WIDTH, 3.0)
    unit = f" {results.unit}".rstrip()
    reached = (
        ""
        if tolerance is None
        else f" A goal counts as reached up to {tolerance:g}{unit} (dashed line)."
    )
    return [
        Picture(
            inline_svg(curves, f"curves-{dataset}", _alt_text("Learning curves", results)),
            "Success rate over the course of training, on evaluation episodes that are used only for this "
            "curve. Bands are 95% intervals.",
        ),
        Picture(
            inline_svg(
                distances,
                f"distances-{dataset}",
                _alt_text("Final distance to the goal, cumulative", results),
            ),
            "Cumulative distribution of the final distance to the goal. A higher line means that more "
            f"episodes ended close to their goal.{reached}",
        ),
    ]


def goal_pictures(dataset: str, results: DatasetResults, scene: Scene) -> list[Picture]:
    """Maps of reached and missed goals, one per agent; an empty list if a map cannot show them."""
    if not all(map(can_map_goals, results.episodes.values())):
        return []
    pictures = []
    for agent, episodes in results.episodes.items():
        figure = goals_figure({agent: episodes}, scene)
        figure.legends[0].remove()
        reached = int(episodes["success"].sum())
        label = f"Map of goals for {agent}: {reached} reached, {len(episodes) - reached} missed"
        pictures.append(Picture(inline_svg(figure, f"goals-{dataset}-{agent}", label), ""))
    return pictures


def goal_dimensions(results: DatasetResults) -> int:
    """The number of dimensions of a goal."""
    tables = results.episodes.values()
    return max(int(table["goal"].list.len().max()) for table in tables)  # type: ignore[arg-type]


def hindsight_pictures(dataset: str, statistics: Mapping[str, Any]) -> list[Picture]:
    """The share of positive labels, and the distribution of steps from transition to goal."""
    pictures = []
    for name, draw in (("shares", draw_shares), ("ahead", draw_distances)):
        with mpl.rc_context(STYLE):
            figure, axes = plt.subplots(figsize=(WIDTH, 3.2))
            draw(axes, statistics)
            label = axes.get_title(loc="left")
        pictures.append(Picture(inline_svg(figure, f"hindsight-{name}-{dataset}", label), ""))
    return pictures


def stored_pictures(
    dataset: str, paths: Sequence[Path], captions: Mapping[str, str]
) -> list[Picture]:
    """Figures that another stage saved as SVG files."""
    pictures = []
    for path in paths:
        caption = captions.get(
            path.stem, path.stem.replace("-", " ").replace("_", " ").capitalize()
        )
        pictures.append(
            Picture(
                _themed(intact(path).read_text("utf-8"), f"card-{dataset}-{path.stem}", caption),
                caption,
            )
        )
    return pictures


def inline_svg(figure: Figure, name: str, label: str) -> str:
    """Convert a figure to an SVG element of the page, and close the figure.

    Args:
        figure: a figure with a single panel.
        name: prefix of the ids within the SVG; it must be unique on the page.
        label: description for screen readers.
    """
    buffer = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(
            buffer,
            format="svg",
            metadata={"Date": None},
            transparent=True,
            bbox_inches="tight",
            pad_inches=0.04,
        )
    plt.close(figure)
    return _themed(buffer.getvalue(), name, label)


def _themed(svg: str, name: str, label: str) -> str:
    """An SVG document as an element that takes colours, fonts and width from the page."""
    body = re.sub(r"<(metadata|style)\b.*?</\1>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    head, rest = body.split(">", 1)
    view_box = (
        _attribute(head, "viewBox") or f"0 0 {_points(head, 'width')} {_points(head, 'height')}"
    )
    width = float(view_box.split()[2])
    rest = re.sub(r"font-family: ?[^;\"]+", "font-family: inherit", rest)
    rest = re.sub(r"(font:(?: \d+)? [\d.]+px) [^;\"]+", r"\1 var(--sans, sans-serif)", rest)
    rest = re.sub(r"\n\s+", "\n", rest)
    rest = re.sub(r"<[^>]+>", _rounded, rest)
    rest = re.sub(r"#[0-9a-fA-F]{6}\b", lambda found: INKS.get(found[0].lower(), found[0]), rest)
    label = escape(label, quote=True)
    return (
        f'<svg class="plot" viewBox="{view_box}" style="--width: {width:.0f}" role="img" '
        f'aria-label="{label}" xmlns="http://www.w3.org/2000/svg" '
        f'xmlns:xlink="http://www.w3.org/1999/xlink">{_with_own_ids(rest, name)}'
    )


def _rounded(tag: re.Match[str]) -> str:
    """An element with its lengths rounded to a hundredth of a point; text is not changed."""
    return re.sub(r"(\d\.\d{2})\d+", r"\1", tag[0])


def _with_own_ids(svg: str, name: str) -> str:
    """Make the ids of an SVG unique on the page, and remove ids that nothing refers to."""
    prefix = re.sub(r"[^A-Za-z0-9_-]", "-", name)
    used = set(re.findall(r"url\(#([^)]+)\)", svg)) | set(re.findall(r'href="#([^"]+)"', svg))

    def renamed(found: re.Match[str]) -> str:
        return f' id="{prefix}-{found[1]}"' if found[1] in used else ""

    svg = re.sub(r' id="([^"]+)"', renamed, svg)
    return re.sub(r'(url\(#|href="#)', rf"\g<1>{prefix}-", svg)


def _attribute(head: str, name: str) -> str:
    found = re.search(rf'\b{name}="([^"]+)"', head)
    return found[1] if found else ""


def _points(head: str, name: str) -> str:
    return re.sub(r"[a-z%]+$", "", _attribute(head, name)) or "480"


def _alt_text(title: str, results: DatasetResults) -> str:
    rates = (
        f"{agent} {values[results.metric]['mean']:.2f}" for agent, values in results.metrics.items()
    )
    return f"{title}; final success rate: {', '.join(rates)}"
