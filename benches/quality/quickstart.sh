#!/usr/bin/env bash
# Trains the quickstart on three seeds and prints what docs/quality.md holds. Extra arguments go to `lorac run`.
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo build --release
out=$(mktemp -d)
echo "| seed | accuracy before | accuracy after | F1 after | loss after | training | max difference |"
echo "|---|---|---|---|---|---|---|"
for seed in 0 1 2; do
  target/release/lorac run pipelines/quickstart.yaml --quiet --out "$out/$seed" --set train.seed=$seed "$@" >/dev/null
  python3 - "$out/$seed/manifest.json" $seed <<'PY'
import json, sys
m = json.load(open(sys.argv[1]))
b, a, t, v = m["eval"]["before"], m["eval"]["after"], m["train"], m["verify"]
print(f"| {sys.argv[2]} | {b['accuracy']:.3f} | {a['accuracy']:.3f} | {a['f1']:.3f} | {a['loss']:.3f} "
      f"| {t['seconds']:.0f} s | {v['max_abs_diff']:.1e} |")
PY
done
