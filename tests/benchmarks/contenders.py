"""Who is compared: five ways to have a TLS connection, behind one small interface.

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
from OpenSSL._util import ffi, lib

import pinsock
from tests.benchmarks.server import NO, REQUEST, RESUMED, TLS_VERSIONS, YES, HasOptions

__all__ = [
    "CONTENDERS",
    "HOST",
    "Bare",
    "Contender",
    "Link",
    "NotMeasuredError",
    "Target",
    "resumed",
]

HOST = "localhost"
_Result = TypeVar("_Result")
_MUCH = 1 << 20  # bytes: what the bare one receives, and moves between BIOs, at a time and at most


class NotMeasuredError(Exception):
    """This contender cannot do what is to be measured."""


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


class Bare(Contender):
    """OpenSSL's calls through the bindings, and nothing around them that can be left out.

    It is the floor of what is written in Python: no verify callback, no ``poll`` (OpenSSL waits),
    no lock, no state, no error that says what is wrong.  The settings are a pinsock context's own
    compiled ones, so that the same is sent, and the chain and the host name are checked.  As a
    server, and with asyncio, it sits in the standard library's socket or object.
    """

    name = "bare"

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        unpinned = Unpinned(target)
        unpinned.connect().close()  # it knows the server then
        made = unpinned.ssl_context()
        assert isinstance(made, pinsock.PinnedContext)
        self.take(made)

    @classmethod
    def of(cls, context: ssl.SSLContext) -> Bare:
        """One with the settings of somebody else's context; it does nothing but handshakes."""
        assert isinstance(context, pinsock.PinnedContext)
        self = cls.__new__(cls)
        self.take(context)
        return self

    def take(self, context: pinsock.PinnedContext) -> None:
        """Take over the settings of a context's next connection."""
        self._settings = context
        self.follow()

    def follow(self) -> None:
        """Take them over once more: what a context knows of a server changes them."""
        self._snapshot = self._settings._prepare(None, False, HOST)

    def new_context(self, cafile: str | None = None) -> object:
        raise NotMeasuredError("its contexts are pinsock's")

    def ssl_context(self) -> ssl.SSLContext:
        return _BareContext(ssl.PROTOCOL_TLS_CLIENT, self._snapshot)

    def server_context(self, *, mutual: bool) -> ssl.SSLContext:
        made = Unpinned(self.target).server_context(mutual=mutual)
        assert isinstance(made, pinsock.PinnedContext)
        return _BareContext(ssl.PROTOCOL_TLS_SERVER, made._prepare(None, True, None))

    def handshake(self, sock: socket.socket) -> object:
        """Shake hands on a blocking socket, and return the ``SSL *``."""
        pointer = _bare_connection(self._snapshot, HOST)
        lib.SSL_set_fd(pointer, sock.fileno())
        _positive(lib.SSL_do_handshake(pointer))
        return pointer

    def handshake_and_close(self, sock: socket.socket) -> None:
        """All of a handshake's cost; for its socket, too."""
        lib.SSL_free(self.handshake(sock))
        sock.close()

    def wrap(self, sock: socket.socket, session: object = None) -> Link:
        if session is not None:
            raise NotMeasuredError("it keeps no sessions")
        sock.settimeout(None)
        pointer = self.handshake(sock)
        memory, view = _scratch()

        def recv(size: int) -> bytes:
            return bytes(view[: _positive(lib.SSL_read(pointer, memory, size))])

        def recv_into(buffer: bytearray) -> int:
            with ffi.from_buffer(buffer) as place:
                return _positive(lib.SSL_read(pointer, place, len(buffer)))

        def sendall(data: bytes) -> None:
            _positive(lib.SSL_write(pointer, data, len(data)))

        def close() -> None:
            lib.SSL_free(pointer)
            sock.close()

        def cipher() -> str:
            found = lib.SSL_get_current_cipher(pointer)
            names = (lib.SSL_CIPHER_get_name(found), lib.SSL_get_version(pointer))
            name, version = (ffi.string(each).decode("ascii") for each in names)
            return str((name, version, lib.SSL_CIPHER_get_bits(found, ffi.NULL)))

        return Link(recv, recv_into, sendall, close, lambda: None, cipher, sock)


@functools.cache
def _scratch() -> tuple[object, memoryview]:
    """Memory for all connections, and the view of it that gives bytes: one thread reads."""
    memory = ffi.new("char[]", _MUCH)
    return memory, ffi.buffer(memory)


def _positive(result: int) -> int:
    if result <= 0:
        raise ConnectionError("a call of OpenSSL's failed")
    return result


def _bare_connection(snapshot: SSL.Context, host: str | None) -> object:
    """A new ``SSL *``; of a client, if there is a host."""
    pointer = lib.SSL_new(snapshot._context)
    if host is None:
        lib.SSL_set_accept_state(pointer)
    else:
        name = host.encode("ascii")
        lib.SSL_set_connect_state(pointer)
        lib.SSL_set_tlsext_host_name(pointer, name)
        lib.X509_VERIFY_PARAM_set1_host(lib.SSL_get0_param(pointer), name, len(name))
    return pointer


class _BareContext(ssl.SSLContext):
    """A context whose sockets and objects are the standard library's but for what they call."""

    def __new__(cls, protocol: int, snapshot: SSL.Context) -> _BareContext:
        return super().__new__(cls, protocol)

    def __init__(self, protocol: int, snapshot: SSL.Context) -> None:
        self._snapshot = snapshot

    def _wrap_socket(
        self, sock: socket.socket, server_side: bool, server_hostname: str | None, **_: object
    ) -> _BareEngine:
        return _BareEngine(_bare_connection(self._snapshot, server_hostname), sock)

    def _wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool,
        server_hostname: str | None,
        **_: object,
    ) -> _BareMemoryEngine:
        pointer = _bare_connection(self._snapshot, server_hostname)
        return _BareMemoryEngine(pointer, incoming, outgoing)


class _BareEngine:
    """What the standard library's socket calls, on a blocking descriptor."""

    def __init__(self, pointer: object, sock: socket.socket) -> None:
        self._ssl = pointer
        lib.SSL_set_fd(pointer, sock.fileno())

    def __del__(self) -> None:
        lib.SSL_free(self._ssl)

    def do_handshake(self) -> None:
        _positive(lib.SSL_do_handshake(self._ssl))

    def write(self, data: bytes) -> int:
        return _positive(lib.SSL_write(self._ssl, bytes(data), len(data)))


class _BareMemoryEngine:
    """What the standard library's object calls: bytes are moved from and to its BIOs."""

    def __init__(self, pointer: object, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> None:
        self._ssl = pointer
        self._incoming, self._outgoing = incoming, outgoing
        self._into, self._from = (lib.BIO_new(lib.BIO_s_mem()) for _ in range(2))
        lib.SSL_set_bio(pointer, self._into, self._from)
        self._memory, self._view = _scratch()

    def __del__(self) -> None:
        lib.SSL_free(self._ssl)

    def _call(self, call: Callable[..., int], *arguments: object) -> int:
        if self._incoming.pending:
            data = self._incoming.read()
            lib.BIO_write(self._into, data, len(data))
        elif self._incoming.eof:
            lib.BIO_set_mem_eof_return(self._into, 0)
        lib.ERR_clear_error()
        result = call(self._ssl, *arguments)
        while (size := lib.BIO_read(self._from, self._memory, _MUCH)) > 0:
            self._outgoing.write(self._view[:size])
        if result > 0:
            return result
        code = lib.SSL_get_error(self._ssl, result)
        if code == lib.SSL_ERROR_WANT_READ:
            raise ssl.SSLWantReadError(code, "The operation did not complete (read)")
        raise ssl.SSLError(code, "a call of OpenSSL's failed")

    def do_handshake(self) -> None:
        self._call(lib.SSL_do_handshake)

    def read(self, size: int) -> bytes:
        done = self._call(lib.SSL_read, self._memory, min(size, _MUCH))
        return bytes(self._view[:done])

    def write(self, data: bytes) -> int:
        return self._call(lib.SSL_write, bytes(data), len(data))

    def shutdown(self) -> None:
        self._call(lambda pointer: lib.SSL_shutdown(pointer) or lib.SSL_shutdown(pointer))

    def getpeercert(self, _binary_form: bool = False) -> object:
        return {}

    def cipher(self) -> None:
        return None

    def compression(self) -> None:
        return None


CONTENDERS: dict[str, type[Contender]] = {
    kind.name: kind for kind in (Stdlib, Unpinned, Pinned, PyOpenSSL, Bare)
}
