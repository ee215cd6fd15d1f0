"""Trains every task on three seeds with lorac and with its peer, and prints the table of docs/quality.md.

    python benches/quality/run.py WORK [--lorac BINARY] [--threads 2] [--only lorac|peer|no-dropout|table] [TASK ...]

WORK is what data.py has written. A run whose result is in WORK/results already is not done again; with --only table
nothing is run. Time is that of the whole process, its start and both evaluations included.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
SEEDS = [0, 1, 2]
# The cheapest first.
TASKS = {
    "regress": ["pearson", "mse"],
    "tweets": ["accuracy", "f1_macro"],
    "bbc": ["accuracy", "f1_macro"],
    "spam": ["f1", "matthews"],
    "ner": ["span_f1"],
    "e2e_pairs": ["accuracy", "f1"],
    "wikisql": ["perplexity"],
}
LOWER = {"mse", "perplexity", "loss"}
SIDES = ["lorac", "peer", "no-dropout"]
HEADS = {"lorac": "lorac", "peer": "PEFT", "no-dropout": "PEFT without the encoder's dropout"}


def run(work, task, seed, side, args):
    """Runs one training, unless it is done; its result is WORK/results/TASK-SEED-SIDE.json."""
    result = (work / "results" / f"{task}-{seed}-{side}.json").resolve()
    if result.exists() or (side == "no-dropout" and task == "wikisql"):
        return
    result.parent.mkdir(exist_ok=True)
    pipeline, part = HERE / f"{task}.yaml", result.with_suffix(".part")
    if side == "lorac":
        out = work.resolve() / "runs" / f"{task}-{seed}"
        settings = [f"train.seed={seed}", f"runtime.threads={args.threads}"]
        command = [args.lorac, "run", pipeline, "--quiet", "--out", out, *(w for s in settings for w in ("--set", s))]
    else:
        command = [sys.executable, HERE / "peer.py", pipeline, str(seed), part, *(["--no-dropout"] * (side == "no-dropout"))]
    start = time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads)}
    process = subprocess.Popen(command, cwd=work, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"{task}, seed {seed}, {side}: failed")
    process_times = {"process_seconds": time.perf_counter() - start, "process_cpu_seconds": usage.ru_utime + usage.ru_stime}
    if side == "lorac":
        manifest = json.loads((out / "manifest.json").read_text())
        data = manifest["data"]
        found = {part: manifest["eval"][part] for part in ["before", "after"]}
        found |= {"rows": [data["train"]["examples"], data["eval"]["examples"]], "steps": manifest["train"]["steps"]}
        found |= {"params": manifest["trainable_parameters"], "seconds": manifest["train"]["seconds"]}
    else:
        found = json.loads(part.read_text())
        part.unlink()
    result.write_text(json.dumps(found | process_times | {"threads": args.threads}, indent=1) + "\n")
    name = TASKS[task][0]
    print(f"{task} {seed} {side}: {name} {found['after'][name]:.4f}, {process_times}", flush=True)


def results(work, task, side):
    files = [work / "results" / f"{task}-{seed}-{side}.json" for seed in SEEDS]
    return [json.loads(file.read_text()) for file in files if file.exists()]


def table(work, tasks):
    """Mean, least and most of the seeds; whether lorac's mean is worse by more than the larger spread of the two."""
    found = {task: {side: results(work, task, side) for side in SIDES} for task in tasks}
    whole = {side: all(len(found[task][side]) == len(SEEDS) for task in tasks) for side in SIDES}
    sides = [side for side in SIDES if whole[side] or side != "no-dropout"]
    print(f"| task | rows | steps | metric | before | {' | '.join(HEADS[side] for side in sides)} | holds |")
    print("|---" * (6 + len(sides)) + "|")
    for task in tasks:
        all_sides = {side: found[task][side] for side in sides}
        if any(len(of_side) < len(SEEDS) for of_side in all_sides.values()):
            print(f"| {task} | not measured |")
            continue
        same = {(tuple(r["rows"]), r["steps"], r["params"]) for of_side in all_sides.values() for r in of_side}
        assert len(same) == 1, f"{task}: rows, steps and params differ: {same}"
        [(rows, steps, _)] = same
        for metric in TASKS[task]:
            after = {side: [r["after"][metric] for r in all_sides[side]] for side in sides}
            mean = {side: statistics.mean(values) for side, values in after.items()}
            spread = max(max(after[side]) - min(after[side]) for side in ["lorac", "peer"])
            worse = (mean["lorac"] - mean["peer"]) * (1 if metric in LOWER else -1)
            cells = [task, f"{rows[0]:,} / {rows[1]:,}", str(steps), metric]
            cells.append(f"{statistics.mean(r['before'][metric] for r in all_sides['lorac']):.3f}")
            cells += [f"{mean[side]:.3f} ({min(after[side]):.3f} to {max(after[side]):.3f})" for side in sides]
            print(f"| {' | '.join([*cells, 'yes' if worse <= spread else 'no'])} |")


def main():
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("work", type=Path)
    parse.add_argument("tasks", nargs="*", default=list(TASKS))
    parse.add_argument("--lorac", default=HERE.parents[1] / "target/release/lorac")
    parse.add_argument("--threads", type=int, default=2)
    parse.add_argument("--only", choices=[*SIDES, "table"])
    args = parse.parse_intermixed_args()
    tasks = args.tasks or list(TASKS)
    sides = [side for side in SIDES if args.only in (None, side)]
    for task in tasks:
        for seed in SEEDS:
            for side in sides:
                run(args.work, task, seed, side, args)
    table(args.work, tasks)


main()
