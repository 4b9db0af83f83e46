#include "control/server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <list>
#include <thread>

#include "base/temporary_directory.h"
#include "control/api.h"
#include "control/client.h"
#include "control/fake_vm.h"
#include "control/loop_thread.h"
#include "control/unix_socket.h"

namespace doppel::control {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

class ServerTest : public testing::Test {
 protected:
  ServerTest() {
    thread_.run([this] {
      server_.emplace(thread_.loop(), listen_unix(path_).value(),
                      [this](const HttpRequest& request) { return answer(request, vm_); });
    });
  }
  ~ServerTest() override {
    thread_.run([this] { server_.reset(); });
  }

  UniqueFd connect() { return connect_unix(path_).value(); }

  test::TemporaryDirectory directory_;
  std::string path_ = directory_ / "control.sock";
  test::FakeVm vm_;
  test::LoopThread thread_;
  std::optional<HttpServer> server_;
};

void send(const UniqueFd& fd, const std::string& text) {
  EXPECT_EQ(::send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
}

/// Until `end` has come, or the other side has closed.
std::string receive(const UniqueFd& fd, const std::string& end) {
  std::string text;
  std::array<char, 4096> buffer{};
  while (end.empty() || !text.ends_with(end)) {
    const ssize_t got = ::read(fd.get(), buffer.data(), buffer.size());
    if (got <= 0) break;
    text.append(buffer.data(), static_cast<std::size_t>(got));
  }
  return text;
}

TEST_F(ServerTest, AnswersTheClient) {
  const auto response = call(path_, "GET", "/");
  ASSERT_TRUE(response) << response.error().message;
  EXPECT_THAT(response->body, HasSubstr("\"id\":\"fake\""));
  ASSERT_TRUE(call(path_, "PUT", "/vm/stop"));
  const auto wrong = call(path_, "PATCH", "/vm", R"({"state":"Flying"})");
  ASSERT_FALSE(wrong);
  EXPECT_THAT(wrong.error().message, HasSubstr("use Paused or Resumed"));
  thread_.run([this] { EXPECT_EQ(vm_.asked, "power "); });
}

TEST_F(ServerTest, ServesManyRequestsOnOneConnection) {
  const UniqueFd client = connect();
  for (int i = 0; i < 3; ++i) {
    send(client, "PUT /vm/stop HTTP/1.1\r\n\r\n");
    EXPECT_THAT(receive(client, "\r\n\r\n"), StartsWith("HTTP/1.1 204"));
  }
  // Pipelined, and cut at an awkward place.
  send(client, "PUT /vm/stop HTTP/1.1\r\n\r\nPUT /vm/st");
  receive(client, "\r\n\r\n");
  send(client, "op HTTP/1.1\r\nConnection: close\r\n\r\n");
  EXPECT_THAT(receive(client, ""), HasSubstr("Connection: close"));
  thread_.run([this] { EXPECT_EQ(vm_.asked, "power power power power power "); });
}

TEST_F(ServerTest, TellsAWaitingClientToGoOn) {
  const UniqueFd client = connect();
  send(client, "PATCH /vm HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 18\r\n\r\n");
  EXPECT_THAT(receive(client, "\r\n\r\n"), StartsWith("HTTP/1.1 100 Continue"));
  send(client, R"({"state":"Paused"})");
  EXPECT_THAT(receive(client, "\r\n\r\n"), StartsWith("HTTP/1.1 204"));
}

TEST_F(ServerTest, ClosesAfterWhatIsNotHttp) {
  const UniqueFd client = connect();
  send(client, "SSH-2.0-x\r\n\r\n");
  EXPECT_THAT(receive(client, ""), HasSubstr("400 Bad Request"));
}

TEST_F(ServerTest, SurvivesClientsThatLeave) {
  for (const char* text : {"", "GET", "GET / HTTP/1.1\r\n\r\n", "PUT / HTTP/1.1\r\nContent-Length: 9\r\n\r\nx"}) {
    const UniqueFd client = connect();
    send(client, text);
  }
  EXPECT_TRUE(call(path_, "GET", "/"));
}

TEST_F(ServerTest, TakesALimitedNumberAtOnceAndTheRestLater) {
  std::list<UniqueFd> idle;
  for (std::size_t i = 0; i < HttpServer::kMaxConnections; ++i) {
    idle.push_back(connect());
    send(idle.back(), "PUT /vm/stop HTTP/1.1\r\n\r\n");
    receive(idle.back(), "\r\n\r\n");
  }
  thread_.run([this] { EXPECT_EQ(server_->connections(), HttpServer::kMaxConnections); });
  const UniqueFd late = connect();
  send(late, "PUT /vm/kill HTTP/1.1\r\nConnection: close\r\n\r\n");
  thread_.run([this] { EXPECT_EQ(server_->connections(), HttpServer::kMaxConnections); });
  idle.pop_front();
  EXPECT_THAT(receive(late, ""), StartsWith("HTTP/1.1 204"));
}

TEST(UnixSocket, LongPathsWork) {
  const test::TemporaryDirectory directory;
  const std::string path = directory / std::string(150, 'x');
  const auto too_long = listen_unix(path);
  EXPECT_FALSE(too_long) << "a file name of 150 bytes does not fit, even by its directory";
  const std::string deep = directory / std::string(120, 'd');
  ASSERT_EQ(::mkdir(deep.c_str(), 0700), 0);
  const auto listener = listen_unix(deep + "/control.sock");
  ASSERT_TRUE(listener) << listener.error().message;
  EXPECT_TRUE(connect_unix(deep + "/control.sock"));
}

TEST(Client, NobodyThereIsAnError) {
  const test::TemporaryDirectory directory;
  EXPECT_FALSE(call(directory / "none", "GET", "/"));
}

TEST(Client, DoesNotWaitForEver) {
  const test::TemporaryDirectory directory;
  const auto listener = listen_unix(directory / "mute");
  ASSERT_TRUE(listener);
  const auto response = call(directory / "mute", "GET", "/", {}, std::chrono::milliseconds(20));
  ASSERT_FALSE(response);
  EXPECT_THAT(response.error().message, HasSubstr("does not answer"));
}

TEST_F(ServerTest, AnAnswerMayComeLater) {
  const auto made = call(path_, "PUT", "/snapshot/create", R"({"tag":"s1"})");
  ASSERT_TRUE(made) << made.error().message;
  EXPECT_THAT(made->body, HasSubstr("\"tag\":\"s1\""));
  const auto failed = call(path_, "PUT", "/snapshot/create", R"({"tag":"fails"})");
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().message, "the disk is full");
}

TEST_F(ServerTest, WhoWaitsForAnAnswerDoesNotKeepOthersFromTheirs) {
  const UniqueFd waiting = connect();
  const std::string body = R"({"tag":"slow"})";
  send(waiting, "PUT /snapshot/create HTTP/1.1\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
  while (!vm_.slow) std::this_thread::yield();
  EXPECT_TRUE(call(path_, "GET", "/"));
  vm_.finish_slow();
  EXPECT_THAT(receive(waiting, "}"), HasSubstr("slow"));
}

TEST_F(ServerTest, WhoHasGoneGetsNoLateAnswer) {
  {
    const UniqueFd gone = connect();
    const std::string body = R"({"tag":"slow"})";
    send(gone, "PUT /snapshot/create HTTP/1.1\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
    while (!vm_.slow) std::this_thread::yield();
  }
  const UniqueFd next = connect();
  EXPECT_TRUE(call(path_, "GET", "/"));
  vm_.finish_slow();
  EXPECT_TRUE(call(path_, "GET", "/"));
  send(next, "GET /version HTTP/1.1\r\n\r\n");
  EXPECT_THAT(receive(next, "}"), HasSubstr("doppel_version")) << "and not what was meant for another";
}

}  // namespace
}  // namespace doppel::control
