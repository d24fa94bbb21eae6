"""Modules that not everybody has: the tests which use them are skipped, or must not be."""

from __future__ import annotations

import importlib
import os
import warnings
from typing import Any

import pytest

__all__ = ["need"]


def need(name: str, variable: str) -> Any:
    """Import a module that is no dependency of the tests.

    Args:
        name: the module.
        variable: the environment variable that is set where nothing may be skipped.
    """
    with warnings.catch_warnings():
        # What other packages import is theirs to mend; what they do afterwards is not forgiven.
        warnings.simplefilter("ignore", DeprecationWarning)
        if variable in os.environ:
            return importlib.import_module(name)
        return pytest.importorskip(name)
