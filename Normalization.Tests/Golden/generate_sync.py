#!/usr/bin/env python3
"""Writes sync-batch-norm.json: expected values of synchronized batch norm, from PyTorch in float64.

Run:  python3 generate_sync.py       (see generate.py, whose cases and drawing this uses; it does not touch the other files)

torch.nn.SyncBatchNorm needs GPUs. Here each part's count, mean and sum of squared deviations are taken by elementary torch operations
and combined pairwise in rank order, which autograd differentiates; gradients of weight and bias come out summed over the parts. Every
training output is also held against torch's own batch norm of the whole batch.
"""

import json
import os

import numpy as np
import torch
import torch.nn.functional as F

from generate import HERE, Case, affine, fresh, per_channel, step, used


def parts_of(case, x):
    """The parts of a batch: given sizes, or nearly equal ones."""
    shards = case.settings.get("shards")
    if shards is None:
        replicas = case.settings.get("replicas", 2)
        shards = [len(x) // replicas + (1 if k < len(x) % replicas else 0) for k in range(replicas)]
    assert sum(shards) == len(x), case.name
    return torch.split(x, shards)


def sync_batch_norm(case, x, training):
    eps = case.settings["epsilon"]
    if case.buffers and not training:
        return F.batch_norm(x, case.buffers["running_mean"], case.buffers["running_var"], case.weight, case.bias, False, 0.0, eps)
    axes = [0] + list(range(2, x.dim()))
    count, mean, squares = 0, None, None
    for part in parts_of(case, x):
        n = part.numel() // part.shape[1]
        if n == 0:
            continue
        part_mean = part.mean(axes)
        part_squares = ((part - per_channel(part_mean, x.dim())) ** 2).sum(axes)
        if count == 0:
            count, mean, squares = n, part_mean, part_squares
            continue
        delta = part_mean - mean
        mean = mean + delta * n / (count + n)
        squares = squares + part_squares + delta ** 2 * count * n / (count + n)
        count += n
    variance = squares / count
    output = affine(case, (x - per_channel(mean, x.dim())) / torch.sqrt(per_channel(variance, x.dim()) + eps))
    whole = F.batch_norm(x.detach(), None, None, case.weight, case.bias, True, 0.0, eps)
    assert torch.allclose(output.detach(), whole.detach(), rtol=1e-10, atol=1e-10), case.name
    if case.buffers and training:
        rate = case.rate()
        case.buffers["running_mean"] = step(case.buffers["running_mean"], mean.detach(), rate)
        case.buffers["running_var"] = step(case.buffers["running_var"], case.stored(variance.detach(), count), rate)
    return output


def sync_batch_norm_cases():
    def case(name, seed, shape, shards=None, replicas=None, track=True, **more):
        settings = dict(more.pop("settings", {}))
        if shards is not None:
            settings["shards"] = shards
        if replicas is not None:
            settings["replicas"] = replicas
        if not track:
            settings["runningStatistics"] = False
        else:
            more.setdefault("buffers", fresh(shape[1]))
        return Case(name, seed, shape, sync_batch_norm, settings=settings, **more)

    return [
        case("train-nc-halves", 700, [6, 5]),
        case("train-nc-shards-3-5-0", 701, [8, 4], [3, 5, 0]),
        case("train-nc-ones", 702, [4, 5], [1, 1, 1, 1]),
        case("train-ncl-uneven-twice", 703, [5, 4, 7], [1, 4], warmup=1),
        case("train-nchw-three-replicas", 704, [5, 3, 4, 2], replicas=3),
        case("train-ncdhw-empty-first", 705, [3, 3, 2, 3, 2], [0, 2, 1]),
        case("train-more-replicas-than-samples", 706, [2, 4, 5], replicas=4),
        case("train-no-affine", 707, [5, 3, 5], [2, 3], affine="none"),
        case("train-weight-only", 708, [3, 5, 2, 3], [2, 1], affine="weight"),
        case("train-bias-only", 709, [7, 5], [5, 2], affine="bias"),
        case("train-cumulative-three-batches", 710, [4, 3, 5], [3, 1], settings={"momentum": None}, warmup=2),
        case("train-population-variance", 711, [4, 3, 5], [1, 0, 3], settings={"runningVariance": "population"}, warmup=1),
        case("train-used-buffers-momentum-one", 712, [3, 2, 7], [1, 2], settings={"momentum": 1.0}, buffers=used(2)),
        case("train-mean-1e4", 713, [5, 3, 7], [2, 3], mean=10000.0),
        case("train-epsilon-1e-1", 714, [5, 3, 4], [4, 1], settings={"epsilon": 0.1}),
        case("train-without-running-statistics", 715, [5, 3, 2], [2, 3], track=False),
        case("train-one-replica", 716, [4, 3, 3], replicas=1),
        case("inference-nc", 717, [5, 6], training=False, buffers=used(6)),
        case("inference-nchw-no-affine", 718, [3, 4, 3, 2], training=False, affine="none", buffers=used(4)),
        case("inference-after-two-batches", 719, [3, 3, 2, 1, 3], [1, 2], training=False, warmup=2),
        case("inference-without-running-statistics", 720, [5, 3, 2], track=False, training=False),
    ]


def main():
    cases = sync_batch_norm_cases()
    assert len({case.name for case in cases}) == len(cases)
    origin = "torch %s, numpy %s, float64" % (torch.__version__, np.__version__)
    path = os.path.join(HERE, "sync-batch-norm.json")
    with open(path + ".new", "w", encoding="utf-8", newline="\n") as file:
        file.write('{"strategy":"sync-batch-norm","origin":%s,"cases":[\n' % json.dumps(origin))
        file.write(",\n".join(json.dumps(case.run(), separators=(",", ":"), allow_nan=False) for case in cases))
        file.write("\n]}\n")
    os.replace(path + ".new", path)
    print("%d cases, %d bytes" % (len(cases), os.path.getsize(path)))


if __name__ == "__main__":
    main()
