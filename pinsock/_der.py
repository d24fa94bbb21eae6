"""A reader of DER (X.690 section 10): bytes in, elements out.

DER and not BER: what has more than one encoding there is refused here with :class:`ValueError`.
OpenSSL reads BER.  So what is refused for that alone is a :class:`NotDERError`: it must not be
taken for nonsense that others pass over as well.
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
    "NotDERError",
    "Value",
    "element",
    "end",
    "expect",
    "last",
    "whole",
]

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, OID = 0x01, 0x02, 0x03, 0x04, 0x06
UTC_TIME, GENERALIZED_TIME = 0x17, 0x18
SEQUENCE, SET = 0x30, 0x31


class NotDERError(ValueError):
    """It is no DER, but others may read it."""


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

    def items(self, *tags: int) -> Iterator[Value]:
        """The elements inside, in order; each must end where the next begins.

        Args:
            tags: what each must have one of; any, where none is named.
        """
        position = self.contents
        while position < self.end:
            item = element(self.data, position, self.end)
            if tags and item.tag not in tags:
                raise ValueError("unexpected DER structure")
            yield item
            position = item.end


def element(data: bytes, start: int, end: int) -> Value:
    """Read the element at ``start``; it must end at or before ``end``."""
    if end - start < 2:
        raise ValueError("DER element cut short")
    tag = data[start]
    if tag & 0x1F == 0x1F:
        raise NotDERError("DER tag number above 30")
    length = data[start + 1]
    contents = start + 2
    if length >= 0x80:
        size = length & 0x7F
        contents += size
        if not 1 <= size <= 4 or contents > end:
            padded = size > 4 and not any(data[start + 2 : contents - 4])
            error = NotDERError if padded or (size == 0 and tag & 0x20) else ValueError
            raise error("DER length is indefinite, too long, or cut short")
        length = int.from_bytes(data[start + 2 : contents], "big")
        if length < 0x80 or length >> (8 * (size - 1)) == 0:
            raise NotDERError("DER length is not the shortest form")
    if contents + length > end:
        raise ValueError("DER element runs past its container")
    return Value(data, tag, start, contents, contents + length)


def whole(data: bytes, tag: int) -> Value:
    """Read ``data`` as exactly one element of ``tag``."""
    value = element(data, 0, len(data))
    if value.tag != tag:
        raise ValueError("not a single DER element of the expected type")
    if value.end != len(data):
        raise NotDERError("not a single DER element: something is behind it")
    return value


def expect(items: Iterator[Value], *tags: int) -> Value:
    """Take the next element; it must have one of ``tags``, or any tag where none is named."""
    value = next(items, None)
    if value is None or (tags and value.tag not in tags):
        raise ValueError("unexpected DER structure")
    return value


def last(items: Iterator[Value], *tags: int) -> Value:
    """Take the next element, as :func:`expect` does; it must be the last."""
    value = expect(items, *tags)
    end(items)
    return value


def end(items: Iterator[Value]) -> None:
    """There must be no more elements."""
    if next(items, None) is not None:
        raise ValueError("unexpected DER structure")
