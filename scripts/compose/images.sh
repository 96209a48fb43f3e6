# Stand-ins for the images that docker-compose.yml and the Dockerfile name, and c360's own. Sourced by
# scripts/test-compose.sh.
# shellcheck shell=bash

# Debian's engine comes without the newer builder, and nothing here needs it.
export DOCKER_BUILDKIT=0

# Every image that is not built from the Dockerfile, bases first.
named_images() {
  sed -n 's/^FROM \([^ ]*\).*/\1/p' Dockerfile | sort --unique | if [ -n "${BINARY:-}" ]; then grep --invert-match '^rust:'; else cat; fi
  sed -n 's/^ *image: //p' docker-compose.yml | grep --invert-match '^c360:' | sort --unique
}

build_stand_ins() {
  local image jars
  local -A building
  jars=$("$root/scripts/fetch-jars.sh")
  for image in $(named_images); do
    say "a stand-in for $image"
    # The first one, as it is in the Dockerfile: all others begin with it.
    case $image in
      debian:*) debian "$image" ;;
      *) stand_in "$image" "$jars" & building[$image]=$! ;;
    esac
  done
  for image in "${!building[@]}"; do wait "${building[$image]}" || fail "there is no stand-in for $image"; done
}

stand_in() { # stand_in IMAGE JARS
  case $1 in
    rust:*) rust "$1" ;;
    apache/kafka:*) kafka "$1" "$2" ;;
    */debezium/connect:*) from_tar "$1" -C "$parts/images/connect" . -C "$2" broker plugins ;;
    postgres:*) from_tar "$1" -C "$parts/images/postgres" . ;;
    mysql:*) from_tar "$1" -C "$parts/images/mysql" . ;;
    prom/prometheus:*) from_tar "$1" -C "$parts/images/prometheus" . ;;
    grafana/grafana:*) from_tar "$1" -C "$parts/images/grafana" . ;;
    *) fail "nothing stands in for $1" ;;
  esac
}

# c360's own image, by the Dockerfile; with BINARY only its last stage, around that program.
build_c360() {
  say "c360's image"
  if [ -z "${BINARY:-}" ]; then
    compose build c360
    return
  fi
  mkdir -p "$run/last/deploy" "$run/last/fixtures"
  sed '1,/^# ---- run/d; s,--from=build /out/c360,c360,' Dockerfile > "$run/last/Dockerfile"
  install --strip "$BINARY" "$run/last/c360"
  cp deploy/healthcheck.sh "$run/last/deploy/"
  cp fixtures/online_store.json "$run/last/fixtures/"
  docker build --tag c360:0.1.0 "$run/last"
}

# from_tar IMAGE TAR_ARGUMENT...: builds an image from what tar packs; a Dockerfile must be among it.
from_tar() {
  local image=$1 log=$run/${1//[^a-z]/-}.log
  shift
  tar -c "$@" | docker build --quiet --tag "$image" - 2> "$log" || { cat "$log" >&2; return 1; }
}

debian() {
  local release=${1#debian:}
  ! docker image inspect "$1" > /dev/null 2>&1 || return 0
  debootstrap --variant=minbase --include=ca-certificates "${release%-slim}" "$run/root" > "$run/debootstrap.log" ||
    { tail -n 20 "$run/debootstrap.log" >&2; return 1; }
  # Whom this machine trusts beyond Debian's list, the stand-ins have to trust as well.
  cp /usr/local/share/ca-certificates/*.crt "$run/root/usr/local/share/ca-certificates/" 2> /dev/null || true
  chroot "$run/root" update-ca-certificates > /dev/null
  tar -C "$run/root" --exclude='./var/cache/apt/archives/*.deb' -c . | docker import - "$1"
  rm -rf "$run/root"
}

rust() {
  local sysroot
  sysroot=$(rustc --print sysroot)
  ! docker image inspect "$1" > /dev/null 2>&1 || return 0
  from_tar "$1" --exclude=./share --exclude=./lib/rustlib/src -C "$parts/images/rust" Dockerfile \
    --transform 's,^\./,toolchain/,' -C "$sysroot/" .
}

kafka() { # kafka IMAGE JARS
  mvn -B -ntp -q dependency:copy -Dartifact="org.apache.kafka:kafka-tools:${1#*:}" -DoutputDirectory="$run/kafka/tools"
  from_tar "$1" -C "$parts/images/kafka" . -C "$2" broker -C "$run/kafka" tools
}
