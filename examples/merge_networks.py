"""Two networks that learnt from different halves of the data, merged by their information."""

import numpy as np
from sklearn.datasets import load_digits

import fisherstats as fs

x, y = load_digits(return_X_y=True)
x = x / 16
start = fs.MLP.random([64, 24, 10], activation="tanh", family=fs.families.Categorical(10), rng=0)
common = fs.training.fit(start, x[:200], y[:200], optimizer=fs.training.Adam(0.01), epochs=10, batch_size=50, rng=0).model
halves = [slice(200, 900), slice(900, 1600)]
models = [
    fs.training.fit(common, x[half], y[half], optimizer=fs.training.Adam(0.003), epochs=5, batch_size=50, rng=1).model
    for half in halves
]
importances = [
    fs.applications.importance(model, x[half], information="exact") for model, half in zip(models, halves, strict=True)
]
merged = fs.applications.merge_networks(models, importances)


def accuracy(model):
    """Return the share of held-out digits that are right."""
    return float((model.natural_parameters(x[1600:]).argmax(axis=1) == y[1600:]).mean())


print(
    "held-out accuracy: each alone", [round(accuracy(model), 3) for model in models], " merged", round(accuracy(merged.model), 3)
)
mean = models[0].with_weights([(a + b) / 2 for a, b in zip(*(one.weights for one in models), strict=True)])
print("plain average", round(accuracy(mean), 3))
assert accuracy(merged.model) > 0.8
assert np.isfinite(merged.parameters["merged"]).all()
