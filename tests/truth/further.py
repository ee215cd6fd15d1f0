"""30 steps of AdamW of tasks over several texts and of other losses, as PyTorch and PEFT take them: tests/data/truth/further.

    python tests/truth/further.py tests/data/truth/further

bert.onnx is a tiny BERT with the outputs logits `[batch, 3]` and last_hidden_state; data.safetensors: 30 batches of twelve rows, which
are six pairs or four triples, first texts before second ones, and the first values of what is trained; teacher.onnx is
another such, masked.onnx one with scores of the vocabulary, custom.onnx has the encoder of one on arrays, and its loss as an output; cases.json: the task as a pipeline says it, what it is fed with, and its
30 losses. Losses of pairs are those of sentence-transformers
(MultipleNegativesRankingLoss, MultipleNegativesSymmetricRankingLoss, CosineSimilarityLoss), written out.
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
STEPS, ROWS, LENGTH, WIDTH, VOCAB, RANK, ALPHA = 30, 12, 9, 8, 40, 2, 4
RATE, DECAY = 1e-2, 0.05
SIZES = dict(vocab_size=VOCAB, hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2, intermediate_size=12, pad_token_id=0)
COMMON = dict(max_position_embeddings=LENGTH, num_labels=3, initializer_range=0.4, attn_implementation="eager")
BERT = t.BertConfig(**SIZES, **COMMON, hidden_dropout_prob=0, attention_probs_dropout_prob=0)


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.m = t.AutoModelForSequenceClassification.from_config(BERT)

    def forward(self, input_ids, attention_mask):
        y = self.m(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True)
        return y.logits, y.hidden_states[-1]


class Masked(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.m = t.BertForMaskedLM(BERT)

    def forward(self, input_ids, attention_mask):
        return (self.m(input_ids=input_ids, attention_mask=attention_mask).logits,)


class Own(torch.nn.Module):
    """Arrays [batch, 6, 8] to two numbers, and how far those are from what they should be."""

    def __init__(self):
        super().__init__()
        self.m = t.BertModel(BERT, add_pooling_layer=False)
        self.out = torch.nn.Linear(WIDTH, 2)

    def forward(self, x, target):
        y = self.out(self.m(inputs_embeds=x).last_hidden_state.mean(1))
        return y, F.mse_loss(y, target)


def batches():
    lengths = torch.randint(3, LENGTH + 1, (STEPS, ROWS))
    mask = (torch.arange(LENGTH) < lengths[..., None]).long()
    ids = torch.randint(1, VOCAB, (STEPS, ROWS, LENGTH)) * mask
    hidden = (torch.rand(STEPS, ROWS, LENGTH) < 0.2) & mask.bool()
    return {
        "input_ids": ids,
        "hidden": torch.where(hidden, torch.randint(1, VOCAB, ids.shape), -100),
        "attention_mask": mask,
        "pairs": torch.ones(STEPS, 6),
        "triples": torch.ones(STEPS, 4),
        "scores": torch.rand(STEPS, 6) * 2 - 1,
        "classes": torch.randint(0, 3, (STEPS, ROWS)),
        "x": torch.randn(STEPS, 5, 6, WIDTH),
        "target": torch.randn(STEPS, 5, 2),
        "rows": torch.ones(STEPS, 5),
        "ones": torch.ones(STEPS, ROWS),
    }


def export(model, path, inputs, axes):
    names = list(inputs)
    more = dict(input_names=names, output_names=[n for n in axes if n not in names], dynamic_axes={n: a for n, a in axes.items() if a})
    torch.onnx.export(model.eval(), tuple(inputs.values()), str(path), dynamo=False, opset_version=17, **more)
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


def ranking(vectors, examples, scale, symmetric=False):
    first, others = vectors[:examples], vectors[examples:]
    scores = F.normalize(first) @ F.normalize(others).T * scale
    own = torch.arange(examples)
    loss = F.cross_entropy(scores, own)
    return (loss + F.cross_entropy(scores[:, :examples].T, own)) / 2 if symmetric else loss


def cosine(vectors, scores):
    n = len(scores)
    return F.mse_loss(F.cosine_similarity(vectors[:n], vectors[n:]), scores)


def focal(logits, labels, gamma, weight=None):
    log_p = F.log_softmax(logits, -1).gather(1, labels[:, None])[:, 0]
    w = torch.ones(3) if weight is None else torch.tensor(weight)
    w = w[labels]
    return -(w * (1 - log_p.exp()) ** gamma * log_p).sum() / w.sum()


def divergence(y, other, t):
    return F.kl_div(F.log_softmax(y / t, -1), F.softmax(other / t, -1), reduction="batchmean") * t * t


def squares(hidden, other, mask):
    return ((hidden - other) ** 2).mean(-1)[mask.bool()].mean()


def vectors(hidden, other, mask, pool):
    a, b = (F.normalize(pooled(h, mask, pool)) for h in (hidden, other))
    return F.mse_loss(a, b)


NAMES = ["a", "b", "c"]
TEACHER = {"teacher": {"source": "teacher.onnx"}}
# With what the teacher says of the same batch, its logits and hidden states.
TAUGHT = [
    ({"distill": {**TEACHER, "temperature": 2.0}}, lambda y, h, m, t: divergence(y, t[0], 2.0)),
    ({"distill": {**TEACHER, "on": "hidden"}}, lambda y, h, m, t: squares(h, t[1], m)),
    ({"distill": {**TEACHER, "on": "embedding", "pool": "cls"}}, lambda y, h, m, t: vectors(h, t[1], m, "cls")),
]
CASES = [
    ({"embed": {}}, "pairs", lambda y, h, m, x: ranking(pooled(h, m, "mean"), 6, 20)),
    ({"embed": {"pool": "cls", "normalize": False}}, "triples", lambda y, h, m, x: ranking(pooled(h, m, "cls"), 4, 20)),
    ({"embed": {"pool": "last", "temperature": 0.1, "symmetric": True}}, "pairs", lambda y, h, m, x: ranking(pooled(h, m, "last"), 6, 10, True)),
    ({"embed": {"output": "logits"}}, "pairs", lambda y, h, m, x: ranking(y, 6, 20)),
    ({"embed": {"loss": "cosine"}}, "scores", lambda y, h, m, x: cosine(pooled(h, m, "mean"), x)),
    ({"classify": {"labels": NAMES, "focal": 2.0}}, "classes", lambda y, h, m, x: focal(y, x, 2.0)),
    ({"classify": {"labels": NAMES, "focal": 0.5, "class_weights": {"a": 0.5, "b": 2.0, "c": 0.75}}}, "classes", lambda y, h, m, x: focal(y, x, 0.5, [0.5, 2.0, 0.75])),
]


def step_inputs(data, step, own):
    return [data[k][step] for k in (["x", "target"] if own else ["input_ids", "attention_mask"])]


def losses(base, data, first, targets, loss, own=False, teacher=None):
    model = get_peft_model(copy.deepcopy(base), LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=["query", "value"]))
    trained = []
    for key, param in model.named_parameters():
        param.requires_grad_("lora_" in key)
        if "lora_" in key:
            layer = key.split(".layer.")[1].split(".")[0]
            role = "query" if "query" in key else "value"
            param.data.copy_(first[f"bert.{layer}.{role}.{'A' if 'lora_A' in key else 'B'}"])
            trained.append(param)
    optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=DECAY)
    found = []
    for step in range(STEPS):
        inputs = step_inputs(data, step, own)
        logits, *hidden = model(*inputs)
        target = data[targets][step]
        if teacher is not None:
            with torch.no_grad():
                target = teacher(*inputs)
        value = loss(logits, hidden[0] if hidden else None, inputs[1], target)
        found.append(value.item())
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    return found


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(11)
    model = Model()
    for key, param in model.named_parameters():
        if key.endswith("bias"):
            torch.nn.init.normal_(param, std=0.1)
    ids = torch.randint(1, VOCAB, (2, 7))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    batch, tokens = {0: "batch"}, {0: "batch", 1: "sequence"}
    axes = {"input_ids": tokens, "attention_mask": tokens, "logits": batch, "last_hidden_state": tokens}
    export(model, folder / "bert.onnx", {"input_ids": ids * mask, "attention_mask": mask}, axes)
    teacher = Model().eval()
    export(teacher, folder / "teacher.onnx", {"input_ids": ids * mask, "attention_mask": mask}, axes)
    masked = Masked()
    axes = {"input_ids": tokens, "attention_mask": tokens, "logits": tokens}
    export(masked, folder / "masked.onnx", {"input_ids": ids * mask, "attention_mask": mask}, axes)
    own = Own()
    inputs = {"x": torch.randn(2, 6, WIDTH), "target": torch.randn(2, 2)}
    export(own, folder / "custom.onnx", inputs, {"x": batch, "target": batch, "y": batch, "loss": {}})
    data, first = batches(), {}
    for layer in range(2):
        for role in ["query", "value"]:
            first[f"bert.{layer}.{role}.A"] = torch.randn(RANK, WIDTH) * 0.3
            first[f"bert.{layer}.{role}.B"] = torch.randn(WIDTH, RANK) * 0.1
    first |= {k.replace("bert.", f"{name}."): v.clone() for k, v in first.items() for name in ["custom", "masked"]}
    save_file(data | first, folder / "data.safetensors")
    cases = []
    for task, targets, loss in CASES:
        found = losses(model, data, first, targets, loss)
        assert found[-1] != found[0]
        cases.append({"model": "bert", "task": task, "targets": targets, "losses": [round(x, 7) for x in found]})
    found = losses(own, data, first, "rows", lambda y, loss, m, x: loss, own=True)
    task = {"custom": {"loss": "loss"}}
    cases.append({"model": "custom", "task": task, "targets": "rows", "losses": [round(x, 7) for x in found]})
    for task, loss in TAUGHT:
        found = losses(model, data, first, "ones", loss, teacher=teacher)
        cases.append({"model": "bert", "task": task, "targets": "ones", "losses": [round(x, 7) for x in found]})
    found = losses(masked, data, first, "hidden", lambda y, h, m, x: F.cross_entropy(y.flatten(0, 1), x.flatten()))
    cases.append({"model": "masked", "task": {"masked_lm": {}}, "targets": "hidden", "losses": [round(x, 7) for x in found]})
    optimizer = {"rank": RANK, "alpha": ALPHA, "lr": RATE, "weight_decay": DECAY}
    text = json.dumps({"optimizer": optimizer, "cases": cases}, indent=1)
    (folder / "cases.json").write_text(text + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
