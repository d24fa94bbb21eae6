"""Bypasses: handshakes without a check, and proof of possession.

Here is what needs no peer but OpenSSL's; ``tests/hostile`` has the peers that break the rules of
TLS.  A client that is asked for its certificate after the handshake has
``test_post_handshake.py``; sessions that outlive their pins, ``test_rotation.py`` as well.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from OpenSSL import SSL

from pinsock import (
    PinError,
    PinMismatchError,
    PinnedContext,
    PinSet,
    TofuStore,
    _context,
)
from pinsock._verdict import Verdict
from tests import peers
from tests.certificates import Chain
from tests.peers import MemoryPeer, SocketPeer, Transport, converse, shake
from tests.test_rules import (
    CHAIN,
    CLIENT,
    IMPOSTOR,
    WRONG,
    curious_server,
    pin,
    pinned_client,
    pinned_server,
)

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
KEY = b"a key that both have"


def plain_server(version: ssl.TLSVersion, chain: Chain | None = CHAIN) -> PinnedContext:
    """A server without pins."""
    context = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=None)
    peers.fix_version(context, version)
    if chain is not None:
        chain.configure(context)
    return context


def switching(outer: PinnedContext, inner: Callable[[], PinnedContext | None]) -> PinnedContext:
    """Have ``outer`` switch to another context when a client says whom it wants."""

    def switch(connection: Any, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = inner() or outer

    outer.sni_callback = switch
    return outer


@contextlib.contextmanager
def peer(transport: Transport, context: ssl.SSLContext, **options: Any) -> Iterator[MemoryPeer]:
    """Our side of a connection on either transport, in one thread with the other."""
    if transport == "bio":
        yield MemoryPeer(context, **options)
    else:
        with SocketPeer(context, **options) as ours:
            yield ours


def said(ours: MemoryPeer) -> bytes:
    """What our side has sent."""
    if not isinstance(ours, SocketPeer):
        return ours.outgoing.read()
    with contextlib.suppress(BlockingIOError):
        return ours.far.recv(65536)
    return b""


def hear(ours: MemoryPeer, data: bytes) -> None:
    """Have our side receive this."""
    if isinstance(ours, SocketPeer):
        ours.far.sendall(data)
    else:
        ours.incoming.write(data)


# Handshakes without a check ----------------------------------------------------------------------


@pytest.mark.parametrize("kept_out", [True, False], ids=["not offered", "negotiated"])
def test_an_anonymous_cipher_suite_never_connects(
    transport: Transport, kept_out: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A suite without certificates is not offered; and were it negotiated, it would be refused."""
    version = V12
    client = pinned_client(pin(CHAIN), version)
    client.set_ciphers("AECDH+AES:ECDHE+AESGCM:@SECLEVEL=0")
    server = peers.server_context(CHAIN, version)
    server.set_ciphers("AECDH+AES:@SECLEVEL=0")
    if not kept_out:
        monkeypatch.setattr(_context, "_NO_UNCHECKED_CIPHERS", "")
    seen = converse(transport, client, server)
    assert not seen.client.handshake_completed
    assert not seen.server.data
    if kept_out:
        assert not seen.server.handshake_completed
        assert seen.server.reason == "NO_SHARED_CIPHER"
    else:
        assert type(seen.client.error) is PinError


def test_nothing_but_unchecked_cipher_suites_is_an_error() -> None:
    """A pinned context that is told to use anonymous suites alone refuses to make a connection."""
    client = PinnedContext(pins=WRONG)
    client.set_ciphers("AECDH:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError, match="NO_CIPHER_MATCH"):
        client.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost")


@pytest.mark.parametrize("kept_out", [True, False], ids=["not offered", "negotiated"])
def test_a_pre_shared_key_never_takes_the_place_of_a_pinned_certificate(
    transport: Transport,
    tls_version: ssl.TLSVersion,
    kept_out: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """TLS-PSK (RFC 4279, RFC 8446 section 2.2) has no certificate; no such handshake completes."""
    server = plain_server(tls_version, None)
    server.set_ciphers("PSK:@SECLEVEL=0")
    server.set_psk_server_callback(lambda _identity: KEY)
    client = PinnedContext(pins=None)
    client.set_psk_client_callback(lambda _hint: ("me", KEY))
    client.set_ciphers("PSK:ECDHE+AESGCM:@SECLEVEL=0")
    peers.fix_version(client, tls_version)
    CHAIN.trust(client)
    assert converse(transport, client, server).client.error is None  # the measure
    client.pins = PinSet([WRONG])
    if kept_out:
        with pytest.raises(NotImplementedError, match="nothing to pin"):
            converse(transport, client, server)
        return
    monkeypatch.setattr(_context, "_NO_UNCHECKED_CIPHERS", "")
    real = PinnedContext._compile_psk
    monkeypatch.setattr(
        PinnedContext, "_compile_psk", lambda self, snapshot, _pinned: real(self, snapshot, False)
    )
    seen = converse(transport, client, server)
    assert type(seen.client.error) is PinError
    assert not seen.server.data


def test_a_switch_leaves_no_pre_shared_key_behind(
    transport: Transport, tls_version: ssl.TLSVersion
) -> None:
    """OpenSSL keeps the key callback of the context that a connection was made by (RFC 4279)."""
    outer = plain_server(tls_version)
    outer.set_ciphers("PSK:ECDHE+AESGCM:@SECLEVEL=0")
    outer.set_psk_server_callback(lambda _identity: KEY)
    inner: list[PinnedContext] = []
    switching(outer, lambda: inner[0] if inner else None)
    client = PinnedContext(pins=None)
    client.set_psk_client_callback(lambda _hint: ("me", KEY))
    client.set_ciphers("PSK:@SECLEVEL=0")
    peers.fix_version(client, tls_version)
    CHAIN.trust(client)
    assert converse(transport, client, outer).server.error is None  # the measure
    inner.append(pinned_server(pin(CLIENT), tls_version))
    seen = converse(transport, client, outer)
    assert seen.server.error is not None
    assert not seen.server.handshake_completed
    assert not seen.client.data


@pytest.mark.parametrize("mode", [ssl.CERT_OPTIONAL, ssl.CERT_REQUIRED])
def test_a_client_without_a_certificate_is_refused(
    transport: Transport, tls_version: ssl.TLSVersion, mode: ssl.VerifyMode
) -> None:
    """A server that pins its clients serves none without a certificate, even if it is optional."""
    server = pinned_server(pin(CLIENT), tls_version)
    server.verify_mode = mode
    seen = converse(transport, peers.client_context(CHAIN, tls_version), server)
    assert not seen.server.handshake_completed
    assert seen.server.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE"
    assert seen.client.alert in ("certificate_required", "handshake_failure")
    assert not seen.client.data


def session_of(client: ssl.SSLContext, server: ssl.SSLContext) -> ssl.SSLSession:
    """What a connection of the two can be resumed with."""
    ours = MemoryPeer(client, server_hostname="localhost")
    shake(ours, MemoryPeer(server, server_side=True))
    session = ours.obj.session
    assert session is not None
    return session


def test_a_session_is_refused_anywhere_else(
    transport: Transport, tls_version: ssl.TLSVersion
) -> None:
    """A resumed handshake verifies nothing: no other context, name or pins, no server, no junk."""
    client = pinned_client(pin(CHAIN), tls_version)
    session = session_of(client, peers.server_context(CHAIN, tls_version))

    def begin(context: PinnedContext, **options: Any) -> None:
        options = {"server_hostname": "localhost", "session": session, **options}
        with peer(transport, context, **options) as ours:
            ours.step()
            assert (ours.record.error is None) == bool(said(ours))
            if ours.record.error is not None:
                raise ours.record.error

    begin(client)
    with pytest.raises(ValueError, match="different SSLContext"):
        begin(pinned_client(pin(CHAIN), tls_version))
    with pytest.raises(ValueError, match="different server_hostname"):
        begin(client, server_hostname="127.0.0.1")
    with pytest.raises(ValueError, match="different pin set"):
        begin(client, pins=WRONG)
    with pytest.raises(ValueError, match="different pin set"):
        begin(client, pins=None)
    client.pins = PinSet({"leaf": pin(CHAIN)})
    with pytest.raises(ValueError, match="different pin set"):
        begin(client)
    server = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=None)
    with pytest.raises(ValueError, match=r"different SSLContext|only be specified in client mode"):
        begin(server, server_side=True, server_hostname=None)
    with pytest.raises(TypeError, match="not a SSLSession"):
        begin(client, session="x")


@pytest.mark.parametrize("tickets", [True, False])
def test_a_server_does_not_resume_what_it_did_not_check(
    tls_version: ssl.TLSVersion, tickets: bool
) -> None:
    """A session of an unpinned context resumes into no pinned one, not by a switch either."""
    outer = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=None)
    peers.fix_version(outer, tls_version)
    CHAIN.configure(outer)
    if not tickets:  # sessions are then in the server's cache, and looked up before the name is
        outer.options |= ssl.OP_NO_TICKET
    inner: list[PinnedContext] = []

    def switch(connection: object, _name: str | None, _context: ssl.SSLContext) -> None:
        for context in inner:
            connection.context = context  # type: ignore[attr-defined]  # a socket or an object

    outer.sni_callback = switch
    client = peers.client_context(CHAIN, tls_version)
    with peers.StdlibServer(outer) as server:
        # By hand, as the session is to be had only behind the first data.
        with client.wrap_socket(server.connect(), server_hostname="localhost") as connection:
            connection.sendall(b"hello")
            assert connection.recv(5) == b"hello"
            session = connection.session
            connection.unwrap().close()
    assert session is not None
    inner.append(pinned_server(pin(CLIENT), tls_version))
    ours = MemoryPeer(client, server_hostname="localhost", session=session)
    theirs = MemoryPeer(outer, server_side=True)
    _, seen = shake(ours, theirs)
    assert not seen.handshake_completed
    assert type(seen.error) is PinError


def reused(connection: object) -> object:
    """Whether the handshake resumed a session."""
    return connection.session_reused  # type: ignore[attr-defined]  # a socket or an object


def test_a_server_does_not_take_the_session_of_another(
    transport: Transport, tls_version: ssl.TLSVersion
) -> None:
    """CVE-2025-23419: whom one server has let in, another with the same tickets does not let in.

    The first has authorities, the other has pins, and takes no session at all.  (Of two that have
    authorities only, each under its name: ``test_hostile_callers.py``.)
    """
    outer = plain_server(tls_version)
    inner: list[PinnedContext] = []
    switching(outer, lambda: inner[0])
    trusting = plain_server(tls_version)
    CLIENT.trust(trusting)
    trusting.verify_mode = ssl.CERT_REQUIRED

    client = peers.client_context(CHAIN, tls_version, identity=CLIENT)
    inner.append(trusting)
    session = session_of(client, outer)
    seen = converse(transport, client, outer, session=session, inspect=reused)
    assert seen.server.inspected is True  # the measure
    inner[0] = pinned_server(pin(IMPOSTOR), tls_version)
    seen = converse(transport, client, outer, session=session)
    assert isinstance(seen.server.error, ssl.SSLError)
    assert not seen.server.handshake_completed
    assert not seen.client.data


def test_an_impostor_makes_nothing_of_a_session(
    transport: Transport, tls_version: ssl.TLSVersion
) -> None:
    """Who does not know the ticket has to shake hands anew, and is held against the pins."""
    client = pinned_client(pin(CHAIN), tls_version)
    IMPOSTOR.trust(client)
    server = peers.server_context(CHAIN, tls_version)
    session = session_of(client, server)

    seen = converse(transport, client, server, session=session, inspect=reused)
    assert seen.client.inspected  # the measure
    seen = converse(transport, client, curious_server(IMPOSTOR, tls_version), session=session)
    assert isinstance(seen.client.error, PinMismatchError)
    assert seen.server.alert == "bad_certificate"
    assert seen.server.peer_gave_nothing


def _negotiator(chain: Chain, transport: Transport, ours: MemoryPeer) -> SSL.Connection:
    """The other side, of pyOpenSSL: it can be told to begin another handshake."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    context.use_certificate(chain.leaf)
    context.use_privatekey(chain.keys[0])  # type: ignore[arg-type]  # not all kinds of key are known to it
    for certificate in chain.sent_certificates()[1:]:
        context.add_extra_chain_cert(certificate)
    return SSL.Connection(context, ours.far if transport == "socket" else None)  # type: ignore[attr-defined]  # then it has


@pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])
@pytest.mark.parametrize("changed", [False, True], ids=["same", "another"])
def test_renegotiation_is_off(
    transport: Transport, server_side: bool, changed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A peer that wants another handshake gets none: it could bring another chain (CVE-2009-3555).

    Nor is there one with the same certificate, by a server's HelloRequest or by a client.  (A
    server of OpenSSL refuses it even without our option, unless it is told to allow it.)
    """
    events: list[int] = []
    real = Verdict.event

    def counted(self: Verdict, depth: int, error: int, certificate: bytes) -> int:
        events.append(depth)
        return real(self, depth, error, certificate)

    monkeypatch.setattr(Verdict, "event", counted)
    if server_side:
        chain, context = CLIENT, pinned_server(pin(CLIENT), V12)
        options: dict[str, Any] = {"server_side": True}
    else:
        chain, context = CHAIN, pinned_client(pin(CHAIN), V12)
        options = {"server_hostname": "localhost"}
    with peer(transport, context, **options) as ours:
        theirs = _negotiator(chain, transport, ours)
        if server_side:
            theirs.set_connect_state()
        else:
            theirs.set_accept_state()

        def pump(*actions: Callable[[], object]) -> None:
            for _ in range(10):
                for action in actions:
                    with contextlib.suppress(SSL.WantReadError):
                        action()
                    if transport == "bio":
                        if data := ours.outgoing.read():
                            theirs.bio_write(data)
                        with contextlib.suppress(SSL.WantReadError):
                            ours.incoming.write(theirs.bio_read(65536))

        pump(lambda: None if ours.settled else ours.step(), theirs.do_handshake)
        assert ours.record.completed
        events.clear()
        if changed:
            theirs.set_context(_negotiator(IMPOSTOR, "bio", ours).get_context())
        assert theirs.renegotiate()
        with pytest.raises(SSL.Error, match="no renegotiation"):
            pump(ours.read, lambda: theirs.recv(1), theirs.do_handshake)
    assert not events


def _ask_later(connection: object) -> str | None:
    """Have a server ask for the certificate; what it was told."""
    if not connection.server_side:  # type: ignore[attr-defined]  # a socket or an object
        return None
    try:
        connection.verify_client_post_handshake()  # type: ignore[attr-defined]  # likewise
    except ssl.SSLError as error:
        return error.reason
    return None


@pytest.mark.parametrize("willing", [True, False])
def test_a_client_answers_late_to_the_pinned_server_alone(
    transport: Transport, willing: bool
) -> None:
    """RFC 8446 section 4.6.2: asked afterwards, a client gives its certificate if it has said so.

    By then the server is known by its pins.  One that is not has nobody to ask, as its handshake
    never completes.
    """
    client = pinned_client(pin(CHAIN), V13)
    client.post_handshake_auth = willing
    for chain in (CHAIN, IMPOSTOR):
        chain.trust(client)
        server = peers.server_context(chain, V13, client_ca=CLIENT)
        server.post_handshake_auth = True
        seen = converse(transport, client, server, inspect=_ask_later)
        given = seen.server.handshake_messages("read").count(11)
        if chain is IMPOSTOR:
            assert isinstance(seen.client.error, PinMismatchError)
            assert seen.server.peer_gave_nothing
        elif willing:
            assert seen.server.inspected is None
            assert given == 1
        else:
            assert seen.server.inspected == "EXTENSION_NOT_RECEIVED"


@pytest.mark.parametrize(
    ("before", "after", "accepted"),
    [
        (None, CLIENT, True),
        (None, IMPOSTOR, False),
        (IMPOSTOR, CLIENT, True),
        (IMPOSTOR, None, True),
        (CLIENT, IMPOSTOR, False),
    ],
)
def test_a_switch_brings_the_pins_along(
    before: Chain | None,
    after: Chain | None,
    accepted: bool,
    transport: Transport,
    tls_version: ssl.TLSVersion,
) -> None:
    """The pins of the context that was switched to hold, and not those it was switched from.

    ``SSL_set_SSL_CTX`` carries neither verify mode nor callback over.
    """
    outer, inner = (
        plain_server(tls_version) if chain is None else pinned_server(pin(chain), tls_version)
        for chain in (before, after)
    )
    switching(outer, lambda: inner)
    client = peers.client_context(CHAIN, tls_version, identity=CLIENT)
    seen = converse(transport, client, outer)
    if accepted:
        assert seen.server.error is None
        assert seen.client.error is None
        assert seen.client.data == b"ping"
    else:
        assert isinstance(seen.server.error, PinMismatchError)
        assert seen.client.alert == "bad_certificate"
        assert seen.client.data == b""


# Possession --------------------------------------------------------------------------------------


@pytest.mark.parametrize("first_use", [False, True], ids=["pins", "first use"])
@pytest.mark.parametrize("tampered", [True, False], ids=["tampered", "as it was"])
def test_a_tampered_key_exchange_is_no_match(
    transport: Transport, first_use: bool, tampered: bool, tmp_path: Path
) -> None:
    """The right certificate with a signature that its key did not make (RFC 8422 section 5.4).

    There is no match, nothing is recorded, and nothing is sent.
    """
    store = TofuStore(tmp_path / "known")
    client = pinned_client(store if first_use else pin(CHAIN), V12)
    theirs = MemoryPeer(curious_server(CHAIN, V12), server_side=True)
    with peer(transport, client, server_hostname="localhost") as ours:
        ours.step()
        theirs.incoming.write(said(ours))
        theirs.step()
        flight = bytearray(theirs.outgoing.read())
        # ServerKeyExchange (12) is in clear text, and the signature is its end.
        start = 0
        while flight[start + 5] != 12:
            start += 5 + int.from_bytes(flight[start + 3 : start + 5], "big")
        flight[start + 4 + int.from_bytes(flight[start + 3 : start + 5], "big")] ^= tampered
        hear(ours, bytes(flight))
        ours.step()
        theirs.incoming.write(said(ours))
        theirs.step()
        if not tampered:
            hear(ours, theirs.outgoing.read())
            ours.step()
        assert ours.record.completed is not tampered
        assert (ours.obj.pin_match is None) is tampered  # type: ignore[attr-defined]  # ours
        assert list(store) == ["localhost"] * (first_use and not tampered)
        assert theirs.observation.peer_gave_nothing is tampered
        if tampered:
            assert isinstance(ours.record.error, ssl.SSLError)
            assert not isinstance(ours.record.error, PinError)
            with pytest.raises(ssl.SSLError):
                ours.obj.write(b"secret")
