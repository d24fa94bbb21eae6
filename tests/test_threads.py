"""Many threads, on one socket and on one context; and forks.

One reader and one writer, and signals, are in test_sockets.py.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from pinsock import PinMismatchError, PinnedContext, PinSet
from tests import peers
from tests.certificates import make_chain, spki_pin
from tests.peers import StdlibServer
from tests.test_sockets import TIMEOUT, Pair, flavour, pair, read_all, start

__all__ = ["flavour", "pair"]  # fixtures

CHAIN = make_chain(3)
PIN, WRONG = spki_pin(CHAIN.leaf), spki_pin(make_chain(1, pool=8).leaf)
THREADS = 200


def context(pin: str, version: ssl.TLSVersion | None = None) -> PinnedContext:
    made = PinnedContext(pins=PinSet({"leaf": pin}))
    CHAIN.trust(made)
    if version is not None:
        peers.fix_version(made, version)
    return made


# One socket --------------------------------------------------------------------------------------


# The number of poll, or ppoll, on x86-64 and on aarch64.
POLLS = {"7", "271", "73"}


def wait_until_blocked(thread: threading.Thread) -> None:
    """Wait until ``thread`` waits for a descriptor."""
    path = f"/proc/self/task/{thread.native_id}/syscall"
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end:
        try:
            with open(path) as file:
                number = file.read().split()[0]
        except OSError:
            pytest.skip("this system does not tell what a thread does")
        if number in POLLS:
            return
        os.sched_yield()
    raise AssertionError("the thread does not wait")


def in_thread(call: object, *arguments: object) -> tuple[threading.Thread, list[object]]:
    """Run a call in a thread; what it returned or raised is put in the list."""
    assert callable(call)
    seen: list[object] = []

    def run() -> None:
        try:
            seen.append(call(*arguments))
        except Exception as error:
            seen.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, seen


@pytest.fixture
def ours_alone(flavour: str) -> None:
    """Leave ssl's own sockets out: before 3.13 nothing keeps two threads apart in OpenSSL."""
    if flavour == "ssl":
        pytest.skip("ssl's own sockets are no measure")


def test_a_shutdown_ends_a_blocked_read(pair: Pair) -> None:
    """As with ssl: another thread that shuts the socket down ends the stream for the reader."""
    ours, _theirs = pair(tcp=True)
    thread, seen = in_thread(ours.recv, 1)
    wait_until_blocked(thread)
    ours.shutdown(socket.SHUT_RDWR)
    thread.join(TIMEOUT)
    assert seen == [b""]


def test_a_shutdown_ends_a_blocked_write(flavour: str, pair: Pair) -> None:
    """The writer gets a BrokenPipeError, as with ssl since 3.13; it was an SSLEOFError before."""
    ours, _theirs = pair(tcp=True)
    thread, seen = in_thread(ours.sendall, bytes(64 * 2**20))
    wait_until_blocked(thread)
    ours.shutdown(socket.SHUT_RDWR)
    thread.join(TIMEOUT)
    before = flavour == "ssl" and sys.version_info < (3, 13)
    assert [type(each) for each in seen] == [ssl.SSLEOFError if before else BrokenPipeError]


def test_what_two_threads_write_is_not_mixed(ours_alone: None, pair: Pair) -> None:
    """sendall() from many threads: each message comes in one piece."""
    ours, theirs = pair()
    size, messages = 10_000, 20
    letters = b"abcd"

    def write(letter: int) -> None:
        for _ in range(messages):
            ours.sendall(bytes([letter]) * size)

    reading = start(read_all, theirs, len(letters) * size * messages)
    with ThreadPoolExecutor(len(letters)) as pool:
        list(pool.map(write, letters))
    received = reading.result(TIMEOUT)
    pieces = [received[at : at + size] for at in range(0, len(received), size)]
    assert all(len(set(piece)) == 1 for piece in pieces)
    assert Counter(piece[0] for piece in pieces) == dict.fromkeys(letters, messages)


def test_two_threads_may_read(ours_alone: None, pair: Pair) -> None:
    """Each byte goes to one of them, and none is lost."""
    ours, theirs = pair()
    data = bytes(range(256)) * 400

    def read() -> list[bytes]:
        chunks: list[bytes] = []
        while chunk := ours.recv(1000):
            chunks.append(chunk)
        return chunks

    readers = [start(read) for _ in range(2)]
    theirs.sendall(data)
    theirs.shutdown(socket.SHUT_WR)
    chunks = [chunk for reader in readers for chunk in reader.result(TIMEOUT)]
    assert Counter(b"".join(chunks)) == Counter(data)


def test_many_may_shake_hands(ours_alone: None, pair: Pair) -> None:
    """Threads that all begin with the handshake end with one connection, and none is left behind.

    A reader and a writer do so if nobody has shaken hands before.
    """
    ours, theirs = pair(handshake=False)
    shaking = [start(ours.do_handshake) for _ in range(4)]
    theirs.do_handshake()
    for each in shaking:
        each.result(TIMEOUT)
    answer = start(read_all, theirs, 4)
    ours.sendall(b"ping")
    assert answer.result(TIMEOUT) == b"ping"


# One context -------------------------------------------------------------------------------------


def test_hundreds_of_threads_share_a_context(tls_version: ssl.TLSVersion) -> None:
    """Each handshake is judged by its own pins, whatever the others do at the same time."""
    shared = context(PIN, tls_version)
    outcomes: Counter[str] = Counter()
    barrier = threading.Barrier(THREADS)
    with StdlibServer(CHAIN, tls_version) as server:

        def talk(number: int) -> str:
            wrong = number % 2
            with server.connect() as sock:
                barrier.wait(TIMEOUT)
                pins = PinSet({"leaf": WRONG}) if wrong else shared.pins
                try:
                    with shared.wrap_socket(sock, server_hostname="localhost", pins=pins) as tls:
                        message = b"%03d" % number
                        tls.sendall(message)
                        assert read_all(tls, 3) == message
                        assert tls.pin_match is not None
                        return "matched" if not wrong else "an impostor was accepted"
                except PinMismatchError:
                    return "refused" if wrong else "a good peer was refused"

        with ThreadPoolExecutor(THREADS) as pool:
            outcomes.update(pool.map(talk, range(THREADS)))
    assert outcomes == {"matched": THREADS // 2, "refused": THREADS // 2}


def test_settings_may_change_while_others_connect(tls_version: ssl.TLSVersion) -> None:
    """Pins, authorities and ciphers are set again and again; each handshake has one version."""
    shared = context(PIN, tls_version)
    done = threading.Event()

    def change() -> int:
        rounds = 0
        while not done.is_set():
            shared.pins = PinSet({"leaf": [PIN, WRONG]} if rounds % 2 else {"leaf": PIN})
            shared.load_verify_locations(cadata=CHAIN.root_pem)
            shared.set_ciphers("DEFAULT" if rounds % 2 else "HIGH")
            shared.options ^= ssl.OP_NO_TICKET
            rounds += 1
        return rounds

    with StdlibServer(CHAIN, tls_version) as server:

        def talk(_number: int) -> bool:
            seen = peers.stdlib_client(server.address, shared)
            return seen.error is None and seen.data == b"ping"

        changing = start(change)
        try:
            with ThreadPoolExecutor(8) as pool:
                assert all(pool.map(talk, range(80)))
        finally:
            done.set()
        assert changing.result(TIMEOUT) > 0


# Forks -------------------------------------------------------------------------------------------

FORK = """
import os, socket, ssl, sys, threading, traceback
import pinsock
from pinsock import PinnedContext, _context
from tests.certificates import make_chain, spki_pin

chain = make_chain(2)
pins = pinsock.PinSet({"leaf": spki_pin(chain.leaf)})
client, server = PinnedContext(pins=pins), PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=None)
chain.trust(client)
chain.configure(server)

def talk():
    left, right = socket.socketpair()
    for sock in (left, right):
        sock.settimeout(20)
    def serve():
        with server.wrap_socket(right, server_side=True) as tls:
            tls.sendall(tls.recv(4))
    thread = threading.Thread(target=serve)
    thread.start()
    with client.wrap_socket(left, server_hostname="localhost") as tls:
        tls.sendall(b"ping")
        assert tls.recv(4) == b"ping"
        assert tls.pin_match is not None
    thread.join(20)

talk()
# Another thread has every lock while the process forks, those of a connection as well.
near, far = socket.socketpair()
other = server.wrap_socket(far, server_side=True, do_handshake_on_connect=False)
locked, forked = threading.Event(), threading.Event()
default = _context._default_certificates
def hold():
    connection = other._sslobj
    with client._compiling, client._counting, server._compiling, default._lock, \
            connection._lock, connection._writing:
        locked.set()
        assert forked.wait(20)
holder = threading.Thread(target=hold)
holder.start()
assert locked.wait(20)
child = os.fork()
if child == 0:
    status = 1
    try:
        pinsock.create_default_context(pins=pins)
        talk()
        other.close()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)
forked.set()
holder.join(20)
assert os.waitpid(child, 0)[1] == 0, "the child failed"
talk()
near.close()
other.close()
print("done")
"""


def test_a_fork_takes_the_locks_along_open() -> None:
    """A child can connect, whatever another thread of its parent held at the time."""
    ran = subprocess.run(
        [sys.executable, "-W", "ignore:This process", "-c", textwrap.dedent(FORK)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.stdout, ran.stderr) == ("done\n", "")


def _in_child(made: PinnedContext, address: tuple[str, int]) -> None:
    seen = peers.stdlib_client(address, made)
    os._exit(0 if seen.error is None and seen.data == b"ping" else 1)


def test_a_context_goes_into_a_forked_worker() -> None:
    """multiprocessing's workers use the context that their parent has made."""
    made = context(PIN)
    process = multiprocessing.get_context("fork")
    with StdlibServer(CHAIN) as server:
        assert peers.stdlib_client(server.address, made).error is None
        assert server.observation().error is None
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # The server is started behind the fork: CPython warns of a fork beside threads.
        address = listener.getsockname()
        worker = process.Process(target=_in_child, args=(made, address))
        worker.start()
        sock, _ = listener.accept()
        with peers.server_context(CHAIN).wrap_socket(sock, server_side=True) as tls:
            tls.sendall(tls.recv(4))
            assert tls.recv(1) == b""
        worker.join(TIMEOUT)
        assert worker.exitcode == 0


def test_after_a_fork_the_locks_are_new() -> None:
    """What the child's hook does: nothing that is held by then is waited for."""
    from pinsock import _context, _openssl

    made = context(PIN)
    before = made._compiling, made._counting, _context._default_certificates._lock
    _context._after_fork()
    after = made._compiling, made._counting, _context._default_certificates._lock
    assert all(one is not other for one, other in zip(before, after, strict=True))
    connection = made.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost")
    engine = connection._sslobj
    assert engine is not None
    old = engine._lock, engine._writing
    _openssl._after_fork()
    assert engine._lock is not old[0]
    assert engine._writing is not old[1]
