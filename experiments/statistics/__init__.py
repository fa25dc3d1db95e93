"""Statistics of leakage: intervals over seeds and victims, honest choices, paired comparisons, trade-offs."""

from experiments.statistics.comparisons import Comparison, compare, holm
from experiments.statistics.cross_fitting import CrossFitted, cross_fitted, largest
from experiments.statistics.fronts import hypervolume, pareto_front
from experiments.statistics.intervals import Column, Summary, over_seeds, summarise

__all__ = [
    "Column",
    "Comparison",
    "CrossFitted",
    "Summary",
    "compare",
    "cross_fitted",
    "holm",
    "hypervolume",
    "largest",
    "over_seeds",
    "pareto_front",
    "summarise",
]
