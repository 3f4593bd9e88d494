#!/usr/bin/env bash
# Runs each fuzz test of the project for a time, one after another.
#
#   hack/fuzz.sh 30s
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

time=${1:-30s}
found=0
while IFS=: read -r file name; do
  found=1
  package=./$(dirname "$file")
  printf '==> fuzzing %s in %s for %s\n' "$name" "$package" "$time"
  # Go minimises each interesting input for up to a minute by default, and tries nothing new meanwhile.
  go test -run '^$' -fuzz "^$name\$" -fuzztime "$time" -fuzzminimizetime 10x "$package"
done < <(git ls-files -co --exclude-standard '*_test.go' | xargs -r grep -HoE '^func Fuzz[A-Za-z0-9_]+' | sed 's/func //' | sort)
[ $found = 1 ] || { echo "hack/fuzz.sh: the project has no fuzz test" >&2; exit 1; }
