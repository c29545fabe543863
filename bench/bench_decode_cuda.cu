// Times foveal_attention_decode on the shapes of docs/kernels/cuda_decode.md beside a kernel that
// only reads the same bytes: graph replay, second-level cache emptied by reading 512 MiB, medians.
//
// Computes: nothing of its own; `read_kernel` sums the K and V bytes of a call, decode's bound.
// In/out: random K and V in shuffled pages, written on the device.
// Units: microseconds; bytes of K and V counted once.
// Launch: read_kernel 8 CTAs a multiprocessor of 256 threads.
// Needs: sm_90.
// Numerics: none.
// Source: ours.
// Measured: docs/kernels/cuda_decode.md.
#include <cuda_fp8.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "foveal/kernels.h"

namespace {

void check(cudaError_t status, int line) {
  if (status == cudaSuccess) return;
  std::fprintf(stderr, "line %d: %s\n", line, cudaGetErrorString(status));
  std::exit(1);
}
#define CHECK(call) check(call, __LINE__)

__global__ void read_kernel(const uint4* data, size_t count, uint32_t* sink) {
  uint32_t sum = 0;
  const size_t step = static_cast<size_t>(gridDim.x) * blockDim.x;
  size_t i = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  for (; i + 7 * step < count; i += 8 * step) {
    uint4 v[8];
#pragma unroll
    for (int j = 0; j < 8; ++j) v[j] = data[i + j * step];
#pragma unroll
    for (int j = 0; j < 8; ++j) sum += v[j].x ^ v[j].y ^ v[j].z ^ v[j].w;
  }
  for (; i < count; i += step) sum += data[i].x;
  if (sum == 0x12345678) *sink = sum;
}

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
__global__ void fill_kernel(uint16_t* data, size_t count, uint32_t seed) {
  for (size_t i = blockIdx.x * static_cast<size_t>(blockDim.x) + threadIdx.x; i < count;
       i += static_cast<size_t>(gridDim.x) * blockDim.x) {
    data[i] = static_cast<uint16_t>(__float_as_uint(normal(i, seed)) >> 16);
  }
}
/// K of pages of 64 keys whose scores lie together: normal numbers plus, a page and KV head, a
/// random multiple of the sum of the KV head's queries.
__global__ void fill_tiles_kernel(uint16_t* k, const uint16_t* q, int page_rows, int kv_heads,
                                  int group, int dim, bool token_major, float spread) {
  for (int row = static_cast<int>(threadIdx.x) / dim; row < kv_heads * page_rows;
       row += static_cast<int>(blockDim.x) / dim) {
    const int head = token_major ? row % kv_heads : row / page_rows;
    const int c = static_cast<int>(threadIdx.x) % dim;
    float along = 0;
    for (int g = 0; g < group; ++g) along += __uint_as_float(q[(head * group + g) * dim + c] << 16);
    const float pull = spread * normal(blockIdx.x * static_cast<uint64_t>(kv_heads) + head, 99);
    const uint64_t at = (blockIdx.x * static_cast<uint64_t>(kv_heads) * page_rows + row) * dim + c;
    k[at] = static_cast<uint16_t>(__float_as_uint(normal(at, 3) + pull * along) >> 16);
  }
}
__global__ void fill8_kernel(uint8_t* data, size_t count, uint32_t seed) {
  for (size_t i = blockIdx.x * static_cast<size_t>(blockDim.x) + threadIdx.x; i < count;
       i += static_cast<size_t>(gridDim.x) * blockDim.x) {
    data[i] = __nv_cvt_float_to_fp8(normal(i, seed), __NV_SATFINITE, __NV_E4M3);
  }
}
__global__ void spin_kernel(long long cycles) {
  const long long begin = clock64();
  while (clock64() - begin < cycles) {
  }
}
__global__ void empty_kernel(uint32_t* sink) { *sink = 0; }

struct Bench {
  cudaStream_t stream;
  uint4* flush;
  uint32_t* sink;
  int multiprocessors;
  static constexpr size_t kFlush = size_t{512} << 20;

  Bench() {
    CHECK(cudaStreamCreate(&stream));
    CHECK(cudaMalloc(&flush, kFlush));
    CHECK(cudaMemset(flush, 1, kFlush));
    CHECK(cudaMalloc(&sink, 256));
    CHECK(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, 0));
  }

  template <class Call>
  float median_us(Call call, int reps = 25) {
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    call(stream);
    CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    call(stream);
    CHECK(cudaStreamEndCapture(stream, &graph));
    CHECK(cudaGraphInstantiate(&exec, graph, 0));
    CHECK(cudaGraphLaunch(exec, stream));
    std::vector<cudaEvent_t> events(static_cast<size_t>(2 * reps));
    for (cudaEvent_t& event : events) CHECK(cudaEventCreate(&event));
    for (int i = 0; i < reps; ++i) {
      read_kernel<<<multiprocessors * 8, 256, 0, stream>>>(flush, kFlush / 16, sink);
      spin_kernel<<<1, 1, 0, stream>>>(100000);
      CHECK(cudaEventRecord(events[static_cast<size_t>(2 * i)], stream));
      CHECK(cudaGraphLaunch(exec, stream));
      CHECK(cudaEventRecord(events[static_cast<size_t>(2 * i + 1)], stream));
    }
    CHECK(cudaStreamSynchronize(stream));
    std::vector<float> times;
    for (int i = 0; i < reps; ++i) {
      float ms = 0;
      CHECK(cudaEventElapsedTime(&ms, events[static_cast<size_t>(2 * i)],
                                 events[static_cast<size_t>(2 * i + 1)]));
      times.push_back(ms * 1000);
    }
    for (cudaEvent_t event : events) CHECK(cudaEventDestroy(event));
    CHECK(cudaGraphExecDestroy(exec));
    CHECK(cudaGraphDestroy(graph));
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
  }
};

struct Shape {
  int batch, length;
};

void run_shape(Bench& bench, const Shape& shape, int page, int kv_dtype, bool token_major,
               float skip, bool roof, const char* note) {
  constexpr int kHeads = 32, kKvHeads = 8, kDim = 128;
  const size_t bytes_each = kv_dtype == FOVEAL_E4M3 ? 1 : 2;
  const size_t elements = static_cast<size_t>(shape.batch) * shape.length * kKvHeads * kDim;
  const size_t pages = static_cast<size_t>(shape.batch) * shape.length / page;
  static char* pool = nullptr;
  constexpr size_t kPool = size_t{4} << 30;
  if (pool == nullptr) CHECK(cudaMalloc(&pool, 2 * kPool));
  char* k = pool;
  char* v = pool + elements * bytes_each;
  if (kv_dtype == FOVEAL_E4M3) {
    fill8_kernel<<<1024, 256>>>(reinterpret_cast<uint8_t*>(k), elements * 2, 1);
  } else {
    fill_kernel<<<1024, 256>>>(reinterpret_cast<uint16_t*>(k), elements * 2, 1);
  }
  uint16_t* q;
  CHECK(cudaMalloc(&q, static_cast<size_t>(shape.batch) * kHeads * kDim * 4));
  uint16_t* out = q + static_cast<size_t>(shape.batch) * kHeads * kDim;
  for (int row = 0; row < shape.batch; ++row)
    fill_kernel<<<32, 256>>>(q + static_cast<size_t>(row) * kHeads * kDim, kHeads * kDim, 7);
  if (skip > 0 && kv_dtype == FOVEAL_BF16) {
    fill_tiles_kernel<<<static_cast<unsigned>(pages), 256>>>(reinterpret_cast<uint16_t*>(k), q,
                                                             page, kKvHeads, kHeads / kKvHeads,
                                                             kDim, token_major, 0.2F);
  }
  std::vector<int32_t> table(pages), lengths(static_cast<size_t>(shape.batch), shape.length);
  std::iota(table.begin(), table.end(), 0);
  std::shuffle(table.begin(), table.end(), std::mt19937(5));
  int32_t *d_table, *d_len;
  CHECK(cudaMalloc(&d_table, pages * 4));
  CHECK(cudaMalloc(&d_len, lengths.size() * 4));
  CHECK(cudaMemcpy(d_table, table.data(), pages * 4, cudaMemcpyHostToDevice));
  CHECK(cudaMemcpy(d_len, lengths.data(), lengths.size() * 4, cudaMemcpyHostToDevice));
  foveal_attention_params p{};
  p.struct_size = sizeof(p);
  p.q_dtype = kv_dtype == FOVEAL_F16 ? FOVEAL_F16 : FOVEAL_BF16;
  p.kv_dtype = kv_dtype;
  p.q = q, p.out = out;
  p.q_row_stride = p.out_row_stride = kHeads * kDim;
  p.q_head_stride = p.out_head_stride = kDim;
  p.k = k, p.v = v;
  p.k_page_stride = p.v_page_stride = static_cast<int64_t>(kKvHeads) * page * kDim;
  p.k_head_stride = p.v_head_stride = token_major ? kDim : page * kDim;
  p.k_token_stride = p.v_token_stride = token_major ? kKvHeads * kDim : kDim;
  p.num_seqs = p.num_rows = shape.batch;
  p.num_heads = kHeads, p.num_kv_heads = kKvHeads, p.head_dim = kDim;
  p.page_size = page, p.num_pages = static_cast<int32_t>(pages);
  p.max_q_len = 1, p.max_kv_len = shape.length;
  p.kv_len = d_len, p.page_table = d_table, p.page_table_stride = shape.length / page;
  p.softmax_scale = 1 / std::sqrt(static_cast<float>(kDim));
  p.q_scale = p.k_scale = p.v_scale = 1;
  p.skip_factor = skip;
  p.workspace_bytes = foveal_attention_decode_workspace(&p);
  CHECK(cudaMalloc(&p.workspace, p.workspace_bytes));
  CHECK(cudaMemset(p.workspace, 0, p.workspace_bytes));
  uint64_t* counters;
  CHECK(cudaMalloc(&counters, lengths.size() * 32));
  CHECK(cudaMemset(counters, 0, lengths.size() * 32));
  const auto call = [&](cudaStream_t stream) {
    char message[512];
    if (foveal_attention_decode(&p, stream, message, sizeof(message)) != FOVEAL_OK) {
      std::fprintf(stderr, "%s\n", message);
      std::exit(1);
    }
  };
  double skipped = 0;
  if (skip > 0) {
    p.counters = counters;
    call(bench.stream);
    CHECK(cudaStreamSynchronize(bench.stream));
    std::vector<uint64_t> counted(lengths.size() * 4);
    CHECK(cudaMemcpy(counted.data(), counters, counted.size() * 8, cudaMemcpyDeviceToHost));
    uint64_t tiles = 0, gone = 0;
    for (size_t i = 0; i < lengths.size(); ++i)
      tiles += counted[i * 4 + 2], gone += counted[i * 4 + 3];
    skipped = static_cast<double>(gone) / static_cast<double>(tiles);
    p.counters = nullptr;
  }
  const size_t total = elements * 2 * bytes_each;
  const float us = bench.median_us(call);
  float read_us = 0;
  if (roof) {
    read_us = bench.median_us([&](cudaStream_t stream) {
      read_kernel<<<bench.multiprocessors * 8, 256, 0, stream>>>(reinterpret_cast<uint4*>(k),
                                                                 total / 16, bench.sink);
    });
  }
  std::printf("%-10s kv%d %s page %-3d %3dx%-6d %8.1f us  %.2f TB/s  read %8.1f us", note, kv_dtype,
              token_major ? "NHD" : "HND", page, shape.batch, shape.length, us, total / us * 1e-6,
              read_us);
  if (skip > 0) std::printf("  factor %g skipped %.3f", skip, skipped);
  std::printf("\n");
  std::fflush(stdout);
  for (void* pointer : {static_cast<void*>(q), static_cast<void*>(d_table),
                        static_cast<void*>(d_len), p.workspace, static_cast<void*>(counters)}) {
    CHECK(cudaFree(pointer));
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::string mode = argc > 1 ? argv[1] : "all";
  const char* note = argc > 2 ? argv[2] : "";
  Bench bench;
  cudaDeviceProp properties;
  CHECK(cudaGetDeviceProperties(&properties, 0));
  std::printf("%s, empty kernel %.1f us\n", properties.name,
              bench.median_us([&](cudaStream_t s) { empty_kernel<<<1, 1, 0, s>>>(bench.sink); }));
  const Shape shapes[] = {{1, 8192}, {1, 32768}, {1, 131072}, {8, 32768}, {16, 65536}, {64, 16384}};
  for (const Shape& shape : shapes) {
    if (mode == "small" && shape.batch > 1) continue;
    if (mode == "skip") {
      for (const float factor : {0.0F, 1e9F, 10.0F, 100.0F, 1000.0F, 4000.0F}) {
        run_shape(bench, shape, 64, FOVEAL_BF16, false, factor, false, note);
      }
      continue;
    }
    run_shape(bench, shape, 64, FOVEAL_BF16, true, 0, true, note);
    run_shape(bench, shape, 64, FOVEAL_E4M3, true, 0, true, note);
    if (mode == "all") {
      run_shape(bench, shape, 64, FOVEAL_BF16, false, 0, false, note);
      run_shape(bench, shape, 64, FOVEAL_E4M3, false, 0, false, note);
      run_shape(bench, shape, 16, FOVEAL_BF16, true, 0, false, note);
    }
  }
  return 0;
}
