"""``python -m tests.benchmarks``: run the benchmarks and print a table; README.rst explains it."""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import ssl
import sys
import tempfile
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

from OpenSSL import SSL

from pinsock import Pin
from tests.benchmarks.compare import FORMAT, Comparison, Earlier, NoResultsError
from tests.benchmarks.contenders import CONTENDERS, Contender, NotMeasuredError, Target
from tests.benchmarks.floor import floor
from tests.benchmarks.measures import (
    BASELINE,
    FULL,
    MEASURES,
    QUICK,
    Measure,
    Sampler,
    Sizes,
)
from tests.benchmarks.rows import Row, cell
from tests.benchmarks.server import TLS_VERSIONS, serving
from tests.certificates import make_chain

_CPUINFO = Path("/proc/cpuinfo")


def run(measure: Measure, contenders: dict[str, Contender], sizes: Sizes) -> Row:
    """Take the samples of a measure: everybody's first, then everybody's second, and so on."""
    rounds = sizes.child_rounds if measure.in_child else sizes.rounds
    with ExitStack() as stack:
        samplers: dict[str, Sampler] = {}
        for name in measure.contenders:
            if name not in contenders:
                continue
            try:
                samplers[name] = stack.enter_context(measure.open(contenders[name], sizes))
            except NotMeasuredError as reason:
                print(f"{measure.name}: without {name}: {reason}", file=sys.stderr)
        samples: dict[str, list[float]] = {name: [] for name in samplers}
        for number in range(-1 if sizes.warm else 0, rounds):
            for name, sampler in samplers.items():
                gc.collect()  # nobody pays for another's garbage
                cost = sampler()
                if number >= 0:
                    samples[name].append(cost)
    return Row(measure, samples)


@contextmanager
def target(version: str, kind: str, timeout: float | None, same_group: bool) -> Iterator[Target]:
    """Make a chain of three certificates, and run a server that has it."""
    chain = make_chain(3, kinds="rsa" if kind == "rsa" else "p256")
    # Alternatives come first, so that a match is never the first pin that is tried.
    backup = "sha256/" + b64encode(bytes(32)).decode("ascii")
    pins = {
        position: [backup, str(Pin.from_certificate(der))]
        for position, der in zip(("leaf", "intermediate", "anchor"), chain.ders, strict=True)
    }
    with tempfile.TemporaryDirectory() as directory:
        files = chain.write(Path(directory))
        with serving(version, files.certfile, files.keyfile) as port:
            yield Target(
                port,
                version,
                str(files.cafile),
                str(files.certfile),
                str(files.keyfile),
                pins,
                timeout,
                same_group,
            )


@contextmanager
def one_cpu() -> Iterator[None]:
    """Keep this process and its children on one processor, where the system can.

    Else it is chance whether client and server share a processor, a core or neither; on a virtual
    machine, where to wake another processor is dear, that alone makes a factor of five.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def machine() -> dict[str, str]:
    """Say where the numbers come from."""
    processor = platform.processor() or platform.machine()
    if _CPUINFO.exists():
        for line in _CPUINFO.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
                break
    return {
        "date": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
        "cpus": f"{os.cpu_count()} x {processor}",
        "system": f"{platform.system()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "OpenSSL of ssl": ssl.OPENSSL_VERSION,
        "OpenSSL of cryptography": SSL.OpenSSL_version(SSL.OPENSSL_VERSION).decode("ascii"),
        "packages": ", ".join(f"{name} {metadata.version(name)}" for name in _PACKAGES),
    }


_PACKAGES = ("pyOpenSSL", "cryptography")


def _head() -> str:
    values = "".join(f"{name:>10}" for name in CONTENDERS)
    ratios = "".join(f"{name:>10}" for name in CONTENDERS if name != BASELINE)
    title = f"cost / {BASELINE}'s:"
    return (
        f"{'':33}{values}   {title:^{len(ratios)}}\n{'measure':23}{'unit':10}"
        f"{'':{len(values)}}   {ratios}{'spread':>9}"
    )


def _line(row: Row) -> str:
    values = "".join(f"{cell(row.value(name)):>10}" for name in CONTENDERS)
    ratios = "".join(f"{cell(row.ratio(name)):>10}" for name in CONTENDERS if name != BASELINE)
    spread = f"+-{100 * row.spread():.0f} %"
    return f"{row.measure.name:23}{row.measure.unit:10}{values}   {ratios}{spread:>9}"


def _goals(rows: Sequence[Row]) -> str:
    """The table of issue 6: what was asked for, and what was measured."""
    lines = [f"{'goal':23}{'of':10}{'lower is better':18}{'measured':>9}{'must':>7}{'aim':>7}  met"]
    for row in rows:
        measure, goal = row.measure, row.measure.goal
        if goal is not None:
            of = f"cost / {BASELINE}'s" if measure.relative else measure.unit
            lines.append(
                f"{measure.name:23}{measure.judged:10}{of:18}{cell(row.measured()):>9}"
                f"{goal.must:>7g}{goal.aim:>7g}  {row.met() or '-'}"
            )
    return "\n".join(lines)


def _print_floor(about: dict[str, str], options: argparse.Namespace) -> None:
    with nullcontext() if options.spread else one_cpu():
        found = floor(options.keys, quick=options.quick)
    if options.json:
        rows = [{"what": what, "value": value, "unit": unit} for what, value, unit in found]
        print(json.dumps({"machine": about, "floor": rows}, indent=1))
        return
    for key, text in about.items():
        print(f"{key}: {text}")
    print(f"\n{'floor':55}{'unit':10}{'value':>9}")
    for what, value, unit in found:
        print(f"{what:55}{unit:10}{cell(value):>9}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the command line asks for."""
    names = [measure.name for measure in MEASURES]
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON, with every sample")
    parser.add_argument(
        "--compare", type=Path, metavar="FILE", help="with what --json printed earlier"
    )
    parser.add_argument("--quick", action="store_true", help="see that it runs; means nothing")
    parser.add_argument(
        "--only", action="append", choices=names, metavar="NAME", help=", ".join(names)
    )
    parser.add_argument(
        "--floor", action="store_true", help="measure what no library can go below, instead"
    )
    parser.add_argument(
        "--contender",
        action="append",
        choices=list(CONTENDERS),
        metavar="NAME",
        help=f"measure nobody else, as for a profile: {', '.join(CONTENDERS)}",
    )
    parser.add_argument("--tls", choices=list(TLS_VERSIONS), default="1.3")
    parser.add_argument("--keys", choices=("p256", "rsa"), default="p256", help="of the chain")
    parser.add_argument("--rounds", type=int, help="samples to take for each contender")
    parser.add_argument(
        "--timeout",
        type=float,
        metavar="SECONDS",
        help="give sockets a timeout; without, they block, which is ssl's quickest way",
    )
    parser.add_argument(
        "--same-group", action="store_true", help="everybody's key exchange is P-256"
    )
    parser.add_argument(
        "--spread", action="store_true", help="let client and server run on any processor"
    )
    options = parser.parse_args(argv)

    sizes = QUICK if options.quick else FULL
    if options.rounds is not None:
        if options.rounds < 1:
            parser.error("--rounds: at least 1")
        sizes = replace(sizes, rounds=options.rounds, child_rounds=options.rounds)
    earlier: Earlier | None = None
    if options.compare is not None:
        try:
            # Before minutes are spent on measuring.
            earlier = Earlier.read(options.compare)
        except NoResultsError as error:
            parser.error(f"--compare: {error}")
    who = options.contender or list(CONTENDERS)
    chosen = [
        measure
        for measure in MEASURES
        if (options.only is None or measure.name in options.only)
        and not set(who).isdisjoint(measure.contenders)
    ]
    about = machine()
    if options.floor:
        _print_floor(about, options)
        return 0
    with ExitStack() as stack:
        if not options.spread:
            stack.enter_context(one_cpu())
        server = stack.enter_context(
            target(options.tls, options.keys, options.timeout, options.same_group)
        )
        contenders = {name: CONTENDERS[name](server) for name in CONTENDERS if name in who}
        ciphers: dict[str, str] = {}
        for name, contender in contenders.items():
            link = contender.connect()
            ciphers[name] = link.cipher()
            link.close()
        if len(set(ciphers.values())) != 1:
            print(f"not comparable, the ciphers differ: {ciphers}", file=sys.stderr)
        about["cipher"] = next(iter(ciphers.values()))
        about["settings"] = (
            f"TLS {server.version}, {options.keys} keys, "
            f"{'blocking' if server.timeout is None else f'timeout {server.timeout:g} s'}"
            f"{', everybody uses P-256' if server.same_group else ''}"
            f"{', any processor' if options.spread else ''}"
            f"{', quick: the numbers mean nothing' if options.quick else ''}"
        )
        if not options.json:
            for key, value in about.items():
                print(f"{key}: {value}")
            print(f"\n{_head()}", flush=True)
        rows = []
        for measure in chosen:
            rows.append(run(measure, contenders, sizes))
            if not options.json:
                print(_line(rows[-1]), flush=True)
    comparison = None if earlier is None else Comparison(earlier, about, rows)
    if options.json:
        data = {
            "format": FORMAT,
            "machine": about,
            "measures": [row.data() for row in rows],
            "compared": comparison and comparison.data(),
        }
        print(json.dumps(data, indent=1))
        return 0
    print(f"\n{_goals(rows)}")
    if comparison is not None:
        print(f"\n{comparison.text()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
