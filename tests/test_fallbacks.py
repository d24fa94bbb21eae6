"""What happens when something is missing, is too old or too new, or says no.

These are the paths that no ordinary connection takes.  Each has to end in a clear error, or in the
one behaviour that it promises; never in silence.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
from datetime import datetime, timezone
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from OpenSSL import SSL
from OpenSSL._util import ffi as _ffi

import pinsock
from pinsock import Pin, PinError, PinnedContext, PinSet, _context, _engine, _openssl
from pinsock._session import Binding, PinnedSession
from pinsock._verdict import Verdict
from tests import peers
from tests.certificates import Chain, make_chain, make_key
from tests.peers import MemoryPeer, shake

CHAIN = make_chain(2)
PIN = Pin.from_certificate(CHAIN.ders[0])
WRONG = Pin("spki", "sha256", bytes(32))


class _Without:
    """The bindings, save one name."""

    def __init__(self, missing: str) -> None:
        self._missing = missing

    def __getattr__(self, name: str) -> object:
        if name == self._missing:
            raise AttributeError(name)
        return getattr(SSL._lib, name)  # type: ignore[attr-defined]  # the bindings have no public name


def connected(context: PinnedContext) -> MemoryPeer:
    """A client of ours, shaken with a server of the standard library."""
    CHAIN.trust(context)
    ours = MemoryPeer(context, server_hostname="localhost")
    shake(ours, MemoryPeer(peers.server_context(CHAIN), server_side=True))
    assert ours.record.error is None
    return ours


def test_a_curve_can_be_set_without_the_newer_binding(monkeypatch: pytest.MonkeyPatch) -> None:
    """cryptography 46 binds no SSL_CTX_set1_curves_list; the older call does it there."""
    monkeypatch.setattr(_openssl, "_lib", _Without("SSL_CTX_set1_curves_list"))
    context = PinnedContext(pins=PIN)
    context.set_ecdh_curve("secp384r1")
    assert connected(context).obj.group() == "secp384r1"  # type: ignore[attr-defined]  # ours


def test_a_missing_private_name_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tripwire names what a new release has moved."""
    assert _openssl.missing_names() == []
    monkeypatch.setattr(_openssl, "_lib", _Without("SSL_read"))
    assert _openssl.missing_names() == ["OpenSSL._util.lib.SSL_read"]


def test_what_openssl_refuses_is_an_ssl_error() -> None:
    """A call that returns 0, -1 or NULL raises with whatever OpenSSL left as the reason."""
    for result in (0, -1, None):
        with pytest.raises(ssl.SSLError, match="A failure in the SSL library occurred"):
            _openssl._check(result)
    with pytest.raises(ssl.SSLError, match="ASN1"):
        _openssl.read_der_certificates(b"0\x03nonsense")


def test_a_damaged_pem_certificate_is_an_ssl_error() -> None:
    """Not an end of the file: what stands in the block cannot be read."""
    damaged = CHAIN.root_pem.replace("MII", "!!!", 1)
    with pytest.raises(ssl.SSLError, match="PEM"):
        _openssl.read_pem_certificates(damaged.encode())


def test_a_private_key_is_never_asked_for_on_the_terminal() -> None:
    """An encrypted key without a password, or with one too long, is an error and no prompt."""
    pem = make_key("p256").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    assert _openssl.read_private_key(pem, None)
    pem = make_key("p256").private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    assert _openssl.read_private_key(pem, b"secret")
    for password in (None, b"wrong", b"x" * 10000):
        with pytest.raises(ssl.SSLError):
            _openssl.read_private_key(pem, password)


def test_an_event_of_no_connection_is_refused() -> None:
    """A verify event whose connection is unknown is not let pass."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    connection = SSL.Connection(context, None)
    _openssl.verify_with_pins(connection._ssl, post_handshake=False)  # and no handler
    connection.set_connect_state()
    connection.set_tlsext_host_name(b"localhost")
    theirs = MemoryPeer(peers.server_context(CHAIN), server_side=True)
    with pytest.raises(SSL.WantReadError):
        connection.do_handshake()
    theirs.incoming.write(connection.bio_read(65536))
    theirs.step()
    connection.bio_write(theirs.outgoing.read())
    with pytest.raises(SSL.Error, match="certificate verify failed"):
        connection.do_handshake()


@pytest.mark.parametrize("raised", [KeyboardInterrupt, RuntimeError])
def test_what_is_raised_while_the_name_is_read_comes_out(
    raised: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the servername callback keeps what is raised in it for the call that OpenSSL is in."""

    def raising(self: object, owner: object, name: bytes | None) -> int | None:
        raise raised("in the callback")

    monkeypatch.setattr(PinnedContext, "_on_servername", raising)
    server = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=None)
    CHAIN.configure(server)
    server.sni_callback = lambda *_: None
    theirs = server.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
    client = MemoryPeer(peers.client_context(CHAIN), server_hostname="localhost")
    client.step()
    theirs._sslobj._bios.incoming.write(client.outgoing.read())  # type: ignore[attr-defined]  # the test's way in
    with pytest.raises(raised, match="in the callback"):
        theirs.do_handshake()


def test_a_servername_without_a_connection_is_refused() -> None:
    """A ClientHello whose connection is unknown gets handshake_failure."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    _openssl.set_servername_callback(context)
    connection = SSL.Connection(context, None)
    connection.set_accept_state()
    client = MemoryPeer(peers.client_context(CHAIN), server_hostname="localhost")
    client.step()
    connection.bio_write(client.outgoing.read())
    with pytest.raises(SSL.Error, match="callback failed"):
        connection.do_handshake()
    client.incoming.write(connection.bio_read(65536))
    client.step()
    assert client.observation.alert == "handshake_failure"


@pytest.mark.parametrize("side", ["client", "server"])
def test_what_is_raised_while_a_key_is_asked_for_comes_out(
    side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a callback for pre-shared keys cannot take itself is kept for the call, too."""

    def interrupted(*_arguments: object) -> None:
        raise KeyboardInterrupt("in the callback")

    monkeypatch.setattr(PinnedContext, f"_on_psk_{side}", interrupted)
    client, server = PinnedContext(pins=None), PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=None)
    client.check_hostname = False
    for context in (client, server):
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("PSK")
    client.set_psk_client_callback(lambda hint: ("me", b"key"))
    server.set_psk_server_callback(lambda identity: b"key")
    bios = [ssl.MemoryBIO() for _ in range(2)]
    ours = client.wrap_bio(bios[0], bios[1])
    theirs = server.wrap_bio(bios[1], bios[0], server_side=True)

    def shake_hands() -> None:
        for end in (ours, theirs) * 3:
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()

    with pytest.raises(KeyboardInterrupt, match="in the callback"):
        shake_hands()


@pytest.mark.parametrize("hook", ["_choose_protocol", "_log_secret"])
@pytest.mark.parametrize("raised", [KeyboardInterrupt, RuntimeError])
def test_what_is_raised_while_a_server_is_asked_comes_out(
    hook: str,
    raised: type[BaseException],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    tls_version: ssl.TLSVersion,
) -> None:
    """Also these callbacks keep what is raised in them, and then there is no handshake."""

    def raising(self: object, _asked: object) -> None:
        raise raised("in the callback")

    monkeypatch.setattr(PinnedContext, hook, raising)
    made = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=None)
    CHAIN.configure(made)
    made.set_alpn_protocols(["h2"])
    made.keylog_filename = str(tmp_path / "secrets")
    near = peers.client_context(CHAIN, tls_version)
    near.set_alpn_protocols(["h2"])
    client = MemoryPeer(near, server_hostname="localhost")
    server = MemoryPeer(made, server_side=True)

    def shake_hands() -> None:
        for _ in range(2):
            client.step()
            server.incoming.write(client.outgoing.read())
            with contextlib.suppress(ssl.SSLWantReadError):
                server.obj.do_handshake()
            client.incoming.write(server.outgoing.read())

    with pytest.raises(raised, match="in the callback"):
        shake_hands()
    with pytest.raises(PinError, match="without the check"):
        server.obj.do_handshake()


def test_protocols_are_not_chosen_without_a_connection() -> None:
    """A ClientHello whose connection is unknown is refused."""
    made = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=None)
    CHAIN.configure(made)
    made.set_alpn_protocols(["h2"])
    connection = SSL.Connection(made._snapshot(pinned=False), None)
    connection.set_accept_state()
    near = peers.client_context(CHAIN)
    near.set_alpn_protocols(["h2"])
    client = MemoryPeer(near, server_hostname="localhost")
    client.step()
    connection.bio_write(client.outgoing.read())
    with pytest.raises(SSL.Error):
        connection.do_handshake()
    client.incoming.write(connection.bio_read(65536))
    client.step()
    assert client.observation.alert == "120"  # no_application_protocol


def test_a_key_is_not_asked_for_without_a_connection() -> None:
    """OpenSSL calls with a connection that is not known: no key, no message, and no secret."""
    pointer = SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)._ssl
    null = _ffi.NULL
    assert _openssl._on_psk_client(pointer, null, null, 0, null, 0) == 0
    assert _openssl._on_psk_server(pointer, null, null, 0) == 0
    assert _openssl._on_message(0, 0, 0, null, 0, pointer, null) is None
    assert _openssl._on_secret(pointer, null) is None


def test_a_callback_that_comes_when_there_is_none_goes_on() -> None:
    """A context whose sni_callback was taken away in the meantime goes on without."""
    assert PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=None)._on_servername(None, b"name") is None


def test_an_event_without_pins_has_the_answer_of_openssl() -> None:
    """An engine that has no pins neither forgives nor refuses."""
    engine = PinnedContext(pins=None).wrap_bio(
        ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost"
    )._sslobj
    assert engine is not None
    assert engine.on_verify(0, 0, CHAIN.ders[0]) == 0
    assert engine.on_verify(0, 10, CHAIN.ders[0]) == 10


def test_there_is_no_session_before_a_connection() -> None:
    """Neither to OpenSSL nor to us."""
    connection = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
    assert _openssl.get_session(connection._ssl) is None


def test_the_error_report_leaves_out_what_it_cannot_read() -> None:
    """A chain that our reader cannot slice is reported with its certificate pin alone."""
    (position,) = _engine._describe((b"\x30\x03\x02\x01\x00",))
    assert (position.subject, position.not_after, position.pin) == ("(unreadable)", None, None)
    assert position.certificate_pin.startswith("cert-sha256/")
    assert "cannot be read" in str(position)


def test_the_context_can_be_switched_before_and_after_a_handshake() -> None:
    """Before it the new pins hold; afterwards all has been judged, and nothing changes."""
    first, second = PinnedContext(pins=WRONG), PinnedContext(pins=PIN)
    for context in (first, second):
        CHAIN.trust(context)
    ours = MemoryPeer(first, server_hostname="localhost")
    ours.obj.context = second
    shake(ours, MemoryPeer(peers.server_context(CHAIN), server_side=True))
    assert ours.record.error is None
    match = ours.obj.pin_match  # type: ignore[attr-defined]  # ours
    assert match is not None
    ours.obj.context = first
    assert ours.obj.context is first
    assert ours.obj.pin_match == match  # type: ignore[attr-defined]  # ours


def test_a_plain_context_cannot_take_over() -> None:
    """To switch to an ssl.SSLContext would be to lose the pins."""
    ours = PinnedContext(pins=PIN).wrap_bio(
        ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost"
    )
    with pytest.raises(TypeError, match="PinnedContext"):
        ours.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def test_members_that_a_newer_python_brings_are_refused() -> None:
    """They raise until they are mirrored; private names and what is known are left alone."""

    class Context:
        pass

    _context._refuse_unknown(Context, ["set_everything", "_private", "wrap_bio"])
    with pytest.raises(NotImplementedError, match="set_everything"):
        Context().set_everything("x25519")  # type: ignore[attr-defined]  # made just now
    assert not hasattr(Context, "_private")
    assert not hasattr(Context, "wrap_bio")


def test_what_a_newer_ssl_asks_of_its_object_is_answered() -> None:
    """CPython 3.15 asks for these."""
    engine = PinnedContext(pins=None).wrap_bio(
        ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost"
    )._sslobj
    assert engine is not None
    assert engine.compression() is None
    assert engine.uses_ktls_for_send() is False
    assert engine.uses_ktls_for_recv() is False
    for name in ("client_sigalg", "server_sigalg"):
        refused = getattr(engine, name)
        with pytest.raises(NotImplementedError):
            refused()


def test_accessors_of_a_socket_without_tls_say_so() -> None:
    """Before the connection there is nothing to tell."""
    with socket.socket() as plain, PinnedContext(pins=PIN).wrap_socket(
        plain, server_hostname="localhost"
    ) as sock:
        assert sock.pin_match is None
        for call in (sock.group, sock.get_verified_chain, sock.get_unverified_chain):
            with pytest.raises(ValueError, match="No SSL wrapper"):
                call()


def test_an_engine_whose_socket_is_gone_says_so() -> None:
    """It holds its socket weakly, and knows when there is nothing to wait for."""
    left, right = socket.socketpair()
    with right:
        sock = PinnedContext(pins=PIN).wrap_socket(
            left, server_hostname="localhost", do_handshake_on_connect=False
        )
        engine = sock._sslobj
        assert engine is not None
        sock.close()
        engine.keep_nonblocking()  # there is no descriptor, and nothing to do
        for _ in range(2):
            with pytest.raises(ssl.SSLError, match=r"closed|over"):
                engine.do_handshake()
        with pytest.raises(OSError, match="Bad file descriptor"):
            engine._wait(2, None, "read")
        del sock
        with pytest.raises(ssl.SSLError, match="closed"):
            engine._wait(2, None, "read")


def test_default_certificates_that_cannot_be_read_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As with ssl; but the log tells."""
    damaged = tmp_path / "ca.pem"
    damaged.write_text(CHAIN.root_pem.replace("MII", "!!!", 1))
    monkeypatch.setenv("SSL_CERT_FILE", str(damaged))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    with caplog.at_level(logging.WARNING, "pinsock"):
        pinsock.create_default_context(pins=PIN)
    assert str(damaged) in caplog.text


def test_the_last_unanchored_certificate_must_have_readable_dates() -> None:
    """What OpenSSL did not look at and we cannot read is refused."""
    verdict = Verdict(PinSet({"leaf": PIN}, trust="pins"), datetime.now(timezone.utc))
    assert verdict.event(1, 20, b"\x30\x00") == 0
    assert verdict.event(0, 0, CHAIN.ders[0]) == 14
    assert not verdict.accepted


def test_two_certificates_of_one_context_keep_their_chains_apart() -> None:
    """RSA and ECDSA side by side: the client gets the chain that belongs to its certificate."""
    rsa: Chain = make_chain(3, kinds="rsa", pool=7)
    ecdsa: Chain = make_chain(3, kinds="p256", pool=8)
    server = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=None)
    peers.fix_version(server, ssl.TLSVersion.TLSv1_2)
    rsa.configure(server)
    ecdsa.configure(server)
    for chain, kind in ((rsa, "RSA"), (ecdsa, "ECDSA")):
        client = PinnedContext(pins=Pin.from_certificate(chain.ders[0]))
        client.set_ciphers(f"ECDHE-{kind}-AES128-GCM-SHA256")
        chain.trust(client)
        ours = MemoryPeer(client, server_hostname="localhost")
        shake(ours, MemoryPeer(server, server_side=True))
        assert ours.record.error is None
        assert ours.obj.get_unverified_chain() == list(chain.ders[:-1])  # type: ignore[attr-defined]  # ours
    # A certificate loaded again takes the place of the one of its kind, chain and all.
    renewed = make_chain(3, kinds="p256", pool=9)
    renewed.configure(server)
    client = PinnedContext(pins=Pin.from_certificate(renewed.ders[0]))
    renewed.trust(client)
    ours = MemoryPeer(client, server_hostname="localhost")
    shake(ours, MemoryPeer(server, server_side=True))
    assert ours.record.error is None
    assert ours.obj.get_unverified_chain() == list(renewed.ders[:-1])  # type: ignore[attr-defined]  # ours


def test_a_pin_source_error_keeps_its_cause() -> None:
    """The PinError that wraps it says what happened, and carries the exception."""

    def broken(_name: str | None) -> PinSet | None:
        raise KeyError("no such host")

    ours = PinnedContext(pins=broken).wrap_bio(
        ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost"
    )
    with pytest.raises(PinError, match="no such host") as caught:
        ours.do_handshake()
    assert isinstance(caught.value.__cause__, KeyError)


def test_what_is_raised_for_no_connection_is_dropped() -> None:
    """There is nobody to tell; the answer to OpenSSL is no all the same."""
    _openssl._keep(None, KeyboardInterrupt())


def test_a_certificate_that_openssl_passed_over_is_refused() -> None:
    """Only the last of an incomplete chain may have been: any other was not checked."""
    chain = make_chain(3)
    verdict = Verdict(PinSet({"leaf": Pin.from_certificate(chain.ders[0])}, trust="pins"))
    assert verdict.event(1, 19, chain.ders[1]) == 0
    assert verdict.event(0, 0, chain.ders[0]) == 28
    assert not verdict.accepted


def test_report_only_forgives_nothing_afterwards_either() -> None:
    """A mismatch that went through on an authority's word is not followed by "no authority"."""
    verdict = Verdict(PinSet(WRONG, trust="pins", enforce=False))
    assert verdict.event(0, 0, CHAIN.ders[0]) == 0
    assert verdict.accepted
    assert verdict.event(0, 20, CHAIN.ders[0]) == 20
    assert not verdict.accepted


def test_a_session_is_for_clients_and_for_before(tls_version: ssl.TLSVersion) -> None:
    """ssl refuses to set it on a server, and once the handshake has begun; so do we."""
    context = PinnedContext(ssl.PROTOCOL_TLS_CLIENT, pins=PIN)
    peers.fix_version(context, tls_version)
    ours = connected(context)
    session = ours.obj.session
    with pytest.raises(ValueError, match="after handshake"):
        ours.obj.session = session
    server = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=None)
    theirs = server.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
    made = PinnedSession(b"", Binding(server, None, None, None, None))
    with pytest.raises(ValueError, match="server-side"):
        theirs.session = made  # type: ignore[assignment]  # ours, where ssl has its own


@pytest.mark.parametrize("step", [1, 3, 5, 1000])
def test_the_last_records_may_come_in_pieces(tls_version: ssl.TLSVersion, step: int) -> None:
    """A goodbye that arrives bit by bit, with clear text behind it."""
    context = PinnedContext(pins=PIN)
    CHAIN.trust(context)
    peers.fix_version(context, tls_version)
    ours = MemoryPeer(context, server_hostname="localhost")
    theirs = MemoryPeer(peers.server_context(CHAIN), server_side=True)
    shake(ours, theirs)
    with pytest.raises(ssl.SSLWantReadError):
        ours.obj.unwrap()
    ours.flush(theirs)
    theirs.obj.unwrap()
    goodbye = theirs.outgoing.read()
    for start in range(0, len(goodbye), step):
        with pytest.raises(ssl.SSLWantReadError):
            ours.obj.unwrap()
        ours.incoming.write(goodbye[start : start + step])
    ours.incoming.write(b"clear text")
    assert ours.obj.unwrap() is None
    assert ours.incoming.read() == b"clear text"


def test_what_was_moved_too_far_is_given_back(tls_version: ssl.TLSVersion) -> None:
    """Read first, which takes all there is, and then say goodbye."""
    context = PinnedContext(pins=PIN)
    peers.fix_version(context, tls_version)
    CHAIN.trust(context)
    ours = MemoryPeer(context, server_hostname="localhost")
    theirs = MemoryPeer(peers.server_context(CHAIN), server_side=True)
    shake(ours, theirs)
    with pytest.raises(ssl.SSLWantReadError):
        theirs.obj.unwrap()
    ours.incoming.write(theirs.outgoing.read() + b"clear text")
    assert ours.obj.read(1) == b""
    assert ours.obj.unwrap() is None
    assert ours.incoming.read() == b"clear text"


def test_a_socket_that_was_never_connected_can_be_detached() -> None:
    """There is no engine to tell."""
    plain = socket.socket()
    sock = PinnedContext(pins=PIN).wrap_socket(plain, server_hostname="localhost")
    socket.close(sock.detach())
    assert sock.fileno() == -1
    assert sock.detach() == -1


def test_pre_shared_keys_are_refused_where_there_are_pins() -> None:
    """On both sides, whichever was there first, and also for pins of one connection."""
    client, server = PinnedContext(pins=PIN), PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=PIN)
    with pytest.raises(NotImplementedError, match="nothing to pin"):
        client.set_psk_client_callback(lambda hint: (None, b"key"))
    with pytest.raises(NotImplementedError, match="nothing to pin"):
        server.set_psk_server_callback(lambda identity: b"key")
    client.pins = None
    client.set_psk_client_callback(lambda hint: (None, b"key"))
    bios = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(NotImplementedError, match="nothing to pin"):
        client.wrap_bio(*bios, server_hostname="localhost", pins=PIN)
    client.wrap_bio(*bios, server_hostname="localhost")
    client.pins = PIN
    with pytest.raises(NotImplementedError, match="nothing to pin"):
        client.wrap_bio(*bios, server_hostname="localhost")
    client.set_psk_client_callback(None)
    client.wrap_bio(*bios, server_hostname="localhost")


def test_without_a_file_of_default_certificates_the_directory_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is not there is passed over."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    monkeypatch.setenv("SSLKEYLOGFILE", "")
    context = pinsock.create_default_context(pins=PIN)
    assert context.keylog_filename is None
    assert context.get_ca_certs() == []


@pytest.mark.parametrize("option", [ssl.OP_NO_COMPRESSION, ssl.Options.OP_ENABLE_MIDDLEBOX_COMPAT])
def test_an_option_that_cannot_be_switched_off_says_so(option: ssl.Options) -> None:
    """OpenSSL sets some itself, and the bindings can only add to them."""
    context = PinnedContext(pins=PIN)
    context.options &= ~option
    with pytest.raises(NotImplementedError, match=str(option.name)):
        context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost")
