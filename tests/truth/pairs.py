"""Pairs of texts as transformers' AutoTokenizer encodes them with truncation=True: tests/data/truth/pairs/golden.json.

    python tests/truth/pairs.py tests/data/tokenizer_config > tests/data/truth/pairs/golden.json

The tokenizers are those of tests/data/tokenizer_config, with the templates for pairs that classes of transformers have.
"""

import json
import sys
import tempfile
from pathlib import Path

import transformers as t

TEXTS = [
    ("Good films the end", "the quick fox"),
    ("good", "the quick fox bad films the end of the world"),
    ("the quick fox bad films the end of the world the end", "good"),
    ("café élan 中中 bad films", "the end of the world good films"),
    ("", "the end"),
    ("the end", ""),
]
CONFIGS = [
    ("wordpiece", {"tokenizer_class": "PreTrainedTokenizerFast"}, None),
    ("wordpiece", {"tokenizer_class": "BertTokenizer"}, None),
    ("wordpiece", {"tokenizer_class": "PreTrainedTokenizerFast", "truncation_side": "left"}, None),
    ("bytelevel", {"tokenizer_class": "PreTrainedTokenizerFast"}, None),
    ("bytelevel", {"tokenizer_class": "RobertaTokenizer", "truncation_side": "left"}, None),
    ("bytelevel", {"tokenizer_class": "PreTrainedTokenizerFast"}, "roberta"),
    ("bytelevel", {"tokenizer_class": "PreTrainedTokenizerFast"}, "llama"),
    ("bytelevel", {"tokenizer_class": "PreTrainedTokenizerFast"}, "none"),
]


def token(name, kind):
    return {"SpecialToken": {"id": name, "type_id": kind}}


def text(name, kind):
    return {"Sequence": {"id": name, "type_id": kind}}


PROCESSORS = {
    "roberta": {"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0], "trim_offsets": True, "add_prefix_space": False},
    "llama": {
        "type": "TemplateProcessing",
        "single": [token("<s>", 0), text("A", 0)],
        "pair": [token("<s>", 0), text("A", 0), token("<s>", 1), text("B", 1)],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}},
    },
    "none": None,
}

cases = []
for name, config, processor in CONFIGS:
    file = json.loads((Path(sys.argv[1]) / f"{name}.json").read_text())
    if processor:
        file["post_processor"] = PROCESSORS[processor]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "tokenizer.json").write_text(json.dumps(file))
        (Path(folder) / "tokenizer_config.json").write_text(json.dumps(config))
        tokenizer = t.AutoTokenizer.from_pretrained(folder)
        case = {"tokenizer": name, "config": config, "post_processor": file["post_processor"]}
        for length in [9, 10, 64]:
            # As lists: one pair whose second text is empty would be taken for a text alone.
            encoded = tokenizer(*map(list, zip(*TEXTS)), truncation=True, max_length=length, return_token_type_ids=True)
            case[str(length)] = list(zip(encoded["input_ids"], encoded["token_type_ids"]))
        cases.append(case)
print(json.dumps({"texts": TEXTS, "cases": cases}, ensure_ascii=False))
