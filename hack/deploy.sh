#!/usr/bin/env bash
# Installs Meerkat into the cluster of the kubeconfig, or removes it.
#
#   hack/deploy.sh install KUSTOMIZE              the kinds alone
#   hack/deploy.sh uninstall KUSTOMIZE            the kinds, with all objects of them
#   hack/deploy.sh deploy KUSTOMIZE VERSION       everything but an Engine
#   hack/deploy.sh undeploy KUSTOMIZE VERSION     the Engine first, so that nodes are put back as they were found; then everything
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() { echo "usage: hack/deploy.sh install|uninstall|deploy|undeploy KUSTOMIZE [VERSION]" >&2; exit 2; }
[ $# -ge 2 ] || usage
action=$1 kustomize=$2 version=${3:-}
command -v kubectl >/dev/null || PATH=$(hack/kube/build.sh kubectl):$PATH

# detach deletes the Engine and waits until every node has put its Pods' network back. Without the kind there is none.
detach() {
  if ! kubectl get customresourcedefinition engines.inspection.meerkat.dev >/dev/null 2>&1; then return; fi
  echo '==> deleting the Engine: every node puts its Pods'"'"' network back first'
  if ! kubectl delete engines.inspection.meerkat.dev --all --timeout=10m; then
    echo "The Engine is still being deleted. See: kubectl describe engine default; kubectl -n meerkat-system get pods" >&2
    exit 1
  fi
}

case $action in
  install) "$kustomize" build config/crd | kubectl apply --server-side -f - ;;
  uninstall)
    detach
    "$kustomize" build config/crd | kubectl delete --ignore-not-found -f -
    ;;
  deploy)
    [ -n "$version" ] || usage
    hack/kustomize.sh "$kustomize" "$version" | kubectl apply --server-side -f -
    kubectl -n meerkat-system rollout status --timeout=5m deployment/meerkat-manager
    echo '==> installed; nothing is on nodes yet. To start: kubectl apply -f config/samples/engine.yaml'
    ;;
  undeploy)
    [ -n "$version" ] || usage
    detach
    hack/kustomize.sh "$kustomize" "$version" | kubectl delete --ignore-not-found -f -
    ;;
  *) usage ;;
esac
