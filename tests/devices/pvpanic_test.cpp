#include "devices/pvpanic.h"

#include <gtest/gtest.h>

namespace doppel::devices {
namespace {

TEST(PvPanic, ReportsAPanicAndNothingElse) {
  int panics = 0;
  PvPanic port([&] { ++panics; });
  EXPECT_EQ(port.read(0, 1), 3U) << "both events are understood";
  port.write(0, 1, PvPanic::kCrashLoaded);
  port.write(0, 1, 0xFC);
  EXPECT_EQ(panics, 0);
  port.write(0, 1, PvPanic::kPanicked);
  EXPECT_EQ(panics, 1);
}

}  // namespace
}  // namespace doppel::devices
