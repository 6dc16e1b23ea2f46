#!/usr/bin/env python3
"""Writes pca-whitening.json, cholesky-whitening.json and iter-norm.json from PyTorch in float64; generate.py says what the fields mean.

Run:  python3 generate_whitening.py            (needs numpy and torch, as generate.py does)

W comes from torch.linalg.eigh, from torch.linalg.cholesky with solve_triangular, or from elementary products; autograd differentiates all of it.
IterNorm with at most 5 steps is the recursion of the paper, P = (3 P - P^3 S) / 2; with more it is the coupled form, since the former loses
its digits. The two agree here to 1e-10 up to 5 steps.
"""

import json
import os

import torch

from generate import Case, HERE, affine, equal_spectrum, kept_covariance, mixed, np, step, two_pairs


def principal(case, sigma):
    values, vectors = torch.linalg.eigh(sigma)
    values, vectors = values.flip(0), vectors.flip(1)
    gaps = (values[:-1] - values[1:]) / values[0]
    assert len(values) == 1 or gaps.min() > 1e-3, "eigenvalues too close for eigh's derivative: " + str(values)
    size = vectors.detach().abs()
    largest = size.max(0)
    others = size.scatter(0, largest.indices[None], 0.0).max(0).values
    assert len(values) == 1 or (others / largest.values).max() < 1 - 1e-3, "the sign hangs on rounding"
    sign = torch.sign(vectors.detach().gather(0, largest.indices[None]))
    return torch.diag(values ** -0.5) @ (vectors * sign).T


def cholesky(case, sigma):
    factor = torch.linalg.cholesky(sigma)
    return torch.linalg.solve_triangular(factor, torch.eye(len(sigma)), upper=False)


def newton_schulz(case, sigma):
    steps = case.settings.get("iterations", 5)
    identity = torch.eye(len(sigma))
    trace = torch.trace(sigma)
    s = sigma / trace
    p = identity
    for _ in range(steps):
        p = 0.5 * (3 * p - p @ p @ p @ s)
    y, z = s, identity
    for _ in range(steps):
        t = 0.5 * (3 * identity - z @ y)
        y, z = y @ t, t @ z
    assert steps > 5 or (p - z).abs().max() < 1e-10
    return (p if steps <= 5 else z) / torch.sqrt(trace)


def whitening(matrix):
    def forward(case, x, training):
        c = x.shape[1]
        d = case.settings.get("groupSize") or c
        eps, alpha = case.settings["epsilon"], case.settings.get("shrinkage", 0.0)
        keeps_matrix = case.settings.get("whiteningRunning") == "whiteningMatrix"
        columns = x.transpose(0, 1).reshape(c, -1)
        m = columns.shape[1]

        def of_covariance(covariance):
            return matrix(case, (1 - alpha) * covariance + (alpha * torch.trace(covariance) / d + eps) * torch.eye(d))

        blocks, means, kept = [], [], []
        for g in range(c // d):
            block = columns[g * d:(g + 1) * d]
            if training or not case.buffers:
                mean = block.mean(1, keepdim=True)
                covariance = (block - mean) @ (block - mean).T / m
                w = of_covariance(covariance)
                means.append(mean.detach().reshape(-1))
                kept.append(w.detach() if keeps_matrix else case.stored(covariance.detach(), m))
            else:
                mean = case.buffers["running_mean"].reshape(-1, d, 1)[g]
                w = (case.buffers["running_whitening"].reshape(-1, d, d)[g] if keeps_matrix
                     else of_covariance(case.buffers["running_covariance"].reshape(-1, d, d)[g]))
            blocks.append(w @ (block - mean))
        if training and case.buffers:
            rate = case.rate()
            name = "running_whitening" if keeps_matrix else "running_covariance"
            case.buffers["running_mean"] = step(case.buffers["running_mean"], torch.cat(means), rate)
            case.buffers[name] = step(case.buffers[name], torch.stack(kept).reshape(case.buffers[name].shape), rate)
        y = torch.cat(blocks).reshape([c, x.shape[0]] + list(x.shape[2:])).transpose(0, 1)
        return affine(case, y)

    return forward


def cases_of(matrix, seed):
    matrices = {"whiteningRunning": "whiteningMatrix"}
    made = []

    def case(name, shape, d=None, buffers="fresh", make_input=None, mean=0.0, **more):
        settings = dict(more.pop("settings", {}))
        c = shape[1]
        if d is not None:
            settings["groupSize"] = d
        made.append(Case(name, seed + len(made), shape, whitening(matrix), settings=settings, make_input=make_input or mixed(shape, mean),
                         buffers=kept_covariance(c, d or c, settings, buffers), **more))

    case("train-nc", [13, 4])
    case("train-ncl", [4, 4, 5])
    case("train-nchw", [5, 3, 3, 2])
    case("train-ncdhw", [3, 3, 2, 1, 3])
    case("train-groups-of-2", [5, 6, 2], d=2)
    case("train-groups-of-3-twice", [3, 6, 2, 2], d=3, warmup=1)
    case("train-groups-of-1", [7, 3, 3], d=1)
    case("train-no-affine", [4, 3, 3], affine="none")
    case("train-weight-only", [4, 3, 3], affine="weight")
    case("train-bias-only", [9, 3], affine="bias")
    case("train-shrinkage", [4, 4, 3], settings={"shrinkage": 0.2})
    case("train-epsilon-1e-1", [5, 3, 3], settings={"epsilon": 0.1})
    case("train-population-covariance", [5, 3, 2], settings={"runningVariance": "population"}, buffers="used")
    case("train-cumulative", [5, 3, 2], settings={"momentum": None}, warmup=2)
    case("train-whitening-matrix", [4, 3, 3], settings=matrices, warmup=1)
    case("train-mean-1e3", [5, 3, 3], mean=1000.0)
    case("train-without-running-statistics", [5, 3, 2], settings={"runningStatistics": False}, buffers=None)
    case("inference-without-running-statistics", [5, 3, 2], settings={"runningStatistics": False}, buffers=None, training=False)
    case("inference-nc", [4, 6], training=False, buffers="used")
    case("inference-groups-of-2", [2, 6, 3], d=2, training=False, buffers="used")
    case("inference-shrinkage", [3, 4, 2, 2], training=False, buffers="used", settings={"shrinkage": 0.3})
    case("inference-whitening-matrix", [2, 4, 3], training=False, buffers="used", settings=matrices)
    case("inference-after-two-batches", [3, 3, 2, 1, 2], training=False, warmup=2)
    if matrix is not principal:
        case("train-equal-eigenvalues", [8, 4], make_input=equal_spectrum)
        case("train-two-pairs-of-equal-eigenvalues", [8, 4], make_input=two_pairs)
        case("train-fewer-values-than-channels", [3, 5], settings={"epsilon": 0.01})
        case("inference-fresh", [3, 5], training=False)
    if matrix is newton_schulz:
        for steps in (0, 1, 2, 7, 30):
            case("train-%d-iterations" % steps, [6, 3, 2], settings={"iterations": steps})
        case("inference-7-iterations", [2, 4, 3], training=False, buffers="used", settings={"iterations": 7})
    return made


def main():
    files = {
        "pca-whitening": cases_of(principal, 1700),
        "cholesky-whitening": cases_of(cholesky, 1800),
        "iter-norm": cases_of(newton_schulz, 1900),
    }
    for strategy, cases in files.items():
        assert len({case.name for case in cases}) == len(cases), strategy
        origin = "torch %s, numpy %s, float64" % (torch.__version__, np.__version__)
        rows = [case.run() for case in cases]
        path = os.path.join(HERE, strategy + ".json")
        with open(path + ".new", "w", encoding="utf-8", newline="\n") as file:
            file.write('{"strategy":%s,"origin":%s,"cases":[\n' % (json.dumps(strategy), json.dumps(origin)))
            file.write(",\n".join(json.dumps(row, separators=(",", ":"), allow_nan=False) for row in rows))
            file.write("\n]}\n")
        os.replace(path + ".new", path)
        print("%-20s %2d cases %7d bytes" % (strategy, len(cases), os.path.getsize(path)))


if __name__ == "__main__":
    main()
