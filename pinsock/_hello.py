"""ClientHello: what a client offers, read from the bytes that it sends.

Pure.  The bytes come from anybody: nothing here raises for them, and nothing grows with them beyond
one message of :data:`MAX_SIZE`.

Facts
-----
* A record is type (22 for handshake messages), version, length, fragment; a message may be spread
  over several (RFC 8446 section 5.1).
* A message is type (1 for ClientHello), a length of 3 octets, body (section 4).
* The body: legacy_version, random (32 octets), legacy_session_id, cipher_suites,
  legacy_compression_methods, extensions (section 4.1.2).  Before TLS 1.3 there may be none of the
  last.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["MAX_SIZE", "ClientHello", "HelloReader"]

#: Octets of the longest ClientHello that is read; OpenSSL takes none that is longer, either.
MAX_SIZE = 2**17
# Records of nothing, one behind the other; OpenSSL takes no more of them, either.  Without a bound
# they would be read for as long as they come, whatever the timeout.
_MAX_EMPTY = 32

_HANDSHAKE, _CLIENT_HELLO = 22, 1
_RECORD_HEADER, _MESSAGE_HEADER = 5, 4
# Where the body of a message begins that is the first of the stream.
_FIRST = _RECORD_HEADER + _MESSAGE_HEADER
# Extensions (the TLS ExtensionType Values registry).
_SERVER_NAME, _GROUPS, _SIGNATURE_ALGORITHMS, _ALPN, _VERSIONS = 0, 10, 13, 16, 43
_HOST_NAME = 0


class _Cut:
    """Takes vectors off the front of bytes; ValueError if one is longer than they are.

    Nothing is copied but what is taken: there may be a name for each octet of a message.
    """

    __slots__ = ("_at", "_data", "_end")

    def __init__(self, data: bytes, at: int, end: int) -> None:
        self._data, self._at, self._end = data, at, end

    def __bool__(self) -> bool:
        return self._at < self._end

    def _skip(self, size: int) -> int:
        start = self._at
        if size > self._end - start:
            raise ValueError("a vector runs past its message")
        self._at += size
        return start

    def take(self, size: int) -> bytes:
        start = self._skip(size)
        return self._data[start : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> _Cut:
        """A vector behind its length, which has ``size`` octets (RFC 8446 section 3.4)."""
        start = self._skip(self.number(size))
        return _Cut(self._data, start, self._at)

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(self._end - self._at)

    def numbers(self) -> tuple[int, ...]:
        """All that is left, as numbers of 2 octets."""
        data = self.rest()
        if len(data) % 2:
            raise ValueError("half a number")
        return tuple(int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2))


class ClientHello(NamedTuple):
    """What a client offers; numbers are those of the TLS registries, in the client's order.

    Attributes:
        version: the legacy version; 0x0303 since TLS 1.2.
        ciphers: the cipher suites.
        extensions: which there are.
        versions: the protocol versions (RFC 8446 section 4.2.1); none before TLS 1.3.
        groups: of the key exchange (section 4.2.7).
        signature_algorithms: (section 4.2.3).
        alpn: the application protocols (RFC 7301 section 3.1).
        server_name: the name (RFC 6066 section 3).
    """

    version: int
    ciphers: tuple[int, ...]
    extensions: tuple[int, ...] = ()
    versions: tuple[int, ...] = ()
    groups: tuple[int, ...] = ()
    signature_algorithms: tuple[int, ...] = ()
    alpn: tuple[bytes, ...] = ()
    server_name: bytes | None = None

    @classmethod
    def parse(cls, body: bytes) -> ClientHello:
        """Read the body of a ClientHello message.

        Raises:
            ValueError: it is not one.
        """
        rest = _Cut(body, 0, len(body))
        version = rest.number(2)
        rest.take(32)
        rest.vector(1)
        ciphers = rest.vector(2).numbers()
        rest.vector(1)
        extensions: dict[int, _Cut] = {}
        if rest:
            listed = rest.vector(2)
            while listed:
                number = listed.number(2)
                extensions[number] = listed.vector(2)
        if rest:
            raise ValueError("something behind the extensions")
        return cls(
            version,
            ciphers,
            tuple(extensions),
            _numbers(extensions.get(_VERSIONS), 1),
            _numbers(extensions.get(_GROUPS), 2),
            _numbers(extensions.get(_SIGNATURE_ALGORITHMS), 2),
            _names(extensions.get(_ALPN)),
            _host_name(extensions.get(_SERVER_NAME)),
        )


def _numbers(extension: _Cut | None, size: int) -> tuple[int, ...]:
    return () if extension is None else extension.vector(size).numbers()


def _names(extension: _Cut | None) -> tuple[bytes, ...]:
    if extension is None:
        return ()
    listed = extension.vector(2)
    names: list[bytes] = []
    while listed:
        names.append(listed.vector(1).rest())
    return tuple(names)


def _host_name(extension: _Cut | None) -> bytes | None:
    if extension is None:
        return None
    listed = extension.vector(2)
    return listed.vector(2).rest() if listed.number(1) == _HOST_NAME else None


class HelloReader:
    """Reads a ClientHello from a stream, in whatever pieces it comes.

    Attributes:
        done: it has been read, or there is none: no more bytes are wanted.
    """

    __slots__ = ("_begun", "_body", "_empty", "_fragment", "_message", "_record", "done")

    def __init__(self) -> None:
        self.done = False
        self._body = b""
        self._begun = False

    def _begin(self) -> None:
        """Read it in pieces."""
        self._begun = True
        self._record = bytearray()  # its header
        self._fragment = 0  # octets of the record that are still to come
        self._empty = 0  # records of nothing, since there was something
        self._message = bytearray()

    @property
    def hello(self) -> ClientHello | None:
        """The ClientHello; None until it has been read, and if there is none.

        It is parsed when it is asked for: few servers ask.
        """
        try:
            return ClientHello.parse(self._body)
        except ValueError:
            return None  # OpenSSL says what is wrong with it

    def read_whole(self, data: bytes) -> bool:
        """Take the first bytes of the stream, if a ClientHello in one record begins them.

        Returns:
            Whether they were taken; as a rule it is so.
        """
        if len(data) <= _FIRST or data[0] != _HANDSHAKE or data[_RECORD_HEADER] != _CLIENT_HELLO:
            return False
        end = _FIRST + int.from_bytes(data[_RECORD_HEADER + 1 : _FIRST], "big")
        record = _RECORD_HEADER + (data[3] << 8) + data[4]
        if end > record or end > len(data):
            return False
        self._body = data[_FIRST:end]
        self.done = True
        return True

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        if self.done:
            return
        if not self._begun:
            if self.read_whole(data):
                return
            self._begin()
        position = 0
        while position < len(data) and not self.done:
            if self._fragment:
                piece = data[position : position + self._fragment]
                self._message += piece
                self._fragment -= len(piece)
            else:
                piece = data[position : position + _RECORD_HEADER - len(self._record)]
                self._record += piece
                if self._record[0] != _HANDSHAKE:
                    self._end()
                elif len(self._record) == _RECORD_HEADER:
                    self._fragment = int.from_bytes(self._record[3:], "big")
                    self._record.clear()
                    self._empty = 0 if self._fragment else self._empty + 1
                    if self._empty > _MAX_EMPTY:
                        self._end()
            position += len(piece)
            self._look()

    def _look(self) -> None:
        message = self._message
        if message and message[0] != _CLIENT_HELLO:
            self._end()
        elif len(message) >= _MESSAGE_HEADER:
            size = int.from_bytes(message[1:_MESSAGE_HEADER], "big")
            if size > MAX_SIZE:
                self._end()
            elif len(message) >= _MESSAGE_HEADER + size:
                self._body = bytes(message[_MESSAGE_HEADER : _MESSAGE_HEADER + size])
                self._end()

    def _end(self) -> None:
        self.done = True
        self._message.clear()
        self._record.clear()
