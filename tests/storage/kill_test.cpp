// A process that writes and flushes is killed at any moment: what it said was flushed is there, and the image is
// consistent.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <csignal>
#include <cstring>
#include <map>
#include <random>
#include <thread>

#include "base/fd.h"
#include "base/temporary_directory.h"
#include "storage/disk.h"
#include "storage/tools.h"

namespace doppel::storage {
namespace {

constexpr std::uint64_t kBlock = 4096;
constexpr std::uint64_t kBlocks = 4096;

/// What the writer tells: block `block` holds `value` from now on (flushed), or is about to.
struct Report {
  std::uint32_t block;
  std::uint32_t value;
  std::uint32_t flushed;
  std::uint32_t unused;
};

int transfer(BlockDevice& disk, BlockOperation operation, std::uint64_t block, std::vector<std::byte>& bytes) {
  const iovec piece{bytes.data(), bytes.size()};
  BlockRequest request;
  request.operation = operation;
  if (operation != BlockOperation::Flush) {
    request.offset = block * kBlock;
    request.length = kBlock;
    request.buffers = {&piece, 1};
  }
  return submit_and_wait(disk, request);
}

[[noreturn]] void write_for_ever(const std::string& path, std::uint64_t seed, int reports) {
  DiskOptions options;
  options.format = "qcow2";
  auto disk = open_disk(path, options);
  if (!disk) ::_exit(1);
  std::mt19937_64 random(seed);
  std::vector<std::byte> bytes(kBlock);
  std::uint32_t value = static_cast<std::uint32_t>(seed) << 16;
  for (;;) {
    std::vector<Report> batch;
    for (std::uint64_t n = 1 + random() % 8; n > 0; --n) {
      Report report{static_cast<std::uint32_t>(random() % kBlocks), ++value, 0, 0};
      for (std::size_t i = 0; i < kBlock; i += 4) std::memcpy(&bytes[i], &report.value, 4);
      if (::write(reports, &report, sizeof report) != sizeof report) ::_exit(2);
      if (transfer(**disk, BlockOperation::Write, report.block, bytes) != 0) ::_exit(3);
      report.flushed = 1;
      batch.push_back(report);
    }
    if (transfer(**disk, BlockOperation::Flush, 0, bytes) != 0) ::_exit(4);
    const auto size = static_cast<ssize_t>(batch.size() * sizeof(Report));
    if (::write(reports, batch.data(), static_cast<std::size_t>(size)) != size) ::_exit(2);
  }
}

class Killed : public testing::TestWithParam<const char*> {};

TEST_P(Killed, LosesNothingFlushed) {
  const test::TemporaryDirectory directory;
  const std::string path = directory / "disk.qcow2";
  test::must_run({"qemu-img", "create", "-q", "-f", "qcow2", "-o", GetParam(), path, std::to_string(kBlock * kBlocks)});
  std::map<std::uint32_t, std::uint32_t> flushed;
  std::mt19937_64 random(7);
  int leaks = 0;
  for (std::uint64_t life = 1; life <= 20; ++life) {
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    const pid_t writer = ::fork();
    if (writer == 0) {
      ::close(ends[0]);
      write_for_ever(path, life, ends[1]);
    }
    ::close(ends[1]);
    const UniqueFd reports(ends[0]);
    std::map<std::uint32_t, std::vector<std::uint32_t>> maybe;
    // Killed after so many reports, and a little.
    std::uint64_t patience = 1 + random() % 200;
    Report report{};
    bool alive = true;
    while (::read(reports.get(), &report, sizeof report) == sizeof report) {
      if (report.flushed != 0) {
        flushed[report.block] = report.value;
      } else {
        maybe[report.block].push_back(report.value);
      }
      if (alive && --patience == 0) {
        ::usleep(static_cast<useconds_t>(random() % 3000));  // any moment of writing and flushing
        ::kill(writer, SIGKILL);
        alive = false;
      }
    }
    int status = 0;
    ::waitpid(writer, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the writer failed with " << WEXITSTATUS(status);

    const test::Ran check = test::run_tool({"qemu-img", "check", path});
    ASSERT_TRUE(check.status == 0 || check.status == 3) << check.output;
    if (check.status == 3) ++leaks;
    DiskOptions options;
    options.format = "qcow2";
    auto disk = open_disk(path, options);
    ASSERT_TRUE(disk) << disk.error().message;
    std::vector<std::byte> bytes(kBlock);
    for (auto& [block, value] : flushed) {
      ASSERT_EQ(transfer(**disk, BlockOperation::Read, block, bytes), 0);
      std::uint32_t found = 0;
      std::memcpy(&found, bytes.data(), 4);
      const bool allowed = found == value || std::ranges::count(maybe[block], found) != 0;
      ASSERT_TRUE(allowed) << "block " << block << " held " << value << " and now holds " << found;
      value = found;
    }
  }
  RecordProperty("images_with_leaks", leaks);
  std::printf("%d of 20 images had leaked clusters\n", leaks);
}

INSTANTIATE_TEST_SUITE_P(Images, Killed,
                         testing::Values("compat=1.1", "lazy_refcounts=on", "cluster_size=4k", "extended_l2=on"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::erase_if(name, [](char c) { return std::isalnum(static_cast<unsigned char>(c)) == 0; });
                           return name;
                         });

}  // namespace
}  // namespace doppel::storage
