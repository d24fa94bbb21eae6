"""The groups of the key exchange, and the guess which of them a server takes.

A client of TLS 1.3 sends its key shares before it knows what the server takes (RFC 8446 section
4.2.8).  From its version 3.5 on OpenSSL sends two, one of them for a hybrid with ML-KEM.  For a
server that does not know hybrids that one is made in vain: a tenth of a handshake's CPU time,
1.2 KB on the wire, and 5 KiB of memory for as long as the connection is open.

What a server has taken it takes again.  So it is remembered, and the next client sends a share for
that group and no other; unless it is the one that OpenSSL likes best: then the other costs little.
All groups are offered as before, in the same order; the Finished messages are of the offer, too.

A server that prefers another group, as it has been taught a better since, or is another one of the
same name, asks for its share, at the price of a round trip (HelloRetryRequest): so do OpenSSL's, if
they are told nothing, and Go's.  But a server may also be content with any share.  If it learns of
hybrids then it is not used to the full until the guess is forgotten.  So that is soon: a minute
after the group was learned, however often it was used; when a handshake fails; and when the context
is told something.  Who has not been verified teaches nothing, and where a guess was wrong there is
none for as long.
"""

from __future__ import annotations

import functools
import ssl
import time

from OpenSSL import SSL

from pinsock import _openssl

__all__ = ["GROUPS", "Taken", "sharing"]

#: The TLS Supported Groups registry, with OpenSSL's names.
GROUPS = {
    23: "prime256v1",
    24: "secp384r1",
    25: "secp521r1",
    29: "X25519",
    30: "X448",
    31: "brainpoolP256r1tls13",
    32: "brainpoolP384r1tls13",
    33: "brainpoolP512r1tls13",
    41: "curveSM2",
    256: "ffdhe2048",
    257: "ffdhe3072",
    258: "ffdhe4096",
    259: "ffdhe6144",
    260: "ffdhe8192",
    4587: "SecP256r1MLKEM768",
    4588: "X25519MLKEM768",
    4589: "SecP384r1MLKEM1024",
    4590: "curveSM2MLKEM768",
}
# What SSL_get0_group_name calls them.
_CALLED = {name.casefold(): name for name in GROUPS.values()} | {"secp256r1": "prime256v1"}

_LIFETIME = 60.0  # seconds; what busy clients save does not depend on it
_MAX_SERVERS = 4096


def _offer(groups: str | None) -> tuple[int, ...]:
    """The groups that a client offers which is told these, or nothing."""
    from pinsock._hello import HelloReader  # for one connection of a process

    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    if groups is not None:
        _openssl.set_groups(context, groups)
    pointer = _openssl.new_connection(context)
    _, out = _openssl.use_memory(pointer)
    _openssl.set_connect_state(pointer)
    _openssl.ssl_do_handshake(pointer)
    _openssl.clear_errors()
    reader = HelloReader()
    reader.feed(_openssl.bio_drain(out))
    return () if reader.hello is None else reader.hello.groups


@functools.cache
def _usual() -> tuple[str, ...]:
    """The groups that are offered if nothing is said; none if that cannot be said again."""
    offered = _offer(None)
    names = tuple(GROUPS[number] for number in offered if number in GROUPS)
    try:
        said = _offer(_list(names, names[0])) if names else ()
    except (ssl.SSLError, NotImplementedError):
        return ()  # an OpenSSL that sends one share anyway, or one that cannot be told
    return names if said == offered else ()


def _list(names: tuple[str, ...], share: str) -> str:
    # SSL_CTX_set1_groups_list(3): a star is for a share.
    return ":".join(f"*{name}" if name == share else name for name in names)


def sharing(group: str) -> str | None:
    """The usual groups, with a share for one of them; None if it is none of them.

    Args:
        group: its name in ``GROUPS``.

    Returns:
        A list for ``SSL_CTX_set1_groups_list``.
    """
    names = _usual()
    return _list(names, group) if group in names else None


class Taken:
    """Remembers which groups servers took."""

    __slots__ = ("_servers",)

    def __init__(self) -> None:
        # The group, None if there is to be no guess, and until when (time.monotonic).
        self._servers: dict[str, tuple[str | None, float]] = {}

    def guess(self, host: str | None) -> str | None:
        """The group that a server will take; None if there is no telling."""
        found = self._servers.get(host) if host is not None else None
        if found is None:
            return None
        group, end = found
        if time.monotonic() < end:
            return group
        self._servers.pop(host or "", None)
        return None

    def forget(self, host: str | None) -> None:
        """Guess nothing of a server; the usual shares may fare better."""
        if host is not None:
            self._servers.pop(host, None)

    def clear(self) -> None:
        """Guess nothing of any."""
        self._servers.clear()

    def learn(self, host: str | None, called: str) -> None:
        """Remember the group that a handshake came to use, if there was one.

        Args:
            host: the server's name; without one, it may be another each time.
            called: what OpenSSL calls the group; empty if there was none.
        """
        group = _CALLED.get(called.casefold())
        if host is None or group is None:
            return
        known = self._servers.get(host)
        guess: str | None = group
        if known is None:
            if group not in _usual()[1:]:
                return  # OpenSSL's own guess is right, or there can be no other
        elif known[0] in (None, group):
            return
        else:
            guess = None  # it was wrong
        if len(self._servers) >= _MAX_SERVERS:
            self._servers.clear()
        self._servers[host] = guess, time.monotonic() + _LIFETIME
