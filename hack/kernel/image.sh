#!/usr/bin/env bash
# Builds the machine that `make test-kernel` emulates: Debian 13 with its cloud kernel, Open vSwitch and Suricata 8, as a kernel and
# an initramfs. It prints the directory of the two.
#
# It is made once, from the tree that hack/install-deps.sh keeps, and again when this script or that tree changes.
set -euo pipefail

cache=${MEERKAT_CACHE:-/var/cache/meerkat}
tree=$cache/trixie
image=$cache/kernel
started=$SECONDS
export DEBIAN_FRONTEND=noninteractive LC_ALL=C

say() { printf '[%3ds] %s\n' $((SECONDS - started)) "$*" >&2; }
die() { printf 'kernel image: %s\n' "$*" >&2; exit 1; }

# quietly LOG-NAME COMMAND...: shows the end of the command's output only when it fails.
quietly() {
  local log=$cache/log/$1.log
  shift
  mkdir -p "$cache/log"
  "$@" >"$log" 2>&1 </dev/null || { tail -n 20 "$log" >&2; die "'$*' failed; its whole output is in $log"; }
}

packages=(nftables iproute2 ethtool curl tcpdump kmod procps)
# What the kernel need not have here: drivers of hardware, file systems, sound.
modules=(kernel/net kernel/lib kernel/crypto kernel/arch kernel/drivers/net/veth.ko kernel/drivers/net/tun.ko)

mkdir -p "$cache"
exec 9>"$cache/kernel.lock"
flock 9 # one builds, the others wait for it
stamp=$(cat "${BASH_SOURCE[0]}" "$tree/var/lib/dpkg/status" | sha256sum)
if [ "$(cat "$image/stamp" 2>/dev/null)" = "$stamp" ]; then
  echo "$image"
  exit
fi

say "building the machine from Debian 13's kernel, Open vSwitch and Suricata, in $image (about one minute)"
work=$image/work
rm -rf "$image"
mkdir -p "$work"
trap 'rm -rf "$work"' EXIT
cp -a "$tree" "$work/root"
cp /etc/resolv.conf "$work/root/etc/resolv.conf" 2>/dev/null || true
printf '#!/bin/sh\nexit 101\n' >"$work/root/usr/sbin/policy-rc.d" # no daemon starts in the tree
chmod +x "$work/root/usr/sbin/policy-rc.d"
quietly kernel-lists timeout 300 chroot "$work/root" apt-get update
quietly kernel-packages timeout 600 chroot "$work/root" apt-get install -y --no-install-recommends "${packages[@]}"

say 'unpacking the kernel'
kernel=$(chroot "$work/root" apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
[ -n "$kernel" ] || die "Debian 13 names no kernel for linux-image-cloud-amd64"
quietly kernel-download timeout 600 chroot "$work/root" sh -c "cd /root && apt-get download $kernel"
dpkg-deb -x "$work"/root/root/linux-image-*.deb "$work/kernel"
version=$(basename "$work"/kernel/usr/lib/modules/* 2>/dev/null || basename "$work"/kernel/lib/modules/*)
from=$(dirname "$(find "$work/kernel" -name modules.builtin)")
to=$work/root/usr/lib/modules/$version
mkdir -p "$to"
cp "$from"/modules.{builtin,builtin.modinfo,order} "$to"
for m in "${modules[@]}"; do
  found=("$from/$m"*)
  [ -e "${found[0]}" ] || continue
  mkdir -p "$to/$(dirname "$m")"
  cp -a "${found[@]}" "$to/$(dirname "$m")"
done
find "$to" -name '*.xz' -exec xz -d {} + # once here, and not slowly each time there
chroot "$work/root" depmod "$version"

rm -rf "$work"/root/root/*.deb "$work"/root/usr/sbin/policy-rc.d "$work"/root/var/{cache,lib}/apt "$work"/root/usr/share/{doc,man,locale,info} \
  "$work"/root/usr/lib/python3* "$work"/root/usr/share/{perl,python3}* "$work"/root/usr/lib/x86_64-linux-gnu/perl* "$work"/root/etc/resolv.conf
: >"$work/root/etc/resolv.conf"
say 'packing it'
(cd "$work/root" && find . -print0 | cpio --null --quiet -o -H newc) >"$image/base.cpio"
cp "$work"/kernel/boot/vmlinuz-* "$image/vmlinuz"
echo "$stamp" >"$image/stamp"
say "the machine is built: $kernel, $(du -h "$image/base.cpio" | cut -f 1) in memory"
echo "$image"
