"""The DER reader: what it reads, and everything that it refuses (X.690 section 10)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinsock import _der
from tests.test_chain import tlv

MANY = settings(max_examples=max(200, settings().max_examples))
tags = st.integers(0, 255).filter(lambda tag: tag & 0x1F != 0x1F)


@MANY
@given(tags, st.binary(max_size=300), st.binary(max_size=3), st.binary(max_size=3))
def test_an_element_is_read_where_it_is(
    tag: int, body: bytes, before: bytes, after: bytes
) -> None:
    """Its tag, its contents and its encoding, whatever there is around it."""
    encoded = tlv(tag, body)
    data = before + encoded + after
    value = _der.element(data, len(before), len(data))
    assert value.tag == tag
    assert value.body == body
    assert value.encoded == encoded
    assert data[value.end :] == after


@MANY
@given(st.lists(st.tuples(tags, st.binary(max_size=200)), max_size=5))
def test_elements_are_read_in_their_order(parts: list[tuple[int, bytes]]) -> None:
    """A SEQUENCE gives its elements, each of them once."""
    whole = _der.whole(tlv(0x30, *(tlv(tag, body) for tag, body in parts)), _der.SEQUENCE)
    assert [(item.tag, item.body) for item in whole.items()] == parts


def test_long_lengths() -> None:
    """A length has as many octets as it needs, up to four."""
    for size in (0x7F, 0x80, 0xFF, 0x100, 0xFFFF, 0x10000):
        assert len(_der.whole(tlv(0x04, bytes(size)), 0x04).body) == size


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "cut short"),
        (b"\x04", "cut short"),
        (b"\x1f\x01\x00", "tag number above 30"),
        (b"\xbf\x81\x01\x00", "tag number above 30"),
        (b"\x30\x80\x00\x00", "indefinite, too long, or cut short"),
        (b"\x04\x85\x00\x00\x00\x00\x01\x00", "indefinite, too long, or cut short"),
        (b"\x04\x82\x01", "indefinite, too long, or cut short"),
        (b"\x04\x81\x01\x00", "not the shortest form"),
        (b"\x04\x82\x00\x80" + bytes(0x80), "not the shortest form"),
        (b"\x04\x01", "runs past its container"),
        (b"\x04\x84\xff\xff\xff\xff", "runs past its container"),
    ],
)
def test_what_is_no_der_is_refused(data: bytes, why: str) -> None:
    """With a ValueError that says what is wrong."""
    with pytest.raises(ValueError, match=why):
        _der.element(data, 0, len(data))


def test_an_element_ends_inside_its_container() -> None:
    """The end of what is around it counts, and not the end of the data."""
    data = tlv(0x04, b"abcd")
    with pytest.raises(ValueError, match="runs past its container"):
        _der.element(data, 0, len(data) - 1)
    inside = _der.whole(tlv(0x30, b"\x04\x02a"), 0x30).items()
    with pytest.raises(ValueError, match="runs past its container"):
        next(inside)


def test_a_whole_is_one_element_of_its_tag_and_nothing_else() -> None:
    """Another tag, and anything behind it, is refused."""
    for data in (tlv(0x31), tlv(0x30) + b"\x00"):
        with pytest.raises(ValueError, match="not a single DER element"):
            _der.whole(data, _der.SEQUENCE)


def test_what_is_expected_is_taken() -> None:
    """The next element, if it has one of the tags; any, if none is named; an error otherwise."""
    data = tlv(0x30, tlv(0x02, b"\1"), tlv(0x04), tlv(0x05))
    items = _der.whole(data, _der.SEQUENCE).items()
    assert _der.expect(items, _der.INTEGER, _der.OID).body == b"\1"
    assert _der.expect(items).tag == _der.OCTET_STRING
    with pytest.raises(ValueError, match="unexpected DER structure"):
        _der.expect(items, _der.OID)
    with pytest.raises(ValueError, match="unexpected DER structure"):
        _der.expect(items)
