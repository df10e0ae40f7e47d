"""Calls that are no functions of (model, x): methods, families, activations, training, studies, figures, refusals."""

from __future__ import annotations

import concurrent.futures
import contextlib
import inspect
import io
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import fisherstats as fs
from fisherstats import activations, cli, families, plotting, training
from fisherstats.interop import from_sklearn
from fisherstats.testing import check_family
from validation.digests import table
from validation.digests.networks import BUMP, FAMILIES, MAIN, NETWORKS, Given, inputs
from validation.digests.parts import sha

__all__ = ["everything"]

Named = tuple[str, Callable[[], Any]]
applications = fs.applications
DESCRIBED = ("sup_first", "sup_second", "smoothness", "kinks", "piecewise_linear", "parameters")


def everything(place: Path) -> Iterator[Named]:
    """Yield all calls by key; `place` is a folder for what is written."""
    yield from _signatures()
    for name, model in {**MAIN, **NETWORKS}.items():
        yield from _methods(name, model)
        yield from _fits(name, model, 1 if name in NETWORKS else 0)
    for family in FAMILIES:
        yield from _family("".join(repr(family).split()), family)
    yield from _activations()
    yield from _training()
    yield from _combinations()
    yield from _sklearn()
    yield from _stores(place)
    yield from _studies(place)
    yield from _figures()
    yield from _refusals()


def _public() -> Iterator[tuple[str, Any]]:
    modules = {"": fs, "applications.": applications, "training.": training, "interop.": fs.interop, "plotting.": plotting}
    for prefix, module in (modules | {"testing.": fs.testing, "families.": families, "activations.": activations}).items():
        for name in sorted(module.__all__):
            yield f"{prefix}{name}", getattr(module, name)


def _signatures() -> Iterator[Named]:
    """Yield the names that are public, with their arguments and the names of their attributes."""

    def described(one: Any) -> Any:
        if inspect.isfunction(one):
            return str(inspect.signature(one))
        if inspect.isclass(one) and one.__module__.startswith("fisherstats"):
            bases = [base.__name__ for base in one.__mro__]
            call = "" if issubclass(one, Exception) else str(inspect.signature(one))
            return [call, bases, sorted(name for name in dir(one) if not name.startswith("_"))]
        return type(one).__name__

    for name, one in _public():
        yield f"signature|{name}", lambda one=one: described(one)


def _methods(name: str, model: fs.MLP) -> Iterator[Named]:
    given = Given(model, inputs(model))
    narrow = model.as_dtype(np.dtype(np.float32))

    def of_it() -> dict[str, Any]:
        return {
            "network": model,
            "widths": model.widths,
            "sizes": (model.n_layers, model.n_params, str(model.dtype), model.layer_slices()),
            "kernels": list(model.kernels),
            "names": (model.feature_names, model.output_names),
            "equal": (model == given.other, model == pickle.loads(pickle.dumps(model)), hash(model) == hash(narrow)),
            "narrow": narrow,
            "double": narrow.in_double(),
            "other": given.other,
        }

    yield f"MLP|{name}|attributes", of_it
    yield f"MLP.natural_parameters|{name}|float64", lambda: model.natural_parameters(given.x)
    yield f"MLP.natural_parameters|{name}|float32", lambda: narrow.natural_parameters(given.x.astype(np.float32))
    for dtype, one in (("float64", model), ("float32", narrow)):
        yield f"weight_norms|{name}|{dtype}", lambda one=one: fs.weight_norms(one)
        yield (
            f"subsystem_metric|{name}|{dtype}",
            lambda one=one: fs.subsystem_metric(
                list(one.weights), given.x.astype(one.dtype), activation=[*one.activations, "tanh"], per_input=True
            ),
        )
    for options in table.grid(estimator=("score", ("score", "hessian")), n_draws=(1, 1000)):
        yield f"explain|{name}|{table.text(options)}", lambda options=options: fs.explain(model, **options)
    for kind in ("kfac", "ekfac"):
        yield (
            f"kronecker_operator|{name}|{kind}",
            lambda kind=kind: fs.kronecker_operator(model, given.x, kind=kind) @ given.direction,
        )
    yield (
        f"applications.compare_fishers|{name}|float64",
        lambda: fs.applications.compare_fishers(model, given.x, given.labels, rng=0, batch_size=4),
    )
    for structure in ("full", "kfac", "diagonal", "last_layer"):
        yield (
            f"applications.laplace|{name}|{structure}",
            lambda structure=structure: fs.applications.laplace(model, given.x, given.labels, structure=structure).predict(
                given.x[:3]
            ),
        )


def _family(name: str, family: Any) -> Iterator[Named]:
    model = NETWORKS.get(f"{name}|tanh") or fs.MLP.random([3, 4, family.n_outputs], activation="tanh", family=family, rng=2)
    h = model.natural_parameters(inputs(model))
    rng = np.random.default_rng(3)
    u, v = (rng.normal(size=(*h.shape, 4)) for _ in range(2))
    a = rng.normal(size=(*h.shape, h.shape[1]))
    a = a + a.swapaxes(1, 2)

    def labels() -> Any:
        return family.sample(h, 5, 3)

    yield f"family|{name}|attributes", lambda: [repr(family), family.name, family.n_outputs, family.bounded]
    yield f"family|{name}|parameters", lambda: [family.parameters(), family.shift_invariant, repr(family.link)]
    yield f"family|{name}|schemes", lambda: [family.draw_scheme(s, n) for s in (False, True) for n in (1, 3, 50, 10**4, 10**6)]
    yield f"family|{name}|rows", lambda: [family.rows_drawn(n) for n in (1, 3, 50, 10**4)]
    yield f"family|{name}|sample", labels
    yield f"draw_labels|{name}|iid", lambda: fs.draw_labels(family, h, 3, rng=5)
    yield f"draw_labels|{name}|stratified", lambda: fs.draw_labels(family, h, 3, rng=5, sampling="stratified")
    yield f"family|{name}|log_prob", lambda: family.log_prob(h, labels()[0])
    yield f"family|{name}|statistic", lambda: family.statistic(labels()[0])
    yield f"family|{name}|check_labels", lambda: family.check_labels(labels()[0], len(h))
    for wrong in (None, "a", -1.5, np.nan, np.full((len(h), 9), 0.5)):
        shown = "array" if isinstance(wrong, np.ndarray) else wrong
        yield f"family|{name}|check_labels|{shown}", lambda wrong=wrong: family.check_labels(wrong, len(h))
    yield f"family|{name}|mean", lambda: [family.mean(h), family.information(h)]
    yield f"family|{name}|cumulants", lambda: [family.cumulant(h[:5], order) for order in (1, 2, 3, 4)]
    for dtype in (np.float64, np.float32):
        at, one, two, matrix = (each.astype(dtype) for each in (h, u, v, a))
        calls: dict[str, Callable[[Any], Any]] = {
            "product": lambda law, one=one: law.product(one),
            "diagonal": lambda law, one=one: law.diagonal(one),
            "rows": lambda law, one=one: [law.rows(one), law.compact_rows(one), law.own_rows(), law.own_diagonal()],
            "moments": lambda law, one=one, two=two: [law.fourth_moment(one), law.third_moment(one, two)],
            "variances": lambda law, one=one, two=two: [law.square_variance(one), law.product_variance(one, two)],
            "joint": lambda law, one=one, two=two: law.joint_moments(one, two),
            "own": lambda law: [law.own_square_variance(), law.own_root_pairs()],
            "quadratic": lambda law, m=matrix, s=one: [
                law.quadratic_mean(m),
                law.quadratic_variance(m),
                law.quadratic_third_moment(m, s[:, :, 0]),
            ],
        }
        for what, call in calls.items():
            yield f"law|{name}|{np.dtype(dtype)}|{what}", lambda call=call, at=at: call(family.at(at))
        for n_draws in (1, 3, 100):
            for second in (False, True):

                def drawn(at: Any = at, n: int = n_draws, second: bool = second, one: Any = one) -> Any:
                    draw = family.at(at).draw(np.random.default_rng(4), n, second)
                    return [draw.mean, None if draw.second is None else draw.second.diagonal(one)]

                yield f"law|{name}|{np.dtype(dtype)}|draw n_draws={n_draws} second={second}", drawn
    if family.n_outputs <= 3 and name in ("Poisson(n_outputs=1)", "GammaShapeRate()", "Categorical(n_classes=3,minimal=False)"):
        yield f"testing.check_family|{name}", lambda: check_family(family)


def _activations() -> Iterator[Named]:
    own = [activations.ELU(0.5), activations.LeakyReLU(0.2), activations.SmoothedReLU(0.1, 0.5), BUMP]
    points = np.concatenate([np.linspace(-40, 40, 81), [0.0, 1e-8, -1e-8, 700.0, -700.0]])
    for one in [*map(activations.get, activations.NAMES), *own]:
        for dtype in (np.float64, np.float32):

            def values(one: Any = one, dtype: Any = dtype) -> Any:
                return one.evaluate(points.astype(dtype), 2)

            yield f"activation|{one.name}|{np.dtype(dtype)}", values
        yield f"activation|{one.name}|attributes", lambda one=one: {name: repr(getattr(one, name)) for name in DESCRIBED}


def _fit(model: fs.MLP, optimizer: Any, **more: Any) -> Any:
    given = Given(model, inputs(model))
    settings = {"epochs": 2, "batch_size": 7, "rng": 1} | more
    return training.fit(model, given.x.astype(model.dtype), given.labels, optimizer=optimizer, **settings)


def _fits(name: str, model: fs.MLP, few: int) -> Iterator[Named]:
    optimizers = [
        training.Adam(0.01),
        training.SGD(0.01),
        training.SGD(0.01, momentum=0.9, nesterov=True),
        *[training.DiagonalNaturalGradient(0.01, information=one, n_draws=n) for one, n in (("exact", None), ("score", 3))],
        *[training.KroneckerNaturalGradient(0.01, information=one, n_draws=n) for one, n in (("exact", None), ("score", 3))],
        *[training.NaturalGradient(0.01, solver=one) for one in ("dense", "cg")],
        training.NaturalGradient(0.01, information="score", n_draws=3, update_every=2),
        training.RelativeNaturalGradient(0.01, update_every=2),
    ]
    for one in optimizers[:: 6 if few else 1]:
        said = table.text({"optimizer": one})
        yield f"training.fit|{name}|float64|{said}", lambda one=one: _fit(model, one)
        if not few:
            narrow = model.as_dtype(np.dtype(np.float32))
            yield f"training.fit|{name}|float32|{said}", lambda one=one, narrow=narrow: _fit(narrow, one)


def _training() -> Iterator[Named]:
    model = MAIN["Categorical(3)|deep"]
    given = Given(model, inputs(model))
    anchor = Given(given.other, given.x)

    def kept() -> Any:
        return applications.Consolidation(anchor.model, applications.importance(anchor.model, given.x), 0.5)

    penalties: dict[str, Callable[[], Any]] = {
        "Frobenius": lambda: training.Frobenius(0.1, biases=True),
        "Frobenius by layer": lambda: training.Frobenius([0.1, 0.2, 0.0, 0.3]),
        "GroupWise unit": lambda: training.GroupWise(0.1, by="unit"),
        "GroupWise feature": lambda: training.GroupWise(0.1, by="feature"),
        "GroupWise layer": lambda: training.GroupWise(0.1, by="layer"),
        "Spectral": lambda: training.Spectral(0.1),
        "SpectralProjection": lambda: training.SpectralProjection(0.5),
        "Consolidation": kept,
        "two": lambda: [training.Frobenius(0.1), training.Spectral(0.2)],
    }
    for name, penalty in penalties.items():
        for optimizer in (training.SGD(0.05), training.Adam(0.05)):
            said = type(optimizer).__name__
            yield f"training.fit|penalty {name}|{said}", lambda p=penalty, o=optimizer: _fit(model, o, penalty=p())
    normal = training.BatchNormalization()
    yield "training.fit|normalization", lambda: _fit(model, training.SGD(0.05), normalization=normal)
    yield "training.fit|normalization, natural", lambda: _fit(model, training.NaturalGradient(0.05), normalization=normal)
    yield "training.fit|validation", lambda: _fit(model, training.SGD(0.1), validation=(given.x[:5], given.labels[:5]))
    yield "training.fit|diverges", lambda: _fit(model, training.SGD(1e308))
    for threads in (1, 2):
        yield f"training.fit|threads {threads}", lambda t=threads: _fit(model, training.Adam(0.1), num_threads=t, batch_size=24)
    callbacks = [
        training.record(lambda model: fs.estimator_variance(model, given.x, group_by="layer"), prefix="train_", every=2),
        training.record(fs.weight_norms),
    ]
    yield "training.record", lambda: _fit(model, training.SGD(0.1), callbacks=callbacks, epochs=3)
    for epoch in (1, 2):
        yield f"training.batches|{epoch}", lambda epoch=epoch: training.batches(23, 7, rng=3, epoch=epoch)
    yield "applications.Consolidation.value", lambda: kept().value(model)
    yield "applications.Consolidation", kept


def _combinations() -> Iterator[Named]:
    for name, model in list(MAIN.items())[:3]:
        given = Given(model, inputs(model))
        networks = [model, given.other]

        def merged(shrink: bool, networks: Any = networks, given: Any = given) -> Any:
            found = applications.merge_networks(
                networks, [applications.importance(one, given.x, design="random") for one in networks], shrink=shrink
            )
            return [found.model, found.parameters]

        for shrink in (False, True):
            yield f"applications.merge_networks|{name}|shrink={shrink}", lambda shrink=shrink, f=merged: f(shrink)

        def estimate(given: Any = given) -> xr.DataArray:
            return fs.estimate_fisher(given.model, given.x, estimator="score", n_draws=3, rng=1, standard_error=True)

        yield f"scale_estimate|{name}", lambda f=estimate: fs.scale_estimate(f(), 2.5)
        yield f"with_standard_error|{name}", lambda f=estimate: fs.with_standard_error(f(), np.abs(f().values) / 7)
        jacobian = np.random.default_rng(3).normal(size=(4, 5))
        yield f"pullback|{name}", lambda jacobian=jacobian: fs.pullback(np.eye(4) + 0.1, jacobian)
        with_client: dict[str, Callable[[Any], Any]] = {
            "definiteness": lambda client, g=given: fs.definiteness(
                g.model, g.x, n_draws=2, rng=0, n_replicates=4, client=client
            ),
            "norm_sweep": lambda client, g=given: fs.norm_sweep(g.model, g.x, scales=[0.5, 1.0], client=client),
        }
        for what, call in with_client.items():

            def in_threads(call: Any = call) -> Any:
                with concurrent.futures.ThreadPoolExecutor(2) as executor:
                    return call(executor)

            yield f"{what}|{name}|client", in_threads
        seeds = {"SeedSequence": np.random.SeedSequence(3), "Generator": None}
        for kind, seed in seeds.items():
            yield (
                f"estimate_fisher|{name}|rng={kind}",
                lambda seed=seed, g=given: fs.estimate_fisher(
                    g.model, g.x, estimator="score", n_draws=3, rng=np.random.default_rng(3) if seed is None else seed
                ),
            )
        arrays = [(one[:, :-1], one[:, -1]) for one in model.weights]
        yield (
            f"MLP.from_arrays|{name}",
            lambda m=model, arrays=arrays: fs.MLP.from_arrays(
                [kernel for kernel, _ in arrays], [bias for _, bias in arrays], activation=list(m.activations), family=m.family
            ),
        )


def _sklearn() -> Iterator[Named]:
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    x = np.random.default_rng(0).normal(size=(40, 3))
    settings: dict[str, Any] = {"hidden_layer_sizes": (4,), "solver": "lbfgs", "max_iter": 30, "random_state": 0}

    def quiet(estimator: Any, y: Any) -> Any:
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return estimator.fit(x, y)

    three, slope = np.arange(40) % 3, x @ [1.0, -1.0, 0.5]
    for activation in ("tanh", "relu", "logistic", "identity"):
        made = {**settings, "activation": activation}
        yield f"interop.from_sklearn|classes|{activation}", lambda m=made: from_sklearn(quiet(MLPClassifier(**m), three))
        yield f"interop.from_sklearn|two|{activation}", lambda m=made: from_sklearn(quiet(MLPClassifier(**m), three > 0))
        yield f"interop.from_sklearn|real|{activation}", lambda m=made: from_sklearn(quiet(MLPRegressor(**m), slope))
    yield "interop.from_sklearn|not fitted", lambda: from_sklearn(MLPRegressor())
    yield "interop.from_sklearn|other", lambda: from_sklearn(3)


def _stores(place: Path) -> Iterator[Named]:
    number = 0
    for name in ("Categorical(3)|tanh", "Categorical(3)|deep"):
        for dtype in ("float64", "float32"):
            for view in ("block", "full", "diagonal"):
                for n in (24, 600):
                    model = MAIN[name].as_dtype(np.dtype(dtype))
                    number += 1

                    def stored(model: Any = model, view: str = view, n: int = n, to: Path = place / f"{number}.zarr") -> Any:
                        return fs.fisher_information(model, inputs(model, n).astype(model.dtype), view=view, store=to)

                    yield f"fisher_information|{name}|store|{dtype}|view={view} n={n}", stored


def _studies(place: Path) -> Iterator[Named]:
    quick = {"model": {"hidden": [4], "epochs": 3}, "analysis": {"inputs": 6, "n_draws": [2], "replicates": 2}}

    def files(folder: Path) -> dict[str, str]:
        own = f"fisherstats {fs.__version__}".encode()
        found = {one.relative_to(folder).as_posix(): one for one in sorted(folder.rglob("*")) if one.is_file()}
        return {name: sha(one.read_bytes().replace(own, b"fisherstats")) for name, one in found.items() if name != ".fisherstats"}

    def study(**more: Any) -> Any:
        tree = fs.study.run(quick, **more)
        out = more.get("out")
        return [tree, fs.study.finished(quick, out=out), files(out)] if out else tree

    yield "study.run|no files", lambda: study(out=None, seed=3)
    yield "study.run|files", lambda: study(out=place / "study")
    yield "study.run|store", lambda: [study(out=None, store=place / "kept"), study(out=None, store=place / "kept")]
    yield "study.run|refused", lambda: fs.study.run({"model": {"hiden": [4]}}, out=None)

    def command(*words: str) -> Any:
        said, wrong = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(wrong):
            try:
                code: Any = cli.main(words)
            except SystemExit as stopped:
                code = stopped.code
        return [code, said.getvalue(), wrong.getvalue()]

    (place / "quick.toml").write_text(
        "[model]\nhidden = [4]\nepochs = 3\n[analysis]\ninputs = 6\nn_draws = [2]\nreplicates = 2\n", encoding="utf-8"
    )
    quickly = ["study", str(place / "quick.toml"), "--no-progress", "--out", str(place / "by command")]
    yield "cli|study", lambda: command(*quickly)
    yield "cli|study again", lambda: command(*quickly, "--resume")
    for words in (["--help"], ["study", "--help"], [], ["study", "none.toml"], ["other"]):
        yield f"cli|{' '.join(words)}", lambda words=words: command(*words)


def _figures() -> Iterator[Named]:
    model = MAIN["Categorical(3)|deep"]
    given = Given(model, inputs(model))

    def record(names: list[str], **coords: Any) -> xr.Dataset:
        shape = [len(one) for one in coords.values()]
        values = np.random.default_rng(0).uniform(0.1, 1, size=shape)
        return xr.Dataset({name: (list(coords), values) for name in names}, coords)

    results: dict[str, Callable[[], Any]] = {
        "bound_tightness": lambda: fs.variance_bounds(model, given.x),
        "derivative_bounds": lambda: fs.derivative_bounds(model, given.x, covariance=True),
        "efficiency": lambda: record(
            ["efficiency", "standard_error", "expected_efficiency"], model=["a", "b"], gradient=["natural", "plain"], step=[1, 2]
        ),
        "forgetting": lambda: record(["accuracy"], importance=["exact", "score"], strength=[0, 1.0], replicate=[0], task=[0, 1]),
        "information_by_layer": lambda: fs.fisher_information(model, given.x),
        "learning_curves": lambda: record(["accuracy"], strategy=["norm", "random"], replicate=[0, 1, 2], labels=[10, 20]),
        "learning_zone": lambda: fs.learning_zone(model, given.x),
        "norm_sweep": lambda: fs.norm_sweep(model, given.x, scales=[0.5, 1.0]),
        "regularization_path": lambda: fs.regularization_path(
            model, given.x, **table.arguments("regularization_path", {}, given)
        ),
        "second_moments": lambda: record(["ratio", "correlation"], epoch=[1, 2], layer=[0, 1], diagonal=["exact", "empirical"]),
        "training_errors": lambda: (
            _fit(model, training.SGD(0.1), callbacks=[training.record(lambda one: fs.layer_errors(one, given.x))]).history
        ),
    }
    for name, make in results.items():
        yield f"plotting.{name}", lambda name=name, make=make: plotting.as_svg(getattr(plotting, name)(make()))
        yield f"plotting.{name}|refused", lambda name=name: getattr(plotting, name)(xr.Dataset())


def _refusals() -> Iterator[Named]:
    """Yield calls of every function with one odd argument each."""
    model = MAIN["Categorical(3)|tanh"]
    given = Given(model, inputs(model, 9))
    odd: dict[str, Any] = {"None": None, "text": "wrong", "negative": -1, "empty": [], "nan": np.nan}
    broken = given.x.copy()
    broken[4, 1] = np.nan
    rows: dict[str, Any] = {"nan inside": broken, "columns": given.x[:, :2], "no rows": given.x[:0], "flat": given.x[0]}
    for name, options in table.OPTIONS.items():
        call = table.function(name)
        usual = {"model": model, "x": given.x, **table.arguments(name, options[0], given)}
        for argument in inspect.signature(call).parameters:
            if argument in ("store", "progress"):
                continue
            for kind, wrong in {**odd, **(rows if argument == "x" else {})}.items():
                arguments = usual | {argument: wrong}
                yield f"{name}|odd|{argument}={kind}", lambda call=call, arguments=arguments: call(**arguments)
        for argument in list(usual):
            rest = {key: one for key, one in usual.items() if key != argument}
            yield f"{name}|odd|without {argument}", lambda call=call, rest=rest: call(**rest)
