"""The step that benches/src/bin/step.rs times, with PyTorch and PEFT: MiniLM-L6, LoRA r=8 on query and value, f32.

    pip install torch transformers peft
    python benches/peers/peft_step.py MODEL_FOLDER [BATCH [LENGTH]]
"""

import resource
import statistics
import sys
import time

import peft
import torch
import transformers

folder = sys.argv[1]
batch = int(sys.argv[2]) if len(sys.argv) > 2 else 16
length = int(sys.argv[3]) if len(sys.argv) > 3 else 64
torch.manual_seed(0)
model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2)
config = peft.LoraConfig(task_type="SEQ_CLS", r=8, lora_alpha=16, lora_dropout=0.0, target_modules=["query", "value"])
model = peft.get_peft_model(model, config).train()
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
ids = (1000 + torch.arange(batch * length) * 7919 % 20000).reshape(batch, length)
labels = torch.arange(batch) % 2
times = []
for _ in range(18):
    start = time.perf_counter()
    optimizer.zero_grad()
    loss = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels).loss
    loss.backward()
    optimizer.step()
    times.append(time.perf_counter() - start)
print(f"PEFT {peft.__version__}, PyTorch {torch.__version__}, {torch.get_num_threads()} threads")
print(f"step {batch} x {length}: {statistics.median(times[3:]) * 1e3:.1f} ms (median of 15)")
print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB resident")
