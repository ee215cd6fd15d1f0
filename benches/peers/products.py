"""The large matrix products of benches/src/bin/step.rs and nothing else, in a row on ONNX Runtime and on PyTorch: what
no step can be faster than, since frozen weights need their products forward and for the gradient of their input.

    pip install onnx onnxruntime torch
    python benches/peers/products.py [ROWS]
"""

import statistics
import sys
import time

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1024
layers, hidden, wide = 6, 384, 1536
# Forward: query, key, value, output, up, down. Backward the same, without the lowest query, key and value.
square, up, down = (hidden, hidden), (hidden, wide), (wide, hidden)
forward = [square] * 4 + [up, down]
backward = [up, down] + [square] * 4
shapes = forward * layers + backward * (layers - 1) + [up, down, square]
flop = sum(2 * rows * k * n for k, n in shapes)
random = np.random.default_rng(0)
# Entries that keep the size of what goes through; one weight a layer and place, as in a model.
weights = [(random.standard_normal(s) / s[0] ** 0.5).astype(np.float32) for s in shapes]
x = random.standard_normal((rows, hidden)).astype(np.float32)

nodes = [helper.make_node("Gemm", [f"x{i}", f"w{i}"], [f"x{i + 1}"]) for i in range(len(shapes))]
value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [rows, hidden])
graph = helper.make_graph(nodes, "products", [value("x0")], [value(f"x{len(shapes)}")])
graph.initializer.extend(numpy_helper.from_array(w, f"w{i}") for i, w in enumerate(weights))
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
options = onnxruntime.SessionOptions()
options.add_session_config_entry("session.disable_prepacking", "1")
session = onnxruntime.InferenceSession(model.SerializeToString(), options)


def on_onnxruntime():
    session.run(None, {"x0": x})


tensors = [torch.from_numpy(w) for w in weights]


def on_pytorch():
    y = torch.from_numpy(x)
    with torch.no_grad():
        for w in tensors:
            y = y @ w


print(f"{len(shapes)} products, {flop / 1e9:.1f} GFLOP")
for name, run in [(f"ONNX Runtime {onnxruntime.__version__}", on_onnxruntime), (f"PyTorch {torch.__version__}", on_pytorch)]:
    times = []
    for _ in range(18):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    middle, least = statistics.median(times[3:]), min(times[3:])
    print(f"{name}: {middle * 1e3:.1f} ms (median of 15, {flop / middle / 1e9:.0f} GFLOP/s; least {least * 1e3:.1f} ms)")
