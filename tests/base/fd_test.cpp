#include "base/fd.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <thread>

#include "base/temporary_directory.h"

namespace doppel {
namespace {

using test::TemporaryDirectory;
using testing::HasSubstr;

std::vector<std::byte> content(std::size_t length) {
  std::vector<std::byte> bytes(length);
  for (std::size_t i = 0; i < length; ++i) bytes[i] = static_cast<std::byte>(i * 31);
  return bytes;
}

bool is_open(int fd) {
  return ::fcntl(fd, F_GETFD) != -1;
}

TEST(UniqueFd, ClosesWhatItOwns) {
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe(pipe.data()), 0);
  {
    UniqueFd read_end(pipe[0]);
    UniqueFd moved(std::move(read_end));
    EXPECT_TRUE(is_open(pipe[0]));
    moved = UniqueFd(pipe[1]);
    EXPECT_FALSE(is_open(pipe[0]));
    EXPECT_TRUE(is_open(pipe[1]));
    UniqueFd& self = moved;
    moved = std::move(self);
    EXPECT_TRUE(is_open(pipe[1]));
  }
  EXPECT_FALSE(is_open(pipe[1]));
}

TEST(ReadFile, ReturnsWhatWasWritten) {
  const TemporaryDirectory directory;
  for (const std::size_t length : {0, 1, 65535, 65536, 65537, 300000}) {
    ASSERT_TRUE(write_file_atomically(directory / "file", content(length)));
    const auto read = read_file(directory / "file");
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_EQ(*read, content(length));
  }
}

TEST(ReadFile, ReadsPipesThatHaveNoSize) {
  const TemporaryDirectory directory;
  ASSERT_EQ(::mkfifo((directory / "fifo").c_str(), 0600), 0);
  std::thread writer([&] {
    const UniqueFd fd(::open((directory / "fifo").c_str(), O_WRONLY | O_CLOEXEC));
    EXPECT_TRUE(write_all(fd.get(), content(200000)));
  });
  const auto read = read_file(directory / "fifo");
  writer.join();
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(*read, content(200000));
}

TEST(ReadFile, HonoursTheLimit) {
  const TemporaryDirectory directory;
  ASSERT_TRUE(write_file_atomically(directory / "file", content(10)));
  EXPECT_TRUE(read_file(directory / "file", 10));
  const auto refused = read_file(directory / "file", 9);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("longer than 9 bytes"));
  EXPECT_FALSE(read_file("/dev/zero", 1 << 20));
}

TEST(ReadFile, NamesThePathAndTheReason) {
  const TemporaryDirectory directory;
  const auto missing = read_file(directory / "none");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().message, "cannot open " + (directory / "none") + ": No such file or directory");
  const auto is_directory = read_file(directory.path());
  ASSERT_FALSE(is_directory);
  EXPECT_THAT(is_directory.error().message, HasSubstr("is a directory"));
}

TEST(WriteFileAtomically, ReplacesAndLeavesNothingBehind) {
  const TemporaryDirectory directory;
  ASSERT_TRUE(write_file_atomically(directory / "file", content(5000)));
  ASSERT_TRUE(write_file_atomically(directory / "file", content(3)));
  EXPECT_EQ(*read_file(directory / "file"), content(3));
  const std::filesystem::directory_iterator entries(directory.path());
  EXPECT_EQ(std::distance(begin(entries), end(entries)), 1);
}

TEST(WriteFileAtomically, FailsWithoutADirectory) {
  const TemporaryDirectory directory;
  EXPECT_FALSE(write_file_atomically(directory / "none/file", content(3)));
}

TEST(WriteAll, ReportsAClosedDescriptor) {
  EXPECT_FALSE(write_all(-1, content(1)));
}

}  // namespace
}  // namespace doppel
