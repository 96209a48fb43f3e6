# The services: their copy of the tree, compose, load, and how they end. Sourced by scripts/test-compose.sh.
# shellcheck shell=bash

# All that stay; the connector ends by itself.
readonly others=(postgres kafka mysql connect online-store)
readonly services=(c360 "${others[@]}")

free_port() {
  local port
  while port=$((20000 + RANDOM % 10000)) && (exec 3<> "/dev/tcp/127.0.0.1/$port") 2> /dev/null; do :; done
  echo "$port"
}

# What a user has after a clone and `make secrets`. The checkout stays as it is.
copy_the_tree() {
  mkdir -p "$copy"
  git ls-files -z --cached --others --exclude-standard |
    tar --null --files-from=- --ignore-failed-read -c | tar -x -C "$copy"
  make --no-print-directory -C "$copy" secrets
  sed -i 's/io.debezium.connector.mysql.MySqlConnector/io.debezium.connector.mariadb.MariaDbConnector/' \
    "$copy/deploy/connect/inventory-connector.json"
  C360_PORT=$(free_port) GRAFANA_PORT=$(free_port) PROMETHEUS_PORT=$(free_port)
  export C360_PORT GRAFANA_PORT PROMETHEUS_PORT
}

compose() { "${compose_program[@]}" --project-directory "$copy" --progress quiet "$@"; }
containers() { compose --profile '*' ps --all --quiet "$1"; }
sql() { compose exec -T postgres psql --username=c360 --dbname=c360 --no-psqlrc --quiet --tuples-only --no-align --command "$1"; }
# shellcheck disable=SC2016  # for the shell in there
mysql_does() {
  compose exec -T mysql sh -c \
    'MYSQL_PWD=$(cat /run/secrets/mysql_root_password) exec mysql --user=root --skip-column-names --batch --execute="$1"' sh "$1"
}
query_prometheus() {
  curl --silent --fail --get "http://127.0.0.1:$PROMETHEUS_PORT/api/v1/query" --data-urlencode "query=$1" |
    sed -n 's/.*"value":\[[0-9.]*,"\([^"]*\)"\].*/\1/p'
}

shuffled() { printf '%s\n' "$@" | awk -v seed="$seed" 'BEGIN { srand(seed) } { print rand(), $0 }' | sort | cut -d ' ' -f 2; }

# Two hundred new customers at a time, as fast as mysql takes them, until told to stop.
start_load() {
  : > "$run/load"
  : > "$run/batches"
  (
    while [ -e "$run/load" ]; do
      mysql_does "insert into inventory.customers (name, email, city)
        with recursive n (i) as (select 1 union all select i + 1 from n where i < 200)
        select concat('Person ', i), concat(uuid(), '@example.org'), 'Concord' from n" || break
      echo in >> "$run/batches"
    done
  ) &
  load=$!
}

# Waits until ten more batches of the load are in.
under_load() {
  local from
  from=$(wc -l < "$run/batches")
  until [ "$(wc -l < "$run/batches")" -gt $((from + 10)) ]; do
    kill -0 "$load" 2> /dev/null || fail "the load has ended"
    sleep 0.2
  done
}

stop_load() {
  rm -f "$run/load"
  [ -z "${load:-}" ] || wait "$load" || true
  load=''
}

# ends_well CONTAINER: SIGTERM ends it with 0 within 10 s.
ends_well() {
  local began=$EPOCHREALTIME took code
  docker stop --time 30 "$1" > /dev/null
  took=$(((${EPOCHREALTIME/./} - ${began/./}) / 1000))
  code=$(docker inspect --format '{{.State.ExitCode}}' "$1")
  echo "    $(docker inspect --format '{{.Name}}' "$1") ended with $code after $took ms"
  [ "$code" = 0 ] && [ "$took" -lt 10000 ] || fail "that is not 0 within 10 s"
}

take_down() {
  compose --profile '*' down --volumes --timeout 20 2> /dev/null || true
  docker ps --quiet | xargs --no-run-if-empty docker kill > /dev/null
}

show_failure() {
  [ -n "${compose_program:-}" ] && [ -S "$run/docker.sock" ] || return 0
  compose --profile '*' ps --all || true
  compose --profile '*' logs --tail 25 || true
}
