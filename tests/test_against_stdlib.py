"""Every member of ``ssl.SSLSocket`` and ``ssl.SSLObject`` in every state of a connection, on both.

A script is run on a connection of ``ssl`` and on one of ours, and what it gave, or raised, has to
be the same.  Where it is not, :data:`DIFFERENT` says why, as the README's table does ("Differences
from ``ssl.SSLContext``"); a difference that is not there any more is a failure as well.

Settings are compared in test_context.py, errors in test_stdlib_errors.py, and what is sent and
received in test_sockets.py and test_objects.py.
"""

from __future__ import annotations

import array
import contextlib
import copy
import functools
import inspect
import io
import itertools
import pickle
import re
import socket
import ssl
import sys
from collections.abc import Callable
from typing import Any

import pytest
from OpenSSL import SSL

from pinsock import PinnedContext, PinnedObject, PinnedSocket
from tests.peers import MemoryPeer, shake
from tests.test_sockets import context, start, wrap
from tests.test_stdlib_errors import told

SHORT = 0.02  # seconds; how long a timeout that is to be reached takes
TIMEOUT = 10.0
FLAVOURS = ("unpinned", "pinned")
TLS_1_2, TLS_1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3

Script = Callable[[Any], object]


def value_of(value: object) -> object:
    """What can be compared of a value: what is of one connection only goes by its type."""
    if isinstance(value, (ssl.SSLSocket, ssl.SSLObject, ssl.SSLContext)):
        return "a connection" if not isinstance(value, ssl.SSLContext) else "a context"
    if isinstance(value, socket.socket):
        return "a socket"
    if isinstance(value, io.IOBase):
        return type(value).__name__
    if isinstance(value, (list, tuple)):
        return [type(value).__name__, *map(value_of, value)]
    if type(value).__name__ in ("SSLSession", "PinnedSession"):
        return "a session"
    return type(value).__name__, value


#: What is of one connection only, and the names of our classes.
SAME = {
    r"fd=-?\d+": "fd",
    r"pinsock\._socket\.Pinned(Socket|Object)": r"ssl.SSL\1",
    "Pinned(Socket|Object)": r"SSL\1",
}


def outcome(script: Script, connection: Any) -> object:
    """What a script gives, or raises."""
    try:
        return value_of(script(connection))
    except Exception as error:
        if isinstance(error, TypeError):
            return TypeError  # what the interpreter says of arguments is its own
        found = told(error)
        assert found is not None
        text = str(found)
        for new, old in SAME.items():
            text = re.sub(new, old, text)
        return text


# Sockets -----------------------------------------------------------------------------------------


class _End:
    """A client's socket, and its peer, which is of ``ssl``."""

    def __init__(self, flavour: str, version: ssl.TLSVersion, stack: contextlib.ExitStack) -> None:
        left, right = socket.socketpair()
        for sock in (left, right):
            stack.enter_context(sock)
            sock.settimeout(TIMEOUT)
        self.ours: Any = stack.enter_context(wrap(flavour, version, left))
        self.theirs: Any = stack.enter_context(wrap("ssl", version, right, True))

    def shake(self) -> _End:
        """Shake hands, and read the tickets of TLS 1.3."""
        shaking = start(self.theirs.do_handshake)
        self.ours.do_handshake()
        shaking.result(TIMEOUT)
        self.theirs.sendall(b"!")
        assert self.ours.recv(1) == b"!"
        return self


def before(end: _End) -> None:
    """Connected, and nothing more."""


def after(end: _End) -> None:
    """The handshake is done."""
    end.shake()


def with_data(end: _End) -> None:
    """There is something to read."""
    end.shake().theirs.sendall(b"some\ndata")


def said_goodbye(end: _End) -> None:
    """The peer has said close_notify."""
    end.shake().theirs.settimeout(0)
    with contextlib.suppress(ssl.SSLWantReadError):
        end.theirs.unwrap()


def cut_off(end: _End) -> None:
    """The peer has gone without it."""
    end.shake().theirs.close()


def closed(end: _End) -> None:
    """It is closed."""
    end.shake().ours.close()


def unwrapped(end: _End) -> None:
    """Both have said goodbye, and the socket is a plain one again."""
    leaving = start(end.shake().theirs.unwrap)
    end.ours.unwrap()
    leaving.result(TIMEOUT)


STATES = (before, after, with_data, said_goodbye, cut_off, closed, unwrapped)
BUFFER = b"data"

MEMBERS: dict[str, Script] = {
    "cipher": lambda s: s.cipher(),
    "close": lambda s: s.close(),
    "compression": lambda s: s.compression(),
    "connect": lambda s: s.connect(("127.0.0.1", 1)),
    "connect_ex": lambda s: s.connect_ex(("127.0.0.1", 1)),
    "context": lambda s: s.context,
    "do_handshake": lambda s: s.do_handshake() if s.version() else None,
    "do_handshake(block)": lambda s: s.do_handshake(True) if s.version() else None,
    "dup": lambda s: s.dup(),
    "family": lambda s: s.family,
    "fileno": lambda s: s.fileno() >= 0,
    "get_channel_binding": lambda s: type(s.get_channel_binding()),
    "get_channel_binding(other)": lambda s: s.get_channel_binding("other"),
    "get_inheritable": lambda s: s.get_inheritable(),
    "getblocking": lambda s: s.getblocking(),
    "getpeercert": lambda s: s.getpeercert(),
    "getpeercert(binary)": lambda s: s.getpeercert(True),
    "getpeercert(binary_form=)": lambda s: s.getpeercert(binary_form=True),
    "getpeername": lambda s: s.getpeername(),
    "getsockname": lambda s: s.getsockname(),
    "getsockopt": lambda s: s.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE),
    "gettimeout": lambda s: s.gettimeout(),
    "listen": lambda s: s.listen(),
    "makefile": lambda s: _use(s.makefile("rb")),
    "makefile, read": lambda s: _use(s.makefile("rb"), "read", 4),
    "makefile, line": lambda s: _use(s.makefile("r"), "readline"),
    "makefile, write": lambda s: _use(s.makefile("wb", buffering=0), "write", b"x"),
    "pending": lambda s: s.pending(),
    "proto": lambda s: s.proto,
    "read": lambda s: s.read(),
    "read(4)": lambda s: s.read(4),
    "read(0)": lambda s: s.read(0),
    "read(-1)": lambda s: s.read(-1),
    "read(4, buffer)": lambda s: s.read(4, bytearray(9)),
    "read(0, buffer)": lambda s: s.read(0, bytearray(4)),
    "read(text)": lambda s: s.read("4"),
    "read(4, bytes)": lambda s: s.read(4, b"data"),
    "recv": lambda s: s.recv(4),
    "recv()": lambda s: s.recv(),
    "recv(0)": lambda s: s.recv(0),
    "recv(-1)": lambda s: s.recv(-1),
    "recv(flags)": lambda s: s.recv(4, socket.MSG_PEEK),
    "recv_into": lambda s: s.recv_into(bytearray(4)),
    "recv_into(2)": lambda s: s.recv_into(bytearray(4), 2),
    "recv_into(array)": lambda s: s.recv_into(array.array("i", [0, 0])),
    "recv_into(nothing)": lambda s: s.recv_into(bytearray()),
    "recv_into(None)": lambda s: s.recv_into(None, 2),
    "recv_into(flags)": lambda s: s.recv_into(bytearray(4), 0, socket.MSG_PEEK),
    "recvfrom": lambda s: s.recvfrom(4),
    "recvfrom_into": lambda s: s.recvfrom_into(bytearray(4)),
    "recvmsg": lambda s: s.recvmsg(4),
    "recvmsg_into": lambda s: s.recvmsg_into([bytearray(4)]),
    "selected_alpn_protocol": lambda s: s.selected_alpn_protocol(),
    "send": lambda s: s.send(b"data"),
    "send(nothing)": lambda s: s.send(b""),
    "send(bytearray)": lambda s: s.send(bytearray(b"data")),
    "send(memoryview)": lambda s: s.send(memoryview(b"data")[1:]),
    "send(array)": lambda s: s.send(array.array("i", [1, 2])),
    "send(strided)": lambda s: s.send(memoryview(b"data")[::2]),
    "send(text)": lambda s: s.send("data"),
    "send(None)": lambda s: s.send(None),
    "send(flags)": lambda s: s.send(b"data", socket.MSG_DONTWAIT),
    "sendall": lambda s: s.sendall(b"data"),
    "sendall(nothing)": lambda s: s.sendall(b""),
    "sendall(bytearray)": lambda s: s.sendall(bytearray(b"data")),
    "sendall(array)": lambda s: s.sendall(array.array("i", [1, 2])),
    "sendall(text)": lambda s: s.sendall("data"),
    "sendall(flags)": lambda s: s.sendall(b"data", socket.MSG_DONTWAIT),
    "sendfile": lambda s: s.sendfile(io.BytesIO(b"data")),
    "sendmsg": lambda s: s.sendmsg([b"data"]),
    "sendto": lambda s: s.sendto(b"data", ("127.0.0.1", 1)),
    "server_hostname": lambda s: s.server_hostname,
    "server_side": lambda s: s.server_side,
    "session": lambda s: s.session,
    "session = text": lambda s: setattr(s, "session", "x"),
    "session_reused": lambda s: s.session_reused,
    "setblocking": lambda s: s.setblocking(True),
    "settimeout": lambda s: (s.settimeout(3), s.gettimeout()),
    "shared_ciphers": lambda s: s.shared_ciphers(),
    "shutdown": lambda s: s.shutdown(socket.SHUT_RDWR),
    "shutdown(read)": lambda s: s.shutdown(socket.SHUT_RD),
    "shutdown(nonsense)": lambda s: s.shutdown(99),
    "type": lambda s: s.type,
    "unwrap": lambda s: s.unwrap(),
    "verify_client_post_handshake": lambda s: s.verify_client_post_handshake(),
    "version": lambda s: s.version(),
    "write": lambda s: s.write(b"data"),
    "write(nothing)": lambda s: s.write(b""),
    "write(text)": lambda s: s.write("data"),
    "with": lambda s: s.__enter__() is s and s.__exit__(None, None, None),
    "repr": lambda s: re.sub(r"Pinned", "SSL", repr(s).split()[0].rpartition(".")[2]),
    "copy": lambda s: copy.copy(s),
    "pickle": lambda s: pickle.dumps(s),
    "accept": lambda s: s.accept(),
    "owner": lambda s: s._sslobj is None,
}
if sys.version_info < (3, 12):
    MEMBERS["selected_npn_protocol"] = lambda s: _quietly(s.selected_npn_protocol)


def _quietly(call: Callable[[], object]) -> object:
    with pytest.warns(DeprecationWarning, match="NPN"):
        return call()


def _use(file: Any, *call: Any) -> object:
    with file:
        return getattr(file, call[0])(*call[1:]) if call else file


FAILED = "a connection that has failed"
#: (state, member) -> why it is not the same: the row of the README's table.
DIFFERENT: dict[tuple[str, str], str] = {
    ("object_begun", "session"): "session",
}
if SSL.OPENSSL_VERSION_NUMBER >= 0x40000000:
    DIFFERENT.update(
        {
            ("object_with_data", "unwrap twice"): FAILED,
            ("object_with_data", "unwrap, write"): FAILED,
            ("object_with_data", "unwrap, read"): FAILED,
            ("object_cut_off", "unwrap twice"): FAILED,
            ("object_cut_off", "unwrap, write"): FAILED,
        }
    )
if sys.version_info < (3, 13):
    # The system's error since 3.13, and with ours on every Python.
    DIFFERENT.update(
        {
            ("cut_off", name): "a peer that is gone"
            for name in MEMBERS
            if re.match(r"send|write|makefile, write", name)
            and not re.search(r"nothing|text|None|strided|flags|sendmsg|sendto", name)
        }
    )


@functools.cache
def of_sockets(
    state: Callable[[_End], None], flavour: str, version: ssl.TLSVersion
) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, script in MEMBERS.items():
        with contextlib.ExitStack() as stack:
            end = _End(flavour, version, stack)
            state(end)
            if end.ours.fileno() >= 0:
                end.ours.settimeout(SHORT)
            # Whether what is left can still be used is part of what it did.
            did = outcome(script, end.ours)
            found[name] = did, end.ours.fileno() >= 0, end.ours._sslobj is None
    return found


def check(state: str, ours: dict[str, object], theirs: dict[str, object]) -> None:
    """Assert that what differs is what is listed."""
    different = {name: (ours[name], theirs[name]) for name in ours if ours[name] != theirs[name]}
    listed = {member for where, member in DIFFERENT if where == state}
    assert {name: both for name, both in different.items() if name not in listed} == {}
    assert listed - different.keys() == set(), "no longer different"


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("state", STATES)
def test_sockets_do_what_those_of_ssl_do(
    state: Callable[[_End], None], flavour: str, tls_version: ssl.TLSVersion
) -> None:
    """Every member, in every state."""
    theirs = of_sockets(state, "ssl", tls_version)
    ours = of_sockets(state, flavour, tls_version)
    check(state.__name__, ours, theirs)


# Objects -----------------------------------------------------------------------------------------


class _Pair:
    """A client's object, and its peer, which is of ``ssl``."""

    def __init__(self, flavour: str, version: ssl.TLSVersion) -> None:
        self.near = MemoryPeer(context(flavour, version), server_hostname="localhost")
        self.far = MemoryPeer(context("ssl", version, True), server_side=True)

    def shake(self) -> _Pair:
        """Shake hands."""
        assert [seen.error for seen in shake(self.near, self.far)] == [None, None]
        return self


def object_before(pair: _Pair) -> None:
    """Nothing has been sent."""


def object_begun(pair: _Pair) -> None:
    """The first message has been sent."""
    pair.near.step()


def object_after(pair: _Pair) -> None:
    """The handshake is done."""
    pair.shake()


def object_with_data(pair: _Pair) -> None:
    """There is something to read."""
    pair.shake().far.obj.write(b"some\ndata")
    pair.far.flush(pair.near)


def object_said_goodbye(pair: _Pair) -> None:
    """The peer has said close_notify."""
    with contextlib.suppress(ssl.SSLWantReadError):
        pair.shake().far.obj.unwrap()
    pair.far.flush(pair.near)


def object_cut_off(pair: _Pair) -> None:
    """The stream has ended without it."""
    pair.shake().far.end(pair.near)


def object_half_a_record(pair: _Pair) -> None:
    """A record has come in part."""
    pair.shake().far.obj.write(b"some data")
    pair.near.incoming.write(pair.far.outgoing.read()[:-1])


OBJECT_STATES = (
    *(object_before, object_begun, object_after, object_with_data, object_said_goodbye),
    *(object_cut_off, object_half_a_record),
)
_ONLY_SOCKETS = re.compile(
    r"close|connect|dup|family|fileno|get_inh|getblo|getpeername|getsock|gettime|listen|makefile|"
    r"proto|recv|send|setblocking|settimeout|shutdown|type|with|accept|owner|do_handshake"
)
OBJECT_MEMBERS: dict[str, Script] = {
    **{name: script for name, script in MEMBERS.items() if not _ONLY_SOCKETS.match(name)},
    "do_handshake": lambda o: o.do_handshake(),
    "read twice": lambda o: (o.read(4), o.read(4)),
    "unwrap twice": lambda o: (_tried(o.unwrap), o.unwrap()),
    "write, unwrap": lambda o: (o.write(b"x"), o.unwrap()),
    "unwrap, write": lambda o: (_tried(o.unwrap), o.write(b"x")),
    "unwrap, read": lambda o: (_tried(o.unwrap), o.read(4)),
    "repr": lambda o: repr(o).split()[0].rpartition(".")[2].replace("Pinned", "SSL"),
}


def _tried(call: Callable[[], object]) -> None:
    with contextlib.suppress(ssl.SSLError):
        call()


@functools.cache
def of_objects(
    state: Callable[[_Pair], None], flavour: str, version: ssl.TLSVersion
) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, script in OBJECT_MEMBERS.items():
        pair = _Pair(flavour, version)
        state(pair)
        found[name] = outcome(script, pair.near.obj), pair.near.outgoing.pending > 0
    return found


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("state", OBJECT_STATES)
def test_objects_do_what_those_of_ssl_do(
    state: Callable[[_Pair], None], flavour: str, tls_version: ssl.TLSVersion
) -> None:
    """Every member, in every state."""
    theirs = of_objects(state, "ssl", tls_version)
    ours = of_objects(state, flavour, tls_version)
    check(state.__name__, ours, theirs)


# What there is -----------------------------------------------------------------------------------

#: Members that the tables above do not use, and what is tested of them elsewhere, if anything.
ELSEWHERE = {
    "detach": "test_hostile_callers.py: what is left afterwards",
    "get_unverified_chain": "test_engine.py: CPython 3.13 brought it",
    "get_verified_chain": "test_engine.py: CPython 3.13 brought it",
    "set_inheritable": "of the descriptor, and inherited as it is",
    "setsockopt": "of the descriptor, and inherited as it is",
    "bind": "of the descriptor, and inherited as it is",
    "ioctl": "Windows",
    "share": "Windows",
    "server_hostname": "test_context.py: names of every kind",
    "sendmsg_afalg": "not for stream sockets",
    "timeout": "of the descriptor, and inherited as it is",
    "group": "test_engine.py: CPython 3.15 brings it",
    "client_sigalg": "test_engine.py: CPython 3.15 brings it",
    "server_sigalg": "test_engine.py: CPython 3.15 brings it",
}


def _public(cls: type[object]) -> set[str]:
    return {name for name in dir(cls) if not name.startswith("_")}


@pytest.mark.parametrize(
    ("cls", "table"), [(ssl.SSLSocket, MEMBERS), (ssl.SSLObject, OBJECT_MEMBERS)]
)
def test_the_tables_are_complete(cls: type[object], table: dict[str, Script]) -> None:
    """A member that a newer Python brings has to be looked at."""
    named = {re.split(r"[(, ]", name)[0] for name in table}
    assert _public(cls) - named - ELSEWHERE.keys() - {"selected_npn_protocol"} == set()


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (PinnedContext, ssl.SSLContext),
        (PinnedSocket, ssl.SSLSocket),
        (PinnedObject, ssl.SSLObject),
    ],
)
def test_what_can_be_called_is_called_in_the_same_way(
    ours: type[object], theirs: type[object]
) -> None:
    """The same arguments in the same order, with the same defaults; ours are keywords only."""
    for name in sorted(_public(theirs)):
        try:
            expected = inspect.signature(getattr(theirs, name))
        except (TypeError, ValueError):
            continue  # no function, or one in C that does not tell
        found = inspect.signature(getattr(ours, name))
        if any(each.kind is each.VAR_POSITIONAL for each in found.parameters.values()):
            continue  # takes anything: it is refused
        plain, wanted = (
            [
                each
                for each in signature.parameters.values()
                if each.kind not in (each.KEYWORD_ONLY, each.VAR_KEYWORD)
            ]
            for signature in (found, expected)
        )
        assert [each.name for each in plain] == [
            mine.name if each.kind is each.POSITIONAL_ONLY else each.name
            for each, mine in itertools.zip_longest(wanted, plain)
        ], name
        assert [each.default for each in plain] == [each.default for each in wanted], name
