"""How long the quickstart's training takes beside PEFT's, on the same rows and cores, one after the other and again.

    python benches/quality/times.py WORK [--lorac BINARY] [--rounds 2]

WORK is what data.py has written (reviews). Seconds are those of the steps alone, on both sides; a quiet machine is needed.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SIDES = ["lorac", "PEFT, batches by length", "PEFT, batches of random rows"]


def seconds(side, work, lorac):
    out, part = work.resolve() / "runs/reviews", work.resolve() / "times.part"
    if side == "lorac":
        command = [lorac, "run", HERE / "reviews.yaml", "--quiet", "--out", out]
    else:
        command = [sys.executable, HERE / "peer.py", HERE / "reviews.yaml", "0", part, *(["--random-order"] * ("random" in side))]
    subprocess.run(command, cwd=work, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if side == "lorac":
        manifest = json.loads((out / "manifest.json").read_text())
        return manifest["train"]["seconds"], manifest["eval"]["after"]["accuracy"]
    found = json.loads(part.read_text())
    part.unlink()
    return found["seconds"], found["after"]["accuracy"]


def main():
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("work", type=Path)
    parse.add_argument("--lorac", default=HERE.parents[1] / "target/release/lorac")
    parse.add_argument("--rounds", type=int, default=2)
    args = parse.parse_args()
    all = {side: [] for side in SIDES}
    for _ in range(args.rounds):
        for side in SIDES:
            all[side].append(seconds(side, args.work, args.lorac))
            print(f"{side}: {all[side][-1][0]:.1f} s, accuracy {all[side][-1][1]:.3f}", flush=True)
    least = {side: min(time for time, _ in runs) for side, runs in all.items()}
    for side in SIDES[1:]:
        print(f"lorac takes {least['lorac'] / least[side]:.2f} of {side}")


main()
