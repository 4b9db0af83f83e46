#include "snapshot/ram_layers.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/temporary_directory.h"
#include "snapshot/ram_capture.h"

namespace doppel::snapshot {
namespace {

using memory::kPageSize;

constexpr std::uint64_t kMemory = std::uint64_t{8} << 20;

class RamLayersTest : public testing::Test {
 protected:
  UniqueFd file(const char* name) {
    return UniqueFd(::open((directory_ / name).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  }
  static std::vector<std::byte> page(char value) { return std::vector<std::byte>(kPageSize, std::byte(value)); }

  test::TemporaryDirectory directory_;
  const UniqueFd ram_ = file("ram"), sums_ = file("sums");
};

TEST_F(RamLayersTest, ZeroPagesTakeNoRoom) {
  LayerWriter layer(ram_.get(), sums_.get(), kMemory, true);
  ASSERT_TRUE(layer.begin());
  for (std::uint64_t index = 0; index < kMemory / kPageSize; ++index) ASSERT_TRUE(layer.page(index, page(0)));
  ASSERT_TRUE(layer.finish());
  struct stat status {};
  ASSERT_EQ(::fstat(ram_.get(), &status), 0);
  EXPECT_EQ(static_cast<std::uint64_t>(status.st_size), kMemory);
  EXPECT_EQ(status.st_blocks, 0);
  EXPECT_EQ(layer.stored_bytes(), 0U);
}

TEST_F(RamLayersTest, PagesThatFollowOneAnotherAreOnePiece) {
  LayerWriter layer(ram_.get(), sums_.get(), kMemory, false);
  ASSERT_TRUE(layer.begin());
  for (const std::uint64_t index : {9U, 3U, 4U, 5U, 2047U}) ASSERT_TRUE(layer.page(index, page(index == 4 ? 0 : 'x')));
  const Result<Manifest::File> finished = layer.finish();
  ASSERT_TRUE(finished);
  EXPECT_EQ(layer.stored_bytes(), 4 * kPageSize);

  const Result<std::vector<std::byte>> sums = read_file(directory_ / "sums");
  ASSERT_TRUE(sums);
  EXPECT_EQ(sums->size(), finished->bytes);
  std::vector<machine::SavedMachine::RamPiece> pieces;
  add_pieces(std::make_shared<const UniqueFd>(), *sums, kMemory, pieces);
  ASSERT_EQ(pieces.size(), 3U);
  EXPECT_EQ(pieces[0].page, 3U);
  EXPECT_EQ(pieces[0].bytes, 3 * kPageSize);
  EXPECT_EQ(pieces[0].offset, 3 * kPageSize);
  EXPECT_EQ(pieces[1].page, 9U);
  EXPECT_EQ(pieces[2].page, 2047U);
  EXPECT_TRUE(verify_layer(ram_.get(), *sums, kMemory, {}));
}

TEST_F(RamLayersTest, SumsThatEndTooEarlyMentionNoPages) {
  std::vector<machine::SavedMachine::RamPiece> pieces;
  const std::vector<std::byte> short_sums(6, std::byte{1});
  add_pieces(std::make_shared<const UniqueFd>(), short_sums, kMemory, pieces);
  ASSERT_EQ(pieces.size(), 1U);
  EXPECT_EQ(pieces[0].bytes, kPageSize);
}

/// RAM is in two pieces then, with the PCI hole in between.
TEST_F(RamLayersTest, AnIncrementalSnapshotOfMoreThanThreeGibHasEachPageInItsPlace) {
  constexpr std::uint64_t kBytes = std::uint64_t{5} << 30, kGib = std::uint64_t{1} << 30;
  const auto memory = *memory::GuestMemory::create(kBytes);
  RamCapture capture(*memory);
  memory->set_write_observer(&capture);
  const auto save = [&](const UniqueFd& ram, const UniqueFd& sums, bool complete) {
    LayerWriter layer(ram.get(), sums.get(), kBytes, complete);
    EXPECT_TRUE(layer.begin());
    capture.begin(memory->dirty().collect_bits());
    EXPECT_TRUE(capture.write(
        [&layer](std::uint64_t page, std::span<const std::byte> contents) { return layer.page(page, contents); }));
    EXPECT_TRUE(layer.finish());
  };
  const std::vector<std::uint64_t> places{0x1000, 3 * kGib - 0x1000, 4 * kGib, 4 * kGib + 0x5000, 6 * kGib - 0x1000};
  for (const std::uint64_t place : places) ASSERT_TRUE(memory->write_value(place, place + 1));
  save(ram_, sums_, true);
  const UniqueFd upper = file("upper"), upper_sums = file("upper.sums");
  for (const std::size_t changed : {0U, 3U}) ASSERT_TRUE(memory->write_value(places[changed], places[changed] + 2));
  save(upper, upper_sums, false);

  std::vector<machine::SavedMachine::RamPiece> pieces;
  for (const char* layer : {"ram", "upper"}) {
    const std::string sums = std::string(layer) == "ram" ? "sums" : "upper.sums";
    const Result<std::vector<std::byte>> list = read_file(directory_ / sums);
    ASSERT_TRUE(list);
    add_pieces(std::make_shared<const UniqueFd>(file(layer)), *list, kBytes, pieces);
  }
  const auto restored = *memory::GuestMemory::create(kBytes);
  for (const auto& piece : pieces) {
    ASSERT_TRUE(restored->map_contents(piece.file->get(), piece.offset, piece.page, piece.bytes));
  }
  for (const std::uint64_t place : places) {
    std::uint64_t before = 0, after = 0;
    ASSERT_TRUE(memory->read_value(place, before));
    ASSERT_TRUE(restored->read_value(place, after));
    EXPECT_EQ(after, before) << std::hex << place;
  }
}

}  // namespace
}  // namespace doppel::snapshot
