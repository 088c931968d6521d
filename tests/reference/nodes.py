"""What a model computes on its way, by name, and what it chooses: forward hooks read the first, `generate` tells the second."""

from contextlib import ExitStack, contextmanager


@contextmanager
def reading():
    """(seen, hook): `hook(name, module)` keeps the module's output, or what `pick` takes of (inputs, output), in `seen`."""
    seen = {}
    with ExitStack() as stack:

        def hook(name, module, pick=lambda inputs, output: output):
            def keep(_, inputs, output):
                value = pick(inputs, output)
                value = value[0] if isinstance(value, tuple) else value
                seen[name] = value.detach().squeeze(0).numpy().copy()

            stack.callback(module.register_forward_hook(keep).remove)

        yield seen, hook


def first_input(inputs, _):
    return inputs[0]


def with_next(nodes: dict) -> dict:
    """`next` is the logits' last row: what decides the first new token."""
    return nodes | {"next": nodes["logits"][-1:]}


def chosen(out) -> tuple[list[int], list[float]]:
    """The new tokens of `generate`'s output, and every step's top-1 to top-2 margin over the logits' rms."""
    margins = []
    for scores in out.scores:
        top = scores[0].topk(2).values
        margins.append(float((top[0] - top[1]) / scores[0].pow(2).mean().sqrt()))
    return out.sequences[0].tolist()[-len(margins) :], margins  # InternVL's puts a BOS in front
