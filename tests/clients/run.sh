#!/bin/sh
# Asks a server as other people's clients do. Usage: tests/clients/run.sh [OWLET], the program, which is built if it is not given.
# Installs the packages of OpenAI, Ollama and Anthropic for Python, and where there is npm that of OpenAI for Node, into a new
# directory, which needs a network and python3 with venv.
set -eu
owlet=${1:-}
set --
. "$(dirname "$0")/start.sh"
"$dir/venv/bin/pip" --quiet install openai ollama anthropic
for client in openai ollama anthropic; do
    "$dir/venv/bin/python" "tests/clients/ask_$client.py" "$address"
done
if command -v npm >/dev/null; then
    npm --silent --prefix "$dir" install openai
    cp tests/clients/ask_openai.mjs "$dir"
    node "$dir/ask_openai.mjs" "$address"
else
    echo "not run: the client for Node, there is no npm"
fi
