#!/usr/bin/env bash
# Repeats the runs of `make demo`, and ER beside them, with ten seeds; then prints paired differences. --jobs=1 gives
# each run all cores, --jobs=2 half of two cores: the number of threads changes the order of sums, and so the numbers.
set -eu
cd "$(dirname "$0")/.."
PYTHON="${PYTHON:-python}" NAME="${NAME:-demo-digits}"
"$PYTHON" -m ucl_jax.reproduce table1 --benchmarks=digits --objectives=barlow_twins --seeds=10 \
    --recipes=finetune,lump,er,multitask --override=train.epochs=100 --override=train.learning_rate=0.06 \
    --root="runs/$NAME" --save="benchmarks/results/$NAME" "$@"
"$PYTHON" -m ucl_jax.report benchmarks/results/"$NAME"/*.json --pairs
