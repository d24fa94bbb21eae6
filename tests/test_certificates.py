"""The chains are what they say: OpenSSL agrees, the interpreter's and that of cryptography."""

from __future__ import annotations

import base64
import datetime
import itertools
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import crypto

from tests.certificates import (
    EXACT_KINDS,
    KINDS,
    Chain,
    KeyKind,
    Purpose,
    Validity,
    certificate_pin,
    make_chain,
    make_key,
    openssl_spki,
    pem,
    resign,
    spki_pin,
    spki_sha256,
    trustme_chain,
)
from tests.peers import Conversation, client_context, converse, server_context

# OpenSSL's numbers for what can be wrong with a certificate (x509_vfy.h).
NOT_YET_VALID, EXPIRED, SELF_SIGNED_LEAF, PATH_TOO_LONG, INVALID_PURPOSE = 9, 10, 18, 25, 26
UNHANDLED_CRITICAL, NAME_NOT_PERMITTED = 34, 47


def talk(
    chain: Chain, version: ssl.TLSVersion | None = None, *, strict: bool = False
) -> Conversation:
    """Have a client that trusts the chain's root, and has no other reason to, talk to its leaf."""
    client = client_context(chain, version)
    if strict:
        client.verify_flags |= ssl.VERIFY_X509_STRICT
    return converse("bio", client, server_context(chain, version))


def refusal(chain: Chain) -> int:
    """Return the number of the error with which the client refuses the chain."""
    error = talk(chain).client.error
    assert isinstance(error, ssl.SSLCertVerificationError)
    return error.verify_code


@pytest.mark.parametrize("strict", [False, True], ids=["default", "strict"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_chains_verify(
    length: int, kind: KeyKind, strict: bool, tls_version: ssl.TLSVersion
) -> None:
    """Chains of every length and kind of key verify, also strictly, and on every TLS version."""
    chain = make_chain(length, kinds=kind)
    seen = talk(chain, tls_version, strict=strict)
    assert seen.client.error is None
    assert seen.server.error is None
    assert seen.client.peer_certificate == chain.ders[0]
    assert len(chain) == len(chain.keys) == len(chain.kinds) == length


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_chains_verify_with_the_other_openssl(length: int, kind: KeyKind) -> None:
    """The OpenSSL that cryptography carries verifies the chains too, strictly."""
    chain = make_chain(length, kinds=kind)
    certificates = [crypto.X509.from_cryptography(each) for each in chain.certificates]
    store = crypto.X509Store()
    store.set_flags(crypto.X509StoreFlags.X509_STRICT)
    store.add_cert(certificates[-1])
    check = crypto.X509StoreContext(store, certificates[0], certificates[1:-1])
    verified = check.get_verified_chain()
    assert tuple(each.to_cryptography() for each in verified) == chain.certificates


@pytest.mark.parametrize("kinds", list(itertools.permutations(("rsa", "p384", "ed25519"))))
def test_every_depth_has_a_kind_of_its_own(kinds: tuple[KeyKind, ...]) -> None:
    """Kinds of keys can be mixed in one chain, and are given by depth."""
    chain = make_chain(3, kinds=kinds)
    assert talk(chain, strict=True).client.error is None
    assert chain.kinds == kinds
    assert chain.keys == tuple(make_key(kind, depth) for depth, kind in enumerate(kinds))


def test_the_leaf_is_for_its_hostnames_only() -> None:
    """DNS names and IP addresses of the leaf are those asked for."""
    chain = make_chain(2, hostnames=("a.example", "127.0.0.2", "::1"))
    server = server_context(chain)
    for hostname in ("a.example", "127.0.0.2", "::1"):
        seen = converse("bio", client_context(chain), server, server_hostname=hostname)
        assert seen.client.error is None
    seen = converse("bio", client_context(chain), server, server_hostname="localhost")
    assert isinstance(seen.client.error, ssl.SSLCertVerificationError)
    seen = converse("bio", client_context(chain), server_context(make_chain(1, hostnames=())))
    assert isinstance(seen.client.error, ssl.SSLCertVerificationError)


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
@pytest.mark.parametrize(
    ("validity", "error"), [("expired", EXPIRED), ("future", NOT_YET_VALID)], ids=["past", "future"]
)
def test_a_certificate_of_any_depth_can_be_out_of_date(
    depth: int, validity: Validity, error: int
) -> None:
    """Expired and not yet valid certificates can be had at every depth."""
    assert refusal(make_chain(4, validity={depth: validity})) == error


def test_the_period_can_be_given() -> None:
    """Two moments are taken as they are."""
    start = datetime.datetime(2001, 2, 3, 4, 5, 6, tzinfo=datetime.timezone.utc)
    end = start + datetime.timedelta(seconds=1)
    leaf = make_chain(1, validity={0: (start, end)}).leaf
    assert (leaf.not_valid_before_utc, leaf.not_valid_after_utc) == (start, end)


def test_nothing_else_is_trusted() -> None:
    """A chain is refused by who trusts another root, and a self-signed leaf by its own error."""
    trusting_another = client_context(make_chain(2))
    seen = converse("bio", trusting_another, server_context(make_chain(2)))
    assert isinstance(seen.client.error, ssl.SSLCertVerificationError)
    seen = converse("bio", trusting_another, server_context(make_chain(1)))
    assert isinstance(seen.client.error, ssl.SSLCertVerificationError)
    assert seen.client.error.verify_code == SELF_SIGNED_LEAF


@pytest.mark.parametrize(
    ("purpose", "server", "client"),
    [
        ("both", True, True),
        ("server", True, False),
        ("client", False, True),
        ("none", False, False),
    ],
)
def test_the_leaf_has_its_purpose(purpose: Purpose, server: bool, client: bool) -> None:
    """A leaf serves as a server's or a client's certificate only if it was made for it."""
    chain, other = make_chain(2, purpose=purpose), make_chain(2)
    if server:
        assert talk(chain).client.error is None
    else:
        assert refusal(chain) == INVALID_PURPOSE
    seen = converse(
        "bio", client_context(other, identity=chain), server_context(other, client_ca=chain)
    )
    assert (seen.server.error is None) == client


def test_a_leaf_can_be_a_ca() -> None:
    """A leaf with the rights of a CA serves, and can issue."""
    chain = make_chain(2, leaf_is_ca=True)
    assert talk(chain, strict=True).client.error is None
    below = make_chain(1, under=chain)
    assert len(below) == 3
    assert talk(below, strict=True).client.error is None
    assert refusal(make_chain(1, under=make_chain(2))) != 0


def test_extensions_can_be_odd() -> None:
    """Any extension can be put at any depth; a critical one that nobody knows is refused."""
    odd = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    chain = make_chain(3, extensions={0: [(odd, False)], 1: [(odd, False)]})
    assert talk(chain, strict=True).client.error is None
    found = [odd in [each.value for each in cert.extensions] for cert in chain.certificates]
    assert found == [True, True, False]
    assert refusal(make_chain(3, extensions={1: [(odd, True)]})) == UNHANDLED_CRITICAL


def test_authorities_can_be_limited() -> None:
    """Name constraints and path lengths hold for what is below them."""
    elsewhere = x509.NameConstraints([x509.DNSName("example.org")], None)
    assert refusal(make_chain(3, name_constraints={1: elsewhere})) == NAME_NOT_PERMITTED
    here = x509.NameConstraints([x509.DNSName("localhost")], None)
    chain = make_chain(3, name_constraints={1: here}, hostnames=["localhost"])
    assert talk(chain).client.error is None
    assert refusal(make_chain(3, path_lengths={2: 0})) == PATH_TOO_LONG
    assert talk(make_chain(3, path_lengths={1: 0, 2: 1}), strict=True).client.error is None


def test_pools_have_no_key_in_common() -> None:
    """Keys are the same within a pool and differ between pools; subjects always differ."""
    chains = [make_chain(4), make_chain(4), make_chain(4, pool=1)]
    pins = [{spki_pin(each, by="cryptography") for each in chain.certificates} for chain in chains]
    assert len(pins[0]) == 4
    assert pins[0] == pins[1]
    assert not pins[0] & pins[2]
    assert len({each.subject for chain in chains for each in chain.certificates}) == 12
    assert not set(chains[0].ders) & set(chains[1].ders)


def test_a_ca_can_issue_again() -> None:
    """A second leaf under the same CAs verifies too: an impostor's, or a renewed one."""
    chain = make_chain(4)
    again = make_chain(1, under=chain.above(1), pool=1, kinds="ed25519")
    assert again.certificates[1:] == chain.certificates[1:]
    assert again.kinds == ("ed25519", "p256", "p256", "p256")
    assert spki_pin(again.leaf) != spki_pin(chain.leaf)
    assert talk(again, strict=True).client.error is None
    longer = make_chain(2, under=chain.above(3))
    assert len(longer) == 3
    assert talk(longer, strict=True).client.error is None


def test_the_root_is_sent_only_if_asked() -> None:
    """What is sent is the key, and the chain without its root, and whatever is to be appended."""
    chain, other = make_chain(3), make_chain(1)
    leaf, intermediate, root = chain.certificates
    assert chain.sent_pem() == chain.key_pem + pem(leaf, intermediate)
    assert chain.sent_pem(True) == chain.key_pem + pem(leaf, intermediate, root)
    assert chain.sent_pem(appended=other.certificates) == chain.sent_pem() + pem(other.leaf)
    assert other.sent_pem() == other.key_pem + pem(other.leaf)
    assert (chain.leaf, chain.root) == (leaf, root)
    assert chain.root_der == chain.ders[2] == root.public_bytes(Encoding.DER)
    assert chain.root_pem.encode("ascii") == pem(root)


def test_appended_certificates_do_not_harm() -> None:
    """A certificate that is appended is sent, and has no part in the verified chain."""
    chain, other = make_chain(2), make_chain(3)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    chain.configure(server, appended=other.certificates)
    seen = converse("bio", client_context(chain), server)
    assert seen.client.error is None
    assert seen.server.messages is not None
    (message,) = (each for each in seen.server.messages if each.is_handshake(11))
    for der in (chain.ders[0], *other.ders):
        assert der in message.data


@pytest.mark.parametrize("kind", KINDS)
def test_chains_can_be_written_to_files(kind: KeyKind, tmp_path: Path) -> None:
    """The files are what load_cert_chain and load_verify_locations take; no two share a name."""
    chain = make_chain(3, kinds=kind)
    files = chain.write(tmp_path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(files.certfile, files.keyfile)
    client = ssl.create_default_context(cafile=str(files.cafile))
    assert converse("bio", client, server).client.error is None
    make_chain(1).write(tmp_path)
    assert len(list(tmp_path.iterdir())) == 6


@pytest.mark.parametrize("strict", [False, True], ids=["default", "strict"])
@pytest.mark.parametrize("length", [2, 3, 4])
def test_chains_of_trustme_verify(length: int, strict: bool, tls_version: ssl.TLSVersion) -> None:
    """Chains of every length that trustme makes verify, also strictly, and on every TLS version."""
    chain = trustme_chain(length)
    seen = talk(chain, tls_version, strict=strict)
    assert seen.client.error is None
    assert seen.client.peer_certificate == chain.ders[0]
    assert len(chain) == len(chain.keys) == length


def test_trustme_makes_rsa_and_p256() -> None:
    """Kinds of keys are given by depth for trustme too, and the keys are the certificates'."""
    chain = trustme_chain(4, kinds=("p256", "rsa", "p256", "rsa"))
    sizes = [
        key.key_size
        for key in (each.public_key() for each in chain.certificates)
        if isinstance(key, (rsa.RSAPublicKey, ec.EllipticCurvePublicKey))
    ]
    assert sizes == [256, 2048, 256, 2048]
    public_keys = tuple(each.public_key() for each in chain.certificates)
    assert tuple(key.public_key() for key in chain.keys) == public_keys
    assert talk(chain, strict=True).client.error is None
    below = make_chain(1, under=chain.above(1))
    assert talk(below, strict=True).client.error is None


def test_a_leaf_of_trustme_can_be_out_of_date() -> None:
    """trustme's leaf can have expired, or not be valid yet."""
    assert refusal(trustme_chain(2, validity="expired")) == EXPIRED
    assert refusal(trustme_chain(3, validity="future")) == NOT_YET_VALID


def test_impossible_chains_are_refused() -> None:
    """A chain without certificates, or with another number of keys, is an error at once."""
    with pytest.raises(ValueError, match="0 certificates"):
        make_chain(0)
    with pytest.raises(ValueError, match="3 certificates with 2 keys"):
        make_chain(3, kinds=("rsa", "p256"))
    with pytest.raises(ValueError, match="1 certificates"):
        trustme_chain(1)
    with pytest.raises(ValueError, match="no ed25519 keys"):
        trustme_chain(2, kinds=("p256", "ed25519"))


@pytest.mark.parametrize("kind", EXACT_KINDS)
def test_two_oracles_agree(kind: KeyKind) -> None:
    """Of ordinary keys openssl's tool and cryptography write the same SubjectPublicKeyInfo."""
    for certificate in make_chain(2, kinds=kind).certificates:
        assert spki_sha256(certificate, by="cryptography") == spki_sha256(certificate)
        assert spki_pin(certificate, by="cryptography") == spki_pin(certificate)


@pytest.mark.parametrize("kind", ["rsa-pss", "p256-compressed", "p256-explicit"])
def test_only_the_tool_is_right_for_special_keys(kind: KeyKind) -> None:
    """Of special keys cryptography writes another SubjectPublicKeyInfo than the certificate has."""
    leaf = make_chain(2, kinds=kind).leaf
    spki = openssl_spki(leaf)
    assert leaf.public_bytes(Encoding.DER).count(spki) == 1
    try:
        other = spki_sha256(leaf, by="cryptography")
    except (ValueError, UnsupportedAlgorithm):
        return  # it does not know the key at all
    assert other != spki_sha256(leaf)


@pytest.mark.parametrize("kind", [*KINDS, "p256-explicit"])
def test_the_tool_cuts_the_key_out_of_the_certificate(kind: KeyKind) -> None:
    """What openssl's tool prints is in the certificate, byte for byte."""
    leaf = make_chain(1, kinds=kind).leaf
    der = leaf.public_bytes(Encoding.DER)
    assert openssl_spki(der) == openssl_spki(leaf)
    assert der.count(openssl_spki(der)) == 1


def test_pins_are_written_as_documented() -> None:
    """Texts of pins are the algorithm and the base64 digest, of the key or the certificate."""
    leaf = make_chain(1).leaf
    name, _, digest = spki_pin(leaf).partition("/")
    assert (name, base64.b64decode(digest)) == ("sha256", spki_sha256(leaf))
    name, _, digest = certificate_pin(leaf).partition("/")
    assert (name, base64.b64decode(digest)) == ("cert-sha256", leaf.fingerprint(hashes.SHA256()))


def test_a_certificate_can_be_signed_as_nobody_should() -> None:
    """As version 1, or with SHA-1; its own key and its place in the chain stay."""
    chain = make_chain(3, kinds="rsa")
    first = resign(chain, 1, v1=True).certificates[1]
    assert first.version == x509.Version.v1
    assert not list(first.extensions)
    assert first.public_key() == chain.certificates[1].public_key()
    first.verify_directly_issued_by(chain.root)
    old = resign(chain, 0, sha1=True).leaf
    assert old.signature_hash_algorithm is not None
    assert old.signature_hash_algorithm.name == "sha1"
    assert old.tbs_certificate_bytes != chain.leaf.tbs_certificate_bytes
