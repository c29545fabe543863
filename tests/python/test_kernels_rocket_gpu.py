"""foveal.kernels_rocket against PyTorch in double precision. Needs a GPU of compute capability 9.0 and torch."""

import pytest

torch = pytest.importorskip("torch")
if not torch.cuda.is_available() or torch.cuda.get_device_capability() != (9, 0):
    pytest.skip("needs a GPU of compute capability 9.0", allow_module_level=True)

from foveal import kernels_rocket  # noqa: E402

HEADS, KV_HEADS, DIM, PAGE = 8, 2, 128, 64


def cache(lengths, seed):
    """Shuffled pages, their table, and each sequence's K and V as rows."""
    torch.manual_seed(seed)
    counts = [-(-length // PAGE) for length in lengths]
    order = torch.randperm(sum(counts), device="cuda").int()
    pages = [torch.randn(sum(counts), KV_HEADS, PAGE, DIM, device="cuda").bfloat16() for _ in range(2)]
    table = torch.zeros(len(lengths), max(counts), dtype=torch.int32, device="cuda")
    rows, first = [], 0
    for seq, (length, count) in enumerate(zip(lengths, counts)):
        table[seq, :count] = order[first:first + count]
        rows.append([p[table[seq, :count].long()].transpose(0, 1).reshape(KV_HEADS, -1, DIM)[:, :length].double()
                     for p in pages])
        first += count
    return pages, table, rows


@pytest.mark.parametrize("tokens, stored", [(4, torch.float8_e5m2), (16, torch.bfloat16)])
def test_decode_attends_to_the_best_pages(tokens, stored):
    lengths, topk = [1000, 33, 4100], 16
    (k, v), table, rows = cache(lengths, tokens)
    kv_len = torch.tensor(lengths, dtype=torch.int32, device="cuda")
    q = torch.randn(3, HEADS, DIM, device="cuda").bfloat16()
    lane = torch.zeros(k.shape[0], KV_HEADS, PAGE // tokens, 2, DIM, dtype=stored, device="cuda")
    kernels_rocket.page_bounds(k, kv_len, page_table=table, bounds=lane)
    pages = torch.full((3, KV_HEADS, topk), -1, dtype=torch.int32, device="cuda")
    count = torch.zeros(3, KV_HEADS, dtype=torch.int32, device="cuda")
    out = kernels_rocket.rocket_decode(q, k, v, kv_len, page_table=table, bounds=lane, topk=topk, pages=pages,
                                       count=count)
    group = HEADS // KV_HEADS
    for seq, length in enumerate(lengths):
        number = -(-length // tokens)
        stored_bounds = lane[table[seq].long()].transpose(0, 1).reshape(KV_HEADS, -1, 2, DIM)[:, :number].double()
        for head in range(KV_HEADS):
            own = q[seq, head * group:(head + 1) * group].double()
            side = (own.sum(0) > 0).long()
            bound = stored_bounds[head].gather(1, side.view(1, 1, DIM).expand(number, 1, DIM)).squeeze(1)
            rank = ((own @ bound.T) * DIM ** -0.5).softmax(-1).sum(0)
            taken = pages[seq, head, :count[seq, head]].long()
            assert count[seq, head] == min(topk, number) and taken[-1] == number - 1
            if number > topk:
                others = torch.ones(number, dtype=torch.bool, device="cuda")
                others[taken] = False
                assert rank[taken[:-1]].min() >= rank[others].max() * (1 - 1e-4)
            keys = (taken[:, None] * tokens + torch.arange(tokens, device="cuda")).flatten()
            keys = keys[keys < length]
            weights = (own @ rows[seq][0][head, keys].T * DIM ** -0.5).softmax(-1)
            want = weights @ rows[seq][1][head, keys]
            size = weights @ rows[seq][1][head, keys].abs()
            error = (out[seq, head * group:(head + 1) * group].double() - want).abs()
            assert (error <= 2 ** -8 * (size + want.abs()) + 1e-5).all()
