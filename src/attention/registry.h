#pragma once

#include <span>
#include <string>
#include <string_view>

#include "attention/room.h"

namespace foveal::attention {

/// A registered method. The table is generated from one line of CMakeLists.txt.
struct MethodRow {
  std::string_view name;
  MakeMethod make;
  std::vector<MethodExample> (*examples)();
};

std::span<const MethodRow> method_rows();

/// The method that runs where no other is active.
inline constexpr std::string_view kDenseMethod = "dense";

/// Throws kInvalidArgument with the known names for any other word.
const MethodRow& find_method(std::string_view name);

}  // namespace foveal::attention
