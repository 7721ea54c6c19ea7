# syntax=docker/dockerfile:1
# Aktvator's one binary. The image runs as nobody in particular, on a read-only root; what it keeps is in
# /var/lib/aktvator.

FROM rust:1.95-bookworm AS build
WORKDIR /source
COPY . .
ARG AKTVATOR_REVISION=unknown
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target \
    cargo build --release --locked --package aktvator && install -m 0755 target/release/aktvator /aktvator

# Makes a certificate for localhost, for a look at it (docker-compose.yml).
FROM debian:bookworm-slim AS certificate
RUN apt-get update && apt-get install -y --no-install-recommends openssl && rm -rf /var/lib/apt/lists/* \
    && install -d -o 10001 -g 10001 /etc/aktvator/tls
COPY --chmod=0755 ops/docker/certificate /usr/local/bin/certificate
USER 10001:10001
ENTRYPOINT ["certificate", "/etc/aktvator/tls"]

FROM debian:bookworm-slim
RUN install -d -o 10001 -g 10001 -m 0700 /var/lib/aktvator && install -d -o 10001 -g 10001 /etc/aktvator/tls
COPY --chmod=0755 ops/docker/ready /usr/local/bin/ready
COPY --from=build /aktvator /usr/local/bin/aktvator
USER 10001:10001
WORKDIR /var/lib/aktvator
VOLUME /var/lib/aktvator
EXPOSE 8080 8081 9600
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s CMD ["ready", "9600"]
ENTRYPOINT ["aktvator"]
CMD ["serve"]
