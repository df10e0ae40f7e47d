"""Schema rows of training histories, errors by layer, and regularisation paths."""

from __future__ import annotations

from fisherstats.core.schema.row import Variable

__all__ = ["TRAINING"]

_BY_LAYER = "[strength] estimator layer"

TRAINING = {
    "training_loss": Variable(
        "loss", "epoch", "-log p", "mean negative log-likelihood of the training labels during the epoch", "model", "nat"
    ),
    "training_penalty": Variable("penalty", "epoch", "", "mean over steps of the penalties", "weight-penalties", "nat"),
    "training_accuracy": Variable("accuracy", "epoch", "", "fraction of training labels predicted during the epoch", "model"),
    "training_gradient_norm": Variable(
        "gradient_norm", "epoch", "|g|", "mean over steps of the norm of the gradient, penalties included", "model"
    ),
    "validation_loss": Variable(
        "validation_loss",
        "epoch",
        "-log p",
        "mean negative log-likelihood of the validation labels after the epoch",
        "model",
        "nat",
    ),
    "validation_accuracy": Variable(
        "validation_accuracy", "epoch", "", "fraction of validation labels predicted after the epoch", "model"
    ),
    "training_weight_norm": Variable(
        "weight_norm", "epoch layer", "|W|_F", "Frobenius norm of the kernel after the epoch", "weight-penalties"
    ),
    "training_spectral_norm": Variable(
        "spectral_norm", "epoch layer", "s_max(W)", "largest singular value of the kernel after the epoch", "weight-penalties"
    ),
    "layers_information": Variable(
        "information", "[strength] layer", "mean I(theta_i)", "mean entry of a layer's exact diagonal information", "information"
    ),
    "layers_variance": Variable(
        "variance",
        _BY_LAYER,
        "mean V_j(theta_i)",
        "mean over a layer's entries of the variance of the estimator",
        "estimator-variance",
    ),
    "layers_lower": Variable(
        "lower", _BY_LAYER, "mean V_j lower", "mean over a layer's entries of the largest certified lower bound", "bounds"
    ),
    "layers_upper": Variable(
        "upper", _BY_LAYER, "mean V_j upper", "mean over a layer's entries of the smallest certified upper bound", "bounds"
    ),
    "layers_relative_error": Variable(
        "relative_error",
        _BY_LAYER,
        "sqrt(V_j) / I",
        "root of a layer's mean variance over its mean information (0 without variance, inf where only the information is 0)",
        "layer-errors",
    ),
    "layers_draws": Variable("draws", _BY_LAYER, "N", "draws per input for the target relative error", "layer-errors"),
    "path_log_likelihood": Variable(
        "log_likelihood", "strength", "log p", "mean log-likelihood of the training labels after the training", "model", "nat"
    ),
    "path_accuracy": Variable("accuracy", "strength", "", "fraction of training labels predicted after the training", "model"),
    "path_validation_log_likelihood": Variable(
        "validation_log_likelihood",
        "strength",
        "log p",
        "mean log-likelihood of the validation labels after the training",
        "model",
        "nat",
    ),
    "path_validation_accuracy": Variable(
        "validation_accuracy", "strength", "", "fraction of validation labels predicted after the training", "model"
    ),
    "path_frobenius": Variable("frobenius", "strength layer", "|W_l|_F", "Frobenius norm of the kernel", "weight-norms"),
    "path_spectral": Variable("spectral", "strength layer", "s_max(W_l)", "largest singular value of the kernel", "weight-norms"),
}
