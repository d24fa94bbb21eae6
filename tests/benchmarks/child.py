"""What has to be measured in a fresh process: a first context, and memory.

Run as ``python -m tests.benchmarks.child WHAT CONTENDER TARGET NUMBER``; prints one number.
"""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

from tests.benchmarks.server import ROOT

__all__ = ["ask"]

_STATM = Path("/proc/self/statm")

#: Give free memory back to the system; only glibc has it.
_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)

_IMPORT = """
import ssl, time
import OpenSSL.SSL
start = time.process_time()
import pinsock
print(time.process_time() - start)
"""


def ask(what: str, contender: str, target: str, number: int, cache: str | None) -> float:
    """Measure it in a child process.

    Args:
        what: ``"context"``, ``"memory"`` or ``"import"`` (which looks at no other argument).
        contender: its name.
        target: as :meth:`Target.dump` gives it.
        number: how many connections, for ``"memory"``.
        cache: a directory for byte code, so that from the second child on nothing is compiled.
    """
    # The import has to be the first, so that one does not go through this module.
    module = ["-m", __name__, what, contender, target, str(number)]
    arguments = ["-c", _IMPORT] if what == "import" else module
    environment = dict(os.environ)
    if cache is not None:
        environment["PYTHONPYCACHEPREFIX"] = cache
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
    result = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
        text=True,
    )
    return float(result.stdout)


def _resident() -> int:
    """The memory of this process in bytes."""
    gc.collect()
    if _trim is not None:
        # What was let go of before would be used again, and connections would seem to be free.
        _trim(0)
    if _STATM.exists():
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    # The high-water mark, which here is as good: nothing is let go of meanwhile.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main(arguments: list[str]) -> None:
    """Print the CPU seconds of a first context, or the bytes of each connection."""
    # Imported before the clock starts, and not by those who only want ask().
    from tests.benchmarks.contenders import CONTENDERS, Contender, Target, resumed

    what, name, text, number = arguments
    kind, target = CONTENDERS[name], Target.load(text)
    if what == "context":
        # Not through __init__, which would make a first context of its own.
        contender: Contender = kind.__new__(kind)
        contender.target = target
        start = time.process_time()
        contender.new_context()
        print(time.process_time() - start)
        return
    contender = kind(target)
    links = []
    before = 0
    # What the first connections leave behind (arenas, caches) is not the next one's.
    warm = 10
    for index in range(warm + int(number)):
        if index == warm:
            before = _resident()
        link = contender.connect()
        # Idle, not new: it has read and written, and has got its session tickets.
        resumed(link)
        links.append(link)
    print((_resident() - before) / int(number))
    for link in links:
        link.close()


if __name__ == "__main__":
    main(sys.argv[1:])
