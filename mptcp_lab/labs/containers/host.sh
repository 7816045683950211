#!/bin/sh
# A host of the embedded lab, from power-on to power-off, rebooted as often as it asks. Runs in the host's cgroup.
# host.sh power IMAGE OWN NETNS HOSTNAME RUN POOL DROPPED-CAPABILITIES FRESH
set -eu

# As on a real machine, a reboot keeps the NICs, and every setting on them is gone. The NICs move to
# a new namespace, which then takes the old one's name. A rate belongs to the cable and is laid on again.
reset_network() {
    rates=$(tc -n "$netns" qdisc show | sed -n 's/^qdisc tbf [^ ]* dev \([^ ]*\) root refcnt [0-9]* \(.*\)$/\1 \2/p')
    ip netns add "$netns.new"
    # Without duplicate address detection, as in fabric.py.
    # shellcheck disable=SC2016 # the inner shell expands it
    ip netns exec "$netns.new" sh -c 'for name in all default; do
        file=/proc/sys/net/ipv6/conf/$name/accept_dad
        [ ! -e "$file" ] || echo 0 >"$file"
    done'
    for nic in $(ip -n "$netns" -brief link show type veth | sed 's/[@ ].*//'); do
        ip -n "$netns" link set "$nic" netns "$netns.new"
    done
    ip netns del "$netns"
    : >"/run/netns/$netns"
    mount --bind "/run/netns/$netns.new" "/run/netns/$netns"
    ip netns del "$netns.new"
    ip -n "$netns" link set lo up
    echo "$rates" | while read -r nic limit; do
        # shellcheck disable=SC2086 # the limit is several words
        [ -z "$nic" ] || tc -n "$netns" qdisc replace dev "$nic" root tbf ${limit%% overhead*}
    done
}

# One boot, in a new mount namespace: what is mounted here is gone when the host ends.
boot() {
    mount -t overlay overlay -o "lowerdir=$image/root,upperdir=$own/upper,workdir=$own/work" "$own/merged"
    # systemd inside wants a cgroup v2 tree; on a machine with a hybrid or v1 tree this namespace gets one.
    [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ] || mount -t cgroup2 cgroup2 /sys/fs/cgroup
    # nspawn keeps notes under /run/systemd/nspawn: not on the machine's own.
    mkdir -p /run/systemd
    mount -t tmpfs -o mode=0755 tmpfs /run/systemd
    export SYSTEMD_NSPAWN_API_VFS_WRITABLE=network
    exec systemd-nspawn --quiet --directory="$own/merged" --machine="$netns" --hostname="$hostname" --boot \
        --register=no --keep-unit --network-namespace-path="/run/netns/$netns" \
        --capability=CAP_NET_ADMIN --drop-capability="$dropped" \
        --resolv-conf=off --timezone=off --link-journal=no --console=pipe \
        --bind="$run:/run/host/unix-export" --bind-ro="$pool:/srv/pool"
}

action=$1 image=$2 own=$3 netns=$4 hostname=$5 run=$6 pool=$7 dropped=$8
shift 8
fresh=$1

if [ "$action" = boot ]; then
    boot
fi
code=133 # what nspawn says when the host asked for a reboot
while [ "$code" = 133 ]; do
    [ "$fresh" = yes ] || reset_network
    fresh=no code=0
    nsenter --net="/run/netns/$netns" unshare --mount --propagation slave \
        sh "$0" boot "$image" "$own" "$netns" "$hostname" "$run" "$pool" "$dropped" no || code=$?
done
exit "$code"
