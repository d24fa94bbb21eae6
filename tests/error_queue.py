"""OpenSSL's queue of errors, of which each thread has one: others in the thread use it too."""

from __future__ import annotations

from OpenSSL import SSL
from OpenSSL._util import lib

__all__ = ["leave_an_error", "what_is_left"]


def leave_an_error() -> None:
    """Leave something there, as somebody may whose own call has failed."""
    context = SSL.Context(SSL.TLS_METHOD)
    assert not lib.SSL_CTX_set_cipher_list(context._context, b"there is no such suite")
    assert what_is_left()


def what_is_left() -> int:
    """The number of the first entry; 0 if there is none."""
    number: int = lib.ERR_peek_error()
    return number
