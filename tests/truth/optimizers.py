"""30 steps of PyTorch's optimizers, of Lion's reference and of transformers' Adafactor: tests/data/truth/optimizers/steps.txt, a line each of 30 losses
before their updates and the 6 parameters behind the last.

    python tests/truth/optimizers.py > tests/data/truth/optimizers/steps.txt
"""
import math
import torch
from transformers.optimization import Adafactor

START = [[1.0, -2.0, 0.5], [0.25, 3.0, -0.75]]
CURVATURE = torch.tensor([0.5, 1.0, 2.0, 4.0, 0.25, 1.5], dtype=torch.float64)


class Lion(torch.optim.Optimizer):
    """google/automl, lion/lion_pytorch.py."""

    def __init__(self, params, lr, betas, weight_decay):
        super().__init__(params, dict(lr=lr, betas=betas, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                p.data.mul_(1 - group["lr"] * group["weight_decay"])
                state = self.state[p]
                if len(state) == 0:
                    state["exp_avg"] = torch.zeros_like(p)
                exp_avg, (beta1, beta2) = state["exp_avg"], group["betas"]
                update = exp_avg * beta1 + p.grad * (1 - beta1)
                p.add_(update.sign_(), alpha=-group["lr"])
                exp_avg.mul_(beta2).add_(p.grad, alpha=1 - beta2)


joined = lambda params: torch.cat([p.reshape(-1) for p in params])


def train(name, make, clip=lambda params: None, groups=({}, {}), shapes=([3], [3])):
    flat = torch.tensor(sum(START, []), dtype=torch.float64)
    parts = flat.split([math.prod(shape) for shape in shapes])
    params = [torch.nn.Parameter(x.clone().reshape(shape)) for x, shape in zip(parts, shapes)]
    optimizer = make([dict(params=[p], **own) for p, own in zip(params, groups)])
    rates = [group["lr"] for group in optimizer.param_groups]
    losses = []
    for step in range(30):
        target = torch.tensor([2 * math.sin(0.7 * step + i) for i in range(6)], dtype=torch.float64)
        loss = (CURVATURE * (joined(params) - target) ** 2).sum() / 2
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        clip(params)
        for group, rate in zip(optimizer.param_groups, rates):
            group["lr"] = rate * (1 - step / 40)
        optimizer.step()
    print(name, *(f"{x:.12g}" for x in losses + joined(params).tolist()))


adamw = lambda p: torch.optim.AdamW(p, lr=0.05, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1)
norm = lambda p: torch.nn.utils.clip_grad_norm_(p, 1.0)
train("adamw", adamw)
train("adam", lambda p: torch.optim.Adam(p, lr=0.05, betas=(0.8, 0.95), eps=1e-6))
train("adam_decay", lambda p: torch.optim.Adam(p, lr=0.05, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1))
train("sgd", lambda p: torch.optim.SGD(p, lr=0.1))
train("sgd_momentum", lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.7, weight_decay=0.1))
train("sgd_nesterov", lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.7, weight_decay=0.1, nesterov=True))
train("lion", lambda p: Lion(p, lr=0.05, betas=(0.8, 0.95), weight_decay=0.1))
train("clip_norm", adamw, norm)
train("clip_value", lambda p: torch.optim.SGD(p, lr=0.1), lambda p: torch.nn.utils.clip_grad_value_(p, 0.5))
train("groups", adamw, norm, (dict(weight_decay=0.0), dict(lr=0.1, weight_decay=0.5)))
train("groups_sgd", lambda p: torch.optim.SGD(p, lr=0.1), norm, (dict(lr=0.025, weight_decay=0.3), {}))
train("lora_plus", lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1), norm, ({}, dict(lr=0.16)))
train("adafactor", lambda p: Adafactor(p, lr=0.1, scale_parameter=False, relative_step=False), groups=({},), shapes=([2, 3],))
scaled = lambda p: Adafactor(p, lr=0.2, eps=(1e-8, 1e-2), clip_threshold=0.7, decay_rate=-0.6, beta1=0.8, weight_decay=0.1,
                             scale_parameter=True, relative_step=False)
train("adafactor_scaled", scaled, norm, shapes=([2], [2, 2]))
