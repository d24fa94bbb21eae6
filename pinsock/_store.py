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
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Literal, Union

from pinsock._errors import PinSyntaxError, UnpinnedPeerError
from pinsock._hosts import HostPins, Unpinned, check_unpinned, find, look_up
from pinsock._lines import HEADING, Entry, canonical_peer, format_lines, host_of_line, read_lines
from pinsock._pins import FirstUse, Pin, PinSet, PinsLike

if TYPE_CHECKING:
    from _typeshed import StrPath

__all__ = ["PinFile", "TofuStore"]

_log = logging.getLogger("pinsock")

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


def _read(path: str) -> tuple[_Signature, str]:
    """Read a whole version of a text file."""
    for _ in range(_MAX_READS):
        with open(path, "rb") as file:
            before = os.fstat(file.fileno())
            data = file.read()
            _await_tick(before)
            after = os.fstat(file.fileno())
        if _signature(before) == _signature(after):
            try:
                return _signature(after), data.decode("utf-8-sig")
            except UnicodeDecodeError as error:
                line = data.count(b"\n", 0, error.start) + 1
                raise PinSyntaxError(f"{path}, line {line}: this is not UTF-8") from None
    raise OSError(errno.EBUSY, "the file never stops changing", path)


def _is_at(path: str, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(status, os.stat(path))
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _locked(path: str) -> Iterator[os.stat_result]:
    """Keep all others who mean to change a file out; it is made if it is not there."""
    deadline = time.monotonic() + _LOCK_TIMEOUT
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
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
            os.close(descriptor)


def _replace(path: str, text: str, mode: int) -> None:
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
            os.fchmod(descriptor, mode & 0o7777)
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
            self._seen, self.entries = self._load()

    def _load(self) -> tuple[_Signature, dict[str, Entry]]:
        try:
            signature, text = _read(self.path)
        except FileNotFoundError:
            if not self._missing:
                raise
            signature, text = _ABSENT, ""
        return signature, read_lines(text, self.path, ports=self._ports)

    def current(self) -> dict[str, Entry]:
        """What the file says now, or said when it could last be read; one ``stat``, as a rule."""
        try:
            signature: _Signature | None = _signature(os.stat(self.path))
        except FileNotFoundError:
            signature = _ABSENT
        except OSError:
            signature = None
        if signature != self._seen:
            with self._lock:
                # Another thread may have been here in the meantime.
                if signature != self._seen:
                    self._try_reload(signature)
        return self.entries

    def _try_reload(self, signature: _Signature | None) -> None:
        try:
            seen, entries = self._load()
            if self.entries and not entries and not self._missing:
                # As a file is in the middle of being written over.
                raise PinSyntaxError(f"{self.path}: no line is left of it")
        except (OSError, PinSyntaxError) as error:
            said = f"{self.path}: {error.strerror}" if isinstance(error, OSError) else str(error)
            _log.error("the pins stay as they were: %s", said)
            self._seen = signature  # once is enough
        else:
            self._seen, self.entries = seen, entries

    @contextlib.contextmanager
    def changing(self) -> Iterator[Callable[[Callable[[str], str]], None]]:
        """Lock the file; what is yielded takes a function from its old text to the new one."""
        with self._lock:
            # Where a link points to: the link itself stays.
            path = os.path.realpath(self.path)
            with _locked(path) as status:
                self.reload()

                def change(rewrite: Callable[[str], str]) -> None:
                    text = rewrite(_read(path)[1])
                    # What cannot be read is not to be written.
                    read_lines(text, self.path, ports=self._ports)
                    _replace(path, text, status.st_mode)
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
        with self._file.changing() as change:
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
        name = name if name.startswith("*") else canonical_peer(name)
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
        return name in self._file.current()

    def __getitem__(self, name: str) -> PinSet:
        """Return the pin set of a peer; its ``first_seen`` says since when it is known."""
        return self._file.current()[name].pin_set()

    def __repr__(self) -> str:
        return f"TofuStore({self.path!r}, mode={self._mode!r})"


def _append(text: str, lines: Iterable[str]) -> str:
    old = _lines_of(text) or [HEADING]
    return "".join(f"{line}\n" for line in (*old, *lines))


def _drop(text: str, name: str) -> str:
    kept = (line for line in _lines_of(text) if host_of_line(line) != name)
    return "".join(f"{line}\n" for line in kept)
