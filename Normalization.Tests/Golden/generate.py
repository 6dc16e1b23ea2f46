#!/usr/bin/env python3
"""Writes one <strategy-id>.json of expected values per strategy, from PyTorch in float64.

Run:  python3 generate.py            (needs numpy and torch; written with Debian's python3-torch 1.13 and numpy 1.24)

Everything is drawn from fixed seeds, so a second run writes the same bytes on the same versions. The files are evidence from
outside: a change in this repository never justifies writing them again; only a new case does, and then the old cases must
come out as they were.

A case is a dictionary:
  id, shape         name and axis lengths (N, C, ...)
  settings          the options that differ from the defaults, spelled as in StrategySettings (camelCase)
  training          the mode of the last forward and of the backward
  forwards          number of forward calls: the warm-up batches, always in training, then the input
  warmup            the warm-up batches
  input, outputGradient, weight, bias, initialBuffers
  output, inputGradient, weightGradient, biasGradient, buffers     expected, after the last call

Arrays are row-major and printed so that they read back to the same double. Inputs are multiples of 1/1024 below 2^24/1024,
exact in float32 too: the same file serves both precisions.

Where a torch layer exists it is used. What torch has no layer for is composed from elementary torch operations and
differentiated by autograd: the running buffers of averaged ghosts, the population running variance, the cumulative average of
InstanceNorm (torch ignores momentum=None there and never counts batches; here a training batch counts as in BatchNorm), and
whitening. Whitening goes through torch.linalg.eigh where eigenvalues are well apart; where they coincide eigh's derivative has
poles, so those cases use a coupled Newton-Schulz iteration, which is smooth.
"""

import json
import math
import os

import numpy as np
import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)

HERE = os.path.dirname(os.path.abspath(__file__))
EPS = 1e-5


class Draw:
    """Seeded numbers that float32 holds exactly."""

    def __init__(self, seed):
        self.random = np.random.RandomState(seed)

    def normal(self, shape, mean=0.0, scale=1.0):
        values = mean + scale * self.random.standard_normal(shape)
        return torch.from_numpy(np.round(values * 1024) / 1024)

    def channels(self, shape, mean=0.0, scale=1.0):
        """Every channel with a mean and a spread of its own."""
        c = shape[1]
        rest = [1, c] + [1] * (len(shape) - 2)
        centre = self.random.standard_normal(c).reshape(rest)
        spread = (0.5 + self.random.random_sample(c)).reshape(rest)
        values = mean + scale * (centre + spread * self.random.standard_normal(shape))
        return torch.from_numpy(np.round(values * 1024) / 1024)

    def positive(self, shape):
        return torch.from_numpy(np.round((0.5 + self.random.random_sample(shape)) * 1024) / 1024)


def numbers(tensor):
    return [float(value) for value in tensor.detach().reshape(-1)]


def per_channel(values, rank):
    return values.reshape([1, -1] + [1] * (rank - 2))


def step(old, statistic, rate):
    return (1 - rate) * old + rate * statistic


class Case:
    """One case: parameters, buffers and batches; `forward(case, x, training)` is the strategy and updates case.buffers."""

    def __init__(self, name, seed, shape, forward, training=True, affine="both", parameter_shape=None,
                 settings=None, buffers=None, warmup=0, mean=0.0, scale=1.0, make_input=None):
        draw = Draw(seed)
        self.name, self.shape, self.forward, self.training = name, shape, forward, training
        self.settings = dict(settings or {})
        parameter_shape = parameter_shape or [shape[1]]
        make = make_input or (lambda d: d.channels(shape, mean, scale))
        self.warmup = [make(draw) for _ in range(warmup)]
        self.input = make(draw)
        self.gradient = draw.normal(shape)
        self.weight = draw.normal(parameter_shape, 0.5, 1.0) if affine in ("both", "weight") else None
        self.bias = draw.normal(parameter_shape) if affine in ("both", "bias") else None
        self.buffers = dict(buffers(draw)) if buffers else {}
        self.settings.setdefault("epsilon", EPS)
        self.settings["weight"] = self.weight is not None
        self.settings["bias"] = self.bias is not None

    def rate(self):
        """Counts a batch and returns the weight of its statistics."""
        self.buffers["num_batches_tracked"] += 1
        momentum = self.settings.get("momentum", 0.1)
        return 1.0 / self.buffers["num_batches_tracked"] if momentum is None else momentum

    def stored(self, population_variance, count):
        if self.settings.get("runningVariance", "sample") == "population":
            return population_variance
        return population_variance * count / (count - 1)

    def run(self):
        initial = {name: value if isinstance(value, int) else numbers(value) for name, value in self.buffers.items()}
        for batch in self.warmup:
            self.forward(self, batch, True)
        x = self.input.clone().requires_grad_(True)
        learned = [p.requires_grad_(True) for p in (self.weight, self.bias) if p is not None]
        output = self.forward(self, x, self.training)
        gradients = list(torch.autograd.grad(output, [x] + learned, self.gradient))
        assert all(torch.isfinite(g).all() for g in gradients) and torch.isfinite(output).all(), self.name
        return {
            "id": self.name,
            "shape": list(self.shape),
            "settings": self.settings,
            "training": self.training,
            "forwards": len(self.warmup) + 1,
            "warmup": [numbers(batch) for batch in self.warmup],
            "input": numbers(self.input),
            "outputGradient": numbers(self.gradient),
            "weight": None if self.weight is None else numbers(self.weight),
            "bias": None if self.bias is None else numbers(self.bias),
            "initialBuffers": initial,
            "output": numbers(output),
            "inputGradient": numbers(gradients.pop(0)),
            "weightGradient": None if self.weight is None else numbers(gradients.pop(0)),
            "biasGradient": None if self.bias is None else numbers(gradients.pop(0)),
            "buffers": {name: value if isinstance(value, int) else numbers(value) for name, value in self.buffers.items()},
        }


def fresh(c):
    return lambda draw: {"running_mean": torch.zeros(c), "running_var": torch.ones(c), "num_batches_tracked": 0}


def used(c, count=4):
    return lambda draw: {"running_mean": draw.normal([c]), "running_var": draw.positive([c]), "num_batches_tracked": count}


def affine(case, y):
    """weight and bias per channel, for layers whose torch form takes both or neither, or does not exist."""
    if case.weight is not None:
        y = y * per_channel(case.weight, y.dim())
    if case.bias is not None:
        y = y + per_channel(case.bias, y.dim())
    return y


# ---------------------------------------------------------------- batch-norm

def batch_norm(case, x, training):
    eps = case.settings["epsilon"]
    if not case.buffers:
        return F.batch_norm(x, None, None, case.weight, case.bias, True, 0.0, eps)
    mean, variance = case.buffers["running_mean"], case.buffers["running_var"]
    if not training:
        return F.batch_norm(x, mean, variance, case.weight, case.bias, False, 0.0, eps)
    rate = case.rate()
    if case.settings.get("runningVariance") == "population":
        axes = [0] + list(range(2, x.dim()))
        case.buffers["running_mean"] = step(mean, x.detach().mean(axes), rate)
        case.buffers["running_var"] = step(variance, x.detach().var(axes, unbiased=False), rate)
        return F.batch_norm(x, None, None, case.weight, case.bias, True, 0.0, eps)
    mean, variance = mean.clone(), variance.clone()
    output = F.batch_norm(x, mean, variance, case.weight, case.bias, True, rate, eps)
    case.buffers["running_mean"], case.buffers["running_var"] = mean, variance
    return output


def batch_norm_cases():
    off = {"runningStatistics": False}
    return [
        Case("train-nc", 100, [5, 6], batch_norm, buffers=fresh(6)),
        Case("train-ncl-twice", 101, [5, 6, 7], batch_norm, buffers=fresh(6), warmup=1),
        Case("train-nchw-used-buffers", 102, [3, 4, 5, 2], batch_norm, buffers=used(4)),
        Case("train-ncdhw", 103, [2, 3, 2, 3, 5], batch_norm, buffers=fresh(3)),
        Case("train-no-affine", 104, [7, 3, 5], batch_norm, affine="none", buffers=fresh(3)),
        Case("train-weight-only", 105, [3, 5, 2, 3], batch_norm, affine="weight", buffers=fresh(5)),
        Case("train-bias-only", 106, [7, 5], batch_norm, affine="bias", buffers=fresh(5)),
        Case("train-cumulative-three-batches", 107, [4, 3, 5], batch_norm, settings={"momentum": None}, buffers=fresh(3), warmup=2),
        Case("train-cumulative-counter-at-4", 108, [4, 3, 5], batch_norm, settings={"momentum": None}, buffers=used(3)),
        Case("train-momentum-one", 109, [3, 2, 7], batch_norm, settings={"momentum": 1.0}, buffers=used(2)),
        Case("train-momentum-zero", 110, [3, 2, 7], batch_norm, settings={"momentum": 0.0}, buffers=used(2)),
        Case("train-population-variance", 111, [3, 4, 5], batch_norm, settings={"runningVariance": "population"}, buffers=fresh(4), warmup=1),
        Case("train-epsilon-1e-3", 112, [5, 3, 2, 2], batch_norm, settings={"epsilon": 1e-3}, buffers=fresh(3)),
        Case("train-mean-1e4", 113, [5, 3, 7], batch_norm, mean=10000.0, buffers=fresh(3)),
        Case("train-without-running-statistics", 114, [5, 3, 2], batch_norm, settings=off),
        Case("inference-without-running-statistics", 115, [5, 3, 2], batch_norm, settings=off, training=False),
        Case("inference-nc", 116, [5, 6], batch_norm, training=False, buffers=used(6)),
        Case("inference-nchw-no-affine", 117, [3, 4, 5, 2], batch_norm, training=False, affine="none", buffers=used(4)),
        Case("inference-single-sample", 118, [1, 7], batch_norm, training=False, buffers=used(7)),
        Case("inference-ncdhw-after-two-batches", 119, [2, 3, 2, 1, 5], batch_norm, training=False, buffers=fresh(3), warmup=2),
        Case("inference-ncl-weight-only", 120, [2, 5, 7], batch_norm, training=False, affine="weight", buffers=used(5)),
    ]


# ---------------------------------------------------------------- layer-norm

def layer_norm(case, x, training):
    k = case.settings.get("normalizedDimensions") or x.dim() - 1
    shape = list(x.shape[x.dim() - k:])
    return F.layer_norm(x, shape, case.weight, case.bias, case.settings["epsilon"])


def layer_norm_cases():
    def case(name, seed, shape, k=None, **more):
        settings = dict(more.pop("settings", {}))
        if k is not None:
            settings["normalizedDimensions"] = k
        return Case(name, seed, shape, layer_norm, settings=settings, parameter_shape=shape[len(shape) - (k or len(shape) - 1):], **more)

    return [
        case("train-nc", 200, [5, 6]),
        case("train-ncl", 201, [5, 6, 7]),
        case("train-nchw", 202, [3, 4, 5, 2]),
        case("train-ncdhw", 203, [2, 3, 2, 3, 5]),
        case("train-ncl-last-axis", 204, [3, 5, 7], k=1),
        case("train-nchw-last-axis", 205, [3, 4, 2, 7], k=1),
        case("train-nchw-last-two", 206, [3, 4, 5, 3], k=2),
        case("train-ncdhw-last-two", 207, [2, 3, 2, 3, 5], k=2),
        case("train-ncdhw-last-three", 208, [2, 3, 2, 3, 5], k=3),
        case("train-no-affine", 209, [3, 5, 7], affine="none"),
        case("train-weight-only", 210, [4, 7, 3], affine="weight"),
        case("train-bias-only", 211, [4, 7], affine="bias"),
        case("train-epsilon-1e-2", 212, [5, 11], settings={"epsilon": 1e-2}),
        case("train-mean-1e4", 213, [3, 13, 2], mean=10000.0),
        case("train-one-sample", 214, [1, 3, 5, 7]),
        case("inference-nc", 215, [5, 6], training=False),
        case("inference-nchw-last-two", 216, [2, 3, 5, 3], k=2, training=False),
        case("inference-ncl-no-affine", 217, [3, 5, 4], affine="none", training=False),
    ]


# ------------------------------------------------------------- instance-norm

def instance_norm(case, x, training):
    eps = case.settings["epsilon"]
    if not case.buffers:
        return F.instance_norm(x, None, None, case.weight, case.bias, True, 0.0, eps)
    mean, variance = case.buffers["running_mean"].clone(), case.buffers["running_var"].clone()
    if not training:
        return F.instance_norm(x, mean, variance, case.weight, case.bias, False, 0.0, eps)
    output = F.instance_norm(x, mean, variance, case.weight, case.bias, True, case.rate(), eps)
    case.buffers["running_mean"], case.buffers["running_var"] = mean, variance
    return output


def instance_norm_cases():
    on = {"runningStatistics": True}
    return [
        Case("train-ncl", 300, [5, 6, 7], instance_norm),
        Case("train-nchw", 301, [3, 4, 5, 2], instance_norm),
        Case("train-ncdhw", 302, [2, 3, 2, 3, 5], instance_norm),
        Case("train-no-affine", 303, [3, 5, 7], instance_norm, affine="none"),
        Case("train-one-sample", 304, [1, 5, 3, 4], instance_norm),
        Case("train-mean-1e4", 305, [2, 3, 11], instance_norm, mean=10000.0),
        Case("train-epsilon-1e-3", 306, [2, 3, 11], instance_norm, settings={"epsilon": 1e-3}),
        Case("train-two-positions-large-epsilon", 307, [3, 4, 2], instance_norm, settings={"epsilon": 0.5}),
        Case("train-tracked", 308, [3, 4, 5], instance_norm, settings=on, buffers=fresh(4)),
        Case("train-tracked-three-batches", 309, [3, 4, 2, 3], instance_norm, settings=on, buffers=fresh(4), warmup=2),
        Case("train-tracked-momentum-one", 310, [3, 2, 7], instance_norm, settings={**on, "momentum": 1.0}, buffers=used(2)),
        Case("train-tracked-cumulative", 311, [3, 2, 7], instance_norm, settings={**on, "momentum": None}, buffers=fresh(2), warmup=2),
        Case("train-tracked-no-affine", 312, [3, 2, 2, 2, 3], instance_norm, settings=on, affine="none", buffers=used(2)),
        Case("inference-ncl", 313, [5, 3, 7], instance_norm, training=False),
        Case("inference-tracked", 314, [3, 4, 5], instance_norm, settings=on, training=False, buffers=used(4)),
        Case("inference-tracked-after-two-batches", 315, [2, 3, 3, 4], instance_norm, settings=on, training=False, buffers=fresh(3), warmup=2),
        Case("inference-tracked-one-position", 316, [3, 4, 1], instance_norm, settings=on, training=False, buffers=used(4)),
        Case("inference-ncdhw-no-affine", 317, [2, 3, 2, 3, 2], instance_norm, affine="none", training=False),
    ]


# ---------------------------------------------------------------- group-norm

def group_norm(case, x, training):
    if case.weight is not None and case.bias is not None:
        return F.group_norm(x, case.settings["groups"], case.weight, case.bias, case.settings["epsilon"])
    return affine(case, F.group_norm(x, case.settings["groups"], None, None, case.settings["epsilon"]))


def group_norm_cases():
    def case(name, seed, shape, groups, **more):
        return Case(name, seed, shape, group_norm, settings={"groups": groups, **more.pop("settings", {})}, **more)

    return [
        case("train-nc", 400, [5, 6], 2),
        case("train-nc-pairs-large-epsilon", 401, [5, 6], 3, settings={"epsilon": 0.5}),
        case("train-ncl", 402, [5, 6, 7], 3),
        case("train-nchw", 403, [3, 4, 5, 2], 2),
        case("train-ncdhw", 404, [2, 6, 2, 1, 5], 2),
        case("train-one-group", 405, [3, 5, 7], 1),
        case("train-as-many-groups-as-channels", 406, [3, 5, 7], 5),
        case("train-prime-groups", 407, [2, 14, 3, 2], 7),
        case("train-no-affine", 408, [3, 6, 5], 2, affine="none"),
        case("train-weight-only", 409, [3, 6, 5], 3, affine="weight"),
        case("train-bias-only", 410, [3, 6, 2, 2], 2, affine="bias"),
        case("train-epsilon-1e-3", 411, [2, 9, 5], 3, settings={"epsilon": 1e-3}),
        case("train-mean-1e4", 412, [2, 4, 13], 2, mean=10000.0),
        case("train-one-sample", 413, [1, 8, 3, 3], 4),
        case("train-one-position", 414, [4, 6, 1], 2),
        case("inference-nc", 415, [5, 6], 2, training=False),
        case("inference-nchw", 416, [3, 4, 5, 2], 2, training=False),
        case("inference-ncl-no-affine", 417, [3, 6, 5], 3, affine="none", training=False),
    ]


# ---------------------------------------------------------- ghost-batch-norm

def ghosts_of(case, n):
    """The sample indices of every ghost."""
    size = case.settings["ghostSize"]
    count = math.ceil(n / size)
    indices = torch.arange(n)
    if case.settings.get("ghostGrouping") == "strided":
        return [indices[k::count] for k in range(count)]
    if case.settings.get("ghostRemainder") == "balanced":
        return list(torch.chunk(indices, count))
    return list(torch.split(indices, size))


def ghost_batch_norm(case, x, training):
    eps = case.settings["epsilon"]
    mean, variance = case.buffers["running_mean"], case.buffers["running_var"]
    if not training:
        return F.batch_norm(x, mean, variance, case.weight, case.bias, False, 0.0, eps)
    n, c = x.shape[0], x.shape[1]
    ghosts = ghosts_of(case, n)
    axes = [0] + list(range(2, x.dim()))
    if case.settings.get("ghostRunning") == "sequential":
        mean, variance = mean.clone(), variance.clone()
        parts = [F.batch_norm(x[g], mean, variance, case.weight, case.bias, True, case.rate(), eps) for g in ghosts]
        case.buffers["running_mean"], case.buffers["running_var"] = mean, variance
        return torch.cat(parts)[torch.argsort(torch.cat(ghosts))]
    rate = case.rate()
    values = [x.detach()[g] for g in ghosts]
    batch_mean = sum(len(v) * v.mean(axes) for v in values) / n
    batch_variance = sum(len(v) * case.stored(v.var(axes, unbiased=False), v.numel() // c) for v in values) / n
    case.buffers["running_mean"] = step(mean, batch_mean, rate)
    case.buffers["running_var"] = step(variance, batch_variance, rate)
    if case.settings.get("ghostGrouping") == "strided" and n % case.settings["ghostSize"] == 0:
        # The reshape trick: samples n, n + K, n + 2K ... become one row of N/K samples with K C channels.
        k = len(ghosts)
        folded = x.reshape([n // k, k * c] + list(x.shape[2:]))
        weight = None if case.weight is None else case.weight.repeat(k)
        bias = None if case.bias is None else case.bias.repeat(k)
        return F.batch_norm(folded, None, None, weight, bias, True, 0.0, eps).reshape(x.shape)
    parts = [F.batch_norm(x[g], None, None, case.weight, case.bias, True, 0.0, eps) for g in ghosts]
    return torch.cat(parts)[torch.argsort(torch.cat(ghosts))]


def ghost_batch_norm_cases():
    def case(name, seed, shape, size, buffers=None, **more):
        return Case(name, seed, shape, ghost_batch_norm, settings={"ghostSize": size, **more.pop("settings", {})},
                    buffers=(buffers or fresh)(shape[1]), **more)

    strided, sequential = {"ghostGrouping": "strided"}, {"ghostRunning": "sequential"}
    balanced, smaller = {"ghostRemainder": "balanced"}, {"ghostRemainder": "smallerLast"}
    return [
        case("train-contiguous-nc", 500, [9, 5], 3),
        case("train-contiguous-ncl", 501, [6, 3, 5], 2),
        case("train-contiguous-nchw-twice", 502, [4, 3, 2, 3], 2, warmup=1),
        case("train-contiguous-ncdhw", 503, [4, 3, 2, 1, 5], 2),
        case("train-strided-nc", 504, [12, 5], 4, settings=strided),
        case("train-strided-nchw", 505, [6, 3, 2, 3], 3, settings=strided),
        case("train-strided-balanced-remainder", 506, [7, 3, 4], 3, settings={**strided, **balanced}),
        case("train-balanced-remainder", 507, [8, 3, 4], 3, settings=balanced),
        case("train-balanced-not-nearly-equal", 508, [10, 3, 2], 3, settings=balanced),
        case("train-smaller-last", 509, [8, 3, 2, 2], 3, settings=smaller),
        case("train-smaller-last-population", 510, [8, 3, 3], 3, settings={**smaller, "runningVariance": "population"}, buffers=used),
        case("train-sequential", 511, [6, 4, 3], 2, settings=sequential),
        case("train-sequential-cumulative", 512, [6, 3, 3], 2, settings={**sequential, "momentum": None}, warmup=1),
        case("train-sequential-strided", 513, [6, 3, 3], 3, settings={**sequential, **strided}, buffers=used),
        case("train-sequential-smaller-last", 514, [7, 3, 3], 3, settings={**sequential, **smaller}),
        case("train-cumulative", 515, [6, 2, 5], 2, settings={"momentum": None}, buffers=used, warmup=1),
        case("train-one-ghost", 516, [5, 3, 3], 5),
        case("train-one-sample-ghosts", 517, [3, 4, 5], 1),
        case("train-no-affine", 518, [6, 3, 5], 3, affine="none"),
        case("train-weight-only", 519, [6, 5], 3, affine="weight"),
        case("train-bias-only", 520, [6, 5, 2], 3, affine="bias"),
        case("train-mean-1e4", 521, [6, 2, 7], 3, mean=10000.0),
        case("inference-ncl", 522, [5, 3, 7], 2, training=False, buffers=used),
        case("inference-nc-after-two-batches", 523, [6, 5], 3, training=False, warmup=2),
        case("inference-no-affine", 524, [3, 4, 2, 3], 2, training=False, affine="none", buffers=used),
    ]


# ------------------------------------------------------------- zca-whitening

def inverse_root_eigh(sigma):
    values, vectors = torch.linalg.eigh(sigma)
    gaps = (values[1:] - values[:-1]) / values[-1]
    assert len(values) == 1 or gaps.min() > 1e-3, "eigenvalues too close for eigh's derivative: " + str(values)
    return vectors @ torch.diag(values ** -0.5) @ vectors.T


def inverse_root_newton_schulz(sigma):
    identity = torch.eye(len(sigma))
    trace = torch.trace(sigma)
    y, z = sigma / trace, identity
    for _ in range(60):
        t = 0.5 * (3 * identity - z @ y)
        y, z = y @ t, t @ z
    root = z / torch.sqrt(trace)
    assert (root @ sigma @ root - identity).abs().max() < 1e-11
    return root


def zca(inverse_root):
    def forward(case, x, training):
        c = x.shape[1]
        d = case.settings.get("groupSize") or c
        eps, alpha = case.settings["epsilon"], case.settings.get("shrinkage", 0.0)
        keeps_matrix = case.settings.get("whiteningRunning") == "whiteningMatrix"
        columns = x.transpose(0, 1).reshape(c, -1)
        m = columns.shape[1]

        def regularized(covariance):
            return (1 - alpha) * covariance + (alpha * torch.trace(covariance) / d + eps) * torch.eye(d)

        blocks, means, kept = [], [], []
        for g in range(c // d):
            block = columns[g * d:(g + 1) * d]
            if training or not case.buffers:
                mean = block.mean(1, keepdim=True)
                covariance = (block - mean) @ (block - mean).T / m
                w = inverse_root(regularized(covariance))
                means.append(mean.detach().reshape(-1))
                kept.append(w.detach() if keeps_matrix else case.stored(covariance.detach(), m))
            else:
                mean = case.buffers["running_mean"].reshape(-1, d, 1)[g]
                if keeps_matrix:
                    w = case.buffers["running_whitening"].reshape(-1, d, d)[g]
                else:
                    w = inverse_root_newton_schulz(regularized(case.buffers["running_covariance"].reshape(-1, d, d)[g]))
            blocks.append(w @ (block - mean))
        if training and case.buffers:
            rate = case.rate()
            name = "running_whitening" if keeps_matrix else "running_covariance"
            case.buffers["running_mean"] = step(case.buffers["running_mean"], torch.cat(means), rate)
            case.buffers[name] = step(case.buffers[name], torch.stack(kept).reshape(case.buffers[name].shape), rate)
        y = torch.cat(blocks).reshape([c, x.shape[0]] + list(x.shape[2:])).transpose(0, 1)
        return affine(case, y)

    return forward


def mixed(shape, mean=0.0):
    """Correlated channels with well separated variances."""
    def make(draw):
        c = shape[1]
        scales = 2.0 ** (np.arange(c) * 0.5 - 1)
        mixing = np.linalg.qr(draw.random.standard_normal((c, c)))[0] * scales
        values = np.einsum("ij,nj...->ni...", mixing, draw.random.standard_normal(shape)) + mean
        return torch.from_numpy(np.round(values * 1024) / 1024)
    return make


def equal_spectrum(draw):
    """(8, 4): the covariance is exactly the identity, all eigenvalues equal."""
    h = np.array([[1.0]])
    for _ in range(3):
        h = np.block([[h, h], [h, -h]])
    return torch.from_numpy(h[:, 1:5].copy())


def two_pairs(draw):
    """(8, 4): eigenvalues 4, 4, 1, 1, and a rotation among unequal ones would show."""
    return equal_spectrum(draw) * torch.tensor([2.0, 1.0, 2.0, 1.0])


def kept_covariance(c, size, settings, buffers):
    """The running mean and covariance (or whitening matrix) of c channels in groups, fresh or used; None for none."""
    kept_shape = [c, c] if size == c else [c // size, size, size]
    name_kept = "running_whitening" if settings.get("whiteningRunning") == "whiteningMatrix" else "running_covariance"

    def state(draw):
        identity = torch.eye(size).repeat(c // size, 1, 1)
        if buffers == "fresh":
            return {"running_mean": torch.zeros(c), name_kept: identity.reshape(kept_shape).clone(), "num_batches_tracked": 0}
        a = draw.normal([c // size, size, size])
        covariance = a @ a.transpose(1, 2) / size + 0.25 * identity
        covariance = torch.round(covariance * 1024) / 1024
        return {"running_mean": draw.normal([c]), name_kept: covariance.reshape(kept_shape), "num_batches_tracked": 4}

    return None if buffers is None else state


def zca_cases():
    def case(name, seed, shape, d=None, root=inverse_root_eigh, buffers="fresh", make_input=None, mean=0.0, **more):
        settings = dict(more.pop("settings", {}))
        c = shape[1]
        if d is not None:
            settings["groupSize"] = d
        return Case(name, seed, shape, zca(root), settings=settings, make_input=make_input or mixed(shape, mean),
                    buffers=kept_covariance(c, d or c, settings, buffers), **more)

    newton = inverse_root_newton_schulz
    matrix = {"whiteningRunning": "whiteningMatrix"}
    return [
        case("train-nc", 600, [17, 4]),
        case("train-ncl", 601, [5, 4, 7]),
        case("train-nchw", 602, [5, 3, 3, 2]),
        case("train-ncdhw", 603, [3, 3, 2, 2, 5]),
        case("train-groups-of-2", 604, [7, 6, 3], d=2),
        case("train-groups-of-3-twice", 605, [5, 6, 3, 2], d=3, warmup=1),
        case("train-groups-of-1", 606, [7, 3, 3], d=1),
        case("train-no-affine", 607, [5, 3, 7], affine="none"),
        case("train-weight-only", 608, [5, 3, 7], affine="weight"),
        case("train-bias-only", 609, [11, 4], affine="bias"),
        case("train-shrinkage", 610, [5, 4, 4], settings={"shrinkage": 0.2}),
        case("train-shrinkage-groups", 611, [5, 4, 5], d=2, settings={"shrinkage": 0.05}),
        case("train-epsilon-1e-1", 612, [5, 4, 4], settings={"epsilon": 0.1}),
        case("train-population-covariance", 613, [5, 3, 4], settings={"runningVariance": "population"}, buffers="used"),
        case("train-cumulative", 614, [5, 3, 4], settings={"momentum": None}, warmup=2),
        case("train-whitening-matrix", 615, [5, 3, 5], settings=matrix, warmup=1),
        case("train-whitening-matrix-groups", 616, [7, 4, 3], d=2, settings=matrix),
        case("train-mean-1e3", 617, [7, 3, 5], mean=1000.0),
        case("train-equal-eigenvalues", 618, [8, 4], root=newton, make_input=equal_spectrum),
        case("train-two-pairs-of-equal-eigenvalues", 619, [8, 4], root=newton, make_input=two_pairs),
        case("train-fewer-values-than-channels", 620, [3, 5], root=newton, settings={"epsilon": 0.01}),
        case("train-without-running-statistics", 621, [5, 3, 4], settings={"runningStatistics": False}, buffers=None),
        case("inference-without-running-statistics", 622, [5, 3, 4], settings={"runningStatistics": False}, buffers=None, training=False),
        case("inference-nc", 623, [5, 6], training=False, buffers="used"),
        case("inference-groups-of-2", 624, [3, 6, 4], d=2, training=False, buffers="used"),
        case("inference-shrinkage", 625, [3, 4, 2, 2], training=False, buffers="used", settings={"shrinkage": 0.3}),
        case("inference-whitening-matrix", 626, [3, 4, 5], training=False, buffers="used", settings=matrix),
        case("inference-after-two-batches", 627, [5, 3, 2, 1, 3], training=False, warmup=2),
        case("inference-fresh", 628, [3, 5], training=False),
    ]


def main():
    files = {
        "batch-norm": batch_norm_cases(),
        "layer-norm": layer_norm_cases(),
        "instance-norm": instance_norm_cases(),
        "group-norm": group_norm_cases(),
        "ghost-batch-norm": ghost_batch_norm_cases(),
        "zca-whitening": zca_cases(),
    }
    for strategy, cases in files.items():
        assert len({case.name for case in cases}) == len(cases), strategy
        document = {
            "strategy": strategy,
            "origin": "torch %s, numpy %s, float64" % (torch.__version__, np.__version__),
            "cases": [case.run() for case in cases],
        }
        path = os.path.join(HERE, strategy + ".json")
        with open(path + ".new", "w", encoding="utf-8", newline="\n") as file:
            file.write('{"strategy":%s,"origin":%s,"cases":[\n' % (json.dumps(strategy), json.dumps(document["origin"])))
            file.write(",\n".join(json.dumps(case, separators=(",", ":"), allow_nan=False) for case in document["cases"]))
            file.write("\n]}\n")
        os.replace(path + ".new", path)
        print("%-20s %2d cases %7d bytes" % (strategy, len(cases), os.path.getsize(path)))


if __name__ == "__main__":
    main()
