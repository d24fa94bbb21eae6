"""What is told of pins: reports of mismatches and expired pins, and warnings before the end."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import pickle
import re
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import cast

import pytest

from pinsock import (
    Pin,
    PinError,
    PinExpiredError,
    PinMismatchError,
    PinnedContext,
    PinnedSocket,
    PinReport,
    PinSet,
    TofuStore,
    _reports,
)
from pinsock._reports import Reporter, make_report
from tests import certificates, peers
from tests.certificates import make_chain
from tests.peers import MemoryPeer, Transport, converse, exchange, shake

CHAIN = make_chain(3, pool=1)
OTHER = make_chain(3, pool=2)
CLIENT = make_chain(2, purpose="client", pool=3)
WRONG = Pin("spki", "sha256", bytes(32))
RIGHT = certificates.spki_pin(CHAIN.leaf)
PAST = datetime(2020, 1, 1, tzinfo=timezone.utc)
NOW = datetime(2030, 1, 1, 12, tzinfo=timezone.utc)


def client(
    pins: object, version: ssl.TLSVersion, reports: list[PinReport] | None = None
) -> PinnedContext:
    context = PinnedContext(pins=pins)  # type: ignore[arg-type]  # anything a test comes up with
    peers.fix_version(context, version)
    CHAIN.trust(context)
    if reports is not None:
        context.report_callback = reports.append
    return context


def ders(chain: tuple[str, ...]) -> list[bytes]:
    return [ssl.PEM_cert_to_DER_cert(certificate) for certificate in chain]


# Mismatches --------------------------------------------------------------------------------------


def test_a_refusal_is_reported(transport: Transport, tls_version: ssl.TLSVersion) -> None:
    """The report tells when, who, what was presented and what was expected."""
    reports: list[PinReport] = []
    pins = PinSet({"leaf": WRONG, 1: [WRONG, RIGHT]}, expires=date(9999, 12, 30))
    context = client(pins, tls_version, reports)
    before = datetime.now(timezone.utc)
    seen = converse(transport, context, peers.server_context(CHAIN, tls_version))
    assert isinstance(seen.client.error, PinMismatchError)
    (report,) = reports
    assert before <= report.time <= datetime.now(timezone.utc)
    assert report.reason == "mismatch"
    assert report.enforced
    assert report.side == "client"
    assert report.host == "localhost"
    assert ders(report.verified_chain) == list(CHAIN.ders)
    assert ders(report.unverified_chain) == list(CHAIN.ders[:2])
    assert report.pins == pins.positions
    assert report.expires == pins.expires
    if transport == "socket":
        assert report.address is not None
        assert report.address[0] == "127.0.0.1"
    else:
        assert report.address is None
    assert pickle.loads(pickle.dumps(report)) == report


def test_report_only_is_reported_too(
    transport: Transport, tls_version: ssl.TLSVersion, caplog: pytest.LogCaptureFixture
) -> None:
    """The connection goes on, and the report says so; the log has the details."""
    reports: list[PinReport] = []
    context = client(PinSet(WRONG, enforce=False), tls_version, reports)
    seen = converse(transport, context, peers.server_context(CHAIN, tls_version))
    assert seen.client.data == b"ping"
    (report,) = reports
    assert not report.enforced
    assert report.reason == "mismatch"
    assert ders(report.verified_chain) == list(CHAIN.ders)
    (record,) = caplog.records
    assert record.getMessage().startswith("report only: ")
    assert RIGHT in record.getMessage()


@pytest.mark.parametrize("after", ["reject", "unpin"])
def test_expired_pins_are_reported(
    transport: Transport, tls_version: ssl.TLSVersion, caplog: pytest.LogCaptureFixture, after: str
) -> None:
    """Whether they refuse or let pass; there is no chain in the report, as there was none."""
    reports: list[PinReport] = []
    pins = PinSet(WRONG, expires=PAST, after_expiry=after)  # type: ignore[arg-type]  # a literal
    context = client(pins, tls_version, reports)
    seen = converse(transport, context, peers.server_context(CHAIN, tls_version))
    assert isinstance(seen.client.error, PinExpiredError) == (after == "reject")
    (report,) = reports
    assert report.reason == "expired"
    assert report.enforced == (after == "reject")
    assert report.verified_chain == report.unverified_chain == ()
    assert report.pins == {"any": (WRONG,)}
    assert report.expires == PAST
    (record,) = caplog.records
    assert "expired at 2020-01-01 00:00 UTC" in record.getMessage()
    assert ("unpinned" in record.getMessage()) == (after == "unpin")


def test_a_server_reports_its_clients(
    transport: Transport, tls_version: ssl.TLSVersion, caplog: pytest.LogCaptureFixture
) -> None:
    """The report of a server has no host; the log has one line for the refusal."""
    reports: list[PinReport] = []
    context = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=PinSet({"leaf": WRONG}))
    peers.fix_version(context, tls_version)
    CHAIN.configure(context)
    CLIENT.trust(context)
    context.report_callback = reports.append
    visitor = peers.client_context(CHAIN, tls_version, identity=CLIENT)
    seen = converse(transport, visitor, context)
    assert isinstance(seen.server.error, PinMismatchError)
    (report,) = reports
    assert report.side == "server"
    assert report.host is None
    assert ders(report.verified_chain) == list(CLIENT.ders)
    assert report.unverified_chain == ()  # OpenSSL keeps nothing of a client that is refused
    (record,) = caplog.records
    assert record.name == "pinsock"
    assert record.levelno == logging.WARNING
    said = "refused: the certificate chain of the client does not match its pins"
    assert record.getMessage() == said


@pytest.mark.parametrize("enforce", [True, False])
def test_what_comes_after_the_handshake_is_reported(enforce: bool) -> None:
    """A client that shows its certificate late is reported when that has been judged, once."""
    reports: list[PinReport] = []
    context = PinnedContext(
        ssl.PROTOCOL_TLS_SERVER, pins=PinSet({"leaf": WRONG}, enforce=enforce)
    )
    context.post_handshake_auth = True
    CHAIN.configure(context)
    CLIENT.trust(context)
    context.report_callback = reports.append
    visitor = peers.client_context(CHAIN, ssl.TLSVersion.TLSv1_3, identity=CLIENT)
    visitor.post_handshake_auth = True
    near = MemoryPeer(context, server_side=True)
    far = MemoryPeer(visitor, server_hostname="localhost")
    shake(far, near)
    assert reports == []
    near.obj.verify_client_post_handshake()
    exchange(near, far, b"who are you?")
    assert exchange(far, near, b"data") == (b"" if enforce else b"data")
    assert isinstance(near.record.error, PinMismatchError) == enforce
    (report,) = reports
    assert report.enforced == enforce
    assert ders(report.verified_chain) == list(CLIENT.ders)
    with contextlib.suppress(ssl.SSLError):
        near.obj.read(1)
    assert len(reports) == 1


def test_an_address_that_is_gone_is_not_known(tls_version: ssl.TLSVersion) -> None:
    """A peer that has reset the connection by then has none."""

    class Gone(PinnedSocket):
        refusing = False

        def getpeername(self) -> object:
            if self.refusing:
                raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
            return super().getpeername()

    reports: list[PinReport] = []
    context = client(PinSet(WRONG), tls_version, reports)
    context.sslsocket_class = Gone
    with (
        peers.StdlibServer(peers.server_context(CHAIN, tls_version)) as server,
        server.connect() as raw,
        context.wrap_socket(
            raw, server_hostname="localhost", do_handshake_on_connect=False
        ) as sock,
    ):
        cast(Gone, sock).refusing = True
        with pytest.raises(PinMismatchError):
            sock.do_handshake()
    (report,) = reports
    assert report.address is None


def test_what_is_no_matter_of_pins_is_not_reported(
    transport: Transport, tls_version: ssl.TLSVersion, tmp_path: Path
) -> None:
    """An unknown authority, a host without pins, a match, a first use: nothing to report."""
    reports: list[PinReport] = []
    server = peers.server_context(CHAIN, tls_version)
    impostor = peers.server_context(OTHER, tls_version)
    converse(transport, client(PinSet(WRONG), tls_version, reports), impostor)
    converse(transport, client({"a.test": WRONG}, tls_version, reports), server)
    converse(transport, client(PinSet(RIGHT), tls_version, reports), server)
    converse(transport, client(TofuStore(tmp_path / "known"), tls_version, reports), server)
    assert reports == []


def test_a_refusal_is_reported_once() -> None:
    """However often the connection is used afterwards."""
    reports: list[PinReport] = []
    ours = MemoryPeer(
        client(PinSet(WRONG), ssl.TLSVersion.TLSv1_3, reports), server_hostname="localhost"
    )
    theirs = MemoryPeer(peers.server_context(CHAIN), server_side=True)
    shake(ours, theirs)
    for _ in range(3):
        with pytest.raises(PinMismatchError):
            ours.obj.do_handshake()
    assert len(reports) == 1


# The callback ------------------------------------------------------------------------------------


def test_a_callback_that_raises_changes_nothing(
    transport: Transport, tls_version: ssl.TLSVersion, caplog: pytest.LogCaptureFixture
) -> None:
    """What it raises is logged, and the verdict is as it was."""

    def fail(report: PinReport) -> None:
        raise RuntimeError(f"cannot send {report.reason}")

    for enforce in (True, False):
        caplog.clear()
        context = client(PinSet(WRONG, enforce=enforce), tls_version)
        context.report_callback = fail
        seen = converse(transport, context, peers.server_context(CHAIN, tls_version))
        assert isinstance(seen.client.error, PinMismatchError) == enforce
        assert (seen.client.data == b"ping") != enforce
        assert "RuntimeError: cannot send mismatch" in caplog.text


def test_a_callback_may_connect(transport: Transport, tls_version: ssl.TLSVersion) -> None:
    """It may make pinned connections of its own; if those do not match, that is not for it."""
    server = peers.server_context(CHAIN, tls_version)
    seen: list[object] = []

    def send(report: PinReport) -> None:
        for pins in (PinSet(RIGHT), PinSet(WRONG)):
            other = client(pins, tls_version)
            other.report_callback = send
            inner = converse(transport, other, server)
            seen.append(inner.client.error or inner.client.data)

    context = client(PinSet(WRONG), tls_version)
    context.report_callback = send
    converse(transport, context, server)
    assert seen[0] == b"ping"
    assert isinstance(seen[1], PinMismatchError)
    assert len(seen) == 2


def test_a_callback_holds_no_connection_up(tls_version: ssl.TLSVersion) -> None:
    """While it runs the connection is not locked: other threads may look at it, and close it."""
    looked: list[object] = []

    def look(_report: PinReport) -> None:
        thread = threading.Thread(target=lambda: looked.append(ours.obj.version()))
        thread.start()
        thread.join(10)
        assert not thread.is_alive()

    context = client(PinSet(WRONG, enforce=False), tls_version)
    context.report_callback = look
    ours = MemoryPeer(context, server_hostname="localhost")
    theirs = MemoryPeer(peers.server_context(CHAIN, tls_version), server_side=True)
    shake(ours, theirs)
    assert looked == [{"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[tls_version.name]]


def test_the_callback_is_a_callback() -> None:
    """What cannot be called is refused when it is set; None is none."""
    context = PinnedContext(pins=PinSet(WRONG))
    assert context.report_callback is None
    with pytest.raises(TypeError, match="report_callback is called with a PinReport"):
        context.report_callback = 3  # type: ignore[assignment]  # that is it
    context.report_callback = print
    assert context.report_callback is print
    context.report_callback = None
    assert context.report_callback is None


# Audit hooks cannot be removed, so there is one, which does what a test says.
_on_audit: list[Callable[[tuple[object, ...]], None]] = []


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if event == "pinsock.mismatch" and _on_audit:
        _on_audit[-1](arguments)


@pytest.fixture
def audit(request: pytest.FixtureRequest) -> Iterator[Callable[..., None]]:
    """Has a function called with the arguments of each event."""
    if not getattr(sys, "_pinsock_audited", False):
        sys.addaudithook(_hook)
        sys._pinsock_audited = True  # type: ignore[attr-defined]  # once in a process
    yield _on_audit.append
    _on_audit.clear()


def test_audit_hooks_are_told(
    transport: Transport, tls_version: ssl.TLSVersion, audit: Callable[..., None]
) -> None:
    """sys.audit("pinsock.mismatch", host, address, side, reason, enforced)."""
    seen: list[tuple[object, ...]] = []
    audit(seen.append)
    reports: list[PinReport] = []
    context = client(PinSet(WRONG), tls_version, reports)
    converse(transport, context, peers.server_context(CHAIN, tls_version))
    assert seen == [("localhost", reports[0].address, "client", "mismatch", True)]


def test_an_audit_hook_may_refuse(
    transport: Transport, tls_version: ssl.TLSVersion, audit: Callable[..., None]
) -> None:
    """What a hook raises ends the connection, also one that would have gone on (PEP 578)."""

    def refuse(arguments: tuple[object, ...]) -> None:
        raise RuntimeError(f"not {arguments[0]}")

    audit(refuse)
    for enforce in (True, False):
        context = client(PinSet(WRONG, enforce=enforce), tls_version)
        seen = converse(transport, context, peers.server_context(CHAIN, tls_version))
        assert type(seen.client.error) is PinError
        assert "an audit hook refused 'localhost': RuntimeError('not localhost')" in str(
            seen.client.error
        )
        assert seen.client.data == b""


def test_what_an_audit_hook_refuses_stays_refused(
    tls_version: ssl.TLSVersion, audit: Callable[..., None]
) -> None:
    """The handshake was complete by then; nothing is read or written all the same."""

    def refuse(arguments: tuple[object, ...]) -> None:
        raise RuntimeError(f"not {arguments[0]}")

    audit(refuse)
    ours = MemoryPeer(
        client(PinSet(WRONG, enforce=False), tls_version), server_hostname="localhost"
    )
    shake(ours, MemoryPeer(peers.server_context(CHAIN, tls_version), server_side=True))
    for use in (ours.obj.do_handshake, ours.obj.read, lambda: ours.obj.write(b"ping")):
        with pytest.raises(PinError):
            use()
    assert ours.obj.pin_match is None


def test_an_audit_hook_may_refuse_with_whatever_it_likes(
    tls_version: ssl.TLSVersion, audit: Callable[..., None]
) -> None:
    """SystemExit, for one: whoever catches it has no connection either."""

    def leave(arguments: tuple[object, ...]) -> None:
        raise SystemExit(3)

    audit(leave)
    ours = MemoryPeer(
        client(PinSet(WRONG, enforce=False), tls_version), server_hostname="localhost"
    )
    with pytest.raises(SystemExit):
        shake(ours, MemoryPeer(peers.server_context(CHAIN, tls_version), server_side=True))
    for use in (ours.obj.do_handshake, ours.obj.read, lambda: ours.obj.write(b"ping")):
        with pytest.raises(PinError):
            use()


@pytest.mark.usefixtures("failing_logs")
@pytest.mark.parametrize("enforce", [True, False])
def test_a_log_handler_that_raises_changes_no_verdict(
    transport: Transport,
    tls_version: ssl.TLSVersion,
    enforce: bool,
    unraisable: list[BaseException],
) -> None:
    """The report goes to the callback, and what the handler raised to sys.unraisablehook."""
    reports: list[PinReport] = []
    pins = PinSet(WRONG, enforce=enforce, expires=datetime.now(timezone.utc) + timedelta(1))
    context = client(pins, tls_version, reports)
    seen = converse(transport, context, peers.server_context(CHAIN, tls_version))
    assert isinstance(seen.client.error, PinMismatchError) == enforce
    assert (seen.client.data == b"ping") != enforce
    assert len(reports) == 1
    assert {str(error) for error in unraisable} == {"no space left for logs"}
    assert len(unraisable) == 2 - enforce  # the mismatch; and that the pins are about to expire


# JSON --------------------------------------------------------------------------------------------


def test_the_form_of_rfc_7469() -> None:
    """The names, the forms of dates and pins, and the chains are those of section 3."""
    pins = PinSet({"leaf": [RIGHT, WRONG], "ca": WRONG}, expires=NOW)
    report = make_report(
        pins,
        reason="mismatch",
        enforced=True,
        server_side=False,
        host="a.test",
        address=("127.0.0.1", 8443),
        verified=CHAIN.ders,
        unverified=CHAIN.ders[:2],
    )
    said = json.loads(report.to_json())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", said.pop("date-time"))
    served = said.pop("served-certificate-chain")
    validated = said.pop("validated-certificate-chain")
    assert ders(served) == list(CHAIN.ders[:2])
    assert ders(validated) == list(CHAIN.ders)
    assert said == {
        "hostname": "a.test",
        "port": 8443,
        "effective-expiration-date": "2030-01-01T12:00:00Z",
        "include-subdomains": False,
        "noted-hostname": "a.test",
        "known-pins": [
            f'pin-sha256="{RIGHT.partition("/")[2]}"',
            'pin-sha256="AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="',
        ],
    }


def test_json_of_what_is_not_known() -> None:
    """Without an address, a name or an end there is null in their places."""
    report = make_report(
        PinSet(Pin("cert", "sha512", bytes(64))),
        reason="expired",
        enforced=True,
        server_side=True,
        host=None,
        address=None,
    )
    said = json.loads(report.to_json())
    assert said["hostname"] is said["port"] is said["effective-expiration-date"] is None
    (pin,) = said["known-pins"]
    assert pin.startswith('pin-cert-sha512="AAAA')
    unix = make_report(
        PinSet(WRONG),
        reason="expired",
        enforced=True,
        server_side=True,
        host=None,
        address="/run/socket",
    )
    assert json.loads(unix.to_json())["port"] is None


# Warnings ----------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[datetime]:
    """A clock whose time is the last of the list."""
    times = [NOW]
    monkeypatch.setattr(_reports, "_now", lambda: times[-1])
    return times


def test_the_end_of_pins_is_announced_once_a_day(
    clock: list[datetime], caplog: pytest.LogCaptureFixture
) -> None:
    """From 30 days before, and on each day that there is a connection."""
    reporter = Reporter()
    pins = PinSet(WRONG, expires=NOW + timedelta(days=31))

    def said() -> list[str]:
        caplog.clear()
        for _ in range(3):
            reporter.look_ahead("'a.test'", pins, ())
        return [record.getMessage() for record in caplog.records]

    assert said() == []
    clock.append(NOW + timedelta(days=1))
    assert said() == ["expiring at 2030-02-01 12:00 UTC: the pins for 'a.test'"]
    assert said() == []
    clock.append(NOW + timedelta(days=2))
    assert said() == ["expiring at 2030-02-01 12:00 UTC: the pins for 'a.test'"]
    reporter.pin_expiry_warning = timedelta(days=1)
    clock.append(NOW + timedelta(days=29))
    assert said() == []
    reporter.pin_expiry_warning = None
    clock.append(NOW + timedelta(days=31))
    assert said() == []


def test_of_two_that_come_at_once_one_announces_the_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Another thread may be faster while one looks whether it has been said."""
    reporter = Reporter()
    pins = PinSet(WRONG, expires=NOW)
    others = iter([True])

    class Moment(datetime):
        def date(self) -> date:
            if next(others, False):
                reporter.look_ahead("'a.test'", pins, ())
            return super().date()

    monkeypatch.setattr(_reports, "_now", lambda: Moment(2030, 1, 1, 12, tzinfo=timezone.utc))
    reporter.look_ahead("'a.test'", pins, ())
    assert len(caplog.messages) == 1


def test_the_end_of_matched_certificates_is_announced(
    clock: list[datetime], caplog: pytest.LogCaptureFixture
) -> None:
    """Of those that were matched; one that has ended, and was forgiven, too."""
    reporter = Reporter()
    chain = make_chain(2, validity={0: (NOW - timedelta(9), NOW + timedelta(days=10))})
    reporter.look_ahead("'a.test'", PinSet(WRONG), chain.ders[1:])
    assert caplog.messages == []
    reporter.look_ahead("'a.test'", PinSet(WRONG), chain.ders)
    what = "the certificate of 'a.test' that matched its pins"
    assert caplog.messages == [f"expiring at 2030-01-11 12:00 UTC: {what}"]
    caplog.clear()
    clock.append(NOW + timedelta(days=10))
    reporter.look_ahead("'a.test'", PinSet(WRONG), chain.ders)
    assert caplog.messages == [f"expired at 2030-01-11 12:00 UTC: {what}"]
    caplog.clear()
    clock.append(NOW + timedelta(days=11))
    reporter.certificate_expiry_warning = None
    reporter.look_ahead("'a.test'", PinSet(WRONG), chain.ders)
    reporter.certificate_expiry_warning = timedelta(days=1)
    reporter.look_ahead("'a.test'", PinSet(WRONG), (b"junk",))
    assert caplog.messages == []


def test_what_was_said_is_not_remembered_without_bounds(
    clock: list[datetime], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A program that talks to ever new peers does not grow by it."""
    monkeypatch.setattr(_reports, "_MAX_SAID", 2)
    reporter = Reporter()
    for number in range(10):
        reporter.look_ahead(f"'{number}.test'", PinSet(WRONG, expires=NOW), ())
        assert len(reporter._said) <= 2
    assert len(caplog.messages) == 10


def test_a_handshake_announces_what_is_about_to_end(
    transport: Transport, tls_version: ssl.TLSVersion, caplog: pytest.LogCaptureFixture
) -> None:
    """Pins and the certificates that they matched, and nothing of those that they did not."""
    now = datetime.now(timezone.utc)
    soon = now + timedelta(days=5)
    chain = make_chain(3, validity={0: (now - timedelta(1), soon), 1: (now - timedelta(1), soon)})
    pins = PinSet({"leaf": certificates.spki_pin(chain.leaf)}, expires=soon)
    context = client(pins, tls_version)
    chain.trust(context)
    for _ in range(2):
        seen = converse(transport, context, peers.server_context(chain, tls_version))
        assert seen.client.data == b"ping"
    assert caplog.messages == [
        f"expiring at {soon:%Y-%m-%d %H:%M} UTC: the pins for 'localhost'",
        f"expiring at {soon:%Y-%m-%d %H:%M} UTC: the certificate of 'localhost' that matched its "
        "pins",
    ]
    caplog.clear()
    context = client(pins, tls_version)
    chain.trust(context)
    context.pin_expiry_warning = context.certificate_expiry_warning = timedelta(days=4)
    converse(transport, context, peers.server_context(chain, tls_version))
    assert caplog.messages == []


@pytest.mark.parametrize("name", ["pin_expiry_warning", "certificate_expiry_warning"])
def test_thresholds_are_times(name: str) -> None:
    """They are 30 days, and can be set; what is no time is refused, and so is a negative one."""
    context = PinnedContext(pins=PinSet(WRONG))
    assert getattr(context, name) == timedelta(days=30)
    for value in (None, timedelta(0), timedelta(days=90)):
        setattr(context, name, value)
        assert getattr(context, name) == value
    with pytest.raises(TypeError, match=rf"{name} is a datetime\.timedelta or None, not 30"):
        setattr(context, name, 30)
    with pytest.raises(ValueError, match=f"{name} is a time before the end"):
        setattr(context, name, timedelta(days=-1))
    assert getattr(context, name) == timedelta(days=90)
