"""The step that benches/src/bin/vocabulary.rs times, with PyTorch and PEFT: a decoder, LoRA r=8 on query and value (on the whole
fused matrix of GPT-2), f32.

    python benches/peers/peft_language.py MODEL_FOLDER [BATCH [LENGTH [eval]]]

With `eval` the model has no dropout.
"""

import resource
import statistics
import sys
import time

import peft
import torch
import transformers

folder = sys.argv[1]
batch = int(sys.argv[2]) if len(sys.argv) > 2 else 8
length = int(sys.argv[3]) if len(sys.argv) > 3 else 128
torch.manual_seed(0)
model = transformers.AutoModelForCausalLM.from_pretrained(folder).train("eval" not in sys.argv[4:])
fused = any("c_attn" in name for name, _ in model.named_modules())
targets = ["c_attn"] if fused else ["q_proj", "v_proj"]
config = peft.LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules=targets, fan_in_fan_out=fused)
model = peft.get_peft_model(model, config).train("eval" not in sys.argv[4:])
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
ids = (torch.arange(batch * length) * 7919 % 20000).reshape(batch, length)
times = []
for step in range(7):
    start = time.perf_counter()
    optimizer.zero_grad()
    loss = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids).loss
    loss.backward()
    optimizer.step()
    times.append(time.perf_counter() - start)
    if step < 3:
        print(f"loss {loss.item():.6f}")
print(f"PEFT {peft.__version__}, PyTorch {torch.__version__}, {torch.get_num_threads()} threads")
print(f"step {batch} x {length}: {statistics.median(times[3:]) * 1e3:.1f} ms (median of 4)")
print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB resident")
