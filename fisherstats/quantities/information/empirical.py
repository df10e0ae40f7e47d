"""The empirical Fisher information as an estimator: its variance for a given label distribution, and the signs of its bias."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fisherstats.core.arrays import like
from fisherstats.core.docstrings import documented
from fisherstats.core.validation import arguments, distributions
from fisherstats.models.families import Law
from fisherstats.models.network import MLP
from fisherstats.quantities import _labels, _layout, _run, _views
from fisherstats.quantities._computation import Computation
from fisherstats.quantities._designs import Design
from fisherstats.quantities._streams import streamed
from fisherstats.theory import assembly, empirical_information, fisher

__all__ = ["bias_signature", "empirical_variance"]

Array = NDArray[np.floating]


@documented
@streamed()
def empirical_variance(
    model: MLP,
    x: Any,
    probabilities: Any = None,
    *,
    truth: MLP | None = None,
    n_draws: int = 1,
    design: str = "fixed",
    population: int | None = None,
    per_input: bool = False,
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> Computation[xr.Dataset]:
    r"""Mean, bias and variance of the empirical Fisher information for labels from given distributions (2024, G.1 and G.2).

    :math:`V=\frac1N\{E_q[(\partial_ih^\top r)^4]-E_q[(\partial_ih^\top r)^2]^2\}` with r = t(y) - E[t] around the mean of the
    model and labels y from q, which may differ from the model: a table of probabilities, or the response distribution of another
    network, for any family.

    Parameters
    ----------
    %(model)s
    %(x)s
    probabilities : array_like, shape (n, n_classes), or (n,) for Bernoulli, optional
        The distribution q of the label at each input: the probabilities of the classes, or that of a 1. For a Categorical
        family or one Bernoulli output; either this or `truth`.
    truth : MLP, optional
        A network of the same family whose response distribution at each input is q, for every family. It has the same inputs; its
        hidden layers may differ. Computed in the precision of the model and x.
    %(n_draws)s
    design : {"fixed", "random", "subsample"}, default "fixed"
        ``fixed``: inference is for the given inputs (Corollary G.1), :math:`\frac1{n^2}\sum_iV(x_i)/N`. ``random``: independent
        draws (Corollary G.2), :math:`\frac1n[s_x^2(I_q(\theta|x))+\frac1n\sum_iV(x_i)/N]`. ``subsample``: drawn without
        replacement from `population` inputs, with :math:`s_x^2/n` times the finite-population correction :math:`1-n/n_{all}`.
    %(population)s
    per_input : bool, default False
        Return the quantities of each input (fixed design only).
    %(engine)s
    %(num_threads)s
    %(progress)s

    Returns
    -------
    Dataset
        ``variance``, ``empirical`` (its expectation), ``expected`` (the exact information) and ``bias`` = empirical - expected,
        dims ([input,] param). Units of 1, source keys ``empirical-variance``, ``empirical-variance-random``,
        ``empirical-fisher``, ``information``, ``empirical-bias``.

    Raises
    ------
    %(refused)s
    AssumptionError
        If `probabilities` are given and the family is neither Categorical nor one Bernoulli output.
    %(size)s

    Notes
    -----
    Cost: that of the variance of the score estimator, which is the special case of q = the model, and one forward pass of
    `truth`. With g the derivative of h along one parameter, :math:`\delta=t-E_q[t]` and :math:`c=g^\top(E_q[t]-E[t])`, the mean
    is :math:`g^\top I_qg+c^2` and V is :math:`\mathrm{Var}_q((g^\top\delta)^2+2c\,g^\top\delta)/N`, a sum of squares in every
    family of the package; for a user-defined family that is not a `LogPartitionFamily` it is a sum of moments, set to 0 where
    rounding makes it negative. c is as accurate as the two means: an error of a few eps E[t], which matters where E[t] is far
    above both the standard deviation of t and the distance of the means. With one certain label per input the variance is 0, and
    the bias remains.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP([[[1.0, 0.0]]], activation=[], family=fs.families.Bernoulli())
    >>> found = fs.empirical_variance(model, np.array([[1.0]]), [0.5])
    >>> found.variance.values.round(4), found.bias.values.round(4)
    (array([0.0534, 0.0534]), array([0.1068, 0.1068]))
    >>> model, truth = (fs.MLP([[[w, 0.0]]], activation=[], family=fs.families.Poisson()) for w in (0.0, 1.0))
    >>> found = fs.empirical_variance(model, np.array([[1.0]]), truth=truth)
    >>> found.empirical.values.round(4), found.expected.values
    (array([5.6708, 5.6708]), array([1., 1.]))
    """
    distributions.one_distribution(probabilities, truth)
    call = _run.prepare(model, x, engine=engine, num_threads=num_threads, progress=progress, any_network=True)
    n_draws = arguments.positive_integer("n_draws", n_draws)
    arguments.boolean("per_input", per_input)
    sampled = Design.of(call, design, population, n_draws, per_input)
    _views.check(call, "diagonal", per_input, 5)
    q_at = _law_of_labels(call, probabilities, truth)

    def block(x: Array, first_input: int) -> list[Array]:
        forward, law = call.network.forward(x, first_input)
        G = call.network.unit_jacobians(forward, differences=False)
        q = q_at(x, first_input)
        means = empirical_information.empirical_factors(law, q, forward, G)
        quantities = [
            (means, 2),
            (fisher.unit_factors(law, forward, G), 2),
            (empirical_information.empirical_variance_factors(law, q, G), 4),
        ]
        sums = [assembly.diagonal(factors, forward.inputs, power, call.sizes, per_input) for factors, power in quantities]
        return sums if per_input else [*assembly.moments_over_inputs(means, forward.inputs, 2), *sums[1:]]

    key = "empirical_variance" if sampled.fixed else "empirical_variance_random"
    coords = _labels.param_coordinates(model) | (call.input_coordinate() if per_input else {})
    given = {} if truth is None else {"truth": truth.fingerprint}
    provenance = call.provenance(n_draws=n_draws, **sampled.record, **given)
    yield (layout := _layout.dataset([key, "empirical_mean", "expected", "bias"], coords, provenance, call.rows.dtype))
    if per_input:
        mean, expected, variance = yield from call.stack(block, call.block_rows())
        variance = variance / n_draws
    else:
        _, mean, deviations, *sums = yield from call.mean(block, call.block_rows(), combine=assembly.merge_moments)
        expected, single = (one / call.n_inputs for one in sums)
        spread = deviations / max(call.n_inputs - 1, 1)
        variance = sampled.variance(single, spread)
    return layout, [one.astype(call.rows.dtype, copy=False) for one in (variance, mean, expected, mean - expected)]


def _law_of_labels(call: _run.Call, probabilities: Any, truth: MLP | None) -> Callable[[Array, int], Array | Law]:
    """Return a function of (block of x, its first input) that returns q there, as a table or as a distribution."""
    if truth is not None:
        distributions.true_network(truth, call.model, MLP)
        true_call = call.of(truth, "truth")
        return lambda x, first_input: true_call.network.forward(x, first_input)[1]
    q = call.label_distributions(probabilities)
    return lambda x, first_input: q[first_input : first_input + len(x)].astype(call.rows.dtype, copy=False)


@documented
@streamed(per_input=True)
def bias_signature(
    model: MLP,
    x: Any,
    y: Any,
    *,
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> Computation[xr.Dataset]:
    r"""Signs of the bias of the empirical Fisher information per input: eigenvalues of :math:`rr^\top-I(h)` (2024, Lemma 6.1).

    One data label makes the empirical information of rank one: it overstates the information in at most one direction of the
    natural parameters and understates it in all others in which it is not 0.

    Parameters
    ----------
    %(model)s
    %(x)s
    y : array_like, shape (n,) or (n, T)
        Data labels: class numbers for Categorical, else one number per output ((n,) if there is one output).
    %(engine)s
    %(num_threads)s
    %(progress)s

    Returns
    -------
    Dataset
        ``n_positive``, ``n_negative``, ``n_zero`` (counts that add up to T), ``smallest``, ``largest`` (eigenvalues), dim
        ``input``. Source key ``empirical-bias``.

    Raises
    ------
    %(refused)s
    SizeError
        If the eigenvalue problem would not fit in memory.

    Notes
    -----
    Cost: one forward pass and one eigenvalue problem of size T per input. The signs over the parameters are the same for each
    input's J of full rank (Sylvester's law of inertia), with zeros for the rest. Softmax over all classes: the direction of
    equal shifts of all logits is a zero, and the positive eigenvalue exists where the label's probability is below 1/2.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP([[[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]], activation=[], family=fs.families.Categorical(3))
    >>> found = fs.bias_signature(model, np.array([[3.0], [3.0]]), [0, 1])
    >>> found.n_positive.values, found.n_negative.values, found.n_zero.values
    (array([0, 1]), array([2, 1]), array([1, 1]))
    """
    call = _run.prepare(model, x, engine=engine, num_threads=num_threads, progress=progress, any_network=True)
    call.fits("`bias_signature`", model.widths[-1] ** 2 * min(call.n_inputs, 128), 3, "use a family of fewer outputs.")
    data_labels = call.data_labels(y)

    def block(x: Array, first_input: int) -> list[Any]:
        _, law = call.network.forward(x, first_input)
        eigenvalues = empirical_information.bias_eigenvalues(
            law, law.residual(like(data_labels[first_input : first_input + len(x)], law.h))
        )
        return [*empirical_information.signs(eigenvalues), eigenvalues[:, 0], eigenvalues[:, -1]]

    counts: list[_layout.Entry] = [(key, np.int64) for key in ("bias_positive", "bias_negative", "bias_zero")]
    entries = [*counts, "bias_smallest", "bias_largest"]
    yield (layout := _layout.dataset(entries, call.input_coordinate(), call.provenance(), call.rows.dtype))
    return layout, (yield from call.stack(block, call.block_rows()))
