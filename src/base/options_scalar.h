#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/options.h"

namespace foveal {

/// Typed readings of one node. All throw kInvalidArgument at `where(node, path)` with `need`.
bool read_bool(const ConfigNode& node, std::string_view path, std::string_view need);
/// Decimal; `1e3` and `4096.0` count where they are whole and exact. No leading zeros, which YAML
/// 1.1 takes for octal.
int64_t read_int(const ConfigNode& node, std::string_view path, std::string_view need);
uint64_t read_uint(const ConfigNode& node, std::string_view path, std::string_view need);
/// Finite.
double read_double(const ConfigNode& node, std::string_view path, std::string_view need);
std::string read_string(const ConfigNode& node, std::string_view path, std::string_view need);

/// True for digits with an optional sign: what YAML calls an integer.
bool is_integer_text(std::string_view text);

[[noreturn]] void refuse(const ConfigNode& node, std::string_view path, std::string_view need);

}  // namespace foveal
