"""Pinned contexts in asyncio: clients, servers and ``start_tls``, with match and mismatch.

asyncio drives ``wrap_bio`` objects; nothing of pinsock knows of it.
"""

from __future__ import annotations

import asyncio
import functools
import ssl
from collections.abc import Coroutine
from typing import TypeVar

import pytest

from pinsock import Pin, PinMatch, PinMismatchError, PinnedContext, PinnedObject, PinSet
from tests import certificates, peers
from tests.certificates import make_chain
from tests.peers import StdlibServer

T = TypeVar("T")

#: Seconds; reached only if something is broken.
TIMEOUT = 10.0
MUCH = bytes(range(256)) * 4 * 2048

CHAIN = make_chain(3)
CLIENT = make_chain(2, purpose="client")
PIN = certificates.spki_pin(CHAIN.certificates[1])
CLIENT_PIN = certificates.spki_pin(CLIENT.leaf)
WRONG = Pin("spki", "sha256", bytes(32))


@functools.cache
def client(flavour: str, version: ssl.TLSVersion) -> ssl.SSLContext:
    """A client that holds a certificate."""
    pins = {"pinned": PinSet({"ca": PIN}), "mismatch": PinSet({"ca": WRONG})}
    made: ssl.SSLContext
    if flavour == "ssl":
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    else:
        made = PinnedContext(pins=pins.get(flavour))
    peers.fix_version(made, version)
    CHAIN.trust(made)
    CLIENT.configure(made)
    return made


@functools.cache
def server(flavour: str, version: ssl.TLSVersion) -> ssl.SSLContext:
    """A server that asks its clients for their certificates."""
    pins = {"pinned": PinSet(CLIENT_PIN.split()), "mismatch": PinSet([WRONG])}
    made: ssl.SSLContext
    if flavour == "ssl":
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    else:
        made = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=pins.get(flavour))
    peers.fix_version(made, version)
    CLIENT.trust(made)
    CHAIN.configure(made)
    made.verify_mode = ssl.CERT_REQUIRED
    return made


def run(main: Coroutine[object, object, T]) -> T:
    """Run a coroutine, and have no error go unseen, but those of a handshake that was refused."""

    async def bounded() -> T:
        unseen: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, what: unseen.append(what))
        result = await asyncio.wait_for(main, TIMEOUT)
        assert [what for what in unseen if not isinstance(what.get("exception"), OSError)] == []
        return result

    return asyncio.run(bounded())


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    # What the peer does meanwhile is not asked for.
    await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass  # the client's side of it is what a test looks at
    finally:
        await close(writer)


def object_of(writer: asyncio.StreamWriter) -> ssl.SSLObject:
    made = writer.get_extra_info("ssl_object")
    assert isinstance(made, ssl.SSLObject)
    return made


@functools.cache
def delivers_alerts() -> bool:
    """Whether this asyncio sends what a failed handshake has written.

    As of 3.13 it throws it away, for ssl's own contexts too, and the peer sees no alert but the end
    of the stream.  Ask, so that the tests find out when that changes.
    """
    version = ssl.TLSVersion.TLSv1_2
    distrustful = peers.client_context(CLIENT, version)

    async def main(port: int) -> None:
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection(
                "127.0.0.1", port, ssl=distrustful, server_hostname="localhost"
            )

    with StdlibServer(peers.server_context(CHAIN, version)) as listening:
        run(main(listening.port))
        return listening.observation().alert == "unknown_ca"


# Clients -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("flavour", ["ssl", "unpinned", "pinned"])
def test_a_client_connects_and_talks(flavour: str, tls_version: ssl.TLSVersion) -> None:
    """open_connection(ssl=context): megabytes there and back, with the match to be had."""

    async def main(port: int) -> object:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=client(flavour, tls_version), server_hostname="localhost"
        )
        writer.write(MUCH)
        assert await reader.readexactly(len(MUCH)) == MUCH
        made = object_of(writer)
        assert writer.get_extra_info("peercert")["subject"]
        assert writer.get_extra_info("cipher") == made.cipher()
        match = made.pin_match if isinstance(made, PinnedObject) else None
        await close(writer)
        return match

    with StdlibServer(server("ssl", tls_version)) as listening:
        match = run(main(listening.port))
        seen = listening.observation()
    assert seen.data == MUCH
    assert match == (PinMatch(1, Pin.parse(PIN), "ca") if flavour == "pinned" else None)


def test_a_client_with_the_wrong_pins_gives_nothing_away(tls_version: ssl.TLSVersion) -> None:
    """open_connection raises PinMismatchError; the server sees the alert at most, and no more."""

    async def main(port: int) -> None:
        with pytest.raises(PinMismatchError):
            await asyncio.open_connection(
                "127.0.0.1",
                port,
                ssl=client("mismatch", tls_version),
                server_hostname="localhost",
            )

    with StdlibServer(server("ssl", tls_version)) as listening:
        run(main(listening.port))
        seen = listening.observation()
    assert seen.alert == ("bad_certificate" if delivers_alerts() else None)
    assert not seen.handshake_completed
    assert seen.peer_gave_nothing


@pytest.mark.parametrize("flavour", ["ssl", "unpinned", "pinned"])
def test_a_silent_server_is_a_timeout_of_asyncio(flavour: str, tls_version: ssl.TLSVersion) -> None:
    """ssl_handshake_timeout ends a handshake with a server that says nothing."""

    async def main() -> None:
        said = asyncio.Event()

        async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            said.set()
            await close(writer)

        listening = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
        async with listening:
            with pytest.raises(ConnectionAbortedError, match="handshake is taking longer"):
                await asyncio.open_connection(
                    *listening.sockets[0].getsockname(),
                    ssl=client(flavour, tls_version),
                    server_hostname="localhost",
                    ssl_handshake_timeout=0.05,
                )
            await said.wait()

    run(main())


# Servers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("flavour", ["ssl", "unpinned", "pinned"])
def test_a_server_serves(flavour: str, tls_version: ssl.TLSVersion) -> None:
    """start_server(ssl=context) serves several clients at once."""
    matches: list[object] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        matches.append(getattr(object_of(writer), "pin_match", None))
        await echo(reader, writer)

    async def talk(address: tuple[str, int]) -> None:
        reader, writer = await asyncio.open_connection(
            *address, ssl=client("ssl", tls_version), server_hostname="localhost"
        )
        writer.write(MUCH)
        assert await reader.readexactly(len(MUCH)) == MUCH
        await close(writer)

    async def main() -> None:
        listening = await asyncio.start_server(
            serve, "127.0.0.1", 0, ssl=server(flavour, tls_version)
        )
        async with listening:
            address = listening.sockets[0].getsockname()
            await asyncio.gather(*(talk(address) for _ in range(3)))

    run(main())
    match = PinMatch(0, Pin.parse(CLIENT_PIN), "any") if flavour == "pinned" else None
    assert matches == [match] * 3


def test_a_server_with_other_pins_refuses_the_client(tls_version: ssl.TLSVersion) -> None:
    """The client gets no data, and the server's callback never runs."""
    served: list[object] = []

    async def main() -> peers.Observation:
        listening = await asyncio.start_server(
            lambda *streams: served.append(streams),
            "127.0.0.1",
            0,
            ssl=server("mismatch", tls_version),
        )
        async with listening:
            return await asyncio.get_running_loop().run_in_executor(
                None,
                peers.stdlib_client,
                listening.sockets[0].getsockname(),
                client("ssl", tls_version),
            )

    seen = run(main())
    assert seen.alert == ("bad_certificate" if delivers_alerts() else None)
    assert seen.error is not None
    assert seen.data == b""
    assert served == []


# start_tls ---------------------------------------------------------------------------------------


class _Upgrading(asyncio.Protocol):
    """Collect what arrives; the transport is whichever was made last."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.arrived = asyncio.Event()
        self.lost: asyncio.Future[Exception | None] = (
            asyncio.get_running_loop().create_future()
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        self.arrived.set()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(exc)

    async def until(self, expected: bytes) -> None:
        while bytes(self.received) != expected:
            self.arrived.clear()
            await self.arrived.wait()


async def _upgraded(
    ours: ssl.SSLContext, theirs: ssl.SSLContext
) -> tuple[_Upgrading, _Upgrading, list[asyncio.Transport | BaseException | None]]:
    """Connect in clear text, say so, and start TLS at both ends."""
    loop = asyncio.get_running_loop()
    accepted: asyncio.Future[_Upgrading] = loop.create_future()

    def accept() -> _Upgrading:
        protocol = _Upgrading()
        accepted.set_result(protocol)
        return protocol

    listening = await loop.create_server(accept, "127.0.0.1", 0)
    _, near = await loop.create_connection(
        _Upgrading, *listening.sockets[0].getsockname()
    )
    far = await accepted
    listening.close()
    for one, other in ((near, far), (far, near)):
        assert isinstance(one.transport, asyncio.WriteTransport)
        one.transport.write(b"STARTTLS")
        await other.until(b"STARTTLS")
        other.received.clear()
    plain = [near.transport, far.transport]
    results = await asyncio.gather(
        loop.start_tls(plain[0], near, ours, server_hostname="localhost"),  # type: ignore[arg-type]  # a Transport
        loop.start_tls(plain[1], far, theirs, server_side=True),  # type: ignore[arg-type]  # likewise
        return_exceptions=True,
    )
    if any(isinstance(result, BaseException) for result in results):
        for transport in plain:
            assert isinstance(transport, asyncio.WriteTransport)
            transport.abort()
        # The descriptors are closed by calls that wait in the loop.
        for _ in range(5):
            await asyncio.sleep(0)
    return near, far, list(results)


@pytest.mark.parametrize("flavour", ["ssl", "unpinned", "pinned"])
@pytest.mark.parametrize("other", ["ssl", "pinned"])
def test_tls_can_be_started_on_a_connection(
    flavour: str, other: str, tls_version: ssl.TLSVersion
) -> None:
    """loop.start_tls() at both ends of a connection that was in clear text, and data after it."""

    async def main() -> object:
        near, far, results = await _upgraded(
            client(flavour, tls_version), server(other, tls_version)
        )
        transports = [result for result in results if isinstance(result, asyncio.Transport)]
        assert len(transports) == 2
        for transport, protocol in zip(transports, (far, near), strict=True):
            transport.write(MUCH)
            await protocol.until(MUCH)
        match = getattr(transports[0].get_extra_info("ssl_object"), "pin_match", None)
        for transport in transports:
            transport.close()
        await asyncio.gather(near.lost, far.lost)
        return match

    match = run(main())
    assert match == (PinMatch(1, Pin.parse(PIN), "ca") if flavour == "pinned" else None)


def test_tls_started_with_the_wrong_pins_is_refused(tls_version: ssl.TLSVersion) -> None:
    """start_tls() raises PinMismatchError, and at the other end it fails too."""

    async def main() -> list[object]:
        _near, _far, results = await _upgraded(
            client("mismatch", tls_version), server("ssl", tls_version)
        )
        return list(results)

    refused, told = run(main())
    assert isinstance(refused, PinMismatchError)
    if delivers_alerts():
        assert isinstance(told, ssl.SSLError)
        assert told.reason == "SSLV3_ALERT_BAD_CERTIFICATE"
    else:
        assert isinstance(told, OSError)


# An exchange of both -----------------------------------------------------------------------------


def test_many_connections_at_once(tls_version: ssl.TLSVersion) -> None:
    """One pinned context for each side, and twenty connections in one loop."""

    async def talk(address: tuple[str, int], mark: int) -> None:
        reader, writer = await asyncio.open_connection(
            *address, ssl=client("pinned", tls_version), server_hostname="localhost"
        )
        data = bytes([mark]) * 100_000
        writer.write(data)
        assert await reader.readexactly(len(data)) == data
        await close(writer)

    async def main() -> None:
        listening = await asyncio.start_server(
            echo, "127.0.0.1", 0, ssl=server("pinned", tls_version)
        )
        async with listening:
            address = listening.sockets[0].getsockname()
            await asyncio.gather(*(talk(address, mark) for mark in range(20)))

    run(main())
