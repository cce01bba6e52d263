#!/usr/bin/env bash
# 300 epochs on the eight NPUs of a host, one process each; RANK_SIZE=N for another number.
# RANK_TABLE_FILE has to name the list of devices (hccl.json). 64 images a device and step, and
# the learning rate of the paper times the number of devices. --help for the arguments.
set -euo pipefail

PLATFORM=${PLATFORM:-npu}
export RANK_SIZE=${RANK_SIZE:-8}
# shellcheck source=scripts/modelzoo.sh
source "$(dirname "${BASH_SOURCE[0]}")/modelzoo.sh"
if [ "$PLATFORM" != npu ]; then
    echo "error: PLATFORM is $PLATFORM; accepted: npu (several GPUs: see README, horovodrun)" >&2
    exit 2
fi
if ! [[ $RANK_SIZE =~ ^[1-9][0-9]*$ ]]; then
    echo "error: RANK_SIZE is $RANK_SIZE; accepted: a whole number of at least 1" >&2
    exit 2
fi
read_arguments "$@"
schedule+=(--batch_size "$((64 * RANK_SIZE))")
schedule+=(--learning_rate "$(python3 -c "print(0.1 * $RANK_SIZE)")")

outputs=$(dirname "$output")

# start_rank RANK: one process, on the device of the same number.
start_rank() {
    mkdir -p "$outputs/$1"
    RANK_ID=$1 DEVICE_ID=$1 ASCEND_DEVICE_ID=$1 \
        python3 "$checkout/main_npu.py" "${arguments[@]}" >"$outputs/$1/train_$1.log" 2>&1 &
    pids+=("$!")
}

# The first process that fails ends the others: without it they would wait for ever.
train() {
    local start rank
    start=$(date +%s)
    choose_run
    pids=()
    trap 'kill "${pids[@]}" 2>/dev/null || true' EXIT
    for ((rank = 0; rank < RANK_SIZE; rank++)); do
        start_rank "$rank"
    done
    for ((rank = 0; rank < RANK_SIZE; rank++)); do
        if ! wait -n; then
            kill "${pids[@]}" 2>/dev/null || true
            echo "error: a process failed; the last lines of each log:" >&2
            tail -n 2 "$outputs"/*/train_*.log >&2
            exit 1
        fi
    done
    cat "$outputs/0/train_0.log"
    python3 "$scripts/modelzoo_report.py" "$run_directory" --case acc --out "$output" \
        --seconds "$(($(date +%s) - start))"
}

on_screen train
