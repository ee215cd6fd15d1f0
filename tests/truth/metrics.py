"""Scores of scikit-learn, scipy and seqeval: tests/data/truth/metrics/cases.json, a case a line.

    python tests/truth/metrics.py > tests/data/truth/metrics/cases.json

A case has predictions (logits, or numbers), targets, and what each metric is of them; null for NaN, and for what the
package refuses to compute.
"""
import json
import math
import warnings

import numpy as np
from scipy.special import softmax
from scipy.stats import pearsonr, spearmanr
from seqeval import metrics as spans
from sklearn import metrics as sk

warnings.simplefilter("ignore")
AVERAGES = ["micro", "macro", "weighted"]
RATES = {"precision": sk.precision_score, "recall": sk.recall_score, "f1": sk.f1_score}


def score(compute):
    try:
        value = float(compute())
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def case(name, kind, logits, targets, want, **more):
    flat = [float(x) for x in np.ravel(logits)]
    width = np.shape(logits)[1] if kind != "values" else 1
    line = {"name": name, "kind": kind, "width": width, "predictions": flat, "targets": [float(t) for t in targets]}
    print(json.dumps(line | more | {"want": {name: score(compute) for name, compute in want.items()}}))


def binary(numbers):
    """To numbers that f32 has as well."""
    return np.round(np.asarray(numbers, np.float64) * 1024) / 1024


def averaged(true, predicted, averages):
    return {f"{rate}_{a}": (lambda f=f, a=a: f(true, predicted, average=a)) for rate, f in RATES.items() for a in averages}


def classes(name, logits, true, auc=True):
    logits, true = binary(logits), np.asarray(true)
    predicted, width = logits.argmax(1), logits.shape[1]
    want = averaged(true, predicted, AVERAGES + (["binary"] if width == 2 else []))
    want |= {
        "accuracy": lambda: sk.accuracy_score(true, predicted),
        "balanced_accuracy": lambda: sk.balanced_accuracy_score(true, predicted),
        "matthews": lambda: sk.matthews_corrcoef(true, predicted),
        "f1": lambda: sk.f1_score(true, predicted, average="binary" if width == 2 else "macro"),
    }
    if auc:
        # The sums of a softmax depend on the order of a row in their last bits: what is equal shall be.
        p = softmax(logits, axis=1).round(12)
        want["auc"] = lambda: np.mean([sk.roc_auc_score(true == c, p[:, c]) for c in range(width)])
    case(name, "classes", logits, true, want)


def labels(name, logits, true):
    logits, true = binary(logits), np.asarray(true)
    predicted = (logits > 0).astype(int)
    want = averaged(true, predicted, AVERAGES)
    want |= {
        "subset_accuracy": lambda: sk.accuracy_score(true, predicted),
        "f1_samples": lambda: sk.f1_score(true, predicted, average="samples"),
        "auc": lambda: sk.roc_auc_score(true, logits, average="macro"),
    }
    case(name, "labels", logits, true.ravel(), want)


def values(name, predicted, true):
    predicted, true = binary(predicted), binary(true)
    case(name, "values", predicted, true, {
        "mse": lambda: sk.mean_squared_error(true, predicted),
        "mae": lambda: sk.mean_absolute_error(true, predicted),
        "r2": lambda: sk.r2_score(true, predicted),
        "pearson": lambda: pearsonr(true, predicted).statistic,
        "spearman": lambda: spearmanr(true, predicted).statistic,
    })


def tags(name, true, predicted):
    names = sorted({t for s in true + predicted for t in s})
    ids = lambda all: [names.index(t) for s in all for t in s]
    logits = np.eye(len(names))[ids(predicted)]
    flat = [t for s in true for t in s], [t for s in predicted for t in s]
    case(name, "tags", logits, ids(true), {
        "span_precision": lambda: spans.precision_score(true, predicted),
        "span_recall": lambda: spans.recall_score(true, predicted),
        "span_f1": lambda: spans.f1_score(true, predicted),
        "accuracy": lambda: sk.accuracy_score(*flat),
        "f1_macro": lambda: sk.f1_score(*flat, average="macro"),
    }, classes=names, counts=[len(s) for s in true])


rng = np.random.default_rng(7)
learned = lambda true, width, by: rng.normal(size=(len(true), width)) + by * np.eye(width)[true]
true = rng.integers(0, 2, 40)
classes("two classes", learned(true, 2, 1.0), true)
classes("two classes of which one is rare", learned((true := (rng.random(40) < 0.1).astype(int)), 2, 0.7), true)
true = rng.integers(0, 4, 60)
classes("four classes", learned(true, 4, 1.0), true)
classes("four classes with equal logits", np.round(learned(true, 4, 1.0)), true)
classes("all right", np.eye(3)[[0, 1, 2, 2]], [0, 1, 2, 2])
classes("all wrong", np.eye(3)[[1, 2, 0, 0]], [0, 1, 2, 2])
classes("one class is true", learned((true := np.ones(9, int)), 2, 0.2), true)
classes("one class is true, and it is the negative one", learned((true := np.zeros(9, int)), 2, 0.2), true)
classes("one class is predicted", np.eye(2)[np.ones(6, int)], [0, 1, 1, 0, 1, 0])
classes("nothing positive is predicted", np.eye(2)[np.zeros(6, int)], [0, 1, 1, 0, 1, 0])
classes("a class is neither true nor predicted", np.eye(4)[[0, 1, 2, 1]], [0, 1, 1, 2])
classes("a class is predicted that is never true", np.eye(3)[[0, 2, 2, 1]], [0, 1, 1, 0])
classes("one example", [[0.5, 1.5, 0.0]], [1])

true = (rng.random((30, 5)) < [0.5, 0.3, 0.7, 0.1, 0.4]).astype(int)
labels("labels", rng.normal(size=true.shape) + 1.2 * (2 * true - 1), true)
labels("labels by equal logits, some of them zero", np.round(rng.normal(size=true.shape) + 0.7 * (2 * true - 1)), true)
true[:, 3] = 0
labels("a label without a positive", rng.normal(size=true.shape) - 0.1, true)
labels("no label is right", -np.ones((4, 3)), np.zeros((4, 3), int))
labels("no label is right, and all are predicted", np.ones((4, 3)), np.zeros((4, 3), int))
labels("no label is predicted", -np.ones((4, 3)), np.eye(4, 3, dtype=int))

true = rng.normal(size=30)
values("numbers", 0.6 * true + rng.normal(scale=0.5, size=30), true)
values("numbers with ties", np.round(0.6 * true + rng.normal(scale=0.5, size=30)), np.round(true))
values("the other way round", -true, true)
values("all right, numbers", np.round(true, 3), np.round(true, 3))
values("one number is predicted", np.full(6, 0.5), [1, 2, 3, 4, 5, 6])
values("one number is true", [1, 2, 3, 4, 5, 6], np.full(6, 0.5))
values("one number is true and predicted", np.full(6, 0.5), np.full(6, 0.5))
values("far from zero", 1e4 + 0.25 * np.arange(8) + np.tile([0.5, -0.5], 4), 1e4 + 0.25 * np.arange(8))
values("two numbers", [0.5, 0.25], [1, 2])
values("one example, a number", [0.5], [0.75])

S = str.split
tags("spans", [S("B-PER I-PER O B-LOC"), S("O B-ORG I-ORG I-ORG O")], [S("B-PER I-PER O O"), S("O B-ORG I-ORG O B-LOC")])
tags("all spans found", [S("B-PER O B-LOC I-LOC")], [S("B-PER O B-LOC I-LOC")])
tags("spans side by side", [S("B-PER B-PER I-PER O"), S("B-LOC B-PER")], [S("B-PER I-PER I-PER O"), S("B-LOC B-PER")])
tags("an inside without a beginning", [S("I-PER I-PER O I-LOC"), S("O I-ORG")], [S("B-PER I-PER O B-LOC"), S("I-ORG I-ORG")])
tags("the kind changes inside", [S("B-PER I-LOC I-LOC O"), S("B-PER I-PER")], [S("B-PER I-PER I-LOC O"), S("I-PER I-LOC")])
tags("a span ends with its text", [S("O B-PER"), S("I-PER O")], [S("O B-PER"), S("B-PER O")])
tags("ends and singles", [S("B-PER I-PER E-PER S-LOC S-LOC O"), S("S-PER E-PER I-PER")], [S("B-PER E-PER E-PER S-LOC O O"), S("E-PER I-PER O")])
tags("no spans", [S("O O O"), S("O")], [S("O O O"), S("O")])
tags("spans, none found", [S("O B-PER I-PER"), S("B-LOC")], [S("O O O"), S("O")])
tags("no spans, some found", [S("O O O"), S("O")], [S("O B-PER I-PER"), S("O")])
tags("kinds with hyphens, and without names", [S("B-a-b I-a-b B I O"), S("B-PER")], [S("B-a-b I-a-c B I O"), S("B")])
kinds = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG"]
draw = lambda n: [kinds[i] for i in rng.choice(7, n, p=[0.4, 0.1, 0.15, 0.1, 0.1, 0.1, 0.05])]
true = [draw(n) for n in (12, 1, 30, 7)]
tags("tags at random", true, [[t if rng.random() < 0.7 else draw(1)[0] for t in s] for s in true])
