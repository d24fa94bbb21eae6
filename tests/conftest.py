"""What all tests share: the TLS versions, the transports, hypothesis profiles, and a watchdog.

pinsock is not imported here, so that the tests of the helpers run without it.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import ssl
import sys
from collections.abc import Generator, Iterator
from importlib import metadata
from typing import cast

import hypothesis
import pytest
from OpenSSL import SSL

from tests.peers import Transport

# A handshake takes milliseconds, and then one takes a hundred because the machine is busy: a
# deadline for each example would only fail at random.
hypothesis.settings.register_profile("default", deadline=None, max_examples=30)
hypothesis.settings.register_profile(
    "ci", deadline=None, max_examples=60, derandomize=True, print_blob=True
)
hypothesis.settings.register_profile(
    "thorough",
    deadline=None,
    max_examples=2000,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
_PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "default")
hypothesis.settings.load_profile(_PROFILE)

#: Seconds after which a test that hangs is killed, with the stacks of all its threads.
WATCHDOG = 3600 if _PROFILE == "thorough" or "PINSOCK_ENDURANCE" in os.environ else 120

_stderr = pytest.StashKey[int]()


@pytest.fixture(
    scope="module",  # hypothesis warns of narrower ones; the value does not change
    params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3],
    ids=["tls1.2", "tls1.3"],
)
def tls_version(request: pytest.FixtureRequest) -> ssl.TLSVersion:
    """Each TLS version in turn."""
    return cast(ssl.TLSVersion, request.param)


@pytest.fixture(scope="module", params=["socket", "bio"])
def transport(request: pytest.FixtureRequest) -> Transport:
    """Each transport in turn: a real socket, and a pair of memory BIOs."""
    return cast(Transport, request.param)


@pytest.fixture
def unraisable(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """What could not be raised, and went to ``sys.unraisablehook``."""
    seen: list[BaseException] = []
    # What it is given may not be kept: it would keep the object of the finalizer alive.
    monkeypatch.setattr(sys, "unraisablehook", lambda told: seen.append(told.exc_value))
    return seen


@pytest.fixture
def failing_logs() -> Iterator[None]:
    """A handler of the logger ``pinsock`` that raises, as the standard library's never do."""

    class Failing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError("no space left for logs")

    handler = Failing()
    logging.getLogger("pinsock").addHandler(handler)
    yield
    logging.getLogger("pinsock").removeHandler(handler)


def pytest_report_header() -> list[str]:
    """Name the two OpenSSL libraries in this process, and the packages that matter."""
    packages = ("pyOpenSSL", "cryptography", "trustme", "hypothesis")
    return [
        f"OpenSSL of ssl: {ssl.OPENSSL_VERSION}",
        f"OpenSSL of cryptography: {SSL.OpenSSL_version(SSL.OPENSSL_VERSION).decode('ascii')}",
        ", ".join(f"{package} {metadata.version(package)}" for package in packages),
        f"hypothesis profile: {_PROFILE}",
    ]


def pytest_configure(config: pytest.Config) -> None:
    """Keep the real standard error: during tests its descriptor leads into pytest's capture."""
    assert sys.__stderr__ is not None
    config.stash[_stderr] = os.dup(sys.__stderr__.fileno())


def pytest_unconfigure(config: pytest.Config) -> None:
    """Let go of it."""
    os.close(config.stash[_stderr])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """End a test that hangs, fixtures and all, instead of waiting with it."""
    if item.config.getoption("usepdb"):  # who debugs has time
        return (yield)
    faulthandler.dump_traceback_later(WATCHDOG, exit=True, file=item.config.stash[_stderr])
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()
