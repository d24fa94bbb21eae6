"""Bypasses: handshakes without a check, and possession, by peers that break the rules of TLS.

One row is one lie; :data:`SERVERS` has those of servers and :data:`CLIENTS` those of clients, each
with the alert that it is told.  That the same peers connect when they do not lie is a test, too.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pinsock import PinnedContext, PinnedObject, TofuStore
from tests import peers
from tests.certificates import Chain, openssl_spki
from tests.hostile.peers import (
    Hostile,
    Meeting,
    Part,
    Raw,
    Saying,
    api,
    certificate_message,
    client,
    constants,
    extensions,
    meet,
    messages,
    server,
    settings,
    type_of,
    unchanged,
)
from tests.peers import Transport
from tests.test_bypasses_handshakes import session_of
from tests.test_rules import CHAIN, CLIENT, IMPOSTOR, pin, pinned_client, pinned_server

V10, V11 = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3

# Handshake messages of RFC 8446 section 4, RFC 5246 section 7.4, and RFC 8879 section 4.
CLIENT_HELLO, SERVER_HELLO, ENCRYPTED_EXTENSIONS, CERTIFICATE, SERVER_KEY_EXCHANGE = 1, 2, 8, 11, 12
CERTIFICATE_VERIFY, FINISHED, CERTIFICATE_STATUS = 15, 20, 22
# Extensions: RFC 6066 section 8, RFC 7250 section 3, RFC 8446 section 4.2.
STATUS_REQUEST, SERVER_CERTIFICATE_TYPE, PRE_SHARED_KEY, EARLY_DATA = 5, 20, 41, 42
SUPPORTED_VERSIONS, SESSION_TICKET = 43, 35

Change = Callable[[Any], Iterable[Any]]


# How to lie --------------------------------------------------------------------------------------


def instead(changes: Mapping[int, Change]) -> Saying:
    """Say something else instead of the messages with these numbers."""

    def saying(_connection: Hostile, message: Any) -> Iterable[Any]:
        change = changes.get(type_of(message) or 0)
        return (message,) if change is None else change(message)

    return saying


def nothing(_message: Any) -> Iterable[Any]:
    """Leave a message out."""
    return ()


def tampered(name: str) -> Change:
    """Change the last byte of a field."""

    def change(message: Any) -> Iterable[Any]:
        *first, last = getattr(message, name)
        setattr(message, name, bytearray([*first, last ^ 1]))
        return (message,)

    return change


def with_extension(number: int, data: bytes = b"") -> Change:
    """Add an extension."""

    def change(message: Any) -> Iterable[Any]:
        added = extensions.TLSExtension(extType=number).create(bytearray(data))
        message.extensions = [*(message.extensions or ()), added]
        return (message,)

    return change


def with_suite(number: int) -> Change:
    """Select a cipher suite."""

    def change(message: Any) -> Iterable[Any]:
        # In the bytes, as tlslite goes on with the suite that it knows.
        body = bytes(message.write()[4:])
        place = 35 + body[34]
        return (Raw(SERVER_HELLO, body[:place] + number.to_bytes(2, "big") + body[place + 2 :]),)

    return change


def certificates(version: ssl.TLSVersion, *entries: bytes) -> Change:
    """Send these in place of the certificates."""
    return lambda _message: (certificate_message(version, *entries),)


def followed_by(*more: Any) -> Change:
    """Send more behind a message."""
    return lambda message: (message, *more)


def early(message: Any) -> Iterable[Any]:
    """A ClientHello with the first data right behind it (RFC 8446 section 4.2.10)."""
    return (*with_extension(EARLY_DATA)(message), messages.ApplicationData().create(b"early" * 8))


def forged_ticket(message: Any) -> Iterable[Any]:
    """A ClientHello with a ticket that nobody issued (RFC 5077 section 3.2)."""
    message.extensions = [
        each for each in message.extensions if each.extType != SESSION_TICKET
    ]
    return with_extension(SESSION_TICKET, b"x" * 192)(message)


# Servers -----------------------------------------------------------------------------------------


class Row(NamedTuple):
    """One lie."""

    version: ssl.TLSVersion
    saying: Saying
    #: What the liar is told.
    alert: str
    part: Part | None = None
    hearing: Callable[[Any], object] = lambda message: None
    #: It comes when our side has already shown who it is.
    late: bool = False


def spki(chain: Chain) -> bytes:
    """A raw public key (RFC 7250)."""
    return openssl_spki(chain.leaf)


def _also_offers(suite: int) -> Callable[[Any], object]:
    """Have a server believe that its client offers a suite that it does not."""

    def hearing(message: Any) -> None:
        if isinstance(message, messages.ClientHello):
            message.cipher_suites.append(suite)

    return hearing


def _anonymous(suite: int, exchange: str) -> Row:
    made = settings(V12)
    made.keyExchangeNames = [exchange]
    made.cipherNames = ["aes128"]

    def part(connection: Hostile) -> Any:
        return connection.handshakeServerAsync(anon=True, settings=made)

    return Row(V12, unchanged, "illegal_parameter", part, _also_offers(suite))


SESSION_ID = b"i" * 32
ECDHE_ECDSA_AES_128_GCM = 0xC02B


def _forget_offers(message: Any) -> None:
    """Have a server believe that its client offers to resume the session that it has."""
    if isinstance(message, messages.ClientHello):
        message.session_id = SESSION_ID
        message.extensions = [
            each for each in message.extensions if each.extType != SESSION_TICKET
        ]


def _resuming() -> Part:
    session = api.Session()
    session.create(
        *(bytearray(48), bytearray(SESSION_ID), ECDHE_ECDSA_AES_128_GCM),
        *("", None, None, None, False, "localhost"),
        extendedMasterSecret=True,
    )
    return server(CHAIN, V12, sessionCache={SESSION_ID: session})


def _forget_1_3(message: Any) -> None:
    """Have a server believe that its client does not speak TLS 1.3."""
    if isinstance(message, messages.ClientHello):
        message.extensions = [
            each for each in message.extensions if each.extType != SUPPORTED_VERSIONS
        ]


RAW = bytes([2])

SERVERS: dict[str, Row] = {
    # Possession: RFC 5246 section 7.4.3 and 7.4.9, RFC 8446 section 4.4.3 and 4.4.4.
    "key exchange tampered": Row(
        V12, instead({SERVER_KEY_EXCHANGE: tampered("signature")}), "decrypt_error"
    ),
    "verify tampered": Row(
        V13, instead({CERTIFICATE_VERIFY: tampered("signature")}), "decrypt_error"
    ),
    "key exchange with another key": Row(
        V12, unchanged, "decrypt_error", server(CHAIN, V12, key=IMPOSTOR)
    ),
    "verify with another key": Row(
        V13, unchanged, "decrypt_error", server(CHAIN, V13, key=IMPOSTOR)
    ),
    "no key exchange": Row(
        V12, instead({SERVER_KEY_EXCHANGE: nothing}), "unexpected_message"
    ),
    "no verify": Row(V13, instead({CERTIFICATE_VERIFY: nothing}), "unexpected_message"),
    # (The server has proved its key, and has been shown the client's certificate, by then.)
    "finished tampered, 1.2": Row(
        V12, instead({FINISHED: tampered("verify_data")}), "decrypt_error", late=True
    ),
    "finished tampered, 1.3": Row(
        V13, instead({FINISHED: tampered("verify_data")}), "decrypt_error"
    ),
    # No certificate: RFC 8446 section 4.4.2.4.
    "empty certificate, 1.2": Row(V12, instead({CERTIFICATE: certificates(V12)}), "decode_error"),
    "empty certificate, 1.3": Row(V13, instead({CERTIFICATE: certificates(V13)}), "decode_error"),
    "empty certificate and no verify": Row(
        V13,
        instead({CERTIFICATE: certificates(V13), CERTIFICATE_VERIFY: nothing}),
        "decode_error",
    ),
    "no certificate, 1.2": Row(V12, instead({CERTIFICATE: nothing}), "unexpected_message"),
    "no certificate, 1.3": Row(
        V13, instead({CERTIFICATE: nothing, CERTIFICATE_VERIFY: nothing}), "unexpected_message"
    ),
    # Suites without certificates (RFC 5246 appendix A.5, RFC 4279, RFC 5489, RFC 9150).
    "ECDH_anon": _anonymous(0xC018, "ecdh_anon"),
    "DH_anon": _anonymous(0x0034, "dh_anon"),
    **{
        f"suite {name}": Row(V12, instead({SERVER_HELLO: with_suite(number)}), "illegal_parameter")
        for name, number in {
            "NULL": 0x0000,
            "DH_anon_WITH_AES_128_GCM": 0x00A6,
            "PSK_WITH_AES_128_GCM": 0x00A8,
            "DHE_PSK_WITH_AES_128_GCM": 0x00AA,
            "RSA_PSK_WITH_AES_128_GCM": 0x00AC,
            "ECDHE_PSK_WITH_AES_128_CBC": 0xC035,
            "ECDHE_ECDSA_WITH_NULL": 0xC006,
            "SRP_SHA_WITH_AES_128_CBC": 0xC01D,
        }.items()
    },
    "suite SHA256_SHA256": Row(
        V13, instead({SERVER_HELLO: with_suite(0xC0B4)}), "illegal_parameter"
    ),
    "pre-shared key that nobody offered": Row(
        V13,
        instead(
            {
                SERVER_HELLO: with_extension(PRE_SHARED_KEY, bytes(2)),
                CERTIFICATE: nothing,
                CERTIFICATE_VERIFY: nothing,
            }
        ),
        "unsupported_extension",
    ),
    "session that nobody offered": Row(
        V12, unchanged, "unexpected_message", _resuming(), _forget_offers
    ),
    # Raw public keys (CVE-2024-12797): neither offered, nor taken for certificates.
    "raw public key selected, 1.2": Row(
        V12,
        instead(
            {
                SERVER_HELLO: with_extension(SERVER_CERTIFICATE_TYPE, RAW),
                CERTIFICATE: lambda _message: (
                    Raw(CERTIFICATE, len(spki(CHAIN)).to_bytes(3, "big") + spki(CHAIN)),
                ),
            }
        ),
        "unsupported_extension",
    ),
    "raw public key selected, 1.3": Row(
        V13,
        instead(
            {
                ENCRYPTED_EXTENSIONS: with_extension(SERVER_CERTIFICATE_TYPE, RAW),
                CERTIFICATE: lambda _message: (certificate_message(V13, spki(CHAIN)),),
            }
        ),
        "unsupported_extension",
    ),
    "raw public key in its place, 1.2": Row(
        V12,
        instead({CERTIFICATE: lambda _message: (certificate_message(V12, spki(CHAIN)),)}),
        "bad_certificate",
    ),
    "raw public key in its place, 1.3": Row(
        V13,
        instead({CERTIFICATE: lambda _message: (certificate_message(V13, spki(CHAIN)),)}),
        "bad_certificate",
    ),
    # Old versions (RFC 8996).
    "TLS 1.0": Row(V12, unchanged, "protocol_version", server(CHAIN, V10)),
    "TLS 1.1": Row(V12, unchanged, "protocol_version", server(CHAIN, V11)),
    # What nobody has asked for.
    "early data": Row(
        V13, instead({ENCRYPTED_EXTENSIONS: with_extension(EARLY_DATA)}), "unsupported_extension"
    ),
    "status": Row(
        V12, instead({SERVER_HELLO: with_extension(STATUS_REQUEST)}), "unsupported_extension"
    ),
    "status behind the certificate": Row(
        V12,
        instead({CERTIFICATE: followed_by(Raw(CERTIFICATE_STATUS, b"\1\0\0\1x"))}),
        "unexpected_message",
    ),
    "data before the end": Row(
        V12,
        instead({SERVER_KEY_EXCHANGE: followed_by(messages.ApplicationData().create(b"loot"))}),
        "unexpected_message",
    ),
}


def compressed(message: Any) -> Iterable[Any]:
    """A certificate in a form that nobody has asked for (RFC 8879)."""
    made = messages.CompressedCertificate(constants.CertificateType.x509, message.version)
    return (made.create(1, message.cert_chain, bytearray()),)


SERVERS["compressed certificate, 1.2"] = Row(
    V12, instead({CERTIFICATE: compressed}), "unexpected_message"
)
SERVERS["compressed certificate, 1.3"] = Row(
    V13, instead({CERTIFICATE: compressed}), "unexpected_message"
)


def refused(seen: Meeting, context: PinnedContext, store: TofuStore, reports: list[object]) -> None:
    """Nothing passed, nothing is known, nothing was recorded, and nobody was told of a match."""
    assert isinstance(seen.ours.error, ssl.SSLError)
    assert not seen.ours.handshake_completed
    assert seen.match is None
    assert not seen.ours.data
    assert not seen.theirs.data
    assert not list(store)
    assert not context.connections()
    assert not reports


@pytest.mark.parametrize("first_use", [False, True], ids=["pins", "first use"])
@pytest.mark.parametrize("lie", SERVERS)
def test_a_server_that_breaks_the_rules_gets_nothing(
    transport: Transport, lie: str, first_use: bool, tmp_path: Path
) -> None:
    """Whatever it says in place of a certificate and of the proof that it owns the key.

    OpenSSL refuses all of these, and so most of what is shown here is that it is asked to; what is
    ours is that nothing is told or recorded when the right certificate has come (rule 8), and that
    no suite without certificates is offered.
    """
    row = SERVERS[lie]
    store = TofuStore(tmp_path / "known")
    context = pinned_client(store if first_use else pin(CHAIN), row.version)
    if row.version == V12:
        context.set_ciphers("ALL:@SECLEVEL=0")
    reports: list[object] = []
    context.report_callback = reports.append
    part = row.part or server(CHAIN, row.version)
    seen = meet(transport, context, part, row.saying, hearing=row.hearing)
    refused(seen, context, store, reports)
    assert seen.theirs.alert == row.alert
    assert seen.theirs.peer_gave_nothing is not row.late


@pytest.mark.parametrize("first_use", [False, True], ids=["pins", "first use"])
def test_the_same_server_connects_when_it_does_not_lie(
    transport: Transport, tls_version: ssl.TLSVersion, first_use: bool, tmp_path: Path
) -> None:
    """The measure of what is refused here: it is shown the certificate, and given the secret."""
    store = TofuStore(tmp_path / "known")
    context = pinned_client(store if first_use else pin(CHAIN), tls_version)
    seen = meet(transport, context, server(CHAIN, tls_version))
    assert seen.ours.error is None
    assert seen.match is not None
    assert seen.ours.data == b"loot"
    assert seen.theirs.data == b"secret"
    assert seen.theirs.client_certificate == CLIENT.ders[0]
    assert list(store) == ["localhost"] * first_use


@pytest.mark.parametrize("honest", [False, True], ids=["able", "not able"])
def test_a_server_that_could_speak_tls_1_3_is_held_to_it(
    transport: Transport, honest: bool
) -> None:
    """RFC 8446 section 4.1.3: a server's random number says that somebody has made it step back."""
    context = pinned_client(pin(CHAIN), V13)
    context.minimum_version = V12
    made = settings(V12, V12 if honest else V13)
    part = server(CHAIN, V12, settings=made)
    seen = meet(transport, context, part, hearing=_forget_1_3)
    if honest:
        assert seen.ours.version == "TLSv1.2"
        assert seen.match is not None
    else:
        assert seen.theirs.alert == "illegal_parameter"
        assert seen.theirs.peer_gave_nothing
        assert seen.match is None


def _ignore(_message: Any) -> None:
    """Hear what was said."""


def test_a_session_of_another_is_not_resumed_by_its_name(
    transport: Transport, tls_version: ssl.TLSVersion
) -> None:
    """An impostor says that it knows the session that is offered, but not the key in it."""
    context = pinned_client(pin(CHAIN), tls_version)
    context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    honest = peers.server_context(CHAIN, tls_version)
    if tls_version == V12:
        honest.options |= ssl.OP_NO_TICKET  # so that the session has a name of the server's
    session = session_of(context, honest)

    def claims(message: Any) -> Iterable[Any]:
        if tls_version == V12:
            message.session_id = bytearray(session.id)
            return (message,)
        return with_extension(PRE_SHARED_KEY, bytes(2))(message)

    changes = {SERVER_HELLO: claims, CERTIFICATE: nothing, CERTIFICATE_VERIFY: nothing}
    part, hearing = server(IMPOSTOR, V13), _ignore
    if tls_version == V12:
        part, hearing, changes = _resuming(), _forget_offers, {SERVER_HELLO: claims}
    seen = meet(transport, context, part, instead(changes), hearing=hearing, session=session)
    assert isinstance(seen.ours.error, ssl.SSLError)
    assert seen.theirs.alert == "bad_record_mac"
    assert seen.theirs.peer_gave_nothing
    assert not seen.ours.data
    assert seen.match is None


# Clients -----------------------------------------------------------------------------------------


def _with_key() -> Part:
    made = settings(V13)
    made.pskConfigs = [(b"me", b"a key that nobody has")]
    return client(None, V13, settings=made)


CLIENTS: dict[str, Row] = {
    # Possession: RFC 5246 section 7.4.8, RFC 8446 section 4.4.3.
    "verify tampered, 1.2": Row(
        V12, instead({CERTIFICATE_VERIFY: tampered("signature")}), "decrypt_error"
    ),
    "verify tampered, 1.3": Row(
        V13, instead({CERTIFICATE_VERIFY: tampered("signature")}), "decrypt_error"
    ),
    "verify with another key, 1.2": Row(
        V12, unchanged, "decrypt_error", client(CLIENT, V12, key=IMPOSTOR)
    ),
    "verify with another key, 1.3": Row(
        V13, unchanged, "decrypt_error", client(CLIENT, V13, key=IMPOSTOR)
    ),
    "no verify, 1.2": Row(V12, instead({CERTIFICATE_VERIFY: nothing}), "unexpected_message"),
    "no verify, 1.3": Row(V13, instead({CERTIFICATE_VERIFY: nothing}), "unexpected_message"),
    "finished tampered, 1.2": Row(
        V12, instead({FINISHED: tampered("verify_data")}), "decrypt_error"
    ),
    "finished tampered, 1.3": Row(
        V13, instead({FINISHED: tampered("verify_data")}), "decrypt_error"
    ),
    # No certificate: RFC 5246 section 7.4.6, RFC 8446 section 4.4.2.4.
    "empty certificate, 1.2": Row(V12, unchanged, "handshake_failure", client(None, V12)),
    "empty certificate, 1.3": Row(V13, unchanged, "certificate_required", client(None, V13)),
    "no certificate, 1.2": Row(
        V12, instead({CERTIFICATE: nothing}), "unexpected_message", client(None, V12)
    ),
    "no certificate, 1.3": Row(
        V13, instead({CERTIFICATE: nothing}), "unexpected_message", client(None, V13)
    ),
    "raw public key, 1.2": Row(
        V12,
        instead({CERTIFICATE: lambda _message: (certificate_message(V12, spki(CLIENT)),)}),
        "decode_error",
    ),
    "raw public key, 1.3": Row(
        V13,
        instead({CERTIFICATE: lambda _message: (certificate_message(V13, spki(CLIENT)),)}),
        "decode_error",
    ),
    "compressed certificate": Row(V13, instead({CERTIFICATE: compressed}), "unexpected_message"),
    # What takes a certificate's place.
    "pre-shared key": Row(V13, unchanged, "certificate_required", _with_key()),
    "forged ticket": Row(
        V12, instead({CLIENT_HELLO: forged_ticket}), "handshake_failure", client(None, V12)
    ),
    "early data": Row(
        V13, instead({CLIENT_HELLO: early}), "decode_error", client(None, V13)
    ),
    "data before the end": Row(
        V12,
        instead({CERTIFICATE_VERIFY: followed_by(messages.ApplicationData().create(b"loot"))}),
        "unexpected_message",
    ),
    # Old versions (RFC 8996).
    "TLS 1.0": Row(V12, unchanged, "protocol_version", client(CLIENT, V10)),
    "TLS 1.1": Row(V12, unchanged, "protocol_version", client(CLIENT, V11)),
}


@pytest.mark.parametrize("first_use", [False, True], ids=["pins", "first use"])
@pytest.mark.parametrize("lie", CLIENTS)
def test_a_client_that_breaks_the_rules_gets_nothing(
    transport: Transport, lie: str, first_use: bool, tmp_path: Path
) -> None:
    """Whatever it says in place of a certificate and of the proof that it owns the key.

    (See the test of the servers for what of this is ours.)
    """
    row = CLIENTS[lie]
    store = TofuStore(tmp_path / "known")
    context = pinned_server(store.peer("client") if first_use else pin(CLIENT), row.version)
    reports: list[object] = []
    context.report_callback = reports.append
    seen = meet(transport, context, row.part or client(CLIENT, row.version), row.saying)
    refused(seen, context, store, reports)
    assert seen.theirs.alert == row.alert


@pytest.mark.parametrize("first_use", [False, True], ids=["pins", "first use"])
def test_the_same_client_is_served_when_it_does_not_lie(
    transport: Transport, tls_version: ssl.TLSVersion, first_use: bool, tmp_path: Path
) -> None:
    """The measure of what is refused here."""
    store = TofuStore(tmp_path / "known")
    context = pinned_server(store.peer("client") if first_use else pin(CLIENT), tls_version)
    seen = meet(transport, context, client(CLIENT, tls_version))
    assert seen.ours.error is None
    assert seen.match is not None
    assert seen.ours.data == b"loot"
    assert seen.theirs.data == b"secret"
    assert list(store) == ["client"] * first_use


# After the handshake -----------------------------------------------------------------------------


def _second_hello(connection: Hostile) -> Iterable[Any]:
    """The ClientHello once more: a client that wants another handshake."""
    first = next(each for each in connection.observation.messages or () if each.data[0] == 1)
    return (Raw(CLIENT_HELLO, first.data[4:]),)


def _hello_request(_connection: Hostile) -> Iterable[Any]:
    """A server that wants another handshake (RFC 5246 section 7.4.1.1)."""
    return (messages.HelloRequest(),)


def _request(_connection: Hostile) -> Iterable[Any]:
    """Two requests for a certificate (RFC 8446 section 4.6.2)."""
    for context in (b"first", b"second"):
        made = messages.CertificateRequest((3, 4))
        yield made.create(context=context, sig_algs=[(4, 3)])


@pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])
def test_another_handshake_is_refused(
    transport: Transport, tls_version: ssl.TLSVersion, server_side: bool
) -> None:
    """Renegotiation is off (CVE-2009-3555), and TLS 1.3 has none."""
    if server_side:
        context, part = pinned_server(pin(CLIENT), tls_version), client(CLIENT, tls_version)
        afterwards: Callable[[Hostile], Iterable[Any]] = _second_hello
    else:
        context, part = pinned_client(pin(CHAIN), tls_version), server(CHAIN, tls_version)
        afterwards = _hello_request
    seen = meet(transport, context, part, afterwards=afterwards)
    assert seen.ours.handshake_completed
    assert seen.theirs.alert == (
        "no_renegotiation" if tls_version == V12 else "unexpected_message"
    )
    assert seen.theirs.handshake_messages("read").count(FINISHED) == 1


def test_a_client_that_cannot_be_asked_late_gives_nothing(transport: Transport) -> None:
    """A request for its certificate is an error, if it has not said that it takes any."""
    context = pinned_client(pin(CHAIN), V13)
    part = server(CHAIN, V13, reqCert=False)
    seen = meet(transport, context, part, afterwards=_request)
    assert seen.ours.handshake_completed
    assert seen.theirs.alert == "unexpected_message"
    assert seen.theirs.client_certificate is None


@pytest.mark.parametrize("lie", [None, CERTIFICATE_VERIFY, FINISHED])
def test_a_late_certificate_without_proof_is_no_match(
    transport: Transport, lie: int | None
) -> None:
    """A client that is asked after the handshake has to prove its key as well (rule 8)."""
    context = pinned_server(pin(CLIENT), V13)
    context.post_handshake_auth = True
    asked: list[PinnedObject] = []

    def ask(connection: Any) -> None:
        connection.verify_client_post_handshake()
        asked.append(connection)

    def saying(_connection: Hostile, message: Any) -> Iterable[Any]:
        if lie is not None and asked and type_of(message) == lie:
            field = "signature" if lie == CERTIFICATE_VERIFY else "verify_data"
            return tampered(field)(message)
        return (message,)

    seen = meet(transport, context, client(CLIENT, V13), saying, inspect=ask)
    assert asked
    assert seen.ours.handshake_completed
    assert seen.theirs.handshake_messages("write").count(CERTIFICATE) == 1
    assert (seen.match is None) is (lie is not None)
    assert seen.theirs.alert == (None if lie is None else "decrypt_error")
