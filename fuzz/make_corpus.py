"""Write the corpus: ``python -m fuzz.make_corpus``.

The seeds are small, have names, and come out the same on every machine: keys and dates are fixed.
One seed for each thing that a format can say; the fuzzers find the rest.  A test holds what is
committed against what is made here.
"""

from __future__ import annotations

import base64
import plistlib
import shutil
from collections.abc import Callable, Mapping

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fuzz import client_bytes_fuzzer, engine_calls_fuzzer, server_bytes_fuzzer
from fuzz.harness import CORPUS
from tests.test_chain import (
    AIA,
    BIT_STRING,
    CA_ISSUERS,
    CRL,
    FULL,
    INTEGER,
    NAMES,
    OCSP,
    OCTET_STRING,
    SAN,
    SPKI,
    UTF8,
    access,
    certificate,
    common_name,
    extension,
    oid,
    point,
    san,
    seq,
    tlv,
)  # fmt: skip
from tests.test_hello import body, message, records, vector
from tests.test_hello import extension as hello_extension

__all__ = ["SEEDS", "main"]

_DIGEST = bytes(range(32))
_BASE64 = base64.b64encode(_DIGEST).decode()
_OTHER = base64.b64encode(bytes(32)).decode()
_PIN, _CERT = f"sha256/{_BASE64}", f"cert-sha256/{_BASE64}"
_LONGER = base64.b64encode(bytes(range(64))).decode()

Seeds = dict[str, bytes]


def _texts(**texts: str) -> Seeds:
    return {name: text.encode() for name, text in texts.items()}


def _pins() -> Seeds:
    colons = ":".join(f"{octet:02X}" for octet in _DIGEST)
    der = certificate()
    lines = base64.b64encode(der).decode()
    return {
        **_texts(
            canonical=_PIN,
            certificate=_CERT,
            curl=f"sha256//{_BASE64}",
            hpkp=f'pin-sha256="{_BASE64}"',
            hexadecimal=f"sha256:{_DIGEST.hex()}",
            openssl=f"sha256 Fingerprint={colons}",
            colons=colons,
            longest=f"sha512/{_LONGER}",
            several=f"{_PIN}\n{_CERT}\n sha256/{_OTHER} ",
            sha1="sha1/2jmj7l5rSw0yVb/vlWAYkK/YBwk=",
            slash=f"sha256//{_BASE64[1:]}",
            nothing="",
            pem=f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n",
            key="-----BEGIN PUBLIC KEY-----\n"
            f"{base64.b64encode(SPKI).decode()}\n-----END PUBLIC KEY-----\n",
        ),
        "der": der,
        "der_key": SPKI,
    }


def _foreign() -> Seeds:
    android = (
        "<network-security-config><base-config/><domain-config>"
        '<domain includeSubdomains="true">example.com</domain>'
        f'<pin-set expiration="2027-06-30"><pin digest="SHA-256">{_BASE64}</pin></pin-set>'
        "<domain-config><domain>a.example.com</domain><pin-set>"
        f'<pin digest="SHA-256">{_OTHER}</pin></pin-set></domain-config>'
        "</domain-config></network-security-config>"
    )
    policy: dict[str, object] = {
        "TSKPublicKeyHashes": [_BASE64, _OTHER],
        "TSKIncludeSubdomains": True,
        "TSKExpirationDate": "2027-06-30",
        "TSKEnforcePinning": False,
    }
    trustkit = {"TSKPinnedDomains": {"example.com": policy}}
    return {
        **_texts(
            tlsa=f"T3 1 1 {_DIGEST.hex()}",
            tlsa_whole=f"T_443._tcp.example.com. 3600 IN TLSA ( 2 0 1\n {_DIGEST.hex()} )",
            tlsa_several=f"l3 1 1 {_DIGEST.hex()}\n2 1 1 {_DIGEST.hex()}\n2 0 0 30030201",
            hpkp=f'Hpin-sha256="{_BASE64}"; pin-sha256="{_OTHER}"; max-age=5184000; '
            'includeSubDomains; report-uri="https://example.com/r"',
            hpkp_report=f'HPublic-Key-Pins-Report-Only: pin-sha256="{_BASE64}"; max-age=1',
            android="A" + android,
            android_bytes="a" + android,
            android_doctype="a<!DOCTYPE a [<!ENTITY a 'b'>]><network-security-config/>",
            okhttp=f"O**.example.com {_PIN}\n*.example.com sha256/{_OTHER}",
            okhttp_both=f"O*.b.example {_PIN}\n**.a.b.example sha256/{_OTHER}",
        ),
        "tlsa_record": b"t\x03\x01\x01" + _DIGEST,
        "trustkit": b"k" + plistlib.dumps(trustkit),
        "trustkit_text": b"K" + plistlib.dumps({"TSKConfiguration": trustkit}),
        "trustkit_binary": b"k" + plistlib.dumps(trustkit, fmt=plistlib.FMT_BINARY),
    }


def _pin_files() -> Seeds:
    return _texts(
        canonical=f"# host position pin options\napi.example.com leaf {_PIN} expires=2027-06-30\n"
        f"api.example.com leaf sha256/{_OTHER} # backup\n",
        options=f"device.local any {_CERT} trust=pins check-expiry=no report-only\n"
        f"*.example.com ca {_PIN} expires=2027-06-30T12:00:00Z after-expiry=unpin\n"
        f"**.example.com 2 {_PIN} first-seen=2026-01-01T00:00:00Z\n",
        ports=f"localhost:8443 leaf {_PIN}\n[::1]:8443 leaf {_PIN}\n::1 leaf {_PIN}\n",
        other_spellings=f"B\xfccher.Example. leaf sha256//{_BASE64}\r\n"
        f"b\xfccher.example\t0 sha256:{_DIGEST.hex()} trust=ca",
        contradiction=f"a.example leaf {_PIN} trust=pins\na.example ca {_PIN} trust=ca\n",
        comments=f"\n  # nothing\n\ufeffa.example leaf {_PIN}#no comment\n",
        with_a_mark=f"\ufeffa.example leaf {_PIN}\n",
        last_day=f"a.example leaf {_PIN} expires=9999-12-31\n",
    )


def _hosts() -> Seeds:
    return _texts(
        exact="api.example.com\napi.example.com\n*.example.com\n**.example.com\n**.com.example",
        wildcard="a.example.com\n*.example.com\n**.a.example.com",
        any_depth="a.b.example.com\n**.example.com\n*.example.com",
        suffix="notexample.com\n*.example.com\n**.example.com",
        idna="B\xdcCHER.example\u3002\nb\xfccher.example\n*.xn--bcher-kva.example",
        sharp_s="stra\xdfe.example\nstrasse.example",
        ipv4="127.0.0.1\n::ffff:127.0.0.1",
        ipv6="2001:DB8::00A\n2001:db8::a",
        scope="fe80::1%eth0\nfe80::1",
        numbers="127.1\n1.example",
        twice="a.example\nA.example.\na.example",
        nul="a.example\0.evil.example\n**.evil.example",
        stray="a.example\na.*.example\n*.com",
    )


def _spki_on_a_curve() -> bytes:
    key = ec.derive_private_key(1, ec.SECP256R1()).public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _certificates() -> Seeds:
    rsa = seq(
        seq(oid("1.2.840.113549.1.1.1"), tlv(5)),
        tlv(BIT_STRING, b"\0" + seq(tlv(INTEGER, b"\0\xc1" + bytes(62) + b"\1"),
                                    tlv(INTEGER, b"\1\0\1"))),
    )  # fmt: skip
    return {
        "smallest": certificate(),
        "every_kind_of_name": FULL,
        "version_1": certificate(version=b""),
        "elliptic_curve": certificate(spki=_spki_on_a_curve()),
        "rsa": certificate(spki=rsa),
        "unknown_key": certificate(spki=seq(seq(oid("1.2.3.4")), tlv(BIT_STRING, b"\0abc"))),
        "critical_names": certificate(
            extensions=[extension(SAN, seq(NAMES["dns"]), critical=True)]
        ),
        "wildcard": certificate(subject=common_name(UTF8, b"a"), extensions=[san(NAMES["dns"])]),
        "revocation": certificate(
            extensions=[
                extension(AIA, seq(access(OCSP, tlv(0x86, b"http://a")),
                                   access(CA_ISSUERS, tlv(0x86, b"http://b")))),
                extension(CRL, seq(seq(point(tlv(0x86, b"http://c"))))),
            ]
        ),
        "other_names": certificate(extensions=[san(*NAMES.values())]),
        "unique_ids": certificate(rest=tlv(0x81, b"\0a") + tlv(0x82, b"\0b")),
        "distant_dates": certificate(
            validity=tlv(0x18, b"19491231235959Z") + tlv(0x18, b"99991231235959Z")
        ),
    }  # fmt: skip


def _verdicts() -> Seeds:
    # See verdict_fuzzer: chain of length - 1, its dates, sent, trusted, ways; trust and switches;
    # positions; how many of the events that OpenSSL would tell of; and others.
    chain = bytes((2, 0, 0, 0))
    pins = bytes((0, 0, 0, 0, 0, 0, 0))  # position leaf, its own SPKI
    return {
        "trusted": chain + bytes((7, 4, 0)) + bytes((0, 0)) + pins + bytes((15,)),
        "self_signed": bytes((0, 0, 1, 0, 0)) + bytes((1, 0, 0)) + pins + bytes((15,)),
        "incomplete": chain + bytes((3, 0, 0)) + bytes((1, 0, 0)) + pins + bytes((15,)),
        "expired_incomplete": bytes((1, 0, 1, 3, 0, 0, 1, 0, 0)) + pins + bytes((15,)),
        "mismatch": chain + bytes((7, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 15)),
        "report_only": chain + bytes((7, 4, 0, 0, 1, 0, 0, 0, 4, 0, 0, 15)),
        "late_error": chain + bytes((7, 4, 0, 0, 0)) + pins + bytes((15, 0, 0, 10, 0)),
        "events_alone": chain
        + bytes((7, 4, 0, 0, 0))
        + pins
        + bytes((0, 0, 2, 0, 2, 0, 1, 0, 1, 0, 0, 0, 0)),
    }


def _sessions() -> Seeds:
    least = (
        tlv(INTEGER, b"\1"),
        tlv(INTEGER, b"\3\4"),
        tlv(OCTET_STRING, b"\x13\2"),
        tlv(OCTET_STRING, bytes(32)),
        tlv(OCTET_STRING, bytes(48)),
    )
    return {
        "least": seq(*least),
        "full": seq(
            *least,
            tlv(0xA1, tlv(INTEGER, b"\x65\0\0\0")),
            tlv(0xA2, tlv(INTEGER, b"\x1c\x20")),
            tlv(0xA3, certificate()),
            tlv(0xA4, tlv(OCTET_STRING)),
            tlv(0xA5, tlv(INTEGER, b"\0")),
            tlv(0xA6, tlv(OCTET_STRING, b"a.example")),
            tlv(0xA9, tlv(INTEGER, b"\x1c\x20")),
            tlv(0xAA, tlv(OCTET_STRING, bytes(range(64)))),
        ),
    }


def _hellos() -> Seeds:
    full = body(
        hello_extension(0, vector(2, b"\0" + vector(2, b"a.example"))),
        hello_extension(10, vector(2, b"\0\x1d\0\x17")),
        hello_extension(13, vector(2, b"\4\3\x08\4")),
        hello_extension(16, vector(2, vector(1, b"h2"), vector(1, b"http/1.1"))),
        hello_extension(43, vector(1, b"\3\4\3\3")),
        hello_extension(51, b""),
    )
    first, second = (records(message(body(hello_extension(n, b"")))) for n in (1, 2))
    return {
        "full": b"\xff" + records(message(full)),
        "two": bytes([len(first) - 1]) + first + second,
        "in_small_records": b"\x03" + records(message(full), 7),
        "smallest": b"\x00" + records(message(body())),
        "body_alone": b"\x10" + full,
        "http": b"\xffGET / HTTP/1.0\r\n\r\n",
        "alert": b"\xff\x15\x03\x01\x00\x02\x02\x28",
        "empty_records": b"\x01" + b"\x16\3\1\0\0" * 3 + records(message(body())),
    }


#: What makes the seeds of each target.
SEEDS: Mapping[str, Callable[[], Seeds]] = {
    "chain": _certificates,
    "client_bytes": client_bytes_fuzzer.seeds,
    "engine_calls": engine_calls_fuzzer.seeds,
    "foreign": _foreign,
    "hello": _hellos,
    "hosts": _hosts,
    "pin_file": _pin_files,
    "pins": _pins,
    "server_bytes": server_bytes_fuzzer.seeds,
    "session": _sessions,
    "verdict": _verdicts,
}


def main() -> None:
    """Write all seeds; what else was in their directories is gone."""
    for target, make in SEEDS.items():
        shutil.rmtree(CORPUS / target, ignore_errors=True)
        (CORPUS / target).mkdir(parents=True)
        for name, data in make().items():
            (CORPUS / target / name).write_bytes(data)


if __name__ == "__main__":
    main()
