#include "boot/options.h"

#include <gtest/gtest.h>

namespace doppel::boot {
namespace {

TEST(RandomSeed, IsFreshEachTime) {
  const auto one = fresh_random_seed(), two = fresh_random_seed();
  EXPECT_EQ(one.size(), 32U);
  EXPECT_NE(one, two);
}

}  // namespace
}  // namespace doppel::boot
