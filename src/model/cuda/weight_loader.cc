#include "model/cuda/weight_loader.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <functional>

#include "base/check.h"
#include "base/half.h"
#include "base/log.h"
#include "base/math.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/expand.h"
#include "kernels/cuda/latent_context.h"

namespace foveal::model {
namespace {

// Four pieces keep the copy engine busy while the threads fill others; of 16 MiB each, so that
// neither launches nor waits count.
constexpr size_t kSlots = 4;
constexpr int64_t kPieceBytes = int64_t{16} << 20;
constexpr int64_t kTaskBytes = int64_t{1} << 20;
/// Of random weights: what released models are initialised with.
constexpr float kDeviation = 0.02F;

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
  auto* to = reinterpret_cast<uint16_t*>(out.buffer.data());
  if (parts.front().data == nullptr) {
    kernels::cuda::fill_normal(to, rows * cols, std::hash<std::string_view>{}(name), kDeviation,
                               stream_);
    return out;
  }
  for (const WeightView& part : parts) {
    send(part, to);
    to += part.rows * cols;
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

void WeightLoader::send(const WeightView& part, uint16_t* to) {
  FOVEAL_CHECK(part.row_bytes <= kPieceBytes, ErrorKind::kUnsupported, "weights",
               "got rows of {} bytes; need at most {}", part.row_bytes, kPieceBytes);
  const int64_t piece = kPieceBytes / part.row_bytes;
  for (int64_t first = 0; first < part.rows; first += piece) {
    const int64_t count = std::min(piece, part.rows - first);
    send_rows(part, first, count, to + first * part.cols);
  }
}

void WeightLoader::send_rows(const WeightView& part, int64_t first, int64_t count, uint16_t* to) {
  Slot& slot = slots_[next_];
  next_ = (next_ + 1) % slots_.size();
  slot.done.synchronize();
  const int64_t bytes = count * part.row_bytes;
  copy_in(part.row(first), slot.host.data(), bytes);
  if (part.dtype == DType::kBF16) {
    stream_.copy(to, slot.host.data(), static_cast<size_t>(bytes));
  } else {
    stream_.copy(slot.stored.data(), slot.host.data(), static_cast<size_t>(bytes));
    kernels::cuda::expand({.stored = slot.stored.data(),
                           .dtype = part.dtype,
                           .y = to,
                           .rows = count,
                           .cols = part.cols,
                           .y_stride = part.cols},
                          stream_);
  }
  slot.done.record(stream_);
}

void WeightLoader::copy_in(const std::byte* from, std::byte* to, int64_t bytes) {
  stream_.pool().run(ceil_div(bytes, kTaskBytes), [&](int64_t task, int) {
    const int64_t begin = task * kTaskBytes;
    std::memcpy(to + begin, from + begin, static_cast<size_t>(std::min(kTaskBytes, bytes - begin)));
  });
}

std::string WeightLoader::stored_types() const {
  std::string out;
  for (const auto& [dtype, count] : counts_) {
    out += fmt::format("{}{} {}", out.empty() ? "" : ", ", count, dtype_name(dtype));
  }
  return out;
}

bool WeightLoader::expanded() const {
  return std::any_of(counts_.begin(), counts_.end(),
                     [](const auto& entry) { return entry.first != DType::kBF16; });
}

}  // namespace foveal::model
