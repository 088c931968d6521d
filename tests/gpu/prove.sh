#!/bin/sh
# Builds with a GPU backend, proves the placement on a device, and asks the built-in model with its parts here and there.
#
#     tests/gpu/prove.sh FEATURE DEVICE [OUT]
#
# FEATURE is cuda, metal or vulkan, with dynamic-backends before it for a backend in a file; DEVICE is a name from
# `owlet --list-devices`, which goes to the folder OUT as well. TRIES processes (5) ask in each placement: a driver that is closed
# wrongly ends some of them with a signal.
set -eu
cd "$(dirname "$0")/../.."
feature=$1 device=$2 out=${3:-$(mktemp -d)}
mkdir -p "$out"

cargo build --release --locked --features "$feature" --bin owlet
owlet=target/release/owlet
$owlet --version
$owlet --list-devices | tee "$out/devices.txt"
grep -q "^$device " "$out/devices.txt" || { echo "$device: not among the devices" >&2; exit 1; }

# Tests lie elsewhere than the program.
case $feature in *dynamic-backends*) export OWLET_BACKENDS="$PWD/target/release/backends" ;; esac
OWLET_TEST_DEVICE=$device cargo test --release --locked --features "$feature" --lib placed -- --nocapture --test-threads=1

# The built-in model, whole and in parts: the CPU's answer, and an end with status 0.
ask() {
    $owlet run 'What colour is the circle?' -i examples/red-circle.png --temp 0 --image-cache off -q "$@"
}
expected=$(ask --device none)
for where in '--gpu-layers all --vision-device gpu' '--gpu-layers 2 --vision-device cpu' '--gpu-layers 0 --vision-device gpu'; do
    for try in $(seq "${TRIES:-5}"); do
        # shellcheck disable=SC2086
        answer=$(ask --device "$device" $where)
        [ "$answer" = "$expected" ] || { echo "$where, try $try: expected $expected, found $answer" >&2; exit 1; }
    done
    echo "$where: $answer"
done
