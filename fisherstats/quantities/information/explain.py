"""Description of how a call would be executed: the engine, and the scheme by which labels are drawn."""

from __future__ import annotations

from collections.abc import Sequence

from fisherstats import engines
from fisherstats.core.schema import ESTIMATORS
from fisherstats.core.validation import arguments, networks
from fisherstats.models.families import DRAW_SCHEMES
from fisherstats.models.network import MLP

__all__ = ["explain"]


def explain(model: MLP, *, estimator: str | Sequence[str] = "score", n_draws: int = 1, engine: str | None = None) -> str:
    """Describe how labels would be drawn for an estimate and which engine would be used.

    Parameters
    ----------
    model : MLP
        The network.
    estimator : {"score", "hessian"} or a sequence of both
        As for `estimate_fisher`.
    n_draws : int, default 1
        Labels per input.
    engine : {None, "numpy", "numba", "cupy"}, optional
        As for `estimate_fisher`.

    Returns
    -------
    str
        A few sentences.

    Raises
    ------
    TypeError, ValueError
        If `model` is not an `MLP`, `estimator` is unknown, `n_draws` is not a positive integer, or `engine` is unknown.
    EngineUnavailable
        If the engine is not available; the message gives the reason.

    Examples
    --------
    >>> import fisherstats as fs
    >>> model = fs.MLP.random([2, 3, 2], activation="tanh", family=fs.families.Poisson(2), rng=0)
    >>> print(fs.explain(model, estimator="hessian", n_draws=1000))
    Engine: numba.
    Labels of poisson with 2 outputs for the hessian estimator at 1000 draws per input:
    the sum of the labels of each output, closed under addition; the cost does not grow with n_draws.
    """
    networks.model_object(model, MLP)
    chosen = arguments.words("estimator", estimator, ESTIMATORS)
    n_draws = arguments.positive_integer("n_draws", n_draws)
    family = model.family
    scheme = family.draw_scheme("score" in chosen, n_draws)
    outputs = f"{family.n_outputs} output{'s' if family.n_outputs > 1 else ''}"
    return (
        f"Engine: {engines.resolve(engine).name}.\n"
        f"Labels of {family.name} with {outputs} for the {' and '.join(chosen)} estimator at {n_draws} draws per input:\n"
        f"{DRAW_SCHEMES[scheme]}."
    )
