"""What every patch of a picture shows, as class numbers: the tower's own lessons."""
import numpy as np

from pictures import CHARS, COLOURS, GRID, SHAPES

# how many classes each label has; 0 is always "nothing here". `number` is of all shapes, `alike` of those of this shape,
# `toned` of those of this colour; `first` to `fourth` spell the whole string that a patch belongs to.
END = len(CHARS) + 1
LABELS = {"shape": 4, "colour": 6, "char": len(CHARS) + 1, "slot": 5, "centre": 2, "number": 6, "alike": 6, "toned": 6,
          "first": END + 1, "second": END + 1, "third": END + 1, "fourth": END + 1}


def dense_labels(scene):
    """(64, 12) uint8, a row a patch."""
    out = np.zeros((GRID, GRID, len(LABELS)), np.uint8)
    ys, xs = np.mgrid[0:GRID, 0:GRID]
    px, py = (xs + 0.5) / GRID, (ys + 0.5) / GRID
    half = 0.5 / GRID
    field = lambda cx, cy: (min(GRID - 1, max(0, int(cy * GRID))), min(GRID - 1, max(0, int(cx * GRID))))
    shapes = scene["shapes"]
    for s in shapes:
        dx, dy = np.abs(px - s["cx"]), np.abs(py - s["cy"])
        near = (dx < s["rx"] + 0.3 * half) & (dy < s["ry"] + 0.3 * half)
        if s["shape"] == "circle":
            near &= (dx / (s["rx"] + half * 0.5)) ** 2 + (dy / (s["ry"] + half * 0.5)) ** 2 < 1
        i, j = field(s["cx"], s["cy"])
        near[i, j] = True
        out[near, 0] = 1 + SHAPES.index(s["shape"])
        out[near, 1] = 1 + COLOURS.index(s["colour"])
        out[near, 5] = min(len(shapes), 5)
        out[near, 6] = min(sum(t["shape"] == s["shape"] for t in shapes), 5)
        out[near, 7] = min(sum(t["colour"] == s["colour"] for t in shapes), 5)
        out[i, j, 4] = 1
    for t in [scene["text"]] if scene["text"] else scene.get("texts", []):
        best = np.full((GRID, GRID), 9.0)
        spelt = [1 + CHARS.index(c) for c in t["text"]] + [END] * (4 - len(t["text"]))
        for k, (c, (cx, cy, rx, ry)) in enumerate(zip(t["text"], t["letters"])):
            d = np.maximum(np.abs(px - cx) / (rx + 0.8 * half), np.abs(py - cy) / (ry + 0.6 * half))
            far = np.hypot(px - cx, py - cy)
            hit = (d < 1) & (far < best)
            best[hit] = far[hit]
            out[hit, 2] = 1 + CHARS.index(c)
            out[hit, 3] = 1 + k
            out[hit, 1] = 1 + COLOURS.index(t["colour"]) if t["colour"] else 5
            out[hit, 8:] = spelt
        for k, (c, (cx, cy, rx, ry)) in enumerate(zip(t["text"], t["letters"])):
            at = field(cx, cy)
            out[at][2:5] = 1 + CHARS.index(c), 1 + k, 1
            out[at][8:] = spelt
    return out.reshape(GRID * GRID, -1)
