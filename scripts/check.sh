#!/usr/bin/env bash
# Checks everything that can be checked on this machine: format, lints, tests, docs. `make test` runs it after
# scripts/setup.sh test. It stops at the first thing that is wrong.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# A machine that builds once has no use for what makes the second build faster.
[ "${CI:-}" != true ] || export CARGO_INCREMENTAL=0

step() {
  local started=$SECONDS
  printf '\n==> %s\n' "$*"
  "$@"
  printf '==> %d s\n' "$((SECONDS - started))"
}

# The test targets of the package c360-tests, as `--test NAME` each.
whole_pipeline() {
  local path
  for path in tests/tests/*.rs tests/tests/*/main.rs; do
    [ -e "$path" ] || continue
    path=${path%/main.rs}
    path=${path##*/}
    printf -- '--test\n%s\n' "${path%.rs}"
  done
}
mapfile -t targets < <(whole_pipeline)

# Always the whole workspace, or nearly: with fewer packages come fewer features of the libraries, and another build of them.
step cargo fmt --all --check
step cargo clippy --workspace --all-targets --locked -- --deny warnings
# There are no examples; naming them makes cargo use the libraries as clippy has them.
step env RUSTDOCFLAGS='--deny warnings' cargo doc --workspace --locked --no-deps --lib --examples
step cargo test --workspace --locked --lib --bins
step cargo test --workspace --locked --exclude c360-tests --test '*'
# One at a time: each of these may start a Kafka, a Connect and a MariaDB of its own.
step cargo test --workspace --locked "${targets[@]}" -- --test-threads=1
step cargo test --workspace --locked --doc
printf '\nAll is well, after %d s.\n' "$SECONDS"
