#pragma once

#include <cstddef>
#include <cstdint>

#include "device/stream.h"

namespace foveal::kernels::cuda {

/// What one row of logits is sampled by. The fields and their order of use are those of
/// sampler/choice.h and sampler/rules.h.
struct SampleRow {
  double temperature = 0;  ///< 0: the best entry
  double top_p = 1;
  double min_p = 0;
  double repetition = 1;  ///< penalties, used by the row's edits
  double presence = 0;
  double frequency = 0;
  uint64_t seed = 0;
  uint64_t index = 0;  ///< the draw's number: tokens generated so far
  int64_t top_k = 0;
};

/// What happens to one logit of a row before it is sampled. At most one edit a token and row.
struct LogitEdit {
  enum : uint32_t { kBias = 1, kBan = 2, kPenalise = 4 };
  int32_t token = 0;
  uint32_t what = 0;      ///< any of the above, in LogitRules' order: bias, ban, penalise
  int64_t generated = 0;  ///< kPenalise: times generated; 0: in the prompt only
  double bias = 0;
};

/// Why a row has no token.
enum SampleFlag : uint32_t {
  kSampleFine = 0,
  kSampleBadLogit = 1,  ///< a NaN or +inf before the edits, or -inf everywhere: a model's fault
  kSampleAllBanned = 2  ///< -inf everywhere after the edits: a request's fault
};

/// Tokens of all rows in one launch. The chosen token is that of sampler::Sampler for the same
/// logits, except where the draw, or the share of top_p, falls nearly on a boundary between tokens:
/// the draw's sums run in double in another order (about 2^-45 of the sum), top_p's in fixed point
/// with steps of 2^-44 of the best entry (at most 2^-26 of it for the largest vocabulary, and exact
/// for equal logits). The same launch gives the same tokens every time, whatever rows are beside.
struct SampleParams {
  const float* logits = nullptr;  ///< [m, vocab], row stride logits_stride; 16-byte rows
  int64_t m = 0;
  int32_t vocab = 0;  ///< at most kMaxSampleVocab
  int64_t logits_stride = 0;
  const SampleRow* rows = nullptr;         ///< [m]
  const LogitEdit* edits = nullptr;        ///< all rows' edits, or null
  const int32_t* edit_begin = nullptr;     ///< [m + 1] into edits; null when edits is
  const uint32_t* allowed = nullptr;       ///< [masks, allowed_stride] bits, lowest first, or null
  int64_t allowed_stride = 0;              ///< words, >= ceil(vocab / 32)
  const int32_t* allowed_index = nullptr;  ///< [m]: the row's mask, negative: none; null: row i
  int32_t* tokens = nullptr;               ///< [m]; 0 where flags are set
  uint32_t* flags = nullptr;               ///< [m] SampleFlag, or null
};
void sample(const SampleParams& params, Stream& stream);

inline constexpr int32_t kMaxSampleVocab = 8 * 49152;

}  // namespace foveal::kernels::cuda
