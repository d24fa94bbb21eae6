"""Clients of other libraries, with a context that pins; each is tried if it is installed.

``tox -e consumers`` installs all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pinsock import PinMismatchError, PinnedContext, PinSet
from tests.consumers.servers import CHAIN, HELLO, PIN, TIMEOUT, WRONG, Server, chain_of, http
from tests.peers import StdlibServer, server_context

Fetch = Callable[[ssl.SSLContext, int], bytes]


def need(name: str) -> Any:
    """A module; the test is skipped without it, but not where all of them have to be."""
    if "PINSOCK_CONSUMERS" in os.environ:
        return importlib.import_module(name)
    return pytest.importorskip(name)


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs this may have a proxy in the environment."""
    monkeypatch.setenv("no_proxy", "*")
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def context(pin: str = PIN) -> PinnedContext:
    """A client's, that trusts the server's authority and pins its leaf."""
    made = PinnedContext(pins=PinSet({"leaf": pin}))
    CHAIN.trust(made)
    return made


# HTTP --------------------------------------------------------------------------------------------


def urllib3_get(made: ssl.SSLContext, port: int) -> bytes:
    urllib3 = need("urllib3")
    with urllib3.PoolManager(ssl_context=made, retries=False, timeout=TIMEOUT) as pool:
        data: bytes = pool.request("GET", f"https://localhost:{port}/").data
        return data


def requests_session(made: ssl.SSLContext, **options: object) -> Any:
    requests = need("requests")

    class Adapter(requests.adapters.HTTPAdapter):  # type: ignore[name-defined, misc]  # no stubs
        """The way its documentation shows to hand in a context."""

        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            """Add the context."""
            super().init_poolmanager(*args, ssl_context=made, **kwargs, **options)

    session = requests.Session()
    session.trust_env = False
    session.mount("https://", Adapter())
    return session


def requests_get(made: ssl.SSLContext, port: int) -> bytes:
    with requests_session(made) as session:
        with session.get(f"https://localhost:{port}/", timeout=TIMEOUT, verify=None) as answer:
            data: bytes = answer.content
            return data


def httpx_get(made: ssl.SSLContext, port: int) -> bytes:
    httpx = need("httpx")
    with httpx.Client(verify=made, trust_env=False, timeout=TIMEOUT) as client:
        data: bytes = client.get(f"https://localhost:{port}/").content
        return data


def httpx_async_get(made: ssl.SSLContext, port: int) -> bytes:
    httpx = need("httpx")

    async def get() -> bytes:
        async with httpx.AsyncClient(verify=made, trust_env=False, timeout=TIMEOUT) as client:
            data: bytes = (await client.get(f"https://localhost:{port}/")).content
            return data

    return asyncio.run(get())


def aiohttp_get(made: ssl.SSLContext, port: int) -> bytes:
    aiohttp = need("aiohttp")

    async def get() -> bytes:
        connector = aiohttp.TCPConnector(ssl=made)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get(f"https://localhost:{port}/") as answer,
        ):
            data: bytes = await answer.read()
            return data

    return asyncio.run(asyncio.wait_for(get(), TIMEOUT))


HTTP: dict[str, Fetch] = {
    "urllib3": urllib3_get,
    "requests": requests_get,
    "httpx": httpx_get,
    "httpx async": httpx_async_get,
    "aiohttp": aiohttp_get,
}
every_client = pytest.mark.parametrize("fetch", HTTP.values(), ids=list(HTTP))


@every_client
def test_a_client_reaches_its_server(fetch: Fetch, tls_version: ssl.TLSVersion) -> None:
    """With the right pin the client does what it always does."""
    with Server(http, tls=True, version=tls_version) as server:
        assert fetch(context(), server.port) == HELLO
    assert server.heard != []


@every_client
def test_a_client_gives_an_impostor_nothing(fetch: Fetch, tls_version: ssl.TLSVersion) -> None:
    """With another pin it fails, the reason can be found, and no data is sent through TLS."""
    with Server(http, tls=True, version=tls_version) as server:
        with pytest.raises(Exception) as caught:  # noqa: PT011  # each has its own
            fetch(context(WRONG), server.port)
    assert any(isinstance(each, PinMismatchError) for each in chain_of(caught.value))
    assert server.heard == []
    assert server.errors != []


# The trap: these assign verify_mode and check_hostname on a context that they are given -----------


def test_urllib3_cannot_switch_the_pins_off() -> None:
    """cert_reqs="CERT_NONE" on a pinned context is refused (rule 9), and nothing is sent."""
    urllib3 = need("urllib3")
    made = context(WRONG)
    made.check_hostname = False  # or ssl refuses to set CERT_NONE
    with Server(http, tls=True) as server:
        with urllib3.PoolManager(
            ssl_context=made, cert_reqs="CERT_NONE", assert_hostname=False, retries=False,
            timeout=TIMEOUT,
        ) as pool:  # fmt: skip
            with pytest.raises(Exception) as caught:  # noqa: PT011  # urllib3 may wrap it
                pool.request("GET", f"https://localhost:{server.port}/")
    assert made.verify_mode == ssl.CERT_NONE
    assert any(
        isinstance(each, ValueError) and "CERT_NONE on a context with pins" in str(each)
        for each in chain_of(caught.value)
    )
    assert server.heard == []


def test_requests_cannot_switch_the_pins_off() -> None:
    """verify=False neither."""
    made = context(WRONG)
    made.check_hostname = False
    with Server(http, tls=True) as server, requests_session(made) as session:
        with pytest.raises(Exception) as caught:  # noqa: PT011  # requests may wrap it
            session.get(f"https://localhost:{server.port}/", timeout=TIMEOUT, verify=False)
    assert any("CERT_NONE on a context with pins" in str(each) for each in chain_of(caught.value))
    assert server.heard == []


def test_urllib3_may_leave_the_host_name_to_the_pins() -> None:
    """assert_hostname=False takes the name's check away, and the pins stay."""
    urllib3 = need("urllib3")
    for pin, data in ((PIN, HELLO), (WRONG, None)):
        with (
            Server(http, tls=True) as server,
            urllib3.PoolManager(
                ssl_context=context(pin), assert_hostname=False, retries=False, timeout=TIMEOUT
            ) as pool,
        ):
            url = f"https://localhost:{server.port}/"
            if data is not None:
                assert pool.request("GET", url).data == data
            else:
                with pytest.raises(urllib3.exceptions.SSLError):
                    pool.request("GET", url)
                assert server.heard == []


def test_urllib3_makes_its_own_contexts_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """create_urllib3_context() sets whatever it wants on a class of ours, and that ends."""
    urllib3 = need("urllib3")

    class Ours(PinnedContext):
        def __init__(self, protocol: int = ssl.PROTOCOL_TLS_CLIENT, **kwargs: Any) -> None:
            super().__init__(protocol, pins=PinSet({"leaf": PIN}))

    monkeypatch.setattr(urllib3.util.ssl_, "SSLContext", Ours)
    made = urllib3.util.ssl_.create_urllib3_context()
    assert type(made) is Ours
    assert made.minimum_version == ssl.TLSVersion.TLSv1_2
    CHAIN.trust(made)
    with Server(http, tls=True) as server:
        assert urllib3_get(made, server.port) == HELLO


# Streams -----------------------------------------------------------------------------------------


def trio_echo(made: ssl.SSLContext, port: int) -> bytes:
    trio = need("trio")

    async def echo() -> bytes:
        with trio.fail_after(TIMEOUT):
            plain = await trio.open_tcp_stream("127.0.0.1", port)
            stream = trio.SSLStream(plain, made, server_hostname="localhost")
            async with contextlib.AsyncExitStack() as stack:
                stack.push_async_callback(trio.aclose_forcefully, stream)
                await stream.send_all(HELLO)
                data: bytes = await stream.receive_some(100)
                return data

    data: bytes = trio.run(echo)
    return data


def anyio_echo(backend: str) -> Fetch:
    def run(made: ssl.SSLContext, port: int) -> bytes:
        anyio = need("anyio")
        need(backend)

        async def echo() -> bytes:
            with anyio.fail_after(TIMEOUT):
                async with await anyio.connect_tcp(
                    "127.0.0.1", port, ssl_context=made, tls_hostname="localhost",
                    tls_standard_compatible=False,
                ) as stream:  # fmt: skip
                    await stream.send(HELLO)
                    data: bytes = await stream.receive()
                    return data

        data: bytes = anyio.run(echo, backend=backend)
        return data

    return run


STREAMS: dict[str, Fetch] = {
    "trio": trio_echo,
    "anyio on asyncio": anyio_echo("asyncio"),
    "anyio on trio": anyio_echo("trio"),
}
every_stream = pytest.mark.parametrize("echo", STREAMS.values(), ids=list(STREAMS))


@every_stream
def test_a_stream_reaches_its_server(echo: Fetch, tls_version: ssl.TLSVersion) -> None:
    """With the right pin what is sent comes back."""
    with StdlibServer(CHAIN, tls_version) as server:
        assert echo(context(), server.port) == HELLO
        assert server.observation().data == HELLO


@every_stream
def test_a_stream_gives_an_impostor_nothing(echo: Fetch, tls_version: ssl.TLSVersion) -> None:
    """With another pin it fails, the reason can be found, and no data arrives."""
    with StdlibServer(CHAIN, tls_version) as server:
        with pytest.raises(Exception) as caught:  # noqa: PT011  # each has its own
            echo(context(WRONG), server.port)
        seen = server.observation()
    assert any(isinstance(each, PinMismatchError) for each in chain_of(caught.value))
    assert seen.error is not None
    assert seen.data == b""


# WebSockets --------------------------------------------------------------------------------------


@contextlib.contextmanager
def websocket_server(version: ssl.TLSVersion) -> Iterator[tuple[int, list[str | bytes]]]:
    """An echo server; gives its port, and what it hears."""
    serve = need("websockets.sync.server").serve
    heard: list[str | bytes] = []

    def echo(connection: Any) -> None:
        for message in connection:
            heard.append(message)
            connection.send(message)

    with serve(echo, "127.0.0.1", 0, ssl=server_context(CHAIN, version)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.socket.getsockname()[1], heard
        finally:
            server.shutdown()
            thread.join(TIMEOUT)


def websocket_echo(made: ssl.SSLContext, port: int) -> bytes:
    connect = need("websockets.sync.client").connect
    with connect(f"wss://localhost:{port}/", ssl=made, proxy=None) as connection:
        connection.send(HELLO)
        data: bytes = connection.recv(TIMEOUT)
        return data


def websocket_async_echo(made: ssl.SSLContext, port: int) -> bytes:
    connect = need("websockets.asyncio.client").connect

    async def echo() -> bytes:
        async with connect(f"wss://localhost:{port}/", ssl=made, proxy=None) as connection:
            await connection.send(HELLO)
            data: bytes = await connection.recv()
            return data

    return asyncio.run(asyncio.wait_for(echo(), TIMEOUT))


every_websocket = pytest.mark.parametrize(
    "echo", [websocket_echo, websocket_async_echo], ids=["websockets", "websockets async"]
)


@every_websocket
def test_a_websocket_reaches_its_server(echo: Fetch, tls_version: ssl.TLSVersion) -> None:
    """With the right pin what is sent comes back."""
    with websocket_server(tls_version) as (port, heard):
        assert echo(context(), port) == HELLO
        assert heard == [HELLO]


@every_websocket
def test_a_websocket_gives_an_impostor_nothing(echo: Fetch, tls_version: ssl.TLSVersion) -> None:
    """With another pin it fails, the reason can be found, and the server hears of nobody."""
    with websocket_server(tls_version) as (port, heard):
        with pytest.raises(Exception) as caught:  # noqa: PT011  # each has its own
            echo(context(WRONG), port)
        assert heard == []
    assert any(isinstance(each, PinMismatchError) for each in chain_of(caught.value))
