"""What a pinned handshake must come to, worked out a second time and in another way.

The verdicts here follow from the facts of a scene: which certificates there are and who issued
whom, what the peer sends, what is trusted, and what is pinned.  No certificate is parsed and no
signature checked; pins are hashes over what cryptography says the public key is.
:func:`verify` says which path OpenSSL finds and what it objects to on the way, :func:`decide` what
the pins make of that.  The standard library agrees with the first (test_handshake_properties); the
second follows the documentation and shares no code with what it judges.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Union

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.certificates import Chain

__all__ = [
    "DEPTH_ZERO_SELF_SIGNED",
    "EXPIRED",
    "FORGIVEN_BY_PINS",
    "FORGIVEN_DATES",
    "HOSTNAME_MISMATCH",
    "LEAF_SIGNATURE",
    "NOT_YET_VALID",
    "NO_ISSUER",
    "NO_LOCAL_ISSUER",
    "SELF_SIGNED_IN_CHAIN",
    "Certificate",
    "Decision",
    "Outcome",
    "Path",
    "PinFacts",
    "Policy",
    "Position",
    "Scene",
    "certificates_of",
    "decide",
    "fulfils",
    "matches",
    "verify",
]

Kind = Literal["spki", "cert"]
Algorithm = Literal["sha256", "sha384", "sha512"]
Position = Union[int, str]
Dates = Literal["valid", "expired", "future"]
Outcome = Literal["accept", "mismatch", "chain"]

# OpenSSL's names, and its numbers (x509_vfy.h).
NO_ISSUER = 2  # ..._UNABLE_TO_GET_ISSUER_CERT
NOT_YET_VALID = 9
EXPIRED = 10
DEPTH_ZERO_SELF_SIGNED = 18
SELF_SIGNED_IN_CHAIN = 19
NO_LOCAL_ISSUER = 20  # ..._UNABLE_TO_GET_ISSUER_CERT_LOCALLY
LEAF_SIGNATURE = 21  # ..._UNABLE_TO_VERIFY_LEAF_SIGNATURE
HOSTNAME_MISMATCH = 62

#: The errors that ``trust="pins"`` forgives, and those of ``check_expiry=False``.
FORGIVEN_BY_PINS = frozenset(
    {DEPTH_ZERO_SELF_SIGNED, SELF_SIGNED_IN_CHAIN, NO_LOCAL_ISSUER, LEAF_SIGNATURE}
)
FORGIVEN_DATES = frozenset({NOT_YET_VALID, EXPIRED})


# What is pinned ----------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Certificate:
    """The bytes of a certificate, and those of its public key; None if nobody can read them."""

    der: bytes
    spki: bytes | None

    def __repr__(self) -> str:
        return f"<certificate {hashlib.sha256(self.der).hexdigest()[:8]}>"


def certificates_of(chain: Chain) -> tuple[Certificate, ...]:
    """Return the certificates of a chain, which may have such keys only as cryptography keeps."""
    return tuple(
        Certificate(
            certificate.public_bytes(Encoding.DER),
            certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        )
        for certificate in chain.certificates
    )


@dataclass(frozen=True)
class PinFacts:
    """A pin as its three parts."""

    kind: Kind
    algorithm: Algorithm
    digest: bytes

    @classmethod
    def of(cls, certificate: Certificate, kind: Kind, algorithm: Algorithm) -> PinFacts:
        """Return the pin of a certificate."""
        data = certificate.der if kind == "cert" else certificate.spki
        assert data is not None, "a key that nobody can read has no pin"
        return cls(kind, algorithm, hashlib.new(algorithm, data).digest())

    @property
    def text(self) -> str:
        """The canonical spelling."""
        prefix = "cert-" if self.kind == "cert" else ""
        return f"{prefix}{self.algorithm}/{base64.b64encode(self.digest).decode('ascii')}"

    def is_of(self, certificate: Certificate) -> bool:
        """Tell whether this is a pin of ``certificate``."""
        data = certificate.der if self.kind == "cert" else certificate.spki
        return data is not None and hashlib.new(self.algorithm, data).digest() == self.digest


@dataclass(frozen=True)
class Policy:
    """A pin set: the pins by position, and what finding them means."""

    positions: Mapping[Position, tuple[PinFacts, ...]]
    trust: Literal["ca", "pins"] = "ca"
    check_expiry: bool = True
    enforce: bool = True

    @property
    def forgiven(self) -> frozenset[int]:
        """The errors that a full match makes good."""
        if self.trust == "ca":
            return frozenset()
        return FORGIVEN_BY_PINS if self.check_expiry else FORGIVEN_BY_PINS | FORGIVEN_DATES


def fulfils(position: Position, depth: int, length: int) -> bool:
    """Tell whether ``depth`` of a verified chain of ``length`` is what ``position`` means."""
    last = length - 1
    if position == "leaf":
        return depth == 0
    if position == "intermediate":
        return 0 < depth < last
    if position == "anchor":
        return depth == last
    if position == "ca":
        return depth > 0
    return position == "any" or position == depth


def matches(policy: Policy, path: tuple[Certificate, ...]) -> bool:
    """Tell whether each position has one of its pins in a verified chain, leaf first."""
    return all(
        any(
            pin.is_of(certificate)
            for depth, certificate in enumerate(path)
            for pin in pins
            if fulfils(position, depth, len(path))
        )
        for position, pins in policy.positions.items()
    )


# What OpenSSL finds ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scene:
    """A chain in which each certificate was issued by the next and the last by itself.

    Attributes:
        dates: by depth.
        sent: the depths that the peer sends, in whatever order; 0 always is.
        trusted: the depths that are in the trust store.
        partial_chain: any trusted certificate ends the chain, not just a self-signed one
            (``ssl.VERIFY_X509_PARTIAL_CHAIN``, a default since CPython 3.13).
        hostname_matches: the leaf is for the name asked for; or there is none to check.
    """

    certificates: tuple[Certificate, ...]
    dates: tuple[Dates, ...]
    sent: frozenset[int]
    trusted: frozenset[int]
    partial_chain: bool = False
    hostname_matches: bool = True


@dataclass(frozen=True)
class Path:
    """The verified chain, as a length, and what was wrong with it.

    Attributes:
        length: it is the first so many certificates of the scene.
        errors: what OpenSSL objects to, in the order in which it does.
        unchecked: the objection to the dates of the last certificate of an incomplete chain.
            OpenSSL does not look at them (nothing has vouched for that certificate), but whoever
            goes on regardless has to.
    """

    length: int
    errors: tuple[int, ...]
    unchecked: int | None = None


def verify(scene: Scene) -> Path:
    """Work out the chain that OpenSSL builds, and what it says about it.

    It goes up from the leaf.  An issuer is taken from the trust store rather than from what the
    peer sent (``VERIFY_X509_TRUSTED_FIRST``, a default), and once one was, all further ones are.
    """
    last = len(scene.certificates) - 1
    top, from_store = 0, False
    trusted = scene.partial_chain and 0 in scene.trusted
    while True:
        issuer = min(top + 1, last)
        if issuer == top:  # self-signed
            from_store = from_store or top in scene.trusted
            trusted = trusted or top in scene.trusted
            break
        if issuer in scene.trusted:
            top, from_store = issuer, True
            if scene.partial_chain:
                trusted = True
                break
        elif issuer in scene.sent and not from_store:
            top = issuer
        else:
            break
    complete = top == last

    errors: list[int] = []
    if not trusted:
        if complete:
            errors.append(SELF_SIGNED_IN_CHAIN if top else DEPTH_ZERO_SELF_SIGNED)
        else:
            errors.append(NO_ISSUER if from_store else NO_LOCAL_ISSUER)
    if not scene.hostname_matches:
        errors.append(HOSTNAME_MISMATCH)
    objections = {"expired": EXPIRED, "future": NOT_YET_VALID}
    unchecked = None
    checked = range(top, -1, -1)
    if not complete and not scene.partial_chain:
        if top == 0:
            errors.append(LEAF_SIGNATURE)
        else:
            unchecked = objections.get(scene.dates[top])
            checked = range(top - 1, -1, -1)
    errors += [objections[scene.dates[depth]] for depth in checked if scene.dates[depth] != "valid"]
    return Path(top + 1, tuple(errors), unchecked)


# What must come of it ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Decision:
    """How the handshake must end.

    Attributes:
        outcome: ``"chain"`` is a refusal for what is wrong with the chain, whatever the pins say.
        errors: the errors that the refusal may name.  Mostly there is one, the first that OpenSSL
            reports and nothing forgives.
        chain: the verified chain, leaf first.
        matched: every position of the pin set matched.
    """

    outcome: Outcome
    errors: frozenset[int]
    chain: tuple[Certificate, ...]
    matched: bool


def decide(scene: Scene, policy: Policy) -> Decision:
    """Decide a scene."""
    path = verify(scene)
    chain = scene.certificates[: path.length]
    matched = matches(policy, chain)

    def refuse(*errors: int) -> Decision:
        return Decision("chain", frozenset(errors), chain, matched)

    unforgiven = [error for error in path.errors if error not in policy.forgiven]
    unchecked = path.unchecked if path.unchecked not in policy.forgiven else None
    if unforgiven:
        # When the dates that OpenSSL leaves out are looked at is nobody's business.
        return refuse(unforgiven[0], *([] if unchecked is None else [unchecked]))
    if matched:
        if unchecked is not None:
            return refuse(unchecked)
        return Decision("accept", frozenset(), chain, True)
    if policy.enforce:
        # Both are true of a chain that does not match and ends with a certificate out of date.
        errors = frozenset() if unchecked is None else frozenset({unchecked})
        return Decision("mismatch", errors, chain, False)
    # Reported only.  But what was to be forgiven for the sake of the pins now is not.
    if path.errors:
        return refuse(*path.errors, *([] if unchecked is None else [unchecked]))
    return Decision("accept", frozenset(), chain, False)
