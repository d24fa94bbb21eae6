"""Servers for clients of the standard library and others: each says what its client has to hear."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import xmlrpc.client
from collections.abc import Callable, Iterator
from types import TracebackType

from tests.certificates import make_chain, spki_pin
from tests.peers import server_context

TIMEOUT = 30.0  # seconds; nothing here takes as long, and what hangs is a failure
CHAIN = make_chain(3)
PIN, WRONG = spki_pin(CHAIN.leaf), spki_pin(make_chain(1, pool=5).leaf)
HELLO = b"hello"


class Talk:
    """A server's end of one connection, line by line."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, heard: list[bytes]) -> None:
        self.sock = sock
        self.context = context
        self._heard = heard
        self._rest = b""

    def start_tls(self) -> None:
        """Shake hands, over what there is; nobody may have sent anything before."""
        assert self._rest == b""
        self.sock.recv(1, socket.MSG_PEEK)  # wrap_socket leaks a socket whose peer is gone
        self.sock = self.context.wrap_socket(
            self.sock, server_side=True, do_handshake_on_connect=False
        )
        self.sock.do_handshake()

    def hear(self, data: bytes) -> None:
        """Note what came through TLS."""
        self._heard.append(data)

    def _more(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise EOFError
        if isinstance(self.sock, ssl.SSLSocket):
            self.hear(data)
        self._rest += data

    def line(self) -> str:
        """The next line of the client."""
        while b"\r\n" not in self._rest:
            self._more()
        line, _, self._rest = self._rest.partition(b"\r\n")
        return line.decode("ascii")

    def read(self, size: int) -> bytes:
        """As many bytes of the client."""
        while len(self._rest) < size:
            self._more()
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    def say(self, *lines: str) -> None:
        """Send lines."""
        self.sock.sendall("".join(f"{line}\r\n" for line in lines).encode("ascii"))


Script = Callable[[Talk], None]


class Server:
    """Runs a script with each client, in a thread.

    Attributes:
        heard: what clients have sent through TLS.
        errors: what ended a connection, other than the client's hanging up.
    """

    def __init__(
        self, script: Script, *, tls: bool, version: ssl.TLSVersion | None = None
    ) -> None:
        self._script = script
        self._tls = tls
        self.context = server_context(CHAIN, version)
        self.heard: list[bytes] = []
        self.errors: list[Exception] = []
        self._closing = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Server:
        self._threads[0].start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closing = True
        # One more client, to wake accept().
        socket.create_connection(("127.0.0.1", self.port), TIMEOUT).close()
        for thread in self._threads:
            thread.join(TIMEOUT)
            assert not thread.is_alive()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            if self._closing:
                sock.close()
                return
            sock.settimeout(TIMEOUT)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(target=self._serve, args=(sock,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        talk = Talk(sock, self.context, self.heard)
        try:
            if self._tls:
                talk.start_tls()
            self._script(talk)
        except EOFError:
            pass  # the client has said what it had to say
        except Exception as error:
            self.errors.append(error)
        finally:
            talk.sock.close()


# Scripts -----------------------------------------------------------------------------------------


def http(talk: Talk) -> None:
    """Answer every request with HELLO, and a call of XML-RPC with a string of it."""
    while True:
        size = 0
        method = talk.line().split()[0]
        while header := talk.line():
            name, _, value = header.partition(":")
            if name.lower() == "content-length":
                size = int(value)
        talk.read(size)
        answer = HELLO
        if method == "POST":
            answer = xmlrpc.client.dumps((HELLO.decode(),), methodresponse=True).encode()
        talk.say("HTTP/1.1 200 OK", f"Content-Length: {len(answer)}", "Content-Type: text/xml", "")
        talk.sock.sendall(answer)


def tunnel(talk: Talk) -> None:
    """A proxy: CONNECT (RFC 9110 section 9.3.6), and after it bytes there and back."""
    port = talk.line().split()[1].rpartition(":")[2]
    while talk.line():
        pass
    with socket.create_connection(("127.0.0.1", int(port)), TIMEOUT) as origin:
        talk.say("HTTP/1.1 200 go", "")
        ends = {talk.sock: origin, origin: talk.sock}
        while ready := select.select(ends, (), (), TIMEOUT)[0]:
            for end in ready:
                data = end.recv(65536)  # of TLS one whole record, so nothing is left for select()
                if not data:
                    return
                ends[end].sendall(data)
    raise TimeoutError


def smtp(talk: Talk) -> None:
    """RFC 5321, with STARTTLS (RFC 3207)."""
    talk.say("220 localhost")
    while True:
        command = talk.line().split()[0].upper()
        if command == "EHLO":
            talk.say("250-localhost", "250 STARTTLS")
        elif command == "STARTTLS":
            talk.say("220 go")
            talk.start_tls()
        else:
            talk.say("221 bye" if command == "QUIT" else "250 hello")


def imap(talk: Talk) -> None:
    """RFC 9051, with STARTTLS."""
    talk.say("* OK")
    while True:
        tag, command = talk.line().split()[:2]
        if command == "CAPABILITY":
            talk.say("* CAPABILITY IMAP4rev1 STARTTLS")
        elif command == "LOGOUT":
            talk.say("* BYE")
        talk.say(f"{tag} OK hello")
        if command == "STARTTLS":
            talk.start_tls()


def pop3(talk: Talk) -> None:
    """RFC 1939, with STLS (RFC 2595)."""
    talk.say("+OK")
    while True:
        command = talk.line()
        if command == "CAPA":
            talk.say("+OK", "STLS", ".")
            continue
        talk.say("+OK hello")
        if command == "STLS":
            talk.start_tls()


@contextlib.contextmanager
def _data_channel(context: ssl.SSLContext, listener: socket.socket) -> Iterator[ssl.SSLSocket]:
    sock, _ = listener.accept()
    sock.settimeout(TIMEOUT)
    sock.recv(1, socket.MSG_PEEK)
    with context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False) as channel:
        channel.do_handshake()
        yield channel
        channel.unwrap()


def ftp(
    talk: Talk, *, demand_reuse: bool = False, data_context: ssl.SSLContext | None = None
) -> None:
    """RFC 959, with AUTH TLS and PROT P (RFC 4217).

    Args:
        demand_reuse: the data connection has to resume the session of the other one, as some
            servers have it, to know that it comes from the same client.
        data_context: for the data connections, if they are to be somebody else's.
    """
    answers = {"USER": "331 pass", "PASS": "230 in", "QUIT": "221 bye"}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(TIMEOUT)
        port = listener.getsockname()[1]
        talk.say("220 localhost")
        while True:
            command = talk.line().split()[0]
            if command == "AUTH":
                talk.say("234 go")
                talk.start_tls()
            elif command == "PASV":
                talk.say(f"227 (127,0,0,1,{port >> 8},{port & 255})")
            elif command in ("RETR", "NLST", "STOR"):
                talk.say("150 here it comes")
                with _data_channel(data_context or talk.context, listener) as channel:
                    refused = demand_reuse and not channel.session_reused
                    if command == "STOR":
                        while data := channel.recv(65536):
                            talk.hear(data)
                    elif not refused:
                        channel.sendall(HELLO)
                talk.say("522 session reuse required" if refused else "226 done")
            else:
                talk.say(answers.get(command, "200 ok"))


# What went wrong ---------------------------------------------------------------------------------


def chain_of(error: BaseException) -> Iterator[BaseException]:
    """An exception, and all that it was made of."""
    pending, seen = [error], set[int]()
    while pending:
        each = pending.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        inside = [each.__cause__, each.__context__, *each.args, *vars(each).values()]
        inside.extend(getattr(each, "exceptions", ()))
        pending.extend(part for part in inside if isinstance(part, BaseException))
