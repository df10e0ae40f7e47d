"""The training again, one number at a time: what `fit` must do, written without the package's derivatives or optimisers."""

from __future__ import annotations

import numpy as np

import fisherstats as fs


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
