"""The error of an estimate of the Fisher information from one label per input, and how many labels a target takes."""

import numpy as np
from sklearn.datasets import load_digits

import fisherstats as fs

x, y = load_digits(return_X_y=True)
x = x / 16
start = fs.MLP.random([64, 32, 10], activation="tanh", family=fs.families.Categorical(10), rng=0)
model = fs.training.fit(start, x, y, optimizer=fs.training.Adam(0.01), epochs=10, batch_size=64, rng=1).model

inputs = x[:200]
exact = fs.fisher_information(model, inputs)
estimates = [fs.estimate_fisher(model, inputs, estimator="score", n_draws=1, rng=seed) for seed in range(40)]
stated = (estimates[0].standard_error / exact).groupby("param_layer").median()
squares = np.mean([(one - exact) ** 2 for one in estimates], axis=0)
errors = estimates[0].standard_error.values
ratio = np.sqrt(squares)[errors > 0] / errors[errors > 0]
print("relative standard error by layer:", stated.values.round(2))
print("actual error over the stated one, over 40 estimates:", np.median(ratio).round(2))

plan = fs.plan_draws(model, inputs, target_cv=0.05, level="layer")
print("labels per input for 5 % in the mean of each layer:")
print(plan.draws.to_pandas().astype(int))
stratified = fs.plan_draws(model, inputs, target_cv=0.05, level="layer", sampling="stratified")
print("with stratified labels:")
print(stratified.draws.to_pandas().astype(int))
assert np.isfinite(plan.draws).all()
