"""The exception tree, and the data that errors carry.

Every pin failure is an :class:`ssl.SSLCertVerificationError`, and so an :class:`ssl.SSLError` and
an :class:`OSError`: code that handles a failed handshake of :mod:`ssl` handles ours, and on CPython
3.10 to 3.12 only an ``OSError`` or a ``ValueError`` lets ``ssl`` close the file descriptor.

Errors outlive the connection they tell of, travel between processes and end up in logs.  So they
hold text and plain values, never a socket, a context or an OpenSSL object, and they pickle.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

__all__ = [
    "ChainPosition",
    "PinError",
    "PinExpiredError",
    "PinMismatchError",
    "PinSyntaxError",
    "UnpinnedPeerError",
]

# X509_V_ERR_CERT_REJECTED (x509_vfy.h).  OpenSSL sends the alert bad_certificate for it, which is
# what the peer is to see when its pins do not match (DESIGN rule 2).
_CERT_REJECTED = 28


class PinSyntaxError(ValueError):
    """A pin, a host pattern or a pin file that cannot be read; the message says what is right."""


@dataclass(frozen=True, slots=True)
class ChainPosition:
    """One certificate of the verified chain, as an error reports it.

    Attributes:
        depth: 0 is the leaf, counted as OpenSSL counts.
        subject: the subject in the text form of RFC 4514.
        not_after: the end of the certificate's validity, in UTC; ``None`` if it cannot be read.
        pin: the SPKI pin, ready to be pasted; ``None`` if the SPKI cannot be sliced.
        certificate_pin: the pin of the whole certificate, ready to be pasted.
    """

    depth: int
    subject: str
    not_after: datetime | None
    pin: str | None
    certificate_pin: str

    def __str__(self) -> str:
        expiry = "unreadable" if self.not_after is None else f"{self.not_after:%Y-%m-%d}"
        return (
            f"  depth {self.depth}: {self.subject or '(no subject)'}, expires {expiry}\n"
            f"    {self.pin or '(the public key cannot be read)'}\n"
            f"    {self.certificate_pin}"
        )


class PinError(ssl.SSLCertVerificationError):
    """Base of all pin failures; raised itself when a check that had to be made was not made.

    Attributes:
        server_hostname: the name the connection was opened for, or ``None`` (servers).
        verify_code, verify_message, library, reason: as on ``ssl.SSLCertVerificationError``.
    """

    server_hostname: str | None

    def __init__(self, message: str, *, server_hostname: str | None = None) -> None:
        super().__init__(int(ssl.SSLErrorNumber.SSL_ERROR_SSL), message)
        self.library = "PINSOCK"
        self.reason = self._reason
        self.verify_code = _CERT_REJECTED
        self.verify_message = message.partition("\n")[0]
        self.server_hostname = server_hostname

    _reason = "PIN_CHECK_FAILED"

    def __reduce__(self) -> tuple[object, ...]:
        return _restore, (type(self), self.args, self.__dict__)


def _restore(
    cls: type[PinError], args: tuple[object, ...], state: dict[str, object]
) -> PinError:
    """Rebuild a pickled error without running ``__init__``, whose arguments it does not keep."""
    error = cls.__new__(cls)
    ssl.SSLCertVerificationError.__init__(error, *args)
    error.__dict__.update(state)
    return error


class PinMismatchError(PinError):
    """The peer's verified chain does not match the pins; nothing was sent to the peer.

    Attributes:
        positions: what the peer presented and OpenSSL verified, leaf first.
        expected: for each position of the pin set, the pins that would have matched, as text.
        first_seen: when the peer was first seen with those, if they were learned from itself.
    """

    positions: tuple[ChainPosition, ...]
    expected: Mapping[str | int, tuple[str, ...]]
    first_seen: datetime | None

    _reason = "PIN_MISMATCH"

    def __init__(
        self,
        peer: str,
        *,
        positions: tuple[ChainPosition, ...],
        expected: Mapping[str | int, tuple[str, ...]],
        server_hostname: str | None = None,
        first_seen: datetime | None = None,
    ) -> None:
        lines = [f"the certificate chain of {peer} does not match its pins", "verified chain:"]
        lines += [str(position) for position in positions]
        lines.append("pins expected:")
        for name, pins in expected.items():
            where = f"depth {name}" if isinstance(name, int) else name
            lines += [f"  {where}: {pin}" for pin in pins]
        if first_seen is not None:
            lines.append(f"known by these since its first use, {first_seen:%Y-%m-%d %H:%M:%S} UTC")
        lines.append("if the peer's key was changed on purpose, add its new pin; if not, beware")
        super().__init__("\n".join(lines), server_hostname=server_hostname)
        self.positions = positions
        self.expected = dict(expected)
        self.first_seen = first_seen


class PinExpiredError(PinError):
    """The pin set is past its ``expires``, and its ``after_expiry`` is ``"reject"``."""

    _reason = "PINS_EXPIRED"


class UnpinnedPeerError(PinError):
    """There are no pins for this peer, and unpinned peers are refused; nothing was sent."""

    _reason = "UNPINNED_PEER"
