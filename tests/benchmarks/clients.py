"""Clients for the servers that are measured: the standard library's, in a process of their own.

Run as ``python -m tests.benchmarks.clients TARGET``.  For each line ``PORT NUMBER`` on its standard
input it makes that many connections, one after the other: it shakes hands, with a certificate if it
is asked for one, reads one byte and goes.  Then it writes the number back.  It ends with its
standard input.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from types import TracebackType

from tests.benchmarks.contenders import HOST, Stdlib, Target
from tests.benchmarks.server import PATIENCE, ROOT, YES

__all__ = ["Clients"]


class Clients:
    """The process, as the one who measures has it."""

    def __init__(self, target: Target) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, target.dump()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )

    def __enter__(self) -> Clients:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._process:
            assert self._process.stdin is not None
            self._process.stdin.close()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()

    def start(self, port: int, number: int) -> None:
        """Have connections made to a port of 127.0.0.1; :meth:`finish` has to follow."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{port} {number}\n")
        self._process.stdin.flush()
        self._number = number

    def finish(self) -> None:
        """Wait until all connections have been made, and see that they were good."""
        assert self._process.stdout is not None
        if self._process.stdout.readline() != f"{self._number}\n":
            raise ConnectionError("the clients have failed")


def main(arguments: list[str]) -> None:
    """Connect as told on standard input."""
    (text,) = arguments
    target = Target.load(text)
    context = Stdlib(target).ssl_context()
    context.load_cert_chain(target.certfile, target.keyfile)
    for line in sys.stdin:
        port, number = map(int, line.split())
        for _ in range(number):
            sock = socket.create_connection(("127.0.0.1", port), PATIENCE)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with context.wrap_socket(sock, server_hostname=HOST) as connection:
                if connection.recv(1) != YES:
                    raise ConnectionError("the server has gone")
        print(number, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
