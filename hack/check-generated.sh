#!/usr/bin/env bash
# Fails when a generated file is not what its source gives now.
#
#   hack/check-generated.sh CONTROLLER-GEN KUSTOMIZE CRD-REF-DOCS
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

[ $# = 3 ] || { echo "usage: hack/check-generated.sh CONTROLLER-GEN KUSTOMIZE CRD-REF-DOCS" >&2; exit 2; }
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
hack/generate.sh object "$1" "$fresh/object"
hack/generate.sh crd "$1" "$fresh/crd"
hack/generate.sh rbac "$1" "$fresh/rbac"
mkdir "$fresh/dist"
hack/generate.sh installer "$2" "$fresh/dist"
mkdir "$fresh/docs"
hack/generate.sh docs "$3" "$fresh/docs"

hack/chart.sh "$2" "$fresh/chart"

stale=0
diff -u api/v1alpha1/zz_generated.deepcopy.go "$fresh/object/zz_generated.deepcopy.go" || stale=1
diff -ru config/crd/bases "$fresh/crd" || stale=1
diff -u config/rbac/role.yaml "$fresh/rbac/role.yaml" || stale=1
diff -u docs/api.md "$fresh/docs/api.md" || stale=1
diff -u dist/install.yaml "$fresh/dist/install.yaml" || stale=1
for directory in crds files templates; do
  for file in "$fresh/chart/$directory"/*; do
    diff -u "charts/meerkat/$directory/${file##*/}" "$file" || stale=1
  done
done
if [ $stale = 1 ]; then
  echo "Generated files are not current: run 'make generate' and commit what it changes." >&2
  exit 1
fi
