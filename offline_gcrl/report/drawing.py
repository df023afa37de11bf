"""Figures embedded in the report page, as SVG whose colours follow the page's light or dark theme.

Each picture has one panel. Panels are therefore next to each other on a wide screen and below each other on a phone, and
their text stays readable. Pictures that belong together share a number and a caption.
"""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from offline_gcrl.config.outputs import STATS
from offline_gcrl.figures.aggregates import (
    gap_figure,
    improvement_figure,
    interquartile_figure,
    profiles_figure,
)
from offline_gcrl.figures.goals import can_map_goals, distances_figure, goals_figure
from offline_gcrl.figures.hindsight import draw_distances, draw_shares
from offline_gcrl.figures.scenes import Scene
from offline_gcrl.figures.style import PALETTE, STYLE, WALL
from offline_gcrl.figures.success import curves_figure, success_figure
from offline_gcrl.report.exports import TABLES, File, figure_files
from offline_gcrl.report.results import DatasetResults
from offline_gcrl.statistics.aggregates import Aggregates
from offline_gcrl.support.digests import intact

Draw = Callable[[Aggregates], Figure]
WIDTH, HEIGHT = 4.2, 2.9  # Inches. Text of 9 points is then readable on a phone.
WIDE = 400  # Points; pictures up to this width may be next to another one.
AGGREGATES_CAPTION = (
    "Interquartile mean of success over all runs, and the optimality gap: by how much the runs are below a success rate "
    "of 1 on average, where lower is better. A run is one training seed on one task. Bars are 95% intervals."
)
PROFILES_CAPTION = (
    "Performance profiles: the share of an agent's runs with a success rate above the one on the horizontal axis. A line "
    "above another one is better. Bands are pointwise 95% intervals."
)
IMPROVEMENT_CAPTION = (
    "Probability that a run of {best} scores higher than one of the agent in the row. It is one half (dashed line) if "
    "both are equal. Bars are 95% intervals."
)
HINDSIGHT_PICTURES = (
    (
        "shares",
        draw_shares,
        "Share of hindsight goals that the transition reaches, measured and expected in theory if only the exact next "
        "state counted. The tolerance of goals makes the measured share larger.",
    ),
    (
        "ahead",
        draw_distances,
        "Number of steps from a transition to its hindsight goal, for strategies that take goals from the same episode.",
    ),
)
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
class NumberedFigure:
    """One or several pictures of the page that share a number, a caption and files."""

    pictures: Sequence[str]
    """SVG elements."""
    caption: str
    files: Sequence[File] = ()

    @property
    def is_wide(self) -> bool:
        """Whether the picture needs the full width of the page."""
        widths = re.findall(r"--width: (\d+)", "".join(self.pictures))
        return max(map(int, widths)) > WIDE


def success_picture(dataset: str, results: DatasetResults) -> NumberedFigure:
    """Success rate of each agent with its interval."""
    figure = success_figure(
        {dataset: results.metrics}, {dataset: results.metric}, {dataset: results.seed_rates}
    )
    figure.axes[0].set_title("", loc="left")
    figure.set_figwidth(WIDTH)
    picture = inline_svg(figure, f"success-{dataset}", _alt_text("Success rate", results))
    caption = "Success rate with its 95% interval. Small points are single training seeds."
    data = File("CSV", f"{TABLES}/metrics-{dataset}.csv")
    return NumberedFigure([picture], caption, figure_files(f"success-{dataset}", data))


def curve_pictures(
    dataset: str, results: DatasetResults, tolerance: float | None
) -> list[NumberedFigure]:
    """Learning curves, and the distribution of the final distance to the goal."""
    curves = curves_figure({dataset: results.curves}, {dataset: results.seed_curves})
    curves.axes[0].set_title("", loc="left")
    curves.set_size_inches(WIDTH, HEIGHT)
    distances = distances_figure(results.episodes, tolerance, results.unit)
    distances.set_size_inches(WIDTH, HEIGHT)
    curves_label = _alt_text("Learning curves", results)
    distances_label = _alt_text("Final distance to the goal, cumulative", results)
    return [
        NumberedFigure(
            [inline_svg(curves, f"curves-{dataset}", curves_label)],
            "Success rate over the course of training. Bands are 95% intervals, and small points are single training "
            f"seeds. {last_point_sentence(results)}",
            figure_files(f"learning_curves-{dataset}", File("CSV", "learning_curves.csv")),
        ),
        NumberedFigure(
            [inline_svg(distances, f"distances-{dataset}", distances_label)],
            "Cumulative distribution of the final distance to the goal. A higher line means that more episodes ended "
            f"close to their goal.{_reached_sentence(tolerance, results.unit)}",
            figure_files(f"distances-{dataset}", _episodes_file(dataset)),
        ),
    ]


def last_point_sentence(results: DatasetResults) -> str:
    """Why the last points of the learning curves differ from the numbers of the table, if they do."""
    both = {
        agent: (float(curve["mean"][-1]), float(results.metrics[agent][results.metric]["mean"]))
        for agent, curve in results.curves.items()
    }
    differing = [
        f"{agent} {last:.2f} and {final:.2f}"
        for agent, (last, final) in both.items()
        if f"{last:.2f}" != f"{final:.2f}"
    ]
    text = "The episodes are used for this curve only, and the table has others"
    if not differing:
        return f"{text}."
    return f"{text}, so the last point and the table differ: {', '.join(differing)}."


def _reached_sentence(tolerance: float | None, unit: str) -> str:
    if tolerance is None:
        return ""
    distance = f"{tolerance:g} {unit}".rstrip()
    return f" A goal counts as reached up to {distance} (dashed line)."


def goal_pictures(
    dataset: str, results: DatasetResults, scene: Scene, notes: str
) -> NumberedFigure | None:
    """Maps of reached and missed goals, one picture per agent; None if a map cannot show them."""
    if not all(map(can_map_goals, results.episodes.values())):
        return None
    pictures = []
    for agent, episodes in results.episodes.items():
        figure = goals_figure({agent: episodes}, scene)
        figure.legends[0].remove()
        reached = int(episodes["success"].sum())
        label = f"Map of goals for {agent}: {reached} reached, {len(episodes) - reached} missed"
        pictures.append(inline_svg(figure, f"goals-{dataset}-{agent}", label))
    caption = f"The goals of the evaluation episodes, with the success rate of each agent. {notes}"
    files = figure_files(f"goals-{dataset}", _episodes_file(dataset))
    return NumberedFigure(pictures, caption.strip(), files)


def goal_dimensions(results: DatasetResults) -> int:
    """The number of dimensions of a goal."""
    tables = results.episodes.values()
    return max(int(table["goal"].list.len().max()) for table in tables)  # type: ignore[arg-type]


def hindsight_pictures(dataset: str, statistics: Mapping[str, Any]) -> list[NumberedFigure]:
    """The share of positive labels, and the distribution of steps from transition to goal."""
    figures = []
    data = File("JSON", f"../datasets/hindsight/{dataset}/{STATS}")
    for name, draw, caption in HINDSIGHT_PICTURES:
        with mpl.rc_context(STYLE):
            figure, axes = plt.subplots(figsize=(WIDTH, HEIGHT))
            draw(axes, statistics)
            label = axes.get_title(loc="left")
        picture = inline_svg(figure, f"hindsight-{name}-{dataset}", label)
        figures.append(
            NumberedFigure([picture], caption, figure_files(f"hindsight-{dataset}", data))
        )
    return figures


def stored_pictures(
    dataset: str, paths: Sequence[Path], captions: Mapping[str, str]
) -> list[NumberedFigure]:
    """Figures of the dataset's card, which another stage saved as SVG and PDF files."""
    figures = []
    for path in paths:
        usual = path.stem.replace("-", " ").replace("_", " ").capitalize()
        caption = captions.get(path.stem, usual)
        svg = _themed(intact(path).read_text("utf-8"), f"card-{dataset}-{path.stem}", caption)
        folder = f"../datasets/cards/{dataset}"
        files = [File(kind.upper(), f"{folder}/{path.stem}.{kind}") for kind in ("pdf", "svg")]
        figures.append(NumberedFigure([svg], caption, files))
    return figures


def aggregate_pictures(name: str, found: Aggregates, comparison: str) -> list[NumberedFigure]:
    """Interquartile means and optimality gaps, performance profiles, and probabilities of improvement.

    Args:
        name: name of the dataset, or of all datasets together, for ids and file names.
        found: aggregates of at least two agents.
        comparison: name of the table with the numbers.
    """
    data = File("CSV", f"{TABLES}/{comparison}.csv")
    profiles = File("CSV", f"{TABLES}/profiles-{name}.csv")
    improvement = IMPROVEMENT_CAPTION.format(best=found.comparison.best)
    parts: tuple[tuple[str, tuple[Draw, ...], File, str], ...] = (
        ("aggregates", (interquartile_figure, gap_figure), data, AGGREGATES_CAPTION),
        ("profiles", (profiles_figure,), profiles, PROFILES_CAPTION),
        ("improvement", (improvement_figure,), data, improvement),
    )
    return [
        NumberedFigure(
            [
                inline_svg(draw(found), f"{part}-{number}-{name}", f"{part.capitalize()} of agents")
                for number, draw in enumerate(draws)
            ],
            caption,
            figure_files(f"{part}-{name}", file),
        )
        for part, draws, file, caption in parts
    ]


def _episodes_file(dataset: str) -> File:
    return File("CSV", f"{TABLES}/episodes-{dataset}.csv")


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
