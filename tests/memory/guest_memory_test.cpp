#include "memory/guest_memory.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <thread>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "base/temporary_directory.h"

namespace doppel::memory {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

std::unique_ptr<GuestMemory> make(std::uint64_t size) {
  auto memory = GuestMemory::create(size);
  EXPECT_TRUE(memory) << memory.error().message;
  return *std::move(memory);
}

TEST(GuestMemory, SmallMachineIsOneRegion) {
  const auto memory = make(64 * kMiB);
  ASSERT_EQ(memory->regions().size(), 1U);
  EXPECT_EQ(memory->end(), 64 * kMiB);
  EXPECT_NE(memory->page(64 * kMiB - 1), nullptr);
  EXPECT_EQ(memory->page(64 * kMiB), nullptr);
  EXPECT_EQ(memory->page(kPciHoleEnd), nullptr);
  EXPECT_EQ(memory->page(~std::uint64_t{0}), nullptr);
}

TEST(GuestMemory, ExactlyThreeGibHasNoHighRegion) {
  const auto memory = make(3 * kGiB);
  EXPECT_EQ(memory->regions().size(), 1U);
  EXPECT_EQ(memory->end(), kPciHoleStart);
  EXPECT_EQ(memory->page(kPciHoleStart), nullptr);
  EXPECT_EQ(memory->page(kPciHoleEnd), nullptr);
}

TEST(GuestMemory, RamGoesOnAboveTheHole) {
  const auto memory = make(6 * kGiB);
  ASSERT_EQ(memory->regions().size(), 2U);
  EXPECT_EQ(memory->regions()[1].start, kPciHoleEnd);
  EXPECT_EQ(memory->regions()[1].size, 3 * kGiB);
  EXPECT_EQ(memory->end(), kPciHoleEnd + 3 * kGiB);
  EXPECT_NE(memory->page(kPciHoleStart - 1), nullptr);
  EXPECT_EQ(memory->page(kPciHoleStart), nullptr);
  EXPECT_EQ(memory->page(kPciHoleEnd - 1), nullptr);
  EXPECT_NE(memory->page(kPciHoleEnd), nullptr);
  EXPECT_EQ(memory->page(memory->end()), nullptr);
  // The first page above the hole is another one than the last below it.
  EXPECT_TRUE(memory->write_value<std::uint32_t>(kPciHoleEnd, 0x11111111));
  EXPECT_TRUE(memory->write_value<std::uint32_t>(kPciHoleStart - 4, 0x22222222));
  std::uint32_t value = 0;
  EXPECT_TRUE(memory->read_value(kPciHoleEnd, value));
  EXPECT_EQ(value, 0x11111111U);
}

TEST(GuestMemory, PageIndicesAreDenseAndInvertible) {
  const auto memory = make(4 * kGiB);
  EXPECT_EQ(memory->page_index(kPciHoleStart - 1) + 1, memory->page_index(kPciHoleEnd));
  EXPECT_EQ(memory->page_index(memory->end() - 1), (memory->size() >> kPageShift) - 1);
  for (const GuestPhysical address :
       {GuestPhysical{0}, kPciHoleStart - kPageSize, kPciHoleEnd, kPciHoleEnd + 5 * kPageSize}) {
    EXPECT_EQ(memory->page_address(memory->page_index(address)), address);
  }
}

TEST(GuestMemory, RangesThatLeaveRamAreRefusedWhole) {
  const auto memory = make(4 * kGiB);
  std::array<std::byte, 8> bytes{};
  bytes.fill(std::byte{0xAA});
  for (const GuestPhysical address : {kPciHoleStart - 4, kPciHoleEnd - 4, memory->end() - 4, kPciHoleStart,
                                      ~std::uint64_t{0} - 3, ~std::uint64_t{0} - 7}) {
    EXPECT_FALSE(memory->write(address, bytes)) << std::hex << address;
    EXPECT_FALSE(memory->read(address, bytes)) << std::hex << address;
    EXPECT_TRUE(memory->view(address, 8).empty()) << std::hex << address;
  }
  std::uint32_t value = 1;
  EXPECT_TRUE(memory->read_value(kPciHoleStart - 4, value));
  EXPECT_EQ(value, 0U) << "a refused write has written its first half";
  EXPECT_TRUE(memory->write(memory->end() - 8, bytes));
}

TEST(GuestMemory, HugeViewLengthsDoNotWrap) {
  const auto memory = make(64 * kMiB);
  EXPECT_TRUE(memory->view(4096, ~std::uint64_t{0} - 100).empty());
  EXPECT_EQ(memory->view(4096, 64 * kMiB - 4096).size(), 64 * kMiB - 4096);
}

TEST(GuestMemory, WritesMarkPagesDirty) {
  const auto memory = make(16 * kMiB);
  const std::vector<std::byte> bytes(2 * kPageSize, std::byte{1});
  EXPECT_TRUE(memory->write(kPageSize + 100, bytes));
  EXPECT_EQ(memory->dirty().collect(), (std::vector<std::uint64_t>{1, 2, 3}));
  EXPECT_TRUE(memory->write(kPageSize, std::span(bytes).first(kPageSize)));
  EXPECT_EQ(memory->dirty().collect(), (std::vector<std::uint64_t>{1}));
  EXPECT_TRUE(memory->write(0, {}));
  EXPECT_TRUE(memory->dirty().collect().empty());
}

TEST(GuestMemory, WritesDropCode) {
  const auto memory = make(16 * kMiB);
  memory->code().add_code(2, 0, 16);
  const std::uint32_t generation = memory->code().generation(2);
  const std::vector<std::byte> bytes(kPageSize, std::byte{1});
  EXPECT_TRUE(memory->write(kPageSize, bytes));
  EXPECT_EQ(memory->code().generation(2), generation) << "the page before was written";
  EXPECT_TRUE(memory->write(kPageSize + 1, bytes));
  EXPECT_NE(memory->code().generation(2), generation);
}

TEST(GuestMemory, ClearZeroesMarksDirtyAndDropsCode) {
  const auto memory = make(kMiB);
  const std::uint64_t page = memory->page_index(0x5000);
  ASSERT_TRUE(memory->write_value<std::uint32_t>(0x5000, 0x12345678));
  memory->code().add_code(page, 0, 16);
  const std::uint32_t generation = memory->code().generation(page);
  memory->dirty().collect();

  memory->clear();
  std::uint32_t value = 1;
  ASSERT_TRUE(memory->read_value(0x5000, value));
  EXPECT_EQ(value, 0U);
  EXPECT_TRUE(memory->dirty().is_dirty(page));
  EXPECT_NE(memory->code().generation(page), generation);
}

TEST(GuestMemory, ImpossibleSizesAreRefused) {
  for (const std::uint64_t size : {std::uint64_t{0}, kMiB - kPageSize, kMiB + 1, std::uint64_t{1} << 60}) {
    const auto memory = GuestMemory::create(size);
    ASSERT_FALSE(memory) << size;
    EXPECT_THAT(memory.error().message, testing::HasSubstr("from 1 MiB to 64 TiB"));
  }
}

TEST(GuestMemory, ThreadsWriteDifferentPagesAtOnce) {
  const auto memory = make(16 * kMiB);
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (std::uint64_t id = 0; id < 4; ++id) {
    threads.emplace_back([&memory, id] {
      for (std::uint64_t page = id; page < 4096; page += 4) {
        EXPECT_TRUE(memory->write_value(page * kPageSize + 8, page));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (std::uint64_t page = 0; page < 4096; ++page) {
    std::uint64_t value = 0;
    ASSERT_TRUE(memory->read_value(page * kPageSize + 8, value));
    ASSERT_EQ(value, page);
  }
  EXPECT_EQ(memory->dirty().collect().size(), 4096U);
}

/// A file of four pages, the first full of 1s and so on.
UniqueFd four_pages(const test::TemporaryDirectory& directory) {
  UniqueFd fd(::open((directory / "ram").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  for (unsigned char page = 1; page <= 4; ++page) {
    const std::vector<std::byte> contents(kPageSize, std::byte{page});
    EXPECT_TRUE(write_all(fd.get(), contents));
  }
  return fd;
}

TEST(GuestMemory, MappedContentsAreReadAndNeverWrittenBack) {
  const test::TemporaryDirectory directory;
  const UniqueFd fd = four_pages(directory);
  const auto memory = make(kMiB);
  ASSERT_TRUE(memory->map_contents(fd.get(), kPageSize, 7, 2 * kPageSize));
  std::uint8_t value = 0;
  ASSERT_TRUE(memory->read_value(7 * kPageSize + 9, value));
  EXPECT_EQ(value, 2);
  ASSERT_TRUE(memory->read_value(9 * kPageSize, value));
  EXPECT_EQ(value, 0);
  ASSERT_TRUE(memory->write_value(8 * kPageSize, std::uint8_t{0xFF}));
  EXPECT_EQ(::pread(fd.get(), &value, 1, 2 * kPageSize), 1);
  EXPECT_EQ(value, 3);
}

TEST(GuestMemory, MappedContentsDoNotComeBack) {
  const test::TemporaryDirectory directory;
  const UniqueFd fd = four_pages(directory);
  const auto memory = make(kMiB);
  ASSERT_TRUE(memory->map_contents(fd.get(), 0, 0, 4 * kPageSize));
  ASSERT_TRUE(memory->discard(kPageSize, kPageSize));
  std::uint8_t value = 9;
  ASSERT_TRUE(memory->read_value(kPageSize, value));
  EXPECT_EQ(value, 0);
  memory->clear();
  ASSERT_TRUE(memory->read_value(3 * kPageSize, value));
  EXPECT_EQ(value, 0);
}

TEST(GuestMemory, MappedContentsLieInside) {
  const test::TemporaryDirectory directory;
  const UniqueFd fd = four_pages(directory);
  const auto memory = make(kMiB);
  EXPECT_FALSE(memory->map_contents(fd.get(), 0, 255, 2 * kPageSize));
  EXPECT_FALSE(memory->map_contents(fd.get(), 0, 257, 0));
  EXPECT_FALSE(memory->map_contents(fd.get(), 0, 1, ~std::uint64_t{0} - kPageSize + 1));
  EXPECT_FALSE(memory->map_contents(fd.get(), 1, 0, kPageSize));
  EXPECT_FALSE(memory->map_contents(fd.get(), 0, 0, 100));
  EXPECT_FALSE(memory->map_contents(-1, 0, 0, kPageSize));
}

TEST(GuestMemory, AnObserverSeesPagesBeforeTheyAreWritten) {
  struct Observer : WriteObserver {
    explicit Observer(GuestMemory& guest) : memory(guest) {}
    void before_write(std::uint64_t page) override {
      std::uint8_t value = 0;
      memory.read_value(page * kPageSize, value);
      seen.emplace_back(page, value);
    }
    GuestMemory& memory;
    std::vector<std::pair<std::uint64_t, int>> seen;
  };
  const auto memory = make(kMiB);
  memory->write_value(kPageSize, std::uint8_t{5});
  Observer observer(*memory);
  memory->set_write_observer(&observer);

  memory->write_value(kPageSize, std::uint8_t{6});
  ASSERT_FALSE(observer.seen.empty());
  EXPECT_EQ(observer.seen.front(), (std::pair<std::uint64_t, int>{1, 5}));

  observer.seen.clear();
  memory->prepare_device_write(3 * kPageSize - 1, 2);
  EXPECT_EQ(observer.seen, (std::vector<std::pair<std::uint64_t, int>>{{2, 0}, {3, 0}}));

  observer.seen.clear();
  memory->prepare_write(kPageSize);
  ASSERT_TRUE(memory->discard(kPageSize, kPageSize));
  ASSERT_GE(observer.seen.size(), 2U);
  EXPECT_EQ(observer.seen[1], (std::pair<std::uint64_t, int>{1, 6}));
}

TEST(GuestMemory, ShareableRamIsAFileByPageIndex) {
  const auto memory = std::move(GuestMemory::create(4 * kGiB, GuestMemory::Backing::Shareable)).value();
  ASSERT_GE(memory->shared_fd(), 0);
  const auto in_file = [&](GuestPhysical address) {
    std::uint32_t value = ~0U;
    const auto offset = static_cast<off_t>(memory->page_index(address) * kPageSize);
    EXPECT_EQ(::pread(memory->shared_fd(), &value, sizeof value, offset), ssize_t{sizeof value});
    return value;
  };
  for (const GuestPhysical address : {GuestPhysical{0x5000}, kPciHoleEnd + 0x7000}) {
    ASSERT_TRUE(memory->write_value<std::uint32_t>(address, 0x1234'5678));
    EXPECT_EQ(in_file(address), 0x1234'5678U);
    ASSERT_TRUE(memory->discard(address, kPageSize));
    EXPECT_EQ(in_file(address), 0U);
    std::uint32_t value = 1;
    EXPECT_TRUE(memory->read_value(address, value));
    EXPECT_EQ(value, 0U);
  }
  EXPECT_EQ(make(4 * kMiB)->shared_fd(), -1);
}

}  // namespace
}  // namespace doppel::memory
