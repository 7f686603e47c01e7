"""Prints the golden numbers that the tests hold. Pytest does not collect this file, and no test imports it.

Run it in any environment that has PyTorch; the project itself does not need PyTorch:

    python tests/golden_torch.py

Everything is computed in float64, so that a test's tolerance covers only the float32 error of JAX. Parameters and
inputs are made by `wave`, a formula of the index in PyTorch's layout (OIHW, [out, in]), repeated word for word in the
tests. The network and the losses are written after the official code, github.com/divyam3897/UCL at cfaa81d
(models/backbones/ResNet18.py, models/simsiam.py, models/barlowtwins.py).
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

torch.set_default_dtype(torch.float64)


def wave(shape, offset):
    """Returns a chirp in [-1, 1]: the rows of a matrix made of it are not multiples of each other."""
    index = np.arange(np.prod(shape, dtype=int), dtype=np.float64)
    return np.sin(0.31 * index * index + 0.7 * index + offset).reshape(shape)


def show(name, *tensors):
    print(f"{name} = " + ", ".join(repr(np.round(t.detach().numpy(), 7).tolist()) for t in tensors))


def pattern_dot(gradient):
    """Reduces a gradient to two numbers: its norm, and its product with a pattern, which shows signs and layout."""
    return torch.stack([gradient.norm(), (gradient * torch.from_numpy(wave(gradient.shape, 0.5))).sum()])


# tests/objectives/test_losses.py


def losses():
    prediction = torch.tensor(2.0 * wave((8, 5), 1.0), requires_grad=True)
    target = torch.tensor(wave((8, 5), 2.0) + 0.5, requires_grad=True)
    loss = -F.cosine_similarity(prediction, target.detach(), dim=-1).mean()
    loss.backward()
    show("COSINE", loss, pattern_dot(prediction.grad))

    for weight in (5e-3, 0.3):
        a, b = (torch.tensor(3.0 * wave((8, 5), o) + 0.5, requires_grad=True) for o in (1.0, 2.0))
        loss = barlow_twins(a, b, weight)
        loss.backward()
        show(f"BARLOW[{weight}]", loss, pattern_dot(a.grad), pattern_dot(b.grad))


def barlow_twins(a, b, weight):
    a, b = (a - a.mean(0)) / a.std(0), (b - b.mean(0)) / b.std(0)
    difference = (a.T @ b / a.shape[0] - torch.eye(a.shape[1])).pow(2)
    return (difference * torch.where(torch.eye(a.shape[1], dtype=bool), 1.0, weight)).sum()


# tests/models/test_models.py


class Block(nn.Module):
    def __init__(self, channels, features, stride):
        super().__init__()
        self.first = nn.Conv2d(channels, features, 3, stride, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(features)
        self.second = nn.Conv2d(features, features, 3, 1, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(features)
        self.project = stride != 1 or channels != features
        if self.project:
            self.shortcut = nn.Conv2d(channels, features, 1, stride, bias=False)
            self.shortcut_norm = nn.BatchNorm2d(features)

    def forward(self, x):
        y = F.relu(self.first_norm(self.first(x)))
        y = self.second_norm(self.second(y))
        return F.relu(y + (self.shortcut_norm(self.shortcut(x)) if self.project else x))


class Backbone(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, 1, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(width)
        self.blocks = []
        channels = width
        for stage in range(4):
            for block in range(2):
                features = width * 2**stage
                name = f"stage{stage + 1}_block{block + 1}"
                self.add_module(name, Block(channels, features, 2 if stage > 0 and block == 0 else 1))
                self.blocks.append(name)
                channels = features

    def forward(self, x):
        x = F.relu(self.stem_norm(self.stem(x)))
        for name in self.blocks:
            x = getattr(self, name)(x)
        return F.adaptive_avg_pool2d(x, 1).flatten(1)


class Projector(nn.Module):
    def __init__(self, inputs, hidden, outputs):
        super().__init__()
        self.hidden, self.hidden_norm = nn.Linear(inputs, hidden), nn.BatchNorm1d(hidden)
        self.output, self.output_norm = nn.Linear(hidden, outputs), nn.BatchNorm1d(outputs)

    def forward(self, x):
        return self.output_norm(self.output(F.relu(self.hidden_norm(self.hidden(x)))))


class Predictor(nn.Module):
    def __init__(self, inputs, hidden):
        super().__init__()
        self.hidden, self.hidden_norm = nn.Linear(inputs, hidden), nn.BatchNorm1d(hidden)
        self.output = nn.Linear(hidden, inputs)

    def forward(self, x):
        return self.output(F.relu(self.hidden_norm(self.hidden(x))))


class SimSiam(nn.Module):
    def __init__(self, width=4, hidden=24, outputs=16, bottleneck=8):
        super().__init__()
        self.backbone = Backbone(width)
        self.projector = Projector(8 * width, hidden, outputs)
        self.predictor = Predictor(outputs, bottleneck)

    def forward(self, x):
        features = self.backbone(x)
        projection = self.projector(features)
        return features, projection, self.predictor(projection)


def fill(network):
    """Sets every parameter and statistic by `wave`, offset by the sum of the letters of its name."""
    for name, value in network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        noise = wave(tuple(value.shape), float(sum(map(ord, name))))
        if value.ndim > 1:
            value.copy_(torch.from_numpy(2.0 / np.sqrt(np.prod(value.shape[1:])) * noise))
        elif name.endswith(("norm.weight", "running_var")):
            value.copy_(torch.from_numpy(1.0 + 0.3 * noise))
        else:
            value.copy_(torch.from_numpy(0.2 * noise))


def models():
    network = SimSiam()
    fill(network)
    views = [torch.from_numpy(wave((6, 3, 16, 16), offset)) for offset in (3.0, 4.0)]

    network.eval()
    features, projection, prediction = network(views[0])
    show("EVAL_FEATURES", features[0, :6])
    show("EVAL_PROJECTION", projection[1, :6])
    show("EVAL_PREDICTION", prediction[2, :6])

    network.train()
    (f, z1, p1), (_, z2, p2) = network(views[0]), network(views[1])
    loss = -F.cosine_similarity(p1, z2.detach()).mean() / 2 - F.cosine_similarity(p2, z1.detach()).mean() / 2
    loss.backward()
    show("TRAIN_FEATURES", f[0, :6])
    show("TRAIN_PROJECTION", z1[1, :6])
    show("TRAIN_PREDICTION", p1[2, :6])
    show("LOSS", loss)
    parameters, state = dict(network.named_parameters()), network.state_dict()
    print("GRADIENTS = {")
    for name in (
        "backbone.stem.weight",
        "backbone.stem_norm.weight",
        "backbone.stage2_block1.first.weight",
        "backbone.stage3_block1.shortcut.weight",
        "backbone.stage4_block2.second_norm.bias",
        "projector.hidden.weight",
        "projector.output_norm.weight",
        "predictor.hidden.weight",
        "predictor.output.bias",
    ):
        print(f'    "{name}": {np.round(pattern_dot(parameters[name].grad).numpy(), 7).tolist()},')
    print("}")
    print("STATISTICS = {")
    for name in (
        "backbone.stem_norm.running_mean",
        "backbone.stem_norm.running_var",
        "backbone.stage4_block1.shortcut_norm.running_var",
        "projector.hidden_norm.running_mean",
        "projector.output_norm.running_var",
        "predictor.hidden_norm.running_var",
    ):
        print(f'    "{name}": {np.round(state[name][:4].numpy(), 7).tolist()},')
    print("}")


if __name__ == "__main__":
    print(f"# PyTorch {torch.__version__}")
    losses()
    models()
