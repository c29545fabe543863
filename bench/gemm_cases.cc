#include "gemm_cases.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "base/check.h"
#include "base/half.h"
#include "ceiling.h"
#include "clock.h"
#include "kernels/reference/dequant.h"

namespace foveal::bench {
namespace {

using kernels::GemmOutput;
using kernels::GemmPath;

constexpr double kWeightStdDev = 0.02;
constexpr int64_t kLeastStream = 1 << 20;  // bytes; reading fewer measures no rate

/// Random quants with small scales: finite products of sensible size.
void fill(DType dtype, uint8_t* data, int64_t bytes, std::mt19937_64& rng) {
  for (int64_t at = 0; at + 8 <= bytes; at += 8) {
    const uint64_t word = rng();
    std::memcpy(data + at, &word, 8);
  }
  const DTypeInfo& info = dtype_info(dtype);
  const uint16_t scale = float_to_f16(0.01F);
  std::normal_distribution<float> normal(0, kWeightStdDev);
  for (int64_t at = 0; at + info.bytes <= bytes; at += info.bytes) {
    uint8_t* block = data + at;
    const float value = normal(rng);
    const uint16_t half = dtype == DType::kBF16 ? float_to_bf16(value) : float_to_f16(value);
    if (dtype == DType::kF32) {
      std::memcpy(block, &value, 4);
    } else if (dtype == DType::kE4M3x32) {
      const float own = 1e-4F * value;
      std::memcpy(block, &own, 4);
    } else if (info.block == 1) {
      std::memcpy(block, &half, 2);
    } else {
      std::memcpy(dtype == DType::kQ6_K ? block + 208 : block, &scale, 2);
      if (dtype != DType::kQ6_K && dtype != DType::kQ4_0 && dtype != DType::kQ5_0 &&
          dtype != DType::kQ8_0) {
        std::memcpy(block + 2, &scale, 2);
      }
    }
  }
}

/// All buffers of a case and its passes.
class Runner {
 public:
  Runner(const GemmCase& c, ThreadPool& pool) : case_(c), stream_({}, pool) {
    int64_t bytes = 0;
    int64_t max_n = 0;
    int64_t max_k = 0;
    for (const GemmCall& call : c.calls) {
      int64_t total = 0;
      for (const int64_t n : call.n) total += n;
      bytes += total * *row_bytes(call.dtype, call.k);
      max_n = std::max(max_n, total);
      max_k = std::max(max_k, call.k);
      macs_ += total * call.k * c.layers;
    }
    bytes_ = bytes * c.layers;
    weights_ = Buffer({}, static_cast<size_t>(bytes_) + 64, "weights");
    std::mt19937_64 rng(1);
    auto* at = reinterpret_cast<uint8_t*>(weights_.data());
    for (int layer = 0; layer < c.layers; ++layer) {
      for (const GemmCall& call : c.calls) {
        for (const int64_t n : call.n) {
          const int64_t size = n * *row_bytes(call.dtype, call.k);
          fill(call.dtype, at, size, rng);
          at += size;
        }
      }
    }
    x_.resize(static_cast<size_t>(c.m * max_k));
    y_.resize(static_cast<size_t>(c.m * max_n));
    std::normal_distribution<float> normal(0, 1);
    for (float& value : x_) value = normal(rng);
  }

  int64_t bytes() const { return bytes_; }
  const uint8_t* weights() const { return reinterpret_cast<const uint8_t*>(weights_.data()); }

  GemmRow time(Clock clock, double min_seconds) {
    pass(false);
    std::vector<double> seconds;
    double total = 0;
    while (seconds.size() < 7 || total < min_seconds) {
      const double begin = now(clock);
      pass(false);
      seconds.push_back(now(clock) - begin);
      total += seconds.back();
    }
    std::sort(seconds.begin(), seconds.end());
    pass(true);
    return {.median = seconds[seconds.size() / 2],
            .best = seconds.front(),
            .high = seconds[seconds.size() * 9 / 10],
            .gflop = 2e-9 * static_cast<double>(macs_ * case_.m),
            .gbyte = 1e-9 * static_cast<double>(bytes_)};
  }

 private:
  void pass(bool check) {
    const std::byte* at = weights_.data();
    for (int layer = 0; layer < case_.layers; ++layer) {
      for (const GemmCall& call : case_.calls) {
        std::vector<GemmOutput> outputs;
        float* y = y_.data();
        for (const int64_t n : call.n) {
          const int64_t stride = *row_bytes(call.dtype, call.k);
          outputs.push_back({.weight = {at, call.dtype, n, call.k, stride}, .y = y, .y_stride = n});
          at += n * stride;
          y += n * case_.m;
        }
        if (check) std::fill(y_.begin(), y_.end(), NAN);
        kernels::gemm({.x = x_.data(),
                       .m = case_.m,
                       .k = call.k,
                       .x_stride = call.k,
                       .outputs = outputs,
                       .path = case_.path},
                      stream_);
        if (check && layer == case_.layers - 1) {
          for (const GemmOutput& out : outputs) verify(out, call.k);
        }
      }
    }
  }

  /// A sample of the values against sums in double; half a unit of bf16 a factor bounds the error.
  void verify(const GemmOutput& out, int64_t k) const {
    for (int64_t idx = 0; idx < 32; ++idx) {
      const int64_t col = idx * 7919 % out.weight.rows;
      const int64_t row = idx * 104729 % case_.m;
      const std::vector<float> w = kernels::reference::dequantize_row(out.weight, col);
      double sum = 0;
      double norm = 0;
      for (int64_t i = 0; i < k; ++i) {
        const double term =
            static_cast<double>(x_[static_cast<size_t>(row * k + i)]) * w[static_cast<size_t>(i)];
        sum += term;
        norm += std::abs(term);
      }
      const double got = out.y[row * out.y_stride + col];
      FOVEAL_CHECK(std::abs(got - sum) <= 0x1p-7 * norm, ErrorKind::kInternal, "bench",
                   "got {} at row {} column {}; need {}", got, row, col, sum);
    }
  }

  const GemmCase& case_;
  Stream stream_;
  Buffer weights_;
  int64_t bytes_ = 0;
  int64_t macs_ = 0;
  std::vector<float> x_;
  std::vector<float> y_;
};

std::vector<GemmCall> smollm2_layer(DType dtype) {
  return {{dtype, 576, {576, 192, 192}},
          {dtype, 576, {576}},
          {dtype, 576, {1536, 1536}},
          {dtype, 1536, {576}}};
}

}  // namespace

std::vector<GemmCase> gemm_cases() {
  std::vector<GemmCase> cases;
  for (const int64_t m : {1, 2, 4, 8, 16, 64}) {
    cases.push_back({"smollm2 30 layers", GemmPath::kDecode, m, smollm2_layer(DType::kQ4_1), 30});
  }
  cases.push_back({"smollm2 head", GemmPath::kDecode, 1, {{DType::kQ8_0, 576, {49152}}}, 3});
  for (const DType dtype :
       {DType::kF32, DType::kF16, DType::kBF16, DType::kQ4_0, DType::kQ4_1, DType::kQ5_0,
        DType::kQ5_1, DType::kQ8_0, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K, DType::kE4M3x32}) {
    const auto layers = static_cast<int>(128'000'000 / (4096 * *row_bytes(dtype, 4096)) + 1);
    cases.push_back({"4096 x 4096", GemmPath::kDecode, 1, {{dtype, 4096, {4096}}}, layers});
  }
  for (const int64_t m : {16, 64, 128, 512}) {
    cases.push_back({"smollm2 30 layers", GemmPath::kPrefill, m, smollm2_layer(DType::kQ4_1), 30});
  }
  cases.push_back({"smollm2 head", GemmPath::kPrefill, 512, {{DType::kQ8_0, 576, {49152}}}, 1});
  for (const DType dtype : {DType::kBF16, DType::kQ4_1, DType::kQ4_K, DType::kQ6_K}) {
    cases.push_back({"14336 x 4096", GemmPath::kPrefill, 512, {{dtype, 4096, {14336}}}, 1});
    cases.push_back({"4096 x 14336", GemmPath::kPrefill, 512, {{dtype, 14336, {4096}}}, 1});
  }
  for (const int64_t m : {1, 512}) {
    cases.push_back({"smollm2 30 layers", GemmPath::kExact, m, smollm2_layer(DType::kQ4_1), 30});
  }
  return cases;
}

GemmCase gemm_case(GemmPath path, DType dtype, int64_t m, int64_t n, int64_t k) {
  const auto bytes = row_bytes(dtype, k);
  FOVEAL_CHECK(bytes.has_value() && m > 0 && n > 0 && k > 0, ErrorKind::kInvalidArgument, "bench",
               "got {} x {} x {}; need positive sizes, k in whole blocks", m, n, k);
  return {fmt::format("{} x {}", n, k),
          path,
          m,
          {{dtype, k, {n}}},
          // Enough for weights to come from memory; tiny ones stay in the cache instead.
          static_cast<int>(std::min<int64_t>(128'000'000 / (n * *bytes) + 1, 4096))};
}

GemmRow time_gemm(const GemmCase& wanted, ThreadPool& pool, bool cpu_time, double min_seconds) {
  Runner runner(wanted, pool);
  const double stream = runner.bytes() >= kLeastStream
                            ? stream_gbps(pool, runner.weights(), runner.bytes())
                            : stream_gbps(pool);
  GemmRow row = runner.time(cpu_time ? Clock::kProcessCpu : Clock::kWall, min_seconds);
  row.stream_gbps = stream;
  return row;
}

const char* path_name(GemmPath path) {
  return path == GemmPath::kPrefill ? "prefill" : path == GemmPath::kDecode ? "decode" : "exact";
}

}  // namespace foveal::bench
