"""Scale: memory and time per input as the inputs grow to a million, and wide and deep networks.

Memory is what a call adds to a fresh process at its peak, compiled code excepted. Operations are those of W1 and W5.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import fisherstats as fs
from benchmarks import nets, w1_exact_diagonal, w5_variances
from benchmarks.harness import Case, fresh_process

CALLS: dict[str, Callable[..., Any]] = {"exact diagonal": fs.fisher_information, "variances": fs.estimator_variance}
FLOPS = {"exact diagonal": w1_exact_diagonal.flops, "variances": w5_variances.flops}
SIZES = {
    "full": (
        ("exact diagonal", nets.MEDIUM, 60_000, 450.0),
        ("variances", nets.MEDIUM, 60_000, 2400.0),
        ("exact diagonal", nets.WIDE, 1000, None),
        ("variances", nets.WIDE, 100, None),
        ("exact diagonal", nets.DEEP, 1000, None),
        ("variances", nets.DEEP, 16, None),
    ),
    "tiny": (("exact diagonal", nets.TINY, 40, None),),
}
GENERATED = {"full": (nets.MEDIUM, (1000, 10_000, 100_000, 1_000_000), 10_000), "tiny": (nets.TINY, (20, 40), 20)}


def cases(size: str) -> Iterator[Case]:
    for work, widths, n_inputs, target in SIZES[size]:
        for dtype in nets.DTYPES if size == "full" else nets.DTYPES[:1]:
            model, x = nets.tanh_classifier(widths, n_inputs, dtype)
            yield Case(
                f"Scale: {work}",
                nets.described(widths, n_inputs),
                dtype,
                lambda work=work, model=model, x=x: CALLS[work](model, x),
                value=None,
                flops=FLOPS[work](widths, n_inputs),
                target_ms=target if dtype == "float64" else None,
                note=lambda best, work=work, widths=widths, n=n_inputs, dtype=dtype: memory_note(work, widths, n, dtype),
            )
    yield from generated_cases(size)


def generated_cases(size: str) -> Iterator[Case]:
    widths, numbers, chunk = GENERATED[size]
    model, x = nets.tanh_classifier(widths, chunk, "float64")
    for n_inputs in numbers:
        inputs = Generated(x, n_inputs)
        yield Case(
            "Scale: exact diagonal, generated inputs",
            nets.described(widths, n_inputs),
            "float64",
            lambda inputs=inputs: fs.fisher_information(model, inputs),
            flops=w1_exact_diagonal.flops(widths, n_inputs),
            note=lambda best, n_inputs=n_inputs: f"{1e6 * best / n_inputs:.2f} us per input",
        )


class Generated:
    """Inputs that come into being a batch at a time, anew for every call."""

    def __init__(self, x: np.ndarray, n_inputs: int) -> None:
        self._x = x[: min(len(x), n_inputs)]
        self._batches = n_inputs // len(self._x)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self._x + 1e-3 * number for number in range(self._batches))


def memory_note(work: str, widths: tuple[int, ...], n_inputs: int, dtype: str) -> str:
    """Return the megabytes that a call adds at its peak."""
    arguments = ", ".join(repr(one) for one in (work, widths, n_inputs, dtype))
    bytes_added = fresh_process(f"from benchmarks import scale; scale.print_memory({arguments})")
    return "memory not measured here" if bytes_added is None else f"+{bytes_added / 1e6:.0f} MB"


def print_memory(work: str, widths: tuple[int, ...], n_inputs: int, dtype: str) -> None:
    """Print the bytes that a call adds to this process at its peak, where the system tells."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not (status.exists() and os.access(reset, os.W_OK)):
        print(json.dumps(None))
        return
    model, x = nets.tanh_classifier(widths, n_inputs, dtype)
    CALLS[work](model, x[:1])
    reset.write_text("5")  # the peak starts from here
    before = _kilobytes(status, "VmRSS")
    result = CALLS[work](model, x)
    print(json.dumps(1024 * (_kilobytes(status, "VmHWM") - before)))
    del result


def _kilobytes(status: Path, name: str) -> int:
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(f"{name}:"))
