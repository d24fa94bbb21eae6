"""The same cause gives the same error as ``ssl``: class, errno, reason, library, verify code, text.

Each cause is provoked three times: with ``ssl``, with ours without pins, and with ours and pins
that match.  The other side is always ``ssl``, so that only one thing differs.

Two things are not compared: the end of a message, ``(_ssl.c:1234)``, which ours have not, and
what the two versions of OpenSSL in this process spell in different ways (:data:`RENAMED`).
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import struct
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography import x509

from pinsock import PinnedContext, PinSet
from pinsock._openssl import file_of
from tests.certificates import Chain, make_chain, make_crl, spki_pin
from tests.peers import MemoryPeer, fix_version, shake

CHAIN, OTHER, CLIENT = make_chain(3), make_chain(2, pool=3), make_chain(2, pool=4)
TIMEOUT = 10.0
#: Seconds; how long a timeout that is to be reached takes.
SHORT = 0.02
FLAVOURS = ("unpinned", "pinned")
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0")


def setting(flavour: str, *, server_side: bool) -> ssl.SSLContext:
    """A context of a flavour; what it verifies, trusts and presents is for the cause to say."""
    protocol = ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT
    if flavour == "ssl":
        return ssl.SSLContext(protocol)
    chains = (CHAIN, OTHER, CLIENT)
    # Any of them, and whatever else a cause presents: the pins do not fail before OpenSSL does.
    pins = PinSet({"any": [spki_pin(each) for chain in chains for each in chain.certificates]})
    made = PinnedContext(protocol, pins=pins if flavour == "pinned" else None)
    if server_side:
        made.verify_mode = ssl.CERT_NONE if flavour == "unpinned" else ssl.CERT_REQUIRED
    return made


# What is compared --------------------------------------------------------------------------------

#: Texts and reasons that a newer OpenSSL spells in another way, and the older spelling.
RENAMED = {
    r"(?i)\b(sslv3|tlsv1|tlsv13|ssl/tls|tls)([ _])alert": r"tls\2alert",
    "certificate is not yet valid or the system clock is incorrect": "certificate is not yet valid",
    "certificate has expired or the system clock is incorrect": "certificate has expired",
}
_PLACE = r" \(_ssl\.c:\d+\)$"


def told(error: BaseException | None) -> tuple[object, ...] | None:
    """All that an error says of itself."""
    if error is None:
        return None
    assert isinstance(error, Exception)

    def spelt(text: object) -> object:
        if isinstance(text, str):
            for new, old in {_PLACE: "", "PinnedContext": "SSLContext", **RENAMED}.items():
                text = re.sub(new, old, text)
        return text

    names = ("errno", "strerror", "reason", "library", "verify_code", "verify_message")
    values = [getattr(error, name, "none") for name in names]
    return (
        type(error),
        *(spelt(value) for value in values),
        *(type(value) for value in values),
        spelt(str(error)),
    )


# In the handshake --------------------------------------------------------------------------------


class Cause(NamedTuple):
    """Why a handshake fails.

    Attributes:
        chain: what the server presents.
        trusted: what the client trusts.
        name: whom the client asks for.
        client, server: what else is set.
        identity: what the client presents.
        asks: the server demands a certificate.
    """

    chain: Chain = CHAIN
    trusted: Chain | None = CHAIN
    name: str = "localhost"
    client: Callable[[ssl.SSLContext], object] | None = None
    server: Callable[[ssl.SSLContext], object] | None = None
    identity: Chain | None = None
    asks: bool = False


def require(trusted: Chain) -> Callable[[ssl.SSLContext], None]:
    def demand(context: ssl.SSLContext) -> None:
        context.verify_mode = ssl.CERT_REQUIRED
        trusted.trust(context)

    return demand


def check_crl(*lists: bytes) -> Callable[[ssl.SSLContext], None]:
    def check(context: ssl.SSLContext) -> None:
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        for each in lists:
            with file_of(each) as path:
                context.load_verify_locations(path)

    return check


def attribute(name: str, value: object) -> Callable[[ssl.SSLContext], None]:
    return lambda context: setattr(context, name, value)


def call(name: str, *arguments: object) -> Callable[[ssl.SSLContext], object]:
    return lambda context: getattr(context, name)(*arguments)


def constrained() -> Chain:
    other = x509.NameConstraints([x509.DNSName("example.org")], None)
    return make_chain(3, name_constraints={1: other})


EXPIRED_LEAF = make_chain(3, validity={0: "expired"})
EXPIRED_CA = make_chain(3, validity={1: "expired"})
FUTURE_LEAF = make_chain(3, validity={0: "future"})
WRONG_PURPOSE = make_chain(3, purpose="none")
CRITICAL = make_chain(3, extensions={0: [(UNKNOWN, True)]})
LONG_PATH = make_chain(4, path_lengths={3: 0})
CONSTRAINED = constrained()
SELF_SIGNED = make_chain(1, pool=5)
CLIENT_EXPIRED = make_chain(2, validity={0: "expired"}, pool=4)
CLIENT_PURPOSE = make_chain(2, purpose="server", pool=4)
TLS_1_2, TLS_1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3

CAUSES: Mapping[str, Cause] = {
    "expired leaf": Cause(EXPIRED_LEAF, EXPIRED_LEAF),
    "expired authority": Cause(EXPIRED_CA, EXPIRED_CA),
    "leaf of the future": Cause(FUTURE_LEAF, FUTURE_LEAF),
    "unknown authority": Cause(trusted=OTHER),
    "no authority": Cause(trusted=None),
    "self-signed": Cause(SELF_SIGNED, None),
    "name": Cause(name="example.org"),
    "address": Cause(name="127.0.0.2"),
    "purpose": Cause(WRONG_PURPOSE, WRONG_PURPOSE),
    "critical extension": Cause(CRITICAL, CRITICAL),
    "path length": Cause(LONG_PATH, LONG_PATH),
    "name constraint": Cause(CONSTRAINED, CONSTRAINED),
    "revoked": Cause(client=check_crl(make_crl(CHAIN, revoked=True))),
    "no revocation list": Cause(client=check_crl()),
    "no certificate of the server": Cause(chain=OTHER, server=call("set_ciphers", "aRSA")),
    "no cipher": Cause(
        client=call("set_ciphers", "ECDHE-ECDSA-AES128-GCM-SHA256"),
        server=call("set_ciphers", "ECDHE-ECDSA-AES256-GCM-SHA384"),
    ),
    "old server": Cause(
        client=attribute("minimum_version", TLS_1_3), server=attribute("maximum_version", TLS_1_2)
    ),
    "old client": Cause(
        client=attribute("maximum_version", TLS_1_2), server=attribute("minimum_version", TLS_1_3)
    ),
    "no group": Cause(
        client=call("set_ecdh_curve", "secp384r1"), server=call("set_ecdh_curve", "prime256v1")
    ),
    "client without a certificate": Cause(server=require(CLIENT), asks=True),
    "client of an unknown authority": Cause(server=require(CLIENT), identity=OTHER, asks=True),
    "expired client": Cause(
        server=require(CLIENT_EXPIRED), identity=CLIENT_EXPIRED, asks=True
    ),
    "client with another purpose": Cause(
        server=require(CLIENT_PURPOSE), identity=CLIENT_PURPOSE, asks=True
    ),
    "alert of the callback": Cause(
        server=attribute("sni_callback", lambda *_: ssl.ALERT_DESCRIPTION_ACCESS_DENIED)
    ),
    "unknown name": Cause(
        server=attribute("sni_callback", lambda *_: ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME)
    ),
    "none at all": Cause(),
}


def provoke(
    cause: Cause, flavours: tuple[str, str], version: ssl.TLSVersion, ours: str
) -> BaseException | None:
    """Shake hands, and return what one side raised, if need be at its first read."""
    client = setting(flavours[0], server_side=False)
    server = setting(flavours[1], server_side=True)
    cause.chain.configure(server)
    if cause.trusted is not None:
        cause.trusted.trust(client)
    for context in (client, server):
        fix_version(context, version)
    if cause.identity is not None:
        cause.identity.configure(client)
    if cause.client is not None:
        cause.client(client)
    if cause.server is not None:
        cause.server(server)
    if flavours[1] == "pinned" and not cause.asks:
        # Pins on a server demand a certificate; here that is not the matter.
        CLIENT.trust(server)
        CLIENT.configure(client)
    near = MemoryPeer(client, server_hostname=cause.name)
    far = MemoryPeer(server, server_side=True)
    shake(near, far)
    return (near if ours == "client" else far).record.error


# Bounds of one side and a version of the other cannot both be set; those have their own.
OWN_VERSIONS = ("old server", "old client")


@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("cause", list(CAUSES))
def test_a_failed_handshake_is_the_error_of_ssl(
    cause: str, flavour: str, side: str, tls_version: ssl.TLSVersion
) -> None:
    """Whatever goes wrong in a handshake, on either side and as seen from either."""
    if cause in OWN_VERSIONS and tls_version == TLS_1_3:
        pytest.skip("sets the versions itself")
    flavours = (flavour, "ssl") if side == "client" else ("ssl", flavour)
    made = CAUSES[cause]
    error = provoke(made, flavours, tls_version, side)
    assert told(error) == told(provoke(made, ("ssl", "ssl"), tls_version, side))


# What a peer may send ----------------------------------------------------------------------------


def record(kind: int, *parts: bytes) -> bytes:
    data = b"".join(parts)
    return struct.pack("!BHH", kind, 0x0303, len(data)) + data


ALERTS = [*range(123), 255]
NONSENSE = {
    "HTTP": b"HTTP/1.0 400 Bad Request\r\n\r\n",
    "request": b"GET / HTTP/1.0\r\n\r\n",
    "nothing known": b"\0" * 64,
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "another message": record(22, b"\x14\0\0\x0c" + bytes(12)),
    "data before its time": record(23, b"data"),
    "change of ciphers": record(20, b"\1"),
    "record too long": struct.pack("!BHH", 22, 0x0303, 0xFFFF) + bytes(100),
    "record of an old version": struct.pack("!BHH", 22, 0x0100, 5) + bytes(5),
    "half a record": b"\x16\3\3\0\x50",
}


def answered(
    flavour: str, data: bytes, version: ssl.TLSVersion, *, server_side: bool
) -> tuple[object, ...]:
    """What an object raises whose peer sends ``data`` and nothing more, and once again after it."""
    context = setting(flavour, server_side=server_side)
    fix_version(context, version)
    CHAIN.configure(context)
    incoming = ssl.MemoryBIO()
    obj = context.wrap_bio(
        incoming, ssl.MemoryBIO(), server_side, None if server_side else "localhost"
    )
    if not server_side:
        with contextlib.suppress(ssl.SSLWantReadError):
            obj.do_handshake()
    incoming.write(data)
    incoming.write_eof()
    with pytest.raises(OSError, match=r".") as caught:
        obj.do_handshake()
    found = told(caught.value)
    assert found is not None
    return found


#: Alerts for whose reasons the ssl of this Python has no names: unknown_psk_identity, and
#: no_application_protocol.  Ours has them on every Python.
NAMELESS = (115, 120)


@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_every_alert_is_the_error_of_ssl(
    flavour: str, side: str, tls_version: ssl.TLSVersion
) -> None:
    """Fatal ones and warnings of every number, known or not."""
    different: list[tuple[object, ...]] = []
    for number in ALERTS:
        for level in (2, 1):
            data = record(21, bytes((level, number)))
            ours, theirs = (
                answered(each, data, tls_version, server_side=side == "server")
                for each in (flavour, "ssl")
            )
            if number in NAMELESS and theirs[3] is None:
                ours, theirs = ours[:2], theirs[:2]  # class and errno
            if ours != theirs:
                different.append((number, level, ours, theirs))
    assert different == []


@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("what", list(NONSENSE))
def test_what_is_no_tls_is_the_error_of_ssl(
    what: str, flavour: str, side: str, tls_version: ssl.TLSVersion
) -> None:
    """Other protocols, and records where they do not belong."""
    ours, theirs = (
        answered(each, NONSENSE[what], tls_version, server_side=side == "server")
        for each in (flavour, "ssl")
    )
    if ours[3] == "RECORD_LAYER_FAILURE":
        # Since OpenSSL 3.2 the record layer says that, behind the reason, and ssl shows the latest.
        ours, theirs = ours[:2], theirs[:2]
    assert ours == theirs


# Settings ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates, keys and what is none of them."""
    directory = tmp_path_factory.mktemp("files")
    certfile, keyfile, cafile = CHAIN.write(directory)
    certfile.rename(directory / "chain.pem")
    keyfile.rename(directory / "key.pem")
    cafile.rename(directory / "root.pem")
    OTHER.write(directory).keyfile.rename(directory / "other.pem")
    (directory / "empty").write_bytes(b"")
    (directory / "garbage").write_bytes(b"garbage")
    (directory / "broken.pem").write_text(
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    )
    subprocess.run(
        ["openssl", "pkcs8", "-topk8", "-in", directory / "key.pem", "-out",
         directory / "locked.pem", "-passout", "pass:secret"],
        check=True,
    )  # fmt: skip
    return directory


Setting = Callable[[Any, Path], object]


def _fail(*_arguments: object) -> Any:
    raise ZeroDivisionError("in the callback")


SETTINGS: dict[str, Setting] = {
    "no certificate": lambda c, d: c.load_cert_chain(d / "none"),
    "no key file": lambda c, d: c.load_cert_chain(d / "chain.pem", d / "none"),
    "directory for a certificate": lambda c, d: c.load_cert_chain(d),
    "empty certificate": lambda c, d: c.load_cert_chain(d / "empty"),
    "garbage for a certificate": lambda c, d: c.load_cert_chain(d / "garbage"),
    "garbage for a key": lambda c, d: c.load_cert_chain(d / "chain.pem", d / "garbage"),
    "certificate alone": lambda c, d: c.load_cert_chain(d / "chain.pem"),
    "key alone": lambda c, d: c.load_cert_chain(d / "key.pem"),
    "another's key": lambda c, d: c.load_cert_chain(d / "chain.pem", d / "other.pem"),
    "wrong password": lambda c, d: c.load_cert_chain(d / "chain.pem", d / "locked.pem", "wrong"),
    "wrong password from a callback": lambda c, d: c.load_cert_chain(
        d / "chain.pem", d / "locked.pem", lambda: b"wrong"
    ),
    "long password": lambda c, d: c.load_cert_chain(
        d / "chain.pem", d / "locked.pem", "x" * 102_400
    ),
    "long password from a callback": lambda c, d: c.load_cert_chain(
        d / "chain.pem", d / "locked.pem", lambda: b"x" * 102_400
    ),
    "password of a wrong type": lambda c, d: c.load_cert_chain(
        d / "chain.pem", d / "locked.pem", 3
    ),
    "password callback of a wrong type": lambda c, d: c.load_cert_chain(
        d / "chain.pem", d / "locked.pem", lambda: 3
    ),
    "failing password callback": lambda c, d: c.load_cert_chain(
        d / "chain.pem", d / "locked.pem", _fail
    ),
    "no name of a certificate": lambda c, d: c.load_cert_chain(None),
    "number for a certificate": lambda c, d: c.load_cert_chain(3.5),
    "no authority": lambda c, d: c.load_verify_locations(),
    "no authority's file": lambda c, d: c.load_verify_locations(d / "none"),
    "directory for an authority": lambda c, d: c.load_verify_locations(d),
    "empty authority": lambda c, d: c.load_verify_locations(d / "empty"),
    "garbage for an authority": lambda c, d: c.load_verify_locations(d / "garbage"),
    "broken authority": lambda c, d: c.load_verify_locations(d / "broken.pem"),
    "authority of a wrong type": lambda c, d: c.load_verify_locations(3.5),
    "no directory": lambda c, d: c.load_verify_locations(capath=d / "none"),
    "empty text": lambda c, d: c.load_verify_locations(cadata=""),
    "empty bytes": lambda c, d: c.load_verify_locations(cadata=b""),
    "text of nothing": lambda c, d: c.load_verify_locations(cadata="garbage"),
    "bytes of nothing": lambda c, d: c.load_verify_locations(cadata=b"garbage"),
    "text that is not ASCII": lambda c, d: c.load_verify_locations(cadata="\xe9"),
    "text of a broken certificate": lambda c, d: c.load_verify_locations(
        cadata=(d / "broken.pem").read_text()
    ),
    "data of a wrong type": lambda c, d: c.load_verify_locations(cadata=3),
    "a certificate and something": lambda c, d: c.load_verify_locations(
        cadata=CHAIN.root_der + b"garbage"
    ),
    "ciphers": lambda c, d: c.set_ciphers("nonsense"),
    "no ciphers": lambda c, d: c.set_ciphers(""),
    "ciphers of a wrong type": lambda c, d: c.set_ciphers(3),
    "protocol too long": lambda c, d: c.set_alpn_protocols(["x" * 256]),
    "protocol of nothing": lambda c, d: c.set_alpn_protocols([""]),
    "protocol of a wrong type": lambda c, d: c.set_alpn_protocols([b"h2"]),
    "protocols too many": lambda c, d: c.set_alpn_protocols(["x" * 255] * 300),
    "curve": lambda c, d: c.set_ecdh_curve("nonsense"),
    "curve of a wrong type": lambda c, d: c.set_ecdh_curve(3),
    "no parameters": lambda c, d: c.load_dh_params(d / "none"),
    "garbage for parameters": lambda c, d: c.load_dh_params(d / "garbage"),
    "parameters of a wrong type": lambda c, d: c.load_dh_params(None),
    "options of a wrong type": lambda c, d: setattr(c, "options", "x"),
    "negative options": lambda c, d: setattr(c, "options", -1),
    "verify_mode": lambda c, d: setattr(c, "verify_mode", 5),
    "verify_mode of a wrong type": lambda c, d: setattr(c, "verify_mode", "x"),
    "CERT_NONE and check_hostname": lambda c, d: (
        setattr(c, "check_hostname", True), setattr(c, "verify_mode", ssl.CERT_NONE)
    ),
    "verify_flags of a wrong type": lambda c, d: setattr(c, "verify_flags", "x"),
    "minimum_version": lambda c, d: setattr(c, "minimum_version", 5),
    "minimum_version of a wrong type": lambda c, d: setattr(c, "minimum_version", "x"),
    "maximum_version": lambda c, d: setattr(c, "maximum_version", 5),
    "num_tickets below zero": lambda c, d: setattr(c, "num_tickets", -1),
    "num_tickets of a wrong type": lambda c, d: setattr(c, "num_tickets", "x"),
    "key log in no directory": lambda c, d: setattr(c, "keylog_filename", d / "none" / "keys"),
    "key log of a wrong type": lambda c, d: setattr(c, "keylog_filename", 3.5),
    "sni_callback": lambda c, d: setattr(c, "sni_callback", 3),
    "security_level": lambda c, d: setattr(c, "security_level", 1),
    "protocol": lambda c, d: setattr(c, "protocol", 1),
    "session statistics": lambda c, d: setattr(c, "session_stats", 1) or c.session_stats(),
    "name on the server's side": lambda c, d: c.wrap_bio(
        ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True, server_hostname="localhost"
    ),
    "no name": lambda c, d: c.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO()),
    "empty name": lambda c, d: c.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=""),
    "name with a dot first": lambda c, d: c.wrap_bio(
        ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=".example.org"
    ),
    "name with NUL": lambda c, d: c.wrap_bio(
        ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="a\0b"
    ),
    "name too long": lambda c, d: c.wrap_bio(
        ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="x" * 300
    ),
    "name of a wrong type": lambda c, d: c.wrap_bio(
        ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=3
    ),
    "session of a wrong type": lambda c, d: c.wrap_bio(
        ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost", session="x"
    ),
    "datagrams": lambda c, d: _wrap(c, socket.SOCK_DGRAM),
}


def _wrap(context: Any, kind: socket.SocketKind, **options: Any) -> None:
    left, right = socket.socketpair(type=kind)
    with left, right:
        with context.wrap_socket(
            left, server_hostname="localhost", do_handshake_on_connect=False, **options
        ):
            pass


@pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])
@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("what", list(SETTINGS))
def test_a_wrong_setting_is_the_error_of_ssl(
    what: str, flavour: str, server_side: bool, files: Path
) -> None:
    """Every setting, given what it cannot take."""
    seen: list[object] = []
    for each in (flavour, "ssl"):
        made = setting(each, server_side=server_side)
        try:
            SETTINGS[what](made, files)
        except Exception as error:
            seen.append(told(error))
        else:
            seen.append("taken")
    assert seen[0] == seen[1]
