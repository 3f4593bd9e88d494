#!/usr/bin/env bash
# Prints what is installed into a cluster, with images of one version.
#
#   hack/kustomize.sh KUSTOMIZE VERSION    as make deploy and make build-installer do
#
# IMAGES, by environment, puts the images below another registry: IMAGES=registry.example/meerkat.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

[ $# = 2 ] || { echo "usage: hack/kustomize.sh KUSTOMIZE VERSION" >&2; exit 2; }
kustomize=$1 version=$2 images=${IMAGES:-meerkat-dev}

# An overlay of its own, so that no file of the repository is edited. Kustomize takes resources by relative path only.
mkdir -p bin
overlay=$(mktemp -d bin/overlay.XXXXXX)
trap 'rm -rf "$overlay"' EXIT
cat >"$overlay/kustomization.yaml" <<END
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources:
- ../../config/default
images:
- name: meerkat-dev/manager
  newName: $images/manager
  newTag: $version
patches:
- target:
    kind: Deployment
    name: meerkat-manager
  patch: |-
    - {op: add, path: /spec/template/spec/containers/0/env/-, value: {name: AGENT_IMAGE, value: "$images/agent:$version"}}
    - {op: add, path: /spec/template/spec/containers/0/env/-, value: {name: ENGINE_IMAGE, value: "$images/engine:$version"}}
    - {op: add, path: /spec/template/spec/containers/0/env/-, value: {name: SWITCH_IMAGE, value: "$images/switch:$version"}}
END
"$kustomize" build "$overlay"
