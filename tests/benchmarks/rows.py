"""What came out of a measure, and whether it is what was asked for."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from tests.benchmarks.measures import BASELINE, Measure

__all__ = ["Row", "cell", "spread"]


@dataclass(frozen=True)
class Row:
    """What came out of one measure: the costs of one, by contender, in the order of the rounds."""

    measure: Measure
    samples: dict[str, list[float]]

    def value(self, contender: str) -> float | None:
        """The median, as it is shown."""
        if contender not in self.samples:
            return None
        return self.measure.show(statistics.median(self.samples[contender]))

    def ratio(self, contender: str) -> float | None:
        """The cost in proportion to the baseline's: the median of the rounds' own ratios.

        What slows the machine down for a while slows down a whole round, and so does not show.
        """
        ratios = self._ratios(contender)
        return statistics.median(ratios) if ratios else None

    def _ratios(self, contender: str) -> list[float]:
        costs, base = self.samples.get(contender), self.samples.get(BASELINE)
        # Memory, over few connections, may be nothing: it grows by whole pages.
        if not costs or not base or not all(base):
            return []
        return [cost / of for cost, of in zip(costs, base, strict=True)]

    def spread(self) -> float:
        """Half the distance of the quartiles, in proportion to the median; of the worst one."""
        return max(spread(costs) for costs in self.samples.values())

    def judged(self) -> list[float]:
        """What counts, by round: the judged contender's ratios, or values where there are none.

        Lower is better, always.
        """
        if self.measure.relative:
            return self._ratios(self.measure.judged)
        return [self.measure.show(cost) for cost in self.samples.get(self.measure.judged, ())]

    def measured(self) -> float | None:
        """The median of what counts; None if it was not measured."""
        judged = self.judged()
        return statistics.median(judged) if judged else None

    def met(self) -> str | None:
        """How far the goal is reached: ``"aim"``, ``"must"``, ``"no"``; None without an answer."""
        goal, measured = self.measure.goal, self.measured()
        if goal is None or measured is None:
            return None
        if measured <= goal.aim:
            return "aim"
        return "must" if measured <= goal.must else "no"

    def data(self) -> dict[str, object]:
        """For ``--json``."""
        goal = self.measure.goal
        return {
            "name": self.measure.name,
            "what": self.measure.what,
            "unit": self.measure.unit,
            "spread": self.spread(),
            "contenders": {
                name: {"value": self.value(name), "ratio": self.ratio(name), "costs": costs}
                for name, costs in self.samples.items()
            },
            "goal": goal
            and {
                "of": self.measure.judged,
                "relative": self.measure.relative,
                "measured": self.measured(),
                "must": goal.must,
                "aim": goal.aim,
                "met": self.met(),
            },
        }


def spread(costs: Sequence[float]) -> float:
    """Half the distance of the quartiles, in proportion to the median."""
    median = statistics.median(costs)
    if len(costs) < 2 or not median:
        return 0.0
    low, _, high = statistics.quantiles(costs, n=4)
    return (high - low) / 2 / abs(median)


def cell(value: float | None) -> str:
    """Write a number into a table, with the digits that mean something."""
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
