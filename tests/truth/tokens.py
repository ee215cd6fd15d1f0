"""30 steps of AdamW of the tasks over tokens, as PyTorch, transformers and PEFT take them: tests/data/truth/tokens.

    python tests/truth/tokens.py tests/data/truth/tokens

bert.onnx is a tiny token classifier with the outputs logits `[batch, sequence, 3]` and last_hidden_state, llama.onnx a tiny
language model; data.safetensors: 30 batches, of which -100 in `tags` and `completion` does not count, and the first values of what
is trained; cases.json: the task as a pipeline says it, what it is fed with, and its 30 losses.
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
LLAMA = t.LlamaConfig(**SIZES, **COMMON, bos_token_id=2, eos_token_id=3, tie_word_embeddings=False)


class Tagger(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.m = t.BertForTokenClassification(BERT)

    def forward(self, input_ids, attention_mask):
        y = self.m(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True)
        return y.logits, y.hidden_states[-1]


class Language(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.m = t.LlamaForCausalLM(LLAMA)

    def forward(self, input_ids, attention_mask):
        return (self.m(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits,)


def batches():
    lengths = torch.randint(4, LENGTH + 1, (STEPS, ROWS))
    place = torch.arange(LENGTH)
    mask = (place < lengths[..., None]).long()
    ids = torch.randint(1, VOCAB, (STEPS, ROWS, LENGTH)) * mask
    # A third of the tokens continue a word; the first and the last are special ones.
    counts = (torch.rand(STEPS, ROWS, LENGTH) < 0.67) & (place > 0) & (place < lengths[..., None] - 1)
    prompt = torch.randint(1, 4, (STEPS, ROWS))[..., None]
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "tags": torch.where(counts, torch.randint(0, 3, counts.shape), -100),
        "completion": torch.where((place >= prompt) & (mask == 1), ids, -100),
        "all": torch.where(mask == 1, ids, -100),
    }


def export(model, path, outputs):
    ids = torch.randint(1, VOCAB, (2, 7))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    names = ["input_ids", "attention_mask"]
    axes = {n: {0: "batch", 1: "sequence"} for n in names + outputs}
    more = dict(input_names=names, output_names=outputs, dynamic_axes=axes, opset_version=17)
    torch.onnx.export(model.eval(), (ids * mask, mask), str(path), dynamo=False, **more)
    made = onnx.load(path)
    for node in made.graph.node:
        node.doc_string = ""
    onnx.save(made, path)


def cross_entropy(logits, labels, **more):
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), **more)


def next_token(logits, labels):
    return cross_entropy(logits[:, :-1], labels[:, 1:])


NAMES = ["O", "B-x", "I-x"]
WEIGHTS = {"O": 0.5, "B-x": 2.0, "I-x": 0.75}
WEIGHTED = dict(weight=torch.tensor(list(WEIGHTS.values())), label_smoothing=0.1)
# A model, the task of the pipeline, the targets of the batches, the loss, and whether a new head is trained.
CASES = [
    ("bert", {"tag": {"labels": NAMES, "head": "linear"}}, "tags", cross_entropy, True),
    ("bert", {"tag": {"labels": NAMES}}, "tags", cross_entropy, False),
    ("bert", {"tag": {"labels": NAMES, "head": "linear", "class_weights": WEIGHTS, "label_smoothing": 0.1}}, "tags", lambda y, x: cross_entropy(y, x, **WEIGHTED), True),
    ("llama", {"causal_lm": {}}, "completion", next_token, False),
    ("llama", {"causal_lm": {"loss_on": "all"}}, "all", next_token, False),
]


def losses(base, name, data, first, targets, loss, new):
    query, value = ("query", "value") if name == "bert" else ("q_proj", "v_proj")
    model = get_peft_model(copy.deepcopy(base), LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=[query, value]))
    trained = []
    for key, param in model.named_parameters():
        if "lora_" in key:
            layer = key.split(".layer")[1].lstrip("s").split(".")[1]
            role = "query" if query in key else "value"
            param.data.copy_(first[f"{name}.{layer}.{role}.{'A' if 'lora_A' in key else 'B'}"])
            trained.append(param)
    head = torch.nn.Linear(WIDTH, 3)
    head.weight.data, head.bias.data = first["head.weight"].clone(), first["head.bias"].clone()
    if new:
        trained += head.parameters()
    optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=DECAY)
    found = []
    for step in range(STEPS):
        logits, *hidden = model(data["input_ids"][step], data["attention_mask"][step])
        value = loss(head(hidden[0]) if new else logits, data[targets][step])
        found.append(value.item())
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    return found


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(11)
    models = {"bert": Tagger(), "llama": Language()}
    for model in models.values():
        for key, param in model.named_parameters():
            if key.endswith("bias"):
                torch.nn.init.normal_(param, std=0.1)
    export(models["bert"], folder / "bert.onnx", ["logits", "last_hidden_state"])
    export(models["llama"], folder / "llama.onnx", ["logits"])
    data, first = batches(), {}
    for name in models:
        for layer in range(2):
            for role in ["query", "value"]:
                first[f"{name}.{layer}.{role}.A"] = torch.randn(RANK, WIDTH) * 0.3
                first[f"{name}.{layer}.{role}.B"] = torch.randn(WIDTH, RANK) * 0.1
    first["head.weight"], first["head.bias"] = torch.randn(3, WIDTH) * 0.3, torch.randn(3) * 0.1
    save_file(data | first, folder / "data.safetensors")
    cases = []
    for name, task, targets, loss, new in CASES:
        found = losses(models[name], name, data, first, targets, loss, new)
        assert found[-1] != found[0]
        cases.append({"model": name, "task": task, "targets": targets, "losses": [round(x, 7) for x in found]})
    optimizer = {"rank": RANK, "alpha": ALPHA, "lr": RATE, "weight_decay": DECAY}
    (folder / "cases.json").write_text(json.dumps({"optimizer": optimizer, "cases": cases}, indent=1) + "\n")


main(Path(sys.argv[1]))
