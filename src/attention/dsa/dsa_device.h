#pragma once

#include <memory>

#include "attention/dsa/settings.h"
#include "attention/method.h"

namespace foveal::attention::dsa {

/// The method's work on a device that runs behind the host. Sets of keys stay there, in the phase's
/// workspace, from a layer with an indexer to those that share its choice.
class DsaDevice {
 public:
  virtual ~DsaDevice() = default;

  /// See AttentionMethod::workspace_bytes.
  virtual int64_t workspace_bytes(const StepLimits& limits) const = 0;
  /// Index keys into their lane, and what scores need of the rows.
  virtual void append(const AttendArgs& args, Stream& stream) = 0;
  virtual void attend(int32_t layer, const AttendArgs& args, Stream& stream) = 0;
};

/// Throws kUnsupported, naming the field, for what the kernels lack. Null in builds without CUDA.
/// The settings are borrowed.
std::unique_ptr<DsaDevice> make_dsa_device(const Settings& settings);

}  // namespace foveal::attention::dsa
