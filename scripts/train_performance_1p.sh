#!/usr/bin/env bash
# Train two epochs on one NPU, for speed: the first one, in which it compiles, is not timed.
# --help lists the arguments.
set -euo pipefail

PLATFORM=${PLATFORM:-npu}
export RANK_SIZE=1 RANK_ID=0
# shellcheck source=scripts/modelzoo.sh
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/modelzoo.sh"
read_arguments "$@"
epochs=2
on_screen train_and_report perf
