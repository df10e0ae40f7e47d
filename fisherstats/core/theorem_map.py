"""The numbered statements of the papers, with the function and the test of each, or the reason why there is none.

`docs/theorem_map.md` is written from this table (`python -m docs.theorem_map`).
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["STATEMENTS", "Statement"]


@dataclass(frozen=True)
class Statement:
    """One numbered statement of a paper."""

    paper: str
    number: str
    says: str
    functions: tuple[str, ...] = ()
    """Dotted names inside fisherstats."""
    tests: tuple[str, ...] = ()
    """Test files."""
    reason: str = ""
    """Why there is no function or no test."""
    note: str = ""
    """Errata and differences from the printed version."""


_2021, _2024, _2017 = "soen-sun-2021", "soen-sun-2024", "sun-nielsen-2017"

STATEMENTS = (
    Statement(
        _2021,
        "eq (6)",
        "I(theta) = E[J' I(h) J]",
        ("fisher_information", "fisher_operator", "theory.fisher.unit_factors"),
        ("tests/theory/test_information.py",),
    ),
    Statement(
        _2021,
        "Lemma 2",
        "I(h) = Cov(t) = d eta / d h",
        ("output_information",),
        ("tests/theory/test_information.py", "tests/models/test_families_moments.py"),
    ),
    Statement(
        _2021,
        "Theorem 3",
        "the two forms of the information agree for activations of class C2",
        ("estimate_fisher", "kink_report", "core.validation.inputs.kink_free"),
        ("tests/quantities/information/test_monte_carlo.py", "tests/core/validation/test_bad_input.py"),
    ),
    Statement(
        _2021,
        "corollary on ReLU",
        "networks with ReLU do not have the second form",
        ("kink_report", "estimate_fisher", "core.validation.inputs.kink_free"),
        (
            "tests/quantities/information/test_kinks.py",
            "tests/core/validation/test_bad_input.py",
            "tests/theory/test_estimator_variance.py",
        ),
        note="too strong: only points on a kink are excluded, so the estimator refuses only those",
    ),
    Statement(
        _2021,
        "Theorem 4",
        "Cov(I-hat-1)_ijkl = J_ai J_bj J_ck J_dl M_abcd / N",
        ("estimator_covariance", "covariance_product", "functional_variance", "hidden_information_variance"),
        ("tests/theory/test_covariances.py",),
    ),
    Statement(
        _2021,
        "Lemma 5",
        "K = fourth cumulant + three pairings of I",
        ("models.families.Law.fourth_moment", "models.families.Law.square_variance"),
        ("tests/models/test_families_moments.py",),
    ),
    Statement(
        _2021,
        "Theorem 6",
        "Cov(I-hat-2)_ijkl = H^a_ij H^b_kl I_ab / N",
        ("estimator_covariance", "covariance_product", "functional_variance"),
        ("tests/theory/test_covariances.py",),
    ),
    Statement(
        _2021,
        "Theorem 7",
        "|Cov(I-hat-1)|_F <= |J|_F^4 |M|_F / N",
        ("covariance_bounds", "covariance_norms"),
        ("tests/quantities/bounds/test_covariance.py", "tests/theory/test_tensor_bounds.py", "validation/golden_table"),
    ),
    Statement(
        _2021,
        "Theorem 8",
        "|Cov(I-hat-2)|_F <= |H|_F^2 |I(h)|_F / N",
        ("covariance_bounds", "covariance_norms"),
        ("tests/quantities/bounds/test_covariance.py", "tests/theory/test_tensor_bounds.py", "validation/golden_table"),
    ),
    Statement(
        _2021,
        "Section 3.4",
        "Chebyshev: how many draws for an error, and for I-hat-2 to be positive definite",
        ("definiteness", "plan_draws"),
        ("tests/quantities/uncertainty/test_definiteness.py", "tests/quantities/uncertainty/test_sample_size.py"),
    ),
    Statement(
        _2021,
        "derivative lemma (slides, eq (19))",
        "dh_L^a/dW_l = D_l B_{l+1}' e_a hbar_l'",
        ("models.derivatives.jacobians", "hidden_information"),
        ("tests/theory/test_information.py",),
    ),
    Statement(
        _2021,
        "norm theorem (slides, eq (20))",
        "|B_{l+1} D_l|_F is bounded by the product of the weights' Frobenius norms",
        ("derivative_bounds", "weight_norms", "theory.weight_norms.first_bound"),
        ("tests/quantities/bounds/test_derivatives.py", "tests/theory/test_weights.py", "validation/weight_norms"),
        reason="for any slope, with its supremum: GELU, SiLU, Mish, SELU and erf are outside the hypothesis |sigma'| <= 1",
        note="false at the last layer for more than one output: the empty product must be sqrt(n_L); kept as form='printed', see "
        "validation/weight_norms",
    ),
    Statement(
        _2021,
        "spectral remark (slides, eqs (21), (22))",
        "the same with largest singular values",
        ("derivative_bounds", "covariance_norms", "theory.weight_norms.first_bound"),
        (
            "tests/quantities/bounds/test_derivatives.py",
            "tests/theory/test_weights.py",
            "tests/theory/test_covariances.py",
            "validation/weight_norms",
        ),
        reason="the norm of eq (22) is given as an interval; (21) for any slope, with its supremum",
    ),
    Statement(
        _2024,
        "eqs (2), (3)",
        "the score estimator and the Hessian estimator",
        ("estimate_fisher",),
        ("tests/quantities/information/test_monte_carlo.py",),
    ),
    Statement(
        _2024,
        "Lemma 3.1",
        "I(theta_i|x), V_1 and V_2 in closed form",
        ("estimator_variance",),
        ("tests/theory/test_estimator_variance.py",),
    ),
    Statement(
        _2024,
        "Theorem 4.1",
        "element-wise bounds (7) to (9)",
        ("variance_bounds",),
        ("tests/quantities/bounds/test_variance.py", "tests/theory/test_bounds.py"),
    ),
    Statement(
        _2024,
        "Corollary 4.2",
        "extremes of M from those of K",
        ("family_extremes",),
        ("tests/quantities/bounds/test_covariance.py", "validation/errata"),
        reason="one of several bounds, of which the smallest is used: with Proposition 4.3 it gives 1/16 for two Bernoulli "
        "outputs at p = 1/2, the exact value, where the largest eigenvalue of M on symmetric matrices is 1/8; this map once "
        "said that the eigenvalue is always the tighter one",
    ),
    Statement(
        _2024,
        "Proposition 4.3",
        "bounded t: lambda(K) <= B lambda(I)",
        ("family_extremes",),
        ("tests/quantities/bounds/test_covariance.py",),
    ),
    Statement(
        _2024,
        "Remark 4.4",
        "V_2 = 0 in the last canonical layer",
        ("estimator_variance",),
        ("tests/quantities/test_precision.py",),
    ),
    Statement(
        _2024,
        "Remark 4.5",
        "V_2 of the last but one layer is sigma''^2 hbar^4 u'Iu",
        ("models.derivatives.curvatures",),
        ("tests/theory/test_estimator_variance.py",),
    ),
    Statement(
        _2024,
        "Corollary 4.6",
        "bounds of the trace variances",
        ("trace_bounds",),
        ("tests/quantities/bounds/test_covariance.py", "tests/theory/test_tensor_bounds.py", "validation/errata"),
        note="false as printed: the norms need the powers 2, 4 and 2; kept as form='printed', see validation/errata",
    ),
    Statement(
        _2024,
        "Theorem 4.7",
        "random inputs: (Var_x I + E_x V / N) / n",
        ("estimator_variance", "theory.estimator_moments.under_design"),
        ("tests/theory/test_estimator_variance.py", "tests/quantities/information/test_monte_carlo.py"),
    ),
    Statement(
        _2024,
        "Lemma 4.8",
        "Var_x I(theta_i|x) <= E|dh|^4 lambda_max^2(I)",
        ("input_variance_bounds",),
        ("tests/quantities/bounds/test_covariance.py",),
    ),
    Statement(
        _2024,
        "Proposition 5.1",
        "a Gaussian of unit variance has the extremes 1 and 2",
        ("variance_bounds", "family_extremes"),
        ("tests/quantities/bounds/test_variance.py",),
    ),
    Statement(
        _2024,
        "Theorem 5.2",
        "categorical: lambda(I) <= m(x), lambda~(M) <= 2 m(x)",
        ("family_extremes",),
        ("tests/quantities/bounds/test_covariance.py",),
    ),
    Statement(_2024, "eq (17)", "the empirical Fisher", ("empirical_fisher",), ("tests/theory/test_empirical.py",)),
    Statement(
        _2024,
        "Lemma 6.1",
        "bias of the empirical Fisher",
        ("empirical_fisher", "bias_signature"),
        ("tests/theory/test_empirical.py",),
    ),
    Statement(
        _2024,
        "Theorem C.1",
        "variances of the off-diagonal entries",
        ("off_diagonal_bounds", "theory.entry_variances.score_entry_variances"),
        ("tests/quantities/bounds/test_covariance.py", "tests/theory/test_covariances.py"),
    ),
    Statement(_2024, "Lemma C.2", "bounds of them", ("off_diagonal_bounds",), ("tests/quantities/bounds/test_covariance.py",)),
    Statement(
        _2024,
        "Corollary C.3",
        "trivial lower bounds of these variances",
        ("off_diagonal_bounds",),
        ("tests/quantities/bounds/test_covariance.py",),
    ),
    Statement(
        _2024,
        "Theorem D.1",
        "trace bounds by the whole spectrum",
        ("trace_bounds",),
        ("tests/quantities/bounds/test_covariance.py", "tests/theory/test_tensor_bounds.py", "validation/errata"),
        note="the sum runs over T^2 eigenvalues, here over the T(T+1)/2 of the symmetric matrices; with T terms it is violated",
    ),
    Statement(
        _2024,
        "Theorem D.2",
        "generalised Ruhe inequality",
        ("trace_bounds",),
        ("tests/quantities/bounds/test_covariance.py",),
        reason="used, not restated",
    ),
    Statement(
        _2024, "Appendix E", "I(h) of the softmax", ("models.families.Categorical",), ("tests/models/test_families_moments.py",)
    ),
    Statement(
        _2024,
        "Corollaries G.1, G.2",
        "variance of the empirical Fisher",
        ("empirical_variance",),
        ("tests/quantities/information/test_empirical_variance.py", "tests/theory/test_empirical_truth.py"),
    ),
    Statement(
        _2024,
        "Remark H.1",
        "I-hat-2 on the diagonal without second derivatives of F",
        ("theory.fisher.hessian_factors",),
        ("tests/quantities/information/test_monte_carlo.py",),
    ),
    Statement(
        _2024,
        "Lemmas I.1, J.1",
        "Rayleigh quotients of I and M",
        ("theory.variance_inequalities.LawBounds",),
        ("tests/quantities/bounds/test_variance.py",),
        reason="steps of proofs",
    ),
    Statement(
        _2024, "Corollary R.1", "B = 2 for one-hot t", ("family_extremes",), ("tests/quantities/bounds/test_covariance.py",)
    ),
    Statement(
        "martens-grosse-2015",
        "Section 3",
        "the block of a layer is about G (x) A",
        ("fisher_information", "kfac_error", "theory.kronecker.FactorSum", "theory.kronecker.pair_sums"),
        ("tests/theory/test_kronecker.py",),
    ),
    Statement(
        "efron-hinkley-1978",
        "definition",
        "observed information: minus the Hessian of the log-likelihood at the data",
        ("observed_information", "applications.asymptotic_covariance"),
        ("tests/theory/test_observed.py", "tests/applications/test_maximum_likelihood.py"),
    ),
    Statement(
        "efron-1975",
        "Section 3",
        "curvature of a one-parameter family",
        ("efron_curvature",),
        ("tests/theory/test_curvature.py",),
    ),
    Statement(
        "amari-nagaoka-2000", "Section 2.3", "third-order tensor", ("amari_chentsov",), ("tests/theory/test_curvature.py",)
    ),
    Statement(
        "sun-2026",
        "estimators and envelopes",
        "random probes of the metric and deterministic envelopes for a softmax",
        ("estimate_fisher", "information_envelopes"),
        ("tests/quantities/information/test_probes.py",),
    ),
    Statement(
        _2017,
        "definition",
        "the relative Fisher information metric of a subsystem; that of the whole system is the Fisher information",
        ("relative_fisher", "subsystem_metric"),
        ("tests/theory/test_relative.py",),
    ),
    Statement(
        _2017,
        "table: tanh neuron",
        "sech^2(a) x x'",
        ("subsystem_metric", "theory.relative_information.Responses"),
        ("tests/theory/test_relative.py",),
    ),
    Statement(
        _2017,
        "table: sigmoid neuron",
        "sigm(a) (1 - sigm(a)) x x'",
        ("subsystem_metric", "theory.relative_information.Responses"),
        ("tests/theory/test_relative.py",),
    ),
    Statement(
        _2017,
        "table: (parametric, smoothed) ReLU",
        "[iota + (1 - iota) sigm((1 - iota) a / omega)]^2 x x' / s^2",
        ("subsystem_metric", "models.activations.SmoothedReLU", "models.activations.LeakyReLU"),
        ("tests/theory/test_relative.py", "tests/models/test_activations.py"),
    ),
    Statement(
        _2017,
        "table: ELU",
        "x x' for a > 0, (alpha e^a)^2 x x' below",
        ("subsystem_metric", "models.activations.ELU"),
        ("tests/theory/test_relative.py",),
    ),
    Statement(
        _2017,
        "table: any smooth activation",
        "f'(a)^2 x x' / s^2 for a Gaussian response",
        ("subsystem_metric", "theory.relative_information.Responses"),
        ("tests/theory/test_relative.py",),
    ),
    Statement(
        _2017,
        "table: linear layer, non-linear layer",
        "diag[nu_f(w_1) x x', ..., nu_f(w_m) x x'], nu = 1 / s^2 if linear",
        ("relative_fisher", "subsystem_metric", "theory.relative_information.rows"),
        ("tests/theory/test_relative.py",),
    ),
    Statement(
        _2017,
        "table: softmax layer",
        "(diag(p) - p p') (x) x x'",
        ("relative_fisher", "subsystem_metric", "theory.relative_information.rows"),
        ("tests/theory/test_relative.py",),
    ),
    Statement(
        _2017,
        "table: two layers",
        "[sum_l nu(c_l, h) c_il c_jl] f'(a_i) f'(a_j) x x' in block (i, j)",
        ("relative_fisher", "subsystem_metric", "theory.relative_information.rows"),
        ("tests/theory/test_relative.py",),
    ),
    Statement(
        _2017,
        "joint metric of a stochastic network",
        "block-diagonal with the expected metrics of the layers; the response alone is less informative",
        (),
        ("tests/theory/test_relative.py",),
        reason="no function: the test enumerates the outcomes of a stochastic network, and confirms the expected metrics of "
        "`relative_fisher` and `subsystem_metric` in the blocks",
    ),
    Statement(
        _2017,
        "third form of the metric",
        "I = 4 int d sqrt(p) d sqrt(p)' dy",
        ("fisher_information",),
        ("tests/applications/test_geometry_facts.py",),
    ),
    Statement(
        _2017,
        "squared length of a step",
        "<d, d> = mean over x of E[(d'score)^2] = d'Id",
        ("applications.length_element",),
        ("tests/applications/test_geometry.py",),
    ),
    Statement(
        _2017,
        "change of parameters",
        "g_Theta = J' g_Lambda J preserves lengths",
        ("pullback",),
        ("tests/theory/test_relative.py",),
    ),
    Statement(
        _2017,
        "effective learning zone",
        "nu_f is largest where the activation is steepest",
        ("learning_zone", "plotting.learning_zone"),
        ("tests/quantities/geometry/test_relative.py", "validation/learning_zone"),
    ),
    Statement(
        _2017,
        "algorithm",
        "relative natural gradient descent",
        ("training.RelativeNaturalGradient",),
        ("tests/training/test_relative.py",),
    ),
    Statement(
        "tutorial",
        "definition",
        "I = E[score score'] = -E[Hessian]",
        ("fisher_information", "estimate_fisher"),
        ("tests/quantities/information/test_monte_carlo.py",),
    ),
    Statement(
        "tutorial",
        "theorem",
        "KL[p_theta, p_theta+d] = d'Id / 2 + O(|d|^3)",
        ("applications.output_divergence", "applications.length_element"),
        ("tests/applications/test_geometry_facts.py", "tests/applications/test_geometry.py"),
    ),
    Statement(
        "tutorial",
        "theorem",
        "asymptotic variance of the maximum likelihood estimate",
        ("applications.asymptotic_covariance", "applications.cramer_rao_bound", "theory.maximum_likelihood.inverse_of_triangle"),
        ("tests/applications/test_maximum_likelihood.py", "tests/applications/test_statsmodels.py"),
    ),
    Statement(
        "tutorial",
        "theorem",
        "natural gradient",
        ("training.NaturalGradient",),
        ("tests/training/test_natural.py", "tests/applications/test_geometry_facts.py", "validation/fisher_efficiency"),
    ),
    Statement(
        "tutorial",
        "theorem",
        "elastic weight consolidation",
        ("applications.Consolidation", "applications.consolidation_penalty", "theory.information_contractions.weighted_diagonal"),
        ("tests/applications/test_consolidation.py", "validation/forgetting"),
        note="printed as (theta - theta*_A,i)^2; each parameter is compared with its own anchor, (theta_i - theta*_A,i)^2",
    ),
    Statement(
        "tutorial",
        "definition",
        "expected gradient length",
        ("applications.expected_gradient_length", "theory.information_contractions.mean_square_length"),
        ("tests/applications/test_acquisition.py", "validation/active_learning"),
        note="printed once with the norm and once with its square: both are given, the square is tr I(theta|x)",
    ),
)
