# What has to be true. Sourced by scripts/test-compose.sh.
# shellcheck shell=bash

# until_it_is SECONDS WANTED COMMAND...: waits until the command prints what is wanted.
until_it_is() {
  local wanted=$2 deadline=$((SECONDS + $1)) found=''
  shift 2
  while [ "$SECONDS" -lt "$deadline" ]; do
    found=$("$@" 2>&1) || true
    [ "$found" != "$wanted" ] || return 0
    sleep 0.5
  done
  fail "$*: $wanted is wanted, it is $found"
}

# healthy, starting, unhealthy; without a health check running; exited N.
state_of() {
  local format='{{if .State.Running}}{{if .State.Health}}{{.State.Health.Status}}{{else}}running{{end}}{{else}}exited {{.State.ExitCode}}{{end}}'
  docker inspect --format "$format" "$(containers "$1")"
}

all_are_well() {
  local service
  for service in "${services[@]}"; do until_it_is 240 healthy state_of "$service"; done
  until_it_is 120 'exited 0' state_of connector
  until_it_is 60 200 curl --silent --output /dev/null --write-out '%{http_code}' "http://127.0.0.1:$C360_PORT/readyz"
  echo "    all are healthy"
}

nobody_is_root() {
  local service
  for service in "${services[@]}"; do
    [ "$(compose exec -T "$service" id -u)" != 0 ] || fail "$service runs as root"
    # shellcheck disable=SC2015  # the second is a failure if the first one works
    ! compose exec -T "$service" touch /usr/intruder 2> /dev/null || fail "$service can write to its root"
  done
  echo "    nobody is root, and no root file system can be written to"
}

the_reference_customer_is_there() {
  local of="from customer360.documents where email = 'matthew.groves@couchbase.com'"
  until_it_is 120 'home_delivery=1029,loyalty="27",online_store=1' sql \
    "select string_agg((xref ->> 'external_system') || '=' || (xref -> 'external_ID')::text, ','
       order by xref ->> 'external_system') from (select jsonb_array_elements(document::jsonb -> 'xrefs') as xref $of) as xrefs"
  until_it_is 10 'Matthew Groves|600 Sporer Curve|Suite 528|47' sql \
    "select document::jsonb #>> '{profile,name}', document::jsonb #>> '{profile,address1}', document::jsonb #>> '{profile,address2}',
       document::jsonb #>> '{profile,loyaltyPoints}' $of"
  until_it_is 60 2 sql \
    "select count(*) from customer360.orders join customer360.customers using (customer_id)
       where email = 'matthew.groves@couchbase.com' and orders.deleted_at is null"
  echo "    Matthew Groves has three cross-references and two orders"
}

# Whether a process has partitions of its own.
reads() { docker logs "$1" 2>&1 | grep --quiet 'reading source=home_delivery' && echo yes; }

# What Kafka has of the topic: the sum of its partitions' ends.
topic_end() {
  compose exec -T kafka /opt/kafka/bin/kafka-get-offsets.sh --bootstrap-server localhost:9092 \
    --topic dbserver1.inventory.customers | awk -F : '{ end += $3 } END { print end + 0 }'
}

# Nothing is lost and nothing counts twice, by the counts of both ends.
everything_is_there_once() {
  local rows end
  rows=$(mysql_does 'select count(*) from inventory.customers')
  until_it_is 180 "$rows" sql "select count(*) from customer360.xrefs where system = 'home_delivery' and deleted_at is null"
  end=$(topic_end)
  until_it_is 60 "$end|$end" sql \
    "select (select sum(next_offset) from staging.kafka_offsets where source = 'home_delivery'),
       (select sum(record_count + dead_letter_count + skipped_count) from staging.batches where source = 'home_delivery')"
  until_it_is 120 0 sql \
    "select (select count(*) from staging.batches where consolidated_at is null) + (select count(*) from customer360.dirty_marks)"
  until_it_is 60 0 sql \
    "select count(distinct customer_id) - (select count(*) from customer360.customers where deleted_at is null)
       from customer360.xrefs where customer_id is not null and deleted_at is null"
  echo "    $rows rows in mysql, as many cross-references; $end messages in Kafka, each landed once"
}

# Of everything that readers see, and of how often it was written, once the online store has been asked about everybody.
fingerprint() {
  until_it_is 120 0 sql \
    "select (select count(*) from staging.polls where state in ('due', 'failing'))
       + (select count(*) from staging.polled_products where state in ('due', 'failing'))
       + (select count(*) from staging.batches where consolidated_at is null) + (select count(*) from customer360.dirty_marks)"
  sql "select md5(string_agg(document::text, ' ' order by email)), (select sum(version) from customer360.customers),
         (select count(*) from customer360.orders), (select count(*) from customer360.order_lines),
         (select count(*) from customer360.changes)
       from customer360.documents"
}
