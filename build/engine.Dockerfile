# Suricata 8, from Debian's backports, and the launcher that starts it at the agent's request.
# Context: a directory with the programs, as hack/images.sh fills it (bin/linux_ARCHITECTURE).
ARG BASE=debian:trixie-slim
FROM ${BASE}
# The backports are where the base image's own packages come from, under the suite's other name. Suricata's tools in Python go again:
# what reads hostile bytes needs no interpreter beside it.
RUN sed '/^$/q; s/^Suites:.*/Suites: trixie-backports/' /etc/apt/sources.list.d/debian.sources >/etc/apt/sources.list.d/backports.sources \
 && apt-get update \
 && apt-get install -y --no-install-recommends -t trixie-backports suricata \
 && rm -f /var/lib/dpkg/info/python3*.prerm /var/lib/dpkg/info/python3*.postrm /var/lib/dpkg/info/python3*.postinst \
 && dpkg --purge --force-depends $(dpkg-query -W -f '${Package}\n' 'python3*' 'libpython3*' | sort -u) \
 && suricata -V | grep -q ' 8\.' \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/* /var/log/* /usr/share/doc /usr/share/man /usr/lib/python3* /usr/lib/suricata/python
COPY engine /usr/local/bin/engine
ENTRYPOINT ["/usr/local/bin/engine"]
