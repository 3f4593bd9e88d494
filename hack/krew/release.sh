#!/usr/bin/env bash
# Builds the archives of the kubectl plugin, and the manifest for krew that names them with their checksums.
#
#   hack/krew/release.sh v0.1.0 DIRECTORY
#
# To try it: kubectl krew install --manifest DIRECTORY/meerkat.yaml --archive DIRECTORY/kubectl-meerkat_linux_amd64.tar.gz
set -euo pipefail
[ $# = 2 ] || { echo "usage: hack/krew/release.sh VERSION DIRECTORY" >&2; exit 2; }
[[ $1 =~ ^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$ ]] || { echo "hack/krew/release.sh: '$1' is no version such as v0.1.0" >&2; exit 2; }
version=$1
mkdir -p "$2"
out=$(cd "$2" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sed -e "s/VERSION/$version/g" -e '/^# The manifest/d' hack/krew/meerkat.yaml >"$work/meerkat.yaml"
for arch in ${ARCHS:-amd64 arm64}; do
  CGO_ENABLED=0 GOOS=linux GOARCH=$arch go build -trimpath -ldflags "-s -w -X main.version=$version" -o "$work/kubectl-meerkat" ./cmd/meerkat
  archive=kubectl-meerkat_linux_$arch.tar.gz
  # The same input gives the same bytes, and so the same checksum.
  tar --sort=name --mtime='2000-01-01 00:00Z' --owner=0 --group=0 --numeric-owner -C "$work" -cf - kubectl-meerkat -C "$PWD" LICENSE |
    gzip -n >"$out/$archive"
  read -r sum _ < <(sha256sum "$out/$archive")
  sed -i "s/SHA256_linux_$arch/$sum/" "$work/meerkat.yaml"
done
cp "$work/meerkat.yaml" "$out/meerkat.yaml"
echo "$out/meerkat.yaml"
