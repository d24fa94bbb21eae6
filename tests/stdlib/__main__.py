"""Run the interpreter's own tests of ``ssl`` against ``PinnedContext``::

    python -m tests.stdlib [SUITE ...]

``ssl.SSLContext`` is replaced before the test modules are imported: by a context without pins, for
pins are the one thing that those tests know nothing of.  Each suite has a process of its own.

Fails if a test fails that :data:`SKIPPED` does not name, and if one that is named there passes
after all.  What :data:`RACES` names is tried again until it passes.  Of the tests that pass, those
are counted apart which have made a context: the others say nothing of ours.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import ssl
import subprocess
import sys
import tempfile
import unittest
import warnings
from types import TracebackType
from typing import Any, Union

from pinsock import PinnedContext

SUITES = ("test.test_ssl", "test.test_asyncio.test_ssl", "test.test_asyncio.test_sslproto")

#: Why a test is not expected to pass, by the end of its name.
SKIPPED = {
    "SimpleBackgroundTests.test_get_ca_certs_capath": (
        "lists a certificate that was found in a directory: cryptography does not bind what would "
        "tell of it"
    ),
}

_RESET = (
    "connects twice and closes at once: if the server's session tickets have come by then, that "
    "resets the connection, and the test server of this version takes a reset as a reason to "
    "accept nobody else; ours come sooner than those of an older OpenSSL"
)
#: Why a test may lose a race with its own server, and be tried again, by a part of its name.  It
#: has to pass in the end, and what the race ends in is a :exc:`ConnectionError` and nothing else.
RACES = (
    {}
    if sys.version_info >= (3, 13)
    else {
        "SimpleBackgroundTests.": _RESET,
        "TestSSLDebug.test_msg_callback_deadlock_bpo43577": _RESET,
        "TestPostHandshakeAuth.test_pha_required_nocert": (
            "writes to a server that refuses the client and closes at the same time, and expects "
            "to read the refusal"
        ),
    }
)
#: How often a race may be lost.
TRIES = 10


class Unpinned(PinnedContext):
    """A ``PinnedContext`` that is made as an ``ssl.SSLContext`` is, and keeps count."""

    made = 0

    def __new__(cls, protocol: int | None = None, *args: object, **kwargs: object) -> Unpinned:
        if protocol is None:
            warnings.warn(
                "ssl.SSLContext() without protocol argument is deprecated.",
                category=DeprecationWarning,
                stacklevel=2,
            )
            protocol = ssl.PROTOCOL_TLS
        return super().__new__(cls, protocol)

    def __init__(self, protocol: int | None = None, *args: object, **kwargs: object) -> None:
        Unpinned.made += 1
        super().__init__(ssl.PROTOCOL_TLS if protocol is None else protocol, pins=None)


_Raised = Union[
    "tuple[type[BaseException], BaseException, TracebackType]", "tuple[None, None, None]"
]


class Result(unittest.TextTestResult):
    """Sorts the tests into those that were to pass and those that were not."""

    used = passed = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: The names of tests that lost a race.
        self.raced: list[str] = []

    def startTest(self, test: unittest.TestCase) -> None:
        """Begin to watch for contexts."""
        super().startTest(test)
        self._made = Unpinned.made
        self._reason = next(
            (reason for name, reason in SKIPPED.items() if test.id().endswith(name)), None
        )

    def addSuccess(self, test: unittest.TestCase) -> None:
        """Count it, unless it was not to pass."""
        if self._reason is not None:
            self.addUnexpectedSuccess(test)
            return
        super().addSuccess(test)
        self.passed += 1
        self.used += Unpinned.made > self._made

    def _accounted_for(self, test: unittest.TestCase, err: _Raised) -> bool:
        if self._reason is None and isinstance(err[1], ConnectionError):
            race = next((why for part, why in RACES.items() if part in test.id()), None)
            if race is not None:
                self.raced.append(test.id())
                self.addSkip(test, f"lost a race, and is tried again: {race}")
            return race is not None
        if self._reason is not None:
            self.addSkip(test, self._reason)
        return self._reason is not None

    def addError(self, test: unittest.TestCase, err: _Raised) -> None:
        """Pass over one that is not expected to pass."""
        if not self._accounted_for(test, err):
            super().addError(test, err)

    def addFailure(self, test: unittest.TestCase, err: _Raised) -> None:
        """Pass over one that is not expected to pass."""
        if not self._accounted_for(test, err):
            super().addFailure(test, err)

    def addSubTest(
        self, test: unittest.TestCase, subtest: unittest.TestCase, err: _Raised | None
    ) -> None:
        """Pass over one that is not expected to pass."""
        if err is None or not self._accounted_for(test, err):
            super().addSubTest(test, subtest, err)


def run(suite: str) -> bool:
    """Run one suite in this process, and tell whether all was as expected."""
    ssl.SSLContext = Unpinned  # type: ignore[misc]  # that is it
    support = importlib.import_module("test.support")
    support.use_resources = {"cpu": None, "walltime": None}  # but no network
    ok, raced = True, [suite]
    tests = passed = used = 0
    here = os.getcwd()
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        for _ in range(TRIES):
            loaded = unittest.defaultTestLoader.loadTestsFromNames(raced)
            result = unittest.TextTestRunner(resultclass=Result).run(loaded)
            assert isinstance(result, Result)
            ok = ok and result.wasSuccessful()
            tests = tests or result.testsRun
            passed += result.passed
            used += result.used
            raced = result.raced
            if not raced:
                break
            print("lost a race, and tried again:", *raced, flush=True)
        os.chdir(here)
    for name in raced:
        print(f"{name} lost its race {TRIES} times")
    print(
        f"{suite}: {tests} tests, {passed} passed, of which {used} made a context",
        flush=True,
    )
    return ok and not raced and used > 0


def main() -> int:
    """Run the suites that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.stdlib", description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="SUITE", default=SUITES)
    suites = parser.parse_args().suites
    if importlib.util.find_spec("test.test_ssl") is None:
        print(f"{sys.executable} came without its own tests: there is nothing to run")
        return 0
    if len(suites) == 1:
        return 0 if run(suites[0]) else 1
    statuses = [
        subprocess.run([sys.executable, "-m", "tests.stdlib", suite], check=False).returncode
        for suite in suites
    ]
    return max(statuses)


if __name__ == "__main__":
    sys.exit(main())
