#!/usr/bin/env python3
"""Writes evonorm-b0.json, evonorm-s0.json and switchable-norm.json: expected values from PyTorch autograd in float64.

Run:  python3 generate_hybrids.py     (beside generate.py, whose cases, seeds and format these are; the same versions)

torch has none of the three, so each is written here from its paper in elementary operations and differentiated by autograd:
EvoNorm from Table 2 of arXiv:2004.02967, switchable normalization from equations 3 to 5 of arXiv:1806.10779 with population
variances and running_var from 1. Fields beyond those of generate.py:
  parameters, parameterGradients     v of EvoNorm; mean_weight and var_weight of switchable normalization
"""

import json
import os

import numpy as np
import torch

from generate import HERE, Case, affine, numbers, per_channel, step


class HybridCase(Case):
    """A case with parameters beyond weight and bias; they are drawn after everything else, around where they start."""

    def __init__(self, name, seed, shape, forward, extra=None, **more):
        super().__init__(name, seed, shape, forward, **more)
        random = np.random.RandomState(seed + 50000)
        self.extra = {key: torch.from_numpy(np.round((1 + 0.5 * random.standard_normal(count)) * 1024) / 1024)
                      for key, count in (extra or {}).items()}

    def run(self):
        initial = {name: value if isinstance(value, int) else numbers(value) for name, value in self.buffers.items()}
        for batch in self.warmup:
            self.forward(self, batch, True)
        x = self.input.clone().requires_grad_(True)
        learned = {"weight": self.weight, "bias": self.bias, **self.extra}
        learned = {name: p.requires_grad_(True) for name, p in learned.items() if p is not None}
        output = self.forward(self, x, self.training)
        gradients = torch.autograd.grad(output, [x] + list(learned.values()), self.gradient)
        assert all(torch.isfinite(g).all() for g in gradients) and torch.isfinite(output).all(), self.name
        found = {name: numbers(g) for name, g in zip(learned, gradients[1:])}
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
            "parameters": {name: numbers(p) for name, p in self.extra.items()},
            "initialBuffers": initial,
            "output": numbers(output),
            "inputGradient": numbers(gradients[0]),
            "weightGradient": found.get("weight"),
            "biasGradient": found.get("bias"),
            "parameterGradients": {name: found[name] for name in self.extra},
            "buffers": {name: value if isinstance(value, int) else numbers(value) for name, value in self.buffers.items()},
        }


def spatial(x):
    return list(range(2, x.dim()))


def track(case, x, names):
    """One running update by the batch's moments."""
    rate = case.rate()
    axes = [0] + spatial(x)
    values = x.detach()
    batch = {"running_mean": values.mean(axes),
             "running_var": case.stored(values.var(axes, unbiased=False), values.numel() // values.shape[1])}
    for name in names:
        case.buffers[name] = step(case.buffers[name], batch[name], rate)


# --------------------------------------------------------------- evonorm-b0

def evonorm_b0(case, x, training):
    if not case.extra:
        return affine(case, x)
    eps = case.settings["epsilon"]
    uses_batch = training or not case.buffers
    variance = x.var([0] + spatial(x), unbiased=False) if uses_batch else case.buffers["running_var"]
    batch = per_channel(torch.sqrt(variance + eps), x.dim())
    instance = torch.sqrt(x.var(spatial(x), unbiased=False, keepdim=True) + eps)
    line = per_channel(case.extra["v"], x.dim()) * x + instance
    assert (line - batch).abs().min() > 1e-6, case.name + ": a tie, where the derivative jumps"
    if training and case.buffers:
        track(case, x, ["running_var"])
    return affine(case, x / torch.maximum(batch, line))


def evonorm_b0_cases():
    def case(name, seed, shape, v=True, state="fresh", **more):
        c = shape[1]

        def buffers(draw):
            fresh = state == "fresh"
            return {"running_var": torch.ones(c) if fresh else draw.positive([c]), "num_batches_tracked": 0 if fresh else 4}

        return HybridCase(name, seed, shape, evonorm_b0, extra={"v": c} if v else None, buffers=buffers if state else None, **more)

    off = {"runningStatistics": False}
    return [
        case("train-ncl", 700, [3, 4, 7]),
        case("train-ncl-twice", 701, [3, 4, 7], warmup=1),
        case("train-nchw-used-buffers", 702, [3, 4, 5, 2], state="used"),
        case("train-ncdhw", 703, [2, 3, 2, 1, 7]),
        case("train-no-affine", 704, [5, 3, 7], affine="none"),
        case("train-weight-only", 705, [3, 5, 2, 3], affine="weight"),
        case("train-bias-only", 706, [4, 3, 5], affine="bias"),
        case("train-cumulative-three-batches", 707, [4, 3, 5], settings={"momentum": None}, warmup=2),
        case("train-population-variance", 708, [3, 4, 5], settings={"runningVariance": "population"}, warmup=1),
        case("train-epsilon-1e-1", 709, [5, 3, 2, 2], settings={"epsilon": 0.1}),
        case("train-one-sample", 710, [1, 3, 11]),
        case("train-two-positions", 711, [4, 3, 2]),
        case("train-mean-1e2", 712, [3, 4, 7], mean=100.0),
        case("train-without-running-statistics", 713, [5, 3, 3], state=None, settings=off),
        case("train-without-nonlinearity", 714, [3, 4, 5], v=False, state=None, settings={"nonlinearity": False}),
        case("inference-without-running-statistics", 715, [5, 3, 3], state=None, settings=off, training=False),
        case("inference-ncl", 716, [5, 6, 4], state="used", training=False),
        case("inference-nchw-no-affine", 717, [3, 4, 5, 2], state="used", training=False, affine="none"),
        case("inference-ncdhw-after-two-batches", 718, [2, 3, 2, 1, 5], training=False, warmup=2),
        case("inference-one-sample", 719, [1, 4, 7], state="used", training=False),
        case("inference-without-nonlinearity", 720, [3, 4, 2, 2], v=False, state=None, settings={"nonlinearity": False}, training=False),
    ]


# --------------------------------------------------------------- evonorm-s0

def evonorm_s0(case, x, training):
    if not case.extra:
        return affine(case, x)
    groups = case.settings["groups"]
    grouped = x.reshape(x.shape[0], groups, -1)
    deviation = torch.sqrt(grouped.var(2, unbiased=False, keepdim=True) + case.settings["epsilon"])
    numerator = x * torch.sigmoid(per_channel(case.extra["v"], x.dim()) * x)
    return affine(case, (numerator.reshape(grouped.shape) / deviation).reshape(x.shape))


def evonorm_s0_cases():
    def case(name, seed, shape, groups, v=True, **more):
        return HybridCase(name, seed, shape, evonorm_s0, extra={"v": shape[1]} if v else None,
                          settings={"groups": groups, **more.pop("settings", {})}, **more)

    return [
        case("train-nc", 800, [5, 6], 2),
        case("train-nc-one-group", 801, [5, 7], 1),
        case("train-ncl", 802, [3, 6, 5], 3),
        case("train-nchw", 803, [3, 4, 5, 2], 2),
        case("train-ncdhw", 804, [2, 6, 2, 1, 5], 2),
        case("train-one-group", 805, [3, 5, 7], 1),
        case("train-as-many-groups-as-channels", 806, [3, 5, 7], 5),
        case("train-no-affine", 807, [3, 6, 5], 2, affine="none"),
        case("train-weight-only", 808, [3, 6, 5], 3, affine="weight"),
        case("train-bias-only", 809, [3, 6, 2, 2], 2, affine="bias"),
        case("train-epsilon-1e-1", 810, [2, 9, 5], 3, settings={"epsilon": 0.1}),
        case("train-mean-8", 811, [2, 4, 11], 2, mean=8.0),
        case("train-mean-minus-5", 812, [2, 4, 11], 2, mean=-5.0),
        case("train-scale-20", 813, [3, 4, 7], 2, scale=20.0),
        case("train-one-sample", 814, [1, 8, 3, 3], 4),
        case("train-one-position", 815, [4, 6, 1], 2),
        case("train-without-nonlinearity", 816, [3, 4, 5], 2, v=False, settings={"nonlinearity": False}),
        case("inference-nc", 817, [5, 6], 2, training=False),
        case("inference-nchw", 818, [3, 4, 5, 2], 2, training=False),
        case("inference-ncl-no-affine", 819, [3, 6, 5], 3, affine="none", training=False),
    ]


# ---------------------------------------------------------- switchable-norm

def switchable_norm(case, x, training):
    axes = spatial(x)
    uses_batch = training or not case.buffers
    means, variances = [], []
    for over in (axes, [1] + axes):
        means.append(x.mean(over, keepdim=True))
        variances.append(x.var(over, unbiased=False, keepdim=True))
    means.append(x.mean([0] + axes, keepdim=True) if uses_batch else per_channel(case.buffers["running_mean"], x.dim()))
    variances.append(x.var([0] + axes, unbiased=False, keepdim=True) if uses_batch else per_channel(case.buffers["running_var"], x.dim()))
    shares = torch.softmax(case.extra["mean_weight"], 0), torch.softmax(case.extra["var_weight"], 0)
    mean = sum(share * value for share, value in zip(shares[0], means))
    variance = sum(share * value for share, value in zip(shares[1], variances))
    if training and case.buffers:
        track(case, x, ["running_mean", "running_var"])
    return affine(case, (x - mean) / torch.sqrt(variance + case.settings["epsilon"]))


def switchable_norm_cases():
    def case(name, seed, shape, state="fresh", logits=None, **more):
        c = shape[1]

        def buffers(draw):
            if state == "fresh":
                return {"running_mean": torch.zeros(c), "running_var": torch.ones(c), "num_batches_tracked": 0}
            return {"running_mean": draw.normal([c]), "running_var": draw.positive([c]), "num_batches_tracked": 4}

        made = HybridCase(name, seed, shape, switchable_norm, extra={"mean_weight": 3, "var_weight": 3}, buffers=buffers if state else None, **more)
        if logits:
            made.extra = {key: torch.tensor(values) for key, values in logits.items()}
        return made

    off = {"runningStatistics": False}
    equal = {"mean_weight": [1.0, 1.0, 1.0], "var_weight": [1.0, 1.0, 1.0]}
    far = {"mean_weight": [3.0, -2.0, 0.5], "var_weight": [-1.0, 4.0, 1.5]}
    return [
        case("train-ncl", 900, [3, 4, 7]),
        case("train-ncl-twice", 901, [3, 4, 7], warmup=1),
        case("train-nchw-used-buffers", 902, [3, 4, 5, 2], state="used"),
        case("train-ncdhw", 903, [2, 3, 2, 1, 7]),
        case("train-initial-logits", 904, [3, 4, 5], logits=equal),
        case("train-unequal-logits", 905, [3, 4, 5], logits=far),
        case("train-no-affine", 906, [5, 3, 7], affine="none"),
        case("train-weight-only", 907, [3, 5, 2, 3], affine="weight"),
        case("train-bias-only", 908, [4, 3, 5], affine="bias"),
        case("train-cumulative-three-batches", 909, [4, 3, 5], settings={"momentum": None}, warmup=2),
        case("train-population-variance", 910, [3, 4, 5], settings={"runningVariance": "population"}, warmup=1),
        case("train-epsilon-1e-1", 911, [5, 3, 2, 2], settings={"epsilon": 0.1}),
        case("train-one-sample", 912, [1, 3, 7]),
        case("train-two-positions", 913, [4, 3, 2]),
        case("train-mean-1e3", 914, [2, 4, 5], mean=1000.0),
        case("train-without-running-statistics", 915, [5, 3, 3], state=None, settings=off),
        case("inference-without-running-statistics", 916, [5, 3, 3], state=None, settings=off, training=False),
        case("inference-ncl", 917, [5, 6, 4], state="used", training=False),
        case("inference-nchw-no-affine", 918, [3, 4, 5, 2], state="used", training=False, affine="none"),
        case("inference-ncdhw-after-two-batches", 919, [2, 3, 2, 1, 5], training=False, warmup=2),
        case("inference-one-sample", 920, [1, 4, 7], state="used", training=False),
    ]


def main():
    files = {"evonorm-b0": evonorm_b0_cases(), "evonorm-s0": evonorm_s0_cases(), "switchable-norm": switchable_norm_cases()}
    for strategy, cases in files.items():
        assert len({case.name for case in cases}) == len(cases), strategy
        origin = "torch %s, numpy %s, float64" % (torch.__version__, np.__version__)
        path = os.path.join(HERE, strategy + ".json")
        with open(path + ".new", "w", encoding="utf-8", newline="\n") as file:
            file.write('{"strategy":%s,"origin":%s,"cases":[\n' % (json.dumps(strategy), json.dumps(origin)))
            file.write(",\n".join(json.dumps(case.run(), separators=(",", ":"), allow_nan=False) for case in cases))
            file.write("\n]}\n")
        os.replace(path + ".new", path)
        print("%-20s %2d cases %7d bytes" % (strategy, len(cases), os.path.getsize(path)))


if __name__ == "__main__":
    main()
