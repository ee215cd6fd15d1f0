"""Loads output folders of lorac as their users do: serve.py FOLDERS.json.

A folder is {"name", "folder", "predict": what `lorac predict --format json` says of two texts}, or of "texts", which may be the name of an
image in it; where nothing is said, the snippet only runs. AutoTokenizer and AutoConfig load it, the snippet of its README.md runs in it, and where optimum is installed, its ORTModelForSequenceClassification or
ORTModelForTokenClassification says the same. A line for each on stdout.
"""

import ast
import contextlib
import io
import json
import os
import re
import sys

import onnx
import transformers

transformers.logging.set_verbosity_error()
TEXTS = ["a fine film", "a dull one"]

try:
    from optimum.onnxruntime import ORTModelForSequenceClassification, ORTModelForTokenClassification
except ImportError:
    ORTModelForSequenceClassification = ORTModelForTokenClassification = None


def close(a, b):
    assert abs(a - b) < 1e-3, (a, b)


def probabilities(said):
    return {one["label"]: one["probability"] for one in said["probabilities"]}


def optimum_says_the_same(predicts, answers):
    """A sequence classifier by its logits, a tagger by the first token of every word."""
    if predicts == "tags":
        batch = tokenizer([text.split() for text in TEXTS], is_split_into_words=True, padding=True, return_tensors="pt")
        logits = ORTModelForTokenClassification.from_pretrained(".")(**batch).logits
        for i, said in enumerate(answers):
            words = batch.word_ids(i)
            first = [words.index(at) for at in range(len(said["words"]))]
            tags = [config.id2label[int(logits[i][at].argmax())] for at in first]
            assert tags == [word["tag"] for word in said["words"]], (tags, said)
        return
    batch = tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt")
    logits = ORTModelForSequenceClassification.from_pretrained(".")(**batch).logits.double()
    for row, said in zip(logits, answers, strict=True):
        if predicts == "values":
            close(float(row[0]), said["value"][0])
        else:
            found = row.sigmoid() if predicts == "labels" else row.softmax(-1)
            for at, (label, probability) in enumerate(probabilities(said).items()):
                assert config.id2label[at] == label
                close(float(found[at]), probability)


for job in json.load(open(sys.argv[1], encoding="utf-8")):
    os.chdir(job["folder"])
    # A type that nothing says has no class of its own.
    typed = "model_type" in json.load(open("config.json", encoding="utf-8"))
    config = (transformers.AutoConfig if typed else transformers.PretrainedConfig).from_pretrained(".")
    images = config.lorac.get("reads") == "images"
    tokenizer = None if images else transformers.AutoTokenizer.from_pretrained(".")
    cut = images or config.lorac["predicts"] == "tokens" or tokenizer.model_max_length == config.lorac["max_length"]
    assert (images or tokenizer.pad_token is not None) and cut
    labels = [row["label"] for row in (job["predict"] or [{}])[0].get("probabilities", [])]
    assert not labels or [config.id2label[i] for i in range(config.num_labels)] == labels, config.id2label
    code = re.search(r"```python\n(.*?)```", open("README.md", encoding="utf-8").read(), re.S).group(1)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "README.md", "exec"), {})
    if not job["predict"]:
        assert out.getvalue().strip()
        print("ok", job["name"], "runs")
        continue
    lines = [line.split("\t") for line in out.getvalue().splitlines()]
    for line, text, said in zip(lines, job.get("texts", TEXTS), job["predict"], strict=True):
        assert "words" in said or line[-1] == text, line
        if "words" in said:
            assert line == [" ".join(f"{w['word']}/{w['tag']}" for w in said["words"])], (line, said)
        elif "text" in said:
            assert line[0] == said["text"], (line, said)
        elif "perplexity" in said:
            assert abs(float(line[1]) / said["perplexity"] - 1) < 1e-3, (line, said)
        elif "labels" in said:
            found, want = ast.literal_eval(line[0]), {k: p for k, p in probabilities(said).items() if p > 0.5}
            assert found.keys() == want.keys(), (line, said)
            [close(found[label], want[label]) for label in want]
        elif "label" in said:
            assert line[0] == said["label"], (line, said)
            close(float(line[1]), said["probability"])
        else:
            close(float(line[0]), said["value"][0])
    loaded = "transformers"
    model = onnx.load("model.onnx")
    # Models of ONNX Runtime's own builders have operators that ONNX does not know.
    if job["name"] != "causal_lm":
        onnx.checker.check_model(model)
    entries = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(entries["lorac.served"]) == config.lorac, entries
    assert json.loads(entries.get("lorac.labels", "[]")) == config.lorac["labels"]
    predicts = config.lorac["predicts"]
    if ORTModelForSequenceClassification is not None and predicts != "tokens" and not images:
        optimum_says_the_same(predicts, job["predict"])
        loaded += ", optimum"
    print("ok", job["name"], loaded)
