#!/bin/sh
# A Python that tests/tests/peft_artifacts.rs can use: tests/peft/venv.sh FOLDER, then LORAC_PEFT_PYTHON=FOLDER/bin/python.
set -eu
folder=${1:?"usage: $0 FOLDER"}
python3 -m venv "$folder"
"$folder/bin/python" -m pip install --quiet torch transformers peft onnx onnxscript onnxruntime safetensors tokenizers
"$folder/bin/python" -c 'import peft, torch, transformers; print(torch.__version__, transformers.__version__, peft.__version__)'
