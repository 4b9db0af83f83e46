#include "guest/dmesg.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace doppel::test {
namespace {

TEST(Dmesg, FindsComplaintsAmongTheRest) {
  EXPECT_THAT(odd_lines("[ 0.1] smp: Brought up 1 node\r\n[ 0.2] WARNING: CPU: 0 PID: 1\r\n[ 0.3] clocksource: 'tsc' "
                        "is marked unstable\n"),
              testing::ElementsAre(testing::HasSubstr("WARNING"), testing::HasSubstr("unstable")));
}

TEST(Dmesg, AQuietLogHasNone) {
  EXPECT_TRUE(odd_lines("[ 0.0] Linux version 6.1\n[ 0.1] Spectre V2 : Mitigation: Enhanced IBRS\n").empty());
}

}  // namespace
}  // namespace doppel::test
