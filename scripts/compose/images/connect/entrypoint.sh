#!/bin/bash
# What the image of Debezium does: its variables become the worker's properties, CONNECT_A_B the property a.b.
set -euo pipefail
properties=/kafka/config/connect-distributed.properties

{
  cat <<END
bootstrap.servers=$BOOTSTRAP_SERVERS
group.id=$GROUP_ID
config.storage.topic=$CONFIG_STORAGE_TOPIC
offset.storage.topic=$OFFSET_STORAGE_TOPIC
status.storage.topic=$STATUS_STORAGE_TOPIC
listeners=http://:8083
rest.advertised.host.name=$HOST_NAME
plugin.path=/kafka/connect
key.converter=org.apache.kafka.connect.json.JsonConverter
value.converter=org.apache.kafka.connect.json.JsonConverter
END
  env | sed -n 's/^\(CONNECT_[A-Z_]*\)=/\1\n&/p' | while read -r name && read -r line; do
    key=${name#CONNECT_}
    key=${key,,}
    printf '%s=%s\n' "${key//_/.}" "${line#"$name="}"
  done
} > "$properties"

# shellcheck disable=SC2086  # several options
exec java ${HEAP_OPTS:--Xmx512m} -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
  -Dlog4j2.configurationFile=/kafka/log4j2.xml -cp '/kafka/libs/*' \
  org.apache.kafka.connect.cli.ConnectDistributed "$properties"
