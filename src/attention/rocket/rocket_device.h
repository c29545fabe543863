#pragma once

#include <cstdint>
#include <memory>

#include "attention/method.h"
#include "attention/rocket/settings.h"

namespace foveal::attention::rocket {

/// The method's work on a device that runs behind the host. What is chosen stays there: kernels
/// read a prompt's candidates through DeviceSeqs::states, so that recorded steps serve any request.
class RocketDevice {
 public:
  virtual ~RocketDevice() = default;

  /// AttentionMethod's.
  virtual int64_t workspace_bytes(const StepLimits& limits) const = 0;
  virtual std::unique_ptr<SequenceState> make_state() = 0;
  virtual void append(int32_t layer, Phase phase, const AttendArgs& args, Stream& stream) = 0;
  /// Decode of a layer that is not dense.
  virtual void attend(const AttendArgs& args, int32_t layer, Stream& stream) = 0;
  /// Of a prompt with more tokens than it keeps.
  virtual void after_prefill(const PromptEnd& end, Stream& stream) = 0;
};

/// Throws kUnsupported, naming the field, for what the kernels lack. Null in builds without CUDA.
/// The settings are borrowed.
std::unique_ptr<RocketDevice> make_rocket_device(const Settings& settings, const ModelShape& shape);

}  // namespace foveal::attention::rocket
