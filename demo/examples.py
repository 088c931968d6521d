"""Draws the pictures in examples/: by hand-set scenes, not by the generator that the model was trained with.

    python demo/examples.py --out examples
"""
import argparse
import math
import os

from PIL import Image, ImageDraw, ImageFilter, ImageFont

BOLD = "/usr/share/fonts/truetype/liberation/LiberationSans-Bold.ttf"
SLAB = "/usr/share/fonts/truetype/dejavu/DejaVuSans-Bold.ttf"


def slope(w, h, top, bottom):
    column = Image.new("RGB", (1, 2))
    column.putdata([top, bottom])
    return column.resize((w, h), Image.BILINEAR)


def shadowed(img, paint):
    """Paints with a soft shadow below, four times over-sampled so that edges are smooth."""
    big = (img.width * 4, img.height * 4)
    mask = Image.new("L", big, 0)
    paint(ImageDraw.Draw(mask), 255)
    mask = mask.resize(img.size, Image.LANCZOS)
    shade = Image.new("RGB", img.size, (60, 60, 70))
    img.paste(shade, (4, 6), mask.filter(ImageFilter.GaussianBlur(5)).point(lambda v: v // 3))
    return mask


def fill(img, colour, paint):
    mask = shadowed(img, paint)
    img.paste(Image.new("RGB", img.size, colour), (0, 0), mask)


def circle(x, y, r):
    return lambda d, c: d.ellipse([4 * (x - r), 4 * (y - r), 4 * (x + r), 4 * (y + r)], fill=c)


def square(x, y, r):
    return lambda d, c: d.rectangle([4 * (x - r), 4 * (y - r), 4 * (x + r), 4 * (y + r)], fill=c)


def triangle(x, y, r):
    points = [(4 * (x + r * math.sin(a)), 4 * (y - r * math.cos(a) + r * 0.15)) for a in (0, 2 * math.pi / 3, 4 * math.pi / 3)]
    return lambda d, c: d.polygon(points, fill=c)


def sign(w, h, top, bottom, text, ink, font, size):
    img = slope(w, h, top, bottom)
    d = ImageDraw.Draw(img)
    d.text((w / 2, h / 2), text, font=ImageFont.truetype(font, size), fill=ink, anchor="mm")
    return img


def draw_all():
    out = {}
    img = slope(480, 360, (252, 250, 244), (226, 232, 240))
    fill(img, (214, 40, 40), circle(240, 180, 105))
    out["red-circle.png"] = img

    img = slope(560, 320, (255, 255, 255), (228, 236, 246))
    for x in (110, 280, 450):
        fill(img, (32, 84, 214), triangle(x, 165, 74))
    out["three-blue-triangles.png"] = img

    img = slope(420, 420, (38, 44, 58), (20, 24, 34))
    for x, y in ((115, 115), (305, 115), (115, 305), (305, 305)):
        fill(img, (250, 214, 40), square(x, y, 58))
    out["four-yellow-squares.png"] = img

    img = slope(520, 400, (255, 252, 240), (246, 236, 214))
    fill(img, (34, 150, 70), square(110, 310, 62))
    out["green-square.png"] = img

    out["text-owl.png"] = sign(480, 320, (250, 246, 236), (240, 230, 210), "OWL", (66, 44, 28), BOLD, 128)
    out["text-b52.png"] = sign(480, 300, (24, 40, 72), (14, 24, 48), "B52", (240, 244, 255), SLAB, 150)
    out["text-k7.png"] = sign(360, 360, (255, 255, 255), (240, 244, 248), "K7", (30, 90, 210), BOLD, 190)
    return out


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--out", required=True)
    args = ap.parse_args()
    os.makedirs(args.out, exist_ok=True)
    for name, img in draw_all().items():
        path = os.path.join(args.out, name)
        img.quantize(96, dither=Image.Dither.NONE).save(path, optimize=True)
        print(path, os.path.getsize(path))


if __name__ == "__main__":
    main()
