"""The training again, one number at a time: what `fit` must do, written without the package's derivatives or optimisers."""

from __future__ import annotations

import itertools

import numpy as np

import fisherstats as fs
from fisherstats import training


def loss(weights, model, x, y):
    """Mean negative log-likelihood by a plain forward pass."""
    h = x
    for layer, weight in enumerate(weights):
        h = h @ weight[:, :-1].T + weight[:, -1]
        if layer < len(weights) - 1:
            h = model.activations[layer].value(h)
    link = model.family.link
    natural = h if link is None else link.evaluate(h, 0)[0]
    return -model.family.log_prob(natural, y).mean()


def softmax_gradient(weights, x, y):
    """Gradient of the cross-entropy of a tanh network with softmax outputs, by the chain rule input by input."""
    total = [np.zeros_like(weight) for weight in weights]
    for one, label in zip(x, y, strict=True):
        values = [np.append(one, 1.0)]
        for weight in weights[:-1]:
            values.append(np.append(np.tanh(weight @ values[-1]), 1.0))
        logits = weights[-1] @ values[-1]
        p = np.exp(logits - logits.max())
        delta = p / p.sum()
        delta[label] -= 1
        for layer in range(len(weights) - 1, -1, -1):
            total[layer] += np.outer(delta, values[layer]) / len(x)
            delta = (weights[layer][:, :-1].T @ delta) * (1 - values[layer][:-1] ** 2)
    return total


def descend(weights, batches, x, y, update, penalty=0.0):
    """Return the loss of every batch before its step, and the last weights; `update(weight, gradient, state, step)`."""
    weights = [weight.copy() for weight in weights]
    state = [{} for _ in weights]
    losses = []
    for step, rows in enumerate(batches, start=1):
        model = fs.MLP(weights, activation="tanh", family=fs.families.Categorical(len(weights[-1])))
        losses.append(loss(weights, model, x[rows], y[rows]))
        gradients = softmax_gradient(weights, x[rows], y[rows])
        for weight, gradient, memory in zip(weights, gradients, state, strict=True):
            gradient[:, :-1] += penalty * weight[:, :-1]
            weight -= update(gradient, memory, step)
    return np.array(losses), weights


def into_pytorch(linear, weights):
    """Copy weight matrices, biases last, into the linear layers of a network of PyTorch."""
    import torch

    with torch.no_grad():
        for layer, weight in zip(linear, weights, strict=True):
            layer.weight.copy_(torch.tensor(weight[:, :-1]))
            layer.bias.copy_(torch.tensor(weight[:, -1]))


def pytorch_losses(network, optimizer, x, y, epochs, batch_size, rng):
    """Train a network of PyTorch on the batches of `fit`; return the mean loss of each epoch, every batch before its step."""
    import torch

    losses = np.zeros(epochs)
    for epoch in range(epochs):
        for rows in training.batches(len(x), batch_size, rng=rng, epoch=epoch + 1):
            optimizer.zero_grad()
            found = torch.nn.functional.cross_entropy(network(torch.tensor(x[rows])), torch.tensor(y[rows]))
            found.backward()
            optimizer.step()
            losses[epoch] += found.item() * len(rows) / len(x)
    return losses


def sgd(rate, momentum=0.0, nesterov=False):
    """The update of gradient descent as the formulas say it."""

    def update(gradient, memory, step):
        memory["v"] = gradient if step == 1 else momentum * memory["v"] + gradient
        return rate * (gradient + momentum * memory["v"] if nesterov else memory["v"])

    return update


def adam(rate, beta_1=0.9, beta_2=0.999, epsilon=1e-8):
    """The update of Adam with the moments as weighted sums over all gradients so far."""

    def update(gradient, memory, step):
        past = memory.setdefault("g", [])
        past.append(gradient)
        ages = np.arange(step)[::-1]
        m = sum(beta_1**age * g for age, g in zip(ages, past, strict=True)) * (1 - beta_1) / (1 - beta_1**step)
        v = sum(beta_2**age * g**2 for age, g in zip(ages, past, strict=True)) * (1 - beta_2) / (1 - beta_2**step)
        return rate * m / (np.sqrt(v) + epsilon)

    return update


class Normalized:
    """A network with normalised hidden layers, number by number; its gradient by complex steps, which have no rounding.

    The parameters are (kernels, shifts, scales) per hidden layer and the last weight matrix.
    """

    def __init__(self, model, momentum=0.1, epsilon=1e-5):
        self.kernels = [weight[:, :-1].copy() for weight in model.weights[:-1]]
        self.shifts = [weight[:, -1].copy() for weight in model.weights[:-1]]
        self.scales = [np.ones(len(weight)) for weight in model.weights[:-1]]
        self.last = model.weights[-1].copy()
        self.means = [np.zeros(len(weight)) for weight in model.weights[:-1]]
        self.variances = [np.ones(len(weight)) for weight in model.weights[:-1]]
        self.momentum, self.epsilon = momentum, epsilon

    def vector(self):
        """Layer by layer kernel and shift of each unit, the last matrix, then all scales."""
        hidden = [np.column_stack(pair).ravel() for pair in zip(self.kernels, self.shifts, strict=True)]
        return np.concatenate([*hidden, self.last.ravel(), *self.scales])

    def unpacked(self, vector):
        kernels, shifts, start = [], [], 0
        for kernel in self.kernels:
            size = kernel.size + len(kernel)
            own = vector[start : start + size].reshape(len(kernel), -1)
            kernels.append(own[:, :-1])
            shifts.append(own[:, -1])
            start += size
        last = vector[start : start + self.last.size].reshape(self.last.shape)
        sizes = np.cumsum([start + self.last.size, *map(len, self.scales)])
        scales = [vector[begin:end] for begin, end in itertools.pairwise(sizes)]
        return kernels, shifts, last, scales

    def assign(self, vector):
        self.kernels, self.shifts, self.last, self.scales = (
            [one.copy() for one in part] if isinstance(part, list) else part.copy() for part in self.unpacked(vector)
        )

    def output(self, vector, x, activations, statistics=None):
        """Outputs, and the mean and variance of each hidden layer: those of the rows of x unless they are given."""
        kernels, shifts, last, scales = self.unpacked(vector)
        h, seen = x, []
        for layer, (kernel, shift, scale) in enumerate(zip(kernels, shifts, scales, strict=True)):
            z = h @ kernel.T
            mean, variance = statistics[layer] if statistics else (z.sum(axis=0) / len(z), None)
            if variance is None:
                variance = ((z - mean) ** 2).sum(axis=0) / len(z)
            seen.append((mean, variance))
            h = activations[layer](scale * (z - mean) / np.sqrt(variance + self.epsilon) + shift)
        return h @ last[:, :-1].T + last[:, -1], seen

    def gradient(self, x, y, activations, loss):
        vector = self.vector()
        steps = 1e-30j * np.eye(len(vector))
        return np.array([loss(self.output(vector + step, x, activations)[0], y).imag for step in steps]) / 1e-30

    def follow(self, x, activations):
        """Move the running statistics towards those of a batch."""
        n = len(x)
        for layer, (mean, variance) in enumerate(self.output(self.vector(), x, activations)[1]):
            self.means[layer] = (1 - self.momentum) * self.means[layer] + self.momentum * mean
            self.variances[layer] = (1 - self.momentum) * self.variances[layer] + self.momentum * variance * n / (n - 1)

    def evaluated(self, x, activations):
        return self.output(self.vector(), x, activations, list(zip(self.means, self.variances, strict=True)))[0]


def cross_entropy(logits, y):
    """Mean cross-entropy, of complex logits too."""
    return (np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(y)), y]).mean()
