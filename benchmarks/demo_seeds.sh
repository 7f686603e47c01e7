#!/usr/bin/env bash
# Repeats the runs of `make demo`, and ER beside them, with ten seeds, one run a core.
#
#     bash benchmarks/demo_seeds.sh --save=DIR                # options of reproduce may follow
#     bash benchmarks/demo_seeds.sh --save=DIR --jobs=1       # each run has all cores, as in the demo
#     python -m ucl_jax.report DIR/*.json --pairs             # differences, paired by seed
#
# The number of threads changes the order of sums, and with it the numbers of a seed. The settings are those of DEMO in
# the Makefile.
set -eu
cd "$(dirname "$0")/.."
exec "${PYTHON:-python}" -m ucl_jax.reproduce table1 --benchmarks=digits --objectives=barlow_twins --seeds=10 \
    --recipes=finetune,lump,er,multitask --override=train.epochs=100 --override=train.learning_rate=0.06 "$@"
