"""Who is compared: four ways to have a TLS connection, behind one small interface.

A :class:`Link` holds the contender's own bound methods, with nothing in between that would be
measured too.  Every contender makes its context as its users would, with the same trust store and
TLS version.  One difference cannot be helped: pyOpenSSL has no public way to check the host name,
so bare pyOpenSSL does not.
"""

from __future__ import annotations

import functools
import json
import select
import socket
import ssl
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import NamedTuple, TypeVar, cast

from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL
from OpenSSL._util import lib

import pinsock
from tests.benchmarks.server import NO, REQUEST, RESUMED, TLS_VERSIONS, YES, HasOptions

__all__ = ["CONTENDERS", "HOST", "BareOpenSSL", "Contender", "Link", "Target", "resumed"]

HOST = "localhost"
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Target:
    """The server, and how to connect to it.

    Attributes:
        port: its port on 127.0.0.1.
        version: ``"1.2"`` or ``"1.3"``.
        cafile: the path of the root certificate, PEM.
        certfile: the path of the chain below it, PEM: the server's, and its clients' if they need
            one.
        keyfile: the path of that chain's key, PEM.
        pins: the texts of the pins, by position.
        timeout: of every socket, in seconds; None blocks.
        same_group: have every contender use P-256 for the key exchange, and offer nothing else.
    """

    port: int
    version: str
    cafile: str
    certfile: str
    keyfile: str
    pins: dict[str, list[str]]
    timeout: float | None = None
    same_group: bool = False

    def dump(self) -> str:
        """Write it down for a child process."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> Target:
        """Read what ``dump`` wrote."""
        return cls(**json.loads(text))

    def connect(self) -> socket.socket:
        """Make a TCP connection to the server."""
        sock = socket.create_connection(("127.0.0.1", self.port), self.timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock


class Link(NamedTuple):
    """A connection whose handshake is done."""

    recv: Callable[[int], bytes]
    recv_into: Callable[[bytearray], int]
    sendall: Callable[[bytes], object]
    close: Callable[[], object]
    session: Callable[[], object]
    cipher: Callable[[], str]
    socket: HasOptions


def resumed(link: Link) -> bool:
    """Ask the server whether the link's handshake was a resumed one.

    The answer comes behind the session tickets of TLS 1.3 (RFC 8446 section 4.6.1), which so are
    read as well.
    """
    link.sendall(REQUEST.pack(RESUMED, 0))
    answer = link.recv(1)
    if answer not in (YES, NO):
        raise ConnectionError(f"the server answered {answer!r}")
    return answer == YES


class Contender(ABC):
    """A library, used in one way."""

    name: str

    def __init__(self, target: Target) -> None:
        self.target = target

    @abstractmethod
    def new_context(self, cafile: str | None = None) -> object:
        """Make a context up to the first connection that could be made from it.

        That far, as it may be only then that the settings are carried over to OpenSSL.

        Args:
            cafile: whom to trust; the system's store if left out.
        """

    @abstractmethod
    def wrap(self, sock: socket.socket, session: object = None) -> Link:
        """Shake hands, with a context that is made once."""

    def ssl_context(self) -> ssl.SSLContext | None:
        """Return the context that asyncio takes; None if it takes none."""
        return None

    def server_context(self, *, mutual: bool) -> ssl.SSLContext:
        """Make a context for a server.

        Args:
            mutual: its clients need a certificate.
        """
        raise NotImplementedError

    def connect(self, session: object = None) -> Link:
        """Connect and shake hands."""
        return self.wrap(self.target.connect(), session)


class _SSL(Contender):
    """Whatever makes an ``ssl.SSLContext``."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._context = self._set(self._make(target.cafile))

    def _make(
        self, cafile: str | None, purpose: ssl.Purpose = ssl.Purpose.SERVER_AUTH
    ) -> ssl.SSLContext:
        raise NotImplementedError

    def _set(self, context: ssl.SSLContext) -> ssl.SSLContext:
        version = TLS_VERSIONS[self.target.version]
        context.minimum_version = context.maximum_version = version
        if self.target.same_group:
            context.set_ecdh_curve("prime256v1")
        return context

    def new_context(self, cafile: str | None = None) -> object:
        context = self._make(cafile)
        context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=HOST)
        return context

    def ssl_context(self) -> ssl.SSLContext:
        return self._context

    def server_context(self, *, mutual: bool) -> ssl.SSLContext:
        cafile = self.target.cafile if mutual else None
        context = self._set(self._make(cafile, ssl.Purpose.CLIENT_AUTH))
        context.load_cert_chain(self.target.certfile, self.target.keyfile)
        if mutual:
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def wrap(self, sock: socket.socket, session: object = None) -> Link:
        wrapped = self._context.wrap_socket(
            sock, server_hostname=HOST, session=cast("ssl.SSLSession | None", session)
        )
        return Link(
            wrapped.recv,
            wrapped.recv_into,
            wrapped.sendall,
            wrapped.close,
            lambda: wrapped.session,
            lambda: str(wrapped.cipher()),
            wrapped,
        )


class Stdlib(_SSL):
    """The standard library: what all others are compared with."""

    name = "ssl"

    def _make(
        self, cafile: str | None, purpose: ssl.Purpose = ssl.Purpose.SERVER_AUTH
    ) -> ssl.SSLContext:
        return ssl.create_default_context(purpose, cafile=cafile)


class Unpinned(_SSL):
    """pinsock without pins: the engine alone."""

    name = "pins=None"

    def _make(
        self, cafile: str | None, purpose: ssl.Purpose = ssl.Purpose.SERVER_AUTH
    ) -> ssl.SSLContext:
        return pinsock.create_default_context(purpose, pins=None, cafile=cafile)


class Pinned(_SSL):
    """pinsock with pins at three positions."""

    name = "pinned"

    def _make(
        self, cafile: str | None, purpose: ssl.Purpose = ssl.Purpose.SERVER_AUTH
    ) -> ssl.SSLContext:
        pins = pinsock.PinSet(self.target.pins)
        return pinsock.create_default_context(purpose, pins=pins, cafile=cafile)


class PyOpenSSL(Contender):
    """pyOpenSSL alone, on the socket's descriptor."""

    name = "pyOpenSSL"

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._context = self._make(target.cafile)
        version = TLS_VERSIONS[target.version]
        self._context.set_min_proto_version(version)
        self._context.set_max_proto_version(version)
        if target.same_group:
            self._context.set_tmp_ecdh(ec.SECP256R1())

    def _make(self, cafile: str | None) -> SSL.Context:
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_verify(SSL.VERIFY_PEER)
        if cafile is None:
            context.set_default_verify_paths()
        else:
            context.load_verify_locations(cafile)
        return context

    def new_context(self, cafile: str | None = None) -> object:
        context = self._make(cafile)
        SSL.Connection(context, None)
        return context

    def wrap(self, sock: socket.socket, session: object = None) -> Link:
        connection = SSL.Connection(self._context, sock)
        connection.set_connect_state()
        connection.set_tlsext_host_name(HOST.encode("ascii"))
        if session is not None:
            connection.set_session(cast(SSL.Session, session))
        waiting = None if self.target.timeout is None else _Waiting(connection, sock)
        if waiting is None:
            connection.do_handshake()
        else:
            waiting.retry(connection.do_handshake)

        def close() -> None:
            # Else OpenSSL takes the connection for a broken one, and its session is of no use any
            # more (SSL_get1_session(3), "NOTES"); ssl keeps copies of sessions instead.
            connection.set_shutdown(SSL.SENT_SHUTDOWN)
            connection.close()

        return Link(
            waiting.recv if waiting else connection.recv,
            waiting.recv_into if waiting else connection.recv_into,
            waiting.sendall if waiting else connection.sendall,
            close,
            connection.get_session,
            lambda: str(
                (
                    connection.get_cipher_name(),
                    connection.get_cipher_version(),
                    connection.get_cipher_bits(),
                )
            ),
            sock,
        )


class _Waiting:
    """What every user of pyOpenSSL has to write for sockets that have a timeout."""

    def __init__(self, connection: SSL.Connection, sock: socket.socket) -> None:
        self._connection = connection
        self._socket = sock

    def retry(self, call: Callable[[], _Result]) -> _Result:
        timeout = self._socket.gettimeout()
        deadline = time.monotonic() + (timeout or 0)
        while True:
            try:
                return call()
            except SSL.WantReadError:
                event = select.POLLIN
            except SSL.WantWriteError:
                event = select.POLLOUT
            poll = select.poll()
            poll.register(self._socket, event)
            if not poll.poll(max(0, deadline - time.monotonic()) * 1000):
                raise TimeoutError

    def recv(self, size: int) -> bytes:
        return self.retry(lambda: self._connection.recv(size))

    def recv_into(self, buffer: bytearray) -> int:
        return self.retry(lambda: self._connection.recv_into(buffer))

    def sendall(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self.retry(functools.partial(self._connection.send, rest)) :]


class BareOpenSSL:
    """A client's handshake by nothing but the calls of OpenSSL that it cannot do without.

    It is the floor of a pinsock context: the context's own compiled settings, so that the same is
    sent, and the chain and the host name are checked; but no verify callback, no ``poll`` (OpenSSL
    waits), no socket object, no Python between the calls.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        assert isinstance(context, pinsock.PinnedContext)
        self._context = context
        self.follow()

    def follow(self) -> None:
        """Take over the settings of the context's next connection."""
        self._snapshot = self._context._prepare(None, False, HOST)

    def handshake(self, sock: socket.socket) -> None:
        """Shake hands on a blocking socket, and close it."""
        host = HOST.encode("ascii")
        pointer = lib.SSL_new(self._snapshot._context)
        lib.SSL_set_fd(pointer, sock.fileno())
        lib.SSL_set_connect_state(pointer)
        lib.SSL_set_tlsext_host_name(pointer, host)
        lib.X509_VERIFY_PARAM_set1_host(lib.SSL_get0_param(pointer), host, len(host))
        result = lib.SSL_do_handshake(pointer)
        lib.SSL_free(pointer)
        sock.close()
        if result != 1:
            raise ConnectionError("the handshake failed")


CONTENDERS: dict[str, type[Contender]] = {
    kind.name: kind for kind in (Stdlib, Unpinned, Pinned, PyOpenSSL)
}
