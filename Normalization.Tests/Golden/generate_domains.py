#!/usr/bin/env python3
"""Writes batch-renorm.json and ada-batch-norm.json from PyTorch in float64; the format and its rules are those of generate.py.

Run:  python3 generate_domains.py

PyTorch has no layer for either: both are composed from elementary torch operations, with detach() where the definition says that
no gradient passes, and differentiated by autograd.
"""

import json
import os

import numpy as np
import torch

from generate import Case, HERE, affine, per_channel, step


def axes_of(x):
    return [0] + list(range(2, x.dim()))


# -------------------------------------------------------------- batch-renorm

def batch_renorm(case, x, training):
    rank = x.dim()
    mean, sigma = case.buffers["running_mean"], case.buffers["running_sigma"]
    eps = case.settings["epsilon"]
    floored = torch.clamp(sigma, min=eps ** 0.5)
    if not training:
        return affine(case, (x - per_channel(mean, rank)) / per_channel(floored, rank))
    r_max, d_max = case.settings.get("rMax", 3.0), case.settings.get("dMax", 5.0)
    batch_mean = x.mean(axes_of(x))
    batch_sigma = torch.sqrt(x.var(axes_of(x), unbiased=False) + eps)
    r = torch.clamp(batch_sigma.detach() / floored, 1 / r_max, r_max)
    d = torch.clamp((batch_mean.detach() - mean) / floored, -d_max, d_max)
    z = (x - per_channel(batch_mean, rank)) / per_channel(batch_sigma, rank)
    rate = case.rate()
    case.buffers["running_mean"] = step(mean, batch_mean.detach(), rate)
    case.buffers["running_sigma"] = step(sigma, batch_sigma.detach(), rate)
    return affine(case, z * per_channel(r, rank) + per_channel(d, rank))


def batch_renorm_cases():
    def case(name, seed, shape, used=True, count=4, **more):
        c = shape[1]

        def buffers(draw):
            if not used:
                return {"running_mean": torch.zeros(c), "running_sigma": torch.ones(c), "num_batches_tracked": 0}
            return {"running_mean": draw.normal([c]), "running_sigma": draw.positive([c]), "num_batches_tracked": count}

        return Case(name, seed, shape, batch_renorm, buffers=buffers, **more)

    tight = {"rMax": 1.1, "dMax": 0.25}
    loose = {"rMax": 100.0, "dMax": 100.0}
    plain = {"rMax": 1.0, "dMax": 0.0}
    return [
        case("train-nc", 700, [7, 5]),
        case("train-ncl", 701, [5, 4, 3]),
        case("train-nchw", 702, [3, 4, 2, 3]),
        case("train-ncdhw", 703, [2, 3, 2, 2, 3]),
        case("train-fresh", 704, [6, 3, 4], used=False),
        case("train-fresh-three-batches", 705, [4, 3, 3], used=False, warmup=2),
        case("train-tight-limits", 706, [5, 4, 5], settings=tight),
        case("train-tight-limits-twice", 707, [4, 3, 2, 3], settings=tight, warmup=1),
        case("train-no-limit-reached", 708, [5, 4, 5], settings=loose),
        case("train-no-limit-reached-nc", 709, [9, 4], settings=loose, warmup=1),
        case("train-limits-one-and-zero", 710, [5, 4, 5], settings=plain),
        case("train-cumulative", 711, [5, 3, 4], used=False, settings={"momentum": None}, warmup=2),
        case("train-momentum-one-hundredth", 712, [5, 3, 4], settings={"momentum": 0.01}),
        case("train-momentum-one", 713, [5, 3, 4], settings={"momentum": 1.0}),
        case("train-epsilon-1e-1", 714, [5, 3, 4], settings={"epsilon": 0.1}),
        case("train-no-affine", 715, [5, 3, 4], affine="none"),
        case("train-weight-only", 716, [5, 3, 4], affine="weight", settings=tight),
        case("train-bias-only", 717, [7, 4], affine="bias"),
        case("train-far-from-the-running-mean", 718, [5, 3, 4], mean=1000.0),
        case("inference-nc", 719, [5, 6], training=False),
        case("inference-nchw", 720, [3, 4, 2, 3], training=False),
        case("inference-no-affine", 721, [2, 3, 5], training=False, affine="none"),
        case("inference-after-two-batches", 722, [5, 3, 2, 1, 3], training=False, used=False, warmup=2),
        case("inference-sigma-below-its-floor", 723, [4, 3, 3], training=False, settings={"epsilon": 1.0}),
    ]


# ------------------------------------------------------------ ada-batch-norm

def ada_batch_norm(case, x, training):
    """Moments of the domain's values together: what the buffers stand for, and every value of the batch."""
    rank = x.dim()
    n = case.buffers["target.count"]
    mean, variance = case.buffers["target.mean"][0], case.buffers["target.var"][0]
    if training:
        k = x.numel() // x.shape[1]
        values = x.detach()
        total_mean = (n * mean + values.sum(axes_of(x))) / (n + k)
        squares = ((values - per_channel(total_mean, rank)) ** 2).sum(axes_of(x))
        variance = (n * (variance + (mean - total_mean) ** 2) + squares) / (n + k)
        mean = total_mean
        case.buffers["target.count"] = n + k
        case.buffers["target.mean"] = torch.stack([mean, torch.zeros_like(mean)])
        case.buffers["target.var"] = torch.stack([variance, torch.zeros_like(variance)])
    elif n == 0:
        mean, variance = case.buffers["running_mean"], case.buffers["running_var"]
    return torch.nn.functional.batch_norm(x, mean, variance, case.weight, case.bias, False, 0.0, case.settings["epsilon"])


def ada_batch_norm_cases():
    def case(name, seed, shape, count=0, **more):
        c = shape[1]

        def buffers(draw):
            target = [draw.normal([c]), draw.positive([c])] if count else [torch.zeros(c), torch.zeros(c)]
            return {
                "running_mean": draw.normal([c]), "running_var": draw.positive([c]), "num_batches_tracked": 9,
                "target.mean": torch.stack([target[0], torch.zeros(c)]),
                "target.var": torch.stack([target[1], torch.zeros(c)]),
                "target.count": count,
            }

        return Case(name, seed, shape, ada_batch_norm, buffers=buffers, **more)

    return [
        case("train-nc", 750, [7, 5]),
        case("train-ncl", 751, [5, 4, 3]),
        case("train-nchw", 752, [3, 4, 2, 3]),
        case("train-ncdhw", 753, [2, 3, 2, 2, 3]),
        case("train-second-batch", 754, [5, 4, 3], warmup=1),
        case("train-fourth-batch", 755, [4, 3, 3], warmup=3),
        case("train-after-40-values", 756, [5, 4, 3], count=40),
        case("train-after-100000-values", 757, [5, 4, 3], count=100000, warmup=1),
        case("train-after-one-value", 758, [5, 3], count=1),
        case("train-epsilon-1e-1", 759, [5, 3, 4], settings={"epsilon": 0.1}),
        case("train-no-affine", 760, [5, 3, 4], affine="none", warmup=1),
        case("train-weight-only", 761, [5, 3, 4], affine="weight"),
        case("train-bias-only", 762, [7, 4], affine="bias", count=12),
        case("train-mean-1e3", 763, [5, 3, 4], mean=1000.0, warmup=1),
        case("inference-of-the-source", 764, [5, 4, 3], training=False),
        case("inference-nc", 765, [5, 6], training=False, count=30),
        case("inference-nchw", 766, [3, 4, 2, 3], training=False, count=30),
        case("inference-no-affine", 767, [2, 3, 5], training=False, count=30, affine="none"),
        case("inference-after-two-batches", 768, [5, 3, 2, 1, 3], training=False, warmup=2),
        case("inference-one-sample", 769, [1, 5], training=False, count=3),
    ]


def write(files):
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
    write({"batch-renorm": batch_renorm_cases(), "ada-batch-norm": ada_batch_norm_cases()})
