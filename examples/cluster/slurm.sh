#!/usr/bin/env bash
# A run over all nodes of a Slurm allocation, a process per node and GPU. Checked by shellcheck; never run on Slurm.
#
#     sbatch --nodes=8 examples/cluster/slurm.sh recipes/gpu/grpo_steps.toml recipes/cluster/eight_nodes.toml
#
# The arguments are those of `scoreline train`. The working folder must be on a disk that all nodes share, and the same
# environment with `scoreline[ray]` must be active on all of them. A job that Slurm queues again resumes by itself; one
# that you submit again does so with `--resume` among its arguments.

#SBATCH --job-name=scoreline
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --exclusive
#SBATCH --signal=B:TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append

set -euo pipefail

# The token is what keeps others on the network out of the cluster, and whoever has it can run any program as you:
# a file that only you can read, never an argument, never printed.
umask 077
export RAY_AUTH_MODE=token
export RAY_AUTH_TOKEN_PATH="${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}"
if [[ ! -s "$RAY_AUTH_TOKEN_PATH" ]]; then
    mkdir -p "$(dirname "$RAY_AUTH_TOKEN_PATH")"
    head -c 32 /dev/urandom | base64 | tr -d '\n/+=' > "$RAY_AUTH_TOKEN_PATH"
fi
export RAY_USAGE_STATS_ENABLED=0
export RAY_TMPDIR="${RAY_TMPDIR:-/tmp}" # sockets and logs of Ray: on the node's own disk, and a short name

# Ray listens on the address that this name has, so it must be one of the inner network of the cluster.
read -r head_node < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
port="$((20000 + SLURM_JOB_ID % 20000))"
runs="${SCORELINE_RUNS:-$PWD/runs}"

resume=()
if [[ "${SLURM_RESTART_COUNT:-0}" -gt 0 ]]; then
    resume=(--resume)
fi

# The same command on every node: it starts Ray there, and on the first node runs what stands behind `--`.
# No --include-dashboard=false: `ray start` takes that on the head node alone, and plain Ray has no dashboard.
# Waiting for other nodes it becomes a process of the cluster that it stops, and ends with 1: the run's own code is kept.
kept="$(mktemp -d)"
# shellcheck disable=SC2016 # expanded on the first node
srun \
    ray symmetric-run --address "$head_node:$port" --min-nodes "$SLURM_JOB_NUM_NODES" -- \
    bash -c '
        kept="$1"
        shift
        scoreline train "$@" &
        echo "$!" > "$kept/pid"
        code=0
        wait "$!" || code="$?"
        echo "$code" > "$kept/code"' scoreline "$kept" \
    "$@" "${resume[@]}" folder="$runs" runtime.type=ray runtime.address=auto &
srun_pid="$!"

# Five minutes before the time is over Slurm sends SIGTERM to this shell, which runs on the first node as the run does.
# The run alone is told: it finishes its step, writes a checkpoint and ends, and symmetric-run ends the cluster.
trap 'kill -TERM "$(cat "$kept/pid")"' TERM
code=0
while kill -0 "$srun_pid" 2> /dev/null; do # a signal ends the wait, not srun
    wait "$srun_pid" || code="$?"
done
if [[ -s "$kept/code" ]]; then
    code="$(cat "$kept/code")"
fi
rm -rf "$kept"
exit "$code"
