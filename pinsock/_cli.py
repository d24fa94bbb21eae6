"""The command line: ``python -m pinsock demo | pin | show | check | pin-host | lint``.

``demo`` plays eleven scenes on loopback and holds what the client decided against what the server
saw.  ``pin`` prints the pins of files, ``show`` the chain that a server presents, ``check`` makes
a pinned handshake with a host, or with all of a pin file, and says how it came out.  ``pin-host``
prints the lines of a pin file for a host, ``lint`` what will hurt in one.

The exit status is part of the interface: 0 is a yes; 1 is a no (a refusal, a file or a server that
cannot be read); 2 is a command that makes no sense; 130 is Ctrl-C.  Whatever goes wrong is said in
one line on standard error, with what to do about it.

Facts
-----
* The SPKI of a *private* key is not in its file, it has to be derived, and it is OpenSSL that must
  do it: through a key object of cryptography, RSA-PSS keys come out as plain RSA, explicit curves
  as named ones and compressed points uncompressed.  Such a pin would match no certificate.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import logging
import os
import re
import ssl
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Literal, NoReturn, TypeVar, get_args

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
from OpenSSL import crypto

from pinsock import (
    Pin,
    PinError,
    PinMatch,
    PinMismatchError,
    PinnedContext,
    PinSet,
    _chain,
)
from pinsock._demo import run_demo
from pinsock._fleet import check_file, lint
from pinsock._hosts import canonical_host
from pinsock._lines import format_lines
from pinsock._pins import ALGORITHMS, Algorithm, Kind, Position
from pinsock._reach import (
    NAMED,
    NO,
    USAGE,
    Line,
    Mistake,
    Target,
    complain,
    make_context,
    print_json,
    read_name,
    read_port,
    read_timeout,
    reason_of,
    say,
    where,
)
from pinsock._starttls import PROTOCOLS

__all__ = ["main"]

_T = TypeVar("_T")

_INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are one line, as all others here are."""

    def error(self, message: str) -> NoReturn:
        raise Mistake(f"{message} (see {self.prog} --help)", USAGE)


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
        raise Mistake(f"{name}: the private key is encrypted: give --password-file FILE")
    try:
        # Never without a password: OpenSSL would ask the terminal for one.
        key = crypto.load_privatekey(crypto.FILETYPE_PEM, data, password or b"")
    except (crypto.Error, ValueError):
        why = "is the password right?" if encrypted else "is the file whole?"
        raise Mistake(f"{name}: the private key cannot be read: {why}") from None
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
        raise Mistake(f"{name}: the block 'BEGIN {label}' cannot be read: {error}") from None
    if label not in ("PUBLIC KEY", "RSA PUBLIC KEY"):
        raise Mistake(f"{name}: 'BEGIN {label}' has no pin: give {_READABLE}")
    if not _chain.is_spki(der):
        raise Mistake(f"{name}: the block 'BEGIN {label}' is not a public key")
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
            raise Mistake(f"{name}: the block 'BEGIN {label}' is damaged: copy it anew") from None
        yield _read_label(name, label, der)


def _read_der(name: str, der: bytes, password: bytes | None) -> _Material:
    """Find out what a DER file is by trying; no two of these look alike."""
    if _chain.is_spki(der):
        return _Material(der, "public key")
    for label in ("CERTIFICATE", "CERTIFICATE REQUEST", "RSA PUBLIC KEY"):
        try:
            return _read_label(name, label, der)
        except Mistake:
            pass
    for label in _PLAIN_KEYS:
        try:
            return _private_key(name, _pem_of(der, label), password)
        except Mistake:
            pass
    if _is_encrypted(der):
        return _private_key(name, _pem_of(der, "ENCRYPTED PRIVATE KEY"), password)
    raise Mistake(f"{name}: this is neither PEM nor DER of {_READABLE}")


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
            raise Mistake("cannot read -: standard input is closed")
        return sys.stdin.buffer.read()
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise Mistake(f"cannot read {path}: {why}") from None


def _materials(path: str, password: bytes | None) -> list[_Material]:
    data = _read_file(path)
    name = "standard input" if path == "-" else path
    if b"-----BEGIN " not in data:
        return [_read_der(name, data, password)]
    found = list(_read_pem(name, data, password))
    if not found:
        raise Mistake(f"{name}: there is no whole PEM block of {_READABLE}")
    return found


def _plan(kind: Kind | None, spelling: str) -> list[tuple[Kind, Callable[[Pin], str]]]:
    """What to print for each certificate or key: kinds of pin, and their spelling."""
    wanted = _SPELLINGS.values() if spelling == "all" else [_SPELLINGS[spelling]]
    plan = [(each, spell) for kinds, spell in wanted for each in kinds if kind in (None, each)]
    if not plan:
        (only,) = _SPELLINGS[spelling][0]
        raise Mistake(f"the spelling {spelling!r} can only say --kind {only}", USAGE)
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
            raise Mistake(
                f"{path}: there is no certificate in it, and only a certificate has such a pin: "
                "use --kind spki",
            )
    for text, comment in lines:
        # A shell takes the rest of the line for a comment too, so the whole can be pasted.
        said = f"  # {comment}" if arguments.verbose or len(lines) > 1 else ""
        say(text + _printable(said))
    return 0


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


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


def _look(line: Line, cafile: str | None) -> _Sight:
    """Shake hands twice: to see, trusting nobody; then to hear what the trust store says.

    Looking sends no data and no certificate, and decides nothing, so the first handshake may go
    without verification; an operator has to see the chain that everybody refuses most of all.
    """
    verifying = make_context(None, cafile)
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
        trusted, reason = False, reason_of(error)
    except Mistake as mistake:
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
    line = Line.to(arguments.target, arguments)
    sight = _look(line, arguments.cafile)
    if arguments.json:
        print_json(
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
    say(f"{line.target}{asked}, {sight.version or 'handshake not completed'}")
    now = datetime.now(timezone.utc)
    for row in sight.rows:
        for text in row.lines(now):
            say(text)
    store = "the trust store" if arguments.cafile is None else arguments.cafile
    if sight.trusted:
        say(f"trusted: yes, by {store}")
    else:
        say(f"trusted: {'no' if sight.trusted is False else 'unknown'}, {sight.reason}")
    return 0


# pin-host --------------------------------------------------------------------------------------


def _pin_host(arguments: argparse.Namespace) -> int:
    line = Line.to(arguments.target, arguments)
    host = canonical_host(line.servername)
    sight = _look(line, arguments.cafile)
    if arguments.trust == "ca" and not sight.trusted:
        raise Mistake(
            f"{line.target} is not vouched for ({sight.reason}): if you know its key by other "
            "means, say --trust pins, and compare"
        )
    row = next(
        (
            row
            for row in sight.rows
            if arguments.position == str(row.depth)
            or arguments.position in (row.position or "").split(", ")
        ),
        None,
    )
    if row is None:
        raise Mistake(
            f"{line.target} has no verified certificate at {arguments.position}: python -m pinsock "
            "show tells what there is, and with --cafile FILE what a private authority verifies"
        )
    if row.pin is None:
        raise Mistake(f"{line.target}: the public key of its certificate cannot be read")
    pins = [row.pin]
    if arguments.backup_key is not None:
        pins.append(str(_make_key(arguments.backup_key)))
    position = int(arguments.position) if arguments.position.isdigit() else arguments.position
    found = PinSet({position: pins}, trust=arguments.trust, expires=arguments.expires)
    if not sight.trusted:
        _warn_of_refusal(line, found)
    first, *rest = format_lines(host, found)
    say(f"{first}  # {_printable(row.subject or '(no subject)')}")
    for text in rest:
        say(f"{text}  # backup, {_printable(arguments.backup_key)}")
    return 0


def _warn_of_refusal(line: Line, pins: PinSet) -> None:
    """Say so if clients refuse the server in spite of its pins: for its name, or a date."""
    try:
        with line.connect(make_context(pins, None)) as tls:
            tls.do_handshake()
    except ssl.SSLCertVerificationError as error:
        complain(f"warning: with these pins clients refuse {line.target}: {reason_of(error)}")
    except Mistake:
        pass  # it was seen; what it wants of a client beyond that is no matter of pins


def _make_key(path: str) -> Pin:
    """Make a private key for later; nobody has its certificate yet."""
    key = ec.generate_private_key(ec.SECP256R1())
    data = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        # Never over a key that is there, and never readable by others, not even for a moment.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise Mistake(
            f"--backup-key {path}: there is such a file: to use the key in it say "
            f"python -m pinsock pin {path}"
        ) from None
    except (OSError, ValueError) as error:
        raise Mistake(f"--backup-key {path}: {reason_of(error)}") from None
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    return Pin.from_public_key(key.public_key())


# check -----------------------------------------------------------------------------------------

_POSITION = re.compile(rf"(?P<position>{'|'.join(NAMED)}|[0-9]{{1,9}})=(?P<pin>.+)", re.DOTALL)


def _read_pins(texts: Sequence[str], trust: Literal["ca", "pins"]) -> PinSet:
    found: dict[Position, list[Pin]] = {}
    try:
        for text in texts:
            match = _POSITION.fullmatch(text)
            name, pin = (match["position"], match["pin"]) if match else ("any", text)
            position = int(name) if name.isdigit() else NAMED[name]
            found.setdefault(position, []).append(Pin.parse(pin))
        return PinSet(found, trust=trust)
    except ValueError as error:
        raise Mistake(f"--pin: {error}", USAGE) from None


def _match_as_json(match: PinMatch) -> dict[str, object]:
    return {"depth": match.depth, "position": match.position, "pin": str(match.pin)}


def _check(arguments: argparse.Namespace) -> int:
    if arguments.pins is None:
        return check_file(arguments)
    line = Line.to(_target(arguments.what), arguments)
    pins = _read_pins(arguments.pins, arguments.trust)
    context = make_context(pins, arguments.cafile)
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
        raise Mistake(f"{line.target}: no refusal and no match: please report this as a bug")
    matches = (match, *match.others)
    if arguments.json:
        report.update(accepted=True, version=version, reason=None)
        print_json(report | {"matches": [_match_as_json(each) for each in matches]})
        return 0
    for each in matches:
        say(f"{line.target}: {where(each)}: {each.pin}")
    return 0


def _target(text: str) -> Target:
    try:
        return Target.parse(text)
    except argparse.ArgumentTypeError as error:
        raise Mistake(f"{error} (see python -m pinsock check --help)", USAGE) from None


def _refused(
    line: Line, report: dict[str, object], error: ssl.SSLCertVerificationError, as_json: bool
) -> int:
    if as_json:
        report.update(accepted=False, version=None, reason=reason_of(error), matches=[])
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
        print_json(report)
        return NO
    # A mismatch lists the chain and the pins expected: that is what mends it.
    said = str(error.args[1]) if isinstance(error, PinError) else reason_of(error)
    complain(f"refused: {line.target}: {said}")
    return NO


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
    demo.set_defaults(run=run_demo)

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
        help="make a pinned handshake, with a host or with all hosts of a pin file",
        description="With --pin, make one pinned handshake and say how it came out. Without, check "
        "every host of a pin file (or those named) against the live servers.",
        epilog="exit status: 0 if the pins matched; 1 if not, or if something expires within "
        "--days; 2 for wrong usage",
    )
    check.set_defaults(run=_check)
    check.add_argument(
        "what", metavar="HOST[:PORT]|FILE", help="a host, with --pin; or else a pin file"
    )

    pin_host = commands.add_parser(
        "pin-host",
        allow_abbrev=False,
        help="print the lines of a pin file for a host",
        description="Connect to a host, and print its lines for a pin file.",
        epilog="exit status: 0; 1 if the host cannot be vouched for; 2 for wrong usage",
    )
    pin_host.set_defaults(run=_pin_host)
    pin_host.add_argument(
        "--position",
        type=_read_position,
        default="leaf",
        help="leaf (the default), intermediate, anchor, or a depth",
    )
    pin_host.add_argument(
        "--backup-key", metavar="FILE", help="make a private key in FILE, and pin it as well"
    )
    pin_host.add_argument(
        "--expires", metavar="YYYY-MM-DD", type=_read_day, help="the last day of these pins"
    )

    lint_ = commands.add_parser(
        "lint",
        allow_abbrev=False,
        help="name what will hurt in a pin file",
        description="Name what will hurt in a pin file: no backup pin, pins about to expire, "
        "duplicates, patterns that match nothing.",
        epilog="exit status: 0; 1 if there is something; 2 for wrong usage",
    )
    lint_.set_defaults(run=lint)
    lint_.add_argument("file", metavar="FILE")
    lint_.add_argument(
        "hosts",
        metavar="HOST",
        nargs="*",
        default=[],  # without one argparse says that HOST is required
        help="the hosts that the program talks to: all of them",
    )

    for command in (show, pin_host):
        command.add_argument(
            "target",
            metavar="HOST[:PORT]",
            type=Target.parse,
            help="the port is 443 by default, or that of --starttls",
        )
    for command in (show, check):
        command.add_argument("--json", action="store_true", help="print JSON")
    for command in (show, check, pin_host):
        command.add_argument("--cafile", metavar="FILE", help="trust these CAs, not the machine's")
        command.add_argument(
            "--servername", metavar="NAME", type=read_name, help="ask for this name, not for HOST"
        )
        command.add_argument("--timeout", metavar="SECONDS", type=read_timeout, default=10.0)
        command.add_argument(
            "--starttls", choices=PROTOCOLS, help="ask for TLS in this protocol first"
        )
    check.add_argument(
        "--pin",
        dest="pins",
        metavar="[POSITION=]PIN",
        action="append",
        help=f"POSITION: {', '.join(NAMED)} (default: any) or a depth; pins of one position "
        "are alternatives, and every position named must match",
    )
    for command in (check, pin_host):
        command.add_argument(
            "--trust",
            choices=("ca", "pins"),
            default="ca",
            help="pins: the pins are the trust, and no CA is needed (default: ca)",
        )
    check.add_argument("--port", type=read_port, help="of a file's hosts that have none")
    check.add_argument(
        "--jobs", type=_read_jobs, default=8, help="how many connections at a time (default: 8)"
    )
    for command in (check, lint_):
        command.add_argument(
            "--days",
            type=_read_days,
            default=30,
            help="what expires within so many days is to be told (default: 30)",
        )
    return parser


def _number(text: str, most: int) -> int:
    # int() would take signs, spaces, underscores and the digits of other scripts as well.
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > most:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number up to {most}")
    return int(text)


def _read_days(text: str) -> int:
    return _number(text, 36500)


def _read_jobs(text: str) -> int:
    return max(1, _number(text, 64))


def _read_day(text: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = date.max
    if day.isoformat() != text or day == date.max:  # newer Pythons read more forms of it
        raise argparse.ArgumentTypeError(f"{text!r} is not a day: write YYYY-MM-DD")
    return day


def _read_position(text: str) -> str:
    if text not in ("leaf", "intermediate", "anchor") and not re.fullmatch(r"0|[1-9][0-9]?", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not leaf, intermediate, anchor, or a depth (0 is the leaf)"
        )
    return text


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    # "--pin A B" is read as "--pin A --pin B", which argparse cannot do without swallowing HOST;
    # without --pin they are hosts of the file.
    if rest and (arguments.run is not _check or any(text.startswith("-") for text in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if arguments.run is _check:
        arguments.hosts = []
        (arguments.hosts if arguments.pins is None else arguments.pins).extend(rest)
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the arguments, without the program's name; None is ``sys.argv``'s.

    Returns:
        The exit status: 0 yes, 1 no, 2 wrong usage, 130 interrupted.
    """
    # What is logged is in the answer, too.
    logging.getLogger("pinsock").addHandler(logging.NullHandler())
    try:
        try:
            arguments = _parse(argv)
            run: Callable[[argparse.Namespace], int] = arguments.run
            status = run(arguments)
        except SystemExit:  # --help; wrong usage is a Mistake
            status = 0
        # Here and not at the interpreter's end, where nobody could catch what it raises.
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except Mistake as mistake:
        complain("error: " + " ".join(str(mistake).split()))
        return mistake.status
    except BrokenPipeError:
        # The reader has seen enough ("| head").  What is still buffered has to go somewhere.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        return NO
    except OSError as error:
        # All others are mistakes by then: what is left is the writing of the answer.
        complain(f"error: cannot write the output: {error.strerror or error}")
        return NO
    except KeyboardInterrupt:
        complain("interrupted")
        return _INTERRUPTED
