"""The public API as a caller with a strict type checker sees it: checked by mypy, never run.

Each line that states a type is the contract: a return value that becomes wider or ``Any``, or an
argument that is no longer taken, fails here before it fails at a caller's.
"""

from __future__ import annotations

import asyncio
import pickle
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

import pinsock
from pinsock import (
    HostPins,
    Pin,
    PinError,
    PinExpiredError,
    PinFile,
    PinMatch,
    PinMismatchError,
    PinnedContext,
    PinnedObject,
    PinnedSocket,
    PinReport,
    PinSet,
    PinSyntaxError,
    TofuStore,
    UnpinnedPeerError,
    create_connection,
    create_default_context,
)


def use(*values: object) -> None:
    """Keep names that are there for their type alone from looking unused."""


def pins(certificate: x509.Certificate, public_key: ec.EllipticCurvePublicKey) -> list[Pin]:
    """Pins are made from text, certificates and keys, and are plain values."""
    parsed: Pin = Pin.parse("sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=")
    kind: Literal["spki", "cert"] = parsed.kind
    algorithm: Literal["sha256", "sha384", "sha512"] = parsed.algorithm
    digest: bytes = parsed.digest
    text: str = str(parsed)
    same: bool = parsed == Pin(kind, algorithm, digest) and hash(parsed) == hash(Pin.parse(text))
    matches: bool = parsed.matches(b"DER")
    use(same, matches)
    return [
        parsed,
        Pin.from_certificate(certificate),
        Pin.from_certificate(b"DER or PEM", kind="cert", algorithm="sha512"),
        Pin.from_certificate("-----BEGIN CERTIFICATE-----"),
        Pin.from_public_key(public_key),
        Pin.from_public_key(b"DER or PEM", algorithm="sha384"),
    ]


def pin_sets(pin: Pin) -> list[PinSet]:
    """A pin set takes pins and texts, for any position or by position."""
    whole: PinSet = PinSet([pin, "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="])
    chain: Sequence[bytes] = (b"leaf", b"anchor")
    match: PinMatch | None = whole.match(chain)
    if match is not None:
        depth: int = match.depth
        position: str | int = match.position
        found: Pin = match.pin
        use(depth, position, found)
    for name, pins_there in whole.positions.items():
        position_name: str | int = name
        alternatives: tuple[Pin, ...] = pins_there
        use(position_name, alternatives)
    by_depth: dict[int, Pin] = {0: pin}
    by_name: dict[str, list[Pin]] = {"leaf": [pin]}  # as it comes out of a configuration file
    return [
        whole,
        PinSet(by_depth),
        PinSet(by_name),
        PinSet({"leaf": [pin], "anchor": [str(pin), pin], 1: [pin]}),
        PinSet([pin], trust="pins", check_expiry=False),
        PinSet((pin,), trust="ca", enforce=False),
        PinSet({pin}, expires=date(2030, 1, 1), after_expiry="unpin"),
        PinSet([pin], expires=datetime(2030, 1, 1, tzinfo=timezone.utc), after_expiry="reject"),
    ]


def by_host(server_hostname: str | None) -> PinSet | None:
    """Any function of this type can be the pins of a context."""
    return None if server_hostname is None else PinSet(["sha256/..."])


def contexts(pin: Pin, pin_set: PinSet) -> list[PinnedContext]:
    """Everything that DESIGN lets ``pins`` be is accepted, and a context is an ``SSLContext``."""
    hosts = HostPins({"example.com": pin_set, "*.example.com": [pin]}, unpinned="allow")
    function: Callable[[str | None], PinSet | None] = by_host
    made: list[PinnedContext] = [
        create_default_context(pins=None),
        create_default_context(ssl.Purpose.CLIENT_AUTH, pins=pin_set, cafile="ca.pem"),
        create_default_context(pins=[pin], capath="certificates", cadata="-----BEGIN ..."),
        create_default_context(pins=["sha256/..."], cadata=b"DER"),
        PinnedContext(pins=hosts),
        PinnedContext(pins={"example.com": pin_set, "**.example.org": [pin]}),
        PinnedContext(ssl.PROTOCOL_TLS_SERVER, pins=function),
    ]
    standard: ssl.SSLContext = made[0]
    standard.verify_mode = ssl.CERT_REQUIRED
    made[0].load_verify_locations(cafile="ca.pem")
    made[0].pins = pin_set
    made[0].pins = None
    made[0].pins = [pin, "sha256/..."]
    made[0].pins = hosts
    made[0].pins = made[1].pins
    return made


def connections(context: PinnedContext, pin_set: PinSet) -> PinMatch | None:
    """Wrapping gives pinned sockets and objects, which are those of ssl and offer more."""
    with create_connection(("example.com", 443), pins=pin_set) as simple:
        pinned: PinnedSocket = simple
        standard: ssl.SSLSocket = pinned
        standard.sendall(b"")
    address = ("192.0.2.1", 443)
    with create_connection(
        address, 10.0, ("", 0), context=context, server_hostname="example.com"
    ) as full:
        verified: list[bytes] = full.get_verified_chain()
        unverified: list[bytes] = full.get_unverified_chain()
        keying: bytes = full.export_keying_material(b"EXPORTER-example", 32)
        keying = full.export_keying_material(b"EXPORTER-example", 32, b"context")
        binding: bytes | None = full.get_channel_binding("tls-exporter")
        group: str | None = full.group()
        use(verified, unverified, keying, binding, group)
    with socket.create_connection(address) as plain:
        wrapped: PinnedSocket = context.wrap_socket(
            plain, server_hostname="example.com", do_handshake_on_connect=False, pins=pin_set
        )
        wrapped.do_handshake()
    memory: PinnedObject = context.wrap_bio(
        ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="example.com", pins=pin_set
    )
    standard_object: ssl.SSLObject = memory
    standard_object.do_handshake()
    chains: list[list[bytes]] = [memory.get_verified_chain(), memory.get_unverified_chain()]
    keying = memory.export_keying_material(b"EXPORTER-example", 32)
    use(chains, keying, memory.group())
    return wrapped.pin_match or memory.pin_match


async def streams(context: PinnedContext) -> None:
    """asyncio takes a pinned context for what it is."""
    _reader, writer = await asyncio.open_connection("example.com", 443, ssl=context)
    found = writer.get_extra_info("ssl_object")
    assert isinstance(found, PinnedObject)
    match: PinMatch | None = found.pin_match
    use(match)
    writer.close()


def errors(path: Path) -> str:
    """One ``except`` for each cause, or one for all; what an error knows is typed."""
    try:
        Pin.parse(path.read_text())
        create_connection(("example.com", 443), pins=["sha256/..."]).close()
    except PinMismatchError as error:
        host: str | None = error.server_hostname
        expected: Mapping[str | int, tuple[str, ...]] = error.expected
        lines = [f"{host}: {expected}"]
        for position in error.positions:
            depth: int = position.depth
            subject: str = position.subject
            not_after: datetime | None = position.not_after
            pin: str | None = position.pin
            certificate_pin: str = position.certificate_pin
            lines.append(f"{depth} {subject} {not_after} {pin} {certificate_pin}")
        return "\n".join(lines)
    except (PinExpiredError, UnpinnedPeerError) as error:
        pin_error: PinError = error
        standard: ssl.SSLCertVerificationError = pin_error
        return f"{standard.verify_code}: {standard.verify_message}"
    except PinSyntaxError as error:
        value_error: ValueError = error
        return str(value_error)
    except PinError as error:
        return pickle.dumps(error).hex()
    return ", ".join(pinsock.__all__)


def living_pins(path: Path, context: PinnedContext) -> None:
    """Pins from files and from others' formats, what is told of them, and what is left over."""
    file = PinFile(path, unpinned="allow")
    file.reload()
    file.write({"example.com": "sha256/..."})
    file.write()
    patterns: Mapping[str, PinSet] = file.patterns
    store = TofuStore(path, mode="strict", trust="pins", check_expiry=False)
    store.remove("example.com:8443")
    names: list[str] = list(store)
    known: PinSet = store["example.com"]
    first_seen: datetime | None = known.first_seen
    context.pins = file
    context.pins = store
    context.pins = store.peer("example.com:8443")
    open_: list[PinnedSocket | PinnedObject] = context.connections()

    def report(told: PinReport) -> None:
        text: str = told.to_json()
        chain: tuple[str, ...] = told.verified_chain
        reason: Literal["mismatch", "expired"] = told.reason
        use(text, chain, reason, told.time, told.address, told.host)

    context.report_callback = report
    context.report_callback = None
    context.pin_expiry_warning = timedelta(days=10)
    context.certificate_expiry_warning = None
    use(patterns, names, first_seen, open_)
    use(PinSet.from_tlsa("3 1 1 AB"), PinSet.from_hpkp("max-age=1"))
    use(HostPins.from_android(b""), HostPins.from_trustkit({}, unpinned="allow"))
    use(HostPins.from_okhttp({"example.com": ["sha256/..."]}), HostPins.from_okhttp([("a", "b")]))
