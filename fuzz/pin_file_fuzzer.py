"""A pin file is either entries, which are written and read back as they are, or PinSyntaxError.

Never anything else; the error names file and line.  Rewriting a file with what it says changes
nothing; with anything else it changes the lines of the hosts concerned alone.
"""

from __future__ import annotations

import re

from fuzz.harness import run
from pinsock import Pin, PinSet, PinSyntaxError
from pinsock._hosts import canonical_pattern
from pinsock._lines import Entry, canonical_peer_or_pattern, format_lines, host_of_line, read_lines
from pinsock._store import _decode, _rewrite

_NEW = PinSet(Pin("spki", "sha256", bytes(32)))


def _read(data: bytes, ports: bool) -> tuple[str, dict[str, Entry]] | None:
    try:
        text = _decode(data, "pins.txt")
        return text, read_lines(text, "pins.txt", ports=ports)
    except PinSyntaxError as error:
        message = str(error)
    found = re.match(r"pins\.txt, line ([0-9]+): .", message, re.DOTALL)
    assert found is not None
    assert 1 <= int(found[1]) <= data.count(b"\n") + 1
    assert len(message) < 2000, "a message has grown with the file"
    return None


def _said(entries: dict[str, Entry]) -> dict[str, PinSet]:
    return {host: entry.pin_set() for host, entry in entries.items()}


def _read_text(text: str) -> dict[str, PinSet]:
    return _said(read_lines(text, "pins.txt", ports=True))


def _check_rewriting(text: str, entries: dict[str, Entry]) -> None:
    said = _said(entries)
    same = _rewrite(text, entries, said)
    assert same == text + ("\n" if text and not text.endswith("\n") else "")
    host = next(iter(entries), "example.com")
    without = {name: pins for name, pins in said.items() if name != host}
    for new in (without, {**said, host: _NEW}, {**said, "a.example.com": _NEW}, {}):
        changed = _rewrite(text, entries, new)
        assert _read_text(changed) == new
        assert _rewrite(changed, read_lines(changed, "pins.txt", ports=True), new) == changed
        # What says nothing of these hosts stays as it was.
        kept = [line for line in same.split("\n") if host_of_line(line) is None]
        assert [line for line in changed.split("\n") if host_of_line(line) is None] == kept


def test_one_input(data: bytes) -> None:
    """Read the bytes as a file, with ports and without, and write it again."""
    plain = _read(data, ports=False)
    found = _read(data, ports=True)
    if plain is not None:
        assert found is not None
        assert _said(found[1]) == _said(plain[1])
        assert all(canonical_pattern(host) == host for host in plain[1])
    if found is None:
        return
    text, entries = found
    for host, entry in entries.items():
        assert canonical_peer_or_pattern(host) == host
        pins = entry.pin_set()
        lines = format_lines(host, pins)
        assert all(host_of_line(line) == host for line in lines)
        assert _read_text("\n".join(lines)) == {host: pins}
    _check_rewriting(text, entries)


if __name__ == "__main__":
    run(test_one_input)
