"""30 steps of AdamW of every task over whole texts, as PyTorch, transformers and PEFT take them: tests/data/truth/tasks.

    python tests/truth/tasks.py tests/data/truth/tasks

bert.onnx and llama.onnx: tiny models with the outputs logits `[batch, 3]`, score `[batch, 1]` and last_hidden_state;
data.safetensors: 30 batches, and the first values of what is trained (`bert.0.query.A`, `head.3.weight`);
cases.json: the task as a pipeline says it, what it is fed with, and its 30 losses.
"""

import copy
import json
import sys
import warnings
from pathlib import Path

import onnx
import torch
import transformers as t
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from torch.nn import functional as F

warnings.simplefilter("ignore")
STEPS, ROWS, LENGTH, WIDTH, VOCAB, RANK, ALPHA = 30, 4, 10, 8, 40, 2, 4
RATE, DECAY = 1e-2, 0.05
SIZES = dict(vocab_size=VOCAB, hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2, intermediate_size=12, pad_token_id=0)
COMMON = dict(max_position_embeddings=LENGTH, num_labels=3, initializer_range=0.4, attn_implementation="eager")
BERT = t.BertConfig(**SIZES, **COMMON, hidden_dropout_prob=0, attention_probs_dropout_prob=0)
LLAMA = t.LlamaConfig(**SIZES, **COMMON, bos_token_id=2, eos_token_id=3)


class Model(torch.nn.Module):
    """A sequence classifier, its hidden states, and one number that is computed of its logits."""

    def __init__(self, config):
        super().__init__()
        self.m = t.AutoModelForSequenceClassification.from_config(config)
        self.score = torch.nn.Linear(3, 1)

    def forward(self, input_ids, attention_mask, token_type_ids=None):
        more = {"use_cache": False} if token_type_ids is None else {"token_type_ids": token_type_ids}
        y = self.m(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True, **more)
        return y.logits, self.score(y.logits), y.hidden_states[-1]


def batches():
    lengths = torch.randint(3, LENGTH + 1, (STEPS, ROWS))
    mask = (torch.arange(LENGTH) < lengths[..., None]).long()
    ids = torch.randint(1, VOCAB, (STEPS, ROWS, LENGTH)) * mask
    types = (torch.arange(LENGTH) >= lengths[..., None] // 2).long() * mask
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "token_type_ids": types,
        "classes": torch.randint(0, 3, (STEPS, ROWS)),
        "sets": torch.randint(0, 2, (STEPS, ROWS, 3)).float(),
        "values": torch.randn(STEPS, ROWS) * 2,
    }


def export(model, path, names):
    ids = torch.randint(1, VOCAB, (2, 7))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    inputs = (ids * mask, mask, torch.zeros_like(ids))[: len(names)]
    outputs = ["logits", "score", "last_hidden_state"]
    axes = {n: {0: "batch", 1: "sequence"} for n in [*names, "last_hidden_state"]} | {n: {0: "batch"} for n in outputs[:2]}
    more = dict(input_names=names, output_names=outputs, dynamic_axes=axes, opset_version=17)
    torch.onnx.export(model.eval(), inputs, str(path), dynamo=False, **more)
    made = onnx.load(path)
    for node in made.graph.node:
        node.doc_string = ""
    onnx.save(made, path)


def pooled(hidden, mask, pool):
    if pool == "cls":
        return hidden[:, 0]
    if pool == "last":
        return hidden[torch.arange(len(mask)), mask.sum(1) - 1]
    return (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


# A name, the task of the pipeline, the targets of the batches, and the loss; of a new head also its pooling and width.
LOSSES = {
    "cross_entropy": lambda y, x: F.cross_entropy(y, x),
    "weighted": lambda y, x: torch.nn.CrossEntropyLoss(torch.tensor([0.5, 2.0, 0.75]), label_smoothing=0.1)(y, x),
    "smoothed": lambda y, x: torch.nn.CrossEntropyLoss(label_smoothing=0.2)(y, x),
    "bce": lambda y, x: torch.nn.BCEWithLogitsLoss()(y, x),
    "bce_weighted": lambda y, x: torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor([3.0, 1.0, 0.25]))(y, x),
    "mse": lambda y, x: torch.nn.MSELoss()(y[:, 0], x),
    "l1": lambda y, x: torch.nn.L1Loss()(y[:, 0], x),
    "huber": lambda y, x: torch.nn.HuberLoss(delta=0.5)(y[:, 0], x),
}
NAMES = ["a", "b", "c"]
NEW = {"head": "linear"}
CASES = [
    ("bert", {"classify": {"labels": NAMES}}, "classes", "cross_entropy", None),
    ("bert", {"classify": {"labels": NAMES, "class_weights": {"a": 0.5, "b": 2.0, "c": 0.75}, "label_smoothing": 0.1}}, "classes", "weighted", None),
    ("bert", {"classify": {"labels": NAMES, "label_smoothing": 0.2, "pool": "mean"}}, "classes", "smoothed", "mean"),
    ("bert", {"multi_label": {"labels": NAMES}}, "sets", "bce", None),
    ("bert", {"multi_label": {"labels": NAMES, "pool": "cls", "pos_weight": {"a": 3.0, "c": 0.25}}}, "sets", "bce_weighted", "cls"),
    ("bert", {"regress": {}}, "values", "mse", None),
    ("bert", {"regress": {"loss": "l1", "pool": "mean"}}, "values", "l1", "mean"),
    ("bert", {"regress": {"loss": "huber", "delta": 0.5, **NEW}}, "values", "huber", "mean"),
    ("llama", {"classify": {"labels": NAMES}}, "classes", "cross_entropy", None),
    ("llama", {"classify": {"labels": NAMES, "pool": "last"}}, "classes", "cross_entropy", "last"),
    ("llama", {"multi_label": {"labels": NAMES, "pool": "last"}}, "sets", "bce", "last"),
    ("llama", {"regress": {"pool": "last"}}, "values", "mse", "last"),
]


def losses(base, model_name, data, first, targets, loss, pool, full):
    query, value = ("query", "value") if model_name == "bert" else ("q_proj", "v_proj")
    # The head as it is: PEFT would train it where it is told that the task is SEQ_CLS.
    model = get_peft_model(copy.deepcopy(base), LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=[query, value]))
    trained, plain = [], []
    for key, param in model.named_parameters():
        param.requires_grad_("lora_" in key or (full and "classifier" in key))
        if "lora_" in key:
            layer = key.split(".layer")[1].lstrip("s").split(".")[1]
            role = "query" if query in key else "value"
            param.data.copy_(first[f"{model_name}.{layer}.{role}.{'A' if 'lora_A' in key else 'B'}"])
        if param.requires_grad:
            # Vectors of the base model do not decay.
            (trained if "lora_" in key or param.dim() > 1 else plain).append(param)
    width = 1 if targets == "values" else 3
    head = torch.nn.Linear(WIDTH, width)
    if pool:
        head.weight.data, head.bias.data = first[f"head.{width}.weight"].clone(), first[f"head.{width}.bias"].clone()
        trained += head.parameters()
    groups = [dict(params=trained, weight_decay=DECAY), dict(params=plain, weight_decay=0.0)]
    optimizer = torch.optim.AdamW(groups, lr=RATE)
    found = []
    for step in range(STEPS):
        mask = data["attention_mask"][step]
        inputs = [data["input_ids"][step], mask, data["token_type_ids"][step]][: 3 if model_name == "bert" else 2]
        logits, score, hidden = model(*inputs)
        y = head(pooled(hidden, mask, pool)) if pool else score if width == 1 else logits
        value = LOSSES[loss](y, data[targets][step])
        found.append(value.item())
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    return found


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(7)
    models = {}
    for name, config in [("bert", BERT), ("llama", LLAMA)]:
        models[name] = Model(config)
        for key, param in models[name].named_parameters():
            if key.endswith("bias"):
                torch.nn.init.normal_(param, std=0.1)
        names = ["input_ids", "attention_mask", "token_type_ids"][: 3 if name == "bert" else 2]
        export(models[name], folder / f"{name}.onnx", names)
    data, first = batches(), {}
    for name in models:
        for layer in range(2):
            for role in ["query", "value"]:
                first[f"{name}.{layer}.{role}.A"] = torch.randn(RANK, WIDTH) * 0.3
                first[f"{name}.{layer}.{role}.B"] = torch.randn(WIDTH, RANK) * 0.1
    for width in [1, 3]:
        first[f"head.{width}.weight"] = torch.randn(width, WIDTH) * 0.3
        first[f"head.{width}.bias"] = torch.randn(width) * 0.1
    save_file(data | first, folder / "data.safetensors")
    cases = []
    for full in [False, True]:
        for name, task, targets, loss, pool in CASES[:1] if full else CASES:
            found = losses(models[name], name, data, first, targets, loss, pool, full)
            assert found[-1] != found[0]
            cases.append({"model": name, "task": task, "targets": targets, "full": full, "losses": [round(x, 7) for x in found]})
    optimizer = {"rank": RANK, "alpha": ALPHA, "lr": RATE, "weight_decay": DECAY}
    (folder / "cases.json").write_text(json.dumps({"optimizer": optimizer, "cases": cases}, indent=1) + "\n")


main(Path(sys.argv[1]))
