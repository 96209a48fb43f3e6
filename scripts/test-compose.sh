#!/usr/bin/env bash
# Brings docker-compose.yml up for real, looks at what comes out, disturbs it, and takes it down. `make test-compose`.
#
#   SEED=7    the order in which services are stopped and started; another one each time if not given, and printed
#   BINARY=F  takes this c360, built on a Debian of the same release, in place of building one: minutes instead of half an
#             hour, while you work on the script or on deploy/. The Dockerfile's build is then not tried, and it says so
#   KEEP=1    leaves the images in target/compose-test for the next run (some 8 GB), which then builds only what changed
#
# The file, the Dockerfile and everything in deploy/ are those that users run, in a copy of the tree. What they build on is
# not: no image is pulled. Stand-ins carry the very names that the two files use, made of Debian packages and of artifacts
# from Maven (scripts/compose/images):
#
#   debian:bookworm-slim      debootstrap's minimal system of the same release
#   rust                      the toolchain of this machine, with Debian's compiler
#   postgres                  Debian's Postgres 15, another patch release, and the entry point's essentials
#   apache/kafka, connect     the same releases of Kafka and Debezium from Maven, and the entry points' essentials
#   mysql                     MariaDB 10.11, as Debian has no MySQL. So the copy names Debezium's connector for MariaDB; all other
#                             settings of deploy/connect/inventory-connector.json hold
#   prom/prometheus           Debian's Prometheus, an older release
#   grafana/grafana           no Grafana at all: a program that reads what Grafana would be provisioned with, and asks
#                             Prometheus every query of the dashboard
#
# So this shows that the files fit each other and the program; not that the real images' entry points do what ours do.
#
# Needs root. The Docker engine is one of its own, with its data, its socket and its bridge; containers of another one on
# this machine are left alone, but the two share a firewall, so what the other one publishes may want its restart. At the
# end, also of a failure, everything is stopped and removed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly root=$PWD parts=$PWD/scripts/compose
readonly seed=${SEED:-$RANDOM}
readonly scratch=$PWD/target/compose-test
# A socket's path may have a hundred characters; that of target may have more.
run=$(mktemp -d)
readonly run copy=$run/c360
export DOCKER_HOST=unix://$run/docker.sock

say() { printf '\n==> %s\n' "$*"; }
fail() {
  printf 'test-compose: %s\n' "$*" >&2
  exit 1
}

# shellcheck source=scripts/compose/engine.sh
. "$parts/engine.sh"
# shellcheck source=scripts/compose/images.sh
. "$parts/images.sh"
# shellcheck source=scripts/compose/services.sh
. "$parts/services.sh"
# shellcheck source=scripts/compose/checks.sh
. "$parts/checks.sh"

clean_up() {
  local status=$?
  trap - EXIT INT TERM
  [ "$status" = 0 ] || show_failure
  say "taking everything down"
  stop_load
  [ ! -S "$run/docker.sock" ] || take_down
  stop_engine
  [ -n "${KEEP:-}" ] || rm -rf "$scratch"
  rm -rf "$run"
  exit "$status"
}

# ---- the scenes ------------------------------------------------------------------------------------------------------

as_the_readme_says() {
  say "docker compose up"
  compose up --detach --quiet-pull
  all_are_well
  nobody_is_root
  the_reference_customer_is_there
  everything_is_there_once
}

an_order_that_nobody_planned() {
  local before service
  before=$(fingerprint)
  say "everything is stopped and started in an order of its own, seed $seed"
  for service in $(shuffled "${services[@]}"); do
    echo "    stop $service"
    compose stop "$service" 2> /dev/null
  done
  mysql_does 'select 1' 2> /dev/null && fail "mysql answers, so nothing was stopped"
  # c360 first: it has nothing of what it needs, and waits.
  for service in c360 $(shuffled "${others[@]}"); do
    echo "    start $service"
    compose up --detach --no-deps "$service" 2> /dev/null
  done
  all_are_well
  [ "$(fingerprint)" = "$before" ] || fail "the documents are others than before: $before, now $(fingerprint)"
  everything_is_there_once
  say "a new row arrives"
  mysql_does "insert into inventory.customers (name, email) values ('Somebody New', 'new@example.org')"
  until_it_is 60 1 sql "select count(*) from customer360.documents where email = 'new@example.org'"
}

two_replicas_roll_under_load() {
  local container
  say "two more processes, and each restarted in turn under load"
  compose --profile more up --detach --no-deps --scale c360-more=2 c360-more
  start_load
  for container in $(containers c360-more); do until_it_is 60 yes reads "$container"; done
  for container in $(containers c360-more) $(containers c360); do
    under_load
    ends_well "$container"
    docker start "$container" > /dev/null
  done
  under_load
  stop_load
  all_are_well
  everything_is_there_once
}

it_is_seen() {
  say "Prometheus hears c360, and the dashboard's queries are understood"
  compose --profile monitoring up --detach --no-deps prometheus
  until_it_is 60 healthy state_of prometheus
  compose --profile monitoring up --detach --no-deps grafana
  until_it_is 60 healthy state_of grafana
  compose logs --no-log-prefix grafana | grep understood
  # c360, and the two more.
  until_it_is 60 3 query_prometheus 'sum(up{job="c360"})'
  until_it_is 60 1 query_prometheus 'sum(c360_consolidator_active)'
  until_it_is 60 6 query_prometheus 'sum(max by (source, reason) (c360_dead_letters_parked))'
  local rules
  rules=$(curl --silent --fail "http://127.0.0.1:$PROMETHEUS_PORT/api/v1/rules" | grep -o '"alert' | wc -l)
  [ "$rules" -gt 5 ] || fail "Prometheus has only $rules alarms"
}

it_stops_when_told() {
  say "docker compose stop c360, under load"
  start_load
  under_load
  ends_well "$(containers c360)"
  stop_load
  say "without an init, c360 is process 1 and hears SIGTERM itself"
  ends_well "$(docker run --detach c360:0.1.0 sample-store --listen 0.0.0.0:8081 --data /usr/share/c360/online_store.json)"
}

# ---- all of them -----------------------------------------------------------------------------------------------------

trap clean_up EXIT
trap 'exit 130' INT TERM
start_engine
find_compose
copy_the_tree
build_stand_ins
build_c360
as_the_readme_says
an_order_that_nobody_planned
two_replicas_roll_under_load
it_is_seen
it_stops_when_told
say "docker-compose.yml works. $SECONDS s, seed $seed"
[ -z "${BINARY:-}" ] || echo "With BINARY: whether the Dockerfile builds c360 is not known."
