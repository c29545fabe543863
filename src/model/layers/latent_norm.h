#pragma once

namespace foveal::model {

/// Of the norms of latents and of index keys, whatever rms_norm_eps says.
inline constexpr float kLatentNormEps = 1e-6F;

}  // namespace foveal::model
