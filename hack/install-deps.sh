#!/usr/bin/env bash
# Installs what Meerkat's lab and tests need on Debian 12 and that is missing:
# Open vSwitch, the tools that the probes use, and Suricata 8.
#
#   hack/install-deps.sh            what `make demo` and `make test` need
#   hack/install-deps.sh bench      also HAProxy and wrk, for `make bench`
#   hack/install-deps.sh kernel     only what `make test-kernel` needs: QEMU, and the Debian 13 tree
#
# Idempotent: a second run prints nothing and changes nothing. Needs root.
# Suricata 8 is not in Debian 12. It comes from Debian 13's backports, in a
# tree of its own under $MEERKAT_CACHE, run through that tree's dynamic loader;
# nothing of Debian 13 is installed on the host.
set -euo pipefail

cache=${MEERKAT_CACHE:-/var/cache/meerkat}
tree=$cache/trixie
started=$SECONDS
export DEBIAN_FRONTEND=noninteractive LC_ALL=C

say() { printf '[%3ds] %s\n' $((SECONDS - started)) "$*" >&2; }
die() { printf 'install-deps: %s\n' "$*" >&2; exit 1; }

# quietly LOG-NAME COMMAND...: shows the end of the command's output only when it fails.
quietly() {
  local log=$cache/log/$1.log
  shift
  mkdir -p "$cache/log"
  "$@" >"$log" 2>&1 </dev/null || { tail -n 20 "$log" >&2; die "'$*' failed; its whole output is in $log"; }
}

[ "$(id -u)" = 0 ] || die "must run as root (it installs packages); try: sudo make demo"
command -v apt-get >/dev/null || die "this machine has no apt-get. Install Open vSwitch >= 3.1, Suricata >= 8.0, curl and tcpdump by hand, then set MEERKAT_SURICATA to Suricata's path"

packages() {
  local wanted=() p
  for p in "$@"; do
    dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || wanted+=("$p")
  done
  [ ${#wanted[@]} -gt 0 ] || return 0
  say "installing ${wanted[*]} (Debian packages)"
  # The lab starts daemons of its own: keep the packages from starting the system's.
  local policy=/usr/sbin/policy-rc.d made=
  if [ ! -e $policy ]; then printf '#!/bin/sh\nexit 101\n' >$policy; chmod +x $policy; made=1; fi
  # shellcheck disable=SC2064
  [ -z "$made" ] || trap "rm -f $policy" EXIT
  quietly apt-update timeout 300 apt-get update
  quietly apt-install timeout 600 apt-get install -y --no-install-recommends "${wanted[@]}"
  [ -z "$made" ] || rm -f $policy
}

# The major version that the program answers to -V, or 0.
suricata_major() { { timeout 10 "$1" -V 2>/dev/null || true; } | sed -n 's/.*version \([0-9]*\)\..*/\1/p' | grep . || echo 0; }

suricata() {
  local have
  for have in "${MEERKAT_SURICATA:-}" "$(command -v suricata || true)" "$cache/bin/suricata"; do
    [ -n "$have" ] && [ -x "$have" ] && [ "$(suricata_major "$have")" -ge 8 ] && return 0
  done
  debian13
  mkdir -p "$cache/bin"
  cat >"$cache/bin/suricata" <<WRAPPER
#!/bin/sh
# Runs Debian 13's Suricata on this host, through its own dynamic loader and libraries.
exec $tree/lib64/ld-linux-x86-64.so.2 --library-path $tree/usr/lib/x86_64-linux-gnu $tree/usr/bin/suricata "\$@"
WRAPPER
  chmod +x "$cache/bin/suricata"
  [ "$(suricata_major "$cache/bin/suricata")" -ge 8 ] || die "Suricata in $tree does not answer as version 8; remove $cache and run this again"
}

# The tree: a Debian 13 with Suricata 8.
debian13() {
  local status
  status=$(dpkg-query --admindir="$tree/var/lib/dpkg" -W -f '${Status}' suricata 2>/dev/null || true)
  [ ! -e "$tree/.bootstrapped" ] || [ "$status" != 'install ok installed' ] || return 0
  packages debootstrap ca-certificates
  if [ ! -e "$tree/.bootstrapped" ]; then
    say "building a Debian 13 tree for Suricata 8 in $tree (about one minute)"
    rm -rf "$tree"
    mkdir -p "$cache"
    # The machine's own Debian source entry, with the suite's name changed: whichever mirror it uses serves Debian 13 too.
    local mirror
    mirror=$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/debian.sources 2>/dev/null | head -n 1)
    [ -n "$mirror" ] || mirror=$(sed -n 's/^deb \(\[[^]]*\] \)\?\([^ ]*\) .*/\2/p' /etc/apt/sources.list 2>/dev/null | head -n 1)
    [ -n "$mirror" ] || die "found no Debian source in /etc/apt; add one and run this again"
    quietly debootstrap timeout 900 debootstrap --variant=minbase --include=ca-certificates trixie "$tree" "$mirror"
    echo "deb $mirror trixie-backports main" >"$tree/etc/apt/sources.list.d/backports.list"
    touch "$tree/.bootstrapped"
  fi
  say "installing Suricata 8 from trixie-backports (about twenty seconds)"
  cp /etc/resolv.conf "$tree/etc/resolv.conf" 2>/dev/null || true
  quietly suricata-update-lists timeout 300 chroot "$tree" apt-get update
  quietly suricata-install timeout 600 chroot "$tree" apt-get install -y --no-install-recommends -t trixie-backports suricata
  rm -rf "$tree"/var/cache/apt/archives/*.deb "$tree"/var/lib/apt/lists/* "$tree"/usr/share/{doc,man,locale}
}

if [ "${1:-}" = kernel ]; then
  packages qemu-system-x86 cpio
  debian13
  exit
fi
packages openvswitch-switch nftables ethtool curl tcpdump iproute2 ca-certificates procps
[ "${1:-}" != bench ] || packages haproxy wrk
suricata
