"""The benchmarks run; what they measure is nobody's test, as it depends on the machine."""

from __future__ import annotations

import json
import math

import pytest

from tests.benchmarks.__main__ import main
from tests.benchmarks.measures import MEASURES, Measure
from tests.benchmarks.server import TLS_VERSIONS

# Memory grows by pages: of a few connections' share nothing may be left, and so no ratio.
_RATIO_MAY_BE_MISSING = ("memory",)


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
    about, _, table = said.out.partition("\n\n")
    assert f"TLS {version}" in about
    assert "OpenSSL of cryptography: " in about
    assert [line.split()[0] for line in table.splitlines()[2:]] == chosen
