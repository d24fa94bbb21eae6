"""Pinned objects do what ``ssl.SSLObject`` does on a pair of ``ssl.MemoryBIO``: tests for both.

Nothing here waits: there is no thread and no socket, and the same bytes come in the same order.
"""

from __future__ import annotations

import contextlib
import functools
import ssl
from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinsock import (
    Pin,
    PinMatch,
    PinMismatchError,
    PinnedContext,
    PinnedObject,
    PinSet,
    _engine,
    _openssl,
)
from tests import certificates, peers
from tests.certificates import make_chain
from tests.error_queue import leave_an_error, what_is_left
from tests.peers import MemoryPeer, exchange, shake

#: What is compared: the standard library itself, ours without pins, ours with.
FLAVOURS = ("ssl", "unpinned", "pinned")
MUCH = bytes(range(256)) * 4 * 5 * 1024

# Both sides present the same chain, so that both can be verified and pinned.
CHAIN = make_chain(3)
PIN = certificates.spki_pin(CHAIN.leaf)
WRONG = Pin("spki", "sha256", bytes(32))

Pair = Callable[..., "tuple[MemoryPeer, MemoryPeer]"]


@functools.cache
def context(flavour: str, version: ssl.TLSVersion, server_side: bool = False) -> ssl.SSLContext:
    """A context that verifies its peer, on whichever side it is."""
    protocol = ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT
    made: ssl.SSLContext
    if flavour == "ssl":
        made = ssl.SSLContext(protocol)
    else:
        pins = PinSet({"leaf": PIN}) if flavour == "pinned" else None
        made = PinnedContext(protocol, pins=pins)
    peers.fix_version(made, version)
    CHAIN.trust(made)
    CHAIN.configure(made)
    made.verify_mode = ssl.CERT_REQUIRED
    return made


@pytest.fixture(params=FLAVOURS)
def flavour(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[False, True], ids=["client", "server"])
def server_side(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def pair(flavour: str, tls_version: ssl.TLSVersion, server_side: bool) -> Pair:
    """Make pairs joined in memory: ours, and the standard library's at the other end."""

    def make(*, handshake: bool = True) -> tuple[MemoryPeer, MemoryPeer]:
        ours, theirs = (
            MemoryPeer(
                context(kind, tls_version, side),
                server_side=side,
                server_hostname=None if side else "localhost",
            )
            for kind, side in ((flavour, server_side), ("ssl", not server_side))
        )
        if handshake:
            seen = shake(*((theirs, ours) if server_side else (ours, theirs)))
            assert [side.error for side in seen] == [None, None]
        return ours, theirs

    return make


# The handshake -----------------------------------------------------------------------------------


def test_a_handshake_wants_bytes_and_says_nothing_twice(pair: Pair, server_side: bool) -> None:
    """SSLWantReadError while the peer's bytes are not there, and no byte is written anew."""
    ours, _theirs = pair(handshake=False)
    with pytest.raises(ssl.SSLWantReadError, match=r"did not complete \(read\)"):
        ours.obj.do_handshake()
    assert bool(ours.outgoing.read()) is not server_side
    for call in (ours.obj.do_handshake, ours.obj.read, lambda: ours.obj.write(b"x")):
        with pytest.raises(ssl.SSLWantReadError):
            call()
    assert ours.outgoing.pending == 0
    assert ours.obj.version() is None


def test_bytes_may_come_one_by_one(pair: Pair, flavour: str) -> None:
    """A handshake and data, fed to the object byte by byte."""
    ours, theirs = pair(handshake=False)
    for _ in range(20):
        for peer in (ours, theirs):
            if not peer.settled:
                peer.step()
        theirs.incoming.write(ours.outgoing.read())
        for i in theirs.outgoing.read():
            ours.incoming.write(bytes([i]))
            if not ours.settled:
                ours.step()
            else:
                ours.read()
        if ours.settled and theirs.settled and not ours.outgoing.pending:
            break
    assert ours.record.error is theirs.record.error is None
    theirs.obj.write(b"data")
    received = b""
    for i in theirs.outgoing.read():
        assert not received
        ours.incoming.write(bytes([i]))
        received += ours.read()
    assert received == b"data"
    if flavour == "pinned":
        assert isinstance(ours.obj, PinnedObject)
        assert ours.obj.pin_match == PinMatch(0, Pin.parse(PIN), "leaf")


def test_reading_or_writing_shakes_hands_first(pair: Pair, server_side: bool) -> None:
    """write() and read() without do_handshake() run the handshake."""
    ours, theirs = pair(handshake=False)
    written = 0
    for _ in range(10):
        try:
            written = written or ours.obj.write(b"data")
        except ssl.SSLWantReadError:
            pass
        ours.flush(theirs)
        if theirs.settled:
            theirs.read()
        else:
            theirs.step()
        theirs.flush(ours)
    assert written == 4
    assert theirs.record.data == b"data"
    with pytest.raises(ssl.SSLWantReadError):
        ours.obj.read()


@pytest.mark.parametrize("moment", ["at once", "in the middle"])
def test_the_end_of_the_stream_ends_the_handshake(pair: Pair, moment: str) -> None:
    """write_eof() on `incoming` before the handshake is done is an SSLEOFError."""
    ours, theirs = pair(handshake=False)
    if moment == "in the middle":
        for first, second in ((ours, theirs), (theirs, ours)):
            first.step()
            first.outgoing.write(first.outgoing.read()[:-1] if first is theirs else b"")
            first.flush(second)
        ours.step()
        ours.outgoing.read()
    assert ours.record.error is None
    ours.incoming.write_eof()
    ours.step()
    assert isinstance(ours.record.error, ssl.SSLEOFError)
    assert ours.record.error.errno == ssl.SSL_ERROR_EOF
    assert "EOF occurred in violation of protocol" in str(ours.record.error)
    assert not ours.settled or not ours.record.completed


def test_a_mismatch_leaves_its_alert_in_outgoing(tls_version: ssl.TLSVersion) -> None:
    """The caller has to send what the failed handshake has written: the alert is in it."""
    made = context("unpinned", tls_version)
    assert isinstance(made, PinnedContext)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = made.wrap_bio(incoming, outgoing, server_hostname="localhost", pins=WRONG)
    theirs = MemoryPeer(context("ssl", tls_version, True), server_side=True)
    with pytest.raises(ssl.SSLWantReadError):
        ours.do_handshake()
    theirs.incoming.write(outgoing.read())
    theirs.step()
    incoming.write(theirs.outgoing.read())
    with pytest.raises(PinMismatchError):
        ours.do_handshake()
    assert outgoing.pending
    theirs.incoming.write(outgoing.read())
    theirs.step()
    assert theirs.observation.alert == "bad_certificate"
    for call in (ours.do_handshake, ours.read, lambda: ours.write(b"x")):
        with pytest.raises(PinMismatchError):
            call()
    assert ours.pin_match is None


# Data --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 16384, 16385, 100_000])
def test_data_goes_both_ways(pair: Pair, size: int) -> None:
    """One write, of less or more than a record, arrives whole."""
    ours, theirs = pair()
    assert exchange(ours, theirs, MUCH[:size]) == MUCH[:size]
    assert exchange(theirs, ours, MUCH[:size]) == MUCH[:size]


def test_megabytes_are_written_at_once(pair: Pair) -> None:
    """write() never waits for room: all of it is in `outgoing`."""
    ours, theirs = pair()
    assert ours.obj.write(MUCH) == len(MUCH)
    assert ours.outgoing.pending > len(MUCH)
    ours.flush(theirs)
    assert theirs.read() == MUCH


def test_megabytes_are_read_as_they_come(pair: Pair) -> None:
    """What does not fit in one read is there for the next, and pending() tells."""
    ours, theirs = pair()
    theirs.obj.write(MUCH)
    theirs.flush(ours)
    received = bytearray(ours.obj.read(1000))
    assert len(received) == 1000
    assert ours.obj.pending() == 16384 - 1000
    buffer = bytearray(7000)
    while len(received) < len(MUCH):
        received += buffer[: cast(int, ours.obj.read(7000, buffer))]
    assert received == MUCH
    with pytest.raises(ssl.SSLWantReadError):
        ours.obj.read(1)


def test_half_a_record_is_kept(pair: Pair) -> None:
    """Half a record wants more; with the other half there is the data."""
    ours, theirs = pair()
    theirs.obj.write(b"data")
    record = theirs.outgoing.read()
    ours.incoming.write(record[:10])
    with pytest.raises(ssl.SSLWantReadError):
        ours.obj.read(9)
    assert ours.obj.write(b"meanwhile") == 9
    ours.incoming.write(record[10:])
    assert ours.obj.read(9) == b"data"
    ours.flush(theirs)
    assert theirs.read() == b"meanwhile"


def test_a_damaged_record_is_an_error(pair: Pair) -> None:
    """One flipped bit is an SSLError, and stays one."""
    ours, theirs = pair()
    theirs.obj.write(b"data")
    record = bytearray(theirs.outgoing.read())
    record[-1] ^= 1
    ours.incoming.write(record)
    with pytest.raises(ssl.SSLError, match=r"BAD_RECORD_MAC|RECORD_LAYER_FAILURE") as caught:
        ours.obj.read(9)
    assert caught.value.library == "SSL"
    with pytest.raises(ssl.SSLError):
        ours.obj.read(9)


# Several records in one read ---------------------------------------------------------------------

RECORD = 2**14


def _read_into(ours: MemoryPeer, size: int) -> bytes:
    buffer = bytearray(size)
    return bytes(buffer[: cast(int, ours.obj.read(size, buffer))])


readers = pytest.mark.parametrize(
    "read", [lambda ours, size: ours.obj.read(size), _read_into], ids=["read", "read into"]
)
Read = Callable[[MemoryPeer, int], bytes]


@readers
def test_a_read_takes_the_full_records_that_are_there(
    pair: Pair, flavour: str, read: Read
) -> None:
    """Up to the one that is not full, where a message ends; ssl takes one at a time."""
    ours, theirs = pair()
    theirs.obj.write(MUCH[: 2 * RECORD + 100])
    theirs.obj.write(b"another message")
    theirs.flush(ours)
    first = read(ours, 4 * RECORD)
    assert first == MUCH[: RECORD if flavour == "ssl" else 2 * RECORD + 100]
    rest = b"".join(read(ours, 4 * RECORD) for _ in range(3 if flavour == "ssl" else 1))
    assert first + rest == MUCH[: 2 * RECORD + 100] + b"another message"


@readers
@pytest.mark.parametrize("behind", ["damage", "goodbye", "end"])
def test_what_is_wrong_behind_a_full_record_is_said_by_the_next_read(
    pair: Pair, read: Read, behind: str
) -> None:
    """No byte is lost for it, and the error is the one that OpenSSL says once."""
    ours, theirs = pair()
    theirs.obj.write(MUCH[:RECORD])
    theirs.flush(ours)
    if behind == "damage":
        theirs.obj.write(b"data")
        record = bytearray(theirs.outgoing.read())
        record[-1] ^= 1
        ours.incoming.write(record)
    elif behind == "goodbye":
        with pytest.raises(ssl.SSLWantReadError):
            theirs.obj.unwrap()
        theirs.flush(ours)
    ours.incoming.write_eof()
    assert read(ours, 4 * RECORD) == MUCH[:RECORD]
    if behind == "damage":
        with pytest.raises(ssl.SSLError, match=r"BAD_RECORD_MAC|RECORD_LAYER_FAILURE"):
            read(ours, 4 * RECORD)
        with pytest.raises(ssl.SSLError):
            read(ours, 1)
    elif behind == "goodbye":
        assert read(ours, 4 * RECORD) == b""
    else:
        for _ in range(2):
            with pytest.raises(ssl.SSLEOFError):
                read(ours, 4 * RECORD)


@pytest.mark.parametrize(("size", "name"), [(9, "_spare_records"), (4 * RECORD, "_spare_runs")])
def test_memory_for_reads_is_used_again_and_bounded(
    pair: Pair, flavour: str, size: int, name: str
) -> None:
    """A read takes what another has left, and what many at a time have used is not all kept."""
    ours, theirs = pair()
    spare = getattr(_engine, name)
    spare.clear()
    for expected in (b"one", b"two"):
        theirs.obj.write(expected)
        theirs.flush(ours)
        assert ours.obj.read(size) == expected
        if flavour != "ssl":
            assert spare[-1].view[:3] == expected
            assert len(spare) == 1
    assert spare.maxlen is not None


# The end -----------------------------------------------------------------------------------------


def test_a_goodbye_ends_the_stream(pair: Pair) -> None:
    """Behind the data comes b"", or 0, as often as it is asked for; then it can be answered."""
    ours, theirs = pair()
    theirs.obj.write(b"last")
    with pytest.raises(ssl.SSLWantReadError):
        theirs.obj.unwrap()
    theirs.flush(ours)
    assert ours.obj.read(9) == b"last"
    for _ in range(3):
        assert ours.obj.read(9) == b""
        assert cast(int, ours.obj.read(9, bytearray(9))) == 0
    ours.obj.unwrap()
    ours.flush(theirs)
    theirs.obj.unwrap()


def test_unwrap_waits_for_the_answer(pair: Pair) -> None:
    """unwrap() says goodbye once and wants the peer's; with it, it is done."""
    ours, theirs = pair()
    for _ in range(2):
        with pytest.raises(ssl.SSLWantReadError):
            ours.obj.unwrap()
    assert ours.flush(theirs)
    assert not ours.outgoing.pending
    assert theirs.obj.read(9) == b""
    theirs.obj.unwrap()
    theirs.flush(ours)
    ours.obj.unwrap()


@pytest.mark.parametrize("together", [True, False])
def test_what_comes_behind_the_goodbye_stays_readable(pair: Pair, together: bool) -> None:
    """unwrap() leaves what is not TLS any more in `incoming`, for the caller."""
    ours, theirs = pair()
    with pytest.raises(ssl.SSLWantReadError):
        ours.obj.unwrap()
    ours.flush(theirs)
    theirs.obj.unwrap()
    if together:
        ours.incoming.write(theirs.outgoing.read() + b"clear text")
        ours.obj.unwrap()
    else:
        theirs.flush(ours)
        ours.obj.unwrap()
        ours.incoming.write(b"clear text")
    assert ours.incoming.read() == b"clear text"


@pytest.mark.parametrize("begun", [3, 10])
def test_what_comes_behind_the_goodbye_stays_in_order(pair: Pair, begun: int) -> None:
    """Likewise when the beginning of the goodbye was read before unwrap() was called."""
    ours, theirs = pair()
    with pytest.raises(ssl.SSLWantReadError):
        theirs.obj.unwrap()
    goodbye = theirs.outgoing.read()
    ours.incoming.write(goodbye[:begun])
    with pytest.raises(ssl.SSLWantReadError):
        ours.obj.read(1)
    clear = bytes(range(256)) * 400
    ours.incoming.write(goodbye[begun:] + clear)
    ours.obj.unwrap()
    assert ours.incoming.read() == clear


@given(
    st.lists(st.binary(max_size=9), max_size=5),
    st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=20),
)
def test_records_are_followed_however_they_come(
    bodies: list[bytes], pieces: list[tuple[int, bool]]
) -> None:
    """What is taken one at a time is no more than what is left of the record that has begun."""
    stream = b"".join(b"\x17\3\3" + len(each).to_bytes(2, "big") + each for each in bodies)
    ends = [0]  # where something ends: a header, or a body
    for each in bodies:
        ends += [ends[-1] + 5, ends[-1] + 5 + len(each)]
    at = 0
    records = _engine._Records()
    for size, one in pieces:
        if one:
            size = records.wanted
            assert at + size == min([each for each in ends if each > at], default=at + 5)
        piece = stream[at : at + size]
        records.follow(piece)
        at += len(piece)


def read_with_data(ours: MemoryPeer, theirs: MemoryPeer, clear: bytes) -> None:
    """Have data read, and the goodbye with it, and what comes behind that."""
    theirs.obj.write(b"data")
    theirs.flush(ours)
    with pytest.raises(ssl.SSLWantReadError):
        theirs.obj.unwrap()
    ours.incoming.write(theirs.outgoing.read() + clear)
    assert ours.obj.read(4) == b"data"


def test_what_comes_in_pieces_behind_the_goodbye_stays_in_order(pair: Pair) -> None:
    """Likewise when the first of it was read together with what came before the goodbye."""
    ours, theirs = pair()
    read_with_data(ours, theirs, b"cle")
    ours.incoming.write(b"ar text and more")
    ours.obj.unwrap()
    assert ours.incoming.read() == b"clear text and more"


def test_what_comes_behind_the_goodbye_stays_readable_also_at_the_end(pair: Pair) -> None:
    """Likewise when the peer has closed the stream behind its clear text."""
    ours, theirs = pair()
    with pytest.raises(ssl.SSLWantReadError):
        ours.obj.unwrap()
    ours.flush(theirs)
    theirs.obj.unwrap()
    ours.incoming.write(theirs.outgoing.read() + b"clear text")
    ours.incoming.write_eof()
    ours.obj.unwrap()
    assert ours.incoming.read() == b"clear text"


def test_what_comes_behind_the_goodbye_is_not_lost_without_a_word(
    pair: Pair, flavour: str
) -> None:
    """What was read together with it cannot be put back behind the end of the stream."""
    ours, theirs = pair()
    read_with_data(ours, theirs, b"clear text")
    ours.incoming.write(b" and more")
    ours.incoming.write_eof()
    if flavour == "ssl":
        ours.obj.unwrap()
        assert ours.incoming.read() == b"clear text and more"
    else:
        with pytest.raises(ssl.SSLError, match="is lost") as caught:
            ours.obj.unwrap()
        assert caught.value.library is None


def test_a_ragged_end_is_an_error(pair: Pair) -> None:
    """The end of `incoming` without close_notify is an SSLEOFError, behind all the data."""
    ours, theirs = pair()
    theirs.obj.write(b"last")
    theirs.flush(ours)
    ours.incoming.write_eof()
    assert ours.obj.read(9) == b"last"
    for _ in range(3):
        with pytest.raises(ssl.SSLEOFError, match="EOF occurred in violation of protocol"):
            ours.obj.read(9)


def test_an_alert_is_no_goodbye(pair: Pair, flavour: str) -> None:
    """A peer that gives up has not said all; ssl says so once, or as often as its OpenSSL does."""
    ours, theirs = pair()
    ours.obj.write(b"data")
    record = bytearray(ours.outgoing.read())
    record[-1] ^= 1
    theirs.incoming.write(record)
    theirs.read()
    assert theirs.record.error is not None
    theirs.flush(ours)
    with pytest.raises(ssl.SSLError, match="BAD_RECORD_MAC"):
        ours.obj.read(9)
    for _ in range(0 if flavour == "ssl" else 3):
        with pytest.raises(ssl.SSLError):
            ours.obj.read(9)


def test_an_alert_is_no_goodbye_where_openssl_takes_it_for_one(
    pair: Pair, flavour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenSSL 3 says of the reads behind an alert that the stream has come to its end."""
    if flavour == "ssl":
        pytest.skip("this is about ours")
    ours, theirs = pair()
    ours.obj.write(b"data")
    record = bytearray(ours.outgoing.read())
    record[-1] ^= 1
    theirs.incoming.write(record)
    theirs.read()
    theirs.flush(ours)
    with pytest.raises(ssl.SSLError, match="BAD_RECORD_MAC"):
        ours.obj.read(9)
    monkeypatch.setattr(_openssl, "ssl_get_error", lambda *_: _openssl.ERROR_ZERO_RETURN)
    monkeypatch.setattr(_openssl, "received_shutdown_only", lambda *_: True)
    for _ in range(2):
        with pytest.raises(ssl.SSLError) as caught:
            ours.obj.read(9)
        assert type(caught.value) is ssl.SSLError


@readers
def test_what_others_leave_in_the_error_queue_is_not_ours(
    pair: Pair, flavour: str, read: Read
) -> None:
    """Neither where there is nothing to be read, nor at a goodbye, nor where it is cut short."""
    if flavour == "ssl":
        pytest.skip("its OpenSSL is another")
    for ending in ("goodbye", "cut short"):
        leave_an_error()
        ours, theirs = pair()
        leave_an_error()
        with pytest.raises(ssl.SSLWantReadError):
            read(ours, 9)
        leave_an_error()
        theirs.obj.write(b"data")
        theirs.flush(ours)
        assert read(ours, 9) == b"data"
        leave_an_error()
        if ending == "goodbye":
            with pytest.raises(ssl.SSLWantReadError):
                theirs.obj.unwrap()
            theirs.flush(ours)
            assert read(ours, 9) == b""
        else:
            ours.incoming.write_eof()
            with pytest.raises(ssl.SSLEOFError):
                read(ours, 9)
            assert not what_is_left()


@readers
@pytest.mark.parametrize("what", ["forged", "alert"])
def test_what_others_leave_in_the_error_queue_hides_nothing(
    pair: Pair, flavour: str, read: Read, what: str
) -> None:
    """A forged record, and an alert, are what is said: neither that there is more, nor an end."""
    if flavour == "ssl":
        pytest.skip("its OpenSSL is another")
    ours, theirs = pair()
    writer, reader = (theirs, ours) if what == "forged" else (ours, theirs)
    writer.obj.write(b"data")
    record = bytearray(writer.outgoing.read())
    record[-1] ^= 1
    reader.incoming.write(record)
    leave_an_error()
    with pytest.raises(ssl.SSLError) as caught:
        reader.obj.read(9) if what == "alert" else read(ours, 9)
    if what == "alert":
        theirs.flush(ours)
        leave_an_error()
        with pytest.raises(ssl.SSLError) as caught:
            read(ours, 9)
    assert type(caught.value) is ssl.SSLError
    assert caught.value.reason != "NO_CIPHER_MATCH"
    assert ("ALERT" in caught.value.reason) is (what == "alert")


def test_half_a_record_at_the_end_is_no_data(pair: Pair) -> None:
    """A truncated record is an SSLEOFError, and nothing of it is given out."""
    ours, theirs = pair()
    theirs.obj.write(b"last")
    ours.incoming.write(theirs.outgoing.read()[:-1])
    ours.incoming.write_eof()
    with pytest.raises(ssl.SSLEOFError):
        ours.obj.read(9)


# The object itself -------------------------------------------------------------------------------


def test_an_object_is_made_by_its_context_alone(flavour: str, tls_version: ssl.TLSVersion) -> None:
    """The class itself cannot be called."""
    with pytest.raises(TypeError, match="does not have a public constructor"):
        context(flavour, tls_version).sslobject_class()


def test_an_object_knows_its_context_and_its_name(pair: Pair, server_side: bool) -> None:
    """context, server_side, server_hostname, and no session before the end of the handshake."""
    ours, _theirs = pair(handshake=False)
    assert isinstance(ours.obj, ssl.SSLObject)
    assert ours.obj.server_side is server_side
    assert ours.obj.server_hostname == (None if server_side else "localhost")
    assert ours.obj.context.protocol == (
        ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT
    )
    assert ours.obj.session is None
    assert ours.obj.session_reused is False


def test_what_was_negotiated_is_what_the_peer_says(pair: Pair, tls_version: ssl.TLSVersion) -> None:
    """version(), cipher() and the certificate agree with the other end's."""
    ours, theirs = pair()
    expected = {ssl.TLSVersion.TLSv1_2: "TLSv1.2", ssl.TLSVersion.TLSv1_3: "TLSv1.3"}
    assert ours.obj.version() == theirs.obj.version() == expected[tls_version]
    assert ours.obj.cipher() == theirs.obj.cipher()
    assert ours.obj.getpeercert(True) == CHAIN.ders[0]
    assert ours.obj.getpeercert() == theirs.obj.getpeercert()
    assert ours.obj.compression() is None
    assert ours.obj.selected_alpn_protocol() is None


def test_positional_arguments_are_those_of_ssl(flavour: str, tls_version: ssl.TLSVersion) -> None:
    """wrap_bio with five positional arguments, and the name as bytes, as anyio calls it."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    made = context(flavour, tls_version).wrap_bio(
        incoming,
        outgoing,
        False,
        b"localhost",
        None,
    )
    assert made.server_hostname == "localhost"
    theirs = MemoryPeer(context("ssl", tls_version, True), server_side=True)
    while made.version() is None:
        with contextlib.suppress(ssl.SSLWantReadError):
            made.do_handshake()
        theirs.incoming.write(outgoing.read())
        theirs.step()
        assert theirs.record.error is None
        incoming.write(theirs.outgoing.read())


def test_sessions_of_ssl_are_refused(tls_version: ssl.TLSVersion) -> None:
    """A session of the standard library is no session of ours, nor the other way round."""
    theirs = MemoryPeer(context("ssl", tls_version, True), server_side=True)
    client = MemoryPeer(context("ssl", tls_version), server_hostname="localhost")
    shake(client, theirs)
    session = client.obj.session
    assert session is not None
    with pytest.raises(TypeError, match="SSLSession"):
        context("pinned", tls_version).wrap_bio(
            ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost", session=session
        )


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("bios", [(None, ssl.MemoryBIO()), (ssl.MemoryBIO(), "text")])
def test_nothing_but_memory_bios_can_be_wrapped(flavour: str, bios: tuple[Any, Any]) -> None:
    """It is said at once, not when the first bytes are to be moved."""
    with pytest.raises(TypeError, match=r"MemoryBIO, not (None|str)"):
        context(flavour, ssl.TLSVersion.TLSv1_3).wrap_bio(*bios, server_hostname="localhost")
