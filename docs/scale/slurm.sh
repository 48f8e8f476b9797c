#!/bin/sh
# A campaign as a Slurm array: each task runs the shard of its index.
#   docs/scale/build.sh && export PATH="$PWD/target/profiled/release:$PATH"
#   mkdir -p results && sbatch docs/scale/slurm.sh
#   dunlin-sim merge results/*.jsonl         when all tasks are done
#SBATCH --job-name=dunlin-sim
#SBATCH --array=0-7
#SBATCH --cpus-per-task=2
#SBATCH --mem=1G
#SBATCH --time=02:00:00
SEEDS=${SEEDS:-100000}
SHARDS=${SHARDS:-8}
RESULTS=${RESULTS:-results}
dunlin-sim run --seeds "$SEEDS" --shard "$SLURM_ARRAY_TASK_ID/$SHARDS" --json > "$RESULTS/$SLURM_ARRAY_TASK_ID.jsonl"
