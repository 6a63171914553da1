#!/bin/bash
# Trains on two machines of eight GPUs under Slurm, started again whenever it is preempted:
#
#     sbatch docs/examples/train_slurm.sh /shared/RUN /shared/DATA
#
# The work folder and the data must be visible to all machines.
#SBATCH --job-name=dir_jax
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=TERM@120
set -euo pipefail

run=${1:?the work folder is missing}
data=${2:?the prepared data are missing}

# The signal above goes to the processes of srun, which save together and leave with 75. When one of
# them is lost, the others end by themselves with 1.
status=0
srun python train.py --config configs/dir_interhand.py \
    --workdir "$run" --config.data.dir="$data" --config.parallel.coordinator=auto || status=$?

# Out of time or preempted: back into the queue. A job that was requeued by Slurm itself does not
# come to this line.
if [ "$status" -eq 75 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
