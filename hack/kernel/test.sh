#!/usr/bin/env bash
# Plays scenarios on Open vSwitch's kernel datapath, in an emulated machine: hack/kernel/test.sh [SCENARIO...]
# A scenario is the name of a directory of test/scenarios; without one, all are played. Needs root and Go; installs the rest.
#
# The machine is emulated whole (QEMU without KVM), so that this runs everywhere; it is some ten times slower than the one that it runs
# on. LABS (2) are played at a time, on two processors; PATIENCE (5) is the factor for the time limits of the scenarios; LIMIT (1200)
# is how many seconds the machine may take in all.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

labs=${LABS:-2} patience=${PATIENCE:-5} limit=${LIMIT:-1200}
started=$SECONDS
say() { printf '[%4ds] %s\n' $((SECONDS - started)) "$*"; }
die() { printf 'test-kernel: %s\n' "$*" >&2; exit 1; }

wanted=("$@")
[ $# -gt 0 ] || for file in test/scenarios/*/scenario.yaml; do wanted+=("$(basename "$(dirname "$file")")"); done
for name in "${wanted[@]}"; do
  [ -e "test/scenarios/$name/scenario.yaml" ] || die "there is no test/scenarios/$name/scenario.yaml"
done

hack/install-deps.sh kernel
image=$(hack/kernel/image.sh)
work=$(mktemp -d)
machine=
cleanup() {
  [ -z "$machine" ] || kill "$machine" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

say 'building meerkat'
mkdir -p "$work/root/play"
CGO_ENABLED=0 go build -o "$work/root/meerkat" ./cmd/meerkat
cp -a test/scenarios "$work/root/scenarios"
for name in "${wanted[@]}"; do ln -s "/scenarios/$name/scenario.yaml" "$work/root/play/$name"; done
printf 'LABS=%s PATIENCE=%s\n' "$labs" "$patience" >"$work/root/parameters"
install -m 755 hack/kernel/init "$work/root/init"
# The kernel unpacks one archive after the other.
{ cat "$image/base.cpio"; (cd "$work/root" && find . -mindepth 1 -print0 | cpio --null --quiet -o -H newc); } >"$work/initramfs.cpio"
rm -rf "$work/root"

say "starting the machine: ${#wanted[@]} scenarios, $labs at a time"
touch "$work/console" "$work/results"
# cx16 is off: with it, QEMU 7.2 now and then gives a kernel wrong flags, and it dies.
timeout "$limit" qemu-system-x86_64 -accel tcg,thread=multi -cpu max,-cx16 -smp 2 -m 4096 -nodefaults -display none -no-reboot \
  -kernel "$image/vmlinuz" -initrd "$work/initramfs.cpio" -append 'console=ttyS0 panic=-1 quiet mitigations=off apparmor=0' \
  -serial "file:$work/console" -serial "file:$work/results" </dev/null &
machine=$!

declare -A result=() took=() summary=()
ended=
while IFS= read -r line; do
  case $line in
  'PASSED '* | 'FAILED '*)
    read -r verdict name seconds text <<<"$line"
    result[$name]=${verdict,,} took[$name]=$seconds summary[$name]=$text
    say "${verdict,,} $name, ${seconds}s ($((${#result[@]})) of ${#wanted[@]})"
    ;;
  '| '*) printf '    %s\n' "${line#| }" ;;
  END) ended=1 ;;
  *) printf '%s\n' "$line" ;;
  esac
done < <(tail -n +1 -f --pid="$machine" "$work/results" 2>/dev/null)
code=0
wait "$machine" || code=$?
machine=

bad=0
printf '\n   %-32s %7s  %s\n' SCENARIO SECONDS RESULT
for name in "${wanted[@]}"; do
  mark=✓
  if [ "${result[$name]:-}" != passed ]; then mark=✗ bad=$((bad + 1)); fi
  printf '%s  %-32s %7s  %s\n' "$mark" "$name" "${took[$name]:-}" "${summary[$name]:-was not played to its end}"
done
if [ -z "$ended" ]; then
  printf '\nthe machine ended before all was played (exit code %s; 124: it took longer than %s s). The end of its console:\n' "$code" "$limit"
  tail -n 40 "$work/console"
fi
printf '\nkernel datapath: %s of %s scenarios as expected, in %s s\n' $((${#wanted[@]} - bad)) ${#wanted[@]} $((SECONDS - started))
[ $bad = 0 ] && [ -n "$ended" ]
