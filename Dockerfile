# One image with both programs and nothing else: no shell, no package manager, no C library.
#
#   make image                       builds the programs on this machine and puts them into the last stage
#   buildah build -t NAME .          builds everything in here, from a Rust image (docker build works as well)
#
# The programs are linked statically. What their C library still reads at run time is /etc/passwd, /etc/nsswitch.conf,
# /etc/hosts and /etc/resolv.conf; no library is loaded (tests/tests/image.rs looks).

ARG RUST_IMAGE=docker.io/library/rust:1.95-slim-bookworm

FROM ${RUST_IMAGE} AS build
ARG PROFILE=image
WORKDIR /src
COPY . .
# What was built of the dependencies stays in a cache of the builder's, whatever has changed here.
RUN --mount=type=cache,id=understudy-registry,target=/usr/local/cargo/registry \
    --mount=type=cache,id=understudy-target,target=/target \
    CARGO_TARGET_DIR=/target PROFILE="${PROFILE}" scripts/static-build.sh /programs && \
    scripts/image-root.sh /image /programs

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Understudy" \
      org.opencontainers.image.description="A PostgreSQL-compatible database that keeps itself alive on Kubernetes: server and operator" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /image/ /
ENV PATH=/usr/local/bin
USER 10001:10001
WORKDIR /var/lib/understudy
EXPOSE 5432 8080 8443
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/understudy"]
CMD ["--help"]
