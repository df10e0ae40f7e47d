"""Schema rows of results with exact values, bounds and their ratios."""

from __future__ import annotations

from fisherstats.core.schema.row import Variable

__all__ = ["BOUNDS"]


def _bounded(
    key: str, dims: str, symbol: str, what: str, source: str, exact: str, *parts: str, prefix: str = "", kind: str = "certified"
) -> dict[str, Variable]:
    """Return the rows of one bounded quantity: exact, upper and ratio, and the additional `parts`."""
    by_form = dims.replace("[input]", "[input] bound", 1) if "[input]" in dims else f"bound {dims}"
    every = {
        "exact": (dims, symbol, f"exact {what}", exact),
        "lower": (dims, f"{symbol} lower", f"largest {kind} lower bound of the {what}", source),
        "upper": (dims, f"{symbol} upper", f"smallest {kind} upper bound of the {what}", source),
        "ratio": (dims, "upper / exact", f"tightness of the {kind} upper bound, 1 is exact", source),
        "lower_by_form": (by_form, f"{symbol} lower", f"{kind} lower bound by each form (0 where it gives none)", source),
        "upper_by_form": (by_form, f"{symbol} upper", f"{kind} upper bound by each form (inf where it gives none)", source),
        "failed": (by_form, "count", f"inputs at which a form is on the wrong side of the {what}: 0, or a fault", source),
    }
    chosen = ("exact", "upper", "ratio", *parts)
    return {f"{key}_{part}": Variable(f"{prefix}{part}", *every[part]) for part in chosen}


_SIDES = ("lower", "lower_by_form", "upper_by_form")
_CERTIFIED = (*_SIDES, "failed")
_PRINTED = "printed (false)"
_TRACE = ("[input] estimator", "V_j", "summed variance of the diagonal entries")
_INFORMATION = ("[input]", "tr I(theta)", "trace of the information")
_NORM = ("[input] estimator norm", "|Cov(I-hat_j)|", "norm of the matricised covariance of the estimator")
_ENTRY = ("[input] estimator pair", "Var(I-hat_j)_ik", "variance of single entries")

BOUNDS = {
    **_bounded("norm_bound", *_NORM, "covariance-bounds", "covariance-norms", "upper_by_form", "failed"),
    **_bounded("entry", *_ENTRY, "off-diagonal-bounds", "estimator-variance", "upper_by_form", "failed"),
    **_bounded("trace_corrected", *_TRACE, "trace-bounds", "estimator-variance", *_CERTIFIED),
    **_bounded("trace_printed", *_TRACE, "trace-bounds-printed", "estimator-variance", *_SIDES, kind=_PRINTED),
    **_bounded("information_corrected", *_INFORMATION, "trace-bounds", "information", *_CERTIFIED, prefix="information_"),
    **_bounded(
        "information_printed",
        *_INFORMATION,
        "trace-bounds-printed",
        "information",
        *_SIDES,
        prefix="information_",
        kind=_PRINTED,
    ),
    **_bounded(
        "input_variance",
        "moment param",
        "Var_x I(theta_i|x)",
        "variance over inputs of the information",
        "input-variance-bound",
        "input-variance-bound",
    ),
    "forms_failed": Variable(
        "failed",
        "[input] bound estimator",
        "count",
        "parameters and inputs at which a form is on the wrong side of the exact value or is no number: 0, or a fault",
        "bounds",
    ),
    "input_second_moment": Variable(
        "second_moment",
        "param",
        "E_x I(theta_i|x)^2",
        "mean square over inputs of the information, between the variance and its bound",
        "input-variance-bound",
    ),
    "extremes_certified": Variable(
        "certified",
        "input tensor side",
        "lambda(I), lambda~(K), lambda~(M)",
        "certified bounds of the extremes over unit vectors",
        "family-extremes",
    ),
    "extremes_attained": Variable(
        "attained",
        "input side",
        "lambda~(M)",
        "extremes of M that an iteration attained (shown, not certified, never used as a bound)",
        "family-extremes",
    ),
    "extremes_by_statement": Variable(
        "by_statement",
        "input bound tensor side",
        "lambda(I), lambda~(K), lambda~(M)",
        "bounds of the extremes by each statement (0 and inf where it gives none)",
        "family-extremes",
    ),
    "extremes_ratio": Variable(
        "ratio",
        "input bound tensor",
        "upper / certified",
        "upper bound of the statement over the certified upper end",
        "family-extremes",
    ),
    "squared_radius": Variable(
        "squared_radius", "input", "B", "largest |t - E t|^2, inf where t is unbounded", "family-extremes"
    ),
}
