"""Images as transformers' processors and Pillow make them: tests/data/truth/images.

    python tests/truth/images.py tests/data/truth/images

Images of every kind of PNG and of JPEG that people have; cases.json: an image, a preprocessor_config.json, and the name of what the
class that it names makes of the image in data.safetensors.
"""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
import transformers as t
from PIL import Image
from safetensors.torch import save_file

warnings.simplefilter("ignore")


def picture(width, height, seed):
    """Smooth colours with edges and some noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    channels = [np.sin(x / 5 + k) * 80 + np.cos(y / (4 + k)) * 60 + 120 + 30 * (x > width / 2) for k in range(3)]
    return np.clip(np.stack(channels, -1) + rng.normal(0, 4, (height, width, 3)), 0, 255).astype(np.uint8)


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    rgb = Image.fromarray(picture(37, 29, 1))
    rgb.save(folder / "rgb.png")
    rgb.convert("L").save(folder / "grey.png")
    rgb.convert("P", palette=Image.ADAPTIVE, colors=32).save(folder / "palette.png")
    alpha = rgb.convert("RGBA")
    alpha.putalpha(Image.fromarray(picture(37, 29, 2)[..., 0]))
    alpha.save(folder / "alpha.png")
    rgb.convert("L").convert("1").save(folder / "bits.png")
    tall = Image.fromarray(picture(24, 41, 3))
    tall.save(folder / "tall.jpg", quality=92, subsampling=0)
    tall.save(folder / "progressive.jpg", quality=85, progressive=True)
    tall.convert("L").save(folder / "grey.jpg", quality=90)
    classes = {
        "ViTImageProcessor": t.ViTImageProcessor,
        "CLIPImageProcessor": t.CLIPImageProcessor,
        "ConvNextImageProcessor": t.ConvNextImageProcessor,
        "DeiTImageProcessor": t.DeiTImageProcessor,
        "BitImageProcessor": t.BitImageProcessor,
    }
    cases = [("rgb.png", "ViTImageProcessor", {"size": {"height": 16, "width": 20}, "resample": r}) for r in range(6)]
    cases += [(f, "ViTImageProcessor", {"size": 18}) for f in ["grey.png", "palette.png", "alpha.png", "bits.png", "tall.jpg", "progressive.jpg", "grey.jpg"]]
    cases += [
        ("rgb.png", "ViTImageProcessor", {"size": {"height": 60, "width": 50}, "resample": 3, "image_mean": [0.48, 0.45, 0.4], "image_std": [0.22, 0.23, 0.24]}),
        ("rgb.png", "CLIPImageProcessor", {"size": {"shortest_edge": 21}, "crop_size": {"height": 18, "width": 19}}),
        ("tall.jpg", "CLIPImageProcessor", {"size": {"shortest_edge": 16}, "crop_size": 20}),
        ("rgb.png", "ConvNextImageProcessor", {"size": {"shortest_edge": 14}, "crop_pct": 0.875, "resample": 3}),
        ("rgb.png", "DeiTImageProcessor", {"size": {"height": 22, "width": 22}, "crop_size": {"height": 17, "width": 17}}),
        ("tall.jpg", "BitImageProcessor", {"size": {"shortest_edge": 20}, "crop_size": {"height": 16, "width": 16}}),
        ("rgb.png", "ViTImageProcessor", {"do_resize": False, "do_normalize": False}),
    ]
    made, data = [], {}
    for i, (image, name, more) in enumerate(cases):
        processor = classes[name](**more)
        config = processor.to_dict()
        config["image_processor_type"] = name
        pixels = processor(Image.open(folder / image).convert("RGB"), return_tensors="pt")["pixel_values"][0]
        data[f"{i}"] = pixels.float().contiguous()
        given = {k: config[k] for k in config if k in {"image_processor_type", "do_resize", "size", "resample", "do_center_crop", "crop_size", "crop_pct", "do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std"}}
        made.append({"image": image, "config": json.loads(json.dumps(given, default=dict)), "pixels": f"{i}"})
    save_file(data, folder / "data.safetensors")
    (folder / "cases.json").write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
