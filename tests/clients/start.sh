# For the scripts beside this one, which give it the program as $owlet: goes to the repository's root, builds the program if none was
# named, starts a server with the built-in model, a directory for slots and the flags "$@", and makes a new directory with a virtual
# environment of Python's.
# Sets $dir and $address; the server and the directory go when the script ends.
cd "$(dirname "$0")/../.."
[ -n "$owlet" ] || { cargo build --release && owlet=target/release/owlet; }
dir=$(mktemp -d)
server=
trap 'kill $server 2>/dev/null || true; rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$owlet" serve --port 0 --slot-dir "$dir/slots" "$@" 2>"$dir/log" &
server=$!
for _ in $(seq 100); do
    address=$(sed -n 's|.* answers at \(http.*\)/v1$|\1|p' "$dir/log")
    [ -z "$address" ] || break
    sleep 0.1
done
[ -n "$address" ] || { cat "$dir/log" >&2; exit 1; }
