"""Clients and servers of the standard library, with a context that pins.

asyncio has tests/test_asyncio.py, in which the loop's ``start_tls`` is, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import ftplib
import functools
import http.client
import http.server
import imaplib
import io
import poplib
import selectors
import smtplib
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
import urllib.request
import xmlrpc.client
from collections.abc import Callable, Iterator
from typing import cast

import pytest

from pinsock import PinMismatchError, PinnedContext, PinnedSocket, PinSet, create_default_context
from tests.certificates import make_chain, spki_pin
from tests.consumers.servers import (
    CHAIN,
    HELLO,
    PIN,
    TIMEOUT,
    WRONG,
    Script,
    Server,
    chain_of,
    ftp,
    imap,
    pop3,
    smtp,
)
from tests.consumers.servers import http as http_script
from tests.peers import StdlibServer, client_context, fix_version, server_context, stdlib_client


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs this may have a proxy in the environment."""
    monkeypatch.setenv("no_proxy", "*")


def context(pin: str = PIN, version: ssl.TLSVersion | None = None) -> PinnedContext:
    """A client's, that trusts the server's authority and pins its leaf."""
    made = PinnedContext(pins=PinSet({"leaf": pin}))
    CHAIN.trust(made)
    if version is not None:
        fix_version(made, version)
    return made


# Clients -----------------------------------------------------------------------------------------


def http_client(made: ssl.SSLContext, port: int) -> bytes:
    connection = http.client.HTTPSConnection("localhost", port, timeout=TIMEOUT, context=made)
    with contextlib.closing(connection):
        connection.request("GET", "/")
        return connection.getresponse().read()


def urllib_request(made: ssl.SSLContext, port: int) -> bytes:
    with urllib.request.urlopen(f"https://localhost:{port}/", context=made, timeout=TIMEOUT) as got:
        return cast(bytes, got.read())


def xmlrpc_client(made: ssl.SSLContext, port: int) -> bytes:
    with xmlrpc.client.ServerProxy(f"https://localhost:{port}/", context=made) as proxy:
        return str(proxy.greet()).encode()


def smtp_starttls(made: ssl.SSLContext, port: int) -> bytes:
    with smtplib.SMTP("localhost", port, local_hostname="localhost", timeout=TIMEOUT) as client:
        client.starttls(context=made)
        return client.noop()[1]


def smtp_ssl(made: ssl.SSLContext, port: int) -> bytes:
    with smtplib.SMTP_SSL(
        "localhost", port, local_hostname="localhost", timeout=TIMEOUT, context=made
    ) as client:
        return client.noop()[1]


def imap_starttls(made: ssl.SSLContext, port: int) -> bytes:
    client = imaplib.IMAP4("localhost", port, timeout=TIMEOUT)
    try:
        client.starttls(made)
        answer: bytes = client.noop()[1][0]
        return answer
    finally:
        client.shutdown()


def imap_ssl(made: ssl.SSLContext, port: int) -> bytes:
    with imaplib.IMAP4_SSL("localhost", port, ssl_context=made, timeout=TIMEOUT) as client:
        answer: bytes = client.noop()[1][0]
        return answer


def pop3_stls(made: ssl.SSLContext, port: int) -> bytes:
    client = poplib.POP3("localhost", port, timeout=TIMEOUT)
    try:
        client.stls(context=made)
        return client.noop()
    finally:
        client.close()


def pop3_ssl(made: ssl.SSLContext, port: int) -> bytes:
    client = poplib.POP3_SSL("localhost", port, context=made, timeout=TIMEOUT)
    with contextlib.closing(client):
        return client.noop()


def ftp_tls_upload(made: ssl.SSLContext, port: int) -> bytes:
    with ftplib.FTP_TLS(context=made, timeout=TIMEOUT) as client:
        client.connect("localhost", port)
        client.login("me", "secret")
        client.prot_p()
        client.storbinary("STOR it", io.BytesIO(b"upload"))
        return "".join(client.nlst()).encode()


def ftp_tls(
    made: ssl.SSLContext, port: int, cls: type[ftplib.FTP_TLS] = ftplib.FTP_TLS
) -> bytes:
    received: list[bytes] = []
    with cls(context=made, timeout=TIMEOUT) as client:
        client.connect("localhost", port)
        client.login("me", "secret")
        client.prot_p()
        client.retrbinary("RETR it", received.append)
        return b"".join(received)


Client = Callable[[ssl.SSLContext, int], bytes]
CLIENTS: dict[str, tuple[Script, bool, Client]] = {
    "http.client": (http_script, True, http_client),
    "urllib.request": (http_script, True, urllib_request),
    "xmlrpc": (http_script, True, xmlrpc_client),
    "smtplib": (smtp, False, smtp_starttls),
    "smtplib over TLS": (smtp, True, smtp_ssl),
    "imaplib": (imap, False, imap_starttls),
    "imaplib over TLS": (imap, True, imap_ssl),
    "poplib": (pop3, False, pop3_stls),
    "poplib over TLS": (pop3, True, pop3_ssl),
    "ftplib": (ftp, False, ftp_tls),
    "ftplib, both ways": (ftp, False, ftp_tls_upload),
}
every_client = pytest.mark.parametrize(
    ("script", "tls", "client"), CLIENTS.values(), ids=list(CLIENTS)
)


@every_client
def test_a_client_reaches_its_server(
    script: Script, tls: bool, client: Client, tls_version: ssl.TLSVersion
) -> None:
    """With the right pin the client does what it always does."""
    with Server(script, tls=tls, version=tls_version) as server:
        assert HELLO in client(context(), server.port)
    assert server.errors == []
    assert server.heard != []


@every_client
def test_a_client_gives_an_impostor_nothing(
    script: Script, tls: bool, client: Client, tls_version: ssl.TLSVersion
) -> None:
    """With another pin it fails, the reason can be found, and no data is sent through TLS."""
    with Server(script, tls=tls, version=tls_version) as server:
        with pytest.raises(Exception) as caught:  # noqa: PT011  # each has its own
            client(context(WRONG), server.port)
    assert any(isinstance(each, PinMismatchError) for each in chain_of(caught.value))
    assert server.heard == []
    assert [getattr(error, "reason", None) for error in server.errors] in (
        ["SSLV3_ALERT_BAD_CERTIFICATE"],
        ["SSL/TLS_ALERT_BAD_CERTIFICATE"],  # as OpenSSL 3.2 and later have it
    )


def test_ftplib_gives_nothing_to_an_impostor_on_its_data_connection(
    tls_version: ssl.TLSVersion,
) -> None:
    """Where the data connection leads to another key of the same authority, nothing is uploaded."""
    other = server_context(make_chain(1, under=CHAIN.above(1), pool=8), tls_version)
    script = functools.partial(ftp, data_context=other)
    with Server(script, tls=False, version=tls_version) as server:
        with pytest.raises(PinMismatchError):
            ftp_tls_upload(context(), server.port)
    assert b"STOR it" in b"".join(server.heard)
    assert b"upload" not in b"".join(server.heard)


class ReusingFTP(ftplib.FTP_TLS):
    """What many servers demand: the data connection resumes the session of the other one."""

    reused: list[bool] = []  # noqa: RUF012  # one for the class, as ftp_tls() makes the object

    def ntransfercmd(self, cmd: str, rest: int | str | None = None) -> tuple[socket.socket, int]:
        """Open the data connection."""
        conn, size = ftplib.FTP.ntransfercmd(self, cmd, rest)
        control = cast(PinnedSocket, self.sock)
        made = self.context.wrap_socket(conn, server_hostname=self.host, session=control.session)
        self.reused.append(bool(made.session_reused))
        return made, cast(int, size)


def test_ftplib_reuses_its_session(tls_version: ssl.TLSVersion) -> None:
    """The data connection resumes the pinned session of the control connection (rule 7)."""
    ReusingFTP.reused.clear()
    script = functools.partial(ftp, demand_reuse=True)
    with Server(script, tls=False, version=tls_version) as server:
        made = context(version=tls_version)
        assert ftp_tls(made, server.port, ReusingFTP) == HELLO
        assert ReusingFTP.reused == [True]
        # And the server does demand it.
        with pytest.raises(ftplib.error_perm, match="session reuse required"):
            ftp_tls(made, server.port)
    assert server.errors == []


def test_a_session_of_ftplib_is_not_resumed_with_other_pins(tls_version: ssl.TLSVersion) -> None:
    """Between the two connections the pins have changed: the session does not stand for them."""

    class Repinned(ReusingFTP):
        def ntransfercmd(
            self, cmd: str, rest: int | str | None = None
        ) -> tuple[socket.socket, int]:
            cast(PinnedContext, self.context).pins = PinSet({"leaf": [PIN, WRONG]})
            return super().ntransfercmd(cmd, rest)

    with Server(ftp, tls=False, version=tls_version) as server:
        with pytest.raises(ValueError, match="Session refers to a different pin set"):
            ftp_tls(context(version=tls_version), server.port, Repinned)
    assert all(isinstance(error, (OSError, EOFError)) for error in server.errors)


def test_selectors(tls_version: ssl.TLSVersion) -> None:
    """A loop that never blocks: handshake, writing and reading, driven by what TLS wants."""
    for pin in (PIN, WRONG):
        with (
            StdlibServer(CHAIN, tls_version) as server,
            selectors.DefaultSelector() as selector,
            context(pin).wrap_socket(
                server.connect(), server_hostname="localhost", do_handshake_on_connect=False
            ) as sock,
        ):
            sock.setblocking(False)
            key = selector.register(sock, selectors.EVENT_READ | selectors.EVENT_WRITE)

            def drive(step: Callable[[], object]) -> object:
                while True:
                    wanted = selectors.EVENT_READ
                    try:
                        return step()
                    except ssl.SSLWantReadError:
                        pass
                    except ssl.SSLWantWriteError:
                        wanted = selectors.EVENT_WRITE
                    selector.modify(sock, wanted)
                    assert selector.select(TIMEOUT), "nothing came"

            assert key.fileobj is sock
            if pin == WRONG:
                with pytest.raises(PinMismatchError):
                    drive(sock.do_handshake)
                assert server.observation().data == b""
                continue
            drive(sock.do_handshake)
            drive(lambda: sock.send(HELLO))
            assert drive(lambda: sock.recv(100)) == HELLO
            assert sock.pin_match is not None


@pytest.mark.skipif(sys.version_info < (3, 11), reason="StreamWriter.start_tls is new in 3.11")
def test_a_stream_of_asyncio_starts_tls(tls_version: ssl.TLSVersion) -> None:
    """With the right pin the streams go on over TLS; with another, nothing is sent through it."""

    async def upgrade(made: ssl.SSLContext, port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            await reader.readline()
            writer.write(b"STARTTLS\r\n")
            assert (await reader.readline()).startswith(b"220 ")
            await writer.start_tls(made, server_hostname="localhost")
            writer.write(b"NOOP\r\n")
            return await reader.readline()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    with Server(smtp, tls=False, version=tls_version) as server:
        answer = asyncio.run(asyncio.wait_for(upgrade(context(), server.port), TIMEOUT))
    assert HELLO in answer
    assert server.heard == [b"NOOP\r\n"]
    with Server(smtp, tls=False, version=tls_version) as impostor:
        with pytest.raises(PinMismatchError):
            asyncio.run(asyncio.wait_for(upgrade(context(WRONG), impostor.port), TIMEOUT))
    assert impostor.heard == []


# Servers -----------------------------------------------------------------------------------------


class PinningServer(socketserver.ThreadingTCPServer):
    """A server that pins its clients; each handler shakes hands in its own thread."""

    daemon_threads = False
    allow_reuse_address = True

    def __init__(self, made: PinnedContext) -> None:
        self.made = made
        self.errors: list[OSError] = []
        super().__init__(("127.0.0.1", 0), Echo)

    def get_request(self) -> tuple[socket.socket, object]:
        """Accept, and wrap."""
        sock, address = super().get_request()
        sock.settimeout(TIMEOUT)
        return self.made.wrap_socket(
            sock, server_side=True, do_handshake_on_connect=False
        ), address


class Echo(socketserver.StreamRequestHandler):
    """Says back what the client says, and its name."""

    def handle(self) -> None:
        """Serve one client."""
        assert isinstance(self.server, PinningServer)
        sock = cast(PinnedSocket, self.request)
        try:
            sock.do_handshake()
            assert sock.pin_match is not None
            while data := sock.recv(65536):
                self.wfile.write(data)
        except OSError as error:
            self.server.errors.append(error)


KNOWN = make_chain(2, pool=6)
OTHER = make_chain(1, under=KNOWN.above(1), pool=7)


def pinning_context(version: ssl.TLSVersion) -> PinnedContext:
    """A server's, that pins the leaf of its one client."""
    made = create_default_context(
        ssl.Purpose.CLIENT_AUTH, pins=PinSet({"leaf": spki_pin(KNOWN.leaf)}), cadata=KNOWN.root_pem
    )
    CHAIN.configure(made)
    fix_version(made, version)
    return made


@contextlib.contextmanager
def serving(server: socketserver.TCPServer) -> Iterator[tuple[str, int]]:
    """Serve in a thread; gives the address."""
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield cast("tuple[str, int]", server.server_address)
        finally:
            server.shutdown()
            thread.join(TIMEOUT)
            assert not thread.is_alive()


def test_socketserver_pins_its_clients(tls_version: ssl.TLSVersion) -> None:
    """A client with the pinned key is served, one with another key of the same authority is not."""
    server = PinningServer(pinning_context(tls_version))
    with serving(server) as address:
        for identity, expected in ((KNOWN, b"ping"), (OTHER, b""), (None, b""), (KNOWN, b"ping")):
            client = client_context(CHAIN, identity=identity)
            assert stdlib_client(address, client).data == expected
    # Each handler has its own thread, and they need not end in this order.
    kinds = sorted(type(error).__name__ for error in server.errors)
    assert kinds == ["PinMismatchError", "SSLError"]


class PinningHTTPServer(http.server.HTTPServer):
    """The server of the standard library, with a listening socket that makes pinned ones."""

    def __init__(self, made: PinnedContext) -> None:
        self.errors: list[OSError] = []
        super().__init__(("127.0.0.1", 0), Greet)
        self.socket = made.wrap_socket(self.socket, server_side=True)

    def server_bind(self) -> None:
        """Bind, and do not ask a resolver for the name of this machine as HTTPServer does."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "localhost", self.server_address[1]

    def get_request(self) -> tuple[socket.socket, object]:
        """Accept, and note what socketserver would say nothing of."""
        try:
            return super().get_request()
        except OSError as error:
            self.errors.append(error)
            raise


class Greet(http.server.BaseHTTPRequestHandler):
    """Says hello to those who are pinned."""

    timeout = TIMEOUT

    def do_GET(self) -> None:
        """Answer one request."""
        assert cast(PinnedSocket, self.connection).pin_match is not None
        self.send_response(200)
        self.send_header("Content-Length", str(len(HELLO)))
        self.end_headers()
        self.wfile.write(HELLO)

    def log_message(self, *_args: object) -> None:
        """Nobody reads it."""


def test_http_server_pins_its_clients(tls_version: ssl.TLSVersion) -> None:
    """The server's listening socket is wrapped; it refuses a client, and goes on with the next."""
    server = PinningHTTPServer(pinning_context(tls_version))
    with serving(server) as (_, port):
        for identity in (KNOWN, OTHER, None, KNOWN):
            client = client_context(CHAIN, identity=identity)
            if identity is KNOWN:
                assert http_client(client, port) == HELLO
            else:
                # With TLS 1.3 it hears of it at the answer only, or that the connection is gone.
                with pytest.raises(OSError):  # noqa: PT011  # of the client's own ssl
                    http_client(client, port)
    assert [type(error) for error in server.errors] == [PinMismatchError, ssl.SSLError]


# The traps ---------------------------------------------------------------------------------------

ASSIGN = """
import ssl
from pinsock import PinnedContext

class Ours(PinnedContext):
    def __init__(self, protocol=None, *args, **kwargs):
        super().__init__(ssl.PROTOCOL_TLS_CLIENT if protocol is None else protocol, pins=None)

native = ssl.SSLContext
settable = [name for name in dir(native)
            if hasattr(getattr(native, name), "__set__") and name != "__weakref__"]
assert {"options", "verify_mode", "verify_flags", "check_hostname"} <= set(settable)

def outcomes(context):
    # What becomes of it if each attribute is set to what it is.
    told = {}
    for name in settable:
        value = getattr(context, name)
        try:
            setattr(context, name, value)
        except (AttributeError, TypeError, ValueError) as error:
            told[name] = type(error)  # one that is read only, or None and must not be
        else:
            told[name] = None
            assert getattr(context, name) == value, name
    return told

expected = outcomes(native(ssl.PROTOCOL_TLS_CLIENT))
ssl.SSLContext = Ours
import urllib.request
for context in (ssl.create_default_context(), ssl._create_unverified_context(), Ours()):
    assert type(context) is Ours
    assert outcomes(context) == expected
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_TICKET
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.verify_mode = ssl.CERT_REQUIRED
    assert context.minimum_version == ssl.TLSVersion.TLSv1_3
    assert context.options & ssl.OP_NO_TICKET
print("done")
"""


def test_setters_do_not_call_themselves() -> None:
    """Where ``ssl.SSLContext`` is replaced by a subclass of ours, its setters end all the same."""
    command = [sys.executable, "-W", "error", "-c", ASSIGN]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert ran.stderr == ""
    assert ran.stdout == "done\n"
