#include "machine/serial_port.h"

#include <gtest/gtest.h>

#include <string>

namespace doppel::machine {
namespace {

constexpr std::uint64_t kRbr = 0, kFcr = 2, kMcr = 4, kLsr = 5;

class SerialPortTest : public ::testing::Test {
 protected:
  time::VmClock clock_;  // at 0
  time::TimerQueue timers_;
  SerialPort port_{"com1", clock_, timers_};

  void SetUp() override {
    write(kFcr, 0x01);
    write(kMcr, 0x0B);
  }
  void write(std::uint64_t offset, std::uint8_t value) { port_.uart().write(offset, 1, value); }
  unsigned read(std::uint64_t offset) { return static_cast<unsigned>(port_.uart().read(offset, 1)); }
  /// What a guest gets that reads as long as there is something to read.
  std::string drain(time::Nanoseconds now) {
    std::string all;
    for (timers_.run_expired(now); (read(kLsr) & 1) != 0; timers_.run_expired(now)) {
      while ((read(kLsr) & 1) != 0) all += static_cast<char>(read(kRbr));
    }
    return all;
  }
};

TEST_F(SerialPortTest, LeavesTheGuestAloneAfterEachBurst) {
  std::string sent;
  for (std::size_t i = 0; i < 2 * SerialPort::kBurst + 100; ++i) sent += static_cast<char>('a' + i % 23);
  ASSERT_EQ(port_.send(std::as_bytes(std::span{sent})), sent.size());
  std::string got = drain(0);
  EXPECT_EQ(got.size(), SerialPort::kBurst);
  EXPECT_EQ(drain(SerialPort::kRest - 1), "");
  got += drain(SerialPort::kRest);
  EXPECT_EQ(got.size(), 2 * SerialPort::kBurst);
  got += drain(2 * SerialPort::kRest);
  EXPECT_EQ(got, sent);
}

TEST_F(SerialPortTest, SaysThatThereIsRoomAgain) {
  unsigned told = 0;
  port_.set_on_space([&told] { ++told; });
  const std::string sent(SerialPort::kInputLimit + SerialPort::kBurst, 'x');
  std::size_t taken = port_.send(std::as_bytes(std::span{sent}));
  ASSERT_LT(taken, sent.size());
  for (time::Nanoseconds now = 0; told == 0; now += SerialPort::kRest) ASSERT_NE(drain(now), "");
  EXPECT_EQ(told, 1U);
}

TEST_F(SerialPortTest, KeepsWhatComesWhileRtsIsOff) {
  write(kMcr, 0x09);
  const std::string sent = "text";
  ASSERT_EQ(port_.send(std::as_bytes(std::span{sent})), sent.size());
  EXPECT_EQ(drain(0), "");
  write(kMcr, 0x0B);
  EXPECT_EQ(drain(0), sent);
}

}  // namespace
}  // namespace doppel::machine
