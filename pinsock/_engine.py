"""The ``_sslobj``: what ``ssl.SSLSocket`` and ``ssl.SSLObject`` talk to instead of ``_ssl.c``.

Theory of operation
===================

CPython's sockets and objects are Python around one small object that does the TLS.  :class:`Engine`
is that object: it drives an ``OpenSSL.SSL.Connection`` and gives back what ``_ssl.c`` would.

There is one loop, :meth:`Engine._run`.  It makes one OpenSSL call, and if OpenSSL wants bytes that
are not there it waits for them and makes the call again.  How to wait is the transport's business:

* :class:`SocketEngine`: OpenSSL reads and writes the file descriptor.  The descriptor is kept in
  non-blocking mode *whatever the socket's timeout is* (:class:`pinsock.PinnedSocket` sees to that),
  and the waiting is done here, by ``poll`` and without the lock.  If OpenSSL were left to block, a
  reader that waits for the rest of a record would lock out the writer (rule 13).
* :class:`MemoryEngine`: bytes are moved between OpenSSL's memory BIOs and the caller's
  ``ssl.MemoryBIO`` pair.  There is nothing to wait for: the caller is told ``SSLWantReadError``.

A handshake has three acts.  *Begin*: the pins are looked up, once, and from then on are fixed
(rule 6); a peer without pins is refused here, before a byte is sent.  *Verify*: OpenSSL calls
:meth:`Engine.on_verify` for every position of the chain, and a :class:`~pinsock._verdict.Verdict`
answers.  *Conclude*: OpenSSL has said the handshake is complete, and now it is asked whether it
was *checked*: a completed handshake in which the leaf's event did not come (an anonymous cipher
suite, a resumed session that we did not offer) is refused (rule 1).  Until then no data passes:
``read`` and ``write`` run the handshake first, as OpenSSL would, but through all three acts.

The rules kept here (DESIGN section 5): 1 (fail closed), 2 (in the handshake), 5 (nothing raises in
a callback), 6 (one snapshot), 7 (sessions), 8 (possession before trust), 11 (the standard
library's errors), 13 (one reader and one writer).

Writes are whole: partial writes are off, so one call of ``write`` hands OpenSSL the caller's buffer
once, and OpenSSL cuts it into records.  An unfinished write must be taken up again with the same
bytes, as with ``ssl``; a second writer waits its turn.

The lock is reentrant, and so a signal handler, or a callback, may come back while an OpenSSL call
is under way in the same thread.  It may close the connection, or look at it; it may not make a
second call (``_calling``): OpenSSL would crash.
"""

from __future__ import annotations

import abc
import contextlib
import ipaddress
import logging
import os
import select
import ssl
import threading
import time
import weakref
from collections.abc import Callable
from datetime import datetime, timezone
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar, cast

from OpenSSL import SSL

from pinsock import _chain, _openssl
from pinsock._errors import (
    ChainPosition,
    PinError,
    PinExpiredError,
    PinMismatchError,
)
from pinsock._openssl import (
    ERROR_SYSCALL,
    ERROR_WANT_READ,
    ERROR_WANT_WRITE,
    ERROR_ZERO_RETURN,
    Memory,
    SSLPointer,
    bio_drain,
    bio_write,
    borrow,
    clear_errors,
    give_back,
    last_errno,
    new_buffer,
    size_of,
    ssl_do_handshake,
    ssl_get_error,
    ssl_pending,
    ssl_read,
    ssl_shutdown,
    ssl_write,
    take,
    translate,
)
from pinsock._pins import Pin, PinMatch, PinSet
from pinsock._verdict import CERT_REJECTED, Verdict

if TYPE_CHECKING:
    import socket

__all__ = [
    "HANDSHAKE_FAILURE",
    "MAX_WRITE",
    "Engine",
    "MemoryEngine",
    "PinSource",
    "PinnedSession",
    "SocketEngine",
    "Wrapping",
]

_log = logging.getLogger("pinsock")

#: Where a handshake gets its pins: called with the server's name, once, when it begins.
PinSource = Callable[["str | None"], "PinSet | None"]

#: What one write takes at most: SSL_write takes an int.
MAX_WRITE = 2**30
# Bytes; a handshake's flight is a few thousand.
_MAX_SWALLOWED = 2**18
# SSL_read returns what is left of one record, which is no more than this (RFC 8446 section 5.1):
# a larger buffer would be mapped, and unmapped, for nothing.
_MAX_RECORD = 2**14

# Alerts of RFC 8446 section 6.
HANDSHAKE_FAILURE = 40

_INCOMPLETE = (ssl.SSLWantReadError, ssl.SSLWantWriteError)

# The numbers that _ssl.c's Certificate.public_bytes() takes.
_PEM, _DER = 1, 2


class _Context(Protocol):
    """What the engine asks of the context it was made by."""

    check_hostname: bool

    @property
    def verify_mode(self) -> ssl.VerifyMode: ...

    def snapshot(self, *, pinned: bool) -> SSL.Context:
        """The compiled settings of this moment, for a connection with or without pins."""

    def pin_source(self) -> PinSource | None:
        """The pins of this moment."""

    def on_servername(self, owner: object, name: str | None) -> int | None:
        """Run the user's ``sni_callback``."""


class _Certificate:
    """A certificate as ``_ssl.Certificate`` shows it, as far as libraries look."""

    __slots__ = ("_der",)

    def __init__(self, der: bytes) -> None:
        self._der = der

    def public_bytes(self, format: int = _PEM) -> bytes | str:
        """The certificate in DER (2) or PEM (1)."""
        if format == _DER:
            return self._der
        if format == _PEM:
            return ssl.DER_cert_to_PEM_cert(self._der)
        raise ValueError("Unsupported format")


class PinnedSession:
    """A TLS session that can be resumed where it was made, and nowhere else (rule 7).

    A resumed handshake verifies no certificate: OpenSSL runs no callback.  So a session stands for
    the check that was made when it began, and is bound to all that the check depended on: the
    context, the ``server_hostname`` and the pin set.
    """

    __slots__ = ("_context", "_der", "_match", "_pins", "_server_hostname", "_verification")

    def __init__(
        self,
        der: bytes,
        context: _Context,
        server_hostname: str | None,
        pins: PinSet | None,
        match: PinMatch | None,
    ) -> None:
        self._der = der
        self._context = context
        self._server_hostname = server_hostname
        self._pins = pins
        self._match = match
        self._verification = _verification(context)


def _verification(context: _Context) -> tuple[int, bool]:
    """What was checked besides the pins, when a session began."""
    return context.verify_mode, context.check_hostname


def _gone() -> ssl.SSLError:
    return _openssl.make_error(
        ssl.SSLError, ssl.SSL_ERROR_SYSCALL, "Underlying socket has been closed."
    )


_T = TypeVar("_T")


def _try(read: Callable[[bytes], _T], der: bytes) -> _T | None:
    """What ``read`` finds in a certificate, or None: an error report leaves out what it must."""
    try:
        return read(der)
    except ValueError:
        return None


def _entered_again() -> ssl.SSLError:
    # From a callback, or from a signal handler that interrupts one: OpenSSL would crash.
    return _openssl.make_error(
        ssl.SSLError, ssl.SSL_ERROR_SSL, "The connection is in the middle of another operation."
    )


def _spki_pin(der: bytes) -> Pin:
    # Not Pin.from_certificate, which guesses what it is given: this came from the peer.
    return Pin("spki", "sha256", sha256(_chain.spki(der)).digest())


def _describe(chain: tuple[bytes, ...]) -> tuple[ChainPosition, ...]:
    found: list[ChainPosition] = []
    for depth, der in enumerate(chain):
        subject = _try(_chain.subject, der)
        validity = _try(_chain.validity, der)
        pin = _try(_spki_pin, der)
        found.append(
            ChainPosition(
                depth,
                "(unreadable)" if subject is None else subject,
                None if validity is None else validity[1],
                None if pin is None else str(pin),
                str(Pin("cert", "sha256", sha256(der).digest())),
            )
        )
    return tuple(found)


class Wrapping(NamedTuple):
    """What a connection is wrapped with.

    Attributes:
        override: the pins given for this connection (which may be None), in place of the context's.
        server_side: whether this is the server.
        server_hostname: the server's name (A-labels) or IP address; clients only.
        owner: the socket or object that the user has; held weakly.
        session: a session to resume; clients only.
    """

    override: tuple[PinSource | None] | None
    server_side: bool
    server_hostname: str | None
    owner: object
    session: PinnedSession | None


class _BIOs:
    """The caller's pair of ``ssl.MemoryBIO``, and OpenSSL's own pair."""

    __slots__ = (
        "_announced",
        "_ended",
        "_from_ssl",
        "_header",
        "_into_ssl",
        "_outgoing",
        "incoming",
        "sparing",
    )

    def __init__(
        self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, connection: SSL.Connection
    ) -> None:
        self.incoming = incoming
        self._outgoing = outgoing
        #: Move one record at a time, as what comes behind the last one is not ours to take.
        self.sparing = False
        self._header = b""
        self._announced = 0
        self._into_ssl, self._from_ssl = _openssl.memory_bios(connection)
        self._ended = False

    def feed(self) -> None:
        """Move what has come in to OpenSSL, the end of the stream too."""
        incoming = self.incoming
        if incoming.pending:
            data = self._record() if self.sparing else incoming.read()
            bio_write(self._into_ssl, data, len(data))
        if incoming.eof and not self._ended:
            self._ended = True
            _openssl.bio_end(self._into_ssl)

    def _record(self) -> bytes:
        """The header of a record, or as much as there is of what it announced (RFC 8446 5.1)."""
        if self._announced:
            data = self.incoming.read(self._announced)
            self._announced -= len(data)
            return data
        data = self.incoming.read(5 - len(self._header))
        self._header += data
        if len(self._header) == 5:
            self._announced = int.from_bytes(self._header[3:], "big")
            self._header = b""
        return data

    def drain(self) -> None:
        """Move what OpenSSL has written to the caller."""
        data = bio_drain(self._from_ssl)
        if data:
            self._outgoing.write(data)

    def give_back(self) -> None:
        """Put what OpenSSL has not read back where the caller looks for it.

        What came behind the peer's close_notify is not TLS.
        """
        rest = bio_drain(self._into_ssl)
        if rest and not self._ended:
            self.incoming.write(rest)


class Engine(abc.ABC):
    """One TLS connection; made by a context's ``_wrap_socket`` or ``_wrap_bio``.

    Args:
        connection: the pyOpenSSL connection to drive.
        context: the context that made it.
        wrapping: what ``wrap_socket`` or ``wrap_bio`` was given.
        bios: what to move bytes between, if it is not a descriptor.
    """

    __slots__ = (
        "__weakref__",
        "_begun",
        "_bios",
        "_calling",
        "_closed",
        "_complete",
        "_connection",
        "_context",
        "_cut_short",
        "_lock",
        "_match",
        "_offered",
        "_override",
        "_owner",
        "_pins",
        "_refusal",
        "_ssl",
        "_verdict",
        "_writing",
        "callback_error",
        "server_hostname",
        "server_side",
    )

    def __init__(
        self,
        connection: SSL.Connection,
        context: _Context,
        wrapping: Wrapping,
        bios: _BIOs | None = None,
    ) -> None:
        self._connection = connection
        self._bios = bios
        self._closed = False
        self._calling = False
        self._cut_short = False
        self._ssl: SSLPointer = _openssl.pointer_of(connection, self)
        self._context = context
        self._override = wrapping.override
        self.server_side = wrapping.server_side
        self.server_hostname = wrapping.server_hostname
        self._owner = None if wrapping.owner is None else weakref.ref(wrapping.owner)
        # Reentrant, so that a signal handler which uses or closes the connection between two
        # bytecodes of a locked section does not lock itself out.
        self._lock = threading.RLock()
        self._writing = threading.RLock()
        self._begun = False
        self._complete = False
        self._pins: PinSet | None = None
        self._verdict: Verdict | None = None
        self._match: PinMatch | None = None
        self._offered: PinnedSession | None = None
        # How to make the error that refused this connection.  Not the error: its traceback would
        # keep frames, and those this engine; and not a bound method, for the same reason.
        self._refusal: Callable[[Engine], Exception] | None = None
        self.callback_error: BaseException | None = None
        if self.server_side:
            connection.set_accept_state()
        else:
            connection.set_connect_state()
            if self.server_hostname is not None:
                self._set_name(self.server_hostname)
        if wrapping.session is not None:
            self.session = wrapping.session

    def _set_name(self, name: str) -> None:
        # As _ssl_configure_hostname() of _ssl.c: an IP address is no server name (RFC 6066 section
        # 3), and is looked for among the certificate's addresses.
        if not name or name.startswith("."):
            raise ValueError(
                "server_hostname cannot be an empty string or start with a leading dot."
            )
        if "\0" in name:
            raise TypeError("server_hostname must not contain a null character")
        try:
            packed = ipaddress.ip_address(name).packed
        except ValueError:
            self._connection.set_tlsext_host_name(name.encode("ascii"))
            taken = not self._context.check_hostname or _openssl.check_host(self._ssl, name)
        else:
            taken = not self._context.check_hostname or _openssl.check_ip(self._ssl, packed)
        if not taken:
            raise ValueError(
                f"{name!r} is not a host name that OpenSSL can check: pass the name in the "
                "server's certificate as server_hostname"
            )

    # The loop ------------------------------------------------------------------------------------

    def _run(self, call: Callable[..., int], arguments: tuple[object, ...], what: str) -> int:
        """Make an OpenSSL call until it is done, and return what it returned.

        Args:
            call: the function; it is given the SSL pointer and ``arguments``.
            arguments: the other arguments, the same each time.
            what: the operation's name, for the message of a ``TimeoutError``.

        Returns:
            The positive result, or 0 for an orderly end of the stream.

        Raises:
            ssl.SSLWantReadError, ssl.SSLWantWriteError: the transport does not wait.
            TimeoutError: the socket's timeout is over.
            OSError: the call failed; as :mod:`ssl` would raise it.
        """
        deadline: float | None = None
        bios = self._bios
        while True:
            with self._lock:
                if self._closed:
                    raise _gone()
                if self._calling:
                    raise _entered_again()
                self._calling = True
                try:
                    if bios is not None:
                        bios.feed()
                    clear_errors()
                    result = call(self._ssl, *arguments)
                    if result > 0:
                        if bios is not None:
                            bios.drain()
                        return result
                    errno = last_errno()
                    code = ssl_get_error(self._ssl, result)
                    if bios is not None:
                        bios.drain()  # an alert, for instance
                    if code == ERROR_WANT_READ or code == ERROR_WANT_WRITE:
                        pass
                    elif code == ERROR_ZERO_RETURN and _openssl.received_shutdown_only(self._ssl):
                        return 0
                    else:
                        raise self._failure(code, result, errno)
                finally:
                    self._calling = False
            deadline = self._wait(code, deadline, what)

    def _failure(self, code: int, result: int, errno: int) -> OSError:
        error = translate(code, result, errno)
        if isinstance(error, ssl.SSLEOFError):
            self._cut_short = True
        elif self._cut_short and getattr(error, "reason", error) is None:
            # OpenSSL says why once, and then only that it has failed; ssl says it every time.
            return translate(ERROR_SYSCALL, 0, 0)
        return error

    @abc.abstractmethod
    def _wait(self, code: int, deadline: float | None, what: str) -> float | None:
        """Wait, without the lock, for what OpenSSL wants; return the deadline of the call."""

    # The handshake -------------------------------------------------------------------------------

    def do_handshake(self) -> None:
        """Shake hands; returns when the peer's chain has been checked against the pins.

        Raises:
            PinMismatchError: the chain was verified, and matches no pin.
            PinExpiredError: the pins have expired.
            UnpinnedPeerError: there are no pins for the peer.
            ssl.SSLCertVerificationError: the chain was not verified; as :mod:`ssl` raises it.
            OSError: the handshake failed otherwise; as :mod:`ssl` raises it.
        """
        if self._complete:
            return
        self._begin()
        try:
            self._run(ssl_do_handshake, (), "handshake")
        except OSError as error:
            raise self._explain(error) from None
        finally:
            self._raise_callback_error()
        with self._lock:
            self._conclude()
            self._complete = True

    def _begin(self) -> None:
        """Act one: fix the pins, once."""
        with self._lock:
            if self._refusal is not None:
                raise self._refusal(self)
            if not self._begun:
                self._fix_pins(self._current_pins(self._context))
                self._begun = True

    def _current_pins(self, context: _Context) -> PinSet | None:
        """The pins for this peer, from ``context`` or from the wrap; raises if there have to be."""
        pins = self._look_up(context)
        if pins is not None and pins.expired(datetime.now(timezone.utc)):
            when = f"{pins.expires:%Y-%m-%d %H:%M} UTC"
            if pins.after_expiry == "reject":
                raise PinExpiredError(
                    f"the pins for {self._peer()} expired at {when}: bring in new ones",
                    server_hostname=self.server_hostname,
                )
            _log.warning("the pins for %s expired at %s: unpinned", self._peer(), when)
            pins = None
        return pins

    def _fix_pins(self, pins: PinSet | None) -> None:
        if self._offered is not None and self._offered._pins != pins:
            raise ValueError("Session refers to a different pin set.")
        self._pins = pins
        self._verdict = None
        if pins is not None:
            self._verdict = Verdict(pins)
            _openssl.verify_with_pins(self._ssl)
            if self.server_side:
                # On the connection, and not in the snapshot: this holds after a switch of contexts.
                _openssl.forbid_tickets(self._ssl)

    def _look_up(self, context: _Context) -> PinSet | None:
        source = context.pin_source() if self._override is None else self._override[0]
        if source is None:
            return None
        try:
            pins = source(self.server_hostname)
        except PinError:
            raise
        except Exception as error:
            # Only an OSError or a ValueError lets ssl close the file descriptor (rule 11).
            raise PinError(
                f"the pin source failed for {self._peer()}: {error!r}",
                server_hostname=self.server_hostname,
            ) from error
        if pins is not None and not isinstance(pins, PinSet):
            raise PinError(
                f"the pin source gave {type(pins).__name__!r} for {self._peer()}: "
                "it has to return a PinSet or None",
                server_hostname=self.server_hostname,
            )
        return pins

    def _peer(self) -> str:
        if self.server_side:
            return "the client"
        return repr(self.server_hostname) if self.server_hostname else "the server"

    def on_verify(self, depth: int, error: int, certificate: bytes) -> int:
        """Act two: called by OpenSSL, inside the handshake call, for each verify event."""
        if self._refusal is not None:
            return CERT_REJECTED
        # Without pins OpenSSL's own answer stands.  (Events come all the same if the connection was
        # switched from a context with pins to one without: OpenSSL keeps the callback.)
        return error if self._verdict is None else self._verdict.event(depth, error, certificate)

    def _explain(self, error: OSError) -> Exception:
        """The error to raise for a handshake that ended with ``error``."""
        verdict = self._verdict
        if verdict is not None and verdict.mismatched and verdict.pins.enforce:
            self._refusal = Engine._mismatch
        elif isinstance(error, ssl.SSLCertVerificationError):
            self._refusal = Engine._unverified
        elif (
            self._refusal is None
            and not self._calling  # this is no call inside another, which may yet end well
            and isinstance(error, ssl.SSLError)
            and not isinstance(error, _INCOMPLETE)
        ):
            # Not every OpenSSL keeps in mind that it has failed.  A read that found the end of the
            # stream would then be taken for the end of a conversation that never was.
            self._refusal = Engine._failed
            return error
        return error if self._refusal is None else self._refusal(self)

    def _failed(self) -> Exception:
        return _openssl.make_error(
            ssl.SSLError, ssl.SSL_ERROR_SSL, "The handshake has failed: this connection is over."
        )

    def _unverified(self) -> Exception:
        with self._lock:
            code = _openssl.verify_result(self._ssl)
        return _openssl.verification_error(code, self.server_hostname)

    def _mismatch(self) -> Exception:
        verdict = cast(Verdict, self._verdict)
        return PinMismatchError(
            self._peer(),
            positions=_describe(verdict.chain),
            expected={
                position: tuple(map(str, pins)) for position, pins in verdict.pins.positions.items()
            },
            server_hostname=self.server_hostname,
        )

    def _raise_callback_error(self) -> None:
        error, self.callback_error = self.callback_error, None
        if error is not None:
            self._refusal = Engine._unchecked
            try:
                raise error
            finally:
                del error  # its traceback holds this frame, and so the engine

    def _unchecked(self) -> Exception:
        return PinError(
            f"the handshake with {self._peer()} completed without the check of its certificate",
            server_hostname=self.server_hostname,
        )

    def _conclude(self) -> None:
        """Act three: the handshake is complete; was it checked?  Only now is a match reported."""
        if self._refusal is not None:
            raise self._refusal(self)
        if self._pins is None:
            return
        if _openssl.resumed(self._ssl):
            # Its check was made when the session began.  Sessions that we did not offer do not
            # exist for us: servers that pin their clients issue none.
            if self._offered is not None and self._offered._pins == self._pins:
                self._match = self._offered._match
                return
        elif self._verdict is not None and self._verdict.accepted:
            chain = self._verdict.chain
            if (
                _openssl.verify_result(self._ssl) == 0
                and _openssl.peer_certificate(self._ssl) == chain[0]
                and _openssl.verified_chain(self._ssl) == list(chain)
            ):
                self._match = self._verdict.match
                if self._match is None:
                    _log.warning("report only: %s", self._mismatch())
                return
        self._refusal = Engine._unchecked
        raise self._unchecked()

    # Data ----------------------------------------------------------------------------------------

    def read(self, len: int = 1024, buffer: object = None) -> bytes | int:
        """Read up to ``len`` bytes; into ``buffer``, if given, and return their number then.

        Returns:
            The bytes, or their number; ``b""`` or 0 when the peer has said close_notify.
        """
        if buffer is not None:
            return self._read_into(len, buffer)
        if len <= 0:
            if len < 0:
                raise ValueError("size should not be negative")
            return b""
        if not self._complete:
            self.do_handshake()
        size = min(len, _MAX_RECORD)
        memory = new_buffer(size)
        return take(memory, self._run(ssl_read, (memory, size), "read"))

    def _read_into(self, length: int, buffer: object) -> int:
        try:
            memory = borrow(buffer, writable=True)
        except BufferError:
            kind = type(buffer).__name__
            raise TypeError(
                f"read() argument 2 must be read-write bytes-like object, not {kind}"
            ) from None
        try:
            size = size_of(memory)
            if not 0 < length <= size:
                length = size
            if length == 0:
                return 0
            if not self._complete:
                self.do_handshake()
            return self._run(ssl_read, (memory, min(length, MAX_WRITE)), "read")
        finally:
            give_back(memory)

    def write(self, data: object) -> int:
        """Write ``data``, all of it up to 1 GiB, and return the number of bytes written."""
        if isinstance(data, bytes):
            return self._write(data, len(data))  # type: ignore[arg-type]  # cffi takes bytes
        memory = borrow(data)
        try:
            return self._write(memory, size_of(memory))
        finally:
            give_back(memory)

    def _write(self, memory: Memory, size: int) -> int:
        if not self._complete:
            self.do_handshake()
        if size == 0:
            return 0  # SSL_write of nothing is undefined (its man page)
        with self._writing:
            return self._run(ssl_write, (memory, min(size, MAX_WRITE)), "write")

    def pending(self) -> int:
        """The number of bytes that can be read without waiting."""
        with self._lock:
            return ssl_pending(self._ssl)

    def shutdown(self) -> object:
        """Say close_notify, and wait for the peer's; return the socket, or None for BIOs."""
        if not self._complete:
            # OpenSSL calls a shutdown before the handshake's end a misuse; so does ssl.
            raise _openssl.make_error(
                ssl.SSLError,
                ssl.SSL_ERROR_SSL,
                "shutdown while in init",
                library="SSL",
                reason="SHUTDOWN_WHILE_IN_INIT",
            )
        with self._writing:
            self._run(self._shut_down, (), "read")
        return None

    def _shut_down(self, pointer: SSLPointer) -> int:
        """One step of a shutdown, with the results of an ordinary call.

        ``SSL_shutdown`` returns 0 when our close_notify is sent and the peer's has not come; a
        second call then waits for it.
        """
        result = ssl_shutdown(pointer)
        return result if result else ssl_shutdown(pointer)

    # What there is to know -----------------------------------------------------------------------

    @property
    def owner(self) -> object:
        """The socket or object that the user has; None when it is gone."""
        return self._owner() if self._owner is not None else None

    @property
    def begun(self) -> bool:
        """Whether the handshake has begun."""
        return self._begun

    @property
    def pin_match(self) -> PinMatch | None:
        """Where the chain matched; None before the handshake's end (rule 8)."""
        return self._match

    @property
    def context(self) -> _Context:
        """The context in use; it can be switched while a server reads the client's name."""
        return self._context

    @context.setter
    def context(self, context: _Context) -> None:
        if not hasattr(context, "pin_source"):
            raise TypeError(
                "the context must be a PinnedContext (pins=None for an unpinned one): "
                "an ssl.SSLContext cannot take over this connection"
            )
        with self._lock:
            try:
                self._switch(context)
            except BaseException:
                # The caller may go on as if nothing had happened.  The handshake does not.
                self._refusal = Engine._unchecked
                raise

    def _switch(self, context: _Context) -> None:
        source = context.pin_source() if self._override is None else self._override[0]
        snapshot = context.snapshot(pinned=source is not None)
        pins = self._current_pins(context) if self._begun and not self._complete else None
        _openssl.switch_context(self._ssl, snapshot)
        self._context = context
        if self._complete:
            return  # judged already, and nothing is verified any more
        _openssl.verify_without_pins(self._ssl, context.verify_mode)
        if not self.server_side and self.server_hostname is not None:
            self._set_name(self.server_hostname)
        if self._begun:
            self._fix_pins(pins)

    def on_servername(self, name: str | None) -> int | None:
        """Called by OpenSSL, inside the handshake call, with the name that a client asked for."""
        answer = self._context.on_servername(self.owner, name)
        return answer if self._refusal is None else HANDSHAKE_FAILURE

    @property
    def session(self) -> PinnedSession | None:
        """The session, for another connection to resume; None before the handshake's end."""
        if not self._complete:
            return self._offered
        with self._lock:
            der = _openssl.get_session(self._ssl)
            made_for = self._context, self.server_hostname, self._pins, self._match
        return None if der is None else PinnedSession(der, *made_for)

    @session.setter
    def session(self, session: PinnedSession) -> None:
        if not isinstance(session, PinnedSession):
            raise TypeError("Value is not a SSLSession.")
        with self._lock:
            if session._context is not self._context:
                raise ValueError("Session refers to a different SSLContext.")
            if self.server_side:
                raise ValueError("Cannot set session for server-side SSLSocket.")
            if self._begun:
                raise ValueError("Cannot set session after handshake.")
            if session._server_hostname != self.server_hostname:
                raise ValueError("Session refers to a different server_hostname.")
            if session._verification != _verification(self._context):
                raise ValueError("Session refers to a different verify_mode or check_hostname.")
            _openssl.set_session(self._ssl, session._der)
            self._offered = session

    @property
    def session_reused(self) -> bool:
        """Whether the handshake resumed a session."""
        with self._lock:
            return _openssl.resumed(self._ssl)

    def getpeercert(self, binary_form: bool = False) -> object:
        """The peer's leaf: a dictionary, empty if it was not verified, or DER."""
        if not self._complete:
            raise ValueError("handshake not done yet")
        with self._lock:
            der = _openssl.peer_certificate(self._ssl)
        if der is None or binary_form:
            return der
        if self._pins is None and self._context.verify_mode == ssl.CERT_NONE:
            return {}
        return _chain.peercert(der)

    def get_verified_chain(self) -> list[_Certificate] | None:
        """The path that was verified, leaf first; what was sent, if nothing was verified."""
        if self._pins is None and self._context.verify_mode == ssl.CERT_NONE:
            return self.get_unverified_chain()
        with self._lock:
            chain = _openssl.verified_chain(self._ssl)
        return [_Certificate(der) for der in chain] or None

    def get_unverified_chain(self) -> list[_Certificate] | None:
        """What the peer sent, leaf first."""
        with self._lock:
            chain = _openssl.unverified_chain(self._ssl, server_side=self.server_side)
        return [_Certificate(der) for der in chain] or None

    def selected_alpn_protocol(self) -> str | None:
        """The protocol that ALPN agreed on."""
        with self._lock:
            return self._connection.get_alpn_proto_negotiated().decode("ascii") or None

    def cipher(self) -> tuple[str, str, int] | None:
        """``(name, protocol version, secret bits)`` of the cipher suite."""
        with self._lock:
            name = self._connection.get_cipher_name()
            version = self._connection.get_cipher_version()
            bits = self._connection.get_cipher_bits()
        if name is None or version is None or bits is None:
            return None
        return name, version, bits

    def version(self) -> str | None:
        """The protocol version, such as ``"TLSv1.3"``; None before the handshake's end."""
        if not self._complete:
            return None
        with self._lock:
            return self._connection.get_protocol_version_name()

    def group(self) -> str | None:
        """The name of the group of the key exchange; None before the handshake's end."""
        if not self._complete:
            return None
        with self._lock:
            return _openssl.group_name(self._ssl) or None

    def compression(self) -> str | None:
        """None: compression is off (RFC 7525 section 3.3)."""
        return None

    def shared_ciphers(self) -> list[tuple[str, str, int]] | None:
        """None for clients, as with :mod:`ssl`; for servers not to be had from the bindings."""
        if not self.server_side:
            return None
        raise NotImplementedError("cryptography binds no SSL_get_shared_ciphers")

    def client_sigalg(self) -> str | None:
        """Not to be had from the bindings."""
        raise NotImplementedError("cryptography binds no SSL_get0_peer_signature_name")

    def server_sigalg(self) -> str | None:
        """Not to be had from the bindings."""
        raise NotImplementedError("cryptography binds no SSL_get0_peer_signature_name")

    def uses_ktls_for_send(self) -> bool:
        """False: the kernel is not asked to encrypt."""
        return False

    def uses_ktls_for_recv(self) -> bool:
        """False: the kernel is not asked to decrypt."""
        return False

    def verify_client_post_handshake(self) -> None:
        """Not to be had yet."""
        raise NotImplementedError("post-handshake authentication of clients is not there yet")

    def get_channel_binding(self, cb_type: str = "tls-unique") -> bytes | None:
        """Channel binding data: ``"tls-unique"`` (RFC 5929) or ``"tls-exporter"`` (RFC 9266)."""
        if cb_type == "tls-exporter":
            return self.export_keying_material(b"EXPORTER-Channel-Binding", 32, b"")
        if cb_type != "tls-unique":
            raise ValueError(f"{cb_type!r} channel binding type not implemented")
        if not self._complete:
            return None
        # The first Finished message: the client's in a full handshake, the server's in a resumed
        # one (RFC 5929 section 3.1).
        with self._lock:
            if _openssl.resumed(self._ssl) ^ (not self.server_side):
                return self._connection.get_finished()
            return self._connection.get_peer_finished()

    def export_keying_material(
        self, label: bytes, length: int, context: bytes | None = None
    ) -> bytes:
        """Key material that both ends derive and nobody else can (RFC 5705, RFC 8446 7.5).

        Args:
            label: what it is for; registered labels are in the TLS Exporter Labels registry.
            length: the number of bytes wanted.
            context: application context; None and ``b""`` differ under TLS 1.2.

        Raises:
            ValueError: the handshake is not complete.
        """
        if not self._complete:
            raise ValueError("handshake not done yet")
        with self._lock:
            return self._connection.export_keying_material(label, length, context)


class SocketEngine(Engine):
    """An engine on a socket's file descriptor."""

    __slots__ = ("_socket",)

    def __init__(
        self,
        sock: socket.socket,
        snapshot: SSL.Context,
        context: _Context,
        wrapping: Wrapping,
    ) -> None:
        # Held weakly: the socket holds this engine, and must go when its user lets go of it.
        self._socket = weakref.ref(sock)
        connection = _openssl.connection_on_descriptor(snapshot, sock.fileno())
        super().__init__(connection, context, wrapping)

    def do_handshake(self) -> None:
        """Shake hands, the descriptor in non-blocking mode from here on."""
        if not self.begun:
            self.keep_nonblocking()
        try:
            super().do_handshake()
        except ssl.SSLCertVerificationError:
            self._swallow()
            raise

    def _swallow(self) -> None:
        """Read what the refused peer has sent by now, and forget it.

        If a descriptor is closed with bytes unread, TCP resets the connection, and the reset can
        overtake our alert: the peer would not learn why.  It is bounded, as the peer is hostile.
        """
        sock = self._socket()
        with contextlib.suppress(OSError):
            os.read(-1 if sock is None else sock.fileno(), _MAX_SWALLOWED)

    def keep_nonblocking(self) -> None:
        """Put the descriptor into non-blocking mode: a timeout of None sets it to blocking."""
        sock = self._socket()
        if sock is not None and sock.fileno() >= 0:
            os.set_blocking(sock.fileno(), False)

    def close(self) -> None:
        """Forget the descriptor: its number may belong to another file from now on."""
        with self._lock:
            self._closed = True

    def _wait(self, code: int, deadline: float | None, what: str) -> float | None:
        sock = self._socket()
        descriptor = -1 if sock is None else sock.fileno()
        if sock is None or descriptor < 0:
            raise _gone()
        timeout = sock.gettimeout()
        if timeout == 0:
            raise translate(code, -1, 0)
        remaining: float | None = None
        if timeout is not None:
            now = time.monotonic()
            deadline = now + timeout if deadline is None else deadline
            remaining = (deadline - now) * 1000
        poll = select.poll()
        poll.register(descriptor, select.POLLIN if code == ERROR_WANT_READ else select.POLLOUT)
        if (remaining is not None and remaining <= 0) or not poll.poll(remaining):
            raise TimeoutError(f"The {what} operation timed out")
        return deadline

    def shutdown(self) -> object:
        """Say close_notify, and wait for the peer's; return the socket, for clear text."""
        super().shutdown()
        return self._socket()


class MemoryEngine(Engine):
    """An engine on a pair of ``ssl.MemoryBIO``."""

    __slots__ = ()

    _bios: _BIOs

    def __init__(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        snapshot: SSL.Context,
        context: _Context,
        wrapping: Wrapping,
    ) -> None:
        connection = SSL.Connection(snapshot, None)
        super().__init__(connection, context, wrapping, _BIOs(incoming, outgoing, connection))

    def _wait(self, code: int, deadline: float | None, what: str) -> float | None:
        if code == ERROR_WANT_READ and self._bios.incoming.pending:
            return deadline
        raise translate(code, -1, 0)

    def shutdown(self) -> object:
        """Say close_notify, and wait for the peer's."""
        self._bios.sparing = True
        super().shutdown()
        with self._lock:
            self._bios.give_back()
        return None
