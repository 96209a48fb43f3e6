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

step cargo fmt --all --check
step cargo clippy --workspace --all-targets --locked -- --deny warnings
step cargo test --workspace --exclude c360-tests --locked
# One at a time: each of these may start a Kafka, a MariaDB and a Connect of its own. They are chosen by name and not by
# --package, because with other packages come other features of the libraries, and another build of them.
step cargo test --workspace --locked "${targets[@]}" -- --test-threads=1
step env RUSTDOCFLAGS='--deny warnings' cargo doc --workspace --no-deps --locked
printf '\nAll is well, after %d s.\n' "$SECONDS"
