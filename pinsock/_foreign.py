"""Read the pins of others: DANE records, HPKP headers, Android, OkHttp and TrustKit configurations.

Pure: text, bytes or plain objects in, plain data out; no connection, no file, no clock.  What these
formats can say and pin sets cannot is refused and never dropped: a pin that is lost in translation
is a check that is not made.
"""

from __future__ import annotations

import base64
import hashlib
import plistlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Literal
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from pinsock._errors import PinSyntaxError

__all__ = ["Found", "read_android", "read_hpkp", "read_okhttp", "read_tlsa", "read_trustkit"]

# Configurations are written by hand: anything beyond these is a mistake or an attack.
_MAX_SIZE = 1 << 20
_MAX_DEPTH = 32
_MAX_NAME = 254


@dataclass(frozen=True, slots=True)
class Found:
    """What a foreign description says of one peer.

    Attributes:
        pins: canonical pin texts in the order found, none of them twice.
        position: ``"leaf"``, ``"ca"`` or ``"any"``.
        trust, check_expiry, enforce, expires, after_expiry: as :class:`PinSet` takes them.
    """

    pins: tuple[str, ...]
    position: str = "any"
    trust: Literal["ca", "pins"] = "ca"
    check_expiry: bool = True
    enforce: bool = True
    expires: datetime | None = None
    after_expiry: Literal["reject", "unpin"] = "reject"


def _shown(text: str) -> str:
    """``text`` for a message, which must not grow with what somebody sent."""
    return repr(text if len(text) <= 100 else text[:97] + "...")


def _pin(digest: str, where: str) -> str:
    """The canonical text of a SHA-256 pin of a public key, which all formats give in base64."""
    try:
        raw = base64.b64decode(digest.encode("ascii"), validate=True)
    except ValueError:
        raw = b""
    # The comparison refuses the stray bits that base64 can carry after the last octet.
    if len(raw) != 32 or base64.b64encode(raw).decode() != digest:
        raise PinSyntaxError(
            f"{where}: the digest {_shown(digest)} is not 32 bytes in base64 (44 characters): "
            "give the base64 of the SHA-256 of the public key"
        )
    return f"sha256/{digest}"


def _name(text: str, where: str) -> str:
    """The form in which names are compared: A-labels in lower case, without the final dot."""
    if "*" in text:
        raise PinSyntaxError(f"{where}: {_shown(text)} has a wildcard where none is known")
    try:
        # The length goes first: the codec's work grows with the square of it.
        name = text.encode("idna").decode("ascii").lower() if len(text) <= _MAX_NAME else ""
    except UnicodeError:
        name = ""
    name = name.removesuffix(".")
    if not name:
        raise PinSyntaxError(f"{where}: {_shown(text)} is not a host name")
    return name


def _suffixes(name: str) -> Iterator[str]:
    """The name itself and all that it is a subdomain of, the longest first."""
    while name:
        yield name
        _, _, name = name.partition(".")


def _midnight(text: str, where: str) -> datetime:
    if re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        try:
            return datetime.fromisoformat(text).replace(tzinfo=timezone.utc)
        except ValueError:
            pass
    raise PinSyntaxError(f"{where}: {_shown(text)} is not a date: write YYYY-MM-DD")


class _Domains:
    """The domains of a configuration in which the most specific one counts alone."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[str, Found | None]] = {}

    def add(self, name: str, subdomains: bool, found: Found | None) -> None:
        """Add a domain; ``found`` is None for one without pins."""
        if name in self._found:
            raise ValueError(f"the domain {name!r} is named twice: merge the two")
        self._found[name] = ("**." + name if subdomains else name, found)

    def by_pattern(self) -> dict[str, Found]:
        """The domains that have pins, by pattern."""
        pinned = {pattern: found for pattern, found in self._found.values() if found is not None}
        for name, (_, found) in self._found.items():
            for suffix in _suffixes(name):
                if found is None and f"**.{suffix}" in pinned:
                    # Left out it would get the pins of the wider pattern.
                    raise ValueError(
                        f"the domain {name!r} is without pins under '**.{suffix}', which has some: "
                        "this cannot be carried over; pin both, or the other hosts one by one"
                    )
        return pinned


# TLSA records ------------------------------------------------------------------------------------

_Record = tuple[int, int, int, bytes]

# RFC 7218 section 2: the names of the values of RFC 6698 section 7.
_USAGES = {"PKIX-TA": 0, "PKIX-EE": 1, "DANE-TA": 2, "DANE-EE": 3, "PRIVCERT": 255}
_SELECTORS = {"CERT": 0, "SPKI": 1, "PRIVSEL": 255}
_MATCHINGS = {"FULL": 0, "SHA2-256": 1, "SHA2-512": 2, "PRIVMATCH": 255}

_FIELDS = (
    ("certificate usage", _USAGES),
    ("selector", _SELECTORS),
    ("matching type", _MATCHINGS),
)

# Usages (RFC 6698 section 2.1.1) by what they ask of the chain; selectors (section 2.1.2) by the
# prefix of the pin; hashes (section 2.1.3) by name and size.
_POSITION = {0: "ca", 1: "leaf", 2: "ca", 3: "leaf"}
_PREFIX = {0: "cert-", 1: ""}
_HASHES = {1: ("sha256", 32), 2: ("sha512", 64)}

_TLSA_FORM = re.compile(
    # RFC 1035 section 5.1: the owner, and TTL and class in either order, before the type.
    r"(?:(?:[^\s()]+\s+)?(?:(?:[0-9]\w*|IN)\s+){0,2}TLSA\s+)?"
    # RFC 6698 section 2.2: three fields, and hexadecimal in as many pieces as you like.
    r"(?P<usage>[\w-]+)\s+(?P<selector>[\w-]+)\s+(?P<matching>[\w-]+)\s+(?P<data>[0-9A-F\s]+)",
    re.IGNORECASE | re.ASCII,
)


def read_tlsa(records: object) -> Found:
    """Read the TLSA records of one service (RFC 6698, RFC 7671); they are alternatives.

    They are worth what their way here was worth: without DNSSEC anybody could have made them.

    Args:
        records: one record or an iterable of them.  A record is a text as zone files have it, wire
            bytes, a tuple ``(usage, selector, matching type, data)``, or an object that has
            ``usage``, ``selector``, ``mtype`` and ``cert``.

    Raises:
        PinSyntaxError: what should be a record is none.
        ValueError: no record is usable, or the usages do not go together.
    """
    pins: dict[str, None] = {}
    usages: set[int] = set()
    unusable: list[str] = []
    for number, given in enumerate(_each_record(records), 1):
        record = _read_record(given)
        if reason := _unusable(record):
            # RFC 6698 section 4.1: such records are passed over.
            unusable.append(f"record {number}: {reason}")
            continue
        usage, selector, matching, data = record
        if matching in _HASHES:
            algorithm, _ = _HASHES[matching]
        else:
            algorithm, data = "sha256", hashlib.sha256(data).digest()
        usages.add(usage)
        pins[f"{_PREFIX[selector]}{algorithm}/{base64.b64encode(data).decode()}"] = None
    if not usages:
        reasons = "; ".join(unusable) or "there are no records at all"
        raise ValueError(f"no usable TLSA record: {reasons}")
    dane = usages & {2, 3}
    if dane and dane != usages:
        raise ValueError(
            "these TLSA records ask both for the checks of the certificate authorities (PKIX-TA, "
            "PKIX-EE) and for none of them (DANE-TA, DANE-EE): pass the records of one kind only"
        )
    positions = {_POSITION[usage] for usage in usages}
    return Found(
        tuple(pins),
        # What its owner vouched for may be found anywhere in a chain that was verified.
        position=positions.pop() if len(positions) == 1 else "any",
        trust="pins" if dane else "ca",
        # RFC 7671 section 5.1: with DANE-EE the record's lifetime is the certificate's.
        check_expiry=usages != {3},
    )


def _is_rdata(record: object) -> bool:
    return all(hasattr(record, name) for name in ("usage", "selector", "mtype", "cert"))


def _is_tuple(record: object) -> bool:
    # Four texts are four records, so a tuple of fields is known by its number.
    return isinstance(record, tuple) and len(record) == 4 and isinstance(record[0], int)


def _each_record(records: object) -> Iterable[object]:
    if isinstance(records, (str, bytes, bytearray)) or _is_tuple(records) or _is_rdata(records):
        return (records,)
    if not isinstance(records, Iterable):
        raise TypeError(f"TLSA records are texts, bytes or tuples, not {type(records).__name__}")
    return records


def _read_record(record: object) -> _Record:
    if isinstance(record, str):
        return _read_presentation(record)
    if isinstance(record, (bytes, bytearray)):
        # RFC 6698 section 2.1: three octets and the data.
        if len(record) < 3:
            raise PinSyntaxError(f"a TLSA record has at least 3 bytes, not {len(record)}")
        return record[0], record[1], record[2], bytes(record[3:])
    if _is_rdata(record):
        fields: tuple[object, ...] = tuple(
            getattr(record, name) for name in ("usage", "selector", "mtype", "cert")
        )
    elif isinstance(record, tuple) and len(record) == 4:
        fields = record
    else:
        raise TypeError(
            "a TLSA record is a text, bytes, a tuple (usage, selector, matching type, data) or an "
            f"object with these, not {type(record).__name__}"
        )
    usage, selector, matching = (
        _octet(value, name) for value, (name, _) in zip(fields, _FIELDS, strict=False)
    )
    data = fields[3]
    if isinstance(data, str):
        return usage, selector, matching, _from_hex(data)
    if not isinstance(data, (bytes, bytearray)):
        raise TypeError(
            f"the data of a TLSA record is bytes or hexadecimal, not {type(data).__name__}"
        )
    return usage, selector, matching, bytes(data)


def _octet(value: object, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"the {name} of a TLSA record is an int, not {type(value).__name__}")
    if not 0 <= value <= 255:
        raise PinSyntaxError(f"the {name} of a TLSA record is 0 to 255, not {value}")
    return value


def _from_hex(text: str) -> bytes:
    digits = "".join(text.split())
    if not re.fullmatch("(?:[0-9A-Fa-f]{2})*", digits):
        raise PinSyntaxError(
            f"the data of a TLSA record is hexadecimal, two digits a byte, not {_shown(text)}"
        )
    return bytes.fromhex(digits)


def _read_presentation(text: str) -> _Record:
    # RFC 1035 section 5.1: a line is a record, and parentheses only keep lines together.  Three
    # records in three lines would pass for one that has too many digits, and is passed over.
    match = None
    if re.fullmatch(r"[^()\r\n]*(?:\([^()]*\)[^()\r\n]*)?", text.strip()):
        match = _TLSA_FORM.fullmatch(text.replace("(", " ").replace(")", " ").strip())
    if match is None:
        raise PinSyntaxError(
            f"{_shown(text)} is not a TLSA record: write '3 1 1 HEX', one record in a text "
            "(text.splitlines() makes several of what dig +short prints)"
        )
    usage, selector, matching = (
        _octet(_field(match[number], name, names), name)
        for number, (name, names) in enumerate(_FIELDS, 1)
    )
    return usage, selector, matching, _from_hex(match["data"])


def _field(text: str, name: str, names: Mapping[str, int]) -> int:
    if re.fullmatch("[0-9]{1,3}", text):
        return int(text)
    if text.upper() not in names:
        raise PinSyntaxError(f"{_shown(text)} is not the {name} of a TLSA record: write its number")
    return names[text.upper()]


def _unusable(record: _Record) -> str | None:
    """Why a record says nothing to us; None if it does."""
    usage, selector, matching, data = record
    if usage not in _POSITION:
        return f"the certificate usage {usage} is not known"
    if selector not in _PREFIX:
        return f"the selector {selector} is not known"
    if matching in _HASHES:
        algorithm, size = _HASHES[matching]
        return None if len(data) == size else f"a {algorithm} has {size} bytes, not {len(data)}"
    if matching != 0:
        return f"the matching type {matching} is not known"
    what = "certificate" if selector == 0 else "SubjectPublicKeyInfo"
    return None if _is_sequence(data) else f"its {len(data)} bytes are not one DER {what}"


def _is_sequence(data: bytes) -> bool:
    """Whether this is one DER SEQUENCE from the first byte to the last."""
    if len(data) < 2 or data[0] != 0x30:
        return False
    if data[1] < 0x80:
        return len(data) == 2 + data[1]
    end = 2 + data[1] - 0x80
    size = int.from_bytes(data[2:end], "big")
    # DER has no indefinite length, and no length longer than it need be.
    minimal = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return size >= 0x80 and minimal == data[2:end] and len(data) == end + size


# HTTP Public Key Pinning -------------------------------------------------------------------------

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# RFC 7469 section 2.1.  A directive may be empty, as in Strict-Transport-Security: many a header
# in use ends with a semicolon.
_DIRECTIVE = re.compile(
    rf"(?:(?P<name>{_TOKEN})"
    rf'(?:=(?:(?P<token>{_TOKEN})|"(?P<quoted>(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[\t -~])*)"))?'
    r"[ \t]*)?(?:;[ \t]*|\Z)"
)
_HEADER_NAME = re.compile(r"(public-key-pins(?:-report-only)?):", re.IGNORECASE)


def read_hpkp(header: str, received: datetime) -> Found:
    """Read a Public-Key-Pins header (RFC 7469).

    Args:
        header: the value, or the whole line with the name of the header before it.  Only with its
            name a Public-Key-Pins-Report-Only is known for what it is.
        received: when it was received, aware; ``max-age`` counts from there.

    Raises:
        PinSyntaxError: the header does not conform, and user agents would have to ignore it.
        ValueError: it has no pins, or says to forget them.
    """
    if not isinstance(header, str):
        raise TypeError(f"a header is a str, not {type(header).__name__}")
    if not isinstance(received, datetime):
        raise TypeError(f"received is an aware datetime, not {type(received).__name__}")
    if received.utcoffset() is None:
        raise ValueError("received has no time zone: add tzinfo=timezone.utc")
    value = header.strip(" \t\r\n")
    enforce = True
    if match := _HEADER_NAME.match(value):
        enforce = match[1].lower() == "public-key-pins"
        value = value[match.end() :].lstrip(" \t")
    pins: dict[str, None] = {}
    directives: dict[str, str | None] = {}
    for name, argument in _directives(value):
        if name == "pin-sha256":
            pins[_pin(argument or "", name)] = None
        elif name.startswith("pin-"):
            pass  # RFC 7469 section 2.1.1: a hash that is not known is ignored.
        elif name in directives:
            # RFC 7469 section 2.1, requirement 2.
            raise PinSyntaxError(f"the directive {_shown(name)} appears twice")
        else:
            directives[name] = argument
    if directives.get("includesubdomains") is not None:
        raise PinSyntaxError("includeSubDomains has a value: write it without")
    if directives.get("report-uri", "") is None:
        raise PinSyntaxError("report-uri has no value: write a URI, or leave it out")
    # RFC 7469 section 2.1.2: required here, and without effect in a report-only header.
    expires = _expires(directives, received) if enforce else None
    if not pins:
        raise ValueError("the header has no pin-sha256: there is nothing to pin")
    return Found(tuple(pins), enforce=enforce, expires=expires, after_expiry="unpin")


def _directives(value: str) -> Iterator[tuple[str, str | None]]:
    """Names in lower case, and values without quotes; None where there is none."""
    start = 0
    while start < len(value):
        match = _DIRECTIVE.match(value, start)
        if match is None:
            raise PinSyntaxError(
                f"the header cannot be read from {_shown(value[start:])} on: directives are "
                'name=token or name="text", with semicolons between them'
            )
        start = match.end()
        if match["name"]:
            quoted = match["quoted"]
            argument = match["token"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            yield match["name"].lower(), argument


def _expires(directives: Mapping[str, str | None], received: datetime) -> datetime | None:
    if "max-age" not in directives:
        raise PinSyntaxError("the header has no max-age: it is required")
    seconds = directives["max-age"] or ""
    if not re.fullmatch("[0-9]+", seconds):
        raise PinSyntaxError(f"max-age is a number of seconds, not {_shown(seconds)}")
    seconds = seconds.lstrip("0")
    if not seconds:
        # RFC 7469 section 2.3.1.
        raise ValueError("the header has max-age=0, which says to forget the pins: remove them")
    try:
        # No calendar has room for so many digits, and int() refuses thousands of them.
        age = timedelta(seconds=int(seconds[:20]))
        return received.astimezone(timezone.utc) + age
    except OverflowError:
        return None


# Android's network security configuration --------------------------------------------------------


def read_android(xml: str | bytes) -> dict[str, Found]:
    """Read the pins of an Android network security configuration, by host pattern.

    Args:
        xml: the contents of the file.

    Raises:
        PinSyntaxError: it is not one, or it has a document type or entities.
        ValueError: a domain is named twice, or it says what cannot be said here.
    """
    root = _parse_xml(xml)
    if root.tag != "network-security-config":
        raise PinSyntaxError(
            f"the root element is {_shown(root.tag)}: this is no network-security-config"
        )
    domains = _Domains()
    for element in root:
        if element.tag == "base-config":
            _refuse_override(element)
            for child in element:
                if child.tag in ("domain", "domain-config", "pin-set"):
                    raise PinSyntaxError(f"a {child.tag} has no place in the base-config")
        elif element.tag == "domain-config":
            _refuse_override(element)
            _read_domain_config(element, None, domains)
    return domains.by_pattern()


def _parse_xml(xml: str | bytes) -> Element:
    if not isinstance(xml, (str, bytes)):
        raise TypeError(f"a configuration is str or bytes, not {type(xml).__name__}")
    data = _encoded(xml)
    # In a str the declaration tells of an encoding that has been undone.
    parser = expat.ParserCreate("utf-8" if isinstance(xml, str) else None)
    builder = TreeBuilder()
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _MAX_DEPTH:
            raise PinSyntaxError(f"the elements are nested deeper than {_MAX_DEPTH}")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def refuse(*_: object) -> int:
        raise PinSyntaxError(
            "the configuration has a DOCTYPE, which can declare entities without end: remove it"
        )

    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    # The parser stops at an error in a handler, so nothing that is declared is ever expanded.
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.ExternalEntityRefHandler = refuse
    try:
        parser.Parse(data, True)
    except PinSyntaxError:
        raise
    except (expat.ExpatError, LookupError, ValueError) as error:
        # The second and the third are those of an encoding that is unknown or has several bytes.
        raise PinSyntaxError(f"the configuration is not well-formed XML: {error}") from None
    return builder.close()


def _encoded(text: str | bytes) -> bytes:
    try:
        data = text.encode() if isinstance(text, str) else text
    except UnicodeEncodeError as error:
        raise PinSyntaxError(f"the configuration is not a text: {error}") from None
    if len(data) > _MAX_SIZE:
        raise PinSyntaxError(f"the configuration has more than {_MAX_SIZE} bytes")
    return data


def _refuse_override(config: Element) -> None:
    for certificates in config.iter("certificates"):
        if _flag(certificates, "overridePins"):
            raise ValueError(
                "overridePins='true' lets certificate authorities pass the pins, which cannot be "
                "carried over: remove it, and pin what these authorities have signed"
            )


def _flag(element: Element, name: str) -> bool:
    text = element.get(name, "false").strip().lower()
    if text not in ("true", "false"):
        raise PinSyntaxError(f"{name} is 'true' or 'false', not {_shown(text)}")
    return text == "true"


def _text(element: Element) -> str:
    if len(element):
        raise PinSyntaxError(f"a {element.tag} has text alone, and no {element[0].tag} in it")
    return (element.text or "").strip()


def _read_domain_config(config: Element, inherited: Found | None, domains: _Domains) -> None:
    sets = config.findall("pin-set")
    if len(sets) > 1:
        raise PinSyntaxError("a domain-config has several pin-sets: merge them")
    # An empty pin-set is one of its own, and takes the parent's pins away.
    found = _read_pin_set(sets[0]) if sets else inherited
    named = config.findall("domain")
    if not named:
        raise PinSyntaxError("a domain-config has no domain: name one, or remove it")
    for domain in named:
        domains.add(_name(_text(domain), "domain"), _flag(domain, "includeSubdomains"), found)
    for nested in config.findall("domain-config"):
        _read_domain_config(nested, found, domains)


def _read_pin_set(pin_set: Element) -> Found | None:
    pins: dict[str, None] = {}
    for pin in pin_set.findall("pin"):
        digest = pin.get("digest", "")
        if digest.upper() != "SHA-256":
            raise PinSyntaxError(f"a pin has the digest {_shown(digest)}: only SHA-256 is known")
        pins[_pin(_text(pin), "pin")] = None
    expiration = pin_set.get("expiration")
    expires = None if expiration is None else _midnight(expiration, "expiration")
    return Found(tuple(pins), expires=expires, after_expiry="unpin") if pins else None


# OkHttp's CertificatePinner ----------------------------------------------------------------------


def read_okhttp(pins: object) -> dict[str, Found]:
    """Read the pins of an OkHttp ``CertificatePinner``, by host pattern.

    OkHttp takes a host's pins from all the patterns that match it, and a ``HostPins`` takes them
    from the most specific one alone: so every pattern gets the pins of all that are wider.

    Args:
        pins: a mapping from pattern to a pin text or an iterable of them; or an iterable of what
            ``Builder.add`` takes, ``(pattern, pin, ...)``.

    Raises:
        PinSyntaxError: a pattern or a pin that cannot be read.
        ValueError: a pattern without pins.
    """
    own: dict[str, dict[str, None]] = {}
    for pattern, texts in _each_pattern(pins):
        mine = own.setdefault(_read_pattern(pattern), {})
        mine.update(dict.fromkeys(_read_okhttp_pin(text, pattern) for text in texts))
        if not mine:
            raise ValueError(f"there are no pins for {_shown(pattern)}: add some, or leave it out")
    for pattern in list(own):
        # '*.b' and '**.a.b' have the host a.b in common, and neither is wider than the other.
        if pattern.startswith("**.") and f"*.{pattern[3:].partition('.')[2]}" in own:
            own.setdefault(pattern[3:], {})
    return {pattern: Found(tuple(_with_wider(pattern, own))) for pattern in own}


def _each_pattern(pins: object) -> Iterator[tuple[str, Iterable[object]]]:
    if isinstance(pins, (str, bytes)) or not isinstance(pins, Iterable):
        raise TypeError(f"the pins are a mapping or (pattern, pin) tuples, not {_type(pins)}")
    for entry in pins.items() if isinstance(pins, Mapping) else pins:
        if not isinstance(entry, (tuple, list)) or not entry:
            raise TypeError(f"an entry is a tuple (pattern, pin, ...), not {_type(entry)}")
        pattern, *texts = entry
        if not isinstance(pattern, str):
            raise TypeError(f"a pattern is a str, not {_type(pattern)}")
        if isinstance(pins, Mapping) and not isinstance(texts[0], str):
            (texts,) = texts
            if isinstance(texts, bytes) or not isinstance(texts, Iterable):
                raise TypeError(f"the pins of {_shown(pattern)} are texts, not {_type(texts)}")
        yield pattern, texts


def _type(value: object) -> str:
    return type(value).__name__


def _read_pattern(pattern: str) -> str:
    prefix = re.match(r"(?:\*\*?\.)?", pattern)
    stars = prefix[0] if prefix else ""
    return stars + _name(pattern[len(stars) :], "pattern")


def _read_okhttp_pin(text: object, pattern: str) -> str:
    if not isinstance(text, str):
        raise TypeError(f"a pin of {_shown(pattern)} is a str, not {_type(text)}")
    algorithm, _, digest = text.partition("/")
    if algorithm == "sha1":
        raise PinSyntaxError(f"{_shown(text)} of {_shown(pattern)}: SHA-1 is broken: use sha256/")
    if algorithm != "sha256":
        raise PinSyntaxError(f"{_shown(text)} of {_shown(pattern)}: write a pin sha256/BASE64")
    return _pin(digest, _shown(pattern))


def _with_wider(pattern: str, own: Mapping[str, Mapping[str, None]]) -> dict[str, None]:
    """The pins of a pattern and of all that match whatever it matches, the narrowest first."""
    name = pattern.rpartition("*.")[2]
    covering = [pattern]
    if name == pattern:
        covering.append(f"*.{name.partition('.')[2]}")
    covering += (f"**.{suffix}" for suffix in _suffixes(name))
    return {pin: None for wider in covering for pin in own.get(wider, ())}


# TrustKit ----------------------------------------------------------------------------------------


def read_trustkit(config: Mapping[str, object] | bytes | str) -> dict[str, Found]:
    """Read the pins of a TrustKit configuration, by host pattern.

    Args:
        config: the dictionary with ``TSKPinnedDomains``, or one that has it in its
            ``TSKConfiguration``; or a property list of either, in XML or binary.

    Raises:
        PinSyntaxError: it is not one; the message names domain and key.
        ValueError: a domain is named twice, or it says what cannot be said here.
    """
    if not isinstance(config, (Mapping, bytes, str)):
        raise TypeError(f"a configuration is a mapping, bytes or str, not {_type(config)}")
    given: object = config if isinstance(config, Mapping) else _parse_plist(config)
    for key in ("TSKConfiguration", "TSKPinnedDomains"):
        if not isinstance(given, Mapping):
            raise PinSyntaxError(f"where TrustKit has a dictionary there is a {_type(given)}")
        if key in given:
            given = given[key]
        elif key == "TSKPinnedDomains":
            raise PinSyntaxError("there is no TSKPinnedDomains: this is no TrustKit configuration")
    if not isinstance(given, Mapping):
        raise PinSyntaxError(f"TSKPinnedDomains is a dictionary, not {_type(given)}")
    domains = _Domains()
    for domain, policy in given.items():
        if not isinstance(domain, str):
            raise PinSyntaxError(f"a domain in TSKPinnedDomains is a text, not {_type(domain)}")
        name = _name(domain, "TSKPinnedDomains")
        if not isinstance(policy, Mapping):
            raise PinSyntaxError(f"{name}: the policy is a dictionary, not {_type(policy)}")
        domains.add(name, *_read_policy(name, policy))
    return domains.by_pattern()


def _parse_plist(data: bytes | str) -> object:
    encoded = _encoded(data)
    try:
        given: object = plistlib.loads(encoded)
    except Exception as error:
        # Whatever it trips over: of a file that is damaged it says so in half a dozen types.
        raise PinSyntaxError(f"this is not a property list: {error or _type(error)}") from None
    return given


def _read_policy(name: str, policy: Mapping[object, object]) -> tuple[bool, Found]:
    if _boolean(name, policy, "TSKExcludeSubdomainFromParentPolicy", False):
        raise ValueError(
            f"{name}: TSKExcludeSubdomainFromParentPolicy makes a host without pins under a domain "
            "with pins, which cannot be carried over: pin it, or the other hosts one by one"
        )
    if _array(name, policy, "TSKAdditionalTrustAnchors"):
        raise ValueError(
            f"{name}: TSKAdditionalTrustAnchors cannot be carried over: remove them here, and load "
            "them into the context"
        )
    pins: dict[str, None] = {}
    for digest in _array(name, policy, "TSKPublicKeyHashes"):
        where = f"{name}: TSKPublicKeyHashes"
        if not isinstance(digest, str):
            raise PinSyntaxError(f"{where} has texts, not {_type(digest)}")
        pins[_pin(digest, where)] = None
    if not pins:
        raise PinSyntaxError(f"{name}: TSKPublicKeyHashes has no pins: add some")
    expires = None
    if "TSKExpirationDate" in policy:
        text = policy["TSKExpirationDate"]
        if not isinstance(text, str):
            raise PinSyntaxError(f"{name}: TSKExpirationDate is a text, not {_type(text)}")
        expires = _midnight(text, f"{name}: TSKExpirationDate")
    found = Found(
        tuple(pins),
        enforce=_boolean(name, policy, "TSKEnforcePinning", True),
        expires=expires,
        after_expiry="unpin",
    )
    return _boolean(name, policy, "TSKIncludeSubdomains", False), found


def _boolean(name: str, policy: Mapping[object, object], key: str, default: bool) -> bool:
    value = policy.get(key, default)
    if not isinstance(value, bool):
        raise PinSyntaxError(f"{name}: {key} is a boolean, not {_type(value)}")
    return value


def _array(name: str, policy: Mapping[object, object], key: str) -> Sequence[object]:
    value = policy.get(key, ())
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        raise PinSyntaxError(f"{name}: {key} is an array, not {_type(value)}")
    return value
