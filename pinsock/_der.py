"""A reader of DER (X.690 section 10): bytes in, elements out.

DER and not BER: what has more than one encoding there is refused here with :class:`ValueError`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

__all__ = [
    "BIT_STRING",
    "BOOLEAN",
    "GENERALIZED_TIME",
    "INTEGER",
    "OCTET_STRING",
    "OID",
    "SEQUENCE",
    "SET",
    "UTC_TIME",
    "Value",
    "element",
    "expect",
    "whole",
]

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, OID = 0x01, 0x02, 0x03, 0x04, 0x06
UTC_TIME, GENERALIZED_TIME = 0x17, 0x18
SEQUENCE, SET = 0x30, 0x31


class Value(NamedTuple):
    """One DER element: its tag, and where it, its contents and its end are in ``data``."""

    data: bytes
    tag: int
    start: int
    contents: int
    end: int

    @property
    def body(self) -> bytes:
        """The contents."""
        return self.data[self.contents : self.end]

    @property
    def encoded(self) -> bytes:
        """The element, tag and length and all."""
        return self.data[self.start : self.end]

    def items(self) -> Iterator[Value]:
        """The elements inside, in order; each must end where the next begins."""
        position = self.contents
        while position < self.end:
            item = element(self.data, position, self.end)
            yield item
            position = item.end


def element(data: bytes, start: int, end: int) -> Value:
    """Read the element at ``start``; it must end at or before ``end``."""
    if end - start < 2:
        raise ValueError("DER element cut short")
    tag = data[start]
    if tag & 0x1F == 0x1F:
        raise ValueError("DER tag number above 30")
    length = data[start + 1]
    contents = start + 2
    if length >= 0x80:
        size = length & 0x7F
        contents += size
        if not 1 <= size <= 4 or contents > end:
            raise ValueError("DER length is indefinite, too long, or cut short")
        length = int.from_bytes(data[start + 2 : contents], "big")
        if length < 0x80 or length >> (8 * (size - 1)) == 0:
            raise ValueError("DER length is not the shortest form")
    if contents + length > end:
        raise ValueError("DER element runs past its container")
    return Value(data, tag, start, contents, contents + length)


def whole(data: bytes, tag: int) -> Value:
    """Read ``data`` as exactly one element of ``tag``."""
    value = element(data, 0, len(data))
    if value.tag != tag or value.end != len(data):
        raise ValueError("not a single DER element of the expected type")
    return value


def expect(items: Iterator[Value], *tags: int) -> Value:
    """Take the next element; it must have one of ``tags``, or any tag where none is named."""
    value = next(items, None)
    if value is None or (tags and value.tag not in tags):
        raise ValueError("unexpected DER structure")
    return value
