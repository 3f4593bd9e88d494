# What holds a Pod's namespaces in hack/cluster. Context: a directory with the static program, as hack/images.sh fills it.
FROM scratch
COPY pause /pause
USER 65535:65535
ENTRYPOINT ["/pause"]
