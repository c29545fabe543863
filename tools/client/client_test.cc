// What the client is made of, without a server: tests/measure runs it against one.
#include <gtest/gtest.h>

#include <memory>
#include <stdexcept>

#include "client/http_client.h"
#include "client/openai.h"
#include "client/within.h"
#include "foveal/error.h"

namespace foveal::client {
namespace {

TEST(Url, IsCutIntoItsParts) {
  const Url plain = parse_url("http://127.0.0.1:8000", "url");
  EXPECT_EQ(plain.host + "|" + plain.port + "|" + plain.path, "127.0.0.1|8000|/v1");
  const Url tls = parse_url("https://api.example.org/openai/v1/", "url");
  EXPECT_TRUE(tls.tls);
  EXPECT_EQ(tls.host + "|" + tls.port + "|" + tls.path, "api.example.org|443|/openai/v1");
  const Url six = parse_url("http://[::1]:81/x", "url");
  EXPECT_EQ(six.host + "|" + six.port + "|" + six.path, "::1|81|/x");
  for (const char* text :
       {"", "localhost:8000", "ftp://a", "http://", "http://a:", "http://a:b", "http://a:123456",
        "http://a:99999", "http://a:0", "http://u@a", "http://a b", "http://a?b"}) {
    EXPECT_THROW(parse_url(text, "url"), Error) << text;
  }
}

TEST(Events, DoNotDependOnHowBytesArrive) {
  const std::string bytes =
      ": hello\r\ndata: one\n\ndata: two\ndata:  lines\r\n\r\nevent: x\n\ndata: cut";
  for (size_t step = 1; step <= bytes.size(); ++step) {
    std::vector<std::string> got;
    EventReader reader;
    for (size_t at = 0; at < bytes.size(); at += step) {
      reader.feed(std::string_view(bytes).substr(at, step),
                  [&](std::string_view data) { got.emplace_back(data); });
    }
    EXPECT_EQ(got, (std::vector<std::string>{"one", "two\n lines"})) << step;
  }
}

TEST(Events, WithoutAnEndAreRefused) {
  const auto fed = [](const std::string& piece, size_t count) {
    EventReader reader;
    for (size_t idx = 0; idx < count; ++idx) reader.feed(piece, [](std::string_view) {});
  };
  const std::string line = "data: " + std::string((1 << 20) - 7, 'x') + "\n";
  EXPECT_NO_THROW(fed(line, kMostEvent >> 20));
  EXPECT_NO_THROW(fed(line + "\n", 20));
  for (const std::string& piece : {std::string(1 << 20, 'x'), line}) {
    try {
      fed(piece, 17);
      ADD_FAILURE() << "kept 17 MiB";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kIo);
      EXPECT_TRUE(std::string_view(error.what()).starts_with("[stream] got ")) << error.what();
    }
  }
}

TEST(Within, WaitsNoLongerThanItsLimit) {
  using namespace std::chrono_literals;
  // What the work waits for outlives this test, as whatever it touches must.
  const auto gate = std::make_shared<std::promise<int>>();
  const std::function<int()> held = [gate] { return gate->get_future().get(); };
  EXPECT_EQ(within<int>(1ms, held), std::nullopt);
  gate->set_value(0);
  EXPECT_EQ(within<int>(1h, [] { return 7; }), 7);
  EXPECT_THROW(within<int>(1h, []() -> int { throw std::runtime_error("no"); }),
               std::runtime_error);
}

}  // namespace
}  // namespace foveal::client
