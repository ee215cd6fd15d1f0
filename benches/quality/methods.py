"""Trains one task by several methods on three seeds, and prints what each gave, for the table of docs/quality.md.

    python benches/quality/methods.py WORK [--lorac BINARY] [--threads 2] [--only METHOD] [TASK ...]

WORK is what data.py has written; a task is a pipeline beside this file whose `adapt` and rate are replaced. A run whose result
is in WORK/methods already is not done again, whatever has made it: remove the folder to measure another binary.
"""

import argparse
import json
import statistics
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
SEEDS = [0, 1, 2]
TASKS = {"tweets": ["accuracy", "f1_macro"], "spam": ["f1", "matthews"]}
WHERE = 'targets: ["role:query", "role:value"]'
LOW_RANK = f"{WHERE}, rank: 8, alpha: 16"
# What `adapt` has, the rate of AdamW, and what else is set.
METHODS = {
    "lora": (f"lora: {{ {LOW_RANK} }}", 1e-3),
    "lora, rslora": (f"lora: {{ {LOW_RANK}, rslora: true }}", 1e-3),
    "lora, init: kaiming": (f"lora: {{ {LOW_RANK}, init: kaiming }}", 1e-3),
    "lora, init: gaussian": (f"lora: {{ {LOW_RANK}, init: gaussian }}", 1e-3),
    "lora, init: orthogonal": (f"lora: {{ {LOW_RANK}, init: orthogonal }}", 1e-3),
    "lora, init: pissa": (f"lora: {{ {LOW_RANK}, init: pissa }}", 1e-3),
    "lora, init: olora": (f"lora: {{ {LOW_RANK}, init: olora }}", 1e-3),
    "lora, init: eva": (f"lora: {{ {LOW_RANK}, init: eva }}", 1e-3),
    "lora, init: eva, init_rho: 2": (f"lora: {{ {LOW_RANK}, init: eva, init_rho: 2 }}", 1e-3),
    "lora, init: lora_ga": (f"lora: {{ {LOW_RANK}, init: lora_ga }}", 1e-3),
    "lora, freeze_a": (f"lora: {{ {LOW_RANK}, freeze_a: true }}", 1e-3),
    "lora, bias: all": (f"lora: {{ {LOW_RANK}, bias: all }}", 1e-3),
    "lora, train_also: norms": (f'lora: {{ {LOW_RANK}, train_also: ["*LayerNorm*"] }}', 1e-3),
    "lora, lora_plus: 16": (f"lora: {{ {LOW_RANK} }}", 1e-3, "train.lora_plus=16"),
    "lora, all-linear": ("lora: { targets: [all-linear], rank: 8, alpha: 16 }", 1e-3),
    "lora, word table too": (f'lora: {{ targets: ["role:query", "role:value", "*word_embeddings*"], rank: 8, alpha: 16 }}', 1e-3),
    "dora": (f"dora: {{ {LOW_RANK} }}", 1e-3),
    "ia3": ('ia3: { targets: ["role:key", "role:value", "role:down"] }', 1e-2),
    "bias": ("bias: {}", 5e-3),
    "full": (f"full: {{ {WHERE} }}", 1e-4),
    "full, norms": ('full: { targets: ["*LayerNorm*"] }', 5e-3),
}


def measured(work, task, name, seed, args):
    result = work / "methods" / f"{task}-{name.replace(': ', '_').replace(', ', '-').replace(' ', '_')}-{seed}.json"
    if not result.exists():
        result.parent.mkdir(exist_ok=True)
        method, rate, *more = METHODS[name]
        out = work.resolve() / "runs" / f"methods-{task}"
        settings = [f"train.seed={seed}", f"runtime.threads={args.threads}", f"adapt=[{{{method}}}]", *more]
        settings.append(f"train.optimizer={{adamw: {{lr: {rate}, weight_decay: 0.01}}}}")
        sets = [word for setting in settings for word in ("--set", setting)]
        subprocess.run([args.lorac, "run", HERE / f"{task}.yaml", "--quiet", "--out", out, *sets], cwd=work, check=True)
        manifest = json.loads((out / "manifest.json").read_text())
        found = {"before": manifest["eval"]["before"], "after": manifest["eval"]["after"]}
        found |= {"params": manifest["trainable_parameters"], "seconds": manifest["train"]["seconds"]}
        result.write_text(json.dumps(found, indent=1) + "\n")
        print(f"{task} {name} {seed}: {found['after']}", flush=True)
    return json.loads(result.read_text())


def main():
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("work", type=Path)
    parse.add_argument("tasks", nargs="*", default=list(TASKS))
    parse.add_argument("--lorac", default=HERE.parents[1] / "target/release/lorac")
    parse.add_argument("--threads", type=int, default=2)
    parse.add_argument("--only", choices=list(METHODS))
    args = parse.parse_intermixed_args()
    rows = []
    for name in [args.only] if args.only else METHODS:
        cells = [f"`{name}`", f"{METHODS[name][1]:g}"]
        for task in args.tasks or list(TASKS):
            all = [measured(args.work, task, name, seed, args) for seed in SEEDS]
            for metric in TASKS[task]:
                scores = [run["after"][metric] for run in all]
                cells.append(f"{statistics.mean(scores):.3f} ({min(scores):.3f} to {max(scores):.3f})")
        rows.append([*cells[:2], f"{all[0]['params']:,}", *cells[2:]])
    names = [f"{task}: {metric}" for task in args.tasks or TASKS for metric in TASKS[task]]
    print(f"| method | rate | parameters | {' | '.join(names)} |")
    print("|---" * len(rows[0]) + "|")
    print("\n".join(f"| {' | '.join(row)} |" for row in rows))


main()
