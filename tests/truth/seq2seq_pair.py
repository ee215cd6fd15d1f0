"""Models with an encoder and a decoder in two files each, as optimum exports them, LoRA on both in PyTorch and what they write:
tests/data/truth/seq2seq_pair.

    python tests/truth/seq2seq_pair.py tests/data/truth/seq2seq_pair

MODEL.EXPORTER/encoder_model.onnx (input_ids, attention_mask -> last_hidden_state) and decoder_model.onnx (input_ids,
encoder_attention_mask, encoder_hidden_states -> logits): the T5 and BART of seq2seq.py; data.safetensors: 30 batches; cases.json: 30
losses of AdamW over LoRA on all matrices of both but lm_head, A[i, j] = 0.3 sin(7 i + 3 j + 1) and B = 0 at first, and what
transformers' `generate` writes before any training. transformers 5.24.
"""

import copy
import json
import math
import sys
from pathlib import Path

import onnx
import torch
from safetensors.torch import save_file
from seq2seq import DECAY, EOS, MODELS, PROMPTS, RATE, SETTINGS, STEPS, VOCAB, batches, decoder_inputs, telling, written

RANK, ALPHA = 3, 6


class Encoder(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.encoder = model.get_encoder()

    def forward(self, input_ids, attention_mask):
        return self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


class Decoder(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.m = model

    def forward(self, input_ids, encoder_attention_mask, encoder_hidden_states):
        return self.m(encoder_outputs=(encoder_hidden_states,), attention_mask=encoder_attention_mask, decoder_input_ids=input_ids,
                      use_cache=False).logits


def export(module, inputs, axes, output, path, dynamo):
    names, args = list(inputs), tuple(inputs.values())
    if dynamo:
        dims = {dim: torch.export.Dim(dim) for of in axes.values() for dim in of.values()}
        shapes = {name: {at: dims[dim] for at, dim in of.items()} for name, of in axes.items()}
        torch.onnx.export(module, args, str(path), dynamo=True, input_names=names, output_names=[output], dynamic_shapes=shapes,
                          external_data=False, opset_version=18)
    else:
        torch.onnx.export(module, args, str(path), dynamo=False, input_names=names, output_names=[output],
                          dynamic_axes=axes | {output: axes["input_ids"]}, opset_version=17)
    made = onnx.load(path)
    for node in made.graph.node:
        node.doc_string = ""
        scopes = [p for p in node.metadata_props if p.key in ("pkg.torch.onnx.name_scopes", "pkg.torch.onnx.class_hierarchy")]
        del node.metadata_props[:]
        node.metadata_props.extend(scopes)
    for value in [*made.graph.value_info, *made.graph.input, *made.graph.output]:
        del value.metadata_props[:]
    onnx.save(made, path)


def export_both(model, folder, dynamo):
    folder.mkdir(parents=True, exist_ok=True)
    model = copy.deepcopy(model).eval()
    ids, answer = torch.randint(3, VOCAB, (2, 7)), torch.randint(3, VOCAB, (2, 5))
    mask = torch.ones_like(ids)
    hidden = Encoder(model)(ids, mask)
    # The name of a length says nothing of the other file.
    export(Encoder(model), {"input_ids": ids, "attention_mask": mask},
           {name: {0: "batch", 1: "sequence"} for name in ["input_ids", "attention_mask"]}, "last_hidden_state",
           folder / "encoder_model.onnx", dynamo)
    export(Decoder(model), {"input_ids": answer, "encoder_attention_mask": mask, "encoder_hidden_states": hidden},
           {"input_ids": {0: "batch", 1: "sequence"}, "encoder_attention_mask": {0: "batch", 1: "read"},
            "encoder_hidden_states": {0: "batch", 1: "read"}}, "logits", folder / "decoder_model.onnx", dynamo)


class Lora(torch.nn.Module):
    def __init__(self, linear):
        super().__init__()
        self.linear = linear.requires_grad_(False)
        rows, cols = linear.weight.shape
        self.a = torch.nn.Parameter(torch.tensor([[0.3 * math.sin(7 * i + 3 * j + 1) for j in range(cols)] for i in range(RANK)]))
        self.b = torch.nn.Parameter(torch.zeros(rows, RANK))

    @property
    def weight(self):
        return self.linear.weight

    def forward(self, x):
        return self.linear(x) + x @ self.a.T @ self.b.T * (ALPHA / RANK)


def losses(model, data, start):
    model = copy.deepcopy(model).train().requires_grad_(False)
    for name, module in list(model.named_modules()):
        if isinstance(module, torch.nn.Linear) and "lm_head" not in name:
            above, own = name.rsplit(".", 1)
            setattr(model.get_submodule(above), own, Lora(module))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=RATE, weight_decay=DECAY)
    found = []
    for step in range(STEPS):
        loss = model(input_ids=data["input_ids"][step], attention_mask=data["attention_mask"][step], labels=data["labels"][step]).loss
        found.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return found


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(12)
    data, cases = batches(), []
    for name in ["t5", "bart"]:
        model = telling(MODELS[name])
        for exporter in ["torchscript", "dynamo"]:
            export_both(model, folder / f"{name}.{exporter}", exporter == "dynamo")
        start = model.config.decoder_start_token_id
        texts = [{"settings": settings, "texts": written(model, settings)} for settings in SETTINGS]
        data |= {f"{name}.decoder_input_ids": decoder_inputs(data["labels"], start)}
        cases.append({"model": name, "start": start, "texts": texts, "losses": [round(x, 7) for x in losses(model, data, start)]})
    save_file({key: value.contiguous() for key, value in data.items()}, folder / "data.safetensors")
    more = {"lr": RATE, "weight_decay": DECAY, "rank": RANK, "alpha": ALPHA, "eos": EOS, "vocab": VOCAB, "prompts": PROMPTS}
    (folder / "cases.json").write_text(json.dumps(more | {"cases": cases}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
