# shellcheck shell=bash
# Find Pythons and make virtual environments; sourced by the scripts beside it.

# What was set for another Python, or for other installations, does not reach these environments.
unset PYTHONHOME PYTHONPATH PIP_TARGET PIP_PREFIX PIP_ROOT
export PIP_USER=0 # wins over pip's configuration files too

# runs PYTHON VERSIONS: succeed if it runs and is one of these versions. It is tried out, since a
# pyenv shim on the PATH may stand for a version that is not installed.
runs() {
    "$1" -c "import sys; sys.exit(0 if sys.version_info[:2] in $2 else 1)" >/dev/null 2>&1
}

# Print the first Python 3.10 to 3.13 on the PATH; if there is none, exit with an error and code 2.
find_modern_python() {
    local candidate
    for candidate in python3 python3.13 python3.12 python3.11 python3.10 python; do
        if runs "$candidate" "((3, 10), (3, 11), (3, 12), (3, 13))"; then
            command -v "$candidate"
            return
        fi
    done
    echo "error: no Python 3.10 to 3.13 found on the PATH" >&2
    exit 2
}

# Print a Python 3.7 on the PATH or under pyenv; print nothing if there is none.
find_legacy_python() {
    local candidate
    for candidate in python3.7 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.7.*/bin/python python3; do
        if runs "$candidate" "((3, 7),)"; then
            command -v "$candidate"
            return
        fi
    done
}

# make_environment PYTHON FOLDER: make a virtual environment, unless there is one already.
make_environment() {
    local python=$1 folder=$2
    if [ -x "$folder/bin/python" ] && "$folder/bin/python" -m pip --version >/dev/null 2>&1; then
        return
    fi
    if ! "$python" -c "import venv, ensurepip" >/dev/null 2>&1; then
        echo "error: $python has no venv; on Debian and Ubuntu: apt install python3-venv" >&2
        exit 2
    fi
    if ! [ -w "$(dirname "$folder")" ]; then
        echo "error: $(dirname "$folder") can't be written to; accepted: a copy that is yours" >&2
        exit 2
    fi
    "$python" -m venv --clear "$folder"
}

# install FOLDER FILE: install a requirements file, unless it is unchanged since the last time.
install() {
    local folder=$1 file=$2
    local stamp
    stamp="$folder/$(basename "$file").installed"
    if cmp -s "$file" "$stamp"; then
        return
    fi
    echo "installing $(basename "$file") into $(basename "$folder") ..."
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check -r "$file"
    cp "$file" "$stamp"
}
