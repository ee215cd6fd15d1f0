"""Models with an encoder and a decoder, their training in PyTorch and what they write: tests/data/truth/seq2seq.

    python tests/truth/seq2seq.py tests/data/truth/seq2seq

MODEL.EXPORTER.onnx: tiny T5, BART and Marian in one file, with the inputs input_ids, attention_mask and decoder_input_ids;
data.safetensors: 30 batches; cases.json: 30 losses of AdamW over all matrices of layers, and what transformers' `generate` writes
for prompts before any training. transformers 5.24.
"""

import copy
import json
import sys
import warnings
from pathlib import Path

import onnx
import torch
import transformers as t
from safetensors.torch import save_file

warnings.simplefilter("ignore")
STEPS, ROWS, LENGTH, ANSWER, WIDTH, VOCAB = 30, 4, 9, 6, 16, 41
RATE, DECAY = 3e-3, 0.05
PAD, EOS = 0, 1
torch.set_num_threads(1)
BART = dict(
    vocab_size=VOCAB, d_model=WIDTH, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2,
    encoder_ffn_dim=24, decoder_ffn_dim=24, max_position_embeddings=24, dropout=0.0, attention_dropout=0.0, activation_dropout=0.0,
    pad_token_id=PAD, eos_token_id=EOS, bos_token_id=2, forced_eos_token_id=None, init_std=0.3, attn_implementation="eager")
MODELS = {
    "t5": lambda: t.T5ForConditionalGeneration(t.T5Config(
        vocab_size=VOCAB, d_model=WIDTH, d_kv=8, d_ff=24, num_layers=2, num_heads=2, relative_attention_num_buckets=8,
        relative_attention_max_distance=16, dropout_rate=0.0, initializer_factor=0.6, pad_token_id=PAD, eos_token_id=EOS,
        decoder_start_token_id=PAD, tie_word_embeddings=False,
        attn_implementation="eager")),
    "bart": lambda: t.BartForConditionalGeneration(t.BartConfig(**BART, decoder_start_token_id=EOS)),
    "marian": lambda: t.MarianMTModel(t.MarianConfig(**BART, decoder_start_token_id=PAD, decoder_vocab_size=VOCAB)),
}
PROMPTS = [[5, 17, 23, EOS], [7, EOS], [30, 3, 3, 8, 40, 12, EOS], [11, 12, EOS], [9, 31, EOS]]
SETTINGS = [{"max_new_tokens": 10}, {"max_new_tokens": 8, "num_beams": 3}, {"max_new_tokens": 8, "no_repeat_ngram_size": 2}]


class Whole(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.m = model

    def forward(self, input_ids, attention_mask, decoder_input_ids):
        y = self.m(input_ids=input_ids, attention_mask=attention_mask, decoder_input_ids=decoder_input_ids, use_cache=False)
        return y.logits


def export(model, path, dynamo):
    ids, answer = torch.randint(3, VOCAB, (2, 7)), torch.randint(3, VOCAB, (2, 5))
    names = ["input_ids", "attention_mask", "decoder_input_ids"]
    axes = {"input_ids": {0: "batch", 1: "sequence"}, "attention_mask": {0: "batch", 1: "sequence"},
            "decoder_input_ids": {0: "batch", 1: "answer"}}
    inputs = (ids, torch.ones_like(ids), answer)
    if dynamo:
        dims = {"batch": torch.export.Dim("batch"), "sequence": torch.export.Dim("sequence"), "answer": torch.export.Dim("answer")}
        shapes = {name: {at: dims[dim] for at, dim in of.items()} for name, of in axes.items()}
        torch.onnx.export(Whole(model).eval(), inputs, str(path), dynamo=True, input_names=names, output_names=["logits"],
                          dynamic_shapes=shapes, external_data=False, opset_version=18)
    else:
        torch.onnx.export(Whole(model).eval(), inputs, str(path), dynamo=False, input_names=names, output_names=["logits"],
                          dynamic_axes=axes | {"logits": {0: "batch", 1: "answer"}}, opset_version=17)
    made = onnx.load(path)
    for node in made.graph.node:
        node.doc_string = ""
        scopes = [p for p in node.metadata_props if p.key in ("pkg.torch.onnx.name_scopes", "pkg.torch.onnx.class_hierarchy")]
        del node.metadata_props[:]
        node.metadata_props.extend(scopes)
    for value in [*made.graph.value_info, *made.graph.input, *made.graph.output]:
        del value.metadata_props[:]
    onnx.save(made, path)


def batches():
    lengths, answers = torch.randint(3, LENGTH + 1, (STEPS, ROWS)), torch.randint(2, ANSWER + 1, (STEPS, ROWS))
    mask = (torch.arange(LENGTH) < lengths[..., None]).long()
    known = torch.arange(ANSWER) < answers[..., None]
    labels = torch.where(known, torch.randint(3, VOCAB, (STEPS, ROWS, ANSWER)), -100)
    return {"input_ids": torch.randint(3, VOCAB, (STEPS, ROWS, LENGTH)) * mask, "attention_mask": mask, "labels": labels}


def decoder_inputs(labels, start):
    begins = torch.full_like(labels[..., :1], start)
    return torch.cat([begins, labels[..., :-1].masked_fill(labels[..., :-1] == -100, PAD)], -1)


def losses(model, data, start):
    model = copy.deepcopy(model).train()
    layers = [m for name, m in model.named_modules() if isinstance(m, torch.nn.Linear) and "lm_head" not in name]
    optimizer = torch.optim.AdamW([layer.weight for layer in layers], lr=RATE, weight_decay=DECAY)
    found = []
    for step in range(STEPS):
        labels = data["labels"][step]
        y = model(input_ids=data["input_ids"][step], attention_mask=data["attention_mask"][step], labels=labels)
        ours = model(input_ids=data["input_ids"][step], attention_mask=data["attention_mask"][step],
                     decoder_input_ids=decoder_inputs(labels, start)).logits
        assert torch.allclose(ours, y.logits, atol=1e-3)
        found.append(y.loss.item())
        optimizer.zero_grad()
        y.loss.backward()
        optimizer.step()
    return found


def written(model, settings):
    texts = []
    for prompt in PROMPTS:
        ids = torch.tensor([prompt])
        with torch.no_grad():
            out = model.eval().generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, **settings)[0].tolist()[1:]
        texts.append(out[: next((at for at, token in enumerate(out) if token == EOS), len(out))])
    return texts


def telling(make):
    """A model that has learnt to say a prompt again, so that it writes answers of different lengths."""
    torch.manual_seed(5)
    model = make()
    for key, param in model.named_parameters():
        if key.endswith("bias"):
            torch.nn.init.normal_(param, std=0.1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(250):
        length = step % 4 + 1
        ids = torch.cat([torch.randint(3, VOCAB, (32, length)), torch.full((32, 1), EOS)], 1)
        loss = model(input_ids=ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.generation_config.decoder_start_token_id = model.config.decoder_start_token_id
    texts = written(model, SETTINGS[0])
    assert len({tuple(text) for text in texts}) == len(texts) and any(0 < len(text) < 10 for text in texts), texts
    return model


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(11)
    data, cases = batches(), []
    for name, make in MODELS.items():
        model = telling(make)
        for exporter in ["torchscript", "dynamo"]:
            export(model, folder / f"{name}.{exporter}.onnx", exporter == "dynamo")
        start = model.config.decoder_start_token_id
        texts = [{"settings": settings, "texts": written(model, settings)} for settings in SETTINGS]
        data |= {f"{name}.decoder_input_ids": decoder_inputs(data["labels"], start)}
        found = losses(model, data, start)
        assert found[-1] != found[0]
        cases.append({"model": name, "start": start, "texts": texts, "losses": [round(x, 7) for x in found]})
    save_file({key: value.contiguous() for key, value in data.items()}, folder / "data.safetensors")
    more = {"lr": RATE, "weight_decay": DECAY, "eos": EOS, "vocab": VOCAB, "prompts": PROMPTS}
    (folder / "cases.json").write_text(json.dumps(more | {"cases": cases}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
