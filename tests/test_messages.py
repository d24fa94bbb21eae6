"""``_msg_callback``, the private debugging hook of ``ssl`` that its tests and some tools use."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

from pinsock import PinnedContext
from tests.certificates import make_chain
from tests.peers import fix_version

CHAIN = make_chain(2)
Seen = list[tuple[Any, ...]]


def context(flavour: str, version: ssl.TLSVersion, *, server_side: bool = False) -> Any:
    protocol = ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT
    made = ssl.SSLContext(protocol) if flavour == "ssl" else PinnedContext(protocol, pins=None)
    (CHAIN.configure if server_side else CHAIN.trust)(made)
    fix_version(made, version)
    return made


class End:
    """One end of a connection in memory; tests.peers has callbacks of its own."""

    def __init__(self, made: Any, *, server_side: bool) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = None if server_side else "localhost"
        self.obj = made.wrap_bio(self.incoming, self.outgoing, server_side, name)
        self.error: Exception | None = None

    def step(self, other: End) -> None:
        """Go on with the handshake, and carry over what is written."""
        if self.error is None:
            try:
                self.obj.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except Exception as error:
                self.error = error
        self.flush(other)

    def flush(self, other: End) -> None:
        """Carry over what is written."""
        other.incoming.write(self.outgoing.read())


def talk(one: Any, other: Any, server_side: bool) -> tuple[End, End]:
    ours, theirs = End(one, server_side=server_side), End(other, server_side=not server_side)
    for _ in range(4):
        for end, far in ((ours, theirs), (theirs, ours))[:: -1 if server_side else 1]:
            end.step(far)
    return ours, theirs


@pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])
def test_the_callback_sees_what_it_sees_with_ssl(
    tls_version: ssl.TLSVersion, server_side: bool
) -> None:
    """The same messages in the same order, of the same types; and whose they are."""
    told: dict[str, list[tuple[object, ...]]] = {}
    for flavour in ("ssl", "unpinned"):
        seen: Seen = []
        made = context(flavour, tls_version, server_side=server_side)
        # An older OpenSSL sends one CertificateVerify, KeyShare, ... of other sizes: not the bytes.
        made._msg_callback = lambda *told, seen=seen: seen.append(told)
        assert made._msg_callback is not None
        ours, theirs = talk(
            made, context("ssl", tls_version, server_side=not server_side), server_side
        )
        assert ours.error is None
        theirs.obj.write(b"data")
        theirs.flush(ours)
        assert ours.obj.read(99) == b"data"
        assert all(owner is ours.obj for owner, *_ in seen)
        assert all(isinstance(data, bytes) and data for *_, data in seen)
        told[flavour] = [
            (direction, version, type(version), content, type(content), message, type(message))
            for _, direction, version, content, message, _ in seen
            # A newer OpenSSL tells of the one that TLS 1.3 receives and ignores.
            if (direction, content) != ("read", 20)
        ]
    assert told["unpinned"] == told["ssl"]
    assert len(told["ssl"]) > 10


def test_the_callback_sees_alerts() -> None:
    """With the number of the alert, as its name."""
    seen: Seen = []
    client, server = PinnedContext(pins=None), PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=None)
    CHAIN.configure(server)
    server._msg_callback = lambda *told: seen.append(told)
    talk(client, server, False)  # the client trusts nobody
    alerts = [message for _, _, _, content, message, _ in seen if content == 21]
    assert [alert.name for alert in alerts] == ["UNKNOWN_CA"]


def test_what_is_no_message_of_ssl_is_a_number() -> None:
    """Types that the enumerations of ssl do not have come as they are."""
    seen: Seen = []
    made = PinnedContext(pins=None)
    made._msg_callback = lambda *told: seen.append(told)
    made._on_message(None, True, 0x1234, 99, b"\xfe")
    assert seen == [(None, "write", 0x1234, 99, 0xFE, b"\xfe")]
    made._msg_callback = None
    made._on_message(None, True, 0x1234, 99, b"\xfe")
    assert len(seen) == 1


@pytest.mark.parametrize("flavour", ["ssl", "unpinned"])
def test_a_callback_has_to_be_callable(flavour: str) -> None:
    """Anything else is a TypeError, in the words of ssl."""
    made = context(flavour, ssl.TLSVersion.TLSv1_3)
    with pytest.raises(TypeError, match=r"^3 is not callable\.$"):
        made._msg_callback = 3
    made._msg_callback = None
    assert made._msg_callback is None


def failing(*_told: object) -> None:
    raise ZeroDivisionError("in the callback")


def test_what_the_callback_raises_ends_the_handshake(tls_version: ssl.TLSVersion) -> None:
    """It comes out of the call, and the connection is over; with ssl it comes out at the end."""
    made = context("unpinned", tls_version)
    made._msg_callback = failing
    ours = End(made, server_side=False)
    with pytest.raises(ZeroDivisionError, match="in the callback"):
        ours.obj.do_handshake()
    made._msg_callback = None
    with pytest.raises(ssl.SSLError):
        ours.obj.do_handshake()


@pytest.mark.parametrize("flavour", ["ssl", "unpinned"])
def test_what_the_callback_raises_comes_out_of_a_read(
    flavour: str, tls_version: ssl.TLSVersion
) -> None:
    """In place of the data."""
    made = context(flavour, tls_version)
    later: list[bool] = []
    made._msg_callback = lambda *told: failing() if later else None
    ours, theirs = talk(made, context("ssl", tls_version, server_side=True), False)
    assert ours.error is None
    theirs.obj.write(b"data")
    theirs.flush(ours)
    later.append(True)
    with pytest.raises(ZeroDivisionError, match="in the callback"):
        ours.obj.read(1)
