"""A foreign text is either pin sets that have all its pins, or a documented error, nothing else.

Documented are PinSyntaxError and ValueError themselves, and none of their other kinds: an
UnicodeDecodeError, say, is one that nobody has thought of.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone

from fuzz.harness import run
from fuzz.hosts_fuzzer import covers
from pinsock import HostPins, PinSet, PinSyntaxError
from pinsock._hosts import canonical_pattern

_RECEIVED = datetime(2027, 6, 30, tzinfo=timezone.utc)


def _okhttp_entries(text: str) -> list[tuple[str, ...]]:
    """One call of ``Builder.add`` on each line: the pattern, and its pins behind a blank."""
    return [tuple(line.split(" ")) for line in text.split("\n")]


def _check_okhttp(text: str) -> HostPins:
    entries = _okhttp_entries(text)
    hosts = HostPins.from_okhttp(entries)
    # OkHttp's rule, by trial: a host has the pins of all patterns that match it.
    for pattern in hosts.patterns:
        host = pattern.replace("**.", "a.b.").replace("*.", "a.")
        expected = {
            pin
            for given, *pins in entries
            for pin in pins
            if covers(canonical_pattern(given), host)
        }
        found = hosts(host)
        assert found is not None
        assert {str(pin) for pin in found.positions["any"]} == expected
    return hosts


_READERS: dict[bytes, Callable[[bytes, str], PinSet | HostPins]] = {
    b"T": lambda data, text: PinSet.from_tlsa(text),
    b"t": lambda data, text: PinSet.from_tlsa([data]),
    b"l": lambda data, text: PinSet.from_tlsa(text.split("\n")),
    b"H": lambda data, text: PinSet.from_hpkp(text, _RECEIVED),
    b"A": lambda data, text: HostPins.from_android(text),
    b"a": lambda data, text: HostPins.from_android(data),
    b"K": lambda data, text: HostPins.from_trustkit(text),
    b"k": lambda data, text: HostPins.from_trustkit(data),
    b"O": lambda data, text: _check_okhttp(text),
}


def _made(
    read: Callable[[bytes, str], PinSet | HostPins], data: bytes
) -> PinSet | HostPins | ValueError:
    try:
        return read(data, data.decode("utf-8", "surrogateescape"))
    except ValueError as error:
        return error


def test_one_input(data: bytes) -> None:
    """Read the bytes in the format that the first one names."""
    read = _READERS.get(data[:1])
    if read is None:
        return
    data = data[1:]
    made = _made(read, data)
    if isinstance(made, ValueError):
        assert type(made) in (ValueError, PinSyntaxError)
        assert len(str(made)) < 2000, "a message has grown with what somebody sent"
        return
    sets = [made] if isinstance(made, PinSet) else list(made.patterns.values())
    for pins in sets:
        assert all(pins.positions.values())
        assert PinSet(pins.positions, trust=pins.trust, check_expiry=pins.check_expiry,
                      enforce=pins.enforce, expires=pins.expires,
                      after_expiry=pins.after_expiry) == pins  # fmt: skip
    if isinstance(made, HostPins):
        assert all(canonical_pattern(pattern) == pattern for pattern in made.patterns)


if __name__ == "__main__":
    run(test_one_input)
