#!/usr/bin/env bash
# The end-to-end tests on a real Kubernetes of three nodes on this machine, as root: e2e.sh short|long. Builds the image,
# brings the cluster up, installs the chart, runs one test after the other, and takes everything down, however it ends.
#   FAULT=node-cut-off   of the faults only this one (the names are in tests/e2e/src/faults.rs)
#   ROUNDS=5             so many rounds of whatever has rounds
#   TESTS="faults safety::two_failovers"   only these files of tests/e2e/tests, or those of their tests that are named so
#   RESULTS=FILE         where a line for each measurement is appended      EVIDENCE=FOLDER  where logs of failures go
#   KEEP=1               leaves the cluster up; the next run takes it as it is
set -euo pipefail
cd "$(dirname "$0")/.."

form=${1:-}
case $form in
short | long) ;;
*)
    echo "usage: $0 short|long" >&2
    exit 2
    ;;
esac
[ "$(id -u)" = 0 ] || {
    echo "e2e: nodes are namespaces, which are root's to make: run this as root" >&2
    exit 1
}

cache=${XDG_CACHE_HOME:-$HOME/.cache}/understudy
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}
export UNDERSTUDY_BIN_DIR=$CARGO_TARGET_DIR/release
dir=$cache/e2e/cluster
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
export UNDERSTUDY_E2E_FORM=$form
export UNDERSTUDY_E2E_CLUSTER=$dir
export UNDERSTUDY_E2E_IMAGE=understudy.local/understudy:$version
export UNDERSTUDY_E2E_NEXT_IMAGE=understudy.local/understudy:$version-next
export UNDERSTUDY_E2E_MORTAL_OPERATOR=$CARGO_TARGET_DIR/debug/understudy-operator
export UNDERSTUDY_E2E_RESULTS=${RESULTS:-$cache/e2e/results.jsonl}
export UNDERSTUDY_E2E_EVIDENCE=${EVIDENCE:-$cache/e2e/evidence}
UNDERSTUDY_E2E_COMMIT=$(git describe --always --dirty --abbrev=12 2>/dev/null || echo unknown)
export UNDERSTUDY_E2E_COMMIT

say() { echo "== $(date +%H:%M:%S) $*"; }

say "building: the cluster's command, the tests, an operator that can be told to die"
cargo build --release -p understudy-cluster -p understudy-e2e --bins
cargo build -p operator --bins
cargo test -p understudy-e2e --no-run
cluster=$UNDERSTUDY_BIN_DIR/cluster
mkdir -p "$cache/e2e"

say "the image, and the same by another name"
archive=$cache/e2e/understudy.tar
next=$cache/e2e/understudy-next.tar
IMAGE=$UNDERSTUDY_E2E_IMAGE scripts/image.sh "$archive"
rm -f "$next"
buildah push --quiet "$UNDERSTUDY_E2E_IMAGE" "oci-archive:$next:$UNDERSTUDY_E2E_NEXT_IMAGE"

finish() {
    local code=$?
    trap - EXIT
    if [ -n "${KEEP:-}" ]; then
        say "the cluster is left up; \`$cluster down --dir $dir\` ends it"
    elif ! "$cluster" down --dir "$dir"; then
        echo "e2e: the cluster is not down; \`$cluster down --dir $dir\` tries again" >&2
        [ "$code" != 0 ] || code=1
    fi
    rm -f "$archive" "$next"
    exit "$code"
}
# A signal ends this by way of EXIT.
trap 'exit 130' INT TERM HUP
trap finish EXIT

say "the cluster"
"$cluster" up --dir "$dir" --nodes 3
"$cluster" load --dir "$dir" "$archive"
"$cluster" load --dir "$dir" "$next"

say "the chart"
programs=$("$cluster" build --dir "$dir")
helm=$(scripts/helm.sh "$cache")
export KUBECONFIG=$dir/kubeconfig
export HELM_CACHE_HOME=$dir/helm/cache HELM_CONFIG_HOME=$dir/helm/config HELM_DATA_HOME=$dir/helm/data
"$programs/kubectl" apply -f - <<'END'
apiVersion: v1
kind: Namespace
metadata:
  name: understudy-system
  labels: {pod-security.kubernetes.io/enforce: restricted, pod-security.kubernetes.io/warn: restricted}
END
"$helm" upgrade --install understudy charts/understudy --namespace understudy-system --wait --timeout 180s \
    --set "image.repository=${UNDERSTUDY_E2E_IMAGE%:*}" --set "image.tag=${UNDERSTUDY_E2E_IMAGE##*:}"
unset KUBECONFIG HELM_CACHE_HOME HELM_CONFIG_HOME HELM_DATA_HOME

failed=()
for name in ${TESTS:-first_minutes rights requests scaling faults safety operators updates packaging}; do
    file=${name%%::*}
    filter=()
    [ "$file" = "$name" ] || filter=("${name#*::}")
    # A fault that is asked for is in one file only.
    [ -z "${FAULT:-}" ] || [ -n "${TESTS:-}" ] || [ "$file" = faults ] || continue
    say "$name"
    begin=$SECONDS
    cargo test -p understudy-e2e --test "$file" -- --ignored --test-threads=1 --nocapture "${filter[@]}" ||
        failed+=("$name")
    say "$name took $((SECONDS - begin)) s"
done

"$UNDERSTUDY_BIN_DIR/e2e-results" "$UNDERSTUDY_E2E_RESULTS" "$UNDERSTUDY_E2E_COMMIT" || true
echo "measurements: $UNDERSTUDY_E2E_RESULTS"
if [ ${#failed[@]} -gt 0 ]; then
    echo "e2e: failed: ${failed[*]}; logs and objects are in $UNDERSTUDY_E2E_EVIDENCE" >&2
    exit 1
fi
say "everything passed"
