"""Whatever becomes of a client's bytes, a server either finds its pin or never completes.

More closely: nothing escapes but ``ssl.SSLError`` (and on sockets what an ``OSError`` is); a client
that does not match reads and writes no data, and ``pin_match`` stays None; no ticket is issued;
what is read is the beginning of what was sent, and a lost connection is not taken for its end; the
server neither hangs nor sends without end.  A ClientHello is the same in whatever pieces it comes,
and what is none is refused, on sockets as in memory.
"""

from __future__ import annotations

import socket
import ssl

from fuzz import flights
from fuzz.harness import Supply, run
from pinsock._hello import HelloReader

__all__ = ["seeds", "test_one_input"]


def _greet(supply: Supply) -> None:
    """A greeting of any bytes, on a socket: the engine reads it itself, up to its end."""
    version = supply.choice(flights.VERSIONS)
    size = supply.number(255) + 1
    hello = flights.earlier(version, server_side=True)[0]
    at = supply.number(255)
    cut = supply.number(64)
    data = hello[:at] + supply.rest() + hello[at + cut :]

    at_once, piecewise = HelloReader(), HelloReader()
    at_once.feed(data)
    for start in range(0, len(data), size):
        piecewise.feed(data[start : start + size])
    assert (at_once.done, at_once.hello) == (piecewise.done, piecewise.hello)

    near, far = socket.socketpair()
    context = flights.pinned("ca", version, server_side=True)
    with near, context.wrap_socket(far, server_side=True, do_handshake_on_connect=False) as server:
        near.setblocking(False)
        server.settimeout(0)
        size = max(size, len(data) // 16 + 1)
        failed = False
        for piece in (*(data[at : at + size] for at in range(0, len(data), size)), b""):
            if piece:
                near.sendall(piece)
            else:
                near.shutdown(socket.SHUT_WR)
            try:
                server.do_handshake()
            except ssl.SSLWantReadError:
                if failed or not piece:
                    raise AssertionError("waits for more after the end") from None
            except (ssl.SSLError, ConnectionError):
                failed = True
            else:
                raise AssertionError("a handshake of one message")
            assert server.pin_match is None
        assert failed


def test_one_input(data: bytes) -> None:
    """Greet a server, or let a script happen to a connection; see :mod:`fuzz.flights`."""
    supply = Supply(data)
    if supply.number(4) == 1:
        _greet(supply)
        return
    scene = flights.Scene.of(supply, server_side=True)
    flights.Drive(scene, supply, flights.earlier(scene.version, server_side=True)).run()


def seeds() -> dict[str, bytes]:
    """The corpus, by name."""
    connections = flights.seeds(server_side=True)
    return {
        **{name: b"\0" + data for name, data in connections.items()},
        "greeting_1.2": bytes((1, 0, 254, 254, 0)),
        "greeting_1.3": bytes((1, 1, 254, 254, 0)),
        "greeting_by_bytes": bytes((1, 1, 0, 254, 0)),
        "greeting_http": bytes((1, 1, 254, 0, 63)) + b"GET / HTTP/1.0\r\n\r\n",
        "greeting_cut": bytes((1, 0, 3, 40, 63)),
        "greeting_longer_list": bytes((1, 0, 3, 44, 2)) + b"\xff\xff",
        "greeting_split": bytes((1, 1, 7, 0, 5)) + b"\x16\3\1\0\2\1\0\x16\3\1\0\1",
        "greeting_nothing": bytes((1, 0, 254, 0, 5)) + b"\x16\3\1\0\0" * 8,
        "greeting_alert": bytes((1, 0, 254, 0, 0)) + b"\x15\3\1\0\2\2\x28",
    }


if __name__ == "__main__":
    flights.quiet()
    run(test_one_input)
