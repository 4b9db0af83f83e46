#include "snapshot/keeper.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <thread>

#include "base/temporary_directory.h"

namespace doppel::snapshot {
namespace {

using testing::HasSubstr;

class KeeperTest : public testing::Test {
 protected:
  KeeperTest() {
    std::array<int, 2> ends{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()), 0);
    ours_ = UniqueFd(ends[0]);
    service_ = std::thread([this, theirs = ends[1]] {
      serve_keeper(theirs, store_);
      ::close(theirs);
    });
  }
  ~KeeperTest() override { end(); }
  void end() {
    ours_.reset();
    if (service_.joinable()) service_.join();
  }

  test::TemporaryDirectory directory_;
  const Store store_{directory_.path()};
  UniqueFd ours_;
  std::thread service_;
};

TEST_F(KeeperTest, OpensTheFilesOfASnapshotAndPutsThemInPlace) {
  Keeper keeper(ours_.get());
  ASSERT_TRUE(keeper.bind("web"));
  const Result<Keeper::Files> files = keeper.begin("s1", std::nullopt);
  ASSERT_TRUE(files) << files.error().message;
  EXPECT_EQ(files->layers_below, 0U);
  ASSERT_TRUE(write_all(files->manifest.get(), std::as_bytes(std::span{"{}", 2})));
  ASSERT_TRUE(keeper.commit());
  EXPECT_TRUE(std::filesystem::exists(store_.directory("web", "s1") + "/ram.0"));
  EXPECT_EQ(std::filesystem::file_size(store_.directory("web", "s1") + "/manifest.json"), 2U);
  const Result<Keeper::Files> again = keeper.begin("s1", std::nullopt);
  ASSERT_FALSE(again);
  EXPECT_THAT(again.error().message, HasSubstr("already"));
}

TEST_F(KeeperTest, AbortsLeaveNothing) {
  Keeper keeper(ours_.get());
  ASSERT_TRUE(keeper.bind("web"));
  ASSERT_TRUE(keeper.begin("s1", std::nullopt));
  keeper.abort();
  EXPECT_TRUE(std::filesystem::is_empty(directory_ / "web"));
  EXPECT_FALSE(keeper.commit());
  ASSERT_TRUE(keeper.begin("s1", std::nullopt));
  end();
  EXPECT_TRUE(std::filesystem::is_empty(directory_ / "web")) << "the machine has died";
}

TEST_F(KeeperTest, ServesOneMachineAndItsNames) {
  Keeper keeper(ours_.get());
  EXPECT_FALSE(keeper.begin("s1", std::nullopt)) << "whose?";
  EXPECT_FALSE(keeper.bind("../web"));
  EXPECT_FALSE(keeper.bind("web")) << "the first word counts";
}

TEST_F(KeeperTest, WhatAMachineSaysIsNotBelieved) {
  Keeper keeper(ours_.get());
  ASSERT_TRUE(keeper.bind("web"));
  EXPECT_FALSE(keeper.bind("db"));
  for (const char* request : {"begin ../x", "begin", "open /etc/passwd", "begin s1/../../x", "commit"}) {
    ASSERT_GT(::send(ours_.get(), request, std::strlen(request), 0), 0);
    std::array<char, 4096> answer{};
    ASSERT_GT(::recv(ours_.get(), answer.data(), answer.size() - 1, 0), 0);
    EXPECT_THAT(answer.data(), testing::StartsWith("error ")) << request;
  }
}

}  // namespace
}  // namespace doppel::snapshot
