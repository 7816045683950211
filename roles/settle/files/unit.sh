#!/bin/sh
# Bring a unit to what its files say, and nothing more than that needs.
#
#   unit.sh check|apply UNIT RESTART_FILE... -- RELOAD_FILE...
#
# The unit is enabled, started where it is not active, restarted where a RESTART_FILE is newer than its start, reloaded
# where a RELOAD_FILE is newer than its last start or reload. What to do is read off the host, not remembered from earlier
# steps: a run that died half-way is made good by the next one. The last line printed is "unchanged" or "changed: ...".
set -eu
mode=$1
unit=$2
shift 2

show() {
    systemctl show --timestamp=us+utc --property="$1" --value "$unit"
}

newer_than() { # MOMENT FILE...: is one of the files newer, or one written +FILE there at all?
    moment=$1
    shift
    for file in "$@"; do
        case $file in
        +*) [ ! -e "${file#+}" ] || return 0 ;;
        *) [ -z "$(find "$file" -prune -newermt "$moment" 2>/dev/null)" ] || return 0 ;;
        esac
    done
    return 1
}

explain() {
    echo "$unit does not $1. Its last words:" >&2
    journalctl --no-pager --quiet --output=cat --lines=15 --unit="$unit" >&2
    exit 1
}

restart_files=
while [ "$1" != -- ]; do
    restart_files="$restart_files $1"
    shift
done
shift

todo=
[ "$(show UnitFileState)" = enabled ] || todo=enable
action=
# shellcheck disable=SC2086 # the files' names hold no spaces
if [ "$(show ActiveState)" != active ]; then
    action=start
elif [ "$(show NeedDaemonReload)" = yes ] || newer_than "$(show ActiveEnterTimestamp)" $restart_files; then
    action=restart
elif newer_than "$(show StateChangeTimestamp)" "$@"; then
    action=reload
fi
todo="$todo${todo:+${action:+, }}$action"
if [ -z "$todo" ]; then
    echo unchanged
    exit
fi

if [ "$mode" = apply ]; then
    systemctl daemon-reload
    systemctl --quiet enable "$unit" || explain "let itself be enabled"
    case $action in
    start | restart) systemctl restart "$unit" || explain start ;;
    reload) systemctl reload "$unit" || systemctl restart "$unit" || explain "take its new configuration" ;;
    esac
fi
echo "changed: $todo"
