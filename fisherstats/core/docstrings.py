"""Docstrings of the public functions: shared parameters are defined once, and references are generated from the source keys."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from typing import Any, TypeVar

from fisherstats.core.references import PAPERS, SOURCES

__all__ = ["documented"]

F = TypeVar("F", bound=Callable[..., Any])

SHARED = {
    "model": """\
model : MLP
    The network, with its current weights.""",
    "x": """\
x : array_like, DataArray (dims ``input``, ``feature``), array on disk or iterable of batches, shape (n, n_features)
    Inputs, at least one row, finite and real; from a dask array the result is lazy.""",
    "n_draws": """\
n_draws : int, default 1
    Labels per input, N.""",
    "sampling": """\
sampling : {"iid", "stratified"}, default "iid"
    How the N labels of an input are drawn: independently, or one from each of N equal slices of the distribution function,
    which is unbiased too and never has the larger variance; for Categorical, and Bernoulli with one output.""",
    "population": """\
population : int, optional
    Size of the finite population, for ``design="subsample"``.""",
    "on_kink": """\
on_kink : {"raise", "ignore"}, default "raise"
    What to do when a pre-activation is exactly on a kink, where the Hessian does not exist; "ignore" takes left derivatives.""",
    "engine": """\
engine : {None, "numpy", "numba", "cupy"}, optional
    Backend of the array kernels; None lets the package choose. The choice is recorded in the provenance.""",
    "num_threads": """\
num_threads : int, optional
    Threads over blocks of inputs: by default, and at most, the cores of the process. Never changes a bit of the result.""",
    "progress": """\
progress : bool, default False
    Show a progress bar over the blocks (needs tqdm, extra ``study``).""",
    "refused": """\
TypeError, ValueError
    If `model` is not an `MLP`, if `x` is not a finite real matrix with one column per input of the network, or if another
    argument is not as described above. The message names the argument, what is required and what arrived.""",
    "kink": """\
AssumptionError
    If a pre-activation is exactly on a kink (input, layer and unit are named) and `on_kink` is "raise".""",
    "size": """\
SizeError
    If the result would not fit in memory; the message names the bytes and the view that would do.""",
}
"""Replacement of a line ``%(name)s`` in a docstring."""


def documented(function: F) -> F:
    """Complete a docstring: shared parameters in place of ``%(name)s``, and references for every source key that it names."""
    text = function.__doc__
    if text is None:  # python -OO
        return function
    text = re.sub(r"^( *)%\((\w+)\)s$", lambda line: textwrap.indent(SHARED[line[2]], line[1]), text, flags=re.MULTILINE)
    keys = [key for key in dict.fromkeys(re.findall(r"``([a-z0-9-]+)``", text)) if key in SOURCES]
    if keys:
        section = "\n".join(["References", "----------", *map(_reference, keys)])
        margin = re.search(r"^( *)-{3,}$", text, flags=re.MULTILINE)
        section = textwrap.indent(section, "" if margin is None else margin[1])
        examples = re.search(r"^ *Examples$", text, flags=re.MULTILINE)
        if examples is None:
            text = f"{text.rstrip()}\n\n{section}\n"
        else:
            text = f"{text[: examples.start()]}{section}\n\n{text[examples.start() :]}"
    function.__doc__ = text
    return function


def _reference(key: str) -> str:
    source = SOURCES[key]
    text = f"{PAPERS[source.paper]}: {source.statement}, ``{source.formula}`` (source key ``{key}``)."
    return textwrap.fill(text, 116, initial_indent="- ", subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
