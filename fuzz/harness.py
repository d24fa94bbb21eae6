"""What every fuzzer has in common: how it is run, and how it makes decisions of the bytes it gets.

A fuzzer is a module with one function, ``test_one_input(data)``, that raises when what its
docstring begins with does not hold.  The modules need no atheris: the tests call that function with
the corpus, and with everything that was ever found.  Only :func:`run` needs it.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from types import FunctionType
from typing import TypeVar

__all__ = ["CORPUS", "FINDINGS", "Supply", "run"]

_HERE = Path(__file__).resolve().parent
#: Small named seeds, one directory for each target; ``make_corpus.py`` writes them.
CORPUS = _HERE / "corpus"
#: What was found, one directory for each target; the tests replay it for ever.
FINDINGS = _HERE / "findings"
# What libFuzzer adds to the corpus stays here, and out of git.
_GROWN = _HERE / "grown"

# libFuzzer takes the last of what is said twice, so these can be overruled.
_DEFAULTS = ("-timeout=10", "-rss_limit_mb=1024")

_T = TypeVar("_T")


class Supply:
    """Decisions from bytes: the same bytes, the same decisions, on every Python, with no atheris.

    When the bytes have run out every number is 0, every choice the first, and it is false.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def octets(self, size: int) -> bytes:
        """The next bytes: so many, or as many as there are."""
        taken = self._data[self._at : self._at + size]
        self._at += len(taken)
        return taken

    def number(self, limit: int) -> int:
        """A number below ``limit``, of as few bytes as that takes."""
        return int.from_bytes(self.octets((limit.bit_length() + 7) // 8), "big") % limit

    def choice(self, values: Sequence[_T]) -> _T:
        """One of the values."""
        return values[self.number(len(values))]

    def rest(self) -> bytes:
        """All bytes that are left."""
        return self.octets(len(self._data))


def run(
    test_one_input: Callable[[bytes], None],
    mutate: Callable[[bytes, int, Random], bytes] | None = None,
) -> None:
    """Fuzz: ``python -m fuzz.pins_fuzzer [libFuzzer's arguments]``.

    Without a file or a directory among the arguments the corpus of the target is used.

    Args:
        test_one_input: the fuzzer's.
        mutate: makes another input of one: of what size at most, and by which chance.  Half of
            the mutations are libFuzzer's own all the same.
    """
    import atheris  # it has no wheel for every Python, and the tests go without

    target = Path(test_one_input.__code__.co_filename).stem.removesuffix("_fuzzer")
    # In place, as whoever fuzzes has imported the package by now.
    for function in gc.get_objects():
        module = getattr(function, "__module__", None) or ""
        if isinstance(function, FunctionType) and module.startswith("pinsock"):
            atheris.instrument_func(function)

    def custom_mutator(data: bytes, size: int, seed: int) -> bytes:
        chance = Random(seed)
        if mutate is None or chance.random() < 0.5:
            mutated: bytes = atheris.Mutate(data, size)
            return mutated
        return mutate(data, size, chance)

    arguments = [sys.argv[0], *_DEFAULTS, *sys.argv[1:]]
    if all(argument.startswith("-") for argument in sys.argv[1:]):
        for directory in (_GROWN / target, FINDINGS / target):
            directory.mkdir(parents=True, exist_ok=True)
        arguments.append(f"-artifact_prefix={FINDINGS / target}/")
        arguments += map(str, (_GROWN / target, CORPUS / target, FINDINGS / target))
    options = {} if mutate is None else {"custom_mutator": custom_mutator}
    atheris.Setup(arguments, test_one_input, **options)
    atheris.Fuzz()
