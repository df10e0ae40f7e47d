"""The papers and their numbered statements: the single definition of all citations.

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
    "tutorial": "Shukla, Fisher Information Applications in Gradient Descent and Incremental Learning, slides, 2021",
    "bhatia-davis-2000": "Bhatia & Davis, A Better Bound on the Variance, Amer. Math. Monthly 107 (2000)",
    "sun-2026": (
        "Sun, Deterministic Bounds and Random Estimates of Metric Tensors on Neuromanifolds, ICLR 2026, arXiv:2505.13614"
    ),
    "kimura-2022": "Kimura, slides on Soen & Sun 2021, whose numbers of equations are cited here, 2022",
    "efron-hinkley-1978": (
        "Efron & Hinkley, Assessing the Accuracy of the Maximum Likelihood Estimator: Observed versus Expected Fisher "
        "Information, Biometrika 65 (1978)"
    ),
    "martens-grosse-2015": (
        "Martens & Grosse, Optimizing Neural Networks with Kronecker-factored Approximate Curvature, ICML 2015, arXiv:1503.05671"
    ),
    "efron-1975": "Efron, Defining the Curvature of a Statistical Problem, Ann. Statist. 3 (1975)",
    "amari-nagaoka-2000": "Amari & Nagaoka, Methods of Information Geometry, AMS and Oxford University Press (2000)",
    "van-der-vaart-1998": "van der Vaart, Asymptotic Statistics, Cambridge University Press (1998)",
    "white-1982": "White, Maximum Likelihood Estimation of Misspecified Models, Econometrica 50 (1982)",
    "kirkpatrick-2017": "Kirkpatrick et al., Overcoming Catastrophic Forgetting in Neural Networks, PNAS 114 (2017)",
    "settles-craven-2008": "Settles & Craven, An Analysis of Active Learning Strategies for Sequence Labeling Tasks, EMNLP 2008",
    "liang-2019": "Liang, Poggio, Rakhlin & Stokes, Fisher-Rao Metric, Geometry, and Complexity of Neural Networks, AISTATS 2019",
    "lecun-1990": "LeCun, Denker & Solla, Optimal Brain Damage, NIPS 1990",
    "matena-raffel-2022": "Matena & Raffel, Merging Models with Fisher-Weighted Averaging, NeurIPS 2022, arXiv:2111.09832",
    "pearson-1916": "Pearson, Mathematical Contributions to the Theory of Evolution XIX, Phil. Trans. R. Soc. A 216 (1916)",
}


@dataclass(frozen=True)
class Source:
    """One numbered statement: its location, formula, assumptions, and errata of the printed version."""

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
        "soen-sun-2021", "derivative lemma (slides, eq (19))", "I(h_l) = B_l' I(h_L) B_l with B_l = dh_L/dh_l", _MODEL
    ),
    "hidden-information-variance": Source(
        "soen-sun-2021", "Theorem 4", "Var(B_u' S B_v) = M(B_u, B_v, B_u, B_v) / N for the columns of B_l", _MODEL
    ),
    "information": Source("soen-sun-2021", "eq (6)", "I(theta) = mean over x of J' I(h) J", _MODEL),
    "kronecker-factors": Source(
        "martens-grosse-2015",
        "Section 3",
        "B_l = mean of G_l' I(h) G_l (x) hbar hbar' is about G (x) A, parameters row-major",
        _MODEL + "; the product of the means stands for the mean of the products: exact for one input only",
    ),
    "kronecker-error": Source(
        "martens-grosse-2015",
        "derived from Section 3",
        "|B_l - G (x) A|^2 = n^-2 sum_ij <M_i - G, M_j - G> <A_i - A, A_j - A>, M_i = G_l' I(h) G_l, A_i = hbar hbar'",
        _MODEL,
    ),
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
    "estimator-variance-exact-labels": Source(
        "soen-sun-2024",
        "Theorem 4.7 without label noise",
        "Var = Var_x I(theta|x) / n",
        _MODEL + "; inputs are independent draws, their variance estimated from the given inputs (ddof 1)",
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
    "covariance-score": Source(
        "soen-sun-2021", "Theorem 4", "Cov(I-hat-1)_ijkl = J_ai J_bj J_ck J_dl M_abcd / N", _MODEL + "; " + _FIXED
    ),
    "covariance-hessian": Source(
        "soen-sun-2021", "Theorem 6", "Cov(I-hat-2)_ijkl = H^a_ij H^b_kl I_ab / N", _TWICE + "; " + _FIXED
    ),
    "covariance-cross": Source(
        "soen-sun-2021",
        "derived from eqs (10) and (11)",
        "Cov(I-hat-1_ij, I-hat-2_kl) = -J_ai J_bj H^c_kl kappa_abc / N",
        _TWICE + "; " + _FIXED + "; both estimators from the same labels",
    ),
    "covariance-norms": Source(
        "soen-sun-2021",
        "Theorems 4 and 6, by Gram matrices",
        "|Cov_1|_F^2 = n^-4 N^-2 sum_ij tr(M_i G_ij M_j G_ij'), |Cov_2|_F^2 = n^-4 N^-2 sum_ij tr(I_i Q_ij I_j Q_ij')",
        _TWICE + "; " + _FIXED,
    ),
    "tensor-spectral": Source(
        "soen-sun-2021",
        "spectral remark (slides, eq (22))",
        "max <Cov, a x b x c x d> over unit vectors",
        _TWICE + "; " + _FIXED + "; the lower end is attained, the upper end is the matricised spectral norm",
    ),
    "probe-estimator": Source(
        "sun-2026",
        "Hutchinson estimator, input by input",
        "F-hat_ii = (1/N) sum_m (sum_k xi_mk R_ki)^2, R = (root of I(h)) J",
        "exponential-family response; independent probes per input with entries of mean 0 and variance 1; no labels are drawn",
    ),
    "probe-variance": Source(
        "sun-2026",
        "variance of the Hutchinson estimator; for labels Lemma 3.1 of 2024",
        "2 F_ii^2 / N for Gaussian, 2 (F_ii^2 - sum_k R_ki^4) / N for Rademacher probes",
        _MODEL + "; independent probes per input; the Rademacher form is for the family's root of I(h); " + _FIXED,
    ),
    "class-envelopes": Source(
        "sun-2026",
        "envelopes of the core space",
        "sum of the largest lambda_k v_k v_k' <= I(h) = diag(p) - p p' <= diag(p)",
        "categorical response",
    ),
    "efron-curvature": Source(
        "efron-1975",
        "definition of the statistical curvature",
        "gamma^2 = (nu_20 nu_02 - nu_11^2) / nu_20^3",
        _TWICE + "; one label per input, sums over inputs describe their joint law",
    ),
    "amari-chentsov": Source(
        "amari-nagaoka-2000", "Amari-Chentsov tensor", "T(u, v, w) = mean over x of kappa_3(Ju, Jv, Jw)", _MODEL
    ),
    "delta-method": Source(
        "van-der-vaart-1998",
        "Theorem 3.1 with the second-order term",
        "phi(F-hat) = phi(F) + tr(X E) + D2phi[E,E] / 2 + ..., E = F-hat - F",
        _TWICE + "; " + _FIXED + "; E small beside damping and gaps between eigenvalues",
    ),
    "covariance-bounds": Source(
        "soen-sun-2021",
        "Theorems 7 and 8",
        "|Cov_1|_F <= |J|_F^4 |M|_F / N, |Cov_2|_F <= |H|_F^2 |I(h)|_F / N, and sharper forms of both",
        _TWICE + "; " + _FIXED + "; several inputs by the triangle inequality",
    ),
    "trace-bounds": Source(
        "soen-sun-2024",
        "Corollary 4.6 and Theorem D.1, corrected",
        "tr I <= min(s_max(J)^2 tr I(h), |J|_F^2 lambda_max(I)), "
        "V1 <= min(s_max(vJac)^2 tr M, sum_i |d_i h|^4 lambda_max(M)) / N, "
        "V2 <= min(s_max(dHes)^2 tr I(h), |dHes|_F^2 lambda_max(I)) / N",
        _TWICE + "; " + _FIXED,
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
        _TWICE + "; " + _FIXED,
    ),
    "layer-errors": Source(
        "soen-sun-2024",
        "Lemma 3.1, by layer",
        "sqrt(V_j) / I of a layer's mean variance and mean information; N >= V_j / (target^2 I^2)",
        _TWICE + "; " + _FIXED,
    ),
    "off-diagonal-bounds": Source(
        "soen-sun-2024",
        "Theorem C.1, Lemma C.2, Corollary C.3",
        "Var(I-hat-1)_ij <= |d_i h|^2 |d_j h|^2 gamma_max(M) / N, Var(I-hat-2)_ij <= |d2_ij h|^2 s_max(I) / N",
        _TWICE + "; " + _FIXED,
    ),
    "input-variance-bound": Source(
        "soen-sun-2024",
        "Lemma 4.8",
        "Var_x I(theta_i|x) <= E_x[|d_i h|^4 lambda_max(I(h|x))^2]",
        _MODEL + "; x from the law that is uniform on the given inputs, times n / (n - 1) for the sample variance",
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
        _TWICE,
    ),
    "coordinates": Source("soen-sun-2021", "Section 2", "row-major parameters, bias last in each row", "none"),
    "combination": Source(
        "soen-sun-2024",
        "Lemma 3.1, combined",
        "alpha = (V2 - C12) / (V1 + V2 - 2 C12) minimises Var(alpha I-hat-1 + (1 - alpha) I-hat-2)",
        _TWICE + "; " + _FIXED + "; both estimates from the same labels",
    ),
    "draws-needed-random": Source(
        "soen-sun-2024",
        "Theorem 4.7",
        "(Var_x I + E_x V / N) / N_x <= target^2 I^2, so N >= E_x V / (N_x target^2 I^2 - Var_x I)",
        _TWICE + "; inputs are independent draws, their variance estimated from the given inputs (ddof 1)",
    ),
    "optimal-split": Source(
        "soen-sun-2024",
        "Theorem 4.7, minimised",
        "N* = sqrt(c_x E_x V / (c_y Var_x I)) at a given cost N_x (c_x + N c_y)",
        _TWICE + "; inputs are independent draws, their variance estimated from the given inputs (ddof 1)",
    ),
    "ranking-probability": Source(
        "van-der-vaart-1998",
        "multivariate central limit theorem",
        "P(t_a > t_b) = Phi((t_a - t_b) / sd), 1 - sum_k Phi(-z_k) <= P(order) <= min_k Phi(z_k) over neighbours in the order",
        "nearly normal totals of many inputs, their covariance estimated; no prior knowledge of the totals",
    ),
    "confidence-interval": Source(
        "soen-sun-2024",
        "central limit theorem with Lemma 3.1",
        "estimate +- z sqrt(V)",
        _TWICE + "; " + _FIXED + "; nearly normal estimates",
    ),
    "confidence-interval-sampled": Source(
        "soen-sun-2024",
        "central limit theorem with Theorem 4.7",
        "estimate exp(+- t se / estimate), t of Student's law with Satterthwaite's degrees of freedom",
        _TWICE
        + "; inputs are a random sample in which the entry is seen, so that no single one of the others dominates the mean",
    ),
    "observed-information": Source(
        "efron-hinkley-1978",
        "observed information; eq (3) of Soen & Sun 2024 at the data labels",
        "minus the Hessian of the log-likelihood = J' I(h) J - sum_a r_a H^a",
        "labels are data, not draws; h twice differentiable at the given parameters",
    ),
    "observed-z": Source(
        "soen-sun-2024",
        "Lemma 3.1",
        "(observed - expected) / sqrt(V2), N = 1",
        _TWICE + "; under the model the labels are draws; the inputs may be given, random or a subsample",
    ),
    "kinks": Source(
        "soen-sun-2021",
        "smoothness theorem",
        "the Hessian identity needs h twice differentiable at the given parameters",
        "inputs and parameters as given",
    ),
    "empirical-variance": Source(
        "soen-sun-2024",
        "Corollary G.1",
        "V = (E_q[(dh.r)^4] - E_q[(dh.r)^2]^2) / N, r about the mean of the model",
        "labels are independent draws from the given distributions; " + _FIXED,
    ),
    "empirical-variance-random": Source(
        "soen-sun-2024",
        "Corollary G.2",
        "Var = (1/n) (Var_x I_q(theta|x) + E_x V(theta|x) / N)",
        "inputs are independent draws, their variance estimated from the given inputs (ddof 1); labels from given distributions",
    ),
    "relative-fisher": Source(
        "sun-nielsen-2017",
        "table of subsystems, neurons",
        "g(w|h) = nu_f(w, h) hbar hbar'; nu_f = sech^2(a) (tanh), sigm(a) sigm(-a) (sigmoid), f'(a)^2 / s^2 (Gaussian response)",
        "the layer's input is given; a neuron responds with a binary variable (tanh, sigmoid) or a Gaussian one about its value",
    ),
    "relative-layer": Source(
        "sun-nielsen-2017",
        "table of subsystems, layers",
        "g(W|h) = (R'R) (x) hbar hbar'; R'R = diag(nu_f) (layer), diag(p) - pp' (softmax), "
        "[sum_k nu(c_k) c_ki c_kj] f'(a_i) f'(a_j) (two layers)",
        "the layer's input is given; units between the weights and the response are deterministic",
    ),
    "learning-zone": Source(
        "sun-nielsen-2017",
        "effective learning zone",
        "nu_f(w, h) is largest where the activation is steepest, and vanishes in its flat tails",
        "as for the metric of a neuron",
    ),
    "pullback": Source(
        "sun-nielsen-2017",
        "change of parameters",
        "g_Theta = J' g_Lambda J with J = dLambda / dTheta, so dTheta' g_Theta dTheta = dLambda' g_Lambda dLambda",
        "Lambda is a differentiable function of Theta",
    ),
    "definiteness": Source(
        "soen-sun-2021",
        "section 3.4",
        "N >= S / (n delta lambda_min^2) gives P(I-hat-2 > 0) >= 1 - delta, S the mean over inputs of the sum of all V2",
        _TWICE + "; " + _FIXED,
    ),
    "asymptotic-covariance": Source(
        "van-der-vaart-1998",
        "Theorem 5.39 and Section 5.5",
        "sqrt(n) (theta-hat - theta) -> N(0, I^-1), so Cov is about phi (n I)^+",
        _MODEL + "; independent labels, many for each parameter; the network is at the maximum of the likelihood",
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
        _MODEL + "; the network is at the true parameters",
    ),
    "wald-interval": Source(
        "van-der-vaart-1998",
        "Section 5.6 and Chapter 15, Wald intervals",
        "theta-hat +- z se",
        _MODEL + "; independent labels, many for each parameter; the network is at the maximum of the likelihood",
    ),
    "prediction-interval": Source(
        "van-der-vaart-1998",
        "Theorem 3.1",
        "Var(z) = J_z Cov J_z', Var(E[t]) = I(h) J_h Cov J_h' I(h)",
        _MODEL + "; independent labels, many for each parameter; the network is at the maximum of the likelihood",
    ),
    "consolidation": Source(
        "kirkpatrick-2017",
        "eq (3), with Theorems 4 and 6 of Soen & Sun 2021 for its variance",
        "lambda/2 sum_i F_i (theta_i - theta*_i)^2, Var = lambda^2/4 (delta^2)' Cov(F-hat) delta^2",
        _TWICE + "; diagonal Laplace approximation at the anchor; the Hessian estimate needs the second derivatives",
    ),
    "expected-gradient-length": Source(
        "settles-craven-2008",
        "expected gradient length",
        "E_y |dl(x, y)|; E_y |dl|^2 = tr I(theta|x), Var_y |dl|^2 = Var(r' J J' r)",
        _MODEL,
    ),
    "length-element": Source(
        "sun-nielsen-2017",
        "length element of the parameter space; Theorem 4 of Soen & Sun 2021 for the variance of its estimate",
        "<delta, delta> = delta' I delta, KL = delta' I delta / 2 + O(|delta|^3)",
        _MODEL,
    ),
    "bregman": Source(
        "amari-nagaoka-2000",
        "divergence of an exponential family",
        "KL[p_h|p_h'] = F(h') - F(h) - (h' - h)' eta(h)",
        "exponential-family response; both laws of one family",
    ),
    "fisher-rao-norm": Source("liang-2019", "definition of the Fisher-Rao norm", "|theta|_fr^2 = theta' I(theta) theta", _MODEL),
    "information-volume": Source(
        "amari-nagaoka-2000",
        "volume element sqrt(det I), the density of Jeffreys' prior",
        "log sqrt(det I) = sum log lambda / 2",
        _MODEL,
    ),
    "eigenpairs": Source(
        "soen-sun-2021",
        "eq (6); Theorem 4 along an eigenvector",
        "I q = lambda q, Var(q' I-hat q) = mean of M(Jq, Jq, Jq, Jq) / (n N)",
        _MODEL + "; " + _FIXED,
    ),
    "pruning": Source(
        "lecun-1990",
        "saliency of optimal brain damage",
        "theta_i^2 F_ii / 2",
        _MODEL + "; at a minimum of the loss, where its Hessian is about the information; one parameter at a time",
    ),
    "fisher-merging": Source(
        "matena-raffel-2022",
        "Fisher merging",
        "sum_k F_k theta_k / sum_k F_k, Var = sum_k ((theta_k - theta-bar) / sum F)^2 Var(F-hat_k)",
        _TWICE + "; diagonal Laplace approximations about each network; importances small errors beside their sum",
    ),
}


def citation(key: str) -> str:
    """Return 'statement: formula (paper)' for a key."""
    source = SOURCES[key]
    return f"{source.statement}: {source.formula} [{PAPERS[source.paper]}]"
