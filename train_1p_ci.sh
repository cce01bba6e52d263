#!/usr/bin/env bash
# What ModelZoo's check calls in the root; see scripts/train_1p_ci.sh.
exec bash "$(dirname "$(readlink -f "$0")")/scripts/train_1p_ci.sh" "$@"
