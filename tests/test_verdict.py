"""The verdict alone: whatever events it is told of, it never accepts what the contract refuses.

OpenSSL tells of a chain in events of a depth, an error (0 is "all is well") and a certificate.
Here are the sequences that it really produces, which must come to what the oracle says; and any
others, as a verdict that is right only as long as OpenSSL keeps to its habits would not be safe.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import itertools
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import hypothesis
import pytest
from hypothesis import strategies as st

from pinsock import Pin, PinSet
from pinsock._openssl import error_numbers
from pinsock._verdict import Verdict
from tests.certificates import make_chain
from tests.oracle import (
    DEPTH_ZERO_SELF_SIGNED,
    EXPIRED,
    FORGIVEN_BY_PINS,
    FORGIVEN_DATES,
    HOSTNAME_MISMATCH,
    LEAF_SIGNATURE,
    NO_ISSUER,
    NO_LOCAL_ISSUER,
    NOT_YET_VALID,
    SELF_SIGNED_IN_CHAIN,
    Certificate,
    Dates,
    PinFacts,
    Policy,
    Position,
    Scene,
    certificates_of,
    decide,
    fulfils,
    matches,
    verify,
)

#: The errors of OpenSSL that the oracle knows, by its names for them.
NUMBERS = {
    "X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT": NO_ISSUER,
    "X509_V_ERR_CERT_NOT_YET_VALID": NOT_YET_VALID,
    "X509_V_ERR_CERT_HAS_EXPIRED": EXPIRED,
    "X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT": DEPTH_ZERO_SELF_SIGNED,
    "X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN": SELF_SIGNED_IN_CHAIN,
    "X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY": NO_LOCAL_ISSUER,
    "X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE": LEAF_SIGNATURE,
    "X509_V_ERR_HOSTNAME_MISMATCH": HOSTNAME_MISMATCH,
}
SIGNATURE_FAILURE = 7  # X509_V_ERR_CERT_SIGNATURE_FAILURE
NAME_NOT_PERMITTED = 47  # X509_V_ERR_PERMITTED_VIOLATION
REJECTED = 28  # X509_V_ERR_CERT_REJECTED, for which OpenSSL sends the alert bad_certificate

POSITIONS: tuple[Position, ...] = ("leaf", "ca", "any", "anchor", "intermediate", 0, 1, 2, 3)
# What OpenSSL may have for a certificate whose key nobody can read.
GARBAGE = Certificate(b"0\x03\x02\x01\x00", None)
_DAY = datetime.timedelta(days=1)


class Event(NamedTuple):
    """What the verify callback is given."""

    depth: int
    error: int
    certificate: Certificate


@functools.lru_cache(maxsize=512)
def certificates(dates: tuple[Dates, ...]) -> tuple[Certificate, ...]:
    """Return a chain; those of the same length share their keys, not their certificates."""
    return certificates_of(make_chain(len(dates), validity=dict(enumerate(dates))))


@functools.cache
def strangers() -> tuple[Certificate, ...]:
    """Return certificates that are in none of the chains."""
    return certificates_of(make_chain(4, pool=1))


def verdict_on(policy: Policy, now: datetime.datetime | None = None) -> Verdict:
    """Return a fresh verdict."""
    pin_set = PinSet(
        {name: [pin.text for pin in pins] for name, pins in policy.positions.items()},
        trust=policy.trust,
        check_expiry=policy.check_expiry,
        enforce=policy.enforce,
    )
    return Verdict(pin_set, now)


def tell(verdict: Verdict, events: Sequence[Event]) -> int:
    """Tell of events as OpenSSL does: until one is refused.  Return that error, or 0."""
    for event in events:
        refusal = verdict.event(event.depth, event.error, event.certificate.der)
        if refusal:
            return refusal
    return 0


# The oracle --------------------------------------------------------------------------------------


def told(scene: Scene) -> list[Event]:
    """Return what OpenSSL tells of a scene, to somebody who lets everything pass.

    First that the chain has no good end, then that the name is wrong, then what it finds on the way
    down.  For the last certificate of an incomplete chain it says no more than that it is the last.
    """
    path = verify(scene)
    top = path.length - 1
    events: list[Event] = []
    rest = list(path.errors)
    descent: dict[int, list[int]] = {depth: [0] for depth in range(top, -1, -1)}
    ends = FORGIVEN_BY_PINS - {LEAF_SIGNATURE} | {NO_ISSUER}
    if rest and rest[0] in ends:
        incomplete = rest[0] in (NO_ISSUER, NO_LOCAL_ISSUER)
        if incomplete and top > 0 and not scene.partial_chain:
            del descent[top]
        events.append(Event(top, rest.pop(0), scene.certificates[top]))
    for error in (HOSTNAME_MISMATCH, LEAF_SIGNATURE):
        if error in rest:
            events.append(Event(0, error, scene.certificates[0]))
    for depth, answers in descent.items():
        if scene.dates[depth] != "valid":
            answers.insert(0, EXPIRED if scene.dates[depth] == "expired" else NOT_YET_VALID)
        events += [Event(depth, error, scene.certificates[depth]) for error in answers]
    return events


def acceptable(events: Sequence[Event], policy: Policy, dates: dict[Certificate, Dates]) -> bool:
    """Tell whether a peer of which all this has been said may be accepted, in whatever order."""
    if any(event.error and event.error not in policy.forgiven for event in events):
        return False
    chain: dict[int, Certificate] = {}
    for event in events:
        if chain.setdefault(event.depth, event.certificate) != event.certificate:
            return False  # two certificates for one depth
    top = len(chain) - 1
    if sorted(chain) != list(range(len(chain))):
        return False  # a gap, or nothing at all
    well = {event.depth for event in events if event.error == 0}
    for depth in set(chain) - well:
        if depth == 0 or depth != top:
            return False  # a signature that OpenSSL never vouched for
        if not any(event.error == NO_LOCAL_ISSUER for event in events if event.depth == top):
            return False  # only for the last certificate of an incomplete chain it never does
        found = dates.get(chain[top], "unreadable")
        if policy.check_expiry and found != "valid":
            return False  # and then does not look at its dates
    if matches(policy, tuple(chain[depth] for depth in range(top + 1))):
        return True
    # What is forgiven is forgiven for a match.
    return not policy.enforce and not any(event.error for event in events)


def check_never_accepts(
    policy: Policy, events: Sequence[Event], dates: dict[Certificate, Dates]
) -> Verdict:
    """Assert that nothing is accepted that the contract refuses, after each event and for ever."""
    verdict = verdict_on(policy)
    refused = False
    assert not verdict.accepted
    for count, event in enumerate(events, 1):
        answer = verdict.event(event.depth, event.error, event.certificate.der)
        if refused:
            assert answer, "refused once, refused for ever"
        refused = refused or answer != 0
        if event.error and event.error not in policy.forgiven:
            assert refused
        seen = events[:count]
        if verdict.accepted:
            assert not refused
            assert acceptable(seen, policy, dates)
            by_depth = {each.depth: each.certificate for each in seen}
            chain = tuple(by_depth[depth] for depth in range(len(by_depth)))
            assert verdict.chain == tuple(certificate.der for certificate in chain)
            assert (verdict.match is not None) == matches(policy, chain)
    return verdict


# Strategies --------------------------------------------------------------------------------------

valid_dates: st.SearchStrategy[Dates] = st.just("valid")
any_dates: st.SearchStrategy[Dates] = st.sampled_from(("valid", "valid", "expired", "future"))
all_dates: st.SearchStrategy[tuple[Dates, ...]] = st.one_of(
    [st.lists(dates, min_size=1, max_size=4).map(tuple) for dates in (valid_dates, any_dates)]
)


@st.composite
def policies(
    draw: st.DrawFn,
    chain: tuple[Certificate, ...],
    trusts: Sequence[Literal["ca", "pins"]] = ("ca", "pins"),
) -> Policy:
    """Draw a pin set that is likely, but not certain, to match ``chain``."""
    positions: dict[Position, tuple[PinFacts, ...]] = {}
    misses = draw(st.integers(0, 3)) == 3
    for position in draw(st.lists(st.sampled_from(POSITIONS), min_size=1, max_size=3, unique=True)):
        candidates = [
            certificate
            for depth, certificate in enumerate(chain)
            if fulfils(position, depth, len(chain)) and certificate.spki
        ]
        whose = draw(
            st.lists(
                st.sampled_from(
                    strangers() if misses or not candidates else (*candidates, *strangers()[:1])
                ),
                min_size=1,
                max_size=2,
            )
        )
        positions[position] = tuple(
            PinFacts.of(
                certificate,
                draw(st.sampled_from(("spki", "cert"))),
                draw(st.sampled_from(("sha256", "sha384", "sha512"))),
            )
            for certificate in whose
        )
    trust = draw(st.sampled_from(trusts))
    return Policy(
        positions,
        trust,
        check_expiry=trust == "ca" or draw(st.booleans()),
        enforce=draw(st.integers(0, 3)) < 3,
    )


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    """Draw what OpenSSL may be shown."""
    dates = draw(all_dates)
    depths = range(len(dates))
    trusted: st.SearchStrategy[Iterable[int]] = st.sampled_from([depths[-1:], depths[:0]])
    if draw(st.integers(0, 5)) == 5:
        trusted = st.sets(st.sampled_from(depths))
    return Scene(
        certificates=certificates(dates),
        dates=dates,
        sent=frozenset(draw(st.sampled_from([depths, depths[:-1], depths[:-1], depths[:1]]))) | {0},
        trusted=frozenset(draw(trusted)),
        partial_chain=draw(st.integers(0, 5)) == 5,
        hostname_matches=draw(st.integers(0, 15)) < 15,
    )


@st.composite
def strange_events(draw: st.DrawFn, chain: tuple[Certificate, ...]) -> Event:
    """Draw an event that OpenSSL has no reason to produce."""
    depth = draw(st.integers(0, len(chain) - 1))
    certificate = chain[depth]
    if draw(st.integers(0, 2)) == 2:
        depth = draw(st.one_of(st.integers(0, 4), st.integers(-1, 2**31 - 1)))
        certificate = draw(st.sampled_from((*chain, *strangers()[:1], GARBAGE)))
    error = draw(
        st.one_of(
            st.just(0),
            st.sampled_from(sorted(FORGIVEN_BY_PINS | FORGIVEN_DATES)),
            st.sampled_from((NO_ISSUER, SIGNATURE_FAILURE, HOSTNAME_MISMATCH, NAME_NOT_PERMITTED)),
            st.integers(-1, 2**31 - 1),
        )
    )
    return Event(depth, error, certificate)


@st.composite
def sequences(draw: st.DrawFn) -> tuple[Policy, list[Event], dict[Certificate, Dates]]:
    """Draw a pin set and events: those of a scene with a few things wrong, or any at all."""
    scene = draw(scenes())
    chain = scene.certificates
    events = told(scene) if draw(st.integers(0, 7)) < 7 else []
    for change in draw(
        st.lists(st.sampled_from(("add", "drop", "repeat", "swap", "change")), max_size=3)
    ):
        at = draw(st.integers(0, len(events)))
        if change == "add" or not events:
            events.insert(at, draw(strange_events(chain)))
            continue
        at %= len(events)
        if change == "drop":
            del events[at]
        elif change == "repeat":
            events.insert(draw(st.integers(0, len(events))), events[at])
        elif change == "swap":
            other = draw(st.integers(0, len(events) - 1))
            events[at], events[other] = events[other], events[at]
        else:
            events[at] = draw(strange_events(chain))
    if draw(st.integers(0, 7)) == 7:
        events += draw(st.lists(strange_events(chain), max_size=6))
    known: dict[Certificate, Dates] = dict.fromkeys(strangers(), "valid")
    known.update(zip(chain, scene.dates, strict=True))
    by_depth = {event.depth: event.certificate for event in events}
    seen = tuple(by_depth[depth] for depth in sorted(by_depth)) or chain
    forgiving = any(event.error for event in events) and draw(st.integers(0, 4)) < 4
    return draw(policies(seen, ("pins",) if forgiving else ("ca", "pins"))), events, known


# Properties --------------------------------------------------------------------------------------

EXAMPLES = hypothesis.settings().max_examples


@hypothesis.settings(max_examples=12 * EXAMPLES)
@hypothesis.given(drawn=sequences())
def test_it_never_accepts_what_the_contract_refuses(
    drawn: tuple[Policy, list[Event], dict[Certificate, Dates]],
) -> None:
    """Of no sequence of events, in whatever order and repeated, comes more than the contract lets.

    Also not halfway through it, and also not if whoever tells of them goes on after a refusal.
    """
    verdict = check_never_accepts(*drawn)
    hypothesis.event(f"accepted: {verdict.accepted}")


@hypothesis.settings(max_examples=8 * EXAMPLES)
@hypothesis.given(data=st.data(), scene=scenes())
def test_what_openssl_tells_comes_to_what_the_oracle_says(
    data: st.DataObject, scene: Scene
) -> None:
    """The events that OpenSSL produces lead to the oracle's decision, by the oracle's error."""
    policy = data.draw(policies(scene.certificates[: verify(scene).length]))
    decision = decide(scene, policy)
    hypothesis.event(decision.outcome)
    verdict = verdict_on(policy)
    refusal = tell(verdict, told(scene))
    if decision.outcome == "accept":
        assert refusal == 0
        assert verdict.accepted
        assert verdict.chain == tuple(certificate.der for certificate in decision.chain)
        assert (verdict.match is not None) == decision.matched
        return
    assert not verdict.accepted
    allowed = decision.errors | ({REJECTED} if decision.outcome == "mismatch" else set())
    assert refusal in allowed


@hypothesis.settings(max_examples=3 * EXAMPLES)
@hypothesis.given(data=st.data(), scene=scenes(), late=st.integers(1, 200), depth=st.integers(0, 4))
def test_an_error_after_the_last_certificate_still_refuses(
    data: st.DataObject, scene: Scene, late: int, depth: int
) -> None:
    """An error that nothing forgives refuses also when the leaf was well (name constraints)."""
    policy = data.draw(policies(scene.certificates[: verify(scene).length]))
    hypothesis.assume(late not in policy.forgiven)
    verdict = verdict_on(policy)
    refusal = tell(verdict, told(scene))
    certificate = scene.certificates[depth % len(scene.certificates)]
    answer = verdict.event(depth, late, certificate.der)
    assert answer == (refusal or late)
    assert not verdict.accepted
    assert verdict.event(0, 0, scene.certificates[0].der)
    assert not verdict.accepted


# Single cases ------------------------------------------------------------------------------------

VALID: tuple[Dates, ...] = ("valid", "valid", "valid")


def a_scene(*sent: int, trusted: Sequence[int] = (), dates: tuple[Dates, ...] = VALID) -> Scene:
    """Return a scene with a chain of three."""
    return Scene(certificates(dates), dates, frozenset(sent), frozenset(trusted))


def a_policy(
    certificate: Certificate,
    *,
    trust: Literal["ca", "pins"] = "ca",
    check_expiry: bool = True,
    enforce: bool = True,
    position: Position = "any",
) -> Policy:
    """Return a pin set of one pin."""
    pin = PinFacts.of(certificate, "cert", "sha256")
    return Policy({position: (pin,)}, trust, check_expiry, enforce)


def test_a_trusted_chain_that_matches_is_accepted_at_its_last_event() -> None:
    """Acceptance comes with the leaf's "all is well", and not before."""
    chain = certificates(VALID)
    verdict = verdict_on(a_policy(chain[2], position="anchor"))
    for depth in (2, 1, 0):
        assert not verdict.accepted
        assert verdict.event(depth, 0, chain[depth].der) == 0
    assert verdict.accepted
    assert verdict.match is not None
    assert verdict.match.depth == 2


def test_without_any_event_nothing_is_accepted() -> None:
    """A callback that never ran is a failure (rule 1), report only or not."""
    for enforce in (True, False):
        verdict = verdict_on(a_policy(strangers()[0], trust="pins", enforce=enforce))
        assert not verdict.accepted
        assert verdict.match is None
        assert verdict.chain == ()


@pytest.mark.parametrize("missing", [0, 1])
@pytest.mark.parametrize("enforce", [True, False], ids=["enforce", "report only"])
def test_a_chain_with_a_gap_is_not_accepted(missing: int, enforce: bool) -> None:
    """Every depth up to the highest has to have been told of, and the leaf above all."""
    chain = certificates(VALID)
    verdict = verdict_on(a_policy(chain[2], enforce=enforce))
    tell(verdict, [Event(depth, 0, chain[depth]) for depth in (2, 1, 0) if depth != missing])
    assert not verdict.accepted


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_two_certificates_for_one_depth_are_not_accepted(depth: int) -> None:
    """A certificate that replaces one that was checked was not checked, whichever comes first."""
    chain = certificates(VALID)
    regular = [Event(each, 0, chain[each]) for each in (2, 1, 0)]
    for at in range(4):
        events = [*regular[:at], Event(depth, 0, strangers()[0]), *regular[at:]]
        verdict = verdict_on(a_policy(chain[1]))
        tell(verdict, events)
        assert not verdict.accepted


def test_a_chain_that_grows_after_its_end_is_judged_anew() -> None:
    """What was the anchor is none any more if a certificate turns up above it."""
    chain = certificates(VALID)
    verdict = verdict_on(a_policy(chain[1], position="anchor"))
    tell(verdict, [Event(depth, 0, chain[depth]) for depth in (1, 0, 2)])
    assert not verdict.accepted


@pytest.mark.parametrize(
    ("moment", "accepted"),
    [
        (datetime.timedelta(), True),
        (-100 * _DAY, False),
        (100 * 365 * _DAY, False),
    ],
    ids=["now", "too early", "too late"],
)
def test_the_end_of_an_incomplete_chain_is_in_date_or_refused(
    moment: datetime.timedelta, accepted: bool
) -> None:
    """OpenSSL does not look at the dates of a certificate that nobody vouches for."""
    scene = a_scene(0, 1)
    now = datetime.datetime.now(datetime.timezone.utc) + moment
    for check_expiry in (True, False):
        policy = a_policy(scene.certificates[0], trust="pins", check_expiry=check_expiry)
        verdict = verdict_on(policy, now)
        refusal = tell(verdict, told(scene))
        assert verdict.accepted == (accepted or not check_expiry)
        if not verdict.accepted:
            assert refusal == (NOT_YET_VALID if moment < datetime.timedelta() else EXPIRED)


@pytest.mark.parametrize(
    ("second", "refusal"),
    [("before the first", NOT_YET_VALID), ("first", 0), ("last", 0), ("after the last", EXPIRED)],
)
def test_the_end_of_an_incomplete_chain_is_in_date_to_the_second(second: str, refusal: int) -> None:
    """Both ends of the validity belong to it (RFC 5280 section 4.1.2.5)."""
    chain = make_chain(3)
    issuer = chain.certificates[1]
    moments = {"first": issuer.not_valid_before_utc, "last": issuer.not_valid_after_utc}
    moments["before the first"] = moments["first"] - datetime.timedelta(seconds=1)
    moments["after the last"] = moments["last"] + datetime.timedelta(seconds=1)
    facts = certificates_of(chain)
    scene = Scene(facts, VALID, frozenset({0, 1}), frozenset())
    verdict = verdict_on(a_policy(facts[0], trust="pins"), moments[second])
    assert tell(verdict, told(scene)) == refusal
    assert verdict.accepted == (refusal == 0)


def test_an_end_whose_dates_cannot_be_read_is_refused() -> None:
    """What cannot be checked has not been checked."""
    chain = certificates(VALID)
    for check_expiry in (True, False):
        verdict = verdict_on(a_policy(chain[0], trust="pins", check_expiry=check_expiry))
        refusal = tell(verdict, [Event(1, NO_LOCAL_ISSUER, GARBAGE), Event(0, 0, chain[0])])
        assert verdict.accepted == (refusal == 0) == (not check_expiry)


def test_a_certificate_that_cannot_be_read_matches_as_a_whole_only() -> None:
    """A certificate pin is a hash over bytes; an SPKI pin needs a key to have been found."""
    policy = a_policy(GARBAGE)
    verdict = verdict_on(policy)
    assert tell(verdict, [Event(0, 0, GARBAGE)]) == 0
    assert verdict.accepted
    pin = dataclasses.replace(policy.positions["any"][0], kind="spki")
    verdict = verdict_on(Policy({"any": (pin,)}))
    assert tell(verdict, [Event(0, 0, GARBAGE)]) == REJECTED
    assert not verdict.accepted


def test_report_only_reports_the_match_and_the_mismatch() -> None:
    """With ``enforce=False`` both are accepted, and ``match`` tells them apart."""
    scene = a_scene(0, 1, trusted=[2])
    for certificate, found in ((scene.certificates[1], True), (strangers()[1], False)):
        verdict = verdict_on(a_policy(certificate, enforce=False))
        assert tell(verdict, told(scene)) == 0
        assert verdict.accepted
        assert (verdict.match is not None) == found


# Numbers -----------------------------------------------------------------------------------------


def test_the_numbers_are_those_of_openssl() -> None:
    """The errors in these tests have the numbers that the library has for their names."""
    numbers = dict(error_numbers())
    expected = {
        **NUMBERS,
        "X509_V_ERR_CERT_SIGNATURE_FAILURE": SIGNATURE_FAILURE,
        "X509_V_ERR_PERMITTED_VIOLATION": NAME_NOT_PERMITTED,
        "X509_V_ERR_CERT_REJECTED": REJECTED,
    }
    assert expected.items() <= numbers.items()


def test_exactly_the_errors_of_the_contract_are_forgiven() -> None:
    """Of all that OpenSSL knows, four are forgiven for a match, and two more if so asked."""
    four = {
        "X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT",
        "X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN",
        "X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
        "X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE",
    }
    dates = {"X509_V_ERR_CERT_NOT_YET_VALID", "X509_V_ERR_CERT_HAS_EXPIRED"}
    leaf = certificates(("valid",))[0]
    numbers = {name: number for name, number in error_numbers() if number > 0}
    unnamed = {f"number {number}": number for number in range(1, 300)}
    unnamed = {name: each for name, each in unnamed.items() if each not in numbers.values()}

    for policy, forgiven in (
        (a_policy(leaf), set()),
        (a_policy(leaf, trust="pins"), four),
        (a_policy(leaf, trust="pins", check_expiry=False), four | dates),
    ):
        accepted = set()
        for name, number in itertools.chain(numbers.items(), unnamed.items()):
            verdict = verdict_on(policy)
            refusal = tell(verdict, [Event(0, number, leaf), Event(0, 0, leaf)])
            assert refusal == (0 if verdict.accepted else number)
            if verdict.accepted:
                accepted.add(name)
        assert accepted == forgiven


@pytest.mark.parametrize("depth", [-1, 3, 100])
def test_a_depth_outside_the_chain_is_refused_after_the_leaf(depth: int) -> None:
    """What is said after the decision of a depth that the chain does not have is not believed."""
    chain = certificates_of(make_chain())
    verdict = Verdict(PinSet(Pin.from_certificate(chain[0].der)))
    for at in (2, 1, 0):
        assert verdict.event(at, 0, chain[at].der) == 0
    assert verdict.event(depth, 0, chain[0].der) == REJECTED
    assert not verdict.accepted
