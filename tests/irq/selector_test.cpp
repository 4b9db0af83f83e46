#include "irq/selector.h"

#include <gtest/gtest.h>

#include "devices/line_probe.h"

namespace doppel::irq {
namespace {

TEST(Selector, OnlyTheChosenInputDrivesTheOutput) {
  test::LineProbe probe;
  Selector selector(probe.line(0));
  selector.set_input(0, true);
  EXPECT_TRUE(probe.level(0));
  selector.select(1);
  EXPECT_FALSE(probe.level(0));
  selector.set_input(0, false);
  selector.set_input(1, true);
  EXPECT_TRUE(probe.level(0));
  selector.select(0);
  EXPECT_FALSE(probe.level(0));
}

}  // namespace
}  // namespace doppel::irq
