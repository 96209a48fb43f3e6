#!/bin/bash
# What the image of Kafka does: KAFKA_A_B becomes the property a.b, the volume is formatted once, then the broker.
set -euo pipefail
properties=/opt/kafka/config/server.properties

env | sed -n 's/^\(KAFKA_[A-Z_]*\)=/\1\n&/p' | while read -r name && read -r line; do
  case $name in KAFKA_HEAP_OPTS | KAFKA_OPTS | KAFKA_JVM_*) continue ;; esac
  key=${name#KAFKA_}
  key=${key,,}
  printf '%s=%s\n' "${key//_/.}" "${line#"$name="}"
done > "$properties"

/opt/kafka/bin/run-class.sh kafka.tools.StorageTool format --ignore-formatted -t "$CLUSTER_ID" -c "$properties"
exec /opt/kafka/bin/run-class.sh kafka.Kafka "$properties"
