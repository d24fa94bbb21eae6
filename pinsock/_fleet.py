"""Pin files in operation, for the command line: ``check FILE`` and ``lint FILE``.

``check`` shakes hands with every host of a file, side by side, and says what will lock clients out
and when.  ``lint`` says so of the file alone.
"""

from __future__ import annotations

import argparse
import os
import ssl
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from queue import SimpleQueue

from pinsock import PinMatch, PinMismatchError, PinSet, PinSyntaxError, _chain
from pinsock._hosts import find
from pinsock._lines import Entry, canonical_peer, read_lines, split_peer
from pinsock._reach import (
    NO,
    USAGE,
    Line,
    Mistake,
    Target,
    make_context,
    print_json,
    reason_of,
    say,
    where,
)

__all__ = ["check_file", "lint"]

_DAY = timedelta(days=1)
_MAX_NAME = 253  # RFC 1035 section 2.3.4


def _read(path: str, *, hint: str = "") -> dict[str, Entry]:
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise Mistake(f"cannot read {path}: there is no such file{hint}", USAGE) from None
    except OSError as error:
        raise Mistake(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise Mistake(f"cannot read {path}: {error}") from None
    try:
        return read_lines(text, path, ports=True)
    except PinSyntaxError as error:
        raise Mistake(str(error)) from None


def _days(end: datetime | None, now: datetime) -> int | None:
    return None if end is None else (end - now) // _DAY


# check -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Row:
    """What was found out of one host.

    Attributes:
        name: the host, or the pattern, that the file has.
        target: where it was looked for; None for a pattern, which is nowhere.
        state: ``"ok"``, ``"expired"`` (the pins match, and are past their end), ``"mismatch"``,
            ``"refused"`` (for no matter of pins), ``"unreachable"`` or ``"not checked"``.
        reason: why, in one line; empty if all is well.
        match: where the pins matched.
        certificate_days: days until the first certificate that was matched expires.
        pins_days: days until the pins expire; None if they do not.
        backup: whether each position has a pin that is not in use.
        enforced: False if the pins are report only.
    """

    name: str
    target: Target | None
    state: str
    reason: str
    match: PinMatch | None
    certificate_days: int | None
    pins_days: int | None
    backup: bool
    enforced: bool

    def well(self, days: int) -> bool:
        """Whether nothing is wrong, or will be in so many days."""
        left = [each for each in (self.certificate_days, self.pins_days) if each is not None]
        return self.state in ("ok", "not checked") and min(left, default=days) >= days

    def as_json(self) -> dict[str, object]:
        match = self.match
        return {
            "name": self.name,
            "host": self.target and self.target.host,
            "port": self.target and self.target.port,
            "state": self.state,
            "reason": self.reason or None,
            "matches": [
                {"depth": each.depth, "position": each.position, "pin": str(each.pin)}
                for each in (() if match is None else (match, *match.others))
            ],
            "certificate_days": self.certificate_days,
            "pins_days": self.pins_days,
            "backup": self.backup,
            "enforced": self.enforced,
        }

    def cells(self) -> tuple[str, ...]:
        def days(number: int | None) -> str:
            return "-" if number is None else f"{number} days"

        state = self.state if self.enforced else f"{self.state}, report only"
        return (
            self.name if self.target is None else str(self.target),
            state,
            "-" if self.match is None else where(self.match).removeprefix("matched at "),
            days(self.certificate_days),
            days(self.pins_days),
            "yes" if self.backup else "NO",
        )


_HEADINGS = ("HOST", "RESULT", "MATCHED", "CERTIFICATE", "PINS", "BACKUP")


def _has_backup(pins: PinSet, match: PinMatch | None) -> bool:
    """Whether every position has a pin beside the one in use."""
    matches = () if match is None else (match, *match.others)
    in_use = {each.position: each.pin for each in matches}
    return all(
        any(pin != in_use.get(position, alternatives[0]) for pin in alternatives)
        for position, alternatives in pins.positions.items()
    )


def _look(name: str, entry: Entry, line: Line | None, cafile: str | None) -> _Row:
    """Shake hands with one host."""
    pins = entry.pin_set()
    # Whatever the file says of these two, here a mismatch is to be seen.
    strict = PinSet(pins.positions, trust=pins.trust, check_expiry=pins.check_expiry)
    state, reason, match = "not checked", "a pattern: name a host that it matches", None
    certificate_days = None
    now = datetime.now(timezone.utc)
    if line is not None:
        try:
            with line.connect(make_context(strict, cafile)) as tls:
                tls.do_handshake()
                match, chain = tls.pin_match, tls.get_verified_chain()
            state, reason = "ok", ""
            if pins.expired(now):
                state, reason = "expired", "the pins have expired: bring in new ones"
            certificate_days = _days(_first_end(match, chain), now)
        except ssl.SSLCertVerificationError as error:
            state, reason = "refused", reason_of(error)
            if isinstance(error, PinMismatchError):
                # Enough to tell a renewal from an impostor; the rest of the chain is for show.
                leaf = error.positions[0]
                state = "mismatch"
                reason += (
                    f": its leaf has {leaf.pin or leaf.certificate_pin}; if it was changed on "
                    "purpose, add this pin; if not, beware"
                )
        except Mistake as mistake:
            state, reason = "unreachable", str(mistake)
    return _Row(
        name=name,
        target=None if line is None else line.target,
        state=state,
        reason=reason,
        match=match,
        certificate_days=certificate_days,
        pins_days=_days(pins.expires, now),
        backup=_has_backup(pins, match),
        enforced=pins.enforce,
    )


def _first_end(match: PinMatch | None, chain: Sequence[bytes]) -> datetime | None:
    """When the first of the matched certificates expires."""
    matches = () if match is None else (match, *match.others)
    return min((_chain.validity(chain[each.depth])[1] for each in matches), default=None)


def _lines(
    entries: Mapping[str, Entry], arguments: argparse.Namespace
) -> Iterator[tuple[str, Entry, Line | None]]:
    """What to look at: the hosts that were named, or all of the file."""
    for text in arguments.hosts:
        try:
            target = Target.parse(text)
        except argparse.ArgumentTypeError as error:
            raise Mistake(f"{error} (see python -m pinsock check --help)", USAGE) from None
        line = Line.to(target, arguments, arguments.port)
        entry = entries.get(canonical_peer(str(line.target))) or find(entries, line.servername)
        if entry is None:
            raise Mistake(f"{arguments.what} has no pins for {line.servername}: add a line for it")
        yield line.servername, entry, line
    if arguments.hosts:
        return
    for name, entry in entries.items():
        if name.startswith("*"):
            yield name, entry, None
        else:
            yield name, entry, Line.to(Target(*split_peer(name)), arguments, arguments.port)


def _columns() -> int:
    """How wide the terminal is on which the progress is shown."""
    try:
        columns = os.get_terminal_size(sys.stderr.fileno()).columns
    except OSError:
        columns = 0
    return columns or 80  # a terminal that does not know says 0


class _Progress:
    """A bar on the terminal, as long as there is one."""

    _WIDTH = 30

    def __init__(self, total: int) -> None:
        self._total = total
        self._shown = sys.stderr is not None and sys.stderr.isatty()

    def show(self, done: int) -> None:
        if self._shown:
            total = str(self._total)
            # One that wraps is never overwritten, and scrolls the screen away line by line.
            room = _columns() - len(f"[] {total}/{total}") - 1
            width = max(0, min(self._WIDTH, room))
            bar = "#" * (width * done // self._total)
            sys.stderr.write(f"\r[{bar:{width}}] {done}/{total}")
            sys.stderr.flush()

    def clear(self) -> None:
        if self._shown:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()


def _look_at_all(
    lines: Sequence[tuple[str, Entry, Line | None]], jobs: int, cafile: str | None
) -> list[_Row]:
    """Look at all of them side by side, a bounded number at a time; in their order."""
    progress = _Progress(len(lines))
    tasks: SimpleQueue[tuple[Future[_Row], tuple[str, Entry, Line | None]] | None] = SimpleQueue()
    futures: list[Future[_Row]] = [Future() for _ in lines]

    def work() -> None:
        for future, each in iter(tasks.get, None):
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(_look(*each, cafile))
                except BaseException as error:
                    future.set_exception(error)

    for task in zip(futures, lines, strict=True):
        tasks.put(task)
    jobs = min(jobs, len(lines))
    for _ in range(jobs):
        tasks.put(None)
        # A ThreadPoolExecutor would be waited for, and with it, on Ctrl-C, the slowest server.
        threading.Thread(target=work, daemon=True).start()
    try:
        left = set(futures)
        while left:
            progress.show(len(futures) - len(left))
            _, left = wait(left, return_when=FIRST_COMPLETED)
        return [future.result() for future in futures]
    finally:
        progress.clear()
        for future in futures:
            future.cancel()  # those that have not begun do not begin


def _print_table(rows: Sequence[_Row]) -> None:
    table = [_HEADINGS, *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for cells, reason in zip(table, ("", *(row.reason for row in rows)), strict=True):
        text = "  ".join(f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True))
        say(text.rstrip() + (f"\n    {reason}" if reason else ""))


def check_file(arguments: argparse.Namespace) -> int:
    """Check every host of a pin file against the live servers."""
    entries = _read(arguments.what, hint="; to check one host give --pin")
    lines = list(_lines(entries, arguments))
    if not lines:
        raise Mistake(f"{arguments.what} has no lines: there is nothing to check")
    make_context(None, arguments.cafile)  # a wrong file is wrong once, and not for each host
    rows = _look_at_all(lines, arguments.jobs, arguments.cafile)
    good = [row.well(arguments.days) for row in rows]
    if arguments.json:
        print_json({"ok": all(good), "hosts": [row.as_json() for row in rows]})
    else:
        _print_table(rows)
    return 0 if all(good) else NO


# lint ------------------------------------------------------------------------------------------


def _duplicates(name: str, entry: Entry) -> Iterator[tuple[int, str]]:
    first: dict[tuple[str, str], int] = {}
    for line in entry.lines:
        number = first.setdefault((line.position, line.pin), line.number)
        if number != line.number:
            yield line.number, f"{name}: the same pin as in line {number}: remove one of them"


def _lint_host(name: str, entry: Entry, now: datetime, days: int) -> Iterator[tuple[int, str]]:
    pins = entry.pin_set()
    number = entry.lines[0].number
    # A TofuStore, which knows ports, says since when it knows a peer.
    port = None if name.startswith("*") else split_peer(name)[1]
    if port is not None and "first-seen" not in entry.options:
        yield (
            number,
            f"{name}: a PinFile takes no port, and refuses the whole file for it: write the host "
            "alone (only a TofuStore knows ports)",
        )
    if name.startswith("*.") and len(name) > _MAX_NAME:  # no room for what it stands for
        yield number, f"{name}: no host has a name as long as that: this matches nothing"
    for position, alternatives in pins.positions.items():
        if len(alternatives) == 1:
            yield (
                next(line.number for line in entry.lines if line.position == str(position)),
                f"{name}: no backup pin at {position}: the day that this key is lost or renewed "
                "every client is locked out; make one with: python -m pinsock pin-host HOST "
                "--backup-key FILE",
            )
    left = _days(pins.expires, now)
    if left is not None and left < days:
        alone = all(position in ("leaf", 0) for position in pins.positions)
        which = "these leaf-only pins" if alone else "these pins"
        end = "have expired" if left < 0 else f"expire in {left} days"
        lock = "locked out" if pins.after_expiry == "reject" else "without pins"
        yield number, f"{name}: {which} {end}, and clients are {lock} then: bring in new ones"
    if not pins.enforce:
        yield number, f"{name}: report-only: nobody is refused; enforce when the reports are clean"
    yield from _duplicates(name, entry)


def _lint_hosts(entries: Mapping[str, Entry], hosts: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Hold the patterns against the names that a program talks to."""
    found: set[int] = set()
    for host in hosts:
        try:
            entry = find(entries, canonical_peer(host))
        except PinSyntaxError as error:
            raise Mistake(f"{error} (see python -m pinsock lint --help)", USAGE) from None
        if entry is None:
            yield 0, f"{host}: no line matches this host: it is refused, or goes without pins"
        else:
            found.add(id(entry))
    for name, entry in entries.items():
        if id(entry) not in found:
            yield entry.lines[0].number, f"{name}: this matches none of the hosts that were named"


def lint(arguments: argparse.Namespace) -> int:
    """Name what will hurt in a pin file."""
    entries = _read(arguments.file)
    now = datetime.now(timezone.utc)
    findings = [
        finding
        for name, entry in entries.items()
        for finding in _lint_host(name, entry, now, arguments.days)
    ]
    if not entries:
        findings.append((0, "there are no lines: every host is refused, or goes without pins"))
    if arguments.hosts:
        findings += _lint_hosts(entries, arguments.hosts)
    for number, text in sorted(findings):
        say(f"{arguments.file}:{number}: {text}" if number else f"{arguments.file}: {text}")
    if not findings:
        say(f"{arguments.file}: {len(entries)} hosts, nothing that will hurt")
    return NO if findings else 0
