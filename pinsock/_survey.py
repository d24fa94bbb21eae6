"""What a plain ``ssl.SSLContext`` tells: for ``PinnedContext.from_ssl_context``.

Most of it has properties.  The rest is found out by looking at what the context does:

* it writes a ClientHello, which names its application protocols and the groups of its key exchange;
* as a server it is offered protocols and groups, and takes some;
* in a handshake in memory it shows whether it has a certificate.  To keep its own verification out
  of this, the connection is begun on a context that verifies nothing, and then given to this one,
  as a server's is when the client has asked for a name;
* likewise it shows whether it trusts a directory: the certificate of an authority in it is given a
  forgery to sign for.  If the directory is trusted, the forgery has a bad signature; if it is not,
  an unknown issuer.

The context is not changed by this; but its callbacks see these connections.
"""

from __future__ import annotations

import datetime
import functools
import os
import re
import ssl
import warnings
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from pinsock import _chain, _openssl
from pinsock._groups import GROUPS as _GROUPS
from pinsock._hello import ClientHello, HelloReader

__all__ = ["Survey", "survey"]

# Those that an ssl.SSLContext can be told to offer alone.
_CURVES = ("X25519", "prime256v1", "X448", "secp384r1", "secp521r1")
# The TLS Application-Layer Protocol Negotiation (ALPN) Protocol IDs registry.
_PROTOCOLS = (
    *("h2", "http/1.1", "http/1.0", "http/0.9", "spdy/1", "spdy/2", "spdy/3", "h2c", "h3"),
    *("webrtc", "c-webrtc", "ftp", "imap", "pop3", "managesieve", "coap", "co", "xmpp-client"),
    *("xmpp-server", "acme-tls/1", "mqtt", "dot", "ntske/1", "sunrpc", "smb", "irc", "nntp"),
    *("nnsp", "doq", "sip/2", "tds/8.0", "dicom", "postgresql", "radius/1.0", "radius/1.1"),
    *("stun.turn", "stun.nat-discovery"),
)
_PRE_SHARED_KEY = 41  # a TLS extension
# Why a server that has no certificate cannot go on.
_NOTHING_TO_SHOW = ("NO_SHARED_CIPHER", "NO_SUITABLE_SIGNATURE_ALGORITHM")
_UNKNOWN_ISSUER = 20  # X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY
_REHASHED = re.compile(r"[0-9a-f]{8}\.\d+")  # the names that openssl rehash gives
_HANDSHAKE = 22  # a content type of RFC 8446 section 5.1
_OURSELVES = "an ssl.SSLContext does not give it back: make and configure a PinnedContext instead"

_MUTE = (
    "a server's context without a certificate shows neither its application protocols nor the "
    "groups of its key exchange: if it was told any, tell the new one again (set_alpn_protocols, "
    "set_groups), or load a certificate into the old one first"
)

_SSLContext = ssl.SSLContext


class Survey(NamedTuple):
    """What has to be said to a new context; None is what it begins with.

    Attributes:
        authorities: the trusted certificates, DER.
        directories: those in which trusted certificates are looked up.
        ciphers: the cipher suites of TLS 1.2 and below, and the security level.
        ciphersuites: those of TLS 1.3.
        groups: of the key exchange.
        alpn: the application protocols.
        has_certificate: whether there is a certificate, which does not come with its key.
    """

    authorities: list[bytes]
    directories: list[str]
    ciphers: str | None
    ciphersuites: str | None
    groups: str | None
    alpn: list[str]
    has_certificate: bool


# Two ends in memory ------------------------------------------------------------------------------


class _End:
    """One end of a connection in memory."""

    def __init__(
        self, context: ssl.SSLContext, *, server_side: bool, then: ssl.SSLContext | None = None
    ) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = None if server_side else "localhost"
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side, name)
        if then is not None:
            self.tls.context = then
        self.error: ssl.SSLError | None = None

    def step(self) -> bytes:
        """Go on as far as the bytes at hand allow, and return what is written."""
        if self.error is None:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError as error:
                self.error = error
        return self.outgoing.read()


def _meet(client: _End, server: _End) -> None:
    for _ in range(4):  # a handshake with a second ClientHello takes three
        server.incoming.write(client.step())
        client.incoming.write(server.step())


def _new(protocol: int) -> ssl.SSLContext:
    """A context that takes anybody."""
    context = _SSLContext(protocol)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


class _Leaf(NamedTuple):
    certificate: bytes
    key: bytes


@functools.cache
def _key(kind: type) -> ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey:
    if issubclass(kind, rsa.RSAPublicKey):
        return rsa.generate_private_key(65537, 2048)
    return ec.generate_private_key(ec.SECP256R1())


def _leaf(issuer: x509.Certificate | None = None) -> _Leaf:
    """A certificate which says that ``issuer`` has signed it; nobody has."""
    key = _key(ec.EllipticCurvePublicKey)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "nobody")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name if issuer is None else issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key if issuer is None else _key(type(issuer.public_key())), hashes.SHA256())
    )
    return _Leaf(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def _load(context: ssl.SSLContext, leaf: _Leaf) -> None:
    with _openssl.file_of(leaf.certificate + leaf.key) as path:
        context.load_cert_chain(path)


def _pair(context: ssl.SSLContext, leaf: _Leaf, *, verify: bool) -> tuple[_End, _End]:
    """The end of ``context``, and another one which presents ``leaf``.

    Of the two it is the first that verifies, if ``verify``, and the second otherwise.
    """
    server_side = context.protocol == ssl.PROTOCOL_TLS_SERVER
    ours = _new(context.protocol)
    peer = _new(ssl.PROTOCOL_TLS_CLIENT if server_side else ssl.PROTOCOL_TLS_SERVER)
    _load(peer, leaf)
    if verify:
        ours.verify_mode = ssl.CERT_REQUIRED
    elif not server_side:
        peer.verify_mode = ssl.CERT_OPTIONAL
    one = _End(ours, server_side=server_side, then=context)
    other = _End(peer, server_side=not server_side)
    _meet(*((other, one) if server_side else (one, other)))
    return one, other


# What there is to find out -----------------------------------------------------------------------


def _has_certificate(context: ssl.SSLContext) -> bool:
    ours, peer = _pair(context, _leaf(), verify=False)
    if context.protocol == ssl.PROTOCOL_TLS_SERVER:
        if peer.tls.version() is not None and peer.tls.getpeercert(True):
            return True
        if ours.error is not None and ours.error.reason in _NOTHING_TO_SHOW:
            return False
    elif isinstance(peer.error, ssl.SSLCertVerificationError):
        return True  # the peer trusts nobody
    if ours.error is None and peer.error is None:
        return False
    raise ValueError(
        "whether the context has a certificate could not be found out, as a handshake in memory "
        f"failed ({ours.error or peer.error}): give it as certfile="
    )


def _candidates(directory: str, known: set[bytes]) -> Iterator[x509.Certificate]:
    """Certificates of a directory that are not among ``known``."""
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return
    for name in filter(_REHASHED.fullmatch, names):
        try:
            with open(os.path.join(directory, name), encoding="ascii") as file:
                der = ssl.PEM_cert_to_DER_cert(file.read())
            # cryptography warns of others.
            if der in known or int(str(_chain.peercert(der)["serialNumber"]), 16) <= 0:
                continue
            found = x509.load_der_x509_certificate(der)
            key = found.public_key()
        except (OSError, ValueError, UnsupportedAlgorithm):
            continue
        if isinstance(key, (ec.EllipticCurvePublicKey, rsa.RSAPublicKey)):
            yield found


def _directories(context: ssl.SSLContext, known: set[bytes]) -> list[str]:
    """The default directories, if certificates are looked up in them."""
    paths = ssl.get_default_verify_paths()
    listed = os.environ.get(paths.openssl_capath_env, paths.openssl_capath)
    found: list[str] = []
    for directory in listed.split(os.pathsep):
        issuer = next(_candidates(directory, known), None)
        if issuer is None:
            continue  # there is nothing in it to lose
        ours, _ = _pair(context, _leaf(issuer), verify=True)
        if getattr(ours.error, "verify_code", _UNKNOWN_ISSUER) != _UNKNOWN_ISSUER:
            found.append(directory)
    return found


def _hello(context: ssl.SSLContext) -> ClientHello:
    reader = HelloReader()
    end = _End(context, server_side=False)
    reader.feed(end.step())
    if reader.hello is None:
        raise ValueError(f"the context cannot begin a handshake: {end.error}") from end.error
    return reader.hello


def _older(hello: ClientHello) -> set[int]:
    """The cipher suites that are not of TLS 1.3, whose first byte is 0x13."""
    return {number for number in hello.ciphers if number >> 8 != 0x13}


def _like(context: ssl.SSLContext) -> ssl.SSLContext:
    """A new context with the settings of this one on which its offers depend."""
    made = _SSLContext(context.protocol)
    made.options = context.options
    for name in ("minimum_version", "maximum_version"):
        if getattr(made, name) != getattr(context, name):
            setattr(made, name, getattr(context, name))
    ciphers, _ = _ciphers(context)
    if ciphers is not None:
        made.set_ciphers(ciphers)
    return made


def _offers(context: ssl.SSLContext) -> tuple[str | None, list[str]]:
    """The groups and application protocols of a client."""
    hello, usual = _hello(context), _hello(_like(context))
    # With TLS 1.3 it offers a key, or has none to offer; before, suites that need the callback.
    if _PRE_SHARED_KEY in hello.extensions or _older(hello) - _older(usual):
        raise ValueError(f"the context has a callback for pre-shared keys: {_OURSELVES}")
    if hello.signature_algorithms != usual.signature_algorithms:
        raise ValueError(f"the context has signature algorithms of its own: {_OURSELVES}")
    alpn = [name.decode("ascii") for name in hello.alpn]
    if hello.groups == usual.groups:
        return None, alpn
    unknown = [number for number in hello.groups if number not in _GROUPS]
    if unknown:
        raise ValueError(f"the context has groups of unknown numbers: {unknown}")
    return ":".join(_GROUPS[number] for number in hello.groups), alpn


def _goes_on(context: ssl.SSLContext, client: ssl.SSLContext) -> bool:
    """Whether a server has an answer to a ClientHello that is no alert."""
    ours, peer = _End(context, server_side=True), _End(client, server_side=False)
    ours.incoming.write(peer.step())
    return ours.step()[:1] == bytes((_HANDSHAKE,))


def _accepts(context: ssl.SSLContext, curve: str) -> bool:
    client = _new(ssl.PROTOCOL_TLS_CLIENT)
    try:
        client.set_ecdh_curve(curve)
    except (ssl.SSLError, ValueError):
        return False  # CPython 3.10 knows less of them, on servers too
    return _goes_on(context, client)


def _has_dh_parameters(context: ssl.SSLContext) -> bool:
    client = _new(ssl.PROTOCOL_TLS_CLIENT)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers("DHE:@SECLEVEL=0")
    return _goes_on(context, client)


def _chosen(context: ssl.SSLContext, protocols: list[str]) -> str | None:
    """Which of the application protocols a server takes."""
    client = _new(ssl.PROTOCOL_TLS_CLIENT)
    client.set_alpn_protocols(protocols)
    ours, peer = _End(context, server_side=True), _End(client, server_side=False)
    _meet(peer, ours)
    return peer.tls.selected_alpn_protocol()


def _accepted(context: ssl.SSLContext) -> tuple[str | None, list[str]] | None:
    """The groups and application protocols of a server; None if it shakes hands with nobody."""
    if _has_dh_parameters(context):
        raise ValueError(f"the context has Diffie-Hellman parameters: {_OURSELVES}")
    usual = _like(context)
    _load(usual, _leaf())
    taken = [curve for curve in _CURVES if _accepts(context, curve)]
    if not taken:
        return None
    groups = None
    if taken != [curve for curve in _CURVES if _accepts(usual, curve)]:
        groups = ":".join(taken)
    left, alpn = list(_PROTOCOLS), list[str]()
    while (chosen := _chosen(context, left)) is not None:
        alpn.append(chosen)
        left.remove(chosen)
    return groups, alpn


def _ciphers(context: ssl.SSLContext) -> tuple[str | None, str | None]:
    """The cipher suites below TLS 1.3, and those of TLS 1.3."""
    usual = _SSLContext(context.protocol)
    names = [_names(some.get_ciphers()) for some in (context, usual)]
    ciphers = ciphersuites = None
    if names[0][0] != names[1][0] or context.security_level != usual.security_level:
        ciphers = ":".join((*names[0][0], f"@SECLEVEL={context.security_level}"))
    if names[0][1] != names[1][1]:
        ciphersuites = ":".join(names[0][1])
    unknown = sorted({*names[0][0], *names[0][1]} - _openssl.cipher_names())
    if unknown:
        raise ValueError(
            f"the context has cipher suites that the OpenSSL of cryptography does not: {unknown}: "
            "set_ciphers() without them"
        )
    return ciphers, ciphersuites


def _names(ciphers: Sequence[object]) -> tuple[list[str], list[str]]:
    older: list[str] = []
    newer: list[str] = []
    for cipher in ciphers:
        assert isinstance(cipher, dict)
        (newer if cipher["protocol"] == "TLSv1.3" else older).append(cipher["name"])
    return older, newer


def survey(context: ssl.SSLContext, *, certificate_given: bool) -> Survey:
    """Find out what an ``ssl.SSLContext`` does not say.

    Args:
        context: the context; it is not changed.
        certificate_given: its certificate need not be looked for.

    Raises:
        ValueError: there is something that cannot be carried over; it says what.
    """
    stored = context.cert_store_stats()
    if stored["crl"]:
        raise ValueError(f"the context has revocation lists: {_OURSELVES}")
    if stored["x509"] != stored["x509_ca"]:
        raise ValueError(
            f"the context trusts certificates that are not of authorities: {_OURSELVES}"
        )
    authorities = context.get_ca_certs(binary_form=True)
    has_certificate = certificate_given or _has_certificate(context)
    groups: str | None = None
    alpn: list[str] = []
    if context.protocol != ssl.PROTOCOL_TLS_SERVER:
        groups, alpn = _offers(context)
    else:
        accepted = _accepted(context) if has_certificate else None
        if accepted is None:
            warnings.warn(_MUTE, stacklevel=3)  # who called from_ssl_context
        else:
            groups, alpn = accepted
    return Survey(
        authorities,
        _directories(context, set(authorities)),
        *_ciphers(context),
        groups,
        alpn,
        has_certificate,
    )
