#!/usr/bin/env python3
"""Writes lstm.json, data-standardizer.json and folding.json: expected values for the companions, from PyTorch in float64.

Run:  python3 generate_companions.py       (needs numpy and torch; written with Debian's python3-torch 1.13 and numpy 1.24)

As with generate.py, everything is drawn from fixed seeds, inputs are multiples of 1/1024, and the files are evidence from outside that
a change in this repository never justifies writing again.

lstm.json: cells over sequences, differentiated by autograd. Gate order i, f, g, o. The plain cell without a mask is also held against
torch.nn.LSTM here. Arrays are row-major: input (T, N, D), mask (T, N), output (T, N, H).
data-standardizer.json: moments of a whole data set by torch.var_mean(unbiased=False), the batches it comes in, and the standardized first batch.
folding.json: torch.nn.utils.fusion's own folding of batch norm into the layer before it.
"""

import json
import os

import numpy as np
import torch
import torch.nn.functional as F
from torch.nn.utils import fusion

from generate import Draw, HERE, numbers, step

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)


# ---------------------------------------------------------------- LSTM

class Lstm:
    def __init__(self, name, seed, kind, t, n, d, h, lengths=None, mask=None, state=False, first_step=0, maximum=None, training=True,
                 frozen=False, tracked=None, warmup=0, momentum=0.05, sample=False, eps=1e-5):
        draw = Draw(seed)
        self.name, self.kind, self.t, self.n, self.d, self.h = name, kind, t, n, d, h
        self.training, self.frozen, self.first_step, self.eps, self.momentum, self.sample = training, frozen, first_step, eps, momentum, sample
        self.maximum = maximum or t
        self.mask = mask
        if lengths:
            self.mask = [[step_ < length for length in lengths] for step_ in range(t)]
        self.parameters = {"weight_ih": draw.normal([4 * h, d]), "weight_hh": draw.normal([4 * h, h]), "bias": draw.normal([4 * h])}
        if kind != "none":
            self.parameters["norm_ih.weight"] = draw.normal([4 * h], 0.5, 0.5)
            self.parameters["norm_hh.weight"] = draw.normal([4 * h], 0.5, 0.5)
            self.parameters["norm_c.weight"] = draw.normal([h], 0.5, 0.5)
            self.parameters["norm_c.bias"] = draw.normal([h])
        self.buffers = {}
        if kind == "batch":
            for norm, width in (("norm_ih", 4 * h), ("norm_hh", 4 * h), ("norm_c", h)):
                for i in range(self.maximum):
                    seen = i < (tracked or 0)
                    self.buffers["%s.%d.running_mean" % (norm, i)] = draw.normal([width]) if seen else torch.zeros(width)
                    self.buffers["%s.%d.running_var" % (norm, i)] = draw.positive([width]) if seen else torch.ones(width)
                    self.buffers["%s.%d.num_batches_tracked" % (norm, i)] = 3 if seen else 0
        self.warmup = [draw.normal([t, n, d]) for _ in range(warmup)]
        self.input = draw.normal([t, n, d])
        self.gradient = draw.normal([t, n, h])
        self.state = [draw.normal([n, h], 0, 0.5), draw.normal([n, h])] if state else None
        self.state_gradient = [draw.normal([n, h]), draw.normal([n, h])] if state else None

    def normalize(self, norm, index, x, training):
        if self.kind == "none":
            return x
        weight, bias = self.parameters[norm + ".weight"], self.parameters.get(norm + ".bias")
        if self.kind == "layer":
            return F.layer_norm(x, [x.shape[1]], weight, bias, self.eps)
        if training and not self.frozen:
            prefix = "%s.%d." % (norm, index)
            mean, variance = x.detach().mean(0), x.detach().var(0, unbiased=self.sample)
            self.buffers[prefix + "running_mean"] = step(self.buffers[prefix + "running_mean"], mean, self.momentum)
            self.buffers[prefix + "running_var"] = step(self.buffers[prefix + "running_var"], variance, self.momentum)
            self.buffers[prefix + "num_batches_tracked"] += 1
            return F.batch_norm(x, None, None, weight, bias, True, 0.0, self.eps)
        seen = [i for i in range(self.maximum) if self.buffers["%s.%d.num_batches_tracked" % (norm, i)] > 0]
        prefix = "%s.%d." % (norm, min(index, seen[-1] if seen else 0))
        return F.batch_norm(x, self.buffers[prefix + "running_mean"], self.buffers[prefix + "running_var"], weight, bias, False, 0.0, self.eps)

    def run_cell(self, x, h, c, training):
        outputs = []
        for i in range(self.t):
            rows = [n for n in range(self.n) if self.mask is None or self.mask[i][n]]
            if rows:
                z = (self.normalize("norm_ih", self.first_step + i, x[i, rows] @ self.parameters["weight_ih"].T, training)
                     + self.normalize("norm_hh", self.first_step + i, h[rows] @ self.parameters["weight_hh"].T, training) + self.parameters["bias"])
                gate_i, gate_f, gate_g, gate_o = z.chunk(4, 1)
                new_c = torch.sigmoid(gate_f) * c[rows] + torch.sigmoid(gate_i) * torch.tanh(gate_g)
                new_h = torch.sigmoid(gate_o) * torch.tanh(self.normalize("norm_c", self.first_step + i, new_c, training))
                c, h = c.index_copy(0, torch.tensor(rows), new_c), h.index_copy(0, torch.tensor(rows), new_h)
            outputs.append(h)
        return torch.stack(outputs), h, c

    def run(self):
        initial = {name: value if isinstance(value, int) else numbers(value) for name, value in self.buffers.items()}
        zeros = torch.zeros([self.n, self.h])
        for batch in self.warmup:
            self.run_cell(batch, zeros, zeros, True)
        x = self.input.clone().requires_grad_(True)
        h, c = [value.clone().requires_grad_(True) for value in (self.state or [zeros, zeros])]
        for value in self.parameters.values():
            value.requires_grad_(True)
        output, last_h, last_c = self.run_cell(x, h, c, self.training)
        if self.kind == "none" and self.mask is None:
            peer = torch.nn.LSTM(self.d, self.h)
            with torch.no_grad():
                peer.weight_ih_l0.copy_(self.parameters["weight_ih"])
                peer.weight_hh_l0.copy_(self.parameters["weight_hh"])
                peer.bias_ih_l0.copy_(self.parameters["bias"])
                peer.bias_hh_l0.zero_()
            theirs, _ = peer(x, (h[None], c[None]))
            assert (theirs - output).abs().max() < 1e-14, self.name
        case = {
            "id": self.name, "normalization": self.kind, "steps": self.t, "samples": self.n, "inputs": self.d, "hidden": self.h,
            "training": self.training, "frozen": self.frozen, "firstStep": self.first_step, "maximumSteps": self.maximum,
            "epsilon": self.eps, "momentum": self.momentum, "runningVariance": "sample" if self.sample else "population",
            "mask": None if self.mask is None else [bool(value) for row in self.mask for value in row],
            "parameters": {name: numbers(value) for name, value in self.parameters.items()},
            "initialBuffers": initial, "warmup": [numbers(batch) for batch in self.warmup], "input": numbers(self.input),
            "initialState": None if self.state is None else [numbers(value) for value in self.state],
            "output": numbers(output), "finalState": [numbers(last_h), numbers(last_c)],
            "buffers": {name: value if isinstance(value, int) else numbers(value) for name, value in self.buffers.items()},
        }
        if self.training:
            loss = (output * self.gradient).sum()
            if self.state_gradient:
                loss = loss + (last_h * self.state_gradient[0]).sum() + (last_c * self.state_gradient[1]).sum()
            wanted = [x, h, c] + list(self.parameters.values())
            found = torch.autograd.grad(loss, wanted, allow_unused=True)
            found = [torch.zeros_like(w) if g is None else g for w, g in zip(wanted, found)]
            assert all(torch.isfinite(g).all() for g in found), self.name
            case["outputGradient"] = numbers(self.gradient)
            case["finalStateGradient"] = None if self.state_gradient is None else [numbers(value) for value in self.state_gradient]
            case["inputGradient"] = numbers(found[0])
            case["initialStateGradient"] = [numbers(found[1]), numbers(found[2])]
            case["parameterGradients"] = {name: numbers(g) for name, g in zip(self.parameters, found[3:])}
        return case


def lstm_cases():
    holes = [[True, False, True, True], [False, False, False, False], [True, True, False, True]]
    return [
        Lstm("plain", 700, "none", 3, 2, 3, 2),
        Lstm("plain-one-sample-one-unit", 701, "none", 4, 1, 2, 1),
        Lstm("plain-state", 702, "none", 2, 3, 1, 3, state=True),
        Lstm("plain-lengths", 703, "none", 4, 3, 2, 2, lengths=[4, 1, 2], state=True),
        Lstm("plain-inference", 704, "none", 3, 2, 2, 2, training=False),
        Lstm("layer", 705, "layer", 3, 2, 3, 3),
        Lstm("layer-state-epsilon", 706, "layer", 2, 3, 2, 3, state=True, eps=1e-2),
        Lstm("layer-lengths", 707, "layer", 4, 3, 2, 3, lengths=[1, 4, 0], state=True),
        Lstm("layer-inference", 708, "layer", 3, 2, 2, 3, training=False),
        Lstm("batch", 709, "batch", 3, 5, 3, 2, state=True),
        Lstm("batch-zero-state-large-epsilon", 710, "batch", 2, 4, 2, 2, eps=0.1),
        Lstm("batch-twice-sample-variance", 711, "batch", 2, 4, 2, 2, state=True, warmup=1, sample=True, momentum=0.3),
        Lstm("batch-lengths", 712, "batch", 3, 5, 2, 2, lengths=[3, 1, 3, 2, 3], state=True),
        Lstm("batch-holes", 713, "batch", 3, 4, 2, 1, mask=holes, state=True),
        Lstm("batch-later-step", 714, "batch", 2, 4, 1, 2, state=True, first_step=1, maximum=3, tracked=2),
        Lstm("batch-frozen", 715, "batch", 3, 3, 2, 2, state=True, frozen=True, maximum=3, tracked=3),
        Lstm("batch-frozen-beyond-seen-lengths", 716, "batch", 3, 3, 2, 1, state=True, frozen=True, maximum=3, tracked=2, lengths=[3, 1, 2]),
        Lstm("batch-inference", 717, "batch", 2, 3, 2, 2, training=False, tracked=2),
        Lstm("batch-inference-beyond-maximum", 718, "batch", 4, 2, 2, 2, training=False, maximum=2, tracked=2, state=True),
        Lstm("batch-inference-beyond-seen", 719, "batch", 4, 1, 2, 2, training=False, maximum=3, tracked=1),
        Lstm("batch-inference-after-training", 720, "batch", 2, 3, 2, 2, training=False, warmup=2, momentum=0.5),
    ]


# ---------------------------------------------------- data set standardization

def standardizer_cases():
    cases = []
    shapes = [
        ("nc", [[4, 3], [1, 3], [7, 3]], 0.0),
        ("ncl-one-batch", [[3, 2, 5]], 0.0),
        ("nchw", [[2, 3, 2, 4], [1, 3, 3, 3], [2, 3, 1, 1]], 0.0),
        ("ncdhw-mean-1e4", [[2, 2, 2, 2, 2], [1, 2, 3, 1, 2]], 1e4),
        ("mixed-ranks", [[5, 4], [2, 4, 3], [1, 4, 2, 2], [1, 4, 1, 2, 2]], 3.0),
        ("constant-channel", [[3, 3, 2], [2, 3, 4]], 0.0),
    ]
    for index, (name, batches, mean) in enumerate(shapes):
        draw = Draw(800 + index)
        values = [draw.channels(shape, mean) for shape in batches]
        if name == "constant-channel":
            for batch in values:
                batch[:, 1] = 0.375
        columns = torch.cat([batch.transpose(0, 1).reshape(batch.shape[1], -1) for batch in values], 1)
        variance, center = torch.var_mean(columns, 1, unbiased=False)
        rest = [1, -1] + [1] * (len(batches[0]) - 2)
        deviation = torch.where(variance == 0, torch.ones_like(variance), variance.sqrt())
        cases.append({
            "id": name, "shapes": batches, "batches": [numbers(batch) for batch in values],
            "mean": numbers(center), "populationVariance": numbers(variance), "count": columns.shape[1],
            "standardized": numbers((values[0] - center.reshape(rest)) / deviation.reshape(rest)),
        })
    return cases


# --------------------------------------------------------------------- folding

def folding_cases():
    cases = []
    layers = [
        ("linear", torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3), fusion.fuse_linear_bn_eval),
        ("linear-without-bias", torch.nn.Linear(2, 5, bias=False), torch.nn.BatchNorm1d(5, eps=1e-3), fusion.fuse_linear_bn_eval),
        ("conv1d", torch.nn.Conv1d(2, 3, 4), torch.nn.BatchNorm1d(3), fusion.fuse_conv_bn_eval),
        ("conv2d-grouped", torch.nn.Conv2d(4, 6, (2, 3), groups=2), torch.nn.BatchNorm2d(6), fusion.fuse_conv_bn_eval),
        ("conv2d-depthwise-without-bias", torch.nn.Conv2d(3, 3, 3, groups=3, bias=False), torch.nn.BatchNorm2d(3), fusion.fuse_conv_bn_eval),
        ("conv3d", torch.nn.Conv3d(2, 2, (1, 2, 2)), torch.nn.BatchNorm3d(2), fusion.fuse_conv_bn_eval),
    ]
    for index, (name, layer, norm, fuse) in enumerate(layers):
        draw = Draw(900 + index)
        with torch.no_grad():
            for parameter in list(layer.parameters()) + list(norm.parameters()) + [norm.running_mean]:
                parameter.copy_(draw.normal(list(parameter.shape)))
            norm.running_var.copy_(draw.positive(list(norm.running_var.shape)))
        fused = fuse(layer.eval(), norm.eval())
        cases.append({
            "id": name, "shape": list(layer.weight.shape), "groups": getattr(layer, "groups", 1), "epsilon": norm.eps,
            "layerWeight": numbers(layer.weight), "layerBias": None if layer.bias is None else numbers(layer.bias),
            "weight": numbers(norm.weight), "bias": numbers(norm.bias), "runningMean": numbers(norm.running_mean), "runningVar": numbers(norm.running_var),
            "foldedWeight": numbers(fused.weight), "foldedBias": numbers(fused.bias),
        })
    return cases


def main():
    files = {
        "lstm": [case.run() for case in lstm_cases()],
        "data-standardizer": standardizer_cases(),
        "folding": folding_cases(),
    }
    for topic, cases in files.items():
        assert len({case["id"] for case in cases}) == len(cases), topic
        path = os.path.join(HERE, topic + ".json")
        with open(path + ".new", "w", encoding="utf-8", newline="\n") as file:
            file.write('{"origin":%s,"cases":[\n' % json.dumps("torch %s, numpy %s, float64" % (torch.__version__, np.__version__)))
            file.write(",\n".join(json.dumps(case, separators=(",", ":"), allow_nan=False) for case in cases))
            file.write("\n]}\n")
        os.replace(path + ".new", path)
        print("%-20s %2d cases %7d bytes" % (topic, len(cases), os.path.getsize(path)))


if __name__ == "__main__":
    main()
