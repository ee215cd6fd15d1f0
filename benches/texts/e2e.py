"""Rows of the E2E data set for smollm2-e2e.yaml, from its lines `meaning||text`.

    python benches/texts/e2e.py valid.txt test.txt FOLDER

Writes train.jsonl (all rows of valid.txt, shuffled) and eval.jsonl (100 meanings of test.txt with all their texts) into FOLDER.
"""
import json
import pathlib
import random
import sys

valid, test, folder = map(pathlib.Path, sys.argv[1:])


def rows(path):
    for line in path.read_text(encoding="utf-8").splitlines():
        meaning, text = line.split("||", 1)
        yield {"prompt": f"{meaning.strip()} =>", "completion": f" {text.strip()}"}


def write(name, rows):
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / name).write_text(text, encoding="utf-8")


folder.mkdir(parents=True, exist_ok=True)
rng = random.Random(0)
train, held = list(rows(valid)), list(rows(test))
rng.shuffle(train)
write("train.jsonl", train)
meanings = list(dict.fromkeys(row["prompt"] for row in held))
chosen = set(rng.sample(meanings, 100))
write("eval.jsonl", [row for row in held if row["prompt"] in chosen])
