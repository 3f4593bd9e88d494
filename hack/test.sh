#!/usr/bin/env bash
# Runs the tests of packages: hack/test.sh PACKAGE... -- FLAG...
# The integration tests run alone, since the others would take their processor away. Tests under load and under failure measure
# time for minutes: "./..." leaves them out, and they run last and alone when they are named.
set -euo pipefail

packages=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do packages+=("$1"); shift; done
shift

together=() alone=()
for package in $(go list "${packages[@]}"); do
  case $package in
  */test/load | */test/failure) [ "${packages[*]}" = ./... ] || alone+=("$package") ;;
  */test/integration) alone+=("$package") ;;
  *) together+=("$package") ;;
  esac
done

failed=0
if [ ${#together[@]} -gt 0 ]; then
  go test -p 2 -timeout 1200s "$@" "${together[@]}" || failed=1
fi
if [ ${#alone[@]} -gt 0 ]; then
  go test -p 1 -timeout 1800s "$@" "${alone[@]}" || failed=1
fi
exit $failed
