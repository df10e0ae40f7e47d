"""Which functions of `theory` are called with arrays of a device."""

from __future__ import annotations

import ast
import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from fisherstats import theory
from tests.device.arrays import DeviceArray

__all__ = ["ON_THE_HOST", "defined", "recorded"]

FILES = {str(path): path.stem for path in Path(theory.__file__).parent.glob("*.py")}

ON_THE_HOST = {
    # sums are gathered in tasks of the threads, and finished matrices are written
    *(
        "assembly._below_the_diagonal",
        "assembly.layer_pairs",
        "assembly.DiagonalSum._own",
        "assembly.DiagonalSum.tasks",
        "kronecker.FactorSum.means",
    ),
    *(
        "dense_blocks.PairSum._make_matrices",
        "dense_blocks.PairSum._write",
        "dense_blocks.PairSum._write_cross",
        "dense_blocks.PairSum._write_own",
    ),
    *(
        "dense_blocks.PairSum.finish",
        "dense_blocks.TileSum._whole",
        "dense_blocks.TileSum.rectangles",
        "dense_blocks.squares",
        "relative_information.NeuronSum.means",
    ),
    # the form of the sums of pairs that fits a cache; on a device it is pairs._sums_on_device
    *("dense_blocks._fill", "dense_blocks._products", "dense_blocks._unit_pairs", "dense_blocks._upper"),
    # posteriors of finished matrices, and their predictions
    *(
        f"posterior.{kind}Posterior.{name}"
        for kind in ("Dense", "Diagonal", "Kronecker")
        for name in ("of", "output_covariance", "variances", "draws")
    ),
    "posterior._summed",
    # operators by finished eigenvectors
    *("kronecker_eigenbasis.Eigenbasis.apply", "kronecker_eigenbasis.Eigenbasis.dense", "kronecker_eigenbasis.eigenbases"),
    # labels, which are drawn on the host, and a property of the family
    *("sampling.labels", "sampling.stratifiable"),
    # labelled results
    "assembly.layer_means",
    # finished roots and spectra
    *(
        "maximum_likelihood.Inverse.own_errors",
        "maximum_likelihood.change_of_label",
        "maximum_likelihood.corrected",
        "maximum_likelihood.moore_penrose_root",
    ),
    *(
        "maximum_likelihood._dependence",
        "maximum_likelihood.jacobi_svd",
        "maximum_likelihood.singular_values",
        "error_propagation.graded_eigenpairs",
    ),
    "volume.of_spectrum",
    # finished variances
    *("sampled_inputs.degrees_of_freedom", "sampled_inputs.freedom_of_normal", "sampled_inputs.interval_ends"),
    # sizes, places and numbers
    *(
        "definiteness.binomial_interval",
        "definiteness.sufficient_draws",
        "entry_derivatives.Places.of",
        "entry_derivatives.Places.ordered",
    ),
    *(
        "error_propagation.Functional.size",
        "error_propagation.LeadingEigenvalues.size",
        "variance_inequalities._spread_directions",
        "response_support.few",
        "tensor_norms._directions",
        "dense_blocks.PairSum._cost",
    ),
    *(
        "dense_blocks.PairSum._step",
        "dense_blocks.small_tiles",
        "relative_information.Responses.largest",
        "relative_information.is_binary",
    ),
    *("tensor_bounds._svec_basis", "weight_norms.Suprema.of", "weight_norms._powers", "weight_norms._slopes"),
    *("weight_norms.first_bound", "weight_norms.second_bound"),
    # labels are drawn on the host
    *("sampling._groups", "sampling._probed", "sampling._products", "sampling._uniforms", "sampling.seed_record"),
    # scores of other libraries' networks come to the host
    *(f"score_accumulation.Moments.{name}" for name in ("empty", "add", "_add_leaf", "merge", "_merge_totals")),
    *(f"score_accumulation.{name}" for name in ("variance_of_mean", "pairwise_probability", "order_probability")),
    # checks of a functional, once per call
    *(
        "error_propagation.Functional.defined_at",
        "error_propagation.Functional.fits",
        "error_propagation.LeadingEigenvalues.defined_at",
    ),
    *(
        "error_propagation.LeadingEigenvalues.fits",
        "error_propagation.SolveWith.fits",
        "error_propagation.EffectiveDimension.defined_at",
    ),
    *("error_propagation.LogDet.defined_at", "error_propagation.Functional.in_order", "error_propagation.SolveWith.in_order"),
}
"""What takes no array of a device, and why; constructors and `parameters` apart."""

_PLAIN = ("__init__", "__post_init__", "parameters")


def defined() -> set[str]:
    """Return all functions and methods, as module.function or module.Class.method."""
    names = set()

    def walk(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef):
                abstract = any(isinstance(one, ast.Name) and one.id == "abstractmethod" for one in child.decorator_list)
                if not abstract and child.name not in _PLAIN:
                    names.add(prefix + child.name)
            elif isinstance(child, ast.ClassDef):
                walk(child, f"{prefix}{child.name}.")

    for path, stem in FILES.items():
        walk(ast.parse(Path(path).read_text(encoding="utf-8")), f"{stem}.")
    return names


@contextlib.contextmanager
def recorded(names: set[str]) -> Iterator[None]:
    """Add the functions that are called with an array of the device, itself or within what is handed over."""

    def note(frame: Any, event: str, argument: Any) -> None:
        stem = FILES.get(frame.f_code.co_filename) if event == "call" else None
        if stem is None:
            return
        name = f"{stem}.{frame.f_code.co_qualname}"  # looked up first: to search the arguments takes longer than most calls
        if name not in names and any(_on_device(value) for value in frame.f_locals.values()):
            names.add(name)

    def unwatched(method: Callable[..., Any]) -> Callable[..., Any]:
        """Operations call no closed form, and with each of their own calls noted they take three times as long."""

        def operation(*args: Any, **kwargs: Any) -> Any:
            sys.settrace(None)
            try:
                return method(*args, **kwargs)
            finally:
                sys.settrace(note)

        return operation

    before = sys.gettrace()
    with contextlib.ExitStack() as stack:
        for name in ("__array_ufunc__", "__array_function__", "__getitem__", "__setitem__"):
            stack.enter_context(mock.patch.object(DeviceArray, name, unwatched(getattr(DeviceArray, name))))
        stack.callback(sys.settrace, before)
        sys.settrace(note)
        yield


def _on_device(value: Any, depth: int = 4) -> bool:
    if isinstance(value, DeviceArray):
        return True
    if not depth:
        return False
    if isinstance(value, list | tuple):
        return any(_on_device(one, depth - 1) for one in value)
    if isinstance(value, dict):
        return any(_on_device(one, depth - 1) for one in value.values())
    return any(_on_device(one, depth - 1) for one in getattr(value, "__dict__", {}).values())
