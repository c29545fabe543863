#include <gtest/gtest.h>

#include <functional>
#include <random>

#include "base/half.h"
#include "foveal/error.h"
#include "kernels/attention_testing.h"

namespace foveal::kernels {
namespace {

using testing::AttentionCase;
using testing::CaseShape;

TEST(KvStore, WritesTheLayoutAndRoundsLikeHalf) {
  ThreadPool pool(2);
  Stream stream(Device{}, pool);
  const uint64_t seed = std::random_device{}();
  for (const cpu::Isa isa : testing::isa_levels()) {
    cpu::set_active_isa(isa);
    for (const DType dtype : {DType::kBF16, DType::kF16, DType::kF32}) {
      for (const int32_t head_dim : {2, 22, 64, 256}) {
        SCOPED_TRACE(::testing::Message()
                     << cpu::isa_name(isa) << " " << dtype_name(dtype) << " seed " << seed);
        AttentionCase data({.num_kv_heads = 2,
                            .head_dim = head_dim,
                            .page_size = 32,
                            .dtype = dtype,
                            .seqs = {{1, 45}, {1, 1}, {1, 64}}},
                           seed, stream);
        const auto stored = [&](float x) -> float {
          if (dtype == DType::kF32) return x;
          return dtype == DType::kBF16 ? bf16_to_float(float_to_bf16(x))
                                       : f16_to_float(float_to_f16(x));
        };
        size_t at = 0;
        for (const AttentionSeq& seq : data.seqs) {
          for (int32_t key = 0; key < seq.kv_len; ++key) {
            for (int32_t head = 0; head < 2; ++head) {
              for (int32_t ch = 0; ch < head_dim; ++ch, ++at) {
                const int32_t page = seq.pages[key / 32];
                const int32_t slot = key % 32;
                ASSERT_EQ(reference::cache_value(data.kv, true, page, head, slot, ch),
                          stored(data.k_rows[at]));
                ASSERT_EQ(reference::cache_value(data.kv, false, page, head, slot, ch),
                          stored(data.v_rows[at]));
              }
            }
          }
        }
      }
    }
  }
  cpu::set_active_isa(cpu::machine_isa());
}

TEST(PagedAttention, RefusesWhatItCannotDo) {
  ThreadPool pool(1);
  Stream stream(Device{}, pool);
  AttentionCase data({.group = 2, .seqs = {{3, 40}}}, 1, stream);
  using Params = PagedAttentionParams;
  AttentionSeq seq = data.seqs[0];
  const std::function<void(Params&)> wrongs[] = {
      [](Params& p) { p.kv.dtype = DType::kQ8_0; },
      [](Params& p) { p.kv.head_dim = 258; },
      [](Params& p) { p.kv.head_dim = 63; },
      [](Params& p) { p.kv.page_size = 24; },
      [](Params& p) { p.kv.page_bytes += 1; },
      [](Params& p) { p.kv.num_kv_heads = 0; },
      [](Params& p) { p.kv.k = nullptr; },
      [](Params& p) { p.num_heads = 0; },
      [](Params& p) { p.q = nullptr; },
      [](Params& p) { p.q_stride = 1; },
      [](Params& p) { p.out_stride = 127; },
      [](Params& p) { p.softmax_scale = std::nanf(""); },
      [](Params& p) { p.window = -1; },
      [](Params& p) { p.skip_factor = -1; },
      [](Params& p) { p.skip_factor = 1; },  // a chunk from position 37
      [&](Params&) { seq.q_len = 0; },
      [&](Params&) { seq.kv_len = 2; },
      [&](Params&) { seq.pages = nullptr; },
  };
  for (const auto& wrong : wrongs) {
    seq = data.seqs[0];
    Params params = data.params();
    params.seqs = {&seq, 1};
    wrong(params);
    EXPECT_THROW(paged_prefill(params, stream), Error);
  }
  EXPECT_THROW(paged_decode(data.params(), stream), Error) << "three rows of a sequence";
  EXPECT_NO_THROW(paged_prefill(data.params(), stream));
}

TEST(PagedAttention, TakesAnEmptyBatch) {
  ThreadPool pool(2);
  Stream stream(Device{}, pool);
  AttentionCase data({.seqs = {{1, 1}}}, 1, stream);
  PagedAttentionParams params = data.params();
  params.seqs = {};
  EXPECT_NO_THROW(paged_prefill(params, stream));
  EXPECT_NO_THROW(paged_decode(params, stream));
}

}  // namespace
}  // namespace foveal::kernels
