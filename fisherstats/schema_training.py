"""Schema rows of the history of a training."""

from __future__ import annotations

from fisherstats.schema_base import Variable

__all__ = ["TRAINING"]

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
}
