"""In whatever order a connection's methods are called, data never passes unmatched or misplaced.

More closely: each call raises what it is documented to raise, and nothing else; a handshake
completes if, and only if, what its pins say of the peer allows it, and those are the pins of the
moment when it began (or of the context that was switched to until it was complete); ``pin_match``
is there exactly if the peer was matched; what is read is what was written; and if nothing went
wrong, all of it arrives.

Both sides are ours, in memory.  The script is one byte for the scene, one for the pins of each
side, and then calls: one byte for the side and the call, and what that takes.  A call can also be
made inside another: by the message callback, or by ``sni_callback``.
"""

from __future__ import annotations

import functools
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress

from fuzz import flights
from fuzz.flights import HOST, VERSIONS, chain
from fuzz.harness import Supply, run
from pinsock import PinError, PinnedContext, PinnedObject, PinSet
from tests import certificates, peers

__all__ = ["seeds", "test_one_input"]

#: Calls in one script, and octets that one call moves.
_MAX_CALLS, _MAX_OCTETS = 64, 40_000

# What is said, in both directions: no part of it is like another nearby.
_WORDS = b"".join(number.to_bytes(3, "big") for number in range(200_000))


def _fails(_server_hostname: str | None) -> PinSet | None:
    raise PinError("no pins today")


@functools.cache
def _policies() -> tuple[object, ...]:
    """What ``pins`` can be; the first four are as good as their names."""
    leaf = certificates.spki_pin(chain("match").leaf)
    wrong = certificates.spki_pin(chain("other").leaf)
    return (
        PinSet({"leaf": leaf}),
        PinSet({"leaf": [leaf, wrong]}, trust="pins"),
        None,
        PinSet({"leaf": wrong}, enforce=False),
        PinSet({"leaf": wrong}),
        PinSet({"leaf": wrong, "ca": certificates.spki_pin(chain("match").root)}, trust="pins"),
        _fails,
    )


#: How many of the policies match, and how many let the handshake complete.
_MATCHING, _GOOD = 2, 4
#: No handshake completes with this one.
_DEAD = 6


@functools.cache
def _contexts(
    version: ssl.TLSVersion, *, later: bool, server_side: bool
) -> tuple[PinnedContext, ...]:
    """Contexts to switch between; their pins are set at the beginning of each script."""
    protocol = ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT
    made = []
    for _ in range(3):
        context = PinnedContext(protocol, pins=None)
        peers.fix_version(context, version)
        chain("match").trust(context)
        chain("match").configure(context)
        context.verify_mode = ssl.CERT_REQUIRED
        context.set_ecdh_curve(flights.CURVE)
        context.post_handshake_auth = later
        context._msg_callback = _on_message
        if server_side:
            context.sni_callback = _on_servername
        made.append(context)
    return tuple(made)


def _on_message(connection: object, *_message: object) -> None:
    for side in _sides:
        if side.obj is connection:
            side.nested()


def _on_servername(connection: object, _name: object, _context: object) -> None:
    _on_message(connection)


class _Side:
    """One end of the connection, and what has to be true of it."""

    def __init__(self, contexts: Sequence[PinnedContext], policy: int, later: bool) -> None:
        self.contexts = contexts
        #: Of each context, by its number.
        self.policies = [policy, policy, policy]
        for context in contexts:
            context.pins = _policies()[policy]  # type: ignore[assignment]  # one of those it takes
        self.at = 0
        self.server_side = contexts[0].protocol == ssl.PROTOCOL_TLS_SERVER
        #: The client is asked for its certificate after the handshake.
        self.later = later and self.server_side
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        obj = contexts[0].wrap_bio(
            self.incoming,
            self.outgoing,
            self.server_side,
            server_hostname=None if self.server_side else HOST,
        )
        assert isinstance(obj, PinnedObject)
        self.obj = obj
        #: The policy in force; None until the handshake begins.
        self.force: int | None = None
        self.offered = False
        #: Nothing has gone wrong by now, and nobody has said goodbye.
        self.clean = True
        self.written = 0
        self.received = 0
        #: They have said goodbye: there is nothing behind what they have written.
        self.goodbye = False
        #: They may have said goodbye, or not.
        self.unsure = False
        self.script: list[Callable[[], None]] = []
        #: A callback is running, and so an OpenSSL call that is not to be disturbed.
        self.busy = False
        self.other: _Side = self

    @property
    def complete(self) -> bool:
        return self.obj.version() is not None

    def look(self) -> None:
        """See that everything is as it has to be."""
        engine = self.obj._sslobj
        assert engine is not None
        if engine.begun and self.force is None:
            self.force = self.policies[self.at]
        match = self.obj.pin_match
        if not self.complete:
            assert match is None, "a match before the end"
            assert not self.received, "data before the end"
            assert not self.written, "data before the end"
            return
        assert self.force is not None
        if self.later:
            assert match is None or self.force < _MATCHING
            if match is None and self.force != 2 and self.force != 3:
                assert self.obj.getpeercert(True) is None, "a client that is not known yet"
            return
        assert self.force < _GOOD, "completed with a peer that does not match"
        assert (match is not None) == (self.force < _MATCHING), match

    def nested(self) -> None:
        """Make the calls that wait for a callback."""
        self.look()
        self.busy = True
        while self.script:
            self.script.pop()()
        self.busy = False

    # Each of these is one call; the errors that it may raise are those that it catches.

    def _talk(self, call: Callable[[], object]) -> object:
        """A call that shakes hands, if need be."""
        try:
            return call()
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLError:
            self.clean = False
        except ValueError:
            assert self.offered, "a ValueError that tells of no session"
            self.clean = False
        return None

    def handshake(self, _supply: Supply) -> None:
        self._talk(self.obj.do_handshake)

    def read(self, supply: Supply) -> None:
        size = supply.number(_MAX_OCTETS)
        data = self._talk(lambda: self.obj.read(size))
        if data is not None:
            assert isinstance(data, bytes)
            assert len(data) <= size
            self._got(data, size)

    def read_into(self, supply: Supply) -> None:
        buffer = bytearray(supply.number(255))
        size = supply.number(255)
        count = self._talk(lambda: self.obj.read(size, buffer))
        if count is not None:
            assert isinstance(count, int)
            self._got(bytes(buffer[:count]), len(buffer))
            assert not any(buffer[count:])

    def _got(self, data: bytes, size: int) -> None:
        if size and not data:
            assert self.other.goodbye, "a truncation was taken for the end"
            assert self.received == self.other.written, "an end before the end"
        assert not (self.busy and size), "read in the middle of another call"
        assert _WORDS[self.received : self.received + len(data)] == data, "out of order"
        self.received += len(data)
        assert self.received <= self.other.written, "nobody has written that"

    def write(self, supply: Supply) -> None:
        size = min(supply.number(_MAX_OCTETS), len(_WORDS) - self.written)
        data = _WORDS[self.written : self.written + size]
        made = supply.choice((bytes, bytearray, memoryview))(data)
        count = self._talk(lambda: self.obj.write(made))
        if count is not None:
            assert count == size
            assert not (self.busy and size), "written in the middle of another call"
            assert self.unsure or not (self.goodbye and size), "written after goodbye"
            self.written += size

    def wrong_arguments(self, supply: Supply) -> None:
        """Arguments that no call takes."""
        obj = self.obj
        calls: tuple[tuple[Callable[[], object], type[Exception]], ...] = (
            (lambda: obj.read(-1), ValueError),
            (lambda: obj.read(4, b"1234"), TypeError),  # type: ignore[arg-type]  # tried
            (lambda: obj.read(4, 4), TypeError),  # type: ignore[arg-type]  # tried
            (lambda: obj.write("text"), TypeError),  # type: ignore[arg-type]  # tried
            (lambda: obj.get_channel_binding("nothing"), ValueError),
            (lambda: obj.export_keying_material(b"x", -1), ValueError),
            (lambda: setattr(obj, "session", None), TypeError),
            (lambda: setattr(obj, "context", None), TypeError),
            (lambda: setattr(obj, "context", ssl.SSLContext()), TypeError),
        )
        call, error = supply.choice(calls[:8])
        try:
            call()
        except error:
            return
        raise AssertionError("arguments of the wrong kind were taken")

    def unwrap(self, _supply: Supply) -> None:
        if self.complete and not self.busy:
            self.goodbye = True
        self.clean = False
        self._talk(self._unwrap)

    def _unwrap(self) -> None:
        try:
            self.obj.unwrap()
        except ssl.SSLError as error:
            # A server has asked for the client's certificate, and the answer has not come, or is
            # coming: its goodbye is not said, or is.
            self.unsure = self.unsure or error.reason == "SHUTDOWN_WHILE_IN_INIT"
            raise

    def ask(self, _supply: Supply) -> None:
        """Everything that only asks."""
        obj = self.obj
        assert obj.pending() >= 0
        for binary in (False, True):
            try:
                certificate = obj.getpeercert(binary)
            except ValueError:
                assert not self.complete
            else:
                assert self.complete
                leaf = chain("match").ders[0]
                assert certificate in (None, leaf) if binary else certificate is not leaf
        obj.cipher()
        obj.version()
        obj.group()
        obj.compression()
        obj.shared_ciphers()
        obj.selected_alpn_protocol()
        obj.get_unverified_chain()
        obj.get_verified_chain()
        assert obj.server_side == self.server_side
        assert obj.server_hostname == (None if self.server_side else HOST)
        assert obj.context is self.contexts[self.at]
        if self.server_side and self.force is not None and self.force != 2:
            assert not obj.session_reused
        session = obj.session
        assert session is None or session.id is not None

    def bindings(self, supply: Supply) -> None:
        kind = supply.choice(("tls-unique", "tls-exporter", "tls-server-end-point"))
        try:
            binding = self.obj.get_channel_binding(kind)
        except ValueError:
            # There is no hash in Ed25519 (RFC 5929 section 4.1).
            assert kind == "tls-server-end-point"
        else:
            assert binding is None or self.complete

    def export(self, supply: Supply) -> None:
        label = supply.octets(supply.number(20))
        length = supply.number(70_000)
        try:
            material = self.obj.export_keying_material(label, length)
        except ValueError:
            assert not self.complete
        except ssl.SSLError:
            assert self.complete
        else:
            assert self.complete
            assert len(material) == length

    def later_certificate(self, _supply: Supply) -> None:
        try:
            self.obj.verify_client_post_handshake()
        except ssl.SSLError:
            return
        assert self.later
        assert self.complete
        self.clean = False  # the answer is for the reads to judge

    def set_session(self, supply: Supply) -> None:
        version = supply.choice(VERSIONS)
        session = _session(version, bool(supply.number(2)))
        engine = self.obj._sslobj
        assert engine is not None
        begun = engine.begun
        try:
            self.obj.session = session
        except ValueError:
            return
        assert not begun
        assert not self.server_side
        assert self.at == 0
        self.offered = True

    def switch(self, supply: Supply) -> None:
        """Another context; also one whose pins are of another kind."""
        at = supply.number(len(self.contexts))
        self.look()
        going_on = not self.complete
        try:
            self.obj.context = self.contexts[at]
        except (ValueError, ssl.SSLError):
            if going_on:
                self.force = _DEAD
            self.clean = False
            return
        self.at = at
        if going_on and self.force is not None and self.force != _DEAD:
            self.force = self.policies[at]

    def swap(self, supply: Supply) -> None:
        """Other pins, for the connections to come."""
        self.look()
        at = supply.number(len(self.contexts))
        policy = supply.number(len(_policies()))
        self.contexts[at].pins = _policies()[policy]  # type: ignore[assignment]  # see above
        self.policies[at] = policy

    def carry(self, supply: Supply) -> None:
        """Some bytes to the other side."""
        self._carry(supply.number(_MAX_OCTETS))

    def carry_all(self, _supply: Supply) -> None:
        self._carry(-1)

    def _carry(self, size: int) -> None:
        if not self.other.incoming.eof or self.other.incoming.pending:
            with suppress(ssl.SSLError):  # it has ended
                self.other.incoming.write(self.outgoing.read(size))

    def end(self, _supply: Supply) -> None:
        """The end of the stream that comes in."""
        self.incoming.write_eof()
        self.clean = False

    def inside(self, supply: Supply) -> None:
        """The next call is made in the middle of another one."""
        call = supply.choice(_CALLS)
        size = supply.number(8)
        arguments = supply.octets(size)
        if len(self.script) < 4:
            self.script.append(lambda: call(self, Supply(arguments)))
            self.clean = False


_CALLS: tuple[Callable[[_Side, Supply], None], ...] = (
    _Side.handshake,
    _Side.carry_all,
    _Side.read,
    _Side.write,
    _Side.read_into,
    _Side.carry,
    _Side.ask,
    _Side.wrong_arguments,
    _Side.unwrap,
    _Side.bindings,
    _Side.export,
    _Side.later_certificate,
    _Side.set_session,
    _Side.switch,
    _Side.swap,
    _Side.end,
    _Side.inside,
)

#: The two sides of the connection under test, for the callbacks.
_sides: list[_Side] = []


@functools.cache
def _session(version: ssl.TLSVersion, later: bool) -> ssl.SSLSession:
    """The session of a pinned client with a server that pins nobody, and so gives tickets."""
    before = _sides[:]
    pins = [[context.pins for context in side.contexts] for side in before]
    client, server = _connect(version, later, 0, 2)
    _settle(client, server)
    session = client.obj.session
    assert session is not None
    _sides[:] = before
    for side, some in zip(before, pins, strict=True):
        for context, each in zip(side.contexts, some, strict=True):
            context.pins = each
    return session


def _connect(
    version: ssl.TLSVersion, later: bool, client_policy: int, server_policy: int
) -> tuple[_Side, _Side]:
    client = _Side(_contexts(version, later=later, server_side=False), client_policy, later)
    server = _Side(
        _contexts(version, later=later, server_side=True),
        server_policy,
        later and version == ssl.TLSVersion.TLSv1_3,
    )
    client.other, server.other = server, client
    _sides[:] = client, server
    return client, server


def _settle(client: _Side, server: _Side) -> None:
    """Have everything arrive that is on its way, and see that it does."""
    nothing = Supply(b"")
    for _ in range(6):
        moved = False
        for side in (client, server):
            side.handshake(nothing)
            before = -1
            while before < side.received and side.complete:
                before = side.received
                side.read(Supply(b"\x9c\x3f"))
            moved = moved or bool(side.outgoing.pending)
            side.carry_all(nothing)
            side.look()
        if not moved:
            break
    if client.clean and server.clean:
        for side in (client, server):
            assert side.complete, "it has not come to its end"
            assert side.received == side.other.written, "something was lost"


def test_one_input(data: bytes) -> None:
    """Make the calls of a script."""
    supply = Supply(data)
    number, version = divmod(supply.number(4), 2)
    # Looked up now, as it makes a connection of its own.
    for each in VERSIONS:
        for later in (False, True):
            _session(each, later)
    client, server = _connect(
        VERSIONS[version],
        bool(number),
        supply.number(len(_policies())),
        supply.number(len(_policies())),
    )
    sides = (client, server)
    for _ in range(_MAX_CALLS):
        if not supply:
            break
        call, side = divmod(supply.number(2 * len(_CALLS)), 2)
        _CALLS[call](sides[side], supply)
        client.look()
        server.look()
    for side in sides:
        side.script.clear()
    _settle(client, server)
    _sides.clear()


# Seeds -------------------------------------------------------------------------------------------

_Step = tuple[int, Callable[[_Side, Supply], None], bytes]
_CLIENT, _SERVER = 0, 1


def _script(scene: int, client: int, server: int, *steps: _Step) -> bytes:
    return bytes((scene, client, server)) + b"".join(
        bytes((2 * _CALLS.index(call) + side,)) + arguments for side, call, arguments in steps
    )


def seeds() -> dict[str, bytes]:
    """The corpus, by name."""
    shake: list[_Step] = []
    for _ in range(2):
        for side in (_CLIENT, _SERVER):
            shake += [(side, _Side.handshake, b""), (side, _Side.carry_all, b"")]
    talk: list[_Step] = [
        (_CLIENT, _Side.write, b"\x01\x00\0"),
        (_CLIENT, _Side.carry_all, b""),
        (_SERVER, _Side.read, b"\x01\x00"),
        (_SERVER, _Side.write, b"\x70\x00\1"),
        (_SERVER, _Side.carry_all, b""),
        (_CLIENT, _Side.read_into, b"\x20\x20"),
    ]
    found: dict[str, bytes] = {}
    for policy in range(len(_policies())):
        scene = policy % 2
        found[f"client_pins_{policy}"] = _script(scene, policy, 2, *shake, *talk)
        found[f"server_pins_{policy}"] = _script(scene, 2, policy, *shake, *talk)
    for number, call in enumerate(_CALLS):
        what = call.__name__.strip("_")
        for side, who in ((_CLIENT, "client"), (_SERVER, "server")):
            scene = (number + side) % 2
            step = (side, call, b"\0\0\0")
            found[f"{what}_{who}"] = _script(scene, 0, 0, step, *shake, step, *talk, step)
            nested: _Step = (
                side, _Side.inside, bytes((_CALLS.index(call), 3)) + b"\x10\0\0"
            )  # fmt: skip
            found[f"inside_{what}_{who}"] = _script(
                1 - scene, 0, 0, nested, *shake, nested, *talk
            )
    for scene, name in enumerate(("1.2", "1.3", "1.2_later", "1.3_later")):
        # Right pins, then wrong ones, in the middle of it.
        for side, who in ((_CLIENT, "client"), (_SERVER, "server")):
            swap: _Step = (side, _Side.swap, b"\1\4")
            switch: _Step = (side, _Side.switch, b"\1")
            for after in (0, 2, 4, 6):
                found[f"switch_{who}_{after}_{name}"] = _script(
                    scene, 0, 0, swap, *shake[:after], switch, *shake[after:], *talk
                )
            inside: _Step = (side, _Side.inside, bytes((_CALLS.index(_Side.switch), 1, 1)))
            found[f"switch_inside_{who}_{name}"] = _script(
                scene, 0, 0, swap, inside, *shake, *talk
            )
            found[f"cut_short_{who}_{name}"] = _script(
                scene, 0, 0, *shake, (side, _Side.end, b""), (side, _Side.read, b"\1\0")
            )
        resume: _Step = (_CLIENT, _Side.set_session, bytes((scene % 2, scene // 2)))
        found[f"resume_{name}"] = _script(scene, 0, 2, resume, *shake, *talk)
        found[f"resume_pinning_server_{name}"] = _script(scene, 0, 0, resume, *shake, *talk)
        found[f"resume_other_pins_{name}"] = _script(scene, 1, 2, resume, *shake, *talk)
    ask: _Step = (_SERVER, _Side.later_certificate, b"")
    for policy in range(len(_policies())):
        found[f"later_certificate_{policy}"] = _script(3, 0, policy, *shake, ask, *talk, *talk)
    return found


if __name__ == "__main__":
    flights.quiet()
    run(test_one_input)
