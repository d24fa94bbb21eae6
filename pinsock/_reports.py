"""What is told of pins: reports of mismatches, and warnings of what is about to end.

Nothing here decides anything.  What is told goes three ways: to the logger ``pinsock``, to the
interpreter's audit hooks, and to the callback of the context.
"""

from __future__ import annotations

import ssl
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from functools import lru_cache
from typing import Literal, Union

from pinsock import _chain
from pinsock._pins import Pin, PinSet, Position

__all__ = [
    "ERROR",
    "WARNING",
    "Address",
    "PinReport",
    "Reporter",
    "Unraisable",
    "log",
    "make_report",
]

# Of the module logging, which is imported when there is something to be told.
WARNING, ERROR = 30, 40

#: The address of a peer, as the ``socket`` module has it.
Address = Union["tuple[str, int]", "tuple[str, int, int, int]", str, bytes]

_DEFAULT_WARNING = timedelta(days=30)
# Of how many things it is remembered that they were said today.
_MAX_SAID = 4096


class Unraisable:
    """Takes an exception that cannot be raised to ``sys.unraisablehook``, as ``ssl`` does.

    The hook takes a structure that Python code cannot make; but it is called for what is raised in
    a finalizer.
    """

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __del__(self) -> None:
        raise self._error


def log(level: int, message: str, *arguments: object, exc_info: bool = False) -> None:
    """Log something, which decides nothing: what a handler or a filter raises does neither."""
    try:
        import logging

        logger = logging.getLogger("pinsock")
        logger.log(level, message, *arguments, exc_info=exc_info, stacklevel=2)
    except Exception as error:
        Unraisable(error)


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _rfc3339(moment: datetime | None) -> str | None:
    if moment is None:
        return None
    return moment.astimezone(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")


def _known_pin(pin: Pin) -> str:
    # RFC 7469 has a form for the pins of keys only.
    algorithm, _, digest = str(pin).partition("/")
    return f'pin-{algorithm}="{digest}"'


@dataclass(frozen=True, slots=True)
class PinReport:
    """A peer that did not match its pins, or whose pins have expired.

    Attributes:
        time: when, aware, UTC.
        reason: ``"mismatch"`` or ``"expired"``.
        enforced: whether the peer was refused.
        side: what we are to the peer: ``"client"`` or ``"server"``.
        host: ``server_hostname``; None on servers, and where there was none.
        address: the peer's address; None if it is not known, as with BIOs.
        verified_chain: what OpenSSL built and verified, PEM, leaf first; empty for expired pins.
        unverified_chain: what the peer sent, PEM, leaf first; empty for expired pins, and for
            clients that a server has refused: OpenSSL does not keep it.
        pins: the pins that would have matched, by position.
        expires: when those pins end.
    """

    time: datetime
    reason: Literal["mismatch", "expired"]
    enforced: bool
    side: Literal["client", "server"]
    host: str | None
    address: Address | None
    verified_chain: tuple[str, ...]
    unverified_chain: tuple[str, ...]
    pins: Mapping[Position, tuple[Pin, ...]]
    expires: datetime | None

    def to_json(self) -> str:
        """Return the report in the form of RFC 7469 section 3.

        That has one list of pins, whatever their positions, and a form for the pins of keys;
        those of certificates are ``pin-cert-sha256="..."``.
        """
        import json  # few programs report, and all import this

        port = self.address[1] if isinstance(self.address, tuple) else None
        pins = dict.fromkeys(pin for alternatives in self.pins.values() for pin in alternatives)
        return json.dumps(
            {
                "date-time": _rfc3339(self.time),
                "hostname": self.host,
                "port": port,
                "effective-expiration-date": _rfc3339(self.expires),
                "include-subdomains": False,
                "noted-hostname": self.host,
                "served-certificate-chain": list(self.unverified_chain),
                "validated-certificate-chain": list(self.verified_chain),
                "known-pins": [_known_pin(pin) for pin in pins],
            }
        )


def make_report(
    pins: PinSet,
    *,
    reason: Literal["mismatch", "expired"],
    enforced: bool,
    server_side: bool,
    host: str | None,
    address: Address | None,
    verified: Iterable[bytes] = (),
    unverified: Iterable[bytes] = (),
) -> PinReport:
    """Make a report of the present; certificates are DER."""
    return PinReport(
        time=_now(),
        reason=reason,
        enforced=enforced,
        side="server" if server_side else "client",
        host=host,
        address=address,
        verified_chain=tuple(map(ssl.DER_cert_to_PEM_cert, verified)),
        unverified_chain=tuple(map(ssl.DER_cert_to_PEM_cert, unverified)),
        pins=dict(pins.positions),
        expires=pins.expires,
    )


def _not_after(certificate: bytes) -> datetime | None:
    try:
        return _chain.validity(certificate)[1]
    except ValueError:
        return None


@lru_cache(maxsize=256)
def _first_end(certificates: tuple[bytes, ...]) -> datetime | None:
    ends = [end for end in map(_not_after, certificates) if end is not None]
    return min(ends, default=None)


class _Telling(threading.local):
    now = False


_telling = _Telling()


class Reporter:
    """What a context tells, and to whom.

    Attributes:
        callback: given each :class:`PinReport`; None if there is none.
        pin_expiry_warning: how long before their end it is said that pins expire; None: never.
        certificate_expiry_warning: likewise for the certificates that were matched.
    """

    def __init__(self) -> None:
        self.callback: Callable[[PinReport], object] | None = None
        self.pin_expiry_warning: timedelta | None = _DEFAULT_WARNING
        self.certificate_expiry_warning: timedelta | None = _DEFAULT_WARNING
        self._said: dict[tuple[str, datetime, date], object] = {}

    def tell(self, report: PinReport, message: str) -> None:
        """Tell of a mismatch, or of expired pins, those who want to know.

        Raises:
            Exception: what an audit hook raises, and nothing else.
        """
        sys.audit(
            "pinsock.mismatch",
            *(report.host, report.address, report.side, report.reason, report.enforced),
        )
        log(WARNING, "%s", message)
        callback = self.callback
        # A callback that reports to a server which does not match its pins would never end.
        if callback is None or _telling.now:
            return
        _telling.now = True
        try:
            callback(report)
        except Exception:
            log(ERROR, "report_callback failed; the verdict stands", exc_info=True)
        finally:
            _telling.now = False

    def look_ahead(self, peer: str, pins: PinSet, matched: tuple[bytes, ...]) -> None:
        """Say, once a day, what is about to expire.

        Args:
            peer: how the peer is called.
            pins: its pins.
            matched: the certificates that were matched, DER.
        """
        now = _now()
        end, before = pins.expires, self.pin_expiry_warning
        if end is not None and before is not None and end - now <= before:
            self._warn(f"the pins for {peer}", end, now)
        before = self.certificate_expiry_warning
        end = _first_end(matched)
        if end is None or before is None or end - now > before:
            return
        for certificate in matched:
            end = _not_after(certificate)
            if end is not None and end - now <= before:
                self._warn(f"the certificate of {peer} that matched its pins", end, now)

    def _warn(self, what: str, end: datetime, now: datetime) -> None:
        if len(self._said) >= _MAX_SAID:
            self._said.clear()
        # In one step: of threads that come at once, one says it.
        mine = object()
        if self._said.setdefault((what, end, now.date()), mine) is not mine:
            return
        verb = "expiring" if end > now else "expired"
        log(WARNING, "%s at %s UTC: %s", verb, f"{end:%Y-%m-%d %H:%M}", what)
