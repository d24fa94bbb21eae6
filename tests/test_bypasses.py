"""The bypass table, rows *Chains* and *Time*: no chain, and no hour, gets a peer past its pins.

The rows of identity are in ``test_bypasses_identity.py``, those of handshakes, possession and
callers in ``test_bypasses_handshakes.py``.  Every chain here is put to a pinned client by a hostile
server and to a pinning server by a hostile client; and where it could make a difference, under
``trust="ca"`` with the root trusted, and under ``trust="pins"`` with the root sent and nothing
trusted, so that OpenSSL's errors go through what that forgives.

==================================  =====================  =========================================
row                                 refused by             because
==================================  =====================  =========================================
pinned certificate appended         pins                   it is not in the verified chain
chain reordered, duplicated         pins                   positions are those of the verified chain
100 deep                            pins; OpenSSL beyond   each position is judged; X509_V_ERR 22
junk certificates                   pins                   as appended
cross-signed                        pins                   one path is verified, and no other counts
leaf acting as CA                   verify event           error 79 is not forgiven
forged leaf under a pinned CA       verify event           error 7 is not forgiven
name constraint violated            verify event           error 47 or 48, after depth 0 was right
wrong key usage, extended too       verify event           errors 26 and 79
SHA-1, 1024 bits                    verify event           errors 66, 67 and 68
intermediate trusted by itself      pins                   it is the anchor
version-1 CA                        verify event           error 79
empty Certificate message           OpenSSL                a peer without certificate is none
validity of each certificate        verify event, or ours  errors 9 and 10, to the second
expiry of pins                      the engine             when the handshake begins
==================================  =====================  =========================================
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from typing import Literal, NamedTuple, cast

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL._util import lib

from pinsock import (
    PinError,
    PinExpiredError,
    PinMatch,
    PinMismatchError,
    PinnedContext,
    PinSet,
    _engine,
    _openssl,
    _verdict,
)
from pinsock._verdict import Verdict
from tests import certificates, peers
from tests.certificates import Chain, make_chain, make_key, resign
from tests.peers import MemoryPeer, Observation, StdlibServer, Transport, converse, shake
from tests.test_rules import (
    CHAIN,
    CLIENT,
    IMPOSTOR,
    WRONG,
    curious_server,
    pinned_client,
    pinned_server,
)

Side = Literal["client", "server"]
Trust = Literal["ca", "pins"]

on_both_sides = pytest.mark.parametrize("side", ["client", "server"])
under_both_trusts = pytest.mark.parametrize("trust", ["ca", "pins"])

NOBODY = make_chain(2, pool=6)


def pin(chain: Chain, depth: int = 0) -> str:
    """The pin of a certificate; no process is started for each of so many."""
    return certificates.spki_pin(chain.certificates[depth], by="cryptography")


def judge(
    side: Side, pins: object, version: ssl.TLSVersion, trusted: Chain = NOBODY
) -> PinnedContext:
    """The side under test; with what it has to lose."""
    if side == "client":
        return pinned_client(pins, version, trusted=trusted)
    return pinned_server(pins, version, trusted=trusted)


def hostile(
    side: Side, chain: Chain, version: ssl.TLSVersion, sent: Sequence[x509.Certificate] = ()
) -> ssl.SSLContext:
    """The other side, of the standard library: it presents ``sent``, by default the whole chain.

    It minds no security level, and verifies nothing that would keep it from going on.
    """
    if side == "client":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        CLIENT.trust(context)
        context.verify_mode = ssl.CERT_OPTIONAL
    else:
        context = peers.client_context()
    peers.fix_version(context, version)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    presented = Chain(tuple(sent or chain.certificates), chain.keys, chain.kinds)
    presented.configure(context, include_root=True)
    return context


class Meeting(NamedTuple):
    """What came of it: our observation, and theirs."""

    ours: Observation
    theirs: Observation

    @property
    def served(self) -> bool:
        """Data went both ways."""
        return self.ours.data == self.theirs.data == b"ping"

    def refused(self) -> ssl.SSLCertVerificationError:
        """Return our error; the peer got nothing before it."""
        assert isinstance(self.ours.error, ssl.SSLCertVerificationError)
        assert not self.ours.handshake_completed
        assert not self.ours.data
        assert not self.theirs.data
        assert self.theirs.alert is not None
        if _FINISHED not in self.theirs.handshake_messages("read"):
            assert not self.theirs.handshake_completed
        return self.ours.error

    def mismatch(self) -> PinMismatchError:
        """Return our error: the pins did not match, and the peer was told so."""
        error = self.refused()
        assert isinstance(error, PinMismatchError)
        assert self.theirs.alert == "bad_certificate"
        return error

    def verify_code(self) -> int:
        """Return OpenSSL's number for what was wrong; the pins were not."""
        error = self.refused()
        assert not isinstance(error, PinError)
        return error.verify_code


_FINISHED = 20  # RFC 8446 section 4


def meet(
    transport: Transport, side: Side, ours: PinnedContext, theirs: ssl.SSLContext
) -> Meeting:
    """Connect the two; a pinned client has nothing taken from it by a server that it refuses."""

    def matched(connection: peers.Connection) -> object:
        return getattr(connection, "pin_match", None)

    if side == "client":
        seen = converse(transport, ours, theirs, inspect=matched)
        meeting = Meeting(seen.client, seen.server)
        assert meeting.served or meeting.theirs.peer_gave_nothing
        return meeting
    seen = converse(transport, theirs, ours, inspect=matched)
    return Meeting(seen.server, seen.client)


def every_pin(chain: Chain, trust: Trust) -> PinSet:
    """Return pins that match at every depth."""
    return PinSet({depth: pin(chain, depth) for depth in range(len(chain))}, trust=trust)


# Chains: what is only sent -----------------------------------------------------------------------


@pytest.mark.parametrize("depth", [0, 1, 2])
@on_both_sides
def test_an_appended_certificate_matches_nothing(
    transport: Transport, tls_version: ssl.TLSVersion, side: Side, depth: int
) -> None:
    """CVE-2016-2402: the pinned certificate is sent, but is not part of the path."""
    ours = judge(side, pin(CHAIN, depth), tls_version, IMPOSTOR)
    sent = (*IMPOSTOR.certificates[:2], CHAIN.certificates[depth])
    meet(transport, side, ours, hostile(side, IMPOSTOR, tls_version, sent)).mismatch()


@pytest.mark.parametrize("length", [1, 2])
@under_both_trusts
@on_both_sides
def test_an_appended_certificate_is_no_trust_either(
    transport: Transport, tls_version: ssl.TLSVersion, side: Side, trust: Trust, length: int
) -> None:
    """CVE-2016-2402 under trust="pins": nor does it help one who signs for himself."""
    impostor = make_chain(length, pool=4)
    sent = (*impostor.certificates, *CHAIN.certificates)
    ours = judge(side, PinSet(pin(CHAIN), trust=trust), tls_version, CHAIN)
    meeting = meet(transport, side, ours, hostile(side, impostor, tls_version, sent))
    if trust == "pins":
        meeting.mismatch()
    else:
        assert meeting.verify_code() in (18, 19)  # self-signed


FOUR = make_chain(4, pool=7)
ARRANGEMENTS = {
    "reversed": (0, 3, 2, 1),
    "leaf twice": (0, 0, 1, 2, 3),
    "CA twice": (0, 1, 1, 2, 2, 3),
    "all of it twice": (0, 1, 2, 3, 0, 1, 2, 3),
    "root in between": (0, 2, 3, 1, 3),
}


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
@under_both_trusts
@on_both_sides
def test_positions_are_those_of_the_verified_chain(
    transport: Transport, tls_version: ssl.TLSVersion, side: Side, trust: Trust, arrangement: str
) -> None:
    """Reordered or duplicated (RFC 8446 section 4.4.2 allows it), a chain is judged as verified."""
    order = ARRANGEMENTS[arrangement]
    theirs = hostile(side, FOUR, tls_version, [FOUR.certificates[depth] for depth in order])
    ours = judge(side, every_pin(FOUR, trust), tls_version, FOUR if trust == "ca" else NOBODY)
    assert meet(transport, side, ours, theirs).served
    for place, depth in enumerate(order):
        if place != depth:
            ours.pins = PinSet({place: pin(FOUR, depth)}, trust=trust)
            meet(transport, side, ours, theirs).mismatch()


#: 101 certificates: OpenSSL's limit, which ssl leaves as it is, is 100 below the root.
DEEP = make_chain(101, pool=8)


@under_both_trusts
@on_both_sides
def test_a_chain_a_hundred_deep_is_judged_at_every_depth(
    transport: Transport, tls_version: ssl.TLSVersion, side: Side, trust: Trust
) -> None:
    """A pin deep down is found, and where there is none there is no match, for all its length."""
    theirs = hostile(side, DEEP, tls_version)
    ours = judge(side, WRONG, tls_version, DEEP if trust == "ca" else NOBODY)
    for depth in (50, 100):
        ours.pins = PinSet({depth: pin(DEEP, depth)}, trust=trust)
        assert meet(transport, side, ours, theirs).served
    ours.pins = PinSet({"any": WRONG}, trust=trust)
    assert len(meet(transport, side, ours, theirs).mismatch().positions) == 101


@under_both_trusts
@on_both_sides
def test_a_chain_beyond_the_limit_is_refused_though_every_pin_matches(
    transport: Transport, tls_version: ssl.TLSVersion, side: Side, trust: Trust
) -> None:
    """OpenSSL's X509_V_ERR_CERT_CHAIN_TOO_LONG (22) is nothing that a pin makes good."""
    chain = make_chain(3, under=DEEP.above(1), pool=9)
    pins = PinSet({"leaf": pin(chain)}, trust=trust)
    ours = judge(side, pins, tls_version, chain if trust == "ca" else NOBODY)
    assert meet(transport, side, ours, hostile(side, chain, tls_version)).verify_code() == 22


def lookalike(chain: Chain, depth: int, issuer: Chain) -> x509.Certificate:
    """A certificate with the key of ``chain`` at ``depth``, which ``issuer`` has signed.

    Anybody can have it made: a CSR with a key that is not one's own is all it takes, and a CA of
    one's own does not ask for one.
    """
    real = chain.certificates[depth]
    builder = (
        x509.CertificateBuilder()
        .subject_name(real.subject)
        .issuer_name(issuer.leaf.subject)
        .public_key(real.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(real.not_valid_before_utc)
        .not_valid_after(real.not_valid_after_utc)
    )
    for extension in real.extensions:
        if not isinstance(extension.value, x509.AuthorityKeyIdentifier):
            builder = builder.add_extension(extension.value, extension.critical)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.leaf.public_key())
    builder = builder.add_extension(identifier, critical=False)
    return certificates.sign(builder, issuer.keys[0], issuer.kinds[0])


@under_both_trusts
@on_both_sides
def test_junk_certificates_match_nothing_and_hide_nothing(
    transport: Transport, tls_version: ssl.TLSVersion, side: Side, trust: Trust
) -> None:
    """CVE-2016-2402 with more of it: strangers, pinned keys in other certificates, pinned names."""
    trusted = IMPOSTOR if trust == "ca" else NOBODY
    junk = [
        *make_chain(4, pool=10).certificates,
        *CHAIN.certificates,
        *(lookalike(CHAIN, depth, IMPOSTOR.above(1)) for depth in range(3)),
        *make_chain(20, pool=11).certificates,
    ]
    ours = judge(side, WRONG, tls_version, trusted)
    for sent in (
        (*IMPOSTOR.certificates, *junk),
        (IMPOSTOR.leaf, *junk, *IMPOSTOR.certificates[1:]),
    ):
        theirs = hostile(side, IMPOSTOR, tls_version, sent)
        ours.pins = PinSet([pin(CHAIN, depth) for depth in range(3)], trust=trust)
        meet(transport, side, ours, theirs).mismatch()
        ours.pins = every_pin(IMPOSTOR, trust)
        assert meet(transport, side, ours, theirs).served


# Chains: two paths -------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [0, 1])
@under_both_trusts
@on_both_sides
def test_of_a_cross_signed_chain_one_path_counts(
    transport: Transport, tls_version: ssl.TLSVersion, side: Side, trust: Trust, first: int
) -> None:
    """Pins are matched on the path that OpenSSL verified; the other one's match nothing."""
    roots = [make_chain(1, pool=12, leaf_is_ca=True), make_chain(1, pool=13, leaf_is_ca=True)]
    below = make_chain(2, under=roots[0], pool=14)
    crossed = lookalike(below, 1, roots[1])
    paths = [below, Chain((below.leaf, crossed, roots[1].root), below.keys, below.kinds)]
    ours = judge(side, WRONG, tls_version)
    if trust == "ca":
        for root in roots:
            root.trust(ours)
    other = paths[1 - first]
    sent = (*paths[first].certificates, *other.certificates[1:])
    theirs = hostile(side, below, tls_version, sent)

    def pinned(path: Chain) -> PinSet:
        return PinSet(
            {
                1: certificates.certificate_pin(path.certificates[1]),
                "anchor": certificates.certificate_pin(path.root),
            },
            trust=trust,
        )

    ours.pins = pinned(paths[first])
    assert meet(transport, side, ours, theirs).served
    for pins in (
        pinned(other),
        PinSet(certificates.certificate_pin(other.certificates[1]), trust=trust),
        PinSet({"ca": pin(other, 2)}, trust=trust),
    ):
        ours.pins = pins
        meet(transport, side, ours, theirs).mismatch()


@on_both_sides
def test_with_partial_chains_a_trusted_intermediate_is_the_anchor(
    transport: Transport, tls_version: ssl.TLSVersion, side: Side
) -> None:
    """VERIFY_X509_PARTIAL_CHAIN ends the path there: a root beyond it is sent, and not verified."""
    trusted = Chain(FOUR.certificates[:3], FOUR.keys[:3], FOUR.kinds[:3])  # its "root" is depth 2
    theirs = hostile(side, FOUR, tls_version)
    ours = judge(side, WRONG, tls_version, trusted)
    ours.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    ours.pins = PinSet({"leaf": pin(FOUR), "intermediate": pin(FOUR, 1), "anchor": pin(FOUR, 2)})
    assert meet(transport, side, ours, theirs).served
    for pins in (
        {"any": pin(FOUR, 3)},
        {"anchor": pin(FOUR, 3)},
        {3: pin(FOUR, 3)},
        {"intermediate": pin(FOUR, 2)},
    ):
        ours.pins = PinSet(cast("dict[int | str, str]", pins))
        meet(transport, side, ours, theirs).mismatch()
    # Were it off, the path would have to end in a root: X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT.
    ours.verify_flags &= ~ssl.VERIFY_X509_PARTIAL_CHAIN
    for trust in ("ca", "pins"):
        ours.pins = PinSet({"any": pin(FOUR, 2)}, trust=cast(Trust, trust))
        assert meet(transport, side, ours, theirs).verify_code() == 2


# Chains: what is wrong with them -----------------------------------------------------------------


def refused_for(
    transport: Transport,
    version: ssl.TLSVersion,
    side: Side,
    trust: Trust,
    chain: Chain,
    *,
    level: int | None = None,
) -> int:
    """Return the error for a chain that every pin matches, at a security level if one is given."""
    ours = judge(side, every_pin(chain, trust), version, chain if trust == "ca" else NOBODY)
    if level is not None:
        ours.set_ciphers(f"DEFAULT:@SECLEVEL={level}")
    return meet(transport, side, ours, hostile(side, chain, version)).verify_code()


@under_both_trusts
@on_both_sides
def test_a_leaf_is_no_ca(
    transport: Transport, tls_version: ssl.TLSVersion, side: Side, trust: Trust
) -> None:
    """CVE-2002-0862: any customer of a pinned CA could issue for any name (RFC 5280 4.2.1.9)."""
    chain = make_chain(1, under=CHAIN, pool=15)
    assert refused_for(transport, tls_version, side, trust, chain) == 79


@under_both_trusts
@on_both_sides
def test_a_ca_of_leaves_has_no_cas_below_it(
    transport: Transport, tls_version: ssl.TLSVersion, side: Side, trust: Trust
) -> None:
    """Nor is every CA one of CAs: a path length is kept (RFC 5280 4.2.1.9)."""
    chain = make_chain(4, path_lengths={2: 0})
    assert refused_for(transport, tls_version, side, trust, chain) == 25


def forged_by(key: int, *, depth: int) -> Chain:
    """CHAIN with a leaf, or a CA and all below it, that its issuer never signed."""
    real = CHAIN.above(depth + 1)
    pretender = Chain(real.certificates, (make_key("p256", key), *real.keys[1:]), real.kinds)
    forged = make_chain(depth + 1, under=pretender, pool=16)
    return Chain(forged.certificates, forged.keys, forged.kinds)


@pytest.mark.parametrize("depth", [0, 1])
@under_both_trusts
@on_both_sides
def test_a_forged_certificate_under_a_pinned_ca_is_refused(
    transport: Transport, tls_version: ssl.TLSVersion, side: Side, trust: Trust, depth: int
) -> None:
    """Right names and identifiers, another's signature: the pinned CA itself is all genuine."""
    chain = forged_by(99, depth=depth)
    assert chain.ders[depth + 1 :] == CHAIN.ders[depth + 1 :]
    assert refused_for(transport, tls_version, side, trust, chain) == 7
    # The pins that an attacker would be after.
    pins = PinSet({"ca": pin(CHAIN, 2)}, trust=trust)
    ours = judge(side, pins, tls_version, CHAIN if trust == "ca" else NOBODY)
    assert meet(transport, side, ours, hostile(side, chain, tls_version)).verify_code() == 7


@under_both_trusts
@on_both_sides
def test_a_pinned_key_in_anothers_certificate_signs_nothing(
    transport: Transport, tls_version: ssl.TLSVersion, side: Side, trust: Trust
) -> None:
    """A CA of one's own can certify the pinned CA's key, but not sign with it."""
    borrowed = lookalike(CHAIN, 1, IMPOSTOR.above(2))
    pretender = Chain((borrowed, IMPOSTOR.root), (IMPOSTOR.keys[1],) * 2, IMPOSTOR.kinds[:2])
    chain = make_chain(1, under=pretender, pool=17)
    ours = judge(side, PinSet({1: pin(CHAIN, 1)}, trust=trust), tls_version, IMPOSTOR)
    assert meet(transport, side, ours, hostile(side, chain, tls_version)).verify_code() == 7


CONSTRAINTS = {
    "permitted": (x509.NameConstraints([x509.DNSName("elsewhere.example")], None), 47),
    "excluded": (x509.NameConstraints(None, [x509.DNSName("localhost")]), 48),
}


@pytest.mark.parametrize("constraints", CONSTRAINTS)
@under_both_trusts
@on_both_sides
def test_a_violated_name_constraint_is_refused_after_the_leaf_was_right(
    transport: Transport,
    tls_version: ssl.TLSVersion,
    side: Side,
    trust: Trust,
    constraints: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """OpenSSL looks at names last (RFC 5280 4.2.1.10): when the pins have matched already."""
    told: list[tuple[int, int]] = []
    real = Verdict.event

    def listen(self: Verdict, depth: int, error: int, certificate: bytes) -> int:
        told.append((depth, error))
        return real(self, depth, error, certificate)

    monkeypatch.setattr(Verdict, "event", listen)
    constraint, code = CONSTRAINTS[constraints]
    chain = make_chain(3, name_constraints={1: constraint})
    assert refused_for(transport, tls_version, side, trust, chain) == code
    assert told.index((0, 0)) < told.index((0, code))


SIGNS_ONLY = certificates.key_usage(ca=False, tls=True, encipherment=False)
ISSUES_ONLY = certificates.key_usage(ca=True, tls=False, encipherment=False)


def _usage(*purposes: x509.ObjectIdentifier) -> list[tuple[x509.ExtensionType, bool]]:
    return [(x509.ExtendedKeyUsage(purposes), False)]


USAGES: dict[str, tuple[Callable[[Side], Chain], int]] = {
    "leaf for code": (lambda side: make_chain(3, purpose="none"), 26),
    "leaf for the other side": (
        lambda side: make_chain(3, purpose="client" if side == "client" else "server"),
        26,
    ),
    "leaf that issues only": (lambda side: make_chain(3, key_usages={0: ISSUES_ONLY}), 26),
    "CA that does not issue": (lambda side: make_chain(3, key_usages={1: SIGNS_ONLY}), 79),
    "root that does not issue": (lambda side: make_chain(3, key_usages={2: SIGNS_ONLY}), 79),
    "CA for code": (
        lambda side: make_chain(3, extensions={1: _usage(ExtendedKeyUsageOID.CODE_SIGNING)}),
        26,
    ),
}


@pytest.mark.parametrize("usage", USAGES)
@under_both_trusts
@on_both_sides
def test_a_key_is_used_for_what_it_is_meant_for(
    transport: Transport, tls_version: ssl.TLSVersion, side: Side, trust: Trust, usage: str
) -> None:
    """Key usage and extended key usage (RFC 5280 4.2.1.3 and 4.2.1.12), of leaf and CA."""
    make, code = USAGES[usage]
    if usage == "leaf that issues only" and tls_version == ssl.TLSVersion.TLSv1_2:
        pytest.skip("the peer's own OpenSSL finds no use for such a leaf")
    assert refused_for(transport, tls_version, side, trust, make(side)) == code


WEAK: dict[str, tuple[Callable[[], Chain], int]] = {
    "SHA-1 leaf": (lambda: resign(make_chain(3, kinds="rsa"), 0, sha1=True), 68),
    "SHA-1 CA": (lambda: resign(make_chain(3, kinds="rsa"), 1, sha1=True), 68),
    "1024-bit leaf": (lambda: make_chain(3, kinds=("rsa-1024", "p256", "p256")), 66),
    "1024-bit CA": (lambda: make_chain(3, kinds=("p256", "rsa-1024", "p256")), 67),
    "1024-bit root": (lambda: make_chain(3, kinds=("p256", "p256", "rsa-1024")), 67),
}


@pytest.mark.parametrize("weak", WEAK)
@under_both_trusts
@on_both_sides
def test_a_signature_that_can_be_forged_is_refused(
    transport: Transport, tls_version: ssl.TLSVersion, side: Side, trust: Trust, weak: str
) -> None:
    """SHA-1 (shattered.io) and 1024 bits at security level 2, which is SSL_CTX's default."""
    make, code = WEAK[weak]
    chain = make()
    assert refused_for(transport, tls_version, side, trust, chain, level=2) == code
    # It is the level that is not forgiven: whoever says 0 says so himself.
    ours = judge(side, every_pin(chain, trust), tls_version, chain if trust == "ca" else NOBODY)
    ours.set_ciphers("DEFAULT:@SECLEVEL=0")
    assert meet(transport, side, ours, hostile(side, chain, tls_version)).served


@under_both_trusts
@on_both_sides
def test_a_ca_of_version_1_issues_nothing(
    transport: Transport, tls_version: ssl.TLSVersion, side: Side, trust: Trust
) -> None:
    """CVE-2014-0092, CVE-2014-1959 (GnuTLS): without extensions nothing says that it is a CA."""
    chain = resign(make_chain(3), 1, v1=True)
    assert chain.certificates[1].version == x509.Version.v1
    assert refused_for(transport, tls_version, side, trust, chain) == 79


# Chains: none at all -----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [ssl.CERT_OPTIONAL, ssl.CERT_REQUIRED])
@under_both_trusts
def test_a_client_without_a_certificate_is_refused(
    transport: Transport, tls_version: ssl.TLSVersion, trust: Trust, mode: ssl.VerifyMode
) -> None:
    """A server that pins its clients serves none without a certificate, even if it is optional."""
    server = pinned_server(PinSet(pin(CLIENT), trust=trust), tls_version)
    server.verify_mode = mode
    seen = converse(transport, peers.client_context(CHAIN, tls_version), server)
    assert not seen.server.handshake_completed
    assert seen.server.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE"
    assert seen.client.alert in ("certificate_required", "handshake_failure")
    assert not seen.client.data


_CERTIFICATE = 11  # RFC 5246 section 7.4


@under_both_trusts
def test_a_server_that_sends_an_empty_list_is_refused(trust: Trust) -> None:
    """A Certificate message of TLS 1.2 without a certificate (RFC 5246 section 7.4.2 forbids it).

    OpenSSL refuses it, before there is anything to verify; if the list is whole, it goes on.
    """
    version = ssl.TLSVersion.TLSv1_2
    for emptied in (True, False):
        ours = MemoryPeer(
            pinned_client(PinSet(pin(CHAIN), trust=trust), version), server_hostname="localhost"
        )
        theirs = MemoryPeer(curious_server(CHAIN, version), server_side=True)
        ours.step()
        ours.flush(theirs)
        theirs.step()
        flight = theirs.outgoing.read()
        records = b""
        while flight:
            size = 5 + int.from_bytes(flight[3:5], "big")
            record, flight = flight[:size], flight[size:]
            if emptied and record[5] == _CERTIFICATE:
                record = record[:3] + bytes((0, 7, _CERTIFICATE, 0, 0, 3, 0, 0, 0))
            records += record
        ours.incoming.write(records)
        if not emptied:
            shake(ours, theirs)
            assert ours.record.completed
            continue
        ours.step()
        ours.flush(theirs)
        theirs.step()
        assert isinstance(ours.record.error, ssl.SSLError)
        assert ours.obj.pin_match is None  # type: ignore[attr-defined]  # ours
        assert theirs.observation.alert is not None
        assert theirs.observation.peer_gave_nothing


# Time --------------------------------------------------------------------------------------------
#
# The C library's clock cannot be set from here; but OpenSSL can be told what time it is, by the
# verify parameters of a context or a connection, and takes whole seconds as it does from time().

SECOND = timedelta(seconds=1)
# Within the validity of all that these tests do not look at.
BEGIN = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(days=1)
END = BEGIN + timedelta(days=1)
VALID = BEGIN + timedelta(hours=1)


class TimeOfDay:
    """What time it is, to OpenSSL in contexts that are used from now on, and to pinsock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = VALID
        real = _openssl.set_verify_flags

        def set_verify_flags(context: object, flags: int, host_flags: int) -> None:
            real(context, flags, host_flags)  # type: ignore[arg-type]  # handed on
            self._tell(lib.SSL_CTX_get0_param(context._context))  # type: ignore[attr-defined]  # pyOpenSSL's

        class Stopped(datetime):
            @classmethod
            def now(cls, tz: object = None) -> datetime:
                return self.now

        monkeypatch.setattr(_openssl, "set_verify_flags", set_verify_flags)
        for module in (_engine, _verdict):
            monkeypatch.setattr(module, "datetime", Stopped)

    def _tell(self, parameters: object) -> None:
        lib.X509_VERIFY_PARAM_set_time(parameters, int(self.now.timestamp()))

    def jump(self, peer: MemoryPeer, now: datetime) -> None:
        """Set the clock while ``peer``, which is ours, is connected or connecting."""
        self.now = now
        self._tell(lib.SSL_get0_param(peer.obj._sslobj._ssl))  # type: ignore[attr-defined]  # ours


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> TimeOfDay:
    """A clock to set; at first it is ``VALID``."""
    return TimeOfDay(monkeypatch)


#: What a certificate from BEGIN to END is then: an error of OpenSSL's, or 0.  RFC 5280 4.1.2.5 has
#: it valid at END itself, and so has OpenSSL 4; to OpenSSL 3 it has expired.
MOMENTS: tuple[tuple[datetime, tuple[int, ...]], ...] = (
    (BEGIN - SECOND, (9,)),
    (BEGIN, (0,)),
    (BEGIN + SECOND, (0,)),
    (END - SECOND, (0,)),
    (END, (0, 10)),
    (END + SECOND, (10,)),
)


def lapsing(depth: int) -> Chain:
    """Return a chain with one certificate that is valid from BEGIN to END."""
    return make_chain(3, validity={depth: (BEGIN, END)}, pool=18)


@pytest.mark.parametrize("depth", [0, 1, 2])
@under_both_trusts
@on_both_sides
def test_every_certificate_of_the_chain_has_to_be_valid_now(
    transport: Transport,
    tls_version: ssl.TLSVersion,
    side: Side,
    trust: Trust,
    depth: int,
    clock: TimeOfDay,
) -> None:
    """Leaf, intermediate and anchor, before, at and past both bounds (RFC 5280 section 6.1.3)."""
    chain = lapsing(depth)
    theirs = hostile(side, chain, tls_version)
    for clock.now, codes in MOMENTS:
        pins = every_pin(chain, trust)
        ours = judge(side, pins, tls_version, chain if trust == "ca" else NOBODY)
        meeting = meet(transport, side, ours, theirs)
        assert (0 if meeting.served else meeting.verify_code()) in codes


@on_both_sides
def test_the_last_certificate_of_an_incomplete_chain_has_its_validity_checked(
    transport: Transport, tls_version: ssl.TLSVersion, side: Side, clock: TimeOfDay
) -> None:
    """OpenSSL never looks at it once its missing issuer is forgiven; we do, to the second."""
    chain = lapsing(1)
    theirs = hostile(side, chain, tls_version, chain.certificates[:2])
    for clock.now, codes in MOMENTS:
        pins = PinSet({"leaf": pin(chain), 1: pin(chain, 1)}, trust="pins")
        meeting = meet(transport, side, judge(side, pins, tls_version), theirs)
        assert (0 if meeting.served else meeting.verify_code()) == codes[0]
        if codes[0]:
            alerts = {9: "bad_certificate", 10: "certificate_expired"}
            assert meeting.theirs.alert == alerts[codes[0]]


@pytest.mark.parametrize("include_root", [True, False])
@pytest.mark.parametrize("depth", [0, 1, 2])
@on_both_sides
def test_check_expiry_false_forgives_time_alone(
    transport: Transport,
    tls_version: ssl.TLSVersion,
    side: Side,
    depth: int,
    include_root: bool,
    clock: TimeOfDay,
) -> None:
    """check_expiry=False connects at any time to a chain that matches, and to no other."""
    chain = lapsing(depth)
    theirs = hostile(side, chain, tls_version, chain.sent_certificates(include_root))
    for clock.now in (BEGIN - SECOND, END, END + SECOND):
        ours = judge(
            side,
            PinSet({"leaf": pin(chain)}, trust="pins", check_expiry=False),
            tls_version,
        )
        assert meet(transport, side, ours, theirs).served
        ours.pins = PinSet({"leaf": WRONG}, trust="pins", check_expiry=False)
        meet(transport, side, ours, theirs).mismatch()


@pytest.mark.parametrize("past", [-SECOND, timedelta(0), SECOND], ids=["before", "at", "after"])
@under_both_trusts
@on_both_sides
def test_expired_pins_reject_everybody(
    transport: Transport,
    tls_version: ssl.TLSVersion,
    side: Side,
    trust: Trust,
    past: timedelta,
    clock: TimeOfDay,
) -> None:
    """From their end on pins refuse also who matches them, before a byte is sent."""
    chain = make_chain(3, pool=18)
    pins = PinSet(pin(chain), trust=trust, expires=END)
    ours = judge(side, pins, tls_version, chain if trust == "ca" else NOBODY)
    clock.now = END + past
    if past < timedelta(0):
        assert meet(transport, side, ours, hostile(side, chain, tls_version)).served
        return
    name = "localhost" if side == "client" else None
    peer = MemoryPeer(ours, server_side=side == "server", server_hostname=name)
    peer.step()
    assert isinstance(peer.record.error, PinExpiredError)
    assert not peer.outgoing.read()


@pytest.mark.parametrize("past", [-SECOND, timedelta(0), SECOND], ids=["before", "at", "after"])
@under_both_trusts
@on_both_sides
def test_expired_pins_step_aside_when_told_to(
    transport: Transport,
    tls_version: ssl.TLSVersion,
    side: Side,
    trust: Trust,
    past: timedelta,
    clock: TimeOfDay,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """after_expiry="unpin": from then on the ordinary checks decide, and never in silence."""
    chain = make_chain(3, pool=18)
    clock.now = END + past
    pins = PinSet(WRONG, trust=trust, expires=END, after_expiry="unpin")
    ours = judge(side, pins, tls_version, chain)
    meeting = meet(transport, side, ours, hostile(side, chain, tls_version))
    if past < timedelta(0):
        meeting.mismatch()
        return
    assert meeting.served
    assert meeting.ours.inspected is None
    assert "expired" in caplog.text
    # trust="pins" went with them: an authority that is not trusted is refused again.
    meeting = meet(transport, side, ours, hostile(side, IMPOSTOR, tls_version))
    assert meeting.verify_code() == 19


@pytest.mark.parametrize("after_expiry", ["reject", "unpin"])
def test_a_session_does_not_outlive_the_pins_it_was_made_under(
    tls_version: ssl.TLSVersion, after_expiry: Literal["reject", "unpin"], clock: TimeOfDay
) -> None:
    """A resumed handshake shows no certificate: past the end of its pins there is none."""
    client = pinned_client(
        PinSet(pin(CHAIN), expires=END, after_expiry=after_expiry), tls_version
    )
    with StdlibServer(peers.server_context(CHAIN, tls_version)) as server:
        with client.wrap_socket(server.connect(), server_hostname="localhost") as connection:
            connection.sendall(b"hello")
            assert connection.recv(5) == b"hello"
            session = connection.session
    for clock.now in (END - SECOND, END):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        again = client.wrap_bio(incoming, outgoing, server_hostname="localhost", session=session)
        if clock.now < END:
            with pytest.raises(ssl.SSLWantReadError):
                again.do_handshake()
            continue
        expected = PinExpiredError if after_expiry == "reject" else ValueError
        with pytest.raises(expected, match=r"expired|different pin set"):
            again.do_handshake()
        assert not outgoing.read()


# Time: a clock that jumps ------------------------------------------------------------------------


@on_both_sides
def test_pins_that_expire_between_wrap_and_handshake_are_expired(
    transport: Transport, tls_version: ssl.TLSVersion, side: Side, clock: TimeOfDay
) -> None:
    """The hour of the handshake counts, not that of the wrap."""
    ours = judge(side, PinSet(pin(CLIENT), expires=END), tls_version)
    name = "localhost" if side == "client" else None
    left, right = socket.socketpair()
    left.setblocking(False)  # there is nobody who would answer
    with left, right:
        if transport == "socket":
            wrapped: peers.Connection = ours.wrap_socket(
                left,
                server_side=side == "server",
                server_hostname=name,
                do_handshake_on_connect=False,
            )
        else:
            wrapped = MemoryPeer(ours, server_side=side == "server", server_hostname=name).obj
        clock.now = END
        with pytest.raises(PinExpiredError):
            wrapped.do_handshake()
        if isinstance(wrapped, ssl.SSLSocket):
            wrapped.close()
            assert right.recv(1) == b""


@pytest.mark.parametrize("after_expiry", ["reject", "unpin"])
@pytest.mark.parametrize("good", [True, False])
def test_a_clock_that_jumps_during_a_handshake_changes_no_pins(
    tls_version: ssl.TLSVersion,
    after_expiry: Literal["reject", "unpin"],
    good: bool,
    clock: TimeOfDay,
) -> None:
    """Pins that held when the handshake began hold to its end: it is not unpinned under way."""
    client = pinned_client(
        PinSet(pin(CHAIN) if good else WRONG, expires=END, after_expiry=after_expiry), tls_version
    )
    ours = MemoryPeer(client, server_hostname="localhost")
    ours.step()  # the ClientHello
    clock.jump(ours, END + SECOND)
    theirs = MemoryPeer(curious_server(CHAIN, tls_version), server_side=True)
    shake(ours, theirs)
    if good:
        assert isinstance(ours.obj.pin_match, PinMatch)  # type: ignore[attr-defined]  # ours
    else:
        assert isinstance(ours.record.error, PinMismatchError)
        assert theirs.observation.peer_gave_nothing


@pytest.mark.parametrize("complete", [True, False])
def test_a_certificate_has_to_be_valid_when_it_is_shown(
    tls_version: ssl.TLSVersion, complete: bool, clock: TimeOfDay
) -> None:
    """Not when the handshake began: a clock that jumps past its end refuses, and one back lets in.

    An incomplete chain has OpenSSL's clock for its leaf, and ours for its end.
    """
    chain = lapsing(1)
    pins = PinSet({"leaf": pin(chain)}, trust="pins")
    for before, after in ((VALID, END + SECOND), (END + SECOND, VALID)):
        clock.now = before
        client = pinned_client(pins, tls_version, trusted=NOBODY)
        ours = MemoryPeer(client, server_hostname="localhost")
        ours.step()
        clock.jump(ours, after)
        server = hostile("client", chain, tls_version, chain.sent_certificates(complete))
        theirs = MemoryPeer(server, server_side=True)
        shake(ours, theirs)
        if after == VALID:
            assert ours.record.completed
        else:
            assert isinstance(ours.record.error, ssl.SSLCertVerificationError)
            assert ours.record.error.verify_code == 10
            assert theirs.observation.peer_gave_nothing
