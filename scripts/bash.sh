# shellcheck shell=sh
# Sourced first by every script, in whatever shell it was started: bash is to run it. Where the
# checkout has the line ends of Windows it says so; each line here ends in a comment, to hide one.
if grep -q "$(printf '\r')" "$0" 2>/dev/null; then #
    printf "error: %s has the line ends of Windows; accepted: those of Unix, as after " "$0" >&2 #
    printf "sed -i 's/\\\\r\$//' '%s'/*.sh\\n" "$(dirname "$(readlink -f "$0")")" >&2 #
    exit 2 #
fi #
if [ -z "${BASH_VERSION:-}" ]; then #
    exec bash "$0" "$@" #
fi #
# shellcheck disable=SC3040
set +o posix # in which bash lacks what the scripts use
