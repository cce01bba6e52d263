#!/usr/bin/env bash
# Train two epochs on one NPU, for speed: the first one, in which it compiles, is not timed.
# --help lists the arguments.
# shellcheck source=scripts/bash.sh
. "$(dirname "$(readlink -f "$0")")/bash.sh" # a line end of Windows is hidden here
set -euo pipefail

PLATFORM=${PLATFORM:-npu}
# shellcheck source=scripts/modelzoo.sh
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/modelzoo.sh"
one_device
read_arguments "$@"
epochs=2
on_screen train_and_report perf
