#!/usr/bin/env bash
# Called by `make stop`: ends the quick start's cluster, if there is one. Its data stays in the folder.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
dir=${UNDERSTUDY_DIR:-$root/.understudy}
operator=${UNDERSTUDY_BIN_DIR:?the folder of the built programs}/understudy-operator

if [ ! -e "$dir" ]; then
    echo "nothing to stop: there is no $dir"
elif [ ! -x "$operator" ]; then
    echo "stop: $operator is missing; run \`make build\`" >&2
    exit 1
else
    "$operator" local down --dir "$dir"
fi
