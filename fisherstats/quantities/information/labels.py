"""Labels drawn from a response distribution, for networks of any kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from fisherstats._version import __version__
from fisherstats.core.docstrings import documented
from fisherstats.core.validation import arguments, families
from fisherstats.models.families import Family
from fisherstats.quantities import _labels, _layout
from fisherstats.theory import sampling as streams

__all__ = ["draw_labels"]


@documented
def draw_labels(
    family: Family,
    h: Any,
    n_draws: int,
    *,
    rng: int | np.random.SeedSequence | np.random.Generator,
    sampling: str = "iid",
) -> xr.DataArray:
    r"""Labels :math:`y\sim p(y\mid h)` at given natural parameters, exact over the whole range of the family.

    The labels of an input depend on the seed and on its number alone: inputs that are appended later change none of them.
    Stratified labels are those that the estimators of this package draw with ``sampling="stratified"``; independent ones come
    from streams of their own, as the estimators draw sums or counts instead wherever these suffice.

    Parameters
    ----------
    family : Family
        The family of the response.
    h : array_like, shape (n, T)
        Natural parameters, the output of a network (behind the family's link, if it has one).
    n_draws : int
        Labels per input, N.
    rng : int, SeedSequence or Generator
        Source of the labels; the same int gives the same labels.
    %(sampling)s

    Returns
    -------
    DataArray
        Dims (input, draw), or (input, draw, response) where a label has several numbers. Class numbers are integers. Source key
        ``drawn-labels``. In units of the response.

    Raises
    ------
    TypeError, ValueError
        If `family` is no family, `h` is not a finite matrix with one column per natural parameter or lies outside the domain of
        the family, or labels of this family cannot be stratified. The message names the argument, what is required and what
        arrived.

    Notes
    -----
    Cost: one draw per label. Scores of such labels, example by example, are what `ScoreAccumulator` takes.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> logits = np.log([[0.5, 0.3, 0.2]])
    >>> fs.draw_labels(fs.families.Categorical(3), logits, 10, rng=0, sampling="stratified").values
    array([[2, 2, 1, 1, 1, 0, 0, 0, 0, 0]])
    """
    families.family_parts([family], Family)
    n_draws = arguments.positive_integer("n_draws", n_draws)
    word = arguments.choice("sampling", sampling, streams.SAMPLINGS)
    parameters = families.natural_parameters(arguments.array_like("h", h), family.n_outputs).astype(np.float64)
    if word == "stratified":
        families.few_classes(streams.stratifiable(family), str(family))
    family.at(parameters)  # refuses what is outside the domain before a generator is advanced
    seed = arguments.seed_sequence(rng)
    values = streams.labels(family, parameters, seed, 0, n_draws, word)
    coords: dict[str, Any] = _labels.coordinates(input=len(values), draw=n_draws)
    if values.ndim == 3:
        coords |= _labels.coordinates(response=values.shape[2])
    provenance = {
        "package": f"fisherstats {__version__}",
        "family": family.parameters(),
        "n_draws": n_draws,
        "sampling": word,
        "seed": streams.seed_record(seed),
    }
    layout = _layout.array("drawn_labels", coords, provenance, values.dtype)
    layout.check([values])
    return layout.filled([values])
