"""STARTTLS: what is said in clear before the TLS handshake, for the servers that want it.

The command line connects to mail servers, databases and the like with it.  Nothing that is read
here is authentic, so nothing of it is kept: it decides whether the handshake is tried, and no more.

Facts
-----
* What a server, or who sits in the middle, sends in clear right behind the answer must never pass
  for something that came through TLS (CVE-2011-0411).  So one byte is read at a time and none
  beyond the answer: the rest is left on the socket, for TLS to refuse.
* A timeout of a socket is that of one call.  A server that sends a byte now and then would never
  exceed it, so all of this together gets that time once.
"""

from __future__ import annotations

import html
import re
import socket
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

__all__ = ["DEFAULT_PORTS", "PROTOCOLS", "StartTLSError", "start_tls"]

#: Where servers that want to be asked for TLS listen, by protocol.
DEFAULT_PORTS: Mapping[str, int] = MappingProxyType(
    {"smtp": 25, "imap": 143, "pop3": 110, "ftp": 21, "postgres": 5432, "xmpp": 5222}
)
PROTOCOLS: tuple[str, ...] = tuple(DEFAULT_PORTS)

# RFC 5321 section 4.5.3.1.5 and RFC 1939 section 3 have 512 octets; lists of IMAP's capabilities
# may be longer.
_MAX_LINE = 2000  # its end included
_MAX_LINES = 100  # of one answer
_MAX_XML = 65536  # of all that an XMPP server sends
_MAX_WORDS = 100


class StartTLSError(Exception):
    """The server does not let TLS begin; the message says in one line what it did, what to do."""


def _words(said: bytes) -> str:
    """The server's words, fit for a terminal."""
    text = said.decode("utf-8", "replace")[:_MAX_WORDS]
    return '"' + "".join(c if c.isprintable() else "?" for c in text) + '"'


class _Wire:
    """A socket, read byte by byte until a deadline."""

    def __init__(self, sock: socket.socket, protocol: str) -> None:
        self._sock = sock
        self._protocol = protocol
        self._timeout = sock.gettimeout()
        self._deadline = None if self._timeout is None else time.monotonic() + self._timeout
        self._xml = 0  # bytes read by tag()

    def restore(self) -> None:
        self._sock.settimeout(self._timeout)

    def send(self, data: bytes) -> None:
        self._hurry()
        self._sock.sendall(data)

    def byte(self) -> bytes:
        self._hurry()
        byte = self._sock.recv(1)
        if not byte:
            raise StartTLSError(
                "the server closed the connection before TLS could begin: check that the port "
                f"speaks {self._protocol} in clear, and whether the server turns this client away"
            )
        return byte

    def line(self) -> bytes:
        """Read a line, and return it without its end."""
        line = bytearray()
        while not line.endswith(b"\n"):
            if len(line) == _MAX_LINE:
                raise self.alien(f"a line of more than {_MAX_LINE} bytes")
            line += self.byte()
        return bytes(line).rstrip(b"\r\n")

    def tag(self, *, text: bool = False) -> _Tag:
        """Read a tag of XML to its closing ``>``, and what white space there is before it.

        Args:
            text: take text before it as well.
        """
        tag = bytearray()
        quote = b""
        # An attribute may have a ">" in its value (XML 1.0 section 2.3), which does not close.
        while quote or not tag.endswith(b">"):
            if self._xml == _MAX_XML:
                raise self.alien(f"more than {_MAX_XML} bytes")
            byte = self.byte()
            self._xml += 1
            if tag or byte == b"<":
                tag += byte
                if byte == quote:
                    quote = b""
                elif not quote and byte in (b"'", b'"'):
                    quote = byte
            elif not text and not byte.isspace():
                raise self.alien(_words(byte))
            # Comments and DTDs may hold quotes and tags, and XMPP has none (RFC 6120 section 11.1).
            if tag == b"<!":
                raise self.alien(_words(bytes(tag)))
        match = _TAG.fullmatch(tag)
        if match is None:
            raise self.alien(_words(bytes(tag)))
        prefix, _, name = match["name"].rpartition(b":")
        declaration = b"xmlns:" + prefix if prefix else b"xmlns"
        attributes = {key: value[1:-1] for key, value in _ATTRIBUTE.findall(match["attributes"])}
        return _Tag(bytes(tag), match["kind"], name, attributes.get(declaration), match["empty"])

    def alien(self, what: str) -> StartTLSError:
        """The error for a server that speaks another protocol."""
        return StartTLSError(
            f"the server sent {what}, which is not {self._protocol}: check the port and --starttls"
        )

    def _hurry(self) -> None:
        if self._deadline is None:
            return
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(
                f"the server did not let TLS begin within {self._timeout:g} seconds: check the "
                "port and --starttls, or give a longer --timeout"
            )
        self._sock.settimeout(left)


def _refused(command: str, said: bytes) -> StartTLSError:
    return StartTLSError(
        f"the server answered {command} with {_words(said)}: check that TLS is set up there, and "
        "that this client may use it"
    )


# Lines -----------------------------------------------------------------------------------------

# RFC 5321 section 4.2: the text may be missing, and the space with it.
_REPLY = re.compile(rb"([0-9]{3})(?:([ -]).*)?", re.DOTALL)


def _reply(wire: _Wire, command: str, wanted: bytes, *, free_text: bool = False) -> list[bytes]:
    """Read an answer with codes, of one line or many, and return its lines.

    Args:
        command: what is being answered, for the message.
        wanted: the only code that is taken.
        free_text: lines between the first and the last need no code (RFC 959 section 4.2).
    """
    lines = [wire.line()]
    match = _REPLY.fullmatch(lines[0])
    if match is None:
        raise wire.alien(_words(lines[0]))
    if match[1] != wanted:
        raise _refused(command, lines[0])
    while match is None or match[2] == b"-":
        if len(lines) == _MAX_LINES:
            raise wire.alien(f"an answer of more than {_MAX_LINES} lines")
        line = wire.line()
        match = _REPLY.fullmatch(line)
        if match is None:
            if not free_text:
                raise wire.alien(_words(line))
        # RFC 5321 section 4.2.1: the code is the same on all lines; RFC 959 has a text that looks
        # like another code indented.
        elif match[1] != wanted:
            raise wire.alien(f"{_words(line)} within an answer {wanted.decode()}")
        lines.append(line)
    return lines


def _smtp(wire: _Wire, host: str) -> None:
    _reply(wire, "the connection", b"220")
    # RFC 5321 section 4.1.1.1: a client that has no name gives an address.
    wire.send(b"EHLO [127.0.0.1]\r\n")
    # The same section: the server's name is on the first line, keywords, in upper or lower case,
    # begin the others.
    lines = _reply(wire, "EHLO", b"250")[1:]
    if not any(line[4:].upper().split()[:1] == [b"STARTTLS"] for line in lines):
        raise StartTLSError(
            "the server does not offer STARTTLS: check the port, that TLS is set up there, and "
            "that nothing on the way removes the offer"
        )
    # RFC 3207 section 4: 220, or 454 if TLS is not to be had.
    wire.send(b"STARTTLS\r\n")
    _reply(wire, "STARTTLS", b"220")


def _imap(wire: _Wire, host: str) -> None:
    greeting = wire.line()
    match greeting.upper().split()[:2]:
        case [b"*", b"OK"]:
            pass
        case [b"*", b"PREAUTH"]:
            # RFC 3501 section 6.2.1: STARTTLS is for a client that is not logged in, and
            # section 7.1.4: this one is.
            raise StartTLSError(
                f"the server began with {_words(greeting)}, and TLS cannot be started on a "
                "connection that is logged in: check the port, and the server's settings"
            )
        case [b"*", b"BYE"]:
            raise _refused("the connection", greeting)
        case _:
            raise wire.alien(_words(greeting))
    wire.send(b"a1 STARTTLS\r\n")
    for _ in range(_MAX_LINES):
        line = wire.line()
        match line.upper().split()[:2]:
            case [b"A1", b"OK"]:
                return
            case [b"A1", *_]:
                raise _refused("STARTTLS", line)
            case [b"*", *_]:
                pass  # section 7: at any time, unasked
            case _:
                raise wire.alien(_words(line))
    raise wire.alien(f"an answer of more than {_MAX_LINES} lines")


def _pop3(wire: _Wire, host: str) -> None:
    def okay(command: str) -> None:
        # RFC 1939 section 3: +OK or -ERR, in upper case.
        line = wire.line()
        match line.split()[:1]:
            case [b"+OK"]:
                pass
            case [b"-ERR"]:
                raise _refused(command, line)
            case _:
                raise wire.alien(_words(line))

    okay("the connection")
    # RFC 2595 section 4.
    wire.send(b"STLS\r\n")
    okay("STLS")


def _ftp(wire: _Wire, host: str) -> None:
    _reply(wire, "the connection", b"220", free_text=True)
    # RFC 4217 section 4.
    wire.send(b"AUTH TLS\r\n")
    _reply(wire, "AUTH TLS", b"234", free_text=True)


# Bytes -----------------------------------------------------------------------------------------


def _postgres(wire: _Wire, host: str) -> None:
    # PostgreSQL, "Message Formats": SSLRequest is its length and the code 80877103.
    wire.send((8).to_bytes(4, "big") + (80877103).to_bytes(4, "big"))
    answer = wire.byte()
    if answer == b"N":
        raise StartTLSError(
            "the server does not do TLS: set ssl = on in its postgresql.conf, or check the port"
        )
    if answer == b"E":
        # "SSL Session Encryption": what the error says is not to be shown, it is not authentic.
        raise StartTLSError(
            "the server answered the request for TLS with an error: it may be older than TLS in "
            "PostgreSQL, or unable to serve now; look into its log"
        )
    if answer != b"S":
        raise wire.alien(_words(answer))


# XML -------------------------------------------------------------------------------------------

# Tags are all that is looked at, and a scan finds them: XMPP has no comments, processing
# instructions or DTDs (RFC 6120 section 11.1), and servers declare the namespace on the element
# itself, as in every example of section 5.4.  An XML parser would only be more for a stranger to
# feed.  What this takes for no offer, or no consent, is refused; what it takes for one wrongly is
# followed by no TLS.
_NAME = rb"[^\s<>/='\"]+"
_PAIR = rb"\s+(%b)\s*=\s*('[^'<]*'|\"[^\"<]*\")" % _NAME
_ATTRIBUTE = re.compile(_PAIR)
_TAG = re.compile(
    rb"<(?P<kind>[/?]?)(?P<name>%b)(?P<attributes>(?:%b)*)\s*(?P<empty>[/?]?)>" % (_NAME, _PAIR)
)
_NAMESPACE = b"urn:ietf:params:xml:ns:xmpp-tls"


class _Tag(NamedTuple):
    """A tag.

    Attributes:
        source: all of it.
        kind: ``/`` in an end tag, ``?`` in the XML declaration.
        name: without its prefix.
        namespace: that of its name, if the tag itself declares it.
        empty: ``/`` if there is no end tag.
    """

    source: bytes
    kind: bytes
    name: bytes
    namespace: bytes | None
    empty: bytes

    def begins(self, name: bytes) -> bool:
        return not self.kind and self.name == name

    def ends(self, name: bytes) -> bool:
        return self.kind == b"/" and self.name == name


def _xmpp(wire: _Wire, host: str) -> None:
    # RFC 7622 section 3.2: an IPv6 address stands in brackets.
    to = html.escape(f"[{host}]" if ":" in host else host)
    # RFC 6120 sections 4.2, 4.7 and 4.8.
    wire.send(
        f"<?xml version='1.0'?><stream:stream to='{to}' version='1.0' xmlns='jabber:client' "
        "xmlns:stream='http://etherx.jabber.org/streams'>".encode()
    )
    tag = wire.tag()
    if tag.kind == b"?":
        tag = wire.tag()
    if not tag.begins(b"stream"):
        raise wire.alien(_words(tag.source))
    tag = wire.tag()
    if tag.begins(b"error"):
        # Section 4.9.2: what is wrong is the first element inside.
        raise StartTLSError(
            f"the server refused the stream with {_words(wire.tag().source)}: check the host name"
        )
    # Section 4.3.2: the features are the first thing in the stream.
    if not tag.begins(b"features"):
        raise wire.alien(_words(tag.source))
    offered = False
    while not tag.ends(b"features") and not (tag.begins(b"features") and tag.empty):
        tag = wire.tag(text=True)
        offered = offered or (tag.begins(b"starttls") and tag.namespace == _NAMESPACE)
    if not offered:
        raise StartTLSError(
            "the server does not offer STARTTLS: check the port, that TLS is set up for this "
            "host name, and that nothing on the way removes the offer"
        )
    # Section 5.4.2.1.
    wire.send(b"<starttls xmlns='%b'/>" % _NAMESPACE)
    tag = wire.tag()
    if tag.begins(b"failure"):
        raise _refused("STARTTLS", tag.source)
    if not tag.begins(b"proceed") or tag.namespace != _NAMESPACE:
        raise wire.alien(_words(tag.source))
    # Section 5.4.2.3: TLS begins right behind the closing ">" of this element.
    if not tag.empty:
        tag = wire.tag()
        if not tag.ends(b"proceed"):
            raise wire.alien(_words(tag.source))


_TALKS: Mapping[str, tuple[str, Callable[[_Wire, str], None]]] = {
    "smtp": ("SMTP", _smtp),
    "imap": ("IMAP", _imap),
    "pop3": ("POP3", _pop3),
    "ftp": ("FTP", _ftp),
    "postgres": ("PostgreSQL", _postgres),
    "xmpp": ("XMPP", _xmpp),
}


def start_tls(sock: socket.socket, protocol: str, host: str) -> None:
    """Ask the server for TLS; afterwards the next byte on the socket is TLS's.

    Args:
        sock: connected, and nothing has been read from it or written to it.  Its timeout is the
            time for all that is done here, and is the same afterwards; without one there is no
            limit.
        protocol: one of :data:`PROTOCOLS`.
        host: the name of the server, for the protocols in which a client says it.

    Raises:
        StartTLSError: the server does not let TLS begin.
        TimeoutError: it did not within the time.
        OSError: the connection broke.
    """
    name, talk = _TALKS[protocol]
    wire = _Wire(sock, name)
    try:
        talk(wire, host)
    finally:
        wire.restore()
