#include "eval/longbench_v1_sets.h"

#include <array>

#include "eval/text_scores.h"

namespace foveal::eval {
namespace {

using Classes = std::vector<std::string>;

double f1(const std::string& answer, const std::string& reference, const Classes& /*classes*/) {
  return qa_f1(answer, reference);
}
double rouge(const std::string& answer, const std::string& reference, const Classes& /*classes*/) {
  return rouge_l(answer, reference);
}
double paragraph(const std::string& answer, const std::string& reference,
                 const Classes& /*classes*/) {
  return retrieval(answer, reference, "Paragraph ");
}
double paragraph_zh(const std::string& answer, const std::string& reference,
                    const Classes& /*classes*/) {
  return retrieval(answer, reference, "段落");
}
double count(const std::string& answer, const std::string& reference, const Classes& /*classes*/) {
  return counting(answer, reference);
}
double code(const std::string& answer, const std::string& reference, const Classes& /*classes*/) {
  return code_similarity(answer, reference);
}

constexpr std::string_view kStory =
    "Below is a story, and after it a question about it. Answer in a phrase as short as can be, "
    "and "
    "without any explanation.\n\nStory: {context}\n\nThe question about the story, again to be "
    "answered in a short phrase:\n\nQuestion: {input}\n\nAnswer:";
constexpr std::string_view kArticle =
    "Below is a scientific article, and after it a question. Answer as briefly as you can, with "
    "one "
    "phrase or sentence. Write \"unanswerable\" where the article does not say; to a yes-or-no "
    "question answer \"yes\", \"no\" or \"unanswerable\". Explain nothing.\n\nArticle: "
    "{context}\n\n"
    "The question about the article, to be answered in the same way:\n\nQuestion: "
    "{input}\n\nAnswer:";
constexpr std::string_view kText =
    "Read this text and answer briefly.\n\n{context}\n\nAnswer the question about the text above "
    "with the answer alone and nothing else.\n\nQuestion: {input}\nAnswer:";
constexpr std::string_view kPassages =
    "Answer the question from the passages below, with the answer alone and nothing else.\n\n"
    "Passages:\n{context}\n\nAnswer the question from the passages above, with the answer alone "
    "and "
    "nothing else.\n\nQuestion: {input}\nAnswer:";
constexpr std::string_view kReport =
    "Below is a report by a government agency. Summarise it on one page.\n\nReport:\n{context}\n\n"
    "Now summarise the report on one page.\n\nSummary:";
constexpr std::string_view kMeeting =
    "Below is the transcript of a meeting, and after it a question or an instruction. Answer in "
    "one "
    "or more sentences.\n\nTranscript:\n{context}\n\nAnswer the following from the transcript in "
    "one "
    "or more sentences.\n\nQuery: {input}\nAnswer:";
constexpr std::string_view kNews =
    "Below are several news articles. Summarise them on one page.\n\nNews:\n{context}\n\nNow "
    "summarise all of the news on one page.\n\nSummary:";
constexpr std::string_view kKind =
    "Tell the type of each question, as in the examples.\n\n{context}\n{input}";
constexpr std::string_view kTrivia =
    "Answer the question from the passage before it, with the answer alone. Some examples come "
    "first.\n\n{context}\n\n{input}";
constexpr std::string_view kDialogue =
    "Summarise the dialogue in a few short sentences. Some examples come first.\n\n{context}\n\n"
    "{input}";
constexpr std::string_view kKindZh = "请判断给定新闻的类别，下面是一些例子。\n\n{context}\n{input}";
constexpr std::string_view kCount =
    "Below are paragraphs, some of which are repeated. Read them with care and find how many "
    "different ones there are.\n\n{context}\n\nHow many different paragraphs are there? Answer "
    "with "
    "the number alone, such as 1, 2, 3.\n\nThe answer is: ";
constexpr std::string_view kWhich =
    "Here are 30 paragraphs, and after them a summary of one of them. Find which "
    "one.\n\n{context}\n\n"
    "The summary:\n\n{input}\n\nWrite the number of the paragraph that it summarises, in the form "
    "\"Paragraph 1\", \"Paragraph 2\".\n\nThe answer is: ";
constexpr std::string_view kWhichZh =
    "以下是若干段落和其中一段的摘要，请找出摘要出自哪一段。\n\n{context}\n\n摘要：\n\n{input}\n\n"
    "请写出该段落的编号，格式如“段落1”、“段落2”。\n\n答案是：";
constexpr std::string_view kLine = "Write the next line of this code.\n{context}Next line:\n";
constexpr std::string_view kLineOf =
    "Write the next line of this code.\n{context}{input}Next line:\n";

constexpr std::string_view kOne = "single_document_qa";
constexpr std::string_view kSeveral = "multi_document_qa";
constexpr std::string_view kSummary = "summarization";
constexpr std::string_view kFew = "few_shot";
constexpr std::string_view kMade = "synthetic";
constexpr std::string_view kCode = "code_completion";

}  // namespace

std::span<const LongBenchSet> longbench_sets() {
  static constexpr std::array<LongBenchSet, 21> kSets{{
      {"narrativeqa", kOne, f1, 128, true, false, kStory},
      {"qasper", kOne, f1, 128, true, false, kArticle},
      {"multifieldqa_en", kOne, f1, 64, true, false, kText},
      {"multifieldqa_zh", kOne, nullptr, 64, true, false, ""},
      {"hotpotqa", kSeveral, f1, 32, true, false, kPassages},
      {"2wikimqa", kSeveral, f1, 32, true, false, kPassages},
      {"musique", kSeveral, f1, 32, true, false, kPassages},
      {"dureader", kSeveral, nullptr, 128, true, false, ""},
      {"gov_report", kSummary, rouge, 512, true, false, kReport},
      {"qmsum", kSummary, rouge, 512, true, false, kMeeting},
      {"multi_news", kSummary, rouge, 512, true, false, kNews},
      {"vcsum", kSummary, nullptr, 512, true, false, ""},
      {"trec", kFew, classification, 64, false, true, kKind},
      {"triviaqa", kFew, f1, 32, false, true, kTrivia},
      {"samsum", kFew, rouge, 128, false, true, kDialogue},
      {"lsht", kFew, classification, 64, false, true, kKindZh},
      {"passage_count", kMade, count, 32, true, false, kCount},
      {"passage_retrieval_en", kMade, paragraph, 32, true, false, kWhich},
      {"passage_retrieval_zh", kMade, paragraph_zh, 32, true, false, kWhichZh},
      {"lcc", kCode, code, 64, false, false, kLine},
      {"repobench-p", kCode, code, 64, false, false, kLineOf},
  }};
  return kSets;
}

}  // namespace foveal::eval
