#include "bus/io_bus.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

namespace doppel::bus {
namespace {

using testing::HasSubstr;

/// Remembers accesses; reads give the offset in each byte.
class Recorder : public IoHandler {
 public:
  struct Access {
    std::uint64_t offset;
    unsigned size;
    std::uint64_t value;
    bool operator==(const Access&) const = default;
  };
  std::uint64_t read(std::uint64_t offset, unsigned size) override {
    std::uint64_t value = ~std::uint64_t{0};
    for (unsigned i = 0; i < size; ++i) value = value << 8 | ((offset + size - 1 - i) & 0xFF);
    reads.push_back({offset, size, 0});
    return value;
  }
  void write(std::uint64_t offset, unsigned size, std::uint64_t value) override {
    writes.push_back({offset, size, value});
  }
  std::vector<Access> reads, writes;
};

TEST(IoBus, PassesOffsetsAndTrimsValues) {
  IoBus bus;
  Recorder device;
  ASSERT_TRUE(bus.map(0x3F8, 8, device, nullptr, "uart"));
  EXPECT_EQ(bus.read(0x3FA, 1), 2U);
  EXPECT_EQ(bus.read(0x3FC, 4), 0x07060504U);
  bus.write(0x3F9, 2, 0xABCDEF);
  EXPECT_EQ(device.writes, (std::vector<Recorder::Access>{{1, 2, 0xCDEF}}));
  EXPECT_TRUE(bus.claims(0x3FF));
  EXPECT_FALSE(bus.claims(0x400));
  EXPECT_FALSE(bus.claims(0x3F7));
}

TEST(IoBus, UnclaimedReadsAllOnesAndDropsWrites) {
  IoBus bus;
  EXPECT_EQ(bus.read(0x80, 1), 0xFFU);
  EXPECT_EQ(bus.read(0x80, 4), 0xFFFFFFFFU);
  EXPECT_EQ(bus.read(0x80, 8), ~std::uint64_t{0});
  bus.write(0x80, 4, 1);
}

TEST(IoBus, SplitsAccessesThatLeaveARange) {
  IoBus bus;
  Recorder low;
  Recorder high;
  ASSERT_TRUE(bus.map(0x100, 2, low, nullptr, "low"));
  ASSERT_TRUE(bus.map(0x102, 1, high, nullptr, "high"));
  EXPECT_EQ(bus.read(0x101, 4), 0xFFFF0001U | 0xFF000000U);
  EXPECT_EQ(bus.read(0xFF, 2), 0x00FFU);
  bus.write(0x101, 4, 0x44332211);
  EXPECT_EQ(low.writes, (std::vector<Recorder::Access>{{1, 1, 0x11}}));
  EXPECT_EQ(high.writes, (std::vector<Recorder::Access>{{0, 1, 0x22}}));
  // An access wider than its range.
  EXPECT_EQ(bus.read(0x102, 8), ~std::uint64_t{0} << 8);
}

TEST(IoBus, EndOfTheAddressSpace) {
  IoBus bus;
  Recorder device;
  ASSERT_TRUE(bus.map(~std::uint64_t{0} - 3, 4, device, nullptr, "last"));
  EXPECT_EQ(bus.read(~std::uint64_t{0} - 3, 4), 0x03020100U);
  EXPECT_EQ(bus.read(~std::uint64_t{0}, 2), 0xFF03U);
  EXPECT_FALSE(bus.map(~std::uint64_t{0} - 1, 4, device, nullptr, "beyond"));
}

TEST(IoBus, OverlapNamesBoth) {
  IoBus bus;
  Recorder device;
  ASSERT_TRUE(bus.map(0x60, 5, device, nullptr, "i8042"));
  for (const auto& [base, length] : std::vector<std::pair<std::uint64_t, std::uint64_t>>{
           {0x60, 1}, {0x64, 1}, {0x5F, 2}, {0x50, 0x100}, {0x61, 2}}) {
    const auto result = bus.map(base, length, device, nullptr, "newcomer");
    ASSERT_FALSE(result) << base;
    EXPECT_THAT(result.error().message, HasSubstr("newcomer"));
    EXPECT_THAT(result.error().message, HasSubstr("i8042"));
  }
  EXPECT_TRUE(bus.map(0x65, 1, device, nullptr, "after"));
  EXPECT_TRUE(bus.map(0x5F, 1, device, nullptr, "before"));
  EXPECT_FALSE(bus.map(0x70, 0, device, nullptr, "nothing"));
}

TEST(IoBus, RangesAreListedAscending) {
  IoBus bus;
  Recorder device;
  ASSERT_TRUE(bus.map(0x3F8, 8, device, nullptr, "uart"));
  ASSERT_TRUE(bus.map(0x20, 2, device, nullptr, "pic"));
  ASSERT_TRUE(bus.map(0x70, 2, device, nullptr, "rtc"));
  std::string names;
  for (const auto& range : bus.ranges()) names += range.name + " ";
  EXPECT_EQ(names, "pic rtc uart ");
}

TEST(IoBus, HoldsTheLockOfTheRange) {
  class Checker : public IoHandler {
   public:
    explicit Checker(std::mutex& lock) : lock_(lock) {}
    std::uint64_t read(std::uint64_t, unsigned) override { return held(); }
    void write(std::uint64_t, unsigned, std::uint64_t) override { written_held = held(); }
    bool written_held = false;

   private:
    bool held() {
      bool taken = false;
      std::thread([&] {
        taken = lock_.try_lock();
        if (taken) lock_.unlock();
      }).join();
      return !taken;
    }
    std::mutex& lock_;
  };
  IoBus bus;
  std::mutex lock;
  Checker device(lock);
  ASSERT_TRUE(bus.map(0x10, 4, device, &lock, "locked"));
  EXPECT_EQ(bus.read(0x10, 1), 1U);
  EXPECT_EQ(bus.read(0x13, 2), 0xFF01U);
  bus.write(0x10, 4, 0);
  EXPECT_TRUE(device.written_held);
  EXPECT_TRUE(lock.try_lock()) << "the lock was kept";
  lock.unlock();
}

}  // namespace
}  // namespace doppel::bus
