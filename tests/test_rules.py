"""The rules of the library, one group of tests for each, asserted from the other side.

The numbers are those that the modules cite. Rule 3 (the verified chain only) is held by
``test_bypasses.py``, as is what of the other rules is a row of the bypass table (rules 1, 7 and 8
in ``test_bypasses_handshakes.py`` and ``tests/hostile``). Rule 10 (mirror it or refuse it) is
walked through in ``test_context.py``, rule 11 (the standard library's errors) in
``test_openssl.py``, rule 12 (an error says how to mend it) in ``test_errors.py`` and rule 13 (one
reader and one writer) in ``test_sockets.py``; what is here of them is the shortest proof that they
hold on a real handshake.
"""

from __future__ import annotations

import pickle
import socket
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from pinsock import (
    HostPins,
    Pin,
    PinError,
    PinMatch,
    PinMismatchError,
    PinnedContext,
    PinSet,
    UnpinnedPeerError,
    _engine,
    _openssl,
)
from pinsock._verdict import CERT_REJECTED, Verdict
from tests import certificates, peers
from tests.certificates import Chain, make_chain
from tests.peers import MemoryPeer, Transport, converse, shake

WRONG = Pin("spki", "sha256", bytes(32))

CHAIN = make_chain(3, pool=1)
CLIENT = make_chain(2, purpose="client", pool=2)
IMPOSTOR = make_chain(3, pool=3)


def pin(chain: Chain, depth: int = 0) -> str:
    """The pin of a certificate, by the test's own means."""
    return certificates.spki_pin(chain.certificates[depth])


def pinned_client(
    pins: object,
    version: ssl.TLSVersion,
    *,
    trusted: Chain = CHAIN,
    identity: Chain | None = CLIENT,
) -> PinnedContext:
    """A pinned client that holds a certificate, so that it has something to lose."""
    context = PinnedContext(pins=pins)  # type: ignore[arg-type]  # anything a test comes up with
    peers.fix_version(context, version)
    trusted.trust(context)
    if identity is not None:
        identity.configure(context)
    return context


def pinned_server(
    pins: object, version: ssl.TLSVersion, *, trusted: Chain = CLIENT
) -> PinnedContext:
    """A server that pins its clients."""
    context = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=pins)  # type: ignore[arg-type]  # see above
    peers.fix_version(context, version)
    trusted.trust(context)
    CHAIN.configure(context)
    return context


def curious_server(chain: Chain, version: ssl.TLSVersion, **options: object) -> ssl.SSLContext:
    """A stdlib server that asks for a client certificate and takes any, or none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    peers.fix_version(context, version)
    chain.configure(context, **options)  # type: ignore[arg-type]  # configure's own keywords
    CLIENT.trust(context)
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


# Rule 1: fail closed -----------------------------------------------------------------------------


def test_a_handshake_without_verify_events_is_refused(
    transport: Transport, tls_version: ssl.TLSVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the callback never ran the handshake fails, though OpenSSL was content."""
    monkeypatch.setattr(_openssl, "verify_with_pins", lambda pointer, **_: None)
    client = pinned_client(pin(CHAIN), tls_version)
    seen = converse(transport, client, curious_server(CHAIN, tls_version))
    assert type(seen.client.error) is PinError
    assert not seen.server.data


def test_a_verdict_that_says_yes_to_everything_is_not_believed(
    transport: Transport, tls_version: ssl.TLSVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events that were answered, but not judged, do not make a checked handshake."""
    monkeypatch.setattr(Verdict, "event", lambda self, depth, error, certificate: 0)
    client = pinned_client(WRONG, tls_version)
    seen = converse(transport, client, curious_server(IMPOSTOR, tls_version))
    assert type(seen.client.error) is PinError
    assert not seen.server.data


def test_the_chain_judged_is_the_chain_in_use(
    transport: Transport, tls_version: ssl.TLSVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A verdict on other certificates than the connection's own is refused."""
    real = Verdict.event

    def misled(self: Verdict, depth: int, error: int, certificate: bytes) -> int:
        return real(self, depth, error, CHAIN.ders[depth])

    monkeypatch.setattr(Verdict, "event", misled)
    client = pinned_client(pin(CHAIN), tls_version, trusted=IMPOSTOR)
    seen = converse(transport, client, curious_server(IMPOSTOR, tls_version))
    assert type(seen.client.error) is PinError
    assert not seen.server.data


def test_what_openssl_has_against_the_chain_counts_in_the_end(
    transport: Transport, tls_version: ssl.TLSVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chain that was accepted event by event, and yet is not right, is refused."""
    monkeypatch.setattr(_openssl, "verify_result", lambda _pointer: 1)
    client = pinned_client(pin(CHAIN), tls_version)
    seen = converse(transport, client, curious_server(CHAIN, tls_version))
    assert type(seen.client.error) is PinError
    assert not seen.server.data


# Rule 2: in the handshake ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["leaf", "anchor", "any", "ca", 0, 1, 2, 3])
def test_a_mismatch_gives_the_peer_nothing(
    transport: Transport, tls_version: ssl.TLSVersion, kind: str | int
) -> None:
    """The server gets the alert bad_certificate; no certificate, no Finished, no byte of data."""
    client = pinned_client(PinSet({kind: [WRONG]}), tls_version)  # type: ignore[dict-item]  # a position
    seen = converse(transport, client, curious_server(CHAIN, tls_version))
    assert isinstance(seen.client.error, PinMismatchError)
    assert not seen.client.handshake_completed
    assert not seen.server.handshake_completed
    assert seen.server.alert == "bad_certificate"
    assert seen.server.peer_gave_nothing


def test_without_pins_the_same_peer_gets_it_all(
    transport: Transport, tls_version: ssl.TLSVersion
) -> None:
    """The measure of the tests here: this server does see a certificate, when one is sent."""
    seen = converse(
        transport, pinned_client(pin(CHAIN), tls_version), curious_server(CHAIN, tls_version)
    )
    assert seen.server.handshake_completed
    assert seen.server.client_certificate == CLIENT.ders[0]
    assert seen.client.data == seen.server.data == b"ping"


def test_a_refused_client_is_told_bad_certificate(
    transport: Transport, tls_version: ssl.TLSVersion
) -> None:
    """A server whose pins the client does not match never completes, and serves no data."""
    client = peers.client_context(CHAIN, tls_version, identity=CLIENT)
    seen = converse(transport, client, pinned_server(WRONG, tls_version))
    assert isinstance(seen.server.error, PinMismatchError)
    assert not seen.server.handshake_completed
    assert seen.client.alert == "bad_certificate"
    assert not seen.client.data
    assert not seen.server.data


def test_a_matching_client_is_served(transport: Transport, tls_version: ssl.TLSVersion) -> None:
    """A server whose pins the client matches serves it, and can say where they matched."""
    client = peers.client_context(CHAIN, tls_version, identity=CLIENT)
    server = pinned_server(pin(CLIENT), tls_version)
    seen = converse(
        transport, client, server, inspect=lambda connection: getattr(connection, "pin_match", None)
    )
    assert seen.client.data == b"ping"
    assert isinstance(seen.server.inspected, PinMatch)
    assert str(seen.server.inspected.pin) == pin(CLIENT)


# Rule 4: never turn a failure into a success -----------------------------------------------------


CA_ERRORS: dict[str, tuple[Callable[[], Chain], int]] = {
    "expired leaf": (lambda: make_chain(3, validity={0: "expired"}), 10),
    "expired intermediate": (lambda: make_chain(3, validity={1: "expired"}), 10),
    "future leaf": (lambda: make_chain(3, validity={0: "future"}), 9),
    "expired root": (lambda: make_chain(3, validity={2: "expired"}), 10),
    "wrong name": (lambda: make_chain(3, hostnames=["elsewhere.example"]), 62),
}


@pytest.mark.parametrize("trust", ["ca", "pins"])
@pytest.mark.parametrize("wrong", CA_ERRORS)
def test_a_matching_pin_forgives_no_other_error(
    transport: Transport, tls_version: ssl.TLSVersion, trust: str, wrong: str
) -> None:
    """What is wrong with a chain stays wrong when every pin matches; the error is the stdlib's."""
    make, code = CA_ERRORS[wrong]
    chain = make()
    # A root that is sent, so that trust="pins" has an anchor to match too.
    server = curious_server(chain, tls_version, include_root=True)
    pins = PinSet(
        {depth: pin(chain, depth) for depth in range(len(chain))},
        trust=trust,  # type: ignore[arg-type]  # a literal
    )
    client = pinned_client(pins, tls_version, trusted=chain)
    seen = converse(transport, client, server)
    error = seen.client.error
    assert isinstance(error, ssl.SSLCertVerificationError)
    assert not isinstance(error, PinError)
    assert error.verify_code == code
    assert not seen.server.handshake_completed
    assert seen.server.peer_gave_nothing


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("include_root", [True, False])
def test_trust_pins_accepts_what_no_authority_vouches_for(
    transport: Transport, tls_version: ssl.TLSVersion, length: int, include_root: bool
) -> None:
    """A self-signed or privately signed peer is accepted if, and only if, all positions match."""
    chain = make_chain(length)
    server = curious_server(chain, tls_version, include_root=include_root)
    good = PinSet({"leaf": pin(chain)}, trust="pins")
    seen = converse(transport, pinned_client(good, tls_version), server)
    assert seen.client.data == b"ping"
    half = PinSet({"leaf": pin(chain), "any": WRONG}, trust="pins")
    seen = converse(transport, pinned_client(half, tls_version), server)
    assert isinstance(seen.client.error, PinMismatchError)
    assert seen.server.alert == "bad_certificate"
    assert seen.server.peer_gave_nothing


def test_report_only_leaves_the_ordinary_checks_standing(
    transport: Transport, tls_version: ssl.TLSVersion, caplog: pytest.LogCaptureFixture
) -> None:
    """enforce=False lets a mismatch pass with a log entry, and nothing that a CA check refuses."""
    for trust in ("ca", "pins"):
        caplog.clear()
        pins = PinSet(WRONG, enforce=False, trust=trust)  # type: ignore[arg-type]  # a literal
        client = pinned_client(pins, tls_version)
        seen = converse(
            transport,
            client,
            curious_server(CHAIN, tls_version),
            inspect=lambda connection: getattr(connection, "pin_match", "none there"),
        )
        assert seen.client.data == b"ping"
        assert seen.client.inspected is None
        assert "report only" in caplog.text
        assert str(WRONG) in caplog.text
        # The impostor's authority is not trusted.
        seen = converse(transport, client, curious_server(IMPOSTOR, tls_version))
        assert isinstance(seen.client.error, ssl.SSLCertVerificationError)
        assert not isinstance(seen.client.error, PinError)
        assert seen.server.peer_gave_nothing


# Rule 5: nothing raises in a callback ------------------------------------------------------------


class _Interrupt(BaseException):
    """As KeyboardInterrupt, which pytest would take for itself."""


@pytest.mark.parametrize("raised", [_Interrupt, RuntimeError, MemoryError])
def test_what_is_raised_inside_a_callback_comes_out_and_refuses(
    transport: Transport,
    tls_version: ssl.TLSVersion,
    raised: type[BaseException],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A signal handler may raise in the middle of a callback: the handshake fails, with that."""

    def raising(self: Verdict, depth: int, error: int, certificate: bytes) -> int:
        raise raised("in the callback")

    monkeypatch.setattr(Verdict, "event", raising)
    client = pinned_client(pin(CHAIN), tls_version)
    with peers.StdlibServer(curious_server(CHAIN, tls_version)) as server:
        with server.connect() as sock:
            with client.wrap_socket(
                sock, server_hostname="localhost", do_handshake_on_connect=False
            ) as connection:
                with pytest.raises(raised, match="in the callback"):
                    connection.do_handshake()
                monkeypatch.undo()
                with pytest.raises(PinError, match="without the check"):
                    connection.do_handshake()
                with pytest.raises(PinError, match="without the check"):
                    connection.sendall(b"data")
        seen = server.observation()
    assert seen.alert == "bad_certificate"
    assert seen.peer_gave_nothing


def test_each_thread_gets_its_own_error(tls_version: ssl.TLSVersion) -> None:
    """Good and bad peers in many threads on one context: every connection has its own outcome."""
    other = make_chain(2, under=CHAIN.above(2), pool=5)
    contexts = {
        True: peers.server_context(CHAIN, tls_version),
        False: peers.server_context(other, tls_version),
    }
    client = pinned_client(PinSet({"leaf": pin(CHAIN)}), tls_version)
    each = 40

    def connect(good: bool) -> bool:
        ours = MemoryPeer(client, server_hostname="localhost")
        shake(ours, MemoryPeer(contexts[good], server_side=True))
        error = ours.record.error
        if good:
            return error is None and ours.obj.pin_match is not None  # type: ignore[attr-defined]  # ours
        return isinstance(error, PinMismatchError) and error.positions[0].pin == pin(other)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(connect, [True, False] * each))


def test_a_refused_connection_stays_refused(tls_version: ssl.TLSVersion) -> None:
    """Whatever is called after a mismatch raises the mismatch again."""
    client = pinned_client(WRONG, tls_version)
    ours = MemoryPeer(client, server_hostname="localhost")
    shake(ours, MemoryPeer(curious_server(CHAIN, tls_version), server_side=True))
    for call in (ours.obj.do_handshake, lambda: ours.obj.write(b"x"), lambda: ours.obj.read(1)):
        with pytest.raises(PinMismatchError):
            call()
    assert ours.obj.version() is None


# Rule 6: one snapshot for each connection --------------------------------------------------------


def test_pins_are_fixed_when_the_handshake_begins(tls_version: ssl.TLSVersion) -> None:
    """Pins that change under way affect the next handshake, and not this one."""
    for before, after in ((pin(CHAIN), WRONG), (WRONG, pin(CHAIN))):
        client = pinned_client(before, tls_version)
        running = MemoryPeer(client, server_hostname="localhost")
        running.step()  # the ClientHello
        client.pins = after  # type: ignore[assignment]  # mypy takes the setter's type from the getter
        shake(running, MemoryPeer(curious_server(CHAIN, tls_version), server_side=True))
        assert running.record.completed is (before != WRONG)
        following = MemoryPeer(client, server_hostname="localhost")
        shake(following, MemoryPeer(curious_server(CHAIN, tls_version), server_side=True))
        assert following.record.completed is (after != WRONG)


def test_pins_set_before_the_handshake_begins_count(tls_version: ssl.TLSVersion) -> None:
    """A connection that was wrapped, and has not begun, is judged by the pins of its beginning."""
    client = pinned_client(pin(CHAIN), tls_version)
    waiting = MemoryPeer(client, server_hostname="localhost")
    client.pins = WRONG  # type: ignore[assignment]  # mypy takes the setter's type from the getter
    shake(waiting, MemoryPeer(curious_server(CHAIN, tls_version), server_side=True))
    assert isinstance(waiting.record.error, PinMismatchError)


def test_a_pin_source_is_asked_once(tls_version: ssl.TLSVersion) -> None:
    """A callable is asked when the handshake begins, with the name, and not again."""
    asked: list[str | None] = []

    def source(name: str | None) -> PinSet:
        asked.append(name)
        return PinSet(pin(CHAIN))

    ours = MemoryPeer(pinned_client(source, tls_version), server_hostname="LocalHost")
    assert not asked
    shake(ours, MemoryPeer(curious_server(CHAIN, tls_version), server_side=True))
    assert ours.record.completed
    assert [str(name).lower() for name in asked] == ["localhost"]


def test_a_pin_source_may_say_none(transport: Transport, tls_version: ssl.TLSVersion) -> None:
    """None from a callable is no pinning for that host: the ordinary checks, and no match."""
    client = pinned_client(lambda name: None, tls_version)
    assert converse(transport, client, curious_server(CHAIN, tls_version)).client.data == b"ping"
    seen = converse(transport, client, curious_server(IMPOSTOR, tls_version))
    assert isinstance(seen.client.error, ssl.SSLCertVerificationError)


def test_a_host_without_pins_is_refused_before_a_byte_is_sent(tls_version: ssl.TLSVersion) -> None:
    """HostPins says no to a host that it does not know."""
    client = pinned_client(HostPins({"example.com": WRONG}), tls_version)
    ours = MemoryPeer(client, server_hostname="localhost")
    with pytest.raises(UnpinnedPeerError, match="localhost"):
        ours.obj.do_handshake()
    assert not ours.outgoing.read()


# Rule 7: resumption cannot skip pins -------------------------------------------------------------


def _session(
    client: PinnedContext, address: tuple[str, int], hostname: str = "localhost", **options: object
) -> tuple[object, bool, object]:
    """Connect, exchange data, and return the session, whether it was resumed, and the match."""
    with socket.create_connection(address, 10) as sock:
        with client.wrap_socket(sock, server_hostname=hostname, **options) as connection:  # type: ignore[arg-type]  # keywords of wrap
            connection.sendall(b"hello")
            assert connection.recv(5) == b"hello"
            found = connection.session, connection.session_reused, connection.pin_match
            connection.unwrap().close()
            return found  # type: ignore[return-value]  # three values


def test_a_session_is_resumed_where_it_was_made(tls_version: ssl.TLSVersion) -> None:
    """Same context, same name, same pins: the session resumes, with the match of its check."""
    client = pinned_client(pin(CHAIN), tls_version)
    with peers.StdlibServer(peers.server_context(CHAIN, tls_version)) as server:
        session, reused, match = _session(client, server.address)
        assert not reused
        assert match is not None
        assert _session(client, server.address, session=session)[1:] == (True, match)


def test_a_server_that_pins_its_clients_resumes_nothing(
    tls_version: ssl.TLSVersion,
) -> None:
    """It keeps no cache and takes no tickets: every connection is checked.

    With TLS 1.3 OpenSSL sends tickets all the same (``SSL_CTX_set_num_tickets`` is not to be had);
    they stand for entries of the cache that is not kept, and resume nothing.
    """
    client = peers.client_context(CHAIN, tls_version, identity=CLIENT)
    with peers.StdlibServer(pinned_server(pin(CLIENT), tls_version)) as server:
        session = None
        for _ in range(2):
            with server.connect() as sock:
                with client.wrap_socket(
                    sock, server_hostname="localhost", session=session
                ) as connection:
                    connection.sendall(b"hello")
                    assert connection.recv(5) == b"hello"
                    assert not connection.session_reused
                    session = connection.session
                    if tls_version == ssl.TLSVersion.TLSv1_2:
                        assert session is None or not session.has_ticket
                    connection.unwrap().close()
            assert server.observation().handshake_completed


# Rule 8: possession before trust -----------------------------------------------------------------


def test_a_match_is_reported_only_after_the_peer_has_proved_its_key(
    tls_version: ssl.TLSVersion,
) -> None:
    """The chain may be judged, and right; until the handshake is complete there is no match."""
    ours = MemoryPeer(pinned_client(pin(CHAIN), tls_version), server_hostname="localhost")
    theirs = MemoryPeer(peers.server_context(CHAIN, tls_version), server_side=True)
    engine = ours.obj._sslobj  # type: ignore[attr-defined]  # to look at the verdict under way
    ours.step()
    ours.flush(theirs)
    theirs.step()
    judged_early = False
    for octet in theirs.outgoing.read():
        ours.incoming.write(bytes([octet]))
        ours.step()
        if not ours.record.completed:
            verdict = engine._verdict
            assert ours.obj.pin_match is None  # type: ignore[attr-defined]  # ours
            judged_early |= verdict.accepted
    assert judged_early or tls_version == ssl.TLSVersion.TLSv1_3  # one record may hold it all there
    shake(ours, theirs)
    assert ours.obj.pin_match is not None  # type: ignore[attr-defined]  # ours


def test_an_event_behind_the_verdict_is_refused(tls_version: ssl.TLSVersion) -> None:
    """When all is judged the verdict is let go of; nothing is right from then on."""
    ours = MemoryPeer(pinned_client(pin(CHAIN), tls_version), server_hostname="localhost")
    shake(ours, MemoryPeer(peers.server_context(CHAIN, tls_version), server_side=True))
    engine = ours.obj._sslobj  # type: ignore[attr-defined]  # as OpenSSL would
    assert engine._verdict is None
    assert engine.on_verify(0, 0, CHAIN.ders[0]) == CERT_REJECTED
    assert engine.on_verify(0, 20, CHAIN.ders[0]) == 20


# Rule 9: pins cannot be weakened from outside ----------------------------------------------------


@pytest.mark.parametrize("server_side", [False, True])
def test_cert_none_on_a_context_with_pins_is_an_error(
    transport: Transport, server_side: bool
) -> None:
    """It names trust="pins", and is never an unpinned connection."""
    protocol = ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT
    context = PinnedContext(protocol, pins=WRONG)
    assert context.verify_mode == ssl.CERT_REQUIRED
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if transport == "bio":
        with pytest.raises(ValueError, match='trust="pins"'):
            context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side)
    else:
        left, right = socket.socketpair()
        with left, right, pytest.raises(ValueError, match='trust="pins"'):
            context.wrap_socket(left, server_side)


def test_an_override_needs_verification_too() -> None:
    """pins= on an unpinned, unverified context is refused as well."""
    context = PinnedContext(pins=None)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with pytest.raises(ValueError, match='trust="pins"'):
        context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), pins=WRONG)


# Rules 10 to 13, in short ------------------------------------------------------------------------


def test_a_member_that_cannot_be_mirrored_says_so() -> None:
    """Rule 10: it raises NotImplementedError with the reason."""
    with pytest.raises(NotImplementedError, match="nothing to pin"):
        PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=WRONG).set_psk_server_callback(print)


def test_a_mismatch_is_an_error_of_ssl_that_says_how_to_mend_it(
    transport: Transport, tls_version: ssl.TLSVersion
) -> None:
    """Rules 11 and 12: an SSLCertVerificationError with chain and pins, as text and as data."""
    client = pinned_client(PinSet({"leaf": WRONG}), tls_version)
    error = converse(transport, client, curious_server(CHAIN, tls_version)).client.error
    assert isinstance(error, ssl.SSLCertVerificationError)
    assert isinstance(error, PinMismatchError)
    assert error.server_hostname == "localhost"
    assert [position.pin for position in error.positions] == [pin(CHAIN, d) for d in range(3)]
    assert error.expected == {"leaf": (str(WRONG),)}
    for depth in range(3):
        assert pin(CHAIN, depth) in str(error)
    assert str(WRONG) in str(error)
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error)
    assert copy.positions == error.positions


def test_no_openssl_error_escapes(transport: Transport, tls_version: ssl.TLSVersion) -> None:
    """Rule 11: what fails in OpenSSL is an ssl.SSLError, also when it is not a certificate."""
    client = pinned_client(pin(CHAIN), tls_version)
    server = peers.server_context(CHAIN)
    other = {ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3} - {tls_version}
    peers.fix_version(server, other.pop())
    seen = converse(transport, client, server)
    assert isinstance(seen.client.error, ssl.SSLError)
    assert seen.client.reason == "TLSV1_ALERT_PROTOCOL_VERSION"


def test_a_waiting_reader_does_not_lock_out_the_writer(tls_version: ssl.TLSVersion) -> None:
    """Rule 13: half a record has come and the reader waits for the rest; the writer writes on."""
    client = pinned_client(pin(CHAIN), tls_version)
    # A relay in between holds the second half of a record back until the writer has written.
    near, relay_near = socket.socketpair()
    relay_far, far = socket.socketpair()
    server = curious_server(CHAIN, tls_version)
    held, release = threading.Event(), threading.Event()
    hold = threading.Event()
    received: list[bytes] = []

    def serve() -> None:
        with server.wrap_socket(far, server_side=True) as connection:
            assert connection.recv(5) == b"start"
            connection.sendall(b"answer")
            while len(b"".join(received)) < 1000:
                received.append(connection.recv(65536))
            release.set()

    def to_client() -> None:
        while data := relay_far.recv(65536):
            if hold.is_set():
                hold.clear()
                relay_near.sendall(data[:8])
                held.set()
                assert release.wait(10)
                data = data[8:]
            relay_near.sendall(data)

    def to_server() -> None:
        while data := relay_near.recv(65536):
            relay_far.sendall(data)

    threads = [threading.Thread(target=target) for target in (serve, to_client, to_server)]
    for sock in (near, relay_near, relay_far, far):
        sock.settimeout(10)
    near.settimeout(None)  # the case in which OpenSSL itself would block
    for thread in threads:
        thread.start()
    connection = client.wrap_socket(near, server_hostname="localhost")
    if tls_version == ssl.TLSVersion.TLSv1_3:
        # The tickets come before the answer: have them read by then.
        connection.settimeout(0)
        with pytest.raises(ssl.SSLWantReadError):
            connection.recv(1)
        connection.settimeout(None)
    hold.set()
    connection.sendall(b"start")
    answers: list[bytes] = []
    reader = threading.Thread(target=lambda: answers.append(connection.recv(6)))
    assert held.wait(10)
    reader.start()
    connection.sendall(b"x" * 1000)  # would wait for ever, were the lock held
    reader.join(10)
    assert answers == [b"answer"]
    connection.close()
    for thread in threads:
        thread.join(10)
    for sock in (relay_near, relay_far):
        sock.close()
    assert b"".join(received) == b"x" * 1000


# The first use of all ----------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["DER", "PEM"])
def test_an_app_that_ships_its_servers_certificate_talks_to_nobody_else(
    transport: Transport, tls_version: ssl.TLSVersion, form: str
) -> None:
    """Whole-certificate pin: no man in the middle gets through, whatever CA the machine trusts."""
    shipped: bytes = CHAIN.ders[0] if form == "DER" else certificates.pem(CHAIN.leaf)
    pins = PinSet({"leaf": Pin.from_certificate(shipped, kind="cert")})
    client = pinned_client(pins, tls_version)
    IMPOSTOR.trust(client)
    assert converse(transport, client, curious_server(CHAIN, tls_version)).client.data == b"ping"
    seen = converse(transport, client, curious_server(IMPOSTOR, tls_version))
    assert isinstance(seen.client.error, PinMismatchError)
    assert seen.server.alert == "bad_certificate"
    assert seen.server.peer_gave_nothing
    # A renewed certificate is another certificate, though it has the same key ...
    renewed = make_chain(3, pool=1)
    assert pin(renewed) == pin(CHAIN)
    renewed.trust(client)
    seen = converse(transport, client, curious_server(renewed, tls_version))
    assert isinstance(seen.client.error, PinMismatchError)
    # ... and new pins can be brought in while the program runs.
    client.pins = PinSet({"leaf": Pin.from_certificate(renewed.ders[0], kind="cert")})
    assert converse(transport, client, curious_server(renewed, tls_version)).client.data == b"ping"


def test_the_engine_is_what_the_standard_library_talks_to(tls_version: ssl.TLSVersion) -> None:
    """A pinned object is an ssl.SSLObject around our engine, and a socket likewise."""
    made = pinned_client(WRONG, tls_version).wrap_bio(
        ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost"
    )
    assert isinstance(made, ssl.SSLObject)
    assert isinstance(made._sslobj, _engine.Engine)
