"""Numbers that papers print, next to which the report shows measured ones: one file per study in ``docs/published``."""

import re
from math import log10
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from offline_gcrl.config.reading import NAME, Name, Section, nearest, read_yaml, validated
from offline_gcrl.support.errors import SettingsError

PUBLISHED = Path("docs/published")
NUMBER = r"-?\d+(\.\d+)?( ± \d+(\.\d+)?)?"
Printed = Annotated[str, Field(pattern=f"^{NUMBER}$")]
"""A number as it is printed, with its spread if it has one: ``18.9`` or ``63 ± 6``."""


class PublishedTable(Section):
    """One table of a paper."""

    title: str
    """The table and its paper."""
    metric: Literal["success_rate", "discounted_return"]
    setting: str
    """Data, updates and evaluation behind the numbers."""
    spread: str | None = None
    """What the number after ± is; left out if the numbers have none."""
    scale: PositiveFloat = 1.0
    """By which printed numbers are multiplied: 0.01 for percent."""
    last_snapshots: PositiveInt | None = None
    """The printed number is the mean of the evaluations of this many last snapshots, instead of one evaluation."""
    values: dict[Name, dict[Name, Printed]] = {}
    """By dataset and agent."""
    noise: dict[Name, dict[str, dict[Name, Printed]]] = {}
    """By dataset, level of the noise on actions, and agent."""

    def printed(self, dataset: str, agent: str) -> "PrintedNumber | None":
        """The number for an agent on a dataset; None if the table has none."""
        text = self.values.get(dataset, {}).get(agent)
        return None if text is None else PrintedNumber.of(text, self.scale)

    def printed_with_noise(self, dataset: str, level: float, agent: str) -> "PrintedNumber | None":
        """The number for an agent with noise on its actions; None if the table has none."""
        levels = {float(name): own for name, own in self.noise.get(dataset, {}).items()}
        text = levels.get(level, {}).get(agent)
        return None if text is None else PrintedNumber.of(text, self.scale)


class PrintedNumber(Section):
    """A printed number, scaled."""

    mean: float
    spread: float | None
    digits: int
    """Digits after the point."""

    @classmethod
    def of(cls, text: str, scale: float) -> "PrintedNumber":
        """From the text of a ``Printed``."""
        mean, _, spread = text.partition(" ± ")
        added = round(-log10(scale))
        digits = len(mean.partition(".")[2]) + max(added, 0)
        return cls(
            mean=float(mean) * scale,
            spread=float(spread) * scale if spread else None,
            digits=digits,
        )

    def __str__(self) -> str:
        spread = "" if self.spread is None else f" ± {self.spread:.{self.digits}f}"
        return f"{self.mean:.{self.digits}f}{spread}"


class PublishedNumbers(Section):
    """The tables that a study is compared with."""

    tables: Annotated[tuple[PublishedTable, ...], Field(min_length=1)]

    def for_dataset(self, dataset: str) -> tuple[PublishedTable, ...]:
        """The tables that have numbers for a dataset."""
        return tuple(table for table in self.tables if dataset in {*table.values, *table.noise})

    def printed(
        self, metric: str, dataset: str, agent: str, noise: float = 0.0
    ) -> "PrintedNumber | None":
        """The number of a metric for an agent at a level of noise; None if no table has it."""
        found = (
            table.printed_with_noise(dataset, noise, agent) if noise else table.printed(dataset, agent)
            for table in self.tables
            if table.metric == metric
        )  # fmt: skip
        return next((number for number in found if number is not None), None)


def load_published(name: str, folder: Path = PUBLISHED) -> PublishedNumbers:
    """Read and check the numbers that a study is compared with.

    Args:
        name: value of ``experiment.published``.
        folder: folder of the files.

    Raises:
        SettingsError: there is no such file, or it is not valid; the message names file, key and remedy.
    """
    known = sorted(path.stem for path in folder.glob("*.yaml") if NAME.fullmatch(path.stem))
    if name not in known:
        raise SettingsError(
            f"experiment.published: no file {folder / name}.yaml; {nearest(name, known)}"
        )
    path = folder / f"{name}.yaml"
    numbers = validated(PublishedNumbers, read_yaml(path), path)
    for table in numbers.tables:
        for dataset, levels in table.noise.items():
            if wrong := [level for level in levels if not re.fullmatch(r"\d+(\.\d+)?", level)]:
                raise SettingsError(
                    f"{path}: noise.{dataset}: '{wrong[0]}' is no level of noise; write a number in quotes"
                )
    return numbers
