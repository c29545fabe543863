#include "kernels/cpu/attention_isa.h"
#include "kernels/cpu/simd/vec.h"

namespace foveal::kernels::cpu::FOVEAL_ISA_NS {
namespace {

constexpr int kMaxHeadDim = 256;

/// One row as 16-bit values, rounded to nearest even.
FOVEAL_SIMD void narrow_row(const float* x, int n, bool bf16, uint16_t* out) {
  for (int at = 0; at < n; at += kLanes) {
    const int count = n - at < kLanes ? n - at : kLanes;
    if (bf16) {
      store_bf16_n(out + at, load_n(x + at, count), count);
    } else {
      store_f16_n(out + at, load_n(x + at, count), count);
    }
  }
}

}  // namespace

// Computes:  k_page[head][d / pair][slot][pair] = k[d], v_page[head][slot / pair][d][pair] = v[d]
// In/out:    one token's rows of one KV head in; its slot of a page out (base/kv_view.h)
// Units:     slot: tokens into the page
// Launch:    one call a token and KV head; the host splits tokens over the pool
// Needs:     head_dim <= 256, even
// Numerics:  round to nearest even, equal to base/half.h bit for bit (a NaN stays a NaN)
// Source:    ours
// Measured:  see docs/kernels/paged_attention.md
void attention_store(const StoreItem& item) {
  const int64_t page_size = item.page_size;
  const int head_dim = item.head_dim;
  if (item.format == KvFormat::kF32) {
    auto* k = reinterpret_cast<float*>(item.k_head) + item.slot;
    auto* v = reinterpret_cast<float*>(item.v_head) + static_cast<int64_t>(item.slot) * head_dim;
    for (int ch = 0; ch < head_dim; ++ch) k[ch * page_size] = item.k[ch];
    for (int ch = 0; ch < head_dim; ++ch) v[ch] = item.v[ch];
    return;
  }
  uint16_t k_row[kMaxHeadDim];
  uint16_t v_row[kMaxHeadDim];
  const bool bf16 = item.format == KvFormat::kBf16;
  narrow_row(item.k, head_dim, bf16, k_row);
  narrow_row(item.v, head_dim, bf16, v_row);
  auto* k = reinterpret_cast<uint16_t*>(item.k_head);
  auto* v = reinterpret_cast<uint16_t*>(item.v_head);
  if (!bf16) {
    for (int ch = 0; ch < head_dim; ++ch) k[ch * page_size + item.slot] = k_row[ch];
    v += static_cast<int64_t>(item.slot) * head_dim;
    for (int ch = 0; ch < head_dim; ++ch) v[ch] = v_row[ch];
    return;
  }
  for (int ch = 0; ch < head_dim; ch += 2) {
    __builtin_memcpy(k + ch * page_size + 2 * item.slot, k_row + ch, 2 * sizeof(uint16_t));
  }
  v += static_cast<int64_t>(item.slot / 2) * 2 * head_dim + item.slot % 2;
  for (int ch = 0; ch < head_dim; ++ch) v[2 * ch] = v_row[ch];
}

const AttentionKernels kAttentionKernels = {
    .prefill_scratch = attention_prefill_scratch,
    .prefill = attention_prefill,
    .decode_scratch = attention_decode_scratch,
    .decode = attention_decode,
    .combine = attention_combine,
    .store = attention_store,
};

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS
