"""Fixed question sets, the checkpoint's own answers to them in PyTorch, and the score of anybody's answers.

    python demo/evaluate.py write --out SET --seed 7001 --per-kind 500      # pictures and questions.jsonl
    python demo/evaluate.py answer --set SET --checkpoint demo/checkpoint --out answers.jsonl   # the reference
    python demo/evaluate.py run --set SET --out answers.jsonl -- owlet run --image {image} {question}
    python demo/evaluate.py score --set SET --answers answers.jsonl [--wrong]
    python demo/evaluate.py measure --seed 7001 --per-kind 500      # write, answer and score in one, without files

A line of answers is {"id": ..., "answer": ...}. An answer is right when, in lower case, stripped, inner spaces single and final
punctuation dropped, it equals the expected answer or one of `accept`.
"""
import argparse
import json
import os
import re
import subprocess
import unicodedata

import numpy as np
from PIL import Image

import pictures
import questions

CHECKPOINT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "checkpoint")
KINDS = ["shape", "colour", "count", "place", "read", "what"]


def plain(text):
    text = " ".join(unicodedata.normalize("NFKC", text).lower().split())
    return re.sub(r"[\s.。!！?？,，;；:：]+$", "", text)


def is_right(answer, expected, accept=()):
    return plain(answer) in {plain(expected), *map(plain, accept)}


def readable(scene):
    """Scenes whose things stand out clearly enough that a person would call the answer certain."""
    return all(s["clear"] for s in scene["shapes"]) and (scene["text"] is None or scene["text"]["clear"])


def draw_set(seed, per_kind, fonts, small=False):
    """[(picture, scene, kind, lang, question, answer, accept)], per_kind of each kind, half in each language, half in held-out
    phrasings; each picture carries one question."""
    rng = np.random.default_rng([seed, 77])
    need = {(kind, lang): (per_kind + (lang == "en")) // 2 for kind in KINDS for lang in ("en", "zh")}
    out = []
    while any(need.values()):
        kind_of_picture = "text" if not any(v for (k, _), v in need.items() if k != "read") else str(rng.choice(pictures.KINDS, p=[0.3, 0.25, 0.25, 0.2]))
        img, scene = pictures.draw(rng, fonts, kind_of_picture, 0.5 if small else None)
        lang, unseen = ("en", "zh")[int(rng.integers(2))], bool(rng.integers(2))
        if not readable(scene):
            continue
        asked = [a for a in questions.ask(rng, scene, lang, unseen) if need[a[0], lang]]
        if not asked:
            continue
        kinds = sorted({a[0] for a in asked})
        kind = kinds[int(rng.integers(len(kinds)))]
        same = [a for a in asked if a[0] == kind]
        _, question, answer, accept = same[int(rng.integers(len(same)))]
        if kind == "count" and (answer == "0" or answer == "1" and rng.random() < 0.6):  # counts spread over one to five
            continue
        need[kind, lang] -= 1
        out.append((img if small else pictures.degrade(rng, img), scene, kind, lang, question, answer, accept, unseen))
    return out


def write(args):
    families = pictures.scan_fonts()
    seen, held = pictures.split_fonts(families)
    fonts = {"held": held, "seen": seen, "all": families}[args.fonts]
    os.makedirs(args.out, exist_ok=True)
    with open(os.path.join(args.out, "questions.jsonl"), "w", encoding="utf-8") as f:
        for i, (img, scene, kind, lang, q, a, accept, unseen) in enumerate(draw_set(args.seed, args.per_kind, fonts, args.small)):
            name = f"{i:04d}.png"
            if args.small:
                colours = img.getcolors(64)  # None: more than that
                img = img if colours else img.quantize(64, dither=Image.Dither.NONE)
            img.save(os.path.join(args.out, name), optimize=args.small)
            f.write(json.dumps({"id": i, "image": name, "question": q, "answer": a, "accept": accept, "kind": kind, "lang": lang,
                                "unseen_phrasing": unseen}, ensure_ascii=False) + "\n")


def read_set(folder):
    with open(os.path.join(folder, "questions.jsonl"), encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def replier(checkpoint):
    """A function (112x112 picture, question) -> greedy answer of the checkpoint: bf16 weights, f32 arithmetic."""
    import torch

    import export
    import model

    net, vocab = export.load(checkpoint)
    head, start = vocab.head()

    @torch.no_grad()
    def reply(picture, question, longest=24):
        image = net.image_tokens(net.vision_model(model.normalise(torch.from_numpy(picture.copy())[None])))
        ids = head + vocab.question(question)
        prompt = len(ids)
        while len(ids) < prompt + longest:
            emb = net.language_model.model.embed_tokens(torch.tensor([ids]))
            x = torch.cat([emb[:, :start], image, emb[:, start + model.N_IMAGE_TOKENS:]], 1)
            n = len(ids)
            hidden = net.language_model(x, torch.arange(n)[None], torch.ones(1, 1, n, n, dtype=torch.bool).tril())
            token = int(net.language_model.lm_head(hidden[0, -1]).argmax())
            if token == 2:
                break
            ids.append(token)
        return vocab.decode(ids[prompt:])

    return reply


def answer(args):
    reply = replier(args.checkpoint)
    with open(args.out, "w", encoding="utf-8") as f:
        for item in read_set(args.set):
            with Image.open(os.path.join(args.set, item["image"])) as img:
                picture = pictures.squash(img)
            f.write(json.dumps({"id": item["id"], "answer": reply(picture, item["question"])}, ensure_ascii=False) + "\n")


def measure(args):
    families = pictures.scan_fonts()
    seen, held = pictures.split_fonts(families)
    reply = replier(args.checkpoint)
    table = {}
    for img, _, kind, lang, question, expected, accept, unseen in draw_set(args.seed, args.per_kind, {"held": held, "seen": seen, "all": families}[args.fonts]):
        count(table, reply(pictures.squash(img), question), kind, lang, expected, accept, unseen)
    show(table)


def run(args):
    with open(args.out, "w", encoding="utf-8") as f:
        for item in read_set(args.set):
            words = [w.replace("{image}", os.path.join(args.set, item["image"])).replace("{question}", item["question"]) for w in args.command]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"{words}: exit {done.returncode}: {done.stderr.strip()}")
            f.write(json.dumps({"id": item["id"], "answer": done.stdout.strip()}, ensure_ascii=False) + "\n")


def count(table, given, kind, lang, expected, accept, unseen):
    """Enters one answer in the table {(kind, lang): [right, all]}; gives whether it is right."""
    ok = is_right(given, expected, accept)
    keys = [(kind, lang), (kind, "both"), ("all", "unseen phrasing" if unseen else "seen phrasing")]
    keys += [(f"read {len(expected)}", "both")] if kind == "read" else []
    for key in keys:
        entry = table.setdefault(key, [0, 0])
        entry[0] += ok
        entry[1] += 1
    return ok


def show(table):
    for (kind, lang), (right, n) in sorted(table.items()):
        print(f"{kind:8} {lang:16} {right:5} of {n:5}  {100 * right / n:5.1f}%")


def score(args):
    with open(args.answers, encoding="utf-8") as f:
        given = {a["id"]: a["answer"] for a in map(json.loads, f)}
    table = {}
    for item in read_set(args.set):
        said = given.get(item["id"], "")
        if not count(table, said, item["kind"], item["lang"], item["answer"], item["accept"], item["unseen_phrasing"]) and args.wrong:
            print(item["image"], item["question"], "expected", item["answer"], "given", said)
    show(table)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = ap.add_subparsers(required=True)
    p = sub.add_parser("write")
    p.add_argument("--out", required=True)
    p.add_argument("--seed", type=int, default=7001)
    p.add_argument("--per-kind", type=int, default=500)
    p.add_argument("--fonts", choices=["held", "seen", "all"], default="all")
    p.add_argument("--small", action="store_true", help="half-size canvases, few colours, no noise: small files")
    p.set_defaults(do=write)
    p = sub.add_parser("measure")
    p.add_argument("--seed", type=int, default=7001)
    p.add_argument("--per-kind", type=int, default=500)
    p.add_argument("--fonts", choices=["held", "seen", "all"], default="all")
    p.add_argument("--checkpoint", default=CHECKPOINT)
    p.set_defaults(do=measure)
    p = sub.add_parser("answer")
    p.add_argument("--set", required=True)
    p.add_argument("--checkpoint", default=CHECKPOINT)
    p.add_argument("--out", required=True)
    p.set_defaults(do=answer)
    p = sub.add_parser("run")
    p.add_argument("--set", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("command", nargs="+")
    p.set_defaults(do=run)
    p = sub.add_parser("score")
    p.add_argument("--set", required=True)
    p.add_argument("--answers", required=True)
    p.add_argument("--wrong", action="store_true")
    p.set_defaults(do=score)
    args = ap.parse_args()
    args.do(args)


if __name__ == "__main__":
    main()
