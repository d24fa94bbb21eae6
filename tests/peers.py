"""The other side of a connection: what it saw, as independent testimony.

The peers here are the standard library's, so that what is said of the client under test comes from
a TLS implementation that knows nothing of it.  (They take any ``ssl.SSLContext``, though: the one
under test as well, when it is a server.)

* :class:`StdlibServer`: an echo server in threads, on a real socket.
* :func:`stdlib_client`: one connection to a server, on a real socket.
* :class:`MemoryPeer` and :func:`shake`: two peers joined in memory, in one thread, always the same.
* :class:`SocketPeer`: the same as a :class:`MemoryPeer`, on a socket that never waits.
* :func:`converse`: a client context and a server context over either transport.

Each comes to an :class:`Observation`.

How a message is seen at all: OpenSSL calls its message callback with each message in clear text,
sent or received, also when the handshake then fails.  CPython has it as the private
``SSLContext._msg_callback``, which has to be set before a connection is made.  It is called after
decryption, so a client certificate is seen on TLS 1.3 too, where no one on the wire could see it.
"""

from __future__ import annotations

import contextlib
import itertools
import queue
import select
import socket
import ssl
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, NamedTuple, Union, cast

from tests.certificates import Chain

__all__ = [
    "Conversation",
    "MemoryPeer",
    "Message",
    "Observation",
    "SocketPeer",
    "StdlibServer",
    "Transport",
    "client_context",
    "converse",
    "exchange",
    "first_certificate",
    "fix_version",
    "server_context",
    "shake",
    "stdlib_client",
]

Connection = Union[ssl.SSLSocket, ssl.SSLObject]
Inspect = Callable[[Connection], object]
Transport = Literal["socket", "bio"]

#: Seconds for any single operation of a peer.  Reached only if something is broken.
TIMEOUT = 10.0

# Content types (RFC 8446 section 5.1) and the handshake messages of interest (section 4).
_ALERT, _HANDSHAKE = 21, 22
_CERTIFICATE, _FINISHED = 11, 20
# Alerts that say goodbye rather than no (RFC 8446 section 6.1).
_CLOSE_NOTIFY, _USER_CANCELED = 0, 90


class Message(NamedTuple):
    """A TLS message in clear text."""

    direction: str  # "read" or "write"
    version: int
    content_type: int
    data: bytes

    @property
    def type(self) -> int | None:
        """The number of a handshake message, or of an alert."""
        if self.content_type == _HANDSHAKE and self.data:
            return self.data[0]
        if self.content_type == _ALERT and len(self.data) == 2:
            return self.data[1]
        return None

    def is_handshake(self, number: int) -> bool:
        return self.content_type == _HANDSHAKE and self.type == number


def _take(data: bytes, size: int) -> tuple[bytes, bytes]:
    """Cut off a vector with a length of ``size`` bytes (RFC 8446 section 3.4)."""
    end = size + int.from_bytes(data[:size], "big")
    if end > len(data):
        raise ValueError("a vector that goes beyond its message")
    return data[size:end], data[end:]


def first_certificate(message: Message) -> bytes | None:
    """The leaf in a Certificate message; None if the message says that there is none."""
    body = message.data[4:]
    if message.version >= ssl.TLSVersion.TLSv1_3:
        _request_context, body = _take(body, 1)
    certificates, _rest = _take(body, 3)
    return _take(certificates, 3)[0] if certificates else None


@dataclass(frozen=True)
class Observation:
    """What one side saw of a connection, and of the peer."""

    #: This side's handshake came to its end.
    handshake_completed: bool
    #: What it ended with, or what came afterwards; None if all went well.
    error: Exception | None
    #: All messages, if they could be recorded; None if not.
    messages: tuple[Message, ...] | None
    #: The peer's leaf, DER: as it arrived in a message, so also of a handshake that failed.
    peer_certificate: bytes | None
    #: The application data received.
    data: bytes = b""
    #: Of the TLS protocol, as ``SSLSocket.version()`` says it.
    version: str | None = None
    #: What ``inspect`` returned, after the handshake.
    inspected: object = None

    @property
    def client_certificate(self) -> bytes | None:
        """What a server calls its peer's certificate."""
        return self.peer_certificate

    @property
    def reason(self) -> str | None:
        """OpenSSL's name for the error, like ``"SSLV3_ALERT_BAD_CERTIFICATE"``."""
        return getattr(self.error, "reason", None)

    def _recorded(self) -> tuple[Message, ...]:
        if self.messages is None:
            raise LookupError("this context is not the standard library's: no messages")
        return self.messages

    def handshake_messages(self, direction: Literal["read", "write"]) -> tuple[int, ...]:
        """Return the numbers of the handshake messages sent or received (RFC 8446 section 4).

        Raises:
            LookupError: they could not be recorded; to say "none" would be to vouch for it.
        """
        return tuple(
            message.data[0]
            for message in self._recorded()
            if message.direction == direction and message.content_type == _HANDSHAKE
        )

    def _alert(self, direction: Literal["read", "write"]) -> str | None:
        for message in self._recorded():
            if message.direction == direction and message.content_type == _ALERT:
                number = message.type
                if number not in (None, _CLOSE_NOTIFY, _USER_CANCELED):
                    # Not all alerts are known to every ssl: certificate_required (116) is not.
                    with contextlib.suppress(ValueError):
                        name = ssl.AlertDescription(number).name
                        return name.removeprefix("ALERT_DESCRIPTION_").lower()
                    return {116: "certificate_required"}.get(number or 0, str(number))
        return None

    @property
    def alert(self) -> str | None:
        """The alert with which the peer refused, named as in RFC 8446: ``"bad_certificate"``."""
        if self.messages is not None:
            return self._alert("read")
        # "SSLV3_ALERT_BAD_CERTIFICATE", "TLSV1_ALERT_UNKNOWN_CA", "TLSV13_ALERT_..."
        _, found, name = (self.reason or "").partition("_ALERT_")
        return name.lower() if found else None

    @property
    def alert_sent(self) -> str | None:
        """The alert with which this side refused; see :attr:`alert`.

        Raises:
            LookupError: the messages could not be recorded.
        """
        return self._alert("write")

    @property
    def peer_finished(self) -> bool:
        """The peer's Finished arrived.

        Raises:
            LookupError: the messages could not be recorded.
        """
        return _FINISHED in self.handshake_messages("read")

    @property
    def peer_gave_nothing(self) -> bool:
        """Neither a Certificate message (nor an empty one), nor Finished, nor data ever came.

        Raises:
            LookupError: the messages could not be recorded.
        """
        given = {_CERTIFICATE, _FINISHED} & set(self.handshake_messages("read"))
        return not given and not self.data and self.peer_certificate is None


# Recording ---------------------------------------------------------------------------------------

_taps: weakref.WeakKeyDictionary[Connection, list[Message]] = weakref.WeakKeyDictionary()
_taps_lock = threading.Lock()


def _on_message(
    connection: Connection | None,
    direction: str,
    version: int,
    content_type: int,
    _message_type: int,
    data: bytes,
) -> None:
    # Handshake messages and alerts only: "headers" and "inner content types" are OpenSSL's own.
    if connection is not None and int(content_type) in (_ALERT, _HANDSHAKE):
        with _taps_lock:
            tap = _taps.get(connection)
        if tap is not None:
            tap.append(Message(direction, int(version), int(content_type), bytes(data)))


def _watch(context: ssl.SSLContext) -> None:
    """Have the connections that ``context`` makes from now on call back for each message."""
    if type(context) is ssl.SSLContext:
        # One callback for all: there is one only, and many tests have one context for both sides.
        context._msg_callback = _on_message  # type: ignore[attr-defined]  # private: not in typeshed


def _tap(connection: Connection) -> list[Message] | None:
    """Record what passes through ``connection`` from now on; None if that is not possible."""
    if type(connection.context) is not ssl.SSLContext:
        return None  # subclasses have the attribute, but need not call what is in it
    messages: list[Message] = []
    with _taps_lock:
        _taps[connection] = messages
    return messages


class _Record:
    """An observation in the making."""

    def __init__(self, connection: Connection, inspect: Inspect | None) -> None:
        self._connection = connection
        self._inspect = inspect
        self._messages = _tap(connection)
        self._inspected: object = None
        self._certificate: bytes | None = None
        self._version: str | None = None
        self.completed = False
        self.error: Exception | None = None
        self.data = bytearray()

    def complete(self) -> None:
        """Call when the handshake is over."""
        self.completed = True
        # What the connection itself says; it can speak for implementations without messages.
        self._certificate = self._connection.getpeercert(True)
        self._version = self._connection.version()
        if self._inspect is not None:
            self._inspected = self._inspect(self._connection)

    def observation(self) -> Observation:
        messages = None if self._messages is None else tuple(self._messages)
        certificate = self._certificate
        for message in messages or ():
            if message.direction == "read" and message.is_handshake(_CERTIFICATE):
                certificate = first_certificate(message)
                break
        return Observation(
            handshake_completed=self.completed,
            error=self.error,
            messages=messages,
            peer_certificate=certificate,
            data=bytes(self.data),
            version=self._version,
            inspected=self._inspected,
        )


# Contexts ----------------------------------------------------------------------------------------


def fix_version(context: ssl.SSLContext, version: ssl.TLSVersion) -> None:
    """Have ``context`` speak this version and no other."""
    # Never let the minimum pass the maximum, not even for a moment.
    context.maximum_version = ssl.TLSVersion.MAXIMUM_SUPPORTED
    context.minimum_version = version
    context.maximum_version = version


def server_context(
    chain: Chain,
    version: ssl.TLSVersion | None = None,
    *,
    client_ca: Chain | None = None,
    verify_mode: ssl.VerifyMode | None = None,
    include_root: bool = False,
) -> ssl.SSLContext:
    """Make a server's context of the standard library.

    Args:
        chain: what it presents.
        version: the one version it speaks; by default any.
        client_ca: the root whose clients it knows.
        verify_mode: whether it asks for client certificates; by default ``CERT_REQUIRED`` if
            ``client_ca`` is given, and ``CERT_NONE`` if not.
        include_root: send the root too.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if version is not None:
        fix_version(context, version)
    chain.configure(context, include_root)
    if client_ca is not None:
        client_ca.trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    if verify_mode is not None:
        context.verify_mode = verify_mode
    return context


def client_context(
    trusted: Chain | None = None,
    version: ssl.TLSVersion | None = None,
    *,
    identity: Chain | None = None,
) -> ssl.SSLContext:
    """Make a client's context of the standard library.

    Args:
        trusted: the root it trusts; by default it verifies nothing.
        version: the one version it speaks; by default any.
        identity: the certificate it presents, if asked.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if version is not None:
        fix_version(context, version)
    if trusted is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        trusted.trust(context)
    if identity is not None:
        identity.configure(context)
    return context


# Sockets -----------------------------------------------------------------------------------------


class StdlibServer:
    """An echo server on loopback, that tells what it saw of each client.

    Use it as a context manager.  Each connection has a thread of its own; on the way out all are
    ended and joined, whatever they are doing.

    Args:
        identity: its context; or a chain, and one is made of that (:func:`server_context`).
        version, client_ca, verify_mode, include_root: for :func:`server_context`.
        inspect: called with each connection after its handshake; what it returns is in the
            observation.
        timeout: seconds for each single operation.
    """

    def __init__(
        self,
        identity: Chain | ssl.SSLContext,
        version: ssl.TLSVersion | None = None,
        *,
        client_ca: Chain | None = None,
        verify_mode: ssl.VerifyMode | None = None,
        include_root: bool = False,
        inspect: Inspect | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        if isinstance(identity, ssl.SSLContext):
            if version is not None or client_ca or verify_mode is not None or include_root:
                raise TypeError("these arguments are for a context that is made here")
            self.context = identity
        else:
            self.context = server_context(
                identity,
                version,
                client_ca=client_ca,
                verify_mode=verify_mode,
                include_root=include_root,
            )
        _watch(self.context)
        self._inspect = inspect
        self._timeout = timeout
        self._observations: queue.Queue[Observation] = queue.Queue()
        self._lock = threading.Lock()
        self._closing = False
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._wake, self._waker = socket.socketpair()
        self.address: tuple[str, int] = self._listener.getsockname()
        self.port = self.address[1]

    def __enter__(self) -> StdlibServer:
        self._start(self._accept)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._lock:
            self._closing = True
            for sock in self._open:
                _wake(sock)
        self._waker.send(b"x")
        # The first one starts the others, and none after it has ended.
        self._threads[0].join(2 * self._timeout)
        for thread in self._threads:
            thread.join(2 * self._timeout)
        for sock in (self._listener, self._wake, self._waker):
            sock.close()
        alive = [thread for thread in self._threads if thread.is_alive()]
        if alive and exc is None:
            raise RuntimeError(f"the server still has {len(alive)} threads")

    def observation(self, timeout: float = 5.0) -> Observation:
        """Wait for the next connection that ends, and return what was seen of it.

        Raises:
            TimeoutError: none ended within ``timeout`` seconds.
        """
        try:
            return self._observations.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError(f"no connection ended within {timeout} seconds") from None

    def connect(self) -> socket.socket:
        """Return a TCP connection to the server, with a timeout, and no TLS yet."""
        return _connect(self.address, self._timeout)

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            ready, _, _ = select.select([self._listener, self._wake], [], [])
            if self._wake in ready:
                return
            # One that has gone again before it was accepted is nobody's failure.
            with contextlib.suppress(ConnectionError):
                sock, _ = self._listener.accept()
                sock.settimeout(self._timeout)
                self._start(self._serve, sock)

    @contextlib.contextmanager
    def _opened(self, sock: socket.socket) -> Iterator[None]:
        """Have ``sock`` shut down when the server is closed, and close it at the end."""
        with self._lock:
            self._open.add(sock)
            if self._closing:
                _wake(sock)
        try:
            yield
        finally:
            with self._lock:
                self._open.discard(sock)
                sock.close()

    def _serve(self, sock: socket.socket) -> None:
        try:
            with self._opened(sock):
                _no_delay(sock)
                # Wait for the client's first byte: if the client is gone before wrap_socket, that
                # raises, and leaves the socket open and out of reach (CPython 3.10 to 3.12).
                sock.recv(1, socket.MSG_PEEK)
                connection = self.context.wrap_socket(
                    sock, server_side=True, do_handshake_on_connect=False
                )
        except Exception as error:
            self._observations.put(Observation(False, error, None, None))
            return
        with self._opened(connection):
            record = _Record(connection, self._inspect)
            try:
                connection.do_handshake()
                record.complete()
                while received := connection.recv(65536):
                    record.data += received
                    connection.sendall(received)
            except Exception as error:
                record.error = error
            self._observations.put(record.observation())
            with contextlib.suppress(OSError, ValueError):
                if record.error is None:
                    connection.unwrap()
                else:
                    _linger(connection)


def _no_delay(sock: socket.socket) -> None:
    """Send small records at once.

    Finished and the first data are two writes without a read between them: the second would wait
    for the acknowledgement of the first, which the other kernel delays by 40 ms.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _connect(address: tuple[str, int], timeout: float) -> socket.socket:
    sock = socket.create_connection(address, timeout)
    _no_delay(sock)
    return sock


def _wake(sock: socket.socket) -> None:
    """End whatever another thread does with ``sock``; that thread does the closing."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)  # of TCP: TLS is the other thread's


def _linger(connection: ssl.SSLSocket) -> None:
    """Wait until the peer closes.

    To close with data unread resets the connection, and the reset can overtake the alert that says
    what was wrong.
    """
    socket.socket.shutdown(connection, socket.SHUT_WR)
    while socket.socket.recv(connection, 65536):
        pass


def stdlib_client(
    address: tuple[str, int],
    context: ssl.SSLContext,
    *,
    server_hostname: str | None = "localhost",
    payload: bytes = b"ping",
    session: ssl.SSLSession | None = None,
    inspect: Inspect | None = None,
    timeout: float = TIMEOUT,
) -> Observation:
    """Connect, send ``payload``, read as much back, say goodbye, and tell what was seen.

    The reading is not for the echo alone: with TLS 1.3 a client's handshake is over before the
    server has seen its certificate, and a refusal arrives at the first read.
    """
    _watch(context)
    with _connect(address, timeout) as sock:
        with context.wrap_socket(
            sock,
            server_hostname=server_hostname,
            do_handshake_on_connect=False,
            session=session,
        ) as connection:
            record = _Record(connection, inspect)
            try:
                connection.do_handshake()
                record.complete()
                # A server that has refused need not wait for this; what it said is still there.
                with contextlib.suppress(ConnectionError):
                    connection.sendall(payload)
                while len(record.data) < len(payload):
                    received = connection.recv(65536)
                    if not received:
                        raise EOFError("the server closed the connection before its echo")
                    record.data += received
            except Exception as error:
                record.error = error
            else:
                with contextlib.suppress(OSError, ValueError):
                    connection.unwrap()
            return record.observation()


# Memory ------------------------------------------------------------------------------------------


class MemoryPeer:
    """One side of a connection in memory: an SSLObject between two BIOs.

    Args:
        context: whose ``wrap_bio`` makes the object.
        server_side, server_hostname, session, options: for ``wrap_bio``.
        inspect: called with the object after its handshake.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        session: ssl.SSLSession | None = None,
        inspect: Inspect | None = None,
        **options: Any,
    ) -> None:
        _watch(context)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.obj = context.wrap_bio(
            self.incoming,
            self.outgoing,
            server_side=server_side,
            server_hostname=server_hostname,
            session=session,
            **options,
        )
        #: Every byte that was sent to the other side.
        self.sent = bytearray()
        self.record = _Record(self.obj, inspect)
        self._ended = False

    @property
    def settled(self) -> bool:
        """The handshake is over, in one way or the other."""
        return self.record.completed or self.record.error is not None

    @property
    def observation(self) -> Observation:
        """What this side has seen by now."""
        return self.record.observation()

    def step(self) -> None:
        """Go on with the handshake as far as the bytes at hand allow."""
        try:
            self.obj.do_handshake()
            self.record.complete()
        except ssl.SSLWantReadError:
            pass
        except Exception as error:
            self.record.error = error

    def read(self) -> bytes:
        """Read what there is; keep the error if there is one instead."""
        received = bytearray()
        try:
            while chunk := self.obj.read(65536):
                received += chunk
        except ssl.SSLWantReadError:
            pass
        except Exception as error:
            self.record.error = error
        self.record.data += received
        return bytes(received)

    def flush(self, other: MemoryPeer) -> int:
        """Carry what this side has written to the other, and return the number of bytes."""
        data = self.outgoing.read()
        self.sent += data
        if data:
            other.incoming.write(data)
        return len(data)

    def end(self, other: MemoryPeer) -> None:
        """Carry what is left to the other side, and the end of the stream behind it."""
        if not self._ended:
            self._ended = True
            self.flush(other)
            other.incoming.write_eof()


class SocketPeer(MemoryPeer):
    """One side of a connection on a socket that never waits; its :attr:`far` end is the test's.

    Use it as a context manager.

    Args:
        context: whose ``wrap_socket`` makes the socket.
        inspect: called with the socket after its handshake.
        options: for ``wrap_socket``.
    """

    def __init__(
        self, context: ssl.SSLContext, *, inspect: Inspect | None = None, **options: Any
    ) -> None:
        _watch(context)
        near, self.far = socket.socketpair()
        for each in (near, self.far):
            each.setblocking(False)
        try:
            sock = context.wrap_socket(
                near, do_handshake_on_connect=False, suppress_ragged_eofs=False, **options
            )
        except BaseException:
            near.close()
            self.far.close()
            raise
        self.obj = cast(ssl.SSLObject, sock)  # as far as a peer uses it
        self.record = _Record(sock, inspect)

    def __enter__(self) -> SocketPeer:
        return self

    def __exit__(self, *_: object) -> None:
        for each in (cast(ssl.SSLSocket, self.obj), self.far):
            each.close()


def shake(client: MemoryPeer, server: MemoryPeer) -> tuple[Observation, Observation]:
    """Run a handshake to its end on both sides, and return what client and server saw.

    A side that fails has its alert delivered, and then the end of the stream.  A side that has
    completed reads once more: with TLS 1.3 a client hears only then that it was refused.

    Raises:
        RuntimeError: it stalled: both sides wait for bytes, and there are none.
    """
    for _ in range(100):  # a handshake takes 3 rounds; more than this is a loop without end
        moved = 0
        for peer, other in ((client, server), (server, client)):
            if not peer.settled:
                peer.step()
                moved += peer.settled
            moved += peer.flush(other)
            if peer.record.error is not None:
                peer.end(other)
        if not moved:
            break
    if not (client.settled and server.settled):
        raise RuntimeError("the handshake stalled")
    for peer, other in ((client, server), (server, client)):
        if peer.record.error is None:
            peer.read()
            peer.flush(other)
    return client.observation, server.observation


def exchange(sender: MemoryPeer, receiver: MemoryPeer, data: bytes) -> bytes:
    """Send application data over a connection that has been shaken, and return what arrived."""
    if data:  # OpenSSL makes a record of nothing, too
        sender.obj.write(data)
    sender.flush(receiver)
    return receiver.read()


# Either ------------------------------------------------------------------------------------------


class Conversation(NamedTuple):
    """What the two sides of one connection saw."""

    client: Observation
    server: Observation


def converse(
    transport: Transport,
    client: ssl.SSLContext,
    server: ssl.SSLContext,
    *,
    server_hostname: str | None = "localhost",
    payload: bytes = b"ping",
    session: ssl.SSLSession | None = None,
    inspect: Inspect | None = None,
) -> Conversation:
    """Connect two contexts, echo ``payload`` if they will have each other, and tell what they saw.

    Args:
        transport: ``"socket"`` (a thread serves) or ``"bio"``.
        session: what the client offers to resume.
        inspect: called with the connection, on both sides.
    """
    if transport == "socket":
        with StdlibServer(server, inspect=inspect) as listening:
            seen = stdlib_client(
                listening.address,
                client,
                server_hostname=server_hostname,
                payload=payload,
                session=session,
                inspect=inspect,
            )
            return Conversation(seen, listening.observation())
    ours = MemoryPeer(
        client, server_hostname=server_hostname, session=session, inspect=inspect
    )
    theirs = MemoryPeer(server, server_side=True, inspect=inspect)
    shake(ours, theirs)
    if ours.record.error is None and theirs.record.error is None:
        exchange(theirs, ours, exchange(ours, theirs, payload))
        exchange(ours, theirs, b"")  # a certificate, if it was asked for with the echo
    return Conversation(ours.observation, theirs.observation)


# Time --------------------------------------------------------------------------------------------


class Clock:
    """Stands for the time module; each look at it takes a second."""

    def __init__(self) -> None:
        self._seconds = itertools.count(1000)

    def monotonic(self) -> float:
        """Look."""
        return float(next(self._seconds))
