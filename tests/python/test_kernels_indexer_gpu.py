"""foveal.kernels_indexer against PyTorch in double precision. Needs a GPU of compute capability 9.0 and torch."""

import math

import pytest

torch = pytest.importorskip("torch")
if not (torch.cuda.is_available() and torch.cuda.get_device_capability() == (9, 0)):
    pytest.skip("needs an NVIDIA GPU of compute capability 9.0", allow_module_level=True)

from foveal import kernels_indexer  # noqa: E402


def hadamard(n):
    matrix = torch.ones(1, 1, dtype=torch.float64, device="cuda")
    while matrix.shape[0] < n:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)], 0)
    return matrix / math.sqrt(n)


def quantised(x):
    """Stored values and scales of bfloat16 vectors."""
    y = x.double() @ hadamard(x.shape[-1])
    scale = torch.exp2(torch.ceil(torch.log2(y.abs().amax(-1, keepdim=True).clamp(min=1e-4) / 448)))
    return (y / scale).float().to(torch.float8_e4m3fn), scale.squeeze(-1)


class Case:
    """Sequences with their keys stored in pages out of order, and the queries of their newest rows."""

    def __init__(self, seqs, heads, page_size, dim=128, seed=0):
        torch.manual_seed(seed)
        self.seqs, self.heads, self.page_size, self.dim = seqs, heads, page_size, dim
        most = max(keys for _, keys in seqs)
        width = (most + page_size - 1) // page_size
        pages = len(seqs) * width + 3
        order = torch.randperm(pages, device="cuda").int()
        self.table = order[:len(seqs) * width].view(len(seqs), width).contiguous()
        self.lane = kernels_indexer.index_keys(pages, page_size=page_size, head_dim=dim)
        self.lane.fill_(0x7F)  # NaN, values and scales: what is not a sequence's must not matter
        self.max_kv_len = most
        self.k = [torch.randn(keys, dim, device="cuda").mul(torch.rand(keys, 1, device="cuda") + .2).bfloat16()
                  for _, keys in seqs]
        rows = sum(queries for queries, _ in seqs)
        self.q = torch.randn(rows, heads, dim, device="cuda").bfloat16()
        self.weights = torch.randn(rows, heads, device="cuda")  # of either sign
        self.cu_q = torch.tensor([0] + [q for q, _ in seqs], device="cuda").cumsum(0).int()
        self.kv_len = torch.tensor([keys for _, keys in seqs], device="cuda").int()
        self.options = dict(page_table=self.table, keys=self.lane, page_size=page_size)
        all_rows = torch.tensor([0] + [keys for _, keys in seqs], device="cuda").cumsum(0).int()
        kernels_indexer.prepare(torch.cat(self.k), self.kv_len, cu_q=all_rows, **self.options)
        self.new_k = torch.cat([k[-queries:] for k, (queries, _) in zip(self.k, seqs)])
        self.decode = all(queries == 1 for queries, _ in seqs)

    def prepare(self, cu_q):
        return kernels_indexer.prepare(self.new_k, self.kv_len, q=self.q, weights=self.weights, cu_q=cu_q,
                                       **self.options)

    def expect(self, row, seq, end):
        """Scores of `end` keys, and what the sum's terms come to in magnitude."""
        q8, q_scale = quantised(self.q[row])
        k8, k_scale = quantised(self.k[seq][:end])
        weights = self.weights[row].double() * q_scale / math.sqrt(self.heads * self.dim)
        terms = weights * (k8.double() @ q8.double().T).relu()
        return terms.sum(-1) * k_scale, terms.abs().sum(-1) * k_scale


SHAPES = [
    ([(5, 5)], 64, 64), ([(1, 129), (7, 300), (130, 130)], 64, 64), ([(33, 1000), (2, 64), (64, 65)], 32, 16),
    ([(40, 700), (3, 47)], 16, 48), ([(50, 257), (17, 17), (1, 1)], 8, 128), ([(1, 1), (1, 63), (1, 2050)], 64, 64),
    ([(1, 700), (1, 64), (1, 65), (1, 1)], 8, 16), ([(1, 5000)], 32, 64), ([(1, n) for n in range(1, 90)], 16, 64),
    ([(4, 1500)], 64, 64),
]


def close(found, want, size):
    """The tensor cores cut each e4m3 product 13 bits below the running sum, and a tie of rounding to e4m3 may fall
    otherwise than in double precision: 2^-3 of one of dim products."""
    assert torch.isfinite(found).all()
    assert ((found.double() - want).abs() <= 2e-2 * (size + size.mean())).all()


@pytest.mark.parametrize("dim", [128, 64, 32])
@pytest.mark.parametrize("seqs,heads,page_size", SHAPES)
def test_scores_equal_the_definition(seqs, heads, page_size, dim):
    case = Case(seqs, heads, page_size, dim)
    ways = [case.cu_q] + ([None] if case.decode else [])
    found = []
    for cu_q in ways:
        q8, weights = case.prepare(cu_q)
        out = torch.full((case.q.shape[0], case.max_kv_len + 5), 12345., device="cuda")
        kernels_indexer.scores(q8, weights, case.kv_len, cu_q=cu_q, max_kv_len=case.max_kv_len, out=out,
                               **case.options)
        row = 0
        for seq, (queries, keys) in enumerate(seqs):
            for i in range(queries):
                end = keys - queries + i + 1
                close(out[row, :end], *case.expect(row, seq, end))
                assert (out[row, end:] == 12345).all()
                row += 1
        found.append(out)
    assert all(torch.equal(found[0], other) for other in found)  # decode is prefill, to the bit


def test_stored_bytes():
    case = Case([(3, 200)], 32, 64)
    k8, scale = quantised(case.k[0])
    for token in (0, 63, 64, 199):
        page = case.lane[case.table[0, token // 64].long()]
        row = token % 64
        stored = page[row * 128:(row + 1) * 128].view(torch.float8_e4m3fn)
        assert page[64 * 128:].view(torch.float32)[row].item() == scale[token].item()
        assert (stored.float() - k8[token].float()).abs().max() <= 32  # a step of the largest codes
        assert (stored.float() == k8[token].float()).float().mean() > 0.97
    untouched = case.lane[case.table[0, 3].long()][8 * 128:64 * 128]  # 200 = 3 * 64 + 8
    assert (untouched == 0x7F).all()


def test_windows_ends_and_skipped_rows():
    case = Case([(20, 150), (60, 333), (9, 9)], 64, 64)
    q8, weights = case.prepare(case.cu_q)
    options = dict(cu_q=case.cu_q, max_kv_len=case.max_kv_len, **case.options)
    whole = torch.zeros(89, case.max_kv_len, device="cuda")
    kernels_indexer.scores(q8, weights, case.kv_len, out=whole, **options)
    for begin, count in ((0, 1), (19, 2), (5, 70), (88, 1), (21, 3)):
        part = torch.zeros(count, case.max_kv_len, device="cuda")
        kernels_indexer.scores(q8, weights, case.kv_len, rows=(begin, count), out=part, **options)
        assert torch.equal(part, whole[begin:begin + count])
    later = torch.zeros_like(whole)
    kernels_indexer.scores(q8, weights, case.kv_len, first_position=140, out=later, **options)
    position = torch.cat([torch.arange(keys - queries, keys) for queries, keys in case.seqs]).to("cuda")
    assert torch.equal(later, whole * (position >= 140)[:, None])
    ends = torch.randint(0, 400, (89,), device="cuda").int()
    found = torch.full_like(whole, 7)
    kernels_indexer.scores(q8, weights, case.kv_len, row_end=ends, out=found, **options)
    for row, seq in ((0, 0), (19, 0), (20, 1), (79, 1), (80, 2), (88, 2)):
        end = min(int(ends[row]), case.seqs[seq][1])
        close(found[row, :end], *case.expect(row, seq, end))
        assert (found[row, end:] == 7).all()


def test_not_finite_vectors():
    case = Case([(4, 100)], 64, 64)
    case.new_k[1, 3] = math.inf  # token 97
    case.q[2, 5, 0] = math.nan
    q8, weights = case.prepare(case.cu_q)
    out = kernels_indexer.scores(q8, weights, case.kv_len, cu_q=case.cu_q, max_kv_len=100, **case.options)
    assert out[2, :99].isnan().all() and out[1, 97].isnan() and out[3, 97].isnan()
    assert torch.isfinite(out[0, :97]).all() and torch.isfinite(out[3, :97]).all() and torch.isfinite(out[3, 98:]).all()


def test_a_graph_follows_lengths():
    case = Case([(1, 900), (1, 40), (1, 333)], 64, 64)
    q8, weights = case.prepare(None)
    out = torch.zeros(3, 900, device="cuda")
    call = lambda: kernels_indexer.scores(q8, weights, case.kv_len, max_kv_len=900, out=out, **case.options)  # noqa: E731
    call()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    whole = out.clone()
    case.kv_len.copy_(torch.tensor([77, 0, 300]))
    out.zero_()
    graph.replay()
    torch.cuda.synchronize()
    seen = torch.arange(900, device="cuda") < case.kv_len[:, None]
    assert torch.equal(out, whole * seen)
