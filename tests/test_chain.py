"""Reading certificates on its own: SPKI slices, names, dates, and the ``getpeercert()`` dictionary.

The oracles are openssl's tool for the SPKI, cryptography for names and dates, and the standard
library for the dictionary.  What none of them will make is written here, element by element.
"""

from __future__ import annotations

import _ssl
import ssl
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Union

import cryptography
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from pinsock import _chain, _openssl
from tests.certificates import KINDS, KeyKind, make_chain, openssl_spki, trustme_chain

# Nothing here shakes hands, so a property can be tried more often than conftest's default.
MANY = settings(max_examples=max(200, settings().max_examples))

UTC = timezone.utc

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, OID = 0x01, 0x02, 0x03, 0x04, 0x06
UTF8, NUMERIC, PRINTABLE, T61, IA5, VISIBLE = 0x0C, 0x12, 0x13, 0x14, 0x16, 0x1A
UNIVERSAL, BMP = 0x1C, 0x1E
UTC_TIME, GENERALIZED_TIME = 0x17, 0x18

SAN, AIA, CRL = "2.5.29.17", "1.3.6.1.5.5.7.1.1", "2.5.29.31"
OCSP, CA_ISSUERS = "1.3.6.1.5.5.7.48.1", "1.3.6.1.5.5.7.48.2"
CN, ORGANIZATION, OU = "2.5.4.3", "2.5.4.10", "2.5.4.11"


# Certificates, element by element ----------------------------------------------------------------


def tlv(tag: int, *parts: bytes) -> bytes:
    """One element of DER (X.690 section 8.1)."""
    body = b"".join(parts)
    if len(body) < 0x80:
        return bytes((tag, len(body))) + body
    size = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(size))) + size + body


def seq(*parts: bytes) -> bytes:
    return tlv(0x30, *parts)


def oid(dotted: str) -> bytes:
    first, second, *rest = map(int, dotted.split("."))
    body = b""
    for arc in (40 * first + second, *rest):
        octets = [arc & 0x7F]
        while arc := arc >> 7:
            octets.insert(0, 0x80 | arc & 0x7F)
        body += bytes(octets)
    return tlv(OID, body)


Attribute = tuple[str, int, bytes]


def rdn(*attributes: Attribute) -> bytes:
    """A RelativeDistinguishedName; a SET OF is in order of its encodings (X.690 section 11.6)."""
    return tlv(0x31, *sorted(seq(oid(kind), tlv(tag, text)) for kind, tag, text in attributes))


def common_name(tag: int, text: bytes) -> bytes:
    return rdn((CN, tag, text))


def extension(dotted: str, value: bytes, *, critical: bool = False) -> bytes:
    flag = (tlv(BOOLEAN, b"\xff"),) if critical else ()
    return seq(oid(dotted), *flag, tlv(OCTET_STRING, value))


def san(*names: bytes) -> bytes:
    return extension(SAN, seq(*names))


ED25519 = seq(oid("1.3.101.112"))
# Always the same: it is a parameter of tests, and their names shall not change from run to run.
SPKI = (
    ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32))
    .public_key()
    .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
)
SIGNATURE = tlv(BIT_STRING, bytes(65))
NOT_BEFORE, NOT_AFTER = tlv(UTC_TIME, b"260102030405Z"), tlv(UTC_TIME, b"270102030405Z")


def certificate(
    *,
    version: bytes = tlv(0xA0, tlv(INTEGER, b"\x02")),
    serial: bytes = b"\x01",
    issuer: bytes = b"",
    validity: bytes = NOT_BEFORE + NOT_AFTER,
    subject: bytes = b"",
    spki: bytes = SPKI,
    rest: bytes = b"",
    extensions: Sequence[bytes] = (),
) -> bytes:
    """A certificate that any parser reads, with a signature that nobody would accept."""
    more = tlv(0xA3, seq(*extensions)) if extensions else b""
    return wrapped(
        version, tlv(INTEGER, serial), ED25519, seq(issuer), seq(validity), seq(subject), spki,
        rest, more,
    )  # fmt: skip


def wrapped(*fields: bytes) -> bytes:
    return seq(seq(*fields), ED25519, SIGNATURE)


PeerCert = dict[str, object]


def stdlib_peercert(der: bytes) -> PeerCert:
    """What ``getpeercert()`` of the standard library makes of a certificate, without a handshake.

    Its own tests use this door too.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(ssl.DER_cert_to_PEM_cert(der))
        file.flush()
        decode = _ssl._test_decode_cert  # type: ignore[attr-defined]  # typeshed leaves it out
        decoded: PeerCert = dict(decode(file.name))
    return decoded


def our_peercert(der: bytes) -> PeerCert:
    return dict(_chain.peercert(der, _openssl.long_name))


def check_peercert(der: bytes) -> PeerCert:
    """Assert that ours is what the standard library says, and return it."""
    ours = our_peercert(der)
    assert ours == stdlib_peercert(der)
    return ours


def outcome(read: Callable[[bytes], PeerCert], der: bytes) -> PeerCert | str:
    try:
        return read(der)
    except UnicodeDecodeError:
        return "no text"
    except (ssl.SSLError, ValueError):  # the engine makes an SSLError of ours
        return "an error"


def check_outcome(der: bytes) -> None:
    """Assert that we say what the standard library says, or fail where it does."""
    assert outcome(our_peercert, der) == outcome(stdlib_peercert, der)


# The SPKI ----------------------------------------------------------------------------------------


ALL_KINDS: tuple[KeyKind, ...] = (*KINDS, "p256-explicit")


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_spki_is_what_openssl_prints(kind: KeyKind) -> None:
    """The SPKI is byte for byte that of openssl's pipeline, at every depth of a chain."""
    for der in make_chain(2, kinds=[kind, "p256"]).ders:
        assert _chain.spki(der) == openssl_spki(der)


def openssl(*arguments: Union[str, Path], data: bytes = b"") -> bytes:
    done = subprocess.run(
        ["openssl", *arguments], input=data, capture_output=True, timeout=30, check=True
    )
    return done.stdout


# Keys as openssl itself makes them, some of which cryptography cannot.
GENERATED = {
    "rsa": ["RSA", "rsa_keygen_bits:2048"],
    "rsa-pss": ["RSA-PSS", "rsa_keygen_bits:2048"],
    "rsa-pss-restricted": [
        "RSA-PSS", "rsa_keygen_bits:2048", "rsa_pss_keygen_md:sha256",
        "rsa_pss_keygen_mgf1_md:sha256", "rsa_pss_keygen_saltlen:32",
    ],
    "p256": ["EC", "ec_paramgen_curve:P-256"],
    "p256-explicit": ["EC", "ec_paramgen_curve:P-256", "ec_param_enc:explicit"],
    "p384": ["EC", "ec_paramgen_curve:P-384"],
    "secp256k1": ["EC", "ec_paramgen_curve:secp256k1"],
    "ed25519": ["ED25519"],
    "ed448": ["ED448"],
}  # fmt: skip
MADE_OTHERWISE = ["p256-compressed", "dsa"]


def generate(kind: str, directory: Path) -> Path:
    """Have openssl make a private key."""
    key = directory / "key.pem"
    if kind == "p256-compressed":
        text = openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
        key.write_bytes(openssl("ec", "-conv_form", "compressed", data=text))
        return key
    arguments: list[Union[str, Path]]
    if kind == "dsa":
        # The smallest that is quick to find; nothing is protected by it.
        sizes = ["-pkeyopt", "dsa_paramgen_bits:1024", "-pkeyopt", "dsa_paramgen_q_bits:160"]
        parameters = directory / "parameters.pem"
        parameters.write_bytes(openssl("genpkey", "-genparam", "-algorithm", "DSA", *sizes))
        arguments = ["-paramfile", parameters]
    else:
        algorithm, *options = GENERATED[kind]
        arguments = ["-algorithm", algorithm]
        for option in options:
            arguments += ["-pkeyopt", option]
    key.write_bytes(openssl("genpkey", *arguments))
    return key


@pytest.mark.parametrize("kind", [*GENERATED, *MADE_OTHERWISE])
def test_spki_of_what_openssl_made(kind: str, tmp_path: Path) -> None:
    """Of certificates and requests that openssl made, the SPKI is what its own pipeline prints."""
    key = generate(kind, tmp_path)
    subject = ["-subj", "/CN=made by openssl"]
    cert = openssl("req", "-x509", "-new", "-key", key, *subject, "-outform", "der")
    request = openssl("req", "-new", "-key", key, *subject, "-outform", "der")
    printed = openssl("req", "-inform", "der", "-pubkey", "-noout", data=request)
    expected = openssl("pkey", "-pubin", "-outform", "der", data=printed)
    assert _chain.spki(cert) == openssl_spki(cert)
    assert _chain.csr_spki(request) == expected
    assert _chain.is_spki(expected)


def test_spki_of_an_unknown_algorithm() -> None:
    """A key of which no library knows anything is sliced all the same."""
    key = seq(seq(oid("1.3.6.1.4.1.99999.1"), b"\x05\x00"), tlv(BIT_STRING, b"\0anything"))
    assert _chain.spki(certificate(spki=key)) == key


@pytest.mark.parametrize(
    "der",
    [
        certificate(),
        certificate(version=b""),
        certificate(version=tlv(0xA0, tlv(INTEGER, b"\x01"))),
        certificate(serial=b"\xff" * 30),
        certificate(subject=common_name(UTF8, b"x" * 70_000)),
        certificate(rest=tlv(0x81, b"\0\1") + tlv(0x82, b"\0\2")),
        certificate(rest=tlv(0x81, b"\0\1"), extensions=[san(tlv(0x82, b"a.example"))]),
    ],
    ids=["v3", "v1", "v2", "serial", "long", "unique ids", "unique ids and extensions"],
)
def test_spki_whatever_is_around_it(der: bytes) -> None:
    """Versions, long names and unique identifiers do not move the slice."""
    assert _chain.spki(der) == SPKI
    assert _chain.peercert(der)["serialNumber"]


def content(der: bytes) -> bytes:
    """What is inside the first element."""
    return der[2 + (der[1] & 0x7F if der[1] >= 0x80 else 0) :]


TIMES = seq(NOT_BEFORE + NOT_AFTER)
BROKEN = {
    "nothing": b"",
    "one octet": b"\x30",
    "empty": seq(),
    "a set": tlv(0x31, content(certificate())),
    "trailing data": certificate() + b"\0",
    "cut short": certificate()[:-1],
    "indefinite length": b"\x30\x80" + content(certificate()) + b"\0\0",
    "length of five octets": b"\x30\x85\0\0\0\0\0",
    "length cut short": b"\x30\x82\x01",
    "long form for a short length": b"\x30\x81\x02\x05\x00",
    "length with a leading zero": b"\x30\x82\x00\x80" + bytes(128),
    "high tag number": b"\x3f\x20\x00",
    "no signature": seq(content(certificate())[: -len(SIGNATURE)]),
    "a fourth part": seq(content(certificate()), b"\x05\x00"),
    "signature is no bit string": seq(seq(), ED25519, tlv(OCTET_STRING, b"")),
    "no algorithm": seq(seq(), SIGNATURE, SIGNATURE),
    "empty tbs": wrapped(),
    "version without number": wrapped(tlv(0xA0), tlv(INTEGER, b"\1")),
    "version is text": wrapped(tlv(0xA0, tlv(UTF8, b"3")), tlv(INTEGER, b"\1")),
    "no serial": wrapped(tlv(0xA0, tlv(INTEGER, b"\2")), ED25519, seq(), TIMES, seq(), SPKI),
    "no key": wrapped(tlv(INTEGER, b"\1"), ED25519, seq(), TIMES, seq()),
    "no subject": wrapped(tlv(INTEGER, b"\1"), ED25519, seq(), TIMES, SPKI),
    "key is empty": certificate(spki=seq()),
    "key without algorithm": certificate(spki=seq(tlv(BIT_STRING, b"\0"))),
    "key is an octet string": certificate(spki=seq(ED25519, tlv(OCTET_STRING, b"\0"))),
    "key with more behind it": certificate(spki=seq(ED25519, tlv(BIT_STRING, b"\0"), b"\x05\0")),
    "key runs out of the certificate": certificate(spki=b"\x30\x7f" + SPKI[2:]),
    "key's bits run out of the key": certificate(spki=SPKI[:10] + b"\x25" + SPKI[11:]),
    "extensions are no sequence": certificate(rest=tlv(0xA3, tlv(INTEGER, b"\1"))),
    "extensions are nothing": certificate(rest=tlv(0xA3)),
}  # fmt: skip

READERS: dict[str, Callable[[bytes], object]] = {
    "spki": _chain.spki,
    "validity": _chain.validity,
    "subject": _chain.subject,
    "issuer": _chain.issuer,
    "peercert": _chain.peercert,
}
readers = pytest.mark.parametrize("read", READERS.values(), ids=list(READERS))


@readers
@pytest.mark.parametrize("der", BROKEN.values(), ids=list(BROKEN))
def test_what_is_no_certificate_is_a_value_error(
    der: bytes, read: Callable[[bytes], object]
) -> None:
    """What is not one whole DER certificate is a ValueError, whatever was asked about it."""
    with pytest.raises(ValueError, match="DER"):
        read(der)


def request(info: bytes) -> bytes:
    return seq(info, ED25519, SIGNATURE)


@pytest.mark.parametrize(
    "der",
    [
        b"",
        seq(),
        certificate(),
        certificate(version=b""),
        SPKI,
        request(seq()),
        request(seq(tlv(INTEGER, b"\0"), seq())),
        request(seq(tlv(INTEGER, b"\0"), seq(), seq(), tlv(0xA0))),
        request(seq(tlv(INTEGER, b"\0"), SPKI)),
        request(seq(tlv(INTEGER, b"\0"), seq(), SPKI))[:-1],
        request(seq(tlv(INTEGER, b"\0"), seq(), SPKI)) + b"\0",
    ],
)
def test_what_is_no_request_is_a_value_error(der: bytes) -> None:
    """What is not one whole certification request, a certificate above all, is a ValueError."""
    with pytest.raises(ValueError, match="DER"):
        _chain.csr_spki(der)


def test_csr_spki() -> None:
    """The SPKI of a request is sliced, attributes or not."""
    for attributes in (b"", tlv(0xA0)):
        info = seq(tlv(INTEGER, b"\0"), seq(common_name(UTF8, b"a")), SPKI, attributes)
        assert _chain.csr_spki(request(info)) == SPKI


@pytest.mark.parametrize(
    ("der", "expected"),
    [
        (SPKI, True),
        (seq(seq(oid("1.2.3")), tlv(BIT_STRING, b"\0")), True),
        (seq(seq(oid("1.2.3")), tlv(BIT_STRING, b"\4\xf0")), True),
        # What OpenSSL would not write as it stands.
        (seq(seq(), tlv(BIT_STRING, b"\0")), False),
        (seq(seq(oid("1.2.3"), tlv(5), tlv(5)), tlv(BIT_STRING, b"\0")), False),
        (seq(seq(oid("1.2.3"), tlv(5, b"a")), tlv(BIT_STRING, b"\0")), False),
        (seq(seq(oid("1.2.3"), tlv(0x24, tlv(4))), tlv(BIT_STRING, b"\0")), False),
        (seq(seq(oid("1.2.3")), tlv(BIT_STRING)), False),
        (seq(seq(oid("1.2.3")), tlv(BIT_STRING, b"\1")), False),
        (seq(seq(oid("1.2.3")), tlv(BIT_STRING, b"\4\xf8")), False),
        (seq(seq(oid("1.2.3")), tlv(BIT_STRING, b"\x08\0")), False),
        (b"", False),
        (SPKI + b"\0", False),
        (SPKI[:-1], False),
        (seq(seq(), tlv(BIT_STRING), b"\x05\x00"), False),
        (seq(tlv(INTEGER, b"\1"), tlv(INTEGER, b"\3")), False),
        (certificate(), False),
    ],
)
def test_is_spki(der: bytes, expected: bool) -> None:
    """An SPKI is a sequence of an algorithm and a bit string, with nothing after it."""
    assert _chain.is_spki(der) is expected


# Dates -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "text", "moment"),
    [
        (UTC_TIME, "500101000000Z", datetime(1950, 1, 1, tzinfo=UTC)),
        (UTC_TIME, "700101000000Z", datetime(1970, 1, 1, tzinfo=UTC)),
        (UTC_TIME, "991231235959Z", datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (UTC_TIME, "000101000000Z", datetime(2000, 1, 1, tzinfo=UTC)),
        (UTC_TIME, "491231235959Z", datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (GENERALIZED_TIME, "20500101000000Z", datetime(2050, 1, 1, tzinfo=UTC)),
        (GENERALIZED_TIME, "20260102030405Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        (GENERALIZED_TIME, "20280229120000Z", datetime(2028, 2, 29, 12, tzinfo=UTC)),
        (GENERALIZED_TIME, "19491231235959Z", datetime(1949, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (GENERALIZED_TIME, "00010101000000Z", datetime(1, 1, 1, tzinfo=UTC)),
        # RFC 5280 section 4.1.2.5: no well-defined end.
        (GENERALIZED_TIME, "99991231235959Z", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_dates_at_the_edges(tag: int, text: str, moment: datetime) -> None:
    """Two-digit years run from 1950 to 2049, four-digit ones as far as Python's calendar."""
    der = certificate(validity=tlv(tag, text.encode()) + tlv(tag, text.encode()))
    assert _chain.validity(der) == (moment, moment)
    check_peercert(der)


@pytest.mark.parametrize(
    ("tag", "text"),
    [
        *((UTC_TIME, text) for text in (
            *("2601020304+0130", "260102030405-2359", "260102030405-1259", "260102030405+0060"),
            *("000229000000Z", "010229000000Z", "500101000000+0001", "260101240000Z", "2601020304"),
        )),
        *((GENERALIZED_TIME, text) for text in (
            *("20260102030405.5", "20260102030405.Z", "20260102030405.123456789Z"),
            *("00000229000000Z", "19000229000000Z", "99991231235959-0100", "18991231235959+0000"),
            *("19000101000000+0000", "19000101000000+0100", "202601020304.5Z", "202601020304Z"),
            *("20260102030405.5+0100", "00000101000000+0100", "00000101000000+0000"),
        )),
    ],
)  # fmt: skip
def test_odd_times_are_printed_as_by_openssl(tag: int, text: str) -> None:
    """Times that X.680 allows, or nobody, are printed as OpenSSL prints them."""
    check_peercert(certificate(validity=tlv(tag, text.encode()) * 2))


clocks = st.from_regex(
    r"(\d\d)?\d\d[01]\d[0-3]\d[0-2]\d[0-5]\d([0-5]\d)?(\.\d{0,3})?(Z|[+-][01]\d[0-5]\d|)",
    fullmatch=True,
    alphabet="0123456789.Z+-",
)


@MANY
@given(st.sampled_from([UTC_TIME, GENERALIZED_TIME]), clocks)
def test_any_time_is_printed_as_by_openssl(tag: int, text: str) -> None:
    """Whatever looks like a time is printed as OpenSSL prints it, or as bad as it says it is."""
    check_peercert(certificate(validity=tlv(tag, text.encode()) * 2))


@MANY
@given(
    st.lists(
        st.datetimes(
            min_value=datetime(1950, 1, 1),  # noqa: DTZ001  # hypothesis adds the time zone
            timezones=st.just(UTC),
        ),
        min_size=2,
        max_size=2,
        unique_by=lambda moment: moment.replace(microsecond=0),
    )
)
def test_validity_is_what_cryptography_reads(moments: list[datetime]) -> None:
    """The dates of a certificate are those that cryptography reads, and getpeercert() prints."""
    elements = []
    for moment in moments:
        short = moment.year < 2050
        text = f"{moment.year:04}{moment:%m%d%H%M%S}Z".encode()
        elements.append(tlv(UTC_TIME, text[2:]) if short else tlv(GENERALIZED_TIME, text))
    der = certificate(validity=b"".join(elements))
    parsed = x509.load_der_x509_certificate(der)
    assert _chain.validity(der) == (parsed.not_valid_before_utc, parsed.not_valid_after_utc)
    assert _chain.validity(der) == tuple(moment.replace(microsecond=0) for moment in moments)
    check_peercert(der)


@pytest.mark.parametrize(
    "element",
    [
        tlv(UTC_TIME, b""),
        tlv(UTC_TIME, b"2601020304Z"),
        tlv(UTC_TIME, b"260102030405"),
        tlv(UTC_TIME, b"260102030405+0100"),
        tlv(UTC_TIME, b"20260102030405Z"),
        tlv(UTC_TIME, b"26010203040 Z"),
        tlv(UTC_TIME, b"+60102030405Z"),
        tlv(UTC_TIME, b"260102030405z"),
        tlv(UTC_TIME, b"26010203040\xb2Z"),
        tlv(UTC_TIME, b"260102030460Z"),
        tlv(UTC_TIME, b"261302030405Z"),
        tlv(UTC_TIME, b"260229030405Z"),
        tlv(GENERALIZED_TIME, b"260102030405Z"),
        tlv(GENERALIZED_TIME, b"20260102030405.5Z"),
        tlv(GENERALIZED_TIME, b"00000101000000Z"),
        tlv(PRINTABLE, b"20260102030405Z"),
        tlv(INTEGER, b"\1"),
        b"",
    ],
)
def test_a_time_outside_the_profile_is_a_value_error(element: bytes) -> None:
    """Only the two forms of RFC 5280 section 4.1.2.5 are read; OpenSSL refuses the others too.

    In the dictionary they are what OpenSSL prints for them.
    """
    for validity in (element + NOT_AFTER, NOT_BEFORE + element):
        der = certificate(validity=validity)
        assert _chain.spki(der) == SPKI
        with pytest.raises(ValueError, match=r"time|DER|ascii|month|day|second|year|unpack"):
            _chain.validity(der)
        check_outcome(der)


# Names as text -----------------------------------------------------------------------------------


def test_names_are_what_cryptography_prints() -> None:
    """Subject and issuer have the text that cryptography gives them."""
    for chain in (make_chain(3, kinds="ed25519"), trustme_chain(3)):
        for one, der in zip(chain.certificates, chain.ders, strict=True):
            assert _chain.subject(der) == one.subject.rfc4514_string()
            assert _chain.issuer(der) == one.issuer.rfc4514_string()


SHORT = {
    NameOID.COMMON_NAME: "CN",
    NameOID.COUNTRY_NAME: "C",
    NameOID.LOCALITY_NAME: "L",
    NameOID.STATE_OR_PROVINCE_NAME: "ST",
    NameOID.STREET_ADDRESS: "STREET",
    NameOID.ORGANIZATION_NAME: "O",
    NameOID.ORGANIZATIONAL_UNIT_NAME: "OU",
    NameOID.USER_ID: "UID",
    NameOID.DOMAIN_COMPONENT: "DC",
    NameOID.EMAIL_ADDRESS: "1.2.840.113549.1.9.1",
    x509.ObjectIdentifier("2.999.3"): "2.999.3",
}


@pytest.mark.parametrize(("kind", "short"), SHORT.items(), ids=list(SHORT.values()))
def test_attribute_types(kind: x509.ObjectIdentifier, short: str) -> None:
    """Attribute types have the short names of RFC 4514 section 3, or their numbers."""
    name = rdn((kind.dotted_string, UTF8, b"ab"))
    der = certificate(subject=name, issuer=name)
    assert _chain.subject(der) == _chain.issuer(der) == f"{short}=ab"
    assert x509.load_der_x509_certificate(der).subject.rfc4514_string() == f"{short}=ab"


def test_names_are_written_backwards() -> None:
    """The last RDN comes first; the attributes of one RDN are joined by a plus sign."""
    name = (
        rdn(("2.5.4.6", PRINTABLE, b"CH"))
        + rdn((CN, UTF8, b"a"), (OU, UTF8, b"b"))
        + rdn((CN, UTF8, b"c"))
    )
    der = certificate(subject=name)
    assert _chain.subject(der) == "CN=c,CN=a+OU=b,C=CH"
    assert x509.load_der_x509_certificate(der).subject.rfc4514_string() == "CN=c,CN=a+OU=b,C=CH"
    assert _chain.issuer(der) == ""


# These two take cryptography's word for RFC 4514, and it had to learn some of it: until version 47
# it escaped leading and trailing spaces twice, and read escaped octets one by one.
RFC4514_AS_WRITTEN = pytest.mark.skipif(
    int(cryptography.__version__.partition(".")[0]) < 47,
    reason="this cryptography writes and reads names in a way of its own",
)


@RFC4514_AS_WRITTEN
@MANY
@given(st.text(st.characters(exclude_categories=["C", "Z"], include_characters=" "), min_size=1))
@example(" a")
@example("a ")
@example(" ")
@example("#a")
@example("a#")
@example(' "+,;<>\\=')
def test_printable_names_are_escaped_as_by_cryptography(text: str) -> None:
    """What RFC 4514 section 2.4 wants escaped is escaped, and nothing else that can be printed."""
    der = certificate(subject=rdn((OU, UTF8, text.encode())))
    assert _chain.subject(der) == x509.load_der_x509_certificate(der).subject.rfc4514_string()


@RFC4514_AS_WRITTEN
@MANY
@given(st.lists(st.text(min_size=1), min_size=1, max_size=3))
@example(["\0"])
@example(["\x1b[2J\r\n"])
@example([" \u202e "])
def test_names_are_read_back(texts: list[str]) -> None:
    """Whatever is in a name, its text can be printed on one line, and says it all."""
    der = certificate(subject=b"".join(rdn((OU, UTF8, text.encode())) for text in texts))
    printed = _chain.subject(der)
    assert printed.isprintable()
    again = x509.Name.from_rfc4514_string(printed)
    assert [attribute.value for attribute in again] == texts


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("\x1b[31mred\x1b[0m", "\\1B[31mred\\1B[0m"),
        ("one\ntwo\r\tthree", "one\\0Atwo\\0D\\09three"),
        ("a\0b", "a\\00b"),
        ("\x7f\x9b31m", "\\7F\\C2\\9B31m"),
        ("\u202egnp.exe", "\\E2\\80\\AEgnp.exe"),
        ("a\u2028b\xa0c", "a\\E2\\80\\A8b\\C2\\A0c"),
        ("\u200b\ufeff", "\\E2\\80\\8B\\EF\\BB\\BF"),
        ("CN=x,O=y+z", "CN=x\\,O=y\\+z"),
        ("B\xfccher \u4e66 \U0001f512", "B\xfccher \u4e66 \U0001f512"),
    ],
)
def test_hostile_names_are_harmless(text: str, printed: str) -> None:
    """Control characters and invisible ones come out escaped, all others as they are."""
    der = certificate(subject=common_name(UTF8, text.encode()))
    assert _chain.subject(der) == "CN=" + printed


@pytest.mark.parametrize(
    ("tag", "data", "text"),
    [
        (UTF8, b"\xff\x1b", "\\\\xff\\1B"),
        (VISIBLE, b"a\xe9", "a\\\\xe9"),
        (BMP, b"\xd8\x00", "\\\\xd8\\\\x00"),
        (BMP, b"a", "\\\\x61"),
        (UNIVERSAL, b"\0\x11\0\0", "\\\\x00\\\\x11\\\\x00\\\\x00"),
        (OCTET_STRING, b"ab", "#04026162"),
        (INTEGER, b"\1", "#020101"),
        (0x30, b"", "#3000"),
    ],
)
def test_what_is_no_text_is_shown_all_the_same(tag: int, data: bytes, text: str) -> None:
    """Octets that are no text of their type are shown as octets; the name is never an error."""
    der = certificate(subject=common_name(tag, data))
    # The number sign stands for the encoding itself (RFC 4514 section 2.4), so it is not escaped.
    assert _chain.subject(der) == "CN=" + text
    check_outcome(der)


@pytest.mark.parametrize(
    "name",
    [
        tlv(0x31, seq()),
        tlv(0x31, seq(oid(CN))),
        tlv(0x31, seq(tlv(UTF8, b"a"), oid(CN))),
        tlv(0x31, seq(tlv(OID, b""), tlv(UTF8, b"a"))),
        tlv(0x31, seq(tlv(OID, b"\x55\x84"), tlv(UTF8, b"a"))),
        tlv(0x31, b"\x30\x05\x06"),
        b"\x31",
    ],
)
def test_a_broken_name_is_a_value_error(name: bytes) -> None:
    """A name that is not made of attributes is a ValueError, and does not hide the SPKI."""
    subject, issuer = certificate(subject=name), certificate(issuer=name)
    for read, der in ((_chain.subject, subject), (_chain.issuer, issuer)):
        with pytest.raises(ValueError, match=r"DER|object identifier"):
            read(der)
        with pytest.raises(ValueError, match=r"DER|object identifier"):
            _chain.peercert(der)
        assert _chain.spki(der) == SPKI


# The dictionary of getpeercert() -----------------------------------------------------------------


def handshake_peercert(context: ssl.SSLContext, client: ssl.SSLContext) -> PeerCert:
    """The dictionary that a client of the standard library gets in a real handshake."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(down, up, server_hostname="localhost")
    theirs = context.wrap_bio(up, down, server_side=True)
    for side in (ours, theirs, ours, theirs):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    found = ours.getpeercert()
    assert found is not None
    return dict(found)


def test_peercert_is_what_a_handshake_gives() -> None:
    """The dictionary is what ssl gives after a handshake, and so is the oracle used here."""
    chain = trustme_chain(3, hostnames=["localhost", "*.b\xfccher.example", "127.0.0.1", "::1"])
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    chain.configure(server)
    chain.trust(client)
    assert check_peercert(chain.ders[0]) == handshake_peercert(server, client)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_peercert_of_every_key(kind: KeyKind) -> None:
    """The dictionary does not depend on what sort of key a certificate has."""
    for der in make_chain(2, kinds=[kind, "p256"]).ders:
        check_peercert(der)


@pytest.mark.parametrize(
    ("serial", "text"),
    [
        (b"\x00", "00"),
        (b"\x01", "01"),
        (b"\x7f", "7F"),
        (b"\x00\x80", "80"),
        (b"\xff", "-01"),
        (b"\x80", "-80"),
        (b"\xff\x00", "-0100"),
        (b"\x7f" * 20, "7F" * 20),
        (b"\x00" + b"\xfe" * 20, "FE" * 20),
        (b"\x7f" * 35, "7F" * 35),
    ],
)
def test_serial_numbers(serial: bytes, text: str) -> None:
    """Serial numbers, zero and negative ones too, are written as OpenSSL writes them."""
    assert check_peercert(certificate(serial=serial))["serialNumber"] == text


@pytest.mark.parametrize("size", [35, 36, 71])
def test_a_long_serial_number_is_cut_off(size: int) -> None:
    """A serial number of more than 35 octets, which RFC 5280 forbids, is cut off as by ssl."""
    for octet in (b"\x7f", b"\x80"):
        check_peercert(certificate(serial=octet * size))


@pytest.mark.parametrize("number", [b"\x00", b"\x01", b"\x02", b"\x04", b"\xff"])
def test_versions(number: bytes) -> None:
    """The version is one more than the number in the certificate, and 1 without one."""
    check_peercert(certificate(version=tlv(0xA0, tlv(INTEGER, number))))
    assert check_peercert(certificate(version=b""))["version"] == 1


NAME_OIDS = sorted(
    value.dotted_string
    for value in vars(NameOID).values()
    if isinstance(value, x509.ObjectIdentifier)
)


@pytest.mark.parametrize("kind", [*NAME_OIDS, "2.999.3", "1.2.3.4", "2.5.4.127", "0.9.9.9"])
def test_attribute_types_have_their_long_names(kind: str) -> None:
    """Every type of attribute that cryptography can write has the name that OpenSSL gives it."""
    check_peercert(certificate(subject=rdn((kind, UTF8, b"x"))))


STRINGS = [
    (UTF8, "\u20ac \U0001f512 \xe9".encode()),
    (UTF8, b""),
    (UTF8, b"a\0b"),
    (PRINTABLE, b"plain"),
    (NUMERIC, b"12 34"),
    (IA5, b"a@example.com"),
    (T61, b"caf\xe9"),
    (BMP, "\xe9\u20ac".encode("utf-16-be")),
    (BMP, b""),
    (UNIVERSAL, "\u20ac \U0001f512".encode("utf-32-be")),
]


@pytest.mark.parametrize(("tag", "data"), STRINGS)
def test_every_type_of_string(tag: int, data: bytes) -> None:
    """Every type of string that OpenSSL reads in a name is decoded as OpenSSL decodes it."""
    check_peercert(certificate(subject=common_name(tag, data), issuer=common_name(tag, data)))


@pytest.mark.parametrize("tag", [PRINTABLE, NUMERIC, IA5])
def test_strings_with_eight_bits(tag: int) -> None:
    """Octets that do not belong in a string of ASCII are Latin-1 to OpenSSL, and so to us."""
    assert "caf\xe9" in str(check_peercert(certificate(subject=common_name(tag, b"caf\xe9"))))


def test_names_of_several_attributes() -> None:
    """An RDN of several attributes is one tuple, in the order of the certificate."""
    name = rdn((CN, UTF8, b"a"), (OU, UTF8, b"b")) + rdn((CN, UTF8, b"c")) + rdn((CN, UTF8, b"c"))
    found = check_peercert(certificate(subject=name))
    assert found["subject"] == (
        (("commonName", "a"), ("organizationalUnitName", "b")),
        (("commonName", "c"),),
        (("commonName", "c"),),
    )


def test_an_empty_rdn_is_left_out() -> None:
    """An RDN without attributes, which there should not be, is not in the dictionary."""
    check_peercert(certificate(subject=rdn() + rdn((CN, UTF8, b"c")) + rdn()))


UNKNOWN_OTHER = tlv(0xA0, oid("1.2.3.4"), tlv(0xA0, tlv(UTF8, b"x")))
NAMES = {
    "email": tlv(0x81, b"a@example.com"),
    "dns": tlv(0x82, b"*.example.com"),
    "dns with nul": tlv(0x82, b"a.example\0.evil.example"),
    "dns in utf-8": tlv(0x82, "b\xfccher.example".encode()),
    "dns of nothing": tlv(0x82),
    "uri": tlv(0x86, b"https://example.com/a?b=c"),
    "ipv4": tlv(0x87, b"\x7f\0\0\1"),
    "ipv6 zeros": tlv(0x87, bytes(16)),
    "ipv6": tlv(0x87, bytes(range(0xF0, 0x100))),
    "ipv6 small groups": tlv(0x87, b"\x20\x01\x0d\xb8" + bytes(11) + b"\x0a"),
    "ip of 8 octets": tlv(0x87, bytes(8)),
    "ip of nothing": tlv(0x87),
    "directory name": tlv(
        0xA4, seq(rdn((CN, UTF8, b"a"), (OU, BMP, b"\0b")), rdn((CN, T61, b"\xe9")))
    ),
    "empty directory name": tlv(0xA4, seq()),
    "registered id": tlv(0x88, oid("2.999.3")[2:]),
    "unknown other name": UNKNOWN_OTHER,
    "edi party name": tlv(0xA5, tlv(0xA1, tlv(UTF8, b"x"))),
    "x400 address": tlv(0xA3, seq()),
}


@pytest.mark.parametrize("name", NAMES.values(), ids=list(NAMES))
def test_every_kind_of_alternative_name(name: bytes) -> None:
    """Every kind of GeneralName is spelt as the standard library spells it."""
    assert len(str(check_peercert(certificate(extensions=[san(name)]))["subjectAltName"])) > 4


def test_many_alternative_names() -> None:
    """All names come in their order, from a critical extension as from any other."""
    check_peercert(certificate(extensions=[san(*NAMES.values())]))
    check_peercert(certificate(extensions=[extension(SAN, seq(*NAMES.values()), critical=True)]))
    check_peercert(certificate(extensions=[san(*(tlv(0x82, b"a%d" % n) for n in range(500)))]))


UPN = "1.3.6.1.4.1.311.20.2.3"
OTHER_TYPES = [
    *("1.3.6.1.5.5.7.8.9", "1.3.6.1.5.5.7.8.5", "1.3.6.1.5.5.7.8.7", "1.3.6.1.5.5.7.8.8"),
    *(UPN, "1.2.3"),
]
ODD_OCTETS = [
    *(b"", b"a", b"ab", b"abcd", b"\xff\xfe", b"\xd8\x3d\xde\0", b"\0\x11\0\0", b"\0\0\xd8\0"),
    *(b"\x07\xff", b"\x03\xff\xff", b"\x08\xff", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"),
    *(b"a\0b", b"\0"),
]
needs_openssl_3 = pytest.mark.skipif(
    ssl.OPENSSL_VERSION_INFO < (3,), reason="OpenSSL 1.1 prints no other names"
)


def other_name(kind: str, tag: int, data: bytes) -> bytes:
    return tlv(0xA0, oid(kind), tlv(0xA0, tlv(tag, data)))


@needs_openssl_3
@pytest.mark.parametrize("tag", range(31))
@pytest.mark.parametrize("data", ODD_OCTETS)
def test_values_of_every_type_are_read_or_refused_as_by_openssl(tag: int, data: bytes) -> None:
    """Any octets as any type: in a name, a directory name and an other name."""
    check_outcome(certificate(subject=common_name(tag, data)))
    directory = tlv(0xA4, seq(common_name(tag, data)))
    check_outcome(certificate(extensions=[san(directory, tlv(0x82, b"a"))]))
    for kind in OTHER_TYPES:
        check_outcome(certificate(extensions=[san(other_name(kind, tag, data))]))


# Constructed strings (0xA1, ...) are BER.  OpenSSL reads them; the profile has DER.
@pytest.mark.parametrize(
    "tag", [tag for tag in range(256) if tag & 31 != 31 and tag not in (0xA1, 0xA2, 0xA6, 0xA7)]
)
def test_general_names_of_every_tag_are_read_or_refused_as_by_openssl(tag: int) -> None:
    """Any octets under any tag: as alternative name, and as the location of an OCSP responder."""
    datas = [
        *(b"", b"x", b"abcd", oid(CN)[2:], seq(), seq(rdn()), tlv(0xA0, tlv(UTF8, b"a"))),
        *(tlv(0xA1, tlv(UTF8, b"a")), b"\x80\1", b"\1\x80\1", b"\xff", b"x" * 3000),
    ]
    for data in datas:
        name = tlv(tag, data)
        check_outcome(certificate(extensions=[san(name, tlv(0x82, b"a"))]))
        locations = seq(access(OCSP, name), access(OCSP, tlv(0x86, b"u")))
        check_outcome(certificate(extensions=[extension(AIA, locations)]))


@needs_openssl_3
@pytest.mark.parametrize(
    "text",
    [
        *("", ":", "a:b", "\0", "a\0b\n", "<x>", "a\nb", "a\n", "\n", "\xe9" * 1500),
        *("a" * size for size in (1000, 2027, 2028, 2030, 2040, 2050, 3000)),
    ],
)
def test_an_other_name_is_one_line_as_with_openssl(text: str) -> None:
    """An other name ends where a line ends, at a NUL, and after what _ssl.c reads of a line."""
    check_outcome(certificate(extensions=[san(other_name(UPN, UTF8, text.encode()))]))


@pytest.mark.parametrize("dotted", ["2.5.4.3", "2.999.3", "1.2.840.113549.1.1.1", "0.0", "1.39.1"])
def test_a_registered_id_has_its_long_name(dotted: str) -> None:
    """An object identifier as a name is printed by its long name, if OpenSSL has one."""
    check_peercert(certificate(extensions=[san(tlv(0x88, oid(dotted)[2:]))]))


def test_an_extension_that_comes_twice_is_left_out() -> None:
    """OpenSSL takes neither of two; one without names is there all the same."""
    name = tlv(0x82, b"a.example")
    assert "subjectAltName" not in check_peercert(certificate(extensions=[san(name), san(name)]))
    assert check_peercert(certificate(extensions=[san()]))["subjectAltName"] == ()


def access(method: str, location: bytes) -> bytes:
    return seq(oid(method), location)


def test_authority_information_access() -> None:
    """The URIs of OCSP and of the issuers' certificates are listed, and nothing else is."""
    descriptions = [
        access(OCSP, tlv(0x86, b"http://ocsp.example/1")),
        access(CA_ISSUERS, tlv(0x86, b"http://ca.example/1")),
        access(OCSP, tlv(0x82, b"not.a.uri.example")),
        access("1.3.6.1.5.5.7.48.5", tlv(0x86, b"http://repository.example")),
        access(OCSP, tlv(0x86, b"http://ocsp.example/2")),
    ]
    found = check_peercert(certificate(extensions=[extension(AIA, seq(*descriptions))]))
    assert found["OCSP"] == ("http://ocsp.example/1", "http://ocsp.example/2")
    assert found["caIssuers"] == ("http://ca.example/1",)
    without = check_peercert(certificate(extensions=[extension(AIA, seq(*descriptions[2:4]))]))
    assert "OCSP" not in without
    assert "caIssuers" not in without
    check_peercert(certificate(extensions=[extension(AIA, seq())]))


def point(*names: bytes) -> bytes:
    return tlv(0xA0, tlv(0xA0, *names))


def test_crl_distribution_points() -> None:
    """The URIs of full names are listed; reasons, issuers and other names are passed over."""
    points = [
        seq(point(tlv(0x86, b"http://crl.example/1"), tlv(0x82, b"x"), tlv(0x86, b"ldap://2"))),
        seq(
            point(tlv(0x86, b"http://crl.example/3")),
            tlv(0x81, b"\1\2"),
            tlv(0xA2, tlv(0x82, b"y")),
        ),
        seq(tlv(0xA2, tlv(0x86, b"http://crl-issuer.example"))),
        seq(),
    ]
    found = check_peercert(certificate(extensions=[extension(CRL, seq(*points))]))
    uris = ("http://crl.example/1", "ldap://2", "http://crl.example/3")
    assert found["crlDistributionPoints"] == uris
    without = check_peercert(certificate(extensions=[extension(CRL, seq(*points[2:]))]))
    assert "crlDistributionPoints" not in without


@pytest.mark.parametrize(
    "wrong",
    [
        tlv(0xA2, tlv(0x86, b"http://b")) + point(tlv(0x86, b"http://a")),
        point(tlv(0x86, b"http://a")) * 2,
        tlv(0xA0, tlv(0xA0, tlv(0x86, b"http://a")), tlv(0xA0, tlv(0x86, b"http://b"))),
        tlv(0xA3) + point(tlv(0x86, b"http://a")),
    ],
    ids=["order", "twice", "two names", "unknown"],
)
def test_a_distribution_point_of_another_shape_is_left_out(wrong: bytes) -> None:
    """What OpenSSL does not read is not listed.  Found by fuzz/chain_fuzzer.py."""
    found = check_peercert(certificate(extensions=[extension(CRL, seq(seq(wrong)))]))
    assert "crlDistributionPoints" not in found


def test_a_relative_distribution_point_is_passed_over() -> None:
    """A name relative to the issuer's has no URI."""
    relative = seq(tlv(0xA0, tlv(0xA1, seq(oid(CN), tlv(UTF8, b"a")))))
    der = certificate(extensions=[extension(CRL, seq(relative))])
    # Not compared: _ssl.c takes such a name for something else.
    assert "crlDistributionPoints" not in our_peercert(der)


@pytest.mark.parametrize("dotted", [AIA, SAN, CRL])
def test_an_extension_that_cannot_be_read_is_left_out(dotted: str) -> None:
    """One extension of nonsense does not take the other answers away, as in the standard library.

    OpenSSL refuses to verify with some of these; not with an AIA, which it never looks at.
    """
    for value in (b"nonsense", b"", tlv(INTEGER, b"\1"), seq()[:-1] + b"\x05"):
        found = check_peercert(
            certificate(subject=common_name(UTF8, b"a"), extensions=[extension(dotted, value)])
        )
        assert found["subject"]


@pytest.mark.parametrize(
    "value",
    [
        seq(NAMES["dns"]) + b"\0",
        b"\x30\x80" + NAMES["dns"] + b"\0\0",
        b"\x30\x81\x0f" + NAMES["dns"],
        b"\x30\x85\0\0\0\0\x0f" + NAMES["dns"],
        seq(tlv(0xA2, tlv(0x16, b"a.example"))),
    ],
    ids=["more behind it", "indefinite", "long length", "very long length", "in pieces"],
)
def test_names_in_ber_are_not_left_out(value: bytes) -> None:
    """What the standard library reads and we do not is an error, and no certificate without names.

    Found by fuzz/chain_fuzzer.py.
    """
    der = certificate(extensions=[extension(SAN, value)])
    assert "subjectAltName" in stdlib_peercert(der)
    with pytest.raises(ValueError, match=r"DER|pieces"):
        our_peercert(der)


def test_other_extensions_are_passed_over() -> None:
    """Extensions of which the dictionary tells nothing may hold what they like."""
    others = [extension("2.5.29.19", seq(), critical=True), extension("1.2.3.4", b"nonsense")]
    assert "subjectAltName" not in check_peercert(certificate(extensions=others))
    found = check_peercert(certificate(extensions=[*others, san(NAMES["dns"])]))
    assert found["subjectAltName"] == (("DNS", "*.example.com"),)


@pytest.mark.parametrize(
    "broken",
    [
        seq(),
        seq(tlv(OID, b""), tlv(OCTET_STRING, b"")),
        seq(oid(SAN)),
        seq(oid(SAN), tlv(INTEGER, b"\1")),
        seq(oid(SAN), tlv(BOOLEAN, b"\xff")),
    ],
)
def test_a_broken_extension_is_a_value_error(broken: bytes) -> None:
    """What is no extension at all is a ValueError: OpenSSL does not read such a certificate."""
    der = certificate(extensions=[broken])
    with pytest.raises(ssl.SSLError):
        stdlib_peercert(der)
    with pytest.raises(ValueError, match=r"DER|object identifier"):
        _chain.peercert(der)


# The dictionary, at random -----------------------------------------------------------------------

plain = st.text(st.characters(max_codepoint=0x7E, min_codepoint=0x20), max_size=12)
basic = st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]), max_size=12)
letters: st.SearchStrategy[tuple[int, bytes]] = st.one_of(
    st.tuples(st.just(UTF8), st.text(max_size=12).map(str.encode)),
    st.tuples(st.sampled_from([PRINTABLE, IA5, NUMERIC]), plain.map(str.encode)),
    st.tuples(st.just(T61), st.binary(max_size=12)),
    st.tuples(st.just(BMP), basic.map(lambda text: text.encode("utf-16-be"))),
    st.tuples(st.just(UNIVERSAL), st.text(max_size=12).map(lambda text: text.encode("utf-32-be"))),
)
attributes: st.SearchStrategy[Attribute] = st.builds(
    lambda kind, string: (kind, *string),
    st.sampled_from(
        [CN, ORGANIZATION, OU, "2.5.4.6", "1.2.840.113549.1.9.1", "2.999.3", "1.2.3.4"]
    ),
    letters,
)
name_elements = st.lists(
    st.lists(attributes, min_size=1, max_size=3).map(lambda some: rdn(*some)), max_size=4
).map(b"".join)
uris = plain.map(lambda text: tlv(0x86, text.encode()))
general_names = st.one_of(
    st.builds(tlv, st.sampled_from([0x81, 0x82, 0x86]), st.text(max_size=12).map(str.encode)),
    st.binary(max_size=17).map(lambda octets: tlv(0x87, octets)),
    st.binary(min_size=4, max_size=4).map(lambda octets: tlv(0x87, octets)),
    st.binary(min_size=16, max_size=16).map(lambda octets: tlv(0x87, octets)),
    name_elements.map(lambda name: tlv(0xA4, seq(name))),
    st.sampled_from(list(NAMES.values())),
    st.sampled_from(["2.5.4.3", "2.999.3", "1.2.840.113549.1.1.1"]).map(
        lambda dotted: tlv(0x88, oid(dotted)[2:])
    ),
)
if ssl.OPENSSL_VERSION_INFO >= (3,):
    general_names |= st.builds(
        other_name, st.sampled_from(OTHER_TYPES), st.sampled_from([UTF8, IA5]),
        plain.map(str.encode),
    )  # fmt: skip
dates = st.datetimes(
    min_value=datetime(1950, 1, 1),  # noqa: DTZ001  # written as UTC
    max_value=datetime(2049, 12, 31),  # noqa: DTZ001  # likewise
).map(lambda moment: tlv(UTC_TIME, f"{moment:%y%m%d%H%M%S}Z".encode()))
random_extensions = st.tuples(
    st.lists(general_names, min_size=1, max_size=4).map(lambda names: san(*names)),
    st.lists(st.builds(access, st.sampled_from([OCSP, CA_ISSUERS, "1.2.3"]), uris), max_size=3).map(
        lambda some: extension(AIA, seq(*some))
    ),
    st.lists(
        st.lists(uris, min_size=1, max_size=2).map(lambda some: seq(point(*some))), max_size=3
    ).map(lambda some: extension(CRL, seq(*some))),
).flatmap(lambda three: st.lists(st.sampled_from(three), unique=True))


@st.composite
def random_certificates(draw: st.DrawFn) -> bytes:
    serial = draw(st.integers(-(2**159), 2**159))
    return certificate(
        version=draw(st.sampled_from([b"", tlv(0xA0, tlv(INTEGER, b"\x02"))])),
        serial=serial.to_bytes((serial + (serial < 0)).bit_length() // 8 + 1, "big", signed=True),
        issuer=draw(name_elements),
        validity=draw(dates) + draw(dates),
        subject=draw(name_elements),
        extensions=draw(random_extensions),
    )


@MANY
@given(random_certificates())
def test_peercert_is_that_of_the_standard_library(der: bytes) -> None:
    """Whatever names, dates and extensions a certificate has, the dictionary is ssl's."""
    check_peercert(der)
    assert _chain.spki(der) == SPKI


# Anything at all ---------------------------------------------------------------------------------

FULL = certificate(
    subject=rdn((CN, UTF8, b"a"), (OU, BMP, b"\0b")),
    issuer=common_name(T61, b"\xe9"),
    extensions=[
        san(*NAMES.values()),
        extension(AIA, seq(access(OCSP, tlv(0x86, b"http://a")))),
        extension(CRL, seq(seq(point(tlv(0x86, b"http://b"))))),
    ],
)
SAMPLES = (FULL, certificate(), *make_chain(2, kinds="p256").ders)
REQUEST = request(seq(tlv(INTEGER, b"\0"), seq(common_name(UTF8, b"a")), SPKI, tlv(0xA0)))


def check_everything(data: bytes) -> None:
    """Call every public function; each gives an answer of its type or raises ValueError."""
    answers: dict[str, object] = {}
    for name, read in {**READERS, "csr_spki": _chain.csr_spki}.items():
        try:
            answers[name] = read(data)
        except ValueError:
            continue
    for name in ("spki", "csr_spki"):
        if name in answers:
            found = answers[name]
            assert isinstance(found, bytes)
            assert found in data
            assert _chain.is_spki(found)
    for name in ("subject", "issuer"):
        if name in answers:
            text = answers[name]
            assert isinstance(text, str)
            assert text.isprintable()
    # Who can say anything about a certificate can also say what its key is.
    assert "spki" in answers or not answers.keys() & {"validity", "subject", "issuer", "peercert"}
    assert isinstance(_chain.is_spki(data), bool)


@MANY
@given(st.binary(max_size=200))
@example(b"")
@example(b"\x30\x84\xff\xff\xff\xff")
def test_any_octets_are_read_or_refused(data: bytes) -> None:
    """Arbitrary octets raise nothing but ValueError."""
    check_everything(data)


@MANY
@given(st.sampled_from([*SAMPLES, REQUEST]), st.data())
def test_a_damaged_certificate_is_read_or_refused(der: bytes, data: st.DataObject) -> None:
    """A certificate with octets changed, lost or added raises nothing but ValueError."""
    damaged = bytearray(der)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged)))
        upto = data.draw(st.sampled_from([at, at + 1, at + 2, at + 20]))
        damaged[at:upto] = data.draw(st.binary(max_size=3))
    check_everything(bytes(damaged))


elements = st.recursive(
    st.builds(tlv, st.integers(0, 255), st.binary(max_size=6)),
    lambda inner: st.builds(
        lambda tag, parts: tlv(tag, *parts),
        st.sampled_from([0x30, 0x31, 0xA0, 0xA3, 0xA4]),
        st.lists(inner, max_size=3),
    ),
    max_leaves=6,
)


@MANY
@given(
    st.fixed_dictionaries(
        {
            "subject": elements,
            "issuer": elements,
            "validity": elements | st.just(NOT_BEFORE + NOT_AFTER),
            "spki": elements | st.just(SPKI),
            "rest": elements | st.just(b""),
        }
    ),
    st.lists(
        st.builds(extension, st.sampled_from([SAN, AIA, CRL]), elements)
        | st.builds(lambda some: extension(SAN, seq(some)), elements)
        | st.builds(lambda some: extension(AIA, seq(some)), elements)
        | st.builds(lambda some: extension(CRL, seq(some)), elements),
        max_size=3,
    ),
)
def test_der_of_the_wrong_shape_is_read_or_refused(
    parts: dict[str, bytes], some: list[bytes]
) -> None:
    """Proper DER in improper places raises nothing but ValueError."""
    check_everything(certificate(extensions=some, **parts))


@MANY
@given(st.sampled_from(SAMPLES), st.data())
def test_a_slice_is_never_another_key(der: bytes, data: st.DataObject) -> None:
    """Where cryptography still reads a damaged certificate, it finds the key that we slice."""
    at = data.draw(st.integers(0, len(der) - 1))
    octet = data.draw(st.integers(0, 255))
    damaged = der[:at] + bytes([octet]) + der[at + 1 :]
    try:
        key = x509.load_der_x509_certificate(damaged).public_key()
    except Exception:
        assume(False)
        raise
    expected = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert _chain.spki(damaged) == expected


def test_a_long_identifier_does_not_take_long() -> None:
    """An object identifier of absurd size is read or refused at once, as a peer may send one."""
    begin = datetime.now(UTC)
    huge = tlv(OID, b"\xff" * 50_000 + b"\x7f")
    check_everything(certificate(subject=tlv(0x31, seq(huge, tlv(UTF8, b"a")))))
    assert datetime.now(UTC) - begin < timedelta(seconds=5)
