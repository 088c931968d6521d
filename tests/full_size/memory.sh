#!/bin/sh
# A conversion of the 19-billion-parameter model's true widths under a limit of memory that the kernel holds:
#
#     tests/full_size/memory.sh FOLDER [LIMIT_MIB [VISION_LAYERS [TEXT_LAYERS]]]       (default 1536, 2 and 3)
#
# FOLDER gets a checkpoint (3.6 GB by default) and the file, and loses both again. The limit is a control group's, with no swap: what
# the process holds beyond it ends the process. Address space is not limited, since it says nothing about memory. Needs the
# right to make a control group, as root has. The last lines are owlet's own report (what it took at most, MB/s, what bound
# it), the group's, and whether the file is right.
set -eu
folder=$1 limit=$((${2:-1536} << 20)) vision=${3:-2} text=${4:-3}
cargo build --release --locked --bin owlet --example full-size-checkpoint
work=$(mktemp -d "$folder/owlet-memory.XXXXXX")
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    group=/sys/fs/cgroup/owlet-memory-$$ limit_file=memory.max peak_file=memory.peak
else
    group=/sys/fs/cgroup/memory/owlet-memory-$$ limit_file=memory.limit_in_bytes peak_file=memory.max_usage_in_bytes
fi
mkdir "$group"
trap 'rm -r "$work"; rmdir "$group"' EXIT
echo "$limit" > "$group/$limit_file"
for swap in memory.swap.max memory.swappiness; do
    if [ -e "$group/$swap" ]; then echo 0 > "$group/$swap"; fi
done
target/release/examples/full-size-checkpoint "$work/checkpoint" "$vision" "$text"
sync
du -sm "$work/checkpoint" | sed 's/\t.*/ MB of checkpoint/'
# in a shell of its own, which goes into the group and becomes the program
sh -c 'echo $$ > "$1/cgroup.procs"; shift; exec "$@"' - "$group" \
    target/release/owlet convert "$work/checkpoint" -o "$work/model.gguf"
echo "the group: at most $(($(cat "$group/$peak_file") >> 20)) MiB of $((limit >> 20)) with the pages of files that it read and wrote"
target/release/owlet verify -q "$work/model.gguf" --against "$work/checkpoint" | tail -n 1
