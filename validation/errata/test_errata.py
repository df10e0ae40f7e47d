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


def test_the_largest_eigenvalue_of_m_is_not_always_the_tightest():
    """What the README runs: 1/8 by the eigenvalue on symmetric matrices, 1/16 by Proposition 4.3 with Corollary 4.2."""
    law = fs.families.Bernoulli(2).at(np.zeros((1, 2)))
    residuals = np.array([[a, b] for a in (-0.5, 0.5) for b in (-0.5, 0.5)])
    svec = np.stack([residuals[:, 0] ** 2, np.sqrt(2) * residuals[:, 0] * residuals[:, 1], residuals[:, 1] ** 2], axis=1)
    assert np.linalg.eigvalsh(np.cov(svec.T, bias=True))[-1] == pytest.approx(1 / 8)
    radius, information = np.square(residuals).sum(axis=1).max(), np.linalg.eigvalsh(law.information()[0])
    assert radius * information[-1] - information[0] ** 2 == pytest.approx(1 / 16)
    angles = np.linspace(0, np.pi, 1001)
    quartic = np.var((residuals @ np.stack([np.cos(angles), np.sin(angles)])) ** 2, axis=0)
    assert quartic.max() == pytest.approx(1 / 16)
    model = fs.MLP([[[0.0, 0.0], [0.0, 0.0]]], activation=[], family=fs.families.Bernoulli(2))
    found = fs.family_extremes(model, np.array([[1.0]])).sel(input=0, tensor="square_covariance", side="upper")
    assert found.by_statement.sel(bound="proposition_4_3").item() == pytest.approx(1 / 16)
    assert found.certified.item() == pytest.approx(1 / 16)


@pytest.mark.validation
def test_random_networks_violate_the_printed_statements_only():
    found = run.shares()
    assert [one.corrected for one in found] == [0] * len(run.ACTIVATIONS)
    assert np.all(np.sum([one.violated for one in found], axis=0) > 0)
    assert all(one.violated[0] >= 0.1 * run.NETWORKS for one in found)
    entries = [entry for network in run.COUNTEREXAMPLES for entry in run.claims(network)]
    assert run.TABLE.read_text(encoding="utf-8") == run.markdown(entries, found)
