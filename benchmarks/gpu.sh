#!/usr/bin/env bash
# One GPU: checks, step times, a profile, LUMP on full Split CIFAR-10, finetune beside it, growth, the rest of Table 1.
#
#     OUT=results-gpu bash benchmarks/gpu.sh
#
# It works for LIMIT seconds (540), then saves and leaves with 75: call it again and it goes on. State is in runs/gpu;
# on a new machine .data/results.tar.gz, the one that an earlier call left in $OUT, brings back what was finished.
# CIFAR-10 comes from $TFDS_DATA_DIR, else .data/, where cifar10.tar.1of3 and so on are pieces of a tar of the folder
# cifar10, which may arrive in several calls, else ~/tensorflow_datasets. Wheels in .whl/ are installed aside first.
# SEEDS: of the other rows (1). EXTRA=1 measures start-up too. PLATFORM=cpu lets it begin without a GPU.
set -euo pipefail
cd "$(dirname "$0")/.."
OUT=${OUT:-results-gpu} LIMIT=${LIMIT:-540} KEEP=runs/gpu
export PYTHONPATH=$PWD PYTHONUNBUFFERED=1
if ls .whl/*.whl >/dev/null 2>&1; then
    python3 -m pip install -q --no-index --no-deps --no-compile --upgrade --target /tmp/site .whl/*.whl
    PYTHONPATH=/tmp/site:$PWD
fi
if [ ! -e "$KEEP" ] && [ -f .data/results.tar.gz ]; then  # runs without their checkpoints begin anew
    mkdir -p "$KEEP" && tar xzf .data/results.tar.gz -C "$KEEP" --exclude=./{bfloat16,float32,'*.failed'}
fi
mkdir -p "$OUT" "$KEEP"

if [ -z "${TFDS_DATA_DIR:-}" ] && [ -d .data ]; then
    export TFDS_DATA_DIR=$PWD/$KEEP/data
    mkdir -p "$TFDS_DATA_DIR"
    cp -rn .data/. "$TFDS_DATA_DIR" || true
    for last in "$TFDS_DATA_DIR"/*.tar.1of*; do
        base=${last%.1of*} count=${last##*of} pieces=()
        if [ ! -e "$last" ] || [ -e "$base.unpacked" ]; then continue; fi
        for ((i = 1; i <= count; i++)); do pieces+=("$base.${i}of$count"); done
        if ls "${pieces[@]}" >/dev/null 2>&1; then
            cat "${pieces[@]}" | tar x -C "$TFDS_DATA_DIR" && touch "$base.unpacked"
        fi
    done
fi

collect() {  # few files, whole or not at all: what was measured, without checkpoints and data
    tar czf "$OUT/results.part" -C "$KEEP" --exclude={checkpoints,networks,tensorboard,plots,./data} \
        --exclude='./profile-*/*' . && mv "$OUT/results.part" "$OUT/results.tar.gz"
    if [ -f "$KEEP/stages.txt" ]; then cp "$KEEP/stages.txt" "$OUT"; fi
}
trap collect EXIT
failed=()

stage() {  # NAME COMMAND...: unless it is done; prints into runs/gpu/NAME.txt too; a failure does not stop the others.
    # With resumes=1 it goes on where it was broken off.
    local name=$1 left=$((LIMIT - SECONDS)) began=$SECONDS code=0
    shift
    if [ -e "$KEEP/$name.done" ]; then return; fi
    if [ -e "$KEEP/$name.failed" ]; then failed+=("$name") && return; fi
    if ((left < 30)); then echo "$name comes in the next call" && exit 75; fi
    timeout -k 30 "$left" "$@" 2>&1 | tee "$KEEP/$name.txt" || code=$?
    echo "$name: exit code $code, $((SECONDS - began)) s, $(date -u +%FT%TZ)" | tee -a "$KEEP/stages.txt"
    if [ "$code" = 0 ]; then touch "$KEEP/$name.done"; fi
    collect
    if [ "$code" = 124 ] || [ "$code" = 137 ]; then  # broken off by the limit: the next call goes on
        if [ "${resumes:-}" ] || ((left < LIMIT - 60)); then exit 75; fi
        echo "$name takes more than a whole call of $LIMIT s"
    fi
    if [ "$code" != 0 ]; then failed+=("$name") && touch "$KEEP/$name.failed"; fi
}
study() {  # NAME DTYPE SEEDS ARGUMENTS...: rows of Table 1; its seconds in stages.txt are from the command to the table
    local name=$1 dtype=$2 seeds=$3
    shift 3
    if [ ! -d "${TFDS_DATA_DIR:-$HOME/tensorflow_datasets}/cifar10" ]; then
        echo "$name: there is no CIFAR-10" && failed+=("$name") && return
    fi
    resumes=1 stage "$name" python3 -m ucl_jax.reproduce table1 --benchmarks=cifar10 --jobs=1 --seeds="$seeds" --format=markdown \
        --override=model.dtype="$dtype" --root="$KEEP/$dtype" --save="$KEEP/table1-$dtype" "$@"
}
profile() {  # DTYPE
    stage "profile-$1" python3 -m benchmarks.profile_step --out="$KEEP/profile-$1" --steps=10 --dtype="$1"
    if [ -d "$KEEP/profile-$1" ]; then tar czf "$OUT/profile-$1.tar.gz" -C "$KEEP" "profile-$1"; fi
}
LOSSES='
from benchmarks import measure, step
losses = {}
for dtype, precision in (("float32", "float32"), ("float32", "tensorfloat32"), ("bfloat16", "tensorfloat32")):
    loop = measure.Loop(step.get_config("paper", [f"model.dtype={dtype}", f"model.matmul_precision={precision}"]))
    loop.steps(1)
    losses[dtype, precision] = float(loop.metrics["loss"])
print("loss of the first step:", losses)
assert max(losses.values()) - min(losses.values()) < 0.02, "of a cosine"
'
PREDICTION='
import json, sys
predicted = json.load(open("benchmarks/results/aot.json"))["targets"]["h100"]
seconds = json.load(open(sys.argv[1]))["steps"]["paper"]["ours"]["median"]
least, launches, bytes = (predicted[key] for key in ("milliseconds", "launches", "bytes"))
print(f"a step takes {1e3 * seconds:.2f} ms; {least:.2f} ms were predicted of an H100, as the least")
print(f"its program moves {bytes / 1e9:.2f} GB, that is {bytes / seconds / 1e12:.2f} TB/s, in {launches} launches")
'
calls() {  # DTYPE STEPS: the step of both sizes, with so many steps in a call
    stage "calls-$1-$2" python3 -m benchmarks.step --json --dtype="$1" --peers= --no-parts \
        --override=train.steps_per_call="$2" --out="$KEEP/calls-$1-$2.json"
}

python3 -c 'import sys, jax; print(jax.__version__, jax.devices()); sys.exit(jax.default_backend() != sys.argv[1])' \
    "${PLATFORM:-gpu}" | tee "$KEEP/device.txt"
if [ "${PLATFORM:-gpu}" = gpu ] && python3 -c 'import pytest' 2>/dev/null; then
    stage tests env JAX_PLATFORMS=cuda,cpu JAX_DEFAULT_MATMUL_PRECISION=highest python3 -m pytest -p no:cacheprovider -o filterwarnings=default \
        tests/test_augment.py tests/buffers tests/evaluation/test_knn.py tests/methods/test_mixup.py tests/objectives/test_losses.py
fi
stage dtypes python3 -c "$LOSSES"
stage step-bfloat16 python3 -m benchmarks.step --json --dtype=bfloat16 --out="$KEEP/step-bfloat16.json"
stage prediction python3 -c "$PREDICTION" "$KEEP/step-bfloat16.json"
profile bfloat16
for steps in 1 10 40; do calls bfloat16 $steps; done
study lump-seed0 bfloat16 1 --objectives=simsiam --recipes=lump
study both-seed0 bfloat16 1 --objectives=simsiam --recipes=lump,finetune
stage step-float32 python3 -m benchmarks.step --json --dtype=float32 --peers=torch_plain --no-parts \
    --out="$KEEP/step-float32.json"
stage step-exact python3 -m benchmarks.step --json --dtype=float32 --peers= --no-parts \
    --override=model.matmul_precision=float32 --out="$KEEP/step-exact.json"
profile float32
for sweep in batch image width buffer bank; do
    stage growth-$sweep python3 -m benchmarks.growth --sweeps=$sweep --dtype=bfloat16 --out="$KEEP/growth.json"
done
if [ -n "${EXTRA:-}" ]; then stage startup python3 -m benchmarks.startup --out="$KEEP/startup.json"; fi
study both-seeds bfloat16 3 --objectives=simsiam --recipes=lump,finetune
study both-float32 float32 1 --objectives=simsiam --recipes=lump,finetune
study table1 bfloat16 "${SEEDS:-1}" --recipes=all
if ((${#failed[@]})); then
    echo "failed: ${failed[*]}; once mended, rm $KEEP/*.failed and call again"
    exit 1
fi
