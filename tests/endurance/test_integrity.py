"""Every byte arrives once and in order, or an error says so; and only a goodbye is an end.

What is sent is a block of random bytes, over and over.  Its length is a prime, so that no chunk
that is lost, doubled or out of order leaves what follows looking right.
"""

from __future__ import annotations

import contextlib
import errno
import random
import socket
import ssl
import struct
import time
from collections import Counter

import pytest

from tests.endurance.amounts import ENDURANCE, Puppet, amount, say
from tests.test_sockets import context, start, tcp_pair, wrap

pytestmark = ENDURANCE

MIB = 2**20
#: Bytes each way, of each of the four streams.
VOLUME = amount(2560 * MIB // 4, 4 * MIB)
#: Connections that are broken off.
BROKEN = amount(4000, 60)
TIMEOUT = 60.0
#: Seconds for a whole stream.
LONG = 3000.0
LARGEST = 70_000  # bytes: more than four records

_PRIME = 1_048_573
BLOCK = memoryview(random.randbytes(_PRIME) * 2)


def part(position: int, size: int) -> memoryview:
    """What stands at ``position`` in the endless stream."""
    begin = position % _PRIME
    return BLOCK[begin : begin + size]


def send_stream(sock: ssl.SSLSocket, size: int, chance: random.Random) -> None:
    """Send as many bytes, by every call there is, in chunks of every size."""
    position = 0
    while position < size:
        # Sizes of every magnitude, and not big ones alone.
        chunk = part(position, min(size - position, int(2 ** chance.uniform(0, 16.1))))
        way = chance.randrange(4)
        if way == 0:
            sock.sendall(bytes(chunk))
        elif way == 1:
            sock.sendall(chunk)
        elif way == 2:
            chunk = chunk[: sock.send(bytearray(chunk))]
        else:
            chunk = chunk[: sock.write(bytes(chunk))]
        position += len(chunk)


def receive_stream(sock: ssl.SSLSocket, size: int, chance: random.Random) -> int:
    """Receive as many bytes, likewise; return how many there were before the end of the stream.

    Raises:
        AssertionError: they are not those of the stream.
    """
    position, buffer = 0, bytearray(LARGEST)
    while position < size:
        most = min(size - position, int(2 ** chance.uniform(0, 16.1)))
        way = chance.randrange(3)
        data: bytes | memoryview
        if way == 0:
            data = sock.recv(most)
        elif way == 1:
            data = memoryview(buffer)[: sock.recv_into(buffer, most)]
        else:
            data = sock.read(most)
        if not data:
            break
        assert data == part(position, len(data)), f"other bytes at {position}"
        position += len(data)
    return position


def receive_until_error(sock: ssl.SSLSocket, got: bytearray, chance: random.Random) -> None:
    """Receive, and raise what ends it; an end without an error is none of those expected."""
    while data := sock.recv(int(2 ** chance.uniform(0, 16.1))):
        got += data
    raise AssertionError(f"after {len(got)} bytes, the end")


class Joined:
    """Two ends of a connection, ours and another one, that have shaken hands."""

    def __init__(self, version: ssl.TLSVersion, other: str = "pinned", **options: bool) -> None:
        raw = tcp_pair()
        for sock in raw:
            sock.settimeout(TIMEOUT)
        self.ours = wrap("pinned", version, raw[0], **options)
        self.theirs = wrap(other, version, raw[1], True)
        shaking = start(self.theirs.do_handshake)
        self.ours.do_handshake()
        shaking.result(TIMEOUT)

    def __enter__(self) -> Joined:
        return self

    def __exit__(self, *_error: object) -> None:
        self.ours.close()
        self.theirs.close()


# Whole -------------------------------------------------------------------------------------------


def test_an_echo_is_what_was_said(tls_version: ssl.TLSVersion) -> None:
    """Random chunks to an echo and back, one thread writing and one reading."""
    seed = random.randrange(2**32)

    def echo(sock: ssl.SSLSocket) -> None:
        chance = random.Random(seed + 1)
        left = VOLUME
        while left:
            data = sock.recv(int(2 ** chance.uniform(0, 16.1)))
            assert data
            sock.sendall(data)
            left -= len(data)

    with Joined(tls_version) as joined:
        began = time.monotonic()
        echoing = start(echo, joined.theirs)
        writing = start(send_stream, joined.ours, VOLUME, random.Random(seed))
        received = start(receive_stream, joined.ours, VOLUME, random.Random(seed + 2))
        assert received.result(LONG) == VOLUME, f"seed {seed}"
        writing.result(TIMEOUT)
        echoing.result(TIMEOUT)
        took = time.monotonic() - began
    say(f"echo of {VOLUME / MIB:.0f} MiB", seconds=round(took, 1), seed=seed)


def test_both_directions_at_once(tls_version: ssl.TLSVersion) -> None:
    """Two threads at each end, one writing and one reading, and neither waits for the other."""
    seed = random.randrange(2**32)
    with Joined(tls_version) as joined:
        began = time.monotonic()
        running = [
            start(work, sock, VOLUME, random.Random(seed + number))
            for number, (work, sock) in enumerate(
                (work, sock)
                for work in (send_stream, receive_stream)
                for sock in (joined.ours, joined.theirs)
            )
        ]
        results = [each.result(LONG) for each in running]
        took = time.monotonic() - began
    assert results == [None, None, VOLUME, VOLUME], f"seed {seed}"
    say(f"{VOLUME / MIB:.0f} MiB each way", seconds=round(took, 1), seed=seed)


# Half ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flavour", ["ssl", "pinned"])
def test_after_a_goodbye_the_other_direction_goes_on(
    flavour: str, tls_version: ssl.TLSVersion
) -> None:
    """The peer has said close_notify and still reads (RFC 8446 section 6.1): all of it arrives."""
    size = VOLUME // 8
    raw = tcp_pair()
    with contextlib.ExitStack() as stack:
        for sock in raw:
            sock.settimeout(TIMEOUT)
        ours = stack.enter_context(wrap(flavour, tls_version, raw[0]))
        theirs = stack.enter_context(wrap("ssl", tls_version, raw[1], True))
        shaking = start(theirs.do_handshake)
        ours.do_handshake()
        shaking.result(TIMEOUT)
        send_stream(theirs, 1000, random.Random(1))
        theirs.settimeout(0)
        with pytest.raises(ssl.SSLWantReadError):
            theirs.unwrap()
        theirs.settimeout(TIMEOUT)
        assert receive_stream(ours, 2000, random.Random(2)) == 1000
        writing = start(send_stream, ours, size, random.Random(3))
        assert receive_stream(theirs, size, random.Random(4)) == size
        writing.result(TIMEOUT)
        assert ours.recv(1) == b""


def test_after_a_shutdown_for_writing_the_other_direction_goes_on(
    tls_version: ssl.TLSVersion,
) -> None:
    """SHUT_WR of ours, and all that the peer has to say still comes; and before, all of ours."""
    size = VOLUME // 8
    with Joined(tls_version, "ssl", suppress_ragged_eofs=False) as joined:
        writing = start(send_stream, joined.ours, size, random.Random(1))
        assert receive_stream(joined.theirs, size, random.Random(2)) == size
        writing.result(TIMEOUT)
        joined.ours.shutdown(socket.SHUT_WR)
        writing = start(send_stream, joined.theirs, size, random.Random(3))
        assert receive_stream(joined.ours, size, random.Random(4)) == size
        writing.result(TIMEOUT)
        joined.theirs.close()
        with pytest.raises(ssl.SSLEOFError):
            joined.ours.recv(1)


# Broken off --------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["reset", "closed", "shut down"])
def test_what_is_broken_off_is_not_complete(way: str, tls_version: ssl.TLSVersion) -> None:
    """The peer is gone in the middle: what has come is a beginning, and an error follows."""
    chance = random.Random(seed := random.randrange(2**32))
    errors: Counter[str] = Counter()

    def vanish(sock: ssl.SSLSocket, size: int, seed: int) -> None:
        send_stream(sock, size, random.Random(seed))
        if way == "shut down":
            socket.socket.shutdown(sock, socket.SHUT_RDWR)
        elif way == "reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()

    for _ in range(BROKEN):
        size = int(2 ** chance.uniform(0, 18))
        with Joined(tls_version, "ssl", suppress_ragged_eofs=False) as joined:
            vanishing = start(vanish, joined.theirs, size, chance.randrange(2**32))
            ours, got = joined.ours, bytearray()
            with pytest.raises((ConnectionResetError, ssl.SSLEOFError)) as raised:
                receive_until_error(ours, got, chance)
            vanishing.result(TIMEOUT)
            errors[raised.type.__name__] += 1
            assert len(got) <= size
            assert got == part(0, len(got)), f"seed {seed}"
            if way != "reset":
                assert len(got) == size
            # It is over for good, and still no end of a conversation.
            with pytest.raises((ssl.SSLError, ConnectionError)):
                ours.recv(1)
    say(f"{BROKEN} connections {way}", **errors)


@pytest.mark.parametrize("way", ["reset", "closed"])
def test_what_could_not_be_sent_is_an_error(way: str, tls_version: ssl.TLSVersion) -> None:
    """The peer is gone while we write: sendall() does not return as if nothing had happened."""
    chance = random.Random(random.randrange(2**32))
    errors: Counter[str] = Counter()
    for _ in range(BROKEN):
        with Joined(tls_version, "ssl") as joined:

            def vanish(sock: ssl.SSLSocket, size: int) -> None:
                assert receive_stream(sock, size, random.Random(size)) == size
                if way == "reset":
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.close()

            vanishing = start(vanish, joined.theirs, int(2 ** chance.uniform(0, 18)))
            # More than all buffers on the way hold.
            with pytest.raises((ConnectionError, ssl.SSLEOFError)) as raised:
                send_stream(joined.ours, 64 * MIB, chance)
            vanishing.result(TIMEOUT)
            errors[raised.type.__name__] += 1
    say(f"{BROKEN} connections {way} while writing", **errors)


# Truncated ---------------------------------------------------------------------------------------

SIZES = (1, 7, 3)  # bytes, one record each


def what_comes(
    flavour: str, version: ssl.TLSVersion, cut: int | None, suppress: bool
) -> tuple[list[str], int]:
    """What one reads of a stream that ends after ``cut`` bytes, and the length of all.

    ``None`` for ``cut`` sends all: the records, and close_notify.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for sock in (ours, theirs):
            sock.settimeout(TIMEOUT)
        # Tickets would come between.
        server = context("ssl", version, True)
        puppet = Puppet(theirs, server, server_side=True)
        with wrap(flavour, version, ours, suppress_ragged_eofs=suppress) as tls:
            shaking = start(puppet.shake)
            tls.do_handshake()
            shaking.result(TIMEOUT)
            position = 0
            for size in SIZES:
                puppet.peer.obj.write(part(position, size))
                position += size
            with contextlib.suppress(ssl.SSLWantReadError):
                puppet.peer.obj.unwrap()  # says close_notify, and would wait for ours
            stream = puppet.peer.outgoing.read()
            theirs.sendall(stream[:cut])
            theirs.shutdown(socket.SHUT_WR)
            seen: list[str] = []
            # Twice more after the first end: it stays what it is.
            for _ in range(len(SIZES) + 3):
                try:
                    seen.append(repr(tls.recv(100)))
                except OSError as error:
                    seen.append(f"{type(error).__name__} {errno.errorcode.get(error.errno or 0)}")
            return seen, len(stream)


@pytest.mark.parametrize("suppress", [False, True], ids=["ragged raises", "ragged suppressed"])
def test_a_truncated_stream_is_no_end(tls_version: ssl.TLSVersion, suppress: bool) -> None:
    """FIN at every byte, between records and inside them: as ssl has it, and never for an end."""
    whole, length = what_comes("pinned", tls_version, None, suppress)
    data, position = [], 0
    for size in SIZES:
        data.append(repr(bytes(part(position, size))))
        position += size
    assert whole == [*data, "b''", "b''", "b''"]
    complete: set[int] = set()
    for cut in range(length):
        seen, _ = what_comes("pinned", tls_version, cut, suppress)
        theirs, _ = what_comes("ssl", tls_version, cut, suppress)
        assert seen == theirs, f"after {cut} of {length} bytes"
        arrived = [each for each in seen if each in data]
        complete.add(len(arrived))
        assert arrived == data[: len(arrived)]
        for each in seen[len(arrived) :]:
            assert each == "b''" if suppress else each.startswith("SSLEOFError"), cut
    assert complete == {0, 1, 2, 3}
    say(f"{length} places to cut {tls_version.name}", suppress=suppress)
