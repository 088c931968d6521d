#!/bin/sh
# Prompts and decoding of the 13-billion-parameter text half, in turns with llama.cpp on the same weights.
#
#     tests/gpu/beside.sh LLAMA_BENCH [DEVICE] [OUT] [TEXT_LAYERS]
#
# LLAMA_BENCH is llama.cpp's program of that name, built for the same device; DEVICE a name from `owlet --list-devices` (CUDA0), or
# none for the CPU. A file of random weights and llama.cpp's copy of its text half, 16 GB in all, go to the folder OUT, which should lie
# in memory, and stay there if it was named. Flash attention is off and on by turns: off, both programs run the same kernels.
set -eu
cd "$(dirname "$0")/../.."
llama_bench=$1 device=${2:-CUDA0} out=${3:-} n_layers=${4:-40}
if [ -z "$out" ]; then
    out=$(mktemp -d)
    trap 'rm -rf "$out"' EXIT
fi
owlet=target/release/owlet
n_gpu_layers=99 placement="--device $device --gpu-layers all"
# A program without backends has no such flags.
[ "$device" != none ] || { n_gpu_layers=0 placement=''; }

if [ ! -e "$out/model.gguf" ]; then
    cargo run --release --locked --example full-size -- "$out/model.gguf" 1 "$n_layers"
    $owlet export --llama-cpp -q --force -o "$out" "$out/model.gguf"
fi
for round in 1 2; do
    echo "round $round"
    for flash in 0 1; do
        "$llama_bench" -m "$out/text-model.gguf" -ngl "$n_gpu_layers" -fa "$flash" -p 256,512 -n 64 -d 0
        "$llama_bench" -m "$out/text-model.gguf" -ngl "$n_gpu_layers" -fa "$flash" -p 0 -n 64 -d 2048
    done
    # shellcheck disable=SC2086
    $owlet bench -m "$out/model.gguf" --test prefill256,prefill512,decode,decode2048 $placement --no-limits -q
done
