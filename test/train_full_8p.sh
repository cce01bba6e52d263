#!/usr/bin/env bash
# Where ModelZoo's harness looks; see scripts/train_full_8p.sh.
exec bash "$(dirname "$(readlink -f "$0")")/../scripts/train_full_8p.sh" "$@"
