#!/bin/sh
# Configure addresses and source routing of the lab's NICs. Rendered from templates/network.sh.j2, run by
# mptcp-lab-network.service.
#
#   mptcp-lab-network apply    set addresses, rules, routes and links as listed here
#   mptcp-lab-network routes   add the routes again: the kernel removes them when a link goes down
#   mptcp-lab-network undo     remove what the last apply added
#
# Packets from a NIC's address use that NIC's routing table first, so that they leave by that NIC. Routing protocol number
# 71 marks the routes and rules of the lab, so that no others are removed. There is no default route.
#
# A NIC with state "down" is set up first and down again: the kernel gives a queue and a local IPv6 route only to a NIC
# that was up once.
set -eu
applied=/run/mptcp-lab/network
settings=/etc/sysctl.d/90-mptcp-lab-network.conf
devices='eth1 eth2'
tables='7101 7102'

addresses='
address replace 198.18.1.1/24 dev eth1
address replace 2001:db8:1::1/64 dev eth1 nodad
link set dev eth1 up
address replace 198.18.10.1/24 dev eth2
address replace 2001:db8:10::1/64 dev eth2 nodad
link set dev eth2 up
'

rules_ipv4='
rule add from 198.18.1.1 lookup 7101 priority 7101 protocol 71
rule add from 198.18.10.1 lookup 7102 priority 7102 protocol 71
'

rules_ipv6='
rule add from 2001:db8:1::1 lookup 7101 priority 7101 protocol 71
rule add from 2001:db8:10::1 lookup 7102 priority 7102 protocol 71
'

# Each NIC's table has the NIC's segment and the segments behind a gateway there. The main table has the segments that
# this host reaches only through a gateway.
routes='
route replace 198.18.1.0/24 dev eth1 table 7101 protocol 71
route replace 2001:db8:1::/64 dev eth1 table 7101 protocol 71
route replace 198.18.10.0/24 dev eth2 table 7102 protocol 71
route replace 2001:db8:10::/64 dev eth2 table 7102 protocol 71
'

await() { # DEVICE: a NIC may appear late in the boot
    tries=100
    until [ -e "/sys/class/net/$1" ]; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || { echo "mptcp-lab-network: device $1 did not appear in 10 s; is lab_nics right?" >&2; exit 1; }
        sleep 0.1
    done
}

routes() { # only for NICs whose link is up: the kernel refuses routes on others
    for device in $devices; do
        if ip link show up dev "$device" | grep -q .; then
            echo "$routes" | grep -e " dev $device " | ip -batch -
        fi
    done
}

undo() {
    for family in -4 -6; do
        ip "$family" rule flush protocol 71
        ip "$family" route flush table all protocol 71
        for table in $tables; do ip "$family" route flush table "$table" 2>/dev/null || true; done # fails if the table does not exist
    done
    for device in $devices; do
        [ -e "/sys/class/net/$device" ] || continue
        ip address flush dev "$device" scope global
        # What router advertisements brought before the settings applied. The route of an advertised prefix has protocol
        # kernel and outlives its address; only an advertised route expires.
        ip -6 route flush dev "$device" protocol ra
        ip -6 route show dev "$device" | while read -r prefix rest; do
            case " $rest " in *" expires "*) ip -6 route delete "$prefix" dev "$device" || true ;; esac
        done
    done
}

apply() {
    for device in $devices; do await "$device"; done
    [ ! -e "$applied" ] || sh "$applied" undo
    undo
    /usr/lib/systemd/systemd-sysctl "$settings" # before the addresses: until then, advertisements and redirects would be accepted
    echo "$addresses" | ip -batch -
    echo "$rules_ipv4" | ip -4 -batch -
    echo "$rules_ipv6" | ip -6 -batch -
    routes
    cp "$0" "$applied"
}

case "${1:-}" in
apply | routes | undo) "$1" ;;
*) echo 'usage: mptcp-lab-network apply|routes|undo' >&2; exit 2 ;;
esac
