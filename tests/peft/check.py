"""Loads adapters with peft into the classes that they are for, and compares with the deployed models: check.py JOBS.json.

A job is {"name", "out": what `lorac run --out` wrote, "base": the folder of the base model, "rows": texts, "mixed": whether
linear maps and Conv1D are adapted, "untied": whether a head is without the table that it is tied to; of both PEFT always speaks}. A line for each
on stdout; the exit code is 1 where one differs by more than 1e-4 or does not load as it is.
"""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
import transformers as t
from peft import PeftModel
from safetensors.torch import load_file
from tokenizers import Tokenizer

t.logging.set_verbosity_error()
CLASSES = {
    "SEQ_CLS": t.AutoModelForSequenceClassification,
    "TOKEN_CLS": t.AutoModelForTokenClassification,
    "CAUSAL_LM": t.AutoModelForCausalLM,
    "FEATURE_EXTRACTION": t.AutoModel,
}


def pooled(hidden, mask, pool):
    if pool == "mean":
        return (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
    at = torch.zeros(len(mask), dtype=torch.long) if pool == "cls" else (mask * torch.arange(mask.shape[1])).argmax(1)
    return hidden[torch.arange(len(mask)), at]


def torch_logits(job, config, ids, mask):
    kind, adapter = config["task_type"], Path(job["out"]) / "adapter"
    more = {}
    if kind in ["SEQ_CLS", "TOKEN_CLS"]:
        saved = load_file(adapter / "adapter_model.safetensors")
        ends = ("classifier.weight", "out_proj.weight", "score.weight")
        more["num_labels"] = next(v.shape[0] for k, v in saved.items() if k.endswith(ends) and "pre_" not in k)
    # What the base does not have is random: the adapter must bring it.
    torch.manual_seed(hash(job["name"]) % 1000)
    base = CLASSES[kind].from_pretrained(job["base"], attn_implementation="eager", **more)
    model = PeftModel.from_pretrained(base, adapter).eval()
    weight = [k for k in dict(model.named_parameters()) if "lora_B" in k]
    count = len([k for k in load_file(adapter / "adapter_model.safetensors") if "lora_B" in k])
    assert len(weight) == count, f"{len(weight)} modules are adapted, {count} are stored"
    with torch.no_grad():
        y = model(input_ids=ids, attention_mask=mask)
        with model.disable_adapter():
            plain = model(input_ids=ids, attention_mask=mask)
    assert float((y[0] - plain[0]).abs().max()) > 1e-3, "the adapter changes nothing"
    if not (adapter / "head.safetensors").exists():
        return y.logits
    head, described = load_file(adapter / "head.safetensors"), json.loads((adapter / "head_config.json").read_text())
    x = pooled(getattr(y, {"scores": "logits"}.get(described["input"], described["input"])), mask, described["pool"])
    return x @ head["classifier.weight"].T + head["classifier.bias"]


def difference(job):
    config = json.loads((Path(job["out"]) / "adapter/adapter_config.json").read_text())
    tokenizer = Tokenizer.from_file(str(Path(job["base"]) / "tokenizer.json"))
    tokenizer.enable_padding(pad_id=0)
    rows = tokenizer.encode_batch(job["rows"])
    ids, mask = [torch.tensor([getattr(r, k) for r in rows]) for k in ["ids", "attention_mask"]]
    session = ort.InferenceSession(str(Path(job["out"]) / "model.onnx"))
    feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
    feeds = {i.name: feeds[i.name].numpy() for i in session.get_inputs()}
    deployed = torch.from_numpy(session.run([session.get_outputs()[-1].name], feeds)[0])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ours = torch_logits(job, config, ids, mask)
    words = ["adapter"] if job["mixed"] else ["adapter", "fan_in"]
    # With biases PEFT warns that the model without its adapter is another: `plain` is looked at for a difference alone.
    said = [str(w.message) for w in caught if any(word in str(w.message) for word in words)]
    said = [message for message in said if "disabling adapter layers with bias" not in message]
    if job.get("untied"):
        said = [message for message in said if "tie_word_embeddings" not in message]
    assert not said, said
    if ours.dim() == 3:
        ours, deployed = ours[mask.bool()], deployed[mask.bool()]
    assert np.ptp(deployed.numpy()) > 1e-3, "all logits are the same"
    return config["task_type"], float((ours - deployed).abs().max())


failed = False
for job in json.loads(Path(sys.argv[1]).read_text()):
    try:
        kind, far = difference(job)
        good = far <= 1e-4
        print(f"{'ok ' if good else 'BAD'} {job['name']}: {kind}, {far:.1e}", flush=True)
    except Exception as error:  # every job is tried
        good = False
        print(f"BAD {job['name']}: {type(error).__name__}: {error}", flush=True)
    failed |= not good
sys.exit(failed)
