#!/usr/bin/env bash
# Builds the Dockerfile itself, all stages, on a machine that reaches no image registry: the Rust image that it starts
# from is made of Debian's packages and this machine's toolchain under the same name, and the dependencies are brought
# along. Usage, as root: dockerfile-build.sh IMAGE. PROFILE is cargo's (image).
set -euo pipefail

image=$1
here=$(cd "$(dirname "$0")/.." && pwd)
base=$(sed -n 's/^ARG RUST_IMAGE=//p' "$here/Dockerfile")
for program in buildah debootstrap cargo; do
    command -v "$program" >/dev/null || {
        echo "dockerfile-build: $program is missing; apt-get install buildah debootstrap" >&2
        exit 1
    }
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if ! buildah images --quiet "$base" >/dev/null 2>&1; then
    echo "dockerfile-build: making $base of Debian's packages" >&2
    debootstrap --variant=minbase --include=ca-certificates,gcc,libc6-dev bookworm "$work/root" >"$work/log" 2>&1 || {
        tail -20 "$work/log" >&2
        exit 1
    }
    rm -rf "$work"/root/var/cache/apt/archives/*.deb "$work"/root/var/lib/apt/lists/*
    mkdir -p "$work/root/usr/local/cargo/bin"
    sysroot=$(rustc --print sysroot)
    mkdir "$work/root/usr/local/rust"
    cp -a "$sysroot/bin" "$sysroot/lib" "$work/root/usr/local/rust/"
    for program in cargo rustc; do
        ln -s "/usr/local/rust/bin/$program" "$work/root/usr/local/cargo/bin/$program"
    done
    container=$(buildah from scratch)
    buildah add --quiet "$container" "$work/root" / >/dev/null
    buildah config --env PATH=/usr/local/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        --env CARGO_HOME=/usr/local/cargo "$container"
    buildah commit --quiet --rm "$container" "$base" >/dev/null
    rm -rf "$work/root"
fi

# What is committed or on its way there; not what lies around.
mkdir -p "$work/context"
(cd "$here" && git ls-files -z --cached --others --exclude-standard | tar --null -T - -cf -) | tar -xf - -C "$work/context"
mkdir -p "$work/context/.cargo"
# With --quiet it would not say how they are used.
(cd "$work/context" && cargo vendor --locked vendor >.cargo/config.toml 2>"$work/log") || {
    tail -20 "$work/log" >&2
    exit 1
}
grep -q '^directory = ' "$work/context/.cargo/config.toml" || {
    echo "dockerfile-build: cargo vendor has not said where it brought the dependencies" >&2
    exit 1
}
buildah build --isolation chroot --format oci --pull-never --build-arg "PROFILE=${PROFILE:-image}" --tag "$image" "$work/context"
