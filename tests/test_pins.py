"""Pins and pin sets on their own: spelling, making, matching, comparing; without a connection."""

from __future__ import annotations

import base64
import copy
import dataclasses
import datetime as datetime_module
import hashlib
import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta, timezone
from typing import Literal, Union, get_args

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pinsock import Pin, PinMatch, PinSet, PinSyntaxError
from pinsock._pins import POSITIONS, Algorithm, Kind, Position, as_pin_set
from tests.certificates import Chain, make_chain, make_key, pem

# Nothing here shakes hands, so a property can be tried more often than conftest's default.
MANY = settings(max_examples=max(200, settings().max_examples))

SIZES: dict[Algorithm, int] = {"sha256": 32, "sha384": 48, "sha512": 64}
KINDS: tuple[Kind, ...] = get_args(Kind)
ALGORITHMS: tuple[Algorithm, ...] = get_args(Algorithm)
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
UTC = timezone.utc

# For calls that the types forbid: what happens then is tested too.
untyped_pin: Callable[..., Pin] = Pin
untyped_parse: Callable[..., Pin] = Pin.parse
untyped_from_certificate: Callable[..., Pin] = Pin.from_certificate
untyped_from_public_key: Callable[..., Pin] = Pin.from_public_key
untyped_pin_set: Callable[..., PinSet] = PinSet

ONES = b"\x01" * 32
# Base64 of a digest of 0xFF octets begins with a slash, as one in 64 does.
SLASHES = b"\xff" * 32


def b64(digest: bytes) -> str:
    return base64.b64encode(digest).decode("ascii")


def colons(digest: bytes) -> str:
    return digest.hex(":").upper()


def digests(algorithm: Algorithm) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=SIZES[algorithm], max_size=SIZES[algorithm])


def pins_of(algorithm: Algorithm) -> st.SearchStrategy[Pin]:
    return st.builds(Pin, st.sampled_from(KINDS), st.just(algorithm), digests(algorithm))


any_pin = st.sampled_from(ALGORITHMS).flatmap(pins_of)


# Spelling ----------------------------------------------------------------------------------------


@MANY
@given(any_pin)
@example(Pin("spki", "sha256", SLASHES))
@example(Pin("cert", "sha256", SLASHES))
@example(Pin("spki", "sha256", bytes(32)))
def test_text_round_trips(pin: Pin) -> None:
    """The text of a pin is read back as the same pin, white space around it or not."""
    assert Pin.parse(str(pin)) == pin
    assert Pin.parse(f" \t{pin}\r\n") == pin


@MANY
@given(any_pin, any_pin)
def test_one_pin_has_one_text(one: Pin, other: Pin) -> None:
    """Two pins have the same text exactly if they are equal."""
    assert (str(one) == str(other)) == (one == other)


def test_canonical_text() -> None:
    """The canonical text is the algorithm, a slash and base64; a certificate's says so first."""
    assert str(Pin("spki", "sha256", ONES)) == "sha256/" + "AQEB" * 10 + "AQE="
    assert str(Pin("cert", "sha256", ONES)) == "cert-sha256/" + "AQEB" * 10 + "AQE="
    assert str(Pin("spki", "sha384", b"\x01" * 48)) == "sha384/" + "AQEB" * 16


@MANY
@given(st.data(), st.sampled_from(ALGORITHMS))
def test_every_spelling_is_read(data: st.DataObject, algorithm: Algorithm) -> None:
    """Every spelling that DESIGN names means the pin it should, with every algorithm."""
    digest = data.draw(digests(algorithm))
    key, whole = Pin("spki", algorithm, digest), Pin("cert", algorithm, digest)
    assert Pin.parse(f"{algorithm}/{b64(digest)}") == key
    assert Pin.parse(f"{algorithm}//{b64(digest)}") == key
    assert Pin.parse(f'pin-{algorithm}="{b64(digest)}"') == key
    assert Pin.parse(f"{algorithm}:{digest.hex()}") == key
    assert Pin.parse(f"{algorithm}:{digest.hex().upper()}") == key
    assert Pin.parse(f"cert-{algorithm}/{b64(digest)}") == whole
    for text in (colons(digest), colons(digest).lower()):
        assert Pin.parse(text) == whole
        for name in (algorithm, algorithm.upper()):
            assert Pin.parse(f"{name} Fingerprint={text}") == whole
            assert Pin.parse(f"{name} fingerprint={text}") == whole


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("leading", [0, 1, 2, 3])
def test_a_slash_of_the_digest_is_not_curls(algorithm: Algorithm, leading: int) -> None:
    """However many slashes a digest begins with, the canonical and curl's spelling are told apart.

    ``sha256//...`` is curl's, unless the second slash is the first of the digest's characters.
    """
    size = SIZES[algorithm]
    text = "/" * leading + b64(bytes(size))[leading:]
    digest = base64.b64decode(text)
    assert b64(digest) == text
    assert Pin.parse(f"{algorithm}/{text}") == Pin("spki", algorithm, digest)
    assert Pin.parse(f"{algorithm}//{text}") == Pin("spki", algorithm, digest)
    assert Pin.parse(f"cert-{algorithm}/{text}") == Pin("cert", algorithm, digest)
    with pytest.raises(PinSyntaxError):
        Pin.parse(f"{algorithm}///{text}")


GOOD = b64(ONES)
URL_SAFE = base64.urlsafe_b64encode(b"\xfb" * 32).decode("ascii")

# What is written, and what the message has to say about it.
REFUSED = [
    # Broken hashes, under every name and in every spelling.
    ("md5/" + b64(bytes(16)), ["MD5", "broken", "use sha256"]),
    ("sha1/" + b64(bytes(20)), ["SHA1", "broken", "use sha256"]),
    ("sha-1/" + b64(bytes(20)), ["SHA-1", "broken", "use sha256"]),
    ("SHA1//" + b64(bytes(20)), ["SHA1", "broken", "use sha256"]),
    ("cert-md5/" + b64(bytes(16)), ["MD5", "broken", "use sha256"]),
    ('pin-sha1="' + b64(bytes(20)) + '"', ["SHA1", "broken", "use sha256"]),
    ("sha1:" + bytes(20).hex(), ["SHA1", "broken", "use sha256"]),
    ("md5:" + bytes(16).hex(), ["MD5", "broken", "use sha256"]),
    ("SHA1 Fingerprint=" + colons(bytes(20)), ["SHA1", "broken", "use sha256"]),
    ("MD5 Fingerprint=" + colons(bytes(16)), ["MD5", "broken", "use sha256"]),
    (colons(bytes(20)), ["SHA-1", "broken", "use sha256"]),
    (colons(bytes(16)), ["MD5", "broken", "use sha256"]),
    # Other hashes.
    ("sha224/" + b64(bytes(28)), ["sha224", "use sha256, sha384 or sha512"]),
    ("SHA256/" + GOOD, ["SHA256", "use sha256, sha384 or sha512"]),
    ("sha3-256/" + GOOD, ["sha3-256", "use sha256, sha384 or sha512"]),
    ("SHA3-256 Fingerprint=" + colons(ONES), ["sha3-256", "use sha256, sha384 or sha512"]),
    ('pin-blake2="' + GOOD + '"', ["blake2", "use sha256, sha384 or sha512"]),
    # Base64 that is not quite.
    ("sha256/" + URL_SAFE, ["URL-safe", "'+' for '-'", "'/' for '_'"]),
    ("sha256//" + URL_SAFE, ["URL-safe", "'+' for '-'", "'/' for '_'"]),
    ("sha256/" + GOOD[:-1], ["32 bytes in base64 (44 characters)", "cert-sha256/BASE64"]),
    ("sha256/" + GOOD[:-2] + "F=", ["32 bytes in base64 (44 characters)"]),
    ("sha256/" + GOOD[:20] + "\n" + GOOD[20:], ["32 bytes in base64 (44 characters)"]),
    ("sha256/" + GOOD[:-1] + "\u2261", ["32 bytes in base64 (44 characters)"]),
    ("sha256/" + GOOD + "=", ["32 bytes in base64 (44 characters)"]),
    ("sha256/" + ONES.hex(), ["32 bytes in base64 (44 characters)", "sha256/BASE64"]),
    ("sha256/", ["32 bytes in base64 (44 characters)"]),
    ('pin-sha256=""', ["32 bytes in base64 (44 characters)"]),
    ("sha384/" + GOOD, ["48 bytes in base64 (64 characters)"]),
    ("sha512/" + GOOD, ["64 bytes in base64 (88 characters)"]),
    ("sha256/" + b64(bytes(48)), ["32 bytes in base64 (44 characters)"]),
    ("cert-sha256//" + GOOD, ["one slash too many", "cert-sha256/BASE64"]),
    # Hexadecimal that is not quite.
    ("sha256:" + ONES.hex()[:-2], ["32 bytes in hexadecimal (64 digits)", "sha256/BASE64"]),
    ("sha256:" + ONES.hex()[:-1] + "g", ["32 bytes in hexadecimal (64 digits)"]),
    ("sha256:" + ONES.hex()[:-1] + "\u0661", ["32 bytes in hexadecimal (64 digits)"]),
    ("sha512:" + ONES.hex(), ["64 bytes in hexadecimal (128 digits)"]),
    ("sha256:" + colons(ONES), ["32 bytes in hexadecimal (64 digits)"]),
    # What openssl prints, cut or mislabelled.
    (colons(ONES[:-1]), ["31 bytes", "sha256 digest has 32", "openssl x509 -fingerprint -sha256"]),
    ("sha256 Fingerprint=" + colons(bytes(20)), ["20 bytes", "sha256 digest has 32"]),
    ("sha512 Fingerprint=" + colons(ONES), ["32 bytes", "sha512 digest has 64"]),
    (colons(ONES) + ":", ["is not a pin", "sha256/BASE64"]),
    # A digest of who knows what.
    (ONES.hex(), ["does not say what it is the digest of", "cert-sha256/BASE64"]),
    (GOOD, ["does not say what it is the digest of", "cert-sha256/BASE64"]),
    # No pin at all.
    ("", ["is not a pin", "sha256/BASE64", "python -m pinsock pin"]),
    ("   ", ["is not a pin", "sha256/BASE64"]),
    ("server.pem", ["is not a pin", "python -m pinsock pin"]),
    ("certificates/server.pem", ["'certificates'", "use sha256"]),
    ("pin-sha256=" + GOOD, ["is not a pin", "sha256/BASE64"]),
    ("sha256 " + GOOD, ["is not a pin", "sha256/BASE64"]),
    ("sha256/" + GOOD + " sha256/" + GOOD, ["32 bytes in base64"]),
    ("sha256//" + GOOD + ";sha256//" + GOOD, ["32 bytes in base64"]),
    ("-----BEGIN CERTIFICATE-----", ["is not a pin", "python -m pinsock pin"]),
]


@pytest.mark.parametrize(("text", "said"), REFUSED)
def test_a_refusal_says_what_is_right(text: str, said: list[str]) -> None:
    """What is not a pin is refused, and the message says what to write instead."""
    with pytest.raises(PinSyntaxError) as caught:
        Pin.parse(text)
    for words in said:
        assert words in str(caught.value)


@MANY
@given(st.one_of(st.text(), st.from_regex(r"(cert-|pin-)?(sha256|sha384)(//?|:|=)[\w+/=\"]*")))
def test_any_text_is_a_pin_or_a_syntax_error(text: str) -> None:
    """Whatever the text, it is read as a pin that has a text of its own, or is a PinSyntaxError."""
    try:
        pin = Pin.parse(text)
    except PinSyntaxError:
        return
    assert Pin.parse(str(pin)) == pin


@MANY
@given(any_pin, st.data())
def test_a_damaged_pin_is_no_pin(pin: Pin, data: st.DataObject) -> None:
    """With one character of its digest lost, a pin is refused and never read as another one."""
    text = str(pin)
    at = data.draw(st.integers(text.index("/") + 1, len(text) - 1))
    with pytest.raises(PinSyntaxError):
        Pin.parse(text[:at] + text[at + 1 :])


@pytest.mark.parametrize("text", [b"sha256/" + GOOD.encode(), None, 1, Pin("spki", "sha256", ONES)])
def test_only_text_is_parsed(text: object) -> None:
    """Bytes and other values are a TypeError that names their type."""
    with pytest.raises(TypeError, match=type(text).__name__):
        untyped_parse(text)


# The value ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "algorithm", "digest", "said"),
    [
        ("key", "sha256", ONES, "unknown kind of pin 'key': use 'spki' or 'cert'"),
        ("spki", "sha1", bytes(20), "SHA1 is broken"),
        ("spki", "sha224", bytes(28), "unknown pin algorithm 'sha224'"),
        ("spki", "sha256", bytes(20), "a sha256 digest has 32 bytes, not 20"),
        ("cert", "sha512", ONES, "a sha512 digest has 64 bytes, not 32"),
    ],
)
def test_a_pin_is_checked_when_made(
    kind: Kind, algorithm: Algorithm, digest: bytes, said: str
) -> None:
    """A pin made from its parts is held to the same rules as one that is parsed."""
    with pytest.raises(PinSyntaxError, match=said):
        Pin(kind, algorithm, digest)


def test_a_digest_is_bytes() -> None:
    """A digest of another type, hexadecimal text above all, is a TypeError."""
    with pytest.raises(TypeError, match="a digest is bytes, not str"):
        untyped_pin("spki", "sha256", ONES.hex())
    with pytest.raises(TypeError, match="a digest is bytes, not bytearray"):
        untyped_pin("spki", "sha256", bytearray(ONES))


@given(any_pin, any_pin)
def test_pins_compare_by_value(one: Pin, other: Pin) -> None:
    """Pins are equal, and have equal hashes, if all three parts are."""
    same = (one.kind, one.algorithm, one.digest) == (other.kind, other.algorithm, other.digest)
    assert (one == other) == same
    twin = Pin(one.kind, one.algorithm, one.digest)
    assert twin == one
    assert hash(twin) == hash(one)
    assert sorted([one, other]) == sorted([other, one])


def test_kinds_differ() -> None:
    """A pin of a key and one of a certificate are not equal, even with the same digest."""
    assert Pin("spki", "sha256", ONES) != Pin("cert", "sha256", ONES)
    text: object = str(Pin("spki", "sha256", ONES))
    assert Pin("spki", "sha256", ONES) != text


@pytest.mark.parametrize("name", ["kind", "algorithm", "digest"])
def test_a_pin_cannot_be_changed(name: str) -> None:
    """Assigning to a pin's attribute, or deleting it, is an error."""
    pin = Pin("spki", "sha256", ONES)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(pin, name, getattr(pin, name))
    with pytest.raises(dataclasses.FrozenInstanceError):
        delattr(pin, name)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_pin_pickles(protocol: int) -> None:
    """A pin comes back equal from every pickle protocol and from a copy."""
    pin = Pin("cert", "sha384", bytes(range(48)))
    assert pickle.loads(pickle.dumps(pin, protocol)) == pin
    assert copy.deepcopy(pin) == copy.copy(pin) == pin


# From certificates and keys ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def chain() -> Chain:
    """Three certificates whose keys cryptography writes as they stand in the certificate."""
    return make_chain(3, kinds="ed25519")


def key_der(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("kind", KINDS)
def test_from_certificate(chain: Chain, kind: Kind, algorithm: Algorithm) -> None:
    """DER, PEM (text or bytes) and an object of cryptography all give the same pin."""
    certificate, der, text = chain.leaf, chain.ders[0], pem(chain.leaf)
    data = der if kind == "cert" else key_der(certificate)
    expected = Pin(kind, algorithm, hashlib.new(algorithm, data).digest())
    forms: list[object] = [
        certificate,
        der,
        bytearray(der),
        text,
        text.decode("ascii"),
        text.replace(b"\n", b"\r\n"),
        b"subject=CN = somebody, \xc3\xa9\n" + text + b"\nand more text\n",
        chain.key_pem + text,
    ]
    for form in forms:
        assert untyped_from_certificate(form, kind, algorithm) == expected


def test_the_default_is_the_key_in_sha256(chain: Chain) -> None:
    """Without further words a pin is the SHA-256 of the public key."""
    expected = Pin("spki", "sha256", hashlib.sha256(key_der(chain.leaf)).digest())
    assert Pin.from_certificate(chain.ders[0]) == expected
    assert Pin.from_public_key(chain.leaf.public_key()) == expected


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_from_public_key(chain: Chain, algorithm: Algorithm) -> None:
    """A public key in DER, PEM or as an object gives the pin of every certificate that has it."""
    key = chain.leaf.public_key()
    text = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    expected = Pin.from_certificate(chain.leaf, "spki", algorithm)
    for form in (key, key_der(chain.leaf), bytearray(key_der(chain.leaf)), text, text.decode()):
        assert untyped_from_public_key(form, algorithm) == expected


def damaged(text: str) -> str:
    """PEM with a character that is not base64."""
    first, rest = text.split("\n", 1)
    return f"{first}\n*{rest}"


def test_what_is_not_one_certificate_is_refused(chain: Chain) -> None:
    """A file's name, a bundle, another kind of PEM or damage is refused, and the message tells."""
    text = pem(chain.leaf).decode("ascii")
    key_text = chain.key_pem.decode("ascii")
    trusted = text.replace("CERTIFICATE", "TRUSTED CERTIFICATE")
    refused: list[tuple[Union[bytes, str], str]] = [
        ("server.pem", "give the contents of a certificate, not its file name"),
        (b"server.pem", "not a DER or PEM certificate"),
        (b"", "not a DER or PEM certificate"),
        (chain.ders[0][:-1], "not a DER or PEM certificate"),
        (chain.ders[0] + b"\0", "not a DER or PEM certificate"),
        (key_der(chain.leaf), "not a DER or PEM certificate"),
        (pem(*chain.certificates), "found: CERTIFICATE, CERTIFICATE, CERTIFICATE"),
        (text + text, "found: CERTIFICATE, CERTIFICATE"),
        (key_text, "expected one PEM block 'BEGIN CERTIFICATE', found: PRIVATE KEY"),
        (trusted, "found: TRUSTED CERTIFICATE"),
        (text[:-20], "found: nothing whole"),
        (damaged(text), "the PEM block 'BEGIN CERTIFICATE' is damaged"),
        (damaged(text).encode(), "the PEM block 'BEGIN CERTIFICATE' is damaged"),
    ]
    for form, said in refused:
        for kind in KINDS:
            with pytest.raises(PinSyntaxError, match=said):
                Pin.from_certificate(form, kind)


def test_pem_with_letters_outside_ascii_is_damaged(chain: Chain) -> None:
    """PEM whose base64 has a letter outside ASCII is a PinSyntaxError like any other damage."""
    text = damaged(pem(chain.leaf).decode("ascii")).replace("*", "\xe9")
    for form in (text, text.encode("utf-8")):
        with pytest.raises(PinSyntaxError, match="the PEM block 'BEGIN CERTIFICATE' is damaged"):
            Pin.from_certificate(form)


def test_what_is_not_a_public_key_is_refused(chain: Chain) -> None:
    """Certificates, private keys and bare RSA keys are refused where a public key is wanted."""
    bare = make_key("rsa").public_key().public_bytes(Encoding.PEM, PublicFormat.PKCS1)
    bare_der = make_key("rsa").public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1)
    refused: list[tuple[Union[bytes, str], str]] = [
        ("key.pem", "give the contents of a public key, not its file name"),
        (pem(chain.leaf), "expected one PEM block 'BEGIN PUBLIC KEY', found: CERTIFICATE"),
        (chain.key_pem, "expected one PEM block 'BEGIN PUBLIC KEY', found: PRIVATE KEY"),
        (bare, "found: RSA PUBLIC KEY"),
        (bare_der, "openssl pkey -pubout"),
        (chain.ders[0], "openssl pkey -pubout"),
        (key_der(chain.leaf) + b"\0", "openssl pkey -pubout"),
        (b"", "openssl pkey -pubout"),
    ]
    for form, said in refused:
        with pytest.raises(PinSyntaxError, match=said):
            Pin.from_public_key(form)


def test_other_types_are_refused(chain: Chain) -> None:
    """What is neither bytes nor text nor an object of cryptography is a TypeError."""
    with pytest.raises(TypeError, match=r"a certificate is bytes, str or .*, not NoneType"):
        untyped_from_certificate(None)
    with pytest.raises(TypeError, match=r"a certificate is bytes, str or .*, not Chain"):
        untyped_from_certificate(chain)


@pytest.mark.parametrize("key", [None, make_key("ed25519")], ids=["None", "a private key"])
def test_a_public_key_of_another_type_is_refused(key: object) -> None:
    """What is not a public key, a private one above all, is a TypeError that names its type."""
    with pytest.raises(TypeError, match=type(key).__name__):
        untyped_from_public_key(key)


def test_kinds_and_algorithms_are_checked(chain: Chain) -> None:
    """A kind or an algorithm that there is not is refused, broken ones by name."""
    with pytest.raises(PinSyntaxError, match="unknown kind of pin 'key'"):
        untyped_from_certificate(chain.leaf, "key")
    with pytest.raises(PinSyntaxError, match="MD5 is broken"):
        untyped_from_certificate(chain.leaf, "cert", "md5")
    with pytest.raises(PinSyntaxError, match="SHA1 is broken"):
        untyped_from_public_key(chain.leaf.public_key(), "sha1")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_matches(algorithm: Algorithm) -> None:
    """A key's pin matches every certificate with this key, a certificate's pin only this one."""
    # The same pool gives the same keys; the certificates are new.
    leaf, other = make_chain(1, kinds="ed25519").ders[0], make_chain(1, kinds="ed25519").ders[0]
    stranger = make_chain(1, kinds="ed25519", pool=1).ders[0]
    assert leaf != other
    key = Pin.from_certificate(leaf, "spki", algorithm)
    whole = Pin.from_certificate(leaf, "cert", algorithm)
    assert [key.matches(der) for der in (leaf, other, stranger)] == [True, True, False]
    assert [whole.matches(der) for der in (leaf, other, stranger)] == [True, False, False]


@pytest.mark.parametrize("data", [b"", b"not DER", b"\x30\x00", b"\x30\x80\x00\x00"])
def test_what_cannot_be_sliced_never_matches_a_key(data: bytes) -> None:
    """Without an SPKI no SPKI pin matches, be it that of the whole or of nothing."""
    for some in (data, b""):
        assert not Pin("spki", "sha256", hashlib.sha256(some).digest()).matches(data)
    assert Pin("cert", "sha256", hashlib.sha256(data).digest()).matches(data)


# Pin sets: matching ------------------------------------------------------------------------------

# 0 to 3 are strangers to each other, 4 has the key of 0, and 5 cannot be sliced.
STRANGERS = tuple(make_chain(1, kinds="ed25519", pool=pool) for pool in range(4))
POOL = (
    *(one.ders[0] for one in STRANGERS),
    make_chain(1, kinds="ed25519", pool=0).ders[0],
    b"\x30\x03\x02\x01\x00",
)
KEYS = (*(key_der(one.leaf) for one in STRANGERS), key_der(STRANGERS[0].leaf), None)


def pin_of(number: int, kind: Kind, algorithm: Algorithm) -> Pin:
    """The pin of a certificate of the pool, made without pinsock's reader of DER."""
    data = POOL[number] if kind == "cert" else KEYS[number]
    # What has no key still has something that a careless reader would hash instead.
    return Pin(kind, algorithm, hashlib.new(algorithm, data or POOL[number]).digest())


def really_matches(pin: Pin, number: int) -> bool:
    data = POOL[number] if pin.kind == "cert" else KEYS[number]
    return data is not None and hashlib.new(pin.algorithm, data).digest() == pin.digest


def belongs(depth: int, position: Position, length: int) -> bool:
    """The positions as DESIGN puts them into words."""
    last = length - 1
    return {
        "leaf": depth == 0,
        "intermediate": 0 < depth < last,
        "anchor": depth == last,
        "ca": depth > 0,
        "any": True,
    }.get(str(position), depth == position)


pool_numbers = st.integers(0, len(POOL) - 1)
pool_pins = st.builds(pin_of, pool_numbers, st.sampled_from(KINDS), st.sampled_from(ALGORITHMS))
alternatives = st.lists(pool_pins, min_size=1, max_size=4)
any_position: st.SearchStrategy[Position] = st.one_of(
    st.sampled_from(["leaf", "intermediate", "anchor", "ca", "any"]), st.integers(0, 6)
)
by_position = st.dictionaries(any_position, alternatives, min_size=1, max_size=3)


@MANY
@given(by_position, st.lists(pool_numbers, min_size=1, max_size=5))
def test_match_agrees_with_the_definition(
    pins: dict[Position, list[Pin]], chain: list[int]
) -> None:
    """Every position must match one of its pins, at the lowest depth where that is so."""
    lowest: dict[Position, int] = {}
    for position, some in pins.items():
        for depth, number in enumerate(chain):
            matched = any(really_matches(pin, number) for pin in some)
            if matched and belongs(depth, position, len(chain)):
                lowest[position] = depth
                break
    match = PinSet(pins).match([POOL[number] for number in chain])
    if len(lowest) < len(pins):
        assert match is None
        return
    assert match is not None
    found = [match, *match.others]
    assert {one.position: one.depth for one in found} == lowest
    for one in found:
        assert one.pin in pins[one.position]
        assert really_matches(one.pin, chain[one.depth])
        assert one.others == () or one is match


@given(alternatives, st.lists(pool_numbers, min_size=1, max_size=5))
def test_bare_pins_mean_any_position(some: list[Pin], chain: list[int]) -> None:
    """Pins without a position are those of the position "any"."""
    ders = [POOL[number] for number in chain]
    assert PinSet(some) == PinSet({"any": some})
    assert PinSet(some).match(ders) == PinSet({"any": some}).match(ders)


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (1, {"leaf": [0], "intermediate": [], "anchor": [0], "ca": [], "any": [0]}),
        (2, {"leaf": [0], "intermediate": [], "anchor": [1], "ca": [1], "any": [0, 1]}),
        (3, {"leaf": [0], "intermediate": [1], "anchor": [2], "ca": [1, 2], "any": [0, 1, 2]}),
        (
            4,
            {
                "leaf": [0],
                "intermediate": [1, 2],
                "anchor": [3],
                "ca": [1, 2, 3],
                "any": [0, 1, 2, 3],
            },
        ),
    ],
)
def test_positions_by_length(length: int, expected: dict[str, list[int]]) -> None:
    """Which depths a position means depends on the length of the chain."""
    chain = POOL[:length]
    for position in POSITIONS:
        matched = [
            depth
            for depth, der in enumerate(chain)
            if PinSet({position: Pin.from_certificate(der)}).match(chain)
        ]
        assert matched == expected[position]
    for depth in range(6):
        for number in range(4):
            pins = PinSet({depth: pin_of(number, "spki", "sha256")})
            assert (pins.match(chain) is not None) == (depth == number < length)


@pytest.mark.parametrize("position", [*POSITIONS, 0, 1])
def test_an_empty_chain_matches_nothing(position: Position) -> None:
    """Where there is no certificate there is no match, and no other error either."""
    assert PinSet({position: pin_of(0, "spki", "sha256")}).match(()) is None


@pytest.mark.parametrize("kinds", [("spki", "cert"), ("cert", "spki")])
@pytest.mark.parametrize("algorithms", [("sha256", "sha256"), ("sha512", "sha256")])
def test_alternatives_of_different_kinds_stand_side_by_side(
    kinds: tuple[Kind, Kind], algorithms: tuple[Algorithm, Algorithm]
) -> None:
    """A pin that matches nothing does not hide one of another kind or algorithm after it."""
    stranger = pin_of(3, kinds[0], algorithms[0])
    mine = pin_of(0, kinds[1], algorithms[1])
    assert PinSet([stranger, mine]).match(POOL[:2]) == PinMatch(0, mine, "any")
    assert PinSet({1: stranger, 0: mine}).match(POOL[:2]) is None


def test_a_match_tells_where() -> None:
    """A match names depth, pin and position, further positions in the order they were given."""
    leaf, anchor = pin_of(0, "spki", "sha256"), pin_of(2, "cert", "sha512")
    match = PinSet({"anchor": anchor, 0: leaf}).match(POOL[:3])
    assert match == PinMatch(2, anchor, "anchor", (PinMatch(0, leaf, 0),))
    assert str(match) == f"{anchor} at depth 2 (anchor); {leaf} at depth 0 (0)"


def test_a_match_is_a_value() -> None:
    """A match cannot be changed, compares by value, and pickles."""
    match = PinMatch(0, pin_of(0, "spki", "sha256"), "leaf")
    with pytest.raises(dataclasses.FrozenInstanceError):
        match.depth = 1  # type: ignore[misc]  # the mistake is the test
    assert match == PinMatch(0, pin_of(0, "spki", "sha256"), "leaf")
    assert hash(match) == hash(PinMatch(0, pin_of(0, "spki", "sha256"), "leaf"))
    for protocol in PROTOCOLS:
        assert pickle.loads(pickle.dumps(match, protocol)) == match


# Pin sets: making --------------------------------------------------------------------------------

ONE = Pin("spki", "sha256", ONES)
TWO = Pin("cert", "sha256", SLASHES)


@pytest.mark.parametrize(
    "pins",
    [ONE, str(ONE), [ONE], (str(ONE),), {ONE}, iter([str(ONE)]), [ONE, str(ONE)]],
    ids=lambda pins: type(pins).__name__,
)
def test_pins_may_be_given_in_many_ways(pins: Union[Pin, str, Iterable[Union[Pin, str]]]) -> None:
    """One pin or many, as pins or as texts, from whatever can be iterated over, once each."""
    assert PinSet(pins).positions == {"any": (ONE,)}


def test_positions_are_kept_as_given() -> None:
    """Positions and alternatives keep the order in which they were written."""
    pins = PinSet({"anchor": [TWO, ONE], "leaf": str(ONE), 2: TWO})
    assert list(pins.positions.items()) == [("anchor", (TWO, ONE)), ("leaf", (ONE,)), (2, (TWO,))]


def test_pins_are_a_copy() -> None:
    """What happens to the mapping afterwards does not change the pin set."""
    some = [ONE]
    given_pins: dict[Position, list[Pin]] = {"leaf": some}
    pins = PinSet(given_pins)
    some.append(TWO)
    given_pins["anchor"] = [TWO]
    assert pins.positions == {"leaf": (ONE,)}


@pytest.mark.parametrize(
    "pins", [[], (), {}, iter(())], ids=["list", "tuple", "mapping", "iterator"]
)
def test_no_pins_are_refused(pins: Iterable[Pin]) -> None:
    """An empty set is refused, as it could match nothing."""
    with pytest.raises(ValueError, match="no pins"):
        PinSet(pins)


def test_an_empty_position_is_refused() -> None:
    """A position without pins is refused, and named."""
    with pytest.raises(ValueError, match="no pins at 'anchor'"):
        PinSet({"leaf": [ONE], "anchor": []})


@pytest.mark.parametrize(
    "position", ["root", "Leaf", "", "0", -1, True, False, 1.0, None, ("leaf",), b"leaf"]
)
def test_an_unknown_position_is_refused(position: object) -> None:
    """A position that there is not is refused with the list of those that there are."""
    with pytest.raises(ValueError, match="unknown position") as caught:
        untyped_pin_set({position: [ONE]})
    assert repr(position) in str(caught.value)
    for name in (*POSITIONS, "0 is the leaf"):
        assert name in str(caught.value)


@pytest.mark.parametrize(
    "pins", [None, 7, b"sha256/x", bytearray(3), [b"sha256/x"], [None], {"leaf": None}, [[ONE]]]
)
def test_what_is_not_a_pin_is_refused(pins: object) -> None:
    """Bytes, None, and other things that are no pins are a TypeError."""
    with pytest.raises(TypeError, match="pin"):
        untyped_pin_set(pins)


def test_a_text_that_is_no_pin_is_refused() -> None:
    """A pin text that cannot be read is refused with the message of Pin.parse."""
    with pytest.raises(PinSyntaxError, match="is broken"):
        PinSet(["sha1/" + b64(bytes(20))])


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("trust", "pin", "trust is 'ca' or 'pins', not 'pin'"),
        ("trust", None, "trust is 'ca' or 'pins', not None"),
        ("after_expiry", "ignore", "after_expiry is 'reject' or 'unpin', not 'ignore'"),
    ],
)
def test_choices_are_checked(name: str, value: object, said: str) -> None:
    """A switch with a value that it does not have is refused with those that it has."""
    with pytest.raises(ValueError, match=said):
        untyped_pin_set(ONE, **{name: value})


@pytest.mark.parametrize("name", ["check_expiry", "enforce"])
@pytest.mark.parametrize("value", [None, 0, 1, "no", ""])
def test_flags_are_booleans(name: str, value: object) -> None:
    """A security switch takes True or False, and guesses at nothing else."""
    with pytest.raises(TypeError, match=f"{name} is True or False, not {value!r}"):
        untyped_pin_set(ONE, **{name: value})


def test_expiry_is_forgiven_only_where_pins_are_the_trust() -> None:
    """check_expiry=False without trust="pins" is refused, and the message says what it needs."""
    with pytest.raises(ValueError, match="check_expiry=False needs trust='pins'"):
        PinSet(ONE, check_expiry=False)
    assert PinSet(ONE, check_expiry=False, trust="pins").check_expiry is False


def test_defaults() -> None:
    """By default pins add to the authority's word, are enforced, and do not end."""
    pins = PinSet(ONE)
    assert (pins.trust, pins.check_expiry, pins.enforce) == ("ca", True, True)
    assert (pins.expires, pins.after_expiry) == (None, "reject")
    assert not pins.expired(datetime.max.replace(tzinfo=UTC))


# Pin sets: the end of them -----------------------------------------------------------------------

TICK = timedelta(microseconds=1)


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=5, minutes=30))])
def test_pins_expire_at_the_moment_given(zone: timezone) -> None:
    """A pin set holds until the moment, whatever its time zone, and from then on no more."""
    moment = datetime(2030, 6, 1, 12, tzinfo=zone)
    pins = PinSet(ONE, expires=moment)
    assert pins.expires == moment
    assert pins.expires.tzinfo is UTC
    assert not pins.expired(moment - TICK)
    assert pins.expired(moment)
    assert pins.expired(moment + TICK)


def test_a_date_is_the_end_of_that_day() -> None:
    """Pins that expire on a day hold until that day is over in UTC."""
    pins = PinSet(ONE, expires=date(2030, 12, 31))
    midnight = datetime(2031, 1, 1, tzinfo=UTC)
    assert not pins.expired(midnight - TICK)
    assert pins.expired(midnight)
    assert pins == PinSet(ONE, expires=midnight)


def test_a_naive_moment_is_refused() -> None:
    """A moment without a time zone is refused, and the message says how to give it one."""
    with pytest.raises(ValueError, match=r"no time zone: add tzinfo=timezone\.utc, or give a date"):
        PinSet(ONE, expires=datetime(2030, 1, 1))  # noqa: DTZ001  # the mistake is the test


@pytest.mark.parametrize("expires", ["2030-01-01", 1900000000, True])
def test_other_types_of_expiry_are_refused(expires: object) -> None:
    """Text and numbers are a TypeError."""
    with pytest.raises(TypeError, match="expires is an aware datetime or a date, not"):
        untyped_pin_set(ONE, expires=expires)


@pytest.mark.parametrize(
    "expires",
    [date.max, datetime.max.replace(tzinfo=timezone(timedelta(hours=-1)))],
    ids=["date", "datetime"],
)
def test_a_moment_beyond_the_calendar_is_refused(expires: date) -> None:
    """What ends later than Python can say is a ValueError and nothing stranger."""
    with pytest.raises(ValueError, match="expires"):
        PinSet(ONE, expires=expires)


# Pin sets: the value -----------------------------------------------------------------------------

moments = st.none() | st.datetimes(
    min_value=datetime(1900, 1, 1),  # noqa: DTZ001  # hypothesis adds the time zone
    max_value=datetime(2900, 1, 1),  # noqa: DTZ001  # likewise
    timezones=st.just(UTC),
)


@st.composite
def pin_sets(draw: st.DrawFn) -> PinSet:
    trust: Literal["ca", "pins"] = draw(st.sampled_from(["ca", "pins"]))
    return PinSet(
        draw(by_position),
        trust=trust,
        check_expiry=draw(st.booleans()) if trust == "pins" else True,
        enforce=draw(st.booleans()),
        expires=draw(moments),
        after_expiry=draw(st.sampled_from(["reject", "unpin"])),
    )


def switches(pins: PinSet) -> tuple[object, ...]:
    return pins.trust, pins.check_expiry, pins.enforce, pins.expires, pins.after_expiry


@given(pin_sets(), pin_sets())
def test_equal_means_all_the_same(one: PinSet, other: PinSet) -> None:
    """Two pin sets are equal if positions, alternatives and switches are."""

    def meaning(pins: PinSet) -> object:
        return switches(pins), {name: set(some) for name, some in pins.positions.items()}

    assert (one == other) == (meaning(one) == meaning(other))


@given(by_position)
def test_order_means_nothing(pins: dict[Position, list[Pin]]) -> None:
    """The order of positions and of alternatives changes neither equality nor hash."""
    turned = {name: some[::-1] for name, some in reversed(pins.items())}
    assert PinSet(pins) == PinSet(turned)
    assert hash(PinSet(pins)) == hash(PinSet(turned))


@pytest.mark.parametrize(
    "other",
    [
        PinSet([ONE, TWO]),
        PinSet({"leaf": [ONE]}),
        PinSet({"any": [ONE], "leaf": [ONE]}),
        PinSet(ONE, trust="pins"),
        PinSet(ONE, enforce=False),
        PinSet(ONE, expires=date(2030, 1, 1)),
        PinSet(ONE, after_expiry="unpin"),
    ],
    ids=repr,
)
def test_a_difference_makes_another_pin_set(other: PinSet) -> None:
    """Each switch, position and pin counts when pin sets are compared."""
    assert PinSet(ONE) != other
    assert PinSet(ONE, trust="pins") != PinSet(ONE, trust="pins", check_expiry=False)


@given(pin_sets())
def test_repr_can_be_pasted(pins: PinSet) -> None:
    """What repr prints is the expression that makes the same pin set."""
    names: dict[str, object] = {"PinSet": PinSet, "datetime": datetime_module}
    assert eval(repr(pins), names) == pins


def test_repr_is_short() -> None:
    """repr leaves out what is as it would be anyway."""
    assert repr(PinSet(ONE)) == f"PinSet({{'any': ['{ONE}']}})"
    assert repr(PinSet(ONE, enforce=False)) == f"PinSet({{'any': ['{ONE}']}}, enforce=False)"


@given(pin_sets(), st.lists(pool_numbers, min_size=1, max_size=4))
def test_a_pin_set_pickles(pins: PinSet, chain: Sequence[int]) -> None:
    """A pin set comes back from every pickle protocol and from a copy, and still matches."""
    ders = [POOL[number] for number in chain]
    again = [pickle.loads(pickle.dumps(pins, protocol)) for protocol in PROTOCOLS]
    for other in (*again, copy.copy(pins), copy.deepcopy(pins)):
        assert other == pins
        assert hash(other) == hash(pins)
        assert list(other.positions.items()) == list(pins.positions.items())
        assert other.match(ders) == pins.match(ders)


@pytest.mark.parametrize("name", ["trust", "check_expiry", "enforce", "expires", "after_expiry"])
def test_a_pin_set_cannot_be_changed(name: str) -> None:
    """Assigning to an attribute, or deleting it, is an error: connections share pin sets."""
    pins = PinSet(ONE)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(pins, name, getattr(pins, name))
    with pytest.raises(dataclasses.FrozenInstanceError):
        delattr(pins, name)


def test_positions_cannot_be_changed() -> None:
    """The positions can neither be replaced nor added to."""
    pins = PinSet(ONE)
    # A frozen dataclass with slots raises TypeError for what is not a field.
    with pytest.raises((AttributeError, TypeError)):
        pins.positions = {}  # type: ignore[misc]  # the mistake is the test
    positions: Mapping[Position, tuple[Pin, ...]] = pins.positions
    with pytest.raises(TypeError):
        positions["leaf"] = (TWO,)  # type: ignore[index]  # the mistake is the test
    assert pins == PinSet(ONE)


def test_as_pin_set() -> None:
    """A pin set stays the same object, anything else is made into one."""
    pins = PinSet(ONE, enforce=False)
    assert as_pin_set(pins) is pins
    assert as_pin_set([str(ONE)]) == PinSet(ONE)
    assert as_pin_set({"leaf": ONE}) == PinSet({"leaf": ONE})
    with pytest.raises(TypeError):
        as_pin_set(None)


# What others write -------------------------------------------------------------------------------


def test_tlsa_records_make_a_pin_set() -> None:
    """Usage, selector and matching type become trust, kind and position (RFC 6698, RFC 7671)."""
    key, certificate = b"\x01" * 32, b"\x02" * 64
    assert PinSet.from_tlsa(f"3 1 1 {key.hex()}") == PinSet(
        {"leaf": Pin("spki", "sha256", key)}, trust="pins", check_expiry=False
    )
    assert PinSet.from_tlsa([(0, 0, 2, certificate)]) == PinSet(
        {"ca": Pin("cert", "sha512", certificate)}
    )


@pytest.mark.parametrize("depth", [0, 1])
@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("matching", [0, 1, 2])
def test_a_tlsa_record_matches_the_certificate_that_it_was_made_of(
    depth: int, selector: int, matching: int
) -> None:
    """Whatever it says of it, and however: full data, too."""
    chain = make_chain(3)
    data = chain.ders[depth]
    if selector:
        data = chain.certificates[depth].public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
    data = [data, hashlib.sha256(data).digest(), hashlib.sha512(data).digest()][matching]
    pins = PinSet.from_tlsa([(2 if depth else 3, selector, matching, data)])
    match = pins.match(chain.ders)
    assert match is not None
    assert match.depth == depth
    assert pins.match(make_chain(3, pool=9).ders) is None


def test_an_hpkp_header_makes_a_pin_set() -> None:
    """The pins hold for max-age seconds from when the header was received (RFC 7469)."""
    digest = base64.b64encode(b"\x01" * 32).decode()
    header = f'pin-sha256="{digest}"; max-age=3600; includeSubDomains'
    received = datetime(2027, 1, 1, tzinfo=timezone(timedelta(hours=2)))
    assert PinSet.from_hpkp(header, received) == PinSet(
        Pin("spki", "sha256", b"\x01" * 32),
        expires=datetime(2026, 12, 31, 23, tzinfo=UTC),
        after_expiry="unpin",
    )
    before = datetime.now(UTC)
    now = PinSet.from_hpkp(f"Public-Key-Pins: {header}").expires
    assert now is not None
    assert before <= now - timedelta(hours=1) <= datetime.now(UTC)
    report = PinSet.from_hpkp(f"Public-Key-Pins-Report-Only: {header}", received)
    assert not report.enforce


def test_when_a_header_was_received_has_a_time_zone() -> None:
    """A moment without one, or something else, is refused."""
    with pytest.raises(ValueError, match="received has no time zone"):
        PinSet.from_hpkp("max-age=1", datetime(2030, 1, 1))  # noqa: DTZ001  # the mistake is the test
    with pytest.raises(TypeError, match="received is an aware datetime, not date"):
        PinSet.from_hpkp("max-age=1", date(2030, 1, 1))  # type: ignore[arg-type]  # that is it


def test_when_pins_were_first_seen_changes_nothing() -> None:
    """It is shown, and neither compared nor matched."""
    seen = datetime(2030, 1, 1, tzinfo=timezone(timedelta(hours=1)))
    pins = PinSet(ONE, first_seen=seen)
    assert pins.first_seen == seen
    assert pins.first_seen.tzinfo is UTC
    assert pins == PinSet(ONE)
    assert hash(pins) == hash(PinSet(ONE))
    assert "first_seen=datetime" in repr(pins)
    assert pickle.loads(pickle.dumps(pins)).first_seen == seen
    with pytest.raises(TypeError, match="first_seen is an aware datetime, not date"):
        untyped_pin_set(ONE, first_seen=date(2030, 1, 1))
