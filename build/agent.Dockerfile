# The node agent, with Open vSwitch's client programs, and the CNI plugin that it installs on the node.
# Context: a directory with the programs and ca-certificates.crt, as hack/images.sh fills it (bin/linux_ARCHITECTURE).
ARG BASE=debian:trixie-slim
FROM ${BASE}
# This line is the switch image's, too, so that a node stores its result once.
RUN apt-get update \
 && apt-get install -y --no-install-recommends openvswitch-switch \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/* /var/log/* /usr/share/doc /usr/share/man
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY meerkat-cni /opt/meerkat/bin/meerkat-cni
COPY agent /usr/local/bin/agent
ENTRYPOINT ["/usr/local/bin/agent"]
