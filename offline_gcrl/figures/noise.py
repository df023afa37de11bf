"""Figure of a metric at several levels of noise on the actions."""

from collections.abc import Mapping

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from offline_gcrl.figures.style import STYLE, colours
from offline_gcrl.statistics.intervals import Estimate

Levels = Mapping[float, Estimate]
"""A metric by level of noise."""
SHIFT = 0.012
"""Distance between the bars of two agents, as a share of the width."""


def noise_figure(panels: Mapping[str, Mapping[str, Levels]]) -> Figure:
    """One panel per metric and one line per agent, with 95% intervals as bars.

    Args:
        panels: estimates by name of the metric, agent and level of noise.
    """
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(
            1, len(panels), figsize=(0.8 + 4.0 * len(panels), 3.1), squeeze=False
        )
        for place, (metric, agents) in zip(axes[0], panels.items(), strict=True):
            widest = max(level for own in agents.values() for level in own)
            for number, (agent, colour) in enumerate(colours(list(agents)).items()):
                own = agents[agent]
                shift = (number - (len(agents) - 1) / 2) * SHIFT * widest
                x = [level + shift for level in own]
                means = [found.mean for found in own.values()]
                bars = [
                    [found.mean - found.low for found in own.values()],
                    [found.high - found.mean for found in own.values()],
                ]
                place.errorbar(
                    x, means, bars, color=colour, marker="o", markersize=4, capsize=2, label=agent
                )
            place.set_xlabel("noise on actions")
            place.set_ylabel(f"{metric}, 95% interval")
            place.set_xticks(sorted({level for own in agents.values() for level in own}))
            place.set_ylim(bottom=0)
        axes[0, -1].legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        return figure
