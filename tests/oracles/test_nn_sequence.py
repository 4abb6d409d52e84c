"""Layers for sequences against PyTorch: the same weights, outputs, states and gradients."""

import numpy as np
import pytest

import fathom
from fathom import nn

torch = pytest.importorskip("torch")

TIME, N, WIDTH, HIDDEN = 5, 4, 3, 4
LENGTHS = [5, 2, 4, 1]


def twin(ours, theirs):
    """Both in double, with the same weights: the names must be PyTorch's."""
    theirs = theirs.double()
    with torch.no_grad():
        for p in theirs.parameters():  # PyTorch starts some biases at 0; nothing is hidden by that
            p.copy_(torch.from_numpy(np.random.default_rng(p.numel()).normal(0, 0.4, p.shape)))
    ours.double()
    names = [n for n, _ in ours.named_parameters()]
    assert names == [n for n, _ in theirs.named_parameters()]
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict({n: v.numpy() for n, v in theirs.state_dict().items()})
    return ours, theirs


def flat(tree):
    if isinstance(tree, nn.PackedSequence | torch.nn.utils.rnn.PackedSequence):
        return [tree.data]
    if isinstance(tree, tuple | list):
        return [leaf for part in tree for leaf in flat(part)]
    return [] if tree is None else [tree]


def compare(ours, theirs, arrays, call=None, call_theirs=None, rtol=1e-9):
    """Outputs within 1e-9 and gradients of inputs and parameters within 1e-7."""
    call = call or (lambda m, *xs: m(*xs))
    call_theirs = call_theirs or call
    xs = [fathom.tensor(a, requires_grad=True) for a in arrays]
    ts = [torch.tensor(a, requires_grad=True) for a in arrays]
    got, wanted = flat(call(ours, *xs)), flat(call_theirs(theirs, *ts))
    assert len(got) == len(wanted)
    for a, b in zip(got, wanted, strict=True):
        assert tuple(a.shape) == tuple(b.shape)
        np.testing.assert_allclose(a.value(), b.detach().numpy(), rtol=rtol, atol=1e-11)
    rng = np.random.default_rng(5)
    gs = [rng.standard_normal(a.shape) for a in got]
    sum((a * fathom.tensor(g)).sum() for a, g in zip(got, gs, strict=True)).backward()
    sum((b * torch.tensor(g)).sum() for b, g in zip(wanted, gs, strict=True)).backward()
    for x, t in zip(xs, ts, strict=True):
        np.testing.assert_allclose(x.grad.value(), t.grad.numpy(), rtol=1e-7, atol=1e-9)
    own = dict(ours.named_parameters())
    for name, p in theirs.named_parameters():
        np.testing.assert_allclose(
            own[name].grad.value(), p.grad.numpy(), rtol=1e-7, atol=1e-9, err_msg=name
        )


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


# -- recurrent layers ------------------------------------------------------------------------------

KINDS = ["RNN", "LSTM", "GRU"]


def states(kind, options, n=N):
    count = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
    first = options.get("proj_size") or HIDDEN
    shape = () if n is None else (n,)
    widths = (first, HIDDEN) if kind == "LSTM" else (HIDDEN,)
    return [draw(count, *shape, w, seed=i + 3) for i, w in enumerate(widths)]


def pair(kind, **options):
    return twin(
        getattr(nn, kind)(WIDTH, HIDDEN, **options),
        getattr(torch.nn, kind)(WIDTH, HIDDEN, **options),
    )


def with_state(kind):
    def call(module, x, *hx):
        return module(x, tuple(hx) if kind == "LSTM" else hx[0])

    return call


OPTIONS = [
    {},
    {"num_layers": 2},
    {"bidirectional": True},
    {"num_layers": 2, "bidirectional": True, "batch_first": True},
    {"bias": False, "num_layers": 2},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
class TestRecurrent:
    def test_from_zeros(self, kind, options):
        lead = (N, TIME) if options.get("batch_first") else (TIME, N)
        compare(*pair(kind, **options), [draw(*lead, WIDTH)])

    def test_initial_states(self, kind, options):
        lead = (N, TIME) if options.get("batch_first") else (TIME, N)
        arrays = [draw(*lead, WIDTH), *states(kind, options)]
        compare(*pair(kind, **options), arrays, with_state(kind))

    def test_one_sequence_without_a_batch(self, kind, options):
        compare(
            *pair(kind, **options),
            [draw(TIME, WIDTH), *states(kind, options, None)],
            with_state(kind),
        )

    def test_lengths_equal_a_packed_batch(self, kind, options):
        first = bool(options.get("batch_first"))
        lead = (N, TIME) if first else (TIME, N)
        tools = torch.nn.utils.rnn

        def ours(module, x, *hx):
            return module(x, tuple(hx) if kind == "LSTM" else hx[0], lengths=LENGTHS)

        def theirs(module, x, *hx):
            packed = tools.pack_padded_sequence(x, LENGTHS, first, enforce_sorted=False)
            out, last = module(packed, tuple(hx) if kind == "LSTM" else hx[0])
            return tools.pad_packed_sequence(out, first)[0], last

        arrays = [draw(*lead, WIDTH), *states(kind, options)]
        compare(*pair(kind, **options), arrays, ours, theirs)

    @pytest.mark.parametrize("lengths", [LENGTHS, [5, 4, 4, 2]], ids=str)
    def test_packed_sequences(self, kind, options, lengths):
        first = bool(options.get("batch_first"))
        lead = (N, TIME) if first else (TIME, N)
        ordered = lengths == sorted(lengths, reverse=True)

        def run(tools):
            def call(module, x, *hx):
                packed = tools.pack_padded_sequence(x, lengths, first, enforce_sorted=ordered)
                out, last = module(packed, tuple(hx) if kind == "LSTM" else hx[0])
                assert (out.sorted_indices is None) == ordered
                padded, found = tools.pad_packed_sequence(out, first)
                assert found.tolist() == lengths
                return out, padded, last

            return call

        arrays = [draw(*lead, WIDTH), *states(kind, options)]
        compare(*pair(kind, **options), arrays, run(nn), run(torch.nn.utils.rnn))


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=str)
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}], ids=str)
def test_projected_lstm(options, lengths):
    options = {**options, "proj_size": 2}
    tools = torch.nn.utils.rnn

    def theirs(module, x, *hx):
        if lengths is None:
            return module(x, hx)
        packed = tools.pack_padded_sequence(x, lengths, enforce_sorted=False)
        out, last = module(packed, hx)
        return tools.pad_packed_sequence(out)[0], last

    compare(
        *pair("LSTM", **options),
        [draw(TIME, N, WIDTH), *states("LSTM", options)],
        lambda m, x, *hx: m(x, hx, lengths=lengths),
        theirs,
    )


def test_relu_rnn():
    compare(*pair("RNN", nonlinearity="relu", num_layers=2), [draw(TIME, N, WIDTH)])


@pytest.mark.parametrize("shape", [(N,), ()], ids=["batch", "single"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("RNNCell", {}),
        ("RNNCell", {"nonlinearity": "relu"}),
        ("LSTMCell", {}),
        ("GRUCell", {}),
    ],
    ids=str,
)
def test_cells(kind, options, bias, shape):
    ours, theirs = twin(
        getattr(nn, kind)(WIDTH, HIDDEN, bias=bias, **options),
        getattr(torch.nn, kind)(WIDTH, HIDDEN, bias=bias, **options),
    )
    count = 2 if kind == "LSTMCell" else 1
    arrays = [draw(*shape, WIDTH), *(draw(*shape, HIDDEN, seed=i + 1) for i in range(count))]
    compare(ours, theirs, arrays, lambda m, x, *h: m(x, tuple(h) if count == 2 else h[0]))
    ours.zero_grad(), theirs.zero_grad()
    compare(ours, theirs, arrays[:1])


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_between_layers_falls_where_pytorch_has_it(kind):
    """With p = 1 the second layer sees zeros, in both."""
    options = {"num_layers": 2, "dropout": 1.0}
    ours, theirs = pair(kind, **options)
    x = draw(TIME, N, WIDTH)
    got = ours(fathom.tensor(x))[0].value()
    np.testing.assert_allclose(got, theirs(torch.tensor(x))[0].detach().numpy(), rtol=1e-9)
    compare(*pair(kind, num_layers=2, dropout=0.5), [x], lambda m, v: m.eval()(v))


def test_second_derivatives_go_through_time():
    ours, theirs = pair("LSTM")
    x, t = fathom.tensor(draw(3, 2, WIDTH), requires_grad=True), None
    t = torch.tensor(draw(3, 2, WIDTH), requires_grad=True)
    (g,) = fathom.autograd.grad((ours(x)[0] ** 2).sum(), [x], create_graph=True)
    (h,) = torch.autograd.grad((theirs(t)[0] ** 2).sum(), [t], create_graph=True)
    (g * g).sum().backward()
    (h * h).sum().backward()
    np.testing.assert_allclose(x.grad.value(), t.grad.numpy(), rtol=1e-7, atol=1e-12)
    own = dict(ours.named_parameters())
    for name, p in theirs.named_parameters():
        np.testing.assert_allclose(own[name].grad.value(), p.grad.numpy(), rtol=1e-7, atol=1e-12)


# -- packing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", [[4, 4], [4, 1], [2, 4], [1, 3, 3]], ids=str)
def test_packing(lengths):
    tools = torch.nn.utils.rnn
    x = draw(max(lengths), len(lengths), 2)
    ours = nn.pack_padded_sequence(fathom.tensor(x), lengths, enforce_sorted=False)
    theirs = tools.pack_padded_sequence(torch.tensor(x), lengths, enforce_sorted=False)
    np.testing.assert_array_equal(ours.data.value(), theirs.data.numpy())
    assert ours.batch_sizes.tolist() == theirs.batch_sizes.tolist()
    for options in ({}, {"padding_value": -1.0, "total_length": 6, "batch_first": True}):
        a, sizes = nn.pad_packed_sequence(ours, **options)
        b, wanted = tools.pad_packed_sequence(theirs, **options)
        np.testing.assert_array_equal(a.value(), b.numpy())
        assert sizes.tolist() == wanted.tolist()
    parts = [draw(n, 3, seed=n) for n in lengths]
    for first in (True, False):
        a = nn.pad_sequence([fathom.tensor(p) for p in parts], first, 7.0)
        b = tools.pad_sequence([torch.tensor(p) for p in parts], first, 7.0)
        np.testing.assert_array_equal(a.value(), b.numpy())


# -- attention -------------------------------------------------------------------------------------

E, HEADS = 8, 2


def attention_pair(**options):
    return twin(
        nn.MultiheadAttention(E, HEADS, **options), torch.nn.MultiheadAttention(E, HEADS, **options)
    )


def masks(length, source, n):
    rng = np.random.default_rng(1)
    closed = rng.random((length, source)) < 0.4
    closed[:, 0] = False  # PyTorch gives nan where all is closed
    per_head = rng.random((n * HEADS, length, source)) < 0.4
    per_head[:, :, 0] = False
    padding = np.zeros((n, source), bool)
    padding[0, -2:] = padding[-1, -1] = True
    return {
        "none": {},
        "boolean": {"attn_mask": closed},
        "float": {"attn_mask": rng.standard_normal((length, source))},
        "heads": {"attn_mask": per_head},
        "heads float": {"attn_mask": rng.standard_normal(per_head.shape)},
        "padding": {"key_padding_mask": padding},
        "padding float": {"key_padding_mask": np.where(padding, -np.inf, 0.5)},
        "both": {"attn_mask": closed, "key_padding_mask": padding},
        "float both": {
            "attn_mask": np.where(closed, -np.inf, 0.0),
            "key_padding_mask": np.where(padding, -np.inf, 0.0),
        },
    }


def masked(given, wrap):
    return {k: wrap(v) if isinstance(v, np.ndarray) else v for k, v in given.items()}


MASKS = list(masks(1, 2, 2))


def attend(given, wrap, **options):
    def call(module, *xs):
        inputs = xs if len(xs) == 3 else xs * 3
        return module(*inputs, **masked(given, wrap), **options)

    return call


@pytest.mark.parametrize("average", [True, False])
@pytest.mark.parametrize("mask", MASKS)
def test_attention_masks(mask, average):
    given = masks(5, 5, 3)[mask]
    options = {"average_attn_weights": average}
    compare(
        *attention_pair(batch_first=True),
        [draw(3, 5, E)],
        attend(given, fathom.tensor, **options),
        attend(given, torch.tensor, **options),
    )


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bias": False},
        {"batch_first": True},
        {"add_bias_kv": True},
        {"add_zero_attn": True},
        {"kdim": 5, "vdim": 6},
        {"kdim": 5, "vdim": 6, "bias": False, "batch_first": True, "add_bias_kv": True},
    ],
    ids=str,
)
def test_cross_attention(options, need_weights):
    n, length, source = 3, 4, 6
    order = (n, -1) if options.get("batch_first") else (-1, n)

    def shape(time, width):
        return (*(time if s == -1 else s for s in order), width)

    arrays = [
        draw(*shape(length, E)),
        draw(*shape(source, options.get("kdim", E)), seed=1),
        draw(*shape(source, options.get("vdim", E)), seed=2),
    ]
    given = masks(length, source, n)["both"]
    more = {"need_weights": need_weights}
    compare(
        *attention_pair(**options),
        arrays,
        attend(given, fathom.tensor, **more),
        attend(given, torch.tensor, **more),
    )


def test_causal_attention_and_one_without_a_batch():
    closed = np.triu(np.ones((5, 5), bool), 1)
    for shape in ((5, 3, E), (5, E)):
        compare(
            *attention_pair(),
            [draw(*shape)],
            attend({}, fathom.tensor, is_causal=True),
            attend({"attn_mask": closed}, torch.tensor),
        )


def test_initial_attention_weights_have_the_spread_of_torch():
    with fathom.seed(0):
        ours = nn.MultiheadAttention(96, 4, add_bias_kv=True)
    torch.manual_seed(0)
    theirs = dict(torch.nn.MultiheadAttention(96, 4, add_bias_kv=True).named_parameters())
    for name, p in ours.named_parameters():
        want = theirs[name].detach().numpy()
        assert p.value().std() == pytest.approx(want.std(), rel=0.15), name


# -- transformer -----------------------------------------------------------------------------------

BLOCKS = [
    {},
    {"norm_first": True},
    {"norm_first": True, "batch_first": True, "activation": "gelu"},
    {"bias": False, "layer_norm_eps": 1e-3},
]


@pytest.mark.parametrize("options", BLOCKS, ids=str)
class TestTransformer:
    def test_encoder(self, options):
        ours, theirs = (
            lib.TransformerEncoder(
                lib.TransformerEncoderLayer(E, HEADS, 12, dropout=0.0, **options),
                2,
                norm=lib.LayerNorm(E),
                **more,
            )
            for lib, more in ((nn, {}), (torch.nn, {"enable_nested_tensor": False}))
        )
        ours, theirs = twin(ours, theirs)
        shape = (3, 5, E) if options.get("batch_first") else (5, 3, E)
        given = {"mask": masks(5, 5, 3)["boolean"]["attn_mask"]}
        given["src_key_padding_mask"] = masks(5, 5, 3)["padding"]["key_padding_mask"]
        compare(
            ours,
            theirs,
            [draw(*shape)],
            lambda m, x: m(x, **masked(given, fathom.tensor)),
            lambda m, x: m(x, **masked(given, torch.tensor)),
        )

    def test_decoder(self, options):
        ours, theirs = twin(
            *(
                lib.TransformerDecoder(
                    lib.TransformerDecoderLayer(E, HEADS, 12, dropout=0.0, **options), 2
                )
                for lib in (nn, torch.nn)
            )
        )
        first = options.get("batch_first")
        arrays = [
            draw(*((3, 4, E) if first else (4, 3, E))),
            draw(*((3, 6, E) if first else (6, 3, E)), seed=1),
        ]
        causal = np.triu(np.full((4, 4), -np.inf), 1)
        padding = masks(4, 6, 3)["padding float"]["key_padding_mask"]
        compare(
            ours,
            theirs,
            arrays,
            lambda m, x, y: m(
                x, y, tgt_is_causal=True, memory_key_padding_mask=fathom.tensor(padding)
            ),
            lambda m, x, y: m(
                x, y, tgt_mask=torch.tensor(causal), memory_key_padding_mask=torch.tensor(padding)
            ),
        )

    @pytest.mark.filterwarnings("ignore:enable_nested_tensor")
    def test_whole(self, options):
        ours, theirs = twin(
            *(lib.Transformer(E, HEADS, 2, 1, 12, 0.0, **options) for lib in (nn, torch.nn))
        )
        first = options.get("batch_first")
        arrays = [
            draw(*((3, 6, E) if first else (6, 3, E))),
            draw(*((3, 4, E) if first else (4, 3, E)), seed=1),
        ]
        square = nn.Transformer.generate_square_subsequent_mask(4)
        wanted = torch.nn.Transformer.generate_square_subsequent_mask(4, dtype=torch.float64)
        np.testing.assert_array_equal(square.value(), wanted.numpy())
        compare(
            ours,
            theirs,
            arrays,
            lambda m, x, y: m(x, y, tgt_mask=square),
            lambda m, x, y: m(x, y, tgt_mask=wanted),
        )


# -- embedding -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{}, {"padding_idx": 2}, {"padding_idx": -1}, {"max_norm": 0.5}, {"scale_grad_by_freq": True}],
    ids=str,
)
def test_embedding(options):
    ours, theirs = twin(nn.Embedding(6, 3, **options), torch.nn.Embedding(6, 3, **options))
    index = np.array([[1, 2, 5], [2, 2, 0]])
    compare(ours, theirs, [], lambda m: m(fathom.tensor(index)), lambda m: m(torch.tensor(index)))
    np.testing.assert_allclose(ours.weight.value(), theirs.weight.detach().numpy(), rtol=1e-12)


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("options", [{}, {"padding_idx": 2}], ids=str)
def test_embedding_bag(mode, options):
    ours, theirs = twin(
        nn.EmbeddingBag(6, 3, mode=mode, **options),
        torch.nn.EmbeddingBag(6, 3, mode=mode, **options),
    )
    index, offsets = np.array([1, 2, 5, 2, 0, 4]), np.array([0, 2, 2])
    compare(
        ours,
        theirs,
        [],
        lambda m: m(fathom.tensor(index), fathom.tensor(offsets)),
        lambda m: m(torch.tensor(index), torch.tensor(offsets)),
    )
    ours.zero_grad(), theirs.zero_grad()
    square = index.reshape(2, 3)
    compare(ours, theirs, [], lambda m: m(square), lambda m: m(torch.tensor(square)))


# -- repeated use ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_initial_weights_have_the_spread_of_torch(kind):
    with fathom.seed(0):
        ours = getattr(nn, kind)(30, 40)
    torch.manual_seed(0)
    theirs = dict(getattr(torch.nn, kind)(30, 40).named_parameters())
    for name, p in ours.named_parameters():
        rel = 0.05 if p.ndim > 1 else 0.25
        assert p.value().std() == pytest.approx(theirs[name].detach().numpy().std(), rel=rel)
        assert np.abs(p.value()).max() <= 1 / np.sqrt(40)
