#!/usr/bin/env python3
"""Writes rms-norm.json, filter-response-norm.json and local-response-norm.json: what divides without subtracting a mean.

Run:  python3 generate_scaling.py    (as generate.py, which says what a case is and what holds of the files)

RMS and filter response normalization are composed from elementary torch operations and differentiated by autograd. Local response
normalization is torch's own layer: it divides alpha by the window's size, so a case that must not asks for alpha times that size, and
it centers an even window one channel lower than ONNX does, so that ONNX's is torch's on the channels in reverse.
"""

import json
import os

import numpy as np
import torch
import torch.nn.functional as F

from generate import HERE, Case, Draw, numbers, per_channel


class ScalingCase(Case):
    """A case with parameters beyond weight and bias: name, shape and centre of each."""

    def __init__(self, name, seed, shape, forward, extra=(), **more):
        super().__init__(name, seed, shape, forward, **more)
        draw = Draw(seed + 10000)
        self.extra = {key: draw.normal(size, centre, 0.25) for key, size, centre in extra}

    def run(self):
        for value in self.extra.values():
            value.requires_grad_(True)
        case = super().run()
        if self.extra:
            x = self.input.clone()
            output = self.forward(self, x, self.training)
            gradients = torch.autograd.grad(output, list(self.extra.values()), self.gradient)
            case["parameters"] = {key: numbers(value) for key, value in self.extra.items()}
            case["parameterGradients"] = {key: numbers(gradient) for key, gradient in zip(self.extra, gradients)}
        return case


# ------------------------------------------------------------------ rms-norm

def rms_norm(case, x, training):
    settings = case.settings
    k = settings.get("normalizedDimensions") or x.dim() - 1
    rows = x.reshape(list(x.shape[:x.dim() - k]) + [-1])
    counted = max(1, int(settings.get("partial", 1) * rows.shape[-1]))
    mean_square = rows[..., :counted].pow(2).mean(-1, keepdim=True)
    if settings.get("epsilonPlacement") == "outside":
        y = rows / (mean_square.sqrt() + settings["epsilon"])
    else:
        y = rows / (mean_square + settings["epsilon"]).sqrt()
    y = y.reshape(x.shape)
    return y if case.weight is None else y * case.weight


def rms_norm_cases():
    def case(name, seed, shape, k=None, affine="weight", **more):
        settings = dict(more.pop("settings", {}))
        if k is not None:
            settings["normalizedDimensions"] = k
        return ScalingCase(name, seed, shape, rms_norm, affine=affine, settings=settings,
                           parameter_shape=shape[len(shape) - (k or len(shape) - 1):], **more)

    outside = {"epsilonPlacement": "outside"}
    return [
        case("nc", 700, [5, 6]),
        case("ncl", 701, [3, 6, 7]),
        case("nchw", 702, [2, 4, 5, 2]),
        case("ncdhw", 703, [2, 3, 2, 3, 5]),
        case("ncl-last-axis", 704, [3, 5, 7], k=1),
        case("nchw-last-two", 705, [2, 4, 5, 3], k=2),
        case("ncdhw-last-three", 706, [1, 3, 2, 3, 5], k=3),
        case("no-weight", 707, [2, 5, 7], affine="none"),
        case("epsilon-machine", 708, [5, 11], settings={"epsilon": 2.0 ** -23}),
        case("epsilon-large", 709, [3, 5, 4], settings={"epsilon": 0.5}),
        case("mean-1e4", 710, [3, 13, 2], mean=10000.0),
        case("one-value", 711, [5, 3, 1], k=1, settings={"epsilon": 0.25}),
        case("outside-nc", 712, [5, 6], settings={**outside, "epsilon": 1e-8}),
        case("outside-nchw-last-two", 713, [2, 4, 5, 3], k=2, settings={**outside, "epsilon": 0.5}),
        case("partial-nc", 714, [5, 16], settings={"partial": 0.0625}),
        case("partial-nchw", 715, [2, 4, 5, 3], settings={"partial": 0.33}),
        case("partial-ncl-last-axis-no-weight", 716, [3, 4, 9], k=1, affine="none", settings={"partial": 0.5}),
        case("partial-outside", 717, [3, 6, 5], settings={**outside, "epsilon": 0.1, "partial": 0.75}),
    ]


# ------------------------------------------------------ filter-response-norm

def filter_response_norm(case, x, training):
    epsilon = case.settings["epsilon"]
    if "eps" in case.extra:
        epsilon = epsilon + case.extra["eps"].abs()
    axes = list(range(2, x.dim()))
    mean_square = x.pow(2).mean(axes, keepdim=True) if axes else x.pow(2)
    y = x * (mean_square + epsilon).rsqrt()
    if case.weight is not None:
        y = y * per_channel(case.weight, x.dim())
    if case.bias is not None:
        y = y + per_channel(case.bias, x.dim())
    return torch.maximum(y, per_channel(case.extra["tau"], x.dim())) if "tau" in case.extra else y


def filter_response_norm_cases():
    def case(name, seed, shape, threshold=True, learned=None, **more):
        settings = dict(more.pop("settings", {}))
        extra = []
        if threshold:
            extra.append(("tau", [shape[1]], 0.0))
        else:
            settings["threshold"] = False
        if learned is not None:
            settings["learnedEpsilon"] = True
            extra.append(("eps", [1], learned))
        return ScalingCase(name, seed, shape, filter_response_norm, extra=extra, settings=settings, **more)

    return [
        case("ncl", 800, [5, 6, 7]),
        case("nchw", 801, [3, 4, 5, 2]),
        case("ncdhw", 802, [2, 3, 2, 3, 5]),
        case("nc-large-epsilon", 803, [5, 6], settings={"epsilon": 0.5}),
        case("nc-learned-epsilon", 804, [7, 5], learned=1.0),
        case("no-affine", 805, [3, 5, 7], affine="none"),
        case("weight-only", 806, [3, 5, 2, 3], affine="weight"),
        case("bias-only", 807, [3, 5, 7], affine="bias"),
        case("no-threshold", 808, [3, 5, 7], threshold=False),
        case("no-threshold-no-affine", 809, [2, 4, 3, 3], threshold=False, affine="none"),
        case("learned-epsilon", 810, [3, 4, 5, 2], learned=1.0),
        case("learned-epsilon-negative", 811, [3, 4, 6], learned=-1.0),
        case("learned-epsilon-no-threshold", 812, [3, 4, 6], learned=0.5, threshold=False),
        case("epsilon-1e-6", 813, [2, 3, 11], settings={"epsilon": 1e-6}),
        case("mean-1e4", 814, [2, 3, 11], mean=10000.0),
        case("one-sample", 815, [1, 5, 3, 4]),
        case("seventeen-channels", 816, [2, 17, 3]),
    ]


# ------------------------------------------------------- local-response-norm

def local_response_norm(case, x, training):
    settings = case.settings
    size = settings.get("windowSize", 5)
    alpha = settings.get("alpha", 1e-4) * (1 if settings.get("divideAlpha", True) else size)
    mirrored = settings.get("window") == "onnx"
    x3 = x.reshape([x.shape[0], x.shape[1], -1])  # torch wants a spatial axis
    x3 = x3.flip(1) if mirrored else x3
    y = F.local_response_norm(x3, size, alpha, settings.get("beta", 0.75), settings.get("k", 1.0))
    return (y.flip(1) if mirrored else y).reshape(x.shape)


def local_response_norm_cases():
    def case(name, seed, shape, mean=0.0, **settings):
        return ScalingCase(name, seed, shape, local_response_norm, affine="none", settings=settings, mean=mean)

    strong = {"alpha": 2.0}
    return [
        case("defaults-nc", 900, [5, 9]),
        case("defaults-nchw", 901, [2, 7, 3, 2]),
        case("nc", 902, [5, 9], **strong),
        case("ncl", 903, [3, 6, 7], **strong),
        case("nchw", 904, [2, 7, 5, 2], **strong),
        case("ncdhw", 905, [2, 6, 2, 1, 5], **strong),
        case("alexnet", 906, [2, 8, 2, 3], windowSize=5, alpha=1e-4, beta=0.75, k=2.0, divideAlpha=False),
        case("undivided", 907, [2, 8, 2, 3], divideAlpha=False, **strong),
        case("even-pytorch", 908, [2, 8, 5], windowSize=4, **strong),
        case("even-onnx", 909, [2, 8, 5], windowSize=4, window="onnx", **strong),
        case("two-onnx", 910, [3, 5, 4], windowSize=2, window="onnx", **strong),
        case("odd-onnx", 911, [3, 7, 5], windowSize=3, window="onnx", **strong),
        case("size-one", 912, [3, 5, 4], windowSize=1, **strong),
        case("wider-than-the-channels", 913, [3, 4, 5], windowSize=11, **strong),
        case("one-channel", 914, [3, 1, 5], windowSize=3, **strong),
        case("beta-one-half", 915, [3, 6, 4], beta=0.5, **strong),
        case("beta-one", 916, [3, 6, 4], beta=1.0, k=0.5, **strong),
        case("beta-0.6", 917, [3, 6, 4], beta=0.6, **strong),
        case("beta-2.3-even-onnx", 918, [2, 7, 3, 2], beta=2.3, windowSize=6, window="onnx", **strong),
        case("mean-1e3", 919, [2, 5, 6], mean=1000.0, **strong),
    ]


def main():
    files = {
        "rms-norm": rms_norm_cases(),
        "filter-response-norm": filter_response_norm_cases(),
        "local-response-norm": local_response_norm_cases(),
    }
    for strategy, cases in files.items():
        assert len({case.name for case in cases}) == len(cases), strategy
        origin = "torch %s, numpy %s, float64" % (torch.__version__, np.__version__)
        lines = ",\n".join(json.dumps(case.run(), separators=(",", ":"), allow_nan=False) for case in cases)
        path = os.path.join(HERE, strategy + ".json")
        with open(path + ".new", "w", encoding="utf-8", newline="\n") as file:
            file.write('{"strategy":%s,"origin":%s,"cases":[\n%s\n]}\n' % (json.dumps(strategy), json.dumps(origin), lines))
        os.replace(path + ".new", path)
        print("%-20s %2d cases %7d bytes" % (strategy, len(cases), os.path.getsize(path)))


if __name__ == "__main__":
    main()
