"""Descriptors and memory that run out, signals that interrupt, and forks in the middle."""

from __future__ import annotations

import random
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

from pinsock import PinMismatchError, PinnedContext, PinSet
from tests import peers
from tests.certificates import make_chain, spki_pin
from tests.endurance.amounts import ENDURANCE, FULL, amount, say
from tests.endurance.test_integrity import receive_stream, send_stream
from tests.peers import StdlibServer, fix_version
from tests.test_sockets import start

pytestmark = ENDURANCE

ROOT = Path(__file__).parent.parent.parent
CHAIN = make_chain(3)
PIN, WRONG = spki_pin(CHAIN.leaf), spki_pin(make_chain(1, pool=5).leaf)
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
MIB = 2**20


def child(what: str, *options: str, expected: str = "\n") -> list[str]:
    """Run something in a process of its own, and return what it printed.

    Args:
        what: what :mod:`tests.endurance.child` calls it.
        options: for the interpreter.
        expected: how a line may begin on standard error; by default there may be none.
    """
    with StdlibServer(CHAIN, timeout=60) as server:
        ran = subprocess.run(
            [sys.executable, *options, "-m", "tests.endurance.child", what, str(server.port)],
            input=CHAIN.root_pem,
            capture_output=True,
            text=True,
            timeout=3000 if FULL else 100,
            cwd=ROOT,
            check=False,
        )
    print(ran.stdout)
    lines = ran.stdout.splitlines()
    assert (lines[-1:], ran.returncode) == (["done"], 0), ran.stderr
    told = [line for line in ran.stderr.splitlines() if not line.startswith(expected)]
    assert not told, told
    return lines[:-1]


def test_no_descriptors_are_left() -> None:
    """Each operation works or says why it cannot, leaves nothing open, and works again later."""
    lines = child("descriptors", expected="the pins stay as they were: ")
    seen = {name: outcomes for name, *outcomes in (line.rsplit(" ", 9) for line in lines)}
    # A handshake on a socket that is there needs none.
    assert set(seen["wrap_socket"]) == {"ok"}
    # A file of pins that cannot be read leaves the pins as they were, and the log says so.
    assert set(seen["PinFile"]) == {"ok"}
    for name in ("TofuStore", "load_verify_locations", "load_cert_chain", "key log"):
        assert seen[name][0] != "ok", name
        assert seen[name][-1] == "ok", name


def test_no_memory_is_left() -> None:
    """load_*() raises MemoryError or an SSLError, and the process is still there."""
    # Default authorities that cannot be read are none, and the log says so; ssl says nothing.
    for line in child("memory", expected="cannot read the default certificates: "):
        assert "SIG" not in line, line


def test_forks_leave_connections_alone() -> None:
    """Parent and child each go on with their own, and nobody waits for a thread that is no more."""
    child("fork", "-W", "ignore:This process")


# Signals -----------------------------------------------------------------------------------------


@pytest.fixture
def storm() -> Iterator[list[int]]:
    """A signal every half millisecond, with a handler in Python; how many there were."""
    count = [0]

    def handle(_number: int, _frame: FrameType | None) -> None:
        count[0] += 1

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    yield count
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_signals_lose_nothing(storm: list[int]) -> None:
    """Handshakes, refusals and transfers, interrupted all the time: as if there had been none."""
    handshakes, volume = amount(4000, 40), amount(256 * MIB, 2 * MIB)
    began = time.monotonic()
    for number in range(handshakes):
        made = PinnedContext(pins=PinSet({"leaf": WRONG if number % 2 else PIN}))
        CHAIN.trust(made)
        fix_version(made, VERSIONS[number // 2 % 2])
        with StdlibServer(CHAIN) as server:
            seen = peers.stdlib_client(server.address, made)
            told = server.observation()
        if number % 2:
            assert isinstance(seen.error, PinMismatchError)
            assert told.alert == "bad_certificate"
        else:
            assert seen.error is None
            assert seen.data == told.data == b"ping"
    with StdlibServer(CHAIN) as server:
        made = PinnedContext(pins=PinSet({"leaf": PIN}))
        CHAIN.trust(made)
        for reading in (False, True):
            # The signals come to this thread; once it writes, and once it reads.
            with made.wrap_socket(server.connect(), server_hostname="localhost") as tls:
                work = [(send_stream, random.Random(1)), (receive_stream, random.Random(2))]
                (there, chance), (here, other) = work if reading else work[::-1]
                elsewhere = start(there, tls, volume, chance)
                results = {here(tls, volume, other), elsewhere.result(600)}
                assert results == {None, volume}
    assert storm[0] > handshakes
    say(
        f"{handshakes} handshakes and {4 * volume / MIB:.0f} MiB",
        signals=storm[0],
        seconds=round(time.monotonic() - began, 1),
    )
