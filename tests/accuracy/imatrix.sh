#!/bin/sh
# What an importance matrix gains at 4 bits, as the table in docs/quality.md:
#
#     tests/accuracy/imatrix.sh SET CALIBRATION [CHECKPOINT]
#
# SET and CALIBRATION are folders as demo/evaluate.py writes them, of different seeds; the first 300 pictures and questions of
# CALIBRATION are run. Files go to a temporary folder.
set -eu
set_dir=$1 calibration=$2 checkpoint=${3:-demo/checkpoint}
cargo build --release --locked --bin owlet --example accuracy
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
owlet=target/release/owlet
mkdir "$work/images"
head -n 300 "$calibration/questions.jsonl" > "$work/questions.jsonl"
sed -n 's/.*"image": "\([^"]*\)".*/\1/p' "$work/questions.jsonl" | while read -r image; do
    cp "$calibration/$image" "$work/images/"
done
sed -n 's/.*"question": "\([^"]*\)".*/\1/p' "$work/questions.jsonl" > "$work/prompts.txt"
$owlet convert "$checkpoint" --type f32 --vision-type f32 -q -o "$work/f32.gguf"
$owlet convert "$checkpoint" --type f16 --vision-type f16 -q -o "$work/f16.gguf"
$owlet imatrix -q -m "$work/f16.gguf" --images "$work/images" --text "$work/prompts.txt" -o "$work/imatrix.gguf"
models=
for type in q4_0 q4_1 iq4_nl q4_k_m; do
    types="--type $type --vision-type $type --projector-type $type -q"
    # shellcheck disable=SC2086 # several words
    $owlet quantize "$work/f16.gguf" "$work/$type.gguf" $types
    # shellcheck disable=SC2086
    $owlet quantize "$work/f16.gguf" "$work/$type-imatrix.gguf" --imatrix "$work/imatrix.gguf" $types
    models="$models exact:$work/$type.gguf exact:$work/$type-imatrix.gguf"
done
# shellcheck disable=SC2086
target/release/examples/accuracy "$set_dir" --against "exact:$work/f32.gguf" $models | sed "s|exact:$work/||"
