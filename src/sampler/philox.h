#pragma once

#include <array>
#include <cstdint>

namespace foveal::sampler {

/// Philox4x32-10: four random words as a pure function of a counter and a key (Salmon, Moraes, Dror
/// and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011; the constants are the
/// paper's).
std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

/// A number in [0, 1), a multiple of 2^-53: the first two words of philox4x32 with counter
/// (index low, index high, 0, 0) and key (seed low, seed high).
double uniform_draw(uint64_t seed, uint64_t index);

}  // namespace foveal::sampler
