"""Muon: momentum whose matrix updates are orthogonalised by a Newton-Schulz iteration; AdamW for everything else."""
import torch
import torch.distributed as dist

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonal(g, steps=5):
    """(k, r, c) stack of matrices -> nearly orthogonal matrices of the same row and column spaces."""
    a, b, c = COEFFICIENTS
    wide = g.shape[-2] <= g.shape[-1]
    x = g if wide else g.transpose(-1, -2)
    x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    for _ in range(steps):
        s = x @ x.transpose(-1, -2)
        x = a * x + (b * s + c * (s @ s)) @ x
    return x if wide else x.transpose(-1, -2)


class Muon(torch.optim.Optimizer):
    """`params`: 2-D weights. `splits`: {parameter: how many square parts its rows hold} (q, k, v are three matrices)."""

    def __init__(self, params, lr=0.02, momentum=0.95, weight_decay=0.01, splits=None):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.splits = splits or {}

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            by_shape = {}
            for p in group["params"]:
                if p.grad is None:
                    continue
                m = self.state[p].setdefault("momentum", torch.zeros_like(p))
                m.lerp_(p.grad, 1 - group["momentum"])
                u = p.grad.lerp(m, group["momentum"])
                for du, dp in zip(u.chunk(self.splits.get(p, 1)), p.data.chunk(self.splits.get(p, 1))):
                    by_shape.setdefault(tuple(du.shape), []).append((du, dp))
            for (r, c), pairs in by_shape.items():
                stack = torch.stack([u for u, _ in pairs])
                if dist.is_initialized():  # each process does its part of the matrices
                    new, mine = torch.zeros_like(stack), slice(dist.get_rank(), None, dist.get_world_size())
                    if stack[mine].shape[0]:
                        new[mine] = orthogonal(stack[mine])
                    dist.all_reduce(new)
                else:
                    new = orthogonal(stack)
                scale = group["lr"] * max(1.0, r / c) ** 0.5
                for (_, p), n in zip(pairs, new):
                    p.mul_(1 - group["lr"] * group["weight_decay"]).add_(n, alpha=-scale)
