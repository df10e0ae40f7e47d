"""Networks read from ONNX graphs give the outputs of onnx's own reference evaluator."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import fisherstats as fs
from fisherstats.interop import from_onnx
from tests.refusals import pattern

onnx = pytest.importorskip("onnx")
reference = pytest.importorskip("onnx.reference")
helper, to_tensor, DOUBLE = onnx.helper, onnx.numpy_helper.from_array, onnx.TensorProto.DOUBLE
GAUSSIAN = fs.families.Gaussian
RNG = np.random.default_rng(0)


def graph(nodes, arrays, n_in=4, shape=None, dtype=DOUBLE, outputs=None):
    """Return a model whose nodes pass one value on: (type, further inputs, attributes)."""
    made, current = [], "x"
    for at, (kind, more, attributes) in enumerate(nodes):
        made.append(helper.make_node(kind, [current, *more], [f"v{at}"], name=f"{kind}_{at}", **attributes))
        current = f"v{at}"
    tensors = [to_tensor(np.asarray(one), name) for name, one in arrays.items()]
    x = helper.make_tensor_value_info("x", dtype, shape or ["n", n_in])
    y = [helper.make_tensor_value_info(name, dtype, None) for name in outputs or [current]]
    opset = [helper.make_opsetid("", 22)]
    return helper.make_model(helper.make_graph(made, "net", [x], y, tensors), opset_imports=opset, ir_version=10)


def evaluated(model, x):
    return reference.ReferenceEvaluator(model).run(None, {"x": x})[0]


def arrays(*shapes):
    return {name: RNG.normal(size=shape) for name, shape in shapes}


X = RNG.normal(size=(9, 4))
TWO = arrays(("w0", (5, 4)), ("b0", (5,)), ("w1", (3, 5)), ("b1", (3,)))
GEMM = [("Gemm", ["w0", "b0"], {"transB": 1}), ("Gemm", ["w1", "b1"], {"transB": 1})]
ACTIVATIONS = [
    ("Relu", [], {}),
    ("LeakyRelu", [], {"alpha": 0.25}),
    ("Elu", [], {"alpha": 0.5}),
    ("Tanh", [], {}),
    ("Sigmoid", [], {}),
    ("Softplus", [], {}),
    ("Softsign", [], {}),
    ("Mish", [], {}),
    ("Sin", [], {}),
    ("Atan", [], {}),
    ("Celu", [], {}),
    ("Gelu", [], {}),
]


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda one: one[0])
def test_activations(activation):
    model = graph([GEMM[0], activation, GEMM[1]], TWO)
    found = from_onnx(model, family=GAUSSIAN(3)).natural_parameters(X)
    # The reference evaluator computes Mish, Erf and Gelu through float32.
    tolerance = 1e-6 if activation[0] in ("Mish", "Gelu", "Celu") else 1e-12
    np.testing.assert_allclose(found, evaluated(model, X), rtol=tolerance, atol=tolerance)


def test_products_sums_and_normalisations():
    more = arrays(("k", (4, 5)), ("k1", (5, 3)))
    norm = arrays(("gamma", (5,)), ("beta", (5,)), ("mean", (5,))) | {"var": RNG.uniform(0.5, 2, size=5)}
    nodes = [
        ("Flatten", [], {"axis": 1}),
        ("MatMul", ["k"], {}),
        ("Add", ["b0"], {}),
        ("BatchNormalization", ["gamma", "beta", "mean", "var"], {"epsilon": 1e-3}),
        ("Tanh", [], {}),
        ("BatchNormalization", ["gamma", "beta", "mean", "var"], {}),
        ("Dropout", [], {}),
        ("Gemm", ["k1", "b1"], {}),
        ("Softmax", [], {"axis": -1}),
    ]
    model = graph(nodes, TWO | more | norm, shape=["n", 2, 2])
    found = from_onnx(model)
    assert found.family == fs.families.Categorical(3)
    x = X.reshape(-1, 2, 2)
    # epsilon is stored in single precision
    np.testing.assert_allclose(found.family.mean(found.natural_parameters(X)), evaluated(model, x), rtol=1e-10)


def test_a_file_in_single_precision(tmp_path):
    single = {name: one.astype(np.float32) for name, one in TWO.items()}
    model = graph([GEMM[0], ("Relu", [], {}), GEMM[1]], single, dtype=onnx.TensorProto.FLOAT)
    onnx.save(model, tmp_path / "net.onnx")
    found = from_onnx(tmp_path / "net.onnx", family=GAUSSIAN(3))
    assert found.dtype == np.float32
    x = X.astype(np.float32)
    np.testing.assert_allclose(found.natural_parameters(x), evaluated(model, x), rtol=1e-5, atol=1e-6)


@pytest.mark.skipif("bias" not in inspect.signature(fs.MLP.__init__).parameters, reason="this version has no layers without bias")
def test_without_bias():
    model = graph([("Gemm", ["w0"], {"transB": 1}), ("Tanh", [], {}), GEMM[1]], TWO)
    found = from_onnx(model, family=GAUSSIAN(3))
    np.testing.assert_allclose(found.natural_parameters(X), evaluated(model, X), rtol=1e-12)


def test_silu_is_a_product_with_a_sigmoid():
    model = graph([GEMM[0], ("Sigmoid", [], {}), ("Mul", ["v0"], {}), GEMM[1]], TWO)
    found = from_onnx(model, family=GAUSSIAN(3))
    assert found.activations[0].name == "silu"
    np.testing.assert_allclose(found.natural_parameters(X), evaluated(model, X), rtol=1e-12)


def test_reshapes():
    one_row = graph([("Reshape", ["shape"], {}), *GEMM], TWO | {"shape": np.array([-1, 4])}, shape=["n", 2, 2])
    found = from_onnx(one_row, family=GAUSSIAN(3)).natural_parameters(X)
    np.testing.assert_allclose(found, evaluated(one_row, X.reshape(-1, 2, 2)), rtol=1e-12)
    with pytest.raises(ValueError, match="`model` must be a chain, got 1 inputs at `Reshape_2` after 3 outputs"):
        from_onnx(graph([*GEMM, ("Reshape", ["shape"], {})], TWO | {"shape": np.array([-1, 1])}), family=GAUSSIAN(3))


def test_scikit_learn_s_export():
    skl2onnx = pytest.importorskip("skl2onnx")
    from sklearn.neural_network import MLPRegressor

    single = X.astype(np.float32)
    with pytest.warns(match="Maximum iterations"):
        estimator = MLPRegressor(hidden_layer_sizes=(5,), activation="tanh", max_iter=3, random_state=0).fit(single, X[:, 0])
    found = from_onnx(skl2onnx.to_onnx(estimator, single[:1]), family=GAUSSIAN(1))
    np.testing.assert_allclose(found.natural_parameters(single)[:, 0], estimator.predict(single), rtol=1e-4, atol=1e-5)


def truncated(path, share):
    onnx.save(graph(GEMM, TWO), path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_truncated_files(tmp_path, share):
    path = truncated(tmp_path / "net.onnx", share)
    with pytest.raises(ValueError, match="`model` must"):
        from_onnx(path, family=GAUSSIAN(3))


def test_files_that_are_none(tmp_path):
    (tmp_path / "net.onnx").write_bytes(b"PK\x03\x04 pickled")
    with pytest.raises(ValueError, match="`model` must be a readable ONNX file"):
        from_onnx(tmp_path / "net.onnx")
    with pytest.raises(ValueError, match=r"`model` must be a readable ONNX file, got .+ \(there is no file\)"):
        from_onnx(tmp_path / "other.onnx")
    with pytest.raises(TypeError, match=r"`model` must be the path of an ONNX file, or an onnx\.ModelProto, got None"):
        from_onnx(None)


def residual():
    model = graph([GEMM[0], ("Relu", [], {}), ("Add", ["v0"], {}), GEMM[1]], TWO)
    return model


NAN = TWO | {"w0": np.full((5, 4), np.nan)}
HALF = TWO | {"w0": TWO["w0"].astype(np.float16)}
UNREAD = [
    (residual, "`model` must be a chain .+, got a node Add with other inputs"),
    (
        lambda: graph([GEMM[0], ("LayerNormalization", ["b0"], {}), GEMM[1]], TWO),
        "`model` must be a chain .+, got a node LayerNormal",
    ),
    (
        lambda: graph([("Gemm", ["w0", "b0"], {"transB": 1, "alpha": 0.5})], TWO),
        "`model` must be a chain .+, got a Gemm with alpha",
    ),
    (lambda: graph([GEMM[0], ("Softmax", [], {"axis": 0})], TWO), "`model` must be a chain .+, got a node Softmax"),
    (lambda: graph([GEMM[0], ("Relu", [], {}), ("Gemm", ["w0"], {})], TWO), "`model` must have different parameters"),
    (lambda: graph(GEMM[:1], NAN), "`Gemm_0` (kernel)`"),
    (lambda: graph([GEMM[0]], TWO, outputs=["v0", "x"]), "`model` must have one input and one output"),
    (lambda: graph([GEMM[0]], TWO, outputs=["x"]), "`model` must be a chain .+, got an output that is not that of the last node"),
    (lambda: graph([GEMM[0]], TWO), "`family` must be said"),
]


@pytest.mark.parametrize(("make", "message"), UNREAD)
def test_what_is_refused(make, message):
    with pytest.raises(ValueError, match=pattern(message) if "(kernel)" not in message else "must hold finite numbers, got nan"):
        from_onnx(make(), family=None if "family" in message else GAUSSIAN(3))


def test_other_precisions():
    with pytest.raises(TypeError, match="must hold float32 or float64, got dtype float16"):
        from_onnx(graph(GEMM[:1], HALF), family=GAUSSIAN(5))
