"""Host patterns: which pin set belongs to which server name.

Pure.  Patterns are those of OkHttp's CertificatePinner: an exact name, ``*.example.com`` (exactly
one label more), ``**.example.com`` (any number of labels more, none included).  An exact name beats
``*.``, which beats ``**.``; among the latter the longest wins.

A pattern that fails to match must never mean "unpinned" by accident.  So names are brought to one
canonical form before they are compared, what has no canonical form is refused, and a host without
pins is refused unless the author of the patterns said otherwise.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, TypeVar, Union

from pinsock._errors import PinSyntaxError, UnpinnedPeerError
from pinsock._pins import POSITIONS, PinSet, PinsLike, as_pin_set

if TYPE_CHECKING:
    from typing_extensions import Self

    from pinsock._foreign import Found

__all__ = [
    "HostPins",
    "Unpinned",
    "canonical_host",
    "canonical_pattern",
    "check_unpinned",
    "find",
    "look_up",
]

#: What is to become of a host without pins.
Unpinned = Literal["reject", "allow"]

_V = TypeVar("_V")

# RFC 1035 section 2.3.4 for the sizes.  The underscore is no host name's, but is found in names
# that are looked up, and ssl lets it through.
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_MAX_NAME = 253
_POSITIONS_ARE_NO_HOSTS = "these keys are positions, not hosts: write PinSet({position: pins})"


def _ip(host: str) -> str | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        # A scope (RFC 4007) is the way to the peer and no part of its name: no certificate has one.
        return str(ipaddress.IPv6Address(int(address)))
    return str(address)


def canonical_host(host: str) -> str:
    """Return the one form of a host name that is compared: lower case, IDNA A-labels, no final dot.

    IP addresses are given in the form of RFC 5952.  Names in other scripts are encoded by the codec
    that :mod:`ssl` uses, so that the name pinned is the name that is sent and verified.

    Args:
        host: a host name or an IP address, without port, scheme or brackets.

    Raises:
        PinSyntaxError: it is neither; the message says what is wrong.
    """
    if not isinstance(host, str):
        raise TypeError(f"a host is a str, not {type(host).__name__}")
    if address := _ip(host):
        return address
    if "://" in host or "/" in host:
        raise PinSyntaxError(f"{host!r} is a URL or a path: give the host name alone")
    if host.startswith("["):
        raise PinSyntaxError(f"{host!r}: write an IPv6 address without brackets and port")
    if ":" in host:
        raise PinSyntaxError(f"{host!r} has a port: pins belong to the host name alone")
    if "*" in host:
        raise PinSyntaxError(
            f"{host!r} has a stray wildcard: '*.' or '**.' may stand at the beginning, "
            "before at least two labels, and nowhere else"
        )
    try:
        name = host.encode("idna").decode("ascii").lower()
    except UnicodeError as error:
        raise PinSyntaxError(f"{host!r} is not a host name: {error}") from None
    name = name[:-1] if name.endswith(".") else name
    labels = name.split(".")
    if len(name) > _MAX_NAME or not all(map(_LABEL.fullmatch, labels)):
        raise PinSyntaxError(f"{host!r} is not a host name")
    # What ends in a number is an address to resolvers (127.1 is 127.0.0.1) and a name to nobody.
    if re.fullmatch(r"[0-9]+|0x[0-9a-f]*", labels[-1]):
        raise PinSyntaxError(f"{host!r} is neither a host name nor a whole IP address")
    return name


_remembered = functools.lru_cache(maxsize=256)(canonical_host)


def _wildcard_base(pattern: str, base: str) -> str:
    name = canonical_host(base)
    if _ip(name):
        raise PinSyntaxError(f"{pattern!r}: an IP address has no wildcard")
    if "." not in name:
        raise PinSyntaxError(f"{pattern!r} would match a whole top-level domain")
    return name


def canonical_pattern(pattern: str) -> str:
    """Return the one form of a host pattern: ``*.`` or ``**.`` or nothing, and a canonical name.

    Raises:
        PinSyntaxError: it is no pattern; the message says what is wrong.
    """
    if not isinstance(pattern, str):
        raise TypeError(f"a host pattern is a str, not {type(pattern).__name__}")
    for prefix in ("**.", "*."):
        if pattern.startswith(prefix):
            return prefix + _wildcard_base(pattern, pattern[len(prefix) :])
    return canonical_host(pattern)


def find(patterns: Mapping[str, _V], host: str) -> _V | None:
    """Return the value of the pattern that says most of a host; None if no pattern matches.

    Args:
        patterns: values by canonical pattern.
        host: a canonical host name or IP address.  The work grows with its labels alone.
    """
    found = patterns.get(host)
    if found is None:
        found = patterns.get("*." + host.partition(".")[2])
    while found is None and host:
        found = patterns.get("**." + host)
        host = host.partition(".")[2]
    return found


def look_up(
    patterns: Mapping[str, _V], server_hostname: str | None, unpinned: Unpinned, remedy: str
) -> _V | None:
    """Return what the patterns have for a host.

    Args:
        patterns: values by canonical pattern.
        server_hostname: the host name or IP address that is being connected to.
        unpinned: ``"reject"`` or ``"allow"``.
        remedy: what to do about a host without pins.

    Returns:
        The value, or None if there is none and unpinned hosts are allowed.

    Raises:
        UnpinnedPeerError: the host has no pins, or its name has no canonical form.
    """
    if server_hostname is None:
        raise UnpinnedPeerError(
            "pins by host need a host name: pass server_hostname "
            "(a server that pins its clients takes a PinSet instead)"
        )
    try:
        # A program connects to the same few hosts over and over.  Only what is a string and nothing
        # else: a subclass may hash, and compare, as it likes.
        known = type(server_hostname) is str and len(server_hostname) <= _MAX_NAME
        host = (_remembered if known else canonical_host)(server_hostname)
    except PinSyntaxError as error:
        # Not even under unpinned="allow": a strange spelling must not shed a host's pins.
        raise UnpinnedPeerError(
            f"no pins can be found for this host: {error}", server_hostname=server_hostname
        ) from None
    found = find(patterns, host)
    if found is None and unpinned == "reject":
        raise UnpinnedPeerError(
            f"there are no pins for {host!r} and unpinned hosts are refused; {remedy}",
            server_hostname=server_hostname,
        )
    return found


def check_unpinned(unpinned: str) -> None:
    """Refuse what is neither ``"reject"`` nor ``"allow"``."""
    if unpinned not in ("reject", "allow"):
        raise ValueError(f"unpinned is 'reject' or 'allow', not {unpinned!r}")


class HostPins:
    """Pin sets by host pattern; call it with a host name to get the host's pin set.

    Args:
        mapping: from pattern to :class:`PinSet` or to whatever ``PinSet`` takes.
        unpinned: ``"reject"``: a host that no pattern matches is refused with
            :exc:`UnpinnedPeerError`, before a byte is sent; ``"allow"``: it is connected to
            under the ordinary checks alone.

    Raises:
        PinSyntaxError: a pattern is a URL, has a port or a stray wildcard, or is no host name.
        ValueError: two spellings of one host, or no pins for one.
    """

    __slots__ = ("_patterns", "_unpinned")

    def __init__(
        self,
        mapping: Mapping[str, Union[PinSet, PinsLike]],
        *,
        unpinned: Unpinned = "reject",
    ) -> None:
        check_unpinned(unpinned)
        if not isinstance(mapping, Mapping):
            raise TypeError(f"HostPins takes a mapping, not {type(mapping).__name__}")
        if mapping and all(key in POSITIONS or isinstance(key, int) for key in mapping):
            raise PinSyntaxError(_POSITIONS_ARE_NO_HOSTS)
        self._unpinned: Unpinned = unpinned
        patterns: dict[str, PinSet] = {}
        for given, pins in mapping.items():
            pattern = canonical_pattern(given)
            if pattern in patterns:
                raise ValueError(f"{given!r} is {pattern!r} again: merge the two")
            patterns[pattern] = as_pin_set(pins)
        if patterns and all(pattern in POSITIONS for pattern in patterns):
            # In another spelling: what is made here has to be made again of its own patterns.
            raise PinSyntaxError(_POSITIONS_ARE_NO_HOSTS)
        self._patterns = MappingProxyType(patterns)

    @classmethod
    def from_android(cls, xml: str | bytes, *, unpinned: Unpinned = "reject") -> Self:
        """Read Android's network security configuration.

        Pins end at the beginning of their ``expiration`` (UTC), and are not looked at after that.
        Only pins are read: which authorities a domain trusts besides (``trust-anchors``) is for
        the context to say.

        Args:
            xml: the file's contents.  A document type declaration, and with it every entity bomb,
                is refused.
            unpinned: as for :class:`HostPins`; Android allows.

        Raises:
            PinSyntaxError: it cannot be read.
            ValueError: it says what cannot be carried over, such as ``overridePins``.
        """
        from pinsock import _foreign  # few programs read the formats of others

        return cls._of_found(_foreign.read_android(xml), unpinned)

    @classmethod
    def from_okhttp(
        cls,
        pins: Mapping[str, str | Iterable[str]] | Iterable[tuple[str, ...]],
        *,
        unpinned: Unpinned = "reject",
    ) -> Self:
        """Read the pins of an OkHttp ``CertificatePinner``.

        OkHttp accepts a pin of any pattern that matches the host, where we take the pattern that
        says most; so each gets the pins of the wider ones as well.

        Args:
            pins: by pattern; or tuples of a pattern and its pins, as ``Builder.add`` takes them.
            unpinned: as for :class:`HostPins`; OkHttp allows.

        Raises:
            PinSyntaxError: a pattern or a pin cannot be read; ``sha1/`` is refused.
        """
        from pinsock import _foreign  # as above

        return cls._of_found(_foreign.read_okhttp(pins), unpinned)

    @classmethod
    def from_trustkit(
        cls, config: Mapping[str, object] | bytes | str, *, unpinned: Unpinned = "reject"
    ) -> Self:
        """Read the configuration of TrustKit.

        Pins end at the beginning of their ``TSKExpirationDate`` (UTC), and are not looked at after
        that.

        Args:
            config: the dictionary, or the contents of a property list that has it.
            unpinned: as for :class:`HostPins`; TrustKit allows.

        Raises:
            PinSyntaxError: it cannot be read.
            ValueError: it says what cannot be carried over, such as additional trust anchors.
        """
        from pinsock import _foreign  # as above

        return cls._of_found(_foreign.read_trustkit(config), unpinned)

    @classmethod
    def _of_found(cls, found: Mapping[str, Found], unpinned: Unpinned) -> Self:
        return cls({name: PinSet.of(each) for name, each in found.items()}, unpinned=unpinned)

    @property
    def patterns(self) -> Mapping[str, PinSet]:
        """The pin sets by canonical pattern."""
        return self._patterns

    def __call__(self, server_hostname: str | None) -> PinSet | None:
        """Return the pin set of a host; the work does not grow with the number of patterns.

        Args:
            server_hostname: the host name or IP address that is being connected to.

        Returns:
            The pin set, or None if the host has none and unpinned hosts are allowed.

        Raises:
            UnpinnedPeerError: the host has no pins, or its name has no canonical form.
        """
        return look_up(
            self._patterns,
            server_hostname,
            self._unpinned,
            "add pins for it, or say HostPins(..., unpinned='allow')",
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, HostPins):
            return NotImplemented
        return (self._patterns, self._unpinned) == (other._patterns, other._unpinned)

    def __hash__(self) -> int:
        return hash((frozenset(self._patterns.items()), self._unpinned))

    def __reduce__(self) -> tuple[object, ...]:
        return _restore, (dict(self._patterns), self._unpinned)

    def __repr__(self) -> str:
        said = "" if self._unpinned == "reject" else f", unpinned={self._unpinned!r}"
        return f"HostPins({dict(self._patterns)!r}{said})"


def _restore(patterns: dict[str, PinSet], unpinned: Unpinned) -> HostPins:
    return HostPins(patterns, unpinned=unpinned)
