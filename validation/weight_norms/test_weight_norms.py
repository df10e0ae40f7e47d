"""The printed weight-norm bounds are false where they are said to be, and the corrected ones hold everywhere."""

from __future__ import annotations

import numpy as np
import pytest

import fisherstats as fs
from validation.weight_norms import run

PRINTED_FALSE = {
    "two linear outputs": {("(20)", 0)},
    "one GELU unit at its steepest, a = sqrt(2)": {("(20)", 0), ("(21)", 0)},
    "two SELU units in a row": {("(20)", 0), ("(21)", 0), ("(20)", 1), ("(21)", 1)},
}


@pytest.mark.parametrize("network", run.COUNTEREXAMPLES, ids=lambda network: network.name)
def test_the_committed_counterexamples(network):
    """The index loops find the printed statements false and the corrected ones true; the package gives the same numbers."""
    entries = run.claims(network)
    assert {(entry.statement, entry.layer) for entry in entries if entry.false} == PRINTED_FALSE[network.name]
    model, x = run.model_of(network)
    found = {form: fs.derivative_bounds(model, x, form=form) for form in ("printed", "corrected")}
    norms = {statement: norm for statement, norm, _ in run.NORMS}
    for entry in entries:
        assert entry.exact <= entry.corrected * (1 + 1e-12)
        for form, expected in (("printed", entry.printed), ("corrected", entry.corrected)):
            one = found[form].sel(norm=norms[entry.statement], layer=entry.layer)
            np.testing.assert_allclose(one.first_exact, entry.exact, rtol=1e-12)
            np.testing.assert_allclose(one.first_upper, expected, rtol=1e-12)


@pytest.mark.validation
def test_random_networks_violate_the_printed_statements_only():
    found = run.shares()
    assert [one.corrected for one in found] == [0] * len(fs.activations.NAMES)
    assert all(one.violated[0] >= 0.5 * run.NETWORKS for one in found)  # more than one output
    steep = {one.activation for one in found if one.violated[1]}
    assert steep <= {"gelu", "gelu_tanh", "silu", "mish", "selu", "erf", "hard_swish"}
    assert "selu" in steep
    entries = [entry for network in run.COUNTEREXAMPLES for entry in run.claims(network)]
    assert run.TABLE.read_text(encoding="utf-8") == run.markdown(entries, found)
