"""The only door to OpenSSL: tables, error translation, X.509 access, and the C callbacks.

Everything that reaches below the public calls of pyOpenSSL is here, so that a new release which
moves a name breaks one module, and breaks it at import with a message (see :data:`PRIVATE_NAMES`).
The rest of the package sees typed functions and opaque pointers.

Why go below at all: pyOpenSSL's verify callback cannot choose the alert, resets OpenSSL's error for
every truthy answer, and keeps exceptions in a list that all connections of a context share; and its
``send``/``recv`` copy, and translate errors, in ways that are not :mod:`ssl`'s.

Facts
-----
* OpenSSL keeps its errors in a queue for each thread.  ``SSL_get_error`` looks at that queue, so
  another library's leftovers would be taken for ours: the queue is cleared before each call, but
  for reads and writes, where it is looked at more closely when they fail (:func:`why`).
* cffi releases the GIL around each call and saves ``errno`` behind it (``ffi.errno``).
* The verify callback runs in the thread that called OpenSSL, inside that call.
"""

from __future__ import annotations

import contextlib
import functools
import operator
import os
import re
import ssl
import weakref
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple, NewType, Protocol, cast

from OpenSSL import SSL
from OpenSSL._util import ffi as _ffi
from OpenSSL._util import lib as _lib

from pinsock._verdict import CERT_REJECTED

#: Private names of pyOpenSSL and of cryptography's bindings that this module relies on.  The test
#: of this table is the tripwire that tells which of them a new release has moved.
PRIVATE_NAMES: dict[str, tuple[str, ...]] = {
    "OpenSSL._util": ("ffi", "lib"),
    "OpenSSL.SSL.Context": ("_context",),
    "OpenSSL.SSL.Connection": ("_ssl", "_socket"),
    "OpenSSL._util.lib": (
        "BIO_free",
        "BIO_get_mem_data",
        "BIO_new",
        "BIO_new_mem_buf",
        "BIO_read",
        "BIO_s_mem",
        "BIO_set_mem_eof_return",
        "BIO_write",
        "DH_free",
        "ERR_clear_error",
        "ERR_get_error",
        "ERR_reason_error_string",
        "EVP_PKEY_free",
        "EVP_PKEY_id",
        "OBJ_nid2ln",
        "OBJ_txt2nid",
        "PEM_read_bio_DHparams",
        "PEM_read_bio_PrivateKey",
        "PEM_read_bio_X509",
        "SSL_CIPHER_find",
        "SSL_CIPHER_get_bits",
        "SSL_CIPHER_get_name",
        "SSL_CIPHER_get_version",
        "SSL_CTX_clear_mode",
        "SSL_CTX_get0_param",
        "SSL_CTX_get_options",
        "SSL_CTX_set1_sigalgs_list",
        "SSL_CTX_set_alpn_select_cb",
        "SSL_CTX_set_cert_store",
        "SSL_CTX_set_cipher_list",
        "SSL_CTX_set_ciphersuites",
        "SSL_CTX_set_keylog_callback",
        "SSL_CTX_set_max_proto_version",
        "SSL_CTX_set_min_proto_version",
        "SSL_CTX_set_msg_callback",
        "SSL_CTX_set_post_handshake_auth",
        "SSL_CTX_set_psk_client_callback",
        "SSL_CTX_set_psk_server_callback",
        "SSL_CTX_set_session_id_context",
        "SSL_CTX_set_tlsext_servername_callback",
        "SSL_CTX_set_tmp_dh",
        "SSL_CTX_set_verify",
        "SSL_CTX_use_PrivateKey",
        "SSL_CTX_use_certificate_chain_file",
        "SSL_CTX_use_psk_identity_hint",
        "SSL_SESSION_free",
        "SSL_TLSEXT_ERR_NOACK",
        "SSL_do_handshake",
        "SSL_export_keying_material",
        "SSL_free",
        "SSL_get0_group_name",
        "SSL_get0_param",
        "SSL_get0_verified_chain",
        "SSL_get1_session",
        "SSL_get_certificate",
        "SSL_get_cipher_list",
        "SSL_get_error",
        "SSL_get_ex_data_X509_STORE_CTX_idx",
        "SSL_get_peer_cert_chain",
        "SSL_get_peer_certificate",
        "SSL_get_servername",
        "SSL_get_shutdown",
        "SSL_get_verify_result",
        "SSL_new",
        "SSL_pending",
        "SSL_read",
        "SSL_session_reused",
        "SSL_set_SSL_CTX",
        "SSL_set_accept_state",
        "SSL_set_connect_state",
        "SSL_set_bio",
        "SSL_set_fd",
        "SSL_set_options",
        "SSL_set_session",
        "SSL_set_tlsext_host_name",
        "SSL_set_verify",
        "SSL_shutdown",
        "SSL_state_string_long",
        "SSL_verify_client_post_handshake",
        "SSL_version",
        "SSL_write",
        "X509_STORE_CTX_get_current_cert",
        "X509_STORE_CTX_get_error",
        "X509_STORE_CTX_get_error_depth",
        "X509_STORE_CTX_get_ex_data",
        "X509_STORE_CTX_set_error",
        "X509_STORE_add_cert",
        "X509_STORE_free",
        "X509_STORE_load_locations",
        "X509_STORE_new",
        "X509_STORE_up_ref",
        "X509_VERIFY_PARAM_set1_host",
        "X509_VERIFY_PARAM_set1_ip",
        "X509_VERIFY_PARAM_set_flags",
        "X509_VERIFY_PARAM_set_hostflags",
        "X509_free",
        "X509_up_ref",
        "X509_verify_cert_error_string",
        "d2i_SSL_SESSION",
        "d2i_X509_bio",
        "i2d_SSL_SESSION",
        "i2d_X509_bio",
        "sk_X509_num",
        "sk_X509_value",
    ),
}


def missing_names() -> list[str]:
    """Return the private names relied on that this pyOpenSSL or cryptography does not have."""
    # Attributes of instances can only be seen on instances.
    context = SSL.Context(SSL.TLS_METHOD)
    owners: dict[str, object] = {
        "OpenSSL._util": __import__("OpenSSL._util", fromlist=["lib"]),
        "OpenSSL.SSL.Context": context,
        "OpenSSL.SSL.Connection": SSL.Connection(context, None),
        "OpenSSL._util.lib": _lib,
    }
    return [
        f"{owner}.{name}"
        for owner, names in PRIVATE_NAMES.items()
        for name in names
        if not hasattr(owners[owner], name)
    ]


# Opaque pointers.  NewTypes of object: they can be handed on, and nothing else.
SSLPointer = NewType("SSLPointer", object)
BIOPointer = NewType("BIOPointer", object)
X509Pointer = NewType("X509Pointer", object)
StorePointer = NewType("StorePointer", object)
KeyPointer = NewType("KeyPointer", object)
Memory = NewType("Memory", object)

# The calls of every connection, bound once: a global name is all that a call then costs.
set_accept_state: Callable[[SSLPointer], None] = _lib.SSL_set_accept_state
set_connect_state: Callable[[SSLPointer], None] = _lib.SSL_set_connect_state
ssl_do_handshake: Callable[[SSLPointer], int] = _lib.SSL_do_handshake
ssl_read: Callable[[SSLPointer, Memory, int], int] = _lib.SSL_read
ssl_write: Callable[[SSLPointer, Memory, int], int] = _lib.SSL_write
ssl_shutdown: Callable[[SSLPointer], int] = _lib.SSL_shutdown
ssl_pending: Callable[[SSLPointer], int] = _lib.SSL_pending
ssl_get_error: Callable[[SSLPointer, int], int] = _lib.SSL_get_error
clear_errors: Callable[[], None] = _lib.ERR_clear_error
bio_mem_data: Callable[[BIOPointer, object], int] = _lib.BIO_get_mem_data
bio_write: Callable[[BIOPointer, bytes, int], int] = _lib.BIO_write
bio_read: Callable[[BIOPointer, Memory, int], int] = _lib.BIO_read

NULL: object = _ffi.NULL

ERROR_SSL: int = _lib.SSL_ERROR_SSL
ERROR_SYSCALL: int = _lib.SSL_ERROR_SYSCALL
ERROR_WANT_READ: int = _lib.SSL_ERROR_WANT_READ
ERROR_WANT_WRITE: int = _lib.SSL_ERROR_WANT_WRITE
ERROR_ZERO_RETURN: int = _lib.SSL_ERROR_ZERO_RETURN
RECEIVED_SHUTDOWN: int = _lib.SSL_RECEIVED_SHUTDOWN

_VERIFY_MODES: dict[int, int] = {
    ssl.CERT_NONE: _lib.SSL_VERIFY_NONE,
    ssl.CERT_OPTIONAL: _lib.SSL_VERIFY_PEER,
    ssl.CERT_REQUIRED: _lib.SSL_VERIFY_PEER | _lib.SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
}

_DEMANDED = _VERIFY_MODES[ssl.CERT_REQUIRED]


# Memory ----------------------------------------------------------------------------------------

_uninitialised: Any = _ffi.new_allocator(should_clear_after_alloc=False)


#: A pointer so many bytes into a buffer.
further: Callable[[Memory, int], Memory] = operator.add


def new_buffer(size: int) -> Memory:
    """Memory for ``size`` bytes, not cleared."""
    memory: Memory = _uninitialised("char[]", size)
    return memory


def take(buffer: Memory, size: int) -> bytes:
    """The first ``size`` bytes of a buffer."""
    data: bytes = _ffi.buffer(buffer, size)[:]
    return data


class Scratch:
    """Memory for what OpenSSL writes.

    Attributes:
        memory: what OpenSSL writes to.
        view: the same bytes; a slice of it is a copy.
    """

    __slots__ = ("memory", "view")

    def __init__(self, size: int) -> None:
        self.memory: Memory = new_buffer(size)
        self.view: bytes = _ffi.buffer(self.memory, size)


def borrow(buffer: object, *, writable: bool = False) -> Memory:
    """A pointer into a contiguous Python buffer, which stays locked until :func:`give_back`."""
    if isinstance(buffer, str):
        raise TypeError("a bytes-like object is required, not 'str'")
    memory: Memory = _ffi.from_buffer("char[]", buffer, require_writable=writable)
    return memory


def size_of(memory: Memory) -> int:
    """The number of bytes of a borrowed buffer."""
    return len(memory)  # type: ignore[arg-type]  # a cffi array has a length, an opaque one has not


def give_back(memory: Memory) -> None:
    """Unlock a borrowed buffer now, not when the garbage collector gets to it."""
    _ffi.release(memory)


# Error translation -------------------------------------------------------------------------------

_LIBRARIES = {
    2: "SYS",
    3: "BN",
    4: "RSA",
    5: "DH",
    6: "EVP",
    8: "OBJ",
    9: "PEM",
    10: "DSA",
    11: "X509",
    13: "ASN1",
    14: "CONF",
    15: "CRYPTO",
    16: "EC",
    20: "SSL",
    32: "BIO",
    34: "X509V3",
    35: "PKCS12",
    36: "RAND",
    57: "PROV",
    60: "OSSL_DECODER",
}

# SSL_R_* of alerts: 1000 + the number of the alert (RFC 8446 section 6).  OpenSSL's texts no longer
# say what the symbols say ("ssl/tls alert bad certificate"), and ssl's `reason` is the symbol.
_ALERTS = {
    10: "SSLV3_ALERT_UNEXPECTED_MESSAGE",
    20: "SSLV3_ALERT_BAD_RECORD_MAC",
    21: "TLSV1_ALERT_DECRYPTION_FAILED",
    22: "TLSV1_ALERT_RECORD_OVERFLOW",
    30: "SSLV3_ALERT_DECOMPRESSION_FAILURE",
    40: "SSLV3_ALERT_HANDSHAKE_FAILURE",
    41: "SSLV3_ALERT_NO_CERTIFICATE",
    42: "SSLV3_ALERT_BAD_CERTIFICATE",
    43: "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
    44: "SSLV3_ALERT_CERTIFICATE_REVOKED",
    45: "SSLV3_ALERT_CERTIFICATE_EXPIRED",
    46: "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
    47: "SSLV3_ALERT_ILLEGAL_PARAMETER",
    48: "TLSV1_ALERT_UNKNOWN_CA",
    49: "TLSV1_ALERT_ACCESS_DENIED",
    50: "TLSV1_ALERT_DECODE_ERROR",
    51: "TLSV1_ALERT_DECRYPT_ERROR",
    60: "TLSV1_ALERT_EXPORT_RESTRICTION",
    70: "TLSV1_ALERT_PROTOCOL_VERSION",
    71: "TLSV1_ALERT_INSUFFICIENT_SECURITY",
    80: "TLSV1_ALERT_INTERNAL_ERROR",
    86: "TLSV1_ALERT_INAPPROPRIATE_FALLBACK",
    90: "TLSV1_ALERT_USER_CANCELLED",
    100: "TLSV1_ALERT_NO_RENEGOTIATION",
    109: "TLSV13_ALERT_MISSING_EXTENSION",
    110: "TLSV1_UNSUPPORTED_EXTENSION",
    111: "TLSV1_CERTIFICATE_UNOBTAINABLE",
    112: "TLSV1_UNRECOGNIZED_NAME",
    113: "TLSV1_BAD_CERTIFICATE_STATUS_RESPONSE",
    114: "TLSV1_BAD_CERTIFICATE_HASH_VALUE",
    115: "TLSV1_ALERT_UNKNOWN_PSK_IDENTITY",
    116: "TLSV13_ALERT_CERTIFICATE_REQUIRED",
    120: "TLSV1_ALERT_NO_APPLICATION_PROTOCOL",
}


#: What :mod:`ssl` calls the alerts of a peer, as the reason of an error.
ALERT_REASONS = frozenset(_ALERTS.values())


def _text(pointer: Any) -> str:
    return _ffi.string(pointer).decode("utf-8", "replace") if pointer else ""


def make_error(
    cls: type[ssl.SSLError],
    number: int,
    message: str,
    *,
    library: str | None = None,
    reason: str | None = None,
) -> ssl.SSLError:
    """An error of :mod:`ssl` with the attributes that ``_ssl.c`` gives it."""
    if library and reason:
        message = f"[{library}: {reason}] {message}"
    elif library:
        message = f"[{library}] {message}"
    error = cls(int(number), message)  # _ssl.c has the number, not the member of an enum
    error.library = library  # type: ignore[assignment]  # typeshed forgets that ssl leaves None
    error.reason = reason  # type: ignore[assignment]  # likewise
    return error


_SSL_LIBRARY = 20  # ERR_LIB_SSL
_SYSTEM_FLAG = 0x80000000  # ERR_SYSTEM_FLAG of OpenSSL 3's err.h


def _last_error() -> int:
    """The entry of this thread's error queue to go by, or 0; the queue is emptied.

    The latest is the most general, and the one that ``ssl`` takes.  But OpenSSL 4 sends an alert
    for whatever goes wrong, and if that fails too, an errno comes last, which tells less.
    """
    last = 0
    while code := _lib.ERR_get_error():
        if not last or not code & _SYSTEM_FLAG:
            last = code
    return last


def _is_alert(code: int) -> bool:
    return code >> 23 & 0xFF == _SSL_LIBRARY and (code & 0x7FFFFF) - 1000 in _ALERTS


def _symbol(library: int, number: int, text: str) -> str:
    if library == _SSL_LIBRARY and 1000 < number < 1256 and number - 1000 in _ALERTS:
        return _ALERTS[number - 1000]
    return "".join(c if c.isalnum() else "_" for c in text.upper())


def queued_error() -> ssl.SSLError:
    """The error of :mod:`ssl` for what is in this thread's error queue, which is emptied."""
    return _library_error(_last_error())


def _library_error(code: int) -> ssl.SSLError:
    if not code:
        message = "A failure in the SSL library occurred"
        return make_error(ssl.SSLError, ssl.SSL_ERROR_SSL, message)
    text = _text(_lib.ERR_reason_error_string(code))
    number = code & 0x7FFFFF  # ERR_GET_REASON and ERR_GET_LIB of OpenSSL 3's err.h
    library = code >> 23 & 0xFF
    reason = _symbol(library, number, text) or None
    cls: type[ssl.SSLError] = ssl.SSLError
    kind = ssl.SSL_ERROR_SSL
    if library == _SSL_LIBRARY and number == _lib.SSL_R_UNEXPECTED_EOF_WHILE_READING:
        # Since OpenSSL 3 a connection cut short is reported so; ssl says what it always said.
        cls, kind = ssl.SSLEOFError, ssl.SSL_ERROR_EOF
        text = "EOF occurred in violation of protocol"
    elif library == _SSL_LIBRARY and reason == "CERTIFICATE_VERIFY_FAILED":
        cls = ssl.SSLCertVerificationError
    text = text or "unknown error"
    return make_error(cls, kind, text, library=_LIBRARIES.get(library), reason=reason)


def _check(result: Any) -> Any:
    """The result of a call that returns 1, or a pointer; raises for 0, -1 and NULL."""
    if not result or result == -1:
        raise queued_error()
    return result


_INCOMPLETE = {
    ERROR_WANT_READ: (ssl.SSLWantReadError, "The operation did not complete (read)"),
    ERROR_WANT_WRITE: (ssl.SSLWantWriteError, "The operation did not complete (write)"),
    ERROR_ZERO_RETURN: (ssl.SSLZeroReturnError, "TLS/SSL connection has been closed (EOF)"),
}


class Cause(NamedTuple):
    """Why a call failed.

    Attributes:
        code: what ``SSL_get_error`` said.
        queued: the entry of the error queue to go by, or 0.
        result: what the call returned.
        errno: the C ``errno`` right behind the call.
    """

    code: int
    queued: int = 0
    result: int = 0
    errno: int = 0


def why(pointer: SSLPointer, result: int, waiting: int) -> Cause:
    """Why a call failed, asked right behind it; the error queue is emptied.

    ``SSL_get_error`` takes for the call's what others have left in the queue.  So if there is
    anything it is asked again when the queue is empty, and believed if the call only has to wait,
    or has met a goodbye.  An error of the system is then told as what was left: but it is an error.
    (To empty the queue before each read and write, as the man page advises: 2 % of a round trip.)

    Args:
        waiting: what such a call waits for, ``ERROR_WANT_READ`` or ``ERROR_WANT_WRITE``, and is
            believed to: one that has failed for good may wait for the other, to send an alert.  0:
            the queue was empty before the call, which is not asked about again.
    """
    errno: int = _ffi.errno
    code = ssl_get_error(pointer, result)
    if code != ERROR_SSL and code != ERROR_SYSCALL:
        return Cause(code)
    queued = _last_error()
    if queued and waiting:
        again = ssl_get_error(pointer, result)
        # A write behind a goodbye is an error all the same; and OpenSSL 3 takes an alert for one.
        goodbye = again == ERROR_ZERO_RETURN and waiting == ERROR_WANT_READ
        if again == waiting or (goodbye and not _is_alert(queued)):
            return Cause(again)
    return Cause(code, queued, result, errno)


def translate(cause: Cause) -> OSError:
    """The error that :mod:`ssl` raises for a failed call."""
    code, queued, result, errno = cause
    incomplete = _INCOMPLETE.get(code)
    if incomplete is not None:
        # Not by make_error: it is what half of asyncio's reads come to.
        error = incomplete[0](code, incomplete[1])
        error.library = error.reason = None  # type: ignore[assignment]  # as in make_error
        return error
    if code == ERROR_SYSCALL and not queued:
        if result < 0 and errno:
            return OSError(errno, os.strerror(errno))  # becomes ConnectionResetError and its like
        message = "EOF occurred in violation of protocol"
        return make_error(ssl.SSLEOFError, ssl.SSL_ERROR_EOF, message)
    if queued & _SYSTEM_FLAG:
        errno = queued & ~_SYSTEM_FLAG
        return OSError(errno, os.strerror(errno))
    return _library_error(queued)


# X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH (x509_vfy.h)
_NAME_MISMATCH = {62: "Hostname mismatch", 64: "IP address mismatch"}


def verification_error(code: int, server_hostname: str | None) -> ssl.SSLCertVerificationError:
    """The error that :mod:`ssl` raises when OpenSSL refuses a chain with ``code``."""
    if code in _NAME_MISMATCH:
        message = f"{_NAME_MISMATCH[code]}, certificate is not valid for '{server_hostname}'."
    else:
        message = _text(_lib.X509_verify_cert_error_string(code))
    error = ssl.SSLCertVerificationError(
        int(ssl.SSL_ERROR_SSL),
        f"[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: {message}",
    )
    error.library = "SSL"
    error.reason = "CERTIFICATE_VERIFY_FAILED"
    error.verify_code = code
    error.verify_message = message
    return error


# X.509 -------------------------------------------------------------------------------------------


def _free_bio_of(_memory: object, bio: Any) -> None:
    _lib.BIO_free(bio)  # the memory has been held as long


def _bio_of(data: bytes) -> Any:
    """A BIO that reads ``data`` where it is."""
    memory = _ffi.from_buffer(data)
    bio = _check(_lib.BIO_new_mem_buf(memory, len(data)))
    _lib.BIO_set_mem_eof_return(bio, -1)  # as that of other memory BIOs
    return _ffi.gc(bio, functools.partial(_free_bio_of, memory))


class _Encoder:
    """A memory BIO, the only way there is to DER, and room for what comes out of it."""

    __slots__ = ("_bio", "_scratch")

    def __init__(self) -> None:
        self._bio = _ffi.gc(_lib.BIO_new(_lib.BIO_s_mem()), _lib.BIO_free)
        self._scratch = Scratch(_ENCODED)

    def encode(self, x509: Any) -> bytes:
        bio, scratch = self._bio, self._scratch
        _check(_lib.i2d_X509_bio(bio, x509))
        size = _lib.BIO_read(bio, scratch.memory, _ENCODED)
        der = scratch.view[:size]
        return der if size < _ENCODED else der + bio_drain(bio)


_ENCODED = 4096  # bytes: most certificates are less
_encoders: deque[_Encoder] = deque(maxlen=16)


def _der(x509: Any) -> bytes:
    """The DER of an ``X509 *``; the TBSCertificate in it is the very bytes that were parsed."""
    try:
        encoder = _encoders.pop()
    except IndexError:
        encoder = _Encoder()
    der = encoder.encode(x509)
    _encoders.append(encoder)  # not if that failed: who knows what is left in it
    return der


class Certificates(dict[X509Pointer, bytes]):
    """The DER of one connection's certificates, by address.

    Each is encoded once, when it is asked for: a handshake has two uses for it.
    """

    __slots__ = ()

    def __missing__(self, x509: X509Pointer) -> bytes:
        der = _der(x509)
        # Held, so that its address will not be another's.
        _lib.X509_up_ref(x509)
        self[_ffi.gc(x509, _lib.X509_free)] = der
        return der


def _stack(stack: Any, encode: Callable[[X509Pointer], bytes] = _der) -> list[bytes]:
    if not stack:
        return []
    return [encode(_lib.sk_X509_value(stack, i)) for i in range(_lib.sk_X509_num(stack))]


def read_pem_certificates(data: bytes) -> list[X509Pointer]:
    """Every certificate in PEM ``data``, in order; other PEM blocks are passed over.

    Raises:
        ssl.SSLError: a certificate is damaged.
    """
    bio = _bio_of(data)
    found: list[X509Pointer] = []
    while x509 := _lib.PEM_read_bio_X509(bio, _ffi.NULL, _ffi.NULL, _ffi.NULL):
        found.append(_ffi.gc(x509, _lib.X509_free))
    error = queued_error()
    if error.reason != "NO_START_LINE":
        raise error
    return found


# A certificate in the form of `openssl x509 -trustout`, if it is the first one.
_TRUSTED_LEAF = (
    rb"(?s)\A((?:(?!-----BEGIN (?:X509 )?CERTIFICATE-----).)*?-----BEGIN )TRUSTED "
    rb"(CERTIFICATE-----.*?-----END )TRUSTED (CERTIFICATE-----)"
)


def read_pem_chain(data: bytes) -> list[X509Pointer]:
    """The certificates of a chain to present: the leaf may have trust settings behind it.

    ``SSL_CTX_use_certificate_chain_file`` passes over them; they are not for its own side.
    """
    return read_pem_certificates(re.sub(_TRUSTED_LEAF, rb"\1\2\3", data))


def read_der_certificates(data: bytes) -> list[X509Pointer]:
    """Every certificate in DER ``data``, one behind the other; ends where no other begins.

    Raises:
        ssl.SSLError: a certificate is damaged.
    """
    bio = _bio_of(data)
    found: list[X509Pointer] = []
    while x509 := _lib.d2i_X509_bio(bio, _ffi.NULL):
        found.append(_ffi.gc(x509, _lib.X509_free))
    error = queued_error()
    # What is said of nothing, and of less than a header.
    if error.reason not in ("HEADER_TOO_LONG", "NOT_ENOUGH_DATA"):
        raise error
    return found


def read_private_key(data: bytes, password: bytes | None) -> KeyPointer:
    """The first private key in PEM ``data``.

    Raises:
        ssl.SSLError: there is none, it is damaged, or the password is wrong.
    """

    @_ffi.callback("int(char *, int, int, void *)", error=-1)  # type: ignore[untyped-decorator]  # cffi
    def on_password(buffer: Any, size: int, _writing: int, _data: Any) -> int:
        if password is None or len(password) > size:
            return -1
        _ffi.memmove(buffer, password, len(password))
        return len(password)

    bio = _bio_of(data)
    key = _check(_lib.PEM_read_bio_PrivateKey(bio, _ffi.NULL, on_password, _ffi.NULL))
    clear_errors()  # blocks that came before the key leave entries behind
    pointer: KeyPointer = _ffi.gc(key, _lib.EVP_PKEY_free)
    return pointer


class Store:
    """A trust store (``X509_STORE``), shared by reference count among contexts."""

    __slots__ = ("_pointer",)

    def __init__(self) -> None:
        self._pointer: Any = _ffi.gc(_lib.X509_STORE_new(), _lib.X509_STORE_free)

    def add(self, certificates: Sequence[X509Pointer]) -> None:
        """Trust certificates; one that is there already is passed over, as OpenSSL does."""
        for certificate in certificates:
            _check(_lib.X509_STORE_add_cert(self._pointer, certificate))

    def add_file(self, cafile: bytes) -> None:
        """Add all that is in a PEM file: certificates, also with trust settings, and lists."""
        _check(_lib.X509_STORE_load_locations(self._pointer, cafile, _ffi.NULL))

    def add_directory(self, capath: bytes) -> None:
        """Look certificates up, when needed, in a directory prepared by ``openssl rehash``."""
        _check(_lib.X509_STORE_load_locations(self._pointer, _ffi.NULL, capath))

    def attach(self, context: SSL.Context) -> None:
        """Make this the trust store of a context."""
        _lib.X509_STORE_up_ref(self._pointer)
        _lib.SSL_CTX_set_cert_store(_raw(context), self._pointer)


# Contexts ----------------------------------------------------------------------------------------


def _raw(context: SSL.Context) -> Any:
    return context._context


def set_modes(context: SSL.Context) -> None:
    """Whole writes (see ``_engine``), and no buffers for idle connections, as ``ssl`` has it."""
    _lib.SSL_CTX_clear_mode(_raw(context), _lib.SSL_MODE_ENABLE_PARTIAL_WRITE)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)


def set_versions(context: SSL.Context, minimum: int, maximum: int) -> None:
    """Set the lowest and the highest protocol version."""
    # The symbolic versions of ssl are negative numbers; 0 is "whatever there is" to OpenSSL, which
    # is also the lowest above SSL 3.0, a version that it no longer has.
    lowest = 0 if minimum <= SSL.SSL3_VERSION else minimum
    _check(_lib.SSL_CTX_set_min_proto_version(_raw(context), lowest))
    _check(_lib.SSL_CTX_set_max_proto_version(_raw(context), max(maximum, 0)))


def set_ciphers(context: SSL.Context, ciphers: str) -> None:
    """Set the cipher suites of TLS 1.2 and below.

    Not ``Context.set_cipher_list``: it makes a connection to look at the outcome, after which the
    context takes no more settings.
    """
    _check(_lib.SSL_CTX_set_cipher_list(_raw(context), ciphers.encode("ascii")))


@functools.cache
def cipher_names() -> frozenset[str]:
    """The cipher suites that this OpenSSL has."""
    context = SSL.Context(SSL.TLS_METHOD)
    set_ciphers(context, "ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    return frozenset(SSL.Connection(context, None).get_cipher_list())


def set_ciphersuites(context: SSL.Context, ciphersuites: str) -> None:
    """Set the cipher suites of TLS 1.3."""
    _check(_lib.SSL_CTX_set_ciphersuites(_raw(context), ciphersuites.encode("ascii")))


def set_signature_algorithms(context: SSL.Context, names: str) -> None:
    """Set the signature algorithms that are taken, and signed with."""
    _check(_lib.SSL_CTX_set1_sigalgs_list(_raw(context), names.encode("ascii")))


def _verify_mode(mode: int, post_handshake: bool) -> int:
    flags = _VERIFY_MODES[mode]
    if post_handshake and mode != ssl.CERT_NONE:
        flags |= _lib.SSL_VERIFY_POST_HANDSHAKE
    return flags


def set_verify_mode(context: SSL.Context, mode: int, *, post_handshake: bool) -> None:
    """Set the verify mode of connections that have no pins of their own."""
    _lib.SSL_CTX_set_verify(_raw(context), _verify_mode(mode, post_handshake), _ffi.NULL)


def set_verify_flags(context: SSL.Context, flags: int, host_flags: int) -> None:
    """Set X509_V_FLAG_* and X509_CHECK_FLAG_*."""
    _set_verify_flags(_lib.SSL_CTX_get0_param(_raw(context)), flags, host_flags)


def _set_verify_flags(parameters: Any, flags: int, host_flags: int) -> None:
    _check(_lib.X509_VERIFY_PARAM_set_flags(parameters, flags))
    _lib.X509_VERIFY_PARAM_set_hostflags(parameters, host_flags)


def options_of(context: SSL.Context) -> int:
    """The SSL_OP_* that are set."""
    options: int = _lib.SSL_CTX_get_options(_raw(context))
    return options


def key_type(key: KeyPointer) -> int:
    """The number of the key's algorithm; a context has at most one certificate of each."""
    number: int = _lib.EVP_PKEY_id(key)
    return number


@contextlib.contextmanager
def file_of(data: bytes) -> Iterator[str]:
    """The name of a file with ``data``; in memory where the system can: no disk may be writable."""
    if hasattr(os, "memfd_create"):
        with open(os.memfd_create("pinsock"), "wb") as file:
            file.write(data)
            file.flush()
            yield f"/proc/self/fd/{file.fileno()}"
    else:
        import tempfile  # where the system has something better it is not wanted

        with tempfile.NamedTemporaryFile() as temporary:
            temporary.write(data)
            temporary.flush()
            yield temporary.name


def use_certificate(context: SSL.Context, chain: Sequence[X509Pointer], key: KeyPointer) -> None:
    """Present ``chain`` (leaf first), whose leaf has ``key``."""
    pem = "".join(ssl.DER_cert_to_PEM_cert(_der(certificate)) for certificate in chain)
    # The binding that keeps the chains of several certificates apart takes nothing but a file.
    with file_of(pem.encode("ascii")) as path:
        _check(_lib.SSL_CTX_use_certificate_chain_file(_raw(context), os.fsencode(path)))
    _check(_lib.SSL_CTX_use_PrivateKey(_raw(context), key))


def use_dh_parameters(context: SSL.Context, pem: bytes) -> None:
    """Use PEM Diffie-Hellman parameters."""
    bio = _bio_of(pem)
    parameters = _check(_lib.PEM_read_bio_DHparams(bio, _ffi.NULL, _ffi.NULL, _ffi.NULL))
    parameters = _ffi.gc(parameters, _lib.DH_free)
    _check(_lib.SSL_CTX_set_tmp_dh(_raw(context), parameters))


def set_groups(context: SSL.Context, names: str) -> None:
    """Use these groups (curves), names with colons between, for the key exchange."""
    if hasattr(_lib, "SSL_CTX_set1_curves_list"):
        _check(_lib.SSL_CTX_set1_curves_list(_raw(context), names.encode()))
    elif ":" in names:
        raise NotImplementedError(
            f"groups {names!r}: this cryptography binds no SSL_CTX_set1_curves_list, and knows one "
            "curve only; a newer one does"
        )
    else:  # cryptography 46 does not bind it yet
        curve = _check(_lib.EC_KEY_new_by_curve_name(_lib.OBJ_txt2nid(names.encode())))
        _check(_lib.SSL_CTX_set_tmp_ecdh(_raw(context), _ffi.gc(curve, _lib.EC_KEY_free)))


def set_session_context(context: SSL.Context, name: bytes) -> None:
    """Name the sessions of a server, so that it takes back no other's (CVE-2025-23419)."""
    _lib.SSL_CTX_set_session_id_context(_raw(context), name, len(name))


def set_post_handshake_auth(context: SSL.Context) -> None:
    """Let a client answer certificate requests after the handshake (TLS 1.3)."""
    _lib.SSL_CTX_set_post_handshake_auth(_raw(context), 1)


# Callbacks ---------------------------------------------------------------------------------------
#
# OpenSSL knows connections by their SSL pointer, and so do these callbacks: one C function serves
# every connection and finds the Python object by that pointer.  The table is weak, and an entry
# goes before its SSL is freed, so that a pointer used again cannot find an earlier connection.
#
# Nothing raises here (rule 5): what a handler raises, a KeyboardInterrupt in a signal handler for
# one, is kept on its own connection, the handshake is refused, and the engine raises it again when
# OpenSSL has returned.


class Handler(Protocol):
    """What the callbacks ask of a connection."""

    callback_error: BaseException | None
    #: Those of a connection that is being judged.
    certificates: Certificates | None

    def on_verify(self, depth: int, error: int, certificate: bytes) -> int:
        """Judge a verify event; 0 to go on, or the X509_V_ERR_* number to refuse with."""

    def on_servername(self, name: bytes | None) -> int | None:
        """Take the name that a client asked for; None to go on, or the number of an alert."""

    def on_message(self, sent: bool, version: int, content_type: int, data: bytes) -> None:
        """Take notice of a protocol message."""

    def on_protocols(self, offered: Collection[bytes]) -> bytes | None:
        """Choose one of the application protocols that a client offers; None to go on without."""

    def on_secret(self, line: bytes) -> None:
        """Take notice of a secret, a line of the NSS key log format."""

    def on_psk_client(self, hint: bytes | None) -> tuple[bytes, bytes]:
        """Return our identity and key for a server that gave ``hint``; no key refuses."""

    def on_psk_server(self, identity: bytes | None) -> bytes:
        """Return the key of a client; none refuses."""

    def unlock(self) -> None:
        """Make new locks, in a forked child."""


class _Reference(weakref.ref["Handler"]):
    """A reference that takes its entry out of the table when the handler is gone."""

    __slots__ = ("key",)

    key: object


def _forget(reference: weakref.ref[Handler]) -> None:
    _handlers.pop(cast(_Reference, reference).key, None)


# By SSL pointer: pointers to one place are equal, whatever their type.  A WeakValueDictionary is no
# more than this, but for its Python in the way of every connection.
_handlers: dict[object, _Reference] = {}


def handlers() -> list[Handler]:
    """Every connection that there is."""
    found = [reference() for reference in list(_handlers.values())]
    return [handler for handler in found if handler is not None]


def _after_fork() -> None:
    for handler in handlers():
        handler.unlock()


os.register_at_fork(after_in_child=_after_fork)


def _keep(handler: Handler | None, error: BaseException) -> None:
    if handler is not None:
        handler.callback_error = error


_SSL_OF_STORE: int = _lib.SSL_get_ex_data_X509_STORE_CTX_idx()


def handler_of(pointer: SSLPointer) -> Handler | None:
    """The connection that has an ``SSL *``, if there is one."""
    reference = _handlers.get(pointer)
    return None if reference is None else reference()


def _handler_of_store(store: Any) -> Handler | None:
    return handler_of(_lib.X509_STORE_CTX_get_ex_data(store, _SSL_OF_STORE))


def _escaped(_kind: object, error: BaseException, traceback: Any) -> None:
    """Keep what was raised outside the ``try`` of a callback: signals come in at any bytecode."""
    arguments = traceback.tb_frame.f_locals
    if "store" in arguments:
        _keep(_handler_of_store(arguments["store"]), error)
    else:
        _keep(handler_of(arguments["pointer"]), error)


@_ffi.callback("int(int, X509_STORE_CTX *)", error=0, onerror=_escaped)  # type: ignore[untyped-decorator]  # cffi
def _on_verify(ok: int, store: Any) -> int:
    handler: Handler | None = None
    refusal = CERT_REJECTED
    try:
        handler = _handler_of_store(store)
        x509 = _lib.X509_STORE_CTX_get_current_cert(store)
        if handler is not None and x509:
            # On success OpenSSL leaves the error of an earlier event standing: it means nothing.
            # On failure an error of 0 would be read as success: 1 is X509_V_ERR_UNSPECIFIED.
            error = 0 if ok else _lib.X509_STORE_CTX_get_error(store) or 1
            depth = _lib.X509_STORE_CTX_get_error_depth(store)
            encoded = handler.certificates
            der = _der(x509) if encoded is None else encoded[x509]
            refusal = handler.on_verify(depth, error, der)
    except BaseException as error:
        _keep(handler, error)
        refusal = CERT_REJECTED
    _lib.X509_STORE_CTX_set_error(store, refusal)
    return 0 if refusal else 1


_ALERT_FATAL: int = _lib.SSL_TLSEXT_ERR_ALERT_FATAL
_ALERT_HANDSHAKE_FAILURE = 40  # RFC 8446 section 6


@_ffi.callback("int(SSL *, int *, void *)", error=_ALERT_FATAL, onerror=_escaped)  # type: ignore[untyped-decorator]  # cffi
def _on_servername(pointer: Any, alert: Any, _data: Any) -> int:
    handler: Handler | None = None
    number: int | None = _ALERT_HANDSHAKE_FAILURE
    try:
        handler = handler_of(pointer)
        if handler is not None:
            name = _lib.SSL_get_servername(pointer, _lib.TLSEXT_NAMETYPE_host_name)
            number = handler.on_servername(_ffi.string(name) if name else None)
    except BaseException as error:
        _keep(handler, error)
        number = _ALERT_HANDSHAKE_FAILURE
    if number is None:
        ok: int = _lib.SSL_TLSEXT_ERR_OK
        return ok
    alert[0] = number
    return _ALERT_FATAL


def set_servername_callback(context: SSL.Context) -> None:
    """Have :meth:`Handler.on_servername` called for the connections that a server accepts."""
    _lib.SSL_CTX_set_tlsext_servername_callback(_raw(context), _on_servername)


@_ffi.callback(  # type: ignore[untyped-decorator]  # cffi
    "void(int, int, int, const void *, size_t, SSL *, void *)", onerror=_escaped
)
def _on_message(
    sent: int, version: int, content_type: int, data: Any, size: int, pointer: Any, _data: Any
) -> None:
    handler: Handler | None = None
    try:
        handler = handler_of(pointer)
        if handler is not None:
            handler.on_message(bool(sent), version, content_type, _ffi.buffer(data, size)[:])
    except BaseException as error:
        _keep(handler, error)


def set_message_callback(context: SSL.Context) -> None:
    """Have :meth:`Handler.on_message` called for every protocol message, sent or received."""
    _lib.SSL_CTX_set_msg_callback(_raw(context), _on_message)


@_ffi.callback(  # type: ignore[untyped-decorator]  # cffi
    "int(SSL *, unsigned char **, unsigned char *, const unsigned char *, unsigned int, void *)",
    error=_ALERT_FATAL,
    onerror=_escaped,
)
def _on_protocols(
    pointer: Any, out: Any, out_size: Any, listed: Any, size: int, _data: Any
) -> int:
    handler: Handler | None = None
    answer = _ALERT_FATAL
    try:
        handler = handler_of(pointer)
        if handler is not None:
            # Each behind its length (RFC 7301 section 3.1), as OpenSSL has seen to.
            data = _ffi.buffer(listed, size)[:]
            offered: dict[bytes, int] = {}
            at = 0
            while at < size:
                end = at + 1 + data[at]
                offered[data[at + 1 : end]] = at + 1
                at = end
            chosen = handler.on_protocols(offered)
            if chosen is None:
                answer = _lib.SSL_TLSEXT_ERR_NOACK
            else:
                out[0] = _ffi.cast("unsigned char *", listed + offered[chosen])
                out_size[0] = len(chosen)
                answer = _lib.SSL_TLSEXT_ERR_OK
    except BaseException as error:
        _keep(handler, error)
    return answer


def set_protocols_callback(context: SSL.Context) -> None:
    """Have :meth:`Handler.on_protocols` called for clients that offer application protocols."""
    _lib.SSL_CTX_set_alpn_select_cb(_raw(context), _on_protocols, _ffi.NULL)


@_ffi.callback("void(*)(const SSL *, const char *)", onerror=_escaped)  # type: ignore[untyped-decorator]  # cffi
def _on_secret(pointer: Any, line: Any) -> None:
    handler: Handler | None = None
    try:
        handler = handler_of(pointer)
        if handler is not None:
            handler.on_secret(_ffi.string(line))
    except BaseException as error:
        _keep(handler, error)


def set_secret_callback(context: SSL.Context) -> None:
    """Have :meth:`Handler.on_secret` called for every secret of a handshake."""
    _lib.SSL_CTX_set_keylog_callback(_raw(context), _on_secret)


def _copy(data: bytes, memory: Any, size: int) -> int:
    """Copy ``data`` if there is room for it; the number of bytes copied."""
    if len(data) > size:
        return 0
    _ffi.memmove(memory, data, len(data))
    return len(data)


@_ffi.callback(  # type: ignore[untyped-decorator]  # cffi
    "unsigned int(SSL *, const char *, char *, unsigned int, unsigned char *, unsigned int)",
    error=0,
    onerror=_escaped,
)
def _on_psk_client(
    pointer: Any, hint: Any, identity: Any, identity_size: int, psk: Any, psk_size: int
) -> int:
    handler: Handler | None = None
    try:
        handler = handler_of(pointer)
        if handler is not None:
            name, key = handler.on_psk_client(_ffi.string(hint) if hint else None)
            if _copy(name + b"\0", identity, identity_size):
                return _copy(key, psk, psk_size)
    except BaseException as error:
        _keep(handler, error)
    return 0


@_ffi.callback(  # type: ignore[untyped-decorator]  # cffi
    "unsigned int(SSL *, const char *, unsigned char *, unsigned int)", error=0, onerror=_escaped
)
def _on_psk_server(pointer: Any, identity: Any, psk: Any, psk_size: int) -> int:
    handler: Handler | None = None
    try:
        handler = handler_of(pointer)
        if handler is not None:
            key = handler.on_psk_server(_ffi.string(identity) if identity else None)
            return _copy(key, psk, psk_size)
    except BaseException as error:
        _keep(handler, error)
    return 0


def set_psk_client_callback(context: SSL.Context) -> None:
    """Have :meth:`Handler.on_psk_client` called by clients."""
    _lib.SSL_CTX_set_psk_client_callback(_raw(context), _on_psk_client)


def set_psk_server_callback(context: SSL.Context, hint: bytes) -> None:
    """Have :meth:`Handler.on_psk_server` called by servers, which send ``hint``."""
    _check(_lib.SSL_CTX_use_psk_identity_hint(_raw(context), hint))
    _lib.SSL_CTX_set_psk_server_callback(_raw(context), _on_psk_server)


# Connections -------------------------------------------------------------------------------------


def new_connection(context: SSL.Context) -> SSLPointer:
    """A connection with the settings of ``context``.

    Not an ``SSL.Connection``: what that keeps for its own callbacks and sockets takes time and
    memory, and is not used.  (1 % of a handshake, and half a KiB for each connection.)
    """
    pointer: SSLPointer = _ffi.gc(_check(_lib.SSL_new(_raw(context))), _lib.SSL_free)
    return pointer


class View(SSL.Connection):
    """A connection as pyOpenSSL shows it, to be asked, and not to be used."""

    _socket = None

    def __init__(self, pointer: SSLPointer) -> None:
        self._ssl = pointer


def use_descriptor(pointer: SSLPointer, fileno: int) -> None:
    """Have a connection read and write a file descriptor from here on."""
    # Memory BIOs go with this.
    _check(_lib.SSL_set_fd(pointer, fileno))


def use_memory(pointer: SSLPointer) -> tuple[BIOPointer, BIOPointer]:
    """Have a connection read from a memory BIO from here on, and write to another; return them."""
    into, out = (_check(_lib.BIO_new(_lib.BIO_s_mem())) for _ in range(2))
    _lib.SSL_set_bio(pointer, into, out)  # which owns them from here on
    return into, out


def set_handler(pointer: SSLPointer, handler: Handler) -> None:
    """Have the callbacks of a connection go to ``handler``."""
    reference = _Reference(handler, _forget)
    # Not the pointer itself, which keeps the SSL alive.
    reference.key = _ffi.cast("SSL *", pointer)
    _handlers[reference.key] = reference


def bio_drain(bio: BIOPointer) -> bytes:
    """Everything in a memory BIO, which is empty then."""
    size = bio_mem_data(bio, NULL)
    if size <= 0:
        return b""
    buffer = new_buffer(size)
    _lib.BIO_read(bio, buffer, size)
    return take(buffer, size)


def bio_end(bio: BIOPointer) -> None:
    """Make a memory BIO say "end of file" once it is empty, not "try again"."""
    _lib.BIO_set_mem_eof_return(bio, 0)


def ask_for_host(pointer: SSLPointer, name: bytes) -> None:
    """Send the server's name (RFC 6066 section 3)."""
    _lib.SSL_set_tlsext_host_name(pointer, name)


def check_host(pointer: SSLPointer, name: bytes) -> bool:
    """Have the leaf checked for a host name; False if OpenSSL does not take the name."""
    parameters = _lib.SSL_get0_param(pointer)
    return bool(_lib.X509_VERIFY_PARAM_set1_host(parameters, name, len(name)) == 1)


def check_ip(pointer: SSLPointer, packed: bytes) -> bool:
    """Have the leaf checked for an IP address of 4 or 16 bytes."""
    parameters = _lib.SSL_get0_param(pointer)
    return bool(_lib.X509_VERIFY_PARAM_set1_ip(parameters, packed, len(packed)) == 1)


def verify_with_pins(pointer: SSLPointer, *, post_handshake: bool) -> None:
    """Demand a certificate, and send the verify events to the connection's handler."""
    flags = _DEMANDED | _lib.SSL_VERIFY_POST_HANDSHAKE if post_handshake else _DEMANDED
    _lib.SSL_set_verify(pointer, flags, _on_verify)


def verify_without_pins(pointer: SSLPointer, mode: int, *, post_handshake: bool) -> None:
    """Verify as :mod:`ssl` does under ``mode`` (``ssl.CERT_*``)."""
    _lib.SSL_set_verify(pointer, _verify_mode(mode, post_handshake), _ffi.NULL)


def request_certificate(pointer: SSLPointer) -> None:
    """Have a server ask its client for a certificate after the handshake (TLS 1.3)."""
    if not _lib.SSL_verify_client_post_handshake(pointer):
        error = queued_error()
        # Here, and nowhere else, _ssl.c has the number of the reason for the errno.
        reasons = {"WRONG_SSL_VERSION": WRONG_SSL_VERSION, "NOT_SERVER": 284}
        error.errno = reasons.get(str(error.reason), error.errno)
        raise error


WRONG_SSL_VERSION = 266  # SSL_R_WRONG_SSL_VERSION of sslerr.h


def version(pointer: SSLPointer) -> int:
    """The number of the protocol version; 0x0304 is TLS 1.3."""
    number: int = _lib.SSL_version(pointer)
    return number


def in_handshake(pointer: SSLPointer) -> bool:
    """Whether handshake messages are still to come; those after the handshake, too."""
    return _text(_lib.SSL_state_string_long(pointer)) != "SSL negotiation finished successfully"


def forbid_tickets(pointer: SSLPointer) -> None:
    """Issue no session tickets, and take none, on this connection."""
    _lib.SSL_set_options(pointer, _lib.SSL_OP_NO_TICKET)


def switch_context(pointer: SSLPointer, context: SSL.Context) -> None:
    """Give a connection the certificate and the settings of another context.

    It carries neither verify mode nor callback nor flags over: set them afterwards.
    """
    _check(_lib.SSL_set_SSL_CTX(pointer, _raw(context)))


def add_verify_flags(pointer: SSLPointer, flags: int, host_flags: int) -> None:
    """Set X509_V_FLAG_*, beside those that are set, and X509_CHECK_FLAG_* of one connection."""
    # cryptography binds no X509_VERIFY_PARAM_clear_flags.
    _set_verify_flags(_lib.SSL_get0_param(pointer), flags, host_flags)


def verify_result(pointer: SSLPointer) -> int:
    """The X509_V_ERR_* number the chain was left with; 0 is "no error"."""
    result: int = _lib.SSL_get_verify_result(pointer)
    return result


def resumed(pointer: SSLPointer) -> bool:
    """Whether the handshake resumed a session (and so verified nothing)."""
    return bool(_lib.SSL_session_reused(pointer))


def group_name(pointer: SSLPointer) -> str:
    """The name of the key exchange's group; only after a handshake, as OpenSSL would crash."""
    return _text(_lib.SSL_get0_group_name(pointer))


@functools.lru_cache(maxsize=256)
def long_name(dotted: str) -> str:
    """OpenSSL's long name of an object identifier, such as ``commonName``; or what came in."""
    number = _lib.OBJ_txt2nid(dotted.encode())
    clear_errors()
    return _text(_lib.OBJ_nid2ln(number)) if number else dotted


def received_shutdown_only(pointer: SSLPointer) -> bool:
    """Whether the peer has said close_notify, and we have not."""
    return bool(_lib.SSL_get_shutdown(pointer) == RECEIVED_SHUTDOWN)


def peer_certificate(
    pointer: SSLPointer, encode: Callable[[X509Pointer], bytes] = _der
) -> bytes | None:
    """The DER of the peer's leaf, or None if it presented none."""
    x509 = _lib.SSL_get_peer_certificate(pointer)
    if not x509:
        return None
    try:
        return encode(x509)
    finally:
        _lib.X509_free(x509)


def own_certificate(pointer: SSLPointer) -> bytes | None:
    """The DER of the leaf that we presented, or would have."""
    x509 = _lib.SSL_get_certificate(pointer)
    return _der(x509) if x509 else None


def shared_ciphers(pointer: SSLPointer, offered: Sequence[int]) -> list[tuple[str, str, int]]:
    """``(name, protocol version, secret bits)`` of our cipher suites that a client offered.

    Args:
        offered: the numbers of the client's (RFC 8446 section 4.1.2).
    """
    known: dict[str, tuple[str, str, int]] = {}
    for number in offered:
        cipher = _lib.SSL_CIPHER_find(pointer, number.to_bytes(2, "big"))
        if cipher:
            name = _text(_lib.SSL_CIPHER_get_name(cipher))
            version = _text(_lib.SSL_CIPHER_get_version(cipher))
            known[name] = name, version, _lib.SSL_CIPHER_get_bits(cipher, _ffi.NULL)
    ours: list[str] = []
    while name := _text(_lib.SSL_get_cipher_list(pointer, len(ours))):
        ours.append(name)
    return [known[name] for name in ours if name in known]


def verified_chain(pointer: SSLPointer) -> list[bytes]:
    """The path that OpenSSL built and checked, DER, leaf first; empty if there is none."""
    return _stack(_lib.SSL_get0_verified_chain(pointer))


def accepted_chain(pointer: SSLPointer, certificates: Certificates) -> tuple[bytes, ...]:
    """The verified chain, if OpenSSL has nothing against it and it is the peer's; else empty.

    Args:
        certificates: the connection's.
    """
    if verify_result(pointer) != 0:
        return ()
    encode = certificates.__getitem__
    chain = tuple(_stack(_lib.SSL_get0_verified_chain(pointer), encode))
    return chain if chain and chain[0] == peer_certificate(pointer, encode) else ()


def unverified_chain(pointer: SSLPointer, *, server_side: bool) -> list[bytes]:
    """What the peer sent, DER, leaf first; nothing may be decided on it."""
    chain = _stack(_lib.SSL_get_peer_cert_chain(pointer))
    if server_side:  # OpenSSL leaves the leaf of a client out of it
        leaf = peer_certificate(pointer)
        return [leaf, *chain] if leaf else chain
    return chain


def export_keying_material(
    pointer: SSLPointer, label: bytes, length: int, context: bytes | None
) -> bytes:
    """Key material of a connection (RFC 5705); ``Connection``'s own raises pyOpenSSL's errors."""
    buffer = new_buffer(length)
    given = () if context is None else (context, len(context), 1)
    clear_errors()
    _check(
        _lib.SSL_export_keying_material(
            pointer, buffer, length, label, len(label), *(given or (_ffi.NULL, 0, 0))
        )
    )
    return take(buffer, length)


def get_session(pointer: SSLPointer) -> bytes | None:
    """The session of a connection as DER; None before there is one.

    Bytes, and not the ``SSL_SESSION``: a connection that is closed without close_notify marks its
    own as not resumable, for every connection that shares it.
    """
    session = _lib.SSL_get1_session(pointer)
    if not session:
        return None
    try:
        buffer = new_buffer(_lib.i2d_SSL_SESSION(session, _ffi.NULL))
        end = _ffi.new("unsigned char **", _ffi.cast("unsigned char *", buffer))
        return take(buffer, _lib.i2d_SSL_SESSION(session, end))
    finally:
        _lib.SSL_SESSION_free(session)


def set_session(pointer: SSLPointer, der: bytes) -> None:
    """Offer a session for resumption."""
    data = _ffi.from_buffer("unsigned char[]", der)
    start = _ffi.new("unsigned char **", data)
    session = _check(_lib.d2i_SSL_SESSION(_ffi.NULL, start, len(der)))
    _check(_lib.SSL_set_session(pointer, _ffi.gc(session, _lib.SSL_SESSION_free)))


def error_numbers(prefix: str = "X509_V_ERR_") -> Iterator[tuple[str, int]]:
    """The numbers that the library itself has for ``prefix``, for tests to compare ours with."""
    for name in dir(_lib):
        if name.startswith(prefix):
            yield name, getattr(_lib, name)
