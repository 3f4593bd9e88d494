#!/usr/bin/env bash
# Installs what Meerkat's lab and tests need on Debian 12 and that is missing:
# Suricata 8, Open vSwitch 3.5, the tools that the probes use, rsyslog, the
# suricata-update that Meerkat is compared with, and promtool.
#
#   hack/install-deps.sh            what `make demo` and `make test` need
#   hack/install-deps.sh bench      also HAProxy and wrk, for `make bench`
#   hack/install-deps.sh cluster    also containerd, runc, the CNI plugins and buildah, for `make e2e`
#   hack/install-deps.sh kernel     only what `make test-kernel` needs: QEMU, and the Debian 13 tree
#
# Idempotent: a second run prints nothing and changes nothing. Needs root.
# Debian 12 has neither Suricata 8 nor an Open vSwitch >= 3.3. They come from
# Debian 13 (and its backports), in a tree of its own under $MEERKAT_CACHE, run
# through that tree's dynamic loader; nothing of Debian 13 is installed on the
# host, and no daemon is started.
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
command -v apt-get >/dev/null || die "this machine has no apt-get. Install Open vSwitch >= 3.3, Suricata >= 8.0, curl and tcpdump by hand, then set MEERKAT_SURICATA to Suricata's path and MEERKAT_OVS to the directory of Open vSwitch's programs"

packages() {
  local wanted=() p
  for p in "$@"; do
    installed "$p" || wanted+=("$p")
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

# installed PACKAGE [OPTION]: whether dpkg has it.
installed() { dpkg-query "${@:2}" -W -f '${Status}' "$1" 2>/dev/null | grep -qx 'install ok installed'; }

# The major version that the program answers to -V, or 0.
suricata_major() { { timeout 10 "$1" -V 2>/dev/null || true; } | sed -n 's/.*version \([0-9]*\)\..*/\1/p' | grep . || echo 0; }

# The version that ovs-vswitchd answers, as a number such as 305 for 3.5, or 0.
ovs_version() {
  { timeout 10 "$1" --version 2>/dev/null || true; } | sed -n 's/.*(Open vSwitch) \([0-9]*\)\.\([0-9]*\).*/\1 \2/p' |
    { read -r major minor && echo $((major * 100 + minor)) || echo 0; }
}

suricata() {
  local have
  for have in "${MEERKAT_SURICATA:-}" "$(command -v suricata || true)" "$cache/bin/suricata"; do
    [ -n "$have" ] && [ -x "$have" ] && [ "$(suricata_major "$have")" -ge 8 ] && return 0
  done
  debian13
  wrapper suricata usr/bin/suricata
  [ "$(suricata_major "$cache/bin/suricata")" -ge 8 ] || die "Suricata in $tree does not answer as version 8; remove $cache and run this again"
}

openvswitch() {
  local have p
  for have in "${MEERKAT_OVS:+$MEERKAT_OVS/ovs-vswitchd}" "$(command -v ovs-vswitchd || true)" "$cache/bin/ovs-vswitchd"; do
    [ -n "$have" ] && [ -x "$have" ] && [ "$(ovs_version "$have")" -ge 303 ] && return 0
  done
  debian13
  for p in bin/ovs-ofctl bin/ovs-vsctl bin/ovs-appctl bin/ovsdb-tool sbin/ovsdb-server lib/openvswitch-switch/ovs-vswitchd; do
    wrapper "$(basename $p)" "usr/$p" # ovs-vswitchd, by which all are found to be there, comes last
  done
  [ "$(ovs_version "$cache/bin/ovs-vswitchd")" -ge 303 ] || die "Open vSwitch in $tree does not answer as version 3.3 or newer; remove $cache and run this again"
}

# wrapper NAME PROGRAM: a NAME that runs a program of the tree on this host.
wrapper() {
  mkdir -p "$cache/bin"
  cat >"$cache/bin/.$1" <<WRAPPER
#!/bin/sh
# Runs Debian 13's $1 on this host, through its own dynamic loader and libraries.
exec $tree/lib64/ld-linux-x86-64.so.2 --argv0 $1 --library-path $tree/usr/lib/x86_64-linux-gnu $tree/$2 "\$@"
WRAPPER
  chmod +x "$cache/bin/.$1"
  mv "$cache/bin/.$1" "$cache/bin/$1"
}

# The tree: a Debian 13 with Suricata 8 and Open vSwitch.
debian13() {
  local wanted=() p
  for p in suricata openvswitch-switch; do
    [ -e "$tree/.bootstrapped" ] && installed $p --admindir="$tree/var/lib/dpkg" || wanted+=("$p")
  done
  [ ${#wanted[@]} -gt 0 ] || return 0
  packages debootstrap ca-certificates
  if [ ! -e "$tree/.bootstrapped" ]; then
    say "building a Debian 13 tree for Suricata 8 and Open vSwitch in $tree (about one minute)"
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
  say "installing ${wanted[*]} from Debian 13 (about twenty seconds)"
  cp /etc/resolv.conf "$tree/etc/resolv.conf" 2>/dev/null || true
  printf '#!/bin/sh\nexit 101\n' >"$tree/usr/sbin/policy-rc.d" # no daemon starts in the tree
  chmod +x "$tree/usr/sbin/policy-rc.d"
  quietly debian13-lists timeout 300 chroot "$tree" apt-get update
  for p in "${wanted[@]}"; do
    local suite=trixie
    [ "$p" != suricata ] || suite=trixie-backports # Debian 13 itself has Suricata 7
    quietly "debian13-$p" timeout 600 chroot "$tree" apt-get install -y --no-install-recommends -t $suite "$p"
  done
  rm -rf "$tree"/var/cache/apt/archives/*.deb "$tree"/var/lib/apt/lists/* "$tree"/usr/share/{doc,man,locale} "$tree/usr/sbin/policy-rc.d"
}

# promtool alone, of Prometheus' package: the rest of it would be a server on this machine.
prometheus_tool() {
  command -v promtool >/dev/null || [ -x "$cache/bin/promtool" ] && return 0
  say "getting promtool from Debian's prometheus (20 MB)"
  local work=$cache/promtool
  rm -rf "$work"
  mkdir -p "$work" "$cache/bin"
  quietly apt-update timeout 300 apt-get update
  (cd "$work" && quietly promtool timeout 300 apt-get -o APT::Sandbox::User=root download prometheus)
  quietly promtool-unpack dpkg-deb --extract "$work"/prometheus_*.deb "$work/root"
  mv "$work/root/usr/bin/promtool" "$cache/bin/promtool"
  rm -rf "$work"
}

if [ "${1:-}" = kernel ]; then
  packages qemu-system-x86 cpio
  debian13
  exit
fi
installed rsyslog || new_rsyslog=1
installed nfdump || new_nfdump=1
packages nftables ethtool curl tcpdump iproute2 iputils-ping iptables util-linux ca-certificates procps containernetworking-plugins suricata-update rsyslog nfdump
# Tests start an rsyslogd of their own; the machine's log is to stay as it is, also after it starts anew.
if [ -n "${new_rsyslog:-}" ] && command -v systemctl >/dev/null; then systemctl --quiet disable rsyslog.service 2>/dev/null || true; fi
if [ -n "${new_nfdump:-}" ] && command -v systemctl >/dev/null; then systemctl --quiet disable nfdump.service 2>/dev/null || true; fi
[ "${1:-}" != bench ] || packages haproxy wrk
if [ "${1:-}" = cluster ]; then
  packages containerd runc containernetworking-plugins buildah debootstrap nftables iproute2 util-linux ca-certificates conntrack
  exit # Suricata and Open vSwitch are in images there
fi
suricata
openvswitch
prometheus_tool
