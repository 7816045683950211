#!/bin/sh
# Take units and files away: `remove.sh check|apply UNIT_PATTERN -- FILE...`; the pattern may be empty.
# Where none of the files is there, the unit is somebody else's and is left alone. The last line printed is
# "unchanged" or "changed: ..." with what was there.
set -eu
mode=$1
pattern=$2
shift 3

present=
for file in "$@"; do
    [ ! -e "$file" ] || present="$present $file"
done
if [ -z "$present" ]; then
    echo unchanged
    exit
fi
echo "changed:$present"
[ "$mode" = apply ] || exit 0

if [ -n "$pattern" ]; then
    for unit in $(systemctl list-units --all --plain --no-legend "$pattern" | cut -d' ' -f1); do
        systemctl --quiet disable --now "$unit"
    done
fi
# shellcheck disable=SC2086 # the files' names hold no spaces
rm -rf $present
systemctl daemon-reload
case $present in
*/etc/NetworkManager/*) systemctl try-reload-or-restart NetworkManager.service ;;
esac
