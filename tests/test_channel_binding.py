"""``tls-server-end-point`` (RFC 5929 section 4): which hash, of which certificate, at both ends.

And ``tls-exporter`` (RFC 9266), worked out from the secrets of a connection.  That both ends agree
on it, and on ``tls-unique``, is in test_engine.py.
"""

from __future__ import annotations

import hashlib
import re
import ssl
from pathlib import Path
from typing import cast

import pytest
from cryptography.hazmat.primitives.hashes import SHA384 as HKDF_HASH
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from pinsock import PinnedContext, PinnedObject, _chain, _der, _openssl
from tests.certificates import Chain, KeyKind, make_chain
from tests.peers import MemoryPeer, fix_version, shake
from tests.test_chain import INTEGER, OCTET_STRING, certificate, oid, seq, tlv

RSA, ECDSA, NIST = "1.2.840.113549.1.1", "1.2.840.10045.4", "2.16.840.1.101.3.4"
PSS, MGF1, SHA1, SHA256, SHA384 = (
    *(f"{RSA}.10", f"{RSA}.8", "1.3.14.3.2.26", f"{NIST}.2.1", f"{NIST}.2.2"),
)
ALGORITHMS = [
    *(f"{RSA}.{number}" for number in (4, 5, 11, 12, 13, 14)),
    *(f"{ECDSA}.1", *(f"{ECDSA}.3.{number}" for number in range(1, 5))),
    "1.2.840.10040.4.3",
    *(f"{NIST}.3.{number}" for number in (*range(1, 5), *range(9, 17))),
]


def signed_with(*algorithm: bytes) -> bytes:
    """A certificate that names this algorithm, with a signature that nobody would accept."""
    tbs, _, signature = _der.whole(certificate(), _der.SEQUENCE).items()
    fields = [field.encoded for field in tbs.items()]
    fields[2] = seq(*algorithm)
    return seq(seq(*fields), seq(*algorithm), signature.encoded)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_hash_is_that_of_the_signature(name: str) -> None:
    """Every algorithm with one hash function has it, save MD5 and SHA-1, which have SHA-256."""
    spoken = _openssl.long_name(name)  # sha384WithRSAEncryption, ecdsa-with-SHA1, RSA-SHA3-256, ...
    said = re.search(r"md5|sha3-\d+|sha\d+", spoken.lower())
    assert said is not None, spoken
    expected = {"md5": "sha256", "sha1": "sha256"}.get(said[0], said[0].replace("-", "_"))
    assert _chain.end_point_hash(signed_with(oid(name))) == expected


def pss(hash_name: str | None, mask: str | None, function: str = MGF1) -> bytes:
    """An AlgorithmIdentifier's contents for RSASSA-PSS (RFC 8017 appendix A.2.3)."""
    parts = b""
    if hash_name is not None:
        parts += tlv(0xA0, seq(oid(hash_name)))
    if mask is not None:
        parts += tlv(0xA1, seq(oid(function), seq(oid(mask))))
    return oid(PSS) + seq(parts + tlv(0xA2, tlv(INTEGER, b"\x20")))


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        (pss(SHA256, SHA256), "sha256"),
        (pss(SHA384, SHA384), "sha384"),
        (pss(f"{NIST}.2.3", f"{NIST}.2.3"), "sha512"),
        (pss(f"{NIST}.2.4", f"{NIST}.2.4"), "sha224"),
        (pss(None, None), "sha256"),  # what is left out is SHA-1
        (pss(SHA1, None), "sha256"),
        # Several hash functions, or none that is known: not defined.
        (pss(SHA256, None), None),
        (pss(SHA256, SHA384), None),
        (pss(SHA256, SHA256, function="1.2.3"), None),
        (pss("1.2.3", "1.2.3"), None),
        (oid(PSS) + seq(tlv(0xA0, seq(oid(SHA256))), tlv(0xA1, seq(oid(MGF1)))), None),
        (oid(PSS), None),
        (oid("1.3.101.112"), None),
        (oid("1.2.3"), None),
    ],
)
def test_the_hash_of_pss_is_that_of_its_parameters(algorithm: bytes, expected: str | None) -> None:
    """With RSASSA-PSS the parameters name it; where there is not exactly one, there is none."""
    assert _chain.end_point_hash(signed_with(algorithm)) == expected


@pytest.mark.parametrize(
    "der",
    [b"", seq(), seq(seq()), seq(seq(), seq()), seq(seq(), seq(tlv(OCTET_STRING, b"x"))),
     signed_with(oid(PSS) + seq(tlv(0xA0)))],
)  # fmt: skip
def test_what_is_no_certificate_has_no_hash(der: bytes) -> None:
    """It is a ValueError, as for everything else that is read from a certificate."""
    with pytest.raises(ValueError, match="DER"):
        _chain.end_point_hash(der)


def contexts(chain: Chain, version: ssl.TLSVersion) -> tuple[PinnedContext, PinnedContext]:
    client = PinnedContext(pins=None)
    server = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=None)
    chain.trust(client)
    chain.configure(server)
    fix_version(client, version)
    return client, server


def connect(chain: Chain, version: ssl.TLSVersion) -> tuple[PinnedObject, PinnedObject]:
    client, server = contexts(chain, version)
    ours = MemoryPeer(client, server_hostname="localhost")
    theirs = MemoryPeer(server, server_side=True)
    assert [seen.error for seen in shake(ours, theirs)] == [None, None]
    return cast(PinnedObject, ours.obj), cast(PinnedObject, theirs.obj)


@pytest.mark.parametrize(
    ("kind", "algorithm"), [("rsa", "sha256"), ("p256", "sha256"), ("p384", "sha384")]
)
def test_the_end_point_is_the_hash_of_the_servers_certificate(
    kind: KeyKind, algorithm: str, tls_version: ssl.TLSVersion
) -> None:
    """Both ends have the hash of the leaf, by the hash function that its issuer signed with."""
    chain = make_chain(2, kinds=["p256", kind])
    expected = hashlib.new(algorithm, chain.ders[0]).digest()
    for end in connect(chain, tls_version):
        assert end.get_channel_binding("tls-server-end-point") == expected


def test_an_undefined_end_point_is_an_error_that_says_what_to_take(
    tls_version: ssl.TLSVersion,
) -> None:
    """Ed25519 has no hash function of its own: RFC 5929 leaves the binding undefined."""
    for end in connect(make_chain(2, kinds=["p256", "ed25519"]), tls_version):
        with pytest.raises(ValueError, match=r"not defined .* use tls-exporter"):
            end.get_channel_binding("tls-server-end-point")
        assert end.get_channel_binding("tls-exporter")


def test_without_a_certificate_there_is_no_end_point() -> None:
    """With a pre-shared key the server has no certificate, and the binding is None."""
    client, server = PinnedContext(pins=None), PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=None)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    for context in (client, server):
        fix_version(context, ssl.TLSVersion.TLSv1_2)
        context.set_ciphers("PSK")
    client.set_psk_client_callback(lambda _hint: ("me", b"key of both"))
    server.set_psk_server_callback(lambda _identity: b"key of both")
    ours, theirs = MemoryPeer(client), MemoryPeer(server, server_side=True)
    assert [seen.error for seen in shake(ours, theirs)] == [None, None]
    for end in (ours.obj, theirs.obj):
        assert end.get_channel_binding("tls-server-end-point") is None


def expand_label(secret: bytes, label: bytes, context: bytes, length: int) -> bytes:
    """HKDF-Expand-Label of RFC 8446 section 7.1, with SHA-384."""
    info = length.to_bytes(2, "big")
    for part in (b"tls13 " + label, context):
        info += bytes((len(part),)) + part
    return HKDFExpand(HKDF_HASH(), length, info).derive(secret)


def test_the_exporter_is_derived_as_rfc_8446_says(tmp_path: Path) -> None:
    """From the exporter secret in the key log: with a context, with an empty one, with none."""
    client, server = contexts(make_chain(2), ssl.TLSVersion.TLSv1_3)
    client.set_ciphersuites("TLS_AES_256_GCM_SHA384")
    client.keylog_filename = str(tmp_path / "keys")
    ours = MemoryPeer(client, server_hostname="localhost")
    shake(ours, MemoryPeer(server, server_side=True))
    end = cast(PinnedObject, ours.obj)
    found = re.search(r"EXPORTER_SECRET \w+ (\w+)", (tmp_path / "keys").read_text())
    assert found is not None

    def derived(label: bytes, length: int, context: bytes) -> bytes:
        nothing, hashed = hashlib.sha384().digest(), hashlib.sha384(context).digest()
        secret = expand_label(bytes.fromhex(found[1]), label, nothing, 48)
        return expand_label(secret, b"exporter", hashed, length)

    label = b"EXPORTER-Channel-Binding"
    assert end.get_channel_binding("tls-exporter") == derived(label, 32, b"")
    assert end.export_keying_material(b"EXPERIMENTAL-test", 50, b"x") == derived(
        b"EXPERIMENTAL-test", 50, b"x"
    )
    assert end.export_keying_material(b"EXPERIMENTAL-test", 20) == derived(
        b"EXPERIMENTAL-test", 20, b""
    )
