#!/bin/sh
# The published size with random weights on one card, in under 8 minutes: a table, and runs/published.csv.
#   benchmarks/gpu.sh [options of benchmarks/published.py]
# PYTHON is a Python that has a torch with CUDA, and gen3r's requirements.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
export PYTHONPATH=src TOKENIZERS_PARALLELISM=false PYTORCH_ALLOC_CONF=expandable_segments:True
if ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    echo "$python finds no card; give one with PYTHON=..., or try: benchmarks/gpu.sh --device cpu --tiny" >&2
    case " $* " in *" --tiny "*) ;; *) exit 2 ;; esac
fi
exec timeout 480 "$python" benchmarks/published.py --minutes 7.5 "$@"
