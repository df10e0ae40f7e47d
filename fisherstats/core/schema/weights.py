"""Schema rows of bounds by weight norms: of derivatives, of covariances, and along a sweep of scales."""

from __future__ import annotations

from fisherstats.core.schema.row import Variable

__all__ = ["WEIGHTS"]

_KERNEL, _BOUND, _PRINTED = "weight-norms", "weight-norm-bounds", "weight-norm-bounds-printed"
_COVARIANCE = "[input] estimator norm"
_RATIO = "tightness of the upper bound, 1 is exact"


def _weights(name: str, symbol: str, long_name: str) -> dict[str, Variable]:
    return {f"weights_{name}": Variable(name, "layer", symbol, long_name, _KERNEL)}


def _derivatives(part: str, dims: str, symbol: str, what: str, suffix: str, source: str) -> dict[str, Variable]:
    """Return the rows of exact norms, their upper bounds and ratios."""
    rows = {
        "exact": (symbol, f"norm of the {what}", "derivatives"),
        "upper": (f"{symbol} upper", f"bound of the norm of the {what} by weight norms", source),
        "ratio": ("upper / exact", _RATIO, source),
    }
    return {f"derivatives_{part}_{name}{suffix}": Variable(f"{part}_{name}", dims, *row) for name, row in rows.items()}


def _gradient(part: str, dims: str, of: str) -> dict[str, Variable]:
    long_name = f"derivative of {of} by the norm of a layer's kernel, layer inputs held fixed"
    return {
        f"derivatives_{part}_gradient": Variable(f"{part}_gradient", f"{dims} weight_layer", "d upper / d s_k", long_name, _BOUND)
    }


_FIRST = ("first", "[input] norm layer", "|dh/dW_l|", "first derivative by a layer's parameters")
_SECOND = ("second", "[input] norm layer layer2", "|d2h/dW_l dW_m|", "second derivative by two layers' parameters")

WEIGHTS = {
    **_weights("frobenius", "|W_l|_F", "Frobenius norm of the kernel"),
    **_weights("spectral", "s_max(W_l)", "largest singular value of the kernel"),
    **_weights("nuclear", "|W_l|_*", "sum of the singular values of the kernel"),
    **_weights("stable_rank", "|W_l|_F^2 / s_max^2", "stable rank of the kernel, 0 for a kernel of zeros"),
    **_weights("largest_row", "max_o |W_l[o]|", "largest Euclidean norm of a unit's incoming weights"),
    **_weights("bias", "|b_l|", "Euclidean norm of the bias"),
    **_weights("sup_first", "c_1", "supremum of |sigma'| of the activation after the layer, 1 after the last"),
    **_weights("sup_second", "c_2", "supremum of |sigma''| of the activation after the layer, 0 after the last"),
    "weights_factor": Variable(
        "derivative_factor",
        "norm layer",
        "|B D_l| upper",
        "bound by weight norms of the first derivative over the norm of the layer's input",
        _BOUND,
    ),
    **_derivatives(*_FIRST, "", _BOUND),
    **_derivatives(*_FIRST, "_printed", _PRINTED),
    **_derivatives(*_SECOND, "", _BOUND),
    **_gradient("first", "[input] norm layer", "the bound of the first derivative"),
    **_gradient("second", "[input] norm layer layer2", "the bound of the second derivative"),
    **_gradient("covariance", "[input] estimator norm", "covariance_from_weights"),
    "derivatives_tensor_upper": Variable(
        "tensor_upper",
        "[input] layer layer2",
        "|d2h/dW_l dW_m|_2sigma upper",
        "bound by weight norms of the second derivative's norm as a tensor, over unit vectors",
        _BOUND,
    ),
    "derivatives_covariance_exact": Variable(
        "covariance_exact", _COVARIANCE, "|Cov(I-hat_j)|", "exact norm of the covariance of the estimator", "covariance-norms"
    ),
    "derivatives_covariance_upper": Variable(
        "covariance_upper",
        _COVARIANCE,
        "|Cov(I-hat_j)| upper",
        "smallest certified bound of the norm of the covariance",
        "covariance-bounds",
    ),
    "derivatives_covariance_from_derivatives": Variable(
        "covariance_from_derivatives",
        _COVARIANCE,
        "|Cov(I-hat_j)| upper",
        "bound of the norm of the covariance by the same norm of the derivatives",
        "covariance-bounds",
    ),
    "derivatives_covariance_from_weights": Variable(
        "covariance_from_weights",
        _COVARIANCE,
        "|Cov(I-hat_j)| upper",
        "bound of the norm of the covariance by the same norm of the weights",
        _BOUND,
    ),
    "derivatives_covariance_ratio": Variable("covariance_ratio", _COVARIANCE, "upper / exact", _RATIO, _BOUND),
    "sweep_frobenius": Variable("frobenius", "scale layer", "|W_l|_F", "Frobenius norm of the kernel", _KERNEL),
    "sweep_spectral": Variable("spectral", "scale layer", "s_max(W_l)", "largest singular value of the kernel", _KERNEL),
    "sweep_information": Variable(
        "information", "scale layer", "mean I(theta_i)", "mean entry of a layer's exact diagonal information", "information"
    ),
    "sweep_variance": Variable(
        "variance",
        "scale estimator layer",
        "mean V_j(theta_i)",
        "mean over a layer's entries of the variance of the estimator",
        "estimator-variance",
    ),
    "sweep_upper": Variable(
        "upper",
        "scale estimator layer",
        "mean V_j upper",
        "mean over a layer's entries of the smallest certified upper bound of the variance",
        "bounds",
    ),
    "sweep_relative": Variable(
        "relative_variance",
        "scale estimator layer",
        "V_j / I^2",
        "mean variance over the squared mean information of a layer (NaN where the information is 0)",
        "norm-sweep",
    ),
    "sweep_exponent": Variable(
        "exponent",
        "scale estimator layer",
        "d log V_j / d log s",
        "local exponent of the variance (NaN where it is 0)",
        "norm-sweep",
    ),
    "sweep_information_exponent": Variable(
        "information_exponent",
        "scale layer",
        "d log I / d log s",
        "local exponent of the information (NaN where it is 0)",
        "norm-sweep",
    ),
    "sweep_predicted": Variable(
        "predicted_exponent",
        "estimator layer",
        "d log V_j / d log s",
        "exponent where it is known for every network: 4 and 2 below the last layer if that alone is scaled and I(h) is constant "
        "(NaN elsewhere)",
        "norm-sweep",
    ),
}
