#!/usr/bin/env bash
# Generates code or manifests from the API's types into a directory.
#
#   hack/generate.sh object CONTROLLER-GEN DIRECTORY    deep copies of api/v1alpha1
#   hack/generate.sh crd CONTROLLER-GEN DIRECTORY       CustomResourceDefinitions
#   hack/generate.sh rbac CONTROLLER-GEN DIRECTORY      the manager's roles
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

[ $# = 3 ] || { echo "usage: hack/generate.sh object|crd|rbac CONTROLLER-GEN DIRECTORY" >&2; exit 2; }
case $1 in
  object) "$2" object:headerFile=hack/boilerplate.go.txt,year=2026 paths=./api/v1alpha1 "output:object:dir=$3" ;;
  crd) "$2" crd paths=./api/... "output:crd:artifacts:config=$3" ;;
  rbac) "$2" rbac:roleName=meerkat-manager "paths={./cmd/manager/...,./controllers/...}" "output:rbac:artifacts:config=$3" ;;
  *) echo "hack/generate.sh: '$1' is not generated; write object, crd or rbac" >&2; exit 2 ;;
esac
