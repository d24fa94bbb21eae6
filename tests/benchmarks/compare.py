"""Two runs side by side: what ``--json`` printed some time ago, and what was measured now.

What is compared is what counts of a measure (:meth:`Row.judged`): the judged contender's ratio to
``ssl``, or its value where ``ssl`` does not take part.  A ratio outlives a slower minute of the
same machine, which a value does not.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.measures import BASELINE, MEASURES
from tests.benchmarks.rows import Row, cell, spread

__all__ = ["FORMAT", "Comparison", "Earlier", "NoResultsError"]

#: Of what ``--json`` prints; to be raised when an old file could be misread.
FORMAT = 1

# Two runs never agree on it.
_MAY_DIFFER = ("date",)


class NoResultsError(Exception):
    """The file is not what ``--json`` prints; the message says why."""


@dataclass(frozen=True)
class Earlier:
    """An earlier run.

    Attributes:
        name: of the file.
        machine: where its numbers come from.
        rows: by the name of the measure, those which still are measures.
        unknown: the names of the others.
    """

    name: str
    machine: Mapping[str, str]
    rows: Mapping[str, Row]
    unknown: Sequence[str]

    @classmethod
    def read(cls, path: Path) -> Earlier:
        """Read what ``--json`` printed.

        Raises:
            NoResultsError: it is something else, or cannot be read.
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise NoResultsError(f"{path} cannot be read: {error.strerror}") from None
        except (ValueError, RecursionError) as error:
            raise NoResultsError(f"{path} is not JSON: {error}") from None
        if not isinstance(data, dict) or not {"machine", "measures"} <= data.keys():
            raise NoResultsError(f"{path} is JSON, but not what --json prints")
        # The first files did not say.
        if data.get("format", 1) != FORMAT:
            raise NoResultsError(
                f"{path} has the format {data['format']!r}, and this program reads {FORMAT}: "
                "measure again, with the program that made it or with this one"
            )
        known = {measure.name: measure for measure in MEASURES}
        try:
            machine = {str(key): str(value) for key, value in data["machine"].items()}
            samples = {
                str(row["name"]): {
                    str(name): [_number(cost) for cost in cell["costs"]]
                    for name, cell in row["contenders"].items()
                }
                for row in data["measures"]
            }
            rows = {name: Row(known[name], samples[name]) for name in samples if name in known}
            for row in rows.values():
                row.measured()  # as many samples of everybody, and none that cannot be shown
        except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise NoResultsError(f"{path} is damaged, or was made by hand: {reason}") from None
        return cls(str(path), machine, rows, [name for name in samples if name not in known])


def _number(value: object) -> float:
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no cost")
    return float(value)


@dataclass(frozen=True)
class _Change:
    name: str
    of: str
    then: float | None
    now: float | None
    change: float | None
    beyond: bool | None


def _change(then: Row | None, now: Row) -> _Change:
    before = None if then is None else then.measured()
    after = now.measured()
    measure = now.measure
    of = f"{measure.judged}, {f'/ {BASELINE}' if measure.relative else measure.unit}"
    if then is None or before is None or after is None:
        return _Change(measure.name, of, before, after, None, None)
    series = then.judged(), now.judged()
    # A single sample has a spread that nobody knows.
    beyond = min(map(len, series)) > 1 and abs(after - before) > sum(
        spread(one) * abs(statistics.median(one)) for one in series
    )
    change = (after - before) / abs(before) if before else None
    return _Change(measure.name, of, before, after, change, beyond)


@dataclass(frozen=True)
class Comparison:
    """An earlier run, and this one."""

    earlier: Earlier
    machine: Mapping[str, str]
    rows: Sequence[Row]

    def _differs(self) -> dict[str, list[str]]:
        """What is not the same for both runs."""
        return {
            key: [self.earlier.machine.get(key, "-"), self.machine.get(key, "-")]
            for key in {**self.machine, **self.earlier.machine}
            if key not in _MAY_DIFFER
            and self.machine.get(key) != self.earlier.machine.get(key)
        }

    def _changes(self) -> list[_Change]:
        return [_change(self.earlier.rows.get(row.measure.name), row) for row in self.rows]

    def data(self) -> dict[str, object]:
        """For ``--json``."""
        return {
            "file": self.earlier.name,
            "date": self.earlier.machine.get("date"),
            "differs": self._differs(),
            "unknown": list(self.earlier.unknown),
            "measures": [vars(change) for change in self._changes()],
        }

    def text(self) -> str:
        """The table."""
        date = self.earlier.machine.get("date", "a date that it does not say")
        lines = [f"compared with {self.earlier.name}, of {date}"]
        for key, (then, now) in self._differs().items():
            lines.append(f"not the same {key}: then {then}, now {now}")
        if self.earlier.unknown:
            lines.append(f"not measured any more: {', '.join(self.earlier.unknown)}")
        lines.append(f"{'measure':23}{'of':21}{'then':>9}{'now':>9}{'change':>9}")
        for row in self._changes():
            change = "-" if row.change is None else f"{100 * row.change:+.0f} %"
            mark = " *" if row.beyond else ""
            lines.append(
                f"{row.name:23}{row.of:21}{cell(row.then):>9}{cell(row.now):>9}{change:>9}{mark}"
            )
        lines.append("* more than the spread of both runs; lower is better")
        return "\n".join(lines)
