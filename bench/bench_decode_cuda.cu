// Times foveal_attention_decode on the shapes of docs/kernels/cuda_decode.md beside a kernel that
// only reads the same bytes: graph replay, second-level cache emptied by reading, medians.
//   bench_decode_cuda [small] [orders] [skip]     (none: all shapes, dense)
//
// Computes: fills K and V on the device; normal numbers, for Skip Softmax with tiles that lie
//   together.
// In/out: random K and V in shuffled pages.
// Units: microseconds; bytes of K and V counted once.
// Launch: enough CTAs to fill the device, grid-stride loops.
// Needs: sm_90.
// Numerics: none.
// Source: ours.
// Measured: docs/kernels/cuda_decode.md.
#include <cuda_fp8.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "cuda_bench.h"
#include "foveal/kernels.h"

namespace foveal::bench {
namespace {

constexpr int kHeads = 32;
constexpr int kKvHeads = 8;
constexpr int kDim = 128;

__device__ uint32_t hash(uint32_t x) {
  x ^= x >> 16;
  x *= 0x7feb352d;
  x ^= x >> 15;
  x *= 0x846ca68b;
  return x ^ (x >> 16);
}
__device__ float normal(uint64_t i, uint32_t seed) {
  const uint32_t a =
      hash(static_cast<uint32_t>(i) * 2 + seed + static_cast<uint32_t>(i >> 31) * 77777);
  const uint32_t b = hash(a + 0x9e3779b9);
  return sqrtf(-2 * logf((a + 1.0F) / 4294967808.0F)) * cospif(2 * b / 4294967296.0F);
}
__device__ void store(uint16_t* to, float value) {
  *to = static_cast<uint16_t>(__float_as_uint(value) >> 16);
}
__device__ void store(uint8_t* to, float value) {
  *to = __nv_cvt_float_to_fp8(value, __NV_SATFINITE, __NV_E4M3);
}
/// Repeats itself every `period` elements.
template <class T>
__global__ void fill_kernel(T* data, size_t count, size_t period, uint32_t seed) {
  for (size_t i = blockIdx.x * static_cast<size_t>(blockDim.x) + threadIdx.x; i < count;
       i += static_cast<size_t>(gridDim.x) * blockDim.x) {
    store(data + i, normal(i % period, seed));
  }
}
/// K of pages of 64 keys whose scores lie together: normal numbers plus, a page and KV head, a
/// random multiple of the sum of the KV head's queries.
__global__ void fill_tiles_kernel(uint16_t* k, const uint16_t* q, int page_rows, float spread) {
  for (int row = static_cast<int>(threadIdx.x) / kDim; row < kKvHeads * page_rows;
       row += static_cast<int>(blockDim.x) / kDim) {
    const int head = row / page_rows;
    const int c = static_cast<int>(threadIdx.x) % kDim;
    constexpr int kGroup = kHeads / kKvHeads;
    float along = 0;
    for (int g = 0; g < kGroup; ++g)
      along += __uint_as_float(q[(head * kGroup + g) * kDim + c] << 16);
    const float pull = spread * normal(blockIdx.x * static_cast<uint64_t>(kKvHeads) + head, 99);
    const uint64_t at = (blockIdx.x * static_cast<uint64_t>(kKvHeads) * page_rows + row) * kDim + c;
    store(k + at, normal(at, 3) + pull * along);
  }
}

struct Shape {
  int batch, length;
  int page = 64;
  int kv_dtype = FOVEAL_BF16;
  bool token_major = false;  ///< [page, key, head, d] instead of [page, head, key, d]

  size_t bytes_each() const { return kv_dtype == FOVEAL_E4M3 ? 1 : 2; }
  size_t elements() const { return size_t{1} * batch * length * kKvHeads * kDim; }
  size_t pages() const { return size_t{1} * batch * length / page; }
};

/// A call on random data.
class DecodeCall {
 public:
  DecodeCall(CudaBench& bench, const Shape& shape, bool tiles);

  /// Share of the tiles that a factor drops.
  double skipped(float factor);
  void issue() const {
    char message[512];
    if (foveal_attention_decode(&params_, bench_.stream().native(), message, sizeof(message)) !=
        FOVEAL_OK) {
      throw std::runtime_error(message);
    }
  }
  void set_factor(float factor) { params_.skip_factor = factor; }

 private:
  void fill(bool tiles);
  void set_params();
  /// A device copy.
  Buffer upload(const std::vector<int32_t>& values) const {
    Buffer buffer = CudaBench::zeros(values.size() * 4);
    bench_.stream().copy(buffer.data(), values.data(), values.size() * 4);
    return buffer;
  }

  CudaBench& bench_;
  Shape shape_;
  Buffer k_, v_, q_, out_, table_, lengths_, workspace_, counters_;
  foveal_attention_params params_{};
};

DecodeCall::DecodeCall(CudaBench& bench, const Shape& shape, bool tiles)
    : bench_(bench),
      shape_(shape),
      k_(CudaBench::zeros(shape.elements() * shape.bytes_each())),
      v_(CudaBench::zeros(shape.elements() * shape.bytes_each())),
      q_(CudaBench::zeros(size_t{2} * shape.batch * kHeads * kDim)),
      out_(CudaBench::zeros(q_.size())),
      counters_(CudaBench::zeros(size_t{32} * shape.batch)) {
  fill(tiles);
  std::vector<int32_t> table(shape.pages());
  std::iota(table.begin(), table.end(), 0);
  std::shuffle(table.begin(), table.end(), std::mt19937(5));
  table_ = upload(table);
  lengths_ = upload(std::vector<int32_t>(static_cast<size_t>(shape.batch), shape.length));
  set_params();
  workspace_ = CudaBench::zeros(foveal_attention_decode_workspace(&params_));
  params_.workspace = workspace_.data();
  params_.workspace_bytes = workspace_.size();
  for (const Buffer* zeroed : {&workspace_, &counters_})
    bench.stream().fill(zeroed->data(), 0, zeroed->size());
  bench.stream().synchronize();
}

void DecodeCall::fill(bool tiles) {
  auto* stream = static_cast<cudaStream_t>(bench_.stream().native());
  const size_t row = size_t{kHeads} * kDim;
  auto* q = reinterpret_cast<uint16_t*>(q_.data());
  fill_kernel<<<1024, 256, 0, stream>>>(q, shape_.batch * row, row, 7);
  uint32_t seed = 1;
  for (const Buffer* buffer : {&k_, &v_}) {
    ++seed;
    if (shape_.kv_dtype == FOVEAL_E4M3) {
      fill_kernel<<<1024, 256, 0, stream>>>(reinterpret_cast<uint8_t*>(buffer->data()),
                                            shape_.elements(), shape_.elements(), seed);
    } else {
      fill_kernel<<<1024, 256, 0, stream>>>(reinterpret_cast<uint16_t*>(buffer->data()),
                                            shape_.elements(), shape_.elements(), seed);
    }
  }
  if (!tiles) return;
  fill_tiles_kernel<<<static_cast<unsigned>(shape_.pages()), 256, 0, stream>>>(
      reinterpret_cast<uint16_t*>(k_.data()), q, shape_.page, 0.2F);
}

void DecodeCall::set_params() {
  foveal_attention_params& p = params_;
  p.struct_size = sizeof(p);
  p.q_dtype = FOVEAL_BF16;
  p.kv_dtype = shape_.kv_dtype;
  p.q = q_.data(), p.out = out_.data();
  p.q_row_stride = p.out_row_stride = kHeads * kDim;
  p.q_head_stride = p.out_head_stride = kDim;
  p.k = k_.data(), p.v = v_.data();
  p.k_page_stride = p.v_page_stride = static_cast<int64_t>(kKvHeads) * shape_.page * kDim;
  p.k_head_stride = p.v_head_stride = shape_.token_major ? kDim : shape_.page * kDim;
  p.k_token_stride = p.v_token_stride = shape_.token_major ? kKvHeads * kDim : kDim;
  p.num_seqs = p.num_rows = shape_.batch;
  p.num_heads = kHeads, p.num_kv_heads = kKvHeads, p.head_dim = kDim;
  p.page_size = shape_.page, p.num_pages = static_cast<int32_t>(shape_.pages());
  p.max_q_len = 1, p.max_kv_len = shape_.length;
  p.kv_len = reinterpret_cast<const int32_t*>(lengths_.data());
  p.page_table = reinterpret_cast<const int32_t*>(table_.data());
  p.page_table_stride = shape_.length / shape_.page;
  p.softmax_scale = 1 / std::sqrt(static_cast<float>(kDim));
  p.q_scale = p.k_scale = p.v_scale = 1;
}

double DecodeCall::skipped(float factor) {
  set_factor(factor);
  params_.counters = reinterpret_cast<uint64_t*>(counters_.data());
  bench_.stream().fill(counters_.data(), 0, counters_.size());
  issue();
  std::vector<uint64_t> counted(size_t{4} * shape_.batch);
  bench_.stream().copy(counted.data(), counters_.data(), counted.size() * 8);
  bench_.stream().synchronize();
  params_.counters = nullptr;
  uint64_t tiles = 0;
  uint64_t gone = 0;
  for (size_t i = 0; i < counted.size(); i += 4) tiles += counted[i + 2], gone += counted[i + 3];
  return static_cast<double>(gone) / static_cast<double>(tiles);
}

void dense(CudaBench& bench, const Shape& shape) {
  const DecodeCall call(bench, shape, /*tiles=*/false);
  const auto bytes = static_cast<double>(2 * shape.elements() * shape.bytes_each());
  const Buffer same = CudaBench::zeros(static_cast<size_t>(bytes));
  const double us = bench.time_cold([&] { call.issue(); });
  const double read = bench.time_cold([&] { bench.read(same.data(), same.size()); });
  std::printf("%s %s page %-3d %3dx%-6d %8.1f us  %.2f TB/s  read %8.1f us  %4.1f %%\n",
              shape.kv_dtype == FOVEAL_E4M3 ? "e4m3" : "bf16", shape.token_major ? "NHD" : "HND",
              shape.page, shape.batch, shape.length, us, bytes / us * 1e-6, read, 100 * read / us);
  std::fflush(stdout);
}

void skip(CudaBench& bench, const Shape& shape) {
  DecodeCall call(bench, shape, /*tiles=*/true);
  call.set_factor(0);
  const double dense_us = bench.time_cold([&] { call.issue(); });
  std::printf("skip %dx%d: dense %.1f us", shape.batch, shape.length, dense_us);
  for (const float factor : {1e9F, 10.0F, 100.0F, 1000.0F, 4000.0F}) {
    const double share = call.skipped(factor);
    const double us = bench.time_cold([&] { call.issue(); });
    std::printf("; factor %g: %.1f %% skipped, %.1f us, x %.2f", factor, 100 * share, us,
                dense_us / us);
  }
  std::printf("\n");
  std::fflush(stdout);
}

void run(std::span<char* const> args) {
  const auto asked = [&](const char* name) { return !args.empty() && is_wanted(args, name); };
  CudaBench bench;
  constexpr Shape kShapes[] = {{1, 8192},  {1, 32768},  {1, 131072},
                               {8, 32768}, {16, 65536}, {64, 16384}};
  for (const Shape& shape : kShapes) {
    if (asked("small") && shape.batch > 1) continue;
    if (asked("skip")) {
      skip(bench, shape);
      continue;
    }
    const bool orders = asked("orders");
    for (const int page : {64, 16}) {
      for (const int dtype : {FOVEAL_BF16, FOVEAL_E4M3}) {
        for (const bool token_major : {false, true}) {
          if (!orders && (page != 64 || token_major)) continue;
          dense(bench, {shape.batch, shape.length, page, dtype, token_major});
        }
      }
    }
  }
}

}  // namespace
}  // namespace foveal::bench

int main(int argc, char** argv) {
  try {
    foveal::bench::run({argv + 1, static_cast<size_t>(argc - 1)});
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
