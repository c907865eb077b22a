"""A transformer learns to write like the Python manual, character by character, from the topics of `help()`."""

from pydoc_data import topics

import numpy as np
from flags import finish, opened, parse

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn, optim

CONTEXT, BATCH, EVERY = 64, 16, 100
TEXT = "\n\n".join(dict.fromkeys("\n\n".join(topics.topics.values()).split("\n\n")))  # topics share paragraphs


class Writer(nn.Module):
    """Codes (n, CONTEXT) -> scores (n, CONTEXT, chars) for what comes after each, from that one and those before it."""

    def __init__(self, chars, width=128, heads=4, layers=2):
        self.chars, self.places = nn.Embedding(chars, width), nn.Embedding(CONTEXT, width)
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.layers, self.scores = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width)), nn.Linear(width, chars)

    def forward(self, codes):
        """The mask hides what comes later."""
        mask = nn.Transformer.generate_square_subsequent_mask(CONTEXT, device=codes.device)
        return self.scores(self.layers(self.chars(codes) + self.places.weight, mask, is_causal=True))


def write(net, codes, n, rng, device="cpu", temperature=0.7):
    """`n` more codes. The noise makes the highest score a draw from softmax(scores / temperature)."""
    for _ in range(n):
        scores = net(nb.tensor(codes[None, -CONTEXT:], device=device))[0, -1, :].detach().numpy()
        codes = np.append(codes, np.argmax(scores / temperature + rng.gumbel(size=len(scores))))
    return codes[-n:]


def run(seed, device="cpu", epochs=5, most=None, verbose=False, resume=None):
    """Train on random windows of nine tenths of TEXT[:most]; the network, its loss on the rest, what it writes."""
    chars, codes = np.unique(list(TEXT[:most]), return_inverse=True)
    train, held = np.split(codes, [len(codes) * 9 // 10])
    held = nb.tensor(np.resize(held, (len(held) // (CONTEXT + 1), CONTEXT + 1)), device=device)
    net, rng = Writer(len(chars)).init(seed).to(device), np.random.default_rng(seed)
    steps = epochs * len(train) // (BATCH * CONTEXT)
    adamw = optim.AdamW(net.parameters(), betas=(0.9, 0.99), weight_decay=0.1)
    schedule = optim.OneCycleLR(adamw, max_lr=3e-3, total_steps=steps, pct_start=0.1, cycle_momentum=False)

    def loss(rows):
        return F.cross_entropy(nb.permute_dims(net(rows[:, :-1]), (0, 2, 1)), rows[:, 1:])

    validate = nb.compile(nb.no_grad()(loss))

    @nb.compile
    def step(rows):
        now = loss(rows)
        adamw.zero_grad()
        now.backward()
        optim.clip_grad_norm(net.parameters(), 1.0)
        adamw.step()
        schedule.step()
        return now

    file, state = opened(resume, {"net": net, "adamw": adamw, "schedule": schedule, "rng": rng, "done": 0})
    for i in range(state["done"] + 1, steps + 1):
        windows = rng.integers(len(train) - CONTEXT, size=(BATCH, 1)) + np.arange(CONTEXT + 1)
        now = step(nb.tensor(train[windows], device=device))
        if i % EVERY == 0 or i == steps:
            if file:
                nb.save({**state, "done": i}, file)
            if verbose:
                print(f"step {i:5} of {steps}  loss {float(now):.3f}  held out {float(validate(held)):.3f}", flush=True)
    return net, float(validate(held)), "".join(chars[write(net, codes[-CONTEXT:], 300, rng, device)])


if __name__ == "__main__":
    args = parse(__doc__, epochs=5)
    epochs, most = (1, 5_000) if args.smoke else (args.epochs, None)
    net, loss, sample = run(args.seed, args.device, epochs, most, verbose=True, resume=args.resume)
    print(sample)
    finish(args, net, "nats per character", loss, target=1.9, less=True)
