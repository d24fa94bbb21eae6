"""The text of a pin file: lines to pin sets, and pin sets to lines.

Pure.  A line is a host, a position, a pin, and options, with white space between::

    # host                 position   pin                        options
    api.example.com        leaf       sha256/...=                expires=2027-06-30
    api.example.com        leaf       sha256/...=                # backup
    device.local           leaf       sha256/...=                trust=pins check-expiry=no

All lines of one host make one pin set.  An option holds for the whole set, on whichever of its
lines it stands; to say it twice and differently is an error, as is whatever is not understood: a
misspelt option must not cost a check.

A pin file may have a hundred thousand lines.  So a line in the form that is written here takes one
regular expression, which lets nothing pass that the readers of pins and names would change or
refuse; all others are read by those, at their leisure.  Pin sets are made when they are asked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, time, timedelta, timezone
from functools import lru_cache
from typing import Literal, NamedTuple, cast

from pinsock._errors import PinSyntaxError
from pinsock._hosts import canonical_host, canonical_pattern
from pinsock._pins import POSITIONS, Pin, PinSet, Position

__all__ = [
    "HEADING",
    "Entry",
    "PinLine",
    "canonical_peer",
    "canonical_peer_or_pattern",
    "format_lines",
    "host_of_line",
    "read_lines",
    "split_peer",
]

#: The comment that a new file begins with.
HEADING = f"{'# host':22} {'position':10} {'pin':51} options"

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
# A name of at least two labels, the last of which is no number: its canonical form is itself.  A
# SHA-256 digest is 43 characters, the last of which has two bits to spare, and those are 0.
# Not compiled: few programs have pin files, and all import this.
_CANONICAL = (
    rf"((?:\*{{1,2}}\.)?(?=[a-z0-9.-]{{1,253}}[ \t])(?:{_LABEL}\.)+(?=[a-z]){_LABEL})[ \t]+"
    r"(leaf|intermediate|anchor|ca|any|0|[1-9][0-9]?)[ \t]+"
    r"((?:cert-)?sha256/[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=)"
    r"((?:[ \t]+[a-z][^\s#]*)*)[ \t]*(?:[ \t]#.*)?\r?"
)
_MAX_MESSAGE = 1000  # characters
_COMMENT = re.compile(r"(?:^|(?<=\s))#.*")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_DEPTH = re.compile(r"0|[1-9][0-9]{0,8}")
_OPTIONS = (
    "the options are report-only, trust=pins, check-expiry=no, expires=YYYY-MM-DD, "
    "after-expiry=unpin and first-seen=TIME"
)


def canonical_peer(peer: str) -> str:
    """Return the one form of ``host`` or ``host:port``, with an IPv6 address in brackets then.

    Raises:
        PinSyntaxError: it is neither.
    """
    host, port = split_peer(peer)
    if port is None:
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split_peer(peer: str) -> tuple[str, int | None]:
    """Split ``host`` or ``host:port``, and bring the host to its canonical form."""
    if not isinstance(peer, str):
        raise TypeError(f"a peer is a str, not {type(peer).__name__}")
    host, colon, port = peer.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or (":" in host and not bracketed):
        return canonical_host(peer), None
    if not _PORT.fullmatch(port) or int(port) > 65535:
        raise PinSyntaxError(f"{peer!r} has no port: it is a number from 1 to 65535")
    return canonical_host(host[1:-1] if bracketed else host), int(port)


class PinLine(NamedTuple):
    """One line of a pin set.

    Attributes:
        number: the line's number in its file; 1 is the first.
        position: a position of :class:`PinSet`, as text.
        pin: the canonical text of the pin.
    """

    number: int
    position: str
    pin: str


class Entry:
    """What a pin file says of one host.

    Attributes:
        lines: number, position and pin of each line.
        options: by name, as they were written.
    """

    __slots__ = ("_lines", "_made", "options")

    def __init__(self) -> None:
        # Plain tuples: there may be a hundred thousand.
        self._lines: list[tuple[int, str, str]] = []
        self.options: dict[str, str] = {}
        self._made: PinSet | None = None

    def add(self, number: int, position: str, pin: str) -> None:
        """Add a line, which was checked."""
        self._lines.append((number, position, pin))

    def say(self, options: tuple[tuple[str, str], ...]) -> None:
        """Add options, which were checked one by one.

        Raises:
            PinSyntaxError: one contradicts what was said before.
        """
        for name, value in options:
            if self.options.setdefault(name, value) != value:
                raise PinSyntaxError(
                    f"{name}={value} contradicts {name}={self.options[name]} above: "
                    "the lines of one host make one pin set"
                )

    @property
    def lines(self) -> list[PinLine]:
        """The lines, in the order of the file."""
        return [PinLine(*line) for line in self._lines]

    def pin_set(self) -> PinSet:
        """The pin set; made once."""
        if self._made is None:
            pins: dict[int | str, list[str]] = {}
            for _, position, pin in self._lines:
                pins.setdefault(int(position) if position.isdigit() else position, []).append(pin)
            says = self.options.get
            expires = says("expires")
            first_seen = says("first-seen")
            self._made = PinSet(
                pins,
                trust=cast('Literal["ca", "pins"]', says("trust", "ca")),
                check_expiry=says("check-expiry") != "no",
                enforce="report-only" not in self.options,
                expires=None if expires is None else _read_time(expires),
                after_expiry=cast('Literal["reject", "unpin"]', says("after-expiry", "reject")),
                first_seen=None if first_seen is None else _read_moment(first_seen),
            )
        return self._made


@lru_cache(maxsize=1024)
def _read_time(text: str) -> date | datetime:
    try:
        if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
            day = date.fromisoformat(text)
            if day != date.max:  # a set ends with the day
                return day
        else:
            return _read_moment(text)
    except ValueError:
        pass
    raise PinSyntaxError(f"{text!r} is no day (2027-06-30) and no time (2027-06-30T12:00:00Z)")


def _read_moment(text: str) -> datetime:
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", text):
        raise PinSyntaxError(f"{text!r} is not a time in UTC (2027-06-30T12:00:00Z)")
    try:
        return datetime.fromisoformat(text[:-1]).replace(tzinfo=timezone.utc)
    except ValueError as error:
        raise PinSyntaxError(f"{text!r} is not a time: {error}") from None


def _one_of(*values: str) -> Callable[[str], object]:
    def check(value: str) -> None:
        if value not in values:
            raise PinSyntaxError(f"{value!r} is not {' or '.join(values)}")

    return check


# How the value of an option is checked; report-only has none.
_CHECKS: dict[str, Callable[[str], object]] = {
    "trust": _one_of("ca", "pins"),
    "check-expiry": _one_of("yes", "no"),
    "after-expiry": _one_of("reject", "unpin"),
    "expires": _read_time,
    "first-seen": _read_moment,
}


def _read_option(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if text == "report-only":
        return text, ""
    if name not in _CHECKS or not equals:
        raise PinSyntaxError(f"unknown option {text!r}: {_OPTIONS}")
    try:
        _CHECKS[name](value)
    except PinSyntaxError as error:
        raise PinSyntaxError(f"{name}: {error}") from None
    return name, value


# Many lines have the same options, such as the day when their pins end.
@lru_cache(maxsize=256)
def _read_options(text: str) -> tuple[tuple[str, str], ...]:
    return tuple(map(_read_option, text.split()))


def canonical_peer_or_pattern(text: str) -> str:
    """Return the one form of what a line of a store may begin with."""
    return canonical_pattern(text) if text.startswith("*") else canonical_peer(text)


def _read_line(line: str, canonical: Callable[[str], str]) -> tuple[str, str, str, str] | None:
    """Read a line that is not in canonical form: host, position, pin, options."""
    fields = _COMMENT.sub("", line).split(None, 3)
    if not fields:
        return None
    if len(fields) < 3:
        raise PinSyntaxError("a line is HOST POSITION PIN [OPTION ...]")
    host, position, pin, *options = fields
    if position not in POSITIONS and not _DEPTH.fullmatch(position):
        raise PinSyntaxError(
            f"unknown position {position!r}: use one of {', '.join(POSITIONS)}, "
            "or a depth (0 is the leaf)"
        )
    return canonical(host), position, str(Pin.parse(pin)), "".join(options)


def _in_brief(message: str) -> str:
    """A message that quotes the file, and may have got all of it."""
    if len(message) <= _MAX_MESSAGE:
        return message
    half = _MAX_MESSAGE // 2
    return f"{message[:half]} [...] {message[-half:]}"


def read_lines(text: str, name: str, *, ports: bool = False) -> dict[str, Entry]:
    """Read the text of a pin file.

    Args:
        text: the text.
        name: the file's, for the messages of errors.
        ports: whether a host may be ``host:port``.

    Returns:
        What is said of each host, by canonical pattern, in the order of the file.

    Raises:
        PinSyntaxError: a line cannot be read; the message has file, line and reason.
    """
    canonical = canonical_peer_or_pattern if ports else canonical_pattern
    entries: dict[str, Entry] = {}
    plain = re.compile(_CANONICAL).fullmatch
    for number, line in enumerate(text.split("\n"), 1):
        try:
            match = plain(line)
            read = match.groups() if match else _read_line(line, canonical)
            if read is not None:
                host, position, pin, options = read
                entry = entries.get(host)
                if entry is None:
                    entry = entries[host] = Entry()
                entry.add(number, position, pin)
                if options:
                    entry.say(_read_options(options))
        except ValueError as error:
            raise PinSyntaxError(f"{name}, line {number}: {_in_brief(str(error))}") from None
    for host, entry in entries.items():
        if entry.options.get("check-expiry") == "no" and entry.options.get("trust") != "pins":
            raise PinSyntaxError(
                f"{name}, line {entry.lines[0].number}: check-expiry=no for {host} needs "
                "trust=pins: a CA's word ends with expiry"
            )
    return entries


def host_of_line(line: str) -> str | None:
    """Return the host that a line of a pin file is of, in canonical form; None for a comment."""
    if match := re.fullmatch(_CANONICAL, line):
        return match[1]
    fields = _COMMENT.sub("", line).split()
    return canonical_peer_or_pattern(fields[0]) if fields else None


def _format_time(moment: datetime) -> str:
    # In whole seconds: a set with an odd end ends less than a second earlier.
    return moment.replace(tzinfo=None, microsecond=0).isoformat() + "Z"


def _format_options(pins: PinSet) -> Iterator[str]:
    if not pins.enforce:
        yield "report-only"
    if pins.trust != "ca":
        yield f"trust={pins.trust}"
    if not pins.check_expiry:
        yield "check-expiry=no"
    if pins.expires is not None:
        # A set ends with a day, which is when the next one begins.
        whole = pins.expires.time() == time() and pins.expires.date() != date.min
        last = pins.expires.date() - timedelta(days=whole)
        yield f"expires={last.isoformat() if whole else _format_time(pins.expires)}"
    if pins.after_expiry != "reject":
        yield f"after-expiry={pins.after_expiry}"
    if pins.first_seen is not None:
        yield f"first-seen={_format_time(pins.first_seen)}"


def format_lines(host: str, pins: PinSet) -> list[str]:
    """Write the pin set of one host as lines, without their ends; the options are on the first."""
    positions: Mapping[Position, tuple[Pin, ...]] = pins.positions
    lines = [
        f"{host:22} {position!s:10} {pin}"
        for position, alternatives in positions.items()
        for pin in alternatives
    ]
    lines[0] = " ".join([lines[0], *_format_options(pins)])
    return lines

