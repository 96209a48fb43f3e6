# A Docker engine of our own, and compose. Sourced by scripts/test-compose.sh.
# shellcheck shell=bash

# What another release of compose does with the file is for another day.
readonly compose_version=v2.39.4
# Not docker0, which may be another engine's.
readonly bridge=c360compose

start_engine() {
  [ "$(id -u)" = 0 ] || fail "Docker needs root"
  mkdir -p "$scratch"
  exec 8> "$scratch/lock"
  flock --nonblock 8 || fail "another one runs in $scratch"
  # The engine leaves its rules behind. Where another one has made some, they are not ours to take back.
  ip link show docker0 > /dev/null 2>&1 || iptables-save > "$run/iptables"
  say "starting an engine in $scratch"
  ip link delete "$bridge" 2> /dev/null || true
  ip link add "$bridge" type bridge
  ip address add 10.213.60.1/24 dev "$bridge"
  ip link set "$bridge" up
  # Without the lock: it is ours, not that of what outlives us.
  dockerd --data-root "$scratch/data" --exec-root "$run/exec" --pidfile "$run/pid" --host "$DOCKER_HOST" --bridge "$bridge" \
    > "$run/dockerd.log" 2>&1 8>&- &
  local waited
  for waited in $(seq 60); do
    docker info > /dev/null 2>&1 && return 0
    sleep 1
  done
  tail -n 20 "$run/dockerd.log" >&2
  fail "no engine after $waited s"
}

stop_engine() {
  [ ! -e "$run/pid" ] || { kill "$(cat "$run/pid")" && wait; } || true
  [ ! -e "$run/iptables" ] || iptables-restore < "$run/iptables" || true
  ip link delete "$bridge" 2> /dev/null || true
}

# Sets compose_program: the compose that is installed, or one that is built from its Go module, once.
find_compose() {
  local cache=${C360_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/c360-tests}/compose-$compose_version
  if docker compose version > /dev/null 2>&1; then
    compose_program=(docker compose)
    return
  fi
  compose_program=("$cache/docker-compose")
  [ ! -x "${compose_program[0]}" ] || return 0
  say "building compose $compose_version, once; some minutes"
  mkdir -p "$run/compose"
  (
    cd "$run/compose"
    printf 'module compose\n\ngo 1.24\n\nrequire github.com/docker/compose/v2 %s\n' "$compose_version" > go.mod
    # A program of another module can only be built by who uses that module.
    printf 'package compose\n\nimport _ "github.com/docker/compose/v2/cmd/compose"\n' > compose.go
    GOFLAGS=-mod=mod go build -o docker-compose github.com/docker/compose/v2/cmd
  )
  mkdir -p "$cache"
  mv "$run/compose/docker-compose" "$cache/docker-compose"
}
