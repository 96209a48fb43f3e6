#!/bin/bash
# healthcheck PORT [PATH]: succeeds when http://127.0.0.1:PORT/PATH answers 200 within 3 seconds.
# bash opens the connection itself, so that the image needs no HTTP client.
set -euo pipefail
exec 3<> "/dev/tcp/127.0.0.1/$1"
printf 'GET %s HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n' "${2:-/healthz}" >&3
read -r -t 3 _ status _ <&3
[ "$status" = 200 ]
