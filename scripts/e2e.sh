#!/usr/bin/env bash
# The end-to-end tests on a real Kubernetes of three nodes on this machine, as root: e2e.sh [short|long|check]; short if it
# is not said. Builds the image, brings the cluster up, installs the chart, runs one test after the other, and takes
# everything down, however it ends. check only says whether this machine permits what a cluster needs.
#   FAULT=node-cut-off   of the faults only this one (the names are in tests/e2e/src/faults.rs)
#   ROUNDS=5             so many rounds of whatever has rounds
#   TESTS="faults safety::two_failovers"   only these files of tests/e2e/tests, or those of their tests that are named so
#   RESULTS=FILE         where a line for each measurement is appended      EVIDENCE=FOLDER  where logs of failures and missed goals go
#   KEEP=1               leaves the cluster up; the next run takes it as it is, but for what was left half done, and for the
#                        databases of tests: they may be another build's
#   TWICE=1              a test that failed only because something did not come in time is run once more; whoever fails again
#                        has failed, and so has whoever failed for anything else
set -euo pipefail
cd "$(dirname "$0")/.."

# What tells most, within 20 minutes. The others are in the long form.
short=(
    first_minutes
    rights
    faults_in_turn
    faults::a_standby_takes_over_when_the_disk_completes_no_write
    scaling::standbys_come_and_go_under_load_without_a_failed_write
    scaling::a_primary_that_dies_at_any_step_of_a_change_of_the_set_loses_nothing
    deletions::a_standby_whose_pod_is_deleted_comes_back_with_what_it_had
    safety::a_blocked_failover_goes_on_when_the_old_primary_returns
    safety::standbys_that_are_both_behind_take_over_without_a_loss
    safety::two_failovers_in_a_row_lose_nothing
    safety::the_only_standby_takes_over
    safety::a_primary_that_is_alone_comes_back_itself
    safety::an_old_volume_that_is_put_back_does_not_count_for_what_it_was
    safety::the_frozen_processes_of_a_force_deleted_pod_do_no_harm_when_they_wake
    safety::a_status_that_is_wiped_is_rebuilt_from_the_volumes
    safety::a_cluster_that_is_deleted_ends_at_once_and_has_its_data_when_it_is_applied_again
    operators::a_promotion_by_hand_is_refused
    operators::an_operator_that_dies_at_any_step_of_a_failover_is_followed_by_one_that_finishes_it
    operators::two_operators_that_both_take_themselves_for_the_leader_do_no_harm
    operators::a_leader_that_is_deleted_with_the_primary_is_followed_by_the_other_replica
    api_server::a_failover_waits_for_the_api_server_and_loses_nothing
    updates::each_node_is_drained_in_turn_under_load
    updates::the_node_of_the_primary_and_of_the_operators_leader_is_drained
    updates::a_setting_that_needs_a_restart_is_rolled_out_standbys_first
    requests::an_image_that_is_nowhere_is_told_of_and_the_cluster_begins_when_it_is_corrected
)
long=(first_minutes rights requests fields scaling faults safety operators api_server updates deletions packaging)
# Besides, unless something is chosen: tests of tests/tests that `make test-behaviour` leaves out, because they need what is
# there by now (Kubernetes' programs, helm, the image).
besides=(kubernetes_api kubernetes_pods chart image)
# What makes another build of the operator another one, for upgrades: it renders another template. No hook in the product:
# this line of a copy of the tree is changed.
changed_file='operator/src/render/pod.rs'
changed_line='const STOP_SECONDS: i64 = 50;'
changed_to='const STOP_SECONDS: i64 = 51;'

# As tests/e2e/src/controller.rs has them: what deploy/understudy.yaml makes, and revisions that helm is at work on.
plain_selector='app.kubernetes.io/name=understudy-operator,app.kubernetes.io/managed-by=kubectl'
plain_kinds=customresourcedefinitions,clusterroles,clusterrolebindings,deployments,services,serviceaccounts
plain_kinds+=,roles,rolebindings,poddisruptionbudgets
unfinished='owner=helm,name=understudy,status in (pending-install,pending-upgrade,pending-rollback,uninstalling)'

# What keeps this machine from having a cluster, one line each; what tests/cluster needs and no package brings.
obstacles() {
    local controller
    [ "$(id -u)" = 0 ] || echo "nodes are namespaces, which are root's to make: run this as root"
    unshare --net --mount --propagation private true 2>/dev/null ||
        echo "network and mount namespaces are not permitted"
    [ -e /dev/loop-control ] || echo "there are no loop devices, on which the disks are that a test freezes"
    for controller in cpu cpuacct cpuset memory devices pids freezer; do
        awk -v wanted="$controller" '
            $3 == "cgroup" { n = split($2, parts, "/"); m = split(parts[n], names, ",") }
            $3 == "cgroup" { for (i = 1; i <= m; i++) if (names[i] == wanted) found = 1 }
            END { exit !found }' /proc/self/mounts ||
            echo "the control group hierarchy \"$controller\" (version 1) is not mounted"
    done
}

form=${1:-short}
case $form in
check)
    found=$(obstacles)
    [ -z "$found" ] || {
        echo "e2e: this machine can't have the Kubernetes that the end-to-end tests run on:" >&2
        sed 's/^/  /' <<<"$found" >&2
        exit 1
    }
    exit 0
    ;;
# Nothing takes longer than the limit, or it hangs; seconds.
short) tests=("${short[@]}") limit=1200 ;;
long) tests=("${long[@]}") limit=21600 ;;
*)
    echo "usage: $0 [short|long|check]" >&2
    exit 2
    ;;
esac
[ -z "${TESTS:-}${ROUNDS:-}" ] || [ "$limit" -gt 7200 ] || limit=7200
# A fault that is asked for is in one file.
[ -z "${FAULT:-}" ] || tests=(faults)
[ -z "${TESTS:-}" ] || read -ra tests <<<"$TESTS"

# Whoever has mistyped something hears of it now, not when everything is built and up.
wrong() {
    echo "e2e: $*" >&2
    exit 2
}
faults() { sed -n 's/^ *Fault::[A-Za-z]* => "\([a-z-]*\)",$/\1/p' tests/e2e/src/faults.rs; }
[ -z "${FAULT:-}" ] || grep -qxF -e "$FAULT" <<<"$(faults)" ||
    wrong "there is no fault $FAULT; there are: $(faults | tr '\n' ' ')"
[[ ${ROUNDS:-1} =~ ^[1-9][0-9]*$ ]] || wrong "ROUNDS=$ROUNDS is no number of rounds"
for name in "${tests[@]}"; do
    file=tests/e2e/tests/${name%%::*}.rs
    [ -f "$file" ] || wrong "there is no $file, which $name names"
    [[ $name != *::* ]] || grep -qE -e "^fn [a-z0-9_]*${name#*::}[a-z0-9_]*\(\) \{" "$file" ||
        wrong "there is no test $name"
done
scripts/e2e.sh check

cache=${XDG_CACHE_HOME:-$HOME/.cache}/understudy
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}
export UNDERSTUDY_BIN_DIR=$CARGO_TARGET_DIR/release
# As the command writes it down.
dir=$(realpath --canonicalize-missing --no-symlinks -- "$cache/e2e/cluster")
archive=$cache/e2e/understudy.tar
next=$cache/e2e/understudy-next.tar
newer=$cache/e2e/understudy-newer.tar
another=$cache/e2e/another-build
cluster=$UNDERSTUDY_BIN_DIR/cluster
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
export UNDERSTUDY_E2E_FORM=$form
export UNDERSTUDY_E2E_CLUSTER=$dir
# Names of their own: what `make image` has made stays.
export UNDERSTUDY_E2E_IMAGE=understudy.local/understudy:$version-e2e
export UNDERSTUDY_E2E_NEXT_IMAGE=understudy.local/understudy:$version-e2e-next
export UNDERSTUDY_E2E_NEWER_IMAGE=
export UNDERSTUDY_E2E_MORTAL_OPERATOR=$CARGO_TARGET_DIR/debug/understudy-operator
export UNDERSTUDY_E2E_RESULTS=${RESULTS:-$cache/e2e/results.jsonl}
export UNDERSTUDY_E2E_EVIDENCE=${EVIDENCE:-$cache/e2e/evidence}
# A test runs in its package's folder.
[[ $UNDERSTUDY_E2E_RESULTS = /* ]] || UNDERSTUDY_E2E_RESULTS=$PWD/$UNDERSTUDY_E2E_RESULTS
[[ $UNDERSTUDY_E2E_EVIDENCE = /* ]] || UNDERSTUDY_E2E_EVIDENCE=$PWD/$UNDERSTUDY_E2E_EVIDENCE
UNDERSTUDY_E2E_COMMIT=$(git describe --always --dirty --abbrev=12 2>/dev/null || echo unknown)
export UNDERSTUDY_E2E_COMMIT
# What an earlier run has left in a cluster that it kept is told by this from what this one makes.
UNDERSTUDY_E2E_RUN=$(date +%s)-$$
export UNDERSTUDY_E2E_RUN

# One machine has one cluster (tests/cluster/src/layout.rs), and its bridge says whose it is.
owner=$(cat /sys/class/net/understudy0/ifalias 2>/dev/null || true)
if [ -n "$owner" ] && [ "$owner" != "$dir" ]; then
    echo "e2e: the machine's cluster is that of $owner; \`make cluster-down CLUSTER_DIR=$owner\` ends it" >&2
    exit 1
fi
mkdir -p "$cache/e2e"
other=$(cat "$cache/e2e/pid" 2>/dev/null || true)
if [ -n "$other" ] && grep -qs e2e.sh "/proc/$other/cmdline"; then
    echo "e2e: another run (process $other) has the machine's cluster; wait for its end" >&2
    exit 1
fi
echo $$ >"$cache/e2e/pid"

say() { echo "== $(date +%H:%M:%S) $*"; }

child=
guard=
said=
stage=building
# In a session of its own, all of which can be ended; a signal interrupts the wait for it.
run() {
    local code=0
    setsid "$@" &
    child=$!
    wait "$child" || code=$?
    child=
    return "$code"
}

# What tells why something failed that keeps nothing itself, as a test does.
keep() {
    local to
    to=$UNDERSTUDY_E2E_EVIDENCE/$1-$(date +%s)
    mkdir -p "$to"
    # Of a cluster that never came up there is what its programs said.
    timeout --kill-after=5 300 "$cluster" logs --dir "$dir" --to "$to" >"$to/logs.txt" 2>&1 ||
        cp -a "$dir/logs" "$to/programs" 2>/dev/null || true
    echo "e2e: logs and objects are kept in $to" >&2
}

finish() {
    local code=$?
    trap - EXIT
    trap '' INT TERM HUP
    [ -z "$child" ] || kill -KILL -- "-$child" 2>/dev/null || true
    if [ "$code" != 0 ] && [ "$stage" = setting-up ]; then
        keep "$stage"
    fi
    if [ "$stage" != building ]; then
        if [ -n "${KEEP:-}" ]; then
            say "the cluster is left up; \`$cluster down --dir $dir\` ends it"
        elif ! "$cluster" down --dir "$dir"; then
            echo "e2e: the cluster is not down; \`$cluster down --dir $dir\` tries again" >&2
            [ "$code" != 0 ] || code=1
        fi
    fi
    rm -rf "$archive" "$next" "$newer" "$another" "$dir.pod-logs" "$cache/e2e/pid" "$said"
    for image in "$UNDERSTUDY_E2E_IMAGE" "$UNDERSTUDY_E2E_NEWER_IMAGE"; do
        [ -z "$image" ] || buildah rmi --force "$image" >/dev/null 2>&1 || true
    done
    if [ -n "$guard" ]; then
        kill "$guard" 2>/dev/null || true
        wait "$guard" 2>/dev/null || true
    fi
    exit "$code"
}
# A signal ends this by way of EXIT.
trap 'exit 130' INT TERM HUP
trap finish EXIT

# An image of the tree with that one line changed, in $newer. The copy has a folder of its own for what is built, which
# begins with what the tree's own image has left: cargo takes two trees for one that are built into one folder, and what
# only the changed line makes different is all that is built again.
build_another() {
    local source=$another/source target=$another/target profile=${PROFILE:-image} host part
    [ "$profile" != dev ] || profile=debug
    host=$(rustc -vV | sed -n 's/^host: //p')
    rm -rf "$another"
    mkdir -p "$source"
    git ls-files -z --cached --others --exclude-standard | tar --null -T - -cf - | tar -xf - -C "$source"
    if [ "$(grep -cxF "$changed_line" "$source/$changed_file")" != 1 ]; then
        echo "e2e: $changed_file has not just once the line \"$changed_line\", which the other build changes" >&2
        return 1
    fi
    sed -i "s/^$changed_line\$/$changed_to/" "$source/$changed_file"
    grep -qxF "$changed_to" "$source/$changed_file"
    for part in "$host/$profile" "$profile"; do
        [ -d "$CARGO_TARGET_DIR/$part" ] || continue
        mkdir -p "$target/$part"
        cp -a "$CARGO_TARGET_DIR/$part/." "$target/$part"
    done
    UNDERSTUDY_E2E_NEWER_IMAGE=understudy.local/understudy:$version-e2e-newer
    run env "CARGO_TARGET_DIR=$target" "IMAGE=$UNDERSTUDY_E2E_NEWER_IMAGE" "$source/scripts/image.sh" "$newer"
    rm -rf "$another"
}

say "building: the cluster's command, the tests, programs that can be told to die"
run cargo build --release -p understudy-cluster -p understudy-e2e --bins
run cargo build --workspace --bins
run cargo test -p understudy-e2e --no-run
[ -n "${TESTS:-}${FAULT:-}" ] || run cargo test --workspace --no-run "${besides[@]/#/--test=}"

say "the image, and the same by another name"
IMAGE=$UNDERSTUDY_E2E_IMAGE run scripts/image.sh "$archive"
rm -f "$next"
run buildah push --quiet "$UNDERSTUDY_E2E_IMAGE" "oci-archive:$next:$UNDERSTUDY_E2E_NEXT_IMAGE"
# For whoever upgrades the operator.
if [[ " ${tests[*]}" = *" packaging"* ]]; then
    say "another build, which renders another template"
    build_another
fi

say "the cluster"
stage=setting-up
if [ -z "${KEEP:-}" ]; then
    # SIGKILL runs no trap: this goes on then and takes the cluster down, with whatever tests have started.
    setsid bash -c '
        while read -r _ state _ < <(grep -s ^State: "/proc/$1/status") && [ "$state" != Z ]; do sleep 1; done
        "$2" down --dir "$3"
        rm -rf "$3.pod-logs" "${@:4}"
    ' guard $$ "$cluster" "$dir" "$archive" "$next" "$newer" "$cache/e2e/pid" &
    guard=$!
fi
begin=$SECONDS
run "$cluster" up --dir "$dir" --nodes 3 --volumes 10
run "$cluster" load --dir "$dir" "$archive"
run "$cluster" load --dir "$dir" "$next"
[ -z "$UNDERSTUDY_E2E_NEWER_IMAGE" ] || run "$cluster" load --dir "$dir" "$newer"
say "the cluster took $((SECONDS - begin)) s"

say "the chart"
programs=$("$cluster" build --dir "$dir")
helm=$(scripts/helm.sh "$cache")
kubernetes=(env "KUBECONFIG=$dir/kubeconfig" "KUBECACHEDIR=$dir/helm/kube-cache" "HELM_CACHE_HOME=$dir/helm/cache"
    "HELM_CONFIG_HOME=$dir/helm/config" "HELM_DATA_HOME=$dir/helm/data" NO_PROXY='*' no_proxy='*')
kubectl=("${kubernetes[@]}" "$programs/kubectl" --namespace understudy-system)
# A test that failed in the middle leaves what it had applied without helm, which would take over nothing of that; with the
# definition go the databases. A helm that was ended leaves a revision that every later one would wait for.
plain=$("${kubectl[@]}" get --all-namespaces --ignore-not-found --output name --selector "$plain_selector" "$plain_kinds")
if [ -n "$plain" ]; then
    say "what was applied without helm goes"
    run "${kubectl[@]}" delete --ignore-not-found --timeout=180s -f deploy/understudy.yaml
fi
phase=$("${kubectl[@]}" get namespace understudy-system --ignore-not-found --output 'jsonpath={.status.phase}')
[ "$phase" != Terminating ] ||
    run "${kubectl[@]}" wait --for=delete --timeout=180s namespace/understudy-system
"${kubectl[@]}" apply -f - <<'END'
apiVersion: v1
kind: Namespace
metadata:
  name: understudy-system
  labels: {pod-security.kubernetes.io/enforce: restricted, pod-security.kubernetes.io/warn: restricted}
END
"${kubectl[@]}" delete secret --selector "$unfinished" >/dev/null
operator=deployment/understudy-operator
before=$("${kubectl[@]}" get "$operator" --ignore-not-found -o name)
run "${kubernetes[@]}" "$helm" upgrade --install understudy charts/understudy --namespace understudy-system \
    --set "image.repository=${UNDERSTUDY_E2E_IMAGE%:*}" --set "image.tag=${UNDERSTUDY_E2E_IMAGE##*:}" --wait --timeout 180s
if [ -n "$before" ]; then
    # Of a cluster that was there before: its operator is another build of the same name.
    "${kubectl[@]}" rollout restart "$operator"
    run "${kubectl[@]}" rollout status "$operator" --timeout=180s
fi

# What a test said goes to $said as well. tee outlives a signal that is everybody's, as the terminal's: what ends this
# then still speaks through it.
try() {
    run timeout --kill-after=20 "$limit" cargo test "$@" --test-threads=1 --nocapture \
        > >(trap '' INT TERM HUP; exec tee "$said") 2>&1
}

# What a test says first of its failure where something did not come in time, or was not where the test needs it: two
# processors and a whole cluster on them keep a test waiting now and then. Whatever else it says is no matter of time, rows,
# terms, roles and rights least of all, and is not tried again, nor is what nobody has thought of here.
late='has not come|not within [0-9]+ s$|in [0-9]+ s only [0-9]+ rows|is not answered|no switchover to|was never seen'
late+='|does not end|failed \(exit status: [0-9]+\): .*(timed out|[Tt]imeout|deadline exceeded|refused - did you specify)'
# Where the operators and the instances are; whether a fault met the moment that it was meant for.
late+='|move all the time|moves all the time|leader has moved|its pod is there yet|no instance fits|instances stay together'
late+='|was caught in its middle|hardly ever|were met: |could never be hit'
# Figures that are further apart than the machine can be blamed for.
late+='|are apart by [0-9.]+ ms, programs waited|are further apart than'
# The sum of those before it.
late+='|^failed: .*; not tried any more: '
# Not even so: what a test calls by this name, and a wait for rows that never came.
never='BROKEN PROMISE: |every row'

# Once more, each by itself, what $said names as failed of a file, where all of it is a matter of time. What passed only then
# is said at the end, since it is a fault too, of the test or of the program.
try_again() {
    local name names reasons
    # What is on its way through tee.
    sleep 1
    reasons=$(awk 'is_said { is_said = 0; print } /^thread .* panicked at .*:[0-9]+:[0-9]+:$/ { is_said = 1 }' "$said")
    if [ -z "$reasons" ] || grep -qE "$never" <<<"$reasons" || grep -qvE "$late" <<<"$reasons"; then
        echo "e2e: that is no matter of time; nothing is tried again" >&2
        return 1
    fi
    # Those that are listed at the end of a run, each on a line of its own.
    names=$(awk '/^test result/ { listed = 0 } listed && /^    [a-z0-9_:]+$/ { print $1 } /^failures:$/ { listed = 1 }' "$said")
    [ -n "$names" ] || return 1
    while read -r name; do
        say "once more, by itself: $1::$name"
        try -p understudy-e2e --test "$1" -- --ignored --exact "$name" </dev/null || return 1
        again+=("$1::$name")
    done <<<"$names"
}

stage=testing
said=$(mktemp)
failed=()
again=()
all=$SECONDS
for name in "${tests[@]}"; do
    file=${name%%::*}
    filter=()
    [ "$file" = "$name" ] || filter=("${name#*::}")
    arguments=(-p understudy-e2e --test "$file" -- --ignored "${filter[@]}")
    say "$name"
    begin=$SECONDS
    # A name that no test has would run nothing, and pass.
    found=$(cargo test "${arguments[@]}" --list | grep -c ': test$' || true)
    if [ "$found" = 0 ]; then
        echo "e2e: there is no test $name" >&2
        failed+=("$name")
        continue
    fi
    code=0
    try "${arguments[@]}" || code=$?
    case $code in
    0) ;;
    124 | 137)
        echo "e2e: $name has not ended within $limit s" >&2
        keep "hanging-${name//:/-}"
        ;;
    *)
        [ -z "${TWICE:-}" ] || ! try_again "$file" || code=0
        ;;
    esac
    [ "$code" = 0 ] || failed+=("$name")
    say "$name took $((SECONDS - begin)) s"
done
if [ -z "${TESTS:-}${FAULT:-}" ]; then
    say "${besides[*]}"
    begin=$SECONDS
    UNDERSTUDY_BIN_DIR=$CARGO_TARGET_DIR/debug UNDERSTUDY_HELM=$helm UNDERSTUDY_IMAGE_ARCHIVE=$archive \
        run timeout --kill-after=20 "$limit" cargo test --workspace --no-fail-fast "${besides[@]/#/--test=}" -- \
        --ignored --test-threads=1 || failed+=("one of ${besides[*]}")
    say "${besides[*]} took $((SECONDS - begin)) s"
fi
say "the tests took $((SECONDS - all)) s"
if [ "$form" = long ] && [ -z "${TESTS:-}${FAULT:-}" ]; then
    say "the Dockerfile's own build"
    own=$UNDERSTUDY_E2E_IMAGE-dockerfile
    run scripts/dockerfile-build.sh "$own" || failed+=(dockerfile-build)
    buildah rmi --force "$own" >/dev/null 2>&1 || true
fi

[ ! -e "$UNDERSTUDY_E2E_RESULTS" ] ||
    "$UNDERSTUDY_BIN_DIR/e2e-results" "$UNDERSTUDY_E2E_RESULTS" "$UNDERSTUDY_E2E_COMMIT" || true
echo "measurements: $UNDERSTUDY_E2E_RESULTS"
for test in "${again[@]}"; do
    echo "e2e: FAILED AT FIRST, passed by itself: $test (its first words are above)" >&2
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "e2e: failed: ${failed[*]}; logs and objects are in $UNDERSTUDY_E2E_EVIDENCE" >&2
    exit 1
fi
say "everything passed"
