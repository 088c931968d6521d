#!/usr/bin/env python3
"""Records tests/golden/pictures: what Pillow makes of pictures.

    python tests/reference/record_pictures.py        # needs Pillow below 13 (recorded with 12.2.0, libjpeg-turbo 3)

Pillow 13 resizes vertically first where that is cheaper, which gives other bytes; the models were trained with older ones,
which always resize horizontally first.

resize.txt      one line a case: width height new_width new_height sha256-of-the-resized-RGB
resize_tiny.txt the same with every byte in hex instead of the hash
planes.txt      width height side sha256-of-the-normalised-planes (little-endian f32), ImageNet mean and deviation
files/*         small pictures of every kind
files.txt       one line a file: name width height orientation had_alpha sha256-of-the-upright-RGB
decoded/*.png   the upright RGB of the JPEGs, whose decoders differ
Inputs come from formulas, so that reruns give the same bytes and Rust computes the same pictures.
"""

import hashlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import PIL
from PIL import Image

OUT = Path(__file__).resolve().parent.parent / "golden" / "pictures"
FILES = OUT / "files"
DECODED = OUT / "decoded"


def noise(width, height, n_channels=3, seed=0):
    """Bytes of a picture: splitmix64 of the byte's index; smooth in one half so that both kinds are there."""
    out = bytearray(width * height * n_channels)
    mask = (1 << 64) - 1
    for i in range(len(out)):
        z = (seed + (i + 1) * 0x9E3779B97F4A7C15) & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        z ^= z >> 31
        x, y, c = i // n_channels % width, i // n_channels // width, i % n_channels
        out[i] = z >> 56 if x * 2 < width else (x * 5 + y * 3 + c * 60) & 255
    return bytes(out)


RESIZES = [
    # down, up, one side only, extreme aspects, sizes next to the target
    (1, 1, 448, 448), (1, 1, 1, 1), (2, 1, 5, 3), (1, 900, 16, 16), (900, 1, 16, 16), (16384, 1, 56, 56),
    (1, 16384, 56, 56), (3, 3, 448, 448), (7, 5, 112, 112), (447, 449, 448, 448), (448, 448, 448, 448),
    (448, 300, 448, 448), (300, 448, 448, 448), (449, 448, 448, 448), (640, 480, 448, 448), (480, 640, 112, 112),
    (333, 777, 224, 224), (777, 333, 56, 90), (1000, 999, 448, 448), (64, 64, 63, 65), (65, 63, 64, 64),
    (100, 100, 1, 1), (100, 100, 2, 1), (513, 257, 336, 336), (1920, 108, 448, 448), (31, 1023, 448, 448),
]
RESIZES += [(w, h, 28, 28) for w, h in zip(range(20, 60, 3), range(59, 19, -3))]
TINY = [(2, 2, 4, 4), (5, 3, 3, 2), (1, 4, 3, 3), (4, 4, 4, 2), (9, 1, 2, 5)]


def resized(case):
    w, h, to_w, to_h = case
    return Image.frombytes("RGB", (w, h), noise(w, h)).resize((to_w, to_h), Image.BICUBIC).tobytes()


def planes(width, height, side):
    """What torchvision's ToTensor and Normalize make of it: two steps, each rounded to f32."""
    rgb = np.frombuffer(resized((width, height, side, side)), np.uint8).reshape(side, side, 3)
    scaled = rgb.astype(np.float32) / np.float32(255)
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    return ((scaled - mean) / std).transpose(2, 0, 1).astype("<f4").tobytes()


def rgb_of(image):
    """Upright RGB: orientation applied, 16 bits by their high byte, alpha over white with exact rounding."""
    orientation = image.getexif().get(0x0112, 1)
    if image.mode.startswith("I;16"):
        image = Image.frombytes("L", image.size, image.tobytes()[1::2])
    if "transparency" in image.info:
        image = image.convert("RGBA")
    had_alpha = False
    if image.mode in ("LA", "RGBA"):
        pixels = image.convert("RGBA").tobytes()
        had_alpha = any(a != 255 for a in pixels[3::4])
        flat = bytearray()
        for i in range(0, len(pixels), 4):
            a = pixels[i + 3]
            flat += bytes((v * a + 255 * (255 - a) + 127) // 255 for v in pixels[i : i + 3])
        image = Image.frombytes("RGB", image.size, bytes(flat))
    image = image.convert("RGB")
    return image.transpose(TURNS[orientation]) if orientation in TURNS else image, orientation, had_alpha


T = Image.Transpose
TURNS = {2: T.FLIP_LEFT_RIGHT, 3: T.ROTATE_180, 4: T.FLIP_TOP_BOTTOM, 5: T.TRANSPOSE, 6: T.ROTATE_270, 7: T.TRANSVERSE,
         8: T.ROTATE_90}


def scene(width, height, mode="RGB"):
    """Smooth colour with a hard edge: what a photo is to a decoder."""
    image = Image.new("RGB", (width, height))
    image.putdata([
        ((x * 7 + y) & 255, (x * y // 2) & 255, 255 - (y * 9 & 255)) if (x + y) % 17 else (255, 0, 80)
        for y in range(height) for x in range(width)
    ])
    return image.convert(mode)


def save(name, image, **options):
    image.save(FILES / name, **options)


def exif(orientation):
    data = Image.Exif()
    data[0x0112] = orientation
    return data


def png_chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width, height, depth, colour, rows, *chunks, interlace=0):
    """A PNG from raw rows (filter 0), for kinds that Pillow does not write."""
    raw = b"".join(b"\0" + row for row in rows)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    body = b"".join(png_chunk(*chunk) for chunk in [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(raw, 9)), (b"IEND", b"")])
    return b"\x89PNG\r\n\x1a\n" + body


ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def interlaced_rows(data, width, height, n_bytes):
    for x0, y0, dx, dy in ADAM7:
        for y in range(y0, height, dy):
            row = b"".join(data[(y * width + x) * n_bytes : (y * width + x + 1) * n_bytes] for x in range(x0, width, dx))
            if row:
                yield row


def write_files():
    jpeg = scene(37, 29)
    for name, options in {
        "baseline_444": dict(quality=90, subsampling=0),
        "baseline_422": dict(quality=85, subsampling=1),
        "baseline_420": dict(quality=85, subsampling=2),
        "optimized_420": dict(quality=60, subsampling=2, optimize=True),
        "progressive_444": dict(quality=90, subsampling=0, progressive=True),
        "progressive_420": dict(quality=75, subsampling=2, progressive=True),
        "restart_420": dict(quality=75, subsampling=2, restart_marker_blocks=2),
        "restart_progressive": dict(quality=75, subsampling=2, progressive=True, restart_marker_rows=1),
        "rgb": dict(quality=90, keep_rgb=True),
        "coarse": dict(quality=1, subsampling=2),
        "fine": dict(quality=100, subsampling=0),
    }.items():
        save(f"{name}.jpg", jpeg, **options)
    # Fewer than three chroma columns, one pixel, one row, one column, whole blocks.
    for w, h in [(1, 1), (3, 3), (5, 2), (1, 40), (40, 1), (16, 16), (33, 8)]:
        save(f"size_{w}x{h}_420.jpg", scene(w, h), quality=80, subsampling=2)
    save("size_17x9_progressive_420.jpg", scene(17, 9), quality=80, subsampling=2, progressive=True)
    save("gray.jpg", scene(23, 21, "L"), quality=80)
    save("gray_progressive.jpg", scene(23, 21, "L"), quality=80, progressive=True)
    save("cmyk.jpg", scene(21, 13, "CMYK"), quality=90)
    save("cmyk_progressive.jpg", scene(21, 13, "CMYK"), quality=90, progressive=True)
    write_variants()
    for orientation in range(1, 9):
        save(f"exif_{orientation}.jpg", scene(12, 9), quality=95, exif=exif(orientation))
    small = scene(19, 14)
    save("rgb.png", small)
    save("gray.png", small.convert("L"))
    save("gray_alpha.png", Image.frombytes("LA", (9, 7), noise(9, 7, 2)))
    save("rgba.png", Image.frombytes("RGBA", (9, 7), noise(9, 7, 4)))
    opaque = small.copy()
    opaque.putalpha(255)
    save("rgba_opaque.png", opaque)
    save("palette.png", small.quantize(13))
    palette = small.quantize(13)
    save("palette_trns.png", palette, transparency=bytes([0, 128, 255, 40]))
    save("bits_1.png", small.convert("1"))
    save("rgb_trns.png", small, transparency=(255, 0, 80))
    save("gray_trns.png", small.convert("L"), transparency=small.convert("L").getpixel((3, 3)))
    save("exif_6.png", small, exif=exif(6))
    gray16 = Image.frombytes("I;16", (9, 7), noise(9, 7, 2))
    save("gray16.png", gray16)
    wide = noise(9, 7, 6)
    (FILES / "rgb16.png").write_bytes(png(9, 7, 16, 2, [wide[y * 54 : y * 54 + 54] for y in range(7)]))
    wide = noise(9, 7, 8)
    (FILES / "rgba16.png").write_bytes(png(9, 7, 16, 6, [wide[y * 72 : y * 72 + 72] for y in range(7)]))
    data = noise(11, 10)
    (FILES / "interlaced.png").write_bytes(png(11, 10, 8, 2, interlaced_rows(data, 11, 10, 3), interlace=1))
    data = noise(11, 10, 8)
    (FILES / "interlaced_rgba16.png").write_bytes(png(11, 10, 16, 6, interlaced_rows(data, 11, 10, 8), interlace=1))
    text = (b"zTXt", b"Comment\0\0" + zlib.compress(b"\0" * 1_000_000, 9))
    data = noise(5, 4)
    (FILES / "text.png").write_bytes(png(5, 4, 8, 2, [data[y * 15 : y * 15 + 15] for y in range(4)], text))
    for depth in (1, 2, 4):
        rows = [bytes([0x1B, 0xE4]) for _ in range(3)]
        (FILES / f"gray_{depth}bit.png").write_bytes(png(16 // depth, 3, depth, 0, rows))
    save("one_pixel.png", scene(1, 1))
    save("lossless.webp", small, lossless=True)
    save("lossless_alpha.webp", Image.frombytes("RGBA", (9, 7), noise(9, 7, 4)), lossless=True, exact=True)
    save("lossy.webp", scene(37, 29), quality=80)
    faded = scene(37, 29)
    faded.putalpha(Image.frombytes("L", (37, 29), noise(37, 29, 1)))
    save("lossy_alpha.webp", faded, quality=80)
    # For the memory test: large, and a few kilobytes.
    flat = Image.new("RGB", (2048, 1024), (200, 30, 60))
    save("flat_lossy.webp", flat, quality=10)
    flat.putalpha(128)
    save("flat_lossy_alpha.webp", flat, quality=10)
    save("flat_animated.webp", flat, save_all=True, append_images=[flat.point(lambda v: v // 2)], quality=10)
    save("flat_lossless_animated.webp", flat, save_all=True, append_images=[flat.point(lambda v: v // 2)], lossless=True)
    save("flat.gif", flat.convert("RGB").quantize(2))
    save("exif_8.webp", small, lossless=True, exif=exif(8))
    frames = [scene(16, 12), scene(16, 12).transpose(T.ROTATE_180)]
    save("animated.webp", frames[0], save_all=True, append_images=frames[1:], lossless=True)
    save("palette.gif", small.quantize(13))
    save("animated.gif", frames[0].quantize(40), save_all=True, append_images=[frames[1].quantize(40)])
    save("transparent.gif", small.quantize(13), transparency=3)
    save("interlaced.gif", small.quantize(13), interlace=1)
    save("rgb.bmp", small)
    save("gray.bmp", small.convert("L"))
    save("palette.bmp", small.quantize(13))
    save("bits_1.bmp", small.convert("1"))


def write_variants():
    """Sampling factors that Pillow does not offer: a frame header is rewritten so that the same data means another shape."""
    buffer = io.BytesIO()
    scene(32, 16).save(buffer, "JPEG", quality=85, subsampling=1)
    data = bytearray(buffer.getvalue())
    at = data.index(b"\xff\xc0") + 5
    # 4:2:2 has MCUs of 16 x 8 pixels. With factors 1x2 they are 8 x 16; as many of them fit 16 x 32 pixels.
    data[at : at + 4] = struct.pack(">HH", 32, 16)
    data[at + 6] = 0x12
    (FILES / "baseline_440.jpg").write_bytes(data)
    # 4:1:1 repeats its chroma instead of interpolating. 4:2:0 has four luma blocks in 16 x 16 pixels; as 4x1 they cover
    # 32 x 8.
    buffer = io.BytesIO()
    scene(32, 32).save(buffer, "JPEG", quality=85, subsampling=2)
    data = bytearray(buffer.getvalue())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 16, 64)
    data[at + 6] = 0x41
    (FILES / "baseline_411.jpg").write_bytes(data)


def main():
    assert int(PIL.__version__.split(".")[0]) < 13, PIL.__version__
    for folder in (FILES, DECODED):
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
    sha = lambda data: hashlib.sha256(data).hexdigest()
    with open(OUT / "resize.txt", "w") as out:
        for case in RESIZES:
            print(*case, sha(resized(case)), file=out)
    with open(OUT / "resize_tiny.txt", "w") as out:
        for case in TINY:
            print(*case, resized(case).hex(), file=out)
    with open(OUT / "planes.txt", "w") as out:
        for case in [(40, 30, 28), (30, 40, 28), (1, 1, 14), (500, 333, 56)]:
            print(*case, sha(planes(*case)), file=out)
    write_files()
    with open(OUT / "files.txt", "w") as out:
        for path in sorted(FILES.iterdir()):
            stored = Image.open(path)
            stored.load()
            image, orientation, had_alpha = rgb_of(stored)
            print(path.name, *image.size, orientation, int(had_alpha), sha(image.tobytes()), file=out)
            if path.suffix == ".jpg":
                image.save(DECODED / (path.name + ".png"), optimize=True)


if __name__ == "__main__":
    main()
