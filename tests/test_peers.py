"""The peers tell the truth: above all, that they saw something when there was something to see."""

from __future__ import annotations

import os
import socket
import ssl
import struct
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.certificates import make_chain, spki_pin
from tests.peers import (
    Connection,
    Conversation,
    MemoryPeer,
    Message,
    Observation,
    StdlibServer,
    Transport,
    client_context,
    converse,
    exchange,
    fix_version,
    server_context,
    shake,
    stdlib_client,
)

CHAIN, CLIENTS, STRANGERS = make_chain(3), make_chain(2, pool=1), make_chain(2, pool=2)

CLIENT_HELLO, CERTIFICATE, CERTIFICATE_REQUEST, FINISHED = 1, 11, 13, 20


def test_both_sides_see_a_good_connection(
    transport: Transport, tls_version: ssl.TLSVersion
) -> None:
    """A connection that works is complete on both sides, and its data is echoed."""
    seen = converse(
        transport, client_context(CHAIN, tls_version), server_context(CHAIN), payload=b"hello"
    )
    for side in seen:
        assert side.handshake_completed
        assert (side.error, side.reason, side.alert, side.alert_sent) == (None, None, None, None)
        assert side.data == b"hello"
        assert side.version == {0x303: "TLSv1.2", 0x304: "TLSv1.3"}[tls_version]
        assert side.peer_finished
        assert not side.peer_gave_nothing
    assert seen.client.peer_certificate == CHAIN.ders[0]
    assert seen.server.client_certificate is None
    assert seen.server.handshake_messages("read")[0] == CLIENT_HELLO
    assert seen.client.handshake_messages("write") == seen.server.handshake_messages("read")


def test_the_server_sees_the_client_certificate(
    transport: Transport, tls_version: ssl.TLSVersion
) -> None:
    """The certificate of a client is seen, and that it was asked for."""
    client = client_context(CHAIN, tls_version, identity=CLIENTS)
    seen = converse(transport, client, server_context(CHAIN, client_ca=CLIENTS))
    assert seen.server.error is None
    assert seen.server.client_certificate == CLIENTS.ders[0]
    assert CERTIFICATE_REQUEST in seen.client.handshake_messages("read")


def test_the_server_sees_a_client_without_certificate(
    transport: Transport, tls_version: ssl.TLSVersion
) -> None:
    """An empty Certificate message is no certificate, but it is a message."""
    server = server_context(CHAIN, client_ca=CLIENTS, verify_mode=ssl.CERT_OPTIONAL)
    seen = converse(transport, client_context(CHAIN, tls_version), server)
    assert seen.server.error is None
    assert seen.server.client_certificate is None
    assert CERTIFICATE in seen.server.handshake_messages("read")
    assert not seen.server.peer_gave_nothing


def test_the_server_sees_that_it_is_refused(
    transport: Transport, tls_version: ssl.TLSVersion
) -> None:
    """A client that refuses in the handshake sends an alert, and gives nothing."""
    client = client_context(CHAIN, tls_version, identity=CLIENTS)
    server = server_context(STRANGERS, client_ca=CLIENTS)
    seen = converse(transport, client, server)
    assert isinstance(seen.client.error, ssl.SSLCertVerificationError)
    assert seen.client.alert_sent == "unknown_ca"
    assert seen.server.alert == "unknown_ca"
    assert seen.server.reason == "TLSV1_ALERT_UNKNOWN_CA"
    for side in seen:
        assert not side.handshake_completed
        assert side.version is None
    assert seen.server.client_certificate is None
    assert seen.server.peer_gave_nothing
    assert not seen.server.peer_finished
    assert seen.server.handshake_messages("read") == (CLIENT_HELLO,)
    # It was asked: the client had every occasion.
    assert CERTIFICATE_REQUEST in seen.server.handshake_messages("write")


def test_the_server_sees_through_a_check_after_the_handshake(
    transport: Transport, tls_version: ssl.TLSVersion
) -> None:
    """A client that looks only after the handshake has given its certificate away: that is seen."""

    def too_late(connection: Connection) -> None:
        if not connection.server_side and connection.getpeercert(True) != CHAIN.ders[0]:
            raise ValueError("not the certificate wanted")

    client = client_context(STRANGERS, tls_version, identity=CLIENTS)
    server = server_context(STRANGERS, client_ca=CLIENTS)
    seen = converse(transport, client, server, inspect=too_late)
    assert isinstance(seen.client.error, ValueError)
    assert seen.server.handshake_completed
    assert seen.server.client_certificate == CLIENTS.ders[0]
    assert seen.server.peer_finished
    assert not seen.server.peer_gave_nothing


def test_the_client_sees_that_it_is_refused(
    transport: Transport, tls_version: ssl.TLSVersion
) -> None:
    """A server's refusal reaches the client: with TLS 1.3 after its own handshake is over."""
    client = client_context(CHAIN, tls_version, identity=STRANGERS)
    seen = converse(transport, client, server_context(CHAIN, client_ca=CLIENTS))
    assert isinstance(seen.server.error, ssl.SSLCertVerificationError)
    assert not seen.server.handshake_completed
    assert seen.server.alert_sent == seen.client.alert == "unknown_ca"
    assert seen.client.reason == "TLSV1_ALERT_UNKNOWN_CA"
    assert seen.client.handshake_completed == (tls_version is ssl.TLSVersion.TLSv1_3)
    assert seen.client.data == seen.server.data == b""
    # It did arrive, although the handshake failed because of it.
    assert seen.server.client_certificate == STRANGERS.ders[0]


def test_a_refusal_for_want_of_a_certificate_has_its_name(
    transport: Transport, tls_version: ssl.TLSVersion
) -> None:
    """An alert that the ssl module has no name for is named all the same."""
    seen = converse(
        transport, client_context(CHAIN, tls_version), server_context(CHAIN, client_ca=CLIENTS)
    )
    # RFC 8446 section 6.2; TLS 1.2 has no alert for this.
    expected = {0x303: "handshake_failure", 0x304: "certificate_required"}[tls_version]
    assert seen.client.alert == seen.server.alert_sent == expected


def test_versions_are_fixed(transport: Transport) -> None:
    """Two sides that have no version in common see each other fail."""
    seen = converse(
        transport,
        client_context(CHAIN, ssl.TLSVersion.TLSv1_2),
        server_context(CHAIN, ssl.TLSVersion.TLSv1_3),
    )
    assert not seen.client.handshake_completed
    assert not seen.server.handshake_completed
    assert seen.client.alert == "protocol_version"


def test_a_fixed_version_can_be_moved() -> None:
    """A context that was fixed to one version can be fixed to another, up and down."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for version in (
        ssl.TLSVersion.TLSv1_3,
        ssl.TLSVersion.TLSv1_2,
        ssl.TLSVersion.TLSv1_3,
    ):
        fix_version(context, version)
        assert context.minimum_version == context.maximum_version == version


def test_the_connection_can_be_inspected(transport: Transport) -> None:
    """What the inspection returns is in the observation, of each side."""
    seen = converse(
        transport,
        client_context(CHAIN),
        server_context(CHAIN),
        inspect=lambda connection: (connection.server_side, connection.version()),
    )
    assert seen.client.inspected == (False, "TLSv1.3")
    assert seen.server.inspected == (True, "TLSv1.3")


@pytest.mark.parametrize("size", [0, 1, 1 << 20])
def test_data_of_any_size_comes_back(
    size: int, transport: Transport, tls_version: ssl.TLSVersion
) -> None:
    """Nothing, one byte and more than any buffer holds are echoed alike."""
    payload = os.urandom(size)
    client = client_context(CHAIN, tls_version)
    seen = converse(transport, client, server_context(CHAIN), payload=payload)
    assert seen.client.error is None
    assert seen.client.data == seen.server.data == payload


def test_the_root_is_sent_if_asked(transport: Transport) -> None:
    """A server sends its root only if it is told to."""
    for include_root in (False, True):
        server = server_context(CHAIN, include_root=include_root)
        seen = converse(transport, client_context(CHAIN), server)
        assert seen.client.messages is not None
        (message,) = (each for each in seen.client.messages if each.is_handshake(CERTIFICATE))
        assert (CHAIN.root_der in message.data) == include_root


def test_sessions_are_resumed(tls_version: ssl.TLSVersion) -> None:
    """A client's session is passed on; what is seen of a resumed handshake has no certificate."""
    client = client_context(CHAIN, tls_version)
    server = server_context(CHAIN)

    def session(connection: Connection) -> ssl.SSLSession | None:
        # With TLS 1.3 the ticket comes after the handshake.
        return connection.session if tls_version is ssl.TLSVersion.TLSv1_2 else None

    with StdlibServer(server) as listening:
        first = stdlib_client(listening.address, client, inspect=session)
        assert first.error is None
        if tls_version is ssl.TLSVersion.TLSv1_2:
            found = first.inspected
            assert isinstance(found, ssl.SSLSession)
            again = stdlib_client(listening.address, client, session=found)
            assert again.error is None
            assert CERTIFICATE not in again.handshake_messages("read")
            # ssl has it from the session.
            assert again.peer_certificate == CHAIN.ders[0]
    ours = MemoryPeer(client, server_hostname="localhost")
    shake(ours, MemoryPeer(server, server_side=True))
    ours = MemoryPeer(client, server_hostname="localhost", session=ours.obj.session)
    seen, _ = shake(ours, MemoryPeer(server, server_side=True))
    assert ours.obj.session_reused
    assert CERTIFICATE not in seen.handshake_messages("read")


# The server --------------------------------------------------------------------------------------


def test_a_server_serves_many_at_once(tls_version: ssl.TLSVersion) -> None:
    """Connections at the same time, with one context, have an observation each."""
    client = client_context(CHAIN, tls_version, identity=CLIENTS)
    with StdlibServer(CHAIN, tls_version, client_ca=CLIENTS) as server:
        payloads = {str(number).encode("ascii") for number in range(16)}
        with ThreadPoolExecutor(8) as pool:
            done = [
                pool.submit(stdlib_client, server.address, client, payload=payload)
                for payload in payloads
            ]
        clients = [each.result() for each in done]
        servers = [server.observation() for _ in done]
    for seen in (clients, servers):
        assert {each.data for each in seen} == payloads
        assert [each.error for each in seen] == [None] * 16
        assert [each.handshake_messages("read").count(FINISHED) for each in seen] == [1] * 16
    assert {each.client_certificate for each in servers} == {CLIENTS.ders[0]}


def test_a_server_can_be_left_at_any_time() -> None:
    """Clients that say nothing, or are in the middle of something, do not keep the server."""
    before = threading.active_count()
    with StdlibServer(CHAIN) as server:
        silent = server.connect()
        talking = client_context(CHAIN).wrap_socket(server.connect(), server_hostname="localhost")
        talking.sendall(b"x")
        assert talking.recv(1) == b"x"
    assert threading.active_count() == before
    seen = [server.observation() for _ in range(2)]
    assert {each.handshake_completed for each in seen} == {False, True}
    silent.close()
    talking.close()
    with pytest.raises(ConnectionRefusedError):
        server.connect()


def test_a_server_does_not_wait_for_a_client_it_has_refused() -> None:
    """A client that stays connected after a failure does not keep the server either."""
    with StdlibServer(CHAIN, client_ca=CLIENTS) as server:
        client = server.connect()
        client.sendall(b"this is not TLS\n")
        seen = server.observation()
        assert isinstance(seen.error, ssl.SSLError)
    client.close()


def test_a_failure_ends_with_the_alert_and_not_a_reset() -> None:
    """What a client still sends to a server that has refused it does no harm to the alert."""
    client = client_context(CHAIN, ssl.TLSVersion.TLSv1_3)
    with StdlibServer(CHAIN, client_ca=CLIENTS) as server:
        for _ in range(10):
            seen = stdlib_client(server.address, client, payload=bytes(1 << 16))
            assert seen.alert == "certificate_required"
            assert server.observation().error is not None


def test_clients_that_vanish_are_seen() -> None:
    """A client that resets the connection is an observation like others."""
    with StdlibServer(CHAIN) as server:
        client = server.connect()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        seen = server.observation()
        assert seen.error is not None
        assert not seen.handshake_completed
        assert stdlib_client(server.address, client_context(CHAIN)).error is None


def test_a_close_without_goodbye_is_no_error() -> None:
    """Clients often just close; the server has then seen all there was."""
    with StdlibServer(CHAIN) as server:
        with server.connect() as sock:
            client = client_context(CHAIN).wrap_socket(sock, server_hostname="localhost")
            client.sendall(b"bye")
            assert client.recv(3) == b"bye"
            client.close()
        seen = server.observation()
    assert (seen.error, seen.data) == (None, b"bye")


def test_a_server_that_goes_away_is_seen() -> None:
    """A client that gets no echo says so."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        sock, _ = listener.accept()
        with server_context(CHAIN).wrap_socket(sock, server_side=True) as connection:
            connection.recv(4)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with listener:
        seen = stdlib_client(listener.getsockname(), client_context(CHAIN))
        thread.join(10)
    assert seen.handshake_completed
    assert isinstance(seen.error, EOFError)


def test_an_observation_does_not_wait_for_ever() -> None:
    """Without a connection there is nothing to observe."""
    with StdlibServer(CHAIN) as server, pytest.raises(TimeoutError, match="no connection"):
        server.observation(timeout=0.01)


def test_a_context_is_taken_as_it_is() -> None:
    """Arguments that would change a context that is given are refused."""
    with pytest.raises(TypeError, match="made here"):
        StdlibServer(server_context(CHAIN), ssl.TLSVersion.TLSv1_3)


def test_a_context_that_cannot_serve_is_seen() -> None:
    """If the server cannot even wrap the socket, that is what it saw."""
    with StdlibServer(client_context()) as server:
        seen = stdlib_client(server.address, client_context(CHAIN))
        assert seen.error is not None
        mine = server.observation()
    assert isinstance(mine.error, ssl.SSLError)
    assert mine.messages is None


# Memory ------------------------------------------------------------------------------------------


def test_memory_peers_can_talk_on() -> None:
    """After the handshake any number of messages go to and fro."""
    client = MemoryPeer(client_context(CHAIN), server_hostname="localhost")
    server = MemoryPeer(server_context(CHAIN), server_side=True)
    shake(client, server)
    for number in range(3):
        data = str(number).encode("ascii")
        assert exchange(client, server, data) == data
        assert exchange(server, client, data) == data
    assert server.observation.data == b"012"
    assert bytes(client.sent[:1]) == b"\x16"


def test_what_the_wire_carries_is_kept(tls_version: ssl.TLSVersion) -> None:
    """A client that refuses has sent its hello and one alert record, and not a byte more."""
    client = MemoryPeer(client_context(CHAIN, tls_version), server_hostname="localhost")
    server = MemoryPeer(server_context(STRANGERS), server_side=True)
    shake(client, server)
    records = []
    rest = bytes(client.sent)
    while rest:
        size = 5 + int.from_bytes(rest[3:5], "big")
        records.append(rest[0])
        rest = rest[size:]
    # handshake, and alert: with TLS 1.3 inside of what looks like data, and behind the
    # change_cipher_spec of its compatibility mode (RFC 8446 appendix D.4).
    assert records in ([22, 21], [22, 20, 23], [22, 20, 21])


class Silent(ssl.SSLObject):
    """One that never gets to anything."""

    def do_handshake(self) -> None:
        raise ssl.SSLWantReadError


class Broken(ssl.SSLObject):
    """One that fails without a word to the other side."""

    def do_handshake(self) -> None:
        raise ValueError("broken")


def test_a_stalled_handshake_is_an_error() -> None:
    """Two sides that wait for each other are not waited for."""
    context = client_context(CHAIN)
    context.sslobject_class = Silent
    client = MemoryPeer(context, server_hostname="localhost")
    with pytest.raises(RuntimeError, match="stalled"):
        shake(client, MemoryPeer(server_context(CHAIN), server_side=True))


def test_the_end_of_the_stream_is_delivered() -> None:
    """A side that fails without an alert leaves the other with the end of the stream."""
    context = client_context(CHAIN)
    context.sslobject_class = Broken
    client, server = shake(
        MemoryPeer(context, server_hostname="localhost"),
        MemoryPeer(server_context(CHAIN), server_side=True),
    )
    assert isinstance(client.error, ValueError)
    assert isinstance(server.error, ssl.SSLError)
    assert server.alert is None


# Without messages --------------------------------------------------------------------------------


class Foreign(ssl.SSLContext):
    """A context that could be anybody's implementation."""


def test_nothing_is_vouched_for_without_messages(
    transport: Transport, tls_version: ssl.TLSVersion
) -> None:
    """Of a context that is not the standard library's own it is not said that nothing arrived."""
    server = Foreign(ssl.PROTOCOL_TLS_SERVER)
    STRANGERS.configure(server)
    CLIENTS.trust(server)
    server.verify_mode = ssl.CERT_REQUIRED
    client = client_context(CHAIN, tls_version, identity=CLIENTS)
    seen = converse(transport, client, server).server
    assert seen.messages is None
    assert seen.alert == "unknown_ca"  # the error tells
    for name in ("peer_finished", "peer_gave_nothing", "alert_sent"):
        with pytest.raises(LookupError, match="no messages"):
            getattr(seen, name)
    # A connection that is complete can tell its certificate.
    client = client_context(STRANGERS, tls_version, identity=CLIENTS)
    seen = converse(transport, client, server).server
    assert seen.error is None
    assert seen.client_certificate == CLIENTS.ders[0]
    assert seen.alert is None


def test_alerts_without_a_name_are_numbers() -> None:
    """An alert that nobody has named is told by its number; goodbyes are no alerts."""
    goodbye = Message("read", 0x303, 21, b"\x01\x00")
    unknown = Message("read", 0x303, 21, b"\x02\xc8")
    damaged = Message("read", 0x303, 21, b"\x02")
    assert (goodbye.type, unknown.type, damaged.type) == (0, 200, None)
    assert Observation(False, None, (goodbye, damaged), None).alert is None
    assert Observation(False, None, (goodbye, damaged, unknown), None).alert == "200"


def test_a_damaged_certificate_message_is_not_no_certificate() -> None:
    """A length that goes beyond the message is an error, not an absence."""
    from tests.peers import first_certificate

    damaged = Message("read", 0x303, 22, bytes.fromhex("0b000003 ffffff"))
    with pytest.raises(ValueError, match="beyond"):
        first_certificate(damaged)


# The library under test as a peer ----------------------------------------------------------------


def test_pinsock_can_be_the_server(transport: Transport, tls_version: ssl.TLSVersion) -> None:
    """A server that pins its clients fits in: what stdlib clients see of it is told as always."""
    pinsock = pytest.importorskip("pinsock")

    def run(pin: str) -> Conversation:
        server = pinsock.PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=[pin])
        CHAIN.configure(server)
        CLIENTS.trust(server)
        client = client_context(CHAIN, tls_version, identity=CLIENTS)
        return converse(
            transport, client, server, inspect=lambda each: getattr(each, "pin_match", None)
        )

    seen = run(spki_pin(CLIENTS.leaf))
    assert (seen.client.error, seen.server.error) == (None, None)
    assert seen.server.inspected is not None
    assert seen.server.client_certificate == CLIENTS.ders[0]
    seen = run(spki_pin(CHAIN.leaf))
    assert isinstance(seen.server.error, pinsock.PinMismatchError)
    assert seen.client.alert == "bad_certificate"
    assert seen.client.data == b""


def test_pinsock_can_be_the_client(transport: Transport, tls_version: ssl.TLSVersion) -> None:
    """A client that pins its server fits in, and the server sees that it gives nothing."""
    pinsock = pytest.importorskip("pinsock")

    def run(pin: str) -> Conversation:
        client = pinsock.PinnedContext(pins=[pin])
        fix_version(client, tls_version)
        CHAIN.trust(client)
        CLIENTS.configure(client)
        return converse(transport, client, server_context(CHAIN, client_ca=CLIENTS))

    seen = run(spki_pin(CHAIN.certificates[1]))
    assert (seen.client.error, seen.server.error) == (None, None)
    assert seen.server.client_certificate == CLIENTS.ders[0]
    seen = run(spki_pin(STRANGERS.leaf))
    assert isinstance(seen.client.error, pinsock.PinMismatchError)
    assert seen.server.alert == "bad_certificate"
    assert seen.server.peer_gave_nothing
    assert not seen.server.handshake_completed


# conftest ----------------------------------------------------------------------------------------


def test_the_watchdog_ends_a_test_that_hangs(tmp_path: Path) -> None:
    """A test that never returns is ended, with a traceback that names it, past pytest's capture."""
    (tmp_path / "test_hangs.py").write_text(
        "import threading\n"
        "def test_that_hangs():\n"
        "    threading.Event().wait(60)\n"
    )
    program = (
        "import sys, pytest, tests.conftest as conftest\n"
        "conftest.WATCHDOG = 0.2\n"
        "sys.exit(pytest.main(sys.argv[1:], plugins=[conftest]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "-p", "no:cacheprovider", str(tmp_path)],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "Timeout" in done.stderr
    assert "test_that_hangs" in done.stderr
    assert "OpenSSL of ssl: " + ssl.OPENSSL_VERSION in done.stdout
