#!/usr/bin/env bash
# ModelZoo's check of a checkout: train one epoch on one NPU. --help lists the arguments.
# shellcheck source=scripts/bash.sh
. "$(dirname "$(readlink -f "$0")")/bash.sh" # a line end of Windows is hidden here
set -euo pipefail

PLATFORM=${PLATFORM:-npu}
# shellcheck source=scripts/modelzoo.sh
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/modelzoo.sh"
one_device
read_arguments "$@"
epochs=1

train() {
    echo "$(date +%Y%m%d%H%M%S)-[INFO] start to run train_1p.sh"
    train_and_report perf
    echo "$(date +%Y%m%d%H%M%S)-[INFO] finish to run train_1p.sh"
}

on_screen train
