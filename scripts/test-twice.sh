#!/usr/bin/env bash
# test-twice.sh units|behaviour: all tests of that kind, whatever fails. A test that failed beside others is run once more
# by itself where that may have been for what ran beside it: whoever fails again has failed. What passed only then is said
# at the end, since it is a fault too, of the test or of the program. Never what is about lost rows, wrong answers, damage or
# rights: such a fault is there though it shows itself one time in two.
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

# may_be_late FILE NAME WORDS: whether this one is tried again. WORDS is "late" where all that it said of its failure is that
# something did not come in time.
may_be_late() {
    case $kind::$1::$2 in
    # Units that start processes, or speak through sockets, and wait. Every other room decides, promises, computes or keeps
    # data: what goes wrong there now and then is no matter of the machine.
    --lib::operator::kubernetes::* | --lib::operator::local::* | --lib::operator::observe::local::*) ;;
    --lib::operator::instance::engine::* | --lib::operator::instance::http::* | --lib::operator::instance::seed*) ;;
    --lib::operator::instance::pod::calls::* | --lib::operator::instance::pod::health::*) ;;
    --lib::operator::instance::pod::run::* | --lib::operator::instance::pod::orphans::*) ;;
    --lib::operator::instance::pod::stand_in::* | --lib::operator::instance::pod::waiting::*) ;;
    --lib::engine::server::cli::* | --lib::engine::server::http::* | --lib::engine::server::listener::*) ;;
    --lib::understudy_cluster::*) ;;
    --lib::*) return 1 ;;
    # Rows after crashes and takeovers at any moment, pages, damage: also where it says that somebody did not come back.
    --test::crash_torture*::* | --test::local_deaths::* | --test::standby_pages::* | --test::standby_backups::*) return 1 ;;
    --test::damaged_*::* | --test::disk_full::* | --test::referees::* | --test::waiting_commits::*) return 1 ;;
    # Answers, beside PostgreSQL's or by what has to add up.
    --test::sql_*::* | --test::interleavings::* | --test::kept_plans::* | --test::pipelines::*) return 1 ;;
    --test::pipelined_references::* | --test::copy_round_trips::* | --test::moving_*::*) return 1 ;;
    --test::bank::* | --test::foreign_keys::* | --test::numbers::*) return 1 ;;
    # Clocks, log lines and exit codes of two servers side by side: one that is late says something else, and nothing that is
    # stored is looked at.
    --test::command_line::* | --test::logging::* | --test::settings::*) ;;
    --test::many_sessions::* | --test::pipeline_clocks::*) ;;
    # Those that wait for servers, standbys and takeovers, and judge rows as well: a ledger that is wrong speaks of that. A
    # file that is new is among them.
    *) [ "$3" = late ] ;;
    esac
}

log=$(mktemp)
trap 'rm -f "$log"' EXIT
if cargo test --workspace "${kind[@]}" --no-fail-fast -- "${threads[@]}" 2>&1 | tee "$log"; then
    exit 0
fi

# "FILE NAME WORDS" for each test that failed, and how many programs did. What a test says of its failure is the line behind
# each "panicked at"; those of waits are in tests/src (local.rs, server.rs, standby.rs).
failures=$(awk '
    /^ +Running .*\(.*\/deps\/[^\/]*\)$/ { file = $NF; sub(/.*\//, "", file); sub(/-[0-9a-f]+\)$/, "", file) }
    /^test [^ ]+ \.\.\. FAILED$/ { failed[++count] = file " " $2 }
    /^---- [^ ]+ stdout ----$/ { test = file " " $2 }
    is_said {
        is_said = 0
        if (/^[^:[]+: not within [0-9.]+m?s$/ || /^in [0-9.]+m?s not: / || /^not ready in [0-9.]+m?s:$/ ||
            /^[A-Z][a-z]+ stop takes too long:$/ || /^nothing is acknowledged$/ ||
            /^assertion failed: [A-Za-z_:.]*(elapsed\(\)|Instant::now\(\)) <( |$)/) late[test]++
        else other[test]++
    }
    /^thread .* panicked at .*:[0-9]+:[0-9]+:$/ { is_said = 1 }
    END { for (i = 1; i <= count; i++) { it = failed[i]; print it, late[it] && !other[it] ? "late" : "other" } }
' "$log")
programs=$(grep -cE '^    `.*--(lib|(test|bin) [^` ]+)`$' "$log")
# One that ended without saying which test it was, or was never built, can't be tried again.
if [ -z "$failures" ] || [ "$programs" != "$(cut -d' ' -f1 <<<"$failures" | sort -u | wc -l)" ]; then
    echo "$1: failed" >&2
    exit 1
fi

again=()
once=()
twice=()
while read -r file name words; do
    if ! may_be_late "$file" "$name" "$words"; then
        echo "== not tried again, whatever ran beside it: $name of $file"
        once+=("$file::$name")
        continue
    fi
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
[ ${#once[@]} -eq 0 ] || echo "$1: failed: ${once[*]}" >&2
[ ${#twice[@]} -eq 0 ] || echo "$1: failed twice: ${twice[*]}" >&2
[ $((${#once[@]} + ${#twice[@]})) -eq 0 ]
