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
    packages=$(echo "${part#*:}" | tr , ' ')
    # shellcheck disable=SC2086 # one word per package, here and below
    apt-get -qq --yes --no-install-recommends --download-only -o Dir::Cache::archives="$pool" \
        -t "$suite" install $packages >&2
    if [ "$suite" != "$base" ]; then
        # shellcheck disable=SC2086
        upgrades=$(apt-get -qq --simulate --no-install-recommends -t "$suite" install $packages |
            sed -n 's/^Inst \([^ ]*\) \[\([^]]*\)\].*/\1=\2/p')
        # What a later suite upgrades must be there in the base's version too, for the way back.
        # shellcheck disable=SC2086
        [ -z "$upgrades" ] || (cd "$root/srv/pool/$base" && apt-get -qq download $upgrades >&2)
    fi
    rm -rf "$pool/partial" "$pool/lock" "$root/etc/apt/sources.list.d/pool.list"
done
