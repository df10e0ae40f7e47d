"""Laplace's approximation: a Gaussian posterior of the parameters around a fitted network, and what it predicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import minimize_scalar

from fisherstats.applications.asymptotics import double_call
from fisherstats.core.docstrings import documented
from fisherstats.core.validation import arguments, networks
from fisherstats.core.validation import laplace as checks
from fisherstats.execution import at_once, one_blas_thread
from fisherstats.models.network import MLP
from fisherstats.quantities import _labels, _layout
from fisherstats.quantities._run import Call
from fisherstats.quantities.information.estimates import empirical_fisher, estimate_fisher
from fisherstats.quantities.information.exact import fisher_information
from fisherstats.theory.posterior import DensePosterior, DiagonalPosterior, KroneckerPosterior, Posterior

__all__ = ["Laplace", "laplace"]

Array = NDArray[np.floating]

STRUCTURES = ("full", "kfac", "diagonal", "last_layer")
INFORMATION = ("exact", "score", "hessian", "empirical")

_PREDICTED_NUMBERS = 2**21

_QUANTILE_DRAWS = 2000
"""Draws of a response for an interval of it."""


@dataclass(frozen=True)
class Laplace:
    r"""The Gaussian posterior :math:`N(\hat\theta,(n\hat I+\Lambda)^{-1})` of a network's parameters, made by `laplace`.

    Parameters
    ----------
    model : MLP
        The network at the estimate, in float64.
    structure : {"full", "kfac", "diagonal", "last_layer"}
        Structure of the information.
    prior_precision : ndarray
        Precision of the prior, of each layer or of each parameter.
    summary : Dataset
        ``log_likelihood``, ``log_evidence``, ``log_det_ratio`` and ``effective_parameters``.
    posterior : Posterior
        The covariance, in the form of the structure.
    provenance : mapping
        What the results record.
    """

    model: MLP
    structure: str
    prior_precision: Array
    summary: xr.Dataset
    posterior: Posterior = field(repr=False)
    provenance: Mapping[str, Any] = field(repr=False)

    @property
    def log_evidence(self) -> float:
        """Logarithm of the marginal likelihood of the labels, in Laplace's approximation."""
        return float(self.summary["log_evidence"])

    @property
    def first_parameter(self) -> int:
        """Place of the first parameter that is uncertain."""
        return self.model.n_params - len(self.posterior.variances())

    def standard_deviations(self) -> xr.DataArray:
        """Return the posterior standard deviation of each parameter, 0 for those of layers that are held fixed."""
        values = np.concatenate([np.zeros(self.first_parameter), np.sqrt(self.posterior.variances())])
        layout = _layout.array("laplace_deviation", _labels.param_coordinates(self.model), self.provenance, np.float64)
        layout.check([values])
        return layout.filled([values])

    def sample(self, n_samples: int, rng: int | np.random.SeedSequence | np.random.Generator) -> list[MLP]:
        """Return networks with parameters drawn from the posterior.

        Parameters
        ----------
        n_samples : int
            Number of networks.
        rng : int, SeedSequence or Generator
            Source of randomness.

        Returns
        -------
        list of MLP
            Networks of the same structure.
        """
        n_samples = arguments.positive_integer("n_samples", n_samples)
        generator = np.random.default_rng(arguments.seed_sequence(rng))
        moved = self.posterior.draws(generator.standard_normal((n_samples, len(self.posterior.spectrum))))
        moved = np.pad(moved, ((0, 0), (self.first_parameter, 0)))
        slices = self.model.layer_slices()
        return [
            self.model.with_weights([w + one[part].reshape(w.shape) for w, part in zip(self.model.weights, slices, strict=True)])
            for one in moved
        ]

    @one_blas_thread
    def predict(
        self,
        at: Any,
        *,
        level: float = 0.95,
        kind: str = "mean",
        n_samples: int = 1000,
        rng: int | np.random.SeedSequence | np.random.Generator = 0,
        num_threads: int | None = None,
    ) -> xr.Dataset:
        r"""Predict at new inputs with the network linearised in its parameters: :math:`z\sim N(z_{\hat\theta},J\Sigma J^\top)`.

        Parameters
        ----------
        at : array_like, DataArray (dims ``input``, ``feature``) or array on disk, shape (m, n_features)
            New inputs.
        level : float, default 0.95
            Probability of the intervals.
        kind : {"mean", "response"}, default "mean"
            Intervals of the output and of :math:`\mathrm E[t(y)]` over the posterior, or the variance of a new
            response with the noise of its distribution, and an interval of it where it is a number.
        n_samples : int, default 1000
            Draws of z at each input for averages over the posterior.
        rng : int, SeedSequence or Generator, default 0
            Source of these draws.
        num_threads : int, optional
            Threads over blocks of inputs.

        Returns
        -------
        Dataset
            ``predictor`` and ``covariance (input, output, output2)`` of the network's output z, the natural parameters unless
            the family has a link. "mean": ``lower``, ``upper`` of each z, and ``response_mean``, ``response_mean_deviation`` of
            E[t]. "response": ``response_mean`` and ``response_variance`` of t, the variances within and between the draws added
            up, and for a response that is one number per output ``response_lower`` and ``response_upper``.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as described, or if h leaves the domain of the family at a draw.
        """
        level = arguments.level("level", level)
        word = arguments.choice("kind", kind, ("mean", "response"))
        n_samples = arguments.positive_integer("n_samples", n_samples)
        seed = arguments.seed_sequence(rng)
        call = double_call(self.model, at, num_threads=num_threads)
        family, outputs = self.model.family, self.model.widths[-1]
        numbers = word == "response" and not family.labels_are_classes

        def block(x: Array, first_input: int) -> list[Array]:
            forward, _ = call.network.forward(x, first_input)
            G = call.network.jacobians(forward, differences=False)
            if forward.link_slope is not None:  # the output before the link may be any number
                G = [one / forward.link_slope[:, :, None] for one in G]
            z = forward.inputs[-1] @ call.model.weights[-1].T
            covariance = self.posterior.output_covariance(G, forward.inputs)
            drawn = _normal(z, covariance, n_samples, seed, first_input).reshape(-1, outputs)
            drawn = drawn if family.link is None else family.link.evaluate(drawn, 0)[0]
            laws = family.at(drawn)
            means = laws.mean.reshape(len(x), n_samples, outputs)
            found = [z, covariance, means.mean(axis=1)]
            if word == "mean":
                half = stats.norm.ppf((1 + level) / 2) * np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
                return [*found, means.std(axis=1), z - half, z + half]
            within = laws.own_diagonal().reshape(means.shape).mean(axis=1)
            found.append(within + means.var(axis=1))
            if numbers:
                found += _quantiles(family, drawn.reshape(len(x), n_samples, outputs), level, seed, first_input)
            return found

        keys = ["laplace_predictor", "laplace_covariance", "laplace_mean"]
        if word == "mean":
            keys += ["laplace_mean_deviation", "laplace_lower", "laplace_upper"]
        else:
            keys += ["laplace_response_variance", *(["laplace_response_lower", "laplace_response_upper"] if numbers else [])]
        coords = call.input_coordinate() | _labels.output_coordinates(self.model, "output")
        coords |= _labels.output_coordinates(self.model, "output2")
        provenance = {**self.provenance, "level": level, "kind": word, "n_samples": n_samples}
        layout = _layout.dataset(keys, coords, provenance, np.float64)
        rows = max(1, _PREDICTED_NUMBERS // max(outputs * max(self.model.n_params, n_samples), 1))
        values = at_once(call.stack(block, rows))
        layout.check(values)
        return layout.filled(values)


@documented
@one_blas_thread
def laplace(
    model: MLP,
    x: Any,
    y: Any,
    *,
    structure: str = "kfac",
    prior_precision: Any = 1.0,
    information: str = "exact",
    n_draws: int | None = None,
    rng: int | np.random.SeedSequence | np.random.Generator | None = None,
    engine: str | None = None,
    num_threads: int | None = None,
) -> Laplace:
    r"""Approximate the posterior of a fitted network's parameters by a Gaussian, :math:`N(\hat\theta,(n\hat I+\Lambda)^{-1})`.

    The prior is :math:`N(0,\Lambda^{-1})`, and the information takes the place of the Hessian (the generalised Gauss-Newton
    matrix, for natural parameters). With it come predictions that know how uncertain the parameters are, and the evidence
    :math:`\log p(y|\hat\theta)-\tfrac12\hat\theta^\top\Lambda\hat\theta-\tfrac12\log\det(n\hat
    I+\Lambda)+\tfrac12\log\det\Lambda`, by which priors and networks are compared (MacKay 1992).

    Parameters
    ----------
    %(model)s
    x : array_like, DataArray (dims ``input``, ``feature``) or array on disk, shape (n, n_features)
        The inputs that it was fitted to.
    y : array_like, shape (n,) or (n, T)
        Their labels.
    structure : {"kfac", "full", "diagonal", "last_layer"}, default "kfac"
        The information of all parameters; its Kronecker factors or its diagonal, with the layers independent; or that of the last
        layer alone, the others held fixed.
    prior_precision : float, array_like or "evidence", default 1.0
        Precision of the prior: one number, one for each layer, for "full" and "diagonal" one for each parameter; or the one
        number that maximises the evidence.
    information : {"exact", "score", "hessian", "empirical"}, default "exact"
        The exact information, an estimate from labels of the model, or the empirical one. Kronecker factors are exact.
    n_draws : int, optional
        Labels per input of an estimate.
    rng : int, SeedSequence or Generator, optional
        Source of its labels.
    %(engine)s
    %(num_threads)s

    Returns
    -------
    Laplace
        With ``predict``, ``sample``, ``standard_deviations``, ``log_evidence`` and ``summary``. Source keys ``laplace``,
        ``laplace-prediction``, ``laplace-evidence``.

    Raises
    ------
    %(refused)s
    %(size)s

    Notes
    -----
    Cost: that of the information, and one eigendecomposition: of P x P numbers ("full"), of the factors ("kfac"), of the last
    block. No matrix over all parameters exists but with "full". The network should be at a maximum of the likelihood with the
    penalty of the prior; nothing checks that it is. An estimate from few labels makes the posterior too narrow or too wide by
    its own error, and with "hessian" it need not be positive: such a result is refused.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP([[[1.0, 0.0]]], activation=[], family=fs.families.Gaussian())
    >>> x = np.array([[1.0], [2.0], [-1.0]])
    >>> posterior = fs.applications.laplace(model, x, x[:, 0], structure="full")
    >>> posterior.predict(np.array([[0.0], [10.0]])).covariance.values.ravel().round(3)
    array([ 0.292, 15.292])
    """
    word = arguments.choice("structure", structure, STRUCTURES)
    source = arguments.choice("information", information, INFORMATION)
    networks.model_object(model, MLP)
    checks.exact_factors(word, source)
    checks.draws_with_estimates(source, n_draws, rng)
    call = double_call(model, x, engine=engine, num_threads=num_threads)
    on_host = double_call(model, x, num_threads=num_threads, host_only=True)
    exact = on_host.model
    settings = {"engine": engine, "num_threads": num_threads}
    drawn = {} if n_draws is None else {"n_draws": n_draws, "rng": rng}
    prior: Any = checks.prior_precision(prior_precision, exact.n_layers, exact.n_params, word)
    log_likelihood = _log_likelihood(on_host, y)
    found = _information(exact, x, y, word, source, drawn, settings)
    n_inputs = call.n_inputs
    if isinstance(prior, str):
        prior = _best_prior(exact, found, n_inputs, word, log_likelihood)
    posterior = _posterior(exact, found, n_inputs, word, prior)
    evidence, ratio, effective = _evidence(exact, posterior, word, prior, log_likelihood)
    provenance = call.provenance(structure=word, information=source, n_draws=n_draws)
    layout = _layout.dataset(
        ["laplace_log_likelihood", "laplace_evidence", "laplace_log_det", "laplace_effective"], {}, provenance, np.float64
    )
    values = [np.asarray(one) for one in (log_likelihood, evidence, ratio, effective)]
    layout.check(values)
    return Laplace(exact, word, prior, layout.filled(values), posterior, provenance)


def _log_likelihood(call: Call, y: Any) -> float:
    labels, family = call.data_labels(y), call.model.family

    def block(x: Array, first_input: int) -> list[Array]:
        _, law = call.network.forward(x, first_input)
        return [np.asarray(family.log_prob_at(law, labels[first_input : first_input + len(x)])).sum().reshape(1)]

    (mean,) = at_once(call.mean(block, call.block_rows()))
    return float(mean[0]) * call.n_inputs


def _information(model: MLP, x: Any, y: Any, structure: str, source: str, drawn: dict[str, Any], settings: dict[str, Any]) -> Any:
    """Return the mean information over inputs in the form of the structure: a matrix, a vector, or factors per layer."""
    if structure == "kfac":
        tree = fisher_information(model, x, view="kfac", **settings)
        return [(tree[one]["G"].values, tree[one]["A"].values) for one in tree.children]
    view = {"full": "full", "diagonal": "diagonal", "last_layer": "block"}[structure]
    result: Any
    if source == "exact":
        result = fisher_information(model, x, view=view, **settings)
    elif source == "empirical":
        result = empirical_fisher(model, x, y, view=view, **settings)
    else:
        result = estimate_fisher(model, x, estimator=source, view=view, standard_error=False, **drawn, **settings)
    if structure == "last_layer":
        last = result[list(result.children)[-1]]
        return last["empirical" if source == "empirical" else "information"].values
    return (result["empirical"] if source == "empirical" else result).values


def _by_parameter(model: MLP, prior: Array) -> Array:
    """Return the prior precision of each parameter."""
    if prior.size == model.n_params and prior.size != model.n_layers:
        return prior
    per_layer = np.broadcast_to(prior, model.n_layers)
    return np.repeat(per_layer, [matrix.size for matrix in model.weights])


def _posterior(model: MLP, information: Any, n_inputs: int, structure: str, prior: Array) -> Posterior:
    posterior: Posterior
    if structure == "kfac":
        posterior = KroneckerPosterior.of(information, n_inputs, np.broadcast_to(prior, model.n_layers))
    elif structure == "diagonal":
        precision = n_inputs * information
        checks.positive_precision(bool((precision + _by_parameter(model, prior) > 0).all()), structure)
        posterior = DiagonalPosterior.of(precision, _by_parameter(model, prior), model.shapes)
    else:
        own = _by_parameter(model, prior)[-len(information) :]
        smallest = np.linalg.eigvalsh(n_inputs * information / np.sqrt(np.outer(own, own)))[0]
        checks.positive_precision(bool(smallest > -1 + 1e-12), structure)
        first = model.n_layers - 1 if structure == "last_layer" else 0
        posterior = DensePosterior.of(n_inputs * information, own, first)
    return posterior


def _evidence(
    model: MLP, posterior: Posterior, structure: str, prior: Array, log_likelihood: float
) -> tuple[float, float, float]:
    """Return the log evidence, the log-determinant of the posterior precision relative to the prior's, and tr(n I Sigma)."""
    theta = np.concatenate([matrix.ravel() for matrix in model.weights])[-len(posterior.spectrum) :]
    own = _by_parameter(model, prior)[-len(theta) :]
    ratio = float(np.log1p(posterior.spectrum).sum())
    effective = float((posterior.spectrum / (1 + posterior.spectrum)).sum())
    return log_likelihood - 0.5 * float((own * theta * theta).sum()) - 0.5 * ratio, ratio, effective


def _best_prior(model: MLP, information: Any, n_inputs: int, structure: str, log_likelihood: float) -> Array:
    """Return the one precision that maximises the evidence, between 1e-8 and 1e8."""
    one = np.ones(1)
    spectrum = _posterior(model, information, n_inputs, structure, one).spectrum
    checks.positive_precision(bool((spectrum >= -1e-9).all()), structure)
    theta = np.concatenate([matrix.ravel() for matrix in model.weights])[-len(spectrum) :]
    square = float(theta @ theta)

    def loss(logarithm: float) -> float:
        precision = np.exp(logarithm)
        return 0.5 * precision * square + 0.5 * float(np.log1p(np.maximum(spectrum, 0) / precision).sum())

    best = minimize_scalar(loss, bounds=(np.log(1e-8), np.log(1e8)), method="bounded", options={"xatol": 1e-10})
    return np.array([np.exp(best.x)])


def _normal(mean: Array, covariance: Array, count: int, seed: np.random.SeedSequence, first_input: int) -> Array:
    """Return draws of N(mean, covariance) for each input, (n, count, T), from a stream of each input."""
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0))[:, None, :]
    drawn = np.stack([_stream(seed, first_input + row).standard_normal((count, mean.shape[1])) for row in range(len(mean))])
    return mean[:, None, :] + np.matmul(drawn, root.swapaxes(1, 2))


def _quantiles(family: Any, drawn: Array, level: float, seed: np.random.SeedSequence, first_input: int) -> list[Array]:
    """Return the ends of the interval of a new response, (n, T) each."""
    ends = []
    for row, h in enumerate(drawn):
        generator = _stream(seed, first_input + row, 1)
        repeats = max(1, -(-_QUANTILE_DRAWS // len(h)))
        y = np.asarray(family.sample(h, generator, repeats), dtype=np.float64).reshape(repeats * len(h), -1)
        ends.append(np.quantile(y, [(1 - level) / 2, (1 + level) / 2], axis=0))
    stacked = np.stack(ends)
    return [stacked[:, 0], stacked[:, 1]]


def _stream(seed: np.random.SeedSequence, number: int, word: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed, counter=np.array([0, 0, number, word], dtype=np.uint64)))
