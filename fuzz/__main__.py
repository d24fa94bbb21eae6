"""Run every fuzzer for ``FUZZ_SECONDS`` (60): ``python -m fuzz [TARGET ...]``.

Each has a process of its own, as libFuzzer ends the one that it runs in.
"""

from __future__ import annotations

import os
import subprocess
import sys

from fuzz.harness import CORPUS


def main(targets: list[str]) -> int:
    """Run them all, also after one has found something; return 1 if one has."""
    seconds = int(os.environ.get("FUZZ_SECONDS", "60"))
    known = sorted(path.stem.removesuffix("_fuzzer") for path in CORPUS.parent.glob("*_fuzzer.py"))
    failed = []
    for target in targets or known:
        print(f"== {target}: {seconds} s", flush=True)
        command = [sys.executable, "-m", f"fuzz.{target}_fuzzer", f"-max_total_time={seconds}"]
        if subprocess.run(command, check=False).returncode:
            failed.append(target)
    print("== " + (f"found something: {', '.join(failed)}" if failed else "found nothing"))
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
