"""New pins while connections are made: which handshake goes by which, and what is left over."""

from __future__ import annotations

import gc
import itertools
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import NamedTuple, cast

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pinsock import (
    Pin,
    PinError,
    PinFile,
    PinMatch,
    PinMismatchError,
    PinnedContext,
    PinnedObject,
    PinnedSocket,
    PinSet,
    TofuStore,
    _engine,
    _openssl,
)
from tests import certificates, peers
from tests.certificates import make_chain
from tests.peers import MemoryPeer, shake

CHAIN = make_chain(3, pool=1)
CLIENT = make_chain(2, purpose="client", pool=2)
WRONG = Pin("spki", "sha256", bytes(32))
LEAF, MIDDLE, ROOT = (certificates.spki_pin(each) for each in CHAIN.certificates)
RIGHT = PinSet({"leaf": LEAF})


def client(pins: object, version: ssl.TLSVersion | None = None) -> PinnedContext:
    context = PinnedContext(pins=pins)  # type: ignore[arg-type]  # anything a test comes up with
    if version is not None:
        peers.fix_version(context, version)
    CHAIN.trust(context)
    return context


def connect(context: PinnedContext, host: str = "localhost") -> tuple[MemoryPeer, MemoryPeer]:
    """A connection whose handshake is complete: ours, and the server's."""
    ours = MemoryPeer(context, server_hostname=host)
    theirs = MemoryPeer(peers.server_context(CHAIN), server_side=True)
    shake(ours, theirs)
    assert ours.record.error is None
    return ours, theirs


# What is left over -------------------------------------------------------------------------------


def test_connections_under_old_pins_are_listed(tls_version: ssl.TLSVersion) -> None:
    """After new pins, those made under others; nothing is done to them."""
    context = client(RIGHT, tls_version)
    old, far = connect(context)
    assert context.connections() == []
    context.pins = PinSet({"leaf": [LEAF, WRONG]})
    new, _ = connect(context)
    assert context.connections() == [old.obj]
    assert isinstance(old.obj, PinnedObject)
    assert peers.exchange(old, far, b"still here") == b"still here"
    context.pins = RIGHT
    assert context.connections() == [new.obj]
    context.pins = None
    assert context.connections() == [old.obj, new.obj]
    assert client(None).connections() == []


def test_equal_pins_are_the_same_pins() -> None:
    """Pins that were brought in again leave nothing over."""
    context = client(RIGHT)
    connect(context)
    context.pins = PinSet({"leaf": [Pin.parse(LEAF)]})
    assert context.connections() == []


def test_sockets_are_listed_until_they_are_closed(tls_version: ssl.TLSVersion) -> None:
    """Closed, detached and unwrapped connections are none."""
    context = client(RIGHT, tls_version)
    server = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=None)
    CHAIN.configure(server)
    pairs = [socket.socketpair() for _ in range(4)]
    with ThreadPoolExecutor(1) as pool:
        done = [pool.submit(server.wrap_socket, b, server_side=True) for _, b in pairs]
        open_ = [context.wrap_socket(a, server_hostname="localhost") for a, _ in pairs]
        far = [each.result(10) for each in done]
        context.pins = PinSet({"leaf": [LEAF, WRONG]})
        assert set(context.connections()) == set(open_)
        assert all(isinstance(each, PinnedSocket) for each in context.connections())
        kept, closed, detached, unwrapped = open_
        closed.close()
        socket.close(detached.detach())
        ended = pool.submit(far[3].unwrap)
        plain = unwrapped.unwrap()
        ended.result(10).close()
    assert context.connections() == [kept]
    for each in (*open_, *far, plain):
        each.close()


def test_connections_that_nobody_has_are_forgotten() -> None:
    """The list keeps nobody alive, and does not grow."""
    context = client(RIGHT)
    ours, far = connect(context)
    assert ours.obj._sslobj in _openssl.handlers()
    context.pins = None
    del ours, far
    gc.collect()
    assert context.connections() == []
    assert all(reference() is not None for reference in _openssl._handlers.values())


def test_refused_and_unfinished_connections_are_not_listed() -> None:
    """What is listed has come through a handshake with pins."""
    context = client(PinSet(WRONG))
    ours = MemoryPeer(context, server_hostname="localhost")
    shake(ours, MemoryPeer(peers.server_context(CHAIN), server_side=True))
    begun = MemoryPeer(context, server_hostname="localhost")
    begun.step()
    context.pins = None
    unpinned, _ = connect(context)
    context.pins = RIGHT
    assert context.connections() == []
    assert unpinned.record.completed


def test_expired_pins_leave_their_connections_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """When a set has ended, a connection that it once admitted is one of yesterday's."""
    end = datetime.now(timezone.utc) + timedelta(days=1)
    context = client(PinSet({"leaf": LEAF}, expires=end))
    ours, _ = connect(context)
    assert context.connections() == []

    class Later(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return end

    monkeypatch.setattr(_engine, "datetime", Later)
    assert context.connections() == [ours.obj]


def test_what_was_wrapped_with_its_own_pins_has_those() -> None:
    """Pins given to wrap_bio are the current ones, whatever the context's are."""
    context = client(RIGHT)
    source = [PinSet({"leaf": LEAF})]
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    own = context.wrap_bio(
        incoming, outgoing, server_hostname="localhost", pins=lambda _name: source[0]
    )
    far = MemoryPeer(peers.server_context(CHAIN), server_side=True)
    for _ in range(4):
        try:
            own.do_handshake()
        except ssl.SSLWantReadError:
            pass
        far.incoming.write(outgoing.read())
        far.step()
        incoming.write(far.outgoing.read())
    assert own.pin_match is not None
    context.pins = PinSet(WRONG)
    assert context.connections() == []
    source[0] = PinSet(WRONG)
    assert context.connections() == [own]


def test_a_source_that_fails_leaves_its_connections_over() -> None:
    """A handshake that began now would be refused."""
    state = [RIGHT]
    context = client(lambda _name: state[0])
    ours, _ = connect(context)
    assert context.connections() == []
    state.clear()
    assert context.connections() == [ours.obj]


def test_a_changed_file_leaves_the_connections_of_its_hosts_over(tmp_path: Path) -> None:
    """Those of hosts whose lines have not changed are not listed."""
    path = tmp_path / "pins"
    path.write_text(f"localhost leaf {LEAF}\n127.0.0.1 leaf {LEAF}\n")
    context = client(PinFile(path))
    ours, _ = connect(context)
    connect(context, "127.0.0.1")
    path.write_text(f"localhost leaf {LEAF}\nlocalhost leaf {WRONG}\n127.0.0.1 leaf {LEAF}\n")
    assert context.connections() == [ours.obj]
    path.write_text(f"127.0.0.1 leaf {LEAF}\n")
    assert context.connections() == [ours.obj]
    with pytest.raises(AssertionError):
        connect(context)


def test_a_forgotten_peer_leaves_its_connections_over(tmp_path: Path) -> None:
    """The first use of a peer is current until the peer is removed."""
    store = TofuStore(tmp_path / "known")
    context = client(store)
    ours, _ = connect(context)
    assert context.connections() == []
    store.remove("localhost")
    assert context.connections() == [ours.obj]


# Sessions ----------------------------------------------------------------------------------------


def test_a_client_does_not_resume_a_session_of_old_pins(
    tls_version: ssl.TLSVersion, tmp_path: Path
) -> None:
    """Neither after context.pins = ..., nor after a change of the file."""
    server = peers.server_context(CHAIN)
    path = tmp_path / "pins"
    path.write_text(f"localhost leaf {LEAF}\n")

    def visit(context: PinnedContext, session: ssl.SSLSession | None) -> MemoryPeer:
        ours = MemoryPeer(context, server_hostname="localhost", session=session)
        theirs = MemoryPeer(server, server_side=True)
        shake(ours, theirs)
        if ours.record.error is None:
            peers.exchange(theirs, ours, b"tickets come before data")
        return ours

    for pins in (RIGHT, PinFile(path)):
        context = client(pins, tls_version)
        session = visit(context, None).obj.session
        assert visit(context, session).obj.session_reused
        if isinstance(pins, PinSet):
            context.pins = PinSet({"leaf": [LEAF, WRONG]})
        else:
            path.write_text(f"localhost leaf {LEAF}\nlocalhost leaf {WRONG}\n")
        error = visit(context, session).record.error
        assert isinstance(error, ValueError)
        assert "different pin set" in str(error)
        assert not visit(context, None).obj.session_reused


def test_a_server_does_not_resume_what_came_before_its_pins(tls_version: ssl.TLSVersion) -> None:
    """A session that it gave a client while it had no pins is no way around them."""
    server = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=None)
    peers.fix_version(server, tls_version)
    CHAIN.configure(server)
    CLIENT.trust(server)
    server.verify_mode = ssl.CERT_REQUIRED
    visitor = peers.client_context(CHAIN, tls_version, identity=CLIENT)

    def visit(session: ssl.SSLSession | None) -> tuple[MemoryPeer, MemoryPeer]:
        far = MemoryPeer(visitor, server_hostname="localhost", session=session)
        near = MemoryPeer(server, server_side=True)
        shake(far, near)
        return far, near

    far, near = visit(None)
    peers.exchange(near, far, b"tickets come before data")
    session = far.obj.session
    far, near = visit(session)
    assert far.obj.session_reused
    server.pins = PinSet({"leaf": certificates.spki_pin(CLIENT.leaf)})
    far, near = visit(session)
    assert near.record.error is None
    assert not far.obj.session_reused
    assert cast(PinnedObject, near.obj).pin_match is not None
    server.pins = PinSet({"leaf": WRONG})
    _, near = visit(session)
    assert isinstance(near.record.error, PinMismatchError)


# Which handshake goes by which -------------------------------------------------------------------


class Begun(NamedTuple):
    """A handshake under way, and the pins that there were when it began."""

    ours: MemoryPeer
    theirs: MemoryPeer
    pins: PinSet


class Rotation(RuleBasedStateMachine):
    """Handshakes that overlap with each other and with changes of the pins."""

    directory: Path
    numbers = itertools.count()
    server = peers.server_context(CHAIN)

    def __init__(self) -> None:
        super().__init__()
        self.path = self.directory / f"pins{next(self.numbers)}"
        self.pins = RIGHT
        self.path.write_text(f"localhost leaf {LEAF}\n")
        self.context = client(PinFile(self.path))
        self.begun: list[Begun] = []
        self.open: list[Begun] = []

    pins_ = st.builds(
        lambda leaf, middle: PinSet({"leaf": leaf, "ca": middle}),
        st.lists(st.sampled_from([LEAF, str(WRONG)]), min_size=1, max_size=2, unique=True),
        st.lists(st.sampled_from([MIDDLE, ROOT, str(WRONG)]), min_size=1, max_size=2, unique=True),
    )

    @rule(pins=pins_, by_file=st.booleans())
    def rotate(self, pins: PinSet, by_file: bool) -> None:
        """Bring in new pins, in either of the two ways."""
        self.pins = pins
        if by_file:
            file = PinFile(self.path)
            file.write({"localhost": pins})
            if not isinstance(self.context.pins, PinFile):
                self.context.pins = file
        else:
            self.context.pins = pins

    @rule()
    def begin(self) -> None:
        """Begin a handshake: from here on its pins are fixed."""
        ours = MemoryPeer(self.context, server_hostname="localhost")
        theirs = MemoryPeer(self.server, server_side=True)
        ours.step()
        self.begun.append(Begun(ours, theirs, self.pins))

    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        """Finish one of those that have begun."""
        if not self.begun:
            return
        each = self.begun.pop(data.draw(st.integers(0, len(self.begun) - 1)))
        shake(each.ours, each.theirs)
        match: PinMatch | None = each.pins.match(CHAIN.ders)
        error = each.ours.record.error
        if match is None:
            assert isinstance(error, PinMismatchError)
            assert error.expected == {
                name: tuple(map(str, pins)) for name, pins in each.pins.positions.items()
            }
        else:
            assert error is None
            assert cast(PinnedObject, each.ours.obj).pin_match == match
            self.open.append(each)

    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        """Let go of an open connection."""
        if self.open:
            self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))

    @invariant()
    def old_ones_are_listed(self) -> None:
        """Connections of other pins than the current ones are listed, and no others."""
        listed = {id(each) for each in self.context.connections()}
        assert listed == {id(each.ours.obj) for each in self.open if each.pins != self.pins}


def test_rotation_against_handshakes_that_overlap(tmp_path: Path) -> None:
    """Each handshake is judged by exactly the version of the pins that it began with."""

    class Machine(Rotation):
        directory = tmp_path

    hypothesis.stateful.run_state_machine_as_test(  # type: ignore[no-untyped-call]  # hypothesis has no annotation there
        Machine,
        settings=hypothesis.settings(
            max_examples=max(10, hypothesis.settings().max_examples // 2),
            stateful_step_count=20,
            deadline=None,
        ),
    )


def test_a_pin_error_of_a_source_is_its_own(tls_version: ssl.TLSVersion) -> None:
    """A source may refuse, in its own words."""

    def refuse(_name: str | None) -> PinSet:
        raise PinError("not today")

    ours = MemoryPeer(client(refuse, tls_version), server_hostname="localhost")
    ours.step()
    assert isinstance(ours.record.error, PinError)
    assert "not today" in str(ours.record.error)
