"""What the best of several options is worth, each choice made on other data than it is judged by."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from experiments.statistics.intervals import Column

Option = TypeVar("Option", bound=Hashable)


@dataclass(frozen=True)
class CrossFitted(Generic[Option]):
    """The values of the chosen options: for each seed one a victim (N,), and what was chosen for each part."""

    columns: list[Column]
    chosen: list[Option]


def largest(means: Mapping[Option, float]) -> Option:
    """The option with the largest mean, of equal ones the first: the strongest of several attackers."""
    return max(means, key=lambda option: means[option])


def cross_fitted(
    options: Mapping[Option, Sequence[Column]], choose: Callable[[Mapping[Option, float]], Option] = largest
) -> CrossFitted[Option]:
    """Choose among options that were measured on the same victims: for each seed (N,), in the same order.

    Whoever picks the largest of several measured means and reports that mean is flattered by chance: the more options,
    the more (Varma and Simon 2006). Here `choose` sees an option's mean over the other seeds, each weighing alike, and
    the choice is judged on the seed that was left out. With a single seed its victims are dealt into two halves, and
    each is judged under what is chosen on the other.

    Raises:
        ValueError: there is no option, or they were measured on other seeds or victims.
    """
    shapes = {tuple(len(column) for column in columns) for columns in options.values()}
    if len(shapes) != 1 or () in shapes:
        raise ValueError(f"expected options measured on the same seeds and victims, got {sorted(shapes)} values")
    (sizes,) = shapes
    if len(sizes) > 1:
        return _over_seeds(options, choose)
    if sizes[0] < 2:  # nobody is left to choose on
        option = choose({option: float(np.mean(columns[0])) for option, columns in options.items()})
        return CrossFitted([np.asarray(options[option][0], dtype=np.float64)], [option])
    return _over_halves(options, sizes[0], choose)


def _over_seeds(
    options: Mapping[Option, Sequence[Column]], choose: Callable[[Mapping[Option, float]], Option]
) -> CrossFitted[Option]:
    means = {option: np.array([np.mean(column) for column in columns]) for option, columns in options.items()}
    seeds = range(len(next(iter(means.values()))))
    chosen = [choose({option: float(np.delete(each, seed).mean()) for option, each in means.items()}) for seed in seeds]
    columns = [np.asarray(options[option][seed], dtype=np.float64) for seed, option in zip(seeds, chosen, strict=True)]
    return CrossFitted(columns, chosen)


def _over_halves(
    options: Mapping[Option, Sequence[Column]], victims: int, choose: Callable[[Mapping[Option, float]], Option]
) -> CrossFitted[Option]:
    values = {option: np.asarray(columns[0], dtype=np.float64) for option, columns in options.items()}
    column, chosen = np.empty(victims), []
    for half in (0, 1):
        here = np.arange(victims) % 2 == half
        option = choose({option: float(each[~here].mean()) for option, each in values.items()})
        column[here] = values[option][here]
        chosen.append(option)
    return CrossFitted([column], chosen)
