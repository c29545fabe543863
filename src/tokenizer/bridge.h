#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/check.h"
#include "foveal-text/src/lib.rs.h"
#include "rust/cxx.h"

namespace foveal::tokenizer {

inline rust::Slice<const uint8_t> bytes_of(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

inline int32_t id_or_none(std::optional<int32_t> id) { return id.value_or(-1); }

inline std::optional<int32_t> optional_id(int32_t id) {
  return id < 0 ? std::nullopt : std::optional<int32_t>(id);
}

/// Throws the `foveal::Error` that a bridge error stands for.
[[noreturn]] void rethrow(const rust::Error& error, std::string_view where);

/// Throws kOutOfMemory where work on `what` of `bytes` bytes could need more than is left, at
/// `times` bytes for each: Rust ends the process when an allocation fails.
void check_memory(uint64_t bytes, uint64_t times, std::string_view where, std::string_view what);

/// Calls into the crate; its errors become `foveal::Error`.
template <class Call>
auto bridged(std::string_view where, Call&& call) {
  try {
    return call();
  } catch (const rust::Error& error) {
    rethrow(error, where);
  }
}

}  // namespace foveal::tokenizer
