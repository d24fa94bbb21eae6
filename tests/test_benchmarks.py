"""The benchmarks run; what they measure is nobody's test, as it depends on the machine."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.benchmarks.__main__ import main
from tests.benchmarks.compare import Comparison, Earlier
from tests.benchmarks.measures import MEASURES, Measure
from tests.benchmarks.rows import Row
from tests.benchmarks.server import ROOT, TLS_VERSIONS

# Memory grows by pages: of a few connections' share nothing may be left, and so no ratio.
_RATIO_MAY_BE_MISSING = ("memory",)


def _row(name: str, samples: dict[str, list[float]]) -> Row:
    (measure,) = (measure for measure in MEASURES if measure.name == name)
    return Row(measure, samples)


@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.name)
def test_each_measure_has_a_row_of_finite_numbers(
    measure: Measure, capfd: pytest.CaptureFixture[str]
) -> None:
    """A quick run gives a number for each contender, and a ratio to ssl's where it takes part."""
    assert main(["--quick", "--json", "--only", measure.name]) == 0

    said = capfd.readouterr()
    assert said.err == ""
    (row,) = json.loads(said.out)["measures"]
    assert row["name"] == measure.name
    assert tuple(row["contenders"]) == measure.contenders
    for name, cell in row["contenders"].items():
        assert math.isfinite(cell["value"]), name
        if "ssl" not in measure.contenders:
            assert cell["ratio"] is None
        elif cell["ratio"] is not None or measure.name not in _RATIO_MAY_BE_MISSING:
            assert math.isfinite(cell["ratio"]), name


@pytest.mark.parametrize("version", TLS_VERSIONS)
@pytest.mark.parametrize("timeout", [[], ["--timeout", "10"]], ids=["blocking", "timeout"])
def test_the_table_names_the_machine_and_has_the_chosen_rows(
    version: str, timeout: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    """Without --json it is text: where it was measured, then one line for each measure chosen."""
    chosen = ["handshake", "download-16K", "upload-1M", "round-trip"]
    arguments = [argument for name in chosen for argument in ("--only", name)]

    assert main(["--quick", "--tls", version, "--same-group", *timeout, *arguments]) == 0

    said = capfd.readouterr()
    assert said.err == ""
    about, table, goals = said.out.split("\n\n")
    assert f"TLS {version}" in about
    assert "OpenSSL of cryptography: " in about
    assert [line.split()[0] for line in table.splitlines()[2:]] == chosen
    assert [line.split()[0] for line in goals.splitlines()[1:]] == chosen


def test_a_measure_with_a_goal_says_what_was_asked_for_and_how_far_it_is_reached(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Measured, must, aim and the answer stand beside each other, as text and as JSON."""
    chosen = ["--quick", "--only", "lookup", "--only", "hosts"]

    assert main(chosen) == 0
    line = capfd.readouterr().out.splitlines()[-1].split()
    assert line[:3] + line[4:6] == ["lookup", "pinned", "us", "10", "2"]
    assert line[6] in ("aim", "must", "no")

    assert main([*chosen, "--json"]) == 0
    lookup, hosts = json.loads(capfd.readouterr().out)["measures"]
    assert hosts["goal"] is None
    assert lookup["goal"].pop("met") in ("aim", "must", "no")
    assert math.isfinite(lookup["goal"].pop("measured"))
    assert lookup["goal"] == {"of": "pinned", "relative": False, "must": 10, "aim": 2}


@pytest.mark.parametrize(
    ("cost", "met"), [(0.5, "aim"), (0.72, "aim"), (0.8, "must"), (0.85, "must"), (0.9, "no")]
)
def test_a_goal_is_held_against_the_median_of_the_ratios(cost: float, met: str) -> None:
    """One bad round of three does not count, and to reach a goal is to meet it."""
    row = _row("handshake", {"ssl": [1, 10, 1], "pinned": [cost, 10 * cost, 99]})

    assert row.measured() == pytest.approx(cost)
    assert row.met() == met


@pytest.mark.parametrize("samples", [{"ssl": [1.0]}, {"pinned": [1.0]}, {}], ids=str)
def test_a_goal_without_both_sides_has_no_answer(samples: dict[str, list[float]]) -> None:
    """Neither a ratio nor an answer, where somebody was not measured."""
    row = _row("handshake", samples)

    assert row.measured() is None
    assert row.met() is None


def test_every_goal_can_be_reached() -> None:
    """The aim is beyond the must, and the one who is judged takes part."""
    for measure in MEASURES:
        assert measure.judged in measure.contenders, measure.name
        assert measure.goal is None or 0 < measure.goal.aim < measure.goal.must, measure.name


def test_the_readme_explains_every_measure() -> None:
    """The names that --only takes are the terms of its list, all of them and no other."""
    text = (ROOT / "tests" / "benchmarks" / "README.rst").read_text(encoding="utf-8")
    _, _, rest = text.partition("\nThe numbers\n===")
    numbers, _, _ = rest.partition("\nHow it is measured\n")
    terms = re.findall(r"^(\w[^\n]*)\n {4}", numbers, re.MULTILINE)

    assert sorted(", ".join(terms).split(", ")) == sorted(measure.name for measure in MEASURES)


def test_a_single_contender_can_be_measured_as_for_a_profile(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """With --contender nobody else is run, and what only others do is left out."""
    arguments = ["--contender", "ssl", "--only", "handshake", "--only", "lookup"]

    assert main(["--quick", "--json", *arguments]) == 0

    (row,) = json.loads(capfd.readouterr().out)["measures"]
    assert row["name"] == "handshake"
    assert list(row["contenders"]) == ["ssl"]
    assert row["goal"]["measured"] is None


def test_a_run_is_held_against_an_earlier_one(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What --json prints, --compare reads: then, now and the change, as text and as JSON."""
    run = ["--quick", "--only", "lookup"]
    assert main([*run, "--only", "hosts", "--json"]) == 0
    path = tmp_path / "earlier.json"
    path.write_text(capfd.readouterr().out, encoding="utf-8")

    assert main([*run, "--only", "import", "--compare", str(path)]) == 0
    said = capfd.readouterr()
    assert said.err == ""
    title, _, imported, lookup, _ = said.out.split("\n\n")[-1].splitlines()
    assert title.startswith(f"compared with {path}, of 20")
    assert imported.split()[3] == "-"
    assert lookup.split()[:3] == ["lookup", "pinned,", "us"]
    assert lookup.endswith(" %")

    assert main([*run, "--json", "--compare", str(path)]) == 0
    compared = json.loads(capfd.readouterr().out)["compared"]
    assert compared["differs"] == {}
    (row,) = compared["measures"]
    assert row["change"] == pytest.approx((row["now"] - row["then"]) / row["then"])
    assert not row["beyond"]  # one sample each


def _written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def _results(
    samples: Mapping[str, Mapping[str, Sequence[object]]], machine: dict[str, str] | None = None
) -> str:
    rows = [
        {"name": name, "contenders": {who: {"costs": costs} for who, costs in cells.items()}}
        for name, cells in samples.items()
    ]
    return json.dumps({"machine": machine or {}, "measures": rows})


def test_a_change_is_marked_if_it_is_more_than_the_spread_of_both(tmp_path: Path) -> None:
    """A fifth less is nothing where the runs themselves vary by as much, and one sample is none."""
    earlier = {
        "resumed": {"ssl": [1.0] * 5, "pinned": [1.0, 1.01, 1.0, 0.99, 1.0]},
        "handshake": {"ssl": [1.0] * 5, "pinned": [0.6, 0.8, 1.0, 1.2, 1.4]},
        "lookup": {"pinned": [1e-6]},
    }
    now = [
        _row("resumed", {"ssl": [1.0] * 5, "pinned": [0.8, 0.81, 0.8, 0.79, 0.8]}),
        _row("handshake", {"ssl": [1.0] * 5, "pinned": [0.8, 0.81, 0.8, 0.79, 0.8]}),
        _row("lookup", {"pinned": [0.8e-6]}),
    ]
    path = _written(tmp_path / "earlier.json", _results(earlier))

    *_, resumed, handshake, lookup, _ = Comparison(Earlier.read(path), {}, now).text().splitlines()

    assert resumed.split() == "resumed pinned, / ssl 1.00 0.80 -20 % *".split()
    assert handshake.split() == "handshake pinned, / ssl 1.00 0.80 -20 %".split()
    assert lookup.split() == "lookup pinned, us 1.00 0.80 -20 %".split()


def test_a_run_of_another_machine_is_compared_and_the_difference_told(tmp_path: Path) -> None:
    """So is a measure that there is no more; what one run does not say is a dash."""
    text = _results({"gone": {}, "hosts": {}}, {"python": "3", "date": "then", "more": "x"})
    earlier = Earlier.read(_written(tmp_path / "earlier.json", text))

    said = Comparison(earlier, {"python": "4", "date": "now"}, [_row("hosts", {})]).text()

    assert said.splitlines()[:4] == [
        f"compared with {earlier.name}, of then",
        "not the same python: then 3, now 4",
        "not the same more: then x, now -",
        "not measured any more: gone",
    ]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "cannot be read: No such file or directory"),
        ("", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("\N{LATIN SMALL LETTER E WITH ACUTE}", "is not JSON"),
        ("[]", "is JSON, but not what --json prints"),
        ('{"machine": {}}', "is JSON, but not what --json prints"),
        ('{"format": 2, "machine": {}, "measures": []}', "has the format 2, and this program"),
        ('{"machine": {}, "measures": {"a": 1}}', "is damaged"),
        ('{"machine": [], "measures": []}', "is damaged"),
        (_results({"lookup": {"pinned": ["1"]}}), "is damaged"),
        (_results({"lookup": {"pinned": [math.nan]}}), "is damaged"),
        (_results({"lookup": {"pinned": [10**400]}}), "is damaged"),
        (_results({"memory": {"ssl": [1, 2], "pinned": [1]}}), "is damaged"),
    ],
    ids=[
        "missing",
        "empty",
        "deep",
        "not UTF-8",
        "a list",
        "no measures",
        "format",
        "measures are an object",
        "machine is a list",
        "a text for a cost",
        "not a number",
        "too large a number",
        "samples are missing",
    ],
)
def test_a_file_that_is_no_earlier_run_is_refused_before_anything_is_measured(
    text: str | None, why: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The error names the file and says what is wrong with it."""
    path = tmp_path / "earlier.json"
    if text is not None:
        path.write_text(text, encoding="latin-1")

    with pytest.raises(SystemExit) as caught:
        main(["--compare", str(path)])

    assert caught.value.code == 2
    said = capfd.readouterr()
    assert said.out == ""
    assert f"--compare: {path} {why}" in said.err


@pytest.mark.parametrize(("kind", "name"), [("p256", "ECDSA P-256"), ("rsa", "RSA-2048")])
def test_the_floor_is_the_cipher_and_the_public_key_operations(
    kind: str, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """With --floor nothing is connected; every number is positive, as text and as JSON."""
    run = ["--quick", "--floor", "--keys", kind]

    assert main([*run, "--json"]) == 0
    rows = json.loads(capfd.readouterr().out)["floor"]
    assert all(0 < row["value"] < math.inf for row in rows)
    names = [row["what"] for row in rows]
    for expected in (
        "AES-256-GCM, 16 KiB, seal by cryptography",
        "AES-256-GCM, 16 KiB, open by cryptography",
        "X25519: make a share, and the secret",
        "P-256: make a share, and the secret",
        f"{name}: verify, 3 times",
        "a client's handshake by X25519",
    ):
        assert expected in names

    assert main(run) == 0
    said = capfd.readouterr()
    assert said.err == ""
    _, table = said.out.split("\n\n")
    assert len(table.splitlines()) == 1 + len(rows)


@pytest.mark.parametrize("program", [None, "exit 1", "echo +F:25:AES:fast", "echo other"])
def test_the_floor_does_without_openssl_where_it_is_missing_or_another(
    program: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The row of ``openssl speed`` is left out, and the others are there."""
    if program is not None:
        fake = tmp_path / "openssl"
        fake.write_text(f"#!/bin/sh\n{program}\n", encoding="ascii")
        fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert main(["--quick", "--floor"]) == 0

    said = capfd.readouterr()
    assert said.err == ""
    assert " speed" not in said.out
    assert "seal by cryptography" in said.out
