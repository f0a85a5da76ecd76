#!/usr/bin/env bash
# The runs that docs/scaling.md sets beside the model: benchmarks/make_scaling_runs.sh FOLDER, six minutes on two idle cores.
# Then: python benchmarks/scaling.py --check FOLDER/*/ --rates cpu.json --name ray
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$1
export OMP_NUM_THREADS=1

one() { # NAME SETTING...: one process
  local name=$1
  shift
  "${SCORELINE:-scoreline}" train recipes/quickstart.toml "folder=$folder" "name=$name" train.steps=15 \
    train.prompts_per_step=16 eval.prompts=8 eval.every=20 eval.before=false "$@"
}
ray() { # NAME SETTING...: processes of one thread each, one learner and one worker unless said otherwise
  one "$@" runtime.type=ray runtime.threads=1
}

one local
one local-long train.prompts_per_step=32
ray one-one
ray one-one-large train.prompts_per_step=32
ray one-one-s1 runtime.max_staleness=1
ray one-two runtime.rollouts=2
ray one-two-s1 runtime.rollouts=2 runtime.max_staleness=1
ray one-two-large runtime.rollouts=2 train.prompts_per_step=32 train.minibatches=8
ray one-three runtime.rollouts=3
ray one-three-s1 runtime.rollouts=3 runtime.max_staleness=1 train.prompts_per_step=24
ray two-one runtime.learners=2
ray two-one-large runtime.learners=2 train.prompts_per_step=32 train.minibatches=2
ray two-two runtime.learners=2 runtime.rollouts=2
ray two-two-s1 runtime.learners=2 runtime.rollouts=2 runtime.max_staleness=1
ray three-one runtime.learners=3
