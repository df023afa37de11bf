"""Figure of a metric at several levels of noise on the actions."""

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from offline_gcrl.figures.style import PRINTED, STYLE, colours
from offline_gcrl.statistics.intervals import Estimate

Levels = Mapping[float, Estimate]
"""A metric by level of noise."""
PrintedLevels = Mapping[str, Mapping[float, float]]
"""The numbers that papers print, by agent and level of noise."""
SHIFT = 0.012
"""Distance between the bars of two agents, as a share of the width."""


def noise_figure(
    panels: Mapping[str, Mapping[str, Levels]], printed: Mapping[str, PrintedLevels] | None = None
) -> Figure:
    """One panel per metric and one line per agent, with 95% intervals as bars; dashed lines are of printed numbers.

    Args:
        panels: estimates by name of the metric, agent and level of noise.
        printed: the printed numbers of a metric, by its name.
    """
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(
            1, len(panels), figsize=(0.8 + 4.0 * len(panels), 3.1), squeeze=False
        )
        for place, (metric, agents) in zip(axes[0], panels.items(), strict=True):
            own = (printed or {}).get(metric, {})
            _draw_agents(place, agents, own)
            place.set_xlabel("noise on actions")
            place.set_ylabel(f"{metric}, 95% interval")
            place.set_xticks(sorted({level for own in agents.values() for level in own}))
            place.set_ylim(bottom=0)
        axes[0, -1].legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        return figure


def _draw_agents(axes: Axes, agents: Mapping[str, Levels], printed: PrintedLevels) -> None:
    """Draw the lines of all agents, a little beside each other."""
    widest = max(level for own in agents.values() for level in own)
    for number, (agent, colour) in enumerate(colours(list(agents)).items()):
        shift = (number - (len(agents) - 1) / 2) * SHIFT * widest
        found = agents[agent].values()
        means = [estimate.mean for estimate in found]
        bars = [
            [estimate.mean - estimate.low for estimate in found],
            [estimate.high - estimate.mean for estimate in found],
        ]
        style: dict[str, Any] = {"color": colour, "marker": "o", "markersize": 4, "capsize": 2}
        axes.errorbar([level + shift for level in agents[agent]], means, bars, label=agent, **style)
        if agent in printed:
            style = PRINTED | {"color": colour, "linestyle": (0, (4, 2)), "markersize": 5}
            x, y = [*printed[agent]], [*printed[agent].values()]
            axes.errorbar(x, y, label=f"{agent}, printed", **style)
