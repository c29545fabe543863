#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/tensor_view.h"
#include "device/staging.h"
#include "device/stream.h"
#include "kernels/cuda/dense_gemm.h"
#include "model/cuda/fp8_device.h"

namespace foveal::model {

/// A matrix on the device, [rows, cols], in bf16 or with `scaling` in e4m3; or a float32 vector
/// where it is a vector's.
struct DeviceTensor {
  Buffer buffer;
  int64_t rows = 0;
  int64_t cols = 0;
  kernels::cuda::GemmScaling scaling = kernels::cuda::GemmScaling::kNone;
  Buffer scales;  ///< of e4m3, as DenseGemmParams::weight_scale

  bool fp8() const { return scaling != kernels::cuda::GemmScaling::kNone; }
  const float* scale_data() const { return reinterpret_cast<const float*>(scales.data()); }
  const uint16_t* bf16() const { return reinterpret_cast<const uint16_t*>(buffer.data()); }
  const float* f32() const { return reinterpret_cast<const float*>(buffer.data()); }
  bool empty() const { return buffer.size() == 0; }
};

/// Brings weights to the device, as bf16 or as they are. Pieces of the mapped file are copied by
/// all threads into page-locked memory, from where the device fetches them while the next piece is
/// copied; other types than bf16 are expanded there. A weight without data (a dummy checkpoint) is
/// filled with random values there.
class WeightLoader {
 public:
  /// The stream is borrowed and must outlive the loader.
  explicit WeightLoader(Stream& stream);
  /// Waits for what is under way.
  ~WeightLoader();

  /// The parts, one under another: they share `cols`. `name` names the memory and seeds dummies.
  DeviceTensor matrix(std::span<const WeightView> parts, std::string_view name);
  DeviceTensor matrix(const WeightView& part, std::string_view name) {
    return matrix(std::span(&part, 1), name);
  }
  /// W_UK^T [num_heads * rank, nope_dim] and W_UV [num_heads * value_dim, rank] as what makes keys
  /// and values of each head, under one another. Waits: `values` may go.
  DeviceTensor heads(const DeviceTensor& to_latent, const DeviceTensor& values, int64_t num_heads);
  /// The parts, one under another, in as many matrices as their types and scales make necessary:
  /// blocks of scales begin at the first row of a matrix.
  std::vector<DeviceTensor> linear(std::span<const StoredMatrix> parts, std::string_view name);
  DeviceTensor vector(std::span<const float> values, std::string_view name);
  /// A bias: rounded to bf16.
  DeviceTensor bias(std::span<const float> values, std::string_view name);

  int64_t bytes() const { return bytes_; }  ///< on the device
  /// "3 bf16, 113 f8_e4m3 as stored, 7 q4_k expanded": tensors by the type they were stored in.
  std::string stored_types() const;

 private:
  struct Slot {
    PinnedBuffer host;
    Buffer stored;  ///< of types that are expanded
    Event done;
  };

  DeviceTensor make(int64_t rows, int64_t cols, int64_t size, std::string_view name);
  DeviceTensor fp8(std::span<const StoredMatrix> parts, std::string_view name);
  /// As bf16, or with `keep` as it is. True where some of its values are e4m3 and NaN.
  bool send(const WeightView& part, std::byte* to, bool keep);
  bool send_rows(const WeightView& part, int64_t first, int64_t count, std::byte* to, bool keep);
  /// Random e4m3 values, none of them NaN.
  void fill_fp8(std::byte* to, int64_t count, uint64_t seed);
  bool copy_in(const std::byte* from, std::byte* to, int64_t bytes, DType dtype);

  Stream& stream_;
  std::vector<Slot> slots_;
  size_t next_ = 0;
  int64_t bytes_ = 0;
  std::map<DType, int64_t> counts_;
};

}  // namespace foveal::model
