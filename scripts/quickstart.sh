#!/usr/bin/env bash
# Train a small SparseNet on scikit-learn's digits, in a virtual environment of the checkout.
# Further arguments are passed on to main_gpu.py.
# shellcheck source=scripts/bash.sh
. "$(dirname "$(readlink -f "$0")")/bash.sh" # a line end of Windows is hidden here
set -euo pipefail

scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
checkout=$(dirname "$scripts")
# shellcheck source=scripts/environment.sh
source "$scripts/environment.sh"

environment=$checkout/.venv
python=$(find_modern_python)
make_environment "$python" "$environment"
install "$environment" "$checkout/requirements.txt"

"$environment/bin/python" "$checkout/main_gpu.py" --recipe digits "$@"
