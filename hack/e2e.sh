#!/usr/bin/env bash
# Installs Meerkat into a real cluster, tests it there, and removes both: hack/e2e.sh [FLAG...]   flags of go test, as -run
#
# The cluster is this machine's own (hack/cluster). Settings, by environment:
#   KEEP=1                           leave the cluster up, for a look at it; the next run uses it
#   NODES=2                          how many nodes it has
#   KUBE_PROXY=nftables              kube-proxy's mode: nftables, or iptables
#   MEERKAT_E2E_USE_KUBECONFIG=1     use the cluster of $KUBECONFIG instead; images meerkat-dev/NAME:dev must be there already (on
#                                    kind: make images, then kind load image-archive $MEERKAT_CACHE/images/NAME.tar)
#   MEERKAT_E2E_NODE_EXEC='docker exec'   with it, what runs a command on a node: followed by the node's name and the command
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

started=$SECONDS
say() { printf '[%4ds] %s\n' $((SECONDS - started)) "$*" >&2; }

if [ -z "${MEERKAT_E2E_USE_KUBECONFIG:-}" ]; then
  name=e2e
  work=$(mktemp -d)
  cleanup() {
    if [ -z "${KEEP:-}" ]; then
      [ ! -x "$work/cluster" ] || { say 'stopping the cluster'; "$work/cluster" down -name $name; }
    elif [ -n "${KUBECONFIG:-}" ]; then
      say "the cluster stays up: export KUBECONFIG=$KUBECONFIG; go run ./hack/cluster down -name $name"
    fi
    rm -rf "$work"
  }
  trap cleanup EXIT
  trap 'exit 130' INT TERM

  hack/install-deps.sh cluster
  say 'building Kubernetes, where it is not built yet'
  bin=$(hack/kube/build.sh)
  PATH=$bin:$PATH
  say 'building images'
  images=$(hack/images.sh)
  say 'starting the cluster'
  go build -o "$work/cluster" ./hack/cluster
  "$work/cluster" up -name $name -nodes "${NODES:-2}" -kube-proxy "${KUBE_PROXY:-nftables}" >/dev/null
  KUBECONFIG=$("$work/cluster" kubeconfig -name $name)
  export KUBECONFIG
  "$work/cluster" import -name $name "$images"/{manager,agent,engine,switch,workload}.tar
  export MEERKAT_E2E_NODE_EXEC="$work/cluster exec -name $name"
  export MEERKAT_E2E_SERVICE="$work/cluster SERVICE -name $name"
fi
say 'testing'
MEERKAT_E2E=1 go test -count=1 -timeout 40m -v ./test/e2e "$@"
