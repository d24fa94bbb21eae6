"""A session either tells what it is, the same each time, or raises ValueError, never another."""

from __future__ import annotations

from fuzz.der import mutate
from fuzz.harness import run
from pinsock._session import Binding, PinnedSession

_BINDING = Binding(None, None, None, None, None)
_KINDS = {"id": bytes, "time": int, "timeout": int, "ticket_lifetime_hint": int, "has_ticket": bool}


def test_one_input(data: bytes) -> None:
    """Take the bytes for what OpenSSL has written."""
    session = PinnedSession(data, _BINDING)
    for name, kind in _KINDS.items():
        try:
            found = getattr(session, name)
        except ValueError:
            continue
        assert type(found) is kind
        assert getattr(PinnedSession(data, _BINDING), name) == found
        if kind is int:
            assert 0 <= found < 256 ** len(data)
        if kind is bytes:
            assert found in data


if __name__ == "__main__":
    run(test_one_input, mutate)
