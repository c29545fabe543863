#include "model/cuda/weight_loader.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <functional>

#include "base/check.h"
#include "base/half.h"
#include "base/log.h"
#include "base/math.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/expand.h"
#include "kernels/cuda/latent_context.h"
#include "model/fp8_check.h"

namespace foveal::model {
namespace {

// Four pieces keep the copy engine busy while the threads fill others; of 16 MiB each, so that
// neither launches nor waits count.
constexpr size_t kSlots = 4;
constexpr int64_t kPieceBytes = int64_t{16} << 20;
constexpr int64_t kTaskBytes = int64_t{1} << 20;
/// Of random weights: what released models are initialised with.
constexpr float kDeviation = 0.02F;
/// Of random e4m3 values before their scale: seven deviations are in range.
constexpr float kFp8Deviation = 64;

using kernels::cuda::block_scale_stride;
using kernels::cuda::GemmScaling;
constexpr int64_t kBlock = 128;  // rows and columns

GemmScaling scaling_of(const StoredMatrix& part) {
  if (!part.scales) return GemmScaling::kNone;
  return part.by_block() ? GemmScaling::kBlock : GemmScaling::kRow;
}

/// Scales of parts of one kind, as the products read them.
std::vector<float> device_scales(std::span<const StoredMatrix> parts, GemmScaling scaling) {
  std::vector<float> out;
  for (const StoredMatrix& part : parts) {
    const Fp8Scales& scales = *part.scales;
    const auto value = [&](int64_t row, int64_t block) {
      if (scales.values.empty()) return kDeviation / kFp8Deviation;
      return scales.values[static_cast<size_t>(row / scales.rows * scales.per_row + block)];
    };
    if (scaling == GemmScaling::kRow) {
      for (int64_t row = 0; row < part.weight.rows; ++row) out.push_back(value(row, 0));
      continue;
    }
    for (int64_t row = 0; row < part.weight.rows; row += kBlock) {
      const size_t end = out.size() + static_cast<size_t>(block_scale_stride(part.weight.cols));
      for (int64_t block = 0; block < scales.per_row; ++block) out.push_back(value(row, block));
      out.resize(end);
    }
  }
  return out;
}

}  // namespace

WeightLoader::WeightLoader(Stream& stream) : stream_(stream) {
  for (size_t idx = 0; idx < kSlots; ++idx) {
    slots_.push_back({.host = PinnedBuffer(stream.device(), kPieceBytes, "loading weights"),
                      .stored = Buffer(stream.device(), kPieceBytes, "loading weights"),
                      .done = Event(stream.device())});
  }
}

WeightLoader::~WeightLoader() {
  try {
    stream_.synchronize();
  } catch (const Error& error) {
    // Only while something else is thrown: a device that failed fails the next call too.
    log_error("{}", error.what());
  }
}

DeviceTensor WeightLoader::make(int64_t rows, int64_t cols, int64_t size, std::string_view name) {
  const std::optional<int64_t> count = checked_mul(rows, cols);
  const std::optional<int64_t> bytes = count ? checked_mul(*count, size) : std::nullopt;
  FOVEAL_CHECK(bytes.has_value(), ErrorKind::kCorruptFile, name, "got [{}, {}]; need less", rows,
               cols);
  bytes_ += *bytes;
  return {.buffer = Buffer(stream_.device(), static_cast<size_t>(*bytes), name),
          .rows = rows,
          .cols = cols};
}

DeviceTensor WeightLoader::matrix(std::span<const WeightView> parts, std::string_view name) {
  int64_t rows = 0;
  const int64_t cols = parts.front().cols;
  for (const WeightView& part : parts) {
    FOVEAL_INVARIANT(part.cols == cols);
    rows += part.rows;
    ++counts_[part.dtype];
  }
  // The kernels read 16 bytes at a time.
  FOVEAL_CHECK(cols % 8 == 0, ErrorKind::kUnsupported, name,
               "got rows of {} values; need a multiple of 8 on CUDA", cols);
  DeviceTensor out = make(rows, cols, sizeof(uint16_t), name);
  std::byte* to = out.buffer.data();
  if (parts.front().data == nullptr) {
    kernels::cuda::fill_normal(reinterpret_cast<uint16_t*>(to), rows * cols,
                               std::hash<std::string_view>{}(name), kDeviation, stream_);
    return out;
  }
  for (const WeightView& part : parts) {
    send(part, to, /*keep=*/false);
    to += part.rows * cols * static_cast<int64_t>(sizeof(uint16_t));
  }
  return out;
}

DeviceTensor WeightLoader::heads(const DeviceTensor& to_latent, const DeviceTensor& values,
                                 int64_t num_heads) {
  const int64_t rank = values.cols;
  const int64_t rows = num_heads * to_latent.cols + values.rows;
  DeviceTensor out = make(rows, rank, sizeof(uint16_t), "kv_b_proj");
  bytes_ -= values.rows * rank * static_cast<int64_t>(sizeof(uint16_t));  // its place is here
  kernels::cuda::head_weights({.to_latent = to_latent.bf16(),
                               .to_values = values.bf16(),
                               .out = reinterpret_cast<uint16_t*>(out.buffer.data()),
                               .num_heads = static_cast<int32_t>(num_heads),
                               .nope_dim = static_cast<int32_t>(to_latent.cols),
                               .value_dim = static_cast<int32_t>(values.rows / num_heads),
                               .rank = static_cast<int32_t>(rank)},
                              stream_.native());
  stream_.synchronize();
  return out;
}

std::vector<DeviceTensor> WeightLoader::linear(std::span<const StoredMatrix> parts,
                                               std::string_view name) {
  std::vector<DeviceTensor> out;
  for (size_t first = 0; first < parts.size();) {
    const GemmScaling scaling = scaling_of(parts[first]);
    size_t end = first;
    int64_t rows = 0;
    while (end < parts.size() && scaling_of(parts[end]) == scaling &&
           (scaling != GemmScaling::kBlock || rows % kBlock == 0)) {
      rows += parts[end++].weight.rows;
    }
    // Each writes its columns of the product, 16 bytes at a time.
    FOVEAL_CHECK(end == parts.size() || rows % 8 == 0, ErrorKind::kUnsupported, name,
                 "got {} rows of one type before others; need a multiple of 8 on CUDA", rows);
    const auto run = parts.subspan(first, end - first);
    if (scaling != GemmScaling::kNone) {
      out.push_back(fp8(run, name));
    } else {
      std::vector<WeightView> views;
      for (const StoredMatrix& part : run) views.push_back(part.weight);
      out.push_back(matrix(views, name));
    }
    first = end;
  }
  return out;
}

DeviceTensor WeightLoader::fp8(std::span<const StoredMatrix> parts, std::string_view name) {
  int64_t rows = 0;
  const int64_t cols = parts.front().weight.cols;
  for (const StoredMatrix& part : parts) {
    FOVEAL_INVARIANT(part.weight.cols == cols);
    rows += part.weight.rows;
    ++counts_[part.weight.dtype];
  }
  DeviceTensor out = make(rows, cols, /*size=*/1, name);
  out.scaling = scaling_of(parts.front());
  const std::vector<float> scales = device_scales(parts, out.scaling);
  out.scales = Buffer(stream_.device(), scales.size() * sizeof(float), name);
  bytes_ += static_cast<int64_t>(out.scales.size());
  stream_.copy(out.scales.data(), scales.data(), scales.size() * sizeof(float));
  std::byte* to = out.buffer.data();
  if (parts.front().weight.data == nullptr) {
    fill_fp8(to, rows * cols, std::hash<std::string_view>{}(name));
    return out;
  }
  for (const StoredMatrix& part : parts) {
    if (send(part.weight, to, /*keep=*/true)) refuse_e4m3_nan("model", part.name, part.weight);
    to += part.weight.rows * cols;
  }
  return out;
}

void WeightLoader::fill_fp8(std::byte* to, int64_t count, uint64_t seed) {
  auto* wide = reinterpret_cast<uint16_t*>(slots_[0].stored.data());
  auto* one = reinterpret_cast<float*>(slots_[1].stored.data());
  const float scale = 1;
  stream_.copy(one, &scale, sizeof(scale));
  constexpr int64_t kPiece = kPieceBytes / static_cast<int64_t>(sizeof(uint16_t));
  for (int64_t first = 0; first < count; first += kPiece) {
    const int64_t values = std::min(kPiece, count - first);
    kernels::cuda::fill_normal(wide, values, seed + static_cast<uint64_t>(first), kFp8Deviation,
                               stream_);
    kernels::cuda::quantize_e4m3_tensor({.x = wide,
                                         .y = reinterpret_cast<uint8_t*>(to) + first,
                                         .scale = one,
                                         .m = 1,
                                         .k = values,
                                         .x_stride = values,
                                         .y_stride = values},
                                        stream_);
  }
}

DeviceTensor WeightLoader::vector(std::span<const float> values, std::string_view name) {
  DeviceTensor out = make(1, static_cast<int64_t>(values.size()), sizeof(float), name);
  stream_.copy(out.buffer.data(), values.data(), values.size_bytes());
  return out;
}

DeviceTensor WeightLoader::bias(std::span<const float> values, std::string_view name) {
  std::vector<uint16_t> rounded(values.size());
  std::transform(values.begin(), values.end(), rounded.begin(), float_to_bf16);
  DeviceTensor out = make(1, static_cast<int64_t>(values.size()), sizeof(uint16_t), name);
  stream_.copy(out.buffer.data(), rounded.data(), rounded.size() * sizeof(uint16_t));
  return out;
}

bool WeightLoader::send(const WeightView& part, std::byte* to, bool keep) {
  FOVEAL_CHECK(part.row_bytes <= kPieceBytes, ErrorKind::kUnsupported, "weights",
               "got rows of {} bytes; need at most {}", part.row_bytes, kPieceBytes);
  const int64_t piece = kPieceBytes / part.row_bytes;
  bool odd = false;
  for (int64_t first = 0; first < part.rows; first += piece) {
    const int64_t count = std::min(piece, part.rows - first);
    odd |= send_rows(part, first, count, to + first * part.cols * (keep ? 1 : 2), keep);
  }
  return odd;
}

bool WeightLoader::send_rows(const WeightView& part, int64_t first, int64_t count, std::byte* to,
                             bool keep) {
  Slot& slot = slots_[next_];
  next_ = (next_ + 1) % slots_.size();
  slot.done.synchronize();
  const int64_t bytes = count * part.row_bytes;
  const bool odd = copy_in(part.row(first), slot.host.data(), bytes, part.dtype);
  if (keep || part.dtype == DType::kBF16) {
    stream_.copy(to, slot.host.data(), static_cast<size_t>(bytes));
  } else {
    stream_.copy(slot.stored.data(), slot.host.data(), static_cast<size_t>(bytes));
    kernels::cuda::expand({.stored = slot.stored.data(),
                           .dtype = part.dtype,
                           .y = reinterpret_cast<uint16_t*>(to),
                           .rows = count,
                           .cols = part.cols,
                           .y_stride = part.cols},
                          stream_);
  }
  slot.done.record(stream_);
  return odd;
}

bool WeightLoader::copy_in(const std::byte* from, std::byte* to, int64_t bytes, DType dtype) {
  std::atomic<bool> odd = false;
  stream_.pool().run(ceil_div(bytes, kTaskBytes), [&](int64_t task, int) {
    const int64_t begin = task * kTaskBytes;
    const int64_t size = std::min(kTaskBytes, bytes - begin);
    std::memcpy(to + begin, from + begin, static_cast<size_t>(size));
    // Read again while it is in the cache.
    if (dtype == DType::kF8E4M3 && has_e4m3_nan(from + begin, size)) odd = true;
  });
  return odd;
}

std::string WeightLoader::stored_types() const {
  std::string out;
  for (const auto& [dtype, count] : counts_) {
    out += fmt::format("{}{} {}{}", out.empty() ? "" : ", ", count, dtype_name(dtype),
                       dtype == DType::kF8E4M3 ? " as stored"
                       : dtype == DType::kBF16 ? ""
                                               : " expanded");
  }
  return out;
}

}  // namespace foveal::model
