"""Objects of other libraries: they are known without an import, and what the message advises works."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import xarray as xr
from sklearn import ensemble, linear_model, model_selection, neural_network, pipeline, preprocessing

import fisherstats as fs

MLP = fs.MLP
rng = np.random.default_rng(0)
X, Y = rng.normal(size=(40, 3)), np.arange(40) % 2
KERNELS, BIASES = [rng.normal(size=(4, 3)), rng.normal(size=(2, 4))], [rng.normal(size=4), rng.normal(size=2)]
CATEGORICAL = fs.families.Categorical(2)
MODEL = MLP.from_arrays(KERNELS, BIASES, activation="tanh", family=CATEGORICAL)


def of_module(module: str, name: str, *bases: type, **members: Any) -> Any:
    """Return an instance of a class that says it comes from another module."""
    return type(name, bases, members | {"__module__": module})()


class Tensor:
    """Stands for an array of another library that numpy cannot read, as one on a device or with a gradient."""

    __module__ = "torch"

    def __init__(self, values: Any, readable: bool = False) -> None:
        self.values, self.shape, self.readable = values, values.shape, readable

    def __array__(self, *_: Any, **__: Any) -> Any:
        if not self.readable:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad.")
        return self.values

    def detach(self) -> Tensor:
        return Tensor(self.values, True)

    def cpu(self) -> Tensor:
        return self

    def numpy(self) -> Any:
        return np.asarray(self)


class Linear:
    def __init__(self, weight: Any, bias: Any) -> None:
        self.weight, self.bias = Tensor(weight), Tensor(bias)


LAYERS = [Linear(*one) for one in zip(KERNELS, BIASES, strict=True)]
TREE = {f"Dense_{at}": {"kernel": one.T, "bias": bias} for at, (one, bias) in enumerate(zip(KERNELS, BIASES, strict=True))}
HAIKU = {f"linear_{at}": {"w": one.T, "b": bias} for at, (one, bias) in enumerate(zip(KERNELS, BIASES, strict=True))}
WEIGHTS = [array for one, bias in zip(KERNELS, BIASES, strict=True) for array in (one.T, bias)]
STATE = {f"{at}.{what}": Tensor(array, True) for at in (0, 1) for what, array in (("weight", KERNELS[at]), ("bias", BIASES[at]))}
own = type("Net", (type("Module", (), {"__module__": "torch.nn.modules.module", "modules": None}),), {})
fitted = neural_network.MLPClassifier((4,), activation="tanh", max_iter=5, random_state=0)
with pytest.warns(match="Maximum iterations"):
    fitted.fit(X, Y)
search = model_selection.GridSearchCV(fitted, {"alpha": [0.1]})
search.best_estimator_ = fitted
logistic = linear_model.LogisticRegression().fit(X, Y)
BERNOULLI = fs.families.Bernoulli()

# The object, what else the advice refers to, and the network it stands for.
MODELS: dict[str, tuple[Any, dict[str, Any], Any]] = {
    "torch module": (of_module("torch.nn.modules.linear", "Linear", modules=None), {"layers": LAYERS}, MODEL),
    "own torch module": (own(), {"layers": LAYERS}, MODEL),
    "torch state": (STATE, {"state": STATE, "layers": ["0", "1"]}, MODEL),
    "flax": ({"params": TREE}, {"layers": list(TREE.values())}, MODEL),
    "haiku": (HAIKU, {"layers": list(HAIKU.values())}, MODEL),
    "flax module": (of_module("flax.linen.module", "Net"), {"kernels": KERNELS, "biases": BIASES}, MODEL),
    "jax pairs": (list(zip(KERNELS, BIASES, strict=True)), {"kernels": KERNELS, "biases": BIASES}, MODEL),
    "keras": (of_module("keras.src.models.model", "Sequential", get_weights=lambda self: WEIGHTS), {"weights": WEIGHTS}, MODEL),
    "keras weights": (WEIGHTS, {"weights": WEIGHTS}, MODEL),
    "matrices": (list(MODEL.weights), {"weights": MODEL.weights}, MODEL),
    "sklearn": (fitted, {}, fs.interop.from_sklearn(fitted)),
    "pipeline": (pipeline.make_pipeline(preprocessing.StandardScaler(), fitted), {}, fs.interop.from_sklearn(fitted)),
    "logistic": (logistic, {}, MLP([np.append(logistic.coef_, logistic.intercept_)[None]], activation=[], family=BERNOULLI)),
    "statsmodels": (
        sm.GLM(Y, sm.add_constant(X), family=sm.families.Binomial()).fit(),
        {"slopes": np.ones((1, 3)), "intercepts": [1.0]},
        None,
    ),
    "statsmodels formula": (sm.Logit(Y, X), {"slopes": np.ones((1, 3)), "intercepts": [1.0]}, None),
    "forest": (ensemble.RandomForestClassifier(), {}, None),
    "search": (search, {}, None),
}


def code(message: str) -> str:
    """Return the call that a message advises."""
    return next(one for one in re.findall(r"`([^`]*)`", message) if "from_" in one or one.startswith("MLP("))


@pytest.mark.parametrize("name", MODELS)
def test_the_advice_for_another_network_gives_it(name):
    model, known, wanted = MODELS[name]
    with pytest.raises(TypeError, match=r"^`model` must be a fisherstats\.MLP, got ") as caught:
        fs.fisher_information(model, X)
    assert str(caught.value).endswith(".")
    if name == "search":
        assert "`fisherstats.interop.from_sklearn(model.best_estimator_)`" in str(caught.value)
        return
    if name == "forest":
        assert "`fisherstats.interop.from_sklearn` reads a fitted MLPClassifier or MLPRegressor" in str(caught.value)
        return
    linear = name.startswith(("logistic", "statsmodels"))
    family = BERNOULLI if linear else CATEGORICAL
    text = code(str(caught.value)).replace("activation=...", "activation='tanh'").replace("family=...", "family=family")
    named = {"MLP": MLP, "family": family, "fisherstats": fs, "numpy": np, "model": model}
    built = eval(text, named | known)
    if wanted is not None:
        assert built.fingerprint == wanted.fingerprint


@pytest.mark.parametrize(
    "call",
    [
        lambda model: fs.kink_report(model, X),
        lambda model: fs.weight_norms(model),
        lambda model: fs.propagate(fs.LogDet(0.1), model, X, estimator="score", n_draws=3),
        lambda model: fs.training.fit(model, X, Y, optimizer=fs.training.SGD(0.1), epochs=1, batch_size=4, rng=0),
        lambda model: fs.norm_sweep(model, X, scales=[1.0]),
        lambda model: fs.applications.asymptotic_covariance(model, X),
        lambda model: fs.applications.consolidation_penalty(MODEL, model, X),
        lambda model: fs.applications.output_divergence(MODEL, model, X),
        lambda model: MLP(model, activation="tanh", family=CATEGORICAL),
        lambda model: fs.estimator_variance(model, iter([X])),
    ],
)
@pytest.mark.parametrize("name", ["torch module", "flax", "keras"])
def test_every_place_for_a_network_says_so(call, name):
    with pytest.raises(TypeError, match=r"^`\w+` must be a .*`MLP\.from_arrays\("):
        call(MODELS[name][0])


def information(x: Any) -> Any:
    return fs.fisher_information(MODEL, x)


EXACT = information(X)


@pytest.mark.parametrize("kind", [str, lambda path: path])
@pytest.mark.parametrize("ending", ["npy", "npz", "csv", "nc", "zarr"])
def test_the_advice_for_a_file_reads_it(kind, ending, tmp_path):
    path = tmp_path / f"x.{ending}"
    array = xr.DataArray(X, dims=["input", "feature"])
    {
        "npy": lambda: np.save(path, X),
        "npz": lambda: np.savez(path, x=X),
        "csv": lambda: pd.DataFrame(X).to_csv(path, index=False, float_format="%.17g"),
        "nc": lambda: array.to_netcdf(path),
        "zarr": lambda: array.to_dataset(name="x").to_zarr(path, zarr_format=2),
    }[ending]()
    x = kind(path)
    with pytest.raises(TypeError, match=r"^`x` must be an array of real numbers, got .*; read the file first, `") as caught:
        information(x)
    read = eval(re.findall(r"`([^`]*)`", str(caught.value))[-1], {"numpy": np, "pandas": pd, "xarray": xr, "x": x})
    np.testing.assert_allclose(information(read).values, EXACT.values, rtol=1e-14)


@pytest.mark.parametrize("name", ["x.parquet", "x.h5", Path("x")])
def test_other_files(name):
    message = "`pandas.read_parquet" if str(name).endswith("parquet") else "read a file into an array first"
    with pytest.raises(TypeError, match=message):
        information(name)


def test_tensors_are_read_or_say_how():
    np.testing.assert_array_equal(information(Tensor(X, True)).values, EXACT.values)
    with pytest.raises(TypeError, match=r"`x\.detach\(\)\.cpu\(\)\.numpy\(\)`"):
        information(Tensor(X))
    members = {"shape": X.shape, "dtype": X.dtype, "ndim": 2, "__array__": lambda self, *_, **__: X}
    of_jax = of_module("jaxlib._jax", "ArrayImpl", **members, __getitem__=lambda self, key: X[key])
    np.testing.assert_array_equal(information(of_jax).values, EXACT.values)


class Loader:
    """Stands for a DataLoader; `pack` makes a batch."""

    __module__ = "torch.utils.data.dataloader"

    def __init__(self, pack: Any) -> None:
        self.pack = pack

    def __iter__(self) -> Any:
        return (self.pack(X[first : first + 16], Y[first : first + 16]) for first in range(0, 40, 16))


@pytest.mark.parametrize(
    "pack",
    [
        lambda x, y: [Tensor(x, True), Tensor(y, True)],
        lambda x, y: (x, y),
        lambda x, y: (x, x),
        lambda x, y: [x],
        lambda x, y: {"x": x, "y": y},
    ],
)
@pytest.mark.parametrize("call", [information, lambda x: fs.estimator_variance(MODEL, x).variance])
def test_the_advice_for_batches_with_labels(pack, call):
    x = Loader(pack)
    with pytest.raises(TypeError, match=r"^`x` must yield batches of rows only, got a .* in batch 0; give `") as caught:
        call(x)
    rows = eval(re.findall(r"`(\([^`]*\))`", str(caught.value))[0], {"x": x})
    np.testing.assert_array_equal(call(rows).values, call(X).values)


def test_batches_where_rows_are_read_anew():
    x = Loader(lambda x, y: (x, y))
    with pytest.raises(TypeError, match="`x` must be one array here") as caught:
        fs.fisher_operator(MODEL, x)
    read = eval(re.findall(r"`([^`]*)`", str(caught.value))[-1], {"np": np, "x": x})
    np.testing.assert_array_equal(read, X)


def test_mappings_of_arrays(tmp_path):
    np.savez(tmp_path / "x.npz", rows=X)
    with np.load(tmp_path / "x.npz") as x:
        for given in (x, {"rows": X}):
            with pytest.raises(TypeError, match=r"`x\['rows'\]`"):
                information(given)


def test_no_library_is_imported():
    code = (
        "import sys, numpy as np, pandas, fisherstats as fs\n"
        "before = set(sys.modules)\n"  # pandas imports pyarrow where it is installed
        "kind = type('Module', (), {'__module__': 'torch.nn', 'modules': None})\n"
        "for model in (kind(), {'a': {}}, [np.ones((2, 2)), np.ones(2)]):\n"
        "    try: fs.fisher_information(model, 'x.parquet')\n"
        "    except TypeError: pass\n"
        "assert not {'torch', 'jax', 'flax', 'keras', 'sklearn', 'statsmodels', 'pyarrow'} & (set(sys.modules) - before)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
