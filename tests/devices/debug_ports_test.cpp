#include "devices/debug_ports.h"

#include <gtest/gtest.h>

#include <string>

namespace doppel::devices {
namespace {

TEST(DebugConsole, PassesBytesOnAndIdentifiesItself) {
  std::string text;
  DebugConsole console([&](std::uint8_t byte) { text += static_cast<char>(byte); });
  console.write(0, 1, 'h');
  console.write(0, 2, 'i' | '!' << 8);
  EXPECT_EQ(text, "hi!");
  EXPECT_EQ(console.read(0, 1), 0xE9u);
}

TEST(DebugExit, StatusIsOddAsInQemu) {
  std::vector<std::uint32_t> statuses;
  DebugExit port([&](std::uint32_t status) { statuses.push_back(status); });
  port.write(0, 1, 0);
  port.write(0, 4, 0x10);
  EXPECT_EQ(statuses, (std::vector<std::uint32_t>{1, 0x21}));
  EXPECT_EQ(port.read(0, 1), 0u);
}

}  // namespace
}  // namespace doppel::devices
