#!/bin/sh
# Configure the lab's NICs on a host where NetworkManager manages them. Rendered from templates/network-manager.sh.j2,
# run by mptcp-lab-network.service. Addresses, routes, rules and endpoint flags are in NetworkManager's profiles,
# /etc/NetworkManager/system-connections/mptcp-lab-*.nmconnection, which it activates at boot.
#
#   mptcp-lab-network apply    load and activate the profiles
#   mptcp-lab-network routes   add missing addresses, routes, rules and endpoints of the active profiles
#   mptcp-lab-network undo     deactivate the profiles
set -eu
applied=/run/mptcp-lab/network
settings=/etc/sysctl.d/90-mptcp-lab-network.conf
up='eth1 '
down='eth2 '

undo() {
    for device in $up $down; do
        nmcli --terse connection down "mptcp-lab-$device" 2>/dev/null || true # fails if the profile is not active
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
    /usr/lib/systemd/systemd-sysctl "$settings" # NetworkManager has changed some of these settings
    for device in $down; do ip link set dev "$device" down; done
    cp "$0" "$applied"
}

case "${1:-}" in
apply | routes | undo) "$1" ;;
*) echo 'usage: mptcp-lab-network apply|routes|undo' >&2; exit 2 ;;
esac
