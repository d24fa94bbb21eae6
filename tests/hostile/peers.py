"""A peer that says what no honest one would.

:class:`Hostile` is a connection of tlslite-ng, a TLS implementation in Python, that can be meddled
with: each message it is about to send, and each that it has received, goes through a function of
the test.  What is sent instead is what goes into the hash of the conversation, so that the lie is
consistent, and only what is under test can refuse it.

tlslite-ng tells when it wants bytes, and so both sides run in one thread, always the same, on a
pair of sockets as well as in memory (:func:`meet`).
"""

from __future__ import annotations

import itertools
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator
from errno import EWOULDBLOCK
from typing import Any, NamedTuple

from pinsock import PinnedContext
from tests.certificates import Chain, pem
from tests.optional import need
from tests.peers import (
    MemoryPeer,
    Message,
    Observation,
    SocketPeer,
    Transport,
    first_certificate,
)

__all__ = [
    "Hostile",
    "Meeting",
    "Raw",
    "Saying",
    "api",
    "certificate_message",
    "client",
    "constants",
    "extensions",
    "meet",
    "messages",
    "server",
    "settings",
    "type_of",
    "unchanged",
]

_VARIABLE = "PINSOCK_HOSTILE"
api = need("tlslite.api", _VARIABLE)
constants = need("tlslite.constants", _VARIABLE)
errors = need("tlslite.errors", _VARIABLE)
messages = need("tlslite.messages", _VARIABLE)
extensions = need("tlslite.extensions", _VARIABLE)

#: Given a connection and a message, what is to be sent instead.
Saying = Callable[["Hostile", Any], Iterable[Any]]

_HANDSHAKE, _CERTIFICATE = 22, 11
_WANT = (0, 1)


def unchanged(_connection: Hostile, message: Any) -> Iterable[Any]:
    """Say what an honest peer says."""
    return (message,)


class Raw:
    """A handshake message of bytes that the test chose (RFC 8446 section 4)."""

    contentType = _HANDSHAKE

    def __init__(self, number: int, body: bytes) -> None:
        self.data = bytearray(bytes([number]) + len(body).to_bytes(3, "big") + body)

    def write(self) -> bytearray:
        """The message, as tlslite asks for it."""
        return self.data


def type_of(message: Any) -> int | None:
    """The number of a handshake message; None for anything else."""
    return message.write()[0] if message.contentType == _HANDSHAKE else None


def certificate_message(version: ssl.TLSVersion, *entries: bytes) -> Raw:
    """A Certificate message with these entries, whatever they are (RFC 8446 section 4.4.2)."""
    later = version == ssl.TLSVersion.TLSv1_3
    listed = b"".join(
        len(entry).to_bytes(3, "big") + entry + b"\0\0" * later for entry in entries
    )
    return Raw(_CERTIFICATE, b"\0" * later + len(listed).to_bytes(3, "big") + listed)


class _Wire:
    """What tlslite takes for a socket; counts the bytes that pass."""

    def __init__(
        self, recv: Callable[[int], bytes], send: Callable[[bytes], object], end: Callable[[], None]
    ) -> None:
        self._recv = recv
        self._send = send
        self._end = end
        self.passed = 0

    def recv(self, size: int) -> bytes:
        data = self._recv(size)
        self.passed += len(data)
        return data

    def send(self, data: bytes) -> int:
        self._send(bytes(data))
        self.passed += len(data)
        return len(data)

    sendall = send

    def close(self) -> None:
        self._end()


def _bios(ours: MemoryPeer) -> _Wire:
    def recv(size: int) -> bytes:
        data = ours.outgoing.read(size)
        if not data:
            raise BlockingIOError(EWOULDBLOCK, "there is nothing")
        return data

    return _Wire(recv, ours.incoming.write, ours.incoming.write_eof)


class Hostile(api.TLSConnection):  # type: ignore[misc]  # imported as Any
    """A connection of tlslite whose messages can be exchanged for others.

    Args:
        wire: a socket, or what passes for one.
        saying: makes what is sent of what would be.
        hearing: makes what is believed to have been received of what was; changes it in place.
        afterwards: what to send when the handshake is over, and data.
    """

    def __init__(
        self,
        wire: _Wire,
        saying: Saying,
        hearing: Callable[[Any], object],
        afterwards: Callable[[Hostile], Iterable[Any]],
    ) -> None:
        super().__init__(wire)
        self.wire = wire
        self._saying = saying
        self._hearing = hearing
        self._afterwards = afterwards
        self._messages: list[Message] = []
        self._running: Iterator[object] = iter(())
        self.completed = False
        self.ended = False
        self.error: Exception | None = None
        self.data = bytearray()

    # What passes ---------------------------------------------------------------------------------

    def _note(self, direction: str, content_type: int, data: bytes) -> None:
        major, minor = self.version
        self._messages.append(Message(direction, major << 8 | minor, content_type, bytes(data)))

    def _said(self, message: Any) -> Iterator[Any]:
        for each in self._saying(self, message):
            self._note("write", each.contentType, each.write())
            yield each

    def _sendMsg(
        self, msg: Any, randomizeFirstBlock: bool = True, update_hashes: bool = True
    ) -> Iterator[object]:
        # What was queued has been exchanged already.
        for each in self._said(msg) if update_hashes else (msg,):
            yield from super()._sendMsg(each, randomizeFirstBlock, update_hashes)

    def _queue_message(self, msg: Any) -> None:
        for each in self._said(msg):
            super()._queue_message(each)

    def _create_cert_msg(
        self,
        peer: str,
        request_msg: Any,
        _valid_compression_algos: list[str],
        *arguments: Any,
        **options: Any,
    ) -> Any:
        # tlslite 0.8 compresses a client's certificate whether the server has asked for it or not.
        return super()._create_cert_msg(peer, request_msg, [], *arguments, **options)

    def _getMsg(self, *arguments: Any, **options: Any) -> Iterator[object]:
        for result in super()._getMsg(*arguments, **options):
            if result not in _WANT:
                self._hearing(result)
            yield result

    def _getNextRecord(self) -> Iterator[object]:
        for result in super()._getNextRecord():
            if result not in _WANT:
                header, parser = result
                self._note("read", header.type, parser.bytes)
            yield result

    # What is done --------------------------------------------------------------------------------

    def begin(self, handshake: Iterator[object]) -> None:
        """Have ``handshake`` run, and then everything else."""
        self._running = self._live(handshake)

    def _live(self, handshake: Iterator[object]) -> Iterator[object]:
        yield from handshake
        self.completed = True
        yield from self.writeAsync(b"loot")
        for message in self._afterwards(self):
            yield from self._sendMsg(message)
        while True:
            for result in self.readAsync(65536):
                if result not in _WANT:
                    self.data += result
                yield result
            if self.closed:
                return

    def step(self) -> None:
        """Go on as far as the bytes at hand allow."""
        for _ in range(1000):
            try:
                if next(self._running) == 0:  # it wants to read
                    return
            except StopIteration:
                self.ended = True
                return
            except (errors.TLSError, OSError) as error:
                self.ended, self.error = True, error
                return
        raise RuntimeError("tlslite goes round in circles")

    @property
    def observation(self) -> Observation:
        """What this side has seen by now."""
        certificates = [
            first_certificate(message)
            for message in self._messages
            if message.direction == "read" and message.is_handshake(_CERTIFICATE)
        ]
        return Observation(
            handshake_completed=self.completed,
            error=self.error,
            messages=tuple(self._messages),
            peer_certificate=certificates[0] if certificates else None,
            data=bytes(self.data),
            version=self.getVersionName(),
        )


# Who it is ---------------------------------------------------------------------------------------

Part = Callable[[Hostile], Iterator[object]]


def settings(version: ssl.TLSVersion, highest: ssl.TLSVersion | None = None) -> Any:
    """The settings of a peer that speaks this version, or this to the highest."""
    made = api.HandshakeSettings()
    made.minVersion = divmod(version, 256)
    made.maxVersion = divmod(highest or version, 256)
    return made


def _identity(chain: Chain, key: Chain | None) -> dict[str, Any]:
    certificates = api.X509CertChain()
    certificates.parsePemList(pem(*chain.sent_certificates()).decode("ascii"))
    text = (key or chain).key_pem.decode("ascii")
    return {"certChain": certificates, "privateKey": api.parsePEMKey(text, private=True)}


def server(
    chain: Chain, version: ssl.TLSVersion, *, key: Chain | None = None, **options: Any
) -> Part:
    """A server that asks for a certificate.

    Args:
        chain: what it presents.
        version: what it speaks, if ``settings`` is not given.
        key: whose key it has; by default the right one.
        options: of ``handshakeServerAsync``.
    """
    options = {"settings": settings(version), "reqCert": True, **_identity(chain, key), **options}
    return lambda connection: connection.handshakeServerAsync(**options)


def client(
    chain: Chain | None, version: ssl.TLSVersion, *, key: Chain | None = None, **options: Any
) -> Part:
    """A client; the arguments are those of :func:`server`."""
    options = {"settings": settings(version), "serverName": "localhost", "async_": True, **options}
    if chain is not None:
        options.update(_identity(chain, key))
    return lambda connection: connection.handshakeClientCert(**options)


# And what comes of it ----------------------------------------------------------------------------


class Meeting(NamedTuple):
    """What the two sides saw; ``ours`` sends ``secret`` as soon as it may."""

    ours: Observation
    theirs: Observation
    #: What our side said of itself in the end.
    match: object


def meet(
    transport: Transport,
    context: PinnedContext,
    part: Part,
    saying: Saying = unchanged,
    *,
    hearing: Callable[[Any], object] = lambda message: None,
    afterwards: Callable[[Hostile], Iterable[Any]] = lambda connection: (),
    **options: Any,
) -> Meeting:
    """Connect ``context`` to a hostile peer.

    Args:
        part: who the peer is: a :func:`server` or a :func:`client`.
        saying, hearing, afterwards: for :class:`Hostile`.
        options: for the peer that is ours.
    """
    if context.protocol == ssl.PROTOCOL_TLS_SERVER:
        options["server_side"] = True
    else:
        options["server_hostname"] = "localhost"
    if transport == "bio":
        ours = MemoryPeer(context, **options)
        theirs = Hostile(_bios(ours), saying, hearing, afterwards)
        return _meet(ours, theirs, part)
    with SocketPeer(context, **options) as near:
        far = near.far
        wire = _Wire(far.recv, far.sendall, lambda: far.shutdown(socket.SHUT_WR))
        return _meet(near, Hostile(wire, saying, hearing, afterwards), part)


def _meet(ours: MemoryPeer, theirs: Hostile, part: Part) -> Meeting:
    theirs.begin(part(theirs))
    sent = False
    for turn in itertools.count():
        assert turn < 100, "a conversation without end"
        before = theirs.wire.passed, ours.settled, sent, theirs.ended
        if not ours.settled:
            ours.step()
        elif ours.record.error is None:
            ours.read()
            if ours.record.error is None and not sent:
                sent = True
                ours.obj.write(b"secret")
        if not theirs.ended:
            theirs.step()
        if before == (theirs.wire.passed, ours.settled, sent, theirs.ended):
            break
    match = ours.obj.pin_match  # type: ignore[attr-defined]  # ours
    return Meeting(ours.observation, theirs.observation, match)
