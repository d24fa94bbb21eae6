"""A stream is either a ClientHello, the same in whatever pieces it comes, or none; nothing raises.

No more of it is kept than one message of the greatest size and one record, and nothing behind the
message is looked at.
"""

from __future__ import annotations

from fuzz.harness import run
from pinsock._hello import MAX_SIZE, ClientHello, HelloReader

_RECORD = 2**16


def _read(stream: bytes, size: int) -> HelloReader:
    reader = HelloReader()
    for at in range(0, len(stream), size):
        reader.feed(stream[at : at + size])
        assert len(reader._body) <= MAX_SIZE
        if reader._begun:
            assert len(reader._message) <= MAX_SIZE + _RECORD
            assert len(reader._record) < 5
        assert reader.hello is None or reader.done
    return reader


def test_one_input(data: bytes) -> None:
    """The first octet is the size of the pieces; what follows is the stream, or else the body."""
    size, stream = 1 + data[0] if data else 1, data[1:]
    reader = _read(stream, size)
    whole = _read(stream, len(stream) or 1)
    assert reader.done == whole.done
    assert reader.hello == whole.hello
    assert _read(stream + b"\x16\x03\x01", size).hello == reader.hello or not reader.done
    try:
        hello = ClientHello.parse(stream)
    except ValueError:
        return
    assert 2 * len(hello.ciphers) <= len(stream)
    message = b"\x01" + len(stream).to_bytes(3, "big") + stream
    records = b"".join(
        b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part
        for part in (message[at : at + size] for at in range(0, len(message), size))
    )
    assert _read(records, len(records)).hello == hello


if __name__ == "__main__":
    run(test_one_input)
