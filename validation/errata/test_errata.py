"""The claim as a test: the printed statements are false at committed networks, the corrected ones hold everywhere."""

from __future__ import annotations

import numpy as np
import pytest

import fisherstats as fs
from validation.errata import run

PRINTED_FALSE = {
    "one linear unit, norm of dh 3": {"(13)", "(14)"},
    "2-2-2 tanh, Bernoulli": {"(13)", "(14)", "(15)"},
    "2-3-3 tanh, unit Gaussian": {"(13)", "(23)"},
}


@pytest.mark.parametrize("network", run.COUNTEREXAMPLES, ids=lambda network: network.name)
def test_the_committed_counterexamples(network):
    """The oracle finds the printed statements false and the corrected ones true; the package gives the same numbers."""
    entries = run.claims(network)
    assert PRINTED_FALSE[network.name] <= {entry.statement for entry in entries if entry.false}
    model, x = run.model_of(network)
    found = {form: fs.trace_bounds(model, x, form=form) for form in ("printed", "corrected")}
    columns = {"(13)": ("information_", {}), "(14)": ("", {"estimator": "score"}), "(15)": ("", {"estimator": "hessian"})}
    for entry in entries:
        assert entry.exact <= entry.corrected * (1 + 1e-12)
        prefix, where = columns.get(entry.statement, ("", {"estimator": "score"}))
        for form, expected in (("printed", entry.printed), ("corrected", entry.corrected)):
            exact, forms = (found[form][f"{prefix}{name}"].sel(where) for name in ("exact", "upper_by_form"))
            np.testing.assert_allclose(exact, entry.exact, rtol=1e-10, atol=1e-14)
            bounds = ["spectrum"] if entry.statement == "(23)" else ["derivative", "response"]
            np.testing.assert_allclose(forms.sel(bound=bounds).min(), expected, rtol=1e-10, atol=1e-14)


@pytest.mark.validation
def test_random_networks_violate_the_printed_statements_only():
    found = run.shares()
    assert [one.corrected for one in found] == [0] * len(run.ACTIVATIONS)
    assert np.all(np.sum([one.violated for one in found], axis=0) > 0)
    assert all(one.violated[0] >= 0.1 * run.NETWORKS for one in found)
    entries = [entry for network in run.COUNTEREXAMPLES for entry in run.claims(network)]
    assert run.TABLE.read_text(encoding="utf-8") == run.markdown(entries, found)
