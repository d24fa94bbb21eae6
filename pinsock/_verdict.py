"""The decision: verify events and a pin set in, a verdict out.

Theory of operation
===================

While OpenSSL verifies a chain it reports *events* to a callback: ``(depth, error, certificate)``.
An event with an error says "this is wrong at that depth; shall I go on?".  An event without says
"everything I know of is right at this depth", and comes once for each certificate of the verified
chain, from the anchor down to the leaf, when signatures, validity and all that came before have
been checked.  After the leaf's there may still be errors: name constraints and policies come last.

So the chain is put together from the events themselves.  That is what makes rule 3 hold without a
line of code for it: a certificate that the peer merely appended is not part of the path, so it has
no event.  When depth 0 is said to be right the chain is complete, and is matched.

With ``trust="pins"`` four errors are forgiven: they all say no more than "I know no authority for
this", and the pin is the authority.  They are forgiven *provisionally*, as they come before the
chain is known, and the leaf's event decides: if the positions do not match then, the handshake is
refused there.  No handshake completes without that event, because :attr:`Verdict.accepted` is false
until it has come, and the engine asks for it at the end (rule 1).

One gap of OpenSSL's is closed here.  When the path ends in a certificate that is not self-signed
and no issuer is known (a leaf and its intermediate, sent without the root), OpenSSL reports "unable
to get issuer locally" for the last one and then starts *below* it: that certificate's validity is
never looked at.  If the error is forgiven, we look.

The rules kept here (DESIGN section 5): 1 (fail closed: whatever is not understood is refused, and a
refusal is for good), 3 (verified chain only), 4 (never turn a failure into a success).
"""

from __future__ import annotations

from datetime import datetime, timezone

from pinsock import _chain
from pinsock._pins import FirstUse, PinMatch, PinSet

__all__ = ["Verdict"]

# X509_V_ERR_* of OpenSSL's x509_vfy.h; a test holds them against the library's own.
CERT_NOT_YET_VALID = 9
CERT_HAS_EXPIRED = 10
ERROR_IN_CERT_NOT_AFTER_FIELD = 14
DEPTH_ZERO_SELF_SIGNED_CERT = 18
SELF_SIGNED_CERT_IN_CHAIN = 19
UNABLE_TO_GET_ISSUER_CERT_LOCALLY = 20
UNABLE_TO_VERIFY_LEAF_SIGNATURE = 21
CERT_REJECTED = 28

_NO_AUTHORITY = frozenset(
    {
        DEPTH_ZERO_SELF_SIGNED_CERT,
        SELF_SIGNED_CERT_IN_CHAIN,
        UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
        UNABLE_TO_VERIFY_LEAF_SIGNATURE,
    }
)
_EXPIRY = frozenset({CERT_NOT_YET_VALID, CERT_HAS_EXPIRED})
_NOTHING: frozenset[int] = frozenset()


class Verdict:
    """The judgement of one chain by one pin set, event by event.

    Args:
        pins: the pin set, fixed for this handshake (rule 6).  Whether it has expired is seen to
            before the handshake, not here.
        now: the time of the handshake, aware; None is the present.

    Attributes:
        match: where the chain matched; None as long as it did not.
        mismatched: the chain was complete, and did not match.
        chain: the verified chain, DER, leaf first; empty until the leaf's event.
    """

    __slots__ = (
        "_certificates",
        "_forgivable",
        "_forgiven",
        "_now",
        "_refusal",
        "_walked",
        "chain",
        "match",
        "mismatched",
        "pins",
    )

    def __init__(self, pins: PinSet | FirstUse, now: datetime | None = None) -> None:
        self.pins: PinSet | FirstUse = pins
        self._now = now
        self._forgivable = _NOTHING
        if pins.trust == "pins":
            self._forgivable = _NO_AUTHORITY if pins.check_expiry else _NO_AUTHORITY | _EXPIRY
        self._certificates: dict[int, bytes] = {}
        self._walked: set[int] = set()  # depths that OpenSSL said were right
        self._forgiven: dict[int, int] = {}  # the first forgiven error of each depth
        self._refusal = 0
        self.match: PinMatch | None = None
        self.mismatched = False
        self.chain: tuple[bytes, ...] = ()

    @property
    def accepted(self) -> bool:
        """Everything held, to the last event seen; False before the leaf's event."""
        return not self._refusal and bool(self.chain)

    @property
    def matched(self) -> tuple[bytes, ...]:
        """The certificates that were matched, DER."""
        match, chain = self.match, self.chain
        matches = () if match is None else (match, *match.others)
        return tuple([chain[each.depth] for each in matches if each.depth < len(chain)])

    def hold_to(self, pins: PinSet) -> None:
        """Judge the chain, which was accepted, by other pins: those that first use has led to."""
        self.pins = pins
        self._match()

    def event(self, depth: int, error: int, certificate: bytes) -> int:
        """Take one verify event.

        Args:
            depth: the depth it concerns.
            error: the X509_V_ERR_* number, or 0 for "this depth is right".
            certificate: the DER certificate at that depth.

        Returns:
            0 to go on, or the X509_V_ERR_* number to refuse with.
        """
        if not self._refusal:
            self._refusal = self._judge(depth, error, certificate)
        return self._refusal

    def _judge(self, depth: int, error: int, certificate: bytes) -> int:
        if error and (error not in self._forgivable or self.chain):
            # An error after the leaf's event finds its decision already made.
            return error if error > 0 else CERT_REJECTED
        if self._certificates.setdefault(depth, certificate) != certificate:
            return CERT_REJECTED  # two certificates cannot be at one depth of one chain
        if error:
            self._forgiven.setdefault(depth, error)
            return 0
        self._walked.add(depth)
        if self.chain:
            return 0 if 0 <= depth < len(self.chain) else CERT_REJECTED
        return self._decide() if depth == 0 else 0

    def _decide(self) -> int:
        """The leaf is right, so the chain is complete: judge it."""
        depths = range(len(self._certificates))
        if not all(depth in self._certificates for depth in depths):
            return CERT_REJECTED
        chain = tuple([self._certificates[depth] for depth in depths])
        if len(self._walked) != len(chain):
            for depth in set(depths) - self._walked:
                refusal = self._check_unwalked(depth, chain)
                if refusal:
                    return refusal
        self.chain = chain
        self._match()
        if not self.mismatched:
            return 0
        if self.pins.enforce:
            return CERT_REJECTED
        # Report only: the ordinary checks decide, and to those nothing was forgiven.
        return next(iter(self._forgiven.values()), 0)

    def _match(self) -> None:
        match = self.pins.match(self.chain)
        # A subclass may have a match of its own: what it returns is a match, or it is none.
        self.match = match if issubclass(type(match), PinMatch) else None
        self.mismatched = self.match is None

    def _check_unwalked(self, depth: int, chain: tuple[bytes, ...]) -> int:
        """See to a certificate that OpenSSL never said was right: only the last may be such."""
        last = depth == len(chain) - 1
        if not last or self._forgiven.get(depth) != UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
            return CERT_REJECTED
        if not self.pins.check_expiry:
            return 0
        try:
            not_before, not_after = _chain.validity(chain[depth])
        except ValueError:
            return ERROR_IN_CERT_NOT_AFTER_FIELD
        now = self._now or datetime.now(timezone.utc)
        if now < not_before:
            return CERT_NOT_YET_VALID
        return CERT_HAS_EXPIRED if now > not_after else 0
