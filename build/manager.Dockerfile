# The manager: one static program and nothing else.
# Context: a directory with the programs and ca-certificates.crt, as hack/images.sh fills it (bin/linux_ARCHITECTURE).
ARG BASE=scratch
FROM ${BASE}
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY manager /usr/local/bin/manager
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/manager"]
