"""Whatever becomes of a server's bytes, a client either finds its pin or never completes.

More closely: nothing escapes but ``ssl.SSLError``; a server that does not match gets neither the
client's certificate nor Finished nor data, and ``pin_match`` stays None; what is read is the
beginning of what was sent, and a lost connection is not taken for its end; the client neither hangs
nor sends without end.  A handshake to which nothing happens ends as it has to.
"""

from __future__ import annotations

from fuzz import flights
from fuzz.harness import Supply, run

__all__ = ["seeds", "test_one_input"]


def test_one_input(data: bytes) -> None:
    """Let a script happen to a connection; see :mod:`fuzz.flights`."""
    supply = Supply(data)
    scene = flights.Scene.of(supply, server_side=False)
    flights.Drive(scene, supply, flights.earlier(scene.version, server_side=False)).run()


def seeds() -> dict[str, bytes]:
    """The corpus, by name."""
    return flights.seeds(server_side=False)


if __name__ == "__main__":
    flights.quiet()
    run(test_one_input)
