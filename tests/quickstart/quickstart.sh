#!/usr/bin/env bash
# The quick start: a primary and two standbys as local processes, load, SIGKILL of the primary, the takeover, the proof.
#
# Called by `make quickstart` after the programs were built; leaves the cluster running (`make stop` ends it).
# Settings: UNDERSTUDY_BIN_DIR (the built programs), UNDERSTUDY_DIR (the cluster's folder, default .understudy).
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
bin=${UNDERSTUDY_BIN_DIR:?the folder of the built programs}
dir=${UNDERSTUDY_DIR:-$root/.understudy}
PATH=$PATH:/usr/lib/postgresql/15/bin
operator=$bin/understudy-operator
scale=${QUICKSTART_SCALE:-2}
load_seconds=${QUICKSTART_SECONDS:-12}
work=$(mktemp -d)
pids=()

say() { printf '\n== %s\n' "$*"; }
die() { printf '\nquickstart: %s\n' "$*" >&2; exit 1; }

# Ends what this script started, by number; the cluster goes on.
finish() {
    local pid
    for pid in "${pids[@]}"; do
        if kill -0 "$pid" 2>/dev/null; then kill "$pid" 2>/dev/null || true; fi
    done
    rm -rf "$work"
}
trap finish EXIT

for program in psql pgbench; do
    command -v "$program" >/dev/null || die "$program is missing; \`make setup\` installs PostgreSQL's client programs"
done
for program in understudy understudy-operator ledger; do
    [ -x "$bin/$program" ] || die "$bin/$program is missing; run \`make build\`"
done

# status EXPRESSION: a part of the cluster's status, by a path of keys (a.b.c); empty if it is not there.
status() {
    "$operator" local status --dir "$dir" -o json | "$bin/ledger" field "$1"
}

say "a primary and two standbys (examples/orders.yaml) in $dir"
"$operator" local up -f "$root/examples/orders.yaml" --dir "$dir" --detach
port=$(sed -n 's/.*"port": *\([0-9]*\).*/\1/p' "$dir/local.json")
[ -n "$port" ] || die "$dir/local.json names no port"
export PGHOST=127.0.0.1 PGPORT=$port PGUSER=postgres PGCONNECT_TIMEOUT=2
export PGDATABASE=bench

say "a pgbench database (scale $scale) through the primary's port $port"
if ! psql -X -q -d postgres -Atc "SELECT 1 FROM pg_database WHERE datname = 'bench'" | grep -q 1; then
    psql -X -q -d postgres -c "CREATE DATABASE bench"
fi
psql -X -q -c "DROP TABLE IF EXISTS understudy_ledger"
pgbench -i -q -s "$scale" -I dtGvp

dsn="host=127.0.0.1 port=$port user=postgres dbname=bench connect_timeout=2"
say "TPC-B beside a writer that records every acknowledged row, $load_seconds s"
# Its progress is shown; that its sessions break off, when the primary is killed, is not.
: >"$work/before"
pgbench -n -c 8 -j 2 -P 1 -T "$((load_seconds / 2))" -b tpcb-like >>"$work/before" 2>&1 &
load=$!
pids+=("$load")
tail --pid="$load" -n +1 -f "$work/before" | grep --line-buffered '^progress' &
"$bin/ledger" write --dsn "$dsn" --file "$work/ledger" --stop-file "$work/stop" >"$work/writer" 2>&1 &
writer=$!
pids+=("$writer")
sleep "$((load_seconds / 4 + 1))"

old=$(status status.currentPrimary)
victim=$(status "status.instances.name=$old.supervisorPid")
engine=$(status "status.instances.name=$old.enginePid")
term=$(status status.term)
[ -n "$victim" ] && [ -n "$engine" ] || die "the primary's processes are not known"
say "SIGKILL to the primary $old (supervisor $victim, engine $engine), in the middle of the load"
killed=$(date +%s%3N)
kill -KILL "$victim" "$engine"

seen=
for _ in $(seq 300); do
    new_term=$(status status.term)
    phase="$(status status.phase), term $new_term"
    if [ "$phase" != "$seen" ]; then printf '%s\n' "$phase"; fi
    seen=$phase
    if [ "$new_term" -gt "$term" ] && [ "$(status status.lastFailover.term)" = "$new_term" ]; then break; fi
    sleep 0.1
done
[ "$(status status.lastFailover.old)" = "$old" ] || die "no standby has taken over; see: $operator local status --dir $dir"
new=$(status status.currentPrimary)
printf '%s took over in term %s\n' "$new" "$(status status.term)"

say "TPC-B goes on, on the new primary"
pgbench -n -c 8 -j 2 -P 2 -T "$((load_seconds / 2))" -b tpcb-like 2>&1 | tee "$work/after" |
    grep --line-buffered -E '^(progress|tps|number of failed)' || die "pgbench failed on $new: $(tail -n 5 "$work/after")"
touch "$work/stop"
wait "$writer" || die "the writer failed: $(cat "$work/writer")"

say "the proof"
"$bin/ledger" check --dsn "$dsn" --file "$work/ledger" | tee "$work/check" || die "acknowledged rows are missing"
pause=$(sed -n 's/^longest_pause_ms=//p' "$work/check")
missing=$(sed -n 's/^missing=//p' "$work/check")
acknowledged=$(sed -n 's/^acknowledged=//p' "$work/check")
# The end of the longest pause behind the kill: what the old primary had said already may have come after it.
first_write=$(awk -v killed="$killed" '
    $2 >= killed { if (last && $2 - last > most) { most = $2 - last; at = $2 } }
    { last = $2 }
    END { if (at) print at - killed; else print "?" }
' "$work/ledger")

say "waiting until three instances are healthy again"
seen=
for _ in $(seq 600); do
    ready=$(status status.readyInstances)
    if [ "$ready" != "$seen" ]; then printf '%s of 3 instances are ready\n' "$ready"; fi
    seen=$ready
    if [ "$ready" = 3 ]; then break; fi
    sleep 0.1
done
[ "$(status status.readyInstances)" = 3 ] || die "not healthy again after 60 s; see: $operator local status --dir $dir"

say "what happened"
"$operator" local events --dir "$dir"
say "the cluster now"
"$operator" local status --dir "$dir"

cat <<SUMMARY

  primary killed:             $old
  new primary:                $new
  kill to the first write:    $first_write ms (from its detection, by the operator's own figure: $(status status.lastFailover.seconds) s)
  longest pause of a client:  $pause ms
  rows acknowledged:          $acknowledged
  acknowledged and missing:   $missing

  connect:   psql -h 127.0.0.1 -p $port -U postgres bench
  standbys:  psql -h 127.0.0.1 -p $((port + 1)) -U postgres bench
  look:      $operator local status --dir $dir
  stop:      make stop
SUMMARY
