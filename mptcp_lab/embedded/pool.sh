#!/bin/sh
# Runs inside mmdebstrap (customize hook): fetches what roles install later into $1/srv/pool/SUITE, verified by
# apt like every other package. $2: the base suite, then SUITE:PACKAGE[,PACKAGE...] for each part of the pool.
set -eu
root=$1 base=$2
shift 2
export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
uri=$(sed -n 's/^deb \(\[[^]]*\] \)\{0,1\}\([^ ]*\) .*/\2/p' "$root/etc/apt/sources.list" | head -n 1)
for part in "$@"; do
    suite=${part%%:*}
    pool="$root/srv/pool/$suite"
    mkdir -p "$pool/partial"
    echo "I: fetching the package pool for $suite..." >&2
    if [ "$suite" != "$base" ]; then
        echo "deb $uri $suite main" >"$root/etc/apt/sources.list.d/pool.list"
        apt-get -qq -o Acquire::Check-Valid-Until=false update >&2
    fi
    # shellcheck disable=SC2046 # one word per package
    apt-get -qq --yes --no-install-recommends --download-only -o Dir::Cache::archives="$pool" \
        -t "$suite" install $(echo "${part#*:}" | tr , ' ') >&2
    rm -rf "$pool/partial" "$pool/lock" "$root/etc/apt/sources.list.d/pool.list"
done
