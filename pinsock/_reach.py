"""Reaching servers, for the command line: where they are, and what to say if it fails.

Whatever goes wrong is a :exc:`Mistake`: one line, with what to do about it.  A traceback would only
be in the way of the operator who has to find out at night which certificate has changed.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import math
import re
import socket
import ssl
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from pinsock import (
    PinMatch,
    PinnedContext,
    PinnedSocket,
    PinSet,
    PinSyntaxError,
    create_default_context,
)
from pinsock._hosts import canonical_host
from pinsock._pins import Position
from pinsock._starttls import DEFAULT_PORTS, StartTLSError, start_tls

__all__ = [
    "NAMED",
    "NO",
    "USAGE",
    "Line",
    "Mistake",
    "Target",
    "complain",
    "make_context",
    "print_json",
    "read_name",
    "read_port",
    "read_timeout",
    "reason_of",
    "say",
    "where",
]

#: Exit statuses: a no, and a command that makes no sense.
NO, USAGE = 1, 2
# A longer wait is a typing error, and beyond some 292 years no operating system takes it.
_MAX_TIMEOUT = 86400.0


class Mistake(Exception):
    """What to tell the user in one line, and the exit status it means."""

    def __init__(self, message: str, status: int = NO) -> None:
        super().__init__(message)
        self.status = status


def say(text: str) -> None:
    """Print what may hold any character on a terminal that may not know it."""
    if sys.stdout is None:
        raise Mistake("cannot write the output: standard output is closed")
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding))


def complain(text: str) -> None:
    # To print() no file is standard output, where the answer goes: into a pin file, maybe.
    if sys.stderr is not None:
        print(f"pinsock: {text}", file=sys.stderr)


def print_json(value: Mapping[str, object]) -> None:
    say(json.dumps(value, indent=2))


_HOST_PORT = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:\[\]]+)(?::(?P<port>[^:]*))?")


@dataclass(frozen=True, slots=True)
class Target:
    """Where to connect to; the port is None if it was not said."""

    host: str
    port: int | None

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read ``HOST[:PORT]``; an IPv6 address with a port stands in brackets."""
        if "/" in text:
            raise argparse.ArgumentTypeError(f"{text!r} is a URL or a path: give HOST[:PORT] alone")
        try:
            return cls(str(ipaddress.IPv6Address(text)), None)
        except ValueError:
            pass
        match = _HOST_PORT.fullmatch(text)
        if match is None:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not HOST[:PORT]: an IPv6 address with a port is [ADDRESS]:PORT"
            )
        host = match["host"]
        if host.startswith("["):
            try:
                host = str(ipaddress.IPv6Address(host[1:-1]))
            except ValueError:
                raise argparse.ArgumentTypeError(
                    f"{host[1:-1]!r} is not an IPv6 address: brackets are for those alone"
                ) from None
        read_name(host)
        return cls(host, None if match["port"] is None else read_port(match["port"]))

    def at(self, port: int) -> Target:
        """The same, at ``port`` if none was said."""
        return self if self.port is not None else Target(self.host, port)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def read_name(text: str) -> str:
    # Now, and not when ssl or the resolver encodes it: those raise something else each time.
    try:
        canonical_host(text)
    except PinSyntaxError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def read_port(text: str) -> int:
    # int() would take signs, spaces, underscores and the digits of other scripts as well.
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"bad port {text!r}: a port is a number from 1 to 65535")
    return int(text)


def read_timeout(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= _MAX_TIMEOUT:  # false for NaN too
        raise argparse.ArgumentTypeError(
            f"bad timeout {text!r}: give seconds, above 0 and up to {_MAX_TIMEOUT:.0f}"
        )
    return seconds


@dataclass(frozen=True, slots=True)
class Line:
    """How to reach a server.

    Attributes:
        target: where it is.
        servername: the name to ask for.
        timeout: seconds for each step.
        starttls: the protocol in which to ask for TLS first, if any.
    """

    target: Target
    servername: str
    timeout: float
    starttls: str | None = None

    @classmethod
    def to(cls, target: Target, arguments: argparse.Namespace, port: int | None = None) -> Line:
        """Make a line to a target; without a port it is ``port``, or the protocol's own."""
        starttls: str | None = arguments.starttls
        default = 443 if starttls is None else DEFAULT_PORTS[starttls]
        # The zone of a link-local address says which interface to use, and is no part of the name.
        servername: str = arguments.servername or target.host.partition("%")[0]
        return cls(target.at(port or default), servername, arguments.timeout, starttls)

    @contextmanager
    def connect(self, context: PinnedContext) -> Iterator[PinnedSocket]:
        """Connect; the handshake is the caller's to make, inside this context.

        Failures of certificates are raised as they are, all others as a :exc:`Mistake`.
        """
        try:
            raw = socket.create_connection(
                (self.target.host, self.target.port or 443), timeout=self.timeout
            )
        except OSError as error:
            raise Mistake(self._why_unreachable(error)) from None
        with raw:
            try:
                self._ask_for_tls(raw)
                # Made separately, the handshake fails on a connection that was reset before it
                # began; wrap_socket takes such a one for a socket that is yet to be connected.
                with context.wrap_socket(
                    raw, server_hostname=self.servername, do_handshake_on_connect=False
                ) as tls:
                    yield tls
            except ssl.SSLCertVerificationError:
                raise
            except OSError as error:
                raise Mistake(self._why_no_handshake(error)) from None

    def _ask_for_tls(self, raw: socket.socket) -> None:
        if self.starttls is None:
            return
        try:
            start_tls(raw, self.starttls, self.servername)
        except StartTLSError as error:
            raise Mistake(f"{self.target}: {error}") from None
        except TimeoutError:
            raise Mistake(
                f"{self.target} accepted the connection but did not let TLS begin within "
                f"{self.timeout:g} seconds: check that the port speaks {self.starttls}, or give a "
                "longer --timeout"
            ) from None

    @property
    def _hung_up(self) -> str:
        return (
            f"{self.target} closed the connection before a TLS handshake was complete: check that "
            "the port speaks TLS, and whether the server wants another --servername"
        )

    def _why_unreachable(self, error: OSError) -> str:
        target = self.target
        if isinstance(error, socket.gaierror):
            return f"unknown host {target.host!r} ({error.strerror}): check the spelling, and DNS"
        if isinstance(error, TimeoutError):
            return (
                f"{target} did not answer within {self.timeout:g} seconds: "
                "check address and firewall, or give a longer --timeout"
            )
        if isinstance(error, ConnectionRefusedError):
            return f"{target} refused the connection: nothing listens there; check the port"
        if isinstance(error, ConnectionResetError):
            return self._hung_up
        return f"cannot connect to {target}: {error.strerror or error}; check the network"

    def _why_no_handshake(self, error: OSError) -> str:
        target = self.target
        if isinstance(error, TimeoutError):
            return (
                f"{target} accepted the connection but did not complete a TLS handshake within "
                f"{self.timeout:g} seconds: check that the port speaks TLS, or give a longer "
                "--timeout"
            )
        reason = getattr(error, "reason", None) or ""
        if reason in _NOT_TLS:
            return f"{target} does not speak TLS: check the port, or give --starttls PROTOCOL"
        if not isinstance(error, ssl.SSLError) or isinstance(
            error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)
        ):
            return self._hung_up
        said = reason.replace("_", " ").lower() or error.strerror
        return (
            f"the TLS handshake with {target} failed: {said}; check --servername, and which "
            "versions of TLS and client certificates the server wants"
        )


# What OpenSSL makes of bytes that are not a TLS record.
_NOT_TLS = frozenset(
    {
        "BAD_PROTOCOL_VERSION_NUMBER",
        "BAD_RECORD_TYPE",
        "ENCRYPTED_LENGTH_TOO_LONG",
        "PACKET_LENGTH_TOO_LONG",
        "RECORD_LAYER_FAILURE",
        "UNEXPECTED_MESSAGE",
        "WRONG_VERSION_NUMBER",
    }
)


def make_context(pins: PinSet | None, cafile: str | None) -> PinnedContext:
    try:
        return create_default_context(pins=pins, cafile=cafile)
    except (OSError, ValueError) as error:
        raise Mistake(
            f"--cafile {cafile}: no certificates can be read from it ({reason_of(error)}): "
            "give a file of PEM certificates",
            USAGE,
        ) from None


def reason_of(error: Exception) -> str:
    """Say in one line why ``ssl`` or the operating system refused."""
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = str(error.verify_message)
        # X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH
        if error.verify_code in (62, 64):
            reason += " (--servername says which name to check)"
        return reason
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)


# Only a known position is split off: a pin has '=' of its own (base64, RFC 7469's spelling).
NAMED: dict[str, Position] = {
    "leaf": "leaf",
    "intermediate": "intermediate",
    "anchor": "anchor",
    "ca": "ca",
    "any": "any",
}
def where(match: PinMatch) -> str:
    position = match.position
    return f"matched at depth {match.depth}" + (f" ({position})" if position in NAMED else "")


