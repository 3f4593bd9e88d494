#!/usr/bin/env bash
# Runs the tests of packages: hack/test.sh PACKAGE... -- FLAG...
# Most tests wait more than they work, so four packages run at once, those that take longest first, and of a package up to four of the tests
# that may run side by side (t.Parallel). The integration tests run after them, four labs at a time as well, since the others would take
# their processor away; those of them that measure short times run one by one before the rest. Tests under load and under failure measure
# time for minutes: "./..." leaves them out, and they run last and alone when they are named. It leaves out as well the tests of how much
# memory agents take, a minute each: make test-load runs them.
set -euo pipefail

packages=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do packages+=("$1"); shift; done
shift

long=() together=() alone=()
for package in $(go list "${packages[@]}"); do
  case $package in
  */test/load | */test/failure) [ "${packages[*]}" = ./... ] || alone+=("$package") ;;
  */test/integration) alone+=("$package") ;;
  */test/agent | */dataplane/engine | */dataplane/openflow | */test/scale | */test/cni) long+=("$package") ;;
  *) together+=("$package") ;;
  esac
done

together=(${long[@]+"${long[@]}"} ${together[@]+"${together[@]}"})

[ "${packages[*]}" != ./... ] || set -- -skip '^TestMemory(Signatures)?$' "$@"

failed=0
if [ ${#together[@]} -gt 0 ]; then
  go test -p 4 -parallel 4 -timeout 1200s "$@" "${together[@]}" || failed=1
fi
for package in ${alone[@]+"${alone[@]}"}; do
  few=()
  [[ $package != */test/integration ]] || few=(-parallel 4) # its labs wait more than they work, too
  go test "${few[@]}" -timeout 1800s "$@" "$package" || failed=1
done
exit $failed
