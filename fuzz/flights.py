"""Connections in memory whose bytes are changed on the way, for the fuzzers of connections.

Keys and randoms differ from one handshake to the next, so that recorded bytes would be refused at
once: nothing behind the first check would ever be reached.  So the input of these fuzzers is no
stream of bytes but a *script*: which peer there is, and what happens to each record that it sends
(RFC 8446 section 5.1).  The handshakes are real ones, of a stdlib peer, whose word is independent.

The script of a connection is one byte for the scene (:class:`Scene`), and then for each record the
number of one of :data:`OPERATIONS`, and what that takes.  When it has run out, records pass as they
are: the empty script is the connection that nobody disturbs.

All keys are Ed25519, whose signatures have one length only: record by record the same script does
the same in every process.
"""

from __future__ import annotations

import functools
import logging
import ssl
import sys
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from fuzz.harness import Supply
from pinsock import PinnedContext, PinnedObject, PinSet
from tests import certificates, peers
from tests.certificates import Chain, make_chain
from tests.peers import MemoryPeer

__all__ = [
    "HOST",
    "OPERATIONS",
    "VERSIONS",
    "Drive",
    "Scene",
    "Wire",
    "chain",
    "earlier",
    "pin_set",
    "pinned",
    "quiet",
    "script",
    "seeds",
    "stdlib",
]

HOST = "localhost"
#: The cheapest that this Python can be told; half of the time of a handshake would go into a key
#: share of ML-KEM.
CURVE = "X25519" if sys.version_info >= (3, 11) else "prime256v1"
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)

#: What a peer can be.  ``match``: what is pinned.  ``other``: another leaf of the same CA.
#: ``appended``: that, with what is pinned sent behind it.  ``untrusted``: the key that is pinned,
#: in a certificate of an unknown CA.  ``nobody``: a client without a certificate.
KINDS: tuple[str, ...] = ("match", "other", "appended", "untrusted", "nobody")

Trust = Literal["ca", "pins"]
_TRUSTS: tuple[Trust, ...] = ("ca", "pins")

_HEADER = 5
#: Octets of a record's fragment, at most; OpenSSL refuses anything longer.
_MAX_FRAGMENT = 2**14 + 256
#: Rounds of a connection; one that nobody disturbs takes 5.
_ROUNDS = 60
# Octets that one connection may make us send: alerts, a hello, a certificate, and what is written.
_MAX_SENT = 2**15
#: What the two sides say.
THEIRS = (b"their first words", b"and their last")
OURS = b"what is ours"

_ALERT, _HANDSHAKE = 21, 22
_CERTIFICATE, _FINISHED = 11, 20


class Scene(NamedTuple):
    """Who talks to whom.

    Attributes:
        version: the only one of both sides.
        kind: what the peer is; one of :data:`KINDS`.
        trust: of the pin set on our side.
        server_side: whether we are the server.
        again: the client offers the session of an earlier connection, to the one that is pinned.
    """

    version: ssl.TLSVersion
    kind: str
    trust: Trust
    server_side: bool
    again: bool = False

    @classmethod
    def of(cls, supply: Supply, *, server_side: bool) -> Scene:
        """The scene that a script begins with."""
        number = supply.number(2 * 2 * 2 * len(KINDS))
        number, again = divmod(number, 2)
        number, version = divmod(number, 2)
        number, trust = divmod(number, 2)
        kinds = KINDS if server_side else KINDS[:-1]
        kind = kinds[number % len(kinds)]
        return cls(VERSIONS[version], kind, _TRUSTS[trust], server_side, bool(again))

    @property
    def octet(self) -> int:
        """The byte that stands for it."""
        number = KINDS.index(self.kind) * 2 + _TRUSTS.index(self.trust)
        return (number * 2 + VERSIONS.index(self.version)) * 2 + self.again

    @property
    def matches(self) -> bool:
        """Whether the peer may ever be taken for the one that is pinned."""
        return self.kind == "match" or (self.kind == "untrusted" and self.trust == "pins")


# Contexts ----------------------------------------------------------------------------------------


@functools.cache
def chain(kind: str) -> Chain:
    """The chain of a kind of peer."""
    if kind == "match":
        return make_chain(2, kinds="ed25519")
    if kind == "untrusted":
        return make_chain(1, kinds="ed25519", under=make_chain(2, kinds="ed25519", pool=2).above(1))
    return make_chain(1, kinds="ed25519", under=chain("match").above(1), pool=1)


def pin_set(trust: Trust) -> PinSet:
    """The pins that ``match`` matches."""
    return PinSet({"leaf": certificates.spki_pin(chain("match").leaf)}, trust=trust)


@functools.cache
def stdlib(kind: str, version: ssl.TLSVersion, *, server_side: bool) -> ssl.SSLContext:
    """The peer's context.  A server asks for a certificate: there is something to give away."""
    protocol = ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT
    context = ssl.SSLContext(protocol)
    peers.fix_version(context, version)
    context.check_hostname = False
    if server_side:
        chain("match").trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    else:
        context.verify_mode = ssl.CERT_NONE
    if kind != "nobody":
        appended = chain("match").certificates if kind == "appended" else ()
        chain(kind).configure(context, appended=appended)
    return context


#: What the connection that is under way has sent in clear text: content type, and message type.
_written: list[tuple[int, int]] = []


def _on_message(
    _connection: object, direction: str, _version: int, content_type: int, _type: int, data: bytes
) -> None:
    if direction == "write" and content_type in (_ALERT, _HANDSHAKE) and data:
        _written.append((int(content_type), data[0]))


@functools.cache
def pinned(trust: Trust, version: ssl.TLSVersion, *, server_side: bool) -> PinnedContext:
    """Our context.  The message callback tells what we have sent, whether it arrives or not."""
    protocol = ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT
    context = PinnedContext(protocol, pins=pin_set(trust))
    peers.fix_version(context, version)
    chain("match").trust(context)
    chain("match").configure(context)
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_ecdh_curve(CURVE)
    context._msg_callback = _on_message
    return context


# The wire ----------------------------------------------------------------------------------------


def records(data: bytes) -> Iterator[bytes]:
    """Cut what a peer has written into records."""
    while data:
        end = _HEADER + int.from_bytes(data[3:_HEADER], "big")
        yield data[:end]
        data = data[end:]


def record(content_type: int, fragment: bytes) -> bytes:
    """Make a record."""
    return bytes((content_type, 3, 3)) + len(fragment).to_bytes(2, "big") + fragment


class Wire:
    """The way from the peer to us.

    Args:
        supply: the script.
        earlier: the records of another connection.

    Attributes:
        changed: our side has been sent something else than what the peer has written.
    """

    def __init__(self, supply: Supply, earlier: tuple[bytes, ...]) -> None:
        self.supply = supply
        self.earlier = earlier
        self.seen: list[bytes] = []
        self.held = b""
        self.ended = False
        self.changed = False
        self.arrived = bytearray()

    def carry(self, data: bytes) -> Iterator[bytes]:
        """The pieces that arrive, of what was written."""
        for whole in records(data):
            self.seen.append(whole)
            if self.ended:
                self.changed = True
                continue
            held, self.held = self.held, b""
            arrived = OPERATIONS[self.supply.number(len(OPERATIONS))](self, whole)
            pieces = [piece for piece in arrived if piece]
            self.changed = self.changed or b"".join(pieces) != whole
            if held:
                self.changed = True
                pieces.append(held)
            for piece in pieces:
                self.arrived += piece
                yield piece

    def late(self) -> bytes:
        """What was held back until now, when all else has arrived."""
        held, self.held = self.held, b""
        self.arrived += held
        return held

    # One octet says where: in sixteenths of what there is, or counted from its beginning.
    def _place(self, length: int) -> int:
        number = self.supply.number(255)
        return number % (length or 1) if number < 128 else length * (number - 128) // 128

    def _pass(self, whole: bytes) -> list[bytes]:
        return [whole]

    def _drop(self, whole: bytes) -> list[bytes]:
        return []

    def _twice(self, whole: bytes) -> list[bytes]:
        return [whole, whole]

    def _hold(self, whole: bytes) -> list[bytes]:
        """Behind the next one."""
        self.held = whole
        self.changed = True
        return []

    def _flip(self, whole: bytes) -> list[bytes]:
        at = self._place(len(whole))
        return [whole[:at] + bytes((whole[at] ^ (self.supply.number(255) + 1),)) + whole[at + 1 :]]

    def _flip_inside(self, whole: bytes) -> list[bytes]:
        """Some octets of the fragment become others."""
        at = _HEADER + self._place(len(whole) - _HEADER)
        put = self.supply.octets(self.supply.number(8) + 1)[: len(whole) - at]
        return [whole[:at] + put + whole[at + len(put) :]]

    def _cut(self, whole: bytes) -> list[bytes]:
        """The rest of it is lost, and the next record follows."""
        return [whole[: self._place(len(whole))]]

    def _shorten(self, whole: bytes) -> list[bytes]:
        """The rest of it is lost, and its length is right."""
        return [record(whole[0], whole[_HEADER : _HEADER + self._place(len(whole) - _HEADER)])]

    def _insert(self, whole: bytes) -> list[bytes]:
        """Bytes before it."""
        return [self.supply.octets(self.supply.number(64)), whole]

    def _insert_inside(self, whole: bytes) -> list[bytes]:
        at = _HEADER + self._place(len(whole) - _HEADER)
        more = self.supply.octets(self.supply.number(64))
        return [record(whole[0], (whole[_HEADER:at] + more + whole[at:])[:_MAX_FRAGMENT])]

    def _forge(self, whole: bytes) -> list[bytes]:
        """A record before it."""
        content_type = 20 + self.supply.number(8)
        return [record(content_type, self.supply.octets(self.supply.number(64))), whole]

    def _split(self, whole: bytes) -> list[bytes]:
        """Two records of it: in clear text that is as good."""
        at = _HEADER + self._place(len(whole) - _HEADER)
        return [record(whole[0], whole[_HEADER:at]) + record(whole[0], whole[at:])]

    def _pieces(self, whole: bytes) -> list[bytes]:
        """All of it, piece by piece."""
        size = self.supply.number(255) + 1
        size = max(size, len(whole) // 64 + 1)
        return [whole[at : at + size] for at in range(0, len(whole), size)]

    def _replay(self, whole: bytes) -> list[bytes]:
        """A record of another connection before it."""
        return [self.supply.choice(self.earlier), whole]

    def _replace(self, whole: bytes) -> list[bytes]:
        """A record of another connection in its place."""
        return [self.supply.choice(self.earlier)]

    def _again(self, whole: bytes) -> list[bytes]:
        """A record of this connection before it."""
        return [self.supply.choice(self.seen), whole]

    def _header(self, whole: bytes) -> list[bytes]:
        at = self.supply.number(_HEADER)
        return [whole[:at] + bytes((self.supply.number(255),)) + whole[at + 1 :]]

    def _end(self, whole: bytes) -> list[bytes]:
        """Some of it, and then the end of the stream."""
        self.ended = True
        self.changed = True
        return [whole[: self._place(len(whole))]]

    def _long(self, whole: bytes) -> list[bytes]:
        """A record as long as can be, before it."""
        content_type = 20 + self.supply.number(8)
        octet = bytes((self.supply.number(255),))
        return [record(content_type, octet * self.supply.choice((2**14, _MAX_FRAGMENT, 2**16 - 1)))]


#: What can happen to a record; a script has their places in this list.
OPERATIONS: tuple[Callable[[Wire, bytes], list[bytes]], ...] = (
    Wire._pass,
    Wire._drop,
    Wire._twice,
    Wire._hold,
    Wire._flip,
    Wire._flip_inside,
    Wire._cut,
    Wire._shorten,
    Wire._insert,
    Wire._insert_inside,
    Wire._forge,
    Wire._split,
    Wire._pieces,
    Wire._replay,
    Wire._replace,
    Wire._again,
    Wire._header,
    Wire._end,
    Wire._long,
)


# The connection ----------------------------------------------------------------------------------


class Drive:
    """One connection, from the first byte to the last, and what has to be true of it.

    Args:
        scene: who talks to whom.
        supply: the rest of the script.
        earlier: the records of another connection.
    """

    def __init__(self, scene: Scene, supply: Supply, earlier: tuple[bytes, ...] = ()) -> None:
        self.scene = scene
        self.wire = Wire(supply, earlier)
        self.completed = False
        self.error: BaseException | None = None
        self.received = bytearray()
        #: They have said goodbye; it is the last record.
        self.goodbye = False
        self.spoken = False
        self.sent = 0
        server_side = scene.server_side
        session = _session(scene._replace(again=False)) if scene.again else None
        _written.clear()
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        obj = pinned(scene.trust, scene.version, server_side=server_side).wrap_bio(
            self.incoming,
            self.outgoing,
            server_side=server_side,
            server_hostname=None if server_side else HOST,
            session=None if server_side else session,
        )
        assert isinstance(obj, PinnedObject)
        self.ours = obj
        self.theirs = MemoryPeer(
            stdlib(scene.kind, scene.version, server_side=not server_side),
            server_side=not server_side,
            server_hostname=HOST if server_side else None,
            session=session if server_side else None,
        )

    def run(self) -> Drive:
        """Let it happen, and check it."""
        for _ in range(_ROUNDS):
            moved = self._their_turn()
            for piece in self.wire.carry(self.theirs.outgoing.read()):
                moved += 1
                self.incoming.write(piece)
                self._our_turn()
            if not moved:
                late = self.wire.late()
                if late:
                    moved = 1
                    self.incoming.write(late)
            self._our_turn()
            moved += self._hand_over()
            if self.error is not None or not moved:
                break
        else:
            raise AssertionError("no end to it")
        self._end()
        self._check()
        return self

    def _hand_over(self) -> int:
        data = self.outgoing.read()
        self.sent += len(data)
        assert self.sent <= _MAX_SENT, f"{self.sent} octets sent"
        if data:
            self.theirs.incoming.write(data)
        return len(data)

    def _their_turn(self) -> int:
        theirs = self.theirs
        if not theirs.settled:
            theirs.step()
        if not theirs.record.completed or theirs.record.error is not None:
            return 0
        if not self.spoken:
            self.spoken = True
            for words in THEIRS:
                theirs.obj.write(words)
            return 1
        theirs.read()
        # What they say last is goodbye: after that they would hear nothing.
        if not self.goodbye and bytes(theirs.record.data) == OURS:
            self.goodbye = True
            try:
                theirs.obj.unwrap()
            except ssl.SSLError:
                pass
            return 1
        return 0

    def _our_turn(self) -> None:
        if self.error is not None:
            return
        try:
            if not self.completed:
                self.ours.do_handshake()
                self.completed = True
                assert self.scene.matches, "completed with a peer that does not match"
                assert self.ours.pin_match is not None, "completed without a match"
                self.ours.write(OURS)
            while True:
                data = self.ours.read(11)
                if not data:
                    self._over()
                    break
                self.received += data
        except ssl.SSLWantReadError:
            if not self.completed:
                assert self.ours.pin_match is None, "a match before the end"
        except ssl.SSLError as error:
            self.error = error

    def _end(self) -> None:
        """The stream ends; whatever there was, there is nothing after it."""
        self.incoming.write_eof()
        if self.completed and self.error is None:
            try:
                assert not self.ours.read(100), "data out of nowhere"
                self._over()
            except ssl.SSLError as error:
                self.error = error
        elif not self.completed:
            write = functools.partial(self.ours.write, b"secret")
            for call in (self.ours.do_handshake, self.ours.read, write):
                try:
                    call()
                except ssl.SSLWantReadError:
                    raise AssertionError("waits for more after the end") from None
                except ssl.SSLError as error:
                    self.error = self.error or error
                else:
                    raise AssertionError("a handshake that failed has been forgotten")
        self._hand_over()

    def _over(self) -> None:
        """The end of a conversation is where the peer says so, and no lost connection."""
        assert self.goodbye, "a truncation was taken for the end"
        assert self.wire.seen[-1] in self.wire.arrived, "nobody has said goodbye"
        assert bytes(self.received) == b"".join(THEIRS), "data was lost"

    def _check(self) -> None:
        scene, error = self.scene, self.error
        theirs = self.theirs
        if theirs.record.completed:
            theirs.read()
        assert b"".join(THEIRS).startswith(self.received), "not the data that was sent"
        assert OURS.startswith(theirs.record.data), "not the data that was written"
        if not self.completed:
            assert error is not None
            assert self.ours.pin_match is None
            assert self.ours.version() is None
            assert not self.received
            assert not theirs.record.data
        if not scene.matches:
            assert not self.completed
        if scene.server_side:
            # TLS 1.3 has it send tickets, but none is worth anything.
            assert not self.ours.session_reused, "resumed, and so not verified"
        elif not scene.matches:
            assert (_HANDSHAKE, _CERTIFICATE) not in _written, "the certificate was given away"
            assert (_HANDSHAKE, _FINISHED) not in _written, "Finished was sent"
        if not self.wire.changed:
            # If nothing happens to it, it has to go well, or this is a test of nothing.
            assert self.completed == scene.matches, repr(error)
            assert self.completed == (error is None), repr(error)
            if self.completed:
                assert bytes(self.received) == b"".join(THEIRS), bytes(self.received)
                assert bytes(theirs.record.data) == OURS


@functools.cache
def earlier(version: ssl.TLSVersion, *, server_side: bool) -> tuple[bytes, ...]:
    """The records of a connection to the peer that is pinned, and that went well."""
    drive = Drive(Scene(version, "match", "ca", server_side), Supply(b"")).run()
    return tuple(drive.wire.seen)


@functools.cache
def _session(scene: Scene) -> ssl.SSLSession | None:
    """The session of a connection that went well; a stdlib context takes none but its own."""
    if scene.server_side and scene.kind != "match":
        return None
    drive = Drive(scene._replace(kind="match"), Supply(b"")).run()
    return drive.theirs.obj.session if scene.server_side else drive.ours.session


def quiet() -> None:
    """Have the refusals, of which there are many, not printed."""
    logging.getLogger("pinsock").addHandler(logging.NullHandler())


# Seeds -------------------------------------------------------------------------------------------


def script(scene: Scene, *steps: tuple[str, bytes]) -> bytes:
    """Write a script.

    Args:
        scene: who talks to whom.
        steps: for each record the name of what happens to it, and what that takes.
    """
    names = [operation.__name__.strip("_") for operation in OPERATIONS]
    return bytes((scene.octet,)) + b"".join(
        bytes((names.index(name),)) + argument for name, argument in steps
    )


def seeds(*, server_side: bool) -> dict[str, bytes]:
    """The corpus of a fuzzer of bytes: every peer in peace, and each operation once on the way."""
    found: dict[str, bytes] = {}
    for version, name in zip(VERSIONS, ("1.2", "1.3"), strict=True):
        peace = Scene(version, "match", "ca", server_side)
        for kind in KINDS if server_side else KINDS[:-1]:
            found[f"peace_{kind}_{name}"] = script(peace._replace(kind=kind))
        found[f"peace_untrusted_pins_{name}"] = script(
            peace._replace(kind="untrusted", trust="pins")
        )
        for kind in ("match", "other"):
            found[f"again_{kind}_{name}"] = script(peace._replace(kind=kind, again=True))
        for number, operation in enumerate(OPERATIONS[1:]):
            what = operation.__name__.strip("_")
            # The handshake; and what is said behind it, which nobody says to the others.
            for at, kind in ((number % 4, ("match", "other")[number % 2]), (7, "match")):
                found[f"{what}_{at}_{name}"] = script(
                    peace._replace(kind=kind),
                    *[("pass", b"")] * at,
                    (what, b"\x09\x04\1\0\0\0\1"),
                )
        # The flight of the peer that is pinned, from another connection.
        for kept in (0, 1):
            found[f"impostor_{kept}_{name}"] = script(
                peace._replace(kind="other"),
                *[("pass", b"")] * kept,
                *(("replace", bytes((number,))) for number in range(kept, 6)),
            )
    return found
