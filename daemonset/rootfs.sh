#!/bin/sh
# The image's file system without a container engine: sh daemonset/rootfs.sh FOLDER (as root; mmdebstrap and a network).
# The same two stages and the same packages as the Dockerfile, read from it, so that both cannot drift apart. In place of
# the image python: it has Debian's own python3, of the release that the image is named after.
set -eu
[ $# -eq 1 ] && [ ! -e "$1" ] || { echo "usage: $0 FOLDER, which is not there yet" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
root=$(realpath -m "$1")
build=$root.build
dockerfile=$here/Dockerfile
release=$(sed -n 's/^ARG PYTHON=python:.*-slim-\([a-z]*\)$/\1/p' "$dockerfile")
packages() { # the packages that the Nth `apt-get install` of the Dockerfile names
  sed -n 's/.*apt-get install -y --no-install-recommends \([a-z0-9 .-]*[a-z0-9]\).*/\1/p' "$dockerfile" | sed -n "$1p" | tr ' ' ','
}
trap 'rm -rf "$build"' EXIT

mmdebstrap --quiet --variant=minbase --include="ca-certificates,python3-dev,python3-venv,$(packages 1)" "$release" "$build"
mkdir "$build/src"
(cd "$here/.." && tar -cf - pyproject.toml README.md LICENSE src) | tar -xf - -C "$build/src"
# The name servers and authorities of this machine, which may be those of a proxy.
cp /etc/resolv.conf "$build/etc/resolv.conf"
cp /etc/ssl/certs/ca-certificates.crt "$build/etc/ssl/certs/ca-certificates.crt"
chroot "$build" python3 -m venv /opt/netk8s
chroot "$build" env PIP_CERT=/etc/ssl/certs/ca-certificates.crt sh -c "cd /src && /opt/netk8s/bin/pip install --quiet --no-cache-dir '.[agent]'"

mmdebstrap --quiet --variant=minbase --include="python3,$(packages 2)" "$release" "$root"
cp -a "$build/opt/netk8s" "$root/opt/netk8s"
du -sm "$root" | cut -f1 | sed 's/$/ MiB/'
