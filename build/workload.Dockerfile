# A web server and clients for the end-to-end tests: nginx, curl, and a client that speaks in its first millisecond.
# Context: a directory with the program, as hack/images.sh fills it (bin/linux_ARCHITECTURE).
ARG BASE=debian:trixie-slim
FROM ${BASE}
RUN apt-get update \
 && apt-get install -y --no-install-recommends nginx-light curl iproute2 \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/* /var/log/* /usr/share/doc /usr/share/man
COPY nginx.conf /etc/workload/nginx.conf
COPY workload /usr/local/bin/workload
ENTRYPOINT ["/usr/local/bin/workload"]
