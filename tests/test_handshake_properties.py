"""Real handshakes come to what the oracle says, for any chain, trust and pins.

A :class:`Plan` is a scene in plain values: hypothesis draws it, prints it, and what it once found
can be kept as an ``@example``.  One side of each handshake is pinsock's, the other the standard
library's, which testifies what it saw.  Most handshakes are made in memory, where they are fast
and always the same; the others over sockets.

The oracle itself is compared with the standard library, as far as that can judge: without pins.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import ssl
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeVar

import hypothesis
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import strategies as st

from pinsock import (
    PinExpiredError,
    PinMatch,
    PinMismatchError,
    PinnedContext,
    PinnedObject,
    PinnedSocket,
    PinSet,
)
from tests.certificates import Chain, KeyKind, make_chain, pem, trustme_chain
from tests.oracle import (
    DEPTH_ZERO_SELF_SIGNED,
    EXPIRED,
    HOSTNAME_MISMATCH,
    LEAF_SIGNATURE,
    NO_ISSUER,
    NO_LOCAL_ISSUER,
    NOT_YET_VALID,
    SELF_SIGNED_IN_CHAIN,
    Algorithm,
    Certificate,
    Dates,
    Decision,
    Kind,
    PinFacts,
    Policy,
    Position,
    Scene,
    certificates_of,
    decide,
    fulfils,
    verify,
)
from tests.peers import (
    Connection,
    Conversation,
    Observation,
    Transport,
    client_context,
    converse,
    fix_version,
)

Side = Literal["client", "server"]
Source = Literal["own", "twin", "stranger", "nobody"]

KINDS: tuple[KeyKind, ...] = ("p256", "rsa", "p384", "ed25519")
POSITIONS: tuple[Position, ...] = ("leaf", "ca", "any", "anchor", "intermediate", 0, 1, 2, 3)
EXAMPLES = hypothesis.settings().max_examples

#: The alerts that OpenSSL sends for the errors that occur here (RFC 8446 section 6.2 names them).
ALERTS = {
    NO_ISSUER: "unknown_ca",
    NOT_YET_VALID: "bad_certificate",
    EXPIRED: "certificate_expired",
    DEPTH_ZERO_SELF_SIGNED: "unknown_ca",
    SELF_SIGNED_IN_CHAIN: "unknown_ca",
    NO_LOCAL_ISSUER: "unknown_ca",
    LEAF_SIGNATURE: "unknown_ca",
    HOSTNAME_MISMATCH: "bad_certificate",
}


# Plans -------------------------------------------------------------------------------------------


class PinPlan(NamedTuple):
    """A pin, by whose it is.

    ``"own"``: of the chain at ``depth``; ``"twin"``: of another certificate for the same key;
    ``"stranger"``: of a certificate that has nothing to do with the chain; ``"nobody"``: of none.
    """

    source: Source
    depth: int = 0
    kind: Kind = "spki"
    algorithm: Algorithm = "sha256"


@dataclass(frozen=True)
class Plan:
    """A scene in plain values; see :class:`tests.oracle.Scene` and :class:`tests.oracle.Policy`.

    Attributes:
        sent: the depths that the peer sends, in that order.
        appended: the peer sends the stranger's certificates as well.
    """

    kinds: tuple[KeyKind, ...]
    dates: tuple[Dates, ...]
    sent: tuple[int, ...]
    trusted: tuple[int, ...]
    positions: Mapping[Position, tuple[PinPlan, ...]]
    trust: Literal["ca", "pins"] = "ca"
    check_expiry: bool = True
    enforce: bool = True
    partial_chain: bool = False
    appended: bool = False
    by_trustme: bool = False
    server_hostname: str = "localhost"
    expires: Literal["never", "later", "reject", "unpin"] = field(default="never")

    @property
    def chain(self) -> Chain:
        return _chain(self.kinds, self.dates, self.by_trustme)

    @property
    def sent_certificates(self) -> tuple[x509.Certificate, ...]:
        more = _stranger().certificates if self.appended else ()
        return (*(self.chain.certificates[depth] for depth in self.sent), *more)

    def scene(self, side: Side) -> Scene:
        """The facts; a server checks no host names."""
        return Scene(
            certificates=_facts(self.chain),
            dates=self.dates,
            sent=frozenset(self.sent),
            trusted=frozenset(self.trusted),
            partial_chain=self.partial_chain,
            hostname_matches=side == "server" or self.server_hostname == "localhost",
        )

    @property
    def policy(self) -> Policy:
        return Policy(
            {name: tuple(map(self._pin, pins)) for name, pins in self.positions.items()},
            self.trust,
            self.check_expiry,
            self.enforce,
        )

    def _pin(self, plan: PinPlan) -> PinFacts:
        if plan.source == "nobody":
            size = {"sha256": 32, "sha384": 48, "sha512": 64}[plan.algorithm]
            return PinFacts(plan.kind, plan.algorithm, bytes([plan.depth]) * size)
        if plan.source == "own":
            chain = self.chain
        elif plan.source == "twin":
            chain = _twin(self.kinds, self.dates, self.by_trustme)
        else:
            chain = _stranger()
        certificate = _facts(chain)[plan.depth % len(chain)]
        return PinFacts.of(certificate, plan.kind, plan.algorithm)

    @property
    def pin_set(self) -> PinSet:
        moments = {"later": 1, "reject": -1, "unpin": -1}
        expires = None
        if self.expires in moments:
            now = datetime.datetime.now(datetime.timezone.utc)
            expires = now + datetime.timedelta(days=moments[self.expires])
        return PinSet(
            {name: [pin.text for pin in pins] for name, pins in self.policy.positions.items()},
            trust=self.trust,
            check_expiry=self.check_expiry,
            enforce=self.enforce,
            expires=expires,
            after_expiry="unpin" if self.expires == "unpin" else "reject",
        )


@functools.lru_cache(maxsize=512)
def _chain(kinds: tuple[KeyKind, ...], dates: tuple[Dates, ...], by_trustme: bool) -> Chain:
    if by_trustme:
        return trustme_chain(len(kinds), kinds=kinds, validity=dates[0])
    return make_chain(len(kinds), kinds=kinds, validity=dict(enumerate(dates)))


@functools.lru_cache(maxsize=512)
def _twin(kinds: tuple[KeyKind, ...], dates: tuple[Dates, ...], by_trustme: bool) -> Chain:
    """Other certificates for the same keys; for trustme's, which are always new, for others."""
    return make_chain(len(kinds), kinds=kinds)


@functools.cache
def _stranger() -> Chain:
    return make_chain(3, pool=1)


@functools.cache
def _identity() -> Chain:
    """What the other side shows: it is not what is being judged."""
    return make_chain(2, pool=2)


@functools.lru_cache(maxsize=512)
def _ders(certificates: tuple[Certificate, ...]) -> list[bytes]:
    return [certificate.der for certificate in certificates]


_known: dict[x509.Certificate, tuple[Certificate, ...]] = {}


def _facts(chain: Chain) -> tuple[Certificate, ...]:
    if chain.leaf not in _known:
        _known[chain.leaf] = certificates_of(chain)
    return _known[chain.leaf]


# Strategies --------------------------------------------------------------------------------------


def often(value: bool, *, of: int = 4) -> st.SearchStrategy[bool]:
    """``value``, but once in so many times the other."""
    return st.integers(1, of).map(lambda drawn: (drawn < of) == value)


@st.composite
def chains(
    draw: st.DrawFn,
) -> tuple[tuple[KeyKind, ...], tuple[Dates, ...], bool]:
    """Draw the keys and dates of a chain, and whether trustme makes it."""
    length = draw(st.integers(1, 4))
    bad: tuple[Dates, ...] = draw(st.sampled_from(((), ("expired", "future"))))
    each: st.SearchStrategy[Dates] = st.sampled_from(("valid", "valid", "valid", *bad))
    dates = [draw(each) for _ in range(length)]
    if length > 1 and draw(st.integers(0, 7)) == 7:
        # All keys of a kind, so that there are not too many chains: it makes new keys each time.
        kind: KeyKind = draw(st.sampled_from(("p256", "p256", "rsa"))) if length == 3 else "p256"
        valid: Dates = "valid"
        return (kind,) * length, (dates[0],) + (valid,) * (length - 1), True
    return tuple(draw(st.sampled_from(KINDS)) for _ in dates), tuple(dates), False


@st.composite
def pins(draw: st.DrawFn, position: Position, length: int, good: bool) -> tuple[PinPlan, ...]:
    """Draw the pins of a position, with at least one that may match if ``good``."""
    depths = [depth for depth in range(length) if fulfils(position, depth, length)]
    kinds: st.SearchStrategy[Kind] = st.sampled_from(("spki", "cert"))
    algorithms: st.SearchStrategy[Algorithm] = st.sampled_from(("sha256", "sha384", "sha512"))
    sources: st.SearchStrategy[Source] = st.sampled_from(("nobody", "stranger", "twin", "own"))
    one = st.builds(PinPlan, sources, st.integers(0, 3), kinds, algorithms)
    drawn = draw(st.lists(one, min_size=1, max_size=3))
    if good and depths:
        right = PinPlan(
            draw(st.sampled_from(("own", "own", "twin"))),
            draw(st.sampled_from(depths)),
            draw(kinds),
            draw(algorithms),
        )
        drawn[draw(st.integers(0, len(drawn) - 1))] = right
    return tuple(drawn)


@st.composite
def plans(draw: st.DrawFn, *, expiring: bool = False) -> Plan:
    """Draw a scene; the ordinary is more likely than the odd, but nothing is left out."""
    kinds, dates, by_trustme = draw(chains())
    depths = list(range(len(kinds)))
    ordinary = [tuple(depths[:-1] or [0]), tuple(depths)]
    if draw(often(True, of=5)):
        sent = draw(st.sampled_from(ordinary))
    else:
        others = draw(st.permutations(depths[1:]))
        sent = (0, *others[: draw(st.integers(0, len(others)))])
    trust: Literal["ca", "pins"] = draw(st.sampled_from(("ca", "pins")))
    if draw(often(True, of=5)):
        trusted = depths[-1:] if draw(often(trust == "ca")) else []
    else:
        trusted = sorted(draw(st.sets(st.sampled_from(depths))))
    check_expiry = trust == "ca" or draw(st.booleans())
    names = draw(st.lists(st.sampled_from(POSITIONS), min_size=1, max_size=3, unique=True))
    good = draw(often(True))
    return Plan(
        kinds=kinds,
        dates=dates,
        sent=sent,
        trusted=tuple(trusted),
        positions={name: draw(pins(name, len(kinds), good)) for name in names},
        trust=trust,
        check_expiry=check_expiry,
        enforce=draw(often(True, of=6)),
        partial_chain=draw(often(False, of=6)),
        appended=draw(often(False)),
        by_trustme=by_trustme,
        server_hostname="localhost" if draw(often(True, of=12)) else "elsewhere.example",
        expires=draw(st.sampled_from(("later", "reject", "unpin"))) if expiring else "never",
    )


# Handshakes --------------------------------------------------------------------------------------


def judge(context: ssl.SSLContext, plan: Plan, version: ssl.TLSVersion) -> None:
    """Give a context what the judging side is to trust."""
    fix_version(context, version)
    for depth in plan.trusted:
        context.load_verify_locations(cadata=pem(plan.chain.certificates[depth]).decode("ascii"))
    if plan.partial_chain:
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN


def present(context: ssl.SSLContext, plan: Plan) -> None:
    """Have the judged side present just what the plan says, whether it is a good idea or not."""
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:
        file.write(plan.chain.key_pem + pem(*plan.sent_certificates))
        file.flush()
        context.load_cert_chain(file.name)


class Inspected(NamedTuple):
    """What pinsock says of an accepted peer."""

    match: PinMatch | None
    chain: list[bytes]


def inspect(connection: Connection) -> Inspected | None:
    """Ask pinsock's side; the other one has nothing to say."""
    if isinstance(connection, (PinnedSocket, PinnedObject)):
        return Inspected(connection.pin_match, connection.get_verified_chain())
    return None


def talk(
    plan: Plan, side: Side, transport: Transport, version: ssl.TLSVersion
) -> tuple[Conversation, Observation, Observation]:
    """Play a plan; return what both sides saw, and again by whose they are: ours, theirs."""
    if side == "client":
        ours = PinnedContext(pins=plan.pin_set)
        theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        fix_version(theirs, version)
        # It asks for a certificate, so that it would be seen if one was given away.
        _identity().trust(theirs)
        theirs.verify_mode = ssl.CERT_REQUIRED
    else:
        ours = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=plan.pin_set)
        theirs = client_context(version=version)
    judge(ours, plan, version)
    _identity().configure(ours)
    present(theirs, plan)
    client, server = (ours, theirs) if side == "client" else (theirs, ours)
    seen = converse(
        transport, client, server, server_hostname=plan.server_hostname, inspect=inspect
    )
    if side == "client":
        return seen, seen.client, seen.server
    return seen, seen.server, seen.client


def check(plan: Plan, side: Side, transport: Transport, version: ssl.TLSVersion) -> None:
    """Play a plan, and compare what comes of it with what the oracle says."""
    decision = decide(plan.scene(side), plan.policy)
    seen, ours, theirs = talk(plan, side, transport, version)
    if decision.outcome == "accept":
        accepted(seen, side)
        assert isinstance(ours.inspected, Inspected)
        assert ours.inspected.chain == _ders(decision.chain)
        check_match(ours.inspected.match, plan.policy, decision)
        return
    refused(ours, theirs, side, version)
    error = ours.error
    if decision.outcome == "mismatch" and isinstance(error, PinMismatchError):
        assert theirs.alert == "bad_certificate"
        check_mismatch(error, plan.policy, decision)
        assert error.server_hostname == (plan.server_hostname if side == "client" else None)
    else:
        # Not a PinError: there was nothing wrong with the pins, or more than that.
        assert type(error) is ssl.SSLCertVerificationError, repr(error)
        assert error.verify_code in decision.errors
        assert theirs.alert == ALERTS[error.verify_code]


def accepted(seen: Conversation, side: Side) -> None:
    """Check that both sides were content, and talked."""
    assert seen.client.error is None
    assert seen.server.error is None
    assert seen.client.handshake_completed
    assert seen.server.handshake_completed
    assert seen.server.data == seen.client.data == b"ping"
    if side == "client":
        assert seen.server.client_certificate == _identity().ders[0]


def refused(ours: Observation, theirs: Observation, side: Side, version: ssl.TLSVersion) -> None:
    """Check that the refused side was told so, and got nothing."""
    assert ours.error is not None
    assert not ours.handshake_completed
    assert ours.data == theirs.data == b""
    assert theirs.error is not None
    if side == "client":
        assert not theirs.handshake_completed
        assert theirs.peer_gave_nothing
    else:
        # With TLS 1.3 a client's handshake is over before anyone has looked at its certificate.
        assert theirs.handshake_completed == (version is ssl.TLSVersion.TLSv1_3)


def check_match(match: PinMatch | None, policy: Policy, decision: Decision) -> None:
    """Check that a match is one, and that there is one for each position."""
    if not decision.matched:
        assert match is None
        return
    assert match is not None
    found = (match, *match.others)
    assert [each.position for each in found] == list(policy.positions)
    length = len(decision.chain)
    for each in found:
        assert 0 <= each.depth < length
        assert fulfils(each.position, each.depth, length)
        candidates = [pin for pin in policy.positions[each.position] if pin.text == str(each.pin)]
        assert any(pin.is_of(decision.chain[each.depth]) for pin in candidates)


def check_mismatch(error: PinMismatchError, policy: Policy, decision: Decision) -> None:
    """Check that a mismatch tells the pins that were found and those that were not."""
    shown = [(each.depth, each.pin, each.certificate_pin) for each in error.positions]
    assert shown == [
        (
            depth,
            PinFacts.of(certificate, "spki", "sha256").text,
            PinFacts.of(certificate, "cert", "sha256").text,
        )
        for depth, certificate in enumerate(decision.chain)
    ]
    assert {name: set(texts) for name, texts in error.expected.items()} == {
        name: {pin.text for pin in pins} for name, pins in policy.positions.items()
    }


# Examples ----------------------------------------------------------------------------------------

OWN, TWIN, STRANGER = PinPlan("own"), PinPlan("twin"), PinPlan("stranger")
_THREE: tuple[KeyKind, ...] = ("p256", "rsa", "p384")
_PLAIN = Plan(
    kinds=_THREE,
    dates=("valid",) * 3,
    sent=(0, 1),
    trusted=(2,),
    positions={"leaf": (OWN,)},
)

#: What has to be seen in every run, and what is too rare to wait for.
NOTABLE = (
    # A match; the same, with other certificates for the same keys; and none.
    _PLAIN,
    dataclasses.replace(
        _PLAIN, positions={"leaf": (STRANGER, TWIN), "anchor": (PinPlan("twin", 2),)}
    ),
    dataclasses.replace(_PLAIN, positions={"leaf": (PinPlan("twin", 0, "cert"),)}),
    # One position of two.
    dataclasses.replace(_PLAIN, positions={"leaf": (OWN,), "ca": (STRANGER, OWN)}),
    # A pinned certificate that was merely sent along.
    dataclasses.replace(_PLAIN, positions={"any": (STRANGER,)}, appended=True),
    # "anchor" is where the verified chain ends: not a root that was sent but is not reached, and
    # not the intermediate below a root that is trusted.
    dataclasses.replace(_PLAIN, positions={"anchor": (PinPlan("own", 1),)}),
    dataclasses.replace(
        _PLAIN, positions={"anchor": (PinPlan("own", 1),)}, trusted=(), trust="pins"
    ),
    dataclasses.replace(
        _PLAIN, positions={"anchor": (PinPlan("own", 2),)}, sent=(0, 2), trusted=(), trust="pins"
    ),
    dataclasses.replace(
        _PLAIN, positions={"anchor": (PinPlan("own", 1),)}, trusted=(1, 2), partial_chain=True
    ),
    # A leaf that is its own anchor has nothing above it.
    *(
        dataclasses.replace(
            _PLAIN,
            kinds=("ed25519",),
            dates=("valid",),
            sent=(0,),
            trusted=(),
            trust="pins",
            positions={position: (OWN,)},
        )
        for position in ("leaf", "anchor", "ca", "intermediate", 0, 1)
    ),
    # Nothing but a match makes up for a chain that nobody vouches for.
    dataclasses.replace(
        _PLAIN, trusted=(), trust="pins", enforce=False, positions={"leaf": (STRANGER,)}
    ),
    dataclasses.replace(
        _PLAIN, trusted=(), trust="pins", enforce=False, positions={"leaf": (OWN,)}
    ),
    dataclasses.replace(_PLAIN, enforce=False, positions={"leaf": (STRANGER,)}),
    # Nor does a match make up for anything else: an issuer that is missing above one from the
    # trust store is not among what is forgiven, and neither is a wrong name.
    dataclasses.replace(_PLAIN, trusted=(1,), trust="pins"),
    dataclasses.replace(_PLAIN, trusted=(), trust="pins", server_hostname="elsewhere.example"),
    # Out of date, at each position, whether the chain is complete or not, whether a match is to
    # make up for it or not.
    *(
        dataclasses.replace(
            _PLAIN,
            dates=tuple(wrong if depth == at else "valid" for depth in range(3)),
            sent=sent,
            trusted=trusted,
            trust="pins",
            check_expiry=check_expiry,
        )
        for at in range(3)
        for wrong in ("expired", "future")
        for sent in ((0,), (0, 1), (0, 1, 2))
        for trusted in ((), (2,))
        for check_expiry in (True, False)
    ),
)


Test = TypeVar("Test", bound="Callable[..., None]")


def with_notable_plans(test: Test) -> Test:
    """Have a test try the notable plans before any others."""
    for plan in reversed(NOTABLE):
        test = hypothesis.example(plan=plan)(test)
    return test


# The tests ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["client", "server"])
@hypothesis.settings(max_examples=4 * EXAMPLES)
@hypothesis.given(plan=plans())
@with_notable_plans
def test_handshakes_in_memory_end_as_the_oracle_says(
    tls_version: ssl.TLSVersion, side: Side, plan: Plan
) -> None:
    """A handshake over BIOs is accepted or refused, and for the reason, that the oracle gives."""
    hypothesis.event(decide(plan.scene(side), plan.policy).outcome)
    check(plan, side, "bio", tls_version)


@pytest.mark.parametrize("side", ["client", "server"])
@hypothesis.settings(max_examples=EXAMPLES)
@hypothesis.given(plan=plans())
@with_notable_plans
def test_handshakes_over_sockets_end_as_the_oracle_says(
    tls_version: ssl.TLSVersion, side: Side, plan: Plan
) -> None:
    """A handshake over sockets ends as one in memory does."""
    check(plan, side, "socket", tls_version)


@pytest.mark.parametrize("side", ["client", "server"])
@hypothesis.settings(max_examples=max(EXAMPLES // 2, 1))
@hypothesis.given(plan=plans(expiring=True))
def test_an_expired_pin_set_refuses_or_stands_aside(
    tls_version: ssl.TLSVersion, side: Side, plan: Plan
) -> None:
    """Past its ``expires`` a pin set refuses everybody, or leaves all to the ordinary checks."""
    if plan.expires == "later":
        check(plan, side, "bio", tls_version)
        return
    seen, ours, theirs = talk(plan, side, "bio", tls_version)
    path = verify(plan.scene(side))
    if plan.expires == "reject":
        assert isinstance(ours.error, PinExpiredError)
        assert not ours.handshake_completed
        # So early that it takes no certificate, and with any version.
        assert not theirs.handshake_completed
        assert theirs.handshake_messages("read") == ()
    elif path.errors:
        # What the pins would have forgiven is not, as the pins are not looked at.
        refused(ours, theirs, side, tls_version)
        assert type(ours.error) is ssl.SSLCertVerificationError
        assert ours.error.verify_code == path.errors[0]
    else:
        accepted(seen, side)


@hypothesis.settings(max_examples=2 * EXAMPLES)
@hypothesis.given(plan=plans())
def test_the_oracle_finds_what_the_standard_library_finds(
    tls_version: ssl.TLSVersion, plan: Plan
) -> None:
    """Without pins, ``ssl`` builds the chain that the oracle names, and has the same objection."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    judge(client, plan, tls_version)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    present(server, plan)

    def verified_chain(connection: Connection) -> list[bytes]:
        if connection.server_side:
            return []
        # Public from CPython 3.13 on.  ENCODING_PEM and ENCODING_DER are 1 and 2.
        found = connection._sslobj.get_verified_chain()  # type: ignore[union-attr]  # not in typeshed
        return [
            ssl.PEM_cert_to_DER_cert(certificate.public_bytes(1).strip()) for certificate in found
        ]

    seen = converse(
        "bio", client, server, server_hostname=plan.server_hostname, inspect=verified_chain
    ).client
    path = verify(plan.scene("client"))
    if path.errors:
        assert isinstance(seen.error, ssl.SSLCertVerificationError)
        assert seen.error.verify_code == path.errors[0]
    else:
        assert seen.error is None
        assert seen.inspected == [
            certificate.public_bytes(Encoding.DER)
            for certificate in plan.chain.certificates[: path.length]
        ]
