"""Pin files and the store of trust on first use: reloads, durability, and several processes."""

from __future__ import annotations

import base64
import errno
import fcntl
import itertools
import logging
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import datetime, timezone
from hashlib import sha256
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pinsock import (
    HostPins,
    Pin,
    PinError,
    PinExpiredError,
    PinFile,
    PinMismatchError,
    PinnedContext,
    PinSet,
    PinSyntaxError,
    TofuStore,
    UnpinnedPeerError,
    _store,
)
from pinsock._lines import HEADING, read_lines
from pinsock._pins import FirstUse
from tests import certificates, peers
from tests.certificates import Chain, make_chain
from tests.peers import Transport, converse

A, B, C = (Pin("spki", "sha256", bytes([number]) * 32) for number in (1, 2, 3))
CHAIN = make_chain(3, pool=1)
OTHER = make_chain(3, pool=2, under=CHAIN.above(1))
LONELY = make_chain(1, pool=3)


def line(host: str, pin: object, *options: str) -> str:
    return " ".join([host, "leaf", str(pin), *options]) + "\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with pins for a.test."""
    path = tmp_path / "pins"
    path.write_text(line("a.test", A))
    return path


def leaf(file: PinFile, host: str = "a.test") -> str:
    """The pin that the file has for a host; what a handshake would ask for."""
    pins = file(host)
    assert pins is not None
    (alternatives,) = pins.positions.values()
    return str(alternatives[0])


# PinFile: looking up -----------------------------------------------------------------------------


def test_a_pin_file_has_pins_by_host(path: Path) -> None:
    """A file is looked up as HostPins are, patterns included."""
    path.write_text(line("a.test", A) + line("**.b.test", B, "report-only"))
    file = PinFile(path)
    assert file("A.test.") == PinSet({"leaf": A})
    assert file("x.y.b.test") == PinSet({"leaf": B}, enforce=False)
    assert file.patterns == {
        "a.test": PinSet({"leaf": A}),
        "**.b.test": PinSet({"leaf": B}, enforce=False),
    }
    assert HostPins(file.patterns)("a.test") == file("a.test")
    assert file.path == str(path)


def test_a_host_that_is_not_in_the_file(path: Path) -> None:
    """It is refused, or allowed if that was said; and what is no host is refused either way."""
    with pytest.raises(UnpinnedPeerError, match=r"add a line for it to .*/pins"):
        PinFile(path)("b.test")
    allowing = PinFile(str(path), unpinned="allow")
    assert allowing("b.test") is None
    with pytest.raises(UnpinnedPeerError):
        allowing("a.test:443")
    with pytest.raises(UnpinnedPeerError):
        allowing(None)
    assert repr(allowing) == f"PinFile('{path}', unpinned='allow')"
    assert repr(PinFile(path)) == f"PinFile('{path}')"


def test_wrong_arguments_are_named(path: Path) -> None:
    """What a PinFile cannot be made of is said, with what would be right."""
    with pytest.raises(ValueError, match="unpinned is 'reject' or 'allow', not 'no'"):
        PinFile(path, unpinned="no")  # type: ignore[arg-type]  # that is it
    with pytest.raises(TypeError, match="a path is a str or a Path, not bytes"):
        PinFile(os.fsencode(path))  # type: ignore[arg-type]  # that is it
    with pytest.raises(FileNotFoundError):
        PinFile(path.parent / "none")
    path.write_bytes(b"# fine\n\xff\n")
    with pytest.raises(PinSyntaxError, match=r"pins, line 2: this is not UTF-8"):
        PinFile(path)
    path.write_text("a.test leaf")
    with pytest.raises(PinSyntaxError, match=r"pins, line 1: "):
        PinFile(path)


def test_a_byte_order_mark_is_no_part_of_the_first_host(path: Path) -> None:
    """Some editors begin a file with one."""
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert leaf(PinFile(path)) == str(A)


def test_a_relative_path_stays_the_same_file(
    path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The program may go to another directory."""
    monkeypatch.chdir(path.parent)
    file = PinFile(path.name)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    path.write_text(line("a.test", B))
    assert leaf(file) == str(B)


# PinFile: reloading ------------------------------------------------------------------------------


def _replace(path: Path, text: str) -> None:
    new = path.with_suffix(".other")
    new.write_text(text)
    new.replace(path)


def _rewrite(path: Path, text: str) -> None:
    path.write_text(text)


def _rewrite_and_backdate(path: Path, text: str) -> None:
    status = path.stat()
    path.write_text(text)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("change", [_replace, _rewrite, _rewrite_and_backdate])
def test_a_changed_file_counts_at_the_next_look_up(
    path: Path, change: Callable[[Path, str], None]
) -> None:
    """However quickly one version follows another: same size, same tick of the clock."""
    file = PinFile(path)
    for pin in (A, B) * 20:
        change(path, line("a.test", pin))
        assert leaf(file) == str(pin)


def test_an_unchanged_file_is_looked_at_once_and_not_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look-up costs one stat."""
    file = PinFile(path)
    seen: list[str] = []

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and arguments[0] == str(path):
            seen.append("open")

    stat = os.stat
    monkeypatch.setattr(os, "stat", lambda name: seen.append("stat") or stat(name))
    monkeypatch.setattr(_store, "_read", lambda _path: pytest.fail("it was read"))
    for count in range(1, 4):
        leaf(file)
        assert seen == ["stat"] * count


def test_a_touched_file_is_read_again_and_means_the_same(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """touch(1) is a way to have the file read."""
    file = PinFile(path)
    reads: list[str] = []
    read = _store._read
    monkeypatch.setattr(_store, "_read", lambda name: reads.append(name) or read(name))
    os.utime(path)
    assert leaf(file) == str(A)
    assert leaf(file) == str(A)
    assert reads == [str(path)]


BROKEN: dict[str, Callable[[Path], object]] = {
    "a line": lambda path: path.write_text("a.test leaf\n"),
    "not UTF-8": lambda path: path.write_bytes(b"\xff"),
    "gone": lambda path: path.unlink(),
    "a directory": lambda path: (path.unlink(), path.mkdir()),
    "no way there": lambda path: (path.unlink(), path.symlink_to(path)),
    "cut off": lambda path: path.write_text(""),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_version_changes_nothing_and_is_said_once(
    path: Path, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    """The last good pins stay, the log tells why, and a good version is taken up again."""
    file = PinFile(path)
    BROKEN[what](path)
    for _ in range(3):
        assert leaf(file) == str(A)
    (record,) = caplog.records
    assert record.name == "pinsock"
    assert record.levelno == logging.ERROR
    assert str(path) in record.getMessage()
    if what == "a line":
        assert "line 1: a line is HOST POSITION PIN" in record.getMessage()
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
    path.write_text(line("a.test", B))
    assert leaf(file) == str(B)
    assert len(caplog.records) == 1


def test_what_cannot_be_read_for_a_while_is_read_after_it(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The new version is not given up because the process had too many open files just then."""
    file = PinFile(path)
    path.write_text(line("a.test", B))
    with monkeypatch.context() as patch:

        def fail(name: str) -> object:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), name)

        patch.setattr(_store, "_read", fail)
        for _ in range(3):
            assert leaf(file) == str(A)
    (record,) = caplog.records
    assert "pins: Too many open files" in record.getMessage()
    assert leaf(file) == str(B)


def test_a_version_is_complained_of_once_whoever_has_seen_it(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also if a thread that has seen an older one comes after another that has read it."""
    file = PinFile(path)
    path.write_text("broken")
    stat = os.stat
    late = iter([True])

    def look(name: str) -> os.stat_result:
        status = stat(name)
        if next(late, False):
            path.write_text("broken, too")
            assert leaf(file) == str(A)
        return status

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", look)
        for _ in range(3):
            assert leaf(file) == str(A)
    assert len(caplog.records) == 1


def test_new_pins_are_there_before_the_file_is_taken_for_read(path: Path) -> None:
    """A thread that looks in between reads as well, and does not go on with the old pins."""
    file = PinFile(path)
    order: list[str] = []

    class Watching(_store._Watched):
        def __setattr__(self, name: str, value: object) -> None:
            order.append(name)
            super().__setattr__(name, value)

    file._file.__class__ = Watching
    path.write_text(line("a.test", B))
    assert leaf(file) == str(B)
    assert order.index("entries") < order.index("_seen")


@pytest.mark.usefixtures("failing_logs")
def test_a_log_handler_that_raises_locks_nobody_out(
    path: Path, unraisable: list[BaseException]
) -> None:
    """The last good pins stay in use, whatever becomes of the message."""
    file = PinFile(path)
    path.write_text("a.test leaf\n")
    for _ in range(3):
        assert leaf(file) == str(A)
    assert [str(error) for error in unraisable] == ["no space left for logs"]


@pytest.mark.parametrize("make", [PinFile, TofuStore])
def test_what_is_no_file_is_refused(make: Callable[[Path], object], tmp_path: Path) -> None:
    """A pipe would be waited for, and a device be replaced by what is written (as root)."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path(os.devnull)):
        with pytest.raises(OSError, match="this is no regular file"):
            make(path)


def test_reload_raises_what_is_wrong(path: Path) -> None:
    """Who asks for a reload is told, and the pins stay as they were."""
    file = PinFile(path)
    path.write_text("a.test leaf\n")
    with pytest.raises(PinSyntaxError, match="line 1"):
        file.reload()
    assert leaf(file) == str(A)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        file.reload()
    assert leaf(file) == str(A)
    path.write_text("")
    file.reload()  # so it is meant
    assert file.patterns == {}


def test_a_file_that_never_stops_changing_is_an_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version is read whole, or not at all."""
    numbers = itertools.count()
    monkeypatch.setattr(_store, "_signature", lambda _status: (next(numbers),) * 5)
    with pytest.raises(OSError, match="never stops changing"):
        PinFile(path)


def test_a_version_is_read_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written while the file is read is not taken for half of it."""
    wait = _store._await_tick
    texts = iter([line("a.test", B), line("a.test", C)])

    def write(status: os.stat_result) -> None:
        with suppress(StopIteration):
            path.write_text(next(texts))
        wait(status)

    monkeypatch.setattr(_store, "_await_tick", write)
    assert leaf(PinFile(path)) == str(C)


def test_a_stamp_from_the_future_is_not_waited_for(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that was set back holds nobody up."""
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    monkeypatch.setattr(time, "sleep", lambda _seconds: pytest.fail("it waited"))
    assert leaf(PinFile(path)) == str(A)


def test_a_young_version_is_looked_at_again_in_the_next_tick(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change within a tick of the file system's clock would leave the same stamp."""
    waited: list[float] = []
    born = path.stat().st_ctime_ns
    monkeypatch.setattr(time, "time_ns", lambda: born + 5_000_000)
    monkeypatch.setattr(time, "sleep", waited.append)
    PinFile(path)
    assert waited == [0.015]
    monkeypatch.setattr(time, "time_ns", lambda: born + 20_000_000)
    PinFile(path)
    assert len(waited) == 1


def test_a_hundred_thousand_lines(path: Path) -> None:
    """A large file is read, and looked up, as a small one is."""
    digests = (sha256(str(number).encode()).digest() for number in range(100_000))
    path.write_text(
        "".join(
            f"h{number}.example.test        leaf       sha256/{base64.b64encode(digest).decode()}\n"
            for number, digest in enumerate(digests)
        )
    )
    file = PinFile(path)
    expected = base64.b64encode(sha256(b"99999").digest()).decode()
    assert leaf(file, "h99999.example.test") == f"sha256/{expected}"


def test_one_thread_reads_and_the_others_wait(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a change nobody goes on with the old pins, and the file is read once."""
    file = PinFile(path)
    reads: list[int] = []
    read = _store._read
    inside = threading.Event()
    go = threading.Event()

    def slowly(name: str) -> tuple[tuple[int, int, int, int, int], str]:
        reads.append(1)
        inside.set()
        assert go.wait(10)
        return read(name)

    monkeypatch.setattr(_store, "_read", slowly)
    path.write_text(line("a.test", B))
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(leaf(file))) for _ in range(4)]
    threads[0].start()
    assert inside.wait(10)
    for thread in threads[1:]:
        thread.start()
    go.set()
    for thread in threads:
        thread.join(10)
    assert found == [str(B)] * 4
    assert len(reads) == 1


# PinFile: writing --------------------------------------------------------------------------------


def test_what_is_written_is_what_is_there(path: Path) -> None:
    """After write the file says these pins and no others, to everybody."""
    file, other = PinFile(path), PinFile(path)
    file.write({"b.test": B, "*.c.test": PinSet({"ca": C}, trust="pins")})
    for each in (file, other, PinFile(path)):
        assert each.patterns == {
            "b.test": PinSet(B),
            "*.c.test": PinSet({"ca": C}, trust="pins"),
        }
    file.write(HostPins({"a.test": A}))
    assert other.patterns == {"a.test": PinSet(A)}


def test_writing_leaves_alone_what_does_not_change(path: Path) -> None:
    """Comments, and the lines of hosts that keep their pins, stay as they are."""
    text = (
        "# ours\n\n"
        + f"A.test   leaf  {A}   # in use\n"
        + line("b.test", A)
        + f"  a.test   leaf  {B}\n"
        + "# theirs\n"
        + line("b.test", B)
        + line("c.test", C)
        + "# the end"
    )
    path.write_text(text)
    PinFile(path).write({"a.test": PinSet({"leaf": [B, A]}), "b.test": C, "d.test": A})
    assert path.read_text() == (
        "# ours\n\n"
        + f"A.test   leaf  {A}   # in use\n"
        + f"b.test                 any        {C}\n"
        + f"  a.test   leaf  {B}\n"
        + "# theirs\n"
        + "# the end\n"
        + f"d.test                 any        {A}\n"
    )


def test_writing_nothing_new_brings_the_lines_into_form(path: Path) -> None:
    """Without pins, what is there is written anew; comments stay."""
    path.write_text(f"# c\nA.test leaf {A} # c\na.test leaf {B} report-only\n")
    file = PinFile(path)
    before = file.patterns
    file.write()
    assert file.patterns == before
    assert path.read_text() == (
        f"# c\na.test                 leaf       {A} report-only\n"
        f"a.test                 leaf       {B}\n"
    )


def test_an_empty_file_gets_a_heading(path: Path) -> None:
    """Who opens the file is told what its columns are."""
    path.write_text("")
    PinFile(path).write({"a.test": A})
    assert path.read_text().startswith(HEADING + "\n")


def test_what_cannot_be_written_is_not(path: Path) -> None:
    """Wrong pins, and a file with a line that cannot be read, leave it as it is."""
    file = PinFile(path)
    with pytest.raises(PinSyntaxError):
        file.write({"a.test:80": A})
    path.write_text("a.test leaf\n")
    with pytest.raises(PinSyntaxError, match="line 1"):
        file.write({"a.test": A})
    assert path.read_text() == "a.test leaf\n"


def test_a_version_that_could_not_be_read_again_is_not_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever may be wrong with what we write, nobody is to be locked out by it."""
    file = PinFile(path)
    monkeypatch.setattr(_store, "format_lines", lambda host, _pins: [f"{host} leaf"])
    with pytest.raises(PinSyntaxError):
        file.write({"b.test": B})
    assert path.read_text() == line("a.test", A)


def test_a_link_and_permissions_stay(path: Path, tmp_path: Path) -> None:
    """What is replaced is the file that a link points to, and it keeps its mode."""
    path.chmod(0o640)
    directory = tmp_path / "links"
    directory.mkdir()
    link = directory / "link"
    link.symlink_to(path)
    PinFile(link).write({"a.test": B})
    assert link.is_symlink()
    assert leaf(PinFile(path)) == str(B)
    assert path.stat().st_mode & 0o7777 == 0o640
    assert os.listdir(directory) == ["link"]


def _like(path: Path, *, mode: int, uid: int = 0, gid: int = 0) -> os.stat_result:
    """The status of a file, but of that mode, and so much off its owner and group."""
    status = path.stat()
    fields = [*status]
    fields[0], fields[4], fields[5] = mode, status.st_uid + uid, status.st_gid + gid
    return os.stat_result(fields)


def test_owner_and_group_stay(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that root rewrites can be read by the program whose file it is."""
    given: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "fchown", lambda _descriptor, uid, gid: given.append((uid, gid)))
    status = _like(path, mode=0o100640, uid=1, gid=2)
    _store._replace(str(path), line("a.test", B), status)
    assert given == [(status.st_uid, -1), (-1, status.st_gid)]
    assert path.stat().st_mode & 0o7777 == 0o640
    _store._replace(str(path), line("a.test", B), path.stat())
    assert len(given) == 2


@pytest.mark.parametrize(("mode", "left"), [(0o660, 0o600), (0o664, 0o644), (0o666, 0o666)])
def test_another_group_gets_no_more_than_everybody(
    path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, left: int
) -> None:
    """If the group cannot stay, what it might do goes as well."""

    def refuse(_descriptor: int, _uid: int, _gid: int) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "fchown", refuse)
    _store._replace(str(path), line("a.test", B), _like(path, mode=mode, uid=1, gid=1))
    assert path.stat().st_mode & 0o7777 == left


def test_the_pins_of_a_file_that_is_gone_are_not_written_as_none(path: Path) -> None:
    """What is there cannot be written anew if nothing is there; new pins can."""
    file = PinFile(path)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        file.write()
    assert not path.exists()
    assert leaf(file) == str(A)
    file.write({"a.test": B})
    assert leaf(PinFile(path)) == str(B)


STEPS = ("open", "fchmod", "fsync", "replace", "directory")


@pytest.mark.parametrize("step", STEPS)
def test_a_failure_at_any_step_leaves_one_version(
    path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The old file or the new one is there, whole, and nothing beside it."""
    file = PinFile(path)
    calls: list[str] = []
    real = {name: getattr(os, name) for name in ("open", "fchmod", "fsync", "replace")}

    def failing(name: str) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            calls.append(name)
            is_new = name == "open" and str(args[0]).endswith(".new")
            second = name == "fsync" and calls.count("fsync") == 2
            if is_new if step == "open" else second if step == "directory" else name == step:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real[name](*args, **kwargs)

        return call

    for name in real:
        monkeypatch.setattr(os, name, failing(name))
    with pytest.raises(OSError, match="No space left"):
        file.write({"a.test": B})
    monkeypatch.undo()
    assert os.listdir(path.parent) == ["pins"]
    assert leaf(PinFile(path)) == str(B if step == "directory" else A)


def test_what_is_renamed_is_on_the_disk_and_the_name_after_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is flushed before it gets the name, and the directory afterwards (fsync(2))."""
    file = PinFile(path)
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def sync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        done.append("directory" if status.st_ino == path.parent.stat().st_ino else "file")
        assert done[-1] == "directory" or status.st_size > 0
        fsync(descriptor)

    def rename(old: str, new: str) -> None:
        done.append("rename")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", rename)
    file.write({"a.test": B})
    assert done == ["file", "rename", "directory"]


def test_what_a_crash_has_left_is_in_nobodys_way(path: Path) -> None:
    """A half-written version of somebody who died is thrown away."""
    left = path.with_name(".pins.new")
    left.write_text("half a li")
    PinFile(path).write({"a.test": B})
    assert leaf(PinFile(path)) == str(B)
    assert not left.exists()


def test_a_locked_file_is_waited_for_and_not_for_ever(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two writers take turns; one that never comes to an end is an error."""
    file = PinFile(path)
    held = os.open(path, os.O_RDWR)
    fcntl.flock(held, fcntl.LOCK_EX)
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            os.close(held)

    monkeypatch.setattr(_store.time, "sleep", sleep)
    monkeypatch.setattr(_store, "_await_tick", lambda _status: None)
    file.write({"a.test": B})
    assert len(waited) == 3
    held = os.open(path, os.O_RDWR)
    fcntl.flock(held, fcntl.LOCK_EX)
    monkeypatch.setattr(_store, "_LOCK_TIMEOUT", -1.0)
    with pytest.raises(TimeoutError, match="another process keeps the file locked"):
        file.write({"a.test": C})
    os.close(held)
    assert leaf(file) == str(B)


@pytest.mark.parametrize("gone", [False, True])
def test_who_gets_the_lock_of_a_replaced_file_begins_again(
    path: Path, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    """While one waits for the lock the name may go to another file, or to none."""
    file = PinFile(path)
    flock = fcntl.flock
    once = iter([True])

    def replaced(descriptor: int, operation: int) -> None:
        flock(descriptor, operation)
        if next(once, False):
            _replace(path, line("a.test", A) + line("b.test", B))
            if gone:
                path.unlink()

    monkeypatch.setattr(fcntl, "flock", replaced)
    store = TofuStore(path)
    first = store("c.test")
    assert isinstance(first, FirstUse)
    first.record(C)
    assert set(store) == ({"c.test"} if gone else {"a.test", "b.test", "c.test"})
    assert file.path == store.path


def test_a_forked_child_is_not_locked_out(path: Path) -> None:
    """A lock that another thread held at the fork is no lock in the child."""
    file = PinFile(path)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with file._file._lock:
            held.set()
            assert done.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(10)
    path.write_text(line("a.test", B))
    _store._after_fork()  # in the child it is called by the fork
    try:
        assert leaf(file) == str(B)
    finally:
        done.set()
        thread.join(10)


def test_a_lock_ends_with_its_holder_and_not_with_a_child_of_the_process(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that was forked under the lock has the descriptor, too, and keeps it open."""
    opened: list[int] = []
    real = os.open
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", lambda *args: opened.append(real(*args)) or opened[-1])
        with _store._locked(str(path)):
            inherited = os.dup(opened[0])  # which is what a fork does
    monkeypatch.setattr(_store, "_LOCK_TIMEOUT", -1.0)
    try:
        with _store._locked(str(path)):
            pass
    finally:
        os.close(inherited)


# TofuStore: handshakes ---------------------------------------------------------------------------


def client(pins: object, version: ssl.TLSVersion, trusted: Chain = CHAIN) -> PinnedContext:
    context = PinnedContext(pins=pins)  # type: ignore[arg-type]  # anything a test comes up with
    peers.fix_version(context, version)
    trusted.trust(context)
    return context


def pin(chain: Chain) -> str:
    return certificates.spki_pin(chain.leaf)


def test_a_peer_is_recorded_at_the_first_use_and_held_to_it(
    tmp_path: Path, transport: Transport, tls_version: ssl.TLSVersion
) -> None:
    """The second connection needs the key of the first; another one is refused, with both shown."""
    store = TofuStore(tmp_path / "known")
    context = client(store, tls_version)
    before = datetime.now(timezone.utc).replace(microsecond=0)
    for _ in range(2):
        seen = converse(
            transport,
            context,
            peers.server_context(CHAIN, tls_version),
            inspect=lambda connection: str(getattr(connection, "pin_match", "none there")),
        )
        assert seen.client.data == b"ping"
        assert seen.client.inspected == f"{pin(CHAIN)} at depth 0 (leaf)"
        assert list(store) == ["localhost"]
    first_seen = store["localhost"].first_seen
    assert first_seen is not None
    assert before <= first_seen <= datetime.now(timezone.utc)
    seen = converse(transport, context, peers.server_context(OTHER, tls_version))
    error = seen.client.error
    assert isinstance(error, PinMismatchError)
    assert error.positions[0].pin == pin(OTHER)
    assert error.expected == {"leaf": (pin(CHAIN),)}
    assert error.first_seen == first_seen
    assert f"known by these since its first use, {first_seen:%Y-%m-%d %H:%M:%S} UTC" in str(error)
    assert seen.server.alert in ("bad_certificate", None if transport == "bio" else "-")
    assert seen.server.peer_gave_nothing
    assert store["localhost"] == PinSet({"leaf": pin(CHAIN)})


def test_a_peer_that_fails_is_not_recorded(
    tmp_path: Path, transport: Transport, tls_version: ssl.TLSVersion
) -> None:
    """With trust="ca" a peer of no authority is refused at its first use, and not remembered."""
    store = TofuStore(tmp_path / "known")
    server = peers.server_context(LONELY, tls_version)
    seen = converse(transport, client(store, tls_version), server)
    assert isinstance(seen.client.error, ssl.SSLCertVerificationError)
    assert not isinstance(seen.client.error, PinError)
    assert len(store) == 0
    assert not (tmp_path / "known").exists()


def test_a_key_that_is_not_proved_is_not_recorded(tmp_path: Path) -> None:
    """Until the handshake is complete the peer has not shown that it owns the key (rule 8)."""
    store = TofuStore(tmp_path / "known", trust="pins")
    context = client(store, ssl.TLSVersion.TLSv1_2)
    ours = peers.MemoryPeer(context, server_hostname="localhost")
    theirs = peers.MemoryPeer(
        peers.server_context(LONELY, ssl.TLSVersion.TLSv1_2), server_side=True
    )
    ours.step()
    ours.flush(theirs)
    theirs.step()
    theirs.flush(ours)
    ours.step()  # the certificate has been judged, and Finished not seen
    assert ours.observation.error is None
    assert len(store) == 0


def test_any_certificate_will_do_if_the_pin_is_the_trust(
    tmp_path: Path, transport: Transport, tls_version: ssl.TLSVersion
) -> None:
    """trust="pins" is first use as ssh has it; the line in the file says so."""
    path = tmp_path / "known"
    context = client(TofuStore(path, trust="pins"), tls_version)
    seen = converse(transport, context, peers.server_context(LONELY, tls_version))
    assert seen.client.data == b"ping"
    assert " trust=pins first-seen=" in path.read_text()
    again = client(TofuStore(path, mode="strict"), tls_version)
    seen = converse(transport, again, peers.server_context(LONELY, tls_version))
    assert seen.client.data == b"ping"
    seen = converse(transport, again, peers.server_context(CHAIN, tls_version))
    assert isinstance(seen.client.error, PinMismatchError)


def test_expiry_is_forgiven_at_the_first_use_only_if_that_was_said(tmp_path: Path) -> None:
    """check_expiry=False goes for the first use and for those after it."""
    expired = make_chain(1, validity={0: "expired"})
    server = peers.server_context(expired, ssl.TLSVersion.TLSv1_3)
    strict = TofuStore(tmp_path / "strict", trust="pins")
    seen = converse("bio", client(strict, ssl.TLSVersion.TLSv1_3), server)
    assert isinstance(seen.client.error, ssl.SSLCertVerificationError)
    store = TofuStore(tmp_path / "known", trust="pins", check_expiry=False)
    for _ in range(2):
        seen = converse("bio", client(store, ssl.TLSVersion.TLSv1_3), server)
        assert seen.client.data == b"ping"


def test_an_unknown_peer_is_refused_in_strict_mode(
    tmp_path: Path, transport: Transport, tls_version: ssl.TLSVersion
) -> None:
    """mode="strict" learns nothing."""
    store = TofuStore(tmp_path / "known", mode="strict")
    server = peers.server_context(CHAIN, tls_version)
    seen = converse(transport, client(store, tls_version), server)
    assert isinstance(seen.client.error, UnpinnedPeerError)
    assert "'localhost' is not in " in str(seen.client.error)
    assert not seen.server.handshake_completed
    assert len(store) == 0


def test_a_peer_without_a_name_is_refused(tmp_path: Path) -> None:
    """There is nothing to remember it by."""
    store = TofuStore(tmp_path / "known")
    with pytest.raises(UnpinnedPeerError, match=r"store\.peer\(name\)"):
        store(None)
    with pytest.raises(UnpinnedPeerError, match="no pins can be found for this peer"):
        store("a..b")


def test_a_client_can_be_met_for_the_first_time(
    tmp_path: Path, tls_version: ssl.TLSVersion
) -> None:
    """A server remembers its clients under names that it gives them itself."""
    store = TofuStore(tmp_path / "known", trust="pins")
    alice, mallory = (make_chain(1, purpose="client", pool=pool) for pool in (4, 5))
    context = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=store.peer("10.0.0.7:1234"))
    peers.fix_version(context, tls_version)
    CHAIN.configure(context)
    for chain, refused in ((alice, False), (alice, False), (mallory, True)):
        visitor = peers.client_context(CHAIN, tls_version, identity=chain)
        seen = converse("bio", visitor, context)
        assert isinstance(seen.server.error, PinMismatchError) == refused
        assert (seen.server.data == b"ping") != refused
    assert {name: store[name] for name in store} == {
        "10.0.0.7:1234": PinSet({"leaf": pin(alice)}, trust="pins")
    }


def test_a_client_that_comes_later_cannot_be_met_for_the_first_time(tmp_path: Path) -> None:
    """With post-handshake authentication there is no certificate to remember."""
    store = TofuStore(tmp_path / "known", trust="pins")
    context = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=store.peer("a"))
    context.post_handshake_auth = True
    CHAIN.configure(context)
    seen = converse("bio", peers.client_context(CHAIN), context)
    assert isinstance(seen.server.error, PinError)
    assert "switch post_handshake_auth off" in str(seen.server.error)


def test_a_peer_that_cannot_be_recorded_is_refused(
    tmp_path: Path, transport: Transport, tls_version: ssl.TLSVersion
) -> None:
    """Rather no connection than one that the next cannot be held to."""
    store = TofuStore(tmp_path / "none" / "known")
    seen = converse(
        transport, client(store, tls_version), peers.server_context(CHAIN, tls_version)
    )
    assert isinstance(seen.client.error, PinError)
    assert "could not be recorded: FileNotFoundError" in str(seen.client.error)
    assert seen.server.data == b""


def test_a_key_that_cannot_be_read_cannot_be_recorded(
    tmp_path: Path,
    transport: Transport,
    tls_version: ssl.TLSVersion,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A first use is a mismatch then: there is nothing to hold the peer to."""

    def unreadable(_der: bytes) -> bytes:
        raise ValueError("not for us")

    store = TofuStore(tmp_path / "known")
    server = peers.server_context(CHAIN, tls_version)
    monkeypatch.setattr("pinsock._chain.spki", unreadable)
    seen = converse(transport, client(store, tls_version), server)
    assert isinstance(seen.client.error, PinMismatchError)
    assert seen.client.error.expected == {}
    assert seen.server.peer_gave_nothing
    assert len(store) == 0
    assert caplog.messages == []  # there were no pins that it could have failed


def test_somebody_faster_with_another_key_is_believed(
    tmp_path: Path,
    transport: Transport,
    tls_version: ssl.TLSVersion,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If two meet a peer for the first time and see different keys, the second is refused."""
    store = TofuStore(tmp_path / "known")
    other = TofuStore(tmp_path / "known")
    record = TofuStore._record

    def late(self: TofuStore, name: str, pin: Pin) -> PinSet:
        record(other, name, A)
        return record(self, name, pin)

    monkeypatch.setattr(TofuStore, "_record", late)
    seen = converse(
        transport, client(store, tls_version), peers.server_context(CHAIN, tls_version)
    )
    assert isinstance(seen.client.error, PinMismatchError)
    assert seen.client.error.expected == {"leaf": (str(A),)}
    assert seen.server.data == b""
    assert store["localhost"] == PinSet({"leaf": A})


@pytest.mark.parametrize(
    ("option", "error"), [("", PinExpiredError), (" after-expiry=unpin", PinError)]
)
def test_pins_that_came_in_the_meantime_and_have_expired_are_no_pins(
    tmp_path: Path, transport: Transport, tls_version: ssl.TLSVersion, option: str,
    error: type[PinError], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """They are not taken for good, nor is the peer for an ordinary one that was verified."""
    path = tmp_path / "known"
    store = TofuStore(path)
    record = TofuStore._record

    def late(self: TofuStore, name: str, pin: Pin) -> PinSet:
        path.write_text(f"{name} leaf {pin} expires=2020-01-01{option}\n")
        return record(self, name, pin)

    monkeypatch.setattr(TofuStore, "_record", late)
    seen = converse(
        transport, client(store, tls_version), peers.server_context(CHAIN, tls_version)
    )
    assert type(seen.client.error) is error
    assert seen.server.data == b""


# TofuStore: the file -----------------------------------------------------------------------------


def meet(store: TofuStore, name: str, pin: Pin) -> PinSet:
    """What a connection does that finds this pin."""
    found: object = store.peer(name)(None)
    return found.record(pin) if isinstance(found, FirstUse) else store.peer(name)(None)


def test_peers_can_be_listed_and_forgotten(tmp_path: Path) -> None:
    """A store is iterated over, looked into, and peers are removed from it."""
    path = tmp_path / "known"
    store = TofuStore(str(path))
    meet(store, "A.test", A)
    meet(store, "a.test:8443", B)
    meet(store, "[::1]:443", C)
    path.write_text(path.read_text() + "# by hand\n" + line("*.b.test", C))
    assert list(store) == ["a.test", "a.test:8443", "[::1]:443", "*.b.test"]
    assert len(store) == 4
    assert "a.test" in store
    assert "b.test" not in store
    assert store["a.test:8443"] == PinSet({"leaf": B})
    assert store("x.b.test") == PinSet({"leaf": C})
    assert store.path == str(path)
    assert repr(store) == f"TofuStore('{path}', mode='first-use')"
    assert "A.test." in store
    assert store["A.test."] == PinSet({"leaf": A})
    assert "no name" not in store
    assert 3 not in store
    store.remove("A.test.")
    store.remove("*.b.test")
    with pytest.raises(KeyError, match=r"a\.test"):
        store.remove("a.test")
    assert list(store) == ["a.test:8443", "[::1]:443"]
    assert path.read_text().startswith(HEADING + "\n")
    assert path.read_text().endswith("# by hand\n")
    assert "\n\n" not in path.read_text()
    path.unlink()
    assert list(store) == []
    assert meet(store, "a.test", C) == PinSet({"leaf": C})


def test_wrong_arguments_of_a_store_are_named(tmp_path: Path) -> None:
    """What a store cannot be made of is said, with what would be right."""
    with pytest.raises(ValueError, match="mode is 'first-use' or 'strict', not 'x'"):
        TofuStore(tmp_path / "known", mode="x")  # type: ignore[arg-type]  # that is it
    with pytest.raises(ValueError, match="trust is 'ca' or 'pins'"):
        TofuStore(tmp_path / "known", trust="x")  # type: ignore[arg-type]  # that is it
    with pytest.raises(ValueError, match="check_expiry=False needs trust='pins'"):
        TofuStore(tmp_path / "known", check_expiry=False)
    with pytest.raises(PinSyntaxError):
        TofuStore(tmp_path / "known").peer("a..b")
    (tmp_path / "known").write_text("a leaf\n")
    with pytest.raises(PinSyntaxError, match="known, line 1"):
        TofuStore(tmp_path / "known")


def test_a_broken_store_records_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Peers that are known stay so; new ones are refused until the file can be read."""
    path = tmp_path / "known"
    store = TofuStore(path)
    meet(store, "a.test", A)
    good = path.read_text()
    path.write_text(good + "b.test leaf\n")
    assert store("a.test") == PinSet({"leaf": A})
    with pytest.raises(PinSyntaxError, match="line 3"):
        meet(store, "c.test", A)
    assert path.read_text() == good + "b.test leaf\n"
    assert len(caplog.records) == 1


def test_a_store_in_the_middle_of_being_written_over_knows_its_peers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Empty, it would take any key of any peer; one that has lost its last peer is believed."""
    path = tmp_path / "known"
    path.write_text(line("a.test", A))
    store = TofuStore(path)
    path.write_text("")
    assert store("a.test") == PinSet({"leaf": A})
    assert "no line is left of it" in caplog.text
    path.write_text(line("a.test", A))
    TofuStore(path).remove("a.test")
    assert path.read_text() == HEADING + "\n"
    assert list(store) == []


def test_a_line_without_an_end_is_not_run_into(tmp_path: Path) -> None:
    """A file may have been edited by somebody whose editor does not end the last line."""
    path = tmp_path / "known"
    path.write_text(line("a.test", A).rstrip("\n"))
    store = TofuStore(path)
    meet(store, "b.test", B)
    assert list(store) == ["a.test", "b.test"]


# Several processes -------------------------------------------------------------------------------

_WORKER = """\
import sys
from pinsock import Pin, TofuStore
from pinsock._pins import FirstUse

store = TofuStore(sys.argv[1])
print("ready", flush=True)
for text in sys.stdin:
    name, pin = text.split()
    found = store.peer(name)(None)
    pins = found.record(Pin.parse(pin)) if isinstance(found, FirstUse) else found
    print(pins.positions["leaf"][0], flush=True)
"""


class Worker:
    """A process of its own with the store; it is told names and pins, and answers with pins."""

    def __init__(self, path: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _WORKER, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(_store.__file__).parent.parent)},
        )
        assert self.answer() == "ready"

    def tell(self, name: str, pin: Pin) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{name} {pin}\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self, kill: bool = False) -> None:
        if kill:
            self.process.send_signal(signal.SIGKILL)
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            with suppress(BrokenPipeError):
                stream.close()
        self.process.wait(30)


def test_processes_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    """Many meet the same peers at once: each peer is recorded once, and all agree on the key."""
    path = tmp_path / "known"
    names = [f"h{number}.test" for number in range(15)]
    with ExitStack() as stack:
        workers = [Worker(path) for _ in range(4)]
        for worker in workers:
            stack.callback(worker.end)
        for number, worker in enumerate(workers):
            for name in names:
                worker.tell(name, Pin("spki", "sha256", bytes([number]) * 32))
        answers = [[worker.answer() for _ in names] for worker in workers]
    entries = read_lines(path.read_text(), "known", ports=True)
    assert sorted(entries) == sorted(names)
    for name, *said in zip(names, *answers, strict=True):
        (found,) = entries[name].lines
        assert set(said) == {found.pin}


class StoreMachine(RuleBasedStateMachine):
    """A store that several processes use, some of which are killed, against a dictionary."""

    numbers = itertools.count()

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[str, str] = {}
        self.workers: list[Worker] = []

    @initialize()
    def begin(self) -> None:
        self.path = self.directory / f"known{next(self.numbers)}"
        self.store = TofuStore(self.path)
        self.workers = [Worker(self.path) for _ in range(2)]

    directory: Path

    names = st.sampled_from(["a.test", "b.test:8443", "[::1]:443", "c.test"])
    pins = st.sampled_from([A, B, C])

    @rule(name=names, pins=st.tuples(pins, pins))
    def meet_at_once(self, name: str, pins: tuple[Pin, Pin]) -> None:
        """Two processes meet one peer at the same time; both end up with the same key."""
        for worker, pin in zip(self.workers, pins, strict=True):
            worker.tell(name, pin)
        answers = {worker.answer() for worker in self.workers}
        if name in self.known:
            assert answers == {self.known[name]}
        else:
            (answer,) = answers
            assert answer in map(str, pins)
            self.known[name] = answer

    @rule(name=names)
    def remove(self, name: str) -> None:
        """What is forgotten is forgotten by all."""
        if name in self.known:
            self.store.remove(name)
            del self.known[name]
        else:
            with pytest.raises(KeyError):
                self.store.remove(name)

    @precondition(lambda self: len(self.workers) == 2)
    @rule(name=names, pin=pins, delay=st.integers(0, 3000))
    def kill_in_the_middle(self, name: str, pin: Pin, delay: int) -> None:
        """A process that dies has recorded a peer or has not, and holds up nobody."""
        worker = self.workers.pop()
        worker.tell(name, pin)
        for _ in range(delay):  # wherever it may be by then
            pass
        worker.end(kill=True)
        found = {each: str(self.store[each].positions["leaf"][0]) for each in self.store}
        if name not in self.known and name in found:
            assert found[name] == str(pin)
            self.known[name] = str(pin)
        self.workers.append(Worker(self.path))

    @invariant()
    def they_agree(self) -> None:
        """What the file says is what has happened."""
        if self.workers:
            found = {name: str(self.store[name].positions["leaf"][0]) for name in self.store}
            assert found == self.known

    def teardown(self) -> None:
        for worker in self.workers:
            worker.end()


def test_a_store_does_what_a_dictionary_does(tmp_path: Path) -> None:
    """Under concurrent processes and kills, the store is what a plain dictionary would be."""

    class Machine(StoreMachine):
        directory = tmp_path

    hypothesis.stateful.run_state_machine_as_test(  # type: ignore[no-untyped-call]  # hypothesis has no annotation there
        Machine,
        settings=hypothesis.settings(
            max_examples=max(4, hypothesis.settings().max_examples // 8),
            stateful_step_count=12,
            deadline=None,
        ),
    )


def test_a_writer_that_is_killed_leaves_a_whole_file(tmp_path: Path) -> None:
    """Whenever a process dies that rewrites a pin file, the file is one of its versions."""
    path = tmp_path / "pins"
    versions = {letter: {f"{letter}{i}.test": A for i in range(300)} for letter in "xy"}
    path.write_text("")
    PinFile(path).write(versions["x"])
    program = (
        "import sys\n"
        "from pinsock import PinFile\n"
        "file = PinFile(sys.argv[1])\n"
        f"versions = [{{f'{{c}}{{i}}.test': {str(A)!r} for i in range(300)}} for c in 'yx']\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    for version in versions:\n"
        "        file.write(version)\n"
        "        print('written', flush=True)\n"
    )
    for _ in range(8):
        with subprocess.Popen(
            [sys.executable, "-c", program, str(path)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(_store.__file__).parent.parent)},
        ) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
            assert writer.stdout.readline() == "written\n"
            writer.send_signal(signal.SIGKILL)
        hosts = set(PinFile(path).patterns)
        assert hosts in (set(versions["x"]), set(versions["y"]))
