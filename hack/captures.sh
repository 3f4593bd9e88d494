#!/usr/bin/env bash
# Gets packet captures to compare verdicts on: those that come with the sources of Debian packages, below $MEERKAT_CACHE/captures/PACKAGE.
#
#   hack/captures.sh PACKAGE...      tcpdump (2 MB to download), wireshark (47 MB), ndpi (127 MB)
#
# Idempotent: a second run prints nothing and changes nothing. Needs no root, installs nothing, and leaves the machine's lists of
# packages alone.
set -euo pipefail

cache=${MEERKAT_CACHE:-/var/cache/meerkat}/captures
started=$SECONDS
export LC_ALL=C

say() { printf '[%3ds] %s\n' $((SECONDS - started)) "$*" >&2; }
die() { printf 'captures: %s\n' "$*" >&2; exit 1; }

wanted=()
for package in "$@"; do
  [[ $package =~ ^[a-z0-9][a-z0-9.+-]+$ ]] || die "'$package' is not the name of a package"
  [ -e "$cache/$package/.whole" ] || wanted+=("$package")
done
[ ${#wanted[@]} -gt 0 ] || exit 0
command -v apt-get >/dev/null || die "this machine has no apt-get, which gets the packages' sources"
mkdir -p "$cache"
exec 9>"$cache/.lock"
flock -w 900 9 || die "another captures.sh has been at work for 15 minutes"

# Lists of their own. The machine's own Debian source entry, of sources instead of binaries: it names no host here.
work=$(mktemp -d "$cache/.work-XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
mirror=$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/debian.sources 2>/dev/null | head -n 1)
[ -n "$mirror" ] || mirror=$(sed -n 's/^deb \(\[[^]]*\] \)\?\([^ ]*\) .*/\2/p' /etc/apt/sources.list 2>/dev/null | head -n 1)
[ -n "$mirror" ] || die "found no Debian source in /etc/apt; add one and run this again"
echo "deb-src $mirror $suite main" >"$work/sources.list"
apt=(timeout 600 apt-get -qq -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$work/lists"
  -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root)
quietly() { "$@" >"$work/log" 2>&1 </dev/null || { tail -n 20 "$work/log" >&2; die "'$*' failed"; }; }
say "reading Debian's list of sources"
quietly "${apt[@]}" update

for package in "${wanted[@]}"; do
  [ ! -e "$cache/$package/.whole" ] || continue
  say "getting the captures in the source of $package"
  mkdir "$work/$package"
  (cd "$work/$package" && quietly "${apt[@]}" source --download-only --tar-only --only-source "$package")
  rm -rf "${cache:?}/$package"
  mkdir "$cache/$package"
  for archive in "$work/$package"/*.orig.tar.*; do
    [[ $archive != *.asc ]] || continue
    tar -tf "$archive" | grep -E '\.(pcap|pcapng|cap)(\.gz)?$' >"$work/names" || true
    [ ! -s "$work/names" ] || quietly tar -C "$cache/$package" -xf "$archive" --no-same-owner -T "$work/names"
  done
  find "$cache/$package" -name '*.gz' -exec gunzip -f {} +
  n=$(find "$cache/$package" -type f | wc -l)
  [ "$n" -gt 0 ] || die "the source of $package has no captures"
  touch "$cache/$package/.whole"
  say "$n captures of $package"
  rm -rf "${work:?}/$package"
done
