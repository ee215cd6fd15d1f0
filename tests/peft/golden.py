"""What lies in tests/data/peft_artifacts: golden.py FOLDER TOKENIZER makes it anew.

Models of models.py, those of its exports without what is only for reading (stack traces), and golden.json: by model type
and task type what PEFT's own save_pretrained writes of an adapter of query and value with rank 2.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import models
import onnx
import transformers as t
from peft import LoraConfig, get_peft_model
from safetensors import safe_open

KEPT = [*models.CONFIGS, "gpt2-bare", "bert-packed", "bert-torchscript-base", "bert-dynamo-base", "gpt2-dynamo-lm", "llama-torchscript-lm", "bert-dynamo-cls", "roberta-cls"]
TARGETS = {
    "bert": ["query", "value"],
    "roberta": ["query", "value"],
    "distilbert": ["q_lin", "v_lin"],
    "gpt2": ["c_attn"],
    "llama": ["q_proj", "v_proj"],
    "qwen2": ["q_proj", "v_proj"],
}
CLASSES = {
    "SEQ_CLS": t.AutoModelForSequenceClassification,
    "FEATURE_EXTRACTION": t.AutoModel,
    "CAUSAL_LM": t.AutoModelForCausalLM,
}


def golden(name, kind, source):
    model = CLASSES[kind].from_config(t.AutoConfig.from_pretrained(source))
    # Query and value of GPT-2 are slices of one matrix: their branches are one of twice the rank.
    rank = 4 if name == "gpt2" else 2
    lora = LoraConfig(task_type=kind, r=rank, target_modules=TARGETS[name], fan_in_fan_out=name == "gpt2")
    with tempfile.TemporaryDirectory() as folder:
        get_peft_model(model, lora).save_pretrained(folder)
        config = json.loads((Path(folder) / "adapter_config.json").read_text())
        with safe_open(Path(folder) / "adapter_model.safetensors", "pt") as file:
            shapes = {key: file.get_slice(key).get_shape() for key in sorted(file.keys())}
    kept = ["peft_type", "task_type", "r", "fan_in_fan_out", "bias", "use_rslora", "use_dora", "inference_mode"]
    return {"config": {key: config[key] for key in kept}, "tensors": shapes}


def main(folder, tokenizer):
    all = {}
    with tempfile.TemporaryDirectory() as made:
        models.main(Path(made), tokenizer)
        for name in KEPT:
            target = folder / name
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(Path(made) / name, target, ignore=shutil.ignore_patterns("tokenizer.json", "generation_config.json"))
            if (target / "model.onnx").exists():
                model = onnx.load(target / "model.onnx")
                for node in model.graph.node:
                    node.doc_string = ""
                    kept = [p for p in node.metadata_props if p.key not in ("pkg.torch.onnx.stack_trace", "pkg.torch.onnx.fx_node", "namespace")]
                    del node.metadata_props[:]
                    node.metadata_props.extend(kept)
                onnx.save(model, target / "model.onnx")
        for name in TARGETS:
            kinds = [kind for kind in CLASSES if kind != "CAUSAL_LM" or name in models.DECODERS]
            all[name] = {kind: golden(name, kind, Path(made) / name) for kind in kinds}
    (folder / "golden.json").write_text(json.dumps(all, indent=1) + "\n")


main(Path(sys.argv[1]), sys.argv[2])
