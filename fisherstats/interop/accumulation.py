"""Per-example scores of a PyTorch module of any size, drawn, differentiated and accumulated batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.docstrings import documented
from fisherstats.core.validation import arguments
from fisherstats.core.validation import families as family_checks
from fisherstats.core.validation import interop_torch as torch_checks
from fisherstats.execution import STREAM_ROWS
from fisherstats.interop.derivatives import PRECISIONS, learned, refuse_training
from fisherstats.interop.torch import pair
from fisherstats.models.families import Family
from fisherstats.quantities.information.accumulator import ScoreAccumulator
from fisherstats.theory import sampling as streams

__all__ = ["accumulate"]


@documented
def accumulate(
    module: Any,
    batches: Iterable[Any],
    family: Family,
    *,
    n_draws: int = 1,
    labels: str = "model",
    sampling: str = "iid",
    rng: int | np.random.SeedSequence | np.random.Generator | None = None,
    max_bytes: int = 2**28,
) -> ScoreAccumulator:
    r"""Accumulate the per-example scores of a PyTorch module over a loader: the diagonal information of a network of any size.

    Labels are drawn from the module's response distribution, or are those of the loader. Scores are taken example by example with
    torch.func, in pieces of bounded memory, and go into a `ScoreAccumulator`, whose result has the standard errors.

    Parameters
    ----------
    module : torch.nn.Module
        In evaluation mode; ``module(x)`` gives natural parameters (n, T) for a batch, and treats its examples independently.
        Parameters that require a gradient are those of the result (all, if none does).
    batches : iterable
        Of tensors x or of pairs (x, y), such as a DataLoader.
    family : Family
        Response distribution.
    n_draws : int, default 1
        Labels per example, N, drawn from the model.
    labels : {"model", "data"}, default "model"
        Labels drawn from the model give the Fisher information, those of the loader's pairs the empirical one.
    %(sampling)s
    rng : int, SeedSequence or Generator
        Source of the labels of the model. They are those of `draw_labels`: the batches do not change them.
    max_bytes : int, default 2**28
        Memory for the scores of a piece; at least those of one example are held.

    Returns
    -------
    ScoreAccumulator
        Under the names of the module's parameters. Several of them, of parts of the data, can be merged.

    Raises
    ------
    TypeError
        If `module` is no torch.nn.Module, or a batch is neither rows nor a pair.
    ValueError
        If it is in training mode where that matters, its parameters are not all float32 or all float64, its output has another
        number of columns than the family has natural parameters, or labels are missing or not in the support. The message
        names the argument, what is required and what arrived.

    Notes
    -----
    Cost: one forward pass, and one backward pass for every label of every example, over a piece of examples at once (one by one
    where torch.func cannot, as for recurrent layers). Stratified labels vary less than independent ones: the standard error over
    labels, which the accumulator estimates as if they were independent, is then too large.

    Examples
    --------
    >>> import torch
    >>> import fisherstats as fs
    >>> from fisherstats.interop import accumulate
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.Flatten(), torch.nn.Linear(8, 3)).eval()
    >>> found = accumulate(net, [torch.zeros(5, 1, 4, 4)], fs.families.Categorical(3), n_draws=2, rng=0)
    >>> found
    ScoreAccumulator(4 arrays, 47 parameters, n_draws=2, n_inputs=5)
    """
    torch = arguments.optional_module("torch", extra="interop-test")
    torch_checks.module_object(module)
    refuse_training(torch, module)
    chosen = learned(module)
    precision = torch_checks.one_precision(
        {name: str(one.dtype).removeprefix("torch.") for name, one in chosen.items()}, PRECISIONS
    )
    family_checks.family_parts([family], Family)
    n_draws = arguments.positive_integer("n_draws", n_draws)
    of_data = arguments.choice("labels", labels, ("model", "data")) == "data"
    word = arguments.choice("sampling", sampling, streams.SAMPLINGS)
    if word == "stratified":
        family_checks.few_classes(streams.stratifiable(family), str(family))
    torch_checks.seed_or_data(rng, n_draws, of_data)
    most = arguments.positive_integer("max_bytes", max_bytes)
    seed = None if of_data else arguments.seed_sequence(rng)
    accumulator = ScoreAccumulator(n_draws=None if n_draws == 1 else n_draws)
    scores = _Scores(torch, module, list(chosen))
    size = sum(one.numel() for one in chosen.values()) * n_draws * np.dtype(PRECISIONS[precision]).itemsize
    piece = max(1, most // size)
    first = 0
    for x, y in _aligned(torch, batches):
        h = scores.natural(x)
        torch_checks.outputs_of_family(tuple(h.shape), len(x), family.n_outputs, str(family))
        residual = _residuals(family, h, y, seed, first, n_draws, word)
        for start in range(0, len(x), piece):
            rows = slice(start, start + piece)
            accumulator.update(scores.of(x[rows], residual[rows], accumulator.n_draws is not None))
        first += len(x)
    torch_checks.any_batch(first)
    return accumulator


def _aligned(torch: Any, batches: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """Yield the examples in batches of multiples of a stream of labels, but for the last one."""
    held: list[tuple[Any, Any]] = []
    for number, batch in enumerate(batches):
        x, y = pair(batch, number)
        held.append((torch.as_tensor(x), y))
        count = sum(len(one) for one, _ in held)
        ready = count - count % STREAM_ROWS
        if ready:
            x, y = _joined(torch, held)
            yield x[:ready], None if y is None else y[:ready]
            held = [(x[ready:], None if y is None else y[ready:])] if ready < count else []
    if held:
        yield _joined(torch, held)


def _joined(torch: Any, held: list[tuple[Any, Any]]) -> tuple[Any, Any]:
    labels = [one for _, one in held]
    joined = None if any(one is None for one in labels) else np.concatenate([_on_host(one) for one in labels])
    return torch.cat([one for one, _ in held]), joined


def _on_host(value: Any) -> NDArray[Any]:
    return np.asarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value)


def _residuals(
    family: Family, h: Any, y: Any, seed: np.random.SeedSequence | None, first: int, n_draws: int, sampling: str
) -> NDArray[np.float64]:
    """Return t(y) - E[t] for the labels of a batch, (n, N, T)."""
    natural = _on_host(h).astype(np.float64)
    if seed is None:
        torch_checks.labels_given(y)
        drawn = family.check_labels(y, len(natural))
    else:
        drawn = streams.labels(family, natural, seed, first, n_draws, sampling)
        natural = np.repeat(natural, n_draws, axis=0)
        drawn = family.check_labels(drawn.reshape(len(natural), *drawn.shape[2:]), len(natural))
    residual: NDArray[np.float64] = family.at(natural).residual(drawn).reshape(len(h), -1, natural.shape[1])
    return residual


class _Scores:
    """Gradients of the log-likelihood by a module's parameters, example by example and label by label."""

    def __init__(self, torch: Any, module: Any, names: list[str]) -> None:
        self._torch = torch
        self._module = module
        parameters = {name: one.detach() for name, one in module.named_parameters()}
        self._at = {name: parameters.pop(name) for name in names}
        self._fixed = parameters, {name: one.detach() for name, one in module.named_buffers()}

    def _input(self, x: Any) -> Any:
        like = next(iter(self._at.values()))
        x = x.to(like.device)
        return x.to(like.dtype) if x.is_floating_point() else x

    def natural(self, x: Any) -> Any:
        """Return the natural parameters of a batch, (n, T)."""
        with self._torch.no_grad():
            return self._module(self._input(x))

    def of(self, x: Any, residual: NDArray[np.float64], with_draws: bool) -> dict[str, Any]:
        """Return the scores by name, (n, N, ...) or (n, ...)."""
        torch, func = self._torch, self._torch.func
        at, (fixed, buffers) = self._at, self._fixed
        like = next(iter(at.values()))
        x, r = self._input(x), torch.as_tensor(residual, dtype=like.dtype, device=like.device)

        def scores(one: Any, labels: Any) -> Any:
            def output(at: Any) -> Any:
                return func.functional_call(self._module, ({**fixed, **at}, buffers), (one[None],))[0]

            _, back = func.vjp(output, at)
            return func.vmap(lambda label: back(label)[0])(labels) if with_draws else back(labels[0])[0]

        try:
            found = func.vmap(scores)(x, r)
        except RuntimeError:
            # Recurrent layers, for one, have no rule for batches of examples.
            found = torch.utils._pytree.tree_map(
                lambda *same: torch.stack(same),
                *[self._one_by_one(one, labels, with_draws) for one, labels in zip(x, r, strict=True)],
            )
        return {name: one.detach() for name, one in found.items()}

    def _one_by_one(self, one: Any, labels: Any, with_draws: bool) -> dict[str, Any]:
        torch, (fixed, buffers) = self._torch, self._fixed
        at = {name: value.clone().requires_grad_() for name, value in self._at.items()}
        h = torch.func.functional_call(self._module, ({**fixed, **at}, buffers), (one[None],))[0]
        rows = [torch.autograd.grad(h, [*at.values()], label, retain_graph=True, allow_unused=True) for label in labels]
        filled = [
            [torch.zeros_like(value) if g is None else g for g, value in zip(row, at.values(), strict=True)] for row in rows
        ]
        stacked = [torch.stack(same) if with_draws else same[0] for same in zip(*filled, strict=True)]
        return dict(zip(at, stacked, strict=True))
