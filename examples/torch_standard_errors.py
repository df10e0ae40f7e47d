"""A PyTorch network: the importance of its weights, and the error of that, under its own names."""

import torch

import fisherstats as fs

torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3)).double()
x = torch.randn(300, 8, dtype=torch.float64)

model = fs.interop.from_torch(net, loss=torch.nn.CrossEntropyLoss())
estimate = fs.estimate_fisher(model, x, estimator="score", n_draws=5, rng=0)
values, errors = (fs.interop.to_torch(estimate, net, what) for what in ("values", "standard_errors"))
for name, value in values.items():
    print(f"{name:10s} mean importance {value.mean():.4f}, median relative error {(errors[name] / value).nanmedian():.2f}")
exact = fs.interop.to_torch(fs.fisher_information(model, x), net)
print("exact, for comparison:", {name: round(float(one.mean()), 4) for name, one in exact.items()})
assert all(value.shape == errors[name].shape for name, value in values.items())
