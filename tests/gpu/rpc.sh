#!/bin/sh
# Builds with feature rpc, starts two workers on loopback, and proves on them what is proven on a GPU; then the tests of the
# connection itself.
#
#     tests/gpu/rpc.sh
set -eu
cd "$(dirname "$0")/../.."
cargo build --release --locked --features rpc --bin owlet
dir=$(mktemp -d)
pids=''
# shellcheck disable=SC2086
trap 'kill $pids 2>/dev/null; rm -rf "$dir"' EXIT

start() {
    target/release/owlet rpc-worker --device none --listen 127.0.0.1:0 > "$dir/$1" 2> "$dir/$1.log" &
    pids="$pids $!"
    until grep -q '^listening on ' "$dir/$1"; do
        kill -0 "$!" || { cat "$dir/$1.log" >&2; exit 1; }
        sleep 0.1
    done
    address=$(sed -n 's/^listening on \([^,]*\),.*/\1/p' "$dir/$1")
}
start first
first=$address
start second
OWLET_TEST_DEVICE=$first,$address cargo test --release --locked --features rpc --lib placed -- --nocapture --test-threads=1
cargo test --release --locked --features rpc --test suite rpc
cargo test --release --locked --features rpc --lib rpc_worker
cargo test --release --locked --features rpc -p owlet-ggml rpc
