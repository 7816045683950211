#!/bin/sh
# Lets programs read rendered files where a host would have them: `scratch.sh ROOT TREE PROGRAM [DEBS...]`. ROOT is a root
# filesystem, TREE what was rendered for a host, PROGRAM a Python program that runs in there. Everything happens in
# separate namespaces, on a layer in memory: nothing of ROOT or of the machine changes.
set -eu
if [ "${1:-}" != inside ]; then
    user=''
    [ "$(id -u)" = 0 ] || user='--user --map-root-user'
    # shellcheck disable=SC2086
    exec unshare $user --mount --net --pid --fork --kill-child sh "$0" inside "$@"
fi
root=$2 tree=$3 program=$4
shift 4

mount --make-rprivate /
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay overlay -o "lowerdir=$root,upperdir=/mnt/upper,workdir=/mnt/work" /mnt/root
for deb in "$@"; do
    dpkg-deb --extract "$deb" /mnt/root
done
# The effects of install scripts that the programs depend on.
if [ -e /mnt/root/usr/sbin/haproxy ] && ! grep -q ^haproxy: /mnt/root/etc/passwd; then
    echo 'haproxy:x:999:999::/var/lib/haproxy:/usr/sbin/nologin' >>/mnt/root/etc/passwd
    echo 'haproxy:x:999:' >>/mnt/root/etc/group
fi
for module in /mnt/root/usr/share/nginx/modules-available/*.conf; do
    [ ! -e "$module" ] || ln -sf "${module#/mnt/root}" "/mnt/root/etc/nginx/modules-enabled/50-${module##*/}"
done
mkdir -p /mnt/root/run/nginx # which the unit's RuntimeDirectory= makes
cp -R "$tree/." /mnt/root/
mount -t proc proc /mnt/root/proc
mount --rbind /dev /mnt/root/dev
# nginx -t opens its listeners, on addresses that are not there.
echo 1 >/proc/sys/net/ipv4/ip_nonlocal_bind
echo 1 >/proc/sys/net/ipv6/ip_nonlocal_bind
exec chroot /mnt/root python3 -c "$program"
