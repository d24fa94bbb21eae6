"""DER certificates: the SPKI bytes, validity, names, and the ``getpeercert()`` dictionary.

Pure: bytes in, values out.  Nothing here trusts or checks a certificate; OpenSSL has done so, or
refused to, before a caller comes here.

Why a DER reader of our own: a pin is the hash of the SubjectPublicKeyInfo *as it was sent*.  To
re-encode it through a key object changes RSA-PSS parameters and explicit curves, and fails for
keys that the parser does not know.  So the bytes are sliced.  The reader takes DER (X.690 section
10) and not BER: anything else raises :class:`ValueError`, and a certificate that cannot be sliced
matches no pin.

Facts
-----
* ``Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm, signatureValue }`` and
  ``TBSCertificate ::= SEQUENCE { version [0] DEFAULT v1, serialNumber, signature, issuer, validity,
  subject, subjectPublicKeyInfo, issuerUniqueID [1], subjectUniqueID [2], extensions [3] }``
  (RFC 5280 section 4.1).
* ``CertificationRequestInfo ::= SEQUENCE { version, subject, subjectPKInfo, attributes [0] }``
  (RFC 2986 section 4.1).
* Two-digit years from 50 on are 19xx (RFC 5280 section 4.1.2.5.1).
"""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta, timezone
from typing import NamedTuple, TypeVar, Union

from pinsock._der import (
    BIT_STRING,
    BOOLEAN,
    GENERALIZED_TIME,
    INTEGER,
    OCTET_STRING,
    OID,
    SEQUENCE,
    SET,
    UTC_TIME,
    NotDERError,
    Value,
    end,
    expect,
    last,
    whole,
)

__all__ = [
    "csr_spki",
    "end_point_hash",
    "is_der",
    "is_spki",
    "issuer",
    "peercert",
    "spki",
    "subject",
    "validity",
]


class _Fields(NamedTuple):
    """The parts of a TBSCertificate that this module reads."""

    version: int
    serial: Value
    issuer: Value
    validity: Value
    subject: Value
    spki: Value
    extensions: tuple[Value, ...]


def _check_spki(value: Value) -> None:
    """Refuse what OpenSSL would not write as it stands: its octets are others than the pinned ones.

    It keeps parameters that are a SEQUENCE as they came, so into these there is no need to look.
    """
    items = value.items()
    _, parameters = _algorithm(expect(items, SEQUENCE))
    key = last(items, BIT_STRING).body
    if parameters is not None:
        _check_any(parameters)
    if not key or key[0] > 7 or key[-1] & ((1 << key[0]) - 1):
        raise NotDERError("a BIT STRING has unused bits that are not 0")


def _fields(der: bytes) -> _Fields:
    certificate = whole(der, SEQUENCE).items()
    tbs = expect(certificate, SEQUENCE).items()
    expect(certificate, SEQUENCE)
    last(certificate, BIT_STRING)
    first = expect(tbs, 0xA0, INTEGER)
    version = 1
    if first.tag == 0xA0:
        version = 1 + int.from_bytes(last(first.items(), INTEGER).body, "big", signed=True)
        first = expect(tbs, INTEGER)
    expect(tbs, SEQUENCE)  # signature algorithm
    issuer = expect(tbs, SEQUENCE)
    validity = expect(tbs, SEQUENCE)
    subject = expect(tbs, SEQUENCE)
    spki = expect(tbs, SEQUENCE)
    _check_spki(spki)
    extensions: tuple[Value, ...] = ()
    for extra in tbs:
        if extra.tag == 0xA3:
            extensions = tuple(last(extra.items(), SEQUENCE).items(SEQUENCE))
    return _Fields(version, first, issuer, validity, subject, spki, extensions)


# A client meets the same few certificates over and over: the slice is remembered, so that a
# handshake hashes and does not parse.  The bound keeps a hostile peer from filling memory.
@functools.lru_cache(maxsize=128)
def spki(der: bytes) -> bytes:
    """Return the SubjectPublicKeyInfo of a DER certificate, byte for byte.

    Args:
        der: the certificate (RFC 5280), DER.

    Raises:
        ValueError: it cannot be sliced; no SPKI pin may then match it.
    """
    return _fields(der).spki.encoded


def csr_spki(der: bytes) -> bytes:
    """Return the SubjectPublicKeyInfo of a DER certification request (RFC 2986), byte for byte.

    Raises:
        ValueError: it cannot be sliced.
    """
    request = expect(whole(der, SEQUENCE).items(), SEQUENCE).items()
    expect(request, INTEGER)
    expect(request, SEQUENCE)
    value = expect(request, SEQUENCE)
    _check_spki(value)
    return value.encoded


def is_der(data: bytes) -> bool:
    """Tell whether ``data`` is one DER SEQUENCE from beginning to end."""
    try:
        whole(data, SEQUENCE)
    except ValueError:
        return False
    return True


def is_spki(der: bytes) -> bool:
    """Tell whether ``der`` is a DER SubjectPublicKeyInfo, and nothing after it."""
    try:
        _check_spki(whole(der, SEQUENCE))
    except ValueError:
        return False
    return True


def _time(value: Value) -> datetime:
    text = value.body.decode("ascii")
    if value.tag == UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    # strptime alone would let spaces, signs and short fields through.
    if len(text) != 15 or not text[:14].isdigit() or text[14] != "Z":
        raise ValueError(f"not a time of RFC 5280: {text!r}")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=timezone.utc)


def validity(der: bytes) -> tuple[datetime, datetime]:
    """Return ``(not_before, not_after)`` of a DER certificate, in UTC.

    Raises:
        ValueError: they cannot be read.
    """
    times = _fields(der).validity.items()
    not_before = expect(times, UTC_TIME, GENERALIZED_TIME)
    not_after = last(times, UTC_TIME, GENERALIZED_TIME)
    return _time(not_before), _time(not_after)


# Octets.  Real ones have a dozen; to make a decimal number of thousands takes quadratic time.
_MAX_OID = 128


def _oid(body: bytes) -> str:
    if not 0 < len(body) <= _MAX_OID or body[-1] & 0x80:
        raise ValueError("object identifier cut short, or too long")
    arcs: list[int] = []
    arc = 0
    for octet in body:
        if arc == 0 and octet == 0x80:
            raise ValueError("object identifier is not the shortest form")
        arc = arc << 7 | octet & 0x7F
        if not octet & 0x80:
            arcs.append(arc)
            arc = 0
    first = min(arcs[0] // 40, 2)
    return ".".join(map(str, (first, arcs[0] - 40 * first, *arcs[1:])))


_STRINGS = {
    0x0C: "utf-8",
    0x12: "latin-1",
    0x13: "latin-1",
    0x14: "latin-1",
    0x16: "latin-1",
    0x1A: "ascii",
    0x1C: "utf-32-be",
    0x1E: "utf-16-be",
}


def _string(value: Value) -> str:
    """A directory string as text; what cannot be decoded is shown, never raised."""
    encoding = _STRINGS.get(value.tag)
    if encoding is None:
        return "#" + value.encoded.hex()
    return value.body.decode(encoding, "backslashreplace")


def _attributes(rdn: Value) -> Iterator[tuple[str, Value]]:
    for attribute in rdn.items(SEQUENCE):
        parts = attribute.items()
        yield _oid(expect(parts, OID).body), last(parts)


# Short names of RFC 4514 section 3, and the few that everybody uses beside them.
_SHORT_NAMES = {
    "2.5.4.3": "CN",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "STREET",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.25": "DC",
}


def _escape(text: str) -> str:
    """Escape as RFC 4514 section 2.4, and whatever a terminal might take for a command."""
    out = []
    for character in text:
        if character in ',+"\\<>;':
            out.append("\\" + character)
        elif character.isprintable():
            out.append(character)
        else:
            out.extend(f"\\{octet:02X}" for octet in character.encode("utf-8", "backslashreplace"))
    # Where a value begins or ends these mean something else.
    if text[:1] in (" ", "#"):
        out[0] = "\\" + out[0]
    if len(text) > 1 and text[-1] == " ":
        out[-1] = "\\" + out[-1]
    return "".join(out)


def _text(value: Value) -> str:
    text = _string(value)
    return _escape(text) if value.tag in _STRINGS else text


def _name(value: Value) -> str:
    return ",".join(
        "+".join(f"{_SHORT_NAMES.get(oid, oid)}={_text(item)}" for oid, item in _attributes(rdn))
        for rdn in reversed(list(value.items(SET)))
    )


def subject(der: bytes) -> str:
    """Return the subject of a DER certificate in the text form of RFC 4514, safe to print.

    Raises:
        ValueError: it cannot be read.
    """
    return _name(_fields(der).subject)


def issuer(der: bytes) -> str:
    """Return the issuer of a DER certificate in the text form of RFC 4514, safe to print.

    Raises:
        ValueError: it cannot be read.
    """
    return _name(_fields(der).issuer)


# The dictionary of getpeercert() -------------------------------------------------------------
#
# It is what _ssl.c makes of a certificate, to the letter; the tests compare the two.  Where that
# ends in an error, so does this.

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

# What ssl.SSLSocket.getpeercert() returns: text, numbers, and tuples of pairs of text.
PeerCertValue = Union[str, int, tuple[object, ...]]
#: Gives a type of attribute its name: the dotted number to OpenSSL's long name, or back as it came.
LongName = Callable[[str], str]

_SAN, _AIA, _CRL = "2.5.29.17", "1.3.6.1.5.5.7.1.1", "2.5.29.31"
_OCSP, _CA_ISSUERS = "1.3.6.1.5.5.7.48.1", "1.3.6.1.5.5.7.48.2"
# The tags of a GeneralName (RFC 5280 section 4.2.1.6).
_OTHER, _X400, _DIRECTORY, _EDI, _IP, _REGISTERED = 0xA0, 0xA3, 0xA4, 0xA5, 0x87, 0x88
_URI = 0x86
_TEXTS = {0x81: "email", 0x82: "DNS", _URI: "URI"}
_IN_PIECES = (0xA1, 0xA2, 0xA6, 0xA7)  # strings of BER (X.690 section 8.21)
_NULL, _ENUMERATED = 0x05, 0x0A
_UTF8, _IA5, _VISIBLE, _UNIVERSAL, _BMP = 0x0C, 0x16, 0x1A, 0x1C, 0x1E
_DIRECTORY_STRINGS = (_UTF8, 0x13, 0x14, _UNIVERSAL, _BMP)  # RFC 5280 appendix A.1
# Other names that OpenSSL prints, each with the type of string that it has to be.
_OTHER_NAMES = {
    "1.3.6.1.5.5.7.8.9": ("SmtpUTF8Mailbox", _UTF8),
    "1.3.6.1.5.5.7.8.5": ("XmppAddr", _UTF8),
    "1.3.6.1.5.5.7.8.7": ("SRVName", _IA5),
    "1.3.6.1.4.1.311.20.2.3": ("UPN", _UTF8),
    "1.3.6.1.5.5.7.8.8": ("NAIRealm", _UTF8),
}
_MAX_PRINTED = 2046  # octets of a line that _ssl.c reads


class _UnprintableError(ValueError):
    """A value that OpenSSL takes for part of a name, and cannot make text of."""


# What OpenSSL has in a name without making text of it: a SEQUENCE, and types that it does not know.
_NO_TEXTS = frozenset({7, 8, 9, 11, 13, 14, 15, 29, SEQUENCE})
_FLAT = (0x10, 0x11)  # a SEQUENCE and a SET that are not made of elements


def _check_any(value: Value) -> None:
    """Refuse a value of any type that OpenSSL would not read."""
    tag, body = value.tag, value.body
    if (
        (tag == BOOLEAN and len(body) != 1)
        or (tag in (INTEGER, _ENUMERATED) and (not body or _is_padded(body)))
        or (tag == BIT_STRING and (not body or body[0] > 7))
        or (tag == _NULL and body)
        or (tag == _BMP and len(body) % 2)
        or (tag == _UNIVERSAL and len(body) % 4)
        or tag in _FLAT
    ):
        raise ValueError("a value is not of its type")
    if tag == OID:
        _oid(body)
    if tag & 0xE0 == 0x20 and tag not in (SEQUENCE, SET):
        raise NotDERError("a string in pieces")


def _is_padded(number: bytes) -> bool:
    return len(number) > 1 and (number[0], number[1] >> 7) in ((0x00, 0), (0xFF, 1))


def _attribute_text(value: Value) -> str | bytes | None:
    _check_any(value)
    if value.tag in _NO_TEXTS:
        raise _UnprintableError(f"an attribute of type {value.tag} is no text")
    if value.tag == BIT_STRING:
        octets = bytearray(value.body[1:])
        if octets:
            octets[-1] &= 0xFF << value.body[0] & 0xFF  # unused bits are 0
        return bytes(octets) or None
    encoding = None if value.tag == _VISIBLE else _STRINGS.get(value.tag)
    if encoding is None:
        raise ValueError(f"an attribute of type {value.tag}")
    try:
        text = value.body.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f"an attribute is no {encoding}: {error}") from None
    if value.tag == _BMP and not text.isascii() and max(text) > "\uffff":
        raise ValueError("an attribute has surrogates")
    return text


def _rdns(value: Value, long_name: LongName) -> tuple[tuple[tuple[str, object], ...], ...]:
    return tuple(
        tuple((long_name(oid), _attribute_text(item)) for oid, item in _attributes(rdn))
        for rdn in value.items(SET)
        if rdn.body
    )


# X.680 sections 46 and 47, of which OpenSSL takes more than RFC 5280 allows.
_TIMES = {
    UTC_TIME: r"(?a)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)?()(Z|[+-]\d{4})",
    GENERALIZED_TIME: (
        r"(?a)(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(?:(\d\d)(\.\d+)?)?(Z|[+-]\d{4})"
    ),
}
_BAD_TIME = "Bad time value"


def _moment(found: re.Match[str], year: int) -> datetime:
    _, months, days, hours, minutes, seconds, _, zone = found.groups()
    clock = int(hours), int(minutes), int(seconds or 0)
    # The calendar of Python begins with the year 1; 2000 was another such year.
    moment = datetime(year or 2000, int(months), int(days), *clock, tzinfo=timezone.utc)
    if zone == "Z":
        return moment
    offset_hours, offset_minutes = int(zone[1:3]), int(zone[3:])
    if offset_hours > 12 or offset_minutes > 59:
        raise ValueError("no time zone")
    offset = timedelta(hours=offset_hours, minutes=offset_minutes)
    moment += -offset if zone[0] == "+" else offset
    if offset and (moment.year < 1900 or year == 0):
        raise ValueError("before the calendar of OpenSSL")
    return moment


def _printed(value: Value) -> str:
    """A time as ``ASN1_TIME_print`` of OpenSSL has it, right or wrong."""
    found = re.fullmatch(_TIMES[value.tag], value.body.decode("latin-1"))
    if found is None:
        return _BAD_TIME
    year = int(found[1])
    if value.tag == UTC_TIME:
        year += 1900 if year >= 50 else 2000
    try:
        moment = _moment(found, year)
    except (ValueError, OverflowError):
        return _BAD_TIME
    month = _MONTHS[moment.month - 1]
    year = moment.year if year else 0
    return f"{month} {moment.day:2} {moment:%H:%M:%S}{found[7] or ''} {year} GMT"


def _serial(value: Value) -> str:
    number = int.from_bytes(value.body, "big", signed=True)
    digits = f"{abs(number):X}"
    digits = "0" * (len(digits) % 2) + digits
    # OpenSSL breaks the line after 35 octets, and _ssl.c reads one line.
    return "-" * (number < 0) + (digits if len(digits) <= 70 else digits[:70] + "\\\n")


def _ip_address(octets: bytes) -> str:
    if len(octets) == 4:
        return str(ipaddress.IPv4Address(octets))
    if len(octets) == 16:
        groups = (int.from_bytes(octets[i : i + 2], "big") for i in range(0, 16, 2))
        return ":".join(f"{group:X}" for group in groups)
    return "<invalid>"


def _other_name(name: Value) -> str:
    parts = name.items()
    label, tag = _OTHER_NAMES.get(_oid(expect(parts, OID).body), ("", -1))
    value = last(last(parts, 0xA0).items())
    _check_any(value)
    if value.tag != tag:
        return "<unsupported>"
    text = f"{label}:".encode() + value.body.partition(b"\0")[0]
    line, end, _ = text.partition(b"\n")
    return (line + end)[: _MAX_PRINTED - len("othername:")].decode()


def _general_name(name: Value, long_name: LongName) -> tuple[str, object]:
    """One GeneralName (RFC 5280 section 4.2.1.6), spelt as :mod:`ssl` spells it."""
    if name.tag in _TEXTS:
        return _TEXTS[name.tag], name.body.decode()
    if name.tag == _DIRECTORY:
        return "DirName", _rdns(last(name.items(), SEQUENCE), long_name)
    if name.tag == _IP:
        return "IP Address", _ip_address(name.body)
    if name.tag == _REGISTERED:
        if len(name.body) > _MAX_OID:
            raise _UnprintableError("an object identifier is too long")
        return "Registered ID", long_name(_oid(name.body))
    if name.tag == _OTHER:
        return "othername", _other_name(name)
    if name.tag == _EDI:
        parts = [part for part in name.items() if part.tag != 0xA0]
        last(last(iter(parts), 0xA1).items(), *_DIRECTORY_STRINGS)
        return "EdiPartyName", "<unsupported>"
    if name.tag in _IN_PIECES:
        raise NotDERError("a string in pieces")
    if name.tag == _X400:
        return "X400Name", "<unsupported>"
    raise ValueError("unknown type of GeneralName")


def _check_names(names: list[Value]) -> list[Value]:
    """Refuse GeneralNames that OpenSSL could not read: it reads all of an extension or nothing."""
    for name in names:
        # What is wrong with a string inside is another matter.
        with contextlib.suppress(_UnprintableError, UnicodeDecodeError):
            _general_name(name, str)
    return names


def _extensions(fields: _Fields) -> dict[str, bytes]:
    """The contents of the extensions; OpenSSL finds none of those that come twice."""
    found: dict[str, bytes] = {}
    twice: set[str] = set()
    for extension in fields.extensions:
        parts = extension.items()
        name = _oid(expect(parts, OID).body)
        value = expect(parts, BOOLEAN, OCTET_STRING)  # critical DEFAULT FALSE
        if value.tag == BOOLEAN:
            value = expect(parts, OCTET_STRING)
        end(parts)
        if name in found:
            twice.add(name)
        found[name] = value.body
    return {name: body for name, body in found.items() if name not in twice}


def _alternative_names(extension: bytes) -> list[Value]:
    return _check_names(list(whole(extension, SEQUENCE).items()))


def _access(extension: bytes) -> list[tuple[str, Value]]:
    """The methods and locations of AuthorityInfoAccess (RFC 5280 section 4.2.2.1)."""
    found: list[tuple[str, Value]] = []
    for description in whole(extension, SEQUENCE).items(SEQUENCE):
        parts = description.items()
        method, location = _oid(expect(parts, OID).body), last(parts)
        _check_names([location])
        found.append((method, location))
    return found


def _distribution_points(extension: bytes) -> list[Value]:
    """The full names of CRLDistributionPoints (RFC 5280 section 4.2.1.13)."""
    found: list[Value] = []
    for point in whole(extension, SEQUENCE).items(SEQUENCE):
        parts = list(point.items(0xA0, 0x81, 0xA2))  # distributionPoint, reasons, cRLIssuer
        numbers = [part.tag & 0x1F for part in parts]
        if numbers != sorted(set(numbers)):
            raise ValueError("unexpected DER structure")
        for part in parts:
            if part.tag == 0xA2:
                _check_names(list(part.items()))
            elif part.tag == 0xA0:
                name = last(part.items(), 0xA0, 0xA1)
                if name.tag == 0xA0:  # fullName, and not nameRelativeToCRLIssuer
                    found.extend(_check_names(list(name.items())))
    return found


_T = TypeVar("_T")


def _readable(read: Callable[[bytes], list[_T]], extension: bytes | None) -> list[_T] | None:
    """What is in an extension; None, if there is none, or nobody can read it.

    Raises:
        NotDERError: OpenSSL may read it.  To leave out names that it would find is no answer.
    """
    if extension is None:
        return None
    try:
        return read(extension)
    except NotDERError:
        raise
    except ValueError:
        return None


def _uris(names: Iterable[Value]) -> tuple[str, ...]:
    return tuple(name.body.decode() for name in names if name.tag == _URI)


# As with the slice above: a server's certificate is asked for again and again.
@functools.lru_cache(maxsize=64)
def _decoded(der: bytes, long_name: LongName) -> Mapping[str, PeerCertValue]:
    fields = _fields(der)
    times = fields.validity.items()
    found: dict[str, PeerCertValue] = {
        "subject": _rdns(fields.subject, long_name),
        "issuer": _rdns(fields.issuer, long_name),
        "version": fields.version,
        "serialNumber": _serial(fields.serial),
        "notBefore": _printed(expect(times, UTC_TIME, GENERALIZED_TIME)),
        "notAfter": _printed(last(times, UTC_TIME, GENERALIZED_TIME)),
    }
    extensions = _extensions(fields)
    names = _readable(_alternative_names, extensions.get(_SAN))
    if names is not None:
        found["subjectAltName"] = tuple(_general_name(name, long_name) for name in names)
    locations = _readable(_access, extensions.get(_AIA)) or []
    points = _readable(_distribution_points, extensions.get(_CRL)) or []
    extras: dict[str, tuple[object, ...]] = {
        "OCSP": _uris(name for method, name in locations if method == _OCSP),
        "caIssuers": _uris(name for method, name in locations if method == _CA_ISSUERS),
        "crlDistributionPoints": _uris(points),
    }
    found.update({key: value for key, value in extras.items() if value})
    return found


def peercert(der: bytes, long_name: LongName = str) -> dict[str, PeerCertValue]:
    """Return the dictionary that ``ssl.SSLSocket.getpeercert()`` gives for a DER certificate.

    Args:
        der: the certificate.
        long_name: OpenSSL's long names of attributes; by default they stay numbers.

    Raises:
        UnicodeDecodeError: an alternative name or a URI is no text.
        ValueError: it cannot be read.
    """
    return dict(_decoded(der, long_name))


# The hash of a signature (RFC 5929 section 4.1) --------------------------------------------------

_RSA, _ECDSA, _DSA, _NIST = (
    "1.2.840.113549.1.1",
    "1.2.840.10045.4",
    "1.2.840.10040.4",
    "2.16.840.1.101.3.4",
)
# Signature algorithms with one hash function, and that function by hashlib's name (RFC 8017
# appendix A.2.4, RFC 5758, RFC 8692).  For MD5 and SHA-1 the binding takes SHA-256.
_SIGNATURE_HASHES = {
    f"{_RSA}.4": "sha256",
    f"{_RSA}.5": "sha256",
    f"{_RSA}.11": "sha256",
    f"{_RSA}.12": "sha384",
    f"{_RSA}.13": "sha512",
    f"{_RSA}.14": "sha224",
    f"{_ECDSA}.1": "sha256",
    f"{_ECDSA}.3.1": "sha224",
    f"{_ECDSA}.3.2": "sha256",
    f"{_ECDSA}.3.3": "sha384",
    f"{_ECDSA}.3.4": "sha512",
    f"{_DSA}.3": "sha256",
    **{
        f"{_NIST}.3.{number}": name
        for number, name in (
            *enumerate(("sha224", "sha256", "sha384", "sha512"), 1),  # with DSA
            *enumerate(("sha3_224", "sha3_256", "sha3_384", "sha3_512"), 9),  # with ECDSA
            *enumerate(("sha3_224", "sha3_256", "sha3_384", "sha3_512"), 13),  # with RSA
        )
    },
}
_RSASSA_PSS, _MGF1, _SHA1 = f"{_RSA}.10", f"{_RSA}.8", "1.3.14.3.2.26"
_HASHES = {
    _SHA1: "sha256",
    **{
        f"{_NIST}.2.{number}": name
        for number, name in enumerate(("sha256", "sha384", "sha512", "sha224"), 1)
    },
}


def _algorithm(value: Value) -> tuple[str, Value | None]:
    """The object identifier and the parameters of an AlgorithmIdentifier."""
    parts = value.items()
    name, parameters = _oid(expect(parts, OID).body), next(parts, None)
    end(parts)
    return name, parameters


def _pss_hash(parameters: Value) -> str | None:
    """The hash function of RSASSA-PSS, if its mask has the same (RFC 8017 appendix A.2.3)."""
    hashes = mask = _SHA1  # what is left out
    for field in parameters.items():
        if field.tag == 0xA0:
            hashes, _ = _algorithm(expect(field.items(), SEQUENCE))
        elif field.tag == 0xA1:
            function, of = _algorithm(expect(field.items(), SEQUENCE))
            mask = _algorithm(of)[0] if of is not None and function == _MGF1 else ""
    return _HASHES.get(hashes) if hashes == mask else None


def end_point_hash(der: bytes) -> str | None:
    """Return the hash function for ``tls-server-end-point`` (RFC 5929 section 4.1).

    Returns:
        Its hashlib name; None if the signature of the certificate has none, several, or one that
        is not known here: the binding is not defined then.

    Raises:
        ValueError: the certificate cannot be read.
    """
    parts = whole(der, SEQUENCE).items()
    expect(parts, SEQUENCE)
    name, parameters = _algorithm(expect(parts, SEQUENCE))
    if name == _RSASSA_PSS and parameters is not None:
        return _pss_hash(parameters)
    return _SIGNATURE_HASHES.get(name)
