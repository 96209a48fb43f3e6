#!/usr/bin/env bash
# Installs the Python packages of a test into an environment of its own, and prints its interpreter.
#
#   scripts/fetch-python.sh avro      what tests/avro/requirements.txt names
#   scripts/fetch-python.sh hostile   what tests/hostile/requirements.txt names
#
# It lies outside the tree, in ${C360_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/c360-tests}, and is named after what the
# requirements say: as long as that does not change, this prints the name and does nothing else. A half filled directory is
# never printed. Several of these may run at once; the first one fetches.
set -euo pipefail

readonly here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly requirements=$here/../tests/${1:?say for which test}/requirements.txt
readonly cache=${C360_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/c360-tests}
readonly key=$(sha256sum <"$requirements" | cut -c 1-16)
readonly python=$cache/python-$key

say() { printf 'fetch-python: %s\n' "$*" >&2; }

if [ ! -e "$python/complete" ]; then
  python3 -c 'import ensurepip, venv' 2>/dev/null || { say "Python is missing; run scripts/setup.sh test"; exit 1; }
  mkdir -p "$cache"
  exec 9>"$cache/lock-python"
  flock 9
  if [ ! -e "$python/complete" ]; then
    say "the packages of tests/$1 ..."
    # Its scripts name where they are, so it is made in place.
    rm -rf "$python"
    output=$(python3 -m venv "$python" && "$python/bin/pip" install --quiet --disable-pip-version-check \
      --only-binary :all: --requirement "$requirements" 2>&1) ||
      { printf '%s\n' "$output" >&2; say "pip failed"; exit 1; }
    : >"$python/complete"
  fi
fi
printf '%s\n' "$python/bin/python"
