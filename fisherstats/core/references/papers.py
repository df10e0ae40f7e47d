"""The papers that are cited."""

from __future__ import annotations

__all__ = ["PAPERS"]

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
    "mackay-1992": "MacKay, A Practical Bayesian Framework for Backpropagation Networks, Neural Computation 4 (1992)",
    "daxberger-2021": "Daxberger et al., Laplace Redux: Effortless Bayesian Deep Learning, NeurIPS 2021, arXiv:2106.14806",
    "immer-2021": "Immer, Korzepa & Bauer, Improving Predictions of Bayesian Neural Nets via Local Linearization, AISTATS 2021",
    "van-de-ven-2025": "van de Ven, On the Computation of the Fisher Information in Continual Learning, arXiv:2502.11756",
    "george-2018": (
        "George, Laurent, Bouthillier, Ballas & Vincent, Fast Approximate Natural Gradient Descent in a Kronecker-factored "
        "Eigenbasis, NeurIPS 2018, arXiv:1806.03884"
    ),
    "cochran-1977": "Cochran, Sampling Techniques, 3rd edition, Wiley (1977)",
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
