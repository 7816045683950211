#!/bin/sh
# Runs inside mmdebstrap (customize hook): fetches what roles install later into $1/srv/pool/SUITE, verified by
# apt like every other package. $2: the base suite, then SUITE[@DATE]:PACKAGE[,PACKAGE...] for each part of the pool.
#
# A suite's signed index has to be valid today. With a DATE, an index that has expired is accepted (mirrors that keep
# snapshots have no other), but none that was signed before that day: whoever sits between here and the mirror can
# replay no version that is older.
set -eu
root=$1 base=$2
shift 2

check_date() { # SUITE DATE
    for index in "$root"/var/lib/apt/lists/*_dists_"$1"_InRelease "$root"/var/lib/apt/lists/*_dists_"$1"_Release; do
        [ -e "$index" ] || continue
        signed=$(sed -n 's/^Date: //p' "$index" | head -n 1)
        if [ "$(date -u -d "$signed" +%s)" -lt "$(date -u -d "$2" +%s)" ]; then
            echo "E: the index of $1 was signed on $signed; one from before $2 is refused" >&2
            exit 1
        fi
        return 0
    done
    echo "E: apt fetched no signed index of $1" >&2
    exit 1
}

export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
uri=$(sed -n 's/^deb \(\[[^]]*\] \)\{0,1\}\([^ ]*\) .*/\2/p' "$root/etc/apt/sources.list" | head -n 1)
for part in "$@"; do
    suite=${part%%:*}
    since="" valid=true
    case $suite in
    *@*) since=${suite#*@} suite=${suite%@*} valid=false ;;
    esac
    pool="$root/srv/pool/$suite"
    mkdir -p "$pool/partial"
    echo "I: fetching the package pool for $suite..." >&2
    if [ "$suite" != "$base" ]; then
        echo "deb $uri $suite main" >"$root/etc/apt/sources.list.d/pool.list"
        apt-get -qq -o Acquire::Check-Valid-Until="$valid" update >&2
        [ -z "$since" ] || check_date "$suite" "$since"
    fi
    packages=$(echo "${part#*:}" | tr , ' ')
    # shellcheck disable=SC2086 # one word per package, here and below
    apt-get -qq --yes --no-install-recommends --download-only -o Dir::Cache::archives="$pool" \
        -t "$suite" install $packages >&2
    if [ "$suite" != "$base" ]; then
        # shellcheck disable=SC2086
        upgrades=$(apt-get -qq --simulate --no-install-recommends -t "$suite" install $packages |
            sed -n 's/^Inst \([^ ]*\) \[\([^]]*\)\].*/\1=\2/p')
        # Packages that a later suite upgrades must be there in the base's version too, for the way back.
        # shellcheck disable=SC2086
        [ -z "$upgrades" ] || (cd "$root/srv/pool/$base" && apt-get -qq download $upgrades >&2)
    fi
    rm -rf "$pool/partial" "$pool/lock" "$root/etc/apt/sources.list.d/pool.list"
done
