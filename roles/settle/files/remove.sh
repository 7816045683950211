#!/bin/sh
# Take units and files away: `remove.sh check|apply UNIT_PATTERN FILE... -- ALSO...`; the pattern may be empty.
# FILEs, which may be patterns, are the lab's own: where none of them is there, the unit and ALSO (files of others that
# the lab replaced) are somebody else's and left alone. They go in this order, so a run that died goes on from the rest; a
# folder with a slash at its end goes when it is empty. The last line printed is "unchanged" or "changed: ...".
set -eu
mode=$1
pattern=$2
shift 2

own="" also="" folders="" drafts=""
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    case $1 in
    */) folders="$folders $1" ;;
    *)
        for file in $1; do [ ! -e "$file" ] || own="$own $file"; done
        drafts="$drafts ${1%/*}/.${1##*/}.settled" # what a killed run was writing
        ;;
    esac
    shift
done
[ $# -eq 0 ] || shift
for file in "$@"; do [ ! -e "$file" ] || also="$also $file"; done
if [ -z "$own" ]; then
    echo unchanged
    exit
fi
echo "changed:$also$own"
[ "$mode" = apply ] || exit 0

units() { # those that run, and those that would at the next boot
    systemctl list-units --all --plain --no-legend "$pattern"
    systemctl list-unit-files --plain --no-legend "$pattern"
}

if [ -n "$pattern" ]; then
    for unit in $(units | cut -d' ' -f1 | grep -v '@\.' | sort -u); do
        systemctl --quiet disable --now "$unit"
        rm -f "/var/lib/mptcp-lab/loaded/$unit"
    done
fi
# shellcheck disable=SC2086 # the files' names hold no spaces
rm -rf $also $own $drafts
# shellcheck disable=SC2086
[ -z "$folders" ] || rmdir --ignore-fail-on-non-empty $folders
[ ! -d /var/lib/mptcp-lab/loaded ] || rmdir --ignore-fail-on-non-empty /var/lib/mptcp-lab/loaded
systemctl daemon-reload
case $own in
*/etc/NetworkManager/*)
    systemctl try-reload-or-restart NetworkManager.service
    ! systemctl --quiet is-active NetworkManager.service || nmcli connection reload
    ;;
esac
