#!/usr/bin/env bash
# Installs what the Kubernetes test cluster (tests/cluster) needs of Debian and this machine lacks: containerd, etcd and
# network programs for the nodes; buildah and skopeo to build the image that is tested. Kubernetes itself is built from
# source by `cluster up`. Usage: setup-cluster.sh [dockerfile]; with dockerfile also what scripts/dockerfile-build.sh needs.
set -euo pipefail

missing=()
need() { # file-or-command package
    case $1 in
    /*) [ -e "$1" ] || missing+=("$2") ;;
    *) PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null 2>&1 || missing+=("$2") ;;
    esac
}
need cc build-essential
need etcd etcd-server
need containerd containerd
need runc runc
need /usr/lib/cni/bridge containernetworking-plugins
need iptables iptables
need ip iproute2
need conntrack conntrack
need socat socat
need ethtool ethtool
need busybox busybox-static
need openssl openssl
need ps procps
need mkfs.ext4 e2fsprogs
need buildah buildah
need skopeo skopeo
[ "${1:-}" != dockerfile ] || need debootstrap debootstrap
if [ ${#missing[@]} -gt 0 ]; then
    as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo)
    echo "setup: installing ${missing[*]}"
    # Only the programs are wanted: no etcd or containerd of the machine's own is to start.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
        "${as_root[@]}" chmod +x "$policy"
        trap '"${as_root[@]}" rm -f "$policy"' EXIT
    fi
    export DEBIAN_FRONTEND=noninteractive
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
# helm and CoreDNS ask for this one. A Go of 1.21 or later fetches it by itself, unless it is told not to.
least=1.26
command -v go >/dev/null 2>&1 || {
    echo "setup: go is missing; install Go $least or later, which builds Kubernetes" >&2
    exit 1
}
at_least() { # what found
    [ "$(printf '%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]
}
found=$(go env GOVERSION)
found=${found#go}
if [[ $found != devel* ]] && ! at_least "$least" "$found" &&
    ! { at_least 1.21 "$found" && [ "$(go env GOTOOLCHAIN)" != local ]; }; then
    echo "setup: this is Go ${found:-of an unknown version}; install Go $least or later, which builds Kubernetes" >&2
    exit 1
fi
