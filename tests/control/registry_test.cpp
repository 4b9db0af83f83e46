#include "control/registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/temporary_directory.h"

namespace doppel::control {
namespace {

using test::TemporaryDirectory;
using testing::HasSubstr;

class RegistryTest : public testing::Test {
 protected:
  std::vector<std::string> names() {
    std::vector<std::string> result;
    const auto running = registry_.list();
    EXPECT_TRUE(running);
    for (const RunningVm& vm : *running) result.push_back(vm.name);
    return result;
  }

  /// A process that claims `name` and dies without cleaning up.
  void crash_with(const std::string& name) {
    const pid_t child = ::fork();
    if (child == 0) {
      const auto claimed = registry_.claim(name);
      ::_exit(claimed ? 0 : 1);  // no destructor runs
    }
    int status = -1;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_EQ(status, 0);
  }

  TemporaryDirectory directory_;
  Registry registry_{directory_.path()};
};

TEST_F(RegistryTest, ListsWhatIsClaimedAndForgetsWhatEnds) {
  {
    auto web = registry_.claim("web");
    ASSERT_TRUE(web) << web.error().message;
    auto db = registry_.claim("db");
    ASSERT_TRUE(db);
    EXPECT_EQ(names(), (std::vector<std::string>{"db", "web"}));
    const auto found = registry_.find("web");
    ASSERT_TRUE(found);
    EXPECT_EQ(found->pid, ::getpid());
    EXPECT_GT(found->started, 0);
    EXPECT_EQ(found->paths.control_socket(), directory_ / "web/control.sock");
  }
  EXPECT_TRUE(names().empty());
  EXPECT_FALSE(std::filesystem::exists(directory_ / "web"));
  EXPECT_THAT(registry_.find("web").error().message, HasSubstr("no machine named web"));
}

TEST_F(RegistryTest, ANameIsTakenOnce) {
  const auto first = registry_.claim("web");
  ASSERT_TRUE(first);
  const auto second = registry_.claim("web");
  ASSERT_FALSE(second);
  EXPECT_THAT(second.error().message, HasSubstr("running already"));
}

TEST_F(RegistryTest, InventsFreeNames) {
  const auto first = registry_.claim("");
  const auto second = registry_.claim("");
  ASSERT_TRUE(first);
  ASSERT_TRUE(second);
  EXPECT_EQ(first->name(), "vm1");
  EXPECT_EQ(second->name(), "vm2");
}

TEST_F(RegistryTest, StaleEntriesCleanThemselvesUp) {
  crash_with("web");
  EXPECT_TRUE(std::filesystem::exists(directory_ / "web/pid"));
  EXPECT_TRUE(names().empty());
  EXPECT_FALSE(std::filesystem::exists(directory_ / "web"));
}

TEST_F(RegistryTest, ADirectoryWithMoreThanAnEntryStaysWhole) {
  const std::filesystem::path kept = directory_ / "snapshots/web/manifest.json";
  std::filesystem::create_directories(kept.parent_path());
  std::ofstream(kept) << "{}";
  EXPECT_TRUE(names().empty());
  EXPECT_TRUE(std::filesystem::exists(kept));
  const auto claimed = registry_.claim("snapshots");
  ASSERT_FALSE(claimed);
  EXPECT_THAT(claimed.error().message, HasSubstr("choose another --name"));
  EXPECT_TRUE(std::filesystem::exists(kept));
}

TEST_F(RegistryTest, AStaleNameMayBeTaken) {
  crash_with("web");
  std::ofstream(directory_ / "web/control.sock") << "left behind";
  const auto claimed = registry_.claim("web");
  ASSERT_TRUE(claimed) << claimed.error().message;
  EXPECT_FALSE(std::filesystem::exists(directory_ / "web/control.sock"));
}

TEST_F(RegistryTest, OneWinnerAmongProcesses) {
  std::array<int, 2> start{};
  ASSERT_EQ(::pipe(start.data()), 0);
  std::array<int, 2> stay{};
  ASSERT_EQ(::pipe(stay.data()), 0);
  std::vector<pid_t> children;
  for (int i = 0; i < 8; ++i) {
    const pid_t child = ::fork();
    if (child == 0) {
      ::close(start[1]);
      ::close(stay[1]);
      char byte = 0;
      [[maybe_unused]] ssize_t got = ::read(start[0], &byte, 1);
      const auto claimed = registry_.claim("web");
      if (!claimed) ::_exit(1);
      got = ::read(stay[0], &byte, 1);  // a winner stays until all have tried
      ::_exit(0);
    }
    children.push_back(child);
  }
  ::close(start[1]);
  int winners = 0;
  int ended = 0;
  for (; ended < 7; ++ended) {
    int status = -1;
    ASSERT_GT(::wait(&status), 0);
    winners += status == 0 ? 1 : 0;
  }
  EXPECT_EQ(winners, 0) << "seven lose at once";
  ::close(stay[1]);
  int status = -1;
  ASSERT_GT(::wait(&status), 0);
  EXPECT_EQ(status, 0);
}

TEST_F(RegistryTest, WhatIsNotOursStays) {
  std::filesystem::create_directory(directory_ / ".hidden");
  EXPECT_TRUE(names().empty());
  EXPECT_TRUE(std::filesystem::exists(directory_ / ".hidden"));
}

TEST(VmName, StaysInsideItsDirectory) {
  for (const char* good : {"a", "web-1", "A_b.c", "0"}) EXPECT_TRUE(check_vm_name(good)) << good;
  for (const std::string& bad :
       {std::string(), std::string("."), std::string(".."), std::string("a/b"), std::string("-a"), std::string(".lock"),
        std::string("a b"), std::string("ä"), std::string(64, 'a')}) {
    EXPECT_FALSE(check_vm_name(bad)) << bad;
  }
}

class RuntimeDirectory : public testing::Test {
 protected:
  void SetUp() override { ::setenv("XDG_RUNTIME_DIR", directory_.path().c_str(), 1); }
  void TearDown() override { ::unsetenv("XDG_RUNTIME_DIR"); }
  TemporaryDirectory directory_;
};

TEST_F(RuntimeDirectory, IsCreatedForItsOwnerOnly) {
  const auto path = runtime_directory();
  ASSERT_TRUE(path) << path.error().message;
  EXPECT_EQ(*path, directory_ / "doppel");
  struct stat status {};
  ASSERT_EQ(::stat(path->c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0700U);
  EXPECT_TRUE(runtime_directory()) << "the second time too";
}

TEST_F(RuntimeDirectory, IsRefusedWhenOthersMayEnter) {
  ASSERT_EQ(::mkdir((directory_ / "doppel").c_str(), 0700), 0);
  ASSERT_EQ(::chmod((directory_ / "doppel").c_str(), 0755), 0);
  const auto path = runtime_directory();
  ASSERT_FALSE(path);
  EXPECT_THAT(path.error().message, HasSubstr("mode 0700"));
}

TEST_F(RuntimeDirectory, IsRefusedWhenItIsALink) {
  const TemporaryDirectory elsewhere;
  ASSERT_EQ(::symlink(elsewhere.path().c_str(), (directory_ / "doppel").c_str()), 0);
  EXPECT_FALSE(runtime_directory());
}

TEST(WaitForEnd, SeesAProcessGo) {
  std::array<int, 2> stay{};
  ASSERT_EQ(::pipe(stay.data()), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(stay[1]);
    char byte = 0;
    [[maybe_unused]] const ssize_t got = ::read(stay[0], &byte, 1);
    ::_exit(0);
  }
  const RunningVm vm{"x", child, 0, {"/nonexistent"}};
  EXPECT_FALSE(wait_for_end(vm, 1));
  ::close(stay[1]);
  EXPECT_TRUE(wait_for_end(vm, 60'000));
  ::waitpid(child, nullptr, 0);
  EXPECT_TRUE(wait_for_end(vm, 0));
}

}  // namespace
}  // namespace doppel::control
