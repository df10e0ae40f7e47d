"""Statements on the information, its estimators and their errors."""

from __future__ import annotations

from fisherstats.core.references.source import FIXED, MODEL, TWICE, Source

__all__ = ["ESTIMATION"]

ESTIMATION = {
    "output-information": Source(
        "soen-sun-2021", "Lemma 2", "I(h) = Cov(t(y)) = d eta / d h", "exponential family in canonical coordinates"
    ),
    "hidden-information": Source(
        "soen-sun-2021", "derivative lemma (slides, eq (19))", "I(h_l) = B_l' I(h_L) B_l with B_l = dh_L/dh_l", MODEL
    ),
    "hidden-information-variance": Source(
        "soen-sun-2021", "Theorem 4", "Var(B_u' S B_v) = M(B_u, B_v, B_u, B_v) / N for the columns of B_l", MODEL
    ),
    "jacobian": Source(
        "soen-sun-2021", "derivative lemma (slides, eq (19))", "dh_a / dW_l = D_l B_{l+1}' e_a hbar_l', d eta = I(h) dh", MODEL
    ),
    "information": Source("soen-sun-2021", "eq (6)", "I(theta) = mean over x of J' I(h) J", MODEL),
    "kronecker-factors": Source(
        "martens-grosse-2015",
        "Section 3",
        "B_l = mean of G_l' I(h) G_l (x) hbar hbar' is about G (x) A, parameters row-major",
        MODEL + "; the product of the means stands for the mean of the products: exact for one input only",
    ),
    "eigenvalue-correction": Source(
        "george-2018",
        "Section 3",
        "s_od = n^-1 sum_i (U' M_i U)_oo (V' hbar_i)_d^2 in the eigenbases U of G and V of A",
        MODEL + "; of all choices of s the closest to the exact block in Frobenius norm",
    ),
    "kronecker-error": Source(
        "martens-grosse-2015",
        "derived from Section 3",
        "|B_l - G (x) A|^2 = n^-2 sum_ij <M_i - G, M_j - G> <A_i - A, A_j - A>, M_i = G_l' I(h) G_l, A_i = hbar hbar'",
        MODEL,
    ),
    "score-estimator": Source(
        "soen-sun-2024", "eq (2)", "I-hat-1 = (1/N) sum_k score_k score_k', labels drawn from the model", MODEL
    ),
    "hessian-estimator": Source("soen-sun-2024", "eq (3)", "I-hat-2 = -(1/N) sum_k Hessian of log p(y_k|x)", TWICE),
    "drawn-labels": Source("soen-sun-2024", "eqs (2) and (3)", "y_k ~ p(y | h), k = 1 to N, for each input", MODEL),
    "both-estimators": Source("soen-sun-2024", "eqs (2) and (3)", "I-hat-1 and I-hat-2 from the same labels", TWICE),
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
        TWICE + "; " + FIXED,
    ),
    "estimator-variance-stratified": Source(
        "cochran-1977",
        "Section 5.3, one label in each of N strata of equal mass",
        "V = N^-2 sum_j Var_j(f) over the slices [j/N, (j+1)/N) of the distribution function, f the squared or linear score",
        TWICE + "; every given input is used with n_draws stratified labels",
    ),
    "calibration": Source(
        "soen-sun-2024",
        "derived from eqs (2) and (17)",
        "mean over calls = c times a candidate, by the total and by parts of the parameters",
        MODEL + "; calls of the function are independent, and their means nearly normal",
    ),
    "calibration-spread": Source(
        "soen-sun-2024",
        "derived from Lemma 3.1",
        "mean of (estimate / c - I)^2 / V over parameters and calls",
        TWICE + "; " + FIXED,
    ),
    "estimator-variance-random": Source(
        "soen-sun-2024",
        "Theorem 4.7",
        "Var = (1/n) (Var_x I(theta|x) + E_x V(theta|x) / N)",
        TWICE + "; inputs are independent draws, their variance estimated from the given inputs (ddof 1)",
    ),
    "estimator-variance-exact-labels": Source(
        "soen-sun-2024",
        "Theorem 4.7 without label noise",
        "Var = Var_x I(theta|x) / n",
        MODEL + "; inputs are independent draws, their variance estimated from the given inputs (ddof 1)",
    ),
    "estimator-variance-subsample": Source(
        "soen-sun-2024",
        "Theorem 4.7 with the finite population correction",
        "Var = (1 - m/n_all) s2_x / m + mean(V) / (N m)",
        TWICE + "; m inputs drawn without replacement from a finite population",
    ),
    "cross-covariance": Source(
        "soen-sun-2021",
        "derived from eqs (10) and (11)",
        "Cov(I-hat-1, I-hat-2) = -E[(dh.r)^2 (d2h.r)] / N",
        TWICE + "; both estimators from the same labels",
    ),
    "group-variance": Source(
        "soen-sun-2021",
        "Theorems 4 and 6, contracted over a group",
        "per input Var(r' A r), A = sum of J_i J_i' over the group",
        TWICE,
    ),
    "observed-error": Source(
        "soen-sun-2024", "Lemma 3.1", "standard deviation over replicates of an estimate", "independent replicates"
    ),
    "draws-needed": Source("soen-sun-2024", "Lemma 3.1", "N = V(n_draws=1) / (target^2 I^2), rounded up", TWICE + "; " + FIXED),
    "model": Source(
        "soen-sun-2021",
        "Section 2",
        "p(y|x, theta) = pi(y) exp(t(y)' h(x) - F(h(x)))",
        "the response is conditional on x",
    ),
    "covariance-score": Source(
        "soen-sun-2021", "Theorem 4", "Cov(I-hat-1)_ijkl = J_ai J_bj J_ck J_dl M_abcd / N", MODEL + "; " + FIXED
    ),
    "covariance-hessian": Source(
        "soen-sun-2021", "Theorem 6", "Cov(I-hat-2)_ijkl = H^a_ij H^b_kl I_ab / N", TWICE + "; " + FIXED
    ),
    "covariance-cross": Source(
        "soen-sun-2021",
        "derived from eqs (10) and (11)",
        "Cov(I-hat-1_ij, I-hat-2_kl) = -J_ai J_bj H^c_kl kappa_abc / N",
        TWICE + "; " + FIXED + "; both estimators from the same labels",
    ),
    "covariance-norms": Source(
        "soen-sun-2021",
        "Theorems 4 and 6, by Gram matrices",
        "|Cov_1|_F^2 = n^-4 N^-2 sum_ij tr(M_i G_ij M_j G_ij'), |Cov_2|_F^2 = n^-4 N^-2 sum_ij tr(I_i Q_ij I_j Q_ij')",
        TWICE + "; " + FIXED,
    ),
    "tensor-spectral": Source(
        "soen-sun-2021",
        "spectral remark (slides, eq (22))",
        "max <Cov, a x b x c x d> over unit vectors",
        TWICE + "; " + FIXED + "; the lower end is attained, the upper end is the matricised spectral norm",
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
        MODEL + "; independent probes per input; the Rademacher form is for the family's root of I(h); " + FIXED,
    ),
    "efron-curvature": Source(
        "efron-1975",
        "definition of the statistical curvature",
        "gamma^2 = (nu_20 nu_02 - nu_11^2) / nu_20^3",
        TWICE + "; one label per input, sums over inputs describe their joint law",
    ),
    "amari-chentsov": Source(
        "amari-nagaoka-2000", "Amari-Chentsov tensor", "T(u, v, w) = mean over x of kappa_3(Ju, Jv, Jw)", MODEL
    ),
    "delta-method": Source(
        "van-der-vaart-1998",
        "Theorem 3.1 with the second-order term",
        "phi(F-hat) = phi(F) + tr(X E) + D2phi[E,E] / 2 + ..., E = F-hat - F",
        TWICE + "; " + FIXED + "; E small beside damping and gaps between eigenvalues",
    ),
    "layer-errors": Source(
        "soen-sun-2024",
        "Lemma 3.1, by layer",
        "sqrt(V_j) / I of a layer's mean variance and mean information; N >= V_j / (target^2 I^2)",
        TWICE + "; " + FIXED,
    ),
    "coordinates": Source("soen-sun-2021", "Section 2", "row-major parameters, bias last in each row", "none"),
    "combination": Source(
        "soen-sun-2024",
        "Lemma 3.1, combined",
        "alpha = (V2 - C12) / (V1 + V2 - 2 C12) minimises Var(alpha I-hat-1 + (1 - alpha) I-hat-2)",
        TWICE + "; " + FIXED + "; both estimates from the same labels",
    ),
    "draws-needed-random": Source(
        "soen-sun-2024",
        "Theorem 4.7",
        "(Var_x I + E_x V / N) / N_x <= target^2 I^2, so N >= E_x V / (N_x target^2 I^2 - Var_x I)",
        TWICE + "; inputs are independent draws, their variance estimated from the given inputs (ddof 1)",
    ),
    "optimal-split": Source(
        "soen-sun-2024",
        "Theorem 4.7, minimised",
        "N* = sqrt(c_x E_x V / (c_y Var_x I)) at a given cost N_x (c_x + N c_y)",
        TWICE + "; inputs are independent draws, their variance estimated from the given inputs (ddof 1)",
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
        TWICE + "; " + FIXED + "; nearly normal estimates",
    ),
    "confidence-interval-sampled": Source(
        "soen-sun-2024",
        "central limit theorem with Theorem 4.7",
        "estimate exp(+- t se / estimate), t of Student's law with Satterthwaite's degrees of freedom",
        TWICE + "; inputs are a random sample in which the entry is seen, so that no single one of the others dominates the mean",
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
        TWICE + "; under the model the labels are draws; the inputs may be given, random or a subsample",
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
        "labels are independent draws from the given distributions; " + FIXED,
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
        TWICE + "; " + FIXED,
    ),
}
