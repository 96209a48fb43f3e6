#!/bin/bash
# What the image of MySQL does on an empty volume: a data directory, root's password, the account, the init scripts by the
# socket, then the server.
set -euo pipefail
socket=/var/run/mysqld/mysqld.sock
server=("${1/mysqld/mariadbd}" --datadir=/var/lib/mysql --socket="$socket" --pid-file=/var/run/mysqld/mysqld.pid "${@:2}")

as_root() { mariadb --no-defaults --user=root --socket="$socket" --default-character-set=utf8mb4 "$@"; }

if [ ! -d /var/lib/mysql/mysql ]; then
  mariadb-install-db --no-defaults --datadir=/var/lib/mysql --auth-root-authentication-method=normal --skip-test-db
  "${server[@]}" --skip-networking &
  until as_root --execute='select 1' > /dev/null 2>&1; do sleep 0.2; done
  as_root --execute="create user '$MYSQL_USER'@'%' identified by '$(cat "$MYSQL_PASSWORD_FILE")'"
  for file in /docker-entrypoint-initdb.d/*.sql; do as_root < "$file"; done
  as_root --execute="set password for 'root'@'localhost' = password('$(cat "$MYSQL_ROOT_PASSWORD_FILE")')"
  kill "$!"
  wait "$!"
fi
exec "${server[@]}"
