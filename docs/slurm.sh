#!/bin/bash
#SBATCH --job-name=nisf
#SBATCH --array=1-16
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=12:00:00

# Sixteen jobs share the cases. Give the same command again to do what is left, e.g. after a time limit.
set -euo pipefail
PARTS=16 # as many as the array has; a single job of it can then be given again by itself
exec nisf segment "${DATA:-data}" -o "${OUT:-out}" --prior "${PRIOR:-cardiac-sax}" \
  --shard "$SLURM_ARRAY_TASK_ID/$PARTS" --workers "${SLURM_CPUS_PER_TASK:-1}"
