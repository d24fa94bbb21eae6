"""What others write of pins: what is read of it, what is passed over, and what is refused."""

from __future__ import annotations

import base64
import plistlib
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from hashlib import sha256
from types import SimpleNamespace
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from pinsock import PinSyntaxError
from pinsock._foreign import (
    Found,
    read_android,
    read_hpkp,
    read_okhttp,
    read_tlsa,
    read_trustkit,
)

KEYS = [bytes([number]) * 32 for number in range(1, 5)]
HEX = [key.hex() for key in KEYS]
B64 = [base64.b64encode(key).decode() for key in KEYS]
PINS = [f"sha256/{text}" for text in B64]
A, B, C, D = PINS
LONG = b"\x07" * 64
UTC = timezone.utc

# For calls that the types forbid: what happens then is tested too.
untyped_hpkp: Callable[..., Found] = read_hpkp
untyped_android: Callable[..., dict[str, Found]] = read_android
untyped_trustkit: Callable[..., dict[str, Found]] = read_trustkit


# TLSA --------------------------------------------------------------------------------------------

DANE_EE = Found((A,), position="leaf", trust="pins", check_expiry=False)


@pytest.mark.parametrize(
    "record",
    [
        f"3 1 1 {HEX[0]}",
        f"3 1 1 {HEX[0].upper()}",
        f"  3 1 1 {HEX[0][:20]} {HEX[0][20:]}  ",
        f"_443._tcp.example.com. IN TLSA 3 1 1 {HEX[0]}",
        f"_443._tcp.example.com. 3600 IN TLSA ( 3 1 1\n {HEX[0][:20]}\n {HEX[0][20:]} )",
        f"_443._tcp.example.com. IN 1h TLSA 3 1 1 {HEX[0]}",
        f"TLSA 3 1 1 {HEX[0]}",
        f"DANE-EE SPKI SHA2-256 {HEX[0]}",
        f"dane-ee spki sha2-256 {HEX[0]}",
        b"\x03\x01\x01" + KEYS[0],
        bytearray(b"\x03\x01\x01" + KEYS[0]),
        (3, 1, 1, KEYS[0]),
        (3, 1, 1, bytearray(KEYS[0])),
        (3, 1, 1, HEX[0]),
        SimpleNamespace(usage=3, selector=1, mtype=1, cert=KEYS[0]),
    ],
)
def test_a_record_has_many_forms(record: object) -> None:
    """Text as in zone files, wire bytes, a tuple of the fields, and an object that has them."""
    assert read_tlsa(record) == read_tlsa([record]) == DANE_EE


@pytest.mark.parametrize(
    ("usage", "position", "trust", "check_expiry"),
    [
        (0, "ca", "ca", True),
        (1, "leaf", "ca", True),
        (2, "ca", "pins", True),
        (3, "leaf", "pins", False),
    ],
)
def test_the_usage_says_where_and_who_is_trusted(
    usage: int, position: str, trust: str, check_expiry: bool
) -> None:
    """RFC 6698 section 2.1.1; that DANE-EE does not expire is RFC 7671 section 5.1."""
    found = read_tlsa((usage, 1, 1, KEYS[0]))
    assert (found.position, found.trust, found.check_expiry) == (position, trust, check_expiry)


def test_selector_and_matching_type_say_what_is_hashed() -> None:
    """The certificate or its key; by SHA-256, by SHA-512, or not at all."""
    der = b"\x30\x81\x80" + bytes(128)
    found = read_tlsa([(3, 0, 1, KEYS[0]), (3, 1, 2, LONG), (3, 1, 0, der), (3, 0, 0, b"\x30\x00")])
    assert found.pins == (
        f"cert-{A}",
        f"sha512/{base64.b64encode(LONG).decode()}",
        f"sha256/{base64.b64encode(sha256(der).digest()).decode()}",
        f"cert-sha256/{base64.b64encode(sha256(bytes([0x30, 0])).digest()).decode()}",
    )


def test_records_are_alternatives() -> None:
    """A mix of leaf and authority is looked for anywhere; twice the same is once."""
    assert read_tlsa([f"3 1 1 {HEX[0]}"] * 2) == DANE_EE
    assert read_tlsa([(2, 1, 1, KEYS[1]), (3, 1, 1, KEYS[0])]) == Found(
        (B, A), position="any", trust="pins", check_expiry=True
    )
    assert read_tlsa([(0, 1, 1, KEYS[1]), (1, 1, 1, KEYS[0])]) == Found((B, A), position="any")


def test_records_of_both_kinds_do_not_go_together() -> None:
    """One pin set cannot ask for an authority and not ask for it."""
    with pytest.raises(ValueError, match="pass the records of one kind only"):
        read_tlsa([(1, 1, 1, KEYS[0]), (3, 1, 1, KEYS[0])])


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ((4, 1, 1, KEYS[0]), "certificate usage 4 is not known"),
        ("PrivCert 1 1 " + HEX[0], "certificate usage 255 is not known"),
        ((3, 2, 1, KEYS[0]), "selector 2 is not known"),
        ((3, 1, 3, KEYS[0]), "matching type 3 is not known"),
        ((3, 1, 1, KEYS[0][1:]), "a sha256 has 32 bytes, not 31"),
        ((3, 1, 2, KEYS[0]), "a sha512 has 64 bytes, not 32"),
        ((3, 1, 0, b""), "its 0 bytes are not one DER SubjectPublicKeyInfo"),
        ((3, 0, 0, b"\x31\x00"), "its 2 bytes are not one DER certificate"),
        ((3, 0, 0, b"\x30\x01"), "not one DER"),
        ((3, 0, 0, b"\x30\x00\x00"), "not one DER"),
        ((3, 0, 0, b"\x30\x80\x00\x00"), "not one DER"),
        ((3, 0, 0, b"\x30\x81\x01\x00"), "not one DER"),
        ((3, 0, 0, b"\x30\x82\x00\x80" + bytes(128)), "not one DER"),
        ((3, 0, 0, b"\x30\x81\x80" + bytes(127)), "not one DER"),
        (b"\x03\x01\x01", "a sha256 has 32 bytes, not 0"),
    ],
)
def test_unusable_records_are_passed_over(record: object, why: str) -> None:
    """RFC 6698 section 4.1; if there is no other it is said why."""
    assert read_tlsa([record, (3, 1, 1, KEYS[0])]) == DANE_EE
    with pytest.raises(ValueError, match="no usable TLSA record: record 1: ") as caught:
        read_tlsa([record])
    assert why in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "3 1 1",
        f"3 1 {HEX[0]}",
        f"3 1 1 {HEX[0]}0",
        f"3 1 1 {HEX[0]}g",
        f"3 1 256 {HEX[0]}",
        f"3 1 MD5 {HEX[0]}",
        f"3 1 1 ({HEX[0]}",
        f"3 1 1 (({HEX[0]}))",
        f"A 3 1 1 {HEX[0]}",
        b"\x03\x01",
        (3, 1, 1, "0"),
        (3, 1, 256, KEYS[0]),
        (-1, 1, 1, KEYS[0]),
    ],
)
def test_what_is_no_record_is_refused(text: object) -> None:
    """It is no unusable record, but a mistake."""
    with pytest.raises(PinSyntaxError):
        read_tlsa([text])


@pytest.mark.parametrize("count", [2, 3, 4])
def test_several_records_in_one_text_are_refused(count: int) -> None:
    """One that passed for a record too long would be passed over, and all its pins with it."""
    answer = "".join(f"3 1 1 {HEX[0][:56]} {HEX[0][56:]}\n" for _ in range(count))
    with pytest.raises(PinSyntaxError, match="splitlines"):
        read_tlsa([f"3 1 1 {HEX[0]}", answer])
    assert read_tlsa(answer.splitlines()) == read_tlsa(f"3 1 1 {HEX[0]}\n")


@pytest.mark.parametrize(
    "records", [3, None, [3], [(3, 1, 1)], [(3, 1, 1, 3)], [("3", 1, 1, b"")], [(True, 1, 1, b"")]]
)
def test_what_is_no_form_of_a_record_is_a_type_error(records: object) -> None:
    """It says what a record may be."""
    with pytest.raises(TypeError, match="TLSA record"):
        read_tlsa(records)


def test_no_records_are_no_pins() -> None:
    """An empty answer must not end as a set without pins."""
    with pytest.raises(ValueError, match="there are no records at all"):
        read_tlsa([])


# HPKP --------------------------------------------------------------------------------------------

RECEIVED = datetime(2027, 1, 1, tzinfo=UTC)
PIN = f'pin-sha256="{B64[0]}"'


@pytest.mark.parametrize(
    "header",
    [
        f"{PIN}; max-age=60",
        f";;max-age=60;{PIN};",
        f'{PIN} ; Max-Age="60" ; includeSubDomains; report-uri="https://a/;\\""; new=1; bare',
        f'{PIN}; max-age=060; pin-sha1="AAAA"; pin-sha512=x',
        f"Public-Key-Pins: {PIN}; max-age=60\r\n",
        f"public-key-pins:{PIN};max-age=60",
        f"{PIN}; {PIN}; max-age=60",
    ],
)
def test_a_header_is_read(header: str) -> None:
    """Names in any case, values with or without quotes, and what is not known passed over."""
    assert read_hpkp(header, RECEIVED) == Found(
        (A,), expires=RECEIVED + timedelta(seconds=60), after_expiry="unpin"
    )


def test_a_header_that_only_reports() -> None:
    """It enforces nothing, and its max-age means nothing (RFC 7469 section 2.1.2)."""
    for age in ("", "; max-age=60"):
        header = f"Public-Key-Pins-Report-Only: {PIN}{age}"
        assert read_hpkp(header, RECEIVED) == Found((A,), enforce=False, after_expiry="unpin")


@pytest.mark.parametrize("seconds", [10**12, 10**25, "9" * 5000])
def test_an_age_beyond_the_calendar_never_ends(seconds: object) -> None:
    """A number that no calendar has room for is as good as for ever."""
    assert read_hpkp(f"{PIN}; max-age={seconds}", RECEIVED).expires is None


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (PIN, "no max-age"),
        (f"{PIN}; max-age", "number of seconds"),
        (f"{PIN}; max-age=-1", "number of seconds"),
        (f"{PIN}; max-age=soon", "number of seconds"),
        (f"{PIN}; max-age=1; max-age=1", "appears twice"),
        (f"{PIN}; max-age=1; includeSubDomains=1", "has a value"),
        (f"{PIN}; max-age=1; report-uri", "no value"),
        (f"{PIN}; max-age=1; a b", "cannot be read from"),
        (f'{PIN}; max-age=1; a="b', "cannot be read from"),
        (f'{PIN}; max-age=1; a="\x01"', "cannot be read from"),
        ("pin-sha256; max-age=1", "32 bytes"),
        (f'pin-sha256="{B64[0][:-1]}"; max-age=1', "32 bytes"),
        (f'pin-sha256="{B64[0][:-2]}F="; max-age=1', "32 bytes"),
        ('pin-sha256="é"; max-age=1', "32 bytes"),
        (f'pin-sha256="{"A" * 500}"; max-age=1', "..."),
    ],
)
def test_a_header_that_does_not_conform_is_refused(header: str, said: str) -> None:
    """User agents would have to ignore it, and it must not become half a pin set."""
    with pytest.raises(PinSyntaxError) as caught:
        read_hpkp(header, RECEIVED)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_header_that_pins_nothing_is_a_value_error() -> None:
    """It says to forget, or has no pin that is known."""
    with pytest.raises(ValueError, match="forget the pins"):
        read_hpkp(f"{PIN}; max-age=00", RECEIVED)
    with pytest.raises(ValueError, match="nothing to pin"):
        read_hpkp('max-age=1; pin-md5="x"', RECEIVED)
    with pytest.raises(ValueError, match="time zone"):
        read_hpkp(f"{PIN}; max-age=1", datetime(2027, 1, 1))  # noqa: DTZ001  # the mistake is the test
    with pytest.raises(TypeError, match="a header is a str"):
        untyped_hpkp(b"", RECEIVED)
    with pytest.raises(TypeError, match="received is an aware datetime"):
        untyped_hpkp("", 1)


# Android -----------------------------------------------------------------------------------------


def android(*configs: str) -> str:
    return f"<network-security-config>{''.join(configs)}</network-security-config>"


def config(domains: str, pins: str = "", more: str = "") -> str:
    return f"<domain-config>{domains}{pins}{more}</domain-config>"


def pin_set(*digests: str, options: str = "") -> str:
    pins = "".join(f'<pin digest="SHA-256">{digest}</pin>' for digest in digests)
    return f"<pin-set {options}>{pins}</pin-set>"


ONE = "<domain>a.example</domain>"
TWO = '<domain includeSubdomains="true"> B.example. </domain>'


def found(*pins: str, **options: Any) -> Found:
    return Found(pins, after_expiry="unpin", **options)


def test_domains_of_android() -> None:
    """Names and subdomains become patterns; what has no pins is left out."""
    xml = android(
        '<base-config cleartextTrafficPermitted="false"><trust-anchors>'
        '<certificates src="system"/></trust-anchors></base-config>',
        '<debug-overrides><trust-anchors><certificates src="user" overridePins="true"/>'
        "</trust-anchors></debug-overrides>",
        config(ONE + TWO, pin_set(B64[0], B64[1], options='expiration="2030-01-02"')),
        config("<domain>c.example</domain>"),
        config("<domain>d.example</domain>", pin_set()),
    )
    pinned = found(A, B, expires=datetime(2030, 1, 2, tzinfo=UTC))
    assert read_android(xml) == {"a.example": pinned, "**.b.example": pinned}
    assert read_android(xml.encode()) == read_android(xml)
    utf16 = ('<?xml version="1.0" encoding="UTF-16"?>' + xml).encode("utf-16")
    assert read_android(utf16) == read_android(xml)
    assert read_android('<?xml version="1.0" encoding="UTF-16"?>' + xml) == read_android(xml)


def test_what_is_nested_inherits() -> None:
    """The pins of the parent, unless it has some of its own."""
    inner = config("<domain>x.a.example</domain>") + config(
        "<domain>y.a.example</domain>", pin_set(B64[1])
    )
    xml = android(config(TWO, pin_set(B64[0]), inner))
    assert read_android(xml) == {
        "**.b.example": found(A),
        "x.a.example": found(A),
        "y.a.example": found(B),
    }


@pytest.mark.parametrize(
    ("xml", "said"),
    [
        ("", "not well-formed"),
        ("<a>", "not well-formed"),
        ("<a/>", "no network-security-config"),
        (b'<?xml version="1.0" encoding="none"?><a/>', "not well-formed"),
        ("\ud800", "not a text"),
        (" " * (1 << 20) + "<a/>", "more than"),
        ("<a>" * 33 + "</a>" * 33, "nested deeper"),
        ("<!DOCTYPE a><a/>", "DOCTYPE"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "DOCTYPE"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "DOCTYPE"),
        (android("<base-config><pin-set/></base-config>"), "no place in the base-config"),
        (android(config("", pin_set(B64[0]))), "has no domain"),
        (android(config(ONE, pin_set() * 2)), "several pin-sets"),
        (android(config("<domain>*.a.example</domain>")), "wildcard"),
        (android(config("<domain></domain>")), "not a host name"),
        (android(config(f"<domain>{'a' * 300}</domain>")), "not a host name"),
        (android(config("<domain>a..b</domain>")), "not a host name"),
        (android(config("<domain>a<b/></domain>")), "text alone"),
        (android(config('<domain includeSubdomains="yes">a</domain>')), "'true' or 'false'"),
        (android(config(ONE, "<pin-set><pin>x</pin></pin-set>")), "digest ''"),
        (android(config(ONE, '<pin-set><pin digest="SHA-1">x</pin></pin-set>')), "'SHA-1'"),
        (android(config(ONE, pin_set("x"))), "32 bytes"),
        (android(config(ONE, pin_set(B64[0], options='expiration="x"'))), "is not a date"),
        (android(config(ONE, pin_set(B64[0], options='expiration="2030-02-30"'))), "a date"),
    ],
)
def test_what_android_would_not_read_is_refused(xml: str | bytes, said: str) -> None:
    """Hostile documents above all: nothing that is declared is ever expanded."""
    with pytest.raises(PinSyntaxError) as caught:
        read_android(xml)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("xml", "said"),
    [
        (android(config(ONE, pin_set(B64[0])) * 2), "named twice"),
        (
            android(
                config(TWO, pin_set(B64[0]), config("<domain>x.b.example</domain>", pin_set()))
            ),
            "without pins under",
        ),
        (
            android(config(ONE, pin_set(B64[0]), '<certificates overridePins="true"/>')),
            "overridePins",
        ),
        (
            android('<base-config><certificates overridePins=" True "/></base-config>'),
            "overridePins",
        ),
    ],
)
def test_what_cannot_be_carried_over_from_android_is_refused(xml: str, said: str) -> None:
    """Rather nothing than less than was said."""
    with pytest.raises(ValueError, match=said) as caught:
        read_android(xml)
    assert not isinstance(caught.value, PinSyntaxError)


def test_a_configuration_of_android_is_a_text() -> None:
    """Not the name of a file, for instance."""
    with pytest.raises(TypeError, match="a configuration is str or bytes, not NoneType"):
        untyped_android(None)


# OkHttp ------------------------------------------------------------------------------------------


def test_a_host_of_okhttp_has_the_pins_of_all_that_match_it() -> None:
    """So each pattern gets those of the wider ones."""
    pins = {
        "x.a.example": A,
        "*.a.example": [B],
        "**.a.example": (C,),
        "**.example": D,
    }
    assert read_okhttp(pins) == {
        "x.a.example": Found((A, B, C, D)),
        "*.a.example": Found((B, C, D)),
        "**.a.example": Found((C, D)),
        "**.example": Found((D,)),
    }


def test_what_two_patterns_have_in_common_gets_a_pattern() -> None:
    """*.b and **.a.b have the host a.b in common, which HostPins would give to one of them."""
    assert read_okhttp([("*.b.example", A), ("**.a.b.example", B)]) == {
        "*.b.example": Found((A,)),
        "**.a.b.example": Found((B,)),
        "a.b.example": Found((A, B)),
    }


def test_builders_and_spellings_of_okhttp() -> None:
    """add(pattern, pins...) may be said again; names are compared as they are looked up."""
    assert read_okhttp([["A.example", A, B], ("a.example.", C)]) == {"a.example": Found((A, B, C))}
    assert read_okhttp({}) == {}


@pytest.mark.parametrize(
    ("pins", "error", "said"),
    [
        ("a", TypeError, "a mapping or"),
        (b"a", TypeError, "a mapping or"),
        (3, TypeError, "a mapping or"),
        (["a"], TypeError, "an entry is a tuple"),
        ([()], TypeError, "an entry is a tuple"),
        ([(3, A)], TypeError, "a pattern is a str"),
        ({"a.example": 3}, TypeError, "are texts, not int"),
        ({"a.example": b"x"}, TypeError, "are texts, not bytes"),
        ([("a.example", 3)], TypeError, "is a str, not int"),
        ([("a.example",)], ValueError, "there are no pins for 'a.example'"),
        ({"a.example": []}, ValueError, "there are no pins for 'a.example'"),
        ({"a.*.example": A}, PinSyntaxError, "wildcard"),
        ({"a.example": "sha1/AAAA"}, PinSyntaxError, "SHA-1 is broken"),
        ({"a.example": "sha512/AAAA"}, PinSyntaxError, "write a pin sha256/BASE64"),
        ({"a.example": A[:-1]}, PinSyntaxError, "32 bytes"),
    ],
)
def test_what_okhttp_would_not_take_is_refused(
    pins: object, error: type[Exception], said: str
) -> None:
    """With what would be right."""
    with pytest.raises(error) as caught:
        read_okhttp(pins)
    assert said in str(caught.value)


# TrustKit ----------------------------------------------------------------------------------------


def trustkit(**policy: object) -> dict[str, object]:
    return {"TSKPinnedDomains": {"a.example": {"TSKPublicKeyHashes": B64[:2], **policy}}}


@pytest.mark.parametrize("wrap", [False, True])
def test_domains_of_trustkit(wrap: bool) -> None:
    """A dictionary, alone or in one of the app's, or the property list that has it."""
    given = trustkit(
        TSKExpirationDate="2030-01-02", TSKEnforcePinning=False, TSKReportUris=["https://a/"]
    )
    given = {"TSKConfiguration": given} if wrap else given
    expected = {"a.example": found(A, B, enforce=False, expires=datetime(2030, 1, 2, tzinfo=UTC))}
    assert read_trustkit(given) == expected
    for form in (plistlib.FMT_XML, plistlib.FMT_BINARY):
        assert read_trustkit(plistlib.dumps(given, fmt=form)) == expected
    assert read_trustkit(plistlib.dumps(given).decode()) == expected
    assert read_trustkit(trustkit(TSKIncludeSubdomains=True)) == {"**.a.example": found(A, B)}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "there is no TSKPinnedDomains"),
        ({"TSKConfiguration": 3}, "there is a int"),
        ({"TSKPinnedDomains": 3}, "TSKPinnedDomains is a dictionary, not int"),
        ({"TSKPinnedDomains": {3: {}}}, "a text, not int"),
        ({"TSKPinnedDomains": {"a": 3}}, "a: the policy is a dictionary, not int"),
        ({"TSKPinnedDomains": {"a": {}}}, "a: TSKPublicKeyHashes has no pins"),
        ({"TSKPinnedDomains": {"a": {"TSKPublicKeyHashes": B64[0]}}}, "is an array, not str"),
        ({"TSKPinnedDomains": {"a": {"TSKPublicKeyHashes": [3]}}}, "has texts, not int"),
        ({"TSKPinnedDomains": {"a": {"TSKPublicKeyHashes": ["x"]}}}, "32 bytes"),
        (trustkit(TSKIncludeSubdomains=1), "TSKIncludeSubdomains is a boolean, not int"),
        (trustkit(TSKEnforcePinning="NO"), "TSKEnforcePinning is a boolean, not str"),
        (trustkit(TSKExpirationDate=RECEIVED), "TSKExpirationDate is a text"),
        (trustkit(TSKExpirationDate="soon"), "TSKExpirationDate: 'soon' is not a date"),
        (trustkit(TSKAdditionalTrustAnchors=3), "is an array, not int"),
        (b"", "not a property list"),
        (b"bplist00 and nothing more", "not a property list"),
        ("<plist><dict><key>a</key></dict></plist>", "not a property list"),
        (plistlib.dumps([]), "there is a list"),
        (
            '<?xml version="1.0"?><!DOCTYPE plist [<!ENTITY a "b">]>'
            "<plist><dict><key>&a;</key><true/></dict></plist>",
            "not a property list",
        ),
        (b" " * (1 << 21), "more than"),
    ],
)
def test_what_trustkit_would_not_read_is_refused(given: object, said: str) -> None:
    """The message names domain and key."""
    with pytest.raises(PinSyntaxError) as caught:
        untyped_trustkit(given)
    assert said in str(caught.value)


def test_what_cannot_be_carried_over_from_trustkit_is_refused() -> None:
    """Exceptions from the parent's pins, and authorities of one's own."""
    for policy in (
        {"TSKExcludeSubdomainFromParentPolicy": True},
        {"TSKAdditionalTrustAnchors": ["-----BEGIN CERTIFICATE-----"]},
    ):
        with pytest.raises(ValueError, match="cannot be carried over"):
            read_trustkit(trustkit(**policy))
    with pytest.raises(TypeError, match="mapping, bytes or str, not int"):
        untyped_trustkit(3)


# Anything ----------------------------------------------------------------------------------------

_PIECES = [
    *("3 1 1 ", HEX[0], "TLSA", "(", ")", PIN, "; ", "max-age=1", '"', "\\", "\0", "é", "\ud800"),
    *("<network-security-config>", "<domain-config>", ONE, pin_set(B64[0]), "<plist>", "<dict>"),
    *("</network-security-config>", "</domain-config>", "<!DOCTYPE a [", "&a;", "bplist00"),
]


@hypothesis.given(st.lists(st.sampled_from(_PIECES), max_size=8).map("".join))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Whatever the text, nothing but a ValueError comes of it, and never a Found without pins."""
    readers: tuple[Callable[[], object], ...] = (
        lambda: read_tlsa(text),
        lambda: read_hpkp(text, RECEIVED),
        lambda: list(read_android(text).values()),
        lambda: list(read_trustkit(text).values()),
    )
    for read in readers:
        with suppress(ValueError):
            answer = read()
            for each in answer if isinstance(answer, list) else [answer]:
                assert each.pins


@hypothesis.given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """Likewise."""
    readers: tuple[Callable[[bytes], object], ...] = (read_tlsa, read_android, read_trustkit)
    for read in readers:
        with suppress(ValueError):
            assert read(data)
