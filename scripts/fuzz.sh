#!/usr/bin/env bash
# Builds the fuzz targets with coverage instrumentation and runs each for FUZZ_SECONDS (default 600), or only those named.
# As many at once as there are processors (FUZZ_JOBS). The corpus is kept between runs; an input that breaks a decoder is left in the folder that is printed, and the script fails.
# RUSTC_BOOTSTRAP lets the stable toolchain take what cargo-fuzz passes; `cargo fuzz run TARGET` works beside this script.
set -euo pipefail
cd "$(dirname "$0")/../fuzz"

cache=${XDG_CACHE_HOME:-$HOME/.cache}/understudy
seconds=${FUZZ_SECONDS:-600}
host=$(rustc -vV | sed -n 's/^host: //p')
export RUSTC_BOOTSTRAP=1
export CARGO_TARGET_DIR=$cache/target-fuzz
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
  -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
cargo build --release --target "$host" --bins

# A real log and a real control file to begin with.
bin=${UNDERSTUDY_BIN_DIR:-$cache/target/release}
if [ -x "$bin/understudy" ]; then
    made=$(mktemp -d)
    trap 'rm -rf "$made"' EXIT
    "$bin/understudy" initdb -D "$made/data" --no-locale -N -A trust -U postgres --wal-segsize=1 >/dev/null 2>&1
    mkdir -p "$cache/fuzz-corpus/wal" "$cache/fuzz-corpus/control_file"
    head -c 65536 "$made/data/pg_wal/000000010000000000000001" >"$cache/fuzz-corpus/wal/real"
    cp "$made/data/global/pg_control" "$cache/fuzz-corpus/control_file/real"
fi

targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
    targets=()
    for file in fuzz_targets/*.rs; do targets+=("$(basename "$file" .rs)"); done
fi
run() { # target; its output goes to a file, which is shown when it ends
    local target=$1 seeds=() corpus=$cache/fuzz-corpus/$1 findings=$cache/fuzz-findings/$1
    mkdir -p "$corpus" "$findings"
    if [ -d "seeds/$target" ]; then seeds=("seeds/$target"); fi
    "$CARGO_TARGET_DIR/$host/release/$target" "$corpus" "${seeds[@]}" -max_total_time="$seconds" -timeout=10 \
        -rss_limit_mb=2048 -max_len=65536 -artifact_prefix="$findings/" -print_final_stats=1 -verbosity=0 \
        >"$output/$target" 2>&1
}

output=$(mktemp -d)
trap 'rm -rf "$output" ${made:+"$made"}' EXIT
failed=()
width=${FUZZ_JOBS:-$(nproc)}
for ((at = 0; at < ${#targets[@]}; at += width)); do
    together=("${targets[@]:at:width}")
    echo "fuzz: ${together[*]} for $seconds s"
    jobs=()
    for target in "${together[@]}"; do
        run "$target" &
        jobs+=($!)
    done
    for n in "${!together[@]}"; do
        target=${together[n]}
        wait "${jobs[n]}" || failed+=("$target: see $cache/fuzz-findings/$target")
        echo "fuzz: $target: $(grep -o 'number_of_executed_units.*' "$output/$target" || tail -n 40 "$output/$target")"
    done
done
if [ ${#failed[@]} -gt 0 ]; then
    printf 'fuzz: broken: %s\n' "${failed[@]}"
    exit 1
fi
echo "fuzz: ${#targets[@]} targets ran without a finding"
