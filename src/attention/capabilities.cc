#include "attention/capabilities.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "base/check.h"

namespace foveal::attention {
namespace {

template <class T>
bool contains(const std::vector<T>& list, T value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

std::string_view kind_name(DeviceKind kind) { return kind == DeviceKind::kCpu ? "cpu" : "cuda"; }

std::string describe(const Capabilities& has) {
  std::vector<std::string_view> devices;
  for (const DeviceKind kind : has.devices) devices.push_back(kind_name(kind));
  std::vector<std::string_view> dtypes;
  for (const DType dtype : has.kv_dtypes) dtypes.push_back(dtype_name(dtype));
  std::vector<std::string_view> phases;
  if (has.prefill) phases.push_back(phase_name(Phase::kPrefill));
  if (has.decode) phases.push_back(phase_name(Phase::kDecode));
  return fmt::format("device in {}, kv dtype in {}, phase in {}, sliding window {}", devices,
                     dtypes, phases, has.sliding_window ? "yes or no" : "no");
}

}  // namespace

void require_capable(const AttentionMethod& method, const Needs& needs) {
  const Capabilities& has = method.capabilities();
  const bool phase_ok = needs.phase == Phase::kPrefill ? has.prefill : has.decode;
  FOVEAL_CHECK(needs.latent ? has.latent : has.per_head, ErrorKind::kUnsupported, method.name(),
               "got {} on {}; need {}",
               needs.latent ? "a latent cache (multi-head latent attention)"
                            : "a cache of K and V per KV head",
               kind_name(needs.device),
               needs.latent ? "one of K and V per KV head" : "a latent one");
  const std::vector<int32_t>& dims = has.head_dims;
  const bool head_ok =
      needs.latent || needs.head_dim == 0 || dims.empty() || contains(dims, needs.head_dim);
  FOVEAL_CHECK(head_ok, ErrorKind::kUnsupported, method.name(),
               "got head_dim {} on {}; need one of {}", needs.head_dim, kind_name(needs.device),
               fmt::join(dims, ", "));
  if (phase_ok && contains(has.devices, needs.device) && contains(has.kv_dtypes, needs.kv_dtype) &&
      (has.sliding_window || !needs.sliding_window)) {
    return;
  }
  fail(ErrorKind::kUnsupported, method.name(),
       "got device {}, kv dtype {}, phase {}, sliding window {}; need {}", kind_name(needs.device),
       dtype_name(needs.kv_dtype), phase_name(needs.phase), needs.sliding_window ? "yes" : "no",
       describe(has));
}

void require_device(const AttentionMethod& method, Device device) {
  FOVEAL_CHECK(contains(method.capabilities().devices, device.kind), ErrorKind::kUnsupported,
               method.name(), "got device {}; need {}", kind_name(device.kind),
               describe(method.capabilities()));
}

}  // namespace foveal::attention
