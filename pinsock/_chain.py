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

import functools
import ipaddress
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import NamedTuple, Union

from pinsock._der import (
    BIT_STRING,
    BOOLEAN,
    GENERALIZED_TIME,
    INTEGER,
    OCTET_STRING,
    OID,
    SEQUENCE,
    UTC_TIME,
    Value,
    expect,
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
    items = value.items()
    expect(items, SEQUENCE)
    expect(items, BIT_STRING)
    if next(items, None) is not None:
        raise ValueError("unexpected DER structure")


def _fields(der: bytes) -> _Fields:
    certificate = whole(der, SEQUENCE).items()
    tbs = expect(certificate, SEQUENCE).items()
    expect(certificate, SEQUENCE)
    expect(certificate, BIT_STRING)
    if next(certificate, None) is not None:
        raise ValueError("unexpected DER structure")
    first = expect(tbs, 0xA0, INTEGER)
    version = 1
    if first.tag == 0xA0:
        version = 1 + int.from_bytes(expect(first.items(), INTEGER).body, "big", signed=True)
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
            extensions = tuple(expect(extra.items(), SEQUENCE).items())
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
    elif value.tag != GENERALIZED_TIME:
        raise ValueError("not a time")
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
    not_after = expect(times, UTC_TIME, GENERALIZED_TIME)
    return _time(not_before), _time(not_after)


def _oid(body: bytes) -> str:
    # Real ones have a dozen octets; to make a decimal number of thousands takes quadratic time.
    if not 0 < len(body) <= 128 or body[-1] & 0x80:
        raise ValueError("object identifier cut short, or too long")
    arcs: list[int] = []
    arc = 0
    for octet in body:
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
    for attribute in rdn.items():
        parts = attribute.items()
        yield _oid(expect(parts, OID).body), expect(parts)


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
        for rdn in reversed(list(value.items()))
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

# OpenSSL's long names, which getpeercert() uses as keys; anything else is a dotted number.
_LONG_NAMES = {
    "2.5.4.3": "commonName",
    "2.5.4.4": "surname",
    "2.5.4.5": "serialNumber",
    "2.5.4.6": "countryName",
    "2.5.4.7": "localityName",
    "2.5.4.8": "stateOrProvinceName",
    "2.5.4.9": "streetAddress",
    "2.5.4.10": "organizationName",
    "2.5.4.11": "organizationalUnitName",
    "2.5.4.12": "title",
    "2.5.4.13": "description",
    "2.5.4.15": "businessCategory",
    "2.5.4.16": "postalAddress",
    "2.5.4.17": "postalCode",
    "2.5.4.41": "name",
    "2.5.4.42": "givenName",
    "2.5.4.43": "initials",
    "2.5.4.44": "generationQualifier",
    "2.5.4.45": "x500UniqueIdentifier",
    "2.5.4.46": "dnQualifier",
    "2.5.4.65": "pseudonym",
    "2.5.4.97": "organizationIdentifier",
    "0.9.2342.19200300.100.1.1": "userId",
    "0.9.2342.19200300.100.1.25": "domainComponent",
    "1.2.840.113549.1.9.1": "emailAddress",
    "1.2.840.113549.1.9.2": "unstructuredName",
    "1.2.643.3.131.1.1": "INN",
    "1.2.643.100.1": "OGRN",
    "1.2.643.100.3": "SNILS",
    "1.3.6.1.4.1.311.60.2.1.1": "jurisdictionLocalityName",
    "1.3.6.1.4.1.311.60.2.1.2": "jurisdictionStateOrProvinceName",
    "1.3.6.1.4.1.311.60.2.1.3": "jurisdictionCountryName",
}

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

# What ssl.SSLSocket.getpeercert() returns: text, numbers, and tuples of pairs of text.
PeerCertValue = Union[str, int, tuple[object, ...]]

_SAN, _AIA, _CRL = "2.5.29.17", "1.3.6.1.5.5.7.1.1", "2.5.29.31"
_OCSP, _CA_ISSUERS = "1.3.6.1.5.5.7.48.1", "1.3.6.1.5.5.7.48.2"


def _rdns(value: Value) -> tuple[tuple[tuple[str, str], ...], ...]:
    return tuple(
        tuple((_LONG_NAMES.get(oid, oid), _string(item)) for oid, item in _attributes(rdn))
        for rdn in value.items()
        if rdn.body
    )


def _date(moment: datetime) -> str:
    month = _MONTHS[moment.month - 1]
    return f"{month} {moment.day:2} {moment:%H:%M:%S} {moment.year} GMT"


def _ip_address(octets: bytes) -> str:
    if len(octets) == 4:
        return str(ipaddress.IPv4Address(octets))
    if len(octets) == 16:
        groups = (int.from_bytes(octets[i : i + 2], "big") for i in range(0, 16, 2))
        return ":".join(f"{group:X}" for group in groups)
    return "<invalid>"


_UNSUPPORTED_NAMES = {0: "othername", 3: "X400Name", 5: "EdiPartyName"}


def _general_name(name: Value) -> tuple[str, object]:
    """One GeneralName (RFC 5280 section 4.2.1.6), spelt as :mod:`ssl` spells it."""
    kind = name.tag & 0x1F
    if kind in (1, 2, 6):
        label = {1: "email", 2: "DNS", 6: "URI"}[kind]
        return label, name.body.decode("utf-8", "backslashreplace")
    if kind == 4:
        return "DirName", _rdns(expect(name.items(), SEQUENCE))
    if kind == 7:
        return "IP Address", _ip_address(name.body)
    if kind == 8:
        return "Registered ID", _oid(name.body)
    return _UNSUPPORTED_NAMES.get(kind, "<unknown type>"), "<unsupported>"


def _extension(fields: _Fields, wanted: str) -> Value | None:
    for extension in fields.extensions:
        parts = extension.items()
        if _oid(expect(parts, OID).body) == wanted:
            value = expect(parts, BOOLEAN, OCTET_STRING)  # critical DEFAULT FALSE
            if value.tag == BOOLEAN:
                value = expect(parts, OCTET_STRING)
            try:
                return whole(value.body, SEQUENCE)
            except ValueError:
                return None
    return None


def _uris(names: Value) -> Iterator[str]:
    for name in names.items():
        if name.tag == 0x86:
            yield name.body.decode("utf-8", "backslashreplace")


def _access(fields: _Fields, method: str) -> tuple[str, ...]:
    value = _extension(fields, _AIA)
    found: list[str] = []
    for description in value.items() if value else ():
        parts = description.items()
        oid, location = _oid(expect(parts, OID).body), expect(parts)
        if oid == method and location.tag == 0x86:
            found.append(location.body.decode("utf-8", "backslashreplace"))
    return tuple(found)


def _distribution_points(fields: _Fields) -> tuple[str, ...]:
    value = _extension(fields, _CRL)
    found: list[str] = []
    for point in value.items() if value else ():
        for part in point.items():
            if part.tag == 0xA0:  # distributionPoint
                for name in part.items():
                    if name.tag == 0xA0:  # fullName
                        found.extend(_uris(name))
    return tuple(found)


def peercert(der: bytes) -> dict[str, PeerCertValue]:
    """Return the dictionary that ``ssl.SSLSocket.getpeercert()`` gives for a DER certificate.

    Raises:
        ValueError: it cannot be read.
    """
    fields = _fields(der)
    not_before, not_after = (_time(value) for value in fields.validity.items())
    serial = int.from_bytes(fields.serial.body, "big", signed=True)
    digits = f"{abs(serial):X}"
    found: dict[str, PeerCertValue] = {
        "subject": _rdns(fields.subject),
        "issuer": _rdns(fields.issuer),
        "version": fields.version,
        "serialNumber": "-" * (serial < 0) + "0" * (len(digits) % 2) + digits,
        "notBefore": _date(not_before),
        "notAfter": _date(not_after),
    }
    names = _extension(fields, _SAN)
    extras: dict[str, tuple[object, ...]] = {
        "subjectAltName": tuple(_general_name(name) for name in names.items()) if names else (),
        "OCSP": _access(fields, _OCSP),
        "caIssuers": _access(fields, _CA_ISSUERS),
        "crlDistributionPoints": _distribution_points(fields),
    }
    found.update({key: value for key, value in extras.items() if value})
    return found


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
    return _oid(expect(parts, OID).body), next(parts, None)


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
