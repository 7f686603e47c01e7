#!/usr/bin/env bash
# Trains every SimSiam row on real Split CIFAR-10, shrunk for two CPU cores: one seed, a network of an eighth of the
# width, 500 images a task, 2 epochs. It shows that the recipes run on the real data, not what they are worth.
set -eu
cd "$(dirname "$0")/.."
exec "${PYTHON:-python}" -m ucl_jax.reproduce table1 --benchmarks=cifar10 --objectives=simsiam --recipes=finetune,pnn,si,er,der,lump,multitask --seeds=1 \
    --root=runs/table1-cifar10-small --save=benchmarks/results/table1-cifar10-small \
    --override=model.width=8 --override=benchmark.examples_per_task=500 \
    --override=benchmark.test_examples_per_task=500 --override=train.epochs=2 --override=train.batch_size=64 \
    --override=train.learning_rate=0.12 --override=log.tensorboard=False
