#include "ceiling.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "base/check.h"
#include "kernels/cpu/isa.h"

namespace foveal::kernels::cpu {

namespace portable {
extern const bench::CeilingLoops kCeilingLoops;
}
namespace avx2 {
extern const bench::CeilingLoops kCeilingLoops;
}
namespace avx512 {
extern const bench::CeilingLoops kCeilingLoops;
}
namespace avx512bf16 {
extern const bench::CeilingLoops kCeilingLoops;
}

}  // namespace foveal::kernels::cpu

namespace foveal::bench {
namespace {

const CeilingLoops& loops() {
  using kernels::cpu::Isa;
  switch (kernels::cpu::active_isa()) {
#if defined(__x86_64__)
    case Isa::kAvx2:
      return kernels::cpu::avx2::kCeilingLoops;
    case Isa::kAvx512:
      return kernels::cpu::avx512::kCeilingLoops;
    case Isa::kAvx512Bf16:
      return kernels::cpu::avx512bf16::kCeilingLoops;
#endif
    default:
      return kernels::cpu::portable::kCeilingLoops;
  }
}

/// Shortest of several runs: a ceiling is what the machine can do, not what it did on average.
template <class Body>
double best_seconds(Body body) {
  double best = 1e9;
  for (int repeat = 0; repeat < 7; ++repeat) {
    const auto begin = std::chrono::steady_clock::now();
    body();
    best = std::min(
        best, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  return best;
}

}  // namespace

double peak_gflops(ThreadPool& pool, bool f32) {
  const CeilingLoops& level = loops();
  const bool pairs = !f32 && level.pair_flops > 0;
  constexpr int64_t kIterations = 2'000'000;
  float results[64] = {};
  FOVEAL_CHECK(pool.num_threads() <= 64, ErrorKind::kInvalidArgument, "bench",
               "got {} threads; need at most 64", pool.num_threads());
  const double seconds = best_seconds([&] {
    pool.run(pool.num_threads(), [&](int64_t idx, int) {
      results[idx] = pairs ? level.pairs(kIterations) : level.f32(kIterations);
    });
  });
  FOVEAL_CHECK(results[0] != 0, ErrorKind::kInternal, "bench", "got 0; need a sum");
  const int flops = pairs ? level.pair_flops : level.f32_flops;
  return 1e-9 * flops * kIterations * pool.num_threads() / seconds;
}

double stream_gbps(ThreadPool& pool, const uint8_t* data, int64_t bytes) {
  constexpr int64_t kChunk = 64 * 1024;
  const int64_t chunks = bytes / kChunk;
  float results[64] = {};
  const double seconds = best_seconds([&] {
    pool.run(chunks, [&](int64_t idx, int worker) {
      results[worker] += loops().read(data + idx * kChunk, kChunk);
    });
  });
  FOVEAL_CHECK(results[0] == results[0], ErrorKind::kInternal, "bench", "got NaN; need numbers");
  return 1e-9 * static_cast<double>(chunks * kChunk) / seconds;
}

double stream_gbps(ThreadPool& pool) {
  const std::vector<uint8_t> memory(size_t{256} << 20, 1);
  return stream_gbps(pool, memory.data(), static_cast<int64_t>(memory.size()));
}

}  // namespace foveal::bench
