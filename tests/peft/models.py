"""Tiny models of random weights, as folders and as both of PyTorch's exporters write them: models.py FOLDER TOKENIZER.

FOLDER/TYPE/, FOLDER/bert-mlm/, FOLDER/gpt2-bare/, FOLDER/gpt2-untied/: config.json, model.safetensors (of the base class, or of the class with a language head) and tokenizer.json;
FOLDER/TYPE-cls/: the same of a sequence classifier with two labels.
FOLDER/TYPE-EXPORTER-base/, FOLDER/TYPE-EXPORTER-lm/ and FOLDER/TYPE-EXPORTER-cls/: config.json, tokenizer.json, model.onnx of a
wrapper around the base class (hidden states; of BERT the pooled state too), around the class with a language head or around the
sequence classifier.
FOLDER/TYPE-stripped/ and FOLDER/bert-packed/: the same without a name but those of inputs and outputs, the latter with
query, key and value in one matrix.
"""

import shutil
import sys
import tempfile
import warnings
from pathlib import Path

import onnx
import torch
import transformers as t

WIDTH, VOCAB = 8, 100
SIZES = dict(vocab_size=VOCAB, hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2, intermediate_size=12, pad_token_id=0)
PLACES = dict(max_position_embeddings=40)
TOKENS = dict(bos_token_id=2, eos_token_id=3)
CONFIGS = {
    "bert": t.BertConfig(**SIZES, **PLACES),
    "roberta": t.RobertaConfig(**SIZES, **PLACES, **TOKENS, type_vocab_size=1),
    "distilbert": t.DistilBertConfig(vocab_size=VOCAB, dim=WIDTH, n_layers=2, n_heads=2, hidden_dim=12, pad_token_id=0, **PLACES),
    "gpt2": t.GPT2Config(vocab_size=VOCAB, n_embd=WIDTH, n_layer=2, n_head=2, n_positions=40, pad_token_id=0, **TOKENS),
    "llama": t.LlamaConfig(**SIZES, **PLACES, **TOKENS),
    "qwen2": t.Qwen2Config(**SIZES, **PLACES, **TOKENS, num_key_value_heads=1),
}
DECODERS = ["gpt2", "llama", "qwen2"]


class Wrapper(torch.nn.Module):
    def __init__(self, model, pick):
        super().__init__()
        self.m, self.pick = model, pick

    def forward(self, input_ids, attention_mask):
        more = {"use_cache": False} if self.m.config.model_type in DECODERS else {}
        y = self.m(input_ids=input_ids, attention_mask=attention_mask, **more)
        return tuple(getattr(y, {"scores": "logits"}.get(name, name)) for name in self.pick)


def export(model, pick, path, dynamo):
    ids = torch.randint(5, VOCAB, (2, 7))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    names = dict(input_names=["input_ids", "attention_mask"], output_names=pick)
    wrapper = Wrapper(model, pick).eval()
    if dynamo:
        dims = {0: torch.export.Dim("batch", max=4096), 1: torch.export.Dim("sequence", max=40)}
        shapes = dict(dynamic_shapes={"input_ids": dims, "attention_mask": dims}, external_data=False)
        torch.onnx.export(wrapper, (ids, mask), str(path), dynamo=True, **names, **shapes)
    else:
        axes = {n: {0: "batch", 1: "sequence"} for n in ["input_ids", "attention_mask"]}
        flat = ["pooler_output"] + (["logits"] if type(model).__name__.endswith("ForSequenceClassification") else [])
        axes |= {n: {0: "batch", 1: "sequence"} for n in pick if n not in flat}
        axes |= {n: {0: "batch"} for n in pick if n in flat}
        torch.onnx.export(wrapper, (ids, mask), str(path), dynamo=False, opset_version=17, dynamic_axes=axes, **names)


def strip(source, target):
    """The model without names: as tools that optimise models leave it."""
    target.mkdir()
    for file in ["config.json", "tokenizer.json"]:
        shutil.copy(source / file, target / file)
    model = onnx.load(source / "model.onnx")
    graph, names = model.graph, {}
    kept = {v.name for v in [*graph.input, *graph.output]} | {""}
    new = lambda name: name if name in kept else names.setdefault(name, f"t{len(names)}")
    for tensor in graph.initializer:
        tensor.name = new(tensor.name)
    for node in graph.node:
        node.name, node.doc_string = "", ""
        del node.metadata_props[:]
        node.input[:] = [new(x) for x in node.input]
        node.output[:] = [new(x) for x in node.output]
    del graph.value_info[:]
    onnx.save(model, target / "model.onnx")


class Packed(torch.nn.Module):
    """BertSelfAttention with one matrix of query, key and value."""

    def __init__(self, old):
        super().__init__()
        parts = [old.query, old.key, old.value]
        self.heads, self.qkv = old.num_attention_heads, torch.nn.Linear(WIDTH, 3 * WIDTH)
        self.qkv.weight.data = torch.cat([p.weight.data for p in parts])
        self.qkv.bias.data = torch.cat([p.bias.data for p in parts])

    def forward(self, hidden_states, attention_mask=None, **_):
        batch, length, width = hidden_states.shape
        split = lambda x: x.view(batch, length, self.heads, width // self.heads).transpose(1, 2)
        q, k, v = [split(x) for x in self.qkv(hidden_states).split(width, dim=-1)]
        scores = q @ k.transpose(2, 3) / (width // self.heads) ** 0.5 + attention_mask
        mixed = torch.softmax(scores, dim=-1) @ v
        return mixed.transpose(1, 2).reshape(batch, length, width), scores


def save_bare(model, target, tokenizer):
    model.save_pretrained(target)
    shutil.copy(tokenizer, target / "tokenizer.json")


def classifier(name, config, folder, tokenizer):
    """A sequence classifier, as a folder and as both exporters write it."""
    torch.manual_seed(len(name) + 1)
    named = dict(id2label={0: "negative", 1: "positive"}, label2id={"negative": 0, "positive": 1})
    config = type(config)(**config.to_diff_dict() | named)
    config._attn_implementation = "eager"
    model = t.AutoModelForSequenceClassification.from_config(config).eval()
    for key, value in model.named_parameters():
        if key.endswith("bias"):
            torch.nn.init.normal_(value, std=0.1)
    save_bare(model, folder / f"{name}-cls", tokenizer)
    for exporter in ["torchscript", "dynamo"]:
        target = folder / f"{name}-{exporter}-cls"
        target.mkdir()
        for file in ["config.json", "tokenizer.json"]:
            shutil.copy(folder / f"{name}-cls" / file, target / file)
        export(model, ["logits"], target / "model.onnx", exporter == "dynamo")


def main(folder, tokenizer):
    warnings.simplefilter("ignore")
    for name, config in CONFIGS.items():
        config.initializer_range = 0.3
        config._attn_implementation = "eager"
        torch.manual_seed(len(name))
        full = (t.AutoModelForCausalLM if name in DECODERS else t.AutoModel).from_config(config).eval()
        # Biases begin at zero, which exporters keep once: trained ones differ.
        for key, value in full.named_parameters():
            if key.endswith("bias"):
                torch.nn.init.normal_(value, std=0.1)
        source = folder / name
        full.save_pretrained(source)
        shutil.copy(tokenizer, source / "tokenizer.json")
        if name == "bert":
            # Without a pooler, as language models are saved.
            save_bare(t.BertForMaskedLM(config), folder / "bert-mlm", tokenizer)
        if name == "gpt2":
            # Linear maps beside Conv1D.
            apart = t.AutoModelForCausalLM.from_config(t.GPT2Config(**config.to_diff_dict() | {"tie_word_embeddings": False}))
            save_bare(apart, folder / "gpt2-untied", tokenizer)
            # Names as the hub's gpt2 has them: those of the base class, in a file of the class with a head.
            save_bare(full.transformer, folder / "gpt2-bare", tokenizer)
        base = t.AutoModel.from_pretrained(source, attn_implementation="eager").eval()
        hidden = ["last_hidden_state"] + (["pooler_output"] if name == "bert" else [])
        for exporter in ["torchscript", "dynamo"]:
            scores = "logits" if exporter == "torchscript" else "scores"
            kinds = [("base", base, hidden)] + ([("lm", full, [scores])] if name in DECODERS else [])
            for kind, model, pick in kinds:
                target = folder / f"{name}-{exporter}-{kind}"
                target.mkdir()
                for file in ["config.json", "tokenizer.json"]:
                    shutil.copy(source / file, target / file)
                export(model, pick, target / "model.onnx", exporter == "dynamo")
        classifier(name, config, folder, tokenizer)
        if name in ["bert", "gpt2", "llama"]:
            strip(folder / f"{name}-torchscript-base", folder / f"{name}-stripped")
        if name == "bert":
            for layer in base.encoder.layer:
                layer.attention.self = Packed(layer.attention.self)
            with tempfile.TemporaryDirectory() as plain:
                for file in ["config.json", "tokenizer.json"]:
                    shutil.copy(source / file, plain)
                export(base, hidden, Path(plain) / "model.onnx", False)
                strip(Path(plain), folder / "bert-packed")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
