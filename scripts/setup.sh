#!/usr/bin/env bash
# Installs what building and testing need and this machine lacks: a C toolchain for build scripts, and
# PostgreSQL 15's programs, which are the tests' referee and the quick start's clients; openssl makes the tests' certificates.
# Usage: setup.sh clients|referee
set -euo pipefail

want=${1:-referee}
missing=()
need() { # command package
    command -v "$1" >/dev/null 2>&1 || missing+=("$2")
}
need cc build-essential
need make make
need tar tar
need openssl openssl
need psql postgresql-client-15
[ -x /usr/lib/postgresql/15/bin/pgbench ] || missing+=(postgresql-15)
if [ "$want" = referee ]; then
    # Minor releases change answers: those of one before this are not ours.
    least=15.20
    has=$(/usr/lib/postgresql/15/bin/postgres --version 2>/dev/null | sed -E 's/.*\) ([0-9.]+).*/\1/') || has=0
    [ "$(printf '%s\n' "$least" "${has:-0}" | sort -V | head -n 1)" = "$least" ] ||
        missing+=(postgresql-15 postgresql-client-15)
    need openssl openssl
fi
if [ ${#missing[@]} -gt 0 ]; then
    as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo)
    echo "setup: installing ${missing[*]}"
    # A cluster of Debian's own making is not wanted; only the programs are.
    "${as_root[@]}" mkdir -p /etc/postgresql-common
    [ -e /etc/postgresql-common/createcluster.conf ] ||
        echo 'create_main_cluster = false' | "${as_root[@]}" tee /etc/postgresql-common/createcluster.conf >/dev/null
    export DEBIAN_FRONTEND=noninteractive
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" apt-get install -y -qq "${missing[@]}" >/dev/null
fi
command -v cargo >/dev/null 2>&1 || {
    echo "setup: cargo is missing; install Rust 1.95 (rustup reads rust-toolchain.toml)" >&2
    exit 1
}
