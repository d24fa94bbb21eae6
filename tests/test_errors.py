"""The exception tree on its own: bases, attributes, messages, and that errors travel."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import ssl
import traceback
from datetime import datetime, timezone

import pytest

import pinsock
from pinsock import (
    ChainPosition,
    Pin,
    PinError,
    PinExpiredError,
    PinMismatchError,
    PinSyntaxError,
    UnpinnedPeerError,
)

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)

LEAF_KEY = str(Pin("spki", "sha256", b"\x01" * 32))
LEAF_WHOLE = str(Pin("cert", "sha256", b"\x02" * 32))
ROOT_WHOLE = str(Pin("cert", "sha256", b"\x03" * 32))
EXPECTED: dict[str | int, tuple[str, ...]] = {
    "leaf": (str(Pin("spki", "sha256", b"\x04" * 32)), str(Pin("spki", "sha512", b"\x05" * 64))),
    2: (str(Pin("cert", "sha384", b"\x06" * 48)),),
}
POSITIONS = (
    ChainPosition(
        0, "CN=www.example.com", datetime(2030, 5, 6, tzinfo=timezone.utc), LEAF_KEY, LEAF_WHOLE
    ),
    # What can be read of a certificate whose names, dates and key cannot.
    ChainPosition(1, "", None, None, ROOT_WHOLE),
)


def mismatch() -> PinMismatchError:
    return PinMismatchError(
        "'www.example.com'",
        positions=POSITIONS,
        expected=EXPECTED,
        server_hostname="www.example.com",
    )


ERRORS: dict[str, PinError] = {
    "PIN_CHECK_FAILED": PinError("no check was made\nand more", server_hostname="a.example"),
    "PIN_MISMATCH": mismatch(),
    "PINS_EXPIRED": PinExpiredError("the pins ended", server_hostname="b.example"),
    "UNPINNED_PEER": UnpinnedPeerError("there are no pins"),
}
each = pytest.mark.parametrize(("reason", "error"), ERRORS.items(), ids=list(ERRORS))


# The tree ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [PinError, PinMismatchError, PinExpiredError, UnpinnedPeerError])
def test_a_pin_failure_is_a_failure_of_ssl(kind: type[PinError]) -> None:
    """Code that handles what ssl raises for a bad certificate handles pin failures too.

    On CPython 3.10 to 3.12 only an OSError or a ValueError lets ssl close the file descriptor.
    """
    assert issubclass(kind, PinError)
    for base in (ssl.SSLCertVerificationError, ssl.SSLError, OSError, ValueError):
        assert issubclass(kind, base)


def test_the_failures_are_told_apart() -> None:
    """A mismatch, expired pins and a peer without pins are no cases of one another."""
    kinds = (PinMismatchError, PinExpiredError, UnpinnedPeerError)
    assert not any(issubclass(one, other) for one in kinds for other in kinds if one is not other)


def test_a_syntax_error_is_no_failure_of_a_connection() -> None:
    """A pin that cannot be read is a ValueError, and does not look like the network's fault."""
    assert issubclass(PinSyntaxError, ValueError)
    assert not issubclass(PinSyntaxError, OSError)
    assert str(PinSyntaxError("what is right")) == "what is right"


def test_every_error_is_public() -> None:
    """The errors and what they carry can be imported from the package."""
    for kind in (*{type(error) for error in ERRORS.values()}, PinSyntaxError, ChainPosition):
        assert getattr(pinsock, kind.__name__) is kind


# Attributes --------------------------------------------------------------------------------------


@each
def test_attributes_are_those_of_ssl(reason: str, error: PinError) -> None:
    """A pin failure has the attributes of ssl's own verification error, with one reason each."""
    # X509_V_ERR_CERT_REJECTED, for which OpenSSL sends the alert bad_certificate.
    assert error.verify_code == 28
    assert error.verify_message == str(error).splitlines()[0]
    assert error.reason == reason
    assert error.library == "PINSOCK"
    assert error.errno == ssl.SSL_ERROR_SSL
    assert error.strerror == str(error)
    assert error.args == (ssl.SSL_ERROR_SSL, str(error))


def test_server_hostname() -> None:
    """The host that was asked for is on the error; there is none where none was asked for."""
    assert mismatch().server_hostname == "www.example.com"
    assert ERRORS["PINS_EXPIRED"].server_hostname == "b.example"
    assert ERRORS["UNPINNED_PEER"].server_hostname is None


def test_the_message_is_the_text() -> None:
    """The text of an error is its message, all lines of it."""
    assert str(PinError("one\ntwo")) == "one\ntwo"
    assert PinError("one\ntwo").verify_message == "one"


# The message of a mismatch -----------------------------------------------------------------------


def test_a_mismatch_says_everything() -> None:
    """The message lists each position with subject, expiry and pins, then the pins expected."""
    assert str(mismatch()).splitlines() == [
        "the certificate chain of 'www.example.com' does not match its pins",
        "verified chain:",
        "  depth 0: CN=www.example.com, expires 2030-05-06",
        f"    {LEAF_KEY}",
        f"    {LEAF_WHOLE}",
        "  depth 1: (no subject), expires unreadable",
        "    (the public key cannot be read)",
        f"    {ROOT_WHOLE}",
        "pins expected:",
        f"  leaf: {EXPECTED['leaf'][0]}",
        f"  leaf: {EXPECTED['leaf'][1]}",
        f"  depth 2: {EXPECTED[2][0]}",
        "if the peer's key was changed on purpose, add its new pin; if not, beware",
    ]


def test_pins_in_the_message_can_be_pasted() -> None:
    """Every pin in the message stands alone at the end of its line, and is read back as it was."""
    found = []
    for line in str(mismatch()).splitlines():
        last = line.rpartition(" ")[2]
        if "/" in last:
            found.append(str(Pin.parse(last)))
            assert line.strip() == last or line.strip().endswith(": " + last)
    assert found == [LEAF_KEY, LEAF_WHOLE, ROOT_WHOLE, *EXPECTED["leaf"], *EXPECTED[2]]


def test_a_pin_that_begins_with_a_slash_can_be_pasted() -> None:
    """A pin whose base64 begins with a slash, which curl writes too, survives the message."""
    pin = Pin("spki", "sha256", b"\xff" * 32)
    position = ChainPosition(0, "", None, str(pin), ROOT_WHOLE)
    error = PinMismatchError("a peer", positions=(position,), expected={"any": (str(pin),)})
    lines = [line.strip() for line in str(error).splitlines()]
    assert Pin.parse(lines[3]) == pin
    assert Pin.parse(lines[6].removeprefix("any: ")) == pin


def test_a_mismatch_carries_the_same_as_data() -> None:
    """What the message lists is also on the error, and its pins are read by Pin.parse."""
    error = mismatch()
    assert error.positions == POSITIONS
    assert error.expected == EXPECTED
    assert Pin.parse(error.positions[0].pin or "").kind == "spki"
    assert Pin.parse(error.positions[0].certificate_pin).kind == "cert"
    assert all(str(Pin.parse(pin)) == pin for pins in error.expected.values() for pin in pins)


def test_expected_is_a_copy() -> None:
    """What happens to the mapping afterwards does not change the error."""
    expected: dict[str | int, tuple[str, ...]] = {"any": (LEAF_KEY,)}
    error = PinMismatchError("a peer", positions=(), expected=expected)
    expected.clear()
    assert error.expected == {"any": (LEAF_KEY,)}


def test_a_mismatch_without_chain_or_name() -> None:
    """A mismatch needs neither a chain nor a host name."""
    error = PinMismatchError("the client", positions=(), expected={"any": (LEAF_KEY,)})
    assert error.server_hostname is None
    assert error.positions == ()
    assert f"verified chain:\npins expected:\n  any: {LEAF_KEY}\n" in str(error)


# Errors travel -----------------------------------------------------------------------------------


def check_same(other: PinError, error: PinError) -> None:
    assert type(other) is type(error)
    assert other is not error
    assert str(other) == str(error)
    assert other.args == error.args
    assert other.errno == error.errno
    assert vars(other) == vars(error)
    for name in ("library", "reason", "verify_code", "verify_message", "server_hostname"):
        assert getattr(other, name) == getattr(error, name)


@each
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_errors_pickle(reason: str, error: PinError, protocol: int) -> None:
    """An error comes back from every pickle protocol with all its text and data."""
    check_same(pickle.loads(pickle.dumps(error, protocol)), error)


@each
def test_errors_copy(reason: str, error: PinError) -> None:
    """A copy of an error, shallow or deep, has all its text and data."""
    check_same(copy.copy(error), error)
    check_same(copy.deepcopy(error), error)


def test_a_pickled_mismatch_is_whole() -> None:
    """Positions and expected pins come back as values of the same types."""
    again = pickle.loads(pickle.dumps(mismatch()))
    assert isinstance(again, PinMismatchError)
    assert again.positions == POSITIONS
    assert again.expected == EXPECTED


def test_what_was_added_travels_too() -> None:
    """An attribute that somebody put on an error is not lost on the way."""
    error = mismatch()
    error.attempt = 3  # type: ignore[attr-defined]  # callers do this
    assert pickle.loads(pickle.dumps(error)).attempt == 3


class RetryError(PinMismatchError):
    """What an application may derive, with arguments of its own."""

    def __init__(self, attempts: int) -> None:
        super().__init__("a peer", positions=POSITIONS, expected=EXPECTED)
        self.attempts = attempts


def test_derived_errors_pickle() -> None:
    """An error derived by an application pickles, whatever the arguments of its constructor."""
    error = RetryError(3)
    check_same(pickle.loads(pickle.dumps(error)), error)
    assert pickle.loads(pickle.dumps(error)).attempts == 3


@each
def test_an_error_can_be_raised_and_printed(reason: str, error: PinError) -> None:
    """An error that came out of a pickle can be raised, caught as an OSError, and printed."""
    again: PinError = pickle.loads(pickle.dumps(error))
    with pytest.raises(OSError) as caught:  # noqa: PT011  # the class alone is the claim
        raise again
    assert caught.value is again
    assert str(error).splitlines()[0] in "".join(traceback.format_exception(again))


# Positions ---------------------------------------------------------------------------------------


def test_a_position_is_a_value() -> None:
    """A position compares by value and cannot be changed."""
    assert dataclasses.replace(POSITIONS[0]) == POSITIONS[0]
    assert dataclasses.replace(POSITIONS[0], depth=1) != POSITIONS[0]
    assert hash(dataclasses.replace(POSITIONS[0])) == hash(POSITIONS[0])
    with pytest.raises(dataclasses.FrozenInstanceError):
        POSITIONS[0].depth = 1  # type: ignore[misc]  # the mistake is the test
    for protocol in PROTOCOLS:
        assert pickle.loads(pickle.dumps(POSITIONS[0], protocol)) == POSITIONS[0]
