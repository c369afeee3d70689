#!/usr/bin/env bash
# Lays out what the image has: image-root.sh FOLDER PROGRAMS.
set -euo pipefail

root=$1 programs=$2
here=$(cd "$(dirname "$0")/.." && pwd)
rm -rf "$root"
install -d -m 0755 "$root" "$root/etc" "$root/usr/local/bin" "$root/var/lib" "$root/run"
install -m 0644 "$here"/image/etc/* "$root/etc/"
install -m 0755 "$programs/understudy" "$programs/understudy-operator" "$root/usr/local/bin/"
for name in initdb pg_ctl postgres; do
    ln -s understudy "$root/usr/local/bin/$name"
done
install -d -m 1777 "$root/tmp"
# Mounts on Kubernetes. Without, they are the server's user's to write.
install -d -m 1777 "$root/run/understudy" "$root/var/lib/understudy"
