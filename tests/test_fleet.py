"""Pin files on the command line: ``check FILE``, ``pin-host``, ``lint``, and ``--starttls``."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from pinsock import Pin, PinFile, PinSet, PinSyntaxError, TofuStore, _cli, _fleet
from pinsock._reach import Mistake
from tests.test_cli import ROOT, Chain, canonical, complaint, drain, listening, run, tls_server

WRONG = str(Pin("spki", "sha256", bytes(32)))
OTHER = str(Pin("spki", "sha256", bytes([1]) * 32))
TODAY = datetime.now(timezone.utc).date()
_DAYS = timedelta(days=1)
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """For localhost and 127.0.0.1."""
    return Chain(tmp_path_factory.mktemp("chain"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "pins"


def lines_of(capsys: Capture) -> list[list[str]]:
    """The table, cell by cell."""
    said = capsys.readouterr()
    assert said.err == ""
    return [line.split("  ") for line in said.out.splitlines()]


def check_json(capsys: Capture, *arguments: str | Path) -> tuple[int, Any]:
    status = run("check", *arguments, "--json")
    said = capsys.readouterr()
    assert said.err == ""
    return status, json.loads(said.out)


# check FILE --------------------------------------------------------------------------------------


def test_all_hosts_of_a_file_are_checked(chain: Chain, file: Path, capsys: Capture) -> None:
    """One row for each, in the order of the file, with what the operator has to know."""
    leaf, middle, _ = chain.pins
    with tls_server(chain.pem) as port:
        file.write_text(
            f"localhost leaf {leaf}\nlocalhost leaf {WRONG}\n"
            f"127.0.0.1:{port} leaf {leaf} expires={TODAY + timedelta(days=90)}\n"
            f"127.0.0.1:{port} 1 {middle}\n"
            f"*.example.com any {leaf} report-only\n"
        )
        assert run("check", file, "--port", str(port), "--cafile", chain.root_pem) == 0
    headings, *rows = (
        [cell.strip() for cell in line if cell.strip()] for line in lines_of(capsys)
    )
    assert headings == ["HOST", "RESULT", "MATCHED", "CERTIFICATE", "PINS", "BACKUP"]
    first, second, third, why = rows
    assert first[:3] == [f"localhost:{port}", "ok", "depth 0 (leaf)"]
    assert int(first[3].split()[0]) > 1000
    assert first[4:] == ["-", "yes"]
    assert second[:2] == [f"127.0.0.1:{port}", "ok"]
    assert second[4:] == ["90 days", "NO"]
    assert third == ["*.example.com", "not checked, report only", "-", "-", "-", "NO"]
    assert why == ["a pattern: name a host that it matches"]


def test_hosts_can_be_named(chain: Chain, file: Path, capsys: Capture) -> None:
    """Then those are checked, also ones that a pattern matches, where they are said to be."""
    leaf = chain.pins[0]
    with tls_server(chain.pem) as port:
        file.write_text(f"localhost leaf {leaf}\n127.0.0.1:{port} leaf {WRONG}\n")
        status, said = check_json(
            capsys, file, f"localhost:{port}", "--cafile", str(chain.root_pem)
        )
        assert (status, said["ok"]) == (0, True)
        (host,) = said["hosts"]
        assert (host["name"], host["port"], host["state"]) == ("localhost", port, "ok")
        assert host["matches"] == [{"depth": 0, "position": "leaf", "pin": leaf}]
        status, said = check_json(
            capsys, file, f"127.0.0.1:{port}", "--cafile", str(chain.root_pem)
        )
        assert status == 1
        assert said["hosts"][0]["state"] == "mismatch"
    assert "has no pins for example.com" in complaint(capsys, 1, "check", file, "example.com")
    assert "is a URL" in complaint(capsys, 2, "check", file, "https://example.com")


def test_what_is_wrong_is_said_of_each_host(chain: Chain, file: Path, capsys: Capture) -> None:
    """A mismatch, an authority that is not known, and a port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        closed = unused.getsockname()[1]
    leaf = chain.pins[0]
    with tls_server(chain.pem) as port:
        file.write_text(
            f"localhost:{port} leaf {WRONG} report-only\n"
            f"localhost:{closed} leaf {leaf}\n"
            f"127.0.0.1:{port} leaf {leaf} trust=pins\n"
        )
        status, said = check_json(capsys, file, "--cafile", chain.root_pem)
        mismatch, nobody, trusted = said["hosts"]
        assert (status, said["ok"]) == (1, False)
        assert (mismatch["state"], mismatch["enforced"]) == ("mismatch", False)
        assert f"does not match its pins: its leaf has {leaf}; if" in mismatch["reason"]
        assert (nobody["state"], nobody["backup"]) == ("unreachable", False)
        assert "refused the connection" in nobody["reason"]
        assert (trusted["state"], trusted["reason"]) == ("ok", None)
        status, said = check_json(capsys, file)  # the machine does not know this authority
        assert said["hosts"][0]["state"] == "refused"
        assert said["hosts"][2]["state"] == "ok"
        assert run("check", file, "--cafile", chain.root_pem) == 1
    said = capsys.readouterr().out
    assert f"localhost:{port}" in said
    assert "mismatch, report only" in said


@pytest.mark.parametrize("expiring", ["certificate", "pins", "nothing", "expired pins"])
def test_what_is_about_to_expire_is_no_success(
    tmp_path: Path, file: Path, capsys: Capture, expiring: str
) -> None:
    """Cron hears of it --days before; what has expired has so and so many days less than none."""
    now = datetime.now(timezone.utc)
    soon, far = now + timedelta(days=10, hours=12), now + timedelta(days=100)
    chain = Chain(tmp_path / "chain", not_after=soon if expiring == "certificate" else far)
    days = {"pins": 9, "expired pins": -5}.get(expiring, 200)
    end = now.date() + timedelta(days=days)
    with tls_server(chain.pem) as port:
        file.write_text(f"localhost leaf {chain.pins[0]} expires={end}\n")
        command = (file, "--port", str(port), "--cafile", chain.root_pem)
        status, said = check_json(capsys, *command)
        (host,) = said["hosts"]
        assert host["state"] == ("expired" if expiring == "expired pins" else "ok")
        assert status == (0 if expiring == "nothing" else 1)
        if expiring == "certificate":
            assert host["certificate_days"] == 10
        if expiring in ("pins", "expired pins"):
            assert host["pins_days"] == days
        status, said = check_json(capsys, *command, "--days", "5")
        assert status == (1 if expiring == "expired pins" else 0)


def test_a_bounded_number_of_connections_at_a_time(
    chain: Chain, file: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more than --jobs; and the rows come in the order of the file all the same."""
    now, most, lock = [0], [0], threading.Lock()
    both = threading.Barrier(2, timeout=10)
    look = _fleet._look

    def counting(*arguments: Any) -> Any:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        both.wait()
        try:
            return look(*arguments)
        finally:
            with lock:
                now[0] -= 1

    monkeypatch.setattr(_fleet, "_look", counting)
    names = [f"*.h{number}.test" for number in range(6)]
    file.write_text("".join(f"{name} leaf {WRONG}\n" for name in names))
    status, said = check_json(capsys, file, "--jobs", "2")
    assert status == 0
    assert most == [2]
    assert [host["name"] for host in said["hosts"]] == names


def test_an_interruption_waits_for_no_server(file: Path) -> None:
    """Ctrl-C ends the command at once, however long the --timeout of a silent server is."""
    # What runs in the background of a shell ignores the signal, and so would what it starts.
    heeding = (
        "import runpy, signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "runpy.run_module('pinsock', run_name='__main__', alter_sys=True)\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(10)
        port = silent.getsockname()[1]
        file.write_text(f"127.0.0.1:{port} leaf {WRONG}\n")
        with subprocess.Popen(
            [sys.executable, "-c", heeding, "check", str(file), "--timeout", "600"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        ) as command:
            with silent.accept()[0]:
                command.send_signal(signal.SIGINT)
                try:
                    said = command.communicate(timeout=30)
                finally:
                    command.kill()
    assert (command.returncode, *said) == (130, "", "pinsock: interrupted\n")


def test_after_an_interruption_no_connection_begins(
    file: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that have begun end by themselves, and are the last."""
    file.write_text(f"*.a.test leaf {WRONG}\n*.b.test leaf {WRONG}\n")
    begun, go_on, looked = threading.Event(), threading.Event(), list[str]()

    def look(name: str, *_: Any) -> None:
        looked.append(name)
        begun.set()
        go_on.wait(10)

    def interrupted(*_: Any, **__: Any) -> Any:
        begun.wait(10)
        raise KeyboardInterrupt

    monkeypatch.setattr(_fleet, "_look", look)
    monkeypatch.setattr(_fleet, "wait", interrupted)
    before = set(threading.enumerate())
    assert run("check", file, "--jobs", "1") == 130
    go_on.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
    assert looked == ["*.a.test"]
    assert capsys.readouterr().err == "pinsock: interrupted\n"


def test_a_bug_in_one_check_is_not_hidden(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a thread raises is raised here, and is no row."""
    file.write_text(f"*.a.test leaf {WRONG}\n")
    monkeypatch.setattr(_fleet, "_look", lambda *_: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        run("check", file)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_progress_bar(
    file: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is on standard error, fits into one line of it, and is gone at the end."""
    file.write_text(f"*.example.com leaf {WRONG}\n*.example.net leaf {WRONG}\n")
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert run("check", file) == 0
    assert terminal.getvalue().startswith("\r[" + " " * 30 + "] 0/2")
    assert terminal.getvalue().endswith("\r\033[K")
    for columns, width in ((80, 30), (20, 13), (5, 0), (0, 30)):
        monkeypatch.setattr(terminal, "fileno", lambda: 2)
        size = os.terminal_size((columns, 24))
        monkeypatch.setattr(os, "get_terminal_size", lambda _fd, size=size: size)
        terminal.truncate(terminal.seek(0))
        assert run("check", file) == 0
        assert terminal.getvalue().startswith("\r[" + " " * width + "] 0/2")
    monkeypatch.setattr(sys, "stderr", None)
    assert run("check", file) == 0


def test_files_that_cannot_be_checked(file: Path, capsys: Capture) -> None:
    """No file, no lines, wrong lines, not UTF-8, a directory: one line that says so."""
    said = complaint(capsys, 2, "check", file)
    assert "there is no such file; to check one host give --pin" in said
    file.write_text("# nothing\n")
    assert "there is nothing to check" in complaint(capsys, 1, "check", file)
    file.write_text("a.test leaf\n")
    assert f"{file}, line 1: a line is HOST" in complaint(capsys, 1, "check", file)
    file.write_bytes(b"\xff")
    assert "cannot read" in complaint(capsys, 1, "check", file)
    assert "Is a directory" in complaint(capsys, 1, "check", file.parent)
    file.write_text(f"a.test leaf {WRONG}\n")
    assert "--cafile" in complaint(capsys, 2, "check", file, "--cafile", file)
    for wrong in (["--jobs", "65"], ["--jobs", "x"], ["--days", "-1"], ["--port", "0"]):
        assert "see python -m pinsock check --help" in complaint(capsys, 2, "check", file, *wrong)


def test_a_host_that_hangs_up_is_unreachable(file: Path, capsys: Capture) -> None:
    """It is one row, and no traceback."""
    with listening(lambda connection: None) as port:
        file.write_text(f"localhost:{port} leaf {WRONG}\n")
        status, said = check_json(capsys, file)
    assert status == 1
    assert said["hosts"][0]["state"] == "unreachable"


# pin-host ----------------------------------------------------------------------------------------


def test_the_lines_of_a_host_can_be_made(
    chain: Chain, file: Path, capsys: Capture, tmp_path: Path
) -> None:
    """What pin-host prints is a pin file, which check then finds right."""
    key = tmp_path / "backup.key"
    with tls_server(chain.pem) as port:
        command = ["pin-host", f"localhost:{port}", "--cafile", chain.root_pem]
        assert run(*command, "--backup-key", key, "--expires", "2100-01-31") == 0
        said = capsys.readouterr().out
        file.write_text(said)
        assert run("check", file, "--port", str(port), "--cafile", chain.root_pem) == 0
        capsys.readouterr()
    backup = load_pem_private_key(key.read_bytes(), None).public_key()
    assert PinFile(file).patterns == {
        "localhost": PinSet(
            {"leaf": [chain.pins[0], Pin.from_public_key(backup)]},  # type: ignore[arg-type]  # the type of it is wider
            expires=date(2100, 1, 31),
        )
    }
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert f"# backup, {key}" in said
    assert run("pin", key) == 0
    assert capsys.readouterr().out.strip() in said


@pytest.mark.parametrize(
    ("position", "depth"), [("leaf", 0), ("0", 0), ("intermediate", 1), ("1", 1), ("anchor", 2)]
)
def test_another_position_can_be_pinned(
    chain: Chain, capsys: Capture, position: str, depth: int
) -> None:
    """The authority's key, for instance."""
    with tls_server(chain.pem) as port:
        command = ["pin-host", f"127.0.0.1:{port}", "--cafile", chain.root_pem]
        assert run(*command, "--position", position, "--servername", "localhost") == 0
    host, where, pin, *_ = capsys.readouterr().out.split()
    assert (host, where, pin) == ("localhost", position, chain.pins[depth])


def test_who_is_not_vouched_for_is_not_pinned(chain: Chain, capsys: Capture) -> None:
    """Unless the operator says that the pin is to be the trust."""
    with tls_server(chain.pem) as port:
        said = complaint(capsys, 1, "pin-host", f"localhost:{port}")
        assert "is not vouched for (" in said
        assert "--trust pins" in said
        assert run("pin-host", f"localhost:{port}", "--trust", "pins") == 0
    assert f"{chain.pins[0]} trust=pins" in capsys.readouterr().out


def test_pins_that_do_not_help_are_warned_of(tmp_path: Path, capsys: Capture) -> None:
    """--trust pins forgives an unknown authority; another name, and dates, it does not."""
    now = datetime.now(timezone.utc)
    expired = Chain(tmp_path / "old", not_before=now - _DAYS * 2, not_after=now - _DAYS)
    fresh = Chain(tmp_path / "new")
    for chain, name, end, reason in (
        (fresh, "localhost", "2100-01-31", ""),
        (fresh, "example.com", "2100-01-31", "Hostname mismatch"),
        (expired, "localhost", "2100-01-31", "certificate has expired"),
        (fresh, "localhost", "2020-01-31", "the pins for 'localhost' expired"),
    ):
        with tls_server(chain.pem) as port:
            command = ["pin-host", f"127.0.0.1:{port}", "--servername", name, "--trust", "pins"]
            assert run(*command, "--expires", end) == 0
        out, err = capsys.readouterr()
        assert chain.pins[0] in out
        warning = f"pinsock: warning: with these pins clients refuse 127.0.0.1:{port}: {reason}"
        assert err.startswith(warning) if reason else err == ""


def test_what_a_server_wants_beyond_pins_is_no_matter_of_lines(
    chain: Chain, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its certificate was seen, so its lines are printed."""
    made = _cli.make_context

    def failing(pins: PinSet | None, cafile: str | None) -> Any:
        if pins is not None:
            raise Mistake("the server wants a client certificate")
        return made(pins, cafile)

    monkeypatch.setattr(_cli, "make_context", failing)
    with tls_server(chain.pem) as port:
        assert run("pin-host", f"127.0.0.1:{port}", "--trust", "pins") == 0
    out, err = capsys.readouterr()
    assert (chain.pins[0] in out, err) == (True, "")


def test_wrong_wishes_for_lines_are_named(
    chain: Chain, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A position that is not there, a key that is, a day that is none."""
    key = tmp_path / "key"
    key.write_text("mine")
    with tls_server(chain.pem) as port:
        command = ["pin-host", f"localhost:{port}", "--cafile", chain.root_pem]
        said = complaint(capsys, 1, *command, "--position", "7")
        assert "has no verified certificate at 7" in said
        said = complaint(capsys, 1, *command, "--backup-key", key)
        assert f"there is such a file: to use the key in it say python -m pinsock pin {key}" in said
        assert key.read_text() == "mine"
        said = complaint(capsys, 1, *command, "--backup-key", tmp_path / "no" / "key")
        assert "No such file" in said
        monkeypatch.setattr("pinsock._chain.spki", _unreadable)
        assert "cannot be read" in complaint(capsys, 1, *command)
    for wrong in ("2027-2-1", "20270201", "soon", "9999-12-31", "2027-02-30"):
        assert "is not a day" in complaint(capsys, 2, "pin-host", "a.test", "--expires", wrong)
    for wrong in ("ca", "any", "-1", "100", "01"):
        said = complaint(capsys, 2, "pin-host", "a.test", f"--position={wrong}")
        assert "is not leaf, intermediate, anchor, or a depth" in said


def _unreadable(_der: bytes) -> bytes:
    raise ValueError("not for us")


def test_a_certificate_without_a_subject_is_commented_so(
    chain: Chain, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comment behind a line tells whose key it is, and cannot command the terminal."""
    with tls_server(chain.pem) as port:
        command = ["pin-host", f"localhost:{port}", "--cafile", chain.root_pem]
        for subject, shown in (("", "(no subject)"), ("\033[2J", "?[2J")):
            monkeypatch.setattr("pinsock._chain.subject", lambda _der, said=subject: said)
            assert run(*command) == 0
            assert capsys.readouterr().out.rstrip().endswith(f"# {shown}")


# lint --------------------------------------------------------------------------------------------


def findings(capsys: Capture, *arguments: str | Path) -> list[str]:
    """What lint says, without the file's name."""
    status = run("lint", *arguments)
    said = capsys.readouterr()
    assert said.err == ""
    assert status == (0 if "nothing that will hurt" in said.out else 1)
    return [line.removeprefix(str(arguments[0])) for line in said.out.splitlines()]


def test_a_file_that_will_not_hurt(file: Path, capsys: Capture) -> None:
    """Lint says so, and exits with 0."""
    end = TODAY + timedelta(days=100)
    file.write_text(f"a.test leaf {WRONG} expires={end}\na.test leaf {OTHER}\n")
    assert findings(capsys, file) == [": 1 hosts, nothing that will hurt"]
    assert findings(capsys, file, "A.test") == [": 1 hosts, nothing that will hurt"]


def test_a_missing_backup_pin_is_named(file: Path, capsys: Capture) -> None:
    """For each position that has one pin, at its line."""
    file.write_text(f"a.test leaf {WRONG}\na.test leaf {OTHER}\na.test 1 {WRONG}\n")
    (said,) = findings(capsys, file)
    assert said.startswith(":3: a.test: no backup pin at 1: ")


@pytest.mark.parametrize(
    ("position", "days", "after", "said"),
    [
        ("leaf", 10, "reject", "these leaf-only pins expire in 10 days, and clients are locked"),
        ("0", 10, "unpin", "these leaf-only pins expire in 10 days, and clients are without"),
        ("ca", 29, "reject", "these pins expire in 29 days"),
        ("leaf", -1, "reject", "these leaf-only pins have expired"),
    ],
)
def test_pins_about_to_expire_are_named(
    file: Path, capsys: Capture, position: str, days: int, after: str, said: str
) -> None:
    """Those that hold for the leaf alone, too."""
    end = datetime.now(timezone.utc).date() + timedelta(days=days)
    file.write_text(
        f"a.test {position} {WRONG}\n"
        f"a.test {position} {OTHER} expires={end} after-expiry={after}\n"
    )
    (found,) = findings(capsys, file)
    assert found.startswith(f":1: a.test: {said}")
    assert findings(capsys, file, "--days", "10") == (
        [found] if days < 10 else [": 1 hosts, nothing that will hurt"]
    )


def test_duplicates_are_named(file: Path, capsys: Capture) -> None:
    """A pin that is there twice hides that the backup is missing."""
    file.write_text(f"a.test leaf {WRONG}\nA.TEST leaf {OTHER}\na.test leaf {WRONG}\n")
    (found,) = findings(capsys, file)
    assert found == ":3: a.test: the same pin as in line 1: remove one of them"


def test_what_is_not_enforced_is_named(file: Path, capsys: Capture) -> None:
    """report-only is forgotten easily."""
    file.write_text(f"a.test leaf {WRONG} report-only\na.test leaf {OTHER}\n")
    (found,) = findings(capsys, file)
    assert found.startswith(":1: a.test: report-only: nobody is refused")


def test_patterns_that_match_nothing_are_named(file: Path, capsys: Capture) -> None:
    """Of the hosts that a program talks to; and hosts that have no line."""
    both = "".join(
        f"{name} leaf {pin}\n" for name in ("a.test", "*.b.test") for pin in (WRONG, OTHER)
    )
    file.write_text(both)
    assert findings(capsys, file, "a.test", "x.b.test") == [": 2 hosts, nothing that will hurt"]
    assert findings(capsys, file, "a.test", "x.y.b.test") == [
        ": x.y.b.test: no line matches this host: it is refused, or goes without pins",
        ":3: *.b.test: this matches none of the hosts that were named",
    ]
    assert "see python -m pinsock lint --help" in complaint(capsys, 2, "lint", file, "a..b")


def test_a_pattern_without_room_matches_nothing(file: Path, capsys: Capture) -> None:
    """Names end at 253 characters."""
    name = "*." + ".".join(["a" * 63, *["a" * 62] * 3])
    file.write_text(f"{name} leaf {WRONG}\n{name} leaf {OTHER}\n")
    (found,) = findings(capsys, file)
    assert "this matches nothing" in found


def test_a_port_that_a_pin_file_does_not_take_is_named(file: Path, capsys: Capture) -> None:
    """check and a TofuStore know ports, and a PinFile refuses the whole file; a store is one."""
    both = f"[::1]:8443 leaf {WRONG}%s\n[::1]:8443 leaf {OTHER}\n"
    file.write_text(both % "")
    (found,) = findings(capsys, file)
    assert found.startswith(":1: [::1]:8443: a PinFile takes no port, and refuses the whole file")
    with pytest.raises(PinSyntaxError):
        PinFile(file)
    file.write_text(both % " first-seen=2026-01-31T00:00:00Z")
    assert findings(capsys, file) == [": 1 hosts, nothing that will hurt"]
    TofuStore(file)


def test_a_file_without_lines_is_named(file: Path, capsys: Capture) -> None:
    """It is what a shell leaves behind when 'pin-host HOST > FILE' fails."""
    file.write_text("# nothing\n")
    assert findings(capsys, file) == [
        ": there are no lines: every host is refused, or goes without pins"
    ]


def test_a_broken_file_is_named(file: Path, capsys: Capture) -> None:
    """With the line; and one that is not there, or not said, is wrong usage."""
    assert "are required: FILE (see" in complaint(capsys, 2, "lint")
    assert "there is no such file" in complaint(capsys, 2, "lint", file)
    file.write_text("a.test leaf\n")
    assert f"{file}, line 1: " in complaint(capsys, 1, "lint", file)


# --starttls --------------------------------------------------------------------------------------


@contextmanager
def mail_server(chain: Chain, *, willing: bool = True) -> Iterator[int]:
    """SMTP that goes over to TLS, once it is asked to."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain.pem)
    context.num_tickets = 0

    def handle(connection: socket.socket) -> None:
        connection.sendall(b"220 mail\r\n")
        connection.recv(1000)
        connection.sendall(b"250-mail\r\n250 STARTTLS\r\n" if willing else b"250 mail\r\n")
        if not connection.recv(1000):
            return
        connection.sendall(b"220 go\r\n")
        with context.wrap_socket(connection, server_side=True) as tls:
            drain(tls)

    with listening(handle) as port:
        yield port


def test_servers_can_be_asked_for_tls(chain: Chain, file: Path, capsys: Capture) -> None:
    """show, check and pin-host, of a host and of a file."""
    with mail_server(chain) as port:
        host = f"localhost:{port}"
        options = ["--starttls", "smtp", "--cafile", str(chain.root_pem)]
        assert run("show", host, *options) == 0
        assert chain.pins[0] in capsys.readouterr().out
        assert run("check", host, *options, "--pin", chain.pins[0]) == 0
        assert run("pin-host", host, *options) == 0
        file.write_text(capsys.readouterr().out.splitlines()[-1] + "\n")
        status, said = check_json(capsys, file, *options, "--port", str(port))
        assert (status, said["hosts"][0]["state"]) == (0, "ok")


def test_a_server_that_will_not_is_named(chain: Chain, capsys: Capture) -> None:
    """What it did is said in one line."""
    with mail_server(chain, willing=False) as port:
        said = complaint(capsys, 1, "show", f"localhost:{port}", "--starttls", "smtp")
    assert said.startswith(f"localhost:{port}: the server ")


def test_a_server_that_says_nothing_is_named(capsys: Capture) -> None:
    """A greeting that does not come is a timeout, which is said to be one."""
    with listening(lambda connection: drain(connection) and None) as port:
        said = complaint(
            capsys, 1, "show", f"localhost:{port}", "--starttls", "imap", "--timeout", "0.1"
        )
    assert "did not let TLS begin within 0.1 seconds: check that the port speaks imap" in said


def test_the_port_is_that_of_the_protocol(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a port it is where such servers listen."""
    asked: list[object] = []

    def refuse(address: object, **_options: object) -> socket.socket:
        asked.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr("pinsock._reach.socket.create_connection", refuse)
    for protocol, port in (("smtp", 25), ("xmpp", 5222), ("postgres", 5432)):
        said = complaint(capsys, 1, "show", "localhost", "--starttls", protocol)
        assert f"localhost:{port} refused the connection" in said
        assert asked[-1] == ("localhost", port)
    assert "invalid choice" in complaint(capsys, 2, "show", "localhost", "--starttls", "gopher")


def test_a_key_that_is_pinned_is_the_file_of_openssl(
    chain: Chain, capsys: Capture, tmp_path: Path
) -> None:
    """The backup key is a private key as others write them."""
    key = tmp_path / "key"
    with tls_server(chain.pem) as port:
        command = ["pin-host", f"localhost:{port}", "--cafile", chain.root_pem]
        assert run(*command, "--backup-key", key) == 0
    said = capsys.readouterr().out
    public = load_pem_private_key(key.read_bytes(), None).public_key()
    spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert canonical(spki) in said
    assert os.path.getsize(key) > 200


