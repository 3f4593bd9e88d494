# Open vSwitch's two daemons and what supervises them, for nodes that have none of their own.
# Context: a directory with the programs, as hack/images.sh fills it (bin/linux_ARCHITECTURE).
ARG BASE=debian:trixie-slim
FROM ${BASE}
# This line is the agent image's, too, so that a node stores its result once.
RUN apt-get update \
 && apt-get install -y --no-install-recommends openvswitch-switch \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/* /var/log/* /usr/share/doc /usr/share/man
COPY switch /usr/local/bin/switch
ENTRYPOINT ["/usr/local/bin/switch"]
