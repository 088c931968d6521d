"""Trains the demo model on generated pictures; saves as it goes and resumes from its state file.

    python demo/shards.py --data DIR --count 120 &          # draws pictures; training may start after the first ten
    python demo/train.py --data DIR --state STATE.pt --tokenizer TOKENIZER.model --minutes 110

First the vision tower alone learns dense labels per patch (what shape, colour, character, which place in the string),
through linear heads that are thrown away. Then the decoder joins: all questions in both languages, several a picture,
with the dense labels as a weaker second task. The last part of the time lowers the learning rate to zero.

    python demo/train.py --data DIR --state STATE.pt --from demo/checkpoint --minutes 80 --rate 0.6 --decay 0.75

goes on from a checkpoint instead, whose optimizer state and heads are gone: everything is trained together from the start,
but for the first steps only the new heads are.

    python demo/train.py --data DIR --state STATE.pt --from demo/checkpoint --device cuda --packs 2 --batch 1024 --minutes 7 --decay 0.65

does it on a GPU, from shards with packed questions (`shards.py --packs`) that other processes draw meanwhile.
"""
import argparse
import os
import time

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing
import torch.nn.functional as F

import batches
import export
import labels as lessons
import model
import muon
import packing
import pictures
import resident
import shards
import vocabulary

SIZES = list(lessons.LABELS.values())
LR_MUON, LR_ADAM = 0.015, 1.5e-3
WARMUP = 150
HEADS, HEADS_RATE = 80, 3.0  # steps in which new heads on a trained network learn alone, and their learning rate's factor
EMA, EMA_FAST = 0.995, 0.998  # the average's memory a step; a GPU makes more steps
PAUSE = 20  # seconds; a step that takes longer was stopped by somebody, and the schedule does not count the rest


def dense_loss(out, labels):
    total = 0
    for i, (o, n) in enumerate(zip(out.float().split(SIZES, -1), SIZES)):
        w = torch.ones(n, device=o.device)
        w[0] = 0.25
        total = total + F.cross_entropy(o.flatten(0, 1), labels[..., i].flatten().long().clamp(max=n - 1), w)
    return total


def learning_rate(step, part, decay):
    return min(1.0, step / WARMUP) * min(1.0, max(0.01, (1 - part) / decay))


def forward(net, images, packed, start):
    """The tower's patches, and the decoder's last hidden states."""
    tower = net.vision_model(images)
    ids, pos, seg, _ = packed  # of the first pictures; the others are pages that nothing is asked about
    emb = net.language_model.model.embed_tokens(ids)
    image = net.image_tokens(tower[: len(ids)]).to(emb.dtype)
    x = torch.cat([emb[:, :start], image, emb[:, start + model.N_IMAGE_TOKENS:]], 1)
    return tower[:, 1:], net.language_model(x, pos, batches.mask_of(seg))


class HeldOut:
    """Pictures in fonts that training never sees; half the questions in phrasings it never sees."""

    def __init__(self, vocab, device, n=480, seed=999):
        self.vocab = vocab
        fonts = pictures.split_fonts(pictures.scan_fonts())[1]
        rng = np.random.default_rng(seed)
        import questions

        rows, self.asked, images, labels = [], [], [], []
        for i in range(n):
            image, scene, label = shards.sample(rng, fonts, pictures.KINDS[min(3, i % 6)])
            asked = []
            for lang in ("en", "zh"):
                for unseen in (False, True):
                    asked += [(k, lang, q, a, unseen) for k, q, a, _ in questions.ask(rng, scene, lang, unseen)]
            asked = [asked[j] for j in rng.permutation(len(asked))]
            row = packing.pack(vocab, asked)
            rows.append(row[:4])
            self.asked.append(row[4])
            images.append(image)
            labels.append(label)
        self.images = model.normalise(torch.from_numpy(np.stack(images)).to(device))
        self.labels = torch.from_numpy(np.stack(labels)).long().to(device)
        self.packed = [torch.tensor(c, device=device) for c in zip(*rows)]

    @torch.no_grad()
    def score_patches(self, net, aux):
        """{label: share of the patches that have one and are named right}"""
        out = torch.cat([aux(net.vision_model(x)[:, 1:]) for x in self.images.split(48)]).split(SIZES, -1)
        right = [(o.argmax(-1) == self.labels[..., i])[self.labels[..., i] > 0] for i, o in enumerate(out)]
        return {k: f"{100 * r.float().mean().item():.1f}" for k, r in zip(lessons.LABELS, right)}

    @torch.no_grad()
    def score(self, net):
        """{kind lang: right of all} by greedy tokens, which under teacher forcing are right or wrong as a whole."""
        start = self.vocab.head()[1]
        count = {}
        for k in range(0, len(self.asked), 48):
            part = [c[k:k + 48] for c in self.packed]
            _, hidden = forward(net, self.images[k:k + 48], part, start)
            guess = net.language_model.lm_head(hidden).argmax(-1)
            wrong, seg = ((guess != part[3]) & (part[3] >= 0)).cpu(), part[2].cpu()
            for b, asked in enumerate(self.asked[k:k + 48]):
                for s, (kind, lang, _, answer, unseen) in enumerate(asked, 1):
                    ok = not bool(wrong[b][seg[b] == s].any())
                    keys = [f"{kind}.{lang}", "unseen phrasing" if unseen else "seen phrasing"]
                    keys += [f"read{len(answer)}"] if kind == "read" else []
                    for key in keys:
                        c = count.setdefault(key, [0, 0])
                        c[0] += ok
                        c[1] += 1
        return {k: f"{100 * r / n:.1f}" for k, (r, n) in sorted(count.items())}


def average_gradients(params):
    """The mean over processes; a parameter without a gradient has none anywhere."""
    if not dist.is_initialized():
        return
    grads = [p.grad for p in params if p.grad is not None]
    flat = torch.cat([g.flatten() for g in grads]) / dist.get_world_size()
    dist.all_reduce(flat)
    for g, new in zip(grads, flat.split([g.numel() for g in grads])):
        g.copy_(new.view_as(g))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--data", required=True)
    ap.add_argument("--state", required=True)
    ap.add_argument("--tokenizer", help="made if it is not there; not needed with --from")
    ap.add_argument("--from", dest="begin", metavar="CHECKPOINT", help="begin with the weights and the tokenizer of this directory")
    ap.add_argument("--rate", type=float, default=1.0, help="factor of all learning rates")
    ap.add_argument("--decay", type=float, default=0.4, help="share of the time in which the learning rate falls to zero")
    ap.add_argument("--f32", action="store_true", help="f32 arithmetic, for processors without instructions for bf16")
    ap.add_argument("--minutes", type=float, default=110, help="whole training time over all resumptions")
    ap.add_argument("--tower", type=float, default=0.3, help="share of the time for the tower alone")
    ap.add_argument("--batch", type=int, default=64, help="pictures a step and process")
    ap.add_argument("--workers", type=int, default=2, help="processes of one thread each, which average their gradients every step")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--every", type=float, default=4, help="minutes between saves and checks")
    ap.add_argument("--keep", type=int, default=24, help="shards a process holds in memory")
    ap.add_argument("--packs", type=int, default=0, help="packed sequences a picture in the shards: one process, all pictures in the device's memory, only with --from")
    ap.add_argument("--room", type=int, default=900_000, help="with --packs: pictures that the memory is reserved for, 40 KB each")
    ap.add_argument("--device", default="cpu", help="cpu, or with --packs cuda")
    ap.add_argument("--export", metavar="DIR", help="write the average of the weights there as a checkpoint at every save")
    args = ap.parse_args()
    if args.packs and not args.begin or args.device != "cpu" and not args.packs:
        ap.error("--device needs --packs, and --packs needs --from")
    if args.begin:
        args.tokenizer, args.tower = os.path.join(args.begin, "tokenizer.model"), 0.0
    elif not args.tokenizer:
        ap.error("--tokenizer or --from is needed")
    if not os.path.exists(args.tokenizer):
        vocabulary.train(args.tokenizer)
    if args.packs:
        args.workers = 1
        worker(0, args)
    else:
        torch.multiprocessing.spawn(worker, (args,), args.workers)


def worker(rank, args):
    if not args.packs:
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(29500 + os.getppid() % 1000))
        dist.init_process_group("gloo", rank=rank, world_size=args.workers)
    device = torch.device(args.device)
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("high")
    torch.manual_seed(args.seed)
    vocab = vocabulary.Vocabulary(args.tokenizer)
    start = vocab.head()[1]
    net = (export.load(args.begin)[0].train() if args.begin else model.Demo(vocab.n_vocab)).to(device)
    aux = torch.nn.Linear(model.V_EMBD, sum(SIZES), device=device)
    where = torch.nn.Linear(model.N_EMBD, model.N_IMAGE_TOKENS, device=device)  # which image token is this? so that places are not lost
    everything = [*net.named_parameters(), *aux.named_parameters(prefix="aux"), *where.named_parameters(prefix="aux.where")]
    by_muon = [p for n, p in everything if p.dim() == 2 and "embed" not in n and "lm_head" not in n and not n.startswith("aux")]
    chosen = {id(p) for p in by_muon}
    by_adam = [p for _, p in everything if id(p) not in chosen]
    opts = [muon.Muon(by_muon, lr=LR_MUON, splits={b.attn.qkv.weight: 3 for b in net.vision_model.encoder.layers}),
            torch.optim.AdamW(by_adam, lr=LR_ADAM, betas=(0.9, 0.98), weight_decay=0.0, fused=args.device != "cpu")]
    base = [LR_MUON, LR_ADAM]
    ema = {k: v.clone() for k, v in net.state_dict().items()}
    step, joined, elapsed = 0, 0, 0.0
    if os.path.exists(args.state):
        s = torch.load(args.state, map_location=device)
        net.load_state_dict(s["model"])
        aux.load_state_dict(s["aux"])
        where.load_state_dict(s["where"])
        ema, step, joined, elapsed = s["ema"], s["step"], s["joined"], s["elapsed"]
        for o, d in zip(opts, s["opts"]):
            o.load_state_dict(d)
    held = HeldOut(vocab, device) if rank == 0 else None
    gen = torch.Generator(device).manual_seed(args.seed + 1000 * step + rank)
    if not args.packs:
        tower_only = torch.compile(lambda x: net.vision_model(x)[:, 1:])
        whole = torch.compile(lambda x, p: forward(net, x, p, start), dynamic=False)
    else:  # seconds count: blocks of one kind share what is compiled
        whole = lambda x, p: forward(net, x, p, start)
        for block in (*net.vision_model.encoder.layers[: model.V_RUN], *net.language_model.model.layers):
            block.compile(dynamic=False)

    def save():
        torch.save({"model": net.state_dict(), "ema": ema, "aux": aux.state_dict(), "where": where.state_dict(), "opts": [o.state_dict() for o in opts],
                    "step": step, "joined": joined, "elapsed": elapsed}, args.state + ".part")
        os.replace(args.state + ".part", args.state)
        if args.export:
            export.export({k: v.cpu() for k, v in ema.items()}, args.tokenizer, args.export)

    def check(joining):
        now = {k: v.clone() for k, v in net.state_dict().items()}
        net.load_state_dict(ema)
        torch.compiler.set_stance("force_eager")  # other shapes than in training, once in minutes
        print(time.strftime("%H:%M:%S"), f"step {step} patches", held.score_patches(net, aux), flush=True)
        if joining:
            print(time.strftime("%H:%M:%S"), f"step {step} answers", held.score(net), flush=True)
        torch.compiler.set_stance("default")
        net.load_state_dict(now)

    source = source_joined = None
    last = checked = began = time.time()
    seen, means = 0, {}
    while elapsed / 60 < args.minutes:
        part = elapsed / 60 / args.minutes
        joining = part >= args.tower
        if joining != source_joined and args.packs:
            source_joined, source = joining, resident.Resident(args, device, gen)
        elif joining != source_joined:
            source = batches.stream(args.data, args.batch, args.seed + 1000 * step + rank, vocab if joining else None, args.batch // 4 if joining else args.batch * 3 // 4,
                                    args.keep, rank, args.workers)
            source_joined, means = joining, {}
            if rank == 0 and step:
                save()
        images, labels, packed = next(source)
        x = model.normalise(batches.augment(images, gen))
        heads_only = args.begin and step < HEADS
        if step in (0, HEADS):
            torch.compiler.set_stance("force_eager" if heads_only else "default")
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=not args.f32), torch.set_grad_enabled(not heads_only):
            if joining:
                patches, hidden = whole(x, packed)
            else:
                patches = tower_only(x)
        losses = {"dense": dense_loss(aux(patches), labels)}
        loss = losses["dense"] * (max(0.1, 0.6 * (1 - part)) if joining else 1.0)
        if joining:
            here = packed[3] >= 0
            losses["answers"] = F.cross_entropy(net.language_model.lm_head(hidden[here].float()), packed[3][here])
            slots = torch.arange(model.N_IMAGE_TOKENS, device=device).repeat(len(hidden))
            losses["where"] = F.cross_entropy(where(hidden[:, start:start + model.N_IMAGE_TOKENS].float()).flatten(0, 1), slots)
            loss = loss + losses["where"] * 0.3 + (0 if heads_only else losses["answers"])
            joined += 1
        loss.backward()
        average_gradients([p for _, p in everything])
        step += 1
        if heads_only:
            rate = HEADS_RATE
        elif args.begin:
            rate = args.rate * learning_rate(step - HEADS, part, args.decay)
        else:
            rate = args.rate * learning_rate(step, part, args.decay) * (min(1.0, 0.4 + joined / 150) if joining else 1)
        for o, b in zip(opts, base):
            for g in o.param_groups:
                g["lr"] = b * rate
            o.step()
            o.zero_grad(set_to_none=True)
        with torch.no_grad():
            now_weights = net.state_dict()
            torch._foreach_lerp_(list(ema.values()), [now_weights[k] for k in ema], 1 - min(EMA_FAST if args.packs else EMA, 1 - 1 / (step + 1)))
        now = time.time()
        clock = torch.tensor([now - last if args.packs else min(now - last, PAUSE), float(now - checked > args.every * 60)], dtype=torch.float64)
        if dist.is_initialized():
            dist.broadcast(clock, 0)
        elapsed, last, seen = elapsed + clock[0].item(), now, seen + args.batch * args.workers
        for k, v in losses.items():
            means[k] = v.detach() if k not in means else means[k].lerp(v.detach(), 0.03)
        if step % 25 == 0 and rank == 0:
            print(time.strftime("%H:%M:%S"), f"step {step} part {part:.3f} rate {rate:.3f} {seen / (now - began):.0f}/s",
                  {k: round(v.item(), 4) for k, v in means.items()}, *([f"{s.n} pictures" for s in source.stores] if args.packs else []), flush=True)
        if clock[1]:
            if rank == 0:
                save()
                check(joining)
            if dist.is_initialized():
                dist.barrier()
            if os.path.exists(args.state + ".minutes"):  # the whole time may be changed while it runs
                with open(args.state + ".minutes", encoding="ascii") as f:
                    args.minutes = float(f.read())
            checked = last = time.time()
    if rank == 0:
        save()
        check(True)
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
