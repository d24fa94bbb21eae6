"""Host patterns on their own: canonical names, what beats what, and what is refused."""

from __future__ import annotations

import base64
import copy
import ipaddress
import pickle
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pinsock import HostPins, Pin, PinSet, PinSyntaxError, UnpinnedPeerError
from pinsock._hosts import canonical_host

# Nothing here shakes hands, so a property can be tried more often than conftest's default.
MANY = settings(max_examples=max(200, settings().max_examples))

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def pin_set(number: int) -> PinSet:
    """A pin set that is unlike that of any other number."""
    return PinSet(Pin("spki", "sha256", bytes([number]) * 32))


# For calls that the types forbid: what happens then is tested too.
untyped_canonical_host: Callable[..., str] = canonical_host
untyped_host_pins: Callable[..., HostPins] = HostPins

ONE, TWO, THREE = pin_set(1), pin_set(2), pin_set(3)
TEXT = "sha256/" + base64.b64encode(b"\x01" * 32).decode("ascii")


# Canonical names ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "canonical"),
    [
        ("example.com", "example.com"),
        ("EXAMPLE.Com", "example.com"),
        ("example.com.", "example.com"),
        ("localhost", "localhost"),
        ("LOCALHOST.", "localhost"),
        ("a", "a"),
        ("_dmarc.example.com", "_dmarc.example.com"),
        ("a_b.example", "a_b.example"),
        ("a--b.example", "a--b.example"),
        ("1and1.example", "1and1.example"),
        ("1.example", "1.example"),
        ("127.0.0.1.example", "127.0.0.1.example"),
        ("a" * 63 + ".example", "a" * 63 + ".example"),
        (".".join(["a" * 49] * 5), ".".join(["a" * 49] * 5)),
        # IDNA, by the codec that ssl uses.
        ("b\xfccher.example", "xn--bcher-kva.example"),
        ("B\xdcCHER.example", "xn--bcher-kva.example"),
        ("bu\u0308cher.example", "xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        ("stra\xdfe.example", "strasse.example"),
        ("example\u3002com", "example.com"),
        ("b\xfccher\uff0eexample\u3002", "xn--bcher-kva.example"),
        ("\uff45\uff58ample.com", "example.com"),
        # IP addresses.
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "0.0.0.0"),
        ("::1", "::1"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("0000:0000:0000:0000:0000:0000:0000:0001", "::1"),
        ("2001:DB8::00A", "2001:db8::a"),
        ("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
        ("fe80::1%eth0", "fe80::1"),
        ("FE80:0::1%1", "fe80::1"),
        ("::ffff:127.0.0.1", "127.0.0.1"),
        ("::FFFF:7F00:1", "127.0.0.1"),
    ],
)
def test_canonical(host: str, canonical: str) -> None:
    """A host has one form: lower case, A-labels, no final dot; addresses as RFC 5952 has them."""
    assert canonical_host(host) == canonical
    assert canonical_host(canonical) == canonical


@pytest.mark.parametrize("disguise", ["::1%1", "::1%lo", "0:0::1%eth0"])
def test_a_scope_does_not_shed_the_pins_of_an_address(disguise: str) -> None:
    """The certificate is checked for the address without it, and so are the pins found."""
    assert HostPins({"::1": ONE}, unpinned="allow")(disguise) == ONE


def test_a_mapped_address_does_not_shed_the_pins_of_the_other() -> None:
    """An IPv4 address inside IPv6 leads to the same peer."""
    assert HostPins({"127.0.0.1": ONE}, unpinned="allow")("::ffff:127.0.0.1") == ONE


URL = "is a URL or a path: give the host name alone"
PORT = "has a port: pins belong to the host name alone"
BRACKETS = "write an IPv6 address without brackets and port"
WILDCARD = "stray wildcard: '*.' or '**.' may stand at the beginning"
NO_NAME = "is not a host name"
NO_ADDRESS = "is neither a host name nor a whole IP address"

REFUSED = [
    ("https://example.com", URL),
    ("https://example.com/", URL),
    ("example.com/path", URL),
    ("//example.com", URL),
    ("10.0.0.0/8", URL),
    ("2001:db8::/32", URL),
    ("[::1]", BRACKETS),
    ("[::1]:443", BRACKETS),
    ("[example.com]", BRACKETS),
    ("example.com:443", PORT),
    ("127.0.0.1:443", PORT),
    ("example.com:", PORT),
    ("1:2:3", PORT),
    ("fe80::1%", PORT),
    ("*", WILDCARD),
    ("**", WILDCARD),
    ("*example.com", WILDCARD),
    ("f*o.example.com", WILDCARD),
    ("example.*", WILDCARD),
    ("", NO_NAME),
    (".", NO_NAME),
    ("..", NO_NAME),
    (".example.com", NO_NAME),
    ("example..com", NO_NAME),
    ("example.com..", NO_NAME),
    (" example.com", NO_NAME),
    ("example.com ", NO_NAME),
    ("example.com\n", NO_NAME),
    ("exa mple.com", NO_NAME),
    ("example.com\0", NO_NAME),
    ("example.com\0.evil.example", NO_NAME),
    ("user@example.com", NO_NAME),
    ("example,com", NO_NAME),
    ("-a.example", NO_NAME),
    ("a-.example", NO_NAME),
    ("-", NO_NAME),
    ("a" * 64 + ".example", NO_NAME),
    ("\xfc" * 60 + ".example", NO_NAME),
    (".".join(["a" * 50] * 5), NO_NAME),
    ("\u2100.example", NO_NAME),
    ("\uff0a.example.com", NO_NAME),
    ("example.com\uff1a443", NO_NAME),
    ("\ud800.example", NO_NAME),
    ("\u200b.example", NO_NAME),
    ("127.1", NO_ADDRESS),
    ("2130706433", NO_ADDRESS),
    ("127.0.0.1.", NO_ADDRESS),
    ("127.0.0.256", NO_ADDRESS),
    ("0127.0.0.1", NO_ADDRESS),
    ("\uff11\uff12\uff17.0.0.1", NO_ADDRESS),
    ("example.1", NO_ADDRESS),
]


@pytest.mark.parametrize(("host", "said"), REFUSED)
def test_what_has_no_canonical_form_is_refused(host: str, said: str) -> None:
    """What is no host name is refused, and the message says what is wrong or would be right."""
    with pytest.raises(PinSyntaxError) as caught:
        canonical_host(host)
    assert said in str(caught.value)
    assert repr(host) in str(caught.value)


@pytest.mark.parametrize("host", ["0x7f000001", "0X7F000001", "127.0.0.0x1"])
def test_a_hexadecimal_address_is_refused(host: str) -> None:
    """What resolvers take for an IPv4 address in hexadecimal is refused as decimal ones are."""
    with pytest.raises(PinSyntaxError, match=NO_ADDRESS):
        canonical_host(host)


@pytest.mark.parametrize("host", [b"example.com", None, 1, ipaddress.ip_address("127.0.0.1")])
def test_only_text_is_a_host(host: object) -> None:
    """A host of another type is a TypeError that names the type."""
    with pytest.raises(TypeError, match=f"a host is a str, not {type(host).__name__}"):
        untyped_canonical_host(host)


@MANY
@given(st.one_of(st.text(), st.text("aB1.-_*:/[]%\xfc\u3002", max_size=12)))
@example("\u0130.example")
def test_canonical_is_final(host: str) -> None:
    """Whatever the text, it is refused, or has a form in ASCII that is its own canonical form."""
    try:
        canonical = canonical_host(host)
    except PinSyntaxError:
        return
    assert canonical_host(canonical) == canonical
    assert canonical.isascii()
    if host.isascii():
        assert canonical_host(host.swapcase()) == canonical


@given(st.ip_addresses())
@example(ipaddress.IPv6Address("::ffff:0:0"))
def test_every_spelling_of_an_address_is_one(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    """Long or short, in capitals or not, inside IPv6 or not, an address has one canonical form."""
    canonical = canonical_host(str(address))
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    assert canonical == str(mapped or address)
    assert canonical_host(address.exploded) == canonical
    assert canonical_host(address.exploded.upper()) == canonical


# Patterns: which one is found --------------------------------------------------------------------


def test_exact_beats_one_label_beats_the_longest() -> None:
    """An exact name wins over ``*.``, which wins over ``**.``, of which the longest wins."""
    names = ["a.b.example.com", "*.b.example.com", "**.b.example.com", "**.example.com"]
    sets = {name: pin_set(number) for number, name in enumerate(names)}
    for mapping in (sets, dict(reversed(sets.items()))):
        pins = HostPins(mapping)
        assert pins("a.b.example.com") == sets["a.b.example.com"]
        assert pins("c.b.example.com") == sets["*.b.example.com"]
        assert pins("b.example.com") == sets["**.b.example.com"]
        assert pins("d.c.b.example.com") == sets["**.b.example.com"]
        assert pins("c.example.com") == sets["**.example.com"]
        assert pins("example.com") == sets["**.example.com"]


def test_one_star_is_one_label() -> None:
    """``*.`` stands for one label, neither for none nor for two."""
    pins = HostPins({"*.example.com": ONE}, unpinned="allow")
    assert pins("a.example.com") == ONE
    assert pins("example.com") is None
    assert pins("a.b.example.com") is None


def test_two_stars_are_any_number_of_labels() -> None:
    """``**.`` stands for any number of labels, none included."""
    pins = HostPins({"**.example.com": ONE})
    for host in ("example.com", "a.example.com", "a.b.example.com", "a.b.c.d.e.f.example.com"):
        assert pins(host) == ONE


@pytest.mark.parametrize("pattern", ["example.com", "*.example.com", "**.example.com"])
@pytest.mark.parametrize(
    "host", ["notexample.com", "a.notexample.com", "example.com.evil.example", "com", "xample.com"]
)
def test_a_label_is_whole(pattern: str, host: str) -> None:
    """A name that merely ends or begins like a pattern does not match it."""
    with pytest.raises(UnpinnedPeerError):
        HostPins({pattern: ONE})(host)


@pytest.mark.parametrize(
    ("pattern", "hosts"),
    [
        ("Example.COM.", ["example.com", "EXAMPLE.com."]),
        ("*.Example.COM.", ["a.example.com", "A.EXAMPLE.com."]),
        ("**.B\xdcCHER.example", ["xn--bcher-kva.example", "a.b\xfccher.example."]),
        ("b\xfccher.example", ["XN--BCHER-KVA.EXAMPLE", "b\xfccher\u3002example"]),
        ("*.b\xfccher.example", ["stra\xdfe.b\xfccher.example", "strasse.xn--bcher-kva.example"]),
        ("2001:DB8:0::1", ["2001:db8::1", "2001:0db8:0:0:0:0:0:1"]),
        ("127.0.0.1", ["127.0.0.1"]),
        ("fe80::1%eth0", ["FE80::1%eth0"]),
    ],
)
def test_spelling_does_not_matter(pattern: str, hosts: list[str]) -> None:
    """Pattern and host are compared in their canonical form."""
    for host in hosts:
        assert HostPins({pattern: ONE})(host) == ONE


def test_an_address_is_not_a_name() -> None:
    """No wildcard matches an IP address."""
    pins = HostPins({"**.example.com": ONE, "fe80::1": TWO}, unpinned="allow")
    assert pins("127.0.0.1") is None
    assert pins("::1") is None
    assert pins("fe80::1") == TWO


# Few letters, so that patterns and hosts meet.
labels = st.sampled_from(["a", "b", "ab", "com"])
names = st.lists(labels, min_size=1, max_size=4).map(".".join)
bases = st.lists(labels, min_size=2, max_size=3).map(".".join)
patterns = st.one_of(
    names, bases.map(lambda base: f"*.{base}"), bases.map(lambda base: f"**.{base}")
)


def expected_pattern(host: str, known: list[str]) -> str | None:
    """Which pattern a host has, by comparing label lists with every one of them."""
    mine = host.split(".")
    fitting: list[tuple[int, int, str]] = []
    for pattern in known:
        first, *rest = pattern.split(".")
        if first == "**" and mine[-len(rest) :] == rest:
            fitting.append((0, len(rest), pattern))
        elif first == "*" and mine[1:] == rest:
            fitting.append((1, 0, pattern))
        elif pattern == host:
            fitting.append((2, 0, pattern))
    return max(fitting)[2] if fitting else None


@MANY
@given(st.lists(patterns, unique=True, max_size=6), names, st.sampled_from(["reject", "allow"]))
@example(["**.a.com", "*.a.com"], "a.com", "reject")
def test_lookup_agrees_with_the_definition(
    known: list[str], host: str, unpinned: Literal["reject", "allow"]
) -> None:
    """The pin set of a host is that of the best of all patterns that fit it."""
    mapping = {pattern: pin_set(number) for number, pattern in enumerate(known)}
    pins = HostPins(mapping, unpinned=unpinned)
    expected = expected_pattern(host, known)
    if expected is not None:
        assert pins(host) == mapping[expected]
        assert pins(host.upper() + ".") == mapping[expected]
    elif unpinned == "allow":
        assert pins(host) is None
    else:
        with pytest.raises(UnpinnedPeerError):
            pins(host)


# Hosts without pins ------------------------------------------------------------------------------


def test_a_host_without_pins_is_refused() -> None:
    """A host that no pattern matches is refused by default, with what to do about it."""
    with pytest.raises(UnpinnedPeerError) as caught:
        HostPins({"example.com": ONE})("OTHER.example")
    assert caught.value.server_hostname == "OTHER.example"
    assert "no pins for 'other.example'" in str(caught.value)
    assert "unpinned='allow'" in str(caught.value)


def test_a_host_without_pins_is_allowed_if_said() -> None:
    """With unpinned="allow" a host without pins has none, and one with pins still has them."""
    pins = HostPins({"example.com": ONE}, unpinned="allow")
    assert pins("other.example") is None
    assert pins("example.com") == ONE


@pytest.mark.parametrize("unpinned", ["reject", "allow"])
def test_no_patterns_at_all(unpinned: Literal["reject", "allow"]) -> None:
    """An empty mapping is nothing special: every host is without pins."""
    pins = HostPins({}, unpinned=unpinned)
    if unpinned == "allow":
        assert pins("example.com") is None
    else:
        with pytest.raises(UnpinnedPeerError):
            pins("example.com")


@pytest.mark.parametrize("unpinned", ["reject", "allow"])
@pytest.mark.parametrize(
    "host",
    ["example.com..", "example.com:443", "https://example.com", "*.example.com", "127.1", ""],
)
def test_a_strange_spelling_sheds_no_pins(host: str, unpinned: Literal["reject", "allow"]) -> None:
    """A host without canonical form is refused, even where hosts without pins are allowed."""
    pins = HostPins({"**.example.com": ONE, "127.0.0.1": ONE}, unpinned=unpinned)
    with pytest.raises(UnpinnedPeerError, match="no pins can be found for this host") as caught:
        pins(host)
    assert caught.value.server_hostname == host
    assert repr(host) in str(caught.value)


@pytest.mark.parametrize("unpinned", ["reject", "allow"])
def test_no_host_name_is_refused(unpinned: Literal["reject", "allow"]) -> None:
    """Without a host name there is nothing to choose pins by, and the message says so."""
    with pytest.raises(UnpinnedPeerError, match="pass server_hostname") as caught:
        HostPins({"example.com": ONE}, unpinned=unpinned)(None)
    assert caught.value.server_hostname is None


# Making ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("host", "said"), REFUSED)
def test_a_pattern_is_held_to_the_same_rules(host: str, said: str) -> None:
    """What is no host name is no pattern either, with a wildcard before it or without."""
    for pattern in (host, "*." + host, "**." + host):
        with pytest.raises(PinSyntaxError):
            HostPins({pattern: ONE})


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("*.com", "would match a whole top-level domain"),
        ("**.com", "would match a whole top-level domain"),
        ("*.com.", "would match a whole top-level domain"),
        ("**.localhost", "would match a whole top-level domain"),
        ("*.b\xfccher", "would match a whole top-level domain"),
        ("*.127.0.0.1", "an IP address has no wildcard"),
        ("**.::1", "an IP address has no wildcard"),
        ("*.*.example.com", WILDCARD),
        ("**.*.example.com", WILDCARD),
        ("***.example.com", WILDCARD),
        ("a.*.example.com", WILDCARD),
        ("*.", NO_NAME),
        ("**.", NO_NAME),
        ("\uff0a.example.com", NO_NAME),
    ],
)
def test_a_stray_wildcard_is_refused(pattern: str, said: str) -> None:
    """A wildcard that is too wide, or stands where it may not, is refused."""
    with pytest.raises(PinSyntaxError) as caught:
        HostPins({pattern: ONE})
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("example.com", "EXAMPLE.com"),
        ("example.com", "example.com."),
        ("*.example.com", "*.Example.com"),
        ("**.b\xfccher.example", "**.xn--bcher-kva.example"),
        ("::1", "0:0:0:0:0:0:0:1"),
    ],
)
def test_two_spellings_of_one_host_are_refused(one: str, other: str) -> None:
    """Two keys that mean one host are refused, as one would silently win over the other."""
    with pytest.raises(ValueError, match="merge the two"):
        HostPins({one: ONE, other: TWO})


def test_the_three_kinds_of_pattern_are_different() -> None:
    """The same base under no, one and two stars is three patterns."""
    pins = HostPins({"example.com": ONE, "*.example.com": TWO, "**.example.com": THREE})
    assert pins.patterns == {"example.com": ONE, "*.example.com": TWO, "**.example.com": THREE}


@pytest.mark.parametrize("mapping", [{"leaf": TEXT}, {"anchor": TEXT, "any": TEXT}, {0: TEXT}])
def test_positions_are_not_hosts(mapping: Mapping[str, str]) -> None:
    """A mapping whose keys are positions was meant for PinSet, and the message says so."""
    with pytest.raises(PinSyntaxError, match="write PinSet"):
        HostPins(mapping)


def test_values_are_whatever_a_pin_set_takes() -> None:
    """A host's pins may be a pin set, one pin or several, as pins or as texts."""
    pin = Pin.parse(TEXT)
    for value in (ONE, pin, TEXT, [TEXT], (pin,), iter([pin])):
        assert HostPins({"example.com": value})("example.com") == ONE


def test_pins_are_checked_when_made() -> None:
    """A host with no pins, or with a pin that cannot be read, is refused at once."""
    with pytest.raises(ValueError, match="no pins"):
        HostPins({"example.com": []})
    with pytest.raises(PinSyntaxError, match="is not a pin"):
        HostPins({"example.com": "nonsense"})
    with pytest.raises(TypeError, match="not NoneType"):
        untyped_host_pins({"example.com": None})


@pytest.mark.parametrize("key", [b"example.com", 443, None])
def test_a_pattern_is_text(key: object) -> None:
    """A pattern of another type is a TypeError that names the type."""
    with pytest.raises(TypeError, match=f"a host pattern is a str, not {type(key).__name__}"):
        untyped_host_pins({"example.com": ONE, key: TWO})


@pytest.mark.parametrize("mapping", [None, [("example.com", ONE)], "example.com", ONE])
def test_only_a_mapping_will_do(mapping: object) -> None:
    """What is not a mapping is a TypeError that names its type."""
    with pytest.raises(TypeError, match=f"takes a mapping, not {type(mapping).__name__}"):
        untyped_host_pins(mapping)


@pytest.mark.parametrize("unpinned", ["ignore", "", None, True])
def test_unpinned_is_checked(unpinned: object) -> None:
    """unpinned takes its two values and no other."""
    with pytest.raises(ValueError, match="unpinned is 'reject' or 'allow', not"):
        untyped_host_pins({}, unpinned=unpinned)


# The value ---------------------------------------------------------------------------------------


def test_patterns_are_canonical_and_read_only() -> None:
    """The patterns can be looked at in their canonical form, and not changed."""
    mapping = {"Example.com.": ONE, "*.B\xdcCHER.example": TWO}
    pins = HostPins(mapping)
    mapping["other.example"] = THREE
    assert dict(pins.patterns) == {"example.com": ONE, "*.xn--bcher-kva.example": TWO}
    with pytest.raises(TypeError):
        pins.patterns["other.example"] = THREE  # type: ignore[index]  # the mistake is the test


SAMPLES = [
    HostPins({}),
    HostPins({}, unpinned="allow"),
    HostPins({"a.example": ONE}),
    HostPins({"a.example": TWO}),
    HostPins({"a.example": ONE}, unpinned="allow"),
    HostPins({"*.a.example": ONE}),
    HostPins({"**.a.example": ONE}),
    HostPins({"a.example": ONE, "::1": TWO}),
]


def test_comparison_is_by_value() -> None:
    """Host pins are equal if patterns, pin sets and ``unpinned`` are, in whatever order."""
    for one in SAMPLES:
        for other in SAMPLES:
            assert (one == other) == (one is other)
    one = HostPins({"a.example": ONE, "*.b.example": TWO})
    other = HostPins({"*.B.example.": [*TWO.positions["any"]], "A.example": TEXT})
    assert one == other
    assert hash(one) == hash(other)
    assert one != {"a.example": ONE, "*.b.example": TWO}


def test_positions_in_another_spelling_are_no_hosts() -> None:
    """Host pins that could not be made again of their own patterns are refused.

    Found by fuzz/hosts_fuzzer.py.
    """
    with pytest.raises(PinSyntaxError, match="positions, not hosts"):
        HostPins({"LEAF": ONE, "any.": TWO})
    assert copy.copy(HostPins({"LEAF": ONE, "a.example": TWO}))("leaf") == ONE


@pytest.mark.parametrize("pins", SAMPLES, ids=repr)
def test_host_pins_pickle(pins: HostPins) -> None:
    """Host pins come back equal from every pickle protocol and from a copy."""
    again = [pickle.loads(pickle.dumps(pins, protocol)) for protocol in PROTOCOLS]
    for other in (*again, copy.copy(pins), copy.deepcopy(pins)):
        assert other == pins
        assert hash(other) == hash(pins)
        assert repr(other) == repr(pins)


@pytest.mark.parametrize("pins", SAMPLES, ids=repr)
def test_repr_can_be_pasted(pins: HostPins) -> None:
    """What repr prints is the expression that makes the same host pins."""
    names: dict[str, object] = {"HostPins": HostPins, "PinSet": PinSet}
    assert eval(repr(pins), names) == pins


def test_repr_is_short() -> None:
    """repr leaves out what is as it would be anyway."""
    assert repr(HostPins({})) == "HostPins({})"
    assert repr(HostPins({}, unpinned="allow")) == "HostPins({}, unpinned='allow')"


# What others write -------------------------------------------------------------------------------

DIGEST = TEXT.partition("/")[2]


def test_androids_configuration_is_read() -> None:
    """Domains with subdomains become patterns, the expiration an end that unpins."""
    xml = (
        '<network-security-config><domain-config><domain includeSubdomains="true">a.example'
        '</domain><domain>b.example</domain><pin-set expiration="2030-01-02">'
        f'<pin digest="SHA-256">{DIGEST}</pin></pin-set></domain-config></network-security-config>'
    )
    end = datetime(2030, 1, 2, tzinfo=timezone.utc)
    pins = PinSet(TEXT, expires=end, after_expiry="unpin")
    assert HostPins.from_android(xml) == HostPins({"**.a.example": pins, "b.example": pins})
    assert HostPins.from_android(xml.encode(), unpinned="allow")("c.example") is None


def test_an_entity_bomb_is_refused() -> None:
    """A document type declaration is the end of it, in either XML."""
    bomb = (
        '<!DOCTYPE b [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]>'
        "<network-security-config>&b;</network-security-config>"
    )
    with pytest.raises(PinSyntaxError):
        HostPins.from_android(bomb)
    with pytest.raises(PinSyntaxError):
        HostPins.from_trustkit(
            '<!DOCTYPE plist [<!ENTITY a "a">]><plist><dict><key>&a;</key><true/></dict></plist>'
        )


def test_okhttps_pins_are_read() -> None:
    """A host has the pins of every pattern that matches it, as with OkHttp."""
    other = str(TWO.positions["any"][0])
    pins = HostPins.from_okhttp({"a.example.com": TEXT, "**.example.com": [other]})
    assert pins("a.example.com") == PinSet([TEXT, other])
    assert pins("b.example.com") == TWO
    again = HostPins.from_okhttp(
        [("a.example.com", TEXT), ("**.example.com", other)], unpinned="allow"
    )
    assert again("c.example") is None
    assert again.patterns == pins.patterns


def test_trustkits_configuration_is_read() -> None:
    """Domains with subdomains become patterns; what is not enforced is report only."""
    config = {
        "TSKPinnedDomains": {
            "a.example": {
                "TSKPublicKeyHashes": [DIGEST],
                "TSKIncludeSubdomains": True,
                "TSKEnforcePinning": False,
            }
        }
    }
    assert HostPins.from_trustkit(config, unpinned="allow") == HostPins(
        {"**.a.example": PinSet(TEXT, enforce=False, after_expiry="unpin")}, unpinned="allow"
    )
