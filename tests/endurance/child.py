"""What is done to a process of its own: limits that cannot be taken back, and forks.

Run as ``python -m tests.endurance.child WHAT PORT``, with an echo server at that port that presents
:data:`CHAIN`, whose PEM is on standard input.  Prints what it saw, and ``done`` at the end.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import resource
import signal
import socket
import ssl
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from pinsock import (
    PinFile,
    PinnedContext,
    PinnedSocket,
    PinSet,
    TofuStore,
    create_connection,
    create_default_context,
)
from tests.certificates import make_chain, pem, spki_pin
from tests.endurance.amounts import amount, descriptors
from tests.test_sockets import read_all

TIMEOUT = 30.0
ADDRESS = ("127.0.0.1", int(sys.argv[2]) if len(sys.argv) > 2 else 0)
#: This process has a server of its own as well, that needs no descriptor for its connections.
OWN = make_chain(2)
PINS = PinSet({"leaf": spki_pin(OWN.leaf, by="cryptography")}, trust="pins")

Operation = Callable[[], object]


def own_server() -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    OWN.configure(made)
    return made


def shake(context: PinnedContext, pair: tuple[socket.socket, socket.socket]) -> None:
    """A handshake over a pair that is there, with an echo of a byte; closes both ends."""
    ours, theirs = pair
    for sock in pair:
        sock.settimeout(TIMEOUT)

    def serve() -> None:
        with contextlib.suppress(OSError), SERVER.wrap_socket(theirs, server_side=True) as tls:
            tls.sendall(tls.recv(1))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with context.wrap_socket(ours, server_hostname="localhost") as tls:
            tls.sendall(b"x")
            assert tls.recv(1) == b"x"
    finally:
        ours.close()
        thread.join(TIMEOUT)
        theirs.close()


# Descriptors -------------------------------------------------------------------------------------


@contextlib.contextmanager
def starved(spare: int) -> Iterator[None]:
    """Have no more than ``spare`` descriptors left."""
    taken: list[int] = []
    with contextlib.suppress(OSError):
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    for _ in range(spare):
        os.close(taken.pop())
    try:
        yield
    finally:
        for each in taken:
            os.close(each)


def outcome_of(operation: Operation) -> str:
    try:
        operation()
    except OSError as error:
        if says_why(error):
            return type(error).__name__
        raise
    return "ok"


def says_why(error: BaseException | None) -> bool:
    """Whether an error, or what it was made of, says that there are no descriptors left."""
    while error is not None:
        if getattr(error, "errno", None) == errno.EMFILE or "Too many open files" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def on_descriptors(directory: Path) -> None:
    """Run each operation with 0 to 8 descriptors left: it works, or says why, and leaks nothing."""
    files = OWN.write(directory)
    bundle = directory / "bundle.pem"
    bundle.write_bytes(pem(*(make_chain(1, pool=2 + n).leaf for n in range(3))))
    pins, pin = directory / "pins.txt", spki_pin(OWN.leaf)
    numbers = iter(range(1, 10**6))

    def change_pins() -> None:
        pins.write_text(f"# {next(numbers)}\nlocalhost leaf {pin} trust=pins\n")

    change_pins()
    watched = PinnedContext(pins=PinFile(pins))
    plain = PinnedContext(pins=PINS)
    server = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=None)
    pairs: list[tuple[socket.socket, socket.socket]] = []

    def record() -> None:
        # Each time a store that is new, or there would be nothing to record.
        store = TofuStore(directory / f"tofu{next(numbers)}.txt", trust="pins")
        shake(PinnedContext(pins=store), pairs[0])

    def log_keys() -> None:
        made = PinnedContext(pins=PINS)
        made.keylog_filename = str(directory / "keys.txt")
        shake(made, pairs[0])

    def connect() -> None:
        create_connection(ADDRESS, TIMEOUT, context=default, server_hostname="localhost").close()

    default = create_default_context(pins=None)
    default.load_verify_locations(cadata=sys.stdin.read())
    operations: dict[str, Operation] = {
        "wrap_socket": lambda: shake(plain, pairs[0]),
        "PinFile": lambda: shake(watched, pairs[0]),
        "TofuStore": record,
        "key log": log_keys,
        "load_verify_locations": lambda: plain.load_verify_locations(bundle),
        "load_cert_chain": lambda: server.load_cert_chain(files.certfile, files.keyfile),
        "create_connection": connect,
        "create_default_context": lambda: create_default_context(pins=None),
    }
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    for name, operation in operations.items():
        pairs[:] = [socket.socketpair()]
        operation()  # so that whatever is imported late is imported
        seen = []
        for spare in range(9):
            change_pins()
            pairs[:] = [socket.socketpair()]
            before = set(descriptors().items())
            with starved(spare):
                seen.append(outcome_of(operation))
            new = set(descriptors().items()) - before
            assert not new, f"{name}, {spare} left: {new} is left open"
            for sock in pairs[0]:
                sock.close()
        pairs[:] = [socket.socketpair()]
        operation()  # it has recovered
        print(name, *seen)


# Memory ------------------------------------------------------------------------------------------


def on_memory(directory: Path) -> None:
    """Run each operation in an address space that is too small, by ever less."""
    many = pem(*(make_chain(1, pool=2 + n % 50).leaf for n in range(amount(20_000, 200))))
    bundle = directory / "bundle.pem"
    bundle.write_bytes(many)
    text = many.decode("ascii")
    ders = ssl_ders(text)
    files = OWN.write(directory)
    pins = directory / "pins.txt"
    pin = spki_pin(OWN.leaf)
    pins.write_text("".join(f"host{n}.example leaf {pin}\n" for n in range(amount(200_000, 5000))))

    client = PinnedContext(pins=PINS)
    server = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=None)
    operations: dict[str, Operation] = {
        "cafile": lambda: client.load_verify_locations(bundle),
        "cadata, PEM": lambda: client.load_verify_locations(cadata=text),
        "cadata, DER": lambda: client.load_verify_locations(cadata=ders),
        "load_cert_chain": lambda: server.load_cert_chain(files.certfile, files.keyfile),
        "load_default_certs": lambda: client.load_default_certs(),
        "PinFile": lambda: PinFile(pins),
    }
    for name, operation in operations.items():
        seen = []
        for spare in (0, *(2**power for power in range(12, 29, 2))):
            seen.append(in_fork(lambda: squeezed(operation, spare)))  # noqa: B023  # run at once
        print(name, *seen)
        assert seen[-1] == "ok", name


def ssl_ders(text: str) -> bytes:
    end = "-----END CERTIFICATE-----\n"
    return b"".join(ssl.PEM_cert_to_DER_cert(each + end) for each in text.split(end)[:-1])


def squeezed(operation: Operation, spare: int) -> str:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    size = pages * resource.getpagesize() + spare
    resource.setrlimit(resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))
    try:
        operation()
        outcome = "ok"
    except MemoryError:
        outcome = "MemoryError"
    except ssl.SSLError:
        outcome = "SSLError"
    except OSError as error:
        outcome = errno.errorcode.get(error.errno or 0, "OSError")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    operation()  # there is enough again, and nothing is broken
    return outcome


def in_fork(call: Callable[[], str]) -> str:
    """What ``call`` returns in a forked process."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with leaving():
            os.write(writing, call().encode())
    os.close(writing)
    with open(reading, "rb") as pipe:
        outcome = pipe.read().decode()
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    assert status == 0, f"the child failed: {status}"
    return outcome


@contextlib.contextmanager
def leaving() -> Iterator[None]:
    """End this process, which is a fork, and not do twice what the other one does."""
    try:
        yield
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


# Forks -------------------------------------------------------------------------------------------


def echo(sock: ssl.SSLSocket, size: int) -> None:
    data = os.urandom(size)
    sock.sendall(data)
    assert read_all(sock, size) == data


def on_fork(_directory: Path) -> None:
    """Fork with open connections: who closes one takes nothing from the other."""
    context = PinnedContext(pins=None)
    context.load_verify_locations(cadata=sys.stdin.read())

    def connect() -> PinnedSocket:
        made = create_connection(ADDRESS, TIMEOUT, context=context, server_hostname="localhost")
        echo(made, 1000)
        return made

    # The child lets go of what the parent goes on with.
    for closing in (True, False):
        mine = connect()
        child = os.fork()
        if child == 0:
            with leaving():
                if closing:
                    mine.close()
                del mine
                gc.collect()
                with connect() as another:
                    echo(another, 100_000)
        echo(mine, 10_000)
        assert os.waitpid(child, 0)[1] == 0
        echo(mine, 100_000)
        mine.unwrap().close()

    # The child goes on with what the parent lets go of.
    for closing in (True, False):
        mine = connect()
        ready, go = os.pipe()
        child = os.fork()
        if child == 0:
            with leaving():
                assert os.read(ready, 1) == b"x"
                echo(mine, 100_000)
                mine.unwrap().close()
        if closing:
            mine.close()
        del mine
        os.write(go, b"x")
        assert os.waitpid(child, 0)[1] == 0
        os.close(ready)
        os.close(go)
    print("alone ok")

    # In the middle of a transfer by other threads.
    forks = amount(2000, 20)
    mine, ended, sent, failures = connect(), threading.Event(), [0], []
    block = os.urandom(50_000)

    def write() -> None:
        while not ended.is_set():
            mine.sendall(block)
            sent[0] += len(block)

    def read() -> None:
        try:
            position = 0
            while not ended.is_set() or position < sent[0]:
                data = mine.recv(len(block) - position % len(block))
                assert data == block[position % len(block) :][: len(data)], position
                position += len(data)
        except BaseException as error:
            failures.append(error)
            raise

    # Daemons: what is asserted below has to end this process.
    threads = [threading.Thread(target=work, daemon=True) for work in (write, read)]
    for thread in threads:
        thread.start()
    for number in range(forks):
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            with leaving():
                # What another thread of the parent did with it is not to be waited for.
                if number % 2:
                    mine.settimeout(0)
                    mine.pending()
                mine.close()
                if number % 5 == 0:
                    with connect() as another:
                        echo(another, 1000)
        status = os.waitpid(child, 0)[1]
        assert status == 0, f"fork {number}: {status}"
        assert not failures
    ended.set()
    for thread in threads:
        thread.join(TIMEOUT)
        assert not thread.is_alive()
    assert not failures
    print(f"{forks} forks beside {sent[0] / 2**20:.1f} MiB ok")


SERVER = own_server()

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        {"descriptors": on_descriptors, "memory": on_memory, "fork": on_fork}[sys.argv[1]](
            Path(name)
        )
    print("done")
