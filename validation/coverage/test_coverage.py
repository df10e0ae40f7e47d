"""The promise of `confidence_intervals` as a test, with a check that a wrong standard error would break it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr

from validation.coverage import run

pytestmark = pytest.mark.validation


@pytest.fixture(scope="module")
def found():
    return run.coverages()


def test_every_promised_entry_covers_in_94_to_96_percent(found):
    assert sum(int(one.claimed.sum()) for one in found) > 100
    assert not [one for one in found if np.any(one.claimed & ~one.kept)]


def test_a_wrong_standard_error_would_break_the_promise():
    """Errors of 6 % move the coverage of a normal law out of the range."""
    for factor in (0.94, 1.06):
        covered = 2 * ndtr(1.959964 * factor) - 1
        assert not run.CLAIMED[0] <= covered <= run.CLAIMED[1]


def test_the_page_is_the_one_that_is_made(found):
    assert run.PAGE.read_text(encoding="utf-8") == run.markdown(found)
