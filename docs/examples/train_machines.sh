#!/bin/bash
# Trains on several machines without a scheduler. Run it on each of them, with its own number:
#
#     docs/examples/train_machines.sh /shared/RUN /shared/DATA first-machine:12345 2 0
#     docs/examples/train_machines.sh /shared/RUN /shared/DATA first-machine:12345 2 1
#
# Arguments: work folder and data (visible to all machines), address of machine 0 with a free port,
# how many machines, number of this one. Starts again after failures and lost machines; give up
# with Ctrl-C, which saves.
set -uo pipefail

run=${1:?the work folder is missing}
data=${2:?the prepared data are missing}
coordinator=${3:?the address of machine 0 is missing, for example first-machine:12345}
processes=${4:?the number of machines is missing}
process=${5:?the number of this machine is missing, from 0}

for attempt in 1 2 3 4 5; do
    python train.py --config configs/dir_interhand.py --workdir "$run" \
        --config.data.dir="$data" \
        --config.parallel.coordinator="$coordinator" \
        --config.parallel.processes="$processes" \
        --config.parallel.process="$process"
    status=$?
    # 0 finished, 2 bad input, 75 stopped on request: starting again would not help.
    if [ "$status" -ne 1 ]; then
        exit "$status"
    fi
    echo "attempt $attempt failed; starting again in a minute" >&2
    sleep 60
done
exit 1
