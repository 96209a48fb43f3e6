#!/usr/bin/env bash
# Makes the secrets that docker-compose.yml hands out, each a random value in a file of its own under deploy/secrets/.
#
# What exists already stays: a new installation key could not open what the old one sealed, and a database keeps the
# password it was made with. To begin anew, remove the volumes (docker compose down --volumes) and then the files.
set -euo pipefail
cd "$(dirname "$0")/../deploy/secrets"

# The containers' users are not ours, and compose mounts a file with the owner and mode it has here. So the files can be
# read by anybody who gets at them, and nobody but us gets at them, because the directory is closed. A mount needs only
# the file.
chmod 700 .
umask 022

for name in installation_key database_password postgres_password mysql_root_password debezium_password grafana_password; do
  file=$name.txt
  if [ -s "$file" ]; then
    echo "kept    deploy/secrets/$file"
    continue
  fi
  # 32 random bytes as hexadecimal digits: safe in SQL, in shells and in properties files, and without a newline at the
  # end, which Kafka Connect would take for a part of the password.
  od -An -N32 -v -tx1 /dev/urandom | tr -d ' \n' > "$file.new"
  [ "$(wc -c < "$file.new")" -eq 64 ] || { echo "secrets.sh: no randomness to be had" >&2; exit 1; }
  mv "$file.new" "$file"
  echo "made    deploy/secrets/$file"
done
