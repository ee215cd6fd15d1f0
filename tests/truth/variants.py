"""Trainings of LoRA's variants with PEFT itself, in f64, as tests/data/peft2 has them: 30 steps of a tiny random model.

Made with PyTorch 2.15, transformers 5.23, PEFT 0.21.2, onnx and onnxscript:

    python tests/truth/variants.py tests/data/peft2 [CASE ...]
"""

import copy
import json
import os
import sys

import onnx
import torch
from peft import LoraConfig, get_peft_model
from peft.optimizers import create_lorafa_optimizer
from safetensors.torch import save_file
from transformers import (
    BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel, Llama4ForCausalLM, Llama4TextConfig, LlamaConfig,
    LlamaForCausalLM, ResNetConfig, ResNetForImageClassification,
)

VOCAB, STEPS, BATCH, LENGTH = 97, 30, 4, 10
ADAMW = {"lr": 0.01, "weight_decay": 0.01, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "steps": STEPS}


def bert():
    config = BertConfig(
        vocab_size=VOCAB, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=64, num_labels=3, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        attn_implementation="eager",
    )
    return BertForSequenceClassification(config), "cls"


def gpt2():
    config = GPT2Config(
        vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=64, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        use_cache=False, attn_implementation="eager",
    )
    return GPT2LMHeadModel(config), "lm"


def llama():
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=64, max_position_embeddings=64, use_cache=False, attn_implementation="eager",
    )
    return LlamaForCausalLM(config), "lm"


def llama4():
    config = Llama4TextConfig(
        vocab_size=VOCAB, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
        intermediate_size=48, intermediate_size_mlp=64, num_local_experts=4, num_experts_per_tok=1, interleave_moe_layer_step=1,
        max_position_embeddings=64, attention_chunk_size=64, no_rope_layers=[0, 0], use_cache=False, attn_implementation="eager",
        pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )
    return Llama4ForCausalLM(config), "lm"


def resnet():
    config = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=3, downsample_in_first_stage=False,
    )
    return ResNetForImageClassification(config), "image"


CASES = {
    # Kernels under norms that exporters fold into them.
    "resnet-conv": (
        resnet,
        {"r": 2, "lora_alpha": 4, "target_modules": ["convolution"], "modules_to_save": ["classifier"]},
        "adamw",
    ),
    # A is frozen, the gradient of B projected onto it.
    "bert-fa": (bert, {"r": 4, "lora_alpha": 8, "target_modules": ["query", "value"], "task_type": "SEQ_CLS"}, "lorafa"),
    "bert-bias-lora": (
        bert,
        {"r": 4, "lora_alpha": 8, "target_modules": ["query", "value"], "task_type": "SEQ_CLS", "bias": "lora_only"},
        "adamw",
    ),
    # Magnitudes over factors that begin as a part of the weight, with ranks and alphas of their own.
    "llama-dora-patterns": (
        llama,
        {
            "r": 4, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj", "down_proj"], "task_type": "CAUSAL_LM",
            "use_dora": True, "use_rslora": True, "rank_pattern": {"v_proj": 2}, "alpha_pattern": {"down_proj": 3},
        },
        "adamw",
    ),
    # Stacks of the matrices of experts, as parameters of one module.
    "llama4-experts": (
        llama4,
        {
            "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM",
            "target_parameters": ["feed_forward.experts.gate_up_proj", "feed_forward.experts.down_proj"],
        },
        "adamw",
    ),
    # Rows of a table that is the head as well: in the file a second, transposed one.
    "gpt2-tokens": (
        gpt2,
        {
            "r": 4, "lora_alpha": 8, "target_modules": ["c_attn"], "task_type": "CAUSAL_LM", "fan_in_fan_out": True,
            "trainable_token_indices": {"wte": [4, 6]},
        },
        "adamw",
    ),
    "llama-orthogonal": (
        llama,
        {
            "r": 4, "lora_alpha": 4, "target_modules": ["k_proj", "up_proj"], "task_type": "CAUSAL_LM",
            "init_lora_weights": "orthogonal",
        },
        "adamw",
    ),
}


def batch(kind, generator, rows=BATCH):
    if kind == "image":
        pixels = torch.randn(3, 3, 16, 16, generator=generator)
        return {"pixel_values": pixels, "labels": torch.randint(0, 3, (3,), generator=generator)}
    ids = torch.randint(3, VOCAB, (rows, LENGTH), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    ids[1, 6:] = 0
    labels = torch.randint(0, 3, (rows,), generator=generator) if kind == "cls" else ids.masked_fill(mask == 0, -100)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def loss_of(kind, logits, labels):
    if kind == "lm":
        logits, labels = logits[:, :-1].reshape(-1, VOCAB), labels[:, 1:].reshape(-1)
    return torch.nn.functional.cross_entropy(logits, labels, ignore_index=-100)


class Logits(torch.nn.Module):
    def __init__(self, m, names):
        super().__init__()
        self.m, self.names = m, names

    def forward(self, *inputs):
        return self.m(**dict(zip(self.names, inputs))).logits


class OfTexts(Logits):
    def forward(self, input_ids, attention_mask):
        return super().forward(input_ids, attention_mask)


class OfImages(Logits):
    def forward(self, pixel_values):
        return super().forward(pixel_values)


def f64(feeds):
    """What a model in f64 reads: pixels are stored in f32."""
    return {k: v.double() if v.is_floating_point() else v for k, v in feeds.items()}


def stripped(file):
    """An export without the stack traces of its nodes, which name files of the machine that made it."""
    model = onnx.load(file)
    for graph in [model.graph, *model.functions]:
        del graph.metadata_props[:]
        for node in graph.node:
            del node.metadata_props[:]
    for value in [*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer]:
        del value.metadata_props[:]
    onnx.save(model, file)


def export(model, kind, folder):
    names = ["pixel_values"] if kind == "image" else ["input_ids", "attention_mask"]
    model = (OfImages if kind == "image" else OfTexts)(model, names).eval()
    example = batch(kind, torch.Generator().manual_seed(1))
    args = tuple(example[n] for n in names)
    axes = {0: "batch"} if kind == "image" else {0: "batch", 1: "length"}
    dims = {n: axes for n in names}
    with torch.no_grad():
        torch.onnx.export(
            model, args, f"{folder}/base.torchscript.onnx", input_names=names, output_names=["logits"],
            dynamic_axes=dims, opset_version=17, dynamo=False,
        )
        sizes = {axis: torch.export.Dim(name) for axis, name in axes.items()}
        torch.onnx.export(
            model, args, f"{folder}/base.dynamo.onnx", input_names=names, output_names=["logits"],
            dynamic_shapes={n: sizes for n in names}, opset_version=20, dynamo=True, external_data=False,
        )
    stripped(f"{folder}/base.dynamo.onnx")


def make(name, folder):
    build, settings, optimizer = CASES[name]
    torch.manual_seed(0)
    base, kind = build()
    base.eval()
    # Weights of a size that a training notices.
    with torch.no_grad():
        for key, p in base.named_parameters():
            if p.ndim > 1 and kind != "image":
                p.mul_(4.0)
            elif key.endswith("bias"):
                p.normal_(0.0, 0.1)
    os.makedirs(folder, exist_ok=True)
    export(copy.deepcopy(base), kind, folder)
    config = LoraConfig(**settings)
    model = get_peft_model(copy.deepcopy(base), config).eval()
    model.save_pretrained(f"{folder}/adapter_init")
    model = model.double()
    generator = torch.Generator().manual_seed(7)
    data, losses = {}, []
    held = batch(kind, generator)
    held.pop("labels")
    data.update({f"eval.{k}": v for k, v in held.items()})
    with torch.no_grad():
        data["eval.before"] = base.double()(**f64(held)).logits.float()
    spec = dict(ADAMW)
    if optimizer == "lorafa":
        spec.update({"weight_decay": 0.0, "freeze_a": True})
        steps = create_lorafa_optimizer(model, r=config.r, lora_alpha=config.lora_alpha, lr=spec["lr"], weight_decay=0.0)
        for group in steps.param_groups:
            group["eps"] = spec["eps"]
    else:
        trained = [p for p in model.parameters() if p.requires_grad]
        steps = torch.optim.AdamW(
            trained, lr=spec["lr"], weight_decay=spec["weight_decay"], betas=(spec["beta1"], spec["beta2"]),
            eps=spec["eps"],
        )
    for i in range(STEPS):
        feeds = batch(kind, generator)
        data.update({f"step{i:02}.{k}": v for k, v in feeds.items()})
        labels = feeds.pop("labels")
        loss = loss_of(kind, model(**f64(feeds)).logits, labels)
        losses.append(loss.item())
        steps.zero_grad()
        loss.backward()
        steps.step()
    with torch.no_grad():
        data["eval.after"] = model(**f64(held)).logits.float()
    trained = {n: list(p.shape) for n, p in model.base_model.model.named_parameters() if p.requires_grad}
    model.float().save_pretrained(f"{folder}/adapter_final")
    merged = model.double().merge_and_unload(safe_merge=True).state_dict()
    merged = {k: v.float().contiguous() for k, v in merged.items() if v.is_floating_point()}
    save_file(merged, f"{folder}/merged.safetensors")
    save_file({k: v.contiguous() for k, v in data.items()}, f"{folder}/data.safetensors")
    peft = {k: list(v) if isinstance(v, set) else v for k, v in config.to_dict().items() if v}
    case = {"kind": kind, "peft": peft, "optimizer": spec, "losses": losses, "trained": trained}
    case["loss"] = "cross entropy, mean; lm: logits shifted by one, label -100 ignored"
    with open(f"{folder}/case.json", "w") as f:
        json.dump(case, f, indent=1, default=str)
    for part in ["adapter_init", "adapter_final"]:
        if os.path.exists(f"{folder}/{part}/README.md"):
            os.remove(f"{folder}/{part}/README.md")


if __name__ == "__main__":
    # bert-fa is for a look by hand: PEFT's optimizer adds its epsilon before the correction of the bias, AdamW behind it.
    for case in sys.argv[2:] or [name for name in CASES if name != "bert-fa"]:
        make(case, os.path.join(sys.argv[1], case))
