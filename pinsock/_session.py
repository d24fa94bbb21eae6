"""``PinnedSession``: a TLS session, bound to the check that it stands for (rule 7).

Pure: it knows what OpenSSL wrote, and nothing of OpenSSL.

Facts
-----
* What ``i2d_SSL_SESSION`` writes is a SEQUENCE: INTEGER version, INTEGER TLS version, OCTET STRING
  cipher suite, OCTET STRING session id, OCTET STRING master key, and then fields that may be left
  out, each under an explicit tag: [1] INTEGER time, [2] INTEGER timeout, [6] OCTET STRING name
  that a client asked for, [9] INTEGER lifetime hint of the ticket, [10] OCTET STRING ticket, and
  more (ssl_asn1.c of OpenSSL).
* Times are seconds since 1970; the lifetimes are seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pinsock._der import SEQUENCE, Value, element, whole

if TYPE_CHECKING:
    from collections.abc import Hashable

    from pinsock._pins import FirstUse, PinMatch, PinSet

__all__ = ["Binding", "PinnedSession", "check_session", "name_asked_for"]

_SESSION_ID = 3  # the place in the sequence
_TIME, _TIMEOUT, _NAME, _LIFETIME_HINT, _TICKET = 0xA1, 0xA2, 0xA6, 0xA9, 0xAA


class Binding(NamedTuple):
    """All that the check depended on, which a session stands for.

    Attributes:
        context: the context that made the connection.
        server_hostname: whom it was made to.
        pins: what the peer was held to.
        match: where its chain matched.
        verification: what was checked besides.
    """

    context: object
    server_hostname: str | None
    pins: PinSet | FirstUse | None
    match: PinMatch | None
    verification: Hashable


def _content(field: Value) -> bytes:
    return element(field.data, field.contents, field.end).body


def name_asked_for(der: bytes) -> bytes | None:
    """Return the name that the client of a server's session asked for; None if it asked for none.

    Args:
        der: the session as OpenSSL writes it.
    """
    for field in whole(der, SEQUENCE).items():
        if field.tag == _NAME:
            return _content(field)
    return None


class PinnedSession:
    """A TLS session that can be resumed where it was made, and nowhere else (rule 7).

    A resumed handshake verifies no certificate: OpenSSL runs no callback.  So a session stands for
    the check that was made when it began, and is bound to all that the check depended on: the
    context, the ``server_hostname`` and the pin set.

    It tells what an ``ssl.SSLSession`` does, and equals another with the same ``id``.
    """

    __slots__ = ("_binding", "_der")

    def __init__(self, der: bytes, binding: Binding) -> None:
        self._der = der
        self._binding = binding

    @property
    def der(self) -> bytes:
        """The session as OpenSSL writes it, with its keys in it: not for the user's eyes."""
        return self._der

    @property
    def binding(self) -> Binding:
        """What the session is bound to."""
        return self._binding

    def _fields(self) -> list[Value]:
        return list(whole(self._der, SEQUENCE).items())

    def _number(self, tag: int) -> int:
        for field in self._fields():
            if field.tag == tag:
                return int.from_bytes(_content(field), "big")
        return 0

    @property
    def id(self) -> bytes:
        """The session id; for TLS 1.3 a name of the ticket."""
        fields = self._fields()
        if len(fields) <= _SESSION_ID:
            raise ValueError("the session has no id")
        return fields[_SESSION_ID].body

    @property
    def time(self) -> int:
        """When the session was made, in seconds since 1970."""
        return self._number(_TIME)

    @property
    def timeout(self) -> int:
        """How long it can be resumed, in seconds."""
        return self._number(_TIMEOUT)

    @property
    def ticket_lifetime_hint(self) -> int:
        """How long the server said that it keeps its ticket, in seconds; 0 if it did not."""
        return self._number(_LIFETIME_HINT)

    @property
    def has_ticket(self) -> bool:
        """Whether the server gave a ticket (RFC 5077, RFC 8446 section 4.6.1)."""
        return any(field.tag == _TICKET for field in self._fields())

    def __eq__(self, other: object) -> bool:
        return self.id == other.id if isinstance(other, PinnedSession) else NotImplemented

    # As ssl.SSLSession: equal to others, and no key of a dictionary.
    __hash__ = None  # type: ignore[assignment]  # object has one


def check_session(session: object) -> None:
    """Refuse what is no session of ours, in the words of ``_ssl.c``."""
    if not isinstance(session, PinnedSession):
        raise TypeError("Value is not a SSLSession.")
