"""Pins and pin sets: immutable values that parse, format and match.

Pure: no connection, no file, no clock but the one handed in.  A :class:`Pin` is the hash of a
public key (its SPKI, RFC 7469 section 2.4) or of a whole certificate.  A :class:`PinSet` says which
pins must be found at which positions of a *verified* chain, and what that means for trust.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, ItemsView, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, TypeVar, Union, cast, overload

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from pinsock import _chain
from pinsock._errors import PinSyntaxError

if TYPE_CHECKING:
    from typing_extensions import Self

    from pinsock._foreign import Found

__all__ = [
    "FirstUse",
    "Kind",
    "Pin",
    "PinMatch",
    "PinSet",
    "PinsLike",
    "Position",
    "as_pin_set",
]

Kind = Literal["spki", "cert"]
Algorithm = Literal["sha256", "sha384", "sha512"]
Position = Union[int, Literal["leaf", "intermediate", "anchor", "ca", "any"]]

ALGORITHMS: dict[str, int] = {"sha256": 32, "sha384": 48, "sha512": 64}
POSITIONS = ("leaf", "intermediate", "anchor", "ca", "any")

_KINDS = ("spki", "cert")
# Digest sizes of what openssl also prints, and what nobody may pin any more.
_BROKEN_SIZES = {16: "MD5", 20: "SHA-1"}
_SPELLINGS = (
    "write sha256/BASE64 for a public key, cert-sha256/BASE64 for a whole certificate; "
    "'python -m pinsock pin FILE' prints both"
)

# Not compiled: that is done at the first use, and costs the programs nothing that have none.
_HPKP_FORM = r'pin-(?P<algorithm>[A-Za-z0-9-]+)="(?P<digest>[^"]*)"'
# Not the first octet of a digest with colons: a name has a letter beyond F.
_HEX_FORM = r"(?s)(?P<algorithm>[A-Za-z0-9-]*[G-Zg-z][A-Za-z0-9-]*):(?P<digest>.*)"
_OPENSSL_FORM = (
    r"(?i)(?:(?P<algorithm>[A-Za-z0-9-]+) fingerprint=)?(?P<digest>[0-9A-F]{2}(?::[0-9A-F]{2})+)"
)


def _refuse_algorithm(name: str) -> PinSyntaxError:
    if name.lower().replace("-", "") in ("md5", "sha1", "sha"):
        return PinSyntaxError(f"{name.upper()} is broken and is not a pin: use sha256")
    return PinSyntaxError(f"unknown pin algorithm {name!r}: use sha256, sha384 or sha512")


def _decode_base64(text: str, algorithm: str) -> bytes:
    size = ALGORITHMS[algorithm]
    length = (size + 2) // 3 * 4
    if "-" in text or "_" in text:
        raise PinSyntaxError(
            f"the digest {text!r} is URL-safe base64: write '+' for '-' and '/' for '_'"
        )
    try:
        digest = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        digest = b""
    # The comparison refuses the stray bits that base64 can carry after the last octet: one digest
    # has one spelling, so that pin files can be searched.
    if len(digest) != size or base64.b64encode(digest).decode() != text:
        raise PinSyntaxError(
            f"the digest {text!r} is not {size} bytes in base64 ({length} characters); {_SPELLINGS}"
        )
    return digest


def _decode_hex(text: str, algorithm: str) -> bytes:
    size = ALGORITHMS[algorithm]
    if not re.fullmatch(f"[0-9A-Fa-f]{{{2 * size}}}", text):
        raise PinSyntaxError(
            f"the digest {text!r} is not {size} bytes in hexadecimal ({2 * size} digits); "
            f"{_SPELLINGS}"
        )
    return bytes.fromhex(text)


@dataclass(frozen=True, slots=True, order=True)
class Pin:
    """The hash of one public key or of one certificate.

    Args:
        kind: ``"spki"`` for the SubjectPublicKeyInfo, ``"cert"`` for the whole certificate.
        algorithm: ``"sha256"``, ``"sha384"`` or ``"sha512"``.
        digest: the digest, bytes.

    Raises:
        PinSyntaxError: a kind, an algorithm or a digest's length is not one of these.
    """

    kind: Kind
    algorithm: Algorithm
    digest: bytes

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise PinSyntaxError(f"unknown kind of pin {self.kind!r}: use 'spki' or 'cert'")
        if self.algorithm not in ALGORITHMS:
            raise _refuse_algorithm(str(self.algorithm))
        if not isinstance(self.digest, bytes):
            raise TypeError(f"a digest is bytes, not {type(self.digest).__name__}")
        if len(self.digest) != ALGORITHMS[self.algorithm]:
            raise PinSyntaxError(
                f"a {self.algorithm} digest has {ALGORITHMS[self.algorithm]} bytes, "
                f"not {len(self.digest)}"
            )

    @classmethod
    def parse(cls, text: str) -> Pin:
        """Read one pin in any of the common spellings.

        ``sha256/BASE64`` (canonical), ``cert-sha256/BASE64`` (canonical, whole certificate), curl's
        ``sha256//BASE64``, ``pin-sha256="BASE64"`` (RFC 7469 section 2.1), ``sha256:HEX``, and the
        certificate digest that ``openssl x509 -fingerprint -sha256`` prints (``AA:BB:...``, with or
        without ``sha256 Fingerprint=``; a *cert* pin).

        Args:
            text: the pin; white space around it is ignored.

        Raises:
            PinSyntaxError: anything else; the message says what is wrong and what is right.
        """
        if not isinstance(text, str):
            raise TypeError(f"a pin text is a str, not {type(text).__name__}")
        text = text.strip()
        # The usual form first, and by hand: the others are then not even compiled.
        name, slash, digest = text.partition("/")
        if slash and name.isascii() and name.replace("-", "0").isalnum():
            cert = name.startswith("cert-") and name != "cert-"
            algorithm = _algorithm(name[len("cert-") :] if cert else name)
            # curl's second slash, unless that slash is the first of exactly the right number of
            # base64 characters: a digest may begin with one.
            curl = digest.startswith("/") and len(digest) != (ALGORITHMS[algorithm] + 2) // 3 * 4
            if curl and cert:
                raise PinSyntaxError(f"{text!r} has one slash too many; {_SPELLINGS}")
            kind: Kind = "cert" if cert else "spki"
            return cls(kind, algorithm, _decode_base64(digest[curl:], algorithm))
        if match := re.fullmatch(_OPENSSL_FORM, text):
            return cls._parse_openssl(match["algorithm"], match["digest"])
        if match := re.fullmatch(_HPKP_FORM, text):
            algorithm = _algorithm(match["algorithm"])
            return cls("spki", algorithm, _decode_base64(match["digest"], algorithm))
        if match := re.fullmatch(_HEX_FORM, text):
            algorithm = _algorithm(match["algorithm"])
            return cls("spki", algorithm, _decode_hex(match["digest"], algorithm))
        if re.fullmatch(r"[0-9A-Fa-f]{32,}|[A-Za-z0-9+/]{40,}={0,2}", text):
            raise PinSyntaxError(f"{text!r} does not say what it is the digest of; {_SPELLINGS}")
        raise PinSyntaxError(f"{text!r} is not a pin; {_SPELLINGS}")

    @classmethod
    def _parse_openssl(cls, name: str | None, colons: str) -> Pin:
        digest = bytes.fromhex(colons.replace(":", ""))
        if name is None and len(digest) in _BROKEN_SIZES:
            raise _refuse_algorithm(_BROKEN_SIZES[len(digest)])
        by_size = {size: algorithm for algorithm, size in ALGORITHMS.items()}
        algorithm = _algorithm((name or by_size.get(len(digest), "sha256")).lower())
        if len(digest) != ALGORITHMS[algorithm]:
            raise PinSyntaxError(
                f"{colons!r} has {len(digest)} bytes: a {algorithm} digest has "
                f"{ALGORITHMS[algorithm]}; use openssl x509 -fingerprint -sha256"
            )
        return cls("cert", algorithm, digest)

    @classmethod
    def from_certificate(
        cls,
        cert: bytes | str | x509.Certificate,
        kind: Kind = "spki",
        algorithm: Algorithm = "sha256",
    ) -> Pin:
        """Make the pin of a certificate.

        Args:
            cert: one certificate: DER bytes, PEM text or bytes, or a cryptography certificate.
            kind: ``"spki"``: any certificate with this key matches; ``"cert"``: only this one does.
            algorithm: ``"sha256"``, ``"sha384"`` or ``"sha512"``.

        Raises:
            PinSyntaxError: it is not a certificate, or it is several.
        """
        if isinstance(cert, x509.Certificate):
            from cryptography.hazmat.primitives.serialization import Encoding  # see below

            der = cert.public_bytes(Encoding.DER)
        else:
            der = _one_der(cert, "CERTIFICATE", "a certificate")
        try:
            spki = _chain.spki(der)
        except ValueError as error:
            raise PinSyntaxError(f"this is not a DER or PEM certificate: {error}") from None
        return cls._of(der if kind == "cert" else spki, kind, algorithm)

    @classmethod
    def from_public_key(
        cls, key: bytes | str | PublicKeyTypes, algorithm: Algorithm = "sha256"
    ) -> Pin:
        """Make the SPKI pin of a public key, for instance of a backup key not yet certified.

        Args:
            key: a SubjectPublicKeyInfo (DER bytes, PEM text or bytes) or a cryptography public key.
            algorithm: ``"sha256"``, ``"sha384"`` or ``"sha512"``.

        Raises:
            PinSyntaxError: it is not a SubjectPublicKeyInfo.
        """
        if isinstance(key, (bytes, bytearray, str)):
            der = _one_der(key, "PUBLIC KEY", "a public key")
            if not _chain.is_spki(der):
                raise PinSyntaxError(
                    "this is not a SubjectPublicKeyInfo ('BEGIN PUBLIC KEY'): "
                    "openssl pkey -pubout makes one of a private key"
                )
        elif hasattr(key, "public_bytes"):
            # It takes as long to import as this whole package.
            from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

            der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        else:
            raise TypeError(
                f"a public key is bytes, str or a cryptography public key, "
                f"not {type(key).__name__}"
            )
        return cls._of(der, "spki", algorithm)

    @classmethod
    def _of(cls, data: bytes, kind: Kind, algorithm: Algorithm) -> Pin:
        return cls(kind, algorithm, hashlib.new(_algorithm(algorithm), data).digest())

    def matches(self, der_certificate: bytes) -> bool:
        """Tell whether a DER certificate has this pin; False for what cannot be sliced."""
        return _digest(der_certificate, self.kind, self.algorithm) == self.digest

    def __str__(self) -> str:
        prefix = "cert-" if self.kind == "cert" else ""
        return f"{prefix}{self.algorithm}/{base64.b64encode(self.digest).decode()}"


def _algorithm(name: str) -> Algorithm:
    if name not in ALGORITHMS:
        raise _refuse_algorithm(name)
    return name  # type: ignore[return-value]  # mypy does not narrow a str by a dict's keys


_PEM = r"(?s)-----BEGIN ([^-\n]+)-----\s(.*?)-----END \1-----"


def _one_der(data: bytes | bytearray | str, label: str, what: str) -> bytes:
    """The DER of exactly one ``label`` block, or ``data`` itself if it is not PEM."""
    if isinstance(data, (bytes, bytearray)):
        data = bytes(data)
        # DER goes first: there may be PEM inside a certificate, and its author may mean harm.
        if b"-----BEGIN " not in data or _chain.is_der(data):
            return data
        data = data.decode("ascii", "replace")
    if not isinstance(data, str):
        raise TypeError(f"{what} is bytes, str or a cryptography object, not {type(data).__name__}")
    if "-----BEGIN " not in data:
        raise PinSyntaxError(f"no PEM block: give the contents of {what}, not its file name")
    blocks = re.findall(_PEM, data)
    wanted = [body for name, body in blocks if name == label]
    if len(wanted) != 1:
        found = ", ".join(name for name, _ in blocks) or "nothing whole"
        raise PinSyntaxError(f"expected one PEM block 'BEGIN {label}', found: {found}")
    try:
        return base64.b64decode("".join(wanted[0].split()), validate=True)
    except ValueError as error:
        raise PinSyntaxError(f"the PEM block 'BEGIN {label}' is damaged: {error}") from None


def _digest(der: bytes, kind: str, algorithm: str) -> bytes | None:
    """The digest that a pin of this kind would have for ``der``; None if it cannot be sliced."""
    if kind == "spki":
        try:
            der = _chain.spki(der)
        except ValueError:
            return None
    return hashlib.new(algorithm, der).digest()


@dataclass(frozen=True, slots=True)
class PinMatch:
    """Where a verified chain matched its pin set.

    Attributes:
        depth: the depth of the certificate that matched; 0 is the leaf.
        pin: the pin that matched.
        position: the position of the pin set that this fulfils.
        others: the matches of the further positions, where the pin set names several.
    """

    depth: int
    pin: Pin
    position: Position
    others: tuple[PinMatch, ...] = ()

    def __str__(self) -> str:
        also = "".join(f"; {other}" for other in self.others)
        return f"{self.pin} at depth {self.depth} ({self.position}){also}"


def _depths(position: Position, length: int) -> range:
    """The depths that a position means in a chain of ``length`` certificates."""
    if isinstance(position, int):
        return range(position, min(position + 1, length))
    return {
        "leaf": range(min(1, length)),
        "intermediate": range(1, length - 1),
        "anchor": range(max(length - 1, 0), length),
        "ca": range(1, length),
        "any": range(length),
    }[position]


PinsLike = Union[Pin, str, Iterable[Union[Pin, str]]]
# Pins by what they hash, so that the cost of a match does not grow with their number.
_Index = Mapping[tuple[str, str], Mapping[bytes, Pin]]


_K_co = TypeVar("_K_co", covariant=True)
_V_co = TypeVar("_V_co", covariant=True)


class ByPosition(Protocol[_K_co, _V_co]):
    """For type checkers: a mapping from position to pins.

    ``Mapping`` is invariant in its key, and would take neither ``dict[int, Pin]`` nor a literal
    with names and depths both.
    """

    def items(self) -> ItemsView[_K_co, _V_co]: ...


def _read_pins(pins: PinsLike, where: str) -> tuple[Pin, ...]:
    if isinstance(pins, (Pin, str)):
        pins = (pins,)
    given: object = pins
    if isinstance(given, (bytes, bytearray)) or not isinstance(given, Iterable):
        raise TypeError(f"pins{where} are Pins or pin texts, not {type(given).__name__}")
    found: dict[Pin, None] = {}
    for pin in pins:
        if not isinstance(pin, (Pin, str)):
            raise TypeError(f"a pin{where} is a Pin or a pin text, not {type(pin).__name__}")
        found[pin if isinstance(pin, Pin) else Pin.parse(pin)] = None
    if not found:
        raise ValueError(f"no pins{where}: an empty set would match nothing; leave it out")
    return tuple(found)


def _read_position(position: object) -> Position:
    if isinstance(position, int) and not isinstance(position, bool) and position >= 0:
        return position
    if position in POSITIONS:
        return position  # type: ignore[return-value]  # mypy does not narrow by a tuple of str
    raise ValueError(
        f"unknown position {position!r}: use one of {', '.join(POSITIONS)}, "
        "or a depth (0 is the leaf)"
    )


def _index(pins: tuple[Pin, ...]) -> _Index:
    index: dict[tuple[str, str], dict[bytes, Pin]] = {}
    for pin in pins:
        index.setdefault((pin.kind, pin.algorithm), {})[pin.digest] = pin
    return index


class _Matcher:
    """Matches chains, and remembers the last one: a client meets the same server again and again.

    Pure all the same, as the answer depends on nothing but the chain.

    Args:
        indexes: the pins by position; every position has to match.
    """

    __slots__ = ("_indexes", "_last")

    def __init__(self, indexes: tuple[tuple[Position, _Index], ...]) -> None:
        self._indexes = indexes
        # One object, so that threads see a chain with its own match.
        self._last: tuple[tuple[bytes, ...], PinMatch | None] = ((), None)

    def __reduce__(self) -> tuple[type[_Matcher], tuple[object]]:
        return type(self), (self._indexes,)

    def match(self, chain: tuple[bytes, ...]) -> PinMatch | None:
        """Find where every position matches; None unless all do."""
        last, match = self._last
        if chain != last or not chain:
            match = self._find(chain)
            self._last = chain, match
        return match

    def _find(self, chain: tuple[bytes, ...]) -> PinMatch | None:
        digests: dict[tuple[int, str, str], bytes | None] = {}
        found: list[PinMatch] = []
        for position, index in self._indexes:
            match = _match_position(position, index, chain, digests)
            if match is None:
                return None
            found.append(match)
        first, *others = found
        return PinMatch(first.depth, first.pin, first.position, tuple(others))


def _choose(name: str, value: str, *choices: str) -> None:
    if value not in choices:
        raise ValueError(f"{name} is {' or '.join(map(repr, choices))}, not {value!r}")


def _flag(name: str, value: bool) -> None:
    # A string "no" is true; a security switch is not to be guessed at.
    if not isinstance(value, bool):
        raise TypeError(f"{name} is True or False, not {value!r}")


@dataclass(frozen=True, slots=True, init=False, repr=False)
class PinSet:
    """Which pins must be found where in the verified chain, and what finding them means.

    Args:
        pins: pins or pin texts, at position ``"any"``; or a mapping from position to pins.
            Positions: ``"leaf"``, ``"intermediate"`` (strictly between leaf and anchor),
            ``"anchor"`` (the last certificate of the verified chain), ``"ca"`` (anything above the
            leaf), ``"any"``, or an integer depth.  Every position named must match; the pins of one
            position are alternatives, which is where backup pins go.
        trust: ``"ca"``: pins add to the checks of certificate authority, host name and expiry.
            ``"pins"``: the pin is the trust: a self-signed or privately signed peer is accepted
            when, and only when, every position matches.  The host name check stays as the context
            says.
        check_expiry: False forgives certificates that have expired or are not yet valid; only
            with ``trust="pins"``.
        enforce: False is report only: a mismatch is logged, and the connection goes on under the
            ordinary checks.
        expires: when these pins end: an aware datetime, or a date (to the end of that day, UTC).
        after_expiry: ``"reject"``: past ``expires`` every connection is refused with
            :exc:`PinExpiredError`; ``"unpin"``: the pins are no longer looked at, which is logged.
        first_seen: when the pins were learned from the peer itself, an aware datetime; None if they
            were not.  Errors show it; nothing depends on it.

    Raises:
        ValueError: no pins, an unknown position, or switches that do not go together.
        PinSyntaxError: a pin text that cannot be read.
    """

    trust: Literal["ca", "pins"]
    check_expiry: bool
    enforce: bool
    expires: datetime | None
    after_expiry: Literal["reject", "unpin"]
    first_seen: datetime | None = field(compare=False)
    # Neither the order of positions nor that of alternatives means anything, so values compare
    # without it; messages keep the order the author wrote.
    _unordered: frozenset[tuple[Position, frozenset[Pin]]]
    _pins: tuple[tuple[Position, tuple[Pin, ...]], ...] = field(compare=False)
    _matcher: _Matcher = field(compare=False)

    @overload
    def __init__(
        self,
        pins: ByPosition[Union[int, str], PinsLike],
        *,
        trust: Literal["ca", "pins"] = "ca",
        check_expiry: bool = True,
        enforce: bool = True,
        expires: datetime | date | None = None,
        after_expiry: Literal["reject", "unpin"] = "reject",
        first_seen: datetime | None = None,
    ) -> None: ...

    @overload
    def __init__(
        self,
        pins: PinsLike,
        *,
        trust: Literal["ca", "pins"] = "ca",
        check_expiry: bool = True,
        enforce: bool = True,
        expires: datetime | date | None = None,
        after_expiry: Literal["reject", "unpin"] = "reject",
        first_seen: datetime | None = None,
    ) -> None: ...

    def __init__(
        self,
        pins: PinsLike | ByPosition[Union[int, str], PinsLike],
        *,
        trust: Literal["ca", "pins"] = "ca",
        check_expiry: bool = True,
        enforce: bool = True,
        expires: datetime | date | None = None,
        after_expiry: Literal["reject", "unpin"] = "reject",
        first_seen: datetime | None = None,
    ) -> None:
        _choose("trust", trust, "ca", "pins")
        _choose("after_expiry", after_expiry, "reject", "unpin")
        _flag("check_expiry", check_expiry)
        _flag("enforce", enforce)
        if not check_expiry and trust != "pins":
            raise ValueError("check_expiry=False needs trust='pins': a CA's word ends with expiry")
        named: list[tuple[Position, tuple[Pin, ...]]] = []
        if isinstance(pins, Mapping):
            for key, alternatives in pins.items():
                position = _read_position(key)
                named.append((position, _read_pins(alternatives, f" at {position!r}")))
            if not named:
                raise ValueError("no pins: for an unpinned connection say pins=None")
        else:
            named.append(("any", _read_pins(cast(PinsLike, pins), "")))
        values = {
            "trust": trust,
            "check_expiry": check_expiry,
            "enforce": enforce,
            "expires": _read_expires(expires),
            "after_expiry": after_expiry,
            "first_seen": None if first_seen is None else _in_utc("first_seen", first_seen),
            "_unordered": frozenset((position, frozenset(some)) for position, some in named),
            "_pins": tuple(named),
            "_matcher": _Matcher(tuple((position, _index(some)) for position, some in named)),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_tlsa(cls, records: object) -> Self:
        """Make a pin set of the TLSA records of a service (RFC 6698, RFC 7671).

        A certificate usage of PKIX-TA or DANE-TA (0, 2) is a pin at position ``"ca"``, PKIX-EE or
        DANE-EE (1, 3) one at ``"leaf"``, both together at ``"any"``; PKIX is ``trust="ca"``, DANE
        ``trust="pins"``.  With DANE-EE alone ``check_expiry`` is False (RFC 7671 section 5.1); for
        that usage names are not to be checked either, which is for the context to say.

        Nothing here knows whether the records were signed: DNSSEC is the resolver's business.

        Args:
            records: one record or several: text as in a zone file (``"3 1 1 0D2A..."``), the bytes
                of the record, a tuple of its four fields, or an object that has them as
                ``usage``, ``selector``, ``mtype`` and ``cert``.

        Raises:
            PinSyntaxError: a text is no TLSA record.
            ValueError: none can be used, or they mix PKIX and DANE usages.
        """
        from pinsock import _foreign  # few programs read the formats of others

        return cls.of(_foreign.read_tlsa(records))

    @classmethod
    def from_hpkp(cls, header: str, received: datetime | None = None) -> Self:
        """Make a pin set of an HPKP header (RFC 7469 section 2.1).

        The pins hold for ``max-age`` seconds, and are not looked at after that.

        Args:
            header: the value of ``Public-Key-Pins``, or the whole line; of a line with
                ``Public-Key-Pins-Report-Only`` a set is made that reports only.
            received: when, an aware datetime; now, if left out.

        Raises:
            PinSyntaxError: the header cannot be read.
            ValueError: it has no pins, or says to forget them.
        """
        received = datetime.now(timezone.utc) if received is None else _in_utc("received", received)
        from pinsock import _foreign  # as above

        return cls.of(_foreign.read_hpkp(header, received))

    @classmethod
    def of(cls, found: Found) -> Self:
        """Make a pin set of what was found in another format; not for users."""
        return cls(
            {found.position: found.pins},
            trust=found.trust,
            check_expiry=found.check_expiry,
            enforce=found.enforce,
            expires=found.expires,
            after_expiry=found.after_expiry,
        )

    @property
    def positions(self) -> Mapping[Position, tuple[Pin, ...]]:
        """The pins by position, in the order they were given."""
        return MappingProxyType(dict(self._pins))

    def expired(self, now: datetime) -> bool:
        """Tell whether ``now`` (aware) is past ``expires``."""
        return self.expires is not None and now >= self.expires

    def match(self, chain: Sequence[bytes]) -> PinMatch | None:
        """Match a *verified* chain; never hand this what a peer merely sent.

        Args:
            chain: DER certificates, leaf first, anchor last.

        Returns:
            The match of the first position, with those of the further ones in ``others``; None
            unless every position matches.
        """
        return self._matcher.match(tuple(chain))

    def __repr__(self) -> str:
        pins: dict[Position, list[str]] = {
            position: [str(pin) for pin in some] for position, some in self._pins
        }
        options = {
            "trust": (self.trust, "ca"),
            "check_expiry": (self.check_expiry, True),
            "enforce": (self.enforce, True),
            "expires": (self.expires, None),
            "after_expiry": (self.after_expiry, "reject"),
            "first_seen": (self.first_seen, None),
        }
        said = "".join(f", {name}={v!r}" for name, (v, default) in options.items() if v != default)
        return f"PinSet({pins!r}{said})"


def _in_utc(name: str, moment: datetime) -> datetime:
    if not isinstance(moment, datetime):
        raise TypeError(f"{name} is an aware datetime, not {type(moment).__name__}")
    if moment.tzinfo is None or moment.utcoffset() is None:
        raise ValueError(f"{name} has no time zone: add tzinfo=timezone.utc, or give a date")
    try:
        return moment.astimezone(timezone.utc)
    except OverflowError:
        raise ValueError(f"{name} is beyond the calendar: {moment}") from None


def _read_expires(expires: datetime | date | None) -> datetime | None:
    if expires is None:
        return None
    if isinstance(expires, datetime):
        return _in_utc("expires", expires)
    if isinstance(expires, date):
        if expires == date.max:
            raise ValueError(f"expires is beyond the calendar: {expires}; leave it out")
        return datetime.combine(expires, time(), timezone.utc) + timedelta(days=1)
    raise TypeError(f"expires is an aware datetime or a date, not {type(expires).__name__}")


def _match_position(
    position: Position,
    index: _Index,
    chain: Sequence[bytes],
    digests: dict[tuple[int, str, str], bytes | None],
) -> PinMatch | None:
    for depth in _depths(position, len(chain)):
        for (kind, algorithm), pins in index.items():
            key = (depth, kind, algorithm)
            if key not in digests:
                digests[key] = _digest(chain[depth], kind, algorithm)
            digest = digests[key]
            if digest is not None and digest in pins:
                return PinMatch(depth, pins[digest], position)
    return None


class FirstUse:
    """Stands where a :class:`PinSet` would, for a peer that is not known yet: any leaf will do.

    It is judged as pins for the leaf would be, and so nothing is forgiven for its sake that those
    would not be forgiven for.

    Attributes:
        trust: as for ``PinSet``.
        check_expiry: as for ``PinSet``.
        record: called when the handshake is complete and before a byte of data passes, with the
            pin of the leaf; returns what the peer is held to from there on, which is not the same
            pin if somebody else was faster.
    """

    enforce: ClassVar[bool] = True
    positions: ClassVar[Mapping[Position, tuple[Pin, ...]]] = MappingProxyType({})

    __slots__ = ("check_expiry", "record", "trust")

    def __init__(
        self, trust: Literal["ca", "pins"], check_expiry: bool, record: Callable[[Pin], PinSet]
    ) -> None:
        self.trust = trust
        self.check_expiry = check_expiry
        self.record = record

    def match(self, chain: Sequence[bytes]) -> PinMatch | None:
        """Match the leaf, whatever its key is; None if that cannot be read."""
        digest = _digest(chain[0], "spki", "sha256")
        return None if digest is None else PinMatch(0, Pin("spki", "sha256", digest), "leaf")


def as_pin_set(pins: object) -> PinSet:
    """Return ``pins`` if it is a :class:`PinSet`, else make one of it."""
    return pins if isinstance(pins, PinSet) else PinSet(cast(PinsLike, pins))
