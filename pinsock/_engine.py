"""The ``_sslobj``: what ``ssl.SSLSocket`` and ``ssl.SSLObject`` talk to instead of ``_ssl.c``.

Theory of operation
===================

CPython's sockets and objects are Python around one small object that does the TLS.  :class:`Engine`
is that object: it drives a connection of OpenSSL's and gives back what ``_ssl.c`` would.

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
import functools
import ipaddress
import operator
import os
import select
import socket
import ssl
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timezone
from errno import EBADF, EPIPE
from hashlib import new, sha256
from typing import Literal, NamedTuple, Protocol, TypeVar, cast

from OpenSSL import SSL

from pinsock import _chain, _openssl
from pinsock._errors import (
    ChainPosition,
    PinError,
    PinExpiredError,
    PinMismatchError,
)
from pinsock._hello import HelloReader
from pinsock._openssl import (
    ALERT_REASONS,
    ERROR_SSL,
    ERROR_SYSCALL,
    ERROR_WANT_READ,
    ERROR_WANT_WRITE,
    ERROR_ZERO_RETURN,
    NULL,
    Cause,
    Memory,
    Scratch,
    SSLPointer,
    bio_drain,
    bio_mem_data,
    bio_read,
    bio_write,
    borrow,
    clear_errors,
    further,
    give_back,
    size_of,
    ssl_do_handshake,
    ssl_pending,
    ssl_read,
    ssl_shutdown,
    ssl_write,
    translate,
    why,
)
from pinsock._pins import FirstUse, Pin, PinMatch, PinSet
from pinsock._reports import Address, PinReport, Reporter, make_report
from pinsock._session import Binding, PinnedSession, check_session, name_asked_for
from pinsock._verdict import CERT_REJECTED, Verdict

__all__ = [
    "CHANNEL_BINDING_TYPES",
    "HANDSHAKE_FAILURE",
    "MAX_WRITE",
    "Engine",
    "EngineContext",
    "MemoryEngine",
    "PinSource",
    "SocketEngine",
    "Wrapping",
    "check_context",
]

#: Where a handshake gets its pins: called with the server's name, once, when it begins.
PinSource = Callable[["str | None"], "PinSet | None"]

#: What ``get_channel_binding`` knows.
CHANNEL_BINDING_TYPES = ("tls-unique", "tls-server-end-point", "tls-exporter")

#: What one write takes at most: SSL_write takes an int.
MAX_WRITE = 2**30
# Bytes; a handshake's flight is a few thousand.
_MAX_SWALLOWED = 2**18
# Of a ClientHello, before the time is looked at again: it may come in records of one octet each.
_MAX_READS = 1000
# SSL_read returns what is left of one record, which is no more than this (RFC 8446 section 5.1).
_MAX_RECORD = 2**14
# A ClientHello is no more, as a rule; bytes.
_USUAL_HELLO = 4096
# What one read takes at most, if there is as much: a few records.
_MAX_RUN = 4 * _MAX_RECORD
# Bytes; for such a run, also with what OpenSSL adds to each record.
_ROOM = _MAX_RUN + 2**10

# Bytes; writes of several records.
_LONG_WRITE = 4 * _MAX_RECORD
_TCP_CORK: int = getattr(socket, "TCP_CORK", -1)

_ALERT = 21  # a content type of RFC 8446 section 5.1
# Alerts of RFC 8446 section 6.
HANDSHAKE_FAILURE = 40

_INCOMPLETE = (ssl.SSLWantReadError, ssl.SSLWantWriteError)
# No failure, and said again by the next call.
_PASSING = (ERROR_WANT_READ, ERROR_WANT_WRITE, ERROR_ZERO_RETURN)

# Memory that reads use in turns: to allocate some for each costs more than to read.  There is as
# much as there were reads at a time, and little of it is kept.
_spare_records: deque[Scratch] = deque(maxlen=16)
_spare_runs: deque[Scratch] = deque(maxlen=16)


def _scratch_for_runs() -> Scratch:
    try:
        return _spare_runs.pop()
    except IndexError:
        return Scratch(_ROOM)


# The numbers that _ssl.c's Certificate.public_bytes() takes.
_PEM, _DER = 1, 2


class EngineContext(Protocol):
    """What the engine asks of the context it was made by."""

    _reporter: Reporter
    _host_flags: int

    @property
    def verify_flags(self) -> ssl.VerifyFlags: ...

    @property
    def verify_mode(self) -> ssl.VerifyMode: ...

    @property
    def post_handshake_auth(self) -> bool: ...

    def _snapshot(self, *, pinned: bool) -> SSL.Context:
        """The compiled settings of this moment, for a connection with or without pins."""

    def _pin_source(self) -> PinSource | None:
        """The pins of this moment."""

    def _learn(self, server_hostname: str | None, group: str) -> None:
        """Take note of the group that a server took, which is who it said."""

    def _forget(self, server_hostname: str | None) -> None:
        """Take note that there was no handshake."""

    def _verification(self) -> tuple[int, bool]:
        """The verify mode, and whether host names are checked."""

    def _count(self, *events: str) -> None:
        """Count what is named, for ``session_stats``."""

    def _on_servername(self, owner: object, name: bytes | None) -> int | None:
        """Run the user's ``sni_callback``."""

    def _on_message(
        self, owner: object, sent: bool, version: int, content_type: int, data: bytes
    ) -> None:
        """Run the user's ``_msg_callback``."""

    def _choose_protocol(self, offered: Collection[bytes]) -> bytes | None:
        """Choose one of the application protocols that a client offers, if there is one."""

    def _log_secret(self, line: bytes) -> None:
        """Log a secret, a line of the NSS key log format."""

    def _on_psk_client(self, hint: bytes | None) -> tuple[bytes, bytes]:
        """Run the user's callback for the identity and key of a client."""

    def _on_psk_server(self, identity: bytes | None) -> bytes:
        """Run the user's callback for the key of a client."""


def _peercert(der: bytes) -> Mapping[str, object]:
    try:
        return _chain.peercert(der, _openssl.long_name)
    except UnicodeError:
        raise  # ssl's own, too
    except ValueError as error:
        message = f"the certificate cannot be shown: {error}"
        raise _openssl.make_error(ssl.SSLError, ssl.SSL_ERROR_SSL, message) from None


class _Certificate:
    """A certificate as ``_ssl.Certificate`` shows it, as far as libraries look."""

    __slots__ = ("_der",)

    def __init__(self, der: bytes) -> None:
        self._der = der

    def __eq__(self, other: object) -> bool:
        return self._der == other._der if isinstance(other, _Certificate) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._der)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {_try(_chain.subject, self._der)!r}>"

    def get_info(self) -> Mapping[str, object]:
        """The dictionary that ``getpeercert`` gives."""
        return _peercert(self._der)

    def public_bytes(self, format: int = _PEM) -> bytes | str:
        """The certificate in DER (2) or PEM (1)."""
        if format == _DER:
            return self._der
        if format == _PEM:
            return ssl.DER_cert_to_PEM_cert(self._der)
        raise ValueError("Unsupported format")


def _gone() -> ssl.SSLError:
    return _openssl.make_error(
        ssl.SSLError, ssl.SSL_ERROR_SYSCALL, "Underlying socket has been closed."
    )


class _Name(NamedTuple):
    """A server's name as OpenSSL takes it: a host's, or the 4 or 16 bytes of an address."""

    host: bytes
    packed: bytes | None


@functools.lru_cache(maxsize=256)
def _read_name(name: str) -> _Name:
    if not name or name.startswith("."):
        raise ValueError("server_hostname cannot be an empty string or start with a leading dot.")
    try:
        return _Name(b"", ipaddress.ip_address(name).packed)
    except ValueError:
        return _Name(name.encode("ascii"), None)


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


def _shake_hands(pointer: SSLPointer, _memory: object, _size: int) -> int:
    clear_errors()
    result = ssl_do_handshake(pointer)
    if result > 0:
        clear_errors()  # what is there now made no difference
    return result


def _shut_down(pointer: SSLPointer, _memory: object, _size: int) -> int:
    """One step of a shutdown, with the results of an ordinary call.

    ``SSL_shutdown`` returns 0 when our close_notify is sent and the peer's has not come; a second
    call then waits for it.
    """
    clear_errors()
    result = ssl_shutdown(pointer)
    return result if result else ssl_shutdown(pointer)


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


def check_context(context: object) -> EngineContext:
    """Return the context; refuse one that knows of no pins."""
    # Of the type: a mock has every attribute.
    if not hasattr(type(context), "_pin_source"):
        raise TypeError(
            "the context must be a PinnedContext (pins=None for an unpinned one): "
            "an ssl.SSLContext cannot take over this connection"
        )
    return cast(EngineContext, context)


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


class _Records:
    """Tells where records end (RFC 8446 section 5.1): what comes behind may not be ours to take."""

    __slots__ = ("_announced", "_header")

    def __init__(self) -> None:
        self._header = b""
        self._announced = 0

    @property
    def wanted(self) -> int:
        """How many bytes to read next, and no more: those of a header, or what it announced."""
        return self._announced or 5 - len(self._header)

    def follow(self, data: bytes) -> None:
        """Take note of the next bytes: where do they leave off?"""
        if self._header:
            data = self._header + data
        position, end = self._announced, len(data)
        while position + 5 <= end:
            position += 5 + (data[position + 3] << 8) + data[position + 4]
        self._header = data[position:]
        self._announced = max(position - end, 0)


class _BIOs:
    """The caller's pair of ``ssl.MemoryBIO``, and OpenSSL's own pair."""

    __slots__ = (
        "_ended",
        "_from_ssl",
        "_hello",
        "_into_ssl",
        "_outgoing",
        "_records",
        "incoming",
        "sparing",
    )

    #: Whether OpenSSL has written what the transport has not taken yet.
    unsent = b""

    def __init__(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        pointer: SSLPointer,
        hello: HelloReader | None,
    ) -> None:
        self.incoming = incoming
        self._outgoing = outgoing
        self._hello = hello
        #: Move one record at a time.
        self.sparing = False
        self._records = _Records()
        self._into_ssl, self._from_ssl = _openssl.use_memory(pointer)
        self._ended = False

    def feed(self) -> None:
        """Move what has come in to OpenSSL, the end of the stream too."""
        incoming = self.incoming
        if incoming.pending:
            data = incoming.read(self._records.wanted if self.sparing else -1)
            self._records.follow(data)
            if self._hello is not None:
                self._hello.feed(data)
                if self._hello.done:
                    self._hello = None
            bio_write(self._into_ssl, data, len(data))
        if incoming.eof and not self._ended:
            self._ended = True
            _openssl.bio_end(self._into_ssl)

    def drain(self) -> _BIOs:
        """Move what OpenSSL has written to the caller."""
        bio = self._from_ssl
        left = bio_mem_data(bio, NULL)  # the number of bytes in it
        if left:
            scratch = _scratch_for_runs()
            while left > 0 and (size := bio_read(bio, scratch.memory, _ROOM)) > 0:
                self._outgoing.write(memoryview(scratch.view)[:size])
                left -= size
            _spare_runs.append(scratch)
        return self

    def give_back(self) -> None:
        """Put what OpenSSL has not read back where the caller looks for it.

        What came behind the peer's close_notify is not TLS.
        """
        rest = bio_drain(self._into_ssl)
        if rest:
            rest += self.incoming.read()  # which came later
            try:
                self.incoming.write(rest)
            except ssl.SSLError:
                # An ssl.MemoryBIO takes nothing behind its end.
                raise _openssl.make_error(
                    ssl.SSLError,
                    ssl.SSL_ERROR_SSL,
                    "What came behind the end of TLS is lost: write_eof() was called too early.",
                ) from None


def _peek(sock: socket.socket) -> bytes:
    """What has come in, as far as it may be a ClientHello; it stays where it is."""
    try:
        return socket.SocketType.recv(sock, _USUAL_HELLO, socket.MSG_PEEK)
    except BlockingIOError:
        return b""


class _Arrival:
    """The beginning of a server's connection on a descriptor: up to the end of the ClientHello.

    It is read as it comes, and moved to OpenSSL, which is handed the descriptor right behind it.
    """

    __slots__ = (
        "_descriptor",
        "_from_ssl",
        "_hello",
        "_into_ssl",
        "_records",
        "_ssl",
        "unsent",
    )

    def __init__(self, pointer: SSLPointer, descriptor: int, hello: HelloReader) -> None:
        self._ssl = pointer
        self._descriptor = descriptor
        self._hello = hello
        self._records = _Records()
        self._into_ssl, self._from_ssl = _openssl.use_memory(pointer)
        self.unsent = b""

    def let_go(self) -> None:
        """Forget the descriptor, in the middle of reading and writing maybe: that fails then."""
        self._descriptor = -1

    def feed(self) -> None:
        """Move what there is of the ClientHello to OpenSSL, the end of the stream too."""
        for _ in range(_MAX_READS):
            if self._hello.done:
                return
            try:
                data = os.read(self._descriptor, self._records.wanted)
            except BlockingIOError:
                return
            self._records.follow(data)
            if not data:
                _openssl.bio_end(self._into_ssl)
                return
            self._hello.feed(data)
            bio_write(self._into_ssl, data, len(data))

    def drain(self) -> _Arrival | None:
        """Send what OpenSSL has written; return None when the descriptor is OpenSSL's."""
        self.unsent += bio_drain(self._from_ssl)
        while self.unsent:
            try:
                sent = os.write(self._descriptor, self.unsent)
            except BlockingIOError:
                return self
            except OSError:
                if self.unsent[0] != _ALERT:
                    raise
                sent = len(self.unsent)  # OpenSSL knows what is wrong, and that says more
            self.unsent = self.unsent[sent:]
        if not self._hello.done:
            return self
        _openssl.use_descriptor(self._ssl, self._descriptor)
        return None


class Engine(abc.ABC):
    """One TLS connection; made by a ``PinnedSocket``, or by a context's hooks for ``ssl``.

    Args:
        pointer: the connection to drive.
        context: the context that made it.
        wrapping: what ``wrap_socket`` or ``wrap_bio`` was given.
        bios: what to move bytes between, if it is not OpenSSL that uses a descriptor.
        hello: what a client offers a server.
    """

    __slots__ = (
        "__weakref__",
        "_alerted",
        "_answer_due",
        "_asked",
        "_begun",
        "_bios",
        "_calling",
        "_closed",
        "_complete",
        "_context",
        "_cut_short",
        "_deferred",
        "_drained",
        "_hello",
        "_kept",
        "_lock",
        "_match",
        "_offered",
        "_override",
        "_owner",
        "_pins",
        "_refusal",
        "_reports",
        "_requested",
        "_shut_off",
        "_ssl",
        "_verdict",
        "_verification",
        "_writing",
        "callback_error",
        "certificates",
        "server_hostname",
        "server_side",
    )

    # Of the socket or object that the user has.
    _owner: weakref.ref[object] | None

    def __init__(
        self,
        pointer: SSLPointer,
        context: EngineContext,
        wrapping: Wrapping,
        bios: _BIOs | None,
        hello: HelloReader | None,
    ) -> None:
        self._ssl = pointer
        self._bios: _BIOs | _Arrival | None = bios
        self._hello = hello
        self._closed = False
        self._shut_off = False
        self._calling = False
        self._cut_short = False
        # The peer has given up.
        self._alerted = False
        self._context = context
        self._override = wrapping.override
        self.server_side = wrapping.server_side
        self.server_hostname = wrapping.server_hostname
        self.unlock()
        self._begun = False
        self._complete = False
        # The client is asked for its certificate after the handshake, if at all.
        self._deferred = False
        # A certificate was asked for after the handshake, and has not been judged yet.
        self._requested = False
        self._pins: PinSet | FirstUse | None = None
        # What has yet to be told, with its message; never in the middle of an OpenSSL call.
        self._reports: tuple[tuple[PinReport, str], ...] = ()
        self._verdict: Verdict | None = None
        self._match: PinMatch | None = None
        self._offered: PinnedSession | None = None
        # How to make the error that refused this connection.  Not the error: its traceback would
        # keep frames, and those this engine; and not a bound method, for the same reason.
        self._refusal: Callable[[Engine], OSError] | None = None
        self.callback_error: BaseException | None = None
        # As long as there is a verdict.
        self.certificates: _openssl.Certificates | None = None
        # What a read has found behind the bytes that it returned.
        self._kept: OSError | None = None
        # There was a request for a certificate: reads may have something to send first.
        self._asked = False
        # Of this moment: what a session stands for, whatever the context is told afterwards.
        self._verification = context._verification()
        # Something was written that may be answered, or there is a client whose first word is
        # waited for; and the last read has left nothing in OpenSSL, or there was none.
        self._answer_due = self._drained = bios is None and self.server_side
        if self.server_side:
            _openssl.set_accept_state(pointer)
        else:
            _openssl.set_connect_state(pointer)
            if self.server_hostname is not None:
                self._set_name(self.server_hostname)
        if wrapping.session is not None:
            self.session = wrapping.session
        _openssl.set_handler(pointer, self)  # from here on other threads come across it

    def unlock(self) -> None:
        """Make new locks: in a forked child, those that another thread held stay locked.

        It has to be able to close what it does not need.  A call that was under way there is so for
        ever (``_calling``), as OpenSSL's side of it is.
        """
        # Reentrant, so that a signal handler which uses or closes the connection between two
        # bytecodes of a locked section does not lock itself out.
        self._lock = threading.RLock()
        self._writing = threading.RLock()

    def _set_name(self, name: str) -> None:
        # As _ssl_configure_hostname() of _ssl.c: an IP address is no server name (RFC 6066 section
        # 3), and is looked for among the certificate's addresses.
        host, packed = _read_name(name)
        _, check = self._verification
        if packed is None:
            _openssl.ask_for_host(self._ssl, host)
            taken = not check or _openssl.check_host(self._ssl, host)
        else:
            taken = not check or _openssl.check_ip(self._ssl, packed)
        if not taken:
            raise ValueError(
                f"{name!r} is not a host name that OpenSSL can check: pass the name in the "
                "server's certificate as server_hostname"
            )

    # The loop ------------------------------------------------------------------------------------

    def _run(
        self,
        call: Callable[..., int],
        memory: Memory | bytes | None,
        size: int,
        what: str,
        deadline: float | None = None,
    ) -> int:
        """Make an OpenSSL call until it is done, and return what it returned.

        Args:
            call: the function; it is given the SSL pointer, ``memory`` and ``size``.
            memory, size: the same each time.
            what: the operation's name, for the message of a ``TimeoutError``.
            deadline: when that is due, if the operation has begun to wait before.

        Returns:
            The positive result, or 0 for an orderly end of the stream.

        Raises:
            ssl.SSLWantReadError, ssl.SSLWantWriteError: the transport does not wait.
            TimeoutError: the socket's timeout is over.
            OSError: the call failed; as :mod:`ssl` would raise it.
        """
        failure: OSError | None = None
        waited = False
        while True:
            with self._lock:
                bios = self._bios
                if self._closed:
                    raise self._interrupted(what) if waited else _gone()
                if self._calling:
                    raise _entered_again()
                self._calling = True
                try:
                    if bios is not None:
                        bios.feed()
                    result = call(self._ssl, memory, size)
                    if self._closed:
                        # By a callback.  The descriptor's number may be another file's by now.
                        raise self._interrupted(what)
                    if result > 0:
                        if bios is not None:
                            self._bios = bios.drain()
                        if self.callback_error is not None and self._complete:
                            self._raise_callback_error()
                        if not self._requested:
                            return result
                        break
                    waiting = ERROR_WANT_READ
                    if call is ssl_write:
                        waiting = ERROR_WANT_WRITE
                    elif call is _shake_hands or call is _shut_down:
                        waiting = 0
                    cause = why(self._ssl, result, waiting)
                    code = cause.code
                    if bios is not None:
                        self._bios = bios.drain()  # an alert, for instance
                        if bios.unsent:
                            code = ERROR_WANT_WRITE
                    if self.callback_error is not None and self._complete:
                        self._raise_callback_error()
                    if code == ERROR_WANT_READ or code == ERROR_WANT_WRITE:
                        pass
                    elif (
                        code == ERROR_ZERO_RETURN
                        and call is not _shake_hands  # that has failed, if told goodbye
                        and what == "read"
                        and not self._alerted  # OpenSSL 3 takes an alert for a goodbye, too
                        and _openssl.received_shutdown_only(self._ssl)
                    ):
                        return 0
                    else:
                        failure = self._failure(cause)
                        break
                finally:
                    self._calling = False
            deadline = self._wait(code, deadline, what)
            waited = True
        self._settle()
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # its traceback holds this frame
        return result

    def _await_answer(self, what: str) -> float | None:
        """Wait before OpenSSL is asked for the answer to what was written; return the deadline.

        The answer is not there yet, as a rule: OpenSSL would be asked for it in vain.  But if a
        read has left something behind it is not the network that is to be waited for.  (A round
        trip of 100 bytes: 6 % less CPU time.)
        """
        deadline: float | None = None
        if self._drained and not self._asked and not self._closed:
            deadline = self._wait(ERROR_WANT_READ, None, what, asked=False)
            if self._closed:
                raise self._interrupted(what)
        self._answer_due = False
        return deadline

    def _interrupted(self, what: str) -> OSError:
        """The error of an operation that another thread has put an end to, as ``ssl`` has it."""
        if not self._shut_off:
            return OSError(EBADF, os.strerror(EBADF))
        if what == "write":
            return OSError(EPIPE, os.strerror(EPIPE))  # becomes a BrokenPipeError
        return translate(Cause(ERROR_SYSCALL))

    def _failure(self, cause: Cause) -> OSError:
        if self._alerted and cause.code == ERROR_ZERO_RETURN:
            cause = Cause(ERROR_SSL)
        error = translate(cause)
        self._alerted = self._alerted or getattr(error, "reason", None) in ALERT_REASONS
        if isinstance(error, ssl.SSLEOFError):
            self._cut_short = True
        elif self._cut_short and getattr(error, "reason", error) is None:
            # OpenSSL says why once, and then only that it has failed; ssl says it every time.
            return translate(Cause(ERROR_SYSCALL))
        return self._explain(error) if self._requested else error

    @abc.abstractmethod
    def _wait(
        self, code: int, deadline: float | None, what: str, *, asked: bool = True
    ) -> float | None:
        """Wait, without the lock, for what OpenSSL wants; return the deadline of the call.

        Args:
            asked: OpenSSL has said so; else it has yet to be asked, if there is no waiting here.
        """

    # The handshake -------------------------------------------------------------------------------

    def do_handshake(self, what: str = "handshake") -> None:
        """Shake hands; returns when the peer's chain has been checked against the pins.

        Args:
            what: the operation that it is for, for the message of a ``TimeoutError``.

        Raises:
            PinMismatchError: the chain was verified, and matches no pin.
            PinExpiredError: the pins have expired.
            UnpinnedPeerError: there are no pins for the peer.
            ssl.SSLCertVerificationError: the chain was not verified; as :mod:`ssl` raises it.
            OSError: the handshake failed otherwise; as :mod:`ssl` raises it.
        """
        try:
            # One thread at a time, or another one would wait for bytes that this one has read.
            with self._writing:
                if not self._complete:
                    self._shake(what)
        finally:
            self._tell()

    def _shake(self, what: str) -> None:
        self._begin()
        try:
            deadline = self._await_answer(what) if self._answer_due else None
            self._look_at_hello()
            self._run(_shake_hands, None, 0, what, deadline)
        except OSError as error:
            if not self.server_side and not isinstance(error, _INCOMPLETE):
                self._context._forget(self.server_hostname)
            raise self._explain(error) from None
        finally:
            self._raise_callback_error()
        with self._lock:
            self._conclude()
        if isinstance(self._pins, FirstUse):
            self._pins = self._record(self._pins)
        with self._lock:
            self._complete = True
            # A client resumes nothing but what it has offered: it need not ask.
            offered = self.server_side or self._offered is not None
            events = ["hits"] if offered and _openssl.resumed(self._ssl) else []
            verified = self._pins is not None or self._verification[0] != ssl.CERT_NONE
            group = ""
            if verified and not self.server_side:
                group = _openssl.group_name(self._ssl)
        if group:
            self._context._learn(self.server_hostname, group)
        self._context._count("accept_good" if self.server_side else "connect_good", *events)
        if self._pins is not None:
            matched = cast(Verdict, self._verdict).matched
            self._context._reporter.look_ahead(self._peer(), self._pins, matched)
            # What was judged OpenSSL has, too: 5 % of the memory of an idle connection.
            self._judge_by(None)

    def _look_at_hello(self) -> None:  # noqa: B027  # not abstract: BIOs are fed
        """Look at what a client says first, before OpenSSL reads it from a descriptor.

        The bindings do not tell which cipher suites a client has offered.
        """

    def _record(self, first: FirstUse) -> PinSet:
        """Record the key of a peer that was not known, which it has proved to own (rule 8)."""
        verdict, match = cast(Verdict, self._verdict), cast(PinMatch, self._match)
        self._match = None
        try:
            recorded = first.record(match.pin)
        except Exception as error:
            self._refusal = Engine._unchecked
            raise PinError(
                f"the key of {self._peer()} could not be recorded: {error!r}",
                server_hostname=self.server_hostname,
            ) from error
        # Somebody else may have met the peer in the meantime, and seen another key; or the file may
        # have been given pins for it, as for any other peer.
        known = self._unless_expired(recorded)
        if known is None:
            # For its key's sake the peer may have been forgiven what no unpinned one is.
            self._refusal = Engine._unchecked
            raise self._unchecked()
        verdict.hold_to(known)
        if verdict.mismatched:
            raise self._refuse_mismatch()
        self._match = verdict.match
        return known

    def _begin(self) -> None:
        """Act one: fix the pins, once."""
        with self._lock:
            if self._refusal is not None:
                raise self._refusal(self)
            if not self._begun:
                self._fix_pins(self._current_pins(self._context))
                self._begun = True
                self._context._count("accept" if self.server_side else "connect")

    def _current_pins(self, context: EngineContext) -> PinSet | FirstUse | None:
        """The pins for this peer, from ``context`` or from the wrap; raises if there have to be."""
        pins = self._look_up(context)
        return self._unless_expired(pins) if isinstance(pins, PinSet) else pins

    def _unless_expired(self, pins: PinSet) -> PinSet | None:
        """The pins; None if they have expired and are not looked at; raises if they have to be."""
        if not pins.expired(datetime.now(timezone.utc)):
            return pins
        expired = f"the pins for {self._peer()} expired at {pins.expires:%Y-%m-%d %H:%M} UTC"
        if pins.after_expiry != "unpin":
            message = f"{expired}: bring in new ones"
            self._report(pins, "expired", message, enforced=True)
            raise PinExpiredError(message, server_hostname=self.server_hostname)
        self._report(pins, "expired", f"{expired}: unpinned", enforced=False)
        return None

    def _fix_pins(self, pins: PinSet | FirstUse | None) -> None:
        if self._offered is not None and self._offered.binding.pins != pins:
            raise ValueError("Session refers to a different pin set.")
        self._pins = pins
        self._judge_by(pins)
        if pins is not None:
            self._deferred = self._later()
            if self._deferred and isinstance(pins, FirstUse):
                self._refusal = Engine._unchecked
                raise PinError(
                    "trust on first use needs the client's certificate in the handshake: switch "
                    "post_handshake_auth off",
                    server_hostname=self.server_hostname,
                )
            _openssl.verify_with_pins(self._ssl, post_handshake=self._deferred)
            if self.server_side:
                # On the connection, and not in the snapshot: this holds after a switch of contexts.
                _openssl.forbid_tickets(self._ssl)

    def _judge_by(self, pins: PinSet | FirstUse | None) -> None:
        """Begin with a new verdict; None: there is none to come."""
        self._verdict = None if pins is None else Verdict(pins)
        self.certificates = None if pins is None else _openssl.Certificates()

    def _later(self) -> bool:
        """Whether the client is asked for its certificate after the handshake, if ever."""
        return self.server_side and self._context.post_handshake_auth

    def _look_up(self, context: EngineContext) -> PinSet | FirstUse | None:
        source = context._pin_source() if self._override is None else self._override[0]
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
        # The type itself: isinstance believes what an object says of its class, as mocks do.
        if pins is not None and not issubclass(type(pins), (PinSet, FirstUse)):
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
        if self._verdict is not None:
            return self._verdict.event(depth, error, certificate)
        # Without pins OpenSSL's own answer stands.  (Events come all the same if the connection was
        # switched from a context with pins to one without: OpenSSL keeps the callback.)  With pins
        # there is a verdict, or there is nothing to be verified.
        return error if self._pins is None else error or CERT_REJECTED

    def _explain(self, error: OSError) -> OSError:
        """The error to raise for a handshake that ended with ``error``."""
        verdict = self._verdict
        if verdict is not None and verdict.mismatched and verdict.pins.enforce:
            if self._refusal is not Engine._mismatch:
                return self._refuse_mismatch()
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

    def _failed(self) -> OSError:
        return _openssl.make_error(
            ssl.SSLError, ssl.SSL_ERROR_SSL, "The handshake has failed: this connection is over."
        )

    def _unverified(self) -> OSError:
        with self._lock:
            code = _openssl.verify_result(self._ssl)
        return _openssl.verification_error(code, self.server_hostname)

    def _mismatch(self) -> OSError:
        verdict = cast(Verdict, self._verdict)
        pins = verdict.pins
        return PinMismatchError(
            self._peer(),
            positions=_describe(verdict.chain),
            expected={position: tuple(map(str, some)) for position, some in pins.positions.items()},
            server_hostname=self.server_hostname,
            first_seen=pins.first_seen if isinstance(pins, PinSet) else None,
        )

    def _refuse_mismatch(self) -> OSError:
        """Refuse for good, and have it told, once."""
        self._refusal = Engine._mismatch
        self._report_mismatch(
            f"refused: the certificate chain of {self._peer()} does not match its pins"
        )
        return self._mismatch()  # which has the details

    # What is told --------------------------------------------------------------------------------

    def _report_mismatch(self, message: str) -> None:
        verdict = cast(Verdict, self._verdict)
        if isinstance(verdict.pins, PinSet):  # what is learned at the first use has no pins
            self._report(verdict.pins, "mismatch", message, enforced=verdict.pins.enforce)

    def _report(
        self,
        pins: PinSet,
        reason: Literal["mismatch", "expired"],
        message: str,
        *,
        enforced: bool,
    ) -> None:
        """Have something told when the OpenSSL call that is under way has ended."""
        verified = () if self._verdict is None else self._verdict.chain
        with self._lock:
            sent = _openssl.unverified_chain(self._ssl, server_side=self.server_side)
        report = make_report(
            pins,
            reason=reason,
            enforced=enforced,
            server_side=self.server_side,
            host=self.server_hostname,
            address=self._address(),
            verified=verified,
            unverified=sent,
        )
        self._reports += ((report, message),)

    def _tell(self) -> None:
        while self._reports:
            (report, message), *rest = self._reports
            self._reports = tuple(rest)
            try:
                self._context._reporter.tell(report, message)
            except BaseException as error:
                # Audit hooks may put an end to things; also to a handshake that is complete.
                self._refusal = self._refusal or Engine._unchecked
                self._complete = False
                self._match = None
                if not isinstance(error, Exception):
                    raise
                raise PinError(
                    f"an audit hook refused {self._peer()}: {error!r}",
                    server_hostname=self.server_hostname,
                ) from error

    def _address(self) -> Address | None:
        """The peer's address, if it is known."""
        return None

    def _raise_callback_error(self) -> None:
        error, self.callback_error = self.callback_error, None
        if error is not None:
            self._refusal = Engine._unchecked
            try:
                raise error
            finally:
                del error  # its traceback holds this frame, and so the engine

    def _unchecked(self) -> OSError:
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
            if self._offered is not None and self._offered.binding.pins == self._pins:
                self._match = self._offered.binding.match
                return
        elif self._judged():
            return
        elif self._deferred and _openssl.version(self._ssl) == SSL.TLS1_3_VERSION:
            # That the client is not known yet is what the user has asked for.
            return
        self._refusal = Engine._unchecked
        raise self._unchecked()

    def _judged(self) -> bool:
        """Whether the peer's certificate has been accepted; if so, its match is reported."""
        verdict = self._verdict
        if (
            verdict is None
            or not verdict.accepted
            or self.certificates is None
            or _openssl.accepted_chain(self._ssl, self.certificates) != verdict.chain
        ):
            return False
        self._match = verdict.match
        if self._match is None:
            self._report_mismatch(f"report only: {self._mismatch()}")
        return True

    # After the handshake (TLS 1.3) ---------------------------------------------------------------

    def verify_client_post_handshake(self) -> None:
        """Ask the client for its certificate (RFC 8446 section 4.6.2).

        The answer is read, and judged by the pins, by the reads that follow.  Until ``pin_match``
        and ``getpeercert`` tell of it, the client is not known.

        Raises:
            PinExpiredError: the pins of the handshake have expired since.
        """
        if not self._complete:
            # No version has been agreed on; so says OpenSSL, too.
            raise _openssl.make_error(
                ssl.SSLError,
                _openssl.WRONG_SSL_VERSION,
                "wrong ssl version",
                library="SSL",
                reason="WRONG_SSL_VERSION",
            )
        with self._lock:
            if self._calling:
                raise _entered_again()
            pins = self._pins
            if isinstance(pins, PinSet):
                # Those of the handshake (rule 6); but who comes forward now is judged now.
                try:
                    pins = self._unless_expired(pins)
                finally:
                    self._tell()
            clear_errors()
            _openssl.request_certificate(self._ssl)
            self._asked = True
            self._pins = pins
            if pins is not None:
                self._requested = True
                self._judge_by(pins)
                self._match = None
                _openssl.verify_with_pins(self._ssl, post_handshake=True)
            else:
                self._judge_by(None)  # from here on, the ordinary checks decide
                self._match = None

    def _settle(self) -> None:
        """Take note of the answer, if it has come, and with the proof that the key is owned."""
        if self._requested:
            with self._lock:
                if not _openssl.in_handshake(self._ssl) and self._judged():
                    self._requested = False
                    self._judge_by(None)
        if self._reports and self._complete and not self._calling:
            self._tell()

    # Data ----------------------------------------------------------------------------------------

    def read(self, len: int = 1024, buffer: object = None) -> bytes | int:
        """Read up to ``len`` bytes; into ``buffer``, if given, and return their number then.

        Returns:
            The bytes, or their number; ``b""`` or 0 when the peer has said close_notify.
        """
        return self.read_bytes(len) if buffer is None else self.read_into(buffer, len)

    def read_bytes(self, length: int) -> bytes:
        """Read up to ``length`` bytes; ``b""`` when the peer has said close_notify."""
        if type(length) is not int:
            length = operator.index(length)
        if length <= 0:
            if length < 0:
                raise ValueError("size should not be negative")
            return b""
        if not self._complete:
            self.do_handshake("read")
        if self._kept is not None:
            self._raise_kept()
        if length > _MAX_RECORD:
            return self._read_run(length)
        deadline = self._await_answer("read") if self._answer_due else None
        self._drained = False  # until it is done
        try:
            scratch = _spare_records.pop()
        except IndexError:
            scratch = Scratch(_MAX_RECORD)
        try:
            size = self._run(ssl_read, scratch.memory, length, "read", deadline)
            self._drained = 0 < size < length
            return scratch.view[:size]
        finally:
            _spare_records.append(scratch)

    def _read_run(self, length: int) -> bytes:
        scratch = _scratch_for_runs()
        try:
            return scratch.view[: self._read(scratch.memory, min(length, _MAX_RUN))]
        finally:
            _spare_runs.append(scratch)

    def _read(self, memory: Memory, size: int) -> int:
        deadline = self._await_answer("read") if self._answer_due else None
        self._drained = False  # until it is done
        if size > _MAX_RECORD:
            return self._run(self._read_records, memory, size, "read", deadline)
        done = self._run(ssl_read, memory, size, "read", deadline)
        self._drained = 0 < done < size
        return done

    def _raise_kept(self) -> None:
        error, self._kept = self._kept, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # its traceback holds this frame, and so the engine

    def _read_records(self, pointer: SSLPointer, memory: Memory, size: int) -> int:
        """Read one record, and if it is a full one those behind it that are there already.

        With the results of an ordinary call.  What goes wrong behind the first is kept for the
        next read, as OpenSSL says it once.  A record that is not full ends what the peer had to
        say, as a rule, and to look behind it would cost a system call.  (Downloads, by 1 MiB at a
        time: 15 % less CPU time than one record at a time.)
        """
        done = result = ssl_read(pointer, memory, size)
        while result == _MAX_RECORD and done < size:
            result = ssl_read(pointer, further(memory, done), size - done)
            if result <= 0:
                cause = why(pointer, result, ERROR_WANT_READ)
                if cause.code not in _PASSING:
                    self._kept = self._failure(cause)
                return done
            done += result
        self._drained = 0 < result < _MAX_RECORD and done < size
        return done

    def read_into(self, buffer: object, length: int) -> int:
        """Read up to ``length`` bytes into ``buffer``, or as many as it holds if 0; their number.

        It is 0 when the peer has said close_notify.
        """
        try:
            memory = borrow(buffer, writable=True)
        except BufferError:
            kind = type(buffer).__name__
            raise TypeError(
                f"read() argument 2 must be read-write bytes-like object, not {kind}"
            ) from None
        try:
            size = size_of(memory)
            length = operator.index(length)
            if not 0 < length <= size:
                length = size
            if length == 0:
                return 0
            if not self._complete:
                self.do_handshake("read")
            self._raise_kept()
            length = min(length, MAX_WRITE)
            return self._read(memory, length)
        finally:
            give_back(memory)

    def write(self, data: object) -> int:
        """Write ``data``, all of it up to 1 GiB, and return the number of bytes written."""
        # cffi takes bytes as they are; and a subclass may say that they are more.
        if type(data) is bytes:
            return self.write_bytes(data, len(data))
        memory = borrow(data)
        try:
            return self.write_bytes(memory, size_of(memory))
        finally:
            give_back(memory)

    def write_bytes(self, memory: Memory | bytes, size: int) -> int:
        """Write ``size`` bytes, or 1 GiB of them; return the number of bytes written."""
        if not self._complete:
            self.do_handshake("write")
        if size == 0:
            return 0  # SSL_write of nothing is undefined (its man page)
        with self._writing:
            if size < _LONG_WRITE:
                written = self._run(ssl_write, memory, size, "write")
            else:
                written = self._write_much(memory, min(size, MAX_WRITE))
            self._answer_due = True
            return written

    def _write_much(self, memory: Memory | bytes, size: int) -> int:
        return self._run(ssl_write, memory, size, "write")

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
            self._answer_due = False
            self._run(_shut_down, None, 0, "read")
        return None

    # What there is to know -----------------------------------------------------------------------

    @property
    def owner(self) -> object:
        """The socket or object that the user has; None when it is gone."""
        return self._owner() if self._owner is not None else None

    @property
    def outdated(self) -> bool:
        """Whether it is open, and a handshake that begins now would be held to other pins."""
        if not self._complete or self._closed or self.owner is None:
            return False
        if not isinstance(self._pins, PinSet):
            return False
        try:
            pins = self._look_up(self._context)
        except PinError:
            return True
        return pins != self._pins or self._pins.expired(datetime.now(timezone.utc))

    @property
    def begun(self) -> bool:
        """Whether the handshake has begun."""
        return self._begun

    @property
    def pin_match(self) -> PinMatch | None:
        """Where the chain matched; None before the handshake's end (rule 8)."""
        self._settle()
        return self._match

    @property
    def context(self) -> EngineContext:
        """The context in use; it can be switched while a server reads the client's name."""
        return self._context

    @context.setter
    def context(self, context: EngineContext) -> None:
        check_context(context)
        with self._lock:
            try:
                self._switch(context)
            except BaseException:
                # The caller may go on as if nothing had happened.  The handshake does not.
                self._refusal = Engine._unchecked
                raise

    def _switch(self, context: EngineContext) -> None:
        if self._refusal is not None:
            # It stays refused, and for the reason that it was.
            self._context = context
            return
        offered = None if self._complete else self._offered
        if offered is not None and offered.binding.context is not context:
            raise ValueError("Session refers to a different SSLContext.")
        source = context._pin_source() if self._override is None else self._override[0]
        snapshot = context._snapshot(pinned=source is not None)
        pins = self._current_pins(context) if self._begun and not self._complete else None
        _openssl.switch_context(self._ssl, snapshot)
        self._context = context
        if self._complete:
            return  # judged already, and nothing is verified any more
        self._verification = context._verification()
        _openssl.verify_without_pins(
            self._ssl, context.verify_mode, post_handshake=self._later()
        )
        _openssl.add_verify_flags(self._ssl, context.verify_flags, context._host_flags)
        if not self.server_side and self.server_hostname is not None:
            self._set_name(self.server_hostname)
        if self._begun:
            self._fix_pins(pins)

    def on_servername(self, name: bytes | None) -> int | None:
        """Called by OpenSSL, inside the handshake call, with the name that a client asked for."""
        answer = self._context._on_servername(self.owner, name)
        if self._context.verify_mode != ssl.CERT_NONE and self._resumes_another(name):
            self._refusal = Engine._unchecked
        return answer if self._refusal is None else HANDSHAKE_FAILURE

    def _resumes_another(self, name: bytes | None) -> bool:
        """Whether the session that is resumed is of a client that asked for another name.

        Another context may have verified that client, or none: for OpenSSL they are one server,
        whose sessions all have the name of the first context (RFC 6066 section 3: "the server MUST
        NOT accept the request to resume the session").  It is too late to shake hands in full.
        """
        if not _openssl.resumed(self._ssl):
            return False
        session = _openssl.get_session(self._ssl)
        return session is None or name_asked_for(session) != name

    # The others of the user's callbacks: called by OpenSSL, inside any call.

    def on_message(self, sent: bool, version: int, content_type: int, data: bytes) -> None:
        """Called with each protocol message, if the context has a use for it."""
        self._context._on_message(self.owner, sent, version, content_type, data)

    def on_protocols(self, offered: Collection[bytes]) -> bytes | None:
        """Called by servers, with the application protocols that a client offers."""
        return self._context._choose_protocol(offered)

    def on_secret(self, line: bytes) -> None:
        """Called with each secret of the handshake, if the context logs them."""
        self._context._log_secret(line)

    def on_psk_client(self, hint: bytes | None) -> tuple[bytes, bytes]:
        """Called by clients of contexts with pre-shared keys."""
        return self._context._on_psk_client(hint)

    def on_psk_server(self, identity: bytes | None) -> bytes:
        """Called by servers of contexts with pre-shared keys."""
        return self._context._on_psk_server(identity)

    def _binding(self) -> Binding:
        return Binding(
            self._context, self.server_hostname, self._pins, self._match, self._verification
        )

    @property
    def session(self) -> PinnedSession | None:
        """The session, for another connection to resume; None before the handshake's end."""
        if not self._complete:
            return self._offered
        with self._lock:
            der = _openssl.get_session(self._ssl)
            return None if der is None else PinnedSession(der, self._binding())

    @session.setter
    def session(self, session: PinnedSession) -> None:
        check_session(session)
        with self._lock:
            made, here = session.binding, self._binding()
            if made.context is not here.context:
                raise ValueError("Session refers to a different SSLContext.")
            if self.server_side:
                raise ValueError("Cannot set session for server-side SSLSocket.")
            if self._begun:
                raise ValueError("Cannot set session after handshake.")
            if made.server_hostname != here.server_hostname:
                raise ValueError("Session refers to a different server_hostname.")
            if made.verification != here.verification:
                raise ValueError("Session refers to a different verify_mode or check_hostname.")
            _openssl.set_session(self._ssl, session.der)
            self._offered = session

    @property
    def session_reused(self) -> bool:
        """Whether the handshake resumed a session."""
        with self._lock:
            return _openssl.resumed(self._ssl)

    def _unknown(self) -> bool:
        """Whether a client with pins has yet to prove, after the handshake, who it is."""
        return self._requested

    def getpeercert(self, binary_form: bool = False) -> object:
        """The peer's leaf: a dictionary, empty if it was not verified, or DER."""
        if not self._complete:
            raise ValueError("handshake not done yet")
        self._settle()
        with self._lock:
            der = None if self._unknown() else _openssl.peer_certificate(self._ssl)
        if der is None or binary_form:
            return der
        if self._pins is None and self._context.verify_mode == ssl.CERT_NONE:
            return {}
        return _peercert(der)

    def get_verified_chain(self) -> list[_Certificate] | None:
        """The path that was verified, leaf first; what was sent, if nothing was verified."""
        if self._pins is None and self._context.verify_mode == ssl.CERT_NONE:
            return self.get_unverified_chain()
        self._settle()
        with self._lock:
            chain = [] if self._unknown() else _openssl.verified_chain(self._ssl)
        return [_Certificate(der) for der in chain] or None

    def get_unverified_chain(self) -> list[_Certificate] | None:
        """What the peer sent, leaf first."""
        with self._lock:
            chain = _openssl.unverified_chain(self._ssl, server_side=self.server_side)
        return [_Certificate(der) for der in chain] or None

    def selected_alpn_protocol(self) -> str | None:
        """The protocol that ALPN agreed on."""
        with self._lock:
            return _openssl.View(self._ssl).get_alpn_proto_negotiated().decode("ascii") or None

    def cipher(self) -> tuple[str, str, int] | None:
        """``(name, protocol version, secret bits)`` of the cipher suite."""
        with self._lock:
            view = _openssl.View(self._ssl)
            name = view.get_cipher_name()
            version = view.get_cipher_version()
            bits = view.get_cipher_bits()
        if name is None or version is None or bits is None:
            return None
        return name, version, bits

    def version(self) -> str | None:
        """The protocol version, such as ``"TLSv1.3"``; None before the handshake's end."""
        if not self._complete:
            return None
        with self._lock:
            return _openssl.View(self._ssl).get_protocol_version_name()

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
        """Those of a server's cipher suites that the client offered; None for clients."""
        hello = None if self._hello is None else self._hello.hello
        if hello is None:
            return None
        with self._lock:
            return _openssl.shared_ciphers(self._ssl, hello.ciphers)

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

    def get_channel_binding(self, cb_type: str = "tls-unique") -> bytes | None:
        """Channel binding data; None before the handshake's end.

        Args:
            cb_type: ``"tls-unique"``, ``"tls-server-end-point"`` (RFC 5929) or ``"tls-exporter"``
                (RFC 9266).

        Raises:
            ValueError: another type, or one that is not defined for the server's certificate.
        """
        if cb_type not in CHANNEL_BINDING_TYPES:
            raise ValueError(f"{cb_type!r} channel binding type not implemented")
        if not self._complete:
            return None
        if cb_type == "tls-exporter":
            return self.export_keying_material(b"EXPORTER-Channel-Binding", 32, b"")
        with self._lock:
            if cb_type == "tls-server-end-point":
                return self._end_point()
            # The first Finished message: the client's in a full handshake, the server's in a
            # resumed one (RFC 5929 section 3.1).
            if _openssl.resumed(self._ssl) ^ (not self.server_side):
                return _openssl.View(self._ssl).get_finished()
            return _openssl.View(self._ssl).get_peer_finished()

    def _end_point(self) -> bytes | None:
        """The hash of the server's certificate (RFC 5929 section 4.1)."""
        if self.server_side:
            certificate = _openssl.own_certificate(self._ssl)
        else:
            certificate = _openssl.peer_certificate(self._ssl)
        if certificate is None:  # with a pre-shared key
            return None
        algorithm = _chain.end_point_hash(certificate)
        if algorithm is None:
            raise ValueError(
                "tls-server-end-point is not defined for the signature of this certificate "
                "(RFC 5929 section 4.1): use tls-exporter"
            )
        return new(algorithm, certificate).digest()

    def export_keying_material(
        self, label: bytes, length: int, context: bytes | None = None
    ) -> bytes:
        """Key material that both ends derive and nobody else can (RFC 5705, RFC 8446 7.5).

        Args:
            label: what it is for; registered labels are in the TLS Exporter Labels registry.
            length: the number of bytes wanted.
            context: application context; None and ``b""`` differ under TLS 1.2.

        Raises:
            ValueError: the handshake is not complete, or the length is negative.
            ssl.SSLError: OpenSSL refuses the label or the length.
        """
        if length < 0:
            raise ValueError(f"length is a number of bytes, and not negative: {length}")
        if not self._complete:
            raise ValueError("handshake not done yet")
        with self._lock:
            return _openssl.export_keying_material(self._ssl, label, length, context)


class _SocketReference(weakref.ref[socket.socket]):
    """A reference to an engine's socket.

    Attributes:
        key: the engine's ``SSL *``.
    """

    __slots__ = ("key",)

    key: SSLPointer


def _forget_descriptor(reference: weakref.ref[socket.socket]) -> None:
    """Called when a socket is gone that nobody has closed, and its descriptor with it."""
    engine = _openssl.handler_of(cast(_SocketReference, reference).key)
    if engine is not None:  # it was made to the end
        cast(SocketEngine, engine).lose_descriptor()


class SocketEngine(Engine):
    """An engine on a socket's file descriptor."""

    __slots__ = ("_corked", "_looked", "_socket")

    def __init__(
        self,
        sock: socket.socket,
        snapshot: SSL.Context,
        context: EngineContext,
        wrapping: Wrapping,
    ) -> None:
        self._corked = False
        self._looked = False
        pointer = _openssl.new_connection(snapshot)
        _openssl.use_descriptor(pointer, sock.fileno())
        # Held weakly: the socket holds this engine, and must go when its user lets go of it.
        self._socket = _SocketReference(sock, _forget_descriptor)
        self._socket.key = pointer
        self._owner = cast("weakref.ref[object]", self._socket)
        hello = HelloReader() if wrapping.server_side else None
        super().__init__(pointer, context, wrapping, None, hello)

    def _look_at_hello(self) -> None:
        hello = self._hello
        if hello is None or self._looked:
            return
        sock = self._socket()
        if sock is None or self._closed:
            return
        # Without the lock: if the socket has a timeout recv() would wait, if there were nothing.
        if not hello.read_whole(_peek(sock)):
            with self._lock:
                self._bios = _Arrival(self._ssl, sock.fileno(), hello)
        self._looked = True

    def _address(self) -> Address | None:
        sock = self._socket()
        try:
            return None if sock is None else cast("Address", sock.getpeername())
        except OSError:
            return None

    def do_handshake(self, what: str = "handshake") -> None:
        """Shake hands, the descriptor in non-blocking mode from here on."""
        if not self.begun:
            self.keep_nonblocking()
        try:
            super().do_handshake(what)
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

    def close(self, *, shut_off: bool = False) -> None:
        """Forget the descriptor: its number may belong to another file from now on.

        Args:
            shut_off: it is still open, but there is no more to come.
        """
        with self._lock:
            self._uncork()
            self._shut_off = shut_off
            self._closed = True
            if isinstance(self._bios, _Arrival):
                self._bios.let_go()
            elif self._calling:
                # By a callback, or a signal handler that interrupts one.  OpenSSL goes on when it
                # returns, with an alert for instance: into the void.
                _openssl.use_memory(self._ssl)

    def lose_descriptor(self) -> None:
        """As ``close``, from a garbage collection: that waits for nobody."""
        self._closed = True

    def _wait(
        self, code: int, deadline: float | None, what: str, *, asked: bool = True
    ) -> float | None:
        sock = self._socket()
        if sock is None:
            raise _gone()
        descriptor = sock.fileno()
        if descriptor < 0:
            raise self._interrupted(what)
        timeout = sock.gettimeout()
        remaining: float | None = None
        if timeout is not None:
            if timeout == 0:
                if not asked:
                    return None
                raise translate(Cause(code))
            now = time.monotonic()
            deadline = now + timeout if deadline is None else deadline
            remaining = (deadline - now) * 1000
        event = select.POLLIN
        if code == ERROR_WANT_WRITE:
            event = select.POLLOUT
            # A buffer that is smaller than a segment would not get empty.
            self._uncork()
        poll = select.poll()
        poll.register(descriptor, event)
        if (remaining is not None and remaining <= 0) or not poll.poll(remaining):
            raise TimeoutError(f"The {what} operation timed out")
        return deadline

    def _write_much(self, memory: Memory | bytes, size: int) -> int:
        """Write several records, and have the kernel send them together (``TCP_CORK`` of tcp(7)).

        Each is a system call of its own, and would go through the network stack alone, or wait for
        the peer to acknowledge the one before it (RFC 896).  (Uploads by 1 MiB at a time: 20 % less
        CPU time.)
        """
        try:
            self._cork()
            return super()._write_much(memory, size)
        finally:
            self._uncork()

    def _cork(self) -> None:
        sock = self._socket()
        # There are sockets that are not TCP's, and systems that are not Linux; and who has done so
        # himself has his reasons to end it later.
        with contextlib.suppress(OSError):
            if sock is not None and not sock.getsockopt(socket.IPPROTO_TCP, _TCP_CORK):
                self._corked = True
                sock.setsockopt(socket.IPPROTO_TCP, _TCP_CORK, 1)

    def _uncork(self) -> None:
        sock = self._socket()
        if self._corked and sock is not None:
            self._corked = False
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, _TCP_CORK, 0)

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
        context: EngineContext,
        wrapping: Wrapping,
    ) -> None:
        pointer = _openssl.new_connection(snapshot)
        hello = HelloReader() if wrapping.server_side else None
        bios = _BIOs(incoming, outgoing, pointer, hello)
        self._owner = None if wrapping.owner is None else weakref.ref(wrapping.owner)
        super().__init__(pointer, context, wrapping, bios, hello)

    def _wait(
        self, code: int, deadline: float | None, what: str, *, asked: bool = True
    ) -> float | None:
        if not asked or (code == ERROR_WANT_READ and self._bios.incoming.pending):
            return deadline
        raise translate(Cause(code))

    def shutdown(self) -> object:
        """Say close_notify, and wait for the peer's."""
        self._bios.sparing = True
        super().shutdown()
        with self._lock:
            self._bios.give_back()
        return None
