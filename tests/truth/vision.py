"""Small models that are fed no texts, and what they learn from: tests/data/borders/images and tests/data/borders/custom.

    python tests/truth/vision.py tests/data/borders

images/model.onnx is a tiny ViT [batch, 3, 16, 16] with the outputs last_hidden_state and logits [batch, 2], images/train and
images/eval are folders of two classes; custom/model.onnx has the loss of a regression of x [batch, 4] on labels as an output, custom/*.npz
and eval.safetensors its arrays.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers as t
from PIL import Image
from safetensors.numpy import save_file
from torch.nn import functional as F

SIZES = dict(hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=12, image_size=16, patch_size=8)


class Vision(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.m = t.ViTModel(t.ViTConfig(**SIZES, initializer_range=0.3, attn_implementation="eager"), add_pooling_layer=False)
        self.head = torch.nn.Linear(8, 2)

    def forward(self, pixel_values):
        hidden = self.m(pixel_values).last_hidden_state
        return hidden, self.head(hidden[:, 0])


class Own(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Linear(4, 8), torch.nn.Linear(8, 1)

    def forward(self, x, labels):
        y = self.second(torch.tanh(self.first(x)))[:, 0]
        return y, F.mse_loss(y, labels)


def export(model, path, inputs, outputs):
    axes = {n: {0: "batch"} for n in [*inputs, *outputs] if n != "loss"}
    more = dict(input_names=list(inputs), output_names=outputs, dynamic_axes=axes, opset_version=17, dynamo=False)
    torch.onnx.export(model.eval(), tuple(inputs.values()), str(path), **more)


def image(kind, rng):
    """Stripes across, or down, of any colour."""
    stripes = (np.arange(20) // 4 % 2)[:, None] * np.ones((20, 24))
    stripes = stripes if kind == "across" else (np.arange(24) // 4 % 2)[None] * np.ones((20, 24))
    pixels = 40 + stripes[..., None] * rng.integers(60, 160, 3) + rng.integers(0, 40, (20, 24, 3))
    return Image.fromarray(pixels.astype(np.uint8))


def main(folder):
    torch.manual_seed(5)
    rng = np.random.default_rng(5)
    images = folder / "images"
    for split, count in [("train", 10), ("eval", 4)]:
        for kind in ["across", "down"]:
            (images / split / kind).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                made, name = image(kind, rng), images / split / kind / f"{i}"
                made.save(f"{name}.jpg", quality=90) if i == 1 else made.save(f"{name}.png")
    export(Vision(), images / "model.onnx", {"pixel_values": torch.randn(2, 3, 16, 16)}, ["last_hidden_state", "logits"])
    config = {"image_processor_type": "ViTImageProcessor", "size": {"height": 16, "width": 16}, "resample": 2,
              "do_normalize": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
    (images / "preprocessor_config.json").write_text(json.dumps(config, indent=1) + "\n")
    custom = folder / "custom"
    custom.mkdir(parents=True, exist_ok=True)
    export(Own(), custom / "model.onnx", {"x": torch.randn(2, 4), "labels": torch.randn(2)}, ["y", "loss"])
    def arrays(rows):
        x = rng.normal(size=(rows, 4)).astype(np.float32)
        return {"x": x, "labels": (np.sin(x[:, 0]) - x[:, 1] / 2).astype(np.float64)}
    train = arrays(42)
    np.savez(custom / "train.npz", **train)
    np.savez_compressed(custom / "other.npz", features=train["x"], wanted=train["labels"])
    save_file(arrays(13), custom / "eval.safetensors")


main(Path(sys.argv[1]))
