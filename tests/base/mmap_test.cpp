#include "base/mmap.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "base/fd.h"
#include "base/temporary_directory.h"

namespace doppel {
namespace {

TEST(Mapping, AnonymousIsZeroedAndRoundedUp) {
  auto mapping = Mapping::anonymous(5000);
  ASSERT_TRUE(mapping);
  EXPECT_EQ(mapping->size(), 8192U);
  EXPECT_TRUE(std::ranges::all_of(mapping->bytes(), [](std::byte b) { return b == std::byte{0}; }));
  mapping->bytes().back() = std::byte{1};
}

TEST(Mapping, ReservesMoreThanTheHostHas) {
  EXPECT_TRUE(Mapping::anonymous(std::size_t{1} << 36));
}

TEST(Mapping, ImpossibleSizesAreErrors) {
  EXPECT_FALSE(Mapping::anonymous(0));
  EXPECT_FALSE(Mapping::anonymous(std::numeric_limits<std::size_t>::max()));
  EXPECT_FALSE(Mapping::anonymous(std::size_t{1} << 62));
}

TEST(Mapping, MovesItsRange) {
  auto mapping = Mapping::anonymous(4096);
  ASSERT_TRUE(mapping);
  std::byte* const data = mapping->data();
  Mapping moved(*std::move(mapping));
  Mapping assigned;
  assigned = std::move(moved);
  EXPECT_EQ(assigned.data(), data);
  assigned.bytes()[0] = std::byte{7};
}

TEST(Mapping, SharedWritesReachTheFileAndPrivateOnesDoNot) {
  const test::TemporaryDirectory directory;
  const std::vector<std::byte> content(8192, std::byte{1});
  ASSERT_TRUE(write_file_atomically(directory / "file", content));
  const UniqueFd file(::open((directory / "file").c_str(), O_RDWR | O_CLOEXEC));
  {
    auto copy = Mapping::file(file.get(), 4096, 4096, Mapping::Sharing::Private);
    ASSERT_TRUE(copy);
    copy->bytes()[0] = std::byte{2};
  }
  EXPECT_EQ(*read_file(directory / "file"), content);
  {
    auto shared = Mapping::file(file.get(), 4096, 4096, Mapping::Sharing::Shared);
    ASSERT_TRUE(shared);
    shared->bytes()[0] = std::byte{2};
  }
  EXPECT_EQ((*read_file(directory / "file"))[4096], std::byte{2});
}

TEST(Mapping, AlignedFilesAreWhereTheyAreAskedFor) {
  constexpr std::size_t kAlignment = 2 << 20;
  const test::TemporaryDirectory directory;
  const std::vector<std::byte> content(3 * 4096, std::byte{1});
  ASSERT_TRUE(write_file_atomically(directory / "file", content));
  const UniqueFd file(::open((directory / "file").c_str(), O_RDWR | O_CLOEXEC));
  auto mapping = Mapping::aligned_file(file.get(), content.size(), kAlignment);
  ASSERT_TRUE(mapping);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(mapping->data()) % kAlignment, 0U);
  EXPECT_EQ(mapping->size(), content.size());
  mapping->bytes()[2 * 4096] = std::byte{2};
  EXPECT_EQ((*read_file(directory / "file"))[2 * 4096], std::byte{2});
}

TEST(Mapping, BadDescriptorIsAnError) {
  EXPECT_FALSE(Mapping::file(-1, 4096, 0, Mapping::Sharing::Shared));
  EXPECT_FALSE(Mapping::aligned_file(-1, 4096, 4096));
}

}  // namespace
}  // namespace doppel
