"""The engine against ``_ssl.c``: the same calls in the same state have the same outcome.

The standard library is the oracle: every call of :data:`CALLS` is made in every state of
:data:`STATES`, on an ``ssl.SSLSocket`` or ``ssl.SSLObject`` and on ours, and what comes out is
compared: the value, or the class of the exception and its text.
"""

from __future__ import annotations

import array
import contextlib
import functools
import gc
import re
import socket
import ssl
import threading
import warnings
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Union, cast

import pytest

from pinsock import PinnedContext, PinnedObject, PinSet, _chain, _engine, _openssl
from tests import certificates, peers
from tests.certificates import make_chain
from tests.peers import MemoryPeer, Transport, shake
from tests.test_chain import certificate, rdn, san, tlv

#: What is compared: the standard library itself, ours without pins, ours with.
FLAVOURS = ("ssl", "unpinned", "pinned")
#: Seconds; reached only if something is broken.
TIMEOUT = 10.0

# Both sides present the same chain, so that both can be verified and pinned.
CHAIN = make_chain(3)
PINS = PinSet({"leaf": certificates.spki_pin(CHAIN.leaf)})

Connection = Union[ssl.SSLSocket, ssl.SSLObject]


@functools.cache
def context(flavour: str, version: ssl.TLSVersion, server_side: bool = False) -> ssl.SSLContext:
    """A context that verifies its peer, on whichever side it is."""
    protocol = ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT
    made: ssl.SSLContext
    if flavour == "ssl":
        made = ssl.SSLContext(protocol)
    else:
        made = PinnedContext(protocol, pins=PINS if flavour == "pinned" else None)
    peers.fix_version(made, version)
    CHAIN.trust(made)
    CHAIN.configure(made)
    made.verify_mode = ssl.CERT_REQUIRED
    return made


def name_for(server_side: bool) -> str | None:
    return None if server_side else "localhost"


# The states of a connection ----------------------------------------------------------------------


def _handshake(ours: ssl.SSLSocket, theirs: ssl.SSLSocket) -> None:
    """Shake hands, the peer in a thread."""
    done: Future[None] = Future()

    def run() -> None:
        try:
            theirs.do_handshake()
            done.set_result(None)
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    ours.do_handshake()
    done.result(TIMEOUT)


def _sockets(
    flavour: str, version: ssl.TLSVersion, server_side: bool, stack: contextlib.ExitStack
) -> tuple[ssl.SSLSocket, ssl.SSLSocket]:
    made = []
    for sock, kind, side in zip(
        socket.socketpair(), (flavour, "ssl"), (server_side, not server_side), strict=True
    ):
        sock.settimeout(TIMEOUT)
        made.append(
            stack.enter_context(
                context(kind, version, side).wrap_socket(
                    sock,
                    side,
                    server_hostname=name_for(side),
                    do_handshake_on_connect=False,
                )
            )
        )
    return made[0], made[1]


def _socket_in(
    state: str,
    flavour: str,
    version: ssl.TLSVersion,
    server_side: bool,
    stack: contextlib.ExitStack,
) -> ssl.SSLSocket:
    if state == "unconnected":
        sock = socket.socket()
        sock.settimeout(0)
        return stack.enter_context(
            context(flavour, version, server_side).wrap_socket(
                sock,
                server_side,
                server_hostname=name_for(server_side),
                do_handshake_on_connect=False,
            )
        )
    ours, theirs = _sockets(flavour, version, server_side, stack)
    if state == "wrapped":
        ours.settimeout(0)
        return ours
    _handshake(ours, theirs)
    # With TLS 1.3 the tickets come behind the handshake: have them read.
    theirs.sendall(b"!")
    assert ours.recv(1) == b"!"
    ours.settimeout(0)
    if state == "connected":
        pass
    elif state == "data waiting":
        theirs.sendall(b"0123456789")
    elif state == "said goodbye":
        theirs.settimeout(0)
        with pytest.raises(ssl.SSLWantReadError):
            theirs.unwrap()
    elif state == "vanished":
        theirs.settimeout(0)
        # With the tickets unread, closing would be a reset.
        with pytest.raises(ssl.SSLWantReadError):
            theirs.recv(1)
        theirs.close()
    elif state == "closed":
        ours.close()
    else:
        raise ValueError(state)
    return ours


def _object_in(
    state: str, flavour: str, version: ssl.TLSVersion, server_side: bool
) -> ssl.SSLObject:
    ours = MemoryPeer(
        context(flavour, version, server_side),
        server_side=server_side,
        server_hostname=name_for(server_side),
    )
    theirs = MemoryPeer(
        context("ssl", version, not server_side),
        server_side=not server_side,
        server_hostname=name_for(not server_side),
    )
    if state == "wrapped":
        return ours.obj
    shake(*((theirs, ours) if server_side else (ours, theirs)))
    assert ours.record.error is None
    if state == "connected":
        pass
    elif state == "data waiting":
        theirs.obj.write(b"0123456789")
        theirs.flush(ours)
    elif state == "said goodbye":
        with pytest.raises(ssl.SSLWantReadError):
            theirs.obj.unwrap()
        theirs.flush(ours)
    elif state == "vanished":
        ours.incoming.write_eof()
    else:
        raise ValueError(state)
    return ours.obj


SHARED_STATES = ("wrapped", "connected", "data waiting", "said goodbye", "vanished")
# Not after shutdown(): there ssl goes on in clear text, and we do not (test_hostile_callers.py).
SOCKET_STATES = ("unconnected", *SHARED_STATES, "closed")


# The calls ---------------------------------------------------------------------------------------


def _into(buffer: object, size: int = 1024) -> Callable[[Connection], object]:
    def call(connection: Connection) -> object:
        count = connection.read(size, buffer)  # type: ignore[arg-type]  # what is tried here
        return count, bytes(buffer)  # type: ignore[call-overload]  # all that come here have bytes

    return call


def _write(data: object) -> Callable[[Connection], object]:
    return lambda connection: connection.write(data)  # type: ignore[arg-type]  # tried here


Calls = dict[str, Callable[[Any], object]]

#: Questions, which leave the connection as it is: asked one after the other.
QUESTIONS: Calls = {
    "pending": lambda c: c.pending(),
    "getpeercert": lambda c: c.getpeercert(),
    "getpeercert DER": lambda c: c.getpeercert(True),
    "cipher": lambda c: c.cipher(),
    "version": lambda c: c.version(),
    "compression": lambda c: c.compression(),
    "alpn": lambda c: c.selected_alpn_protocol(),
    "npn": lambda c: c.selected_npn_protocol(),
    "server_side": lambda c: c.server_side,
    "server_hostname": lambda c: c.server_hostname,
    "session_reused": lambda c: c.session_reused,
    "session is None": lambda c: c.session is None,
    "session = 1": lambda c: setattr(c, "session", 1),
    "channel binding unknown": lambda c: c.get_channel_binding("nothing"),
    "channel binding length": lambda c: len(c.get_channel_binding() or b""),
    # Without an engine ssl keeps whatever it is; ours refuses it (test_bypasses_identity.py).
    "context = None": lambda c: c._sslobj and setattr(c, "context", None),
    "owner": lambda c: c._sslobj and c._sslobj.owner is c,
    "truth of the engine": lambda c: c._sslobj and bool(c._sslobj),
}

#: What sockets and objects are told alike; each on a connection of its own.
CALLS: Calls = {
    "do_handshake": lambda c: c.do_handshake(),
    "read()": lambda c: c.read(),
    "read(-1)": lambda c: c.read(-1),
    "read thrice": lambda c: (c.read(4), c.read(4), c.pending(), c.read(4)),
    "read into bytearray": lambda c: _into(bytearray(12), 4)(c),
    "write bytes": _write(b"abc"),
    "write nothing": _write(b""),
    "unwrap": lambda c: c.unwrap() and None,
    "read, unwrap": lambda c: (c.read(99), c.unwrap() and None),
    "write, write": lambda c: (c.write(b"abc"), c.write(b"def")),
}

#: More of the same, for the buffers: in memory, where connections cost less.
OBJECT_CALLS: Calls = {
    **CALLS,
    "read(0)": lambda c: c.read(0),
    "read(4)": lambda c: c.read(4),
    "read into bytearray, all": lambda c: _into(bytearray(12))(c),
    "read into bytearray, 0": lambda c: _into(bytearray(12), 0)(c),
    "read into bytearray, -1": lambda c: _into(bytearray(12), -1)(c),
    "read into bytearray, 99": lambda c: _into(bytearray(12), 99)(c),
    "read into an empty one": lambda c: _into(bytearray(), 5)(c),
    "read into memoryview": lambda c: _into(memoryview(bytearray(12))[3:], 6)(c),
    "read into array": lambda c: _into(array.array("I", [0, 0, 0]), 12)(c),
    "read into bytes": lambda c: _into(b"0123", 4)(c),
    "read into str": lambda c: c.read(4, "abcd"),
    "read into every second": lambda c: _into(memoryview(bytearray(12))[::2], 4)(c),
    "write bytearray": _write(bytearray(b"abc")),
    "write memoryview": _write(memoryview(b"abcdef")[2:]),
    "write array": _write(array.array("I", [1, 2, 3])),
    "write memoryview of array": _write(memoryview(array.array("H", [1, 2, 3]))[1:]),
    "write str": _write("abc"),
    "write None": _write(None),
    "write every second": _write(memoryview(b"abcdef")[::2]),
}

#: What sockets alone are told.
SOCKET_CALLS: Calls = {
    **CALLS,
    "recv(4)": lambda c: c.recv(4),
    "recv_into": lambda c: c.recv_into(bytearray(4)),
    "recv_into nothing": lambda c: c.recv_into(bytearray()),
    "send": lambda c: c.send(b"abc"),
    "send nothing": lambda c: c.send(b""),
    "sendall": lambda c: c.sendall(b"abc"),
    "sendall words": lambda c: c.sendall(memoryview(array.array("I", [1, 2, 3]))),
    "shutdown": lambda c: c.shutdown(socket.SHUT_WR),
    "shutdown nonsense": lambda c: c.shutdown(77),
    "refusals": lambda c: [
        outcome(call)
        for call in (
            lambda: c.recv(4, socket.MSG_PEEK),
            lambda: c.recvfrom_into(bytearray(4), 0, socket.MSG_PEEK),
            lambda: c.recvmsg(4),
            lambda: c.recvmsg_into([bytearray(4)]),
            lambda: c.send(b"abc", socket.MSG_DONTWAIT),
            lambda: c.sendall(b"abc", socket.MSG_DONTWAIT),
            lambda: c.sendmsg([b"abc"]),
            lambda: c.dup(),
            lambda: c.gettimeout(),
            lambda: c.settimeout(-1),
            lambda: c.accept(),
        )
    ],
}


def outcome(call: Callable[[], object]) -> object:
    """What a call returns; or the class of what it raises, its text and its attributes."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # NPN's
            return call()
    except Exception as error:
        text = re.sub(r" ?\(?_ssl\.c:\d+\)?:? ?", "", str(error))
        text = re.sub(r"pinsock\._socket\.Pinned|ssl\.SSL|(?<=\) )Pinned|(?<=\) )SSL", "", text)
        text = re.sub(r"fd=\d+|'nothing'|nothing", "", text)
        if isinstance(error, TypeError):
            text = ""  # how CPython words the parsing of arguments is its own affair
        details = [getattr(error, name, None) for name in ("errno", "reason", "library")]
        return [type(error), text, *details]


# What is written to a peer that has gone: until 3.12 ssl called it an EOF, since then it is the
# error of the system, and so it is here on all versions; see test_sockets.py.
_NEWER_THAN_SOME = {
    "vanished": {"write bytes", "write, write", "send", "sendall", "sendall words", "unwrap"}
    | {"read, unwrap"}
}

# Which of ours is on which side: both with and without pins are tried, and both sides.
SIDES = [("pinned", False), ("unpinned", True)]
SIDE_IDS = ["pinned client", "unpinned server"]


@pytest.mark.parametrize(("flavour", "server_side"), SIDES, ids=SIDE_IDS)
@pytest.mark.parametrize("state", SOCKET_STATES)
def test_a_call_on_a_socket_has_the_outcome_that_ssl_gives_it(
    state: str, flavour: str, server_side: bool, tls_version: ssl.TLSVersion
) -> None:
    """Whatever the state of the connection, value or exception are those of an ssl.SSLSocket."""
    different = {}
    for name, call in SOCKET_CALLS.items():
        if name in _NEWER_THAN_SOME.get(state, ()):
            continue
        results = []
        for kind in (flavour, "ssl"):
            with contextlib.ExitStack() as stack:
                connection = _socket_in(state, kind, tls_version, server_side, stack)
                results.append(outcome(functools.partial(call, connection)))
        if results[0] != results[1]:
            different[name] = results
    assert different == {}


@pytest.mark.parametrize(("flavour", "server_side"), SIDES, ids=SIDE_IDS)
@pytest.mark.parametrize("state", SHARED_STATES)
def test_a_call_on_an_object_has_the_outcome_that_ssl_gives_it(
    state: str, flavour: str, server_side: bool, tls_version: ssl.TLSVersion
) -> None:
    """Whatever the state of the connection, value or exception are those of an ssl.SSLObject."""
    different = {}
    for name, call in OBJECT_CALLS.items():
        results = []
        for kind in (flavour, "ssl"):
            connection = _object_in(state, kind, tls_version, server_side)
            results.append(outcome(functools.partial(call, connection)))
        if results[0] != results[1]:
            different[name] = results
    assert different == {}


@pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])
@pytest.mark.parametrize("flavour", FLAVOURS[1:])
@pytest.mark.parametrize("state", SOCKET_STATES)
def test_a_question_has_the_answer_that_ssl_gives_it(
    state: str, flavour: str, server_side: bool, tls_version: ssl.TLSVersion
) -> None:
    """What can be asked is answered, or refused, as by ssl, on sockets and on objects."""
    answers: dict[str, list[dict[str, object]]] = {"sockets": [], "objects": []}
    for kind in (flavour, "ssl"):
        with contextlib.ExitStack() as stack:
            sock = _socket_in(state, kind, tls_version, server_side, stack)
            answers["sockets"].append(
                {n: outcome(functools.partial(q, sock)) for n, q in QUESTIONS.items()}
            )
        if state in SHARED_STATES:
            obj = _object_in(state, kind, tls_version, server_side)
            answers["objects"].append(
                {n: outcome(functools.partial(q, obj)) for n, q in QUESTIONS.items()}
            )
    for ours, theirs in filter(None, answers.values()):
        assert ours == theirs


# What a failed handshake leaves ------------------------------------------------------------------


@pytest.mark.parametrize("flavour", FLAVOURS[1:])
def test_nothing_passes_after_a_failed_handshake(
    flavour: str, transport: Transport, tls_version: ssl.TLSVersion
) -> None:
    """Reading and writing raise, again and again; ssl reports an end of the stream, or so."""
    made = context(flavour, tls_version)
    garbage = b"this is no TLS, and long enough to be seen as such"
    with contextlib.ExitStack() as stack:
        connection: Connection
        if transport == "socket":
            left, right = map(stack.enter_context, socket.socketpair())
            connection = stack.enter_context(
                made.wrap_socket(left, server_hostname="localhost", do_handshake_on_connect=False)
            )
            connection.settimeout(TIMEOUT)
            right.sendall(garbage)
        else:
            incoming = ssl.MemoryBIO()
            incoming.write(garbage)
            connection = made.wrap_bio(incoming, ssl.MemoryBIO(), server_hostname="localhost")
        with pytest.raises(ssl.SSLError, match=r"WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE"):
            connection.do_handshake()
        calls: list[Callable[[], object]] = [
            connection.do_handshake,
            lambda: connection.read(1),
            lambda: connection.read(1, bytearray(1)),
            lambda: connection.write(b"x"),
            connection.unwrap,
        ]
        for call in 2 * calls:
            with pytest.raises(ssl.SSLError):
                call()
        assert connection.version() is None


# Certificates ------------------------------------------------------------------------------------


@pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])
def test_chains_are_items_with_public_bytes_on_every_version(
    server_side: bool, tls_version: ssl.TLSVersion
) -> None:
    """Libraries reach for the engine's chains before 3.13, in DER (2) and in PEM (1)."""
    ours = _object_in("connected", "pinned", tls_version, server_side)
    engine = cast(Any, ours)._sslobj  # private, and reached for all the same
    for chain, expected in (
        (engine.get_verified_chain(), CHAIN.ders),
        (engine.get_unverified_chain(), CHAIN.ders[:-1]),
    ):
        assert [item.public_bytes(2) for item in chain] == list(expected)
        for item, der in zip(chain, expected, strict=True):
            assert item.public_bytes(1) == item.public_bytes() == ssl.DER_cert_to_PEM_cert(der)
            with pytest.raises(ValueError, match="Unsupported format"):
                item.public_bytes(3)
    public = cast(PinnedObject, ours)
    assert public.get_verified_chain() == list(CHAIN.ders)
    assert public.get_unverified_chain() == list(CHAIN.ders[:-1])


@pytest.mark.skipif(not hasattr(ssl.SSLObject, "get_verified_chain"), reason="ssl's since 3.13")
@pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])
@pytest.mark.parametrize("name", ["get_verified_chain", "get_unverified_chain"])
def test_chains_are_those_of_ssl(
    name: str, server_side: bool, tls_version: ssl.TLSVersion
) -> None:
    """Where ssl has the two methods, they return the same."""
    chains = [
        getattr(_object_in("connected", kind, tls_version, server_side), name)()
        for kind in FLAVOURS
    ]
    assert chains[0] == chains[1] == chains[2]


def test_without_verification_there_is_no_dictionary(tls_version: ssl.TLSVersion) -> None:
    """Under CERT_NONE getpeercert() is empty, getpeercert(True) is not, and a chain is as sent."""
    found = []
    for kind in FLAVOURS[:2]:
        ours = MemoryPeer(_unverified(kind, tls_version), server_hostname="localhost")
        theirs = MemoryPeer(peers.server_context(CHAIN, tls_version), server_side=True)
        shake(ours, theirs)
        found.append((ours.obj.getpeercert(), ours.obj.getpeercert(True)))
    assert found == [({}, CHAIN.ders[0])] * 2
    assert cast(PinnedObject, ours.obj).get_verified_chain() == list(CHAIN.ders[:-1])


def _unverified(flavour: str, version: ssl.TLSVersion) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if flavour == "ssl" else PinnedContext(pins=None)
    peers.fix_version(made, version)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    return made


def test_a_peer_without_a_certificate_has_none(tls_version: ssl.TLSVersion) -> None:
    """On a server that asks nobody, getpeercert() is None and the chains are empty."""
    server = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=None)
    peers.fix_version(server, tls_version)
    CHAIN.configure(server)
    theirs = MemoryPeer(server, server_side=True)
    shake(MemoryPeer(_unverified("ssl", tls_version), server_hostname="localhost"), theirs)
    made = cast(PinnedObject, theirs.obj)
    assert made.version() is not None
    assert made.getpeercert() is None
    assert made.getpeercert(True) is None
    assert made.get_verified_chain() == []
    assert made.get_unverified_chain() == []


# Both ends agree ---------------------------------------------------------------------------------


@pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_channel_binding_is_the_same_at_both_ends(flavour: str, server_side: bool) -> None:
    """tls-unique (RFC 5929) on TLS 1.2, as the peer's ssl computes it."""
    version = ssl.TLSVersion.TLSv1_2
    ours = MemoryPeer(
        context(flavour, version, server_side),
        server_side=server_side,
        server_hostname=name_for(server_side),
    )
    theirs = MemoryPeer(
        context("ssl", version, not server_side),
        server_side=not server_side,
        server_hostname=name_for(not server_side),
    )
    assert ours.obj.get_channel_binding() is None
    shake(*((theirs, ours) if server_side else (ours, theirs)))
    assert ours.obj.get_channel_binding()
    assert ours.obj.get_channel_binding() == theirs.obj.get_channel_binding()


@pytest.mark.parametrize(
    ("flavour", "server_side"),
    # A server with pins resumes nothing (rule 7).
    [("ssl", False), ("unpinned", False), ("unpinned", True), ("pinned", False)],
)
def test_the_binding_of_a_resumed_session_is_the_same_at_both_ends(
    flavour: str, server_side: bool
) -> None:
    """tls-unique is the first Finished message, and in an abbreviated handshake the server's."""
    near, far = (
        context(flavour if side is server_side else "ssl", ssl.TLSVersion.TLSv1_2, side)
        for side in (False, True)
    )
    session: ssl.SSLSession | None = None
    for reused in (False, True):
        client = MemoryPeer(near, server_hostname="localhost", session=session)
        server = MemoryPeer(far, server_side=True)
        shake(client, server)
        session = client.obj.session
        assert client.obj.session_reused is reused
        assert client.obj.get_channel_binding()
        assert client.obj.get_channel_binding() == server.obj.get_channel_binding()


def test_exported_keys_are_the_same_at_both_ends(tls_version: ssl.TLSVersion) -> None:
    """Keying material (RFC 5705) and tls-exporter (RFC 9266) agree; before, there is none."""
    ours = MemoryPeer(context("pinned", tls_version), server_hostname="localhost")
    theirs = MemoryPeer(context("pinned", tls_version, True), server_side=True)
    ends = [cast(PinnedObject, end.obj) for end in (ours, theirs)]
    for end in ends:
        assert end.group() is None
        with pytest.raises(ValueError, match="handshake not done yet"):
            end.export_keying_material(b"EXPERIMENTAL-test", 16)
        for cb_type in ("tls-unique", "tls-server-end-point", "tls-exporter"):
            assert end.get_channel_binding(cb_type) is None
    shake(ours, theirs)
    for make in (
        lambda end: end.export_keying_material(b"EXPERIMENTAL-test", 16),
        lambda end: end.export_keying_material(b"EXPERIMENTAL-test", 40, b"context"),
        lambda end: end.get_channel_binding("tls-exporter"),
        lambda end: end.group(),
    ):
        one, other = map(make, ends)
        assert one
        assert one == other
    exported = ends[0].export_keying_material(b"EXPORTER-Channel-Binding", 32, b"")
    assert ends[0].get_channel_binding("tls-exporter") == exported


def test_keys_that_cannot_be_exported_are_an_error_of_ssl(tls_version: ssl.TLSVersion) -> None:
    """A reserved label (RFC 5705 section 4), too many bytes, or fewer than none."""
    ours = MemoryPeer(context("pinned", tls_version), server_hostname="localhost")
    shake(ours, MemoryPeer(context("pinned", tls_version, True), server_side=True))
    end = cast(PinnedObject, ours.obj)
    refused = (b"master secret", 16) if tls_version == ssl.TLSVersion.TLSv1_2 else (b"x", 2**20)
    with pytest.raises(ssl.SSLError) as caught:
        end.export_keying_material(*refused)
    assert caught.value.library == "SSL"
    with pytest.raises(ValueError, match="not negative: -1"):
        end.export_keying_material(b"EXPERIMENTAL-test", -1)


# Certificates as _ssl shows them -----------------------------------------------------------------


def test_the_certificates_of_a_chain_are_what_ssl_has() -> None:
    """Comparable, hashable, printable, with the dictionary of getpeercert() and both encodings."""
    ours = MemoryPeer(context("pinned", ssl.TLSVersion.TLSv1_3), server_hostname="localhost")
    shake(ours, MemoryPeer(context("ssl", ssl.TLSVersion.TLSv1_3, True), server_side=True))
    inner = cast(Any, ours.obj)._sslobj
    chain = inner.get_verified_chain()
    again = inner.get_verified_chain()
    assert chain == again
    assert chain[0] != chain[1]
    assert chain[0] != chain[0].public_bytes(2)
    assert len({*chain, *again}) == len(chain)
    assert repr(chain[0]) == f"<_Certificate {_chain.subject(CHAIN.ders[0])!r}>"
    assert chain[0].get_info() == ours.obj.getpeercert()
    assert chain[0].public_bytes(2) == CHAIN.ders[0]
    assert ssl.PEM_cert_to_DER_cert(chain[0].public_bytes()) == CHAIN.ders[0]


def test_a_certificate_that_cannot_be_shown_is_an_error_of_ssl() -> None:
    """As _ssl.c has it: a name that is no text is an SSLError, a SAN that is none a Unicode one."""
    odd = certificate(subject=rdn(("2.5.4.3", 0x30, b"")))
    with pytest.raises(ssl.SSLError, match="the certificate cannot be shown"):
        _engine._Certificate(odd).get_info()
    odd = certificate(extensions=[san(tlv(0x82, b"\xff"))])
    with pytest.raises(UnicodeDecodeError):
        _engine._Certificate(odd).get_info()


def test_cipher_suites_of_unknown_numbers_are_not_shared() -> None:
    """A client may offer what nobody knows (RFC 8701); before it has, there is nothing to tell."""
    theirs = MemoryPeer(context("unpinned", ssl.TLSVersion.TLSv1_3, True), server_side=True)
    assert theirs.obj.shared_ciphers() is None
    inner = cast(Any, theirs.obj)._sslobj
    known = _openssl.shared_ciphers(inner._ssl, (0x0A0A, 0x1301))
    assert [name for name, _, _ in known] == ["TLS_AES_128_GCM_SHA256"]


# Lifetime ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_connection_is_in_no_reference_cycle(
    flavour: str, transport: Transport, tls_version: ssl.TLSVersion
) -> None:
    """It goes when its last reference goes, without the garbage collector's help."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        connection: Connection
        if transport == "socket":
            with contextlib.ExitStack() as stack:
                connection, theirs = _sockets(flavour, tls_version, False, stack)
                _handshake(connection, theirs)
                theirs.sendall(b"!")
                assert connection.recv(1) == b"!"
                stack.pop_all()
            theirs.close()
            connection.close()
        else:
            connection = _object_in("connected", flavour, tls_version, False)
        gone: list[weakref.ref[Any]] = [weakref.ref(connection)]
        engine = cast(Any, connection)._sslobj
        if flavour != "ssl" and engine is not None:
            gone.append(weakref.ref(engine))
        del engine
        del connection
        assert [reference() for reference in gone] == [None] * len(gone)
    finally:
        if enabled:
            gc.enable()


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_refused_connection_is_in_no_reference_cycle(
    flavour: str, tls_version: ssl.TLSVersion
) -> None:
    """Also one whose handshake has raised, when the exception is gone."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        theirs = MemoryPeer(peers.server_context(make_chain(2), tls_version), server_side=True)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        ours = context(flavour, tls_version).wrap_bio(
            incoming, outgoing, server_hostname="localhost"
        )
        with pytest.raises(ssl.SSLWantReadError):
            ours.do_handshake()
        theirs.incoming.write(outgoing.read())
        theirs.step()
        incoming.write(theirs.outgoing.read())
        with pytest.raises(ssl.SSLCertVerificationError) as caught:
            ours.do_handshake()
        gone: list[weakref.ref[Any]] = [weakref.ref(ours)]
        if flavour != "ssl":
            gone.append(weakref.ref(cast(Any, ours)._sslobj))
        del caught
        del ours
        assert [reference() for reference in gone] == [None] * len(gone)
    finally:
        if enabled:
            gc.enable()


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_context_goes_with_its_last_connection(
    flavour: str, tls_version: ssl.TLSVersion
) -> None:
    """A context is kept alive by its connections, and by nothing else."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        made = context.__wrapped__(flavour, tls_version)
        ours = MemoryPeer(made, server_hostname="localhost")
        shake(ours, MemoryPeer(context("ssl", tls_version, True), server_side=True))
        gone = weakref.ref(made)
        del made
        assert gone() is not None
        del ours
        assert gone() is None
    finally:
        if enabled:
            gc.enable()


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_socket_left_to_the_garbage_collector_warns(
    flavour: str, tls_version: ssl.TLSVersion
) -> None:
    """A socket that nobody closed is closed all the same, with a ResourceWarning."""
    with contextlib.ExitStack() as stack:
        ours, theirs = _sockets(flavour, tls_version, False, stack)
        _handshake(ours, theirs)
        theirs.sendall(b"!")
        assert ours.recv(1) == b"!"  # and the tickets: what is unread would be a reset
        stack.pop_all()
    theirs.settimeout(TIMEOUT)
    kept = [ours]
    del ours
    with pytest.warns(ResourceWarning, match=f"unclosed.*fd={kept[0].fileno()}"):
        kept.clear()
    assert theirs.recv(1) == b""
    theirs.close()
