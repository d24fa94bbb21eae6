"""A name is either refused, or is the one that ssl sends, and gets the pins of its best pattern.

Never anything else, whatever the patterns are: no spelling of a host sheds its pins, none gets
those of another host, and what is raised is PinSyntaxError of a pattern, ValueError of two for one
host, UnpinnedPeerError of a name.
"""

from __future__ import annotations

import socket
import ssl

from fuzz.harness import run
from pinsock import HostPins, Pin, PinSet, PinSyntaxError, UnpinnedPeerError
from pinsock._hosts import canonical_host, canonical_pattern

_SETS = tuple(PinSet(Pin("spki", "sha256", bytes([number]) * 32)) for number in range(16))
_CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def covers(pattern: str, host: str) -> bool:
    """Tell whether a pattern matches a host, both canonical, label by label from the right."""
    wanted, given = pattern.split(".")[::-1], host.split(".")[::-1]
    if wanted[-1] == "**":
        return given[: len(wanted) - 1] == wanted[:-1]
    if wanted[-1] == "*":
        return len(given) == len(wanted) and given[:-1] == wanted[:-1]
    return given == wanted


def _better(pattern: str) -> tuple[bool, bool, int]:
    return not pattern.startswith("*"), not pattern.startswith("**"), len(pattern)


def _packed(host: str) -> bytes | None:
    """An IP address as what is sent, which has one form for each; None of a name."""
    address, scoped, _ = host.partition("%")
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            packed = socket.inet_pton(family, address)
        except (OSError, ValueError):
            continue
        if family == socket.AF_INET and scoped:
            return None
        mapped = packed[:12] == bytes(10) + b"\xff\xff"
        return packed[12:] if mapped and len(packed) == 16 else packed
    return None


def _check_canonical(host: str) -> str | None:
    try:
        found = canonical_host(host)
    except PinSyntaxError:
        return None
    assert canonical_host(found) == found
    assert found.isascii()
    assert found == found.lower()
    packed = _packed(host)
    assert _packed(found) == packed
    if packed is None:
        # The name that ssl sends and verifies.
        sent = _CONTEXT.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=host)
        assert sent.server_hostname is not None
        assert sent.server_hostname.lower().removesuffix(".") == found
        assert canonical_host(found + ".") == found
    if host.isascii() and "%" not in host:
        assert canonical_host(host.upper()) == canonical_host(host.lower()) == found
    return found


def _check_patterns(patterns: list[str]) -> dict[str, PinSet] | None:
    mapping = dict(zip(patterns, _SETS, strict=False))
    try:
        pins = HostPins(mapping)
    except ValueError:
        return None
    assert set(pins.patterns) == set(map(canonical_pattern, mapping))
    return dict(pins.patterns)


def _check_look_up(patterns: dict[str, PinSet], host: str) -> None:
    canonical = _check_canonical(host)
    best = max(
        (pattern for pattern in patterns if canonical is not None and covers(pattern, canonical)),
        key=_better,
        default=None,
    )
    for unpinned in ("reject", "allow"):
        try:
            found = HostPins(patterns, unpinned=unpinned)(host)
        except UnpinnedPeerError:
            assert best is None
            assert unpinned == "reject" or canonical is None
            continue
        assert canonical is not None
        assert found == (None if best is None else patterns[best])


def test_one_input(data: bytes) -> None:
    """The first line is a host, and the others are patterns."""
    host, *patterns = data.decode("utf-8", "surrogateescape").split("\n")
    by_pattern = _check_patterns(patterns)
    if by_pattern is not None:
        _check_look_up(by_pattern, host)
    # A pattern without its stars is a host as well, and is covered by itself.
    for pattern in by_pattern or ():
        _check_look_up(by_pattern or {}, pattern.lstrip("*.") or host)


if __name__ == "__main__":
    run(test_one_input)
