#!/usr/bin/env python3
"""Writes batch-renorm.json and ada-batch-norm.json from PyTorch in float64; the format and its rules are those of generate.py.

Run:  python3 generate_domains.py

PyTorch has no layer for either: both are composed from elementary torch operations, with detach() where the definition says that
no gradient passes, and differentiated by autograd.
"""

import json
import os

import torch

from generate import Case, HERE, affine, numbers, per_channel, step
import numpy as np


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
    write({"batch-renorm": batch_renorm_cases()})
