#!/bin/bash
# SLURM on this one machine, without systemd, and a sweep on it. As root, once:
#   apt-get install -y --no-install-recommends slurmctld slurmd slurm-client munge
# then: benchmarks/clusters/slurm.sh [PYTHON]
set -eu
python=${1:-python3}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
host=$(hostname -s)
mkdir -p "$work/state" "$work/spool" /run/munge && chown munge: /run/munge
[ -s /etc/munge/munge.key ] || { dd if=/dev/urandom of=/etc/munge/munge.key bs=1024 count=1 status=none; chown munge: /etc/munge/munge.key; chmod 400 /etc/munge/munge.key; }
cat > "$work/slurm.conf" <<CONF
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
ReturnToService=2
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/ctld.pid
SlurmdPidFile=$work/d.pid
SlurmctldLogFile=$work/ctld.log
SlurmdLogFile=$work/d.log
AccountingStorageType=accounting_storage/none
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF=$work/slurm.conf
started=()
trap 'kill "${started[@]}" 2>/dev/null || true' EXIT
runuser -u munge -- munged --foreground > "$work/munged.log" 2>&1 & started+=($!)
sleep 1
slurmctld -D > "$work/ctld.out" 2>&1 & started+=($!)
slurmd -D > "$work/d.out" 2>&1 & started+=($!)
for _ in $(seq 50); do sinfo -h -o %t 2>/dev/null | grep -q idle && break; sleep 0.2; done
sinfo
(cd "$here" && "$python" cluster_sweep.py slurm "$work")
