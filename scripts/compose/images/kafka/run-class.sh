#!/bin/bash
# run-class.sh CLASS ARGUMENT...: one of Kafka's programs, with the heap of KAFKA_HEAP_OPTS.
# shellcheck disable=SC2086  # several options
exec java ${KAFKA_HEAP_OPTS:--Xmx256m} -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
  -Dlog4j2.configurationFile=/opt/kafka/log4j2.xml -cp '/opt/kafka/libs/*:/opt/kafka/tools/*' "$@"
