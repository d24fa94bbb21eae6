"""A certificate is either read as OpenSSL, ssl and cryptography read it, or ValueError, no third.

We may refuse what they read, and then no pin matches.  But where we say what the key is and one of
them does, too, it is the same, octet by octet: otherwise a pin would be that of another key.  The
same goes for the dictionary of ``getpeercert()`` and for the dates.
"""

from __future__ import annotations

import _ssl
import ctypes
import ssl

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)

from fuzz.der import mutate
from fuzz.harness import run
from pinsock import _chain
from tests.test_chain import check_everything, stdlib_peercert

# The OpenSSL of ssl: its bindings know neither these functions nor a certificate without a socket.
_LIBRARY = ctypes.CDLL(_ssl.__file__)
_POINTER = ctypes.c_void_p
_LIBRARY.d2i_X509.restype = _POINTER
_LIBRARY.d2i_X509.argtypes = [_POINTER, ctypes.POINTER(ctypes.c_char_p), ctypes.c_long]
_LIBRARY.X509_get_X509_PUBKEY.restype = _POINTER
_LIBRARY.X509_get_X509_PUBKEY.argtypes = [_POINTER]
_LIBRARY.i2d_X509_PUBKEY.argtypes = [_POINTER, _POINTER]
_LIBRARY.X509_free.argtypes = [_POINTER]


def openssl_spki(der: bytes) -> bytes | None:
    """The key as OpenSSL writes it again; None if it reads no certificate, or not to its end.

    What the tool prints, without a process: it has to be asked some thousand times a second.
    """
    start = ctypes.c_char_p(der)
    first = ctypes.cast(start, _POINTER).value or 0
    certificate = _LIBRARY.d2i_X509(None, ctypes.byref(start), len(der))
    if not certificate:
        _LIBRARY.ERR_clear_error()
        return None
    try:
        if (ctypes.cast(start, _POINTER).value or 0) - first != len(der):
            return None
        key = _LIBRARY.X509_get_X509_PUBKEY(certificate)
        written = ctypes.create_string_buffer(_LIBRARY.i2d_X509_PUBKEY(key, None))
        end = ctypes.c_void_p(ctypes.addressof(written))
        _LIBRARY.i2d_X509_PUBKEY(key, ctypes.byref(end))
        return written.raw
    finally:
        _LIBRARY.X509_free(certificate)


def _same_key(one: bytes, other: bytes) -> bool:
    """Tell whether cryptography takes two keys for the same."""
    keys = [load_der_public_key(key) for key in (one, other)]
    first, second = (
        key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) for key in keys
    )
    return first == second


def _check_against_cryptography(der: bytes, spki: bytes) -> None:
    try:
        certificate = x509.load_der_x509_certificate(der)
    except (ValueError, x509.InvalidVersion):
        return
    assert spki in certificate.tbs_certificate_bytes
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        pass
    else:
        assert _same_key(
            spki, key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        )
    try:
        dates = _chain.validity(der)
        theirs = (certificate.not_valid_before_utc, certificate.not_valid_after_utc)
    except ValueError:
        return
    assert dates == theirs


def _name(dotted: str) -> str:
    """The long name of an object identifier; ssl's OpenSSL is older, and knows fewer."""
    try:
        return str(ssl._txt2obj(dotted)[2])  # type: ignore[attr-defined]  # private: not in typeshed
    except ValueError:
        return dotted


_EXTENSIONS = ("subjectAltName", "OCSP", "caIssuers", "crlDistributionPoints")


def _check_against_ssl(der: bytes) -> None:
    try:
        theirs = stdlib_peercert(der)
        ours = dict(_chain.peercert(der, _name))
    except (ssl.SSLError, ValueError):
        return
    for name in {*ours, *theirs}:
        # A damaged extension is left out by the one or the other (README.rst).
        if name not in _EXTENSIONS or (name in ours and name in theirs):
            assert ours.get(name) == theirs.get(name), name


def test_one_input(data: bytes) -> None:
    """Read the bytes in every way that there is, and hold the answers against each other."""
    check_everything(data)
    try:
        spki = _chain.spki(data)
    except ValueError:
        return
    theirs = openssl_spki(data)
    if theirs is None:
        return  # no handshake comes as far as to ask us
    assert spki == theirs
    _check_against_cryptography(data, spki)
    _check_against_ssl(data)


if __name__ == "__main__":
    run(test_one_input, mutate)
