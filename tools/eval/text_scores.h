#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace foveal::eval {

// How LongBench (arXiv 2308.14508) scores an answer against one reference, in [0, 1]. Texts are
// UTF-8; letters, digits and blanks are Unicode's.

/// F1 over words in any order, case, punctuation and articles left out.
double qa_f1(const std::string& answer, const std::string& reference);

/// ROUGE-L over a summary's sentences, as the Python package `rouge` computes it: the distinct
/// words of the longest common subsequences of all pairs of sentences.
double rouge_l(const std::string& answer, const std::string& reference);

/// 1 over the number of classes that the answer names, where the right one is among them. A class
/// whose name is part of the right one's does not count.
double classification(const std::string& answer, const std::string& reference,
                      const std::vector<std::string>& classes);

/// The share of numbers in the answer that are the reference's; in the reference it follows
/// `before`, a word such as "Paragraph ".
double retrieval(const std::string& answer, const std::string& reference, std::string_view before);
/// Likewise, where the reference is a number.
double counting(const std::string& answer, const std::string& reference);

/// Of the answer's first line that is no comment or fence: 1 - edits / length, where an edit is one
/// character inserted or deleted, rounded to hundredths.
double code_similarity(const std::string& answer, const std::string& reference);

/// The answer up to its first line's end, blank lines before it left out.
std::string first_line(const std::string& answer);

}  // namespace foveal::eval
