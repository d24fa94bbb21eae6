"""Attacks from within: what other code of the same program does, in innocence or not.

Libraries set things on the context that they are given, go on after an error, call from callbacks,
signal handlers and other threads.  None of that may let a peer in that the pins refuse, hand it
data, or take the process down.
"""

from __future__ import annotations

import contextlib
import functools
import getpass
import os
import select
import socket
import ssl
import struct
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption

import pinsock
from pinsock import Pin, PinError, PinMismatchError, PinnedContext, PinSet, _engine, _openssl
from pinsock._engine import Engine, SocketEngine
from pinsock._verdict import Verdict
from tests import certificates, peers
from tests.certificates import make_chain
from tests.peers import MemoryPeer, StdlibServer, shake

CHAIN = make_chain(2, pool=1)
CLIENT = make_chain(2, purpose="client", pool=2)
PIN = Pin.from_certificate(CHAIN.ders[0])
WRONG = Pin("spki", "sha256", bytes(32))
TIMEOUT = 10.0


def client(pins: object, version: ssl.TLSVersion) -> PinnedContext:
    context = PinnedContext(pins=pins)  # type: ignore[arg-type]  # anything a test comes up with
    peers.fix_version(context, version)
    CHAIN.trust(context)
    return context


# No clear text -----------------------------------------------------------------------------------

USES: list[Callable[[socket.socket], object]] = [
    lambda sock: sock.send(b"SECRET"),
    lambda sock: sock.sendall(b"SECRET"),
    lambda sock: sock.sendall(memoryview(b"SECRET")),
    lambda sock: sock.recv(1),
    lambda sock: sock.recv_into(bytearray(1)),
    lambda sock: sock.recvfrom(1),
    lambda sock: sock.recvfrom_into(bytearray(1)),
    lambda sock: sock.sendto(b"SECRET", ("127.0.0.1", 9)),
    lambda sock: sock.makefile("rb").read(1),
]


@contextlib.contextmanager
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(TIMEOUT)
        yield listener


def _refused(sock: socket.socket, address: tuple[str, int]) -> None:
    with pytest.raises(PinMismatchError):
        sock.connect(address)


@pytest.mark.parametrize("use", range(len(USES)))
def test_a_refused_connect_is_followed_by_no_clear_text(
    tls_version: ssl.TLSVersion, use: int
) -> None:
    """ssl.py drops its engine, leaves TCP open, and would send the next bytes as they are."""
    with StdlibServer(CHAIN, tls_version) as server, socket.socket() as plain:
        plain.settimeout(TIMEOUT)
        with client(WRONG, tls_version).wrap_socket(plain, server_hostname="localhost") as sock:
            _refused(sock, server.address)
            with pytest.raises(OSError, match="no clear text"):
                USES[use](sock)
        assert not server.observation().data


def test_a_file_is_not_sent_in_clear_text_either(
    tls_version: ssl.TLSVersion, tmp_path: Path
) -> None:
    """sendfile() has a way of its own."""
    (tmp_path / "secret").write_bytes(b"SECRET")
    with StdlibServer(CHAIN, tls_version) as server, socket.socket() as plain:
        plain.settimeout(TIMEOUT)
        with client(WRONG, tls_version).wrap_socket(plain, server_hostname="localhost") as sock:
            _refused(sock, server.address)
            with (tmp_path / "secret").open("rb") as file:
                with pytest.raises(OSError, match="no clear text"):
                    sock.sendfile(file)


@pytest.mark.parametrize("use", range(len(USES)))
def test_a_connection_made_behind_its_back_has_no_clear_text(use: int) -> None:
    """socket.connect() of the base class makes TCP, and no TLS."""
    with listening() as listener, socket.socket() as plain:
        context = PinnedContext(pins=WRONG)
        with context.wrap_socket(plain, server_hostname="localhost") as sock:
            socket.socket.connect(sock, listener.getsockname())
            peer, _ = listener.accept()
            with peer, pytest.raises(OSError, match="no clear text"):
                USES[use](sock)


@pytest.mark.parametrize("use", range(len(USES)))
def test_after_shutdown_there_is_no_clear_text(tls_version: ssl.TLSVersion, use: int) -> None:
    """shutdown() ends TLS, in ssl.py for the other direction too."""
    context = client(PIN, tls_version)
    with StdlibServer(CHAIN, tls_version) as server, server.connect() as plain:
        with context.wrap_socket(plain, server_hostname="localhost") as sock:
            sock.shutdown(socket.SHUT_RD)
            with pytest.raises(OSError, match="no clear text"):
                USES[use](sock)
        assert not server.observation().data


@pytest.mark.parametrize("use", range(len(USES)))
def test_what_a_forgotten_peer_has_said_is_no_clear_text(use: int) -> None:
    """After a reset TCP knows no peer any more, and still has what it said before."""
    received = threading.Event()

    def impostor(listener: socket.socket) -> None:
        peer, _ = listener.accept()
        peer.recv(65536)
        peer.sendall(b"HTTP/1.0 200 clear text of the impostor\r\n" * 9)
        received.wait(TIMEOUT)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()

    with listening() as listener, socket.socket() as plain:
        plain.settimeout(TIMEOUT)
        thread = threading.Thread(target=impostor, args=(listener,))
        thread.start()
        context = PinnedContext(pins=WRONG)
        with context.wrap_socket(plain, server_hostname="localhost") as sock:
            with pytest.raises(ssl.SSLError):
                sock.connect(listener.getsockname())
            received.set()
            thread.join()
            poll = select.poll()
            poll.register(sock, 0)
            assert poll.poll(TIMEOUT * 1000)  # of the reset
            with pytest.raises(OSError, match="no clear text"):
                USES[use](sock)


_OF_THE_BASE_CLASS: dict[str, tuple[object, ...]] = {
    "send": (b"SECRET",),
    "sendall": (bytearray(b"SECRET"),),
    "sendto": (b"SECRET", ("127.0.0.1", 9)),
    "recv": (9,),
    "recv_into": (bytearray(9),),
    "recvfrom": (9,),
    "recvfrom_into": (bytearray(9),),
}


@pytest.mark.parametrize("name", _OF_THE_BASE_CLASS)
def test_there_is_no_way_to_clear_text_behind_the_check(
    name: str, tls_version: ssl.TLSVersion
) -> None:
    """TLS that ends in another thread, after ours has looked: ssl.py looks again."""
    context = client(PIN, tls_version)
    with StdlibServer(CHAIN, tls_version) as server, server.connect() as plain:
        with context.wrap_socket(plain, server_hostname="localhost") as sock:
            sock.shutdown(socket.SHUT_RD)
            with pytest.raises(OSError, match="no clear text"):
                getattr(ssl.SSLSocket, name)(sock, *_OF_THE_BASE_CLASS[name])
        assert not server.observation().data


def test_a_peer_reset_before_the_wrap_is_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """To ssl.py such a socket is not connected yet, and comes back without a handshake."""

    def unconnected(*args: object, **kwargs: object) -> socket.socket:
        return socket.socket()

    with listening() as listener:
        monkeypatch.setattr(socket, "create_connection", unconnected)
        with pytest.raises(OSError, match="not connected"):
            pinsock.create_connection(listener.getsockname(), pins=WRONG)


@pytest.mark.skipif(not hasattr(socket, "MSG_FASTOPEN"), reason="there is no TCP Fast Open")
def test_nothing_is_sent_in_the_clear_to_connect_with(tls_version: ssl.TLSVersion) -> None:
    """What is sent first may make the connection (RFC 7413): before there is TLS."""
    with listening() as listener:
        address = listener.getsockname()
        with client(PIN, tls_version).wrap_socket(
            socket.socket(), server_hostname="localhost"
        ) as sock, pytest.raises(BrokenPipeError):
            sock.sendto(b"SECRET", socket.MSG_FASTOPEN, address)
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.skipif(
    not hasattr(socket, "TCP_FASTOPEN_CONNECT"), reason="there is no TCP Fast Open"
)
def test_nothing_is_sent_in_the_clear_by_a_connection_that_waits_for_it(
    tls_version: ssl.TLSVersion,
) -> None:
    """Likewise, connect() said nothing yet; it was not ssl's, which would have shaken hands."""
    with listening() as listener:
        with client(PIN, tls_version).wrap_socket(
            socket.socket(), server_hostname="localhost"
        ) as sock:
            sock.settimeout(TIMEOUT)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN_CONNECT, 1)
            socket.socket.connect(sock, listener.getsockname())
            with pytest.raises(OSError, match=r"no clear text|not connected|Broken pipe"):
                sock.send(b"SECRET")
        listener.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            accepted, _ = listener.accept()
            with accepted:
                accepted.settimeout(TIMEOUT)
                assert accepted.recv(9) == b""


# Classes of the user's ---------------------------------------------------------------------------


class _Socket(ssl.SSLSocket):
    """As somebody may have written one for ssl."""

    @classmethod
    def _create(cls, *arguments: object, pins: object = None, **named: object) -> ssl.SSLSocket:
        made: ssl.SSLSocket = super()._create(*arguments, **named)  # type: ignore[misc]  # private
        return made


class _Object(ssl.SSLObject):
    @classmethod
    def _create(cls, *arguments: object, pins: object = None, **named: object) -> ssl.SSLObject:
        made: ssl.SSLObject = super()._create(*arguments, **named)  # type: ignore[misc]  # private
        return made


@pytest.mark.parametrize("transport", ["bio", "socket"])
def test_pins_of_a_wrap_are_not_lost_in_a_class_that_makes_itself(
    transport: str, tls_version: ssl.TLSVersion
) -> None:
    """It would be judged by the context's pins, of which there may be none."""
    context = client(None, tls_version)
    context.sslsocket_class, context.sslobject_class = _Socket, _Object
    with StdlibServer(CHAIN, tls_version) as server, server.connect() as plain:
        wrap: Callable[..., object] = functools.partial(context.wrap_socket, plain)
        if transport == "bio":
            wrap = functools.partial(context.wrap_bio, ssl.MemoryBIO(), ssl.MemoryBIO())
        for pins in (WRONG, None):
            with pytest.raises(TypeError, match="give the pins to the context"):
                wrap(server_hostname="localhost", pins=pins)
        # Without, it is made; of the same socket, which has stayed as it was.
        made = wrap(server_hostname="localhost")
        assert isinstance(made, (_Socket, _Object))
        assert isinstance(made, (pinsock.PinnedSocket, pinsock.PinnedObject))
        if isinstance(made, ssl.SSLSocket):
            made.close()


# Coming back in the middle -----------------------------------------------------------------------


@pytest.mark.parametrize("call", ["do_handshake", "read", "write"])
def test_a_callback_that_comes_back_is_refused(
    tls_version: ssl.TLSVersion, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second OpenSSL call inside the first would crash the process."""
    real = Verdict.event
    raised: list[BaseException] = []
    ours = MemoryPeer(client(PIN, tls_version), server_hostname="localhost")
    again: dict[str, Callable[[], object]] = {
        "do_handshake": ours.obj.do_handshake,
        "read": lambda: ours.obj.read(1),
        "write": lambda: ours.obj.write(b"x"),
    }

    def coming_back(self: Verdict, depth: int, error: int, certificate: bytes) -> int:
        try:
            again[call]()
        except ssl.SSLError as problem:
            raised.append(problem)
        return real(self, depth, error, certificate)

    monkeypatch.setattr(Verdict, "event", coming_back)
    shake(ours, MemoryPeer(peers.server_context(CHAIN), server_side=True))
    assert raised
    assert all("in the middle of another operation" in str(problem) for problem in raised)
    assert ours.record.error is None
    assert ours.obj.pin_match is not None  # type: ignore[attr-defined]  # ours


@pytest.mark.parametrize("callback", ["sni_callback", "_msg_callback"])
def test_a_callback_that_closes_the_socket_has_nothing_sent(
    callback: str, tls_version: ssl.TLSVersion
) -> None:
    """The descriptor's number may be another file's when the callback returns."""
    server = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=None)
    peers.fix_version(server, tls_version)
    CHAIN.configure(server)
    opened: list[tuple[int, int]] = []

    def close(sock: ssl.SSLSocket, *what: object) -> None:
        # Behind the ClientHello, when the server has something to say.
        if opened or (callback == "_msg_callback" and what[2:4] != (22, 1)):
            return
        reading, writing = os.pipe()
        number = sock.fileno()
        sock.close()
        os.dup2(writing, number)
        os.close(writing)
        opened.append((reading, number))

    setattr(server, callback, close)
    near, far = socket.socketpair()
    ours = MemoryPeer(peers.client_context(CHAIN), server_hostname="localhost")
    ours.step()
    near.sendall(ours.outgoing.read())
    tls = server.wrap_socket(far, server_side=True, do_handshake_on_connect=False)
    with near, pytest.raises(OSError, match="Bad file descriptor"):
        tls.do_handshake()
    ((reading, number),) = opened
    os.close(number)
    with open(reading, "rb") as pipe:
        assert pipe.read() == b""


class _Interrupted(BaseException):
    """As KeyboardInterrupt, which pytest would take for itself."""


def test_what_escapes_a_callback_finds_its_connection(
    tls_version: ssl.TLSVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is raised where no ``try`` reaches is kept on the connection that it was raised for."""

    def raising(handler: object, error: BaseException) -> None:
        monkeypatch.undo()
        raise _Interrupted

    def failing(self: Verdict, depth: int, error: int, certificate: bytes) -> int:
        raise RuntimeError

    monkeypatch.setattr(_openssl, "_keep", raising)
    monkeypatch.setattr(Verdict, "event", failing)
    ours = MemoryPeer(client(PIN, tls_version), server_hostname="localhost")
    theirs = MemoryPeer(peers.server_context(CHAIN), server_side=True)
    with contextlib.suppress(ssl.SSLWantReadError):
        ours.obj.do_handshake()
    ours.flush(theirs)
    theirs.step()
    theirs.flush(ours)
    with pytest.raises(_Interrupted):
        ours.obj.do_handshake()
    with pytest.raises(PinError, match="without the check"):
        ours.obj.do_handshake()


def test_what_escapes_the_servername_callback_finds_its_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Likewise on a server."""
    server = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=None)
    CHAIN.configure(server)
    server.sni_callback = lambda *_: None

    def raising(handler: object, error: BaseException) -> None:
        monkeypatch.undo()
        raise _Interrupted

    def failing(self: object, owner: object, name: bytes | None) -> int | None:
        raise RuntimeError

    monkeypatch.setattr(_openssl, "_keep", raising)
    monkeypatch.setattr(PinnedContext, "_on_servername", failing)
    incoming = ssl.MemoryBIO()
    theirs = server.wrap_bio(incoming, ssl.MemoryBIO(), server_side=True)
    ours = MemoryPeer(peers.client_context(CHAIN), server_hostname="localhost")
    ours.step()
    incoming.write(ours.outgoing.read())
    with pytest.raises(_Interrupted):
        theirs.do_handshake()


def test_a_connection_made_while_another_compiles_does_not_hang(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A signal handler or a finalizer may wrap with the same context at any bytecode."""
    context = PinnedContext(pins=PIN)
    real = _openssl.set_modes
    inner: list[object] = []

    def nested(snapshot: object) -> None:
        monkeypatch.setattr(_openssl, "set_modes", real)
        inner.append(
            context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost")
        )
        real(snapshot)  # type: ignore[arg-type]  # the snapshot

    monkeypatch.setattr(_openssl, "set_modes", nested)
    assert context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost")
    assert inner


# Switching contexts ------------------------------------------------------------------------------

PAST = datetime.now(timezone.utc) - timedelta(days=1)
BROKEN: dict[str, object] = {
    "expired": PinSet(WRONG, expires=PAST),
    "raising": lambda name: 1 / 0,
    "rubbish": lambda name: "sha256/",
}


@pytest.mark.parametrize("pins", BROKEN)
def test_a_switch_that_failed_and_was_swallowed_is_no_unpinned_handshake(
    tls_version: ssl.TLSVersion, pins: str
) -> None:
    """The callback may catch the error and go on; the handshake does not."""
    outer = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=None)
    inner = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=BROKEN[pins])  # type: ignore[arg-type]  # wrong on purpose
    for context in (outer, inner):
        peers.fix_version(context, tls_version)
        CHAIN.configure(context)
        CLIENT.trust(context)
    caught: list[Exception] = []

    def switch(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        try:
            connection.context = inner
        except PinError as error:
            caught.append(error)

    outer.sni_callback = switch
    ours = MemoryPeer(
        peers.client_context(CHAIN, identity=CLIENT), server_hostname="localhost"
    )
    theirs = MemoryPeer(outer, server_side=True)
    seen, server = shake(ours, theirs)
    assert caught
    assert not server.handshake_completed
    assert not seen.handshake_completed
    with pytest.raises(PinError, match="without the check"):
        theirs.obj.do_handshake()


@pytest.mark.parametrize("mode", [ssl.CERT_NONE, ssl.CERT_OPTIONAL, ssl.CERT_REQUIRED])
def test_a_switch_to_a_context_without_pins_is_an_ordinary_server(
    tls_version: ssl.TLSVersion, mode: ssl.VerifyMode
) -> None:
    """Good clients get in, and bad ones do not: the callback that stays behind changes nothing."""
    outer = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=WRONG)
    inner = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=None)
    inner.verify_mode = mode
    for context in (outer, inner):
        peers.fix_version(context, tls_version)
        CHAIN.configure(context)
        CLIENT.trust(context)

    def switch(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = inner

    outer.sni_callback = switch
    stranger = make_chain(2, purpose="client", pool=3)
    for identity, good in ((CLIENT, True), (stranger, mode == ssl.CERT_NONE)):
        ours = MemoryPeer(
            peers.client_context(CHAIN, identity=identity), server_hostname="localhost"
        )
        theirs = MemoryPeer(outer, server_side=True)
        _, server = shake(ours, theirs)
        assert server.handshake_completed is good


@pytest.mark.parametrize("revoked", [False, True])
@pytest.mark.parametrize("pinned", [False, True])
def test_a_switch_brings_the_flags_of_verification_along(
    tls_version: ssl.TLSVersion, revoked: bool, pinned: bool, tmp_path: Path
) -> None:
    """A client that the new context's list of revoked certificates has is not let in."""
    pins = Pin.from_certificate(CLIENT.ders[0]) if pinned else None
    outer = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=None)
    inner = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=pins)
    inner.verify_mode = ssl.CERT_REQUIRED
    for context in (outer, inner):
        peers.fix_version(context, tls_version)
        CHAIN.configure(context)
        CLIENT.trust(context)
    crl = tmp_path / "crl.pem"
    crl.write_bytes(certificates.make_crl(CLIENT, revoked=revoked))
    inner.load_verify_locations(crl)
    inner.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF

    def switch(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = inner

    outer.sni_callback = switch
    ours = MemoryPeer(
        peers.client_context(CHAIN, identity=CLIENT), server_hostname="localhost"
    )
    theirs = MemoryPeer(outer, server_side=True)
    shake(ours, theirs)
    if revoked:
        assert isinstance(theirs.record.error, ssl.SSLCertVerificationError)
        assert "revoked" in str(theirs.record.error)
    else:
        assert theirs.record.error is None


@pytest.mark.parametrize("then", ["inner.example", "outer.example"])
def test_a_session_of_another_name_is_no_proof_to_a_server(
    tls_version: ssl.TLSVersion, then: str
) -> None:
    """Contexts that are switched between share OpenSSL's sessions, and not what they verified.

    With TLS 1.2 OpenSSL tells the callback the name that the session has, whatever the client says
    now, and so the context is the one that has verified it.
    """
    outer = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=None)
    inner = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=None)
    stranger = make_chain(2, purpose="client", pool=3)
    identities = {"outer.example": stranger, "inner.example": CLIENT}
    contexts = {"outer.example": outer, "inner.example": inner}
    for name, context in contexts.items():
        peers.fix_version(context, tls_version)
        CHAIN.configure(context)
        identities[name].trust(context)
        context.verify_mode = ssl.CERT_REQUIRED

    def switch(connection: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        assert name is not None
        connection.context = contexts[name]

    outer.sni_callback = switch
    first = ({*contexts} - {then}).pop()
    visitor = peers.client_context(CHAIN, identity=identities[first])
    visitor.check_hostname = False

    def visit(name: str, session: ssl.SSLSession | None) -> tuple[MemoryPeer, MemoryPeer]:
        ours = MemoryPeer(visitor, server_hostname=name, session=session)
        theirs = MemoryPeer(outer, server_side=True)
        shake(ours, theirs)
        return ours, theirs

    ours, theirs = visit(first, None)
    assert theirs.record.error is None
    peers.exchange(theirs, ours, b"and a ticket")
    again, theirs = visit(first, ours.obj.session)
    assert again.obj.session_reused
    assert theirs.record.error is None
    _, theirs = visit(then, ours.obj.session)
    if tls_version == ssl.TLSVersion.TLSv1_2:
        assert theirs.obj.context is contexts[first]
    else:
        assert isinstance(theirs.record.error, PinError)
        assert "without the check" in str(theirs.record.error)


SWITCH = """
import gc, os, ssl
from pinsock import PinnedContext
from tests import peers
from tests.certificates import make_chain

chain = make_chain(2, pool=1)
outer, inner = (PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=None) for _ in range(2))
for context in (outer, inner):
    peers.fix_version(context, ssl.TLSVersion.TLSv1_2)
    chain.configure(context)
inner.keylog_filename = os.devnull
outer.sni_callback = lambda connection, _name, _context: setattr(connection, "context", inner)
theirs = peers.MemoryPeer(outer, server_side=True)
ours = peers.MemoryPeer(peers.client_context(chain), server_hostname="localhost")
for peer, other in ((ours, theirs), (theirs, ours)):
    peer.step()
    peer.flush(other)
# In the middle of the handshake: what was compiled before is compiled anew, and let go of.
inner.keylog_filename = None
inner.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
gc.collect()
peers.shake(ours, theirs)
print(theirs.record.error, theirs.obj.version())
"""


def test_the_callbacks_of_a_context_switched_to_outlive_its_settings() -> None:
    """OpenSSL calls them to the end of the handshake, or would crash.  (It would: a process.)"""
    ran = subprocess.run(
        [sys.executable, "-c", SWITCH], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ran.returncode, ran.stdout) == (0, "None TLSv1.2\n"), ran.stderr


@pytest.mark.parametrize("pins", [None, PIN], ids=["unpinned", "pinned"])
def test_a_refused_connection_is_not_saved_by_another_context(
    tls_version: ssl.TLSVersion, pins: Pin | None
) -> None:
    """It stays refused, and says why as often as it is asked."""
    ours = MemoryPeer(client(WRONG, tls_version), server_hostname="localhost")
    shake(ours, MemoryPeer(peers.server_context(CHAIN), server_side=True))
    assert isinstance(ours.record.error, PinMismatchError)
    ours.obj.context = client(pins, tls_version)
    for _ in range(2):
        with pytest.raises(PinMismatchError):
            ours.obj.do_handshake()


def test_a_client_with_a_session_does_not_switch(tls_version: ssl.TLSVersion) -> None:
    """What the first context has verified is no word of the second one's."""
    first, second = client(PIN, tls_version), client(PIN, tls_version)
    first.check_hostname = False
    session = _session(first, "elsewhere.example")
    ours = MemoryPeer(first, server_hostname="elsewhere.example", session=session)
    ours.obj.context = first  # as it was
    with pytest.raises(ValueError, match="different SSLContext"):
        ours.obj.context = second
    shake(ours, MemoryPeer(peers.server_context(CHAIN), server_side=True))
    assert isinstance(ours.record.error, PinError)


def test_a_refusal_is_asked_for_at_every_turn(tls_version: ssl.TLSVersion) -> None:
    """Whatever set it, and wherever OpenSSL is by then: no event is accepted, and no end."""
    ours = MemoryPeer(client(PIN, tls_version), server_hostname="localhost")
    engine = ours.obj._sslobj  # type: ignore[attr-defined]  # to do what a switch would
    engine._begin()
    engine._refusal = type(engine)._unchecked
    assert engine.on_verify(0, 0, CHAIN.ders[0]) == 28
    with pytest.raises(PinError, match="without the check"):
        engine._conclude()


# Sessions and snapshots --------------------------------------------------------------------------


def _session(context: PinnedContext, name: str) -> ssl.SSLSession | None:
    ours = MemoryPeer(context, server_hostname=name)
    shake(ours, MemoryPeer(peers.server_context(CHAIN), server_side=True))
    assert ours.record.error is None
    return ours.obj.session


def test_a_session_stands_for_what_was_checked(tls_version: ssl.TLSVersion) -> None:
    """One that began without the host name check does not resume with it."""
    context = client(PIN, tls_version)
    context.check_hostname = False
    session = _session(context, "elsewhere.example")
    context.check_hostname = True
    with pytest.raises(ValueError, match="check_hostname"):
        MemoryPeer(context, server_hostname="elsewhere.example", session=session)


def test_a_session_does_not_stand_for_what_the_context_says_later(
    tls_version: ssl.TLSVersion,
) -> None:
    """It is what was checked that counts, not what would be checked when the session is asked for.

    The session of a connection that began without the host name check is asked for when the
    context has been told to make it.
    """
    context = client(PIN, tls_version)
    context.check_hostname = False
    ours = MemoryPeer(context, server_hostname="elsewhere.example")
    shake(ours, MemoryPeer(peers.server_context(CHAIN), server_side=True))
    assert ours.record.error is None
    context.check_hostname = True
    with pytest.raises(ValueError, match="check_hostname"):
        MemoryPeer(context, server_hostname="elsewhere.example", session=ours.obj.session)


def test_a_resumed_handshake_is_held_against_the_pins_once_more(
    tls_version: ssl.TLSVersion,
) -> None:
    """However a session came to be offered, its pins have to be the connection's."""
    context = client(PIN, tls_version)
    with StdlibServer(CHAIN, tls_version) as server:
        with server.connect() as plain, context.wrap_socket(
            plain, server_hostname="localhost"
        ) as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
            session = sock.session
        with server.connect() as plain, context.wrap_socket(
            plain, server_hostname="localhost", session=session, do_handshake_on_connect=False  # type: ignore[arg-type]  # ours
        ) as sock:
            engine = sock._sslobj
            assert engine is not None
            engine._begin()
            engine._pins = PinSet(WRONG)  # as a race between threads might have it
            with pytest.raises(PinError, match="without the check"):
                sock.do_handshake()
            assert sock.pin_match is None


def test_a_snapshot_is_filed_under_what_it_was_compiled_from(
    monkeypatch: pytest.MonkeyPatch, tls_version: ssl.TLSVersion
) -> None:
    """A setting that changes while a thread compiles, and back again, does not stick."""
    context = PinnedContext(pins=lambda name: None)
    peers.fix_version(context, tls_version)
    real = _openssl.set_modes

    def weaken(snapshot: object) -> None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        real(snapshot)  # type: ignore[arg-type]  # the snapshot

    monkeypatch.setattr(_openssl, "set_modes", weaken)
    context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost")
    monkeypatch.undo()
    context.verify_mode = ssl.CERT_REQUIRED
    context.check_hostname = True
    ours = MemoryPeer(context, server_hostname="localhost")
    shake(ours, MemoryPeer(peers.server_context(CHAIN), server_side=True))
    assert isinstance(ours.record.error, ssl.SSLCertVerificationError)


def test_what_was_compiled_of_earlier_settings_is_not_kept(
    monkeypatch: pytest.MonkeyPatch, tls_version: ssl.TLSVersion
) -> None:
    """A signal handler that wraps a socket of other settings in the middle of a wrap is served."""
    context = client(PIN, tls_version)
    real, made = _openssl.set_modes, []

    def interrupted(snapshot: object) -> None:
        if not made:
            made.append(snapshot)
            context.options |= ssl.OP_NO_TICKET
            made.append(context._snapshot(pinned=True))
        real(snapshot)  # type: ignore[arg-type]  # the snapshot

    monkeypatch.setattr(_openssl, "set_modes", interrupted)
    earlier = context._snapshot(pinned=True)
    first, inner = made
    assert earlier is first
    assert context._snapshot(pinned=True) is inner


# Descriptors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["shutdown", "detach", "close", "refused"])
def test_an_engine_lets_go_of_its_descriptor(tls_version: ssl.TLSVersion, end: str) -> None:
    """Its number may belong to another connection in a moment: a reader must not touch that."""
    good = end != "refused"
    context = client(PIN if good else WRONG, tls_version)
    with StdlibServer(CHAIN, tls_version) as server, socket.socket() as plain:
        plain.settimeout(TIMEOUT)
        sock = context.wrap_socket(plain, server_hostname="localhost")
        if good:
            sock.connect(server.address)
        else:
            _refused(sock, server.address)
        engine = sock._tls
        assert engine is not None
        if end == "shutdown":
            sock.shutdown(socket.SHUT_RDWR)
        elif end == "detach":
            socket.close(sock.detach())
        else:
            sock.close()
        for call in (lambda: engine.read(1), lambda: engine.write(b"x")):
            with pytest.raises(ssl.SSLError, match=r"closed|does not match"):
                call()
        sock.close()


def test_a_refused_flight_is_read_to_its_end() -> None:
    """What is left unread would make TCP reset the connection, and the reset overtake the alert."""
    version = ssl.TLSVersion.TLSv1_2  # where the flight is several records
    theirs = MemoryPeer(peers.server_context(CHAIN, version), server_side=True)
    left, right = socket.socketpair()
    with right:
        left.settimeout(TIMEOUT)
        with client(WRONG, version).wrap_socket(
            left, server_hostname="localhost", do_handshake_on_connect=False
        ) as sock:
            sock.settimeout(0)
            with pytest.raises(ssl.SSLWantReadError):
                sock.do_handshake()
            theirs.incoming.write(right.recv(65536))
            theirs.step()
            right.sendall(theirs.outgoing.read())
            with pytest.raises(PinMismatchError):
                sock.do_handshake()
            with socket.socket(fileno=os.dup(sock.fileno())) as raw:
                raw.setblocking(False)
                with pytest.raises(BlockingIOError):
                    raw.recv(1)
            theirs.incoming.write(right.recv(65536))
            theirs.step()
            assert theirs.observation.alert == "bad_certificate"


def test_the_end_of_a_handshake_is_not_the_end_of_a_conversation(
    tls_version: ssl.TLSVersion,
) -> None:
    """A peer that goes away in the middle is an error, and afterwards no orderly end of data."""
    left, right = socket.socketpair()
    with client(PIN, tls_version).wrap_socket(
        left, server_hostname="localhost", do_handshake_on_connect=False
    ) as sock:
        sock.settimeout(0)
        with pytest.raises(ssl.SSLWantReadError):
            sock.do_handshake()
        assert right.recv(65536)
        right.close()
        with pytest.raises(ssl.SSLEOFError):
            sock.do_handshake()
        for _ in range(2):
            with pytest.raises(ssl.SSLError, match="this connection is over"):
                sock.recv(1)


@pytest.mark.parametrize("wrong", ["options", "tickets", "name", "mode", "session"])
def test_what_cannot_be_wrapped_stays_the_callers(wrong: str) -> None:
    """An error of the wrap leaves the socket as it was: open, and in the hands of the caller."""
    context = PinnedContext(ssl.PROTOCOL_TLS_CLIENT, pins=PIN)
    if wrong == "options":
        context.options &= ~ssl.OP_NO_COMPRESSION
    elif wrong == "tickets":
        context = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=PIN)
        context.num_tickets = 5
    elif wrong == "mode":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    left, right = socket.socketpair()
    with left, right:
        with pytest.raises((NotImplementedError, TypeError, ValueError)):
            context.wrap_socket(
                left,
                session="junk" if wrong == "session" else None,  # type: ignore[arg-type]  # wrong on purpose
                server_side=wrong == "tickets",
                server_hostname=None if wrong == "tickets" else "." if wrong == "name" else "a.b",
            )
        # For a wrong name ssl takes it away, and so do we.
        assert (left.fileno() >= 0) == (wrong != "name")
        if wrong == "name":
            right.settimeout(TIMEOUT)
            assert right.recv(1) == b""


@pytest.mark.parametrize("where", ["bio_write", "bio_drain"])
def test_a_greeting_in_pieces_can_be_interrupted_by_a_close(
    where: str, tls_version: ssl.TLSVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal handler may close the socket while bytes are moved: what moves them has to stay."""
    server = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=None)
    peers.fix_version(server, tls_version)
    CHAIN.configure(server)
    ours = MemoryPeer(peers.client_context(CHAIN), server_hostname="localhost")
    ours.step()
    hello = ours.outgoing.read()
    left, right = socket.socketpair()
    with left, server.wrap_socket(
        right, server_side=True, do_handshake_on_connect=False
    ) as sock:
        sock.settimeout(0)
        left.sendall(hello[:60])
        with pytest.raises(ssl.SSLWantReadError):
            sock.do_handshake()
        left.sendall(hello[60:])
        real: Callable[..., object] = getattr(_engine, where)
        number = sock.fileno()
        reading, writing = os.pipe()
        os.set_blocking(reading, False)

        def closing(*arguments: object) -> object:
            sock.close()
            os.dup2(writing, number)
            return real(*arguments)

        monkeypatch.setattr(_engine, where, closing)
        with pytest.raises(OSError, match="Bad file descriptor"):
            sock.do_handshake()
        with pytest.raises(BlockingIOError):
            os.read(reading, 1)
        for each in (reading, writing, number):
            os.close(each)
        left.settimeout(TIMEOUT)
        assert left.recv(1) == b""


def test_a_socket_closed_while_it_is_made_has_nothing_sent(tls_version: ssl.TLSVersion) -> None:
    """By another thread, that has it from a method of the user's class."""

    class Closed(pinsock.PinnedSocket):
        def _took(self, engine: SocketEngine) -> None:
            self.close()
            super()._took(engine)

    context = client(PIN, tls_version)
    context.sslsocket_class = Closed
    left, right = socket.socketpair()
    number = left.fileno()
    with right:
        with pytest.raises(ssl.SSLError, match="has been closed"):
            context.wrap_socket(left, server_hostname="localhost")
        right.settimeout(TIMEOUT)
        assert right.recv(1) == b""
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


def test_a_socket_that_could_not_be_made_goes_in_any_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What holds the engine may live longer than the socket: a frame of a traceback, for one."""

    def refuse(_engine: Engine, name: str) -> None:
        raise ValueError(f"{name!r} is not a host name that OpenSSL can check")

    monkeypatch.setattr(Engine, "_set_name", refuse)
    context = PinnedContext(ssl.PROTOCOL_TLS_CLIENT, pins=PIN)
    left, right = socket.socketpair()
    with right:
        with pytest.raises(ValueError, match="not a host name") as caught:
            context.wrap_socket(left, server_hostname="a.b", do_handshake_on_connect=False)
        traceback.clear_frames(caught.value.__traceback__)
        right.settimeout(TIMEOUT)
        assert right.recv(1) == b""


@pytest.mark.parametrize("transport", ["bio", "socket"])
def test_connections_can_be_listed_while_another_thread_makes_one(
    transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that is half made is none yet."""
    context = PinnedContext(ssl.PROTOCOL_TLS_CLIENT, pins=PIN)
    real = Engine.unlock
    listed: list[object] = []

    def unlock(engine: Engine) -> None:
        listed.append(context.connections())
        real(engine)

    monkeypatch.setattr(Engine, "unlock", unlock)
    if transport == "bio":
        context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost")
    else:
        left, right = socket.socketpair()
        with right, context.wrap_socket(
            left, server_hostname="localhost", do_handshake_on_connect=False
        ):
            pass
    assert listed == [[]]


# What comes from the peer ------------------------------------------------------------------------


def test_pem_inside_a_certificate_is_not_read() -> None:
    """An impostor's leaf may carry the pinned one as text: the report shows the impostor's pin."""
    inside = certificates.pem(CHAIN.leaf)
    extension = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), inside)
    impostor = make_chain(2, extensions={0: [(extension, False)]}, pool=4)
    assert str(Pin.from_certificate(impostor.ders[0])) == certificates.spki_pin(impostor.leaf)
    context = PinnedContext(pins=PIN)
    impostor.trust(context)
    ours = MemoryPeer(context, server_hostname="localhost")
    shake(ours, MemoryPeer(peers.server_context(impostor), server_side=True))
    assert isinstance(ours.record.error, PinMismatchError)
    assert ours.record.error.positions[0].pin == certificates.spki_pin(impostor.leaf)


# Settings that were lost -------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:ssl.PROTOCOL_TLSv1_2 is deprecated")
def test_a_protocol_of_one_version_is_that_version() -> None:
    """PROTOCOL_TLSv1_2 says so in its name, and not in minimum_version."""
    context = PinnedContext(ssl.PROTOCOL_TLSv1_2, pins=PIN)
    CHAIN.trust(context)
    ours = MemoryPeer(context, server_hostname="localhost")
    shake(ours, MemoryPeer(peers.server_context(CHAIN), server_side=True))
    assert ours.record.error is None
    assert ours.obj.version() == "TLSv1.2"


def test_the_lowest_version_may_be_said_to_be_one_that_is_gone() -> None:
    """ssl takes SSLv3 as a minimum, and there is none lower than what there is."""
    context = PinnedContext(pins=PIN)
    with pytest.warns(DeprecationWarning, match="SSLv3"):
        context.minimum_version = ssl.TLSVersion.SSLv3
    CHAIN.trust(context)
    ours = MemoryPeer(context, server_hostname="localhost")
    shake(ours, MemoryPeer(peers.server_context(CHAIN), server_side=True))
    assert ours.obj.version() == "TLSv1.3"


def test_an_encrypted_key_asks_the_terminal_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a password; what is typed serves both readers of the key."""
    key = CHAIN.keys[0]
    path = tmp_path / "key.pem"
    path.write_bytes(
        key.private_bytes(
            certificates.Encoding.PEM,
            certificates.PrivateFormat.PKCS8,
            BestAvailableEncryption(b"secret"),
        )
        + certificates.pem(CHAIN.leaf)
    )
    asked: list[str] = []

    def answer(prompt: str) -> str:
        asked.append(prompt)
        return "secret"

    monkeypatch.setattr(getpass, "getpass", answer)
    PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=None).load_cert_chain(path)
    assert len(asked) == 1


@pytest.mark.parametrize("memory", [True, False])
def test_certificates_can_be_presented(memory: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a file in memory, for which no disk has to be writable; or by a temporary one."""
    if memory:
        monkeypatch.setattr("tempfile.tempdir", "/nonexistent")
    else:
        monkeypatch.delattr(os, "memfd_create", raising=False)
    server = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=None)
    monkeypatch.setattr("tempfile.tempdir", None)
    CHAIN.configure(server)
    if memory:
        monkeypatch.setattr("tempfile.tempdir", "/nonexistent")
    ours = MemoryPeer(client(PIN, ssl.TLSVersion.TLSv1_3), server_hostname="localhost")
    shake(ours, MemoryPeer(server, server_side=True))
    assert ours.record.error is None


def test_create_connection_takes_no_plain_context() -> None:
    """It says so before it connects."""
    plain = ssl.create_default_context()
    with pytest.raises(TypeError, match="PinnedContext"):
        pinsock.create_connection(("127.0.0.1", 9), pins=PIN, context=plain)  # type: ignore[arg-type]  # wrong on purpose


def test_the_end_of_pins_is_the_end_of_their_day() -> None:
    """A date is good to its last second in UTC."""
    assert not PinSet(PIN, expires=date(2031, 5, 1)).expired(
        datetime(2031, 5, 1, 23, 59, 59, tzinfo=timezone.utc)
    )


def test_an_unpinned_server_loads_no_authorities() -> None:
    """As with ssl: without pins it asks its clients for nothing."""
    context = pinsock.create_default_context(ssl.Purpose.CLIENT_AUTH, pins=None)
    assert context.verify_mode == ssl.CERT_NONE
    assert context.get_ca_certs() == []


# Descriptors that belong to somebody else ---------------------------------------------------------


def _both(version: ssl.TLSVersion) -> tuple[PinnedContext, PinnedContext]:
    """Contexts of a server and a client, without pins: there are callbacks, and keys."""
    server, near = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=None), PinnedContext(pins=None)
    CHAIN.configure(server)
    CHAIN.trust(near)
    for context in (server, near):
        peers.fix_version(context, version)
    return server, near


def _at_the_second_name(
    close: Callable[[object], None],
) -> tuple[PinnedContext, PinnedContext, bool]:
    server, near = _both(ssl.TLSVersion.TLSv1_3)
    server.set_ecdh_curve("secp384r1")  # of which clients send no share: they have to begin again
    asked: list[str | None] = []

    def on_servername(sock: object, name: str | None, _context: object) -> None:
        asked.append(name)
        if len(asked) == 2:
            close(sock)

    server.sni_callback = on_servername
    return server, near, True


def _at_a_key(
    server_side: bool, close: Callable[[object], None], sockets: list[object]
) -> tuple[PinnedContext, PinnedContext, bool]:
    server, near = _both(ssl.TLSVersion.TLSv1_2)
    near.check_hostname = False
    for context in (server, near):
        context.set_ciphers("PSK")

    def of_the_client(_hint: str | None) -> tuple[str, bytes]:
        if not server_side:
            close(sockets[0])
        return "me", b"key"

    def of_the_server(_identity: str | None) -> bytes:
        if server_side:
            close(sockets[0])
        return b"key"

    near.set_psk_client_callback(of_the_client)
    server.set_psk_server_callback(of_the_server)
    return server, near, server_side


def _at_a_message(
    server_side: bool,
    close: Callable[[object], None],
    version: ssl.TLSVersion,
    awaited: tuple[str, int],
) -> tuple[PinnedContext, PinnedContext, bool]:
    server, near = _both(version)

    def on_message(sock: object, direction: str, _version: int, *what: object) -> None:
        if (direction, what[0]) == awaited:
            close(sock)

    (server if server_side else near)._msg_callback = on_message
    return server, near, server_side


@pytest.mark.parametrize(
    "at",
    [
        *("second name", "server's key", "client's key"),
        *(
            f"{side}'s {direction} of {kind}, TLS 1.{n}"
            for side in ("server", "client")
            for direction in ("read", "write")
            for kind in (22, 256)  # handshake messages, and the headers of records
            for n in (2, 3)
        ),
    ],
)
def test_what_a_callback_has_closed_is_written_to_no_more(at: str, tmp_path: Path) -> None:
    """The number of its descriptor is another file's at once; OpenSSL has yet to say its alert."""
    sockets: list[object] = []
    closed: list[int] = []
    with (tmp_path / "file").open("w+b") as file:

        def close(sock: object) -> None:
            if not closed:
                assert isinstance(sock, socket.socket)
                closed.append(sock.fileno())
                sock.close()
                os.dup2(file.fileno(), closed[0])

        if at == "second name":
            server, near, server_side = _at_the_second_name(close)
        elif at.endswith("key"):
            server, near, server_side = _at_a_key(at.startswith("server"), close, sockets)
        else:
            version = ssl.TLSVersion.TLSv1_2 if at.endswith("2") else ssl.TLSVersion.TLSv1_3
            _, direction, _, kind, *_ = at.replace(",", "").split()
            awaited = direction, int(kind)
            server, near, server_side = _at_a_message(
                at.startswith("server"), close, version, awaited
            )
        with listening() as listener:
            left = socket.create_connection(listener.getsockname(), TIMEOUT)
            right, _ = listener.accept()
            right.settimeout(TIMEOUT)
            theirs = server.wrap_socket(right, server_side=True, do_handshake_on_connect=False)
            ours = near.wrap_socket(
                left, server_hostname="localhost", do_handshake_on_connect=False
            )
            sockets.append(theirs if server_side else ours)
            with theirs, ours:
                other, that = (ours, theirs) if server_side else (theirs, ours)

                def shake_hands() -> None:
                    with contextlib.suppress(OSError):
                        other.do_handshake()

                thread = threading.Thread(target=shake_hands)
                thread.start()
                with pytest.raises(OSError, match="Bad file descriptor"):
                    that.do_handshake()
                thread.join()
        assert closed
        os.close(closed[0])
        assert not file.read()


def test_an_engine_does_not_outlive_its_socket(tls_version: ssl.TLSVersion, tmp_path: Path) -> None:
    """A socket left to the garbage collector closes its descriptor, and tells nobody."""
    with StdlibServer(CHAIN, tls_version) as server:
        plain = server.connect()
        sock = client(PIN, tls_version).wrap_socket(plain, server_hostname="localhost")
        engine, number = sock._sslobj, sock.fileno()
        assert engine is not None
        with (tmp_path / "file").open("w+b") as file:
            with pytest.warns(ResourceWarning):
                del sock
            os.dup2(file.fileno(), number)
            with pytest.raises(ssl.SSLError, match="Underlying socket"):
                engine.write(b"data")
            os.close(number)
            assert not file.read()
