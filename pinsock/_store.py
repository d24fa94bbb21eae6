"""``PinFile`` and ``TofuStore``: pins in a text file, which other programs change while we run.

A file is looked at by one ``stat`` before each handshake, and read when it has changed.  It is
replaced, never written over: whoever reads it finds the old version or the new one, also after a
crash.

Facts
-----
* Time stamps of files are taken from a clock that ticks every few milliseconds.  Two changes within
  a tick leave the same stamp, and if the file has the same size no ``stat`` tells them apart.  So
  whoever has read a file that is as young as that waits for the next tick, and looks again: then
  every later change has a later stamp.  It is ``st_ctime`` that counts; the other can be set.
* ``rename`` is atomic, but durable only when the directory has been written (fsync(2)); and what
  is renamed has to be on the disk before that, or a crash leaves an empty file.
* A lock (flock(2)) belongs to the file and not to its name.  Who waits for it may find that the
  name has been given to another file in the meantime, and must begin again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Literal, Union

from pinsock._errors import PinSyntaxError, UnpinnedPeerError
from pinsock._hosts import HostPins, Unpinned, check_unpinned, find, look_up
from pinsock._lines import (
    HEADING,
    Entry,
    canonical_peer,
    canonical_peer_or_pattern,
    format_lines,
    host_of_line,
    read_lines,
)
from pinsock._pins import FirstUse, Pin, PinSet, PinsLike
from pinsock._reports import ERROR, log

if TYPE_CHECKING:
    from _typeshed import StrPath

__all__ = ["PinFile", "TofuStore"]

# Nanoseconds: longer than the tick of any clock that time stamps of files are taken from.
_TICK = 20_000_000
_LOCK_TIMEOUT = 10.0  # seconds
_LOCK_INTERVAL = 0.005
_MAX_READS = 10  # of a file that changes while it is read

_Signature = tuple[int, int, int, int, int]
_ABSENT: _Signature = (0, 0, 0, 0, 0)


def _signature(status: os.stat_result) -> _Signature:
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def _await_tick(status: os.stat_result) -> None:
    """Wait until a change to the file is sure to leave another time stamp."""
    young = time.time_ns() - status.st_ctime_ns
    if 0 <= young < _TICK:
        time.sleep((_TICK - young) / 1e9)


def _open_to_read(path: str, flags: int) -> int:
    # A pipe that nobody writes to would be waited for, and with it every handshake.
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "this is no regular file", path)


def _read(path: str) -> tuple[_Signature, bytes]:
    """Read a whole version of a file."""
    for _ in range(_MAX_READS):
        with open(path, "rb", opener=_open_to_read) as file:
            before = os.fstat(file.fileno())
            data = file.read()
            _await_tick(before)
            after = os.fstat(file.fileno())
        if _signature(before) == _signature(after):
            return _signature(after), data
    raise OSError(errno.EBUSY, "the file never stops changing", path)


def _decode(data: bytes, path: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise PinSyntaxError(f"{path}, line {line}: this is not UTF-8") from None


def _is_at(path: str, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(status, os.stat(path))
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _locked(path: str, *, make: bool = True) -> Iterator[os.stat_result]:
    """Keep all others who mean to change a file out; by default, make it if it is not there."""
    deadline = time.monotonic() + _LOCK_TIMEOUT
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_CREAT * make
    while True:
        descriptor = os.open(path, flags, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError(
                        errno.ETIMEDOUT, "another process keeps the file locked", path
                    ) from None
                time.sleep(_LOCK_INTERVAL)
                continue
            status = os.fstat(descriptor)
            if _is_at(path, status):
                yield status
                return
        finally:
            # To close it is not enough: the lock is also that of a child forked in the meantime.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)


def _hand_over(descriptor: int, status: os.stat_result) -> None:
    """Give a new file the owner, the group and the mode of the one it replaces."""
    mode = stat.S_IMODE(status.st_mode)
    new = os.fstat(descriptor)
    if new.st_uid != status.st_uid:
        # Only root may give files away.  Others could write to the file, and so its group, or
        # everybody, may do so again.
        with contextlib.suppress(OSError):
            os.fchown(descriptor, status.st_uid, -1)
    if new.st_gid != status.st_gid:
        try:
            os.fchown(descriptor, -1, status.st_gid)
        except OSError:
            # What the old group might do is not for another one: that may do what all others may.
            mode = mode & ~stat.S_IRWXG | (mode & stat.S_IRWXO) << 3
    os.fchmod(descriptor, mode)


def _replace(path: str, text: str, old: os.stat_result) -> None:
    """Put a new file in the place of a locked one; a crash leaves the one or the other."""
    directory, name = os.path.split(path)
    # One name will do, under the lock; what a crash has left of it is in the way.
    new = os.path.join(directory, f".{name}.new")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new)
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(text.encode())
            file.flush()
            _hand_over(descriptor, old)
            os.fsync(descriptor)
        os.replace(new, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(new)
        raise
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lines_of(text: str) -> list[str]:
    lines = text.split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def _rewrite(text: str, old: Mapping[str, Entry], new: Mapping[str, PinSet]) -> str:
    """The text of a file that says ``new``, with as few lines changed as can be.

    Comments stay, and so does every line of a host whose pins stay.
    """
    written: list[str] = []
    done: set[str] = set()
    for line in _lines_of(text):
        host = host_of_line(line)
        pins = None if host is None else new.get(host)
        if host is None or (pins is not None and host in old and pins == old[host].pin_set()):
            written.append(line)
        elif pins is not None and host not in done:
            written += format_lines(host, pins)
        if host is not None:
            done.add(host)
    for host, pins in new.items():
        if host not in done:
            written += format_lines(host, pins)
    return "".join(f"{line}\n" for line in written)


class _Watched:
    """What a pin file says at the moment, and the last good version of it.

    Args:
        path: the file.
        ports: whether a host may be ``host:port``.
        missing: what to do without the file: take it for an empty one, or raise.
    """

    def __init__(self, path: StrPath, *, ports: bool, missing: bool) -> None:
        given = os.fspath(path)
        if not isinstance(given, str):
            raise TypeError(f"a path is a str or a Path, not {type(given).__name__}")
        # Also after a chdir, and in the place that a link points to: a link is not to be replaced.
        self.path = os.path.abspath(given)
        self._ports = ports
        self._missing = missing
        self._seen: _Signature | None = None
        # Of which version, if of one, was said what; None since all is well.
        self._said: tuple[_Signature | None, str] | None = None
        self.entries: dict[str, Entry] = {}
        self.unlock()
        _files.add(self)
        self.reload()

    def unlock(self) -> None:
        """Make a new lock: in a forked child, one that another thread held stays locked."""
        self._lock = threading.RLock()

    def reload(self) -> None:
        """Read the file; the entries stay as they are if that fails.

        Raises:
            OSError: it cannot be read.
            PinSyntaxError: a line cannot be read.
        """
        with self._lock:
            signature, data = self._load()
            self._take(signature, self._parse(data))

    def _load(self) -> tuple[_Signature, bytes]:
        try:
            return _read(self.path)
        except FileNotFoundError:
            if not self._missing:
                raise
            return _ABSENT, b""

    def _parse(self, data: bytes) -> dict[str, Entry]:
        return read_lines(_decode(data, self.path), self.path, ports=self._ports)

    def _take(self, signature: _Signature, entries: dict[str, Entry]) -> None:
        # In this order: who finds the new signature, without the lock, goes on to the entries.
        self.entries = entries
        self._seen = signature
        self._said = None

    def _look(self) -> _Signature | None:
        try:
            return _signature(os.stat(self.path))
        except FileNotFoundError:
            return _ABSENT
        except OSError:
            return None

    def current(self) -> dict[str, Entry]:
        """What the file says now, or said when it could last be read; one ``stat``, as a rule."""
        if self._look() != self._seen:
            with self._lock:
                # Another thread may have been here in the meantime, and what this one has seen
                # may be older than what that one has read.
                signature = self._look()
                if signature != self._seen:
                    self._try_reload(signature)
        return self.entries

    def _try_reload(self, signature: _Signature | None) -> None:
        try:
            signature, data = self._load()
            entries = self._parse(data)
            # As a file is in the middle of being written over.  (What we have written ourselves
            # has a heading.)
            cut_off = not data and signature != _ABSENT if self._missing else not entries
            if self.entries and cut_off:
                raise PinSyntaxError(f"{self.path}: no line is left of it")
        except OSError as error:
            # That a file is gone is over when it is there.  What else there may be (too many open
            # files, a server that does not answer) leaves no mark on it, and is tried again.
            self._seen = signature if signature == _ABSENT else None
            self._complain(None, f"{self.path}: {error.strerror}")
        except PinSyntaxError as error:
            self._seen = signature
            self._complain(signature, str(error))
        else:
            self._take(signature, entries)

    def _complain(self, signature: _Signature | None, what: str) -> None:
        if self._said != (signature, what):  # once is enough
            self._said = signature, what
            log(ERROR, "the pins stay as they were: %s", what)

    @contextlib.contextmanager
    def changing(self, *, make: bool = True) -> Iterator[Callable[[Callable[[str], str]], None]]:
        """Lock the file; what is yielded takes a function from its old text to the new one.

        Args:
            make: make the file if it is not there.
        """
        with self._lock:
            # Where a link points to: the link itself stays.
            path = os.path.realpath(self.path)
            with _locked(path, make=make) as status:
                self.reload()

                def change(rewrite: Callable[[str], str]) -> None:
                    text = rewrite(_decode(_read(path)[1], path))
                    # What cannot be read is not to be written.
                    read_lines(text, self.path, ports=self._ports)
                    _replace(path, text, status)
                    self.reload()

                yield change


_files: weakref.WeakSet[_Watched] = weakref.WeakSet()


def _after_fork() -> None:
    for file in _files:
        file.unlock()


os.register_at_fork(after_in_child=_after_fork)


class PinFile:
    """Pins by host from a text file, which may change while the program runs.

    A line is ``HOST POSITION PIN [OPTION ...]``; ``#`` begins a comment.  Lines of one host make
    one :class:`PinSet`.  Hosts are patterns, as for :class:`HostPins`; options are ``report-only``,
    ``trust=pins``, ``check-expiry=no``, ``expires=YYYY-MM-DD`` and ``after-expiry=unpin``, with the
    meaning that they have for ``PinSet``.

    When the file has changed (replaced, rewritten or touched) the next handshake goes by what it
    says then.  A version that cannot be read changes nothing; it is said once, to the logger
    ``pinsock``.  Each handshake costs one ``stat``.

    Args:
        path: the file, UTF-8.
        unpinned: as for :class:`HostPins`.

    Raises:
        OSError: the file cannot be read.
        PinSyntaxError: a line cannot be read; the message has file, line and reason.
    """

    __slots__ = ("_file", "_unpinned")

    def __init__(self, path: StrPath, *, unpinned: Unpinned = "reject") -> None:
        check_unpinned(unpinned)
        self._unpinned = unpinned
        self._file = _Watched(path, ports=False, missing=False)

    @property
    def path(self) -> str:
        """The file."""
        return self._file.path

    @property
    def patterns(self) -> Mapping[str, PinSet]:
        """The pin sets by canonical pattern, as the file has them now."""
        return {host: entry.pin_set() for host, entry in self._file.current().items()}

    def __call__(self, server_hostname: str | None) -> PinSet | None:
        """Return the pin set of a host; as :meth:`HostPins.__call__` does.

        Raises:
            UnpinnedPeerError: the host has no pins, or its name has no canonical form.
        """
        entry = look_up(
            self._file.current(),
            server_hostname,
            self._unpinned,
            f"add a line for it to {self.path}, or say PinFile(..., unpinned='allow')",
        )
        return None if entry is None else entry.pin_set()

    def reload(self) -> None:
        """Read the file now.

        Raises:
            OSError: it cannot be read; the pins stay as they were.
            PinSyntaxError: a line cannot be read; the pins stay as they were.
        """
        self._file.reload()

    def write(
        self, pins: HostPins | Mapping[str, Union[PinSet, PinsLike]] | None = None
    ) -> None:
        """Write pins to the file, for good: a crash leaves the old version or the new one.

        Comments stay, and so do the lines of hosts whose pins do not change.

        Args:
            pins: by host pattern; the file says these and no others afterwards.  None writes the
                pins that are there, all lines in the form that this library has for them.

        Raises:
            OSError: the file cannot be read or written, or stays locked for 10 seconds.
            PinSyntaxError, ValueError: the file, or a pin, cannot be read.
        """
        if pins is not None and not isinstance(pins, HostPins):
            pins = HostPins(pins)
        # Nothing is made of nothing: the pins of a file that is gone are not written as none.
        with self._file.changing(make=pins is not None) as change:
            old = self._file.entries
            if pins is None:
                kept = {host: entry.pin_set() for host, entry in old.items()}
                change(lambda text: _rewrite(text, {}, kept))
            else:
                new = pins.patterns
                change(lambda text: _rewrite(text or HEADING, old, new))

    def __repr__(self) -> str:
        said = "" if self._unpinned == "reject" else f", unpinned={self._unpinned!r}"
        return f"PinFile({self.path!r}{said})"


class TofuStore:
    """Trust on first use: a file of peers, each with the key that it was first seen with.

    As the ``pins`` of a context: a peer that is not in the store is accepted, and the key of its
    leaf is recorded when the handshake is complete and before a byte of data passes; one that is
    in the store has to have the key that it had.  The first connection is the one that an impostor
    has to catch; if you can know the key beforehand, pin it.

    The file has the form of a :class:`PinFile`.  Any number of processes may share it.  A host in
    it may be ``host:port``, which is found by :meth:`peer` alone: a context knows the host only.

    Args:
        path: the file; made at the first use if it is not there.
        mode: ``"first-use"``, or ``"strict"``: peers that are not in the store are refused with
            :exc:`UnpinnedPeerError`.
        trust: ``"ca"``: a peer seen for the first time has to have a certificate from an authority
            all the same; ``"pins"``: any certificate will do, as with ssh.
        check_expiry: False forgives expired certificates; only with ``trust="pins"``.

    Raises:
        OSError: the file cannot be read.
        PinSyntaxError: a line cannot be read; the message has file, line and reason.
        ValueError: switches that do not go together.
    """

    __slots__ = ("_check_expiry", "_file", "_mode", "_trust")

    def __init__(
        self,
        path: StrPath,
        *,
        mode: Literal["first-use", "strict"] = "first-use",
        trust: Literal["ca", "pins"] = "ca",
        check_expiry: bool = True,
    ) -> None:
        if mode not in ("first-use", "strict"):
            raise ValueError(f"mode is 'first-use' or 'strict', not {mode!r}")
        # They are checked where they always are.
        PinSet(Pin("spki", "sha256", bytes(32)), trust=trust, check_expiry=check_expiry)
        self._mode = mode
        self._trust = trust
        self._check_expiry = check_expiry
        self._file = _Watched(path, ports=True, missing=True)

    @property
    def path(self) -> str:
        """The file."""
        return self._file.path

    def __call__(self, server_hostname: str | None) -> PinSet:
        """Return what a peer is held to: its pins, or whatever it comes with the first time.

        Raises:
            UnpinnedPeerError: the peer is not known, and the mode is ``"strict"``; or it has no
                name.
        """
        if server_hostname is None:
            raise UnpinnedPeerError(
                "trust on first use needs a name for the peer: pass server_hostname, or "
                "pins=store.peer(name) to wrap_socket"
            )
        try:
            name = canonical_peer(server_hostname)
        except PinSyntaxError as error:
            raise UnpinnedPeerError(
                f"no pins can be found for this peer: {error}", server_hostname=server_hostname
            ) from None
        entry = find(self._file.current(), name)
        if entry is not None:
            return entry.pin_set()
        if self._mode == "strict":
            raise UnpinnedPeerError(
                f"{name!r} is not in {self.path}, and unknown peers are refused: add a line for "
                "it, or connect once with mode='first-use'",
                server_hostname=server_hostname,
            )
        # It goes where a pin set goes, through the engine, which knows it for what it is.
        first: object = FirstUse(
            self._trust, self._check_expiry, lambda pin: self._record(name, pin)
        )
        return first  # type: ignore[return-value]  # not said to users, who could do nothing with it

    def peer(self, name: str) -> Callable[[str | None], PinSet]:
        """Return a source of pins for one peer, whatever ``server_hostname`` is.

        Args:
            name: ``host`` or ``host:port``; an IPv6 address with a port stands in brackets.

        Raises:
            PinSyntaxError: it is neither.
        """
        canonical = canonical_peer(name)
        return lambda _server_hostname: self(canonical)

    def _record(self, name: str, pin: Pin) -> PinSet:
        """Record a peer's pin, if nobody has by now; return what the peer is held to."""
        with self._file.changing() as change:
            known = find(self._file.entries, name)
            if known is not None:
                return known.pin_set()
            pins = PinSet(
                {"leaf": pin},
                trust=self._trust,
                check_expiry=self._check_expiry,
                first_seen=datetime.now(timezone.utc),
            )
            change(lambda text: _append(text, format_lines(name, pins)))
            return pins

    def remove(self, name: str) -> None:
        """Forget a peer: the next connection is its first again.

        Raises:
            KeyError: it is not in the store.
            OSError: the file cannot be written, or stays locked for 10 seconds.
        """
        name = canonical_peer_or_pattern(name)
        with self._file.changing() as change:
            if name not in self._file.entries:
                raise KeyError(name)
            change(lambda text: _drop(text, name))

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the peers that are known now."""
        return iter(list(self._file.current()))

    def __len__(self) -> int:
        return len(self._file.current())

    def __contains__(self, name: object) -> bool:
        try:
            return isinstance(name, str) and (
                canonical_peer_or_pattern(name) in self._file.current()
            )
        except PinSyntaxError:
            return False

    def __getitem__(self, name: str) -> PinSet:
        """Return the pin set of a peer; its ``first_seen`` says since when it is known.

        Raises:
            KeyError: it is not in the store.
        """
        return self._file.current()[canonical_peer_or_pattern(name)].pin_set()

    def __repr__(self) -> str:
        return f"TofuStore({self.path!r}, mode={self._mode!r})"


def _append(text: str, lines: Iterable[str]) -> str:
    old = _lines_of(text) or [HEADING]
    return "".join(f"{line}\n" for line in (*old, *lines))


def _drop(text: str, name: str) -> str:
    kept = [line for line in _lines_of(text) if host_of_line(line) != name] or [HEADING]
    return "".join(f"{line}\n" for line in kept)
