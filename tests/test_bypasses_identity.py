"""The bypass table, part two: who the peer is said to be, and what other code does to a context.

One test for each row.  *Identity*: a name that is spelt in another way, that looks like another one
or that is cut short must not lose a host its pins, nor get it those of another, and the name check
is the context's alone to make or to leave.  *Callers*: other code of the same program, in innocence
or not.  What Python lets anybody do to anything (private names, ``object.__setattr__`` on them,
``_ssl._SSLContext._wrap_bio(context, ...)``, another class's method put in place of ours) gets
around pins by its nature; the public ways do not.

Where OpenSSL makes the check, and not this library, the docstring says so, and a control shows that
the same peer connects without the offence.
"""

from __future__ import annotations

import copy
import itertools
import pickle
import re
import socket
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import ClassVar
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import pinsock
from pinsock import (
    HostPins,
    Pin,
    PinError,
    PinFile,
    PinMatch,
    PinMismatchError,
    PinnedContext,
    PinnedObject,
    PinnedSocket,
    PinSet,
    PinSyntaxError,
    TofuStore,
    UnpinnedPeerError,
)
from tests import peers
from tests.certificates import make_chain
from tests.peers import MemoryPeer, Observation, StdlibServer, Transport, converse, shake
from tests.test_rules import (
    CHAIN,
    CLIENT,
    IMPOSTOR,
    WRONG,
    curious_server,
    pin,
    pinned_client,
    pinned_server,
)

HOSTNAME_MISMATCH = 62  # X509_V_ERR_HOSTNAME_MISMATCH

PinsOf = Callable[[dict[str, PinSet], Path], object]


def _file_of(pins: dict[str, PinSet], directory: Path) -> PinFile:
    path = directory / "pins"
    path.write_text("")
    file = PinFile(path, unpinned="allow")
    file.write(pins)
    return file


#: What has pins by host, with hosts without pins allowed: the case in which a name that is not
#: recognised would be an unpinned connection.
BY_HOST: dict[str, PinsOf] = {
    "HostPins": lambda pins, _: HostPins(pins, unpinned="allow"),
    "PinFile": _file_of,
}


@pytest.fixture(params=BY_HOST)
def by_host(request: pytest.FixtureRequest) -> PinsOf:
    """Each way to have pins by host in turn."""
    return BY_HOST[request.param]


def nameless(pins: object, version: ssl.TLSVersion) -> PinnedContext:
    """A client without the name check, so that nothing but its pins can refuse the peer."""
    context = pinned_client(pins, version)
    IMPOSTOR.trust(context)
    context.check_hostname = False
    return context


def approach(
    context: PinnedContext, version: ssl.TLSVersion, name: str | bytes | None = "localhost"
) -> tuple[MemoryPeer, MemoryPeer]:
    """A client in memory that has shaken hands, or not, with a server that asks for everything."""
    ours = MemoryPeer(context, server_hostname=name)  # type: ignore[arg-type]  # bytes too
    theirs = MemoryPeer(curious_server(CHAIN, version), server_side=True)
    shake(ours, theirs)
    return ours, theirs


def refused(seen: peers.Conversation, error: type[Exception]) -> bool:
    """Whether the client refused, with just this, and the server got nothing."""
    return type(seen.client.error) is error and seen.server.peer_gave_nothing


# Identity: the name check ------------------------------------------------------------------------


def _tlsa(chain_pin: str) -> PinSet:
    digest = Pin.parse(chain_pin).digest.hex()
    return PinSet.from_tlsa(f"3 1 1 {digest}")


#: Matching pins of every kind of trust; a CA pin among them, which any host of that CA has.
TRUSTS: dict[str, Callable[[Path], object]] = {
    "ca pin": lambda _: PinSet({"anchor": pin(CHAIN, 2)}),
    "leaf": lambda _: PinSet({"leaf": pin(CHAIN)}),
    "pins": lambda _: PinSet({"leaf": pin(CHAIN)}, trust="pins"),
    "ca pin, trust=pins": lambda _: PinSet({"anchor": pin(CHAIN, 2)}, trust="pins"),
    "no expiry": lambda _: PinSet({"leaf": pin(CHAIN)}, trust="pins", check_expiry=False),
    "report only": lambda _: PinSet(WRONG, enforce=False),
    "DANE-EE": lambda _: _tlsa(pin(CHAIN)),
    "first use": lambda path: TofuStore(path / "known", trust="pins"),
    "callable": lambda _: lambda name: PinSet({"leaf": pin(CHAIN)}, trust="pins"),
    "None": lambda _: None,
}


@pytest.mark.parametrize("trust", TRUSTS)
def test_no_pin_stands_for_the_name(
    transport: Transport, tls_version: ssl.TLSVersion, trust: str, tmp_path: Path
) -> None:
    """Pins of any trust leave the name check on, and off only where the user has put it.

    A CA pin without the name check takes any host of that CA (RFC 7469 section 2.6 checks both).
    OpenSSL checks the name.
    """
    client = pinned_client(TRUSTS[trust](tmp_path), tls_version)
    server = curious_server(CHAIN, tls_version)
    assert client.check_hostname
    elsewhere = converse(transport, client, server, server_hostname="elsewhere.example")
    assert getattr(elsewhere.client.error, "verify_code", None) == HOSTNAME_MISMATCH
    assert elsewhere.server.peer_gave_nothing
    assert client.check_hostname
    client.check_hostname = False
    assert converse(transport, client, server, server_hostname="elsewhere.example").server.data


@pytest.mark.parametrize("trust", TRUSTS)
def test_no_way_to_make_a_context_switches_the_name_check_off(trust: str, tmp_path: Path) -> None:
    """Constructor, default context, plain context taken over: the check is as ssl has it."""
    pins = TRUSTS[trust](tmp_path)
    plain = ssl.create_default_context()
    for context in (
        PinnedContext(pins=pins),  # type: ignore[arg-type]  # anything a row has
        pinsock.create_default_context(pins=pins, cadata=CHAIN.root_pem),  # type: ignore[arg-type]  # as above
        PinnedContext.from_ssl_context(plain, pins=pins),  # type: ignore[arg-type]  # as above
    ):
        assert context.check_hostname
        context.pins = pins  # type: ignore[assignment]  # as above
        assert context.check_hostname
        assert context.verify_mode == ssl.CERT_REQUIRED


@pytest.mark.parametrize("made", ["pins", "context"])
def test_create_connection_checks_the_name_it_was_given(
    tls_version: ssl.TLSVersion, made: str
) -> None:
    """The host of the address is the name, whatever the pins say of the chain."""
    pins = PinSet({"leaf": pin(CHAIN)}, trust="pins")
    context = None if made == "pins" else pinned_client(pins, tls_version)
    given = pins if context is None else None
    with StdlibServer(curious_server(CHAIN, tls_version)) as server:
        with pytest.raises(ssl.SSLCertVerificationError) as caught:
            pinsock.create_connection(
                server.address, 10.0, pins=given, context=context, server_hostname="elsewhere.test"
            )
        assert caught.value.verify_code == HOSTNAME_MISMATCH
        assert server.observation().peer_gave_nothing
        with pinsock.create_connection(server.address, 10.0, pins=given, context=context) as sock:
            sock.sendall(b"ping")
            assert sock.recv(4) == b"ping"
            sock.unwrap().close()
        assert server.observation().data == b"ping"


def test_a_client_that_switches_has_the_name_checked_as_the_new_context_says(
    tls_version: ssl.TLSVersion,
) -> None:
    """check_hostname belongs to the context, and comes along when it is switched."""
    first, second = pinned_client(pin(CHAIN), tls_version), pinned_client(pin(CHAIN), tls_version)
    first.check_hostname = False
    ours = MemoryPeer(first, server_hostname="elsewhere.example")
    ours.obj.context = second
    theirs = MemoryPeer(curious_server(CHAIN, tls_version), server_side=True)
    shake(ours, theirs)
    assert isinstance(ours.record.error, ssl.SSLCertVerificationError)
    assert ours.record.error.verify_code == HOSTNAME_MISMATCH
    assert theirs.observation.peer_gave_nothing


# Identity: the spelling of names -----------------------------------------------------------------

#: Spellings of hosts that have pins, or what a resolver would take for one.
SPELLINGS: list[str | bytes] = [
    # Case and the trailing dot (RFC 4343; RFC 3986 section 3.2.2).
    *("LOCALHOST", "LocalHost", "localhost.", "LOCALHOST.", b"localhost", b"LOCALHOST."),
    # What IDNA 2003, which ssl uses, makes the same name of (RFC 3490 section 3.1, RFC 3491).
    *("\uff4c\uff4f\uff43\uff41\uff4c\uff48\uff4f\uff53\uff54", "localhost\u3002", "local\xadhost"),
    *("localho\u017ft", "\u200blocalhost", "localhost\uff0e", "\u2112ocalhost"),
    # A name of several labels, in A-labels and otherwise.
    *("b\xfccher.example", "B\xdcCHER.EXAMPLE.", "xn--bcher-kva.example", "XN--BCHER-KVA.Example"),
    "bu\u0308cher\uff0eexample",
    # IPv4: what inet_aton takes for 127.0.0.1 (CVE-2021-29921, CVE-2021-28918).
    *("127.0.0.1", "127.1", "127.0.1", "127.0.0.1.", "0x7f.1", "0x7f000001", "0X7F.0.0.1"),
    *("2130706433", "017700000001", "0177.0.0.1", "0177.1", "127.0.0.01", "127.0.0.0x1"),
    *("127.000.000.001", "\uff11\uff12\uff17.0.0.1", "127\u30020.0.1", "127\u20240.0.1"),
    "\u2460\u2461\u2466.1",
    # IPv6: the forms of RFC 5952 section 2, IPv4 in it (RFC 4291 section 2.5.5.2), and scopes
    # (RFC 4007 section 11).
    *("::ffff:127.0.0.1", "::FFFF:7f00:1", "0:0:0:0:0:ffff:7f00:0001", "::ffff:127.0.0.1%lo"),
    *("fe80::1", "FE80:0::1", "fe80::1%lo", "fe80::1%1", "fe80::0001%25eth0"),
    *("fe80:0:0:0:0:0:0.0.0.1", "fe80::1%", "fe80::1%a%b"),
]


@pytest.mark.parametrize("name", SPELLINGS, ids=ascii)
def test_no_spelling_of_a_name_sheds_its_pins(
    tls_version: ssl.TLSVersion, by_host: PinsOf, name: str | bytes, tmp_path: Path
) -> None:
    """A host is found by its pins, or is refused: it is never without any.

    CVE-2021-29921 and its kin are addresses that two parsers read differently.
    """
    hosts = ("localhost", "127.0.0.1", "fe80::1", "b\xfccher.example")
    client = nameless(by_host({host: PinSet(WRONG) for host in hosts}, tmp_path), tls_version)
    try:
        ours, theirs = approach(client, tls_version, name)
    except (ValueError, UnicodeError):
        return  # refused by the wrap, as ssl does
    assert isinstance(ours.record.error, (PinMismatchError, UnpinnedPeerError))
    assert theirs.observation.peer_gave_nothing


#: Names that look like ``localhost`` or like ``paypal.example``, and are others (UTS #39).
LOOK_ALIKES = {
    "l\u043ecalhost": "localhost",  # CYRILLIC SMALL LETTER O
    "loc\u0430lhost": "localhost",  # CYRILLIC SMALL LETTER A
    "l\u03bfcalhost": "localhost",  # GREEK SMALL LETTER OMICRON
    "\u04cfocalhost": "localhost",  # CYRILLIC SMALL LETTER PALOCHKA
    "1ocalhost": "localhost",
    "loca\u0307lhost": "localhost",  # COMBINING DOT ABOVE
    "xn--loclhost-36g": "localhost",
    "p\u0430yp\u0430l.example": "paypal.example",
    "paypal\u0338.example": "paypal.example",
    "\u0440\u0430ypal.example": "paypal.example",
    "paypa1.example": "paypal.example",
    "paypal.ex\u0430mple": "paypal.example",
    "paypal\u00b7example": "paypal.example",  # MIDDLE DOT
    "paypal.example\u2044.evil.example": "paypal.example",  # FRACTION SLASH
    "paypal.example\u0000.evil.example": "paypal.example",
}


@pytest.mark.parametrize("name", LOOK_ALIKES, ids=ascii)
def test_a_look_alike_gets_no_pins_of_the_name_it_looks_like(
    tls_version: ssl.TLSVersion, name: str
) -> None:
    """To match by them it would have to have them, and it has none, in either direction.

    The homograph attack (Gabrilovich and Gontmakher, 2002; RFC 5890 section 4.4).
    """
    real = LOOK_ALIKES[name]
    hosts = {real: PinSet(pin(CHAIN)), f"**.{real}.example": PinSet(pin(CHAIN))}
    client = nameless(hosts, tls_version)
    assert approach(client, tls_version, real)[0].record.completed
    try:
        ours, theirs = approach(client, tls_version, name)
    except (ValueError, TypeError):
        return  # not a name at all: refused by the wrap
    assert isinstance(ours.record.error, UnpinnedPeerError)
    assert theirs.observation.peer_gave_nothing
    try:
        client.pins = {name: PinSet(pin(CHAIN))}  # type: ignore[assignment]  # what the setter takes
    except PinSyntaxError:
        return
    ours, theirs = approach(client, tls_version, real)
    assert isinstance(ours.record.error, UnpinnedPeerError)


def test_a_spelling_is_no_second_first_use(tls_version: ssl.TLSVersion, tmp_path: Path) -> None:
    """A peer met under one spelling is known under each: nobody else gets to be met."""
    store = TofuStore(tmp_path / "known", trust="pins")
    client = nameless(store, tls_version)
    for host in ("localhost", "127.0.0.1", "fe80::1", "b\xfccher.example"):
        assert approach(client, tls_version, host)[0].record.completed
    known = (tmp_path / "known").read_bytes()
    for name in SPELLINGS:
        try:
            ours = MemoryPeer(client, server_hostname=name)  # type: ignore[arg-type]  # bytes too
        except (ValueError, UnicodeError):
            continue
        theirs = MemoryPeer(curious_server(IMPOSTOR, tls_version), server_side=True)
        shake(ours, theirs)
        assert isinstance(ours.record.error, (PinMismatchError, UnpinnedPeerError)), name
        assert theirs.observation.peer_gave_nothing
    assert (tmp_path / "known").read_bytes() == known


# Identity: patterns ------------------------------------------------------------------------------

#: Which hosts a pattern has, and which it has not.
TRICKS: list[tuple[str, list[str], list[str]]] = [
    ("example.com", ["EXAMPLE.com."], ["notexample.com", "a.example.com", "example.com.evil.org"]),
    (
        "*.example.com",
        ["a.example.com", "A.Example.COM.", "b\xfccher.example.com"],
        [
            *("example.com", "a.b.example.com", "notexample.com", "a.notexample.com"),
            *("aexample.com", "a.example.com.notexample.com"),
        ],
    ),
    (
        "**.example.com",
        ["example.com", "example.com.", "a.example.com", "a.b.example.com"],
        ["notexample.com", "a.notexample.com", "example.com.evil.org", "xexample.com", "com"],
    ),
]


@pytest.mark.parametrize(("pattern", "inside", "outside"), TRICKS)
def test_a_suffix_is_no_subdomain(
    tls_version: ssl.TLSVersion,
    by_host: PinsOf,
    pattern: str,
    inside: list[str],
    outside: list[str],
    tmp_path: Path,
) -> None:
    """A label is whole: notexample.com has not the pins of example.com, nor sheds it any.

    CVE-2026-129482: a pattern was compared as a suffix.  OkHttp's issue 3324: it could stand
    anywhere in the name.
    """
    client = nameless(by_host({pattern: PinSet(WRONG)}, tmp_path), tls_version)
    for name in inside:
        ours, theirs = approach(client, tls_version, name)
        assert isinstance(ours.record.error, PinMismatchError), name
        assert theirs.observation.peer_gave_nothing
    for name in outside:
        assert approach(client, tls_version, name)[0].record.completed, name


@pytest.mark.parametrize(
    "pattern",
    [
        *("f*o.example.com", "*o.example.com", "f*.example.com", "a.*.example.com", "example.*"),
        *("*", "**", "*.", "**.", "*.*", "*.com", "**.com", "*.com.", "***.example.com"),
        *("*.*.example.com", "**.*.example.com", "*example.com", "**example.com", "*.127.0.0.1"),
        *("**.0.0.1", "*.0.1", "\uff0a.example.com", "*\u3002example.com", "*..example.com"),
        *(".example.com", "a..example.com", "example.com..", "exa\0mple.com", "example.com\0"),
        *("*.\u0441\u043em", "?.example.com", "[ab].example.com", "*.example.com:443"),
    ],
    ids=ascii,
)
def test_a_pattern_that_is_not_understood_is_refused(pattern: str, tmp_path: Path) -> None:
    """It would match nothing, or too much: a partial wildcard, one in a public suffix, a NUL.

    RFC 6125 section 7.2; RFC 9525 section 6.3 allows the whole leftmost label only.
    """
    with pytest.raises(PinSyntaxError):
        HostPins({pattern: WRONG})
    with pytest.raises(PinSyntaxError):
        PinnedContext(pins={pattern: WRONG})
    path = tmp_path / "pins"
    path.write_text(f"{pattern} any {WRONG}\n", encoding="utf-8")
    with pytest.raises(PinSyntaxError):
        PinFile(path)


_LABELS = st.text("abo-", min_size=1, max_size=3).filter(lambda label: label.strip("-") == label)
_NAMES = st.lists(_LABELS, min_size=2, max_size=4).map(".".join)


@st.composite
def _near(draw: st.DrawFn) -> tuple[str, str]:
    """A pattern, and a host that has to do with it: more in front, less, or something else."""
    base = draw(_NAMES)
    front = draw(st.sampled_from(["", "a", "a.", "a.b.", "-", "o", "b.a"]))
    cut = draw(st.integers(0, 2))
    behind = draw(st.sampled_from(["", "", "", ".", "a", ".a", "o.b"]))
    host = (front + base[cut:] + behind).swapcase() if draw(st.booleans()) else front + base
    return draw(st.sampled_from(["", "*.", "**."])) + base, host


def _oracle(pattern: str, host: str) -> bool:
    """Whether a pattern has a host, by a regular expression over the whole of it."""
    stars, _, base = pattern.rpartition("*.")
    front = {"": "", "*": r"[a-z0-9-]+\."}.get(stars + "*" * ("*." in pattern), r"([a-z0-9-]+\.)*")
    return re.fullmatch(front + re.escape(base) + r"\.?", host.lower()) is not None


@given(_near())
@example(("**.example.com", "notexample.com"))
@example(("*.example.com", ".example.com"))
def test_a_pattern_has_the_hosts_that_a_regular_expression_has(pair: tuple[str, str]) -> None:
    """Patterns are compared by labels; by characters the answer is the same (CVE-2026-129482)."""
    pattern, host = pair
    try:
        found = HostPins({pattern: WRONG}, unpinned="allow")(host)
    except UnpinnedPeerError:
        # No name at all, and so not without pins either.
        assert re.search(r"^[.-]|-\.|\.-|-$|\.\.", host)
    else:
        assert (found is not None) == _oracle(pattern, host)


# Identity: names in certificates -----------------------------------------------------------------

#: Names of certificates, the hosts they are for and some that they are not for.
CERTIFIED: list[tuple[str, list[str], list[str]]] = [
    ("f*o.example.com", [], ["foo.example.com", "fo.example.com"]),
    ("*.example.com", ["a.example.com"], ["a.b.example.com", "example.com", "notexample.com"]),
    ("*.com", [], ["com", "a.b.com"]),
    ("*", [], ["localhost", "example.com"]),
    ("**.example.com", [], ["a.example.com", "example.com"]),
    ("example.com", ["example.com", "EXAMPLE.com"], ["notexample.com", "a.example.com"]),
    (".example.com", [], ["example.com", "a.example.com"]),
    ("xn--*.example.com", [], ["xn--bcher-kva.example.com"]),
    ("127.1", [], ["127.0.0.1"]),
    ("10.0.0.1", ["10.0.0.1"], ["10.0.0.2", "1.10.0.0.1"]),
    ("::1", ["::1", "0:0:0:0:0:0:0:1"], ["::2"]),
]


@pytest.mark.parametrize(("certified", "good", "bad"), CERTIFIED)
def test_a_certificate_is_for_the_hosts_that_ssl_says(
    tls_version: ssl.TLSVersion, certified: str, good: list[str], bad: list[str]
) -> None:
    """A CA pin and a name that is not quite the certificate's: refused, as ssl refuses it.

    OpenSSL alone takes a partial wildcard (RFC 6125 section 6.4.3): the host flags are ours to set.
    """
    chain = make_chain(2, hostnames=(certified,), under=CHAIN.above(2), pool=7)
    client = pinned_client(PinSet({"anchor": pin(CHAIN, 2)}), tls_version)
    plain = peers.client_context(CHAIN, tls_version)
    for name in (*good, *bad):
        outcomes: list[Observation] = []
        for context in (client, plain):
            theirs = MemoryPeer(peers.server_context(chain, tls_version), server_side=True)
            outcomes.append(shake(MemoryPeer(context, server_hostname=name), theirs)[0])
        ours, stdlib = outcomes
        assert ours.handshake_completed is stdlib.handshake_completed is (name in good), name
        assert getattr(ours.error, "verify_code", 0) == getattr(stdlib.error, "verify_code", 0)


NUL = "localhost\0.evil.example"


@pytest.mark.parametrize("where", ["SAN", "CN"])
def test_a_name_does_not_end_at_a_nul(
    transport: Transport, tls_version: ssl.TLSVersion, where: str
) -> None:
    """A CA that certified localhost<NUL>.evil.example has not certified localhost.

    CVE-2009-2408, CVE-2013-4238.  OpenSSL compares the name; that ``getpeercert`` shows the whole
    of it is ours.
    """
    chain = make_chain(
        2,
        hostnames=(NUL,) if where == "SAN" else (),
        common_name=NUL if where == "CN" else None,
        under=CHAIN.above(2),
        pool=7,
    )
    client = pinned_client(PinSet({"anchor": pin(CHAIN, 2)}), tls_version)
    client.hostname_checks_common_name = True
    seen = converse(transport, client, curious_server(chain, tls_version))
    assert getattr(seen.client.error, "verify_code", None) == HOSTNAME_MISMATCH
    assert seen.server.peer_gave_nothing

    client.check_hostname = False
    shown = converse(
        transport,
        client,
        curious_server(chain, tls_version),
        inspect=lambda connection: connection.getpeercert(),
    ).client.inspected
    assert isinstance(shown, dict)
    if where == "SAN":
        assert shown["subjectAltName"] == (("DNS", NUL),)
    else:
        assert (("commonName", NUL),) in shown["subject"]


@pytest.mark.parametrize("name", ["localhost\0", "localhost\0.example", b"localhost\0", "\0"])
def test_no_connection_is_made_to_a_name_with_a_nul(
    transport: Transport, tls_version: ssl.TLSVersion, name: str | bytes
) -> None:
    """What was asked for is not cut short either (CVE-2013-4238): nothing is sent."""
    for context in (nameless(None, tls_version), pinned_client(pin(CHAIN), tls_version)):
        if transport == "bio":
            with pytest.raises((ValueError, TypeError)):
                context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=name)
            continue
        left, right = socket.socketpair()
        with left, right, pytest.raises((ValueError, TypeError)):
            context.wrap_socket(left, server_hostname=name)
    for host in (NUL, "*." + NUL):
        with pytest.raises(PinSyntaxError):
            HostPins({host: WRONG})


@pytest.mark.parametrize("counts", [True, False])
@pytest.mark.parametrize("hostnames", [(), ("elsewhere.example",)], ids=["no SAN", "another SAN"])
def test_a_common_name_counts_where_ssl_counts_it(
    transport: Transport,
    tls_version: ssl.TLSVersion,
    counts: bool,
    hostnames: tuple[str, ...],
) -> None:
    """A CN without a SAN is a name if ``hostname_checks_common_name`` says so; beside one, never.

    RFC 6125 section 6.4.4, RFC 9525 section 2.  OpenSSL compares; the switch is ours to pass on.
    """
    chain = make_chain(
        2, hostnames=hostnames, common_name="localhost", under=CHAIN.above(2), pool=7
    )
    good = counts and not hostnames
    plain = peers.client_context(CHAIN, tls_version)
    client = pinned_client(PinSet({"anchor": pin(CHAIN, 2)}), tls_version)
    for context in (plain, client):
        context.hostname_checks_common_name = counts
        seen = converse(transport, context, curious_server(chain, tls_version))
        assert seen.client.handshake_completed is good
        assert getattr(seen.client.error, "verify_code", HOSTNAME_MISMATCH) == HOSTNAME_MISMATCH
    assert seen.server.peer_gave_nothing is not good


# Callers: settings changed by other code ---------------------------------------------------------


def _verify_none(context: ssl.SSLContext) -> None:
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE


def _verify_none_of_ssl(context: ssl.SSLContext) -> None:
    context.check_hostname = False
    vars(ssl.SSLContext)["verify_mode"].fset(context, ssl.CERT_NONE)


def _verify_none_of_object(context: ssl.SSLContext) -> None:
    object.__setattr__(context, "check_hostname", False)
    object.__setattr__(context, "verify_mode", ssl.CERT_NONE)


def _verify_optional(context: ssl.SSLContext) -> None:
    context.verify_mode = ssl.CERT_OPTIONAL


def _no_name_check(context: ssl.SSLContext) -> None:
    context.check_hostname = False


def _plain_classes(context: ssl.SSLContext) -> None:
    context.sslsocket_class = ssl.SSLSocket
    context.sslobject_class = ssl.SSLObject


def _ssl_init(context: ssl.SSLContext) -> None:
    ssl.SSLContext.__init__(context)


def _every_cipher(context: ssl.SSLContext) -> None:
    context.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")


def _other_class(context: ssl.SSLContext) -> None:
    with pytest.raises(TypeError, match="__class__"):
        context.__class__ = ssl.SSLContext


CHANGES = [
    _verify_none,
    _verify_none_of_ssl,
    _verify_none_of_object,
    _verify_optional,
    _no_name_check,
    _plain_classes,
    _ssl_init,
    _every_cipher,
    _other_class,
]
_UNVERIFIED = (_verify_none, _verify_none_of_ssl, _verify_none_of_object)
each_change = pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__[1:])


@each_change
@pytest.mark.parametrize("side", ["client", "server"])
def test_what_other_code_sets_before_a_connection_sheds_no_pins(
    transport: Transport,
    tls_version: ssl.TLSVersion,
    side: str,
    change: Callable[[ssl.SSLContext], None],
) -> None:
    """Libraries set these on the context that they are given (urllib3, requests, aiohttp)."""
    if side == "client":
        pinned = client = pinned_client(WRONG, tls_version)
        server = curious_server(CHAIN, tls_version)
    else:
        client = peers.client_context(CHAIN, tls_version, identity=CLIENT)  # type: ignore[assignment]  # either
        pinned = server = pinned_server(WRONG, tls_version)  # type: ignore[assignment]  # either
    change(pinned)
    if change in _UNVERIFIED:
        with pytest.raises(ValueError, match='trust="pins"'):
            pinned.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), side == "server")
        return
    seen = converse(transport, client, server)
    error = (seen.client if side == "client" else seen.server).error
    assert isinstance(error, PinMismatchError)
    assert not seen.server.data
    assert not seen.client.data


@each_change
def test_what_other_code_sets_between_wrap_and_handshake_changes_nothing(
    tls_version: ssl.TLSVersion, change: Callable[[ssl.SSLContext], None]
) -> None:
    """The connection keeps the verification that it was made with, and the pins of its beginning.

    For the name check as well: the right pins do not help under another name.
    """
    client = pinned_client(WRONG, tls_version)
    ours = MemoryPeer(client, server_hostname="localhost")
    right = MemoryPeer(client, server_hostname="elsewhere.example")
    change(client)
    theirs = MemoryPeer(curious_server(CHAIN, tls_version), server_side=True)
    shake(ours, theirs)
    assert isinstance(ours.record.error, PinMismatchError)
    assert theirs.observation.peer_gave_nothing
    client.pins = PinSet(pin(CHAIN))
    shake(right, MemoryPeer(curious_server(CHAIN, tls_version), server_side=True))
    assert getattr(right.record.error, "verify_code", None) == HOSTNAME_MISMATCH


@each_change
def test_what_other_code_sets_between_connections_sheds_no_pins(
    tls_version: ssl.TLSVersion, change: Callable[[ssl.SSLContext], None]
) -> None:
    """What was compiled for one connection is not what the next one is judged by."""
    client = pinned_client(PinSet(pin(CHAIN)), tls_version)
    assert approach(client, tls_version)[0].record.completed
    change(client)
    client.pins = PinSet(WRONG)
    try:
        ours, theirs = approach(client, tls_version)
    except ValueError:
        assert change in _UNVERIFIED
    else:
        assert isinstance(ours.record.error, PinMismatchError)
        assert theirs.observation.peer_gave_nothing


RUBBISH: list[object] = [
    *(True, False, 0, 1, 1.0, b"sha256/", "", "*", "any", [], (), set(), {}, [None], [True]),
    *([b""], {"localhost": None}, {"localhost": []}, {"localhost": True}, {"leaf": WRONG}),
    *({None: WRONG}, object(), ssl, mock.NonCallableMock(spec=PinSet), mock.NonCallableMagicMock()),
]


@pytest.mark.parametrize("pins", RUBBISH, ids=lambda pins: type(pins).__name__)
def test_rubbish_for_pins_is_refused_or_refuses(tls_version: ssl.TLSVersion, pins: object) -> None:
    """No value but None, said explicitly, is "no pinning"; what is refused leaves the old pins."""
    client = pinned_client(PinSet(WRONG), tls_version)
    try:
        client.pins = pins  # type: ignore[assignment]  # that is it
    except (TypeError, ValueError):
        assert client.pins == PinSet(WRONG)
        with pytest.raises((TypeError, ValueError)):
            client.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), pins=pins)  # type: ignore[arg-type]  # as above
    ours, theirs = approach(client, tls_version)
    assert isinstance(ours.record.error, PinError)
    assert theirs.observation.peer_gave_nothing
    with pytest.raises(AttributeError):
        del client.pins


# Callers: ways around the method -----------------------------------------------------------------


class Unbound(PinnedContext):
    """As one calls ``ssl.SSLContext.wrap_socket(context, ...)``."""

    wrap_socket = ssl.SSLContext.wrap_socket
    wrap_bio = ssl.SSLContext.wrap_bio


class Slotted(PinnedContext):
    """With an instance layout of its own."""

    __slots__ = ("mine",)


class Masked(PinnedContext):
    """With properties that have something else to say."""

    pins = property(lambda self: None)  # type: ignore[assignment]  # that is it
    verify_mode = property(lambda self: ssl.CERT_OPTIONAL, lambda self, mode: None)  # type: ignore[assignment]  # as above
    verify_flags = property(lambda self: ssl.VERIFY_DEFAULT, lambda self, flags: None)  # type: ignore[assignment]  # as above


class Relaxed(PinnedContext):
    """With a verify_mode that has nothing verified, and says something else."""

    @property  # type: ignore[override]  # as above
    def verify_mode(self) -> ssl.VerifyMode:
        return ssl.CERT_REQUIRED

    @verify_mode.setter
    def verify_mode(self, mode: ssl.VerifyMode) -> None:
        self.check_hostname = False
        vars(ssl.SSLContext)["verify_mode"].fset(self, ssl.CERT_NONE)


class Inherited(ssl.SSLContext):
    """Another library's subclass of ssl.SSLContext, that overrides what makes connections."""

    def wrap_socket(self, *args: object, **kwargs: object) -> ssl.SSLSocket:
        return super().wrap_socket(*args, **kwargs)  # type: ignore[arg-type]  # whatever it is

    def wrap_bio(self, *args: object, **kwargs: object) -> ssl.SSLObject:
        return super().wrap_bio(*args, **kwargs)  # type: ignore[arg-type]  # whatever it is

    def __getattr__(self, name: str) -> object:
        raise AttributeError(name)


class Mixed(Inherited, PinnedContext):  # type: ignore[misc]  # the overrides are not ours
    """Both: whose methods come first does not matter."""


@pytest.mark.parametrize("cls", [Unbound, Slotted, Masked, Mixed])
def test_no_subclass_of_the_context_sheds_pins_by_accident(
    transport: Transport, tls_version: ssl.TLSVersion, cls: type[PinnedContext]
) -> None:
    """Pins are those that the constructor was given, whatever public names are overridden.

    Among them unbound methods: ``ssl.SSLContext.wrap_bio(context, ...)`` makes a pinned object.
    """
    for pins, good in ((WRONG, False), (pin(CHAIN), True)):
        client = cls(pins=pins)
        peers.fix_version(client, tls_version)
        CHAIN.trust(client)
        CLIENT.configure(client)
        server = curious_server(CHAIN, tls_version)
        inspected = converse(
            transport, client, server, inspect=lambda made: type(made).__mro__
        )
        if good:
            ours = inspected.client.inspected
            assert isinstance(ours, tuple)
            assert (PinnedSocket if transport == "socket" else PinnedObject) in ours
        else:
            assert refused(inspected, PinMismatchError)


def test_what_a_subclass_says_of_its_verify_mode_counts_for_nothing() -> None:
    """One that has nothing verified is refused, whatever its property gives."""
    context = Relaxed(pins=pin(CHAIN))
    assert context.verify_mode == ssl.CERT_REQUIRED
    with pytest.raises(ValueError, match="CERT_NONE on a context with pins"):
        MemoryPeer(context, server_hostname="localhost")


def test_a_subclass_that_was_not_initialised_makes_no_connection() -> None:
    """One that forgets ``super().__init__`` has no pins, which is not the same as None."""

    class Forgetful(PinnedContext):
        def __init__(self) -> None:
            pass

    context = Forgetful()
    with pytest.raises(AttributeError, match="_source"):
        context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost")
    left, right = socket.socketpair()
    with left, right, pytest.raises(AttributeError):
        context.wrap_socket(left, server_hostname="localhost")


class SlottedSocket(ssl.SSLSocket):
    """With a layout and a method of its own."""

    __slots__ = ("mine",)

    def do_handshake(self, block: bool = False) -> None:
        super().do_handshake(block)


class SlottedObject(ssl.SSLObject):
    """Likewise."""

    __slots__ = ("mine",)

    def do_handshake(self) -> None:
        super().do_handshake()


class TwiceSocket(ssl.SSLSocket):
    """One that makes an instance on the way."""

    def __new__(cls, *args: object, **kwargs: object) -> TwiceSocket:  # type: ignore[misc]  # it is Self
        super().__new__(cls, *args, **kwargs)
        return super().__new__(cls, *args, **kwargs)


class TwiceObject(ssl.SSLObject):
    """Likewise."""

    def __new__(cls, *args: object, **kwargs: object) -> TwiceObject:  # type: ignore[misc]  # it is Self
        super().__new__(cls)
        return super().__new__(cls)


@pytest.mark.parametrize("given", ["context", "wrap"])
@pytest.mark.parametrize(
    ("sockets", "objects"),
    [
        (ssl.SSLSocket, ssl.SSLObject),
        (SlottedSocket, SlottedObject),
        (TwiceSocket, TwiceObject),
    ],
    ids=["ssl's", "slotted", "twice"],
)
def test_a_foreign_class_of_connections_is_pinned_too(
    transport: Transport,
    tls_version: ssl.TLSVersion,
    sockets: type[ssl.SSLSocket],
    objects: type[ssl.SSLObject],
    given: str,
) -> None:
    """What the user has named is mixed with ours, and a wrap's pins reach the right instance."""
    client = pinned_client(WRONG if given == "context" else None, tls_version)
    client.sslsocket_class = sockets  # type: ignore[assignment]  # that is it
    client.sslobject_class = objects  # type: ignore[assignment]  # as above
    options = {} if given == "context" else {"pins": WRONG}
    if transport == "bio":
        with mock.patch.object(
            client, "wrap_bio", lambda *a, **k: PinnedContext.wrap_bio(client, *a, **k, **options)
        ):
            ours, theirs = approach(client, tls_version)
        assert isinstance(ours.obj, objects)
        assert isinstance(ours.record.error, PinMismatchError)
        assert theirs.observation.peer_gave_nothing
        return
    with StdlibServer(curious_server(CHAIN, tls_version)) as server, server.connect() as plain:
        with client.wrap_socket(
            plain, server_hostname="localhost", do_handshake_on_connect=False, **options  # type: ignore[arg-type]  # pins, or nothing
        ) as sock:
            assert isinstance(sock, sockets)
            with pytest.raises(PinMismatchError):
                sock.do_handshake()
        seen = server.observation()
    assert seen.alert == "bad_certificate"
    assert seen.peer_gave_nothing


def test_an_unbound_method_does_not_bring_in_a_foreign_class() -> None:
    """ssl.SSLContext.wrap_socket makes what the class says; the hook refuses it."""
    context = PinnedContext(pins=WRONG)
    context.sslsocket_class = ssl.SSLSocket  # type: ignore[assignment]  # that is it
    left, right = socket.socketpair()
    with right, pytest.raises(TypeError, match="wraps a PinnedSocket") as caught:
        ssl.SSLContext.wrap_socket(context, left, server_hostname="localhost")
    # CPython 3.10 to 3.12 leave it open for an error that is no OSError.
    for entry in caught.traceback:
        made = entry.frame.f_locals.get("self")
        if isinstance(made, ssl.SSLSocket):
            made.close()


@pytest.mark.parametrize("other", ["ssl", "mock"])
@pytest.mark.parametrize("state", ["unconnected", "listening", "wrapped", "object", "begun"])
def test_no_other_context_takes_a_connection_over(
    tls_version: ssl.TLSVersion, state: str, other: str
) -> None:
    """``sock.context = plain`` is refused, in whatever state, and changes nothing.

    ssl.py's own setter keeps the context before it finds that there is nobody to tell.
    """
    plain: ssl.SSLContext = mock.MagicMock()
    if other == "ssl":
        plain = peers.client_context(CHAIN, tls_version)
        if state == "listening":
            plain = peers.server_context(CHAIN, tls_version)
    client = pinned_client(WRONG, tls_version)
    if state in ("object", "begun"):
        ours = MemoryPeer(client, server_hostname="localhost")
        if state == "begun":
            ours.step()
        with pytest.raises(TypeError, match="must be a PinnedContext"):
            ours.obj.context = plain
        shake(ours, MemoryPeer(curious_server(CHAIN, tls_version), server_side=True))
        assert isinstance(ours.record.error, PinMismatchError)
        return
    if state == "listening":
        pinning = pinned_server(WRONG, tls_version)
        with socket.create_server(("127.0.0.1", 0)) as raw, ThreadPoolExecutor(1) as pool:
            with pinning.wrap_socket(
                raw, server_side=True, do_handshake_on_connect=False
            ) as listener:
                with pytest.raises(TypeError, match="must be a PinnedContext"):
                    listener.context = plain
                seen = pool.submit(
                    peers.stdlib_client,
                    listener.getsockname(),
                    peers.client_context(CHAIN, tls_version, identity=CLIENT),
                )
                listener.settimeout(peers.TIMEOUT)
                accepted, _ = listener.accept()
                with accepted:
                    accepted.settimeout(peers.TIMEOUT)
                    with pytest.raises(PinMismatchError):
                        accepted.do_handshake()
                assert not seen.result().data
        return
    with StdlibServer(curious_server(CHAIN, tls_version)) as server:
        raw = socket.socket() if state == "unconnected" else server.connect()
        with raw, client.wrap_socket(
            raw, server_hostname="localhost", do_handshake_on_connect=False
        ) as sock:
            with pytest.raises(TypeError, match="must be a PinnedContext"):
                sock.context = plain
            assert sock.context is client
            sock.settimeout(peers.TIMEOUT)
            if state == "unconnected":
                sock.connect(server.address)
            with pytest.raises(PinMismatchError):
                sock.do_handshake()
        assert server.observation().peer_gave_nothing


def test_another_pinned_context_takes_over_before_the_connection(
    tls_version: ssl.TLSVersion,
) -> None:
    """The control: one that knows of pins is taken, and its pins are what counts."""
    other = pinned_client(WRONG, tls_version)
    with StdlibServer(curious_server(CHAIN, tls_version)) as server, socket.socket() as raw:
        raw.settimeout(peers.TIMEOUT)
        with pinned_client(pin(CHAIN), tls_version).wrap_socket(
            raw, server_hostname="localhost"
        ) as sock:
            sock.context = other
            with pytest.raises(PinMismatchError):
                sock.connect(server.address)
        assert server.observation().peer_gave_nothing


# Callers: copies ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "duplicate",
    [
        copy.copy,
        copy.deepcopy,
        *(
            lambda value, protocol=protocol: pickle.loads(pickle.dumps(value, protocol))
            for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
        ),
    ],
    ids=["copy", "deepcopy", *map(str, range(pickle.HIGHEST_PROTOCOL + 1))],
)
def test_there_is_no_copy_without_pins(
    tls_version: ssl.TLSVersion, duplicate: Callable[[object], object]
) -> None:
    """Contexts and connections cannot be copied, as with ssl; pins can, and stay what they are.

    CPython refuses to copy what has state in C; that pins can be copied is the control.
    """
    client = pinned_client(WRONG, tls_version)
    left, right = socket.socketpair()
    with right, client.wrap_socket(
        left, server_hostname="localhost", do_handshake_on_connect=False
    ) as sock:
        for each in (client, sock, Slotted(pins=WRONG)):
            with pytest.raises((TypeError, pickle.PicklingError)):
                duplicate(each)
        with pytest.raises(NotImplementedError):
            sock.dup()
    pins = HostPins({"localhost": WRONG})
    for whole in (PinSet(WRONG), pins):
        client.pins = duplicate(whole)  # type: ignore[assignment]  # what the setter takes
        assert client.pins == whole
        ours, theirs = approach(client, tls_version)
        assert isinstance(ours.record.error, PinMismatchError)
        assert theirs.observation.peer_gave_nothing


def test_a_shallow_copy_of_an_object_is_the_same_connection(tls_version: ssl.TLSVersion) -> None:
    """``ssl.SSLObject`` is plain Python, and ``copy`` takes it: the engine is one."""
    ours = MemoryPeer(pinned_client(WRONG, tls_version), server_hostname="localhost")
    ours.obj = copy.copy(ours.obj)
    theirs = MemoryPeer(curious_server(CHAIN, tls_version), server_side=True)
    shake(ours, theirs)
    assert isinstance(ours.record.error, PinMismatchError)
    assert theirs.observation.peer_gave_nothing


# Callers: what they are asked --------------------------------------------------------------------


class Interrupt(BaseException):
    """As a framework has one of its own."""


RAISED: list[BaseException] = [
    *(SystemExit(0), KeyboardInterrupt(), GeneratorExit(), Interrupt(), StopIteration()),
    *(StopAsyncIteration(), RuntimeError(), MemoryError(), RecursionError(), AttributeError()),
    *(OSError(), TimeoutError(), BlockingIOError(), InterruptedError(), EOFError()),
    *(ssl.SSLWantReadError(), ssl.SSLWantWriteError(), ssl.SSLEOFError(), ssl.SSLError()),
    *(PinError("of the source"), UnicodeError(), LookupError(), Warning(), Exception()),
]
each_raised = pytest.mark.parametrize("raised", RAISED, ids=lambda raised: type(raised).__name__)


@each_raised
def test_a_pin_source_that_raises_refuses(raised: BaseException) -> None:
    """Whatever it is, each try ends with it, and nothing is sent.

    Not even "want read", which to asyncio would mean that the handshake is under way.
    """

    def source(_name: str | None) -> PinSet:
        raise raised

    client = pinned_client(source, ssl.TLSVersion.TLSv1_3)
    ours = MemoryPeer(client, server_hostname="localhost")
    expected = PinError if isinstance(raised, Exception) else type(raised)
    said = type(raised).__name__ if expected is PinError and type(raised) is not PinError else None
    for use in (
        ours.obj.do_handshake,
        ours.obj.do_handshake,
        lambda: ours.obj.read(1),
        lambda: ours.obj.write(b"SECRET"),
    ):
        with pytest.raises(expected, match=said):
            use()
    assert not ours.outgoing.pending
    left, right = socket.socketpair()
    with left, right:
        with client.wrap_socket(
            left, server_hostname="localhost", do_handshake_on_connect=False
        ) as sock, pytest.raises(expected):
            sock.do_handshake()
        assert right.recv(1) == b""


@each_raised
def test_a_report_callback_that_raises_saves_nobody(
    tls_version: ssl.TLSVersion, raised: BaseException
) -> None:
    """The refusal stands: what it raised is logged or goes on up, and the mismatch comes again."""
    client = pinned_client(WRONG, tls_version)

    def callback(_report: object) -> None:
        raise raised

    client.report_callback = callback
    ours = MemoryPeer(client, server_hostname="localhost")
    theirs = MemoryPeer(curious_server(CHAIN, tls_version), server_side=True)
    if isinstance(raised, Exception):
        shake(ours, theirs)
    else:
        with pytest.raises(type(raised)):
            shake(ours, theirs)
        ours.flush(theirs)
        theirs.step()
    for use in (
        ours.obj.do_handshake,
        lambda: ours.obj.read(1),
        lambda: ours.obj.write(b"SECRET"),
    ):
        with pytest.raises(PinMismatchError):
            use()
    assert theirs.observation.alert == "bad_certificate"
    assert theirs.observation.peer_gave_nothing


@each_raised
def test_a_servername_callback_that_raises_lets_nobody_in(
    tls_version: ssl.TLSVersion, raised: BaseException, unraisable: list[BaseException]
) -> None:
    """The handshake is refused, also for a client that the pins would have let in."""
    server = pinned_server(pin(CLIENT), tls_version)

    def callback(*_: object) -> None:
        raise raised

    server.sni_callback = callback
    theirs = MemoryPeer(server, server_side=True)
    ours = MemoryPeer(
        peers.client_context(CHAIN, tls_version, identity=CLIENT), server_hostname="localhost"
    )
    if isinstance(raised, Exception):
        shake(ours, theirs)
        assert unraisable == [raised]
    else:
        with pytest.raises(type(raised)):
            shake(ours, theirs)
    assert not theirs.record.completed
    for use in (
        theirs.obj.do_handshake,
        lambda: theirs.obj.read(1),
        lambda: theirs.obj.write(b"SECRET"),
    ):
        with pytest.raises(ssl.SSLError):
            use()
    assert not ours.record.completed


class Yes(PinSet):
    """Says yes, and no more."""

    def match(self, chain: object) -> PinMatch:
        return True  # type: ignore[return-value]  # that is it


class Impostor:
    """Says that it is a PinSet, that has come to its end, after which nobody is pinned."""

    __class__ = PinSet  # type: ignore[assignment]  # that is it
    expires = datetime(2020, 1, 1, tzinfo=timezone.utc)
    after_expiry = "anything"
    positions: ClassVar[dict[str, object]] = {}

    def expired(self, _now: object) -> bool:
        return True

    def __getattr__(self, name: str) -> object:
        return True


ANSWERS: dict[str, object] = {
    "True": True,
    "False": False,
    "0": 0,
    "text": pin(CHAIN),
    "empty": "",
    "bytes": b"",
    "Pin": Pin.parse(pin(CHAIN)),
    "list": [pin(CHAIN)],
    "empty list": [],
    "mapping": {"leaf": pin(CHAIN)},
    "HostPins": HostPins({"localhost": pin(CHAIN)}),
    "class": PinSet,
    "match": PinMatch(0, Pin.parse(pin(CHAIN)), "leaf"),
    "NotImplemented": NotImplemented,
    "Mock": mock.Mock(),
    "MagicMock": mock.MagicMock(),
    "a mock of a PinSet": mock.MagicMock(spec=PinSet),
    "a mock with a PinSet behind it": mock.MagicMock(wraps=PinSet(pin(CHAIN)), spec=PinSet),
    "an autospec": mock.create_autospec(PinSet, instance=True),
    "impostor": Impostor(),
    "yes": Yes(WRONG),
    "yes, report only": Yes(WRONG, trust="pins", enforce=False),
    "generator": (each for each in [PinSet(pin(CHAIN))]),
    "function": lambda name: PinSet(pin(CHAIN)),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_pin_source_that_answers_rubbish_refuses(
    transport: Transport, tls_version: ssl.TLSVersion, answer: str
) -> None:
    """A PinSet or None, and nothing that calls itself so or is merely true or false.

    ``isinstance`` believes ``__class__``, and every attribute of a mock is true.
    """
    client = pinned_client(lambda name: ANSWERS[answer], tls_version)
    IMPOSTOR.trust(client)
    seen = converse(transport, client, curious_server(IMPOSTOR, tls_version))
    if answer == "yes, report only":  # which refuses nobody, and matches nothing
        assert seen.client.handshake_completed
        return
    assert isinstance(seen.client.error, PinError)
    assert not seen.client.handshake_completed
    assert not seen.server.handshake_completed
    assert not seen.server.data


# Callers: time and threads -----------------------------------------------------------------------


@pytest.mark.parametrize("what", ["source", "report_callback"])
def test_what_blocks_holds_up_its_own_connection(
    tls_version: ssl.TLSVersion, what: str
) -> None:
    """Others of the same context go on meanwhile; no timeout of the socket ends the wait.

    What a program does in a callback is its own time: a pin source that asks the network needs a
    timeout of its own.
    """
    blocked, release = threading.Event(), threading.Event()

    def block(*_: object) -> None:
        if not blocked.is_set():
            blocked.set()
            assert release.wait(peers.TIMEOUT)

    def source(_name: str | None) -> PinSet:
        if what == "source":
            block()
        return PinSet(WRONG)

    client = pinned_client(source, tls_version)
    client.report_callback = block if what == "report_callback" else None
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(approach, client, tls_version)
        try:
            assert blocked.wait(peers.TIMEOUT)
            for _ in range(3):
                ours, theirs = approach(client, tls_version)
                assert isinstance(ours.record.error, PinMismatchError)
                assert theirs.observation.peer_gave_nothing
            client.pins = PinSet(pin(CHAIN))
            assert approach(client, tls_version)[0].record.completed
            assert not first.done()
        finally:
            release.set()
        ours, theirs = first.result()
    assert isinstance(ours.record.error, PinMismatchError)
    assert theirs.observation.peer_gave_nothing


def test_a_thread_that_changes_pins_all_the_time(tls_version: ssl.TLSVersion) -> None:
    """Each of many handshakes is judged by one version of the pins, whole."""
    good = PinSet({"leaf": pin(CHAIN), 1: pin(CHAIN, 1), "anchor": pin(CHAIN, 2)})
    other = Pin("spki", "sha256", bytes([1]) * 32)
    bad = PinSet({"leaf": WRONG, 1: WRONG, "anchor": other})
    context = pinned_client(good, tls_version)
    over = threading.Event()

    def swap() -> None:
        for pins in itertools.cycle([bad, good]):
            context.pins = pins
            if over.is_set():
                return

    def visit(_number: int) -> object:
        ours, theirs = approach(context, tls_version)
        error = ours.record.error
        if isinstance(error, PinMismatchError):
            assert theirs.observation.peer_gave_nothing
            return error.expected
        assert error is None
        return ours.obj.pin_match  # type: ignore[attr-defined]  # ours

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        with ThreadPoolExecutor(4) as pool:
            seen = list(pool.map(visit, range(100)))
    finally:
        over.set()
        thread.join(10)
    accepted = good.match(CHAIN.ders)
    refusal = {"leaf": (str(WRONG),), 1: (str(WRONG),), "anchor": (str(other),)}
    assert all(each in (accepted, refusal) for each in seen)
