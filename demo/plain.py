"""Pictures as another program would draw them: exact colours, flat backgrounds, shapes set straight, text in one line.

`draw(rng, fonts, kind)` gives a canvas and a scene like `pictures.draw`, from which it differs in everything that a style
can differ in, so that the model does not learn one script's habits.
"""
import functools
import io
import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pictures import CHARS, COLOURS, SHAPES, SIDE, distance

NAMED = {  # the colours of drawing libraries, style sheets and design guides
    "red": [(255, 0, 0), (255, 0, 0), (220, 20, 60), (200, 0, 0), (230, 30, 30), (231, 76, 60), (244, 67, 54), (178, 34, 34), (214, 39, 40), (220, 50, 47)],
    "green": [(0, 128, 0), (0, 255, 0), (0, 128, 0), (0, 200, 0), (34, 139, 34), (46, 204, 113), (76, 175, 80), (0, 160, 0), (50, 205, 50), (44, 160, 44), (0, 100, 0), (39, 174, 96)],
    "blue": [(0, 0, 255), (0, 0, 255), (30, 144, 255), (0, 0, 200), (52, 152, 219), (33, 150, 243), (65, 105, 225), (0, 0, 139), (31, 119, 180), (0, 90, 255), (41, 128, 185)],
    "yellow": [(255, 255, 0), (255, 255, 0), (255, 215, 0), (241, 196, 15), (255, 235, 59), (240, 220, 0), (255, 220, 50), (250, 210, 0), (255, 200, 0), (230, 210, 20)]}
BACKS = [(255, 255, 255)] * 8 + [(0, 0, 0)] * 2 + [(240, 240, 240), (245, 245, 245), (250, 248, 240), (230, 230, 230), (200, 200, 200), (128, 128, 128), (211, 211, 211), (245, 245, 220),
         (30, 30, 30), (20, 20, 40), (44, 62, 80), (64, 64, 64), (224, 240, 255), (255, 240, 245), (220, 255, 220), (255, 250, 205), (10, 10, 60), (90, 60, 40)]
SIZES = [(112, 112), (128, 128), (160, 120), (200, 200), (224, 224), (224, 224), (256, 256), (256, 256), (300, 200), (200, 300), (320, 240), (336, 336), (300, 300), (400, 300), (448, 448), (512, 512), (320, 180), (240, 320)]


def ink(rng, colour, back):
    """A named colour, sometimes a little off, that stands out from the background; the last tried if none does."""
    for _ in range(6):
        c = NAMED[colour][int(rng.integers(len(NAMED[colour])))]
        if rng.random() < 0.3:
            c = tuple(int(np.clip(v + rng.integers(-18, 19), 0, 255)) for v in c)
        if distance(c, back) >= 65:
            break
    return c


def spread(rng, w, h, n):
    """[(x, y, r)] for n things that do not touch: a row, a column, a grid or scattered, of one size or several."""
    u = rng.random()
    least = 5.5 / SIDE * max(w, h)
    if n == 1:
        r = max(least, min(w, h) * rng.uniform(0.07, 0.46))
        m = min(r * rng.uniform(1.0, 1.1), w / 2, h / 2)
        if u < 0.35:
            return [(w / 2, h / 2, r)]
        if u < 0.7:  # in the middle of one of the nine fields, or at the border there
            at = lambda size: float(np.clip(size * rng.choice([1, 3, 5]) / 6, m, size - m))
            return [(at(w), at(h), r)]
        return [(rng.uniform(m, w - m), rng.uniform(m, h - m), r)]
    if u < 0.55:
        if u < 0.2:
            cols, rows = n, 1
        elif u < 0.3:
            cols, rows = 1, n
        else:
            cols, rows = [(2, 2), (3, 2), (2, 3), (3, 3), (5, 1), (4, 2), (3, 2)][int(rng.integers(7))]
            if cols * rows < n:
                cols, rows = 3, 2
        cell = min(w / cols, h / rows)
        spots = [((i + 0.5) * w / cols, (j + 0.5) * h / rows) for j in range(rows) for i in range(cols)]
        if rng.random() < 0.5 and n < len(spots):
            spots = [spots[i] for i in rng.permutation(len(spots))]
        r = max(least * 0.9, cell * rng.uniform(0.22, 0.44))
        if rng.random() < 0.3 and r < cell * 0.4:  # packed: the pitch of a legend, not of the canvas
            k = rng.uniform(2.3 * r / cell, 1)
            spots = [(w / 2 + (x - w / 2) * k, h / 2 + (y - h / 2) * k) for x, y in spots]
        sizes = rng.uniform(0.65, 1, n) if rng.random() < 0.25 else np.ones(n)
        return [(x, y, r * float(k)) for (x, y), k in zip(spots[:n], sizes)]
    low, high = 0.05, rng.choice([0.10, 0.15, 0.22])
    for attempt in range(300):
        out = []
        shrink = 0.98 ** attempt
        same = rng.uniform(low, high)
        equal = rng.random() < 0.5
        for _ in range(n):
            r = max(least, min(w, h) * (same if equal else rng.uniform(low, high)) * shrink)
            for _ in range(8):
                x, y = rng.uniform(r, w - r), rng.uniform(r, h - r)
                if all(math.hypot(x - a, y - b) > 1.15 * (r + q) + 0.02 * w for a, b, q in out):
                    out.append((x, y, r))
                    break
        if len(out) == n:
            return out
    return spread(rng, w, h, n)


def outline(shape, x, y, r, turn):
    """Corner points, or the box of a circle."""
    if shape == "circle":
        return [(x - r, y - r), (x + r, y + r)]
    if shape == "square":
        return [(x - r, y - r), (x + r, y - r), (x + r, y + r), (x - r, y + r)]
    equal, tall, right, down = [(0, -1), (0.866, 0.5), (-0.866, 0.5)], [(0, -1), (1, 1), (-1, 1)], [(-1, -1), (1, 1), (-1, 1)], [(0, 1), (1, -1), (-1, -1)]
    return [(x + a * r, y + b * r) for a, b in (equal, tall, tall, equal, right, down)[turn]]


def draw_shape(rng, img, shape, x, y, r, colour, look, smooth):
    """`look`: (filled, width of the line, colour of the line, which triangle). `smooth`: drawn large and made smaller."""
    filled, width, line, turn = look
    k = 3 if smooth else 1
    d = ImageDraw.Draw(img)
    x0, y0, side = int(x - r) - 4, int(y - r) - 4, int(2 * r) + 10
    if smooth:
        mask = [Image.new("L", (side * k, side * k), 0) for _ in range(2)]
        pens = [ImageDraw.Draw(m) for m in mask]
        pts = outline(shape, (x - x0) * k, (y - y0) * k, r * k, turn)
    else:
        pts = outline(shape, x, y, r, turn)
        pens = [d, d]
    fills = (255, 255) if smooth else (colour, line)
    if shape == "circle":
        box = [*pts[0], *pts[1]]
        if filled:
            pens[0].ellipse(box, fill=fills[0])
        if width:
            pens[1].ellipse(box, outline=fills[1], width=max(1, int(width * k)))
    else:
        if filled:
            pens[0].polygon(pts, fill=fills[0])
        if width:
            pens[1].line(pts + pts[:2], fill=fills[1], width=max(1, int(width * k)), joint="curve")
    if smooth:
        for m, c in zip(mask, (colour, line)):
            m = m.resize((side, side), Image.BOX)
            img.paste(Image.new("RGB", m.size, c), (x0, y0), m)


@functools.lru_cache(512)
def font_of(path, size):
    return ImageFont.truetype(path, size) if path else ImageFont.load_default(size)


WORDS = "STOP GO EXIT OPEN SALE BUS TAXI CAFE BANK HOTEL YES NO OK UP ON OFF HELP TEST ABC XYZ CAT DOG SUN RED BLUE HI PUSH PULL FREE NEW BAR ZOO MAP KEY BOX CAR TREE FISH BIRD STAR MOON LOVE HOME GAME CODE DATA TEXT".split()


def random_text(rng):
    u = rng.random()
    if u < 0.12:
        return str(rng.choice([w for w in WORDS if len(w) <= 4]))
    n = int(rng.choice([1, 2, 3, 4], p=[0.10, 0.18, 0.30, 0.42]))
    chars = CHARS[:26] if u < 0.35 else CHARS[26:] if u < 0.45 else CHARS
    return "".join(chars[int(i)] for i in rng.integers(0, len(chars), n))


def draw_text(rng, img, fonts, text, back, colour):
    """One straight line of text, often in the middle, sometimes in a box; the scene's entry, or None where it cannot be read."""
    w, h = img.size
    family = list(fonts)[int(rng.integers(len(fonts)))]
    path = None if rng.random() < 0.06 else fonts[family][int(rng.integers(len(fonts[family])))]
    big = font_of(path, 64)
    length, cap = big.getlength(text), big.getbbox("H")[3] - big.getbbox("H")[1]
    most = min(0.96 * w / length, 0.9 * h / cap) * 64
    least = max(10.5 / SIDE * h / cap, 7.8 / SIDE * w * len(text) / length) * 64
    size = rng.choice([16, 20, 24, 28, 30, 32, 36, 40, 48, 50, 56, 60, 64, 72, 80, 96, 100, 120, 128]) if rng.random() < 0.5 else math.exp(rng.uniform(math.log(least), math.log(max(most, least * 1.01))))
    size = int(np.clip(size, least, max(least, most)))
    font = font_of(path, size)
    tw, box = font.getlength(text), font.getbbox(text)
    slack_x, slack_y = max(0.0, w - (box[2] - box[0])), max(0.0, h - (box[3] - box[1]))
    u = rng.random()
    fx, fy = (0.5, 0.5) if u < 0.5 else (float(rng.choice([0.04, 0.5, 0.96])), float(rng.choice([0.04, 0.5, 0.96]))) if u < 0.65 else (rng.random(), rng.random())
    x, y = fx * slack_x - box[0], fy * slack_y - box[1]
    d = ImageDraw.Draw(img)
    if rng.random() < 0.18:  # a label: a box of its own colour
        pad = rng.uniform(0.1, 0.5) * size
        back = BACKS[int(rng.integers(len(BACKS)))] if rng.random() < 0.5 else NAMED[COLOURS[int(rng.integers(4))]][0]
        d.rectangle([x + box[0] - pad, y + box[1] - pad, x + box[2] + pad, y + box[3] + pad], fill=back, outline=(0, 0, 0) if rng.random() < 0.4 else None, width=max(1, size // 20))
    elif rng.random() < 0.06:  # a frame round the canvas
        d.rectangle([2, 2, w - 3, h - 3], outline=(90, 90, 90), width=max(1, size // 24))
    if colour:
        c = ink(rng, colour, back)
    else:
        dark = distance(back, (255, 255, 255)) < distance(back, (0, 0, 0))
        c = [(0, 0, 0), (0, 0, 0), (0, 0, 0), (40, 40, 40), (60, 30, 20), (20, 20, 90)][int(rng.integers(6))] if dark else [(255, 255, 255), (255, 255, 255), (230, 230, 230), (255, 250, 200)][int(rng.integers(4))]
    d.fontmode = "1" if rng.random() < 0.12 else "L"
    d.text((x, y), text, font=font, fill=c)
    letters = []
    for i, char in enumerate(text):
        left, b = font.getlength(text[:i]), font.getbbox(char)
        letters.append([(x + left + (b[0] + b[2]) / 2) / w, (y + (b[1] + b[3]) / 2) / h, (b[2] - b[0]) / 2 / w, (b[3] - b[1]) / 2 / h])
    return {"text": text, "cx": (x + (box[0] + box[2]) / 2) / w, "cy": (y + (box[1] + box[3]) / 2) / h, "rx": tw / 2 / w, "ry": (box[3] - box[1]) / 2 / h, "letters": letters,
            "colour": colour, "clear": distance(c, back) >= 60}


def draw(rng, fonts, kind):
    """(picture, scene) of `pictures.KINDS`."""
    w, h = SIZES[int(rng.integers(len(SIZES)))]
    if rng.random() < 0.25:
        w, h = int(rng.integers(120, 420)), int(rng.integers(120, 420))
    back = BACKS[int(rng.integers(len(BACKS)))]
    img = Image.new("RGB", (w, h), back)
    scene = {"w": w, "h": h, "kind": kind, "shapes": [], "text": None}
    if kind == "text":
        scene["text"] = draw_text(rng, img, fonts, random_text(rng), back, COLOURS[int(rng.integers(4))] if rng.random() < 0.4 else None)
    else:
        n = 1 if kind == "one" else int(rng.choice([2, 3, 4, 5], p=[0.18, 0.22, 0.30, 0.30]))
        spots = spread(rng, w, h, n)
        if kind == "mixed":
            shapes, colours = rng.permutation(SHAPES)[: int(rng.integers(1, 4))], rng.permutation(COLOURS)[: int(rng.integers(1, 5))]
            combos = [(str(rng.choice(shapes)), str(rng.choice(colours))) for _ in spots]
            if rng.random() < 0.4:
                own = {s: str(rng.choice(COLOURS)) for s in SHAPES}
                combos = [(s, own[s]) for s, _ in combos]
        else:
            combos = [(str(rng.choice(SHAPES)), str(rng.choice(COLOURS)))] * len(spots)
        inks = {c: ink(rng, c, back) for c in COLOURS}
        hollow = rng.random() < 0.18
        edge = rng.random() < 0.25
        turn, smooth = int(rng.integers(6)), rng.random() < 0.5
        border = [(0, 0, 0), (0, 0, 0), (60, 60, 60), (255, 255, 255)][int(rng.integers(4))]
        thick = rng.uniform(0.02, 0.2)
        for (x, y, r), (shape, colour) in zip(spots, combos):
            width = max(2 * w / SIDE * 0.7, r * thick) if hollow else max(1, r * thick * 0.4) if edge else 0
            draw_shape(rng, img, shape, x, y, r, inks[colour], (not hollow, width, inks[colour] if hollow else border, turn), smooth)
            scene["shapes"].append({"shape": shape, "colour": colour, "cx": x / w, "cy": y / h, "rx": r / w, "ry": r / h, "clear": distance(inks[colour], back) >= 55})
    if rng.random() < 0.12:
        file = io.BytesIO()
        img.save(file, "JPEG", quality=int(rng.integers(25, 92)))
        img = Image.open(file).convert("RGB")
    return img, scene
