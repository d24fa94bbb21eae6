"""The ClientHello: those of real clients, in any pieces, and whatever else may come."""

from __future__ import annotations

import itertools
import ssl
import struct
from collections.abc import Iterable
from typing import Any, SupportsIndex

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pinsock import PinnedContext
from pinsock._hello import MAX_SIZE, ClientHello, HelloReader

MANY = settings(max_examples=max(200, settings().max_examples))
KINDS = ("ssl", "pinned")


def written(
    kind: str,
    *,
    name: str | None = "localhost",
    alpn: tuple[str, ...] = (),
    curve: str | None = None,
    maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
) -> bytes:
    """What a real client sends first."""
    context = (
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if kind == "ssl" else PinnedContext(pins=None)
    )
    context.check_hostname = False
    context.maximum_version = maximum
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if curve is not None:
        context.set_ecdh_curve(curve)
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def read(pieces: Iterable[bytes]) -> HelloReader:
    reader = HelloReader()
    for piece in pieces:
        reader.feed(piece)
    return reader


def message(body: bytes, kind: int = 1) -> bytes:
    return bytes((kind,)) + len(body).to_bytes(3, "big") + body


def records(data: bytes, size: int = 2**14) -> bytes:
    pieces = (data[at : at + size] for at in range(0, len(data), size))
    return b"".join(struct.pack("!BHH", 22, 0x0301, len(piece)) + piece for piece in pieces)


def vector(size: int, *parts: bytes) -> bytes:
    data = b"".join(parts)
    return len(data).to_bytes(size, "big") + data


def extension(number: int, data: bytes) -> bytes:
    return struct.pack("!H", number) + vector(2, data)


def body(*extensions: bytes, ciphers: bytes = b"\x13\x01", tail: bytes = b"") -> bytes:
    end = vector(2, *extensions) if extensions else b""
    return b"\3\3" + bytes(32) + vector(1) + vector(2, ciphers) + vector(1, b"\0") + end + tail


# Real clients ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_client_offers(kind: str) -> None:
    """Its name for the server, protocols, groups, versions and cipher suites."""
    reader = read([written(kind, alpn=("h2", "own/1"), curve="secp384r1")])
    assert reader.done
    hello = reader.hello
    assert hello is not None
    assert hello.version == 0x0303
    assert hello.server_name == b"localhost"
    assert hello.alpn == (b"h2", b"own/1")
    assert hello.groups == (24,)
    assert 0x0304 in hello.versions
    assert 0x1301 in hello.ciphers
    assert 0x0403 in hello.signature_algorithms
    assert {0, 10, 13, 16, 43} <= set(hello.extensions)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_client_does_not_offer(kind: str) -> None:
    """Without a name, protocols and TLS 1.3 these are empty."""
    hello = read([written(kind, name=None, maximum=ssl.TLSVersion.TLSv1_2)]).hello
    assert hello is not None
    assert hello.server_name is None
    assert hello.alpn == ()
    assert 0x0304 not in hello.versions
    assert 0x1301 not in hello.ciphers
    assert 0xC02F in hello.ciphers


HELLO = written("pinned", alpn=("h2",))


@MANY
@given(st.lists(st.integers(0, len(HELLO)), max_size=6), st.integers(1, 600))
def test_pieces_make_no_difference(cuts: list[int], size: int) -> None:
    """However the stream is cut, and the message spread over records, the hello is the same."""
    stream = records(HELLO[5:], size)
    places = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    reader = read(stream[one:other] for one, other in itertools.pairwise(places))
    assert reader.done
    assert reader.hello == read([HELLO]).hello
    assert reader.hello is not None


@given(st.integers(0, len(HELLO) - 1))
def test_it_is_done_with_the_last_byte(at: int) -> None:
    """Not before, and what comes behind it is not looked at."""
    reader = read([HELLO[:at]])
    assert not reader.done
    assert reader.hello is None
    reader.feed(HELLO[at:] + b"\x16nonsense")
    assert reader.done
    hello = reader.hello
    assert hello is not None
    reader.feed(HELLO)
    assert reader.hello == hello


# Anything else -----------------------------------------------------------------------------------


@MANY
@given(st.binary(max_size=200), st.booleans())
@example(b"", True)
@example(b"GET / HTTP/1.0\r\n\r\n", False)
@example(b"\x80\x2e\x01\x00\x02", False)  # of SSL 2
def test_any_bytes_are_read_or_not(data: bytes, framed: bool) -> None:
    """Nothing raises, and nothing but a ClientHello is one."""
    reader = read([records(message(data)) if framed and data else data])
    assert reader.hello is None or reader.done


@MANY
@given(st.data())
def test_a_damaged_hello_is_read_or_not(data: st.DataObject) -> None:
    """With octets changed, lost or added nothing raises either."""
    damaged = bytearray(HELLO[9:])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged)))
        damaged[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    reader = read([records(message(bytes(damaged)))])
    assert reader.done


def test_it_stops_at_what_is_no_handshake() -> None:
    """At the first octet of another type of record, or of message."""
    for stream in (b"\x15", b"\x16\3\1\0\x10\x02", records(HELLO[5:9]) + b"\x17"):
        reader = read([stream])
        assert reader.done
        assert reader.hello is None
    reader = read([b"\x16\3\1\0\0" * 3 + HELLO])  # records of nothing
    assert reader.hello is not None


def test_it_does_not_read_records_of_nothing_without_end() -> None:
    """They take no room in the message, which would bound them; as many as OpenSSL takes."""
    nothing = b"\x16\3\1\0\0"
    for count, done in ((32, False), (33, True)):
        for before in (b"", HELLO[:5][:3] + b"\0\1" + HELLO[5:6]):
            reader = read([before + nothing * count])
            assert reader.done is done
            assert reader.hello is None


def test_as_many_vectors_as_a_message_has_room_for_are_read() -> None:
    """There is no bound on them but the message's own, and no copy of the rest for each."""
    hello = ClientHello.parse(body(extension(16, vector(2, bytes(65000)))))
    assert hello.alpn == (b"",) * 65000
    hello = ClientHello.parse(body(*[extension(60000, b"")] * 16000))
    assert hello.extensions == (60000,)


def test_it_keeps_no_more_than_one_message() -> None:
    """A length beyond what OpenSSL takes ends it, before the bytes have come."""
    for size, done in ((MAX_SIZE, False), (MAX_SIZE + 1, True)):
        reader = read([records(b"\x01" + size.to_bytes(3, "big"))])
        assert reader.done == done
    reader = read([records(message(bytes(MAX_SIZE)))])
    assert reader.done
    assert reader.hello is None


def test_many_names_take_time_for_each_and_no_more() -> None:
    """A message with a name for each octet is read in time that grows with it, not its square.

    Seen while fuzz/hello_fuzzer.py was written: 64 KiB took a quarter of a second.
    """

    copied = 0

    class Counted(bytes):
        def __getitem__(self, key: SupportsIndex | slice) -> Any:
            nonlocal copied
            taken = super().__getitem__(key)
            if isinstance(taken, int):
                return taken
            copied += len(taken)
            return Counted(taken)

    wide = body(extension(16, vector(2, bytes(4000))))
    assert len(ClientHello.parse(Counted(wide)).alpn) == 4000
    assert copied < 3 * len(wide)


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        body()[:-1],
        body(ciphers=b"\x13"),
        body(tail=b"x"),
        body(extension(0, b""), tail=b"x"),
        body(b"\0"),
        body(extension(10, b"\0\2\0")),
        body(extension(10, b"\0\1\0")),
        body(extension(16, vector(2, b"\5h2"))),
        body(extension(0, vector(2, b"\0\0\x09short"))),
    ],
)
def test_what_is_no_hello_is_none(wrong: bytes) -> None:
    """Vectors that run past their message, half numbers and left-overs are refused."""
    with pytest.raises(ValueError, match=r"vector|half|behind"):
        ClientHello.parse(wrong)
    reader = read([records(message(wrong))])
    assert reader.done
    assert reader.hello is None


@given(st.data())
def test_a_hello_is_read_whole_or_not_at_all(data: st.DataObject) -> None:
    """What there was of it is forgotten; it can be read from its beginning then."""
    hello = records(message(body(extension(10, vector(2, b"\0\x1d" * 200)))))
    size = data.draw(st.integers(0, len(hello) - 1))
    reader = HelloReader()
    assert not reader.read_whole(hello[:size])
    assert not reader.done
    assert reader.hello is None
    assert reader.read_whole(hello + data.draw(st.binary(max_size=9)))
    assert reader.done
    assert reader.hello is not None
    assert reader.hello.groups == (29,) * 200


@given(st.binary(max_size=60), st.integers(1, 60))
def test_what_is_read_whole_is_what_is_read_in_pieces(mess: bytes, cut: int) -> None:
    """Whatever is sent for a ClientHello: what a look at it finds, a reader of pieces finds too."""
    for data in (mess, b"\x16\3\1" + mess, b"\x16\3\1\0\x14\1\0\0" + mess):
        at_once, in_pieces = HelloReader(), HelloReader()
        if at_once.read_whole(data):
            for start in range(0, len(data), cut):
                in_pieces.feed(data[start : start + cut])
            assert in_pieces.done
            assert in_pieces._body == at_once._body


def test_the_first_hello_is_the_one_that_counts() -> None:
    """Another behind it changes nothing, in whatever pieces they come."""
    first, second = (records(message(body(extension(number, b"")))) for number in (1, 2))
    for size in (1, len(first), len(first + second)):
        reader = HelloReader()
        for at in range(0, len(first + second), size):
            reader.feed((first + second)[at : at + size])
        assert reader.hello is not None
        assert reader.hello.extensions == (1,)


def test_what_spans_records_is_not_read_whole() -> None:
    """It is left to the reader of pieces, as is what is no ClientHello."""
    hello = message(body())
    for data in (
        records(hello, 20),
        b"GET / HTTP/1.0\r\n\r\n",
        records(b"\2" + hello[1:]),
        b"\x17" + records(hello)[1:],
    ):
        reader = HelloReader()
        assert not reader.read_whole(data)
        reader.feed(data)
        assert reader.done


def test_the_smallest_hello() -> None:
    """Before TLS 1.3 there need be no extensions; a name of another type is none."""
    assert ClientHello.parse(body()) == ClientHello(0x0303, (0x1301,))
    other = ClientHello.parse(body(extension(0, vector(2, b"\1\0\1a"))))
    assert other.server_name is None
    assert other.extensions == (0,)
