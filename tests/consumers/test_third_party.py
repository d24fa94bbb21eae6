"""Clients and servers of other libraries, with a context that pins; each is tried if it is there.

``tox -e consumers`` installs all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pinsock import PinMismatchError, PinnedContext, PinSet, create_default_context
from tests import optional
from tests.certificates import Chain, make_chain, spki_pin
from tests.consumers.servers import (
    CHAIN,
    HELLO,
    PIN,
    TIMEOUT,
    WRONG,
    Server,
    chain_of,
    http,
    tunnel,
)
from tests.peers import (
    Observation,
    StdlibServer,
    client_context,
    fix_version,
    server_context,
    stdlib_client,
)

Fetch = Callable[[ssl.SSLContext, int], bytes]


need = functools.partial(optional.need, variable="PINSOCK_CONSUMERS")


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
        with session.get(f"https://localhost:{port}/", timeout=TIMEOUT) as answer:
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


# TLS in TLS: through a proxy these drive the inner connection by wrap_bio -------------------------


def urllib3_proxied(proxy: ssl.SSLContext, port: int, made: ssl.SSLContext, through: int) -> bytes:
    urllib3 = need("urllib3")
    with urllib3.ProxyManager(
        f"https://localhost:{through}/", proxy_ssl_context=proxy, ssl_context=made, retries=False,
        timeout=TIMEOUT,
    ) as pool:  # fmt: skip
        data: bytes = pool.request("GET", f"https://localhost:{port}/").data
        return data


def httpx_proxied(proxy: ssl.SSLContext, port: int, made: ssl.SSLContext, through: int) -> bytes:
    httpx = need("httpx")
    via = httpx.Proxy(f"https://localhost:{through}/", ssl_context=proxy)
    with httpx.Client(proxy=via, verify=made, trust_env=False, timeout=TIMEOUT) as client:
        data: bytes = client.get(f"https://localhost:{port}/").content
        return data


@pytest.mark.parametrize("fetch", [urllib3_proxied, httpx_proxied], ids=["urllib3", "httpx"])
def test_a_proxy_and_what_is_behind_it_are_both_pinned(
    fetch: Callable[[ssl.SSLContext, int, ssl.SSLContext, int], bytes],
    tls_version: ssl.TLSVersion,
) -> None:
    """TLS in TLS, each with pins of its own: if one does not match, that server gets nothing."""
    for outer, inner in ((PIN, PIN), (PIN, WRONG), (WRONG, PIN)):
        with (
            Server(http, tls=True, version=tls_version) as server,
            Server(tunnel, tls=True, version=tls_version) as proxy,
        ):
            if outer == inner:
                assert fetch(context(outer), server.port, context(inner), proxy.port) == HELLO
            else:
                with pytest.raises(Exception) as caught:  # noqa: PT011  # each has its own
                    fetch(context(outer), server.port, context(inner), proxy.port)
                assert any(isinstance(each, PinMismatchError) for each in chain_of(caught.value))
        assert bool(proxy.heard) == (outer == PIN)
        assert bool(server.heard) == (outer == inner)


# The trap: these assign verify_mode and check_hostname on a context that they are given -----------


@pytest.mark.parametrize("check_hostname", [True, False])
@pytest.mark.parametrize("pin", [PIN, WRONG], ids=["right pin", "wrong pin"])
def test_urllib3_cannot_switch_the_pins_off(pin: str, check_hostname: bool) -> None:
    """cert_reqs="CERT_NONE" on a pinned context is refused (rule 9), and nothing is sent."""
    urllib3 = need("urllib3")
    made = context(pin)
    made.check_hostname = check_hostname
    with Server(http, tls=True) as server:
        with urllib3.PoolManager(
            ssl_context=made, cert_reqs="CERT_NONE", assert_hostname=False, retries=False,
            timeout=TIMEOUT,
        ) as pool:  # fmt: skip
            with pytest.raises(Exception) as caught:  # noqa: PT011  # urllib3 may wrap it
                pool.request("GET", f"https://localhost:{server.port}/")
    told = refusal(caught.value)
    if check_hostname:
        # It cannot even be assigned, as on any context of ssl.
        assert told == "Cannot set verify_mode to CERT_NONE when check_hostname is enabled."
    else:
        assert made.verify_mode == ssl.CERT_NONE
        assert "CERT_NONE on a context with pins" in told
    assert server.heard == []


@pytest.mark.parametrize("check_hostname", [True, False])
def test_requests_cannot_switch_the_pins_off(check_hostname: bool) -> None:
    """verify=False neither."""
    made = context(WRONG)
    made.check_hostname = check_hostname
    with Server(http, tls=True) as server, requests_session(made) as session:
        with pytest.raises(Exception) as caught:  # noqa: PT011  # requests may wrap it
            session.get(f"https://localhost:{server.port}/", timeout=TIMEOUT, verify=False)
    assert "CERT_NONE" in refusal(caught.value)
    assert server.heard == []


def refusal(error: BaseException) -> str:
    """The message of the ValueError in what ended a connection."""
    return next(str(each) for each in chain_of(error) if type(each) is ValueError)


# It warns whenever verify_mode is not CERT_REQUIRED, and it is right: it knows nothing of pins.
@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
@pytest.mark.parametrize("cert_reqs", ["CERT_OPTIONAL", "CERT_REQUIRED"])
def test_whatever_urllib3_requires_the_pins_are_checked(cert_reqs: str) -> None:
    """The other values of cert_reqs may be assigned, and an impostor gets nothing."""
    urllib3 = need("urllib3")
    for pin in (PIN, WRONG):
        with (
            Server(http, tls=True) as server,
            urllib3.PoolManager(
                ssl_context=context(pin), cert_reqs=cert_reqs, retries=False, timeout=TIMEOUT
            ) as pool,
        ):
            url = f"https://localhost:{server.port}/"
            if pin == PIN:
                assert pool.request("GET", url).data == HELLO
            else:
                with pytest.raises(urllib3.exceptions.SSLError) as caught:
                    pool.request("GET", url)
                assert any(isinstance(each, PinMismatchError) for each in chain_of(caught.value))
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
                with pytest.raises(urllib3.exceptions.SSLError) as caught:
                    pool.request("GET", url)
                assert any(isinstance(each, PinMismatchError) for each in chain_of(caught.value))
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


REPLACE = """
import ssl
from pinsock import PinnedContext

class Ours(PinnedContext):
    def __init__(self, protocol=ssl.PROTOCOL_TLS_CLIENT, **kwargs):
        super().__init__(protocol, pins=None)

ssl.SSLContext = Ours
from urllib3.util.ssl_ import create_urllib3_context
for cert_reqs in (None, ssl.CERT_REQUIRED, ssl.CERT_OPTIONAL, ssl.CERT_NONE):
    made = create_urllib3_context(
        cert_reqs=cert_reqs,
        ciphers="ECDHE+AESGCM",
        ssl_minimum_version=ssl.TLSVersion.TLSv1_2,
        ssl_maximum_version=ssl.TLSVersion.TLSv1_3,
    )
    assert type(made) is Ours
    assert made.verify_mode == (ssl.CERT_REQUIRED if cert_reqs is None else cert_reqs)
    assert made.check_hostname == (made.verify_mode == ssl.CERT_REQUIRED)
    assert made.maximum_version == ssl.TLSVersion.TLSv1_3
    assert made.options & ssl.OP_NO_TICKET
print("done")
"""


def test_urllib3_sets_what_it_wants_where_ssl_is_replaced() -> None:
    """With our class in the place of ``ssl.SSLContext`` no setter calls itself without end."""
    need("urllib3")
    command = [sys.executable, "-W", "error", "-c", REPLACE]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert ran.stderr == ""
    assert ran.stdout == "done\n"


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


def trio_open_echo(made: ssl.SSLContext, port: int) -> bytes:
    trio = need("trio")

    async def echo() -> bytes:
        with trio.fail_after(TIMEOUT):
            stream = await trio.open_ssl_over_tcp_stream(
                "localhost", port, ssl_context=made, https_compatible=True
            )
            async with stream:
                await stream.send_all(HELLO)
                data: bytes = await stream.receive_some(100)
                return data

    data: bytes = trio.run(echo)
    return data


def anyio_wrap_echo(made: ssl.SSLContext, port: int) -> bytes:
    anyio = need("anyio")

    async def echo() -> bytes:
        with anyio.fail_after(TIMEOUT):
            async with await anyio.connect_tcp("127.0.0.1", port) as plain:
                async with await anyio.streams.tls.TLSStream.wrap(
                    plain, hostname="localhost", ssl_context=made
                ) as stream:
                    await stream.send(HELLO)
                    data: bytes = await stream.receive()
                    return data

    data: bytes = anyio.run(echo)
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
    "trio, opened": trio_open_echo,
    "anyio, wrapped": anyio_wrap_echo,
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


# Servers -----------------------------------------------------------------------------------------

KNOWN = make_chain(2, pool=6)
OTHER = make_chain(1, under=KNOWN.above(1), pool=7)
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def visit(port: int) -> list[Observation]:
    """Clients with the pinned certificate, another of the same authority, none, and the pinned."""
    return [
        stdlib_client(
            ("127.0.0.1", port), client_context(CHAIN, identity=identity), payload=REQUEST
        )
        for identity in (KNOWN, OTHER, None, KNOWN)
    ]


# Serves until visit() has come back, and notes the errors that it tells of.
Serve = Callable[[ssl.SSLContext, "list[BaseException]"], "list[Observation]"]


def trio_serve(made: ssl.SSLContext, errors: list[BaseException]) -> list[Observation]:
    trio = need("trio")

    async def echo(stream: Any) -> None:
        try:
            async for data in stream:
                await stream.send_all(data)
        except trio.BrokenResourceError as error:
            errors.append(error)
        finally:
            await trio.aclose_forcefully(stream)

    async def main() -> list[Observation]:
        with trio.fail_after(TIMEOUT):
            async with trio.open_nursery() as nursery:
                (listener,) = await nursery.start(
                    lambda task_status: trio.serve_ssl_over_tcp(
                        echo, 0, made, host="127.0.0.1", task_status=task_status
                    )
                )
                port = listener.transport_listener.socket.getsockname()[1]
                seen: list[Observation] = await trio.to_thread.run_sync(visit, port)
                nursery.cancel_scope.cancel()
        return seen

    result: list[Observation] = trio.run(main)
    return result


def anyio_serve(made: ssl.SSLContext, errors: list[BaseException]) -> list[Observation]:
    anyio = need("anyio")
    tls = importlib.import_module("anyio.streams.tls")

    class Listener(tls.TLSListener):  # type: ignore[name-defined, misc]  # imported as Any
        @staticmethod
        async def handle_handshake_error(error: BaseException, stream: Any) -> None:
            """Note it, where anyio would log it, and close."""
            errors.append(error)
            await anyio.aclose_forcefully(stream)

    async def echo(stream: Any) -> None:
        assert stream.extra(tls.TLSAttribute.ssl_object).pin_match is not None
        async with stream:
            async for data in stream:
                await stream.send(data)

    async def main() -> list[Observation]:
        with anyio.fail_after(TIMEOUT):
            plain = await anyio.create_tcp_listener(local_host="127.0.0.1")
            port = plain.extra(anyio.abc.SocketAttribute.local_port)
            async with Listener(plain, made) as listener, anyio.create_task_group() as group:
                group.start_soon(listener.serve, echo)
                seen: list[Observation] = await anyio.to_thread.run_sync(visit, port)
                group.cancel_scope.cancel()
        return seen

    result: list[Observation] = anyio.run(main)
    return result


def aiohttp_serve(made: ssl.SSLContext, _errors: list[BaseException]) -> list[Observation]:
    web = need("aiohttp.web")

    async def answer(request: Any) -> Any:
        assert request.transport.get_extra_info("ssl_object").pin_match is not None
        return web.Response(body=HELLO * 100)

    async def main() -> list[Observation]:
        application = web.Application()
        application.router.add_get("/", answer)
        runner = web.AppRunner(application)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=made)
            await site.start()
            return await asyncio.to_thread(visit, runner.addresses[0][1])
        finally:
            await runner.cleanup()

    return asyncio.run(asyncio.wait_for(main(), TIMEOUT))


every_server = pytest.mark.parametrize(
    "serve", [trio_serve, anyio_serve, aiohttp_serve], ids=["trio", "anyio", "aiohttp"]
)


@every_server
@pytest.mark.parametrize("pinned", [(KNOWN,), (KNOWN, OTHER)], ids=["one", "both"])
def test_a_server_pins_its_clients(
    serve: Serve, pinned: tuple[Chain, ...], tls_version: ssl.TLSVersion
) -> None:
    """Clients with a pinned key are served, before and after others, which are not."""
    made = create_default_context(
        ssl.Purpose.CLIENT_AUTH,
        pins=PinSet({"leaf": [spki_pin(chain.leaf) for chain in pinned]}),
        cadata=KNOWN.root_pem,
    )
    CHAIN.configure(made)
    fix_version(made, tls_version)
    errors: list[BaseException] = []
    served = [bool(seen.data) for seen in serve(made, errors)]
    assert served == [True, OTHER in pinned, False, True]
    if serve is not aiohttp_serve:  # asyncio says nothing of a handshake that failed
        mismatches = [
            any(isinstance(each, PinMismatchError) for each in chain_of(error))
            for error in errors
        ]
        assert mismatches.count(True) == (OTHER not in pinned)
