#!/usr/bin/env bash
# The long form of all tests: behaviour tests in front, unit tests and fuzz targets beside them on what they leave of the
# processors, since behaviour tests mostly wait. A failure anywhere keeps nothing else from running.
# `make soak` sets UNDERSTUDY_SOAK and UNDERSTUDY_BIN_DIR.
set -uo pipefail
cd "$(dirname "$0")/.."

# Built before anything is measured.
set -e
cargo build --workspace --bins --profile soak
cargo test --workspace --lib --bin ledger --profile soak --no-run
cargo test --workspace --test '*' --no-run
set +e

logs=$(mktemp -d)
declare -A beside
finish() {
    for pid in "${beside[@]}"; do kill -- "-$pid" 2>/dev/null; done
    rm -rf "$logs"
}
trap finish EXIT

# begin NAME PRIORITY COMMAND...: in a session of its own. The second line is for kernels that share the processors
# between sessions first.
begin() {
    local name=$1 priority=$2
    shift 2
    setsid bash -c 'renice -n "$0" -p $$ >/dev/null; echo "$0" 2>/dev/null >/proc/self/autogroup; exec "$@"' \
        "$priority" "$@" >"$logs/$name" 2>&1 &
    beside[$name]=$!
}

failed=()
begin units 10 cargo test --workspace --lib --bin ledger --profile soak --no-fail-fast
# Every state of the model of a failover, and each safeguard taken away: searches that are too long for the units, one
# after the other. operator/src/decide/model/search/tests.rs says how long each takes and how much memory.
begin models 15 cargo test --workspace --lib --profile soak --no-fail-fast -- \
    --ignored --nocapture --test-threads=1 decide::model::search::tests::
begin fuzz 19 ./scripts/fuzz.sh
cargo test --workspace --test '*' --no-fail-fast -- --test-threads=1 || failed+=(behaviour)
for name in units models fuzz; do
    wait "${beside[$name]}" || failed+=("$name")
    unset "beside[$name]"
    echo "== $name"
    cat "$logs/$name"
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "soak: failed: ${failed[*]}" >&2
    exit 1
fi
echo "soak: everything passed"
