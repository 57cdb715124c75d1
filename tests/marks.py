"""Cases of a test that only ``pytest -m long`` runs."""

from typing import Any

import pytest


def long(*values: Any, **options: Any) -> Any:
    """A set of parameters whose branch a cheaper case also takes."""
    return pytest.param(*values, marks=pytest.mark.long, **options)
