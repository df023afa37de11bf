"""Routing weights of modular policies in the report: the table of all weights, and figures."""

from collections.abc import Mapping

import polars as pl

from offline_gcrl.config.outputs import ROUTING_COLUMNS
from offline_gcrl.figures.routing import (
    networks_of,
    overlap_figure,
    routes_figure,
    routing_figure,
)
from offline_gcrl.report.drawing import NumberedFigure, inline_svg
from offline_gcrl.report.exports import File, Save, figure_files
from offline_gcrl.report.findings import Findings

ROUTING_NOTE = (
    "The policy has layers of modules, and the lines are the weights of their connections, as means over the states of a "
    "task, for the first training seed. Modules are dots, from the first layer on the left to the output on the right. "
    "The matrix has the share of routing weight that two tasks have in common, as a mean over seeds: 1 for equal weights, 0 for different modules."
)


def flat_routing(findings: Mapping[str, Findings]) -> pl.DataFrame:
    """The routing weights of all modular policies, one row per dataset, agent, seed, task and weight."""
    keys = {"dataset": str, "agent": str, **ROUTING_COLUMNS, "seed": int}
    tables = [
        found.routing.select(
            pl.lit(dataset).alias("dataset"), pl.lit(agent).alias("agent"), pl.all()
        )
        for dataset, agents in findings.items()
        for agent, found in agents.items()
        if found.routing is not None
    ]
    return pl.concat(tables) if tables else pl.DataFrame(schema=keys)


def draw_routing(findings: Mapping[str, Findings], save: Save) -> None:
    """Write a figure of the routing weights of each modular network of a policy."""
    for dataset, agents in findings.items():
        for agent, found in agents.items():
            if found.routing is not None:
                for network, table in networks_of(found.routing).items():
                    save(routing_figure(table), f"routing-{dataset}-{agent}-{network}")


def routing_pictures(dataset: str, findings: Findings) -> dict[str, list[NumberedFigure]]:
    """Figures of the routing weights of each agent with modular networks."""
    return {
        agent: [
            NumberedFigure(
                [
                    inline_svg(draw(table), f"{name}-{dataset}-{agent}-{network}", label)
                    for draw, name, label in (
                        (routes_figure, "routes", f"Weights of the modules of {agent} for each task"),
                        (overlap_figure, "overlap", f"Routing weight of {agent} that tasks have in common"),
                    )
                ],
                f"Modules of {agent}, {network}. {ROUTING_NOTE}",
                figure_files(f"routing-{dataset}-{agent}-{network}", File("CSV", "routing.csv")),
            )
            for network, table in networks_of(found.routing).items()
        ]
        for agent, found in findings.items()
        if found.routing is not None
    }  # fmt: skip
