"""What transformers' `generate` writes: tests/data/truth/generation/cases.json, a case a line.

    python tests/truth/generation.py > tests/data/truth/generation/cases.json

The models are those of tests/data/cached/llama and tests/data/exports/gpt2-torchscript, by their parameters beside them.
transformers 5.24, one prompt at a time, without sampling.
"""
import json
import pathlib

import torch
from safetensors.torch import load_file
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

DATA = pathlib.Path(__file__).parent.parent / "data"
LLAMA = LlamaConfig(
    vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    max_position_embeddings=64)
GPT2 = GPT2Config(vocab_size=97, n_positions=64, n_embd=32, n_layer=2, n_head=4, bos_token_id=None, eos_token_id=None)


def model(kind, config, folder):
    truth = load_file(DATA / folder / "truth.safetensors")
    made = kind(config).eval()
    params = {name.removeprefix("param."): value for name, value in truth.items() if name.startswith("param.")}
    missing, unexpected = made.load_state_dict(params, strict=False)
    assert not unexpected and all("lm_head" in name for name in missing), (missing, unexpected)
    ids = truth.get("in.input_ids", truth.get("input.input_ids"))
    mask = truth.get("in.attention_mask", truth.get("input.attention_mask"))
    with torch.no_grad():
        logits = made(input_ids=ids, attention_mask=mask).logits
    if "output" in truth:
        seen = mask.bool()
        assert (logits - truth["output"])[seen].abs().max() < 1e-4
    return made


MODELS = {
    "cached/llama": model(LlamaForCausalLM, LLAMA, "cached/llama"),
    "exports/gpt2-torchscript": model(GPT2LMHeadModel, GPT2, "exports/gpt2-torchscript"),
}
PROMPTS = [[5, 17, 23], [1], [90, 3, 3, 8, 41, 60, 2], [11, 12], [77, 5, 30, 4, 9, 9, 10, 54, 68, 31, 7], [40, 2, 96]]
SETTINGS = [
    {"max_new_tokens": 12},
    {"max_new_tokens": 12, "no_repeat_ngram_size": 2},
    {"max_new_tokens": 20, "repetition_penalty": 1.3},
    {"max_new_tokens": 1},
    {"max_new_tokens": 12, "num_beams": 2},
    {"max_new_tokens": 12, "num_beams": 4},
    {"max_new_tokens": 12, "num_beams": 4, "early_stopping": True},
    {"max_new_tokens": 16, "num_beams": 5, "length_penalty": 2.0},
    {"max_new_tokens": 16, "num_beams": 5, "length_penalty": -1.0},
    {"max_new_tokens": 12, "num_beams": 3, "length_penalty": 0.0, "no_repeat_ngram_size": 3},
    {"max_new_tokens": 12, "num_beams": 3, "repetition_penalty": 1.5},
]


def frequent(made):
    """Tokens that this model likes to write, which will end its texts."""
    counts = {}
    for prompt in PROMPTS:
        text = made.generate(torch.tensor([prompt]), max_new_tokens=20, do_sample=False, pad_token_id=0)[0][len(prompt):]
        for at, token in enumerate(text.tolist()):
            if at > 2:
                counts[token] = counts.get(token, 0) + 1
    return sorted(counts, key=lambda t: (-counts[t], t))[:3]


for name, made in MODELS.items():
    made.generation_config.eos_token_id = None
    liked = frequent(made)
    for ends in ([], liked[:1], liked):
        for settings in SETTINGS:
            texts = []
            for prompt in PROMPTS:
                ids = torch.tensor([prompt])
                with torch.no_grad():
                    out = made.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, pad_token_id=0,
                                        eos_token_id=ends or None, **settings)[0].tolist()[len(prompt):]
                # What is behind the first end is padding.
                end = next((at for at, token in enumerate(out) if token in ends), len(out))
                texts.append(out[:end])
            print(json.dumps({"model": name, "ends": ends, "settings": settings, "prompts": PROMPTS, "texts": texts}))
