#!/usr/bin/env bash
# Train the paper's 300 epochs on CIFAR-10 on one GPU. The table of losses, errors and speed,
# loss+perf_<platform>.txt, is copied to the directory that this was called from.
# Data: --data_path=DIR, else $DATA_PATH, else data/ in the checkout. --help says more.
# shellcheck source=scripts/bash.sh
. "$(dirname "$(readlink -f "$0")")/bash.sh" # a line end of Windows is hidden here
set -euo pipefail

PLATFORM=${PLATFORM:-gpu}
# shellcheck source=scripts/modelzoo.sh
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/modelzoo.sh"
one_device
data_path=${DATA_PATH:-}
if [ -z "$data_path" ] && [ -d "$checkout/data" ]; then
    data_path=$checkout/data
fi
read_arguments "$@"

# Copy the table, even if the run was stopped.
at_end() {
    local table
    for table in "${run_directory:-}"/loss+perf_*.txt; do
        if [ -f "$table" ] && ! [ "$table" -ef "$called_from/$(basename "$table")" ]; then
            cp "$table" "$called_from/"
        fi
    done
}

on_screen train_and_report acc
