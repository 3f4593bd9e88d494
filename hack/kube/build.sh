#!/usr/bin/env bash
# Builds etcd and Kubernetes from the Go module proxy, at the exact versions of go.mod, and prints the directory that holds them.
#
#   hack/kube/build.sh                               all: etcd, the control plane, kubelet, kube-proxy, kubectl (about nine minutes)
#   hack/kube/build.sh etcd kube-apiserver kubectl   what a test against an API server needs (about five minutes)
#   hack/kube/build.sh --path                        only prints the directory
#
# What is there is not built again. Programs go to $MEERKAT_CACHE/kube/VERSION/bin; progress goes to standard error.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here"

cache=${MEERKAT_CACHE:-/var/cache/meerkat}
version=$(awk '$1 == "k8s.io/kubernetes" { print $2; exit }' go.mod)
bin=$cache/kube/$version/bin
started=$SECONDS
say() { printf '[%3ds] %s\n' $((SECONDS - started)) "$*" >&2; }

[ "${1:-}" != --path ] || { echo "$bin"; exit; }
names=("$@")
[ $# -gt 0 ] || names=(etcd kube-apiserver kubectl kube-controller-manager kube-scheduler kubelet kube-proxy)

# package NAME: where the program's main package is.
package() {
  case $1 in
  etcd) echo go.etcd.io/etcd/server/v3 ;;
  kube-apiserver | kube-controller-manager | kube-proxy | kube-scheduler | kubectl | kubelet) echo "k8s.io/kubernetes/cmd/$1" ;;
  *) echo "hack/kube/build.sh: '$1' is not built here; write etcd, kubectl, kubelet, kube-proxy, or a part of the control plane" >&2; return 2 ;;
  esac
}

missing=()
for name in "${names[@]}"; do
  package "$name" >/dev/null
  [ -x "$bin/$name" ] || missing+=("$name")
done
if [ ${#missing[@]} -gt 0 ]; then
  mkdir -p "$bin"
  exec 9>"$cache/kube/lock" # two commands at once would build the same twice
  flock -n 9 || { say 'waiting for another build of Kubernetes'; flock 9; }
  read -r major minor <<<"$(sed 's/^v\([0-9]*\)\.\([0-9]*\)\..*/\1 \2/' <<<"$version")"
  flags='-s -w'
  for stamped in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    flags+=" -X $stamped.gitVersion=$version -X $stamped.gitMajor=$major -X $stamped.gitMinor=$minor -X $stamped.gitTreeState=clean"
  done
  for name in "${missing[@]}"; do
    [ ! -x "$bin/$name" ] || continue
    say "building $name of Kubernetes $version (minutes the first time)"
    CGO_ENABLED=0 GOFLAGS=-mod=readonly go build -trimpath -buildvcs=false -ldflags "$flags" -o "$bin/.$name.$$" "$(package "$name")" 9>&-
    mv "$bin/.$name.$$" "$bin/$name"
  done
fi
echo "$bin"
