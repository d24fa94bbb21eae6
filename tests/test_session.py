"""What a ``PinnedSession`` tells, next to an ``ssl.SSLSession``; rule 7 is in test_rules.py."""

from __future__ import annotations

import ssl
import time
from typing import cast

import pytest

from pinsock import PinnedContext, PinnedObject
from pinsock._session import Binding, PinnedSession, name_asked_for
from tests.certificates import make_chain
from tests.peers import MemoryPeer, fix_version, shake
from tests.test_chain import tlv

CHAIN = make_chain(2)
BINDING = Binding(None, None, None, None, None)
NAMES = ("id", "time", "timeout", "ticket_lifetime_hint", "has_ticket")


def session_of(
    kind: str, version: ssl.TLSVersion, *, tickets: bool = True
) -> ssl.SSLSession | PinnedSession:
    """The session that a client has after a handshake."""
    client = (
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if kind == "ssl" else PinnedContext(pins=None)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    CHAIN.trust(client)
    CHAIN.configure(server)
    fix_version(client, version)
    if not tickets:
        server.options |= ssl.OP_NO_TICKET
    ours = MemoryPeer(client, server_hostname="localhost")
    assert [end.error for end in shake(ours, MemoryPeer(server, server_side=True))] == [None, None]
    made = ours.obj.session
    assert made is not None
    return cast("ssl.SSLSession | PinnedSession", made)


@pytest.mark.parametrize("tickets", [True, False])
def test_a_session_tells_what_ssl_does(tls_version: ssl.TLSVersion, tickets: bool) -> None:
    """Its id, times and ticket: of the types, and where they do not depend on chance the values."""
    before = int(time.time())
    ours = session_of("pinned", tls_version, tickets=tickets)
    theirs = session_of("ssl", tls_version, tickets=tickets)
    after = int(time.time())
    assert isinstance(ours, PinnedSession)
    for name in NAMES:
        assert type(getattr(ours, name)) is type(getattr(theirs, name))
    for name in ("timeout", "ticket_lifetime_hint", "has_ticket"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert len(ours.id) == len(theirs.id)
    assert before <= ours.time <= after
    assert before <= theirs.time <= after


@pytest.mark.parametrize("name", NAMES)
def test_a_session_cannot_be_changed(name: str, tls_version: ssl.TLSVersion) -> None:
    """As with ssl, what it tells is read only."""
    for kind in ("ssl", "pinned"):
        with pytest.raises(AttributeError):
            setattr(session_of(kind, tls_version), name, 1)


def test_sessions_are_equal_by_their_id(tls_version: ssl.TLSVersion) -> None:
    """As with ssl: to one with the same id, to nothing else; and none is a dictionary's key."""
    one = session_of("pinned", tls_version)
    other = session_of("pinned", tls_version)
    assert isinstance(one, PinnedSession)
    assert one == PinnedSession(one.der, BINDING)
    assert one != other
    assert one != session_of("ssl", tls_version)
    assert one != one.id
    with pytest.raises(TypeError, match="unhashable"):
        hash(one)


def test_one_connection_gives_equal_sessions(tls_version: ssl.TLSVersion) -> None:
    """To ask twice gives two objects that are equal, unless a ticket came between them."""
    client = PinnedContext(pins=None)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    CHAIN.trust(client)
    CHAIN.configure(server)
    fix_version(client, tls_version)
    ours = MemoryPeer(client, server_hostname="localhost")
    shake(ours, MemoryPeer(server, server_side=True))
    obj = cast(PinnedObject, ours.obj)
    assert obj.session == obj.session


def test_what_is_no_session_is_a_value_error() -> None:
    """Also one whose fields end before the id.  Found by fuzz/session_fuzzer.py."""
    session = PinnedSession(tlv(0x30, tlv(2, b"\1"), tlv(2, b"\3\3"), tlv(4, b"\x13\1")), BINDING)
    with pytest.raises(ValueError, match="no id"):
        session.id  # noqa: B018  # the property raises


def test_what_a_session_does_not_say_is_zero() -> None:
    """Times that OpenSSL leaves out, as it may, are 0; a ticket that is not there is not there."""
    fields = [tlv(2, b"\1"), tlv(2, b"\3\3"), tlv(4, b"\x13\1"), tlv(4, b"id"), tlv(4, b"key")]
    session = PinnedSession(tlv(0x30, *fields), BINDING)
    assert session.id == b"id"
    assert (session.time, session.timeout, session.ticket_lifetime_hint) == (0, 0, 0)
    assert not session.has_ticket
    assert name_asked_for(session.der) is None
    full = PinnedSession(
        tlv(0x30, *fields, tlv(0xA1, tlv(2, b"\2")), tlv(0xA2, tlv(2, b"\3")),
            tlv(0xA6, tlv(4, b"name")), tlv(0xA9, tlv(2, b"\4")), tlv(0xAA, tlv(4, b"ticket"))),
        BINDING,
    )  # fmt: skip
    assert (full.time, full.timeout, full.ticket_lifetime_hint) == (2, 3, 4)
    assert full.has_ticket
    assert name_asked_for(full.der) == b"name"
    assert full.binding is BINDING
