"""foveal.kernels against PyTorch in double precision. Needs a GPU of compute capability 9.0 and torch."""

import math

import pytest

torch = pytest.importorskip("torch")
if not torch.cuda.is_available() or torch.cuda.get_device_capability() != (9, 0):
    pytest.skip("needs a GPU of compute capability 9.0", allow_module_level=True)

import foveal  # noqa: E402
from foveal import kernels  # noqa: E402

SEED = int(torch.randint(2**31, ()))


def reference(q, k, v, position, window, scale):
    """One sequence: q [n, heads, d] at positions position..., k and v [len, kv_heads, d]; output, LSE and the
    weighted sum of |v|, which bounds the rounding of the weights."""
    group = q.shape[1] // k.shape[1]
    q, k, v = (tensor.double() for tensor in (q, k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)))
    scores = torch.einsum("nhd,lhd->hnl", q, k) * scale
    keys = torch.arange(k.shape[0], device=q.device)
    rows = torch.arange(q.shape[0], device=q.device)[:, None] + position
    hidden = keys > rows
    if window:
        hidden |= keys <= rows - window
    scores = scores.masked_fill(hidden, -math.inf)
    weights = scores.softmax(-1)
    return (torch.einsum("hnl,lhd->nhd", weights, v), scores.logsumexp(-1).T,
            torch.einsum("hnl,lhd->nhd", weights, v.abs()))


class Batch:
    """Ragged sequences, contiguous and in shuffled pages."""

    def __init__(self, lengths, queries, heads, kv_heads, head_dim, page_size, dtype, layout="HND"):
        torch.manual_seed(SEED)
        options = {"device": "cuda", "dtype": dtype}
        self.lengths, self.queries = lengths, queries
        self.q = torch.randn(sum(queries), heads, head_dim, **options)
        self.k = [torch.randn(length, kv_heads, head_dim, **options) for length in lengths]
        self.v = [torch.randn(length, kv_heads, head_dim, **options) for length in lengths]
        most = max(-(-length // page_size) for length in lengths)
        order = torch.randperm(len(lengths) * most + 3)
        self.table = order[:len(lengths) * most].reshape(len(lengths), most).to("cuda", torch.int32)
        pages = torch.zeros(2, len(order), page_size, kv_heads, head_dim, **options)
        for seq, length in enumerate(lengths):
            for key in range(0, length, page_size):
                page = self.table[seq, key // page_size]
                rows = min(page_size, length - key)
                pages[0, page, :rows] = self.k[seq][key:key + rows]
                pages[1, page, :rows] = self.v[seq][key:key + rows]
        if layout == "HND":
            pages = pages.transpose(2, 3).contiguous()
        self.k_pages, self.v_pages = pages
        self.kv_len = torch.tensor(lengths, device="cuda", dtype=torch.int32)
        self.cu_q = torch.tensor([0] + queries, device="cuda").cumsum(0).to(torch.int32)
        self.cu_k = torch.tensor([0] + lengths, device="cuda").cumsum(0).to(torch.int32)

    def check(self, out, lse, window=0):
        start, unit = 0, torch.finfo(out.dtype).eps
        for seq, (length, count) in enumerate(zip(self.lengths, self.queries)):
            q = self.q[start:start + count]
            want, want_lse, size = reference(q, self.k[seq], self.v[seq], length - count, window,
                                             q.shape[-1] ** -0.5)
            # The weights and the output are rounded to `dtype`; the rest is float32.
            bound = unit * (size + want.abs()) + 1e-5
            worst = ((out[start:start + count].double() - want).abs() / bound).max()
            assert worst < 1, f"sequence {seq}: {worst} of the bound; seed {SEED}"
            if lse is not None:
                torch.testing.assert_close(lse[start:start + count].double(), want_lse, rtol=1e-5, atol=1e-4)
            start += count


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("head_dim, page_size, layout, window", [
    (128, 64, "HND", 0), (128, 16, "NHD", 0), (64, 32, "HND", 100)])
def test_decode(dtype, head_dim, page_size, layout, window):
    lengths = [1, 17, 64, 1000, 4099]
    batch = Batch(lengths, [1] * 5, 8, 2, head_dim, page_size, dtype, layout)
    lse = torch.empty(5, 8, device="cuda")
    options = {"page_table": batch.table, "kv_layout": layout, "window": window}
    out = kernels.attention_decode(batch.q, batch.k_pages, batch.v_pages, batch.kv_len, lse=lse, **options)
    batch.check(out, lse, window)
    again = kernels.attention_decode(batch.q, batch.k_pages, batch.v_pages, batch.kv_len, **options)
    assert torch.equal(out, again)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("head_dim, page_size, layout, window", [
    (128, 64, "HND", 0), (128, 16, "NHD", 0), (64, 32, "HND", 100)])
def test_prefill(dtype, head_dim, page_size, layout, window):
    batch = Batch([1, 77, 1000, 513], [1, 77, 300, 130], 8, 2, head_dim, page_size, dtype, layout)
    lse = torch.empty(len(batch.q), 8, device="cuda")
    options = {"page_table": batch.table, "kv_layout": layout, "window": window, "max_q_len": 300}
    out = kernels.attention_prefill(batch.q, batch.k_pages, batch.v_pages, batch.cu_q, batch.kv_len, lse=lse, **options)
    batch.check(out, lse, window)
    again = kernels.attention_prefill(batch.q, batch.k_pages, batch.v_pages, batch.cu_q, batch.kv_len, **options)
    assert torch.equal(out, again)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("page_size, layout", [(64, "HND"), (16, "NHD")])
def test_prefill_over_float8_pages(dtype, page_size, layout):
    batch = Batch([1, 77, 1000, 513], [1, 77, 300, 130], 8, 2, 128, page_size, dtype, layout)
    e4m3, k_scale, v_scale = torch.float8_e4m3fn, 0.25, 0.5
    batch.k = [(k / k_scale).to(e4m3) for k in batch.k]
    batch.v = [(v / v_scale).to(e4m3) for v in batch.v]
    pages = (batch.k_pages / k_scale).to(e4m3), (batch.v_pages / v_scale).to(e4m3)
    # Exact in `dtype`: what the kernel must have seen.
    batch.k, batch.v = [k.to(dtype) * k_scale for k in batch.k], [v.to(dtype) * v_scale for v in batch.v]
    given, options = (batch.cu_q, batch.kv_len), {"page_table": batch.table, "kv_layout": layout}
    scales = {"k_scale": k_scale, "v_scale": v_scale}
    lse = torch.empty(len(batch.q), 8, device="cuda")
    out = kernels.attention_prefill(batch.q, *pages, *given, lse=lse, **options, **scales)
    batch.check(out, lse)
    size = kernels.workspace_bytes("prefill", batch.q, *pages, batch.kv_len, cu_q=batch.cu_q, max_kv_len=1000,
                                   total_kv_len=1, **options)
    small = torch.zeros(size, device="cuda", dtype=torch.uint8)
    with pytest.raises(foveal.Error, match="workspace of"):
        kernels.attention_prefill(batch.q, *pages, *given, workspace=small[:1000], **options, **scales)
    again = kernels.attention_prefill(batch.q, *pages, *given, max_kv_len=1000, workspace=small, **options, **scales)
    assert torch.equal(out, again), "in pieces"


@pytest.mark.parametrize("page_size, layout", [(64, "HND"), (16, "NHD")])
def test_prefill_of_float8_queries(page_size, layout):
    batch = Batch([1, 77, 1000, 513], [1, 77, 300, 130], 8, 2, 128, page_size, torch.bfloat16, layout)
    e4m3 = torch.float8_e4m3fn
    q, pages = batch.q.to(e4m3), (batch.k_pages.to(e4m3), batch.v_pages.to(e4m3))
    out = kernels.attention_prefill(q, *pages, batch.cu_q, batch.kv_len, page_table=batch.table, kv_layout=layout)
    assert out.dtype == torch.bfloat16
    start = 0
    for seq, (length, count) in enumerate(zip(batch.lengths, batch.queries)):
        k, v = (x[seq].to(e4m3).bfloat16() for x in (batch.k, batch.v))
        want, _, _ = reference(q[start:start + count].bfloat16(), k, v, length - count, 0, 128 ** -0.5)
        # Probabilities have 4 significant bits: 2^-4 / sqrt(3) of a term, and terms add like noise.
        error = (out[start:start + count].double() - want).norm() / want.norm()
        assert error < 2 ** -4 / 3 ** 0.5, f"sequence {seq}: {error}; seed {SEED}"
        start += count


def test_contiguous_keys():
    batch = Batch([300, 41], [300, 41], 4, 4, 128, 64, torch.bfloat16)
    k, v = torch.cat(batch.k), torch.cat(batch.v)
    out = kernels.attention_prefill(batch.q, k, v, batch.cu_q, batch.kv_len, cu_k=batch.cu_k)
    batch.check(out, None)


def test_workspaces_serve_calls_of_any_shape():
    batches = [Batch([900] * count, [1] * count, 8, kv_heads, 128, 64, torch.bfloat16)
               for count, kv_heads in ((1, 1), (33, 8), (2, 4), (100, 2), (1, 8))]
    for batch in batches * 3:
        out = kernels.attention_decode(batch.q, batch.k_pages, batch.v_pages, batch.kv_len, page_table=batch.table)
        batch.check(out, None)


def test_skip_softmax_counts_and_keeping_all_is_dense():
    batch = Batch([4096], [4096], 8, 2, 128, 64, torch.bfloat16)
    counters = torch.zeros(1, 4, device="cuda", dtype=torch.int64)
    options = {"page_table": batch.table}
    given = batch.q, batch.k_pages, batch.v_pages, batch.cu_q, batch.kv_len
    dense = kernels.attention_prefill(*given, **options)
    # No weight is as small as the threshold this factor gives.
    kept = kernels.attention_prefill(*given, counters=counters, skip_factor=1e-30, **options)
    assert torch.equal(dense, kept)
    pairs, used, tiles, skipped = counters[0].tolist()
    assert pairs == used and skipped == 0 and tiles > 0
    counters.zero_()
    sharp = (batch.q * 8, *given[1:])
    kernels.attention_prefill(*sharp, counters=counters, skip_factor=2000.0, **options)
    pairs, used, tiles, skipped = counters[0].tolist()
    assert 0 < used < pairs and 0 < skipped < tiles


def test_graphs_and_streams():
    batch = Batch([1000, 50], [1, 1], 8, 2, 128, 64, torch.bfloat16)
    given = batch.q, batch.k_pages, batch.v_pages, batch.kv_len
    options = {"page_table": batch.table}
    size = kernels.workspace_bytes("decode", *given, **options)
    options["workspace"] = torch.zeros(max(size, 1), device="cuda", dtype=torch.uint8)
    options["out"] = torch.empty_like(batch.q)
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()
    kernels.attention_decode(*given, stream=stream, **options)
    stream.synchronize()
    batch.check(options["out"], None)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kernels.attention_decode(*given, **options)
    options["out"].zero_()
    graph.replay()
    torch.cuda.synchronize()
    batch.check(options["out"], None)


def test_refusals_of_the_library():
    batch = Batch([100], [1], 8, 2, 128, 64, torch.bfloat16)
    with pytest.raises(foveal.Error, match=r"^\[.*\] got .*; need "):
        kernels.attention_decode(batch.q, batch.k_pages[:, :, :48], batch.v_pages[:, :, :48], batch.kv_len,
                                 page_table=batch.table)
    wide = torch.zeros(1, 8, 80, device="cuda", dtype=torch.bfloat16)
    pages = torch.zeros(4, 2, 64, 80, device="cuda", dtype=torch.bfloat16)
    with pytest.raises(foveal.Error, match=r"^\[.*\] got .*; need "):
        kernels.attention_decode(wide, pages, pages, batch.kv_len, page_table=batch.table)
