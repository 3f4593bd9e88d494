#!/usr/bin/env bash
# Draws docs/dashboard.png: the dashboard's queries, as a Prometheus answers them that has watched a real agent for five minutes. Needs root.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

hack/install-deps.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if ! command -v prometheus >/dev/null; then
  echo '==> getting Prometheus from its Debian package' >&2
  (cd "$work" && timeout 300 apt-get -o APT::Sandbox::User=root download prometheus >/dev/null && dpkg-deb --extract prometheus_*.deb root)
  PATH=$work/root/usr/bin:$PATH
fi
(cd hack/tools/dashboard && go build -o "$work/dashboard" .)
echo '==> watching an agent for five minutes' >&2
MEERKAT_PICTURE=$PWD/docs/dashboard.png MEERKAT_PROMETHEUS=$(command -v prometheus) MEERKAT_DASHBOARD=$work/dashboard \
  go test -count=1 -timeout 900s -run '^TestPicture$' ./test/agent
