# c360 as an image: the daemon, the command line and the sample online store in one binary.
#
#     docker build --tag c360:0.1.0 .
#     docker run --rm c360:0.1.0 --help
#
# Any builder will do. Libraries are built in a layer of their own, which stays until a Cargo.toml or Cargo.lock changes.

# ---- the manifests, and nothing of the sources -----------------------------------------------------------------------
FROM rust:1.95.0-bookworm AS manifests

WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY crates crates
COPY tests tests
# Cargo wants a file for every target that a manifest names or implies. All of them are the same, so what this stage
# leaves differs only when a manifest does, and the layers that copy it are cached.
RUN find . -type f ! -name Cargo.toml ! -name Cargo.lock \
      ! -path './crates/*/src/lib.rs' ! -path './crates/*/src/main.rs' ! -path './crates/*/tests/main.rs' \
      ! -path './tests/src/lib.rs' ! -path '*/benches/*.rs' -delete \
    && find . -type d -empty -delete \
    && find . -name '*.rs' -exec sh -c 'for file; do echo "fn main() { }" > "$file"; done' sh {} +

# ---- build -----------------------------------------------------------------------------------------------------------
FROM rust:1.95.0-bookworm AS build

# The toolchain of the image is the one rust-toolchain.toml names; saying so keeps rustup from fetching rustfmt and
# clippy as well.
ENV RUSTUP_TOOLCHAIN=1.95.0 \
    CARGO_TERM_COLOR=never

WORKDIR /src
COPY --from=manifests /src .
RUN cargo build --release --locked --package c360 --features kafka-tls

COPY c360.toml ./
COPY fixtures fixtures
COPY crates crates
# Files keep the time they have outside, and cargo believes what is older than its last build to be in it.
RUN find crates -name '*.rs' -exec touch {} + \
    && cargo build --release --locked --package c360 --features kafka-tls \
    && install -D --strip target/release/c360 /out/c360

# ---- run -------------------------------------------------------------------------------------------------------------
FROM debian:bookworm-slim AS runtime

LABEL org.opencontainers.image.title="c360" \
      org.opencontainers.image.description="One golden record per customer out of many systems, in Postgres" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="debian:bookworm-slim"

# Certificates for Postgres, Kafka and REST over TLS; the binary brings everything else.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group --home-dir /var/lib/c360 --create-home c360

COPY --from=build /out/c360 /usr/local/bin/c360
COPY deploy/healthcheck.sh /usr/local/bin/healthcheck
COPY fixtures/online_store.json /usr/share/c360/online_store.json

# By number, so that an orchestrator can see that it is not root.
USER 10001:10001
WORKDIR /var/lib/c360
ENV C360_CONFIG=/etc/c360/c360.toml

EXPOSE 8360
# Alive, not ready: an unreachable database is no reason to restart the daemon, which is waiting for it.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["healthcheck", "8360", "/healthz"]
# No shell in between: c360 is process 1 and gets SIGTERM itself.
STOPSIGNAL SIGTERM
ENTRYPOINT ["c360"]
CMD ["run"]
