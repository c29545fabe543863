#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "calibrate/law.h"
#include "foveal/llm.h"

namespace foveal::calibrate {

enum class Phase : uint8_t { kPrefill, kDecode };

/// Texts of one length: those that a law is fitted to, and those that it is checked on.
struct Texts {
  int64_t length = 0;
  std::vector<std::vector<int32_t>> fitted, held_out;
};

/// `count` texts of each kind and length. From the file they are neighbours, fitted and held-out
/// ones in turn; without one they are generated sentences. Throws kInvalidArgument where the file
/// is too short.
std::vector<Texts> make_texts(const LLM& llm, const std::string& file,
                              const std::vector<int64_t>& lengths, int64_t count, uint64_t seed);

/// What one factor did to some texts.
struct Probe {
  PhaseSparsity sparsity;
  double loss = 0;  ///< mean negative log likelihood of the tokens it concerns
  int64_t predictions = 0;
};

/// Runs texts through the serving kernels with one phase's factor (0: dense), the other phase
/// dense. In decode the last `decode_tokens` of a text are forced; its prompt is read once and
/// found in the prefix index after that.
Probe probe(LLM& llm, const std::vector<std::vector<int32_t>>& texts, Phase phase, double factor,
            int64_t decode_tokens);

}  // namespace foveal::calibrate
