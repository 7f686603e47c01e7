#!/usr/bin/env bash
# Trains rows of Table 1 on a benchmark for two CPU cores: three seeds each, five of finetune and LUMP without labels.
#
#     bash benchmarks/cifar_16px.sh cifar10_16px --save=DIR                               # options of reproduce may follow
#     bash benchmarks/cifar_16px.sh cifar100_16px --save=DIR --override=eval.tasks=seen
#
# With eval.tasks=seen only learned tasks are evaluated, which saves about half of the evaluation. The script takes hours. When
# it was stopped, the same call goes on.
set -eu
cd "$(dirname "$0")/.."
table1() { "${PYTHON:-python}" -m ucl_jax.reproduce table1 --benchmarks="$@"; }
table1 "$@" --objectives=simsiam,barlow_twins --recipes=finetune,si,der,er,lump,pnn,multitask --seeds=3
table1 "$@" --objectives=simsiam,barlow_twins --recipes=finetune,lump --seeds=5
table1 "$@" --objectives=supervised --recipes=finetune,si,er,multitask --seeds=3
