"""``PinnedContext``: an ``ssl.SSLContext`` that checks pins during the handshake.

Theory of operation
===================

A :class:`PinnedContext` *is* an ``ssl.SSLContext``: its base class goes on holding the settings,
checks what it is given and raises its own errors.  Two hooks of CPython's make the object that does
the TLS, ``_wrap_socket`` and ``_wrap_bio``; they are overridden to make an
:class:`~pinsock._engine.Engine` on a pyOpenSSL context.  That context is the *snapshot*: compiled
from the settings when a connection is made, and used again until a setting changes.

Settings that the base class can tell are read from it at each wrap and compared (a handful of
integers).  What it cannot tell (keys, ciphers, ALPN, ...) is recorded as it passes through the
setters, and counted.  The trust store is one ``X509_STORE`` beside the snapshots: it can be added
to while it is in use, as with ``ssl``.

The interpreter's OpenSSL never sees the network.  Its copy of this context has the keys, but no
connection is ever made from it.

The rules kept here (DESIGN section 5): 6 (one snapshot for each connection), 7 (a server that pins
its clients issues no tickets and keeps no cache; renegotiation is off), 9 (pins cannot be weakened
from outside), 10 (mirror it or refuse it).

The base class is bound once, here, and never looked up in :mod:`ssl` again: a module that replaces
the global ``ssl.SSLContext`` by this class would otherwise make it its own base.
"""

from __future__ import annotations

import _ssl
import contextlib
import enum
import functools
import operator
import os
import socket
import ssl
import stat
import sys
import threading
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import timedelta
from types import EllipsisType
from typing import TYPE_CHECKING, NamedTuple, SupportsIndex, TypeGuard, TypeVar, Union, cast

from OpenSSL import SSL

from pinsock import _openssl
from pinsock._engine import (
    HANDSHAKE_FAILURE,
    Engine,
    MemoryEngine,
    PinSource,
    SocketEngine,
    Wrapping,
)
from pinsock._groups import Taken, sharing
from pinsock._hosts import HostPins
from pinsock._pins import PinSet, PinsLike
from pinsock._reports import WARNING, PinReport, Reporter, Unraisable, log
from pinsock._session import PinnedSession
from pinsock._socket import PinnedObject, PinnedSocket, given_to

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, StrOrBytesPath
    from typing_extensions import Self

__all__ = ["PinnedContext", "PinsSpec", "create_connection", "create_default_context"]

#: What the ``pins`` of a context may be.
PinsSpec = Union[
    None,
    PinSet,
    HostPins,
    PinsLike,
    Mapping[str, Union[PinSet, PinsLike]],
    Callable[["str | None"], "PinSet | None"],
]

_SSLContext = ssl.SSLContext


# The C class below it.
_NativeContext = _SSLContext.__mro__[1]


def _native_setting(name: str) -> property:
    """A property with the getter of ``ssl.SSLContext`` and the setter of the C class below.

    The setters of ssl.py look up the C class by way of the global name ``SSLContext``.  Where a
    module has put this class in its place they would find themselves, for ever.
    """
    ours: property = vars(_SSLContext)[name]
    return property(ours.fget, vars(_NativeContext)[name].__set__, None, ours.__doc__)


def _is_ascii_name(hostname: str | bytes) -> TypeGuard[str]:
    if not isinstance(hostname, str) or not hostname.isascii():
        return False
    *labels, last = hostname.split(".")
    return len(last) < 64 and all(0 < len(label) < 64 for label in labels)


def _encode(hostname: str | bytes) -> str:
    """What ssl makes of a ``server_hostname``: its A-labels."""
    encode: Callable[..., str] = vars(_SSLContext)["_encode_hostname"]
    # An ASCII name stays as it is.  The codec takes a millisecond to import.
    encoded = hostname if _is_ascii_name(hostname) else encode(None, hostname)
    if "\0" in encoded:
        # In the words of _ssl.c's argument parser.
        raise TypeError("argument must be encoded string without null bytes, not str")
    return encoded


_encoded = functools.lru_cache(maxsize=256)(_encode)


class _Unset:
    """The type of "no pins were given", where None means "no pinning"."""


_UNSET = _Unset()
_PinsArgument = Union[PinsSpec, _Unset]
_Wrapped = TypeVar("_Wrapped", PinnedSocket, PinnedObject)
_Path = TypeVar("_Path", bound="StrOrBytesPath | None")


def _normalise(pins: PinsSpec) -> PinSet | HostPins | PinSource | None:
    """Bring what ``pins`` may be to one of: None, a PinSet, a callable."""
    if pins is None or isinstance(pins, (PinSet, HostPins)):
        return pins
    if isinstance(pins, Mapping):
        return HostPins(pins)
    if callable(pins):
        return pins
    return PinSet(pins)


def _source(pins: PinSet | PinSource | None) -> PinSource | None:
    """The callable that a handshake asks for its pins; None for no pinning."""
    if isinstance(pins, PinSet):
        fixed = pins
        return lambda _server_hostname: fixed
    return pins


@functools.lru_cache(maxsize=32)
def _pinned(cls: type[_Wrapped], ours: type[_Wrapped]) -> type[_Wrapped]:
    """The class to make a connection of, where the user has named ``cls``: one of ours, too.

    Only ours carry pins to the handshake, keep the descriptor from blocking, and never fall back
    to clear text.
    """
    if issubclass(cls, ours):
        return cls
    if issubclass(ours, cls):
        return ours
    return type(cls.__name__, (cls, ours), {"__module__": cls.__module__, "__doc__": cls.__doc__})


def _creating(cls: type[_Wrapped], pins: _PinsArgument) -> Callable[..., _Wrapped]:
    """What makes a connection of a class, with the pins of a wrap if there are any."""
    create: Callable[..., _Wrapped] = cls._create
    if isinstance(pins, _Unset):
        return create
    if getattr(create, "__func__", None) not in _CREATE:
        raise TypeError(
            f"{cls.__name__} has a _create() of its own, and pins= might not get through it: "
            "give the pins to the context"
        )
    return functools.partial(create, pins=(_source(_normalise(pins)),))


_CREATE = (PinnedSocket._create.__func__, PinnedObject._create.__func__)  # type: ignore[attr-defined]  # methods


#: Private names of the standard library that the package relies on, by owner; the test of this
#: table is the tripwire that tells which of them a new Python has moved.
PRIVATE_NAMES: dict[object, tuple[str, ...]] = {
    _SSLContext: (
        "_encode_hostname",
        "_host_flags",
        "_set_alpn_protocols",
        "_wrap_bio",
        "_wrap_socket",
    ),
    ssl.SSLSocket: ("_create", "_real_close"),
    ssl.SSLObject: ("_create",),
    ssl: ("_TLSAlertType", "_TLSContentType", "_TLSMessageType"),
    _ssl: ("_DEFAULT_CIPHERS",),
}

_DEFAULT_CIPHERS: str = _ssl._DEFAULT_CIPHERS
# Suites without a certificate call no verify callback, even under CERT_REQUIRED: where there are
# pins they are not offered.  (A handshake that came to use one all the same is refused at its end.)
_NO_UNCHECKED_CIPHERS = ":!aNULL:!PSK"


class _Settings(NamedTuple):
    """What a snapshot depends on and the base class can tell, all of one moment."""

    options: int
    verify_mode: int
    verify_flags: int
    host_flags: int
    security_level: int
    minimum_version: int
    maximum_version: int
    num_tickets: int
    post_handshake_auth: bool
    keylog_filename: str | None


# Those of the C class, which give numbers: ssl.py's make a member of an enum of each, and this is
# read for every connection.
_READERS: tuple[Callable[[ssl.SSLContext], object], ...] = tuple(
    vars(_NativeContext)["_host_flags" if name == "host_flags" else name].__get__
    for name in _Settings._fields
)


_protocol_of: Callable[[ssl.SSLContext], int] = vars(_NativeContext)["protocol"].__get__
_verify_mode_of: Callable[[ssl.SSLContext], int] = vars(_NativeContext)["verify_mode"].__get__
_check_hostname_of: Callable[[ssl.SSLContext], bool] = vars(_NativeContext)[
    "check_hostname"
].__get__


@functools.cache
def _pair(verify_mode: int, check_hostname: bool) -> tuple[int, bool]:
    """One object for all connections that have it."""
    return verify_mode, check_hostname


class _Identity(NamedTuple):
    """A certificate chain and its key, as load_cert_chain was given them."""

    chain: list[_openssl.X509Pointer]
    key: _openssl.KeyPointer


_METHODS: dict[int, int] = {
    ssl.PROTOCOL_TLS_CLIENT: SSL.TLS_CLIENT_METHOD,
    ssl.PROTOCOL_TLS_SERVER: SSL.TLS_SERVER_METHOD,
}
# The protocols (deprecated) that stand for one version.
_VERSIONS: dict[int, int] = {
    ssl.PROTOCOL_TLSv1: SSL.TLS1_VERSION,
    ssl.PROTOCOL_TLSv1_1: SSL.TLS1_1_VERSION,
    ssl.PROTOCOL_TLSv1_2: SSL.TLS1_2_VERSION,
}
_DEFAULT_TICKETS = 2
# What ssl.create_default_context adds to the flags of a new context.
_DEFAULT_VERIFY_FLAGS = (
    ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_STRICT
    if sys.version_info >= (3, 13)
    else ssl.VerifyFlags(0)
)

_HEADER, _CHANGE_CIPHER_SPEC, _ALERT = 256, 20, 21  # content types; the first is OpenSSL's own
_ContentType: type[enum.IntEnum] = vars(ssl)["_TLSContentType"]
_MessageType: type[enum.IntEnum] = vars(ssl)["_TLSMessageType"]
_AlertType: type[enum.IntEnum] = vars(ssl)["_TLSAlertType"]
# What ssl.SSLContext.session_stats() has.
_STATISTICS = (
    *("number", "connect", "connect_good", "connect_renegotiate", "accept", "accept_good"),
    *("accept_renegotiate", "hits", "misses", "timeouts", "cache_full"),
)

_INTERNAL_ERROR = 80  # an alert of RFC 8446 section 6
_MAX_PSK_HINT = 256  # PSK_MAX_IDENTITY_LEN of ssl.h: bytes
_NOTHING_TO_PIN = "TLS-PSK has no certificate: there is nothing to pin"
_UNVERIFIED = (
    "verify_mode is CERT_NONE on a context with pins: an unverified chain cannot be matched. For "
    'self-signed or private certificates say PinSet(..., trust="pins") and leave verify_mode at '
    "CERT_REQUIRED"
)
# What from_ssl_context asks a context for, and in this order.
_CARRIED_OVER = (
    *("check_hostname", "options", "minimum_version", "maximum_version", "verify_flags"),
    *("_host_flags", "num_tickets", "post_handshake_auth", "keylog_filename", "sni_callback"),
    *("_msg_callback", "sslsocket_class", "sslobject_class"),
)


class _KeyLogFile:
    """A file for the secrets of connections, in the NSS key log format."""

    def __init__(self, filename: StrOrBytesPath) -> None:
        # Each line is one write at the end: threads and processes share the file.
        self._descriptor = os.open(filename, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        # Not before the last writer is done: the number may then be another file's.
        weakref.finalize(self, os.close, self._descriptor)

    def write(self, line: bytes) -> None:
        # A disk that is full is no reason to refuse a connection.
        with contextlib.suppress(OSError):
            os.write(self._descriptor, line + b"\n")


class _DefaultCertificates:
    """The system's trusted certificates, parsed once in a process and when the file changes."""

    def __init__(self) -> None:
        self._unlock()
        self._key: tuple[object, ...] = ()
        self._certificates: list[_openssl.X509Pointer] | None = []

    def _unlock(self) -> None:
        self._lock = threading.RLock()  # as with _compiling

    def load(self, cafile: str) -> list[_openssl.X509Pointer] | None:
        """The certificates of the file; None if there is more in it, which OpenSSL has to read."""
        with self._lock:
            status = os.stat(cafile)
            key = (cafile, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
            if key != self._key:
                with open(cafile, "rb") as file:
                    data = file.read()
                certificates = _openssl.read_pem_certificates(data)
                # Those with settings of what they are trusted for, and revocation lists.
                more = data.count(b"-----BEGIN ") != len(certificates)
                self._certificates = None if more else certificates
                self._key = key
            return self._certificates


_default_certificates = _DefaultCertificates()
_contexts: weakref.WeakSet[PinnedContext] = weakref.WeakSet()


def _after_fork() -> None:
    """Free what other threads held when the process was forked: in the child they are no more."""
    _default_certificates._unlock()
    for context in _contexts:
        context._unlock()


os.register_at_fork(after_in_child=_after_fork)


class PinnedContext(_SSLContext):
    """An ``ssl.SSLContext`` whose connections check pins inside the TLS handshake.

    Everything that takes an ``ssl.SSLContext`` takes this.  A context with pins always demands and
    verifies the peer's certificate: clients', too, if it is used for a server.

    Args:
        protocol: as for ``ssl.SSLContext``; ``ssl.PROTOCOL_TLS_CLIENT`` by default.
        pins: who the peer must be: a :class:`PinSet`, or pins, for every peer; a :class:`HostPins`,
            or a mapping from host pattern to pins, by ``server_hostname``; a :class:`PinFile`; a
            :class:`TofuStore`; or any callable
            ``(server_hostname) -> PinSet | None``, asked once when a handshake begins (and not
            for sessions that are resumed within it).  ``None``, said explicitly, is no pinning.

    Raises:
        PinSyntaxError: a pin or a host pattern cannot be read.
        ValueError: an empty set of pins.
    """

    # Makes the layout of instances another than ssl.SSLContext's, so that nobody can turn one into
    # such a context by assigning __class__, and lose the pins.
    __slots__ = ("_pins", "_source")

    sslsocket_class = PinnedSocket
    sslobject_class = PinnedObject
    _host_flags: int

    def __new__(
        cls, protocol: int = ssl.PROTOCOL_TLS_CLIENT, *args: object, **kwargs: object
    ) -> Self:
        return _SSLContext.__new__(cls, protocol)

    def __init__(self, protocol: int = ssl.PROTOCOL_TLS_CLIENT, *, pins: PinsSpec) -> None:
        self._set_pins(pins)
        self._unlock()
        _contexts.add(self)
        # By whether it is for pins, and the group of its key share; of these settings and changes.
        self._compiled: dict[tuple[bool, str | None], SSL.Context] = {}
        self._compiled_from: tuple[list[object], int] = [], 0
        self._taken = Taken()
        self._changes = 0  # of what the base class cannot tell
        self._store = _openssl.Store()
        self._default_certs = False  # loaded by us, and not (yet) by the base class
        self._identities: dict[int, _Identity] = {}  # by type of key, as OpenSSL has them
        self._ciphers = _DEFAULT_CIPHERS
        self._ciphersuites: str | None = None
        self._signature_algorithms: str | None = None
        # Names this context's sessions: no other server may take them for its own.
        self._session_context = os.urandom(16)
        self._alpn: list[bytes] = []
        self._dh_parameters: bytes | None = None
        self._groups: str | None = None
        self._sni_callback: Callable[..., int | None] | None = None
        self._message_callback: Callable[..., object] | None = None
        self._key_log: _KeyLogFile | None = None
        self._psk_client: Callable[[str | None], tuple[str | None, bytes]] | None = None
        self._psk_server: Callable[[str | None], bytes] | None = None
        self._psk_hint = b""
        self._statistics = dict.fromkeys(_STATISTICS, 0)
        #: What tells of mismatches, for the engines.
        self._reporter = Reporter()
        if self._pins is not None:
            # A server that pins its clients asks for their certificates; and clients do anyway.
            self.verify_mode = ssl.CERT_REQUIRED

    @classmethod
    def from_ssl_context(
        cls,
        context: ssl.SSLContext,
        *,
        pins: PinsSpec,
        certfile: StrOrBytesPath | None = None,
        keyfile: StrOrBytesPath | None = None,
        password: _Password | None = None,
    ) -> Self:
        """Make a context with the settings of a plain ``ssl.SSLContext``, and pins.

        What the other tells is carried over, as it is now; it is not changed.  Application
        protocols and groups are read from the ClientHello that it writes, and those of a server
        found out by handshakes in memory, which its callbacks see.

        What it cannot tell, and nobody can find out, has to be said again: directories of
        authorities (``capath``) other than the system's; what certificates with trust settings
        (``openssl x509 -trustout``) are rejected for; callbacks for pre-shared keys, unless a
        client's ClientHello shows that there is one; and on a server application protocols that
        are not in IANA's registry, and without a certificate protocols and groups altogether, of
        which a warning is given.

        Args:
            context: the context.
            pins: as for :class:`PinnedContext`.
            certfile, keyfile, password: the certificate that it has loaded, if it has one, as for
                ``load_cert_chain``: an ``ssl.SSLContext`` does not give a key back.

        Raises:
            TypeError: ``context`` is a PinnedContext already, or no ``ssl.SSLContext``.
            ValueError: it has a certificate, and no ``certfile`` was given; ``verify_mode`` is
                ``CERT_NONE``, and there are pins; or it has something else that cannot be carried
                over.
            NotImplementedError: it has a setting that this OpenSSL cannot be told.
        """
        from pinsock._survey import survey  # few programs have a context to take over

        _check_plain(context)
        made = cls(context.protocol, pins=pins)
        if made._pins is not None and context.verify_mode == ssl.CERT_NONE:
            raise ValueError(_UNVERIFIED)
        found = survey(context, certificate_given=certfile is not None)
        if certfile is not None:
            made.load_cert_chain(certfile, keyfile, password)
        elif found.has_certificate:
            raise ValueError(
                "the context has a certificate, and an ssl.SSLContext does not give its key back: "
                "give both again, as certfile= and keyfile="
            )
        # In this order: check_hostname and CERT_NONE exclude each other.
        made.check_hostname = False
        made.verify_mode = context.verify_mode
        for name in _CARRIED_OVER:
            value = getattr(context, name)
            if value != getattr(made, name):
                setattr(made, name, value)
        for authority in found.authorities:
            made.load_verify_locations(cadata=authority)
        for directory in found.directories:
            made.load_verify_locations(capath=directory)
        if found.ciphers is not None:
            made.set_ciphers(found.ciphers)
        if found.ciphersuites is not None:
            made.set_ciphersuites(found.ciphersuites)
        if found.groups is not None:
            made.set_groups(found.groups)
        if found.alpn:
            made.set_alpn_protocols(found.alpn)
        made._snapshot(pinned=made._pins is not None)  # now, if it cannot be
        return made

    def _unlock(self) -> None:
        """Make new locks: in a forked child, those that another thread held stay locked."""
        # Reentrant, for a signal handler or a finalizer that wraps a socket in the middle of it.
        self._compiling = threading.RLock()
        self._counting = threading.RLock()

    # Pins ----------------------------------------------------------------------------------------

    @property
    def pins(self) -> PinSet | HostPins | PinSource | None:
        """The pins; setting them is atomic, and affects the handshakes that begin afterwards."""
        return self._pins

    @pins.setter
    def pins(self, pins: PinsSpec) -> None:
        self._set_pins(pins)

    def _set_pins(self, pins: PinsSpec) -> None:
        self._pins = _normalise(pins)
        self._source = _source(self._pins)

    def _pin_source(self) -> PinSource | None:
        """Return what a handshake that begins now asks for its pins; the engine calls this."""
        return self._source

    def connections(self) -> list[PinnedSocket | PinnedObject]:
        """Return the open pinned connections whose pins are no longer the current ones.

        Those are the connections that were made under other pins than the context has by now (or
        the pin source that they were wrapped with), or under pins that have expired by now.  New
        pins do not end them: close them, if they are to be made anew.
        """
        engines = [engine for engine in _openssl.handlers() if isinstance(engine, Engine)]
        owners = [engine.owner for engine in engines if engine.context is self and engine.outdated]
        return [owner for owner in owners if isinstance(owner, (PinnedSocket, PinnedObject))]

    # What is told of pins ------------------------------------------------------------------------

    @property
    def report_callback(self) -> Callable[[PinReport], object] | None:
        """Called with a :class:`PinReport` for every mismatch, and for expired pins.

        Also where pins are report only.  It is called when the handshake has ended, in the thread
        that made it, before the error is raised; it may make connections of its own, and while it
        does those are reported to no callback, whatever their context: they are logged.  What it
        raises is logged, and changes nothing.  It is not called for peers without pins, nor for
        failures that are no matter of pins.
        """
        return self._reporter.callback

    @report_callback.setter
    def report_callback(self, callback: Callable[[PinReport], object] | None) -> None:
        if callback is not None and not callable(callback):
            raise TypeError(f"report_callback is called with a PinReport: {callback!r} cannot be")
        self._reporter.callback = callback

    @property
    def pin_expiry_warning(self) -> timedelta | None:
        """How long before the end of pins a warning is logged, once a day; None: never."""
        return self._reporter.pin_expiry_warning

    @pin_expiry_warning.setter
    def pin_expiry_warning(self, before: timedelta | None) -> None:
        self._reporter.pin_expiry_warning = _warning_time("pin_expiry_warning", before)

    @property
    def certificate_expiry_warning(self) -> timedelta | None:
        """How long before the end of a matched certificate a warning is logged; None: never."""
        return self._reporter.certificate_expiry_warning

    @certificate_expiry_warning.setter
    def certificate_expiry_warning(self, before: timedelta | None) -> None:
        self._reporter.certificate_expiry_warning = _warning_time(
            "certificate_expiry_warning", before
        )

    def wrap_socket(  # type: ignore[override]  # `pins` is one argument more than ssl has
        self,
        sock: socket.socket,
        server_side: bool = False,
        do_handshake_on_connect: bool = True,
        suppress_ragged_eofs: bool = True,
        server_hostname: str | bytes | None = None,
        session: PinnedSession | None = None,
        *,
        pins: _PinsArgument = _UNSET,
    ) -> PinnedSocket:
        """Wrap a socket, as ``ssl.SSLContext.wrap_socket`` does.

        Args:
            pins: pins for this connection, in place of the context's.

        Raises:
            ValueError: there are pins, and ``verify_mode`` is ``CERT_NONE``.
            PinError, ssl.SSLError, OSError: the handshake failed.
        """
        cls = _pinned(self.sslsocket_class, PinnedSocket)
        create: Callable[..., PinnedSocket] = _creating(cls, pins)
        return create(
            sock=sock,
            server_side=server_side,
            do_handshake_on_connect=do_handshake_on_connect,
            suppress_ragged_eofs=suppress_ragged_eofs,
            server_hostname=server_hostname,
            context=self,
            session=session,
        )

    def wrap_bio(  # type: ignore[override]  # `pins` is one argument more than ssl has
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: PinnedSession | None = None,
        *,
        pins: _PinsArgument = _UNSET,
    ) -> PinnedObject:
        """Wrap a pair of ``ssl.MemoryBIO``, as ``ssl.SSLContext.wrap_bio`` does.

        Args:
            pins: pins for this connection, in place of the context's.

        Raises:
            ValueError: there are pins, and ``verify_mode`` is ``CERT_NONE``.
        """
        cls = _pinned(self.sslobject_class, PinnedObject)
        create: Callable[..., PinnedObject] = _creating(cls, pins)
        return create(
            incoming,
            outgoing,
            server_side=server_side,
            server_hostname=self._encode_hostname(server_hostname),
            session=session,
            context=self,
        )

    def _encode_hostname(self, hostname: str | bytes | None) -> str | None:
        if hostname is None:
            return None
        # What a program connects to, it connects to again.
        return _encoded(hostname) if type(hostname) is str else _encode(hostname)

    # The hooks -----------------------------------------------------------------------------------

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
        if not isinstance(sock, PinnedSocket):
            raise TypeError(f"a PinnedContext wraps a PinnedSocket, not {type(sock).__name__}")
        override = given_to(owner)
        if snapshot is None:  # by connect()
            snapshot = self._prepare(override, server_side, server_hostname)
        wrapping = Wrapping(override, bool(server_side), server_hostname, owner, session)
        engine = SocketEngine(sock, snapshot, self, wrapping)
        sock._took(engine)
        return engine

    def _wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool,
        server_hostname: str | None = None,
        *,
        owner: object = None,
        session: PinnedSession | None = None,
    ) -> MemoryEngine:
        for name, bio in (("incoming", incoming), ("outgoing", outgoing)):
            if not isinstance(bio, ssl.MemoryBIO):
                kind = "None" if bio is None else type(bio).__name__
                raise TypeError(f"{name} must be an ssl.MemoryBIO, not {kind}")
        override = given_to(owner)
        snapshot = self._prepare(override, server_side, server_hostname)
        wrapping = Wrapping(override, bool(server_side), server_hostname, owner, session)
        return MemoryEngine(incoming, outgoing, snapshot, self, wrapping)

    def _prepare(
        self,
        override: tuple[PinSource | None] | None,
        server_side: bool,
        server_hostname: str | None,
    ) -> SSL.Context:
        """Refuse a connection that cannot be checked; return the snapshot for one that can."""
        # What _ssl.c says, in its words.
        protocol = _protocol_of(self)
        if server_side and protocol == ssl.PROTOCOL_TLS_CLIENT:
            raise _openssl.make_error(
                ssl.SSLError, 0, "Cannot create a server socket with a PROTOCOL_TLS_CLIENT context"
            )
        if not server_side and protocol == ssl.PROTOCOL_TLS_SERVER:
            raise _openssl.make_error(
                ssl.SSLError, 0, "Cannot create a client socket with a PROTOCOL_TLS_SERVER context"
            )
        source = self._source if override is None else override[0]
        if source is not None and _verify_mode_of(self) == ssl.CERT_NONE:
            raise ValueError(_UNVERIFIED)
        return self._snapshot(pinned=source is not None, share=self._taken.guess(server_hostname))

    # The snapshot --------------------------------------------------------------------------------

    def _snapshot(self, *, pinned: bool, share: str | None = None) -> SSL.Context:
        """Return the compiled settings of this moment; the engine calls this.

        Args:
            pinned: for a connection with pins; it must not be able to skip their check.
            share: the group of the only key share to send, if OpenSSL is not to decide.

        Raises:
            NotImplementedError: a setting cannot be carried over; it says which, and why.
            ssl.SSLError: OpenSSL refuses a setting.
        """
        with self._compiling:
            # Other threads may change settings while one is compiling.  What is compiled is what
            # was read here, and is filed under that.
            settings = [read(self) for read in _READERS], self._changes
            if settings == self._compiled_from:
                settings = self._compiled_from
            else:
                self._compiled.clear()
                self._compiled_from = settings
                # What servers took of another offer.
                self._taken.clear()
                share = None
            found = self._compiled.get((pinned, share))
            if found is None:
                found = self._compile(_Settings._make(settings[0]), pinned, share)
                if self._compiled_from is settings:  # no signal handler has compiled others
                    self._compiled[pinned, share] = found
            return found

    def _compile(self, settings: _Settings, pinned: bool, share: str | None) -> SSL.Context:
        snapshot = SSL.Context(_METHODS.get(self.protocol, SSL.TLS_METHOD))
        _openssl.set_modes(snapshot)
        self._compile_protocol(snapshot, settings, pinned)
        groups = self._groups
        if groups is None and share is not None:
            groups = sharing(share)
        if groups is not None:
            _openssl.set_groups(snapshot, groups)
        self._compile_verification(snapshot, settings)
        for identity in list(self._identities.values()):
            _openssl.use_certificate(snapshot, identity.chain, identity.key)
        if self._alpn:
            snapshot.set_alpn_protos(self._alpn)
            _openssl.set_protocols_callback(snapshot)
        if settings.keylog_filename is not None:
            _openssl.set_secret_callback(snapshot)
        if self._sni_callback is not None:
            _openssl.set_servername_callback(snapshot)
        if self._message_callback is not None:
            _openssl.set_message_callback(snapshot)
        if self._psk_client is not None or self._psk_server is not None:
            self._compile_psk(snapshot, pinned)
        return snapshot

    def _compile_psk(self, snapshot: SSL.Context, pinned: bool) -> None:
        if pinned:
            raise NotImplementedError(_NOTHING_TO_PIN)
        if self._psk_client is not None:
            _openssl.set_psk_client_callback(snapshot)
        if self._psk_server is not None:
            _openssl.set_psk_server_callback(snapshot, self._psk_hint)

    def _compile_protocol(
        self, snapshot: SSL.Context, settings: _Settings, pinned: bool
    ) -> None:
        kept = _openssl.options_of(snapshot) & ~settings.options
        if kept and kept & _SSLContext(self.protocol).options:
            raise NotImplementedError(
                f"{ssl.Options(kept)!r} cannot be switched off: "
                "cryptography binds no SSL_CTX_clear_options"
            )
        if settings.num_tickets not in (0, _DEFAULT_TICKETS):
            raise NotImplementedError(
                "num_tickets is 0 or 2 here: cryptography binds no SSL_CTX_set_num_tickets"
            )
        # Renegotiation is off: it could bring another certificate after the verdict.
        options = settings.options | SSL.OP_NO_RENEGOTIATION
        if settings.num_tickets == 0:
            options |= SSL.OP_NO_TICKET
        if (pinned or settings.num_tickets == 0) and self.protocol != ssl.PROTOCOL_TLS_CLIENT:
            # Without tickets a server goes on resuming from its cache, and with TLS 1.3 OpenSSL
            # sends tickets that stand for entries of it.  (Those with pins the engine forbids.)
            snapshot.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        snapshot.set_options(options)
        if self.protocol != ssl.PROTOCOL_TLS_CLIENT:
            _openssl.set_session_context(snapshot, self._session_context)
        fixed = _VERSIONS.get(self.protocol)
        _openssl.set_versions(
            snapshot, fixed or settings.minimum_version, fixed or settings.maximum_version
        )
        # The level outlives the list of ciphers that brought it, and so is told each time.
        level = f":@SECLEVEL={settings.security_level}"
        _openssl.set_ciphers(snapshot, self._ciphers + _NO_UNCHECKED_CIPHERS * pinned + level)
        if self._ciphersuites is not None:
            _openssl.set_ciphersuites(snapshot, self._ciphersuites)
        if self._signature_algorithms is not None:
            _openssl.set_signature_algorithms(snapshot, self._signature_algorithms)
        if self._dh_parameters is not None:
            _openssl.use_dh_parameters(snapshot, self._dh_parameters)

    def _compile_verification(self, snapshot: SSL.Context, settings: _Settings) -> None:
        self._store.attach(snapshot)
        later = settings.post_handshake_auth
        _openssl.set_verify_mode(snapshot, settings.verify_mode, post_handshake=later)
        _openssl.set_verify_flags(snapshot, settings.verify_flags, settings.host_flags)
        if later:
            _openssl.set_post_handshake_auth(snapshot)

    # Settings that the base class cannot tell ----------------------------------------------------

    def load_cert_chain(
        self,
        certfile: StrOrBytesPath,
        keyfile: StrOrBytesPath | None = None,
        password: _Password | None = None,
    ) -> None:
        """Load a private key and its certificate chain, as ``ssl.SSLContext`` does.

        The files are read once, now.
        """
        with _seekable(certfile) as certfile, _seekable(keyfile) as keyfile:
            self._load_cert_chain(certfile, keyfile, password)

    def _load_cert_chain(
        self,
        certfile: StrOrBytesPath,
        keyfile: StrOrBytesPath | None,
        password: _Password | None,
    ) -> None:
        asked: list[str | bytes | bytearray] = []
        # Without a password OpenSSL asks the terminal; twice, were it left to do so.
        prompt = password if callable(password) else _ask_terminal

        def ask() -> str | bytes | bytearray:
            asked.append(prompt())
            return asked[-1]

        given = None if callable(password) else password
        super().load_cert_chain(certfile, keyfile, ask if given is None else given)
        password = given if given is not None or not asked else asked[-1]
        if isinstance(password, str):
            password = password.encode()
        with open(certfile, "rb") as file:
            chain = file.read()
        key = chain
        if keyfile is not None:
            with open(keyfile, "rb") as file:
                key = file.read()
        identity = _Identity(
            _openssl.read_pem_chain(chain),
            _openssl.read_private_key(key, None if password is None else bytes(password)),
        )
        self._identities[_openssl.key_type(identity.key)] = identity
        self._changes += 1

    def load_verify_locations(
        self,
        cafile: StrOrBytesPath | None = None,
        capath: StrOrBytesPath | None = None,
        cadata: str | ReadableBuffer | None = None,
    ) -> None:
        """Trust certificate authorities, as ``ssl.SSLContext`` does."""
        with _seekable(cafile) as cafile:
            super().load_verify_locations(cafile, capath, cadata)
            if cafile is not None:
                self._store.add_file(os.fsencode(cafile))
        if capath is not None:
            self._store.add_directory(os.fsencode(capath))
        if isinstance(cadata, str):
            self._store.add(_openssl.read_pem_certificates(cadata.encode("ascii")))
        elif cadata is not None:
            self._store.add(_openssl.read_der_certificates(bytes(cadata)))

    def set_default_verify_paths(self) -> None:
        """Trust what the interpreter's OpenSSL trusts, as ``ssl.SSLContext`` does.

        ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` go before what it was built with.  What is missing or
        damaged is passed over, as with ``ssl``.
        """
        paths = ssl.get_default_verify_paths()
        if paths.cafile is not None:
            try:
                certificates = _default_certificates.load(paths.cafile)
                if certificates is None:
                    self._store.add_file(os.fsencode(paths.cafile))
                else:
                    self._store.add(certificates)
            except (OSError, ssl.SSLError) as error:
                what = "cannot read the default certificates: %s: %s"
                log(WARNING, what, paths.cafile, error)
        # Not paths.capath, which is None for a list of several.
        capath = os.environ.get(paths.openssl_capath_env, paths.openssl_capath)
        if capath:  # set, but empty, is none
            self._store.add_directory(os.fsencode(capath))
        self._default_certs = True

    def _load_default_certs_below(self) -> None:
        """Have the base class parse the default certificates; costly, and rarely asked for."""
        if self._default_certs:
            super().set_default_verify_paths()
            self._default_certs = False

    def get_ca_certs(self, binary_form: bool = False) -> list[object]:  # type: ignore[override]  # no overloads
        """Return the trusted authorities, as ``ssl.SSLContext`` does."""
        self._load_default_certs_below()
        return cast("list[object]", super().get_ca_certs(binary_form))

    def cert_store_stats(self) -> dict[str, int]:
        """Count what is in the trust store, as ``ssl.SSLContext`` does."""
        self._load_default_certs_below()
        return super().cert_store_stats()

    def set_ciphers(self, cipherlist: str) -> None:
        """Set the cipher suites of TLS 1.2 and below, as ``ssl.SSLContext`` does."""
        super().set_ciphers(cipherlist)
        self._ciphers = cipherlist
        self._changes += 1

    def _set_alpn_protocols(self, protocols: bytes) -> None:
        """Record what ``set_alpn_protocols`` made of its names: each behind its length."""
        names: list[bytes] = []
        rest = bytes(protocols)
        while rest:
            names.append(rest[1 : 1 + rest[0]])
            rest = rest[1 + rest[0] :]
        if names != self._alpn:
            self._alpn = names
            self._changes += 1

    def _choose_protocol(self, offered: Collection[bytes]) -> bytes | None:
        """Choose the first of ours that is offered, or go on without; the engine calls this."""
        return next((name for name in self._alpn if name in offered), None)

    def set_ecdh_curve(self, name: str) -> None:
        """Set the curve of the key exchange, as ``ssl.SSLContext`` does."""
        super().set_ecdh_curve(name)
        self._groups = os.fsdecode(name)
        self._changes += 1

    # The next three are ssl's from CPython 3.15 on; here, on every version.  They are tried at once
    # on a context that is thrown away: connections have another OpenSSL than the base class.

    def set_groups(self, groups: str) -> None:
        """Set the groups of the key exchange.

        Args:
            groups: their OpenSSL names, the most preferred first, with colons between.

        Raises:
            ssl.SSLError: a group is not known.
        """
        _openssl.set_groups(SSL.Context(SSL.TLS_METHOD), groups)
        self._groups = groups
        self._changes += 1

    def set_ciphersuites(self, ciphersuites: str) -> None:
        """Set the cipher suites of TLS 1.3.

        Args:
            ciphersuites: their names (RFC 8446 appendix B.4), the most preferred first, with
                colons between.

        Raises:
            ssl.SSLError: a cipher suite is not known.
        """
        _openssl.set_ciphersuites(SSL.Context(SSL.TLS_METHOD), ciphersuites)
        self._ciphersuites = ciphersuites
        self._changes += 1

    def set_server_sigalgs(self, sigalgs: str) -> None:
        """Set the signature algorithms that servers may sign their handshakes with.

        Args:
            sigalgs: their OpenSSL names, the most preferred first, with colons between.

        Raises:
            ssl.SSLError: an algorithm is not known.
        """
        _openssl.set_signature_algorithms(SSL.Context(SSL.TLS_METHOD), sigalgs)
        self._signature_algorithms = sigalgs
        self._changes += 1

    def load_dh_params(self, path: str) -> None:
        """Load Diffie-Hellman parameters, as ``ssl.SSLContext`` does."""
        with _seekable(path) as path:
            super().load_dh_params(path)
            with open(path, "rb") as file:
                self._dh_parameters = file.read()
        self._changes += 1

    @property
    def sni_callback(self) -> Callable[..., int | None] | None:
        """The callback for the name that a client asks for, as with ``ssl.SSLContext``.

        The context it may set on the socket or object has to be a PinnedContext, whose verification
        and pins then hold (its ``verify_flags`` beside those of this one).  A session that began
        under another name is no word of a client that is to be verified.  An exception in the
        callback goes to ``sys.unraisablehook``, and is a handshake failure.
        """
        return self._sni_callback

    @sni_callback.setter
    def sni_callback(self, callback: Callable[..., int | None] | None) -> None:
        if self.protocol == ssl.PROTOCOL_TLS_CLIENT:
            raise ValueError("sni_callback cannot be set on TLS_CLIENT context")
        if callback is not None and not callable(callback):
            raise TypeError("not a callable object")
        self._sni_callback = callback
        self._changes += 1

    def _on_servername(self, owner: object, name: bytes | None) -> int | None:
        """Run ``sni_callback``; the engine calls this.  None goes on, a number is an alert's."""
        if self._sni_callback is None:
            return None
        try:
            # Names are ASCII (RFC 6066 section 3): nothing else gets as far as the callback.
            asked_for = None if name is None else name.decode("ascii")
        except UnicodeDecodeError as error:
            Unraisable(error)
            return _INTERNAL_ERROR
        try:
            answer: object = self._sni_callback(owner, asked_for, self)
        except Exception as error:
            Unraisable(error)
            return HANDSHAKE_FAILURE
        if answer is None:
            return None
        try:
            return _alert_number(answer)
        except (TypeError, ValueError) as error:
            Unraisable(error)
            return _INTERNAL_ERROR

    # TLS-PSK (RFC 4279): ssl's from CPython 3.13 on; here, on every version.

    def set_psk_client_callback(
        self, callback: Callable[[str | None], tuple[str | None, bytes]] | None
    ) -> None:
        """Use pre-shared keys as a client, as ``ssl.SSLContext`` does.

        Args:
            callback: given the server's hint, or None, it returns the client's identity, or None,
                and the key; None uses none.

        Raises:
            NotImplementedError: there are pins; a pre-shared key takes the certificate's place.
        """
        if self.protocol == ssl.PROTOCOL_TLS_SERVER:
            raise _openssl.make_error(
                ssl.SSLError, 0, "Cannot add PSK client callback to a PROTOCOL_TLS_SERVER context"
            )
        self._check_psk(callback)
        self._psk_client = callback
        self._changes += 1

    def set_psk_server_callback(
        self, callback: Callable[[str | None], bytes] | None, identity_hint: str | None = None
    ) -> None:
        """Use pre-shared keys as a server, as ``ssl.SSLContext`` does.

        Args:
            callback: given the client's identity, or None, it returns the key; None uses none.
            identity_hint: what is sent to clients; at most 256 bytes.

        Raises:
            NotImplementedError: there are pins; a pre-shared key takes the certificate's place.
            TypeError, ValueError: the hint is no string, is too long, or has a NUL in it.
        """
        if self.protocol == ssl.PROTOCOL_TLS_CLIENT:
            raise _openssl.make_error(
                ssl.SSLError, 0, "Cannot add PSK server callback to a PROTOCOL_TLS_CLIENT context"
            )
        self._check_psk(callback)
        if identity_hint is not None and not isinstance(identity_hint, str):
            raise TypeError(f"identity_hint is a str or None, not {type(identity_hint).__name__}")
        hint = (identity_hint or "").encode()
        if b"\0" in hint:
            raise ValueError("embedded null character")
        if len(hint) > _MAX_PSK_HINT:
            raise ValueError("failed to set identity hint")
        self._psk_hint = hint
        self._psk_server = callback
        self._changes += 1

    def _check_psk(self, callback: object) -> None:
        if callback is not None and not callable(callback):
            raise TypeError("callback must be callable")
        if callback is not None and self._pins is not None:
            raise NotImplementedError(_NOTHING_TO_PIN)

    # The peer's names are UTF-8; an empty one is none.  What is no UTF-8 refuses, as with ssl.

    def _on_psk_client(self, hint: bytes | None) -> tuple[bytes, bytes]:
        """Run the callback of ``set_psk_client_callback``; the engine calls this."""
        try:
            callback = cast("Callable[..., object]", self._psk_client)
            answer = callback(hint.decode() if hint else None)
            if not isinstance(answer, tuple):
                raise TypeError("psk client callback must return a tuple")
            identity, key = answer
            return (identity or "").encode(), bytes(memoryview(key))
        except Exception as error:
            Unraisable(error)
            return b"", b""

    def _on_psk_server(self, identity: bytes | None) -> bytes:
        """Run the callback of ``set_psk_server_callback``; the engine calls this."""
        try:
            callback = cast("Callable[..., bytes]", self._psk_server)
            return bytes(memoryview(callback(identity.decode() if identity else None)))
        except Exception as error:
            Unraisable(error)
            return b""

    @property  # type: ignore[override]  # typeshed has a plain attribute, and forgets None
    def keylog_filename(self) -> str | None:
        """The file that secrets are logged to, for the inspection of traffic; None: nowhere.

        As with ``ssl``, it is opened when it is set, and appended to from then on.
        """
        return super().keylog_filename

    @keylog_filename.setter
    def keylog_filename(self, filename: str | None) -> None:
        vars(_NativeContext)["keylog_filename"].__set__(self, filename)
        self._key_log = None if filename is None else _KeyLogFile(filename)

    def _log_secret(self, line: bytes) -> None:
        """Log a secret, if there is a file; the engine calls this."""
        file = self._key_log
        if file is not None:
            file.write(line)

    # Statistics and debugging --------------------------------------------------------------------

    def session_stats(self) -> dict[str, int]:
        """Count handshakes, as ``ssl.SSLContext`` does.

        What is in OpenSSL's cache cannot be counted: ``number``, ``misses``, ``timeouts`` and
        ``cache_full`` stay 0.
        """
        with self._counting:
            return dict(self._statistics)

    def _verification(self) -> tuple[int, bool]:
        """What connections that are made now verify; the engine calls this."""
        return _pair(_verify_mode_of(self), _check_hostname_of(self))

    def _learn(self, server_hostname: str | None, group: str) -> None:
        """Take note of the group that a server took; the engine calls this."""
        self._taken.learn(server_hostname, group)

    def _forget(self, server_hostname: str | None) -> None:
        """Take note that there was no handshake; the engine calls this."""
        self._taken.forget(server_hostname)

    def _count(self, *events: str) -> None:
        """Count what is named; the engine calls this."""
        with self._counting:
            for event in events:
                self._statistics[event] += 1

    @property
    def _msg_callback(self) -> Callable[..., object] | None:
        """The private debugging hook of ``ssl``: it is called with every protocol message."""
        return self._message_callback

    @_msg_callback.setter
    def _msg_callback(self, callback: Callable[..., object] | None) -> None:
        if callback is not None and not callable(callback):
            raise TypeError(f"{callback} is not callable.")
        self._message_callback = callback
        self._changes += 1

    def _on_message(
        self, owner: object, sent: bool, version: int, content_type: int, data: bytes
    ) -> None:
        """Run ``_msg_callback``; the engine calls this."""
        callback = self._message_callback
        if callback is None:
            return
        kinds = {_HEADER: _ContentType, _ALERT: _AlertType}
        number = data[content_type == _ALERT]
        if content_type == _HEADER:
            version = int.from_bytes(data[1:3], "big")
        elif content_type == _CHANGE_CIPHER_SPEC:
            number = _MessageType["CHANGE_CIPHER_SPEC"]
        callback(
            owner,
            "write" if sent else "read",
            _member(ssl.TLSVersion, version),
            _member(_ContentType, content_type),
            _member(kinds.get(content_type, _MessageType), number),
            data,
        )

    # Refused -------------------------------------------------------------------------------------

    def set_npn_protocols(self, npn_protocols: object) -> None:
        """Refused: NPN is gone from OpenSSL; use ALPN."""
        raise NotImplementedError("NPN is gone from OpenSSL: use set_alpn_protocols")


for _name in ("options", "verify_flags", "verify_mode", "minimum_version", "maximum_version"):
    setattr(PinnedContext, _name, _native_setting(_name))


def _warning_time(name: str, before: timedelta | None) -> timedelta | None:
    if before is not None and not isinstance(before, timedelta):
        raise TypeError(f"{name} is a datetime.timedelta or None, not {before!r}")
    if before is not None and before < timedelta(0):
        raise ValueError(f"{name} is a time before the end, and not negative: {before}")
    return before


def _check_plain(context: object) -> None:
    """Refuse what ``from_ssl_context`` cannot take over."""
    if isinstance(context, PinnedContext):
        raise TypeError("this is a PinnedContext already: set its pins")
    if not isinstance(context, _SSLContext):
        raise TypeError(f"context is an ssl.SSLContext, not {type(context).__name__}")
    for name in ("wrap_socket", "wrap_bio", "_wrap_socket", "_wrap_bio"):
        if getattr(type(context), name) is not getattr(_SSLContext, name):
            raise ValueError(
                f"{type(context).__name__} has a {name} of its own, which cannot be carried over: "
                "make and configure a PinnedContext instead"
            )


def _ask_terminal() -> str:
    import getpass  # few programs ask, and all import this

    return getpass.getpass("Enter PEM pass phrase:")


# What there is to an ssl.SSLContext, and is mirrored or refused above or told by the base class.
_KNOWN_MEMBERS = frozenset(
    {
        *("cert_store_stats", "check_hostname", "get_ca_certs", "get_ciphers"),
        *("hostname_checks_common_name", "keylog_filename", "load_cert_chain"),
        *("load_default_certs", "load_dh_params", "load_verify_locations", "maximum_version"),
        *("minimum_version", "num_tickets", "options", "post_handshake_auth", "protocol"),
        *("security_level", "session_stats", "set_alpn_protocols", "set_ciphers"),
        *("set_ciphersuites", "set_default_verify_paths", "set_ecdh_curve", "set_groups"),
        *("set_npn_protocols", "set_psk_client_callback", "set_psk_server_callback"),
        *("set_server_sigalgs", "set_servername_callback"),
        *("sni_callback", "sslobject_class", "sslsocket_class", "verify_flags", "verify_mode"),
        *("wrap_bio", "wrap_socket"),
    }
)


def _refuse_unknown(cls: type[object], names: Iterable[str]) -> None:
    """Have members that a newer Python brings raise, until they are mirrored (rule 10).

    The base class would take the setting, and no connection would ever see it.
    """
    for name in names:
        if name not in _KNOWN_MEMBERS and not name.startswith("_"):

            def refuse(self: object, *args: object, name: str = name, **kwargs: object) -> None:
                raise NotImplementedError(f"{name} is not carried over to the connection yet")

            setattr(cls, name, refuse)


_refuse_unknown(PinnedContext, dir(_SSLContext))


def _alert_number(answer: object) -> int:
    """What ``sni_callback`` returned, as OpenSSL takes it."""
    try:
        number = operator.index(cast(SupportsIndex, answer))
    except TypeError:
        raise TypeError(
            f"sni_callback returned {answer!r}: not None or the number of an alert"
        ) from None
    if not -(2**31) <= number < 2**31:  # an int of C
        raise ValueError(f"sni_callback returned {number}: no alert has that number")
    return number


def _member(cls: type[enum.IntEnum], number: int) -> int:
    """The member of ``cls`` with a number, or the number."""
    try:
        return cls(number)
    except ValueError:
        return number


@contextlib.contextmanager
def _seekable(path: _Path) -> Iterator[_Path]:
    """A name for a file under which it can be read twice: by the base class, and here."""
    # What is no path is left to the base class to complain of.
    if (
        not isinstance(path, (str, bytes, os.PathLike))
        or not os.path.exists(path)
        or not stat.S_ISFIFO(os.stat(path).st_mode)
    ):
        yield path
        return
    with open(path, "rb") as pipe, _openssl.file_of(pipe.read()) as name:
        yield cast(_Path, name)


_Password = Union[str, bytes, bytearray, Callable[[], Union[str, bytes, bytearray]]]


def create_default_context(
    purpose: ssl.Purpose = ssl.Purpose.SERVER_AUTH,
    *,
    pins: PinsSpec,
    cafile: StrOrBytesPath | None = None,
    capath: StrOrBytesPath | None = None,
    cadata: str | ReadableBuffer | None = None,
) -> PinnedContext:
    """Create a context with the settings of ``ssl.create_default_context``, and pins.

    Args:
        purpose: ``ssl.Purpose.SERVER_AUTH`` for clients, ``CLIENT_AUTH`` for servers.
        pins: as for :class:`PinnedContext`.
        cafile, capath, cadata: the authorities to trust; the system's if none is given.

    Raises:
        PinSyntaxError, ValueError: the pins are not right.
        OSError, ssl.SSLError: the authorities cannot be loaded.
    """
    if not isinstance(purpose, ssl.Purpose):
        raise TypeError(purpose)
    protocols = {
        ssl.Purpose.SERVER_AUTH: ssl.PROTOCOL_TLS_CLIENT,
        ssl.Purpose.CLIENT_AUTH: ssl.PROTOCOL_TLS_SERVER,
    }
    context = PinnedContext(protocols[purpose], pins=pins)
    context.verify_flags |= _DEFAULT_VERIFY_FLAGS
    if cafile or capath or cadata:
        context.load_verify_locations(cafile, capath, cadata)
    elif context.verify_mode != ssl.CERT_NONE:
        context.load_default_certs(purpose)
    keylogfile = os.environ.get("SSLKEYLOGFILE")
    if keylogfile and not sys.flags.ignore_environment:
        context.keylog_filename = keylogfile
    return context


def create_connection(
    address: tuple[str, int],
    timeout: float | EllipsisType | None = ...,
    source_address: tuple[str, int] | None = None,
    *,
    pins: PinsSpec = None,
    context: PinnedContext | None = None,
    server_hostname: str | None = None,
) -> PinnedSocket:
    """Connect to a server whose identity is pinned, as ``socket.create_connection`` connects.

    Args:
        address: ``(host, port)``.
        timeout: seconds for connecting, for the handshake, and for what comes after; None waits
            without end; left out, it is ``socket.getdefaulttimeout()``.
        source_address: ``(host, port)`` to bind to before connecting.
        pins: who the server must be; with a ``context``, in place of the context's.
        context: the context to use; one of ``create_default_context(pins=pins)`` if left out.
        server_hostname: the name to verify and to send; ``host`` if left out.

    Raises:
        ValueError: neither pins nor a context.
        OSError: connecting failed, or the handshake (:exc:`PinError`, ``ssl.SSLError``).
    """
    if context is not None and not isinstance(context, PinnedContext):
        raise TypeError(f"context is a PinnedContext, not {type(context).__name__}")
    if context is None:
        if pins is None:
            raise ValueError("give pins, or a context: an unpinned connection needs no pinsock")
        context, pins = create_default_context(pins=pins), None
    if isinstance(timeout, EllipsisType):
        timeout = socket.getdefaulttimeout()
    sock = socket.create_connection(address, timeout, source_address)
    try:
        # The handshake is asked for, not left to the wrapping: a socket that the peer has reset by
        # then looks like one not connected yet, and would come back without a handshake.
        sock = pinned = context.wrap_socket(
            sock,
            do_handshake_on_connect=False,
            server_hostname=address[0] if server_hostname is None else server_hostname,
            pins=_UNSET if pins is None else pins,
        )
        pinned.do_handshake()
    except BaseException:
        sock.close()
        raise
    return pinned
