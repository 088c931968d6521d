#!/bin/sh
# Uses the server's page as a person does, in a browser. Usage: tests/page/run.sh [OWLET [SCREENSHOTS]], the program, which is built
# if it is not given, and a directory for pictures of the page. Needs npm, a network for its playwright-core, and Chromium as `chromium`
# (on Debian: apt-get install chromium).
set -eu
cd "$(dirname "$0")/../.."
owlet=${1:-}
[ -n "$owlet" ] || { cargo build --release && owlet=target/release/owlet; }
command -v chromium >/dev/null || { echo "there is no chromium on this machine" >&2; exit 1; }

dir=$(mktemp -d)
shots=${2:-$dir}
trap 'kill $open $closed 2>/dev/null || true; rm -rf "$dir"' EXIT
npm --silent --prefix "$dir" install playwright-core
cp tests/page/*.mjs "$dir"
echo "a-key-of-thirty-one-characters-" >"$dir/keys"
"$owlet" serve --port 0 2>"$dir/open.log" &
open=$!
"$owlet" serve --port 0 --api-keys "$dir/keys" 2>"$dir/closed.log" &
closed=$!

# The address that the server with the log $1 tells.
address() {
    for _ in $(seq 100); do
        found=$(sed -n 's|.* answers at \(http.*\)/v1$|\1|p' "$dir/$1.log")
        [ -z "$found" ] || { echo "$found"; return; }
        sleep 0.1
    done
    cat "$dir/$1.log" >&2
    return 1
}
node "$dir/main.mjs" "$(address open)" "$(address closed)" examples/red-circle.png "$shots"
