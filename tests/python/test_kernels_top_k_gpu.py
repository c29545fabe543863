"""foveal.kernels_top_k beside torch.topk and torch.sort. Needs a GPU of compute capability 9.0 and torch."""

import pytest

torch = pytest.importorskip("torch")
if not torch.cuda.is_available() or torch.cuda.get_device_capability() != (9, 0):
    pytest.skip("needs a GPU of compute capability 9.0", allow_module_level=True)

from foveal import Error, kernels_top_k  # noqa: E402


def expected(values, k):
    """By a stable sort: of equals the first; NaN as -inf."""
    values = torch.where(values.isnan(), float("-inf"), values)
    return values.sort(dim=-1, descending=True, stable=True).indices[..., :k].sort(dim=-1).values.int()


@pytest.mark.parametrize("rows", [1, 5, 40, 300])
@pytest.mark.parametrize("length, k", [(1000, 64), (50000, 2048), (131072, 2048), (300000, 2048)])
def test_top_k_is_torchs(rows, length, k):
    torch.manual_seed(length)
    values = torch.randn(min(rows, (64 << 20) // length), length, device="cuda")
    values[0].nan_to_num_().round_()  # ties
    values[-1, ::7] = float("nan")
    counters = torch.zeros(2, dtype=torch.int64, device="cuda")
    got = kernels_top_k.top_k(values, k, counters=counters)
    assert torch.equal(got, expected(values, k))
    assert torch.equal(got, kernels_top_k.top_k(values, k, radix=True))
    assert counters[0] == values.shape[0]
    plain = torch.randn(3, length, device="cuda")
    assert torch.equal(kernels_top_k.top_k(plain, k), plain.topk(k).indices.sort().values.int())


def test_windows_and_slots():
    torch.manual_seed(1)
    rows, columns, k, page = 6, 9000, 512, 64
    values = torch.randn(rows, columns, device="cuda")
    starts = torch.tensor([0, 100, 8000], dtype=torch.int32, device="cuda")
    ends = torch.tensor([9000, 4003, 8300], dtype=torch.int32, device="cuda")
    table = torch.randperm(3 * 150, device="cuda").view(3, 150).int()
    slots = torch.empty(rows, k, dtype=torch.int32, device="cuda")
    counts = torch.empty(rows, dtype=torch.int32, device="cuda")
    got = kernels_top_k.top_k(values, k, lengths=ends, starts=starts, slots=slots, page_table=table, page_size=page,
                              counts=counts)
    for row in range(rows):
        window = values[row, starts[row // 2]:ends[row // 2]]
        taken = expected(window, k)
        count = taken.numel()
        assert counts[row] == count and (got[row, count:] == -1).all() and (slots[row, count:] == -1).all()
        assert torch.equal(got[row, :count], taken)
        pages = table[row // 2, (taken // page).long()]
        assert torch.equal(slots[row, :count], pages * page + taken % page)
    with pytest.raises(Error, match="lengths"):
        kernels_top_k.top_k(values, k, starts=starts)
