"""STARTTLS: what is said to servers in clear, what they may answer, and that no byte more is read.

Servers are scripts at the other end of a pair of sockets; the clock is played where time has to
pass.
"""

from __future__ import annotations

import contextlib
import html
import io
import re
import socket
import ssl
import threading
from collections.abc import Iterator

import pytest

from pinsock import _starttls
from pinsock._starttls import DEFAULT_PORTS, PROTOCOLS, StartTLSError, start_tls
from tests.peers import Clock

TIMEOUT = 10.0
#: What a server sends in clear right behind its answer.
BEHIND = b"\r\n250 injected\r\n<proceed/>"


# ---- Helpers


def drain(sock: socket.socket) -> bytes:
    """Read until the other side closes."""
    parts = []
    while part := sock.recv(65536):
        parts.append(part)
    return b"".join(parts)


def hear(sock: socket.socket, size: int) -> bytes:
    """Read so many bytes, or fewer if the other side closes."""
    data = b""
    while len(data) < size and (part := sock.recv(size - len(data))):
        data += part
    return data


class Recorder(socket.socket):
    """A socket that keeps the timeouts that are set, and may fail to read."""

    failure: OSError | None = None

    def settimeout(self, value: float | None) -> None:
        super().settimeout(value)
        self.timeouts = [*getattr(self, "timeouts", ()), value]

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        if self.failure is not None:
            raise self.failure
        return super().recv(bufsize, flags)


class Server:
    """A server that says and hears in turns, says no more, and listens until the client closes.

    Attributes:
        client: the client's socket.
        heard: what the client sent; all of it once the server has stopped.
    """

    def __init__(self, script: tuple[bytes, ...]) -> None:
        ours, theirs = socket.socketpair()
        self.client = Recorder(fileno=theirs.detach())
        self.client.settimeout(TIMEOUT)
        self.heard = b""
        self._script = script
        self._sock = ours
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._sock.settimeout(TIMEOUT)
        # What the client does to the connection is for the client's side to tell.
        with self._sock, contextlib.suppress(OSError):
            for number, piece in enumerate(self._script):
                if number % 2:
                    self.heard += hear(self._sock, len(piece))
                else:
                    self._sock.sendall(piece)
            self._sock.shutdown(socket.SHUT_WR)
            self.heard += drain(self._sock)

    def stop(self) -> None:
        self.client.close()
        self._thread.join(TIMEOUT)
        assert not self._thread.is_alive()


@contextlib.contextmanager
def serving(*script: bytes) -> Iterator[Server]:
    """Run a script: what the server says first, what it hears then, and so on."""
    server = Server(script)
    try:
        yield server
    finally:
        server.stop()


def accepted(protocol: str, *script: bytes, host: str = "example.com") -> None:
    """The client says what the script hears, and leaves what is behind the last answer."""
    with serving(*script[:-1], script[-1] + BEHIND) as server:
        start_tls(server.client, protocol, host)
        assert drain(server.client) == BEHIND
        assert server.client.gettimeout() == TIMEOUT
    assert server.heard == b"".join(script[1::2])


def refused(protocol: str, *script: bytes, host: str = "example.com") -> str:
    """The client says what the script hears and no more, and complains in one line."""
    with serving(*script) as server:
        with pytest.raises(StartTLSError) as caught:
            start_tls(server.client, protocol, host)
        assert server.client.gettimeout() == TIMEOUT
        # Closing with something unread is a reset, which could overtake what the server is to hear.
        drain(server.client)
    assert server.heard == b"".join(script[1::2])
    message = str(caught.value)
    assert message.isprintable()
    assert message.startswith("the server ")
    # What it did, and what to do.
    assert re.search(": (check|set|it may be) ", message)
    return message


class Tape(socket.socket):
    """A socket that is played from memory, for when there is much to read byte by byte.

    Attributes:
        said: what the server says.
        heard: what the client sent.
    """

    def __init__(self, said: bytes) -> None:
        super().__init__()
        self.said = io.BytesIO(said)
        self.heard = b""

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        return self.said.read(bufsize)

    def sendall(self, data: bytes, flags: int = 0) -> None:
        self.heard += data


EHLO = b"EHLO [127.0.0.1]\r\n"
SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
URN = b"urn:ietf:params:xml:ns:xmpp-tls"


def stream(to: str) -> bytes:
    """What an XMPP client begins with; the name as it stands in the attribute."""
    return (
        f"<?xml version='1.0'?><stream:stream to='{to}' version='1.0' xmlns='jabber:client' "
        "xmlns:stream='http://etherx.jabber.org/streams'>"
    ).encode()


OPEN = stream("example.com")
HEADER = (
    b"<?xml version='1.0'?><stream:stream from='example.com' id='a>b' version=\"1.0\" "
    b"xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
)
OFFER = b"<starttls xmlns='%b'><required/></starttls>" % URN
FEATURES = b"<stream:features>" + OFFER + b"</stream:features>"
STARTTLS = b"<starttls xmlns='%b'/>" % URN
PROCEED = b"<proceed xmlns='%b'/>" % URN


# ---- The names


def test_protocols_have_their_ports() -> None:
    """The ports are those that the protocols are registered with, and nobody can change them."""
    assert PROTOCOLS == ("smtp", "imap", "pop3", "ftp", "postgres", "xmpp")
    assert DEFAULT_PORTS == dict(zip(PROTOCOLS, (25, 143, 110, 21, 5432, 5222), strict=True))
    with pytest.raises(TypeError):
        DEFAULT_PORTS["smtp"] = 587  # type: ignore[index]  # this is what is tested


def test_a_protocol_that_is_none_is_said_before_the_socket_is_touched() -> None:
    """Nothing is sent in a protocol that nobody knows."""
    with serving() as server:
        with pytest.raises(KeyError):
            start_tls(server.client, "gopher", "example.com")
    assert server.heard == b""


# ---- What is accepted

GOOD = {
    "smtp": (
        b"220 mail.example.com ESMTP\r\n",
        EHLO,
        b"250-mail.example.com at your service\r\n250-SIZE 1000\r\n250-STARTTLS\r\n250 HELP\r\n",
        b"STARTTLS\r\n",
        b"220 go ahead\r\n",
    ),
    "smtp-many-lines": (
        b"220-mail.example.com ESMTP\r\n220-\r\n220 no spam\r\n",
        EHLO,
        b"250-mail.example.com\r\n250 starttls\r\n",
        b"STARTTLS\r\n",
        b"220-go\r\n220 ahead\r\n",
    ),
    "smtp-bare": (b"220\n", EHLO, b"250-\n250 StartTLS \n", b"STARTTLS\r\n", b"220\n"),
    "imap": (
        b"* OK [CAPABILITY IMAP4rev1 STARTTLS] ready\r\n",
        b"a1 STARTTLS\r\n",
        b"a1 OK begin\r\n",
    ),
    "imap-unasked": (
        b"* ok\r\n",
        b"a1 STARTTLS\r\n",
        b"* CAPABILITY IMAP4rev1\r\n* OK still here\r\n*\r\na1 ok\r\n",
    ),
    "pop3": (b"+OK ready <1@example.com>\r\n", b"STLS\r\n", b"+OK begin\r\n"),
    "pop3-bare": (b"+OK\r\n", b"STLS\r\n", b"+OK\r\n"),
    "ftp": (b"220 ready\r\n", b"AUTH TLS\r\n", b"234 AUTH TLS successful\r\n"),
    "ftp-many-lines": (
        b"220-Welcome\r\nto 2 servers\r\n\r\n 530 indented\r\n2200 files\r\n220-of\r\n220 mine\r\n",
        b"AUTH TLS\r\n",
        b"234-AUTH\r\nTLS\r\n234\r\n",
    ),
    "postgres": (b"", SSL_REQUEST, b"S"),
    "xmpp": (b"", OPEN, HEADER + FEATURES, STARTTLS, PROCEED),
    "xmpp-end-tag": (
        b"",
        OPEN,
        HEADER + FEATURES,
        STARTTLS,
        b'<proceed xmlns="%b"></proceed>' % URN,
    ),
    "xmpp-prefixes-and-space": (
        b"",
        OPEN,
        b"<s:stream xmlns:s='http://etherx.jabber.org/streams'>\n <s:features >\n"
        b"<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism>"
        b"<hint text='/>\"'/></mechanisms>"
        b"<t:starttls a = \"'\"\n xmlns:t = '%b' />it's</s:features\n>" % URN,
        STARTTLS,
        b"\n<t:proceed xmlns:t='%b'\n>\n</t:proceed >" % URN,
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_tls_begins_behind_the_answer(name: str) -> None:
    """The client says its part, and what is in clear behind the answer is left to TLS."""
    accepted(name.partition("-")[0], *GOOD[name])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_socket_without_a_timeout_stays_one(protocol: str) -> None:
    """Without a timeout there is no deadline, and none is left behind."""
    script = GOOD[protocol]
    with serving(*script) as server:
        server.client.settimeout(None)
        start_tls(server.client, protocol, "example.com")
        assert server.client.gettimeout() is None
    assert server.heard == b"".join(script[1::2])


def test_tls_refuses_what_is_injected() -> None:
    """What was sent in clear behind the answer breaks the handshake, as CVE-2011-0411 needs."""
    context = ssl.create_default_context()
    *script, last = GOOD["smtp"]
    with serving(*script, last + b"250 injected\r\n") as server:
        start_tls(server.client, "smtp", "example.com")
        with pytest.raises(ssl.SSLError, match=r"WRONG_VERSION_NUMBER|RECORD"):
            context.wrap_socket(server.client, server_hostname="example.com").close()


@pytest.mark.parametrize(
    ("host", "to"),
    [
        ("xmpp.example.com", "xmpp.example.com"),
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "[2001:db8::1]"),
        ("bücher.example", "bücher.example"),
        ("a'><b c=\"&", "a&#x27;&gt;&lt;b c=&quot;&amp;"),
    ],
)
def test_the_host_is_escaped_in_xml(host: str, to: str) -> None:
    """A host name stands in an attribute and cannot leave it; an IPv6 address has brackets."""
    assert html.unescape(to).strip("[]") == host
    accepted("xmpp", b"", stream(to), HEADER + FEATURES, STARTTLS, PROCEED, host=host)


# ---- What is refused

NOT_OFFERED = "the server does not offer STARTTLS"


def answered(command: str, words: str) -> str:
    return f'the server answered {command} with "{words}"'


def sent(words: str, name: str) -> str:
    return f'the server sent "{words}", which is not {name}'


def within(words: str, code: int, name: str) -> str:
    return f'the server sent "{words}" within an answer {code}, which is not {name}'


GREETED = {
    "smtp": (b"220 mail\r\n", EHLO),
    "smtp-ehlo": (b"220 mail\r\n", EHLO, b"250-mail\r\n250 STARTTLS\r\n", b"STARTTLS\r\n"),
    "imap": (b"* OK\r\n", b"a1 STARTTLS\r\n"),
    "pop3": (b"+OK\r\n", b"STLS\r\n"),
    "ftp": (b"220 ftp\r\n", b"AUTH TLS\r\n"),
    "postgres": (b"", SSL_REQUEST),
    "xmpp": (b"", OPEN),
    "xmpp-features": (b"", OPEN, HEADER + FEATURES, STARTTLS),
}


@pytest.mark.parametrize(
    ("protocol", "said", "message"),
    [
        ("smtp", b"554 go away\r\n", answered("the connection", "554 go away")),
        ("smtp", b"554-go\r\n", answered("the connection", "554-go")),
        ("smtp", b"+OK ready\r\n", sent("+OK ready", "SMTP")),
        ("smtp", b"220ready\r\n", sent("220ready", "SMTP")),
        ("smtp", b"220-a\r\n221 b\r\n", within("221 b", 220, "SMTP")),
        ("smtp", b"220-a\r\nb\r\n", sent("b", "SMTP")),
        ("imap", b"* PREAUTH as root\r\n", 'the server began with "* PREAUTH as root", and TLS'),
        ("imap", b"* BYE busy\r\n", answered("the connection", "* BYE busy")),
        ("imap", b"220 mail\r\n", sent("220 mail", "IMAP")),
        ("imap", b"\r\n", sent("", "IMAP")),
        ("pop3", b"-ERR busy\r\n", answered("the connection", "-ERR busy")),
        ("pop3", b"+OKAY\r\n", sent("+OKAY", "POP3")),
        ("pop3", b"* OK\r\n", sent("* OK", "POP3")),
        ("ftp", b"421 busy\r\n", answered("the connection", "421 busy")),
        ("ftp", b"ftp\r\n", sent("ftp", "FTP")),
        ("ftp", b"220-a\r\n230 b\r\n", within("230 b", 220, "FTP")),
    ],
)
def test_a_greeting_is_refused(protocol: str, said: bytes, message: str) -> None:
    """A server that turns the client away, or speaks something else, hears nothing."""
    assert message in refused(protocol, said)


@pytest.mark.parametrize(
    ("stage", "said", "message"),
    [
        ("smtp", b"502 no\r\n", answered("EHLO", "502 no")),
        ("smtp", b"250-mail\r\n250 SIZE\r\n", NOT_OFFERED),
        ("smtp", b"250-mail\r\n250-XSTARTTLS\r\n250 AUTH STARTTLS\r\n", NOT_OFFERED),
        ("smtp", b"250 STARTTLS\r\n", NOT_OFFERED),  # that is its name
        ("smtp", b"250-mail\r\n220 STARTTLS\r\n", within("220 STARTTLS", 250, "SMTP")),
        ("smtp", b"250-mail\r\nSTARTTLS\r\n", sent("STARTTLS", "SMTP")),
        ("smtp-ehlo", b"454 not now\r\n", answered("STARTTLS", "454 not now")),
        ("smtp-ehlo", b"250 fine\r\n", answered("STARTTLS", "250 fine")),
        ("smtp-ehlo", b"220-go\r\n454 no\r\n", within("454 no", 220, "SMTP")),
        ("imap", b"a1 NO\r\n", answered("STARTTLS", "a1 NO")),
        ("imap", b"* OK\r\na1 BAD what\r\n", answered("STARTTLS", "a1 BAD what")),
        ("imap", b"a1\r\n", answered("STARTTLS", "a1")),
        ("imap", b"a2 OK\r\n", sent("a2 OK", "IMAP")),
        ("imap", b"+ OK\r\n", sent("+ OK", "IMAP")),
        ("pop3", b"-ERR what\r\n", answered("STLS", "-ERR what")),
        ("pop3", b"OK\r\n", sent("OK", "POP3")),
        ("ftp", b"500 what\r\n", answered("AUTH TLS", "500 what")),
        ("ftp", b"334 more\r\n", answered("AUTH TLS", "334 more")),
        ("ftp", b"234-a\r\nb\r\n200 c\r\n", within("200 c", 234, "FTP")),
        ("postgres", b"N", "the server does not do TLS"),
        ("postgres", b"EFATAL\0", "the server answered the request for TLS with an error"),
        ("postgres", b"2", sent("2", "PostgreSQL")),
        ("postgres", b"\xff", sent("\ufffd", "PostgreSQL")),
    ],
)
def test_an_answer_is_refused(stage: str, said: bytes, message: str) -> None:
    """A server that does not do TLS, or answers something else, hears no more."""
    assert message in refused(stage.partition("-")[0], *GREETED[stage], said)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (b"220 mail\r\n", sent("2", "XMPP")),
        (b"<html>", sent("<html>", "XMPP")),
        (b"<!DOCTYPE html>", sent("<!", "XMPP")),
        (b"<?xml version='1.0'?><!-- stream -->", sent("<!", "XMPP")),
        (b"<?xml version='1.0'?></stream:stream>", sent("</stream:stream>", "XMPP")),
        (b"<stream:stream id='<'>", sent("<stream:stream id='<'>", "XMPP")),
        (b"<stream:stream id>", sent("<stream:stream id>", "XMPP")),
        (b"<>", sent("<>", "XMPP")),
        (HEADER + b"hello", sent("h", "XMPP")),
        (HEADER + b"</stream:stream>", sent("</stream:stream>", "XMPP")),
        (HEADER + b"<message/>", sent("<message/>", "XMPP")),
        (
            HEADER + b"<stream:error>\n<host-unknown xmlns='x'/></stream:error>",
            "the server refused the stream with \"<host-unknown xmlns='x'/>\": check the host",
        ),
        (HEADER + b"<stream:features/>", NOT_OFFERED),
        (HEADER + b"<stream:features></stream:features>", NOT_OFFERED),
        (HEADER + b"<stream:features><starttls/></stream:features>", NOT_OFFERED),
        (HEADER + b"<stream:features><starttls xmlns='x'/></stream:features>", NOT_OFFERED),
        (HEADER + b"<stream:features><x xmlns='%b'/></stream:features>" % URN, NOT_OFFERED),
        (
            HEADER + b"<stream:features></starttls xmlns='%b'></stream:features>" % URN,
            NOT_OFFERED,
        ),
        (
            # The prefix is not the one that is declared.
            HEADER + b"<stream:features><a:starttls xmlns='%b'/></stream:features>" % URN,
            NOT_OFFERED,
        ),
        (HEADER + b"<stream:features>starttls %b</stream:features>" % URN, NOT_OFFERED),
        (HEADER + b"<stream:features><![CDATA[" + OFFER, sent("<!", "XMPP")),
    ],
)
def test_a_stream_without_an_offer_is_refused(said: bytes, message: str) -> None:
    """A server that does not offer TLS in its stream's features is not asked for it."""
    assert message in refused("xmpp", *GREETED["xmpp"], said)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            b"<failure xmlns='%b'/></stream:stream>" % URN,
            answered("STARTTLS", f"<failure xmlns='{URN.decode()}'/>"),
        ),
        (b"<proceed/>", sent("<proceed/>", "XMPP")),
        (b"<proceed xmlns='x'/>", sent("<proceed xmlns='x'/>", "XMPP")),
        (b"</proceed>", sent("</proceed>", "XMPP")),
        (b"</stream:stream>", sent("</stream:stream>", "XMPP")),
        (b"proceed", sent("p", "XMPP")),
        (b"<proceed xmlns='%b'><x/>" % URN, sent("<x/>", "XMPP")),
        (b"<proceed xmlns='%b'>x" % URN, sent("x", "XMPP")),
    ],
)
def test_a_stream_that_does_not_proceed_is_refused(said: bytes, message: str) -> None:
    """Only the element that says so, and its end tag, let TLS begin."""
    assert message in refused("xmpp", *GREETED["xmpp-features"], said)


# ---- The end of the stream


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_server_that_says_nothing_and_closes(protocol: str) -> None:
    """A client that is to be greeted says nothing first; and the end is told from an answer."""
    first = GREETED[protocol][1] if GREETED[protocol][0] == b"" else b""
    assert "closed the connection" in refused(protocol, b"", first)


@pytest.mark.parametrize("name", GOOD)
def test_an_answer_that_is_cut_is_refused(name: str) -> None:
    """Wherever the server closes in the middle of its last answer, that is no answer."""
    *script, last = GOOD[name]
    for cut in range(len(last)):
        message = refused(name.partition("-")[0], *script, last[:cut])
        assert "closed the connection" in message


# ---- Limits


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize(
    ("protocol", "begin"),
    [("smtp", b"220 "), ("imap", b"* OK "), ("pop3", b"+OK "), ("ftp", b"220 ")],
)
def test_a_line_has_a_limit(protocol: str, begin: bytes, end: bytes) -> None:
    """A line has at most 2000 bytes with its end; the one that would be too much is not read."""
    longest = begin.ljust(2000 - len(end), b"x") + end
    rest = GOOD[protocol][1:]
    accepted(protocol, longest, *rest)
    with serving(b"x" + longest) as server:
        with pytest.raises(StartTLSError, match="a line of more than 2000 bytes, which is not"):
            start_tls(server.client, protocol, "example.com")
        assert drain(server.client) == end[-1:]


@pytest.mark.parametrize("protocol", ["smtp", "ftp"])
def test_a_greeting_has_a_limit(protocol: str) -> None:
    """An answer has at most 100 lines."""
    line, last = b"220-\r\n", b"220 \r\n"
    rest = GOOD[protocol][1:]
    accepted(protocol, line * 99 + last, *rest)
    message = refused(protocol, line * 100 + last)
    assert "an answer of more than 100 lines, which is not" in message


@pytest.mark.parametrize(
    ("protocol", "begin", "line", "last"),
    [
        ("imap", b"", b"* OK\r\n", b"a1 OK\r\n"),
        ("ftp", b"234-\r\n", b"text\r\n", b"234 \r\n"),
    ],
)
def test_an_answer_has_a_limit(protocol: str, begin: bytes, line: bytes, last: bytes) -> None:
    """Lines that are passed over are counted too."""
    some = 99 - begin.count(b"\n")
    accepted(protocol, *GREETED[protocol], begin + line * some + last)
    message = refused(protocol, *GREETED[protocol], begin + line * (some + 1) + last)
    assert "an answer of more than 100 lines, which is not" in message


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"<stream:features>", b"</stream:features>"),
        (b"<stream:features a='", b"'></stream:features>"),
        (b"", b"<stream:features></stream:features>"),
    ],
    ids=["text", "attribute", "space"],
)
def test_xml_has_a_limit(before: bytes, after: bytes) -> None:
    """All that an XMPP server sends is at most 65536 bytes, whatever they are."""
    after = after.replace(b"</", OFFER + b"</")
    room = 65536 - len(HEADER + before + after + PROCEED)
    with Tape(HEADER + before + b" " * room + after + PROCEED + BEHIND) as tape:
        start_tls(tape, "xmpp", "example.com")
        assert tape.said.read() == BEHIND
        assert tape.heard == OPEN + STARTTLS
    with Tape(HEADER + before + b" " * (room + 1) + after + PROCEED) as tape:
        with pytest.raises(StartTLSError, match="sent more than 65536 bytes, which is not XMPP"):
            start_tls(tape, "xmpp", "example.com")
        assert tape.said.read() == b">"


@pytest.mark.parametrize(
    "tag",
    [
        b"<a" + b" " * 60000 + b"<>",
        b"<" + b"a" * 60000 + b"=>",
        b"<a" + b" b=''" * 12000 + b" =>",
        b"<a b" + b" " * 60000 + b">",
        b"<a" + b" b" * 30000 + b">",
    ],
    ids=["space", "name", "attributes", "no-equals", "no-values"],
)
def test_a_strange_tag_is_refused_at_once(tag: bytes) -> None:
    """No tag that fits into the limit makes the scan take long."""
    with Tape(tag) as tape:
        with pytest.raises(StartTLSError, match="which is not XMPP"):
            start_tls(tape, "xmpp", "example.com")
        assert tape.said.read() == b""


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"x" * 101, "x" * 100),
        (b"\xc3\xa9" * 101, "é" * 100),
        (b"\x1b[2J\x07\r\x00.", "?[2J???."),
        (b"\xe2\x80\xae\xff", "?\ufffd"),
        (b"'\"\\", "'\"\\"),
    ],
)
def test_the_server_s_words_are_cut_and_made_printable(said: bytes, words: str) -> None:
    """What a stranger says cannot fill the screen, nor move the cursor, nor turn the text round."""
    assert sent(words, "SMTP") in refused("smtp", said + b"\r\n")


# ---- Time


@pytest.mark.parametrize(
    ("protocol", "script"),
    [
        ("smtp", (b"220-" + b"x" * 100,)),
        ("imap", (b"* OK\r\n", b"a1 STARTTLS\r\n", b"* OK\r\n" * 90)),
        ("xmpp", (b"", OPEN, b" " * 100)),
    ],
)
def test_a_server_that_drips_does_not_hold_the_client(
    protocol: str, script: tuple[bytes, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The socket's timeout is that of the whole, however little is wanting each time."""
    with serving(*script) as server:
        del server.client.timeouts
        monkeypatch.setattr(_starttls, "time", Clock())
        with pytest.raises(TimeoutError, match=r"did not let TLS begin within 10 seconds: check"):
            start_tls(server.client, protocol, "example.com")
        monkeypatch.undo()
        assert server.client.timeouts == [9, 8, 7, 6, 5, 4, 3, 2, 1, TIMEOUT]


def test_a_silent_server_times_out() -> None:
    """The timeout of one call is the socket's own error."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(0.05)
        with pytest.raises(TimeoutError, match=r"^timed out$"):
            start_tls(theirs, "smtp", "example.com")
        assert theirs.gettimeout() == 0.05


def test_a_socket_that_does_not_block_has_no_time() -> None:
    """A timeout of zero is over at once, and is left as it was."""
    with serving(*GOOD["pop3"]) as server:
        server.client.settimeout(0)
        with pytest.raises(TimeoutError, match="within 0 seconds"):
            start_tls(server.client, "pop3", "example.com")
        assert server.client.gettimeout() == 0
    assert server.heard == b""


def test_errors_of_the_socket_pass() -> None:
    """An error of the connection is the caller's to explain; the timeout is restored."""
    with serving() as server:
        server.client.failure = error = ConnectionResetError("reset")
        with pytest.raises(ConnectionResetError) as caught:
            start_tls(server.client, "postgres", "example.com")
        assert caught.value is error
        assert server.client.gettimeout() == TIMEOUT
    assert server.heard == SSL_REQUEST
