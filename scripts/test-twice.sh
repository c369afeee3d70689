#!/usr/bin/env bash
# test-twice.sh units|behaviour: all tests of that kind, whatever fails. A test that failed beside others is run once more
# by itself: whoever fails again has failed. What passed only then is said at the end, since it is a fault too, of the
# test or of the program.
set -uo pipefail
cd "$(dirname "$0")/.."

case ${1:-} in
# A program of the tests has some of its own.
units) kind=(--lib --bin ledger) threads=() ;;
# They start servers of their own: no more of them at once than there are cores for.
behaviour) kind=(--test '*') threads=(--test-threads=2) ;;
*)
    echo "usage: $0 units|behaviour" >&2
    exit 2
    ;;
esac

log=$(mktemp)
trap 'rm -f "$log"' EXIT
if cargo test --workspace "${kind[@]}" --no-fail-fast -- "${threads[@]}" 2>&1 | tee "$log"; then
    exit 0
fi

# "FILE NAME" for each test that failed, and how many programs did.
failures=$(awk '
    /^ +Running .*\(.*\/deps\/[^\/]*\)$/ { file = $NF; sub(/.*\//, "", file); sub(/-[0-9a-f]+\)$/, "", file) }
    /^test [^ ]+ \.\.\. FAILED$/ { print file, $2 }
' "$log")
programs=$(grep -cE '^    `.*--(lib|(test|bin) [^` ]+)`$' "$log")
# One that ended without saying which test it was, or was never built, can't be tried again.
if [ -z "$failures" ] || [ "$programs" != "$(cut -d' ' -f1 <<<"$failures" | sort -u | wc -l)" ]; then
    echo "$1: failed" >&2
    exit 1
fi

again=()
twice=()
while read -r file name; do
    [ "$1" = behaviour ] && kind=(--test "$file")
    echo "== once more, by itself: $name of $file"
    # A run that found no such test ends well too.
    if cargo test --workspace "${kind[@]}" -- --exact "$name" --test-threads=1 </dev/null 2>&1 | tee "$log" &&
        grep -qF "test $name ... ok" "$log"; then
        again+=("$file::$name")
    else
        twice+=("$file::$name")
    fi
done <<<"$failures"
for test in "${again[@]}"; do
    echo "$1: FAILED AT FIRST, passed by itself: $test (its first words are above)" >&2
done
if [ ${#twice[@]} -gt 0 ]; then
    echo "$1: failed twice: ${twice[*]}" >&2
    exit 1
fi
