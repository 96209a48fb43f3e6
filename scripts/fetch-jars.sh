#!/usr/bin/env bash
# Fetches the Kafka broker, Kafka Connect and the Debezium connectors with Maven, and prints the directory they are in:
#
#   DIR/broker/*.jar              class path of the broker and of Connect
#   DIR/plugins/CONNECTOR/*.jar   Connect's plugin path
#
# DIR lies outside the tree, in ${C360_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/c360-tests}, and is named after what
# the poms in tests/kafka say: as long as they do not change, this prints the name and does nothing else. A half
# fetched directory never gets that name. Several of these may run at once; the first one fetches.
set -euo pipefail

readonly here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly poms=$(cd "$here/../tests/kafka" && pwd)
readonly cache=${C360_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/c360-tests}
readonly key=$(cd "$poms" && sha256sum -- */pom.xml | sha256sum | cut -c 1-16)
readonly jars=$cache/jars-$key

say() { printf 'fetch-jars: %s\n' "$*" >&2; }

fetch() { # fetch POM_DIRECTORY TARGET
  local output
  say "$1 ..."
  output=$(mvn -B -ntp -q -f "$poms/$1/pom.xml" dependency:copy-dependencies -DoutputDirectory="$2" 2>&1) ||
    { printf '%s\n' "$output" >&2; say "Maven failed"; exit 1; }
}

if [ ! -d "$jars" ]; then
  command -v mvn >/dev/null || { say "Maven is missing; run scripts/setup.sh test"; exit 1; }
  mkdir -p "$cache"
  exec 9>"$cache/lock"
  flock 9
  if [ ! -d "$jars" ]; then
    rm -rf "$cache/unfinished"
    fetch broker "$cache/unfinished/broker"
    for connector in "$poms"/debezium-*; do
      connector=${connector##*/}
      fetch "$connector" "$cache/unfinished/plugins/$connector"
    done
    mv "$cache/unfinished" "$jars"
    say "$(du -sh "$jars" | cut -f 1) in $jars"
  fi
fi
printf '%s\n' "$jars"
