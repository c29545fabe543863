#pragma once

namespace foveal {

inline constexpr char kVersion[] = "0.1.0";

}  // namespace foveal
