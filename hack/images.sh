#!/usr/bin/env bash
# Builds container images without a container engine, and prints the directory that holds their archives, NAME.tar.
#
#   hack/images.sh                       manager, agent, engine, switch, and the workload of test/e2e
#   hack/images.sh manager agent         only these
#   hack/images.sh pause                 what hack/cluster needs for itself
#
# The archives are in Docker's format, named meerkat-dev/NAME:TAG (TAG=dev). Their base is a Debian 13 tree of debootstrap, from the
# mirror that this machine uses. What does not change is kept in $MEERKAT_CACHE/images; a second run only copies new programs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cache=${MEERKAT_CACHE:-/var/cache/meerkat}/images
tag=${TAG:-dev}
context=bin/linux_$(go env GOARCH)
started=$SECONDS
say() { printf '[%3ds] %s\n' $((SECONDS - started)) "$*" >&2; }
die() { printf 'images: %s\n' "$*" >&2; exit 1; }

names=("$@")
[ $# -gt 0 ] || names=(manager agent engine switch workload)
command -v buildah >/dev/null || die 'buildah is not installed: run hack/install-deps.sh cluster'
mkdir -p "$cache/log" "$context"
exec 9>"$cache/lock" # the store of images takes one writer
flock -n 9 || { say 'waiting for another build of images'; flock 9; }

build() { buildah --root "$cache/storage" --runroot "$cache/run" --storage-driver overlay "$@" 9>&-; }

# quietly LOG-NAME COMMAND...: shows the end of the command's output only when it fails.
quietly() {
  local log=$cache/log/$1.log
  shift
  "$@" >"$log" 2>&1 </dev/null || { tail -n 20 "$log" >&2; die "'$*' failed; its whole output is in $log"; }
}

# program NAME PACKAGE: a static program in the context, whose file changes only when the program does.
program() {
  CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$tag" -o "$context/.$1" "$2" 9>&- || die "$2 does not build"
  if cmp -s "$context/.$1" "$context/$1"; then rm "$context/.$1"; else mv "$context/.$1" "$context/$1"; fi
}

programs() {
  case $1 in
  agent) program agent ./cmd/agent && program meerkat-cni ./cmd/meerkat-cni ;;
  pause) program pause ./hack/cluster/pause ;;
  workload) program workload ./test/e2e/workload && cp test/e2e/workload/nginx.conf "$context/" ;;
  *) program "$1" "./cmd/$1" ;;
  esac
}

# base makes the image debian:trixie-slim, once.
base() {
  ! build inspect --type image localhost/debian:trixie-slim >/dev/null 2>&1 || return 0
  say 'building the base image, Debian 13 (about a minute)'
  local mirror tree=$cache/debian
  mirror=$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/debian.sources 2>/dev/null | head -n 1)
  [ -n "$mirror" ] || mirror=$(sed -n 's/^deb \(\[[^]]*\] \)\?\([^ ]*\) .*/\2/p' /etc/apt/sources.list 2>/dev/null | head -n 1)
  [ -n "$mirror" ] || die 'found no Debian source in /etc/apt; add one and run this again'
  rm -rf "$tree"
  quietly debootstrap timeout 900 debootstrap --variant=minbase --include=ca-certificates trixie "$tree" "$mirror"
  rm -rf "$tree"/{dev,proc,sys,run,tmp}/* "$tree"/var/{cache,log}/* "$tree"/var/lib/apt/lists/* "$tree"/usr/share/{doc,man,locale,info}/* \
    "$tree/etc/resolv.conf" "$tree/etc/hostname" "$tree/etc/apt/sources.list"
  mkdir -p "$tree/var/cache/apt/archives/partial" "$tree/var/lib/apt/lists/partial" "$tree/var/log/apt"
  printf 'Types: deb\nURIs: %s\nSuites: trixie\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' \
    "$mirror" >"$tree/etc/apt/sources.list.d/debian.sources"
  printf '#!/bin/sh\nexit 101\n' >"$tree/usr/sbin/policy-rc.d"
  chmod +x "$tree/usr/sbin/policy-rc.d"
  local container
  container=$(build from scratch)
  tar -C "$tree" -cf "$cache/debian.tar" .
  quietly base-add build add "$container" "$cache/debian.tar" /
  build config --cmd bash --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
  quietly base-commit build commit --rm "$container" localhost/debian:trixie-slim
  rm -rf "$tree" "$cache/debian.tar"
}

image() {
  local name=$1 full=localhost/meerkat-dev/$1:$tag id
  build bud --layers --isolation chroot --pull-never --file "build/$name.Dockerfile" --tag "$full" "$context"
  id=$(build inspect --type image --format '{{.FromImageID}}' "$full")
  [ "$id $tag" != "$(cat "$cache/$name.id" 2>/dev/null)" ] || [ ! -e "$cache/$name.tar" ] || return 0
  rm -f "$cache/$name.tar" "$cache/$name.id"
  build push "$full" "docker-archive:$cache/$name.tar:meerkat-dev/$name:$tag"
  echo "$id $tag" >"$cache/$name.id"
}

for name in "${names[@]}"; do
  [ -e "build/$name.Dockerfile" ] || die "there is no build/$name.Dockerfile"
done
say "building the programs of ${names[*]}"
for name in "${names[@]}"; do programs "$name"; done
cp /etc/ssl/certs/ca-certificates.crt "$context/"
for name in "${names[@]}"; do
  if grep -q '^ARG BASE=debian' "build/$name.Dockerfile"; then base; fi
  say "building the image of $name (a minute the first time)"
  quietly "image-$name" image "$name"
done
quietly prune build rmi --prune # images that newer ones have replaced; what those are made of stays
echo "$cache"
