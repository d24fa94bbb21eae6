"""The demo of the command line: eleven scenes on loopback.

What the client decided is held against what the server saw.

Facts
-----
* An alert is all that a client may send after it has refused.  In TLS 1.2 that is a record of 7
  bytes; in TLS 1.3, encrypted, one of 24 bytes after the 6 of a change_cipher_spec (RFC 8446
  sections 5.2 and D.4).  Finished alone is larger, and a certificate is ten times that.
"""

from __future__ import annotations

import argparse
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import TracebackType
from typing import Literal, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pinsock import (
    Pin,
    PinError,
    PinMatch,
    PinMismatchError,
    PinnedContext,
    PinnedObject,
    PinnedSocket,
    PinSet,
    _chain,
    create_connection,
    create_default_context,
)
from pinsock._pins import Position
from pinsock._reach import (
    NO,
    reason_of,
    say,
    where,
)

__all__ = ["run_demo"]

_T = TypeVar("_T")

# Certificates ----------------------------------------------------------------------------------

_LIMIT = 5.0  # seconds that any one step of the demo may take, so that nothing hangs
_PING, _PONG = b"ping", b"pong"
_ALERT_SIZE = 30  # see the module's facts
_VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


@dataclass(frozen=True, slots=True)
class _Identity:
    """A certificate, its key, and the certificates that go with it up to the root."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    above: tuple[x509.Certificate, ...] = ()

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pin(self) -> Pin:
        return Pin.from_certificate(self.certificate)

    def write(self, path: Path, *appended: x509.Certificate) -> Path:
        """Write what a server loads: the key, the chain without its root, and ``appended``."""
        blocks = [self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())]
        chain = (self.certificate, *self.above[:-1], *appended)
        blocks += [certificate.public_bytes(Encoding.PEM) for certificate in chain]
        path.write_bytes(b"".join(blocks))
        return path


def _issue(
    name: str,
    issuer: _Identity | None = None,
    *,
    usage: x509.ObjectIdentifier | None = None,
    ends: timedelta = timedelta(days=30),
    key: ec.EllipticCurvePrivateKey | None = None,
) -> _Identity:
    """Make a certificate: self-signed without ``issuer``, and a CA's without ``usage``.

    It has all that RFC 5280 asks for, because contexts of Python 3.13 on are strict about it.
    """
    key = key or ec.generate_private_key(ec.SECP256R1())
    signer = issuer.key if issuer else key
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(timezone.utc)
    authority = usage is None
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=60))
        .not_valid_after(now + ends)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=not authority,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=authority,
                crl_sign=authority,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )
    if usage is not None:
        names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
        builder = builder.add_extension(names, critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    certificate = builder.sign(signer, hashes.SHA256())
    above = (issuer.certificate, *issuer.above) if issuer else ()
    return _Identity(certificate, key, above)


# The server ------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Testimony:
    """What one side of a connection can say of it.

    Attributes:
        completed: its handshake came to its end.
        certificate: what the other side proved to own.
        data: what the other side sent.
        error: what ended the connection, if not we.
        match: where our pins, if we have any, matched.
        last_flight: how many bytes came after we had sent last.
    """

    completed: bool = False
    certificate: bytes | None = None
    data: bytes = b""
    error: OSError | None = None
    match: PinMatch | None = None
    last_flight: int = 0

    @property
    def alert(self) -> str | None:
        """The alert that the other side sent, as RFC 8446 section 6 names it."""
        reason = getattr(self.error, "reason", None) or ""
        _, alert, name = reason.rpartition("ALERT_")
        return name.lower() if alert else None

    def __str__(self) -> str:
        if self.completed:
            return f"{self._certificate()}, data {self.data!r}"
        said = f"alert {self.alert}" if self.alert else f"the failure {self.error!r}"
        if self.last_flight > _ALERT_SIZE:
            return f"{said}, and {self.last_flight} bytes, which is more than an alert"
        return f"{said}, no client certificate, no data"

    def _certificate(self) -> str:
        if self.certificate is None:
            return "no client certificate"
        return f"client certificate {_chain.subject(self.certificate)}"


class _Server:
    """A TLS server on loopback, in a thread, for one connection.

    It moves the bytes itself, between the socket and a pair of BIOs, so that it can say how much
    the client sent after the server's last word: its testimony that there was nothing but an alert
    does not depend on what TLS lets through.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self.saw = _Testimony()
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(_LIMIT)
        self.address: tuple[str, int] = self._listener.getsockname()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> _Server:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Every step in the thread has its limit, so it ends.
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        try:
            connection, _ = self._listener.accept()
            with connection:
                connection.settimeout(_LIMIT)
                self._serve(connection)
        except OSError as error:
            # Of several errors the first tells what happened.
            self.saw.error = self.saw.error or error

    def _serve(self, connection: socket.socket) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self._context.wrap_bio(incoming, outgoing, server_side=True)

        def drive(step: Callable[[], _T]) -> _T:
            """Take one step of the protocol, moving bytes until it is done."""
            while True:
                try:
                    return step()
                except ssl.SSLWantReadError:
                    pass
                finally:
                    answer = outgoing.read()
                    if answer:
                        connection.sendall(answer)
                        self.saw.last_flight = 0
                received = connection.recv(65536)
                self.saw.last_flight += len(received)
                if received:
                    incoming.write(received)
                else:
                    incoming.write_eof()

        try:
            drive(tls.do_handshake)
            self.saw.completed = True
            self.saw.certificate = tls.getpeercert(True)
            if isinstance(tls, PinnedObject):
                self.saw.match = tls.pin_match
            self.saw.data = drive(lambda: tls.read(64))
            drive(lambda: tls.write(_PONG))
        except OSError as error:
            self.saw.error = error
        # To close with bytes unread is to reset the connection, which may take our alert from the
        # client before it has read it.
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass


def _visit(connect: Callable[[], ssl.SSLSocket]) -> _Testimony:
    """Be a client: connect, send, read; and say how it was."""
    saw = _Testimony()
    try:
        with connect() as tls:
            saw.completed = True
            if isinstance(tls, PinnedSocket):
                saw.match = tls.pin_match
            tls.sendall(_PING)
            saw.data = tls.recv(64)
    except OSError as error:
        saw.error = error
    return saw


# The scenes ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Scene:
    """A connection, its pins, and how it must come out.

    Attributes:
        server: the PEM file that the server loads.
        client: the PEM file that the client loads.
        pins: what the pinning side goes by: the client, unless ``pinned_by`` says otherwise.
        roots: what the pinning side trusts, DER.
        depth: where the pins must match; None if the peer must be refused.
        alert: what the refused side must have been told.
        bait: try the server first with a client that does not pin, which must fall for it.
    """

    title: str
    server: Path
    client: Path
    pins: PinSet
    roots: bytes
    depth: int | None = None
    alert: str = "bad_certificate"
    pinned_by: Literal["client", "server"] = "client"
    bait: bool = False


@dataclass(frozen=True, slots=True)
class _Stage:
    """The scenes, and what they have in common: the roots of those who go without pins."""

    root: bytes
    client_root: bytes
    scenes: tuple[_Scene, ...]

    def plain_server(self, scene: _Scene, version: ssl.TLSVersion) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = context.maximum_version = version
        context.load_cert_chain(scene.server)
        # It asks for a certificate, so that it can say whether it got one.
        context.load_verify_locations(cadata=self.client_root)
        context.verify_mode = ssl.CERT_OPTIONAL
        return context

    def plain_client(self, scene: _Scene, address: tuple[str, int], roots: bytes) -> _Testimony:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=roots)
        context.load_cert_chain(scene.client)

        def connect() -> ssl.SSLSocket:
            with socket.create_connection(address, timeout=_LIMIT) as raw:
                return context.wrap_socket(raw, server_hostname="localhost")

        return _visit(connect)

    def play(self, scene: _Scene, version: ssl.TLSVersion) -> tuple[bool, str]:
        """Play one scene; return whether it came out as it must, and what happened."""
        if scene.pinned_by == "server":
            return self._server_pins(scene, version)
        right, said = self._client_pins(scene, version)
        if scene.bait:
            with _Server(self.plain_server(scene, version)) as server:
                self.plain_client(scene, server.address, scene.roots)
            right = right and server.saw.certificate is not None and server.saw.data == _PING
            said += f" (from a client without pins: {server.saw})"
        return right, said

    def _client_pins(self, scene: _Scene, version: ssl.TLSVersion) -> tuple[bool, str]:
        context = create_default_context(pins=scene.pins, cadata=scene.roots)
        context.load_cert_chain(scene.client)
        with _Server(self.plain_server(scene, version)) as server:
            client = _visit(
                lambda: create_connection(
                    server.address, _LIMIT, context=context, server_hostname="localhost"
                )
            )
        saw = server.saw
        said = f"client {_decision(client)}; server saw {saw}"
        if scene.depth is not None:
            accepted = client.match is not None and client.match.depth == scene.depth
            served = client.data == _PONG and saw.certificate is not None and saw.data == _PING
            return accepted and served, said
        nothing = not saw.completed and saw.last_flight <= _ALERT_SIZE
        return not client.completed and saw.alert == scene.alert and nothing, said

    def _server_pins(self, scene: _Scene, version: ssl.TLSVersion) -> tuple[bool, str]:
        context = PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=scene.pins)
        context.minimum_version = context.maximum_version = version
        context.load_cert_chain(scene.server)
        context.load_verify_locations(cadata=scene.roots)
        with _Server(context) as server:
            client = self.plain_client(scene, server.address, self.root)
        saw = server.saw
        if scene.depth is not None:
            accepted = saw.match is not None and saw.match.depth == scene.depth
            said = f"server {_decision(saw)}; client got {client.data!r}"
            return accepted and saw.data == _PING and client.data == _PONG, said
        said = f"server {_decision(saw)}; client saw alert {client.alert}, got {client.data!r}"
        refused = isinstance(saw.error, PinMismatchError) and not saw.completed
        return refused and client.alert == scene.alert and client.data == b"", said


def _decision(side: _Testimony) -> str:
    if side.completed and side.match is not None:
        return f"accepted, {where(side.match)}"
    if side.error is None:
        return "accepted, without pins"
    if isinstance(side.error, PinError):
        return f"refused, {type(side.error).__name__}"
    return f"refused, {reason_of(side.error)}"


def _set_the_stage(directory: Path) -> _Stage:
    server_auth, client_auth = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
    root = _issue("demo root")
    intermediate = _issue("demo intermediate", root)
    leaf = _issue("demo server", intermediate, usage=server_auth)
    backup_key = ec.generate_private_key(ec.SECP256R1())
    renewed = _issue("demo server, new key", intermediate, usage=server_auth, key=backup_key)
    expired = _issue(
        "demo server, expired", intermediate, usage=server_auth, ends=timedelta(days=-1)
    )
    rogue_root = _issue("rogue root")
    rogue = _issue("rogue server", rogue_root, usage=server_auth)
    lonely = _issue("self-signed server", usage=server_auth)
    client_root = _issue("demo client root")
    second: dict[Position, Pin] = {1: intermediate.pin}
    alice = _issue("alice", client_root, usage=client_auth)
    mallory = _issue("mallory", client_root, usage=client_auth)

    shipped = directory / "server.der"
    shipped.write_bytes(leaf.der)
    scene = _Scene(
        title="leaf pin",
        server=leaf.write(directory / "leaf.pem"),
        client=alice.write(directory / "alice.pem"),
        pins=PinSet({"leaf": leaf.pin}),
        roots=root.der,
        depth=0,
    )
    stranger = replace(
        scene,
        title="man in the middle, his CA trusted",
        server=rogue.write(directory / "rogue.pem"),
        roots=root.der + rogue_root.der,
        depth=None,
        bait=True,
    )
    client = replace(
        scene,
        title="client pinned by the server",
        pins=PinSet({"leaf": alice.pin}),
        roots=client_root.der,
        pinned_by="server",
    )
    return _Stage(
        root.der,
        client_root.der,
        (
            scene,
            replace(scene, title="CA pin at depth 1", pins=PinSet(second), depth=1),
            replace(scene, title="anchor pin", pins=PinSet({"anchor": root.pin}), depth=2),
            replace(
                scene,
                title="whole-certificate pin from a file",
                pins=PinSet({"leaf": Pin.from_certificate(shipped.read_bytes(), kind="cert")}),
            ),
            replace(
                scene,
                title="backup pin after a key change",
                server=renewed.write(directory / "renewed.pem"),
                pins=PinSet({"leaf": [leaf.pin, Pin.from_public_key(backup_key.public_key())]}),
            ),
            stranger,
            replace(
                stranger,
                title="pinned certificate appended by the impostor",
                server=rogue.write(
                    directory / "appended.pem", rogue_root.certificate, leaf.certificate
                ),
                pins=PinSet({"any": leaf.pin}),
            ),
            replace(
                scene,
                title="expired leaf",
                server=expired.write(directory / "expired.pem"),
                pins=PinSet({"leaf": expired.pin}),
                depth=None,
                alert="certificate_expired",
            ),
            replace(
                scene,
                title='self-signed peer, trust="pins"',
                server=lonely.write(directory / "lonely.pem"),
                pins=PinSet({"leaf": lonely.pin}, trust="pins"),
            ),
            client,
            replace(
                client,
                title="client refused by the server",
                client=mallory.write(directory / "mallory.pem"),
                depth=None,
            ),
        ),
    )


def run_demo(arguments: argparse.Namespace) -> int:
    started = time.monotonic()
    good = 0
    with tempfile.TemporaryDirectory() as directory:
        stage = _set_the_stage(Path(directory))
        say("a chain leaf <- intermediate <- root, made just now; each scene on TLS 1.2 and 1.3")
        for number, scene in enumerate(stage.scenes, 1):
            played = [stage.play(scene, version) for version in _VERSIONS]
            right = all(each for each, _ in played)
            # Both versions of TLS say the same, unless something is wrong.
            said = " | ".join(dict.fromkeys(text for _, text in played))
            say(f"{'ok   ' if right else 'WRONG'} {number:2} {scene.title}: {said}")
            good += right
    total = len(stage.scenes)
    seconds = time.monotonic() - started
    say(f"{good} of {total} scenes came out as they must, in {seconds:.1f} seconds")
    return 0 if good == total else NO


