"""``python -m pinsock demo``: the scenes, and that the demo can tell when one goes wrong.

A demonstration that cannot fail shows nothing.  So half of these tests take the pinning away, or
spoil a scene, and want to see the demo say so.
"""

from __future__ import annotations

import os
import re
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import pinsock
from pinsock import _cli, _demo

TITLES = [
    "leaf pin",
    "CA pin at depth 1",
    "anchor pin",
    "whole-certificate pin from a file",
    "backup pin after a key change",
    "man in the middle, his CA trusted",
    "pinned certificate appended by the impostor",
    "expired leaf",
    'self-signed peer, trust="pins"',
    "client pinned by the server",
    "client refused by the server",
]

LINE = re.compile(r"(?P<state>ok|WRONG) +(?P<number>\d+) (?P<title>[^:]+): (?P<said>.*)")


def run(capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, re.Match[str]]]:
    """Run the demo in this process; return its status and its lines by title."""
    status = _cli.main(["demo"])
    out, err = capsys.readouterr()
    assert err == ""
    found = [match for match in map(LINE.fullmatch, out.splitlines()) if match]
    assert [match["title"] for match in found] == TITLES
    assert [int(match["number"]) for match in found] == list(range(1, 12))
    return status, {match["title"]: match for match in found}


def test_every_scene_comes_out_as_it_must(capsys: pytest.CaptureFixture[str]) -> None:
    """The demo plays its eleven scenes in order, one line each, and they all come out."""
    status, scenes = run(capsys)
    assert [scene["state"] for scene in scenes.values()] == ["ok"] * 11
    assert status == 0
    # What is promised in words is in the lines: the decision, and the server's testimony.
    complete = "server saw client certificate CN=alice, data b'ping'"
    for title, where in {
        "leaf pin": "matched at depth 0 (leaf)",
        "CA pin at depth 1": "matched at depth 1",
        "anchor pin": "matched at depth 2 (anchor)",
        "whole-certificate pin from a file": "matched at depth 0 (leaf)",
        "backup pin after a key change": "matched at depth 0 (leaf)",
        'self-signed peer, trust="pins"': "matched at depth 0 (leaf)",
    }.items():
        assert scenes[title]["said"] == f"client accepted, {where}; {complete}"
    refused = (
        "client refused, PinMismatchError; "
        "server saw alert bad_certificate, no client certificate, no data "
        "(from a client without pins: client certificate CN=alice, data b'ping')"
    )
    assert scenes["man in the middle, his CA trusted"]["said"] == refused
    assert scenes["pinned certificate appended by the impostor"]["said"] == refused
    assert scenes["expired leaf"]["said"] == (
        "client refused, certificate has expired; "
        "server saw alert certificate_expired, no client certificate, no data"
    )
    assert scenes["client pinned by the server"]["said"] == (
        "server accepted, matched at depth 0 (leaf); client got b'pong'"
    )
    assert scenes["client refused by the server"]["said"] == (
        "server refused, PinMismatchError; client saw alert bad_certificate, got b''"
    )


def test_demo_leaves_nothing_behind(capsys: pytest.CaptureFixture[str]) -> None:
    """Every thread has ended when the demo returns; open sockets would be warnings."""
    before = threading.active_count()
    run(capsys)
    assert threading.active_count() == before


def test_demo_is_a_command_of_its_own(tmp_path: Path) -> None:
    """``python -m pinsock demo`` succeeds in another directory, within its time and a margin."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pinsock", "demo"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(pinsock.__file__).parent.parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode == 0
    assert "11 of 11 scenes came out as they must" in done.stdout
    assert list(tmp_path.iterdir()) == []


def without_pins(
    address: tuple[str, int],
    timeout: float,
    *,
    context: pinsock.PinnedContext,
    server_hostname: str,
) -> pinsock.PinnedSocket:
    """Connect as ``create_connection`` does, but forget to pin."""
    context.pins = None
    return pinsock.create_connection(
        address, timeout, context=context, server_hostname=server_hostname
    )


def test_a_client_that_does_not_pin_fails_the_demo(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without pins the impostor gets certificate and data; the demo says so and exits with 1."""
    monkeypatch.setattr(_demo, "create_connection", without_pins)
    status, scenes = run(capsys)
    assert status == 1
    for title in TITLES[:7]:  # what matched does not match, what was refused is not
        assert scenes[title]["state"] == "WRONG"
    assert scenes["man in the middle, his CA trusted"]["said"].startswith(
        "client accepted, without pins; "
        "server saw client certificate CN=alice, data b'ping'"
    )
    # These do not hang on pins.
    assert scenes["expired leaf"]["state"] == "ok"
    assert scenes["client refused by the server"]["state"] == "ok"


def check_afterwards(
    address: tuple[str, int],
    timeout: float,
    *,
    context: pinsock.PinnedContext,
    server_hostname: str,
) -> pinsock.PinnedSocket:
    """Connect as a pinning library does that looks at the chain when the handshake is over."""
    pins, context.pins = context.pins, None
    assert isinstance(pins, pinsock.PinSet)
    tls = pinsock.create_connection(
        address, timeout, context=context, server_hostname=server_hostname
    )
    if pins.match([bytes(der) for der in tls.get_verified_chain()]) is None:
        tls.close()
        raise pinsock.PinMismatchError("the server", positions=(), expected={})
    return tls


def test_a_check_after_the_handshake_fails_the_demo(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The server's testimony tells a refusal in the handshake from one that comes too late."""
    monkeypatch.setattr(_demo, "create_connection", check_afterwards)
    status, scenes = run(capsys)
    assert status == 1
    scene = scenes["man in the middle, his CA trusted"]
    assert scene["state"] == "WRONG"
    assert scene["said"].startswith(
        "client refused, PinMismatchError; server saw client certificate CN=alice"
    )


def test_a_server_that_does_not_pin_fails_the_demo(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server that lets every client of its CA in is noticed in both scenes that pin clients."""

    class Careless(pinsock.PinnedContext):
        def __init__(self, protocol: int, *, pins: pinsock.PinSet) -> None:
            super().__init__(protocol, pins=None)
            self.verify_mode = ssl.CERT_REQUIRED

    monkeypatch.setattr(_demo, "PinnedContext", Careless)
    status, scenes = run(capsys)
    assert status == 1
    assert [title for title in TITLES if scenes[title]["state"] == "WRONG"] == TITLES[-2:]
    assert "got b'pong'" in scenes[TITLES[-1]]["said"]


def test_a_silent_client_is_reported_and_does_not_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that nobody comes to gives up after its limit, and says why."""
    monkeypatch.setattr(_demo, "_LIMIT", 0.05)
    with _demo._Server(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)) as server:
        pass
    assert isinstance(server.saw.error, TimeoutError)
    assert not server.saw.completed


def test_testimony_says_when_there_was_more_than_an_alert() -> None:
    """Bytes beyond the size of an alert are never called 'no certificate'."""
    reset = ConnectionResetError("gone")
    assert "no client certificate" in str(_demo._Testimony(error=reset, last_flight=30))
    said = str(_demo._Testimony(error=reset, last_flight=1500))
    assert "1500 bytes" in said
    assert "no client certificate" not in said


def test_a_client_that_shows_no_certificate_is_said_to_have_none() -> None:
    """A handshake without a client certificate is told apart from one with."""
    assert str(_demo._Testimony(completed=True, data=b"x")) == "no client certificate, data b'x'"
