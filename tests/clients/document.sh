#!/bin/sh
# Tries what the server's OpenAPI document allows, and what it forbids, on a server with the built-in model.
# Usage: tests/clients/document.sh [OWLET [N]], the program, which is built if it is not given, and requests of each kind a path (400).
# Installs schemathesis into a new directory, which needs a network and python3 with venv.
# One of its checks is left out: what the document allows may still be wrong, such as bytes that are no picture; that is a 400, too.
set -eu
owlet=${1:-} n=${2:-400}
set -- --max-tokens 64 --max-body 1MB
. "$(dirname "$0")/start.sh"
"$dir/venv/bin/pip" --quiet install schemathesis
status=0
# What it keeps of a run goes with the directory.
(cd "$dir" && venv/bin/st run "$address/openapi.json" --checks all \
    --exclude-checks positive_data_acceptance,ignored_auth \
    --max-examples "$n" --seed 1 --workers 1 --request-timeout 60) || status=$?
echo "responses: $(grep -c '"event":"request"' "$dir/log"), of them 5xx: $(grep -c '"status":5' "$dir/log" || true)"
if grep panicked "$dir/log"; then exit 1; fi
exit $status
