#!/bin/sh
# How near owlet's networks are to the models' own PyTorch code, family by family: the table in docs/families.md.
#
#     tests/parity.sh
#
# It runs the parity tests and sums up what they print: for each case the largest error of a node, and the wrong variant that
# comes nearest to passing.
set -eu
cd "$(dirname "$0")/.."
cargo test --release --locked --test suite -- parity:: --nocapture --test-threads 1 2>/dev/null | awk '
    { sub(/^test [^ ]+ \.\.\. /, "") }
    # base: family internvl-chat-v1-1
    $2 == "family" && NF == 3 { sub(/:$/, "", $1); if (!($1 in family)) { order[n_cases++] = $1; family[$1] = $3 } next }
    # base/picture, and behind it a line for every node: name, error, shape
    NF == 1 { split($1, place, "/"); name = place[1] in family ? place[1] : ""; next }
    name != "" && /^  / && $2 ~ /^[0-9.]+e-?[0-9]+$/ {
        n_nodes[name]++
        if ($2 + 0 >= worst[name] + 0) { worst[name] = $2; at[name] = $1 }
        next
    }
    # base: trap  1.2e-1 at node ...
    $4 == "at" && $3 ~ /^[0-9.]+e-?[0-9]+$/ {
        sub(/:$/, "", $1)
        n_traps[$1]++
        if (!($1 in nearest) || $3 + 0 < nearest[$1] + 0) { nearest[$1] = $3; trap[$1] = $2 }
    }
    END {
        print "| family | case | nodes | largest error | at | wrong variants | nearest of them |"
        print "|---|---|---:|---:|---|---:|---|"
        for (i = 0; i < n_cases; i++) {
            c = order[i]
            near = c in nearest ? nearest[c] ", " trap[c] : ""
            printf "| %s | %s | %d | %s | `%s` | %d | %s |\n", family[c], c, n_nodes[c], worst[c], at[c], n_traps[c], near
        }
        if (n_cases == 0) exit 1
    }' | { read -r head; read -r line; printf '%s\n%s\n' "$head" "$line"; sort; }
