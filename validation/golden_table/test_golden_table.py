"""The claim as a test: every number of the table agrees with the package or, where it offers none, with the oracle."""

from __future__ import annotations

import pytest

from validation.golden_table import run

pytestmark = pytest.mark.validation


@pytest.fixture(scope="module")
def entries():
    return run.comparisons()


def test_every_number_agrees_to_the_printed_digits(entries):
    assert len(entries) == 4 * 10 + 3 * 12
    assert not [entry for entry in entries if not entry.agrees]


def test_a_wrong_number_is_noticed(entries):
    """A change in the tenth digit is seen, and so is anything but zero where zero is claimed."""
    assert not [entry for entry in entries if entry._replace(computed=entry.computed + 2e-10).agrees]


def test_the_table_in_the_folder_is_the_one_that_is_made(entries):
    assert run.TABLE.read_text(encoding="utf-8") == run.markdown(entries)
