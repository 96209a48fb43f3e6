# c360 as an image: the daemon, the command line and the sample online store in one binary.
#
#     docker build --tag c360:0.1.0 .
#     docker run --rm c360:0.1.0 --help
#
# Needs BuildKit (the default of Docker since 23) for the cache mounts.

# ---- build -----------------------------------------------------------------------------------------------------------
FROM rust:1.95.0-bookworm AS build

# The toolchain of the image is the one rust-toolchain.toml names; saying so keeps rustup from fetching rustfmt and
# clippy as well.
ENV RUSTUP_TOOLCHAIN=1.95.0 \
    CARGO_TERM_COLOR=never

WORKDIR /src
COPY . .
# The caches outlive this step and are no part of the image; the binary has to leave them in the same step.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --package c360 --features kafka-tls \
    && install -D --strip target/release/c360 /out/c360

# ---- run -------------------------------------------------------------------------------------------------------------
FROM debian:bookworm-slim AS runtime

# Certificates for Postgres, Kafka and REST over TLS; the binary brings everything else.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group --home-dir /var/lib/c360 --create-home c360

COPY --from=build /out/c360 /usr/local/bin/c360
COPY --chmod=755 deploy/healthcheck.sh /usr/local/bin/healthcheck
COPY fixtures/online_store.json /usr/share/c360/online_store.json

# By number, so that an orchestrator can see that it is not root.
USER 10001:10001
WORKDIR /var/lib/c360
ENV C360_CONFIG=/etc/c360/c360.toml

EXPOSE 8360
# Alive, not ready: an unreachable database is no reason to restart the daemon, which is waiting for it.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["healthcheck", "8360", "/healthz"]
ENTRYPOINT ["c360"]
CMD ["run"]
