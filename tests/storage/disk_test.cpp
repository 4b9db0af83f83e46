#include "storage/disk.h"

#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <vector>

#include "base/temporary_directory.h"

namespace doppel::storage {
namespace {

class RawDisk : public testing::TestWithParam<std::pair<DiskOptions::Aio, CacheMode>> {
 protected:
  void SetUp() override {
    path_ = directory_ / "disk.raw";
    std::ofstream(path_, std::ios::binary).close();
    std::filesystem::resize_file(path_, kSize);
  }

  std::unique_ptr<BlockDevice> open(bool read_only = false) {
    DiskOptions options;
    options.format = "raw";
    options.read_only = read_only;
    options.aio = GetParam().first;
    options.cache = GetParam().second;
    auto disk = open_disk(path_, options);
    if (!disk) throw std::runtime_error(disk.error().message);
    return std::move(*disk);
  }

  static int transfer(BlockDevice& disk, BlockOperation operation, std::uint64_t offset,
                      std::vector<std::byte>& bytes) {
    // Two pieces at odd addresses, as guests have them.
    const iovec pieces[] = {{bytes.data(), 100}, {bytes.data() + 100, bytes.size() - 100}};
    BlockRequest request;
    request.operation = operation;
    request.offset = offset;
    request.length = bytes.size();
    request.buffers = pieces;
    return submit_and_wait(disk, request);
  }

  static constexpr std::uint64_t kSize = 1 << 20;
  test::TemporaryDirectory directory_;
  std::string path_;
};

TEST_P(RawDisk, KeepsWhatIsWritten) {
  std::vector<std::byte> bytes(8192, std::byte{0x5A});
  {
    const auto disk = open();
    EXPECT_EQ(disk->capacity(), kSize);
    EXPECT_EQ(transfer(*disk, BlockOperation::Write, 4096, bytes), 0);
    BlockRequest flush;
    flush.operation = BlockOperation::Flush;
    EXPECT_EQ(submit_and_wait(*disk, flush), 0);
    BlockRequest zero;
    zero.operation = BlockOperation::WriteZeroes;
    zero.offset = 4608;
    zero.length = 512;
    EXPECT_EQ(submit_and_wait(*disk, zero), 0);
  }
  const auto disk = open(true);
  std::vector<std::byte> read(8192);
  EXPECT_EQ(transfer(*disk, BlockOperation::Read, 4096, read), 0);
  std::memset(bytes.data() + 512, 0, 512);
  EXPECT_EQ(read, bytes);
  EXPECT_EQ(transfer(*disk, BlockOperation::Write, 0, read), EROFS);
}

/// Requests that are large enough to be copied by another thread, and enough of them in flight that some are.
TEST_P(RawDisk, LargeRequestsInFlightTogetherAllArrive) {
  constexpr std::size_t kPiece = 512 * 1024, kRounds = 40;
  struct Slot : BlockRequest {
    std::vector<std::byte> bytes;
    iovec piece{};
  };
  const auto disk = open();
  const auto run = [&disk](Slot& slot, BlockOperation operation, std::uint64_t offset) {
    slot.operation = operation;
    slot.offset = offset;
    slot.length = slot.bytes.size();
    slot.piece = {slot.bytes.data(), slot.bytes.size()};
    slot.buffers = {&slot.piece, 1};
    slot.done = [](BlockRequest&, int error) { EXPECT_EQ(error, 0); };
    disk->submit(slot);
  };
  for (std::size_t round = 1; round <= kRounds; ++round) {
    std::array<Slot, 2> written, read;
    for (std::size_t i = 0; i < written.size(); ++i) {
      written[i].bytes.assign(kPiece, static_cast<std::byte>(2 * round + i));
      run(written[i], BlockOperation::Write, i * kPiece);
    }
    disk->drain();
    for (std::size_t i = 0; i < read.size(); ++i) {
      read[i].bytes.resize(kPiece);
      run(read[i], BlockOperation::Read, i * kPiece);
    }
    disk->drain();
    for (std::size_t i = 0; i < read.size(); ++i) ASSERT_EQ(read[i].bytes, written[i].bytes) << round;
  }
}

TEST_P(RawDisk, RefusesWhatIsNotOnTheDisk) {
  const auto disk = open();
  std::vector<std::byte> bytes(1024);
  EXPECT_EQ(transfer(*disk, BlockOperation::Read, kSize - 512, bytes), EINVAL);
  EXPECT_EQ(transfer(*disk, BlockOperation::Read, ~std::uint64_t{511}, bytes), EINVAL);
  EXPECT_EQ(transfer(*disk, BlockOperation::Write, 100, bytes), EINVAL);
}

TEST_P(RawDisk, ServesManyAtOnceAndDrains) {
  const auto disk = open();
  struct Slot : BlockRequest {
    std::vector<std::byte> bytes;
    iovec piece{};
    int error = -1;
  };
  std::vector<Slot> slots(200);
  for (std::size_t i = 0; i < slots.size(); ++i) {
    Slot& slot = slots[i];
    slot.bytes.assign(4096, static_cast<std::byte>(i));
    slot.piece = {slot.bytes.data(), slot.bytes.size()};
    slot.operation = BlockOperation::Write;
    slot.offset = i * 4096;
    slot.length = 4096;
    slot.buffers = {&slot.piece, 1};
    slot.done = [](BlockRequest& request, int error) { static_cast<Slot&>(request).error = error; };
    disk->submit(slot);
  }
  disk->drain();
  for (Slot& slot : slots) {
    EXPECT_EQ(slot.error, 0);
    slot.error = -1;
    slot.bytes.assign(4096, std::byte{0xFF});
    slot.operation = BlockOperation::Read;
    disk->submit(slot);
  }
  disk->drain();
  for (std::size_t i = 0; i < slots.size(); ++i) {
    EXPECT_EQ(slots[i].error, 0);
    EXPECT_EQ(slots[i].bytes, std::vector<std::byte>(4096, static_cast<std::byte>(i)));
  }
}

INSTANTIATE_TEST_SUITE_P(Ways, RawDisk,
                         testing::Values(std::pair{DiskOptions::Aio::Auto, CacheMode::Writeback},
                                         std::pair{DiskOptions::Aio::Auto, CacheMode::None},
                                         std::pair{DiskOptions::Aio::Threads, CacheMode::Writeback},
                                         std::pair{DiskOptions::Aio::Threads, CacheMode::None}));

}  // namespace
}  // namespace doppel::storage
