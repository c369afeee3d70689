#!/usr/bin/env bash
# The long form of all tests but those on Kubernetes: behaviour tests in front, unit tests and fuzz targets beside them on
# what they leave of the processors, since behaviour tests mostly wait. A failure anywhere keeps nothing else from running.
# `make soak` sets UNDERSTUDY_SOAK and UNDERSTUDY_BIN_DIR.
#   FAULT=instance-killed   instead of all that: only the tests of this fault (the names are below)
#   ROUNDS=50               so many rounds of each of them
#   RESULTS=FILE            where a line for the run is appended
#   MODEL=short             leaves out one of the model's searches, which takes a quarter of an hour or more and gigabytes of
#                           memory
set -uo pipefail
cd "$(dirname "$0")/.."

results=${RESULTS:-${XDG_CACHE_HOME:-$HOME/.cache}/understudy/soak/results.jsonl}
commit=$(git describe --always --dirty --abbrev=12 2>/dev/null || echo unknown)

# keep WHAT COUNTS: a line for this run, which e2e-results shows; those of one commit add up.
keep() {
    mkdir -p "$(dirname "$results")"
    printf '{"commit":"%s","at_ms":%s,"form":"soak","test":"%s","round":1,"seconds":{"run":%s},"counts":{%s}}\n' \
        "$commit" "$(date +%s%3N)" "$1" "$SECONDS" "$2" >>"$results"
    echo "measurements: $results"
}

if [ -n "${FAULT:-}" ]; then
    # The file of tests/tests, the usual number of rounds, and which of its tests: parts of their names.
    case $FAULT in
    server-killed) tests=(crash_torture 200 nothing_acknowledged_is_lost_by_kill_9) ;;
    standby-killed) tests=(crash_torture_standby 100 a_standby_killed_at_any_moment) ;;
    backup-cut-short) tests=(crash_torture_standby 50 a_base_backup_whose_server_is_killed) ;;
    promotion-cut-short) tests=(crash_torture_standby 50 a_promotion_cut_short) ;;
    instance-killed) tests=(local_operator 20 killed_instances) ;;
    engine-killed) tests=(local_operator 20 a_killed_engine) ;;
    instance-frozen) tests=(local_operator 20 a_frozen_instance without_fencing_a_woken_primary) ;;
    standby-down) tests=(local_operator 20 with_a_standby_down) ;;
    operator-killed) tests=(local_operator 20 an_operator_that_dies) ;;
    failover-blocked) tests=(local_operator 20 a_blocked_failover) ;;
    # No fault, but a search that can go on for as long as one likes: a round is a schema with 200 statements.
    random-queries) tests=(sql_random_queries 500 random_queries) ;;
    *)
        echo "soak: there is no fault $FAULT; the names are in scripts/soak.sh" >&2
        exit 2
        ;;
    esac
    export UNDERSTUDY_ROUNDS=${ROUNDS:-${tests[1]}}
    [[ $UNDERSTUDY_ROUNDS =~ ^[1-9][0-9]*$ ]] || {
        echo "soak: ROUNDS=$UNDERSTUDY_ROUNDS is no number of rounds" >&2
        exit 2
    }
    cargo build --workspace --bins --profile soak || exit 1
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    code=0
    cargo test --workspace --test "${tests[0]}" -- --test-threads=1 "${tests[@]:2}" 2>&1 | tee "$log" || code=1
    passed=$(grep -c '^test .* \.\.\. ok$' "$log")
    failed=$(grep -c '^test .* \.\.\. FAILED$' "$log")
    # A name that no test has would run nothing, and pass.
    [ "$((passed + failed))" -gt 0 ] || code=1
    keep "$FAULT" "\"rounds that passed\":$((passed * UNDERSTUDY_ROUNDS)),\"tests that failed\":$failed"
    echo "soak: $FAULT: $passed tests of $UNDERSTUDY_ROUNDS rounds passed, $failed failed"
    exit "$code"
fi
[ -z "${ROUNDS:-}" ] || {
    echo "soak: ROUNDS is of one fault: say FAULT as well" >&2
    exit 2
}
case ${MODEL:-whole} in
whole) left_out=() ;;
short)
    left_out=(--skip a_change_of_the_set_and_a_new_seed)
    echo "soak: LEFT OUT (MODEL=short): two failovers with a change of the set and a new seed" >&2
    ;;
*)
    echo "soak: MODEL=$MODEL is not known; short leaves out one of the model's searches" >&2
    exit 2
    ;;
esac

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
    --ignored --nocapture --test-threads=1 decide::model::search::tests:: \
    "${left_out[@]}"
begin fuzz 19 ./scripts/fuzz.sh
cargo test --workspace --test '*' --no-fail-fast -- --test-threads=1 || failed+=(behaviour)
for name in units models fuzz; do
    wait "${beside[$name]}" || failed+=("$name")
    unset "beside[$name]"
    echo "== $name"
    cat "$logs/$name"
done
keep everything "\"parts that failed\":${#failed[@]}"
if [ ${#failed[@]} -gt 0 ]; then
    echo "soak: failed: ${failed[*]}" >&2
    exit 1
fi
echo "soak: everything passed${left_out:+ but what was left out (MODEL=short)}"
