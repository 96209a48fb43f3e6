#!/usr/bin/env bash
# Installs what drives the browser in tests (playwright-core) and what judges pages in it (axe-core), and prints the directory
# that they are in. The browser itself is the system's Chromium.
#
# It lies outside the tree, in ${C360_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/c360-tests}, and is named after what
# tests/browser/package-lock.json says: as long as that does not change, this prints the name and does nothing else. A half
# filled directory is never printed. Several of these may run at once; the first one fetches.
set -euo pipefail

readonly here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly package=$here/../tests/browser
readonly cache=${C360_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/c360-tests}
readonly key=$(sha256sum <"$package/package-lock.json" | cut -c 1-16)
readonly browser=$cache/browser-$key

say() { printf 'fetch-browser: %s\n' "$*" >&2; }

if [ ! -e "$browser/complete" ]; then
  command -v npm >/dev/null || { say "npm is missing; run scripts/setup.sh test"; exit 1; }
  mkdir -p "$cache"
  exec 9>"$cache/lock-browser"
  flock 9
  if [ ! -e "$browser/complete" ]; then
    say "playwright-core and axe-core ..."
    rm -rf "$browser"
    mkdir "$browser"
    cp "$package/package.json" "$package/package-lock.json" "$browser"
    output=$(npm ci --prefix "$browser" --ignore-scripts --no-audit --no-fund 2>&1) ||
      { printf '%s\n' "$output" >&2; say "npm failed"; exit 1; }
    : >"$browser/complete"
  fi
fi
printf '%s\n' "$browser/node_modules"
