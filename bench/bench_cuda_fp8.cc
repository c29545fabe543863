// Products with weights in e4m3 on the GPU, over weights that no cache holds.
//   bench_cuda_fp8 [decode] [experts] [quantize]     (none: all)

#include <algorithm>
#include <cstdio>
#include <numeric>
#include <vector>

#include "cuda_bench.h"
#include "kernels/cuda/dense_gemm.h"
#include "kernels/cuda/moe.h"

namespace foveal::bench {
namespace {

using namespace kernels::cuda;

class Fp8Bench : public CudaBench {
 public:
  void decode();
  void experts();
  void quantize();

 private:
  /// Weights of any bytes: what is timed does not depend on values, but on their being no zeros.
  const float* scales() const { return reinterpret_cast<const float*>(scales_.data()); }

  DenseGemm gemm_{kGpu, {}};
  Buffer scales_ = weights(size_t{32} << 20, 9);
};

/// A product of few rows: bf16 weights, e4m3 weights by the decode kernel, and by the library with
/// activations in e4m3 (their rounding included).
void Fp8Bench::decode() {
  struct Shape {
    const char* name;
    int64_t n, k;
  };
  for (const Shape& s :
       {Shape{"qkv", 6144, 4096}, Shape{"o", 4096, 4096}, Shape{"gate_up", 28672, 4096},
        Shape{"down", 4096, 14336}, Shape{"V3 a", 2240, 7168}, Shape{"V3 o", 7168, 16384}}) {
    const auto elements = static_cast<size_t>(s.n * s.k);
    const size_t copies = std::max<size_t>(2, kColdBytes / elements + 1);
    const Buffer w = weights(elements * copies, 2);
    const Buffer x = weights(static_cast<size_t>(128 * s.k), 3);
    const Buffer x8 = zeros(static_cast<size_t>(128 * s.k));
    const Buffer x_scale = zeros(static_cast<size_t>(128 * s.k / 32));
    const Buffer y = zeros(static_cast<size_t>(128 * s.n) * 4);
    for (const int64_t m : {1, 4, 8, 12, 16, 24, 32, 48, 64, 128}) {
      const auto each = [&](auto issue) {
        return time([&] {
                 for (size_t i = 0; i < copies; ++i) issue(w.data() + i * elements);
               }) /
               static_cast<double>(copies);
      };
      DenseGemmParams params{.x = x.data(),
                             .y = y.data(),
                             .m = m,
                             .n = s.n,
                             .k = s.k,
                             .x_stride = s.k,
                             .weight_stride = s.k,
                             .y_stride = s.n};
      const double wide = each([&](const std::byte* at) {
        params.weight = w.data() + 2 * (at - w.data());
        gemm_.run(params, stream());
      });
      params.dtype = DType::kF8E4M3;
      params.scaling = GemmScaling::kBlock;
      params.weight_scale = scales();
      const double ours = m > 64 ? 0 : each([&](const std::byte* at) {
        params.weight = at;
        gemm_.run(params, stream());
      });
      double library = 0;
      if (m % 4 == 0) {
        params.route = GemmRoute::kLibrary;
        params.x = x8.data();
        params.x_scale = reinterpret_cast<const float*>(x_scale.data());
        library = each([&](const std::byte* at) {
          quantize_e4m3_blocks({.x = reinterpret_cast<const uint16_t*>(x.data()),
                                .y = reinterpret_cast<uint8_t*>(x8.data()),
                                .scale = reinterpret_cast<float*>(x_scale.data()),
                                .m = m,
                                .k = s.k,
                                .x_stride = s.k,
                                .y_stride = s.k,
                                .scale_stride = m},
                               stream());
          params.weight = at;
          gemm_.run(params, stream());
        });
      }
      const double bytes = static_cast<double>(elements);
      std::printf("%-8s m %3d  bf16 %8.2f us   e4m3 ours %8.2f us %5.1f %%   library %8.2f us\n",
                  s.name, static_cast<int>(m), wide, ours,
                  ours > 0 ? bytes / ours / 10 / read_gbs() : 0, library);
      std::fflush(stdout);
    }
  }
}

/// Both products of a mixture, rows' experts drawn at random.
void Fp8Bench::experts() {
  struct Shape {
    const char* name;
    int32_t experts, k;
    int64_t hidden, width;
  };
  for (const Shape& s : {Shape{"Qwen3-30B", 128, 8, 2048, 768}, Shape{"V3", 256, 8, 7168, 2048}}) {
    for (const int64_t n_k : {0, 1}) {
      const int64_t n = n_k == 0 ? 2 * s.width : s.hidden;
      const int64_t k = n_k == 0 ? s.hidden : s.width;
      const Buffer w = weights(static_cast<size_t>(s.experts * n * k), 2);
      for (const int64_t m : {1, 8, 64, 256, 512, 4096}) {
        const int64_t slots = m * s.k;
        std::vector<int32_t> chosen(static_cast<size_t>(slots));
        uint32_t state = 1;
        for (int32_t& x : chosen) {
          x = static_cast<int32_t>((state = state * 1664525 + 1013904223) >> 8) % s.experts;
        }
        const Buffer ids = zeros(chosen.size() * 4);
        stream().copy(ids.data(), chosen.data(), chosen.size() * 4);
        const Buffer offsets = zeros(2048 * 4);
        const Buffer order = zeros(chosen.size() * 4);
        moe_sort({.indices = reinterpret_cast<const int32_t*>(ids.data()),
                  .num_slots = slots,
                  .num_experts = s.experts,
                  .offsets = reinterpret_cast<int32_t*>(offsets.data()),
                  .slots = reinterpret_cast<int32_t*>(order.data())},
                 stream());
        stream().synchronize();
        const int64_t x_rows = n_k == 0 ? m : slots;
        const Buffer x = weights(static_cast<size_t>(x_rows * k), 3);
        const Buffer y = zeros(static_cast<size_t>(slots * n) * 2);
        GroupedGemmParams params{.x = x.data(),
                                 .weight = w.data(),
                                 .y = y.data(),
                                 .offsets = reinterpret_cast<const int32_t*>(offsets.data()),
                                 .slots = reinterpret_cast<const int32_t*>(order.data()),
                                 .num_slots = slots,
                                 .num_experts = s.experts,
                                 .x_divisor = n_k == 0 ? s.k : 1,
                                 .n = n,
                                 .k = k,
                                 .x_stride = k,
                                 .y_stride = n};
        const auto run = [&] { return time_cold([&] { grouped_gemm(params, stream()); }, 7); };
        const double wide = run();
        params.dtype = DType::kF8E4M3;
        params.scaling = GemmScaling::kBlock;
        params.weight_scale = scales();
        params.route = GemmRoute::kDecode;
        const double skinny = m > 512 ? 0 : run();
        params.route = GemmRoute::kLibrary;
        params.x_scale = scales();
        params.x_scale_stride = x_rows;
        const double tiled = run();
        std::printf(
            "%-10s n %5d k %5d m %4d  bf16 %8.1f us  e4m3 skinny %8.1f  tiled %8.1f us, "
            "%4.0f TFLOPS (bf16 %4.0f)\n",
            s.name, static_cast<int>(n), static_cast<int>(k), static_cast<int>(m), wide, skinny,
            tiled, 2.0 * static_cast<double>(slots * n * k) / tiled / 1e6,
            2.0 * static_cast<double>(slots * n * k) / wide / 1e6);
        std::fflush(stdout);
      }
    }
  }
}

void Fp8Bench::quantize() {
  for (const int64_t k : {4096, 7168, 14336}) {
    const int64_t m = 8192;
    const Buffer x = weights(static_cast<size_t>(m * k), 3);
    const Buffer y = zeros(static_cast<size_t>(m * k));
    const Buffer scale = zeros(static_cast<size_t>(m * k / 32));
    const QuantizeParams params{.x = reinterpret_cast<const uint16_t*>(x.data()),
                                .y = reinterpret_cast<uint8_t*>(y.data()),
                                .scale = reinterpret_cast<float*>(scale.data()),
                                .m = m,
                                .k = k,
                                .x_stride = k,
                                .y_stride = k,
                                .scale_stride = m};
    const double bytes = static_cast<double>(m * k) * 3;
    report("quantize blocks", time([&] { quantize_e4m3_blocks(params, stream()); }), bytes);
    report("quantize rows", time([&] { quantize_e4m3_rows(params, stream()); }), bytes);
  }
}

}  // namespace
}  // namespace foveal::bench

int main(int argc, char** argv) {
  const std::span<char* const> args(argv + 1, static_cast<size_t>(argc - 1));
  foveal::bench::Fp8Bench bench;
  if (foveal::bench::is_wanted(args, "decode")) bench.decode();
  if (foveal::bench::is_wanted(args, "experts")) bench.experts();
  if (foveal::bench::is_wanted(args, "quantize")) bench.quantize();
  return 0;
}
