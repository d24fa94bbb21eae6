"""The fuzzers of ``fuzz/``, for moments: their corpus, all that they ever found, and some chance.

Only ``tox -e fuzz`` looks for what nobody knows; here nothing is forgotten that somebody knew.
"""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz import der
from fuzz.harness import CORPUS, FINDINGS, Supply
from fuzz.make_corpus import SEEDS

FUZZERS = sorted(CORPUS.parent.glob("*_fuzzer.py"))
TARGETS = [path.stem.removesuffix("_fuzzer") for path in FUZZERS]
# Each example goes through a whole target, and the corpus has gone before.
FEW = settings(max_examples=min(20, settings().max_examples))


def fuzzer(target: str) -> Callable[[bytes], None]:
    """What a target does with its input."""
    test: Callable[[bytes], None] = importlib.import_module(f"fuzz.{target}_fuzzer").test_one_input
    return test


def inputs(top: Path) -> list[tuple[str, Path]]:
    return [
        (target, path)
        for target in TARGETS
        for path in sorted((top / target).glob("*"))
        if path.is_file()
    ]


def name_of(value: object) -> str:
    return value.name if isinstance(value, Path) else str(value)


@pytest.mark.parametrize("target", TARGETS)
def test_a_fuzzer_begins_with_its_invariant(target: str) -> None:
    """The first line says what holds of every input, as a sentence that can be false."""
    tree = ast.parse((CORPUS.parent / f"{target}_fuzzer.py").read_text(encoding="utf-8"))
    docstring = ast.get_docstring(tree)
    assert docstring is not None
    first, _, rest = docstring.partition("\n")
    assert first.endswith("."), "the invariant is not whole on the first line"
    assert "either" in first or "never" in first or "nothing" in first
    assert rest == "" or rest.startswith("\n")
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert "test_one_input" in functions


def test_fuzzers_need_no_atheris() -> None:
    """All of them can be imported where there is no atheris, as here on most Pythons."""
    modules = ", ".join(f"fuzz.{path.stem}" for path in FUZZERS)
    code = f"import sys; sys.modules['atheris'] = None; import {modules}"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=CORPUS.parent.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("target", TARGETS)
def test_the_corpus_is_what_the_script_makes(target: str) -> None:
    """To the octet, with nothing beside it: a seed that nobody can explain is nobody's."""
    found = {path.name: path.read_bytes() for path in (CORPUS / target).iterdir()}
    assert found
    assert found == SEEDS[target]()


def test_everything_in_the_corpus_has_its_fuzzer() -> None:
    """No seeds and no findings are left of a target that is gone, and all seeds are small."""
    for top in (CORPUS, FINDINGS):
        assert {path.name for path in top.iterdir() if path.is_dir()} <= set(TARGETS)
    assert set(SEEDS) == set(TARGETS)
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) < 200_000


@pytest.mark.parametrize(("target", "path"), inputs(CORPUS), ids=name_of)
def test_the_corpus_holds(target: str, path: Path) -> None:
    """The invariant holds for every seed."""
    fuzzer(target)(path.read_bytes())


@pytest.mark.parametrize(("target", "path"), inputs(FINDINGS), ids=name_of)
def test_what_was_found_holds(target: str, path: Path) -> None:
    """The invariant holds for every input for which it once did not."""
    fuzzer(target)(path.read_bytes())


@pytest.mark.parametrize("target", TARGETS)
def test_anything_holds(target: str) -> None:
    """The invariant holds for octets by chance, and for seeds of which some have changed."""
    test = fuzzer(target)
    seeds = [path.read_bytes() for path in sorted((CORPUS / target).iterdir())]

    @FEW
    @given(st.binary(max_size=300))
    def by_chance(data: bytes) -> None:
        test(data)

    @FEW
    @given(st.sampled_from(seeds), st.integers(0, 2**32), st.booleans())
    def nearly(data: bytes, seed: int, as_der: bool) -> None:
        chance = Random(seed)
        if as_der:
            data = der.mutate(data, 4096, chance)
        else:
            at = chance.randint(0, len(data))
            upto = at + chance.randrange(4)
            data = data[:at] + chance.randbytes(chance.randrange(4)) + data[upto:]
        test(data)

    by_chance()
    nearly()


# The house itself --------------------------------------------------------------------------------


def test_decisions_come_from_the_bytes_and_end_with_them() -> None:
    """A number takes the bytes it needs; when there are none left it is 0, and the choice first."""
    supply = Supply(b"\x05\x01\x02abc")
    assert supply.number(4) == 1
    assert supply.number(1000) == 0x102
    assert supply.octets(2) == b"ab"
    assert supply
    assert supply.rest() == b"c"
    assert not supply
    assert supply.number(7) == 0
    assert supply.choice("xyz") == "x"
    assert supply.octets(3) == b""


@settings(max_examples=max(200, settings().max_examples))
@given(st.integers(0, 2**32), st.sampled_from(sorted(SEEDS["chain"]())))
def test_mutations_of_der_are_bounded(seed: int, name: str) -> None:
    """They come out the same for the same chance, and are not longer than is asked for."""
    data = SEEDS["chain"]()[name]
    mutated = der.mutate(data, 400, Random(seed))
    assert len(mutated) <= 400
    assert der.mutate(data, 400, Random(seed)) == mutated
