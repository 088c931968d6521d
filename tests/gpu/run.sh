#!/bin/sh
# On a machine with an NVIDIA GPU: builds with feature cuda, proves the placement on the card, then measures.
#
#     tests/gpu/run.sh [DEVICE] [OUT]
#
# DEVICE is a name from `owlet --list-devices`, else CUDA0; CUDAARCHS says what to compile for (docs/gpu.md). Reports of the benches
# go to the folder OUT, else to a temporary one. A bench fills 20 GB of memory with the 19-billion-parameter model's shapes, and
# as much of the card as there is. With LLAMA_BENCH, the path of llama.cpp's program built for that card, the text half is measured
# beside it (beside.sh).
set -eu
cd "$(dirname "$0")/../.."
device=${1:-CUDA0} out=${2:-$(mktemp -d)}
mkdir -p "$out"

tests/gpu/prove.sh cuda "$device" "$out"
owlet=target/release/owlet

# A process each: one that fails leaves the others their figures.
failed=''
bench() {
    name=$1 types=$2 tests=$3
    # shellcheck disable=SC2086
    $owlet bench --shape internvl-chat-v1-1 $types --test "$tests" --device "$device" --no-limits -q \
        > "$out/$name.md" || failed="$failed $name"
    cat "$out/$name.md"
}
bench vision-f16 '--vision-type f16 --type q4_k' vision,projector
bench vision-q8_0 '--vision-type q8_0 --type q4_k' vision
bench prefill '--vision-type q8_0 --type q4_k' prefill256,prefill512
bench decode '--vision-type q8_0 --type q4_k' decode
bench decode-far '--vision-type q8_0 --type q4_k' decode2048
if [ -n "${LLAMA_BENCH:-}" ]; then
    tests/gpu/beside.sh "$LLAMA_BENCH" "$device" > "$out/beside.md" || failed="$failed beside"
    cat "$out/beside.md"
fi
echo "reports are in $out"
[ -z "$failed" ] || { echo "failed:$failed" >&2; exit 1; }
