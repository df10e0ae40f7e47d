"""Closed forms that the public functions apply to results on the host: they run on a device as well."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import fisherstats as fs
from fisherstats.models import derivatives, families
from fisherstats.models.families.extremes import quartic_root
from fisherstats.theory import (
    combination,
    covariance_tensors,
    curvature,
    definiteness,
    error_propagation,
    estimator_moments,
    information_contractions,
    kronecker,
    law_extremes,
    maximum_likelihood,
    observed,
    parameter_averaging,
    relative_information,
    response_support,
    sample_size,
    tensor_bounds,
    tensor_norms,
)
from tests.device.arrays import DeviceArray, to_device
from tests.device.calls import NETWORKS, inputs


def plain(value):
    """Return arrays and numbers in a flat list."""
    if isinstance(value, DeviceArray):
        return [value.get()]
    if isinstance(value, np.ndarray | float | int | np.generic):
        return [np.asarray(value)]
    if isinstance(value, dict):
        return [array for one in value.values() for array in plain(one)]
    if isinstance(value, list | tuple):
        return [array for one in value for array in plain(one)]
    return [] if value is None else [array for one in vars(value).values() for array in plain(one)]


def network(model, put):
    """Pass a few inputs through a network, with its weights and all that follows on the host or on the device."""
    x = put(inputs(5))
    moved = model.beside(x if isinstance(x, DeviceArray) else None)
    forward = derivatives.forward(moved, x, 2)
    law = model.family.at(forward.natural)
    G = derivatives.jacobians(moved, forward)
    every = put(np.broadcast_to(np.eye(model.widths[-1]), (5, model.widths[-1], model.widths[-1])).copy())
    hessian = derivatives.hessian_blocks(moved, forward, G, every)
    products = tensor_norms.jacobian_products(G, forward.inputs)
    rows = derivatives.jacobians(moved, forward, law.rows(every))
    return SimpleNamespace(
        law=law, G=G, hessian=hessian, inputs=forward.inputs, products=products, rows=rows, forward=forward, model=moved
    )


def norm_forms(at):
    """Gram matrices, their norms, and what the iterations attain."""
    quartic, root = quartic_root(at.law), covariance_tensors.information_root(at.law)
    score = tensor_norms.score_gram(quartic, at.products)
    inner = tensor_norms.hessian_inner_products(at.hessian, at.inputs)
    curved = tensor_norms.hessian_gram(root, inner)
    both = [[gram.frobenius(), gram.spectral(), gram.trace(), gram.each()] for gram in (score, curved)]
    attained = tensor_norms.score_tensor_attained(quartic, at.products, score)
    return [both, attained, tensor_norms.hessian_tensor_attained(at.hessian, root, at.inputs, curved)]


def labelled_forms(at):
    """What data labels add to the information."""
    residual = at.law.mean / 3
    hessian = derivatives.hessian_blocks(at.model, at.forward, at.G, residual[:, None, :])
    return [observed.deviation_blocks(hessian, at.inputs), observed.output_information(at.law, at.forward, residual)]


def single_norms(at):
    K, size = tensor_bounds.own_jacobian_products(at.G, at.inputs)
    Q = tensor_bounds.own_inner_products(at.hessian, at.inputs)
    return [tensor_bounds.score_norms(at.law, K, size), tensor_bounds.hessian_norms(at.law, Q)]


def kronecker_error(at):
    rows, h_bar = at.rows[0], at.inputs[0]
    A, G = h_bar.mT @ h_bar / 5, np.einsum("nru,nrv->uv", rows, rows) / 5
    sums = kronecker.pair_sums((rows, None), h_bar, A, G, A[:, -1], 0, 2)
    return [sums, kronecker.block_distances(sums[None], [A], [G], 5)]


@pytest.mark.parametrize("model", NETWORKS[:4], ids=lambda model: model.family.name)
@pytest.mark.parametrize("function", [norm_forms, single_norms, kronecker_error, labelled_forms], ids=lambda one: one.__name__)
def test_forms_of_a_network(function, model):
    found, wanted = plain(function(network(model, to_device))), plain(function(network(model, np.asarray)))
    assert len(found) == len(wanted) > 1
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12 * np.abs(other).max())


def law_forms(model, put):
    law = network(model, put).law
    found = [law_extremes.certified_extremes(law), law_extremes.statements(law), law_extremes.squared_radius(law)]
    every = response_support.enumerated(model.family, law)
    if every is not None:
        found += [*every, response_support.entropy(every[1])]
    return [*found, response_support.mean_absolute_residual(model.family, law)]


@pytest.mark.parametrize("model", NETWORKS, ids=lambda model: model.family.name)
def test_forms_of_a_law(model):
    found, wanted = plain(law_forms(model, to_device)), plain(law_forms(model, np.asarray))
    assert len(found) == len(wanted) >= 3
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)


def numbers(shape, seed=1):
    return np.random.default_rng(seed).exponential(size=shape)


def positive(size=4):
    root = np.random.default_rng(2).normal(size=(size + 2, size))
    return root.T @ root


def all_forms():
    """Run everything in this file on the device."""
    for model in NETWORKS:
        law_forms(model, to_device)
    for function in (norm_forms, single_norms, kronecker_error, labelled_forms):
        function(network(NETWORKS[0], to_device))
    for function in FORMS.values():
        function(to_device)


def absolute_deviations(put):
    every = [families.Poisson(), families.Binomial(500), families.NegativeBinomial(300.0), families.Gamma(2.5)]
    laws = [(family, family.at(put(-np.abs(numbers((3, 1))) - 0.1))) for family in [*every, families.InverseGaussian(2.0)]]
    return [response_support.mean_absolute_residual(family, law) for family, law in laws]


V, W, Z = numbers((3, 4)), numbers((3, 4), 2), numbers((3, 4), 3) * [0, 1, 1, 1]


def _merged_regressions(put):
    total = [put(np.abs(V)), put(W), put(np.abs(Z)), put(V)]
    combination.merge_regressions(total, [put(np.abs(W)), put(V), put(np.abs(V)), put(Z)])
    return total


FORMS = {
    "mean_absolute_residual": absolute_deviations,
    "draws_needed": lambda put: sample_size.draws_needed(put(V), put(Z / 9), put(W)),
    "inputs_needed": lambda put: sample_size.inputs_needed(put(V), put(W), put(np.ones((3, 4))), put(Z)),
    "optimal_draws": lambda put: sample_size.optimal_draws(put(V), put(Z), 2.0, 3.0),
    "relative_error": lambda put: sample_size.relative_error(put(V), put(Z)),
    "merge_regressions": lambda put: _merged_regressions(put),
    "tightness": lambda put: tensor_bounds.tightness(put(np.abs(Z)), put(np.abs(V))),
    "mean_class_length": lambda put: information_contractions.mean_class_length(
        families.Categorical(4).at(put(V)), [None, put(numbers((3, 4, 2)))], [put(V), put(W)]
    ),
    "merged": lambda put: parameter_averaging.merged(put(V), put(Z), put(W), put(V)),
    "shrunk": lambda put: parameter_averaging.shrunk(put(V), put(Z)),
    "combination": lambda put: combination.combination(combination.Regression(put(V), put(W), put(Z)), np.dtype(np.float64)),
    "under_design": lambda put: estimator_moments.under_design(put(V), put(W), 3, 5, "random", 9),
    "z_scores": lambda put: observed.z_scores(put(V - W), put(np.full((3, 4), 1e-16)), put(Z)),
    "smallest_eigenvalue": lambda put: definiteness.smallest_eigenvalue(put(positive())),
    "pulled_back": lambda put: relative_information.pulled_back(put(positive(4)), put(V.T)),
    "curve_sums": lambda put: curvature.curve_sums(curvature.CurveMoments(put(V), put(W), put(Z), put(V))).curvature_squared(),
    "curve_moments": lambda put: curvature.CurveMoments(put(V), put(W), put(Z), put(V)).mixed,
    "merge_triangles": lambda put: _triangles(put),
    "inverse_of_triangle": lambda put: _inverse(maximum_likelihood.inverse_of_triangle(*_root(put, positive())), put),
    "inverse of a singular matrix": lambda put: _inverse(
        maximum_likelihood.inverse_of_triangle(*_root(put, np.diag([1.0, 1, 1, 0]) @ positive())), put
    ),
    **{
        repr(functional): lambda put, functional=functional: functional.value(error_propagation.Spectrum.of(put(positive())))
        for functional in (
            fs.LogDet(0.1),
            fs.EffectiveDimension(0.1),
            fs.LeadingEigenvalues(2),
        )
    },
    "SolveWith": lambda put: fs.SolveWith(np.ones(4), 0.1).value(error_propagation.Spectrum.of(put(positive()))),
}


def _triangles(put):
    total = [*maximum_likelihood.triangle_of(put(V.T)), put(W)]
    maximum_likelihood.merge_triangles(total, [*maximum_likelihood.triangle_of(put(Z.T)), put(V)])
    root = total[0] * total[1]
    return [root.T @ root, total[2]]


def _root(put, matrix):
    return put(matrix), put(np.ones(len(matrix)))


def _inverse(inverse, put):
    assert inverse.rank in (3, 4)
    return [inverse.root @ inverse.root.T, inverse.standard_errors(put(np.eye(4)))]


@pytest.mark.parametrize("name", FORMS)
def test_forms_of_numbers(name):
    found, wanted = plain(FORMS[name](to_device)), plain(FORMS[name](np.asarray))
    assert len(found) == len(wanted) > 0
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)
