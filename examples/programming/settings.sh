#!/bin/sh
# The settings of MPTCP in the network namespace where this runs: sh settings.sh ADDRESS DEVICE
# Sets limits and an endpoint, and prints everything. To change nothing: unshare --net sh settings.sh ...
set -eu
sysctl --quiet --write net.mptcp.enabled=1
ip mptcp limits set subflows 8 add_addr_accepted 8
ip mptcp endpoint add "$1" dev "$2" subflow fullmesh
sysctl net.mptcp.enabled
ip mptcp limits show
ip mptcp endpoint show
