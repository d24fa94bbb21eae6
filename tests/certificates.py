"""Certificate chains for the tests, made at run time: no file is kept that could expire.

:func:`trustme_chain` is for what trustme can make; :func:`make_chain` builds the rest: other keys,
self-signed leaves, certificates that have expired or are not yet valid at any depth, and odd
extensions.  Unless a test asks for something broken, a chain also verifies under
``VERIFY_X509_STRICT``, the default from CPython 3.13 on.

Nothing here uses pinsock: what it is compared with has to come from somewhere else.
"""

from __future__ import annotations

import base64
import datetime
import functools
import hashlib
import ipaddress
import itertools
import ssl
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Union

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = [
    "EXACT_KINDS",
    "KINDS",
    "Chain",
    "Files",
    "KeyKind",
    "PrivateKey",
    "Purpose",
    "Validity",
    "certificate_pin",
    "key_usage",
    "make_chain",
    "make_key",
    "openssl_spki",
    "pem",
    "resign",
    "sign",
    "spki_pin",
    "spki_sha256",
    "trustme_chain",
]

KeyKind = Literal[
    "rsa",
    "rsa-1024",
    "rsa-pss",
    "p256",
    "p256-compressed",
    "p256-explicit",
    "p384",
    "ed25519",
    "ed448",
]
PrivateKey = Union[
    rsa.RSAPrivateKey,
    ec.EllipticCurvePrivateKey,
    ed25519.Ed25519PrivateKey,
    ed448.Ed448PrivateKey,
]
Validity = Union[
    Literal["valid", "expired", "future"], "tuple[datetime.datetime, datetime.datetime]"
]
Purpose = Literal["both", "server", "client", "none"]

#: Every kind of key with which a TLS handshake can be made.  ``p256-explicit`` is not among them:
#: TLS knows curves by name only (RFC 8422 section 5.1.1); nor is ``rsa-1024``, which is too short.
KINDS: tuple[KeyKind, ...] = (
    "rsa",
    "rsa-pss",
    "p256",
    "p256-compressed",
    "p384",
    "ed25519",
    "ed448",
)
#: The kinds whose SubjectPublicKeyInfo survives a trip through a key object of cryptography.
EXACT_KINDS: tuple[KeyKind, ...] = ("rsa", "rsa-1024", "p256", "p384", "ed25519", "ed448")

_TEN_YEARS = datetime.timedelta(days=3650)
_DAY = datetime.timedelta(days=1)


# Keys --------------------------------------------------------------------------------------------


@functools.cache
def _pooled_key(
    kind: Literal["rsa", "rsa-1024", "p256", "p384", "ed25519", "ed448"], number: int
) -> PrivateKey:
    if kind == "rsa" or kind == "rsa-1024":
        size = 2048 if kind == "rsa" else 1024
        return rsa.generate_private_key(public_exponent=65537, key_size=size)
    if kind == "p256":
        return ec.generate_private_key(ec.SECP256R1())
    if kind == "p384":
        return ec.generate_private_key(ec.SECP384R1())
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return ed448.Ed448PrivateKey.generate()


def make_key(kind: KeyKind = "p256", number: int = 0) -> PrivateKey:
    """Return key ``number`` of a kind: always the same one within a process, as making one is slow.

    Kinds that differ only in how the public key is written down share their keys.
    """
    if kind == "rsa-pss":
        return _pooled_key("rsa", number)
    if kind == "p256-compressed" or kind == "p256-explicit":
        return _pooled_key("p256", number)
    return _pooled_key(kind, number)


def _key_pem(key: PrivateKey, kind: KeyKind) -> bytes:
    der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    if kind == "rsa-pss":
        # cryptography writes every RSA key as rsaEncryption, and OpenSSL then finds that the key is
        # not the certificate's.
        version, _algorithm, *rest = _elements(_content(der))
        der = _tlv(0x30, version + _RSASSA_PSS + b"".join(rest))
    text = base64.encodebytes(der).decode("ascii")
    return f"-----BEGIN PRIVATE KEY-----\n{text}-----END PRIVATE KEY-----\n".encode("ascii")


# Public keys that cryptography's builder cannot write --------------------------------------------


def _tlv(tag: int, content: bytes) -> bytes:
    """One element of DER (X.690 section 8.1)."""
    length = len(content)
    if length < 0x80:
        return bytes((tag, length)) + content
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(size))) + size + content


def _header(der: bytes) -> tuple[int, int]:
    """The length of the header of the first element of ``der``, and of its content."""
    if der[1] < 0x80:
        return 2, der[1]
    count = der[1] & 0x7F
    return 2 + count, int.from_bytes(der[2 : 2 + count], "big")


def _content(der: bytes) -> bytes:
    start, length = _header(der)
    return der[start : start + length]


def _elements(content: bytes) -> Iterator[bytes]:
    while content:
        start, length = _header(content)
        yield content[: start + length]
        content = content[start + length :]


def _oid(hexadecimal: str) -> bytes:
    return _tlv(0x06, bytes.fromhex(hexadecimal))


def _integer(number: int) -> bytes:
    return _tlv(0x02, number.to_bytes(number.bit_length() // 8 + 1, "big"))


# id-RSASSA-PSS without parameters: a key for PSS only, of whatever hash (RFC 4055 section 3.1).
_RSASSA_PSS = _tlv(0x30, _oid("2a864886f70d01010a"))

_ID_EC_PUBLIC_KEY = _oid("2a8648ce3d0201")
_PRIME256V1 = _oid("2a8648ce3d030107")
# P-256 spelt out as ECParameters (RFC 3279 section 2.3.5), with the numbers of SEC 2 section 2.4.2.
_P = 2**256 - 2**224 + 2**192 + 2**96 - 1
_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
_G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
_N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_EXPLICIT_P256 = _tlv(
    0x30,
    _integer(1)
    + _tlv(0x30, _oid("2a8648ce3d0101") + _integer(_P))
    + _tlv(0x30, _tlv(0x04, (_P - 3).to_bytes(32, "big")) + _tlv(0x04, _B.to_bytes(32, "big")))
    + _tlv(0x04, b"\x04" + _G[0].to_bytes(32, "big") + _G[1].to_bytes(32, "big"))
    + _integer(_N)
    + _integer(1),
)


def _special_spki(key: PrivateKey, kind: KeyKind) -> bytes | None:
    """The SubjectPublicKeyInfo, if it is one that cryptography would write differently."""
    if kind in EXACT_KINDS:
        return None
    public = key.public_key()
    if kind == "rsa-pss":
        bits = public.public_bytes(Encoding.DER, PublicFormat.PKCS1)
        return _tlv(0x30, _RSASSA_PSS + _tlv(0x03, b"\0" + bits))
    if kind == "p256-compressed":
        point = public.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
        curve = _PRIME256V1
    else:
        point = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        curve = _EXPLICIT_P256
    return _tlv(0x30, _tlv(0x30, _ID_EC_PUBLIC_KEY + curve) + _tlv(0x03, b"\0" + point))


def _pss() -> padding.PSS:
    return padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)


def _hash_for(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384 | None:
    if isinstance(key, (ed25519.Ed25519PrivateKey, ed448.Ed448PrivateKey)):
        return None
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.key_size == 384:
        return hashes.SHA384()
    return hashes.SHA256()


def sign(builder: x509.CertificateBuilder, key: PrivateKey, kind: KeyKind) -> x509.Certificate:
    """Return the certificate, signed as a key of its kind signs."""
    return builder.sign(key, _hash_for(key), rsa_padding=_pss() if kind == "rsa-pss" else None)


def _sign_bytes(data: bytes, key: PrivateKey, kind: KeyKind) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, _pss() if kind == "rsa-pss" else padding.PKCS1v15(), hashes.SHA256())
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(data, ec.ECDSA(_hash_for(key) or hashes.SHA256()))
    return key.sign(data)


def _with_spki(
    certificate: x509.Certificate, spki: bytes, issuer_key: PrivateKey, issuer_kind: KeyKind
) -> x509.Certificate:
    """The same certificate with another way to write its public key, signed anew."""
    fields = list(_elements(_content(certificate.tbs_certificate_bytes)))
    # RFC 5280 section 4.1: version, serialNumber, signature, issuer, validity, subject, and then
    # subjectPublicKeyInfo.
    fields[6] = spki
    tbs = _tlv(0x30, b"".join(fields))
    signature = _tlv(0x03, b"\0" + _sign_bytes(tbs, issuer_key, issuer_kind))
    return x509.load_der_x509_certificate(_tlv(0x30, tbs + fields[2] + signature))


# Chains ------------------------------------------------------------------------------------------


def pem(*certificates: x509.Certificate) -> bytes:
    """Return certificates as PEM, one after the other."""
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


class Files(NamedTuple):
    """A chain on disk: for ``load_cert_chain``, and the root for ``load_verify_locations``."""

    certfile: Path
    keyfile: Path
    cafile: Path


@dataclass(frozen=True)
class Chain:
    """Certificates and their private keys, leaf first and root last: the order of depths."""

    certificates: tuple[x509.Certificate, ...]
    keys: tuple[PrivateKey, ...]
    kinds: tuple[KeyKind, ...]

    def __len__(self) -> int:
        return len(self.certificates)

    @property
    def leaf(self) -> x509.Certificate:
        """The certificate at depth 0."""
        return self.certificates[0]

    @property
    def root(self) -> x509.Certificate:
        """The certificate to trust; the leaf itself if it is self-signed."""
        return self.certificates[-1]

    @property
    def ders(self) -> tuple[bytes, ...]:
        """The certificates as DER."""
        return tuple(certificate.public_bytes(Encoding.DER) for certificate in self.certificates)

    @property
    def root_der(self) -> bytes:
        """What ``load_verify_locations(cadata=...)`` takes as bytes."""
        return self.root.public_bytes(Encoding.DER)

    @property
    def root_pem(self) -> str:
        """What ``load_verify_locations(cadata=...)`` takes as a string."""
        return pem(self.root).decode("ascii")

    @property
    def key_pem(self) -> bytes:
        """The leaf's private key, not encrypted."""
        return _key_pem(self.keys[0], self.kinds[0])

    def sent_certificates(self, include_root: bool = False) -> tuple[x509.Certificate, ...]:
        """Return what a peer sends: all but the root, as everybody has to have that already.

        A self-signed leaf is always sent.
        """
        if include_root or len(self) == 1:
            return self.certificates
        return self.certificates[:-1]

    def sent_pem(
        self, include_root: bool = False, *, appended: Sequence[x509.Certificate] = ()
    ) -> bytes:
        """Return the leaf's key and what a peer sends, as PEM.

        Args:
            include_root: send the root as well.
            appended: certificates that are sent after the chain and have nothing to do with it.
        """
        return self.key_pem + pem(*self.sent_certificates(include_root), *appended)

    def write(self, directory: Path, include_root: bool = False) -> Files:
        """Write the chain to files, under names that no other chain has."""
        name = f"{self.leaf.serial_number:x}"
        files = Files(*(directory / f"{name}-{what}.pem" for what in ("chain", "key", "root")))
        files.certfile.write_bytes(pem(*self.sent_certificates(include_root)))
        files.keyfile.write_bytes(self.key_pem)
        files.cafile.write_text(self.root_pem, encoding="ascii")
        return files

    def configure(
        self,
        context: ssl.SSLContext,
        include_root: bool = False,
        *,
        appended: Sequence[x509.Certificate] = (),
    ) -> None:
        """Have ``context`` present this chain; for the arguments see :meth:`sent_pem`."""
        # load_cert_chain takes nothing but files.
        with tempfile.NamedTemporaryFile(suffix=".pem") as file:
            file.write(self.sent_pem(include_root, appended=appended))
            file.flush()
            context.load_cert_chain(file.name)

    def trust(self, context: ssl.SSLContext) -> None:
        """Have ``context`` trust the root of this chain."""
        context.load_verify_locations(cadata=self.root_pem)

    def above(self, depth: int) -> Chain:
        """Return the chain from ``depth`` upwards: who may issue more, see ``under=``."""
        return Chain(self.certificates[depth:], self.keys[depth:], self.kinds[depth:])


# Names are never used twice: OpenSSL looks issuers up by name.
_numbers = itertools.count(1)


def _name(role: str, common_name: str | None = None) -> x509.Name:
    organization = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "pinsock tests")
    common_name = common_name or f"{role} {next(_numbers)}"
    return x509.Name([organization, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _period(validity: Validity) -> tuple[datetime.datetime, datetime.datetime]:
    # Whole seconds, as certificates know nothing finer.
    now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    if isinstance(validity, tuple):
        return validity
    if validity == "expired":
        return now - _TEN_YEARS, now - _DAY
    if validity == "future":
        return now + _DAY, now + _TEN_YEARS
    return now - _DAY, now + _TEN_YEARS


def _alternative_name(hostname: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(hostname))
    except ValueError:
        return x509.DNSName(hostname)


def key_usage(*, ca: bool, tls: bool, encipherment: bool) -> x509.KeyUsage:
    """Return the extension for a key that issues, or shakes hands, or receives secrets."""
    return x509.KeyUsage(
        digital_signature=tls,
        content_commitment=False,
        key_encipherment=encipherment,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


_USAGES: dict[Purpose, list[x509.ObjectIdentifier]] = {
    "both": [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH],
    "server": [ExtendedKeyUsageOID.SERVER_AUTH],
    "client": [ExtendedKeyUsageOID.CLIENT_AUTH],
    "none": [ExtendedKeyUsageOID.CODE_SIGNING],
}


def make_chain(
    length: int = 3,
    *,
    kinds: KeyKind | Sequence[KeyKind] = "p256",
    hostnames: Sequence[str] = ("localhost", "127.0.0.1"),
    common_name: str | None = None,
    validity: Mapping[int, Validity] | None = None,
    purpose: Purpose = "both",
    leaf_is_ca: bool = False,
    name_constraints: Mapping[int, x509.NameConstraints] | None = None,
    path_lengths: Mapping[int, int] | None = None,
    key_usages: Mapping[int, x509.KeyUsage] | None = None,
    extensions: Mapping[int, Sequence[tuple[x509.ExtensionType, bool]]] | None = None,
    under: Chain | None = None,
    pool: int = 0,
) -> Chain:
    """Make a chain of certificates.

    Args:
        length: how many certificates to make; 1 is a self-signed leaf (unless ``under`` is given).
        kinds: the kind of every key; or a sequence with one for each depth.
        hostnames: DNS names and IP addresses of the leaf.
        common_name: of the leaf; by default one that no other certificate has.
        validity: by depth: ``"expired"``, ``"future"``, or the two moments themselves.
        purpose: what the leaf may be used for; ``"none"`` is something that is not TLS.
        leaf_is_ca: the leaf could issue certificates too.
        name_constraints: by depth (above 0).
        path_lengths: by depth (above 0); by default any number of CAs may follow.
        key_usages: by depth, in place of what a certificate there is for.
        extensions: by depth: more extensions, each with whether it is critical.
        under: the CAs above those made here, from :meth:`Chain.above`.  The result includes them;
            depths count from the leaf either way.
        pool: chains made with different pools have no key in common; with the same pool, keys of
            the same kind at the same depth are the same (certificates never are).
    """
    kinds = (kinds,) * length if isinstance(kinds, str) else tuple(kinds)
    if length < 1 or len(kinds) != length:
        raise ValueError(f"{length} certificates with {len(kinds)} keys")
    # More depths than any test has, so that pools do not overlap.
    keys = tuple(make_key(kind, 128 * pool + depth) for depth, kind in enumerate(kinds))

    made: list[x509.Certificate] = []
    issuer: x509.Certificate | None = under.leaf if under else None
    issuer_key, issuer_kind = (under.keys[0], under.kinds[0]) if under else (keys[-1], kinds[-1])
    for depth in reversed(range(length)):
        key, kind = keys[depth], kinds[depth]
        ca = depth > 0 or leaf_is_ca
        if depth == 0:
            subject = _name("leaf", common_name)
        else:
            subject = _name("intermediate" if issuer else "root")
        not_before, not_after = _period((validity or {}).get(depth, "valid"))
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.subject if issuer else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(not_before)
            .not_valid_after(not_after)
            .add_extension(
                x509.BasicConstraints(ca=ca, path_length=(path_lengths or {}).get(depth)),
                critical=True,
            )
            .add_extension(
                (key_usages or {}).get(depth)
                or key_usage(ca=ca, tls=depth == 0, encipherment=depth == 0 and kind == "rsa"),
                critical=True,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        )
        if issuer:
            identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
            builder = builder.add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier.value),
                critical=False,
            )
        if depth == 0:
            builder = builder.add_extension(x509.ExtendedKeyUsage(_USAGES[purpose]), critical=False)
            if hostnames:
                names = [_alternative_name(hostname) for hostname in hostnames]
                builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if name_constraints and depth in name_constraints:
            builder = builder.add_extension(name_constraints[depth], critical=True)
        for extension, critical in (extensions or {}).get(depth, ()):
            builder = builder.add_extension(extension, critical)
        certificate = sign(builder, issuer_key, issuer_kind)
        spki = _special_spki(key, kind)
        if spki is not None:
            certificate = _with_spki(certificate, spki, issuer_key, issuer_kind)
        made.insert(0, certificate)
        issuer, issuer_key, issuer_kind = certificate, key, kind
    if under:
        return Chain((*made, *under.certificates), (*keys, *under.keys), (*kinds, *under.kinds))
    return Chain(tuple(made), keys, kinds)


# sha1WithRSAEncryption (RFC 3279 section 2.2.1).
_SHA1_WITH_RSA = _tlv(0x30, _oid("2a864886f70d010105") + _tlv(0x05, b""))


def resign(chain: Chain, depth: int, *, v1: bool = False, sha1: bool = False) -> Chain:
    """Return ``chain`` with the certificate at ``depth`` signed anew, in a way nobody should.

    Its key stays the same, so what it has issued is still good.

    Args:
        v1: make it an X.509 version 1 certificate, which has no extensions.
        sha1: sign with SHA-1; the issuer's key has to be RSA.
    """
    certificate, issuer = chain.certificates[depth], min(depth + 1, len(chain) - 1)
    key = chain.keys[issuer]
    fields = list(_elements(_content(certificate.tbs_certificate_bytes)))
    algorithm = _SHA1_WITH_RSA if sha1 else fields[2]
    fields[2] = algorithm
    if v1:
        fields = fields[1:7]  # between the version and the extensions (RFC 5280 section 4.1)
    tbs = _tlv(0x30, b"".join(fields))
    if sha1:
        assert isinstance(key, rsa.RSAPrivateKey)
        signature = key.sign(tbs, padding.PKCS1v15(), hashes.SHA1())
    else:
        signature = _sign_bytes(tbs, key, chain.kinds[issuer])
    made = x509.load_der_x509_certificate(
        _tlv(0x30, tbs + algorithm + _tlv(0x03, b"\0" + signature))
    )
    below, above = chain.certificates[:depth], chain.certificates[depth + 1 :]
    return Chain((*below, made, *above), chain.keys, chain.kinds)


_TRUSTME_KINDS: dict[KeyKind, trustme.KeyType] = {
    "rsa": trustme.KeyType.RSA,
    "p256": trustme.KeyType.ECDSA,
}


def make_crl(chain: Chain, *, revoked: bool) -> bytes:
    """Return a revocation list of the leaf's issuer, PEM, with the leaf in it or empty."""
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(chain.certificates[1].subject)
        .last_update(now - datetime.timedelta(days=1))
        .next_update(now + datetime.timedelta(days=1))
    )
    if revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(chain.leaf.serial_number)
        builder = builder.add_revoked_certificate(entry.revocation_date(now).build())
    signed = builder.sign(chain.keys[1], hashes.SHA256())
    return signed.public_bytes(Encoding.PEM)


def _load_key(data: bytes) -> PrivateKey:
    key = load_pem_private_key(data, None)
    assert isinstance(key, (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey))
    return key


def trustme_chain(
    length: int = 3,
    *,
    kinds: KeyKind | Sequence[KeyKind] = "p256",
    hostnames: Sequence[str] = ("localhost", "127.0.0.1"),
    validity: Validity = "valid",
) -> Chain:
    """Make a chain with trustme, whose keys are all new.

    Args:
        length: how many certificates; at least 2, as trustme signs no leaf with its own key.
        kinds: ``"rsa"`` or ``"p256"``, for all or for each depth.
        hostnames: as trustme takes them.
        validity: the leaf's; that of a CA is not trustme's to choose.
    """
    kinds = (kinds,) * length if isinstance(kinds, str) else tuple(kinds)
    if length < 2 or len(kinds) != length:
        raise ValueError(f"{length} certificates with {len(kinds)} keys")
    unknown = set(kinds) - set(_TRUSTME_KINDS)
    if unknown:
        raise ValueError(f"trustme makes no {', '.join(sorted(unknown))} keys")
    authorities = [trustme.CA(key_type=_TRUSTME_KINDS[kinds[-1]])]
    for kind in reversed(kinds[1:-1]):
        authorities.insert(0, authorities[0].create_child_ca(key_type=_TRUSTME_KINDS[kind]))
    not_before, not_after = _period(validity)
    leaf = authorities[0].issue_cert(
        *hostnames,
        not_before=not_before,
        not_after=not_after,
        key_type=_TRUSTME_KINDS[kinds[0]],
    )
    certificates = [leaf.cert_chain_pems[0], *(authority.cert_pem for authority in authorities)]
    keys = [leaf.private_key_pem, *(authority.private_key_pem for authority in authorities)]
    return Chain(
        tuple(x509.load_pem_x509_certificate(blob.bytes()) for blob in certificates),
        tuple(_load_key(blob.bytes()) for blob in keys),
        kinds,
    )


# Oracles -----------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1024)
def _openssl_spki(der: bytes) -> bytes:
    # The pipeline that the documentation of pinning everywhere tells people to run.
    key = subprocess.run(
        ["openssl", "x509", "-inform", "der", "-pubkey", "-noout"],
        input=der,
        capture_output=True,
        check=True,
        timeout=30,
    )
    return subprocess.run(
        ["openssl", "pkey", "-pubin", "-outform", "der"],
        input=key.stdout,
        capture_output=True,
        check=True,
        timeout=30,
    ).stdout


def openssl_spki(certificate: x509.Certificate | bytes) -> bytes:
    """Return the SubjectPublicKeyInfo of a certificate (or its DER) as openssl's tool prints it."""
    if isinstance(certificate, x509.Certificate):
        certificate = certificate.public_bytes(Encoding.DER)
    return _openssl_spki(certificate)


def spki_sha256(
    certificate: x509.Certificate, *, by: Literal["openssl", "cryptography"] = "openssl"
) -> bytes:
    """Return the SHA-256 of a certificate's SubjectPublicKeyInfo.

    Args:
        by: ``"openssl"``, the tool, is right for every kind of key; ``"cryptography"`` starts no
            process, and is right for :data:`EXACT_KINDS` only.
    """
    if by == "openssl":
        spki = openssl_spki(certificate)
    else:
        spki = certificate.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
    return hashlib.sha256(spki).digest()


def spki_pin(
    certificate: x509.Certificate, *, by: Literal["openssl", "cryptography"] = "openssl"
) -> str:
    """Return the SHA-256 pin of a certificate's key as text; see :func:`spki_sha256`."""
    return "sha256/" + base64.b64encode(spki_sha256(certificate, by=by)).decode("ascii")


def certificate_pin(certificate: x509.Certificate) -> str:
    """Return the SHA-256 pin of a whole certificate as text."""
    digest = hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()
    return "cert-sha256/" + base64.b64encode(digest).decode("ascii")
