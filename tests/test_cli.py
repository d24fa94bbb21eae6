"""``python -m pinsock pin | show | check``: what they print, how they exit, what they complain of.

Pins are held against openssl's own pipeline, run as a command.  Servers are the standard library's,
on loopback; what a resolver or a network would have to do wrong is played by a patched
``socket.create_connection``.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import itertools
import json
import os
import re
import shlex
import socket
import ssl
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

import pinsock
from pinsock import Pin, _cli, _demo, _reach

ROOT = Path(pinsock.__file__).parent.parent
Capture = pytest.CaptureFixture[str]


# ---- Helpers


def openssl(*arguments: str | Path, stdin: bytes = b"") -> bytes:
    """Run the openssl command and return what it prints."""
    return subprocess.run(
        ["openssl", *map(str, arguments)], input=stdin, capture_output=True, check=True, timeout=60
    ).stdout


def spki_of(path: Path, command: str, *options: str) -> bytes:
    """The SPKI of a file, by openssl's own pipeline."""
    if command == "pkey":
        return openssl("pkey", "-in", path, "-pubout", "-outform", "der", *options)
    pem = openssl(command, "-in", path, "-pubkey", "-noout", *options)
    return openssl("pkey", "-pubin", "-outform", "der", stdin=pem)


def canonical(data: bytes, algorithm: str = "sha256", prefix: str = "") -> str:
    """The canonical text of a pin, made without pinsock."""
    digest = hashlib.new(algorithm, data).digest()
    return f"{prefix}{algorithm}/{base64.b64encode(digest).decode()}"


def run(*arguments: str | Path) -> int:
    return _cli.main([str(argument) for argument in arguments])


def pins_of(capsys: Capture, *arguments: str | Path) -> list[str]:
    """Run ``pin`` and return its lines; it must succeed without a word on standard error."""
    assert run("pin", *arguments) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out.splitlines()


def complaint(capsys: Capture, status: int, *arguments: str | Path) -> str:
    """Run a command that must fail: one line on standard error, none on standard output."""
    assert run(*arguments) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("pinsock: error: ")
    return err.removeprefix("pinsock: error: ").removesuffix("\n")


class Chain:
    """A leaf, an intermediate and a root made by trustme, as files and as bytes."""

    def __init__(self, directory: Path, **options: datetime) -> None:
        directory.mkdir(exist_ok=True)
        self.authority = trustme.CA(organization_name="Root Ltd")
        middle = self.authority.create_child_ca()
        issued = middle.issue_cert(
            "localhost", "127.0.0.1", key_type=trustme.KeyType.ECDSA, **options
        )
        self.pem = directory / "server.pem"
        issued.private_key_and_cert_chain_pem.write_to_path(str(self.pem))
        self.key = directory / "key.pem"
        issued.private_key_pem.write_to_path(str(self.key))
        self.root_pem = directory / "root.pem"
        self.authority.cert_pem.write_to_path(str(self.root_pem))
        blobs = [blob.bytes() for blob in issued.cert_chain_pems]
        self.bundle = directory / "bundle.pem"
        self.bundle.write_bytes(b"".join(blobs))
        self.leaf_pem = directory / "leaf.pem"
        self.leaf_pem.write_bytes(blobs[0])
        certificates = [x509.load_pem_x509_certificate(blob) for blob in blobs]
        certificates.append(x509.load_pem_x509_certificate(self.authority.cert_pem.bytes()))
        self.ders = [each.public_bytes(Encoding.DER) for each in certificates]

    @property
    def pins(self) -> list[str]:
        return [str(Pin.from_certificate(der)) for der in self.ders]

    @property
    def certificate_pins(self) -> list[str]:
        return [canonical(der, prefix="cert-") for der in self.ders]


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    return Chain(tmp_path_factory.mktemp("chain"))


@contextlib.contextmanager
def listening(handle: Callable[[socket.socket], None], host: str = "127.0.0.1") -> Iterator[int]:
    """Serve connections one after the other in a thread; yield the port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, 0), family=family)
    stopping = threading.Event()

    def accept() -> None:
        while True:
            connection, _ = listener.accept()
            with connection:
                if stopping.is_set():
                    return
                connection.settimeout(10)
                # What the client does to the connection is for the client's side to tell.
                with contextlib.suppress(OSError):
                    handle(connection)

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        stopping.set()
        socket.create_connection(listener.getsockname()[:2], timeout=10).close()
        thread.join(10)
        listener.close()
        assert not thread.is_alive()


def drain(connection: socket.socket) -> bytes:
    """Read until the other side closes."""
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


@contextlib.contextmanager
def tls_server(
    certfile: Path,
    *,
    host: str = "127.0.0.1",
    setup: Callable[[ssl.SSLContext], None] = lambda context: None,
    received: list[bytes] | None = None,
) -> Iterator[int]:
    """A server of the standard library that listens to what it is told, and answers nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certfile)
    # Tickets that the client has not read when it closes make its close a reset, which could
    # overtake what the server is to hear.
    context.num_tickets = 0
    setup(context)

    def handle(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as tls:
            data = drain(tls)
            if received is not None:
                received.append(data)

    with listening(handle, host) as port:
        yield port


# ---- pin: openssl's own pipeline

KEYS = {
    "rsa": ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
    "rsa-pss": [
        "-algorithm",
        "RSA-PSS",
        "-pkeyopt",
        "rsa_keygen_bits:2048",
        "-pkeyopt",
        "rsa_pss_keygen_md:sha256",
        "-pkeyopt",
        "rsa_pss_keygen_mgf1_md:sha256",
        "-pkeyopt",
        "rsa_pss_keygen_saltlen:32",
    ],
    "p256": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
    "p256-explicit": [
        "-algorithm",
        "EC",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-pkeyopt",
        "ec_param_enc:explicit",
    ],
    "ed25519": ["-algorithm", "ED25519"],
    "ed448": ["-algorithm", "ED448"],
}


@pytest.fixture(scope="module", params=[*KEYS, "p256-compressed"])
def key(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a private key, its public key, a certificate and a request."""
    path = tmp_path_factory.mktemp(request.param)
    if request.param == "p256-compressed":
        openssl("genpkey", *KEYS["p256"], "-out", path / "plain.pem")
        openssl("ec", "-in", path / "plain.pem", "-conv_form", "compressed", "-out", path / "k.pem")
    else:
        openssl("genpkey", *KEYS[request.param], "-out", path / "k.pem")
    openssl("pkey", "-in", path / "k.pem", "-pubout", "-out", path / "pub.pem")
    request_options = ["-key", path / "k.pem", "-subj", "/CN=pinned"]
    openssl("req", "-new", *request_options, "-out", path / "csr.pem")
    openssl("req", "-new", "-x509", "-days", "9", *request_options, "-out", path / "cert.pem")
    return path


def test_pins_of_every_kind_of_file_equal_openssls(key: Path, capsys: Capture) -> None:
    """Private and public key, request and certificate, PEM and DER: all give openssl's pin."""
    expected = canonical(spki_of(key / "cert.pem", "x509"))
    assert canonical(spki_of(key / "csr.pem", "req")) == expected
    assert canonical(spki_of(key / "k.pem", "pkey")) == expected
    openssl("x509", "-in", key / "cert.pem", "-outform", "der", "-out", key / "cert.der")
    openssl("req", "-in", key / "csr.pem", "-outform", "der", "-out", key / "csr.der")
    openssl("pkey", "-in", key / "k.pem", "-outform", "der", "-out", key / "k.der")
    openssl(
        "pkey", "-pubin", "-in", key / "pub.pem", "-pubout", "-outform", "der",
        "-out", key / "pub.der",
    )  # fmt: skip
    for name in ("cert", "csr", "k", "pub"):
        for suffix in (".pem", ".der"):
            assert pins_of(capsys, key / f"{name}{suffix}") == [expected], name + suffix


def test_pins_of_encrypted_keys_equal_openssls(key: Path, capsys: Capture) -> None:
    """An encrypted private key gives the same pin once its password is given, PEM and DER."""
    expected = canonical(spki_of(key / "cert.pem", "x509"))
    (key / "password").write_bytes(b"correct horse\r\nsecond line\n")
    for form in ("pem", "der"):
        locked = key / f"locked.{form}"
        openssl(
            "pkcs8", "-topk8", "-in", key / "k.pem", "-outform", form, "-out", locked,
            "-passout", "pass:correct horse",
        )  # fmt: skip
        assert pins_of(capsys, locked, "--password-file", key / "password") == [expected]
        assert "give --password-file" in complaint(capsys, 1, "pin", locked)


def test_a_key_in_openssls_old_format_can_be_read(tmp_path: Path, capsys: Capture) -> None:
    """What openssl wrote before PKCS #8 has pins too: with parameters, encrypted, and in DER."""
    path = tmp_path / "key.pem"
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-out", path)
    assert b"BEGIN EC PARAMETERS" in path.read_bytes()
    expected = canonical(spki_of(path, "pkey"))
    assert pins_of(capsys, path) == [expected]
    openssl("ec", "-in", path, "-outform", "der", "-out", tmp_path / "key.der")
    assert pins_of(capsys, tmp_path / "key.der") == [expected]
    locked, password = tmp_path / "locked.pem", tmp_path / "password"
    openssl("ec", "-in", path, "-aes128", "-passout", "pass:secret", "-out", locked)
    assert b"Proc-Type: 4,ENCRYPTED" in locked.read_bytes()
    password.write_text("secret")
    assert pins_of(capsys, locked, "--password-file", password) == [expected]
    assert "give --password-file" in complaint(capsys, 1, "pin", locked)


def test_a_bare_rsa_public_key_has_the_pin_of_its_spki(tmp_path: Path, capsys: Capture) -> None:
    """A PKCS #1 public key is pinned by the SPKI that goes into certificates, PEM and DER."""
    path = tmp_path / "key.pem"
    openssl("genrsa", "-out", path, "2048")
    expected = canonical(spki_of(path, "pkey"))
    for form in ("pem", "der"):
        bare = tmp_path / f"bare.{form}"
        openssl("rsa", "-in", path, "-RSAPublicKey_out", "-outform", form, "-out", bare)
        assert pins_of(capsys, bare) == [expected]


def test_a_wrong_password_is_named(tmp_path: Path, capsys: Capture) -> None:
    """A password that does not open the key is told apart from a damaged file."""
    secret = ec.generate_private_key(ec.SECP256R1())
    locked, password = tmp_path / "locked.pem", tmp_path / "password"
    locked.write_bytes(
        secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"right"))
    )
    password.write_text("wrong")
    said = complaint(capsys, 1, "pin", locked, "--password-file", password)
    assert "is the password right?" in said
    # An empty password is a password, and asks no terminal.
    password.write_text("")
    assert "password right" in complaint(capsys, 1, "pin", locked, "--password-file", password)


# ---- pin: spellings, kinds, algorithms


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_every_spelling_is_read_back_as_the_same_pin(
    chain: Chain, capsys: Capture, algorithm: str
) -> None:
    """What ``pin`` prints, in any spelling, ``Pin.parse`` reads as the pin of that certificate."""
    options = ["--algorithm", algorithm]
    der = chain.ders[0]
    spki, cert = canonical(_spki(chain), algorithm), canonical(der, algorithm, "cert-")
    for spelling, expected in {
        "canonical": spki,
        "curl": spki,
        "hpkp": spki,
        "hex": spki,
        "openssl": cert,
        "colons": cert,
    }.items():
        (line,) = pins_of(capsys, chain.leaf_pem, "--spelling", spelling, *options)
        assert str(Pin.parse(line)) == expected
        assert Pin.parse(line).matches(der)
    lines = pins_of(capsys, chain.leaf_pem, "--spelling", "all", *options)
    assert [str(Pin.parse(line.split("  # ")[0])) for line in lines] == [
        spki, cert, spki, spki, spki, cert, cert,
    ]  # fmt: skip


def _spki(chain: Chain) -> bytes:
    return spki_of(chain.leaf_pem, "x509")


def test_spellings_look_as_their_inventors_write_them(chain: Chain, capsys: Capture) -> None:
    """curl's, HPKP's and the hexadecimal spelling are exact; openssl's is openssl's own line."""
    digest = hashlib.sha256(_spki(chain)).digest()
    text = base64.b64encode(digest).decode()
    leaf = chain.leaf_pem
    assert pins_of(capsys, leaf, "--spelling", "curl") == [f"sha256//{text}"]
    assert pins_of(capsys, leaf, "--spelling", "hpkp") == [f'pin-sha256="{text}"']
    assert pins_of(capsys, leaf, "--spelling", "hex") == [f"sha256:{digest.hex()}"]
    own = openssl("x509", "-in", leaf, "-noout", "-fingerprint", "-sha256").decode().strip()
    assert pins_of(capsys, leaf, "--spelling", "openssl") == [own]
    assert pins_of(capsys, leaf, "--spelling", "colons") == [own.partition("=")[2]]


def test_kind_cert_pins_the_whole_certificate(chain: Chain, capsys: Capture) -> None:
    """``--kind cert`` hashes the DER certificate, for each certificate of a bundle."""
    lines = pins_of(capsys, "--kind", "cert", chain.bundle)
    assert [line.split()[0] for line in lines] == chain.certificate_pins[:2]


def test_kind_narrows_all_spellings(chain: Chain, capsys: Capture) -> None:
    """With a kind given, ``--spelling all`` prints the spellings that can say it."""
    lines = pins_of(capsys, "--kind", "cert", "--spelling", "all", chain.leaf_pem)
    assert {Pin.parse(line.split("  # ")[0]).kind for line in lines} == {"cert"}
    assert len(lines) == 3
    assert len(pins_of(capsys, "--kind", "spki", "--spelling", "all", chain.leaf_pem)) == 4


@pytest.mark.parametrize(
    ("spelling", "kind", "only"),
    [("curl", "cert", "spki"), ("openssl", "spki", "cert"), ("colons", "spki", "cert")],
)
def test_a_spelling_that_cannot_say_the_kind_is_wrong_usage(
    chain: Chain, capsys: Capture, spelling: str, kind: str, only: str
) -> None:
    """curl has no word for a certificate's pin, nor openssl for a key's."""
    said = complaint(capsys, 2, "pin", "--spelling", spelling, "--kind", kind, chain.leaf_pem)
    assert said == f"the spelling {spelling!r} can only say --kind {only}"


def test_a_key_has_no_certificate_pin(chain: Chain, capsys: Capture) -> None:
    """``--kind cert`` of a file without a certificate is refused, not answered with another pin."""
    said = complaint(capsys, 1, "pin", "--kind", "cert", chain.leaf_pem, chain.key)
    assert str(chain.key) in said
    assert "use --kind spki" in said


def test_several_pins_are_commented_and_one_is_not(chain: Chain, capsys: Capture) -> None:
    """One pin stands alone; several say what they are of, in a comment that a shell ignores."""
    assert pins_of(capsys, chain.leaf_pem) == [chain.pins[0]]
    (line,) = pins_of(capsys, "-v", chain.leaf_pem)
    assert line.startswith(f"{chain.pins[0]}  # ")
    assert line.endswith(f" / {chain.leaf_pem}")
    lines = pins_of(capsys, chain.pem, chain.root_pem)  # key, leaf, intermediate; root
    assert [shlex.split(line, comments=True) for line in lines] == [
        [pin] for pin in (chain.pins[0], *chain.pins)
    ]
    assert f"  # private key / {chain.pem}" in lines[0]
    assert "O=Root Ltd" in lines[3]


def test_comments_cannot_command_the_terminal(
    chain: Chain, tmp_path: Path, capsys: Capture
) -> None:
    """A file name with control characters is printed without them."""
    path = tmp_path / "evil\x1b[2J\n.pem"
    path.write_bytes(chain.leaf_pem.read_bytes())
    (line,) = pins_of(capsys, "-v", path)
    assert "evil?[2J?.pem" in line


def test_a_certificate_without_subject_is_said_to_have_none(
    tmp_path: Path, capsys: Capture
) -> None:
    """The comment of a certificate with an empty subject says so."""
    openssl(
        "req", "-new", "-x509", "-newkey", "ed25519", "-nodes", "-subj", "/",
        "-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem",
    )  # fmt: skip
    (line,) = pins_of(capsys, "-v", tmp_path / "cert.pem")
    assert "# (no subject) / " in line


def test_standard_input_is_a_file(
    chain: Chain, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``-`` reads standard input, PEM as well as DER."""
    for data in (chain.leaf_pem.read_bytes(), chain.ders[0]):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        assert pins_of(capsys, "-") == [chain.pins[0]]


# ---- pin: what cannot be read


def block(label: str, body: bytes) -> bytes:
    text = base64.encodebytes(body).decode()
    return f"-----BEGIN {label}-----\n{text}-----END {label}-----\n".encode()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "neither PEM nor DER"),
        (b"hello", "neither PEM nor DER"),
        (b"\x30\x03\x02\x01\x00", "neither PEM nor DER"),
        (b"-----BEGIN CERTIFICATE-----\nMIIB", "no whole PEM block"),
        (block("EC PARAMETERS", b"\x06\x01\x2a"), "no whole PEM block"),
        (b"-----BEGIN CERTIFICATE-----\nM*\n-----END CERTIFICATE-----\n", "is damaged"),
        (block("CERTIFICATE", b"junk"), "'BEGIN CERTIFICATE' cannot be read"),
        (block("CERTIFICATE REQUEST", b"junk"), "'BEGIN CERTIFICATE REQUEST' cannot be read"),
        (block("RSA PUBLIC KEY", b"junk"), "'BEGIN RSA PUBLIC KEY' cannot be read"),
        (block("PUBLIC KEY", b"junk"), "is not a public key"),
        (block("PRIVATE KEY", b"junk"), "is the file whole?"),
        (block("OPENSSH PRIVATE KEY", b"junk"), "has no pin"),
        (block("X509 CRL", b"junk"), "'BEGIN X509 CRL' has no pin"),
    ],
)
def test_what_has_no_pin_is_named(
    tmp_path: Path, capsys: Capture, data: bytes, said: str
) -> None:
    """A file that has no pin is refused with its name and what is wrong."""
    path = tmp_path / "file"
    path.write_bytes(data)
    message = complaint(capsys, 1, "pin", path)
    assert message.startswith(f"{path}: ")
    assert said in message


def test_an_unknown_kind_of_encrypted_key_is_not_a_traceback(
    tmp_path: Path, capsys: Capture
) -> None:
    """A DER private key of an algorithm that nobody knows is unreadable, no more."""
    # PKCS #8 with the algorithm 1.2.3.4.
    der = bytes.fromhex("300f020100300506032a03040403020100")
    path = tmp_path / "key.der"
    path.write_bytes(der)
    assert "neither PEM nor DER" in complaint(capsys, 1, "pin", path)


def test_a_file_that_cannot_be_opened_is_named(
    chain: Chain, tmp_path: Path, capsys: Capture
) -> None:
    """A missing file, a directory and a name with a NUL are complaints, and no pin is printed."""
    missing = tmp_path / "missing.pem"
    said = complaint(capsys, 1, "pin", chain.leaf_pem, missing)
    assert said == f"cannot read {missing}: No such file or directory"
    assert "Is a directory" in complaint(capsys, 1, "pin", tmp_path)
    assert "null byte" in complaint(capsys, 1, "pin", "a\0b")
    assert "cannot read" in complaint(
        capsys, 1, "pin", chain.leaf_pem, "--password-file", tmp_path / "none"
    )


# ---- HOST[:PORT] and wrong usage


@pytest.mark.parametrize(
    ("text", "host", "port", "shown"),
    [
        ("example.com", "example.com", 443, "example.com:443"),
        ("example.com:8443", "example.com", 8443, "example.com:8443"),
        ("127.0.0.1:65535", "127.0.0.1", 65535, "127.0.0.1:65535"),
        ("::1", "::1", 443, "[::1]:443"),
        ("[::1]", "::1", 443, "[::1]:443"),
        ("[::1]:8443", "::1", 8443, "[::1]:8443"),
        ("2001:DB8::1", "2001:db8::1", 443, "[2001:db8::1]:443"),
        ("[fe80::1%eth0]:1", "fe80::1%eth0", 1, "[fe80::1%eth0]:1"),
    ],
)
def test_targets_are_read(text: str, host: str, port: int, shown: str) -> None:
    """A host, with or without a port; an IPv6 address bare or in brackets."""
    target = _reach.Target.parse(text).at(443)
    assert (target.host, target.port, str(target)) == (host, port, shown)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("https://example.com/", "is a URL or a path"),
        ("example.com:", "bad port ''"),
        ("example.com:0", "bad port '0'"),
        ("example.com:65536", "bad port '65536'"),
        ("example.com:https", "bad port 'https'"),
        ("example.com:-1", "bad port '-1'"),
        ("example.com:4٣", "bad port '4٣'"),
        ("[::1]:x", "bad port 'x'"),
        ("[::1", "is not HOST[:PORT]"),
        ("", "is not HOST[:PORT]"),
        (":443", "is not HOST[:PORT]"),
        ("[localhost]:443", "'localhost' is not an IPv6 address"),
        ("1::2::3", "is not HOST[:PORT]"),
        ("2001:db8::1:443:8443:1:2:3:4:5", "is [ADDRESS]:PORT"),
    ],
)
@pytest.mark.parametrize("command", ["show", "check"])
def test_wrong_targets_are_named(capsys: Capture, command: str, text: str, said: str) -> None:
    """A target that cannot be one is wrong usage, and the complaint says what is wrong with it."""
    pins = ["--pin", "sha256/" + "A" * 43 + "="] if command == "check" else []
    assert said in complaint(capsys, 2, command, text, *pins)


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "1e9", "soon", ""])
def test_wrong_timeouts_are_named(capsys: Capture, seconds: str) -> None:
    """A timeout is a number of seconds that can pass."""
    said = complaint(capsys, 2, "show", "localhost", f"--timeout={seconds}")
    assert f"bad timeout {seconds!r}" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "COMMAND"),
        (["fly"], "invalid choice: 'fly'"),
        (["pin"], "FILE"),
        (["show", "a", "b"], "unrecognized arguments: b"),
        (["show"], "HOST[:PORT]"),
        (["check"], "HOST[:PORT]|FILE"),
        (["check", "localhost", "--pin", "x", "--wrong"], "unrecognized arguments: --wrong"),
        (["demo", "--loud"], "unrecognized arguments: --loud"),
        (["pin", "--algorithm", "md5", "f"], "invalid choice: 'md5'"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(
    capsys: Capture, arguments: list[str], said: str
) -> None:
    """A command that makes no sense exits with 2 and says where help is."""
    message = complaint(capsys, 2, *arguments)
    assert said in message
    assert "--help" in message


GOOD = canonical(b"good")


@pytest.mark.parametrize(
    ("pin", "said"),
    [
        ("sha256/short", "is not 32 bytes in base64"),
        ("root=" + GOOD, "'root=sha256/"),
        ("leaf=", "'leaf='"),
        ("leaf=nonsense", "'nonsense' is not a pin"),
        ("-1=" + GOOD, "--pin"),
        ("sha1/" + GOOD[7:], "broken"),
    ],
)
def test_wrong_pins_are_named(capsys: Capture, pin: str, said: str) -> None:
    """A pin or a position that cannot be read is wrong usage, before anything is sent."""
    assert said in complaint(capsys, 2, "check", "localhost:1", f"--pin={pin}")


def test_positions_are_split_off_and_nothing_else() -> None:
    """A pin's own '=' stays with the pin, and pins of one position are alternatives."""
    digest = hashlib.sha256(b"x").digest()
    text = base64.b64encode(digest).decode()
    assert text.endswith("=")
    pin = Pin("spki", "sha256", digest)
    pins = _cli._read_pins(
        [
            f"sha256/{text}",
            f'pin-sha256="{text}"',
            f"leaf=sha256//{text}",
            f'0=pin-sha256="{text}"',
            f"anchor={GOOD}",
            f"anchor=sha256:{digest.hex()}",
            f"intermediate={GOOD}",
            f"ca={GOOD}",
            f"12={GOOD}",
        ],
        "ca",
    )
    good = Pin.parse(GOOD)
    assert pins == pinsock.PinSet(
        {
            "any": [pin],
            "leaf": [pin],
            0: [pin],
            "anchor": [good, pin],
            "intermediate": [good],
            "ca": [good],
            12: [good],
        }
    )


@pytest.mark.parametrize(
    ("content", "said"), [(None, "no such file"), (b"", ""), (b"rubbish\n", "")]
)
def test_a_cafile_that_cannot_be_read_is_wrong_usage(
    tmp_path: Path, capsys: Capture, content: bytes | None, said: str
) -> None:
    """A CA file that is missing or holds no certificate is named before anything is sent."""
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    for command in (["show", "localhost:1"], ["check", "localhost:1", "--pin", GOOD]):
        message = complaint(capsys, 2, *command, "--cafile", path)
        assert message.startswith(f"--cafile {path}: no certificates can be read from it")
        assert said in message.lower()
        assert "no certificates" in complaint(capsys, 2, *command, "--cafile", "a\0b")


@pytest.mark.parametrize("arguments", [["--help"], ["demo", "-h"], ["pin", "-h"], ["check", "-h"]])
def test_help_is_no_error(capsys: Capture, arguments: list[str]) -> None:
    """Help goes to standard output and exits with 0."""
    assert run(*arguments) == 0
    out, err = capsys.readouterr()
    assert out.startswith("usage: python -m pinsock")
    assert err == ""


# ---- show


def show_json(capsys: Capture, *arguments: str | Path) -> dict[str, object]:
    assert run("show", "--json", *arguments) == 0
    out, err = capsys.readouterr()
    assert err == ""
    found = json.loads(out)
    assert isinstance(found, dict)
    return found


def test_show_prints_each_position_with_its_pins(
    chain: Chain, capsys: Capture, tls_version: ssl.TLSVersion
) -> None:
    """The verified chain has a row per position, the anchor from the trust store included."""
    received: list[bytes] = []

    def fix(context: ssl.SSLContext) -> None:
        context.minimum_version = context.maximum_version = tls_version

    with tls_server(chain.pem, setup=fix, received=received) as port:
        assert run("show", f"localhost:{port}", "--cafile", chain.root_pem) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert received == [b"", b""]  # looking and trusting: neither said a word
    lines = out.splitlines()
    name = "TLSv1.2" if tls_version == ssl.TLSVersion.TLSv1_2 else "TLSv1.3"
    assert lines[0] == f"localhost:{port}, {name}"
    assert lines[1::6] == [
        "depth 0, leaf",
        "depth 1, intermediate",
        "depth 2, anchor (not sent: it is from the trust store)",
        f"trusted: yes, by {chain.root_pem}",
    ]
    assert [line.split()[1] for line in lines[5::6]] == chain.pins
    assert [line.split()[1] for line in lines[6::6]] == chain.certificate_pins
    certificates = [x509.load_der_x509_certificate(der) for der in chain.ders]
    expiries = [each.not_valid_after_utc.strftime("%Y-%m-%d %H:%M:%S UTC") for each in certificates]
    assert [line.split(maxsplit=1)[1] for line in lines[4::6]] == expiries
    subjects = [line.split(maxsplit=1)[1] for line in lines[2::6]]
    issuers = [line.split(maxsplit=1)[1] for line in lines[3::6]]
    assert issuers == [*subjects[1:], subjects[2]]
    assert "Root Ltd" in subjects[2]


def test_show_in_json_says_the_same(chain: Chain, capsys: Capture) -> None:
    """``--json`` prints the rows as data."""
    with tls_server(chain.pem) as port:
        found = show_json(
            capsys, f"127.0.0.1:{port}", "--cafile", chain.root_pem, "--servername", "localhost"
        )
    rows = found.pop("chain")
    assert found == {
        "host": "127.0.0.1",
        "port": port,
        "servername": "localhost",
        "version": "TLSv1.3",
        "trusted": True,
        "reason": None,
    }
    assert isinstance(rows, list)
    assert [row["depth"] for row in rows] == [0, 1, 2]
    assert [row["position"] for row in rows] == ["leaf", "intermediate", "anchor"]
    assert [row["sent"] for row in rows] == [True, True, False]
    assert [row["pin"] for row in rows] == chain.pins
    assert [row["certificate_pin"] for row in rows] == chain.certificate_pins
    leaf = x509.load_der_x509_certificate(chain.ders[0])
    assert datetime.fromisoformat(rows[0]["not_before"]) == leaf.not_valid_before_utc
    assert datetime.fromisoformat(rows[0]["not_after"]) == leaf.not_valid_after_utc


def test_show_shows_a_chain_that_nobody_trusts(
    chain: Chain, tmp_path: Path, capsys: Capture
) -> None:
    """The chain is shown as it was sent, and the reason of the distrust with it."""
    other = Chain(tmp_path / "other")
    with tls_server(chain.pem) as port:
        assert run("show", f"localhost:{port}", "--cafile", other.root_pem) == 0
        out, _ = capsys.readouterr()
        found = show_json(capsys, f"localhost:{port}", "--cafile", other.root_pem)
    assert out.splitlines()[1::6][:2] == ["depth 0, leaf", "depth 1"]
    assert out.splitlines()[-1] == f"trusted: no, {found['reason']}"
    assert "unable to get local issuer certificate" in str(found["reason"])
    assert found["trusted"] is False
    rows = found["chain"]
    assert isinstance(rows, list)
    assert [row["pin"] for row in rows] == chain.pins[:2]
    assert [row["position"] for row in rows] == ["leaf", None]


def test_show_asks_the_machines_trust_store_by_default(chain: Chain, capsys: Capture) -> None:
    """Without ``--cafile`` it is the machine's store that decides, and it knows no CA of ours."""
    with tls_server(chain.pem) as port:
        assert run("show", f"localhost:{port}") == 0
    assert "trusted: no, " in capsys.readouterr().out


def test_show_names_a_host_name_that_does_not_fit(chain: Chain, capsys: Capture) -> None:
    """A certificate for another name is shown, with the option that says which name to check."""
    with tls_server(chain.pem) as port:
        assert run("show", f"localhost:{port}", "--cafile", chain.root_pem,
                   "--servername", "example.com") == 0  # fmt: skip
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"localhost:{port} as example.com, ")
    assert lines[-1].startswith("trusted: no, ")
    assert "'example.com'" in lines[-1]
    assert "--servername says which name to check" in lines[-1]


def test_show_marks_certificates_out_of_their_time(tmp_path: Path, capsys: Capture) -> None:
    """What has expired and what is not yet valid is marked where the date stands."""
    now = datetime.now(timezone.utc)
    past = Chain(tmp_path / "past", not_after=now - timedelta(days=1))
    future = Chain(tmp_path / "future", not_before=now + timedelta(days=2))
    for chain, mark in ((past, "EXPIRED"), (future, "NOT YET VALID")):
        with tls_server(chain.pem) as port:
            assert run("show", f"localhost:{port}", "--cafile", chain.root_pem) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[4].endswith(f" UTC  {mark}")
        assert lines[10].endswith(" UTC")
        assert lines[-1].startswith("trusted: no, certificate ")


def test_show_tells_what_was_appended_from_what_was_verified(
    chain: Chain, tmp_path: Path, capsys: Capture
) -> None:
    """A certificate that is merely appended has no depth: no pin can match it."""
    other = Chain(tmp_path / "other")
    padded = tmp_path / "padded.pem"
    padded.write_bytes(chain.pem.read_bytes() + other.leaf_pem.read_bytes())
    with tls_server(padded) as port:
        assert run("show", f"localhost:{port}", "--cafile", chain.root_pem) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[19] == "not in the verified chain"
    assert other.pins[0] in out.splitlines()[23]


def test_show_of_a_certificate_that_is_its_own_anchor(tmp_path: Path, capsys: Capture) -> None:
    """A self-signed certificate in the trust store is leaf and anchor at once."""
    openssl(
        "req", "-new", "-x509", "-newkey", "ed25519", "-nodes", "-subj", "/CN=localhost",
        "-addext", "subjectAltName=DNS:localhost", "-days", "9",
        "-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem",
    )  # fmt: skip
    server = tmp_path / "server.pem"
    server.write_bytes((tmp_path / "key.pem").read_bytes() + (tmp_path / "cert.pem").read_bytes())
    with tls_server(server) as port:
        assert run("show", f"localhost:{port}", "--cafile", tmp_path / "cert.pem") == 0
    assert "depth 0, leaf, anchor\n" in capsys.readouterr().out


def test_show_shows_what_it_saw_if_the_second_handshake_fails(
    chain: Chain, capsys: Capture
) -> None:
    """A server that goes away between the two handshakes leaves trust unknown, not the chain."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain.pem)
    connections = itertools.count()

    def once(connection: socket.socket) -> None:
        if next(connections) == 0:
            with context.wrap_socket(connection, server_side=True) as tls:
                drain(tls)

    with listening(once) as port:
        assert run("show", f"localhost:{port}", "--cafile", chain.root_pem) == 0
    out = capsys.readouterr().out
    assert chain.pins[0] in out
    assert out.splitlines()[-1].startswith(
        f"trusted: unknown, localhost:{port} closed the connection"
    )


def test_show_looks_at_a_server_that_demands_a_client_certificate(
    chain: Chain, capsys: Capture, tls_version: ssl.TLSVersion
) -> None:
    """The chain is shown although we have no certificate; TLS 1.2 leaves the trust unknown."""

    def demand(context: ssl.SSLContext) -> None:
        context.minimum_version = context.maximum_version = tls_version
        context.load_verify_locations(chain.root_pem)
        context.verify_mode = ssl.CERT_REQUIRED

    with tls_server(chain.pem, setup=demand) as port:
        found = show_json(capsys, f"localhost:{port}", "--cafile", chain.root_pem)
        assert run("show", f"localhost:{port}", "--cafile", chain.root_pem) == 0
    headline = capsys.readouterr().out.splitlines()[0]
    rows = found["chain"]
    assert isinstance(rows, list)
    assert [row["pin"] for row in rows][:2] == chain.pins[:2]
    if tls_version == ssl.TLSVersion.TLSv1_2:
        assert found["trusted"] is None
        assert "client certificates" in str(found["reason"])
        assert found["version"] is None
        assert headline == f"localhost:{port}, handshake not completed"
    else:
        assert found["trusted"] is True


def test_a_certificate_that_cannot_be_read_is_still_shown() -> None:
    """What OpenSSL takes and our reader does not has a row, with the certificate's pin."""
    row = _cli._Row.of(b"junk", 1, None, True)
    lines = list(row.lines(datetime.now(timezone.utc)))
    assert lines[0] == "depth 1"
    assert [line.split(maxsplit=1)[1] for line in lines[1:5]] == ["(cannot be read)"] * 4
    assert lines[5].split()[1] == canonical(b"junk", prefix="cert-")
    data = row.as_json()
    assert [data[name] for name in ("subject", "issuer", "not_before", "not_after", "pin")] == (
        [None] * 5
    )


def test_show_works_over_ipv6(chain: Chain, capsys: Capture) -> None:
    """A bracketed IPv6 address is connected to, and named as it was given."""
    try:
        server = tls_server(chain.pem, host="::1")
        with server as port:
            assert run("show", f"[::1]:{port}", "--cafile", chain.root_pem,
                       "--servername", "localhost") == 0  # fmt: skip
    except OSError as error:
        pytest.skip(f"no IPv6 on this machine: {error}")
    assert capsys.readouterr().out.startswith(f"[::1]:{port} as localhost, ")


# ---- check


def check(chain: Chain, port: int, *arguments: str | Path) -> int:
    return run("check", f"localhost:{port}", "--cafile", chain.root_pem, *arguments)


def test_check_says_where_the_pin_matched(
    chain: Chain, capsys: Capture, tls_version: ssl.TLSVersion
) -> None:
    """A match exits with 0 and tells depth, position and pin, for each position asked for."""

    def fix(context: ssl.SSLContext) -> None:
        context.minimum_version = context.maximum_version = tls_version

    leaf, middle, root = chain.pins
    with tls_server(chain.pem, setup=fix) as port:
        assert check(chain, port, "--pin", middle) == 0
        where = f"localhost:{port}: matched at depth"
        assert capsys.readouterr() == (f"{where} 1 (any): {middle}\n", "")
        assert check(chain, port, "--pin", GOOD, f"leaf={leaf}", "--pin", root, f"2={root}") == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{where} 2 (any): {root}",
        f"{where} 0 (leaf): {leaf}",
        f"{where} 2: {root}",
    ]


def test_what_pin_and_show_print_check_takes(chain: Chain, capsys: Capture) -> None:
    """Every line of ``pin``, in every spelling, and pins of ``show`` can be pasted behind --pin."""
    texts = [line.split("  # ")[0] for line in pins_of(capsys, chain.leaf_pem, "--spelling", "all")]
    with tls_server(chain.pem) as port:
        shown = show_json(capsys, f"localhost:{port}", "--cafile", chain.root_pem)["chain"]
        assert isinstance(shown, list)
        texts += [row[name] for row in shown for name in ("pin", "certificate_pin")]
        for text in texts:
            assert check(chain, port, "--pin", text) == 0
    assert capsys.readouterr().out.count("matched at depth") == len(texts) == 13


def test_check_in_json_tells_the_match(chain: Chain, capsys: Capture) -> None:
    """``--json`` prints the matches as data."""
    with tls_server(chain.pem) as port:
        assert check(chain, port, "--json", "--pin", f"anchor={chain.pins[2]}") == 0
    assert json.loads(capsys.readouterr().out) == {
        "host": "localhost",
        "port": port,
        "servername": "localhost",
        "accepted": True,
        "version": "TLSv1.3",
        "reason": None,
        "matches": [{"depth": 2, "position": "anchor", "pin": chain.pins[2]}],
    }


def test_check_refuses_a_mismatch_and_says_how_to_mend_it(
    chain: Chain, capsys: Capture, tls_version: ssl.TLSVersion
) -> None:
    """A mismatch exits with 1, lists the chain with its pins and the pins expected."""

    def fix(context: ssl.SSLContext) -> None:
        context.minimum_version = context.maximum_version = tls_version

    with tls_server(chain.pem, setup=fix) as port:
        assert check(chain, port, "--pin", f"leaf={GOOD}") == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith(f"pinsock: refused: localhost:{port}: ")
        for pin in (*chain.pins, *chain.certificate_pins, f"leaf: {GOOD}"):
            assert pin in err
        assert check(chain, port, "--json", "--pin", f"0={GOOD}") == 1
    out, err = capsys.readouterr()
    assert err == ""
    found = json.loads(out)
    assert found["accepted"] is False
    assert found["error"] == "PinMismatchError"
    assert "does not match its pins" in found["reason"]
    assert found["matches"] == []
    assert found["expected"] == {"0": [GOOD]}
    assert [row["pin"] for row in found["positions"]] == chain.pins
    assert [row["certificate_pin"] for row in found["positions"]] == chain.certificate_pins
    assert [row["depth"] for row in found["positions"]] == [0, 1, 2]


def test_check_refuses_what_the_trust_store_refuses(
    chain: Chain, tmp_path: Path, capsys: Capture
) -> None:
    """A matching pin does not stand in for the CA, unless ``--trust pins`` says that it does."""
    other = Chain(tmp_path / "other")
    pin = f"leaf={chain.pins[0]}"
    with tls_server(chain.pem) as port:
        where = [f"localhost:{port}", "--cafile", str(other.root_pem), "--pin", pin]
        assert run("check", *where) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert err == (
            f"pinsock: refused: localhost:{port}: unable to get local issuer certificate\n"
        )
        assert run("check", "--json", *where) == 1
        found = json.loads(capsys.readouterr().out)
        assert found["error"] == "SSLCertVerificationError"
        assert "positions" not in found
        assert run("check", "--trust", "pins", *where) == 0
    assert "matched at depth 0 (leaf)" in capsys.readouterr().out


def test_check_checks_the_servername(chain: Chain, capsys: Capture) -> None:
    """The name is checked with pins too, and ``--servername`` says which."""
    with tls_server(chain.pem) as port:
        assert check(chain, port, "--pin", chain.pins[0], "--servername", "example.com") == 1
        assert "--servername says which name to check" in capsys.readouterr().err
        where = f"127.0.0.1:{port}"
        arguments = ["--cafile", chain.root_pem, "--pin", chain.pins[0]]
        assert run("check", where, *arguments, "--servername", "localhost") == 0


def test_check_does_not_take_a_handshake_without_a_match_for_a_yes(
    chain: Chain, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should a handshake ever complete unjudged, the answer is not 0."""
    real = _reach.create_default_context
    monkeypatch.setattr(
        _reach, "create_default_context", lambda pins, cafile: real(pins=None, cafile=cafile)
    )
    with tls_server(chain.pem) as port:
        said = complaint(
            capsys, 1, "check", f"localhost:{port}", "--cafile", chain.root_pem, "--pin", GOOD
        )
    assert "no refusal and no match" in said


# ---- The network's mistakes


@pytest.fixture(params=["show", "check"])
def command(request: pytest.FixtureRequest) -> list[str]:
    """The beginning of a command that connects."""
    return ["show"] if request.param == "show" else ["check", "--pin", GOOD]


def test_a_refused_connection_is_named(command: list[str], capsys: Capture) -> None:
    """Where nothing listens, the port is to be checked."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        said = complaint(capsys, 1, *command, f"127.0.0.1:{port}")
    assert said == (
        f"127.0.0.1:{port} refused the connection: nothing listens there; check the port"
    )


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "unknown host 'nowhere'"),
        (TimeoutError("timed out"), "did not answer within 10 seconds"),
        (ConnectionResetError("reset"), "nowhere:443 closed the connection before a TLS"),
        (OSError(101, "Network is unreachable"), "cannot connect to nowhere:443: Network is"),
        (OSError("odd"), "cannot connect to nowhere:443: odd"),
    ],
)
def test_an_unreachable_host_is_named(
    command: list[str],
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
    error: OSError,
    said: str,
) -> None:
    """What the resolver and the network refuse is said with what to check."""

    def fail(address: object, timeout: float) -> socket.socket:
        raise error

    monkeypatch.setattr(socket, "create_connection", fail)
    message = complaint(capsys, 1, *command, "nowhere")
    assert said in message
    assert "check" in message


@pytest.mark.parametrize("name", ["a..b", ".example", "x" * 70, "nul\0.example", "127.1", "*.a.b"])
def test_a_name_that_cannot_be_a_host_is_wrong_usage(
    command: list[str], capsys: Capture, name: str
) -> None:
    """What neither a resolver nor TLS can carry is wrong usage, as host and as --servername."""
    for arguments in ([name], ["localhost:1", "--servername", name]):
        said = complaint(capsys, 2, *command, *arguments)
        assert repr(name) in said or "host name" in said


@pytest.mark.parametrize(
    "greeting",
    [
        b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"220 mail.example ESMTP ready\r\n",
        b"\x00" * 64,
        b"\xff" * 64,
    ],
)
def test_a_peer_that_does_not_speak_tls_is_named(
    command: list[str], capsys: Capture, greeting: bytes
) -> None:
    """HTTP, SSH, SMTP and noise are recognised as not TLS."""

    def greet(connection: socket.socket) -> None:
        connection.sendall(greeting)
        drain(connection)

    with listening(greet) as port:
        said = complaint(capsys, 1, *command, f"127.0.0.1:{port}")
    assert said == (
        f"127.0.0.1:{port} does not speak TLS: check the port, or give --starttls PROTOCOL"
    )


def test_a_peer_that_hangs_up_is_named(command: list[str], capsys: Capture) -> None:
    """A connection closed in the handshake, with or without a reset, is said to be closed."""

    def close(connection: socket.socket) -> None:
        connection.recv(65536)

    def reset(connection: socket.socket) -> None:
        # To linger for no time is to reset; the client may not even have begun.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    for handle in (close, reset):
        with listening(handle) as port:
            said = complaint(capsys, 1, *command, f"127.0.0.1:{port}")
        assert f"127.0.0.1:{port} closed the connection before a TLS handshake was" in said


def test_a_silent_peer_is_named(command: list[str], capsys: Capture) -> None:
    """A peer that never answers the ClientHello costs the timeout and no more."""

    def swallow(connection: socket.socket) -> None:
        drain(connection)

    with listening(swallow) as port:
        said = complaint(capsys, 1, *command, f"127.0.0.1:{port}", "--timeout", "0.2")
    assert "did not complete a TLS handshake within 0.2 seconds" in said


def test_a_handshake_that_the_server_refuses_is_named(
    chain: Chain, command: list[str], capsys: Capture
) -> None:
    """An alert of the server's is given in words."""

    def only_psk(context: ssl.SSLContext) -> None:
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("AECDH-NULL-SHA:@SECLEVEL=0")

    with tls_server(chain.pem, setup=only_psk) as port:
        said = complaint(capsys, 1, *command, f"127.0.0.1:{port}")
    assert f"the TLS handshake with 127.0.0.1:{port} failed: " in said
    assert "handshake failure" in said


def test_a_failure_without_a_reason_is_told_in_its_own_words(
    chain: Chain, command: list[str], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An SSLError without a reason code still has its message."""

    def fail(*arguments: object, **options: object) -> ssl.SSLSocket:
        raise ssl.SSLError(ssl.SSL_ERROR_SSL, "something odd")

    monkeypatch.setattr(pinsock.PinnedContext, "wrap_socket", fail)
    with tls_server(chain.pem) as port:
        said = complaint(capsys, 1, *command, f"127.0.0.1:{port}")
    assert "failed: something odd; check" in said


# ---- The process


def test_output_survives_a_terminal_that_knows_ascii_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A subject in another script is printed escaped where the encoding has no such letters."""
    openssl(
        "req", "-new", "-x509", "-newkey", "ed25519", "-nodes", "-utf8", "-subj", "/CN=žluťoučký",
        "-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem",
    )  # fmt: skip
    for encoding, expected in (("ascii", "CN=\\u017elu"), ("utf-8", "CN=žlu")):
        raw = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
        assert run("pin", "-v", tmp_path / "cert.pem") == 0
        assert expected in raw.getvalue().decode("utf-8")


def test_a_reader_that_has_seen_enough_is_no_traceback(
    chain: Chain, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When standard output is a pipe that nobody reads any more, the command ends quietly."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert run("pin", chain.leaf_pem) == 1
        monkeypatch.undo()
    assert capsys.readouterr() == ("", "")


def test_interruption_is_no_traceback(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends with status 130 and one line."""

    def interrupt(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(_demo, "_set_the_stage", interrupt)
    assert run("demo") == 130
    assert capsys.readouterr() == ("", "pinsock: interrupted\n")


def python_m(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run ``python -m pinsock`` as a user does."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "pinsock", *map(str, arguments)],
        cwd=ROOT,
        input=stdin,
        capture_output=True,
        timeout=60,
        check=False,
    )


def test_the_module_is_a_command(chain: Chain) -> None:
    """``python -m pinsock`` hands arguments in, and the exit status out."""
    done = python_m("pin", "-", stdin=chain.leaf_pem.read_bytes())
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, chain.pins[0] + "\n", b"")
    done = python_m("pin", "-", stdin=b"nothing")
    assert (done.returncode, done.stdout) == (1, b"")
    assert re.fullmatch(rb"pinsock: error: standard input: [^\n]+\n", done.stderr)
    assert python_m("nonsense").returncode == 2


def test_a_key_file_and_its_certificate_have_one_pin(chain: Chain, capsys: Capture) -> None:
    """The pin of a private key is the pin of the certificate made for it."""
    secret = load_pem_private_key(chain.key.read_bytes(), None)
    assert pins_of(capsys, chain.key) == [chain.pins[0]]
    public = secret.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert canonical(public) == chain.pins[0]


def test_an_answer_that_cannot_be_written_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A full disk is one line on standard error, and status 1."""

    def full(_text: str) -> None:
        raise OSError(28, "No space left on device")

    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    path = tmp_path / "key.pem"
    path.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    monkeypatch.setattr(_cli, "say", full)
    assert _cli.main(["pin", str(path)]) == 1
    assert "cannot write the output: No space left on device" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["pin", "lint", "demo"])
def test_a_closed_standard_output_is_an_error(
    command: str,
    chain: Chain,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Python has no sys.stdout then; nothing was answered, so nobody may take it for a yes."""
    (tmp_path / "pins").write_text(f"a.test leaf {chain.pins[0]}\n")
    of = {"pin": [chain.leaf_pem], "lint": [tmp_path / "pins"], "demo": []}[command]
    monkeypatch.setattr(sys, "stdout", None)
    assert run(command, *of) == 1
    assert run("--help") == 0
    monkeypatch.undo()
    said = capsys.readouterr().err
    assert said.startswith("pinsock: error: cannot write the output: standard output is closed\n")


def test_a_complaint_never_goes_where_the_answer_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a standard error it is lost: standard output may well be a pin file."""
    monkeypatch.setattr(sys, "stderr", None)
    assert run("pin", tmp_path / "missing") == 1
    assert capsys.readouterr().out == ""


def test_a_closed_standard_input_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python has no sys.stdin then."""
    monkeypatch.setattr(sys, "stdin", None)
    assert _cli.main(["pin", "-"]) == 1
    assert "standard input is closed" in capsys.readouterr().err
