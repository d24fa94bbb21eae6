"""Verify events are either acceptable to the contract, or not accepted; and nothing raises.

The contract is that of the oracle in tests/test_verdict.py, which shares no code with the verdict.
Once refused is refused for ever, and before the leaf's event nothing is accepted.
"""

from __future__ import annotations

from typing import Literal

from fuzz.harness import Supply, run
from tests.oracle import Certificate, Dates, PinFacts, Policy, Position, Scene
from tests.test_verdict import (
    GARBAGE,
    NUMBERS,
    POSITIONS,
    Event,
    certificates,
    check_never_accepts,
    strangers,
    told,
)

_DATES: tuple[Dates, ...] = ("valid", "expired", "future")
_TRUSTS: tuple[Literal["ca", "pins"], ...] = ("ca", "pins")
_KINDS: tuple[Literal["spki", "cert"], ...] = ("spki", "cert")
_ALGORITHMS: tuple[Literal["sha256", "sha384", "sha512"], ...] = ("sha256", "sha384", "sha512")
# Errors that the library knows, that it does not, and that are none.
_ERRORS = (0, *sorted(NUMBERS.values()), 7, 47, 2**31 - 1, -1)
_DEPTHS = (0, 1, 2, 3, 4, 2**31 - 1, -1)
_MAX_EVENTS = 16


def _policy(supply: Supply, known: tuple[Certificate, ...]) -> Policy:
    trust = supply.choice(_TRUSTS)
    check_expiry = trust == "ca" or not supply.number(2)
    enforce = not supply.number(2)
    positions: dict[Position, tuple[PinFacts, ...]] = {}
    for _ in range(1 + supply.number(3)):
        positions[supply.choice(POSITIONS)] = tuple(
            PinFacts.of(supply.choice(known), supply.choice(_KINDS), supply.choice(_ALGORITHMS))
            for _ in range(1 + supply.number(2))
        )
    return Policy(positions, trust, check_expiry=check_expiry, enforce=enforce)


def _scene(supply: Supply) -> Scene:
    length = 1 + supply.number(4)
    dates = tuple(supply.choice(_DATES) for _ in range(length))
    sent, trusted, ways = supply.number(16), supply.number(16), supply.number(4)
    return Scene(
        certificates=certificates(dates),
        dates=dates,
        sent=frozenset({0, *(depth for depth in range(length) if sent >> depth & 1)}),
        trusted=frozenset(depth for depth in range(length) if trusted >> depth & 1),
        partial_chain=bool(ways & 1),
        hostname_matches=not ways & 2,
    )


def test_one_input(data: bytes) -> None:
    """The bytes choose a chain, a pin set, what is told of the chain, and then any events."""
    supply = Supply(data)
    scene = _scene(supply)
    known = (*scene.certificates, *strangers())
    policy = _policy(supply, known)
    events = told(scene)[: supply.number(_MAX_EVENTS)]
    while supply and len(events) < _MAX_EVENTS:
        place = supply.number(len(events) + 1)
        event = Event(
            supply.choice(_DEPTHS), supply.choice(_ERRORS), supply.choice((*known, GARBAGE))
        )
        events.insert(len(events) - place, event)
    dates: dict[Certificate, Dates] = dict.fromkeys(strangers(), "valid")
    dates.update(zip(scene.certificates, scene.dates, strict=True))
    check_never_accepts(policy, events, dates)


if __name__ == "__main__":
    run(test_one_input)
