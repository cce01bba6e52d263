#!/usr/bin/env bash
# Check lint, types and the import contract, and run the whole test suite on the modern stack and, if
# a Python 3.7 is found, on the TensorFlow 1.15 stack. With CI=true both stacks have to run.
# --fast, as the first argument: the modern stack alone, without tests that train or build a large
# graph. Other arguments are passed on to pytest.
# shellcheck source=scripts/bash.sh
. "$(dirname "$(readlink -f "$0")")/bash.sh" # a line end of Windows is hidden here
set -euo pipefail

scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
checkout=$(dirname "$scripts")
# shellcheck source=scripts/environment.sh
source "$scripts/environment.sh"
cd "$checkout"
is_fast=false
if [ "${1:-}" = --fast ]; then
    is_fast=true
    shift
    set -- -m "not trains and not slow" "$@"
fi

modern=$checkout/.venv
legacy=$checkout/.venv-tf1

set_up() {
    make_environment "$1" "$2"
    install "$2" "$checkout/requirements.txt"
    install "$2" "$checkout/requirements/dev.txt"
}

# Horovod is compiled. In CI its tests have to run, elsewhere only if it can be built.
set_up_horovod() {
    if [ "${CI:-}" = true ] && ! { command -v cmake && command -v g++; } >/dev/null; then
        apt-get -qq update && apt-get -qq install -y cmake g++ >/dev/null
    fi
    export HOROVOD_WITH_TENSORFLOW=1 HOROVOD_WITH_GLOO=1 HOROVOD_WITHOUT_MPI=1
    export HOROVOD_WITHOUT_PYTORCH=1 HOROVOD_WITHOUT_MXNET=1
    if ! install "$legacy" "$checkout/requirements/horovod.txt"; then
        echo "== horovod can't be built: what needs it is not tested"
        [ "${CI:-}" != true ]
    fi
}

modern_python=$(find_modern_python)
legacy_python=
if ! $is_fast; then
    legacy_python=$(find_legacy_python)
fi
if ! $is_fast && [ -z "$legacy_python" ] && [ "${CI:-}" = true ]; then
    echo "error: no Python 3.7 found on the PATH or under pyenv, and CI runs both stacks" >&2
    exit 1
fi
if [ -n "$legacy_python" ]; then
    set_up "$legacy_python" "$legacy" & # pip uses one core
    legacy_set_up=$!
fi
set_up "$modern_python" "$modern"
if [ -n "$legacy_python" ]; then
    wait "$legacy_set_up"
    set_up_horovod
    export SPARSENET_LEGACY_PYTHON=$legacy/bin/python
fi

# The report is tested in a real browser: outside CI only if one is installed.
if [ "${CI:-}" = true ] && ! $is_fast && ! command -v chromedriver >/dev/null; then
    apt-get -qq update && apt-get -qq install -y chromium chromium-driver >/dev/null
fi

echo "== lint, types, imports"
"$modern/bin/ruff" format --check --quiet .
"$modern/bin/ruff" check --quiet .
"$modern/bin/mypy"
imports=$("$modern/bin/lint-imports") || { echo "$imports"; exit 1; }
"$modern/bin/shellcheck" ./*.sh scripts/*.sh test/*.sh .ci/run

# As many tests at a time as there are cores. Neighbours run in one process: they share what they
# have trained.
failed=0
run_tests() {
    echo "== tests: $("$1/bin/python" -c "from common.tf_stack import VERSION; import sys; \
print('Python %d.%d' % sys.version_info[:2], 'with TensorFlow', VERSION)")"
    "$1/bin/python" -m pytest --numprocesses auto --dist worksteal "${@:2}" || failed=1
}

run_tests "$modern" "$@"
if [ -n "$legacy_python" ]; then
    run_tests "$legacy" "$@"
    echo "== both stacks ran"
elif $is_fast; then
    echo "== only the fast tests of the modern stack ran"
else
    echo "== only the modern stack ran: no Python 3.7 found on the PATH or under pyenv"
fi
exit "$failed"
