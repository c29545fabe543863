// Matrix products on the GPU: the decode kernel and the library over weights that no cache holds,
// the chain of a decode step's dense kernels, prefill shapes with e4m3.
//   bench_cuda_gemm [decode] [chain] [prefill]     (none: all)

#include <algorithm>
#include <cstdio>

#include "cuda_bench.h"
#include "kernels/cuda/dense_gemm.h"
#include "kernels/cuda/elementwise.h"

namespace foveal::bench {
namespace {

using namespace kernels::cuda;

class GemmBench : public CudaBench {
 public:
  void decode();
  void prefill();
  void chain();

 private:
  DenseGemm gemm_{kGpu, {.autotune = true}};
};

void GemmBench::decode() {
  struct Shape {
    const char* name;
    int64_t n, k;
  };
  for (const Shape& s : {Shape{"qkv", 6144, 4096}, Shape{"o", 4096, 4096},
                         Shape{"gate_up", 28672, 4096}, Shape{"down", 4096, 14336},
                         Shape{"lm_head", 128256, 4096}, Shape{"0.5B gate_up", 9728, 896}}) {
    const auto elements = static_cast<size_t>(s.n * s.k);
    const size_t copies = std::max<size_t>(2, kColdBytes / (elements * 2) + 1);
    const Buffer w = weights(elements * copies, 2);
    const Buffer x = weights(static_cast<size_t>(64 * s.k), 3);
    const Buffer y = zeros(static_cast<size_t>(64 * s.n) * 4);
    for (const int64_t m : {1, 2, 4, 8, 16, 32, 64}) {
      double us[2] = {0, 0};
      for (const GemmRoute route : {GemmRoute::kDecode, GemmRoute::kLibrary}) {
        if (route == GemmRoute::kDecode && m > 32) continue;
        us[route == GemmRoute::kLibrary] = time([&] {
                                             for (size_t i = 0; i < copies; ++i) {
                                               gemm_.run({.x = x.data(),
                                                          .weight = w.data() + i * elements * 2,
                                                          .y = y.data(),
                                                          .m = m,
                                                          .n = s.n,
                                                          .k = s.k,
                                                          .x_stride = s.k,
                                                          .weight_stride = s.k,
                                                          .y_stride = s.n,
                                                          .route = route},
                                                         stream());
                                             }
                                           }) /
                                           static_cast<double>(copies);
      }
      const double bytes = static_cast<double>(elements) * 2;
      std::printf("%-12s m %2d  ours %8.2f us %5.1f %%   library %8.2f us %5.1f %%\n", s.name,
                  static_cast<int>(m), us[0], us[0] > 0 ? bytes / us[0] / 10 / read_gbs() : 0,
                  us[1], bytes / us[1] / 10 / read_gbs());
    }
  }
}

void GemmBench::prefill() {
  DenseGemm invariant(kGpu, {.batch_invariant = true});
  DenseGemm plain(kGpu, {});
  for (const auto& [n, k] :
       {std::pair<int64_t, int64_t>{6144, 4096}, {4096, 4096}, {28672, 4096}, {4096, 14336}}) {
    const Buffer w = weights(static_cast<size_t>(n * k), 2);
    for (const int64_t m : {512, 8192}) {
      const Buffer x = weights(static_cast<size_t>(m * k), 3);
      const Buffer y = zeros(static_cast<size_t>(m * n) * 4);
      const auto tflops = [&](DenseGemm& gemm, DType y_dtype, bool accumulate) {
        const double us = time(
            [&] {
              gemm.run({.x = x.data(),
                        .weight = w.data(),
                        .y = y.data(),
                        .m = m,
                        .n = n,
                        .k = k,
                        .x_stride = k,
                        .weight_stride = k,
                        .y_stride = n,
                        .y_dtype = y_dtype,
                        .accumulate = accumulate,
                        .route = GemmRoute::kLibrary},
                       stream());
            },
            9);
        return 2.0 * static_cast<double>(m * n * k) / us / 1e6;
      };
      std::printf("m %4d n %5d k %5d TFLOPS: first %4.0f tuned %4.0f invariant %4.0f; f32 += %4.0f",
                  static_cast<int>(m), static_cast<int>(n), static_cast<int>(k),
                  tflops(plain, DType::kBF16, false), tflops(gemm_, DType::kBF16, false),
                  tflops(invariant, DType::kBF16, false), tflops(gemm_, DType::kF32, true));
      const Buffer x8 = zeros(static_cast<size_t>(m * k));
      const Buffer w8 = zeros(static_cast<size_t>(n * k));
      const Buffer x_scale = zeros(static_cast<size_t>(m * k / 32));
      const Buffer w_scale = zeros(static_cast<size_t>(n * k / 4096));
      const auto quantize = [&](const Buffer& from, const Buffer& to, int64_t rows) {
        quantize_e4m3_blocks({.x = reinterpret_cast<const uint16_t*>(from.data()),
                              .y = reinterpret_cast<uint8_t*>(to.data()),
                              .scale = reinterpret_cast<float*>(x_scale.data()),
                              .m = std::min(rows, m),
                              .k = k,
                              .x_stride = k,
                              .y_stride = k,
                              .scale_stride = m},
                             stream());
      };
      for (int64_t row = 0; row < n; row += m) {
        quantize_e4m3_blocks({.x = reinterpret_cast<const uint16_t*>(w.data()) + row * k,
                              .y = reinterpret_cast<uint8_t*>(w8.data()) + row * k,
                              .scale = reinterpret_cast<float*>(x_scale.data()),
                              .m = std::min(m, n - row),
                              .k = k,
                              .x_stride = k,
                              .y_stride = k,
                              .scale_stride = m},
                             stream());
      }
      quantize(x, x8, m);
      for (const GemmScaling scaling : {GemmScaling::kTensor, GemmScaling::kBlock}) {
        try {
          const double us = time(
              [&] {
                gemm_.run({.x = x8.data(),
                           .weight = w8.data(),
                           .y = y.data(),
                           .m = m,
                           .n = n,
                           .k = k,
                           .x_stride = k,
                           .weight_stride = k,
                           .y_stride = n,
                           .dtype = DType::kF8E4M3,
                           .scaling = scaling,
                           .x_scale = reinterpret_cast<const float*>(x_scale.data()),
                           .weight_scale = reinterpret_cast<const float*>(w_scale.data())},
                          stream());
              },
              9);
          std::printf(" %s %4.0f", scaling == GemmScaling::kTensor ? "e4m3 tensor" : "block",
                      2.0 * static_cast<double>(m * n * k) / us / 1e6);
        } catch (const std::exception& error) {
          std::printf(" [%s]", error.what());
        }
      }
      std::printf("\n");
    }
  }
}

/// The dense kernels of a Llama-3.1-8B decode step but attention, 8 layers of own weights.
void GemmBench::chain() {
  constexpr int64_t kHidden = 4096;
  constexpr int64_t kQkv = 6144;
  constexpr int64_t kInner = 14336;
  constexpr int kLayers = 8;
  constexpr int64_t kLayer = kQkv * kHidden + kHidden * kHidden + 3 * kInner * kHidden;
  const Buffer w = weights(static_cast<size_t>(kLayers * kLayer), 3);
  const Buffer norm = weights(kHidden, 4);
  for (const int64_t m : {1, 4, 8, 16, 32}) {
    const Buffer h = zeros(static_cast<size_t>(m * kHidden) * 4);
    const Buffer x = zeros(static_cast<size_t>(m * kHidden) * 2);
    const Buffer qkv = zeros(static_cast<size_t>(m * kQkv) * 2);
    const Buffer wide = zeros(static_cast<size_t>(m * 2 * kInner) * 2);
    const Buffer inner = zeros(static_cast<size_t>(m * kInner) * 2);
    const Buffer tables = zeros(64 * 1024);
    const Buffer slots = zeros(64 * 8);
    const Buffer pages = zeros(size_t{4} << 20);
    for (const GemmRoute route : {GemmRoute::kDecode, GemmRoute::kLibrary}) {
      const bool fused = route == GemmRoute::kDecode;
      const auto gemm = [&](const Buffer& from, int64_t at, const Buffer& to, int64_t n, int64_t k,
                            bool add) {
        gemm_.run({.x = from.data(),
                   .weight = w.data() + at * 2,
                   .y = to.data(),
                   .m = m,
                   .n = n,
                   .k = k,
                   .x_stride = k,
                   .weight_stride = k,
                   .y_stride = n,
                   .y_dtype = add ? DType::kF32 : DType::kBF16,
                   .accumulate = add,
                   .route = route},
                  stream());
      };
      const auto normed = [&] {
        rms_norm({.x = reinterpret_cast<const float*>(h.data()),
                  .weight = norm.data(),
                  .y = x.data(),
                  .m = m,
                  .n = kHidden,
                  .x_stride = kHidden,
                  .y_stride = kHidden,
                  .eps = 1e-5F,
                  .weight_dtype = DType::kBF16},
                 stream());
      };
      const double us = time([&] {
        for (int64_t layer = 0; layer < kLayers; ++layer) {
          int64_t at = layer * kLayer;
          normed();
          gemm(x, at, qkv, kQkv, kHidden, false);
          at += kQkv * kHidden;
          rope_store({.qkv = qkv.data(),
                      .m = m,
                      .row_stride = kQkv,
                      .num_heads = 32,
                      .num_kv_heads = 8,
                      .head_dim = 128,
                      .rotary_dim = 128,
                      .positions = reinterpret_cast<const int32_t*>(slots.data()),
                      .cos_table = reinterpret_cast<const float*>(tables.data()),
                      .sin_table = reinterpret_cast<const float*>(tables.data()),
                      .slots = reinterpret_cast<const int64_t*>(slots.data()),
                      .k_pages = pages.data(),
                      .v_pages = pages.data() + (2 << 20),
                      .page_size = 64,
                      .page_stride = 64 * 8 * 128,
                      .head_stride = 64 * 128,
                      .token_stride = 128},
                     stream());
          gemm(x, at, h, kHidden, kHidden, true);
          at += kHidden * kHidden;
          normed();
          if (fused) {
            gemm_.run_gated({.x = x.data(),
                             .weight = w.data() + at * 2,
                             .y = inner.data(),
                             .m = m,
                             .n = kInner,
                             .k = kHidden,
                             .x_stride = kHidden,
                             .weight_stride = kHidden,
                             .y_stride = kInner},
                            stream());
          } else {
            gemm(x, at, wide, 2 * kInner, kHidden, false);
            act_mul({.gate_up = wide.data(),
                     .y = inner.data(),
                     .m = m,
                     .n = kInner,
                     .x_stride = 2 * kInner,
                     .y_stride = kInner},
                    stream());
          }
          at += 2 * kInner * kHidden;
          gemm(inner, at, h, kHidden, kInner, true);
        }
      });
      char name[64];
      std::snprintf(name, sizeof(name), "chain m %d, 8 layers, %s", static_cast<int>(m),
                    fused ? "ours" : "library");
      report(name, us, static_cast<double>(kLayers * kLayer) * 2);
    }
  }
}

}  // namespace
}  // namespace foveal::bench

int main(int argc, char** argv) {
  const std::span<char* const> args(argv + 1, static_cast<size_t>(argc - 1));
  foveal::bench::GemmBench bench;
  if (foveal::bench::is_wanted(args, "decode")) bench.decode();
  if (foveal::bench::is_wanted(args, "chain")) bench.chain();
  if (foveal::bench::is_wanted(args, "prefill")) bench.prefill();
  return 0;
}
