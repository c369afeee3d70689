#!/usr/bin/env bash
# Builds both programs so that they need no library at run time, and puts them, without debugging data, into a folder.
# Usage: static-build.sh FOLDER. PROFILE is cargo's (image by default).
set -euo pipefail

out=$1
profile=${PROFILE:-image}
target=$(rustc -vV | sed -n 's/^host: //p')
case $target in
*-linux-gnu) ;;
*)
    echo "static-build: a Linux host with the GNU C library is needed, this is $target" >&2
    exit 1
    ;;
esac
# With the target named, the flag is not for build scripts and macros, which cannot be static.
export RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static"
cargo build --locked --profile "$profile" --target "$target" -p engine -p operator --bins
built=${CARGO_TARGET_DIR:-target}/$target/$([ "$profile" = dev ] && echo debug || echo "$profile")
mkdir -p "$out"
for program in understudy understudy-operator; do
    # All is read: a grep that leaves early would let the pipe fail where there is a linker.
    if readelf -l "$built/$program" | grep INTERP >/dev/null; then
        echo "static-build: $program asks for a dynamic linker: it is not static" >&2
        exit 1
    fi
    # Names of functions stay, for backtraces.
    strip --strip-debug -o "$out/$program" "$built/$program"
done
