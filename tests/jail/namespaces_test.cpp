#include "jail/namespaces.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <thread>

namespace doppel::jail {
namespace {

enum Verdict : int { kGood, kNotPermitted, kNotEmptied, kNotEmpty, kWritable, kThreadSeesMore };

int try_empty_root() {
  if (!enter_own_namespaces()) return kNotPermitted;
  const auto sees_files = [] { return ::access("/etc/passwd", F_OK) == 0; };
  int after = 0;
  std::atomic<bool> emptied = false;
  // A thread from before the change, as processors' threads are.
  std::thread thread([&] {
    while (!emptied) std::this_thread::yield();
    after = sees_files() ? 1 : 0;
  });
  const bool done = empty_root().ok();
  emptied = true;
  thread.join();
  if (!done) return kNotEmptied;
  std::error_code error;
  if (std::filesystem::directory_iterator("/", error) != std::filesystem::directory_iterator() || error) {
    return kNotEmpty;
  }
  if (::open("/new", O_WRONLY | O_CREAT, 0600) >= 0) return kWritable;
  return after != 0 ? kThreadSeesMore : kGood;
}

TEST(Namespaces, TheEmptyRootIsEmptyForEveryThread) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(try_empty_root());
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == kNotPermitted) GTEST_SKIP() << "this host permits no user namespaces";
  EXPECT_EQ(WEXITSTATUS(status), kGood);
  EXPECT_TRUE(std::filesystem::exists("/etc/passwd")) << "outside nothing has changed";
}

}  // namespace
}  // namespace doppel::jail
