"""Two small vision transformers that know the digits 0 to 4, for pipelines/digits.yaml and pipelines/custom.yaml.

    python pipelines/models/digits.py pipelines/models

Of the digits of scikit-learn (1,797 images of 8 x 8, shades 0 to 16), the first 400 are held out there, and seen by neither: trained
on are the rows behind them with labels below 5. digits.onnx has hidden states and no head, digits_loss.onnx ten classes and the mean
cross-entropy of a batch, whose labels are an input.
"""

import sys
from pathlib import Path

import onnx
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

HIDDEN, HEADS, LAYERS = 32, 2, 2


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(HIDDEN), nn.LayerNorm(HIDDEN)
        self.query, self.key, self.value, self.output = (nn.Linear(HIDDEN, HIDDEN) for _ in range(4))
        self.up, self.down = nn.Linear(HIDDEN, 2 * HIDDEN), nn.Linear(2 * HIDDEN, HIDDEN)

    def forward(self, x):
        y = self.norm1(x)
        split = lambda z: z.view(z.shape[0], -1, HEADS, HIDDEN // HEADS).transpose(1, 2)
        q, k, v = split(self.query(y)), split(self.key(y)), split(self.value(y))
        weights = torch.softmax(q @ k.transpose(2, 3) / (HIDDEN // HEADS) ** 0.5, -1)
        x = x + self.output((weights @ v).transpose(1, 2).reshape(x.shape))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(1, HIDDEN, 2, 2)
        self.positions = nn.Parameter(torch.randn(1, 16, HIDDEN) * 0.02)
        self.layers = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(HIDDEN)

    def forward(self, image):
        x = self.patches(image / 16).flatten(2).transpose(1, 2) + self.positions
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.head = Encoder(), nn.Linear(HIDDEN, 10)

    def forward(self, image, label):
        logits = self.head(self.encoder(image).mean(1))
        return logits, F.cross_entropy(logits, label)


def stripped(file):
    """An export without the stack traces of its nodes, which name files of the machine that made it."""
    model = onnx.load(file)
    for graph in [model.graph, *model.functions]:
        del graph.metadata_props[:]
        for node in graph.node:
            del node.metadata_props[:]
    for value in [*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer]:
        del value.metadata_props[:]
    onnx.save(model, file)


def main(folder):
    torch.manual_seed(0)
    digits = load_digits()
    image = torch.tensor(digits.images, dtype=torch.float32)[:, None]
    label = torch.tensor(digits.target)
    known = torch.arange(len(label))[400:][label[400:] < 5]
    model = Classifier()
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    for _ in range(30):
        for rows in known[torch.randperm(len(known))].split(32):
            loss = model(image[rows], label[rows])[1]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()
    with torch.no_grad():
        right = model(image[:400], label[:400])[0].argmax(1) == label[:400]
    low = label[:400] < 5
    print("held out: 0 to 4", right[low].float().mean().item(), "5 to 9", right[~low].float().mean().item())
    batch = {0: torch.export.Dim("batch")}
    export = dict(dynamo=True, opset_version=18, external_data=False, verbose=False)
    torch.onnx.export(model.encoder, (image[:2],), folder / "digits.onnx", input_names=["image"], output_names=["hidden"],
                      dynamic_shapes=(batch,), **export)
    torch.onnx.export(model, (image[:2], label[:2]), folder / "digits_loss.onnx", input_names=["image", "label"],
                      output_names=["logits", "loss"], dynamic_shapes=(batch, batch), **export)
    for name in ["digits.onnx", "digits_loss.onnx"]:
        stripped(folder / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
