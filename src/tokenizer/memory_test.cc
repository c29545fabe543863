#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>

#include "foveal/error.h"
#include "tokenizer/test_vocab.h"

namespace foveal::tokenizer {
namespace {

/// Whether `work` ends with kOutOfMemory in a process that may take `extra` bytes more.
bool refused_with(uint64_t extra, const std::function<void()>& work) {
  const pid_t child = fork();
  if (child == 0) {
    long pages = 0;
    FILE* file = std::fopen("/proc/self/statm", "r");
    if (file == nullptr || std::fscanf(file, "%ld", &pages) != 1) _exit(2);
    const rlim_t most = static_cast<rlim_t>(pages * sysconf(_SC_PAGESIZE)) + extra;
    const rlimit limit{most, most};
    if (setrlimit(RLIMIT_AS, &limit) != 0) _exit(2);
    try {
      work();
    } catch (const Error& error) {
      _exit(error.kind() == ErrorKind::kOutOfMemory ? 0 : 3);
    }
    _exit(1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

class TokenizerMemory : public testing::Test {
 protected:
  void SetUp() override {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    GTEST_SKIP() << "a sanitizer's shadow is larger than any limit";
#endif
    TestVocab test = byte_level_vocab();
    test.vocab.chat_template = "{{ messages[0].content }}";
    tokenizer_ = test.load();
    for (int i = 0; i < 200000; ++i) text_ += "hello ";
    messages_ = R"([{"role": "user", "content": ")" + text_ + "\"}]";
  }

  std::unique_ptr<Tokenizer> tokenizer_;
  std::string text_, messages_;
};

TEST_F(TokenizerMemory, LongTextsAreRefusedNotFatal) {
  EXPECT_TRUE(refused_with(100 << 20, [&] { tokenizer_->encode(text_, false); }));
  EXPECT_FALSE(refused_with(uint64_t{4} << 30, [&] { tokenizer_->encode(text_, false); }));
}

TEST_F(TokenizerMemory, LongChatsAreRefusedNotFatal) {
  const std::string& chat = tokenizer_->chat_template();
  EXPECT_TRUE(refused_with(100 << 20, [&] { render_chat(chat, messages_, "", "", {}); }));
  EXPECT_TRUE(refused_with(400 << 20, [&] { encode_chat(*tokenizer_, messages_, {}); }));
}

TEST_F(TokenizerMemory, AThreadThatCannotBeHadIsOutOfMemory) {
  // Long enough that no earlier test left a stack of this size to be used again.
  const std::string chat_template = "{#" + std::string(100000, 'x') + "#}";
  const auto render = [&] { render_chat(chat_template, "[]", "", "", {}); };
  EXPECT_TRUE(refused_with(50 << 20, render));
  EXPECT_FALSE(refused_with(500 << 20, render));
}

}  // namespace
}  // namespace foveal::tokenizer
