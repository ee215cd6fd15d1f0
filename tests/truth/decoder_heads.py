"""What the sequence classifiers of transformers' decoders compute: tests/data/truth/decoder_heads.json.

    python tests/truth/decoder_heads.py tests/data

The weights and token ids are those of exports/*-torchscript/truth.safetensors, with a head on them. Rows are padded on the right,
which transformers finds by the token that pads.
"""
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import GPT2Config, GPT2ForSequenceClassification, LlamaConfig, LlamaForSequenceClassification
from transformers import Qwen2Config, Qwen2ForSequenceClassification

LLAMA = dict(
    hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64,
    max_position_embeddings=64, rms_norm_eps=1e-6, vocab_size=97,
)
GPT2 = dict(
    n_embd=32, n_layer=2, n_head=4, n_positions=64, activation_function="gelu_new", layer_norm_epsilon=1e-5, vocab_size=97
)
MODELS = {
    "gpt2": (GPT2Config, GPT2ForSequenceClassification, GPT2),
    "llama": (LlamaConfig, LlamaForSequenceClassification, LLAMA),
    "qwen2": (Qwen2Config, Qwen2ForSequenceClassification, {**LLAMA, "tie_word_embeddings": True}),
}
PAD = 96


def main(data):
    torch.manual_seed(7)
    out = {}
    for name, (config, model, sizes) in MODELS.items():
        truth = load_file(data / "exports" / f"{name}-torchscript" / "truth.safetensors")
        made = model(config(**sizes, num_labels=3, pad_token_id=PAD)).eval()
        weights = {key.removeprefix("param."): value for key, value in truth.items() if key.startswith("param.")}
        weights = {key: value for key, value in weights.items() if not key.startswith("lm_head")}
        missing = [key for key in made.load_state_dict(weights, strict=False).missing_keys if key != "score.weight"]
        assert not missing, missing
        score = (torch.randn(3, 32) / 4).round(decimals=3)
        made.score.weight.data = score
        ids = truth["input.input_ids"].clone()
        ids[ids == PAD] = 1
        mask = torch.ones_like(ids)
        mask[1, 5:] = 0
        ids[mask == 0] = PAD
        with torch.no_grad():
            logits = made(input_ids=ids, attention_mask=mask).logits
        lists = dict(score=score, ids=ids, mask=mask, logits=logits)
        out[name] = {key: value.flatten().tolist() for key, value in lists.items()}
    (data / "truth" / "decoder_heads.json").write_text(json.dumps(out) + "\n")


main(Path(sys.argv[1]))
