"""Predictions that know where there were no data."""

import numpy as np

import fisherstats as fs

rng = np.random.default_rng(0)
x = rng.uniform(-2, 2, size=(150, 1))
y = np.sin(2 * x[:, 0]) + 0.2 * rng.normal(size=150)
start = fs.MLP.random([1, 20, 1], activation="tanh", family=fs.families.Gaussian(1, covariance=0.04), rng=0)
model = fs.training.fit(
    start, x, y[:, None], optimizer=fs.training.Adam(0.02), epochs=200, batch_size=50, penalty=fs.training.Frobenius(1e-3), rng=1
).model
posterior = fs.applications.laplace(model, x, y, structure="full", prior_precision="evidence")
at = np.array([[0.0], [1.0], [2.5], [4.0]])
found = posterior.predict(at)
for z, centre, low, high in zip(at[:, 0], *(found[name].values[:, 0] for name in ("predictor", "lower", "upper")), strict=True):
    print(f"x = {z}: {centre:6.2f}  [{low:6.2f}, {high:6.2f}]   truth {np.sin(2 * z):5.2f}")
width = (found.upper - found.lower).values[:, 0]
assert width[3] > 3 * width[0]
