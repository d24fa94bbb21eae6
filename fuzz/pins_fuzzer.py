"""A text is either a pin whose ``str()`` is that pin again, or PinSyntaxError, never anything else.

A set of such texts is either a pin set or one of the errors that PinSet promises.  What is read as
a certificate or a public key is either a pin of exactly these bytes, or PinSyntaxError.
"""

from __future__ import annotations

import hashlib

from fuzz.harness import run
from pinsock import Pin, PinSet, PinSyntaxError


def _check_text(text: str) -> None:
    try:
        pin = Pin.parse(text)
    except PinSyntaxError:
        return
    canonical = str(pin)
    assert Pin.parse(canonical) == pin
    assert str(Pin.parse(canonical)) == canonical
    # One digest has one canonical spelling, and every other spelling has all of the digest in it.
    squeezed = text.strip()
    if not squeezed.endswith(canonical.partition("/")[2]):
        quoted = canonical.partition("/")[2] in squeezed
        in_hex = pin.digest.hex() in squeezed.replace(":", "").lower()
        assert quoted or in_hex, "the digest came from nowhere"


def _check_set(text: str) -> None:
    lines = text.split("\n")
    try:
        pins = PinSet(lines)
    except PinSyntaxError:
        return
    again = PinSet(str(pin) for pin in pins.positions["any"])
    assert again == pins
    assert hash(again) == hash(pins)


def _check_key(data: bytes | str) -> None:
    for make in (Pin.from_certificate, Pin.from_public_key):
        try:
            pin = make(data)
        except PinSyntaxError:
            continue
        assert pin.kind == "spki"
        if make == Pin.from_public_key and isinstance(data, bytes) and b"-----" not in data:
            assert pin.digest == hashlib.sha256(data).digest()


def test_one_input(data: bytes) -> None:
    """Read the bytes, and the text that they are, in every way that there is."""
    text = data.decode("utf-8", "surrogateescape")
    _check_text(text)
    _check_set(text)
    _check_key(data)
    _check_key(text)


if __name__ == "__main__":
    run(test_one_input)
