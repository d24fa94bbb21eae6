"""Pinned sockets do what ``ssl.SSLSocket`` does: the same tests for both.

Every test that can be is run on a socket of the standard library too: what passes there is how it
is to be.  Both ends are real sockets on this machine, and the other end is the standard library's.
"""

from __future__ import annotations

import array
import contextlib
import errno
import functools
import io
import os
import select
import signal
import socket
import ssl
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any, TypeVar, cast

import pytest

from pinsock import (
    Pin,
    PinMatch,
    PinMismatchError,
    PinnedContext,
    PinnedSocket,
    PinSet,
    _engine,
    _socket,
)
from tests import certificates, peers
from tests.certificates import make_chain
from tests.error_queue import leave_an_error
from tests.peers import Clock, StdlibServer

T = TypeVar("T")

#: What is compared: the standard library itself, ours without pins, ours with.
FLAVOURS = ("ssl", "unpinned", "pinned")
#: Seconds; reached only if something is broken.
TIMEOUT = 10.0
#: Seconds; how long a timeout that is to be reached takes.
SHORT = 0.05
#: More than any socket buffer holds.
MUCH = bytes(range(256)) * 4 * 5 * 1024

# Both sides present the same chain, so that both can be verified and pinned.
CHAIN = make_chain(3)
PIN = certificates.spki_pin(CHAIN.leaf)
WRONG = Pin("spki", "sha256", bytes(32))

Pair = Callable[..., "tuple[ssl.SSLSocket, ssl.SSLSocket]"]


@functools.cache
def context(flavour: str, version: ssl.TLSVersion, server_side: bool = False) -> ssl.SSLContext:
    """A context that verifies its peer, on whichever side it is."""
    protocol = ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT
    made: ssl.SSLContext
    if flavour == "ssl":
        made = ssl.SSLContext(protocol)
    else:
        pins = PinSet({"leaf": PIN}) if flavour == "pinned" else None
        made = PinnedContext(protocol, pins=pins)
    peers.fix_version(made, version)
    CHAIN.trust(made)
    CHAIN.configure(made)
    made.verify_mode = ssl.CERT_REQUIRED
    return made


def start(function: Callable[..., T], *arguments: object) -> Future[T]:
    """Run a function in a thread; ``result(TIMEOUT)`` waits for it, and raises what it raised."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(function(*arguments))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def wrap(
    flavour: str,
    version: ssl.TLSVersion,
    sock: socket.socket,
    server_side: bool = False,
    do_handshake_on_connect: bool = False,
    suppress_ragged_eofs: bool = True,
) -> ssl.SSLSocket:
    """Wrap a socket; the handshake is left to the test."""
    return context(flavour, version, server_side).wrap_socket(
        sock,
        server_side,
        server_hostname=None if server_side else "localhost",
        do_handshake_on_connect=do_handshake_on_connect,
        suppress_ragged_eofs=suppress_ragged_eofs,
    )


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname(), TIMEOUT)
        other, _ = listener.accept()
    for sock in (one, other):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return one, other


def quiet(sock: ssl.SSLSocket) -> None:
    """Read what TLS itself still has to say, the tickets of TLS 1.3 for one."""
    timeout = sock.gettimeout()
    sock.settimeout(0)
    with pytest.raises(ssl.SSLWantReadError):
        sock.recv(1)
    sock.settimeout(timeout)


def read_all(sock: ssl.SSLSocket, size: int) -> bytes:
    """Read exactly ``size`` bytes."""
    received = bytearray()
    while len(received) < size:
        chunk = sock.recv(min(65536, size - len(received)))
        assert chunk, f"the stream ended after {len(received)} bytes"
        received += chunk
    return bytes(received)


@pytest.fixture(params=FLAVOURS)
def flavour(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def pair(flavour: str, tls_version: ssl.TLSVersion) -> Iterator[Pair]:
    """Make connected pairs: ours, and the standard library's at the other end."""
    with contextlib.ExitStack() as stack:

        def make(
            *,
            server_side: bool = False,
            handshake: bool = True,
            tcp: bool = False,
            **options: bool,
        ) -> tuple[ssl.SSLSocket, ssl.SSLSocket]:
            raw = tcp_pair() if tcp else socket.socketpair()
            for sock in raw:
                sock.settimeout(TIMEOUT)
            ours = stack.enter_context(
                wrap(flavour, tls_version, raw[0], server_side, **options)
            )
            theirs = stack.enter_context(wrap("ssl", tls_version, raw[1], not server_side))
            if handshake:
                shaking = start(theirs.do_handshake)
                ours.do_handshake()
                shaking.result(TIMEOUT)
                quiet(theirs if server_side else ours)
            return ours, theirs

        yield make


# Timeouts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])
@pytest.mark.parametrize("timeout", [None, TIMEOUT])
def test_data_goes_both_ways(pair: Pair, timeout: float | None, server_side: bool) -> None:
    """A blocking socket and one with a timeout read and write."""
    ours, theirs = pair(server_side=server_side)
    ours.settimeout(timeout)
    for size in (1, 100, 20_000, 100_000):
        echo = start(lambda size=size: theirs.sendall(read_all(theirs, size)))
        ours.sendall(MUCH[:size])
        assert read_all(ours, size) == MUCH[:size]
        echo.result(TIMEOUT)
    assert ours.gettimeout() == timeout


@pytest.mark.parametrize("operation", ["handshake", "read", "write"])
def test_a_timeout_says_what_timed_out(pair: Pair, operation: str) -> None:
    """With a peer that says nothing, TimeoutError names the operation."""
    ours, _theirs = pair(handshake=operation != "handshake")
    ours.settimeout(SHORT)
    calls: dict[str, Callable[[], object]] = {
        "handshake": ours.do_handshake,
        "read": lambda: ours.recv(1),
        "write": lambda: ours.sendall(MUCH),
    }
    with pytest.raises(TimeoutError, match=f"The {operation} operation timed out") as caught:
        calls[operation]()
    assert type(caught.value) is TimeoutError
    assert caught.value.errno is None


def test_reading_goes_on_after_a_timeout(pair: Pair) -> None:
    """A read that timed out has taken nothing."""
    ours, theirs = pair()
    ours.settimeout(SHORT)
    with pytest.raises(TimeoutError):
        ours.recv(1)
    theirs.sendall(b"late")
    assert ours.recv(9) == b"late"


def test_a_handshake_goes_on_after_a_timeout(pair: Pair) -> None:
    """A handshake that timed out can be taken up again."""
    ours, theirs = pair(handshake=False)
    ours.settimeout(SHORT)
    with pytest.raises(TimeoutError):
        ours.do_handshake()
    ours.settimeout(TIMEOUT)
    shaking = start(theirs.do_handshake)
    ours.do_handshake()
    shaking.result(TIMEOUT)
    theirs.sendall(b"x")
    assert ours.recv(1) == b"x"


def test_the_timeout_is_that_of_the_moment(pair: Pair) -> None:
    """settimeout() counts from the next call on, in each direction of change."""
    ours, theirs = pair()
    for _ in range(2):
        ours.settimeout(SHORT)
        with pytest.raises(TimeoutError):
            ours.recv(1)
        ours.settimeout(0)
        with pytest.raises(ssl.SSLWantReadError):
            ours.recv(1)
        ours.settimeout(None)
        assert ours.getblocking()
        later = start(theirs.sendall, b"x")
        assert ours.recv(1) == b"x"
        later.result(TIMEOUT)
        ours.setblocking(False)
        with pytest.raises(ssl.SSLWantReadError):
            ours.recv(1)
        ours.setblocking(True)
        theirs.sendall(b"y")
        assert ours.recv(1) == b"y"


def wait_by(poll: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have ours wait by something else than ``select.poll``."""
    stand_in = SimpleNamespace(poll=poll, POLLIN=select.POLLIN, POLLOUT=select.POLLOUT)
    monkeypatch.setattr(_engine, "select", stand_in)


def drip(
    theirs: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
    begun: bytes = b"\x17\x03\x03\x10\x00",
) -> list[float | None]:
    """Have a record come byte by byte, one with each wait of ours; the timeouts of the waits."""
    record = iter(begun + bytes(99))  # it does not end
    waits: list[float | None] = []

    class Dripping:
        """Stands for the poll object."""

        def __init__(self) -> None:
            self.poll_object = select.poll()
            self.register = self.poll_object.register

        def poll(self, timeout: float | None) -> list[tuple[int, int]]:
            waits.append(timeout)
            socket.socket.send(theirs, bytes([next(record)]))
            return self.poll_object.poll(timeout)

    wait_by(Dripping, monkeypatch)
    monkeypatch.setattr(_engine, "time", Clock())
    return waits


@pytest.mark.parametrize("flavour", ["unpinned", "pinned"])  # ssl has a clock of its own
def test_a_peer_that_drips_does_not_hold_a_call(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The timeout is that of the whole call, however little comes each time."""
    ours, theirs = pair()
    waits = drip(theirs, monkeypatch)
    ours.settimeout(3)
    with pytest.raises(TimeoutError, match="The read operation timed out"):
        ours.recv(1)
    assert waits == [3000, 2000, 1000]


# Waiting for an answer ---------------------------------------------------------------------------


@pytest.fixture
def polls(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """The timeout of each wait of ours."""
    waits: list[float | None] = []

    class Poll:
        def __init__(self) -> None:
            self.poll_object = select.poll()
            self.register = self.poll_object.register

        def poll(self, timeout: float | None) -> list[tuple[int, int]]:
            waits.append(timeout)
            return self.poll_object.poll(timeout)

    wait_by(Poll, monkeypatch)
    return waits


def _recv_into(sock: ssl.SSLSocket, size: int) -> bytes:
    buffer = bytearray(size)
    return bytes(buffer[: sock.recv_into(buffer)])


receivers = pytest.mark.parametrize(
    "receive", [ssl.SSLSocket.recv, _recv_into], ids=["recv", "recv_into"]
)
Receive = Callable[[ssl.SSLSocket, int], bytes]
KIB = 1024


@receivers
@pytest.mark.parametrize("size", [9, 64 * KIB])
def test_an_answer_is_waited_for_before_it_is_asked_for(
    pair: Pair, flavour: str, polls: list[float | None], receive: Receive, size: int
) -> None:
    """Once: it is there then.  Else it may be there, and there is nothing to be waited for."""
    ours, theirs = pair()
    for _ in range(2):
        theirs.sendall(b"word")
        assert receive(ours, size) == b"word"
    polls.clear()
    ours.sendall(b"question")
    theirs.sendall(b"answer")
    assert receive(ours, size) == b"answer"
    assert polls == ([] if flavour == "ssl" else [pytest.approx(TIMEOUT * 1000)])
    theirs.sendall(b"word")
    assert receive(ours, size) == b"word"
    assert len(polls) == (0 if flavour == "ssl" else 1)


@receivers
@pytest.mark.parametrize(
    ("sent", "first", "rest"),
    [(10, 3, 9), (20 * KIB, 16 * KIB, 16 * KIB), (36 * KIB, 64 * KIB, 64 * KIB), (10, 10, 9)],
)
def test_what_is_left_to_be_read_is_read_before_an_answer(
    pair: Pair, receive: Receive, sent: int, first: int, rest: int
) -> None:
    """Though something was written in between, that the peer has not answered."""
    ours, theirs = pair()
    theirs.sendall(MUCH[:sent])
    received = receive(ours, first)
    while len(received) < sent:
        ours.sendall(b"and?")
        received += receive(ours, rest)
    assert received == MUCH[:sent]


@receivers
@pytest.mark.parametrize("size", [9, 64 * KIB])
@pytest.mark.parametrize("last", [b"", b"last", MUCH[: 16 * KIB]], ids=["none", "short", "full"])
def test_after_the_goodbye_no_answer_is_waited_for(
    pair: Pair, polls: list[float | None], receive: Receive, size: int, last: bytes
) -> None:
    """The peer says close_notify and nothing else, and keeps the connection."""
    ours, theirs = pair()
    theirs.sendall(b"word")
    assert receive(ours, 9) == b"word"
    theirs.sendall(last)
    theirs.setblocking(False)
    with pytest.raises(ssl.SSLWantReadError):
        theirs.unwrap()
    received = receive(ours, size)
    polls.clear()
    while len(received) < len(last):
        received += receive(ours, size)
    for _ in range(2):
        ours.sendall(b"more")
        assert receive(ours, size) == b""
    assert received == last
    # Once, where the goodbye had not been seen yet.
    seen = not last or size > len(last) == 16 * KIB
    assert len(polls) <= (0 if seen else 1)


@pytest.mark.parametrize("pinned", [False, True], ids=["unpinned", "pinned"])
def test_a_request_for_a_certificate_is_sent_by_the_read(pinned: bool, flavour: str) -> None:
    """It is OpenSSL that has something to say, before there can be an answer."""
    tls13 = ssl.TLSVersion.TLSv1_3
    if flavour == "ssl":
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    else:
        pins = PinSet({"leaf": PIN}) if pinned else None
        made = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=pins)
    peers.fix_version(made, tls13)
    CHAIN.trust(made)
    CHAIN.configure(made)
    made.verify_mode, made.post_handshake_auth = ssl.CERT_REQUIRED, True
    caller = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    CHAIN.trust(caller)
    CHAIN.configure(caller)
    caller.post_handshake_auth = True
    asked: list[object] = []

    def on_message(_sock: object, direction: str, _version: int, *what: object) -> None:
        if direction == "read" and what[:2] == (22, 13):  # a CertificateRequest
            asked.append(what)

    cast(Any, caller)._msg_callback = on_message
    near, far = socket.socketpair()
    shaking = start(made.wrap_socket, near, True)
    with caller.wrap_socket(far, server_hostname="localhost") as theirs:
        with shaking.result(TIMEOUT) as ours:
            ours.settimeout(TIMEOUT)
            theirs.settimeout(TIMEOUT)
            theirs.sendall(b"word")
            assert ours.recv(9) == b"word"
            ours.sendall(b"who are you?")
            ours.verify_client_post_handshake()
            reading = start(ours.recv, 9)
            assert theirs.recv(99) == b"who are you?"
            theirs.setblocking(False)
            while not asked:
                wait_for(theirs, ssl.SSLWantReadError())
                with pytest.raises(ssl.SSLWantReadError):
                    theirs.recv(9)
            theirs.settimeout(TIMEOUT)
            theirs.sendall(b"it is me")
            assert reading.result(TIMEOUT) == b"it is me"
            assert ours.getpeercert()


def test_a_goodbye_waits_for_the_writer_and_for_no_answer(pair: Pair, flavour: str) -> None:
    """The peer may wait for the goodbye itself."""
    if flavour == "ssl":
        pytest.skip("it fails if another thread is in the middle of a write")
    ours, theirs = pair()
    theirs.sendall(b"word")
    assert ours.recv(9) == b"word"
    writing = start(ours.sendall, MUCH)
    assert theirs.recv(1) == MUCH[:1]  # it has begun, and there is no room for all of it
    unwrapping = start(ours.unwrap)
    received = 1
    while data := theirs.recv(1 << 16):
        received += len(data)
    writing.result(TIMEOUT)
    assert received == len(MUCH)
    theirs.unwrap()
    unwrapping.result(TIMEOUT)


@receivers
def test_after_a_read_that_failed_no_answer_is_waited_for(
    tls_version: ssl.TLSVersion, receive: Receive
) -> None:
    """What it has left is in OpenSSL."""
    made = PinnedContext(pins=PinSet({"leaf": PIN}))
    peers.fix_version(made, tls_version)
    CHAIN.trust(made)
    CHAIN.configure(made)
    wrong: list[Exception] = []

    def on_message(*_: object) -> None:
        if wrong:
            raise wrong.pop()

    made._msg_callback = on_message
    left, right = tcp_pair()
    shaking = start(wrap, "ssl", tls_version, right, True, True)
    with made.wrap_socket(left, server_hostname="localhost") as ours:
        with shaking.result(TIMEOUT) as theirs:
            ours.settimeout(TIMEOUT)
            theirs.sendall(b"word")
            assert ours.recv(9) == b"word"
            theirs.sendall(b"0123456789")
            wrong.append(RuntimeError("of the callback"))
            with pytest.raises(RuntimeError, match="of the callback"):
                receive(ours, 5)
            ours.sendall(b"question")
            assert receive(ours, 5) == b"56789"


def test_an_answer_to_a_socket_that_does_not_block_is_asked_for_at_once(pair: Pair) -> None:
    """What is there is read, and SSLWantReadError says that there is nothing."""
    ours, theirs = pair()
    theirs.sendall(b"word")
    assert ours.recv(9) == b"word"
    ours.setblocking(False)
    for _ in range(2):
        ours.sendall(b"question")
        theirs.sendall(b"answer")
        wait_for(ours, ssl.SSLWantReadError())
        assert ours.recv(9) == b"answer"
    ours.sendall(b"question")
    with pytest.raises(ssl.SSLWantReadError):
        ours.recv(9)


def test_an_answer_that_does_not_come_is_a_timeout(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One timeout for the read, however often it waits; then it goes on."""
    ours, theirs = pair()
    theirs.sendall(b"word")
    assert ours.recv(9) == b"word"
    ours.settimeout(SHORT)
    ours.sendall(b"question")
    with pytest.raises(TimeoutError, match="The read operation timed out"):
        ours.recv(9)
    ours.settimeout(TIMEOUT)
    theirs.sendall(b"answer")
    assert ours.recv(9) == b"answer"


def test_a_server_waits_for_the_client_before_it_looks(
    flavour: str, tls_version: ssl.TLSVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time it is asked to; and it locks nobody out if it should find nothing, and wait."""
    if flavour == "ssl":
        pytest.skip("it is read, and not looked at")
    looks: list[int] = []

    def peek(sock: ssl.SSLSocket) -> bytes:
        looks.append(start(sock.pending).result(TIMEOUT))
        return b""

    monkeypatch.setattr(_engine, "_peek", peek)
    near, far = tcp_pair()
    with near, wrap(flavour, tls_version, far, True) as sock:
        sock.settimeout(SHORT)
        for _ in range(2):
            with pytest.raises(TimeoutError, match="The handshake operation timed out"):
                sock.do_handshake()
        assert looks == []
        near.sendall(b"GET / HTTP/1.0\r\n\r\n")
        with pytest.raises(ssl.SSLError):
            sock.do_handshake()
        assert len(looks) == 1


@receivers
@pytest.mark.parametrize("size", [9, 64 * KIB])
def test_who_waits_for_an_answer_drips_no_longer_than_the_timeout(
    pair: Pair, flavour: str, monkeypatch: pytest.MonkeyPatch, receive: Receive, size: int
) -> None:
    """What is waited for before the first byte counts, too."""
    if flavour == "ssl":
        pytest.skip("it has no clock to be replaced")
    ours, theirs = pair()
    theirs.sendall(b"word")
    assert ours.recv(9) == b"word"
    ours.sendall(b"question")
    waits = drip(theirs, monkeypatch)
    ours.settimeout(3)
    with pytest.raises(TimeoutError, match="The read operation timed out"):
        receive(ours, size)
    assert waits == [3000, 2000, 1000]


def test_who_waits_for_a_client_drips_no_longer_than_the_timeout(
    flavour: str, tls_version: ssl.TLSVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Likewise for the client's first word."""
    if flavour == "ssl":
        pytest.skip("it has no clock to be replaced")
    near, far = tcp_pair()
    with near, wrap(flavour, tls_version, far, True) as sock:
        waits = drip(near, monkeypatch, b"\x16\3\1\2\0\1\0\1\xfc\3\3")
        sock.settimeout(3)
        with pytest.raises(TimeoutError, match="The handshake operation timed out"):
            sock.do_handshake()
        assert waits == [3000, 2000, 1000]


@receivers
@pytest.mark.parametrize("size", [9, 64 * KIB])
@pytest.mark.parametrize("how", ["close", "shutdown"])
def test_who_waits_for_an_answer_is_told_of_the_end(
    pair: Pair,
    flavour: str,
    monkeypatch: pytest.MonkeyPatch,
    receive: Receive,
    size: int,
    how: str,
) -> None:
    """Another thread closes the socket, or shuts it down, behind a write that nobody answers."""
    if flavour == "ssl":
        pytest.skip("its close() does not end a read of another thread")
    ours, theirs = pair()
    theirs.sendall(b"word")
    assert ours.recv(9) == b"word"
    ours.sendall(b"question")
    waiting = threading.Event()

    def poll() -> object:
        waiting.set()
        return select.poll()

    wait_by(poll, monkeypatch)
    reading = start(receive, ours, size)
    assert waiting.wait(TIMEOUT)
    if how == "close":
        ours.close()
        theirs.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            reading.result(TIMEOUT)
    else:
        ours.shutdown(socket.SHUT_RDWR)
        assert reading.result(TIMEOUT) == b""


# Long writes -------------------------------------------------------------------------------------

cork = pytest.mark.skipif(not hasattr(socket, "TCP_CORK"), reason="a system without TCP_CORK")


@cork
@pytest.mark.parametrize("before", [0, 1])
def test_the_records_of_a_long_write_are_sent_together(
    tls_version: ssl.TLSVersion, before: int
) -> None:
    """TCP_CORK is on for as long as it takes; who has set it himself finds it so."""
    seen: set[int] = set()

    def on_message(sock: socket.socket, direction: str, *_: object) -> None:
        if direction == "write":
            seen.add(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK))

    made = PinnedContext(pins=PinSet({"leaf": PIN}))
    peers.fix_version(made, tls_version)
    CHAIN.trust(made)
    CHAIN.configure(made)
    made._msg_callback = on_message
    left, right = tcp_pair()
    shaking = start(wrap, "ssl", tls_version, right, True, True)
    with made.wrap_socket(left, server_hostname="localhost") as ours:
        with shaking.result(TIMEOUT) as theirs:
            ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, before)
            ours.settimeout(TIMEOUT)
            theirs.settimeout(TIMEOUT)
            for size, corked in ((64 * KIB - 1, before), (64 * KIB, 1), (100, before)):
                seen.clear()
                ours.sendall(MUCH[:size])
                assert seen == {corked}
                assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK) == before
                assert read_all(theirs, size) == MUCH[:size]


@cork
def test_who_gets_a_descriptor_gets_it_uncorked(tls_version: ssl.TLSVersion) -> None:
    """Also in the middle of a write that has to wait."""
    left, right = tcp_pair()
    shaking = start(wrap, "ssl", tls_version, right, True, True)
    with wrap("pinned", tls_version, left, False, True) as ours:
        with shaking.result(TIMEOUT):
            engine = cast(Any, ours)._sslobj
            engine._cork()
            assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK) == 1
            with socket.socket(fileno=ours.detach()) as plain:
                assert plain.getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK) == 0


@cork
def test_a_write_that_has_to_wait_holds_nothing_back(tls_version: ssl.TLSVersion) -> None:
    """A send buffer that is smaller than a segment would wait for the rest of it."""
    left, right = tcp_pair()
    left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * KIB)
    shaking = start(wrap, "ssl", tls_version, right, True, True)
    with wrap("pinned", tls_version, left, False, True) as ours:
        with shaking.result(TIMEOUT) as theirs:
            theirs.settimeout(TIMEOUT)
            ours.settimeout(SHORT)
            with pytest.raises(TimeoutError):
                ours.sendall(MUCH)
            assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK) == 0
            ours.settimeout(TIMEOUT)
            reading = start(read_all, theirs, len(MUCH))
            held = []

            def poll() -> object:
                held.append(ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK))
                return select.poll()

            with pytest.MonkeyPatch.context() as patch:
                wait_by(poll, patch)
                ours.sendall(MUCH)
            assert set(held) == {0}
            assert reading.result(TIMEOUT) == MUCH


# Not blocking ------------------------------------------------------------------------------------


def wait_for(sock: ssl.SSLSocket, error: ssl.SSLError) -> None:
    """Wait for what a call on a non-blocking socket wanted."""
    if isinstance(error, ssl.SSLWantReadError):
        ready, _, _ = select.select([sock], [], [], TIMEOUT)
    else:
        assert isinstance(error, ssl.SSLWantWriteError)
        _, ready, _ = select.select([], [sock], [], TIMEOUT)
    assert ready, "nothing came"


@pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])
def test_a_nonblocking_handshake_says_what_it_waits_for(pair: Pair, server_side: bool) -> None:
    """SSLWantReadError until the peer's bytes are there; then it is done."""
    ours, theirs = pair(handshake=False, server_side=server_side)
    ours.setblocking(False)
    with pytest.raises(ssl.SSLWantReadError) as caught:
        ours.do_handshake()
    assert caught.value.errno == ssl.SSL_ERROR_WANT_READ
    assert ours.version() is None
    shaking = start(theirs.do_handshake)
    while True:
        try:
            ours.do_handshake()
            break
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            wait_for(ours, error)
    shaking.result(TIMEOUT)
    quiet(theirs if server_side else ours)
    theirs.sendall(b"x")
    wait_for(ours, ssl.SSLWantReadError())
    assert ours.recv(1) == b"x"


def test_a_nonblocking_write_wants_room_and_then_goes_on(pair: Pair) -> None:
    """SSLWantWriteError when the peer does not read; the same bytes again, and nothing is lost."""
    ours, theirs = pair()
    ours.setblocking(False)
    sent = 0
    reading: Future[bytes] | None = None
    waited = 0
    while sent < len(MUCH):
        try:
            # Another object with the same bytes: the buffer may move.
            sent += ours.send(bytes(bytearray(MUCH[sent:])))
        except ssl.SSLWantWriteError as error:
            waited += 1
            if reading is None:
                # There is no room for more, and yet it can be read meanwhile.
                theirs.sendall(b"answer")
                wait_for(ours, ssl.SSLWantReadError())
                assert ours.recv(9) == b"answer"
                reading = start(read_all, theirs, len(MUCH))
            wait_for(ours, error)
    assert waited
    assert reading is not None
    assert reading.result(TIMEOUT) == MUCH


def test_a_nonblocking_socket_cannot_shake_hands_on_connect(
    flavour: str, tls_version: ssl.TLSVersion
) -> None:
    """do_handshake_on_connect with a timeout of 0 is a ValueError, and the socket is closed."""
    left, right = socket.socketpair()
    left.setblocking(False)
    with left, right:
        with pytest.raises(ValueError, match="non-blocking"):
            wrap(flavour, tls_version, left, do_handshake_on_connect=True)
        right.settimeout(TIMEOUT)
        assert right.recv(1) == b""


# Reading and writing -----------------------------------------------------------------------------


def test_what_can_be_sent(pair: Pair) -> None:
    """Bytes, memoryviews of any format, arrays, an mmap-like buffer, and nothing."""
    ours, theirs = pair()
    words = array.array("I", range(10))
    for data in (
        b"bytes",
        bytearray(b"bytearray"),
        memoryview(b"--view--")[2:-2],
        words,
        memoryview(words),
        memoryview(words)[3:7],
        memoryview(b"0123456789ab").cast("B", (3, 4)),
        io.BytesIO(b"buffer").getbuffer(),
    ):
        expected = bytes(data)
        ours.sendall(data)
        assert read_all(theirs, len(expected)) == expected
    ours.sendall(b"")
    assert ours.send(b"") == 0
    assert ours.send(b"abc") == 3
    assert read_all(theirs, 3) == b"abc"


class _Number:
    """A number that can do nothing but be one."""

    def __init__(self, value: int) -> None:
        self._value = value

    def __index__(self) -> int:
        return self._value


def test_what_can_be_read_into(pair: Pair) -> None:
    """Bytearrays, memoryviews and arrays, whole or in part."""
    ours, theirs = pair()
    theirs.sendall(bytes(range(100)))
    buffer = bytearray(10)
    assert ours.recv_into(buffer) == 10
    assert buffer == bytes(range(10))
    assert ours.recv_into(buffer, 4) == 4
    assert buffer[:4] == bytes(range(10, 14))
    assert buffer[4:] == bytes(range(4, 10))
    assert ours.recv_into(memoryview(buffer)[6:]) == 4
    assert buffer[6:] == bytes(range(14, 18))
    words = array.array("H", [0, 0])
    assert ours.recv_into(words, 4) == 4
    assert words.tobytes() == bytes(range(18, 22))
    for nbytes in (0, -1, 99):  # as many as it holds
        assert ours.recv_into(buffer, nbytes) == 10
    assert buffer == bytes(range(42, 52))
    assert ours.recv_into(bytearray()) == 0
    assert cast(Any, ours).recv_into(None, 3) == bytes(range(52, 55))
    for wrong in (b"bytes", "text", memoryview(bytes(10))):
        with pytest.raises((TypeError, BufferError)):
            cast(Any, ours).recv_into(wrong)
    for nothing in ("", [], 1.5):
        with pytest.raises(TypeError):
            cast(Any, ours).recv_into(buffer, nothing)
        with pytest.raises(TypeError):
            cast(Any, ours).recv(nothing)
    with pytest.raises(ValueError, match="non-zero flags not allowed in calls to recv_into"):
        ours.recv_into(buffer, 1, socket.MSG_PEEK)
    assert ours.recv(0) == b""
    with pytest.raises(ValueError, match="size should not be negative"):
        ours.recv(-1)
    buffer += b"!"  # not locked any more
    assert ours.recv(cast(int, _Number(5))) == bytes(range(55, 60))
    assert ours.recv_into(buffer, cast(int, _Number(5))) == 5
    assert buffer[:5] == bytes(range(60, 65))
    assert ours.recv(1000) == bytes(range(65, 100))


@pytest.mark.parametrize("flags", [None, "", [], 0.5])
def test_flags_that_are_nothing_are_not_none(pair: Pair, flags: object) -> None:
    """What is not 0 is refused, if it looks like nothing too."""
    ours = cast(Any, pair()[0])
    for call in (
        lambda: ours.send(b"x", flags),
        lambda: ours.sendall(b"x", flags),
        lambda: ours.recv(9, flags),
        lambda: ours.recv_into(bytearray(9), 9, flags),
    ):
        with pytest.raises(ValueError, match="non-zero flags not allowed"):
            call()


def test_bytes_that_say_they_are_more_are_what_they_are(pair: Pair) -> None:
    """What lies behind them in memory is nobody's business."""

    class Boasting(bytes):
        def __len__(self) -> int:
            return 40

    ours, theirs = pair()
    for send in (ours.sendall, ours.send, ours.write):
        send(Boasting(b"abc"))
        assert theirs.recv(100) == b"abc"


def test_pending_counts_what_has_been_decrypted(pair: Pair) -> None:
    """pending() is the rest of the record of which a part was read."""
    ours, theirs = pair()
    assert ours.pending() == 0
    theirs.sendall(b"0123456789")
    assert ours.recv(4) == b"0123"
    assert ours.pending() == 6
    assert ours.recv(99) == b"456789"
    assert ours.pending() == 0


@pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])
def test_megabytes_arrive(pair: Pair, server_side: bool) -> None:
    """Five megabytes in one sendall(), one way and then the other."""
    ours, theirs = pair(server_side=server_side, tcp=True)
    reading = start(read_all, theirs, len(MUCH))
    ours.sendall(MUCH)
    assert reading.result(TIMEOUT) == MUCH
    writing = start(theirs.sendall, MUCH)
    assert read_all(ours, len(MUCH)) == MUCH
    writing.result(TIMEOUT)


def test_makefile_reads_lines_and_outlives_close(pair: Pair) -> None:
    """A file of the socket keeps the connection open until it is closed itself."""
    ours, theirs = pair()
    with ours.makefile("rwb") as file:
        ours.close()
        theirs.sendall(b"one\ntwo\nthr")
        assert file.readline() == b"one\n"
        assert file.readline() == b"two\n"
        theirs.sendall(b"ee\n")
        assert file.readline() == b"three\n"
        file.write(b"answer\n")
        file.flush()
        assert read_all(theirs, 7) == b"answer\n"
        theirs.sendall(b"rest")
        theirs.close()
        assert file.read() == b"rest"
        assert file.read() == b""


def test_sendfile_sends_a_part_of_a_file(pair: Pair, tmp_path: Path) -> None:
    """sendfile() with offset and count, and the file is then where it says."""
    ours, theirs = pair()
    path = tmp_path / "file"
    path.write_bytes(MUCH[:300_000])
    with path.open("rb") as file:
        reading = start(read_all, theirs, 300_000 - 1000)
        assert ours.sendfile(file, offset=1000) == 300_000 - 1000
        assert reading.result(TIMEOUT) == MUCH[1000:300_000]
        assert ours.sendfile(file, offset=10, count=20) == 20
        assert file.tell() == 30
        assert read_all(theirs, 20) == MUCH[10:30]


def test_reading_without_a_handshake_shakes_hands_first(
    flavour: str, pair: Pair, tls_version: ssl.TLSVersion
) -> None:
    """do_handshake_on_connect=False and no do_handshake(): read and write make up for it."""
    ours, theirs = pair(handshake=False)
    answering = start(lambda: theirs.sendall(read_all(theirs, 4)))
    ours.sendall(b"ping")
    assert ours.recv(4) == b"ping"
    answering.result(TIMEOUT)
    ours, theirs = pair(handshake=False)
    writing = start(theirs.sendall, b"data")
    assert ours.recv(4) == b"data"
    writing.result(TIMEOUT)
    if flavour == "pinned":
        assert isinstance(ours, PinnedSocket)
        assert ours.pin_match == PinMatch(0, Pin.parse(PIN), "leaf")


# The end -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [None, TIMEOUT])
def test_after_unwrap_there_is_clear_text(pair: Pair, timeout: float | None) -> None:
    """unwrap() gives the socket back, its descriptor in the mode that its timeout stands for."""
    ours, theirs = pair()
    ours.settimeout(timeout)
    unwrapping = start(theirs.unwrap)
    plain = ours.unwrap()
    other = unwrapping.result(TIMEOUT)
    assert plain.gettimeout() == timeout
    assert os.get_blocking(plain.fileno()) is (timeout is None)
    plain.sendall(b"clear")
    assert other.recv(9) == b"clear"
    other.sendall(b"text")
    assert plain.recv(9) == b"text"
    assert ours.version() is None
    plain.close()
    other.close()


def test_what_comes_behind_the_goodbye_is_clear_text(pair: Pair) -> None:
    """unwrap() takes no byte of what the peer sends after its close_notify."""
    ours, theirs = pair()
    unwrapping = start(ours.unwrap)
    other = theirs.unwrap()
    other.sendall(b"clear")
    plain = unwrapping.result(TIMEOUT)
    assert plain.recv(9) == b"clear"
    plain.close()
    other.close()


def test_a_goodbye_ends_the_stream_and_can_be_answered(pair: Pair) -> None:
    """After the peer's close_notify reading gives b"", again and again, and writing still goes."""
    ours, theirs = pair()
    theirs.sendall(b"last")
    unwrapping = start(theirs.unwrap)
    assert ours.recv(9) == b"last"
    for _ in range(3):
        assert ours.recv(9) == b""
        assert ours.recv_into(bytearray(3)) == 0
    plain = ours.unwrap()
    unwrapping.result(TIMEOUT).close()
    plain.close()


@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
@pytest.mark.parametrize("suppress", [True, False])
def test_a_ragged_end_is_suppressed_if_asked(pair: Pair, suppress: bool, tcp: bool) -> None:
    """A peer gone without close_notify is b"", or an SSLEOFError; and so it remains."""
    ours, theirs = pair(suppress_ragged_eofs=suppress, tcp=tcp)
    theirs.sendall(b"last")
    theirs.close()
    assert ours.recv(9) == b"last"
    for _ in range(3):
        if suppress:
            assert ours.recv(9) == b""
            assert ours.recv_into(bytearray(9)) == 0
        else:
            with pytest.raises(ssl.SSLEOFError, match="EOF occurred in violation of protocol"):
                ours.recv(9)
            with pytest.raises(ssl.SSLEOFError):
                ours.recv_into(bytearray(9))


@receivers
@pytest.mark.parametrize("size", [9, 64 * KIB])
def test_damage_is_no_ragged_end(pair: Pair, receive: Receive, size: int) -> None:
    """A record that was changed on the way, or forged, is an error; not the end of the stream."""
    ours, theirs = pair()
    socket.socket.sendall(theirs, b"\x17\3\3\0\x20" + bytes(32))
    with pytest.raises(ssl.SSLError, match=r"BAD_RECORD_MAC|RECORD_LAYER_FAILURE|DECRYPTION"):
        receive(ours, size)


def reset(sock: socket.socket) -> None:
    """Close a TCP socket so that the other side's connection is reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def test_a_reset_is_the_error_of_the_system(flavour: str, pair: Pair) -> None:
    """Reading raises ConnectionResetError, as ssl has it since 3.13; then nothing goes any more."""
    if flavour == "ssl" and sys.version_info < (3, 13):
        pytest.skip("ssl took a reset for the end of the stream")
    ours, theirs = pair(tcp=True)
    reset(theirs)
    with pytest.raises(ConnectionResetError):
        ours.recv(1)
    with pytest.raises(OSError, match=r"."):
        ours.send(b"x")


def test_a_connection_reset_before_the_wrap_is_closed(tls_version: ssl.TLSVersion) -> None:
    """_create() finds it out by reading, and the descriptor is not left to nobody."""
    ours, theirs = tcp_pair()
    reset(theirs)
    poll = select.poll()
    poll.register(ours, 0)
    assert poll.poll(TIMEOUT * 1000)
    number = ours.fileno()
    with pytest.raises(ConnectionResetError):
        wrap("pinned", tls_version, ours)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


def test_what_came_before_tls_is_refused(flavour: str, tls_version: ssl.TLSVersion) -> None:
    """Clear text of a connection that was reset would be read as if it had come through TLS."""
    ours, theirs = tcp_pair()
    theirs.sendall(b"clear text")
    reset(theirs)
    poll = select.poll()
    poll.register(ours, 0)
    assert poll.poll(TIMEOUT * 1000)
    number = ours.fileno()
    with pytest.raises(ssl.SSLError, match="Closed before TLS handshake with data") as caught:
        wrap(flavour, tls_version, ours)
    assert caught.value.errno == errno.ENOTCONN
    assert caught.value.library is None
    assert caught.value.reason == "Closed before TLS handshake with data in recv buffer."
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


@pytest.mark.parametrize(
    ("kind", "server_side", "arguments", "message"),
    [
        (socket.SOCK_DGRAM, False, {"server_hostname": "localhost"}, "only stream sockets"),
        (socket.SOCK_DGRAM, True, {}, "only stream sockets"),
        (socket.SOCK_STREAM, False, {}, "check_hostname requires server_hostname"),
        (socket.SOCK_STREAM, True, {"server_hostname": "a"}, "server_hostname can only be"),
        (socket.SOCK_STREAM, True, {"session": object()}, "session can only be"),
    ],
)
def test_what_ssl_refuses_to_wrap_stays_the_callers(
    flavour: str,
    tls_version: ssl.TLSVersion,
    kind: int,
    server_side: bool,
    arguments: dict[str, Any],
    message: str,
) -> None:
    """With ssl's errors: datagrams, names and sessions of servers, and a name that is missing."""
    made = context(flavour, tls_version, server_side)
    with socket.socket(socket.AF_INET, kind) as sock:
        with pytest.raises((NotImplementedError, ValueError), match=message):
            made.wrap_socket(sock, server_side, **arguments)
        assert sock.fileno() >= 0


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
@pytest.mark.parametrize("connected", [True, False])
@pytest.mark.parametrize("server_side", [True, False])
def test_a_socket_is_made_with_all_that_ssl_gives_it(
    tls_version: ssl.TLSVersion, family: int, connected: bool, server_side: bool
) -> None:
    """A new Python's socket may have more: then ``PinnedSocket._create`` has to give it that."""
    found: list[dict[str, object]] = []
    for flavour in FLAVOURS:
        if connected:
            left, right = tcp_pair() if family == socket.AF_INET else socket.socketpair()
        else:
            left, right = socket.socket(family), socket.socket(family)
        left.settimeout(TIMEOUT)
        place = left.family, left.type, left.proto
        with right, wrap(flavour, tls_version, left, server_side) as made:
            assert left.fileno() == -1
            assert (made.family, made.type, made.proto) == place
            assert made.gettimeout() == TIMEOUT
            assert bool(vars(made)["_sslobj"]) is connected
            own = {"_pins", "_tls", "_sslobj", "_context"}
            found.append({name: each for name, each in vars(made).items() if name not in own})
            assert {"_sslobj", "_context"} < vars(made).keys()
    assert found[0] == found[1] == found[2]


def test_a_session_is_kept_until_the_connection_is_made(
    flavour: str, tls_version: ssl.TLSVersion
) -> None:
    """A socket is wrapped with a session, and connects later."""
    made = context(flavour, tls_version)
    with StdlibServer(CHAIN, tls_version) as server:
        with server.connect() as plain, made.wrap_socket(
            plain, server_hostname="localhost"
        ) as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
            session = sock.session
        with made.wrap_socket(
            socket.socket(), server_hostname="localhost", session=session
        ) as sock:
            sock.settimeout(TIMEOUT)
            sock.connect(server.address)
            assert sock.session_reused


class _Eager(ssl.SSLSocket):
    """Waits five seconds where others wait for ever, or not at all."""

    def settimeout(self, value: float | None) -> None:
        super().settimeout(value or 5)


class _Lost(ssl.SSLSocket):
    """Whether there is a peer cannot be said."""

    def getpeername(self) -> object:
        raise OSError(errno.EINVAL, "lost")


def test_whether_there_is_a_peer_is_not_guessed(
    flavour: str, tls_version: ssl.TLSVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any other error than that there is none is raised."""
    if flavour == "ssl" and sys.version_info < (3, 13):
        pytest.skip("it leaves the descriptor to the garbage collector")
    monkeypatch.setattr(context(flavour, tls_version, False), "sslsocket_class", _Lost)
    left, right = socket.socketpair()
    with right, pytest.raises(OSError, match="lost"):
        wrap(flavour, tls_version, left).close()


@pytest.mark.parametrize("timeout", [None, 0])
def test_what_a_class_of_the_users_overrides_is_asked(
    flavour: str,
    tls_version: ssl.TLSVersion,
    timeout: float | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its settimeout() decides, for the handshake too."""
    made = context(flavour, tls_version)
    monkeypatch.setattr(made, "sslsocket_class", _Eager)
    with StdlibServer(CHAIN, tls_version) as server, server.connect() as plain:
        plain.settimeout(timeout)
        with made.wrap_socket(plain, server_hostname="localhost") as sock:
            assert sock.gettimeout() == 5


def test_a_pinned_object_is_made_with_all_that_ssl_gives_it(tls_version: ssl.TLSVersion) -> None:
    """A new Python's object may have more: then ``PinnedObject._create`` has to give it that."""
    made = [
        context(flavour, tls_version).wrap_bio(
            ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost"
        )
        for flavour in FLAVOURS
    ]
    attributes = [set(vars(each)) - {"_pins"} for each in made]
    assert attributes[0] == attributes[1] == attributes[2]


class _NoSocket:
    """What event loops of others put in a socket's place: no socket, but like one."""

    def __init__(self, real: socket.socket) -> None:
        self._real = real

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)


class _Proxy(_NoSocket):
    """It says that it is a socket."""

    @property
    def __class__(self) -> type:  # type: ignore[override]  # it lies
        return socket.socket


@pytest.mark.parametrize("like", [_NoSocket, _Proxy])
def test_what_is_like_a_socket_is_wrapped_like_one(
    flavour: str, tls_version: ssl.TLSVersion, like: type[_NoSocket]
) -> None:
    """Its descriptor, its family and its timeout are taken over."""
    plain, theirs = socket.socketpair()
    plain.settimeout(TIMEOUT)
    number = plain.fileno()
    with theirs, wrap(flavour, tls_version, cast(socket.socket, like(plain))) as sock:
        assert sock.family == theirs.family
        assert sock.type == socket.SOCK_STREAM
        assert sock.gettimeout() == TIMEOUT
        assert sock.fileno() == number
        assert plain.fileno() == -1


def test_what_others_leave_in_the_error_queue_ends_no_write(pair: Pair, flavour: str) -> None:
    """Where a write has to wait it says so, and no more."""
    if flavour == "ssl":
        pytest.skip("its OpenSSL is another")
    ours, theirs = pair()
    ours.settimeout(0)
    while True:
        leave_an_error()
        try:
            ours.send(b"x" * 1000)
        except ssl.SSLWantWriteError:
            break
    theirs.settimeout(0)
    with contextlib.suppress(ssl.SSLWantReadError):
        while theirs.recv(65536):
            pass
    assert ours.send(b"x" * 1000) == 1000


def test_what_others_leave_in_the_error_queue_hides_no_reset(pair: Pair, flavour: str) -> None:
    """OpenSSL cannot tell which of the two it was, and so it may be called by the other's name."""
    if flavour == "ssl":
        pytest.skip("its OpenSSL is another")
    ours, theirs = pair(tcp=True)
    reset(theirs)
    leave_an_error()
    with pytest.raises(OSError, match=r"reset|no cipher match") as caught:
        ours.recv(1)
    assert not isinstance(caught.value, (ssl.SSLEOFError, ssl.SSLZeroReturnError))


def test_the_timeout_decides_whether_a_descriptor_blocks(
    flavour: str, tls_version: ssl.TLSVersion
) -> None:
    """Whatever was done to the descriptor behind the socket's back."""
    left, right = socket.socketpair()
    os.set_blocking(left.fileno(), False)
    with right, wrap(flavour, tls_version, left) as sock:
        assert sock.gettimeout() is None
        assert os.get_blocking(sock.fileno())


def test_the_look_for_clear_text_waits_for_nothing(
    tls_version: ssl.TLSVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are systems where a socket that is not connected waits for what comes."""
    timeouts: list[float | None] = []

    def looking(sock: socket.socket, size: int) -> bytes:
        timeouts.append(sock.gettimeout())
        raise OSError(errno.EINVAL, "not connected")

    monkeypatch.setattr(_socket, "_recv", looking)
    with wrap("pinned", tls_version, socket.socket()) as made:
        assert timeouts == [0]
        assert made.gettimeout() is None


def test_writing_to_a_peer_that_is_gone_is_the_error_of_the_system(
    flavour: str, pair: Pair
) -> None:
    """A ConnectionError with its errno, as ssl has it since 3.13; it was an SSLEOFError before."""
    expected: tuple[type[OSError], ...] = (ConnectionError,)
    if flavour == "ssl":
        expected += (ssl.SSLEOFError,)
    for call in ("send", "unwrap"):
        ours, theirs = pair(tcp=True)
        reset(theirs)
        method: Callable[..., object] = getattr(ours, call)
        with pytest.raises(expected) as caught:
            method(*[b"x"] * (call == "send"))
        if flavour != "ssl":
            assert caught.value.errno in (errno.EPIPE, errno.ECONNRESET)


@pytest.mark.parametrize("timeout", [None, TIMEOUT])
@pytest.mark.parametrize("how", [socket.SHUT_RD, socket.SHUT_RDWR])
def test_shutdown_ends_tls(pair: Pair, how: int, timeout: float | None) -> None:
    """After shutdown() ours has no TLS, and the mode of its timeout."""
    ours, _theirs = pair()
    ours.settimeout(timeout)
    ours.shutdown(how)
    assert ours.version() is None
    assert os.get_blocking(ours.fileno()) is (timeout is None)


def test_shutdown_of_one_direction_leaves_the_other(pair: Pair) -> None:
    """After SHUT_WR the peer sees the end, and what it sends is still read through TLS."""
    ours, theirs = pair()
    ours.shutdown(socket.SHUT_WR)
    assert socket.socket.recv(theirs, 1) == b""
    theirs.sendall(b"more")
    if type(ours) is ssl.SSLSocket:
        assert ours.version() is None  # and what it reads from here on is not authenticated
        return
    assert ours.recv(4) == b"more"
    theirs.close()
    assert ours.recv(1) == b""
    with pytest.raises((BrokenPipeError, ssl.SSLError)):
        ours.sendall(b"no more")


@pytest.mark.parametrize("timeout", [None, TIMEOUT])
def test_detach_gives_the_descriptor_away(pair: Pair, timeout: float | None) -> None:
    """The descriptor is open, in the mode of the timeout, and the socket has none."""
    ours, theirs = pair()
    ours.settimeout(timeout)
    descriptor = ours.detach()
    with socket.socket(fileno=descriptor) as plain:
        assert ours.fileno() == -1
        assert os.get_blocking(descriptor) is (timeout is None)
        plain.sendall(b"garbage that is no record")
        with pytest.raises(ssl.SSLError, match="WRONG_VERSION_NUMBER"):
            theirs.recv(1)


def test_a_closed_socket_is_closed(pair: Pair) -> None:
    """After close() every use is an OSError, and closing again is nothing."""
    ours, theirs = pair()
    ours.close()
    ours.close()
    assert theirs.recv(1) == b""
    calls: list[Callable[[], object]] = [
        lambda: ours.recv(1),
        lambda: ours.send(b"x"),
        lambda: ours.recv_into(bytearray(1)),
    ]
    for call in calls:
        with pytest.raises(OSError, match="Bad file descriptor"):
            call()
    assert ours.version() is None
    assert ours.fileno() == -1


# Connecting and accepting ------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["connect", "connect_ex"])
@pytest.mark.parametrize("on_connect", [True, False])
def test_a_socket_can_be_wrapped_before_it_is_connected(
    flavour: str, tls_version: ssl.TLSVersion, call: str, on_connect: bool
) -> None:
    """connect() connects, and shakes hands if it is to."""
    with StdlibServer(CHAIN, tls_version) as server, socket.socket() as sock:
        sock.settimeout(TIMEOUT)
        wrapped = wrap(flavour, tls_version, sock, do_handshake_on_connect=on_connect)
        with wrapped:
            assert wrapped.version() is None
            assert not getattr(wrapped, call)(server.address)
            assert (wrapped.version() is not None) is on_connect
            wrapped.sendall(b"ping")
            assert wrapped.recv(4) == b"ping"
            with pytest.raises(ValueError, match="already-connected"):
                wrapped.connect(server.address)


def test_a_connection_refused_leaves_a_socket_that_can_connect(
    flavour: str, tls_version: ssl.TLSVersion
) -> None:
    """connect() to a port where nobody listens raises what the system says."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    with socket.socket() as sock:
        sock.settimeout(TIMEOUT)
        with wrap(flavour, tls_version, sock) as wrapped, pytest.raises(ConnectionRefusedError):
            wrapped.connect(address)


def client_of(address: tuple[str, int], version: ssl.TLSVersion) -> peers.Observation:
    return peers.stdlib_client(address, context("ssl", version))


@pytest.mark.parametrize("on_connect", [True, False])
def test_a_listening_socket_accepts(
    flavour: str, tls_version: ssl.TLSVersion, on_connect: bool
) -> None:
    """What accept() returns is wrapped as the listening socket is."""
    with wrap(
        flavour,
        tls_version,
        socket.create_server(("127.0.0.1", 0)),
        server_side=True,
        do_handshake_on_connect=on_connect,
        suppress_ragged_eofs=False,
    ) as listener:
        listener.settimeout(TIMEOUT)
        client = start(client_of, listener.getsockname(), tls_version)
        accepted, address = listener.accept()
        with accepted:
            assert type(accepted) is type(listener)
            assert address[0] == "127.0.0.1"
            assert accepted.context is listener.context
            assert (accepted.version() is not None) is on_connect
            assert cast(Any, accepted).suppress_ragged_eofs is False
            accepted.settimeout(TIMEOUT)
            accepted.sendall(accepted.recv(4))
            assert accepted.recv(4) == b""
            with contextlib.suppress(OSError):
                accepted.unwrap()
        seen = client.result(TIMEOUT)
    assert seen.error is None
    assert seen.data == b"ping"


def test_accepted_sockets_have_the_pins_of_the_listening_one(tls_version: ssl.TLSVersion) -> None:
    """pins= of a listening socket are for all that it accepts, in place of the context's."""
    server = context("unpinned", tls_version, True)
    assert isinstance(server, PinnedContext)
    with server.wrap_socket(
        socket.create_server(("127.0.0.1", 0)), server_side=True, pins=WRONG
    ) as listener:
        listener.settimeout(TIMEOUT)
        for _ in range(2):
            client = start(client_of, listener.getsockname(), tls_version)
            with pytest.raises(PinMismatchError):
                listener.accept()
            # accept() has closed the socket with data unread, so that a reset may be all it sees.
            assert client.result(TIMEOUT).error is not None
            assert client.result(TIMEOUT).data == b""


# Signals -----------------------------------------------------------------------------------------


class _Signalled(BaseException):
    """Raised by a signal handler, as KeyboardInterrupt is."""


@contextlib.contextmanager
def alarm(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Have ``handler`` called by a signal, soon and again, until the block is left."""
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, SHORT, SHORT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("timeout", [None, TIMEOUT])
@pytest.mark.parametrize("operation", ["handshake", "read", "write"])
def test_a_signal_handler_can_break_a_wait(
    pair: Pair, operation: str, timeout: float | None
) -> None:
    """What the handler raises comes out of the call, and the connection can go on."""
    ours, theirs = pair(handshake=operation != "handshake")
    ours.settimeout(timeout)

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise _Signalled

    calls: dict[str, Callable[[], object]] = {
        "handshake": ours.do_handshake,
        "read": lambda: ours.recv(1),
        "write": lambda: ours.sendall(MUCH),
    }
    with pytest.raises(_Signalled), alarm(interrupt):
        calls[operation]()
    if operation == "handshake":
        shaking = start(theirs.do_handshake)
        ours.do_handshake()
        shaking.result(TIMEOUT)
    theirs.sendall(b"x")
    assert ours.recv(1) == b"x"


def test_a_signal_handler_that_returns_breaks_nothing(pair: Pair) -> None:
    """The wait goes on behind the handler (PEP 475), which may use the connection itself."""
    ours, theirs = pair()
    seen: list[int] = []

    def answer(_number: int, _frame: FrameType | None) -> None:
        seen.append(ours.pending())
        if len(seen) == 3:
            theirs.sendall(b"x")

    with alarm(answer):
        assert ours.recv(1) == b"x"
    assert len(seen) >= 3


# Threads -----------------------------------------------------------------------------------------


def talk_and_listen(sock: ssl.SSLSocket, data: bytes, size: int) -> bytes:
    """Send ``data`` and read ``size`` bytes at once, from one thread.

    ssl's own sockets are no measure for two threads: before 3.13 nothing keeps the two apart, and
    since then a reader keeps the lock while it waits inside OpenSSL.
    """
    sock.settimeout(0)
    received = bytearray()
    sent = 0
    while sent < len(data) or len(received) < size:
        moved = False
        if sent < len(data):
            with contextlib.suppress(ssl.SSLWantWriteError):
                sent += sock.send(data[sent : sent + 16384])
                moved = True
        if len(received) < size:
            with contextlib.suppress(ssl.SSLWantReadError):
                chunk = sock.recv(65536)
                assert chunk
                received += chunk
                moved = True
        if not moved:
            writing = [sock] if sent < len(data) else []
            assert any(select.select([sock], writing, [], TIMEOUT)), "nothing came"
    sock.settimeout(TIMEOUT)
    return bytes(received)


@pytest.mark.parametrize("flavour", FLAVOURS[1:], indirect=True)
@pytest.mark.parametrize("timeout", [None, TIMEOUT])
def test_one_thread_reads_while_another_writes(pair: Pair, timeout: float | None) -> None:
    """Megabytes in both directions at once, and each byte arrives in its place (rule 13)."""
    ours, theirs = pair(tcp=True)
    ours.settimeout(timeout)
    there = start(talk_and_listen, theirs, MUCH, len(MUCH))
    reading = start(read_all, ours, len(MUCH))
    ours.sendall(MUCH)
    assert reading.result(TIMEOUT) == MUCH
    assert there.result(TIMEOUT) == MUCH


@pytest.mark.parametrize("flavour", FLAVOURS[1:], indirect=True)
def test_two_writers_do_not_mix_their_records(pair: Pair) -> None:
    """Two threads send at once: each message of one record arrives whole, in its writer's order."""
    ours, theirs = pair(tcp=True)
    count, size = 300, 4000

    def write(mark: int) -> None:
        for _ in range(count):
            ours.sendall(bytes([mark]) * size)

    writers = [start(write, mark) for mark in (1, 2)]
    data = read_all(theirs, 2 * count * size)
    for writer in writers:
        writer.result(TIMEOUT)
    messages = [data[i : i + size] for i in range(0, len(data), size)]
    assert all(len(set(message)) == 1 for message in messages)
    assert data.count(1) == data.count(2) == count * size


@pytest.mark.parametrize("flavour", FLAVOURS[1:], indirect=True)
def test_a_waiting_writer_does_not_lock_out_the_reader(pair: Pair) -> None:
    """A writer that waits for room does not keep the reader from reading (rule 13)."""
    ours, theirs = pair()
    ours.settimeout(TIMEOUT)
    writing = start(ours.sendall, MUCH)
    # The peer reads nothing of it until it has got its own data through.
    answering = start(theirs.sendall, MUCH)
    assert read_all(ours, len(MUCH)) == MUCH
    answering.result(TIMEOUT)
    assert not writing.done()
    assert read_all(theirs, len(MUCH)) == MUCH
    writing.result(TIMEOUT)


class Relay:
    """Two sockets joined by hand, to hold bytes back: what one end says, byte by byte."""

    def __init__(self) -> None:
        self.ours, self._near = socket.socketpair()
        self.theirs, self._far = socket.socketpair()
        for sock in (self.ours, self._near, self.theirs, self._far):
            sock.settimeout(TIMEOUT)

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_exc: object) -> None:
        for sock in (self.ours, self._near, self.theirs, self._far):
            sock.close()

    def run(self, until: Future[None]) -> None:
        """Carry bytes in both directions until a task is done, and nothing is under way."""
        while True:
            done = until.done()
            ready, _, _ = select.select([self._near, self._far], [], [], 0 if done else 0.01)
            if done and not ready:
                return
            for sock in ready:
                other = self._far if sock is self._near else self._near
                other.sendall(sock.recv(65536))

    def from_theirs(self) -> bytes:
        """Take what the peer has said, and pass nothing on."""
        return self._far.recv(65536)

    def to_ours(self, data: bytes) -> None:
        self._near.sendall(data)

    def from_ours(self) -> bytes:
        return self._near.recv(65536)

    def to_theirs(self, data: bytes) -> None:
        self._far.sendall(data)


@pytest.mark.parametrize("timeout", [None, TIMEOUT])
@pytest.mark.parametrize("half", [False, True], ids=["nothing", "half a record"])
def test_a_waiting_reader_does_not_lock_out_the_writer(
    tls_version: ssl.TLSVersion, half: bool, timeout: float | None
) -> None:
    """Rule 13, also when the reader has got half a record and waits for the rest.

    ssl itself is not asked: its sockets block inside OpenSSL, and newer versions lock there.
    """
    with Relay() as relay, contextlib.ExitStack() as stack:
        ours = stack.enter_context(wrap("pinned", tls_version, relay.ours))
        theirs = stack.enter_context(wrap("ssl", tls_version, relay.theirs, True))

        def shake() -> None:
            shaking = start(theirs.do_handshake)
            ours.do_handshake()
            shaking.result(TIMEOUT)

        relay.run(start(shake))
        quiet(ours)
        ours.settimeout(timeout)
        theirs.sendall(b"answer")
        record = relay.from_theirs()
        if half:
            relay.to_ours(record[:9])
            record = record[9:]
        reading = start(ours.recv, 6)
        # The reader is in its wait, or comes to it while these are written: many, to meet both.
        for i in range(50):
            ours.sendall(b"%04d" % i)
            relay.to_theirs(relay.from_ours())
            assert read_all(theirs, 4) == b"%04d" % i
        assert not reading.done()
        relay.to_ours(record)
        assert reading.result(TIMEOUT) == b"answer"


def test_a_reader_of_a_socket_closed_meanwhile_ends(pair: Pair) -> None:
    """A thread in recv() when another closes: it ends with an error when the peer goes on."""
    ours, theirs = pair()
    reading = start(ours.recv, 1)
    blocked = start(ours.getpeercert)  # the lock is free: the reader waits outside it
    blocked.result(TIMEOUT)
    ours.close()
    theirs.close()
    try:
        assert reading.result(TIMEOUT) == b""
    except (OSError, ValueError):
        pass


def test_a_descriptor_that_is_somebody_elses_by_now_is_not_read(
    tls_version: ssl.TLSVersion,
) -> None:
    """A reader whose socket is closed does not take bytes from the file that got its number."""
    with Relay() as relay, contextlib.ExitStack() as stack:
        ours = stack.enter_context(wrap("pinned", tls_version, relay.ours))
        theirs = stack.enter_context(wrap("ssl", tls_version, relay.theirs, True))

        def shake() -> None:
            shaking = start(theirs.do_handshake)
            ours.do_handshake()
            shaking.result(TIMEOUT)

        relay.run(start(shake))
        quiet(ours)
        engine = ours._sslobj  # type: ignore[attr-defined]  # private
        number = ours.fileno()
        reader, writer = socket.socketpair()
        ours.close()
        with reader, writer:
            os.dup2(reader.fileno(), number)
            try:
                writer.sendall(b"for somebody else")
                for call in (
                    lambda: engine.read(1),
                    lambda: engine.write(b"x"),
                    engine.shutdown,
                ):
                    with pytest.raises(ssl.SSLError, match="Underlying socket has been closed"):
                        call()
                assert reader.recv(99) == b"for somebody else"
                writer.settimeout(0)
                with pytest.raises(BlockingIOError):
                    writer.recv(1)
            finally:
                os.close(number)


@pytest.mark.parametrize("timeout", [None, TIMEOUT])
def test_many_connections_of_one_context_in_many_threads(
    flavour: str, tls_version: ssl.TLSVersion, timeout: float | None
) -> None:
    """One context serves any number of threads at once."""
    client = context(flavour, tls_version)

    def talk(server: StdlibServer, mark: int) -> bytes:
        with server.connect() as sock:
            sock.settimeout(timeout)
            with client.wrap_socket(sock, server_hostname="localhost") as wrapped:
                wrapped.sendall(bytes([mark]) * 100)
                return read_all(wrapped, 100)

    with StdlibServer(CHAIN, tls_version) as server:
        tasks = [start(talk, server, mark) for mark in range(16)]
        for mark, task in enumerate(tasks):
            assert task.result(TIMEOUT) == bytes([mark]) * 100
