#!/usr/bin/env bash
# What Ascend's readme calls in the root; not a link, which a checkout on Windows would lack.
exec bash "$(dirname "$(readlink -f "$0")")/scripts/run_1p.sh" "$@"
