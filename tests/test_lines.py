"""The text of pin files: what can be read, what cannot and why, and what is written."""

from __future__ import annotations

import base64
import contextlib
from datetime import date, datetime, timedelta, timezone
from typing import Any, Literal, cast

import hypothesis
import pytest
from hypothesis import strategies as st

from pinsock import Pin, PinSet, PinSyntaxError
from pinsock._hosts import canonical_host
from pinsock._lines import (
    HEADING,
    PinLine,
    canonical_peer,
    format_lines,
    host_of_line,
    read_lines,
    split_peer,
)
from pinsock._pins import Position

A = "sha256/" + base64.b64encode(b"a" * 32).decode()
B = "sha256/" + base64.b64encode(b"b" * 32).decode()
CERT = "cert-" + A
EXAMPLE = f"""\
# host                 position   pin                        options
api.example.com        leaf       {A}                expires=2027-06-30
api.example.com        leaf       {B}                # backup
**.example.net         any        {CERT}           report-only

device.local           leaf       {A}                trust=pins check-expiry=no
"""


def read(text: str, *, ports: bool = False) -> dict[str, PinSet]:
    return {host: entry.pin_set() for host, entry in read_lines(text, "f", ports=ports).items()}


def test_the_lines_of_one_host_make_one_pin_set() -> None:
    """The file that the documentation shows means what it says there."""
    assert read(EXAMPLE) == {
        "api.example.com": PinSet({"leaf": [A, B]}, expires=date(2027, 6, 30)),
        "**.example.net": PinSet({"any": CERT}, enforce=False),
        "device.local": PinSet({"leaf": A}, trust="pins", check_expiry=False),
    }


def test_each_line_keeps_its_number() -> None:
    """What complains of a line can name it."""
    entries = read_lines(EXAMPLE, "f")
    assert entries["api.example.com"].lines == [PinLine(2, "leaf", A), PinLine(3, "leaf", B)]
    assert entries["api.example.com"].options == {"expires": "2027-06-30"}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f"a.b leaf {A}", PinSet({"leaf": A})),
        (f"  a.b\tleaf\t{A}  ", PinSet({"leaf": A})),
        (f"a.b leaf {A}\r", PinSet({"leaf": A})),
        (f"a.b leaf {A} # report-only", PinSet({"leaf": A})),
        (f"a.b leaf {A} #", PinSet({"leaf": A})),
        (f"A.B. leaf {A}", PinSet({"leaf": A})),
        (f"a.b 0 {A}", PinSet({0: A})),
        (f"a.b 12 {A}", PinSet({12: A})),
        (f"a.b 120 {A}", PinSet({120: A})),
        (f"a.b ca sha256/{A[6:]}", PinSet({"ca": A})),
        (f"a.b leaf sha256:{b'a'.hex() * 32}", PinSet({"leaf": A})),
        (f"a.b leaf {(b'a' * 32).hex(':')}", PinSet({"leaf": CERT})),
        (f"a.b leaf {A} check-expiry=yes", PinSet({"leaf": A})),
        (f"a.b leaf {A} trust=ca after-expiry=reject", PinSet({"leaf": A})),
        (f"a.b leaf {A} trust=pins", PinSet({"leaf": A}, trust="pins")),
        (
            f"a.b leaf {A} expires=2027-01-01T10:00:00Z after-expiry=unpin",
            PinSet(
                {"leaf": A},
                expires=datetime(2027, 1, 1, 10, tzinfo=timezone.utc),
                after_expiry="unpin",
            ),
        ),
        (f"a.b leaf {A} report-only report-only", PinSet({"leaf": A}, enforce=False)),
    ],
)
def test_what_can_be_read(line: str, expected: PinSet) -> None:
    """White space, comments, and the spellings of names, pins and options are those of the docs."""
    assert read(line) == {"a.b": expected}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a.b", "HOST POSITION PIN"),
        ("a.b leaf", "HOST POSITION PIN"),
        (f"a.b leaf{A}", "HOST POSITION PIN"),
        (f"a.b leaves {A}", "unknown position 'leaves'"),
        (f"a.b -1 {A}", "unknown position '-1'"),
        (f"a.b 01 {A}", "unknown position '01'"),
        (f"a.b LEAF {A}", "unknown position 'LEAF'"),
        (f"a.b leaf {A[:-2]}", "not 32 bytes"),
        (f"a.b leaf {A[:-2]}B=", "not 32 bytes"),  # stray bits in the last character
        ("a.b leaf sha1/" + "A" * 28, "broken"),
        (f"https://a.b leaf {A}", "URL"),
        (f"a.b:443 leaf {A}", "port"),
        (f"*.com leaf {A}", "top-level"),
        (f"a.*.b leaf {A}", "wildcard"),
        (f"{'a' * 64}.b leaf {A}", "host name"),
        (f"{'a.' * 127}b leaf {A}", "host name"),
        (f"1.2.3 leaf {A}", "IP address"),
        (f"a.b leaf {A} report_only", "unknown option 'report_only'"),
        (f"a.b leaf {A} report-only=yes", "unknown option"),
        (f"a.b leaf {A} trust", "unknown option 'trust'"),
        (f"a.b leaf {A} Trust=pins", "unknown option 'Trust=pins'"),
        (f"a.b leaf {A} trust=pin", "trust: 'pin' is not ca or pins"),
        (f"a.b leaf {A} check-expiry=no", "needs trust=pins"),
        (f"a.b leaf {A} check-expiry=false", "check-expiry: 'false'"),
        (f"a.b leaf {A} after-expiry=never", "after-expiry: 'never'"),
        (f"a.b leaf {A} expires=soon", "expires: 'soon' is no"),
        (f"a.b leaf {A} expires=2027-02-30", "expires: '2027-02-30' is no day"),
        (f"a.b leaf {A} expires=9999-12-31", "expires: '9999-12-31' is no day"),
        (f"a.b leaf {A} expires=2027-02-30T00:00:00Z", "expires: '2027-02-30T00:00:00Z' is no"),
        (f"a.b leaf {A} expires=2027-02-28T00:00:00", "expires: '2027-02-28T00:00:00' is no"),
        (f"a.b leaf {A} first-seen=2027-02-28", "first-seen: '2027-02-28' is not a time in UTC"),
        (f"a.b leaf {A} first-seen=2027-02-28T24:00:00Z", "first-seen: "),
        (f"a.b leaf {A} trust=pins trust=ca", "contradicts"),
    ],
)
def test_what_cannot_be_read(line: str, said: str) -> None:
    """What is not understood is an error, which names file, line and reason."""
    with pytest.raises(PinSyntaxError) as caught:
        read_lines(f"# comment\n\n{line}\n", "pins.txt")
    assert str(caught.value).startswith("pins.txt, line 3: ")
    assert said in str(caught.value)


def test_a_message_does_not_quote_all_of_a_huge_line() -> None:
    """It goes to a log, which is not to grow by the file."""
    with pytest.raises(PinSyntaxError) as caught:
        read_lines(f"a.test leaf {'A' * 100_000}", "pins")
    message = str(caught.value)
    assert message.startswith("pins, line 1: ")
    assert " [...] " in message
    assert len(message) < 1100


def test_options_that_contradict_each_other_name_the_later_line() -> None:
    """The lines of a host make one set, which cannot end on two days."""
    text = f"a.b leaf {A} expires=2027-01-01\na.b leaf {B} expires=2027-01-02\n"
    with pytest.raises(PinSyntaxError, match="line 2: expires=2027-01-02 contradicts expires=2027"):
        read_lines(text, "f")


def test_an_option_may_stand_on_any_line_of_its_host() -> None:
    """check-expiry=no and trust=pins need not be on one line."""
    text = f"a.b leaf {A} check-expiry=no\na.b leaf {B} trust=pins\n"
    assert read(text) == {"a.b": PinSet({"leaf": [A, B]}, trust="pins", check_expiry=False)}


def test_two_spellings_of_a_host_are_one_host() -> None:
    """The lines of Example.COM. and of example.com make one set."""
    assert read(f"a.b leaf {A}\nA.b. leaf {B}\n") == {"a.b": PinSet({"leaf": [A, B]})}


@pytest.mark.parametrize(
    ("peer", "canonical"),
    [
        ("Example.com", "example.com"),
        ("Example.com.:8443", "example.com:8443"),
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1:1", "127.0.0.1:1"),
        ("::1", "::1"),
        ("[0:0::1]:8443", "[::1]:8443"),
        ("[::1%eth0]:8443", "[::1]:8443"),
    ],
)
def test_a_peer_may_have_a_port(peer: str, canonical: str) -> None:
    """Peers have one canonical form, with or without a port, which is its own."""
    assert canonical_peer(peer) == canonical
    assert canonical_peer(canonical) == canonical
    assert read(f"{peer} leaf {A}", ports=True) == {canonical: PinSet({"leaf": A})}


@pytest.mark.parametrize(
    "peer", ["a:", "a:0", "a:65536", "a:080", "a:x", ":1", "[::1]", "[::1]:", "[a]b:1", "a:1:2"]
)
def test_what_is_no_peer(peer: str) -> None:
    """A port is a number from 1 to 65535, and brackets are for addresses with a port."""
    with pytest.raises(PinSyntaxError):
        canonical_peer(peer)


def test_a_peer_is_a_string() -> None:
    """What is no string is a TypeError that says so."""
    with pytest.raises(TypeError, match="a peer is a str, not bytes"):
        split_peer(cast(str, b"a"))


def test_patterns_stand_beside_peers() -> None:
    """A store may have patterns, too."""
    assert list(read(f"*.example.com leaf {A}", ports=True)) == ["*.example.com"]


@pytest.mark.parametrize(
    ("line", "host"),
    [
        ("", None),
        ("# a.b leaf x", None),
        (f"a.b leaf {A}", "a.b"),
        (f"A.B leaf {A} # x", "a.b"),
        (f"**.A.B leaf {A}", "**.a.b"),
        (f"A.B:8443 leaf {A}", "a.b:8443"),
    ],
)
def test_the_host_of_a_line(line: str, host: str | None) -> None:
    """Of a line it can be said whose it is."""
    assert host_of_line(line) == host


def test_the_heading_is_a_comment_above_its_columns() -> None:
    """A new file says what its columns are."""
    assert read(HEADING) == {}
    (line,) = format_lines("api.example.com", PinSet({"leaf": A}, trust="pins"))
    for word, column in (("position", "leaf"), ("pin ", "sha256"), ("options", "trust")):
        assert HEADING.index(word) == line.index(column)


# Round trips -------------------------------------------------------------------------------------

_labels = st.text("abcxyz0189-", min_size=1, max_size=8).filter(lambda s: s.strip("-") == s)
_names = st.lists(_labels, min_size=2, max_size=4).map(".".join).map(lambda s: s + ".test")
hosts = st.one_of(
    _names,
    _names.map(lambda name: "*." + name),
    _names.map(lambda name: "**." + name),
    st.ip_addresses().map(str).map(canonical_host),
)
pins = st.builds(
    lambda kind, sized: Pin(kind, *sized),
    st.sampled_from(["spki", "cert"]),
    st.one_of(
        st.tuples(st.just("sha256"), st.binary(min_size=32, max_size=32)),
        st.tuples(st.just("sha384"), st.binary(min_size=48, max_size=48)),
        st.tuples(st.just("sha512"), st.binary(min_size=64, max_size=64)),
    ),
)
positions = st.one_of(
    st.sampled_from(["leaf", "intermediate", "anchor", "ca", "any"]), st.integers(0, 120)
)
moments = st.integers(-(10**10), 10**11).map(
    lambda seconds: datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=seconds)
)


@st.composite
def pin_sets(draw: st.DrawFn) -> PinSet:
    """Any pin set whose times are whole seconds."""
    trust = draw(st.sampled_from(["ca", "pins"]))
    options: dict[str, Any] = {
        "trust": trust,
        "check_expiry": trust == "ca" or draw(st.booleans()),
        "enforce": draw(st.booleans()),
        "expires": draw(st.none() | moments | moments.map(datetime.date)),
        "after_expiry": draw(st.sampled_from(["reject", "unpin"])),
        "first_seen": draw(st.none() | moments),
    }
    found: dict[Position, list[Pin]] = draw(
        st.dictionaries(positions, st.lists(pins, min_size=1, max_size=3), min_size=1, max_size=3)
    )
    return PinSet(found, **options)


@hypothesis.given(st.dictionaries(hosts, pin_sets(), max_size=5))
@hypothesis.example(
    {"a.b": PinSet(A, expires=datetime(1, 1, 1, tzinfo=timezone.utc))},  # no day before that
)
@hypothesis.example(
    {"a.b": PinSet(A, expires=datetime(999, 1, 1, 1, 1, 1, tzinfo=timezone.utc))},
)
def test_what_is_written_is_read_again(said: dict[str, PinSet]) -> None:
    """Pin sets that are written as lines and read again are the same, first_seen included."""
    text = "".join(f"{line}\n" for host, some in said.items() for line in format_lines(host, some))
    again = read(text)
    assert again == said
    assert [some.first_seen for some in again.values()] == [s.first_seen for s in said.values()]
    for line in text.splitlines():
        assert host_of_line(line) in said


@hypothesis.given(st.dictionaries(hosts, pin_sets(), max_size=5), st.data())
def test_the_slow_reader_agrees_with_the_fast_one(
    said: dict[str, PinSet], data: st.DataObject
) -> None:
    """A line that the fast reader does not take, for its case alone, means the same to the slow."""
    lines = [line for host, some in said.items() for line in format_lines(host, some)]
    odd = [line[:22].upper() + line[22:] if data.draw(st.booleans()) else line for line in lines]
    hypothesis.assume(all(len(host) <= 22 for host in said))
    assert read("\n".join(odd)) == said


@hypothesis.given(
    st.text(st.sampled_from(f"a.b leaf {A} trust=pins #*:-\t\n\r\x0b\xa0\0é0"), max_size=200)
)
def test_any_text_is_read_or_refused(text: str) -> None:
    """Nothing but a PinSyntaxError comes of reading any text, and every host has pins."""
    with contextlib.suppress(PinSyntaxError):
        for entry in read_lines(text, "f").values():
            assert entry.pin_set().positions


def test_odd_seconds_end_pins_no_later() -> None:
    """A fraction of a second is cut off an end, never added to it."""
    end = datetime(2027, 1, 1, 1, 2, 3, 999999, tzinfo=timezone.utc)
    (line,) = format_lines("a.b", PinSet(A, expires=end))
    (again,) = read(line).values()
    assert again.expires == end.replace(microsecond=0)


def test_the_end_of_a_day_is_written_as_that_day() -> None:
    """A set that was given a date, or the moment that it ends, is written with the date."""
    for expires in (date(2027, 6, 30), datetime(2027, 7, 1, tzinfo=timezone(timedelta(0)))):
        (line,) = format_lines("a.b", PinSet(A, expires=expires))
        assert line.endswith(" expires=2027-06-30")


def test_a_pin_set_knows_its_kind_of_after_expiry() -> None:
    """Options that only matter later are written, too."""
    value: Literal["unpin"] = "unpin"
    (line,) = format_lines("a.b", PinSet(A, after_expiry=value))
    assert line.endswith(" after-expiry=unpin")
