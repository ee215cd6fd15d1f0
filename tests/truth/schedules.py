"""Learning rates of transformers' schedules over 30 steps: tests/data/truth/schedules/rates.txt, a line each.

    python tests/truth/schedules.py > tests/data/truth/schedules/rates.txt
"""
import torch
from transformers import optimization as o

LR, STEPS = 1e-3, 30


def rates(make):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
    scheduler = make(optimizer)
    out = []
    for _ in range(STEPS + 1):
        out.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return out


for w in (0, 5):
    schedules = {
        "linear": lambda x: o.get_linear_schedule_with_warmup(x, w, STEPS),
        "constant": lambda x: o.get_constant_schedule_with_warmup(x, w),
        "cosine": lambda x: o.get_cosine_schedule_with_warmup(x, w, STEPS),
        "cosine_min": lambda x: o.get_cosine_with_min_lr_schedule_with_warmup(x, w, STEPS, min_lr_rate=0.1),
        "cosine_restarts": lambda x: o.get_cosine_with_hard_restarts_schedule_with_warmup(x, w, STEPS, num_cycles=3),
        "polynomial": lambda x: o.get_polynomial_decay_schedule_with_warmup(x, w, STEPS, lr_end=1e-5, power=2.0),
        "polynomial_root": lambda x: o.get_polynomial_decay_schedule_with_warmup(x, w, STEPS, lr_end=1e-5, power=0.5),
        "inverse_sqrt": lambda x: o.get_inverse_sqrt_schedule(x, w),
        "inverse_sqrt_3": lambda x: o.get_inverse_sqrt_schedule(x, w, timescale=3),
    }
    for name, make in schedules.items():
        print(f"{name}_{w}", *(f"{r:.17g}" for r in rates(make)))
