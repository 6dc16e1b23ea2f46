#!/usr/bin/env python3
"""Writes pytorch-state.safetensors, a model's state as PyTorch has it, and pytorch-outputs.safetensors, what PyTorch computes from it.

Run:  python3 generate_pytorch_state.py       (needs numpy and torch; written with Debian's python3-torch 1.13 and numpy 1.24)

The model holds one normalization layer of each kind, after a few batches in training. pytorch-state.safetensors is its state_dict()
in float32, name by name. pytorch-outputs.safetensors has for every layer <name> an input, and
  <name>.inference, <name>.training                 PyTorch's output in float32, from that state, in eval() and in train()
  <name>.inference64, <name>.training64             the same of the model in float64
  <name>.after.running_mean, <name>.after.running_var   float64, after the training batch, of layers that have them
The format is written by hand: 8 bytes of header length, a JSON header, the arrays.

As with the other golden files, a change in this repository never justifies writing these again.
"""

import copy
import json
import os
import struct

import numpy as np
import torch

torch.set_num_threads(1)

HERE = os.path.dirname(os.path.abspath(__file__))
TYPES = {torch.float32: ("F32", "<f4"), torch.float64: ("F64", "<f8"), torch.int64: ("I64", "<i8")}


def save(path, tensors):
    header, data = {}, b""
    # Eight-byte elements first keeps every array aligned.
    for name, tensor in sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0])):
        dtype, code = TYPES[tensor.dtype]
        content = tensor.detach().numpy().astype(code).tobytes()
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path + ".new", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)
    os.replace(path + ".new", path)
    print("%-30s %3d tensors %6d bytes" % (os.path.basename(path), len(tensors), os.path.getsize(path)))


class Block(torch.nn.Module):
    def __init__(self, name, layer):
        super().__init__()
        self.add_module(name, layer)


class Model(torch.nn.Module):
    """Only a container: each layer is run on an input of its own."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList([
            Block("bn", torch.nn.BatchNorm1d(5)),
            Block("bn", torch.nn.BatchNorm2d(3, eps=1e-3, momentum=0.3)),
            Block("bn", torch.nn.BatchNorm3d(2, momentum=None)),
            Block("norm", torch.nn.InstanceNorm2d(3, affine=True, track_running_stats=True)),
            Block("norm", torch.nn.LayerNorm([3, 4])),
            Block("norm", torch.nn.GroupNorm(2, 6)),
        ])


SHAPES = {
    "layers.0.bn": [4, 5], "layers.1.bn": [3, 3, 4, 5], "layers.2.bn": [2, 2, 2, 3, 3],
    "layers.3.norm": [2, 3, 4, 3], "layers.4.norm": [3, 3, 4], "layers.5.norm": [2, 6, 3, 2],
}


def main():
    random = np.random.RandomState(20)

    def draw(shape):
        c = [1, shape[1]] + [1] * (len(shape) - 2)
        values = random.standard_normal(c) + (0.5 + random.random_sample(c)) * random.standard_normal(shape)
        return torch.from_numpy((np.round(values * 1024) / 1024).astype(np.float32))

    model = Model()
    modules = {name: module for name, module in model.named_modules() if name in SHAPES}
    with torch.no_grad():
        for name, module in modules.items():
            for parameter in module.parameters():
                parameter.copy_(torch.from_numpy((np.round((0.5 + random.standard_normal(list(parameter.shape))) * 1024) / 1024)))
            for _ in range(3):
                module(draw(SHAPES[name]))

    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    outputs = {}
    for name, module in modules.items():
        x = draw(SHAPES[name])
        outputs[name + ".input"] = x
        for suffix, dtype in (("", torch.float32), ("64", torch.float64)):
            clone = copy.deepcopy(module).to(dtype)
            outputs[name + ".inference" + suffix] = clone.eval()(x.to(dtype)).detach()
            outputs[name + ".training" + suffix] = clone.train()(x.to(dtype)).detach()
        for buffer in ("running_mean", "running_var"):
            if getattr(module, buffer, None) is not None:
                outputs[name + ".after." + buffer] = getattr(clone, buffer).clone()

    save(os.path.join(HERE, "pytorch-state.safetensors"), state)
    save(os.path.join(HERE, "pytorch-outputs.safetensors"), outputs)


if __name__ == "__main__":
    main()
