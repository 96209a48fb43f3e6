#!/usr/bin/env bash
# Registers the connector with Kafka Connect and waits until it runs. Run by the one-shot service `connector`; running it
# again brings a changed configuration in and otherwise changes nothing.
set -euo pipefail

name=inventory
url=${CONNECT_URL:-http://connect:8083}/connectors/$name
config=$(dirname "$0")/inventory-connector.json

# 409 while the workers rebalance, so it is tried again; what is wrong with the configuration is in the answer's body.
if ! answer=$(curl --fail-with-body --silent --show-error --max-time 60 --retry 5 --retry-delay 2 --retry-all-errors \
  --request PUT --header 'content-type: application/json' --data "@$config" "$url/config"); then
  echo "Kafka Connect refuses the connector $name: $answer" >&2
  exit 1
fi

for _ in $(seq 60); do
  status=$(curl --silent --show-error --max-time 10 "$url/status" || true)
  case $status in
    *'"tasks":[{'*'"state":"FAILED"'*) break ;;
    *'"tasks":[{'*'"state":"RUNNING"'*) echo "the connector $name runs"; exit 0 ;;
  esac
  sleep 1
done
echo "the connector $name does not run: $status" >&2
exit 1
