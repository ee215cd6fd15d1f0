"""The first A and B of EVA and of LoRA-GA, as PEFT makes them of the first batches of two cases of tests/data/peft2.

Made with PyTorch 2.15, transformers 5.23 and PEFT 0.21.2:

    python tests/truth/first_factors.py tests/data/peft2 tests/data/truth/first_factors

A case is one of variants.py's, with its model and its batches. Ranks are such that PEFT's randomized decompositions have all
directions there are: 16 of 32 for EVA, 8 for LoRA-GA. `eva.N.MODULE` is A of EVA after N batches, without its
redistribution of ranks (rho = 1), `shared.N.MODULE` with it (r = 8, rho = 2; a module that is not there has no branch), and
`shared.N.MODULE.scale` what the branch is multiplied by there (alpha = 4); `ga.N.MODULE.A` and `.B` are those of LoRA-GA with PEFT's own settings, alpha = 8, and `.S`
the largest singular values of the gradient: what has none, or one like another's, has no direction of its own.
"""

import copy
import os
import sys

import torch
from peft import EvaConfig, LoraConfig, LoraGAConfig, get_peft_model, initialize_lora_eva_weights
from peft.tuners.lora.loraga import preprocess_loraga
from safetensors.torch import load_file, save_file

from variants import CASES, f64, loss_of

OF = {
    "bert-bias-lora": ["query", "value", "intermediate.dense"],
    "llama-orthogonal": ["q_proj", "v_proj", "down_proj"],
}
COUNTS = [1, 3]


def base_of(name):
    torch.manual_seed(0)
    base, kind = CASES[name][0]()
    base.eval()
    with torch.no_grad():
        for key, p in base.named_parameters():
            if p.ndim > 1 and kind != "image":
                p.mul_(4.0)
            elif key.endswith("bias"):
                p.normal_(0.0, 0.1)
    return base.double(), kind


def factors(model):
    for name, module in model.named_modules():
        if hasattr(module, "lora_A"):
            yield name.removeprefix("base_model.model."), [module.lora_A["default"].weight, module.lora_B["default"].weight]


def make(name, cases, out):
    data = load_file(f"{cases}/{name}/data.safetensors")
    base, kind = base_of(name)
    held = {k: data[f"eval.{k}"] for k in ["input_ids", "attention_mask"]}
    with torch.no_grad():
        off = (base(**f64(held)).logits.float() - data["eval.before"]).abs().max().item()
    assert off < 1e-5, f"{name}: the model is another, by {off}"
    batches = [{k: data[f"step{i:02}.{k}"] for k in ["input_ids", "attention_mask", "labels"]} for i in range(max(COUNTS))]
    found = {}
    for count in COUNTS:
        config = LoraConfig(
            r=16, lora_alpha=16, target_modules=OF[name], init_lora_weights="eva", eva_config=EvaConfig(rho=1.0),
        )
        model = get_peft_model(copy.deepcopy(base), config)
        fed = [{k: v for k, v in b.items() if k != "labels"} for b in batches[:count]]
        initialize_lora_eva_weights(model, fed, show_progress_bar=False)
        for path, [a, b] in factors(model):
            assert b.abs().max() == 0 and a.shape[0] == 16
            found[f"eva.{count}.{path}"] = a.detach().float()

        config = LoraConfig(
            r=8, lora_alpha=4, target_modules=OF[name], init_lora_weights="eva", eva_config=EvaConfig(rho=2.0),
        )
        model = get_peft_model(copy.deepcopy(base), config)
        initialize_lora_eva_weights(model, fed, show_progress_bar=False)
        for path, [a, b] in factors(model):
            found[f"shared.{count}.{path}"] = a.detach().float()
        for path, module in model.named_modules():
            if hasattr(module, "lora_A"):
                key = f"shared.{count}.{path.removeprefix('base_model.model.')}.scale"
                found[key] = torch.tensor([module.scaling["default"]])

        config = LoraConfig(
            r=8, lora_alpha=8, target_modules=OF[name], init_lora_weights="lora_ga", lora_ga_config=LoraGAConfig(),
        )
        model = copy.deepcopy(base)

        def train_step():
            for batch in batches[:count]:
                feeds = dict(batch)
                labels = feeds.pop("labels")
                loss_of(kind, model(**f64(feeds)).logits, labels).backward()

        preprocess_loraga(model, config, train_step)
        for path, module in model.named_modules():
            if hasattr(module, "_peft_loraga_grad"):
                found[f"ga.{count}.{path}.S"] = torch.linalg.svdvals(module._peft_loraga_grad)[:17].float()
        for path, [a, b] in factors(get_peft_model(model, config)):
            found[f"ga.{count}.{path}.A"], found[f"ga.{count}.{path}.B"] = a.detach().float(), b.detach().float()
    save_file({k: v.contiguous() for k, v in found.items()}, f"{out}/{name}.safetensors")


if __name__ == "__main__":
    os.makedirs(sys.argv[2], exist_ok=True)
    for case in OF:
        make(case, sys.argv[1], sys.argv[2])
