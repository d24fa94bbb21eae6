"""``PinnedSocket`` and ``PinnedObject``: the standard library's classes, and a few accessors.

Thin on purpose.  All that ``ssl.SSLSocket`` does it goes on doing; it talks to an
:class:`~pinsock._engine.Engine` where it would talk to ``_ssl.c``.

What is overridden, and why:

* ``settimeout``, ``setblocking``, ``shutdown``, ``detach``, ``unwrap``: the engine needs the
  descriptor in non-blocking mode (rule 13), and whoever has the descriptor after it does not.
* ``sendall``: writes are whole, so that one call does it.
* ``send``, ``recv``, ``recv_into``: fewer calls on the way to the engine, for speed.
* ``context``: a context that knows of no pins takes over nothing, not even before ``connect``.
* ``accept``: the pins of a listening socket are those of the sockets it accepts.
* ``_real_close`` and others: tell the engine that the descriptor's number is no longer ours.
* Clear text: never, unless TLS was ended by ``unwrap`` (``_ClearText``).
* ``_create``: hands through the pins that ``wrap_socket(..., pins=...)`` was given; what can fail
  does so, as far as possible, while the descriptor is still the caller's; and it takes fewer steps.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, cast

from pinsock._engine import (
    CHANNEL_BINDING_TYPES,
    MAX_WRITE,
    Engine,
    EngineContext,
    PinSource,
    SocketEngine,
    check_context,
)
from pinsock._openssl import make_error
from pinsock._pins import PinMatch
from pinsock._session import PinnedSession, check_session

if TYPE_CHECKING:
    from socket import _SendableFile

    from _typeshed import ReadableBuffer, WriteableBuffer
    from OpenSSL import SSL
    from typing_extensions import Self

__all__ = ["PinnedObject", "PinnedSocket", "given_to"]


def given_to(owner: object) -> tuple[PinSource | None] | None:
    """Return the pins that a socket or object was wrapped with; None: it has its context's."""
    return owner._pins if isinstance(owner, _Pinned) else None


class _Maker(EngineContext, Protocol):
    """What is asked of the context that wraps a socket or BIOs."""

    check_hostname: bool

    def _encode_hostname(self, hostname: str | bytes | None) -> str | None:
        """The name in A-labels."""

    def _prepare(
        self,
        override: tuple[PinSource | None] | None,
        server_side: bool,
        server_hostname: str | None,
    ) -> SSL.Context:
        """The compiled settings for a connection; raises if there can be none."""

    def _wrap_socket(
        self,
        sock: socket.socket,
        server_side: bool,
        server_hostname: str | None = None,
        *,
        owner: object = None,
        session: PinnedSession | None = None,
        snapshot: SSL.Context | None = None,
    ) -> SocketEngine:
        """The engine of a socket, by settings that were compiled already."""

    def _wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool,
        server_hostname: str | None = None,
        *,
        owner: object = None,
        session: PinnedSession | None = None,
    ) -> Engine:
        """The engine of a pair of BIOs."""


class _Pinned:
    """What sockets and objects have in common."""

    _sslobj: Engine | None
    #: The pins given to ``wrap_socket`` or ``wrap_bio`` (which may be None); None: the context's.
    _pins: tuple[PinSource | None] | None = None

    @property
    def pin_match(self) -> PinMatch | None:
        """Where the peer's chain matched its pins.

        None before the handshake is complete (RFC 8446 section 4.4: only then has the peer proved
        that it owns the key), if there are no pins, or under report only if they did not match.
        """
        return self._sslobj.pin_match if self._sslobj is not None else None

    def _engine(self) -> Engine:
        if self._sslobj is None:
            raise ValueError("No SSL wrapper around " + str(self))
        return self._sslobj

    # get_verified_chain and get_unverified_chain are ssl's from 3.13 on; here, on every version.

    def get_verified_chain(self) -> list[bytes]:
        """Return the chain that was verified, DER, leaf first, anchor last.

        The peer's unverified chain if nothing was verified (``CERT_NONE``), as ssl does; empty if
        there is none.
        """
        chain = self._engine().get_verified_chain() or []
        return [cast(bytes, certificate.public_bytes(2)) for certificate in chain]

    def get_unverified_chain(self) -> list[bytes]:
        """Return the certificates that the peer sent, DER, leaf first; decide nothing on them."""
        chain = self._engine().get_unverified_chain() or []
        return [cast(bytes, certificate.public_bytes(2)) for certificate in chain]

    def export_keying_material(
        self, label: bytes, length: int, context: bytes | None = None
    ) -> bytes:
        """Return key material that both ends derive and nobody else can (RFC 5705, RFC 8446 7.5).

        Args:
            label: what it is for; registered labels are in the TLS Exporter Labels registry.
            length: the number of bytes wanted.
            context: application context; None and ``b""`` differ under TLS 1.2.

        Raises:
            ValueError: the handshake is not complete, or the length is negative.
            ssl.SSLError: OpenSSL refuses the label or the length.
        """
        return self._engine().export_keying_material(label, length, context)

    def group(self) -> str | None:
        """Return the name of the key exchange's group, or None before the handshake's end."""
        return self._engine().group()


class PinnedObject(_Pinned, ssl.SSLObject):
    """An ``ssl.SSLObject`` whose peer is pinned; made by :meth:`PinnedContext.wrap_bio`."""

    @classmethod
    def _create(
        cls,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | None = None,
        session: PinnedSession | None = None,
        context: _Maker | None = None,
        *,
        pins: tuple[PinSource | None] | None = None,
    ) -> Self:
        """Make one; as ``ssl.SSLObject`` does, and with the pins of the wrap."""
        context = cast(_Maker, context)
        self = cls.__new__(cls)
        self._pins = pins
        self._sslobj = context._wrap_bio(
            incoming, outgoing, server_side, server_hostname, owner=self, session=session
        )
        return self

    def get_channel_binding(self, cb_type: str = "tls-unique") -> bytes | None:
        """Return channel binding data; None before the handshake's end.

        Args:
            cb_type: ``"tls-unique"``, ``"tls-server-end-point"`` (RFC 5929) or ``"tls-exporter"``
                (RFC 9266).

        Raises:
            ValueError: another type, or one that is not defined for the server's certificate.
        """
        return self._engine().get_channel_binding(cb_type)


# What recv_into() takes for None.  Old Pythons count the items of a buffer, and not its bytes.
_usual_size: Callable[..., int] = (
    len if "memoryview" not in ssl.SSLSocket.recv_into.__code__.co_names else lambda _buffer: 0
)
# What recv() says of a socket that is not connected: EINVAL is for those that are not TCP's.
_NOT_CONNECTED = (errno.ENOTCONN, errno.EINVAL)

# Whatever others put in its place later.
_PlainSocket = socket.socket
_recv, _send = socket.SocketType.recv, socket.SocketType.send
# socket.socket makes enums of these, one by one.
_family_of: Callable[[socket.socket], int] = socket.SocketType.family.__get__
_type_of: Callable[[socket.socket], int] = socket.SocketType.type.__get__


class _ClearText(socket.socket):
    """The clear text that ``ssl.SSLSocket`` falls back to, where it has no engine (any more).

    That is so after a handshake that failed inside ``connect()``, after ``shutdown()``, if the
    connection was made behind its back, and before there is one.  This class comes behind
    ``ssl.SSLSocket``: its ``super()`` is here, whatever another thread has done in the meantime.
    """

    __slots__ = ()

    #: Refuses clear text, to be sent or to be received, where it is not wanted.
    _check_clear: Callable[[bool], None]

    def send(self, data: ReadableBuffer, flags: int = 0, /) -> int:
        self._check_clear(True)
        return super().send(data, flags)

    def sendall(self, data: ReadableBuffer, flags: int = 0, /) -> None:
        self._check_clear(True)
        super().sendall(data, flags)

    def sendto(self, data, *arguments):  # type: ignore[no-untyped-def]  # the address comes last
        self._check_clear(True)
        return super().sendto(data, *arguments)

    def sendfile(self, file: _SendableFile, offset: int = 0, count: int | None = None) -> int:
        self._check_clear(True)
        return super().sendfile(file, offset, count)

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        self._check_clear(False)
        return super().recv(bufsize, flags)

    def recv_into(self, buffer: WriteableBuffer, nbytes: int = 0, flags: int = 0) -> int:
        with memoryview(buffer) as view:
            room = view.nbytes
        if room:
            self._check_clear(False)
        return super().recv_into(buffer, nbytes, flags)

    def recvfrom(self, bufsize: int, flags: int = 0, /) -> tuple[bytes, object]:
        self._check_clear(False)
        return super().recvfrom(bufsize, flags)

    def recvfrom_into(
        self, buffer: WriteableBuffer, nbytes: int = 0, flags: int = 0
    ) -> tuple[int, object]:
        self._check_clear(False)
        return super().recvfrom_into(buffer, nbytes, flags)


class PinnedSocket(_Pinned, ssl.SSLSocket, _ClearText):
    """An ``ssl.SSLSocket`` whose peer is pinned; made by :meth:`PinnedContext.wrap_socket`."""

    _sslobj: SocketEngine | None = None
    #: The engine that there is, or was: ssl.py drops its own reference here and there.
    _tls: SocketEngine | None = None
    #: TLS was ended by ``unwrap``: from there on clear text is what the user asked for.
    _unwrapped = False
    do_handshake_on_connect: bool
    suppress_ragged_eofs: bool
    _context: EngineContext
    _session: PinnedSession | None
    _connected: bool

    @classmethod
    def _create(
        cls,
        sock: socket.socket,
        server_side: bool = False,
        do_handshake_on_connect: bool = True,
        suppress_ragged_eofs: bool = True,
        server_hostname: str | bytes | None = None,
        context: _Maker | None = None,
        session: PinnedSession | None = None,
        *,
        pins: tuple[PinSource | None] | None = None,
    ) -> Self:
        """Take over a socket's descriptor, and shake hands if it is connected; as ``ssl`` does.

        Until it is taken over, what fails leaves it to the caller; from then on it is closed.
        """
        context = cast(_Maker, context)
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) != socket.SOCK_STREAM:
            raise NotImplementedError("only stream sockets are supported")
        if server_side:
            if server_hostname:
                raise ValueError("server_hostname can only be specified in client mode")
            if session is not None:
                raise ValueError("session can only be specified in client mode")
        if context.check_hostname and not server_hostname:
            raise ValueError("check_hostname requires server_hostname")
        if session is not None:
            check_session(session)
        try:
            name = context._encode_hostname(server_hostname)
        except Exception:
            socket.close(sock.detach())  # a caller of ssl's has it no more, either
            raise
        snapshot = context._prepare(pins, server_side, name)
        timeout = sock.gettimeout()
        plain = type(sock) is _PlainSocket  # others may have their own
        family, kind = (_family_of(sock), _type_of(sock)) if plain else (sock.family, sock.type)
        place = {"family": family, "type": kind, "proto": sock.proto, "fileno": sock.fileno()}
        self = cls.__new__(cls, **place)
        super(ssl.SSLSocket, self).__init__(**place)
        sock.detach()
        try:
            self._context = context
            self._session = session
            self._sslobj = None
            self._pins = pins
            self.server_side = server_side
            self.server_hostname = name
            self.do_handshake_on_connect = do_handshake_on_connect
            self.suppress_ragged_eofs = suppress_ragged_eofs
            connected = self._has_peer()
            self.settimeout(timeout)
            self._connected = connected
            if connected:
                self._sslobj = context._wrap_socket(
                    self, server_side, name, owner=self, session=session, snapshot=snapshot
                )
                if do_handshake_on_connect:
                    if self.gettimeout() == 0:
                        raise ValueError(
                            "do_handshake_on_connect should not be specified for non-blocking "
                            "sockets"
                        )
                    self.do_handshake()
        except BaseException:
            with contextlib.suppress(OSError):
                self.close()
            raise
        return self

    def _has_peer(self) -> bool:
        """Whether it is connected; raises if it was, and what the peer has said is still there.

        Whoever reads that later might take it for what has come through TLS (CVE-2023-40217).
        """
        try:
            self.getpeername()
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                raise
        else:
            return True
        self.setblocking(False)
        try:
            data = _recv(self, 1)
        except OSError as error:
            if error.errno not in _NOT_CONNECTED:
                raise
            data = b""
        if data:
            reason = "Closed before TLS handshake with data in recv buffer."
            raise make_error(ssl.SSLError, errno.ENOTCONN, reason, reason=reason)
        return False

    @property
    def context(self) -> ssl.SSLContext:
        """The context in use."""
        return cast(ssl.SSLContext, self._context)

    @context.setter
    def context(self, context: ssl.SSLContext) -> None:
        # ssl.py's own keeps the new context even if it is refused, and before there is a connection
        # never asks: connect() and accept() would then be that context's business.
        checked = check_context(context)
        if self._sslobj is not None:
            self._sslobj.context = checked
        self._context = checked

    def get_channel_binding(self, cb_type: str = "tls-unique") -> bytes | None:
        """Return channel binding data; None before the handshake's end.

        Args:
            cb_type: ``"tls-unique"``, ``"tls-server-end-point"`` (RFC 5929) or ``"tls-exporter"``
                (RFC 9266).

        Raises:
            ValueError: another type, or one that is not defined for the server's certificate.
        """
        if self._sslobj is None:
            # Not connected yet: ssl answers None, or refuses an unknown type.
            if cb_type not in CHANNEL_BINDING_TYPES:
                raise ValueError(f"{cb_type} channel binding type not implemented")
            return None
        return self._sslobj.get_channel_binding(cb_type)

    def accept(self) -> tuple[PinnedSocket, object]:
        """Accept a connection and wrap it, pinned as this listening socket is."""
        newsock, address = _PlainSocket.accept(self)
        wrap: Callable[..., ssl.SSLSocket] = self.context.wrap_socket
        if self._pins is not None:
            wrap = functools.partial(wrap, pins=self._pins[0])
        wrapped = wrap(
            newsock,
            do_handshake_on_connect=self.do_handshake_on_connect,
            suppress_ragged_eofs=self.suppress_ragged_eofs,
            server_side=True,
        )
        return cast(PinnedSocket, wrapped), address

    def sendall(self, data: ReadableBuffer, flags: int = 0) -> None:
        """Send all of ``data``."""
        # One call does it, where ssl's own loop cuts slices.  Anything unusual is for that.
        engine = self._sslobj
        if (
            engine is not None
            and flags == 0
            and type(data) is bytes
            and 0 < len(data) <= MAX_WRITE
        ):
            engine.write_bytes(data, len(data))
        else:
            super().sendall(data, flags)

    def settimeout(self, value: float | None) -> None:
        """Set the timeout in seconds; None waits without end, 0 never waits."""
        engine = self._sslobj
        if engine is not None and engine.begun:
            # Each do_handshake() of ssl.py says again what there is.
            if value != self.gettimeout():
                super().settimeout(value)
                engine.keep_nonblocking()
        else:
            super().settimeout(value)

    def setblocking(self, flag: bool) -> None:
        """Wait without end (True), or never (False)."""
        super().setblocking(flag)
        self._keep_nonblocking()

    def _keep_nonblocking(self) -> None:
        if self._sslobj is not None and self._sslobj.begun:
            self._sslobj.keep_nonblocking()

    def _restore_blocking(self) -> None:
        """Give the descriptor the mode that the timeout stands for."""
        if self.fileno() >= 0:
            os.set_blocking(self.fileno(), self.gettimeout() is None)

    def _took(self, engine: SocketEngine) -> None:
        """Remember the engine that was made for this socket; the context calls this."""
        self._tls = engine
        if self.fileno() < 0:  # closed by somebody else in the meantime
            engine.close()

    def _end_tls(self, *, shut_off: bool = False) -> None:
        if self._tls is not None:
            self._tls.close(shut_off=shut_off)

    def unwrap(self) -> socket.socket:
        """Say close_notify, wait for the peer's, and return the socket for clear text."""
        sock = super().unwrap()
        self._unwrapped = True
        self._end_tls()
        self._restore_blocking()
        return sock

    def shutdown(self, how: int) -> None:
        """Shut the connection down; there is no clear text after it.

        After ``socket.SHUT_WR`` what the peer sends can still be read.
        """
        if how == socket.SHUT_WR and self._sslobj is not None:
            _PlainSocket.shutdown(self, how)  # ssl's own would let go of TLS
            return
        self._end_tls(shut_off=True)
        super().shutdown(how)
        self._restore_blocking()

    def detach(self) -> int:
        """Give up the descriptor, and return it."""
        self._restore_blocking()
        self._end_tls()
        return super().detach()

    def _real_close(self) -> None:
        self._end_tls()
        super()._real_close()  # type: ignore[misc]  # typeshed does not list it

    def _check_clear(self, sending: bool) -> None:
        if self._unwrapped or self.fileno() < 0:
            return
        if self._tls is None:
            try:
                self.getpeername()
            except OSError:
                # TCP may have forgotten the peer, and still have what it has said.  Or it may be
                # about to connect, with what is sent first: MSG_FASTOPEN, TCP_FASTOPEN_CONNECT.
                if sending:
                    _send(self, b"")  # as a rule it says in its own words that there is nobody
                raise
        raise OSError(errno.ENOTCONN, "TLS has ended, or has not begun: no clear text without it")

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """Receive up to ``buflen`` bytes."""
        engine = self._sslobj
        if engine is not None and flags == 0:
            try:
                return engine.read_bytes(buflen)
            except ssl.SSLError as error:
                # A connection that was cut short, as ssl.SSLSocket.read() takes it.
                if error.args[0] == ssl.SSL_ERROR_EOF and self.suppress_ragged_eofs:
                    return b""
                raise
        return super().recv(buflen, flags)

    def recv_into(
        self, buffer: WriteableBuffer, nbytes: int | None = None, flags: int = 0
    ) -> int:
        """Receive up to ``nbytes`` bytes into ``buffer``, as many as it holds if None or 0."""
        engine = self._sslobj
        if engine is None or flags != 0 or buffer is None:
            return super().recv_into(buffer, nbytes, flags)
        try:
            return engine.read_into(buffer, _usual_size(buffer) if nbytes is None else nbytes)
        except ssl.SSLError as error:
            if error.args[0] == ssl.SSL_ERROR_EOF and self.suppress_ragged_eofs:
                return 0
            raise

    def send(self, data: ReadableBuffer, flags: int = 0) -> int:
        """Send ``data``, and return the number of bytes sent: all of it, up to 1 GiB."""
        engine = self._sslobj
        if engine is not None and flags == 0:
            return engine.write(data)
        return super().send(data, flags)
