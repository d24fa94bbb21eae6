"""``PinnedContext``: every setting of ``ssl.SSLContext`` reaches the connection, or is refused.

Rules 9 (pins cannot be weakened from outside) and 10 (mirror it or refuse it).  What a setting is
to do is shown on the standard library first: most tests run on an ``ssl.SSLContext`` too.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol, cast

import hypothesis
import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)
from hypothesis import strategies as st

import pinsock
from pinsock import (
    HostPins,
    Pin,
    PinMatch,
    PinMismatchError,
    PinnedContext,
    PinnedObject,
    PinnedSocket,
    PinSet,
    PinSyntaxError,
    UnpinnedPeerError,
    _openssl,
)
from tests import certificates, peers
from tests.certificates import make_chain
from tests.peers import MemoryPeer, Observation, StdlibServer, Transport, converse, shake

#: What is compared: the standard library itself, ours without pins, ours with.
FLAVOURS = ("ssl", "unpinned", "pinned")
#: Seconds; reached only if something is broken.
TIMEOUT = 10.0

CHAIN = make_chain(3)
OTHER = make_chain(3, pool=1)
PIN = certificates.spki_pin(CHAIN.leaf)
PINS = PinSet({"leaf": PIN})
WRONG = Pin("spki", "sha256", bytes(32))


@pytest.fixture(params=FLAVOURS)
def flavour(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Make(Protocol):
    """Make a context of the flavour under test."""

    def __call__(self, server_side: bool = False, *, bare: bool = False) -> ssl.SSLContext: ...


@pytest.fixture
def make(flavour: str) -> Make:
    """Make contexts that present CHAIN, and trust it unless they are to be bare."""

    def make(server_side: bool = False, *, bare: bool = False) -> ssl.SSLContext:
        protocol = ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT
        made: ssl.SSLContext
        if flavour == "ssl":
            made = ssl.SSLContext(protocol)
        else:
            made = PinnedContext(protocol, pins=PINS if flavour == "pinned" else None)
        if not bare:
            CHAIN.configure(made)
            CHAIN.trust(made)
        return made

    return make


def server(version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """A server of the standard library."""
    return peers.server_context(CHAIN, version)


def client(version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """A client of the standard library; it has a certificate, should it be asked."""
    return peers.client_context(CHAIN, version, identity=CHAIN)


def talk(
    ours: ssl.SSLContext, theirs: ssl.SSLContext, server_side: bool, transport: Transport = "bio"
) -> tuple[Observation, Observation]:
    """Connect our context, on its side, to theirs; the observations of both, ours first."""
    seen = converse(
        transport,
        *((theirs, ours) if server_side else (ours, theirs)),
        inspect=lambda c: (c.cipher(), c.selected_alpn_protocol()),
    )
    return (seen.server, seen.client) if server_side else (seen.client, seen.server)


def code(seen: Observation) -> int | None:
    return getattr(seen.error, "verify_code", None)


# Rule 10: mirror it or refuse it -----------------------------------------------------------------

#: Every public member of ssl.SSLContext, and the test in this module that shows that it works; or
#: the arguments with which it raises NotImplementedError.
MEMBERS: dict[str, str | tuple[object, ...]] = {
    "cert_store_stats": "test_the_trust_store_can_be_asked",
    "check_hostname": "test_the_hostname_is_checked_if_it_is_to_be",
    "get_ca_certs": "test_the_trust_store_can_be_asked",
    "get_ciphers": "test_ciphers_reach_the_connection",
    "hostname_checks_common_name": "test_common_names_are_checked_if_they_are_to_be",
    "keylog_filename": "test_secrets_are_logged",
    "load_cert_chain": "test_an_encrypted_key_is_opened",
    "load_default_certs": "test_the_default_certificates_are_those_of_the_environment",
    "load_dh_params": "test_diffie_hellman_parameters_reach_the_connection",
    "load_verify_locations": "test_authorities_are_loaded",
    "maximum_version": "test_versions_reach_the_connection",
    "minimum_version": "test_versions_reach_the_connection",
    "num_tickets": "test_the_number_of_tickets_is_none_or_the_usual",
    "options": "test_options_reach_the_connection",
    "post_handshake_auth": "test_a_client_answers_a_late_request_for_its_certificate",
    "protocol": "test_a_default_context_is_that_of_ssl",
    "security_level": "test_ciphers_reach_the_connection",
    "session_stats": "test_handshakes_are_counted",
    "set_alpn_protocols": "test_protocols_are_negotiated",
    "set_ciphers": "test_ciphers_reach_the_connection",
    "set_ciphersuites": "test_ciphersuites_reach_the_connection",
    "set_default_verify_paths": "test_the_default_certificates_are_those_of_the_environment",
    "set_ecdh_curve": "test_a_curve_reaches_the_connection",
    "set_groups": "test_groups_reach_the_connection",
    "set_npn_protocols": (["h2"],),
    "set_psk_client_callback": "test_pre_shared_keys_take_the_place_of_certificates",
    "set_psk_server_callback": "test_pre_shared_keys_take_the_place_of_certificates",
    "set_server_sigalgs": "test_signature_algorithms_reach_the_connection",
    "set_servername_callback": "test_a_server_sees_the_name_that_is_asked_for",
    "sni_callback": "test_a_server_sees_the_name_that_is_asked_for",
    "sslobject_class": "test_classes_can_be_derived",
    "sslsocket_class": "test_classes_can_be_derived",
    "verify_flags": "test_revocation_is_checked",
    "verify_mode": "test_a_server_asks_for_certificates_as_it_is_told",
    "wrap_bio": "test_pins_can_be_given_for_one_connection",
    "wrap_socket": "test_pins_can_be_given_for_one_connection",
}


def test_no_name_is_taken_from_subclasses_but_those_that_are_documented() -> None:
    """What the parts of the house ask of each other begins with an underscore: users subclass."""
    connection = {
        *("pin_match", "get_verified_chain", "get_unverified_chain"),
        *("export_keying_material", "group"),
    }
    brought = {
        (PinnedContext, ssl.SSLContext): {
            *("pins", "connections", "from_ssl_context", "report_callback"),
            *("pin_expiry_warning", "certificate_expiry_warning"),
            # ssl's own, of some newer Python
            *("set_ciphersuites", "set_groups", "set_server_sigalgs"),
            *("set_psk_client_callback", "set_psk_server_callback"),
        },
        (PinnedSocket, ssl.SSLSocket): connection,
        (PinnedObject, ssl.SSLObject): connection,
    }
    for (ours, theirs), names in brought.items():
        found = {name for name in dir(ours) if name[0] != "_"} - set(dir(theirs))
        assert found <= names


@pytest.mark.parametrize("name", [name for name in dir(ssl.SSLContext) if name[0] != "_"])
def test_every_member_works_or_is_refused(name: str) -> None:
    """No public member of ssl.SSLContext on this Python is silently ignored."""
    assert name in MEMBERS, (
        f"this Python has a new member, ssl.SSLContext.{name}: have PinnedContext record it and "
        "compile it into the snapshot, or raise NotImplementedError with the reason; then add it "
        "to MEMBERS with its test"
    )
    how = MEMBERS[name]
    if isinstance(how, str):
        assert how in globals(), f"{how} is not in this module"
    else:
        made = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=None)
        with pytest.raises(NotImplementedError, match=r"\w+ \w+"):
            getattr(made, name)(*how)


def test_what_cannot_be_compiled_is_refused_when_it_is_used() -> None:
    """A setting that the bindings cannot make is a NotImplementedError that names it."""
    made = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=None)
    made.num_tickets = 3
    with pytest.raises(NotImplementedError, match="num_tickets"):
        made.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
    made.num_tickets = 2
    made.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)


# Settings reach the connection -------------------------------------------------------------------


@pytest.mark.parametrize("server_side", [False, True])
def test_ciphers_reach_the_connection(make: Make, server_side: bool) -> None:
    """set_ciphers() decides (TLS 1.2), get_ciphers() and security_level tell."""
    name = "ECDHE-ECDSA-CHACHA20-POLY1305"
    ours = make(server_side)
    peers.fix_version(ours, ssl.TLSVersion.TLSv1_2)
    assert ours.security_level == ssl.SSLContext(ours.protocol).security_level
    ours.set_ciphers(f"{name}:@SECLEVEL=1")
    assert ours.security_level == 1
    assert name in [cipher["name"] for cipher in ours.get_ciphers()]
    seen, _ = talk(ours, client() if server_side else server(), server_side)
    assert seen.error is None
    assert cast(Any, seen.inspected)[0][0] == name
    with pytest.raises(ssl.SSLError, match="No cipher can be selected"):
        ours.set_ciphers("nonsense")


def test_the_security_level_outlives_the_ciphers_that_brought_it(make: Make) -> None:
    """set_ciphers() without a level leaves it as it is: 5 admits no key of the peer's chain."""
    ours = make(bare=True)
    CHAIN.trust(ours)
    ours.set_ciphers("DEFAULT:@SECLEVEL=5")
    ours.set_ciphers("ALL")
    assert ours.security_level == 5
    assert talk(ours, server(), False)[0].error is not None
    ours.set_ciphers("ALL:@SECLEVEL=1")
    assert talk(ours, server(), False)[0].error is None


@pytest.mark.parametrize("server_side", [False, True])
def test_versions_reach_the_connection(
    make: Make, server_side: bool, tls_version: ssl.TLSVersion
) -> None:
    """minimum_version and maximum_version, each alone, settle what is spoken."""
    ours, theirs = make(server_side), client() if server_side else server()
    names = {ssl.TLSVersion.TLSv1_2: "TLSv1.2", ssl.TLSVersion.TLSv1_3: "TLSv1.3"}
    assert talk(ours, theirs, server_side)[0].version == "TLSv1.3"
    ours.maximum_version = tls_version
    assert talk(ours, theirs, server_side)[0].version == names[tls_version]
    ours.maximum_version = ssl.TLSVersion.MAXIMUM_SUPPORTED
    ours.minimum_version = ssl.TLSVersion.TLSv1_3
    peers.fix_version(theirs, tls_version)
    assert talk(ours, theirs, server_side)[0].version == (
        "TLSv1.3" if tls_version == ssl.TLSVersion.TLSv1_3 else None
    )
    ours.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    assert talk(ours, theirs, server_side)[0].version == names[tls_version]


@pytest.mark.filterwarnings("ignore:ssl.OP_NO_SSL:DeprecationWarning")
@pytest.mark.parametrize("server_side", [False, True])
def test_options_reach_the_connection(make: Make, server_side: bool) -> None:
    """Versions and tickets can be switched off by options, and on again."""
    ours, theirs = make(server_side), client() if server_side else server()
    ours.options |= ssl.OP_NO_TLSv1_3
    assert talk(ours, theirs, server_side)[0].version == "TLSv1.2"
    ours.options &= ~ssl.OP_NO_TLSv1_3
    assert talk(ours, theirs, server_side)[0].version == "TLSv1.3"
    ours.options |= ssl.OP_NO_TLSv1_2 | ssl.OP_NO_TLSv1_3
    assert talk(ours, theirs, server_side)[0].error is not None


def test_the_preference_of_a_server_is_an_option(make: Make) -> None:
    """With OP_CIPHER_SERVER_PREFERENCE a server's order of suites counts, without it the client's.

    It is on by default, and cannot be switched off where the bindings lack the call.
    """
    theirs = client(ssl.TLSVersion.TLSv1_2)
    theirs.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384")
    ours = make(True)
    ours.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256")
    ours.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    seen, _ = talk(ours, theirs, True)
    assert cast(Any, seen.inspected)[0][0] == "ECDHE-ECDSA-AES256-GCM-SHA384"


@pytest.mark.parametrize("server_side", [False, True])
@pytest.mark.parametrize(
    ("ours_offered", "theirs_offered"),
    [
        (["h2", "http/1.1"], ["http/1.1", "h2"]),
        (["http/1.1"], ["h2", "http/1.1"]),
        (["h2"], ["http/1.1"]),
        ([], ["h2"]),
        (["h2"], []),
    ],
)
def test_protocols_are_negotiated(
    flavour: str,
    make: Make,
    server_side: bool,
    ours_offered: list[str],
    theirs_offered: list[str],
    tls_version: ssl.TLSVersion,
) -> None:
    """set_alpn_protocols() on either side: the server's first choice, or none."""
    results = []
    for made in (make(server_side), ssl.SSLContext(make(server_side).protocol)):
        if type(made) is ssl.SSLContext:
            CHAIN.configure(made)
            CHAIN.trust(made)
        peers.fix_version(made, tls_version)
        theirs = client() if server_side else server()
        if ours_offered:
            made.set_alpn_protocols(ours_offered)
        if theirs_offered:
            theirs.set_alpn_protocols(theirs_offered)
        seen = talk(made, theirs, server_side)
        results.append([(side.error and side.reason, side.inspected) for side in seen])
        assert cast(Any, seen[0].inspected)[1] == cast(Any, seen[1].inspected)[1]
    assert results[0] == results[1]


def test_protocols_of_the_wrong_length_are_refused(make: Make) -> None:
    """An empty name, or one of more than 255 bytes, is an SSLError."""
    for name in ("", "x" * 256):
        with pytest.raises(ssl.SSLError, match="ALPN protocols must be 1 to 255 in length"):
            make().set_alpn_protocols([name])


@pytest.mark.parametrize("server_side", [False, True])
@pytest.mark.parametrize("curve", ["secp384r1", "prime256v1", "X25519"])
def test_a_curve_reaches_the_connection(
    make: Make, server_side: bool, curve: str, tls_version: ssl.TLSVersion
) -> None:
    """set_ecdh_curve() leaves one group for the key exchange."""
    if tls_version == ssl.TLSVersion.TLSv1_2 and curve != "prime256v1":
        pytest.skip("a certificate's curve has to be among the groups (RFC 8422 section 5.1.1)")
    ours, theirs = make(server_side), client() if server_side else server()
    peers.fix_version(ours, tls_version)
    try:
        theirs.set_ecdh_curve(curve)
    except ssl.SSLError:
        pytest.skip("unknown to the ssl of this Python")
    ours.set_ecdh_curve(curve)
    seen = talk(ours, theirs, server_side)
    assert [side.error for side in seen] == [None, None]
    theirs.set_ecdh_curve("secp521r1")
    assert talk(ours, theirs, server_side)[0].error is not None
    with pytest.raises(ValueError, match="unknown elliptic curve name"):
        ours.set_ecdh_curve("nonsense")


@pytest.mark.parametrize("server_side", [False, True])
def test_groups_reach_the_connection(
    make: Make, flavour: str, server_side: bool, tls_version: ssl.TLSVersion
) -> None:
    """set_groups() leaves those groups for the key exchange; on every Python."""
    if flavour == "ssl":
        pytest.skip("from CPython 3.15 on")
    ours, theirs = make(server_side), client() if server_side else server()
    assert isinstance(ours, PinnedContext)
    peers.fix_version(ours, tls_version)
    theirs.set_ecdh_curve("prime256v1")
    ours.set_groups("prime256v1")
    assert [side.error for side in talk(ours, theirs, server_side)] == [None, None]
    try:
        ours.set_groups("secp521r1:P-256")
    except NotImplementedError:
        pytest.skip("cryptography 46 binds no list of groups")
    assert [side.error for side in talk(ours, theirs, server_side)] == [None, None]
    ours.set_groups("secp521r1:secp384r1")
    assert talk(ours, theirs, server_side)[0].error is not None
    with pytest.raises(ssl.SSLError):
        ours.set_groups("nonsense:P-256")


def test_an_old_cryptography_says_that_it_knows_one_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list needs a binding that cryptography 46 does not have."""
    bindings = SimpleNamespace(
        **{name: getattr(_openssl._lib, name) for name in dir(_openssl._lib)}
    )
    vars(bindings).pop("SSL_CTX_set1_curves_list", None)
    monkeypatch.setattr(_openssl, "_lib", bindings)
    made = PinnedContext(pins=None)
    made.set_groups("prime256v1")
    with pytest.raises(NotImplementedError, match="SSL_CTX_set1_curves_list"):
        made.set_groups("prime256v1:secp384r1")
    with pytest.raises(ssl.SSLError):
        made.set_groups("nonsense")


@pytest.mark.parametrize("server_side", [False, True])
def test_ciphersuites_reach_the_connection(make: Make, flavour: str, server_side: bool) -> None:
    """set_ciphersuites() leaves those cipher suites for TLS 1.3; on every Python."""
    if flavour == "ssl":
        pytest.skip("from CPython 3.15 on")
    ours, theirs = make(server_side), client() if server_side else server()
    assert isinstance(ours, PinnedContext)
    ours.set_ciphersuites("TLS_CHACHA20_POLY1305_SHA256")
    near, far = talk(ours, theirs, server_side)
    assert near.inspected == far.inspected
    assert cast("list[Any]", near.inspected)[0][0] == "TLS_CHACHA20_POLY1305_SHA256"
    with pytest.raises(ssl.SSLError):
        ours.set_ciphersuites("nonsense")


@pytest.mark.parametrize("server_side", [False, True])
def test_signature_algorithms_reach_the_connection(
    make: Make, flavour: str, server_side: bool
) -> None:
    """set_server_sigalgs(): what the certificate's key cannot sign with ends the handshake."""
    if flavour == "ssl":
        pytest.skip("from CPython 3.15 on")
    ours, theirs = make(server_side), client() if server_side else server()
    assert isinstance(ours, PinnedContext)
    ours.set_server_sigalgs("ecdsa_secp256r1_sha256")
    assert [side.error for side in talk(ours, theirs, server_side)] == [None, None]
    ours.set_server_sigalgs("rsa_pss_rsae_sha256")  # the key is of another kind
    assert talk(ours, theirs, server_side)[0].error is not None
    with pytest.raises(ssl.SSLError):
        ours.set_server_sigalgs("nonsense")


def test_handshakes_are_counted(make: Make, tls_version: ssl.TLSVersion) -> None:
    """session_stats() counts handshakes begun, completed and resumed, on both sides."""
    for server_side in (False, True):
        ours, theirs = make(server_side), client() if server_side else server()
        peers.fix_version(ours, tls_version)
        nothing = ours.session_stats()
        assert set(nothing.values()) == {0}
        talk(ours, theirs, server_side)
        theirs.minimum_version = theirs.maximum_version = (
            ssl.TLSVersion.TLSv1_3
            if tls_version == ssl.TLSVersion.TLSv1_2
            else ssl.TLSVersion.TLSv1_2
        )
        assert talk(ours, theirs, server_side)[0].error is not None
        event = "accept" if server_side else "connect"
        counted = ours.session_stats()
        assert counted.keys() == nothing.keys()
        # (What is in the cache of a server, and what is not, is not ours to count.)
        cache = {"number": 0, "misses": 0}
        assert {**counted, **cache} == {**nothing, event: 2, f"{event}_good": 1}


def test_resumptions_are_counted(make: Make) -> None:
    """A hit is counted on both sides."""
    ours = make()
    peers.fix_version(ours, ssl.TLSVersion.TLSv1_2)
    theirs = server()
    session = None
    for hits in (0, 1):
        near = MemoryPeer(ours, server_hostname="localhost", session=session)
        shake(near, MemoryPeer(theirs, server_side=True))
        session = near.obj.session
        assert near.obj.session_reused == bool(hits)
        assert ours.session_stats()["hits"] == theirs.session_stats()["hits"] == hits


def identify(hint: str | None) -> tuple[str | None, bytes]:
    return None if hint is None else f"for {hint}", b"a secret"


@pytest.mark.parametrize("hint", [None, "hint"])
def test_pre_shared_keys_take_the_place_of_certificates(
    hint: str | None, transport: Transport, tls_version: ssl.TLSVersion
) -> None:
    """TLS-PSK works where there are no pins, on every Python: with the key, the same; else not."""
    ours = PinnedContext(pins=None)
    ours.check_hostname = False
    theirs = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=None)
    peers.fix_version(ours, tls_version)
    ours.set_ciphers("PSK")
    theirs.set_ciphers("PSK")
    asked: list[object] = []
    key = b"a secret"

    def serve(identity: str | None) -> bytes:
        asked.append(identity)
        return key

    def introduce(given: str | None) -> tuple[str | None, bytes]:
        asked.append(given)
        return "me", b"a secret"

    ours.set_psk_client_callback(introduce)
    theirs.set_psk_server_callback(serve, hint)
    seen = converse(transport, ours, theirs)
    assert seen.client.error is None
    assert seen.client.data == b"ping"
    expected = None if tls_version == ssl.TLSVersion.TLSv1_3 else hint  # 1.3 has no hints
    assert asked == [expected, "me"]
    for bad in (b"another", b""):
        key = bad
        seen = converse(transport, ours, theirs)
        assert seen.client.error is not None
        assert seen.server.data == b""
    theirs.set_psk_server_callback(None)
    assert converse(transport, ours, theirs).client.error is not None


def test_a_hint_that_is_too_long_is_refused_at_once() -> None:
    """Not by the connections: 256 bytes are what OpenSSL takes."""
    ours = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=None)
    ours.set_psk_server_callback(lambda identity: b"key", "x" * 256)
    ours._snapshot(pinned=False)
    with pytest.raises(ValueError, match="failed to set identity hint"):
        ours.set_psk_server_callback(lambda identity: b"key", "\xe4" * 129)


def test_no_identity_is_none(unraisable: list[BaseException]) -> None:
    """A server is told None of a client without a name, and a name that is no UTF-8 is refused."""
    ours, theirs = PinnedContext(pins=None), PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=None)
    ours.check_hostname = False
    asked: list[object] = []

    def serve(identity: str | None) -> bytes:
        asked.append(identity)
        return b"key"

    for made in (ours, theirs):
        made.maximum_version = ssl.TLSVersion.TLSv1_2
        made.set_ciphers("PSK")
    theirs.set_psk_server_callback(serve)
    ours.set_psk_client_callback(lambda hint: (None, b"key"))
    assert converse("bio", ours, theirs).client.error is None
    assert asked == [None]
    ours.set_psk_client_callback(lambda hint: ("\xff", b"key"))
    client, server = MemoryPeer(ours), MemoryPeer(theirs, server_side=True)
    for near, far in ((client, server), (server, client)):
        near.step()
        near.flush(far)
    client.step()
    server.incoming.write(client.outgoing.read().replace("\xff".encode(), b"\xff\xff"))
    with pytest.raises(ssl.SSLError, match="psk identity not found"):
        server.obj.do_handshake()
    assert [type(error) for error in unraisable] == [UnicodeDecodeError]
    assert asked == [None]


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (("x" * 1000, b"key"), None),
        (("x", b"k" * 1000), None),
        (3, TypeError),
        (["x", b"key"], TypeError),
        (("x", 3), TypeError),
    ],
)
def test_a_pre_shared_key_that_cannot_be_is_a_failure(
    given: object, kind: type[Exception] | None, unraisable: list[BaseException]
) -> None:
    """Too long, or of a wrong type: no key, which ends the handshake."""
    ours = PinnedContext(pins=None)
    ours.check_hostname = False
    ours.maximum_version = ssl.TLSVersion.TLSv1_2
    ours.set_psk_client_callback(lambda hint: given)  # type: ignore[arg-type, return-value]  # that is it
    theirs = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=None)
    theirs.set_psk_server_callback(lambda identity: given)  # type: ignore[arg-type, return-value]  # likewise
    ours.set_ciphers("PSK")
    theirs.set_ciphers("PSK")
    assert converse("bio", ours, theirs).client.error is not None
    assert [type(error) for error in unraisable] == [kind] * (kind is not None)
    del unraisable[:]
    ours.set_psk_client_callback(lambda hint: ("me", b"key"))
    assert converse("bio", ours, theirs).client.error is not None
    assert [type(error) for error in unraisable] == [TypeError]


def test_pre_shared_keys_belong_to_one_side() -> None:
    """As with ssl, a client's context takes no server's callback, and a callback can be called."""
    ours, theirs = PinnedContext(pins=None), PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=None)
    with pytest.raises(ssl.SSLError, match="Cannot add PSK server callback"):
        ours.set_psk_server_callback(lambda identity: b"key")
    with pytest.raises(ssl.SSLError, match="Cannot add PSK client callback"):
        theirs.set_psk_client_callback(identify)
    with pytest.raises(TypeError, match="callable"):
        ours.set_psk_client_callback(3)  # type: ignore[arg-type]  # that is it
    with pytest.raises(TypeError, match="str or None"):
        theirs.set_psk_server_callback(lambda identity: b"key", 5)  # type: ignore[arg-type]  # likewise
    with pytest.raises(ValueError, match="null"):
        theirs.set_psk_server_callback(lambda identity: b"key", "a\0b")


def test_what_is_loaded_may_be_a_pipe(tmp_path: Path) -> None:
    """Certificates, keys and authorities can come from where they can be read only once."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def through(data: bytes, load: Callable[[str], object]) -> None:
        writer = threading.Thread(target=pipe.write_bytes, args=(data,))
        writer.start()
        load(str(pipe))
        writer.join()

    ours = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=None)
    through(CHAIN.sent_pem(), ours.load_cert_chain)
    theirs = PinnedContext(pins=PINS)
    through(CHAIN.root_pem.encode(), theirs.load_verify_locations)
    assert converse("bio", theirs, ours).client.error is None


def test_diffie_hellman_parameters_reach_the_connection(make: Make, tmp_path: Path) -> None:
    """load_dh_params() lets a server use DHE suites."""
    path = tmp_path / "dh.pem"
    command = ["openssl", "genpkey", "-genparam", "-algorithm", "DH", "-pkeyopt", "group:ffdhe2048"]
    made = subprocess.run(command, capture_output=True, check=True, timeout=30).stdout
    path.write_bytes(made)
    ours = make(True, bare=True)
    CHAIN.trust(ours)
    make_chain(2, kinds="rsa").configure(ours)
    name = "DHE-RSA-AES128-GCM-SHA256"
    ours.set_ciphers(name)
    theirs = peers.client_context(None, ssl.TLSVersion.TLSv1_2, identity=CHAIN)
    theirs.set_ciphers(name)
    assert talk(ours, theirs, True)[0].error is not None
    ours.load_dh_params(str(path))
    seen, _ = talk(ours, theirs, True)
    assert cast(Any, seen.inspected)[0][0] == name
    with pytest.raises(FileNotFoundError):
        ours.load_dh_params(str(tmp_path / "nothing"))


def test_revocation_is_checked(make: Make, transport: Transport, tmp_path: Path) -> None:
    """verify_flags with VERIFY_CRL_CHECK_LEAF: no list, a list without it, and a list with it."""
    listed = tmp_path / "list.pem"
    ours = make()
    assert talk(ours, server(), False, transport)[0].error is None
    ours.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    assert code(talk(ours, server(), False, transport)[0]) == 3  # unable to get certificate CRL
    listed.write_bytes(certificates.make_crl(CHAIN, revoked=False))
    ours.load_verify_locations(listed)
    assert talk(ours, server(), False, transport)[0].error is None
    ours = make()
    ours.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    listed.write_bytes(certificates.make_crl(CHAIN, revoked=True))
    ours.load_verify_locations(listed)
    seen, theirs = talk(ours, server(), False, transport)
    assert code(seen) == 23  # certificate revoked
    assert theirs.alert == "certificate_revoked"


def test_a_partial_chain_is_trusted_if_it_may_be(make: Make) -> None:
    """verify_flags with VERIFY_X509_PARTIAL_CHAIN: an intermediate can be the anchor."""
    flag = ssl.VERIFY_X509_PARTIAL_CHAIN
    ours = make(bare=True)
    ours.verify_flags &= ~flag
    ours.load_verify_locations(cadata=CHAIN.ders[1])
    assert code(talk(ours, server(), False)[0]) == 2  # unable to get issuer certificate
    ours.verify_flags |= flag
    assert talk(ours, server(), False)[0].error is None


@pytest.mark.parametrize("how", ["cafile", "SSL_CERT_FILE"])
def test_a_file_may_have_more_than_certificates(
    make: Make, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Revocation lists, and certificates with settings of what they are trusted for."""
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "nothing"))

    def loaded(content: bytes) -> ssl.SSLContext:
        path = tmp_path / "authorities.pem"
        path.write_bytes(content)
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        made = make(bare=True)
        if how == "cafile":
            made.load_verify_locations(path)
        else:
            made.load_default_certs()
        return made

    def trusted_for(*options: str) -> bytes:
        command = ["openssl", "x509", "-trustout", *options]
        root = CHAIN.root_pem.encode()
        return subprocess.run(
            command, input=root, capture_output=True, check=True, timeout=30
        ).stdout

    assert talk(loaded(trusted_for()), server(), False)[0].error is None
    ours = loaded(trusted_for("-addreject", "serverAuth"))
    assert code(talk(ours, server(), False)[0]) == 28  # certificate rejected
    ours = loaded(CHAIN.root_pem.encode() + certificates.make_crl(CHAIN, revoked=True))
    ours.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    assert code(talk(ours, server(), False)[0]) == 23  # certificate revoked


def test_text_has_certificates_only(make: Make) -> None:
    """cadata: ssl passes over revocation lists in it."""
    ours = make(bare=True)
    listed = certificates.make_crl(CHAIN, revoked=False).decode("ascii")
    ours.load_verify_locations(cadata=CHAIN.root_pem + listed)
    assert talk(ours, server(), False)[0].error is None
    ours.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    assert code(talk(ours, server(), False)[0]) == 3  # unable to get certificate CRL


def test_the_file_for_secrets_is_opened_when_it_is_named(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative to the directory of that moment; and a disk that is full stops nobody."""
    ours = make()
    monkeypatch.chdir(tmp_path)
    ours.keylog_filename = "keys"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert talk(ours, server(), False)[0].error is None
    assert "EXPORTER_SECRET" in (tmp_path / "keys").read_text()
    assert list((tmp_path / "elsewhere").iterdir()) == []
    (tmp_path / "keys").rename(tmp_path / "older")
    ours.keylog_filename = str(tmp_path / "keys")  # a new one
    assert talk(ours, server(), False)[0].error is None
    assert "EXPORTER_SECRET" in (tmp_path / "keys").read_text()
    before = (tmp_path / "keys").read_bytes()
    begun = MemoryPeer(ours, server_hostname="localhost")
    cast(Any, ours).keylog_filename = None  # which holds for those that are open, too
    assert shake(begun, MemoryPeer(server(), server_side=True))[0].error is None
    assert (tmp_path / "keys").read_bytes() == before
    if Path("/dev/full").exists():
        ours.keylog_filename = "/dev/full"
        assert talk(ours, server(), False)[0].error is None


@pytest.mark.parametrize("server_side", [False, True])
def test_secrets_are_logged(
    make: Make, server_side: bool, tls_version: ssl.TLSVersion, tmp_path: Path
) -> None:
    """keylog_filename: the very lines that the standard library logs at the other end."""
    ours, theirs = make(server_side), client(tls_version) if server_side else server(tls_version)
    files = tmp_path / "ours", tmp_path / "theirs"
    ours.keylog_filename = str(files[0])
    theirs.keylog_filename = str(files[1])
    assert talk(ours, theirs, server_side)[0].error is None
    logged = [
        {line for line in file.read_text().splitlines() if line and line[0] != "#"}
        for file in files
    ]
    assert logged[0] == logged[1]
    assert logged[0]
    before = files[0].read_bytes()
    cast(Any, ours).keylog_filename = None
    assert talk(ours, theirs, server_side)[0].error is None
    assert files[0].read_bytes() == before


def test_the_number_of_tickets_is_none_or_the_usual(
    make: Make, tls_version: ssl.TLSVersion
) -> None:
    """num_tickets = 0: a server resumes nothing, neither by tickets nor from a cache."""
    resumed = []
    kept = []  # a connection that goes without a goodbye takes its session out of the cache
    for number in (2, 0):
        ours, theirs = make(True), client(tls_version)
        ours.num_tickets = number
        assert ours.num_tickets == number
        session: ssl.SSLSession | None = None
        for _ in range(2):
            near = MemoryPeer(theirs, server_hostname="localhost", session=session)
            far = MemoryPeer(ours, server_side=True)
            kept.append(far)
            shake(near, far)
            far.flush(near)
            near.read()
            assert near.record.error is None
            session = near.obj.session
        resumed.append(near.obj.session_reused)
    pinned = isinstance(ours, PinnedContext) and ours.pins is not None
    if type(ours) is ssl.SSLContext and tls_version == ssl.TLSVersion.TLSv1_2:
        assert resumed.pop()  # to ssl the number is a matter of TLS 1.3 alone
        resumed.append(False)
    assert resumed == [not pinned, False]  # a server that pins resumes nothing anyway (rule 7)


def test_a_client_answers_a_late_request_for_its_certificate(make: Make) -> None:
    """post_handshake_auth: the server may ask after the handshake (TLS 1.3)."""
    ours = make()
    ours.post_handshake_auth = True
    theirs = server(ssl.TLSVersion.TLSv1_3)
    theirs.post_handshake_auth = True
    CHAIN.trust(theirs)
    theirs.verify_mode = ssl.CERT_REQUIRED
    near = MemoryPeer(ours, server_hostname="localhost")
    far = MemoryPeer(theirs, server_side=True)
    shake(near, far)
    assert far.obj.getpeercert(True) is None
    far.obj.verify_client_post_handshake()
    peers.exchange(far, near, b"x")
    peers.exchange(near, far, b"y")
    assert far.record.error is None
    assert far.obj.getpeercert(True) == CHAIN.ders[0]


@pytest.mark.parametrize("mode", list(ssl.VerifyMode))
def test_a_server_asks_for_certificates_as_it_is_told(
    flavour: str, make: Make, mode: ssl.VerifyMode, tls_version: ssl.TLSVersion
) -> None:
    """verify_mode, with a client that has a certificate, one that has none, and an unknown one."""
    if flavour == "pinned":
        pytest.skip("a server with pins always requires")
    ours = make(True)
    ours.verify_mode = mode
    peers.fix_version(ours, tls_version)
    known, nobody = client(), peers.client_context(CHAIN)
    stranger = peers.client_context(CHAIN, identity=OTHER)
    got = [talk(ours, theirs, True)[0] for theirs in (known, nobody, stranger)]
    refused = [seen.error is not None for seen in got]
    assert refused == [False, mode == ssl.CERT_REQUIRED, mode != ssl.CERT_NONE]
    assert got[0].peer_certificate == (None if mode == ssl.CERT_NONE else CHAIN.ders[0])


@pytest.mark.parametrize("mode", [ssl.CERT_OPTIONAL, ssl.CERT_REQUIRED])
def test_a_server_with_pins_always_requires(
    mode: ssl.VerifyMode, transport: Transport, tls_version: ssl.TLSVersion
) -> None:
    """Rule 9: CERT_OPTIONAL on a context with pins lets no client in without a certificate."""
    ours = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=PINS)
    assert ours.verify_mode == ssl.CERT_REQUIRED
    CHAIN.configure(ours)
    CHAIN.trust(ours)
    ours.verify_mode = mode
    peers.fix_version(ours, tls_version)
    assert talk(ours, client(), True, transport)[0].error is None
    seen, _ = talk(ours, peers.client_context(CHAIN), True, transport)
    assert seen.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE"


@pytest.mark.parametrize("server_side", [False, True])
@pytest.mark.parametrize("given", ["context", "override", "callable"])
def test_pins_without_verification_are_an_error(
    server_side: bool, given: str, transport: Transport
) -> None:
    """Rule 9: CERT_NONE with pins is a ValueError at wrap time that names trust="pins"."""
    protocol = ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT
    made = PinnedContext(
        protocol,
        pins={"context": PINS, "override": None, "callable": lambda _name: PINS}[given],
    )
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    options: dict[str, Any] = {"pins": PINS} if given == "override" else {}
    left, right = socket.socketpair()
    with left, right:
        call: Callable[..., object]
        if transport == "bio":
            call = functools.partial(made.wrap_bio, ssl.MemoryBIO(), ssl.MemoryBIO())
        else:
            call = functools.partial(made.wrap_socket, left)
        with pytest.raises(ValueError, match='trust="pins"'):
            call(server_side, **options)
    made.verify_mode = ssl.CERT_REQUIRED
    made.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side, **options)


# Names -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", [True, False])
def test_the_hostname_is_checked_if_it_is_to_be(
    make: Make, check: bool, tls_version: ssl.TLSVersion
) -> None:
    """check_hostname, with a name that is not the certificate's."""
    ours = make()
    ours.check_hostname = check
    seen = converse("bio", ours, server(tls_version), server_hostname="example.com")
    assert code(seen.client) == (62 if check else None)
    if check:
        left, right = socket.socketpair()
        with left, right:
            with pytest.raises(ValueError, match="check_hostname requires server_hostname"):
                ours.wrap_socket(left)
        with pytest.raises(ValueError, match="CERT_NONE when check_hostname is enabled"):
            ours.verify_mode = ssl.CERT_NONE
    else:
        assert converse("bio", ours, server(), server_hostname=None).client.error is None


NAMES = make_chain(
    2, hostnames=["xn--mnchen-3ya.example", "*.wild.example", "192.0.2.1", "2001:db8::1"]
)


@pytest.mark.parametrize(
    ("name", "matches"),
    [
        ("münchen.example", True),
        ("xn--mnchen-3ya.example", True),
        ("XN--MNCHEN-3YA.EXAMPLE", True),
        (b"xn--mnchen-3ya.example", True),
        ("a.wild.example", True),
        ("a.b.wild.example", False),
        ("wild.example", False),
        ("192.0.2.1", True),
        (b"192.0.2.1", True),
        ("192.0.2.2", False),
        ("2001:db8::1", True),
        ("2001:DB8:0:0::1", True),
        ("2001:db8::2", False),
    ],
)
def test_names_of_every_kind(
    flavour: str, name: str | bytes, matches: bool, tls_version: ssl.TLSVersion
) -> None:
    """Host names, wildcards and addresses, as str or bytes; and the name that the server sees."""
    asked: list[object] = []
    made: ssl.SSLContext
    if flavour == "ssl":
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    else:
        pins = PinSet({"leaf": certificates.spki_pin(NAMES.leaf)})
        made = PinnedContext(pins=pins if flavour == "pinned" else None)
    NAMES.trust(made)
    theirs = peers.server_context(NAMES, tls_version)
    theirs.sni_callback = lambda _object, asked_for, _context: asked.append(asked_for)
    seen = converse("bio", made, theirs, server_hostname=name)  # type: ignore[arg-type]  # bytes too
    assert (seen.client.error is None) is matches
    text = name.decode() if isinstance(name, bytes) else name
    if text[0].isdigit():
        assert asked == [None]  # RFC 6066 section 3: an address is no server name
        assert matches or code(seen.client) == 64
    else:
        assert asked == [text.encode("idna").decode()]
        assert matches or code(seen.client) == 62


@pytest.mark.parametrize("name", ["", ".example.com", "a\0b", "x" * 300, "a..b"])
def test_odd_names_are_taken_or_refused_as_by_ssl(name: str) -> None:
    """The same exception, or the same lack of one."""
    results: list[type[Exception] | None] = []
    for made in (
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        PinnedContext(pins=None),
        PinnedContext(pins=PINS),
    ):
        try:
            made.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=name)
            results.append(None)
        except Exception as error:
            results.append(type(error))
    assert results[1:] == results[:1] * 2


@pytest.mark.parametrize("name", ["exa mple", "*.example", "localhost.", "localhost:443"])
def test_what_is_no_name_matches_nothing(make: Make, name: str) -> None:
    """A newer OpenSSL refuses it at once, an older one when it has seen the certificate."""
    error: Exception | None
    try:
        error = converse("bio", make(), server(), server_hostname=name).client.error
    except ValueError as refused:
        error = refused
    assert re.search("host name|Hostname mismatch", str(error))


def test_common_names_are_checked_if_they_are_to_be(flavour: str) -> None:
    """hostname_checks_common_name, with a certificate that has no alternative names."""
    authority = trustme.CA()
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    identity = authority.issue_cert(common_name="localhost")
    identity.configure_cert(theirs)
    pem = identity.cert_chain_pems[0].bytes()
    made: ssl.SSLContext
    if flavour == "ssl":
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    else:
        pins = PinSet({"leaf": Pin.from_certificate(pem)})
        made = PinnedContext(pins=pins if flavour == "pinned" else None)
    authority.configure_trust(made)
    results = []
    for check in (True, False, True):
        made.hostname_checks_common_name = check
        results.append(code(converse("bio", made, theirs).client))
    assert results == [None, 62, None]


# Certificates and keys ---------------------------------------------------------------------------


class Encrypted:
    """CHAIN's key under a password, on disk, and the password in many forms."""

    password = "päss"

    def __init__(self, directory: Path) -> None:
        self.certfile = CHAIN.write(directory).certfile
        self.keyfile = directory / "encrypted.pem"
        self.keyfile.write_bytes(
            CHAIN.keys[0].private_bytes(
                Encoding.PEM,
                PrivateFormat.PKCS8,
                BestAvailableEncryption(self.password.encode()),
            )
        )


@pytest.mark.parametrize("form", ["str", "bytes", "bytearray", "callable", "callable of bytes"])
def test_an_encrypted_key_is_opened(
    make: Make, form: str, tls_version: ssl.TLSVersion, tmp_path: Path
) -> None:
    """load_cert_chain() with the password as text, bytes, or whatever gives one, asked once."""
    encrypted = Encrypted(tmp_path)
    asked: list[int] = []

    def ask() -> str:
        asked.append(1)
        return encrypted.password

    raw = encrypted.password.encode()
    password: Any = {
        "str": encrypted.password,
        "bytes": raw,
        "bytearray": bytearray(raw),
        "callable": ask,
        "callable of bytes": lambda: raw,
    }[form]
    ours = make(True, bare=True)
    CHAIN.trust(ours)
    ours.load_cert_chain(encrypted.certfile, encrypted.keyfile, password)
    assert talk(ours, client(tls_version), True)[0].error is None
    assert len(asked) == (form == "callable")


@pytest.mark.parametrize(
    "password",
    [
        "wrong",
        "",
        b"",
        lambda: "wrong",
        lambda: 7,
        lambda: None,
        lambda: "x" * 2000,
        "x" * 2000,
        7,
    ],
)
def test_a_wrong_password_raises_what_ssl_raises(password: Any, tmp_path: Path) -> None:
    """The class of the exception, and the reason."""
    encrypted = Encrypted(tmp_path)
    errors = []
    for made in (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), PinnedContext(pins=None)):
        with pytest.raises(Exception, match=r".") as caught:
            made.load_cert_chain(encrypted.certfile, encrypted.keyfile, password)
        errors.append((caught.type, getattr(caught.value, "reason", None)))
    assert errors[0] == errors[1]


def test_what_a_password_callback_raises_comes_out(make: Make, tmp_path: Path) -> None:
    """An exception in the callable is that of load_cert_chain()."""
    encrypted = Encrypted(tmp_path)

    def ask() -> str:
        raise KeyError("no keyring")

    with pytest.raises(KeyError, match="no keyring"):
        make(bare=True).load_cert_chain(encrypted.certfile, encrypted.keyfile, ask)


def test_a_key_that_failed_to_load_changes_nothing(make: Make, tmp_path: Path) -> None:
    """After a failed load_cert_chain() a server still has what it had."""
    encrypted = Encrypted(tmp_path)
    ours = make(True)
    with pytest.raises(ssl.SSLError):
        ours.load_cert_chain(encrypted.certfile, encrypted.keyfile, "wrong")
    assert talk(ours, client(), True)[0].error is None


def test_a_later_certificate_takes_the_place_of_an_earlier_one(
    make: Make, tls_version: ssl.TLSVersion
) -> None:
    """Of two chains with keys of one kind the later is presented, of two kinds whichever fits."""
    ours = make(True)
    newer = make_chain(3, pool=2)
    newer.configure(ours)
    theirs = peers.client_context(newer, tls_version, identity=CHAIN)
    seen, _ = talk(ours, theirs, True)
    assert seen.error is None
    rsa = make_chain(2, kinds="rsa", pool=3)
    rsa.configure(ours)
    if tls_version == ssl.TLSVersion.TLSv1_2:  # where a suite says which kind of key it wants
        theirs = peers.client_context(rsa, tls_version, identity=CHAIN)
        theirs.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")
        _, there = talk(ours, theirs, True)
        assert there.peer_certificate == rsa.ders[0]


def test_a_leaf_may_have_trust_settings(make: Make, tmp_path: Path) -> None:
    """``openssl x509 -trustout``: the certificate is presented, and the others behind it."""
    certfile, keyfile, _ = CHAIN.write(tmp_path)
    trusted = subprocess.run(
        ["openssl", "x509", "-trustout", "-addtrust", "serverAuth", "-in", str(certfile)],
        capture_output=True,
        check=True,
        timeout=30,
    ).stdout
    certfile.write_bytes(trusted + certificates.pem(*CHAIN.certificates[1:]))
    ours = make(True, bare=True)
    CHAIN.trust(ours)
    ours.load_cert_chain(certfile, keyfile)
    _, there = talk(ours, client(), True)
    assert there.error is None
    assert there.peer_certificate == CHAIN.ders[0]


@pytest.mark.parametrize("form", ["cafile", "capath", "PEM", "DER", "several DER", "several PEM"])
def test_authorities_are_loaded(
    make: Make, form: str, transport: Transport, tls_version: ssl.TLSVersion, tmp_path: Path
) -> None:
    """load_verify_locations() from a file, a directory, text and bytes."""
    ours = make(bare=True)
    seen, _ = talk(ours, server(tls_version), False, transport)
    assert code(seen) in (19, 20)
    load_authority(ours, form, tmp_path)
    assert talk(ours, server(tls_version), False, transport)[0].error is None


def load_authority(made: ssl.SSLContext, form: str, directory: Path) -> None:
    cafile = CHAIN.write(directory).cafile
    if form == "cafile":
        made.load_verify_locations(cafile)
    elif form == "capath":
        command = ["openssl", "x509", "-subject_hash", "-noout", "-in", str(cafile)]
        done = subprocess.run(command, capture_output=True, check=True, timeout=30, text=True)
        hashed = directory / "hashed"
        hashed.mkdir()
        (hashed / f"{done.stdout.strip()}.0").write_bytes(cafile.read_bytes())
        made.load_verify_locations(capath=hashed)
    else:
        data: dict[str, str | bytes] = {
            "PEM": CHAIN.root_pem,
            "several PEM": OTHER.root_pem + "a comment\n" + CHAIN.root_pem,
            "DER": CHAIN.root_der,
            "several DER": OTHER.root_der + CHAIN.root_der,
        }
        made.load_verify_locations(cadata=data[form])


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"cafile": "nothing.pem"},
        {"capath": "nothing"},
        {"cadata": ""},
        {"cadata": b""},
        {"cadata": "no PEM"},
        {"cadata": b"no DER"},
        {"cadata": "ümlaut"},
        {"cadata": CHAIN.root_der[:-1]},
        {"cadata": CHAIN.root_pem + CHAIN.root_pem[:200]},
        {"cadata": CHAIN.root_pem.replace("MII", "XII", 1)},
        {"cadata": 7},
        {"cafile": 7.5},
        {"cafile": __file__},
        {"cadata": bytearray(CHAIN.root_der)},
        {"cadata": CHAIN.root_pem},
    ],
)
def test_authorities_that_cannot_be_loaded_raise_what_ssl_raises(
    arguments: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same class, errno and reason, or the same success; and what was trusted stays."""
    monkeypatch.chdir(tmp_path)
    results = []
    for made in (ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), PinnedContext(pins=None)):
        OTHER.trust(made)
        try:
            made.load_verify_locations(**arguments)
            result = None
        except Exception as error:
            result = [type(error), getattr(error, "errno", None), getattr(error, "reason", None)]
        seen = converse("bio", made, peers.server_context(OTHER)).client
        # Of what comes before the damage ssl keeps some, and we keep nothing.
        trusted = None if result else code(talk(made, server(), False)[0])
        results.append((result, code(seen), trusted))
    assert results[0] == results[1]


def test_the_trust_store_can_be_asked(flavour: str, make: Make, tmp_path: Path) -> None:
    """get_ca_certs() and cert_store_stats() say what ssl says of the same authorities."""
    ours, theirs = make(bare=True), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    assert ours.get_ca_certs() == []
    for made in (ours, theirs):
        OTHER.trust(made)
        made.load_verify_locations(CHAIN.write(tmp_path).cafile)
    assert ours.get_ca_certs() == theirs.get_ca_certs()
    assert ours.get_ca_certs(True) == theirs.get_ca_certs(binary_form=True)
    assert ours.cert_store_stats() == theirs.cert_store_stats()
    assert ours.cert_store_stats()["x509_ca"] == 2


@pytest.mark.parametrize("load", ["load_default_certs", "set_default_verify_paths", "default"])
@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_the_default_certificates_are_those_of_the_environment(
    flavour: str,
    make: Make,
    load: str,
    variable: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SSL_CERT_FILE and SSL_CERT_DIR are honoured, as the environment is when they are loaded."""
    scratch = PinnedContext(pins=None)
    load_authority(scratch, "capath", tmp_path)
    right = {"SSL_CERT_FILE": CHAIN.write(tmp_path).cafile, "SSL_CERT_DIR": tmp_path / "hashed"}
    wrong = {"SSL_CERT_FILE": OTHER.write(tmp_path).cafile, "SSL_CERT_DIR": tmp_path / "nothing"}

    def loaded() -> ssl.SSLContext:
        if load == "default":
            if flavour == "ssl":
                return ssl.create_default_context()
            return pinsock.create_default_context(pins=PINS if flavour == "pinned" else None)
        made = make(bare=True)
        getattr(made, load)()
        return made

    monkeypatch.setenv("SSL_CERT_FILE", str(wrong["SSL_CERT_FILE"]))
    monkeypatch.setenv("SSL_CERT_DIR", str(wrong["SSL_CERT_DIR"]))
    for paths, expected in ((wrong, 20), (right, None), (wrong, 20)):
        monkeypatch.setenv(variable, str(paths[variable]))
        ours, theirs = loaded(), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        theirs.load_default_certs()
        assert ours.get_ca_certs(True) == theirs.get_ca_certs(True)
        assert ours.cert_store_stats() == theirs.cert_store_stats()
        assert code(talk(ours, server(), False)[0]) == expected


def test_damaged_default_certificates_are_passed_over(
    flavour: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As with ssl; here with a warning in the log."""
    for name, content in (("damaged.pem", "-----BEGIN CERTIFICATE-----\n!\n"), ("empty.pem", "")):
        path = tmp_path / name
        path.write_text(content)
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "nothing"))
        if flavour == "ssl":
            made = ssl.create_default_context()
        else:
            made = pinsock.create_default_context(pins=PINS if flavour == "pinned" else None)
        assert made.get_ca_certs() == []
        assert code(talk(made, server(), False)[0]) == 20
    if flavour != "ssl":
        assert "cannot read the default certificates" in caplog.text


def test_an_empty_list_of_default_directories_is_none(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SSL_CERT_DIR set to nothing, as containers do, is no error."""
    monkeypatch.setenv("SSL_CERT_DIR", "")
    ours = make(bare=True)
    ours.load_default_certs()
    assert code(talk(ours, server(), False)[0]) == 20


# The name that a client asks for -----------------------------------------------------------------


@pytest.mark.parametrize("setter", ["sni_callback", "set_servername_callback"])
def test_a_server_sees_the_name_that_is_asked_for(
    make: Make, setter: str, transport: Transport, tls_version: ssl.TLSVersion
) -> None:
    """The callback gets the connection, the name or None, and the context; None takes it away."""
    called: list[tuple[object, object, object]] = []
    ours = make(True)

    def callback(connection: object, name: str | None, given: object) -> None:
        called.append((type(connection), name, given))

    def put(value: Any) -> None:
        if setter == "sni_callback":
            ours.sni_callback = value
        else:
            getattr(ours, setter)(value)

    put(callback)
    if setter == "sni_callback":
        assert ours.sni_callback is callback
    assert talk(ours, client(tls_version), True, transport)[0].error is None
    anonymous = peers.client_context(None, tls_version, identity=CHAIN)
    converse(transport, anonymous, ours, server_hostname=None)
    kind = ours.sslsocket_class if transport == "socket" else ours.sslobject_class
    assert called == [(kind, "localhost", ours), (kind, None, ours)]
    put(None)
    assert talk(ours, client(tls_version), True, transport)[0].error is None
    assert len(called) == 2
    with pytest.raises(TypeError, match="not a callable object"):
        put(7)
    with pytest.raises(ValueError, match="cannot be set on TLS_CLIENT context"):
        make().sni_callback = callback


class _Number:
    """A number by way of ``__index__``."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __index__(self) -> int:
        return self._number

    def __repr__(self) -> str:
        return f"index {self._number}"


@pytest.mark.parametrize(
    "answer",
    [112, 40, 116, 0, True, -1, 2**70, 1.5, _Number(112), "nonsense", KeyError("x")],
    ids=repr,
)
def test_what_the_callback_answers_is_what_the_client_hears(
    answer: object, make: Make, tls_version: ssl.TLSVersion
) -> None:
    """The number of an alert; and an exception or nonsense is a failure, as with ssl."""

    def callback(_connection: object, _name: object, _context: object) -> object:
        if isinstance(answer, Exception):
            raise answer
        return answer

    results = []
    for ours in (make(True), server()):
        CHAIN.trust(ours)
        cast(Any, ours).sni_callback = callback
        peers.fix_version(ours, tls_version)
        with _unraisable():
            seen, theirs = talk(ours, client(), True)
        results.append((theirs.reason, seen.reason))
    assert results[0] == results[1]


def test_a_name_that_is_not_ascii_does_not_get_to_the_callback(make: Make) -> None:
    """The server says internal_error, as with ssl, and the connection is over."""
    asked_for: list[object] = []
    ours = make(True)
    ours.sni_callback = lambda _connection, name, _context: asked_for.append(name)
    asking = MemoryPeer(peers.client_context(CHAIN), server_hostname="localhost")
    asking.step()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    accepting = ours.wrap_bio(incoming, outgoing, server_side=True)
    incoming.write(asking.outgoing.read().replace(b"localhost", b"loc\xe4lhost"))
    with _unraisable(), pytest.raises(ssl.SSLError, match="callback failed"):
        accepting.do_handshake()
    assert outgoing.read()[-2:] == bytes((2, ssl.ALERT_DESCRIPTION_INTERNAL_ERROR))
    assert asked_for == []


@contextlib.contextmanager
def _unraisable() -> Iterator[None]:
    """Have ssl report the exceptions of callbacks to nobody."""
    before, sys.unraisablehook = sys.unraisablehook, lambda _what: None
    try:
        yield
    finally:
        sys.unraisablehook = before


def test_the_callback_can_switch_to_another_context(
    flavour: str, make: Make, transport: Transport, tls_version: ssl.TLSVersion
) -> None:
    """The other context's certificate is presented, and its context is the connection's."""
    first, second = make(True, bare=True), make(True)
    OTHER.configure(first)
    OTHER.trust(first)

    def switch(connection: Any, name: object, _context: object) -> None:
        if name == "localhost":
            connection.context = second

    first.sni_callback = switch
    made: list[object] = []
    seen = converse(
        transport,
        client(tls_version),
        first,
        inspect=lambda connection: made.append(connection.context),
    )
    assert seen.client.error is None
    assert seen.client.peer_certificate == CHAIN.ders[0]
    assert second in made


def test_no_switch_to_a_context_of_ssl(
    transport: Transport, tls_version: ssl.TLSVersion, unraisable: list[BaseException]
) -> None:
    """An ssl.SSLContext cannot take over a pinned connection: the handshake fails."""
    ours = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=None)
    CHAIN.configure(ours)

    def switch(connection: Any, _name: object, _context: object) -> None:
        connection.context = server()

    ours.sni_callback = switch
    seen = converse(transport, client(tls_version), ours)
    assert seen.client.alert == "handshake_failure"
    assert [type(error) for error in unraisable] == [TypeError]
    assert "must be a PinnedContext" in str(unraisable[0])


# Settings changed after use ----------------------------------------------------------------------

CHANGES: dict[str, Callable[[PinnedContext], object]] = {
    "options": lambda c: setattr(c, "options", c.options | ssl.OP_NO_TICKET),
    "verify_mode": lambda c: setattr(c, "verify_mode", ssl.CERT_OPTIONAL),
    "verify_flags": lambda c: setattr(c, "verify_flags", c.verify_flags | ssl.VERIFY_X509_STRICT),
    "minimum_version": lambda c: setattr(c, "minimum_version", ssl.TLSVersion.TLSv1_3),
    "maximum_version": lambda c: setattr(c, "maximum_version", ssl.TLSVersion.TLSv1_2),
    "keylog_filename": lambda c: setattr(c, "keylog_filename", "/dev/null"),
    "hostname_checks_common_name": lambda c: setattr(c, "hostname_checks_common_name", False),
    "set_ciphers": lambda c: c.set_ciphers("ECDHE+AESGCM"),
    "set_alpn_protocols": lambda c: c.set_alpn_protocols(["h2"]),
    "set_ecdh_curve": lambda c: c.set_ecdh_curve("secp384r1"),
    "load_cert_chain": CHAIN.configure,
    "post_handshake_auth": lambda c: setattr(c, "post_handshake_auth", True),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_setting_makes_another_snapshot(change: str) -> None:
    """And an unchanged one does not: the work is done once (also when it is set to what it is)."""
    made = PinnedContext(pins=PINS)
    first = made._snapshot(pinned=True)
    assert made._snapshot(pinned=True) is first
    made.pins = [WRONG]
    CHAIN.trust(made)
    made.check_hostname = True
    made.verify_mode = ssl.CERT_REQUIRED
    assert made._snapshot(pinned=True) is first
    CHANGES[change](made)
    second = made._snapshot(pinned=True)
    assert second is not first
    if change != "load_cert_chain":
        repeated = {"set_ciphers", "set_ecdh_curve"}  # counted, not compared
        if change not in repeated:
            CHANGES[change](made)
    assert made._snapshot(pinned=True) is second


def test_what_clients_set_at_each_connect_costs_no_snapshot() -> None:
    """urllib3 and requests assign verify_mode and check_hostname and set ALPN at every connect."""
    made = PinnedContext(pins=PINS)
    snapshots = set()
    for _ in range(3):
        made.verify_mode = ssl.CERT_REQUIRED
        made.check_hostname = True
        made.set_alpn_protocols(["http/1.1"])
        snapshots.add(id(made._snapshot(pinned=True)))
    assert len(snapshots) == 1


def test_settings_changed_after_use_hold_for_the_next_connection(
    make: Make, transport: Transport
) -> None:
    """An ssl context is never frozen: trust, versions, protocols, after the first connection."""
    ours = make(bare=True)
    assert code(talk(ours, server(), False, transport)[0]) == 20
    CHAIN.trust(ours)
    assert talk(ours, server(), False, transport)[0].version == "TLSv1.3"
    ours.maximum_version = ssl.TLSVersion.TLSv1_2
    ours.set_alpn_protocols(["h2"])
    theirs = server()
    theirs.set_alpn_protocols(["h2"])
    seen, _ = talk(ours, theirs, False, transport)
    assert seen.version == "TLSv1.2"
    assert cast(Any, seen.inspected)[1] == "h2"


# The ways to make one ----------------------------------------------------------------------------


@pytest.mark.parametrize("purpose", list(ssl.Purpose))
def test_a_default_context_is_that_of_ssl(purpose: ssl.Purpose) -> None:
    """create_default_context() has the settings of ssl.create_default_context()."""
    theirs = ssl.create_default_context(purpose, cadata=CHAIN.root_pem)
    for pins in (None, PINS):
        ours = pinsock.create_default_context(purpose, pins=pins, cadata=CHAIN.root_pem)
        for name in (
            "protocol",
            "verify_flags",
            "options",
            "minimum_version",
            "maximum_version",
            "check_hostname",
            "hostname_checks_common_name",
            "num_tickets",
            "post_handshake_auth",
            "security_level",
            "keylog_filename",
            "sni_callback",
        ):
            assert getattr(ours, name) == getattr(theirs, name), name
        assert [c["name"] for c in ours.get_ciphers()] == [c["name"] for c in theirs.get_ciphers()]
        assert ours.get_ca_certs() == theirs.get_ca_certs()
        required = pins is not None or purpose is ssl.Purpose.SERVER_AUTH
        assert ours.verify_mode == (ssl.CERT_REQUIRED if required else theirs.verify_mode)
    with pytest.raises(TypeError):
        pinsock.create_default_context("SERVER_AUTH", pins=None)  # type: ignore[arg-type]  # that is it


def test_a_default_context_logs_secrets_if_the_environment_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SSLKEYLOGFILE, as with ssl."""
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    for made in (ssl.create_default_context(), pinsock.create_default_context(pins=PINS)):
        assert made.keylog_filename == str(tmp_path / "keys")


def test_pins_have_to_be_given() -> None:
    """No pinning is something to say, not something to forget."""
    for call in (
        lambda: PinnedContext(),  # type: ignore[call-arg]  # that is it
        lambda: PinnedContext(ssl.PROTOCOL_TLS_CLIENT),  # type: ignore[call-arg]  # that is it
        lambda: PinnedContext(ssl.PROTOCOL_TLS_CLIENT, PINS),  # type: ignore[call-arg]  # likewise
        lambda: pinsock.create_default_context(),  # type: ignore[call-arg]  # likewise
    ):
        with pytest.raises(TypeError, match=r"pins|positional"):
            call()
    with pytest.raises(ValueError, match="pins"):
        pinsock.create_connection(("127.0.0.1", 1))


def test_pins_may_be_many_things() -> None:
    """None, a set, pins, pin texts, a mapping by host, HostPins, a callable; not nonsense."""
    pin = Pin.parse(PIN)
    hosts = HostPins({"localhost": PIN.split()})
    assert PinnedContext(pins=None).pins is None
    assert PinnedContext(pins=PINS).pins is PINS
    assert PinnedContext(pins=[pin]).pins == PinSet([pin])
    assert PinnedContext(pins=[PIN]).pins == PinSet([pin])
    assert PinnedContext(pins=hosts).pins is hosts
    assert isinstance(PinnedContext(pins={"localhost": [PIN]}).pins, HostPins)
    assert PinnedContext(pins=hosts.__call__).pins == hosts.__call__
    made = PinnedContext(pins=None)
    for wrong, error in (
        ([], ValueError),
        (["nonsense"], PinSyntaxError),
        ({"https://localhost": [PIN]}, PinSyntaxError),
        (7, TypeError),
    ):
        with pytest.raises(error):
            PinnedContext(pins=wrong)  # type: ignore[arg-type]  # that is it
        with pytest.raises(error):
            made.pins = wrong  # type: ignore[assignment]  # likewise
    assert made.pins is None


def test_setting_pins_affects_the_next_handshake(
    transport: Transport, tls_version: ssl.TLSVersion
) -> None:
    """context.pins = ... in both directions, and None takes them away."""
    made = PinnedContext(pins=PINS)
    CHAIN.trust(made)
    theirs = server(tls_version)
    for pins, fails in (([WRONG], True), (PINS, False), ({"localhost": [WRONG]}, True)):
        made.pins = pins
        error = talk(made, theirs, False, transport)[0].error
        assert isinstance(error, PinMismatchError) is fails
    made.pins = None
    assert talk(made, theirs, False, transport)[0].error is None
    made.pins = {"example.com": [PIN]}
    assert isinstance(talk(made, theirs, False, transport)[0].error, UnpinnedPeerError)


def test_pins_can_be_given_for_one_connection(tls_version: ssl.TLSVersion) -> None:
    """pins= of wrap_socket() and wrap_bio() go before the context's, None included."""
    made = PinnedContext(pins=[WRONG])
    CHAIN.trust(made)
    with StdlibServer(CHAIN, tls_version) as listening:
        for pins, match in (([PIN], PinMatch(0, Pin.parse(PIN), "any")), (None, None)):
            with listening.connect() as sock, made.wrap_socket(
                sock, server_hostname="localhost", pins=pins
            ) as wrapped:
                assert wrapped.pin_match == match
        with listening.connect() as sock, pytest.raises(PinMismatchError):
            made.wrap_socket(sock, server_hostname="localhost")
        with listening.connect() as sock, pytest.raises(PinSyntaxError):
            made.wrap_socket(sock, server_hostname="localhost", pins=["nonsense"])
    cases: list[tuple[Any, bool]] = [
        ([PIN], False),
        (None, False),
        ({"localhost": [WRONG]}, True),
    ]
    for given, fails in cases:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        ours = made.wrap_bio(incoming, outgoing, server_hostname="localhost", pins=given)
        theirs = MemoryPeer(server(tls_version), server_side=True)
        error: Exception | None = None
        while not (theirs.settled and ours.version()) and error is None:
            try:
                ours.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except PinMismatchError as caught:
                error = caught
            theirs.incoming.write(outgoing.read())
            theirs.step()
            incoming.write(theirs.outgoing.read())
        assert (error is not None) is fails


@pytest.mark.parametrize("threads", [8])
def test_pins_of_one_connection_are_no_others(threads: int, tls_version: ssl.TLSVersion) -> None:
    """Overrides in several threads on one context do not mix."""
    made = PinnedContext(pins=None)
    CHAIN.trust(made)

    def one(address: tuple[str, int], number: int) -> bool:
        with socket.create_connection(address, TIMEOUT) as sock:
            try:
                with made.wrap_socket(
                    sock, server_hostname="localhost", pins=[PIN] if number % 2 else [WRONG]
                ) as wrapped:
                    return wrapped.pin_match is not None
            except PinMismatchError:
                return False

    with StdlibServer(CHAIN, tls_version) as listening, ThreadPoolExecutor(threads) as pool:
        results = list(pool.map(lambda number: one(listening.address, number), range(40)))
    assert results == [bool(number % 2) for number in range(40)]


def test_classes_can_be_derived(tls_version: ssl.TLSVersion) -> None:
    """sslsocket_class and sslobject_class are what is made."""

    class Socket(PinnedSocket):
        pass

    class Object(PinnedObject):
        pass

    class Context(PinnedContext):
        sslsocket_class = Socket
        sslobject_class = Object

    made = Context(pins=PINS)
    CHAIN.trust(made)
    with StdlibServer(CHAIN, tls_version) as listening:
        for pins in (None, PINS):
            with listening.connect() as sock, made.wrap_socket(
                sock, server_hostname="localhost", pins=pins
            ) as wrapped:
                assert type(wrapped) is Socket
        bios = ssl.MemoryBIO(), ssl.MemoryBIO()
        assert type(made.wrap_bio(*bios, server_hostname="localhost", pins=PINS)) is Object


class ForeignSocket(ssl.SSLSocket):
    """What somebody has derived who knows nothing of us."""


class ForeignObject(ssl.SSLObject):
    """Likewise."""


@pytest.mark.parametrize(
    ("sockets", "objects"),
    [(ForeignSocket, ForeignObject), (ssl.SSLSocket, ssl.SSLObject)],
    ids=["derived", "ssl"],
)
def test_foreign_classes_are_made_ours(
    sockets: type[ssl.SSLSocket], objects: type[ssl.SSLObject], tls_version: ssl.TLSVersion
) -> None:
    """A class of ssl's, or derived from one, is what is made, and is pinned as well."""
    made = PinnedContext(pins=PINS)
    CHAIN.trust(made)
    made.sslsocket_class = sockets  # type: ignore[assignment]  # that is it
    made.sslobject_class = objects  # type: ignore[assignment]  # likewise
    with StdlibServer(CHAIN, tls_version) as listening, listening.connect() as sock:
        with made.wrap_socket(sock, server_hostname="localhost", pins=PINS) as wrapped:
            assert isinstance(wrapped, sockets)
            assert isinstance(wrapped, PinnedSocket)
            assert wrapped.pin_match is not None
    for pins in ({}, {"pins": WRONG}):
        made.pins = WRONG if not pins else PINS
        bios = ssl.MemoryBIO(), ssl.MemoryBIO()
        wrapped_bio = made.wrap_bio(*bios, server_hostname="localhost", **pins)
        assert isinstance(wrapped_bio, objects)
        theirs = MemoryPeer(server(tls_version), server_side=True)
        with pytest.raises(ssl.SSLWantReadError):
            wrapped_bio.do_handshake()
        theirs.incoming.write(bios[1].read())
        theirs.step()
        bios[0].write(theirs.outgoing.read())
        with pytest.raises(PinMismatchError):
            wrapped_bio.do_handshake()


@pytest.mark.parametrize("protocol", [ssl.PROTOCOL_TLS_CLIENT, ssl.PROTOCOL_TLS_SERVER])
def test_a_context_serves_one_side_only(protocol: int, flavour: str, make: Make) -> None:
    """A client's context makes no server, and the other way round."""
    made = make(protocol == ssl.PROTOCOL_TLS_SERVER)
    with pytest.raises(ssl.SSLError, match=r"Cannot create a (client|server) socket"):
        made.wrap_bio(
            ssl.MemoryBIO(),
            ssl.MemoryBIO(),
            server_side=protocol == ssl.PROTOCOL_TLS_CLIENT,
            server_hostname="localhost" if protocol == ssl.PROTOCOL_TLS_SERVER else None,
        )


def test_a_module_may_replace_the_context_of_ssl(
    monkeypatch: pytest.MonkeyPatch, tls_version: ssl.TLSVersion
) -> None:
    """With PinnedContext in the place of ssl.SSLContext every setting can be made, and no less."""

    class Replacement(PinnedContext):
        def __init__(self, protocol: int = ssl.PROTOCOL_TLS_CLIENT) -> None:
            super().__init__(protocol, pins=PINS)

    theirs = server(tls_version)
    contexts: list[PinnedContext] = []
    monkeypatch.setattr(ssl, "SSLContext", Replacement)
    for made in (PinnedContext(pins=PINS), Replacement()):
        made.options |= ssl.OP_NO_COMPRESSION
        made.check_hostname = False
        made.check_hostname = True
        made.verify_mode = ssl.CERT_REQUIRED
        made.verify_flags |= ssl.VERIFY_X509_TRUSTED_FIRST
        made.minimum_version = ssl.TLSVersion.TLSv1_2
        made.maximum_version = ssl.TLSVersion.MAXIMUM_SUPPORTED
        made.hostname_checks_common_name = False
        made.set_alpn_protocols(["h2"])
        made.set_ciphers("ECDHE+AESGCM")
        made.load_verify_locations(cadata=CHAIN.root_pem)
        made.sni_callback  # noqa: B018  # reading it is the test
        assert made.minimum_version == ssl.TLSVersion.TLSv1_2
        contexts.append(made)
    assert isinstance(ssl.create_default_context(), Replacement)
    monkeypatch.undo()
    for made in contexts:
        ours = MemoryPeer(made, server_hostname="localhost")
        shake(ours, MemoryPeer(theirs, server_side=True))
        assert ours.record.error is None


# create_connection -------------------------------------------------------------------------------


def test_create_connection_connects_and_checks(tls_version: ssl.TLSVersion) -> None:
    """With a context, with pins for one connection, and with another name than the address."""
    made = PinnedContext(pins=[WRONG])
    CHAIN.trust(made)
    with StdlibServer(CHAIN, tls_version) as listening:
        with pinsock.create_connection(
            listening.address, TIMEOUT, pins=PINS, context=made
        ) as wrapped:
            assert isinstance(wrapped, PinnedSocket)
            assert wrapped.gettimeout() == TIMEOUT
            assert wrapped.server_hostname == "127.0.0.1"
            assert wrapped.pin_match == PinMatch(0, Pin.parse(PIN), "leaf")
            wrapped.sendall(b"ping")
            assert wrapped.recv(4) == b"ping"
        made.pins = PINS
        with pinsock.create_connection(
            listening.address,
            TIMEOUT,
            ("127.0.0.1", 0),
            context=made,
            server_hostname="localhost",
        ) as wrapped:
            assert wrapped.server_hostname == "localhost"


def test_create_connection_makes_a_context_of_its_own(
    tls_version: ssl.TLSVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pins alone: the context is that of create_default_context(pins=pins)."""
    monkeypatch.setenv("SSL_CERT_FILE", str(CHAIN.write(tmp_path).cafile))
    with StdlibServer(CHAIN, tls_version) as listening:
        with pinsock.create_connection(listening.address, TIMEOUT, pins=PINS) as wrapped:
            assert wrapped.context.pins is PINS  # type: ignore[attr-defined]  # ours
        with pytest.raises(PinMismatchError):
            pinsock.create_connection(listening.address, TIMEOUT, pins=[WRONG])


@pytest.mark.parametrize("default", [None, 7.0])
def test_create_connection_has_the_default_timeout(default: float | None) -> None:
    """Left out it is socket.getdefaulttimeout(); None is none."""
    made = PinnedContext(pins=PINS)
    CHAIN.trust(made)
    before = socket.getdefaulttimeout()
    with StdlibServer(CHAIN) as listening:
        socket.setdefaulttimeout(default)
        try:
            with pinsock.create_connection(listening.address, context=made) as wrapped:
                assert wrapped.gettimeout() == default
            with pinsock.create_connection(listening.address, None, context=made) as wrapped:
                assert wrapped.gettimeout() is None
        finally:
            socket.setdefaulttimeout(before)


@pytest.mark.parametrize("what", ["mismatch", "name", "authority", "unpinned", "syntax", "silent"])
def test_create_connection_closes_its_socket_when_it_fails(what: str) -> None:
    """The error comes out, and the server sees the end of the stream."""
    made = PinnedContext(pins=PINS)
    if what != "authority":
        CHAIN.trust(made)
    all_options: dict[str, dict[str, Any]] = {
        "mismatch": {"pins": [WRONG]},
        "name": {"server_hostname": "example.com"},
        "unpinned": {"pins": {"example.com": [PIN]}},
        "syntax": {"pins": ["nonsense"]},
        "silent": {"timeout": 0.05},
    }
    options = all_options.get(what, {})
    errors: dict[str, type[Exception]] = {
        "mismatch": PinMismatchError,
        "unpinned": UnpinnedPeerError,
        "syntax": PinSyntaxError,
        "silent": TimeoutError,
    }
    if what == "silent":
        with socket.create_server(("127.0.0.1", 0)) as listener:
            with pytest.raises(TimeoutError):
                pinsock.create_connection(listener.getsockname(), context=made, **options)
            sock, _ = listener.accept()
            with sock:
                sock.settimeout(TIMEOUT)
                while sock.recv(65536):
                    pass
        return
    with StdlibServer(CHAIN) as listening:
        with pytest.raises(errors.get(what, ssl.SSLCertVerificationError)):
            pinsock.create_connection(listening.address, TIMEOUT, context=made, **options)
        assert listening.observation().error is not None


def test_create_connection_says_what_the_system_says() -> None:
    """A port where nobody listens is a ConnectionRefusedError."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    with pytest.raises(ConnectionRefusedError):
        pinsock.create_connection(address, TIMEOUT, context=PinnedContext(pins=PINS))


@hypothesis.given(st.text(alphabet="abA.-_ :%ü。", max_size=140))
@hypothesis.example("x" * 63 + ".b")
@hypothesis.example("x" * 64 + ".b")
@hypothesis.example("b." + "x" * 64)
@hypothesis.example(".a")
@hypothesis.example("a..b")
def test_a_host_name_is_encoded_as_ssl_encodes_it(name: str) -> None:
    """What is ASCII already goes another way, with the same outcome."""

    def encoded(context: ssl.SSLContext) -> str | type[Exception]:
        try:
            return context._encode_hostname(name)  # type: ignore[attr-defined,no-any-return]  # private
        except UnicodeError as error:
            return type(error)

    ours = PinnedContext(pins=None)
    assert encoded(ours) == encoded(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
