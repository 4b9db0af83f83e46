#include "control/http.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace doppel::control {
namespace {

using Status = ParsedRequest::Status;
using testing::HasSubstr;

TEST(ParseRequest, ReadsMethodTargetAndBody) {
  const std::string text = "PUT /actions?x=1 HTTP/1.1\r\nHost: localhost\r\ncontent-length: 4\r\n\r\nbodyNEXT";
  const ParsedRequest parsed = parse_request(text);
  ASSERT_EQ(parsed.status, Status::Complete);
  EXPECT_EQ(parsed.request.method, "PUT");
  EXPECT_EQ(parsed.request.target, "/actions");
  EXPECT_EQ(parsed.request.body, "body");
  EXPECT_TRUE(parsed.request.keep_alive);
  EXPECT_EQ(parsed.consumed, text.size() - 4);
}

TEST(ParseRequest, NeedsEveryByte) {
  const std::string text = "PUT /actions HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody";
  for (std::size_t length = 0; length < text.size(); ++length) {
    EXPECT_EQ(parse_request(text.substr(0, length)).status, Status::Incomplete) << length;
  }
  EXPECT_EQ(parse_request(text).status, Status::Complete);
}

TEST(ParseRequest, KnowsWhenTheConnectionEnds) {
  EXPECT_FALSE(parse_request("GET / HTTP/1.0\r\n\r\n").request.keep_alive);
  EXPECT_FALSE(parse_request("GET / HTTP/1.1\r\nConnection: Close\r\n\r\n").request.keep_alive);
}

TEST(ParseRequest, SaysWhenTheClientWaits) {
  const std::string head = "PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n";
  EXPECT_TRUE(parse_request(head).expects_continue);
  EXPECT_EQ(parse_request(head + "x").status, Status::Complete);
}

TEST(ParseRequest, RefusesWhatIsNotARequest) {
  struct Case {
    int status;
    std::string text;
  };
  const std::vector<Case> cases{
      {400, "GET\r\n\r\n"},
      {400, "GET /\r\n\r\n"},
      {400, "GET nowhere HTTP/1.1\r\n\r\n"},
      {400, " / HTTP/1.1\r\n\r\n"},
      {400, "GET /\x01 HTTP/1.1\r\n\r\n"},
      {400, "\r\n\r\n"},
      {505, "GET / HTTP/2\r\n\r\n"},
      {505, "GET / x HTTP/1.1\r\n\r\n"},
      {400, "GET / HTTP/1.1\r\nno colon\r\n\r\n"},
      {400, "GET / HTTP/1.1\r\nName : value\r\n\r\n"},
      {400, "GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"},
      {400, "GET / HTTP/1.1\r\nContent-Length: 1x\r\n\r\n"},
      {400, "GET / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n"},
      {400, "GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"},
      {413, "GET / HTTP/1.1\r\nContent-Length: 65537\r\n\r\n"},
      {501, "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"},
      {431, "GET /" + std::string(kMaxHead, 'a')},
      {431, "GET / HTTP/1.1\r\nA: " + std::string(kMaxHead, 'a') + "\r\n\r\n"},
  };
  for (const Case& c : cases) {
    const ParsedRequest parsed = parse_request(c.text);
    ASSERT_EQ(parsed.status, Status::Refused) << c.text.substr(0, 80);
    EXPECT_EQ(parsed.refusal.status, c.status) << c.text.substr(0, 80);
    EXPECT_THAT(parsed.refusal.body, HasSubstr("fault_message"));
  }
}

TEST(FormatResponse, GivesLengthsExceptWithNoContent) {
  EXPECT_EQ(format_response({200, "{}"}, true),
            "HTTP/1.1 200 OK\r\nServer: doppel\r\nConnection: keep-alive\r\nContent-Type: application/json\r\n"
            "Content-Length: 2\r\n\r\n{}");
  EXPECT_EQ(format_response({204, {}}, false),
            "HTTP/1.1 204 No Content\r\nServer: doppel\r\nConnection: close\r\n\r\n");
}

TEST(Fault, IsValidJsonWhateverTheMessage) {
  EXPECT_EQ(fault(400, "a \"b\"").body, R"({"fault_message":"a \"b\""})");
  EXPECT_THAT(fault(400, "\xFF").body, HasSubstr("fault_message"));
}

TEST(ParseResponse, RoundTrips) {
  const auto response = parse_response(format_response({200, R"({"a":1})"}, false));
  ASSERT_TRUE(response);
  EXPECT_EQ(response->status, 200);
  EXPECT_EQ(response->body, R"({"a":1})");
  ASSERT_TRUE(parse_response(format_response({204, {}}, false)));
}

TEST(ParseResponse, RefusesTruncation) {
  const std::string whole = format_response({200, R"({"a":1})"}, false);
  for (std::size_t length = 0; length < whole.size(); ++length) EXPECT_FALSE(parse_response(whole.substr(0, length)));
}

TEST(FormatRequest, IsWhatParseRequestReads) {
  const ParsedRequest parsed = parse_request(format_request("PATCH", "/vm", R"({"state":"Paused"})"));
  ASSERT_EQ(parsed.status, Status::Complete);
  EXPECT_EQ(parsed.request.body, R"({"state":"Paused"})");
  EXPECT_FALSE(parsed.request.keep_alive);
}

}  // namespace
}  // namespace doppel::control
