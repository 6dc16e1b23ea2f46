#!/usr/bin/env python3
"""Writes networks.json: two training steps of small networks in PyTorch, float64.

Run:  python3 generate_networks.py     (needs torch; written with Debian's python3-torch 1.13)

A network is a dictionary: shape (N, C, ...), input (in memory's order channels-last), labelList, rate, momentum, weightDecay, initial parameters
in the order of the layers, the loss before each of the two steps, and the parameters after them. Convolution weights are written as (O, k, k, C), the
others as PyTorch has them. As in generate.py, a change in this repository never justifies writing the file again.
"""

import json
import os

import torch
import torch.nn as nn

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
HERE = os.path.dirname(os.path.abspath(__file__))


def last(tensor):
    return tensor.permute(0, 2, 3, 1) if tensor.dim() == 4 else tensor


def numbers(tensor):
    return [float(value) for value in last(tensor.detach()).reshape(-1)]


def run(name, seed, network, shape, classes, rate, momentum, decay):
    torch.manual_seed(seed)
    for parameter in network.parameters():
        parameter.data = torch.randn(parameter.shape) * (0.4 if parameter.dim() > 1 else 0.2) + (1.0 if parameter.dim() == 1 else 0.0)
    x = torch.randn(shape)
    labels = torch.randint(0, classes, (shape[0],))
    matrices = [p for p in network.parameters() if p.dim() > 1]
    vectors = [p for p in network.parameters() if p.dim() == 1]
    optimizer = torch.optim.SGD(
        [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}], lr=rate, momentum=momentum)
    case = {
        "name": name, "shape": list(shape), "input": numbers(x), "labelList": [int(label) for label in labels],
        "rate": rate, "momentum": momentum, "weightDecay": decay,
        "initial": [numbers(p) for p in network.parameters()], "losses": [],
    }
    for _ in range(2):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(x), labels)
        case["losses"].append(float(loss.detach()))
        loss.backward()
        optimizer.step()
    case["trained"] = [numbers(p) for p in network.parameters()]
    return case


def perceptron():
    return nn.Sequential(
        nn.Linear(9, 8, bias=False), nn.BatchNorm1d(8), nn.Sigmoid(),
        nn.Linear(8, 7, bias=False), nn.BatchNorm1d(7), nn.Sigmoid(), nn.Linear(7, 4))


def convolutional():
    layers = []
    for inputs, outputs, stride in ((1, 4, 1), (4, 6, 2), (6, 6, 1), (6, 8, 2)):
        layers += [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))


if __name__ == "__main__":
    cases = [
        run("sigmoid perceptron with batch norm", 1, perceptron(), (7, 9), 4, 0.5, 0.0, 0.0),
        run("sigmoid perceptron with momentum and weight decay", 2, perceptron(), (6, 9), 4, 0.1, 0.9, 0.01),
        run("convolutional network with batch norm", 3, convolutional(), (5, 1, 9, 10), 5, 0.2, 0.9, 0.001),
    ]
    with open(os.path.join(HERE, "networks.json"), "w") as file:
        json.dump(cases, file)
        file.write("\n")
