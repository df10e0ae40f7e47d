"""The family of a network read from another library: from its loss, from the function at its end, or as given."""

from __future__ import annotations

from dataclasses import dataclass

from fisherstats.core.validation import interop as checks
from fisherstats.models.families import Bernoulli, Binomial, Categorical, Family, Gaussian, Multinomial, Poisson

__all__ = ["Loss", "family_of"]


@dataclass(frozen=True)
class Loss:
    """A loss: its name in messages, and its kind, a key of `_LOSSES`."""

    name: str
    kind: str


#: what the loss is the negative log-likelihood of -> functions at the end that it takes, families, and the default one
_LOSSES: dict[str, tuple[tuple[str | None, ...], tuple[type[Family], ...], type[Family] | None]] = {
    "logits of classes": ((None, "log_softmax"), (Categorical,), Categorical),
    "log-probabilities of classes": (("log_softmax",), (Categorical,), Categorical),
    "probabilities of classes": (("softmax",), (Categorical,), Categorical),
    "logits": ((None,), (Bernoulli,), Bernoulli),
    "probabilities": (("sigmoid",), (Bernoulli,), Bernoulli),
    "means of unit variance": ((None,), (Gaussian,), Gaussian),
    "means with a variance of its own argument": ((None,), (Gaussian,), None),
    "logarithms of means": ((None,), (Poisson,), Poisson),
    "means": (("exp",), (Poisson,), Poisson),
}

_ENDS: dict[str, tuple[type[Family], ...]] = {
    "softmax": (Categorical, Multinomial),
    "log_softmax": (Categorical, Multinomial),
    "sigmoid": (Bernoulli, Binomial),
    "exp": (Poisson,),
}


def family_of(n_outputs: int, end: str | None, loss: Loss | None, family: Family | None) -> Family:
    """Return the family; it is never guessed from the number of outputs.

    Parameters
    ----------
    n_outputs : int
        Outputs of the last layer.
    end : str, optional
        The function at the end, a key of `_ENDS`.
    loss : Loss, optional
        The loss that the network was trained with.
    family : Family, optional
        As given by the caller.

    Returns
    -------
    Family
        The given one if loss and end agree with it, else that of the loss, else that of a softmax at the end.
    """
    if family is not None:
        checks.family_instance(family, Family)
        if end is not None:
            checks.family_fits_end(family, _ENDS[end], end)
    if loss is not None:
        ends, families, default = _LOSSES[loss.kind]
        checks.loss_fits_end(loss.name, loss.kind, end, ends)
        if family is not None:
            checks.family_fits_loss(family, families, loss.name)
            return family
        if default is None:
            checks.variance_needed(loss.name, n_outputs)
        return default(n_outputs)  # type: ignore[call-arg]
    if family is not None:
        return family
    if end not in ("softmax", "log_softmax"):
        checks.family_unknown(end, n_outputs)
    return Categorical(n_outputs)
