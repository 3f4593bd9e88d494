# Suricata 8, from Debian's backports, and the launcher that starts it at the agent's request.
# Context: a directory with the programs, as hack/images.sh fills it (bin/linux_ARCHITECTURE).
ARG BASE=debian:trixie-slim
FROM ${BASE}
# The backports are where the base image's own packages come from, under the suite's other name.
RUN sed -n '/trixie-security/q;p' /etc/apt/sources.list.d/debian.sources | sed 's/^Suites:.*/Suites: trixie-backports/' >/etc/apt/sources.list.d/backports.sources \
 && apt-get update \
 && apt-get install -y --no-install-recommends -t trixie-backports suricata \
 && suricata -V | grep -q ' 8\.' \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/* /var/log/* /usr/share/doc /usr/share/man
COPY engine /usr/local/bin/engine
ENTRYPOINT ["/usr/local/bin/engine"]
