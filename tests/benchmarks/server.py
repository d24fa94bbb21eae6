"""The server of the benchmarks: the standard library's, one thread for each connection.

Run as ``python -m tests.benchmarks.server VERSION CERTFILE KEYFILE``.  It prints its port, and
serves until its standard input ends, which it also does when the benchmark dies.  It runs in a
process of its own so that its CPU time is not counted as the client's.

A request is a command and a number (``REQUEST``):

* ``DOWNLOAD n``: the server sends n bytes.
* ``UPLOAD n``: the server waits for n bytes, reads them, and then answers with one.
* ``ECHO n``: the server sends back messages of n bytes until the client goes.
* ``RESUMED 0``: the server answers ``YES`` or ``NO``.

n is no more than 1 MiB (``CHUNK``).
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

__all__ = [
    "CHUNK",
    "DOWNLOAD",
    "ECHO",
    "NO",
    "PATIENCE",
    "REQUEST",
    "RESUMED",
    "ROOT",
    "TLS_VERSIONS",
    "UPLOAD",
    "YES",
    "serving",
    "wait_for",
]

#: Where ``python -m tests.benchmarks...`` finds its modules.
ROOT = Path(__file__).resolve().parents[2]
TLS_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}

REQUEST = struct.Struct("!cQ")
DOWNLOAD, UPLOAD, ECHO, RESUMED = b"d", b"u", b"e", b"r"
YES, NO = b"y", b"n"
#: The largest number in a request.
CHUNK = 1 << 20

#: A peer that has stopped is let go of after this many seconds, and so is not left hanging either.
PATIENCE = 60


class HasOptions(Protocol):
    """A socket, or what looks like one."""

    def fileno(self) -> int:
        """Return the descriptor."""

    def setsockopt(self, level: int, option: int, value: int) -> None:
        """Set an option that is a number."""


@contextlib.contextmanager
def serving(version: str, certfile: Path, keyfile: Path) -> Iterator[int]:
    """Run the server in another process; the value is its port on 127.0.0.1."""
    command = [sys.executable, "-m", __name__, version, str(certfile), str(keyfile)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def wait_for(connection: HasOptions, count: int) -> None:
    """Wait until ``count`` bytes lie ready to be read; no more than 1 MiB.

    So that client and server take turns, in big steps.  Else it is chance how often the one waits
    for the other, and what that costs is as much as the work.
    """
    # Linux also makes the receive buffer big enough for so many (socket(7), SO_RCVLOWAT).
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    poll.poll(1000)  # not there by then: the buffer is smaller, and what there is has to do
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)


def _read(connection: ssl.SSLSocket, buffer: memoryview) -> bool:
    """Fill the buffer; False if the client has gone."""
    while buffer:
        count = connection.recv_into(buffer)
        if not count:
            return False
        buffer = buffer[count:]
    return True


def _serve(connection: ssl.SSLSocket) -> None:
    chunk = memoryview(bytearray(CHUNK))
    header = memoryview(bytearray(REQUEST.size))
    while _read(connection, header):
        command, number = REQUEST.unpack(header)
        if command == ECHO:
            while _read(connection, chunk[:number]):
                connection.sendall(chunk[:number])
            return
        if command == RESUMED:
            connection.sendall(YES if connection.session_reused else NO)
            continue
        if command == DOWNLOAD:
            connection.sendall(chunk[:number])
            continue
        wait_for(connection, number)
        if not _read(connection, chunk[:number]):
            return
        connection.sendall(YES)


def _handle(context: ssl.SSLContext, sock: socket.socket) -> None:
    sock.settimeout(PATIENCE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # Clients of the handshake benchmark go without a word.
    with contextlib.suppress(OSError), sock:
        with context.wrap_socket(sock, server_side=True) as connection:
            _serve(connection)


def _accept(context: ssl.SSLContext, listener: socket.socket) -> None:
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=_handle, args=(context, sock), daemon=True).start()


def main(arguments: list[str]) -> None:
    """Serve until standard input ends."""
    version, certfile, keyfile = arguments
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = context.maximum_version = TLS_VERSIONS[version]
    context.load_cert_chain(certfile, keyfile)
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    threading.Thread(target=_accept, args=(context, listener), daemon=True).start()
    print(listener.getsockname()[1], flush=True)
    sys.stdin.buffer.read()


if __name__ == "__main__":
    main(sys.argv[1:])
