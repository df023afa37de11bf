"""Environments in modules of the user's project: which code they are, so that changing it reruns what depends on it.

The stage ``check`` depends on the folder ``environments/`` and writes digests of the modules that a dataset uses into
its resolved recipe, on which the other stages depend.
"""

from importlib.util import find_spec
from pathlib import Path

from offline_gcrl.config import Dataset
from offline_gcrl.support.files import digest

ENVIRONMENTS = "environments"


def own_code(dataset: Dataset, root: Path) -> dict[str, str]:
    """Digests of the modules in the project's folder that the environments of a dataset are made by.

    Args:
        dataset: its environments are named ``module:id`` where a module registers them.
        root: folder of the project.

    Returns:
        By name of the module; modules that are installed elsewhere are not contained.
    """
    files = {name: _files(name, root) for name in _modules(dataset)}
    return {name: digest(paths) for name, paths in files.items() if paths}


def unwatched_code(dataset: Dataset, root: Path) -> list[Path]:
    """Modules of the user's own whose changes DVC does not see, because they are not in ``environments/``."""
    found = [spec.origin for name in _modules(dataset) if (spec := find_spec(name)) and spec.origin]
    paths = [Path(origin).resolve() for origin in found]
    watched = (root / ENVIRONMENTS).resolve()
    return [
        path
        for path in paths
        if "site-packages" not in path.parts and not path.is_relative_to(watched)
    ]


def _modules(dataset: Dataset) -> list[str]:
    """Top modules that the ids of environments name, without this package."""
    names = {
        environment.id.partition(":")[0].split(".")[0]
        for recipe in dataset.recipes
        for environment in (
            recipe.environment,
            recipe.evaluation.environment if recipe.evaluation else None,
        )
        if environment is not None and ":" in environment.id
    }
    return sorted(names - {"offline_gcrl"})


def _files(module: str, root: Path) -> list[Path]:
    """The file of a module, or all files of a package, with models and meshes; none outside of ``root``."""
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        return []
    origin = Path(spec.origin).resolve()
    if not origin.is_relative_to(root.resolve()) or "site-packages" in origin.parts:
        return []
    if spec.submodule_search_locations is None:
        return [origin]
    return sorted(
        path
        for path in origin.parent.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not _is_leftover(path.name)
    )


def _is_leftover(name: str) -> bool:
    """Whether a file is one that editors, archives and file managers leave behind."""
    return name.startswith((".", "#")) or name.endswith(("~", ".orig", ".rej"))
