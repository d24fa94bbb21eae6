"""Post-handshake authentication (RFC 8446 section 4.6.2) on a server that pins its clients.

The client is the standard library's.  Rules 1 to 5 and 8 hold for the late certificate as they do
for one in the handshake.
"""

from __future__ import annotations

import ssl
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Literal, cast

import pytest

from pinsock import (
    Pin,
    PinError,
    PinExpiredError,
    PinMismatchError,
    PinnedContext,
    PinnedObject,
    PinSet,
    _engine,
    _openssl,
)
from pinsock._verdict import Verdict
from tests import certificates, peers
from tests.certificates import Chain, make_chain
from tests.peers import MemoryPeer, StdlibServer, exchange, shake, stdlib_client

CHAIN = make_chain(2, pool=4)
CLIENT = make_chain(2, purpose="client", pool=5)
OTHER = make_chain(2, purpose="client", pool=6)

PINS = PinSet({"leaf": certificates.spki_pin(CLIENT.leaf)})
V13 = ssl.TLSVersion.TLSv1_3


def late_server(
    pins: PinSet | None = PINS, *, late: bool = True, trusted: Chain = CLIENT
) -> PinnedContext:
    """A server that asks its clients for their certificates when it is told to."""
    context = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=pins)
    context.verify_mode = ssl.CERT_REQUIRED
    context.post_handshake_auth = late
    CHAIN.configure(context)
    trusted.trust(context)
    return context


def late_client(
    identity: Chain | None = CLIENT, version: ssl.TLSVersion | None = None
) -> ssl.SSLContext:
    """A client of the standard library that can be asked."""
    context = peers.client_context(CHAIN, version, identity=identity)
    context.post_handshake_auth = True
    return context


class Late:
    """A connection whose handshake is complete: ``near`` is our server, ``far`` the client."""

    def __init__(self, server: PinnedContext, client: ssl.SSLContext) -> None:
        self.near = MemoryPeer(server, server_side=True)
        self.far = MemoryPeer(client, server_hostname="localhost")
        shake(self.far, self.near)
        assert self.near.record.error is None
        assert self.far.record.error is None
        self.obj = cast(PinnedObject, self.near.obj)

    def ask(self) -> None:
        """Ask for the certificate, and have the client write its answer."""
        self.obj.verify_client_post_handshake()
        exchange(self.near, self.far, b"who are you?")

    def answer(self) -> BaseException | None:
        """Carry the answer over and data behind it; what the server's read raised."""
        assert exchange(self.far, self.near, b"data") in (b"data", b"")
        self.near.flush(self.far)
        self.far.read()
        return self.near.record.error

    def nothing_is_known(self) -> bool:
        """Whether the server has nothing to say of its client."""
        known = (
            self.obj.pin_match,
            self.obj.getpeercert(),
            self.obj.getpeercert(True),
            *self.obj.get_verified_chain(),
        )
        return known == (None, None, None)


def test_a_late_certificate_is_matched() -> None:
    """Until the client has answered nothing is known of it; then its match is."""
    late = Late(late_server(), late_client())
    assert late.nothing_is_known()
    late.ask()
    assert late.nothing_is_known()
    assert late.answer() is None
    assert late.near.record.data == b"data"
    assert late.obj.pin_match is not None
    assert late.obj.getpeercert(True) == CLIENT.ders[0]
    assert late.obj.getpeercert()
    assert late.obj.get_verified_chain() == list(CLIENT.ders)


@pytest.mark.parametrize("look", ["getpeercert", "get_verified_chain"])
def test_each_accessor_takes_note_of_the_answer(look: str) -> None:
    """It does not matter which is asked first."""
    late = Late(late_server(), late_client())
    late.ask()
    late.answer()
    assert getattr(late.obj, look)()


@pytest.mark.parametrize("deferred", [True, False])
def test_a_client_may_be_asked_again(deferred: bool) -> None:
    """While the second answer is awaited the first no longer counts."""
    late = Late(late_server(late=deferred), late_client())
    for _ in range(2):
        late.ask()
        assert late.nothing_is_known()
        assert late.answer() is None
        assert late.obj.pin_match is not None


@pytest.mark.parametrize("deferred", [True, False])
def test_a_late_certificate_that_does_not_match_is_refused(deferred: bool) -> None:
    """The read raises, the client hears bad_certificate, and no data passes any more."""
    context = late_server(late=deferred, trusted=OTHER)
    OTHER.trust(context)
    CLIENT.trust(context)
    if deferred:
        late = Late(context, late_client(OTHER))
    else:  # known by the handshake, and judged anew by other pins
        context.pins = PinSet({"leaf": certificates.spki_pin(OTHER.leaf)})
        late = Late(context, late_client(OTHER))
        late.obj._sslobj._pins = PINS  # type: ignore[union-attr]  # no client has two certificates
    late.ask()
    error = late.answer()
    assert isinstance(error, PinMismatchError)
    assert error.positions[0].pin == certificates.spki_pin(OTHER.leaf)
    assert late.far.observation.alert == "bad_certificate"
    assert late.near.record.data == b""
    assert late.nothing_is_known()
    for use in (late.obj.read, lambda: late.obj.write(b"secret")):
        with pytest.raises(PinMismatchError):
            use()
    assert late.near.outgoing.read() == b""
    assert late.nothing_is_known()


@pytest.mark.parametrize("identity", [CLIENT, OTHER], ids=["pinned", "other"])
@pytest.mark.parametrize("after_expiry", ["reject", "unpin"])
def test_pins_that_have_expired_since_the_handshake_are_not_gone_by(
    after_expiry: Literal["reject", "unpin"],
    identity: Chain,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Who is asked after the end of the pins is refused, or is a client like any other."""
    now = datetime.now(timezone.utc)
    end = now + timedelta(hours=1)
    server = late_server(PinSet(PINS.positions, expires=end, after_expiry=after_expiry))
    OTHER.trust(server)
    late = Late(server, late_client(identity))

    class Later(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Later:
            return cls.fromtimestamp((end + timedelta(seconds=1)).timestamp(), tz)

    monkeypatch.setattr(_engine, "datetime", Later)
    if after_expiry == "reject":
        with pytest.raises(PinExpiredError, match="bring in new ones"):
            late.ask()
        assert late.nothing_is_known()
    else:
        late.ask()
        assert late.answer() is None
        assert late.obj.pin_match is None
        assert late.obj.getpeercert(True) == identity.ders[0]
    assert "expired" in caplog.text


def test_a_late_certificate_of_an_unknown_authority_is_refused() -> None:
    """Pins add to the check of the chain; the error is ssl's."""
    late = Late(late_server(), late_client(OTHER))
    late.ask()
    error = late.answer()
    assert type(error) is ssl.SSLCertVerificationError
    assert error.verify_code == 20
    assert late.far.observation.alert == "unknown_ca"
    assert late.nothing_is_known()


def test_a_client_without_a_certificate_is_refused() -> None:
    """An empty answer is no answer."""
    late = Late(late_server(), late_client(None))
    late.ask()
    error = late.answer()
    assert isinstance(error, ssl.SSLError)
    assert error.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE"
    assert late.far.observation.alert == "certificate_required"
    assert late.nothing_is_known()


def test_report_only_lets_a_late_certificate_pass(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, once, and there is no match."""
    pins = PinSet({"leaf": certificates.spki_pin(OTHER.leaf)}, enforce=False)
    late = Late(late_server(pins), late_client())
    late.ask()
    assert late.answer() is None
    assert late.obj.getpeercert(True) == CLIENT.ders[0]
    assert late.obj.pin_match is None
    assert caplog.text.count("report only") == 1


def test_a_certificate_alone_proves_nothing() -> None:
    """Before CertificateVerify and Finished have come, the client is not known (rule 8)."""
    late = Late(late_server(), late_client())
    late.ask()
    answer = late.far.outgoing.read()
    records = []
    while answer:
        size = 5 + int.from_bytes(answer[3:5], "big")
        records.append(answer[:size])
        answer = answer[size:]
    assert len(records) > 1
    for record in records[:-1]:
        late.near.incoming.write(record)
        late.near.read()
        assert late.nothing_is_known()
    late.near.incoming.write(records[-1])
    assert late.near.read() == b""
    assert late.near.record.error is None
    assert late.obj.pin_match is not None


def test_an_answer_without_proof_is_refused() -> None:
    """A damaged record behind the certificate ends the connection."""
    late = Late(late_server(), late_client())
    late.ask()
    answer = bytearray(late.far.outgoing.read())
    answer[-1] ^= 1
    late.near.incoming.write(bytes(answer))
    late.near.read()
    assert isinstance(late.near.record.error, ssl.SSLError)
    assert late.nothing_is_known()


@pytest.mark.parametrize("identity", [None, OTHER])
def test_tls_1_2_asks_in_the_handshake(identity: Chain | None) -> None:
    """Before TLS 1.3 there is no later: the handshake demands the certificate."""
    context = late_server()
    OTHER.trust(context)
    near = MemoryPeer(context, server_side=True)
    far = MemoryPeer(late_client(identity, ssl.TLSVersion.TLSv1_2), server_hostname="localhost")
    shake(far, near)
    assert isinstance(near.record.error, PinMismatchError if identity else ssl.SSLError)
    assert not far.record.completed


def test_a_handshake_that_was_to_be_checked_cannot_be_put_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Switching post_handshake_auth on while a handshake runs makes it no less strict."""
    context = late_server(late=False)
    monkeypatch.setattr(_openssl, "verify_with_pins", lambda pointer, **_: None)
    near = MemoryPeer(context, server_side=True)
    far = MemoryPeer(late_client(None, V13), server_hostname="localhost")
    _openssl.verify_without_pins(
        near.obj._sslobj._ssl,  # type: ignore[attr-defined]  # as if it had asked for nothing
        ssl.CERT_NONE,
        post_handshake=False,
    )
    near.step()
    context.post_handshake_auth = True
    shake(far, near)
    assert type(near.record.error) is PinError


def test_events_that_are_not_judged_make_no_match(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the callback never ran there is no match, though OpenSSL was content (rule 1)."""
    late = Late(late_server(), late_client())
    monkeypatch.setattr(Verdict, "event", lambda *_: 0)
    late.ask()
    late.answer()
    assert late.nothing_is_known()


def test_what_is_raised_in_the_check_comes_out_of_the_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A KeyboardInterrupt during the check is neither lost nor an acceptance (rule 5)."""

    def interrupt(*_: object) -> int:
        raise KeyboardInterrupt

    late = Late(late_server(), late_client())
    late.ask()
    monkeypatch.setattr(Verdict, "event", interrupt)
    late.far.flush(late.near)
    with pytest.raises(KeyboardInterrupt):
        late.obj.read()
    assert late.nothing_is_known()
    with pytest.raises(ssl.SSLError):
        late.obj.read()


def test_only_a_server_asks_and_only_after_the_handshake() -> None:
    """Anything else is an SSLError, as with ssl."""
    early = late_server().wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
    with pytest.raises(ssl.SSLError):
        early.verify_client_post_handshake()
    ours = PinnedContext(pins=Pin.from_certificate(CHAIN.ders[0]))
    CHAIN.trust(ours)
    peers.fix_version(ours, V13)
    near = MemoryPeer(ours, server_hostname="localhost")
    shake(near, MemoryPeer(peers.server_context(CHAIN), server_side=True))
    with pytest.raises(ssl.SSLError, match="NOT_SERVER"):
        near.obj.verify_client_post_handshake()
    willing = Late(late_server(), peers.client_context(CHAIN, V13))  # without the extension
    with pytest.raises(ssl.SSLError, match="EXTENSION_NOT_RECEIVED"):
        willing.obj.verify_client_post_handshake()
    assert willing.nothing_is_known()


def test_a_server_without_pins_asks_too() -> None:
    """Its client's certificate is verified, and told, as with ssl."""
    server = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=None)
    CHAIN.configure(server)
    CLIENT.trust(server)
    server.post_handshake_auth = True
    server.verify_mode = ssl.CERT_REQUIRED
    late = Late(server, late_client())
    assert late.obj.getpeercert(True) is None
    late.ask()
    assert late.answer() is None
    assert late.obj.getpeercert(True) == CLIENT.ders[0]
    assert late.obj.pin_match is None


def test_a_callback_asks_nothing() -> None:
    """In the middle of another call OpenSSL would crash."""
    server = late_server()
    refused: list[Exception] = []
    connections: list[PinnedObject] = []

    def ask(*_told: object) -> None:
        for obj in connections:
            try:
                obj.verify_client_post_handshake()
            except ssl.SSLError as error:
                refused.append(error)

    server._msg_callback = ask
    late = Late(server, late_client())
    connections.append(late.obj)
    assert exchange(late.far, late.near, b"data") == b"data"
    assert refused
    assert all("in the middle of another operation" in str(error) for error in refused)


@pytest.mark.parametrize("identity", [CLIENT, OTHER])
def test_a_client_is_asked_on_a_socket(identity: Chain) -> None:
    """The same on a real socket, with the server in a thread."""
    context = late_server()
    OTHER.trust(context)

    def ask(connection: object) -> object:
        assert isinstance(connection, ssl.SSLSocket)
        connection.verify_client_post_handshake()
        return None

    with StdlibServer(context, inspect=ask) as listening:
        seen = stdlib_client(
            listening.address, late_client(identity), server_hostname="localhost", payload=b"ping"
        )
        server = listening.observation()
    if identity is CLIENT:
        assert server.error is None
        assert seen.data == b"ping"
    else:
        # (What the client has sent before it read the request may well have been answered.)
        assert isinstance(server.error, PinMismatchError)
