// RULER's questions about documents, of a file that the user gives or made up: villages, their
// mayors and their districts.
#include <fmt/format.h>

#include <algorithm>

#include "eval/ruler_tasks.h"

namespace foveal::eval {
namespace {

using measure::Random;

std::string capital(std::string word) {
  word[0] = static_cast<char>(word[0] - 'a' + 'A');
  return word;
}

/// Names that occur once each.
class Names {
 public:
  Names(Random& random, size_t count) : words_(random_words(random, count)) {}
  std::string next() { return capital(words_.at(next_++)); }

 private:
  std::vector<std::string> words_;
  size_t next_ = 0;
};

constexpr size_t kNamesEach = 6;

struct Village {
  std::string name, mayor, district;
  std::string village_document() const {
    return fmt::format(
        "{} is a village in the district of {}. It has a market on Thursdays and an old stone "
        "bridge.",
        name, district);
  }
  std::string mayor_document() const {
    return fmt::format("{} was born in {} and is its mayor. Before that {} kept a small orchard.",
                       mayor, name, mayor);
  }
};

Village village(Names& names) {
  Village out{.name = names.next()};
  out.mayor = fmt::format("{} {}", names.next(), names.next());
  out.district = names.next();
  return out;
}

Draft ask(const Question& question, std::vector<std::string> documents, Random& random) {
  random.shuffle(documents);
  std::string context;
  for (size_t idx = 0; idx < documents.size(); ++idx) {
    context += fmt::format("Document {}:\n{}\n\n", idx + 1, documents[idx]);
  }
  constexpr const char* kRule =
      "Answer the question based on the given documents. Only give me the answer and do not output "
      "any other words.";
  return {.user = fmt::format("{}\n\nThe following are given documents.\n\n{}{}\n\nQuestion: {}",
                              kRule, context, kRule, question.text),
          .prefix = "Answer:",
          .references = question.answers};
}

Draft of_file(const Materials& materials, Random& random, size_t units) {
  const size_t chosen = random.below(materials.questions.size());
  const Question& question = materials.questions[chosen];
  std::vector<std::string> documents = question.documents;
  for (size_t step = 1; step < materials.questions.size() && documents.size() <= units; ++step) {
    const Question& other = materials.questions[(chosen + step) % materials.questions.size()];
    for (const std::string& document : other.documents) {
      if (documents.size() > units) break;
      documents.push_back(document);
    }
  }
  return ask(question, std::move(documents), random);
}

Draft made_up(Random& random, size_t units, bool two_steps) {
  Names names(random, (units + 1) * kNamesEach);
  const Village asked = village(names);
  Question question{.text = fmt::format("Who is the mayor of {}?", asked.name),
                    .answers = {asked.mayor},
                    .documents = {asked.mayor_document()}};
  if (two_steps) {
    question = {.text = fmt::format("In which district was {} born?", asked.mayor),
                .answers = {asked.district},
                .documents = {asked.mayor_document(), asked.village_document()}};
  }
  std::vector<std::string> documents = question.documents;
  for (size_t idx = 0; idx < units; ++idx) {
    const Village other = village(names);
    documents.push_back(idx % 2 == 0 ? other.mayor_document() : other.village_document());
  }
  return ask(question, std::move(documents), random);
}

}  // namespace

Draft single_hop(const Materials& materials, Random random, size_t units) {
  if (!materials.questions.empty()) return of_file(materials, random, units);
  return made_up(random, units, /*two_steps=*/false);
}

Draft two_hops(const Materials& materials, Random random, size_t units) {
  if (!materials.questions.empty()) return of_file(materials, random, units);
  return made_up(random, units, /*two_steps=*/true);
}

}  // namespace foveal::eval
