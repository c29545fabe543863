"""foveal.kernels_mla against PyTorch in double precision. Needs a GPU of compute capability 9.0 and torch."""

import pytest

torch = pytest.importorskip("torch")
if not torch.cuda.is_available() or torch.cuda.get_device_capability() != (9, 0):
    pytest.skip("needs a GPU of compute capability 9.0", allow_module_level=True)

from foveal import kernels_mla  # noqa: E402

PAGE, PAGES, SCALE = 64, 70, 0.05


def stored(rows):
    """A cache of random rows, and what it holds in double precision."""
    values = torch.randn(PAGES * PAGE, 576, device="cuda").bfloat16()
    slots = torch.arange(PAGES * PAGE, device="cuda", dtype=torch.int32)
    width, dtype = (656, torch.uint8) if rows == "e4m3" else (576, torch.bfloat16)
    cache = torch.zeros(PAGES, PAGE, width, dtype=dtype, device="cuda")
    kernels_mla.mla_store(values[:, :512], values[:, 512:], cache, slots)
    if rows == "bf16":
        return cache, values.double()
    flat = cache.view(-1, 656)
    scale = flat[:, 512:528].contiguous().view(torch.float32)
    latent = flat[:, :512].contiguous().view(torch.float8_e4m3fn).double().view(-1, 4, 128) * scale[..., None]
    amax = values[:, :512].float().view(-1, 4, 128).abs().amax(-1)
    assert torch.equal(scale, torch.exp2(torch.ceil(torch.log2((amax / 448).clamp(min=1e-4)))))
    assert ((latent.view(-1, 512) - values[:, :512].double()).abs() <= 2 ** -4 * values[:, :512].abs() + 1e-3).all()
    return cache, torch.cat([latent.view(-1, 512), values[:, 512:].double()], 1)


def expect(out, q, keys):
    weights = (q.double() @ keys.T * SCALE).softmax(-1)
    want, size = weights @ keys[:, :512], weights @ keys[:, :512].abs()
    assert ((out.double() - want).abs() <= 2 ** -8 * (size + want.abs()) + 1e-5).all()


@pytest.fixture(params=["bf16", "e4m3"])
def cache(request):
    torch.manual_seed(7)
    return stored(request.param)


@pytest.mark.parametrize("heads, topk", [(128, 2048), (16, 333)])
def test_lists_of_slots(cache, heads, topk):
    pages, keys = cache
    q = torch.randn(3, heads, 576, device="cuda").bfloat16()
    lists = torch.stack([torch.randperm(PAGES * PAGE, device="cuda")[:topk] for _ in range(3)]).int()
    lists[1, ::3] = -1
    counts = torch.tensor([topk, topk, 0], dtype=torch.int32, device="cuda")
    lse = torch.zeros(3, heads, device="cuda")
    out = kernels_mla.mla_attention(q, pages, indices=lists, counts=counts, softmax_scale=SCALE, lse=lse)
    for row in range(2):
        expect(out[row], q[row], keys[lists[row][lists[row] >= 0].long()])
    assert (out[2] == 0).all() and (lse[2] == -torch.inf).all()


def test_all_keys_of_a_ragged_batch(cache):
    pages, keys = cache
    lengths, queries = [500, 3, 1200], [4, 3, 2]
    table = torch.randperm(PAGES, device="cuda").int()[:60].view(3, 20)
    kv_len = torch.tensor(lengths, dtype=torch.int32, device="cuda")
    cu_q = torch.tensor([0, 4, 7, 9], dtype=torch.int32, device="cuda")
    counts, row_seq = kernels_mla.mla_rows(kv_len, 9, cu_q=cu_q)
    q = torch.randn(9, 64, 576, device="cuda").bfloat16()
    out = kernels_mla.mla_attention(q, pages, counts=counts, page_table=table, row_seq=row_seq, softmax_scale=SCALE)
    row = 0
    for seq, (length, own) in enumerate(zip(lengths, queries)):
        held = keys.view(PAGES, PAGE, 576)[table[seq].long()].reshape(-1, 576)
        for i in range(own):
            expect(out[row], q[row], held[:length - own + 1 + i])
            row += 1


def test_a_graph_takes_counts_from_the_device(cache):
    pages, keys = cache
    q = torch.randn(2, 128, 576, device="cuda").bfloat16()
    lists = torch.stack([torch.randperm(PAGES * PAGE, device="cuda")[:1000] for _ in range(2)]).int()
    counts = torch.tensor([1000, 10], dtype=torch.int32, device="cuda")
    out = torch.empty(2, 128, 512, device="cuda", dtype=torch.bfloat16)
    space = torch.empty(1 << 28, dtype=torch.uint8, device="cuda")

    def run():
        kernels_mla.mla_attention(q, pages, indices=lists, counts=counts, softmax_scale=SCALE, out=out, workspace=space)
    run()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    for lengths in ([1000, 10], [1, 777]):
        counts.copy_(torch.tensor(lengths, dtype=torch.int32))
        out.fill_(float("nan"))
        graph.replay()
        for row, length in enumerate(lengths):
            expect(out[row], q[row], keys[lists[row, :length].long()])
