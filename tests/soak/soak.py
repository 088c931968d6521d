#!/usr/bin/env python3
"""A server under load for minutes: clients stream answers about pictures that nobody has seen, follow up, repeat, and leave early.

    tests/soak/soak.py [--owlet target/release/owlet] [--minutes 10] [--clients 8]

Every answer, at temperature 0, has to be what a second server with one slot says to the same question alone. Memory and open files
of the first one have to stay flat. Meanwhile slots go to files; then the server is killed (-9) in the middle of that, and the next one
on the same directory has to answer, and to find each file whole: an old one, or a new one. Needs Python alone, and Linux' /proc.
"""

import argparse, base64, http.client, json, os, random, re, signal, struct, subprocess, sys, tempfile, threading, time, zlib

QUESTIONS = ["What is this?", "What colour is it?", "How many shapes are there?", "Where is it?", "What shape is it?"]
COLOURS = [(220, 30, 30), (30, 160, 60), (40, 70, 220), (230, 200, 30), (250, 140, 20), (130, 40, 160)]


def picture(seed):
    """A PNG of up to three squares of one colour on light ground, in places of their own."""
    rng = random.Random(seed)
    side = rng.choice([96, 112, 160])
    ground = tuple(rng.randrange(225, 256) for _ in range(3))
    rows = [[ground] * side for _ in range(side)]
    colour = rng.choice(COLOURS)
    for n in rng.sample(range(4), rng.randrange(1, 4)):
        size = rng.randrange(side // 6, side // 3)
        x, y = n % 2 * side // 2 + rng.randrange(side // 2 - size), n // 2 * side // 2 + rng.randrange(side // 2 - size)
        for row in rows[y : y + size]:
            row[x : x + size] = [colour] * size
    raw = b"".join(b"\0" + bytes(v for pixel in row for v in pixel) for row in rows)
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def conversation(seed):
    """The messages of a question about a new picture; every third is a second turn."""
    rng = random.Random(seed * 7919 + 1)
    url = "data:image/png;base64," + base64.b64encode(picture(seed)).decode()
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": rng.choice(QUESTIONS)}]
    messages = [{"role": "user", "content": content}]
    if seed % 3 == 0:
        messages += [{"role": "assistant", "content": "a shape"}, {"role": "user", "content": rng.choice(QUESTIONS)}]
    return messages


class Server:
    def __init__(self, owlet, *flags, log):
        self.log = open(log, "a")
        start = os.path.getsize(log)
        self.process = subprocess.Popen(
            [owlet, "serve", "--port", "0", *flags], stderr=self.log, stdin=subprocess.DEVNULL
        )
        for _ in range(600):
            time.sleep(0.1)
            with open(log) as text:
                found = re.findall(r"answers at http://([\d.:]+)/v1", text.read()[start:])
            if found:
                self.address = found[-1]
                return
            if self.process.poll() is not None:
                break
        sys.exit(f"the server did not start: see {log}")

    def connect(self, timeout=300):
        return http.client.HTTPConnection(self.address, timeout=timeout)

    def post(self, path, body):
        connection = self.connect()
        connection.request("POST", path, json.dumps(body))
        response = connection.getresponse()
        reply = response.status, json.loads(response.read())
        connection.close()
        return reply

    def ask(self, messages, leave_after=None):
        """The streamed answer; None where it is left after so many events."""
        body = {"messages": messages, "stream": True, "temperature": 0, "max_tokens": 48}
        connection = self.connect()
        try:
            connection.request("POST", "/v1/chat/completions", json.dumps(body))
            response = connection.getresponse()
            if response.status != 200:
                raise RuntimeError(f"status {response.status}: {response.read()[:200]}")
            text, n, is_whole = "", 0, False
            for line in response:
                if line.startswith(b"data: [DONE]"):
                    is_whole = True
                elif line.startswith(b"data: "):
                    event = json.loads(line[6:])
                    if "error" in event:
                        raise RuntimeError(f"in the stream: {event['error']}")
                    text += event["choices"][0]["delta"].get("content", "")
                    n += 1
                    if leave_after is not None and n > leave_after:
                        return None
            if not is_whole:
                raise RuntimeError("the stream broke off")
            return text.strip()
        finally:
            connection.close()

    def use(self):
        """Bytes of memory, open files, threads."""
        with open(f"/proc/{self.process.pid}/status") as status:
            facts = dict(line.split(":", 1) for line in status)
        return int(facts["VmRSS"].split()[0]) * 1024, len(os.listdir(f"/proc/{self.process.pid}/fd")), int(facts["Threads"])

    def kill(self, with_signal=signal.SIGKILL):
        self.process.send_signal(with_signal)
        return self.process.wait()


class Soak:
    def __init__(self, args, scratch):
        self.args, self.slot_dir = args, os.path.join(scratch, "slots")
        self.log = os.path.join(scratch, "log")
        self.flags = ["--slots", str(args.clients), "--image-cache", "off", "--slot-dir", self.slot_dir]
        self.server = Server(args.owlet, *self.flags, log=self.log)
        self.alone = Server(args.owlet, "--slots", "1", "--image-cache", "off", log=os.path.join(scratch, "log-alone"))
        self.lock, self.expected, self.faults = threading.Lock(), {}, []
        self.next_seed, self.n_answers, self.n_left, self.n_saved = 1, 0, 0, 0
        self.ends = time.monotonic() + 60 * args.minutes

    def client(self, number):
        rng = random.Random(number)
        while time.monotonic() < self.ends and len(self.faults) < 5:
            with self.lock:
                if rng.random() < 0.5 and self.expected:
                    seed = rng.choice(list(self.expected))
                else:
                    seed, self.next_seed = self.next_seed, self.next_seed + 1
            messages = conversation(seed)
            try:
                leave_after = rng.randrange(3) if rng.random() < 0.05 else None
                found = self.server.ask(messages, leave_after)
                if found is None:
                    with self.lock:
                        self.n_left += 1
                    continue
                if seed not in self.expected:
                    expected = self.alone.ask(messages)
                    with self.lock:
                        self.expected[seed] = expected
                if found != self.expected[seed]:
                    self.fault(f"question {seed}: alone {self.expected[seed]!r}, in the crowd {found!r}")
                with self.lock:
                    self.n_answers += 1
            except Exception as error:
                self.fault(f"question {seed}: {type(error).__name__}: {error}")

    def saver(self):
        n = 0
        while time.monotonic() < self.ends:
            time.sleep(5)
            n += 1
            name = {"filename": f"talk-{n % 3}"}
            status, reply = self.server.post(f"/slots/{n % self.args.clients}?action=save", name)
            # A slot whose last answer was left has nothing to save.
            if status == 200:
                self.n_saved += 1
            elif status != 400:
                self.fault(f"save: {status} {reply}")

    def fault(self, text):
        with self.lock:
            self.faults.append(text)
            print(f"FAULT {text}", flush=True)

    def run(self):
        threads = [threading.Thread(target=self.client, args=[n]) for n in range(self.args.clients)]
        threads.append(threading.Thread(target=self.saver))
        started, looks = time.monotonic(), []
        for thread in threads:
            thread.start()
        print("| minute | answers | new pictures | left | saved | memory | files | threads |")
        print("|---:|---:|---:|---:|---:|---:|---:|---:|")
        step = min(60.0, 60 * self.args.minutes / 10)
        while time.monotonic() < self.ends and len(self.faults) < 5:
            time.sleep(step)
            memory, n_files, n_threads = self.server.use()
            looks.append((memory, n_files, self.next_seed - 1))
            minute = (time.monotonic() - started) / 60
            row = [f"{minute:.1f}", self.n_answers, self.next_seed - 1, self.n_left, self.n_saved]
            row += [f"{memory / 1e6:.1f} MB", n_files, n_threads]
            print("| " + " | ".join(map(str, row)) + " |", flush=True)
        for thread in threads:
            thread.join()
        # All connections are gone; what they took comes back within the time that a peer has.
        time.sleep(2)
        looks.append((*self.server.use()[:2], self.next_seed - 1))
        # By then every slot has been as long as it gets, and threads have their buffers.
        first = len(looks) // 2
        # Embeddings stay in memory, up to 256 MB of them: that is no leak.
        kept = (looks[-1][2] - looks[first][2]) * self.embedding_bytes()
        growth = (looks[-1][0] - looks[first][0] - kept) / looks[first][0]
        print(f"memory from minute {(first + 1) * step / 60:.1f} to the end: {growth:+.1%}, and {kept / 1e6:.1f} MB of embeddings; ", end="")
        print(f"files at the end: {looks[-1][1]}")
        if growth > 0.05:
            self.fault(f"memory grew by {growth:.1%}")
        if looks[-1][1] > 24:
            self.fault(f"{looks[-1][1]} files are open when nobody asks")
        self.killed()

    def embedding_bytes(self):
        """Bytes that a picture takes in the cache, or a few more."""
        count = lambda content: self.server.post(
            "/v1/messages/count_tokens", {"model": "default", "messages": [{"role": "user", "content": content}]}
        )[1]["input_tokens"]
        source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(picture(1)).decode()}
        text = {"type": "text", "text": "?"}
        n_tokens = count([{"type": "image", "source": source}, text]) - count([text])
        facts = self.server.post("/api/show", {"model": "default"})[1]["model_info"]
        return 4 * n_tokens * facts["owlet.embedding_length"]

    def killed(self):
        """Kills the server while slots are saved, again and again; each time the next one has to find whole files and answer."""
        seeds = sorted(self.expected)[:3]
        for n in range(self.args.kills):
            messages = conversation(seeds[n % len(seeds)])
            self.server.ask(messages)
            saving = threading.Thread(target=self.save_until_dead)
            asking = threading.Thread(target=self.ask_until_dead, args=[messages])
            saving.start()
            asking.start()
            time.sleep(0.2 + random.Random(n).random() / 2)
            self.server.kill()
            saving.join()
            asking.join()
            self.server = Server(self.args.owlet, *self.flags, log=self.log)
            names = [name for name in os.listdir(self.slot_dir) if not name.startswith(".")]
            for name in names:
                status, reply = self.server.post("/slots/0?action=restore", {"filename": name})
                if status != 200:
                    self.fault(f"{name} after a kill: {status} {reply}")
            found = self.server.ask(messages)
            if found != self.expected[seeds[n % len(seeds)]]:
                self.fault(f"after a kill: {found!r}")
        n_parts = len([name for name in os.listdir(self.slot_dir) if name.endswith(".part")])
        print(f"killed {self.args.kills} times in the middle of saving: files whole: {names}; parts left: {n_parts}")
        if self.server.kill(signal.SIGTERM) != 0 or self.alone.kill(signal.SIGTERM) != 0:
            self.fault("a server did not end with 0")
        with open(self.log) as log:
            text = log.read()
        if "panicked" in text or '"internal error' in text:
            self.fault("the log tells of a panic or an internal error")

    def save_until_dead(self):
        n = 0
        while True:
            n += 1
            try:
                self.server.post(f"/slots/{n % self.args.clients}?action=save", {"filename": f"talk-{n % 3}"})
            except (OSError, http.client.HTTPException, ValueError):
                return

    def ask_until_dead(self, messages):
        while True:
            try:
                self.server.ask(messages)
            except (OSError, http.client.HTTPException, ValueError, RuntimeError):
                return


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--owlet", default="target/release/owlet")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--kills", type=int, default=10)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        soak = Soak(args, scratch)
        try:
            soak.run()
        finally:
            for server in [soak.server, soak.alone]:
                if server.process.poll() is None:
                    server.kill()
        answers = len(set(soak.expected.values()))
        print(f"{soak.n_answers} answers, {answers} different ones to {len(soak.expected)} questions; {len(soak.faults)} faults")
    return 1 if soak.faults else 0


if __name__ == "__main__":
    sys.exit(main())
