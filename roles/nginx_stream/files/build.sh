#!/bin/sh
# nginx from its source, on the host: build.sh status|apply SHA256 OPTIONS [TARBALL PACKAGES REMOVE CONSENT]
#
# status says whether the build of this source with these configure OPTIONS is there, and nothing is left of making it.
# apply makes it so. The source is compiled by a user that exists only meanwhile, without network and without a folder of
# the host that it could write to: the tarball goes in by standard input, the program comes out by standard output.
# What has to be installed for that (PACKAGES) is written down before, so that it goes (REMOVE: yes) even when an earlier
# run died. CONSENT: whether packages may be installed. The last line printed is "unchanged" or "changed: ...".
# This script itself may come by standard input, so nothing that it starts reads from there.
set -eu
prefix=/usr/local/nginx
stamp=$prefix/mptcp-lab-build
note=/var/lib/mptcp-lab/compiler-packages
mode=$1 sha256=$2 options=$3
export DEBIAN_FRONTEND=noninteractive
fixed="--prefix=$prefix --conf-path=$prefix/conf/nginx.conf --pid-path=/run/nginx.pid --lock-path=/run/nginx.lock
--error-log-path=/var/log/nginx/error.log"

refuse() {
    echo "$(uname -n): $*" >&2
    exit 1
}

built() { [ "$(cat "$stamp" 2>/dev/null)" = "$sha256 $options" ]; }

# shellcheck disable=SC2086 # one word per package
install_compiler() { # "Inst NAME (VERSION ..." is new, "Inst NAME [OLD] (..." an upgrade
    apt-get -qq update >&2
    new=$(apt-get -qq --simulate --no-install-recommends install $packages | sed -n 's/^Inst \([^ ]*\) (.*/\1/p')
    [ -n "$new" ] || return 0
    [ "$consent" = yes ] || refuse "$packages would be installed, and the host is marked lab_owned: false;" \
        "set lab_packages_ok: true to allow it"
    install -d -m 0700 "${note%/*}"
    echo "$new" >>"$note" # beside what a run that died has installed
    apt-get -qq --yes --no-install-recommends install $packages </dev/null >&2
}

remove_compiler() {
    [ -s "$note" ] || return 0
    # shellcheck disable=SC2046
    [ "$remove" = no ] || apt-get -qq --yes purge $(cat "$note") </dev/null >&2
    rm "$note"
}

# shellcheck disable=SC2086 # one word per option
compile() {
    systemctl stop mptcp-lab-build.service 2>/dev/null || true # of a run that died
    systemd-run --quiet --wait --pipe --collect --unit=mptcp-lab-build -p DynamicUser=yes -p PrivateNetwork=yes \
        -p PrivateDevices=yes -p ProtectHome=yes -p CapabilityBoundingSet= -p RuntimeMaxSec=1200 -p WorkingDirectory=/tmp \
        sh -euc 'tar --extract --gzip --strip-components=1
            ./configure "$@" >configure.log 2>&1 || { tail -n 20 configure.log >&2; exit 1; }
            make --silent --jobs="$(nproc)" >make.log 2>&1 || { tail -n 20 make.log >&2; exit 1; }
            cat objs/nginx' sh $fixed $options <"$tarball"
}

if [ "$mode" = status ]; then
    if built && [ ! -s "$note" ]; then echo unchanged; else echo "changed: nginx is to be built"; fi
    exit
fi

finish() {
    remove_compiler
    rm -f "$tarball"
}

tarball=$4 packages=$5 remove=$6 consent=$7
trap finish EXIT
if ! built; then
    [ -e "$stamp" ] || [ ! -e "$prefix" ] || refuse "$prefix is there and not the lab's; move it away"
    found=$(sha256sum "$tarball" | cut -d' ' -f1)
    [ "$found" = "$sha256" ] || refuse "the source's SHA-256 is $found, not $sha256; correct nginx_stream_source_sha256"
    command -v apt-get >/dev/null || refuse "a source build needs apt; leave nginx_stream_source away to install the package"
    mkdir -p "$prefix/sbin" "$prefix/conf" /var/log/nginx
    : >>"$stamp" # from here on the folder is the lab's
    install_compiler
    compile >"$prefix/sbin/nginx.new"
    chmod 0755 "$prefix/sbin/nginx.new"
    mv "$prefix/sbin/nginx.new" "$prefix/sbin/nginx"
    echo "$sha256 $options" >"$stamp"
fi
echo "changed: nginx is built"
