"""Statements on bounds and on what the weights do."""

from __future__ import annotations

from fisherstats.core.references.source import FIXED, MODEL, TWICE, Source

__all__ = ["BOUNDS"]

BOUNDS = {
    "bounds": Source(
        "soen-sun-2024",
        "Theorem 4.1",
        "|dh|^4 lambda(M) / N bounds V1, |d2h|^2 lambda(I) / N bounds V2",
        TWICE + "; " + FIXED,
        "the smallest eigenvalues vanish for an overcomplete categorical law, so its printed lower bounds are 0",
    ),
    "information-bounds": Source("soen-sun-2024", "Theorem 4.1, eq (7)", "|dh|^2 lambda(I) bounds I(theta_i|x)", MODEL),
    "bhatia-davis": Source("bhatia-davis-2000", "Theorem 1", "Var(z) <= (max z - E z)(E z - min z)", "z has bounded support"),
    "pearson": Source("pearson-1916", "kurtosis >= skewness^2 + 1", "Var(z^2) >= E[z^3]^2 / E[z^2]", "fourth moment exists"),
    "class-envelopes": Source(
        "sun-2026",
        "envelopes of the core space",
        "sum of the largest lambda_k v_k v_k' <= I(h) = diag(p) - p p' <= diag(p)",
        "categorical response",
    ),
    "lumped-classes": Source(
        "sun-2026",
        "derived from the law of total variance",
        "0 <= I(theta_i) - I_k(theta_i) = P Var_q(dh_i), all classes but the k most probable ones taken as one of probability P",
        "categorical response",
    ),
    "covariance-bounds": Source(
        "soen-sun-2021",
        "Theorems 7 and 8",
        "|Cov_1|_F <= |J|_F^4 |M|_F / N, |Cov_2|_F <= |H|_F^2 |I(h)|_F / N, and sharper forms of both",
        TWICE + "; " + FIXED + "; several inputs by the triangle inequality",
    ),
    "trace-bounds": Source(
        "soen-sun-2024",
        "Corollary 4.6 and Theorem D.1, corrected",
        "tr I <= min(s_max(J)^2 tr I(h), |J|_F^2 lambda_max(I)), "
        "V1 <= min(s_max(vJac)^2 tr M, sum_i |d_i h|^4 lambda_max(M)) / N, "
        "V2 <= min(s_max(dHes)^2 tr I(h), |dHes|_F^2 lambda_max(I)) / N",
        TWICE + "; " + FIXED,
        "the first terms of (13), (14) and (15) are printed with |dh|_F, |dh|_F^2 and |dHes|_F, which is false, and the sum in "
        "(23) over T instead of T^2 eigenvalues; given here as corrected",
    ),
    "trace-bounds-printed": Source(
        "soen-sun-2024",
        "Corollary 4.6 (13)-(15) and Theorem D.1 (22)-(24), as printed",
        "tr I <= min(|dh|_F tr I(h), |dh|_F^2 lambda_max(I)), V1 <= min(|dh|_F^2 tr M, |dh|_F^4 lambda_max(M)) / N, "
        "V2 <= min(|dHes|_F tr I(h), |dHes|_F^2 lambda_max(I)) / N",
        "none under which it holds: false where norms exceed 1",
        "false as printed: with one output and |dh| = 3, (13) reads 9 I <= 3 I; (23) with T instead of T^2 terms is violated by "
        "the Gaussian; use form='corrected'",
    ),
    "derivatives": Source(
        "soen-sun-2021",
        "derivative lemma (slides, eq (19)), and the second derivative of h",
        "dh^a/dW_l = D_l B_{l+1}' e_a hbar_l'",
        "h twice differentiable at the given parameters; spectral norms are those of the matrix with the outputs for rows",
    ),
    "weight-norms": Source(
        "soen-sun-2021",
        "norm theorem (slides, eqs (20) and (21))",
        "norms of W_l without its bias; c_1 = sup|sigma'|, c_2 = sup|sigma''|",
        "weights as given; suprema as certified or declared with the activation",
    ),
    "weight-norm-bounds": Source(
        "soen-sun-2021",
        "norm theorem (slides, eqs (20) and (21)), corrected, for any slope, and with second derivatives",
        "|dh/dW_l| <= |hbar_l| prod c_1 prod |W_i|, sqrt(n_L) |hbar_L-1|_2 in the last layer (Frobenius); "
        "|d2h/dW_l dW_m| <= |hbar_l| |hbar_m| sum_k c_2 |B_k+1| |A_kl| |A_km| + [l < m] |B_m+1 D_m| |D_m-1 A_m-1,l| |hbar_l|",
        "activations with bounded first and second derivatives; a link enters with its largest slope and bend at each input",
        "(20) is printed without the factor sqrt(n_L) in the last layer; given here as corrected, and with the supremum of the "
        "slope where the hypothesis |sigma'| <= 1 does not hold",
    ),
    "weight-norm-bounds-printed": Source(
        "soen-sun-2021",
        "norm theorem (slides, eqs (20) and (21)), as printed",
        "|dh/dW_l| <= |hbar_l| prod_{i>l} |W_i|",
        "none under which (20) holds with several outputs; |sigma'| <= 1 below the last layer; no link",
        "(20) is false as printed: in the last layer the Frobenius norm is sqrt(n_L) |hbar|; GELU, SiLU, Mish, SELU and erf are "
        "outside the hypothesis |sigma'| <= 1 of both; use form='corrected'",
    ),
    "norm-sweep": Source(
        "soen-sun-2024",
        "Lemma 3.1, along a scale of the weights",
        "d log V_j / d log s; V_1 ~ s^4 and V_2 ~ s^2 below the last layer if its kernel alone is scaled and I(h) is constant",
        TWICE + "; " + FIXED,
    ),
    "off-diagonal-bounds": Source(
        "soen-sun-2024",
        "Theorem C.1, Lemma C.2, Corollary C.3",
        "Var(I-hat-1)_ij <= |d_i h|^2 |d_j h|^2 gamma_max(M) / N, Var(I-hat-2)_ij <= |d2_ij h|^2 s_max(I) / N",
        TWICE + "; " + FIXED,
    ),
    "input-variance-bound": Source(
        "soen-sun-2024",
        "Lemma 4.8",
        "Var_x I(theta_i|x) <= E_x[|d_i h|^4 lambda_max(I(h|x))^2]",
        MODEL + "; x from the law that is uniform on the given inputs, times n / (n - 1) for the sample variance",
    ),
    "family-extremes": Source(
        "soen-sun-2024",
        "Propositions 4.3 and 5.1, Corollaries 4.2 and R.1, Theorem 5.2",
        "|t - E t|^2 <= B gives lambda~(K) <= B lambda_max(I) <= B^2; "
        "lambda~(M) <= lambda~(K) - lambda_min(I)^2; classes: B = 2, lambda_max(I) <= m, lambda~(M) <= 2 m with "
        "m = min(max p, 1 - |p|^2); unit Gaussian: 1 and 2",
        "exponential family in canonical coordinates",
    ),
    "weight-penalties": Source(
        "soen-sun-2021",
        "conclusion",
        "norms of the weights bound the derivatives, and so the covariance of the estimators",
        TWICE,
    ),
}
