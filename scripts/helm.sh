#!/usr/bin/env bash
# Prints where helm is: the one that the test cluster's programs have, else one of the same version, built once from its
# Go module into the cache. Usage: helm.sh CACHE
set -euo pipefail

version=3.22.0
cache=$1
for built in "$cache"/kubernetes/*/helm "$cache/helm-$version/helm"; do
    # Built from its module it knows only the first two numbers of its version.
    [[ $built != *.partial/* ]] || continue
    if [ -x "$built" ] && [[ $("$built" version --template '{{.Version}}' 2>/dev/null) == "v${version%.*}"* ]]; then
        echo "$built"
        exit 0
    fi
done
command -v go >/dev/null || {
    echo "helm: go is missing; install Go 1.26 or later, which builds helm" >&2
    exit 1
}
echo "helm: building helm $version, once, some minutes" >&2
part=$cache/helm-$version.partial
mkdir -p "$part"
GOBIN=$part CGO_ENABLED=0 go install -trimpath -ldflags '-s -w' "helm.sh/helm/v3/cmd/helm@v$version" >&2
rm -rf "$cache/helm-$version"
mv "$part" "$cache/helm-$version"
echo "$cache/helm-$version/helm"
