"""The one key share that a client sends: for the group that the server has taken before."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from pinsock import Pin, PinnedContext, PinSet, _groups, _openssl
from pinsock._groups import GROUPS, Taken, sharing
from pinsock._hello import HelloReader
from tests import certificates, peers
from tests.certificates import make_chain
from tests.peers import MemoryPeer, shake

CHAIN = make_chain(3)
PIN = PinSet({"leaf": certificates.spki_pin(CHAIN.leaf)})
WRONG = PinSet(Pin("spki", "sha256", bytes(32)))
HOST = "localhost"
HYBRID, X25519, P256 = "X25519MLKEM768", "X25519", "prime256v1"
_KEY_SHARE = 51  # an extension of RFC 8446 section 4.2
_HANDSHAKE = 22  # a content type of section 5.1

guessing = pytest.mark.skipif(not _groups._usual(), reason="an OpenSSL that sends one share anyway")


class Hello:
    """What a client has said, from its first byte on.

    Attributes:
        groups: that it offered.
        shares: the groups that it sent a key share for.
        times: how often it said hello; twice, if it was asked for another share.
    """

    def __init__(self, sent: bytes) -> None:
        reader = HelloReader()
        reader.feed(sent)
        assert reader.hello is not None
        self.groups = reader.hello.groups
        self.shares = tuple(_shares(sent))
        self.times = 0
        while sent:
            self.times += sent[0] == _HANDSHAKE
            sent = sent[5 + int.from_bytes(sent[3:5], "big") :]


def _shares(sent: bytes) -> Iterator[str]:
    """The groups of the key shares (RFC 8446 section 4.2.8)."""
    rest = sent[5 + 4 + 2 + 32 :]
    for size in (1, 2, 1):  # session id, cipher suites, compression
        rest = rest[size + int.from_bytes(rest[:size], "big") :]
    rest = rest[2:]
    while rest:
        number, size = int.from_bytes(rest[:2], "big"), int.from_bytes(rest[2:4], "big")
        body, rest = rest[4 : 4 + size], rest[4 + size :]
        if number == _KEY_SHARE:
            shares = body[2:]
            while shares:
                yield GROUPS[int.from_bytes(shares[:2], "big")]
                shares = shares[4 + int.from_bytes(shares[2:4], "big") :]


def client(pins: PinSet | None = PIN) -> PinnedContext:
    made = PinnedContext(pins=pins)
    CHAIN.trust(made)
    return made


def server(groups: str) -> PinnedContext:
    """A server that takes these groups, in its own order; after a slash, only if it has to."""
    made = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=None)
    CHAIN.configure(made)
    made.set_groups(groups)
    made.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    return made


def connect(
    context: PinnedContext,
    far: ssl.SSLContext,
    host: str | None = HOST,
    session: ssl.SSLSession | None = None,
) -> tuple[Hello, MemoryPeer]:
    """Shake hands; what the client has said, and the client."""
    ours = MemoryPeer(context, server_hostname=host, session=session)
    shake(ours, MemoryPeer(far, server_side=True))
    return Hello(bytes(ours.sent)), ours


@guessing
@pytest.mark.parametrize("pins", [PIN, None], ids=["pinned", "unpinned"])
@pytest.mark.parametrize("group", [X25519, P256, "secp384r1"])
def test_the_share_is_for_the_group_that_the_server_took(group: str, pins: PinSet | None) -> None:
    """At first OpenSSL decides; what is offered is the same each time, and in the same order."""
    made = client(pins)
    first, _ = connect(made, server(group))
    assert set(first.shares) == {HYBRID, X25519}
    for _ in range(2):
        again, ours = connect(made, server(group))
        assert ours.record.error is None
        assert again.shares == (group,)
        assert again.groups == first.groups
        assert again.times == 1


@guessing
def test_to_a_server_that_takes_the_best_group_nothing_is_new() -> None:
    """Neither share costs much that is left out then, and there may be older servers beside it."""
    made = client()
    for group in (HYBRID, HYBRID, X25519):
        hello, ours = connect(made, server(group))
        assert ours.record.error is None
        assert (set(hello.shares), hello.times) == ({HYBRID, X25519}, 1)
    hello, _ = connect(made, server(X25519))
    assert hello.shares == (X25519,)


@guessing
def test_a_server_that_takes_another_group_gets_it() -> None:
    """It asks for the share; from then on there is no guess, and in the end there is again."""
    made = client()
    connect(made, server(X25519))
    hello, ours = connect(made, server(f"{HYBRID}/{X25519}"))
    assert ours.record.error is None
    assert hello.shares == (X25519,)
    # As OpenSSL's servers do if they are told nothing: a hybrid is worth a round trip to them.
    assert (hello.times, ours.obj.group()) == (2, HYBRID)  # type: ignore[attr-defined]  # ours
    for far in (server(X25519), server(HYBRID), server(X25519)):
        hello, ours = connect(made, far)
        assert ours.record.error is None
        assert (set(hello.shares), hello.times) == ({HYBRID, X25519}, 1)


@guessing
def test_each_host_has_its_own_group() -> None:
    """Also such as are connected to in turns."""
    made = client()
    made.check_hostname = False
    for times in range(3):
        for host, group in (("one.test", X25519), ("two.test", P256)):
            hello, _ = connect(made, server(group), host)
            assert (len(hello.shares) == 1) is (times > 0)
            assert group in hello.shares or times == 0


@guessing
def test_without_a_name_there_is_no_guess() -> None:
    """Who that is may be another each time."""
    made = client()
    made.check_hostname = False
    for _ in range(2):
        hello, _ = connect(made, server(X25519), None)
        assert len(hello.shares) == 2


@guessing
def test_groups_of_the_users_choice_have_the_shares_of_openssls() -> None:
    """set_groups leaves nothing to be guessed."""
    made = client()
    connect(made, server(P256))
    made.set_groups(f"{X25519}:{P256}")
    for _ in range(2):
        hello, ours = connect(made, server(P256))
        assert ours.record.error is None
        assert hello.shares == (X25519,)


@guessing
def test_a_server_that_was_refused_teaches_nothing() -> None:
    """Who it is has not been proved."""
    made = client(WRONG)
    _, ours = connect(made, server(P256))
    assert ours.record.error is not None
    made.pins = PIN
    hello, ours = connect(made, server(X25519))
    assert ours.record.error is None
    assert set(hello.shares) == {HYBRID, X25519}


@guessing
def test_a_server_that_was_not_verified_teaches_nothing() -> None:
    """It may be anybody, with groups that the real one does not like."""
    made = client(None)
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    connect(made, server(P256))
    assert made._taken._servers == {}
    made.verify_mode = ssl.CERT_REQUIRED
    hello, _ = connect(made, server(X25519))
    assert set(hello.shares) == {HYBRID, X25519}
    assert list(made._taken._servers) == [HOST]


@guessing
def test_a_handshake_that_fails_ends_the_guess() -> None:
    """It may be the guess that it has failed for."""
    made = client()
    for _ in range(2):
        hello, _ = connect(made, server(X25519))
    assert hello.shares == (X25519,)
    far = peers.server_context(make_chain(2, pool=3))
    _, ours = connect(made, far)
    assert isinstance(ours.record.error, ssl.SSLCertVerificationError)
    assert made._taken._servers == {}
    hello, _ = connect(made, server(X25519))
    assert set(hello.shares) == {HYBRID, X25519}


@guessing
def test_what_a_context_is_told_ends_the_guesses() -> None:
    """With other settings a group may not be offered any more."""
    made, far = client(), server(f"{X25519}:secp384r1")
    for expected in (2, 1):
        hello, _ = connect(made, far)
        assert len(hello.shares) == expected
    made.set_ciphers("DEFAULT:@SECLEVEL=4")  # which is too much for X25519
    for _ in range(2):
        hello, _ = connect(made, far)
        assert hello.shares != (X25519,)
    made.options |= ssl.OP_NO_TICKET
    MemoryPeer(made, server_hostname=HOST)
    assert made._taken._servers == {}


@guessing
def test_a_session_is_resumed_with_the_share_that_was_learned() -> None:
    """Settings are others then, but not those that the session is bound to."""
    made, far = client(), server(X25519)
    _, ours = connect(made, far)
    session = ours.obj.session
    hello, again = connect(made, far, session=session)
    assert again.obj.session_reused
    assert hello.shares == (X25519,)


@guessing
def test_a_guess_is_for_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then all is forgotten, also that there is to be none."""
    now = [1000.0]
    monkeypatch.setattr(_groups, "time", SimpleNamespace(monotonic=lambda: now[-1]))
    taken = Taken()
    assert taken.guess(HOST) is None
    taken.learn(HOST, "x25519")
    now.append(1059.0)
    assert taken.guess(HOST) == X25519
    taken.learn(HOST, "x25519")  # which makes it no younger
    now.append(1060.0)
    assert taken.guess(HOST) is None
    taken.learn(HOST, "secp256r1")
    assert taken.guess(HOST) == P256
    taken.learn(HOST, "x25519")
    now.append(1080.0)
    for called in ("x25519", "secp256r1"):
        assert taken.guess(HOST) is None
        taken.learn(HOST, called)
    now.append(1120.0)
    assert taken.guess(HOST) is None
    taken.learn(HOST, "x25519")
    assert taken.guess(HOST) == X25519


def test_what_is_no_group_of_a_server_is_not_remembered() -> None:
    """There are handshakes without one, and groups without a name."""
    taken = Taken()
    taken.learn(HOST, "")
    taken.learn(HOST, "a group from the future")
    taken.learn(None, "x25519")
    assert taken._servers == {}
    assert taken.guess(HOST) is None
    assert taken.guess(None) is None


@guessing
def test_servers_are_not_remembered_without_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """When there are too many all are forgotten but the newest."""
    monkeypatch.setattr(_groups, "_MAX_SERVERS", 3)
    taken = Taken()
    for number in range(4):
        taken.learn(f"{number}.test", "x25519")
    assert [taken.guess(f"{number}.test") for number in range(4)] == [None, None, None, X25519]


@pytest.fixture
def anew() -> Iterator[None]:
    """What OpenSSL offers is found out anew, and again after the test."""
    _groups._usual.cache_clear()
    yield
    _groups._usual.cache_clear()


@pytest.mark.usefixtures("anew")
@pytest.mark.parametrize("error", [NotImplementedError, ssl.SSLError])
def test_an_openssl_that_cannot_be_told_decides(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """It knows no stars, or cryptography does not bind the call."""

    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(_openssl, "set_groups", refuse)
    assert sharing(X25519) is None
    made = client()
    for _ in range(2):
        assert connect(made, peers.server_context(CHAIN))[1].record.error is None


@pytest.mark.usefixtures("anew")
@pytest.mark.parametrize("offered", [(), (29, 23, 12345), (29, 29, 23)])
def test_an_offer_that_cannot_be_made_again_stays_openssls(
    monkeypatch: pytest.MonkeyPatch, offered: tuple[int, ...]
) -> None:
    """Nothing is left out for the sake of the guess: neither unknown groups nor their order."""
    real = _groups._offer
    monkeypatch.setattr(
        _groups, "_offer", lambda groups: offered if groups is None else real(groups)
    )
    assert sharing(X25519) is None
    assert sharing("no group") is None
