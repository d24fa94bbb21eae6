"""What is measured.

A measure opens a *sampler* for each contender: a function that does the work some number of times
and returns the cost of one: CPU seconds of this process, all threads, user and system (the clock of
``time.process_time``), bytes of memory, or a share.  Samplers are then called in turns; see
``__main__``.

A measure may have a :class:`Goal`: what pinsock has to reach, and what it wants to.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import pinsock
from tests.benchmarks import child
from tests.benchmarks.clients import Clients
from tests.benchmarks.contenders import (
    CONTENDERS,
    HOST,
    Bare,
    Contender,
    Link,
    NotMeasuredError,
    resumed,
)
from tests.benchmarks.server import CHUNK, DOWNLOAD, ECHO, PATIENCE, REQUEST, UPLOAD, YES, wait_for

__all__ = [
    "BASELINE",
    "FULL",
    "MEASURES",
    "QUICK",
    "Goal",
    "Measure",
    "Sampler",
    "Sizes",
]

#: Whose cost the others' are divided by.
BASELINE = "ssl"

Sampler = Callable[[], float]
_KIB, _MIB = 1 << 10, 1 << 20


@dataclass(frozen=True)
class Sizes:
    """How much work one sample is, and how many samples are taken."""

    rounds: int
    child_rounds: int
    warm: bool
    handshakes: int
    chunks: int
    round_trips: int
    messages: int
    contexts: int
    connections: int
    hosts: int
    lookups: int


FULL = Sizes(
    rounds=21,
    child_rounds=5,
    warm=True,
    handshakes=50,
    chunks=16,
    round_trips=500,
    messages=100,
    contexts=10,
    connections=200,
    hosts=100_000,
    lookups=20_000,
)
#: To see that everything runs; the numbers mean nothing.
QUICK = Sizes(
    rounds=1,
    child_rounds=1,
    warm=False,
    handshakes=3,
    chunks=1,
    round_trips=10,
    messages=3,
    contexts=1,
    connections=30,
    hosts=300,
    lookups=100,
)


@dataclass(frozen=True)
class Goal:
    """What a measure is held to; of the ratio if the baseline takes part, else of the value."""

    must: float
    aim: float


@dataclass(frozen=True)
class Measure:
    """One row of the table.

    Attributes:
        name: what ``--only`` takes.
        what: one line on what is measured.
        unit: of the values shown.
        show: turn the cost of one into what is shown.
        open: make a sampler for a contender.
        contenders: the names of those who take part.
        in_child: each sample is a process of its own, and so there are fewer.
        goal: what it is held to, if anything.
        judged: the contender who is held to it, and whom ``--compare`` looks at.
    """

    name: str
    what: str
    unit: str
    show: Callable[[float], float]
    open: Callable[[Contender, Sizes], AbstractContextManager[Sampler]]
    contenders: tuple[str, ...] = tuple(CONTENDERS)
    in_child: bool = False
    goal: Goal | None = None
    judged: str = "pinned"

    @property
    def relative(self) -> bool:
        """Whether the baseline takes part: then what counts is the ratio to it."""
        return BASELINE in self.contenders


def _per_cpu_second(cost: float) -> float:
    return 1 / cost


def _mib_per_cpu_second(cost: float) -> float:
    return 1 / cost / _MIB


def _microseconds(cost: float) -> float:
    return cost * 1e6


def _milliseconds(cost: float) -> float:
    return cost * 1e3


def _kib(cost: float) -> float:
    return cost / _KIB


def _per_cent(share: float) -> float:
    return share * 100


# Handshakes --------------------------------------------------------------------------------------


@contextlib.contextmanager
def _handshake(contender: Contender, sizes: Sizes) -> Iterator[Sampler]:
    yield lambda: _handshakes(contender, sizes, None)


@contextlib.contextmanager
def _resumed(contender: Contender, sizes: Sizes) -> Iterator[Sampler]:
    with _linked(contender) as link:
        resumed(link)  # the tickets of TLS 1.3 come with the answer
        session = link.session()
    for _ in range(2):  # the samples use it often, so once is not enough
        with _linked(contender, session) as link:
            if not resumed(link):
                raise NotMeasuredError("the session is not resumed")
    yield lambda: _handshakes(contender, sizes, session)


def _handshakes(contender: Contender, sizes: Sizes, session: object) -> float:
    spent = sum(_one_handshake(contender, session) for _ in range(sizes.handshakes))
    return spent / sizes.handshakes


def _one_handshake(contender: Contender, session: object = None) -> float:
    # The TCP connection is the same for all, and is left out.  Closing belongs to the cost: it is
    # where what the handshake made is let go of.
    sock = contender.target.connect()
    start = time.process_time()
    link = contender.wrap(sock, session)
    link.close()
    del link
    return time.process_time() - start


@contextlib.contextmanager
def _own_share(contender: Contender, sizes: Sizes) -> Iterator[Sampler]:
    context = contender.ssl_context()
    assert context is not None
    bare = Bare.of(context)

    def one_bare() -> float:
        sock = contender.target.connect()
        sock.settimeout(None)
        start = time.process_time()
        bare.handshake_and_close(sock)
        return time.process_time() - start

    def sample() -> float:
        # In turns within the sample too: a difference of two large numbers is easily disturbed.
        whole = floor = 0.0
        bare.follow()
        for _ in range(sizes.handshakes):
            whole += _one_handshake(contender)
            floor += one_bare()
        return (whole - floor) / whole

    yield sample


# Servers -----------------------------------------------------------------------------------------


def _threaded_server(*, mutual: bool) -> Callable[..., AbstractContextManager[Sampler]]:
    @contextlib.contextmanager
    def opened(contender: Contender, sizes: Sizes) -> Iterator[Sampler]:
        context = contender.server_context(mutual=mutual)
        timeout = contender.target.timeout

        def serve(sock: socket.socket) -> None:
            sock.settimeout(timeout)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with context.wrap_socket(sock, server_side=True) as connection:
                connection.sendall(YES)

        def sample() -> float:
            clients.start(listener.getsockname()[1], sizes.handshakes)
            start = time.process_time()
            threads = []
            for _ in range(sizes.handshakes):
                sock, _ = listener.accept()
                threads.append(threading.Thread(target=serve, args=(sock,)))
                threads[-1].start()
            for thread in threads:
                thread.join()
            spent = time.process_time() - start
            clients.finish()
            return spent / sizes.handshakes

        with Clients(contender.target) as clients, _listener() as listener:
            yield sample

    return opened


def _listener() -> socket.socket:
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    listener.settimeout(PATIENCE)
    return listener


def _asyncio_server(*, mutual: bool) -> Callable[..., AbstractContextManager[Sampler]]:
    @contextlib.contextmanager
    def opened(contender: Contender, sizes: Sizes) -> Iterator[Sampler]:
        context = contender.server_context(mutual=mutual)
        with Clients(contender.target) as clients:
            yield lambda: asyncio.run(_serve_asyncio(context, clients, sizes.handshakes))

    return opened


async def _serve_asyncio(context: ssl.SSLContext, clients: Clients, number: int) -> float:
    served = 0
    all_served = asyncio.Event()

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        writer.write(YES)
        writer.close()
        # The client goes as soon as it has read, and how is not what is measured.
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        served += 1
        if served == number:
            all_served.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        clients.start(server.sockets[0].getsockname()[1], number)
        start = time.process_time()
        await asyncio.wait_for(all_served.wait(), PATIENCE)
        spent = time.process_time() - start
    clients.finish()
    return spent / number


# Data --------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _linked(contender: Contender, session: object = None) -> Iterator[Link]:
    link = contender.connect(session)
    try:
        yield link
    finally:
        link.close()


def _download(call: int, *, into: bool) -> Callable[..., AbstractContextManager[Sampler]]:
    @contextlib.contextmanager
    def opened(contender: Contender, sizes: Sizes) -> Iterator[Sampler]:
        with _linked(contender) as link:
            request = REQUEST.pack(DOWNLOAD, CHUNK)
            buffer = bytearray(call)

            def sample() -> float:
                recv, recv_into = link.recv, link.recv_into
                spent = 0.0
                for _ in range(sizes.chunks):
                    link.sendall(request)
                    wait_for(link.socket, CHUNK)
                    left = CHUNK
                    start = time.process_time()
                    while left:
                        count = recv_into(buffer) if into else len(recv(call))
                        if not count:
                            raise ConnectionError("the server has gone")
                        left -= count
                    spent += time.process_time() - start
                return spent / (sizes.chunks * CHUNK)

            yield sample

    return opened


def _upload(call: int) -> Callable[..., AbstractContextManager[Sampler]]:
    @contextlib.contextmanager
    def opened(contender: Contender, sizes: Sizes) -> Iterator[Sampler]:
        with _linked(contender) as link:
            request = REQUEST.pack(UPLOAD, CHUNK)
            data = bytes(call)

            def sample() -> float:
                sendall = link.sendall
                spent = 0.0
                for _ in range(sizes.chunks):
                    sendall(request)
                    start = time.process_time()
                    for _ in range(CHUNK // call):
                        sendall(data)
                    spent += time.process_time() - start
                    link.recv(1)
                return spent / (sizes.chunks * CHUNK)

            yield sample

    return opened


@contextlib.contextmanager
def _round_trip(contender: Contender, sizes: Sizes) -> Iterator[Sampler]:
    data = bytes(100)

    def sample() -> float:
        # A connection for each sample: some are slower than others, and stay so.
        with _linked(contender) as link:
            sendall, recv = link.sendall, link.recv
            sendall(REQUEST.pack(ECHO, len(data)))
            start = time.process_time()
            for _ in range(sizes.round_trips):
                sendall(data)
                # A record is never cut: what was sent in one comes back in one.
                if len(recv(4096)) != len(data):
                    raise ConnectionError("the server has gone, or answers something else")
            return (time.process_time() - start) / sizes.round_trips

    yield sample


@contextlib.contextmanager
def _asyncio(contender: Contender, sizes: Sizes) -> Iterator[Sampler]:
    data = bytes(64 * _KIB)

    async def sample() -> float:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1",
            contender.target.port,
            ssl=contender.ssl_context(),
            server_hostname=HOST,
        )
        writer.write(REQUEST.pack(ECHO, len(data)))
        start = time.process_time()
        for _ in range(sizes.messages):
            writer.write(data)
            await writer.drain()
            await reader.readexactly(len(data))
        spent = time.process_time() - start
        writer.close()
        # The server goes as soon as it reads the end, and how is not what is measured.
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return spent / sizes.messages

    yield lambda: asyncio.run(sample())


# Contexts, memory, and what has no rival ---------------------------------------------------------


def _in_child(what: str) -> Callable[..., AbstractContextManager[Sampler]]:
    @contextlib.contextmanager
    def opened(contender: Contender, sizes: Sizes) -> Iterator[Sampler]:
        target = contender.target.dump()
        with tempfile.TemporaryDirectory() as directory:
            cache = directory if sizes.warm else None  # else there would be nothing but compiling
            yield lambda: child.ask(what, contender.name, target, sizes.connections, cache)

    return opened


def _contexts(*, system: bool) -> Callable[..., AbstractContextManager[Sampler]]:
    @contextlib.contextmanager
    def opened(contender: Contender, sizes: Sizes) -> Iterator[Sampler]:
        cafile = None if system else contender.target.cafile
        # Private authorities are quick to load: more of them, for a clock that counts in steps.
        number = sizes.contexts * (1 if system else 10)
        contender.new_context(cafile)  # so that no sample has the first one of the process

        def sample() -> float:
            start = time.process_time()
            for _ in range(number):
                contender.new_context(cafile)
            return (time.process_time() - start) / number

        yield sample

    return opened


def _hosts(sizes: Sizes, pins: pinsock.PinSet) -> dict[str, pinsock.PinSet]:
    """Host patterns, a third of each form."""
    prefixes = ("", "*.", "**.")
    return {f"{prefixes[n % 3]}h{n}.example.com": pins for n in range(sizes.hosts)}


@contextlib.contextmanager
def _lookup(contender: Contender, sizes: Sizes) -> Iterator[Sampler]:
    pins = pinsock.PinSet(contender.target.pins)
    hosts = pinsock.HostPins(_hosts(sizes, pins), unpinned="allow")
    # One found in each table, the last one far below its pattern, and one that is not there.
    first = sizes.hosts // 6 * 3
    names = (
        f"h{first}.example.com",
        f"www.h{first + 1}.example.com",
        f"a.b.c.d.h{first + 2}.example.com",
        "www.example.org",
    )
    assert [hosts(name) for name in names] == [pins, pins, pins, None]

    def sample() -> float:
        start = time.process_time()
        for _ in range(sizes.lookups // len(names)):
            for name in names:
                hosts(name)
        return (time.process_time() - start) / (sizes.lookups // len(names) * len(names))

    yield sample


@contextlib.contextmanager
def _build_hosts(contender: Contender, sizes: Sizes) -> Iterator[Sampler]:
    mapping = _hosts(sizes, pinsock.PinSet(contender.target.pins))

    def sample() -> float:
        start = time.process_time()
        pinsock.HostPins(mapping)
        return (time.process_time() - start) / sizes.hosts

    yield sample


_ONLY_PINSOCK = ("pinned",)
_SSL_CONTEXTS = ("ssl", "pins=None", "pinned")
#: Without pins for its clients, a pinned server is a server without pins.
_PLAIN_SERVERS = ("ssl", "pins=None", "bare")
_ASYNCIO = (*_SSL_CONTEXTS, "bare")
#: The bare one keeps no session and makes no context that a user would.
_USABLE = tuple(name for name in CONTENDERS if name != "bare")

MEASURES: tuple[Measure, ...] = (
    Measure(
        "handshake",
        "full handshakes",
        "1/CPU s",
        _per_cpu_second,
        _handshake,
        goal=Goal(0.85, 0.72),
    ),
    Measure(
        "handshake-own",
        "the part of a handshake that is not OpenSSL's",
        "%",
        _per_cent,
        _own_share,
        ("pins=None", "pinned"),
        goal=Goal(10, 4),
    ),
    Measure(
        "resumed",
        "resumed handshakes",
        "1/CPU s",
        _per_cpu_second,
        _resumed,
        _USABLE,
        goal=Goal(1.0, 0.8),
    ),
    Measure(
        "server-threaded",
        "handshakes of a server with a thread for each",
        "1/CPU s",
        _per_cpu_second,
        _threaded_server(mutual=False),
        _PLAIN_SERVERS,
        goal=Goal(1.0, 0.75),
        judged="pins=None",
    ),
    Measure(
        "server-threaded-mutual",
        "likewise, and clients have certificates",
        "1/CPU s",
        _per_cpu_second,
        _threaded_server(mutual=True),
        _SSL_CONTEXTS,
        goal=Goal(1.0, 0.75),
    ),
    Measure(
        "server-asyncio",
        "handshakes of an asyncio server",
        "1/CPU s",
        _per_cpu_second,
        _asyncio_server(mutual=False),
        _PLAIN_SERVERS,
        goal=Goal(1.0, 0.75),
        judged="pins=None",
    ),
    Measure(
        "server-asyncio-mutual",
        "likewise, and clients have certificates",
        "1/CPU s",
        _per_cpu_second,
        _asyncio_server(mutual=True),
        _SSL_CONTEXTS,
        goal=Goal(1.0, 0.75),
    ),
    Measure(
        "download-1M",
        "recv(1 MiB)",
        "MiB/CPU s",
        _mib_per_cpu_second,
        _download(_MIB, into=False),
        goal=Goal(0.8, 0.7),
    ),
    Measure(
        "download-16K",
        "recv(16 KiB)",
        "MiB/CPU s",
        _mib_per_cpu_second,
        _download(16 * _KIB, into=False),
        goal=Goal(0.8, 0.7),
    ),
    Measure(
        "download-into-1M",
        "recv_into(1 MiB)",
        "MiB/CPU s",
        _mib_per_cpu_second,
        _download(_MIB, into=True),
    ),
    Measure(
        "download-into-16K",
        "recv_into(16 KiB)",
        "MiB/CPU s",
        _mib_per_cpu_second,
        _download(16 * _KIB, into=True),
    ),
    Measure(
        "upload-1M",
        "sendall(1 MiB)",
        "MiB/CPU s",
        _mib_per_cpu_second,
        _upload(_MIB),
        goal=Goal(0.7, 0.55),
    ),
    Measure(
        "upload-16K",
        "sendall(16 KiB)",
        "MiB/CPU s",
        _mib_per_cpu_second,
        _upload(16 * _KIB),
        goal=Goal(0.7, 0.55),
    ),
    Measure(
        "round-trip",
        "100 bytes there and back",
        "us",
        _microseconds,
        _round_trip,
        goal=Goal(1.05, 0.95),
    ),
    Measure(
        "asyncio",
        "64 KiB there and back, asyncio streams",
        "us",
        _microseconds,
        _asyncio,
        _ASYNCIO,
        goal=Goal(1.0, 0.8),
    ),
    Measure(
        "context-first",
        "the process's first context, system trust store",
        "ms",
        _milliseconds,
        _in_child("context"),
        _USABLE,
        in_child=True,
        goal=Goal(0.4, 0.25),
    ),
    Measure(
        "context-next",
        "a further context, system trust store",
        "ms",
        _milliseconds,
        _contexts(system=True),
        _USABLE,
        goal=Goal(0.05, 0.01),
    ),
    Measure(
        "context-cafile",
        "a further context, one authority",
        "ms",
        _milliseconds,
        _contexts(system=False),
        _USABLE,
    ),
    Measure(
        "memory",
        "each idle connection",
        "KiB",
        _kib,
        _in_child("memory"),
        _USABLE,
        in_child=True,
        goal=Goal(1.0, 0.9),
    ),
    Measure(
        "import",
        "import pinsock, after ssl and OpenSSL",
        "ms",
        _milliseconds,
        _in_child("import"),
        _ONLY_PINSOCK,
        in_child=True,
        goal=Goal(15, 5),
    ),
    Measure(
        "lookup",
        "a host among 100,000 HostPins",
        "us",
        _microseconds,
        _lookup,
        _ONLY_PINSOCK,
        goal=Goal(10, 2),
    ),
    Measure(
        "hosts",
        "each pattern when 100,000 HostPins are made",
        "us",
        _microseconds,
        _build_hosts,
        _ONLY_PINSOCK,
    ),
)
