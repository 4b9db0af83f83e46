#include "base/ring.h"

#include <gtest/gtest.h>

namespace doppel {
namespace {

TEST(Ring, FirstInFirstOutAcrossTheEnd) {
  Ring<int, 3> ring;
  for (int round = 0; round < 10; ++round) {
    EXPECT_TRUE(ring.push(round));
    EXPECT_TRUE(ring.push(round + 100));
    EXPECT_EQ(ring[1], round + 100);
    EXPECT_EQ(ring.pop(), round);
    EXPECT_EQ(ring.pop(), round + 100);
  }
  EXPECT_TRUE(ring.empty());
  EXPECT_EQ(ring.pop(), 0);
}

TEST(Ring, RefusesWhenFull) {
  Ring<int, 2> ring;
  EXPECT_TRUE(ring.push(1));
  EXPECT_TRUE(ring.push(2));
  EXPECT_TRUE(ring.full());
  EXPECT_FALSE(ring.push(3));
  EXPECT_EQ(ring.pop(), 1);
  EXPECT_EQ(ring.pop(), 2);
}

TEST(Ring, EqualityIsOfContents) {
  Ring<int, 2> left;
  Ring<int, 2> right;
  right.push(9);
  right.pop();
  left.push(1);
  right.push(1);
  EXPECT_EQ(left, right);
  right.push(2);
  EXPECT_FALSE(left == right);
}

}  // namespace
}  // namespace doppel
