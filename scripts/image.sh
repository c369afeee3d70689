#!/usr/bin/env bash
# Builds the image: image.sh ARCHIVE. The programs are built on this machine and put into the Dockerfile's last stage, so
# that no base image is needed. Leaves the image in buildah's store and, for clusters without a registry, in ARCHIVE (OCI).
#   IMAGE     its name (understudy.local/understudy:VERSION)
#   PROFILE   cargo's profile (image)
set -euo pipefail

archive=$1
here=$(cd "$(dirname "$0")/.." && pwd)
cd "$here"
command -v buildah >/dev/null || {
    echo "image: buildah is missing; apt-get install buildah" >&2
    exit 1
}
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
image=${IMAGE:-understudy.local/understudy:$version}
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
# MB. It was 35 when this was written.
most=40

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
scripts/static-build.sh "$work/programs"
mkdir -p "$work/build"
scripts/image-root.sh "$work/build/image" "$work/programs"
# The stage "build" is this folder instead of what the Dockerfile would make; its time is none, so that equal programs
# give an equal image.
buildah build --quiet --timestamp 0 --format oci --build-context "build=$work/build" \
    --build-arg "VERSION=$version" --build-arg "REVISION=$revision" --tag "$image" . >/dev/null
mkdir -p "$(dirname "$archive")"
rm -f "$archive.new"
buildah push --quiet "$image" "oci-archive:$archive.new:$image"
mv "$archive.new" "$archive"
size=$(du --apparent-size -sm "$work/build/image" | cut -f1)
if [ "$size" -gt "$most" ]; then
    echo "image: $size MB, over the $most MB that are allowed" >&2
    exit 1
fi
echo "image: $image, $size MB, in $archive"
