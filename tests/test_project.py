"""The project around the code: layout, the import rule, excuses in comments, and the README.

What DESIGN calls fixed is read here from the files themselves, so that it stays fixed.
"""

from __future__ import annotations

import ast
import configparser
import fnmatch
import importlib.metadata
import io
import os
import re
import socket
import socketserver
import ssl
import subprocess
import sys
import textwrap
import threading
import tokenize
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pinsock import Pin
from tests.stdlib.__main__ import SKIPPED
from tests.test_against_stdlib import DIFFERENT

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "pinsock"
README = ROOT / "README.rst"

MODULES = sorted(PACKAGE.glob("*.py"))
SOURCES = sorted(
    path for top in ("pinsock", "tests", "fuzz") for path in (ROOT / top).rglob("*.py")
)

# The import rule: a module may import from the layers below its own, and from a neighbour in its
# own layer as long as no circle comes of it.
LAYERS = (
    ("__main__",),
    ("_cli",),
    ("_demo", "_fleet"),
    ("_reach",),
    ("__init__",),
    ("_context",),
    ("_socket", "_engine", "_survey", "_groups"),
    ("_openssl",),
    ("_store", "_lines", "_hosts", "_verdict", "_session", "_reports"),
    ("_chain", "_pins", "_hello"),
    ("_der", "_errors", "_foreign", "_starttls"),
)
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}

PURE = ("_pins", "_hosts", "_lines", "_foreign", "_chain", "_der", "_hello", "_session", "_verdict")
MAY_TOUCH_PRIVATE_OPENSSL = ("_openssl",)
MAY_TOUCH_PRIVATE_SSL = ("_engine", "_context", "_socket")
MAY_SAY_ANY = ("_openssl",)


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def each(paths: list[Path]) -> pytest.MarkDecorator:
    """Parametrise ``path`` so that a failure names the file."""
    return pytest.mark.parametrize("path", paths, ids=relative)


@dataclass(frozen=True)
class Import:
    """One name imported: ``from module import name``, or ``import module`` with no name."""

    module: str
    name: str | None
    bound_as: str
    line: int

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]


def imports(tree: ast.Module) -> Iterator[Import]:
    """Every import, inside functions and ``if TYPE_CHECKING`` as well."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                bound_as = alias.asname or alias.name.partition(".")[0]
                yield Import(alias.name, None, bound_as, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            assert node.module is not None
            for alias in node.names:
                yield Import(node.module, alias.name, alias.asname or alias.name, node.lineno)


def own_imports(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """The modules of the package that a module imports, with the line."""
    for found in imports(tree):
        if found.top != "pinsock":
            continue
        if found.module != "pinsock":
            yield found.module.split(".")[1], found.line
        elif found.name in RANK:
            yield found.name, found.line
        else:
            yield "__init__", found.line


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def private_uses(tree: ast.Module, *packages: str) -> Iterator[str]:
    """Private modules, names and attributes of other packages that a module touches.

    Attributes count when they hang on a name that an import bound: ``ssl._create_context`` and
    ``SSL.Connection._ssl``, not ``self._ssl``.
    """
    bound = set()
    for found in imports(tree):
        if found.top not in packages:
            continue
        bound.add(found.bound_as)
        words = found.module.split(".") + ([found.name] if found.name else [])
        if any(is_private(word) for word in words):
            yield f"line {found.line}: {'.'.join(words)}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            owner: ast.expr = node.value
            while isinstance(owner, ast.Attribute):
                owner = owner.value
            if isinstance(owner, ast.Name) and owner.id in bound:
                yield f"line {node.lineno}: {ast.unparse(node)}"


# ---- Layout


def test_the_top_level_is_fixed() -> None:
    """The top level holds what DESIGN puts there, hidden files, what git ignores, no more."""
    ignored = [
        line.strip("/")
        for line in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    found = {
        path.name
        for path in ROOT.iterdir()
        if not any(fnmatch.fnmatch(path.name, pattern) for pattern in [".*", *ignored])
    }
    assert found == {
        *("pinsock", "tests", "fuzz"),
        *("tox.ini", "setup.cfg", "README.rst"),
        *("pyproject.toml", "LICENSE"),
    }


def test_pyproject_holds_the_build_system_alone() -> None:
    """Metadata and settings live in setup.cfg and tox.ini, so that nobody has to look twice."""
    lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("[")] == ["[build-system]"]


def test_the_oldest_dependencies_tested_are_the_oldest_allowed() -> None:
    """The pair that tox pins for its ``oldest`` factor is the lower bounds of setup.cfg."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    allowed = dict(re.findall(r"(?m)^([\w.-]+)>=([\d.]+)$", setup["options"]["install_requires"]))
    tested = dict(
        re.findall(r"(?m)^ +oldest: ([\w.-]+)==([\d.]+)$", (ROOT / "tox.ini").read_text())
    )
    assert allowed
    assert tested.keys() == allowed.keys()
    for name, bound in allowed.items():
        version = tested[name].split(".")
        lower = bound.split(".")
        assert version[: len(lower)] == lower
        assert set(version[len(lower) :]) <= {"0"}


def test_the_installed_package_is_complete() -> None:
    """What was installed is the modules of the tree and the marker that they are typed."""
    try:
        files = importlib.metadata.files("pinsock") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("pinsock is not installed here; tox installs it")
    installed = {path.name for path in files if path.parent.as_posix() == "pinsock"}
    if not installed:
        pytest.skip("pinsock is installed as a link to the tree")
    stale = "a stale build directory has crept into the wheel: remove build"
    assert installed == {path.name for path in MODULES} | {"py.typed"}, stale


@each(SOURCES)
def test_a_module_opens_with_what_it_is_for(path: Path) -> None:
    """Every module that holds any code has a docstring."""
    tree = parse(path)
    if tree.body:
        assert ast.get_docstring(tree), "the module does not say what it is for"


# ---- The import rule


@each(MODULES)
def test_imports_go_down_only(path: Path) -> None:
    """A module imports from the layers below its own, and never from above."""
    assert path.stem in RANK, "DESIGN section 2 knows no such module: give it a layer in LAYERS"
    wrong = [
        f"line {line}: {name}"
        for name, line in own_imports(parse(path))
        if RANK[name] < RANK[path.stem]
    ]
    assert wrong == [], "imports from above"


def test_imports_make_no_circle() -> None:
    """Neighbours in a layer may import each other one way only."""
    below = {path.stem: {name for name, _ in own_imports(parse(path))} for path in MODULES}
    while leaves := [name for name, wants in below.items() if not wants & below.keys()]:
        for name in leaves:
            del below[name]
    assert below == {}, "these import each other in a circle"


def test_the_package_module_holds_the_public_names_alone() -> None:
    """``pinsock/__init__.py`` is a docstring, imports and ``__all__``, and these two agree."""
    tree = parse(PACKAGE / "__init__.py")
    public: list[str] = []
    for node in tree.body[1:]:
        if isinstance(node, ast.Assign):
            assert ast.unparse(node.targets[0]) == "__all__"
            public = ast.literal_eval(node.value)
        else:
            assert isinstance(node, ast.ImportFrom), f"line {node.lineno} is something else"
    imported = {found.bound_as for found in imports(tree) if found.module != "__future__"}
    assert sorted(public) == sorted(imported)


@pytest.mark.parametrize("name", PURE)
def test_pure_modules_need_no_connection(name: str) -> None:
    """The modules that decide import neither ssl nor socket nor OpenSSL, so they can be fuzzed."""
    tree = parse(PACKAGE / f"{name}.py")
    connected = {"ssl", "_ssl", "socket", "_socket", "OpenSSL"}
    assert [found.module for found in imports(tree) if found.top in connected] == []


@each(MODULES)
def test_private_names_of_openssl_stay_behind_one_door(path: Path) -> None:
    """Only ``_openssl`` touches a private name of pyOpenSSL, or cryptography's bindings."""
    if path.stem in MAY_TOUCH_PRIVATE_OPENSSL:
        return
    tree = parse(path)
    assert list(private_uses(tree, "OpenSSL", "cryptography")) == []
    assert [
        found.module
        for found in imports(tree)
        if found.module.startswith("cryptography.hazmat.bindings")
    ] == []


@each(MODULES)
def test_private_names_of_ssl_stay_in_three_modules(path: Path) -> None:
    """Only ``_engine``, ``_context`` and ``_socket`` touch a private name of ssl."""
    if path.stem in MAY_TOUCH_PRIVATE_SSL:
        return
    assert list(private_uses(parse(path), "ssl", "_ssl", "socket", "_socket")) == []


@each(MODULES)
def test_nothing_is_any_but_openssl(path: Path) -> None:
    """``Any`` switches the type checker off; only the bindings, which have no types, need it."""
    if path.stem in MAY_SAY_ANY:
        return
    tree = parse(path)
    assert [found.line for found in imports(tree) if found.name == "Any"] == []
    assert [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr == "Any"
    ] == []


# ---- Excuses

EXCUSE = re.compile(
    r"#\s*(?:(?P<pragma>pragma:\s*no\s*(?:cover|branch))"
    r"|(?P<ignore>type:\s*ignore(?P<ignored>\[[\w, -]+\])?)"
    r"|(?P<noqa>(?:ruff:\s*)?noqa(?P<rules>:\s*[A-Z]+[0-9]+(?:[,\s]+[A-Z]+[0-9]+)*)?))",
    re.IGNORECASE,
)


def poor_excuses(source: str) -> list[str]:
    """The comments that silence a checker without a reason beside them, or silence all of it."""
    poor = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT or not (found := EXCUSE.search(token.string)):
            continue
        blanket = (found["ignore"] and not found["ignored"]) or (
            found["noqa"] and not found["rules"]
        )
        # The reason may stand before the marker or after it.
        reason = re.search(r"[^\W\d_]{4,}", EXCUSE.sub(" ", token.string))
        if blanket or not reason:
            poor.append(f"line {token.start[0]}: {token.string}")
    return poor


@each(SOURCES)
def test_what_silences_a_checker_says_why(path: Path) -> None:
    """A coverage pragma, ``type: ignore`` or ``noqa`` has its reason in the same comment."""
    assert poor_excuses(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("comment", "poor"),
    [
        ("# an ordinary comment on types: ignore it", False),
        ("# pragma: no cover", True),
        ("# pragma: no cover - why", True),
        ("# pragma: no cover - only Python 3.15 has it", False),
        ("# pragma: no branch", True),
        ("# type: ignore", True),
        ("# type: ignore  # the stubs are wrong", True),
        ("# type: ignore[arg-type]", True),
        ("# type: ignore[arg-type]  # likewise", False),
        ("# type: ignore[arg-type, misc]  # the stubs are wrong", False),
        ("# noqa", True),
        ("# noqa: E501", True),
        ("# noqa: E501, F401 - the names are the point", False),
    ],
)
def test_an_excuse_is_told_from_a_reason(comment: str, poor: bool) -> None:
    """The rule above finds what it is there to find."""
    assert bool(poor_excuses(f"x = 1  {comment}\n")) is poor


# ---- The README


def readme() -> str:
    if not README.exists():
        pytest.fail("README.rst is missing: it is the package's description, and is tested here")
    return README.read_text(encoding="utf-8")


def python_examples(text: str) -> Iterator[tuple[int, str]]:
    """The Python code blocks of a reStructuredText file, with the number of each first line.

    A block is what follows ``.. code-block:: python`` (or ``code::``) and is indented deeper; lines
    of the form ``:option: value`` right below the directive are not part of it.
    """
    lines = text.splitlines()
    number = 0
    while number < len(lines):
        directive = re.fullmatch(r"( *)\.\. code(?:-block)?:: python3?\s*", lines[number])
        number += 1
        if not directive:
            continue
        indent = len(directive[1])
        while number < len(lines) and re.match(r" +:[\w-]+:", lines[number]):
            number += 1
        start = number
        while number < len(lines) and (
            not lines[number].strip() or len(lines[number]) - len(lines[number].lstrip()) > indent
        ):
            number += 1
        yield start + 1, textwrap.dedent("\n".join(lines[start:number])) + "\n"


def test_readme_examples_are_found_where_they_are() -> None:
    """Directives, options, indentation and line numbers are read as docutils reads them."""
    text = textwrap.dedent(
        """\
        Title

        .. code-block:: python

            first = 1

            second = 2

        Prose, and another language:

        .. code-block:: console

            $ third

        * .. code:: python

        .. code:: python
           :number-lines:

           if fourth:
               fifth()
        """
    )
    assert [(line, code.strip()) for line, code in python_examples(text)] == [
        (4, "first = 1\n\nsecond = 2"),
        (19, "if fourth:\n    fifth()"),
    ]


def test_readme_lists_every_known_difference() -> None:
    """What test_against_stdlib.py lets differ has a row in the table of differences."""
    table = readme().partition("\nDifferences from ")[2].partition("\nErrors\n")[0]
    rows = {line.split("  ")[0].strip("`") for line in table.splitlines()}
    assert set(DIFFERENT.values()) - rows == set()


def test_readme_counts_the_tests_of_ssl_that_are_skipped() -> None:
    """The number is that of the list, which is short, and each entry has a reason."""
    counted = re.search(r"make a context all pass\s+but (\d+):", readme())
    assert counted is not None
    assert int(counted[1]) == len(SKIPPED) < 10
    assert all(SKIPPED.values())


def test_readme_changelog_names_the_version() -> None:
    """The version in setup.cfg is one that the changelog tells about."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    version = setup["metadata"]["version"]
    _, heading, changelog = readme().partition("\nChangelog\n")
    assert heading, "the README has no section called Changelog"
    assert re.search(rf"(?<![\d.]){re.escape(version)}(?!\.?\d)", changelog)


# The README prints pins that match.  A certificate is made anew for each run, but the key in it is
# always the same one: its private number is the hash of a name, so nothing secret lies in a file.


def fixed_key(name: str) -> ec.EllipticCurvePrivateKey:
    number = int.from_bytes(sha256(f"the {name} key of pinsock's README".encode()).digest(), "big")
    return ec.derive_private_key(number, ec.SECP256R1())


def make_certificate(
    name: str,
    issuer: str,
    *,
    authority: bool = False,
    usage: x509.ObjectIdentifier | None = None,
    hosts: tuple[str, ...] = (),
) -> x509.Certificate:
    """A certificate with the fixed key of ``name``, signed with that of ``issuer``."""
    key, issuer_key = fixed_key(name).public_key(), fixed_key(issuer).public_key()
    now = datetime.now(timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"README {name}")]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"README {issuer}")]))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=90))  # far enough for no warning
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False
        )
        .add_extension(
            x509.KeyUsage(
                digital_signature=not authority,
                key_cert_sign=authority,
                crl_sign=authority,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    )
    if usage:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    if hosts:
        names: list[x509.GeneralName] = [
            x509.IPAddress(ip_address(host)) if host[0].isdigit() else x509.DNSName(host)
            for host in hosts
        ]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(fixed_key(issuer), hashes.SHA256())


def write_readme_files(directory: Path) -> None:
    """Write what the README's examples may read: see ``test_readme_examples_run``."""
    root = make_certificate("root", "root", authority=True)
    intermediate = make_certificate("intermediate", "root", authority=True)
    leaf = make_certificate(
        "leaf",
        "intermediate",
        usage=ExtendedKeyUsageOID.SERVER_AUTH,
        hosts=(
            *("example.com", "*.example.com", "example.org", "*.example.org"),
            *("example.net", "*.example.net", "localhost", "127.0.0.1"),
        ),
    )
    client = make_certificate("client", "root", usage=ExtendedKeyUsageOID.CLIENT_AUTH)

    def key_pem(name: str) -> bytes:
        return fixed_key(name).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def pem(*certificates: x509.Certificate) -> bytes:
        return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)

    for name, content in {
        "ca.pem": pem(root),
        "server.pem": pem(leaf),
        "server.der": leaf.public_bytes(Encoding.DER),
        "server.key": key_pem("leaf"),
        "server-chain.pem": pem(leaf, intermediate) + key_pem("leaf"),
        "client.pem": pem(client) + key_pem("client"),
        "client.key": key_pem("client"),
    }.items():
        (directory / name).write_bytes(content)
    pin = Pin.from_certificate(leaf)
    hosts = ("**.example.com", "**.example.org", "**.example.net")
    (directory / "pins.txt").write_text("".join(f"{host} leaf {pin}\n" for host in hosts))


class _Greeter(socketserver.StreamRequestHandler):
    """Answers one HTTP request; what does not speak TLS, or hangs up, is not our concern."""

    server: _Loopback
    timeout = 30

    def setup(self) -> None:
        self.request = self.server.tls.wrap_socket(
            self.request, server_side=True, do_handshake_on_connect=False
        )
        super().setup()

    def handle(self) -> None:
        try:
            while self.rfile.readline().strip():
                pass
            self.wfile.write(
                b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n"
            )
        except OSError:
            pass

    def finish(self) -> None:
        super().finish()
        # socketserver closes the socket it accepted, which wrapping has detached.
        self.request.close()


class _Loopback(socketserver.ThreadingTCPServer):
    tls: ssl.SSLContext


@contextmanager
def loopback_server(directory: Path) -> Iterator[int]:
    """Serve HTTPS with the README's certificates; yields the port."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(directory / "server-chain.pem")
    with _Loopback(("127.0.0.1", 0), _Greeter) as server:
        server.tls = tls
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join(10)


# Runs in a process of its own: every name on the network is the loopback server, on any port.
_RUNNER = """\
import logging, socket, sys

logging.getLogger("pinsock").addHandler(logging.NullHandler())  # refusals are part of it

root, readme, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
sys.path.append(root)
resolve = socket.getaddrinfo

def getaddrinfo(host, *args, **kwargs):
    name = host.decode() if isinstance(host, bytes) else host
    if name in (None, "", "localhost", "127.0.0.1", "0.0.0.0"):
        return resolve(host, *args, **kwargs)
    return resolve("127.0.0.1", port, socket.AF_INET, socket.SOCK_STREAM)

socket.getaddrinfo = getaddrinfo
exec(compile(sys.stdin.read(), readme, "exec"), {"__name__": "__main__"})
"""


def walkthrough() -> list[str]:
    """The commands of the README's section on operations, in their order."""
    _, heading, rest = readme().partition("\nOperations\n====")
    assert heading, "the README has no section called Operations"
    section, _, _ = rest.partition("\n====")
    return re.findall(r"^    (\S.*)$", section, re.MULTILINE)


def test_readme_operations_can_be_followed(tmp_path: Path) -> None:
    """Pin, deploy, renew, rotate, retire: each command succeeds, in one shell."""
    commands = walkthrough()
    assert len(commands) > 10
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    # The command itself says when a server that it starts can be reached.
    ready = (
        "import socket, sys\n"
        "while True:\n"
        "    try:\n"
        "        socket.create_connection(('127.0.0.1', int(sys.argv[1])), 10).close()\n"
        "        break\n"
        "    except ConnectionRefusedError:\n"
        "        pass\n"
    )
    stop = "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT"
    script = ["set -e", stop, 'python() { "$PYTHON" "$@"; }']
    for command in commands:
        script.append(command.replace("8443", port))
        if command.endswith("&"):
            script.append(f'"$PYTHON" -c "$READY" {port}')
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        capture_output=True,
        text=True,
        timeout=90,
        cwd=tmp_path,
        env={**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(ROOT), "READY": ready},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("depth 0 (leaf)") == 3
    assert "nothing that will hurt" in done.stdout
    assert "mismatch" in done.stdout


def run_examples(code: str, name: Path, directory: Path) -> subprocess.CompletedProcess[str]:
    write_readme_files(directory)
    with loopback_server(directory) as port:
        return subprocess.run(
            [sys.executable, "-W", "error", "-c", _RUNNER, str(ROOT), str(name), str(port)],
            input=code,
            capture_output=True,
            text=True,
            timeout=90,
            cwd=directory,
            env={**os.environ, "SSL_CERT_FILE": str(directory / "ca.pem"), "PYTHONUTF8": "1"},
            check=False,
        )


def test_readme_examples_run(tmp_path: Path) -> None:
    """The README's Python examples run, in their order and in one namespace, without complaint.

    A server on loopback answers for every host name and port, with a chain leaf <- intermediate <-
    root that the examples' process trusts, for example.com, .org, .net, their subdomains and
    localhost.  In the directory they run in are pins.txt, ca.pem, server.pem, server.der,
    server.key, server-chain.pem, client.pem and client.key.  The keys never change: their pins are
    in ``test_readme_pins_do_not_change``, for use in the README.
    """
    text = readme()
    # One program with each example on its own lines, so that a traceback points into the README.
    program = [""] * len(text.splitlines())
    examples = list(python_examples(text))
    assert examples, "the README has no Python example"
    for first, code in examples:
        for offset, line in enumerate(code.splitlines()):
            program[first - 1 + offset] = line
    done = run_examples("\n".join(program) + "\n", README, tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


@pytest.mark.parametrize(
    ("name", "pin"),
    [
        ("leaf", "sha256/Yv3RskZDlkZAqm5KKz2IFqeLvgeudADg3qhd3IBl35A="),
        ("intermediate", "sha256/Vhd4MDQrmUXT0RP1o+XnjTyf9CrwwcieJuSbleQDQGw="),
        ("root", "sha256/nCyMwp9wOpnvmrnOxYuTJQme1FfXYgd5/jGc7sPalzI="),
        ("client", "sha256/w5E3wf5ZEaxWxk0jzeyfyjgxmb9wivTFN1jfXlBCfIU="),
    ],
)
def test_readme_pins_do_not_change(name: str, pin: str) -> None:
    """The keys that the README's examples meet have these pins, so the README can print them."""
    spki = (
        fixed_key(name).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    )
    assert f"sha256/{b64encode(sha256(spki).digest()).decode()}" == pin


def test_readme_harness_lets_an_example_talk_to_a_server(tmp_path: Path) -> None:
    """An example reaches the loopback server, and trusts it, by a name that the README uses."""
    code = (
        "import http.client, ssl\n"
        "for host in ('example.com', 'api.example.org'):\n"
        "    connection = http.client.HTTPSConnection(\n"
        "        host, timeout=30, context=ssl.create_default_context())\n"
        "    connection.request('GET', '/')\n"
        "    print(connection.getresponse().read().decode().strip())\n"
        "    connection.close()\n"
    )
    done = run_examples(code, tmp_path / "example", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello\nhello\n", "")


def test_readme_harness_notices_a_failing_example(tmp_path: Path) -> None:
    """An example that raises, or leaves a socket open, does not pass for one that runs."""
    done = run_examples("\n\nimport socket\nsocket.socket(); raise SystemExit", tmp_path, tmp_path)
    assert "ResourceWarning" in done.stderr
    done = run_examples("\n\n1 / 0\n", README, tmp_path)
    assert done.returncode == 1
    assert 'README.rst", line 3' in done.stderr
