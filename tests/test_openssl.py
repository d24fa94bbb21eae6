"""The door to OpenSSL: tripwires for the private names, and errors that are those of ``ssl``.

Rule 11: what goes wrong in OpenSSL raises what it raises in :mod:`ssl`.  The errors are provoked on
both, by the same peers, and compared: class, number, library, reason, verification code and text.
"""

from __future__ import annotations

import contextlib
import errno
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography import x509

from pinsock import PinnedContext, PinSet, _context, _openssl
from tests import certificates, peers
from tests.certificates import Chain, make_chain
from tests.peers import MemoryPeer, Transport, converse

#: Seconds; reached only if something is broken.
TIMEOUT = 10.0

CHAIN = make_chain(3)


# Tripwires ---------------------------------------------------------------------------------------


def test_the_private_names_of_pyopenssl_are_there() -> None:
    """Every name that _openssl takes from pyOpenSSL and cryptography exists in these releases."""
    missing = _openssl.missing_names()
    assert missing == [], (
        f"this pyOpenSSL or cryptography has moved {missing}: find out what took their place, "
        "mend pinsock/_openssl.py, and keep its table PRIVATE_NAMES in step"
    )


def test_the_private_names_of_ssl_are_there() -> None:
    """Every private name of ssl that the package relies on exists on this Python."""
    missing = [
        f"{getattr(owner, '__name__', owner)}.{name}"
        for owner, names in _context.PRIVATE_NAMES.items()
        for name in names
        if not hasattr(owner, name)
    ]
    assert missing == [], (
        f"this Python has moved {missing}: find out what took their place, mend the module that "
        "uses them, and keep PRIVATE_NAMES in pinsock/_context.py in step"
    )


def test_a_name_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tripwire says which name it is, and of what."""
    names = {"OpenSSL._util.lib": ("SSL_read", "SSL_gone"), "OpenSSL.SSL.Connection": ("_gone",)}
    monkeypatch.setattr(_openssl, "PRIVATE_NAMES", names)
    assert _openssl.missing_names() == [
        "OpenSSL._util.lib.SSL_gone",
        "OpenSSL.SSL.Connection._gone",
    ]


# Errors ------------------------------------------------------------------------------------------


class Failure(NamedTuple):
    """What there is to know of an error."""

    type: type[Exception]
    text: str
    arguments: int
    errno: int | None
    library: object
    reason: object
    verify_code: object
    verify_message: object


def failure(error: Exception | None) -> Failure:
    assert error is not None
    return Failure(
        type(error),
        re.sub(r" \(_ssl\.c:\d+\)", "", str(error)),
        len(error.args),
        getattr(error, "errno", None),
        *(
            getattr(error, name, "not there")
            for name in ("library", "reason", "verify_code", "verify_message")
        ),
    )


# Where the two OpenSSL libraries word the same thing differently.
_REWORDED = (
    (r" or the system clock is incorrect", ""),
    (r"\b(sslv3|ssl/tls|tls) alert", "alert"),
    (r"self signed", "self-signed"),
    # From 3.2 on a failed record layer says so behind the reason, and ssl shows the latest error;
    # up to 3.5 also for what is no record at all.
    (
        r"RECORD_LAYER_FAILURE|record layer failure|PACKET_LENGTH_TOO_LONG|packet length too long"
        r"|WRONG_VERSION_NUMBER|wrong version number",
        "RECORD",
    ),
)


def same(ours: Failure, theirs: Failure) -> None:
    """Compare two errors, but for what is the choice of either OpenSSL."""
    for field, one, other in zip(Failure._fields, ours, theirs, strict=True):
        for pattern, word in _REWORDED:
            one, other = (
                re.sub(pattern, word, text) if isinstance(text, str) else text
                for text in (one, other)
            )
        assert (field, one) == (field, other)


# The pins match in all of these: it is not they that fail.
FLAVOURS = ("ssl", "unpinned", "pinned")


def client(
    flavour: str, version: ssl.TLSVersion | None, trusted: Chain, pinned: Chain | None = None
) -> ssl.SSLContext:
    made: ssl.SSLContext
    if flavour == "ssl":
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    else:
        pins = PinSet({"any": certificates.spki_pin((pinned or CHAIN).leaf)})
        made = PinnedContext(pins=pins if flavour == "pinned" else None)
    if version is not None:
        peers.fix_version(made, version)
    trusted.trust(made)
    return made


class Case(NamedTuple):
    """A server's chain, the chain that is trusted, and the name that is asked for."""

    chain: Chain
    trusted: Chain
    hostname: str
    verify_code: int


_EXPIRED_CA = make_chain(2)

CASES: dict[str, Callable[[], Case]] = {
    "unknown authority": lambda: Case(CHAIN, make_chain(2), "localhost", 20),
    "other host name": lambda: Case(CHAIN, CHAIN, "example.com", 62),
    "other address": lambda: Case(CHAIN, CHAIN, "127.0.0.2", 64),
    "other IPv6 address": lambda: Case(CHAIN, CHAIN, "::1", 64),
    "expired": lambda: _case(make_chain(3, validity={0: "expired"}), 10),
    "not yet valid": lambda: _case(make_chain(3, validity={0: "future"}), 9),
    "expired intermediate": lambda: _case(make_chain(3, validity={1: "expired"}), 10),
    "expired root": lambda: _case(make_chain(3, validity={2: "expired"}), 10),
    "self-signed": lambda: Case(make_chain(1), CHAIN, "localhost", 18),
    "wrong purpose": lambda: _case(make_chain(2, purpose="client"), 26),
    "path too long": lambda: _case(make_chain(4, path_lengths={3: 0}), 25),
    "name constraint": lambda: _case(
        make_chain(
            3,
            name_constraints={
                1: x509.NameConstraints([x509.DNSName("example.com")], None)
            },
        ),
        47,
    ),
}


def _case(chain: Chain, code: int) -> Case:
    return Case(chain, chain, "localhost", code)


@pytest.mark.parametrize("name", CASES)
def test_a_chain_that_fails_raises_what_ssl_raises(
    name: str, transport: Transport, tls_version: ssl.TLSVersion
) -> None:
    """Class, text, number, library, reason, verify_code and verify_message are those of ssl."""
    case = CASES[name]()
    server = peers.server_context(case.chain, tls_version)
    seen = {
        flavour: converse(
            transport,
            client(flavour, tls_version, case.trusted, case.chain),
            server,
            server_hostname=case.hostname,
        )
        for flavour in FLAVOURS
    }
    expected = failure(seen["ssl"].client.error)
    assert expected.type is ssl.SSLCertVerificationError
    assert expected.verify_code == case.verify_code
    for flavour in FLAVOURS[1:]:
        same(failure(seen[flavour].client.error), expected)
        assert seen[flavour].server.alert == seen["ssl"].server.alert


def test_a_root_that_is_sent_and_not_trusted_raises_what_ssl_raises(
    transport: Transport, tls_version: ssl.TLSVersion
) -> None:
    """A self-signed certificate in the chain (19)."""
    server = peers.server_context(CHAIN, tls_version, include_root=True)
    errors = [
        failure(
            converse(transport, client(flavour, tls_version, make_chain(2)), server).client.error
        )
        for flavour in FLAVOURS
    ]
    assert errors[0].verify_code == 19
    for error in errors[1:]:
        same(error, errors[0])


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_failed_chain_stays_failed(
    flavour: str, transport: Transport, tls_version: ssl.TLSVersion
) -> None:
    """After a failed verification no call goes through."""
    ours = MemoryPeer(client(flavour, tls_version, make_chain(2)), server_hostname="localhost")
    theirs = MemoryPeer(peers.server_context(CHAIN, tls_version), server_side=True)
    peers.shake(ours, theirs)
    assert isinstance(ours.record.error, ssl.SSLCertVerificationError)
    for call in (ours.obj.do_handshake, ours.obj.read, lambda: ours.obj.write(b"x")):
        with pytest.raises(ssl.SSLError):
            call()


# Failures that are no certificate's --------------------------------------------------------------


class Stub:
    """A server that says what it is told to, and then does as it is told."""

    def __init__(self, speak: Callable[[socket.socket], None]) -> None:
        self._speak = speak
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Stub:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._thread.join(TIMEOUT)
        self._listener.close()

    def _serve(self) -> None:
        self._listener.settimeout(TIMEOUT)
        sock, _ = self._listener.accept()
        with sock:
            sock.settimeout(TIMEOUT)
            sock.recv(65536)  # the ClientHello
            with contextlib.suppress(ConnectionError):  # the client may go as it likes
                self._speak(sock)


def _reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _plain(sock: socket.socket) -> None:
    sock.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    while sock.recv(65536):
        pass


# A fatal alert in a record of TLS 1.2 (RFC 8446 section 6).
def _alert(number: int) -> Callable[[socket.socket], None]:
    return lambda sock: sock.sendall(bytes((21, 3, 3, 0, 2, 2, number)))


SPEECHES: dict[str, Callable[[socket.socket], None]] = {
    "plain text": _plain,
    "closes": lambda sock: None,
    "closes in a record": lambda sock: sock.sendall(b"\x16\x03\x03\x00\x50\x02\x00"),
    "handshake_failure": _alert(40),
    "unrecognized_name": _alert(112),
    "internal_error": _alert(80),
    "protocol_version": _alert(70),
    "an unknown alert": _alert(200),
    "an endless record": lambda sock: sock.sendall(b"\x16\x03\x03\xff\xff" + bytes(20000)),
    "application data": lambda sock: sock.sendall(b"\x17\x03\x03\x00\x01x"),
}


def _connect(address: tuple[str, int], context: ssl.SSLContext) -> Exception | None:
    with socket.create_connection(address, TIMEOUT) as sock:
        try:
            with context.wrap_socket(sock, server_hostname="localhost"):
                return None
        except Exception as error:
            return error


@pytest.mark.parametrize("flavour", FLAVOURS[1:])
@pytest.mark.parametrize("speech", SPEECHES)
def test_a_peer_that_is_no_tls_server_raises_what_ssl_raises(
    speech: str, flavour: str, tls_version: ssl.TLSVersion
) -> None:
    """Plain text, a closed connection, alerts of every kind and broken records."""
    errors = []
    for kind in (flavour, "ssl"):
        with Stub(SPEECHES[speech]) as stub:
            errors.append(failure(_connect(stub.address, client(kind, tls_version, CHAIN))))
    same(*errors)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_reset_in_the_handshake_is_a_connection_reset(
    flavour: str, tls_version: ssl.TLSVersion
) -> None:
    """The error of the system, with its errno."""
    with Stub(_reset) as stub:
        error = _connect(stub.address, client(flavour, tls_version, CHAIN))
    assert type(error) is ConnectionResetError
    assert error.errno == errno.ECONNRESET


def _two(
    transport: Transport,
    flavour: str,
    version: ssl.TLSVersion,
    change: Callable[[ssl.SSLContext, ssl.SSLContext], None],
) -> tuple[Failure, Failure]:
    """The errors at a client of ours and at one of ssl's, when both ends have been changed."""
    found = []
    for kind in (flavour, "ssl"):
        ours, theirs = client(kind, None, CHAIN), peers.server_context(CHAIN)
        peers.fix_version(ours, version)
        peers.fix_version(theirs, version)
        change(ours, theirs)
        found.append(failure(converse(transport, ours, theirs).client.error))
    return found[0], found[1]


@pytest.mark.parametrize("flavour", FLAVOURS[1:])
def test_no_common_cipher_raises_what_ssl_raises(flavour: str, transport: Transport) -> None:
    """The alert handshake_failure of the server (TLS 1.2)."""

    def change(ours: ssl.SSLContext, theirs: ssl.SSLContext) -> None:
        ours.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
        theirs.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")

    ours, expected = _two(transport, flavour, ssl.TLSVersion.TLSv1_2, change)
    same(ours, expected)
    assert "HANDSHAKE_FAILURE" in str(ours.reason)


@pytest.mark.parametrize("flavour", FLAVOURS[1:])
def test_no_common_version_raises_what_ssl_raises(
    flavour: str, transport: Transport, tls_version: ssl.TLSVersion
) -> None:
    """The alert protocol_version of the server."""
    other = {ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3} - {tls_version}

    def change(ours: ssl.SSLContext, theirs: ssl.SSLContext) -> None:
        peers.fix_version(theirs, *other)

    ours, expected = _two(transport, flavour, tls_version, change)
    same(ours, expected)
    assert ours.reason == "TLSV1_ALERT_PROTOCOL_VERSION"


@pytest.mark.parametrize("flavour", FLAVOURS[1:])
def test_no_common_group_raises_what_ssl_raises(
    flavour: str, transport: Transport, tls_version: ssl.TLSVersion
) -> None:
    """The alert handshake_failure of the server."""

    def change(ours: ssl.SSLContext, theirs: ssl.SSLContext) -> None:
        ours.set_ecdh_curve("secp384r1")
        theirs.set_ecdh_curve("prime256v1")

    ours, expected = _two(transport, flavour, tls_version, change)
    same(ours, expected)


# A server's failures -----------------------------------------------------------------------------


def _server(flavour: str, version: ssl.TLSVersion, trusted: Chain) -> ssl.SSLContext:
    made: ssl.SSLContext
    if flavour == "ssl":
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    else:
        pins = PinSet({"any": certificates.spki_pin(CHAIN.leaf)})
        made = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=pins if flavour == "pinned" else None)
    peers.fix_version(made, version)
    CHAIN.configure(made)
    trusted.trust(made)
    made.verify_mode = ssl.CERT_REQUIRED
    return made


@pytest.mark.parametrize("flavour", FLAVOURS[1:])
@pytest.mark.parametrize("presented", ["nothing", "unknown", "expired", "distrusts us"])
def test_a_client_that_fails_raises_at_the_server_what_ssl_raises(
    presented: str, flavour: str, transport: Transport, tls_version: ssl.TLSVersion
) -> None:
    """No certificate, one of an unknown authority, an expired one, and a refusal by the client."""
    identity = {
        "nothing": lambda: None,
        "unknown": lambda: make_chain(2),
        "expired": lambda: make_chain(2, validity={0: "expired"}),
        "distrusts us": lambda: make_chain(2),
    }[presented]()
    trusted = identity if presented == "expired" and identity is not None else CHAIN
    theirs = peers.client_context(
        make_chain(2) if presented == "distrusts us" else CHAIN, tls_version, identity=identity
    )
    errors = [
        failure(converse(transport, theirs, _server(kind, tls_version, trusted)).server.error)
        for kind in (flavour, "ssl")
    ]
    same(*errors)


# The tables --------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", sorted(_openssl._ALERTS))
def test_an_alert_has_the_name_that_ssl_gives_it(number: int) -> None:
    """Reason and text of every alert that can arrive, compared in memory."""
    found = []
    for flavour in ("unpinned", "ssl"):
        incoming = ssl.MemoryBIO()
        made = client(flavour, ssl.TLSVersion.TLSv1_2, CHAIN).wrap_bio(
            incoming, ssl.MemoryBIO(), server_hostname="localhost"
        )
        with pytest.raises(ssl.SSLWantReadError):
            made.do_handshake()
        incoming.write(bytes((21, 3, 3, 0, 2, 2, number)))
        with pytest.raises(ssl.SSLError) as caught:
            made.do_handshake()
        found.append(caught.value)
    ours, theirs = found
    assert type(ours) is type(theirs)
    assert ours.library == theirs.library
    # ssl's table is older than these two.
    if number not in (115, 120) or theirs.reason is not None:
        assert ours.reason == theirs.reason


def test_the_codes_of_verification_have_the_texts_of_ssl() -> None:
    """verify_message of every code that both libraries know."""
    texts = {
        number: _openssl.verification_error(number, "h").verify_message
        for _, number in _openssl.error_numbers()
    }
    assert texts[10] == "certificate has expired"
    assert texts[18] == "self-signed certificate"
    assert texts[62] == "Hostname mismatch, certificate is not valid for 'h'."
    assert texts[64] == "IP address mismatch, certificate is not valid for 'h'."
    assert all(texts.values())


@pytest.mark.parametrize("kind", ["certificate", "key", "no key", "directory", "no password"])
def test_files_that_cannot_be_loaded_raise_what_ssl_raises(kind: str, tmp_path: Path) -> None:
    """load_cert_chain and load_verify_locations with damaged, wrong and missing files."""
    files = CHAIN.write(tmp_path)
    damaged = tmp_path / "damaged.pem"
    damaged.write_bytes(
        files.certfile.read_bytes().replace(b"\nMII", b"\nXII", 1)
        if kind == "certificate"
        else files.keyfile.read_bytes().replace(b"\nM", b"\nX", 1)
    )
    other = make_chain(1, pool=9).write(tmp_path)
    calls: dict[str, Callable[[ssl.SSLContext], object]] = {
        "certificate": lambda c: c.load_cert_chain(damaged, files.keyfile),
        "key": lambda c: c.load_cert_chain(files.certfile, damaged),
        "no key": lambda c: c.load_cert_chain(files.certfile),
        "directory": lambda c: c.load_verify_locations(tmp_path / "nothing"),
        "no password": lambda c: c.load_cert_chain(files.certfile, other.keyfile),
    }
    found = []
    for made in (PinnedContext(pins=None), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)):
        with pytest.raises(OSError, match=r".") as caught:
            calls[kind](made)
        found.append(failure(caught.value))
    same(*found)


# Why a call failed -------------------------------------------------------------------------------

SSL_, SYSCALL, READ, WRITE, GOODBYE = (
    _openssl.ERROR_SSL,
    _openssl.ERROR_SYSCALL,
    _openssl.ERROR_WANT_READ,
    _openssl.ERROR_WANT_WRITE,
    _openssl.ERROR_ZERO_RETURN,
)
# Entries of the queue: the number of a library above that of a reason (err.h of OpenSSL 3).
OTHER, ALERT = 4 << 23 | 112, 20 << 23 | 1020


@pytest.mark.parametrize(
    ("first", "queued", "again", "waiting", "code"),
    [
        (READ, 0, None, READ, READ),
        (GOODBYE, 0, None, READ, GOODBYE),
        (SYSCALL, 0, None, READ, SYSCALL),
        (SSL_, OTHER, READ, READ, READ),
        (SSL_, OTHER, WRITE, WRITE, WRITE),
        (SSL_, OTHER, GOODBYE, READ, GOODBYE),
        (SSL_, OTHER, SYSCALL, READ, SSL_),
        # One that has failed for good may have an alert to send, and an alert to tell of.
        (SSL_, OTHER, WRITE, READ, SSL_),
        (SSL_, OTHER, READ, WRITE, SSL_),
        (SSL_, ALERT, GOODBYE, READ, SSL_),
        (SSL_, OTHER, GOODBYE, WRITE, SSL_),
        # In a handshake, which began with an empty queue.
        (SSL_, OTHER, None, 0, SSL_),
    ],
)
def test_why_a_call_failed_is_asked_again_when_the_queue_is_empty(
    monkeypatch: pytest.MonkeyPatch,
    first: int,
    queued: int,
    again: int | None,
    waiting: int,
    code: int,
) -> None:
    """It is believed if the call only has to wait for its own, or has met a goodbye."""
    answers = [first, again]
    monkeypatch.setattr(_openssl, "ssl_get_error", lambda *_: answers.pop(0))
    monkeypatch.setattr(_openssl, "_last_error", lambda: queued)
    cause = _openssl.why(_openssl.SSLPointer(object()), -1, waiting)
    assert cause.code == code
    assert cause.queued == (queued if code == first else 0)
    assert answers == ([again] if again is None else [])
