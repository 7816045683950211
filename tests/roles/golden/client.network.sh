#!/bin/sh
# Addresses and source routing of the lab's NICs. Rendered from templates/network.sh.j2, run by
# mptcp-lab-network.service.
#
#   mptcp-lab-network apply    make the lab's NICs as described here
#   mptcp-lab-network routes   put routes back: a NIC loses them when its link goes down
#   mptcp-lab-network undo     take away what the last apply gave
#
# What leaves from a NIC's address looks into that NIC's own table first, so that it leaves by that NIC. Protocol
# 71 marks the lab's routes and rules, which is how they are told from others. There is no default route.
#
# A NIC that is kept down is up for a moment: to the kernel one that never was up is not the same (no queue, no local
# IPv6 route) as one that came down again.
set -eu
applied=/run/mptcp-lab/network
settings=/etc/sysctl.d/90-mptcp-lab-network.conf
devices='eth1 eth2'
tables='7101 7102'

addresses='
address replace 198.18.1.10/24 dev eth1
address replace 2001:db8:1::10/64 dev eth1 nodad
link set dev eth1 up
address replace 198.18.2.10/24 dev eth2
link set dev eth2 up
link set dev eth2 down
'

rules_ipv4='
rule add from 198.18.1.10 lookup 7101 priority 7101 protocol 71
rule add from 198.18.2.10 lookup 7102 priority 7102 protocol 71
'

rules_ipv6='
rule add from 2001:db8:1::10 lookup 7101 priority 7101 protocol 71
'

# A NIC's own table: the segment it is plugged into, and what lies behind a gateway there. The main table: segments that this
# host reaches through a gateway only.
routes='
route replace 198.18.1.0/24 dev eth1 table 7101 protocol 71
route replace 2001:db8:1::/64 dev eth1 table 7101 protocol 71
route replace 198.18.10.0/24 via 198.18.1.1 dev eth1 table 7101 protocol 71
route replace 198.18.10.0/24 via 198.18.1.1 dev eth1 protocol 71
route replace 2001:db8:10::/64 via 2001:db8:1::1 dev eth1 table 7101 protocol 71
route replace 2001:db8:10::/64 via 2001:db8:1::1 dev eth1 protocol 71
route replace 198.18.2.0/24 dev eth2 table 7102 protocol 71
'

await() { # DEVICE: early in the boot a NIC may not be there yet
    tries=100
    until [ -e "/sys/class/net/$1" ]; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || { echo "mptcp-lab-network: device $1 did not appear in 10 s; is lab_nics right?" >&2; exit 1; }
        sleep 0.1
    done
}

routes() { # of the NICs whose link is up: the kernel takes no others
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
        for table in $tables; do ip "$family" route flush table "$table" 2>/dev/null || true; done # it may not be there
    done
    for device in $devices; do
        [ -e "/sys/class/net/$device" ] || continue
        ip address flush dev "$device" scope global
        ip -6 route flush dev "$device" protocol ra # what a router's advertisement brought before it was ignored
    done
}

apply() {
    for device in $devices; do await "$device"; done
    [ ! -e "$applied" ] || sh "$applied" undo
    undo
    /usr/lib/systemd/systemd-sysctl "$settings" # before an address: nothing is to be learnt from strangers meanwhile
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
