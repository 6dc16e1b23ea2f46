"""Runs PyTorch's normalization for the benchmark, and training steps of whole networks: one JSON request a line on standard input, one JSON
answer a line on standard output.

Tensors travel through files, mapped here; what is computed on lies in memory of PyTorch's own. A request that fails is answered with
its traceback. The process ends when standard input does.
"""
import contextlib
import copy
import ctypes
import json
import os
import signal
import sys
import time
import traceback

import torch
from torch import nn

aten = torch.ops.aten
ALL = [True, True, True]

# Seconds that OpenMP's threads go on looking for work after the last; meanwhile they would slow whatever is timed next.
SPIN = 0.01


class Cell:
    """The tensors of one cell, and `calls`: for each variant a function that makes the call once.

    A call returns the output, or the gradients of input, weight and bias.
    """

    # The values of the last file; a request without one is for the same values.
    given = None

    def __init__(self, request):
        self.direction = request["direction"]
        self.shape = request["shape"]
        self.channels_last = request["channels_last"]
        self.threads = request["threads"]
        self.epsilon = request["epsilon"]
        self.momentum = request["momentum"]
        self.groups = request["groups"]
        self.ghost = request["ghost"]
        self.samples, self.channels = self.shape[:2]
        self.positions = 1
        for length in self.shape[2:]:
            self.positions *= length
        count = self.samples * self.channels * self.positions
        parameters = request["parameters"]

        if request["file"] is not None:
            values = torch.from_file(request["file"], shared=True, size=2 * count + 2 * parameters + 2 * self.channels, dtype=torch.float32)
            parts = values.split([count, count, parameters, parameters, self.channels, self.channels])
            Cell.given = [self.from_memory(parts[0]), self.from_memory(parts[1]), *(part.clone() for part in parts[2:])]
        self.x, self.dy, self.weight, self.bias, mean, var = Cell.given
        self.running_mean, self.running_var = mean.clone(), var.clone()
        self.calls = getattr(self, request["strategy"].replace("-", "_"))()

    def from_memory(self, flat):
        """A tensor of the cell's shape and memory order."""
        if not self.channels_last:
            return flat.view(self.shape).clone()
        last = flat.view([self.samples, *self.shape[2:], self.channels])
        return last.movedim(-1, 1).clone(memory_format=torch.channels_last)

    def to_memory(self, result):
        """An output or input gradient in the cell's memory order, flat."""
        result = result.reshape(self.shape)
        return (result.movedim(1, -1) if self.channels_last else result).reshape(-1)

    # Outside autograd, as the process is.
    mode = staticmethod(contextlib.nullcontext)

    def result(self, variant):
        """What a call computed, as arrays in memory's order."""
        result, *gradients = self.calls[variant]()
        return [self.to_memory(result), *(gradient.reshape(-1) for gradient in gradients)]

    def batch_norm(self):
        x, dy, w, b, mean, var = self.x, self.dy, self.weight, self.bias, self.running_mean, self.running_var
        if self.direction == "backward":
            _, m, r = aten.native_batch_norm(x, w, b, mean, var, True, self.momentum, self.epsilon)
            return {"fresh output": lambda: aten.native_batch_norm_backward(dy, x, w, mean, var, m, r, True, self.epsilon, ALL)}
        training = self.direction == "forward"
        return {"fresh output": lambda: (torch.batch_norm(x, w, b, mean, var, training, self.momentum, self.epsilon, False),)}

    def layer_norm(self):
        x, dy, shape = self.x, self.dy, self.shape[1:]
        w, b = self.weight.view(shape), self.bias.view(shape)
        if self.direction == "backward":
            _, m, r = aten.native_layer_norm(x, shape, w, b, self.epsilon)
            return {"fresh output": lambda: aten.native_layer_norm_backward(dy, x, shape, m, r, w, b, ALL)}
        return {"fresh output": lambda: (torch.layer_norm(x, shape, w, b, self.epsilon, False),)}

    def group_norm(self):
        x, dy, w, b = self.x, self.dy, self.weight, self.bias
        sizes = (self.samples, self.channels, self.positions, self.groups)
        if self.direction == "backward":
            # The operator of 1.13 reads memory as channels-first whatever the strides say; autograd hands it contiguous tensors.
            x = x.contiguous()
            _, m, r = aten.native_group_norm(x, w, b, *sizes, self.epsilon)
            return {"fresh output": lambda: aten.native_group_norm_backward(dy.contiguous(), x, m, r, w, *sizes, ALL)}
        return {"fresh output": lambda: (torch.group_norm(x, self.groups, w, b, self.epsilon, False),)}

    def instance_norm(self):
        x, dy, w, b = self.x, self.dy, self.weight, self.bias
        if self.direction != "backward":
            return {"fresh output": lambda: (torch.instance_norm(x, w, b, None, None, True, self.momentum, self.epsilon, False),)}

        # As torch.instance_norm does it: batch normalization of one image of N*C channels.
        shape = [1, self.samples * self.channels, *self.shape[2:]]
        x, w = x.contiguous().view(shape), w.repeat(self.samples)
        _, m, r = aten.native_batch_norm(x, w, b.repeat(self.samples), None, None, True, self.momentum, self.epsilon)

        def backward():
            upstream = dy.contiguous().view(shape)
            dx, dw, db = aten.native_batch_norm_backward(upstream, x, w, None, None, m, r, True, self.epsilon, ALL)
            return dx, dw.view(self.samples, -1).sum(0), db.view(self.samples, -1).sum(0)

        return {"fresh output": backward}

    def ghost_batch_norm(self):
        if self.direction == "inference":
            return self.batch_norm()
        x, dy, w, b, mean, var = self.x, self.dy, self.weight, self.bias, self.running_mean, self.running_var
        if self.direction == "forward":
            def forward(into):
                parts = [torch.batch_norm(part, w, b, mean, var, True, self.momentum, self.epsilon, False) for part in x.split(self.ghost)]
                return (torch.cat(parts, out=into),)

            return self.chunked(forward)

        parts = x.split(self.ghost)
        saved = [aten.native_batch_norm(part, w, b, mean, var, True, self.momentum, self.epsilon)[1:] for part in parts]

        def backward(into):
            dx, dw, db = zip(*(
                aten.native_batch_norm_backward(upstream, part, w, mean, var, m, r, True, self.epsilon, ALL)
                for upstream, part, (m, r) in zip(dy.split(self.ghost), parts, saved)
            ))
            return torch.cat(dx, out=into), torch.stack(dw).sum(0), torch.stack(db).sum(0)

        return self.chunked(backward)

    def chunked(self, call):
        """What the users of ghost batch normalization write; of the output only the last step can be reused."""
        output = torch.empty_like(self.x)
        return {
            "chunks of batch_norm into a cat, fresh output": lambda: call(None),
            "chunks of batch_norm into a cat, reused output": lambda: call(output),
        }

    def zca_whitening(self):
        images = [self.samples, self.channels, self.positions]
        x, dy, w, b = self.x.view(images), self.dy.view(images), self.weight, self.bias
        return {
            "a product for each sample, fresh output": Whitening(x, dy, w, b, self.epsilon).call(self.direction),
            "one product, fresh output": WhiteningOfColumns(x, dy, w, b, self.epsilon).call(self.direction),
        }


class Whitening:
    """ZCA whitening with explicit gradients, written as a user of PyTorch would: products over the samples' (C, S) matrices."""

    def __init__(self, x, dy, weight, bias, epsilon):
        self.x, self.dy, self.weight, self.bias, self.epsilon = x, dy, weight, bias, epsilon
        self.samples, self.channels, self.positions = x.shape
        self.columns = self.samples * self.positions
        self.identity = torch.eye(self.channels)

    def call(self, direction):
        if direction == "forward":
            return lambda: (self.forward()[0],)
        saved = self.forward()[1:]
        return lambda: self.backward(*saved)

    def inverse_root(self, covariance):
        values, vectors = torch.linalg.eigh(covariance)
        return values, vectors, (vectors * values.rsqrt()) @ vectors.t()

    def covariance_gradient(self, product, values, vectors):
        """From dy (x - mean)' by the divided difference of l^(-1/2): -1 / (s t (s + t)), s and t the roots of two eigenvalues."""
        gradient = self.weight[:, None] * product
        root = values.sqrt()
        divided = -1 / (root[:, None] * root * (root[:, None] + root))
        inner = vectors.t() @ ((gradient + gradient.t()) / 2) @ vectors
        return vectors @ (divided * inner) @ vectors.t()

    def each(self, matrix):
        return matrix.expand(self.samples, -1, -1)

    def forward(self):
        centred = self.x - self.x.mean((0, 2))[:, None]
        covariance = torch.bmm(centred, centred.transpose(1, 2)).sum(0) / self.columns + self.epsilon * self.identity
        values, vectors, whitening = self.inverse_root(covariance)
        output = torch.baddbmm(self.bias[:, None], self.each(self.weight[:, None] * whitening), centred)
        return output, centred, values, vectors, whitening

    def backward(self, centred, values, vectors, whitening):
        bias = self.dy.sum((0, 2))
        product = torch.bmm(self.dy, centred.transpose(1, 2)).sum(0)
        slope = self.covariance_gradient(product, values, vectors) * (2 / self.columns)

        # W (w dy - its mean) + 2/M S (x - mean); the first mean is subtracted after the product.
        scaled = whitening * self.weight
        dx = torch.baddbmm(-(scaled @ bias / self.columns)[:, None], self.each(scaled), self.dy)
        dx.baddbmm_(self.each(slope), centred)
        return dx, (whitening * product).sum(1), bias


class WhiteningOfColumns(Whitening):
    """The same over one (C, N*S) matrix, transposed from the samples and back."""

    def matrix(self, tensor):
        return tensor.transpose(0, 1).reshape(self.channels, self.columns)

    def tensor(self, matrix):
        return matrix.view(self.channels, self.samples, self.positions).transpose(0, 1).contiguous()

    def forward(self):
        x = self.matrix(self.x)
        centred = x - x.mean(1, keepdim=True)
        covariance = torch.addmm(self.identity, centred, centred.t(), beta=self.epsilon, alpha=1 / self.columns)
        values, vectors, whitening = self.inverse_root(covariance)
        output = torch.addmm(self.bias[:, None], self.weight[:, None] * whitening, centred)
        return self.tensor(output), centred, values, vectors, whitening

    def backward(self, centred, values, vectors, whitening):
        dy = self.matrix(self.dy)
        bias = dy.sum(1)
        product = dy @ centred.t()
        scaled = whitening * self.weight
        dx = torch.addmm(-(scaled @ bias / self.columns)[:, None], scaled, dy)
        dx.addmm_(self.covariance_gradient(product, values, vectors), centred, alpha=2 / self.columns)
        return self.tensor(dx), (whitening * product).sum(1), bias


class Network:
    """A training step of a whole network on one batch: autograd, cross entropy and torch.optim.SGD, as users write it."""

    def __init__(self, request):
        self.threads = request["threads"]
        self.rate = request["rate"]
        shape = request["shape"]
        count = 1
        for length in shape:
            count *= length
        values = torch.from_file(request["file"], shared=True, size=count + shape[0] + request["parameters"], dtype=torch.float32)
        with self.mode():
            x, labels, parameters = values.split([count, shape[0], request["parameters"]])
            x = x.clone().view(shape) if len(shape) == 2 else x.clone().view(shape[0], *shape[2:], shape[1]).movedim(-1, 1).contiguous()
            self.x, self.labels = x, labels.long()
            self.network = getattr(self, request["network"].replace("-", "_"))(shape[1], request["normalized"])
            for parameter in self.network.parameters():
                own, parameters = parameters.split([parameter.numel(), parameters.numel() - parameter.numel()])
                parameter.data.copy_(self.from_memory(own, parameter.shape))
            self.formats = {"SGD": torch.contiguous_format} if x.dim() == 2 else {"channels first": torch.contiguous_format, "channels last": torch.channels_last}
            self.calls = {name: self.step(name, self.rate)[1] for name in self.formats}

    @staticmethod
    @contextlib.contextmanager
    def mode():
        with torch.inference_mode(False), torch.enable_grad():
            yield

    @staticmethod
    def from_memory(flat, shape):
        return flat.view(shape) if len(shape) != 4 else flat.view(shape[0], shape[2], shape[3], shape[1]).movedim(-1, 1)

    @staticmethod
    def sigmoid_perceptron(inputs, normalized):
        layers = []
        for width in (100, 100, 100):
            layers += [nn.Linear(inputs, width, bias=not normalized), *([nn.BatchNorm1d(width)] if normalized else []), nn.Sigmoid()]
            inputs = width
        return nn.Sequential(*layers, nn.Linear(inputs, 10))

    @staticmethod
    def convolutional(inputs, normalized):
        layers = []
        for outputs, stride in ((16, 1), (32, 2), (32, 1), (64, 2)):
            layers += [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=not normalized), *([nn.BatchNorm2d(outputs)] if normalized else []), nn.ReLU()]
            inputs = outputs
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10))

    def step(self, variant, rate):
        """A copy of the network and a function that makes a step of it."""
        network = copy.deepcopy(self.network).to(memory_format=self.formats[variant])
        x = self.x.contiguous(memory_format=self.formats[variant])
        labels = self.labels
        optimizer = torch.optim.SGD(network.parameters(), lr=rate)

        def call():
            optimizer.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(network(x), labels).backward()
            optimizer.step()

        return network, call

    def result(self, variant):
        """The parameters after one step of rate 1 from the first weights."""
        with self.mode():
            network, call = self.step(variant, 1.0)
            call()
            parts = [parameter.detach() for parameter in network.parameters()]
            return [(part.movedim(1, -1) if part.dim() == 4 else part).reshape(-1) for part in parts]


def set_threads(count):
    torch.set_num_threads(count)
    if openblas is not None:
        with unbound():
            openblas.openblas_set_num_threads(count)


@contextlib.contextmanager
def unbound():
    """Threads that are made in it may run on every processor that the benchmark may, though OpenMP binds the one that makes them."""
    if allowed is None:
        yield
        return
    bound = os.sched_getaffinity(0)
    os.sched_setaffinity(0, allowed)
    try:
        yield
    finally:
        os.sched_setaffinity(0, bound)


def unbind_others():
    """Those that OpenBLAS made while it was loaded, after OpenMP had bound this one."""
    for task in os.listdir("/proc/self/task"):
        if int(task) != os.getpid():
            os.sched_setaffinity(int(task), allowed)


def find_openblas():
    """OpenBLAS as this process loaded it, since its threads are not PyTorch's; None where another BLAS serves."""
    try:
        with open("/proc/self/maps", encoding="utf-8") as maps:
            paths = {line.split(None, 5)[5].strip() for line in maps if "/" in line}
    except OSError:
        return None
    for path in paths:
        if "blas" in path.rsplit("/", 1)[-1]:
            library = ctypes.CDLL(path)
            if hasattr(library, "openblas_set_num_threads"):
                return library
    return None


cells = {}


def answer(request):
    operation = request["operation"]
    if operation == "release":
        del cells[request["cell"]]
        return {}
    if operation in ("prepare", "network"):
        set_threads(request["threads"])
        cells[request["cell"]] = cell = (Cell if operation == "prepare" else Network)(request)
        for call in cell.calls.values() if operation == "network" else []:
            # What it is held against is a copy's step: its own has to set up what the first one needs.
            with cell.mode():
                call()
        return {"variants": list(cell.calls)}

    cell = cells[request["cell"]]
    if operation == "time":
        call = cell.calls[request["variant"]]
        set_threads(cell.threads)
        with cell.mode():
            # Threads that slept take a while to find a processor each.
            warm = time.perf_counter() + request.get("warm_up", 0)
            while time.perf_counter() < warm:
                call()
            began = time.perf_counter()
            for _ in range(request["calls"]):
                call()
            seconds = time.perf_counter() - began
        if cell.threads > 1:
            time.sleep(SPIN)
        return {"seconds": seconds}
    if operation == "result":
        parts = cell.result(request["variant"])
        count = sum(part.numel() for part in parts)
        values = torch.from_file(request["file"], shared=True, size=count, dtype=torch.float32)
        for part, destination in zip(parts, values.split([part.numel() for part in parts])):
            destination.copy_(part)
        return {}
    raise ValueError(f"unknown operation {operation}")


def main():
    # Ctrl-C reaches every process of the terminal; the program that asks decides when this one ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = sys.stdout
    sys.stdout = sys.stderr
    blas = "MKL" if torch.backends.mkl.is_available() else "OpenBLAS" if openblas is not None else None
    print(json.dumps({"version": torch.__version__, "blas": blas}), file=answers, flush=True)
    with torch.inference_mode():
        for line in sys.stdin:
            try:
                reply = answer(json.loads(line))
            except Exception:
                reply = {"error": traceback.format_exc()}
            print(json.dumps(reply), file=answers, flush=True)


openblas = find_openblas()
# The processors that the benchmark may run on; None on a system that does not tell.
allowed = os.sched_getaffinity(os.getppid()) if hasattr(os, "sched_getaffinity") else None
if allowed is not None:
    unbind_others()
main()
