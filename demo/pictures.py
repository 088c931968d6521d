"""Pictures the demo model learns from: shapes and short text on many backgrounds.

`draw(rng, fonts, kind)` gives a canvas and a scene (what is in it, in fractions of the canvas). Everything follows from the
numpy generator handed in.
"""
import colorsys
import functools
import glob
import hashlib
import math
import os

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

SIDE, PATCH = 112, 14
GRID = SIDE // PATCH
SHAPES = ["circle", "square", "triangle"]
COLOURS = ["red", "green", "blue", "yellow"]
CHARS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ23456789"
KINDS = ["one", "many", "mixed", "text"]

# ---------------------------------------------------------------------------------------------------------------- fonts


def _glyph(path, char, size=40):
    font = ImageFont.truetype(path, size)
    mask = font.getmask(char, mode="L")
    if min(mask.size) < 3:
        return None
    img = Image.frombytes("L", mask.size, bytes(mask))
    box = img.getbbox()
    if box is None:
        return None
    img = img.crop(box)
    return img.size, np.asarray(img.resize((20, 20), Image.BILINEAR), np.float32) / 255


def scan_fonts(folders=("/usr/share/fonts", "/usr/local/share/fonts", os.path.expanduser("~/.fonts"))):
    """Usable fonts as {family: [path]}: all glyphs there, distinct, and readable (nearest to plain reference letters)."""
    paths = sorted(p for f in folders for p in glob.glob(f + "/**/*.[ot]t[fc]", recursive=True))
    plain = [p for p in paths if os.path.basename(p).split(".")[0] in
             ("DejaVuSans", "DejaVuSerif", "LiberationSans-Regular", "LiberationSerif-Bold", "DejaVuSansMono",
              "Roboto-Regular", "LiberationSansNarrow-Regular", "Lato-Bold")]
    if not plain:
        raise SystemExit("no reference font found: install fonts-dejavu or fonts-liberation")
    refs = [np.stack([_glyph(p, c)[1].ravel() for c in CHARS]) for p in plain]
    families, seen = {}, set()
    for path in paths:
        try:
            glyphs = [_glyph(path, c) for c in CHARS]
            if any(g is None for g in glyphs):
                continue
            flat = np.stack([g[1].ravel() for g in glyphs])
            key = hashlib.md5((flat > 0.5).tobytes()).hexdigest()
            if key in seen or "Initials" in os.path.basename(path) or any(not 0.12 < g[0][0] / g[0][1] < 2.2 for g in glyphs):
                continue
            distance = np.minimum.reduce([((flat[:, None] - r[None]) ** 2).sum(-1) for r in refs])
            if (distance.argmin(1) == np.arange(len(CHARS))).mean() < 0.8:
                continue
            seen.add(key)
            name = ImageFont.truetype(path, 20).getname()[0]
        except (OSError, ValueError):
            continue
        name = " ".join(name.split()[:2]) if name.startswith(("Noto", "DejaVu", "Nimbus")) else name
        families.setdefault(name, []).append(path)
    return families


def is_held_out(family):
    """A quarter of the families is never used in training, so that evaluation can use unseen fonts."""
    return int(hashlib.md5(("owlet" + family).encode()).hexdigest(), 16) % 4 == 0


def split_fonts(families):
    train = {f: p for f, p in families.items() if not is_held_out(f)}
    held = {f: p for f, p in families.items() if is_held_out(f)}
    return train, held


# --------------------------------------------------------------------------------------------------------------- colours


def shade(rng, colour):
    """An RGB shade that people would still call by the name."""
    if colour == "red":
        h, s, v = rng.uniform(-12, 9), rng.uniform(0.68, 1), rng.uniform(0.62, 1)
    elif colour == "green":
        h, s, v = rng.uniform(88, 158), rng.uniform(0.5, 1), rng.uniform(0.38, 1)
    elif colour == "blue":
        h, s, v = rng.uniform(202, 248), rng.uniform(0.58, 1), rng.uniform(0.5, 1)
    else:
        h, s, v = rng.uniform(47, 63), rng.uniform(0.6, 1), rng.uniform(0.82, 1)
    if rng.random() < 0.25:  # the pure colours that most programs draw with
        h, s, v = {"red": (0, 1, 1), "green": (120, 1, rng.choice([0.5, 1, 0.6])), "blue": (240, 1, 1), "yellow": (60, 1, 1)}[colour]
    return tuple(int(round(255 * c)) for c in colorsys.hsv_to_rgb((h % 360) / 360, s, v))


def distance(a, b):
    return math.sqrt(0.30 * (a[0] - b[0]) ** 2 + 0.50 * (a[1] - b[1]) ** 2 + 0.20 * (a[2] - b[2]) ** 2)


def plain_colour(rng):
    """A background colour: white, light, dark, gray, or (seldom) anything."""
    u = rng.random()
    if u < 0.28:
        return (255, 255, 255)
    if u < 0.50:
        h, s, v = rng.random(), rng.uniform(0, 0.3), rng.uniform(0.8, 1)
    elif u < 0.62:
        g = int(rng.integers(0, 256))
        return (g, g, g)
    elif u < 0.78:
        h, s, v = rng.random(), rng.uniform(0, 0.7), rng.uniform(0, 0.35)
    elif u < 0.83:
        return (0, 0, 0)
    else:
        h, s, v = rng.random(), rng.uniform(0.1, 0.9), rng.uniform(0.3, 1)
    return tuple(int(round(255 * c)) for c in colorsys.hsv_to_rgb(h, s, v))


def background(rng, w, h):
    """The canvas and the colours that occur in it (things drawn later keep away from them)."""
    a = plain_colour(rng)
    if rng.random() < 0.6:
        return Image.new("RGB", (w, h), a), [a]
    u = rng.random()
    b = plain_colour(rng) if u < 0.3 else tuple(int(np.clip(c + rng.integers(-60, 61), 0, 255)) for c in a)
    if rng.random() < 0.6:  # gradient in any direction
        t = rng.uniform(0, 2 * math.pi)
        y, x = np.mgrid[0:24, 0:24] / 23
        g = (x - 0.5) * math.cos(t) + (y - 0.5) * math.sin(t)
        g = (g - g.min()) / (g.max() - g.min())
    else:  # soft blotches
        k = int(rng.integers(3, 9))
        g = np.asarray(Image.fromarray((rng.random((k, k)) * 255).astype(np.uint8)).resize((24, 24), Image.BICUBIC), float) / 255
    small = np.array(a)[None, None] * (1 - g[..., None]) + np.array(b)[None, None] * g[..., None]
    img = Image.fromarray(small.clip(0, 255).astype(np.uint8)).resize((w, h), Image.BICUBIC)
    if rng.random() < 0.25:  # a few faint lines
        d = ImageDraw.Draw(img)
        for _ in range(int(rng.integers(1, 8))):
            c = tuple(int(np.clip(v + rng.integers(-25, 26), 0, 255)) for v in a)
            d.line([(rng.random() * w, rng.random() * h), (rng.random() * w, rng.random() * h)], fill=c, width=int(rng.integers(1, 4)))
    return img, [a, b, tuple((x + y) // 2 for x, y in zip(a, b))]


def contrasting(rng, make, others, least):
    """The first colour of `make()` that keeps `least` away from all others, or the farthest of 12."""
    best, best_d = None, -1
    for _ in range(12):
        c = make()
        d = min((distance(c, o) for o in others), default=999)
        if d >= least:
            return c
        if d > best_d:
            best, best_d = c, d
    return best


# ---------------------------------------------------------------------------------------------------------------- shapes


def corners(rng, shape, r):
    """Corner points round (0, 0) and the half sizes that questions and labels use."""
    if shape == "square":
        a = rng.uniform(-0.12, 0.12) if rng.random() < 0.35 else 0.0
        if rng.random() < 0.07:
            a = rng.uniform(0, math.pi / 2)
        s = r * 0.95
        pts = [(-s, -s), (s, -s), (s, s), (-s, s)]
    else:
        u = rng.random()
        a = rng.uniform(-0.15, 0.15) if rng.random() < 0.4 else 0.0
        if u < 0.62:  # upright
            k = rng.uniform(0.8, 1.15)
            pts = [(0, -r), (r * k, r * 0.85), (-r * k, r * 0.85)]
        elif u < 0.74:  # pointing down
            pts = [(0, r), (r, -r * 0.85), (-r, -r * 0.85)]
        elif u < 0.84:  # right angle
            pts = [(-r, -r), (r, r), (-r, r)]
        else:
            a = rng.uniform(0, 2 * math.pi)
            pts = [(r * 1.1 * math.sin(k * 2 * math.pi / 3), -r * 1.1 * math.cos(k * 2 * math.pi / 3)) for k in range(3)]
    ca, sa = math.cos(a), math.sin(a)
    return [(x * ca - y * sa, x * sa + y * ca) for x, y in pts]


def draw_shape(rng, img, shape, cx, cy, r, fill, style, edge):
    d = ImageDraw.Draw(img)
    width = max(2, int(r * rng.uniform(0.16, 0.34)))
    if shape == "circle":
        box = [cx - r, cy - r, cx + r, cy + r]
        if style == "filled":
            d.ellipse(box, fill=fill)
        elif style == "edged":
            d.ellipse(box, fill=fill, outline=edge, width=max(1, width // 4))
        else:
            d.ellipse(box, outline=fill, width=width)
        return
    pts = [(cx + x, cy + y) for x, y in corners(rng, shape, r)]
    if style == "filled":
        d.polygon(pts, fill=fill)
    elif style == "edged":
        d.polygon(pts, fill=fill)
        d.line(pts + [pts[0], pts[1]], fill=edge, width=max(1, width // 4), joint="curve")
    else:
        d.line(pts + [pts[0], pts[1]], fill=fill, width=width, joint="curve")


# ------------------------------------------------------------------------------------------------------------------ text


@functools.lru_cache(None)
def metrics(path):
    """{character: (advance, bounding box)} at size 64."""
    font = ImageFont.truetype(path, 64, layout_engine=ImageFont.Layout.BASIC)
    return {c: (font.getlength(c), font.getbbox(c)) for c in CHARS}


def draw_text(rng, img, fonts, back, text, x_range=(0.0, 1.0), y_range=(0.0, 1.0), colour=None, size_range=None):
    """Draws `text` somewhere in the given part of the canvas; gives centre, half sizes, per-letter boxes, colour."""
    w, h = img.size
    family = list(fonts)[int(rng.integers(len(fonts)))]
    path = fonts[family][int(rng.integers(len(fonts[family])))]
    # how wide and tall the string may be in the squashed picture
    n = len(text)
    box_w, box_h = (x_range[1] - x_range[0]) * 0.94 * w, (y_range[1] - y_range[0]) * 0.92 * h
    lo_px, hi_px = size_range or (12.0, 64.0)  # letter height after squashing
    lo_w = 8.5  # mean letter pitch after squashing
    glyphs = metrics(path)
    tracking = rng.choice([0, 0, 0, 0.06, 0.12, 0.25]) * 64
    length = sum(glyphs[c][0] for c in text) + tracking * (n - 1)
    cap_h = glyphs["H"][1][3] - glyphs["H"][1][1]
    # scale limits relative to size 64
    s_max = min(box_w / (length * 1.05), box_h / (cap_h * 1.25), hi_px / SIDE * h / cap_h)
    s_min = max(lo_px / SIDE * h / cap_h, lo_w * n / SIDE * w / length)
    s = s_max if s_min >= s_max else math.exp(rng.uniform(math.log(s_min), math.log(s_max)))
    s = min(s, s_max) if rng.random() < 0.97 else s_max
    size = max(6, int(64 * s))
    font = ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)
    k = size / 64
    track = tracking * k
    pos, boxes, x = [], [], 0.0
    for c in text:
        advance, b = glyphs[c]
        pos.append((x, x + b[0] * k, x + b[2] * k))
        boxes.append([v * k for v in b])
        x += advance * k + track
    left, right = min(p[1] for p in pos), max(p[2] for p in pos)
    top, bottom = min(b[1] for b in boxes), max(b[3] for b in boxes)
    tw, th = int(math.ceil(right - left)), int(math.ceil(bottom - top))
    pad = 4 + size // 4
    stroke = max(1, size // 24) if rng.random() < 0.08 else 0
    mask = Image.new("L", (tw + 2 * pad, th + 2 * pad), 0)
    d = ImageDraw.Draw(mask)
    if track == 0 and rng.random() < 0.7:
        d.text((pad - left, pad - top), text, font=font, fill=255, stroke_width=stroke)
    else:
        for c, p in zip(text, pos):
            d.text((pad - left + p[0], pad - top), c, font=font, fill=255, stroke_width=stroke)
    angle = 0.0
    if rng.random() < 0.35:
        angle = float(np.clip(rng.normal(0, 4), -12, 12))
        mask = mask.rotate(angle, Image.BILINEAR, expand=True)
    mw, mh = mask.size
    x0, x1 = x_range[0] * w, x_range[1] * w
    y0, y1 = y_range[0] * h, y_range[1] * h
    slack = pad * 0.8
    lo_x, hi_x = x0 - slack, x1 - mw + slack
    lo_y, hi_y = y0 - slack, y1 - mh + slack
    centred = rng.random() < 0.25
    px = (lo_x + hi_x) / 2 if hi_x <= lo_x or centred else rng.uniform(lo_x, hi_x)
    py = (lo_y + hi_y) / 2 if hi_y <= lo_y or centred else rng.uniform(lo_y, hi_y)
    px, py = int(round(px)), int(round(py))
    if colour is None:
        ink = contrasting(rng, lambda: plain_colour(rng), back, 95)
    else:
        ink = contrasting(rng, lambda: shade(rng, colour), back, 75)
    img.paste(Image.new("RGB", mask.size, ink), (px, py), mask)
    ca, sa = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    letters = []
    for b, p in zip(boxes, pos):
        lx, ly = (p[1] + p[2]) / 2 - left - tw / 2, (b[1] + b[3]) / 2 - top - th / 2
        gx, gy = lx * ca + ly * sa, -lx * sa + ly * ca
        letters.append([(px + mw / 2 + gx) / w, (py + mh / 2 + gy) / h, (p[2] - p[1]) / 2 / w, (b[3] - b[1]) / 2 / h])
    return {"text": text, "cx": (px + mw / 2) / w, "cy": (py + mh / 2) / h, "rx": tw / 2 / w, "ry": th / 2 / h,
            "letters": letters, "colour": colour,
            "clear": min(distance(ink, b) for b in back) >= 60}


# --------------------------------------------------------------------------------------------------------------- pictures


def random_text(rng, longest=4):
    n = int(rng.choice([1, 2, 3, 4], p=[0.16, 0.22, 0.28, 0.34]))
    return "".join(CHARS[int(i)] for i in rng.integers(0, len(CHARS), min(n, longest)))


def place_shapes(rng, w, h, n, lo, hi):
    """Centres and radii of n shapes that neither touch each other nor leave the canvas."""
    for attempt in range(200):
        shrink = 0.97 ** attempt
        out = []
        same = rng.random() < 0.5
        r0 = rng.uniform(lo, hi) * shrink
        for _ in range(n):
            r = (r0 if same else rng.uniform(lo, hi) * shrink) * min(w, h)
            r = max(r, 5.5 / SIDE * max(w, h))
            m = r * 1.08
            if 2 * m >= min(w, h):
                break
            if n == 1 and rng.random() < 0.35:  # near one of the nine places, as people set shapes
                fx, fy = rng.choice([0.17, 0.5, 0.83]), rng.choice([0.17, 0.5, 0.83])
                x = np.clip((fx + rng.normal(0, 0.03)) * w, m, w - m)
                y = np.clip((fy + rng.normal(0, 0.03)) * h, m, h - m)
            else:
                x, y = rng.uniform(m, w - m), rng.uniform(m, h - m)
            if any((x - a) ** 2 + (y - b) ** 2 < (1.25 * (r + q)) ** 2 for a, b, q in out):
                break
            out.append((float(x), float(y), float(r)))
        if len(out) == n:
            return out
    return out or [(w / 2, h / 2, 0.2 * min(w, h))]


def in_row(rng, w, h, n):
    """n equal shapes in a row, a column or a loose grid, as diagrams have them."""
    across = rng.random() < 0.6
    cells = n if rng.random() < 0.5 else max(n, int(rng.integers(n, 6)))
    length, thick = (w, h) if across else (h, w)
    if n >= 4 and rng.random() < 0.5:
        cols, rows = (3, 2) if across else (2, 3)
        spots = [((i + 0.5) / cols * w, (j + 0.5) / rows * h) for j in range(rows) for i in range(cols)]
        r = 0.36 * min(w / cols, h / rows) * rng.uniform(0.6, 1)
        rng.shuffle(spots)
        return [(x, y, r) for x, y in spots[:n]]
    r = 0.40 * min(length / cells, thick * 0.8) * rng.uniform(0.6, 1)
    line = rng.uniform(r / thick + 0.03, 1 - r / thick - 0.03) * thick if rng.random() < 0.5 else thick / 2
    start = (length - (n - 1) * length / cells) / 2
    spots = [start + i * length / cells for i in range(n)]
    return [(s, line, r) if across else (line, s, r) for s in spots]


def draw(rng, fonts, kind, scale=None):
    """(picture, scene). `scale` below 1 draws the same kind of canvas smaller, which is faster."""
    w, h = int(rng.integers(240, 641)), int(rng.integers(240, 641))
    if rng.random() < 0.3:
        w = h = int(rng.choice([240, 256, 320, 400, 448, 480, 512, 640]))
    if scale is not None:
        w, h = max(130, int(w * scale)), max(130, int(h * scale))
    img, back = background(rng, w, h)
    scene = {"w": w, "h": h, "kind": kind, "shapes": [], "text": None}
    if kind == "text":
        colour = COLOURS[int(rng.integers(4))] if rng.random() < 0.45 else None
        if rng.random() < 0.12:  # a sign: text on a panel or on a shape
            panel = contrasting(rng, lambda: plain_colour(rng), back, 40)
            d = ImageDraw.Draw(img)
            m = rng.uniform(0.04, 0.2)
            box = [m * w, m * h, (1 - m) * w, (1 - m) * h]
            (d.rounded_rectangle(box, radius=min(w, h) // 9, fill=panel) if rng.random() < 0.5 else d.rectangle(box, fill=panel))
            scene["text"] = draw_text(rng, img, fonts, [panel], random_text(rng), (m + 0.03, 0.97 - m), (m + 0.03, 0.97 - m), colour)
        else:
            scene["text"] = draw_text(rng, img, fonts, back, random_text(rng), colour=colour)
    else:
        style_of = lambda: str(rng.choice(["filled", "edged", "outline"], p=[0.72, 0.12, 0.16]))
        beside = kind == "one" and rng.random() < 0.10  # a shape and a word side by side
        if kind == "one":
            spots = place_shapes(rng, w, h, 1, 0.09, 0.36)
            if beside:
                half = rng.random() < 0.5
                x, y, r = spots[0]
                r = min(r, 0.20 * w, 0.4 * h)
                spots = [(r * 1.1 + 0.5 * w * (0 if half else 1) + rng.uniform(0, max(1, 0.46 * w - 2.2 * r)), float(np.clip(y, r * 1.1, h - r * 1.1)), r)]
            combos = [(str(rng.choice(SHAPES)), str(rng.choice(COLOURS)))]
        else:
            n = int(rng.integers(2, 6))
            if kind == "many":
                spots = in_row(rng, w, h, n) if rng.random() < 0.35 else place_shapes(rng, w, h, n, 0.06, 0.19)
                combos = [(str(rng.choice(SHAPES)), str(rng.choice(COLOURS)))] * len(spots)
            else:
                spots = in_row(rng, w, h, n) if rng.random() < 0.25 else place_shapes(rng, w, h, n, 0.07, 0.2)
                u = rng.random()
                shapes = list(rng.permutation(SHAPES)[: 1 if u < 0.2 else 2 if u < 0.8 else 3])
                colours = list(rng.permutation(COLOURS)[: 1 if rng.random() < 0.25 else int(rng.integers(2, 5))])
                combos = [(str(rng.choice(shapes)), str(rng.choice(colours))) for _ in spots]
                if rng.random() < 0.4:  # each kind of shape in a colour of its own
                    own = {s: str(rng.choice(COLOURS)) for s in SHAPES}
                    combos = [(s, own[s]) for s, _ in combos]
        style = style_of()
        shades = {}
        for (x, y, r), (shape, colour) in zip(spots, combos):
            if kind == "mixed" and rng.random() < 0.15:
                style = style_of()
            if colour not in shades or rng.random() < 0.15:
                shades[colour] = contrasting(rng, lambda: shade(rng, colour), back, 70)
            draw_shape(rng, img, shape, x, y, r, shades[colour], style, contrasting(rng, lambda: plain_colour(rng), back, 60))
            scene["shapes"].append({"shape": shape, "colour": colour, "cx": x / w, "cy": y / h, "rx": r / w, "ry": r / h,
                                    "clear": min(distance(shades[colour], b) for b in back) >= 55})
        if beside:
            scene["text"] = draw_text(rng, img, fonts, back, random_text(rng, 3), (0.52, 1.0) if half else (0.0, 0.48), size_range=(11, 40))
    return img, scene


def cells(rng, x0, y0, x1, y1):
    """Random split of a rectangle (fractions) into cells that a short string or a shape fits into."""
    w, h = x1 - x0, y1 - y0
    if (w < 0.42 and h < 0.42 and rng.random() < 0.5) or (w < 0.3 and h < 0.3):
        return [(x0, y0, x1, y1)]
    if w * 0.8 > h or (h < 0.3 and w >= 0.3) or h < 0.2:
        m = x0 + w * rng.uniform(0.38, 0.62)
        return cells(rng, x0, y0, m, y1) + cells(rng, m, y0, x1, y1)
    m = y0 + h * rng.uniform(0.38, 0.62)
    return cells(rng, x0, y0, x1, m) + cells(rng, x0, m, x1, y1)


def draw_page(rng, fonts, scale):
    """A page full of short strings and shapes: many labelled things a picture, for the tower's first lessons."""
    w, h = max(130, int(rng.integers(240, 641) * scale)), max(130, int(rng.integers(240, 641) * scale))
    img, back = background(rng, w, h)
    scene = {"w": w, "h": h, "kind": "page", "shapes": [], "text": None, "texts": []}
    for x0, y0, x1, y1 in cells(rng, 0.0, 0.0, 1.0, 1.0):
        u = rng.random()
        if u < 0.08:
            continue
        if u < 0.22:
            r = min((x1 - x0) * w, (y1 - y0) * h) * rng.uniform(0.3, 0.45)
            shape, colour = str(rng.choice(SHAPES)), str(rng.choice(COLOURS))
            cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
            style = str(rng.choice(["filled", "edged", "outline"], p=[0.72, 0.12, 0.16]))
            draw_shape(rng, img, shape, cx * w, cy * h, r, contrasting(rng, lambda: shade(rng, colour), back, 70), style,
                       contrasting(rng, lambda: plain_colour(rng), back, 60))
            scene["shapes"].append({"shape": shape, "colour": colour, "cx": cx, "cy": cy, "rx": r / w, "ry": r / h})
            continue
        fits = max(1, min(4, int((x1 - x0) * SIDE / 11)))
        text = "".join(CHARS[int(i)] for i in rng.integers(0, len(CHARS), int(rng.integers(1, fits + 1))))
        colour = COLOURS[int(rng.integers(4))] if rng.random() < 0.45 else None
        scene["texts"].append(draw_text(rng, img, fonts, back, text, (x0, x1), (y0, y1), colour))
    return img, scene


def degrade(rng, img):
    """Noise and blur of the finished canvas."""
    u = rng.random()
    if u < 0.12:
        img = img.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.006 * max(img.size) / 2 + 0.4)))
    if 0.08 < u < 0.3:
        a = np.asarray(img, np.int16)
        sigma = rng.uniform(2, 22)
        noise = rng.standard_normal((a.shape[0] // 2 + 1, a.shape[1] // 2 + 1, 1 if rng.random() < 0.5 else 3)) * sigma
        noise = noise.repeat(2, 0).repeat(2, 1)[: a.shape[0], : a.shape[1]]
        img = Image.fromarray((a + noise.astype(np.int16)).clip(0, 255).astype(np.uint8))
    return img


def squash(img):
    """The preprocessing of the model, up to the 8-bit picture."""
    return np.asarray(img.convert("RGB").resize((SIDE, SIDE), Image.BICUBIC), np.uint8)
