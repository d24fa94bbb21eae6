"""Certificate pinning for Python sockets, inside the TLS handshake."""

from pinsock._context import PinnedContext, create_connection, create_default_context
from pinsock._errors import (
    ChainPosition,
    PinError,
    PinExpiredError,
    PinMismatchError,
    PinSyntaxError,
    UnpinnedPeerError,
)
from pinsock._hosts import HostPins
from pinsock._pins import Pin, PinMatch, PinSet
from pinsock._reports import PinReport
from pinsock._socket import PinnedObject, PinnedSocket
from pinsock._store import PinFile, TofuStore

__all__ = [
    "ChainPosition",
    "HostPins",
    "Pin",
    "PinError",
    "PinExpiredError",
    "PinFile",
    "PinMatch",
    "PinMismatchError",
    "PinReport",
    "PinSet",
    "PinSyntaxError",
    "PinnedContext",
    "PinnedObject",
    "PinnedSocket",
    "TofuStore",
    "UnpinnedPeerError",
    "create_connection",
    "create_default_context",
]
