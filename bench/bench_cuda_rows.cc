// Row-wise kernels, expansion, sampling and mixtures of experts on the GPU.
//   bench_cuda_rows [rows] [sample] [moe]     (none: all)

#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "cuda_bench.h"
#include "kernels/cuda/dense_gemm.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/expand.h"
#include "kernels/cuda/moe.h"
#include "kernels/cuda/sample.h"
#include "kernels/cuda/token_logprob.h"

namespace foveal::bench {
namespace {

using namespace kernels::cuda;

class RowBench : public CudaBench {
 public:
  void rows();
  void sampling();
  void moe();
};

void RowBench::rows() {
  constexpr int64_t kHidden = 4096;
  constexpr int64_t kWide = 14336;
  for (const int64_t m : {1, 32, 8192}) {
    std::printf("rows %d\n", static_cast<int>(m));
    const Buffer h = zeros(static_cast<size_t>(m * kHidden) * 4);
    const Buffer x = zeros(static_cast<size_t>(m * kWide) * 4);
    const Buffer y = zeros(static_cast<size_t>(m * kWide) * 2);
    const Buffer small = weights(1 << 20, 4);
    // 20 in a row, so that a launch's gap is in the figure as it is in a step.
    const auto many = [&](const char* name, double bytes, const std::function<void()>& one) {
      const int count = m > 1000 ? 2 : 20;
      report(name, time([&] {
                     for (int i = 0; i < count; ++i) one();
                   }) / count,
             bytes);
    };
    many("rms_norm 4096 f32 -> bf16", static_cast<double>(m * kHidden * 6), [&] {
      rms_norm({.x = reinterpret_cast<const float*>(h.data()),
                .weight = small.data(),
                .y = y.data(),
                .m = m,
                .n = kHidden,
                .x_stride = kHidden,
                .y_stride = kHidden,
                .eps = 1e-5F,
                .weight_dtype = DType::kBF16},
               stream());
    });
    many("act_mul 14336", static_cast<double>(m * kWide * 6), [&] {
      act_mul({.gate_up = x.data(),
               .y = y.data(),
               .m = m,
               .n = kWide,
               .x_stride = 2 * kWide,
               .y_stride = kWide},
              stream());
    });
    const Buffer tables = zeros(size_t{8192} * 64 * 8);
    const Buffer positions = zeros(static_cast<size_t>(m) * 4);
    std::vector<int64_t> slots;
    for (int64_t row = 0; row < m; ++row) slots.push_back(row);
    const Buffer slots_dev = zeros(slots.size() * 8);
    stream().copy(slots_dev.data(), slots.data(), slots.size() * 8);
    const Buffer pages = zeros(static_cast<size_t>((m + 64) * 8 * 128) * 4);
    many("rope_store 32/8 x 128", static_cast<double>(m * (4096 * 4 + 2048 * 4)), [&] {
      rope_store({.qkv = x.data(),
                  .m = m,
                  .row_stride = 6144,
                  .num_heads = 32,
                  .num_kv_heads = 8,
                  .head_dim = 128,
                  .rotary_dim = 128,
                  .positions = reinterpret_cast<const int32_t*>(positions.data()),
                  .cos_table = reinterpret_cast<const float*>(tables.data()),
                  .sin_table = reinterpret_cast<const float*>(tables.data()) + 8192 * 64,
                  .slots = reinterpret_cast<const int64_t*>(slots_dev.data()),
                  .k_pages = pages.data(),
                  .v_pages = pages.data() + (m + 64) * 8 * 128 * 2,
                  .page_size = 64,
                  .page_stride = 64 * 8 * 128,
                  .head_stride = 64 * 128,
                  .token_stride = 128},
                 stream());
    });
    many("add_scaled", static_cast<double>(m * kHidden * 12), [&] {
      add_scaled(reinterpret_cast<const float*>(x.data()), 0.0F, reinterpret_cast<float*>(h.data()),
                 m * kHidden, stream());
    });
    many("quantize_e4m3_blocks 4096", static_cast<double>(m * kHidden * 3), [&] {
      quantize_e4m3_blocks({.x = reinterpret_cast<const uint16_t*>(x.data()),
                            .y = reinterpret_cast<uint8_t*>(y.data()),
                            .scale = reinterpret_cast<float*>(h.data()),
                            .m = m,
                            .k = kHidden,
                            .x_stride = kHidden,
                            .y_stride = kHidden,
                            .scale_stride = m},
                           stream());
    });
  }
  const int64_t rows = 14336;
  const Buffer y = zeros(static_cast<size_t>(rows) * 4096 * 2);
  for (const DType dtype : {DType::kQ4_K, DType::kQ6_K, DType::kQ8_0, DType::kF16}) {
    const auto stored = static_cast<size_t>(rows * *row_bytes(dtype, 4096));
    const Buffer from = weights(stored / 2, 5);
    report((std::string("expand ") + std::string(dtype_name(dtype))).c_str(), time([&] {
             expand({.stored = from.data(),
                     .dtype = dtype,
                     .y = reinterpret_cast<uint16_t*>(y.data()),
                     .rows = rows,
                     .cols = 4096,
                     .y_stride = 4096},
                    stream());
           }),
           static_cast<double>(stored) + static_cast<double>(rows) * 8192);
  }
}

void RowBench::sampling() {
  constexpr int32_t kVocab = 128256;
  for (const int64_t m : {1, 8, 64}) {
    const Buffer noise = weights(static_cast<size_t>(m) * kVocab, 9);
    std::vector<uint16_t> bits(static_cast<size_t>(m) * kVocab);
    stream().copy(bits.data(), noise.data(), bits.size() * 2);
    stream().synchronize();
    std::vector<float> logits;
    for (const uint16_t b : bits) {
      const uint32_t wide = static_cast<uint32_t>(b) << 16;
      float value = 0;
      std::memcpy(&value, &wide, 4);
      logits.push_back(value * 100);  // deviation 3
    }
    const Buffer logits_dev = zeros(logits.size() * 4);
    stream().copy(logits_dev.data(), logits.data(), logits.size() * 4);
    const Buffer tokens = zeros(static_cast<size_t>(m) * 8);
    struct Case {
      const char* name;
      SampleRow row;
    };
    for (const Case& c :
         {Case{"greedy", {}}, Case{"temperature", {.temperature = 1}},
          Case{"min_p", {.temperature = 1, .min_p = 0.05}},
          Case{"top_k 50", {.temperature = 1, .top_k = 50}},
          Case{"top_p 0.9", {.temperature = 1, .top_p = 0.9}},
          Case{"top_k 50 top_p 0.9", {.temperature = 1, .top_p = 0.9, .top_k = 50}}}) {
      const std::vector<SampleRow> rows(static_cast<size_t>(m), c.row);
      const Buffer rows_dev = zeros(rows.size() * sizeof(SampleRow));
      stream().copy(rows_dev.data(), rows.data(), rows_dev.size());
      stream().synchronize();
      const double us = time([&] {
        sample({.logits = reinterpret_cast<const float*>(logits_dev.data()),
                .m = m,
                .vocab = kVocab,
                .logits_stride = kVocab,
                .rows = reinterpret_cast<const SampleRow*>(rows_dev.data()),
                .tokens = reinterpret_cast<int32_t*>(tokens.data()),
                .flags = reinterpret_cast<uint32_t*>(tokens.data()) + m},
               stream());
      });
      std::printf("sample m %2d %-20s %8.2f us\n", static_cast<int>(m), c.name, us);
    }
    const Buffer scores = zeros(static_cast<size_t>(m) * sizeof(ScoredToken));
    const double us = time([&] {
      token_logprobs({.logits = reinterpret_cast<const float*>(logits_dev.data()),
                      .m = m,
                      .vocab = kVocab,
                      .logits_stride = kVocab,
                      .tokens = reinterpret_cast<const int32_t*>(tokens.data()),
                      .out = reinterpret_cast<ScoredToken*>(scores.data())},
                     stream());
    });
    std::printf("score  m %2d %29.2f us\n", static_cast<int>(m), us);
  }
}

void RowBench::moe() {
  constexpr int32_t kExperts = 128;  // Qwen3-30B-A3B
  constexpr int32_t kChosen = 8;
  constexpr int64_t kHidden = 2048;
  constexpr int64_t kInner = 768;
  const Buffer up = weights(static_cast<size_t>(kExperts * 2 * kInner * kHidden), 6);
  const Buffer down = weights(static_cast<size_t>(kExperts * kInner * kHidden), 7);
  for (const int64_t m : {1, 8, 64, 512, 4096}) {
    const auto slots = static_cast<size_t>(m * kChosen);
    const Buffer logits = weights(static_cast<size_t>(m) * kExperts * 2, 8);
    const Buffer x = weights(static_cast<size_t>(m * kHidden), 9);
    const Buffer indices = zeros(slots * 4);
    const Buffer shares = zeros(slots * 4);
    const Buffer offsets = zeros((kExperts + 1) * 4);
    const Buffer order = zeros(slots * 4);
    const Buffer inner = zeros(slots * 2 * kInner * 2);
    const Buffer gated = zeros(slots * kInner * 2);
    const Buffer outer = zeros(slots * kHidden * 2);
    const Buffer h = zeros(static_cast<size_t>(m * kHidden) * 4);
    const auto i32 = [](const Buffer& b) { return reinterpret_cast<int32_t*>(b.data()); };
    const auto f32 = [](const Buffer& b) { return reinterpret_cast<float*>(b.data()); };
    const auto route = [&] {
      moe_route({.logits = f32(logits),
                 .m = m,
                 .logits_stride = kExperts,
                 .num_experts = kExperts,
                 .k = kChosen,
                 .normalize = true,
                 .indices = i32(indices),
                 .weights = f32(shares)},
                stream());
      moe_sort({.indices = i32(indices),
                .num_slots = static_cast<int64_t>(slots),
                .num_experts = kExperts,
                .offsets = i32(offsets),
                .slots = i32(order)},
               stream());
    };
    const auto product = [&](const Buffer& from, const Buffer& w, const Buffer& to, int32_t divisor,
                             int64_t n, int64_t k) {
      grouped_gemm({.x = from.data(),
                    .weight = w.data(),
                    .y = to.data(),
                    .offsets = i32(offsets),
                    .slots = i32(order),
                    .num_slots = static_cast<int64_t>(slots),
                    .num_experts = kExperts,
                    .x_divisor = divisor,
                    .n = n,
                    .k = k,
                    .x_stride = k,
                    .y_stride = n},
                   stream());
    };
    const double route_us = time(route);
    const double up_us = time([&] { product(x, up, inner, kChosen, 2 * kInner, kHidden); });
    const double down_us = time([&] { product(gated, down, outer, 1, kHidden, kInner); });
    const double all_us = time([&] {
      route();
      product(x, up, inner, kChosen, 2 * kInner, kHidden);
      act_mul({.gate_up = inner.data(),
               .y = gated.data(),
               .m = static_cast<int64_t>(slots),
               .n = kInner,
               .x_stride = 2 * kInner,
               .y_stride = kInner},
              stream());
      product(gated, down, outer, 1, kHidden, kInner);
      moe_combine({.y = outer.data(),
                   .weights = f32(shares),
                   .out = f32(h),
                   .m = m,
                   .n = kHidden,
                   .k = kChosen,
                   .y_stride = kHidden,
                   .out_stride = kHidden,
                   .accumulate = true},
                  stream());
    });
    const double flops = 2.0 * static_cast<double>(slots) * 2 * kInner * kHidden;
    std::printf(
        "moe m %4d: route+sort %6.1f us, gate_up %8.1f us (%4.0f TFLOPS), down %8.1f us, all "
        "%8.1f us\n",
        static_cast<int>(m), route_us, up_us, flops / up_us / 1e6, down_us, all_us);
  }
}

}  // namespace
}  // namespace foveal::bench

int main(int argc, char** argv) {
  const std::span<char* const> args(argv + 1, static_cast<size_t>(argc - 1));
  foveal::bench::RowBench bench;
  if (foveal::bench::is_wanted(args, "rows")) bench.rows();
  if (foveal::bench::is_wanted(args, "sample")) bench.sampling();
  if (foveal::bench::is_wanted(args, "moe")) bench.moe();
  return 0;
}
