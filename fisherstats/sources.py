"""The papers and their numbered statements: the only home of citations.

A schema row names a key of `SOURCES`; labels print it as the `source` and `assumptions` attributes.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PAPERS", "SOURCES", "Source", "citation"]

PAPERS = {
    "soen-sun-2021": "Soen & Sun, On the Variance of the Fisher Information for Deep Learning, NeurIPS 2021, arXiv:2107.04205",
    "soen-sun-2024": "Soen & Sun, Trade-Offs of Diagonal Fisher Information Matrix Estimators, NeurIPS 2024, arXiv:2402.05379",
    "sun-nielsen-2017": (
        "Sun & Nielsen, Relative Fisher Information and Natural Gradient for Learning Large Modular Models, "
        "ICML 2017, arXiv:1606.06069"
    ),
    "bhatia-davis-2000": "Bhatia & Davis, A Better Bound on the Variance, Amer. Math. Monthly 107 (2000)",
    "pearson-1916": "Pearson, Mathematical Contributions to the Theory of Evolution XIX, Phil. Trans. R. Soc. A 216 (1916)",
}


@dataclass(frozen=True)
class Source:
    """One numbered statement: where it stands, what it says, what it assumes, and what is wrong in print."""

    paper: str
    statement: str
    formula: str
    assumptions: str
    erratum: str = ""


_MODEL = "exponential-family response with natural parameters h(x); labels drawn from the model"
_TWICE = _MODEL + "; h twice differentiable at the given parameters (no pre-activation on a kink)"
_FIXED = "fixed design: every given input is used with n_draws independent labels"

SOURCES = {
    "output-information": Source(
        "soen-sun-2021", "Lemma 2", "I(h) = Cov(t(y)) = d eta / d h", "exponential family in canonical coordinates"
    ),
    "hidden-information": Source(
        "soen-sun-2021", "derivative lemma, eq (19)", "I(h_l) = B_l' I(h_L) B_l with B_l = dh_L/dh_l", _MODEL
    ),
    "hidden-information-variance": Source(
        "soen-sun-2021", "Theorem 4", "Var(B_u' S B_v) = M(B_u, B_v, B_u, B_v) / N for the columns of B_l", _MODEL
    ),
    "information": Source("soen-sun-2021", "eq (6)", "I(theta) = mean over x of J' I(h) J", _MODEL),
    "score-estimator": Source(
        "soen-sun-2024", "eq (2)", "I-hat-1 = (1/N) sum_k score_k score_k', labels drawn from the model", _MODEL
    ),
    "hessian-estimator": Source("soen-sun-2024", "eq (3)", "I-hat-2 = -(1/N) sum_k Hessian of log p(y_k|x)", _TWICE),
    "both-estimators": Source("soen-sun-2024", "eqs (2) and (3)", "I-hat-1 and I-hat-2 from the same labels", _TWICE),
    "empirical-fisher": Source(
        "soen-sun-2024",
        "eq (17)",
        "mean over the data of score score' at the data labels",
        "labels are data, not draws",
    ),
    "empirical-bias": Source(
        "soen-sun-2024",
        "Lemma 6.1",
        "J' (I_q(h) - I(h)) J",
        "labels are data, not draws; the bias is indefinite in general",
    ),
    "estimator-variance": Source(
        "soen-sun-2024",
        "Lemma 3.1",
        "V1 = M(dh, dh, dh, dh) / N, V2 = d2h' I(h) d2h / N",
        _TWICE + "; " + _FIXED,
    ),
    "estimator-variance-random": Source(
        "soen-sun-2024",
        "Theorem 4.7",
        "Var = (1/n) (Var_x I(theta|x) + E_x V(theta|x) / N)",
        _TWICE + "; inputs are independent draws, their variance estimated from the given inputs (ddof 1)",
    ),
    "estimator-variance-subsample": Source(
        "soen-sun-2024",
        "Theorem 4.7 with the finite population correction",
        "Var = (1 - m/n_all) s2_x / m + mean(V) / (N m)",
        _TWICE + "; m inputs drawn without replacement from a finite population",
    ),
    "cross-covariance": Source(
        "soen-sun-2021",
        "derived from eqs (10) and (11)",
        "Cov(I-hat-1, I-hat-2) = -E[(dh.r)^2 (d2h.r)] / N",
        _TWICE + "; both estimators from the same labels",
    ),
    "group-variance": Source(
        "soen-sun-2021",
        "Theorems 4 and 6, contracted over a group",
        "per input Var(r' A r), A = sum of J_i J_i' over the group",
        _TWICE,
    ),
    "bounds": Source(
        "soen-sun-2024",
        "Theorem 4.1",
        "|dh|^4 lambda(M) / N bounds V1, |d2h|^2 lambda(I) / N bounds V2",
        _TWICE + "; " + _FIXED,
        "the smallest eigenvalues vanish for an overcomplete categorical law, so its printed lower bounds are 0",
    ),
    "information-bounds": Source("soen-sun-2024", "Theorem 4.1, eq (7)", "|dh|^2 lambda(I) bounds I(theta_i|x)", _MODEL),
    "bhatia-davis": Source("bhatia-davis-2000", "Theorem 1", "Var(z) <= (max z - E z)(E z - min z)", "z has bounded support"),
    "pearson": Source("pearson-1916", "kurtosis >= skewness^2 + 1", "Var(z^2) >= E[z^3]^2 / E[z^2]", "fourth moment exists"),
    "observed-error": Source(
        "soen-sun-2024", "Lemma 3.1", "standard deviation over replicates of an estimate", "independent replicates"
    ),
    "draws-needed": Source("soen-sun-2024", "Lemma 3.1", "N = V(n_draws=1) / (target^2 I^2), rounded up", _TWICE + "; " + _FIXED),
    "model": Source(
        "soen-sun-2021",
        "Section 2",
        "p(y|x, theta) = pi(y) exp(t(y)' h(x) - F(h(x)))",
        "the response is conditional on x",
    ),
    "coordinates": Source("soen-sun-2021", "Section 2", "row-major parameters, bias last in each row", "none"),
}


def citation(key: str) -> str:
    """Return 'statement: formula (paper)' for a key."""
    source = SOURCES[key]
    return f"{source.statement}: {source.formula} [{PAPERS[source.paper]}]"
