#include "control/serial_input.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace doppel::control {
namespace {

/// A port with room for so many bytes.
struct Port {
  std::size_t room = 0;
  std::string taken;

  SerialInput::Port function() {
    return [this](std::span<const std::byte> bytes) {
      const std::size_t count = std::min(room, bytes.size());
      taken.append(reinterpret_cast<const char*>(bytes.data()), count);
      room -= count;
      return count;
    };
  }
};

std::span<const std::byte> bytes(const std::string& text) {
  return std::as_bytes(std::span{text});
}

class SerialInputTest : public testing::Test {
 protected:
  /// The port has room: what it posted runs.
  void give_room(std::size_t room) {
    port_.room = room;
    input_.space_available();
    loop_->quit();
    loop_->run();
  }

  std::unique_ptr<EventLoop> loop_ = EventLoop::create().value();
  Port port_;
  SerialInput input_{*loop_, port_.function()};
};

TEST_F(SerialInputTest, KeepsOrderAndDropsNothing) {
  port_.room = 3;
  input_.push(bytes("abcde"));
  input_.push(bytes("fg"));
  EXPECT_EQ(port_.taken, "abc");
  give_room(2);
  EXPECT_EQ(port_.taken, "abcde");
  give_room(100);
  EXPECT_EQ(port_.taken, "abcdefg");
}

TEST_F(SerialInputTest, TellsSourcesWhenToStopAndGoOn) {
  int told = 0;
  input_.set_on_wants_more([&] { ++told; });
  EXPECT_TRUE(input_.wants_more());
  input_.push(bytes(std::string(SerialInput::kEnough, 'x')));
  EXPECT_FALSE(input_.wants_more());
  give_room(1);
  EXPECT_TRUE(input_.wants_more());
  EXPECT_EQ(told, 1);
  give_room(SerialInput::kEnough);
  EXPECT_EQ(told, 1);
}

}  // namespace
}  // namespace doppel::control
