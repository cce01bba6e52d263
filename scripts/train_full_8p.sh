#!/usr/bin/env bash
# Train 300 epochs on the eight NPUs of a host, one process each; RANK_SIZE=N sets another number.
# RANK_TABLE_FILE has to name the list of devices (hccl.json); or CM_CHIEF_IP and its like say where
# the processes meet, and CM_WORKER_SIZE how many there are. Each device gets 64 images per step; the
# learning rate is the paper's times the number of devices. --help lists the arguments.
# shellcheck source=scripts/bash.sh
. "$(dirname "$(readlink -f "$0")")/bash.sh" # a line end of Windows is hidden here
set -euo pipefail

PLATFORM=${PLATFORM:-npu}
export RANK_SIZE=${RANK_SIZE:-${CM_WORKER_SIZE:-8}}
# shellcheck source=scripts/modelzoo.sh
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/modelzoo.sh"
if [ "$PLATFORM" != npu ]; then
    echo "error: PLATFORM is $PLATFORM; accepted: npu (for several GPUs use horovodrun, see docs/several-devices.md)" >&2
    exit 2
fi
if ! [[ $RANK_SIZE =~ ^[1-9][0-9]*$ ]]; then
    echo "error: RANK_SIZE is $RANK_SIZE; accepted: a whole number of at least 1" >&2
    exit 2
fi
read_arguments "$@"
of_devices=(
    --batch_size "$((64 * RANK_SIZE))"
    --learning_rate "$(python3 -c "print(0.1 * $RANK_SIZE)")"
)

# log_of N: print the path of device N's log, where ModelZoo's harness looks unless there is an
# --output_path.
log_of() {
    if [ "$output" = "$checkout/test/output/$ASCEND_DEVICE_ID" ]; then
        echo "$checkout/test/output/$1/train_$1.log"
    else
        echo "$output/train_$1.log"
    fi
}

# start_rank RANK: start one process, on the device of the same number; only the chief, rank 0, is
# shown on the screen.
start_rank() {
    local log command
    log=$(log_of "$1")
    mkdir -p "$(dirname "$log")"
    command=(
        env RANK_ID="$1" DEVICE_ID="$1" ASCEND_DEVICE_ID="$1"
        python3 "$checkout/main_npu.py" "${arguments[@]}"
    )
    if [ "$1" = 0 ]; then
        start_job "$log" "${command[@]}"
    else
        start_job "$log" "${command[@]}" >/dev/null
    fi
}

# The first process that fails ends the others, which would wait for it forever.
train() {
    local start rank
    start=$(date +%s)
    choose_run
    for ((rank = 0; rank < RANK_SIZE; rank++)); do
        start_rank "$rank"
    done
    for _ in "${jobs_started[@]}"; do
        if ! wait -n; then
            signal_jobs TERM
            echo "error: a process failed; the last line of each log:"
            for ((rank = 0; rank < RANK_SIZE; rank++)); do
                echo "$(log_of "$rank"): $(tail -n 1 "$(log_of "$rank")")"
            done
            exit 1
        fi
    done
    report acc "$start"
}

on_screen train
