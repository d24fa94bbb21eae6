"""Mutations of DER: elements are lost, doubled, moved and changed, and lengths around them hold.

Changed octet by octet, a certificate is refused at its first length, and what is behind that is
never tried.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from pinsock._der import OCTET_STRING, element

__all__ = ["mutate"]

_CONSTRUCTED = 0x20
_TAGS = (0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x0C, 0x13, 0x16, 0x17, 0x18, 0x1C, 0x1E, 0x30, 0x31)
_CONTEXT_TAGS = (0x80, 0x81, 0x82, 0x86, 0x87, 0x88, 0xA0, 0xA1, 0xA2, 0xA3, 0xA4)
_OCTETS = (b"", b"\0", b"\xff", b"\x80", b"\x00\x80", b"*", b"\n", b"\x00\x00\x00\x00")


@dataclass
class _Node:
    """An element: its tag, and the elements or the octets inside; ``padding`` makes BER of it."""

    tag: int
    inside: list[_Node] = field(default_factory=list)
    octets: bytes = b""
    padding: int = 0

    def encoded(self) -> bytes:
        body = b"".join(node.encoded() for node in self.inside) + self.octets
        size = len(body)
        if size < 0x80 and not self.padding:
            return bytes((self.tag, size)) + body
        length = bytes(self.padding) + size.to_bytes((size.bit_length() + 7) // 8 or 1, "big")
        return bytes((self.tag, 0x80 | len(length))) + length + body

    def copy(self) -> _Node:
        return _Node(self.tag, [node.copy() for node in self.inside], self.octets, self.padding)


def _read(data: bytes) -> list[_Node]:
    nodes: list[_Node] = []
    at = 0
    while at < len(data):
        found = element(data, at, len(data))
        node = _Node(found.tag, octets=found.body)
        if found.tag & _CONSTRUCTED or found.tag == OCTET_STRING:  # an extension is in one
            try:
                node.inside, node.octets = _read(found.body), b""
            except ValueError:
                pass
        nodes.append(node)
        at = found.end
    return nodes


def _all(nodes: list[_Node]) -> list[tuple[list[_Node], int]]:
    """Where each element is: the list that it is in, and its place there."""
    found: list[tuple[list[_Node], int]] = []
    for place, node in enumerate(nodes):
        found.append((nodes, place))
        found += _all(node.inside)
    return found


def _change(nodes: list[_Node], chance: Random) -> None:
    where = _all(nodes)
    siblings, place = chance.choice(where)
    node = siblings[place]
    match chance.randrange(9):
        case 0:
            del siblings[place]
        case 1:
            siblings.insert(place, node.copy())
        case 2:
            other = chance.randrange(len(siblings))
            siblings[place], siblings[other] = siblings[other], node
        case 3:
            others, at = chance.choice(where)
            siblings[place] = others[at].copy()
        case 4:
            others, at = chance.choice(where)
            siblings.insert(place, others[at].copy())
        case 5:
            node.tag = chance.choice((*_TAGS, *_CONTEXT_TAGS, chance.randrange(256)))
        case 6:
            node.padding = chance.randrange(3)
        case _ if not node.inside:
            node.octets = _change_octets(node.octets, chance)


def _change_octets(octets: bytes, chance: Random) -> bytes:
    at = chance.randint(0, len(octets))
    upto = chance.choice((at, at + 1, at + 1, len(octets)))
    new = chance.choice((*_OCTETS, bytes((chance.randrange(256),)), chance.randbytes(4)))
    return octets[:at] + new + octets[upto:]


def mutate(data: bytes, size: int, chance: Random) -> bytes:
    """Return another input of at most ``size`` octets."""
    try:
        nodes = _read(data)
    except (ValueError, RecursionError):
        nodes = []
    if not nodes:
        return _change_octets(data, chance)[:size]
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        if nodes:
            _change(nodes, chance)
    return b"".join(node.encoded() for node in nodes)[:size]
