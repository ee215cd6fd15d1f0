#!/usr/bin/env bash
# Runs every fuzz target, ten minutes each, on the seeds that the tests' data gives. A crash, a hang of a minute or more than
# 2 GiB ends it with the input that caused it, in fuzz/artifacts/.
#
#     cargo install cargo-fuzz && fuzz/run.sh [SECONDS [TARGET...]]
#
# A stable compiler is enough: without a sanitizer, what is looked for are panics, hangs and memory.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-600}
shift || true
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
  for file in fuzz/fuzz_targets/*.rs; do
    grep -q 'fuzz_target!' "$file" && targets+=("$(basename "$file" .rs)")
  done
fi
cargo run --release -q -p lorac-tests --bin seeds
for target in "${targets[@]}"; do
  echo "== $target, $seconds s"
  dictionary=()
  if [ "$target" = graph ]; then dictionary=(-dict=fuzz/ops.dict); fi
  cargo fuzz run --sanitizer none "$target" -- \
    -max_total_time="$seconds" -timeout=60 -rss_limit_mb=2048 -print_final_stats=1 "${dictionary[@]}"
done
