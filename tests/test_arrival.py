"""The beginning of a server's connection on a socket: the engine reads the ClientHello itself.

Everything here is done to a server of the standard library too: what it says is what ours has to
say.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pinsock import PinnedContext, PinSet, _engine
from tests import certificates, peers
from tests.certificates import make_chain

CHAIN = make_chain(2, pool=7)
CLIENT = make_chain(2, purpose="client", pool=5)
# Callbacks are called in the middle of what OpenSSL does.
FLAVOURS = ("ssl", "unpinned", "pinned", "called back")
TIMEOUT = 10.0

Connected = Callable[[], tuple[socket.socket, socket.socket]]


@pytest.fixture(params=FLAVOURS)
def context(request: pytest.FixtureRequest) -> ssl.SSLContext:
    """A server's context of each flavour."""
    if request.param == "ssl":
        return peers.server_context(CHAIN)
    pins = PinSet({"leaf": certificates.spki_pin(CLIENT.leaf)})
    made = PinnedContext(
        ssl.PROTOCOL_TLS_SERVER, pins=pins if request.param == "pinned" else None
    )
    CHAIN.configure(made)
    CLIENT.trust(made)
    if request.param == "called back":
        made._msg_callback = lambda *_: None
    return made


@pytest.fixture
def connected() -> Iterator[Connected]:
    """Make a pair of connected sockets."""
    with contextlib.ExitStack() as stack:

        def make() -> tuple[socket.socket, socket.socket]:
            with socket.create_server(("127.0.0.1", 0)) as listening:
                near = stack.enter_context(socket.create_connection(listening.getsockname()))
                far = stack.enter_context(listening.accept()[0])
            for sock in (near, far):
                sock.settimeout(TIMEOUT)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return near, far

        yield make


class Client:
    """A client in memory, whose bytes a test carries as it likes."""

    def __init__(self, version: ssl.TLSVersion) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = peers.client_context(CHAIN, version, identity=CLIENT)
        self.obj = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    def step(self) -> bytes:
        """Go on, and return what there is to send."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.obj.do_handshake()
        return self.outgoing.read()


def accept(context: ssl.SSLContext, sock: socket.socket, *, wait: bool = False) -> ssl.SSLSocket:
    return context.wrap_socket(sock, server_side=True, do_handshake_on_connect=wait)


def greet(near: socket.socket, server: ssl.SSLSocket, hello: bytes, *, in_pieces: bool) -> None:
    """Send a greeting to a server that does not wait; in pieces it is moved, and not left there."""
    if in_pieces:
        near.sendall(hello[:9])
        with pytest.raises(ssl.SSLWantReadError):
            server.do_handshake()
        hello = hello[9:]
    near.sendall(hello)


@pytest.mark.parametrize("step", [1, 2, 4, 7, 100])
def test_the_clients_greeting_may_come_in_pieces(
    context: ssl.SSLContext, connected: Connected, step: int, tls_version: ssl.TLSVersion
) -> None:
    """However it is cut, the handshake goes on, and nothing waits for what is there already."""
    near, far = connected()
    client = Client(tls_version)
    with accept(context, far) as server:
        server.settimeout(0)
        hello = client.step()
        for start in range(0, len(hello), step):
            with pytest.raises(ssl.SSLWantReadError):
                server.do_handshake()
            near.sendall(hello[start : start + step])
            assert select.select([server], [], [], TIMEOUT)[0]
        with pytest.raises(ssl.SSLWantReadError):
            server.do_handshake()
        server.settimeout(TIMEOUT)
        thread = threading.Thread(target=server.do_handshake)
        thread.start()
        while data := near.recv(65536):
            client.incoming.write(data)
            near.sendall(client.step())
            if client.obj.version():
                break
        thread.join()
        shared = server.shared_ciphers()
        assert shared
        offered = {cipher["name"] for cipher in client.obj.context.get_ciphers()}
        assert {name for name, _version, _bits in shared} <= offered
        assert server.cipher() in shared


def test_a_socket_closed_before_the_look_is_not_looked_at(
    connected: Connected, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By another thread, between the wait and the look."""
    made = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=None)
    CHAIN.configure(made)
    _, far = connected()
    server = accept(made, far)
    monkeypatch.setattr(
        _engine.SocketEngine, "_await_answer", lambda _engine, _what: server.close()
    )
    with pytest.raises(OSError, match="Bad file descriptor"):
        server.do_handshake()  # as ssl.py goes on to look at its timeout


@pytest.mark.parametrize("timeout", [TIMEOUT, 0])
def test_a_reset_before_the_greeting_is_a_reset(
    context: ssl.SSLContext, connected: Connected, timeout: float
) -> None:
    """A look at what has come takes the error of a socket with it: it is told once."""
    near, far = connected()
    with accept(context, far) as server:
        server.settimeout(timeout)
        near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        near.close()
        assert select.select([server], [], [], TIMEOUT)[0]
        with pytest.raises(ConnectionResetError):
            server.do_handshake()


@pytest.mark.parametrize("length", [0, 3, 5, 50])
def test_a_greeting_cut_short_is_an_end_of_file(
    context: ssl.SSLContext, connected: Connected, length: int, tls_version: ssl.TLSVersion
) -> None:
    """A client that goes away in the middle of it is told of as ssl does."""
    near, far = connected()
    near.sendall(Client(tls_version).step()[:length])
    near.shutdown(socket.SHUT_WR)
    with accept(context, far) as server, pytest.raises(ssl.SSLEOFError) as caught:
        server.do_handshake()
    assert caught.value.errno == ssl.SSL_ERROR_EOF
    assert server.shared_ciphers() is None


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.0\r\n\r\n", "HTTP_REQUEST"),
        (b"\0" * 100, "WRONG_VERSION_NUMBER"),
        (b"\x16\x03\x01\0\x04\x02\0\0\0", None),  # a ServerHello
        (b"\x17\x03\x03\0\x05hello", None),
    ],
)
@pytest.mark.parametrize("gone", [False, True])
def test_what_is_no_greeting_is_an_error(
    context: ssl.SSLContext, connected: Connected, data: bytes, reason: str | None, gone: bool
) -> None:
    """It is OpenSSL's, also if its alert finds nobody there any more."""
    near, far = connected()
    near.sendall(data)
    if gone:
        near.close()
    with accept(context, far) as server, pytest.raises(ssl.SSLError) as caught:
        server.do_handshake()
    assert caught.value.reason == reason or reason is None
    assert caught.value.reason


def test_a_client_that_is_gone_is_an_error_of_the_connection(
    context: ssl.SSLContext, tls_version: ssl.TLSVersion
) -> None:
    """It has said its greeting, and then nobody is there to hear the answer."""
    near, far = socket.socketpair()
    near.sendall(Client(tls_version).step())
    near.close()
    with accept(context, far) as server, pytest.raises(
        (ConnectionError, ssl.SSLEOFError)
    ):
        server.do_handshake()


@pytest.mark.parametrize("moved", [False, True], ids=["looked at", "moved"])
def test_an_answer_that_does_not_fit_waits_for_room(
    moved: bool, tls_version: ssl.TLSVersion, tmp_path: Path
) -> None:
    """A long chain, a small buffer and a slow reader: nothing of the answer is lost."""
    near, far = socket.socketpair()
    far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # as little as there can be
    context = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=None)
    long = tmp_path / "long.pem"
    long.write_bytes(CHAIN.sent_pem(appended=[CHAIN.root] * 40))
    context.load_cert_chain(long)
    client = Client(tls_version)
    with near, accept(context, far) as server:
        server.settimeout(0)
        greet(near, server, client.step(), in_pieces=moved)
        with pytest.raises(ssl.SSLWantWriteError):
            server.do_handshake()
        server.settimeout(TIMEOUT)
        thread = threading.Thread(target=server.do_handshake)
        thread.start()
        while not client.obj.version():
            client.incoming.write(near.recv(100))
            near.sendall(client.step())
        thread.join()
        assert server.version() == client.obj.version()


@pytest.mark.parametrize("moved", [False, True])
def test_a_client_that_goes_behind_its_greeting_is_gone(
    moved: bool, context: ssl.SSLContext, tls_version: ssl.TLSVersion
) -> None:
    """There is nobody to be answered."""
    near, far = socket.socketpair()
    with near, accept(context, far) as server:
        server.settimeout(0)
        greet(near, server, Client(tls_version).step(), in_pieces=moved)
        near.close()
        with pytest.raises(BrokenPipeError):
            server.do_handshake()


def test_a_timeout_holds_before_the_greeting(
    context: ssl.SSLContext, connected: Connected
) -> None:
    """A client that says nothing, or stops in the middle, does not hold a server for ever."""
    for greeting in (b"", b"\x16\x03"):
        near, far = connected()
        near.sendall(greeting)
        with accept(context, far) as server:
            server.settimeout(0.05)
            with pytest.raises(TimeoutError, match="handshake operation timed out"):
                server.do_handshake()


def test_a_timeout_holds_in_a_greeting_of_many_pieces(
    connected: Connected, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that has a record for each octet, and never lets a server wait, takes no longer."""
    monkeypatch.setattr(_engine, "time", peers.Clock())
    near, far = connected()
    server = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=None)
    greeting = b"\1\1\0\0" + bytes(9000)
    records = b"".join(b"\x16\3\1\0\1" + greeting[i : i + 1] for i in range(len(greeting)))
    near.sendall(records)
    with accept(server, far) as tls:
        tls.settimeout(5)
        with pytest.raises(TimeoutError, match="handshake operation timed out"):
            tls.do_handshake()
        assert socket.socket.recv(tls, 1)  # and has not read all of it


def test_records_of_nothing_do_not_hold_a_server(
    context: ssl.SSLContext, connected: Connected
) -> None:
    """A client that sends them without end is refused, and no timeout is passed over."""
    near, far = connected()

    def flood() -> None:
        with contextlib.suppress(OSError):
            while True:
                near.sendall(b"\x16\3\1\0\0" * 1000)

    thread = threading.Thread(target=flood)
    thread.start()
    # The socket has to be closed for the flood to end, and a hanging server would not get there.
    rescue = threading.Timer(TIMEOUT, near.shutdown, (socket.SHUT_RDWR,))
    rescue.start()
    try:
        with accept(context, far) as server, pytest.raises(OSError, match=r"(?i)record|timed out"):
            server.do_handshake()
        assert rescue.is_alive()
    finally:
        rescue.cancel()
        far.close()
        thread.join()
        rescue.join()


def test_an_alert_to_nobody_hides_no_error(
    context: ssl.SSLContext, connected: Connected
) -> None:
    """A client that has gone cannot be told what was wrong; the caller is told all the same."""
    near, far = connected()
    near.sendall(b"\x16\3\1\0\5\2\0\0\1x")  # a ServerHello: not a server's to read
    near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with accept(context, far) as server:
        # What is in the socket is read before the reset is.
        near.close()
        with pytest.raises(OSError) as caught:  # noqa: PT011  # ssl before 3.13 says other things
            server.do_handshake()
    if isinstance(context, PinnedContext):
        assert isinstance(caught.value, (ssl.SSLError, ConnectionError))
