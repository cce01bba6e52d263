#!/usr/bin/env bash
# Train the paper's networks on CIFAR-10 on a GPU, by Keras on JAX (requirements/keras.txt, with
# jax[cuda13]). It works in pieces of under nine minutes: a piece that was cut, or a call that was
# stopped, resumes at the newest checkpoint with the same results.
#   bash scripts/gpu_reproduce.sh DIR [--once] [--out OUT] [RECIPE:SEED ...] [-- FLAG ...]
# DIR: of CIFAR-10. --once: one piece, and exit code 75 if there is more to do. OUT: root of the run
# directories [train_log/gpu]. FLAG: of train_keras.py, such as --precision mixed_bfloat16. The variable
# PIECE_SECONDS sets another length [500].
# shellcheck source=scripts/bash.sh
. "$(dirname "$(readlink -f "$0")")/bash.sh" # a line end of Windows is hidden here
set -euo pipefail

checkout=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")
python=${PYTHON:-python3}
export KERAS_BACKEND=jax
piece_seconds=${PIECE_SECONDS:-500}
unfinished=75

usage() {
    sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
}

if [ $# -eq 0 ] || [ "$1" = --help ]; then
    usage
    exit 0
fi
data=$1
shift
out=train_log/gpu
once=false
runs=()
flags=()
while [ $# -gt 0 ]; do
    case $1 in
        --once) once=true ;;
        --out)
            out=${2:?"error: --out; accepted: with a folder"}
            shift
            ;;
        --)
            flags=("${@:2}")
            break
            ;;
        *:*) runs+=("$1") ;;
        *)
            echo "error: $1; accepted: --once, --out OUT, RECIPE:SEED, -- FLAG ..." >&2
            exit 2
            ;;
    esac
    shift
done
if [ ${#runs[@]} -eq 0 ]; then
    runs=(sparsenet-100-24:0 sparsenet-bc-100-24:0 sparsenet-100-24:1 sparsenet-100-24:2)
fi

run_script() {
    "$python" "$checkout/scripts/$1" "${@:2}"
}

# check RECIPE: one step on the device has to be that of the CPU, in float32.
check() {
    local folder=$out/check-$1 name
    if [ -f "$folder/passed" ]; then
        return
    fi
    rm -rf "$folder"
    for name in cpu device; do
        (
            if [ "$name" = cpu ]; then
                export JAX_PLATFORMS=cpu
            fi
            run_script train_keras.py --recipe "$1" --dataset_dir "$data" --log_dir "$folder" \
                --name "$name" --max_epoch 1 --drop_1 1 --drop_2 2 --steps_per_epoch 1 >/dev/null
            run_script activations.py "$folder/$name/model-0" --gradients \
                --out "$folder/$name/activations.npz" >/dev/null
        )
    done
    run_script compare.py "$folder/cpu" "$folder/device" >"$folder/report.txt" ||
        { cat "$folder/report.txt"; exit 1; }
    tail -n 3 "$folder/report.txt"
    touch "$folder/passed"
}

# piece RECIPE SEED: train for a while; return 0 if the run is finished, `unfinished` if it was cut.
piece() {
    local name=$1-seed-$2 code=0
    local start=(--recipe "$1" --dataset_dir "$data" --seed "$2" --log_dir "$out" --name "$name")
    if [ -f "$out/$name/run.json" ]; then
        start=(--resume "$out/$name")
    else
        rm -rf "${out:?}/$name"
        start+=(${flags[@]+"${flags[@]}"})
    fi
    # An interrupt ends it; the epoch that it cuts is trained again.
    timeout --foreground --signal INT "$piece_seconds" \
        "$python" "$checkout/scripts/train_keras.py" "${start[@]}" || code=$?
    if [ "$code" -eq 124 ]; then # it was cut
        return "$unfinished"
    fi
    return "$code"
}

# What trains turns Ctrl-C into an exit code, like that of a piece that was cut.
trap 'exit 130' INT
mkdir -p "$out"
for run in "${runs[@]}"; do
    check "${run%:*}"
    while true; do
        code=0
        piece "${run%:*}" "${run##*:}" || code=$?
        if [ "$code" -eq 0 ]; then
            break
        fi
        if $once || [ "$code" -ne "$unfinished" ]; then
            exit "$code"
        fi
    done
done
