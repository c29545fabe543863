#pragma once

#include <string>

namespace foveal::eval {

/// A, B, C or D where an answer chooses one, else nothing. As LongBench v2 reads answers: stars and
/// what comes before the last `</think>` are left out; "The correct answer is (X)", then the same
/// without brackets, then the first of these letters that is a word by itself.
std::string chosen_letter(std::string answer);

}  // namespace foveal::eval
