"""Many handshakes, half of them refused: nothing is left behind, and each refusal is its own.

Each connection is one of four kinds:

* *good*: both ends are content;
* *refused by the client*: it has a pin that nobody else has, and finds it in its error;
* *refused by the server*: the client has one of several wrong keys, and the server finds that one.

Both ends are pinsock's, and mutual, so that one handshake tries the client and the server.  They
are joined by ``socketpair``: the two outcomes of a connection are known to belong together, and no
ports run out.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import logging
import os
import queue
import random
import socket
import ssl
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from pinsock import (
    Pin,
    PinError,
    PinMismatchError,
    PinnedContext,
    PinnedObject,
    PinnedSocket,
    PinSet,
)
from tests.certificates import make_chain, spki_pin
from tests.endurance.amounts import ENDURANCE, Held, amount, say
from tests.peers import fix_version

pytestmark = ENDURANCE

THREADS = 32
#: Half of the 200,000 are made by threads, half by asyncio.
HANDSHAKES = amount(100_000, 640)
#: Handshakes after which the memory has to stay as it is: every thread has its arena by then.
WARM_UP = max(320, HANDSHAKES // 5)
TIMEOUT = 60.0

#: MiB.  What malloc keeps for itself, in the arenas of 64 threads, is some 3 of it.  An end that is
#: not let go of takes 46 KiB: this is 1 in 9 of those that a thousand handshakes make.  Of 100,000
#: it is 1 in 900, or 50 bytes of each.
GROWTH = 10.0

CHAIN = make_chain(3)
PIN = spki_pin(CHAIN.leaf)
ROGUES = [make_chain(1, under=CHAIN.above(1), pool=2 + number) for number in range(4)]
ROGUE_PINS = [spki_pin(rogue.leaf) for rogue in ROGUES]
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


@functools.cache
def server_context() -> PinnedContext:
    """One for all, as servers have it."""
    made = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=PinSet({"leaf": PIN}))
    CHAIN.configure(made)
    CHAIN.trust(made)
    return made


@functools.cache
def client_context(rogue: int | None, version: ssl.TLSVersion) -> PinnedContext:
    """One for all clients with the same key."""
    made = PinnedContext(pins=PinSet({"leaf": PIN}))
    (CHAIN if rogue is None else ROGUES[rogue]).configure(made)
    CHAIN.trust(made)
    fix_version(made, version)
    return made


# OpenSSL 4 has dropped SSL 3 from its names.
_BAD_CERTIFICATE = ("SSLV3_ALERT_BAD_CERTIFICATE", "SSL/TLS_ALERT_BAD_CERTIFICATE")


class Case:
    """One connection to be made, and what has to come of it.

    Args:
        number: which one.
        alerts: whether the end that refuses gets its alert out.  asyncio closes the connection
            without (see test_asyncio.py): the other end sees that it is over, and not why.
    """

    def __init__(self, number: int, *, alerts: bool = True) -> None:
        self.alerts = alerts
        self.token = number.to_bytes(8, "big")
        self.version = VERSIONS[number // 4 % 2]
        self.kind = ("good", "client refuses", "good", "server refuses")[number % 4]
        self.rogue = random.randrange(len(ROGUES)) if self.kind == "server refuses" else None
        # Nobody else has this pin, so an error that names it is this connection's.
        self.wrong = Pin("spki", "sha256", os.urandom(32)) if number % 4 == 1 else None
        self.context = client_context(self.rogue, self.version)
        # None is no override, and pins=None would be one: hence a dictionary.
        self.options = {} if self.wrong is None else {"pins": PinSet({"leaf": self.wrong})}

    def judge_client(self, outcome: bytes | Exception) -> str:
        """What the client saw, if it is what it had to see; raises if not."""
        if self.kind == "good":
            assert outcome == self.token, outcome
        elif self.kind == "client refuses":
            assert isinstance(outcome, PinMismatchError), repr(outcome)
            assert outcome.expected == {"leaf": (str(self.wrong),)}
            assert outcome.positions[0].pin == PIN
        else:
            self._judge_refused(outcome)
        return self.kind

    def _judge_refused(self, outcome: bytes | Exception) -> None:
        if self.alerts:
            assert type(outcome) is ssl.SSLError, repr(outcome)
            assert outcome.reason in _BAD_CERTIFICATE
        else:
            assert outcome == b"" or isinstance(outcome, OSError), repr(outcome)
            assert not isinstance(outcome, PinError)

    def judge_server(self, outcome: bytes | Exception) -> str:
        """Likewise for the server."""
        if self.kind == "good":
            assert outcome == self.token, outcome
        elif self.kind == "client refuses":
            self._judge_refused(outcome)
        else:
            assert isinstance(outcome, PinMismatchError), repr(outcome)
            assert self.rogue is not None
            assert outcome.expected == {"leaf": (PIN,)}
            assert outcome.positions[0].pin == ROGUE_PINS[self.rogue]
        return self.kind


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tell the log nothing: pytest keeps all that it is told, which is no leak of ours."""
    monkeypatch.setattr(logging.getLogger("pinsock"), "disabled", True)
    monkeypatch.setattr(logging.getLogger("asyncio"), "disabled", True)
    # Have threads interrupt each other wherever they can.
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    gc.collect()
    yield
    gc.enable()
    sys.setswitchinterval(interval)


def expected(count: int) -> Counter[str]:
    return Counter(
        {"good": count // 2, "client refuses": count // 4, "server refuses": count // 4}
    )


# Threads -----------------------------------------------------------------------------------------


def serve_one(sock: socket.socket, token: bytes) -> bytes | Exception:
    sock.settimeout(TIMEOUT)
    try:
        with server_context().wrap_socket(sock, server_side=True) as tls:
            tls.sendall(token)
            return tls.recv(64)
    except Exception as error:
        return error.with_traceback(None)
    finally:
        sock.close()


def connect_one(sock: socket.socket, case: Case) -> bytes | Exception:
    sock.settimeout(TIMEOUT)
    try:
        with case.context.wrap_socket(sock, server_hostname="localhost", **case.options) as tls:
            token = tls.recv(64)
            tls.sendall(token)
            return token
    except Exception as error:
        return error.with_traceback(None)
    finally:
        sock.close()


class Crew:
    """Clients and servers, two threads for each pair, that live from the warm-up to the end."""

    def __init__(self) -> None:
        self._numbers: Iterator[int] = iter(())
        self._lock = threading.Lock()
        self._start = threading.Barrier(THREADS + 1)
        self._end = threading.Barrier(THREADS + 1)
        self._closing = False
        self.seen: Counter[str] = Counter()
        self.failures: list[str] = []
        self._threads = [threading.Thread(target=self._pair, daemon=True) for _ in range(THREADS)]

    def __enter__(self) -> Crew:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._closing = True
        self._start.wait(TIMEOUT)
        for thread in self._threads:
            thread.join(TIMEOUT)

    def run(self, count: int) -> Counter[str]:
        """Make as many handshakes, and return what came of them."""
        self._numbers = iter(range(count))
        self.seen = Counter()
        self._start.wait(TIMEOUT)
        self._end.wait()  # the watchdog sees to it that this ends
        assert not self.failures, self.failures[:3]
        return self.seen

    def _pair(self) -> None:
        jobs: queue.SimpleQueue[tuple[socket.socket, bytes] | None] = queue.SimpleQueue()
        answers: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()

        def serve() -> None:
            while (job := jobs.get()) is not None:
                answers.put(serve_one(*job))
                del job

        server = threading.Thread(target=serve, daemon=True)
        server.start()
        while True:
            self._start.wait()
            if self._closing:
                break
            while True:
                with self._lock:
                    number = next(self._numbers, None)
                if number is None:
                    break
                case = Case(number)
                ours, theirs = socket.socketpair()
                jobs.put((theirs, case.token))
                del theirs
                client, answer = connect_one(ours, case), answers.get(timeout=TIMEOUT)
                try:
                    kind = case.judge_client(client)
                    case.judge_server(answer)
                except AssertionError as error:
                    self.failures.append(f"{case.kind}, {case.version!r}: {error}")
                    kind = "wrong"
                with self._lock:
                    self.seen[kind] += 1
                del client, answer, ours, case
            self._end.wait()
        jobs.put(None)
        server.join(TIMEOUT)


def test_threads_leave_nothing_behind() -> None:
    """No descriptor, no object that reference counts alone do not free, no memory; no mix-up."""
    with Crew() as crew:
        assert crew.run(WARM_UP) == expected(WARM_UP)
        gc.collect()
        gc.disable()
        before, began = Held.now(), time.monotonic()
        assert crew.run(HANDSHAKES) == expected(HANDSHAKES)
        took, after = time.monotonic() - began, Held.now()
    say(
        f"{HANDSHAKES} handshakes in {THREADS} pairs of threads",
        seconds=round(took, 1),
        before=before,
        after=after,
    )
    assert after.descriptors == before.descriptors
    assert after.objects == before.objects == Counter()
    assert after.memory - before.memory < GROWTH


# asyncio -----------------------------------------------------------------------------------------


async def serve_async(sock: socket.socket, token: bytes) -> bytes | Exception:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    try:
        transport, _ = await loop.connect_accepted_socket(
            lambda: protocol, sock, ssl=server_context(), ssl_handshake_timeout=TIMEOUT
        )
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        writer.write(token)
        return await finish(reader, writer)
    except Exception as error:
        return error.with_traceback(None)


async def finish(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    try:
        return await reader.read(64)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


class _Wrapping(PinnedContext):
    """asyncio does not pass pins on: so each connection has the context say them."""

    _shared: PinnedContext
    _options: dict[str, PinSet]

    def wrap_bio(self, *arguments: object, **options: object) -> PinnedObject:  # type: ignore[override]  # passed on as it is
        return self._shared.wrap_bio(*arguments, **options, **self._options)  # type: ignore[arg-type]  # likewise


async def connect_async(sock: socket.socket, case: Case) -> bytes | Exception:
    context = case.context
    if case.options:
        context = _Wrapping(pins=None)
        context._shared, context._options = case.context, case.options
    try:
        reader, writer = await asyncio.open_connection(
            sock=sock, ssl=context, server_hostname="localhost", ssl_handshake_timeout=TIMEOUT
        )
        try:
            token = await reader.read(64)
            writer.write(token)
            await writer.drain()
        except BaseException:
            writer.transport.abort()
            raise
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return token
    except Exception as error:
        return error.with_traceback(None)


async def run_async(count: int) -> Counter[str]:
    numbers = iter(range(count))
    seen: Counter[str] = Counter()
    failures: list[str] = []

    async def work() -> None:
        for number in numbers:
            case = Case(number, alerts=False)
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            theirs.setblocking(False)
            client, answer = await asyncio.gather(
                connect_async(ours, case), serve_async(theirs, case.token)
            )
            try:
                seen[case.judge_client(client)] += 1
                case.judge_server(answer)
            except AssertionError as error:
                failures.append(f"{case.kind}, {case.version!r}: {error}")

    await asyncio.gather(*(work() for _ in range(THREADS)))
    # A transport closes its socket in the loop's next round, and so on.
    for _ in range(5):
        await asyncio.sleep(0)
    assert not failures, failures[:3]
    return seen


def test_asyncio_leaves_nothing_behind() -> None:
    """Likewise; the loop's own cycles are left to gc, which runs as it does for everybody."""

    async def run() -> tuple[Held, Held, float]:
        assert await run_async(WARM_UP) == expected(WARM_UP)
        gc.collect()
        before, began = Held.now(), time.monotonic()
        assert await run_async(HANDSHAKES) == expected(HANDSHAKES)
        took = time.monotonic() - began
        gc.collect()
        return before, Held.now(), took

    before, after, took = asyncio.run(run())
    say(f"{HANDSHAKES} handshakes in asyncio", seconds=round(took, 1), before=before, after=after)
    assert after.descriptors == before.descriptors
    assert after.objects == before.objects == Counter()
    assert after.memory - before.memory < GROWTH


# Memory ------------------------------------------------------------------------------------------


def test_what_is_left_behind_is_noticed() -> None:
    """The counts that are compared here count: a connection that is held, and a descriptor."""
    before = Held.now()
    ours, theirs = socket.socketpair()
    with server_context().wrap_socket(
        theirs, server_side=True, do_handshake_on_connect=False
    ):  # which holds it
        held = Held.now()
        assert held.objects - before.objects == Counter(("Engine", "PinnedSocket"))
        assert held.descriptors == before.descriptors + 2
    ours.close()


@pytest.mark.parametrize("ending", ["closed", "abandoned", "refused"])
def test_reference_counts_free_a_connection(ending: str, tls_version: ssl.TLSVersion) -> None:
    """Each socket is gone when its user lets go of it, in whatever state: there is no cycle."""
    gc.disable()
    before = Held.now()
    for _ in range(20):
        ours, theirs = socket.socketpair()
        options = {"pins": PinSet({"leaf": Pin("spki", "sha256", bytes(32))})}
        client = client_context(None, tls_version).wrap_socket(
            ours,
            server_hostname="localhost",
            do_handshake_on_connect=False,
            **(options if ending == "refused" else {}),
        )
        server = server_context().wrap_socket(
            theirs, server_side=True, do_handshake_on_connect=False
        )
        if ending != "abandoned":
            thread = threading.Thread(target=_shake, args=(server,))
            thread.start()
            _shake(client)
            thread.join(TIMEOUT)
            del thread
        assert isinstance(client, PinnedSocket)
        client.close()
        server.close()
        del client, server, ours, theirs
    after = Held.now()
    assert after.objects == before.objects
    assert after.descriptors == before.descriptors


def _shake(tls: ssl.SSLSocket) -> None:
    with contextlib.suppress(OSError):
        tls.do_handshake()
