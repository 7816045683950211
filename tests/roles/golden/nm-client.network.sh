#!/bin/sh
# The lab's NICs where NetworkManager owns them. Rendered from templates/network-manager.sh.j2, run by
# mptcp-lab-network.service. Addresses, routes, rules and endpoint flags stand in NetworkManager's own profiles,
# /etc/NetworkManager/system-connections/mptcp-lab-*.nmconnection, which it takes up by itself at boot.
#
#   mptcp-lab-network apply    activate the profiles as they are written now
#   mptcp-lab-network routes   put back what is missing of them, endpoints included
#   mptcp-lab-network undo     deactivate them
set -eu
applied=/run/mptcp-lab/network
settings=/etc/sysctl.d/90-mptcp-lab-network.conf
up='eth1 '
down='eth2 '

undo() {
    for device in $up $down; do
        nmcli --terse connection down "mptcp-lab-$device" 2>/dev/null || true # it was not up
    done
}

routes() {
    for device in $up; do
        nmcli --terse device reapply "$device"
    done
}

apply() {
    [ ! -e "$applied" ] || sh "$applied" undo
    for device in $up $down; do
        nmcli --terse connection load "/etc/NetworkManager/system-connections/mptcp-lab-$device.nmconnection"
    done
    for device in $up; do
        nmcli --terse --wait 30 connection up "mptcp-lab-$device"
    done
    /usr/lib/systemd/systemd-sysctl "$settings" # NetworkManager sets some of them itself
    for device in $down; do ip link set dev "$device" down; done
    cp "$0" "$applied"
}

case "${1:-}" in
apply | routes | undo) "$1" ;;
*) echo 'usage: mptcp-lab-network apply|routes|undo' >&2; exit 2 ;;
esac
