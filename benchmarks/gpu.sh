#!/usr/bin/env bash
# One GPU: step times, then LUMP, finetune and every other row of Table 1 on Split CIFAR-10 at full size.
#
#     OUT=results-gpu bash benchmarks/gpu.sh
#
# Needs JAX with CUDA, this project's dependencies, and CIFAR-10 prepared for TFDS ($TFDS_DATA_DIR or
# ~/tensorflow_datasets). Results are written as they come; run again after a time limit, it goes on where it was.
# Wheels in .whl/ are installed first when there are any.
set -eu
cd "$(dirname "$0")/.."
OUT=${OUT:-results-gpu}
RUNS=runs/reproduce/cifar10
DTYPE=${DTYPE:-bfloat16}
mkdir -p "$OUT"
if ls .whl/*.whl >/dev/null 2>&1; then python3 -m pip install --quiet --no-deps .whl/*.whl; fi
export PYTHONPATH=$PWD

collect() { for run in "$RUNS"/*/; do for file in results.json metrics.jsonl; do
    if [ -f "$run$file" ]; then cp "$run$file" "$OUT/$(basename "$run")-$file"; fi; done; done; }
trap collect EXIT

python3 -c 'import jax; print(jax.__version__, jax.devices())' | tee "$OUT/device.txt"
for dtype in float32 bfloat16; do
    if [ ! -s "$OUT/step-$dtype.txt" ]; then
        python3 -m benchmarks.step --dtype=$dtype --repeats=50 | tee "$OUT/step-$dtype.part"
        mv "$OUT/step-$dtype.part" "$OUT/step-$dtype.txt"
    fi
done
# The paper's main comparison first, then every other row of Table 1 on CIFAR-10.
for rows in "--recipes=lump --objectives=simsiam" "--recipes=finetune --objectives=simsiam" "--recipes=all"; do
    # shellcheck disable=SC2086  # two words
    python3 -m ucl_jax.reproduce table1 --benchmarks=cifar10 --jobs=1 --seeds="${SEEDS:-1}" $rows \
        --override=model.dtype="$DTYPE" --save=benchmarks/results/table1-cifar10
    collect
    python3 -m ucl_jax.report --seeds benchmarks/results/table1-cifar10/*.json | tee "$OUT/table.txt"
done
