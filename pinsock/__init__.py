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
from pinsock._socket import PinnedObject, PinnedSocket

__all__ = [
    "ChainPosition",
    "HostPins",
    "Pin",
    "PinError",
    "PinExpiredError",
    "PinMatch",
    "PinMismatchError",
    "PinSet",
    "PinSyntaxError",
    "PinnedContext",
    "PinnedObject",
    "PinnedSocket",
    "UnpinnedPeerError",
    "create_connection",
    "create_default_context",
]
