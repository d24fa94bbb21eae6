"""``PinnedContext.from_ssl_context``: a plain context's settings, all of them or an error."""

from __future__ import annotations

import itertools
import os
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pinsock import PinMismatchError, PinnedContext, PinnedObject, PinnedSocket, PinSet
from pinsock import _survey as survey_module
from pinsock._hello import ClientHello
from tests.certificates import make_chain, make_crl, pem, spki_pin
from tests.peers import MemoryPeer, fix_version, shake

CHAIN, CLIENT = make_chain(3), make_chain(2, pool=2)
PINS = PinSet({"leaf": spki_pin(CHAIN.leaf)})
CLIENT_PINS = PinSet({"leaf": spki_pin(CLIENT.leaf)})
WRONG = PinSet({"leaf": spki_pin(make_chain(1, pool=3).leaf)})
# One test is about it; to the others it does not matter.
pytestmark = pytest.mark.filterwarnings("ignore:a server's context without a certificate")

SIDES = pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])


@pytest.fixture(autouse=True)
def no_system_certificates(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is in the system's directory must not decide anything here."""
    directory = tmp_path / "system"
    directory.mkdir()
    monkeypatch.setenv("SSL_CERT_DIR", str(directory))
    monkeypatch.setenv("SSL_CERT_FILE", str(directory / "none"))


def plain(server_side: bool = False, *, certificate: bool = False) -> ssl.SSLContext:
    """What a user may have: a client that trusts, or a server that verifies its clients."""
    if server_side:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        CLIENT.trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
        if certificate:
            CHAIN.configure(context)
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        CHAIN.trust(context)
        if certificate:
            CLIENT.configure(context)
    return context


def peer_of(server_side: bool) -> ssl.SSLContext:
    """What is at the other end of ``plain(server_side, certificate=True)``."""
    return plain(not server_side, certificate=True)


def given(server_side: bool, directory: Path) -> dict[str, Path]:
    files = (CHAIN if server_side else CLIENT).write(directory)
    return {"certfile": files.certfile, "keyfile": files.keyfile}


def talk(
    ours: ssl.SSLContext, theirs: ssl.SSLContext, server_side: bool
) -> tuple[MemoryPeer, MemoryPeer]:
    one = MemoryPeer(
        ours, server_side=server_side, server_hostname=None if server_side else "localhost"
    )
    other = MemoryPeer(
        theirs, server_side=not server_side, server_hostname="localhost" if server_side else None
    )
    shake(*((other, one) if server_side else (one, other)))
    return one, other


# It is the same, and pinned ----------------------------------------------------------------------


@SIDES
def test_a_context_is_taken_over_in_one_line(
    server_side: bool, tls_version: ssl.TLSVersion, tmp_path: Path
) -> None:
    """Trust, certificate and key are the plain one's, and impostors fail."""
    context = plain(server_side, certificate=True)
    fix_version(context, tls_version)
    files = given(server_side, tmp_path)
    right, wrong = (CLIENT_PINS if server_side else PINS), WRONG
    made = PinnedContext.from_ssl_context(context, pins=right, **files)
    ours, theirs = talk(made, peer_of(server_side), server_side)
    assert [ours.record.error, theirs.record.error] == [None, None]
    assert isinstance(ours.obj, PinnedObject)
    assert ours.obj.pin_match is not None
    assert ours.obj.version() == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[tls_version.name]
    assert theirs.obj.getpeercert(True) == (CHAIN if server_side else CLIENT).ders[0]
    made = PinnedContext.from_ssl_context(context, pins=wrong, **files)
    ours, theirs = talk(made, peer_of(server_side), server_side)
    assert isinstance(ours.record.error, PinMismatchError)
    assert theirs.record.error is not None


def test_a_subclass_makes_its_own_kind() -> None:
    """The class method gives what it is called on."""

    class Own(PinnedContext):
        pass

    assert type(Own.from_ssl_context(plain(), pins=PINS)) is Own


def test_authorities_are_carried_over() -> None:
    """What the context tells of its trust store is in the new one's."""
    context = plain()
    CLIENT.trust(context)
    made = PinnedContext.from_ssl_context(context, pins=None)
    assert made.get_ca_certs(True) == context.get_ca_certs(True)
    assert len(made.get_ca_certs()) == 2


Change = Callable[[ssl.SSLContext], None]


def _switch(name: str, value: object) -> Change:
    return lambda context: setattr(context, name, value)


class OwnSocket(ssl.SSLSocket):
    """A class that a user has chosen."""


class OwnObject(ssl.SSLObject):
    """Likewise."""


CHANGES: dict[str, tuple[bool, Change, Callable[[ssl.SSLContext], object]]] = {
    "options": (
        False,
        lambda context: setattr(context, "options", context.options | ssl.OP_NO_TICKET),
        lambda context: context.options,
    ),
    "verify_flags": (
        False,
        lambda context: setattr(
            context, "verify_flags", context.verify_flags | ssl.VERIFY_X509_STRICT
        ),
        lambda context: context.verify_flags,
    ),
    **{
        name: (side, _switch(name, value), lambda context, name=name: getattr(context, name))
        for name, side, value in (
            ("check_hostname", False, False),
            ("hostname_checks_common_name", False, False),
            ("minimum_version", False, ssl.TLSVersion.TLSv1_3),
            ("maximum_version", False, ssl.TLSVersion.TLSv1_2),
            ("post_handshake_auth", False, True),
            ("verify_mode", True, ssl.CERT_OPTIONAL),
            ("num_tickets", True, 0),
            ("sni_callback", True, lambda *arguments: None),
            ("_msg_callback", False, lambda *arguments: None),
            ("sslsocket_class", False, OwnSocket),
            ("sslobject_class", False, OwnObject),
        )
    },
    "ciphers": (
        False,
        lambda context: context.set_ciphers("ECDHE+CHACHA20:ECDHE+AESGCM:@SECLEVEL=1"),
        lambda context: (context.security_level, [each["name"] for each in context.get_ciphers()]),
    ),
    "security_level": (
        False,
        lambda context: context.set_ciphers("DEFAULT:@SECLEVEL=1"),
        lambda context: context.security_level,
    ),
}


@pytest.mark.parametrize(
    ("server_side", "change", "read"), CHANGES.values(), ids=list(CHANGES)
)
def test_a_setting_is_carried_over(
    server_side: bool, change: Change, read: Callable[[ssl.SSLContext], object]
) -> None:
    """What is set on the plain context is so on the new one; on an untouched one it is not."""
    context = plain(server_side)
    before = read(context)
    change(context)
    assert read(context) != before
    made = PinnedContext.from_ssl_context(context, pins=None)
    assert read(made) == read(context)
    untouched = PinnedContext.from_ssl_context(plain(server_side), pins=None)
    assert read(untouched) != read(context)


def test_the_classes_are_mixed_with_ours() -> None:
    """A user's class of connection is kept, and is one of ours besides."""
    context = plain()
    context.sslobject_class = OwnObject
    made = PinnedContext.from_ssl_context(context, pins=PINS)
    obj = made.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost")
    assert isinstance(obj, OwnObject)
    assert isinstance(obj, PinnedObject)
    plainly = PinnedContext.from_ssl_context(plain(), pins=PINS)
    assert type(plainly.wrap_bio(
        ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost"
    )) is PinnedObject  # fmt: skip
    assert issubclass(PinnedSocket, plainly.sslsocket_class)


def test_the_key_log_is_carried_over(tmp_path: Path) -> None:
    """Secrets go to the file that the plain context has."""
    context = plain()
    context.keylog_filename = str(tmp_path / "keys")
    made = PinnedContext.from_ssl_context(context, pins=PINS)
    assert made.keylog_filename == context.keylog_filename
    size = os.path.getsize(tmp_path / "keys")
    theirs = plain(True, certificate=True)
    theirs.verify_mode = ssl.CERT_NONE
    ours, _ = talk(made, theirs, False)
    assert ours.record.error is None
    assert os.path.getsize(tmp_path / "keys") > size


# What its ClientHello tells, and its answers -----------------------------------------------------


@pytest.mark.parametrize("names", [["h2", "http/1.1"], ["own/1", "h2"], []])
def test_application_protocols_of_a_client_are_carried_over(names: list[str]) -> None:
    """Any names, in their order."""
    context = plain()
    context.set_alpn_protocols(names)
    made = PinnedContext.from_ssl_context(context, pins=PINS)
    theirs = plain(True, certificate=True)
    theirs.verify_mode = ssl.CERT_NONE
    seen = []
    for wanted in names or ["h2"]:
        theirs.set_alpn_protocols([wanted])
        seen.append(talk(made, theirs, False)[0].obj.selected_alpn_protocol())
    assert seen == (names or [None])


@pytest.mark.parametrize("names", [["http/1.1", "h2"], ["h2", "imap", "co"], []])
def test_registered_protocols_of_a_server_are_carried_over(
    names: list[str], tmp_path: Path, tls_version: ssl.TLSVersion
) -> None:
    """Those of IANA's registry, in the server's order; its clients need not be known for that."""
    context = plain(True, certificate=True)
    context.set_alpn_protocols(names)
    fix_version(context, tls_version)
    made = PinnedContext.from_ssl_context(context, pins=None, **given(True, tmp_path))
    theirs = peer_of(True)
    left = sorted({"http/1.0", "http/1.1", "h2", "imap", "co", "mqtt"})
    for name in names:
        theirs.set_alpn_protocols(left)
        assert talk(made, theirs, True)[0].obj.selected_alpn_protocol() == name
        left.remove(name)
    theirs.set_alpn_protocols(left)
    assert talk(made, theirs, True)[0].obj.selected_alpn_protocol() is None


@pytest.mark.parametrize("given_later", [False, True])
def test_a_server_without_a_certificate_is_warned_of(given_later: bool, tmp_path: Path) -> None:
    """It shows neither protocols nor groups, and nothing is lost without a word."""
    context = plain(True)
    context.set_alpn_protocols(["h2"])
    arguments: dict[str, Any] = given(True, tmp_path) if given_later else {}
    with pytest.warns(UserWarning, match="set_alpn_protocols") as warned:
        made = PinnedContext.from_ssl_context(context, pins=None, **arguments)
    assert [one.filename for one in warned] == [__file__]
    assert made._alpn == []


@SIDES
@pytest.mark.parametrize("curve", ["prime256v1", "secp384r1"])
def test_the_group_is_carried_over(server_side: bool, curve: str, tmp_path: Path) -> None:
    """A peer that offers another group fails; one that offers the same does not."""
    context = plain(server_side, certificate=True)
    context.set_ecdh_curve(curve)
    made = PinnedContext.from_ssl_context(context, pins=None, **given(server_side, tmp_path))
    theirs = peer_of(server_side)
    theirs.set_ecdh_curve(curve)
    ours, _ = talk(made, theirs, server_side)
    assert ours.record.error is None
    assert isinstance(ours.obj, PinnedObject)
    theirs.set_ecdh_curve("secp521r1")
    assert talk(made, theirs, server_side)[0].record.error is not None


@SIDES
def test_without_a_choice_the_groups_are_those_of_cryptography(
    server_side: bool, tmp_path: Path
) -> None:
    """A context that was told nothing is told nothing: newer groups stay in play."""
    context = plain(server_side, certificate=True)
    made = PinnedContext.from_ssl_context(context, pins=None, **given(server_side, tmp_path))
    assert made._groups is None
    assert made._alpn == []
    assert made._ciphersuites is None


def test_a_group_of_an_unknown_number_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named, and not left out."""
    monkeypatch.setattr(survey_module, "_GROUPS", {})
    context = plain()
    context.set_ecdh_curve("secp384r1")
    with pytest.raises(ValueError, match=r"unknown numbers: \[24\]"):
        PinnedContext.from_ssl_context(context, pins=None)


def test_signature_algorithms_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that a client of CPython 3.15 has been told cannot be carried over."""
    relaxed = plain()
    relaxed.set_ciphers("DEFAULT:@SECLEVEL=0")  # offers more of them
    monkeypatch.setattr(survey_module, "_like", lambda context: relaxed)
    with pytest.raises(ValueError, match="signature algorithms of its own"):
        PinnedContext.from_ssl_context(plain(), pins=None)


@pytest.mark.filterwarnings("ignore:ssl.OP_NO_SSL:DeprecationWarning")  # the way there
def test_a_context_that_can_say_nothing_is_an_error() -> None:
    """One that has no protocol version left writes no ClientHello, and OpenSSL's reason is told."""
    context = plain()
    context.options |= ssl.OP_NO_TLSv1_2 | ssl.OP_NO_TLSv1_3
    with pytest.raises(ValueError, match=r"cannot begin a handshake: .*NO_PROTOCOLS"):
        PinnedContext.from_ssl_context(context, pins=None)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="from CPython 3.13 on")
def test_pre_shared_keys_are_an_error() -> None:
    """The callback cannot be read back."""
    context = plain()
    context.set_psk_client_callback(lambda hint: ("me", b"key"))
    with pytest.raises(ValueError, match="pre-shared keys"):
        PinnedContext.from_ssl_context(context, pins=None)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="from CPython 3.13 on")
def test_cipher_suites_show_that_there_are_pre_shared_keys() -> None:
    """Before TLS 1.3 a ClientHello has no key, but suites that need one."""
    context = plain()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("PSK:ECDHE+AESGCM")
    PinnedContext.from_ssl_context(context, pins=None)  # the suites alone are none
    context.set_psk_client_callback(lambda hint: ("me", b"key"))
    with pytest.raises(ValueError, match="pre-shared keys"):
        PinnedContext.from_ssl_context(context, pins=None)


def test_a_hello_with_pre_shared_keys_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same where the ssl of this Python has no such callbacks."""
    real = survey_module._hello

    def with_key(context: ssl.SSLContext) -> ClientHello:
        return real(context)._replace(extensions=(41,))

    monkeypatch.setattr(survey_module, "_hello", with_key)
    with pytest.raises(ValueError, match="pre-shared keys"):
        PinnedContext.from_ssl_context(plain(), pins=None)


def test_a_curve_that_ssl_does_not_know_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It cannot be offered to a server, and the server cannot have been told to take it."""
    monkeypatch.setattr(survey_module, "_CURVES", ("prime256v1", "nonsense"))
    context = plain(True, certificate=True)
    made = PinnedContext.from_ssl_context(context, pins=None, **given(True, tmp_path))
    assert made._groups is None


class Told(ssl.SSLContext):
    """A context that says what it is told of its ciphers."""

    ciphers: list[Any]

    def get_ciphers(self) -> list[Any]:
        return self.ciphers


def test_cipher_suites_of_tls_1_3_are_carried_over() -> None:
    """Where a context has fewer of them (from CPython 3.15 on), so has the new one."""
    context = Told(ssl.PROTOCOL_TLS_CLIENT)
    context.ciphers = [
        each
        for each in plain().get_ciphers()
        if each["protocol"] != "TLSv1.3" or each["name"] == "TLS_CHACHA20_POLY1305_SHA256"
    ]
    made = PinnedContext.from_ssl_context(context, pins=None)
    CHAIN.trust(made)
    theirs = plain(True, certificate=True)
    theirs.verify_mode = ssl.CERT_NONE
    ours, _ = talk(made, theirs, False)
    cipher = ours.obj.cipher()
    assert cipher is not None
    assert cipher[0] == "TLS_CHACHA20_POLY1305_SHA256"


def test_a_cipher_suite_that_cryptography_does_not_have_is_an_error() -> None:
    """OpenSSL would leave it out without a word."""
    context = Told(ssl.PROTOCOL_TLS_CLIENT)
    context.ciphers = [*plain().get_ciphers(), {"name": "OWN-CIPHER", "protocol": "TLSv1.2"}]
    with pytest.raises(ValueError, match=r"\['OWN-CIPHER'\]: set_ciphers\(\) without them"):
        PinnedContext.from_ssl_context(context, pins=None)


# Certificates ------------------------------------------------------------------------------------


@SIDES
def test_a_certificate_has_to_be_given_again(
    server_side: bool, tls_version: ssl.TLSVersion
) -> None:
    """A loaded one is found out, whatever the context would verify, and is an error."""
    context = plain(server_side, certificate=True)
    fix_version(context, tls_version)
    with pytest.raises(ValueError, match="give both again, as certfile= and keyfile="):
        PinnedContext.from_ssl_context(context, pins=None)
    without = plain(server_side)
    fix_version(without, tls_version)
    assert PinnedContext.from_ssl_context(without, pins=None).verify_mode == without.verify_mode


def test_a_certificate_that_cannot_be_looked_for_has_to_be_given(tmp_path: Path) -> None:
    """If a callback stops the handshake in memory, nobody can tell: that is an error, too."""
    context = plain(True, certificate=True)
    context.sni_callback = lambda *arguments: ssl.ALERT_DESCRIPTION_ACCESS_DENIED
    with pytest.raises(ValueError, match=r"could not be found out.*give it as certfile="):
        PinnedContext.from_ssl_context(context, pins=None)
    made = PinnedContext.from_ssl_context(context, pins=None, **given(True, tmp_path))
    assert made.sni_callback is context.sni_callback


def test_what_is_wrong_with_the_files_is_the_stdlibs_error(tmp_path: Path) -> None:
    """certfile=, keyfile= and password= go to load_cert_chain as they are."""
    certfile, keyfile, _ = CLIENT.write(tmp_path)
    with pytest.raises(FileNotFoundError):
        PinnedContext.from_ssl_context(plain(), pins=None, certfile=tmp_path / "none")
    with pytest.raises(ssl.SSLError, match="KEY_VALUES_MISMATCH"):
        PinnedContext.from_ssl_context(
            plain(), pins=None, certfile=certfile, keyfile=CHAIN.write(tmp_path).keyfile
        )
    subprocess.run(
        ["openssl", "pkcs8", "-topk8", "-in", keyfile, "-out", tmp_path / "locked",
         "-passout", "pass:secret"],
        check=True,
    )  # fmt: skip
    made = PinnedContext.from_ssl_context(
        plain(), pins=None, certfile=certfile, keyfile=tmp_path / "locked", password="secret"
    )
    assert talk(made, peer_of(False), False)[1].record.error is None


# What cannot be carried over ---------------------------------------------------------------------


def test_trusted_certificates_that_are_no_authorities_are_an_error() -> None:
    """They are counted, and cannot be listed."""
    context = plain()
    context.load_verify_locations(cadata=pem(CLIENT.leaf).decode())
    with pytest.raises(ValueError, match=r"not of authorities.*make and configure"):
        PinnedContext.from_ssl_context(context, pins=None)


def test_revocation_lists_are_an_error(tmp_path: Path) -> None:
    """They are counted, and cannot be listed."""
    context = plain()
    (tmp_path / "crl").write_bytes(make_crl(CHAIN, revoked=True))
    context.load_verify_locations(tmp_path / "crl")
    with pytest.raises(ValueError, match=r"revocation lists.*make and configure"):
        PinnedContext.from_ssl_context(context, pins=None)


def test_diffie_hellman_parameters_are_an_error(tmp_path: Path) -> None:
    """A server that goes on with a client of ephemeral Diffie-Hellman has them."""
    rsa = make_chain(2, kinds=["rsa", "p256"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    rsa.configure(context)
    files = rsa.write(tmp_path)
    arguments: dict[str, Any] = {"certfile": files.certfile, "keyfile": files.keyfile}
    assert PinnedContext.from_ssl_context(context, pins=None, **arguments)
    parameters = tmp_path / "dh.pem"
    subprocess.run(
        ["openssl", "genpkey", "-genparam", "-algorithm", "DH", "-pkeyopt", "group:ffdhe2048",
         "-out", parameters],
        check=True,
    )  # fmt: skip
    context.load_dh_params(parameters)
    with pytest.raises(ValueError, match="Diffie-Hellman parameters"):
        PinnedContext.from_ssl_context(context, pins=None, **arguments)


def test_a_pinned_context_is_refused() -> None:
    """It can be told its pins as it is."""
    with pytest.raises(TypeError, match="a PinnedContext already: set its pins"):
        PinnedContext.from_ssl_context(PinnedContext(pins=None), pins=PINS)


@pytest.mark.parametrize("context", [None, "ssl", ssl, ssl.SSLContext])
def test_what_is_no_context_is_refused(context: Any) -> None:
    """With the name of what it was."""
    with pytest.raises(TypeError, match=r"context is an ssl.SSLContext, not "):
        PinnedContext.from_ssl_context(context, pins=PINS)


@pytest.mark.parametrize("name", ["wrap_socket", "wrap_bio", "_wrap_socket", "_wrap_bio"])
def test_a_context_that_wraps_in_its_own_way_is_refused(name: str) -> None:
    """What it does there, checks of its own perhaps, would be lost."""
    own = type("Own", (ssl.SSLContext,), {name: lambda self, *args, **kwargs: None})
    with pytest.raises(ValueError, match=f"Own has a {name} of its own"):
        PinnedContext.from_ssl_context(own(ssl.PROTOCOL_TLS_CLIENT), pins=PINS)


@SIDES
def test_pins_need_verification(server_side: bool) -> None:
    """CERT_NONE is refused with pins (rule 9), and says what to do; without it is carried over."""
    context = plain(server_side)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with pytest.raises(ValueError, match=r"verify_mode is CERT_NONE.*leave verify_mode"):
        PinnedContext.from_ssl_context(context, pins=PINS)
    made = PinnedContext.from_ssl_context(context, pins=None)
    assert made.verify_mode == ssl.CERT_NONE


def test_a_setting_that_openssl_cannot_be_told_is_an_error_at_once() -> None:
    """Not when the first connection is made."""
    context = plain(True)
    context.num_tickets = 5
    with pytest.raises(NotImplementedError, match="num_tickets"):
        PinnedContext.from_ssl_context(context, pins=None)


def test_pins_that_are_wrong_are_an_error() -> None:
    """As everywhere."""
    with pytest.raises(ValueError, match="sha256"):
        PinnedContext.from_ssl_context(plain(), pins="nonsense")


# Directories -------------------------------------------------------------------------------------


def rehash(directory: Path, certificate: bytes) -> None:
    """Put a certificate under the name by which OpenSSL looks for it."""
    name = subprocess.run(
        ["openssl", "x509", "-noout", "-hash"], input=certificate, check=True, capture_output=True
    ).stdout.decode("ascii")
    free = (directory / f"{name.strip()}.{number}" for number in itertools.count())
    next(path for path in free if not path.exists()).write_bytes(certificate)


@SIDES
@pytest.mark.parametrize("kind", ["p256", "rsa"])
def test_the_systems_directory_is_carried_over(
    server_side: bool, kind: Any, tmp_path: Path, tls_version: ssl.TLSVersion
) -> None:
    """A context that looks certificates up there does so afterwards, too."""
    chain = make_chain(2, kinds=["p256", kind], pool=4)
    directory = tmp_path / "system"
    rehash(directory, pem(chain.root))
    (directory / "00000000.0").write_text("nonsense")
    (directory / "00000001.0").mkdir()
    (directory / "README").write_text("not a certificate's name")
    # Nobody can pretend to have been signed by these: not in a way that gets as far.
    rehash(directory, pem(make_chain(1, kinds="ed25519").root))
    context = plain(server_side, certificate=True)
    fix_version(context, tls_version)
    files = given(server_side, tmp_path)
    theirs = peer_of(server_side)
    other = plain(not server_side)
    chain.configure(other)
    other.verify_mode = ssl.CERT_REQUIRED
    (CHAIN if server_side else CLIENT).trust(other)
    # Not yet: somebody else's directory must not be trusted.
    made = PinnedContext.from_ssl_context(context, pins=None, **files)
    assert talk(made, other, server_side)[0].record.error is not None
    context.set_default_verify_paths()
    made = PinnedContext.from_ssl_context(context, pins=None, **files)
    for peer in (theirs, other):
        assert talk(made, peer, server_side)[0].record.error is None


def test_a_directory_with_nothing_new_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the context tells anyway is not looked for; a directory that is not there neither."""
    directory = tmp_path / "system"
    rehash(directory, pem(CHAIN.root))
    monkeypatch.setenv("SSL_CERT_DIR", os.pathsep.join([str(directory), str(tmp_path / "none")]))
    context = plain()
    context.set_default_verify_paths()
    found = survey_module.survey(context, certificate_given=False)
    assert found.directories == []
    assert found.authorities == [CHAIN.root_der]


# The other one -----------------------------------------------------------------------------------


@SIDES
def test_the_plain_context_is_not_changed(server_side: bool, tmp_path: Path) -> None:
    """Every setting is as before, and it still does what it did."""
    context = plain(server_side, certificate=True)
    names = [name for name in dir(context) if isinstance(vars(type(context)).get(name), property)]
    assert "verify_mode" in names

    def state() -> list[object]:
        told = [getattr(context, name) for name in names]
        return [told, context.get_ca_certs(True), context.get_ciphers(), context.cert_store_stats()]

    before = state()
    PinnedContext.from_ssl_context(context, pins=None, **given(server_side, tmp_path))
    assert state() == before
    ours, theirs = talk(context, peer_of(server_side), server_side)
    assert [ours.record.error, theirs.record.error] == [None, None]
