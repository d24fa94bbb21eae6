"""The command line: ``python -m pinsock demo | pin | show | check``.

``demo`` plays eleven scenes on loopback and holds what the client decided against what the server
saw.  ``pin`` prints the pins of files, ``show`` the chain that a server presents, ``check`` makes
one pinned handshake and says how it came out.

The exit status is part of the interface: 0 is a yes; 1 is a no (a refusal, a file or a server that
cannot be read); 2 is a command that makes no sense; 130 is Ctrl-C.  Whatever goes wrong is said in
one line on standard error, with what to do about it: a traceback would only be in the way of the
operator who has to find out at night which certificate has changed.

Facts
-----
* The SPKI of a *private* key is not in its file, it has to be derived, and it is OpenSSL that must
  do it: through a key object of cryptography, RSA-PSS keys come out as plain RSA, explicit curves
  as named ones and compressed points uncompressed.  Such a pin would match no certificate.
* An alert is all that a client may send after it has refused.  In TLS 1.2 that is a record of 7
  bytes; in TLS 1.3, encrypted, one of 24 bytes after the 6 of a change_cipher_spec (RFC 8446
  sections 5.2 and D.4).  Finished alone is larger, and a certificate is ten times that.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import ipaddress
import json
import math
import os
import re
import socket
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import TracebackType
from typing import Literal, NoReturn, TypeVar, get_args

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_der_public_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import crypto

from pinsock import (
    Pin,
    PinError,
    PinMatch,
    PinMismatchError,
    PinnedContext,
    PinnedObject,
    PinnedSocket,
    PinSet,
    PinSyntaxError,
    _chain,
    create_connection,
    create_default_context,
)
from pinsock._hosts import canonical_host
from pinsock._pins import ALGORITHMS, Algorithm, Kind, Position

__all__ = ["main"]

_T = TypeVar("_T")

_NO, _USAGE, _INTERRUPTED = 1, 2, 130
# A longer wait is a typing error, and beyond some 292 years no operating system takes it.
_MAX_TIMEOUT = 86400.0


class _Mistake(Exception):
    """What to tell the user in one line, and the exit status it means."""

    def __init__(self, message: str, status: int = _NO) -> None:
        super().__init__(message)
        self.status = status


class _Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are one line, as all others here are."""

    def error(self, message: str) -> NoReturn:
        raise _Mistake(f"{message} (see {self.prog} --help)", _USAGE)


def _print(text: str) -> None:
    """Print what may hold any character on a terminal that may not know it."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding))


def _complain(text: str) -> None:
    print(f"pinsock: {text}", file=sys.stderr)


# pin -------------------------------------------------------------------------------------------

_PEM = re.compile(rb"-----BEGIN ([^-\r\n]+)-----\s(.*?)-----END \1-----", re.DOTALL)
_CERTIFICATES = ("CERTIFICATE", "X509 CERTIFICATE")
_REQUESTS = ("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST")
# "PRIVATE KEY" is PKCS #8, the other spelling is what openssl wrote before it.
_PLAIN_KEYS = ("PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY")
_PRIVATE_KEYS = (*_PLAIN_KEYS, "ENCRYPTED PRIVATE KEY")
# Curve and group parameters stand before the keys that openssl makes with them.
_PARAMETERS = ("EC PARAMETERS", "DSA PARAMETERS")
_READABLE = "a certificate, a public key, a private key or a certificate request"


@dataclass(frozen=True, slots=True)
class _Material:
    """Something that has a pin: a certificate or the SPKI of a key, and what it was."""

    der: bytes
    what: str
    is_certificate: bool = False

    def pin(self, kind: Kind, algorithm: Algorithm) -> Pin:
        if self.is_certificate:
            return Pin.from_certificate(self.der, kind, algorithm)
        return Pin.from_public_key(self.der, algorithm)


def _colons(pin: Pin) -> str:
    return pin.digest.hex(":").upper()


def _in_base64(pin: Pin) -> str:
    return base64.b64encode(pin.digest).decode()


# Every spelling that Pin.parse reads: the kinds of pin it can say, and how.
_SPELLINGS: dict[str, tuple[tuple[Kind, ...], Callable[[Pin], str]]] = {
    "canonical": (("spki", "cert"), str),
    "curl": (("spki",), lambda pin: f"{pin.algorithm}//{_in_base64(pin)}"),
    "hpkp": (("spki",), lambda pin: f'pin-{pin.algorithm}="{_in_base64(pin)}"'),
    "hex": (("spki",), lambda pin: f"{pin.algorithm}:{pin.digest.hex()}"),
    "openssl": (("cert",), lambda pin: f"{pin.algorithm} Fingerprint={_colons(pin)}"),
    "colons": (("cert",), _colons),
}


def _private_key(name: str, data: bytes, password: bytes | None) -> _Material:
    """The SPKI that belongs to a private key; ``data`` is PEM."""
    # PKCS #8 says so in its label, what came before it in a header (RFC 1421 section 4.6.1.1).
    encrypted = b"BEGIN ENCRYPTED" in data or b"Proc-Type: 4,ENCRYPTED" in data
    if encrypted and password is None:
        raise _Mistake(f"{name}: the private key is encrypted: give --password-file FILE")
    try:
        # Never without a password: OpenSSL would ask the terminal for one.
        key = crypto.load_privatekey(crypto.FILETYPE_PEM, data, password or b"")
    except (crypto.Error, ValueError):
        why = "is the password right?" if encrypted else "is the file whole?"
        raise _Mistake(f"{name}: the private key cannot be read: {why}") from None
    return _Material(crypto.dump_publickey(crypto.FILETYPE_ASN1, key), "private key")


def _pem_of(der: bytes, label: str) -> bytes:
    body = base64.encodebytes(der).decode()
    return f"-----BEGIN {label}-----\n{body}-----END {label}-----\n".encode()


def _read_label(name: str, label: str, der: bytes) -> _Material:
    """Make material of the inside of a PEM block."""
    try:
        if label in _CERTIFICATES:
            _chain.spki(der)
            return _Material(der, _chain.subject(der) or "(no subject)", is_certificate=True)
        if label in _REQUESTS:
            return _Material(_chain.csr_spki(der), "certificate request")
        if label == "RSA PUBLIC KEY":
            key = load_der_public_key(der)
            der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except ValueError as error:
        raise _Mistake(f"{name}: the block 'BEGIN {label}' cannot be read: {error}") from None
    if label not in ("PUBLIC KEY", "RSA PUBLIC KEY"):
        raise _Mistake(f"{name}: 'BEGIN {label}' has no pin: give {_READABLE}")
    if not _chain.is_spki(der):
        raise _Mistake(f"{name}: the block 'BEGIN {label}' is not a public key")
    return _Material(der, "public key")


def _read_pem(name: str, data: bytes, password: bytes | None) -> Iterator[_Material]:
    for block in _PEM.finditer(data):
        label = block[1].decode("ascii", "backslashreplace")
        if label in _PARAMETERS:
            continue
        if label in _PRIVATE_KEYS:
            yield _private_key(name, block[0], password)
            continue
        try:
            der = base64.b64decode(b"".join(block[2].split()), validate=True)
        except binascii.Error:
            raise _Mistake(f"{name}: the block 'BEGIN {label}' is damaged: copy it anew") from None
        yield _read_label(name, label, der)


def _read_der(name: str, der: bytes, password: bytes | None) -> _Material:
    """Find out what a DER file is by trying; no two of these look alike."""
    if _chain.is_spki(der):
        return _Material(der, "public key")
    for label in ("CERTIFICATE", "CERTIFICATE REQUEST", "RSA PUBLIC KEY"):
        try:
            return _read_label(name, label, der)
        except _Mistake:
            pass
    for label in _PLAIN_KEYS:
        try:
            return _private_key(name, _pem_of(der, label), password)
        except _Mistake:
            pass
    if _is_encrypted(der):
        return _private_key(name, _pem_of(der, "ENCRYPTED PRIVATE KEY"), password)
    raise _Mistake(f"{name}: this is neither PEM nor DER of {_READABLE}")


def _is_encrypted(der: bytes) -> bool:
    """Tell whether this is a private key that a password opens."""
    try:
        load_der_private_key(der, None)
    except TypeError:  # that is how cryptography says that it needs one
        return True
    except (ValueError, UnsupportedAlgorithm):
        pass
    return False


def _read_file(path: str) -> bytes:
    if path == "-":
        if sys.stdin is None:
            raise _Mistake("cannot read -: standard input is closed")
        return sys.stdin.buffer.read()
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise _Mistake(f"cannot read {path}: {why}") from None


def _materials(path: str, password: bytes | None) -> list[_Material]:
    data = _read_file(path)
    name = "standard input" if path == "-" else path
    if b"-----BEGIN " not in data:
        return [_read_der(name, data, password)]
    found = list(_read_pem(name, data, password))
    if not found:
        raise _Mistake(f"{name}: there is no whole PEM block of {_READABLE}")
    return found


def _plan(kind: Kind | None, spelling: str) -> list[tuple[Kind, Callable[[Pin], str]]]:
    """What to print for each certificate or key: kinds of pin, and their spelling."""
    wanted = _SPELLINGS.values() if spelling == "all" else [_SPELLINGS[spelling]]
    plan = [(each, spell) for kinds, spell in wanted for each in kinds if kind in (None, each)]
    if not plan:
        (only,) = _SPELLINGS[spelling][0]
        raise _Mistake(f"the spelling {spelling!r} can only say --kind {only}", _USAGE)
    # One pin is what most people want of a certificate, and that of its key is the one to have.
    return plan[:1] if spelling == "canonical" else plan


def _pin(arguments: argparse.Namespace) -> int:
    password = None
    if arguments.password_file is not None:
        password = _read_file(arguments.password_file).split(b"\n")[0].rstrip(b"\r")
    plan = _plan(arguments.kind, arguments.spelling)
    lines: list[tuple[str, str]] = []
    for path in arguments.files:
        count = len(lines)
        for material in _materials(path, password):
            for kind, spell in plan:
                if kind == "spki" or material.is_certificate:
                    pin = material.pin(kind, arguments.algorithm)
                    lines.append((spell(pin), f"{material.what} / {path}"))
        if len(lines) == count:
            raise _Mistake(
                f"{path}: there is no certificate in it, and only a certificate has such a pin: "
                "use --kind spki",
            )
    for text, comment in lines:
        # A shell takes the rest of the line for a comment too, so the whole can be pasted.
        said = f"  # {comment}" if arguments.verbose or len(lines) > 1 else ""
        _print(text + "".join(c if c.isprintable() else "?" for c in said))
    return 0


# show and check: connecting --------------------------------------------------------------------

_HOST_PORT = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:\[\]]+)(?::(?P<port>[^:]*))?")


@dataclass(frozen=True, slots=True)
class _Target:
    """Where to connect to."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> _Target:
        """Read ``HOST[:PORT]``; an IPv6 address with a port stands in brackets."""
        if "/" in text:
            raise argparse.ArgumentTypeError(f"{text!r} is a URL or a path: give HOST[:PORT] alone")
        try:
            return cls(str(ipaddress.IPv6Address(text)), 443)
        except ValueError:
            pass
        match = _HOST_PORT.fullmatch(text)
        if match is None:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not HOST[:PORT]: an IPv6 address with a port is [ADDRESS]:PORT"
            )
        host = match["host"]
        if host.startswith("["):
            try:
                host = str(ipaddress.IPv6Address(host[1:-1]))
            except ValueError:
                raise argparse.ArgumentTypeError(
                    f"{host[1:-1]!r} is not an IPv6 address: brackets are for those alone"
                ) from None
        _read_name(host)
        return cls(host, 443 if match["port"] is None else _read_port(match["port"]))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _read_name(text: str) -> str:
    # Now, and not when ssl or the resolver encodes it: those raise something else each time.
    try:
        canonical_host(text)
    except PinSyntaxError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _read_port(text: str) -> int:
    # int() would take signs, spaces, underscores and the digits of other scripts as well.
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"bad port {text!r}: a port is a number from 1 to 65535")
    return int(text)


def _read_timeout(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= _MAX_TIMEOUT:  # false for NaN too
        raise argparse.ArgumentTypeError(
            f"bad timeout {text!r}: give seconds, above 0 and up to {_MAX_TIMEOUT:.0f}"
        )
    return seconds


@dataclass(frozen=True, slots=True)
class _Line:
    """How to reach a server: the target, the name to ask for, and how long to wait."""

    target: _Target
    servername: str
    timeout: float

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> _Line:
        target: _Target = arguments.target
        # The zone of a link-local address says which interface to use, and is no part of the name.
        servername: str = arguments.servername or target.host.partition("%")[0]
        return cls(target, servername, arguments.timeout)

    @contextmanager
    def connect(self, context: PinnedContext) -> Iterator[PinnedSocket]:
        """Connect; the handshake is the caller's to make, inside this context.

        Failures of certificates are raised as they are, all others as a :exc:`_Mistake`.
        """
        try:
            raw = socket.create_connection(
                (self.target.host, self.target.port), timeout=self.timeout
            )
        except OSError as error:
            raise _Mistake(self._why_unreachable(error)) from None
        with raw:
            try:
                # Made separately, the handshake fails on a connection that was reset before it
                # began; wrap_socket takes such a one for a socket that is yet to be connected.
                with context.wrap_socket(
                    raw, server_hostname=self.servername, do_handshake_on_connect=False
                ) as tls:
                    yield tls
            except ssl.SSLCertVerificationError:
                raise
            except OSError as error:
                raise _Mistake(self._why_no_handshake(error)) from None

    @property
    def _hung_up(self) -> str:
        return (
            f"{self.target} closed the connection before a TLS handshake was complete: check that "
            "the port speaks TLS, and whether the server wants another --servername"
        )

    def _why_unreachable(self, error: OSError) -> str:
        target = self.target
        if isinstance(error, socket.gaierror):
            return f"unknown host {target.host!r} ({error.strerror}): check the spelling, and DNS"
        if isinstance(error, TimeoutError):
            return (
                f"{target} did not answer within {self.timeout:g} seconds: "
                "check address and firewall, or give a longer --timeout"
            )
        if isinstance(error, ConnectionRefusedError):
            return f"{target} refused the connection: nothing listens there; check the port"
        if isinstance(error, ConnectionResetError):
            return self._hung_up
        return f"cannot connect to {target}: {error.strerror or error}; check the network"

    def _why_no_handshake(self, error: OSError) -> str:
        target = self.target
        if isinstance(error, TimeoutError):
            return (
                f"{target} accepted the connection but did not complete a TLS handshake within "
                f"{self.timeout:g} seconds: check that the port speaks TLS, or give a longer "
                "--timeout"
            )
        reason = getattr(error, "reason", None) or ""
        if reason in _NOT_TLS:
            return f"{target} does not speak TLS: check the port (STARTTLS is not supported)"
        if not isinstance(error, ssl.SSLError) or isinstance(
            error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)
        ):
            return self._hung_up
        said = reason.replace("_", " ").lower() or error.strerror
        return (
            f"the TLS handshake with {target} failed: {said}; check --servername, and which "
            "versions of TLS and client certificates the server wants"
        )


# What OpenSSL makes of bytes that are not a TLS record.
_NOT_TLS = frozenset(
    {
        "BAD_PROTOCOL_VERSION_NUMBER",
        "BAD_RECORD_TYPE",
        "ENCRYPTED_LENGTH_TOO_LONG",
        "PACKET_LENGTH_TOO_LONG",
        "RECORD_LAYER_FAILURE",
        "UNEXPECTED_MESSAGE",
        "WRONG_VERSION_NUMBER",
    }
)


def _context(pins: PinSet | None, cafile: str | None) -> PinnedContext:
    try:
        return create_default_context(pins=pins, cafile=cafile)
    except (OSError, ValueError) as error:
        raise _Mistake(
            f"--cafile {cafile}: no certificates can be read from it ({_reason(error)}): "
            "give a file of PEM certificates",
            _USAGE,
        ) from None


def _reason(error: Exception) -> str:
    """Say in one line why ``ssl`` or the operating system refused."""
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = str(error.verify_message)
        # X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH
        if error.verify_code in (62, 64):
            reason += " (--servername says which name to check)"
        return reason
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)


# show ------------------------------------------------------------------------------------------


def _or_none(read: Callable[[bytes], _T], der: bytes) -> _T | None:
    """What OpenSSL let pass may still be more than our reader takes; show the rest of it."""
    try:
        return read(der)
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class _Row:
    """One certificate, as ``show`` shows it."""

    depth: int | None
    position: str | None
    sent: bool
    subject: str | None
    issuer: str | None
    not_before: datetime | None
    not_after: datetime | None
    pin: str | None
    certificate_pin: str

    @classmethod
    def of(cls, der: bytes, depth: int | None, position: str | None, sent: bool) -> _Row:
        validity = _or_none(_chain.validity, der)
        key = _or_none(_chain.spki, der)
        return cls(
            depth=depth,
            position=position,
            sent=sent,
            subject=_or_none(_chain.subject, der),
            issuer=_or_none(_chain.issuer, der),
            not_before=validity[0] if validity else None,
            not_after=validity[1] if validity else None,
            pin=str(Pin.from_public_key(key)) if key else None,
            certificate_pin=str(_certificate_pin(der)),
        )

    def as_json(self) -> dict[str, object]:
        return {
            "depth": self.depth,
            "position": self.position,
            "sent": self.sent,
            "subject": self.subject,
            "issuer": self.issuer,
            "not_before": self.not_before and self.not_before.isoformat(),
            "not_after": self.not_after and self.not_after.isoformat(),
            "pin": self.pin,
            "certificate_pin": self.certificate_pin,
        }

    def lines(self, now: datetime) -> Iterator[str]:
        unreadable = "(cannot be read)"
        where = "not in the verified chain" if self.depth is None else f"depth {self.depth}"
        where += f", {self.position}" if self.position else ""
        yield where + ("" if self.sent else " (not sent: it is from the trust store)")
        yield f"  subject      {unreadable if self.subject is None else self.subject}"
        yield f"  issuer       {unreadable if self.issuer is None else self.issuer}"
        if self.not_before is None or self.not_after is None:
            yield f"  expires      {unreadable}"
        else:
            state = "  EXPIRED" if now > self.not_after else ""
            state = "  NOT YET VALID" if now < self.not_before else state
            yield f"  expires      {self.not_after:%Y-%m-%d %H:%M:%S} UTC{state}"
        yield f"  pin          {self.pin or unreadable}"
        yield f"  certificate  {self.certificate_pin}"


def _certificate_pin(der: bytes) -> Pin:
    """The pin of a whole certificate, also of one whose inside cannot be read."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(der)
    return Pin("cert", "sha256", digest.finalize())


def _position(depth: int, length: int) -> str:
    names = ["leaf"] if depth == 0 else []
    names += ["intermediate"] if 0 < depth < length - 1 else []
    names += ["anchor"] if depth == length - 1 else []
    return ", ".join(names)


@dataclass(frozen=True, slots=True)
class _Sight:
    """What a server presents, and what the trust store says of it.

    Attributes:
        version: of TLS; None if the server did not complete the handshake.
        rows: the certificates, leaf first.
        trusted: None if that could not be found out.
        reason: why ``trusted`` is not True.
    """

    version: str | None
    rows: tuple[_Row, ...]
    trusted: bool | None
    reason: str | None


def _look(line: _Line, cafile: str | None) -> _Sight:
    """Shake hands twice: to see, trusting nobody; then to hear what the trust store says.

    Looking sends no data and no certificate, and decides nothing, so the first handshake may go
    without verification; an operator has to see the chain that everybody refuses most of all.
    """
    verifying = _context(None, cafile)
    looking = PinnedContext(pins=None)
    looking.check_hostname = False
    looking.verify_mode = ssl.CERT_NONE
    with line.connect(looking) as tls:
        try:
            tls.do_handshake()
        except ssl.SSLError:
            # A server that demands a client certificate has presented its own by then (TLS 1.2).
            if not tls.get_unverified_chain():
                raise
        version = tls.version()
        sent = tls.get_unverified_chain()
    verified: list[bytes] = []
    trusted, reason = None, None
    try:
        with line.connect(verifying) as tls:
            tls.do_handshake()
            # A second machine behind the same name may have answered: keep its chains together.
            sent, verified = tls.get_unverified_chain(), tls.get_verified_chain()
            trusted = True
    except ssl.SSLCertVerificationError as error:
        trusted, reason = False, _reason(error)
    except _Mistake as mistake:
        reason = str(mistake)
    if verified:
        rows = [
            _Row.of(der, depth, _position(depth, len(verified)), der in sent)
            for depth, der in enumerate(verified)
        ]
        rows += [_Row.of(der, None, None, True) for der in sent if der not in verified]
    else:
        rows = [_Row.of(der, i, None if i else "leaf", True) for i, der in enumerate(sent)]
    return _Sight(version, tuple(rows), trusted, reason)


def _show(arguments: argparse.Namespace) -> int:
    line = _Line.of(arguments)
    sight = _look(line, arguments.cafile)
    if arguments.json:
        _print_json(
            {
                "host": line.target.host,
                "port": line.target.port,
                "servername": line.servername,
                "version": sight.version,
                "chain": [row.as_json() for row in sight.rows],
                "trusted": sight.trusted,
                "reason": sight.reason,
            }
        )
        return 0
    asked = "" if line.servername == line.target.host else f" as {line.servername}"
    _print(f"{line.target}{asked}, {sight.version or 'handshake not completed'}")
    now = datetime.now(timezone.utc)
    for row in sight.rows:
        for text in row.lines(now):
            _print(text)
    store = "the trust store" if arguments.cafile is None else arguments.cafile
    if sight.trusted:
        _print(f"trusted: yes, by {store}")
    else:
        _print(f"trusted: {'no' if sight.trusted is False else 'unknown'}, {sight.reason}")
    return 0


def _print_json(value: Mapping[str, object]) -> None:
    _print(json.dumps(value, indent=2))


# check -----------------------------------------------------------------------------------------

# Only a known position is split off: a pin has '=' of its own (base64, RFC 7469's spelling).
_NAMED: dict[str, Position] = {
    "leaf": "leaf",
    "intermediate": "intermediate",
    "anchor": "anchor",
    "ca": "ca",
    "any": "any",
}
_POSITION = re.compile(rf"(?P<position>{'|'.join(_NAMED)}|[0-9]{{1,9}})=(?P<pin>.+)", re.DOTALL)


def _read_pins(texts: Sequence[str], trust: Literal["ca", "pins"]) -> PinSet:
    found: dict[Position, list[Pin]] = {}
    try:
        for text in texts:
            match = _POSITION.fullmatch(text)
            name, pin = (match["position"], match["pin"]) if match else ("any", text)
            position = int(name) if name.isdigit() else _NAMED[name]
            found.setdefault(position, []).append(Pin.parse(pin))
        return PinSet(found, trust=trust)
    except ValueError as error:
        raise _Mistake(f"--pin: {error}", _USAGE) from None


def _where(match: PinMatch) -> str:
    position = match.position
    return f"matched at depth {match.depth}" + (f" ({position})" if position in _NAMED else "")


def _match_as_json(match: PinMatch) -> dict[str, object]:
    return {"depth": match.depth, "position": match.position, "pin": str(match.pin)}


def _check(arguments: argparse.Namespace) -> int:
    line = _Line.of(arguments)
    pins = _read_pins(arguments.pins, arguments.trust)
    context = _context(pins, arguments.cafile)
    report: dict[str, object] = {
        "host": line.target.host,
        "port": line.target.port,
        "servername": line.servername,
    }
    try:
        with line.connect(context) as tls:
            tls.do_handshake()
            match, version = tls.pin_match, tls.version()
    except ssl.SSLCertVerificationError as error:
        return _refused(line, report, error, arguments.json)
    if match is None:  # a handshake that was not judged by these pins is no yes
        raise _Mistake(f"{line.target}: no refusal and no match: please report this as a bug")
    matches = (match, *match.others)
    if arguments.json:
        report.update(accepted=True, version=version, reason=None)
        _print_json(report | {"matches": [_match_as_json(each) for each in matches]})
        return 0
    for each in matches:
        _print(f"{line.target}: {_where(each)}: {each.pin}")
    return 0


def _refused(
    line: _Line, report: dict[str, object], error: ssl.SSLCertVerificationError, as_json: bool
) -> int:
    if as_json:
        report.update(accepted=False, version=None, reason=_reason(error), matches=[])
        report["error"] = type(error).__name__
        if isinstance(error, PinMismatchError):
            report["positions"] = [
                {
                    "depth": position.depth,
                    "subject": position.subject,
                    "not_after": position.not_after and position.not_after.isoformat(),
                    "pin": position.pin,
                    "certificate_pin": position.certificate_pin,
                }
                for position in error.positions
            ]
            report["expected"] = {str(name): pins for name, pins in error.expected.items()}
        _print_json(report)
        return _NO
    # A mismatch lists the chain and the pins expected: that is what mends it.
    said = str(error.args[1]) if isinstance(error, PinError) else _reason(error)
    _complain(f"refused: {line.target}: {said}")
    return _NO


# demo: certificates ----------------------------------------------------------------------------

_LIMIT = 5.0  # seconds that any one step of the demo may take, so that nothing hangs
_PING, _PONG = b"ping", b"pong"
_ALERT_SIZE = 30  # see the module's facts
_VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


@dataclass(frozen=True, slots=True)
class _Identity:
    """A certificate, its key, and the certificates that go with it up to the root."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    above: tuple[x509.Certificate, ...] = ()

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pin(self) -> Pin:
        return Pin.from_certificate(self.certificate)

    def write(self, path: Path, *appended: x509.Certificate) -> Path:
        """Write what a server loads: the key, the chain without its root, and ``appended``."""
        blocks = [self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())]
        chain = (self.certificate, *self.above[:-1], *appended)
        blocks += [certificate.public_bytes(Encoding.PEM) for certificate in chain]
        path.write_bytes(b"".join(blocks))
        return path


def _issue(
    name: str,
    issuer: _Identity | None = None,
    *,
    usage: x509.ObjectIdentifier | None = None,
    ends: timedelta = timedelta(days=30),
    key: ec.EllipticCurvePrivateKey | None = None,
) -> _Identity:
    """Make a certificate: self-signed without ``issuer``, and a CA's without ``usage``.

    It has all that RFC 5280 asks for, because contexts of Python 3.13 on are strict about it.
    """
    key = key or ec.generate_private_key(ec.SECP256R1())
    signer = issuer.key if issuer else key
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(timezone.utc)
    authority = usage is None
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=60))
        .not_valid_after(now + ends)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=not authority,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=authority,
                crl_sign=authority,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )
    if usage is not None:
        names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
        builder = builder.add_extension(names, critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    certificate = builder.sign(signer, hashes.SHA256())
    above = (issuer.certificate, *issuer.above) if issuer else ()
    return _Identity(certificate, key, above)


# demo: the server ------------------------------------------------------------------------------


@dataclass(slots=True)
class _Testimony:
    """What one side of a connection can say of it.

    Attributes:
        completed: its handshake came to its end.
        certificate: what the other side proved to own.
        data: what the other side sent.
        error: what ended the connection, if not we.
        match: where our pins, if we have any, matched.
        last_flight: how many bytes came after we had sent last.
    """

    completed: bool = False
    certificate: bytes | None = None
    data: bytes = b""
    error: OSError | None = None
    match: PinMatch | None = None
    last_flight: int = 0

    @property
    def alert(self) -> str | None:
        """The alert that the other side sent, as RFC 8446 section 6 names it."""
        reason = getattr(self.error, "reason", None) or ""
        _, alert, name = reason.rpartition("ALERT_")
        return name.lower() if alert else None

    def __str__(self) -> str:
        if self.completed:
            return f"{self._certificate()}, data {self.data!r}"
        said = f"alert {self.alert}" if self.alert else f"the failure {self.error!r}"
        if self.last_flight > _ALERT_SIZE:
            return f"{said}, and {self.last_flight} bytes, which is more than an alert"
        return f"{said}, no client certificate, no data"

    def _certificate(self) -> str:
        if self.certificate is None:
            return "no client certificate"
        return f"client certificate {_chain.subject(self.certificate)}"


class _Server:
    """A TLS server on loopback, in a thread, for one connection.

    It moves the bytes itself, between the socket and a pair of BIOs, so that it can say how much
    the client sent after the server's last word: its testimony that there was nothing but an alert
    does not depend on what TLS lets through.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self.saw = _Testimony()
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(_LIMIT)
        self.address: tuple[str, int] = self._listener.getsockname()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> _Server:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Every step in the thread has its limit, so it ends.
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        try:
            connection, _ = self._listener.accept()
            with connection:
                connection.settimeout(_LIMIT)
                self._serve(connection)
        except OSError as error:
            # Of several errors the first tells what happened.
            self.saw.error = self.saw.error or error

    def _serve(self, connection: socket.socket) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self._context.wrap_bio(incoming, outgoing, server_side=True)

        def drive(step: Callable[[], _T]) -> _T:
            """Take one step of the protocol, moving bytes until it is done."""
            while True:
                try:
                    return step()
                except ssl.SSLWantReadError:
                    pass
                finally:
                    answer = outgoing.read()
                    if answer:
                        connection.sendall(answer)
                        self.saw.last_flight = 0
                received = connection.recv(65536)
                self.saw.last_flight += len(received)
                if received:
                    incoming.write(received)
                else:
                    incoming.write_eof()

        try:
            drive(tls.do_handshake)
            self.saw.completed = True
            self.saw.certificate = tls.getpeercert(True)
            if isinstance(tls, PinnedObject):
                self.saw.match = tls.pin_match
            self.saw.data = drive(lambda: tls.read(64))
            drive(lambda: tls.write(_PONG))
        except OSError as error:
            self.saw.error = error
        # To close with bytes unread is to reset the connection, which may take our alert from the
        # client before it has read it.
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass


def _visit(connect: Callable[[], ssl.SSLSocket]) -> _Testimony:
    """Be a client: connect, send, read; and say how it was."""
    saw = _Testimony()
    try:
        with connect() as tls:
            saw.completed = True
            if isinstance(tls, PinnedSocket):
                saw.match = tls.pin_match
            tls.sendall(_PING)
            saw.data = tls.recv(64)
    except OSError as error:
        saw.error = error
    return saw


# demo: the scenes ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Scene:
    """A connection, its pins, and how it must come out.

    Attributes:
        server: the PEM file that the server loads.
        client: the PEM file that the client loads.
        pins: what the pinning side goes by: the client, unless ``pinned_by`` says otherwise.
        roots: what the pinning side trusts, DER.
        depth: where the pins must match; None if the peer must be refused.
        alert: what the refused side must have been told.
        bait: try the server first with a client that does not pin, which must fall for it.
    """

    title: str
    server: Path
    client: Path
    pins: PinSet
    roots: bytes
    depth: int | None = None
    alert: str = "bad_certificate"
    pinned_by: Literal["client", "server"] = "client"
    bait: bool = False


@dataclass(frozen=True, slots=True)
class _Stage:
    """The scenes, and what they have in common: the roots of those who go without pins."""

    root: bytes
    client_root: bytes
    scenes: tuple[_Scene, ...]

    def plain_server(self, scene: _Scene, version: ssl.TLSVersion) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = context.maximum_version = version
        context.load_cert_chain(scene.server)
        # It asks for a certificate, so that it can say whether it got one.
        context.load_verify_locations(cadata=self.client_root)
        context.verify_mode = ssl.CERT_OPTIONAL
        return context

    def plain_client(self, scene: _Scene, address: tuple[str, int], roots: bytes) -> _Testimony:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=roots)
        context.load_cert_chain(scene.client)

        def connect() -> ssl.SSLSocket:
            with socket.create_connection(address, timeout=_LIMIT) as raw:
                return context.wrap_socket(raw, server_hostname="localhost")

        return _visit(connect)

    def play(self, scene: _Scene, version: ssl.TLSVersion) -> tuple[bool, str]:
        """Play one scene; return whether it came out as it must, and what happened."""
        if scene.pinned_by == "server":
            return self._server_pins(scene, version)
        right, said = self._client_pins(scene, version)
        if scene.bait:
            with _Server(self.plain_server(scene, version)) as server:
                self.plain_client(scene, server.address, scene.roots)
            right = right and server.saw.certificate is not None and server.saw.data == _PING
            said += f" (from a client without pins: {server.saw})"
        return right, said

    def _client_pins(self, scene: _Scene, version: ssl.TLSVersion) -> tuple[bool, str]:
        context = create_default_context(pins=scene.pins, cadata=scene.roots)
        context.load_cert_chain(scene.client)
        with _Server(self.plain_server(scene, version)) as server:
            client = _visit(
                lambda: create_connection(
                    server.address, _LIMIT, context=context, server_hostname="localhost"
                )
            )
        saw = server.saw
        said = f"client {_decision(client)}; server saw {saw}"
        if scene.depth is not None:
            accepted = client.match is not None and client.match.depth == scene.depth
            served = client.data == _PONG and saw.certificate is not None and saw.data == _PING
            return accepted and served, said
        nothing = not saw.completed and saw.last_flight <= _ALERT_SIZE
        return not client.completed and saw.alert == scene.alert and nothing, said

    def _server_pins(self, scene: _Scene, version: ssl.TLSVersion) -> tuple[bool, str]:
        context = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=scene.pins)
        context.minimum_version = context.maximum_version = version
        context.load_cert_chain(scene.server)
        context.load_verify_locations(cadata=scene.roots)
        with _Server(context) as server:
            client = self.plain_client(scene, server.address, self.root)
        saw = server.saw
        if scene.depth is not None:
            accepted = saw.match is not None and saw.match.depth == scene.depth
            said = f"server {_decision(saw)}; client got {client.data!r}"
            return accepted and saw.data == _PING and client.data == _PONG, said
        said = f"server {_decision(saw)}; client saw alert {client.alert}, got {client.data!r}"
        refused = isinstance(saw.error, PinMismatchError) and not saw.completed
        return refused and client.alert == scene.alert and client.data == b"", said


def _decision(side: _Testimony) -> str:
    if side.completed and side.match is not None:
        return f"accepted, {_where(side.match)}"
    if side.error is None:
        return "accepted, without pins"
    if isinstance(side.error, PinError):
        return f"refused, {type(side.error).__name__}"
    return f"refused, {_reason(side.error)}"


def _set_the_stage(directory: Path) -> _Stage:
    server_auth, client_auth = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
    root = _issue("demo root")
    intermediate = _issue("demo intermediate", root)
    leaf = _issue("demo server", intermediate, usage=server_auth)
    backup_key = ec.generate_private_key(ec.SECP256R1())
    renewed = _issue("demo server, new key", intermediate, usage=server_auth, key=backup_key)
    expired = _issue(
        "demo server, expired", intermediate, usage=server_auth, ends=timedelta(days=-1)
    )
    rogue_root = _issue("rogue root")
    rogue = _issue("rogue server", rogue_root, usage=server_auth)
    lonely = _issue("self-signed server", usage=server_auth)
    client_root = _issue("demo client root")
    second: dict[Position, Pin] = {1: intermediate.pin}
    alice = _issue("alice", client_root, usage=client_auth)
    mallory = _issue("mallory", client_root, usage=client_auth)

    shipped = directory / "server.der"
    shipped.write_bytes(leaf.der)
    scene = _Scene(
        title="leaf pin",
        server=leaf.write(directory / "leaf.pem"),
        client=alice.write(directory / "alice.pem"),
        pins=PinSet({"leaf": leaf.pin}),
        roots=root.der,
        depth=0,
    )
    stranger = replace(
        scene,
        title="man in the middle, his CA trusted",
        server=rogue.write(directory / "rogue.pem"),
        roots=root.der + rogue_root.der,
        depth=None,
        bait=True,
    )
    client = replace(
        scene,
        title="client pinned by the server",
        pins=PinSet({"leaf": alice.pin}),
        roots=client_root.der,
        pinned_by="server",
    )
    return _Stage(
        root.der,
        client_root.der,
        (
            scene,
            replace(scene, title="CA pin at depth 1", pins=PinSet(second), depth=1),
            replace(scene, title="anchor pin", pins=PinSet({"anchor": root.pin}), depth=2),
            replace(
                scene,
                title="whole-certificate pin from a file",
                pins=PinSet({"leaf": Pin.from_certificate(shipped.read_bytes(), kind="cert")}),
            ),
            replace(
                scene,
                title="backup pin after a key change",
                server=renewed.write(directory / "renewed.pem"),
                pins=PinSet({"leaf": [leaf.pin, Pin.from_public_key(backup_key.public_key())]}),
            ),
            stranger,
            replace(
                stranger,
                title="pinned certificate appended by the impostor",
                server=rogue.write(
                    directory / "appended.pem", rogue_root.certificate, leaf.certificate
                ),
                pins=PinSet({"any": leaf.pin}),
            ),
            replace(
                scene,
                title="expired leaf",
                server=expired.write(directory / "expired.pem"),
                pins=PinSet({"leaf": expired.pin}),
                depth=None,
                alert="certificate_expired",
            ),
            replace(
                scene,
                title='self-signed peer, trust="pins"',
                server=lonely.write(directory / "lonely.pem"),
                pins=PinSet({"leaf": lonely.pin}, trust="pins"),
            ),
            client,
            replace(
                client,
                title="client refused by the server",
                client=mallory.write(directory / "mallory.pem"),
                depth=None,
            ),
        ),
    )


def _demo(arguments: argparse.Namespace) -> int:
    started = time.monotonic()
    good = 0
    with tempfile.TemporaryDirectory() as directory:
        stage = _set_the_stage(Path(directory))
        _print("a chain leaf <- intermediate <- root, made just now; each scene on TLS 1.2 and 1.3")
        for number, scene in enumerate(stage.scenes, 1):
            played = [stage.play(scene, version) for version in _VERSIONS]
            right = all(each for each, _ in played)
            # Both versions of TLS say the same, unless something is wrong.
            said = " | ".join(dict.fromkeys(text for _, text in played))
            _print(f"{'ok   ' if right else 'WRONG'} {number:2} {scene.title}: {said}")
            good += right
    total = len(stage.scenes)
    seconds = time.monotonic() - started
    _print(f"{good} of {total} scenes came out as they must, in {seconds:.1f} seconds")
    return 0 if good == total else _NO


# the command line ------------------------------------------------------------------------------


def _parser() -> _Parser:
    parser = _Parser(
        prog="python -m pinsock",
        description="certificate pinning inside the TLS handshake",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    demo = commands.add_parser(
        "demo",
        allow_abbrev=False,
        help="play eleven scenes with a real server on loopback",
        description="Play eleven scenes with a real server on loopback, over TLS 1.2 and 1.3, and "
        "print what the client decided and what the server saw.",
        epilog="exit status: 0 if every scene came out as it must, else 1",
    )
    demo.set_defaults(run=_demo)

    pin = commands.add_parser(
        "pin",
        allow_abbrev=False,
        help="print the pins of certificates, keys and certificate requests",
        description="Print one pin to a line, ready to be pasted.",
        epilog="exit status: 0; 1 if a file cannot be read; 2 for wrong usage",
    )
    pin.add_argument("files", metavar="FILE", nargs="+", help="PEM or DER; - is standard input")
    pin.add_argument(
        "--kind",
        choices=get_args(Kind),
        help="hash the public key or the whole certificate (default: what the spelling can say, "
        "the public key if it can say both)",
    )
    pin.add_argument("--algorithm", choices=tuple(ALGORITHMS), default="sha256")
    pin.add_argument("--spelling", choices=(*_SPELLINGS, "all"), default="canonical")
    pin.add_argument("--password-file", metavar="FILE", help="its first line opens private keys")
    pin.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="say behind each pin what it is of (always, if there are several)",
    )
    pin.set_defaults(run=_pin)

    show = commands.add_parser(
        "show",
        allow_abbrev=False,
        help="show the chain that a server presents, and its pins",
        description="Show the chain that a server presents, with pins, and whether it is trusted.",
        epilog="exit status: 0; 1 if there is no chain to be seen; 2 for wrong usage",
    )
    show.set_defaults(run=_show)

    check = commands.add_parser(
        "check",
        allow_abbrev=False,
        help="make one pinned handshake, and say how it came out",
        description="Make one pinned handshake, and say how it came out.",
        epilog="exit status: 0 if the pins matched; 1 if not; 2 for wrong usage",
    )
    check.set_defaults(run=_check)

    for command in (show, check):
        command.add_argument(
            "target", metavar="HOST[:PORT]", type=_Target.parse, help="the port is 443 by default"
        )
        command.add_argument("--cafile", metavar="FILE", help="trust these CAs, not the machine's")
        command.add_argument(
            "--servername", metavar="NAME", type=_read_name, help="ask for this name, not for HOST"
        )
        command.add_argument("--timeout", metavar="SECONDS", type=_read_timeout, default=10.0)
        command.add_argument("--json", action="store_true", help="print JSON")
    check.add_argument(
        "--pin",
        dest="pins",
        metavar="[POSITION=]PIN",
        action="append",
        required=True,
        help=f"POSITION: {', '.join(_NAMED)} (default: any) or a depth; pins of one position "
        "are alternatives, and every position named must match",
    )
    check.add_argument(
        "--trust",
        choices=("ca", "pins"),
        default="ca",
        help="pins: the pins are the trust, and no CA is needed (default: ca)",
    )
    return parser


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    # "--pin A B" is read as "--pin A --pin B", which argparse cannot do without swallowing HOST.
    if rest and (arguments.run is not _check or any(text.startswith("-") for text in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        arguments.pins += rest
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the arguments, without the program's name; None is ``sys.argv``'s.

    Returns:
        The exit status: 0 yes, 1 no, 2 wrong usage, 130 interrupted.
    """
    try:
        try:
            arguments = _parse(argv)
            run: Callable[[argparse.Namespace], int] = arguments.run
            status = run(arguments)
        except SystemExit:  # --help; wrong usage is a _Mistake
            status = 0
        # Here and not at the interpreter's end, where nobody could catch what it raises.
        sys.stdout.flush()
        return status
    except _Mistake as mistake:
        _complain("error: " + " ".join(str(mistake).split()))
        return mistake.status
    except BrokenPipeError:
        # The reader has seen enough ("| head").  What is still buffered has to go somewhere.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        return _NO
    except OSError as error:
        # All others are mistakes by then: what is left is the writing of the answer.
        _complain(f"error: cannot write the output: {error.strerror or error}")
        return _NO
    except KeyboardInterrupt:
        _complain("interrupted")
        return _INTERRUPTED
