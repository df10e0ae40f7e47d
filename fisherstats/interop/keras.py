"""Conversion of Keras models to networks."""

from __future__ import annotations

from typing import Any

from fisherstats.core.validation import interop as checks
from fisherstats.interop import _keras_reading
from fisherstats.interop._families import Loss, family_of
from fisherstats.models.families import Family
from fisherstats.models.network import MLP

__all__ = ["from_keras"]

#: name of a loss, of its class without underscores -> what it takes from probabilities or means, and from logits
_LOSSES = {
    "sparsecategoricalcrossentropy": ("probabilities of classes", "logits of classes"),
    "categoricalcrossentropy": ("probabilities of classes", "logits of classes"),
    "binarycrossentropy": ("probabilities", "logits"),
    "meansquarederror": ("means of unit variance", "means of unit variance"),
    "mse": ("means of unit variance", "means of unit variance"),
    "poisson": ("means", "means"),
}


def from_keras(model: Any, *, family: Family | None = None, loss: Any = None) -> MLP:
    """Convert a Keras model to the equivalent exponential-family network.

    Read are Dense layers with and without bias and their activations, BatchNormalization (folded at its moving statistics),
    Flatten, layers that do nothing at inference, and a softmax, sigmoid or exponential at the end, in a Sequential or a
    Functional model without branches.

    Parameters
    ----------
    model : keras.Sequential or keras.Model
        Built. Its weights are copied; it is not changed.
    family : Family, optional
        The family whose natural parameters the last Dense layer gives, before a function at its end. Needed where neither a
        loss nor a softmax at the end says it.
    loss : str or keras.losses.Loss, optional
        By default the one that the model was compiled with, unless a family is given: a categorical or binary cross-entropy,
        ``"mse"`` (`Gaussian` of unit variance, or the given one) or ``"poisson"``.

    Returns
    -------
    MLP
        The network.

    Raises
    ------
    TypeError
        If `model` is no built Sequential or Functional model.
    ValueError
        If a layer is no part of a perceptron (its name is given), the family is not said, or family, loss and end contradict.

    Examples
    --------
    >>> import keras
    >>> from fisherstats.interop import from_keras
    >>> layers = [keras.Input((3,)), keras.layers.Dense(4, activation="tanh"), keras.layers.Dense(2, activation="softmax")]
    >>> from_keras(keras.Sequential(layers))
    MLP(3-4-2, activation=tanh, family=Categorical(n_classes=2, minimal=False), 26 parameters)
    """
    chain = _keras_reading.read(model)
    chosen = _known(getattr(model, "loss", None) if loss is None and family is None else loss)
    end = None if chain.end is None else chain.end.function
    return chain.network(family_of(chain.n_outputs, end, chosen, family))


def _known(loss: Any) -> Loss | None:
    if loss is None:
        return None
    name = loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)
    kinds = _LOSSES.get(str(name).replace("_", "").lower())
    if kinds is None or isinstance(loss, type):
        checks.unknown_loss(
            loss,
            ["'sparse_categorical_crossentropy'", "'categorical_crossentropy'", "'binary_crossentropy'", "'mse'", "'poisson'"],
        )
    if getattr(loss, "label_smoothing", 0.0):
        checks.no_likelihood(str(name), "label_smoothing", loss.label_smoothing)
    return Loss(str(name), kinds[bool(getattr(loss, "from_logits", False))])
