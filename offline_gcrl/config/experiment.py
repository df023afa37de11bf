"""Sections ``experiment``, ``collect`` and ``ingest`` of ``params.yaml``: what runs, on how much data, and in what files."""

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, field_validator

from offline_gcrl.config.reading import Name, Section, Seed, Title, reject_repeats

WithoutServer = Literal["stop", "local"]


class Experiment(Section):
    """The datasets, agents and seeds of a run."""

    name: Title = "offline-gcrl"
    datasets: Annotated[tuple[Name, ...], Field(min_length=1)]
    agents: Annotated[tuple[Name, ...], Field(min_length=1)]
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]
    published: Name | None = None
    """Name of a file of ``docs/published`` with numbers that papers print, which the report shows next to the measured
    ones of the same datasets and names of agents."""
    without_server: WithoutServer = "stop"
    """If the server of ``MLFLOW_TRACKING_URI`` does not answer at the beginning of a stage: ``stop`` the stage, or log its
    runs to ``mlflow.db`` in the project (``local``)."""

    @field_validator("datasets", "agents", "seeds")
    @classmethod
    def _distinct(cls, names: tuple[Any, ...]) -> tuple[Any, ...]:
        reject_repeats(names)
        return names


class Collecting(Section):
    """How much data is generated, or used of published data."""

    episodes: PositiveInt | Literal["full"] | None = None
    """Episodes per task, instead of the number in its recipe; ``full`` is the published size."""


class Ingesting(Section):
    """How the files of a dataset are cut. Their rows, and all results, are the same."""

    transitions_per_shard: PositiveInt = 4_000_000
    """Largest number of transitions in a file of steps. A larger dataset is written in several files, its shards, which
    end between episodes; so is its hindsight table."""
