#!/usr/bin/env bash
# Train two epochs on one NPU, for speed: the first one, in which it compiles, is not timed.
# --help lists the arguments.
set -euo pipefail

PLATFORM=${PLATFORM:-npu}
# shellcheck source=scripts/modelzoo.sh
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/modelzoo.sh"
one_device
read_arguments "$@"
epochs=2
on_screen train_and_report perf
