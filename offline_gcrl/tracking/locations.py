"""Locations of artifacts in the store of a project, which are absolute and would stay those of a copied or moved project."""

import sqlite3
from contextlib import closing
from pathlib import Path

ARTIFACTS = "mlartifacts"
"""The folder of artifacts in the root of a project."""
COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
)
"""Where MLflow's database has locations: tables and their columns."""


def move_artifacts_along(database: Path, root: Path) -> None:
    """Let all locations below the artifacts of another root be below those of this root.

    New artifacts of a copied project would otherwise be written into the project that it was copied from. Earlier runs
    follow only if their artifacts were copied, too.

    Args:
        database: the SQLite file of a project.
        root: the folder of the project.
    """
    mark, present = f"/{ARTIFACTS}/", (root / ARTIFACTS).is_dir()
    with closing(sqlite3.connect(database)) as connection, connection:
        locations = connection.execute("SELECT DISTINCT artifact_location FROM experiments")
        former = {where.split(mark)[0] for (where,) in locations if mark in (where or "")}
        for other in former - {root.as_uri()}:
            for table, column in COLUMNS if present else COLUMNS[:1]:
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",  # noqa: S608 (names of this file)
                    (root.as_uri(), len(other) + 1, len(other + mark), other + mark),
                )
