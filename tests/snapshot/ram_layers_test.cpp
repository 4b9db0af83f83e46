#include "snapshot/ram_layers.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/temporary_directory.h"

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

}  // namespace
}  // namespace doppel::snapshot
