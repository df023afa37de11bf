"""The pages of the reference, written from the modules that there are: a new one needs no line here.

Each page has the modules and packages named for it, in the order in which data flows; what no page names is
on the last.
"""

import pkgutil
from pathlib import Path

PAGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "policies": ("Policies", ("policy", "scaling", "errors")),
    "config": ("Settings", ("config", "catalogue", "experiments", "tasks")),
    "data": (
        "Data",
        (
            "goals",
            "selection",
            "collect",
            "convert",
            "episodes",
            "hindsight",
            "cards",
            "draws",
            "batches",
        ),
    ),
    "learning": ("Learning", ("agents", "networks", "multitask", "training_jobs", "training")),
    "judging": (
        "Judging",
        (
            "environments",
            "evaluation",
            "held_out",
            "zero_shot",
            "probes",
            "intervals",
            "comparison",
            "contrasts",
            "sharing",
            "continual",
            "report",
        ),
    ),
    "tracking": ("Tracking", ("tracking",)),
    "rest": ("All else", ()),
}
INTRODUCTIONS = {
    "config": "The fields of each section stand on the page of [settings](../settings.md).\n\n"
}


def write_reference(package: str, path: list[str], folder: Path) -> None:
    """Write a page for each part of a package, and clear pages of parts that are no more."""
    modules = sorted(
        module.name.removeprefix(f"{package}.")
        for module in pkgutil.walk_packages(path, f"{package}.")
        if not module.name.endswith("__main__")
    )
    left = list(modules)
    for page, (title, parts) in PAGES.items():
        chosen = [name for part in parts for name in modules if name.split(".")[0] == part]
        left = [name for name in left if name not in chosen]
        chosen = chosen if parts else left
        text = f"# {title}\n\n{INTRODUCTIONS.get(page, '')}" + "\n".join(
            f"## {name}\n\n```{{eval-rst}}\n.. automodule:: {package}.{name}\n```\n"
            for name in chosen
        )
        target = folder / f"{page}.md"
        if (
            not target.exists() or target.read_text() != text
        ):  # Unchanged pages are not built again.
            target.write_text(text)
