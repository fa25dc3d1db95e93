"""The contract of a reproduction: which cells a published table has, how each is measured, what stands beside it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from experiments.statistics import Summary


class PaperError(ValueError):
    """A reproduction is unknown, or was asked for what it does not have."""


@dataclass(frozen=True)
class Plan:
    """How much of a paper is measured."""

    dataset: str
    seeds: int
    quick: bool  # a small size that shows that all of it runs; its figures say nothing
    first_seed: int = 0  # settings that were chosen while looking at some seeds are measured on others

    @property
    def seed_numbers(self) -> range:
        """The training seeds that are measured."""
        return range(self.first_seed, self.first_seed + self.seeds)


@dataclass(frozen=True)
class Cell:
    """One thing that is measured: a row and a column of the published table, with one seed."""

    seed: int
    row: str
    column: str

    @property
    def label(self) -> str:
        """What tells it from the other cells of its seed."""
        return f"{self.column} · {self.row}"

    @property
    def key(self) -> str:
        """A file name of its own."""
        plain = "".join(c if c.isalnum() or c in "-_." else "-" for c in f"{self.column}.{self.row}")
        return f"{plain}.{self.seed}"


@dataclass(frozen=True)
class Workplace:
    """Where a cell is measured, and who hears of its progress."""

    folder: Path  # of the reproduction: targets and other shared things may be kept here
    data_dir: Path | None
    report: Callable[[float], None] = lambda fraction: None  # told which fraction in [0, 1] of the cell is done


Measured = dict[str, Any]
"""What one cell gave, as JSON: figures by name, each a number or a list with one number a victim."""

COMMIT = "commit"
"""Under which name a cell keeps the commit that measured it: cells of one record may come from several."""


@dataclass(frozen=True)
class Row:
    """One line of the comparison: what was published and what was measured, figure by figure."""

    row: str
    column: str
    published: Mapping[str, float | None]
    measured: Mapping[str, Summary]
    note: str = ""


class Paper(ABC):
    """One publication. A subclass lists its cells, measures one at a time, and lays published beside measured.

    Cells of one group are measured one after the other by one object, so an attribute may keep what they share;
    groups may be measured at the same time, in processes of their own.
    """

    name: ClassVar[str]
    citation: ClassVar[str]
    datasets: ClassVar[tuple[str, ...]] = ("mnist",)  # the first is the default
    default_seeds: ClassVar[int] = 3
    figures: ClassVar[Mapping[str, int]]  # what is compared, in this order, with the decimals of each

    @abstractmethod
    def cells(self, plan: Plan) -> list[Cell]:
        """All cells of a plan."""

    def group(self, cell: Cell) -> str:
        """Which cells belong together because they share what is costly; those of one seed, unless overridden."""
        return str(cell.seed)

    @abstractmethod
    def measure(self, cell: Cell, plan: Plan, place: Workplace) -> Measured:
        """Measure one cell; every random draw follows from `cell.seed`."""

    @abstractmethod
    def rows(self, plan: Plan, measured: Mapping[Cell, Measured]) -> Sequence[Row]:
        """Published beside measured, from all cells that are there; a row whose cells are missing is left out."""

    def notes(self, plan: Plan) -> list[str]:
        """What was done otherwise than published, in words; it goes into the record."""
        return []
