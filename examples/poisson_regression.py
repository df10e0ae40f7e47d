"""A Poisson regression: fit, standard errors, intervals, and whether the counts are overdispersed."""

import numpy as np

import fisherstats as fs

rng = np.random.default_rng(0)
x = np.column_stack([rng.normal(size=500), rng.integers(0, 2, 500)])
y = rng.poisson(np.exp(0.5 + 0.3 * x[:, 0] - 0.8 * x[:, 1]) * rng.gamma(5.0, 0.2, 500))

start = fs.MLP([np.zeros((1, 3))], activation=[], family=fs.families.Poisson(), feature_names=["dose", "treated"])
model = start
for _ in range(20):  # Fisher scoring: steps by the natural gradient
    information = fs.fisher_information(model, x, view="full").values
    bar = np.column_stack([x, np.ones(500)])
    score = (y - np.exp(model.natural_parameters(x)[:, 0])) @ bar / 500
    model = model.with_weights([model.weights[0] + np.linalg.solve(information, score)])

intervals = fs.applications.parameter_intervals(model, x, y)
pearson = fs.applications.asymptotic_covariance(model, x, y, dispersion="pearson")
robust = fs.applications.asymptotic_covariance(model, x, y, robust=True)
for place, name in enumerate(["dose", "treated", "intercept"]):
    centre, low, high = (float(intervals[key][place]) for key in ("estimate", "lower", "upper"))
    errors = [float(one.standard_error[place]) for one in (intervals, pearson, robust)]
    print(f"{name:10s} {centre:6.3f}  [{low:6.3f}, {high:6.3f}]  standard errors: model, dispersion, robust", np.round(errors, 3))
print(f"dispersion {float(pearson.dispersion):.2f}: the counts vary more than a Poisson law allows")
assert float(pearson.dispersion) > 1.1
