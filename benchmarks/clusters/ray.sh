#!/bin/bash
# Ray on this one machine, and a sweep on it. Ray listens on all interfaces: so it runs in a network of its own, which has
# nothing but the loopback, and takes nobody without the token. As root: benchmarks/clusters/ray.sh [PYTHON]
set -eu
python=${1:-python3}
if [ -z "${IN_A_NETWORK_OF_ITS_OWN:-}" ]; then
    exec env IN_A_NETWORK_OF_ITS_OWN=1 unshare --net -- "$0" "$python"
fi
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
ip link set lo up 2>/dev/null || "$python" -c "
import fcntl, socket, struct
s = socket.socket(); r = struct.pack('16sh', b'lo', 0x1 | 0x40); fcntl.ioctl(s, 0x8914, r)"
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN=$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')
export RAY_USAGE_STATS_ENABLED=0 PYTHONPATH=$here:${PYTHONPATH:-}
bin=$(dirname "$(command -v "$python")")
"$bin/ray" start --head --node-ip-address=127.0.0.1 --port=6399 --num-cpus=2 --include-dashboard=false \
    --disable-usage-stats --temp-dir="$work/ray" --block > "$work/ray.log" 2>&1 & head=$!
trap 'kill "$head" 2>/dev/null || true' EXIT
for _ in $(seq 60); do grep -q "Ray runtime started" "$work/ray.log" && break; sleep 0.5; done
(cd "$here" && "$python" cluster_sweep.py ray "$work" 127.0.0.1:6399)
