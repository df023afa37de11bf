"""Write the pages of the reference from the modules of the package, so that a new module needs no line here.

Each page lists the modules of some folders of the package, in the order of the data flow. The last page lists
the modules of all other folders.
"""

import pkgutil
from pathlib import Path

PAGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "policies": ("Policies", ("library", "policies")),
    "config": ("Settings", ("config",)),
    "data": (
        "Data",
        ("goals", "environments", "collect", "convert", "episodes", "cards", "hindsight"),
    ),
    "learning": ("Learning", ("networks", "agents", "training")),
    "evaluation": ("Evaluation", ("evaluation", "statistics", "figures", "report")),
    "tracking": ("Tracking", ("tracking",)),
    "support": ("Support and commands", ()),
}
"""Page: its title and the folders of the package that it lists."""
INTRODUCTIONS = {
    "config": "The fields of each section are listed on the page [Settings](../settings.md).\n\n"
}


def write_reference(package: str, path: list[str], folder: Path) -> None:
    """Write one page for each entry of ``PAGES`` and delete the pages of former entries."""
    modules = sorted(
        module.name.removeprefix(f"{package}.")
        for module in pkgutil.walk_packages(path, f"{package}.")
        if not module.name.endswith("__main__")
    )
    for old in folder.glob("*.md"):
        if old.stem not in PAGES and old.stem != "index":
            old.unlink()
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
        if not target.exists() or target.read_text() != text:  # Sphinx rebuilds what has changed.
            target.write_text(text)
