"""What no TLS library can go below: the cipher, and the public-key operations of a handshake.

Theory: the cost of data is the cipher's plus what moves the bytes.  The cost of a client's full
handshake is a key for each share it sends (RFC 8446 section 4.2.8), the secret of the share that is
answered, and three signatures to check: the leaf's, the intermediate's and CertificateVerify's.
OpenSSL does not check the anchor's signature of itself, which proves nothing.

The operations are timed through cryptography, so in the OpenSSL that pinsock runs on; each costs
some 0.3 to 1 us of Python, which the floor is too high by.  ``openssl speed`` has no Python in it,
and is the system's OpenSSL.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.certificates import make_key

__all__ = ["Floor", "floor"]

_RECORD = 1 << 14  # RFC 8446 section 5.1
_MIB = 1 << 20
_SPEED = ["speed", "-evp", "aes-256-gcm", "-bytes", str(_RECORD), "-seconds", "1", "-mr"]
_MESSAGE = bytes(130)  # what CertificateVerify signs is as long (RFC 8446 section 4.4.3)

#: What is measured, its value, and its unit.
Floor = list[tuple[str, float, str]]


def floor(kind: str, *, quick: bool) -> Floor:
    """Measure it.

    Args:
        kind: of the certificates' keys, ``"p256"`` or ``"rsa"``.
        quick: to see that it runs; the numbers mean nothing.
    """
    return [*_cipher(quick), *_handshake(kind, quick)]


def _cpu(operation: Callable[[], object], quick: bool) -> float:
    """CPU seconds of one."""
    batches, number = (1, 2) if quick else (11, 100)
    costs = []
    for _ in range(batches):
        start = time.process_time()
        for _ in range(number):
            operation()
        costs.append((time.process_time() - start) / number)
    # A clock of coarse steps may see nothing of the few that a quick run does.
    return max(statistics.median(costs), time.get_clock_info("process_time").resolution)


def _cipher(quick: bool) -> Iterator[tuple[str, float, str]]:
    rate = _openssl_speed()
    if rate is not None:
        yield f"AES-256-GCM, 16 KiB, {_openssl('version').split(' (')[0]} speed", rate, "MiB/CPU s"
    cipher, nonce, record = AESGCM(bytes(32)), os.urandom(12), bytes(_RECORD)
    sealed = cipher.encrypt(nonce, record, None)
    for name, operation in (
        ("seal", lambda: cipher.encrypt(nonce, record, None)),
        ("open", lambda: cipher.decrypt(nonce, sealed, None)),
    ):
        rate = _RECORD / _MIB / _cpu(operation, quick)
        yield f"AES-256-GCM, 16 KiB, {name} by cryptography", rate, "MiB/CPU s"


def _openssl(*arguments: str) -> str:
    return subprocess.run(
        ["openssl", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
        timeout=60,
        text=True,
    ).stdout


def _openssl_speed() -> float | None:
    """MiB for each CPU second; None where there is no such program, or another one (LibreSSL)."""
    if shutil.which("openssl") is None:
        return None
    try:
        # "+F:25:AES-256-GCM:3698829241.38", in bytes for each second of CPU time
        for line in _openssl(*_SPEED).splitlines():
            if line.startswith("+F:"):
                return float(line.rpartition(":")[2]) / _MIB
    except (subprocess.SubprocessError, ValueError):
        pass
    return None


def _handshake(kind: str, quick: bool) -> Iterator[tuple[str, float, str]]:
    def microseconds(operation: Callable[[], object]) -> float:
        return _cpu(operation, quick) * 1e6

    share = microseconds(x25519.X25519PrivateKey.generate)
    exchange = microseconds(_exchange_x25519())
    yield "X25519: make a share", share, "us"
    yield "X25519: make a share, and the secret", exchange, "us"
    yield "P-256: make a share, and the secret", microseconds(_exchange_p256()), "us"
    generate = _mlkem()
    hybrid = None if generate is None else share + microseconds(generate)
    if hybrid is not None:
        yield "X25519MLKEM768: make a share", hybrid, "us"
    key = make_key("rsa" if kind == "rsa" else "p256")
    assert isinstance(key, (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey))
    sign, verify, name = _signature(key)
    yield f"{name}: sign", microseconds(sign), "us"
    checks = 3 * microseconds(verify)
    yield f"{name}: verify, 3 times", checks, "us"
    yield "a client's handshake by X25519", exchange + checks, "us"
    if hybrid is not None:
        # What newer OpenSSLs send; the server of the benchmarks is ssl's, and may not know it.
        yield "likewise, X25519MLKEM768 offered in vain", exchange + hybrid + checks, "us"


def _exchange_x25519() -> Callable[[], object]:
    peer = x25519.X25519PrivateKey.generate().public_key()
    return lambda: x25519.X25519PrivateKey.generate().exchange(peer)


def _exchange_p256() -> Callable[[], object]:
    curve, peer = ec.SECP256R1(), ec.generate_private_key(ec.SECP256R1()).public_key()
    return lambda: ec.generate_private_key(curve).exchange(ec.ECDH(), peer)


def _mlkem() -> Callable[[], object] | None:
    """Make a key of ML-KEM-768; None if this cryptography, or its OpenSSL, does not have it."""
    try:
        from cryptography.hazmat.primitives.asymmetric import mlkem

        mlkem.MLKEM768PrivateKey.generate()
    except (ImportError, UnsupportedAlgorithm):
        return None
    return mlkem.MLKEM768PrivateKey.generate


def _signature(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey,
) -> tuple[Callable[[], object], Callable[[], object], str]:
    if isinstance(key, rsa.RSAPrivateKey):
        private, public, scheme = key, key.public_key(), padding.PKCS1v15()
        signed = private.sign(_MESSAGE, scheme, hashes.SHA256())
        return (
            lambda: private.sign(_MESSAGE, scheme, hashes.SHA256()),
            lambda: public.verify(signed, _MESSAGE, scheme, hashes.SHA256()),
            "RSA-2048",
        )
    curve_key, curve_public = key, key.public_key()
    algorithm = ec.ECDSA(hashes.SHA256())
    proof = curve_key.sign(_MESSAGE, algorithm)
    return (
        lambda: curve_key.sign(_MESSAGE, algorithm),
        lambda: curve_public.verify(proof, _MESSAGE, algorithm),
        "ECDSA P-256",
    )
