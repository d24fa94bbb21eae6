"""How much of everything, and what a process holds.

``PINSOCK_ENDURANCE`` says how much: ``full``, or the part of it as a number, such as ``0.01``.
Full are 200,000 handshakes and 2,560 MiB each way.
"""

from __future__ import annotations

import gc
import os
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from pinsock import PinnedObject, PinnedSocket, _engine
from tests import peers

__all__ = [
    "ENDURANCE",
    "FULL",
    "Held",
    "Puppet",
    "amount",
    "descriptors",
    "live",
    "say",
    "settle",
]

_SAID = os.environ.get("PINSOCK_ENDURANCE")
#: Everything, whatever it takes.
FULL = _SAID == "full"
_PART = 1.0 if FULL else float(_SAID or 0.01)

#: Marks the tests of a module.
ENDURANCE = pytest.mark.skipif(_SAID is None, reason="PINSOCK_ENDURANCE is not set")

# What is counted: whatever there is once for each connection.
_KINDS = (_engine.Engine, PinnedSocket, PinnedObject)
_MIB = 2**20


def amount(full: int, least: int) -> int:
    """How many, where all of them are ``full``."""
    return max(least, round(full * _PART))


def say(what: str, **numbers: object) -> None:
    """Print numbers; pytest shows them with ``-s``."""
    print(f"\n{what}: " + ", ".join(f"{name} {number}" for name, number in numbers.items()))


def descriptors() -> dict[str, str]:
    """The open descriptors of this process, with what each leads to."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # the one that has listed them
            continue
    return found


def live() -> Counter[str]:
    """How many objects of each connection's kinds there are, garbage that waits for gc included."""
    # By type: isinstance() would ask proxies for their __class__.
    return Counter(
        kind.__name__
        for each in gc.get_objects()
        for kind in _KINDS
        if issubclass(type(each), kind)
    )


@dataclass(frozen=True)
class Held:
    """What this process holds at one moment."""

    descriptors: int
    objects: Counter[str]
    #: Resident memory, in MiB.
    memory: float

    @classmethod
    def now(cls) -> Held:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        memory = pages * os.sysconf("SC_PAGESIZE") / _MIB
        return cls(len(descriptors()), live(), round(memory, 1))


def settle(condition: Callable[[], bool], what: str, timeout: float = 10.0) -> None:
    """Wait until something is so that nobody tells of, in short steps."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, what
        os.sched_yield()


class Puppet:
    """A peer of the standard library that sends as many of its bytes as it is told to.

    Its TLS is in memory, and its bytes go through ``sock`` by hand.

    Args:
        sock: a connected socket, with a timeout.
        context: a plain ``ssl.SSLContext``.
        limit: how many bytes it sends in its handshake before it stops.
    """

    def __init__(
        self,
        sock: socket.socket,
        context: ssl.SSLContext,
        *,
        server_side: bool = False,
        limit: int | None = None,
    ) -> None:
        self.sock = sock
        self.sent = 0
        self.peer = peers.MemoryPeer(
            context,
            server_side=server_side,
            server_hostname=None if server_side else "localhost",
        )
        self._limit = limit

    def flush(self) -> bool:
        """Send what there is to send, up to the limit; return whether all was sent."""
        data = self.peer.outgoing.read()
        whole = self._limit is None or self.sent + len(data) <= self._limit
        if not whole:
            assert self._limit is not None
            data = data[: self._limit - self.sent]
        self.sock.sendall(data)
        self.sent += len(data)
        return whole

    def shake(self) -> bool:
        """Shake hands; return False if the limit came first.

        Raises:
            Exception: the handshake failed.
        """
        while True:
            self.peer.step()
            if not self.flush():
                return False
            if self.peer.settled:
                break
            data = self.sock.recv(65536)
            if data:
                self.peer.incoming.write(data)
            else:
                self.peer.incoming.write_eof()
        if self.peer.record.error is not None:
            raise self.peer.record.error
        return True
