#!/usr/bin/env bash
# Installs what `make demo` and `make test` need, and nothing else.
#
#   scripts/setup.sh demo    Postgres server binaries, a C toolchain for librdkafka; checks for Rust
#   scripts/setup.sh test    the same, and a JDK, Maven, MariaDB, Perl, Python, promtool, systemd-analyze, Chromium, Node.js, and
#                            the Kafka jars, the Kafka client and the browser's driver for the tests
#   scripts/setup.sh compose the same as test, and a Docker engine, debootstrap and compose (or Go to build it with)
#
# Says nothing when nothing is missing. As root on a system with apt-get it installs what is missing;
# elsewhere it names what to install and exits 1. It starts no service and leaves none running: the
# programs that need Postgres, MariaDB or Kafka start their own, on free ports, and stop them again.
set -euo pipefail

readonly here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly min_postgres=15 min_java=17 min_go_minor=24 min_node=18

say() { printf 'setup: %s\n' "$*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }

# ---- what is there already -------------------------------------------------------------------

# The first number in what a program says about its version; 0 when it says nothing.
major() { "$@" 2>/dev/null | sed -n 's/[^0-9]*\([0-9][0-9]*\).*/\1/p;/[0-9]/q' | head -n 1 | grep . || echo 0; }

has_postgres() { # looks where the embedded-postgres crate looks
  local dir
  for dir in "${C360_PG_BIN:-}" "$(dirname "$(command -v initdb || echo /nowhere/x)")" /usr/lib/postgresql/*/bin; do
    [ -x "$dir/initdb" ] && [ -x "$dir/postgres" ] &&
      [ "$(major "$dir/postgres" --version)" -ge "$min_postgres" ] && return 0
  done
  return 1
}
has_compiler() { have cc && have c++; }
has_make() { have make; }
has_pkg_config() { have pkg-config; }
has_zlib() { printf '#include <zlib.h>\n' | cc -E - >/dev/null 2>&1; }
has_jdk() { have java && have javac && [ "$(major javac -version)" -ge "$min_java" ]; }
has_maven() { have mvn; }
has_mariadb() { # Debian keeps servers where not everybody's PATH looks
  (PATH=$PATH:/usr/sbin && have mariadbd && have mariadb && have mariadb-install-db)
}
has_python() { python3 -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 9))' 2>/dev/null; }
has_curl() { have curl; }
has_perl() { have perl && perl -MIPC::Cmd -MFindBin -e 1 2>/dev/null; }
has_setpriv() { have setpriv && have flock; }
has_promtool() { have promtool; }
has_systemd_analyze() { have systemd-analyze; }
has_chromium() { have chromium; }
has_node() { have npm && [ "$(major node --version)" -ge "$min_node" ]; }
has_docker() { have docker && (PATH=$PATH:/usr/sbin && have dockerd && have iptables); }
has_debootstrap() { (PATH=$PATH:/usr/sbin && have debootstrap); }
# Debian's Go is older than what compose is written for.
has_compose() { docker compose version >/dev/null 2>&1 || { have go && [ "$(go_minor)" -ge "$min_go_minor" ]; }; }
go_minor() { go version | sed -n 's/^go version go1\.\([0-9]*\).*/\1/p' | grep . || echo 0; }

# ---- what to do about it ---------------------------------------------------------------------

# check : Debian packages : what to tell a person whose system is another one
readonly demo_parts=(
  "has_postgres:postgresql:PostgreSQL $min_postgres or newer, server binaries (initdb, postgres; in PATH, /usr/lib/postgresql/*/bin or C360_PG_BIN)"
  "has_compiler:gcc g++ libc6-dev:a C and C++ compiler (cc, c++)"
  "has_make:make:GNU make"
  "has_pkg_config:pkg-config:pkg-config"
  "has_zlib:zlib1g-dev:the zlib headers (zlib.h)"
)
readonly test_parts=(
  "has_jdk:openjdk-17-jdk-headless:a JDK, $min_java or newer"
  "has_maven:maven:Maven (mvn)"
  "has_mariadb:mariadb-server mariadb-client:MariaDB server and client (mariadbd, mariadb, mariadb-install-db)"
  "has_python:python3 python3-venv:Python 3.9 or newer with the modules venv and ensurepip"
  "has_curl:curl:curl"
  "has_perl:perl:Perl with its standard modules, which builds OpenSSL"
  "has_setpriv:util-linux:util-linux (setpriv, flock)"
  "has_promtool:prometheus:promtool, which comes with Prometheus"
  "has_systemd_analyze:systemd:systemd-analyze, which comes with systemd"
  "has_chromium:chromium:Chromium (chromium)"
  "has_node:nodejs npm:Node.js $min_node or newer with npm"
)
readonly compose_parts=(
  "has_docker:docker.io iptables:a Docker engine (docker, dockerd, iptables)"
  "has_debootstrap:debootstrap:debootstrap"
  "has_compose::the plugin docker compose, or Go 1.$min_go_minor or newer to build it with"
)

# The parts whose check fails, one a line.
missing() {
  local part
  for part; do "${part%%:*}" || printf '%s\n' "$part"; done
}

apt() {
  DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@" >"$log" 2>&1 && return 0
  tail -n 20 "$log" >&2
  say "apt-get $1 failed; the lines above are the end of its output"
  return 1
}

# While this file is there, Debian's packages do not start the service they bring.
readonly policy=/usr/sbin/policy-rc.d
hold_services() {
  [ -e "$policy" ] && return 0
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod +x "$policy"
  held=1
}

# Debian's postgres package makes a cluster of its own ("main") that would start at the next boot. It asks this
# directory first, and only postgresql-common makes the file that names it.
readonly pg_conf=/etc/postgresql-common/createcluster.d
hold_cluster() {
  apt install -y --no-install-recommends postgresql-common || return 1
  [ -d "$pg_conf" ] || { mkdir "$pg_conf" && made_pg_conf=1; }
  printf 'create_main_cluster = false\n' >"$pg_conf/c360-setup.conf"
}

# Who wants a package for one of its tools has no use for its service after the next boot either.
leave_disabled() { # leave_disabled PACKAGE...
  case " $* " in *' prometheus '*) systemctl disable prometheus ;; esac >/dev/null 2>&1 || true
  case " $* " in *' docker.io '*) systemctl disable docker.service docker.socket containerd ;; esac >/dev/null 2>&1 || true
}

release() {
  [ -z "$held" ] || rm -f "$policy"
  rm -f "$pg_conf/c360-setup.conf" "$log"
  [ -z "$made_pg_conf" ] || rmdir --ignore-fail-on-non-empty "$pg_conf"
}

prepare() { # prepare PACKAGE...
  hold_services
  case " $* " in *' postgresql '*) hold_cluster ;; esac
}

install() { # install PART...
  local part failed=''
  local -a packages
  read -ra packages <<<"$(for part; do printf '%s ' "$(cut -d: -f2 <<<"$part")"; done)"
  log=$(mktemp) held='' made_pg_conf=''
  trap release EXIT
  say "installing ${packages[*]} ..."
  { apt update && prepare "${packages[@]}" && apt install -y --no-install-recommends "${packages[@]}"; } || failed=1
  [ -n "$failed" ] || leave_disabled "${packages[@]}"
  trap - EXIT
  release
  [ -z "$failed" ]
}

tell() {
  local part
  say "please install, then run this again:"
  for part; do printf '  - %s\n' "$(cut -d: -f3- <<<"$part")" >&2; done
}

install_or_tell() {
  local -a lacking
  mapfile -t lacking < <(missing "$@")
  [ "${#lacking[@]}" -gt 0 ] || return 0
  if [ "$(id -u)" = 0 ] && have apt-get; then
    if install "${lacking[@]}"; then
      mapfile -t lacking < <(missing "$@")
      [ "${#lacking[@]}" -gt 0 ] || return 0
      say "this system's own packages are not enough; perhaps they are too old"
    fi
  fi
  tell "${lacking[@]}"
  return 1
}

# Rust comes from its own installer, which belongs to the person and not to the system: only looked for.
check_rust() {
  if ! have cargo && [ -x "$HOME/.cargo/bin/cargo" ]; then
    say "Rust is installed but not in PATH; run: . \"$HOME/.cargo/env\""
    return 1
  fi
  have cargo || { say "Rust is missing; install it with rustup (https://rustup.rs), then run this again"; return 1; }
}

case "${1:-}" in
  demo) parts=("${demo_parts[@]}") ;;
  test) parts=("${demo_parts[@]}" "${test_parts[@]}") ;;
  compose) parts=("${demo_parts[@]}" "${test_parts[@]}" "${compose_parts[@]}") ;;
  *)
    sed -n '2,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 2
    ;;
esac

status=0
check_rust || status=1
install_or_tell "${parts[@]}" || status=1
[ "$status" = 0 ] || exit "$status"
[ "$1" = demo ] || { "$here/fetch-jars.sh" && "$here/fetch-python.sh" avro && "$here/fetch-python.sh" hostile && "$here/fetch-browser.sh"; } >/dev/null
