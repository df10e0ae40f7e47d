"""Statements that the applications rest on."""

from __future__ import annotations

from fisherstats.core.references.source import FIXED, MODEL, TWICE, Source

__all__ = ["APPLICATIONS"]

APPLICATIONS = {
    "asymptotic-covariance": Source(
        "van-der-vaart-1998",
        "Theorem 5.39 and Section 5.5",
        "sqrt(n) (theta-hat - theta) -> N(0, I^-1), so Cov is about phi (n I)^+",
        MODEL + "; independent labels, many for each parameter; the network is at the maximum of the likelihood",
    ),
    "sandwich": Source(
        "white-1982",
        "Theorem 3.2",
        "Cov is about H^-1 (sum_i s_i s_i') H^-1",
        "independent labels of any law, many for each parameter; the network is at the maximum of the likelihood",
    ),
    "cramer-rao": Source(
        "van-der-vaart-1998",
        "Section 8.1, Cramer-Rao bound",
        "Var >= phi v' (n I)^+ v for unbiased estimates of a functional with gradient v in the range of I, none has finite "
        "variance outside it",
        MODEL + "; the network is at the true parameters",
    ),
    "wald-interval": Source(
        "van-der-vaart-1998",
        "Section 5.6 and Chapter 15, Wald intervals",
        "theta-hat +- z se",
        MODEL + "; independent labels, many for each parameter; the network is at the maximum of the likelihood",
    ),
    "five-fishers": Source(
        "van-de-ven-2025",
        "Section 3",
        "exact; exact at some inputs; sampled labels; data labels; squared mean scores of batches",
        MODEL + "; data labels for the last two",
    ),
    "laplace": Source(
        "daxberger-2021",
        "Section 2",
        "p(theta | data) is about N(theta-hat, (n I + Lambda)^-1)",
        MODEL + "; Gaussian prior of mean 0; the network is at the maximum of likelihood times prior",
    ),
    "laplace-prediction": Source(
        "immer-2021",
        "eq (9)",
        "h ~ N(h(theta-hat), J Sigma J'), the network linearised in its parameters",
        MODEL + "; Gaussian prior of mean 0; the network is at the maximum of likelihood times prior",
    ),
    "laplace-evidence": Source(
        "mackay-1992",
        "Section 3",
        "log p(y) = log p(y | theta-hat) - theta' Lambda theta / 2 - (log det(n I + Lambda) - log det Lambda) / 2",
        MODEL + "; Gaussian prior of mean 0; the network is at the maximum of likelihood times prior",
    ),
    "prediction-interval": Source(
        "van-der-vaart-1998",
        "Theorem 3.1",
        "Var(z) = J_z Cov J_z', Var(E[t]) = I(h) J_h Cov J_h' I(h)",
        MODEL + "; independent labels, many for each parameter; the network is at the maximum of the likelihood",
    ),
    "consolidation": Source(
        "kirkpatrick-2017",
        "eq (3), with Theorems 4 and 6 of Soen & Sun 2021 for its variance",
        "lambda/2 sum_i F_i (theta_i - theta*_i)^2, Var = lambda^2/4 (delta^2)' Cov(F-hat) delta^2",
        TWICE + "; diagonal Laplace approximation at the anchor; the Hessian estimate needs the second derivatives",
    ),
    "expected-gradient-length": Source(
        "settles-craven-2008",
        "expected gradient length",
        "E_y |dl(x, y)|; E_y |dl|^2 = tr I(theta|x), Var_y |dl|^2 = Var(r' J J' r)",
        MODEL,
    ),
    "length-element": Source(
        "sun-nielsen-2017",
        "length element of the parameter space; Theorem 4 of Soen & Sun 2021 for the variance of its estimate",
        "<delta, delta> = delta' I delta, KL = delta' I delta / 2 + O(|delta|^3)",
        MODEL,
    ),
    "bregman": Source(
        "amari-nagaoka-2000",
        "divergence of an exponential family",
        "KL[p_h|p_h'] = F(h') - F(h) - (h' - h)' eta(h)",
        "exponential-family response; both laws of one family",
    ),
    "fisher-rao-norm": Source("liang-2019", "definition of the Fisher-Rao norm", "|theta|_fr^2 = theta' I(theta) theta", MODEL),
    "information-volume": Source(
        "amari-nagaoka-2000",
        "volume element sqrt(det I), the density of Jeffreys' prior",
        "log sqrt(det I) = sum log lambda / 2",
        MODEL,
    ),
    "eigenpairs": Source(
        "soen-sun-2021",
        "eq (6); Theorem 4 along an eigenvector",
        "I q = lambda q, Var(q' I-hat q) = mean of M(Jq, Jq, Jq, Jq) / (n N)",
        MODEL + "; " + FIXED,
    ),
    "pruning": Source(
        "lecun-1990",
        "saliency of optimal brain damage",
        "theta_i^2 F_ii / 2",
        MODEL + "; at a minimum of the loss, where its Hessian is about the information; one parameter at a time",
    ),
    "fisher-merging": Source(
        "matena-raffel-2022",
        "Fisher merging",
        "sum_k F_k theta_k / sum_k F_k, Var = sum_k ((theta_k - theta-bar) / sum F)^2 Var(F-hat_k)",
        TWICE + "; diagonal Laplace approximations about each network; importances small errors beside their sum",
    ),
}
