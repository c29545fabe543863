#include "server/guard.h"

#include <gtest/gtest.h>

namespace foveal::server {
namespace {

std::string request(const std::string& fields, const std::string& line = "POST /x HTTP/1.1") {
  return line + "\r\n" + fields + "\r\n";
}

int status_of(const std::string& bytes) {
  const auto result = read_head(bytes);
  const auto* error = std::get_if<GuardError>(&result);
  return error == nullptr ? 200 : error->status;
}

TEST(Guard, ReadsAHead) {
  const auto result = read_head(
      request("Host: a:8000\r\nContent-Length: 5\r\nX-Y:  z \r\n", "POST /v1/a?b=c?d HTTP/1.1"));
  const auto& head = std::get<RequestHead>(result);
  EXPECT_EQ(head.method, "POST");
  EXPECT_EQ(head.path, "/v1/a");
  EXPECT_EQ(head.query, "b=c?d");
  EXPECT_EQ(head.content_length, 5);
  EXPECT_EQ(head.field("x-y"), "z");
  EXPECT_TRUE(head.keep_alive);
  EXPECT_TRUE(head.has_body());
}

TEST(Guard, KeepAliveFollowsVersionAndField) {
  const auto keeps = [](const std::string& fields, const std::string& line) {
    return std::get<RequestHead>(read_head(request(fields, line))).keep_alive;
  };
  EXPECT_TRUE(keeps("Host: a\r\n", "GET / HTTP/1.1"));
  EXPECT_FALSE(keeps("Host: a\r\nConnection: x, Close\r\n", "GET / HTTP/1.1"));
  EXPECT_FALSE(keeps("", "GET / HTTP/1.0"));
  EXPECT_TRUE(keeps("Connection: keep-alive\r\n", "GET / HTTP/1.0"));
}

// Each of these is read differently by some server or proxy.
TEST(Guard, RefusesAmbiguousFraming) {
  EXPECT_EQ(status_of(request("Host: a\r\nTransfer-Encoding: chunked\r\n")), 200);
  const std::pair<const char*, int> kCases[] = {
      {"Host: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400},
      {"Host: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n", 400},
      {"Host: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n", 400},
      {"Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400},
      {"Host: a\r\nTransfer-Encoding: gzip\r\n", 501},
      {"Host: a\r\nTransfer-Encoding: chunked, gzip\r\n", 501},
      {"Host: a\r\nTransfer-Encoding: xchunked\r\n", 501},
      {"Host: a\r\nTransfer-Encoding: \r\n", 501},
      {"Host: a\r\nContent-Length: +5\r\n", 400},
      {"Host: a\r\nContent-Length: -5\r\n", 400},
      {"Host: a\r\nContent-Length: 0x5\r\n", 400},
      {"Host: a\r\nContent-Length: 5, 5\r\n", 400},
      {"Host: a\r\nContent-Length: \r\n", 400},
      {"Host: a\r\nContent-Length: 99999999999999999999\r\n", 400},
      {"Host: a\r\nContent-Length : 5\r\n", 400},
      {"Host: a\r\nX: y\r\n folded\r\n", 400},
      {"Host: a\r\nX: y\n\r\n", 400},
      {"Host: a\r\nX: y\rz\r\n", 400},
      {"Host: a\r\nnocolon\r\n", 400},
      {"Host: a\r\n: v\r\n", 400},
      {"X: y\r\n", 400},
      {"Host: a\r\nHost: a\r\n", 400},
      {"Host: \r\n", 400},
      {"Host: a/b\r\n", 400},
      {"Host: a\r\nExpect: magic\r\n", 417},
  };
  for (const auto& [fields, status] : kCases)
    EXPECT_EQ(status_of(request(fields)), status) << fields;
  EXPECT_EQ(status_of(request(std::string("Host: a\r\nX: \0\r\n", 15))), 400);
  EXPECT_EQ(status_of(request("Transfer-Encoding: chunked\r\n", "POST /x HTTP/1.0")), 400);
}

TEST(Guard, RefusesBadRequestLines) {
  EXPECT_EQ(status_of(request("Host: a\r\n", "GET /x HTTP/1.2")), 505);
  EXPECT_EQ(status_of(request("Host: a\r\n", "GET /x HTTP/2.0")), 505);
  for (const char* line : {"GET", "GET /x", "GET  HTTP/1.1", "GET x HTTP/1.1", "G{T /x HTTP/1.1",
                           "GET http://a/ HTTP/1.1", "GET /a b HTTP/1.1", "GET /\x01 HTTP/1.1",
                           "GET * HTTP/1.1", " GET /x HTTP/1.1", ""}) {
    EXPECT_GE(status_of(request("Host: a\r\n", line)), 400) << line;
  }
  EXPECT_EQ(status_of(request("Host: a\r\n", "OPTIONS * HTTP/1.1")), 200);
}

TEST(Guard, BoundsTheNumberOfFields) {
  std::string fields = "Host: a\r\n";
  for (int idx = 0; idx < 100; ++idx) fields += "a: b\r\n";
  EXPECT_EQ(status_of(request(fields)), 431);
}

TEST(Guard, SaysNothingOfTheRequest) {
  const auto result = read_head(request("Host: secret\r\nHost: secret\r\n"));
  EXPECT_EQ(std::get<GuardError>(result).message.find("secret"), std::string::npos);
}

}  // namespace
}  // namespace foveal::server
